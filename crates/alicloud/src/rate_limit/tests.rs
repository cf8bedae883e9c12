//! Tests of the public interface of the limiter.

use std::time::Duration;

use jiff::Timestamp;

use super::*;

const KEY: RateLimitKey<'_> = RateLimitKey {
    action: Action::ModifyInstanceVncPasswd,
    scope: "1000000000000001",
    region: "cn-hangzhou",
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn limiter() -> Limiter {
    Limiter::new(Rates::default(), Clock::default(), Duration::from_mins(1))
}

fn requester(name: &str) -> Requester {
    Requester { group: "default".into(), name: name.into() }
}

fn second(at: Timestamp) -> f64 {
    at.duration_since(Timestamp::UNIX_EPOCH).as_secs_f64()
}

/// Makes this many calls that pass.
fn pass(limiter: &Limiter, calls: usize, now: Timestamp) {
    for number in 0..calls {
        let permit = limiter.admit(KEY, &requester(&number.to_string()), now).unwrap();
        limiter.complete(KEY, &requester("any"), permit, Report::Passed, now);
    }
}

/// A call that is throttled immediately.
fn throttle(limiter: &Limiter, name: &str, after: Option<Duration>, now: Timestamp) -> Timestamp {
    let permit = limiter.admit(KEY, &requester(name), now).unwrap();
    limiter.complete(KEY, &requester(name), permit, Report::Throttled(after), now).unwrap()
}

#[test]
fn it_is_open_until_the_first_throttled_reply() {
    let limiter = limiter();
    let one = requester("a");
    assert_eq!(throttle(&limiter, "a", None, at(30)), at(60));
    assert_eq!(limiter.next_slot(KEY, &one, at(31)), Some(at(60)));
    assert_eq!(limiter.admit(KEY, &one, at(31)), Err(at(60)));
    for route in [RateLimitKey { region: "cn-beijing", ..KEY }, RateLimitKey { scope: "2", ..KEY }] {
        assert!(limiter.admit(route, &one, at(31)).is_ok(), "{route:?}");
    }
    for action in [Action::DescribeInstances, Action::RebootInstance] {
        assert!(limiter.admit(RateLimitKey { action, ..KEY }, &one, at(31)).is_ok(), "another action");
    }
}

#[test]
fn the_reply_can_say_how_long() {
    let limiter = limiter();
    let opens = throttle(&limiter, "a", Some(Duration::from_millis(1500)), at(30));
    assert_eq!(opens.as_millisecond(), 31_500);
}

#[test]
fn it_opens_after_one_call_that_passes_and_the_rate_doubles() {
    let limiter = limiter();
    pass(&limiter, 200, at(20));
    assert_eq!(limiter.spacing(KEY, at(29)), None);
    throttle(&limiter, "a", None, at(30));
    assert_eq!(limiter.spacing(KEY, at(59)), Some(Duration::from_secs(60) / 100));
    let first = limiter.admit(KEY, &requester("a"), at(60)).unwrap();
    assert!(
        limiter.admit(KEY, &requester("b"), at(60)).is_err(),
        "no other call while the trial is in flight"
    );
    limiter.complete(KEY, &requester("any"), first, Report::Passed, at(60));
    assert!(limiter.admit(KEY, &requester("b"), at(61)).is_ok());
    assert_eq!(limiter.statuses(at(89))[0].calls, Some(100));
    assert_eq!(limiter.statuses(at(90))[0].calls, Some(200));
    assert_eq!(limiter.spacing(KEY, at(90)), Some(Duration::from_secs(60) / 200));
}

#[test]
fn a_lost_first_call_is_replaced_and_a_throttled_one_closes_it_again() {
    let limiter = limiter();
    throttle(&limiter, "a", None, at(30));
    limiter.admit(KEY, &requester("a"), at(63)).unwrap();
    assert!(limiter.admit(KEY, &requester("b"), at(67)).is_err());
    let permit = limiter.admit(KEY, &requester("b"), at(68)).unwrap();
    assert_eq!(
        limiter.complete(KEY, &requester("b"), permit, Report::Throttled(None), at(69)),
        Some(at(120))
    );
}

#[test]
fn a_first_call_that_comes_too_early_by_the_clouds_clock_costs_two_seconds() {
    let limiter = limiter();
    throttle(&limiter, "a", None, at(30));
    assert_eq!(throttle(&limiter, "a", None, at(60)), at(62));
    assert_eq!(throttle(&limiter, "a", None, at(62)), at(120), "but not twice");
}

#[test]
fn minutes_are_those_of_the_clouds_clock() {
    let clock = Clock::new(|| Timestamp::from_second(1000).unwrap());
    clock.measure(b"Thu, 01 Jan 1970 00:17:10 GMT");
    let limiter = Limiter::new(Rates::default(), clock, Duration::from_mins(1));
    // 1000 here is 1030 there, half a minute before the hour's eighteenth.
    assert_eq!(throttle(&limiter, "a", None, at(1000)), at(1050));
}

