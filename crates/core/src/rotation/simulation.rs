//! Random histories of one object against a small cloud: edits, lost and late calls, refusals, restarts of the
//! operator and of the instance, deletions, also during a call, and a rival: another object that takes over the instance
//! and gives it up again. Whatever happened, when faults stop the console opens with the Secret's value. At no time does
//! the object claim to be at rest for a value that another call has replaced or may still replace.

mod process;

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use self::process::{Before, NOBODY, Process, Rival};
use super::{
    Decision, Password, Verdict,
    contents::{Contents, Slot},
    decide, doubt,
    facts::{
        Attempt, FingerprintKey, Found, History, Look, Observed, Owner, Purpose, RUNNING, RunningRefusals,
        SecretRead, SecretVersion, SeenInstance,
    },
    outcome::{Class, Reply, classify},
    settled_at,
    tests::SETTLE,
};
use crate::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};

/// A late call arrives within the validity of its signature.
const LATEST: i64 = 900;

/// The first value that only the rival sends.
const RIVALS: u8 = 3;

/// What happens to the world.
#[derive(Clone, Debug)]
enum Happens {
    /// Somebody writes one of three values.
    Edit(u8),
    /// Somebody writes a label.
    Label,
    /// Somebody writes what is no password.
    Spoil,
    /// So many seconds pass.
    Pass(u16),
    /// The next call meets this fate.
    Fate(Fate),
    /// The operator is restarted.
    Restart,
    /// The instance is stopped, or started again.
    Power,
    /// The object is deleted. `finalized`: first it is kept for a while by somebody else's finalizer.
    Delete { finalized: bool },
    /// The object is deleted during its next call: the reply finds nobody.
    DeleteInCall,
    /// The object is created, if there is none.
    Create,
    /// The rival acts on the instance from now on, and the object does not.
    TakeOver(Holds),
    /// The rival sends one of its own values.
    RivalCalls {
        value: u8,
        fate: Option<Fate>,
        /// The rival is deleted during the call.
        gone: bool,
        /// The operator is killed after the call.
        killed: Option<Killed>,
    },
    /// The object acts again. `gone`: the rival is deleted.
    GiveUp { gone: bool },
    /// An object of another identity contests the claim of this one.
    Contest,
}

/// When the operator is killed, seen from a call of the rival.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Killed {
    /// Before the rival's status names the call.
    Unrecorded,
    /// After that, and before the object is reconciled.
    Recorded,
}

/// What keeps the object from its instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    /// It acts.
    Nothing,
    /// The rival owns the instance.
    Owner,
    /// A person suspended it, so that a rival of another identity may act.
    Suspended,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    Alive,
    /// It has a `deletionTimestamp`.
    Deleting,
    Gone,
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    LostBefore,
    LostAfter,
    /// The reply is lost, and the call arrives so many seconds later.
    Late(u16),
    Refused(&'static str),
    NotSent,
}

#[allow(clippy::struct_excessive_bools, reason = "facts of the world, each for itself")]
struct World {
    now: i64,
    value: Option<u8>,
    version: u32,
    console: Option<u8>,
    /// Waits for a restart.
    pending: Option<u8>,
    running: bool,
    started: i64,
    optimized: bool,
    fates: Vec<Fate>,
    late: Vec<(i64, u8)>,
    uid: u32,
    /// Of all objects so far.
    uids: u32,
    created: i64,
    generation: i64,
    life: Life,
    holds: Holds,
    contested: bool,
    delete_in_call: bool,
    rival: Option<Rival>,
    process: Process,
    /// The object was there when the process started, and has not been reconciled since.
    inherited: bool,
    /// Until then the rival's calls may arrive that no process knows of.
    forgotten: i64,
    status: VncPasswordStatus,
    history: History,
    wake: Option<i64>,
    look: Option<Look>,
    look_due: Option<i64>,
    key: FingerprintKey,
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn second(at: Timestamp) -> i64 {
    at.as_second() - 1_800_000_000 + i64::from(at.subsec_nanosecond() > 0)
}

fn password(value: u8) -> Password {
    Password::parse(format!("Value{value}").as_bytes()).unwrap()
}

impl World {
    fn new(optimized: bool) -> Self {
        Self {
            now: 0,
            value: Some(0),
            version: 1,
            console: None,
            pending: None,
            running: true,
            started: -600,
            optimized,
            fates: Vec::new(),
            late: Vec::new(),
            uid: 1,
            uids: 1,
            created: 0,
            generation: 1,
            life: Life::Alive,
            holds: Holds::Nothing,
            contested: false,
            delete_in_call: false,
            rival: None,
            process: Process::new(at(0), Before::New),
            inherited: false,
            forgotten: 0,
            status: VncPasswordStatus::default(),
            history: History::default(),
            wake: Some(0),
            look: None,
            look_due: None,
            key: FingerprintKey::new(&[7; 64]),
        }
    }

