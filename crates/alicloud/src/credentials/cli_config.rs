//! The configuration of the cloud's command line: the profile that it would use.

use std::{path::PathBuf, time::Duration};

use futures::{FutureExt, future::BoxFuture};
use serde::Deserialize;

use super::{
    Credentials, FailureKind, NotUtf8, Provider, ProviderContext, ProviderError, RoleArn, Secret,
    SessionName, Variables, credentials_uri,
    ecs_ram_role::IMDS_V1_DISABLED,
    file::{self, FileError},
    oidc::OidcRole,
    profile_chain::{InvalidProfile, ProfileChain, ProfileChainError, Source, StsTarget},
};
use crate::{
    endpoint::Region,
    error::Unreadable,
    reply,
    role::RoleName,
    sts::{AssumeRole, Sts},
};

/// `true`: the configuration is not read.
pub const CLI_PROFILE_DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
/// Holds the path of the configuration; without it, it is `~/.aliyun/config.json`.
pub const CONFIG_FILE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
/// Holds the name of the profile; without it, it is the one that the configuration calls `current`.
pub const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";

const NAME: &str = "cliConfig";

const DEFAULT: &str = ".aliyun/config.json";

/// Longest way through `source_profile`.
const MAX_SOURCE_PROFILES: usize = 8;

/// Bounds of a session in seconds: those of the API.
const SESSION: std::ops::RangeInclusive<u64> = 900..=43_200;

/// A profile of the configuration, read anew each time.
pub struct CliConfig {
    context: ProviderContext,
    settings: Result<Option<Settings>, NotUtf8>,
}

#[derive(Clone, Debug)]
struct Settings {
    file: PathBuf,
    /// Named by the variable: then it has to be there.
    explicit: bool,
    profile: Option<String>,
    v1: bool,
}

/// Why the profile gives no credentials.
#[derive(Debug, thiserror::Error)]
enum Problem {
    #[error("the file that {CONFIG_FILE} names {0}")]
    Explicit(FileError),
    #[error("~/{DEFAULT} {0}")]
    Default(FileError),
    #[error("the configuration is {0}")]
    Unreadable(Unreadable),
    #[error("neither {PROFILE} nor `current` of the configuration names a profile")]
    NoProfile,
    #[error("the configuration has no profile of the name that {PROFILE}, `current` or source_profile says")]
    UnknownProfile,
    #[error("the profile cannot be used: {0}")]
    Invalid(#[from] InvalidProfile),
    #[error(transparent)]
    Failed(#[from] ProfileChainError),
}

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    current: String,
    #[serde(default)]
    profiles: Vec<Profile>,
}

/// One profile, by the words of the file. An empty value is none: that is how the command line writes what is not set.
#[derive(Default, Deserialize)]
#[serde(default)]
#[allow(clippy::struct_field_names, reason = "the words of the file")]
struct Profile {
    name: String,
    mode: String,
    access_key_id: String,
    access_key_secret: Option<Secret>,
    sts_token: Option<Secret>,
    sts_region: String,
    enable_vpc: bool,
    ram_role_name: String,
    ram_role_arn: String,
    ram_session_name: String,
    /// As the SDK for Python has it.
    role_session_name: String,
    external_id: String,
    policy: String,
    expired_seconds: u64,
    source_profile: String,
    oidc_provider_arn: String,
    oidc_token_file: String,
    /// It may hold a password.
    credentials_uri: Option<Secret>,
}

impl Problem {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Explicit(problem) | Self::Default(problem) => problem.failure_kind(),
            Self::Unreadable(_) | Self::NoProfile | Self::UnknownProfile | Self::Invalid(_) => {
                FailureKind::Refused
            }
            Self::Failed(problem) => problem.failure_kind(),
        }
    }
}

impl CliConfig {
    /// Reads the variables; the configuration is read at each call.
    #[must_use]
    pub fn read(variables: Variables<'_>, context: &ProviderContext) -> Self {
        Self { context: context.clone(), settings: settings(variables) }
    }

    async fn ask(&self, settings: &Settings) -> Result<Option<Credentials>, Problem> {
        let text = match file::read(settings.file.clone()).await {
            Ok(text) => text,
            Err(FileError::Missing) if !settings.explicit => return Ok(None),
            Err(problem) if settings.explicit => return Err(Problem::Explicit(problem)),
            Err(problem) => return Err(Problem::Default(problem)),
        };
        let profile_chain = {
            let config: Config = reply::json(text.as_bytes()).map_err(Problem::Unreadable)?;
            config.profile_chain(settings.profile.as_deref(), &self.context.session_name)?
        };
        Ok(Some(profile_chain.follow(&self.context, settings.v1).await?))
    }
}

impl Provider for CliConfig {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let invalid = |problem: &NotUtf8| ProviderError::new(NAME, FailureKind::Refused, problem);
            let settings = self.settings.as_ref().map_err(invalid)?;
            let Some(settings) = settings else { return Ok(None) };
            let failed = |problem: Problem| ProviderError::new(NAME, problem.failure_kind(), &problem);
            let credentials = self.ask(settings).await.map_err(failed)?;
            Ok(credentials.map(|credentials| credentials.from_provider(NAME)))
        }
        .boxed()
    }
}

