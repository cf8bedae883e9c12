//! The steps of a reconcile that call the API server or the cloud.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::{join_all, try_join_all};
use jiff::Timestamp;
use rand::{TryRng, rngs::SysRng};

use super::{End, MAX_CONFLICTS, POLL_TIMEOUT, Reconcile, requester};
use crate::{
    cloud::{
        instance_locks::{Caller, UnsettledCall},
        reply,
    },
    reconcile::{Error, status::Written},
    runtime::random::{NoRandomNumbers, random_id},
    store::{
        object::{Key, Object},
        registry::{Failure, LastRefusal, MAX_IDENTITY_CHECKS, Proof},
        secrets::{self, SecretError},
    },
};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{AccountStatus, Action, Identity, RequestId, rate_limit::Permit};
use vncpassword_core::rotation::{
    self, Password, Verdict,
    contents::{Record, SecretWrite},
    facts::{Access, Announcement, Attempt, Drawn, Fingerprint, Owner, Purpose, SecretRead},
    outcome::{self, Class, Reply},
    ownership::{Basis, Relation},
    refusal::{self, Refusal, RefusedWrite},
};

/// Maximum number of owners of an instance that one reconcile checks.
const MAX_OWNERS: usize = 16;

/// Whether a reconcile may act at its instance.
#[derive(PartialEq, Eq)]
enum Permission {
    Granted,
    /// Input has changed while the reconcile waited: decide again.
    Changed,
    /// Another object acts at the instance, or this process does not lead.
    Busy,
}

impl<'a> Reconcile<'a> {
    /// Another object owns the instance: finds out whether the two act in different accounts, and whether the
    /// claim of the other must be proven (R41).
    pub(super) async fn contest_owner(&mut self) -> Result<(), Error> {
        if self.observed.spec.suspend || self.observed.deleting {
            return Ok(());
        }
        for _ in 0..MAX_OWNERS {
            if !matches!(self.observed.owner, Owner::Other(_)) {
                return Ok(());
            }
            if self.observed.access == Access::Unread {
                self.read_credentials().await?;
            }
            let Some(own) = self.identity.clone() else { return Ok(()) };
            let context = self.context;
            let Some((blocking_owner, basis)) = context.blocking_owner(&self.object) else { return Ok(()) };
            if blocking_owner.credentials() == self.object.credentials() {
                return Ok(());
            }
            // An identity that does not exist, or that the cloud refuses, has no claim.
            if !self.claim_is_void(&blocking_owner, basis, &own).await? {
                return Ok(());
            }
            self.observed.owner = context.owner(&self.object);
            self.observed.superseded = context.superseded(&self.object);
            self.observed.history.unsettled = context.unsettled(&self.object);
            self.observed.prove_claim =
                self.observed.owner == Owner::This && context.registry.must_prove(&self.object);
            self.proof = self.observed.prove_claim.then_some(Proof::Failed);
            self.observed.secret_paused_until =
                self.observed.secret_paused_until.filter(|_| !self.observed.prove_claim);
            self.ask_allowance();
        }
        // There may be more owners.
        self.context.enqueue(self.object.key.clone());
        Ok(())
    }

    /// A status says that a process before this one may have called for an object of another identity. Asks
    /// STS whether that identity exists: if STS refuses it, its status is ignored. The calls run in parallel,
    /// so that a silent STS costs the worker the time of one call.
    pub(super) async fn check_other_identities(&mut self) -> Result<(), Error> {
        let context = self.context;
        let acts =
            self.observed.owner == Owner::This && !self.observed.spec.suspend && !self.observed.deleting;
        if !acts || !self.observed.history.unsettled.iter().any(|late| late.by_other) {
            return Ok(());
        }
        let (_, others) = context.others_before(&self.object);
        if others.is_empty() {
            return Ok(());
        }
        if self.observed.access == Access::Unread {
            self.read_credentials().await?;
        }
        let others = &others[..others.len().min(MAX_IDENTITY_CHECKS)];
        let known = try_join_all(others.iter().map(|other| context.access_of(other))).await?;
        let asked = others.iter().zip(known).map(|(other, (access, identity))| async move {
            let disregarded = match identity {
                Some(theirs) => {
                    let standing = context.identities.learn_account(&theirs).await;
                    matches!(standing, AccountStatus::Refused | AccountStatus::NotAsked)
                }
                // An identity in a Secret that the operator may not read may exist.
                None => access != Access::Forbidden,
            };
            if disregarded {
                context.registry.disregard_status(other);
            }
        });
        let learned = async {
            if let Some(own) = &self.identity {
                context.identities.learn_account(own).await;
            }
        };
        futures::join!(join_all(asked), learned);
        self.observed.history.unsettled = context.unsettled(&self.object);
        Ok(())
    }

