//! One instance of a fleet: what is known of its child, and how that stands.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{Condition, ConditionStatus, ConditionType, Reason, Rollout, Trigger, VncPasswordStatus},
    rotation::{rotate_at::RotateAt, verdict::after},
};

/// So long an instance in the wrong state holds a place in the wave.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// What has been under way for so long counts as failed.
const OVERDUE: Duration = Duration::from_secs(60 * 60);

/// An instance of a fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whether it is selected. Otherwise its child is to be pruned.
    pub wanted: bool,
    /// Its child.
    pub child: Child,
}

/// What stands under a child's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Child {
    /// Nothing, and no other `VncPassword` has the instance.
    Missing,
    /// Nothing, and another `VncPassword` has the instance.
    Elsewhere,
    /// An object that is not the fleet's: owner, name and instance do not agree.
    Foreign,
    /// The fleet's `VncPassword`.
    Ours(Facts),
}

/// What is known of a child.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Whether it is Ready.
    pub ready: bool,
    /// What it is doing.
    pub state: State,
    /// A password that waits for a restart.
    pub restart: Restart,
    /// The annotation `vncpassword.dev/rotate-at`.
    pub stamped: Option<Timestamp>,
    /// `status.lastHandledRotateAt`. It can be told before the rotation is done.
    pub handled: Option<Timestamp>,
    /// `status.lastRotationTime`.
    pub rotated: Option<Timestamp>,
    /// It is not what the fleet would write now.
    pub drifted: bool,
    /// It is being deleted.
    pub deleting: bool,
}

/// What a child is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    Idle,
    /// Something is under way. `since`: when it began, unless it only waits its turn.
    Working {
        /// When.
        since: Option<Timestamp>,
        /// What stands in the way.
        reason: Reason,
    },
    /// The instance is in a state in which it takes no password.
    Waiting {
        /// Since when.
        since: Timestamp,
    },
    /// The instance has no VNC.
    Unsupported,
    /// It needs a person.
    Failed {
        /// Why.
        reason: Reason,
        /// Since when.
        since: Timestamp,
    },
    /// The instance belongs to another `VncPassword`.
    Elsewhere,
    /// A person has suspended it.
    Suspended,
}

/// Who restarts an instance with a password that waits for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// None is needed.
    None,
    /// A person.
    Person,
    /// The operator.
    Operator,
}

/// A child as the watch shows it.
#[derive(Clone, Copy, Debug)]
pub struct Observation<'a> {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.generation`.
    pub generation: i64,
    /// The annotation `vncpassword.dev/rotate-at`.
    pub rotate_at: RotateAt,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Its status.
    pub status: &'a VncPasswordStatus,
    /// Whether labels, annotations or spec are not what the fleet would write, `rotate-at` left aside.
    pub drifted: bool,
    /// Whether it has a deletionTimestamp.
    pub deleting: bool,
}

impl Facts {
    /// Reads a child.
    #[must_use]
    pub fn read(seen: &Observation) -> Self {
        let Observation { created, generation, rotate_at, suspended, status, drifted, deleting } = *seen;
        let stamped = match rotate_at {
            RotateAt::At(at) => Some(at),
            RotateAt::Never | RotateAt::Invalid => None,
        };
        Self {
            created,
            ready: status.ready() == ConditionStatus::True,
            state: if suspended { State::Suspended } else { state(status) },
            restart: restart(status, generation),
            stamped,
            handled: status.last_handled_rotate_at.as_ref().map(|at| at.0),
            rotated: status.last_rotation_time.as_ref().map(|at| at.0),
            // One that is no time would stop every rotation that follows.
            drifted: drifted || rotate_at == RotateAt::Invalid,
            deleting,
        }
    }

    /// Whether it has a password that was drawn for that rollout or later, in effect.
    ///
    /// What was created since then counts from its creation: its first password is new, and of an older one that a Secret
    /// kept for it, `rotated` tells the age.
    #[must_use]
    pub fn covered(&self, rollout: &Rollout) -> bool {
        let id = Some(rollout.id.0);
        match rollout.trigger {
            Trigger::Initial => self.rotated.is_some(),
            Trigger::Schedule | Trigger::OnDemand => {
                let drawn_for_it = self.handled >= id || Some(self.created) >= id;
                drawn_for_it && self.rotated >= id && self.restart == Restart::None
            }
        }
    }

