//! What is explored: small runs, each with a few of the faults, so that each is explored to its end.

use vncpassword_core::rotation::ownership::Relation;

use super::setting::{Act, Budget, Fate, Kind, Setting};

const NONE: Budget = Budget {
    crashes: 0,
    fates: 0,
    lost_writes: 0,
    slow_writes: 0,
    acts: 0,
    moves: 0,
    stops: 0,
    annotations: 0,
    pauses: 0,
};

const PLAIN: Setting = Setting {
    name: "one rotation",
    optimized: true,
    reboots: false,
    enforced: false,
    objects: &[Kind::Generated],
    relation: Relation::SameIdentity,
    replicas: 1,
    new: false,
    coarse: false,
    moments: 3,
    valid: 1,
    budget: Budget { annotations: 1, ..NONE },
    fates: &[],
    acts: [&[], &[]],
    without: None,
};

/// The first password.
pub const FIRST: Setting = Setting {
    name: "first password",
    new: true,
    moments: 4,
    fates: &[Fate::LostBefore, Fate::LostAfter, Fate::Late, Fate::Twice, Fate::Refused],
    budget: Budget { crashes: 1, fates: 1, lost_writes: 1, ..NONE },
    ..PLAIN
};

/// Two rotations, and everything that may become of a call.
pub const FATES: Setting = Setting {
    name: "lost and late calls",
    moments: 4,
    fates: &[Fate::LostBefore, Fate::LostAfter, Fate::Late, Fate::Twice, Fate::Refused],
    budget: Budget { crashes: 1, fates: 1, annotations: 2, ..NONE },
    ..PLAIN
};

/// The reply to a write is lost.
pub const LOST_WRITE: Setting = Setting {
    name: "lost writes",
    moments: 4,
    fates: &[Fate::Late],
    budget: Budget { lost_writes: 2, crashes: 1, fates: 1, annotations: 1, ..NONE },
    ..PLAIN
};

/// Somebody writes to the Secret in the middle of a rotation.
pub const PEOPLE: Setting = Setting {
    name: "people",
    moments: 4,
    fates: &[Fate::LostAfter, Fate::Late],
    acts: [
        &[
            Act::Edit,
            Act::EditMalformed,
            Act::Spoil,
            Act::Remove,
            Act::EditNext,
            Act::RemoveNext,
            Act::Delete,
            Act::Label,
        ],
        &[],
    ],
    budget: Budget { acts: 1, fates: 1, annotations: 1, crashes: 1, ..NONE },
    ..PLAIN
};

/// Somebody writes two passwords.
pub const TWICE_EDITED: Setting = Setting {
    name: "two edits",
    moments: 4,
    fates: &[Fate::Late],
    acts: [&[Act::Edit, Act::EditMalformed, Act::Delete], &[]],
    budget: Budget { acts: 2, fates: 1, lost_writes: 1, ..NONE },
    ..PLAIN
};

/// The value in effect is sent again and again.
pub const ENFORCED: Setting = Setting {
    name: "enforceInterval",
    enforced: true,
    moments: 8,
    fates: &[Fate::LostAfter, Fate::Late],
    acts: [&[Act::Edit], &[]],
    budget: Budget { acts: 1, fates: 1, crashes: 1, ..NONE },
    ..PLAIN
};

/// The lease moves at any moment.
pub const TWO: Setting = Setting {
    name: "two replicas",
    replicas: 2,
    moments: 4,
    budget: Budget { moves: 1, annotations: 2, ..NONE },
    ..PLAIN
};

/// The same while the first password is drawn, and a process is paused.
pub const TWO_FIRST: Setting = Setting {
    name: "two replicas, first password",
    replicas: 2,
    new: true,
    budget: Budget { moves: 1, pauses: 2, ..NONE },
    ..PLAIN
};

/// A process is paused for long, anywhere, and meanwhile another one leads.
pub const PAUSED: Setting = Setting {
    name: "paused",
    coarse: true,
    budget: Budget { moves: 1, annotations: 2, pauses: 3, ..NONE },
    ..TWO
};

/// The lease comes back to a replica whose watches have seen nothing meanwhile.
pub const HANDED_BACK: Setting = Setting {
    name: "lease handed back",
    coarse: true,
    budget: Budget { moves: 2, annotations: 2, ..NONE },
    ..TWO
};

/// An instance that takes a password at its next restart is stopped and started at any moment.
pub const POWER: Setting = Setting {
    name: "power",
    optimized: false,
    fates: &[Fate::LostAfter, Fate::Late],
    budget: Budget { stops: 2, fates: 1, annotations: 1, ..NONE },
    ..PLAIN
};

