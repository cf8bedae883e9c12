//! What reconciles share: the state of this process and the clients. The modules `reconcile` and `watches`
//! are above it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::channel::mpsc::UnboundedSender;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::sync::Semaphore;

use crate::{
    cloud::{
        InstancePoller,
        denied_groups::DeniedGroups,
        identities::Identities,
        instance_locks::{InstanceLocks, KEPT, UnsettledCall},
    },
    events::Events,
    runtime::{Metrics, clock_steps::Step},
    settings::ControllerSettings,
    store::{
        fleets::Fleets,
        namespaces::Namespaces,
        nodes::Nodes,
        object::{self, Key},
        registry::{Registry, Term},
        secrets::{SecretError, Secrets},
    },
};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{Action, Limiter, RateLimitKey};
use vncpassword_core::{
    api::STATUS_CONTESTED,
    rotation::{
        self, Note,
        facts::{Access, FingerprintKey, Owner, Unsettled},
        ownership::Basis,
    },
};

/// The shared state. Built once per term.
pub(crate) struct Context {
    pub(crate) client: Client,
    pub(crate) ecs: ecs::Client,
    pub(crate) identities: Identities,
    pub(crate) limiter: Arc<Limiter>,
    pub(crate) denied: DeniedGroups,
    pub(crate) instance_poller: InstancePoller,
    /// How many new objects may wait for their first instance poll within a reconcile. The others are
    /// requeued.
    pub(crate) poll_permits: Semaphore,
    pub(crate) config: ControllerSettings,
    pub(crate) registry: Registry,
    pub(crate) fleets: Fleets,
    /// Permits for discovery calls. A discovery that waits for the rate limiter has none.
    pub(crate) discovering: Semaphore,
    pub(crate) nodes: Nodes,
    pub(crate) secrets: Secrets,
    pub(crate) namespaces: Namespaces,
    pub(crate) instance_locks: InstanceLocks,
    /// When this process began to lead. Calls of a previous process were made before.
    pub(crate) term_start: Mutex<Option<Timestamp>>,
    pub(crate) events: Events,
    pub(crate) fingerprints: FingerprintKey,
    /// This process, in the records that it writes.
    pub(crate) writer: Arc<str>,
    pub(crate) metrics: Arc<Metrics>,
    /// The work queue of objects.
    pub(crate) object_sender: UnboundedSender<Key>,
    /// The work queue of fleets.
    pub(crate) fleet_sender: UnboundedSender<Arc<str>>,
    /// The queue of fleets whose instances are to be discovered.
    pub(crate) discovery_sender: UnboundedSender<Arc<str>>,
}

impl Context {
    /// Cancels the instance poll of this object. Other objects with the same identity request it again. An
    /// object without an identity must not cancel the polls of objects that use the operator's identity.
    pub(crate) fn cancel_polls(&self, object: &object::Object) {
        let Ok(spec) = &object.spec else { return };
        if !self.identities.has_none(object) {
            self.instance_poller.forget(&object.identity_name(), &spec.instance_id);
        }
    }

    /// Another writer keeps changing the status of an object: logs it and returns the event.
    pub(crate) fn contested_status(&self, object: &dyn std::fmt::Display) -> Note {
        self.metrics.status_contested.inc();
        let text = "something else keeps changing the status, probably a second operator that watches the same namespaces \
                    (kubectl vncpassword doctor); the operator leaves it alone for a while";
        tracing::warn!(%object, "{text}");
        Note { warning: true, reason: STATUS_CONTESTED, text: text.to_owned() }
    }

    /// The wall clock.
    pub(crate) fn now(&self) -> Timestamp {
        self.ecs.clock().local()
    }

