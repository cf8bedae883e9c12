//! The objects and their indexes: by name, instance, Secret, credentials and fleet.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::Timestamp;

use super::{
    change::Gone,
    contest::{Candidate, Candidates, Claim, contender},
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

/// Contenders are enqueued immediately up to this number, and else once a tick: the work would grow with the
/// square of their number.
pub(super) const MAX_IMMEDIATE: usize = 16;

pub(super) struct Entry {
    pub(super) object: Arc<Object>,
    pub(super) memory: Box<Memory>,
}

#[derive(Default)]
pub(super) struct Tables {
    pub(super) entries: HashMap<Key, Entry>,
    pub(super) candidates: Candidates,
    pub(super) by_secret: HashMap<Key, Vec<Key>>,
    pub(super) by_credentials: HashMap<Key, Vec<Key>>,
    /// By the fleets' uids.
    pub(super) by_fleet: HashMap<Arc<str>, HashSet<Key>>,
    /// Cache: which object owns a key of a Secret that several objects generate into.
    pub(super) generators: HashMap<Key, HashMap<Box<str>, Key>>,
    /// The order of the last accepted call of a deleted object, at an instance that other objects still name.
    pub(super) last_call_of_deleted: HashMap<Box<str>, u64>,
    /// Number of accepted calls.
    pub(super) accepted: u64,
    /// Call allowances of deleted objects: a new object of the same name does not get more.
    pub(super) calls_of_deleted: HashMap<Key, Arc<Calls>>,
    /// Objects to enqueue because others have changed.
    pub(super) affected: Vec<Key>,
    /// Shared resources whose objects are enqueued at the next tick.
    pub(super) deferred: HashSet<SharedResource>,
}

/// What several objects share, and contend for.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum SharedResource {
    /// An instance that they name.
    Instance(Box<str>),
    /// A Secret that they generate into.
    Secret(Key),
}

impl Entry {
    pub(super) fn newest(&self) -> Arc<Object> {
        let written = self.memory.written.as_ref();
        Arc::clone(written.filter(|written| written.is_at_least(&self.object)).unwrap_or(&self.object))
    }
}

impl Tables {
    /// See `Registry::remember`. `change` gets the object as the watch knows it.
    pub(super) fn remember<T>(
        &mut self,
        object: &Object,
        change: impl FnOnce(&Object, &mut Memory) -> T,
    ) -> Option<T> {
        let entry = self.entries.get_mut(&object.key).filter(|entry| entry.object.uid == object.uid)?;
        let result = change(&entry.object, &mut entry.memory);
        if self.update_candidate(&object.key) {
            self.enqueue_others(&object.key);
            // Its last decision may name an owner that this change has superseded.
            if self
                .candidates_of(object)
                .is_some_and(|(_, candidates, _)| (2..=MAX_IMMEDIATE).contains(&candidates.len()))
            {
                self.affected.push(object.key.clone());
            }
        }
        Some(result)
    }

