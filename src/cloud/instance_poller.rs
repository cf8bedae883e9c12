//! Polls instances on request, up to 100 in one DescribeInstances call.
//!
//! Reconciles do not wait: they request a poll, and its end enqueues the objects.
//!
//! Nobody is held up: an instance is asked for, and its waiters are enqueued when it was looked at.

use std::{
    collections::{BTreeSet, HashMap},
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::{sync::Notify, task::JoinSet, time::sleep};

use super::reply;
use vncpassword_alicloud::{
    Client, Error, Identity, Instance, Region,
    client::MAX_DESCRIBED,
    rate_limit::{Action, Limiter, Permit, RateLimitKey, Requester},
};
use vncpassword_core::rotation::{
    allowance::Calls,
    facts::{Found, Look, SeenInstance},
    outcome::Class,
};

/// How long after a poll that panicked the next one is made.
const PANIC_RETRY: SignedDuration = SignedDuration::from_secs(30);
/// Polls that are due this soon join a call.
const JOIN_WINDOW: SignedDuration = SignedDuration::from_secs(10);
/// A call that takes fewer than [`MAX_DESCRIBED`] instances along begins no sooner than this after the one
/// before it. So instances gather also where replies are fast.
const SPACING: SignedDuration = SignedDuration::from_millis(200);
/// How often due times are compared with the wall clock: it may be stepped, and the machine may sleep.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Maximum number of calls in parallel: each is a connection, and there may be thousands of identities.
const MAX_CALLS: usize = 16;

/// The requested polls by identity, and the last poll of each instance.
#[derive(Default)]
struct PollSchedule {
    groups: HashMap<Arc<str>, Group>,
    /// The requested polls, soonest first: due time, identity, instance.
    queue: BTreeSet<(Timestamp, Arc<str>, Arc<str>)>,
    /// Calls that are under way, and those that began a moment ago: one at a time for each identity and
    /// region.
    calls: HashMap<(Arc<str>, Region), Call>,
}

/// The last call of an identity in a region.
struct Call {
    began: Timestamp,
    under_way: bool,
}

/// The instances that one identity polls.
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
    /// The call allowance of the object that requested it last.
    calls: Arc<Calls>,
}

/// A call to make, before the rate limiter admits it.
struct PendingBatch<'a> {
    name: &'a Arc<str>,
    group: &'a Group,
    region: &'a Region,
    ids: Vec<Arc<str>>,
}

/// One call.
struct Batch {
    name: Arc<str>,
    identity: Arc<Identity>,
    region: Region,
    ids: Vec<Arc<str>>,
    /// Whose calls these are.
    calls: Vec<Arc<Calls>>,
    /// What the limiter counts it by: the identity's account may become known meanwhile.
    scope: Box<str>,
    ticket: Permit,
}

/// Handle to the instance poller. Cheap to clone.
#[derive(Clone)]
pub struct InstancePoller(Arc<Shared>);

struct Shared {
    client: Client,
    limiter: Arc<Limiter>,
    schedule: Mutex<PollSchedule>,
    changed: Notify,
    polled: Notify,
}

impl InstancePoller {
    /// A poller that uses this client while [`InstancePoller::run`] runs.
    #[must_use]
    pub fn new(client: Client, limiter: Arc<Limiter>) -> Self {
        let (schedule, changed, polled) = (Mutex::default(), Notify::new(), Notify::new());
        Self(Arc::new(Shared { client, limiter, schedule, changed, polled }))
    }

    /// Requests a poll of the instance by this identity at that time. It replaces an earlier request.
    pub fn request(
        &self,
        identity: &Arc<Identity>,
        instance_id: &str,
        region: &Region,
        due: Timestamp,
        calls: &Arc<Calls>,
    ) {
        let mut schedule = self.schedule();
        // The first poll of this instance is under way, and enqueues the object.
        if due <= self.0.now() && schedule.is_first_poll_under_way(identity, instance_id, region) {
            return;
        }
        schedule.request(identity, instance_id, region, due, calls);
        // When the call ends, `run` plans the next one. Meanwhile instances gather.
        if !schedule.is_under_way(identity.name(), region) {
            self.0.changed.notify_one();
        }
    }

    /// Requests a poll now and waits for it; `None`: it takes longer than the timeout.
    pub async fn poll_now(
        &self,
        identity: &Arc<Identity>,
        instance_id: &str,
        region: &Region,
        timeout: Duration,
        calls: &Arc<Calls>,
    ) -> Option<Look> {
        let asked = self.0.now();
        self.schedule().request(identity, instance_id, region, asked, calls);
        self.0.changed.notify_one();
        let fresh = async {
            loop {
                let polled = self.0.polled.notified();
                if let Some(look) = self.latest(identity.name(), instance_id).filter(|look| look.at >= asked)
                {
                    return look;
                }
                polled.await;
            }
        };
        tokio::time::timeout(timeout, fresh).await.ok()
    }

