//! The Kubernetes side: what is watched, and how one pass runs from observing to recording.
//!
//! | file | what lives there |
//! |---|---|
//! | `vnc_password` | one pass over one object: observe, decide, act, record |
//! | `fleet` | one pass over one fleet: its instances, its children, what is next |
//! | `fleets`, `nodes` | the fleets and the Nodes, and what this process remembers of each |
//! | `list_watch` | lists a kind in pages that fit into memory, then watches it |
//! | `watches` | the watches, and whom an event concerns |
//! | `queue` | runs passes: each object once at a time, so many at once, again when asked |
//! | `registry` | the objects, and what this process remembers of each |
//! | `namespaces` | which of the watched namespaces can be read |
//! | `identities` | who calls for which object |
//! | `secrets` | versions of all Secrets; the contents of one, when needed |
//! | `instances` | what is under way or unsettled at each instance |
//! | `status` | writing the status |
//! | `events` | Events, sent beside the passes |
//! | `snapshot` | what a scrape of the metrics is told |
//! | `denied_groups` | groups of objects that lack the same right, and which of them is tried when |
//! | `clock_steps` | tells when the wall clock was stepped |
//! | `object` | the objects as this process keeps them |

mod clock_steps;
mod denied_groups;
mod error;
mod events;
mod fleet;
mod fleets;
mod identities;
mod instances;
mod list_watch;
mod namespaces;
mod nodes;
mod object;
mod queue;
mod registry;
mod secrets;
mod snapshot;
mod status;
mod vnc_password;
mod watches;

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded},
};
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::{sync::Semaphore, time::Instant};

pub use crate::settings::{Ambient, ControllerSettings as Config};
use crate::{
    api::STATUS_CONTESTED,
    cloud::InstancePoller,
    ecs::{self, Action, Limiter, Requester, Route, connect::Cloud},
    rotation::{
        self, Note,
        facts::{Access, FingerprintKey, Owner, Unsettled},
        ownership::Basis,
    },
    runtime::{Metrics, Probes, Progress, Queue, Readiness, Shutdown, Source},
};
use clock_steps::{ClockSteps, Step};
use denied_groups::{DeniedGroups, Moment};
pub use error::Error;
use events::Events;
use fleets::Fleets;
use identities::Identities;
pub use identities::OPERATOR;
use instances::{Instances, KEPT, Late};
use namespaces::Namespaces;
use nodes::Nodes;
use object::Key;
use registry::{Registry, Term};
use secrets::Secrets;

/// What a controller works with.
#[derive(Clone)]
pub struct Surroundings {
    /// The API server.
    pub client: Client,
    /// The cloud.
    pub cloud: Cloud,
    /// The uid of the cluster, if it is known.
    pub cluster: Option<Arc<str>>,
    /// How long the minute is in which the cloud counts calls: 60 s.
    pub minute: Duration,
}

/// Everything that passes share. Built once.
struct Context {
    client: Client,
    ecs: ecs::Client,
    identities: Identities,
    limiter: Arc<Limiter>,
    denied: DeniedGroups,
    instance_poller: InstancePoller,
    /// How many new objects may wait for their first poll within a reconcile. For the others it ends, and comes again.
    poll_permits: Semaphore,
    config: Config,
    registry: Registry,
    fleets: Fleets,
    /// Places for calls that discover instances. Who waits for the limiter has none.
    discovering: Semaphore,
    nodes: Nodes,
    secrets: Secrets,
    namespaces: Namespaces,
    instances: Instances,
    /// When this process began to lead: what a process before it did was done by then.
    term_start: Mutex<Option<Timestamp>>,
    events: Events,
    fingerprints: FingerprintKey,
    /// This process, in the records that it writes.
    writer: Arc<str>,
    metrics: Arc<Metrics>,
    /// Objects to pass over now.
    wake: UnboundedSender<Key>,
    /// Fleets to pass over now.
    wake_fleets: UnboundedSender<Arc<str>>,
    /// Fleets to ask the cloud for now.
    wake_discoveries: UnboundedSender<Arc<str>>,
}

