//! How many cloud calls one object may cause, whatever others write into it, its Secrets or its status: a few at once,
//! then one every half minute.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

/// The time between two calls after that.
const EVERY: Duration = Duration::from_secs(30);

/// The calls that one object may still cause: a token bucket, which holds so many.
#[derive(Debug, Default)]
pub struct Allowance<const BURST: i64 = 8> {
    /// When the bucket is full again, in milliseconds since the epoch.
    full: AtomicI64,
}

/// The calls of one object, by kind. Each kind has a bucket of its own: a poll must not take the call that a password waits
/// for. The object and the instance poller share them.
#[derive(Debug, Default)]
pub struct Calls {
    /// Passwords and restarts. A person who corrects a Secret a few times does not wait.
    pub actions: Allowance<8>,
    /// Instance polls. Those for a restart begin 15 s apart.
    pub polls: Allowance<4>,
}

impl Calls {
    /// Whether both buckets are full.
    #[must_use]
    pub fn are_full(&self, now: Timestamp) -> bool {
        self.actions.is_full(now) && self.polls.is_full(now)
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&self, by: SignedDuration) {
        self.actions.set_back(by);
        self.polls.set_back(by);
    }
}

impl<const BURST: i64> Allowance<BURST> {
    /// Counts one call.
    pub fn spend(&self, now: Timestamp) {
        let next = |full: i64| Some(Self::bounded(full, now).saturating_add(every()));
        // Never fails: `next` always returns a value.
        self.full.fetch_update(Relaxed, Relaxed, next).ok();
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&self, by: SignedDuration) {
        let by = i64::try_from(by.as_millis()).unwrap_or(i64::MIN);
        self.full.fetch_add(by, Relaxed);
    }

    /// When the next call may be made; `None`: now.
    #[must_use]
    pub fn opens(&self, now: Timestamp) -> Option<Timestamp> {
        let full = Self::bounded(self.full.load(Relaxed), now);
        let opens = full.saturating_sub(every().saturating_mul(BURST - 1));
        (opens > now.as_millisecond()).then(|| Timestamp::from_millisecond(opens).unwrap_or(now))
    }

    /// Not in the past, and no further off than calls can put it: the clock may have been set back.
    fn bounded(full: i64, now: Timestamp) -> i64 {
        let now = now.as_millisecond();
        full.clamp(now, now.saturating_add(every().saturating_mul(BURST)))
    }

    /// Whether it remembers no call any more.
    #[must_use]
    pub fn is_full(&self, now: Timestamp) -> bool {
        Self::bounded(self.full.load(Relaxed), now) <= now.as_millisecond()
    }
}

fn every() -> i64 {
    i64::try_from(EVERY.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millisecond: i64) -> Timestamp {
        Timestamp::from_millisecond(1_800_000_000_000 + millisecond).unwrap()
    }

    /// Calls that an object makes within that time if it asks ten times a second.
    fn calls(allowance: &Allowance, seconds: i64) -> usize {
        let asks = (0..seconds * 10).map(|ask| at(ask * 100));
        let made = asks.filter(|now| allowance.opens(*now).is_none()).inspect(|now| allowance.spend(*now));
        made.count()
    }

    #[test]
    fn a_storm_causes_a_few_calls_a_minute() {
        assert_eq!(calls(&Allowance::<8>::default(), 60), 9);
        assert_eq!(calls(&Allowance::<8>::default(), 600), 27);
    }

    #[test]
    fn the_newest_value_waits_half_a_minute_at_most() {
        let allowance = Allowance::<8>::default();
        calls(&allowance, 600);
        let opens = allowance.opens(at(600_000)).map(Timestamp::as_millisecond);
        assert!(opens.is_none_or(|opens| opens <= at(630_000).as_millisecond()), "{opens:?}");
    }

    #[test]
    fn who_calls_seldom_never_waits() {
        let allowance = Allowance::<8>::default();
        for call in 0..100 {
            assert_eq!(allowance.opens(at(call * 30_000)), None);
            allowance.spend(at(call * 30_000));
        }
        assert!(!allowance.is_full(at(99 * 30_000)) && allowance.is_full(at(100 * 30_000)));
    }

    #[test]
    fn a_clock_that_was_set_back_closes_it_for_no_longer_than_calls_could() {
        let allowance = Allowance::<8>::default();
        calls(&allowance, 60);
        let back = at(-10_800_000);
        assert_eq!(allowance.opens(back), Some(at(-10_800_000 + 30_000)));
        // Once the step is known, it opens when it would have opened.
        let left = |allowance: &Allowance, now: i64| {
            allowance.opens(at(now)).map(|opens| opens.as_millisecond() - at(now).as_millisecond())
        };
        let before = left(&allowance, 59_000);
        assert!(before.is_some());
        allowance.set_back(SignedDuration::from_hours(-3));
        assert_eq!(left(&allowance, 59_000 - 10_800_000), before);
        allowance.set_back(SignedDuration::from_hours(3));
        let forth = at(10_800_000);
        assert_eq!((allowance.opens(forth), allowance.is_full(forth)), (None, true));
    }
}
