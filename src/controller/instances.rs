//! What is under way or unsettled at each instance. It belongs to the instance, not to the object: another object
//! may take over.

use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::rotation::facts::Unsettled;

/// How long it is remembered what was unsettled: long enough for it to be seen that only the value in effect was.
const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Only instances with something to remember are kept.
#[derive(Default)]
pub(super) struct Instances {
    unsettled: Mutex<HashMap<Box<str>, Vec<Late>>>,
    busy: Mutex<HashSet<Box<str>>>,
}

/// What may still arrive, and whose call it is.
struct Late {
    caller: Caller,
    unsettled: Unsettled,
}

/// Who made a call. The account outlives what is known of the identity: that is forgotten with its last object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name of the identity.
    pub identity: Box<str>,
    /// Its account, where that was known.
    pub account: Option<Box<str>>,
}

/// Work on one instance is serialised: who holds this may call. Dropped, it lets the next in.
pub(super) struct Turn<'a> {
    instances: &'a Instances,
    id: Box<str>,
}

impl Instances {
    /// Takes the turn at an instance; `None` while another has it.
    pub fn turn(&self, id: &str) -> Option<Turn<'_>> {
        let free = self.busy.lock().unwrap_or_else(PoisonError::into_inner).insert(id.into());
        free.then(|| Turn { instances: self, id: id.into() })
    }

    /// A call of that value, made by that caller, may still arrive.
    pub fn unsettle(&self, id: &str, caller: Caller, unsettled: Unsettled) {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let entries = table.entry(id.into()).or_insert_with(|| Vec::with_capacity(1));
        let same = |late: &&mut Late| late.caller == caller && late.unsettled.value == unsettled.value;
        match entries.iter_mut().find(same) {
            Some(late) => late.unsettled.until = late.unsettled.until.max(unsettled.until),
            None => entries.push(Late { caller, unsettled }),
        }
    }

    /// What may still arrive, or might have until lately, by calls of those whom `concerns` names.
    pub fn unsettled(&self, id: &str, now: Timestamp, concerns: impl Fn(&Caller) -> bool) -> Vec<Unsettled> {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(entries) = table.get_mut(id) else { return Vec::new() };
        entries.retain(|late| late.unsettled.until > now - KEPT);
        let concerning = entries.iter().filter(|late| concerns(&late.caller));
        let concerning = concerning.map(|late| late.unsettled.clone()).collect();
        if entries.is_empty() {
            table.remove(id);
        }
        concerning
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.instances.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn one_at_a_time() {
        let instances = Instances::default();
        let turn = instances.turn("i-1");
        assert!(turn.is_some());
        assert!(instances.turn("i-1").is_none());
        assert!(instances.turn("i-2").is_some());
        drop(turn);
        assert!(instances.turn("i-1").is_some());
    }

    #[test]
    fn what_is_unsettled_is_forgotten_in_time() {
        let instances = Instances::default();
        let operator = Caller { identity: "operator".into(), account: None };
        for until in [10, 30, 20] {
            instances.unsettle("i-1", operator.clone(), Unsettled { value: None, until: at(until) });
        }
        assert_eq!(instances.unsettled("i-1", at(30 + 3599), |_| true).len(), 1);
        assert!(instances.unsettled("i-1", at(30 + 3599), |who| *who != operator).is_empty());
        assert!(instances.unsettled("i-1", at(30 + 3600), |_| true).is_empty());
        assert!(instances.unsettled.lock().unwrap().is_empty());
    }
}
