//! The state of the emulated cloud, and its scheduled changes. `dispatch` handles the calls.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::access::{Access, AccessKey};
use super::call::Call;
use super::clock::later;
use super::fault::Faults;
use super::instance::{Instance, Machine, Status};
use super::issue::{Issued, Issuer};
use super::journal::Journal;
use super::limit::Limits;
use super::metadata::MetadataService;
use super::role::Role;

/// The initial regions.
const REGIONS: [&str; 8] = [
    "ap-southeast-1",
    "cn-beijing",
    "cn-hangzhou",
    "cn-hongkong",
    "cn-shanghai",
    "cn-shenzhen",
    "eu-central-1",
    "us-west-1",
];

/// A scheduled change.
#[derive(Debug)]
pub(super) enum Effect {
    /// A delayed call arrives. `seq` is its entry in the journal.
    Arrive { seq: u64, call: Call },
    /// An instance enters the next status of its restart.
    Enter { id: String, generation: u64, status: Status },
}

/// The state of the emulated cloud.
#[derive(Debug)]
pub(super) struct State {
    pub access: Access,
    pub machines: BTreeMap<String, Machine>,
    pub regions: BTreeSet<String>,
    pub faults: Faults,
    pub limits: Limits,
    pub journal: Journal,
    /// By ARN.
    pub roles: BTreeMap<String, Role>,
    pub issuer: Issuer,
    pub metadata: MetadataService,
    /// How long `RebootInstance` takes, half of it stopping and half of it starting.
    pub reboot_time: Duration,
    /// Scheduled changes, ordered by time, then by number.
    due: BTreeMap<(Timestamp, u64), Effect>,
    scheduled: u64,
    pub rng: StdRng,
}

impl State {
    pub fn new(access_keys: Vec<AccessKey>, journal_limit: usize, seed: u64) -> Self {
        Self {
            access: Access::new(access_keys),
            machines: BTreeMap::new(),
            regions: REGIONS.map(str::to_owned).into(),
            faults: Faults::default(),
            limits: Limits::default(),
            journal: Journal::new(journal_limit),
            roles: BTreeMap::new(),
            issuer: Issuer::default(),
            metadata: MetadataService::default(),
            reboot_time: Duration::from_secs(20),
            due: BTreeMap::new(),
            scheduled: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// Adds or changes an instance. Its passwords stay; a restart under way ends.
    pub fn put_instance(&mut self, instance: Instance) {
        self.regions.insert(instance.region_id.clone());
        let machine = self.machines.entry(instance.id.clone()).or_default();
        machine.generation += 1;
        machine.instance = instance;
    }

    /// Sets the status of an instance, and ends a restart under way. False: not found.
    pub fn set_status(&mut self, id: &str, status: Status, now: Timestamp) -> bool {
        self.change(id, |machine| machine.enter(status, now))
    }

    /// Restarts an instance immediately, as from the console. False: not found.
    pub fn restart(&mut self, id: &str, now: Timestamp) -> bool {
        self.change(id, |machine| machine.start(now))
    }

    /// Begins a restart that takes `reboot_time`.
    pub fn begin_reboot(&mut self, id: &str, now: Timestamp) {
        let Some(machine) = self.machines.get_mut(id) else {
            return;
        };
        machine.generation += 1;
        machine.enter(Status::Stopping, now);
        let generation = machine.generation;
        for (after, status) in [(self.reboot_time / 2, Status::Starting), (self.reboot_time, Status::Running)]
        {
            self.schedule(later(now, after), Effect::Enter { id: id.to_owned(), generation, status });
        }
    }

    /// Changes an instance, and ends a restart under way. False: not found.
    fn change(&mut self, id: &str, act: impl FnOnce(&mut Machine)) -> bool {
        self.machines.get_mut(id).is_some_and(|machine| {
            machine.generation += 1;
            act(machine);
            true
        })
    }

    /// Issues credentials of a role.
    pub fn issue(&mut self, role: &Role, session: &str, lifetime: Duration, now: Timestamp) -> Issued {
        self.issuer.issue(&mut self.access, &mut self.rng, role, session, (lifetime, now))
    }

    /// Expires all issued credentials. Returns how many were valid.
    pub fn expire_issued(&mut self, now: Timestamp) -> usize {
        self.issuer.expire_all(&mut self.access, now)
    }

    /// Removes the next change that is due by `now`, with its time.
    pub fn next_due(&mut self, now: Timestamp) -> Option<(Timestamp, Effect)> {
        let first = self.due.first_entry().filter(|first| first.key().0 <= now)?;
        Some((first.key().0, first.remove()))
    }

    /// Schedules a change.
    pub fn schedule(&mut self, at: Timestamp, effect: Effect) {
        self.scheduled += 1;
        self.due.insert((at, self.scheduled), effect);
    }

    /// A new request ID, in the form of the real ones: an upper-case UUID.
    pub fn request_id(&mut self) -> String {
        let hex = format!("{:032X}", self.rng.random::<u128>());
        [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
    }
}
