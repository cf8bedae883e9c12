//! Looks at the instances that somebody waits for: together, up to 100 a DescribeInstances call.
//!
//! Nobody is held up: an instance is asked for, and its waiters are woken when it was looked at.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use super::{
    Client, Error, Identity, Instance, Region,
    client::MAX_DESCRIBED,
    limiter::{Action, Asker, Limiter, Route, Ticket},
};
use crate::rotation::{
    allowance::Calls,
    facts::{Found, Look, SeenInstance},
    outcome::{Class, Reply, classify},
};

/// How long after a poll that panicked the next one is made.
const PANICKED: SignedDuration = SignedDuration::from_secs(30);
/// Looks that are due so soon join a call that is made anyway.
const JOIN: SignedDuration = SignedDuration::from_secs(10);
/// A call that takes fewer than [`MAX_DESCRIBED`] instances along begins no sooner than this after the one before it. So
/// instances gather also where replies are fast.
const SPACING: SignedDuration = SignedDuration::from_millis(200);
/// How often due times are compared with the wall clock: it may be stepped, and the machine may sleep.
const COMPARED: Duration = Duration::from_secs(30);
/// Most calls under way at a time: each is a connection, and there may be thousands of identities.
const MOST_CALLS: usize = 16;

/// The instances that are waited for, by the identity that looks, and the newest look at each.
#[derive(Default)]
struct Wanted {
    groups: HashMap<Arc<str>, Group>,
    /// Those that are due some time, soonest first: when, who looks, which instance.
    queue: BTreeSet<(Timestamp, Arc<str>, Arc<str>)>,
    /// Calls that are under way, and those that began a moment ago: one at a time for each identity and region.
    calls: HashMap<(Arc<str>, Region), Call>,
}

/// The last call of an identity in a region.
struct Call {
    began: Timestamp,
    under_way: bool,
}

/// What one identity looks at.
struct Group {
    identity: Arc<Identity>,
    entries: HashMap<Arc<str>, Entry>,
}

struct Entry {
    region: Region,
    due: Option<Timestamp>,
    /// A call that polls it is under way.
    under_way: bool,
    look: Option<Look>,
    /// Of the object that asked last: looks are its calls.
    calls: Arc<Calls>,
}

/// What the next call of an identity in a region would take along.
struct Gathered<'a> {
    name: &'a Arc<str>,
    group: &'a Group,
    region: &'a Region,
    ids: Vec<Arc<str>>,
}

/// One call: who looks, where, and the ids to look at.
struct Batch {
    name: Arc<str>,
    identity: Arc<Identity>,
    region: Region,
    ids: Vec<Arc<str>>,
    /// Whose calls these are.
    calls: Vec<Arc<Calls>>,
    /// What the limiter counts it by: the identity's account may become known meanwhile.
    scope: Box<str>,
    ticket: Ticket,
}

/// Handle to the lookout. Cheap to clone.
#[derive(Clone)]
pub struct Lookout(Arc<Shared>);

struct Shared {
    client: Client,
    limiter: Arc<Limiter>,
    wanted: Mutex<Wanted>,
    changed: Notify,
    looked: Notify,
}

impl Lookout {
    /// A lookout that looks through this client; it does so while [`Lookout::run`] runs.
    #[must_use]
    pub fn new(client: Client, limiter: Arc<Limiter>) -> Self {
        let (wanted, changed, looked) = (Mutex::default(), Notify::new(), Notify::new());
        Self(Arc::new(Shared { client, limiter, wanted, changed, looked }))
    }

    /// Asks this identity for a look at the instance at that time. A later word replaces an earlier one.
    pub fn want(
        &self,
        identity: &Arc<Identity>,
        instance_id: &str,
        region: &Region,
        due: Timestamp,
        calls: &Arc<Calls>,
    ) {
        let mut wanted = self.wanted();
        // The first poll of this instance is under way, and wakes the object.
        if due <= self.0.now() && wanted.is_first_poll_under_way(identity, instance_id, region) {
            return;
        }
        wanted.want(identity, instance_id, region, due, calls);
        // When the call ends, `run` plans the next one. Meanwhile instances gather.
        if !wanted.is_under_way(identity.name(), region) {
            self.0.changed.notify_one();
        }
    }

