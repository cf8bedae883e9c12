//! What `decide` is told: the object, its Secret, its instance, and what this process remembers.

use std::{fmt, sync::Arc, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

pub use super::contents::SecretRead;
use super::{
    contents::{Contents, Slot, State},
    denied::GroupRetry,
    outcome::Reply,
    password::Password,
    refusal::RefusedWrite,
    rotate_at::RotateAt,
    schedule::{InvalidSchedule, Plan},
};
use crate::api::{Applied, VncPasswordSpec, VncPasswordStatus};

/// Everything that a decision rests on, except the time.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "facts, each for itself")]
pub struct Observed {
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// What is wanted.
    pub spec: Arc<VncPasswordSpec>,
    /// What was written last.
    pub status: Arc<VncPasswordStatus>,
    /// The region that calls go to; `None` where neither the object nor the operator names a valid one.
    pub region: Option<String>,
    /// `spec.enforceInterval`, parsed.
    pub enforce_interval: Option<Duration>,
    /// `spec.rotation` and `spec.window`, parsed.
    pub plan: Result<Plan, InvalidSchedule>,
    /// The annotation `vncpassword.dev/rotate-at`.
    pub rotate_at: RotateAt,
    /// A fraction from 0 up to 1 that is always the same for this object: it spreads turns.
    pub spread: f64,
    /// Whether this object may act on the instance.
    pub owner: Owner,
    /// The API has accepted another object's call for the instance since it last accepted one of this object: the value
    /// of this object is no longer in effect.
    pub superseded: bool,
    /// It has a `deletionTimestamp`: it starts nothing more.
    pub deleting: bool,
    /// Its claim to the instance rests on its status alone, and an object of another identity contends for the
    /// instance: it sends its value once.
    pub prove_claim: bool,
    /// Whether it is a fleet's child: it adopts no password.
    pub in_fleet: bool,
    /// Whether there is an identity to call the cloud with.
    pub access: Access,
    /// The Secret of `spec.credentialsRef` was changed after the last call failed.
    pub credentials_changed: bool,
    /// The Secret as the watch knows it; `None`: it knows of none.
    pub secret: Option<SecretVersion>,
    /// The Secret as just read; absent until asked for by [`Decision::ReadSecret`](super::Decision).
    pub read: Option<SecretRead>,
    /// What this process remembers.
    pub history: History,
    /// The newest look at the instance, where one was asked for.
    pub look: Option<Look>,
    /// When it is this object's turn to call; `None`: now.
    pub limiter_opens: Option<Timestamp>,
    /// It is not the account that has used up its calls but the object itself ([`super::allowance`]).
    pub paced: bool,
    /// Until when the operator leaves the Secret to another writer ([`super::competition`]).
    pub secret_paused_until: Option<Timestamp>,
    /// It stands in the limiter's line, which tells when its turn comes; what the status says of that is from when the wait
    /// began.
    pub in_line: bool,
    /// The same of RebootInstance.
    pub reboot_opens: Option<Timestamp>,
    /// A password and an id, drawn for this pass; absent until asked for by [`Decision::Draw`](super::Decision).
    pub drawn: Option<Drawn>,
    /// What this pass has written into the status before it acts.
    pub announced: Option<Announcement>,
    /// The reply to this pass's RebootInstance.
    pub rebooted: Option<Reply>,
    /// The API server did not take this pass's write of the Secret.
    pub refused: Option<RefusedWrite>,
    /// The call that was just made; absent until one was.
    pub attempt: Option<Attempt>,
    /// This process, in records that it writes: random.
    pub writer: Arc<str>,
    /// `--allow-reboot`.
    pub allow_reboot: bool,
    /// How long a call with an unknown outcome may still arrive.
    pub settle: Duration,
    /// A random fraction from 0 up to 1, for delays.
    pub jitter: f64,
}

impl Observed {
    /// The Secret as just read.
    #[must_use]
    pub fn contents(&self) -> Option<&Contents> {
        self.read.as_ref().and_then(SecretRead::contents)
    }

    /// The version of the Secret that counts: the one just read, else the watch's.
    #[must_use]
    pub fn current_version(&self) -> Option<&SecretVersion> {
        match &self.read {
            Some(SecretRead::Missing) => None,
            Some(read) => read.version().or(self.secret.as_ref()),
            None => self.secret.as_ref(),
        }
    }

    /// Whether the operator draws the passwords, or has one on its way still: that is finished first, and told.
    #[must_use]
    pub fn generated(&self) -> bool {
        let record = self.contents().and_then(|contents| contents.record_of(&self.spec.instance_id));
        let accepted = self.status.accepted.as_ref();
        self.spec.rotation.is_some()
            || record.is_some_and(|record| {
                record.state == State::Drawn
                    || accepted.is_some_and(|accepted| accepted.rotation == record.id)
            })
    }

    /// Whether a password takes effect immediately at the instance, as the status or the newest look says; `None`: not
    /// known.
    #[must_use]
    pub fn io_optimized(&self) -> Option<bool> {
        let known = self.status.instance.as_ref().and_then(|instance| instance.io_optimized);
        known.or_else(|| match &self.look.as_ref()?.found {
            Found::Seen(seen) => seen.io_optimized,
            Found::Unseen | Found::Refused | Found::Failed | Found::NoCredentials(_) => None,
        })
    }

    /// Until when another object's call may replace a value that the API accepted at that time. A time in the past counts
    /// as well: such a call may have arrived since. A late call of the same value does no harm.
    #[must_use]
    pub fn others_unsettled(&self, accepted: Timestamp, own: Option<Fingerprint>) -> Option<Timestamp> {
        let others = self.history.unsettled.iter().filter(|unsettled| unsettled.by_other);
        let differs = others.filter(|unsettled| unsettled.value.is_none() || unsettled.value != own);
        differs.map(|unsettled| unsettled.until).filter(|until| *until > accepted).max()
    }

    /// When the rotation that the annotation asks for is due.
    #[must_use]
    pub fn on_demand(&self, status: &VncPasswordStatus) -> Option<Timestamp> {
        let times =
            [status.last_rotation_time.as_ref(), status.applied.as_ref().map(|applied| &applied.time)];
        let last = times.into_iter().flatten().map(|time| time.0).max();
        let handled = status.last_handled_rotate_at.as_ref().map(|time| time.0);
        self.rotate_at.due(self.created, handled, last)
    }

    /// The value that a call for that purpose sends.
    #[must_use]
    pub fn to_send(&self, purpose: Purpose) -> Option<(&Password, Fingerprint)> {
        let contents = self.contents()?;
        let slot = match purpose {
            Purpose::Deliver | Purpose::Enforce | Purpose::Settle => &contents.current,
            Purpose::Rotate => &contents.next,
        };
        match slot {
            Slot::Valid(password, print) => Some((password, *print)),
            Slot::Absent | Slot::Invalid => None,
        }
    }
}

/// Drawn from the system's generator.
#[derive(Clone, Debug)]
pub struct Drawn {
    /// Names a rotation.
    pub id: String,
    /// Holds upper case, lower case and digits.
    pub password: Password,
}

/// What is said in the status before it is done, so that no other process does it as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Announcement {
    /// The first password of the object is drawn.
    FirstPassword,
    /// The instance is restarted.
    Reboot,
}

