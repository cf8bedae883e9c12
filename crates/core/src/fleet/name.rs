//! Names of member objects and their Secrets. They depend only on the fleet's name and the instance ID, so
//! they are stable, and unique per instance.

/// The default of `template.secretName`.
const DEFAULT_PATTERN: &str = "{fleet}-{instanceId}";

/// Name of the member object of an instance: at most 128 characters, because the API server allows 63 for the
/// fleet's name and 64 for the instance ID. The name is unique: an instance ID has exactly one `-`, after its
/// first letter.
#[must_use]
pub fn member_object_name(fleet: &str, instance_id: &str) -> String {
    secret_name(None, fleet, instance_id)
}

/// Name of the Secret of an instance, from `template.secretName`: at most 247 characters.
#[must_use]
pub fn secret_name(pattern: Option<&str>, fleet: &str, instance_id: &str) -> String {
    // In one pass, so that a value that is inserted is not expanded again.
    let mut name = String::new();
    let mut rest = pattern.unwrap_or(DEFAULT_PATTERN);
    while let Some(start) = rest.find('{') {
        name.push_str(&rest[..start]);
        rest = &rest[start..];
        let (value, length) = if let Some(after) = rest.strip_prefix("{instanceId}") {
            (instance_id, rest.len() - after.len())
        } else if let Some(after) = rest.strip_prefix("{fleet}") {
            (fleet, rest.len() - after.len())
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
        assert_eq!(member_object_name("nodes", "i-bp1"), "nodes-i-bp1");
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

    /// Whether `name` is a DNS subdomain, as the API server requires.
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
        fn names_are_valid_names_of_objects(
            fleet in "[a-z0-9]([-a-z0-9]{0,59}[a-z0-9])?([.][a-z0-9])?", id in "i-[a-z0-9]{1,62}",
            prefix in "([a-z0-9]{1,50}-)?", suffix in "([.-][a-z0-9]{1,50})?",
        ) {
            prop_assert!(is_subdomain(&member_object_name(&fleet, &id)));
            let pattern = format!("{prefix}{{instanceId}}{suffix}");
            prop_assert!(is_subdomain(&secret_name(Some(&pattern), &fleet, &id)), "{pattern}");
        }

        #[test]
        fn names_of_member_objects_are_unique(
            pairs in proptest::collection::vec(("(i-)?[a-b]([-.]i-[a-b]){0,2}", "i-[a-b]{1,3}"), 2..40),
        ) {
            let mut owners = BTreeMap::new();
            for (fleet, id) in pairs {
                let owner = owners.entry(member_object_name(&fleet, &id)).or_insert((fleet.clone(), id.clone()));
                prop_assert_eq!(&*owner, &(fleet, id));
            }
        }
    }
}