#[test]
fn every_queued_requester_gets_its_own_slot_and_keeps_it() {
    let limiter = limiter();
    pass(&limiter, 190, at(20));
    throttle(&limiter, "first", None, at(30));
    let slots: Vec<_> = (0..1000)
        .map(|number| limiter.enqueue(KEY, &requester(&number.to_string()), at(31)))
        .map(second)
        .collect();
    for pair in slots.windows(2) {
        assert!((pair[1] - pair[0] - 60.0 / 95.0).abs() < 0.001, "95 a minute, not {pair:?}");
    }
    for (number, slot) in slots.iter().enumerate() {
        let again = limiter.admit(KEY, &requester(&number.to_string()), at(45)).unwrap_err();
        assert!((second(again) - slot).abs() < 0.001, "an early requester gets the same slot");
    }
    assert_eq!(limiter.notify(at(46)), []);
    let status = RouteStatus {
        action: KEY.action,
        scope: KEY.scope.into(),
        region: KEY.region.into(),
        closed: true,
        calls: Some(95),
        waiting: 1001,
    };
    assert_eq!(limiter.statuses(at(46)), [status]);
    for number in 0..1000 {
        limiter.forget(&requester(&number.to_string()));
    }
    assert_eq!(limiter.notify(at(90)), [], "the remaining requester is on time");
    assert!(limiter.notify(at(7200)).is_empty());
    assert!(limiter.routes().limiters.is_empty(), "no queue, and the last throttled reply is long ago");
}

#[test]
fn a_ceiling_is_what_the_user_says() {
    let mut rates = Rates::default();
    rates.add("ModifyInstanceVncPasswd=60/min").unwrap();
    let limiter = Limiter::new(rates, Clock::default(), Duration::from_mins(1));
    let begun = (0..600).filter(|step| {
        let now = at(60) + SignedDuration::from_millis(step * 100);
        let permit = limiter.admit(KEY, &requester(&step.to_string()), now);
        limiter.forget(&requester(&step.to_string()));
        permit.map(|permit| limiter.complete(KEY, &requester("any"), permit, Report::Passed, now)).is_ok()
    });
    assert_eq!(begun.count(), 60, "evenly, from the first call on");
    let other = RateLimitKey { action: Action::DescribeInstances, ..KEY };
    assert!(
        (0..600).all(|_| limiter.admit(other, &requester("a"), at(60)).is_ok()),
        "other actions have no ceiling"
    );
}

#[test]
fn a_minute_can_be_shorter_for_a_test() {
    let limiter = Limiter::new(Rates::default(), Clock::default(), Duration::from_secs(6));
    pass(&limiter, 60, at(20));
    assert_eq!(throttle(&limiter, "a", None, at(21)), at(24));
    assert_eq!(limiter.spacing(KEY, at(21)), Some(Duration::from_secs(6) / 60));
    let first = limiter.admit(KEY, &requester("a"), at(24)).unwrap();
    limiter.complete(KEY, &requester("any"), first, Report::Passed, at(24));
    assert_eq!(limiter.spacing(KEY, at(27)), Some(Duration::from_secs(6) / 120));
}

/// One call each second, which passes immediately.
#[test]
fn a_stepped_clock_closes_no_route_for_long() {
    const HOURS: i64 = 3 * 3600;
    // Pairs: from this second of the minute on, the clock is stepped by this much.
    let table: [(&str, &[(i64, i64)]); 5] = [
        ("no step", &[]),
        ("back", &[(0, -HOURS)]),
        ("forward", &[(0, HOURS)]),
        ("forward, and back by the date of the first reply", &[(0, HOURS), (5, 0)]),
        ("back by hours and a part of a minute", &[(0, -HOURS - 17)]),
    ];
    for (name, steps) in table {
        let limiter = limiter();
        pass(&limiter, 60, at(HOURS + 20));
        throttle(&limiter, "a", None, at(HOURS + 30));
        let in_flight = limiter.admit(KEY, &requester("a"), at(HOURS + 60)).unwrap();
        let time = |second: i64| {
            let stepped = steps.iter().rev().find(|(from, _)| *from <= second);
            at(HOURS + 61 + second + stepped.map_or(0, |(_, step)| *step))
        };
        limiter.complete(KEY, &requester("any"), in_flight, Report::Passed, time(0));
        let calls = |seconds: std::ops::Range<i64>| {
            let admit = |second| {
                limiter.admit(KEY, &requester("a"), time(second)).ok().map(|permit| (second, permit))
            };
            let made = seconds.filter_map(admit).inspect(|(second, permit)| {
                limiter.complete(KEY, &requester("any"), *permit, Report::Passed, time(*second));
            });
            made.count()
        };
        let made = calls(0..60);
        assert!(made > 40, "{name}: {made} calls");
        // A throttled reply still measures the rate.
        let permit =
            (60..70).find_map(|second| limiter.admit(KEY, &requester("a"), time(second)).ok()).unwrap();
        let opens =
            limiter.complete(KEY, &requester("a"), permit, Report::Throttled(None), time(70)).unwrap();
        assert!(opens.duration_since(time(70)).as_secs() <= 60, "{name}: {opens}");
        let made = calls(130..190);
        assert!(made > 5, "{name}: {made} calls after it was throttled");
    }
}

/// N4 to N6 of DESIGN.md.
#[test]
fn an_unknown_outcome_that_asks_to_wait_closes_the_route_and_keeps_no_queue_position() {
    let limiter = limiter();
    let permit = limiter.admit(KEY, &requester("a"), at(30)).unwrap();
    let unknown = Report::LostAndThrottled(Duration::from_secs(90));
    assert_eq!(limiter.complete(KEY, &requester("a"), permit, unknown, at(30)), Some(at(120)));
    assert_eq!(limiter.next_slot(KEY, &requester("b"), at(31)), Some(at(120)));
    assert!(!limiter.is_queued(KEY, &requester("a")), "its call has a backoff of its own");
}
