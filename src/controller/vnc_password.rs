//! One pass over one object: observe, decide, act, record.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::Instrument;

use super::{
    Context, Error,
    object::{Key, Object},
    secrets,
    status::{self, Written},
};
use crate::{
    api::{self, VncPasswordSpec},
    ecs::{Action, Region},
    rotation::{
        self, Decision, Verdict,
        facts::{Attempt, History, Observed, Owner, Purpose, SecretRead},
        outcome::{self, Class, Reply},
    },
    runtime::PassResult,
};

/// Conflicts in a row after which a pass gives up for a while.
const MOST_CONFLICTS: u32 = 5;
/// How long to wait while another object's call is under way at the instance.
const BUSY: Duration = Duration::from_secs(1);
/// How long a pass waits for a look, with the contents of the Secret in memory.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);
/// First and longest wait after a failure on the Kubernetes side.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// Runs one pass. Returns when the object wants to be passed over again, if at all.
pub(super) async fn pass(context: Arc<Context>, key: Key) -> Option<Duration> {
    let object = context.registry.newest(&key)?;
    let span = tracing::info_span!("pass", namespace = %key.namespace, name = %key.name);
    let begun = Instant::now();
    let result = reconcile(&context, Arc::clone(&object)).instrument(span.clone()).await;
    let (wait, label) = match result {
        Ok(wait) => {
            context.registry.remember(&object, |memory| memory.failures = 0);
            (wait, PassResult::Ok)
        }
        Err(error) => {
            let failures = context.registry.remember(&object, |memory| {
                memory.failures = memory.failures.saturating_add(1);
                memory.failures
            });
            let wait =
                failures.map(|failures| RETRY.0.saturating_mul(1 << (failures - 1).min(10)).min(RETRY.1));
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            span.in_scope(|| tracing::warn!(%error, source, "pass failed; it is tried again"));
            (wait, PassResult::Error)
        }
    };
    context.metrics.passed(label, begun.elapsed());
    wait
}

async fn reconcile(context: &Context, object: Arc<Object>) -> Result<Option<Duration>, Error> {
    let spec = match &object.spec {
        Ok(spec) => Arc::clone(spec),
        Err(problem) => return malformed(context, &object, problem).await,
    };
    let mut pass = Pass::observe(context, object, spec);
    loop {
        let now = Timestamp::now();
        match rotation::decide(&pass.observed, now) {
            Decision::ReadSecret => pass.read_secret().await?,
            Decision::Send(purpose) => {
                if !pass.send(purpose).await {
                    return Ok(Some(BUSY));
                }
            }
            Decision::Rest(verdict) => {
                let at_once = verdict.deferred && verdict.look.is_some_and(|due| due <= now);
                if at_once && pass.look().await {
                    continue;
                }
                if let Some(end) = pass.record(*verdict).await? {
                    return Ok(end.wait);
                }
            }
        }
    }
}

/// The spec cannot be read: says so, and leaves the object alone until it is mended.
async fn malformed(context: &Context, object: &Object, problem: &str) -> Result<Option<Duration>, Error> {
    let verdict = rotation::invalid_object(&object.status, object.generation, Timestamp::now());
    if verdict != *object.status {
        tracing::warn!(problem, "the object does not fit the schema of this operator");
        status::write(&context.client, object, &verdict).await?;
    }
    Ok(None)
}

/// One pass under way.
struct Pass<'a> {
    context: &'a Context,
    object: Arc<Object>,
    observed: Observed,
    region: Option<Region>,
    /// Taken before the Secret is read: a call that is held up in between is refused as too old.
    signed_at: Timestamp,
    turn: Option<super::instances::Turn<'a>>,
    looked: bool,
    conflicts: u32,
}

/// How a pass ended.
struct End {
    wait: Option<Duration>,
}

