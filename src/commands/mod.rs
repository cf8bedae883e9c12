//! The commands of the program.
//!
//! | file | content |
//! |---|---|
//! | `run` | `run`: the operator |
//! | `term` | one term of `run`: from the start or the election to the end |
//! | `whoami` | `whoami`: who the operator is to the cloud |
//! | `ram_policy` | `ram-policy`: the rights that the operator needs |
//! | `cluster` | the uid of the cluster, for `run` and `whoami` |

mod cluster;
mod ram_policy;
mod run;
mod term;
mod whoami;

pub use ram_policy::{RamPolicyArgs, RamPolicyError, ram_policy};
pub use run::{Environment, StartError, listen, run};
pub use whoami::{Output, WhoamiArgs, WhoamiError, text, whoami};

/// Names the operator to the servers of the cloud.
const USER_AGENT: &str = concat!("vncpassword-operator/", env!("CARGO_PKG_VERSION"));
