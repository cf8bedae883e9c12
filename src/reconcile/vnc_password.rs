//! One reconcile of one object: observe, decide, act, record.
//!
//! | file | content |
//! |---|---|
//! | `steps` | the steps that call the API server or the cloud |
//! | `denied_group` | the part in the tries of objects that lack the same right |

mod denied_group;
mod steps;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use sha2::{Digest, Sha256};
use tracing::Instrument;

use crate::{
    context::Context,
    reconcile::{
        Error,
        retry::{self, Requeue},
        status::{self, Written},
    },
    runtime::{Kind, RequeueReason},
    store::{
        object::{Key, Object},
        registry::{Failure, Memory, Proof},
    },
};
use vncpassword_alicloud::{Action, Dated, Identity, RateLimitKey, Region, Requester};
use vncpassword_core::{
    api::{self, ConditionType, VncPasswordSpec, VncPasswordStatus},
    rotation::{
        self, Decision, Verdict,
        allowance::Calls,
        denied::{MissingRight, missing_right},
        facts::{Access, Attempt, Found, History, Look, Observed, Owner, SecretVersion},
        outcome::{self, Class, Reply},
        schedule::Plan,
    },
};

/// Maximum number of consecutive conflicts before a reconcile gives up.
const MAX_CONFLICTS: u32 = 5;
/// Maximum number of steps of one reconcile. A reconcile that ends takes less than twenty.
const MAX_STEPS: u32 = 100;
/// Consecutive failed reconciles after which an unproven claim is given up.
const MAX_PROOF_FAILURES: u32 = 5;
/// How long to wait while another object's call is under way at the instance.
const BUSY: Duration = Duration::from_secs(1);
/// How long a reconcile waits for an instance poll, with the contents of the Secret in memory.
const POLL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long after a due instance poll an object is requeued if the poll has not enqueued it.
const LOST_POLL: Duration = Duration::from_mins(1);

/// Reconciles one object. Returns after what time to requeue it; `None`: only on an event.
pub(crate) async fn reconcile_key(context: Arc<Context>, key: Key) -> Option<Duration> {
    let Some(object) = context.registry.newest(&key) else {
        context.limiter.forget(&requester(&key));
        context.denied.remove(&key);
        return None;
    };
    // It is enqueued when its Secrets are listed.
    if !context.namespaces.serve(&key.namespace) {
        context.denied.remove(&key);
        return None;
    }
    let requeue = reconcile_in_span(&context, &key, Arc::clone(&object)).await;
    if context.registry.newest(&key).is_none_or(|newest| newest.uid != object.uid) {
        // It was deleted meanwhile, and this reconcile may have requested a poll after that.
        context.cancel_polls(&object);
        if let Ok(spec) = &object.spec {
            context.registry.enqueue_instance_users(&spec.instance_id);
        }
    }
    context.enqueue_all(context.registry.take_affected());
    requeue
}

async fn reconcile_in_span(context: &Context, key: &Key, object: Arc<Object>) -> Option<Duration> {
    let span = tracing::info_span!("pass", namespace = %key.namespace, object = %key.name);
    let begun = Instant::now();
    let result = reconcile(context, Arc::clone(&object)).instrument(span.clone()).await;
    let failures = context
        .registry
        .remember(&object, |memory| retry::count_failures(&mut memory.failures, result.is_err()));
    let took = begun.elapsed();
    retry::finish(&context.metrics, Kind::VncPassword, took, result, failures, |error, source| {
        span.in_scope(|| tracing::warn!(%error, source, "pass failed; it is tried again"));
    })
}

impl Requeue {
    /// Another object acts at the instance.
    const BUSY: Self = Self { after: BUSY, reason: RequeueReason::Busy };
}

