//! One reconcile of one object, and of one fleet: observe, decide, act, record.
//!
//! | file | content |
//! |---|---|
//! | `vnc_password` | one reconcile of one VncPassword |
//! | `fleet` | one reconcile of one fleet, and its discovery |
//! | `status` | reads objects and replaces their status |
//! | `retry` | metrics and backoff at the end of a reconcile |
//! | `error` | errors of the API server |

mod error;
pub(crate) mod fleet;
mod retry;
pub(crate) mod status;
pub(crate) mod vnc_password;

pub use error::Error;
