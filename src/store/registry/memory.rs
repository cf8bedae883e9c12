//! What this process remembers of one object.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
    time::Instant,
};

use jiff::Timestamp;

use super::contest::Claim;
use crate::store::object::Object;
use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        allowance::Calls,
        competition::{Competition, Target},
        contents::Contents,
        facts::{Attempt, Fingerprint, History, Look, RunningRefusals, SecretVersion},
        refusal::RefusedWrite,
        rotate_at::RotateAt,
    },
};

/// What this process remembers of one object. It is dropped with the object.
#[derive(Default)]
pub(crate) struct Memory {
    /// The newest version that a write returned, until the watch has caught up.
    pub written: Option<Arc<Object>>,
    /// The applied version and its value.
    pub applied: Option<(SecretVersion, Fingerprint)>,
    /// The version of the Secret that was read last.
    pub last_read: Option<SecretVersion>,
    /// A call whose outcome is not recorded in the status yet, and the generation that it was made for.
    pub unrecorded: Option<Box<(i64, Attempt)>>,
    /// The object was in the first list, so a previous process may have acted on it. The first reconcile
    /// clears this.
    pub from_previous_process: bool,
    /// Until when a call without a known outcome may still arrive (`rotation::doubt`), and whether another
    /// object made it. Other objects read `Before::until` of its claim instead.
    pub doubt: Option<(Timestamp, bool)>,
    /// The object is younger than the watch of this process, which has made no call for it.
    pub never_called: bool,
    /// Refusals while the instance is Running. Boxed: few objects have any.
    pub running_refusals: Option<Box<RunningRefusals>>,
    /// The last call that failed.
    pub failure: Option<Failure>,
    /// The annotation `rotate-at` of the last failed attempt.
    pub tried_rotate_at: Option<RotateAt>,
    /// Consecutive reconciles that failed with an error of the API server.
    pub failures: u32,
    /// The last write of the Secret that the API server refused.
    pub refused: Option<Box<LastRefusal>>,
    /// Its claim to the instance.
    pub claim: Claim,
    /// Its call allowance; `None`: no recent calls. It outlives the object under its name.
    pub calls: Option<Arc<Calls>>,
    /// A hash of what the operator last read from or wrote to a managed Secret ([`Contents::image`]; 0: there
    /// is no Secret).
    pub image: Option<u64>,
    /// Another writer of its Secret.
    pub secret_competition: Option<Box<Competition>>,
    /// The last status that this process read or wrote.
    pub status_seen: StatusSeen,
    /// Another writer of its status.
    pub status_competition: Option<Box<Competition>>,
}

/// What this process knows of a status.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) enum StatusSeen {
    /// It has not read the object before.
    #[default]
    Never,
    /// A write got no reply. The resourceVersion that it was to replace.
    Unknown(Box<str>),
    /// Hashes of the request (spec, `rotate-at`, Secret) and of the status.
    As { asked: u64, status: u64 },
}

/// A failed call, with times that are not truncated to seconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failure {
    /// When the reconcile of the call began. Credentials that changed later were not used.
    pub began: Timestamp,
    /// When it failed.
    pub at: Timestamp,
}

/// The last write of a Secret, which the API server did not take.
pub(crate) struct LastRefusal {
    pub write: RefusedWrite,
    /// Consecutive refusals.
    pub attempts: u32,
    /// No write before this time.
    pub until: Instant,
    /// It was to create the Secret, certainly did not, and no Secret has been found since.
    pub creation: bool,
}

impl Memory {
    /// Takes in a call that may still arrive.
    pub fn doubt(&mut self, until: Timestamp, by_other: bool, now: Timestamp) {
        let standing = self.doubt.filter(|(former, _)| *former > now);
        let (former, by_others) = standing.unwrap_or((until, false));
        self.doubt = Some((until.max(former), by_other || by_others));
    }

    /// Counts the refusals of an instance that is Running.
    pub fn count_refusals(&mut self, status: &VncPasswordStatus, poll: Option<&Look>, now: Timestamp) {
        let before = self.running_refusals.as_deref().copied();
        self.running_refusals = RunningRefusals::count(before, status, poll, now).map(Box::new);
    }

