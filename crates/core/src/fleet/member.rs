//! One member of a fleet: the state of its member object, and its phase in a rollout.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{Condition, ConditionStatus, ConditionType, Reason, Rollout, Trigger, VncPasswordStatus},
    rotation::{rotate_at::RotateAt, verdict::after},
};

/// How long a member keeps its slot in the wave while it waits for its instance.
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
/// A rotation that takes this long counts as failed.
const ROTATION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

/// An instance that the fleet selects, or whose member object must be pruned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Whether the fleet selects the instance. If not, its member object is pruned.
    pub selected: bool,
    /// Its member object.
    pub object: MemberObject,
}

/// The object that has the name of a member object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberObject {
    /// Does not exist, and no other `VncPassword` manages the instance.
    Missing,
    /// Does not exist, and another `VncPassword` manages the instance.
    OwnedElsewhere,
    /// Not a member object of this fleet: owner, name and instance ID do not agree.
    Conflict,
    /// A member object of this fleet.
    Owned(MemberState),
}

/// The state of a member object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// Whether it is Ready.
    pub ready: bool,
    /// What it does now.
    pub activity: Activity,
    /// The restart that its password waits for.
    pub restart: Restart,
    /// The annotation `vncpassword.dev/rotate-at`.
    pub rotate_at: Option<Timestamp>,
    /// `status.lastHandledRotateAt`. It can be set before the rotation is complete.
    pub last_handled_rotate_at: Option<Timestamp>,
    /// `status.lastRotationTime`.
    pub last_rotation: Option<Timestamp>,
    /// Whether it differs from what the fleet would write now.
    pub drifted: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// What a member object does now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    /// Nothing.
    Idle,
    /// A rotation is under way.
    Working {
        /// When it began; `None` if it only waits for the rate limit.
        since: Option<Timestamp>,
        /// The reason of the condition Reconciling.
        reason: Reason,
    },
    /// The instance is in a status in which it accepts no password.
    WaitingForInstance {
        /// When the wait began.
        since: Timestamp,
    },
    /// The instance has no VNC.
    Unsupported,
    /// A person must act.
    Failed {
        /// The reason of the condition Stalled.
        reason: Reason,
        /// When it failed.
        since: Timestamp,
    },
    /// Another `VncPassword` manages the instance.
    OwnedElsewhere,
    /// `spec.suspend` is set on the member object.
    Suspended,
}

/// Who performs the restart that a password waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    /// No restart is needed.
    None,
    /// A person.
    Person,
    /// The operator.
    Operator,
}

/// A member object as in the cache of the watch.
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
    /// Whether labels, annotations other than `rotate-at`, or spec differ from what the fleet would write.
    pub drifted: bool,
    /// Whether it has a deletionTimestamp.
    pub deleting: bool,
}

impl MemberState {
    /// Derives the state of a member object.
    #[must_use]
    pub fn read(observation: &Observation) -> Self {
        let Observation { created, generation, rotate_at, suspended, status, drifted, deleting } =
            *observation;
        Self {
            created,
            ready: status.ready() == ConditionStatus::True,
            activity: if suspended { Activity::Suspended } else { activity(status) },
            restart: restart(status, generation),
            rotate_at: match rotate_at {
                RotateAt::At(at) => Some(at),
                RotateAt::Never | RotateAt::Invalid => None,
            },
            last_handled_rotate_at: status.last_handled_rotate_at.as_ref().map(|at| at.0),
            last_rotation: status.last_rotation_time.as_ref().map(|at| at.0),
            // An invalid value would block all later rotations.
            drifted: drifted || rotate_at == RotateAt::Invalid,
            deleting,
        }
    }

    /// Whether a password that was drawn for `rollout` or later is in effect.
    ///
    /// For a member object created after the rollout began, its creation counts as the request: its first
    /// password is new. If its Secret existed before, `last_rotation` shows the age of the password.
    #[must_use]
    pub fn is_updated(&self, rollout: &Rollout) -> bool {
        let id = Some(rollout.id.0);
        match rollout.trigger {
            Trigger::Initial => self.last_rotation.is_some(),
            Trigger::Schedule | Trigger::OnDemand => {
                let drawn_for_it = self.last_handled_rotate_at >= id || Some(self.created) >= id;
                drawn_for_it && self.last_rotation >= id && self.restart == Restart::None
            }
        }
    }

