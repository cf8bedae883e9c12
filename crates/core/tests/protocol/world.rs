//! The state of the model: the cloud, the Secret, the object, the lease, and the replicas with what each remembers.

use std::sync::Arc;

use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        contents::{Contents, Record, SecretRead},
        facts::{self, Announcement, Attempt, Found, Purpose, RUNNING, SecretVersion, SeenInstance},
        outcome::Reply,
    },
};

use super::{
    setting::Budget,
    values::{Kept, Value, at, fingerprint},
};

/// Everything.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct World {
    pub now: i32,
    pub cloud: Cloud,
    /// The objects that name the instance, each with its Secret.
    pub places: Vec<Place>,
    /// Which replica leads.
    pub leader: usize,
    pub replicas: Vec<Replica>,
    pub left: Budget,
    /// Passwords drawn, writers named, Secrets and objects created so far.
    pub drawn: u8,
    pub writers: u8,
    pub uids: u8,
    pub seen: Witness,
}

/// The name of an object, and the name of its Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// `None`: it was deleted.
    pub object: Option<Arc<Object>>,
    pub secret: Option<Arc<Secret>>,
}

/// What the invariants need to know of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Witness {
    /// What a person did to the Secret so far.
    pub acts: u8,
    /// Whether a person's edit or deletion was not yet followed by an accepted call.
    pub excused: bool,
    /// Passwords that were drawn and written.
    pub begun: u8,
    /// Rotations asked for: the first, and each `rotate-at`.
    pub asked: u8,
    /// Restarts that were requested: for which rotation, when, and when the instance had been started.
    pub requests: Vec<(Arc<str>, i32, i32)>,
    /// Somebody requested a restart that no rotation asked for.
    pub unasked_restart: bool,
    /// A call was made by a replica that did not hold the lease when it began.
    pub intruded: bool,
}

/// The instance, and calls on their way to it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cloud {
    /// What opens the console; `None`: what nobody knows.
    pub console: Option<u8>,
    /// The uid of the object whose call set that.
    pub by: u8,
    /// What opens it after a restart.
    pub pending: Option<Taken>,
    pub running: bool,
    pub started: i32,
    pub late: Vec<Late>,
}

/// A password that the instance took.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Taken {
    pub value: u8,
    /// The uid of the object that sent it.
    pub by: u8,
    /// Where the call was answered: what a person had done when its value was read.
    pub replied: Option<u8>,
}

/// A call that arrives later than its caller waited.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Late {
    pub value: u8,
    pub signed: i32,
    /// The uid of the object that sent it.
    pub by: u8,
}

/// The Secret in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Secret {
    pub uid: u8,
    pub version: u16,
    pub current: Value,
    pub next: Value,
    pub previous: Value,
    pub record: Option<Kept<Record>>,
    /// What a person had done when it was written.
    pub acts: u8,
}

impl Secret {
    pub fn version(&self) -> Version {
        (self.uid, self.version)
    }

    /// As a GET shows it.
    pub fn read(&self) -> Contents {
        Contents {
            version: named(self.version()),
            current: self.current.slot(),
            next: self.next.slot(),
            record: self.record.as_ref().map(|record| (**record).clone()),
            closed: false,
            opened: false,
        }
    }
}

/// Uid and resourceVersion.
pub type Version = (u8, u16);

/// A version as decisions know it.
pub fn named((uid, version): Version) -> SecretVersion {
    SecretVersion { uid: format!("u{uid}").into(), resource_version: version.to_string().into() }
}

/// The numbers of a version.
pub fn numbered(version: &SecretVersion) -> Version {
    (version.uid[1..].parse().unwrap(), version.resource_version.parse().unwrap())
}

/// The `VncPassword` in one version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Object {
    pub uid: u8,
    pub created: i32,
    pub version: u16,
    pub generation: u8,
    pub suspended: bool,
    pub rotate_at: Option<i32>,
    pub status: Kept<VncPasswordStatus>,
}

/// A process of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    /// Names it in records.
    pub writer: u8,
    /// For each object.
    pub memories: Vec<Memory>,
    /// Calls of unknown outcome at the instance.
    pub calls: Vec<Noted>,
    /// The place of the last accepted call of an object that is gone, among all accepted calls; 0: none.
    pub departed: u8,
    /// When it began, where there is more than one object.
    pub term_start: Option<i32>,
}