async fn reconcile(context: &Context, object: Arc<Object>) -> Result<Option<Requeue>, Error> {
    let spec = match &object.spec {
        Ok(spec) => Arc::clone(spec),
        Err(problem) => return malformed(context, &object, problem).await,
    };
    let mut reconcile = Reconcile::observe(context, object, spec);
    let result = reconcile.run().await;
    let failed = result.is_err() || reconcile.observed.refused.is_some();
    let transient = reconcile.observed.refused.as_ref().is_some_and(|refused| refused.refusal.is_transient());
    let prove_after = reconcile.end_proof(result.is_ok() && !transient);
    if failed {
        reconcile.keep_attempt();
    }
    let prove = prove_after.map(|after| Requeue { after, reason: RequeueReason::Reconciling });
    Ok(result?.into_iter().chain(prove).min_by_key(|requeue| requeue.after))
}

/// The spec cannot be read: records that in the status. A change of the object enqueues it.
async fn malformed(context: &Context, object: &Object, problem: &str) -> Result<Option<Requeue>, Error> {
    context.denied.remove(&object.key);
    let verdict = rotation::invalid_object(&object.status, object.generation, context.now());
    if verdict != *object.status || object.status_is_malformed {
        tracing::warn!(problem, "the object does not fit the schema of this operator");
        status::write(&context.client, object, &verdict).await?;
    }
    Ok(None)
}

/// A running reconcile.
struct Reconcile<'a> {
    context: &'a Context,
    object: Arc<Object>,
    observed: Observed,
    region: Option<Region>,
    /// The identity for calls; `None`: there is none, or it is not known yet.
    identity: Option<Arc<Identity>>,
    /// When the credentials were read: a later change is not part of the call.
    began: Timestamp,
    /// Taken before the Secret is read: a call that is held up in between is refused as too old.
    dated: Dated,
    guard: Option<crate::cloud::instance_locks::InstanceGuard<'a>>,
    /// It began with an unrecorded call of a previous reconcile. Changes since that call have enqueued the
    /// object for that reconcile, so it is enqueued again after the record.
    resumed: bool,
    /// When the rate limiter allows to set a password and to restart the instance; `None`: now.
    slots: [Option<Timestamp>; 2],
    polled: bool,
    conflicts: u32,
    /// The state of the proof of its claim, if it makes one.
    proof: Option<Proof>,
    /// Its try on behalf of objects that lack the same right: which right, and since when.
    group_try: Option<(Action, Timestamp)>,
}

/// The end of a reconcile.
struct End {
    requeue: Option<Requeue>,
}

impl<'a> Reconcile<'a> {
    /// Gathers what this process knows, without a request.
    fn observe(context: &'a Context, object: Arc<Object>, spec: Arc<VncPasswordSpec>) -> Self {
        let now = context.now();
        let region = match &spec.region_id {
            Some(region) => Region::parse(region).ok(),
            None => context.config.region.clone(),
        };
        let credentials = object.credentials().and_then(|secret| context.secrets.version(&secret));
        let (access, identity) = context.identities.access(&object, credentials.as_ref());
        let (mut observed, from_previous_process) =
            observed(context, &object, spec, region.as_ref(), access, now);
        let others_called = context.others_called(&object);
        let term_start = context.term_start().unwrap_or(now);
        if let Some(doubt) = rotation::doubt(&observed, from_previous_process, others_called, term_start, now)
        {
            context.registry.remember(&object, |memory| memory.doubt(doubt.until, doubt.by_other, now));
        }
        observed.history.unsettled = context.unsettled(&object);
        let mut reconcile = Self {
            proof: observed.prove_claim.then_some(Proof::Failed),
            context,
            object,
            observed,
            region,
            identity,
            began: now,
            dated: context.ecs.clock().dated(),
            guard: None,
            resumed: false,
            slots: [None; 2],
            polled: false,
            conflicts: 0,
            group_try: None,
        };
        reconcile.saw_status();
        reconcile.observe_group();
        // No other object may act at the instance before an accepted call is recorded.
        if reconcile.observed.attempt.is_some() {
            reconcile.resumed = true;
            reconcile.guard = reconcile.lock_instance();
        }
        reconcile.ask_limiter();
        reconcile
    }