/// The same, while people edit and delete.
pub const POWER_AND_PEOPLE: Setting = Setting {
    name: "power and people",
    fates: &[],
    acts: PEOPLE.acts,
    budget: Budget { stops: 1, acts: 1, annotations: 1, ..NONE },
    ..POWER
};

/// The operator restarts the instance, and so does somebody else.
pub const REBOOTS: Setting = Setting {
    name: "reboots",
    reboots: true,
    moments: 4,
    fates: &[Fate::LostBefore, Fate::LostAfter, Fate::Nothing],
    budget: Budget { stops: 1, fates: 1, annotations: 1, ..NONE },
    ..POWER
};

/// The operator restarts the instance, ends, and begins anew.
pub const ONE_REBOOT: Setting = Setting {
    name: "one reboot",
    fates: &[Fate::LostBefore, Fate::LostAfter, Fate::Nothing],
    budget: Budget { fates: 1, crashes: 1, annotations: 1, ..NONE },
    ..REBOOTS
};

/// Two replicas want to restart the instance.
pub const TWO_REBOOT: Setting = Setting {
    name: "two replicas, reboots",
    replicas: 2,
    moments: 3,
    budget: Budget { moves: 2, annotations: 1, ..NONE },
    ..REBOOTS
};

/// The object is deleted and created again, and so is its Secret, also while a call is under way.
pub const RECREATED: Setting = Setting {
    name: "object created again",
    moments: 4,
    fates: &[Fate::LostAfter, Fate::Late],
    acts: [&[Act::DeleteObject, Act::Create, Act::Delete], &[]],
    budget: Budget { acts: 3, fates: 1, annotations: 1, ..NONE },
    ..PLAIN
};

/// A generated object owns the instance, and is deleted: a user's object takes over, until it is deleted itself.
pub const TAKEN_OVER: Setting = Setting {
    name: "take-over after deletion",
    moments: 4,
    objects: &[Kind::Generated, Kind::Users],
    fates: &[Fate::LostAfter, Fate::Late],
    acts: [&[Act::DeleteObject, Act::Create], &[Act::DeleteObject]],
    budget: Budget { acts: 3, fates: 1, annotations: 1, ..NONE },
    ..PLAIN
};

/// Objects of two identities take over from each other while one is suspended.
pub const SUSPENDED: Setting = Setting {
    name: "take-over by suspending",
    moments: 4,
    objects: &[Kind::Generated, Kind::Users],
    relation: Relation::OtherIdentity,
    fates: &[Fate::LostAfter, Fate::Late],
    acts: [&[Act::Suspend, Act::Resume], &[]],
    budget: Budget { acts: 3, fates: 1, ..NONE },
    ..PLAIN
};

/// A reply comes after its object, or its Secret, was deleted.
pub const GONE: Setting = Setting {
    name: "replies to objects that are gone",
    moments: 4,
    objects: &[Kind::Generated, Kind::Users],
    relation: Relation::OtherIdentity,
    fates: &[Fate::LostAfter, Fate::Late],
    acts: [&[Act::DeleteObject, Act::Delete], &[Act::Suspend, Act::Resume]],
    budget: Budget { acts: 3, fates: 1, slow_writes: 1, ..NONE },
    ..PLAIN
};

/// A call is accepted after its object was deleted, while the other object's value counts as in effect.
pub const LATE_REPLY: Setting = Setting {
    name: "accepted after deletion",
    objects: &[Kind::Generated, Kind::Users],
    relation: Relation::OtherIdentity,
    acts: [&[Act::DeleteObject, Act::Suspend, Act::Resume], &[]],
    budget: Budget { acts: 3, ..NONE },
    ..PLAIN
};

/// The operator ends and begins again while objects of two identities take over from each other.
pub const RESTARTED: Setting = Setting {
    name: "take-over around a restart",
    moments: 4,
    acts: [&[Act::Suspend, Act::Resume], &[]],
    budget: Budget { acts: 2, fates: 1, crashes: 1, ..NONE },
    ..SUSPENDED
};

/// The same, where the user's object is the older one.
pub const RESTARTED_USERS: Setting = Setting {
    name: "the same, a user's object first",
    objects: &[Kind::Users, Kind::Generated],
    ..RESTARTED
};

/// All of them.
pub const RUNS: [Setting; 23] = [
    PLAIN,
    FIRST,
    FATES,
    LOST_WRITE,
    PEOPLE,
    TWICE_EDITED,
    ENFORCED,
    TWO,
    TWO_FIRST,
    PAUSED,
    HANDED_BACK,
    POWER,
    POWER_AND_PEOPLE,
    REBOOTS,
    ONE_REBOOT,
    TWO_REBOOT,
    RECREATED,
    TAKEN_OVER,
    SUSPENDED,
    GONE,
    LATE_REPLY,
    RESTARTED,
    RESTARTED_USERS,
];
