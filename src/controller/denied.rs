//! Objects that the API denies something (N7 to N9): those of one identity, region, action and code form a group. The operator
//! tries one of a group at a time, and when that passes, the others in waves of 1, 2, 4, ...
//!
//! The groups are memory of this process. After a restart they form again from the statuses.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::object::Key;
use crate::ecs::Action;

/// Tries of one identity in a minute, as far as they are denied or under way.
const TRIES: usize = 10;
/// In so many minutes each object of a group is tried, where the identity has enough tries for that.
const ROUND: u32 = 10;
/// A try that has come to no end by then has failed.
const LONGEST_TRY: Duration = Duration::from_mins(1);

/// What the objects of a group have in common.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Cause {
    /// Whose calls are denied ([`super::Identities::name`]).
    pub identity: Arc<str>,
    /// Where.
    pub region: Box<str>,
    /// Which call.
    pub action: Action,
    /// With which code.
    pub code: Box<str>,
}

/// How a try ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TryEnd {
    /// The API denied the call.
    Denied,
    /// The API checked the rights, and they were enough.
    Passed,
    /// It says nothing of rights, or there was no call.
    Other,
}

/// The groups.
pub(super) struct DeniedGroups(Mutex<Tables>);

struct Tables {
    /// A minute, but in a test.
    minute: Duration,
    identities: HashMap<Arc<str>, Identity>,
    members: HashMap<Key, Member>,
    /// Tells apart what happened at the same time.
    count: u64,
}

#[derive(Clone)]
struct Member {
    cause: Cause,
    place: Place,
    /// Its place among those that somebody asked for.
    asked: Option<u64>,
}

/// When an object was tried last: the least recent is tried first.
type Place = (Timestamp, u64);

#[derive(Default)]
struct Identity {
    groups: HashMap<Cause, Group>,
    tries: HashMap<Key, Try>,
    /// When calls were denied, in the last minute.
    denied: VecDeque<Instant>,
    /// Objects that a person or a fleet wants tried now, by namespace.
    asked: BTreeMap<Arc<str>, BTreeMap<u64, Key>>,
    /// The namespace whose object was tried last of those.
    last_asked: Option<Arc<str>>,
    /// Whether the last try was of those.
    was_asked: bool,
}

/// A try that is under way.
struct Try {
    began: Instant,
    /// The same by the wall clock: only an instance poll from then on counts.
    since: Timestamp,
    /// The wave that it is part of; none: somebody asked for it.
    wave: Option<u64>,
}

struct Group {
    /// Those that no try is under way for.
    waiting: BTreeMap<Place, Key>,
    /// How many there are, with those that are tried.
    members: usize,
    /// When one was tried last.
    last: Instant,
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
    /// One of them has passed.
    passed: bool,
}

impl Group {
    fn new(last: Instant) -> Self {
        Self { waiting: BTreeMap::new(), members: 0, last, wave: Wave::default() }
    }

    /// Whether one of it is to be tried now.
    fn is_due(&self, minute: Duration, now: Instant) -> bool {
        let members = u32::try_from(self.members).unwrap_or(u32::MAX).max(1);
        let pause = minute.min(minute * ROUND / members);
        let starts = self.wave.size == 0 && now.saturating_duration_since(self.last) >= pause;
        (self.wave.left > 0 || starts) && !self.waiting.is_empty()
    }

    /// A wave of that size begins, or as many as there are; 0: none.
    fn begin(&mut self, size: usize) {
        let left = size.min(self.waiting.len());
        let size = if left == 0 { 0 } else { size };
        self.wave = Wave { number: self.wave.number + 1, size, left, ..Wave::default() };
    }

    /// Takes in how a try of that wave ended; `None`: of none.
    fn ended(&mut self, end: TryEnd, wave: Option<u64>, now: Instant) {
        let current = wave == Some(self.wave.number);
        if current {
            self.wave.under_way -= 1;
            self.wave.passed |= end == TryEnd::Passed;
        }
        // Whoever was to be tried may be gone.
        self.wave.left = self.wave.left.min(self.waiting.len());
        if end == TryEnd::Denied {
            self.last = now;
            self.begin(0);
        } else if end == TryEnd::Passed && wave.is_none() && self.wave.size == 0 {
            self.begin(2);
        } else if self.wave.size > 0 && self.wave.left == 0 && self.wave.under_way == 0 {
            self.begin(if self.wave.passed { self.wave.size * 2 } else { 0 });
        }
    }
}

