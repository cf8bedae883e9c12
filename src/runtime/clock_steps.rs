//! Tells when the wall clock was stepped, or the machine slept: the wall clock moves against the monotonic
//! one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Smaller differences count as none: a busy machine may pause between reading the two clocks.
const NOISE: Duration = Duration::from_secs(5);

/// Both clocks at one moment.
pub(crate) struct ClockSteps {
    wall: Timestamp,
    at: Instant,
}

impl ClockSteps {
    pub fn new(wall: Timestamp, at: Instant) -> Self {
        Self { wall, at }
    }

    /// By how much the wall clock has moved against the monotonic one since it was last asked, where that is
    /// no noise. A machine that slept looks like a step forward.
    pub fn step(&mut self, wall: Timestamp, at: Instant) -> Option<SignedDuration> {
        let elapsed = SignedDuration::try_from(at.saturating_duration_since(self.at)).ok()?;
        let step = wall.duration_since(self.wall).saturating_sub(elapsed);
        *self = Self { wall, at };
        (step.unsigned_abs() > NOISE).then_some(step)
    }
}

/// One step of the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    pub by: SignedDuration,
    /// The wall clock after it.
    pub now: Timestamp,
    /// Until when a call that is made now may arrive.
    pub settled: Timestamp,
}

impl Step {
    /// Converts the end of a wait for a late call to the clock after the step. A step forward extends it to
    /// `settled` at most; a wait that was over stays over.
    pub fn deadline_after(&self, until: Timestamp) -> Timestamp {
        let moved = until.saturating_add(self.by).unwrap_or(until);
        if self.by.is_negative() {
            moved
        } else if self.was_over(until) {
            until
        } else {
            moved.min(self.settled).max(until)
        }
    }

    /// Whether that time had come before the step.
    pub fn was_over(&self, until: Timestamp) -> bool {
        until.saturating_add(self.by).unwrap_or(until) <= self.now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_forward_ends_no_wait_for_a_late_call_early() {
        let at = |second: i64| Timestamp::from_second(1_000_000 + second).unwrap();
        let settle = 961;
        // The step, until when a call may arrive, and the same after the step, which is at 0.
        let table = [
            ("back", -10_800, 10_900, 100),
            ("over before the step", 300, -301, -301),
            ("just over before the step", 300, -300, -300),
            ("it would be over by the step", 300, -200, 100),
            ("it would be over soon", 300, 600, 900),
            ("at most as long as a call that is made now", 300, 800, settle),
            ("a machine that slept", 30_000, -29_000, settle),
            ("later than any call may arrive: unchanged", 300, 5000, 5000),
        ];
        for (name, by, until, expected) in table {
            let step = Step { by: SignedDuration::from_secs(by), now: at(0), settled: at(settle) };
            assert_eq!(step.deadline_after(at(until)), at(expected), "{name}");
        }
    }

    #[test]
    fn a_step_is_what_the_wall_clock_moves_beyond_the_time_that_passes() {
        let (noon, start) = (Timestamp::from_second(43_200).unwrap(), Instant::now());
        let mut steps = ClockSteps::new(noon, start);
        let three_hours = 3 * 3600;
        // Seconds since noon by the wall clock, seconds that have passed, and the step.
        let table = [
            ("a second later", 1, 1, None),
            ("a busy machine", 5, 9, None),
            ("it catches up", 10, 10, None),
            ("back", 11 - three_hours, 11, Some(-three_hours)),
            ("after that", 12 - three_hours, 12, None),
            ("forward again", 13, 13, Some(three_hours)),
            ("it slept", three_hours, 14, Some(three_hours - 14)),
        ];
        for (name, wall, passed, expected) in table {
            let wall = noon + SignedDuration::from_secs(wall);
            let step = steps.step(wall, start + Duration::from_secs(passed));
            assert_eq!(step.map(|step| step.as_secs()), expected, "{name}");
        }
    }
}
