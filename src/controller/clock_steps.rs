//! Tells when the wall clock was stepped, or the machine slept: the wall clock moves against the monotonic one.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

/// Smaller differences count as none: a busy machine may pause between reading the two clocks.
const NOISE: Duration = Duration::from_secs(5);

/// Both clocks at one moment.
pub(super) struct ClockSteps {
    wall: Timestamp,
    at: Instant,
}

impl ClockSteps {
    pub fn new(wall: Timestamp, at: Instant) -> Self {
        Self { wall, at }
    }

    /// By how much the wall clock has moved against the monotonic one since it was last asked, where that is no noise. A
    /// machine that slept looks like a step forward.
    pub fn step(&mut self, wall: Timestamp, at: Instant) -> Option<SignedDuration> {
        let elapsed = SignedDuration::try_from(at.saturating_duration_since(self.at)).ok()?;
        let step = wall.duration_since(self.wall).saturating_sub(elapsed);
        *self = Self { wall, at };
        (step.unsigned_abs() > NOISE).then_some(step)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
