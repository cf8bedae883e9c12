//! The objects, found by name, by instance and by Secret, and what this process remembers of each.

mod contest;

use std::{
    collections::{HashMap, HashSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::Timestamp;

pub(crate) use self::contest::{Before, Proof, Term};
use self::contest::{Claim, Contests, Seat, contender};
use crate::{
    runtime::{clock_steps::Step, tables::shrink},
    store::object::{Key, Object},
};
use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        allowance::Calls,
        competition::{Competition, Target},
        contents::Contents,
        facts::{Attempt, Fingerprint, History, Look, Owner, RunningRefusals, SecretVersion},
        ownership::{Basis, Relation},
        refusal::RefusedWrite,
        rotate_at::RotateAt,
    },
};

/// What this process remembers of one object. It goes with the object.
#[derive(Default)]
pub(crate) struct Memory {
    /// The newest version that a write returned, until the watch has caught up.
    pub written: Option<Arc<Object>>,
    /// The applied version and its value.
    pub applied: Option<(SecretVersion, Fingerprint)>,
    /// The version that was read last.
    pub examined: Option<SecretVersion>,
    /// A call whose outcome could not be written yet, and the generation of the object that it was made for.
    pub unrecorded: Option<Box<(i64, Attempt)>>,
    /// The object was in the first list: a former process may have acted on it. Cleared by the first reconcile.
    pub inherited: bool,
    /// Until when a call may still arrive that no reply tells of (`rotation::doubt`), and whether another object made it.
    /// Other objects read `Before::until` of its claim instead.
    pub doubt: Option<(Timestamp, bool)>,
    /// The object is younger than the watch of this process, and this process has made no call for it.
    pub untouched: bool,
    /// Refusals while the instance is Running. Boxed: few objects have any.
    pub running_refusals: Option<Box<RunningRefusals>>,
    /// The last call that failed.
    pub failure: Option<Failure>,
    /// The annotation `rotate-at` at the last try that failed.
    pub tried_rotate_at: Option<RotateAt>,
    /// Reconciles in a row that failed on the Kubernetes side.
    pub failures: u32,
    /// The last write of the Secret, where the API server did not take it.
    pub refused: Option<Box<LastRefusal>>,
    /// What its claim to the instance rests on.
    pub claim: Claim,
    /// The cloud calls that it may still cause; `None`: none was caused lately. Outlives the object, under its name.
    pub calls: Option<Arc<Calls>>,
    /// What the operator last read in its Secret or wrote into it ([`Contents::image`]; 0: there is no Secret), where it
    /// generates.
    pub image: Option<u64>,
    /// Another writer of its Secret.
    pub secret_competition: Option<Box<Competition>>,
    /// What stood in its status last, as read or written.
    pub status_seen: StatusSeen,
    /// Another writer of its status.
    pub status_competition: Option<Box<Competition>>,
}

/// What this process knows of a status.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum StatusSeen {
    /// It has not seen the object before.
    #[default]
    Never,
    /// It may have written it: no reply came. The resourceVersion that the write was to replace.
    Unknown(Box<str>),
    /// Hashes of what was asked for and of the status that stood there.
    As { asked: u64, status: u64 },
}

/// A call that failed, by times that are not cut to the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// When the reconcile began that made it: credentials that changed later were not those of the call.
    pub began: Timestamp,
    /// When it failed.
    pub at: Timestamp,
}

/// The last write of a Secret, which the API server did not take.
pub(crate) struct LastRefusal {
    pub write: RefusedWrite,
    /// How many there were in a row.
    pub attempts: u32,
    /// Nothing is written before this time.
    pub until: Instant,
    /// It was to create the Secret, it certainly did not, and the operator has found none since.
    pub creation: bool,
}

struct Entry {
    object: Arc<Object>,
    memory: Box<Memory>,
}

#[derive(Default)]
struct Tables {
    entries: HashMap<Key, Entry>,
    contests: Contests,
    by_secret: HashMap<Key, Vec<Key>>,
    by_credentials: HashMap<Key, Vec<Key>>,
    /// By the fleets' uids.
    by_fleet: HashMap<Arc<str>, HashSet<Key>>,
    /// Which object owns a key of a Secret that several generate into, where that was worked out.
    generators: HashMap<Key, HashMap<Box<str>, Key>>,
    /// The place of the last accepted call of an object that is gone, at an instance that others still name.
    departed: HashMap<Box<str>, u64>,
    /// Accepted calls so far.
    accepted: u64,
    /// The calls that objects caused that are gone by now, so that nobody gets more of them by creating an object anew.
    spent: HashMap<Key, Arc<Calls>>,
    /// Objects to reconcile because another object has changed.
    woken: Vec<Key>,
    /// Crowds to wake as a whole, at the next tick.
    crowds: HashSet<Crowd>,
}

/// Objects that stand in each other's way.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Crowd {
    /// They name this instance.
    Instance(Box<str>),
    /// They generate into this Secret.
    Secret(Key),
}

/// More objects than this that stand in each other's way are woken once a tick, however often one of them changes: else
/// their wake-ups would grow with the square of their number.
const CROWD: usize = 16;