    /// Follows a step of the wall clock, or a sleep of the machine. The times until which calls may arrive
    /// move with the clock. After a step back, other stored times move too, and all objects and fleets are
    /// enqueued, which cuts stored times that are impossible now. After a step forward, the queues find by
    /// themselves what is due.
    pub(crate) fn clock_stepped(&self, by: SignedDuration) {
        tracing::warn!(
            seconds = by.as_secs(),
            "the clock was stepped by so many seconds, or the machine slept"
        );
        let now = self.now();
        let step = Step { by, now, settled: rotation::settled_at(now, self.config.settle) };
        self.instance_locks.stepped(&step);
        self.registry.stepped(&step);
        let mut term_start = self.term_start.lock().unwrap_or_else(PoisonError::into_inner);
        *term_start = term_start.map(|start| {
            let settled = rotation::settled_at(start, self.config.settle);
            start.saturating_add(step.deadline_after(settled).duration_since(settled)).unwrap_or(start)
        });
        drop(term_start);
        if !by.is_negative() {
            return;
        }
        self.instance_poller.set_back(by);
        self.denied.set_back(by);
        self.identities.set_back(by);
        self.fleets.set_back(by);
        self.enqueue_all(self.registry.keys(None).into_iter().map(|(key, _)| key).collect());
        for name in self.fleets.names() {
            self.enqueue_fleet(&name);
            self.enqueue_discovery(&name);
        }
    }

    pub(crate) fn begin_term(&self) {
        let now = self.now();
        self.term_start.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
    }

    /// When this process began to lead.
    pub(crate) fn term_start(&self) -> Option<Timestamp> {
        *self.term_start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The owner of the instance that the object names.
    pub(crate) fn owner(&self, object: &object::Object) -> Owner {
        self.registry.owner(object, |one, other| self.identities.relation(one, other))
    }

    /// Whether another object's call was accepted at the instance since the last one of this object.
    pub(crate) fn superseded(&self, object: &object::Object) -> bool {
        self.registry.superseded(object, |one, other| self.identities.relation(one, other))
    }

    /// Whether the API has accepted calls of other objects at the object's instance.
    pub(crate) fn others_called(&self, object: &object::Object) -> bool {
        self.registry.others_called(object, |one, other| self.identities.relation(one, other))
    }

    /// The object that blocks this one from its instance, and the basis of its claim.
    pub(crate) fn blocking_owner(&self, object: &object::Object) -> Option<(Arc<object::Object>, Basis)> {
        self.registry.blocking_owner(object, |one, other| self.identities.relation(one, other))
    }

    /// The term of this process; `None` before it leads.
    pub(crate) fn term(&self) -> Option<Term> {
        let settled = self.term_start()?.checked_add(self.config.settle).ok()?;
        Some(Term { settled })
    }

    /// Until when a call that a process before this one made for another object may arrive at the object's
    /// instance, or may have arrived, and the objects of other identities that this rests on.
    pub(crate) fn others_before(
        &self,
        object: &object::Object,
    ) -> (Option<Timestamp>, Vec<Arc<object::Object>>) {
        let now = self.now();
        let Some(term) = self.term().filter(|term| term.settled > now - KEPT) else {
            return (None, Vec::new());
        };
        self.registry.others_before(object, term, now, |one, other| self.identities.relation(one, other))
    }

    /// What may still arrive at the object's instance: by calls that this process made, and by those that one
    /// before it may have made for another object. Calls that are known to be another account's do not
    /// concern it.
    pub(crate) fn unsettled(&self, object: &object::Object) -> Vec<Unsettled> {
        let Ok(spec) = &object.spec else { return Vec::new() };
        let (own, now) = (object.identity_name(), self.now());
        let region = spec.region_id.as_deref().or(self.config.region.as_ref().map(ecs::Region::as_str));
        let concerns =
            |late: &UnsettledCall| late.may_reach(region) && !self.identities.is_apart(&late.caller, &own);
        let mut unsettled = self.instance_locks.unsettled(&spec.instance_id, &object.uid, now, concerns);
        let (before, _) = self.others_before(object);
        unsettled.extend(before.map(|until| Unsettled { value: None, until, by_other: true }));
        let doubt = self.registry.doubt_of(object).filter(|(until, _)| *until > now - KEPT);
        unsettled.extend(doubt.map(|(until, by_other)| Unsettled { value: None, until, by_other }));
        unsettled
    }

    /// The identity of an object. Reads its Secret if necessary.
    pub(crate) async fn identity_of(
        &self,
        object: &object::Object,
    ) -> Result<Option<Arc<ecs::Identity>>, SecretError> {
        self.access_of(object).await.map(|(_, identity)| identity)
    }

    /// The same with the reason if there is none.
    pub(crate) async fn access_of(
        &self,
        object: &object::Object,
    ) -> Result<(Access, Option<Arc<ecs::Identity>>), SecretError> {
        let version = object.credentials().and_then(|secret| self.secrets.version(&secret));
        match (self.identities.access(object, version.as_ref()), object.credentials()) {
            ((Access::Unread, _), Some(secret)) => self.read_credentials(&secret).await,
            (known, _) => Ok(known),
        }
    }

    /// Whether an instance without a member object belongs to another object. `member_object`: what the fleet
    /// would create.
    pub(crate) fn is_elsewhere(&self, id: &str, member_object: &object::Object) -> bool {
        self.registry.is_taken(id, member_object, |one, other| self.identities.relation(one, other))
    }

    /// The shortest time between two calls for objects like this one in these regions, where it is limited in
    /// all of them.
    pub(crate) fn spacing<'a>(
        &self,
        object: &object::Object,
        regions: impl IntoIterator<Item = &'a str>,
    ) -> Option<Duration> {
        let version = object.credentials().and_then(|secret| self.secrets.version(&secret));
        let identity = self.identities.access(object, version.as_ref()).1?;
        let (action, scope) = (Action::ModifyInstanceVncPasswd, identity.scope());
        let now = self.now();
        let spacings = regions
            .into_iter()
            .map(|region| self.limiter.spacing(RateLimitKey { action, scope, region }, now));
        // Regions go side by side.
        let a_second: f64 =
            spacings.map(|spacing| Some(spacing?.as_secs_f64().recip())).sum::<Option<f64>>()?;
        Duration::try_from_secs_f64(a_second.recip()).ok()
    }

