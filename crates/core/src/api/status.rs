//! What the operator says of a `VncPassword`. Times are in UTC, to the second.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube_derive::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Condition, ConditionStatus, ConditionType, Reason, conditions::readable};

/// Status of a `VncPassword`. Nothing derived from a password is ever written here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct VncPasswordStatus {
    /// The `metadata.generation` that the status was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready always; Reconciling, Stalled, RebootRequired and Suspended only while they are true.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "readable")]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["type".into()]))]
    pub conditions: Vec<Condition>,
    /// RequestId of the last accepted call of ModifyInstanceVncPasswd: the key to ActionTrail and to support.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The Secret of `spec.credentialsRef` under which that call was made; absent: the operator's own identity.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted_as: Option<Box<str>>,
    /// When a new password last came into effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_rotation_time: Option<Time>,
    /// When the next scheduled rotation starts, as far as can be told now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_rotation_time: Option<Time>,
    /// The newest value of the annotation `vncpassword.dev/rotate-at` that was handled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_handled_rotate_at: Option<Time>,
    /// How many passwords came into effect through this object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotations: Option<i64>,
    /// The version of the Secret that the API accepted last. Absent while the outcome of a call is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// Accepted, but waiting for a restart of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Box<Accepted>>,
    /// The last restart of the instance that the operator asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reboot_requested_at: Option<Box<RebootRequest>>,
    /// The instance as last seen. It is looked at only where that pays, so this can be old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Instance>,
    /// What is known of failed attempts, until one succeeds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<Retry>,
}

/// Version of the Secret that was accepted, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// `metadata.uid` of the Secret.
    pub secret_uid: String,
    /// `metadata.resourceVersion` of the Secret.
    pub secret_resource_version: String,
    /// When the API last accepted this value; `spec.enforceInterval` counts from here.
    pub time: Time,
    /// Of a generated password: the id in the Secret's record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<String>,
}

/// A password that the API accepted and that a restart brings into effect.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Accepted {
    /// Which one: the id in the Secret's record; of a Secret that is the user's, the `metadata.resourceVersion` that was
    /// sent.
    pub rotation: String,
    /// When.
    pub time: Time,
    /// It may be the value that was in effect before, so the operator does not restart the instance for it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchanged: bool,
    /// The instance's start time while it was accepted: another one means that it was restarted. Absent until
    /// it was confirmed by a look after the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

/// A restart that the operator asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RebootRequest {
    /// When.
    pub time: Time,
    /// For which password: as `accepted.rotation`.
    pub rotation: String,
    /// How often: a second time only where the first moved nothing.
    pub requests: i32,
}

/// What DescribeInstances said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The region that calls go to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region_id: Option<String>,
    /// `Pending`, `Starting`, `Running`, `Stopping` or `Stopped`, as last seen. After a refusal because of the
    /// instance's state: the status that was refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<String>,
    /// True: a password is in effect at once. False: after a restart. Absent: not known, treated as true.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub io_optimized: Option<bool>,
    /// When the instance was last started, to the minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Time>,
}

/// Failed attempts and what follows from them. Kept here so that a restart of the operator keeps the backoff.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Retry {
    /// Attempts that failed in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<i32>,
    /// When the last of them failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_failure_time: Option<Time>,
    /// When the next one is made; sooner where the Secret, the object or the instance changes. An estimate where the object
    /// lacks a right that others lack too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_time: Option<Time>,
    /// Until then a call with an unknown outcome may still arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unsettled_until: Option<Time>,
    /// The API's error code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// The RequestId of the failed call, where the API gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

impl Retry {
    /// What is left when attempts no longer count: a call that may still arrive.
    #[must_use]
    pub fn unsettled(until: Option<Timestamp>) -> Option<Self> {
        until.map(|until| Self { unsettled_until: Some(Time(until)), ..Self::default() })
    }
}

impl VncPasswordStatus {
    /// Until when a call with an unknown outcome may still arrive, where there is one.
    #[must_use]
    pub fn unsettled_until(&self) -> Option<Timestamp> {
        self.retry.as_ref()?.unsettled_until.as_ref().map(|until| until.0)
    }

    /// The condition of that type, where it stands.
    #[must_use]
    pub fn condition(&self, type_: ConditionType) -> Option<&Condition> {
        self.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// Status of `Ready`; `Unknown` for an object that was never looked at.
    #[must_use]
    pub fn ready(&self) -> ConditionStatus {
        self.condition(ConditionType::Ready).map_or(ConditionStatus::Unknown, |condition| condition.status)
    }

    /// Reason of the condition of that type, where it stands.
    #[must_use]
    pub fn reason(&self, type_: ConditionType) -> Option<Reason> {
        self.condition(type_).map(|condition| condition.reason)
    }
}
