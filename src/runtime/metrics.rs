//! All metrics, with closed label sets: no names of objects, no texts of errors.

use std::{fmt, sync::atomic::AtomicU64, time::Duration};

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

use crate::{
    ecs::{Action, limiter::State},
    rotation::outcome::Class,
};

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

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ActionLabels {
    action: &'static str,
}

/// The metrics of the process.
pub struct Metrics {
    registry: Registry,
    passes: Family<PassLabels, Counter<u64, AtomicU64>>,
    pass_seconds: Histogram,
    calls: Family<CallLabels, Counter<u64, AtomicU64>>,
    limiter_closed: Family<ActionLabels, Gauge>,
    limiter_calls: Family<ActionLabels, Gauge>,
    limiter_waiting: Family<ActionLabels, Gauge>,
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
        let [limiter_closed, limiter_calls, limiter_waiting] = [
            ("limiter_closed", "Accounts and regions whose calls wait after a throttled reply, by action"),
            (
                "limiter_calls_per_minute",
                "Calls a minute that the slowest account and region lets through; 0: not limited",
            ),
            ("limiter_waiting", "Objects that wait for their turn to call, by action"),
        ]
        .map(|(name, help)| {
            let family = Family::<ActionLabels, Gauge>::default();
            registry.register(name, help, family.clone());
            family
        });
        Self {
            registry,
            passes,
            pass_seconds,
            calls,
            limiter_closed,
            limiter_calls,
            limiter_waiting,
            events_dropped,
        }
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

    /// What the limiter is like now.
    pub fn limited(&self, action: Action, state: State) {
        let State { closed, calls, waiting } = state;
        let labels = ActionLabels { action: action.as_str() };
        self.limiter_closed.get_or_create(&labels).set(closed.into());
        self.limiter_calls.get_or_create(&labels).set(calls.unwrap_or_default().into());
        self.limiter_waiting.get_or_create(&labels).set(waiting.try_into().unwrap_or(i64::MAX));
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
