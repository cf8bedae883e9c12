//! Names of what a fleet makes. A child's name is told from the fleet's and the instance's alone, so it is the same for
//! ever, and no two instances share one.

/// The Secrets' names where the template says nothing.
const PATTERN: &str = "{fleet}-{instanceId}";

/// Name of the `VncPassword` of an instance: at most 128 characters, since the API server allows a fleet 63 and an
/// instance 64. An instance's ID has one `-`, after its first letter: so the name can be taken apart in one way only.
#[must_use]
pub fn child_name(fleet: &str, instance_id: &str) -> String {
    secret_name(None, fleet, instance_id)
}

/// Name of the Secret of an instance, by `template.secretName`: at most 247 characters.
#[must_use]
pub fn secret_name(pattern: Option<&str>, fleet: &str, instance_id: &str) -> String {
    // In one pass: a fleet may not bring a placeholder of its own.
    let mut name = String::new();
    let mut rest = pattern.unwrap_or(PATTERN);
    while let Some(at) = rest.find('{') {
        name.push_str(&rest[..at]);
        rest = &rest[at..];
        let (value, length) = if let Some(behind) = rest.strip_prefix("{instanceId}") {
            (instance_id, rest.len() - behind.len())
        } else if let Some(behind) = rest.strip_prefix("{fleet}") {
            (fleet, rest.len() - behind.len())
        } else {
            ("{", 1)
        };
        name.push_str(value);
        rest = &rest[length..];
    }
    name.push_str(rest);
    name
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_follow_the_pattern() {
        assert_eq!(child_name("nodes", "i-bp1"), "nodes-i-bp1");
        let table = [
            (None, "nodes-i-bp1"),
            (Some("vnc-{instanceId}"), "vnc-i-bp1"),
            (Some("{instanceId}.{fleet}"), "i-bp1.nodes"),
            (Some("{instanceId}-{instanceId}"), "i-bp1-i-bp1"),
            (Some("{other}-{instanceId}"), "{other}-i-bp1"),
        ];
        for (pattern, expected) in table {
            assert_eq!(secret_name(pattern, "nodes", "i-bp1"), expected, "{pattern:?}");
        }
    }

    /// A DNS subdomain, as the API server wants it.
    fn is_subdomain(name: &str) -> bool {
        let edge =
            |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        name.len() <= 253
            && name.split('.').all(|label| {
                edge(label.bytes().next())
                    && edge(label.bytes().next_back())
                    && label.bytes().all(|byte| edge(Some(byte)) || byte == b'-')
            })
    }

    proptest! {
        #[test]
        fn names_are_names(
            fleet in "[a-z0-9]([-a-z0-9]{0,59}[a-z0-9])?([.][a-z0-9])?", id in "i-[a-z0-9]{1,62}",
            before in "([a-z0-9]{1,50}-)?", behind in "([.-][a-z0-9]{1,50})?",
        ) {
            prop_assert!(is_subdomain(&child_name(&fleet, &id)));
            let pattern = format!("{before}{{instanceId}}{behind}");
            prop_assert!(is_subdomain(&secret_name(Some(&pattern), &fleet, &id)), "{pattern}");
        }

        #[test]
        fn no_two_children_share_a_name(
            pairs in proptest::collection::vec(("(i-)?[a-b]([-.]i-[a-b]){0,2}", "i-[a-b]{1,3}"), 2..40),
        ) {
            let mut owners = BTreeMap::new();
            for (fleet, id) in pairs {
                let owner = owners.entry(child_name(&fleet, &id)).or_insert((fleet.clone(), id.clone()));
                prop_assert_eq!(&*owner, &(fleet, id));
            }
        }
    }
}