    /// Records when the rate limiter allows calls of this identity.
    fn ask_limiter(&mut self) {
        let (requester, now) = (requester(&self.object.key), self.context.now());
        let opens = |action| self.context.limiter.next_slot(self.route(action)?, &requester, now);
        self.slots = [opens(Action::ModifyInstanceVncPasswd), opens(Action::RebootInstance)];
        let route = self.route(Action::ModifyInstanceVncPasswd);
        let in_line = route.is_some_and(|route| self.context.limiter.is_queued(route, &requester));
        self.observed.in_line = in_line;
        self.ask_allowance();
    }

    /// Records when the object may call: by the rate limiter, and by its own allowance.
    fn ask_allowance(&mut self) {
        let own = self.opens();
        let [modify, reboot] = self.slots;
        (self.observed.limiter_opens, self.observed.reboot_opens) = (modify.max(own), reboot.max(own));
        self.observed.paced = own > modify;
    }

    /// When the object may cause a cloud call; `None`: now. A call that proves a claim has a backoff of its
    /// own: others wait for it.
    fn opens(&self) -> Option<Timestamp> {
        if self.observed.prove_claim {
            return None;
        }
        self.context.registry.recent_calls(&self.object.key)?.actions.opens(self.context.now())
    }

    /// When its instance may be polled; `None`: now.
    fn polls_open(&self) -> Option<Timestamp> {
        if self.observed.prove_claim {
            return None;
        }
        self.context.registry.recent_calls(&self.object.key)?.polls.opens(self.context.now())
    }

    /// The call allowance of the object.
    fn calls(&self) -> Arc<Calls> {
        self.context.registry.calls(&self.object.key)
    }

    /// Compares the status of the newest version with the last known one, to detect another writer.
    fn saw_status(&self) {
        let now = self.context.now();
        let (object, secret) = (&self.object, self.secret_version());
        let saw = |memory: &mut Memory| memory.saw_status(object, secret.as_ref(), now);
        let contested = self.context.registry.remember(object, saw);
        if contested == Some(true) {
            self.context.events.publish(&self.object, self.context.contested_status(&self.object.key));
        }
    }

    /// The version of the object's Secret that the watch knows.
    fn secret_version(&self) -> Option<SecretVersion> {
        self.context.secrets.version(&self.object.secret()?)
    }

    /// Until when the status is left to another writer.
    fn leaves_status_until(&self) -> Option<Timestamp> {
        let now = self.context.now();
        let competition = |memory: &mut Memory| memory.status_competition.as_ref()?.waits_until(now);
        self.context.registry.remember(&self.object, competition)?
    }

    /// Writes the status. Where no reply comes, whatever stands there next may be this process's own.
    async fn write_status(&self, status: &VncPasswordStatus) -> Result<Written, Error> {
        let written = status::write(&self.context.client, &self.object, status).await;
        if written.is_err() {
            self.context.registry.remember(&self.object, |memory| memory.lost_status_write(&self.object));
        }
        written
    }

    /// Takes in a version of the object with a status that this process wrote.
    fn wrote_status(&self, object: &Arc<Object>) {
        let (now, secret) = (self.context.now(), self.secret_version());
        self.context.registry.remember(&self.object, |memory| {
            memory.wrote_status(object, secret.as_ref(), now);
            memory.written = Some(Arc::clone(object));
        });
    }

