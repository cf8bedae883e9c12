//! The time: ours, and the cloud's, learned from the `Date` of every reply.
//!
//! A signature whose date is about fifteen minutes off is refused, and a node's clock may be off by more. So every
//! signature is dated by the cloud's clock as far as it is known, and the life of temporary credentials is judged by it.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// Differences up to this many seconds are rounding (`Date` has no fractions) and travel time, and count as none.
const NOISE_SECONDS: i64 = 2;

/// A clock that is off by as much is told to whoever keeps the machine.
const WRONG_SECONDS: i64 = 60;

/// A decision counts as made at another time when what is known of the cloud's clock has moved by more than this since.
const MOVED_SECONDS: i64 = 5;

/// The cloud's time at one moment, and what was known of its clock then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    at: Timestamp,
    skew: i64,
}

impl Dated {
    /// The cloud's time, as far as it was known.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// The local clock and the cloud's. Clones share what was learned.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: fn() -> Timestamp,
    /// The cloud's time minus the local time in whole seconds; none until the first reply.
    skew: AtomicI64,
    /// It was said that the clock is wrong, and it was not right since.
    told: AtomicBool,
}

impl Default for Clock {
    /// The system's clock.
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl Clock {
    /// A clock that knows nothing of the cloud's yet. `local`: [`Timestamp::now`], but in a test.
    #[must_use]
    pub fn new(local: fn() -> Timestamp) -> Self {
        Self(Arc::new(Inner { local, skew: AtomicI64::new(0), told: AtomicBool::new(false) }))
    }

    /// The local time.
    #[must_use]
    pub fn local(&self) -> Timestamp {
        (self.0.local)()
    }

    /// The cloud's time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.at(self.local())
    }

    /// The cloud's time now, to date a call that is decided on from here.
    #[must_use]
    pub fn dated(&self) -> Dated {
        Dated { at: self.now(), skew: self.0.skew.load(Ordering::Relaxed) }
    }

    /// Whether so much was learned of the cloud's clock since then that what was decided then may be old: the local clock
    /// of a machine that slept shows the time at which it fell asleep.
    #[must_use]
    pub fn has_moved_since(&self, dated: &Dated) -> bool {
        self.0.skew.load(Ordering::Relaxed).saturating_sub(dated.skew).saturating_abs() > MOVED_SECONDS
    }

    /// The cloud's time at a local time.
    #[must_use]
    pub fn at(&self, local: Timestamp) -> Timestamp {
        local
            .saturating_add(SignedDuration::from_secs(self.0.skew.load(Ordering::Relaxed)))
            // Only calendar units can fail to be added, and there are none in a number of seconds.
            .unwrap_or(local)
    }

    /// Learns from the `Date` of a reply that came in just now. A date that cannot be read changes nothing. The first
    /// time that the clocks differ by more than a minute a warning is logged, and again only after they agreed.
    pub(super) fn learn(&self, date: &[u8]) {
        let Ok(server) = rfc2822::DateTimeParser::new().parse_timestamp(date) else {
            return;
        };
        let difference = server.as_second().saturating_sub(self.local().as_second());
        let skew = if difference.abs() <= NOISE_SECONDS { 0 } else { difference };
        self.0.skew.store(skew, Ordering::Relaxed);
        let wrong = skew.abs() > WRONG_SECONDS;
        if wrong && !self.0.told.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                seconds = skew,
                "this machine's clock differs from the cloud's by so many seconds (positive: it is slow); requests \
                 are dated by the cloud's, but set the machine's"
            );
        } else if skew == 0 {
            self.0.told.store(false, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn noon() -> Timestamp {
        "2024-05-01T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn the_newest_date_that_can_be_read_counts() {
        let clock = Clock::new(noon);
        let table = [
            ("no date yet", "", "2024-05-01T12:00:00Z"),
            ("behind", "Wed, 01 May 2024 11:40:00 GMT", "2024-05-01T11:40:00Z"),
            ("no date", "yesterday", "2024-05-01T11:40:00Z"),
            ("ahead", "Wed, 01 May 2024 13:00:03 GMT", "2024-05-01T13:00:03Z"),
            ("rounding", "Wed, 01 May 2024 11:59:58 GMT", "2024-05-01T12:00:00Z"),
            ("just more than rounding", "Wed, 01 May 2024 12:00:03 GMT", "2024-05-01T12:00:03Z"),
        ];
        for (name, date, expected) in table {
            clock.learn(date.as_bytes());
            assert_eq!(clock.now().to_string(), expected, "{name}");
        }
    }

    #[test]
    fn a_wrong_clock_is_told_once_until_it_was_right() {
        let clock = Clock::new(noon);
        let told = |date: &str| {
            let before = clock.0.told.load(Ordering::Relaxed);
            clock.learn(date.as_bytes());
            !before && clock.0.told.load(Ordering::Relaxed)
        };
        let table = [
            ("Wed, 01 May 2024 12:00:40 GMT", false),
            ("Wed, 01 May 2024 12:10:00 GMT", true),
            ("Wed, 01 May 2024 12:10:01 GMT", false),
            ("Wed, 01 May 2024 12:00:30 GMT", false),
            ("Wed, 01 May 2024 11:00:00 GMT", false),
            ("Wed, 01 May 2024 12:00:00 GMT", false),
            ("Wed, 01 May 2024 11:00:00 GMT", true),
        ];
        for (date, expected) in table {
            assert_eq!(told(date), expected, "{date}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(date in proptest::collection::vec(any::<u8>(), 0..40), seconds in any::<i64>()) {
            let clock = Clock::new(noon);
            clock.learn(&date);
            clock.0.skew.store(seconds, Ordering::Relaxed);
            let _ = clock.now();
        }
    }
}
