//! Connections to the API server that fall silent while the plugin waits (DESIGN.md, R55).

use kube::api::{Patch, PatchParams};
use serde_json::json;
use vncpassword_emulator::Status;

use super::{
    plugin::Plugin,
    rotate::{old, operated},
    states,
};
use vncpassword_test_support::{World, relay::Relay};

#[tokio::test(flavor = "multi_thread")]
async fn waiting_for_a_rotation_survives_it() {
    let (world, operator, plugin) = operated().await;
    let relay = Relay::to(&world.config()).await;
    let instance = old(&world, "db-1").await;
    world.cloud().set_status(&instance, Status::Stopped);
    let waiting = plugin.start(&format!("rotate db-1 --wait --server {}", relay.url()));
    world.until("db-1", "asked for", |status| status.retry.is_some()).await;
    relay.freeze();
    world.cloud().set_status(&instance, Status::Running);
    let ran = waiting.end().await;
    ran.assert_code(0);
    let id = world.status("db-1").await.request_id.unwrap();
    assert_eq!(ran.out, format!("db-1: rotated, RequestId {id}\n"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_survives_it() {
    let world = World::new().await;
    let relay = Relay::to(&world.config()).await;
    states::put(&world, "a", json!({}), json!({"conditions": [states::in_effect(90)]})).await;
    let mut watch = Plugin::of(&world).start(&format!("status --watch --server {}", relay.url()));
    assert!(watch.line().await.unwrap().starts_with("NAME"));
    assert!(watch.line().await.unwrap().starts_with("a      yes"));
    relay.freeze();
    let stalled = [
        states::condition("Ready", "False", "Denied", "denied", 0),
        states::condition("Stalled", "True", "Denied", "denied", 0),
    ];
    let patch = Patch::Merge(json!({"status": {"conditions": stalled}}));
    world.objects().patch_status("a", &PatchParams::default(), &patch).await.unwrap();
    assert!(watch.line().await.unwrap().ends_with("Denied: denied"));
}