/// Objects of other identities that one reconcile asks the cloud about.
pub(crate) const MAX_STRANGERS: usize = 16;

/// All objects that the watches know.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Tables>);

/// What a change in the registry asks for, besides waking objects ([`Registry::woken`]).
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// An object is gone, or another has taken its name.
    pub gone: Option<Gone>,
    /// A Secret with credentials that nobody names any more.
    pub released: Option<Key>,
    /// The object as it was, where it acts under another identity now.
    pub former: Option<Arc<Object>>,
    /// Fleets that it concerns.
    pub fleets: Concerned,
}

/// Which fleets a change concerns.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) enum Concerned {
    /// None.
    #[default]
    None,
    /// The one of that name and uid, if there is one.
    One(Arc<str>, Arc<str>),
    /// Any: an object that is no fleet's may stand in the way of one.
    Any,
}

impl Concerned {
    fn of(former: Option<&Object>, object: Option<&Object>) -> Self {
        let fleet = |object: &Object| {
            object.membership.as_ref().map(|member| (Arc::clone(&member.fleet), Arc::clone(&member.uid)))
        };
        match (former.map(fleet), object.map(fleet)) {
            (Some(Some(one)), Some(Some(other))) if one == other => Self::One(one.0, one.1),
            (Some(Some(one)), None) | (None, Some(Some(one))) => Self::One(one.0, one.1),
            (Some(None), Some(None)) if former.map(|f| f.generation) == object.map(|o| o.generation) => {
                Self::None
            }
            (None, None) => Self::None,
            _ => Self::Any,
        }
    }
}

/// An object that is gone.
#[derive(Debug)]
pub(crate) struct Gone {
    /// As it was last.
    pub object: Arc<Object>,
    /// Calls that a former process may have made for it. Those of this process are in `Instances`.
    pub before: Before,
    /// Nobody else names the instance.
    pub unclaimed: bool,
}

impl Gone {
    /// Until when a call for it may still arrive that this process does not know of. `term`: that of this process. As long as
    /// another process leads, the status is all that tells, and no call that was made by now arrives after `latest`.
    pub fn unsettled_until(&self, term: Option<Term>, latest: Timestamp) -> Option<Timestamp> {
        match term {
            Some(term) => self.before.until(term, true),
            None => self.object.status.unsettled_until().map(|until| until.min(latest)),
        }
    }
}

impl Registry {
    /// Takes in an object from the watch; `inherited`: from the first list.
    pub fn apply(&self, object: Object, inherited: bool) -> Change {
        let mut tables = self.tables();
        let key = object.key.clone();
        let mut change = Change::default();
        let mut echo = false;
        let former = tables.entries.get(&key).map(|entry| Arc::clone(&entry.object));
        if let Some(entry) = tables.entries.get_mut(&key) {
            if entry.object.uid == object.uid {
                // Our own write coming back, or something older than it, brings nothing new.
                echo = entry.memory.written.as_ref().is_some_and(|written| written.is_at_least(&object));
                if entry.memory.written.as_ref().is_some_and(|written| object.is_at_least(written)) {
                    entry.memory.written = None;
                }
            } else {
                change.gone = tables.remove(&key);
            }
        }
        if !inherited {
            change.fleets = Concerned::of(former.as_deref(), Some(&object));
        }
        // Nobody decides before everything is listed, so nobody else is woken until then.
        let object = tables.insert(object, inherited);
        if let Some(former) = former {
            change.released = tables.released(&former);
            if former.credentials() != object.credentials() {
                change.former = Some(former);
            }
        }
        if !echo {
            tables.woken.push(key);
        }
        change
    }

    /// Another process acted for all objects until now.
    pub fn inherit(&self, now: Timestamp) {
        let mut tables = self.tables();
        let keys: Vec<Key> = tables.entries.keys().cloned().collect();
        for entry in tables.entries.values_mut() {
            let claim = Claim::found(&entry.object, now);
            *entry.memory = Memory { inherited: true, claim, ..Memory::default() };
        }
        for key in &keys {
            tables.reseat(key);
        }
        tables.departed.clear();
        tables.crowds.clear();
        tables.woken = keys;
    }

    /// An object was deleted.
    pub fn delete(&self, key: &Key, uid: &str) -> Change {
        let mut tables = self.tables();
        if tables.entries.get(key).is_none_or(|entry| &*entry.object.uid != uid) {
            return Change::default();
        }
        let object = tables.entries.get(key).map(|entry| Arc::clone(&entry.object));
        let gone = tables.remove(key);
        // What waits for a time under its name would wait for months: the queue and the limiter let it go now.
        tables.woken.push(key.clone());
        let fleets = Concerned::of(object.as_deref(), None);
        let released = object.and_then(|object| tables.released(&object));
        Change { gone, released, former: None, fleets }
    }

    /// The objects to reconcile because others have changed since this was called last.
    pub fn woken(&self) -> Vec<Key> {
        std::mem::take(&mut self.tables().woken)
    }

