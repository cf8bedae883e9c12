//! All metrics, with closed label sets: no names of objects, no texts of errors.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, histogram::Histogram},
    registry::Registry,
};

use crate::{ecs::Action, rotation::outcome::Class};

/// How a pass ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum PassResult {
    /// As it should.
    Ok,
    /// The Kubernetes side failed.
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PassLabels {
    result: PassResult,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CallLabels {
    action: &'static str,
    class: &'static str,
}

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    passes: Family<PassLabels, Counter<u64, AtomicU64>>,
    pass_seconds: Histogram,
    calls: Family<CallLabels, Counter<u64, AtomicU64>>,
    /// Events that did not fit the queue.
    pub events_dropped: Counter<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("vncpassword");
        let passes = Family::default();
        let calls = Family::default();
        let events_dropped = Counter::default();
        let pass_seconds = Histogram::new([0.0001, 0.001, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0]);
        registry.register("reconciles", "Passes over objects by result", passes.clone());
        registry.register("reconcile_duration_seconds", "Time that passes took", pass_seconds.clone());
        registry.register(
            "ecs_calls",
            "Calls of the ECS API by action and class of the reply",
            calls.clone(),
        );
        registry.register(
            "events_dropped",
            "Events that were dropped instead of waited for",
            events_dropped.clone(),
        );
        Self { registry, passes, pass_seconds, calls, events_dropped }
    }
}

impl Metrics {
    /// A pass has ended.
    pub fn passed(&self, result: PassResult, took: Duration) {
        self.passes.get_or_create(&PassLabels { result }).inc();
        self.pass_seconds.observe(took.as_secs_f64());
    }

    /// A call of the ECS API was answered, or given up.
    pub fn called(&self, action: Action, class: Class) {
        self.calls.get_or_create(&CallLabels { action: action.as_str(), class: class.as_str() }).inc();
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
