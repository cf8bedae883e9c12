//! The steps of a pass that ask somebody: the API server for Secrets, the cloud for looks and calls.

use std::sync::Arc;

use jiff::Timestamp;
use rand::{TryRng, rngs::SysRng};

use super::{Again, End, LOOK_PATIENCE, MOST_CONFLICTS, Pass, asker, unsettled};
use crate::{
    controller::{
        Error, random_id, secrets,
        status::{self, Written},
    },
    ecs::{self, Action, RequestId, Route, limiter::Ticket},
    rotation::{
        Password, Verdict,
        contents::SecretWrite,
        facts::{Access, Announcement, Attempt, Drawn, Owner, Purpose, SecretRead},
        outcome::{self, Class, Reply},
    },
};

impl Pass<'_> {
    /// Somebody else owns the instance, unless the two act in different accounts: finds that out, where it is in doubt.
    pub(super) async fn know_accounts(&mut self) -> Result<(), Error> {
        if !matches!(self.observed.owner, Owner::Other(_)) || self.observed.spec.suspend {
            return Ok(());
        }
        if self.observed.access == Access::Unread {
            self.read_credentials().await?;
        }
        let Some(own) = self.identity.clone() else { return Ok(()) };
        let context = self.context;
        let Some(keeper) = context.keeper(&self.object) else { return Ok(()) };
        if keeper.credentials() == self.object.credentials() {
            return Ok(());
        }
        if let Some(theirs) = context.identity_of(&keeper).await? {
            context.identities.learn_account(&own).await;
            context.identities.learn_account(&theirs).await;
            self.observed.owner = context.owner(&self.object);
        }
        Ok(())
    }

    pub(super) async fn read_credentials(&mut self) -> Result<(), Error> {
        let context = self.context;
        // Without a reference there is nothing to read, and nothing unread.
        let Some(secret) = self.object.credentials() else { return Ok(()) };
        (self.observed.access, self.identity) = context.read_credentials(&secret).await?;
        if let Some(identity) = &self.identity {
            // What was seen with other keys is void, whichever pass was the first to read the new ones.
            context.lookout.renew(identity);
            self.observed.look = context.lookout.latest(identity.name(), &self.observed.spec.instance_id);
        }
        self.ask_limiter();
        Ok(())
    }

    pub(super) async fn read_secret(&mut self) -> Result<(), Error> {
        self.signed_at = Timestamp::now();
        let context = self.context;
        let namespace = &self.object.key.namespace;
        let read =
            secrets::read(&context.client, &context.fingerprints, namespace, &self.observed.spec.secret_ref);
        self.observed.read = Some(read.await?);
        Ok(())
    }

    /// Looks at the instance before the first call, with what was read at hand; once a pass. `false`: that takes too
    /// long for a pass to wait, or it was tried.
    pub(super) async fn look(&mut self) -> bool {
        if std::mem::replace(&mut self.looked, true) {
            return false;
        }
        let (Some(region), Some(identity)) = (&self.region, &self.identity) else { return false };
        let instance = &self.observed.spec.instance_id;
        let look = self.context.lookout.look(identity, instance, region, LOOK_PATIENCE).await;
        let found = look.is_some();
        self.observed.look = look.or(self.observed.look.take());
        found
    }

    /// Draws a password and an id from the system's generator.
    pub(super) fn draw(&mut self) -> Result<(), Error> {
        let password =
            Password::draw(|bytes| SysRng.try_fill_bytes(bytes)).map_err(|_| Error::NoRandomNumbers)?;
        self.observed.drawn = Some(Drawn { id: random_id()?, password });
        Ok(())
    }

    /// Whether this pass may act at the instance: no other object's does, it belongs to this one, and this process
    /// leads. Whom it belongs to may have changed while the pass waited.
    fn may_act(&mut self) -> bool {
        let context = self.context;
        let instance = &self.observed.spec.instance_id;
        if self.turn.is_none() {
            self.turn = context.instances.turn(instance);
        }
        self.turn.is_some() && context.owner(&self.object) == Owner::This && context.config.lease.holds()
    }

    /// Writes the Secret; where somebody else has changed it since, it is read afresh. `false`: this pass may not act
    /// now.
    pub(super) async fn write_secret(&mut self, write: SecretWrite) -> Result<bool, Error> {
        if !self.may_act() {
            self.keep_attempt();
            return Ok(false);
        }
        let context = self.context;
        let namespace = &self.object.key.namespace;
        let secret = &self.observed.spec.secret_ref;
        let replaced = write.replaces.clone();
        let fleet = self.object.membership.as_ref().map(|member| &*member.fleet);
        let written = secrets::write(&context.client, &context.fingerprints, namespace, secret, write, fleet);
        match written.await? {
            secrets::Written::Done(contents) => {
                if let Some(key) = self.object.secret() {
                    // The watch may be behind what was read: what it had still to tell others is told now, since it will
                    // be taken for an echo.
                    let told = context.secrets.version(&key) == replaced;
                    context.secrets.apply(key.clone(), contents.version.clone());
                    let readers = context.registry.readers(&key).into_iter();
                    let others = readers.filter(|reader| !told && *reader != self.object.key);
                    others.for_each(|reader| context.wake(reader));
                    context.wake_borrowers(&key);
                }
                self.observed.read = Some(SecretRead::Found(contents));
                // A password that was drawn is used once.
                self.observed.drawn = None;
            }
            secrets::Written::Forbidden => self.observed.read = Some(SecretRead::Forbidden),
            secrets::Written::Conflict => {
                self.conflicts += 1;
                if self.conflicts > MOST_CONFLICTS {
                    return Err(Error::Contended { object: self.object.key.clone() });
                }
                self.read_secret().await?;
            }
        }
        Ok(true)
    }

    /// Writes what is going to be done into the status; `Some`: this pass ends here.
    pub(super) async fn announce(
        &mut self,
        announcement: Announcement,
        verdict: Verdict,
    ) -> Result<Option<End>, Error> {
        let context = self.context;
        if !self.may_act() {
            return Ok(Some(End { again: Some(Again::BUSY) }));
        }
        match status::write(&context.client, &self.object, &verdict.status).await? {
            Written::Done(object) => {
                let object = Arc::new(object);
                for note in verdict.notes {
                    context.events.tell(&self.object, note);
                }
                context.registry.remember(&self.object, |memory| memory.written = Some(Arc::clone(&object)));
                self.observed.status = Arc::clone(&object.status);
                self.observed.announced = Some(announcement);
                self.object = object;
                Ok(None)
            }
            Written::Gone => Ok(Some(End { again: None })),
            Written::Conflict => self.refresh().await,
        }
    }

    /// Restarts the instance; `false`: this pass may not act now.
    pub(super) async fn reboot(&mut self) -> bool {
        if !self.may_act() {
            return false;
        }
        let (context, instance) = (self.context, &self.observed.spec.instance_id);
        let (Some(region), Some(identity)) = (&self.region, &self.identity) else { return false };
        let action = Action::RebootInstance;
        let Some(route) = self.route(action) else { return false };
        let admitted = context.limiter.admit(route, &asker(&self.object.key), Timestamp::now());
        let reply = if let Ok(ticket) = admitted {
            let result = context.ecs.reboot_instance(identity, region, instance, self.signed_at).await;
            let reply = reply(&result);
            let class = outcome::classify(&reply);
            match &result {
                Ok(request_id) => tracing::info!(instance, %request_id, "restart requested"),
                Err(error) => tracing::warn!(instance, %error, class = class.as_str(), "restart failed"),
            }
            self.note_call(route, ticket, class, result.err().as_ref());
            reply
        } else {
            Reply::NotSent
        };
        self.observed.rebooted = Some(reply);
        true
    }

    /// Tells the limiter how a call went; when that opens again, where it is closed now.
    fn note_call(
        &self,
        route: Route<'_>,
        ticket: Ticket,
        class: Class,
        error: Option<&ecs::Error>,
    ) -> Option<Timestamp> {
        let (limiter, now) = (&self.context.limiter, Timestamp::now());
        if error.is_some_and(ecs::Error::was_not_made) {
            limiter.lost(route, ticket, now);
            return None;
        }
        match class {
            Class::Throttled => {
                let after = error.and_then(ecs::Error::retry_after);
                return Some(limiter.throttled(route, &asker(&self.object.key), ticket, after, now));
            }
            Class::OutcomeUnknown | Class::Unreachable => limiter.lost(route, ticket, now),
            Class::Accepted
            | Class::Waiting
            | Class::InvalidInput
            | Class::NotFound
            | Class::Denied
            | Class::Credentials
            | Class::Signing
            | Class::Refused => limiter.passed(route, ticket, now),
        }
        None
    }

    /// Makes the call; `false`: this pass may not act now.
    pub(super) async fn send(&mut self, purpose: Purpose) -> bool {
        if !self.may_act() {
            return false;
        }
        let context = self.context;
        let instance = &self.observed.spec.instance_id;
        let (Some(region), Some(identity)) = (&self.region, &self.identity) else { return false };
        // While this pass read the Secret, another object may have had its turn.
        self.observed.history.unsettled = unsettled(context, &self.object, instance);
        let (Some((password, value)), Some(contents)) =
            (self.observed.to_send(purpose), self.observed.contents())
        else {
            return false;
        };
        let rotation = (purpose == Purpose::Rotate).then(|| contents.record_of(instance)).flatten();
        let rotation = rotation.map(|record| record.id.clone());
        let former = self.observed.attempt.as_ref().filter(|attempt| attempt.value == value);
        context.registry.remember(&self.object, |memory| memory.untouched = false);
        let tries = former.map_or(1, |attempt| attempt.tries + 1);
        let action = Action::ModifyInstanceVncPasswd;
        let Some(route) = self.route(action) else { return false };
        let ticket = match context.limiter.admit(route, &asker(&self.object.key), Timestamp::now()) {
            Ok(ticket) => ticket,
            Err(opens) => {
                self.observed.limiter_opens = Some(opens);
                if let Some(attempt) = &mut self.observed.attempt {
                    attempt.tries = tries;
                }
                return true;
            }
        };
        let result = context
            .ecs
            .modify_instance_vnc_passwd(identity, region, instance, password, self.signed_at)
            .await;
        let reply = reply(&result);
        let class = outcome::classify(&reply);
        report(instance, purpose, class, &result);
        let (version, all_classes) = (contents.version.clone(), password.has_all_classes());
        let opens = self.note_call(route, ticket, class, result.err().as_ref());
        self.observed.limiter_opens = opens.or(self.observed.limiter_opens);
        self.observed.attempt = Some(Attempt {
            purpose,
            version,
            value,
            rotation,
            all_classes,
            tries,
            at: Timestamp::now(),
            reply,
        });
        true
    }
}

/// What a reply means for decisions.
fn reply(result: &Result<RequestId, ecs::Error>) -> Reply {
    match result {
        Ok(request_id) => Reply::Accepted { request_id: request_id.to_string() },
        Err(error) => Reply::from(error),
    }
}

/// One line a call. The server's message is never part of it.
fn report(instance: &str, purpose: Purpose, class: Class, result: &Result<RequestId, ecs::Error>) {
    match result {
        Ok(request_id) => tracing::info!(instance, ?purpose, %request_id, "password accepted"),
        Err(error) if matches!(class, Class::Waiting | Class::Throttled) => {
            tracing::info!(instance, ?purpose, %error, "password not taken yet");
        }
        Err(error) => tracing::warn!(instance, ?purpose, %error, class = class.as_str(), "call failed"),
    }
}
