//! Which instance a Node's `spec.providerID`, or an entry of a list, stands for.
//!
//! The region becomes part of a host name that is sent passwords, and a Node writes its own providerID: what does not
//! fit the rules of the CRD to the letter is no instance.

/// Longest region ID and longest instance ID, in characters.
const LONGEST: usize = 64;

/// What a `spec.providerID` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProviderId<'a> {
    /// An instance.
    Instance {
        /// Its region.
        region: &'a str,
        /// Its ID.
        id: &'a str,
    },
    /// Nothing yet.
    Absent,
    /// A machine of another cloud.
    Foreign,
    /// It should be an instance, and is none.
    Malformed,
}

impl<'a> ProviderId<'a> {
    /// Reads `<region>.<instance>`, or the same after `alicloud://`. Another scheme is another cloud's.
    #[must_use]
    pub fn parse(value: Option<&'a str>) -> Self {
        let value = match value {
            None | Some("") => return Self::Absent,
            Some(value) => value,
        };
        let regional = match value.split_once("://") {
            Some(("alicloud", rest)) => rest,
            Some(_) => return Self::Foreign,
            None => value,
        };
        match regional.split_once('.') {
            Some((region, id)) if is_region(region) && is_instance(id) => Self::Instance { region, id },
            _ => Self::Malformed,
        }
    }
}

/// The value is no instance's ID. Holds nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "is no instance: write its ID as in i-bp67acfmxazb4p, or with its region as in cn-hangzhou.i-bp67acfmxazb4p"
)]
pub struct InvalidInstance;

/// Reads an entry of `spec.instanceIds`: the region, where it names one, and the ID.
///
/// # Errors
/// [`InvalidInstance`] where it is none.
pub fn listed(entry: &str) -> Result<(Option<&str>, &str), InvalidInstance> {
    let (region, id) = entry.split_once('.').map_or((None, entry), |(region, id)| (Some(region), id));
    if region.is_none_or(is_region) && is_instance(id) { Ok((region, id)) } else { Err(InvalidInstance) }
}

/// `^i-[a-z0-9]+$`, at most 64 characters.
pub(super) fn is_instance(id: &str) -> bool {
    let rest = id.strip_prefix("i-").unwrap_or_default();
    !rest.is_empty() && id.len() <= LONGEST && rest.bytes().all(is_small)
}

/// `^([a-z]{2}|rus)(-[a-z0-9]+){1,4}$`, at most 64 characters.
pub(super) fn is_region(region: &str) -> bool {
    let Some((area, places)) = region.split_once('-') else { return false };
    let mut parts = places.split('-');
    (area.len() == 2 || area == "rus")
        && area.bytes().all(|byte| byte.is_ascii_lowercase())
        && parts.clone().count() <= 4
        && parts.all(|part| !part.is_empty() && part.bytes().all(is_small))
        && region.len() <= LONGEST
}

fn is_small(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn both_forms_are_read_and_the_rest_is_told_apart() {
        let here = ProviderId::Instance { region: "cn-hangzhou", id: "i-bp67acfmxazb4p" };
        let table = [
            (Some("cn-hangzhou.i-bp67acfmxazb4p"), here),
            (Some("alicloud://cn-hangzhou.i-bp67acfmxazb4p"), here),
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
    fn entries_of_a_list_may_name_their_region() {
        assert_eq!(listed("i-bp1"), Ok((None, "i-bp1")));
        assert_eq!(listed("cn-hangzhou.i-bp1"), Ok((Some("cn-hangzhou"), "i-bp1")));
        for wrong in ["", "i-", "bp1", ".i-bp1", "cn.i-bp1", "cn-hangzhou.", "alicloud://cn-hangzhou.i-bp1"] {
            assert_eq!(listed(wrong), Err(InvalidInstance), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn what_is_put_together_is_taken_apart(
            region in "([a-z]{2}|rus)(-[a-z0-9]{1,10}){1,4}", id in "i-[a-z0-9]{1,62}", scheme in any::<bool>(),
        ) {
            let value = format!("{}{region}.{id}", if scheme { "alicloud://" } else { "" });
            let read = ProviderId::parse(Some(&value));
            prop_assert_eq!(read, ProviderId::Instance { region: &region, id: &id });
        }

        #[test]
        fn what_is_read_holds_nothing_that_could_lead_elsewhere(text in "(alicloud://)?.{0,40}") {
            if let ProviderId::Instance { region, id } = ProviderId::parse(Some(&text)) {
                prop_assert!(is_region(region));
                prop_assert!(id.bytes().all(|byte| is_small(byte) || byte == b'-'));
                let both = format!("{region}.{id}");
                prop_assert!(text.ends_with(&both));
            }
        }
    }
}
