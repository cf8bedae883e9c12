//! What a fleet does next: `plan` is total, sync and pure. It derives everything from the status and the children, so that
//! any process can go on where another has stopped.
//!
//! A turn of a rollout (it begins, halts, goes on, ends) is written to the status before anything rests on it: a plan that
//! makes one starts nothing, and is asked again once the status stands. Starting twice for one beginning that was lost on
//! the way would rotate instances twice.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    member::{Child, Facts, Member, Restart, Standing},
    pace,
    rollout::{Turn, turn},
    tally::Tally,
};
use crate::{
    api::{Activation, ClusterVncPasswordSpec, ClusterVncPasswordStatus, Prune, Rollout, Trigger},
    rotation::{
        Note,
        rotate_at::RotateAt,
        schedule::{self, InvalidSchedule},
        verdict::seconds,
    },
};

/// A fleet, without its members.
#[derive(Clone, Debug)]
pub struct Fleet<'a> {
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// What was written last.
    pub status: &'a ClusterVncPasswordStatus,
    /// The annotation `vncpassword.dev/rotate-at`.
    pub rotate_at: RotateAt,
    /// `spec.rotation` and `spec.window`, parsed.
    pub schedule: Result<schedule::Plan, InvalidSchedule>,
    /// Whether children can be given `spec.window`.
    pub window_fits: bool,
    /// The pace.
    pub limits: Limits,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Whether the answer to which instances there are is not believed, or is not to be had.
    pub degraded: bool,
    /// The shortest time between two calls, where the API limits their rate.
    pub spacing: Option<Duration>,
}

/// How much may happen at once, and what becomes of what has vanished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Passwords on their way.
    pub max_concurrent: u32,
    /// Instances that wait for a restart or undergo it, where the operator restarts them.
    pub max_unavailable: u32,
    /// Failures that halt a rollout.
    pub pause_after_failures: u32,
    /// Whether the operator restarts instances.
    pub reboot: bool,
    /// What becomes of the child of an instance that has vanished.
    pub prune: Prune,
}

impl Limits {
    /// Those of a spec.
    #[must_use]
    pub fn of(spec: &ClusterVncPasswordSpec) -> Self {
        let pace = spec.rollout.unwrap_or_default();
        // The API server refuses a zero; were there one, nothing would ever go on.
        let at_least_one = |limit: u16| u32::from(limit).max(1);
        Self {
            max_concurrent: at_least_one(pace.max_concurrent),
            max_unavailable: at_least_one(pace.max_unavailable),
            pause_after_failures: at_least_one(pace.pause_after_failures),
            reboot: spec.template.as_ref().is_some_and(|template| template.activation == Activation::Reboot),
            prune: spec.prune,
        }
    }

    /// The largest wave. Which instances will need a restart is not known before.
    #[must_use]
    pub fn wave(&self) -> u32 {
        if self.reboot { self.max_concurrent.min(self.max_unavailable) } else { self.max_concurrent }
    }

    /// Failures that halt. Where the operator restarts, each keeps its place: it may recover, and be restarted, at any time.
    pub(super) fn failures(&self) -> u32 {
        if self.reboot { self.pause_after_failures.min(self.wave()) } else { self.pause_after_failures }
    }
}

impl<'a> Fleet<'a> {
    /// Reads a spec.
    #[must_use]
    pub fn new(
        spec: &ClusterVncPasswordSpec,
        status: &'a ClusterVncPasswordStatus,
        (generation, created): (i64, Timestamp),
        rotate_at: RotateAt,
        degraded: bool,
    ) -> Self {
        let window = spec.window.as_deref();
        Self {
            generation,
            created,
            status,
            rotate_at,
            schedule: schedule::Plan::new(spec.rotation.as_deref(), window),
            window_fits: schedule::Plan::new(None, window).is_ok(),
            limits: Limits::of(spec),
            suspended: spec.suspend,
            degraded,
            spacing: None,
        }
    }

    pub(super) fn rollout(&self) -> Option<&Rollout> {
        self.status.rollout.as_ref()
    }

    /// When the rollout that the annotation asks for is due.
    pub(super) fn on_demand(&self) -> Option<Timestamp> {
        let handled = self.status.last_handled_rotate_at.as_ref().map(|at| at.0);
        self.rotate_at.due(self.created, handled, self.rollout().map(|rollout| rollout.started_at.0))
    }

    /// When the next turn is, counted from the beginning of the last rollout.
    pub(super) fn next_turn(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedule.as_ref().ok()?.next(self.rollout()?.started_at.0, 0.0, now)
    }

    /// Whether scheduled rotations may start now.
    pub(super) fn is_open(&self, now: Timestamp) -> bool {
        self.schedule.as_ref().is_ok_and(|plan| plan.is_open(now))
    }
}