    /// What the API counts together with this object's calls; `None`: it makes none.
    fn route(&self, action: Action) -> Option<RateLimitKey<'_>> {
        let (region, scope) = (self.region.as_ref()?.as_str(), self.identity.as_ref()?.scope());
        Some(RateLimitKey { action, scope, region })
    }

    /// Keeps the queue slot of an object that waits for the rate limiter; drops it otherwise. Returns the
    /// time of the slot.
    fn update_rate_limit_slot(&self, verdict: &Verdict) -> Option<Timestamp> {
        let context = self.context;
        let (limiter, requester, now) = (&context.limiter, requester(&self.object.key), context.now());
        let [modify, reboot] = self.slots;
        let turns = [(Action::ModifyInstanceVncPasswd, modify), (Action::RebootInstance, reboot)];
        let mut slot = None;
        for (action, opens) in turns {
            let Some(route) = self.route(action) else { continue };
            // Times in the status are truncated to seconds.
            let second = |at: Option<Timestamp>| at.map(Timestamp::as_second);
            if opens.is_some() && second(opens) == second(verdict.wake) {
                slot = Some(limiter.enqueue(route, &requester, now));
            } else {
                limiter.withdraw(route, &requester);
            }
        }
        slot
    }

    /// Decides and acts until there is nothing more to do now.
    async fn run(&mut self) -> Result<Option<Requeue>, Error> {
        self.contest_owner().await?;
        self.check_other_identities().await?;
        for _ in 0..MAX_STEPS {
            let now = self.context.now();
            self.end_try_if_visible();
            match rotation::decide(&self.observed, now) {
                Decision::ReadCredentials => self.read_credentials().await?,
                Decision::ReadSecret => self.read_secret().await?,
                Decision::Draw => self.draw()?,
                Decision::WriteSecret(write) => {
                    if !self.write_secret(*write).await? {
                        return Ok(Some(self.busy()));
                    }
                }
                Decision::Send(purpose) => {
                    if !self.send(purpose).await? {
                        return Ok(Some(self.busy()));
                    }
                }
                Decision::Announce(announcement, verdict) => {
                    if let Some(end) = self.announce(announcement, *verdict).await? {
                        return Ok(end.requeue);
                    }
                }
                Decision::Reboot => {
                    if !self.reboot().await {
                        return Ok(Some(self.busy()));
                    }
                }
                Decision::Rest(verdict) => {
                    let poll_now = verdict.deferred && verdict.look.is_some_and(|due| due <= now);
                    if poll_now && self.poll_instance().await {
                        continue;
                    }
                    if let Some(end) = self.record(*verdict).await? {
                        return Ok(end.requeue);
                    }
                }
            }
        }
        Err(Error::Endless { object: self.object.key.clone() })
    }

    /// The reconcile may not act now, and is requeued.
    fn busy(&mut self) -> Requeue {
        self.proof = self.proof.map(|_| Proof::Pending);
        Requeue::BUSY
    }

    /// Writes the new status; `None`: the object has changed, decide again.
    async fn record(&mut self, verdict: Verdict) -> Result<Option<End>, Error> {
        let context = self.context;
        // If the operator may not see instances, the denied groups decide who polls.
        let unseen = !verdict.deferred && missing_right(&verdict.status) == Some(MissingRight::SeeInstance);
        self.schedule_poll(verdict.look.filter(|_| !unseen));
        let slot = self.update_rate_limit_slot(&verdict);
        if !verdict.deferred {
            let paced = self.observed.limiter_opens.filter(|_| self.observed.paced);
            self.update_group(&verdict.status, slot.or(paced));
        }
        if verdict.deferred && self.proof == Some(Proof::Failed) {
            self.proof = match self.observed.look.as_ref().map(|look| &look.found) {
                // DescribeInstances may be throttled, and a tenant can throttle its own account.
                None => Some(Proof::Throttled),
                Some(Found::Failed) => Some(Proof::Unanswered),
                Some(_) => self.proof,
            };
        }
        let reply = self.observed.attempt.as_ref().map(|attempt| &attempt.reply);
        let reason = requeue_reason(&verdict.status, reply, slot.is_some());
        let now = context.now();
        // The poll enqueues the object. This is the fallback if it does not.
        let awaits = verdict.look.filter(|_| verdict.deferred && !unseen);
        let lost = awaits.map(|due| due.max(now).checked_add(LOST_POLL).unwrap_or(due));
        let requeue = slot.or(verdict.wake).or(lost);
        let end =
            |at: Option<Timestamp>| End { requeue: at.map(|at| Requeue { after: until(at, now), reason }) };
        if verdict.status == *self.observed.status && !self.object.status_is_malformed {
            self.remember(verdict, None);
            return Ok(Some(end(requeue)));
        }
        // The outcome of a call is recorded even if another writer changes the status.
        if self.observed.attempt.is_none()
            && let Some(wait) = self.leaves_status_until()
        {
            return Ok(Some(end(requeue.into_iter().chain([wait]).min())));
        }
        match self.write_status(&verdict.status).await? {
            Written::Done(object) => {
                if self.observed.generation != self.object.generation {
                    // The outcome was recorded for the previous generation: reconcile the change now.
                    context.enqueue(self.object.key.clone());
                }
                self.remember(verdict, Some(Arc::new(object)));
                Ok(Some(end(requeue)))
            }
            Written::Gone => Ok(Some(End { requeue: None })),
            Written::Conflict => self.refresh().await,
        }
    }

    /// Schedules the next instance poll for this object. `None`: it needs none.
    fn schedule_poll(&self, due: Option<Timestamp>) {
        let (context, instance) = (self.context, &self.observed.spec.instance_id);
        match (due, &self.region, &self.identity) {
            (Some(due), Some(region), Some(identity)) => {
                let due = self.polls_open().map_or(due, |opens| opens.max(due));
                context.instance_poller.request(identity, instance, region, due, &self.calls());
            }
            // The object may not use the operator's identity, so it must not end the polls of objects that
            // may.
            _ if self.observed.access == Access::AmbientDenied => {}
            _ if self.observed.owner == Owner::This || !context.registry.has_peer(&self.object) => {
                context.instance_poller.forget(&self.object.identity_name(), instance);
            }
            // The owner may wait for a poll of the same identity.
            _ => {}
        }
    }

    /// Remembers what the next reconcile needs, and publishes the events.
    fn remember(&self, verdict: Verdict, written: Option<Arc<Object>>) {
        let context = self.context;
        // If the API server refuses the record of a call, the change waits for the same backoff.
        if self.resumed && self.observed.refused.is_none() {
            context.enqueue(self.object.key.clone());
        }
        context.registry.remember(&self.object, |memory| {
            if let Some(read) = &self.observed.read
                && !verdict.deferred
            {
                memory.last_read = read.version().cloned();
            }
            if let Some(applied) = verdict.applied_value {
                memory.applied = Some(applied);
            }
        });
        if let Some(written) = written {
            self.wrote_status(&written);
        }
        for note in verdict.notes {
            context.events.publish(&self.object, note);
        }
    }

    /// The object has changed: decides again on its newest version. A call that was made still counts.
    async fn refresh(&mut self) -> Result<Option<End>, Error> {
        self.conflicts += 1;
        if self.conflicts > MAX_CONFLICTS {
            return Err(Error::Contended { object: self.object.key.clone() });
        }
        let fresh = status::read(&self.context.client, &self.object.key).await?;
        let Some(fresh) = fresh.filter(|fresh| fresh.uid == self.object.uid) else {
            return Ok(Some(End { requeue: None }));
        };
        let fresh = Arc::new(fresh);
        if fresh.generation != self.object.generation {
            // The watch may take the change for an echo of an own write. The decision of this reconcile is
            // older: the outcome of a call is recorded as such, and the change is reconciled afterwards.
            self.context.enqueue(fresh.key.clone());
            if self.observed.attempt.is_none() {
                self.context.registry.remember(&fresh, |memory| memory.written = Some(Arc::clone(&fresh)));
                return Ok(Some(End { requeue: None }));
            }
        }
        if fresh.rotate_at != self.object.rotate_at {
            self.context.enqueue(fresh.key.clone());
        }
        self.observed.status = Arc::clone(&fresh.status);
        self.context.registry.remember(&fresh, |memory| memory.written = Some(Arc::clone(&fresh)));
        self.object = fresh;
        self.saw_status();
        Ok(None)
    }

    /// Records how the proof of the claim ended. After an error of the API server the next reconcile tries
    /// again, but not forever: an object whose Secret cannot be read or written must not block an instance.
    /// Returns when to prove the claim again.
    fn end_proof(&self, ended: bool) -> Option<Duration> {
        let mut proof = self.proof?;
        if proof == Proof::Failed && self.slots[0].is_some() {
            proof = Proof::Throttled;
        }
        let region = self.observed.region.as_deref();
        let requeue = self.context.registry.remember(&self.object, |memory| {
            let refused = memory.refused.as_ref().map_or(0, |refused| refused.attempts);
            let failures = memory.failures.saturating_add(1).max(refused);
            if !ended && proof == Proof::Failed && failures < MAX_PROOF_FAILURES {
                proof = Proof::Pending;
            }
            memory.claim.proof_ended(proof, region, Instant::now())
        });
        requeue.flatten()
    }

    /// The outcome of a call could not be written: the next reconcile writes it, instead of calling again.
    fn keep_attempt(&mut self) {
        if let Some(attempt) = self.observed.attempt.take() {
            let unrecorded = Some(Box::new((self.observed.generation, attempt)));
            self.context.registry.remember(&self.object, |memory| memory.unrecorded = unrecorded);
        }
    }
}

