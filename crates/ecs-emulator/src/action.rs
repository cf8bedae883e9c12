//! The actions the emulator knows, and a call of one once it has been let in.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::access::AccessKey;

/// Parameters of a call by name, from the query and from a form body.
pub(super) type Parameters = BTreeMap<String, String>;

/// What can be asked of the emulator: actions of the ECS API (version 2014-05-26), of STS (2015-04-01), and routes that
/// are no API and have a name for the sake of faults, limits and the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Lists instances.
    DescribeInstances,
    /// Lists regions.
    DescribeRegions,
    /// Sets a VNC password.
    ModifyInstanceVncPasswd,
    /// Restarts an instance.
    RebootInstance,
    /// STS: says who calls.
    GetCallerIdentity,
    /// STS: gives out credentials of a role.
    AssumeRole,
    /// STS: the same for a token of an identity provider, unsigned.
    #[serde(rename = "AssumeRoleWithOIDC")]
    AssumeRoleWithOidc,
    /// The metadata service: `PUT /latest/api/token`.
    MetadataToken,
    /// The metadata service: the name of the instance's role.
    MetadataRole,
    /// The metadata service: credentials of that role.
    MetadataCredentials,
    /// A credentials URI: `GET /credentials/ROLE`.
    CredentialsUri,
}

/// Who answers an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Ecs,
    Sts,
    /// No API: the metadata service, or a credentials URI.
    Local,
}

impl Service {
    /// The version that calls of its API carry.
    pub fn version(self) -> Option<&'static str> {
        match self {
            Self::Ecs => Some("2014-05-26"),
            Self::Sts => Some("2015-04-01"),
            Self::Local => None,
        }
    }

    /// The API's name in links.
    pub fn product(self) -> &'static str {
        if self == Self::Sts { "Sts" } else { "Ecs" }
    }
}

impl Action {
    const ALL: [Self; 11] = [
        Self::DescribeInstances,
        Self::DescribeRegions,
        Self::ModifyInstanceVncPasswd,
        Self::RebootInstance,
        Self::GetCallerIdentity,
        Self::AssumeRole,
        Self::AssumeRoleWithOidc,
        Self::MetadataToken,
        Self::MetadataRole,
        Self::MetadataCredentials,
        Self::CredentialsUri,
    ];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeRegions => "DescribeRegions",
            Self::ModifyInstanceVncPasswd => "ModifyInstanceVncPasswd",
            Self::RebootInstance => "RebootInstance",
            Self::GetCallerIdentity => "GetCallerIdentity",
            Self::AssumeRole => "AssumeRole",
            Self::AssumeRoleWithOidc => "AssumeRoleWithOIDC",
            Self::MetadataToken => "MetadataToken",
            Self::MetadataRole => "MetadataRole",
            Self::MetadataCredentials => "MetadataCredentials",
            Self::CredentialsUri => "CredentialsUri",
        }
    }

    /// The action of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Whether the call changes the cloud, so that the journal can say when it was applied.
    pub(super) fn changes(self) -> bool {
        matches!(self, Self::ModifyInstanceVncPasswd | Self::RebootInstance)
    }

    /// Who answers it.
    pub(super) fn service(self) -> Service {
        match self {
            Self::DescribeInstances
            | Self::DescribeRegions
            | Self::ModifyInstanceVncPasswd
            | Self::RebootInstance => Service::Ecs,
            Self::GetCallerIdentity | Self::AssumeRole | Self::AssumeRoleWithOidc => Service::Sts,
            Self::MetadataToken | Self::MetadataRole | Self::MetadataCredentials | Self::CredentialsUri => {
                Service::Local
            }
        }
    }

    /// Whether its calls are signed.
    pub(super) fn signed(self) -> bool {
        self.service() != Service::Local && self != Self::AssumeRoleWithOidc
    }
}

/// A call that was let in.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub action: Action,
    pub parameters: Parameters,
    /// Whether its access key lacks the right to it.
    pub denied: bool,
    pub caller: Caller,
}

/// Whose access key signed a call; of an unsigned one, nobody's.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pub account: String,
    /// The ARN without `acs:ram::ACCOUNT:`.
    pub principal: String,
    /// The instances it has rights to; `None`: all of its account.
    instances: Option<BTreeSet<String>>,
}

impl Caller {
    pub fn new(key: &AccessKey) -> Self {
        Self {
            account: key.account.clone(),
            principal: key.principal.clone(),
            instances: key.instances.clone(),
        }
    }

    /// Whether it has rights to an instance of its account.
    pub fn may(&self, instance_id: &str) -> bool {
        self.instances.as_ref().is_none_or(|own| own.contains(instance_id))
    }
}

/// The instances a call names: `InstanceId`, or the array in `InstanceIds`.
pub(super) fn instance_ids(parameters: &Parameters) -> Vec<String> {
    if let Some(id) = parameters.get("InstanceId") {
        return vec![id.clone()];
    }
    parameters.get("InstanceIds").and_then(|ids| serde_json::from_str(ids).ok()).unwrap_or_default()
}
