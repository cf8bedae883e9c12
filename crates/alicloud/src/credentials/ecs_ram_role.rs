//! The RAM role of the ECS instance that the program runs on, from the metadata service.

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

/// The variable that disables the metadata service, if it is `true`.
pub const METADATA_DISABLED: &str = "ALIBABA_CLOUD_ECS_METADATA_DISABLED";
/// The variable with the role name. If it is not set, the metadata service returns the name.
pub const METADATA_ROLE: &str = "ALIBABA_CLOUD_ECS_METADATA";
/// The variable that disables `IMDSv1`, if it is `true`: requests without a token.
pub const IMDS_V1_DISABLED: &str = "ALIBABA_CLOUD_IMDSV1_DISABLED";

const NAME: &str = "ecsRamRole";

/// The time limit of one request. There are at most three, and a call waits four seconds for credentials.
/// From a pod network, where a router is in between, the reply to the first request never arrives.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(1);

const TOKEN_PATH: &str = "/latest/api/token";
const ROLES_PATH: &str = "/latest/meta-data/ram/security-credentials/";
/// The header with the lifetime of the token in seconds. The token is used for the two requests that follow.
const TOKEN_TTL_HEADER: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token-ttl-seconds");
const TOKEN_HEADER: HeaderName = HeaderName::from_static("x-aliyun-ecs-metadata-token");

/// The role of this instance.
///
/// Without a role name in the environment, it is not configured if the metadata service does not answer or
/// has no role: the machine is no ECS instance, or has no role.
pub struct EcsRamRole {
    metadata: Metadata,
    settings: Result<Option<Settings>, EcsRamRoleError>,
}

#[derive(Clone, Debug)]
struct Settings {
    role: Option<RoleName>,
    allow_imds_v1: bool,
}

/// The metadata service.
#[derive(Clone)]
pub(super) struct Metadata {
    rpc: Rpc,
    endpoint: Endpoint,
}

/// Why there are no credentials of the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum EcsRamRoleError {
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

/// The status of a reply with credentials. The access key is parsed only if it is a success.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ReplyCode {
    code: String,
}

impl EcsRamRole {
    /// Reads the variables. `metadata`: [`Endpoint::metadata`], except in tests.
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
            let failed = |error: EcsRamRoleError| ProviderError::new(NAME, error.failure_kind(), &error);
            let Some(Settings { role, allow_imds_v1 }) =
                self.settings.as_ref().map_err(|error| failed(*error))?
            else {
                return Ok(None);
            };
            match self.metadata.credentials(role.as_ref(), *allow_imds_v1).await {
                Ok(credentials) => Ok(Some(credentials.from_provider(NAME))),
                Err(error) if role.is_none() && error.is_absence() => Ok(None),
                Err(error) => Err(failed(error)),
            }
        }
        .boxed()
    }

    /// A missing reply is more likely an outage than a change of configuration.
    fn gone(&self) -> ProviderError {
        let reason = "the metadata service gave credentials before and now does not answer, or knows no \
                       role; it is asked again";
        ProviderError::new(NAME, FailureKind::Unanswered, reason)
    }
}

impl EcsRamRoleError {
    /// Whether there is no metadata service, or no role.
    fn is_absence(self) -> bool {
        match self {
            Self::Token(error) => error.is_absence(),
            Self::List(error) => error.is_absence() || error == FetchError::Status(StatusCode::NOT_FOUND),
            _ => false,
        }
    }

    pub(super) fn failure_kind(self) -> FailureKind {
        match self {
            Self::NotUtf8(_) | Self::Role(_) => FailureKind::Refused,
            Self::Token(error) | Self::List(error) | Self::Fetch(error) => error.failure_kind(),
            Self::NoToken | Self::Listed(_) | Self::Unusable(_) => FailureKind::Unanswered,
        }
    }
}

impl Metadata {
    pub(super) fn new(rpc: Rpc, endpoint: Endpoint) -> Self {
        Self { rpc, endpoint }
    }

    /// The credentials of the role; `None`: of the role of the instance. `allow_imds_v1`: continue without a
    /// token if there is none.
    pub(super) async fn credentials(
        &self,
        role: Option<&RoleName>,
        allow_imds_v1: bool,
    ) -> Result<Credentials, EcsRamRoleError> {
        let mut headers = HeaderMap::new();
        match self.token().await {
            Ok(token) => {
                headers.insert(TOKEN_HEADER, token);
            }
            Err(error) if !allow_imds_v1 || error == EcsRamRoleError::Token(FetchError::NoConnection) => {
                return Err(error);
            }
            Err(_) => {}
        }
        let role = match role {
            Some(role) => role,
            None => &self.role(headers.clone()).await?,
        };
        let body = self
            .get(&format!("{ROLES_PATH}{}", role.as_str()), headers)
            .await
            .map_err(EcsRamRoleError::Fetch)?;
        let temporary = parse_credentials(&body).map_err(EcsRamRoleError::Fetch)?;
        Ok(temporary.into_credentials(self.rpc.clock.now())?)
    }

    async fn token(&self) -> Result<HeaderValue, EcsRamRoleError> {
        let headers = HeaderMap::from_iter([(TOKEN_TTL_HEADER, HeaderValue::from_static("60"))]);
        let url = self.endpoint.path(TOKEN_PATH);
        let token = fetch(&self.rpc, Method::PUT, &url, headers, REQUEST_TIMEOUT)
            .await
            .map_err(EcsRamRoleError::Token)?;
        let token = token.trim_ascii();
        if token.is_empty() || !token.iter().all(u8::is_ascii_graphic) {
            return Err(EcsRamRoleError::NoToken);
        }
        let mut token = HeaderValue::from_bytes(token).map_err(|_| EcsRamRoleError::NoToken)?;
        token.set_sensitive(true);
        Ok(token)
    }

    async fn role(&self, headers: HeaderMap) -> Result<RoleName, EcsRamRoleError> {
        let body = self.get(ROLES_PATH, headers).await.map_err(EcsRamRoleError::List)?;
        let text = std::str::from_utf8(&body).map_err(|_| EcsRamRoleError::Listed(InvalidRoleName))?;
        // An instance has at most one role.
        RoleName::parse(text.trim_ascii()).map_err(EcsRamRoleError::Listed)
    }

    async fn get(&self, path: &str, headers: HeaderMap) -> Result<zeroize::Zeroizing<Vec<u8>>, FetchError> {
        fetch(&self.rpc, Method::GET, &self.endpoint.path(path), headers, REQUEST_TIMEOUT).await
    }
}

/// Parses a reply with `Code` and, if it is `Success`, an access key.
pub(super) fn parse_credentials(body: &[u8]) -> Result<TemporaryCredentials, FetchError> {
    let body = body.trim_ascii();
    if body.is_empty() {
        return Err(FetchError::Unreadable(Unreadable::Empty));
    }
    let ReplyCode { code } = reply::json(body).map_err(FetchError::Unreadable)?;
    if code != "Success" {
        return Err(FetchError::Refused);
    }
    reply::json(body).map_err(FetchError::Unreadable)
}

fn settings(variables: Variables<'_>) -> Result<Option<Settings>, EcsRamRoleError> {
    if variables.flag(METADATA_DISABLED) {
        return Ok(None);
    }
    let role = variables.text(METADATA_ROLE)?;
    let role = role.map(|role| RoleName::parse(&role)).transpose().map_err(EcsRamRoleError::Role)?;
    Ok(Some(Settings { role, allow_imds_v1: !variables.flag(IMDS_V1_DISABLED) }))
}

#[cfg(test)]
mod tests;