    /// The instance that an object names, its candidates, and the candidate of this object.
    pub(super) fn candidates_of<'a>(
        &'a self,
        object: &'a Object,
    ) -> Option<(&'a str, &'a [Candidate], &'a Candidate)> {
        let instance = object.spec.as_ref().ok()?.instance_id.as_str();
        let candidates = self.candidates.candidates(instance);
        let own = candidates.iter().find(|candidate| candidate.key == object.key)?;
        Some((instance, candidates, own))
    }

    /// The strongest object that keeps this one from its instance.
    pub(super) fn blocking_owner<'a>(
        &'a self,
        object: &'a Object,
        relation: impl Fn(&Object, &Object) -> Relation,
    ) -> Option<&'a Candidate> {
        let (_, candidates, own) = self.candidates_of(object)?;
        let stronger = candidates.iter().take_while(|candidate| candidate.key != own.key);
        let mut stronger = stronger.filter(|candidate| {
            // The relation of identities costs more, so it comes last.
            candidate.contender.basis != Basis::None || candidate.shares_credentials(own)
        });
        stronger.find(|candidate| {
            let other = self.entries.get(&candidate.key).map(Entry::newest);
            other.is_some_and(|other| candidate.contender.keeps_out(&own.contender, relation(&other, object)))
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

    /// Updates the candidate of an object. Returns whether its claim has changed for the others.
    pub(super) fn update_candidate(&mut self, key: &Key) -> bool {
        let Some(entry) = self.entries.get(key) else { return false };
        let object = entry.newest();
        let candidate = Candidate::new(&object, &entry.memory.claim);
        let Ok(spec) = &object.spec else { return false };
        let changed = self.candidates.candidate(&spec.instance_id, candidate);
        if changed && let Some(secret) = object.secret() {
            self.generators.remove(&secret);
        }
        changed
    }

    /// Enqueues the contenders of an object.
    fn enqueue_others(&mut self, key: &Key) {
        let Some(object) = self.entries.get(key).map(|entry| Arc::clone(&entry.object)) else { return };
        self.enqueue_contenders_of(&object);
    }

    pub(super) fn enqueue_contenders_of(&mut self, object: &Object) {
        let Ok(spec) = &object.spec else { return };
        let instance = spec.instance_id.as_str();
        let mut deferred = Vec::new();
        match self.candidates.candidates(instance).len() {
            0 => {}
            1..=MAX_IMMEDIATE => deferred.push(SharedResource::Instance(instance.into())),
            _ => drop(self.deferred.insert(SharedResource::Instance(instance.into()))),
        }
        if spec.rotation.is_some()
            && let Some(secret) = object.secret()
        {
            match self.by_secret.get(&secret).map_or(0, Vec::len) {
                0 => {}
                1..=MAX_IMMEDIATE => deferred.push(SharedResource::Secret(secret)),
                _ => drop(self.deferred.insert(SharedResource::Secret(secret))),
            }
        }
        for shared in deferred {
            let others = self.users_of(&shared).into_iter().filter(|other| *other != object.key);
            self.affected.extend(others);
        }
    }

    pub(super) fn users_of(&self, shared: &SharedResource) -> Vec<Key> {
        match shared {
            SharedResource::Instance(instance) => {
                self.candidates.candidates(instance).iter().map(|candidate| candidate.key.clone()).collect()
            }
            SharedResource::Secret(secret) => self.by_secret.get(secret).cloned().unwrap_or_default(),
        }
    }

    pub(super) fn insert(&mut self, object: Object, from_previous_process: bool) -> Arc<Object> {
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
                if !from_previous_process {
                    self.enqueue_contenders_of(&former);
                    self.enqueue_contenders_of(&object);
                }
            }
            if moves(&former, &object) {
                self.unindex(&former);
                self.enqueue_contenders_of(&former);
                self.index(&object);
            }
        } else {
            let claim = if from_previous_process {
                Claim::found(&object, Timestamp::now())
            } else {
                Claim::default()
            };
            let calls = self.calls_of_deleted.remove(&key);
            let memory = Memory {
                from_previous_process,
                never_called: !from_previous_process,
                claim,
                calls,
                ..Memory::default()
            };
            let entry = Entry { object: Arc::clone(&object), memory: Box::new(memory) };
            self.entries.insert(key.clone(), entry);
            self.index(&object);
        }
        if self.update_candidate(&key) && !from_previous_process {
            self.enqueue_others(&key);
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
            self.candidates.leave(&spec.instance_id, &object.key);
        }
    }

    /// Keeps the order of the last accepted call of a deleted object while others name its instance; 0: there
    /// was none.
    pub(super) fn keep_last_call(&mut self, object: &Object, order: u64) {
        let Ok(spec) = &object.spec else { return };
        let instance = spec.instance_id.as_str();
        if self.candidates.candidates(instance).is_empty() {
            self.last_call_of_deleted.remove(instance);
        } else if order > 0 {
            let last = self.last_call_of_deleted.entry(instance.into()).or_default();
            *last = order.max(*last);
            self.enqueue_contenders_of(object);
        }
    }

    /// The Secret with credentials that this object named, if no object names it now.
    pub(super) fn released(&self, former: &Object) -> Option<Key> {
        former.credentials().filter(|secret| !self.by_credentials.contains_key(secret))
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Gone> {
        let entry = self.entries.remove(key)?;
        shrink(&mut self.entries);
        self.unindex(&entry.object);
        self.enqueue_contenders_of(&entry.object);
        let newest = entry.newest();
        let spec = newest.spec.as_ref().ok()?;
        let instance = spec.instance_id.as_str();
        let unclaimed = self.candidates.candidates(instance).is_empty();
        let order = entry.memory.claim.accepted_order();
        self.keep_last_call(&newest, order);
        if let Some(calls) = entry.memory.calls {
            self.calls_of_deleted.insert(key.clone(), calls);
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

/// Almost always the only one: a vector grows to four by itself.
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