    fn secret_version(&self) -> SecretVersion {
        SecretVersion { uid: "uid".into(), resource_version: self.version.to_string().into() }
    }

    fn observed(&self) -> Observed {
        let new = super::tests::new();
        let mut spec = (*new.spec).clone();
        spec.suspend = self.holds == Holds::Suspended;
        let owner = if self.holds == Holds::Owner { Owner::Other(None) } else { Owner::This };
        let mut history = self.history.clone();
        history.unsettled = self.process.unsettled(self.uid, self.rival.as_ref(), at(self.now));
        Observed {
            generation: self.generation,
            created: at(self.created),
            spec: Arc::new(spec),
            status: Arc::new(self.status.clone()),
            owner,
            superseded: self.superseded(),
            deleting: self.life == Life::Deleting,
            prove_claim: self.contested,
            secret: Some(self.secret_version()),
            history,
            look: self.look.clone(),
            jitter: 0.5,
            ..new
        }
    }

    fn superseded(&self) -> bool {
        let applied = self.status.applied.as_ref().map(|applied| applied.time.0);
        self.process.superseded(self.rival.as_ref(), applied)
    }

    fn read(&self) -> SecretRead {
        let current = match self.value {
            Some(value) => {
                let password = password(value);
                let print = self.key.fingerprint(&password);
                Slot::Valid(password, print)
            }
            None => Slot::Invalid,
        };
        let version = self.secret_version();
        let (next, record) = (Slot::Absent, None);
        let contents = Contents { version, current, next, record, closed: false, opened: false };
        SecretRead::Found(Box::new(contents))
    }

    /// One reconcile, to its end.
    fn run(&mut self) {
        if self.life == Life::Gone {
            return;
        }
        let inherited = std::mem::take(&mut self.inherited);
        if let Some(doubt) = doubt(&self.observed(), inherited, false, self.process.started, at(self.now)) {
            let by = if doubt.by_other { NOBODY } else { self.uid };
            self.process.unsettle(by, doubt.value, doubt.until);
        }
        let refusals = self.history.running_refusals;
        self.history.running_refusals =
            RunningRefusals::count(refusals, &self.status, self.look.as_ref(), at(self.now));
        let mut observed = self.observed();
        for _ in 0..8 {
            match decide(&observed, at(self.now)) {
                Decision::ReadCredentials => panic!("they are known"),
                Decision::ReadSecret => {
                    assert!(observed.read.is_none(), "the Secret is read once a pass");
                    observed.read = Some(self.read());
                }
                Decision::Send(purpose) => {
                    let tries = observed.attempt.as_ref().map_or(1, |attempt| attempt.tries + 1);
                    let delete = std::mem::take(&mut self.delete_in_call);
                    let uid = self.uid;
                    if delete {
                        self.delete();
                    }
                    let attempt = Attempt { superseded: observed.superseded, ..self.call(purpose, tries) };
                    let class = classify(&attempt.reply);
                    if class == Class::OutcomeUnknown {
                        let until = settled_at(at(self.now), SETTLE);
                        self.process.unsettle(uid, Some(attempt.value), until);
                    }
                    if delete {
                        return;
                    }
                    if class == Class::Accepted {
                        self.process.accepted();
                    }
                    observed.superseded &= class != Class::Accepted;
                    observed.attempt = Some(attempt);
                    observed.history.unsettled =
                        self.process.unsettled(self.uid, self.rival.as_ref(), at(self.now));
                }
                Decision::Rest(verdict) => return self.record(&observed, *verdict),
                decision => panic!("not for a user's Secret: {decision:?}"),
            }
        }
        panic!("a pass that does not end: {:#?}", self.status);
    }

