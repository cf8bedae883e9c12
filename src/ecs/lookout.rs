//! Looks at the instances that somebody waits for: together, up to 100 a DescribeInstances call.
//!
//! Nobody is held up: an instance is asked for, and its waiters are woken when it was looked at.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use super::{
    Client, Error, Instance, Region,
    client::MAX_DESCRIBED,
    limiter::{Action, Limiter},
};
use crate::rotation::{
    facts::{Found, Look, SeenInstance},
    outcome::{Class, Reply, classify},
};

/// Looks that are due so soon join a call that is made anyway.
const JOIN: SignedDuration = SignedDuration::from_secs(10);
/// How long to wait for others that ask at the same time.
const GATHER: Duration = Duration::from_millis(10);
/// How long to sleep where nothing is wanted.
const IDLE: Duration = Duration::from_secs(60);

/// The instances that are waited for, and the newest look at each.
#[derive(Default)]
struct Wanted {
    entries: HashMap<Arc<str>, Entry>,
    /// Those that are due some time, soonest first.
    queue: BTreeSet<(Timestamp, Arc<str>)>,
    /// Regions with a call under way: one at a time each.
    busy: BTreeSet<Region>,
}

struct Entry {
    region: Region,
    due: Option<Timestamp>,
    look: Option<Look>,
}

/// One call: a region and the ids to look at.
type Batch = (Region, Vec<Arc<str>>);

/// Handle to the lookout. Cheap to clone.
#[derive(Clone)]
pub struct Lookout(Arc<Shared>);

struct Shared {
    client: Client,
    limiter: Arc<Limiter>,
    wanted: Mutex<Wanted>,
    changed: Notify,
    looked: Notify,
    called: Box<dyn Fn(Class) + Send + Sync>,
}

impl Lookout {
    /// A lookout that looks through this client; it does so while [`Lookout::run`] runs. `called` is told the class
    /// of each reply.
    #[must_use]
    pub fn new(
        client: Client,
        limiter: Arc<Limiter>,
        called: impl Fn(Class) + Send + Sync + 'static,
    ) -> Self {
        let (wanted, called) = (Mutex::default(), Box::new(called));
        let (changed, looked) = (Notify::new(), Notify::new());
        Self(Arc::new(Shared { client, limiter, wanted, changed, looked, called }))
    }

    /// Asks for a look at the instance at that time. A later word replaces an earlier one.
    pub fn want(&self, instance_id: &str, region: &Region, due: Timestamp) {
        self.wanted().want(instance_id, region, due);
        self.0.changed.notify_one();
    }

    /// Asks for a look at once and waits for it; `None`: it takes longer than that.
    pub async fn look(&self, instance_id: &str, region: &Region, patience: Duration) -> Option<Look> {
        let asked = Timestamp::now();
        self.want(instance_id, region, asked);
        let fresh = async {
            loop {
                let looked = self.0.looked.notified();
                if let Some(look) = self.latest(instance_id).filter(|look| look.at >= asked) {
                    return look;
                }
                looked.await;
            }
        };
        tokio::time::timeout(patience, fresh).await.ok()
    }

    /// Nobody waits for the instance any more.
    pub fn forget(&self, instance_id: &str) {
        self.wanted().forget(instance_id);
    }

    /// The newest look at an instance that is waited for.
    #[must_use]
    pub fn latest(&self, instance_id: &str) -> Option<Look> {
        self.wanted().entries.get(instance_id).and_then(|entry| entry.look.clone())
    }

