//! What a change in the registry requires of the watches.

use std::sync::Arc;

use jiff::Timestamp;

use super::contest::{Before, Term};
use crate::store::object::{Key, Object};

/// What a change in the registry requires, besides [`super::Registry::take_affected`].
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// The object was deleted, or replaced by another of the same name.
    pub gone: Option<Gone>,
    /// A Secret with credentials that no object names any more.
    pub released: Option<Key>,
    /// The previous version, if the object acts under another identity now.
    pub former: Option<Arc<Object>>,
    /// The fleets to enqueue.
    pub fleets: Concerned,
}

/// Which fleets a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Concerned {
    /// None.
    #[default]
    None,
    /// The one of that name and uid, if there is one.
    One(Arc<str>, Arc<str>),
    /// Any: an object without a fleet may affect all fleets.
    Any,
}

impl Concerned {
    pub(super) fn of(former: Option<&Object>, object: Option<&Object>) -> Self {
        let fleet = |object: &Object| {
            object.membership.as_ref().map(|member| (Arc::clone(&member.fleet), Arc::clone(&member.uid)))
        };
        match (former.map(fleet), object.map(fleet)) {
            (Some(Some(one)), Some(Some(other))) if one == other => Self::One(one.0, one.1),
            (Some(Some(one)), None) | (None, Some(Some(one))) => Self::One(one.0, one.1),
            (Some(None), Some(None)) if former.map(|f| f.generation) == object.map(|o| o.generation) => {
                Self::None
            }
            (None, None) => Self::None,
            _ => Self::Any,
        }
    }
}

/// A deleted object.
#[derive(Debug)]
pub(crate) struct Gone {
    /// Its last version.
    pub object: Arc<Object>,
    /// Calls that a former process may have made for it. Those of this process are in `InstanceLocks`.
    pub before: Before,
    /// No other object names the instance.
    pub unclaimed: bool,
}

impl Gone {
    /// Until when a call for it may still arrive that this process does not know of. `term`: that of this
    /// process. As long as another process leads, the status is all that tells, and no call that was made by
    /// now arrives after `latest`.
    pub fn unsettled_until(&self, term: Option<Term>, latest: Timestamp) -> Option<Timestamp> {
        match term {
            Some(term) => self.before.until(term, true),
            None => self.object.status.unsettled_until().map(|until| until.min(latest)),
        }
    }
}
