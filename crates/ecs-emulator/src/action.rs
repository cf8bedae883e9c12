//! The actions of the emulator.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Parameters of a call by name, from the query and from a form body.
pub(super) type Parameters = BTreeMap<String, String>;

/// Actions of the ECS API (version 2014-05-26) and of STS (2015-04-01), and local routes: the metadata
/// service and a credentials URI. Local routes have names for faults, limits and the journal.
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
    /// STS: returns the identity of the caller.
    GetCallerIdentity,
    /// STS: issues credentials of a role.
    AssumeRole,
    /// STS: issues credentials of a role for a token of an identity provider. Not signed.
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

/// The service that handles an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Service {
    Ecs,
    Sts,
    /// Not an API: the metadata service, or a credentials URI.
    Local,
}

impl Service {
    /// The API version of its calls.
    pub fn version(self) -> Option<&'static str> {
        match self {
            Self::Ecs => Some("2014-05-26"),
            Self::Sts => Some("2015-04-01"),
            Self::Local => None,
        }
    }

    /// The name of the API in links.
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

    /// Finds an action by name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|action| action.as_str() == name)
    }

    /// Whether the call changes an instance. If so, the journal records when.
    pub(super) fn changes(self) -> bool {
        matches!(self, Self::ModifyInstanceVncPasswd | Self::RebootInstance)
    }

    /// The service that handles it.
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

/// The instance IDs of a call: `InstanceId`, or the array in `InstanceIds`.
pub(super) fn instance_ids(parameters: &Parameters) -> Vec<String> {
    if let Some(id) = parameters.get("InstanceId") {
        return vec![id.clone()];
    }
    parameters.get("InstanceIds").and_then(|ids| serde_json::from_str(ids).ok()).unwrap_or_default()
}
