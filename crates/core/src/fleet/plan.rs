//! Plans the next steps of a fleet. [`plan()`] is pure: it derives everything from the status and the member
//! objects, so that any process can continue where another one stopped.
//!
//! A transition of a rollout (it begins, halts, resumes, completes) is written to the status before anything
//! depends on it: a plan with a transition has no actions, and the caller plans again after it wrote the
//! status. Otherwise, a lost write could begin the same rollout twice and rotate instances twice.

use jiff::Timestamp;

use super::{
    counts::Counts,
    eta::eta,
    input::{Fleet, Limits},
    member::{Member, MemberObject, MemberPhase, MemberState, Restart},
    transition::{Transition, transition},
};
use crate::{
    api::{Prune, Rollout, Trigger},
    rotation::{Note, rotate_at::RotateAt, verdict::seconds},
};

/// One change of one member object. `member` is the index in the list of members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the member object.
    Create {
        /// The member.
        member: usize,
        /// Its `rotate-at`, if any.
        rotate_at: Option<Timestamp>,
    },
    /// Rotate: write the member object with a new `rotate-at`.
    Rotate {
        /// The member.
        member: usize,
        /// Its new `rotate-at`.
        rotate_at: Timestamp,
    },
    /// Correct drift: write the member object with the `rotate-at` that it has.
    Update {
        /// The member.
        member: usize,
        /// Its current `rotate-at`, if any.
        rotate_at: Option<Timestamp>,
    },
    /// Delete the member object.
    Delete {
        /// The member.
        member: usize,
    },
    /// Remove the fleet from the owners of the member object.
    Orphan {
        /// The member.
        member: usize,
    },
}

/// The phase of a fleet's rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RolloutPhase {
    /// No rollout is under way.
    Idle,
    /// The fleet is suspended.
    Suspended,
    /// Too many instances failed.
    Halted,
    /// Member objects are created or rotated.
    RollingOut,
    /// A scheduled rollout resumes when the window opens.
    WaitingForWindow,
}

/// The next steps of a fleet.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The actions. Empty if the rollout has a transition.
    pub actions: Vec<Action>,
    /// Whether the rollout has a transition. If so, write the status and plan again.
    pub has_transition: bool,
    /// `status.rollout`.
    pub rollout: Option<Rollout>,
    /// `status.lastHandledRotateAt`.
    pub last_handled_rotate_at: Option<Timestamp>,
    /// `status.lastRotationTime`.
    pub last_rotation: Option<Timestamp>,
    /// `status.nextRotationTime`.
    pub next_rotation: Option<Timestamp>,
    /// The counts of the members.
    pub counts: Counts,
    /// The phase of the rollout.
    pub phase: RolloutPhase,
    /// The event of the transition, to send after the status is written.
    pub event: Option<Note>,
    /// When to plan again if nothing happens before.
    pub requeue_at: Option<Timestamp>,
}

/// Plans the next steps. The order of `members` must be stable.
#[must_use]
pub fn plan(fleet: &Fleet, members: &[Member], now: Timestamp) -> Plan {
    let previous = fleet.rollout();
    let mut counts = Counts::of(members, previous, now);
    let transition = transition(fleet, &counts, now);
    let mut rollout = transition.apply(fleet, &counts, now).map(|rollout| limit_to_now(rollout, now));
    if let (Transition::Begin(_), Some(begun)) = (&transition, &mut rollout) {
        counts = Counts::of(members, Some(begun), now);
        begun.tolerated = counts.failed_in_rollout;
        begun.pace_from.updated = counts.updated;
    }
    if let Some(rollout) = &mut rollout {
        rollout.updated = counts.updated;
        rollout.total = counts.total;
        rollout.failed = counts.failed_in_rollout;
        rollout.progress = format!("{}/{}", counts.updated, counts.total);
        rollout.eta = eta(fleet, previous, rollout, &counts, now);
    }
    let has_transition = transition != Transition::None;
    let actions =
        if has_transition { Vec::new() } else { actions(fleet, members, rollout.as_ref(), &counts, now) };
    let status = fleet.status;
    let last_handled_rotate_at = match (&transition, fleet.rotate_at) {
        (Transition::Begin(Trigger::OnDemand), RotateAt::At(at)) => Some(at),
        _ => status.last_handled_rotate_at.as_ref().map(|at| at.0),
    };
    let completed = (transition == Transition::Complete).then_some(now);
    Plan {
        actions,
        has_transition,
        last_handled_rotate_at,
        last_rotation: completed.or(status.last_rotation_time.as_ref().map(|at| at.0)),
        next_rotation: next_rotation(fleet, rollout.as_ref(), now),
        phase: phase(fleet, rollout.as_ref(), &counts, now),
        event: transition.event(rollout.as_ref()),
        requeue_at: requeue_at(fleet, rollout.as_ref(), &counts, now),
        rollout,
        counts,
    }
}

