//! The right to act, which one replica holds at a time.

use std::time::Instant;

use tokio::sync::watch;

/// The right to act, as those who act see it. It is asked before every cloud call and every write of a
/// Secret. Cheap to clone. It may rest on several Leases of the API server: then all of them must be held.
#[derive(Clone, Debug)]
pub struct Lease(Vec<watch::Receiver<Option<Instant>>>);

/// The side of the lease that obtains and renews it. Dropping it ends the right when its time has passed.
#[derive(Debug)]
pub struct Holding(watch::Sender<Option<Instant>>);

impl Lease {
    /// There is no other process: the right is always there.
    #[must_use]
    pub fn alone() -> Self {
        Self(Vec::new())
    }

    /// A pair of both ends; it is not held yet.
    #[must_use]
    pub fn pair() -> (Holding, Self) {
        let (sender, receiver) = watch::channel(None);
        (Holding(sender), Self(vec![receiver]))
    }

    /// The right that rests on both.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether this process holds it now, and for as long as a call takes.
    #[must_use]
    pub fn holds(&self) -> bool {
        // Asked of the clock each time: a process that was paused finds out by itself.
        self.0.iter().all(|until| until.borrow().is_some_and(|until| Instant::now() < until))
    }

    /// Waits until this process holds it; for ever when nobody can get it any more.
    pub async fn gained(&self) {
        for until in &self.0 {
            if until.clone().wait_for(Option::is_some).await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Holding {
    /// It is held until then.
    pub fn hold(&self, until: Instant) {
        self.0.send_replace(Some(until));
    }

    /// It is held no longer.
    pub fn lose(&self) {
        self.0.send_replace(None);
    }

    /// Until when it is held.
    #[must_use]
    pub fn until(&self) -> Option<Instant> {
        *self.0.borrow()
    }
}
