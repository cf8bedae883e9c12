//! What a long-running program needs: settings, logs, metrics, traces, probes, an orderly end; and the policies that let it in.

mod cloud;
mod cluster;
mod health;
mod http;
mod leader;
mod lease;
mod metrics;
mod program;
mod ram_policy;
mod readiness;
mod settings;
mod shutdown;
mod telemetry;
mod traces;
mod whoami;

pub use cloud::{CloudError, cloud};
pub use health::{Health, Progress};
pub use leader::LEASE;
pub use lease::{Holding, Lease};
pub use metrics::{
    FleetView, Format, IdentityView, Kind, Metrics, ObjectView, PassResult, Queue, QueueGauges, Requeue,
    Snapshot, Source,
};
pub use program::{Environment, StartError, listen, run};
pub use ram_policy::{RamPolicyArgs, RamPolicyError, ram_policy};
pub use readiness::{Probes, Readiness};
pub use settings::{CloudArgs, CloudSettings, EndpointNetwork, RunArgs, Settings, SettingsError};
pub use shutdown::{Shutdown, Stop};
pub use telemetry::{LogFormat, Telemetry, init as init_telemetry};
pub use traces::{InvalidOtlpEndpoint, OtlpEndpoint, TracesError};
pub use whoami::{Output, Right, Whoami, WhoamiArgs, WhoamiError, whoami};
