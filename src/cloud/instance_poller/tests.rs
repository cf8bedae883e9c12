//! The plan of the polls, without calls; and the loop against a server that fails.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use futures::future::BoxFuture;

use super::*;
use vncpassword_alicloud::{
    CallObserver, Clock, Config, Endpoint, Rates,
    credentials::{Cache, Credentials, Environment, Provider, ProviderError, Secret},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn region(name: &str) -> Region {
    Region::parse(name).unwrap()
}

fn identity(name: &str) -> Arc<Identity> {
    let nobody = Arc::new(Environment::read(|_| None));
    let cache = Cache::new(nobody, Clock::new(Timestamp::now));
    Arc::new(Identity::new(name, Arc::new(cache)))
}

#[allow(clippy::unnecessary_wraps, reason = "stands in for the limiter")]
fn open(_: &Identity, _: &Region) -> Result<Permit, Timestamp> {
    Ok(Permit::default())
}

fn schedule(due: impl IntoIterator<Item = i64>) -> PollSchedule {
    let (mut schedule, own) = (PollSchedule::default(), identity("own"));
    for (number, due) in due.into_iter().enumerate() {
        schedule.request(&own, &format!("i-{number}"), &region("cn-hangzhou"), at(due), &Arc::default());
    }
    schedule
}

#[test]
fn an_instance_is_locked_whatever_the_reason() {
    for (locks, locked) in [(&[][..], false), (&["financial"], true), (&["security", "recycling"], true)] {
        let start_time = Some(at(60));
        let instance = Instance {
            instance_id: "i-1".into(),
            region_id: "cn-hangzhou".into(),
            status: "Running".into(),
            io_optimized: Some(false),
            start_time,
            locks: locks.iter().map(ToString::to_string).collect(),
            tags: BTreeMap::new(),
        };
        let (status, io_optimized) = ("Running".into(), Some(false));
        let seen = SeenInstance { status, io_optimized, start_time, locked };
        assert_eq!(found(&instance), Found::Seen(seen), "{locks:?}");
    }
}

#[test]
fn a_thousand_instances_take_ten_calls() {
    let mut schedule = schedule((0..1000).map(|_| 5));
    let mut calls = 0;
    loop {
        let (batches, _) = schedule.plan(at(5), 16, open);
        let Some(batch) = batches.first() else { break };
        assert_eq!((batches.len(), batch.ids.len()), (1, 100), "one call a region at a time");
        calls += 1;
        let polled = schedule.record(batch, Ok((at(5), HashMap::new(), Found::Unseen)), at(5));
        assert_eq!(polled.len(), 100);
    }
    assert_eq!(calls, 10);
}

/// As many ask as fast as they can, each reply comes at once, or after some time.
#[test]
fn instances_gather_while_a_call_is_under_way_and_a_lone_one_never_waits() {
    // Instances, how many ask each millisecond, how long a call takes in milliseconds, and how many calls that makes.
    let table =
        [(1, 1, 0, 1), (1, 1, 300, 1), (10_000, 4, 0, 110), (10_000, 4, 300, 101), (10_000, 100, 1, 101)];
    for (instances, rate, takes, most) in table {
        let moment = |millisecond: i64| at(1).checked_add(SignedDuration::from_millis(millisecond)).unwrap();
        let (mut schedule, own, calls) = (PollSchedule::default(), identity("own"), Arc::default());
        let mut asked = 0;
        let mut under_way: Option<(i64, Batch)> = None;
        let (mut made, mut polled) = (0, 0);
        for millisecond in 0.. {
            let now = moment(millisecond);
            for number in asked..instances.min(asked + rate) {
                schedule.request(&own, &format!("i-{number}"), &region("cn-hangzhou"), now, &calls);
            }
            asked = instances.min(asked + rate);
            if let Some((_, batch)) = under_way.take_if(|(ends, _)| *ends <= millisecond) {
                polled += schedule.record(&batch, Ok((now, HashMap::new(), Found::Unseen)), now).len();
            }
            if under_way.is_some() {
                continue;
            }
            let (batches, next) = schedule.plan(now, 16, open);
            if let Some(batch) = batches.into_iter().next() {
                assert!(made > 0 || millisecond == 0, "the first one does not wait");
                made += 1;
                under_way = Some((millisecond + takes, batch));
            } else if polled < asked {
                assert!(next.is_some_and(|next| next <= now + SPACING), "nobody is forgotten");
            }
            if polled == instances {
                break;
            }
        }
        assert!(made <= most, "{instances} instances, {takes} ms: {made} calls");
    }
}

#[test]
fn who_asks_again_during_the_first_poll_is_not_polled_twice() {
    let mut schedule = schedule([1]);
    let own = Arc::clone(&schedule.groups["own"].identity);
    let polled =
        |schedule: &PollSchedule, id| schedule.is_first_poll_under_way(&own, id, &region("cn-hangzhou"));
    assert!(!polled(&schedule, "i-0"), "it waits for its poll");
    let (batches, _) = schedule.plan(at(1), 16, open);
    assert!(polled(&schedule, "i-0"));
    assert!(!schedule.is_first_poll_under_way(&own, "i-0", &region("cn-beijing")), "in another region");
    schedule.request(&own, "i-1", &region("cn-hangzhou"), at(1), &Arc::default());
    assert!(!polled(&schedule, "i-1"), "the call under way is without this one");
    // Other keys: the poll is void, and made once more.
    schedule.groups.get_mut("own").unwrap().renew(&identity("own"));
    assert!(polled(&schedule, "i-0"));
    assert!(schedule.record(&batches[0], Ok((at(1), HashMap::new(), Found::Unseen)), at(1)).is_empty());
    assert!(!polled(&schedule, "i-0") && schedule.groups["own"].entries["i-0"].due.is_some());
    let (batches, _) = schedule.plan(at(2), 16, open);
    schedule.record(&batches[0], Ok((at(2), HashMap::new(), Found::Unseen)), at(2));
    assert!(!polled(&schedule, "i-0"), "a later poll is another one");
}

#[test]
fn a_clock_that_was_set_back_spaces_no_call() {
    let mut schedule = schedule([1000]);
    let (batches, _) = schedule.plan(at(1000), 16, open);
    schedule.record(&batches[0], Ok((at(1000), HashMap::new(), Found::Unseen)), at(1000));
    schedule.request(&batches[0].identity, "i-1", &region("cn-hangzhou"), at(1), &Arc::default());
    assert_eq!(schedule.plan(at(1), 16, open).0.len(), 1);
}

#[test]
fn what_is_due_soon_joins_but_makes_no_call_of_its_own() {
    let mut waiting = schedule([10, 15, 60]);
    let (batches, next) = waiting.plan(at(5), 16, open);
    assert!(batches.is_empty());
    assert_eq!(next, Some(at(10)));
    let (batches, next) = waiting.plan(at(10), 16, open);
    assert_eq!(batches[0].ids.len(), 2);
    assert_eq!(next, Some(at(60)));
}

#[test]
fn a_clock_that_was_set_back_freezes_no_look() {
    let hours = 3 * 3600;
    let mut schedule = schedule([hours + 1, hours + 20, hours + 60]);
    let (batches, _) = schedule.plan(at(hours + 1), 16, open);
    schedule.record(&batches[0], Ok((at(hours + 1), HashMap::new(), Found::Unseen)), at(hours + 1));
    let calls = Arc::default();
    schedule.request(&batches[0].identity, "i-0", &region("cn-hangzhou"), at(hours + 16), &calls);
    schedule.set_back(SignedDuration::from_secs(-hours));
    let look = schedule.groups["own"].entries["i-0"].look.clone();
    assert_eq!(look.map(|look| look.at), Some(at(1)), "no look is of a time to come");
    assert_eq!(schedule.plan(at(2), 16, open).1, Some(at(16)));
    assert_eq!(schedule.plan(at(16), 16, open).0[0].ids.len(), 2, "and what is due soon joins");
    assert_eq!(schedule.plan(at(16), 16, open).1, Some(at(60)));
    schedule.forget("own", "i-2");
    assert!(schedule.queue.is_empty());
}

#[test]
fn regions_are_asked_apart() {
    let mut schedule = schedule([1]);
    schedule.request(&identity("own"), "i-x", &region("cn-beijing"), at(1), &Arc::default());
    assert_eq!(schedule.plan(at(1), 16, open).0.len(), 2);
}

#[test]
fn identities_look_apart_and_one_that_has_new_keys_goes_on() {
    let mut schedule = schedule([1]);
    let other = identity("other");
    schedule.request(&other, "i-0", &region("cn-hangzhou"), at(1), &Arc::default());
    let (batches, _) = schedule.plan(at(1), 16, open);
    assert_eq!(batches.len(), 2);
    let renewed = identity("other");
    schedule.request(&renewed, "i-1", &region("cn-hangzhou"), at(1), &Arc::default());
    assert!(schedule.plan(at(1), 16, open).0.is_empty(), "one call at a time");
    for batch in &batches {
        let polled = schedule.record(batch, Ok((at(1), HashMap::new(), Found::Unseen)), at(1));
        assert_eq!(polled.len(), usize::from(&*batch.name == "own"), "{}", batch.name);
    }
    let (batches, _) = schedule.plan(at(2), 16, open);
    assert!(Arc::ptr_eq(&batches[0].identity, &renewed));
}

#[test]
fn no_more_calls_are_made_than_there_is_room_for() {
    let mut schedule = PollSchedule::default();
    for number in 0..40 {
        schedule.request(
            &identity(&format!("n/{number}")),
            "i-0",
            &region("cn-hangzhou"),
            at(1),
            &Arc::default(),
        );
    }
    assert_eq!(schedule.plan(at(1), 16, open).0.len(), 16);
    assert!(schedule.plan(at(1), 0, open).0.is_empty());
    assert_eq!(schedule.plan(at(1), 30, open).0.len(), 24);
}

/// Keys that change without end, each time while a call is under way.
#[test]
fn what_is_void_is_seen_again_as_often_as_the_object_may_call() {
    let mut schedule = schedule([0]);
    let mut calls = 0;
    for second in 0..600 {
        let (batches, _) = schedule.plan(at(second), 16, open);
        calls += batches.len();
        for batch in &batches {
            schedule.groups.get_mut("own").unwrap().renew(&identity("own"));
            schedule.record(batch, Ok((at(second), HashMap::new(), Found::Unseen)), at(second));
        }
    }
    assert_eq!(calls, 23, "four, and one every 30 s");
    let entry = &schedule.groups["own"].entries["i-0"];
    assert!(entry.calls.actions.is_full(at(0)), "no poll takes the call that a password waits for");
}

#[test]
fn what_replaced_keys_have_seen_is_void() {
    let mut schedule = schedule([1, 1]);
    let (batches, _) = schedule.plan(at(1), 16, open);
    schedule.request(&identity("own"), "i-0", &region("cn-hangzhou"), at(9), &Arc::default());
    assert!(schedule.record(&batches[0], Ok((at(1), HashMap::new(), Found::Unseen)), at(1)).is_empty());
    let entries = &schedule.groups["own"].entries;
    assert!(entries.values().all(|entry| entry.look.is_none() && entry.due.is_some()));
}

#[test]
fn a_closed_limiter_puts_it_off() {
    let mut schedule = schedule([1, 1]);
    let (batches, next) = schedule.plan(at(1), 16, |_, _| Err(at(60)));
    assert!(batches.is_empty());
    assert_eq!(next, Some(at(60)));
    let (batches, _) = schedule.plan(at(60), 16, open);
    assert_eq!(batches[0].ids.len(), 2);
    assert!(schedule.record(&batches[0], Err(at(120)), at(1)).is_empty(), "throttled: nobody is woken");
    assert_eq!(schedule.plan(at(61), 16, open).1, Some(at(120)));
}

#[tokio::test]
async fn a_look_that_was_not_made_tells_the_limiter_nothing() {
    let limiter = Arc::new(Limiter::new(Rates::default(), Clock::default(), Duration::from_mins(1)));
    let counted = Arc::new(AtomicUsize::new(0));
    let calls = Arc::clone(&counted);
    let observer = CallObserver::new(move |_| {
        calls.fetch_add(1, Ordering::SeqCst);
    });
    let client = Client::new(Config { observer, ..Config::default() }, Clock::default()).unwrap();
    let instance_poller = InstancePoller::new(client, Arc::clone(&limiter));
    let now = Timestamp::now();
    let batch = schedule([now.as_second()])
        .plan(now, 16, |identity, region| limiter.admit(route(identity, region), &requester(identity), now));
    let (_, _, found) = instance_poller.0.poll(&batch.0[0]).await.unwrap();
    assert_eq!(found, Found::NoCredentials(vncpassword_core::rotation::outcome::Reply::NoCredentials));
    let states = limiter.statuses(now);
    assert!(states.iter().all(|state| !state.closed && state.calls.is_none()), "{states:?}");
    assert_eq!(counted.load(Ordering::SeqCst), 0);
}

/// Has these credentials.
struct Fixed;

impl Provider for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        std::future::ready(Ok(Some(
            Credentials::new("LTAI5tExample".into(), Secret::from("secret"), None).unwrap(),
        )))
        .boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_poll_that_panics_is_repeated() {
    static BEGUN: std::sync::LazyLock<tokio::time::Instant> =
        std::sync::LazyLock::new(tokio::time::Instant::now);
    // The wall clock goes with the timers.
    let clock = || Timestamp::UNIX_EPOCH + BEGUN.elapsed();
    let limiter = Arc::new(Limiter::new(Rates::default(), Clock::new(clock), Duration::from_mins(1)));
    // Nobody listens there, and the first failure is counted by something that panics.
    let endpoint = Some(Endpoint::parse("http://127.0.0.1:1").unwrap());
    let counted = AtomicUsize::new(0);
    let observer =
        CallObserver::new(move |_| assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "for a test"));
    let client = Client::new(Config { endpoint, observer, ..Config::default() }, Clock::new(clock)).unwrap();
    let instance_poller = InstancePoller::new(client, limiter);
    let cache = Cache::new(Arc::new(Fixed), Clock::new(clock));
    let identity = Arc::new(Identity::new("own", Arc::new(cache)));
    instance_poller.request(&identity, "i-0", &region("cn-hangzhou"), clock(), &Arc::default());
    let seen = AtomicUsize::new(0);
    let count = |_: &str| {
        seen.fetch_add(1, Ordering::SeqCst);
    };
    tokio::select! {
        () = instance_poller.run(count) => {}
        () = tokio::time::sleep(Duration::from_secs(120)) => {}
    }
    assert_eq!(seen.load(Ordering::SeqCst), 1);
}

#[test]
fn what_nobody_waits_for_is_not_looked_at() {
    let mut schedule = schedule([1, 1]);
    schedule.forget("own", "i-0");
    let (batches, _) = schedule.plan(at(1), 16, open);
    assert_eq!(batches[0].ids.len(), 1);
    schedule.forget("own", "i-1");
    assert!(schedule.record(&batches[0], Ok((at(1), HashMap::new(), Found::Unseen)), at(1)).is_empty());
    assert!(schedule.groups.is_empty() && schedule.queue.is_empty());
}

#[test]
fn a_mended_region_makes_the_old_look_void() {
    let mut schedule = schedule([1]);
    let (batches, _) = schedule.plan(at(1), 16, open);
    schedule.request(&identity("own"), "i-0", &region("cn-beijing"), at(1), &Arc::default());
    let result = Ok((at(1), HashMap::new(), Found::Unseen));
    assert!(schedule.record(&batches[0], result, at(1)).is_empty());
    assert!(schedule.groups["own"].entries["i-0"].look.is_none());
}
