//! The objects and their indexes: by name, instance, Secret, credentials and fleet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    change::Gone,
    contest::{Claim, Contests, Seat, contender},
    memory::Memory,
};
use crate::{
    runtime::tables::shrink,
    store::object::{Key, Object},
};
use vncpassword_core::rotation::{
    allowance::Calls,
    ownership::{Basis, Relation},
};

/// More objects than this that stand in each other's way are woken once a tick, however often one of them changes: else
/// their wake-ups would grow with the square of their number.
pub(super) const CROWD: usize = 16;

pub(super) struct Entry {
    pub(super) object: Arc<Object>,
    pub(super) memory: Box<Memory>,
}

#[derive(Default)]
pub(super) struct Tables {
    pub(super) entries: HashMap<Key, Entry>,
    pub(super) contests: Contests,
    pub(super) by_secret: HashMap<Key, Vec<Key>>,
    pub(super) by_credentials: HashMap<Key, Vec<Key>>,
    /// By the fleets' uids.
    pub(super) by_fleet: HashMap<Arc<str>, HashSet<Key>>,
    /// Which object owns a key of a Secret that several generate into, where that was worked out.
    pub(super) generators: HashMap<Key, HashMap<Box<str>, Key>>,
    /// The place of the last accepted call of an object that is gone, at an instance that others still name.
    pub(super) departed: HashMap<Box<str>, u64>,
    /// Accepted calls so far.
    pub(super) accepted: u64,
    /// The calls that objects caused that are gone by now, so that nobody gets more of them by creating an object anew.
    pub(super) spent: HashMap<Key, Arc<Calls>>,
    /// Objects to reconcile because another object has changed.
    pub(super) woken: Vec<Key>,
    /// Crowds to wake as a whole, at the next tick.
    pub(super) crowds: HashSet<Crowd>,
}

/// Objects that stand in each other's way.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Crowd {
    /// They name this instance.
    Instance(Box<str>),
    /// They generate into this Secret.
    Secret(Key),
}

impl Entry {
    pub(super) fn newest(&self) -> Arc<Object> {
        let written = self.memory.written.as_ref();
        Arc::clone(written.filter(|written| written.is_at_least(&self.object)).unwrap_or(&self.object))
    }
}

impl Tables {
    /// See [`Registry::remember`]. `change` gets the object as the watch knows it.
    pub(super) fn remember<T>(
        &mut self,
        object: &Object,
        change: impl FnOnce(&Object, &mut Memory) -> T,
    ) -> Option<T> {
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
    pub(super) fn seats_of<'a>(&'a self, object: &'a Object) -> Option<(&'a str, &'a [Seat], &'a Seat)> {
        let instance = object.spec.as_ref().ok()?.instance_id.as_str();
        let seats = self.contests.seats(instance);
        let own = seats.iter().find(|seat| seat.key == object.key)?;
        Some((instance, seats, own))
    }

    /// The strongest object that keeps this one from its instance.
    pub(super) fn keeper<'a>(
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
    pub(super) fn generator(&mut self, object: &Object) -> Option<Key> {
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
    pub(super) fn reseat(&mut self, key: &Key) -> bool {
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

    pub(super) fn wake_crowds_of(&mut self, object: &Object) {
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

    pub(super) fn members_of(&self, crowd: &Crowd) -> Vec<Key> {
        match crowd {
            Crowd::Instance(instance) => {
                self.contests.seats(instance).iter().map(|seat| seat.key.clone()).collect()
            }
            Crowd::Secret(secret) => self.by_secret.get(secret).cloned().unwrap_or_default(),
        }
    }

    pub(super) fn insert(&mut self, object: Object, inherited: bool) -> Arc<Object> {
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
    pub(super) fn departed_with(&mut self, object: &Object, order: u64) {
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
    pub(super) fn released(&self, former: &Object) -> Option<Key> {
        former.credentials().filter(|secret| !self.by_credentials.contains_key(secret))
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Gone> {
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
