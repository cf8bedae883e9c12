//! Short words for tests of generated passwords: the record, edits of the Secret, and letting hours pass.

use std::{collections::BTreeMap, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::time::Instant;
use vncpassword_core::api::{ROTATE_AT, VncPasswordStatus, WRITABLE};
use vncpassword_emulator::Instance;

use crate::{
    World,
    observe::{instance_of, rewrite_status},
    world::PATIENCE,
};

/// The record beside `password`.
pub async fn record(world: &World, name: &str) -> Value {
    serde_json::from_str(&world.values(name).await["password.rotation"]).unwrap()
}

/// Merges this into a Secret; `stringData` holds values in clear.
pub async fn edit(world: &World, name: &str, change: Value) {
    world.secrets().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
}

/// Lets the operator write to a Secret.
pub async fn open(world: &World, name: &str) {
    edit(world, name, json!({"metadata": {"labels": {WRITABLE: "true"}}})).await;
}

/// Asks for a rotation at that time.
pub async fn rotate_at(world: &World, name: &str, at: impl ToString) {
    world.change(name, json!({"metadata": {"annotations": {ROTATE_AT: at.to_string()}}})).await;
}

/// Now, to the second.
pub fn now() -> Timestamp {
    Timestamp::from_second(Timestamp::now().as_second()).unwrap()
}

/// Asks for a rotation now; returns the time that was asked for.
pub async fn rotate_now(world: &World, name: &str) -> Timestamp {
    let at = now();
    rotate_at(world, name, at).await;
    at
}

/// Lets the last rotation, and whatever was applied, be so long ago.
pub async fn age(world: &World, name: &str, by: SignedDuration) {
    let mut record = record(world, name).await;
    let drawn_at: Timestamp = record["drawnAt"].as_str().unwrap().parse().unwrap();
    record["drawnAt"] = json!((drawn_at - by).to_string());
    edit(world, name, json!({"stringData": {"password.rotation": record.to_string()}})).await;
    age_status(world, name, by).await;
}

/// The same in the status alone.
pub async fn age_status(world: &World, name: &str, by: SignedDuration) {
    rewrite_status(world, name, |status| {
        let times =
            [status.last_rotation_time.as_mut(), status.applied.as_mut().map(|applied| &mut applied.time)];
        for time in times.into_iter().flatten() {
            *time = Time(time.0 - by);
        }
    })
    .await;
}

/// Creates an object that generates for an instance like this one; `spec` is merged into the spec.
pub async fn generated_at(world: &World, name: &str, instance: Instance, spec: Value) -> String {
    let id = instance_of(world, name);
    world.cloud().put_instance(Instance { id: id.clone(), ..instance });
    let mut whole = json!({"instanceId": id, "secretRef": {"name": name}, "rotation": {}});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.object_with(name, whole).await;
    id
}

/// Waits until so many rotations are done and nothing is under way.
pub async fn until_rotated(world: &World, name: &str, rotations: i64) -> VncPasswordStatus {
    world
        .until(name, &format!("rotated {rotations} times"), |status| status.rotations >= Some(rotations))
        .await;
    let status = world.until_ready(name).await;
    assert_eq!(status.rotations, Some(rotations));
    status
}

/// Waits until the Secret holds what is wanted.
pub async fn until_values(
    world: &World,
    name: &str,
    wanted: &str,
    holds: impl Fn(&BTreeMap<String, String>) -> bool,
) -> BTreeMap<String, String> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let data = world.secrets().get_opt(name).await.unwrap().and_then(|secret| secret.data);
        let values = data.unwrap_or_default().into_iter();
        let values =
            values.map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect();
        if holds(&values) {
            return values;
        }
        assert!(Instant::now() < deadline, "Secret {name} is not {wanted} in time: {values:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// The resourceVersion of a Secret: it tells whether anybody wrote to it.
pub async fn version(world: &World, name: &str) -> Option<String> {
    world.secrets().get(name).await.unwrap().metadata.resource_version
}

/// Whether it is six characters of all three classes.
pub fn strong(password: &str) -> bool {
    password.len() == 6
        && password.chars().all(|c| c.is_ascii_alphanumeric())
        && password.contains(|c: char| c.is_ascii_uppercase())
        && password.contains(|c: char| c.is_ascii_lowercase())
        && password.contains(|c: char| c.is_ascii_digit())
}
