//! A profile of the CLI config or of the credentials file: a source of credentials, and the roles to assume
//! with them.

use super::{
    Credentials, FailureKind, InvalidCredentials, ProviderContext,
    credentials_uri::{self, InvalidCredentialsUrl},
    ecs_ram_role::{self, Metadata},
    oidc::{OidcError, OidcRole},
};
use crate::{
    endpoint::{InvalidRegion, Region},
    error::Error,
    role::{InvalidRoleArn, InvalidRoleName, RoleName},
    session_name::InvalidSessionName,
    sts::{AssumeRole, Sts},
};

/// A source of credentials, and the roles that are assumed one after the other.
pub(super) struct ProfileChain {
    source: Source,
    roles: Vec<(StsTarget, AssumeRole)>,
}

/// The first credentials of a profile.
pub(super) enum Source {
    /// Keys in the profile.
    Keys(Credentials),
    /// The RAM role of the instance; `None`: whichever it has.
    Instance(Option<RoleName>),
    /// A URL that returns credentials.
    Uri(credentials_uri::CredentialsUrl),
    /// A role assumed with a token.
    Token(StsTarget, OidcRole),
}

/// The STS endpoint that a profile asks for.
#[derive(Clone, Debug, Default)]
pub(super) struct StsTarget {
    pub(super) region: Option<Region>,
    pub(super) vpc: bool,
}

/// Why a profile is invalid. Names the field and does not contain its value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum InvalidProfile {
    #[error("{0} is missing")]
    Missing(&'static str),
    #[error("{0} is not supported")]
    Unsupported(&'static str),
    #[error(transparent)]
    Keys(#[from] InvalidCredentials),
    #[error("the role {0}")]
    RoleArn(#[from] InvalidRoleArn),
    #[error("the role {0}")]
    RoleName(#[from] InvalidRoleName),
    #[error("the session {0}")]
    Session(#[from] InvalidSessionName),
    #[error("the region of STS {0}")]
    Region(#[from] InvalidRegion),
    #[error("the credentials URI {0}")]
    Uri(#[from] InvalidCredentialsUrl),
    #[error("the session is shorter than 900 seconds or longer than 43200")]
    Duration,
    #[error("source_profile leads in a circle, or through too many profiles")]
    Circle,
}

/// Why a profile returned no credentials.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfileChainError {
    #[error(transparent)]
    Instance(#[from] ecs_ram_role::EcsRamRoleError),
    #[error(transparent)]
    Uri(#[from] credentials_uri::CredentialsUriError),
    #[error(transparent)]
    Token(#[from] OidcError),
    #[error(transparent)]
    Sts(#[from] Error),
}

impl ProfileChainError {
    pub(super) fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Instance(error) => error.failure_kind(),
            Self::Uri(error) => error.failure_kind(),
            Self::Token(error) => error.failure_kind(),
            Self::Sts(error) => error.failure_kind(),
        }
    }
}

impl From<Source> for ProfileChain {
    fn from(source: Source) -> Self {
        Self { source, roles: Vec::new() }
    }
}

impl ProfileChain {
    /// Adds a role that is assumed next.
    pub(super) fn then_assume(mut self, target: StsTarget, role: AssumeRole) -> Self {
        self.roles.push((target, role));
        self
    }

    /// Returns the credentials of the last role. `allow_imds_v1`: the metadata service may be asked without a
    /// token.
    pub(super) async fn run(
        &self,
        context: &ProviderContext,
        allow_imds_v1: bool,
    ) -> Result<Credentials, ProfileChainError> {
        let mut credentials = match &self.source {
            Source::Keys(credentials) => credentials.clone(),
            Source::Instance(role) => {
                let metadata = Metadata::new(context.rpc.clone(), context.metadata.clone());
                metadata.credentials(role.as_ref(), allow_imds_v1).await?
            }
            Source::Uri(url) => url.credentials(&context.rpc).await?,
            Source::Token(target, role) => role.assume(&target.sts(context)).await?,
        };
        for (target, role) in &self.roles {
            credentials = target.sts(context).assume_role(&credentials, role).await?;
        }
        Ok(credentials)
    }
}

impl StsTarget {
    fn sts(&self, context: &ProviderContext) -> Sts {
        context.sts.with_endpoint(context.sts.endpoint().for_profile(self.region.clone(), self.vpc))
    }
}