    /// Whether the objects of a namespace are known.
    pub(crate) fn watches(&self, namespace: &str) -> bool {
        self.namespaces.serve(namespace)
    }

    pub(crate) fn enqueue_fleet(&self, name: &Arc<str>) {
        self.fleet_sender.unbounded_send(Arc::clone(name)).ok();
    }

    pub(crate) fn enqueue_discovery(&self, name: &Arc<str>) {
        self.discovery_sender.unbounded_send(Arc::clone(name)).ok();
    }

    /// Enqueues the fleets that select Nodes.
    pub(crate) fn enqueue_node_fleets(&self) {
        for name in self.fleets.names() {
            let fleet = self.fleets.newest(&name);
            let spec = fleet.as_ref().and_then(|fleet| fleet.spec.as_ref().ok());
            if spec.is_some_and(|spec| spec.node_selector.is_some()) {
                self.enqueue_fleet(&name);
            }
        }
    }

    /// Reads a Secret with credentials. If no object uses it any more, the result is not kept.
    pub(crate) async fn read_credentials(
        &self,
        secret: &Key,
    ) -> Result<(Access, Option<Arc<ecs::Identity>>), SecretError> {
        let read = self.identities.read(&self.client, secret).await;
        if let Some(principal) = self.identities.principal_in(secret) {
            self.registry.credentials_renewed(secret, &principal);
        }
        if !self.registry.has_credential_users(secret) {
            self.identities.forget(secret);
        }
        read
    }

    /// Enqueues the objects that use the credentials in a changed Secret.
    pub(crate) fn enqueue_credential_users(&self, secret: &Key) {
        if self.registry.has_credential_users(secret) {
            self.identities.changed(secret);
            self.enqueue_all(self.registry.credential_users(secret));
        }
    }

    pub(crate) fn enqueue_all(&self, keys: Vec<Key>) {
        for key in keys {
            self.enqueue(key);
        }
    }

    pub(crate) fn enqueue(&self, key: Key) {
        // Fails only after the queue has ended.
        self.object_sender.unbounded_send(key).ok();
    }
}
