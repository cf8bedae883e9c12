//! The actions the emulator knows, and a call of one once it has been let in.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Parameters of a call by name, from the query and from a form body.
pub(super) type Parameters = BTreeMap<String, String>;

/// An action of the ECS API, version 2014-05-26.
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
}

impl Action {
    const ALL: [Self; 4] =
        [Self::DescribeInstances, Self::DescribeRegions, Self::ModifyInstanceVncPasswd, Self::RebootInstance];

    /// The name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DescribeInstances => "DescribeInstances",
            Self::DescribeRegions => "DescribeRegions",
            Self::ModifyInstanceVncPasswd => "ModifyInstanceVncPasswd",
            Self::RebootInstance => "RebootInstance",
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
}

/// A call whose signature was in order.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub action: Action,
    pub parameters: Parameters,
    /// Whether its access key lacks the right to it.
    pub denied: bool,
}

/// The instances a call names: `InstanceId`, or the array in `InstanceIds`.
pub(super) fn instance_ids(parameters: &Parameters) -> Vec<String> {
    if let Some(id) = parameters.get("InstanceId") {
        return vec![id.clone()];
    }
    parameters.get("InstanceIds").and_then(|ids| serde_json::from_str(ids).ok()).unwrap_or_default()
}
