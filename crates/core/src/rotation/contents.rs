//! A Secret as the protocol sees it: the values, the record beside them, and how they may be written.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::{
    facts::{Fingerprint, SecretVersion},
    password::Password,
};

/// What a fresh GET of the Secret found.
#[derive(Clone, Debug, PartialEq)]
pub enum SecretRead {
    /// There is no such Secret.
    Missing,
    /// The operator may not read it, or not write it.
    Forbidden,
    /// It is there.
    Found(Box<Contents>),
}

impl SecretRead {
    /// The version that was read.
    #[must_use]
    pub fn version(&self) -> Option<&SecretVersion> {
        self.contents().map(|contents| &contents.version)
    }

    /// What was read.
    #[must_use]
    pub fn contents(&self) -> Option<&Contents> {
        match self {
            Self::Missing | Self::Forbidden => None,
            Self::Found(contents) => Some(contents),
        }
    }
}

/// The parts of a Secret that matter.
#[derive(Clone, Debug, PartialEq)]
pub struct Contents {
    /// Which version.
    pub version: SecretVersion,
    /// `<key>`: the value in effect.
    pub current: Slot,
    /// `<key>.next`: the value on its way.
    pub next: Slot,
    /// `<key>.rotation`, where it can be read.
    pub record: Option<Record>,
    /// Why nobody may write to it, whatever its owner says: its type is not Opaque, or it is immutable.
    pub closed: bool,
    /// Its owner lets the operator write to it: label `vncpassword.dev/writable`.
    pub opened: bool,
}

/// One key of the Secret.
#[derive(Clone, Debug, PartialEq)]
pub enum Slot {
    /// There is no such key.
    Absent,
    /// Its value is no password.
    Invalid,
    /// Its value is a password.
    Valid(Password, Fingerprint),
}

impl Slot {
    /// The password in it.
    #[must_use]
    pub fn password(&self) -> Option<&Password> {
        match self {
            Self::Absent | Self::Invalid => None,
            Self::Valid(password, _) => Some(password),
        }
    }

    fn digest(&self, instance_id: &str) -> Option<Digest> {
        self.password().map(|password| Digest::of(instance_id, password))
    }
}

impl Contents {
    /// The record, where it names this instance: another's counts as none.
    #[must_use]
    pub fn record_of(&self, instance_id: &str) -> Option<&Record> {
        self.record.as_ref().filter(|record| record.instance_id == instance_id)
    }

    /// The rotation that is under way at this instance: its value and its record.
    #[must_use]
    pub fn under_way(&self, instance_id: &str) -> Option<(&Password, Fingerprint, &Record)> {
        let record = self.record_of(instance_id).filter(|record| record.state == State::Drawn)?;
        match &self.next {
            Slot::Valid(next, print) if record.next == Some(Digest::of(instance_id, next)) => {
                Some((next, *print, record))
            }
            _ => None,
        }
    }

    /// Whether `<key>` holds the value that the record says was last in effect.
    #[must_use]
    pub fn holds_the_value_in_effect(&self, instance_id: &str) -> bool {
        let digest = self.record_of(instance_id).and_then(|record| record.digest.as_ref());
        digest.is_some() && self.current.digest(instance_id).as_ref() == digest
    }

    /// Recognises values and record in the memory of this process: another number, and somebody wrote one of them.
    #[must_use]
    pub fn image(&self) -> u64 {
        let mut image = DefaultHasher::new();
        for slot in [&self.current, &self.next] {
            match slot {
                Slot::Absent => 0_u8.hash(&mut image),
                Slot::Invalid => 1_u8.hash(&mut image),
                Slot::Valid(_, print) => print.hash(&mut image),
            }
        }
        self.record.hash(&mut image);
        image.finish()
    }

    /// Whether the API refused the value of `<key>` as no password.
    #[must_use]
    pub fn holds_a_refused_value(&self, instance_id: &str) -> bool {
        let refused = self.record_of(instance_id).and_then(|record| record.refused.as_ref());
        refused.is_some() && self.current.digest(instance_id).as_ref() == refused
    }
}

