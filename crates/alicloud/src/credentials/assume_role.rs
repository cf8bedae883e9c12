//! A role that another identity assumes.

use std::sync::Arc;

use futures::{FutureExt, future::BoxFuture};

use super::{Cache, Credentials, FailureKind, Provider, ProviderError};
use crate::{
    error::Error,
    sts::{AssumeRole, Sts},
};

const NAME: &str = "assumeRole";

/// A role, and the credentials that assume it.
pub struct AssumedRole {
    sts: Sts,
    source: Arc<Cache>,
    role: AssumeRole,
}

impl AssumedRole {
    /// The role, assumed with the credentials of `source`. An error of the source is returned unchanged, so
    /// it names the provider that failed.
    #[must_use]
    pub fn new(sts: Sts, source: Arc<Cache>, role: AssumeRole) -> Self {
        Self { sts, source, role }
    }

    async fn assume(&self) -> Result<Credentials, ProviderError> {
        let caller = self.caller().await?;
        let refused = match self.sts.assume_role(&caller, &self.role).await {
            Err(error) if error.refuses_credentials() => error,
            result => return result.map_err(|error| failed(&error)),
        };
        // The keys may have been rotated at their source: try once more with the current ones.
        self.source.forget(&caller);
        let renewed = self.caller().await?;
        if renewed.has_same_keys(&caller) {
            return Err(failed(&refused));
        }
        let result = self.sts.assume_role(&renewed, &self.role).await;
        if result.as_ref().is_err_and(Error::refuses_credentials) {
            self.source.forget(&renewed);
        }
        result.map_err(|error| failed(&error))
    }

    async fn caller(&self) -> Result<Arc<Credentials>, ProviderError> {
        let none = "there are no credentials to assume the role with";
        self.source.get().await?.ok_or_else(|| ProviderError::new(NAME, FailureKind::Refused, none))
    }
}

impl Provider for AssumedRole {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async { Ok(Some(self.assume().await?.from_provider(NAME))) }.boxed()
    }
}

fn failed(error: &Error) -> ProviderError {
    ProviderError::new(NAME, error.failure_kind(), error)
}

#[cfg(test)]
mod tests;
