//! Ready means: every watch has listed once, so that decisions rest on the whole picture.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Counts what is still to come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<AtomicUsize>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(1)))
    }
}

impl Readiness {
    /// So many arrivals make it ready.
    pub fn expect(&self, arrivals: usize) {
        self.0.store(arrivals, Ordering::Release);
    }

    /// One has arrived.
    pub fn arrived(&self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether all have.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}
