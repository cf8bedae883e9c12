//! Objects in states of all kinds, written without an operator, with times that are so long ago.

use jiff::{SignedDuration, Timestamp};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::ClusterVncPassword;
use vncpassword_test_support::World;

/// A time so many seconds ago, or to come where negative. Half a minute more, so that a coarse age does not turn while a
/// test runs.
pub fn ago(seconds: i64) -> String {
    let at = Timestamp::now() - SignedDuration::from_secs(seconds);
    Timestamp::from_second(at.as_second()).unwrap().to_string()
}

pub const MINUTE: i64 = 60;
pub const HOUR: i64 = 60 * MINUTE;
pub const DAY: i64 = 24 * HOUR;

pub fn condition(type_: &str, status: &str, reason: &str, message: &str, since: i64) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message, "lastTransitionTime": ago(since)})
}

/// Writes an object with this status.
pub async fn put(world: &World, name: &str, spec: Value, status: Value) {
    let mut whole =
        json!({"instanceId": format!("i-bp1{}", name.replace('-', "")), "secretRef": {"name": name}});
    for (key, value) in spec.as_object().unwrap() {
        whole[key] = value.clone();
    }
    world.object_with(name, whole).await;
    let patch = Patch::Merge(json!({"status": status}));
    world.objects().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
}

pub fn in_effect(since: i64) -> Value {
    let message = "instance accepted the value, and it is in effect";
    condition("Ready", "True", "Applied", message, since)
}

/// One of each kind.
pub async fn all(world: &World) {
    let generated = json!({"rotation": {}});
    put(
        world,
        "web-1",
        json!({}),
        json!({"conditions": [in_effect(3 * DAY + 30)], "lastRotationTime": ago(3 * DAY + HOUR + 30),
        "requestId": "7C2F3A10-0000-4000-8000-000000000001", "instance": {"regionId": "cn-hangzhou"}}),
    )
    .await;
    put(
        world,
        "db-1",
        json!({"rotation": {"interval": "720h"}}),
        json!({"conditions": [in_effect(12 * DAY + HOUR)],
        "lastRotationTime": ago(12 * DAY + HOUR), "nextRotationTime": ago(-18 * DAY - HOUR),
        "requestId": "7C2F3A10-0000-4000-8000-000000000002", "instance": {"regionId": "cn-hangzhou"}}),
    )
    .await;
    let denied = "the ECS API denied the call for instance i-bp1db2 (code Forbidden.RAM); grant ecs:ModifyInstanceVncPasswd on it \
                  to the operator's identity, or unlock the instance";
    put(
        world,
        "db-2",
        generated.clone(),
        json!({"conditions": [
        condition("Ready", "False", "Denied", denied, 40 * MINUTE + 20),
        condition("Stalled", "True", "Denied", denied, 40 * MINUTE + 20)]}),
    )
    .await;
    let restart = "instance i-bp1db3 accepted the value of key password.next of Secret db-3, and it takes effect when the \
                   instance is restarted; restart it";
    put(world, "db-3", generated.clone(), json!({"conditions": [in_effect(20 * DAY + HOUR),
        condition("RebootRequired", "True", "RebootRequired", restart, 2 * HOUR)], "lastRotationTime": ago(20 * DAY + HOUR)}))
    .await;
    let unknown = "no readable reply came for instance i-bp1db4: the password may or may not be in effect; the same one is sent again";
    put(
        world,
        "db-4",
        generated.clone(),
        json!({"conditions": [
        condition("Ready", "Unknown", "OutcomeUnknown", unknown, 15 * MINUTE + 30),
        condition("Reconciling", "True", "OutcomeUnknown", unknown, 15 * MINUTE + 30)],
        "retry": {"nextAttemptTime": ago(-20 * MINUTE - 30)}}),
    )
    .await;
    put(world, "db-5", json!({"rotation": {}, "suspend": true}), json!({"conditions": [in_effect(5 * DAY + 30),
        condition("Suspended", "True", "Suspended", "spec.suspend is set", 30 * MINUTE)], "lastRotationTime": ago(5 * DAY + 30)}))
    .await;
}

/// A fleet in the middle of a rollout, named after the test.
pub async fn fleet(world: &World) -> String {
    let api: Api<ClusterVncPassword> = Api::all(world.client.clone());
    let fleet = serde_json::from_value(
        json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
        "metadata": {"name": world.namespace},
        "spec": {"nodeSelector": {"matchLabels": {"no": "such"}}, "targetNamespace": world.namespace}}),
    )
    .unwrap();
    let name = api.create(&PostParams::default(), &fleet).await.unwrap().name_any();
    let began = ago(30 * MINUTE + 20);
    let status = json!({"status": {
        "conditions": [
            condition("Ready", "False", "RollingOut", "passwords are on their way", 30 * MINUTE + 20),
            condition("Reconciling", "True", "RollingOut", "passwords are rotated in waves of 10", 30 * MINUTE + 20)],
        "discovered": 2000, "ready": 1988, "rotating": 10, "waiting": 3, "failed": 2, "skipped": 1,
        "rollout": {"id": began, "trigger": "OnDemand", "startedAt": began, "updated": 500, "total": 2000, "failed": 2,
            "eta": ago(-90 * MINUTE - 30), "paceFrom": {"time": began, "updated": 0}},
        "failures": [
            {"name": "nodes-i-bp1aaa", "instanceId": "i-bp1aaa", "reason": "Denied",
                "message": "the ECS API denied the call for instance i-bp1aaa (code Forbidden.RAM)"},
            {"name": "nodes-i-bp1bbb", "instanceId": "i-bp1bbb", "reason": "InstanceNotFound",
                "message": "the ECS API does not know instance i-bp1bbb"}],
        "skippedNodes": [{"node": "edge-7", "reason": "DuplicateProviderId"}],
    }});
    api.patch_status(&name, &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    name
}
