//! The main job: a Secret's value becomes the instance's password, and an object in sync costs nothing.

use http::Method;
use serde_json::json;
use vncpassword_core::api::Reason;
use vncpassword_test_support::{World, barrier};

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_there_first_arrives_with_one_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let status = world.until_ready("a").await;
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 1);
    assert_eq!(calls[0].vnc_password.as_deref(), Some("Abc123"));
    assert_eq!(status.request_id.as_deref(), Some(calls[0].request_id.as_str()));
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    assert_eq!((status.rotations, status.observed_generation), (Some(1), Some(1)));
    let applied = status.applied.unwrap();
    let secret = world.secrets().get("a").await.unwrap().metadata;
    assert_eq!(Some(applied.secret_uid), secret.uid);
    assert_eq!(Some(applied.secret_resource_version), secret.resource_version);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_there_first_waits_for_its_secret() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.object("a").await;
    world.until_stalled("a", Reason::SecretNotFound).await;
    world.secret("a", "Abc123").await;
    world.until_ready("a").await;
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_takes_one_call_and_three_requests() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    operator.told(&world).await;
    let before = operator.requests().all().len();
    world.secret("a", "Xyz789").await;
    world.until_console(&instance, "Xyz789").await;
    let status = world.until("a", "rotated twice", |status| status.rotations == Some(2)).await;
    operator.told(&world).await;
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 2);
    assert_eq!(status.request_id.as_deref(), Some(calls[1].request_id.as_str()));
    let mut requests = operator.requests().all().split_off(before);
    barrier::take_out(&mut requests, 1);
    let methods: Vec<_> = requests.iter().map(|(method, _)| method.clone()).collect();
    assert_eq!(methods.len(), 3, "one GET of the Secret, one PUT of the status, one Event: {requests:?}");
    for method in [Method::GET, Method::PUT, Method::POST] {
        assert!(methods.contains(&method), "{requests:?}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_on_the_secret_costs_no_call_and_a_restart_none_either() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    let label = |value: &str| json!({"metadata": {"labels": {"team": value}}});
    let patch = |value: &str| kube::api::Patch::Merge(label(value));
    world.secrets().patch("a", &kube::api::PatchParams::default(), &patch("blue")).await.unwrap();
    let version = world.secrets().get("a").await.unwrap().metadata.resource_version.unwrap();
    world
        .until("a", "in sync with the labelled Secret", |status| {
            status.applied.as_ref().is_some_and(|applied| applied.secret_resource_version == version)
        })
        .await;
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;

    let operator = world.operator_before(world.settings()).await;
    operator.told(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    let mut requests = operator.requests().all();
    barrier::take_out(&mut requests, 1);
    assert_eq!(requests, [], "an object in sync makes no request");
    // Only a process that has seen the value recognises it: this one sends it again, at most twice.
    world.secrets().patch("a", &kube::api::PatchParams::default(), &patch("red")).await.unwrap();
    operator.settled(&world).await;
    let calls = world.calls(&instance);
    assert!((1..=3).contains(&calls.len()), "{} calls", calls.len());
    assert!(calls.iter().all(|call| call.vnc_password.as_deref() == Some("Abc123")));
    operator.stop().await;
}
