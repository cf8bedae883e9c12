//! Counts refusals of an instance that is Running: its state cannot be the cause (N3). Pure.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    facts::{Found, Look, RUNNING, RunningRefusals},
    outcome::{Class, classify_code},
    verdict::after,
};
use crate::api::{Retry, VncPasswordStatus};

/// After this many refusals the instance counts as one without VNC, if they are far enough apart.
const REFUSALS: u32 = 10;
/// The shortest time between the first and the last of these refusals.
const SPAN: Duration = Duration::from_hours(1);

impl RunningRefusals {
    /// The count after the last call in `status` and the newest instance poll. The same input counts once.
    #[must_use]
    pub fn count(
        before: Option<Self>,
        status: &VncPasswordStatus,
        poll: Option<&Look>,
        now: Timestamp,
    ) -> Option<Self> {
        let retry = status.retry.as_ref()?;
        match classify_code(retry.code.as_deref()?, 0) {
            Class::Waiting => {}
            // A throttled call says nothing about the instance.
            Class::Throttled => return before,
            _ => return None,
        }
        let Some(Retry { last_failure_time: Some(refused), .. }) = &status.retry else { return before };
        let (refused, poll) = match poll {
            // The status cuts times to the second, so a poll in the same second may be from before the refusal.
            Some(poll) if poll.at.as_second() > refused.0.as_second() => (refused.0.min(now), poll),
            _ => return before,
        };
        let Found::Seen(seen) = &poll.found else { return before };
        if seen.status != RUNNING {
            return None;
        }
        let Some(before) = before else { return Some(Self { count: 1, first: refused, last: refused }) };
        if before.last == refused {
            return Some(before);
        }
        // A clock that was set back makes the wait longer, never shorter.
        Some(Self { count: before.count.saturating_add(1), first: before.first.min(refused), last: refused })
    }

    /// Whether the API refuses for so long that the instance has no VNC.
    #[must_use]
    pub fn show_no_vnc(&self) -> bool {
        self.count >= REFUSALS && after(self.first, SPAN) <= self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rotation::facts::SeenInstance;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn status(code: Option<&str>, failed: i64) -> VncPasswordStatus {
        let retry = Retry {
            last_failure_time: Some(Time(at(failed))),
            code: code.map(Into::into),
            ..Retry::default()
        };
        VncPasswordStatus { retry: Some(retry), ..VncPasswordStatus::default() }
    }

    fn poll(second: i64, found: Found) -> Look {
        Look { at: at(second), found }
    }

    fn showing(status: &str) -> Found {
        let (io_optimized, start_time) = (Some(true), None);
        Found::Seen(SeenInstance { status: status.into(), io_optimized, start_time, locked: false })
    }

    #[test]
    fn each_refusal_counts_once_when_a_later_poll_shows_running() {
        let refused = || status(Some("IncorrectInstanceStatus"), 100);
        let running = |second| Some(poll(second, showing("Running")));
        let before = Some(RunningRefusals { count: 3, first: at(0), last: at(50) });
        let counted = Some(RunningRefusals { count: 4, first: at(0), last: at(100) });
        let first = Some(RunningRefusals { count: 1, first: at(100), last: at(100) });
        let accepted = VncPasswordStatus { retry: None, ..refused() };
        let table = [
            ("the first", None, refused(), running(101), first),
            ("another one", before, refused(), running(101), counted),
            ("the same one", counted, refused(), running(200), counted),
            (
                "a code with a suffix",
                before,
                status(Some("IncorrectInstanceStatus.X"), 100),
                running(101),
                counted,
            ),
            ("not ready yet", before, status(Some("InstanceNotReady"), 100), running(101), counted),
            ("no poll", before, refused(), None, before),
            ("a poll from before the refusal", before, refused(), running(99), before),
            ("a poll in the same second", before, refused(), running(100), before),
            ("another state", before, refused(), Some(poll(101, showing("Stopped"))), None),
            ("a poll that fails", before, refused(), Some(poll(101, Found::Failed)), before),
            ("not shown", before, refused(), Some(poll(101, Found::Unseen)), before),
            ("a throttled call", before, status(Some("Throttling"), 100), running(101), before),
            ("another code", before, status(Some("Forbidden.RAM"), 100), running(101), None),
            ("no code: nothing was sent", before, status(None, 100), running(101), None),
            ("an accepted call", before, accepted, running(101), None),
        ];
        for (name, before, status, poll, expected) in table {
            let counted = RunningRefusals::count(before, &status, poll.as_ref(), at(300));
            assert_eq!(counted, expected, "{name}");
        }
    }

    #[test]
    fn a_clock_that_was_set_back_makes_the_wait_longer() {
        let refused = status(Some("IncorrectInstanceStatus"), 100);
        let poll = poll(101, showing("Running"));
        let before = Some(RunningRefusals { count: 9, first: at(4000), last: at(5000) });
        let counted = RunningRefusals::count(before, &refused, Some(&poll), at(102)).unwrap();
        assert_eq!(counted, RunningRefusals { count: 10, first: at(100), last: at(100) });
        assert!(!counted.show_no_vnc());
    }

    #[test]
    fn ten_refusals_over_an_hour_show_that_there_is_no_vnc() {
        let table =
            [(9, 3600, false), (10, 3599, false), (10, 3600, true), (11, 9000, true), (99, 1200, false)];
        for (count, last, expected) in table {
            let refusals = RunningRefusals { count, first: at(0), last: at(last) };
            assert_eq!(refusals.show_no_vnc(), expected, "{count} refusals in {last} s");
        }
    }
}