    /// Forgets the calls that count for nothing any more.
    pub fn recover(&mut self, now: Timestamp) {
        let counts = |calls: &mut Arc<Calls>| Arc::strong_count(calls) > 1 || !calls.are_full(now);
        self.calls.take_if(|calls| !counts(calls));
    }

    /// Takes in the contents of the Secret. Returns whether a wait for another writer starts.
    pub fn read(&mut self, contents: Option<&Contents>, now: Timestamp) -> bool {
        let image = contents.map_or(0, Contents::image);
        let changed = self.image.replace(image).is_some_and(|former| former != image);
        let competition = || Box::new(Competition::new(Target::Secret));
        changed && self.secret_competition.get_or_insert_with(competition).changed(now)
    }

    /// Takes in what this process wrote into the Secret; `None`: what stands there now is not known.
    pub fn wrote(&mut self, contents: Option<&Contents>, now: Timestamp) {
        self.image = contents.map(Contents::image);
        if let Some(competition) = &mut self.secret_competition {
            competition.wrote(now);
        }
    }

    /// Takes in the status as this process knows it, with the version of the object's Secret; whether a wait
    /// for another writer starts. A status that changes together with what people ask for is no such
    /// writer's, and ends the wait (R66).
    pub fn saw_status(&mut self, object: &Object, secret: Option<&SecretVersion>, now: Timestamp) -> bool {
        let (asked, status) = (asked(object, secret), image_of(&object.status));
        // The watch may still show what stood before the lost write.
        if matches!(&self.status_seen, StatusSeen::Unknown(replaced) if **replaced == *object.resource_version)
        {
            return false;
        }
        let changed = match std::mem::replace(&mut self.status_seen, StatusSeen::As { asked, status }) {
            // The API server takes no status with a new object, so somebody else wrote it.
            StatusSeen::Never => self.never_called && *object.status != VncPasswordStatus::default(),
            StatusSeen::Unknown(_) => false,
            StatusSeen::As { asked: former, .. } if former != asked => {
                if let Some(competition) = &mut self.status_competition {
                    competition.resume();
                }
                false
            }
            StatusSeen::As { status: former, .. } => status != former,
        };
        let competition = || Box::new(Competition::new(Target::Status));
        changed && self.status_competition.get_or_insert_with(competition).changed(now)
    }

    /// A write of the status got no reply.
    pub fn lost_status_write(&mut self, object: &Object) {
        self.status_seen = StatusSeen::Unknown(object.resource_version.clone());
    }

    /// Takes in a status that this process wrote.
    pub fn wrote_status(&mut self, object: &Object, secret: Option<&SecretVersion>, now: Timestamp) {
        let (asked, status) = (asked(object, secret), image_of(&object.status));
        self.status_seen = StatusSeen::As { asked, status };
        if let Some(competition) = &mut self.status_competition {
            competition.wrote(now);
        }
    }

    /// The part of the input for decisions.
    pub fn history(&self) -> History {
        History {
            applied: self.applied.clone(),
            examined: self.last_read.clone(),
            untouched: self.never_called,
            creation_refused: self.refused.as_ref().is_some_and(|refused| refused.creation),
            running_refusals: self.running_refusals.as_deref().copied(),
            unsettled: Vec::new(),
            rotate_at_is_new: false,
            group_retry: None,
        }
    }
}

/// A hash of what users request: the spec, `rotate-at` and the Secret.
fn asked(object: &Object, secret: Option<&SecretVersion>) -> u64 {
    let mut image = DefaultHasher::new();
    (object.generation, object.rotate_at, secret).hash(&mut image);
    image.finish()
}

/// A hash of a status, valid in this process.
fn image_of(status: &VncPasswordStatus) -> u64 {
    let mut image = DefaultHasher::new();
    // A status is plain data: it can always be written.
    serde_json::to_vec(status).unwrap_or_default().hash(&mut image);
    image.finish()
}
