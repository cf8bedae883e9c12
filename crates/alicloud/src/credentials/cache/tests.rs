//! The cache under paused time: the local clock runs with tokio's.

use std::{
    cell::OnceCell,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use futures::{
    future::{BoxFuture, join_all},
    task::{Context, Poll, noop_waker},
};
use tokio::time::{advance, sleep};

use super::*;
use crate::credentials::{Secret, test_support::given};

fn noon() -> Timestamp {
    "2024-05-01T12:00:00Z".parse().unwrap()
}

/// Starts at noon when a test first uses it, and runs with the time of the test.
fn clock() -> Clock {
    thread_local!(static START: OnceCell<Instant> = const { OnceCell::new() });
    fn now() -> Timestamp {
        let elapsed = START.with(|start| start.get_or_init(Instant::now).elapsed());
        noon() + SignedDuration::try_from(elapsed).unwrap()
    }
    now();
    Clock::new(now)
}

/// Returns credentials with this lifetime in seconds, after a second; unless it is down.
struct Source {
    life: i64,
    asked: AtomicUsize,
    down: AtomicBool,
    absent: AtomicBool,
    stuck: AtomicBool,
    clock: Clock,
}

impl Source {
    fn new(life: i64) -> (Arc<Self>, Arc<Cache>) {
        let (asked, clock) = (AtomicUsize::default(), clock());
        let [down, absent, stuck] = [const { AtomicBool::new(false) }; 3];
        let source = Arc::new(Self { life, asked, down, absent, stuck, clock: clock.clone() });
        let cache = Cache::new(Arc::clone(&source) as Arc<dyn Provider>, clock);
        (source, Arc::new(cache))
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn set(flag: &AtomicBool, value: bool) {
        flag.store(value, Ordering::SeqCst);
    }
}

impl Provider for Source {
    fn name(&self) -> &'static str {
        "source"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
            sleep(Duration::from_secs(1)).await;
            if self.stuck.load(Ordering::SeqCst) {
                std::future::pending::<()>().await;
            }
            if self.down.load(Ordering::SeqCst) {
                return Err(ProviderError::new("source", FailureKind::Unanswered, "down"));
            }
            if self.absent.load(Ordering::SeqCst) {
                return Ok(None);
            }
            let credentials = given(&format!("id-{number}")).from_provider("source");
            Ok(Some(match self.life {
                0 => credentials,
                life => credentials.with_expiry(self.clock.now() + SignedDuration::from_secs(life)),
            }))
        }
        .boxed()
    }
}

/// The result for a caller: an id, `none`, or the error.
async fn get(cache: &Cache) -> String {
    match cache.get().await {
        Ok(Some(credentials)) => credentials.access_key_id().to_owned(),
        Ok(None) => "none".to_owned(),
        Err(error) => error.problem,
    }
}

