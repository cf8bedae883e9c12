//! What the commands look at of a `VncPassword`, and nothing else: ten thousand of them are read in a second, and one that
//! a newer operator wrote is read too.

use std::{borrow::Cow, collections::BTreeMap};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use kube::{Resource, ResourceExt, core::NamespaceResourceScope, core::ObjectMeta};
use serde::{Deserialize, Deserializer};

use vncpassword_core::{
    api::{Activation, CredentialsRef, ROTATE_AT, SecretRef, VncPassword},
    rotation::rotate_at::RotateAt,
};

/// A `VncPassword`, as far as it is looked at.
#[derive(Clone, Debug, Deserialize)]
pub struct ObjectSummary {
    /// Its name and the like, without what is long.
    #[serde(deserialize_with = "metadata")]
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: Spec,
    /// What the operator says.
    #[serde(default)]
    pub status: Status,
}

/// Of `spec`.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The instance.
    pub instance_id: String,
    /// The Secret.
    pub secret_ref: SecretRef,
    /// Whether passwords are generated.
    #[serde(default, deserialize_with = "is_there")]
    pub rotation: bool,
    /// Whether there is a window.
    #[serde(default, deserialize_with = "is_there")]
    pub window: bool,
    /// Who restarts.
    #[serde(default)]
    pub activation: Activation,
    /// The Secret with an identity of its own.
    pub credentials_ref: Option<CredentialsRef>,
    /// Whether it is suspended.
    #[serde(default)]
    pub suspend: bool,
}

/// Of `status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// The generation it was decided on.
    pub observed_generation: Option<i64>,
    /// All of them.
    pub conditions: Vec<Condition>,
    /// Of the last accepted call.
    pub request_id: Option<String>,
    /// When a new password last came into effect.
    pub last_rotation_time: Option<Timestamp>,
    /// When the next one is due.
    pub next_rotation_time: Option<Timestamp>,
    /// The newest `rotate-at` that was handled.
    pub last_handled_rotate_at: Option<Timestamp>,
    /// The version of the Secret that was accepted last.
    pub applied: Applied,
    /// What is known of failures.
    pub retry: Retry,
    /// The instance as last seen.
    pub instance: Instance,
}

/// Of `status.applied`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Applied {
    /// When the API last accepted the value.
    pub time: Option<Timestamp>,
}

/// Of `status.retry`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Retry {
    /// When the last attempt failed.
    pub last_failure_time: Option<Timestamp>,
    /// When the next one is made.
    pub next_attempt_time: Option<Timestamp>,
    /// Until when a lost call may still arrive.
    pub unsettled_until: Option<Timestamp>,
}

/// Of `status.instance`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Instance {
    /// The region that calls go to.
    pub region_id: Option<String>,
    /// Such as `Stopped`.
    pub status: Option<String>,
}

/// A condition, with whatever words a newer operator may use.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which one.
    #[serde(rename = "type")]
    pub type_: String,
    /// `True`, `False` or `Unknown`.
    pub status: String,
    /// The word for it.
    pub reason: String,
    /// The sentence for it.
    #[serde(default)]
    pub message: String,
    /// Since when.
    pub last_transition_time: Timestamp,
}

impl ObjectSummary {
    /// The condition of that type, where it stands.
    #[must_use]
    pub fn condition(&self, type_: &str) -> Option<&Condition> {
        self.status.conditions.iter().find(|condition| condition.type_ == type_)
    }

    /// The condition of that type, where it is true.
    #[must_use]
    pub fn is(&self, type_: &str) -> Option<&Condition> {
        self.condition(type_).filter(|condition| condition.status == "True")
    }

    /// What the annotation asks for.
    #[must_use]
    pub fn rotate_at(&self) -> RotateAt {
        RotateAt::parse(self.annotations().get(ROTATE_AT).map(String::as_str))
    }

    /// When the rotation that the annotation asks for is due, where one is.
    #[must_use]
    pub fn asked(&self) -> Option<Timestamp> {
        self.rotate_at().due(self.created(), self.status.last_handled_rotate_at, self.last_call())
    }

    /// When the API last took a password: a rotation on demand waits a minute from there.
    #[must_use]
    pub fn last_call(&self) -> Option<Timestamp> {
        self.status.last_rotation_time.max(self.status.applied.time)
    }

