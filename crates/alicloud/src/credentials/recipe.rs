//! What a profile of the CLI's config or of the credentials file says to do to come by credentials.

use super::{
    Credentials, FailureKind, InvalidCredentials, Tools,
    credentials_uri::{self, InvalidSource},
    ecs_ram_role::{self, Metadata},
    oidc::{OidcProblem, OidcRole},
    role::{InvalidRoleArn, InvalidRoleName, RoleName},
    session::InvalidSessionName,
};
use crate::{
    endpoint::{InvalidRegion, Region},
    error::Error,
    sts::{AssumeRole, Sts},
};

/// How to come by credentials: a source, and the roles that are assumed on top of it, one after the other.
pub(super) struct Recipe {
    source: Source,
    roles: Vec<(Place, AssumeRole)>,
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
    Token(Place, OidcRole),
}

/// Which STS a profile wants.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
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

/// Why a recipe did not work out.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecipeProblem {
    #[error(transparent)]
    Instance(#[from] ecs_ram_role::Problem),
    #[error(transparent)]
    Uri(#[from] credentials_uri::Problem),
    #[error(transparent)]
    Token(#[from] OidcProblem),
    #[error(transparent)]
    Sts(#[from] Error),
}

impl RecipeProblem {
    pub(super) fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Instance(problem) => problem.failure_kind(),
            Self::Uri(problem) => problem.failure_kind(),
            Self::Token(problem) => problem.failure_kind(),
            Self::Sts(error) => error.failure_kind(),
        }
    }
}

impl From<Source> for Recipe {
    fn from(source: Source) -> Self {
        Self { source, roles: Vec::new() }
    }
}

impl Recipe {
    /// The same, and then this role.
    pub(super) fn then(mut self, place: Place, role: AssumeRole) -> Self {
        self.roles.push((place, role));
        self
    }

    /// Follows the recipe. `v1`: whether the metadata service may be asked without a token of its own.
    pub(super) async fn follow(&self, tools: &Tools, v1: bool) -> Result<Credentials, RecipeProblem> {
        let mut credentials = match &self.source {
            Source::Keys(credentials) => credentials.clone(),
            Source::Instance(role) => {
                let metadata = Metadata::new(tools.rpc.clone(), tools.metadata.clone());
                metadata.credentials(role.as_ref(), v1).await?
            }
            Source::Uri(source) => source.credentials(&tools.rpc).await?,
            Source::Token(place, role) => role.assume(&place.sts(tools)).await?,
        };
        for (place, role) in &self.roles {
            credentials = place.sts(tools).assume_role(&credentials, role).await?;
        }
        Ok(credentials)
    }
}

impl Place {
    fn sts(&self, tools: &Tools) -> Sts {
        tools.sts.at(tools.sts.endpoint().within(self.region.clone(), self.vpc))
    }
}
