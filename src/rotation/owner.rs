//! Who owns an instance that several objects name.

use jiff::Timestamp;

/// What an object's claim on its instance rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The API accepted a call for this object.
    pub accepted: bool,
    /// The object cannot act now: suspended, denied, not found or without credentials.
    pub idle: bool,
    /// When the object was created.
    pub created: Timestamp,
    /// `metadata.uid`: the last word between objects of one second.
    pub uid: String,
}

impl Claim {
    /// Smaller is stronger: the oldest with an accepted call; else the oldest that can act; else the oldest.
    fn rank(&self) -> (bool, bool, Timestamp, &str) {
        (!self.accepted, !self.accepted && self.idle, self.created, &self.uid)
    }

    /// Whether this claim beats the other.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        self.rank() < other.rank()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claim(accepted: bool, idle: bool, created: i64, uid: &str) -> Claim {
        Claim { accepted, idle, created: Timestamp::from_second(created).unwrap(), uid: uid.to_owned() }
    }

    #[test]
    fn the_stronger_claim_wins() {
        let table = [
            ("older", claim(false, false, 1, "b"), claim(false, false, 2, "a")),
            ("same second: smaller uid", claim(false, false, 1, "a"), claim(false, false, 1, "b")),
            ("accepted beats older", claim(true, false, 2, "b"), claim(false, false, 1, "a")),
            ("accepted beats older even when idle", claim(true, true, 2, "b"), claim(false, false, 1, "a")),
            ("both accepted: older", claim(true, true, 1, "b"), claim(true, false, 2, "a")),
            ("able beats older idle", claim(false, false, 2, "b"), claim(false, true, 1, "a")),
            ("both idle: older", claim(false, true, 1, "b"), claim(false, true, 2, "a")),
        ];
        for (name, stronger, weaker) in table {
            assert!(stronger.beats(&weaker), "{name}");
            assert!(!weaker.beats(&stronger), "{name}, the other way round");
        }
    }

    proptest! {
        #[test]
        fn of_any_two_exactly_one_wins(a in any::<(bool, bool, i32)>(), b in any::<(bool, bool, i32)>()) {
            let (a, b) = (claim(a.0, a.1, a.2.into(), "a"), claim(b.0, b.1, b.2.into(), "b"));
            prop_assert!(a.beats(&b) != b.beats(&a));
        }
    }
}
