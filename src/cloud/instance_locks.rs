//! The lock of each instance, and calls of unknown outcome. They belong to the instance, not to the object:
//! the object may be deleted, and another one may become the owner.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use jiff::{SignedDuration, Timestamp};

use crate::runtime::{clock_steps::Step, tables::shrink};
use vncpassword_core::rotation::facts::{Fingerprint, Unsettled};

/// How long a call of unknown outcome is remembered after it can no longer arrive: long enough for every
/// object that it concerns to send its value once more.
pub(crate) const KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Only instances with a lock or an unsettled call are stored.
#[derive(Default)]
pub(crate) struct InstanceLocks {
    unsettled: Mutex<HashMap<Box<str>, Vec<UnsettledCall>>>,
    busy: Mutex<HashMap<Box<str>, Vec<Caller>>>,
}

/// A call of unknown outcome.
#[derive(Clone, Debug)]
pub(crate) struct UnsettledCall {
    /// `metadata.uid` of the object that it was made for.
    pub by: Arc<str>,
    /// Who made it.
    pub caller: Caller,
    /// The region that it went to, where that is known. An instance is in one region.
    pub region: Option<Box<str>>,
    /// The value that it carried; `None`: any.
    pub value: Option<Fingerprint>,
    /// Until when it may still arrive.
    pub until: Timestamp,
}

impl UnsettledCall {
    /// Whether it may have gone to the instance that is named for this region.
    pub fn may_reach(&self, region: Option<&str>) -> bool {
        self.region.as_deref().zip(region).is_none_or(|(one, other)| one == other)
    }

    fn is_repeated_by(&self, other: &Self) -> bool {
        (&self.by, &self.caller, &self.region, self.value)
            == (&other.by, &other.caller, &other.region, other.value)
    }
}

/// The identity that made a call. The account outlives the identity, which is dropped with its last object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The name of the identity.
    pub identity: Box<str>,
    /// Its account, where that was known.
    pub account: Option<Box<str>>,
}

/// The lock of one instance. Dropping it releases the lock.
pub(crate) struct InstanceGuard<'a> {
    instances: &'a InstanceLocks,
    id: Box<str>,
    caller: Caller,
}

impl InstanceLocks {
    /// Locks an instance; `None`: another caller holds the lock. Callers of another account do not count
    /// (`is_apart`): they cannot reach this account's instance, and must not be able to block its owner.
    pub fn turn(
        &self,
        id: &str,
        caller: Caller,
        is_apart: impl Fn(&Caller) -> bool,
    ) -> Option<InstanceGuard<'_>> {
        let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let holders = busy.entry(id.into()).or_insert_with(|| Vec::with_capacity(1));
        if !holders.iter().all(is_apart) {
            return None;
        }
        holders.push(caller.clone());
        Some(InstanceGuard { instances: self, id: id.into(), caller })
    }

    /// Records a call that may still arrive. Returns false if an earlier call of the same object and value is
    /// unsettled: its contenders already wait.
    pub fn unsettle(&self, id: &str, call: UnsettledCall, now: Timestamp) -> bool {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let calls = table.entry(id.into()).or_insert_with(|| Vec::with_capacity(1));
        if let Some(late) = calls.iter_mut().find(|late| late.is_repeated_by(&call)) {
            let former = late.until;
            late.until = former.max(call.until);
            former <= now
        } else {
            calls.push(call);
            true
        }
    }

    /// The wall clock was stepped.
    pub fn stepped(&self, step: &Step) {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        for late in table.values_mut().flatten() {
            late.until = step.deadline_after(late.until);
        }
    }

    /// The unsettled calls that `concerns` selects, for the object with that uid.
    pub fn unsettled(
        &self,
        id: &str,
        uid: &str,
        now: Timestamp,
        concerns: impl Fn(&UnsettledCall) -> bool,
    ) -> Vec<Unsettled> {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(calls) = table.get_mut(id) else { return Vec::new() };
        calls.retain(|late| late.is_remembered(now));
        let concerning = calls.iter().filter(|late| concerns(late));
        let concerning = concerning
            .map(|late| Unsettled { value: late.value, until: late.until, by_other: *late.by != *uid })
            .collect();
        if calls.is_empty() {
            table.remove(id);
        }
        concerning
    }

    /// Forgets what is over, also at instances that no object names any more. To be called every minute or
    /// so.
    pub fn prune(&self, now: Timestamp) {
        let mut table = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        table.retain(|_, calls| {
            calls.retain(|late| late.is_remembered(now));
            !calls.is_empty()
        });
        shrink(&mut table);
    }

    /// How many instances there is something to remember of.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.unsettled.lock().unwrap().len() + self.busy.lock().unwrap().len()
    }

    /// For how many there is room.
    #[cfg(test)]
    pub fn room(&self) -> usize {
        self.unsettled.lock().unwrap().capacity() + self.busy.lock().unwrap().capacity()
    }
}