fn settings(variables: Variables<'_>) -> Result<Option<Settings>, NotUtf8> {
    if variables.flag(CLI_PROFILE_DISABLED) {
        return Ok(None);
    }
    let named = variables.path(CONFIG_FILE);
    let explicit = named.is_some();
    let Some(file) = named.or_else(|| variables.at_home(DEFAULT)) else { return Ok(None) };
    let v1 = !variables.flag(IMDS_V1_DISABLED);
    Ok(Some(Settings { file, explicit, profile: variables.text(PROFILE)?, v1 }))
}

impl Config {
    /// The profile_chain of the profile of that name, else of the current one. `session`: unless the profile names another.
    fn profile_chain(&self, profile: Option<&str>, session: &SessionName) -> Result<ProfileChain, Problem> {
        let name = profile.unwrap_or(&self.current);
        if name.is_empty() {
            return Err(Problem::NoProfile);
        }
        self.named(name, session, MAX_SOURCE_PROFILES)
    }

    fn named(&self, name: &str, session: &SessionName, sources: usize) -> Result<ProfileChain, Problem> {
        let profile =
            self.profiles.iter().find(|profile| profile.name == name).ok_or(Problem::UnknownProfile)?;
        if profile.mode != "ChainableRamRoleArn" {
            return Ok(profile.profile_chain(session)?);
        }
        let source = required("source_profile", &profile.source_profile)?;
        let left = sources.checked_sub(1).ok_or(InvalidProfile::Circle)?;
        let source = self.named(source, session, left)?;
        Ok(source.then(profile.place()?, profile.role(session)?))
    }
}

impl Profile {
    fn profile_chain(&self, session: &SessionName) -> Result<ProfileChain, InvalidProfile> {
        let token = || self.sts_token.clone().filter(|token| !token.expose().is_empty());
        Ok(match self.mode.as_str() {
            "AK" => Source::Keys(self.keys(None)?).into(),
            "StsToken" => {
                let token = token().ok_or(InvalidProfile::Missing("sts_token"))?;
                Source::Keys(self.keys(Some(token))?).into()
            }
            "RamRoleArn" => {
                ProfileChain::from(Source::Keys(self.keys(token())?)).then(self.place()?, self.role(session)?)
            }
            "EcsRamRole" => Source::Instance(self.instance()?).into(),
            "RamRoleArnWithRoleName" | "RamRoleArnWithEcs" => {
                ProfileChain::from(Source::Instance(self.instance()?))
                    .then(self.place()?, self.role(session)?)
            }
            "OIDC" => {
                let provider_arn = required("oidc_provider_arn", &self.oidc_provider_arn)?.to_owned();
                let token_file = required("oidc_token_file", &self.oidc_token_file)?.into();
                let role = OidcRole { role: self.role(session)?, provider_arn, token_file };
                Source::Token(self.place()?, role).into()
            }
            "CredentialsURI" => {
                let url = self.credentials_uri.as_ref().map_or("", Secret::expose);
                Source::Uri(credentials_uri::Source::parse(required("credentials_uri", url)?)?).into()
            }
            "" => return Err(InvalidProfile::Missing("mode")),
            "CloudSSO" => return Err(InvalidProfile::Unsupported("mode CloudSSO")),
            "External" => return Err(InvalidProfile::Unsupported("mode External")),
            "OAuth" => return Err(InvalidProfile::Unsupported("mode OAuth")),
            "RsaKeyPair" => return Err(InvalidProfile::Unsupported("mode RsaKeyPair")),
            _ => return Err(InvalidProfile::Unsupported("its mode")),
        })
    }

    fn keys(&self, token: Option<Secret>) -> Result<Credentials, InvalidProfile> {
        let id = required("access_key_id", &self.access_key_id)?.to_owned();
        let secret = self.access_key_secret.clone().filter(|secret| !secret.expose().is_empty());
        let secret = secret.ok_or(InvalidProfile::Missing("access_key_secret"))?;
        Ok(Credentials::new(id, secret, token)?)
    }

    fn instance(&self) -> Result<Option<RoleName>, InvalidProfile> {
        Ok(optional(&self.ram_role_name).map(RoleName::parse).transpose()?)
    }

    fn role(&self, session: &SessionName) -> Result<AssumeRole, InvalidProfile> {
        let named = optional(&self.ram_session_name).or_else(|| optional(&self.role_session_name));
        let duration = match self.expired_seconds {
            0 => Sts::DURATION,
            seconds if SESSION.contains(&seconds) => Duration::from_secs(seconds),
            _ => return Err(InvalidProfile::Duration),
        };
        Ok(AssumeRole {
            role_arn: RoleArn::parse(required("ram_role_arn", &self.ram_role_arn)?)?,
            session_name: named.map(SessionName::parse).transpose()?.unwrap_or_else(|| session.clone()),
            external_id: optional(&self.external_id).map(ToOwned::to_owned),
            policy: optional(&self.policy).map(ToOwned::to_owned),
            duration,
        })
    }

    fn place(&self) -> Result<StsTarget, InvalidProfile> {
        let region = optional(&self.sts_region).map(Region::parse).transpose()?;
        Ok(StsTarget { region, vpc: self.enable_vpc })
    }
}

fn optional(value: &str) -> Option<&str> {
    (!value.is_empty()).then_some(value)
}

fn required<'a>(name: &'static str, value: &'a str) -> Result<&'a str, InvalidProfile> {
    optional(value).ok_or(InvalidProfile::Missing(name))
}

#[cfg(test)]
mod tests;
