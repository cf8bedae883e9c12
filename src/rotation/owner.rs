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

    /// Whether the other must leave the instance to this one. Who acts under another identity has to show its right to
    /// the instance by an accepted call first, and be able to act: or else an object could keep others from an instance that is not its
    /// own by being older.
    #[must_use]
    pub fn keeps_out(&self, other: &Self, bond: Bond) -> bool {
        self.beats(other)
            && match bond {
                Bond::SameIdentity => true,
                Bond::OtherIdentity => self.accepted && !self.idle,
                Bond::OtherAccount => false,
            }
    }
}

/// What is known of the identities of two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bond {
    /// They act as the same.
    SameIdentity,
    /// They do not, and may still be of one account.
    OtherIdentity,
    /// They are of different accounts, so they cannot mean the same instance; or one of them has no identity at all.
    OtherAccount,
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

    #[test]
    fn under_another_identity_only_an_accepted_call_keeps_others_out() {
        use Bond::{OtherAccount, OtherIdentity, SameIdentity};
        let (old, new) = (claim(false, false, 1, "a"), claim(false, false, 2, "b"));
        let (proven, late) = (claim(true, false, 1, "a"), claim(true, false, 2, "b"));
        let table = [
            ("older", &old, &new, SameIdentity, true),
            ("older, a stranger", &old, &new, OtherIdentity, false),
            ("proven, a stranger", &proven, &new, OtherIdentity, true),
            ("proven later than one that is older", &late, &old, OtherIdentity, true),
            ("both proven: older", &proven, &late, OtherIdentity, true),
            ("both proven: younger", &late, &proven, OtherIdentity, false),
            ("proven, but cannot act any more", &claim(true, true, 1, "a"), &new, OtherIdentity, false),
            ("another account", &proven, &new, OtherAccount, false),
        ];
        for (name, this, other, bond, expected) in table {
            assert_eq!(this.keeps_out(other, bond), expected, "{name}");
        }
    }

    proptest! {
        /// Whatever the identities, somebody may act: nobody waits in a circle.
        #[test]
        fn of_all_claims_one_is_not_kept_out(
            claims in proptest::collection::vec(any::<(bool, bool, u8, u8)>(), 1..6), apart in any::<bool>(),
        ) {
            let claims: Vec<_> = claims
                .iter()
                .enumerate()
                .map(|(uid, c)| (c.3 % 3, claim(c.0, c.1, c.2.into(), &uid.to_string())))
                .collect();
            let bond = |a: u8, b: u8| match (a == b, apart) {
                (true, _) => Bond::SameIdentity,
                (false, false) => Bond::OtherIdentity,
                (false, true) => Bond::OtherAccount,
            };
            let free = claims.iter().any(|(own, claim)| {
                !claims.iter().any(|(other, rival)| rival.keeps_out(claim, bond(*own, *other)))
            });
            prop_assert!(free);
        }

        #[test]
        fn of_any_two_exactly_one_wins(a in any::<(bool, bool, i32)>(), b in any::<(bool, bool, i32)>()) {
            let (a, b) = (claim(a.0, a.1, a.2.into(), "a"), claim(b.0, b.1, b.2.into(), "b"));
            prop_assert!(a.beats(&b) != b.beats(&a));
        }
    }
}
