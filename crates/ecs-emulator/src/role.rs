//! Roles: trust policies and permissions.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::Action;
use super::token::Claims;
use super::wire::ApiError;

/// A RAM role. By default its own account may assume it, for up to an hour, with all permissions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Role {
    /// `acs:ram::ACCOUNT:role/NAME`; in a control request the path may give it instead.
    pub arn: String,
    /// The accounts that may assume it; `None`: its own.
    pub trusted: Option<BTreeSet<String>>,
    /// The required `ExternalId` of `AssumeRole`; `None`: not checked.
    pub external_id: Option<String>,
    /// Who may assume it with a token of an identity provider; `None`: nobody.
    pub oidc: Option<OidcTrust>,
    /// Maximum of `DurationSeconds`.
    pub max_session_seconds: u64,
    /// Actions that its credentials have no permission for.
    pub denied: BTreeSet<Action>,
    /// The instances that its credentials have permissions for; `None`: all of its account.
    pub instances: Option<BTreeSet<String>>,
}

impl Default for Role {
    fn default() -> Self {
        Self {
            arn: String::new(),
            trusted: None,
            external_id: None,
            oidc: None,
            max_session_seconds: 3600,
            denied: BTreeSet::new(),
            instances: None,
        }
    }
}

impl Role {
    /// A role of that ARN that its own account may assume.
    #[must_use]
    pub fn new(arn: impl Into<String>) -> Self {
        Self { arn: arn.into(), ..Self::default() }
    }

    /// Trusts this account. Its own account is then no longer trusted, unless it is added too.
    #[must_use]
    pub fn trusting(mut self, account: impl Into<String>) -> Self {
        self.trusted.get_or_insert_default().insert(account.into());
        self
    }

    /// Requires this external ID.
    #[must_use]
    pub fn external_id(mut self, external_id: impl Into<String>) -> Self {
        self.external_id = Some(external_id.into());
        self
    }

    /// Accepts tokens of an identity provider.
    #[must_use]
    pub fn oidc(mut self, trust: OidcTrust) -> Self {
        self.oidc = Some(trust);
        self
    }

    /// Sets the maximum of `DurationSeconds`.
    #[must_use]
    pub fn max_session_seconds(mut self, seconds: u64) -> Self {
        self.max_session_seconds = seconds;
        self
    }

    /// Removes the permission for an action from its credentials.
    #[must_use]
    pub fn denied(mut self, action: Action) -> Self {
        self.denied.insert(action);
        self
    }

    /// Restricts the permissions of its credentials to these instances.
    #[must_use]
    pub fn only<I: Into<String>>(mut self, instances: impl IntoIterator<Item = I>) -> Self {
        self.instances = Some(instances.into_iter().map(Into::into).collect());
        self
    }

    /// The account it belongs to; empty if the ARN is none of a role.
    #[must_use]
    pub fn account(&self) -> &str {
        split_arn(&self.arn).map_or("", |(account, _)| account)
    }

    /// Its name, the end of the ARN; empty if the ARN is none of a role.
    #[must_use]
    pub fn name(&self) -> &str {
        split_arn(&self.arn).map_or("", |(_, name)| name)
    }

    /// Whether keys of `account` may assume it.
    pub(super) fn trusts(&self, account: &str) -> bool {
        self.trusted.as_ref().map_or_else(|| self.account() == account, |trusted| trusted.contains(account))
    }
}

/// Account and name in `acs:ram::ACCOUNT:role/NAME`.
pub(super) fn split_arn(arn: &str) -> Option<(&str, &str)> {
    let (account, name) = arn.strip_prefix("acs:ram::")?.split_once(":role/")?;
    let number = !account.is_empty() && account.bytes().all(|byte| byte.is_ascii_digit());
    (number && !name.is_empty()).then_some((account, name))
}

/// The tokens of an identity provider that a role accepts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct OidcTrust {
    /// `acs:ram::ACCOUNT:oidc-provider/NAME`.
    pub provider_arn: String,
    /// The accepted tokens. Empty: every JSON Web Token, without a check of its signature.
    pub tokens: BTreeSet<String>,
    /// Tokens that are refused as expired. So is a JSON Web Token whose `exp` has passed.
    pub expired: BTreeSet<String>,
    /// The `sub` that a JSON Web Token must carry; `None`: any, and tokens that are none.
    pub subject: Option<String>,
}

