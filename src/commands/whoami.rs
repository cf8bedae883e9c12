//! `whoami`: the identity of the program in the cloud, its expiry and its rights. It shows no secret.

use std::{
    ffi::OsString,
    fmt::{self, Write as _},
    time::Duration,
};

use clap::Args;
use jiff::{SignedDuration, Timestamp};
use kube::Client;

use super::{USER_AGENT, cluster::cluster};
use crate::{cloud::reply, runtime::Shutdown, store::object::OPERATOR};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{
    Clock, Region,
    connect::{Cloud, CloudArgs, CloudSettings, ConnectError, InvalidCloudArgument, connect},
    credentials::SessionName,
    sts::CallerIdentity,
};
use vncpassword_core::{
    api::{CloudRight, Whoami},
    rotation::outcome::Class,
};

/// How long to wait for the API server. The result is only used for the session name of a role.
const CLUSTER_TIMEOUT: Duration = Duration::from_secs(2);

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
    Argument(#[from] InvalidCloudArgument),
    /// The clients cannot be made.
    #[error(transparent)]
    Cloud(#[from] ConnectError),
    /// There are no credentials, or the cloud does not take them. Names the provider.
    #[error(transparent)]
    Identity(#[from] ecs::Error),
}

/// Asks the cloud. `lookup` is all that is read of the environment; `client` names the cluster, where it can
/// be reached.
///
/// # Errors
/// See [`WhoamiError`].
pub async fn whoami(
    arguments: WhoamiArgs,
    client: Option<Client>,
    lookup: impl Fn(&str) -> Option<OsString>,
) -> Result<Whoami, WhoamiError> {
    let mut settings = CloudSettings::try_from(arguments.cloud)?;
    settings.ecs.user_agent = USER_AGENT;
    let region = settings.region.clone();
    let cluster = match &client {
        Some(client) => {
            let (_stop, mut shutdown) = Shutdown::new();
            let named = cluster(client, &mut shutdown);
            tokio::time::timeout(CLUSTER_TIMEOUT, named).await.ok().flatten()
        }
        None => None,
    };
    let session_name = SessionName::of(cluster.as_deref(), &arguments.operator_namespace);
    let cloud = connect(settings, Clock::default(), lookup, session_name, OPERATOR)?;
    let CallerIdentity { account, arn, identity_type } = cloud.operator.caller(&cloud.sts).await?;
    // Those that were just used.
    let credentials = cloud.operator.credentials().get().await.map_err(ecs::Error::from)?;
    let expires_at = credentials.as_ref().and_then(|credentials| credentials.expires_at());
    let left = |at: Timestamp| at.duration_since(cloud.ecs.clock().now()).as_secs();
    Ok(Whoami {
        provider: credentials.map_or("", |credentials| credentials.provider()).to_owned(),
        account,
        arn,
        identity_type,
        expires_at,
        expires_in_seconds: expires_at.map(left),
        rights: rights(&cloud, region.as_ref()).await,
        region: region.map(|region| region.to_string()),
    })
}

async fn rights(cloud: &Cloud, region: Option<&Region>) -> Vec<CloudRight> {
    let unknown = |action: &str, because: &str| CloudRight {
        action: action.to_owned(),
        granted: None,
        because: Some(because.to_owned()),
    };
    let action = "ecs:DescribeInstances";
    let describe = match region {
        None => unknown(action, "set --region to have it tried"),
        Some(region) => match cloud.ecs.may_describe_instances(&cloud.operator, region).await {
            Ok(()) => CloudRight { action: action.to_owned(), granted: Some(true), because: None },
            Err(error) if reply::class(&error) == Class::Denied => CloudRight {
                action: action.to_owned(),
                granted: Some(false),
                because: Some(error.to_string()),
            },
            Err(error) => unknown(action, &error.to_string()),
        },
    };
    let untried =
        "the API has no dry run for it; vncpassword-operator ram-policy prints the policy that grants it";
    vec![
        // Without this right there would be no reply.
        CloudRight { action: "sts:GetCallerIdentity".to_owned(), granted: Some(true), because: None },
        describe,
        unknown("ecs:ModifyInstanceVncPasswd", untried),
    ]
}

/// The answer for people.
///
/// # Errors
/// None in practice: writing to a string does not fail.
pub fn text(answer: &Whoami) -> Result<String, fmt::Error> {
    let mut text = String::new();
    writeln!(text, "provider     {}", answer.provider)?;
    writeln!(text, "account      {}", answer.account)?;
    writeln!(text, "identity     {} ({})", answer.arn, answer.identity_type)?;
    match (answer.expires_at, answer.expires_in_seconds) {
        (Some(at), Some(seconds)) => {
            let left = SignedDuration::from_secs(seconds);
            writeln!(text, "valid until  {}, {left:#} from now", at.strftime("%FT%TZ"))?;
        }
        _ => writeln!(text, "valid until  it is changed or revoked")?,
    }
    writeln!(text, "rights       {}", answer.region.as_deref().unwrap_or("no region is named"))?;
    for CloudRight { action, granted, because } in &answer.rights {
        let granted = match granted {
            Some(true) => "yes",
            Some(false) => "no",
            None => "not known",
        };
        write!(text, "  {action:<28} {granted}")?;
        match because {
            Some(because) => writeln!(text, ": {because}")?,
            None => writeln!(text)?,
        }
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_says_who_until_when_and_what_is_missing() {
        let mut answer = Whoami {
            provider: "oidc".to_owned(),
            account: "1000000000000001".to_owned(),
            arn: "acs:ram::1000000000000001:assumed-role/console/cluster.vnc".to_owned(),
            identity_type: "AssumedRoleUser".to_owned(),
            expires_at: Some("2026-01-02T03:04:05Z".parse().unwrap()),
            expires_in_seconds: Some(3540),
            region: Some("cn-hangzhou".to_owned()),
            rights: vec![
                CloudRight { action: "sts:GetCallerIdentity".to_owned(), granted: Some(true), because: None },
                CloudRight {
                    action: "ecs:DescribeInstances".to_owned(),
                    granted: Some(false),
                    because: Some("denied".to_owned()),
                },
            ],
        };
        let expected = "\
provider     oidc
account      1000000000000001
identity     acs:ram::1000000000000001:assumed-role/console/cluster.vnc (AssumedRoleUser)
valid until  2026-01-02T03:04:05Z, 59m from now
rights       cn-hangzhou
  sts:GetCallerIdentity        yes
  ecs:DescribeInstances        no: denied
";
        assert_eq!(text(&answer).unwrap(), expected);
        assert!(!answer.suffices());
        answer.rights[1].granted = None;
        (answer.expires_at, answer.expires_in_seconds, answer.region) = (None, None, None);
        assert!(answer.suffices());
        assert!(
            text(&answer)
                .unwrap()
                .contains("valid until  it is changed or revoked\nrights       no region is named")
        );
    }
}
