//! One term of the operator: the watches, the queues and the reconciles, from the start or the election to the end.

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
        instances::Instances,
    },
    context::Context,
    events::{self, Events},
    reconcile::{fleet, vnc_password},
    runtime::{
        Metrics, Probes, Progress, Queue, Readiness, Shutdown, Source,
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

/// What a term works with.
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

/// Runs until shutdown is asked for, then finishes what is in flight.
///
/// # Errors
/// The system gives no random numbers.
pub async fn run(
    surroundings: Surroundings,
    config: ControllerSettings,
    metrics: Arc<Metrics>,
    probes: Probes,
    shutdown: Shutdown,
) -> Result<(), NoRandomNumbers> {
    let random = random_bytes::<64>()?;
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
            () = stand_by(&context, &mut woken, &mut woken_fleets, &mut woken_discoveries) => {}
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

/// Waits until this process may act. The watches go on meanwhile, so that nothing is to be listed then; whom they wake
/// is let go, since all are passed over at the end.
async fn stand_by(
    context: &Context,
    woken: &mut UnboundedReceiver<Key>,
    woken_fleets: &mut UnboundedReceiver<Arc<str>>,
    woken_discoveries: &mut UnboundedReceiver<Arc<str>>,
) {
    if context.config.lease.holds() {
        return;
    }
    let mut gained = std::pin::pin!(context.config.lease.gained());
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
    context.registry.inherit(context.now());
    context.wake_all(context.registry.woken());
    for name in context.fleets.names() {
        context.wake_fleet(&name);
        context.wake_discovery(&name);
    }
}
