//! Small numbers for passwords, and values that are hashed once: a state is hashed millions of times.

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    ops::Deref,
    sync::{Arc, OnceLock},
};

use jiff::Timestamp;
use serde::Serialize;
use vncpassword_core::rotation::{
    Password,
    contents::Slot,
    facts::{Fingerprint, FingerprintKey},
};

/// The first value that a person writes; what is drawn counts up from 1.
pub const FIRST_OF_A_PERSON: u8 = 100;
/// The first value that the API calls malformed.
pub const FIRST_MALFORMED: u8 = 200;

/// A value of the Secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Value {
    /// There is none.
    Absent,
    /// It is no password.
    Invalid,
    /// It is this password.
    Is(u8),
}

impl Value {
    /// As decisions see it.
    pub fn slot(self) -> Slot {
        match self {
            Self::Absent => Slot::Absent,
            Self::Invalid => Slot::Invalid,
            Self::Is(number) => Slot::Valid(password(number), fingerprint(number)),
        }
    }
}

/// The password that a number stands for.
pub fn password(number: u8) -> Password {
    Password::parse(format!("Aa{number:04}").as_bytes()).unwrap()
}

/// The number that stands for a password.
pub fn number(password: &Password) -> u8 {
    password.expose()[2..].parse().unwrap()
}

/// The fingerprint of the password that a number stands for.
pub fn fingerprint(number: u8) -> Fingerprint {
    fingerprints()[usize::from(number)]
}

/// The number that stands for the password with that fingerprint.
pub fn valued(print: &Fingerprint) -> u8 {
    fingerprints().iter().position(|other| other == print).and_then(|number| number.try_into().ok()).unwrap()
}

fn fingerprints() -> &'static [Fingerprint] {
    static ALL: OnceLock<Vec<Fingerprint>> = OnceLock::new();
    ALL.get_or_init(|| {
        let key = FingerprintKey::new(&[7; 64]);
        (0..=u8::MAX).map(|number| key.fingerprint(&password(number))).collect()
    })
}

/// The time so many seconds after the start.
pub fn at(second: i32) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::from(second)).unwrap()
}

/// The second of a time, rounded up.
pub fn second(at: Timestamp) -> i32 {
    let second = at.as_second() - 1_800_000_000 + i64::from(at.subsec_nanosecond() > 0);
    i32::try_from(second).unwrap_or(i32::MAX)
}

/// A value that is shared, and hashed when it is made.
#[derive(Clone)]
pub struct Kept<T>(Arc<(T, u64)>);

impl<T: Serialize> Kept<T> {
    pub fn new(value: T) -> Self {
        let mut hasher = DefaultHasher::new();
        serde_json::to_string(&value).unwrap().hash(&mut hasher);
        Self(Arc::new((value, hasher.finish())))
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}

impl<T> Hash for Kept<T> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.1.hash(state);
    }
}

impl<T: PartialEq> PartialEq for Kept<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0.1 == other.0.1 && self.0.0 == other.0.0
    }
}

impl<T: Eq> Eq for Kept<T> {}

impl<T: fmt::Debug> fmt::Debug for Kept<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.0.fmt(f)
    }
}
