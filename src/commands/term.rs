//! One term of the operator: the watches, the queues and the reconciles, from the start or the election to
//! the end.

use std::{
    sync::{Arc, Mutex, Weak},
    time::Duration,
};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
};
use kube::Client;
use tokio::{sync::Semaphore, time::Instant};

use crate::{
    cloud::{
        InstancePoller,
        denied_groups::{DeniedGroups, Moment},
        identities::Identities,
        instance_locks::InstanceLocks,
    },
    context::Context,
    events::{self, Events},
    reconcile::{fleet, vnc_password},
    runtime::{
        Health, Metrics, Probes, Progress, Queue, Readiness, Shutdown, Source,
        clock_steps::ClockSteps,
        queue,
        random::{NoRandomNumbers, random_bytes, random_id},
    },
    settings::ControllerSettings,
    store::{
        fleets::Fleets, namespaces::Namespaces, nodes::Nodes, object::Key, registry::Registry,
        secrets::Secrets,
    },
    watches,
};
use vncpassword_alicloud::{Limiter, Requester, connect::Cloud};
use vncpassword_core::rotation::facts::FingerprintKey;

/// The clients of a term.
#[derive(Clone)]
pub struct TermEnvironment {
    /// The API server.
    pub client: Client,
    /// The cloud.
    pub cloud: Cloud,
    /// The uid of the cluster, if it is known.
    pub cluster: Option<Arc<str>>,
    /// How long the minute is in which the cloud counts calls: 60 s.
    pub minute: Duration,
}

/// Runs until shutdown is requested, then waits for what is in flight.
///
/// # Errors
/// The system gives no random numbers.
pub async fn run(
    environment: TermEnvironment,
    config: ControllerSettings,
    metrics: Arc<Metrics>,
    probes: Probes,
    shutdown: Shutdown,
) -> Result<(), NoRandomNumbers> {
    let Probes { readiness, health } = probes;
    let (events, sender) = Events::new(environment.client.clone(), Arc::clone(&metrics));
    let (context, receivers) = build_context(environment, config, metrics, events)?;
    let source: Weak<dyn Source> = Arc::downgrade(&context) as _;
    context.metrics.attach(source);
    let sender = tokio::spawn(sender);
    let mut tasks = watches::spawn(&context, &readiness);
    let fleets = Readiness::default();
    if context.config.fleets {
        watches::spawn_fleets(&context, &fleets, &mut tasks);
    }
    tasks.spawn(poll_instances(Arc::clone(&context)));
    tasks.spawn(tick(Arc::clone(&context), health.expect("event loop")));
    let work = async {
        reconcile_until_stopped(&context, receivers, &health, [&readiness, &fleets], shutdown).await;
    };
    tokio::select! {
        () = work => {}
        // These tasks never end, except by a panic. A panic ends the process, because an operator without its
        // watches must not act.
        Some(Err(ended)) = tasks.join_next() => std::panic::resume_unwind(ended.into_panic()),
    }
    tasks.shutdown().await;
    // This drops the last handle to the event queue. Queued events are still sent.
    drop(context);
    tokio::time::timeout(events::FLUSH, sender).await.ok();
    Ok(())
}

/// The receiving ends of the queues in [`Context`].
struct Receivers {
    objects: UnboundedReceiver<Key>,
    fleets: UnboundedReceiver<Arc<str>>,
    discoveries: UnboundedReceiver<Arc<str>>,
}

fn build_context(
    environment: TermEnvironment,
    config: ControllerSettings,
    metrics: Arc<Metrics>,
    events: Events,
) -> Result<(Arc<Context>, Receivers), NoRandomNumbers> {
    let random = random_bytes::<64>()?;
    let TermEnvironment { client, cloud, cluster, minute } = environment;
    let Cloud { ecs, sts, operator } = cloud;
    let (object_sender, objects) = unbounded();
    let (fleet_sender, fleets) = unbounded();
    let (discovery_sender, discoveries) = unbounded();
    let limiter = Arc::new(Limiter::new(config.rates.clone(), ecs.clock().clone(), minute));
    let instance_poller = InstancePoller::new(ecs.clone(), Arc::clone(&limiter));
    let context = Arc::new(Context {
        client,
        instance_poller,
        poll_permits: Semaphore::new(config.concurrency / 2),
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
        instance_locks: InstanceLocks::default(),
        term_start: Mutex::default(),
        events,
        fingerprints: FingerprintKey::new(&random),
        writer: random_id()?.into(),
        metrics,
        object_sender,
        fleet_sender,
        discovery_sender,
    });
    Ok((context, Receivers { objects, fleets, discoveries }))
}

