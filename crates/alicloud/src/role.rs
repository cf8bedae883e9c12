//! Names and ARNs of RAM roles.

/// The maximum length of a role name in characters.
const MAX_NAME: usize = 64;

/// The name of a RAM role: 1 to 64 of `[A-Za-z0-9._-]`. It becomes part of a path, so dots alone are not
/// allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleName(String);

/// The ARN of a RAM role: `acs:ram::<account>:role/<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleArn(String);

/// The value is no role name. The error does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no name of a RAM role: it is 1 to 64 letters, digits, dots, hyphens and underscores")]
pub struct InvalidRoleName;

/// The value is no role ARN. The error does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no ARN of a RAM role: write it as in acs:ram::1234567890123456:role/name")]
pub struct InvalidRoleArn;

impl RoleName {
    /// Parses a name. Does not trim it.
    ///
    /// # Errors
    /// `InvalidRoleName` if the value does not match the rule.
    pub fn parse(name: &str) -> Result<Self, InvalidRoleName> {
        let fits = (1..=MAX_NAME).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
            && name.bytes().any(|b| b != b'.');
        if fits { Ok(Self(name.to_owned())) } else { Err(InvalidRoleName) }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl RoleArn {
    /// Parses an ARN. Does not trim it.
    ///
    /// # Errors
    /// `InvalidRoleArn` if the value does not match the rule.
    pub fn parse(arn: &str) -> Result<Self, InvalidRoleArn> {
        let rest = arn.strip_prefix("acs:ram::").ok_or(InvalidRoleArn)?;
        let (account, name) = rest.split_once(":role/").ok_or(InvalidRoleArn)?;
        let account_fits = (1..=32).contains(&account.len()) && account.bytes().all(|b| b.is_ascii_digit());
        if account_fits && RoleName::parse(name).is_ok() {
            Ok(Self(arn.to_owned()))
        } else {
            Err(InvalidRoleArn)
        }
    }

    /// The ARN.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_role_names_are_accepted() {
        let longest = "a".repeat(64);
        for name in ["a", "KubernetesWorkerRole-0f3c", "a.b_c", "..a", &longest] {
            assert_eq!(RoleName::parse(name).unwrap().as_str(), name);
        }
        let overlong = "a".repeat(65);
        for name in ["", ".", "..", "a/b", "a b", "a\n", "a%2e", "rôle", "<html>", "a?b", "a#b", &overlong] {
            assert_eq!(RoleName::parse(name), Err(InvalidRoleName), "{name:?}");
        }
    }

    #[test]
    fn only_role_arns_are_accepted() {
        for arn in ["acs:ram::1234567890123456:role/name", "acs:ram::1:role/a.b-c"] {
            assert_eq!(RoleArn::parse(arn).unwrap().as_str(), arn);
        }
        for arn in [
            "",
            "name",
            "acs:ram::1:user/name",
            "acs:ram:*:1:role/name",
            "acs:ram:::role/name",
            "acs:ram::one:role/name",
            "acs:ram::1:role/",
            "acs:ram::1:role/a/b",
            "acs:ram::1:role/name\n",
            " acs:ram::1:role/name",
            "arn:aws:iam::1:role/name",
        ] {
            assert_eq!(RoleArn::parse(arn), Err(InvalidRoleArn), "{arn:?}");
        }
    }

    proptest! {
        #[test]
        fn an_accepted_name_cannot_change_the_path(name in "[-a-zA-Z0-9._/%?#: ]{0,12}") {
            if RoleName::parse(&name).is_ok() {
                let url = reqwest::Url::parse(&format!("http://host/roles/{name}")).unwrap();
                prop_assert_eq!(url.path(), format!("/roles/{name}"));
                prop_assert_eq!(url.host_str(), Some("host"));
            }
        }
    }
}