/// `<key>.rotation`: what is known of the values beside it. It changes in the same write as they do, as JSON.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whose password this is.
    pub instance_id: String,
    /// Of the rotation that is under way, or was the last: random.
    pub id: String,
    /// The process that answers for `<key>.next`: random.
    #[serde(default)]
    pub writer: String,
    /// The newest `vncpassword.dev/rotate-at` that is covered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_at: Option<Timestamp>,
    /// When the rotation began.
    pub drawn_at: Timestamp,
    /// How far it is.
    pub state: State,
    /// Of the value that was last in effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Of the value in `<key>.next`, as it was written there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Digest>,
    /// Of a value of `<key>` that the API called malformed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<Digest>,
    /// How many passwords this rotation has drawn; 0: its value was copied from `<key>`.
    #[serde(default)]
    pub draws: u32,
    /// Until when a call of unknown outcome may still arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled_until: Option<Timestamp>,
}

impl Record {
    /// Whether the value on its way is the one in effect: sent once more, it is no rotation.
    #[must_use]
    pub fn repeats(&self) -> bool {
        self.next.is_some() && self.next == self.digest
    }
}

/// How far a rotation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// A value is on its way.
    Drawn,
    /// Nothing is.
    Done,
}

/// Recognises a value. Of six characters it is as good as the value itself: it stands in the Secret's data and nowhere
/// else.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Digest(String);

impl Digest {
    /// SHA-256 of instance and password, in hex.
    #[must_use]
    pub fn of(instance_id: &str, password: &Password) -> Self {
        let hash = Sha256::new().chain_update(instance_id).chain_update(":").chain_update(password.expose());
        let hash: [u8; 32] = hash.finalize().into();
        let (high, low) = hash.split_at(16);
        let hex = |half: &[u8]| half.iter().fold(0_u128, |bits, byte| bits << 8 | u128::from(*byte));
        Self(format!("{:032x}{:032x}", hex(high), hex(low)))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Digest(******)")
    }
}

/// A write of the Secret: values and record together, or nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct SecretWrite {
    /// The version that it replaces; `None`: the Secret is created.
    pub replaces: Option<SecretVersion>,
    /// `<key>`.
    pub current: Change,
    /// `<key>.next`.
    pub next: Change,
    /// `<key>.previous`.
    pub previous: Change,
    /// `<key>.rotation`.
    pub record: Record,
}

impl SecretWrite {
    /// A write that changes the record alone.
    #[must_use]
    pub(super) fn of(contents: &Contents, record: Record) -> Self {
        let replaces = Some(contents.version.clone());
        Self { replaces, current: Change::Keep, next: Change::Keep, previous: Change::Keep, record }
    }
}

/// What a write does to one key.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// Nothing.
    Keep,
    /// Sets it.
    Set(Password),
    /// Removes it.
    Remove,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_is_the_json_of_the_documentation() {
        let record = Record {
            instance_id: "i-1".into(),
            id: "0a1b".into(),
            writer: "2c3d".into(),
            rotate_at: None,
            drawn_at: "2026-01-02T03:04:05Z".parse().unwrap(),
            state: State::Drawn,
            digest: None,
            next: Some(Digest::of("i-1", &Password::parse(b"Abc123").unwrap())),
            refused: None,
            draws: 1,
            unsettled_until: None,
        };
        let json = serde_json::to_string(&record).unwrap();
        assert_eq!(
            json,
            r#"{"instanceId":"i-1","id":"0a1b","writer":"2c3d","drawnAt":"2026-01-02T03:04:05Z","state":"drawn","next":"93fd6689e439b24e27a0e79bc6f7686646a68cfa0486b50baf222e936820b6df","draws":1}"#
        );
        assert_eq!(serde_json::from_str::<Record>(&json).unwrap(), record);
        let contract = r#"{"instanceId":"i-1","id":"x","drawnAt":"2026-01-02T03:04:05Z","state":"done"}"#;
        assert_eq!(serde_json::from_str::<Record>(contract).unwrap().state, State::Done);
    }

    #[test]
    fn a_digest_is_not_shown() {
        let digest = Digest::of("i-1", &Password::parse(b"Abc123").unwrap());
        assert_eq!(format!("{digest:?}"), "Digest(******)");
    }
}