/// One thing to do to one child. Members are named by their place in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Create the child, with this `rotate-at` where there is one.
    Create {
        /// Which.
        member: usize,
        /// Its `rotate-at`.
        stamp: Option<Timestamp>,
    },
    /// Write the child as it should be, with this `rotate-at`: it rotates.
    Stamp {
        /// Which.
        member: usize,
        /// Its `rotate-at`.
        stamp: Timestamp,
    },
    /// Write the child as it should be, with the `rotate-at` that it has.
    Update {
        /// Which.
        member: usize,
        /// Its `rotate-at`.
        stamp: Option<Timestamp>,
    },
    /// Delete the child.
    Delete {
        /// Which.
        member: usize,
    },
    /// Take the child's owner away.
    Orphan {
        /// Which.
        member: usize,
    },
}

/// What keeps a fleet busy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Nothing.
    AtRest,
    /// It is suspended.
    Suspended,
    /// Too much failed.
    Halted,
    /// Passwords are drawn or rotated.
    Rolling,
    /// A scheduled rollout goes on at the next opening of the window.
    WindowClosed,
}

/// What to do next.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What to do. Empty where the rollout takes a turn: that is written first, then `plan` is asked again.
    pub actions: Vec<Action>,
    /// Whether the rollout takes a turn: the status must stand before the next plan.
    pub turns: bool,
    /// The rollout as it is to stand in the status.
    pub rollout: Option<Rollout>,
    /// `status.lastHandledRotateAt`.
    pub handled: Option<Timestamp>,
    /// `status.lastRotationTime`.
    pub ended: Option<Timestamp>,
    /// `status.nextRotationTime`.
    pub next: Option<Timestamp>,
    /// The members, counted.
    pub tally: Tally,
    /// What keeps it busy.
    pub phase: Phase,
    /// The event to tell once the status stands.
    pub note: Option<Note>,
    /// When to ask again where nothing happens until then.
    pub wake: Option<Timestamp>,
}

/// What to do next. `members` always in the same order.
#[must_use]
pub fn plan(fleet: &Fleet, members: &[Member], now: Timestamp) -> Plan {
    let before = fleet.rollout();
    let mut tally = Tally::of(members, before, now);
    let turn = turn(fleet, &tally, now);
    let mut rollout = turn.applied(fleet, &tally, now).map(|rollout| cut_to_bounds(rollout, now));
    if let (Turn::Begin(_), Some(begun)) = (&turn, &mut rollout) {
        tally = Tally::of(members, Some(begun), now);
        begun.tolerated = tally.failing;
        begun.pace_from.updated = tally.updated;
    }
    if let Some(rollout) = &mut rollout {
        rollout.updated = tally.updated;
        rollout.total = tally.total;
        rollout.failed = tally.failing;
        rollout.progress = format!("{}/{}", tally.updated, tally.total);
        rollout.eta = pace::eta(fleet, before, rollout, &tally, now);
    }
    let turns = turn != Turn::None;
    let actions = if turns { Vec::new() } else { actions(fleet, members, rollout.as_ref(), &tally, now) };
    let status = fleet.status;
    let handled = match (&turn, fleet.rotate_at) {
        (Turn::Begin(Trigger::OnDemand), RotateAt::At(at)) => Some(at),
        _ => status.last_handled_rotate_at.as_ref().map(|at| at.0),
    };
    let completed = matches!(turn, Turn::Complete).then_some(now);
    Plan {
        actions,
        turns,
        handled,
        ended: completed.or(status.last_rotation_time.as_ref().map(|at| at.0)),
        next: next(fleet, rollout.as_ref(), now),
        phase: phase(fleet, rollout.as_ref(), &tally, now),
        note: turn.note(rollout.as_ref()),
        wake: wake(fleet, rollout.as_ref(), &tally, now),
        rollout,
        tally,
    }
}

/// After the clock was set back, times that have passed are to come: they are cut once and for all, as those of an object.
fn cut_to_bounds(mut rollout: Rollout, now: Timestamp) -> Rollout {
    let always = [&mut rollout.started_at, &mut rollout.pace_from.time];
    let perhaps = rollout.completed_at.iter_mut().chain(&mut rollout.halted_at);
    for time in always.into_iter().chain(perhaps) {
        *time = seconds(now).min(time.clone());
    }
    rollout
}

fn actions(
    fleet: &Fleet,
    members: &[Member],
    rollout: Option<&Rollout>,
    tally: &Tally,
    now: Timestamp,
) -> Vec<Action> {
    let halted = rollout.is_some_and(|rollout| rollout.halted_at.is_some());
    let mut actions = Vec::new();
    if fleet.suspended {
        return actions;
    }
    let mut free = if halted { 0 } else { places(fleet.limits, rollout, tally) };
    if fleet.window_fits {
        let starts = starts(fleet, members, rollout, now);
        actions.extend(starts.take(free as usize));
        free = free.saturating_sub(actions.len().try_into().unwrap_or(u32::MAX));
        mend(fleet.limits, members, free, &mut actions);
    }
    if !fleet.degraded && !halted {
        let vanished = members.iter().enumerate().filter(|(_, member)| {
            !member.wanted && matches!(&member.child, Child::Ours(facts) if !facts.deleting)
        });
        actions.extend(vanished.map(|(member, _)| match fleet.limits.prune {
            Prune::Delete => Action::Delete { member },
            Prune::Orphan => Action::Orphan { member },
        }));
    }
    actions
}

