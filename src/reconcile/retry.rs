//! The end of a reconcile: counts it in the metrics, and requeues the key, after an error with a backoff.

use std::{error::Error as _, time::Duration};

use super::Error;
use crate::runtime::{Kind, Metrics, ReconcileResult, RequeueReason};

/// Minimum and maximum backoff after an error of the API server.
pub(super) const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));

/// When and why to requeue.
#[derive(Clone, Copy)]
pub(super) struct Requeue {
    pub after: Duration,
    pub reason: RequeueReason,
}

/// The backoff after this many consecutive failures.
pub(super) fn backoff(failures: u32) -> Duration {
    RETRY.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(RETRY.1)
}

/// Counts consecutive failures.
pub(super) fn count_failures(failures: &mut u32, failed: bool) -> u32 {
    *failures = if failed { failures.saturating_add(1) } else { 0 };
    *failures
}

/// Takes in the result of a reconcile. Returns after what time to requeue the key. `failures`: the consecutive failures;
/// `None`: the object is gone. `log`: called with an error and its source.
pub(super) fn finish(
    metrics: &Metrics,
    kind: Kind,
    took: Duration,
    result: Result<Option<Requeue>, Error>,
    failures: Option<u32>,
    log: impl FnOnce(&Error, &str),
) -> Option<Duration> {
    let (requeue, label) = match result {
        Ok(requeue) => (requeue, ReconcileResult::Ok),
        Err(error) => {
            log(&error, &error.source().map(ToString::to_string).unwrap_or_default());
            let asked = error.retry_after().unwrap_or_default();
            let requeue =
                |failures| Requeue { after: backoff(failures).max(asked), reason: RequeueReason::Error };
            (failures.map(requeue), ReconcileResult::Error)
        }
    };
    metrics.record_reconcile(kind, label, took, requeue.map(|requeue| requeue.reason));
    requeue.map(|requeue| requeue.after)
}