    /// Whether the claim of the owner is void, by what the cloud reports of the two identities.
    async fn claim_is_void(
        &self,
        blocking_owner: &Arc<Object>,
        basis: Basis,
        own: &Arc<Identity>,
    ) -> Result<bool, Error> {
        let context = self.context;
        let give_up = || context.registry.remember(blocking_owner, |memory| memory.claim.give_up());
        let Some(theirs) = context.identity_of(blocking_owner).await? else {
            give_up();
            return Ok(true);
        };
        if context.identities.learn_account(own).await == AccountStatus::Refused {
            return Ok(false);
        }
        let standing = context.identities.learn_account(&theirs).await;
        if context.identities.relation(blocking_owner, &self.object) == Relation::OtherAccount {
            return Ok(true);
        }
        // What was accepted in this term may be refused from now on, but the next call shows that.
        if basis == Basis::Hint {
            let refused = context.registry.is_refused(blocking_owner, theirs.principal());
            // It would never prove its claim, because another object blocks it. So it blocks no other object.
            let kept_out = context.owner(blocking_owner) != Owner::This;
            // Keys that keep changing do not belong to an owner.
            if refused || kept_out || matches!(standing, AccountStatus::Refused | AccountStatus::NotAsked) {
                give_up();
                return Ok(true);
            }
            if let Some(region) = &self.observed.region {
                context.registry.contested(blocking_owner, region);
            }
        }
        Ok(false)
    }

    pub(super) async fn read_credentials(&mut self) -> Result<(), Error> {
        let context = self.context;
        // Without a reference there is nothing to read, and nothing unread.
        let Some(secret) = self.object.credentials() else { return Ok(()) };
        self.began = context.now();
        (self.observed.access, self.identity) = context.read_credentials(&secret).await?;
        if let Some(identity) = &self.identity {
            // Polls with other keys are void, no matter which reconcile read the new keys first.
            context.instance_poller.renew(identity);
            self.observed.look =
                context.instance_poller.latest(identity.name(), &self.observed.spec.instance_id);
        }
        self.ask_limiter();
        Ok(())
    }

    pub(super) async fn read_secret(&mut self) -> Result<(), Error> {
        let context = self.context;
        self.dated = context.ecs.clock().dated();
        let namespace = &self.object.key.namespace;
        let read =
            secrets::read(&context.client, &context.fingerprints, namespace, &self.observed.spec.secret_ref);
        let read = read.await?;
        if read.contents().is_some() && self.observed.history.creation_refused {
            self.observed.history.creation_refused = false;
            context.registry.remember(&self.object, |memory| {
                memory.refused.as_mut().map(|refused| refused.creation = false)
            });
        }
        // A write of another process of ours or of a person counts as a change by others, too: a few do no
        // harm.
        if self.observed.spec.rotation.is_some() && read != SecretRead::Forbidden {
            let now = context.now();
            let (contested, until) = context
                .registry
                .remember(&self.object, |memory| {
                    let contested = memory.read(read.contents(), now);
                    (
                        contested,
                        memory
                            .secret_competition
                            .as_ref()
                            .and_then(|competition| competition.waits_until(now)),
                    )
                })
                .unwrap_or_default();
            if contested {
                let secret = &self.observed.spec.secret_ref.name;
                tracing::warn!(
                    secret,
                    "another writer keeps changing the Secret; the operator leaves it alone for a while"
                );
            }
            self.observed.secret_paused_until = until.filter(|_| !self.observed.prove_claim);
        }
        self.observed.read = Some(read);
        Ok(())
    }

