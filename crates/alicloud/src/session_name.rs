//! Session names and external ids for assumed roles.

use sha2::{Digest, Sha256};

/// The name of a role session, shown in the cloud's audit log: 2 to 64 of `[A-Za-z0-9.@_-]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName(String);

/// The value is no session name. The error does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no session name: it is 2 to 64 letters, digits, dots, hyphens, underscores and @")]
pub struct InvalidSessionName;

/// The number of hexadecimal digits of the hash at the end of a shortened name.
const HASH_LENGTH: usize = 8;

impl SessionName {
    /// The maximum length in characters.
    pub const MAX_LENGTH: usize = 64;

    /// Parses a name of a variable or a profile.
    ///
    /// # Errors
    /// `InvalidSessionName` if the value does not match the rule.
    pub fn parse(name: &str) -> Result<Self, InvalidSessionName> {
        let fits = (2..=Self::MAX_LENGTH).contains(&name.len()) && name.chars().all(allowed);
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidSessionName) }
    }

    /// The session name for a namespace: `<cluster>.<namespace>`, or the namespace if the cluster is not
    /// known. `cluster`: the UID of the namespace `kube-system`.
    ///
    /// A longer name is cut, and invalid characters become hyphens. Such a name ends with a short hash of the
    /// full name, so different names stay different.
    #[must_use]
    pub fn of(cluster: Option<&str>, namespace: &str) -> Self {
        let whole = match cluster {
            Some(cluster) => format!("{cluster}.{namespace}"),
            None => namespace.to_owned(),
        };
        if let Ok(name) = Self::parse(&whole) {
            return name;
        }
        let length = Self::MAX_LENGTH - HASH_LENGTH - 1;
        let kept = whole.chars().take(length).map(|c| if allowed(c) { c } else { '-' });
        let mut name: String = kept.collect();
        name.push('-');
        name.push_str(&crate::signature::hex(&Sha256::digest(&whole))[..HASH_LENGTH]);
        Self(name)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// The external id for a namespace: `<cluster>/<namespace>`. A role whose trust policy requires it cannot be
/// assumed on behalf of another namespace: neither part can contain a slash.
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
    fn a_name_contains_cluster_and_namespace() {
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
        fn names_with_the_same_start_stay_different(start in "[a-z]{60,70}", one in "[a-z:é]{1,9}", other in "[a-z:é]{1,9}") {
            let name = |end: &str| SessionName::of(Some(UID), &format!("{start}{end}"));
            prop_assert_eq!(one == other, name(&one) == name(&other));
        }
    }
}
