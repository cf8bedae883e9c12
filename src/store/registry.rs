//! The registry of objects: found by name, instance and Secret, with what this process remembers of each.
//!
//! | file | content |
//! |---|---|
//! | `memory` | what this process remembers of one object |
//! | `contest` | the claims of objects to their instances, in order |
//! | `change` | what a change requires of the watches |
//! | `tables` | the objects and their indexes |
//! | `claims` | which object owns an instance |

mod change;
mod claims;
mod contest;
mod memory;
mod tables;
#[cfg(test)]
mod tests;

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use jiff::Timestamp;

pub(crate) use self::{
    change::{Change, Concerned},
    contest::{Proof, Term},
    memory::{Failure, LastRefusal, Memory},
};
use self::{
    contest::Claim,
    tables::{Entry, MAX_IMMEDIATE, SharedResource, Tables},
};
use crate::{
    runtime::clock_steps::Step,
    store::object::{Key, Object},
};
use vncpassword_core::rotation::allowance::Calls;

/// Maximum number of objects of other identities whose identity one reconcile checks.
pub(crate) const MAX_IDENTITY_CHECKS: usize = 16;

/// All `VncPassword` objects of the watches.
#[derive(Default)]
pub(crate) struct Registry(Mutex<Tables>);

impl Registry {
    /// Applies an object from the watch. `from_previous_process`: it was in the first list.
    pub fn apply(&self, object: Object, from_previous_process: bool) -> Change {
        let mut tables = self.tables();
        let key = object.key.clone();
        let mut change = Change::default();
        let mut echo = false;
        let former = tables.entries.get(&key).map(|entry| Arc::clone(&entry.object));
        if let Some(entry) = tables.entries.get_mut(&key) {
            if entry.object.uid == object.uid {
                // An echo of an own write, or an older version.
                echo = entry.memory.written.as_ref().is_some_and(|written| written.is_at_least(&object));
                if entry.memory.written.as_ref().is_some_and(|written| object.is_at_least(written)) {
                    entry.memory.written = None;
                }
            } else {
                change.gone = tables.remove(&key);
            }
        }
        if !from_previous_process {
            change.fleets = Concerned::of(former.as_deref(), Some(&object));
        }
        // No reconcile starts before everything is listed, so no other object is enqueued until then.
        let object = tables.insert(object, from_previous_process);
        if let Some(former) = former {
            change.released = tables.released(&former);
            if former.credentials() != object.credentials() {
                change.former = Some(former);
            }
        }
        if !echo {
            tables.affected.push(key);
        }
        change
    }

    /// Starts a term: another process acted for all objects until now.
    pub fn inherit(&self, now: Timestamp) {
        let mut tables = self.tables();
        let keys: Vec<Key> = tables.entries.keys().cloned().collect();
        for entry in tables.entries.values_mut() {
            let claim = Claim::found(&entry.object, now);
            *entry.memory = Memory { from_previous_process: true, claim, ..Memory::default() };
        }
        for key in &keys {
            tables.update_candidate(key);
        }
        tables.last_call_of_deleted.clear();
        tables.deferred.clear();
        tables.affected = keys;
    }

    /// An object was deleted.
    pub fn delete(&self, key: &Key, uid: &str) -> Change {
        let mut tables = self.tables();
        if tables.entries.get(key).is_none_or(|entry| &*entry.object.uid != uid) {
            return Change::default();
        }
        let object = tables.entries.get(key).map(|entry| Arc::clone(&entry.object));
        let gone = tables.remove(key);
        // Enqueues the key, so that the queue and the rate limiter drop what they keep under this name.
        tables.affected.push(key.clone());
        let fleets = Concerned::of(object.as_deref(), None);
        let released = object.and_then(|object| tables.released(&object));
        Change { gone, released, former: None, fleets }
    }

    /// Takes the objects to enqueue because others have changed.
    pub fn take_affected(&self) -> Vec<Key> {
        std::mem::take(&mut self.tables().affected)
    }

    /// The same with the deferred ones. Called once a tick.
    pub fn take_affected_each_tick(&self, now: Timestamp) -> Vec<Key> {
        let mut tables = self.tables();
        tables.calls_of_deleted.retain(|_, calls| !calls.are_full(now));
        let deferred = std::mem::take(&mut tables.deferred);
        let members: HashSet<Key> = deferred.iter().flat_map(|shared| tables.users_of(shared)).collect();
        let mut affected = std::mem::take(&mut tables.affected);
        affected.extend(members);
        affected
    }