    /// The `rotate-at` that `rollout` must set; `None` if it is set already or not needed.
    pub(super) fn rotate_at_for(&self, rollout: &Rollout, now: Timestamp) -> Option<Timestamp> {
        // The first password of a member object that is newer than the rollout is drawn later anyway.
        let first_pending = self.created >= rollout.id.0 && self.last_rotation.is_none();
        let initial = rollout.trigger == Trigger::Initial;
        if initial || self.is_updated(rollout) || first_pending || self.deleting {
            return None;
        }
        // A `rotate-at` that is older than the object counts as handled.
        let rotate_at = rollout.id.0.max(self.created);
        let requested = self.rotate_at.is_some_and(|at| at == rotate_at || (at > rotate_at && at <= now));
        (!requested && self.last_handled_rotate_at < Some(rotate_at)).then_some(rotate_at)
    }

    /// Whether its `rotate-at` is due and not handled yet.
    fn is_rotation_requested(&self, rollout: Option<&Rollout>, now: Timestamp) -> bool {
        // A future time, set by a user, starts nothing yet. Two times count as due although they can be ahead
        // of the clock: the creation time, and the id of the rollout, which is later than the previous id.
        let id = rollout.map_or(Timestamp::MIN, |rollout| rollout.id.0);
        let latest = now.max(self.created).max(id);
        let is_due =
            |at: Timestamp| Some(at) > self.last_handled_rotate_at && at >= self.created && at <= latest;
        self.rotate_at.is_some_and(is_due)
    }

    /// Its phase, with respect to a rollout if there is one.
    pub(super) fn phase(&self, rollout: Option<&Rollout>, now: Timestamp) -> MemberPhase {
        if self.deleting {
            return MemberPhase::Rotating { until: None };
        }
        match self.activity {
            Activity::OwnedElsewhere => MemberPhase::OwnedElsewhere,
            Activity::Suspended | Activity::Unsupported => MemberPhase::Waiting,
            _ if self.restart == Restart::Operator => MemberPhase::Rotating { until: None },
            Activity::Failed { reason, since } => MemberPhase::Failed { reason, since },
            Activity::Working { since: None, .. } => MemberPhase::Rotating { until: None },
            Activity::Working { since: Some(since), reason } => {
                let since = since.min(now);
                let until = after(since, ROTATION_TIMEOUT);
                if until <= now {
                    MemberPhase::Failed { reason, since }
                } else {
                    MemberPhase::Rotating { until: Some(until) }
                }
            }
            Activity::WaitingForInstance { since } => {
                let until = after(since.min(now), INSTANCE_TIMEOUT);
                if until > now { MemberPhase::Rotating { until: Some(until) } } else { MemberPhase::Waiting }
            }
            Activity::Idle if self.restart == Restart::Person => MemberPhase::Idle,
            Activity::Idle => {
                let never_applied = self.last_rotation.is_none() && !self.ready;
                if never_applied || self.is_rotation_requested(rollout, now) {
                    MemberPhase::Rotating { until: None }
                } else {
                    MemberPhase::Idle
                }
            }
        }
    }
}

/// The phase of a member object in a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MemberPhase {
    /// Nothing is under way.
    Idle,
    /// It uses a slot of the wave. `until`: when it loses the slot if nothing changes.
    Rotating { until: Option<Timestamp> },
    /// It cannot continue now, and the rollout does not wait for it.
    Waiting,
    /// A person must act.
    Failed { reason: Reason, since: Timestamp },
    /// Another `VncPassword` manages the instance.
    OwnedElsewhere,
}

fn activity(status: &VncPasswordStatus) -> Activity {
    if let Some(Condition { reason, last_transition_time, .. }) = status.condition(ConditionType::Stalled) {
        return match reason {
            Reason::Conflict => Activity::OwnedElsewhere,
            Reason::InstanceUnsupported => Activity::Unsupported,
            // The window and `rotate-at` are the fleet's own. The password is not affected.
            Reason::InvalidSchedule | Reason::InvalidRotateAt => Activity::Idle,
            reason => Activity::Failed { reason: *reason, since: last_transition_time.0 },
        };
    }
    let Some(reconciling) = status.condition(ConditionType::Reconciling) else { return Activity::Idle };
    let since = reconciling.last_transition_time.0;
    match reconciling.reason {
        Reason::IncorrectInstanceStatus | Reason::InstanceNotReady => Activity::WaitingForInstance { since },
        // It waits for the rate limit, so it cannot be late.
        reason @ (Reason::Throttled | Reason::ChangedTooOften) => Activity::Working { since: None, reason },
        reason => Activity::Working { since: Some(since), reason },
    }
}

fn restart(status: &VncPasswordStatus, generation: i64) -> Restart {
    if status.condition(ConditionType::RebootRequired).is_none() {
        return Restart::None;
    }
    // Under a spec that was not reconciled yet, assume that the operator restarts the instance.
    let spec_observed = status.observed_generation == Some(generation);
    let by_operator = status.reason(ConditionType::Reconciling) == Some(Reason::RebootRequired);
    if by_operator || !spec_observed { Restart::Operator } else { Restart::Person }
}