/// Replaces future times by `now`, after the clock was set back. This happens once, so that the times do not
/// follow the clock.
fn limit_to_now(mut rollout: Rollout, now: Timestamp) -> Rollout {
    let required = [&mut rollout.started_at, &mut rollout.pace_from.time];
    let optional = rollout.completed_at.iter_mut().chain(&mut rollout.halted_at);
    for time in required.into_iter().chain(optional) {
        *time = seconds(now).min(time.clone());
    }
    rollout
}

fn actions(
    fleet: &Fleet,
    members: &[Member],
    rollout: Option<&Rollout>,
    counts: &Counts,
    now: Timestamp,
) -> Vec<Action> {
    let halted = rollout.is_some_and(|rollout| rollout.halted_at.is_some());
    let mut actions = Vec::new();
    if fleet.suspended {
        return actions;
    }
    let mut slots = if halted { 0 } else { free_slots(fleet.limits, rollout, counts) };
    if fleet.window_valid {
        let starts = starts(fleet, members, rollout, now);
        actions.extend(starts.take(slots as usize));
        slots = slots.saturating_sub(actions.len().try_into().unwrap_or(u32::MAX));
        correct_drift(fleet.limits, members, slots, &mut actions);
    }
    if !fleet.degraded && !halted {
        let to_prune = members.iter().enumerate().filter(|(_, member)| {
            !member.selected && matches!(&member.object, MemberObject::Owned(state) if !state.deleting)
        });
        actions.extend(to_prune.map(|(member, _)| match fleet.prune {
            Prune::Delete => Action::Delete { member },
            Prune::Orphan => Action::Orphan { member },
        }));
    }
    actions
}

/// The free slots of the wave. A failed instance may recover at any time, so it keeps its slot, but never the
/// last one. If the operator restarts instances, it keeps the last one too.
fn free_slots(limits: Limits, rollout: Option<&Rollout>, counts: &Counts) -> u32 {
    let tolerated = rollout.map_or(0, |rollout| rollout.tolerated);
    let new_failures = counts.failed_in_rollout.saturating_sub(tolerated);
    let open = rollout.is_some_and(|rollout| rollout.completed_at.is_none());
    let min = u32::from(!limits.reboot || !open);
    limits.wave().saturating_sub(new_failures).max(min).saturating_sub(counts.slots_used)
}