/// Who acts on the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This object.
    This,
    /// Another object; named only where it is in the same namespace.
    Other(Option<String>),
    /// This object, but another one generates into the same key of the Secret.
    OtherOfSecret(String),
}

/// Whether there is an identity to call the cloud with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// There is one.
    Granted,
    /// The Secret of `spec.credentialsRef` was not read in its present version:
    /// [`Decision::ReadCredentials`](super::Decision) brings one of the others.
    Unread,
    /// It takes the operator's own identity, which this namespace may not use.
    AmbientDenied,
    /// There is no such Secret.
    Missing,
    /// The operator may not read it.
    Forbidden,
    /// It cannot be used; the text tells why, and nothing of what was found.
    Unusable(Arc<str>),
}

/// Which Secret, in which version.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SecretVersion {
    /// `metadata.uid`.
    pub uid: Arc<str>,
    /// `metadata.resourceVersion`.
    pub resource_version: Arc<str>,
}

impl SecretVersion {
    /// Whether this is the version that `status.applied` names.
    #[must_use]
    pub fn is(&self, applied: &Applied) -> bool {
        *self.uid == *applied.secret_uid && *self.resource_version == *applied.secret_resource_version
    }

    /// Whether this is an older version of the same Secret. Versions are comparable numbers (Kubernetes 1.35, and
    /// in fact ever since); what is no number is not older.
    #[must_use]
    pub fn is_older_than(&self, other: &Self) -> bool {
        let number = |version: &Self| version.resource_version.parse::<u128>().ok();
        self.uid == other.uid && number(self).zip(number(other)).is_some_and(|(this, other)| this < other)
    }
}

/// Recognises a value that was seen before, without keeping it: an HMAC under a key of this process.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// A random key that lives in this process's memory only, overwritten on drop.
pub struct FingerprintKey(Hmac<Sha256>);

