//! Requests an orderly shutdown, and waits for the request.

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
};

/// Requests shutdown. Dropping it requests it too.
#[derive(Debug)]
pub struct Stop(watch::Sender<bool>);

/// Receives the request. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Shutdown(watch::Receiver<bool>);

impl Shutdown {
    /// A pair of both ends.
    #[must_use]
    #[allow(clippy::new_ret_no_self, reason = "a channel: both ends are made together")]
    pub fn new() -> (Stop, Self) {
        let (sender, receiver) = watch::channel(false);
        (Stop(sender), Self(receiver))
    }

    /// Whether shutdown was requested.
    #[must_use]
    pub fn is_requested(&self) -> bool {
        *self.0.borrow() || self.0.has_changed().is_err()
    }

    /// Waits until shutdown is requested.
    pub async fn requested(&mut self) {
        // An error means that the sender is gone, which requests shutdown too.
        self.0.wait_for(|requested| *requested).await.ok();
    }
}

impl Stop {
    /// Requests shutdown.
    pub fn request(&self) {
        self.0.send_replace(true);
    }

    /// Waits for SIGTERM or SIGINT, then requests shutdown.
    ///
    /// # Errors
    /// The system does not let the process listen for signals.
    pub async fn on_signal(self) -> std::io::Result<()> {
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing what is in flight"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing what is in flight"),
        }
        self.request();
        Ok(())
    }
}
