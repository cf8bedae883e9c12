//! The providers in the order of the official SDKs: the first that is configured is who we are, for good.

use std::{
    ffi::OsString,
    sync::{Arc, OnceLock},
};

use futures::{FutureExt, future::BoxFuture};

use super::{
    CliConfig, Credentials, CredentialsFile, CredentialsUri, EcsRamRole, Environment, Oidc, Provider,
    ProviderContext, ProviderError, Variables,
};

/// The providers in turn.
///
/// "Not configured" leads on to the next; an error stops, and is told: what is broken must never silently become another
/// identity. The first that answers is kept for the life of the process. While none has answered, all are asked again each
/// time.
pub struct Chain {
    providers: Vec<Arc<dyn Provider>>,
    kept: OnceLock<Arc<dyn Provider>>,
}

impl Chain {
    /// The chain of the official SDKs: environment, OIDC, CLI config, credentials file, ECS RAM role, credentials URI.
    ///
    /// `lookup` is all that is read of the environment, `HOME` included.
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

    /// These providers in turn.
    #[must_use]
    pub fn new(providers: Vec<Arc<dyn Provider>>) -> Self {
        Self { providers, kept: OnceLock::new() }
    }

    async fn ask(&self) -> Result<Option<Credentials>, ProviderError> {
        if let Some(kept) = self.kept.get() {
            return remain(&**kept).await;
        }
        for provider in &self.providers {
            if let Some(credentials) = provider.credentials().await? {
                let kept = self.kept.get_or_init(|| Arc::clone(provider));
                // Somebody else who asked at the same time may have come to another end.
                return if Arc::ptr_eq(kept, provider) {
                    Ok(Some(credentials))
                } else {
                    remain(&**kept).await
                };
            }
        }
        Ok(None)
    }
}

impl Provider for Chain {
    /// The name of the provider that has answered, `chain` before.
    fn name(&self) -> &'static str {
        self.kept.get().map_or("chain", |kept| kept.name())
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        self.ask().boxed()
    }
}

/// Asks a provider that we have been before.
async fn remain(kept: &dyn Provider) -> Result<Option<Credentials>, ProviderError> {
    kept.credentials().await?.ok_or_else(|| kept.gone()).map(Some)
}

#[cfg(test)]
mod tests;