    /// The same, once a tick, with the members of crowds.
    pub fn woken_crowds(&self, now: Timestamp) -> Vec<Key> {
        let mut tables = self.tables();
        tables.spent.retain(|_, calls| !calls.are_full(now));
        let crowds = std::mem::take(&mut tables.crowds);
        let members: HashSet<Key> = crowds.iter().flat_map(|crowd| tables.members_of(crowd)).collect();
        let mut woken = std::mem::take(&mut tables.woken);
        woken.extend(members);
        woken
    }

    /// Keys in that namespace (all for `None`): what a relist must find again or delete.
    pub fn keys(&self, namespace: Option<&str>) -> Vec<(Key, Arc<str>)> {
        let tables = self.tables();
        let entries = tables.entries.iter();
        entries
            .filter(|(key, _)| namespace.is_none_or(|namespace| *key.namespace == *namespace))
            .map(|(key, entry)| (key.clone(), Arc::clone(&entry.object.uid)))
            .collect()
    }

    /// The newest version of an object: the watch's, or what a write returned since.
    pub fn newest(&self, key: &Key) -> Option<Arc<Object>> {
        self.tables().entries.get(key).map(Entry::newest)
    }

    /// The newest versions of all objects.
    pub fn all(&self) -> Vec<Arc<Object>> {
        self.tables().entries.values().map(Entry::newest).collect()
    }

    /// Lets `change` at what is remembered of an object, if it is still the same one. Others are woken if that changes
    /// its claim.
    pub fn remember<T>(&self, object: &Object, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        self.tables().remember(object, |_, memory| change(memory))
    }

    /// The cloud calls that the object of that name may still cause, or that a former one of that name caused.
    pub fn calls(&self, key: &Key) -> Arc<Calls> {
        let mut tables = self.tables();
        match tables.entries.get_mut(key) {
            Some(entry) => Arc::clone(entry.memory.calls.get_or_insert_default()),
            None => Arc::clone(tables.spent.entry(key.clone()).or_default()),
        }
    }

    /// The same, where any were caused lately.
    pub fn recent_calls(&self, key: &Key) -> Option<Arc<Calls>> {
        let tables = self.tables();
        match tables.entries.get(key) {
            Some(entry) => entry.memory.calls.clone(),
            None => tables.spent.get(key).cloned(),
        }
    }

    /// Wakes the others that name the instance of this object.
    pub fn wake_contenders(&self, object: &Object) {
        self.tables().wake_crowds_of(object);
    }

    /// The API accepted a call of this object under that access key or role. `object`: as it was when the call was made. If
    /// it names other credentials by now, those have no claim, but its value is the last one all the same.
    pub fn accepted(&self, object: &Object, principal: Arc<str>) {
        let mut tables = self.tables();
        tables.accepted += 1;
        let order = tables.accepted;
        let known = tables.remember(object, |newest, memory| {
            if newest.credentials() == object.credentials() {
                memory.claim.accepted(principal, order);
            } else {
                memory.claim.accepted_of_former(order);
            }
        });
        if known.is_none() {
            // The object was deleted while its call was under way.
            tables.departed_with(object, order);
        }
    }

    /// A Secret with credentials holds that access key or role now.
    pub fn credentials_renewed(&self, secret: &Key, principal: &str) {
        for key in self.credential_users(secret) {
            if let Some(object) = self.newest(&key) {
                self.remember(&object, |memory| memory.claim.renewed(principal));
            }
        }
    }

    /// The wall clock was stepped.
    pub fn stepped(&self, step: &Step) {
        let mut tables = self.tables();
        if step.by.is_negative() {
            tables.spent.values().for_each(|calls| calls.set_back(step.by));
        }
        for entry in tables.entries.values_mut() {
            let newest = entry.newest();
            let memory = &mut entry.memory;
            if let Some((until, _)) = &mut memory.doubt {
                *until = step.deadline_after(*until);
            }
            memory.claim.stepped(step);
            if step.by.is_negative() {
                memory.calls.iter().for_each(|calls| calls.set_back(step.by));
                let rivals = [&mut memory.secret_competition, &mut memory.status_competition];
                rivals.into_iter().flatten().for_each(|rival| rival.set_back(step.by));
            } else if let Some(until) = newest.status.unsettled_until()
                && !step.was_over(until)
            {
                // The status is not changed: without this, it would be over by the step.
                memory.doubt(step.deadline_after(until).min(step.settled), false, step.now);
            }
        }
    }

    /// An object of another identity, which calls in that region, contends for the instance of this one. If this one rests
    /// on a hint, it is woken to prove its claim. The time of the other hints begins now as well: else each of them would
    /// keep the contender waiting for its own.
    pub fn contested(&self, object: &Object, region: &str) {
        let now = Instant::now();
        let mut tables = self.tables();
        let Some((_, seats, own)) = tables.seats_of(object) else { return };
        let hints = seats.iter().filter(|seat| seat.contender.basis == Basis::Hint && seat.key != own.key);
        let hints: Vec<Key> = hints.map(|seat| seat.key.clone()).collect();
        for other in hints {
            if let Some(entry) = tables.entries.get_mut(&other) {
                entry.memory.claim.contested(region, now);
            }
        }
        let entry = tables.entries.get_mut(&object.key).filter(|entry| entry.object.uid == object.uid);
        if entry.is_some_and(|entry| entry.memory.claim.contested(region, now)) {
            tables.woken.push(object.key.clone());
        }
    }

