//! Groups of objects that lack the same right: those of one identity, region, action and code (DESIGN.md, N7
//! to N9).
//!
//! - The operator tries one object of a group at a time. After a success it tries two others, then 4, 8, ...
//!   A refusal stops such a wave.
//! - Each minute a group has a try. In a group of more than ten, each object has one in about ten minutes.
//! - A person or a fleet can request a try, which does not wait for the group's turn.
//! - The tries of one identity are denied at most ten times a minute. Neither the groups nor requests can use
//!   all of these. Namespaces take turns.
//!
//! The groups are memory of this process. After a restart they form again from the statuses.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    ops::Bound,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp};

use crate::{runtime::tables::shrink, store::object::Key};
use vncpassword_alicloud::Action;

/// Tries of one identity in a minute that are denied or under way.
const MAX_TRIES: usize = 10;
/// How many of them groups can use. So a request finds some left.
const MAX_GROUP_TRIES: usize = 8;
/// How many of them requests can use. So a tenant that requests without end does not stop the groups.
const MAX_REQUESTED_TRIES: usize = 5;
/// In so many minutes each object of a large group has a try.
const ROUND_MINUTES: u32 = 10;
/// After this time a try counts as ended without a result.
const TRY_TIMEOUT: Duration = Duration::from_mins(1);

/// What the objects of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct GroupKey {
    /// Whose calls are denied (`Object::identity_name`).
    pub identity: Arc<str>,
    /// Where.
    pub region: Box<str>,
    /// Which call.
    pub action: Action,
    /// With which code; empty where the instance is not shown.
    pub code: Box<str>,
}

/// What a try shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TryResult {
    /// The API denied the call, or did not show the instance.
    Denied,
    /// The identity has the right.
    Allowed,
    /// Nothing: another error, or there was no call.
    Inconclusive,
}

/// The present, by the wall clock and by the monotonic one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub wall: Timestamp,
    pub instant: Instant,
}

/// The groups.
pub(crate) struct DeniedGroups(Mutex<Groups>);

struct Groups {
    /// A minute; tests shorten it.
    minute: Duration,
    identities: HashMap<Arc<str>, IdentityTries>,
    members: HashMap<Key, Member>,
    next_number: u64,
}

#[derive(Clone)]
struct Member {
    group: GroupKey,
    position: Position,
    /// Its position among the requests.
    requested: Option<u64>,
}

/// Who comes first in a group: the least recently tried.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Position {
    /// A process before this one tried it at that time.
    Earlier(Timestamp, u64),
    /// This process tried it.
    Here(u64),
}

#[derive(Default)]
struct IdentityTries {
    groups: HashMap<GroupKey, Group>,
    under_way: HashMap<Key, Try>,
    /// The tries of the last minute that were denied: when, and whether they were requested.
    denied: VecDeque<(Instant, bool)>,
    requests: FairQueue<u64>,
    last_was_requested: bool,
}

/// A try that is under way.
struct Try {
    /// When it counts as ended without a result.
    expires: Instant,
    /// When it began: only an instance poll from then on counts.
    since: Timestamp,
    /// The object waits for its turn in the rate limiter.
    rate_limited: bool,
    /// The wave that it is part of; `None`: it was requested.
    wave: Option<u64>,
}

struct Group {
    /// Those that no try is under way for.
    waiting: FairQueue<Position>,
    /// How many there are, with those that are tried.
    members: usize,
    /// When it had its last turn.
    last_try: Instant,
    wave: Wave,
}

#[derive(Default)]
struct Wave {
    /// Tells apart a wave that was stopped from the next one.
    number: u64,
    /// How many it tries; 0: there is none.
    size: usize,
    /// How many of them are still to be tried.
    left: usize,
    under_way: usize,
    /// How many of these wait for the rate limiter.
    rate_limited: usize,
    /// One of them was allowed.
    allowed: bool,
}

/// A queue in which namespaces take turns.
struct FairQueue<P> {
    namespaces: BTreeMap<Arc<str>, BTreeMap<P, Key>>,
    /// Whose turn was last.
    last: Option<Arc<str>>,
    len: usize,
}

impl<P> Default for FairQueue<P> {
    fn default() -> Self {
        Self { namespaces: BTreeMap::new(), last: None, len: 0 }
    }
}

impl<P: Copy + Ord> FairQueue<P> {
    fn insert(&mut self, position: P, key: Key) {
        let queue = self.namespaces.entry(Arc::clone(&key.namespace)).or_default();
        if queue.insert(position, key).is_none() {
            self.len += 1;
        }
    }