    /// Asks for a look at once and waits for it; `None`: it takes longer than that.
    pub async fn look(
        &self,
        identity: &Arc<Identity>,
        instance_id: &str,
        region: &Region,
        patience: Duration,
        calls: &Arc<Calls>,
    ) -> Option<Look> {
        let asked = self.0.now();
        self.wanted().want(identity, instance_id, region, asked, calls);
        self.0.changed.notify_one();
        let fresh = async {
            loop {
                let looked = self.0.looked.notified();
                if let Some(look) = self.latest(identity.name(), instance_id).filter(|look| look.at >= asked)
                {
                    return look;
                }
                looked.await;
            }
        };
        tokio::time::timeout(patience, fresh).await.ok()
    }

    /// An identity may have other keys than it had: then what was seen with those is forgotten.
    pub fn renew(&self, identity: &Arc<Identity>) {
        if let Some(group) = self.wanted().groups.get_mut(identity.name()) {
            group.renew(identity);
        }
    }

    /// Nobody waits any more for what the identity of that name sees of the instance.
    pub fn forget(&self, name: &str, instance_id: &str) {
        self.wanted().forget(name, instance_id);
    }

    /// Nobody waits for the instance any more, whoever looks.
    pub fn forget_instance(&self, instance_id: &str) {
        let mut wanted = self.wanted();
        let names: Vec<_> = wanted.groups.keys().cloned().collect();
        for name in names {
            wanted.forget(&name, instance_id);
        }
    }

    /// The wall clock was set back by so much, a negative time: what is due is due as soon as it would have been.
    pub fn set_back(&self, by: SignedDuration) {
        self.wanted().set_back(by);
        self.0.changed.notify_one();
    }

    /// The newest look of the identity of that name at an instance that is waited for.
    #[must_use]
    pub fn latest(&self, name: &str, instance_id: &str) -> Option<Look> {
        let wanted = self.wanted();
        wanted.groups.get(name)?.entries.get(instance_id)?.look.clone()
    }