impl FingerprintKey {
    /// Takes 64 random bytes: one block of the hash.
    #[must_use]
    pub fn new(bytes: &[u8; 64]) -> Self {
        Self(Hmac::new(bytes.into()))
    }

    /// The fingerprint of a password.
    #[must_use]
    pub fn fingerprint(&self, password: &Password) -> Fingerprint {
        let mut mac = self.0.clone();
        mac.update(password.expose().as_bytes());
        Fingerprint(mac.finalize().into_bytes().into())
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Fingerprint(******)")
    }
}

/// What this process remembers of the object and of its instance.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// The applied version and its value, where this process has itself seen it.
    pub applied: Option<(SecretVersion, Fingerprint)>,
    /// The version that was read last.
    pub examined: Option<SecretVersion>,
    /// This process has known the object since it was made, and has made no call for it.
    pub untouched: bool,
    /// The API server has refused to create the Secret, and this process has found none and written none since.
    pub creation_refused: bool,
    /// Refusals while the instance is Running; `None`: none since the count began anew.
    pub running_refusals: Option<RunningRefusals>,
    /// Values that may still reach the instance through a call whose outcome is unknown.
    pub unsettled: Vec<Unsettled>,
    /// The annotation `rotate-at` is due, and no call was made for it yet.
    pub rotate_at_is_new: bool,
    /// Whether it is tried among those that lack the same right; `None`: it lacks none that others may lack too.
    pub group_retry: Option<GroupRetry>,
}

/// Refusals because of the instance's state, each followed by an instance poll that shows Running. They count from the
/// last accepted call, the last reply of another class, or the last poll that shows another state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunningRefusals {
    /// How many.
    pub count: u32,
    /// When the first of them came.
    pub first: Timestamp,
    /// When the last of them came.
    pub last: Timestamp,
}

/// A value that a late call may still bring to the instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Which value; `None` where a former process or a former owner may have sent one.
    pub value: Option<Fingerprint>,
    /// Until when.
    pub until: Timestamp,
    /// Another object made the call, or may have made it.
    pub by_other: bool,
}

/// One look at the instance.
#[derive(Clone, Debug, PartialEq)]
pub struct Look {
    /// When it was taken.
    pub at: Timestamp,
    /// What it showed.
    pub found: Found,
}

/// What a look showed.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// The instance.
    Seen(SeenInstance),
    /// Nothing: no such instance, or no right to see it. The API does not tell these apart.
    Unseen,
    /// The API refused the look; the call itself will tell why.
    Refused,
    /// There are no credentials to look with, or they are not accepted.
    NoCredentials(Reply),
    /// The API did not answer, or not usefully.
    Failed,
}

/// An instance as DescribeInstances shows it.
#[derive(Clone, Debug, PartialEq)]
pub struct SeenInstance {
    /// `Pending`, `Starting`, `Running`, `Stopping` or `Stopped`.
    pub status: String,
    /// Whether a password is in effect at once.
    pub io_optimized: Option<bool>,
    /// When it was started last, to the minute.
    pub start_time: Option<Timestamp>,
    /// Whether it is locked, for whatever reason (`security`, `financial` and others): it is not restarted then. From
    /// `OperationLocks`.
    pub locked: bool,
}

/// The status in which the API takes a password.
pub const RUNNING: &str = "Running";

/// Why the password is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// The value is new, or may be.
    Deliver,
    /// `spec.enforceInterval`: a value known to be accepted.
    Enforce,
    /// A call of another value may have arrived late: the newest once more.
    Settle,
    /// The value on its way in a Secret that the operator writes.
    Rotate,
}

/// A call that was made, and its reply.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// Why.
    pub purpose: Purpose,
    /// Which version was sent.
    pub version: SecretVersion,
    /// Which value was sent.
    pub value: Fingerprint,
    /// Of which rotation, by the record's id; `None`: the Secret is the user's.
    pub rotation: Option<String>,
    /// The record says that the value is the one in effect: sent once more, it is no rotation.
    pub repeats: bool,
    /// Another object's call had replaced what this object last had in effect.
    pub superseded: bool,
    /// Whether a password takes effect immediately at the instance, as it was known when the call was made. Renewed
    /// credentials void what is known of an instance, but not what this call was made with.
    pub io_optimized: Option<bool>,
    /// The look at the instance that the call was made with, for the same reason.
    pub look: Option<Look>,
    /// Whether the value holds upper case, lower case and digits.
    pub all_classes: bool,
    /// How many calls were made at once, this one included.
    pub tries: u32,
    /// When the reply came, or was given up.
    pub at: Timestamp,
    /// The reply.
    pub reply: Reply,
}
