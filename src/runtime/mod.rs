//! What a long-running program needs: logs, metrics, traces, probes, the leader, an orderly end.

pub(crate) mod clock_steps;
mod health;
pub mod http;
pub mod leader;
mod lease;
mod metrics;
pub(crate) mod queue;
pub mod random;
mod readiness;
mod shutdown;
pub(crate) mod tables;
mod telemetry;
mod traces;

pub use health::{Health, Progress};
pub use lease::{Holding, Lease};
pub use metrics::{
    FleetView, Format, IdentityView, Kind, Metrics, ObjectView, Queue, QueueGauges, ReconcileResult,
    RequeueReason, Snapshot, Source,
};
pub use readiness::{Probes, Readiness};
pub use shutdown::{Shutdown, Stop};
pub use telemetry::{LogFormat, Telemetry, init as init_telemetry};
pub use traces::{InvalidOtlpEndpoint, OtlpEndpoint, TracesError};
