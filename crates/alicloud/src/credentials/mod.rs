//! Where credentials come from: the [`Provider`] trait, one file per provider, and the cache in front of them.
//!
//! | module | content |
//! |---|---|
//! | [`chain`] | the provider chain of the official SDKs; it keeps the first provider that returns credentials |
//! | [`environment`], [`oidc`], [`cli_config`] | providers 1 to 3 of the chain |
//! | [`credentials_file`], [`ecs_ram_role`], [`credentials_uri`] | providers 4 to 6 of the chain |
//! | `assume_role`, `static_keys` | the providers for objects with their own identity |
//! | `cache` | renews credentials, shares one request between all callers, backs off after failures |
//! | `profile_chain` | runs a profile of the CLI config or of the credentials file: a source, then roles |
//! | `context` | what the providers make their calls with |
//! | `fetch`, `file`, `ini` | HTTP requests, file access and the INI format |

mod assume_role;
mod cache;
pub mod chain;
pub mod cli_config;
mod context;
pub mod credentials_file;
pub mod credentials_uri;
pub mod ecs_ram_role;
pub mod environment;
mod fetch;
mod file;
mod ini;
pub mod oidc;
mod profile_chain;
mod static_keys;
#[cfg(test)]
pub(super) mod test_support;

use futures::future::BoxFuture;

pub use crate::{
    access_key::{Credentials, InvalidCredentials, Secret},
    provider_error::{FailureKind, ProviderError},
    role::{RoleArn, RoleName},
    session_name::{SessionName, external_id},
    variables::{NotUtf8, Variables},
};
pub use assume_role::AssumedRole;
pub(super) use cache::STALE_AFTER;
pub use cache::{Age, Cache};
pub use chain::Chain;
pub use cli_config::CliConfig;
pub use context::ProviderContext;
pub use credentials_file::CredentialsFile;
pub use credentials_uri::CredentialsUri;
pub use ecs_ram_role::EcsRamRole;
pub use environment::Environment;
pub use oidc::Oidc;
pub use static_keys::StaticKeys;

/// A source of credentials.
pub trait Provider: Send + Sync {
    /// The name in logs and messages, for example `environment`.
    fn name(&self) -> &'static str;

    /// Returns credentials. `Ok(None)`: not configured, so a chain asks the next provider.
    ///
    /// # Errors
    /// Configured, but there are no credentials. A chain stops here, because a broken configuration must
    /// never silently become another identity.
    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>>;

    /// The error for a provider that was configured before and is not any more.
    fn gone(&self) -> ProviderError {
        let problem =
            "it gave credentials before and is not configured any more; restart to become another identity";
        ProviderError::new(self.name(), FailureKind::Refused, problem)
    }
}