impl DeniedGroups {
    pub fn new(minute: Duration) -> Self {
        let (identities, members) = (HashMap::new(), HashMap::new());
        Self(Mutex::new(Tables { minute, identities, members, count: 0 }))
    }

    /// The object stands as denied, and was last tried at that time.
    pub fn enter(&self, key: &Key, cause: &Cause, tried: Timestamp, wall: Timestamp, now: Instant) {
        self.tables().enter(key, cause, tried, wall, now);
    }

    /// The object is not denied anything, or does not act.
    pub fn leave(&self, key: &Key, now: Instant) {
        self.tables().leave(key, now);
    }

    /// Since when the object may be tried; `None`: not now.
    pub fn tried_since(&self, key: &Key) -> Option<Timestamp> {
        let tables = self.tables();
        let identity = &tables.members.get(key)?.cause.identity;
        Some(tables.identities.get(identity)?.tries.get(key)?.since)
    }

    /// A person or a fleet wants the object tried now: that is done as soon as its identity has a try left (N9).
    pub fn ask(&self, key: &Key, wall: Timestamp, now: Instant) -> Vec<Key> {
        self.tables().ask(key, wall, now)
    }

    /// A call of that identity for the object has ended. Returns whom to try now.
    pub fn ended(&self, key: &Key, identity: &str, end: TryEnd, wall: Timestamp, now: Instant) -> Vec<Key> {
        self.tables().ended(key, identity, end, wall, now)
    }

