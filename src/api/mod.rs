//! The kinds of group `vncpassword.dev`: their fields, conditions and reasons, and nothing else.

mod conditions;
mod status;
mod vnc_password;

pub use conditions::{Condition, ConditionStatus, ConditionType, Reason};
pub use status::{Accepted, Applied, Instance, Retry, VncPasswordStatus};
pub use vnc_password::{SecretRef, VncPassword, VncPasswordSpec};

/// API group of every kind here.
pub const GROUP: &str = "vncpassword.dev";
/// The version served and stored.
pub const VERSION: &str = "v1alpha1";
/// Field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "vncpassword-operator";
