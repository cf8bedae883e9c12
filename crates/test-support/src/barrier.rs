//! A barrier in place of a pause: waits until the operator has handled all that was changed before.

use std::{net::SocketAddr, sync::atomic::Ordering::Relaxed, time::Duration};

use http::Method;
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::json;
use tokio::time::{Instant, sleep};
use vncpassword_core::api::{
    ClusterVncPassword, ClusterVncPasswordStatus, ConditionType, Reason, VncPasswordStatus,
};

#[cfg(doc)]
use crate::Operator;
use crate::{World, fleet, world::PATIENCE};

/// Name of the object whose handling is awaited. It never gets usable credentials, so that the cloud is not called for it.
pub const SENTINEL: &str = "sentinel";

/// Events that one barrier causes: the credentials are not there, and then they are none.
pub const EVENTS: usize = 2;

/// Changes the sentinel, waits until that is in its status, and then until the operator whose metrics are there is idle.
pub async fn pass(world: &World, operator: SocketAddr) {
    let number = world.barriers.fetch_add(1, Relaxed);
    let credentials = format!("{SENTINEL}-{number}");
    let generation = apply_object(world, &credentials).await;
    until(world, |status| status.observed_generation == Some(generation)).await;
    world.secret_data(&credentials, json!({})).await;
    let invalid = Some(Reason::InvalidCredentials);
    until(world, |status| status.reason(ConditionType::Stalled) == invalid).await;
    let deadline = Instant::now() + PATIENCE;
    while !is_idle(operator).await {
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

/// Whether no pass runs or waits to begin.
async fn is_idle(operator: SocketAddr) -> bool {
    let reply = reqwest::get(format!("http://{operator}/metrics")).await.unwrap();
    let metrics = reply.text().await.unwrap();
    let busy = ["vncpassword_operator_queue_depth{", "vncpassword_operator_queue_running{"];
    let mut gauges = metrics.lines().filter(|line| busy.iter().any(|gauge| line.starts_with(gauge)));
    gauges.all(|line| line.ends_with(" 0"))
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

/// Changes a fleet of the barrier's own and waits until that is in its status; then the same for a Node, if fleets of Nodes
/// matter. The fleet is suspended: it makes nothing.
pub(crate) async fn pass_fleets(world: &World, nodes: bool) {
    let number = world.barriers.fetch_add(1, Relaxed);
    let mark = format!("{}-{number}", world.namespace);
    let name = format!("{}-{SENTINEL}{}", world.namespace, if nodes { "-nodes" } else { "" });
    let mut spec = json!({"targetNamespace": world.namespace, "suspend": true});
    if nodes {
        spec["nodeSelector"] = json!({"matchLabels": {SENTINEL: mark}});
    } else {
        spec["instanceIds"] = json!(["i-sentinelfleet"]);
        spec["exclude"] = json!([format!("i-{number}")]);
    }
    let fleets: Api<ClusterVncPassword> = Api::all(world.client.clone());
    let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
        "metadata": {"name": name}, "spec": spec});
    let applied =
        fleets.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await.unwrap();
    let generation = applied.metadata.generation;
    until_fleet(&fleets, &name, |status| status.observed_generation == generation).await;
    if nodes {
        // A new one, which the operator reads after those that came before.
        let node = json!({"metadata": {"name": format!("{SENTINEL}-{mark}"), "labels": {SENTINEL: mark}},
            "spec": {"providerID": "cn-hangzhou.i-sentinelnode"}});
        fleet::create_node(world, node).await;
        until_fleet(&fleets, &name, |status| status.discovered == 1).await;
    }
}

async fn until_fleet(
    fleets: &Api<ClusterVncPassword>,
    name: &str,
    holds: impl Fn(&ClusterVncPasswordStatus) -> bool,
) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = fleets.get(name).await.unwrap().status.unwrap_or_default();
        if holds(&status) {
            return;
        }
        assert!(Instant::now() < deadline, "the barrier's own fleet is not handled in time: {status:#?}");
        sleep(Duration::from_millis(10)).await;
    }
}
