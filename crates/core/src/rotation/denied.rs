//! Which objects lack a right that others lack too (N8), and what makes one of them try before its turn (N9).

use jiff::Timestamp;

use super::{facts::Observed, hold::conflicted, rotate_at::RotateAt};
use crate::api::{ConditionType, Reason, VncPasswordStatus};

/// The code of an instance that is locked: this concerns no other instance (DESIGN.md, N8).
const LOCKED: &str = "InstanceLockedForSecurity";

/// A right that the identity lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MissingRight<'a> {
    /// To set the password: the API refuses it with this code.
    SetPassword(&'a str),
    /// To see the instance.
    SeeInstance,
}

/// The right that the object lacks, if others may lack it too.
#[must_use]
pub fn missing_right(status: &VncPasswordStatus) -> Option<MissingRight<'_>> {
    match status.reason(ConditionType::Stalled)? {
        Reason::Denied => {
            let code = status.retry.as_ref().and_then(|retry| retry.code.as_deref()).unwrap_or_default();
            is_shared(code).then_some(MissingRight::SetPassword(code))
        }
        Reason::InstanceUnknown => Some(MissingRight::SeeInstance),
        _ => None,
    }
}

/// Whether a refusal with that code may concern other instances too.
#[must_use]
pub fn is_shared(code: &str) -> bool {
    code != LOCKED
}

/// Whether an object is tried among those that lack the same right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupRetry {
    /// It waits while others are tried.
    Waits,
    /// It is tried. Instance polls from then on count.
    Tries {
        /// When its try began.
        since: Timestamp,
    },
}

/// When the object was last tried, as its status says.
#[must_use]
pub fn last_tried(status: &VncPasswordStatus) -> Option<Timestamp> {
    let failed = status.retry.as_ref().and_then(|retry| retry.last_failure_time.as_ref());
    let stalled = status.condition(ConditionType::Stalled).map(|condition| &condition.last_transition_time);
    failed.max(stalled).map(|at| at.0)
}

/// Whether the annotation `rotate-at` is due and has not been tried yet. `tried`: the annotation at the last try; `None`: a
/// process before this one made that.
#[must_use]
pub fn is_rotate_at_new(observed: &Observed, tried: Option<RotateAt>, now: Timestamp) -> bool {
    let RotateAt::At(at) = observed.rotate_at else { return false };
    let new = match tried {
        Some(tried) => tried != observed.rotate_at,
        None => last_tried(&observed.status).is_none_or(|last| at > last),
    };
    new && observed.on_demand(&observed.status).is_some_and(|due| due <= now)
}

/// Whether a change justifies a try before the group's turn.
#[must_use]
pub fn triggers_immediate_try(observed: &Observed) -> bool {
    let secret = match missing_right(&observed.status) {
        Some(MissingRight::SetPassword(_)) => {
            observed.secret.as_ref().zip(observed.history.examined.as_ref())
        }
        Some(MissingRight::SeeInstance) | None => None,
    };
    observed.status.observed_generation != Some(observed.generation)
        || secret.is_some_and(|(current, examined)| current != examined)
        || conflicted(observed)
        || observed.credentials_changed
        || observed.history.rotate_at_is_new
}
