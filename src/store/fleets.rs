//! The fleets, by name, and what this process remembers of each.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    runtime::tables::shrink,
    store::{discovered::DiscoveredInstances, object::FleetObject},
};
use vncpassword_core::{
    api::ClusterVncPasswordStatus,
    fleet::{Expectations, MemberError},
    rotation::{
        allowance::Allowance,
        competition::{Competition, Target},
        rotate_at::RotateAt,
    },
};

/// What this process remembers of one fleet. All of it may be lost.
#[derive(Default)]
pub(crate) struct Memory {
    /// The newest version that a write returned, until the watch has caught up.
    written: Option<Arc<FleetObject>>,
    /// When the status was last written.
    pub written_at: Option<Instant>,
    /// Expectations: writes of member objects that the watch has not reported yet.
    pub expectations: Expectations,
    /// The status as this process wrote or read it last, and another writer of it (R66).
    status_seen: Option<(i64, RotateAt, ClusterVncPasswordStatus)>,
    status_competition: Option<Competition>,
    /// When the discovery under way began.
    pub discovery_started: Option<Instant>,
    /// Repaired member objects: the generation of the fleet, and the version after the repair. If one still
    /// differs, something else changes it during the write.
    pub repaired: HashMap<Box<str>, (i64, Box<str>)>,
    /// The last discovery.
    pub discovered: Option<Arc<DiscoveredInstances>>,
    /// Why the API server refuses its member objects.
    pub member_error: Option<MemberErrorState>,
    /// Consecutive failed reconciles.
    pub failures: u32,
    /// When the last reconcile ended, and its duration.
    pub last: Option<(Instant, std::time::Duration)>,
}

/// The API server refuses the member objects of a fleet.
#[derive(Clone)]
pub(crate) struct MemberErrorState {
    pub error: MemberError,
    /// No attempt before this time.
    pub until: Instant,
    /// Number of attempts.
    pub attempts: u32,
}

impl Memory {
    /// Takes in the status as this process knows it. Until when it is left to another writer, and whether
    /// that begins now.
    pub fn saw_status(&mut self, fleet: &FleetObject, now: Timestamp) -> (Option<Timestamp>, bool) {
        let former = self.status_seen.replace((fleet.generation, fleet.rotate_at, (*fleet.status).clone()));
        let is_asked = |(generation, rotate_at, _): &(i64, RotateAt, _)| {
            (*generation, *rotate_at) != (fleet.generation, fleet.rotate_at)
        };
        // A status that changes together with what people ask for is no other writer's.
        let is_asked = former.as_ref().is_some_and(is_asked);
        if is_asked && let Some(competition) = &mut self.status_competition {
            competition.resume();
        }
        let changed = !is_asked && former.is_some_and(|(_, _, seen)| seen != *fleet.status);
        let competition = || Competition::new(Target::Status);
        let begins = changed && self.status_competition.get_or_insert_with(competition).changed(now);
        (self.status_competition.as_ref().and_then(|competition| competition.waits_until(now)), begins)
    }

    /// Takes in that this process wrote this status, or may have.
    pub fn wrote_status(&mut self, written: Option<&FleetObject>, now: Timestamp) {
        self.status_seen = written.map(|fleet| (fleet.generation, fleet.rotate_at, (*fleet.status).clone()));
        if let Some(competition) = &mut self.status_competition {
            competition.wrote(now);
        }
    }
}

struct Entry {
    object: Arc<FleetObject>,
    memory: Memory,
}

/// All fleets that the watch knows.
#[derive(Default)]
pub(crate) struct Fleets {
    entries: Mutex<HashMap<Arc<str>, Entry>>,
    /// Discovery allowances by name: a fleet that is deleted and created anew does not get more.
    query_allowances: Mutex<HashMap<Arc<str>, Allowance>>,
}

impl Fleets {
    /// Applies a fleet from the watch. Returns whether it is news, and whether the spec has changed.
    pub fn apply(&self, object: FleetObject) -> (bool, bool) {
        let mut fleets = self.fleets();
        let Some(entry) = fleets.get_mut(&object.name).filter(|entry| entry.object.uid == object.uid) else {
            let entry = Entry { object: Arc::new(object), memory: Memory::default() };
            fleets.insert(Arc::clone(&entry.object.name), entry);
            return (true, true);
        };
        let written = entry.memory.written.as_ref();
        let echo = written.is_some_and(|written| written.is_at_least(&object));
        if written.is_some_and(|written| object.is_at_least(written)) {
            entry.memory.written = None;
        }
        let changed = entry.object.generation != object.generation;
        entry.object = Arc::new(object);
        (!echo, changed)
    }

