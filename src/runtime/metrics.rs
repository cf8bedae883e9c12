//! All metrics, with closed label sets: no texts of errors, nothing secret. Names of objects are labels only
//! in what is made at each scrape, and only where `--per-object-metrics` is on. The list for people is
//! docs/metrics.md.
//!
//! | file | what lives there |
//! |---|---|
//! | `snapshot` | what a scrape is told |
//! | `scrape` | the metrics made from that |
//! | `exposition` | the forms in which metrics are handed out |

mod exposition;
mod scrape;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{Arc, Weak, atomic::AtomicU64},
    time::Duration,
};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};

pub use exposition::Format;
use scrape::Scrape;
pub use snapshot::{FleetView, IdentityView, ObjectView, Snapshot, Source};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::CallObserver;
use vncpassword_core::rotation::outcome::Class;

/// The kind of the reconciled object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `VncPassword`.
    VncPassword,
    /// `ClusterVncPassword`.
    ClusterVncPassword,
}

/// The result of a reconcile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ReconcileResult {
    /// It succeeded.
    Ok,
    /// A request to the API server failed.
    Error,
}

/// Why a reconcile asks to be requeued.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequeueReason {
    /// The Kubernetes side failed.
    Error,
    /// Another object acts at the instance, or there is more to do than fits one reconcile.
    Busy,
    /// The cloud replied to a call of this reconcile with this class.
    Reply(Class),
    /// The rate limiter allows the call later.
    RateLimited,
    /// Something is under way.
    Reconciling,
    /// The object is stalled, and is checked again from time to time.
    Stalled,
    /// A scheduled rotation or check comes later.
    Scheduled,
}

/// The work queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Queue {
    /// Of `VncPassword`.
    Objects,
    /// Of `ClusterVncPassword`.
    Fleets,
    /// Discoveries of the instances of a `ClusterVncPassword`.
    Discoveries,
}

/// The value of a label.
trait Label: Copy {
    fn label(self) -> &'static str;
}

impl Label for Kind {
    fn label(self) -> &'static str {
        match self {
            Self::VncPassword => "VncPassword",
            Self::ClusterVncPassword => "ClusterVncPassword",
        }
    }
}

impl Label for ReconcileResult {
    fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
        }
    }
}

impl Label for RequeueReason {
    fn label(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Busy => "busy",
            Self::Reply(class) => class.as_str(),
            Self::RateLimited => "turn",
            Self::Reconciling => "reconciling",
            Self::Stalled => "stalled",
            Self::Scheduled => "scheduled",
        }
    }
}

impl Label for Queue {
    fn label(self) -> &'static str {
        match self {
            Self::Objects => "objects",
            Self::Fleets => "fleets",
            Self::Discoveries => "discoveries",
        }
    }
}

/// A label whose value is one of a closed list of words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Closed<W>(W);

