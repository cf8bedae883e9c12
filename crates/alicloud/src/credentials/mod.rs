//! Who we are to the cloud: credentials, the trait of those who provide them, and one file per provider.
//!
//! | file | what lives there |
//! |---|---|
//! | [`chain`] | the order of the providers, and that the first that answers is kept |
//! | [`environment`], [`oidc`], [`cli_config`], [`credentials_file`], [`ecs_ram_role`], [`credentials_uri`] | the providers of the chain |
//! | `assume_role`, `given_keys` | the providers of an object's own identity |
//! | `cache` | when credentials are asked for anew, and by whom |
//! | `recipe` | what a profile of one of the two files says to do |
//! | `issued`, `fetch`, `file`, `variables`, `ini` | what providers have in common |
//! | `role`, `session`, `secret` | names and secrets as types |

mod assume_role;
mod cache;
pub mod chain;
pub mod cli_config;
pub mod credentials_file;
pub mod credentials_uri;
pub mod ecs_ram_role;
pub mod environment;
mod fetch;
mod file;
mod given_keys;
mod ini;
mod issued;
pub mod oidc;
mod recipe;
mod role;
mod secret;
mod session;
#[cfg(test)]
pub(super) mod test_tools;
mod variables;

use std::fmt;

use futures::future::BoxFuture;
use jiff::Timestamp;

pub use assume_role::AssumedRole;
pub(super) use cache::STALE;
pub use cache::{Age, Cache};
pub use chain::{Chain, Tools};
pub use cli_config::CliConfig;
pub use credentials_file::CredentialsFile;
pub use credentials_uri::CredentialsUri;
pub use ecs_ram_role::EcsRamRole;
pub use environment::Environment;
pub use given_keys::GivenKeys;
pub(super) use issued::Issued;
pub use issued::Unusable;
pub use oidc::Oidc;
pub use role::{InvalidRoleArn, InvalidRoleName, RoleArn, RoleName};
pub use secret::Secret;
pub use session::{InvalidSessionName, SessionName, external_id};
pub use variables::{NotUtf8, Variables};

/// A source of credentials.
pub trait Provider: Send + Sync {
    /// The provider's name in logs and messages, for example `environment`.
    fn name(&self) -> &'static str;

    /// Asks for credentials. `Ok(None)`: not configured here, so a chain goes on to the next provider.
    ///
    /// # Errors
    /// Configured, but not to be had. A chain stops here: a broken configuration must never silently become
    /// another identity.
    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>>;

    /// What is wrong where it answers "not configured here" after it gave credentials.
    fn gone(&self) -> ProviderError {
        let problem =
            "it gave credentials before and is not configured any more; restart to become another identity";
        ProviderError::new(self.name(), FailureKind::Refused, problem)
    }
}

/// A provider is configured and cannot give credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credentials from {provider}: {problem}")]
pub struct ProviderError {
    /// The name of the provider that failed.
    pub provider: &'static str,
    /// What is wrong, in our own stable words: it reaches conditions and events, so it holds no secret, no server's
    /// text, no counter and no time.
    pub problem: String,
    /// What the failure says about the identity.
    pub kind: FailureKind,
}

/// What the failure of a provider says about the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The identity was refused, or its configuration cannot be used. A retry without a change gives the same
    /// result.
    Refused,
    /// The cloud answered that the account has used up its calls. A retry may succeed.
    Throttled,
    /// There was no usable answer: no connection, a timeout, a server error or an unreadable reply. A retry may
    /// succeed.
    Unanswered,
}

impl ProviderError {
    /// A failure of the provider of that name. `problem`: see [`ProviderError::problem`].
    pub fn new(provider: &'static str, kind: FailureKind, problem: &(impl fmt::Display + ?Sized)) -> Self {
        Self { provider, problem: problem.to_string(), kind }
    }
}

/// An access key, with a security token if it is a temporary one.
///
/// `Debug` shows the first characters of the access key id and no secret. There is no `Display` and no
/// `Serialize`, and the memory of the secrets is overwritten on drop.
#[derive(Clone)]
pub struct Credentials {
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Option<Secret>,
    expires_at: Option<Timestamp>,
    provider: &'static str,
}

/// Why a set of values is no access key. Says which value breaks which rule, never what was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidCredentials {
    /// The value is empty.
    #[error("the {0} is empty")]
    Empty(&'static str),
    /// The value has a character that no header can carry.
    #[error("the {0} has a character that is not visible ASCII, such as a space or a trailing newline")]
    Characters(&'static str),
    /// The value is longer than any that the cloud gives. A gateway answers such a request with a page that says nothing of
    /// the credentials.
    #[error("the {0} is longer than {1} bytes")]
    TooLong(&'static str, usize),
}

impl Credentials {
    /// Takes the three values as issued; nothing is trimmed.
    ///
    /// # Errors
    /// [`InvalidCredentials`] for a value that is empty, too long, or not made of visible ASCII characters only: it goes
    /// into a header, where anything else would be refused or, worse, end the header.
    pub fn new(
        access_key_id: String,
        access_key_secret: Secret,
        security_token: Option<Secret>,
    ) -> Result<Self, InvalidCredentials> {
        visible("access key id", &access_key_id, MAX_KEY)?;
        visible("access key secret", access_key_secret.expose(), MAX_KEY)?;
        if let Some(token) = &security_token {
            visible("security token", token.expose(), MAX_TOKEN)?;
        }
        Ok(Self { access_key_id, access_key_secret, security_token, expires_at: None, provider: "" })
    }

    /// The same, good until then by the cloud's clock.
    #[must_use]
    pub fn until(self, expires_at: Timestamp) -> Self {
        Self { expires_at: Some(expires_at), ..self }
    }

    /// The same, told to be from the provider of that name.
    #[must_use]
    pub fn from_provider(self, provider: &'static str) -> Self {
        Self { provider, ..self }
    }

    /// When they expire, by the cloud's clock; `None`: never.
    #[must_use]
    pub fn expires_at(&self) -> Option<Timestamp> {
        self.expires_at
    }

    /// The name of the provider that gave them.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.provider
    }

    /// The values that neither a log nor a status may show.
    pub(crate) fn secrets(&self) -> [&str; 3] {
        let token = self.security_token().map_or("", Secret::expose);
        [self.access_key_id(), self.access_key_secret().expose(), token]
    }

    /// Whether these are the same three values.
    fn same_keys(&self, other: &Self) -> bool {
        self.access_key_id == other.access_key_id
            && self.access_key_secret.expose() == other.access_key_secret.expose()
            && self.security_token().map(Secret::expose) == other.security_token().map(Secret::expose)
    }

    /// The access key's id. It is no secret, yet it names an account: keep it out of messages.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// The access key's secret, which signs.
    #[must_use]
    pub fn access_key_secret(&self) -> &Secret {
        &self.access_key_secret
    }

    /// The security token of a temporary access key.
    #[must_use]
    pub fn security_token(&self) -> Option<&Secret> {
        self.security_token.as_ref()
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Enough to tell a RAM user's key (LTAI) from a temporary one (STS.).
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

/// The longest access key id or secret, in bytes. Those of the cloud have about 30.
const MAX_KEY: usize = 128;
/// The longest security token, in bytes. The cloud names no limit; its tokens have about 1,000.
const MAX_TOKEN: usize = 8 * 1024;

fn visible(name: &'static str, value: &str, longest: usize) -> Result<(), InvalidCredentials> {
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
    fn values_that_no_header_can_carry_are_refused() {
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
