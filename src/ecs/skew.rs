//! How far the server's clock is from ours, learned from the `Date` of every reply.
//!
//! A signature whose date is about fifteen minutes off is refused, and a node's clock may be off by more. So every
//! signature is dated by the server's clock as far as it is known.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::{SignedDuration, Timestamp, fmt::rfc2822};

/// Differences up to this many seconds are rounding (`Date` has no fractions) and travel time, and count as none.
const NOISE_SECONDS: i64 = 2;

/// Server time minus local time in whole seconds; none until the first reply.
#[derive(Debug, Default)]
pub(super) struct Skew(AtomicI64);

impl Skew {
    /// Learns from a reply's `Date` and the local time of its arrival. A date that cannot be read changes nothing.
    pub(super) fn learn(&self, date: &[u8], now: Timestamp) {
        let Ok(server) = rfc2822::DateTimeParser::new().parse_timestamp(date) else {
            return;
        };
        let difference = server.as_second().saturating_sub(now.as_second());
        let skew = if difference.abs() <= NOISE_SECONDS { 0 } else { difference };
        self.0.store(skew, Ordering::Relaxed);
    }

    /// The server's time at a local time.
    pub(super) fn server_time(&self, local: Timestamp) -> Timestamp {
        local
            .saturating_add(SignedDuration::from_secs(self.0.load(Ordering::Relaxed)))
            // Only calendar units can fail to be added, and there are none in a number of seconds.
            .unwrap_or(local)
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
        let skew = Skew::default();
        let table = [
            ("no date yet", "", "2024-05-01T12:00:00Z"),
            ("behind", "Wed, 01 May 2024 11:40:00 GMT", "2024-05-01T11:40:00Z"),
            ("no date", "yesterday", "2024-05-01T11:40:00Z"),
            ("ahead", "Wed, 01 May 2024 13:00:03 GMT", "2024-05-01T13:00:03Z"),
            ("rounding", "Wed, 01 May 2024 11:59:58 GMT", "2024-05-01T12:00:00Z"),
            ("just more than rounding", "Wed, 01 May 2024 12:00:03 GMT", "2024-05-01T12:00:03Z"),
        ];
        for (name, date, expected) in table {
            skew.learn(date.as_bytes(), noon());
            assert_eq!(skew.server_time(noon()).to_string(), expected, "{name}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(date in proptest::collection::vec(any::<u8>(), 0..40), seconds in any::<i64>()) {
            let skew = Skew::default();
            skew.learn(&date, noon());
            skew.0.store(seconds, Ordering::Relaxed);
            let _ = skew.server_time(noon());
        }
    }
}