/// Runs until shutdown is asked for, then finishes what is in flight.
///
/// # Errors
/// The system gives no random numbers.
pub async fn run(
    surroundings: Surroundings,
    config: Config,
    metrics: Arc<Metrics>,
    probes: Probes,
    shutdown: Shutdown,
) -> Result<(), Error> {
    let mut random = zeroize::Zeroizing::new([0; 64]);
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, random.as_mut())
        .map_err(|_| Error::NoRandomNumbers)?;
    let Surroundings { client, cloud, cluster, minute } = surroundings;
    let Cloud { ecs, sts, operator } = cloud;
    let Probes { readiness, health } = probes;
    let (wake, mut woken) = unbounded();
    let (wake_fleets, mut woken_fleets) = unbounded();
    let (wake_discoveries, mut woken_discoveries) = unbounded();
    let limiter = Arc::new(Limiter::new(config.rates.clone(), ecs.clock().clone(), minute));
    let (events, sender) = Events::new(client.clone(), Arc::clone(&metrics));
    let concurrency = config.concurrency;
    let instance_poller = InstancePoller::new(ecs.clone(), Arc::clone(&limiter));
    let context = Arc::new(Context {
        client,
        instance_poller,
        poll_permits: Semaphore::new(concurrency / 2),
        identities: Identities::new(operator, config.ambient.clone(), sts, ecs.clock().clone(), cluster),
        ecs,
        limiter,
        denied: DeniedGroups::new(minute),
        namespaces: Namespaces::new(&config.namespaces),
        config,
        registry: Registry::default(),
        fleets: Fleets::default(),
        discovering: Semaphore::new(FLEETS),
        nodes: Nodes::default(),
        secrets: Secrets::default(),
        instances: Instances::default(),
        term_start: Mutex::default(),
        events,
        fingerprints: FingerprintKey::new(&random),
        writer: random_id()?.into(),
        metrics,
        wake,
        wake_fleets,
        wake_discoveries,
    });
    let source: Weak<dyn Source> = Arc::downgrade(&context) as _;
    context.metrics.attach(source);
    let sender = tokio::spawn(sender);
    let mut tasks = watches::spawn(&context, &readiness);
    let fleets = Readiness::default();
    if context.config.fleets {
        watches::spawn_fleets(&context, &fleets, &mut tasks);
    }
    tasks.spawn(poll_instances(Arc::clone(&context)));
    tasks.spawn(turns(Arc::clone(&context), health.expect("event loop")));
    let work = async {
        // Nobody decides before everything is listed: the owner of an instance may be in the list that is still to
        // come. Waiting here and not in each pass lets a stop through.
        let mut stop = shutdown.clone();
        ready_or_stopped(&readiness, &mut stop).await;
        tokio::select! {
            () = context.stand_by(&mut woken, &mut woken_fleets, &mut woken_discoveries) => {}
            () = stop.requested() => {}
        }
        context.begin_term();
        let gauges = |queue| context.metrics.queue(queue);
        let objects = queue::run(
            woken,
            concurrency,
            gauges(Queue::Objects),
            Some(health.expect("workers of VncPasswords")),
            shutdown.clone(),
            || context.now(),
            |key| vnc_password::pass(Arc::clone(&context), key),
        );
        let fleets = async {
            ready_or_stopped(&fleets, &mut stop).await;
            // Their passes write many children: a slow API server can hold all of them.
            let passes = queue::run(
                woken_fleets,
                FLEETS,
                gauges(Queue::Fleets),
                None,
                shutdown.clone(),
                || context.now(),
                |name| fleet::pass(Arc::clone(&context), name),
            );
            let discoveries = queue::run(
                woken_discoveries,
                // Most of them wait for the limiter, each for its own account and region.
                usize::MAX,
                gauges(Queue::Discoveries),
                None,
                shutdown.clone(),
                || context.now(),
                |name| fleet::discovery::discover(Arc::clone(&context), name, shutdown.clone()),
            );
            tokio::join!(passes, discoveries);
        };
        tokio::join!(objects, fleets);
    };
    tokio::select! {
        () = work => {}
        // These go on for ever, unless they panic: better no operator than a blind one.
        Some(Err(ended)) = tasks.join_next() => std::panic::resume_unwind(ended.into_panic()),
    }
    tasks.shutdown().await;
    // The last handle to the events goes with the context; what is queued is still sent.
    drop(context);
    tokio::time::timeout(events::FLUSH, sender).await.ok();
    Ok(())
}

