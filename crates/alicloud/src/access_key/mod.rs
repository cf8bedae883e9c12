//! Access keys as types: a key with its secret and token, and temporary credentials as servers return them.

mod secret;
mod temporary;

use std::fmt;

use jiff::{SignedDuration, Timestamp};

pub use secret::Secret;
pub(crate) use temporary::TemporaryCredentials;
pub use temporary::Unusable;

/// Credentials with less lifetime left count as expired, because a call takes time.
pub(crate) const EXPIRY_MARGIN: SignedDuration = SignedDuration::from_secs(5);

/// An access key, with a security token if it is a temporary one.
///
/// `Debug` shows the first characters of the access key id and no secret. There is no `Display` and no
/// `Serialize`. The memory of the secrets is overwritten on drop.
#[derive(Clone)]
pub struct Credentials {
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Option<Secret>,
    expires_at: Option<Timestamp>,
    provider: &'static str,
}

/// Why a set of values is no access key. Names the value and the rule, and does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// The value is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// The value has a character that is invalid in a header.
    #[error("the {0} has a character that is not visible ASCII, such as a space or a trailing newline")]
    Characters(&'static str),
    /// The value is longer than any that the cloud issues. A gateway may answer such a request with an error
    /// that says nothing about the credentials.
    #[error("the {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
}

impl Credentials {
    /// Credentials of these values. Does not trim them.
    ///
    /// # Errors
    /// [`InvalidCredentials`] for a value that is empty, too long, or not visible ASCII: the values are sent
    /// in headers.
    pub fn new(
        access_key_id: String,
        access_key_secret: Secret,
        security_token: Option<Secret>,
    ) -> Result<Self, InvalidCredentials> {
        check("access key id", &access_key_id, MAX_KEY)?;
        check("access key secret", access_key_secret.expose(), MAX_KEY)?;
        if let Some(token) = &security_token {
            check("security token", token.expose(), MAX_TOKEN)?;
        }
        Ok(Self { access_key_id, access_key_secret, security_token, expires_at: None, provider: "" })
    }

    /// Sets the expiry, by the cloud's clock.
    #[must_use]
    pub fn with_expiry(self, expires_at: Timestamp) -> Self {
        Self { expires_at: Some(expires_at), ..self }
    }

    /// Sets the name of the provider.
    #[must_use]
    pub fn from_provider(self, provider: &'static str) -> Self {
        Self { provider, ..self }
    }

    /// The expiry by the cloud's clock; `None`: never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The name of the provider that returned them.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// The values that logs and statuses must not show.
    pub(crate) fn secrets(&self) -> [&str; 3] {
        let token = self.security_token().map_or("", Secret::expose);
        [self.access_key_id(), self.access_key_secret().expose(), token]
    }

    /// Whether id, secret and token are the same.
    pub(crate) fn has_same_keys(&self, other: &Self) -> bool {
        self.access_key_id == other.access_key_id
            && self.access_key_secret.expose() == other.access_key_secret.expose()
            && self.security_token().map(Secret::expose) == other.security_token().map(Secret::expose)
    }

    /// Whether these are the same values, with the same expiry and provider.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.has_same_keys(other) && (self.expires_at, self.provider) == (other.expires_at, other.provider)
    }

    /// Whether more than [`EXPIRY_MARGIN`] of the lifetime is left at `now`, by the cloud's clock.
    pub(crate) fn is_usable(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| end.duration_since(now) > EXPIRY_MARGIN)
    }

    /// The access key id. It is no secret but identifies an account, so keep it out of messages.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The access key secret.
    #[must_use]
    pub fn access_key_secret(&self) -> &Secret {
        &self.access_key_secret
    }

    /// The security token of temporary credentials.
    #[must_use]
    pub fn security_token(&self) -> Option<&Secret> {
        self.security_token.as_ref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to distinguish the key of a RAM user (LTAI) from a temporary one (STS.).
        let kind = self.access_key_id.get(..4).unwrap_or_default();
        f.debug_struct("Credentials")
            .field("access_key_id", &format_args!("{kind}***"))
            .field("access_key_secret", &self.access_key_secret)
            .field("security_token", &self.security_token)
            .field("expires_at", &self.expires_at)
            .field("provider", &self.provider)
            .finish()
    }
}

/// The maximum length of an access key id or secret, in bytes. Those of the cloud have about 30.
const MAX_KEY: usize = 128;
/// The maximum length of a security token, in bytes. The cloud documents no limit; its tokens have about
/// 1,000.
const MAX_TOKEN: usize = 8 * 1024;

fn check(name: &'static str, value: &str, longest: usize) -> Result<(), InvalidCredentials> {
    if value.is_empty() {
        Err(InvalidCredentials::Empty(name))
    } else if value.len() > longest {
        Err(InvalidCredentials::TooLong(name, longest))
    } else if value.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(InvalidCredentials::Characters(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn credentials(id: &str, secret: &str, token: Option<&str>) -> Result<Credentials, InvalidCredentials> {
        Credentials::new(id.into(), Secret::from(secret), token.map(Secret::from))
    }

    #[test]
    fn debug_shows_no_secret() {
        let shown = format!(
            "{:?}",
            credentials("LTAI5tExample", "hush", Some("token")).unwrap().from_provider("environment")
        );
        assert_eq!(
            shown,
            "Credentials { access_key_id: LTAI***, access_key_secret: Secret(***), \
             security_token: Some(Secret(***)), expires_at: None, provider: \"environment\" }"
        );
    }

    #[test]
    fn values_invalid_in_a_header_are_refused() {
        let long = |length| "a".repeat(length);
        let (key, token) = (long(MAX_KEY + 1), long(MAX_TOKEN + 1));
        let table = [
            (("id", "secret", None), Ok(())),
            ((&key[1..], &key[1..], Some(&token[1..])), Ok(())),
            ((&key, "secret", None), Err(InvalidCredentials::TooLong("access key id", MAX_KEY))),
            (("id", &key, None), Err(InvalidCredentials::TooLong("access key secret", MAX_KEY))),
            (("id", "secret", Some(&token)), Err(InvalidCredentials::TooLong("security token", MAX_TOKEN))),
            (("id", "secret", Some("a+/=")), Ok(())),
            (("", "secret", None), Err(InvalidCredentials::Empty("access key id"))),
            (("id", "", None), Err(InvalidCredentials::Empty("access key secret"))),
            (("id", "secret", Some("")), Err(InvalidCredentials::Empty("security token"))),
            (("id\n", "secret", None), Err(InvalidCredentials::Characters("access key id"))),
            (("id", "sec ret", None), Err(InvalidCredentials::Characters("access key secret"))),
            (("id", "secret", Some("t\r\nX: y")), Err(InvalidCredentials::Characters("security token"))),
            (("ïd", "secret", None), Err(InvalidCredentials::Characters("access key id"))),
        ];
        for ((id, secret, token), expected) in table {
            assert_eq!(credentials(id, secret, token).map(|_| ()), expected, "{id:?} {secret:?} {token:?}");
        }
    }
}