/// The members that may start, in order. Those that failed before come last.
fn starts<'a>(
    fleet: &Fleet,
    members: &'a [Member],
    rollout: Option<&'a Rollout>,
    now: Timestamp,
) -> impl Iterator<Item = Action> + 'a {
    let open = rollout.filter(|rollout| rollout.completed_at.is_none());
    let rotating = open.filter(|rollout| rollout.trigger != Trigger::Initial);
    let in_window =
        rotating.filter(|rollout| rollout.trigger != Trigger::Schedule || fleet.is_window_open(now));
    let start = move |member: usize, failed: bool| {
        let Member { selected: true, object } = &members[member] else { return None };
        match object {
            MemberObject::Missing if !failed => {
                Some(Action::Create { member, rotate_at: rotating.map(|rollout| rollout.id.0) })
            }
            MemberObject::Owned(state) => {
                let included = match state.phase(rollout, now) {
                    MemberPhase::Idle | MemberPhase::Waiting => !failed,
                    MemberPhase::Failed { .. } => failed,
                    MemberPhase::Rotating { .. } | MemberPhase::OwnedElsewhere => false,
                };
                let rotate_at = state.rotate_at_for(in_window?, now).filter(|_| included)?;
                Some(Action::Rotate { member, rotate_at })
            }
            MemberObject::Missing | MemberObject::OwnedElsewhere | MemberObject::Conflict => None,
        }
    };
    let not_failed = (0..members.len()).filter_map(move |member| start(member, false));
    not_failed.chain((0..members.len()).filter_map(move |member| start(member, true)))
}

/// Updates member objects that differ from what the fleet would write. This rotates nothing. It uses a slot
/// if it lets the operator restart an instance that waited for a person before.
fn correct_drift(limits: Limits, members: &[Member], mut slots: u32, actions: &mut Vec<Action>) {
    let mut rotated = actions
        .iter()
        .filter_map(|action| match action {
            Action::Rotate { member, .. } => Some(*member),
            _ => None,
        })
        .collect::<Vec<_>>();
    rotated.sort_unstable();
    for (member, Member { selected, object }) in members.iter().enumerate() {
        let MemberObject::Owned(state @ MemberState { drifted: true, deleting: false, .. }) = object else {
            continue;
        };
        if !selected || rotated.binary_search(&member).is_ok() {
            continue;
        }
        if limits.reboot && state.restart == Restart::Person {
            if slots == 0 {
                continue;
            }
            slots -= 1;
        }
        actions.push(Action::Update { member, rotate_at: state.rotate_at });
    }
}

fn phase(fleet: &Fleet, rollout: Option<&Rollout>, counts: &Counts, now: Timestamp) -> RolloutPhase {
    let open = rollout.filter(|rollout| rollout.completed_at.is_none());
    if fleet.suspended {
        RolloutPhase::Suspended
    } else if open.is_some_and(|rollout| rollout.halted_at.is_some()) {
        RolloutPhase::Halted
    } else if counts.slots_used + counts.missing > 0 {
        RolloutPhase::RollingOut
    } else if open.is_some_and(|rollout| rollout.trigger == Trigger::Schedule && !fleet.is_window_open(now)) {
        RolloutPhase::WaitingForWindow
    } else if open.is_some() {
        RolloutPhase::RollingOut
    } else {
        RolloutPhase::Idle
    }
}

/// When the next scheduled rollout is due, if there is one.
fn next_rotation(fleet: &Fleet, rollout: Option<&Rollout>, now: Timestamp) -> Option<Timestamp> {
    if fleet.suspended {
        return fleet.status.next_rotation_time.as_ref().map(|at| at.0);
    }
    let rollout = rollout.filter(|rollout| rollout.halted_at.is_none())?;
    fleet.schedule.as_ref().ok()?.next(rollout.started_at.0, 0.0, now)
}

fn requeue_at(
    fleet: &Fleet,
    rollout: Option<&Rollout>,
    counts: &Counts,
    now: Timestamp,
) -> Option<Timestamp> {
    let on_demand = fleet.on_demand();
    let completed = rollout.filter(|rollout| rollout.completed_at.is_some());
    let scheduled = completed.and_then(|_| next_rotation(fleet, rollout, now));
    let open = rollout.is_some_and(|rollout| rollout.completed_at.is_none());
    let opening = fleet.schedule.as_ref().ok().filter(|_| open).and_then(|plan| plan.opening(now));
    let times = [on_demand, scheduled, opening].into_iter().flatten().filter(|_| !fleet.suspended);
    times.chain(counts.requeue_at).filter(|at| *at > now).min()
}