    /// The stamp by which it is asked for that rollout; `None`: it has been asked, or needs not be.
    pub(super) fn stamp(&self, rollout: &Rollout, now: Timestamp) -> Option<Timestamp> {
        // The first password of a child that is younger than the rollout is still to come, and will do.
        let young = self.created >= rollout.id.0 && self.rotated.is_none();
        if rollout.trigger == Trigger::Initial || self.covered(rollout) || young || self.deleting {
            return None;
        }
        // A child takes a stamp that is older than itself for handled.
        let stamp = rollout.id.0.max(self.created);
        let asked = self.stamped.is_some_and(|at| at == stamp || (at > stamp && at <= now));
        (!asked && self.handled < Some(stamp)).then_some(stamp)
    }

    /// Whether it has been asked for a rotation and has not shown yet that it knows.
    fn asked(&self, rollout: Option<&Rollout>, now: Timestamp) -> bool {
        // A time to come, somebody's own wish, starts nothing yet; but the stamp of the second in which it was created does, and
        // that of the rollout: its id may be ahead of the clock, since it is later than the one before.
        let own = rollout.map_or(Timestamp::MIN, |rollout| rollout.id.0);
        let latest = now.max(self.created).max(own);
        self.stamped.is_some_and(|at| Some(at) > self.handled && at >= self.created && at <= latest)
    }

    /// How it stands, under a rollout where there is one.
    pub(super) fn standing(&self, rollout: Option<&Rollout>, now: Timestamp) -> Standing {
        if self.deleting {
            return Standing::Busy { until: None };
        }
        match self.state {
            State::Elsewhere => Standing::Elsewhere,
            State::Suspended | State::Unsupported => Standing::Aside,
            _ if self.restart == Restart::Operator => Standing::Busy { until: None },
            State::Failed { reason, since } => Standing::Failed { reason, since },
            State::Working { since, reason } => {
                match since.map(|since| (since.min(now), after(since.min(now), OVERDUE))) {
                    Some((since, until)) if until <= now => Standing::Failed { reason, since },
                    until => Standing::Busy { until: until.map(|(_, until)| until) },
                }
            }
            State::Waiting { since } => match after(since.min(now), PATIENCE) {
                until if until > now => Standing::Busy { until: Some(until) },
                _ => Standing::Aside,
            },
            State::Idle if self.restart == Restart::Person => Standing::AtRest,
            State::Idle if self.asked(rollout, now) || (self.rotated.is_none() && !self.ready) => {
                Standing::Busy { until: None }
            }
            State::Idle => Standing::AtRest,
        }
    }
}

/// How a child stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Nothing is under way.
    AtRest,
    /// It holds a place in the wave; `until`: when it loses that although nothing has happened.
    Busy { until: Option<Timestamp> },
    /// It would go on if it could, and nobody waits for it.
    Aside,
    /// It needs a person.
    Failed { reason: Reason, since: Timestamp },
    /// Another `VncPassword` has the instance.
    Elsewhere,
}

fn state(status: &VncPasswordStatus) -> State {
    if let Some(Condition { reason, last_transition_time, .. }) = status.condition(ConditionType::Stalled) {
        return match reason {
            Reason::Conflict => State::Elsewhere,
            Reason::InstanceUnsupported => State::Unsupported,
            // Of the window or of a stamp, both of them the fleet's: nothing of the password.
            Reason::InvalidSchedule | Reason::InvalidRotateAt => State::Idle,
            reason => State::Failed { reason: *reason, since: last_transition_time.0 },
        };
    }
    let Some(under_way) = status.condition(ConditionType::Reconciling) else { return State::Idle };
    let since = under_way.last_transition_time.0;
    match under_way.reason {
        Reason::IncorrectInstanceStatus | Reason::InstanceNotReady => State::Waiting { since },
        // It waits its turn.
        reason @ (Reason::Throttled | Reason::ChangedTooOften) => State::Working { since: None, reason },
        reason => State::Working { since: Some(since), reason },
    }
}

fn restart(status: &VncPasswordStatus, generation: i64) -> Restart {
    if status.condition(ConditionType::RebootRequired).is_none() {
        return Restart::None;
    }
    // What it will do under a spec that it has not seen yet: the worst.
    let seen = status.observed_generation == Some(generation);
    let by_operator = status.reason(ConditionType::Reconciling) == Some(Reason::RebootRequired);
    if by_operator || !seen { Restart::Operator } else { Restart::Person }
}
