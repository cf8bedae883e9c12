//! A barrier in place of a pause: waits until the operator has handled all that was changed before.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use http::Method;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};
use vncpassword::api::{ConditionType, Reason, VncPasswordStatus};

#[cfg(doc)]
use crate::Operator;
use crate::{World, world::PATIENCE};

/// Name of the object whose handling is awaited. It never gets usable credentials, so that the cloud is not called for it.
pub const SENTINEL: &str = "sentinel";

/// Events that one barrier causes: the credentials are not there, and then they are none.
pub const EVENTS: usize = 2;

/// Changes the sentinel, waits until that is in its status, and then until the operator is idle.
pub(crate) async fn pass(world: &World, idle: impl AsyncFn() -> bool) {
    let number = world.barriers.fetch_add(1, Relaxed);
    let credentials = format!("{SENTINEL}-{number}");
    let generation = apply_object(world, &credentials).await;
    until(world, |status| status.observed_generation == Some(generation)).await;
    world.secret_data(&credentials, json!({})).await;
    let invalid = Some(Reason::InvalidCredentials);
    until(world, |status| status.reason(ConditionType::Stalled) == invalid).await;
    let deadline = Instant::now() + PATIENCE;
    while !idle().await {
        assert!(Instant::now() < deadline, "the operator is not idle in time");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until the Events of all barriers are there.
pub(crate) async fn told(world: &World) {
    let barriers = world.barriers.load(Relaxed);
    crate::world::until("Events about the barrier's own object", async || {
        world.events(SENTINEL).await.len() >= EVENTS * barriers as usize
    })
    .await;
}

/// Takes what barriers caused, this many since, out of what an operator asked of the API server: what has to do with their
/// object, and the Events about it. These are awaited first ([`Operator::told`]).
pub fn take_out(requests: &mut Vec<(Method, String)>, barriers: usize) {
    let mut events = EVENTS * barriers;
    requests.retain(|(method, path)| {
        let of_event = method == Method::POST && path.ends_with("/events") && events > 0;
        events -= usize::from(of_event);
        !of_event && !path.contains(SENTINEL)
    });
}

/// Lets the sentinel name these credentials, which are not there; returns its generation.
async fn apply_object(world: &World, credentials: &str) -> i64 {
    let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
        "metadata": {"name": SENTINEL},
        "spec": {"instanceId": "i-sentinel", "secretRef": {"name": SENTINEL}, "rotation": {},
            "credentialsRef": {"name": credentials}}});
    let parameters = PatchParams::apply("test").force();
    let applied = world.objects().patch(SENTINEL, &parameters, &Patch::Apply(object)).await.unwrap();
    applied.metadata.generation.unwrap()
}

async fn until(world: &World, holds: impl Fn(&VncPasswordStatus) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds(&world.status(SENTINEL).await) {
        let status = world.status(SENTINEL).await;
        assert!(Instant::now() < deadline, "the barrier's own object is not handled in time: {status:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}
