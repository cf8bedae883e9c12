//! Writes of this process that its watch does not show yet.
//!
//! Without expectations, a plan from a stale cache would assign the same slots again. They are kept in memory
//! only: a restarted process lists all member objects again.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::member::{Activity, Member, MemberObject, MemberState, Restart};
use crate::{api::Reason, rotation::verdict::after};

/// A write that the watch does not show after this time has been reverted.
const TIMEOUT: Duration = Duration::from_secs(2 * 60);

const ROLLING_OUT: Activity = Activity::Working { since: None, reason: Reason::RollingOut };

/// Expected changes of member objects, by instance ID.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    writes: BTreeMap<Box<str>, Write>,
}

#[derive(Clone, Copy, Debug)]
struct Write {
    rotate_at: Option<Timestamp>,
    creates: bool,
    at: Timestamp,
}

impl Expectations {
    /// Expects a new member object.
    pub fn expect_create(&mut self, instance_id: &str, rotate_at: Option<Timestamp>, now: Timestamp) {
        self.writes.insert(instance_id.into(), Write { rotate_at, creates: true, at: now });
    }

    /// Expects a new `rotate-at` on a member object.
    pub fn expect_rotate_at(&mut self, instance_id: &str, rotate_at: Timestamp, now: Timestamp) {
        let write = Write { rotate_at: Some(rotate_at), creates: false, at: now };
        self.writes.insert(instance_id.into(), write);
    }

    /// When the oldest expectation expires.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.writes.values().map(|write| after(write.at, TIMEOUT)).min()
    }

    /// Adjusts all times after the wall clock was set back. `by` is negative.
    pub fn set_back(&mut self, by: SignedDuration) {
        for write in self.writes.values_mut() {
            write.at = write.at.saturating_add(by).unwrap_or(write.at);
        }
    }

    /// Removes the expectation of a write that failed.
    pub fn remove(&mut self, instance_id: &str) {
        self.writes.remove(instance_id);
    }

    /// Applies the expected changes to `members`, and removes the expectations that are fulfilled or expired.
    /// `ids`: the instance IDs of the members, in the same order.
    pub fn apply<'a>(
        &mut self,
        ids: impl IntoIterator<Item = &'a str>,
        members: &mut [Member],
        now: Timestamp,
    ) {
        self.writes.retain(|_, write| after(write.at, TIMEOUT) > now);
        if self.writes.is_empty() {
            return;
        }
        for (id, member) in ids.into_iter().zip(members) {
            let Some(write) = self.writes.get(id) else { continue };
            match &mut member.object {
                object @ MemberObject::Missing if write.creates => {
                    *object = MemberObject::Owned(created(write));
                }
                MemberObject::Owned(state) if !write.creates && state.rotate_at < write.rotate_at => {
                    state.rotate_at = write.rotate_at;
                    state.drifted = false;
                    // The cached state is older than the write. A failure or a wait may have ended since.
                    state.activity = ROLLING_OUT;
                }
                _ => {
                    self.writes.remove(id);
                }
            }
        }
    }
}

/// The state of a new member object that has not been reconciled yet.
fn created(write: &Write) -> MemberState {
    MemberState {
        created: write.at,
        ready: false,
        activity: ROLLING_OUT,
        restart: Restart::None,
        rotate_at: write.rotate_at,
        last_handled_rotate_at: None,
        last_rotation: None,
        drifted: false,
        deleting: false,
    }
}
