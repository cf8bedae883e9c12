//! The names under which we assume a role: they stand in the audit log of the cloud, and the role can ask for them.

use sha2::{Digest, Sha256};

/// A session name: 2 to 64 of `[A-Za-z0-9.@_-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName(String);

/// The value is no session name. Holds nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no session name: it is 2 to 64 letters, digits, dots, hyphens, underscores and @")]
pub struct InvalidSessionName;

/// What closes a name that could not be taken as it is: a hyphen and so many hexadecimal digits.
const MARK: usize = 8;

impl SessionName {
    /// Longest name in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Takes a name as it is written in a variable or a profile.
    ///
    /// # Errors
    /// [`InvalidSessionName`] if the value does not match the rule.
    pub fn parse(name: &str) -> Result<Self, InvalidSessionName> {
        let fits = (2..=Self::MAX_LENGTH).contains(&name.len()) && name.chars().all(allowed);
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidSessionName) }
    }

    /// The name for a namespace of a cluster: `<cluster>.<namespace>`, or the namespace alone where the cluster is not
    /// known. `cluster` is the uid of its namespace `kube-system`.
    ///
    /// What does not fit is cut, other characters are replaced by hyphens, and a short hash of the whole closes such a
    /// name: two that begin alike stay apart.
    #[must_use]
    pub fn of(cluster: Option<&str>, namespace: &str) -> Self {
        let whole = match cluster {
            Some(cluster) => format!("{cluster}.{namespace}"),
            None => namespace.to_owned(),
        };
        if let Ok(name) = Self::parse(&whole) {
            return name;
        }
        let room = Self::MAX_LENGTH - MARK - 1;
        let kept = whole.chars().take(room).map(|c| if allowed(c) { c } else { '-' });
        let mut name: String = kept.collect();
        name.push('-');
        name.push_str(&crate::signature::hex(&Sha256::digest(&whole))[..MARK]);
        Self(name)
    }

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The external id for a namespace of a cluster: `<cluster>/<namespace>`. A role that asks for it lets nobody in who was
/// put up to it from another namespace: neither part can hold a slash.
#[must_use]
pub fn external_id(cluster: &str, namespace: &str) -> String {
    format!("{cluster}/{namespace}")
}

fn allowed(character: char) -> bool {
    character.is_ascii_alphanumeric() || ".@_-".contains(character)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UID: &str = "0c9ad5fc-2d0a-4d5e-9d4f-0d6f3a9c1b2e";

    #[test]
    fn a_name_tells_cluster_and_namespace() {
        let long = "a-namespace-with-a-name-of-sixty-three-characters-as-is-the-mos";
        assert_eq!(long.len(), 63);
        let table = [
            (Some(UID), "default", "0c9ad5fc-2d0a-4d5e-9d4f-0d6f3a9c1b2e.default"),
            (
                Some(UID),
                "twenty-seven-characters-abc",
                "0c9ad5fc-2d0a-4d5e-9d4f-0d6f3a9c1b2e.twenty-seven-characters-abc",
            ),
            (Some(UID), long, "0c9ad5fc-2d0a-4d5e-9d4f-0d6f3a9c1b2e.a-namespace-with-a-"),
            (None, long, long),
            (None, "a", "a-ca978112"),
            (None, "", "-e3b0c442"),
            (Some("cluster:1"), "x", "cluster-1.x-"),
        ];
        for (cluster, namespace, expected) in table {
            let name = SessionName::of(cluster, namespace);
            assert!(name.as_str().starts_with(expected), "{name:?}");
        }
        assert_eq!(external_id(UID, "default"), format!("{UID}/default"));
    }

    proptest! {
        #[test]
        fn every_name_is_valid(cluster in proptest::option::of(".{0,80}"), namespace in ".{0,80}") {
            let name = SessionName::of(cluster.as_deref(), &namespace);
            prop_assert_eq!(SessionName::parse(name.as_str()), Ok(name));
        }

        #[test]
        fn names_that_begin_alike_stay_apart(start in "[a-z]{60,70}", one in "[a-z:é]{1,9}", other in "[a-z:é]{1,9}") {
            let name = |end: &str| SessionName::of(Some(UID), &format!("{start}{end}"));
            prop_assert_eq!(one == other, name(&one) == name(&other));
        }
    }
}