    fn remove(&mut self, position: P, namespace: &Arc<str>) {
        let Some(queue) = self.namespaces.get_mut(namespace) else { return };
        if queue.remove(&position).is_some() {
            self.len -= 1;
        }
        if queue.is_empty() {
            self.namespaces.remove(namespace);
        }
    }

    /// Takes out the first object of the next namespace.
    fn take(&mut self) -> Option<Key> {
        let after = self.last.as_ref().map_or(Bound::Unbounded, Bound::Excluded);
        let next = self.namespaces.range::<Arc<str>, _>((after, Bound::Unbounded)).next();
        let (namespace, queue) = next.or_else(|| self.namespaces.iter().next())?;
        let (position, key) = queue.iter().next().map(|(position, key)| (*position, key.clone()))?;
        let namespace = Arc::clone(namespace);
        self.remove(position, &namespace);
        self.last = Some(namespace);
        Some(key)
    }
}

impl Group {
    fn new(last_try: Instant) -> Self {
        Self { waiting: FairQueue::default(), members: 0, last_try, wave: Wave::default() }
    }

    /// Whether one of it is to be tried now.
    fn is_due(&self, minute: Duration, now: Instant) -> bool {
        let members = u32::try_from(self.members).unwrap_or(u32::MAX).max(1);
        let pause = minute.min(minute * ROUND_MINUTES / members);
        let is_due = self.wave.size == 0 && now.saturating_duration_since(self.last_try) >= pause;
        // While the rate limiter holds up one, others would only wait there too.
        (self.wave.left > 0 || is_due) && self.wave.rate_limited == 0 && self.waiting.len > 0
    }

    /// Whether others of it have just been allowed.
    fn recovers(&self) -> bool {
        self.wave.size > 1
    }

    /// A wave of that size begins, or of as many as there are; 0: none.
    fn begin_wave(&mut self, size: usize) {
        let left = size.min(self.waiting.len);
        let size = if left == 0 { 0 } else { size };
        self.wave = Wave { number: self.wave.number + 1, size, left, ..Wave::default() };
    }

    /// Takes in the result of a try of that wave; `None`: it was requested, or nobody tried.
    fn record(&mut self, result: TryResult, wave: Option<u64>, rate_limited: bool) {
        let current = wave == Some(self.wave.number);
        if current {
            self.wave.under_way -= 1;
            self.wave.rate_limited -= usize::from(rate_limited);
            self.wave.allowed |= result == TryResult::Allowed;
        }
        // Objects may have left the group since the wave began.
        self.wave.left = self.wave.left.min(self.waiting.len);
        if current && result == TryResult::Denied {
            self.begin_wave(0);
        } else if wave.is_none() && result == TryResult::Allowed && self.wave.size == 0 {
            self.begin_wave(2);
        } else if self.wave.size > 0 && self.wave.left == 0 && self.wave.under_way == 0 {
            self.begin_wave(if self.wave.allowed { self.wave.size * 2 } else { 0 });
        }
    }
}

impl DeniedGroups {
    pub fn new(minute: Duration) -> Self {
        let (identities, members) = (HashMap::new(), HashMap::new());
        Self(Mutex::new(Groups { minute, identities, members, next_number: 0 }))
    }

    /// The object is in that group. `earlier`: when a process before this one tried it; `None`: this one did.
    pub fn insert(&self, key: &Key, group: &GroupKey, earlier: Option<Timestamp>, now: Moment) {
        self.groups().insert(key, group, earlier, now);
    }

    /// The object lacks no right, or does not act.
    pub fn remove(&self, key: &Key) {
        self.groups().end(key, TryResult::Inconclusive, None);
    }

    /// When the object's try began that is under way.
    pub fn try_started_at(&self, key: &Key) -> Option<Timestamp> {
        let groups = self.groups();
        let identity = &groups.members.get(key)?.group.identity;
        Some(groups.identities.get(identity)?.under_way.get(key)?.since)
    }

    /// The object's try waits for so long for its turn in the rate limiter. Until then it takes none of the
    /// tries.
    pub fn wait_for_rate_limit(&self, key: &Key, wait: Duration, now: Moment) {
        self.groups().set_rate_limited(key, true, now.instant + wait + TRY_TIMEOUT);
    }

    /// The object has its turn in the rate limiter. `false`: its identity has no try left, and the object
    /// waits.
    pub fn resume(&self, key: &Key, now: Moment) -> bool {
        let mut groups = self.groups();
        let identity = groups.members.get(key).map(|member| Arc::clone(&member.group.identity));
        let tries = identity.and_then(|identity| groups.identities.get(&identity));
        let Some((tries, attempt)) = tries.and_then(|tries| Some((tries, tries.under_way.get(key)?))) else {
            return false;
        };
        if attempt.rate_limited && tries.used() >= MAX_TRIES {
            let position = Position::Here(groups.number());
            groups.end(key, TryResult::Inconclusive, Some(position));
            return false;
        }
        if attempt.rate_limited {
            groups.set_rate_limited(key, false, now.instant + TRY_TIMEOUT);
        }
        true
    }

