//! What is under way or unsettled at each instance. It belongs to the instance, not to the object: the object may be
//! deleted, and another one may take over.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::rotation::facts::{Fingerprint, Unsettled};

/// How long a call of unknown outcome is remembered after it can no longer arrive: long enough for every object that it
/// concerns to send its value once more.
pub(super) const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Only instances with something to remember are kept.
#[derive(Default)]
pub(super) struct Instances {
    unsettled: Mutex<HashMap<Box<str>, Vec<Late>>>,
    busy: Mutex<HashMap<Box<str>, Vec<Caller>>>,
}

/// A call of unknown outcome.
struct Late {
    /// `metadata.uid` of the object that it was made for.
    by: Arc<str>,
    caller: Caller,
    value: Option<Fingerprint>,
    until: Timestamp,
}

/// Who made a call. The account outlives what is known of the identity: that is forgotten with its last object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Caller {
    /// The name of the identity.
    pub identity: Box<str>,
    /// Its account, where that was known.
    pub account: Option<Box<str>>,
}

/// Work on one instance is serialized: who holds this may call. Dropped, it lets the next in.
pub(super) struct Turn<'a> {
    instances: &'a Instances,
    id: Box<str>,
    caller: Caller,
}

impl Instances {
    /// Takes the turn at an instance; `None` while another has it. Callers of another account do not count (`is_apart`): they
    /// cannot reach this account's instance, and must not be able to keep its owner waiting.
    pub fn turn(&self, id: &str, caller: Caller, is_apart: impl Fn(&Caller) -> bool) -> Option<Turn<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let holders = busy.entry(id.into()).or_insert_with(|| Vec::with_capacity(1));
        if !holders.iter().all(is_apart) {
            return None;
        }
        holders.push(caller.clone());
        Some(Turn { instances: self, id: id.into(), caller })
    }

    /// Notes that a call of `value` (`None`: of any), made for the object with the uid `by`, may still arrive until then;
    /// whether that is news. It is none while a former call of the same value may still arrive: whom that concerns is in
    /// doubt already, and looks again when the former call can no longer arrive.
    pub fn unsettle(
        &self,
        id: &str,
        by: &Arc<str>,
        caller: Caller,
        value: Option<Fingerprint>,
        until: Timestamp,
        now: Timestamp,
    ) -> bool {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = table.entry(id.into()).or_insert_with(|| Vec::with_capacity(1));
        let same = |late: &&mut Late| late.by == *by && late.caller == caller && late.value == value;
        if let Some(late) = calls.iter_mut().find(same) {
            let former = late.until;
            late.until = former.max(until);
            former <= now
        } else {
            calls.push(Late { by: Arc::clone(by), caller, value, until });
            true
        }
    }

    /// The wall clock was set back by so much, a negative time.
    pub fn set_back(&self, by: SignedDuration) {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        for late in table.values_mut().flatten() {
            late.until = late.until.saturating_add(by).unwrap_or(late.until);
        }
    }

    /// What may still arrive, or might have until lately, by calls of those whom `concerns` names, as the object with that
    /// uid sees it.
    pub fn unsettled(
        &self,
        id: &str,
        uid: &str,
        now: Timestamp,
        concerns: impl Fn(&Caller) -> bool,
    ) -> Vec<Unsettled> {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(calls) = table.get_mut(id) else { return Vec::new() };
        calls.retain(|late| late.until > now - KEPT);
        let concerning = calls.iter().filter(|late| concerns(&late.caller));
        let concerning = concerning
            .map(|late| Unsettled { value: late.value, until: late.until, by_other: *late.by != *uid })
            .collect();
        if calls.is_empty() {
            table.remove(id);
        }
        concerning
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut busy = self.instances.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(holders) = busy.get_mut(&self.id) else { return };
        if let Some(own) = holders.iter().position(|holder| *holder == self.caller) {
            holders.swap_remove(own);
        }
        if holders.is_empty() {
            busy.remove(&self.id);
        }
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
        let caller = |account: &str| Caller { identity: account.into(), account: Some(account.into()) };
        let take = |id, account: &'static str| {
            instances.turn(id, caller(account), move |holder| holder.account.as_deref() != Some(account))
        };
        let turn = take("i-1", "1");
        assert!(turn.is_some());
        assert!(take("i-1", "1").is_none());
        assert!(take("i-2", "1").is_some());
        let strangers = take("i-1", "2");
        assert!(strangers.is_some(), "another account's instance");
        drop(turn);
        assert!(take("i-1", "1").is_some());
        drop(strangers);
        assert!(instances.busy.lock().unwrap().is_empty());
    }

    #[test]
    fn what_is_unsettled_is_forgotten_in_time() {
        let instances = Instances::default();
        let operator = Caller { identity: "operator".into(), account: None };
        for (now, until, news) in [(0, 10, true), (5, 30, false), (7, 20, false), (30, 30, true)] {
            let is_news = instances.unsettle("i-1", &"a".into(), operator.clone(), None, at(until), at(now));
            assert_eq!(is_news, news, "at {now}");
        }
        assert_eq!(instances.unsettled("i-1", "a", at(30 + 3599), |_| true).len(), 1);
        assert!(instances.unsettled("i-1", "a", at(30 + 3599), |who| *who != operator).is_empty());
        assert!(instances.unsettled("i-1", "a", at(30 + 3600), |_| true).is_empty());
        assert!(instances.unsettled.lock().unwrap().is_empty());
    }

    #[test]
    fn a_call_outlives_its_object_and_is_another_objects_then() {
        let instances = Instances::default();
        let operator = Caller { identity: "operator".into(), account: None };
        instances.unsettle("i-1", &"former".into(), operator, None, at(10), at(0));
        let by_other = |uid| instances.unsettled("i-1", uid, at(0), |_| true)[0].by_other;
        assert_eq!((by_other("former"), by_other("successor")), (false, true));
    }
}
