//! How a reconcile learns whether its object is tried among those that lack the same right, and how it reports the result.

use std::time::Instant;

use super::Pass;
use crate::{
    api::VncPasswordStatus,
    controller::{
        denied_groups::{GroupKey, Moment, TryResult},
        identities::Identities,
    },
    ecs::Action,
    rotation::{
        denied::{self, GroupRetry, MissingRight},
        facts::{Access, Owner},
        outcome::{self, Class, Reply},
        rotate_at::RotateAt,
    },
};

impl Pass<'_> {
    /// Learns the object's group from its status, and whether the object is tried now.
    pub(super) fn observe_group(&mut self) {
        let (context, key, now) = (self.context, &self.object.key, self.moment());
        let tried = context.registry.remember(&self.object, |memory| memory.tried_rotate_at).flatten();
        self.observed.history.rotate_at_is_new = denied::is_rotate_at_new(&self.observed, tried, now.wall);
        let acts = self.observed.owner == Owner::This
            && !self.observed.spec.suspend
            && !self.observed.deleting
            && matches!(self.observed.access, Access::Granted | Access::Unread);
        let Some(group) = acts.then(|| self.group_of(&self.observed.status)).flatten() else {
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
            context.wake_all(started.into_iter().filter(|started| started != key).collect());
        }
        let since = context.denied.try_started_at(key);
        self.observed.history.group_retry =
            Some(since.map_or(GroupRetry::Waits, |since| GroupRetry::Tries { since }));
    }

    /// The group of an object with that status.
    fn group_of(&self, status: &VncPasswordStatus) -> Option<GroupKey> {
        let (action, code) = match denied::missing_right(status)? {
            MissingRight::SetPassword(code) => (Action::ModifyInstanceVncPasswd, code),
            MissingRight::SeeInstance => (Action::DescribeInstances, ""),
        };
        let identity = Identities::name(&self.object).as_ref().into();
        let region = self.observed.region.as_deref()?.into();
        Some(GroupKey { identity, region, action, code: code.into() })
    }

    /// Takes in the status that the reconcile ends with. Ends the try if it made no password call. `in_line`: the object waits
    /// for its turn in the rate limiter.
    pub(super) fn update_group(&self, status: &VncPasswordStatus, in_line: bool) {
        let (context, key, now) = (self.context, &self.object.key, self.moment());
        let right = denied::missing_right(status);
        let is_tried = context.denied.try_started_at(key).is_some();
        if is_tried && in_line && right.is_some() {
            return context.denied.extend_try(key, now);
        }
        if is_tried {
            let saw = denied::missing_right(&self.observed.status) == Some(MissingRight::SeeInstance)
                && self.observed.io_optimized().is_some();
            self.ended_try(match right {
                Some(MissingRight::SeeInstance) => TryResult::Denied,
                _ if saw => TryResult::Allowed,
                _ => TryResult::Inconclusive,
            });
        }
        let begins = self.observed.history.group_retry.is_none();
        if right == Some(MissingRight::SeeInstance) && (is_tried || begins) {
            self.remember_try();
        }
        match self.group_of(status) {
            Some(group) => context.denied.insert(key, &group, None, now),
            None => context.denied.remove(key),
        }
    }

    /// The API has answered a call for a password.
    pub(super) fn replied(&self, reply: &Reply) {
        let shared = !matches!(reply, Reply::Refused { code, .. } if !denied::is_shared(code));
        self.ended_try(match outcome::classify(reply) {
            Class::Denied if shared => TryResult::Denied,
            // We assume that the API checks the rights before the instance's state.
            Class::Accepted | Class::Waiting => TryResult::Allowed,
            _ => TryResult::Inconclusive,
        });
        if !matches!(reply, Reply::Accepted { .. }) {
            self.remember_try();
        }
    }

    fn ended_try(&self, result: TryResult) {
        let started = self.context.denied.ended(&self.object.key, result, self.moment());
        self.context.wake_all(started);
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
