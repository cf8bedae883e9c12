//! How a reconcile finds out whether its object is tried among those that are denied the same, and tells how the try ended.

use std::time::Instant;

use super::Pass;
use crate::{
    api::{ConditionType, VncPasswordStatus},
    controller::{
        denied::{Cause, TryEnd},
        identities::Identities,
    },
    ecs::Action,
    rotation::{
        denied::{self, Denial, GroupRetry},
        facts::{Access, Owner},
        outcome::{self, Class, Reply},
    },
};

impl Pass<'_> {
    /// Finds its place among the objects that are denied the same, and whether it is tried now.
    pub(super) fn join_group(&mut self) {
        let (context, key, now) = (self.context, &self.object.key, self.context.now());
        let tried = context.registry.remember(&self.object, |memory| memory.tried_rotate_at).flatten();
        self.observed.history.asked_again = denied::is_asked_again(&self.observed, tried, now);
        let acts = self.observed.owner == Owner::This
            && !self.observed.spec.suspend
            && !self.observed.deleting
            && matches!(self.observed.access, Access::Granted | Access::Unread);
        let Some(cause) = acts.then(|| self.cause(&self.observed.status)).flatten() else {
            return context.denied.leave(key, Instant::now());
        };
        self.enter_group(&cause, &self.observed.status);
        // It has a backoff of its own.
        if self.observed.prove_claim {
            return;
        }
        if denied::tries_at_once(&self.observed) {
            let started = context.denied.ask(key, now, Instant::now());
            context.wake_all(started.into_iter().filter(|started| started != key).collect());
        }
        let since = context.denied.tried_since(key);
        self.observed.history.group_retry =
            Some(since.map_or(GroupRetry::Waits, |since| GroupRetry::Tries { since }));
    }

    /// What an object with that status is denied, and by whom.
    fn cause(&self, status: &VncPasswordStatus) -> Option<Cause> {
        let (action, code) = match denied::denial(status)? {
            Denial::Password(code) => (Action::ModifyInstanceVncPasswd, code),
            Denial::Poll => (Action::DescribeInstances, ""),
        };
        let identity = Identities::name(&self.object).as_ref().into();
        let region = self.observed.region.as_deref()?.into();
        Some(Cause { identity, region, action, code: code.into() })
    }

    fn enter_group(&self, cause: &Cause, status: &VncPasswordStatus) {
        let now = self.context.now();
        let failed = status.retry.as_ref().and_then(|retry| retry.last_failure_time.as_ref());
        let stalled =
            status.condition(ConditionType::Stalled).map(|condition| &condition.last_transition_time);
        let tried = failed.or(stalled).map_or(now, |at| at.0);
        self.context.denied.enter(&self.object.key, cause, tried, now, Instant::now());
    }

    /// Takes in what that status says of what the object is denied. A try without a call for a password has come to its end.
    pub(super) fn rejoin_group(&self, status: &VncPasswordStatus) {
        let (context, key) = (self.context, &self.object.key);
        let denial = denied::denial(status);
        let was = denied::denial(&self.observed.status);
        if context.denied.tried_since(key).is_some() {
            let end = match (denial, was) {
                (Some(Denial::Poll), _) => TryEnd::Denied,
                (_, Some(Denial::Poll)) if self.observed.io_optimized().is_some() => TryEnd::Passed,
                _ => TryEnd::Other,
            };
            self.end_try(end);
        }
        if denial == Some(Denial::Poll) {
            self.remember_try();
        }
        match self.cause(status) {
            Some(cause) => self.enter_group(&cause, status),
            None => context.denied.leave(key, Instant::now()),
        }
    }

    /// A call for the object has ended, or its poll.
    pub(super) fn end_try(&self, end: TryEnd) {
        let (context, key) = (self.context, &self.object.key);
        let identity = Identities::name(&self.object);
        let started = context.denied.ended(key, &identity, end, context.now(), Instant::now());
        context.wake_all(started);
    }

    pub(super) fn remember_try(&self) {
        let asked = self.object.rotate_at;
        self.context.registry.remember(&self.object, |memory| memory.tried_rotate_at = Some(asked));
    }

    /// The API has answered a call for a password.
    pub(super) fn replied(&self, reply: &Reply) {
        let shared = !matches!(reply, Reply::Refused { code, .. } if !denied::is_shared(code));
        self.end_try(match outcome::classify(reply) {
            Class::Denied if shared => TryEnd::Denied,
            Class::Accepted | Class::Waiting => TryEnd::Passed,
            _ => TryEnd::Other,
        });
        if !matches!(reply, Reply::Accepted { .. }) {
            self.remember_try();
        }
    }
}
