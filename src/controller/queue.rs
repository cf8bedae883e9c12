//! Runs passes: each object once at a time, a bounded number at once, again at the time that a pass asks for.
//!
//! On `kube::runtime::scheduler`, which drops doubles and keeps the earliest time. Unlike `Controller` it runs
//! passes as tasks of their own, on all cores, and knows objects by name alone: see docs/decisions.md.

use std::{collections::HashSet, future::poll_fn, hash::Hash, time::Duration};

use futures::{
    StreamExt,
    channel::mpsc::{UnboundedReceiver, unbounded},
    stream,
};
use kube::runtime::scheduler::{ScheduleRequest, scheduler};
use tokio::{task::JoinSet, time::Instant};

use crate::runtime::Shutdown;

/// Runs until shutdown is asked for, then until the passes that run have ended. A pass returns when it wants to run
/// again, if at all.
pub(super) async fn run<K, F>(
    woken: UnboundedReceiver<K>,
    concurrency: usize,
    mut shutdown: Shutdown,
    pass: impl Fn(K) -> F,
) where
    K: Clone + Eq + Hash + Send + Unpin + 'static,
    F: Future<Output = Option<Duration>> + Send + 'static,
{
    let (again, requeued) = unbounded();
    let woken = woken.map(|message| ScheduleRequest { message, run_at: Instant::now() });
    let mut queue = std::pin::pin!(scheduler(stream::select(woken, requeued)));
    let mut running: HashSet<K> = HashSet::new();
    let mut passes = JoinSet::new();
    loop {
        let next = poll_fn(|cx| {
            if running.len() < concurrency {
                queue.as_mut().hold_unless(|key| !running.contains(key)).poll_next_unpin(cx)
            } else {
                // Takes in what comes, so that doubles are dropped early, but hands out nothing.
                queue.as_mut().hold().poll_next_unpin(cx)
            }
        });
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(ended) = passes.join_next(), if !passes.is_empty() => {
                let (key, wait): (K, Option<Duration>) = match ended {
                    Ok(ended) => ended,
                    // A pass that panics takes the process down: nothing may go on in a state that nobody foresaw.
                    Err(error) => std::panic::resume_unwind(error.into_panic()),
                };
                running.remove(&key);
                if let Some(wait) = wait {
                    let run_at = Instant::now() + wait.min(LONGEST_WAIT);
                    again.unbounded_send(ScheduleRequest { message: key, run_at }).ok();
                }
            }
            Some(key) = next => {
                running.insert(key.clone());
                let pass = pass(key.clone());
                passes.spawn(async move { (key, pass.await) });
            }
        }
    }
    let finished = async { while passes.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("some passes did not end in time; the next process goes on with their objects");
    }
}

/// How long a stop waits for passes: an API server that hangs must not hold it up until it is killed.
const GRACE: Duration = Duration::from_secs(20);

/// The timer of the scheduler takes at most two years.
const LONGEST_WAIT: Duration = Duration::from_hours(180 * 24);

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use tokio::time::sleep;

    use super::*;

    /// Counts passes that run, and the most that ran at once.
    #[derive(Default)]
    struct Counters {
        running: AtomicUsize,
        most: AtomicUsize,
        ended: AtomicUsize,
    }

    async fn pass(counters: Arc<Counters>, again: Option<Duration>) -> Option<Duration> {
        let running = counters.running.fetch_add(1, SeqCst) + 1;
        counters.most.fetch_max(running, SeqCst);
        sleep(Duration::from_millis(100)).await;
        counters.running.fetch_sub(1, SeqCst);
        counters.ended.fetch_add(1, SeqCst);
        again
    }

    async fn ran(keys: &[u32], concurrency: usize, time: u64, again: Option<Duration>) -> (usize, usize) {
        let counters = Arc::new(Counters::default());
        let (wake, woken) = unbounded();
        for key in keys {
            wake.unbounded_send(*key).unwrap();
        }
        let (stop, shutdown) = Shutdown::new();
        tokio::spawn(async move {
            sleep(Duration::from_millis(time)).await;
            stop.request();
        });
        run(woken, concurrency, shutdown, |_| pass(Arc::clone(&counters), again)).await;
        assert_eq!(counters.running.load(SeqCst), 0, "what runs is finished");
        (counters.ended.load(SeqCst), counters.most.load(SeqCst))
    }

    #[tokio::test(start_paused = true)]
    async fn doubles_run_once() {
        assert_eq!(ran(&[1, 1, 1, 2], 8, 1000, None).await, (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_than_the_bound_run_at_once() {
        assert_eq!(ran(&[1, 2, 3, 4, 5, 6, 7, 8, 9], 3, 1000, None).await, (9, 3));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pass_runs_again_when_it_asks_for_it() {
        assert_eq!(ran(&[1], 3, 1050, Some(Duration::from_millis(400))).await, (3, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_what_runs_and_starts_nothing_more() {
        assert_eq!(ran(&[1, 2, 3], 2, 50, None).await, (2, 2));
    }
}
