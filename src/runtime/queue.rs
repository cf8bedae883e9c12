//! The work queue: one reconcile per key at a time, a bounded number in parallel, requeued when a reconcile
//! asks for it.
//!
//! Unlike `kube::runtime::Controller`, it runs reconciles as separate tasks and knows objects only by name
//! (docs/decisions.md).

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use futures::{StreamExt, channel::mpsc::UnboundedReceiver};
use jiff::Timestamp;
use tokio::{task::JoinSet, time::sleep};

use crate::runtime::{
    Progress, QueueGauges, Shutdown,
    tables::{SMALL, shrink},
};

/// Runs until shutdown is requested, then waits for the running reconciles. A reconcile returns after what
/// time to requeue its key; `None`: only on an event. `now`: the wall clock; due times follow it. `progress`:
/// not reported while all workers are busy and none of them finishes.
pub(crate) async fn run<K, F>(
    mut receiver: UnboundedReceiver<K>,
    concurrency: usize,
    gauges: QueueGauges,
    progress: Option<Progress>,
    mut shutdown: Shutdown,
    now: impl Fn() -> Timestamp,
    reconcile: impl Fn(K) -> F,
) where
    K: Clone + Eq + Hash + Send + 'static,
    F: Future<Output = Option<Duration>> + Send + 'static,
{
    let mut schedule = Schedule::<K>::default();
    let mut reconciles = JoinSet::new();
    let report_progress = || progress.as_ref().into_iter().for_each(Progress::made);
    loop {
        // Drains the channel first, so that duplicates are dropped early and the gauges count them.
        while let Ok(key) = receiver.try_recv() {
            schedule.enqueue(key);
        }
        // In each iteration, not on a timer: with `biased`, a timer never fires while another branch is
        // always ready.
        schedule.start_due(now());
        while reconciles.len() < concurrency
            && let Some(key) = schedule.start()
        {
            let reconcile = reconcile(key.clone());
            reconciles.spawn(async move { (key, reconcile.await) });
            report_progress();
        }
        if reconciles.len() < concurrency {
            report_progress();
        }
        gauges.set(schedule.ready.len(), reconciles.len(), schedule.later.len());
        let pause = schedule.next_due().map_or(CLOCK_CHECK_INTERVAL, |due| pause(due, now()));
        tokio::select! {
            biased;
            () = shutdown.requested() => break,
            Some(ended) = reconciles.join_next(), if !reconciles.is_empty() => match ended {
                Ok((key, wait)) => {
                    let wait: Option<Duration> = wait;
                    schedule.finished(&key, wait.map(|wait| now() + wait.min(MAX_WAIT)));
                }
                // A panic in a reconcile ends the process: its state is unknown.
                Err(error) => std::panic::resume_unwind(error.into_panic()),
            },
            Some(key) = receiver.next() => schedule.enqueue(key),
            () = sleep(pause) => {}
        }
    }
    let finished = async { while reconciles.join_next().await.is_some() {} };
    if tokio::time::timeout(GRACE, finished).await.is_err() {
        tracing::warn!("some passes did not end in time; the next process goes on with their objects");
    }
    gauges.set(0, 0, 0);
}

/// How long shutdown waits for running reconciles. An API server that hangs must not delay it until the
/// kubelet kills the process.
const GRACE: Duration = Duration::from_secs(20);

/// Keeps due times in range.
const MAX_WAIT: Duration = Duration::from_hours(180 * 24);

/// How often due times are compared with the wall clock (R45): it may be stepped, and timers stand still
/// while the machine sleeps.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// How long to sleep until this due time.
fn pause(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or_default().min(CLOCK_CHECK_INTERVAL)
}

/// Keys that are ready, that run, and that are due later. Each key is in at most one of the three.
struct Schedule<K> {
    ready: VecDeque<K>,
    /// The same keys as in `ready`.
    queued: HashSet<K>,
    /// The running keys, and whether each was enqueued meanwhile.
    running: HashMap<K, bool>,
    later: BTreeMap<(Timestamp, u64), K>,
    later_at: HashMap<K, (Timestamp, u64)>,
    /// Orders keys with the same due time.
    count: u64,
}

