//! The emulator's clock. Follows the system clock, unless a test sets, stops or accelerates it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};

/// The clock of an emulator. Clones share it.
///
/// It determines the dates of replies, the validity of signatures, the minutes of rate limits, the end of
/// restarts and the arrival of delayed calls.
#[derive(Clone, Debug)]
pub struct Clock(Arc<Mutex<Reading>>);

/// The clock showed `base` at the instant `anchor` and moves `scale` seconds a second from there.
#[derive(Debug)]
struct Reading {
    base: Timestamp,
    anchor: Instant,
    scale: u32,
}

impl Reading {
    fn now(&self) -> Timestamp {
        later(self.base, self.anchor.elapsed().saturating_mul(self.scale))
    }

    fn restart(&mut self, base: Timestamp) {
        self.base = base;
        self.anchor = Instant::now();
    }
}

impl Clock {
    /// A clock that follows the system clock.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Timestamp::now(), 1)
    }

    /// A clock that stays at `at` until it is set or advanced.
    #[must_use]
    pub fn fixed(at: Timestamp) -> Self {
        Self::new(at, 0)
    }

    fn new(base: Timestamp, scale: u32) -> Self {
        Self(Arc::new(Mutex::new(Reading { base, anchor: Instant::now(), scale })))
    }

    /// The current time.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.with(|reading| reading.now())
    }

    /// Seconds of this clock in a real second.
    #[must_use]
    pub fn scale(&self) -> u32 {
        self.with(|reading| reading.scale)
    }

    /// Sets the clock, forward or back; its speed stays unchanged.
    pub fn set(&self, at: Timestamp) {
        self.with(|reading| reading.restart(at));
    }

    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.with(|reading| reading.restart(later(reading.now(), by)));
    }

    /// Runs the clock `scale` times as fast as real time: 0 stops it, 60 makes a minute of every
    /// second.
    pub fn set_scale(&self, scale: u32) {
        self.with(|reading| {
            reading.restart(reading.now());
            reading.scale = scale;
        });
    }

    fn with<T>(&self, f: impl FnOnce(&mut Reading) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `at` plus `by`, or the maximum.
pub(super) fn later(at: Timestamp, by: Duration) -> Timestamp {
    SignedDuration::try_from(by).ok().and_then(|by| at.checked_add(by).ok()).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fixed_clock_moves_only_when_told() {
        let start: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let clock = Clock::fixed(start);
        assert_eq!(clock.now(), start);
        clock.advance(Duration::from_mins(1));
        assert_eq!(clock.now().to_string(), "2026-01-02T03:05:05Z");
        clock.set(start);
        assert_eq!(clock.clone().now(), start);
    }

    #[test]
    fn a_stopped_clock_keeps_its_time_and_an_endless_advance_stops_at_the_end_of_time() {
        let clock = Clock::system();
        clock.set_scale(0);
        assert_eq!(clock.now(), clock.now());
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp::MAX);
    }
}
