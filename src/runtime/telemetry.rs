//! Logs: to standard error, as text or as JSON lines, at the level of RUST_LOG. And traces, where they are
//! asked for.

use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, Targets, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use super::traces::{OtlpEndpoint, Traces, TracesError};
use vncpassword_alicloud as ecs;

/// Begins the name of every library of this project: a filter with it matches all of them.
const CRATES: &str = "vncpassword";

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Logs and traces under way.
#[must_use = "what is still to be sent is lost unless it is ended"]
pub struct Telemetry(Option<Traces>);

impl Telemetry {
    /// Sends the traces that are still to be sent, or gives up after a few seconds.
    pub async fn end(self) {
        if let Some(traces) = self.0 {
            traces.end().await;
        }
    }
}

/// Starts logging, and sending traces where there is an endpoint for them; then it must be called within a
/// tokio runtime.
/// `filter`: of the log, in the syntax of RUST_LOG; what cannot be read counts as `info`.
///
/// # Errors
/// Traces cannot be sent at all.
pub fn init(
    format: LogFormat,
    filter: Option<&str>,
    otlp: Option<&OtlpEndpoint>,
) -> Result<Telemetry, TracesError> {
    let traces = otlp.map(Traces::start).transpose()?;
    subscriber(format, filter, traces.as_ref()).init();
    Ok(Telemetry(traces))
}

fn subscriber(
    format: LogFormat,
    filter: Option<&str>,
    traces: Option<&Traces>,
) -> impl Subscriber + Send + Sync + 'static {
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    // A layer that is not there wants all spans, so there is none. Of two filters on one layer each would do
    // the same.
    let mut layers = vec![lines.with_filter(filter_fn(belongs_into_logs).and(filter)).boxed()];
    layers.extend(traces.map(|traces| {
        tracing_opentelemetry::layer()
            .with_tracer(traces.tracer())
            .with_location(false)
            .with_threads(false)
            .with_tracked_inactivity(false)
            .with_filter(Targets::new().with_target(CRATES, Level::INFO))
            .boxed()
    }));
    tracing_subscriber::registry().with(layers)
}

/// On an answer that it cannot read, kube's client writes all of it to the log as a warning: such an answer
/// may be a Secret, or an object whose annotations hold one. The error itself is logged by who asked. Spans
/// of calls are for traces alone.
fn belongs_into_logs(metadata: &Metadata<'_>) -> bool {
    let unmasked = metadata.target() == "kube_client::client" && *metadata.level() == Level::WARN;
    !unmasked && metadata.target() != ecs::CALL_SPANS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn spans_of_calls_exist_only_where_traces_are_sent() {
        let enabled = |traces: Option<&Traces>| {
            let subscriber = subscriber(LogFormat::Json, Some("trace"), traces);
            tracing::subscriber::with_default(subscriber, || {
                let call = tracing::info_span!(target: ecs::CALL_SPANS, "call");
                let pass = tracing::info_span!("pass");
                (!call.is_disabled(), !pass.is_disabled())
            })
        };
        assert_eq!(enabled(None), (false, true));
        let endpoint = OtlpEndpoint::parse("http://127.0.0.1:9").unwrap();
        let traces = Traces::start(&endpoint).unwrap();
        assert_eq!(enabled(Some(&traces)), (true, true));
        traces.end().await;
    }
}
