//! Another writer that changes back what the operator writes: when to stop writing in turn with it, and for how long
//! (DESIGN.md, R65 and R66).

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::verdict::after;

/// Changes by others within this time count together.
const WINDOW: Duration = Duration::from_mins(10);
/// The first wait.
const FIRST: Duration = Duration::from_mins(1);
/// After this time without a change by others the next wait is [`FIRST`] again.
const QUIET: Duration = Duration::from_hours(1);
/// Changes to remember at most.
const KEPT: usize = 4;

/// What is written, and so how many changes by others start a wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The values and the record in a Secret. People edit them as well.
    Secret,
    /// The status, which nobody else has reason to write.
    Status,
}

impl Target {
    /// How many changes within [`WINDOW`] start the first wait.
    fn limit(self) -> usize {
        match self {
            Self::Secret => KEPT,
            Self::Status => 2,
        }
    }

    fn max_wait(self) -> Duration {
        match self {
            Self::Secret => Duration::from_mins(30),
            Self::Status => Duration::from_mins(10),
        }
    }
}

/// The changes that others made to one target of one object.
///
/// The caller reports a change that this process did not write ([`Competition::changed`]), and each own write
/// ([`Competition::wrote`]).
#[derive(Clone, Debug)]
pub struct Competition {
    target: Target,
    /// The newest changes by others, oldest first.
    changes: Vec<Timestamp>,
    /// Waits so far without a quiet hour.
    waits: u32,
    until: Option<Timestamp>,
    /// This process has written since the last wait ended. Without that, a change by others answers nothing.
    wrote: bool,
}

impl Competition {
    /// Without any change yet.
    #[must_use]
    pub fn new(target: Target) -> Self {
        Self { target, changes: Vec::new(), waits: 0, until: None, wrote: false }
    }

    /// Somebody else made a change; whether a wait starts.
    pub fn changed(&mut self, now: Timestamp) -> bool {
        // After a step of the clock, times to come are as good as now.
        self.changes.iter_mut().for_each(|at| *at = now.min(*at));
        if self.changes.last().is_some_and(|last| after(*last, QUIET) <= now) {
            (self.changes, self.waits) = (Vec::new(), 0);
        }
        self.changes.push(now);
        let surplus = self.changes.len().saturating_sub(KEPT);
        self.changes.drain(..surplus);
        let recent = self.changes.iter().filter(|at| after(**at, WINDOW) > now).count();
        let starts = match self.waits {
            0 => recent >= self.target.limit(),
            _ => self.wrote && self.waits_until(now).is_none(),
        };
        if starts {
            self.waits = self.waits.saturating_add(1);
            self.until = Some(after(now, self.wait()));
            self.wrote = false;
        }
        starts
    }

    /// This process wrote the target.
    pub fn wrote(&mut self, now: Timestamp) {
        self.wrote |= self.waits_until(now).is_none();
    }

    /// Ends the wait: something else asks for a write.
    pub fn resume(&mut self) {
        self.until = None;
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&mut self, by: SignedDuration) {
        for at in self.changes.iter_mut().chain(&mut self.until) {
            *at = at.saturating_add(by).unwrap_or(*at);
        }
    }

    /// Until when nothing is written; `None`: write.
    #[must_use]
    pub fn waits_until(&self, now: Timestamp) -> Option<Timestamp> {
        // No wait is longer than this one was when it began: else the clock was set back.
        self.until.filter(|until| *until > now && *until <= after(now, self.wait()))
    }

