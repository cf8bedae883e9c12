//! How a reconcile learns whether its object is tried among those that lack the same right, and how it
//! reports the result.

use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::Reconcile;
use crate::cloud::denied_groups::{GroupKey, Moment, TryResult};
use vncpassword_alicloud::Action;
use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        denied::{self, GroupRetry, MissingRight},
        facts::{Access, Found, Owner},
        outcome::{self, Class, Reply},
        rotate_at::RotateAt,
    },
};

impl Reconcile<'_> {
    /// Learns the object's group from its status, and whether the object is tried now.
    pub(super) fn observe_group(&mut self) {
        let (context, key, now) = (self.context, &self.object.key, self.moment());
        let tried = context.registry.remember(&self.object, |memory| memory.tried_rotate_at).flatten();
        self.observed.history.rotate_at_is_new = denied::is_rotate_at_new(&self.observed, tried, now.wall);
        let Some(group) = self.group_of(&self.observed.status) else {
            return context.denied.remove(key);
        };
        let earlier = denied::last_tried(&self.observed.status).filter(|_| tried.is_none());
        context.denied.insert(key, &group, earlier, now);
        // Proving a claim has its own backoff.
        if self.observed.prove_claim {
            return;
        }
        if denied::triggers_immediate_try(&self.observed) {
            let started = context.denied.request(key, now);
            context.enqueue_all(started.into_iter().filter(|started| started != key).collect());
        }
        let since = context.denied.try_started_at(key);
        self.group_try = since.map(|since| (group.action, since));
        self.observed.history.group_retry =
            Some(since.map_or(GroupRetry::Waits, |since| GroupRetry::Tries { since }));
    }

    /// The instance was polled since the try began, and is shown: the object no longer lacks the right to see
    /// it.
    pub(super) fn end_try_if_visible(&mut self) {
        let Some((Action::DescribeInstances, since)) = self.group_try else { return };
        let look = self.observed.look.as_ref().filter(|look| look.at >= since);
        if look.is_some_and(|look| matches!(look.found, Found::Seen(_))) {
            self.end_try(TryResult::Allowed);
            self.observed.history.group_retry = None;
        }
    }

    /// Whether the object may be called now. A try that waited for the rate limiter may find none left for
    /// its identity.
    pub(super) fn resume_try(&mut self) -> bool {
        let Some((Action::ModifyInstanceVncPasswd, _)) = self.group_try else { return true };
        let resumed = self.context.denied.resume(&self.object.key, self.moment());
        if !resumed {
            self.group_try = None;
            self.observed.history.group_retry = Some(GroupRetry::Waits);
        }
        resumed
    }

    /// The group of the object with that status. One that does not act, for instance while it is being
    /// deleted, would only use up the turns of the others.
    fn group_of(&self, status: &VncPasswordStatus) -> Option<GroupKey> {
        let acts = self.observed.owner == Owner::This
            && !self.observed.spec.suspend
            && !self.observed.deleting
            && matches!(self.observed.access, Access::Granted | Access::Unread);
        if !acts {
            return None;
        }
        let (action, code) = match denied::missing_right(status)? {
            MissingRight::SetPassword(code) => (Action::ModifyInstanceVncPasswd, code),
            MissingRight::SeeInstance => (Action::DescribeInstances, ""),
        };
        let identity = self.object.identity_name().as_ref().into();
        let region = self.observed.region.as_deref()?.into();
        Some(GroupKey { identity, region, action, code: code.into() })
    }

    /// Takes in the status that the reconcile ends with. Ends the try if it made no password call. `waits`:
    /// until when the object waits for the rate limiter.
    pub(super) fn update_group(&mut self, status: &VncPasswordStatus, waits: Option<Timestamp>) {
        let (context, now) = (self.context, self.moment());
        let right = denied::missing_right(status);
        if let Some((action, since)) = self.group_try {
            if let Some(until) = waits.filter(|_| right.is_some()) {
                let wait = Duration::try_from(until.duration_since(now.wall)).unwrap_or_default();
                return context.denied.wait_for_rate_limit(&self.object.key, wait, now);
            }
            let look = self.observed.look.as_ref().filter(|look| look.at >= since);
            let unseen = look.is_some_and(|look| matches!(look.found, Found::Unseen | Found::Refused));
            if action == Action::DescribeInstances && unseen {
                self.remember_try();
                self.end_try(TryResult::Denied);
            } else {
                self.end_try(TryResult::Inconclusive);
            }
        } else if right == Some(MissingRight::SeeInstance) && self.observed.history.group_retry.is_none() {
            self.remember_try();
        }
        match self.group_of(status) {
            Some(group) => context.denied.insert(&self.object.key, &group, None, now),
            None => context.denied.remove(&self.object.key),
        }
    }

    /// The API has answered a call for a password.
    pub(super) fn replied(&mut self, reply: &Reply) {
        let shared = !matches!(reply, Reply::Refused { code, .. } if !denied::is_shared(code));
        let result = match outcome::classify(reply) {
            Class::Denied if shared => TryResult::Denied,
            // We assume that the API checks the rights before the instance's state.
            Class::Accepted | Class::Waiting => TryResult::Allowed,
            _ => TryResult::Inconclusive,
        };
        // A call without a try counts only as a success.
        if self.group_try.is_some() || result == TryResult::Allowed {
            self.end_try(result);
        }
        if !matches!(reply, Reply::Accepted { .. }) {
            self.remember_try();
        }
    }

    fn end_try(&mut self, result: TryResult) {
        self.group_try = None;
        let started = self.context.denied.ended(&self.object.key, result, self.moment());
        self.context.enqueue_all(started);
    }

    /// Remembers the annotation that has been tried. One that is still to come has not.
    fn remember_try(&self) {
        let now = self.context.now();
        let due = self.observed.on_demand(&self.observed.status).is_none_or(|due| due <= now);
        let asked = if due { self.object.rotate_at } else { RotateAt::Never };
        self.context.registry.remember(&self.object, |memory| memory.tried_rotate_at = Some(asked));
    }

    fn moment(&self) -> Moment {
        Moment { wall: self.context.now(), instant: Instant::now() }
    }
}
