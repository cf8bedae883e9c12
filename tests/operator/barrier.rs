//! The barrier that other tests wait at: it lets nobody pass before the operator is done.

use std::time::Duration;

use serde_json::json;
use tokio::time::timeout;
use vncpassword_test_support::{World, operator::Access};

#[tokio::test(flavor = "multi_thread")]
async fn the_barrier_opens_when_what_was_changed_before_is_handled() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    operator.settled(&world).await;

    let mut write = operator.requests().hold_request(Access::Write, "/vncpasswords/a/status");
    let instance = world.object("a").await;
    world.secret("a", "Abc123").await;
    write.arrived().await;
    let barrier = timeout(Duration::from_millis(500), operator.settled(&world)).await;
    assert!(barrier.is_err(), "the status of an object is still being written");
    write.release();
    operator.settled(&world).await;
    let status = world.status("a").await;
    assert_eq!(status.observed_generation, Some(1));

    world.change("a", json!({"spec": {"suspend": true}})).await;
    operator.settled(&world).await;
    assert_eq!(world.status("a").await.observed_generation, Some(2));
    world.secret("a", "Xyz789").await;
    world.change("a", json!({"spec": {"suspend": false}})).await;
    operator.settled(&world).await;
    assert_eq!(world.console(&instance).as_deref(), Some("Xyz789"));
    operator.stop().await;
}
