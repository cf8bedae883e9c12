//! What one run of the check explores: the instance, the replicas, how long, and which faults how often.

use vncpassword_core::rotation::ownership::Relation;

use super::rules::Rule;

/// Seconds between two moments. Longer than all backoffs that occur, so what failed is tried again at the next; and never
/// the same minute.
pub const TICK: i32 = 100;
/// One run.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each stands for itself")]
pub struct Setting {
    pub name: &'static str,
    /// A password is in effect at once.
    pub optimized: bool,
    /// `spec.activation` is `Reboot`, and the operator may.
    pub reboots: bool,
    /// `spec.enforceInterval` is set.
    pub enforced: bool,
    /// The objects that name the instance, the oldest first.
    pub objects: &'static [Kind],
    /// What is known of their identities.
    pub relation: Relation,
    /// One or two.
    pub replicas: usize,
    /// It begins before the first password, not after it.
    pub new: bool,
    /// To keep long histories few: a standby's watches see nothing, and rotations are asked for between passes only.
    pub coarse: bool,
    /// Moments.
    pub moments: i32,
    /// How many moments a signature is taken: a call arrives so much later than its date.
    pub valid: i32,
    /// How often what may happen.
    pub budget: Budget,
    /// What may become of a call.
    pub fates: &'static [Fate],
    /// What a person does: to the first object and its Secret, and to the second.
    pub acts: [&'static [Act]; 2],
    /// The rule that is taken out.
    pub without: Option<Rule>,
}

/// Whose passwords an object applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The operator draws them.
    Generated,
    /// A person writes them.
    Users,
}

/// How often each thing may still happen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Budget {
    /// A replica ends at once and begins anew.
    pub crashes: u8,
    /// A call has another fate than the usual one.
    pub fates: u8,
    /// A write is done, but the reply is lost.
    pub lost_writes: u8,
    /// The Secret is written, and the reply comes late.
    pub slow_writes: u8,
    /// A person writes to a Secret, or changes an object.
    pub acts: u8,
    /// The lease goes to the other replica.
    pub moves: u8,
    /// The instance is stopped by a person.
    pub stops: u8,
    /// `rotate-at` is set.
    pub annotations: u8,
    /// Time passes while there is something to do.
    pub pauses: u8,
}

/// What becomes of a call that is not simply answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// It never arrives, and no reply comes.
    LostBefore,
    /// It arrives, and no reply comes.
    LostAfter,
    /// No reply comes, and it arrives later.
    Late,
    /// It arrives, no reply comes, and it arrives once more.
    Twice,
    /// The API refuses it because of the instance's state.
    Refused,
    /// Of a restart: it is accepted, and nothing moves.
    Nothing,
}

/// What a person does to an object or to its Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Writes a password under `<key>`.
    Edit,
    /// Writes what the API calls malformed under `<key>`.
    EditMalformed,
    /// Writes what is no password under `<key>`.
    Spoil,
    /// Removes `<key>`.
    Remove,
    /// Writes a password under `<key>.next`.
    EditNext,
    /// Removes `<key>.next`.
    RemoveNext,
    /// Deletes the Secret.
    Delete,
    /// Changes a label.
    Label,
    /// Deletes the object.
    DeleteObject,
    /// Creates the object again.
    Create,
    /// Sets `spec.suspend`.
    Suspend,
    /// Removes `spec.suspend`.
    Resume,
}

impl Setting {
    /// Whether there is never another object than the one.
    pub fn alone(&self) -> bool {
        self.objects.len() == 1 && !self.acts[0].contains(&Act::DeleteObject)
    }

    /// How many seconds after its date a call arrives at the latest.
    pub fn valid(&self) -> i32 {
        self.valid * TICK
    }

    /// `--settle`: what is unsettled now is settled one moment after the last at which its call arrives.
    pub fn settle(&self) -> i32 {
        (self.valid + 1) * TICK - 1
    }
}