async fn ready_or_stopped(readiness: &Readiness, stop: &mut Shutdown) {
    tokio::select! {
        () = readiness.ready() => {}
        () = stop.requested() => {}
    }
}

/// Fleets that are reconciled, and calls that discover instances, at the same time.
const FLEETS: usize = 4;
/// How often what is over is forgotten.
const PRUNE: Duration = Duration::from_mins(1);
/// How often those are called up that can call earlier than they were told.
const CALL_UP: Duration = Duration::from_secs(1);

/// Polls the instances that objects wait for, and wakes these, for ever.
async fn poll_instances(context: Arc<Context>) {
    let seen = |instance: &str| {
        context.registry.wake_instance(instance);
        context.wake_all(context.registry.woken());
    };
    context.instance_poller.run(seen).await;
}

/// Each second: wakes the objects whose turn has come in the limiter or in a group, and follows the wall clock. Never ends.
async fn turns(context: Arc<Context>, progress: Progress) {
    let mut pause = tokio::time::interval(CALL_UP);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pruned = Instant::now();
    let mut steps = ClockSteps::new(context.now(), Instant::now());
    loop {
        pause.tick().await;
        progress.made();
        if pruned.elapsed() >= PRUNE {
            context.instances.prune(context.now());
            context.identities.prune();
            context.fleets.prune(context.now());
            pruned = Instant::now();
        }
        context.wake_all(context.registry.woken_crowds(context.now()));
        let now = context.now();
        if let Some(step) = steps.step(now, Instant::now()) {
            context.clock_stepped(step);
        }
        // The instance poller, which belongs to no namespace, comes by itself.
        let called =
            context.limiter.called_up(now).into_iter().filter(|requester| !requester.group.is_empty());
        for Requester { group: namespace, name } in called {
            context.wake(Key { namespace, name });
        }
        context.wake_all(context.denied.due(Moment { wall: now, instant: std::time::Instant::now() }));
    }
}

/// Gives back the room of a table that has become much too large: a table alone never does.
fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}

/// Room that is not worth giving back.
const SMALL: usize = 1024;

/// An id that no other process or rotation has: 64 random bits in hex.
pub(crate) fn random_id() -> Result<String, Error> {
    let mut random = [0; 8];
    rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut random).map_err(|_| Error::NoRandomNumbers)?;
    Ok(format!("{:016x}", u64::from_be_bytes(random)))
}

impl Context {
    /// Waits until this process may act. The watches go on meanwhile, so that nothing is to be listed then; whom they wake
    /// is let go, since all are passed over at the end.
    async fn stand_by(
        &self,
        woken: &mut UnboundedReceiver<Key>,
        woken_fleets: &mut UnboundedReceiver<Arc<str>>,
        woken_discoveries: &mut UnboundedReceiver<Arc<str>>,
    ) {
        if self.config.lease.holds() {
            return;
        }
        let mut gained = std::pin::pin!(self.config.lease.gained());
        loop {
            tokio::select! {
                biased;
                () = &mut gained => break,
                Some(_) = woken.next() => {}
                Some(_) = woken_fleets.next() => {}
                Some(_) = woken_discoveries.next() => {}
            }
        }
        // Another process acted until now: what it began may still be on its way, and nothing seen meanwhile is this
        // process's own.
        self.registry.inherit(self.now());
        self.wake_all(self.registry.woken());
        for name in self.fleets.names() {
            self.wake_fleet(&name);
            self.wake_discovery(&name);
        }
    }

