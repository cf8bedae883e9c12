//! A section of the credentials file of the official SDKs.

use std::path::PathBuf;

use futures::{FutureExt, future::BoxFuture};

use super::{
    Credentials, FailureKind, NotUtf8, Provider, ProviderContext, ProviderError, RoleArn, Secret,
    SessionName, Variables,
    cli_config::PROFILE,
    ecs_ram_role::IMDS_V1_DISABLED,
    file::{self, FileError},
    ini::{Ini, InvalidLine, Section},
    oidc::OidcRole,
    profile_chain::{InvalidProfile, ProfileChain, ProfileChainError, Source, StsTarget},
};
use crate::{
    role::RoleName,
    sts::{AssumeRole, Sts},
};

/// The variable with the path of the file; default: `~/.alibabacloud/credentials`, then
/// `~/.alibabacloud/credentials.ini`.
pub const CREDENTIALS_FILE: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";

const NAME: &str = "credentialsFile";

/// The path of the SDKs for Go and Node, then of those for Java and Python.
const DEFAULTS: [&str; 2] = [".alibabacloud/credentials", ".alibabacloud/credentials.ini"];

/// The default section.
const DEFAULT_SECTION: &str = "default";

/// A section of the file, read at each request.
///
/// It is not configured if there is no file, or if the section has `enable = false`. But if
/// `ALIBABA_CLOUD_PROFILE` names a profile, a missing file is an error: this is the last provider that could
/// have the profile.
pub struct CredentialsFile {
    context: ProviderContext,
    settings: Result<Settings, NotUtf8>,
}

#[derive(Clone, Debug)]
struct Settings {
    /// The variable names the file, so it must exist.
    explicit: Option<PathBuf>,
    defaults: Vec<PathBuf>,
    profile: Option<String>,
    allow_imds_v1: bool,
}

