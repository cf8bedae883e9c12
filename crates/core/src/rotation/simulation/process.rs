//! What the operator's process knows of the instance beyond the object itself: calls of unknown outcome, the order of
//! accepted calls, and the rival, another object that names the same instance.

use jiff::Timestamp;

use crate::rotation::{
    facts::{Fingerprint, Unsettled},
    settled_at,
    tests::SETTLE,
};

/// The uid of nobody: of another object's call in a former process.
pub const NOBODY: u32 = 0;

/// How long a call of unknown outcome is remembered after it can no longer arrive.
const KEPT: i64 = 3600;

/// What an object did in the process before this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Before {
    /// It is younger than this process.
    #[default]
    New,
    /// It made no calls lately.
    StoodBack,
    /// It may have made a call just before that process ended.
    Acted,
}

/// Another object at the same instance, as far as it matters to the first.
#[derive(Debug, Default)]
pub struct Rival {
    pub uid: u32,
    pub before: Before,
    /// Place of its last accepted call in this process; 0: none.
    order: u64,
    /// What its status says.
    recorded: Status,
    /// What it will say when it is written next.
    status: Status,
}

/// What the status of a rival tells the next process.
#[derive(Clone, Copy, Debug, Default)]
struct Status {
    called: bool,
    /// Its value is in effect, and no call of it may still arrive.
    in_sync: bool,
    /// When its last call was accepted.
    accepted_at: Option<Timestamp>,
}

/// The memory of one process. It ends with the process.
#[derive(Debug)]
pub struct Process {
    pub started: Timestamp,
    calls: Vec<(u32, Unsettled)>,
    /// Accepted calls so far.
    accepted: u64,
    /// Place of the last accepted call of the object.
    own: u64,
    /// Place of the last accepted call of an object that is gone.
    departed: u64,
    /// What the object did before.
    pub before: Before,
}

impl Process {
    pub fn new(started: Timestamp, before: Before) -> Self {
        Self { started, calls: Vec::new(), accepted: 0, own: 0, departed: 0, before }
    }

    /// Until when a call of a process before this one may arrive.
    fn before_settled(&self) -> Timestamp {
        settled_at(self.started, SETTLE)
    }

    /// Notes a call of unknown outcome.
    pub fn unsettle(&mut self, by: u32, value: Option<Fingerprint>, until: Timestamp) {
        self.calls.push((by, Unsettled { value, until, by_other: false }));
    }

    /// Whether a call of unknown outcome may still arrive.
    pub fn is_unsettled(&self, now: Timestamp) -> bool {
        self.calls.iter().any(|(_, unsettled)| unsettled.until > now)
    }

    /// The calls of unknown outcome as the object with that uid sees them.
    pub fn unsettled(&self, uid: u32, rival: Option<&Rival>, now: Timestamp) -> Vec<Unsettled> {
        let kept = |until: Timestamp| until.as_second() + KEPT > now.as_second();
        let calls = self.calls.iter().filter(|(_, unsettled)| kept(unsettled.until));
        let calls = calls.map(|(by, unsettled)| Unsettled { by_other: *by != uid, ..unsettled.clone() });
        let until = self.before_settled();
        let others_acted = rival.is_some_and(|rival| rival.before == Before::Acted);
        let inherited = (others_acted && self.before != Before::Acted && until > now).then_some(Unsettled {
            value: None,
            until,
            by_other: true,
        });
        calls.chain(inherited).collect()
    }

    /// A call of the object was accepted.
    pub fn accepted(&mut self) {
        self.accepted += 1;
        self.own = self.accepted;
    }

    /// Whether the rival's call was accepted after the object's last one, which was applied at that time.
    pub fn superseded(&self, rival: Option<&Rival>, applied: Option<Timestamp>) -> bool {
        let later = |rival: &Rival| {
            let by_status = self.own == 0 && rival.order == 0 && applied.is_some();
            rival.order > self.own || by_status && rival.recorded.accepted_at > applied
        };
        self.departed > self.own || rival.is_some_and(later)
    }

    /// The object is gone. `unsettled_until`: what its status says.
    pub fn deleted(&mut self, uid: u32, unsettled_until: Option<Timestamp>, claimed: bool, now: Timestamp) {
        self.note_departure(uid, unsettled_until, self.before, now);
        self.departed = if claimed { self.departed.max(self.own) } else { 0 };
        self.own = 0;
        self.before = Before::New;
    }

    /// The rival is gone.
    pub fn rival_deleted(&mut self, rival: &Rival, claimed: bool, now: Timestamp) {
        self.note_departure(rival.uid, None, rival.before, now);
        self.departed = if claimed { self.departed.max(rival.order) } else { 0 };
    }

    fn note_departure(&mut self, uid: u32, until: Option<Timestamp>, before: Before, now: Timestamp) {
        let before = (before == Before::Acted).then(|| self.before_settled());
        if let Some(until) = until.max(before).filter(|until| *until > now) {
            self.unsettle(uid, None, until);
        }
    }

    /// A call of the rival was accepted. `gone`: the rival was deleted during the call.
    pub fn rival_accepted(&mut self, rival: &mut Rival, gone: bool, now: Timestamp) {
        self.accepted += 1;
        if gone {
            self.departed = self.accepted;
        }
        rival.order = self.accepted;
        rival.status = Status { called: true, in_sync: true, accepted_at: Some(now) };
    }

    /// The outcome of a call of the rival is unknown.
    pub fn rival_lost(&mut self, rival: &mut Rival, value: Fingerprint, now: Timestamp) {
        self.unsettle(rival.uid, Some(value), settled_at(now, SETTLE));
        rival.status = Status { called: true, in_sync: false, ..rival.status };
    }

    /// A process that has just started meets the rival of the former one. `acts`: the rival does not stand back.
    pub fn meet(&mut self, rival: &mut Rival, acts: bool) {
        rival.status = rival.recorded;
        rival.before = if rival.recorded.called && acts { Before::Acted } else { Before::StoodBack };
        rival.order = 0;
        // The rival answers for itself as the object does.
        if !rival.recorded.in_sync || !acts {
            self.unsettle(rival.uid, None, self.before_settled());
        }
    }
}

impl Rival {
    pub fn new(uid: u32) -> Self {
        Self { uid, ..Self::default() }
    }

    /// It is about to send another value than before: it is not in sync, and anybody sees that.
    pub fn begin(&mut self) {
        self.recorded.in_sync = false;
    }

    /// Its status is written.
    pub fn record(&mut self) {
        self.recorded = self.status;
    }
}
