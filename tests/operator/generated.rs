//! Passwords that the operator draws, on a real API server.

use serde_json::json;
use vncpassword::api::{ConditionStatus, ConditionType};

use super::support::World;

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_made_and_its_password_opens_the_console() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    let status = world.until_ready("a").await;
    let values = world.values("a").await;
    assert_eq!(world.console(&instance), Some(values["password"].clone()));
    assert_eq!(status.rotations, Some(1));
    assert!(!values.contains_key("password.next"), "{values:?}");
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 1);
    assert_eq!(status.request_id.as_deref(), Some(calls[0].request_id.as_str()));
    assert!(status.condition(ConditionType::Reconciling).is_none());
    assert_eq!(status.ready(), ConditionStatus::True);
    operator.stop().await;
}
