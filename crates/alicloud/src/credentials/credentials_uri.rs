//! Credentials from a URL in the environment, for example of a sidecar.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Method};
use reqwest::Url;
use zeroize::Zeroizing;

use super::{
    Credentials, FailureKind, NotUtf8, Provider, ProviderError, Variables,
    ecs_ram_role::parse_credentials,
    fetch::{FetchError, fetch},
};
use crate::{access_key::Unusable, rpc::Rpc};

/// The variable with the URL, http or https.
pub const CREDENTIALS_URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";

const NAME: &str = "credentialsUri";

/// The time limit of the request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);

/// Asks the URL in the environment.
pub struct CredentialsUri {
    rpc: Rpc,
    url: Result<Option<CredentialsUrl>, CredentialsUriError>,
}

/// A URL that returns credentials. It is never shown, because it may contain a password.
#[derive(Clone)]
pub(super) struct CredentialsUrl(Zeroizing<String>);

/// The value is no such URL. The error does not contain the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no URL that begins with http:// or https://")]
pub(super) struct InvalidCredentialsUrl;

/// Why there are no credentials. Does not contain the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum CredentialsUriError {
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error("{CREDENTIALS_URI} {0}")]
    Invalid(#[from] InvalidCredentialsUrl),
    #[error("the server {0}")]
    Fetch(#[from] FetchError),
    #[error("the server answers with {0}")]
    Unusable(#[from] Unusable),
}

impl CredentialsUri {
    /// Reads the variable. Makes no request.
    #[must_use]
    pub fn read(variables: Variables<'_>, rpc: Rpc) -> Self {
        Self { rpc, url: url(variables) }
    }
}

impl Provider for CredentialsUri {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let failed = |error: CredentialsUriError| ProviderError::new(NAME, error.failure_kind(), &error);
            let Some(url) = self.url.as_ref().map_err(|error| failed(*error))? else {
                return Ok(None);
            };
            let credentials = url.credentials(&self.rpc).await.map_err(failed)?;
            Ok(Some(credentials.from_provider(NAME)))
        }
        .boxed()
    }
}

impl CredentialsUriError {
    pub(super) fn failure_kind(self) -> FailureKind {
        match self {
            Self::NotUtf8(_) | Self::Invalid(_) => FailureKind::Refused,
            Self::Fetch(error) => error.failure_kind(),
            Self::Unusable(_) => FailureKind::Unanswered,
        }
    }
}

impl CredentialsUrl {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidCredentialsUrl> {
        match Url::parse(url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => {
                Ok(Self(Zeroizing::new(url.to_owned())))
            }
            _ => Err(InvalidCredentialsUrl),
        }
    }

    pub(super) async fn credentials(&self, rpc: &Rpc) -> Result<Credentials, CredentialsUriError> {
        let body = fetch(rpc, Method::GET, &self.0, HeaderMap::new(), REQUEST_TIMEOUT).await?;
        Ok(parse_credentials(&body)?.into_credentials(rpc.clock.now())?)
    }
}

fn url(variables: Variables<'_>) -> Result<Option<CredentialsUrl>, CredentialsUriError> {
    let url = variables.text(CREDENTIALS_URI)?;
    Ok(url.map(|url| CredentialsUrl::parse(&url)).transpose()?)
}

#[cfg(test)]
mod tests;
