//! The turns in the life of a rollout: it begins, halts, goes on, ends.

use jiff::Timestamp;

use super::{plan::Fleet, tally::Tally};
use crate::{
    api::{PaceFrom, ROTATE_AT, Rollout, Trigger},
    rotation::{
        Note,
        verdict::{after, seconds},
    },
};

/// What becomes of the rollout now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Nothing: it goes on, or there is none.
    None,
    /// Another begins. What is under way of the former is finished first.
    Begin(Trigger),
    /// Too much failed.
    Halt,
    /// It goes on, since the spec was changed.
    Resume,
    /// It goes on, since what failed has recovered.
    Recover,
    /// There is nothing left to do.
    Complete,
}

/// Which turn it is. At most one at a time: the next is seen once this one stands in the status.
pub(super) fn turn(fleet: &Fleet, tally: &Tally, now: Timestamp) -> Turn {
    if fleet.suspended {
        return Turn::None;
    }
    if fleet.on_demand().is_some_and(|due| due <= now) && tally.total > 0 {
        return Turn::Begin(Trigger::OnDemand);
    }
    let Some(rollout) = fleet.rollout() else {
        return if tally.total > 0 { Turn::Begin(Trigger::Initial) } else { Turn::None };
    };
    if rollout.halted_at.is_some() {
        return if fleet.status.observed_generation != Some(fleet.generation) {
            Turn::Resume
        } else if tally.failing <= rollout.tolerated {
            Turn::Recover
        } else {
            Turn::None
        };
    }
    if rollout.completed_at.is_some() {
        let due = fleet.next_turn(now).is_some_and(|turn| turn <= now) && fleet.is_open(now);
        return if due && tally.total > 0 { Turn::Begin(Trigger::Schedule) } else { Turn::None };
    }
    let left = tally.missing + tally.unasked;
    if left == 0 && tally.busy == 0 {
        Turn::Complete
    } else if left > 0 && tally.failing.saturating_sub(rollout.tolerated) >= fleet.limits.failures() {
        Turn::Halt
    } else {
        Turn::None
    }
}

impl Turn {
    /// The rollout after that turn; what is counted is counted later.
    pub fn applied(&self, fleet: &Fleet, tally: &Tally, now: Timestamp) -> Option<Rollout> {
        let mut rollout = match self {
            Self::Begin(trigger) => return Some(begun(fleet, *trigger, now)),
            _ => fleet.rollout()?.clone(),
        };
        // What has recovered halts it when it fails again.
        rollout.tolerated = rollout.tolerated.min(tally.failing);
        match self {
            Self::None | Self::Begin(_) => {}
            Self::Halt => rollout.halted_at = Some(seconds(now)),
            Self::Resume | Self::Recover => {
                rollout.halted_at = None;
                rollout.tolerated = tally.failing;
                rollout.pace_from = PaceFrom { time: seconds(now), updated: tally.updated };
            }
            Self::Complete => {
                rollout.completed_at = Some(seconds(now));
                rollout.tolerated = tally.failing;
            }
        }
        Some(rollout)
    }

    /// The event that tells it.
    pub fn note(&self, rollout: Option<&Rollout>) -> Option<Note> {
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

fn begun(fleet: &Fleet, trigger: Trigger, now: Timestamp) -> Rollout {
    let now = seconds(now);
    // Later than every stamp before it, also where the clock has jumped back.
    let after_last = fleet.rollout().map(|last| seconds(after(last.id.0, std::time::Duration::from_secs(1))));
    Rollout {
        id: after_last.map_or(now.clone(), |least| least.max(now.clone())),
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
