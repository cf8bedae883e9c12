//! Whether this process may act. Until there are several replicas, it always may.

use std::fmt;

/// The right to act, which another process may hold instead. It is asked before every cloud call and every write of a
/// Secret.
pub trait Lease: fmt::Debug + Send + Sync {
    /// Whether this process holds it now, and for as long as a call takes.
    fn holds(&self) -> bool;
}

/// There is no other process.
#[derive(Clone, Copy, Debug, Default)]
pub struct Alone;

impl Lease for Alone {
    fn holds(&self) -> bool {
        true
    }
}