    fn call(&mut self, purpose: Purpose, tries: u32) -> Attempt {
        let value = self.value.unwrap();
        let fate = self.fates.pop();
        let reply = self.reply(value, fate);
        let (version, value) = (self.secret_version(), self.key.fingerprint(&password(value)));
        Attempt {
            purpose,
            version,
            value,
            rotation: None,
            repeats: false,
            superseded: false,
            io_optimized: Some(self.optimized),
            look: self.look.clone(),
            all_classes: true,
            tries,
            at: at(self.now),
            reply,
        }
    }

    /// What the cloud does with a call, and what it answers.
    fn reply(&mut self, value: u8, fate: Option<Fate>) -> Reply {
        let refused = |code: &str| Reply::Refused {
            code: code.into(),
            http_status: 403,
            asks_to_wait: false,
            request_id: None,
        };
        match fate {
            Some(Fate::NotSent) => Reply::NotSent,
            Some(Fate::Refused(code)) => refused(code),
            Some(Fate::LostBefore) => Reply::Unknown,
            Some(Fate::Late(after)) => {
                self.late.push((self.now + i64::from(after) % LATEST, value));
                Reply::Unknown
            }
            _ if !self.running => refused("IncorrectInstanceStatus"),
            Some(Fate::LostAfter) => {
                self.take(value);
                Reply::Unknown
            }
            None => {
                self.take(value);
                Reply::Accepted { request_id: "R".into() }
            }
        }
    }

    fn take(&mut self, value: u8) {
        if self.optimized {
            self.console = Some(value);
        } else {
            self.pending = Some(value);
        }
    }

    fn record(&mut self, observed: &Observed, verdict: Verdict) {
        let flags = [ConditionType::Reconciling, ConditionType::Stalled];
        let flags = flags.iter().filter(|flag| verdict.status.condition(**flag).is_some()).count();
        assert!(flags <= 1, "{:#?}", verdict.status);
        for later in [verdict.wake].into_iter().flatten() {
            assert!(later > at(self.now), "woken at once, for ever: {later} {:#?}", verdict.status);
        }
        let read = observed.read.as_ref().and_then(SecretRead::version).cloned();
        if !verdict.deferred {
            self.history.examined = read.or(self.history.examined.take());
        }
        self.history.applied = verdict.applied_value.or(self.history.applied.take());
        self.status = verdict.status;
        self.wake = verdict.wake.map(second);
        self.look_due = verdict.look.map(second);
        if self.look_due.is_none() {
            self.look = None;
        }
    }

    /// Lets that much time pass, with all that falls due in it.
    fn pass(&mut self, seconds: i64) {
        let end = self.now + seconds;
        loop {
            let late = self.late.iter().map(|(due, _)| *due).min();
            let next = [self.wake, self.look_due, late].into_iter().flatten().min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            if late == Some(next) {
                let index = self.late.iter().position(|(due, _)| *due == next).unwrap();
                let (_, value) = self.late.swap_remove(index);
                if self.running {
                    self.take(value);
                }
                continue;
            }
            if self.look_due == Some(next) {
                self.look_due = None;
                let status = if self.running { RUNNING } else { "Stopped" };
                let start_time = Some(at(self.started.div_euclid(60) * 60));
                let seen = SeenInstance {
                    status: status.into(),
                    io_optimized: Some(self.optimized),
                    start_time,
                    locked: false,
                };
                self.look = Some(Look { at: at(self.now), found: Found::Seen(seen) });
            } else {
                self.wake = None;
            }
            self.run();
        }
        self.now = end;
    }

    fn happens(&mut self, event: &Happens) {
        match event {
            Happens::Edit(value) => self.write(Some(value % 3)),
            Happens::Label => self.write(self.value),
            Happens::Spoil => self.write(None),
            Happens::Pass(seconds) => self.pass(i64::from(*seconds)),
            Happens::Fate(fate) => self.fates.push(*fate),
            Happens::Restart => self.restart(),
            Happens::Power => {
                self.running = !self.running;
                if self.running {
                    self.started = self.now;
                    self.console = self.pending.take().or(self.console);
                }
            }
            Happens::Delete { finalized } => {
                if *finalized && self.life == Life::Alive {
                    self.life = Life::Deleting;
                    self.run();
                } else {
                    self.delete();
                }
            }
            Happens::DeleteInCall => self.delete_in_call = true,
            Happens::Create => self.create(),
            Happens::TakeOver(how) => {
                if self.rival.is_none() {
                    self.uids += 1;
                    self.rival = Some(Rival::new(self.uids));
                }
                self.held_by(*how);
            }
            Happens::RivalCalls { value, fate, gone, killed } => {
                self.rival_calls(RIVALS + value % 3, *fate, *gone, *killed);
            }
            Happens::GiveUp { gone } => {
                if *gone {
                    self.delete_rival();
                }
                self.held_by(Holds::Nothing);
            }
            Happens::Contest => {
                self.contested = true;
                self.run();
                self.contested = false;
            }
        }
    }