    /// A fleet was deleted.
    pub fn delete(&self, name: &str) {
        self.fleets().remove(name);
    }

    /// The wall clock was set back by so much, a negative time. What the cloud has answered is asked anew.
    pub fn set_back(&self, by: SignedDuration) {
        for entry in self.fleets().values_mut() {
            entry.memory.discovered = None;
            entry.memory.expectations.set_back(by);
            if let Some(competition) = &mut entry.memory.status_competition {
                competition.set_back(by);
            }
        }
        self.query_allowances().values().for_each(|query_allowances| query_allowances.set_back(by));
    }

    /// Spends a discovery. `Err`: when the next one is allowed.
    pub fn spend_query(&self, name: &Arc<str>, now: Timestamp) -> Result<(), Timestamp> {
        let mut query_allowances = self.query_allowances();
        let query_allowances = query_allowances.entry(Arc::clone(name)).or_default();
        if let Some(opens) = query_allowances.opens(now) {
            return Err(opens);
        }
        query_allowances.spend(now);
        Ok(())
    }

    /// Drops allowances that are full again.
    pub fn prune(&self, now: Timestamp) {
        let mut query_allowances = self.query_allowances();
        query_allowances.retain(|_, query_allowances| !query_allowances.is_full(now));
        shrink(&mut query_allowances);
    }

    /// The names of all fleets.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.fleets().keys().cloned().collect()
    }

    /// The newest version of a fleet: the watch's, or what a write returned since.
    pub fn newest(&self, name: &str) -> Option<Arc<FleetObject>> {
        let fleets = self.fleets();
        let Entry { object, memory } = fleets.get(name)?;
        let written = memory.written.as_ref().filter(|written| written.is_at_least(object));
        Some(Arc::clone(written.unwrap_or(object)))
    }

    /// The newest versions of all fleets.
    pub fn all(&self) -> Vec<Arc<FleetObject>> {
        self.names().iter().filter_map(|name| self.newest(name)).collect()
    }

    /// A write returned this version.
    pub fn written(&self, object: &Arc<FleetObject>) {
        self.remember(object, |memory| {
            memory.written = Some(Arc::clone(object));
            memory.written_at = Some(Instant::now());
        });
    }

    /// Changes what is remembered of a fleet, if it still exists with this uid.
    pub fn remember<T>(&self, fleet: &FleetObject, change: impl FnOnce(&mut Memory) -> T) -> Option<T> {
        let mut fleets = self.fleets();
        let entry = fleets.get_mut(&fleet.name).filter(|entry| entry.object.uid == fleet.uid)?;
        Some(change(&mut entry.memory))
    }

    fn fleets(&self) -> MutexGuard<'_, HashMap<Arc<str>, Entry>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn query_allowances(&self) -> MutexGuard<'_, HashMap<Arc<str>, Allowance>> {
        self.query_allowances.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fleet(uid: &str) -> FleetObject {
        serde_json::from_value::<crate::store::object::IncomingFleet>(json!({
            "metadata": {"name": "f", "uid": uid, "resourceVersion": "1", "generation": 1},
            "spec": {"targetNamespace": "n", "tags": [{"key": "a"}], "regionIds": ["cn-hangzhou"]},
        }))
        .unwrap()
        .into()
    }

    /// A controller that deletes a fleet and creates it anew, each second for ten minutes.
    #[test]
    fn a_fleet_that_is_created_anew_asks_the_cloud_no_more_often() {
        let fleets = Fleets::default();
        let name: Arc<str> = "f".into();
        let at = |second: i64| Timestamp::from_second(1_800_000_000 + second).unwrap();
        let asked = (0..600).filter(|second| {
            fleets.apply(fleet(&second.to_string()));
            let asked = fleets.spend_query(&name, at(*second)).is_ok();
            fleets.prune(at(*second));
            fleets.delete(&name);
            asked
        });
        assert_eq!(asked.count(), 27, "a burst of eight, then two a minute");
        fleets.prune(at(10_000));
        assert!(fleets.query_allowances().is_empty());
    }
}
