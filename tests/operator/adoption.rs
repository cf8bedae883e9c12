//! A Secret that was there before: who may write to it, and what its value is worth. And what a person writes into one
//! that the operator writes.

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, Reason};
use vncpassword_test_support::{
    World,
    observe::{instance_of, said, sent, told_once},
    rotation::{age, edit, now, open, record, rotate_now, strong, until_rotated, version},
};

/// Makes a Secret that its owner has opened, with this value.
async fn opened(world: &World, name: &str, value: &str) {
    world.secret(name, value).await;
    open(world, name).await;
}

/// Makes a Secret like this.
async fn made(world: &World, name: &str, secret: Value) {
    let mut whole = json!({"metadata": {"name": name, "labels": {"vncpassword.dev/writable": "true"}},
        "stringData": {"password": "Abc123"}});
    whole.as_object_mut().unwrap().extend(secret.as_object().unwrap().clone());
    let secret: Secret = serde_json::from_value(whole).unwrap();
    world.secrets().create(&PostParams::default(), &secret).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_valid_value_in_an_opened_secret_is_applied_and_counts() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    opened(&world, "a", "Abc123").await;
    let instance = world.generated("a", json!({})).await;
    let begun = now();
    let status = until_rotated(&world, "a", 1).await;
    assert!(status.last_rotation_time.is_some_and(|last| last.0 >= begun - SignedDuration::from_secs(2)));
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"]);
    let values = world.values("a").await;
    let keys: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(keys, ["password", "password.rotation"]);
    assert_eq!(values["password"], "Abc123");
    assert_eq!(record(&world, "a").await["state"], json!("done"));
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_nobody_opened_is_left_alone_until_somebody_does() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let before = version(&world, "a").await;
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::SecretNotWritable).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::SecretNotWritable)));
    let message = told_once(&world, "a", "Warning", Reason::SecretNotWritable).await;
    assert!(message.contains("vncpassword.dev/writable=true"), "{message}");
    operator.settled(&world).await;
    assert_eq!((version(&world, "a").await, world.calls(&instance)), (before, Vec::new()));

    // Only this value of the label is a word.
    edit(&world, "a", json!({"metadata": {"labels": {"vncpassword.dev/writable": "yes"}}})).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance), []);
    open(&world, "a").await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_cannot_be_written_to_is_told_whatever_its_label_says() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    made(&world, "typed", json!({"type": "example.com/console"})).await;
    made(&world, "immutable", json!({"immutable": true})).await;
    for name in ["typed", "immutable"] {
        let before = version(&world, name).await;
        let instance = world.generated(name, json!({})).await;
        let status = world.until_stalled(name, Reason::SecretNotWritable).await;
        assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::SecretNotWritable)), "{name}");
        let message = told_once(&world, name, "Warning", Reason::SecretNotWritable).await;
        assert!(message.contains("immutable or not of type Opaque"), "{name}: {message}");
        operator.settled(&world).await;
        assert_eq!((version(&world, name).await, world.calls(&instance)), (before, Vec::new()), "{name}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_password_and_has_no_record_is_never_overwritten() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    for name in ["asked", "mended"] {
        opened(&world, name, "secret of another program").await;
        world.generated(name, json!({"interval": "1m"})).await;
        let status = world.until_stalled(name, Reason::InvalidPassword).await;
        assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidPassword)), "{name}");
    }
    let before = version(&world, "asked").await;
    rotate_now(&world, "asked").await;
    operator.settled(&world).await;
    assert_eq!(version(&world, "asked").await, before);
    assert_eq!(world.calls(&instance_of(&world, "asked")), []);

    world.secret("mended", "Abc123").await;
    until_rotated(&world, "mended", 1).await;
    assert_eq!(sent(&world.calls(&instance_of(&world, "mended"))), ["Abc123"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_that_is_asked_for_beats_an_adoption() {
    let world = World::new().await;
    opened(&world, "a", "Abc123").await;
    let instance = world.generated("a", json!({})).await;
    let asked = rotate_now(&world, "a").await;
    let operator = world.operator();
    let status = until_rotated(&world, "a", 1).await;
    let values = world.values("a").await;
    assert!(strong(&values["password"]));
    assert_ne!(values["password"], "Abc123");
    assert_eq!(values["password.previous"], "Abc123");
    assert_eq!(sent(&world.calls(&instance)), [&values["password"]]);
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_persons_edit_is_applied_once_and_counts() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let first = world.values("a").await;
    let former = record(&world, "a").await;
    edit(&world, "a", json!({"stringData": {"password": "Edit42"}})).await;
    until_rotated(&world, "a", 2).await;
    operator.settled(&world).await;
    assert_eq!(sent(&world.calls(&instance)), [first["password"].as_str(), "Edit42"]);
    assert_eq!(world.console(&instance).as_deref(), Some("Edit42"));
    let values = world.values("a").await;
    assert_eq!(values["password"], "Edit42");
    assert!(!values.contains_key("password.next"), "{values:?}");
    let record = record(&world, "a").await;
    assert_eq!(record["state"], json!("done"));
    assert_ne!((&record["id"], &record["digest"]), (&former["id"], &former["digest"]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_no_password_is_told_and_overwritten_by_the_next_rotation() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    age(&world, "a", SignedDuration::from_mins(5)).await;
    let first = world.values("a").await;
    edit(&world, "a", json!({"stringData": {"password": "no password\n"}})).await;
    let status = world.until_stalled("a", Reason::InvalidPassword).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidPassword)));
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    assert_eq!(world.console(&instance).as_ref(), Some(&first["password"]));

    rotate_now(&world, "a").await;
    until_rotated(&world, "a", 2).await;
    let values = world.values("a").await;
    assert!(strong(&values["password"]));
    assert_eq!(sent(&world.calls(&instance)), [&first["password"], &values["password"]]);
    assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_is_taken_back_costs_no_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let first = world.values("a").await["password"].clone();
    edit(&world, "a", json!({"stringData": {"password": "no password"}})).await;
    world.until_stalled("a", Reason::InvalidPassword).await;
    edit(&world, "a", json!({"stringData": {"password": first}})).await;
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, world.calls(&instance).len()), (Some(1), 1));
    operator.stop().await;
}