/// The input of the decision before the first step, and whether a previous process may have acted on the
/// object.
fn observed(
    context: &Context,
    object: &Object,
    spec: Arc<VncPasswordSpec>,
    region: Option<&Region>,
    access: Access,
    now: Timestamp,
) -> (Observed, bool) {
    let failed = object.status.retry.as_ref().and_then(|retry| retry.last_failure_time.as_ref());
    let changed = context.identities.changed_at(object);
    let can_act = matches!(access, Access::Granted | Access::Unread);
    let poll = context.instance_poller.latest(&object.identity_name(), &spec.instance_id);
    let Remembered { from_previous_process, history, unrecorded, failure, secret_paused_until } =
        remembered(context, object, can_act, poll.as_ref(), now);
    let (generation, attempt) =
        unrecorded.map_or((object.generation, None), |recorded| (recorded.0, Some(recorded.1)));
    let owner = context.owner(object);
    let prove_claim = owner == Owner::This && context.registry.must_prove(object);
    let observed = Observed {
        generation,
        created: object.created,
        status: Arc::clone(&object.status),
        region: region.map(|region| region.as_str().to_owned()),
        enforce_interval: spec.enforce_interval.as_deref().and_then(api::duration),
        plan: Plan::new(spec.rotation.as_deref(), spec.window.as_deref()),
        rotate_at: object.rotate_at,
        spread: spec.rotation.as_ref().map_or(0.0, |_| spread(&object.uid)),
        superseded: context.superseded(object),
        deleting: object.deleting,
        prove_claim,
        owner,
        in_fleet: object.membership.is_some(),
        access,
        credentials_changed: changed
            .zip(failed)
            .is_some_and(|(changed, failed)| is_later(changed, failed.0, failure)),
        secret: object.secret().and_then(|secret| context.secrets.version(&secret)),
        read: None,
        history,
        look: poll,
        limiter_opens: None,
        paced: false,
        secret_paused_until: secret_paused_until.filter(|_| spec.rotation.is_some() && !prove_claim),
        in_line: false,
        reboot_opens: None,
        drawn: None,
        announced: None,
        rebooted: None,
        refused: None,
        attempt,
        writer: Arc::clone(&context.writer),
        allow_reboot: context.config.allow_reboot,
        settle: context.config.settle,
        jitter: rand::random(),
        spec,
    };
    (observed, from_previous_process)
}