impl UnsettledCall {
    fn is_remembered(&self, now: Timestamp) -> bool {
        self.until > now - KEPT
    }
}

impl Drop for InstanceGuard<'_> {
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

    fn late(by: &str, until: i64) -> UnsettledCall {
        let caller = Caller { identity: "operator".into(), account: None };
        UnsettledCall { by: by.into(), caller, region: None, value: None, until: at(until) }
    }

    #[test]
    fn one_at_a_time() {
        let instances = InstanceLocks::default();
        let caller = |account: &str| Caller { identity: account.into(), account: Some(account.into()) };
        let take = |id, account: &'static str| {
            instances.turn(id, caller(account), move |holder| holder.account.as_deref() != Some(account))
        };
        let turn = take("i-1", "1");
        assert!(turn.is_some());
        assert!(take("i-1", "1").is_none());
        assert!(take("i-2", "1").is_some());
        let others = take("i-1", "2");
        assert!(others.is_some(), "another account's instance");
        drop(turn);
        assert!(take("i-1", "1").is_some());
        drop(others);
        assert!(instances.busy.lock().unwrap().is_empty());
    }

    #[test]
    fn a_call_to_another_region_reaches_no_instance_of_this_one() {
        let table = [
            (Some("cn-a"), Some("cn-a"), true),
            (Some("cn-a"), Some("cn-b"), false),
            (None, Some("cn-a"), true),
            (Some("cn-a"), None, true),
        ];
        for (called, region, expected) in table {
            let late = UnsettledCall { region: called.map(Into::into), ..late("a", 10) };
            assert_eq!(late.may_reach(region), expected, "{called:?} {region:?}");
        }
    }

    #[test]
    fn what_is_unsettled_is_forgotten_in_time() {
        let instances = InstanceLocks::default();
        for (now, until, news) in [(0, 10, true), (5, 30, false), (7, 20, false), (30, 30, true)] {
            let is_news = instances.unsettle("i-1", late("a", until), at(now));
            assert_eq!(is_news, news, "at {now}");
        }
        assert_eq!(instances.unsettled("i-1", "a", at(30 + 3599), |_| true).len(), 1);
        assert!(instances.unsettled("i-1", "a", at(30 + 3599), |late| late.region.is_some()).is_empty());
        assert!(instances.unsettled("i-1", "a", at(30 + 3600), |_| true).is_empty());
        assert!(instances.unsettled.lock().unwrap().is_empty());
    }

    #[test]
    fn what_nobody_asks_about_is_forgotten_too() {
        let instances = InstanceLocks::default();
        for (id, by, until) in [("i-1", "a", 10), ("i-1", "b", 20), ("i-2", "c", 30)] {
            instances.unsettle(id, late(by, until), at(0));
        }
        for (now, left) in [(10 + 3599, 3), (10 + 3600, 2), (20 + 3600, 1), (30 + 3600, 0)] {
            instances.prune(at(now));
            let table = instances.unsettled.lock().unwrap();
            assert_eq!(table.values().map(Vec::len).sum::<usize>(), left, "at {now}");
            assert!(table.values().all(|calls| !calls.is_empty()), "at {now}");
        }
    }

    #[test]
    fn a_clock_that_is_set_forward_ends_no_wait_for_a_late_call() {
        let instances = InstanceLocks::default();
        instances.unsettle("i-1", late("over", 90), at(0));
        instances.unsettle("i-1", late("late", 200), at(0));
        let step = Step { by: SignedDuration::from_secs(1000), now: at(1100), settled: at(2061) };
        instances.stepped(&step);
        let until = instances.unsettled("i-1", "a", at(1100), |_| true);
        assert_eq!(until.iter().map(|late| late.until).collect::<Vec<_>>(), [at(90), at(1200)]);
    }

    #[test]
    fn a_call_outlives_its_object_and_is_another_objects_then() {
        let instances = InstanceLocks::default();
        instances.unsettle("i-1", late("former", 10), at(0));
        let by_other = |uid| instances.unsettled("i-1", uid, at(0), |_| true)[0].by_other;
        assert_eq!((by_other("former"), by_other("successor")), (false, true));
    }
}
