//! Which objects are denied the same (N8), and when one of them is tried at once (N9).

use jiff::Timestamp;

use super::{facts::Observed, hold::conflicted, rotate_at::RotateAt};
use crate::api::{ConditionType, Reason, VncPasswordStatus};

/// The code of an instance that is locked: that has to do with this instance alone.
const LOCKED: &str = "InstanceLockedForSecurity";

/// What the API denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denial<'a> {
    /// To set the password, with this code.
    Password(&'a str),
    /// To see the instance.
    Poll,
}

/// What the object is denied, where others may be denied the same.
#[must_use]
pub fn denial(status: &VncPasswordStatus) -> Option<Denial<'_>> {
    match status.reason(ConditionType::Stalled)? {
        Reason::Denied => {
            let code = status.retry.as_ref().and_then(|retry| retry.code.as_deref()).unwrap_or_default();
            (is_shared(code)).then_some(Denial::Password(code))
        }
        Reason::InstanceUnknown => Some(Denial::Poll),
        _ => None,
    }
}

/// Whether a refusal with that code counts for others as well.
#[must_use]
pub fn is_shared(code: &str) -> bool {
    code != LOCKED
}

/// Where the object stands among those that are denied the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupRetry {
    /// It waits while others are tried.
    Waits,
    /// It is tried. Instance polls count from then on.
    Tries {
        /// When it was its turn.
        since: Timestamp,
    },
}

/// Whether the annotation asks for a try that has not been made yet. `tried`: the annotation at the last try; `None`: that was
/// before this process.
#[must_use]
pub fn is_asked_again(observed: &Observed, tried: Option<RotateAt>, now: Timestamp) -> bool {
    let status = &observed.status;
    let RotateAt::At(at) = observed.rotate_at else { return false };
    let failed = status.retry.as_ref().and_then(|retry| retry.last_failure_time.as_ref());
    let stalled = status.condition(ConditionType::Stalled).map(|condition| &condition.last_transition_time);
    let new = match tried {
        Some(tried) => tried != observed.rotate_at,
        None => failed.max(stalled).is_none_or(|last| at > last.0),
    };
    new && observed.on_demand(status).is_some_and(|due| due <= now)
}

/// Whether something has changed that the object is tried for at once, although others are denied the same.
#[must_use]
pub fn tries_at_once(observed: &Observed) -> bool {
    let secret = match denial(&observed.status) {
        Some(Denial::Password(_)) => observed.secret.as_ref().zip(observed.history.examined.as_ref()),
        Some(Denial::Poll) | None => None,
    };
    observed.status.observed_generation != Some(observed.generation)
        || secret.is_some_and(|(current, examined)| current != examined)
        || conflicted(observed)
        || observed.credentials_changed
        || observed.history.asked_again
}
