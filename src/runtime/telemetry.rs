//! Logs: to standard error, as text or as JSON lines, at the level of RUST_LOG.

use tracing::{Level, Metadata};
use tracing_subscriber::{
    EnvFilter, Layer, filter::filter_fn, layer::SubscriberExt, util::SubscriberInitExt,
};

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging. `filter` is in the syntax of RUST_LOG; what cannot be read counts as `info`.
pub fn init(format: LogFormat, filter: Option<&str>) {
    let filter = EnvFilter::try_new(filter.unwrap_or("info")).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let lines = match format {
        LogFormat::Text => lines.with_ansi(false).boxed(),
        LogFormat::Json => lines.json().boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter_fn(harmless)).with_filter(filter)).init();
}

/// On an answer that it cannot read, kube's client writes all of it to the log as a warning: such an answer may be
/// a Secret, or an object whose annotations hold one. The error itself is logged by whoever asked.
fn harmless(metadata: &Metadata<'_>) -> bool {
    !(metadata.target() == "kube_client::client" && *metadata.level() == Level::WARN)
}