    /// Whom to try now.
    pub fn due(&self, wall: Timestamp, now: Instant) -> Vec<Key> {
        let mut tables = self.tables();
        let identities: Vec<Arc<str>> = tables.identities.keys().cloned().collect();
        identities.iter().flat_map(|identity| tables.start(identity, wall, now)).collect()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    fn place(&mut self, tried: Timestamp) -> Place {
        self.count += 1;
        (tried, self.count)
    }

    fn enter(&mut self, key: &Key, cause: &Cause, tried: Timestamp, wall: Timestamp, now: Instant) {
        if self.members.get(key).is_some_and(|member| member.cause == *cause) {
            return;
        }
        self.leave(key, now);
        let place = self.place(tried);
        let age = Duration::try_from(wall.duration_since(tried)).unwrap_or_default().min(self.minute);
        let last = now.checked_sub(age).unwrap_or(now);
        let identity = self.identities.entry(Arc::clone(&cause.identity)).or_default();
        let group = identity.groups.entry(cause.clone()).or_insert_with(|| Group::new(last));
        group.last = group.last.max(last);
        group.members += 1;
        group.waiting.insert(place, key.clone());
        self.members.insert(key.clone(), Member { cause: cause.clone(), place, asked: None });
    }

    fn leave(&mut self, key: &Key, now: Instant) {
        self.end(key, TryEnd::Other, None, now);
    }

    fn ask(&mut self, key: &Key, wall: Timestamp, now: Instant) -> Vec<Key> {
        let Some(member) = self.members.get_mut(key) else { return Vec::new() };
        let name = Arc::clone(&member.cause.identity);
        let Some(identity) = self.identities.get_mut(&name) else { return Vec::new() };
        if member.asked.is_none() && !identity.tries.contains_key(key) {
            self.count += 1;
            member.asked = Some(self.count);
            identity.asked.entry(Arc::clone(&key.namespace)).or_default().insert(self.count, key.clone());
        }
        self.start(&name, wall, now)
    }

    fn ended(&mut self, key: &Key, identity: &str, end: TryEnd, wall: Timestamp, now: Instant) -> Vec<Key> {
        if end == TryEnd::Denied {
            let name = self.identities.get_key_value(identity).map(|(name, _)| Arc::clone(name));
            let denied =
                &mut self.identities.entry(name.unwrap_or_else(|| identity.into())).or_default().denied;
            denied.push_back(now);
            // Of thousands of first calls the last ones tell enough.
            if denied.len() > TRIES {
                denied.pop_front();
            }
        }
        // It is tried again after all others.
        let place = (end != TryEnd::Passed).then(|| self.place(wall));
        self.end(key, end, place, now);
        self.start(identity, wall, now)
    }

    /// Takes in that a call for the object has ended. `place`: its place in its group from now on; `None`: it leaves.
    fn end(&mut self, key: &Key, end: TryEnd, place: Option<Place>, now: Instant) {
        let Some(member) = self.members.remove(key) else { return };
        let Some(identity) = self.identities.get_mut(&member.cause.identity) else { return };
        let tried = identity.tries.remove(key);
        identity.withdraw(key, &member);
        let Some(group) = identity.groups.get_mut(&member.cause) else { return };
        group.waiting.remove(&member.place);
        if let Some(place) = place {
            group.waiting.insert(place, key.clone());
        } else {
            group.members -= 1;
        }
        // Whoever leaves without a call says nothing.
        if tried.is_some() || end != TryEnd::Other {
            group.ended(end, tried.and_then(|tried| tried.wave), now);
        }
        if group.members == 0 {
            identity.groups.remove(&member.cause);
        } else if let Some(place) = place {
            self.members.insert(key.clone(), Member { place, asked: None, ..member });
        }
    }

    /// Begins the tries that are due; returns whose.
    fn start(&mut self, name: &str, wall: Timestamp, now: Instant) -> Vec<Key> {
        let minute = self.minute;
        let Some(identity) = self.identities.get_mut(name) else { return Vec::new() };
        let overdue = |began: Instant| now.saturating_duration_since(began) >= LONGEST_TRY;
        let given_up: Vec<Key> =
            identity.tries.iter().filter(|(_, one)| overdue(one.began)).map(|(key, _)| key.clone()).collect();
        for key in given_up {
            let place = self.place(wall);
            self.end(&key, TryEnd::Other, Some(place), now);
        }
        let Some(identity) = self.identities.get_mut(name) else { return Vec::new() };
        while identity.denied.front().is_some_and(|at| now.saturating_duration_since(*at) >= minute) {
            identity.denied.pop_front();
        }
        let mut started = Vec::new();
        while identity.denied.len() + identity.tries.len() < TRIES {
            let begun = if identity.was_asked {
                identity.next_of_groups(minute, now).or_else(|| identity.next_asked())
            } else {
                identity.next_asked().or_else(|| identity.next_of_groups(minute, now))
            };
            let Some((key, wave)) = begun else { break };
            if let Some(member) = self.members.get_mut(&key) {
                if let Some(group) = identity.groups.get_mut(&member.cause) {
                    group.waiting.remove(&member.place);
                }
                identity.withdraw(&key, member);
                member.asked = None;
            }
            identity.was_asked = wave.is_none();
            identity.tries.insert(key.clone(), Try { began: now, since: wall, wave });
            started.push(key);
        }
        if identity.groups.is_empty() && identity.denied.is_empty() {
            self.identities.remove(name);
        }
        started
    }
}

impl Identity {
    /// The next object that somebody asked for, of each namespace in turn.
    fn next_asked(&mut self) -> Option<(Key, Option<u64>)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let after = self.last_asked.as_ref().map_or(Unbounded, Excluded);
        let next =
            self.asked.range::<Arc<str>, _>((after, Unbounded)).next().or_else(|| self.asked.iter().next());
        let (namespace, asked) = next?;
        let key = asked.values().next()?.clone();
        self.last_asked = Some(Arc::clone(namespace));
        Some((key, None))
    }

    /// The least recently tried object of the group that has waited longest.
    fn next_of_groups(&mut self, minute: Duration, now: Instant) -> Option<(Key, Option<u64>)> {
        let due = self.groups.values_mut().filter(|group| group.is_due(minute, now));
        let group = due.min_by_key(|group| group.last)?;
        if group.wave.left == 0 {
            group.begin(1);
        }
        let key = group.waiting.values().next()?.clone();
        group.wave.left -= 1;
        group.wave.under_way += 1;
        group.last = now;
        Some((key, Some(group.wave.number)))
    }

    /// It is not one of those any more that somebody asked for.
    fn withdraw(&mut self, key: &Key, member: &Member) {
        if let Some(place) = member.asked
            && let Some(asked) = self.asked.get_mut(&key.namespace)
        {
            asked.remove(&place);
            if asked.is_empty() {
                self.asked.remove(&key.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests;
