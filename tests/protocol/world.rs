//! The state of the model: the cloud, the Secret, the object, the lease, and the replicas with what each remembers.

use std::sync::Arc;

use vncpassword::{
    api::VncPasswordStatus,
    rotation::{
        contents::{Contents, Record, SecretRead},
        facts::{Announcement, Attempt, Purpose, RUNNING, SecretVersion, SeenInstance},
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
    pub secret: Option<Arc<Secret>>,
    pub object: Arc<Object>,
    /// Which replica leads.
    pub leader: usize,
    pub replicas: Vec<Replica>,
    pub left: Budget,
    /// Passwords drawn, writers named, Secrets made so far.
    pub drawn: u8,
    pub writers: u8,
    pub uids: u8,
    pub seen: Witness,
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
    /// What opens it after a restart, and whether that ends a person's excuse.
    pub pending: Option<(u8, Option<u8>)>,
    pub running: bool,
    pub started: i32,
    pub late: Vec<Late>,
}

/// A call that arrives later than its caller waited.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Late {
    pub value: u8,
    pub signed: i32,
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
    pub version: u16,
    pub rotate_at: Option<i32>,
    pub status: Kept<VncPasswordStatus>,
}

/// A process of the operator.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Replica {
    /// Names it in records.
    pub writer: u8,
    /// What its watches have seen, or its own writes have returned.
    pub secret: Option<Version>,
    pub object: Arc<Object>,
    /// Only where the check shows stale reads: the Secret behind `secret`.
    pub stale: Option<Arc<Secret>>,
    pub examined: Option<Version>,
    pub unsettled: Vec<(u8, i32)>,
    pub look: Option<Look>,
    pub look_due: Option<i32>,
    pub wake: Option<i32>,
    /// A pass is due now.
    pub woken: bool,
    /// A call whose outcome could not be written yet.
    pub unrecorded: Option<Called>,
    pub pass: Option<Box<Pass>>,
}

/// A pass under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pass {
    pub object: Arc<Object>,
    pub secret: Option<Version>,
    /// `Some(None)`: there is no Secret.
    #[allow(clippy::option_option, reason = "not read, and read without finding one, differ")]
    pub read: Option<Option<Arc<Secret>>>,
    pub signed: i32,
    pub drawn: Option<u8>,
    pub announced: Option<Said>,
    pub rebooted: Option<Heard>,
    pub attempt: Option<Called>,
    pub looked: bool,
    pub conflicts: u8,
    /// The lease was checked, and a write may be on its way.
    pub cleared: bool,
    /// The lease was checked, and the call is on its way out.
    pub calling: Option<Calling>,
}

/// What goes out next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Calling {
    Modify,
    Reboot,
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
            Self::Refused(code) => Reply::Refused { code: code.into(), http_status: 403, request_id: None },
            Self::Nothing => Reply::Unknown,
        }
    }
}

/// A call that was made.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Called {
    pub version: Version,
    pub value: u8,
    pub rotation: Option<Arc<str>>,
    pub tries: u8,
    pub at: i32,
    pub heard: Heard,
}

impl Called {
    pub fn attempt(&self) -> Attempt {
        Attempt {
            purpose: Purpose::Rotate,
            version: named(self.version),
            value: fingerprint(self.value),
            rotation: self.rotation.as_deref().map(Into::into),
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
    pub fn seen(&self, optimized: bool) -> SeenInstance {
        SeenInstance {
            status: if self.running { RUNNING } else { "Stopped" }.into(),
            io_optimized: Some(optimized),
            start_time: Some(at(self.started.div_euclid(60) * 60)),
            locked: false,
        }
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

impl World {
    /// Whether the Secret holds the password that opens the console.
    pub fn known(&self) -> bool {
        let Some(console) = self.cloud.console else { return true };
        let holds =
            |secret: &Arc<Secret>| secret.current == Value::Is(console) || secret.next == Value::Is(console);
        self.seen.excused || self.secret.as_ref().is_some_and(holds)
    }
}
