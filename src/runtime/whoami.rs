//! `whoami`: who the program is to the cloud, until when, and what that identity may do. Shows no secret.

use std::{ffi::OsString, fmt, time::Duration};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::Client;
use serde::Serialize;

use super::{
    CloudArgs, CloudSettings, SettingsError, Shutdown,
    cloud::{CloudError, cloud},
    cluster::cluster,
};
use crate::{
    cloud::reply,
    controller::Cloud,
    ecs::{self, Clock, Region, credentials::SessionName, sts::CallerIdentity},
    rotation::outcome::Class,
};

/// How long to wait for the cluster, which only names the session of a role.
const CLUSTER_PATIENCE: Duration = Duration::from_secs(2);

/// Flags of `whoami`.
#[derive(Args, Clone, Debug)]
pub struct WhoamiArgs {
    /// How the cloud is reached.
    #[command(flatten)]
    pub cloud: CloudArgs,

    /// Namespace of the operator, which names the session of a role
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    pub operator_namespace: String,

    /// How the answer looks
    #[arg(long, short, value_name = "FORMAT", default_value = "text")]
    pub output: Output,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum WhoamiError {
    /// A flag cannot be used.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The clients cannot be made.
    #[error(transparent)]
    Cloud(#[from] CloudError),
    /// There are no credentials, or the cloud does not take them. Names the provider.
    #[error(transparent)]
    Identity(#[from] ecs::Error),
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Whoami {
    /// The provider that gave the credentials.
    pub provider: &'static str,
    /// The account.
    pub account: String,
    /// The user or the assumed role.
    pub arn: String,
    /// What it is, such as `RAMUser`.
    pub identity_type: String,
    /// When the credentials expire, by the cloud's clock; absent: never.
    pub expires_at: Option<Timestamp>,
    /// How long that is from now, in seconds.
    pub expires_in_seconds: Option<i64>,
    /// Where the rights were tried.
    pub region: Option<String>,
    /// What was found out of the rights.
    pub rights: Vec<Right>,
}

/// One right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Right {
    /// The action.
    pub action: &'static str,
    /// Whether the identity has it; absent: not known.
    pub granted: Option<bool>,
    /// Why it is not granted, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Whoami {
    /// Whether all rights that could be tried are there.
    #[must_use]
    pub fn suffices(&self) -> bool {
        self.rights.iter().all(|right| right.granted != Some(false))
    }
}

/// Asks the cloud. `lookup` is all that is read of the environment; `client` names the cluster, where it can be reached.
///
/// # Errors
/// See [`WhoamiError`].
pub async fn whoami(
    arguments: WhoamiArgs,
    client: Option<Client>,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Whoami, WhoamiError> {
    let settings = CloudSettings::try_from(arguments.cloud)?;
    let region = settings.region.clone();
    let cluster = match &client {
        Some(client) => {
            let (_stop, mut shutdown) = Shutdown::new();
            let named = cluster(client, &mut shutdown);
            tokio::time::timeout(CLUSTER_PATIENCE, named).await.ok().flatten()
        }
        None => None,
    };
    let session_name = SessionName::of(cluster.as_deref(), &arguments.operator_namespace);
    let cloud = cloud(settings, Clock::default(), lookup, session_name)?;
    let CallerIdentity { account, arn, identity_type } = cloud.operator.caller(&cloud.sts).await?;
    // Those that were just used.
    let credentials = cloud.operator.credentials().get().await.map_err(ecs::Error::from)?;
    let expires_at = credentials.as_ref().and_then(|credentials| credentials.expires_at());
    let left = |at: Timestamp| at.duration_since(cloud.ecs.clock().now()).as_secs();
    Ok(Whoami {
        provider: credentials.map_or("", |credentials| credentials.provider()),
        account,
        arn,
        identity_type,
        expires_at,
        expires_in_seconds: expires_at.map(left),
        rights: rights(&cloud, region.as_ref()).await,
        region: region.map(|region| region.to_string()),
    })
}

async fn rights(cloud: &Cloud, region: Option<&Region>) -> Vec<Right> {
    let unknown = |action, because: &str| Right { action, granted: None, because: Some(because.to_owned()) };
    let action = "ecs:DescribeInstances";
    let describe = match region {
        None => unknown(action, "set --region to have it tried"),
        Some(region) => match cloud.ecs.may_describe_instances(&cloud.operator, region).await {
            Ok(()) => Right { action, granted: Some(true), because: None },
            Err(error) if reply::class(&error) == Class::Denied => {
                Right { action, granted: Some(false), because: Some(error.to_string()) }
            }
            Err(error) => unknown(action, &error.to_string()),
        },
    };
    let untried =
        "the API has no dry run for it; vncpassword-operator ram-policy prints the policy that grants it";
    vec![
        // Whoever got here was answered.
        Right { action: "sts:GetCallerIdentity", granted: Some(true), because: None },
        describe,
        unknown("ecs:ModifyInstanceVncPasswd", untried),
    ]
}

impl fmt::Display for Whoami {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "provider     {}", self.provider)?;
        writeln!(f, "account      {}", self.account)?;
        writeln!(f, "identity     {} ({})", self.arn, self.identity_type)?;
        match (self.expires_at, self.expires_in_seconds) {
            (Some(at), Some(seconds)) => {
                let left = SignedDuration::from_secs(seconds);
                writeln!(f, "valid until  {}, {left:#} from now", at.strftime("%FT%TZ"))?;
            }
            _ => writeln!(f, "valid until  it is changed or revoked")?,
        }
        writeln!(f, "rights       {}", self.region.as_deref().unwrap_or("no region is named"))?;
        for Right { action, granted, because } in &self.rights {
            let granted = match granted {
                Some(true) => "yes",
                Some(false) => "no",
                None => "not known",
            };
            write!(f, "  {action:<28} {granted}")?;
            match because {
                Some(because) => writeln!(f, ": {because}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_who_until_when_and_what_is_missing() {
        let mut answer = Whoami {
            provider: "oidc",
            account: "1000000000000001".to_owned(),
            arn: "acs:ram::1000000000000001:assumed-role/console/cluster.vnc".to_owned(),
            identity_type: "AssumedRoleUser".to_owned(),
            expires_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            expires_in_seconds: Some(3540),
            region: Some("cn-hangzhou".to_owned()),
            rights: vec![
                Right { action: "sts:GetCallerIdentity", granted: Some(true), because: None },
                Right {
                    action: "ecs:DescribeInstances",
                    granted: Some(false),
                    because: Some("denied".to_owned()),
                },
            ],
        };
        let text = "\
provider     oidc
account      1000000000000001
identity     acs:ram::1000000000000001:assumed-role/console/cluster.vnc (AssumedRoleUser)
valid until  2026-01-02T03:04:05Z, 59m from now
rights       cn-hangzhou
  sts:GetCallerIdentity        yes
  ecs:DescribeInstances        no: denied
";
        assert_eq!(answer.to_string(), text);
        assert!(!answer.suffices());
        answer.rights[1].granted = None;
        (answer.expires_at, answer.expires_in_seconds, answer.region) = (None, None, None);
        assert!(answer.suffices());
        assert!(
            answer
                .to_string()
                .contains("valid until  it is changed or revoked\nrights       no region is named")
        );
    }
}