/// What this process remembers of an object when a reconcile begins.
#[derive(Default)]
struct Remembered {
    from_previous_process: bool,
    history: History,
    unrecorded: Option<Box<(i64, Attempt)>>,
    failure: Option<Failure>,
    secret_paused_until: Option<Timestamp>,
}

fn remembered(
    context: &Context,
    object: &Object,
    can_act: bool,
    poll: Option<&Look>,
    now: Timestamp,
) -> Remembered {
    let remembered = context.registry.remember(object, |memory| {
        memory.recover(now);
        memory.count_refusals(&object.status, poll, now);
        // Only an object that can act needs to consider calls of a previous process. The flag stays until it
        // can.
        let from_previous_process = memory.from_previous_process && can_act;
        memory.from_previous_process &= !can_act;
        Remembered {
            from_previous_process,
            history: memory.history(),
            unrecorded: memory.unrecorded.take(),
            failure: memory.failure,
            secret_paused_until: memory
                .secret_competition
                .as_ref()
                .and_then(|competition| competition.waits_until(now)),
        }
    });
    remembered.unwrap_or_default()
}

/// Whether credentials have changed since a call failed. The status keeps that time to the second only, and
/// what is cut is not compared with what is not: `failure` is the last one as this process remembers it.
fn is_later(changed: Timestamp, failed: Timestamp, failure: Option<Failure>) -> bool {
    match failure.filter(|failure| failure.at.as_second() == failed.as_second()) {
        Some(failure) => changed >= failure.began,
        None => changed.as_second() > failed.as_second(),
    }
}

