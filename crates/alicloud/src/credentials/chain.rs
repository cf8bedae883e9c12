//! The provider chain of the official SDKs. The first configured provider is the identity for the life of the
//! process.

use std::{
    ffi::OsString,
    sync::{Arc, OnceLock},
};

use futures::{FutureExt, future::BoxFuture};

use super::{
    CliConfig, Credentials, CredentialsFile, CredentialsUri, EcsRamRole, Environment, Oidc, Provider,
    ProviderContext, ProviderError, Variables,
};

/// A chain of providers.
///
/// A provider that is not configured is skipped. An error ends the search: a broken configuration must never
/// silently become another identity. The first provider that returns credentials is kept for the life of the
/// process. Until then, each request asks all providers.
pub struct Chain {
    providers: Vec<Arc<dyn Provider>>,
    kept: OnceLock<Arc<dyn Provider>>,
}

impl Chain {
    /// The chain of the official SDKs: environment, OIDC, CLI config, credentials file, ECS RAM role,
    /// credentials URI.
    ///
    /// `lookup` reads an environment variable; nothing else reads the environment, not even `HOME`.
    #[must_use]
    pub fn from_environment(lookup: impl Fn(&str) -> Option<OsString>, context: &ProviderContext) -> Self {
        let variables = Variables::new(&lookup);
        let ProviderContext { rpc, sts, metadata, session_name } = context.clone();
        Self::new(vec![
            Arc::new(Environment::read(&lookup)),
            Arc::new(Oidc::read(variables, sts, &session_name)),
            Arc::new(CliConfig::read(variables, context)),
            Arc::new(CredentialsFile::read(variables, context)),
            Arc::new(EcsRamRole::read(variables, rpc.clone(), metadata)),
            Arc::new(CredentialsUri::read(variables, rpc)),
        ])
    }

    /// A chain of these providers.
    #[must_use]
    pub fn new(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self { providers, kept: OnceLock::new() }
    }

    async fn find(&self) -> Result<Option<Credentials>, ProviderError> {
        if let Some(kept) = self.kept.get() {
            return ask_kept(&**kept).await;
        }
        for provider in &self.providers {
            if let Some(credentials) = provider.credentials().await? {
                let kept = self.kept.get_or_init(|| Arc::clone(provider));
                // A concurrent request may have found another provider.
                return if Arc::ptr_eq(kept, provider) {
                    Ok(Some(credentials))
                } else {
                    ask_kept(&**kept).await
                };
            }
        }
        Ok(None)
    }
}

impl Provider for Chain {
    /// The name of the kept provider; `chain` before.
    fn name(&self) -> &'static str {
        self.kept.get().map_or("chain", |kept| kept.name())
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        self.find().boxed()
    }
}

/// Asks the kept provider, which must stay configured.
async fn ask_kept(kept: &dyn Provider) -> Result<Option<Credentials>, ProviderError> {
    kept.credentials().await?.ok_or_else(|| kept.gone()).map(Some)
}

#[cfg(test)]
mod tests;
