//! Temporary credentials as servers return them.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Credentials, EXPIRY_MARGIN, InvalidCredentials, Secret};

/// The JSON object with an access key that STS, the metadata service and a credentials URI return.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct TemporaryCredentials {
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Secret,
    /// RFC 3339.
    expiration: String,
}

/// Why returned credentials are unusable. Names the rule, and does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A value is invalid.
    #[error("credentials that cannot be used: {0}")]
    Invalid(#[from] InvalidCredentials),
    /// The expiry is invalid.
    #[error("credentials whose Expiration is no time")]
    Expiration,
    /// They have expired, by the cloud's clock.
    #[error("credentials that have expired already")]
    Expired,
}

impl TemporaryCredentials {
    /// The credentials, if they are usable at `now`, by the cloud's clock.
    pub(crate) fn into_credentials(self, now: Timestamp) -> Result<Credentials, Unusable> {
        let Self { access_key_id, access_key_secret, security_token, expiration } = self;
        let expires_at: Timestamp = expiration.parse().map_err(|_| Unusable::Expiration)?;
        let credentials = Credentials::new(access_key_id, access_key_secret, Some(security_token))?;
        if expires_at.duration_since(now) <= EXPIRY_MARGIN {
            return Err(Unusable::Expired);
        }
        Ok(credentials.with_expiry(expires_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(expiration: &str, token: &str) -> Result<Option<String>, Unusable> {
        let json = format!(
            r#"{{"AccessKeyId":"STS.id","AccessKeySecret":"secret","SecurityToken":{token:?},"Expiration":{expiration:?}}}"#
        );
        let temporary: TemporaryCredentials = serde_json::from_str(&json).unwrap();
        let credentials = temporary.into_credentials("2024-05-01T12:00:00Z".parse().unwrap())?;
        Ok(credentials.expires_at().map(|time| time.to_string()))
    }

    #[test]
    fn only_usable_credentials_are_accepted() {
        let until = |text: &str| Ok(Some(text.to_owned()));
        let table = [
            ("2024-05-01T13:00:00Z", "token", until("2024-05-01T13:00:00Z")),
            ("2024-05-01T21:00:00+08:00", "token", until("2024-05-01T13:00:00Z")),
            ("2024-05-01T12:00:06Z", "token", until("2024-05-01T12:00:06Z")),
            ("2024-05-01T12:00:05Z", "token", Err(Unusable::Expired)),
            ("1970-01-01T00:00:00Z", "token", Err(Unusable::Expired)),
            ("", "token", Err(Unusable::Expiration)),
            ("soon", "token", Err(Unusable::Expiration)),
            ("2024-05-01", "token", Err(Unusable::Expiration)),
            ("99999-05-01T12:00:00Z", "token", Err(Unusable::Expiration)),
            ("2024-05-01T13:00:00Z", "", Err(Unusable::Invalid(InvalidCredentials::Empty("security token")))),
            (
                "2024-05-01T13:00:00Z",
                "to ken",
                Err(Unusable::Invalid(InvalidCredentials::Characters("security token"))),
            ),
        ];
        for (expiration, token, expected) in table {
            assert_eq!(outcome(expiration, token), expected, "{expiration:?} {token:?}");
        }
    }
}
