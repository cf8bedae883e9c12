//! Random histories of one object against a small cloud: edits, lost and late calls, refusals, restarts of the
//! operator and of the instance. Whatever happened, when faults stop the console opens with the Secret's value.

use std::sync::Arc;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{
    Decision, Password, Verdict,
    contents::{Contents, Slot},
    decide, doubt,
    facts::{
        Attempt, FingerprintKey, Found, History, Look, Observed, Purpose, RUNNING, SecretRead, SecretVersion,
        SeenInstance, Unsettled,
    },
    outcome::{Class, Reply, classify},
    settled_at,
    tests::SETTLE,
};
use crate::api::{ConditionStatus, ConditionType, VncPasswordStatus};

/// A late call arrives within the validity of its signature.
const LATEST: i64 = 900;

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
        Observed {
            status: Arc::new(self.status.clone()),
            secret: Some(self.secret_version()),
            history: self.history.clone(),
            look: self.look.clone(),
            jitter: 0.5,
            ..super::tests::new()
        }
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

    /// One pass, to its end.
    fn run(&mut self) {
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
                    observed.attempt = Some(self.call(purpose, tries));
                    observed.history.unsettled.clone_from(&self.history.unsettled);
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
        let refused = |code: &str| Reply::Refused { code: code.into(), http_status: 403, request_id: None };
        let reply = match fate {
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
        };
        let (version, value) = (self.secret_version(), self.key.fingerprint(&password(value)));
        if classify(&reply) == Class::OutcomeUnknown {
            let until = settled_at(at(self.now), SETTLE);
            self.history.unsettled.push(Unsettled { value: Some(value), until, by_other: false });
        }
        Attempt {
            purpose,
            version,
            value,
            rotation: None,
            repeats: false,
            io_optimized: Some(self.optimized),
            look: self.look.clone(),
            all_classes: true,
            tries,
            at: at(self.now),
            reply,
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
            Happens::Restart => {
                self.history = History::default();
                self.look = None;
                self.look_due = None;
                self.history.unsettled.extend(doubt(&self.observed(), true, at(self.now), at(self.now)));
                self.run();
            }
            Happens::Power => {
                self.running = !self.running;
                if self.running {
                    self.started = self.now;
                    self.console = self.pending.take().or(self.console);
                }
            }
        }
    }

    /// Ready, and nothing more to come: then it is so.
    fn check(&self) {
        let status = &self.status;
        let current = status.applied.as_ref().is_some_and(|applied| self.secret_version().is(applied));
        if current && status.ready() == ConditionStatus::True && status.retry.is_none() {
            assert_eq!(self.console, self.value, "{status:#?}");
        }
    }

    fn write(&mut self, value: Option<u8>) {
        self.value = value;
        self.version += 1;
        self.run();
    }

    /// Faults stop, a person makes things right, and time passes.
    fn calm(&mut self) {
        self.fates.clear();
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
    let event = prop_oneof![
        3 => any::<u8>().prop_map(Happens::Edit),
        1 => Just(Happens::Label),
        1 => Just(Happens::Spoil),
        4 => (0_u16..1200).prop_map(Happens::Pass),
        5 => fate.prop_map(Happens::Fate),
        1 => Just(Happens::Restart),
        1 => Just(Happens::Power),
    ];
    prop::collection::vec(event, 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn when_faults_stop_the_console_opens_with_the_secrets_value(optimized: bool, events in history()) {
        let mut world = World::new(optimized);
        world.pass(1);
        for event in &events {
            world.happens(event);
            world.check();
        }
        world.calm();
        prop_assert_eq!(world.console, world.value, "{:#?}", world.status);
        prop_assert_eq!(world.status.ready(), ConditionStatus::True, "{:#?}", world.status);
        prop_assert!(world.status.condition(ConditionType::Reconciling).is_none(), "{:#?}", world.status);
        prop_assert!(world.status.retry.is_none(), "{:#?}", world.status);
        prop_assert!(world.wake.is_none() && world.look_due.is_none());
    }
}
