//! Transitions of a rollout: it begins, halts, resumes and completes.

use jiff::Timestamp;

use super::{counts::Counts, input::Fleet};
use crate::{
    api::{PaceFrom, ROTATE_AT, Rollout, Trigger},
    rotation::{
        Note,
        verdict::{after, seconds},
    },
};

/// A change of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Transition {
    /// No change.
    None,
    /// A new rollout begins. Rotations of the previous one that are under way finish first.
    Begin(Trigger),
    /// Too many instances failed.
    Halt,
    /// A halted rollout resumes because the spec changed.
    Resume,
    /// A halted rollout resumes because the failed instances recovered.
    Recover,
    /// Nothing is left to do.
    Complete,
}

/// Returns the transition that is due. At most one at a time: the next one is found after this one is in the
/// status.
pub(super) fn transition(fleet: &Fleet, counts: &Counts, now: Timestamp) -> Transition {
    if fleet.suspended {
        return Transition::None;
    }
    if fleet.on_demand().is_some_and(|due| due <= now) && counts.total > 0 {
        return Transition::Begin(Trigger::OnDemand);
    }
    let Some(rollout) = fleet.rollout() else {
        return if counts.total > 0 { Transition::Begin(Trigger::Initial) } else { Transition::None };
    };
    if rollout.halted_at.is_some() {
        return if fleet.status.observed_generation != Some(fleet.generation) {
            Transition::Resume
        } else if counts.failed_in_rollout <= rollout.tolerated {
            Transition::Recover
        } else {
            Transition::None
        };
    }
    if rollout.completed_at.is_some() {
        let due =
            fleet.next_scheduled_rollout(now).is_some_and(|start| start <= now) && fleet.is_window_open(now);
        return if due && counts.total > 0 { Transition::Begin(Trigger::Schedule) } else { Transition::None };
    }
    let left = counts.missing + counts.to_rotate;
    let new_failures = counts.failed_in_rollout.saturating_sub(rollout.tolerated);
    if left == 0 && counts.slots_used == 0 {
        Transition::Complete
    } else if left > 0 && new_failures >= fleet.limits.failures_to_halt() {
        Transition::Halt
    } else {
        Transition::None
    }
}

impl Transition {
    /// Returns the rollout after this transition. The caller sets its counts.
    pub fn apply(&self, fleet: &Fleet, counts: &Counts, now: Timestamp) -> Option<Rollout> {
        let mut rollout = match self {
            Self::Begin(trigger) => return Some(new_rollout(fleet, *trigger, now)),
            _ => fleet.rollout()?.clone(),
        };
        // An instance that recovered and then fails again counts as a new failure.
        rollout.tolerated = rollout.tolerated.min(counts.failed_in_rollout);
        match self {
            Self::None | Self::Begin(_) => {}
            Self::Halt => rollout.halted_at = Some(seconds(now)),
            Self::Resume | Self::Recover => {
                rollout.halted_at = None;
                rollout.tolerated = counts.failed_in_rollout;
                rollout.pace_from = PaceFrom { time: seconds(now), updated: counts.updated };
            }
            Self::Complete => {
                rollout.completed_at = Some(seconds(now));
                rollout.tolerated = counts.failed_in_rollout;
            }
        }
        Some(rollout)
    }

    /// Returns the event that reports this transition.
    pub fn event(&self, rollout: Option<&Rollout>) -> Option<Note> {
        let rollout = rollout?;
        let (updated, total, failed) = (rollout.updated, rollout.total, rollout.failed);
        let (warning, reason, text) = match self {
            Self::None => return None,
            Self::Begin(Trigger::Initial) => {
                (false, "RolloutStarted", format!("{total} instances get their first password"))
            }
            Self::Begin(Trigger::Schedule) => {
                (false, "RolloutStarted", format!("a turn is due: {total} instances are rotated"))
            }
            Self::Begin(Trigger::OnDemand) => {
                (false, "RolloutStarted", format!("{ROTATE_AT} asks for it: {total} instances are rotated"))
            }
            Self::Halt => {
                let text = format!(
                    "{failed} instances failed, {updated} of {total} are rotated; no more are started until the failures have \
                     recovered, the spec changes, or {ROTATE_AT} asks anew"
                );
                (true, "RolloutHalted", text)
            }
            Self::Resume => (false, "RolloutResumed", "the spec has changed: the rollout goes on".to_owned()),
            Self::Recover => {
                (false, "RolloutResumed", "what failed has recovered: the rollout goes on".to_owned())
            }
            Self::Complete => {
                let text = format!("{updated} of {total} instances are rotated, {failed} failed");
                (failed > 0, "RolloutCompleted", text)
            }
        };
        Some(Note { warning, reason, text })
    }
}

fn new_rollout(fleet: &Fleet, trigger: Trigger, now: Timestamp) -> Rollout {
    let now = seconds(now);
    // Ids increase, also when the clock was set back.
    let min_id = fleet.rollout().map(|last| seconds(after(last.id.0, std::time::Duration::from_secs(1))));
    Rollout {
        id: min_id.map_or(now.clone(), |min_id| min_id.max(now.clone())),
        trigger,
        started_at: now.clone(),
        updated: 0,
        total: 0,
        failed: 0,
        progress: String::new(),
        eta: None,
        pace_from: PaceFrom { time: now, updated: 0 },
        completed_at: None,
        halted_at: None,
        tolerated: 0,
    }
}