/// Advances the time second by second and lets tasks run.
async fn pass(seconds: u64) {
    for _ in 0..seconds {
        advance(Duration::from_secs(1)).await;
        for _ in 0..5 {
            tokio::task::yield_now().await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_callers_cause_one_request() {
    let (source, cache) = Source::new(3600);
    let answers = join_all((0..1000).map(|_| get(&cache))).await;
    assert!(answers.iter().all(|answer| answer == "id-1"));
    assert_eq!(source.asked(), 1);
    assert_eq!(get(&cache).await, "id-1");
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn all_waiting_callers_get_the_failure_and_later_callers_cause_no_request() {
    let (source, cache) = Source::new(3600);
    Source::set(&source.down, true);
    let answers = join_all((0..1000).map(|_| get(&cache))).await;
    assert!(answers.iter().all(|answer| answer == "down"));
    let answers = join_all((0..1000).map(|_| get(&cache))).await;
    assert!(answers.iter().all(|answer| answer == "down"));
    assert_eq!(source.asked(), 1);
    // Backoffs of at most 5 s, 10, 20, 40 and then 60: about nine requests in the first five minutes, then
    // one a minute.
    for _ in 0..300 {
        pass(1).await;
        get(&cache).await;
    }
    assert!((8..=11).contains(&source.asked()), "{}", source.asked());
    Source::set(&source.down, false);
    pass(60).await;
    assert!(get(&cache).await.starts_with("id-"), "recovers by itself");
}

#[tokio::test(start_paused = true)]
async fn not_configured_is_remembered_no_longer_than_a_failure() {
    let (source, cache) = Source::new(3600);
    Source::set(&source.absent, true);
    for _ in 0..100 {
        assert_eq!(get(&cache).await, "none");
    }
    assert_eq!(source.asked(), 1);
    Source::set(&source.absent, false);
    pass(5).await;
    assert_eq!(get(&cache).await, "id-2");
}

#[tokio::test(start_paused = true)]
async fn credentials_are_renewed_after_two_thirds_of_their_life_and_nobody_waits() {
    let (source, cache) = Source::new(900);
    assert_eq!(get(&cache).await, "id-1");
    pass(540).await;
    assert_eq!(get(&cache).await, "id-1");
    pass(2).await;
    assert_eq!(source.asked(), 1, "not before 60 %");
    pass(120).await;
    for _ in 0..100 {
        let before = Instant::now();
        assert_eq!(get(&cache).await, "id-1", "they are still good");
        assert_eq!(before.elapsed(), Duration::ZERO, "nobody waits");
    }
    pass(2).await;
    assert_eq!(get(&cache).await, "id-2");
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_source_that_is_down_is_borne_until_the_end_of_the_credentials_and_comes_back() {
    let (source, cache) = Source::new(900);
    assert_eq!(get(&cache).await, "id-1");
    Source::set(&source.down, true);
    for _ in 0..890 {
        pass(1).await;
        assert_eq!(get(&cache).await, "id-1");
    }
    let tries = source.asked() - 1;
    assert!((5..=9).contains(&tries), "{tries} in the last third: each failure is rested upon");
    pass(10).await;
    assert_eq!(get(&cache).await, "down", "they have expired");
    Source::set(&source.down, false);
    let mut waited = 0;
    while get(&cache).await == "down" {
        pass(1).await;
        waited += 1;
    }
    assert!(waited <= 61, "{waited}");
}

#[tokio::test(start_paused = true)]
async fn what_is_not_configured_any_more_is_served_until_it_expires() {
    let (source, cache) = Source::new(900);
    assert_eq!(get(&cache).await, "id-1");
    Source::set(&source.absent, true);
    for _ in 0..89 {
        pass(10).await;
        assert_eq!(get(&cache).await, "id-1");
    }
    pass(10).await;
    assert_eq!(get(&cache).await, "none");
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_takes_nothing_from_the_others() {
    let (source, cache) = Source::new(900);
    let impatient = tokio::time::timeout(Duration::from_millis(500), cache.get()).await;
    assert!(impatient.is_err());
    assert_eq!(get(&cache).await, "id-1");
    assert_eq!(source.asked(), 1, "the same request went on");

    cache.forget_all();
    let mut once = Box::pin(cache.get());
    assert!(matches!(once.as_mut().poll_unpin(&mut Context::from_waker(&noop_waker())), Poll::Pending));
    drop(once);
    pass(2).await;
    let before = Instant::now();
    assert_eq!(get(&cache).await, "id-2");
    assert_eq!((before.elapsed(), source.asked()), (Duration::ZERO, 2), "nobody waited for it, and it came");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_never_answers_is_a_failure() {
    let (source, cache) = Source::new(900);
    Source::set(&source.stuck, true);
    let before = Instant::now();
    assert_eq!(get(&cache).await, "no answer in time");
    assert_eq!(before.elapsed(), PROVIDER_TIMEOUT);
    Source::set(&source.stuck, false);
    pass(5).await;
    assert_eq!(get(&cache).await, "id-2");
}

#[tokio::test(start_paused = true)]
async fn what_is_forgotten_is_asked_for_anew_at_once() {
    let (source, cache) = Source::new(900);
    let one = cache.get().await.unwrap().unwrap();
    assert!(cache.holds(&one));
    let forgotten: Vec<bool> = (0..1000).map(|_| cache.forget(&one)).collect();
    assert_eq!(forgotten.iter().filter(|forgotten| **forgotten).count(), 1);
    assert!(!cache.holds(&one));
    join_all((0..1000).map(|_| get(&cache))).await;
    assert_eq!(source.asked(), 2);
    assert!((0..1000).all(|_| !cache.forget(&one)), "others are held now");
    assert_eq!(get(&cache).await, "id-2");
    assert_eq!(source.asked(), 2);
}

#[tokio::test(start_paused = true)]
async fn forgetting_forgets_a_failure_too() {
    let (source, cache) = Source::new(900);
    Source::set(&source.down, true);
    assert_eq!(get(&cache).await, "down");
    Source::set(&source.down, false);
    assert_eq!(get(&cache).await, "down");
    cache.forget_all();
    assert_eq!(get(&cache).await, "id-2");
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_on_its_way_when_all_was_forgotten_is_not_kept() {
    let (source, cache) = Source::new(900);
    let ask = || {
        let cache = Arc::clone(&cache);
        tokio::spawn(async move { get(&cache).await })
    };
    let first = ask();
    sleep(Duration::from_millis(500)).await;
    cache.forget_all();
    let second = ask();
    sleep(Duration::from_millis(700)).await;
    assert_eq!(first.await.unwrap(), "id-1", "whoever waited is served");
    assert_eq!((get(&cache).await.as_str(), source.asked()), ("id-2", 2), "it was not kept");
    assert_eq!(second.await.unwrap(), "id-2");
}

#[tokio::test(start_paused = true)]
async fn a_failure_that_was_on_its_way_when_all_was_forgotten_is_not_kept() {
    let (source, cache) = Source::new(900);
    Source::set(&source.down, true);
    assert!(tokio::time::timeout(Duration::from_millis(500), cache.get()).await.is_err());
    cache.forget_all();
    sleep(Duration::from_millis(600)).await;
    Source::set(&source.down, false);
    assert_eq!((get(&cache).await.as_str(), source.asked()), ("id-2", 2));
}

#[tokio::test(start_paused = true)]
async fn credentials_that_have_expired_on_arrival_are_a_failure() {
    let (source, cache) = Source::new(3);
    assert_eq!(get(&cache).await, "gave credentials that have expired already");
    assert_eq!(get(&cache).await, "gave credentials that have expired already");
    assert_eq!(source.asked(), 1);
}

#[tokio::test(start_paused = true)]
async fn credentials_without_an_end_are_looked_after_now_and_then() {
    let (source, cache) = Source::new(0);
    let one = cache.get().await.unwrap().unwrap();
    pass(530).await;
    assert!(cache.holds(&one) && source.asked() == 1);
    pass(140).await;
    get(&cache).await;
    pass(2).await;
    assert_eq!(get(&cache).await, "id-2", "they were replaced where they come from");
    assert_eq!(source.asked(), 2);
}

/// Gives the same keys each time.
struct Same;

impl Provider for Same {
    fn name(&self) -> &'static str {
        "same"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async { Ok(Some(Credentials::new("id".into(), Secret::from("secret"), None).unwrap())) }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn the_same_keys_again_are_the_same() {
    let cache = Cache::new(Arc::new(Same), clock());
    let one = cache.get().await.unwrap().unwrap();
    pass(700).await;
    get(&cache).await;
    pass(2).await;
    assert!(cache.holds(&one), "a call that was made with them still tells something");
}

/// Panics, which no provider should.
struct Panics;

impl Provider for Panics {
    fn name(&self) -> &'static str {
        "panics"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async { panic!("on purpose") }.boxed()
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_panics_is_a_failure() {
    let cache = Cache::new(Arc::new(Panics), clock());
    assert_eq!(get(&cache).await, "gave no answer");
}

#[test]
fn renewal_and_backoff_stay_within_their_bounds() {
    let credentials = given("id").with_expiry(noon() + SignedDuration::from_secs(1000));
    let after = |jitter| renewal(&credentials, noon(), jitter).duration_since(noon()).as_secs();
    assert_eq!((after(0.0), after(0.5), after(1.0)), (620, 670, 720));
    let never = given("id");
    let far = never.clone().with_expiry(Timestamp::MAX);
    assert!(renewal(&never, Timestamp::MAX, 1.0) <= Timestamp::MAX);
    assert!(renewal(&far, Timestamp::MIN, 1.0) > noon());
    let backoffs: Vec<u64> =
        [1, 2, 3, 4, 5, 6, 99, u32::MAX].map(|count| backoff(count, 1.0).as_secs()).to_vec();
    assert_eq!(backoffs, [5, 10, 20, 40, 60, 60, 60, 60]);
    assert_eq!(backoff(1, 0.0), Duration::from_secs(4));
}

#[tokio::test(start_paused = true)]
async fn the_age_is_that_of_the_credentials_and_failures_are_counted_until_one_succeeds() {
    let (source, cache) = Source::new(3600);
    assert_eq!((cache.age(), cache.failures()), (None, 0));
    get(&cache).await;
    let first = cache.age().unwrap();
    assert_eq!(first.expires_at.unwrap().duration_since(first.since), SignedDuration::from_secs(3600));
    Source::set(&source.down, true);
    for _ in 0..2700 {
        pass(1).await;
        get(&cache).await;
    }
    assert_eq!(cache.age(), Some(first), "the old ones are used");
    assert!(cache.failures() > 3, "{}", cache.failures());
    pass(400).await;
    assert_eq!(cache.failures(), 0, "nobody asks any more");
    Source::set(&source.down, false);
    for _ in 0..70 {
        pass(1).await;
        get(&cache).await;
    }
    assert!(cache.age().unwrap().since > first.since);
    assert_eq!(cache.failures(), 0);
    pass(3600).await;
    assert_eq!(cache.age(), None, "nobody needed them");
}
