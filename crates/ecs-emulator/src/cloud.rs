//! The handle to a running emulator's state: the control API, as methods. `identity` has
//! those for access keys, roles and issued credentials.

mod identity;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use super::action::Action;
use super::clock::Clock;
use super::dispatch::Answer;
use super::fault::{Fault, FaultId};
use super::instance::{ConsoleChange, Instance, InstanceView, Machine, Status};
use super::journal::Entry;
use super::state::State;
use super::wire::Request;

/// The emulated cloud. Clones share one state.
///
/// Each method first applies the changes that are due by the clock.
#[derive(Clone, Debug)]
pub struct Cloud {
    clock: Clock,
    state: Arc<Mutex<State>>,
    /// The number of the newest entry of the journal.
    newest: Arc<watch::Sender<u64>>,
}

#[allow(clippy::must_use_candidate, reason = "who changes something need not care for what was there before")]
impl Cloud {
    pub(super) fn new(clock: Clock, state: State) -> Self {
        Self { clock, state: Arc::new(Mutex::new(state)), newest: Arc::new(watch::Sender::new(0)) }
    }

    pub(super) fn handle(&self, request: &Request) -> (Answer, Duration) {
        let (answer, newest) = self.with(|state, now| (state.handle(request, now), state.journal.last()));
        self.newest.send_replace(newest);
        answer
    }

    /// Adds or changes an instance. Its passwords stay; a restart under way ends.
    pub fn put_instance(&self, instance: Instance) {
        self.with(|state, _| state.put_instance(instance));
    }

    /// Removes an instance, as if it were released. False: not found.
    pub fn remove_instance(&self, id: &str) -> bool {
        self.with(|state, _| state.machines.remove(id).is_some())
    }

    /// An instance and its passwords.
    #[must_use]
    pub fn instance(&self, id: &str) -> Option<InstanceView> {
        self.with(|state, _| state.machines.get(id).map(Machine::view))
    }

    /// All instances, by id.
    #[must_use]
    pub fn instances(&self) -> Vec<InstanceView> {
        self.with(|state, _| state.machines.values().map(Machine::view).collect())
    }

    /// The history of an instance's console password, oldest first, with the times from which each was in
    /// effect. At most the last thousand.
    #[must_use]
    pub fn console_changes(&self, id: &str) -> Vec<ConsoleChange> {
        self.with(|state, _| {
            state
                .machines
                .get(id)
                .map(|machine| machine.changes.iter().cloned().collect())
                .unwrap_or_default()
        })
    }

    /// Sets the status of an instance, and ends a restart under way. A change to `Running` is a start: a
    /// pending password takes effect. False: not found.
    pub fn set_status(&self, id: &str, status: Status) -> bool {
        self.with(|state, now| state.set_status(id, status, now))
    }

    /// Restarts an instance immediately, as from the console: a pending password takes effect, and the start
    /// time is now. False: not found.
    pub fn restart(&self, id: &str) -> bool {
        self.with(|state, now| state.restart(id, now))
    }

    /// How long `RebootInstance` takes by the emulator's clock, half of it `Stopping` and half of it
    /// `Starting`; 20 s unless set.
    pub fn set_reboot_time(&self, time: Duration) {
        self.with(|state, _| state.reboot_time = time);
    }

    /// See [`Cloud::set_reboot_time`].
    #[must_use]
    pub fn reboot_time(&self) -> Duration {
        self.with(|state, _| state.reboot_time)
    }

    /// Adds a fault after the existing ones.
    pub fn inject(&self, fault: Fault) -> FaultId {
        self.with(|state, _| state.faults.inject(fault))
    }

    /// Removes a fault. False: not found.
    pub fn remove_fault(&self, id: FaultId) -> bool {
        self.with(|state, _| state.faults.remove(id))
    }

    /// Removes all faults. Delayed calls that are under way still arrive.
    pub fn clear_faults(&self) {
        self.with(|state, _| state.faults.clear());
    }

    /// All faults, in the order in which they are tried.
    #[must_use]
    pub fn faults(&self) -> Vec<(FaultId, Fault)> {
        self.with(|state, _| state.faults.list().to_vec())
    }

    /// Limits an action to this many calls a minute of the emulator's clock, in each account and region;
    /// `None`: no limit.
    pub fn set_limit(&self, action: Action, per_minute: Option<u32>) {
        self.with(|state, _| state.limits.set(action, per_minute));
    }

    /// All limits.
    #[must_use]
    pub fn limits(&self) -> BTreeMap<Action, u32> {
        self.with(|state, _| state.limits.list().clone())
    }

    /// Whether the reply to a call over its limit carries `x-acs-retry-after`; it does not unless set.
    pub fn set_send_retry_after(&self, send: bool) {
        self.with(|state, _| state.limits.send_retry_after = send);
    }

    /// See [`Cloud::set_send_retry_after`].
    #[must_use]
    pub fn send_retry_after(&self) -> bool {
        self.with(|state, _| state.limits.send_retry_after)
    }

    /// The emulator's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The time of the emulator's clock.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Sets the emulator's clock.
    pub fn set_clock(&self, at: Timestamp) {
        self.clock.set(at);
    }

    /// Moves the emulator's clock forward.
    pub fn advance(&self, by: Duration) {
        self.clock.advance(by);
    }

    /// All calls in the journal, oldest first.
    #[must_use]
    pub fn journal(&self) -> Vec<Entry> {
        self.journal_since(0)
    }

    /// The calls after the one numbered `seq`, oldest first.
    #[must_use]
    pub fn journal_since(&self, seq: u64) -> Vec<Entry> {
        self.with(|state, _| state.journal.since(seq))
    }

    /// Waits for the first call after number `seq` that is `wanted`, without a timeout.
    pub async fn next_call(&self, seq: u64, wanted: impl Fn(&Entry) -> bool) -> Entry {
        let mut newest = self.newest.subscribe();
        let mut seen = seq;
        loop {
            let entries = self.journal_since(seen);
            seen = entries.last().map_or(seen, |entry| entry.seq);
            if let Some(entry) = entries.into_iter().find(&wanted) {
                return entry;
            }
            // The sender lives in `self`, so this returns when there is something new and never fails.
            let _ = newest.changed().await;
        }
    }

    fn with<T>(&self, f: impl FnOnce(&mut State, Timestamp) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.now();
        state.settle(now);
        f(&mut state, now)
    }
}
