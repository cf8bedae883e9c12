//! The RAM role of the ECS instance that we run on, from the instance's metadata service.

use std::time::Duration;

use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::Deserialize;

use super::{
    Credentials, FailureKind, NotUtf8, Provider, ProviderError, Variables,
    fetch::{FetchError, fetch},
};
use crate::{
    access_key::{TemporaryCredentials, Unusable},
    endpoint::Endpoint,
    error::Unreadable,
    reply,
    role::{InvalidRoleName, RoleName},
    rpc::Rpc,
};

/// `true`: the metadata service is not asked.
pub const METADATA_DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
/// Holds the role's name; without it the metadata service is asked for it.
pub const METADATA_ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
/// `true`: the metadata service is never asked without a token of its own.
pub const IMDS_V1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";

const NAME: &str = "ecsRamRole";

/// For one request. There are at most three, and whoever waits for credentials waits four seconds: a reply to the first
/// never comes where it had to pass a router, as from a pod's own network.
const WITHIN: Duration = Duration::from_secs(1);

const TOKEN: &str = "/latest/api/token";
const ROLES: &str = "/latest/meta-data/ram/security-credentials/";
/// A request for a token says how many seconds it shall be good: for the two requests that follow.
const TOKEN_LIFE: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds");
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");

/// The role of this instance.
///
/// Unless the environment names a role, "nobody answers" and "there is no role" mean that it is not configured: this is no
/// ECS instance, or one without a role.
pub struct EcsRamRole {
    metadata: Metadata,
    settings: Result<Option<Settings>, Problem>,
}

#[derive(Clone, Debug)]
struct Settings {
    role: Option<RoleName>,
    v1: bool,
}

/// The metadata service.
#[derive(Clone)]
pub(super) struct Metadata {
    rpc: Rpc,
    endpoint: Endpoint,
}

/// Why the instance's role cannot be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error("{METADATA_ROLE} {0}")]
    Role(InvalidRoleName),
    #[error("the metadata service {0}")]
    Token(FetchError),
    #[error("the metadata service answers the question for a token with none")]
    NoToken,
    #[error("the metadata service, asked for the name of the role, {0}")]
    List(FetchError),
    #[error("what the metadata service gives as the name of the role {0}")]
    Listed(InvalidRoleName),
    #[error("the metadata service, asked for credentials, {0}")]
    Fetch(FetchError),
    #[error("the metadata service answers with {0}")]
    Unusable(#[from] Unusable),
}

/// The reply with the credentials. The key is read once the code says that there is one.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Verdict {
    code: String,
}

impl EcsRamRole {
    /// Reads the variables; asks nobody yet. `metadata`: [`Endpoint::metadata`], but in a test.
    #[must_use]
    pub fn read(variables: Variables<'_>, rpc: Rpc, metadata: Endpoint) -> Self {
        Self { metadata: Metadata::new(rpc, metadata), settings: settings(variables) }
    }
}

impl Provider for EcsRamRole {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let failed = |problem: Problem| ProviderError::new(NAME, problem.failure_kind(), &problem);
            let Some(Settings { role, v1 }) = self.settings.as_ref().map_err(|problem| failed(*problem))?
            else {
                return Ok(None);
            };
            match self.metadata.credentials(role.as_ref(), *v1).await {
                Ok(credentials) => Ok(Some(credentials.from_provider(NAME))),
                Err(problem) if role.is_none() && problem.is_absence() => Ok(None),
                Err(problem) => Err(failed(problem)),
            }
        }
        .boxed()
    }

    /// Silence is an outage more often than a change of mind.
    fn gone(&self) -> ProviderError {
        let problem = "the metadata service gave credentials before and now does not answer, or knows no \
                       role; it is asked again";
        ProviderError::new(NAME, FailureKind::Unanswered, problem)
    }
}