    /// Replaces the identity. After a change of its keys, polls with the old keys are void.
    pub fn renew(&self, identity: &Arc<Identity>) {
        if let Some(group) = self.schedule().groups.get_mut(identity.name()) {
            group.renew(identity);
        }
    }

    /// Cancels the poll of the instance by the identity of that name.
    pub fn forget(&self, name: &str, instance_id: &str) {
        self.schedule().forget(name, instance_id);
    }

    /// Cancels all polls of the instance.
    pub fn forget_instance(&self, instance_id: &str) {
        let mut schedule = self.schedule();
        let names: Vec<_> = schedule.groups.keys().cloned().collect();
        for name in names {
            schedule.forget(&name, instance_id);
        }
    }

    /// The wall clock was set back by so much, a negative time: what is due is due as soon as it would have
    /// been.
    pub fn set_back(&self, by: SignedDuration) {
        self.schedule().set_back(by);
        self.0.changed.notify_one();
    }

    /// The last poll of a requested instance by the identity of that name.
    #[must_use]
    pub fn latest(&self, name: &str, instance_id: &str) -> Option<Look> {
        let schedule = self.schedule();
        schedule.groups.get(name)?.entries.get(instance_id)?.look.clone()
    }

    /// Runs forever. Calls `seen` with each polled instance.
    pub async fn run(&self, seen: impl Fn(&str)) {
        let mut calls = JoinSet::new();
        loop {
            let now = self.0.now();
            let room = MAX_CALLS - calls.len();
            let (batches, next) = self.schedule().plan(now, room, |identity, region| {
                self.0.limiter.admit(route(identity, region), &requester(identity), now)
            });
            for batch in batches {
                let shared = Arc::clone(&self.0);
                calls.spawn(async move {
                    // A panic must not leave the identity and region without polls.
                    let result = AssertUnwindSafe(shared.poll(&batch)).catch_unwind().await;
                    let result = result.unwrap_or_else(|_| {
                        tracing::error!(identity = %batch.name, "an instance poll panicked; it is repeated; please report this");
                        Err(shared.now() + PANIC_RETRY)
                    });
                    (batch, result)
                });
            }
            let pause = next.map(|next| Duration::try_from(next.duration_since(now)).unwrap_or_default());
            let pause = pause.unwrap_or(CLOCK_CHECK_INTERVAL).min(CLOCK_CHECK_INTERVAL);
            tokio::select! {
                () = self.0.changed.notified() => {}
                () = sleep(pause) => {}
                Some(call) = calls.join_next(), if !calls.is_empty() => {
                    if let Ok((batch, result)) = call {
                        let polled = self.schedule().record(&batch, result, self.0.now());
                        self.0.polled.notify_waiters();
                        for id in &polled {
                            seen(id);
                        }
                    }
                }
            }
        }
    }

    fn schedule(&self) -> MutexGuard<'_, PollSchedule> {
        self.0.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The result of a call: the time, the instances, and the result for all others; or when to try again.
type PollResult = Result<(Timestamp, HashMap<String, Found>, Found), Timestamp>;

impl Shared {
    fn now(&self) -> Timestamp {
        self.client.clock().local()
    }

    /// One call of DescribeInstances. The last part of the result is what all ids that it does not name show.
    async fn poll(&self, batch: &Batch) -> PollResult {
        let Batch { identity, region, ids, .. } = batch;
        let at = self.now();
        let names: Vec<String> = ids.iter().map(ToString::to_string).collect();
        let mut reply = self.client.describe_instances(identity, region, &names).await;
        if reply.as_ref().is_err_and(retry_immediately) {
            batch.spend(self.now());
            reply = self.client.describe_instances(identity, region, &names).await;
        }
        let route = RateLimitKey { scope: &batch.scope, ..route(identity, region) };
        let (ticket, now) = (batch.ticket, self.now());
        // The clock may have been set back meanwhile.
        let at = at.min(now);
        let error = reply.as_ref().err();
        let opens = self.limiter.complete(route, &requester(identity), ticket, reply::report(error), now);
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
                (at, HashMap::new(), result_of_error(&error))
            }
        })
    }
}

impl Batch {
    fn spend(&self, now: Timestamp) {
        self.calls.iter().for_each(|calls| calls.polls.spend(now));
    }
}

fn route<'a>(identity: &'a Identity, region: &'a Region) -> RateLimitKey<'a> {
    RateLimitKey { action: Action::DescribeInstances, scope: identity.scope(), region: region.as_str() }
}

/// The requester of the rate limiter: the instance poller, not an object.
fn requester(identity: &Identity) -> Requester {
    Requester { group: "".into(), name: identity.name().into() }
}

