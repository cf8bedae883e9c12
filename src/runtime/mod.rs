//! Infrastructure of a long-running process.
//!
//! | file | content |
//! |---|---|
//! | `queue` | the work queue |
//! | `leader` | leader election |
//! | `lease` | the right to act, and its expiry |
//! | `metrics` | metrics of the process, and of objects at each scrape |
//! | `health`, `readiness`, `http` | the probes and their server |
//! | `telemetry`, `traces` | logs and traces |
//! | `shutdown` | requests and awaits shutdown |
//! | `clock_steps` | detects steps of the wall clock |
//! | `random` | random bytes and IDs |
//! | `tables` | shrinks maps |

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
