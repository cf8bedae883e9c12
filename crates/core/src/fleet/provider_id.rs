//! Parses a Node's `spec.providerID`, and the entries of `spec.instanceIds`.
//!
//! The region becomes part of a host name that receives passwords, and a Node writes its own providerID. So a
//! value must match the rules of the CRD exactly.

/// Maximum length of a region ID and of an instance ID, in characters.
const MAX_ID_LENGTH: usize = 64;

/// A parsed `spec.providerID`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderId<'a> {
    /// An ECS instance.
    Instance {
        /// Its region ID.
        region: &'a str,
        /// Its instance ID.
        id: &'a str,
    },
    /// Not set yet.
    Absent,
    /// A machine of another cloud.
    Foreign,
    /// Neither of another cloud nor a valid ID of an ECS instance.
    Malformed,
}

impl<'a> ProviderId<'a> {
    /// Parses `<region>.<instance>` or `alicloud://<region>.<instance>`. Another scheme belongs to another
    /// cloud.
    #[must_use]
    pub fn parse(value: Option<&'a str>) -> Self {
        let value = match value {
            None | Some("") => return Self::Absent,
            Some(value) => value,
        };
        let id = match value.split_once("://") {
            Some(("alicloud", rest)) => rest,
            Some(_) => return Self::Foreign,
            None => value,
        };
        match id.split_once('.') {
            Some((region, id)) if is_region_id(region) && is_instance_id(id) => Self::Instance { region, id },
            _ => Self::Malformed,
        }
    }
}

/// The value is not an instance ID. The error does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no instance: write its ID as in i-bp67acfmxazb4p, or with its region as in cn-hangzhou.i-bp67acfmxazb4p"
)]
pub struct InvalidInstanceId;

/// Parses an entry of `spec.instanceIds` into the region, if it has one, and the instance ID.
///
/// # Errors
/// [`InvalidInstanceId`] if it is not an instance ID.
pub fn parse_instance(entry: &str) -> Result<(Option<&str>, &str), InvalidInstanceId> {
    let (region, id) = entry.split_once('.').map_or((None, entry), |(region, id)| (Some(region), id));
    if region.is_none_or(is_region_id) && is_instance_id(id) {
        Ok((region, id))
    } else {
        Err(InvalidInstanceId)
    }
}

/// `^i-[a-z0-9]+$`, at most 64 characters.
pub(super) fn is_instance_id(id: &str) -> bool {
    let rest = id.strip_prefix("i-").unwrap_or_default();
    !rest.is_empty() && id.len() <= MAX_ID_LENGTH && rest.bytes().all(is_lower_alphanumeric)
}

/// `^([a-z]{2}|rus)(-[a-z0-9]+){1,4}$`, at most 64 characters.
pub(super) fn is_region_id(region: &str) -> bool {
    let Some((area, rest)) = region.split_once('-') else { return false };
    let mut parts = rest.split('-');
    (area.len() == 2 || area == "rus")
        && area.bytes().all(|byte| byte.is_ascii_lowercase())
        && parts.clone().count() <= 4
        && parts.all(|part| !part.is_empty() && part.bytes().all(is_lower_alphanumeric))
        && region.len() <= MAX_ID_LENGTH
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn provider_ids_of_instances_are_parsed_and_others_are_classified() {
        let instance = ProviderId::Instance { region: "cn-hangzhou", id: "i-bp67acfmxazb4p" };
        let table = [
            (Some("cn-hangzhou.i-bp67acfmxazb4p"), instance),
            (Some("alicloud://cn-hangzhou.i-bp67acfmxazb4p"), instance),
            (None, ProviderId::Absent),
            (Some(""), ProviderId::Absent),
            (Some("aws:///eu-west-1a/i-0abc"), ProviderId::Foreign),
            (Some("kind://docker/kind/kind-control-plane"), ProviderId::Foreign),
            (Some("Alicloud://cn-hangzhou.i-bp1"), ProviderId::Foreign),
            (Some("alicloud://"), ProviderId::Malformed),
            (Some("alicloud:///cn-hangzhou.i-bp1"), ProviderId::Malformed),
            (Some("alicloud://alicloud://cn-hangzhou.i-bp1"), ProviderId::Malformed),
            (Some("i-bp1"), ProviderId::Malformed),
            (Some("cn-hangzhou."), ProviderId::Malformed),
            (Some(".i-bp1"), ProviderId::Malformed),
            (Some("cn-hangzhou.i-"), ProviderId::Malformed),
            (Some("cn-hangzhou.i-BP1"), ProviderId::Malformed),
            (Some("cn-hangzhou.i-bp1\n"), ProviderId::Malformed),
            (Some(" cn-hangzhou.i-bp1"), ProviderId::Malformed),
            (Some("cn-hangzhou.example.com.i-bp1"), ProviderId::Malformed),
            (Some("cn-hangzhou@example.i-bp1"), ProviderId::Malformed),
            (Some("cn.i-bp1"), ProviderId::Malformed),
        ];
        for (value, expected) in table {
            assert_eq!(ProviderId::parse(value), expected, "{value:?}");
        }
        let long = format!("cn-hangzhou.i-{}", "a".repeat(63));
        assert_eq!(ProviderId::parse(Some(&long)), ProviderId::Malformed);
    }

    #[test]
    fn entries_of_instance_ids_may_have_a_region() {
        assert_eq!(parse_instance("i-bp1"), Ok((None, "i-bp1")));
        assert_eq!(parse_instance("cn-hangzhou.i-bp1"), Ok((Some("cn-hangzhou"), "i-bp1")));
        for wrong in ["", "i-", "bp1", ".i-bp1", "cn.i-bp1", "cn-hangzhou.", "alicloud://cn-hangzhou.i-bp1"] {
            assert_eq!(parse_instance(wrong), Err(InvalidInstanceId), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn formatted_provider_ids_are_parsed_back(
            region in "([a-z]{2}|rus)(-[a-z0-9]{1,10}){1,4}", id in "i-[a-z0-9]{1,62}", scheme in any::<bool>(),
        ) {
            let value = format!("{}{region}.{id}", if scheme { "alicloud://" } else { "" });
            let read = ProviderId::parse(Some(&value));
            prop_assert_eq!(read, ProviderId::Instance { region: &region, id: &id });
        }

        #[test]
        fn parsed_ids_cannot_change_the_host_name(text in "(alicloud://)?.{0,40}") {
            if let ProviderId::Instance { region, id } = ProviderId::parse(Some(&text)) {
                prop_assert!(is_region_id(region));
                prop_assert!(id.bytes().all(|byte| is_lower_alphanumeric(byte) || byte == b'-'));
                let both = format!("{region}.{id}");
                prop_assert!(text.ends_with(&both));
            }
        }
    }
}