impl<W: Label> EncodeLabelValue for Closed<W> {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> fmt::Result {
        self.0.label().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ReconcileLabels {
    kind: Closed<Kind>,
    result: Closed<ReconcileResult>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct KindLabels {
    kind: Closed<Kind>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequeueLabels {
    kind: Closed<Kind>,
    class: Closed<RequeueReason>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    class: &'static str,
    code: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct QueueLabels {
    queue: Closed<Queue>,
}

type Counters<L> = Family<L, Counter<u64, AtomicU64>>;

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    scrape: Arc<Scrape>,
    reconciles: Counters<ReconcileLabels>,
    reconcile_seconds: Family<KindLabels, Histogram>,
    requeues: Counters<RequeueLabels>,
    calls: Counters<CallLabels>,
    call_seconds: Family<ActionLabels, Histogram>,
    queue_depth: Family<QueueLabels, Gauge>,
    queue_running: Family<QueueLabels, Gauge>,
    queue_scheduled: Family<QueueLabels, Gauge>,
    /// Objects whose status somebody else kept changing: each time a wait began.
    pub status_contested: Counter<u64, AtomicU64>,
    /// Events that did not fit the queue.
    pub events_dropped: Counter<u64, AtomicU64>,
}

/// The gauges of one queue.
#[derive(Clone, Debug)]
pub struct QueueGauges {
    depth: Gauge,
    running: Gauge,
    scheduled: Gauge,
}

/// Bucket bounds of reconciles. Most of them make no request.
const RECONCILE_SECONDS: [f64; 9] = [0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];
/// Bucket bounds of calls. The last one is the total timeout of the client.
const CALL_SECONDS: [f64; 8] = [0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0];

impl Metrics {
    /// New ones. `per_object`: whether objects, and the accounts that tenants bring, have metrics of their
    /// own.
    #[must_use]
    pub fn new(per_object: bool) -> Self {
        let mut registry = Registry::default();
        let scrape = Arc::new(Scrape::new(per_object));
        registry.register_collector(Box::new(Arc::clone(&scrape)));
        let mut own = OwnMetrics(registry.sub_registry_with_prefix("vncpassword_operator"));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        own.0.register("build", "The version of the operator", build);
        Self {
            scrape,
            reconciles: own.add("reconciles", "Passes over objects, by kind and result"),
            reconcile_seconds: own.add_seconds(
                "reconcile_duration",
                "Time that passes took",
                Family::new_with_constructor(|| Histogram::new(RECONCILE_SECONDS)),
            ),
            requeues: own.add("requeues", "Passes that asked to come again, by why"),
            calls: own
                .add("cloud_calls", "Calls of the ECS and STS APIs, by what the reply means and its code"),
            call_seconds: own.add_seconds(
                "cloud_call_duration",
                "Time that calls of the ECS and STS APIs took",
                Family::new_with_constructor(|| Histogram::new(CALL_SECONDS)),
            ),
            queue_depth: own.add("queue_depth", "Passes that wait to begin"),
            queue_running: own.add("queue_running", "Passes that run"),
            queue_scheduled: own.add("queue_scheduled", "Passes that are to begin at a later time"),
            status_contested: own.add(
                "status_contested",
                "Times that the operator stopped writing the status of an object for a while, because something else kept changing it",
            ),
            events_dropped: own.add("events_dropped", "Events that were dropped instead of waited for"),
            registry,
        }
    }

    /// Records the end of a reconcile. `requeue`: why it is requeued.
    pub fn record_reconcile(
        &self,
        kind: Kind,
        result: ReconcileResult,
        took: Duration,
        requeue: Option<RequeueReason>,
    ) {
        let kind = Closed(kind);
        self.reconciles.get_or_create(&ReconcileLabels { kind, result: Closed(result) }).inc();
        self.reconcile_seconds.get_or_create(&KindLabels { kind }).observe(took.as_secs_f64());
        if let Some(class) = requeue.map(Closed) {
            self.requeues.get_or_create(&RequeueLabels { kind, class }).inc();
        }
    }

    /// Counts the calls of the cloud. `class`: what an error means.
    #[must_use]
    pub fn call_observer(&self, class: fn(&ecs::Error) -> Class) -> CallObserver {
        let (calls, seconds) = (self.calls.clone(), self.call_seconds.clone());
        CallObserver::new(move |call| {
            let class = call.error.map_or(Class::Accepted, class);
            let labels = CallLabels { action: call.action, class: class.as_str(), code: call.code };
            calls.get_or_create(&labels).inc();
            seconds.get_or_create(&ActionLabels { action: call.action }).observe(call.took.as_secs_f64());
        })
    }

    /// The gauges of a queue.
    #[must_use]
    pub fn queue(&self, queue: Queue) -> QueueGauges {
        let labels = QueueLabels { queue: Closed(queue) };
        let gauge = |family: &Family<QueueLabels, Gauge>| family.get_or_create(&labels).clone();
        QueueGauges {
            depth: gauge(&self.queue_depth),
            running: gauge(&self.queue_running),
            scheduled: gauge(&self.queue_scheduled),
        }
    }

    /// Sets the source that each scrape reads, as long as the source lives.
    pub fn attach(&self, source: Weak<dyn Source>) {
        self.scrape.attach(source);
    }

    /// The metrics as OpenMetrics text.
    ///
    /// # Errors
    /// None in practice: writing to a string does not fail.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

impl QueueGauges {
    /// Sets the sizes of the queue.
    pub fn set(&self, depth: usize, running: usize, scheduled: usize) {
        for (gauge, value) in [(&self.depth, depth), (&self.running, running), (&self.scheduled, scheduled)] {
            gauge.set(value.try_into().unwrap_or(i64::MAX));
        }
    }
}

/// The registry of the process's own metrics.
struct OwnMetrics<'a>(&'a mut Registry);

impl OwnMetrics<'_> {
    fn add<M>(&mut self, name: &str, help: &str) -> M
    where
        M: prometheus_client::registry::Metric + Clone + Default,
    {
        let metric = M::default();
        self.0.register(name, help, metric.clone());
        metric
    }

    fn add_seconds<M>(&mut self, name: &str, help: &str, metric: M) -> M
    where
        M: prometheus_client::registry::Metric + Clone,
    {
        self.0.register_with_unit(name, help, Unit::Seconds, metric.clone());
        metric
    }
}