    /// The object is to be tried as soon as its identity has a try left (N9). Returns whom to try now.
    pub fn request(&self, key: &Key, now: Moment) -> Vec<Key> {
        self.groups().request(key, now)
    }

    /// A call for the object has ended, or its try without one. Returns whom to try now.
    pub fn ended(&self, key: &Key, result: TryResult, now: Moment) -> Vec<Key> {
        self.groups().ended(key, result, now)
    }

    /// Whom to try now.
    pub fn due(&self, now: Moment) -> Vec<Key> {
        let mut groups = self.groups();
        let identities: Vec<Arc<str>> = groups.identities.keys().cloned().collect();
        identities.iter().flat_map(|identity| groups.start_tries(identity, now)).collect()
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&self, by: SignedDuration) {
        for tries in self.groups().identities.values_mut() {
            for attempt in tries.under_way.values_mut() {
                attempt.since = attempt.since.saturating_add(by).unwrap_or(attempt.since);
            }
        }
    }

    /// For how many objects there is room.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.groups().members.capacity()
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Groups {
    fn number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }

    fn insert(&mut self, key: &Key, group: &GroupKey, earlier: Option<Timestamp>, now: Moment) {
        if self.members.get(key).is_some_and(|member| member.group == *group) {
            return;
        }
        self.end(key, TryResult::Inconclusive, None);
        let number = self.number();
        let earlier = earlier.map(|tried| tried.min(now.wall));
        let position = earlier.map_or(Position::Here(number), |tried| Position::Earlier(tried, number));
        let age = earlier.map(|tried| Duration::try_from(now.wall.duration_since(tried)).unwrap_or_default());
        let last_try = now.instant.checked_sub(age.unwrap_or_default().min(self.minute));
        let tries = self.identities.entry(Arc::clone(&group.identity)).or_default();
        let entry = tries.groups.entry(group.clone());
        let entry = entry.or_insert_with(|| Group::new(last_try.unwrap_or(now.instant)));
        entry.members += 1;
        entry.waiting.insert(position, key.clone());
        self.members.insert(key.clone(), Member { group: group.clone(), position, requested: None });
    }

    fn request(&mut self, key: &Key, now: Moment) -> Vec<Key> {
        let number = self.number();
        let Some(member) = self.members.get_mut(key) else { return Vec::new() };
        let name = Arc::clone(&member.group.identity);
        let Some(tries) = self.identities.get_mut(&name) else { return Vec::new() };
        if member.requested.is_none() && !tries.under_way.contains_key(key) {
            member.requested = Some(number);
            tries.requests.insert(number, key.clone());
        }
        self.start_tries(&name, now)
    }

    fn set_rate_limited(&mut self, key: &Key, rate_limited: bool, expires: Instant) {
        let Some(member) = self.members.get(key) else { return };
        let Some(tries) = self.identities.get_mut(&member.group.identity) else { return };
        let Some(attempt) = tries.under_way.get_mut(key) else { return };
        attempt.expires = expires;
        let changed = std::mem::replace(&mut attempt.rate_limited, rate_limited) != rate_limited;
        if let Some(group) = tries.groups.get_mut(&member.group)
            && changed
            && attempt.wave == Some(group.wave.number)
        {
            if rate_limited { group.wave.rate_limited += 1 } else { group.wave.rate_limited -= 1 }
        }
    }

    fn ended(&mut self, key: &Key, result: TryResult, now: Moment) -> Vec<Key> {
        let Some(member) = self.members.get(key) else { return Vec::new() };
        let name = Arc::clone(&member.group.identity);
        if let Some(tries) = self.identities.get_mut(&name)
            && let Some(attempt) = tries.under_way.get(key)
            && result == TryResult::Denied
        {
            tries.denied.push_back((now.instant, attempt.wave.is_none()));
        }
        // It is tried again after all others.
        let position = (result != TryResult::Allowed).then(|| Position::Here(self.number()));
        self.end(key, result, position);
        self.start_tries(&name, now)
    }

