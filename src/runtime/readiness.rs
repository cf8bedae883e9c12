//! Ready means: every watch has listed once, so that decisions rest on the whole picture.

use std::sync::Arc;

use tokio::sync::watch;

use super::Health;

/// What the probes of the kubelet ask for. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Probes {
    /// `/readyz`.
    pub readiness: Readiness,
    /// `/healthz`.
    pub health: Health,
}

/// Counts what is still to come. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Readiness(Arc<watch::Sender<usize>>);

impl Default for Readiness {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(1)))
    }
}

impl Readiness {
    /// So many arrivals make it ready.
    pub fn expect(&self, arrivals: usize) {
        self.0.send_replace(arrivals);
    }

    /// One has arrived.
    pub fn arrived(&self) {
        self.0.send_modify(|pending| *pending = pending.saturating_sub(1));
    }

    /// Whether all have.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        *self.0.borrow() == 0
    }

    /// Waits until all have.
    pub async fn ready(&self) {
        // Fails only when the sender is gone, and it is part of `self`.
        self.0.subscribe().wait_for(|pending| *pending == 0).await.ok();
    }
}