impl OidcTrust {
    /// Accepts every JSON Web Token of this provider.
    #[must_use]
    pub fn new(provider_arn: impl Into<String>) -> Self {
        Self { provider_arn: provider_arn.into(), ..Self::default() }
    }

    /// Accepts this token. Other tokens must be added too.
    #[must_use]
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.tokens.insert(token.into());
        self
    }

    /// Refuses this token as expired.
    #[must_use]
    pub fn expired(mut self, token: impl Into<String>) -> Self {
        self.expired.insert(token.into());
        self
    }

    /// Asks for JSON Web Tokens with this `sub`.
    #[must_use]
    pub fn subject(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(subject.into());
        self
    }

    /// Checks a token. Returns its claims if it is a JSON Web Token.
    pub(super) fn judge(&self, token: &str, now: Timestamp) -> Result<Option<Claims>, ApiError> {
        let refused = |code: &'static str, message: &str| Err(ApiError::new(401, code, message));
        if token.is_empty() {
            return refused("AuthenticationFail.OIDCToken.Invalid", "The OIDCToken can not empty.");
        }
        let claims = Claims::read(token);
        let past = claims.as_ref().and_then(|claims| claims.exp).is_some_and(|exp| exp <= now.as_second());
        if past || self.expired.contains(token) {
            return refused("AuthenticationFail.OIDCToken.Expired", "This JsonWebToken is expired.");
        }
        let known = if self.tokens.is_empty() { claims.is_some() } else { self.tokens.contains(token) };
        if !known {
            let message = "The Jwt content is invalid that cannot be recognized.";
            return refused("AuthenticationFail.OIDCToken.Invalid", message);
        }
        let subject = claims.as_ref().and_then(|claims| claims.sub.as_ref());
        if self.subject.is_some() && self.subject.as_ref() != subject {
            return refused("AuthenticationFail.NoPermission", "There is no permission");
        }
        Ok(claims)
    }
}

#[cfg(test)]
mod tests {
    use super::super::token::tests::jwt;
    use super::*;

    #[test]
    fn only_the_arn_of_a_role_names_one() {
        let table = [
            ("acs:ram::1:role/demo", Some(("1", "demo"))),
            ("acs:ram::1:role/a/b", Some(("1", "a/b"))),
            ("acs:ram::1:user/demo", None),
            ("acs:ram:::role/demo", None),
            ("acs:ram::x:role/demo", None),
            ("acs:ram::1:role/", None),
            ("demo", None),
        ];
        for (arn, expected) in table {
            assert_eq!(split_arn(arn), expected, "{arn}");
        }
    }

    #[test]
    fn a_role_trusts_its_own_account_until_others_are_named() {
        let own = Role::new("acs:ram::1:role/demo");
        assert!(own.trusts("1") && !own.trusts("2"));
        let other = own.trusting("2");
        assert!(other.trusts("2") && !other.trusts("1"));
    }

    #[test]
    fn tokens_are_judged_by_the_list_the_clock_and_the_subject() {
        let now = Timestamp::from_second(1000).unwrap();
        let any = OidcTrust::new("p");
        let listed = OidcTrust::new("p").token("good").expired("old");
        let of_demo = OidcTrust::new("p").subject("demo");
        let invalid = "AuthenticationFail.OIDCToken.Invalid";
        let expired = "AuthenticationFail.OIDCToken.Expired";
        let table = [
            (&any, jwt(r#"{"sub":"demo","exp":1001}"#), ""),
            (&any, jwt("{}"), ""),
            (&any, jwt(r#"{"exp":1000}"#), expired),
            (&any, "a.b.c".to_owned(), invalid),
            (&any, "opaque".to_owned(), invalid),
            (&any, String::new(), invalid),
            (&listed, "good".to_owned(), ""),
            (&listed, "old".to_owned(), expired),
            (&listed, jwt("{}"), invalid),
            (&of_demo, jwt(r#"{"sub":"demo"}"#), ""),
            (&of_demo, jwt(r#"{"sub":"other"}"#), "AuthenticationFail.NoPermission"),
            (&of_demo, jwt("{}"), "AuthenticationFail.NoPermission"),
        ];
        for (trust, token, expected) in table {
            let code = trust.judge(&token, now).err().map(|error| error.code).unwrap_or_default();
            assert_eq!(code, expected, "{token:?} for {trust:?}");
        }
    }
}