    /// The operator is killed and started again.
    fn restart(&mut self) {
        // R52: nobody but the process remembers a call of an object that is gone. If there is no other object to write it
        // down for, a restart forgets the call.
        while self.life == Life::Gone && self.process.is_unsettled(at(self.now)) {
            self.pass(60);
        }
        let status = &self.status;
        let called = status.request_id.is_some() || status.retry.is_some() || !status.conditions.is_empty();
        let stood_back = status.reason(ConditionType::Stalled) == Some(Reason::Conflict)
            || status.condition(ConditionType::Suspended).is_some();
        let before = match self.life {
            Life::Gone => Before::New,
            _ if called && !stood_back => Before::Acted,
            _ => Before::StoodBack,
        };
        // The same holds for calls of a rival that is gone, unless the condition Ready tells of them. The object settles all
        // the same, but it is Ready meanwhile.
        let told = matches!(status.reason(ConditionType::Ready), Some(Reason::Conflict | Reason::Settling));
        if self.rival.is_none() && !told {
            self.forgotten = second(settled_at(at(self.now), SETTLE));
        }
        self.process = Process::new(at(self.now), before);
        if let Some(rival) = &mut self.rival {
            self.process.meet(rival, self.holds != Holds::Nothing);
        }
        self.history = History::default();
        self.look = None;
        self.look_due = None;
        self.inherited = self.life != Life::Gone;
        self.run();
    }

    fn delete(&mut self) {
        if self.life == Life::Gone {
            return;
        }
        let until = self.status.unsettled_until();
        self.process.deleted(self.uid, until, self.rival.is_some(), at(self.now));
        self.life = Life::Gone;
        self.delete_in_call = false;
        self.status = VncPasswordStatus::default();
        self.history = History::default();
        self.inherited = false;
        (self.wake, self.look, self.look_due) = (None, None, None);
    }

    fn create(&mut self) {
        if self.life != Life::Gone {
            return;
        }
        self.uids += 1;
        self.uid = self.uids;
        self.created = self.now;
        self.generation = 1;
        self.life = Life::Alive;
        self.history.untouched = true;
        self.run();
    }

    fn held_by(&mut self, holds: Holds) {
        self.generation += i64::from((self.holds == Holds::Suspended) != (holds == Holds::Suspended));
        self.holds = holds;
        self.run();
    }

    fn rival_calls(&mut self, value: u8, fate: Option<Fate>, gone: bool, killed: Option<Killed>) {
        if self.holds == Holds::Nothing || self.rival.is_none() {
            return;
        }
        let mut rival = self.rival.take().unwrap();
        rival.begin();
        if gone {
            self.process.rival_deleted(&rival, self.life != Life::Gone, at(self.now));
        }
        let reply = self.reply(value, fate);
        let now = at(self.now);
        match classify(&reply) {
            Class::Accepted => self.process.rival_accepted(&mut rival, gone, now),
            Class::OutcomeUnknown => {
                self.process.rival_lost(&mut rival, self.key.fingerprint(&password(value)), now);
            }
            _ => {}
        }
        if gone {
            self.held_by(Holds::Nothing);
            return;
        }
        if killed != Some(Killed::Unrecorded) {
            rival.record();
        }
        self.rival = Some(rival);
        if killed.is_some() { self.restart() } else { self.run() }
    }

    fn delete_rival(&mut self) {
        if let Some(rival) = self.rival.take() {
            self.process.rival_deleted(&rival, self.life != Life::Gone, at(self.now));
        }
    }

