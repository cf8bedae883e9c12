//! A role assumed with the token of an identity provider, such as the token of a Kubernetes service account
//! (RRSA).

use std::path::PathBuf;

use futures::{FutureExt, future::BoxFuture};

use super::{
    Credentials, FailureKind, NotUtf8, Provider, ProviderError, RoleArn, Secret, SessionName, Variables,
    file::{self, FileError},
};
use crate::{
    error::Error,
    role::InvalidRoleArn,
    session_name::InvalidSessionName,
    sts::{AssumeRole, AssumeRoleWithOidc, Sts},
};

/// The variable with the ARN of the role.
pub const ROLE_ARN: &str = "ALIBABA_CLOUD_ROLE_ARN";
/// The variable with the ARN of the identity provider in RAM.
pub const OIDC_PROVIDER_ARN: &str = "ALIBABA_CLOUD_OIDC_PROVIDER_ARN";
/// The variable with the path of the token file.
pub const OIDC_TOKEN_FILE: &str = "ALIBABA_CLOUD_OIDC_TOKEN_FILE";
/// The variable with the session name; optional.
pub const ROLE_SESSION_NAME: &str = "ALIBABA_CLOUD_ROLE_SESSION_NAME";

const NAME: &str = "oidc";

/// The role in the environment, assumed with the token of a file.
///
/// It is configured if all three variables are set, and not configured if none is. A part of them is an
/// error. The official SDKs skip it and ask the next provider; here it stops the chain, because a user who
/// names a role wants that role and not, for example, the role of the node.
pub struct Oidc {
    sts: Sts,
    settings: Result<Option<OidcRole>, SettingsError>,
}

/// A role, and the token to assume it with.
#[derive(Clone, Debug)]
pub(super) struct OidcRole {
    pub(super) role: AssumeRole,
    pub(super) provider_arn: String,
    pub(super) token_file: PathBuf,
}

/// Why the variables are invalid. Names the variable and does not contain its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum SettingsError {
    #[error("{0} is missing, though another variable of the role is set")]
    Missing(&'static str),
    #[error(transparent)]
    NotUtf8(#[from] NotUtf8),
    #[error("{ROLE_ARN} {0}")]
    Role(#[from] InvalidRoleArn),
    #[error("{ROLE_SESSION_NAME} {0}")]
    Session(#[from] InvalidSessionName),
}

/// Why the role cannot be assumed.
#[derive(Debug, thiserror::Error)]
pub(super) enum OidcError {
    #[error("the token file {0}")]
    File(FileError),
    #[error("the token file is empty")]
    Empty,
    #[error("the token file holds no token: it has a character that is not visible ASCII")]
    NoToken,
    #[error(transparent)]
    Sts(#[from] Error),
}

impl Oidc {
    /// Reads the variables. The token file is read at each call. `session`: the default session name.
    #[must_use]
    pub fn read(variables: Variables<'_>, sts: Sts, session: &SessionName) -> Self {
        Self { sts, settings: settings(variables, session) }
    }
}

impl Provider for Oidc {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let invalid = |error: &SettingsError| ProviderError::new(NAME, FailureKind::Refused, error);
            let Some(role) = self.settings.as_ref().map_err(invalid)? else {
                return Ok(None);
            };
            let failed = |error: OidcError| {
                let kind = error.failure_kind();
                match error {
                    OidcError::Sts(error) => ProviderError::new(NAME, kind, &error),
                    error => ProviderError::new(NAME, kind, &format_args!("{OIDC_TOKEN_FILE}: {error}")),
                }
            };
            let credentials = role.assume(&self.sts).await.map_err(failed)?;
            Ok(Some(credentials.from_provider(NAME)))
        }
        .boxed()
    }
}

impl OidcError {
    pub(super) fn failure_kind(&self) -> FailureKind {
        match self {
            Self::File(error) => error.failure_kind(),
            Self::Empty | Self::NoToken => FailureKind::Refused,
            Self::Sts(error) => error.failure_kind(),
        }
    }
}

impl OidcRole {
    /// Reads the token, which is rotated, and assumes the role.
    pub(super) async fn assume(&self, sts: &Sts) -> Result<Credentials, OidcError> {
        let Self { role, provider_arn, token_file } = self;
        let text = file::read(token_file.clone()).await.map_err(OidcError::File)?;
        let token = text.trim_end_matches(['\r', '\n']);
        if token.is_empty() {
            return Err(OidcError::Empty);
        }
        if !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(OidcError::NoToken);
        }
        let (role, provider_arn, token) = (role.clone(), provider_arn.clone(), Secret::from(token));
        Ok(sts.assume_role_with_oidc(&AssumeRoleWithOidc { role, provider_arn, token }).await?)
    }
}

fn settings(variables: Variables<'_>, session: &SessionName) -> Result<Option<OidcRole>, SettingsError> {
    let role = variables.text(ROLE_ARN)?;
    let provider = variables.text(OIDC_PROVIDER_ARN)?;
    let token_file = variables.path(OIDC_TOKEN_FILE);
    if role.is_none() && provider.is_none() && token_file.is_none() {
        return Ok(None);
    }
    let role_arn = RoleArn::parse(&role.ok_or(SettingsError::Missing(ROLE_ARN))?)?;
    let provider_arn = provider.ok_or(SettingsError::Missing(OIDC_PROVIDER_ARN))?;
    let token_file = token_file.ok_or(SettingsError::Missing(OIDC_TOKEN_FILE))?;
    let session_name = match variables.text(ROLE_SESSION_NAME)? {
        Some(name) => SessionName::parse(&name)?,
        None => session.clone(),
    };
    let (external_id, policy, duration) = (None, None, Sts::DEFAULT_DURATION);
    let role = AssumeRole { role_arn, session_name, external_id, policy, duration };
    Ok(Some(OidcRole { role, provider_arn, token_file }))
}

#[cfg(test)]
mod tests;
