//! One reconcile of one object, and of one fleet: observe, decide, act, record.

mod error;
pub(crate) mod fleet;
pub(crate) mod status;
pub(crate) mod vnc_password;

pub use error::Error;