    /// When it was created.
    #[must_use]
    pub fn created(&self) -> Timestamp {
        self.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |at| at.0)
    }

    /// The fleet that it belongs to: a label may be set by anybody, the owner counts.
    #[must_use]
    pub fn fleet(&self) -> Option<&str> {
        let owners = self.owner_references().iter();
        let fleets =
            owners.filter(|owner| owner.controller == Some(true) && owner.kind == "ClusterVncPassword");
        fleets.map(|owner| owner.name.as_str()).next()
    }
}

impl Resource for ObjectSummary {
    type DynamicType = ();
    type Scope = NamespaceResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        VncPassword::kind(&())
    }

    fn group((): &()) -> Cow<'_, str> {
        VncPassword::group(&())
    }

    fn version((): &()) -> Cow<'_, str> {
        VncPassword::version(&())
    }

    fn plural((): &()) -> Cow<'_, str> {
        VncPassword::plural(&())
    }

    fn meta(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// Above all without `managedFields`, which are longer than all the rest.
fn metadata<'de, D: Deserializer<'de>>(deserializer: D) -> Result<ObjectMeta, D::Error> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Lean {
        name: Option<String>,
        namespace: Option<String>,
        uid: Option<String>,
        resource_version: Option<String>,
        generation: Option<i64>,
        creation_timestamp: Option<Time>,
        annotations: Option<BTreeMap<String, String>>,
        owner_references: Option<Vec<OwnerReference>>,
    }
    let lean = Lean::deserialize(deserializer)?;
    Ok(ObjectMeta {
        name: lean.name,
        namespace: lean.namespace,
        uid: lean.uid,
        resource_version: lean.resource_version,
        generation: lean.generation,
        creation_timestamp: lean.creation_timestamp,
        annotations: lean.annotations,
        owner_references: lean.owner_references,
        ..ObjectMeta::default()
    })
}

fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    Option::<serde::de::IgnoredAny>::deserialize(deserializer).map(|value| value.is_some())
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// One made of this spec and status, created at 2026-01-01T00:00:00Z.
    pub fn object_summary(name: &str, spec: &Value, status: &Value) -> ObjectSummary {
        let mut object = json!({
            "metadata": {"name": name, "namespace": "prod", "uid": format!("uid-{name}"), "resourceVersion": "7", "generation": 1,
                "creationTimestamp": "2026-01-01T00:00:00Z", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"instanceId": format!("i-{name}"), "secretRef": {"name": name, "key": "password"}},
            "status": {"observedGeneration": 1},
        });
        for (field, more) in [("spec", spec), ("status", status)] {
            for (key, value) in more.as_object().into_iter().flatten() {
                object[field][key] = value.clone();
            }
        }
        serde_json::from_value(object).unwrap()
    }

    /// A condition that is true since 2026-01-02T00:00:00Z.
    pub fn condition(type_: &str, reason: &str) -> Value {
        json!({"type": type_, "status": "True", "reason": reason, "message": format!("because of {reason}"),
            "lastTransitionTime": "2026-01-02T00:00:00Z"})
    }

    /// `Ready` with this status, since 2026-01-02T00:00:00Z.
    pub fn ready(status: &str, reason: &str) -> Value {
        let mut ready = condition("Ready", reason);
        ready["status"] = json!(status);
        ready
    }

    #[test]
    fn what_is_long_is_left_out_and_unknown_words_are_taken() {
        let spec = json!({"rotation": {}, "newField": 1});
        let status = json!({"conditions": [condition("NewCondition", "NewReason")], "newField": {}});
        let object = object_summary("a", &spec, &status);
        assert_eq!(object.metadata.managed_fields, None);
        assert!(object.spec.rotation && !object.spec.window);
        assert_eq!(object.is("NewCondition").unwrap().reason, "NewReason");
        assert_eq!(object.fleet(), None);
    }

    #[test]
    fn only_a_controlling_fleet_owns_it() {
        let mut object = object_summary("a", &json!({}), &json!({}));
        let owner = |controller| OwnerReference {
            kind: "ClusterVncPassword".to_owned(),
            name: "nodes".to_owned(),
            controller: Some(controller),
            ..OwnerReference::default()
        };
        object.metadata.owner_references = Some(vec![owner(false)]);
        assert_eq!(object.fleet(), None);
        object.metadata.owner_references = Some(vec![owner(true)]);
        assert_eq!(object.fleet(), Some("nodes"));
    }
}