    /// Looks, for ever; `seen` is called with each instance that was looked at.
    pub async fn run(&self, seen: impl Fn(&str)) {
        let mut calls = JoinSet::new();
        loop {
            let now = Timestamp::now();
            let (batches, next) = self
                .wanted()
                .plan(now, |region| self.0.limiter.admit(Action::DescribeInstances, region.as_str(), now));
            for (region, ids) in batches {
                let shared = Arc::clone(&self.0);
                calls.spawn(async move {
                    let looks = shared.look(&region, &ids).await;
                    (region, ids, looks)
                });
            }
            let pause =
                next.map_or(IDLE, |next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            tokio::select! {
                // Who asks is rarely alone: a moment later a call takes many along.
                () = self.0.changed.notified() => sleep(GATHER).await,
                () = sleep(pause) => {}
                Some(call) = calls.join_next(), if !calls.is_empty() => {
                    if let Ok((region, ids, looks)) = call {
                        let looked = self.wanted().record(&region, &ids, looks);
                        self.0.looked.notify_waiters();
                        for id in &looked {
                            seen(id);
                        }
                    }
                }
            }
        }
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        self.0.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a call brought: looks by id and time, or when to try again.
type Looks = Result<(Timestamp, HashMap<String, Found>, Found), Timestamp>;

impl Shared {
    /// One call of DescribeInstances. The last part of the result is what all ids that it does not name show.
    async fn look(&self, region: &Region, ids: &[Arc<str>]) -> Looks {
        let at = Timestamp::now();
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let mut reply = self.describe(region, &names).await;
        if reply.as_ref().is_err_and(may_pass_at_once) {
            self.client.forget_credentials();
            reply = self.describe(region, &names).await;
        }
        let (action, now) = (Action::DescribeInstances, Timestamp::now());
        if let Err(error) = &reply
            && classify(&error.into()) == Class::Throttled
        {
            return Err(self.limiter.throttled(action, region.as_str(), error.retry_after(), now));
        }
        self.limiter.passed(action, region.as_str());
        Ok(match reply {
            Ok(instances) => {
                let seen =
                    instances.into_iter().map(|instance| (instance.instance_id.clone(), found(&instance)));
                (at, seen.collect(), Found::Unseen)
            }
            Err(error) => {
                tracing::warn!(region = %region.as_str(), instances = ids.len(), %error, "cannot look at instances");
                (at, HashMap::new(), missed(&error))
            }
        })
    }

    async fn describe(&self, region: &Region, names: &[String]) -> Result<Vec<Instance>, Error> {
        let reply = self.client.describe_instances(region, names).await;
        (self.called)(reply.as_ref().map_or_else(|error| classify(&error.into()), |_| Class::Accepted));
        reply
    }
}

fn found(instance: &Instance) -> Found {
    Found::Seen(SeenInstance {
        status: instance.status.as_str().to_owned(),
        io_optimized: instance.io_optimized,
        start_time: instance.start_time,
        locked: !instance.locks.is_empty(),
    })
}

/// A cached key may just have been renewed, a nonce or a date may just have been wrong: as with a password, one more
/// call at once. Without it the first password would go out without knowing what the instance is.
fn may_pass_at_once(error: &Error) -> bool {
    let reply = Reply::from(error);
    reply != Reply::NoCredentials && matches!(classify(&reply), Class::Credentials | Class::Signing)
}

/// What a failed call shows of each instance: tried again only where that may help by itself.
fn missed(error: &Error) -> Found {
    match classify(&error.into()) {
        Class::OutcomeUnknown | Class::Unreachable | Class::Signing | Class::Throttled => Found::Failed,
        Class::Accepted
        | Class::Waiting
        | Class::InvalidInput
        | Class::NotFound
        | Class::Denied
        | Class::Credentials
        | Class::Refused => Found::Refused,
    }
}

impl Wanted {
    fn want(&mut self, id: &str, region: &Region, due: Timestamp) {
        let (id, entry) = match self.entries.remove_entry(id) {
            Some((id, entry)) if entry.region == *region => (id, entry),
            stale => {
                if let Some((id, Entry { due: Some(due), .. })) = stale {
                    self.queue.remove(&(due, id));
                }
                (Arc::from(id), Entry { region: region.clone(), due: None, look: None })
            }
        };
        if let Some(due) = entry.due {
            self.queue.remove(&(due, Arc::clone(&id)));
        }
        self.queue.insert((due, Arc::clone(&id)));
        self.entries.insert(id, Entry { due: Some(due), ..entry });
    }

    fn forget(&mut self, id: &str) {
        if let Some((id, Entry { due: Some(due), .. })) = self.entries.remove_entry(id) {
            self.queue.remove(&(due, id));
        }
    }

    /// The calls to make now, and when the next is due. One call a region at a time; each takes along what is due
    /// soon.
    fn plan(
        &mut self,
        now: Timestamp,
        mut admit: impl FnMut(&Region) -> Result<(), Timestamp>,
    ) -> (Vec<Batch>, Option<Timestamp>) {
        let mut batches: Vec<Batch> = Vec::new();
        let mut closed: HashMap<Region, Timestamp> = HashMap::new();
        let mut next: Option<Timestamp> = None;
        for (due, id) in &self.queue {
            if *due > now + JOIN {
                next = Some(next.map_or(*due, |next| next.min(*due)));
                break;
            }
            let Some(entry) = self.entries.get(id) else { continue };
            let region = &entry.region;
            if let Some((_, ids)) = batches.iter_mut().find(|(other, _)| other == region) {
                if ids.len() < MAX_DESCRIBED {
                    ids.push(Arc::clone(id));
                }
                continue;
            }
            if *due > now {
                next = Some(next.map_or(*due, |next| next.min(*due)));
                continue;
            }
            if self.busy.contains(region) {
                continue;
            }
            let opens = match closed.get(region) {
                Some(opens) => Err(*opens),
                None => admit(region),
            };
            match opens {
                Ok(()) => batches.push((region.clone(), vec![Arc::clone(id)])),
                Err(opens) => {
                    closed.insert(region.clone(), opens);
                    next = Some(next.map_or(opens, |next| next.min(opens)));
                }
            }
        }
        for (region, ids) in &batches {
            self.busy.insert(region.clone());
            for id in ids {
                if let Some(entry) = self.entries.get_mut(id)
                    && let Some(due) = entry.due.take()
                {
                    self.queue.remove(&(due, Arc::clone(id)));
                }
            }
        }
        (batches, next)
    }

    /// Takes in what a call brought; returns whom to wake.
    fn record(&mut self, region: &Region, ids: &[Arc<str>], looks: Looks) -> Vec<Arc<str>> {
        self.busy.remove(region);
        let (at, mut seen, others) = match looks {
            Ok(looks) => looks,
            Err(opens) => {
                for id in ids {
                    if self
                        .entries
                        .get(id)
                        .is_some_and(|entry| entry.due.is_none() && entry.region == *region)
                    {
                        self.want(id, region, opens);
                    }
                }
                return Vec::new();
            }
        };
        let mut looked = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(entry) = self.entries.get_mut(id).filter(|entry| entry.region == *region) {
                let found = seen.remove(&**id).unwrap_or_else(|| others.clone());
                entry.look = Some(Look { at, found });
                looked.push(Arc::clone(id));
            }
        }
        looked
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn region(name: &str) -> Region {
        Region::parse(name).unwrap()
    }

    #[allow(clippy::unnecessary_wraps, reason = "stands in for the limiter")]
    fn open(_: &Region) -> Result<(), Timestamp> {
        Ok(())
    }

    fn wanted(due: impl IntoIterator<Item = i64>) -> Wanted {
        let mut wanted = Wanted::default();
        for (number, due) in due.into_iter().enumerate() {
            wanted.want(&format!("i-{number}"), &region("cn-hangzhou"), at(due));
        }
        wanted
    }

    #[test]
    fn an_instance_is_locked_whatever_the_reason() {
        for (locks, locked) in [(&[][..], false), (&["financial"], true), (&["security", "recycling"], true)]
        {
            let start_time = Some(at(60));
            let instance = Instance {
                instance_id: "i-1".into(),
                region_id: "cn-hangzhou".into(),
                status: "Running".into(),
                io_optimized: Some(false),
                start_time,
                locks: locks.iter().map(ToString::to_string).collect(),
                tags: BTreeMap::new(),
            };
            let (status, io_optimized) = ("Running".into(), Some(false));
            let seen = SeenInstance { status, io_optimized, start_time, locked };
            assert_eq!(found(&instance), Found::Seen(seen), "{locks:?}");
        }
    }

    #[test]
    fn a_thousand_instances_take_ten_calls() {
        let mut wanted = wanted((0..1000).map(|_| 5));
        let mut calls = 0;
        loop {
            let (batches, _) = wanted.plan(at(5), open);
            let Some((region, ids)) = batches.first() else { break };
            assert_eq!((batches.len(), ids.len()), (1, 100), "one call a region at a time");
            calls += 1;
            let looked = wanted.record(region, ids, Ok((at(5), HashMap::new(), Found::Unseen)));
            assert_eq!(looked.len(), 100);
        }
        assert_eq!(calls, 10);
    }

    #[test]
    fn what_is_due_soon_joins_but_makes_no_call_of_its_own() {
        let mut waiting = wanted([10, 15, 60]);
        let (batches, next) = waiting.plan(at(5), open);
        assert!(batches.is_empty());
        assert_eq!(next, Some(at(10)));
        let (batches, next) = waiting.plan(at(10), open);
        assert_eq!(batches[0].1.len(), 2);
        assert_eq!(next, Some(at(60)));
    }

    #[test]
    fn regions_are_asked_apart() {
        let mut wanted = wanted([1]);
        wanted.want("i-x", &region("cn-beijing"), at(1));
        assert_eq!(wanted.plan(at(1), open).0.len(), 2);
    }

    #[test]
    fn a_closed_limiter_puts_it_off() {
        let mut wanted = wanted([1, 1]);
        let (batches, next) = wanted.plan(at(1), |_| Err(at(60)));
        assert!(batches.is_empty());
        assert_eq!(next, Some(at(60)));
        let (batches, _) = wanted.plan(at(60), open);
        assert_eq!(batches[0].1.len(), 2);
        let (region, ids) = &batches[0];
        assert!(wanted.record(region, ids, Err(at(120))).is_empty(), "throttled: nobody is woken");
        assert_eq!(wanted.plan(at(61), open).1, Some(at(120)));
    }

    #[test]
    fn what_nobody_waits_for_is_not_looked_at() {
        let mut wanted = wanted([1, 1]);
        wanted.forget("i-0");
        let (batches, _) = wanted.plan(at(1), open);
        assert_eq!(batches[0].1.len(), 1);
        wanted.forget("i-1");
        let (region, ids) = &batches[0];
        assert!(wanted.record(region, ids, Ok((at(1), HashMap::new(), Found::Unseen))).is_empty());
        assert!(wanted.entries.is_empty() && wanted.queue.is_empty());
    }

    #[test]
    fn a_mended_region_makes_the_old_look_void() {
        let mut wanted = wanted([1]);
        let (batches, _) = wanted.plan(at(1), open);
        wanted.want("i-0", &region("cn-beijing"), at(1));
        let looks = Ok((at(1), HashMap::new(), Found::Unseen));
        assert!(wanted.record(&batches[0].0, &batches[0].1, looks).is_empty());
        assert!(wanted.entries["i-0"].look.is_none());
    }
}
