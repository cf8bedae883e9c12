//! The profile of the Alibaba Cloud CLI.

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

/// The variable that disables the CLI config, if it is `true`.
pub const CLI_PROFILE_DISABLED: &str = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED";
/// The variable with the path of the config; default: `~/.aliyun/config.json`.
pub const CONFIG_FILE: &str = "ALIBABA_CLOUD_CONFIG_FILE";
/// The variable with the name of the profile; default: `current` in the config.
pub const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";

const NAME: &str = "cliConfig";

const DEFAULT: &str = ".aliyun/config.json";

/// The maximum number of `source_profile` steps.
const MAX_SOURCE_PROFILES: usize = 8;

/// The range of the session duration in seconds: that of the API.
const SESSION_SECONDS: std::ops::RangeInclusive<u64> = 900..=43_200;

/// A profile of the CLI config, read at each request.
pub struct CliConfig {
    context: ProviderContext,
    settings: Result<Option<Settings>, NotUtf8>,
}

#[derive(Clone, Debug)]
struct Settings {
    file: PathBuf,
    /// The variable names the file, so it must exist.
    explicit: bool,
    profile: Option<String>,
    allow_imds_v1: bool,
}

/// Why the profile returned no credentials.
#[derive(Debug, thiserror::Error)]
enum CliConfigError {
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

/// One profile, with the field names of the file. The CLI writes unset fields as empty values.
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
    /// The field name of the SDK for Python.
    role_session_name: String,
    external_id: String,
    policy: String,
    expired_seconds: u64,
    source_profile: String,
    oidc_provider_arn: String,
    oidc_token_file: String,
    /// It may contain a password.
    credentials_uri: Option<Secret>,
}

impl CliConfigError {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Explicit(error) | Self::Default(error) => error.failure_kind(),
            Self::Unreadable(_) | Self::NoProfile | Self::UnknownProfile | Self::Invalid(_) => {
                FailureKind::Refused
            }
            Self::Failed(error) => error.failure_kind(),
        }
    }
}

impl CliConfig {
    /// Reads the variables. The config is read at each request.
    #[must_use]
    pub fn read(variables: Variables<'_>, context: &ProviderContext) -> Self {
        Self { context: context.clone(), settings: settings(variables) }
    }

    async fn ask(&self, settings: &Settings) -> Result<Option<Credentials>, CliConfigError> {
        let text = match file::read(settings.file.clone()).await {
            Ok(text) => text,
            Err(FileError::Missing) if !settings.explicit => return Ok(None),
            Err(error) if settings.explicit => return Err(CliConfigError::Explicit(error)),
            Err(error) => return Err(CliConfigError::Default(error)),
        };
        let profile_chain = {
            let config: Config = reply::json(text.as_bytes()).map_err(CliConfigError::Unreadable)?;
            config.profile_chain(settings.profile.as_deref(), &self.context.session_name)?
        };
        Ok(Some(profile_chain.run(&self.context, settings.allow_imds_v1).await?))
    }
}

impl Provider for CliConfig {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let invalid = |error: &NotUtf8| ProviderError::new(NAME, FailureKind::Refused, error);
            let settings = self.settings.as_ref().map_err(invalid)?;
            let Some(settings) = settings else { return Ok(None) };
            let failed = |error: CliConfigError| ProviderError::new(NAME, error.failure_kind(), &error);
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
    let allow_imds_v1 = !variables.flag(IMDS_V1_DISABLED);
    Ok(Some(Settings { file, explicit, profile: variables.text(PROFILE)?, allow_imds_v1 }))
}

impl Config {
    /// The chain of this profile; `None`: of the current one. `session`: the default session name.
    fn profile_chain(
        &self,
        profile: Option<&str>,
        session: &SessionName,
    ) -> Result<ProfileChain, CliConfigError> {
        let name = profile.unwrap_or(&self.current);
        if name.is_empty() {
            return Err(CliConfigError::NoProfile);
        }
        self.named(name, session, MAX_SOURCE_PROFILES)
    }

    fn named(
        &self,
        name: &str,
        session: &SessionName,
        sources: usize,
    ) -> Result<ProfileChain, CliConfigError> {
        let profile = self
            .profiles
            .iter()
            .find(|profile| profile.name == name)
            .ok_or(CliConfigError::UnknownProfile)?;
        if profile.mode != "ChainableRamRoleArn" {
            return Ok(profile.profile_chain(session)?);
        }
        let source = required("source_profile", &profile.source_profile)?;
        let left = sources.checked_sub(1).ok_or(InvalidProfile::Circle)?;
        let source = self.named(source, session, left)?;
        Ok(source.then_assume(profile.target()?, profile.role(session)?))
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
            "RamRoleArn" => ProfileChain::from(Source::Keys(self.keys(token())?))
                .then_assume(self.target()?, self.role(session)?),
            "EcsRamRole" => Source::Instance(self.instance()?).into(),
            "RamRoleArnWithRoleName" | "RamRoleArnWithEcs" => {
                ProfileChain::from(Source::Instance(self.instance()?))
                    .then_assume(self.target()?, self.role(session)?)
            }
            "OIDC" => {
                let provider_arn = required("oidc_provider_arn", &self.oidc_provider_arn)?.to_owned();
                let token_file = required("oidc_token_file", &self.oidc_token_file)?.into();
                let role = OidcRole { role: self.role(session)?, provider_arn, token_file };
                Source::Token(self.target()?, role).into()
            }
            "CredentialsURI" => {
                let url = self.credentials_uri.as_ref().map_or("", Secret::expose);
                Source::Uri(credentials_uri::CredentialsUrl::parse(required("credentials_uri", url)?)?).into()
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
            0 => Sts::DEFAULT_DURATION,
            seconds if SESSION_SECONDS.contains(&seconds) => Duration::from_secs(seconds),
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

    fn target(&self) -> Result<StsTarget, InvalidProfile> {
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