    /// Ready: then no value of the rival opens the console, waits for a restart or is on its way. If nothing more is to
    /// come besides, the value that was applied opens the console, and no call on its way brings another one.
    fn check(&self) {
        let status = &self.status;
        // An instance that is looked at at once is looked at in the same reconcile, and that writes the status.
        let looks = self.look_due.is_some_and(|due| due <= self.now);
        if self.life != Life::Alive || status.ready() != ConditionStatus::True || looks {
            return;
        }
        if status.retry.is_some() && self.now < self.forgotten {
            return;
        }
        for (what, value) in [("opens", self.console), ("waits for a restart", self.pending)] {
            assert!(value < Some(RIVALS), "the rival's value {value:?} {what}: {status:#?}");
        }
        for (due, value) in &self.late {
            assert!(*value < RIVALS, "the rival's value {value} arrives at {due}: {status:#?}");
        }
        if status.retry.is_some() {
            return;
        }
        // The Secret of an object that does not act may say something else by now.
        let current = status.applied.as_ref().is_some_and(|applied| self.secret_version().is(applied));
        if current {
            assert_eq!(self.console, self.value, "{status:#?}");
        }
        for (due, value) in self.late.iter().filter(|_| current) {
            assert!(self.value == Some(*value), "value {value} arrives at {due}: {status:#?}");
        }
    }

    fn write(&mut self, value: Option<u8>) {
        self.value = value;
        self.version += 1;
        self.run();
    }

    /// Faults stop, a person makes things right, and time passes.
    fn calm(&mut self, rival_goes: bool) {
        self.fates.clear();
        self.delete_in_call = false;
        if self.life == Life::Deleting {
            self.delete();
        }
        self.create();
        self.happens(&Happens::GiveUp { gone: rival_goes });
        if !self.running {
            self.happens(&Happens::Power);
        }
        if self.value.is_none() {
            self.write(Some(1));
        }
        self.pass(3 * 960);
        if !self.optimized {
            // A person reads RebootRequired and restarts the instance.
            self.pass(60);
            self.happens(&Happens::Power);
            self.happens(&Happens::Power);
            self.pass(3 * 960);
        }
    }
}

fn history() -> impl Strategy<Value = Vec<Happens>> {
    let codes = prop::sample::select(vec![
        "IncorrectInstanceStatus",
        "InstanceNotReady",
        "Throttling",
        "Forbidden.RAM",
        "InvalidInstanceId.NotFound",
        "InvalidSecurityToken.Expired",
        "SignatureNonceUsed",
    ]);
    let fate = prop_oneof![
        Just(Fate::LostBefore),
        Just(Fate::LostAfter),
        any::<u16>().prop_map(Fate::Late),
        codes.prop_map(Fate::Refused),
        Just(Fate::NotSent),
    ];
    let killed =
        prop::sample::select(vec![None, None, None, None, Some(Killed::Unrecorded), Some(Killed::Recorded)]);
    let event = prop_oneof![
        3 => any::<u8>().prop_map(Happens::Edit),
        1 => Just(Happens::Label),
        1 => Just(Happens::Spoil),
        4 => (0_u16..1200).prop_map(Happens::Pass),
        5 => fate.clone().prop_map(Happens::Fate),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Power),
        1 => any::<bool>().prop_map(|finalized| Happens::Delete { finalized }),
        1 => Just(Happens::DeleteInCall),
        2 => Just(Happens::Create),
        2 => prop::sample::select(vec![Holds::Owner, Holds::Suspended]).prop_map(Happens::TakeOver),
        3 => (any::<u8>(), prop::option::of(fate), prop::bool::weighted(0.1), killed)
            .prop_map(|(value, fate, gone, killed)| Happens::RivalCalls { value, fate, gone, killed }),
        2 => any::<bool>().prop_map(|gone| Happens::GiveUp { gone }),
        1 => Just(Happens::Contest),
    ];
    prop::collection::vec(event, 0..32)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.max(5000), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn when_faults_stop_the_console_opens_with_the_secrets_value(
        optimized: bool, rival_goes: bool, events in history()
    ) {
        let mut world = World::new(optimized);
        world.pass(1);
        for event in &events {
            world.happens(event);
            world.check();
        }
        world.calm(rival_goes);
        prop_assert_eq!(world.console, world.value, "{:#?}", world.status);
        prop_assert_eq!(world.status.ready(), ConditionStatus::True, "{:#?}", world.status);
        prop_assert!(world.status.condition(ConditionType::Reconciling).is_none(), "{:#?}", world.status);
        prop_assert!(world.status.retry.is_none(), "{:#?}", world.status);
        prop_assert!(world.wake.is_none() && world.look_due.is_none());
    }
}
