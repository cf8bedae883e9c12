//! Credentials from a URL that the environment names, such as that of a program beside ours.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Method};
use reqwest::Url;
use zeroize::Zeroizing;

use super::{
    Credentials, FailureKind, NotUtf8, Provider, ProviderError, Variables,
    ecs_ram_role::issued,
    fetch::{FetchError, fetch},
};
use crate::{access_key::Unusable, rpc::Rpc};

/// Holds the URL, http or https.
pub const CREDENTIALS_URI: &str = "ALIBABA_CLOUD_CREDENTIALS_URI";

const NAME: &str = "credentialsUri";

/// For the one request.
const WITHIN: Duration = Duration::from_secs(3);

/// Whatever the URL in the environment answers.
pub struct CredentialsUri {
    rpc: Rpc,
    source: Result<Option<Source>, Problem>,
}

/// A URL that answers credentials. It may hold a password, so nobody is shown it.
#[derive(Clone)]
pub(super) struct Source(Zeroizing<String>);

/// The value is no such URL. Holds nothing of the value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no URL that begins with http:// or https://")]
pub(super) struct InvalidSource;

/// What is wrong with the variable, or with the answer. Shows nothing of the URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error("{CREDENTIALS_URI} {0}")]
    Invalid(#[from] InvalidSource),
    #[error("the server {0}")]
    Fetch(#[from] FetchError),
    #[error("the server answers with {0}")]
    Unusable(#[from] Unusable),
}

impl CredentialsUri {
    /// Reads the variable; asks nobody yet.
    #[must_use]
    pub fn read(variables: Variables<'_>, rpc: Rpc) -> Self {
        Self { rpc, source: source(variables) }
    }
}

impl Provider for CredentialsUri {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let failed = |problem: Problem| ProviderError::new(NAME, problem.failure_kind(), &problem);
            let Some(source) = self.source.as_ref().map_err(|problem| failed(*problem))? else {
                return Ok(None);
            };
            let credentials = source.credentials(&self.rpc).await.map_err(failed)?;
            Ok(Some(credentials.from_provider(NAME)))
        }
        .boxed()
    }
}

impl Problem {
    pub(super) fn failure_kind(self) -> FailureKind {
        match self {
            Self::NotUtf8(_) | Self::Invalid(_) => FailureKind::Refused,
            Self::Fetch(problem) => problem.failure_kind(),
            Self::Unusable(_) => FailureKind::Unanswered,
        }
    }
}

impl Source {
    pub(super) fn parse(url: &str) -> Result<Self, InvalidSource> {
        match Url::parse(url) {
            Ok(parsed) if matches!(parsed.scheme(), "http" | "https") => {
                Ok(Self(Zeroizing::new(url.to_owned())))
            }
            _ => Err(InvalidSource),
        }
    }

    pub(super) async fn credentials(&self, rpc: &Rpc) -> Result<Credentials, Problem> {
        let body = fetch(rpc, Method::GET, &self.0, HeaderMap::new(), WITHIN).await?;
        Ok(issued(&body)?.credentials(rpc.clock.now())?)
    }
}

fn source(variables: Variables<'_>) -> Result<Option<Source>, Problem> {
    let url = variables.text(CREDENTIALS_URI)?;
    Ok(url.map(|url| Source::parse(&url)).transpose()?)
}

#[cfg(test)]
mod tests;