    /// Looks, for ever; `seen` is called with each instance that was looked at.
    pub async fn run(&self, seen: impl Fn(&str)) {
        let mut calls = JoinSet::new();
        loop {
            let now = self.0.now();
            let room = MOST_CALLS - calls.len();
            let (batches, next) = self.wanted().plan(now, room, |identity, region| {
                self.0.limiter.admit(route(identity, region), &asker(identity), now)
            });
            for batch in batches {
                let shared = Arc::clone(&self.0);
                calls.spawn(async move {
                    // A panic must not leave the identity and region without polls.
                    let looks = AssertUnwindSafe(shared.look(&batch)).catch_unwind().await;
                    let looks = looks.unwrap_or_else(|_| {
                        tracing::error!(identity = %batch.name, "an instance poll panicked; it is repeated; please report this");
                        Err(shared.now() + PANICKED)
                    });
                    (batch, looks)
                });
            }
            let pause = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            let pause = pause.unwrap_or(COMPARED).min(COMPARED);
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = sleep(pause) => {}
                Some(call) = calls.join_next(), if !calls.is_empty() => {
                    if let Ok((batch, looks)) = call {
                        let looked = self.wanted().record(&batch, looks, self.0.now());
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
    fn now(&self) -> Timestamp {
        self.client.clock().local()
    }

    /// One call of DescribeInstances. The last part of the result is what all ids that it does not name show.
    async fn look(&self, batch: &Batch) -> Looks {
        let Batch { identity, region, ids, .. } = batch;
        let at = self.now();
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let mut reply = self.client.describe_instances(identity, region, &names).await;
        if reply.as_ref().is_err_and(may_pass_at_once) {
            batch.spend(self.now());
            reply = self.client.describe_instances(identity, region, &names).await;
        }
        let route = Route { scope: &batch.scope, ..route(identity, region) };
        let (ticket, now) = (batch.ticket, self.now());
        // The clock may have been set back meanwhile.
        let at = at.min(now);
        let error = reply.as_ref().err();
        let opens = self.limiter.ended(route, &asker(identity), ticket, error, now);
        if let Some(opens) = opens.filter(|_| error.is_some_and(Error::is_throttled)) {
            return Err(opens);
        }
        Ok(match reply {
            Ok(instances) => {
                let seen =
                    instances.into_iter().map(|instance| (instance.instance_id.clone(), found(&instance)));
                (at, seen.collect(), Found::Unseen)
            }
            Err(error) => {
                let identity = identity.name();
                tracing::warn!(%region, identity, instances = ids.len(), %error, "cannot look at instances");
                (at, HashMap::new(), missed(&error))
            }
        })
    }
}

impl Batch {
    fn spend(&self, now: Timestamp) {
        self.calls.iter().for_each(|calls| calls.polls.spend(now));
    }
}

fn route<'a>(identity: &'a Identity, region: &'a Region) -> Route<'a> {
    Route { action: Action::DescribeInstances, scope: identity.scope(), region: region.as_str() }
}

/// The lookout asks as itself, for all whose instances it looks at.
fn asker(identity: &Identity) -> Asker {
    Asker { namespace: "".into(), name: identity.name().into() }
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
        | Class::Refused => Found::Refused,
        Class::Credentials => Found::NoCredentials(error.into()),
    }
}

impl Wanted {
    fn want(
        &mut self,
        identity: &Arc<Identity>,
        id: &str,
        region: &Region,
        due: Timestamp,
        calls: &Arc<Calls>,
    ) {
        let name = match self.groups.get_key_value(identity.name()) {
            Some((name, _)) => Arc::clone(name),
            None => identity.name().into(),
        };
        let group = self.groups.entry(Arc::clone(&name)).or_insert_with(|| Group::of(identity));
        group.renew(identity);
        let (id, entry) = match group.entries.remove_entry(id) {
            Some((id, entry)) if entry.region == *region => (id, entry),
            stale => {
                if let Some((id, Entry { due: Some(due), .. })) = stale {
                    self.queue.remove(&(due, Arc::clone(&name), id));
                }
                let calls = Arc::clone(calls);
                (
                    Arc::from(id),
                    Entry { region: region.clone(), due: None, under_way: false, look: None, calls },
                )
            }
        };
        let former = entry.due;
        let calls = Arc::clone(calls);
        group.entries.insert(Arc::clone(&id), Entry { due: Some(due), calls, ..entry });
        if let Some(due) = former {
            self.queue.remove(&(due, Arc::clone(&name), Arc::clone(&id)));
        }
        self.queue.insert((due, name, id));
    }

    fn forget(&mut self, name: &str, id: &str) {
        let Some((name, mut group)) = self.groups.remove_entry(name) else { return };
        if let Some((id, Entry { due: Some(due), .. })) = group.entries.remove_entry(id) {
            self.queue.remove(&(due, Arc::clone(&name), id));
        }
        if !group.entries.is_empty() {
            self.groups.insert(name, group);
        }
    }

    fn set_back(&mut self, by: SignedDuration) {
        let shifted = |at: Timestamp| at.saturating_add(by).unwrap_or(at);
        let queue = std::mem::take(&mut self.queue);
        self.queue = queue.into_iter().map(|(due, name, id)| (shifted(due), name, id)).collect();
        for entry in self.groups.values_mut().flat_map(|group| group.entries.values_mut()) {
            entry.due = entry.due.map(shifted);
            if let Some(look) = &mut entry.look {
                look.at = shifted(look.at);
            }
        }
    }

    /// Whether the first poll of the instance is under way. If its keys have been replaced, it is repeated.
    fn is_first_poll_under_way(&self, identity: &Identity, id: &str, region: &Region) -> bool {
        let entry = self.groups.get(identity.name()).and_then(|group| group.entries.get(id));
        entry.is_some_and(|entry| {
            entry.region == *region && entry.under_way && entry.due.is_none() && entry.look.is_none()
        })
    }

    fn is_under_way(&self, name: &str, region: &Region) -> bool {
        self.calls.get(&(name.into(), region.clone())).is_some_and(|call| call.under_way)
    }

    /// The calls to make now, and when the next is due. One call an identity and region at a time; each takes along
    /// what is due soon.
    fn plan(
        &mut self,
        now: Timestamp,
        room: usize,
        mut admit: impl FnMut(&Identity, &Region) -> Result<Ticket, Timestamp>,
    ) -> (Vec<Batch>, Option<Timestamp>) {
        // A start in the future means that the clock was set back: no spacing.
        let spaced_until =
            |call: &Call| Some(call.began + SPACING).filter(|over| *over > now && call.began <= now);
        self.calls.retain(|_, call| call.under_way || spaced_until(call).is_some());
        let mut gathered: Vec<Gathered> = Vec::new();
        let mut places: HashMap<(&str, &Region), usize> = HashMap::new();
        let mut next: Option<Timestamp> = None;
        let mut earliest = |at: Timestamp| next = Some(next.map_or(at, |next| next.min(at)));
        for (due, name, id) in &self.queue {
            if *due > now + JOIN {
                earliest(*due);
                break;
            }
            let Some(group) = self.groups.get(name) else { continue };
            let Some(Entry { region, .. }) = group.entries.get(id) else { continue };
            if let Some(call) = places.get(&(&**name, region)).and_then(|place| gathered.get_mut(*place)) {
                if call.ids.len() < MAX_DESCRIBED {
                    call.ids.push(Arc::clone(id));
                }
            } else if *due > now {
                earliest(*due);
            } else {
                places.insert((name, region), gathered.len());
                gathered.push(Gathered { name, group, region, ids: vec![Arc::clone(id)] });
            }
        }
        let mut batches: Vec<Batch> = Vec::new();
        for Gathered { name, group, region, ids } in gathered {
            let last = self.calls.get(&(Arc::clone(name), region.clone()));
            // The end of a call makes room.
            if batches.len() == room || last.is_some_and(|call| call.under_way) {
                continue;
            }
            if let Some(over) = last.and_then(spaced_until).filter(|_| ids.len() < MAX_DESCRIBED) {
                earliest(over);
                continue;
            }
            match admit(&group.identity, region) {
                Ok(ticket) => {
                    let calls = ids.iter().filter_map(|id| Some(Arc::clone(&group.entries.get(id)?.calls)));
                    batches.push(Batch {
                        name: Arc::clone(name),
                        identity: Arc::clone(&group.identity),
                        region: region.clone(),
                        calls: calls.collect(),
                        ids,
                        scope: group.identity.scope().into(),
                        ticket,
                    });
                }
                Err(opens) => earliest(opens),
            }
        }
        for batch @ Batch { name, region, ids, .. } in &batches {
            batch.spend(now);
            self.calls.insert((Arc::clone(name), region.clone()), Call { began: now, under_way: true });
            let Some(group) = self.groups.get_mut(name) else { continue };
            for id in ids {
                let Some(entry) = group.entries.get_mut(id) else { continue };
                entry.under_way = true;
                if let Some(due) = entry.due.take() {
                    self.queue.remove(&(due, Arc::clone(name), Arc::clone(id)));
                }
            }
        }
        (batches, next)
    }

    /// Takes in what a call brought; returns whom to wake.
    fn record(&mut self, batch: &Batch, looks: Looks, now: Timestamp) -> Vec<Arc<str>> {
        let Batch { name, identity, region, ids, .. } = batch;
        if let Some(call) = self.calls.get_mut(&(Arc::clone(name), region.clone())) {
            call.under_way = false;
        }
        let Some(group) = self.groups.get_mut(name) else { return Vec::new() };
        for id in ids {
            if let Some(entry) = group.entries.get_mut(id).filter(|entry| entry.region == *region) {
                entry.under_way = false;
            }
        }
        let current = Arc::clone(&group.identity);
        let (at, mut seen, others) = match looks {
            Ok(looks) if Arc::ptr_eq(identity, &current) => looks,
            // Throttled, or seen with keys that have been replaced meanwhile.
            looks => {
                let again_at = looks.err().unwrap_or(now);
                let waits = |id: &Arc<str>| {
                    let entry = group.entries.get(id);
                    let entry = entry.filter(|entry| entry.due.is_none() && entry.region == *region)?;
                    Some((Arc::clone(id), Arc::clone(&entry.calls)))
                };
                let again: Vec<_> = ids.iter().filter_map(waits).collect();
                for (id, calls) in again {
                    let due = calls.polls.opens(again_at).unwrap_or(again_at);
                    self.want(&current, &id, region, due, &calls);
                }
                return Vec::new();
            }
        };
        let mut looked = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(entry) = group.entries.get_mut(id).filter(|entry| entry.region == *region) {
                let found = seen.remove(&**id).unwrap_or_else(|| others.clone());
                entry.look = Some(Look { at, found });
                looked.push(Arc::clone(id));
            }
        }
        looked
    }
}

impl Group {
    /// The same identity may have other keys, where its Secret has changed: what the former ones saw is void.
    fn renew(&mut self, identity: &Arc<Identity>) {
        if !Arc::ptr_eq(&self.identity, identity) {
            self.identity = Arc::clone(identity);
            self.entries.values_mut().for_each(|entry| entry.look = None);
        }
    }

    fn of(identity: &Arc<Identity>) -> Self {
        Self { identity: Arc::clone(identity), entries: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use futures::future::BoxFuture;

    use super::*;
    use crate::ecs::{
        Clock, Config, Endpoint, Meter, Rates,
        credentials::{Cache, Credentials, Environment, Provider, ProviderError, test_tools::given},
    };

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn region(name: &str) -> Region {
        Region::parse(name).unwrap()
    }

    fn identity(name: &str) -> Arc<Identity> {
        let nobody = Arc::new(Environment::read(|_| None));
        let cache = Cache::new(nobody, Clock::new(Timestamp::now));
        Arc::new(Identity::new(name, Arc::new(cache)))
    }

    #[allow(clippy::unnecessary_wraps, reason = "stands in for the limiter")]
    fn open(_: &Identity, _: &Region) -> Result<Ticket, Timestamp> {
        Ok(Ticket::default())
    }

    fn wanted(due: impl IntoIterator<Item = i64>) -> Wanted {
        let (mut wanted, own) = (Wanted::default(), identity("own"));
        for (number, due) in due.into_iter().enumerate() {
            wanted.want(&own, &format!("i-{number}"), &region("cn-hangzhou"), at(due), &Arc::default());
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
            let (batches, _) = wanted.plan(at(5), 16, open);
            let Some(batch) = batches.first() else { break };
            assert_eq!((batches.len(), batch.ids.len()), (1, 100), "one call a region at a time");
            calls += 1;
            let looked = wanted.record(batch, Ok((at(5), HashMap::new(), Found::Unseen)), at(5));
            assert_eq!(looked.len(), 100);
        }
        assert_eq!(calls, 10);
    }

    /// As many ask as fast as they can, each reply comes at once, or after some time.
    #[test]
    fn instances_gather_while_a_call_is_under_way_and_a_lone_one_never_waits() {
        // Instances, how many ask each millisecond, how long a call takes in milliseconds, and how many calls that makes.
        let table =
            [(1, 1, 0, 1), (1, 1, 300, 1), (10_000, 4, 0, 110), (10_000, 4, 300, 101), (10_000, 100, 1, 101)];
        for (instances, rate, takes, most) in table {
            let moment =
                |millisecond: i64| at(1).checked_add(SignedDuration::from_millis(millisecond)).unwrap();
            let (mut wanted, own, calls) = (Wanted::default(), identity("own"), Arc::default());
            let mut asked = 0;
            let mut under_way: Option<(i64, Batch)> = None;
            let (mut made, mut looked) = (0, 0);
            for millisecond in 0.. {
                let now = moment(millisecond);
                for number in asked..instances.min(asked + rate) {
                    wanted.want(&own, &format!("i-{number}"), &region("cn-hangzhou"), now, &calls);
                }
                asked = instances.min(asked + rate);
                if let Some((_, batch)) = under_way.take_if(|(ends, _)| *ends <= millisecond) {
                    looked += wanted.record(&batch, Ok((now, HashMap::new(), Found::Unseen)), now).len();
                }
                if under_way.is_some() {
                    continue;
                }
                let (batches, next) = wanted.plan(now, 16, open);
                if let Some(batch) = batches.into_iter().next() {
                    assert!(made > 0 || millisecond == 0, "the first one does not wait");
                    made += 1;
                    under_way = Some((millisecond + takes, batch));
                } else if looked < asked {
                    assert!(next.is_some_and(|next| next <= now + SPACING), "nobody is forgotten");
                }
                if looked == instances {
                    break;
                }
            }
            assert!(made <= most, "{instances} instances, {takes} ms: {made} calls");
        }
    }

    #[test]
    fn who_asks_again_during_the_first_poll_is_not_polled_twice() {
        let mut wanted = wanted([1]);
        let own = Arc::clone(&wanted.groups["own"].identity);
        let polled = |wanted: &Wanted, id| wanted.is_first_poll_under_way(&own, id, &region("cn-hangzhou"));
        assert!(!polled(&wanted, "i-0"), "it waits for its poll");
        let (batches, _) = wanted.plan(at(1), 16, open);
        assert!(polled(&wanted, "i-0"));
        assert!(!wanted.is_first_poll_under_way(&own, "i-0", &region("cn-beijing")), "in another region");
        wanted.want(&own, "i-1", &region("cn-hangzhou"), at(1), &Arc::default());
        assert!(!polled(&wanted, "i-1"), "the call under way is without this one");
        // Other keys: the poll is void, and made once more.
        wanted.groups.get_mut("own").unwrap().renew(&identity("own"));
        assert!(polled(&wanted, "i-0"));
        assert!(wanted.record(&batches[0], Ok((at(1), HashMap::new(), Found::Unseen)), at(1)).is_empty());
        assert!(!polled(&wanted, "i-0") && wanted.groups["own"].entries["i-0"].due.is_some());
        let (batches, _) = wanted.plan(at(2), 16, open);
        wanted.record(&batches[0], Ok((at(2), HashMap::new(), Found::Unseen)), at(2));
        assert!(!polled(&wanted, "i-0"), "a later poll is another one");
    }

    #[test]
    fn a_clock_that_was_set_back_spaces_no_call() {
        let mut wanted = wanted([1000]);
        let (batches, _) = wanted.plan(at(1000), 16, open);
        wanted.record(&batches[0], Ok((at(1000), HashMap::new(), Found::Unseen)), at(1000));
        wanted.want(&batches[0].identity, "i-1", &region("cn-hangzhou"), at(1), &Arc::default());
        assert_eq!(wanted.plan(at(1), 16, open).0.len(), 1);
    }

    #[test]
    fn what_is_due_soon_joins_but_makes_no_call_of_its_own() {
        let mut waiting = wanted([10, 15, 60]);
        let (batches, next) = waiting.plan(at(5), 16, open);
        assert!(batches.is_empty());
        assert_eq!(next, Some(at(10)));
        let (batches, next) = waiting.plan(at(10), 16, open);
        assert_eq!(batches[0].ids.len(), 2);
        assert_eq!(next, Some(at(60)));
    }

    #[test]
    fn a_clock_that_was_set_back_freezes_no_look() {
        let hours = 3 * 3600;
        let mut wanted = wanted([hours + 1, hours + 20, hours + 60]);
        let (batches, _) = wanted.plan(at(hours + 1), 16, open);
        wanted.record(&batches[0], Ok((at(hours + 1), HashMap::new(), Found::Unseen)), at(hours + 1));
        let calls = Arc::default();
        wanted.want(&batches[0].identity, "i-0", &region("cn-hangzhou"), at(hours + 16), &calls);
        wanted.set_back(SignedDuration::from_secs(-hours));
        let look = wanted.groups["own"].entries["i-0"].look.clone();
        assert_eq!(look.map(|look| look.at), Some(at(1)), "no look is of a time to come");
        assert_eq!(wanted.plan(at(2), 16, open).1, Some(at(16)));
        assert_eq!(wanted.plan(at(16), 16, open).0[0].ids.len(), 2, "and what is due soon joins");
        assert_eq!(wanted.plan(at(16), 16, open).1, Some(at(60)));
        wanted.forget("own", "i-2");
        assert!(wanted.queue.is_empty());
    }

    #[test]
    fn regions_are_asked_apart() {
        let mut wanted = wanted([1]);
        wanted.want(&identity("own"), "i-x", &region("cn-beijing"), at(1), &Arc::default());
        assert_eq!(wanted.plan(at(1), 16, open).0.len(), 2);
    }

    #[test]
    fn identities_look_apart_and_one_that_has_new_keys_goes_on() {
        let mut wanted = wanted([1]);
        let other = identity("other");
        wanted.want(&other, "i-0", &region("cn-hangzhou"), at(1), &Arc::default());
        let (batches, _) = wanted.plan(at(1), 16, open);
        assert_eq!(batches.len(), 2);
        let renewed = identity("other");
        wanted.want(&renewed, "i-1", &region("cn-hangzhou"), at(1), &Arc::default());
        assert!(wanted.plan(at(1), 16, open).0.is_empty(), "one call at a time");
        for batch in &batches {
            let looked = wanted.record(batch, Ok((at(1), HashMap::new(), Found::Unseen)), at(1));
            assert_eq!(looked.len(), usize::from(&*batch.name == "own"), "{}", batch.name);
        }
        let (batches, _) = wanted.plan(at(2), 16, open);
        assert!(Arc::ptr_eq(&batches[0].identity, &renewed));
    }

    #[test]
    fn no_more_calls_are_made_than_there_is_room_for() {
        let mut wanted = Wanted::default();
        for number in 0..40 {
            wanted.want(
                &identity(&format!("n/{number}")),
                "i-0",
                &region("cn-hangzhou"),
                at(1),
                &Arc::default(),
            );
        }
        assert_eq!(wanted.plan(at(1), 16, open).0.len(), 16);
        assert!(wanted.plan(at(1), 0, open).0.is_empty());
        assert_eq!(wanted.plan(at(1), 30, open).0.len(), 24);
    }

    /// Keys that change without end, each time while a call is under way.
    #[test]
    fn what_is_void_is_seen_again_as_often_as_the_object_may_call() {
        let mut wanted = wanted([0]);
        let mut calls = 0;
        for second in 0..600 {
            let (batches, _) = wanted.plan(at(second), 16, open);
            calls += batches.len();
            for batch in &batches {
                wanted.groups.get_mut("own").unwrap().renew(&identity("own"));
                wanted.record(batch, Ok((at(second), HashMap::new(), Found::Unseen)), at(second));
            }
        }
        assert_eq!(calls, 23, "four, and one every 30 s");
        let entry = &wanted.groups["own"].entries["i-0"];
        assert!(entry.calls.actions.is_full(at(0)), "no poll takes the call that a password waits for");
    }

    #[test]
    fn what_replaced_keys_have_seen_is_void() {
        let mut wanted = wanted([1, 1]);
        let (batches, _) = wanted.plan(at(1), 16, open);
        wanted.want(&identity("own"), "i-0", &region("cn-hangzhou"), at(9), &Arc::default());
        assert!(wanted.record(&batches[0], Ok((at(1), HashMap::new(), Found::Unseen)), at(1)).is_empty());
        let entries = &wanted.groups["own"].entries;
        assert!(entries.values().all(|entry| entry.look.is_none() && entry.due.is_some()));
    }

    #[test]
    fn a_closed_limiter_puts_it_off() {
        let mut wanted = wanted([1, 1]);
        let (batches, next) = wanted.plan(at(1), 16, |_, _| Err(at(60)));
        assert!(batches.is_empty());
        assert_eq!(next, Some(at(60)));
        let (batches, _) = wanted.plan(at(60), 16, open);
        assert_eq!(batches[0].ids.len(), 2);
        assert!(wanted.record(&batches[0], Err(at(120)), at(1)).is_empty(), "throttled: nobody is woken");
        assert_eq!(wanted.plan(at(61), 16, open).1, Some(at(120)));
    }

    #[tokio::test]
    async fn a_look_that_was_not_made_tells_the_limiter_nothing() {
        let limiter = Arc::new(Limiter::new(Rates::default(), Clock::default(), Duration::from_mins(1)));
        let counted = Arc::new(AtomicUsize::new(0));
        let calls = Arc::clone(&counted);
        let meter = Meter::new(move |_| {
            calls.fetch_add(1, Ordering::SeqCst);
        });
        let client = Client::new(Config { meter, ..Config::default() }, Clock::default()).unwrap();
        let lookout = Lookout::new(client, Arc::clone(&limiter));
        let now = Timestamp::now();
        let batch = wanted([now.as_second()])
            .plan(now, 16, |identity, region| limiter.admit(route(identity, region), &asker(identity), now));
        let (_, _, found) = lookout.0.look(&batch.0[0]).await.unwrap();
        assert_eq!(found, Found::NoCredentials(Reply::NoCredentials));
        let states = limiter.states(now);
        assert!(states.iter().all(|state| !state.closed && state.calls.is_none()), "{states:?}");
        assert_eq!(counted.load(Ordering::SeqCst), 0);
    }

    /// Has these credentials.
    struct Fixed;

    impl Provider for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
            std::future::ready(Ok(Some(given("LTAI5tExample")))).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_poll_that_panics_is_repeated() {
        static BEGUN: std::sync::LazyLock<tokio::time::Instant> =
            std::sync::LazyLock::new(tokio::time::Instant::now);
        // The wall clock goes with the timers.
        let clock = || Timestamp::UNIX_EPOCH + BEGUN.elapsed();
        let limiter = Arc::new(Limiter::new(Rates::default(), Clock::new(clock), Duration::from_mins(1)));
        // Nobody listens there, and the first failure is counted by something that panics.
        let endpoint = Some(Endpoint::parse("http://127.0.0.1:1").unwrap());
        let counted = AtomicUsize::new(0);
        let meter = Meter::new(move |_| assert!(counted.fetch_add(1, Ordering::SeqCst) > 0, "for a test"));
        let client = Client::new(Config { endpoint, meter, ..Config::default() }, Clock::new(clock)).unwrap();
        let lookout = Lookout::new(client, limiter);
        let cache = Cache::new(Arc::new(Fixed), Clock::new(clock));
        let identity = Arc::new(Identity::new("own", Arc::new(cache)));
        lookout.want(&identity, "i-0", &region("cn-hangzhou"), clock(), &Arc::default());
        let seen = AtomicUsize::new(0);
        let count = |_: &str| {
            seen.fetch_add(1, Ordering::SeqCst);
        };
        tokio::select! {
            () = lookout.run(count) => {}
            () = tokio::time::sleep(Duration::from_secs(120)) => {}
        }
        assert_eq!(seen.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn what_nobody_waits_for_is_not_looked_at() {
        let mut wanted = wanted([1, 1]);
        wanted.forget("own", "i-0");
        let (batches, _) = wanted.plan(at(1), 16, open);
        assert_eq!(batches[0].ids.len(), 1);
        wanted.forget("own", "i-1");
        assert!(wanted.record(&batches[0], Ok((at(1), HashMap::new(), Found::Unseen)), at(1)).is_empty());
        assert!(wanted.groups.is_empty() && wanted.queue.is_empty());
    }

    #[test]
    fn a_mended_region_makes_the_old_look_void() {
        let mut wanted = wanted([1]);
        let (batches, _) = wanted.plan(at(1), 16, open);
        wanted.want(&identity("own"), "i-0", &region("cn-beijing"), at(1), &Arc::default());
        let looks = Ok((at(1), HashMap::new(), Found::Unseen));
        assert!(wanted.record(&batches[0], looks, at(1)).is_empty());
        assert!(wanted.groups["own"].entries["i-0"].look.is_none());
    }
}
