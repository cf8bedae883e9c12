//! What a profile of the CLI's config or of the credentials file says to do to come by credentials.

use super::{
    Credentials, InvalidCredentials, Tools,
    credentials_uri::{self, InvalidSource},
    ecs_ram_role::{self, Metadata},
    oidc::{OidcProblem, OidcRole},
    role::{InvalidRoleArn, InvalidRoleName, RoleName},
    session::InvalidSessionName,
};
use crate::ecs::{
    endpoint::{InvalidRegion, Region},
    error::Error,
    sts::{AssumeRole, Sts},
};

/// How to come by credentials.
pub(super) enum Recipe {
    /// They are there.
    Keys(Credentials),
    /// Ask the metadata service for that role, or for whichever there is.
    Instance(Option<RoleName>),
    /// Ask a URL.
    Uri(credentials_uri::Source),
    /// Become a role by a token.
    Token(Place, OidcRole),
    /// Become a role on top of something else.
    Role(Place, Box<Recipe>, AssumeRole),
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

impl Recipe {
    /// Follows the recipe. `v1`: whether the metadata service may be asked without a token of its own.
    pub(super) async fn follow(&self, tools: &Tools, v1: bool) -> Result<Credentials, RecipeProblem> {
        // A role's source may be a role. From the innermost on: a future that calls itself would have to be boxed.
        let mut roles = Vec::new();
        let mut innermost = self;
        while let Self::Role(place, source, role) = innermost {
            roles.push((place, role));
            innermost = source;
        }
        let mut credentials = match innermost {
            Self::Keys(credentials) => credentials.clone(),
            Self::Instance(role) => {
                let metadata = Metadata::new(tools.rpc.clone(), tools.metadata.clone());
                metadata.credentials(role.as_ref(), v1).await?
            }
            Self::Uri(source) => source.credentials(&tools.rpc).await?,
            Self::Token(place, role) => role.assume(&place.sts(tools)).await?,
            Self::Role(..) => return Err(Error::NoCredentials.into()),
        };
        while let Some((place, role)) = roles.pop() {
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