    /// The keys in a namespace; `None`: all. A relist must contain them, or they are deleted.
    pub fn keys(&self, namespace: Option<&str>) -> Vec<(Key, Arc<str>)> {
        let tables = self.tables();
        let entries = tables.entries.iter();
        entries
            .filter(|(key, _)| namespace.is_none_or(|namespace| *key.namespace == *namespace))
            .map(|(key, entry)| (key.clone(), Arc::clone(&entry.object.uid)))
            .collect()
    }

    /// The newest version of an object: from the watch, or from a later write.
    pub fn newest(&self, key: &Key) -> Option<Arc<Object>> {
        self.tables().entries.get(key).map(Entry::newest)
    }

    /// The newest versions of all objects.
    pub fn all(&self) -> Vec<Arc<Object>> {
        self.tables().entries.values().map(Entry::newest).collect()
    }

    /// Changes what is remembered of an object, if it still exists with this uid. Enqueues its contenders if
    /// that changes its claim.
    pub fn remember<T>(&self, object: &Object, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        self.tables().remember(object, |_, memory| change(memory))
    }

    /// The call allowance of this object name. It outlives the object.
    pub fn calls(&self, key: &Key) -> Arc<Calls> {
        let mut tables = self.tables();
        match tables.entries.get_mut(key) {
            Some(entry) => Arc::clone(entry.memory.calls.get_or_insert_default()),
            None => Arc::clone(tables.calls_of_deleted.entry(key.clone()).or_default()),
        }
    }

    /// The same, if there were calls recently.
    pub fn recent_calls(&self, key: &Key) -> Option<Arc<Calls>> {
        let tables = self.tables();
        match tables.entries.get(key) {
            Some(entry) => entry.memory.calls.clone(),
            None => tables.calls_of_deleted.get(key).cloned(),
        }
    }

    /// Enqueues the other objects that name the same instance.
    pub fn enqueue_contenders(&self, object: &Object) {
        self.tables().enqueue_contenders_of(object);
    }

    /// The access key or role in a Secret with credentials.
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
            tables.calls_of_deleted.values().for_each(|calls| calls.set_back(step.by));
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
                let competitions = [&mut memory.secret_competition, &mut memory.status_competition];
                competitions.into_iter().flatten().for_each(|competition| competition.set_back(step.by));
            } else if let Some(until) = newest.status.unsettled_until()
                && !step.was_over(until)
            {
                // The status is not changed: without this, it would be over by the step.
                memory.doubt(step.deadline_after(until).min(step.settled), false, step.now);
            }
        }
    }

    /// The objects that say that they belong to the fleet with that uid.
    pub fn members(&self, fleet: &str) -> Vec<Arc<Object>> {
        let tables = self.tables();
        let keys = tables.by_fleet.get(fleet).into_iter().flatten();
        keys.filter_map(|key| tables.entries.get(key)).map(Entry::newest).collect()
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

    /// Enqueues the objects that name an instance; at the next tick if there are many.
    pub fn enqueue_instance_users(&self, instance: &str) {
        let mut tables = self.tables();
        let shared = SharedResource::Instance(instance.into());
        if tables.candidates.candidates(instance).len() > MAX_IMMEDIATE {
            tables.deferred.insert(shared);
        } else {
            let members = tables.users_of(&shared);
            tables.affected.extend(members);
        }
    }

    /// How much is kept in all tables.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        let tables = self.tables();
        let Tables { entries, candidates, by_secret, by_credentials, by_fleet, .. } = &*tables;
        let Tables { generators, last_call_of_deleted, affected, deferred, accepted: _, .. } = &*tables;
        [entries.len(), candidates.len(), by_secret.len(), by_credentials.len(), by_fleet.len()]
            .into_iter()
            .chain([generators.len(), last_call_of_deleted.len(), affected.len(), deferred.len()])
            .sum()
    }

    /// For how many there is room in the tables that hold something of each object.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        let Tables { entries, candidates, by_secret, by_credentials, affected, .. } = &*self.tables();
        entries.capacity()
            + candidates.room()
            + by_secret.capacity()
            + by_credentials.capacity()
            + affected.capacity()
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