    /// Whether the API refused a call at the instance that this object names, made in the same region under that key or role.
    pub fn is_refused(&self, object: &Object, principal: &str) -> bool {
        let tables = self.tables();
        let Some((_, seats, _)) = tables.seats_of(object) else { return false };
        let entries = seats.iter().filter_map(|seat| tables.entries.get(&seat.key));
        let mut alike = entries.filter(|entry| region(&entry.object) == region(object));
        !principal.is_empty() && alike.any(|entry| entry.memory.claim.is_refused(principal))
    }

    /// Whether an object is to send its value to prove its claim to the instance.
    pub fn must_prove(&self, object: &Object) -> bool {
        let tables = self.tables();
        let entry = tables.entries.get(&object.key).filter(|entry| entry.object.uid == object.uid);
        entry.is_some_and(|entry| entry.memory.claim.must_prove(Instant::now()))
    }

    /// A call for this object that may still arrive although no reply tells of it.
    pub fn doubt_of(&self, object: &Object) -> Option<(Timestamp, bool)> {
        let tables = self.tables();
        tables.entries.get(&object.key).filter(|entry| entry.object.uid == object.uid)?.memory.doubt
    }

    /// The objects that say that they belong to the fleet with that uid.
    pub fn members(&self, fleet: &str) -> Vec<Arc<Object>> {
        let tables = self.tables();
        let keys = tables.by_fleet.get(fleet).into_iter().flatten();
        keys.filter_map(|key| tables.entries.get(key)).map(Entry::newest).collect()
    }