    /// Polls the instance and waits for the result, once per reconcile. `false`: the reconcile ends, and the
    /// poll enqueues the object.
    pub(super) async fn poll_instance(&mut self) -> bool {
        // Most of thousands of new objects end here, so that their polls join one call. Nothing was read that
        // would be lost.
        let permit = self.context.poll_permits.try_acquire();
        let new = self.observed.read.is_none() && self.observed.status.applied.is_none();
        if permit.is_err() && new {
            return false;
        }
        if std::mem::replace(&mut self.polled, true) {
            return false;
        }
        let (Some(region), Some(identity)) = (&self.region, &self.identity) else { return false };
        let instance = &self.observed.spec.instance_id;
        if self.polls_open().is_some() {
            return false;
        }
        let calls = self.calls();
        let look =
            self.context.instance_poller.poll_now(identity, instance, region, POLL_TIMEOUT, &calls).await;
        let found = look.is_some();
        self.observed.look = look.or(self.observed.look.take());
        found
    }

    /// Draws a password and an id from the system's generator.
    pub(super) fn draw(&mut self) -> Result<(), Error> {
        let password = Password::draw(|bytes| SysRng.try_fill_bytes(bytes)).map_err(|_| NoRandomNumbers)?;
        self.observed.drawn = Some(Drawn { id: random_id()?, password });
        Ok(())
    }

