//! What a long-running program needs: settings, logs, metrics, probes, an orderly end; and the policies that let it in.

mod cloud;
mod cluster;
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
mod whoami;

pub use leader::LEASE;
pub use lease::{Holding, Lease};
pub use metrics::{Metrics, PassResult};
pub use program::{StartError, run};
pub use ram_policy::{RamPolicyArgs, RamPolicyError, ram_policy};
pub use readiness::Readiness;
pub use settings::{CloudArgs, CloudSettings, EndpointNetwork, RunArgs, Settings, SettingsError};
pub use shutdown::{Shutdown, Stop};
pub use telemetry::{LogFormat, init as init_telemetry};
pub use whoami::{Output, Whoami, WhoamiArgs, WhoamiError, whoami};