    /// Whether an object of that kind, created now, would find its instance taken. `relation` tells what is known of two
    /// identities.
    pub fn is_taken(
        &self,
        id: &str,
        object: &Object,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> bool {
        let tables = self.tables();
        let own = contender(object, &Claim::default());
        tables.contests.seats(id).iter().any(|seat| {
            let other = tables.entries.get(&seat.key).map(Entry::newest);
            other.is_some_and(|other| seat.contender.keeps_out(&own, relation(&other, object)))
        })
    }

    /// The objects that name a Secret.
    pub fn readers(&self, secret: &Key) -> Vec<Key> {
        self.tables().by_secret.get(secret).cloned().unwrap_or_default()
    }

    /// The objects that call with the credentials in a Secret.
    pub fn credential_users(&self, secret: &Key) -> Vec<Key> {
        self.tables().by_credentials.get(secret).cloned().unwrap_or_default()
    }

    /// Whether any object calls with the credentials in a Secret.
    pub fn has_credential_users(&self, secret: &Key) -> bool {
        self.tables().by_credentials.contains_key(secret)
    }

    /// The object that keeps this one from its instance, and what its claim rests on.
    pub fn keeper(
        &self,
        object: &Object,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> Option<(Arc<Object>, Basis)> {
        let tables = self.tables();
        let seat = tables.keeper(object, relation)?;
        Some((tables.entries.get(&seat.key)?.newest(), seat.contender.basis))
    }

    /// Whether the API has accepted another object's call for the instance, in this leadership term, since it last accepted
    /// one of this object.
    pub fn superseded(&self, object: &Object, relation: impl Fn(&Object, &Object) -> Relation) -> bool {
        let tables = self.tables();
        let Some((instance, seats, own)) = tables.seats_of(object) else { return false };
        if tables.departed.get(instance).is_some_and(|order| *order > own.accepted_order) {
            return true;
        }
        seats.iter().filter(|seat| seat.accepted_order > own.accepted_order).any(|seat| {
            let other = tables.entries.get(&seat.key).map(Entry::newest);
            other.is_some_and(|other| relation(&other, object) != Relation::OtherAccount)
        })
    }

    /// Whether the API has accepted a call of another object at the same instance, in this leadership term or, as its
    /// status says, before.
    pub fn others_called(&self, object: &Object, relation: impl Fn(&Object, &Object) -> Relation) -> bool {
        let tables = self.tables();
        let Some((instance, seats, own)) = tables.seats_of(object) else { return false };
        let others = seats.iter().filter(|seat| seat.key != own.key);
        let mut accepted =
            others.filter(|seat| seat.accepted_order > 0 || seat.contender.basis == Basis::Hint);
        tables.departed.contains_key(instance)
            || accepted.any(|seat| {
                let other = tables.entries.get(&seat.key).map(Entry::newest);
                other.is_some_and(|other| relation(&other, object) != Relation::OtherAccount)
            })
    }

    /// Until when a call that a process before this term made for another object may arrive at the same instance, or may
    /// have arrived, and the objects of other identities that this rests on.
    pub fn others_before(
        &self,
        object: &Object,
        term: Term,
        now: Timestamp,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> (Option<Timestamp>, Vec<Arc<Object>>) {
        let tables = self.tables();
        let (mut latest, mut strangers) = (None, Vec::new());
        let Some((_, seats, own)) = tables.seats_of(object) else { return (latest, strangers) };
        let claim = |seat: &Seat| tables.entries.get(&seat.key).map(|entry| &entry.memory.claim);
        let acted = claim(own).is_some_and(|claim| claim.before() == Before::Acted);
        let applied = object.status.applied.as_ref().map(|applied| applied.time.0);
        for seat in seats.iter().filter(|seat| seat.key != own.key) {
            let Some(entry) = tables.entries.get(&seat.key) else { continue };
            let other = entry.newest();
            let before = entry.memory.claim.before().until(term, acted);
            // Where neither has had a call accepted in this term, the statuses tell whose was the last.
            let hints = own.accepted_order == 0 && seat.contender.basis == Basis::Hint;
            let later = applied.filter(|_| hints).and_then(|applied| {
                let last = accepted_last(&other.status)?;
                (last > applied).then(|| last.min(now))
            });
            let Some(until) = before.max(later) else { continue };
            match relation(&other, object) {
                Relation::OtherAccount => continue,
                Relation::OtherIdentity => strangers.push(other),
                Relation::SameIdentity => {}
            }
            latest = latest.max(Some(until));
            if latest >= Some(term.settled) && strangers.len() >= MAX_STRANGERS {
                break;
            }
        }
        (latest, strangers)
    }

    /// What the status of an object says counts for nothing: the cloud refuses its identity, or it has none.
    pub fn disregard_status(&self, object: &Object) {
        self.remember(object, |memory| memory.claim.disregard_status());
    }

    /// The API refused the identity of this object: all others of that identity in the same region have no claim either. In
    /// another region the refusal may only mean that the instance is not there; but a region in which nobody contends for it
    /// has no call of its own to hope for, or each of many hints would cost one.
    pub fn refused(&self, object: &Object, principal: Option<Arc<str>>) {
        let same: Vec<Key> = {
            let tables = self.tables();
            let seats = tables.seats_of(object);
            let same = seats.into_iter().flat_map(|(_, seats, own)| {
                seats.iter().filter(move |seat| seat.key != own.key && seat.shares_credentials(own))
            });
            let hints = same.filter(|seat| seat.contender.basis == Basis::Hint);
            let alike = hints.filter(|seat| {
                let entry = tables.entries.get(&seat.key);
                entry.is_some_and(|entry| {
                    let theirs = region(&entry.object);
                    theirs == region(object) || entry.memory.claim.is_contested_elsewhere(theirs)
                })
            });
            alike.map(|seat| seat.key.clone()).collect()
        };
        self.remember(object, |memory| memory.claim.refused(principal));
        for other in same.iter().filter_map(|key| self.newest(key)) {
            self.remember(&other, |memory| memory.claim.give_up());
        }
    }

    /// Whether another object acts at the same instance under the same identity.
    pub fn has_peer(&self, object: &Object) -> bool {
        let tables = self.tables();
        let Some((_, seats, own)) = tables.seats_of(object) else { return false };
        seats.iter().any(|seat| seat.key != own.key && seat.shares_credentials(own))
    }

    /// Wakes the objects that name an instance; a crowd at the next tick.
    pub fn wake_instance(&self, instance: &str) {
        let mut tables = self.tables();
        let crowd = Crowd::Instance(instance.into());
        if tables.contests.seats(instance).len() > CROWD {
            tables.crowds.insert(crowd);
        } else {
            let members = tables.members_of(&crowd);
            tables.woken.extend(members);
        }
    }

    /// Who owns the instance that this object names, and the key that it generates into. `relation` tells what is known of
    /// the identities of two objects.
    pub fn owner(&self, object: &Object, relation: impl Fn(&Object, &Object) -> Relation) -> Owner {
        let mut tables = self.tables();
        if let Some(seat) = tables.keeper(object, relation) {
            let near = seat.key.namespace == object.key.namespace;
            return Owner::Other(near.then(|| seat.key.name.to_string()));
        }
        match tables.generator(object).filter(|key| *key != object.key) {
            Some(key) => Owner::OtherOfSecret(key.name.to_string()),
            None => Owner::This,
        }
    }

    /// How much is kept in all tables.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        let tables = self.tables();
        let Tables { entries, contests, by_secret, by_credentials, by_fleet, .. } = &*tables;
        let Tables { generators, departed, woken, crowds, accepted: _, .. } = &*tables;
        [entries.len(), contests.len(), by_secret.len(), by_credentials.len(), by_fleet.len()]
            .into_iter()
            .chain([generators.len(), departed.len(), woken.len(), crowds.len()])
            .sum()
    }

    /// For how many there is room in the tables that hold something of each object.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        let Tables { entries, contests, by_secret, by_credentials, woken, .. } = &*self.tables();
        entries.capacity()
            + contests.room()
            + by_secret.capacity()
            + by_credentials.capacity()
            + woken.capacity()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    /// Takes in a call that may still arrive.
    pub fn doubt(&mut self, until: Timestamp, by_other: bool, now: Timestamp) {
        let standing = self.doubt.filter(|(former, _)| *former > now);
        let (former, by_others) = standing.unwrap_or((until, false));
        self.doubt = Some((until.max(former), by_other || by_others));
    }

    /// Counts the refusals of an instance that is Running.
    pub fn count_refusals(&mut self, status: &VncPasswordStatus, poll: Option<&Look>, now: Timestamp) {
        let before = self.running_refusals.as_deref().copied();
        self.running_refusals = RunningRefusals::count(before, status, poll, now).map(Box::new);
    }

    /// Forgets the calls that count for nothing any more.
    pub fn recover(&mut self, now: Timestamp) {
        let counts = |calls: &mut Arc<Calls>| Arc::strong_count(calls) > 1 || !calls.are_full(now);
        self.calls.take_if(|calls| !counts(calls));
    }

    /// Takes in what was read of the Secret; whether a wait for another writer starts.
    pub fn read(&mut self, contents: Option<&Contents>, now: Timestamp) -> bool {
        let image = contents.map_or(0, Contents::image);
        let changed = self.image.replace(image).is_some_and(|former| former != image);
        let rival = || Box::new(Competition::new(Target::Secret));
        changed && self.secret_competition.get_or_insert_with(rival).changed(now)
    }

    /// Takes in what this process wrote into the Secret; `None`: what stands there now is not known.
    pub fn wrote(&mut self, contents: Option<&Contents>, now: Timestamp) {
        self.image = contents.map(Contents::image);
        if let Some(rival) = &mut self.secret_competition {
            rival.wrote(now);
        }
    }

    /// Takes in the status as this process knows it, with the version of the object's Secret; whether a wait for another writer
    /// starts. A status that changes together with what people ask for is no such writer's, and ends the wait (R66).
    pub fn saw_status(&mut self, object: &Object, secret: Option<&SecretVersion>, now: Timestamp) -> bool {
        let (asked, status) = (asked(object, secret), image_of(&object.status));
        // The watch may still show what stood before the lost write.
        if matches!(&self.status_seen, StatusSeen::Unknown(replaced) if **replaced == *object.resource_version)
        {
            return false;
        }
        let changed = match std::mem::replace(&mut self.status_seen, StatusSeen::As { asked, status }) {
            // The API server takes no status with a new object, so somebody else wrote it.
            StatusSeen::Never => self.untouched && *object.status != VncPasswordStatus::default(),
            StatusSeen::Unknown(_) => false,
            StatusSeen::As { asked: former, .. } if former != asked => {
                if let Some(rival) = &mut self.status_competition {
                    rival.resume();
                }
                false
            }
            StatusSeen::As { status: former, .. } => status != former,
        };
        let rival = || Box::new(Competition::new(Target::Status));
        changed && self.status_competition.get_or_insert_with(rival).changed(now)
    }

    /// A write of the status got no reply.
    pub fn lost_status_write(&mut self, object: &Object) {
        self.status_seen = StatusSeen::Unknown(object.resource_version.clone());
    }

    /// Takes in a status that this process wrote.
    pub fn wrote_status(&mut self, object: &Object, secret: Option<&SecretVersion>, now: Timestamp) {
        let (asked, status) = (asked(object, secret), image_of(&object.status));
        self.status_seen = StatusSeen::As { asked, status };
        if let Some(rival) = &mut self.status_competition {
            rival.wrote(now);
        }
    }

    /// What decisions are told of it.
    pub fn history(&self) -> History {
        History {
            applied: self.applied.clone(),
            examined: self.examined.clone(),
            untouched: self.untouched,
            creation_refused: self.refused.as_ref().is_some_and(|refused| refused.creation),
            running_refusals: self.running_refusals.as_deref().copied(),
            unsettled: Vec::new(),
            rotate_at_is_new: false,
            group_retry: None,
        }
    }
}

impl Entry {
    fn newest(&self) -> Arc<Object> {
        let written = self.memory.written.as_ref();
        Arc::clone(written.filter(|written| written.is_at_least(&self.object)).unwrap_or(&self.object))
    }
}

impl Tables {
    /// See [`Registry::remember`]. `change` gets the object as the watch knows it.
    fn remember<T>(&mut self, object: &Object, change: impl FnOnce(&Object, &mut Memory) -> T) -> Option<T> {
        let entry = self.entries.get_mut(&object.key).filter(|entry| entry.object.uid == object.uid)?;
        let result = change(&entry.object, &mut entry.memory);
        if self.reseat(&object.key) {
            self.wake_others(&object.key);
            // What it decided before may name an owner that it has beaten by this very change.
            if self.seats_of(object).is_some_and(|(_, seats, _)| (2..=CROWD).contains(&seats.len())) {
                self.woken.push(object.key.clone());
            }
        }
        Some(result)
    }

    /// The instance that an object names, all who name it, and its own seat among them.
    fn seats_of<'a>(&'a self, object: &'a Object) -> Option<(&'a str, &'a [Seat], &'a Seat)> {
        let instance = object.spec.as_ref().ok()?.instance_id.as_str();
        let seats = self.contests.seats(instance);
        let own = seats.iter().find(|seat| seat.key == object.key)?;
        Some((instance, seats, own))
    }

    /// The strongest object that keeps this one from its instance.
    fn keeper<'a>(
        &'a self,
        object: &'a Object,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> Option<&'a Seat> {
        let (_, seats, own) = self.seats_of(object)?;
        let stronger = seats.iter().take_while(|seat| seat.key != own.key);
        let mut stronger = stronger.filter(|seat| {
            // What costs more to find out is asked only where it matters.
            seat.contender.basis != Basis::None || seat.shares_credentials(own)
        });
        stronger.find(|seat| {
            let other = self.entries.get(&seat.key).map(Entry::newest);
            other.is_some_and(|other| seat.contender.keeps_out(&own.contender, relation(&other, object)))
        })
    }

    /// The owner of the key of the Secret that this object generates into.
    fn generator(&mut self, object: &Object) -> Option<Key> {
        let spec = object.spec.as_ref().ok().filter(|spec| spec.rotation.is_some())?;
        let secret = object.secret()?;
        let readers = self.by_secret.get(&secret).filter(|readers| readers.len() > 1)?;
        let key = spec.secret_ref.key.as_str();
        if let Some(owner) = self.generators.get(&secret).and_then(|keys| keys.get(key)) {
            return Some(owner.clone());
        }
        let contenders = readers.iter().filter_map(|reader| {
            let entry = self.entries.get(reader)?;
            let other = entry.newest();
            let generates = other
                .spec
                .as_ref()
                .is_ok_and(|other| other.rotation.is_some() && other.secret_ref == spec.secret_ref);
            generates.then(|| (reader, contender(&other, &entry.memory.claim)))
        });
        let owner =
            contenders.reduce(|best, next| if next.1.beats(&best.1) { next } else { best })?.0.clone();
        self.generators.entry(secret).or_default().insert(key.into(), owner.clone());
        Some(owner)
    }

    /// Takes an object's seat anew; whether its claim has changed for the others.
    fn reseat(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let object = entry.newest();
        let seat = Seat::new(&object, &entry.memory.claim);
        let Ok(spec) = &object.spec else { return false };
        let changed = self.contests.seat(&spec.instance_id, seat);
        if changed && let Some(secret) = object.secret() {
            self.generators.remove(&secret);
        }
        changed
    }

    /// Wakes the others that an object stands in the way of, or stood.
    fn wake_others(&mut self, key: &Key) {
        let Some(object) = self.entries.get(key).map(|entry| Arc::clone(&entry.object)) else { return };
        self.wake_crowds_of(&object);
    }

    fn wake_crowds_of(&mut self, object: &Object) {
        let Ok(spec) = &object.spec else { return };
        let instance = spec.instance_id.as_str();
        let mut crowds = Vec::new();
        match self.contests.seats(instance).len() {
            0 => {}
            1..=CROWD => crowds.push(Crowd::Instance(instance.into())),
            _ => drop(self.crowds.insert(Crowd::Instance(instance.into()))),
        }
        if spec.rotation.is_some()
            && let Some(secret) = object.secret()
        {
            match self.by_secret.get(&secret).map_or(0, Vec::len) {
                0 => {}
                1..=CROWD => crowds.push(Crowd::Secret(secret)),
                _ => drop(self.crowds.insert(Crowd::Secret(secret))),
            }
        }
        for crowd in crowds {
            let others = self.members_of(&crowd).into_iter().filter(|other| *other != object.key);
            self.woken.extend(others);
        }
    }

    fn members_of(&self, crowd: &Crowd) -> Vec<Key> {
        match crowd {
            Crowd::Instance(instance) => {
                self.contests.seats(instance).iter().map(|seat| seat.key.clone()).collect()
            }
            Crowd::Secret(secret) => self.by_secret.get(secret).cloned().unwrap_or_default(),
        }
    }

    fn insert(&mut self, object: Object, inherited: bool) -> Arc<Object> {
        let key = object.key.clone();
        let object = Arc::new(object);
        if let Some(entry) = self.entries.get_mut(&key) {
            let former = std::mem::replace(&mut entry.object, Arc::clone(&object));
            let claim = &mut entry.memory.claim;
            if former.credentials() != object.credentials() {
                claim.other_credentials();
            }
            if former.generation != object.generation {
                claim.spec_changed();
                // Whether it generates may have changed.
                if let Some(secret) = object.secret() {
                    self.generators.remove(&secret);
                }
                if !inherited {
                    self.wake_crowds_of(&former);
                    self.wake_crowds_of(&object);
                }
            }
            if moves(&former, &object) {
                self.unindex(&former);
                self.wake_crowds_of(&former);
                self.index(&object);
            }
        } else {
            let claim = if inherited { Claim::found(&object, Timestamp::now()) } else { Claim::default() };
            let calls = self.spent.remove(&key);
            let memory = Memory { inherited, untouched: !inherited, claim, calls, ..Memory::default() };
            let entry = Entry { object: Arc::clone(&object), memory: Box::new(memory) };
            self.entries.insert(key.clone(), entry);
            self.index(&object);
        }
        if self.reseat(&key) && !inherited {
            self.wake_others(&key);
        }
        object
    }

    fn index(&mut self, object: &Object) {
        let key = &object.key;
        if let Some(secret) = object.secret() {
            self.generators.remove(&secret);
            index(&mut self.by_secret, secret, key.clone());
        }
        if let Some(secret) = object.credentials() {
            index(&mut self.by_credentials, secret, key.clone());
        }
        if let Some(member) = &object.membership {
            self.by_fleet.entry(Arc::clone(&member.uid)).or_default().insert(key.clone());
        }
    }

    fn unindex(&mut self, object: &Object) {
        if let Some(secret) = object.secret() {
            self.generators.remove(&secret);
            forget(&mut self.by_secret, &secret, &object.key);
        }
        if let Some(secret) = object.credentials() {
            forget(&mut self.by_credentials, &secret, &object.key);
        }
        if let Some(member) = &object.membership
            && let Some(keys) = self.by_fleet.get_mut(&member.uid)
        {
            keys.remove(&object.key);
            if keys.is_empty() {
                self.by_fleet.remove(&member.uid);
            }
        }
        if let Ok(spec) = &object.spec {
            self.contests.leave(&spec.instance_id, &object.key);
        }
    }

    /// Notes the last accepted call of an object that is gone, as long as others name its instance; 0: there was none.
    fn departed_with(&mut self, object: &Object, order: u64) {
        let Ok(spec) = &object.spec else { return };
        let instance = spec.instance_id.as_str();
        if self.contests.seats(instance).is_empty() {
            self.departed.remove(instance);
        } else if order > 0 {
            let last = self.departed.entry(instance.into()).or_default();
            *last = order.max(*last);
            self.wake_crowds_of(object);
        }
    }

    /// The Secret with the credentials that this object named, where nobody names it now.
    fn released(&self, former: &Object) -> Option<Key> {
        former.credentials().filter(|secret| !self.by_credentials.contains_key(secret))
    }

    fn remove(&mut self, key: &Key) -> Option<Gone> {
        let entry = self.entries.remove(key)?;
        shrink(&mut self.entries);
        self.unindex(&entry.object);
        self.wake_crowds_of(&entry.object);
        let newest = entry.newest();
        let spec = newest.spec.as_ref().ok()?;
        let instance = spec.instance_id.as_str();
        let unclaimed = self.contests.seats(instance).is_empty();
        let order = entry.memory.claim.accepted_order();
        self.departed_with(&newest, order);
        if let Some(calls) = entry.memory.calls {
            self.spent.insert(key.clone(), calls);
        }
        Some(Gone { before: entry.memory.claim.before(), unclaimed, object: newest })
    }
}

/// The region that the spec names.
fn region(object: &Object) -> Option<&str> {
    object.spec.as_ref().ok()?.region_id.as_deref()
}

/// Recognises what people ask for: the spec, `rotate-at` and the Secret.
fn asked(object: &Object, secret: Option<&SecretVersion>) -> u64 {
    let mut image = DefaultHasher::new();
    (object.generation, object.rotate_at, secret).hash(&mut image);
    image.finish()
}

/// Recognises a status in the memory of this process.
fn image_of(status: &VncPasswordStatus) -> u64 {
    let mut image = DefaultHasher::new();
    // A status is plain data: it can always be written.
    serde_json::to_vec(status).unwrap_or_default().hash(&mut image);
    image.finish()
}

/// When the API last accepted a call, as a status says.
fn accepted_last(status: &VncPasswordStatus) -> Option<Timestamp> {
    let applied = status.applied.as_ref().map(|applied| applied.time.0);
    applied.max(status.last_rotation_time.as_ref().map(|time| time.0))
}

/// Whether two versions of an object are found by different names.
fn moves(former: &Object, object: &Object) -> bool {
    let instance = |object: &Object| object.spec.as_ref().ok().map(|spec| spec.instance_id.clone());
    let fleet = |object: &Object| object.membership.as_ref().map(|member| Arc::clone(&member.uid));
    instance(former) != instance(object)
        || former.secret() != object.secret()
        || former.credentials() != object.credentials()
        || fleet(former) != fleet(object)
}

/// Almost always the only one: a vector's own first growth would take room for four.
fn index<K: std::hash::Hash + Eq>(table: &mut HashMap<K, Vec<Key>>, at: K, key: Key) {
    table.entry(at).or_insert_with(|| Vec::with_capacity(1)).push(key);
}

fn forget<K, Q>(table: &mut HashMap<K, Vec<Key>>, at: &Q, key: &Key)
where
    K: std::borrow::Borrow<Q> + std::hash::Hash + Eq,
    Q: std::hash::Hash + Eq + ?Sized,
{
    if let Some(keys) = table.get_mut(at) {
        keys.retain(|other| other != key);
        if keys.is_empty() {
            table.remove(at);
            shrink(table);
        }
    }
}

#[cfg(test)]
mod tests;