    /// Takes in what a try has shown. `position`: the object's position in its group from now on; `None`: it
    /// leaves.
    fn end(&mut self, key: &Key, result: TryResult, position: Option<Position>) {
        let Some(member) = self.members.remove(key) else { return };
        let Some(tries) = self.identities.get_mut(&member.group.identity) else { return };
        let attempt = tries.under_way.remove(key);
        if let Some(requested) = member.requested {
            tries.requests.remove(requested, &key.namespace);
        }
        let Some(group) = tries.groups.get_mut(&member.group) else { return };
        group.waiting.remove(member.position, &key.namespace);
        if let Some(position) = position {
            group.waiting.insert(position, key.clone());
        } else {
            group.members -= 1;
        }
        // Leaving without a call is no result for the group.
        if attempt.is_some() || result != TryResult::Inconclusive {
            let rate_limited = attempt.as_ref().is_some_and(|attempt| attempt.rate_limited);
            group.record(result, attempt.and_then(|attempt| attempt.wave), rate_limited);
        }
        if group.members == 0 {
            tries.groups.remove(&member.group);
        }
        match position {
            Some(position) => {
                self.members.insert(key.clone(), Member { position, requested: None, ..member });
            }
            None => shrink(&mut self.members),
        }
    }

    /// Begins the tries that are due; returns whose.
    fn start_tries(&mut self, name: &Arc<str>, now: Moment) -> Vec<Key> {
        self.give_up_overdue(name, now);
        let minute = self.minute;
        let Some(tries) = self.identities.get_mut(name) else { return Vec::new() };
        let is_over = |at: Instant| now.instant.saturating_duration_since(at) >= minute;
        while tries.denied.front().is_some_and(|(at, _)| is_over(*at)) {
            tries.denied.pop_front();
        }
        let mut started = Vec::new();
        while let Some((key, wave)) = tries.next(minute, now.instant) {
            if let Some(member) = self.members.get_mut(&key) {
                if let Some(requested) = member.requested.take() {
                    tries.requests.remove(requested, &key.namespace);
                }
                if let Some(group) = tries.groups.get_mut(&member.group) {
                    group.waiting.remove(member.position, &key.namespace);
                }
            }
            tries.last_was_requested = wave.is_none();
            let expires = now.instant + TRY_TIMEOUT;
            let attempt = Try { expires, since: now.wall, rate_limited: false, wave };
            tries.under_way.insert(key.clone(), attempt);
            started.push(key);
        }
        if tries.groups.is_empty() && tries.denied.is_empty() {
            self.identities.remove(name);
            shrink(&mut self.identities);
        }
        started
    }

    fn give_up_overdue(&mut self, name: &Arc<str>, now: Moment) {
        let Some(tries) = self.identities.get(name) else { return };
        let overdue = tries.under_way.iter().filter(|(_, attempt)| attempt.expires <= now.instant);
        for key in overdue.map(|(key, _)| key.clone()).collect::<Vec<_>>() {
            let position = Position::Here(self.number());
            self.end(&key, TryResult::Inconclusive, Some(position));
        }
    }
}

impl IdentityTries {
    /// How many of its tries are under way or were denied in the last minute.
    fn used(&self) -> usize {
        self.under_way.values().filter(|attempt| !attempt.rate_limited).count() + self.denied.len()
    }

    /// The next object to try, and the wave that this is part of. Requests and groups take turns.
    fn next(&mut self, minute: Duration, now: Instant) -> Option<(Key, Option<u64>)> {
        let is_requested = |attempt: &&Try| attempt.wave.is_none() && !attempt.rate_limited;
        let requested = self.under_way.values().filter(is_requested).count()
            + self.denied.iter().filter(|(_, requested)| *requested).count();
        let all = self.used();
        if all >= MAX_TRIES {
            return None;
        }
        let requests = requested < MAX_REQUESTED_TRIES;
        let groups = all - requested < MAX_GROUP_TRIES;
        if self.last_was_requested {
            groups.then(|| self.next_of_groups(minute, now)).flatten().or_else(|| self.next_request(requests))
        } else {
            self.next_request(requests).or_else(|| groups.then(|| self.next_of_groups(minute, now)).flatten())
        }
    }

    fn next_request(&mut self, allowed: bool) -> Option<(Key, Option<u64>)> {
        let key = allowed.then(|| self.requests.take()).flatten()?;
        Some((key, None))
    }

    /// An object of a group that recovers, else of the group that has waited longest.
    fn next_of_groups(&mut self, minute: Duration, now: Instant) -> Option<(Key, Option<u64>)> {
        let due = self.groups.values_mut().filter(|group| group.is_due(minute, now));
        let group = due.min_by_key(|group| (!group.recovers(), group.last_try))?;
        if group.wave.left == 0 {
            group.begin_wave(1);
        }
        let key = group.waiting.take()?;
        group.wave.left -= 1;
        group.wave.under_way += 1;
        group.last_try = now;
        Some((key, Some(group.wave.number)))
    }
}

#[cfg(test)]
mod tests;
