//! The local clock and the cloud's clock, which is measured by the `Date` header of every reply.
//!
//! The cloud refuses a signature whose date is about fifteen minutes off, and a node's clock may be off by
//! more. So the cloud's clock dates every signature and decides whether temporary credentials have expired.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicI64, Ordering},
};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// Differences up to this many seconds count as none: `Date` has no fractions, and the reply takes time to
/// travel.
const NOISE_SECONDS: i64 = 2;

/// A larger difference is logged as a warning.
const WARN_SECONDS: i64 = 60;

/// See [`Clock::has_moved_since`].
const MOVED_SECONDS: i64 = 5;

/// A time of the cloud's clock, and the clock skew that was known then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dated {
    at: Timestamp,
    skew: i64,
}

impl Dated {
    /// The cloud's time, with the skew known then.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// The local clock and the cloud's clock. Clones share the measured skew.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: fn() -> Timestamp,
    /// The cloud's time minus the local time in whole seconds; 0 until the first reply.
    skew: AtomicI64,
    /// Whether the warning was logged since the clocks last agreed.
    warned: AtomicBool,
}

impl Default for Clock {
    /// The system clock.
    fn default() -> Self {
        Self::new(Timestamp::now)
    }
}

impl Clock {
    /// A clock without a measured skew. `local`: [`Timestamp::now`], except in tests.
    #[must_use]
    pub fn new(local: fn() -> Timestamp) -> Self {
        Self(Arc::new(Inner { local, skew: AtomicI64::new(0), warned: AtomicBool::new(false) }))
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

    /// The cloud's time now, to sign calls that are decided from now on.
    #[must_use]
    pub fn dated(&self) -> Dated {
        Dated { at: self.now(), skew: self.0.skew.load(Ordering::Relaxed) }
    }

    /// Whether the known skew has changed by more than 5 s since then. If so, a decision of that time may be
    /// old: after a machine slept, its local clock may show the time at which it fell asleep.
    #[must_use]
    pub fn has_moved_since(&self, dated: &Dated) -> bool {
        self.0.skew.load(Ordering::Relaxed).saturating_sub(dated.skew).saturating_abs() > MOVED_SECONDS
    }

    /// The cloud's time at a local time.
    #[must_use]
    pub fn at(&self, local: Timestamp) -> Timestamp {
        local
            .saturating_add(SignedDuration::from_secs(self.0.skew.load(Ordering::Relaxed)))
            // Adding seconds cannot fail; only calendar units can.
            .unwrap_or(local)
    }

    /// Measures the skew by the `Date` of a reply that has just arrived. Ignores a date that it cannot parse.
    /// Logs a warning when the clocks differ by more than a minute, once until they agree again.
    pub(super) fn measure(&self, date: &[u8]) {
        let Ok(server) = rfc2822::DateTimeParser::new().parse_timestamp(date) else {
            return;
        };
        let difference = server.as_second().saturating_sub(self.local().as_second());
        let skew = if difference.abs() <= NOISE_SECONDS { 0 } else { difference };
        self.0.skew.store(skew, Ordering::Relaxed);
        let wrong = skew.abs() > WARN_SECONDS;
        if wrong && !self.0.warned.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                seconds = skew,
                "this machine's clock differs from the cloud's by so many seconds (positive: it is slow); requests \
                 are dated by the cloud's, but set the machine's"
            );
        } else if skew == 0 {
            self.0.warned.store(false, Ordering::Relaxed);
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
            clock.measure(date.as_bytes());
            assert_eq!(clock.now().to_string(), expected, "{name}");
        }
    }

    #[test]
    fn a_wrong_clock_is_logged_once_until_it_is_right() {
        let clock = Clock::new(noon);
        let warns = |date: &str| {
            let before = clock.0.warned.load(Ordering::Relaxed);
            clock.measure(date.as_bytes());
            !before && clock.0.warned.load(Ordering::Relaxed)
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
            assert_eq!(warns(date), expected, "{date}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(date in proptest::collection::vec(any::<u8>(), 0..40), seconds in any::<i64>()) {
            let clock = Clock::new(noon);
            clock.measure(&date);
            clock.0.skew.store(seconds, Ordering::Relaxed);
            let _ = clock.now();
        }
    }
}