/// A call of unknown outcome, as a process remembers it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Noted {
    /// The uid of the object that it was made for.
    pub by: u8,
    /// `None`: it may be any.
    pub value: Option<u8>,
    pub until: i32,
}

/// What a process knows of one object and its Secret, and what it remembers of the object.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub struct Memory {
    /// What the watches have seen, or own writes have returned.
    pub object: Option<Arc<Object>>,
    pub secret: Option<Version>,
    /// The Secret that the watch reported last. Differs from `secret` only where a rule is taken out.
    pub watched: Option<Version>,
    /// Only where the check shows stale reads: the Secret behind `secret`.
    pub stale: Option<Arc<Secret>>,
    /// The applied version and its value.
    pub applied: Option<(Version, u8)>,
    pub examined: Option<Version>,
    /// This process has known the object since it was created, and has made no call for it.
    pub untouched: bool,
    /// A former process may have acted for it, and this one has not yet.
    pub inherited: bool,
    pub claim: Claim,
    pub look: Option<Look>,
    pub look_due: Option<i32>,
    pub wake: Option<i32>,
    /// A pass is due now.
    pub woken: bool,
    /// A pass is due when no other object acts at the instance.
    pub busy: bool,
    /// A call whose outcome could not be written yet.
    pub unrecorded: Option<Called>,
    pub pass: Option<Box<Pass>>,
}

/// What a process knows of an object's claim to the instance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Claim {
    /// The place of its last accepted call among all that this process made at the instance; 0: none.
    pub order: u8,
    /// Its status named an accepted call when this process began.
    pub hint: bool,
    /// An object of another identity contends for the instance.
    pub contested: bool,
    /// When to prove the claim again after a call without an answer.
    pub prove_at: Option<i32>,
    /// Until when a call that a former process made for it may arrive.
    pub before: Option<i32>,
}

/// How an attempt to prove a claim stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Proof {
    Pending,
    Unanswered,
    Failed,
}

/// A pass under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub struct Pass {
    pub object: Arc<Object>,
    pub secret: Option<Version>,
    /// `Some(None)`: there is no Secret.
    #[allow(clippy::option_option, reason = "not read, and read without finding one, differ")]
    pub read: Option<Option<Arc<Secret>>>,
    pub view: View,
    pub signed: i32,
    pub drawn: Option<u8>,
    pub announced: Option<Said>,
    pub rebooted: Option<Heard>,
    pub attempt: Option<Called>,
    pub looked: bool,
    pub conflicts: u8,
    /// The lease was checked, and a write may be on its way.
    pub cleared: bool,
    /// No other object may act at the instance before this pass ends.
    pub turn: bool,
    /// How its attempt to prove the object's claim stands, where it makes one.
    pub proof: Option<Proof>,
    /// The lease was checked, and the call is on its way out.
    pub calling: Option<Calling>,
    /// The Secret was written, and the reply is on its way.
    pub replying: Option<Replying>,
}

/// A write of the Secret whose reply is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replying {
    pub secret: Arc<Secret>,
    /// The watch has reported since that this Secret was deleted.
    pub deleted: bool,
}

/// What a pass knows of its object's memory and of other objects, since it began or took its turn at the instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub struct View {
    pub applied: Option<(Version, u8)>,
    pub examined: Option<Version>,
    pub untouched: bool,
    /// Another object owns the instance.
    pub kept_out: bool,
    pub superseded: bool,
    /// The object is to prove its claim.
    pub prove_claim: bool,
    pub calls: Vec<Noted>,
}

/// What goes out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calling {
    Modify(Why),
    Reboot,
}

/// Why a password is sent, hashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Why {
    Deliver,
    Enforce,
    Settle,
    Rotate,
}

impl Why {
    pub fn of(purpose: Purpose) -> Self {
        match purpose {
            Purpose::Deliver => Self::Deliver,
            Purpose::Enforce => Self::Enforce,
            Purpose::Settle => Self::Settle,
            Purpose::Rotate => Self::Rotate,
        }
    }