impl Problem {
    /// Whether there is no metadata service, or no role.
    fn is_absence(self) -> bool {
        match self {
            Self::Token(problem) => problem.is_absence(),
            Self::List(problem) => {
                problem.is_absence() || problem == FetchError::Status(StatusCode::NOT_FOUND)
            }
            _ => false,
        }
    }
}

impl Problem {
    pub(super) fn failure_kind(self) -> FailureKind {
        match self {
            Self::NotUtf8(_) | Self::Role(_) => FailureKind::Refused,
            Self::Token(problem) | Self::List(problem) | Self::Fetch(problem) => problem.failure_kind(),
            Self::NoToken | Self::Listed(_) | Self::Unusable(_) => FailureKind::Unanswered,
        }
    }
}

impl Metadata {
    pub(super) fn new(rpc: Rpc, endpoint: Endpoint) -> Self {
        Self { rpc, endpoint }
    }

    /// The credentials of that role, or of the one that the instance has. `v1`: without a token, if none is to be had.
    pub(super) async fn credentials(
        &self,
        role: Option<&RoleName>,
        v1: bool,
    ) -> Result<Credentials, Problem> {
        let mut headers = HeaderMap::new();
        match self.token().await {
            Ok(token) => {
                headers.insert(TOKEN_HEADER, token);
            }
            Err(problem) if !v1 || problem == Problem::Token(FetchError::NoConnection) => {
                return Err(problem);
            }
            Err(_) => {}
        }
        let role = match role {
            Some(role) => role,
            None => &self.role(headers.clone()).await?,
        };
        let body = self.get(&format!("{ROLES}{}", role.as_str()), headers).await.map_err(Problem::Fetch)?;
        let issued = issued(&body).map_err(Problem::Fetch)?;
        Ok(issued.credentials(self.rpc.clock.now())?)
    }

    async fn token(&self) -> Result<HeaderValue, Problem> {
        let headers = HeaderMap::from_iter([(TOKEN_LIFE, HeaderValue::from_static("60"))]);
        let url = self.endpoint.path(TOKEN);
        let token = fetch(&self.rpc, Method::PUT, &url, headers, WITHIN).await.map_err(Problem::Token)?;
        let token = token.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err(Problem::NoToken);
        }
        let mut token = HeaderValue::from_bytes(token).map_err(|_| Problem::NoToken)?;
        token.set_sensitive(true);
        Ok(token)
    }

    async fn role(&self, headers: HeaderMap) -> Result<RoleName, Problem> {
        let body = self.get(ROLES, headers).await.map_err(Problem::List)?;
        let text = std::str::from_utf8(&body).map_err(|_| Problem::Listed(InvalidRoleName))?;
        // An instance has one role at most.
        RoleName::parse(text.trim_ascii()).map_err(Problem::Listed)
    }

    async fn get(&self, path: &str, headers: HeaderMap) -> Result<zeroize::Zeroizing<Vec<u8>>, FetchError> {
        fetch(&self.rpc, Method::GET, &self.endpoint.path(path), headers, WITHIN).await
    }
}

/// Reads a reply with `Code` and, if that is `Success`, an access key.
pub(super) fn issued(body: &[u8]) -> Result<TemporaryCredentials, FetchError> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(FetchError::Unreadable(Unreadable::Empty));
    }
    let Verdict { code } = reply::json(body).map_err(FetchError::Unreadable)?;
    if code != "Success" {
        return Err(FetchError::Refused);
    }
    reply::json(body).map_err(FetchError::Unreadable)
}

fn settings(variables: Variables<'_>) -> Result<Option<Settings>, Problem> {
    if variables.flag(METADATA_DISABLED) {
        return Ok(None);
    }
    let role = variables.text(METADATA_ROLE)?;
    let role = role.map(|role| RoleName::parse(&role)).transpose().map_err(Problem::Role)?;
    Ok(Some(Settings { role, v1: !variables.flag(IMDS_V1_DISABLED) }))
}

#[cfg(test)]
mod tests;