impl<'a> Pass<'a> {
    /// Gathers what is known without asking anybody.
    fn observe(context: &'a Context, object: Arc<Object>, spec: Arc<VncPasswordSpec>) -> Self {
        let now = Timestamp::now();
        let region = match &spec.region_id {
            Some(region) => Region::parse(region).ok(),
            None => context.config.region.clone(),
        };
        let instance = &*spec.instance_id.clone();
        let secret = object.secret().and_then(|secret| context.secrets.version(&secret));
        let (inherited, history, attempt) = context
            .registry
            .remember(&object, |memory| {
                (
                    std::mem::take(&mut memory.inherited),
                    memory.history(),
                    memory.unrecorded.take().map(|attempt| *attempt),
                )
            })
            .unwrap_or((false, History::default(), None));
        let mut observed = Observed {
            generation: object.generation,
            status: Arc::clone(&object.status),
            region: region.as_ref().map(|region| region.as_str().to_owned()),
            enforce_interval: spec.enforce_interval.as_deref().and_then(api::duration),
            owner: context.registry.owner(&object, instance),
            secret,
            read: None,
            history,
            look: context.lookout.latest(instance),
            limiter_opens: None,
            attempt,
            settle: context.config.settle,
            jitter: rand::random(),
            spec,
        };
        if let Some(region) = &region {
            observed.limiter_opens =
                context.limiter.opens(Action::ModifyInstanceVncPasswd, region.as_str(), now);
        }
        if let Some(unsettled) = rotation::doubt(&observed, inherited, now) {
            context.instances.unsettle(instance, unsettled);
        }
        observed.history.unsettled = context.instances.unsettled(instance, now);
        Self { context, object, observed, region, signed_at: now, turn: None, looked: false, conflicts: 0 }
    }