/// Why the section returned no credentials.
#[derive(Debug, thiserror::Error)]
enum CredentialsFileError {
    #[error("the file that {CREDENTIALS_FILE} names {0}")]
    Explicit(FileError),
    #[error("~/{0} {1}")]
    Default(&'static str, FileError),
    #[error(
        "{PROFILE} names a profile, but there is neither a credentials file nor a CLI config that holds it"
    )]
    NoFile,
    #[error(transparent)]
    Line(#[from] InvalidLine),
    #[error("the file has no section of the name that {PROFILE} says")]
    UnknownProfile,
    #[error("the file has no section [{DEFAULT_SECTION}]")]
    NoDefault,
    #[error("the section cannot be used: {0}")]
    Invalid(#[from] InvalidProfile),
    #[error(transparent)]
    Failed(#[from] ProfileChainError),
}

impl CredentialsFileError {
    fn failure_kind(&self) -> FailureKind {
        match self {
            Self::Explicit(error) | Self::Default(_, error) => error.failure_kind(),
            Self::NoFile | Self::Line(_) | Self::UnknownProfile | Self::NoDefault | Self::Invalid(_) => {
                FailureKind::Refused
            }
            Self::Failed(error) => error.failure_kind(),
        }
    }
}

impl CredentialsFile {
    /// Reads the variables. The file is read at each request.
    #[must_use]
    pub fn read(variables: Variables<'_>, context: &ProviderContext) -> Self {
        Self { context: context.clone(), settings: settings(variables) }
    }

    async fn ask(&self, settings: &Settings) -> Result<Option<Credentials>, CredentialsFileError> {
        let Some(text) = settings.text().await? else {
            return if settings.profile.is_some() { Err(CredentialsFileError::NoFile) } else { Ok(None) };
        };
        let profile_chain = {
            let ini = Ini::parse(&text)?;
            let section = match &settings.profile {
                Some(name) => ini.section(name).ok_or(CredentialsFileError::UnknownProfile)?,
                None => ini.section(DEFAULT_SECTION).ok_or(CredentialsFileError::NoDefault)?,
            };
            if section.text("enable").is_some_and(|enable| enable.eq_ignore_ascii_case("false")) {
                return Ok(None);
            }
            profile_chain(section, &self.context.session_name)?
        };
        Ok(Some(profile_chain.run(&self.context, settings.allow_imds_v1).await?))
    }
}

impl Provider for CredentialsFile {
    fn name(&self) -> &'static str {
        NAME
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        async {
            let invalid = |error: &NotUtf8| ProviderError::new(NAME, FailureKind::Refused, error);
            let settings = self.settings.as_ref().map_err(invalid)?;
            let failed = |error: CredentialsFileError| ProviderError::new(NAME, error.failure_kind(), &error);
            let credentials = self.ask(settings).await.map_err(failed)?;
            Ok(credentials.map(|credentials| credentials.from_provider(NAME)))
        }
        .boxed()
    }
}

impl Settings {
    /// The content of the file, if there is one.
    async fn text(&self) -> Result<Option<zeroize::Zeroizing<String>>, CredentialsFileError> {
        if let Some(path) = &self.explicit {
            return file::read(path.clone()).await.map(Some).map_err(CredentialsFileError::Explicit);
        }
        for (path, name) in self.defaults.iter().zip(DEFAULTS) {
            match file::read(path.clone()).await {
                Err(FileError::Missing) => {}
                text => return text.map(Some).map_err(|error| CredentialsFileError::Default(name, error)),
            }
        }
        Ok(None)
    }
}

fn settings(variables: Variables<'_>) -> Result<Settings, NotUtf8> {
    Ok(Settings {
        explicit: variables.path(CREDENTIALS_FILE),
        defaults: DEFAULTS.iter().filter_map(|file| variables.at_home(file)).collect(),
        profile: variables.text(PROFILE)?,
        allow_imds_v1: !variables.flag(IMDS_V1_DISABLED),
    })
}

fn profile_chain(section: &Section, session: &SessionName) -> Result<ProfileChain, InvalidProfile> {
    Ok(match required(section, "type")? {
        "access_key" => Source::Keys(keys(section, None)?).into(),
        "sts" => {
            let token = section.secret("security_token").cloned();
            let token = token.ok_or(InvalidProfile::Missing("security_token"))?;
            Source::Keys(keys(section, Some(token))?).into()
        }
        "ecs_ram_role" => {
            Source::Instance(section.text("role_name").map(RoleName::parse).transpose()?).into()
        }
        "ram_role_arn" => {
            let source = Source::Keys(keys(section, section.secret("security_token").cloned())?);
            ProfileChain::from(source).then_assume(StsTarget::default(), role(section, session)?)
        }
        "oidc_role_arn" => {
            let provider_arn = required(section, "oidc_provider_arn")?.to_owned();
            let token_file = required(section, "oidc_token_file_path")?.into();
            let role = OidcRole { role: role(section, session)?, provider_arn, token_file };
            Source::Token(StsTarget::default(), role).into()
        }
        "rsa_key_pair" => return Err(InvalidProfile::Unsupported("type rsa_key_pair")),
        "bearer" => return Err(InvalidProfile::Unsupported("type bearer")),
        _ => return Err(InvalidProfile::Unsupported("its type")),
    })
}

fn keys(section: &Section, token: Option<Secret>) -> Result<Credentials, InvalidProfile> {
    let id = required(section, "access_key_id")?.to_owned();
    let secret = section.secret("access_key_secret").cloned();
    Ok(Credentials::new(id, secret.ok_or(InvalidProfile::Missing("access_key_secret"))?, token)?)
}

fn role(section: &Section, session: &SessionName) -> Result<AssumeRole, InvalidProfile> {
    let session_name = section.text("role_session_name").map(SessionName::parse).transpose()?;
    Ok(AssumeRole {
        role_arn: RoleArn::parse(required(section, "role_arn")?)?,
        session_name: session_name.unwrap_or_else(|| session.clone()),
        external_id: None,
        policy: section.text("policy").map(ToOwned::to_owned),
        duration: Sts::DEFAULT_DURATION,
    })
}

fn required<'a>(section: &'a Section, name: &'static str) -> Result<&'a str, InvalidProfile> {
    section.text(name).ok_or(InvalidProfile::Missing(name))
}

#[cfg(test)]
mod tests;
