//! What tests read of an object: its status, its Events, and the calls for its instance.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::Time};
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::json;
use tokio::time::Instant;
use vncpassword_core::api::{
    ConditionStatus, ConditionType, FIELD_MANAGER, Reason, Retry, VncPasswordStatus,
};
use vncpassword_emulator::{Entry, Instance};

use crate::{World, barrier::SENTINEL, world::PATIENCE};

/// The instance that [`World::object`] names.
pub fn instance_of(world: &World, name: &str) -> String {
    format!("i-{}{}", world.namespace.replace('-', ""), name.replace('-', ""))
}

/// Makes an object whose value is Abc123, at an instance like this one; returns the instance's id.
pub async fn object_at(world: &World, name: &str, instance: Instance) -> String {
    let id = instance_of(world, name);
    let region = instance.region_id.clone();
    world.cloud().put_instance(Instance { id: id.clone(), ..instance });
    world.secret(name, "Abc123").await;
    let spec = json!({"instanceId": id, "regionId": region, "secretRef": {"name": name}});
    world.object_with(name, spec).await;
    id
}

/// `Ready`, and the reasons of `Reconciling` and `Stalled`.
pub fn said(status: &VncPasswordStatus) -> (ConditionStatus, Option<Reason>, Option<Reason>) {
    (status.ready(), status.reason(ConditionType::Reconciling), status.reason(ConditionType::Stalled))
}

pub fn attempts(status: &VncPasswordStatus) -> Option<i32> {
    status.retry.as_ref()?.attempts
}

/// What is left of failed attempts. Until when a lost call may still arrive is no failure, and may stay.
pub fn pending(status: &VncPasswordStatus) -> Option<&Retry> {
    let settled =
        Retry { unsettled_until: status.retry.as_ref()?.unsettled_until.clone(), ..Retry::default() };
    status.retry.as_ref().filter(|retry| **retry != settled)
}

/// Seconds from the last failure to the next attempt.
pub fn delay(status: &VncPasswordStatus) -> Option<i64> {
    let retry = status.retry.as_ref()?;
    let (next, failed) = (retry.next_attempt_time.as_ref()?, retry.last_failure_time.as_ref()?);
    Some(next.0.as_second() - failed.0.as_second())
}

/// Whether the next attempt is that many seconds after the last failure, of which the jitter may take a fifth off.
pub fn is_after(status: &VncPasswordStatus, seconds: i64) -> bool {
    delay(status).is_some_and(|delay| (seconds * 4 / 5..=seconds).contains(&delay))
}

/// Changes the status in the operator's name, which is how these tests let hours pass.
pub async fn rewrite_status(world: &World, name: &str, change: impl Fn(&mut VncPasswordStatus)) {
    loop {
        let mut object = world.objects().get(name).await.unwrap();
        change(object.status.as_mut().unwrap());
        let parameters =
            PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        match world.objects().replace_status(name, &parameters, &object).await {
            Err(kube::Error::Api(conflict)) if conflict.code == 409 => {}
            written => return drop(written.unwrap()),
        }
    }
}

/// Makes the next attempt due now.
pub async fn let_the_backoff_pass(world: &World, name: &str) {
    let now = Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap());
    rewrite_status(world, name, |status| {
        if let Some(retry) = &mut status.retry {
            retry.next_attempt_time = Some(now.clone());
        }
    })
    .await;
}

/// Events of the namespace that were told since then, and those about its fleet: about what, and the reason. Those about the
/// object of barriers are left out.
pub async fn events_since(world: &World, time: Timestamp) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for namespace in [&world.namespace, "default"] {
        let events: Api<Event> = Api::namespaced(world.client.clone(), namespace);
        for event in events.list(&ListParams::default()).await.unwrap().items {
            let regarding = event.regarding.unwrap_or_default();
            let name = regarding.name.unwrap_or_default();
            let concerns = regarding.namespace.as_ref() == Some(&world.namespace) || name == world.namespace;
            let later = event.event_time.is_some_and(|told| told.0 >= time);
            if concerns && later && name != SENTINEL {
                found.push((name, event.reason.unwrap_or_default()));
            }
        }
    }
    found
}

/// Waits for an event of that reason; returns all of them: type and note.
pub async fn events(world: &World, name: &str, reason: &str) -> Vec<(String, String)> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let deadline = Instant::now() + PATIENCE;
    loop {
        let mut found = events.list(&ListParams::default()).await.unwrap().items;
        found.retain(|event| {
            event.reason.as_deref() == Some(reason)
                && event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        });
        if !found.is_empty() {
            let told = |event: Event| (event.type_.unwrap_or_default(), event.note.unwrap_or_default());
            return found.into_iter().map(told).collect();
        }
        assert!(Instant::now() < deadline, "no event {reason} about {name} in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Asserts that exactly one event of that reason was told; returns its note.
pub async fn told_once(world: &World, name: &str, type_: &str, reason: Reason) -> String {
    let told = events(world, name, reason.as_str()).await;
    assert_eq!(told.len(), 1, "{name}: {told:?}");
    let (of, note) = told.into_iter().next().unwrap();
    assert_eq!(of, type_, "{name}: {note}");
    assert!(!note.contains("An injected fault"), "{name}: the server's message is shown: {note}");
    note
}

/// The passwords that these calls carried.
pub fn sent(calls: &[Entry]) -> Vec<&str> {
    calls.iter().map(|call| call.vnc_password.as_deref().unwrap_or_default()).collect()
}

pub fn seconds_between(first: &Entry, second: &Entry) -> f64 {
    second.at.duration_since(first.at).as_secs_f64()
}