    /// Locks the instance; `None`: another caller that may reach it holds the lock.
    pub(super) fn lock_instance(&self) -> Option<crate::cloud::instance_locks::InstanceGuard<'a>> {
        let (context, own) = (self.context, self.object.identity_name());
        let is_apart = |holder: &Caller| context.identities.is_apart(holder, &own);
        context.instance_locks.turn(
            &self.observed.spec.instance_id,
            context.identities.caller(&own),
            is_apart,
        )
    }

    /// Whether this reconcile may act at the instance: no other object's does, it belongs to this one, and
    /// this process leads. While it waited, the owner may have changed, and others may have made calls.
    fn may_act(&mut self) -> Permission {
        let context = self.context;
        let waited = self.guard.is_none();
        if waited {
            self.guard = self.lock_instance();
        }
        if self.guard.is_none() || !context.config.lease.holds() {
            return Permission::Busy;
        }
        let (owner, superseded) = (context.owner(&self.object), context.superseded(&self.object));
        let mut changed = owner != self.observed.owner || superseded != self.observed.superseded;
        if waited {
            let unsettled = context.unsettled(&self.object);
            changed |= unsettled != self.observed.history.unsettled;
            self.observed.history.unsettled = unsettled;
        }
        (self.observed.owner, self.observed.superseded) = (owner, superseded);
        if changed { Permission::Changed } else { Permission::Granted }
    }

    /// Writes the Secret; where somebody else has changed it since, it is read afresh. `false`: this
    /// reconcile may not act now.
    pub(super) async fn write_secret(&mut self, write: SecretWrite) -> Result<bool, Error> {
        match self.may_act() {
            Permission::Granted => {}
            Permission::Changed => return Ok(true),
            Permission::Busy => {
                self.keep_attempt();
                return Ok(false);
            }
        }
        let context = self.context;
        if let Some(refused) = self.still_refused(&write) {
            self.observed.refused = Some(refused);
            return Ok(true);
        }
        let namespace = &self.object.key.namespace;
        let secret = &self.observed.spec.secret_ref;
        let replaced = write.replaces.clone();
        let promotes = refusal::promotes(&write, self.observed.contents());
        let fleet = self.object.membership.as_ref().map(|member| &*member.fleet);
        let writing = context.secrets.write(Key::new(namespace, &secret.name));
        let written = secrets::write(&context.client, &context.fingerprints, namespace, secret, write, fleet);
        let written = written.await;
        self.remember_secret_write(&written);
        match written? {
            secrets::Written::Done(contents) => {
                let deleted = self.object.secret().is_some_and(|key| {
                    // If the watch has not reported the replaced version yet, the other readers are enqueued
                    // here: the watch event of this write is dropped as an echo.
                    let is_current = context.secrets.version(&key) == replaced;
                    let deleted = !writing.wrote(contents.version.clone());
                    if !deleted {
                        self.enqueue_other_readers(&key, is_current);
                    }
                    deleted
                });
                context.registry.remember(&self.object, |memory| memory.refused = None);
                // A drawn password is used once.
                self.observed.drawn = None;
                if deleted {
                    self.read_secret().await?;
                } else {
                    self.observed.read = Some(SecretRead::Found(contents));
                }
            }
            secrets::Written::Refused { refusal, said, wait } => {
                self.take_in_refusal(refusal, said, wait, replaced.is_none(), promotes);
            }
            secrets::Written::Conflict => {
                self.conflicts += 1;
                if self.conflicts > MAX_CONFLICTS {
                    return Err(Error::Contended { object: self.object.key.clone() });
                }
                self.read_secret().await?;
            }
        }
        Ok(true)
    }

    /// Remembers what this process wrote into the Secret, to detect other writers.
    fn remember_secret_write(&self, written: &Result<secrets::Written, SecretError>) {
        let now = self.context.now();
        self.context.registry.remember(&self.object, |memory| match written {
            Ok(secrets::Written::Done(contents)) => memory.wrote(Some(contents), now),
            Ok(secrets::Written::Conflict) => {}
            Ok(secrets::Written::Refused { refusal, .. }) if refusal.is_certain() => {}
            // It may have been written.
            Ok(secrets::Written::Refused { .. }) | Err(_) => memory.wrote(None, now),
        });
    }

    /// Enqueues the objects that a write of this Secret concerns. `is_current`: the watch had reported the
    /// replaced version.
    fn enqueue_other_readers(&self, secret: &Key, is_current: bool) {
        let readers = self.context.registry.readers(secret).into_iter();
        let others = readers.filter(|reader| !is_current && *reader != self.object.key);
        others.for_each(|reader| self.context.enqueue(reader));
        self.context.enqueue_credential_users(secret);
    }

    /// The API server refused the last write, and the backoff is not over.
    fn still_refused(&self, write: &SecretWrite) -> Option<RefusedWrite> {
        let promotes = refusal::promotes(write, self.observed.contents());
        let held = self.context.registry.remember(&self.object, |memory| {
            let last = memory.refused.as_ref()?;
            let left = last.until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            let creates = write.replaces.is_none();
            Some(RefusedWrite { retry_after: left, creates, promotes, ..last.write.clone() })
        });
        held.flatten()
    }

    /// Records that the API server refused the write of the Secret.
    fn take_in_refusal(
        &mut self,
        refusal: Refusal,
        said: Option<String>,
        wait: Option<Duration>,
        creates: bool,
        promotes: bool,
    ) {
        tracing::warn!(
            secret = %self.observed.spec.secret_ref.name,
            reason = refusal.reason().as_str(),
            webhook = refusal.webhook(),
            status = refusal.status(),
            said,
            "the API server did not write the Secret; the write is tried again"
        );
        let registry = &self.context.registry;
        let before =
            registry.remember(&self.object, |memory| memory.refused.as_ref().map(|last| last.attempts));
        let attempts = before.flatten().unwrap_or(0).saturating_add(1);
        let backoff = rotation::backoff::refused_write(attempts, self.observed.jitter);
        let retry_after = backoff.max(wait.unwrap_or_default());
        let creation = creates && refusal.is_certain();
        let write = RefusedWrite { refusal, said, creates, promotes, retry_after };
        let last =
            LastRefusal { write: write.clone(), attempts, until: Instant::now() + retry_after, creation };
        registry.remember(&self.object, |memory| memory.refused = Some(Box::new(last)));
        self.observed.refused = Some(write);
    }

    /// Records the intent in the status; `Some`: the reconcile ends here.
    pub(super) async fn announce(
        &mut self,
        announcement: Announcement,
        verdict: Verdict,
    ) -> Result<Option<End>, Error> {
        let context = self.context;
        match self.may_act() {
            Permission::Granted => {}
            Permission::Changed => return Ok(None),
            Permission::Busy => return Ok(Some(End { requeue: Some(self.busy()) })),
        }
        match self.write_status(&verdict.status).await? {
            Written::Done(object) => {
                let object = Arc::new(object);
                for note in verdict.notes {
                    context.events.publish(&self.object, note);
                }
                self.wrote_status(&object);
                self.observed.status = Arc::clone(&object.status);
                self.observed.announced = Some(announcement);
                self.object = object;
                Ok(None)
            }
            Written::Gone => Ok(Some(End { requeue: None })),
            Written::Conflict => self.refresh().await,
        }
    }

    /// Restarts the instance; `false`: the reconcile may not act now.
    pub(super) async fn reboot(&mut self) -> bool {
        match self.may_act() {
            Permission::Granted => {}
            Permission::Changed => return true,
            Permission::Busy => return false,
        }
        if self.context.ecs.clock().has_moved_since(&self.dated) {
            // The request may be an old one, and somebody else may have made another since.
            self.observed.rebooted = Some(Reply::NotSent);
            return true;
        }
        let (context, instance) = (self.context, &self.observed.spec.instance_id);
        let (Some(region), Some(identity)) = (&self.region, &self.identity) else { return false };
        let action = Action::RebootInstance;
        let Some(route) = self.route(action) else { return false };
        let admitted = context.limiter.admit(route, &requester(&self.object.key), context.now());
        let reply = if let Ok(ticket) = admitted {
            self.calls().actions.spend(context.now());
            let result = context.ecs.reboot_instance(identity, region, instance, self.dated.at()).await;
            let reply = reply(&result);
            let class = outcome::classify(&reply);
            match &result {
                Ok(request_id) => tracing::info!(instance, %request_id, "restart requested"),
                Err(error) => tracing::warn!(instance, %error, class = class.as_str(), "restart failed"),
            }
            let requester = requester(&self.object.key);
            context.limiter.complete(
                route,
                &requester,
                ticket,
                reply::report(result.err().as_ref()),
                context.now(),
            );
            reply
        } else {
            Reply::NotSent
        };
        self.observed.rebooted = Some(reply);
        true
    }

    /// Sets the password; `false`: the reconcile may not act now.
    pub(super) async fn send(&mut self, purpose: Purpose) -> Result<bool, Error> {
        match self.may_act() {
            Permission::Granted => {}
            Permission::Changed => return Ok(true),
            Permission::Busy => return Ok(false),
        }
        let context = self.context;
        if context.ecs.clock().has_moved_since(&self.dated) {
            // What was read counted as young only because the cloud's clock was not known.
            self.read_secret().await?;
            return Ok(true);
        }
        if !self.resume_try() {
            return Ok(true);
        }
        let Some((_, value)) = self.observed.to_send(purpose) else { return Ok(false) };
        let former = self.observed.attempt.as_ref().filter(|attempt| attempt.value == value);
        let tries = former.map_or(1, |attempt| attempt.tries + 1);
        if self.observed.contents().is_none() {
            return Ok(false);
        }
        let Some(route) = self.route(Action::ModifyInstanceVncPasswd) else { return Ok(false) };
        context.registry.remember(&self.object, |memory| memory.never_called = false);
        match context.limiter.admit(route, &requester(&self.object.key), context.now()) {
            Ok(ticket) => Ok(self.set_password(purpose, tries, ticket).await),
            Err(opens) => {
                self.slots[0] = Some(opens);
                self.ask_allowance();
                if let Some(attempt) = &mut self.observed.attempt {
                    attempt.tries = tries;
                }
                Ok(true)
            }
        }
    }

    /// Calls ModifyInstanceVncPasswd and takes in the reply; `false`: something that the call needs is
    /// missing.
    async fn set_password(&mut self, purpose: Purpose, tries: u32, ticket: Permit) -> bool {
        let (context, spec) = (self.context, Arc::clone(&self.observed.spec));
        let instance = &spec.instance_id;
        let (Some(region), Some(identity), Some(route)) =
            (&self.region, &self.identity, self.route(Action::ModifyInstanceVncPasswd))
        else {
            return false;
        };
        let (Some((password, value)), Some(contents)) =
            (self.observed.to_send(purpose), self.observed.contents())
        else {
            return false;
        };
        let record = (purpose == Purpose::Rotate).then(|| contents.record_of(instance)).flatten();
        let (rotation, repeats) =
            (record.map(|record| record.id.clone()), record.is_some_and(Record::repeats));
        self.calls().actions.spend(context.now());
        let result = context
            .ecs
            .modify_instance_vnc_passwd(identity, region, instance, password.expose(), self.dated.at())
            .await;
        let reply = reply(&result);
        let class = outcome::classify(&reply);
        report(instance, purpose, class, &result);
        let at = context.now();
        let (version, all_classes) = (contents.version.clone(), password.has_all_classes());
        let requester = requester(&self.object.key);
        let opens =
            context.limiter.complete(route, &requester, ticket, reply::report(result.as_ref().err()), at);
        self.slots[0] = opens.or(self.slots[0]);
        self.ask_allowance();
        let superseded = self.observed.superseded;
        self.observed.superseded &= class != Class::Accepted;
        // Before any write: the object or its Secret may be gone by then.
        self.take_in_reply(class, result.as_ref().err(), value, at);
        self.replied(&reply);
        self.observed.attempt = Some(Attempt {
            purpose,
            version,
            value,
            rotation,
            repeats,
            superseded,
            io_optimized: self.observed.io_optimized(),
            look: self.observed.look.clone(),
            all_classes,
            tries,
            at,
            reply,
        });
        true
    }

    /// Takes in what a reply says of the object's claim to the instance, and of calls that may still arrive.
    fn take_in_reply(&mut self, class: Class, error: Option<&ecs::Error>, value: Fingerprint, at: Timestamp) {
        let (context, object) = (self.context, &self.object);
        let instance = &self.observed.spec.instance_id;
        if !matches!(class, Class::Accepted | Class::Throttled) {
            let failure = Some(Failure { began: self.began, at });
            context.registry.remember(object, |memory| memory.failure = failure);
        }
        if class == Class::OutcomeUnknown {
            let caller = context.identities.caller_of(object);
            let call = UnsettledCall {
                by: Arc::clone(&object.uid),
                caller,
                region: self.observed.region.as_deref().map(Into::into),
                value: Some(value),
                until: rotation::settled_at(at, context.config.settle),
            };
            if context.instance_locks.unsettle(instance, call, at) {
                context.registry.enqueue_contenders(object);
            }
            self.observed.history.unsettled = context.unsettled(object);
        }
        let proof = if class == Class::Accepted {
            let used = self.identity.as_ref().map(|identity| Arc::clone(identity.principal()));
            context.registry.accepted(object, used.unwrap_or_default());
            // The Secret may hold another key by now.
            let now = object.credentials().and_then(|secret| context.identities.principal_in(&secret));
            if let Some(now) = now {
                context.registry.remember(object, |memory| memory.claim.renewed(&now));
            }
            None
        } else if error.is_some_and(ecs::Error::refuses_identity) {
            // Key ids and role names are no secrets: only where the API took the signature was it really that
            // identity.
            let used = self.identity.as_ref().filter(|_| class != Class::Credentials);
            context.registry.refused(object, used.map(|identity| Arc::clone(identity.principal())));
            None
        } else if matches!(class, Class::InvalidInput | Class::Refused) {
            Some(Proof::Failed)
        } else if class == Class::Waiting {
            Some(Proof::Inconclusive)
        } else if error.is_some_and(ecs::Error::is_throttled) {
            Some(Proof::Throttled)
        } else {
            Some(Proof::Unanswered)
        };
        self.proof = self.proof.and(proof);
    }
}

/// What a reply means for decisions.
fn reply(result: &Result<RequestId, ecs::Error>) -> Reply {
    match result {
        Ok(request_id) => Reply::Accepted { request_id: request_id.to_string() },
        Err(error) => reply::reply(error),
    }
}

/// Logs one line per call, without the message of the server.
fn report(instance: &str, purpose: Purpose, class: Class, result: &Result<RequestId, ecs::Error>) {
    match result {
        Ok(request_id) => tracing::info!(instance, ?purpose, %request_id, "password accepted"),
        Err(error) if matches!(class, Class::Waiting | Class::Throttled) => {
            tracing::info!(instance, ?purpose, %error, "password not taken yet");
        }
        Err(error) => tracing::warn!(instance, ?purpose, %error, class = class.as_str(), "call failed"),
    }
}