    pub fn purpose(self) -> Purpose {
        match self {
            Self::Deliver => Purpose::Deliver,
            Self::Enforce => Purpose::Enforce,
            Self::Settle => Purpose::Settle,
            Self::Rotate => Purpose::Rotate,
        }
    }
}

/// An announcement, hashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    FirstPassword,
    Reboot,
}

impl Said {
    pub fn of(announcement: Announcement) -> Self {
        match announcement {
            Announcement::FirstPassword => Self::FirstPassword,
            Announcement::Reboot => Self::Reboot,
        }
    }

    pub fn announcement(self) -> Announcement {
        match self {
            Self::FirstPassword => Announcement::FirstPassword,
            Self::Reboot => Announcement::Reboot,
        }
    }
}

/// A reply, hashable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    Accepted,
    Refused(&'static str),
    Nothing,
}

impl Heard {
    pub fn reply(self) -> Reply {
        match self {
            Self::Accepted => Reply::Accepted { request_id: "R".into() },
            Self::Refused(code) => {
                Reply::Refused { code: code.into(), http_status: 403, asks_to_wait: false, request_id: None }
            }
            Self::Nothing => Reply::Unknown,
        }
    }
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Called {
    pub why: Why,
    pub version: Version,
    pub value: u8,
    pub rotation: Option<Arc<str>>,
    pub repeats: bool,
    pub superseded: bool,
    pub optimized: Option<bool>,
    pub look: Option<Look>,
    pub tries: u8,
    pub at: i32,
    pub heard: Heard,
}

impl Called {
    /// `optimized`: whether the instance is.
    pub fn attempt(&self, optimized: bool) -> Attempt {
        Attempt {
            purpose: self.why.purpose(),
            version: named(self.version),
            value: fingerprint(self.value),
            rotation: self.rotation.as_deref().map(Into::into),
            repeats: self.repeats,
            superseded: self.superseded,
            io_optimized: self.optimized,
            look: self.look.as_ref().map(|look| look.shown(optimized)),
            all_classes: true,
            tries: self.tries.into(),
            at: at(self.at),
            reply: self.heard.reply(),
        }
    }
}

/// A look at the instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Look {
    pub at: i32,
    pub running: bool,
    pub started: i32,
}

impl Look {
    /// As decisions see it.
    pub fn shown(&self, optimized: bool) -> facts::Look {
        let seen = SeenInstance {
            status: if self.running { RUNNING } else { "Stopped" }.into(),
            io_optimized: Some(optimized),
            start_time: Some(at(self.started.div_euclid(60) * 60)),
            locked: false,
        };
        facts::Look { at: at(self.at), found: Found::Seen(seen) }
    }
}

impl Pass {
    /// The Secret as this pass read it.
    pub fn secret_read(&self) -> Option<SecretRead> {
        self.read.as_ref().map(|read| match read {
            None => SecretRead::Missing,
            Some(secret) => SecretRead::Found(Box::new(secret.read())),
        })
    }
}

impl Place {
    /// Whether the Secret holds a password, in effect or on its way.
    pub fn holds(&self, value: u8) -> bool {
        let holds =
            |secret: &Arc<Secret>| secret.current == Value::Is(value) || secret.next == Value::Is(value);
        self.secret.as_ref().is_some_and(holds)
    }

    pub fn uid(&self) -> Option<u8> {
        self.object.as_ref().map(|object| object.uid)
    }

    pub fn version(&self) -> Option<Version> {
        self.secret.as_ref().map(|secret| secret.version())
    }
}

impl Memory {
    /// Nothing is known.
    pub fn empty() -> Self {
        Self {
            object: None,
            secret: None,
            watched: None,
            stale: None,
            applied: None,
            examined: None,
            untouched: false,
            inherited: false,
            claim: Claim::default(),
            look: None,
            look_due: None,
            wake: None,
            woken: false,
            busy: false,
            unrecorded: None,
            pass: None,
        }
    }

    /// Whether that is still the object of that name.
    pub fn is_of(&self, object: &Object) -> bool {
        self.object.as_ref().is_some_and(|known| known.uid == object.uid)
    }
}