    /// The object waits no longer for a look at its instance. Others of its identity ask again. An object without an identity
    /// never waited for one, and must not end the looks of objects under the operator's own.
    fn forget_looks(&self, object: &object::Object) {
        let Ok(spec) = &object.spec else { return };
        if !self.identities.has_none(object) {
            self.instance_poller.forget(&Identities::name(object), &spec.instance_id);
        }
    }

    /// Something else keeps changing the status of an object: what to log and to tell.
    fn contested_status(&self, object: &dyn std::fmt::Display) -> Note {
        self.metrics.status_contested.inc();
        let text = "something else keeps changing the status, probably a second operator that watches the same namespaces \
                    (kubectl vncpassword doctor); the operator leaves it alone for a while";
        tracing::warn!(%object, "{text}");
        Note { warning: true, reason: STATUS_CONTESTED, text: text.to_owned() }
    }

    /// The wall clock.
    fn now(&self) -> Timestamp {
        self.ecs.clock().local()
    }

    /// The wall clock was stepped, or the machine slept. Until when a call may arrive goes with the clock. After a step back so
    /// do the other times in memory that the clock has shown before, and everything is decided on anew: stored times that
    /// cannot be are cut then. What a step forward has made due is found by itself.
    fn clock_stepped(&self, by: SignedDuration) {
        tracing::warn!(
            seconds = by.as_secs(),
            "the clock was stepped by so many seconds, or the machine slept"
        );
        let now = self.now();
        let step = Step { by, now, settled: rotation::settled_at(now, self.config.settle) };
        self.instances.stepped(&step);
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
        self.wake_all(self.registry.keys(None).into_iter().map(|(key, _)| key).collect());
        for name in self.fleets.names() {
            self.wake_fleet(&name);
            self.wake_discovery(&name);
        }
    }

    fn begin_term(&self) {
        let now = self.now();
        self.term_start.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(now);
    }

    /// When this process began to lead.
    fn term_start(&self) -> Option<Timestamp> {
        *self.term_start.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who owns the instance that the object names.
    fn owner(&self, object: &object::Object) -> Owner {
        self.registry.owner(object, |one, other| self.identities.relation(one, other))
    }

    /// Whether another object's call was accepted at the instance since the last one of this object.
    fn superseded(&self, object: &object::Object) -> bool {
        self.registry.superseded(object, |one, other| self.identities.relation(one, other))
    }

    /// Whether the API has accepted calls of other objects at the object's instance.
    fn others_called(&self, object: &object::Object) -> bool {
        self.registry.others_called(object, |one, other| self.identities.relation(one, other))
    }

    /// Who keeps the object from its instance.
    fn keeper(&self, object: &object::Object) -> Option<(Arc<object::Object>, Basis)> {
        self.registry.keeper(object, |one, other| self.identities.relation(one, other))
    }

    /// The term of this process; `None` before it leads.
    fn term(&self) -> Option<Term> {
        let settled = self.term_start()?.checked_add(self.config.settle).ok()?;
        Some(Term { settled })
    }

    /// Until when a call that a process before this one made for another object may arrive at the object's instance, or may
    /// have arrived, and the objects of other identities that this rests on.
    fn others_before(&self, object: &object::Object) -> (Option<Timestamp>, Vec<Arc<object::Object>>) {
        let now = self.now();
        let Some(term) = self.term().filter(|term| term.settled > now - KEPT) else {
            return (None, Vec::new());
        };
        self.registry.others_before(object, term, now, |one, other| self.identities.relation(one, other))
    }

    /// What may still arrive at the object's instance: by calls that this process made, and by those that one before it may
    /// have made for another object. Calls that are known to be another account's do not concern it.
    fn unsettled(&self, object: &object::Object) -> Vec<Unsettled> {
        let Ok(spec) = &object.spec else { return Vec::new() };
        let (own, now) = (Identities::name(object), self.now());
        let region = spec.region_id.as_deref().or(self.config.region.as_ref().map(ecs::Region::as_str));
        let concerns = |late: &Late| late.may_reach(region) && !self.identities.is_apart(&late.caller, &own);
        let mut unsettled = self.instances.unsettled(&spec.instance_id, &object.uid, now, concerns);
        let (before, _) = self.others_before(object);
        unsettled.extend(before.map(|until| Unsettled { value: None, until, by_other: true }));
        let doubt = self.registry.doubt_of(object).filter(|(until, _)| *until > now - KEPT);
        unsettled.extend(doubt.map(|(until, by_other)| Unsettled { value: None, until, by_other }));
        unsettled
    }

    /// The identity that an object calls under, read where it is not known.
    async fn identity_of(&self, object: &object::Object) -> Result<Option<Arc<ecs::Identity>>, Error> {
        self.access_of(object).await.map(|(_, identity)| identity)
    }

    /// The same, and why there is none.
    async fn access_of(
        &self,
        object: &object::Object,
    ) -> Result<(Access, Option<Arc<ecs::Identity>>), Error> {
        let version = object.credentials().and_then(|secret| self.secrets.version(&secret));
        match (self.identities.access(object, version.as_ref()), object.credentials()) {
            ((Access::Unread, _), Some(secret)) => self.read_credentials(&secret).await,
            (known, _) => Ok(known),
        }
    }

    /// Whether an instance that a fleet has no child for belongs to another object. `child`: what the child would be like.
    fn is_elsewhere(&self, id: &str, child: &object::Object) -> bool {
        self.registry.is_taken(id, child, |one, other| self.identities.relation(one, other))
    }

    /// The shortest time between two calls for objects like this one in these regions, where it is limited in all of them.
    fn spacing<'a>(
        &self,
        object: &object::Object,
        regions: impl IntoIterator<Item = &'a str>,
    ) -> Option<Duration> {
        let version = object.credentials().and_then(|secret| self.secrets.version(&secret));
        let identity = self.identities.access(object, version.as_ref()).1?;
        let (action, scope) = (Action::ModifyInstanceVncPasswd, identity.scope());
        let now = self.now();
        let spacings =
            regions.into_iter().map(|region| self.limiter.spacing(Route { action, scope, region }, now));
        // Regions go side by side.
        let a_second: f64 =
            spacings.map(|spacing| Some(spacing?.as_secs_f64().recip())).sum::<Option<f64>>()?;
        Duration::try_from_secs_f64(a_second.recip()).ok()
    }

