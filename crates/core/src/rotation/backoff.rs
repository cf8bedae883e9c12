//! How long to wait: pure functions of class, attempts and a random fraction.

use std::time::Duration;

use super::outcome::Class;

/// First delay of what is retried by itself.
pub const FIRST: Duration = Duration::from_secs(5);
/// Longest delay of what is retried by itself; also how long a refused instance status is taken at its word.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);
/// How often a stalled object looks again, if nothing else is said.
pub const STALLED: Duration = Duration::from_secs(10 * 60);
/// Longest delay between two attempts to write a Secret that the API server does not take.
pub const MAX_REFUSED_WRITE: Duration = Duration::from_secs(60);
/// How often refused credentials are tried again.
pub const CREDENTIALS: Duration = Duration::from_secs(60);
/// How often an instance that seems to have no VNC is tried again.
pub const UNSUPPORTED: Duration = Duration::from_hours(1);

/// First delay between two looks at an instance.
const LOOK_FIRST: Duration = Duration::from_secs(15);

/// The delay after that many failed attempts in a row (1 after the first), or `None` where only a change helps.
///
/// `jitter` is a fraction from 0 up to 1; it takes up to a fifth off, so that objects spread out and no delay
/// exceeds its bound.
#[must_use]
pub fn delay(class: Class, attempts: u32, jitter: f64) -> Option<Duration> {
    let jittered = |delay| jittered(delay, jitter);
    match class {
        Class::Accepted | Class::InvalidInput => None,
        Class::Waiting | Class::OutcomeUnknown | Class::Unreachable | Class::Signing | Class::Throttled => {
            Some(jittered(doubled(FIRST, attempts.saturating_sub(1))))
        }
        Class::NotFound | Class::Denied | Class::Refused => Some(jittered(STALLED)),
        Class::Credentials => Some(jittered(CREDENTIALS)),
    }
}

/// The delay after that many writes of a Secret in a row that the API server did not take. `jitter` as in [`delay`].
#[must_use]
pub fn refused_write(attempts: u32, jitter: f64) -> Duration {
    let delay = doubled(FIRST, attempts.saturating_sub(1)).min(MAX_REFUSED_WRITE);
    jittered(delay, jitter)
}

/// The delay until an instance that seems to have no VNC is tried again. `jitter` as in [`delay`].
#[must_use]
pub fn unsupported(jitter: f64) -> Duration {
    jittered(UNSUPPORTED, jitter)
}

/// The delay until the next look at an instance that has been waited for since `age`: 15 s at first, growing with
/// the age of the wait to 5 minutes.
#[must_use]
pub fn look_delay(age: Duration) -> Duration {
    (age / 4).clamp(LOOK_FIRST, LONGEST)
}

fn jittered(delay: Duration, jitter: f64) -> Duration {
    delay.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 5.0)
}

fn doubled(first: Duration, times: u32) -> Duration {
    first.saturating_mul(1_u32.checked_shl(times.min(16)).unwrap_or(u32::MAX)).min(LONGEST)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn retries_double_from_five_seconds_to_five_minutes() {
        let delays: Vec<_> =
            (1..=9).map(|attempts| delay(Class::OutcomeUnknown, attempts, 0.0).unwrap().as_secs()).collect();
        assert_eq!(delays, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
    }

    #[test]
    fn refused_writes_double_from_five_seconds_to_a_minute() {
        let delays: Vec<_> = (0..=7).map(|attempts| refused_write(attempts, 0.0).as_secs()).collect();
        assert_eq!(delays, [5, 5, 10, 20, 40, 60, 60, 60]);
        assert_eq!(refused_write(u32::MAX, 1.0), Duration::from_secs(48));
    }

    #[test]
    fn each_class_has_the_delay_of_the_design() {
        let table = [
            (Class::Waiting, Some(5)),
            (Class::Unreachable, Some(5)),
            (Class::Signing, Some(5)),
            (Class::InvalidInput, None),
            (Class::NotFound, Some(600)),
            (Class::Denied, Some(600)),
            (Class::Refused, Some(600)),
            (Class::Credentials, Some(60)),
        ];
        for (class, seconds) in table {
            assert_eq!(delay(class, 1, 0.0).map(|delay| delay.as_secs()), seconds, "{class:?}");
        }
    }

    #[test]
    fn looks_grow_apart_with_the_age_of_the_wait() {
        let delays: Vec<_> =
            [0, 60, 120, 600, 7200].map(|age| look_delay(Duration::from_secs(age)).as_secs()).into();
        assert_eq!(delays, [15, 15, 30, 150, 300]);
    }

    #[test]
    fn an_instance_without_vnc_is_tried_every_hour() {
        assert_eq!(unsupported(0.0), Duration::from_hours(1));
        assert_eq!(unsupported(1.0), Duration::from_mins(48));
    }

    proptest! {
        #[test]
        fn no_delay_leaves_its_bounds(attempts in 0_u32.., jitter in 0.0..1.0_f64) {
            let delay = delay(Class::Waiting, attempts, jitter).unwrap();
            prop_assert!(delay <= LONGEST && delay >= FIRST.mul_f64(0.8));
        }
    }
}