impl<K> Default for Schedule<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            queued: HashSet::new(),
            running: HashMap::new(),
            later: BTreeMap::new(),
            later_at: HashMap::new(),
            count: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> Schedule<K> {
    /// Adds a key to run now. A running key runs once more afterwards.
    fn enqueue(&mut self, key: K) {
        if let Some(requeue_at) = self.running.get_mut(&key) {
            *requeue_at = true;
            return;
        }
        if let Some(at) = self.later_at.remove(&key) {
            self.later.remove(&at);
            shrink(&mut self.later_at);
        }
        if self.queued.insert(key.clone()) {
            self.ready.push_back(key);
        }
    }

    /// Takes the next ready key and marks it as running.
    fn start(&mut self) -> Option<K> {
        let key = self.ready.pop_front()?;
        self.queued.remove(&key);
        if self.ready.is_empty() {
            self.ready.shrink_to(SMALL);
            self.queued.shrink_to(SMALL);
        }
        self.running.insert(key.clone(), false);
        Some(key)
    }

    /// Takes in the end of a reconcile. `requeue_at`: when to run the key again.
    fn finished(&mut self, key: &K, requeue_at: Option<Timestamp>) {
        if self.running.remove(key).unwrap_or(false) {
            self.enqueue(key.clone());
        } else if let Some(at) = requeue_at {
            self.count += 1;
            self.later.insert((at, self.count), key.clone());
            self.later_at.insert(key.clone(), (at, self.count));
        }
    }

    /// For how many keys there is room.
    #[cfg(test)]
    fn room(&self) -> usize {
        let Self { ready, queued, running, later: _, later_at, count: _ } = self;
        ready.capacity() + queued.capacity() + running.capacity() + later_at.capacity()
    }

    /// When the next key is due.
    fn next_due(&self) -> Option<Timestamp> {
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Moves due keys to the ready queue.
    fn start_due(&mut self, now: Timestamp) {
        while let Some(entry) = self.later.first_entry()
            && entry.key().0 <= now
        {
            let key = entry.get().clone();
            self.enqueue(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use futures::channel::mpsc::unbounded;
    use jiff::Timestamp;
    use serde_json::json;
    use tokio::time::sleep;

    use super::*;
    use crate::{
        cloud::instance_locks::{Caller, InstanceLocks, KEPT, UnsettledCall},
        runtime::{Health, Metrics, Queue},
        store::{
            object::{IncomingObject, Key, Object},
            registry::Registry,
        },
    };

    /// Counts running reconciles, and the maximum in parallel.
    #[derive(Default)]
    struct Counters {
        running: AtomicUsize,
        most: AtomicUsize,
        ended: AtomicUsize,
    }

    /// A wall clock that goes with the timers, but was set to another time after half a minute.
    fn wall(step: i64) -> impl Fn() -> Timestamp {
        let begun = tokio::time::Instant::now();
        move || {
            let elapsed = begun.elapsed();
            let step = if elapsed < Duration::from_secs(30) { 0 } else { step };
            Timestamp::UNIX_EPOCH + elapsed + jiff::SignedDuration::from_secs(step)
        }
    }

    async fn run_once(counters: Arc<Counters>, requeue_at: Option<Duration>) -> Option<Duration> {
        let running = counters.running.fetch_add(1, SeqCst) + 1;
        counters.most.fetch_max(running, SeqCst);
        sleep(Duration::from_millis(100)).await;
        counters.running.fetch_sub(1, SeqCst);
        counters.ended.fetch_add(1, SeqCst);
        requeue_at
    }

    async fn ran(
        keys: &[u32],
        concurrency: usize,
        time: u64,
        requeue_at: Option<Duration>,
    ) -> (usize, usize) {
        let counters = Arc::new(Counters::default());
        let (sender, receiver) = unbounded();
        for key in keys {
            sender.unbounded_send(*key).unwrap();
        }
        let (stop, shutdown) = Shutdown::new();
        tokio::spawn(async move {
            sleep(Duration::from_millis(time)).await;
            stop.request();
        });
        let gauges = Metrics::new(true).queue(Queue::Objects);
        run(receiver, concurrency, gauges, None, shutdown, wall(0), |_| {
            run_once(Arc::clone(&counters), requeue_at)
        })
        .await;
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

    /// A reconcile asks to be requeued after ten minutes. Half a minute later the clock is stepped, or the
    /// machine has slept.
    #[tokio::test(start_paused = true)]
    async fn due_times_are_those_of_the_wall_clock() {
        let hours = 3 * 3600;
        // The step of the clock in seconds, and after how many seconds the reconcile runs again.
        for (step, expected) in [(0, 600), (hours, 30), (300, 300), (-300, 900)] {
            let (sender, receiver) = unbounded();
            sender.unbounded_send(1).unwrap();
            let (stop, shutdown) = Shutdown::new();
            let begun = tokio::time::Instant::now();
            let ran = Arc::<std::sync::Mutex<Vec<u64>>>::default();
            let gauges = Metrics::new(true).queue(Queue::Objects);
            run(receiver, 1, gauges, None, shutdown, wall(step), |_| {
                ran.lock().unwrap().push(begun.elapsed().as_secs());
                if ran.lock().unwrap().len() == 2 {
                    stop.request();
                }
                std::future::ready(Some(Duration::from_secs(600)))
            })
            .await;
            assert_eq!(*ran.lock().unwrap(), [0, expected], "{step}");
        }
    }

    /// Twenty minutes with two at once.
    #[tokio::test(start_paused = true)]
    async fn there_is_no_progress_only_where_all_run_and_none_ends() {
        let minutes = Duration::from_mins;
        // The number of keys, the duration of their reconciles, and whether progress is reported.
        let table = [
            ("none", 0, minutes(0), true),
            ("one of two hangs", 1, minutes(1000), true),
            ("both hang", 2, minutes(1000), false),
            ("both are slow", 8, minutes(4), true),
        ];
        for (name, keys, takes, expected) in table {
            let (sender, receiver) = unbounded();
            (0..keys).for_each(|key| sender.unbounded_send(key).unwrap());
            let (health, (_stop, shutdown)) = (Health::default(), Shutdown::new());
            let progress = Some(health.expect("workers"));
            let gauges = Metrics::new(true).queue(Queue::Objects);
            let reconcile = |_| async move {
                sleep(takes).await;
                Some(takes)
            };
            tokio::select! {
                () = run(receiver, 2, gauges, progress, shutdown, wall(0), reconcile) => panic!("it ended"),
                progress = async {
                    sleep(minutes(20)).await;
                    health.stuck().is_empty()
                } => assert_eq!(progress, expected, "{name}"),
            }
        }
    }

    /// A key that wakes itself all the time takes no turns from one that falls due.
    #[tokio::test]
    async fn what_falls_due_runs_beside_a_key_that_is_always_woken() {
        let (sender, receiver) = unbounded();
        (1..=2).for_each(|key| sender.unbounded_send(key).unwrap());
        let (stop, shutdown) = Shutdown::new();
        let (busy, due) = (Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
        let gauges = Metrics::new(true).queue(Queue::Objects);
        run(receiver, 2, gauges, None, shutdown, Timestamp::now, |key| {
            let reconciles = if key == 1 { busy.fetch_add(1, SeqCst) } else { due.fetch_add(1, SeqCst) };
            if key == 1 {
                sender.unbounded_send(1).unwrap();
            }
            if key == 2 && reconciles == 3 || reconciles == 1_000_000 {
                stop.request();
            }
            std::future::ready((key == 2).then(|| Duration::from_millis(5)))
        })
        .await;
        let reconciles = due.load(SeqCst);
        assert_eq!(reconciles, 4, "beside {} of the other", busy.load(SeqCst));
    }

    #[tokio::test(start_paused = true)]
    async fn shutdown_waits_for_what_runs_and_starts_nothing_more() {
        assert_eq!(ran(&[1, 2, 3], 2, 50, None).await, (2, 2));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_woken_while_it_runs_runs_once_more() {
        let mut schedule = Schedule::default();
        schedule.enqueue(1);
        assert_eq!(schedule.start(), Some(1));
        schedule.enqueue(1);
        schedule.enqueue(1);
        assert_eq!(schedule.start(), None, "never twice at a time");
        schedule.finished(&1, Some(Timestamp::UNIX_EPOCH));
        assert_eq!((schedule.start(), schedule.next_due()), (Some(1), None));
        schedule.finished(&1, None);
        assert_eq!(schedule.start(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_takes_the_place_of_a_later_time() {
        let mut schedule = Schedule::default();
        let now = Timestamp::UNIX_EPOCH;
        for key in [1, 2, 3] {
            schedule.enqueue(key);
            schedule.start();
            schedule.finished(&key, Some(now + Duration::from_secs(key)));
        }
        schedule.enqueue(1);
        assert_eq!((schedule.start(), schedule.next_due()), (Some(1), Some(now + Duration::from_secs(2))));
        schedule.start_due(now + Duration::from_secs(2));
        assert_eq!((schedule.start(), schedule.start()), (Some(2), None));
        assert_eq!(schedule.next_due(), Some(now + Duration::from_secs(3)));
    }

    /// An object like this one, with everything of its own, of a fleet of a thousand.
    fn object(like: &Object, number: usize) -> Object {
        let name: Arc<str> = format!("vm-{number}").into();
        let mut object = Object { key: Key::new("n", &name), uid: Arc::clone(&name), ..like.clone() };
        let spec = Arc::make_mut(object.spec.as_mut().unwrap());
        spec.instance_id = format!("i-{number}");
        spec.secret_ref.name = name.as_ref().into();
        spec.credentials_ref.as_mut().unwrap().name = format!("keys-{number}");
        object.membership.as_mut().unwrap().uid = format!("fleet-{}", number / 1000).into();
        object
    }

    /// Runs those that were woken: who is still there comes again in half a year.
    fn reconcile(registry: &Registry, schedule: &mut Schedule<Key>) {
        registry.take_affected().into_iter().for_each(|key| schedule.enqueue(key));
        while let Some(key) = schedule.start() {
            let requeue_at = registry.newest(&key).map(|_| Timestamp::now() + MAX_WAIT);
            schedule.finished(&key, requeue_at);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_of_100_000_objects_that_are_gone_is_kept() {
        let (registry, instances, mut schedule) =
            (Registry::default(), InstanceLocks::default(), Schedule::default());
        let (now, operator) = (Timestamp::now(), Caller { identity: "operator".into(), account: None });
        let like: IncomingObject = serde_json::from_value(json!({
            "metadata": {
                "name": "vm", "namespace": "n", "uid": "vm", "resourceVersion": "1", "generation": 1,
                "ownerReferences": [{
                    "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "controller": true,
                    "name": "fleet", "uid": "fleet",
                }],
            },
            "spec": {
                "instanceId": "i-0", "secretRef": {"name": "vm"}, "rotation": {},
                "credentialsRef": {"name": "keys"},
            },
        }))
        .unwrap();
        let like = Object::from(like);
        let mut number = 0;
        // Many at once leave large tables behind, and many one after the other leave what is forgotten to
        // forget.
        for batch in std::iter::once(50_000).chain([1000; 50]) {
            let objects: Vec<Object> = (number..number + batch).map(|number| object(&like, number)).collect();
            number += batch;
            for object in &objects {
                registry.apply(object.clone(), false);
                registry.accepted(object, "LTAI1".into());
                let id = &object.spec.as_ref().unwrap().instance_id;
                let by = Arc::clone(&object.uid);
                let call =
                    UnsettledCall { by, caller: operator.clone(), region: None, value: None, until: now };
                instances.unsettle(id, call, now);
            }
            reconcile(&registry, &mut schedule);
            assert_eq!(schedule.later.len(), batch);
            for object in &objects {
                registry.delete(&object.key, &object.uid);
            }
            reconcile(&registry, &mut schedule);
            let scheduled = (schedule.later.len(), schedule.later_at.len(), schedule.running.len());
            assert_eq!(scheduled, (0, 0, 0), "timers go with their objects");
            assert_eq!(registry.len(), 0);
        }
        assert_eq!((number, instances.len()), (100_000, 100_000));
        instances.prune(now + KEPT);
        assert_eq!(instances.len(), 0);
        let room = registry.room() + schedule.room() + instances.room();
        assert!(room < 10 * 2 * SMALL, "room is kept for {room} entries");
    }
}