    /// How long the last wait is.
    fn wait(&self) -> Duration {
        let doubled = 1_u32.checked_shl(self.waits.saturating_sub(1).min(16)).unwrap_or(u32::MAX);
        FIRST.saturating_mul(doubled).min(self.target.max_wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    /// What happens, and at which second.
    #[derive(Clone, Copy, Debug)]
    enum Step {
        /// A change by others; the length of the wait in seconds that holds afterwards, counted from now.
        Changed(i64, Option<i64>),
        Wrote(i64),
        /// Time passes: the wait in seconds that is left.
        Left(i64, Option<i64>),
    }
    use Step::{Changed, Left, Wrote};

    fn run(name: &str, target: Target, steps: &[Step]) {
        let mut competition = Competition::new(target);
        for step in steps {
            let left = |competition: &Competition, second| {
                let until = competition.waits_until(at(second));
                until.map(|until| until.as_second() - at(second).as_second())
            };
            match *step {
                Changed(second, expected) => {
                    competition.changed(at(second));
                    assert_eq!(left(&competition, second), expected, "{name}: {step:?}");
                }
                Wrote(second) => competition.wrote(at(second)),
                Left(second, expected) => {
                    assert_eq!(left(&competition, second), expected, "{name}: {step:?}");
                }
            }
        }
    }

    #[test]
    #[allow(clippy::too_many_lines, reason = "one table")]
    fn each_history_has_the_wait_of_the_design() {
        let table: &[(&str, Target, &[Step])] = &[
            (
                "a person who edits three times in ten minutes",
                Target::Secret,
                &[Changed(0, None), Changed(60, None), Changed(599, None), Left(600, None)],
            ),
            (
                "the fourth within ten minutes",
                Target::Secret,
                &[
                    Changed(0, None),
                    Changed(1, None),
                    Changed(2, None),
                    Changed(599, Some(60)),
                    Left(659, None),
                ],
            ),
            (
                "the fourth after ten minutes",
                Target::Secret,
                &[Changed(0, None), Changed(1, None), Changed(2, None), Changed(600, None)],
            ),
            (
                "changes in answer to each try: doubling to half an hour",
                Target::Secret,
                &[
                    Changed(0, None),
                    Changed(0, None),
                    Changed(0, None),
                    Changed(0, Some(60)),
                    Wrote(60),
                    Changed(60, Some(120)),
                    Wrote(180),
                    Changed(180, Some(240)),
                    Wrote(420),
                    Changed(420, Some(480)),
                    Wrote(900),
                    Changed(900, Some(960)),
                    Wrote(1860),
                    Changed(1860, Some(1800)),
                    Wrote(3660),
                    Changed(3660, Some(1800)),
                ],
            ),
            (
                "changes during a wait do not prolong it, nor does the first read after it",
                Target::Secret,
                &[
                    Changed(0, None),
                    Changed(1, None),
                    Changed(2, None),
                    Changed(3, Some(60)),
                    Changed(13, Some(50)),
                    Changed(62, Some(1)),
                    Changed(63, None),
                    Wrote(63),
                    Changed(64, Some(120)),
                ],
            ),
            (
                "an hour without a change",
                Target::Secret,
                &[
                    Changed(0, None),
                    Changed(0, None),
                    Changed(0, None),
                    Changed(0, Some(60)),
                    Wrote(60),
                    Changed(3599, Some(120)),
                    Wrote(3720),
                    Changed(7199, None),
                    Changed(7200, None),
                    Changed(7201, None),
                    Changed(7202, Some(60)),
                ],
            ),
            (
                "a write that is recorded during a wait is no try",
                Target::Status,
                &[
                    Changed(0, None),
                    Changed(1, Some(60)),
                    Wrote(2),
                    Changed(62, None),
                    Wrote(62),
                    Changed(63, Some(120)),
                ],
            ),
            (
                "two changes of the status, doubling to ten minutes",
                Target::Status,
                &[
                    Changed(0, None),
                    Changed(599, Some(60)),
                    Wrote(659),
                    Changed(659, Some(120)),
                    Wrote(779),
                    Changed(779, Some(240)),
                    Wrote(1019),
                    Changed(1019, Some(480)),
                    Wrote(1499),
                    Changed(1499, Some(600)),
                    Wrote(2099),
                    Changed(2099, Some(600)),
                ],
            ),
            ("one change of the status", Target::Status, &[Changed(0, None), Changed(600, None)]),
            (
                "the clock is set back",
                Target::Secret,
                &[
                    Changed(0, None),
                    Changed(0, None),
                    Changed(0, None),
                    Changed(0, Some(60)),
                    Left(-10_800, None),
                    Wrote(-10_800),
                    Changed(-10_799, Some(120)),
                ],
            ),
        ];
        for (name, target, steps) in table {
            run(name, *target, steps);
        }
    }

    #[test]
    fn a_wait_that_ended_early_counts() {
        let mut competition = Competition::new(Target::Status);
        assert!(!competition.changed(at(0)) && competition.changed(at(0)));
        competition.resume();
        assert_eq!(competition.waits_until(at(1)), None);
        competition.wrote(at(1));
        assert!(competition.changed(at(2)));
        assert_eq!(competition.waits_until(at(2)), Some(at(122)));
    }

    #[test]
    fn a_wait_goes_back_with_the_clock() {
        let mut competition = Competition::new(Target::Secret);
        (0..4).for_each(|_| {
            competition.changed(at(0));
        });
        competition.wrote(at(100));
        assert!(competition.changed(at(120)), "the second wait, of 2 min");
        for by in [-60, -10_800] {
            competition.set_back(SignedDuration::from_secs(by));
        }
        let now = 120 - 60 - 10_800;
        assert_eq!(competition.waits_until(at(now)), Some(at(now + 120)));
        assert_eq!(competition.waits_until(at(now + 120)), None);
    }
}