/// Why the object is requeued. The reply of a call in this reconcile takes precedence.
fn requeue_reason(status: &VncPasswordStatus, reply: Option<&Reply>, waits_for_slot: bool) -> RequeueReason {
    let stands = |type_| status.condition(type_).is_some();
    match reply.map(outcome::classify) {
        Some(class) if class != Class::Accepted => RequeueReason::Reply(class),
        _ if waits_for_slot => RequeueReason::RateLimited,
        _ if stands(ConditionType::Stalled) => RequeueReason::Stalled,
        _ if stands(ConditionType::Reconciling) => RequeueReason::Reconciling,
        _ => RequeueReason::Scheduled,
    }
}

/// The object as a requester of the rate limiter.
fn requester(key: &Key) -> Requester {
    Requester::new(&key.namespace, &key.name)
}

/// A fraction from 0 up to 1 that is always the same for this object.
#[allow(clippy::cast_precision_loss, reason = "53 bits fit")]
fn spread(uid: &str) -> f64 {
    let hash = Sha256::digest(uid);
    let bits = hash.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// The time until `at`, plus a little so that it has passed.
pub(crate) fn until(at: Timestamp, now: Timestamp) -> Duration {
    let left = Duration::try_from(at.duration_since(now)).unwrap_or_default();
    left + Duration::from_millis(5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_that_changed_before_the_call_failed_bypass_no_backoff() {
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap();
        let failure = |began, failed| Some(Failure { began: at(began), at: at(failed) });
        let table = [
            ("changed before the reconcile, in the same second", 5_200, failure(5_300, 5_700), false),
            ("changed during the call", 5_500, failure(5_300, 5_700), true),
            ("changed after the call, in the same second", 5_900, failure(5_300, 5_700), true),
            ("changed later", 6_100, failure(5_300, 5_700), true),
            ("began in the second before", 4_950, failure(4_900, 5_700), true),
            ("of a former process, in the same second", 5_200, None, false),
            ("of a former process", 6_000, None, true),
            ("of a former process, later", 4_999, None, false),
            ("another failure is remembered", 5_200, failure(1_000, 1_100), false),
        ];
        for (name, changed, failure, later) in table {
            assert_eq!(is_later(at(changed), at(5_000), failure), later, "{name}");
        }
    }

    #[test]
    fn the_answer_says_most_of_why_an_object_comes_again() {
        let status = |types: &[&str]| -> VncPasswordStatus {
            let condition = |type_| {
                serde_json::json!({"type": type_, "status": "True", "reason": "Denied", "message": "",
                    "lastTransitionTime": "2026-01-01T00:00:00Z"})
            };
            let conditions: Vec<_> = types.iter().map(condition).collect();
            serde_json::from_value(serde_json::json!({"conditions": conditions})).unwrap()
        };
        let accepted = Reply::Accepted { request_id: "1".to_owned() };
        let table = [
            (&["Reconciling"][..], Some(&Reply::Unknown), true, RequeueReason::Reply(Class::OutcomeUnknown)),
            (&["Reconciling"], Some(&accepted), true, RequeueReason::RateLimited),
            (&["Stalled"], None, false, RequeueReason::Stalled),
            (&["Ready", "Reconciling"], Some(&accepted), false, RequeueReason::Reconciling),
            (&["Ready"], Some(&accepted), false, RequeueReason::Scheduled),
            (&[], None, false, RequeueReason::Scheduled),
        ];
        for (types, reply, waits, expected) in table {
            assert_eq!(requeue_reason(&status(types), reply, waits), expected, "{types:?} {reply:?} {waits}");
        }
    }
}