    /// Whether the objects of a namespace are known.
    fn watches(&self, namespace: &str) -> bool {
        self.namespaces.serve(namespace)
    }

    fn wake_fleet(&self, name: &Arc<str>) {
        self.wake_fleets.unbounded_send(Arc::clone(name)).ok();
    }

    fn wake_discovery(&self, name: &Arc<str>) {
        self.wake_discoveries.unbounded_send(Arc::clone(name)).ok();
    }

    /// Wakes the fleets that select Nodes.
    fn wake_node_fleets(&self) {
        for name in self.fleets.names() {
            let fleet = self.fleets.newest(&name);
            let spec = fleet.as_ref().and_then(|fleet| fleet.spec.as_ref().ok());
            if spec.is_some_and(|spec| spec.node_selector.is_some()) {
                self.wake_fleet(&name);
            }
        }
    }

    /// Reads a Secret with credentials. What nobody names any more by then is not kept.
    async fn read_credentials(&self, secret: &Key) -> Result<(Access, Option<Arc<ecs::Identity>>), Error> {
        let read = self.identities.read(&self.client, secret).await;
        if let Some(principal) = self.identities.principal_in(secret) {
            self.registry.credentials_renewed(secret, &principal);
        }
        if !self.registry.has_credential_users(secret) {
            self.identities.forget(secret);
        }
        read
    }

    /// Wakes those who call with the credentials in a Secret that has changed.
    fn wake_credential_users(&self, secret: &Key) {
        if self.registry.has_credential_users(secret) {
            self.identities.changed(secret);
            self.wake_all(self.registry.credential_users(secret));
        }
    }

    fn wake_all(&self, keys: Vec<Key>) {
        for key in keys {
            self.wake(key);
        }
    }

    fn wake(&self, key: Key) {
        // Fails only when the queue has ended: then nothing is passed over any more.
        self.wake.unbounded_send(key).ok();
    }
}