fn found(instance: &Instance) -> Found {
    Found::Seen(SeenInstance {
        status: instance.status.as_str().to_owned(),
        io_optimized: instance.io_optimized,
        start_time: instance.start_time,
        locked: !instance.locks.is_empty(),
    })
}

/// A cached key may just have been renewed, a nonce or a date may have been wrong: repeats the call once, as
/// for a password. Otherwise the first password would be sent without the state of the instance.
fn retry_immediately(error: &Error) -> bool {
    !matches!(error, Error::NoCredentials)
        && matches!(reply::class(error), Class::Credentials | Class::Signing)
}

/// The result for each instance of a failed call. It is repeated only if that may help.
fn result_of_error(error: &Error) -> Found {
    match reply::class(error) {
        Class::OutcomeUnknown | Class::Unreachable | Class::Signing | Class::Throttled => Found::Failed,
        Class::Accepted
        | Class::Waiting
        | Class::InvalidInput
        | Class::NotFound
        | Class::Denied
        | Class::Refused => Found::Refused,
        Class::Credentials => Found::NoCredentials(reply::reply(error)),
    }
}

impl PollSchedule {
    fn request(
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

    /// The calls to make now, and when the next is due. One call per identity and region at a time; each
    /// includes what is due soon.
    fn plan(
        &mut self,
        now: Timestamp,
        room: usize,
        mut admit: impl FnMut(&Identity, &Region) -> Result<Permit, Timestamp>,
    ) -> (Vec<Batch>, Option<Timestamp>) {
        // A start in the future means that the clock was set back: no spacing.
        let spaced_until =
            |call: &Call| Some(call.began + SPACING).filter(|over| *over > now && call.began <= now);
        self.calls.retain(|_, call| call.under_way || spaced_until(call).is_some());
        let (pending, mut next) = self.due_soon(now);
        let mut earliest = |at: Timestamp| next = Some(next.map_or(at, |next| next.min(at)));
        let mut batches: Vec<Batch> = Vec::new();
        for PendingBatch { name, group, region, ids } in pending {
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
        self.start(&batches, now);
        (batches, next)
    }

    /// The instances that are due, with those of the same identity and region that are due soon, and when the
    /// next instance is due.
    fn due_soon(&self, now: Timestamp) -> (Vec<PendingBatch<'_>>, Option<Timestamp>) {
        let mut pending: Vec<PendingBatch> = Vec::new();
        let mut places: HashMap<(&str, &Region), usize> = HashMap::new();
        // The queue is in the order of due times: the first one that is not taken is the next.
        let mut next = None;
        for (due, name, id) in &self.queue {
            if *due > now + JOIN_WINDOW {
                next.get_or_insert(*due);
                break;
            }
            let Some(group) = self.groups.get(name) else { continue };
            let Some(Entry { region, .. }) = group.entries.get(id) else { continue };
            if let Some(call) = places.get(&(&**name, region)).and_then(|place| pending.get_mut(*place)) {
                if call.ids.len() < MAX_DESCRIBED {
                    call.ids.push(Arc::clone(id));
                }
            } else if *due > now {
                next.get_or_insert(*due);
            } else {
                places.insert((name, region), pending.len());
                pending.push(PendingBatch { name, group, region, ids: vec![Arc::clone(id)] });
            }
        }
        (pending, next)
    }

    /// Records that these calls are under way.
    fn start(&mut self, batches: &[Batch], now: Timestamp) {
        for batch @ Batch { name, region, ids, .. } in batches {
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
    }

    /// Records the result of a call. Returns the polled instances.
    fn record(&mut self, batch: &Batch, result: PollResult, now: Timestamp) -> Vec<Arc<str>> {
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
        let (at, mut seen, others) = match result {
            Ok(result) if Arc::ptr_eq(identity, &current) => result,
            // Throttled, or seen with keys that have been replaced meanwhile.
            result => {
                let again_at = result.err().unwrap_or(now);
                let waits = |id: &Arc<str>| {
                    let entry = group.entries.get(id);
                    let entry = entry.filter(|entry| entry.due.is_none() && entry.region == *region)?;
                    Some((Arc::clone(id), Arc::clone(&entry.calls)))
                };
                let again: Vec<_> = ids.iter().filter_map(waits).collect();
                for (id, calls) in again {
                    let due = calls.polls.opens(again_at).unwrap_or(again_at);
                    self.request(&current, &id, region, due, &calls);
                }
                return Vec::new();
            }
        };
        let mut polled = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(entry) = group.entries.get_mut(id).filter(|entry| entry.region == *region) {
                let found = seen.remove(&**id).unwrap_or_else(|| others.clone());
                entry.look = Some(Look { at, found });
                polled.push(Arc::clone(id));
            }
        }
        polled
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
mod tests;