    async fn read_secret(&mut self) -> Result<(), Error> {
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
    async fn look(&mut self) -> bool {
        let Some(region) = self.region.as_ref().filter(|_| !std::mem::replace(&mut self.looked, true)) else {
            return false;
        };
        let look = self.context.lookout.look(&self.observed.spec.instance_id, region, LOOK_PATIENCE).await;
        let found = look.is_some();
        self.observed.look = look.or(self.observed.look.take());
        found
    }

    /// Makes the call; `false`: another object's call is under way at the instance.
    async fn send(&mut self, purpose: Purpose) -> bool {
        let context = self.context;
        let instance = &self.observed.spec.instance_id;
        if self.turn.is_none() {
            self.turn = context.instances.turn(instance);
        }
        let (Some(_), Some(region)) = (&self.turn, &self.region) else { return false };
        // While this pass read the Secret, another object may have had its turn: whom the instance belongs to and
        // what may still arrive there is known for certain only now.
        if context.registry.owner(&self.object, instance) != Owner::This {
            return false;
        }
        self.observed.history.unsettled = context.instances.unsettled(instance, Timestamp::now());
        let Some(SecretRead::Valid(version, password, value)) = &self.observed.read else { return false };
        let tries = self.observed.attempt.as_ref().map_or(1, |attempt| attempt.tries + 1);
        let action = Action::ModifyInstanceVncPasswd;
        if let Err(opens) = context.limiter.admit(action, region.as_str(), Timestamp::now()) {
            self.observed.limiter_opens = Some(opens);
            if let Some(attempt) = &mut self.observed.attempt {
                attempt.tries = tries;
            }
            return true;
        }
        if tries > 1 {
            context.ecs.forget_credentials();
        }
        let result = context.ecs.modify_instance_vnc_passwd(region, instance, password, self.signed_at).await;
        let reply = match &result {
            Ok(request_id) => Reply::Accepted { request_id: request_id.to_string() },
            Err(error) => Reply::from(error),
        };
        let class = outcome::classify(&reply);
        context.metrics.called(action, class);
        report(instance, purpose, class, &result);
        if class == Class::Throttled {
            let after = result.err().and_then(|error| error.retry_after());
            self.observed.limiter_opens =
                Some(context.limiter.throttled(action, region.as_str(), after, Timestamp::now()));
        } else {
            context.limiter.passed(action, region.as_str());
        }
        self.observed.attempt = Some(Attempt {
            purpose,
            version: version.clone(),
            value: *value,
            all_classes: password.has_all_classes(),
            tries,
            at: Timestamp::now(),
            reply,
        });
        true
    }

    /// Takes in a verdict and writes it; `None`: the object has changed, decide again.
    async fn record(&mut self, verdict: Verdict) -> Result<Option<End>, Error> {
        let context = self.context;
        let instance = &self.observed.spec.instance_id;
        if let Some(unsettled) = verdict.unsettled.clone() {
            context.instances.unsettle(instance, unsettled);
        }
        match (verdict.look, &self.region) {
            (Some(due), Some(region)) => context.lookout.want(instance, region, due),
            _ if self.observed.owner == Owner::This => context.lookout.forget(instance),
            // The owner may be waiting for a look.
            _ => {}
        }
        let end = End { wait: verdict.wake.map(until) };
        if verdict.status == *self.observed.status {
            self.remember(verdict, None);
            return Ok(Some(end));
        }
        match status::write(&context.client, &self.object, &verdict.status).await {
            Ok(Written::Done(object)) => {
                self.remember(verdict, Some(Arc::new(object)));
                Ok(Some(end))
            }
            Ok(Written::Gone) => Ok(Some(End { wait: None })),
            Ok(Written::Conflict) => self.refresh().await,
            Err(error) => {
                self.keep_attempt();
                Err(error)
            }
        }
    }

    /// Keeps what the next pass needs to know, and tells what happened.
    fn remember(&self, verdict: Verdict, written: Option<Arc<Object>>) {
        let context = self.context;
        let rivals = written.is_some();
        context.registry.remember(&self.object, |memory| {
            if let Some(read) = &self.observed.read
                && !verdict.deferred
            {
                memory.examined = read.version().cloned();
            }
            if let Some(applied) = verdict.applied_value {
                memory.applied = Some(applied);
            }
            if written.is_some() {
                memory.written = written;
            }
        });
        for note in verdict.notes {
            context.events.tell(&self.object, note);
        }
        if rivals {
            let claimants = context.registry.claimants(&self.observed.spec.instance_id);
            claimants.into_iter().filter(|key| *key != self.object.key).for_each(|key| context.wake(key));
        }
    }

    /// Somebody changed the object since: decides again on what it is now. The call that was made still counts.
    async fn refresh(&mut self) -> Result<Option<End>, Error> {
        self.conflicts += 1;
        if self.conflicts > MOST_CONFLICTS {
            self.keep_attempt();
            return Err(Error::Contended { object: self.object.key.clone() });
        }
        let fresh = match status::read(&self.context.client, &self.object.key).await {
            Ok(fresh) => fresh,
            Err(error) => {
                self.keep_attempt();
                return Err(error);
            }
        };
        let Some(fresh) = fresh.filter(|fresh| fresh.uid == self.object.uid) else {
            return Ok(Some(End { wait: None }));
        };
        let fresh = Arc::new(fresh);
        if fresh.generation != self.object.generation {
            // The watch may take the change for our own echo. What this pass has decided on is from before it: the
            // outcome of a call is recorded as such, and the change is looked at afterwards.
            self.context.wake(fresh.key.clone());
            if self.observed.attempt.is_none() {
                self.context.registry.remember(&fresh, |memory| memory.written = Some(Arc::clone(&fresh)));
                return Ok(Some(End { wait: None }));
            }
        }
        self.observed.status = Arc::clone(&fresh.status);
        self.context.registry.remember(&fresh, |memory| memory.written = Some(Arc::clone(&fresh)));
        self.object = fresh;
        Ok(None)
    }

    /// The outcome of a call could not be written: the next pass writes it, instead of calling again.
    fn keep_attempt(&mut self) {
        if let Some(attempt) = self.observed.attempt.take() {
            self.context
                .registry
                .remember(&self.object, |memory| memory.unrecorded = Some(Box::new(attempt)));
        }
    }
}

/// One line a call. The server's message is never part of it.
fn report(
    instance: &str,
    purpose: Purpose,
    class: Class,
    result: &Result<crate::ecs::RequestId, crate::ecs::Error>,
) {
    match result {
        Ok(request_id) => tracing::info!(instance, ?purpose, %request_id, "password accepted"),
        Err(error) if matches!(class, Class::Waiting | Class::Throttled) => {
            tracing::info!(instance, ?purpose, %error, "password not taken yet");
        }
        Err(error) => tracing::warn!(instance, ?purpose, %error, class = class.as_str(), "call failed"),
    }
}

/// How long until then; a little more, so that it has come.
fn until(at: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or_default();
    left + Duration::from_millis(5)
}
