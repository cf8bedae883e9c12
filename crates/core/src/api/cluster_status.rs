//! What the operator says of a `ClusterVncPassword`. Sums and examples, no list of instances: it holds for ten thousand
//! of them. Times are in UTC, to the second.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ConditionType, Reason, conditions::readable};

/// Status of a `ClusterVncPassword`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct ClusterVncPasswordStatus {
    /// The `metadata.generation` that the status was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling, Stalled, `DiscoveryDegraded` and Suspended only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// How many instances are selected.
    #[serde(default)]
    pub discovered: u32,
    /// Of these: those whose VncPassword is Ready.
    #[serde(default)]
    pub ready: u32,
    /// Of these: those with a password on its way.
    #[serde(default)]
    pub rotating: u32,
    /// Of these: those that the rollout does not wait for, because their instance is stopped or has no VNC, or because
    /// their VncPassword is suspended. They rotate when that changes.
    #[serde(default)]
    pub waiting: u32,
    /// Of these: those whose VncPassword needs a person, or whose name another object has.
    #[serde(default)]
    pub failed: u32,
    /// Of these: those with a password that waits for a restart.
    #[serde(default)]
    pub reboot_required: u32,
    /// Of these: those that are left to another VncPassword.
    #[serde(default)]
    pub owned_elsewhere: u32,
    /// How many Nodes stand for no instance, or for one that another Node names as well.
    #[serde(default)]
    pub skipped: u32,
    /// The newest rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
    /// When a rollout last came to its end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_time: Option<Time>,
    /// When the next scheduled rollout starts, as far as can be told now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// The newest value of the annotation `vncpassword.dev/rotate-at` that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotate_at: Option<Time>,
    /// An answer that would have VncPasswords pruned by the score, until it is confirmed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<UnconfirmedDiscovery>,
    /// The newest failures, at most ten.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub failures: Vec<Failure>,
    /// Nodes that are skipped, at most five, the worst first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 10))]
    pub skipped_nodes: Vec<SkippedNode>,
}

/// One rotation of all instances, in waves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Names it: the `vncpassword.dev/rotate-at` that the VncPasswords get.
    pub id: Time,
    /// Why it began.
    pub trigger: Trigger,
    /// When it began. Turns count from here.
    pub started_at: Time,
    /// How many instances have a password that was drawn for it or later.
    #[serde(default)]
    pub updated: u32,
    /// How many there are.
    #[serde(default)]
    pub total: u32,
    /// How many of these failed, and need a person.
    #[serde(default)]
    pub failed: u32,
    /// `updated` of `total`, such as `120/2000`.
    #[serde(default)]
    pub progress: String,
    /// When it ends at the pace so far. Absent while that cannot be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eta: Option<Time>,
    /// From where the pace is counted: the beginning, or the last resumption.
    pub pace_from: PaceFrom,
    /// When it ended: nothing was left to start, and nothing on its way. Instances that were not to be had (stopped, waiting for
    /// a restart, failed) rotate by themselves later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<Time>,
    /// When it halted because of failures. Absent once it goes on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted_at: Option<Time>,
    /// Failures that do not halt it: they stood when it began, or when it was resumed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub tolerated: u32,
}

/// From where the pace of a rollout is counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PaceFrom {
    /// When.
    pub time: Time,
    /// What `updated` was then.
    #[serde(default)]
    pub updated: u32,
}

/// Why a rollout began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Trigger {
    /// The first: each instance gets its first password.
    Initial,
    /// A turn of `spec.rotation`.
    Schedule,
    /// The annotation `vncpassword.dev/rotate-at`.
    OnDemand,
}

/// An answer to the question which instances there are that is much smaller than what is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnconfirmedDiscovery {
    /// When it first came.
    pub since: Time,
    /// How often it came in a row.
    pub answers: u32,
    /// When it was last counted.
    pub counted_at: Time,
}

/// A `VncPassword` of the fleet that needs a person.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Failure {
    /// Name of the VncPassword.
    pub name: String,
    /// Its instance.
    pub instance_id: String,
    /// The reason of its condition Stalled.
    pub reason: Reason,
    /// The beginning of that condition's message.
    #[schemars(length(max = 160))]
    pub message: String,
}

/// A Node that stands for no instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SkippedNode {
    /// Its name.
    pub node: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a Node stands for no instance. From what passes by itself to what is worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum SkipReason {
    /// Its `spec.providerID` is empty: the cloud controller manager has not been there yet.
    NoProviderId,
    /// Its `spec.providerID` is that of another cloud.
    ForeignProviderId,
    /// Its `spec.providerID` begins as one of Alibaba Cloud's, but is none.
    MalformedProviderId,
    /// Another Node has the same `spec.providerID`.
    DuplicateProviderId,
}

impl ClusterVncPasswordStatus {
    /// The condition of that type, where it stands.
    #[must_use]
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Reason of the condition of that type, where it stands.
    #[must_use]
    pub fn reason(&self, type_: ConditionType) -> Option<Reason> {
        self.condition(type_).map(|condition| condition.reason)
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
