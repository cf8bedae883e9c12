//! Whether the process makes progress (DESIGN.md, R56). An outage of the API server or of the cloud does not
//! stop progress, because every request has a deadline.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// After this time without progress `/healthz` fails.
const TIMEOUT: Duration = Duration::from_mins(5);

/// What of the process has to make progress, and when each part made it last.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<Mutex<HashMap<&'static str, Instant>>>);

/// A part of the process that has to make progress. Dropped, it need not any more.
#[derive(Debug)]
pub struct Progress {
    health: Health,
    part: &'static str,
}

impl Health {
    /// From now on this part has to make progress. Its name reaches the reply of `/healthz`.
    #[must_use]
    pub fn expect(&self, part: &'static str) -> Progress {
        let progress = Progress { health: self.clone(), part };
        progress.made();
        progress
    }

    /// The parts that have made no progress for five minutes.
    #[must_use]
    pub fn stuck(&self) -> Vec<&'static str> {
        let parts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut stuck: Vec<_> =
            parts.iter().filter(|(_, last)| last.elapsed() >= TIMEOUT).map(|(part, _)| *part).collect();
        stuck.sort_unstable();
        stuck
    }
}

impl Progress {
    /// It has made progress just now.
    pub fn made(&self) {
        let mut parts = self.health.0.lock().unwrap_or_else(PoisonError::into_inner);
        parts.insert(self.part, Instant::now());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.health.0.lock().unwrap_or_else(PoisonError::into_inner).remove(self.part);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_makes_no_progress_for_five_minutes_is_stuck() {
        let health = Health::default();
        let (one, other) = (health.expect("one"), health.expect("other"));
        tokio::time::sleep(Duration::from_secs(299)).await;
        assert_eq!(health.stuck(), [] as [&str; 0]);
        one.made();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(health.stuck(), ["other"]);
        drop(other);
        assert_eq!(health.stuck(), [] as [&str; 0], "it has ended");
        tokio::time::sleep(Duration::from_secs(299)).await;
        assert_eq!(health.stuck(), ["one"]);
        one.made();
        assert_eq!(health.stuck(), [] as [&str; 0], "it goes on");
    }
}