/// Waits until everything is listed and this process leads, then runs the queues until shutdown is requested.
/// `ready`: that objects and Secrets are listed, and that fleets are.
async fn reconcile_until_stopped(
    context: &Arc<Context>,
    mut receivers: Receivers,
    health: &Health,
    [ready, fleets_ready]: [&Readiness; 2],
    shutdown: Shutdown,
) {
    // No reconcile starts before everything is listed, because the owner of an instance may be in a list that
    // is still to come. A wait here, and not in each reconcile, ends on shutdown.
    let mut stop = shutdown.clone();
    ready_or_stopped(ready, &mut stop).await;
    tokio::select! {
        () = stand_by(context, &mut receivers) => {}
        () = stop.requested() => {}
    }
    context.begin_term();
    let gauges = |queue| context.metrics.queue(queue);
    let objects = queue::run(
        receivers.objects,
        context.config.concurrency,
        gauges(Queue::Objects),
        // Expected only now: a standby makes no progress, and must stay healthy.
        Some(health.expect("workers of VncPasswords")),
        shutdown.clone(),
        || context.now(),
        |key| vnc_password::reconcile_key(Arc::clone(context), key),
    );
    let fleets = async {
        ready_or_stopped(fleets_ready, &mut stop).await;
        // A fleet writes many member objects: a slow API server can hold all workers. No progress is expected
        // here.
        let reconciles = queue::run(
            receivers.fleets,
            FLEETS,
            gauges(Queue::Fleets),
            None,
            shutdown.clone(),
            || context.now(),
            |name| fleet::reconcile_name(Arc::clone(context), name),
        );
        let discoveries = queue::run(
            receivers.discoveries,
            // Most discoveries wait for the rate limiter, each for its own account and region.
            usize::MAX,
            gauges(Queue::Discoveries),
            None,
            shutdown.clone(),
            || context.now(),
            |name| fleet::discovery::discover(Arc::clone(context), name, shutdown.clone()),
        );
        tokio::join!(reconciles, discoveries);
    };
    tokio::join!(objects, fleets);
}

async fn ready_or_stopped(readiness: &Readiness, stop: &mut Shutdown) {
    tokio::select! {
        () = readiness.ready() => {}
        () = stop.requested() => {}
    }
}

/// Maximum number of fleet reconciles, and of discovery calls, in parallel.
const FLEETS: usize = 4;
/// How often expired entries are dropped.
const PRUNE: Duration = Duration::from_mins(1);
/// How often queued objects are checked for an earlier slot.
const TICK: Duration = Duration::from_secs(1);

/// Runs the instance poller, and enqueues the objects of polled instances.
async fn poll_instances(context: Arc<Context>) {
    let seen = |instance: &str| {
        context.registry.enqueue_instance_users(instance);
        context.enqueue_all(context.registry.take_affected());
    };
    context.instance_poller.run(seen).await;
}

/// Each second: enqueues the objects that the rate limiter or their denied group admits, and follows the wall
/// clock. Never ends.
async fn tick(context: Arc<Context>, progress: Progress) {
    let mut pause = tokio::time::interval(TICK);
    pause.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut pruned = Instant::now();
    let mut steps = ClockSteps::new(context.now(), Instant::now());
    loop {
        pause.tick().await;
        progress.made();
        if pruned.elapsed() >= PRUNE {
            context.instance_locks.prune(context.now());
            context.identities.prune();
            context.fleets.prune(context.now());
            pruned = Instant::now();
        }
        context.enqueue_all(context.registry.take_affected_each_tick(context.now()));
        let now = context.now();
        if let Some(step) = steps.step(now, Instant::now()) {
            context.clock_stepped(step);
        }
        // The requester of the instance poller has no namespace, and retries by itself.
        let ready = context.limiter.notify(now).into_iter().filter(|requester| !requester.group.is_empty());
        for Requester { group: namespace, name } in ready {
            context.enqueue(Key { namespace, name });
        }
        context.enqueue_all(context.denied.due(Moment { wall: now, instant: std::time::Instant::now() }));
    }
}

/// Waits until this process may act. The watches run meanwhile, so that nothing needs to be listed then.
/// Enqueued keys are dropped: everything is enqueued at the end.
async fn stand_by(context: &Context, receivers: &mut Receivers) {
    if context.config.lease.holds() {
        return;
    }
    let mut gained = std::pin::pin!(context.config.lease.gained());
    loop {
        tokio::select! {
            biased;
            () = &mut gained => break,
            Some(_) = receivers.objects.next() => {}
            Some(_) = receivers.fleets.next() => {}
            Some(_) = receivers.discoveries.next() => {}
        }
    }
    // Another process acted until now. Its calls may still arrive, and no status is this process's own.
    context.registry.inherit(context.now());
    context.enqueue_all(context.registry.take_affected());
    for name in context.fleets.names() {
        context.enqueue_fleet(&name);
        context.enqueue_discovery(&name);
    }
}
