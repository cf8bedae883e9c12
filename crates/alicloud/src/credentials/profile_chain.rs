//! What a profile of the CLI's config or of the credentials file says to do to come by credentials.

use super::{
    Credentials, FailureKind, InvalidCredentials, ProviderContext,
    credentials_uri::{self, InvalidSource},
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

/// How to come by credentials: a source, and the roles that are assumed on top of it, one after the other.
pub(super) struct ProfileChain {
    source: Source,
    roles: Vec<(StsTarget, AssumeRole)>,
}

/// Where credentials come from in the first place.
pub(super) enum Source {
    /// They are there.
    Keys(Credentials),
    /// The metadata service is asked for that role, or for whichever there is.
    Instance(Option<RoleName>),
    /// A URL is asked.
    Uri(credentials_uri::Source),
    /// A role is assumed by a token.
    Token(StsTarget, OidcRole),
}

/// Which STS a profile wants.
#[derive(Clone, Debug, Default)]
pub(super) struct StsTarget {
    pub(super) region: Option<Region>,
    pub(super) vpc: bool,
}

/// What is wrong with a profile. Names the field by its own word, and shows nothing of its value.
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
    Uri(#[from] InvalidSource),
    #[error("the session is shorter than 900 seconds or longer than 43200")]
    Duration,
    #[error("source_profile leads in a circle, or through too many profiles")]
    Circle,
}

/// Why a profile_chain did not work out.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProfileChainError {
    #[error(transparent)]
    Instance(#[from] ecs_ram_role::Problem),
    #[error(transparent)]
    Uri(#[from] credentials_uri::Problem),
    #[error(transparent)]
    Token(#[from] OidcError),
    #[error(transparent)]
    Sts(#[from] Error),
}

impl ProfileChainError {
    pub(super) fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Instance(problem) => problem.failure_kind(),
            Self::Uri(problem) => problem.failure_kind(),
            Self::Token(problem) => problem.failure_kind(),
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
    /// The same, and then this role.
    pub(super) fn then(mut self, place: StsTarget, role: AssumeRole) -> Self {
        self.roles.push((place, role));
        self
    }

    /// Follows the profile_chain. `v1`: whether the metadata service may be asked without a token of its own.
    pub(super) async fn follow(
        &self,
        context: &ProviderContext,
        v1: bool,
    ) -> Result<Credentials, ProfileChainError> {
        let mut credentials = match &self.source {
            Source::Keys(credentials) => credentials.clone(),
            Source::Instance(role) => {
                let metadata = Metadata::new(context.rpc.clone(), context.metadata.clone());
                metadata.credentials(role.as_ref(), v1).await?
            }
            Source::Uri(source) => source.credentials(&context.rpc).await?,
            Source::Token(place, role) => role.assume(&place.sts(context)).await?,
        };
        for (place, role) in &self.roles {
            credentials = place.sts(context).assume_role(&credentials, role).await?;
        }
        Ok(credentials)
    }
}

impl StsTarget {
    fn sts(&self, context: &ProviderContext) -> Sts {
        context.sts.at(context.sts.endpoint().within(self.region.clone(), self.vpc))
    }
}