/// Places that are free in the wave. A failed instance may recover at any time, so it keeps its place while there are
/// others; where the operator restarts instances, also when there is none.
fn places(limits: Limits, rollout: Option<&Rollout>, tally: &Tally) -> u32 {
    let tolerated = rollout.map_or(0, |rollout| rollout.tolerated);
    let failing = tally.failing.saturating_sub(tolerated);
    let open = rollout.is_some_and(|rollout| rollout.completed_at.is_none());
    let least = u32::from(!limits.reboot || !open);
    limits.wave().saturating_sub(failing).max(least).saturating_sub(tally.busy)
}

/// What may be started, in the order in which it is: what has failed before comes last.
fn starts<'a>(
    fleet: &Fleet,
    members: &'a [Member],
    rollout: Option<&'a Rollout>,
    now: Timestamp,
) -> impl Iterator<Item = Action> + 'a {
    let open = rollout.filter(|rollout| rollout.completed_at.is_none());
    let rotates = open.filter(|rollout| rollout.trigger != Trigger::Initial);
    let stamps = rotates.filter(|rollout| rollout.trigger != Trigger::Schedule || fleet.is_open(now));
    let start = move |member: usize, failed: bool| {
        let Member { wanted: true, child } = &members[member] else { return None };
        match child {
            Child::Missing if !failed => {
                Some(Action::Create { member, stamp: rotates.map(|rollout| rollout.id.0) })
            }
            Child::Ours(facts) => {
                let fits = match facts.standing(rollout, now) {
                    Standing::AtRest | Standing::Aside => !failed,
                    Standing::Failed { .. } => failed,
                    Standing::Busy { .. } | Standing::Elsewhere => false,
                };
                let stamp = facts.stamp(stamps?, now).filter(|_| fits)?;
                Some(Action::Stamp { member, stamp })
            }
            Child::Missing | Child::Elsewhere | Child::Foreign => None,
        }
    };
    let sound = (0..members.len()).filter_map(move |member| start(member, false));
    sound.chain((0..members.len()).filter_map(move |member| start(member, true)))
}

/// Brings children back that are not what they should be: that rotates nothing. Where it lets the operator restart an
/// instance that has waited for a person until now, it takes a place.
fn mend(limits: Limits, members: &[Member], mut free: u32, actions: &mut Vec<Action>) {
    let mut started = actions
        .iter()
        .filter_map(|action| match action {
            Action::Stamp { member, .. } => Some(*member),
            _ => None,
        })
        .collect::<Vec<_>>();
    started.sort_unstable();
    for (member, Member { wanted, child }) in members.iter().enumerate() {
        let Child::Ours(facts @ Facts { drifted: true, deleting: false, .. }) = child else { continue };
        if !wanted || started.binary_search(&member).is_ok() {
            continue;
        }
        if limits.reboot && facts.restart == Restart::Person {
            if free == 0 {
                continue;
            }
            free -= 1;
        }
        actions.push(Action::Update { member, stamp: facts.stamped });
    }
}

fn phase(fleet: &Fleet, rollout: Option<&Rollout>, tally: &Tally, now: Timestamp) -> Phase {
    let open = rollout.filter(|rollout| rollout.completed_at.is_none());
    if fleet.suspended {
        Phase::Suspended
    } else if open.is_some_and(|rollout| rollout.halted_at.is_some()) {
        Phase::Halted
    } else if tally.busy + tally.missing > 0 {
        Phase::Rolling
    } else if open.is_some_and(|rollout| rollout.trigger == Trigger::Schedule && !fleet.is_open(now)) {
        Phase::WindowClosed
    } else if open.is_some() {
        Phase::Rolling
    } else {
        Phase::AtRest
    }
}

/// The next turn, where one comes by itself.
fn next(fleet: &Fleet, rollout: Option<&Rollout>, now: Timestamp) -> Option<Timestamp> {
    if fleet.suspended {
        return fleet.status.next_rotation_time.as_ref().map(|at| at.0);
    }
    let rollout = rollout.filter(|rollout| rollout.halted_at.is_none())?;
    fleet.schedule.as_ref().ok()?.next(rollout.started_at.0, 0.0, now)
}

fn wake(fleet: &Fleet, rollout: Option<&Rollout>, tally: &Tally, now: Timestamp) -> Option<Timestamp> {
    let asked = fleet.on_demand();
    let turn =
        rollout.filter(|rollout| rollout.completed_at.is_some()).and_then(|_| next(fleet, rollout, now));
    let open = rollout.is_some_and(|rollout| rollout.completed_at.is_none());
    let opening = fleet.schedule.as_ref().ok().filter(|_| open).and_then(|plan| plan.opening(now));
    let times = [asked, turn, opening].into_iter().flatten().filter(|_| !fleet.suspended);
    times.chain(tally.wake).filter(|at| *at > now).min()
}
