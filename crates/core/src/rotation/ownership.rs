//! Which of the objects that name one instance acts on it (DESIGN.md, R40 and R41).

use std::sync::Arc;

use jiff::Timestamp;

/// What an object's claim on its instance rests on. The earlier variant is the stronger one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Basis {
    /// The API accepted a call of this object in this leadership term, under the key or role that it has now.
    Accepted,
    /// Its status, as this term found it, names an accepted call. Anybody who may write statuses can write that, so it
    /// counts only until the object sends its value once.
    Hint,
    /// Nothing.
    None,
}

/// An object that names an instance, as far as ownership depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contender {
    /// What its claim rests on.
    pub basis: Basis,
    /// It cannot act now: suspended, denied, not found or without credentials.
    pub idle: bool,
    /// It has a `deletionTimestamp`: it gives up its claim.
    pub deleting: bool,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// `metadata.uid`: decides between objects of the same second.
    pub uid: Arc<str>,
}

impl Contender {
    /// Smaller is stronger: accepted, then hinted, then the oldest that can act, then the oldest.
    fn rank(&self) -> (bool, Basis, bool, Timestamp, &str) {
        let waits = self.basis == Basis::None && self.idle;
        (self.deleting, self.basis, waits, self.created, &self.uid)
    }

    /// Whether this claim is stronger than the other.
    #[must_use]
    pub fn beats(&self, other: &Self) -> bool {
        self.rank() < other.rank()
    }

    /// Whether the other object must leave the instance to this one.
    ///
    /// An object of another identity keeps others out only with an accepted call, or with a hint until that is tried, and
    /// only while it can act. Otherwise an older object could hold an instance that its identity has no right to.
    #[must_use]
    pub fn keeps_out(&self, other: &Self, relation: Relation) -> bool {
        !self.deleting
            && self.beats(other)
            && match relation {
                Relation::SameIdentity => true,
                Relation::OtherIdentity => self.basis != Basis::None && !self.idle,
                Relation::OtherAccount => false,
            }
    }
}

/// What is known of the identities of two objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// They act under the same identity.
    SameIdentity,
    /// They act under different identities, which may belong to one account.
    OtherIdentity,
    /// They act in different accounts, so they cannot mean the same instance; or one of them has no identity.
    OtherAccount,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn contender(basis: Basis, idle: bool, created: i64, uid: &str) -> Contender {
        let created = Timestamp::from_second(created).unwrap();
        Contender { basis, idle, deleting: false, created, uid: uid.into() }
    }

    #[test]
    fn the_stronger_claim_wins() {
        use Basis::{Accepted, Hint, None};
        let deleting = Contender { deleting: true, ..contender(Accepted, false, 1, "a") };
        let table = [
            ("older", contender(None, false, 1, "b"), contender(None, false, 2, "a")),
            ("same second: smaller uid", contender(None, false, 1, "a"), contender(None, false, 1, "b")),
            ("accepted beats older", contender(Accepted, false, 2, "b"), contender(None, false, 1, "a")),
            ("accepted beats a hint", contender(Accepted, false, 2, "b"), contender(Hint, false, 1, "a")),
            ("a hint beats nothing", contender(Hint, false, 2, "b"), contender(None, false, 1, "a")),
            (
                "accepted beats older even if idle",
                contender(Accepted, true, 2, "b"),
                contender(None, false, 1, "a"),
            ),
            ("both accepted: older", contender(Accepted, true, 1, "b"), contender(Accepted, false, 2, "a")),
            ("able beats older idle", contender(None, false, 2, "b"), contender(None, true, 1, "a")),
            ("both idle: older", contender(None, true, 1, "b"), contender(None, true, 2, "a")),
            ("one that is being deleted is last", contender(None, true, 2, "b"), deleting),
        ];
        for (name, stronger, weaker) in table {
            assert!(stronger.beats(&weaker), "{name}");
            assert!(!weaker.beats(&stronger), "{name}, the other way round");
        }
    }

    #[test]
    fn an_object_of_another_identity_needs_an_accepted_call_or_an_untried_hint() {
        use Basis::{Accepted, Hint, None};
        use Relation::{OtherAccount, OtherIdentity, SameIdentity};
        let (old, new) = (contender(None, false, 1, "a"), contender(None, false, 2, "b"));
        let (accepted, late) = (contender(Accepted, false, 1, "a"), contender(Accepted, false, 2, "b"));
        let (hint, late_hint) = (contender(Hint, false, 1, "a"), contender(Hint, false, 2, "b"));
        let deleting = Contender { deleting: true, ..accepted.clone() };
        let table = [
            ("older", &old, &new, SameIdentity, true),
            ("older, of another identity", &old, &new, OtherIdentity, false),
            ("accepted", &accepted, &new, OtherIdentity, true),
            ("accepted, younger", &late, &old, OtherIdentity, true),
            ("both accepted: older", &accepted, &late, OtherIdentity, true),
            ("both accepted: younger", &late, &accepted, OtherIdentity, false),
            ("accepted, cannot act any more", &contender(Accepted, true, 1, "a"), &new, OtherIdentity, false),
            ("accepted, another account", &accepted, &new, OtherAccount, false),
            ("accepted, being deleted", &deleting, &new, OtherIdentity, false),
            ("accepted, being deleted, same identity", &deleting, &new, SameIdentity, false),
            ("a hint", &late_hint, &old, OtherIdentity, true),
            ("a hint against an accepted call", &hint, &late, OtherIdentity, false),
            ("two hints: older", &hint, &late_hint, OtherIdentity, true),
            ("a hint of one that cannot act", &contender(Hint, true, 1, "a"), &new, OtherIdentity, false),
        ];
        for (name, this, other, relation, expected) in table {
            assert_eq!(this.keeps_out(other, relation), expected, "{name}");
        }
    }

    fn any_contender(uid: String) -> impl Strategy<Value = Contender> {
        let basis = prop::sample::select(vec![Basis::Accepted, Basis::Hint, Basis::None]);
        (basis, any::<bool>(), any::<bool>(), any::<u8>()).prop_map(
            move |(basis, idle, deleting, created)| Contender {
                deleting,
                ..contender(basis, idle, created.into(), &uid)
            },
        )
    }

    fn any_contenders() -> impl Strategy<Value = Vec<(u8, Contender)>> {
        let some: Vec<_> = (0..6).map(|uid| (0_u8..3, any_contender(uid.to_string()))).collect();
        (some, 1_usize..6).prop_map(|(all, count)| all.into_iter().take(count).collect())
    }

    proptest! {
        /// Whatever the identities, one object may act: no circle of objects waits for each other.
        #[test]
        fn of_all_contenders_one_is_not_kept_out(contenders in any_contenders(), apart in any::<bool>()) {
            let relation = |a: u8, b: u8| match (a == b, apart) {
                (true, _) => Relation::SameIdentity,
                (false, false) => Relation::OtherIdentity,
                (false, true) => Relation::OtherAccount,
            };
            let free = contenders.iter().any(|(own, contender)| {
                !contenders.iter().any(|(other, rival)| rival.keeps_out(contender, relation(*other, *own)))
            });
            prop_assert!(free);
        }

        #[test]
        fn of_any_two_exactly_one_wins(a in any_contender("a".into()), b in any_contender("b".into())) {
            prop_assert!(a.beats(&b) != b.beats(&a));
        }
    }
}
