//! What this process has just started and the watch does not show yet. Without it, a plan made of an old view would give the
//! same places away again. Nothing is lost with it: whoever starts anew lists the children afresh.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::member::{Child, Facts, Member, Restart, State};
use crate::{api::Reason, rotation::verdict::after};

/// What is not seen after so long was undone by somebody.
const FORGOTTEN: Duration = Duration::from_secs(2 * 60);

const UNDER_WAY: State = State::Working { since: None, reason: Reason::RollingOut };

/// Writes of this process that are to be seen yet, by the instances' IDs.
#[derive(Clone, Debug, Default)]
pub struct Issued {
    writes: BTreeMap<Box<str>, Write>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    stamp: Option<Timestamp>,
    creates: bool,
    at: Timestamp,
}

impl Issued {
    /// Notes that a child was created.
    pub fn created(&mut self, instance_id: &str, stamp: Option<Timestamp>, now: Timestamp) {
        self.writes.insert(instance_id.into(), Write { stamp, creates: true, at: now });
    }

    /// Notes that a child was stamped.
    pub fn stamped(&mut self, instance_id: &str, stamp: Timestamp, now: Timestamp) {
        self.writes.insert(instance_id.into(), Write { stamp: Some(stamp), creates: false, at: now });
    }

    /// When the first of what was not seen is forgotten.
    #[must_use]
    pub fn forgotten_at(&self) -> Option<Timestamp> {
        self.writes.values().map(|write| after(write.at, FORGOTTEN)).min()
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&mut self, by: SignedDuration) {
        for write in self.writes.values_mut() {
            write.at = write.at.saturating_add(by).unwrap_or(write.at);
        }
    }

    /// A write came to nothing.
    pub fn undone(&mut self, instance_id: &str) {
        self.writes.remove(instance_id);
    }

    /// Puts what was written over what is seen, and forgets what is seen. `ids`: those of the members, in their order.
    pub fn overlay<'a>(
        &mut self,
        ids: impl IntoIterator<Item = &'a str>,
        members: &mut [Member],
        now: Timestamp,
    ) {
        self.writes.retain(|_, write| after(write.at, FORGOTTEN) > now);
        if self.writes.is_empty() {
            return;
        }
        for (id, member) in ids.into_iter().zip(members) {
            let Some(write) = self.writes.get(id) else { continue };
            match &mut member.child {
                child @ Child::Missing if write.creates => *child = Child::Ours(fresh(write)),
                Child::Ours(facts) if !write.creates && facts.stamped < write.stamp => {
                    facts.stamped = write.stamp;
                    facts.drifted = false;
                    // What is seen is older than the stamp: what failed or waited then may have come back since.
                    facts.state = UNDER_WAY;
                }
                _ => {
                    self.writes.remove(id);
                }
            }
        }
    }
}

/// A child that has not been looked at.
fn fresh(write: &Write) -> Facts {
    Facts {
        created: write.at,
        ready: false,
        state: UNDER_WAY,
        restart: Restart::None,
        stamped: write.stamp,
        handled: None,
        rotated: None,
        drifted: false,
        deleting: false,
    }
}
