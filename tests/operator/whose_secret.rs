//! Whose a generated Secret is: of one object for one key, of the user when `rotation` is taken away, and of no process
//! that does not lead.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use http::Method;
use serde_json::json;
use vncpassword_core::api::{ConditionStatus, Reason, VncPasswordStatus};
use vncpassword_emulator::{Action, Instance, Status};
use vncpassword_operator::{runtime::Lease, settings::Settings};
use vncpassword_test_support::{
    Operator, World,
    observe::{instance_of, let_the_backoff_pass, said, sent, told_once},
    rotation::{edit, generated_at, open, record, rotate_now, until_rotated, until_values, version},
    world::next_second,
};

/// The usual ones, with a `--settle` that tests can wait for.
fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = Duration::from_secs(4);
    settings
}

/// Secrets that were made or changed.
fn secret_writes(operator: &Operator) -> Vec<(Method, String)> {
    let mut requests = operator.requests().all();
    requests.retain(|(method, path)| method != Method::GET && path.contains("/secrets"));
    requests
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_that_generate_into_one_key_the_older_does() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let shared = json!({"secretRef": {"name": "shared"}});
    let older = generated_at(&world, "older", Instance::default(), shared.clone()).await;
    world.until_ready("older").await;
    next_second().await;
    let younger = generated_at(&world, "younger", Instance::default(), shared).await;
    let status = world.until_stalled("younger", Reason::Conflict).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::Conflict)));
    let message = told_once(&world, "younger", "Warning", Reason::Conflict).await;
    assert!(message.contains("older") && message.contains("key password of Secret shared"), "{message}");
    let before = version(&world, "shared").await;
    rotate_now(&world, "younger").await;
    operator.settled(&world).await;
    assert_eq!((version(&world, "shared").await, world.calls(&younger)), (before.clone(), Vec::new()));
    let value = world.values("shared").await["password"].clone();

    // The record names the older one's instance: the younger needs leave.
    world.delete("older").await;
    world.until_stalled("younger", Reason::SecretNotWritable).await;
    assert_eq!((version(&world, "shared").await, world.calls(&younger)), (before, Vec::new()));
    open(&world, "shared").await;
    let status = until_rotated(&world, "younger", 1).await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    let values = world.values("shared").await;
    assert_eq!(world.console(&younger).as_ref(), Some(&values["password"]));
    assert_eq!(record(&world, "shared").await["instanceId"], json!(younger));
    assert_eq!(world.console(&older), Some(value));
    assert_eq!((world.calls(&older).len(), world.calls(&younger).len()), (1, 1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_objects_generate_into_two_keys_of_an_opened_secret() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let key = |key: &str| json!({"secretRef": {"name": "shared", "key": key}});
    let one = generated_at(&world, "one", Instance::default(), key("one")).await;
    world.until_ready("one").await;
    let two = generated_at(&world, "two", Instance::default(), key("two")).await;
    world.until_stalled("two", Reason::SecretNotWritable).await;
    open(&world, "shared").await;
    world.until_ready("two").await;
    operator.settled(&world).await;
    let values = world.values("shared").await;
    let keys: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(keys, ["one", "one.rotation", "two", "two.rotation"]);
    for (instance, key) in [(one, "one"), (two, "two")] {
        assert_eq!(world.console(&instance).as_ref(), Some(&values[key]));
        assert_eq!(world.calls(&instance).len(), 1, "the other's writes cost no call");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_rotation_away_finishes_what_is_on_its_way_and_then_the_secret_is_the_users() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let stopped = Instance::default().status(Status::Stopped);
    let instance = generated_at(&world, "a", stopped, json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    let next = world.values("a").await["password.next"].clone();
    world.change("a", json!({"spec": {"rotation": null}})).await;
    world
        .until("a", "looked at", |status| {
            status.observed_generation == Some(2) && status.ready() == ConditionStatus::False
        })
        .await;
    assert_eq!(world.values("a").await["password.next"], next, "it stays on its way");
    world.cloud().set_status(&instance, Status::Running);
    let_the_backoff_pass(&world, "a").await;
    world.until_ready("a").await;
    let values = world.values("a").await;
    assert_eq!((&values["password"], values.get("password.next")), (&next, None));
    assert_eq!(world.console(&instance).as_ref(), Some(&next));

    let done = record(&world, "a").await;
    edit(&world, "a", json!({"stringData": {"password": "Mine42"}})).await;
    world.until_console(&instance, "Mine42").await;
    world.until_ready("a").await;
    assert_eq!(world.calls(&instance).last().unwrap().vnc_password.as_deref(), Some("Mine42"));
    let written = version(&world, "a").await;
    edit(&world, "a", json!({"stringData": {"password": "no password"}})).await;
    world.until_stalled("a", Reason::InvalidPassword).await;
    assert_ne!(version(&world, "a").await, written);
    assert_eq!(record(&world, "a").await, done, "nobody writes to it any more");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_rotation_away_waits_for_the_restart_of_what_was_accepted() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = generated_at(&world, "a", Instance::default().not_optimized(), json!({})).await;
    let followed = |status: &VncPasswordStatus| {
        status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some())
    };
    world.until("a", "followed", followed).await;
    let next = world.values("a").await["password.next"].clone();
    world.change("a", json!({"spec": {"rotation": null}})).await;
    let status = world.until("a", "looked at", |status| status.observed_generation == Some(2)).await;
    assert!(status.accepted.is_some(), "{status:#?}");
    operator.stop().await;
    world.cloud().restart(&instance);
    let operator = world.operator_before(settings(&world)).await;
    let values = until_values(&world, "a", "promoted", |values| values.contains_key("password")).await;
    assert_eq!((&values["password"], values.get("password.next")), (&next, None));
    operator.settled(&world).await;
    assert_eq!(sent(&world.calls(&instance)), [&next], "it is in effect: nothing is sent");
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, status.accepted), (Some(1), None));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_rotation_away_in_sync_and_giving_it_back_costs_no_call() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    let before = world.until_ready("a").await;
    let written = version(&world, "a").await;
    for (generation, rotation) in [(2, json!(null)), (3, json!({"interval": "1h"}))] {
        world.change("a", json!({"spec": {"rotation": rotation}})).await;
        world.until("a", "looked at", |status| status.observed_generation == Some(generation)).await;
        let status = world.until_ready("a").await;
        assert_eq!(status.next_rotation_time.is_some(), generation == 3);
        assert_eq!((&status.applied, &status.request_id), (&before.applied, &before.request_id));
    }
    operator.settled(&world).await;
    assert_eq!((version(&world, "a").await, world.calls(&instance).len()), (written, 1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_was_in_effect_before_the_users_is_sent_again_when_rotation_comes_back() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let drawn = world.values("a").await["password"].clone();
    world.change("a", json!({"spec": {"rotation": null}})).await;
    edit(&world, "a", json!({"stringData": {"password": "Mine42"}})).await;
    world.until_console(&instance, "Mine42").await;
    world.until_ready("a").await;
    // Both changes at once, as after a restore of the manifests: the record knows nothing of Mine42.
    operator.stop().await;
    edit(&world, "a", json!({"stringData": {"password": drawn}})).await;
    world.change("a", json!({"spec": {"rotation": {}}})).await;
    let operator = world.operator_before(settings(&world)).await;
    world.until("a", "looked at", |status| status.observed_generation == Some(3)).await;
    world.until_ready("a").await;
    operator.settled(&world).await;
    assert_eq!(world.console(&instance).as_ref(), Some(&world.values("a").await["password"]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_leaves_what_is_on_its_way_and_an_object_made_anew_goes_on_with_it() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let stopped = Instance::default().status(Status::Stopped);
    let instance = generated_at(&world, "a", stopped, json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    let next = world.values("a").await["password.next"].clone();
    world.delete("a").await;
    operator.settled(&world).await;
    assert_eq!(world.values("a").await["password.next"], next);
    world.cloud().set_status(&instance, Status::Running);
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "rotation": {}});
    world.object_with("a", spec).await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(world.values("a").await["password"], next);
    assert!(sent(&world.calls(&instance)).iter().all(|password| *password == next));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generating_into_a_users_secret_needs_the_label() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    world.change("a", json!({"spec": {"rotation": {}}})).await;
    world.until_stalled("a", Reason::SecretNotWritable).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    let keys: Vec<_> = world.values("a").await.into_keys().collect();
    assert_eq!(keys, ["password"]);
    open(&world, "a").await;
    let done = |values: &BTreeMap<String, String>| {
        values.get("password.rotation").is_some_and(|record| record.contains(r#""state":"done""#))
    };
    let values = until_values(&world, "a", "adopted", done).await;
    let status =
        world.until("a", "Ready", |status| said(status) == (ConditionStatus::True, None, None)).await;
    assert_eq!((status.rotations, values["password"].as_str()), (Some(2), "Abc123"));
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_lead_writes_no_secret_and_makes_no_call() {
    let world = World::new().await;
    let (holding, lease) = Lease::pair();
    let held = || holding.hold(Instant::now() + Duration::from_secs(600));
    held();
    let mut settings = settings(&world);
    settings.controller.lease = lease;
    let operator = world.operator_before(settings).await;
    let edited = world.generated("edited", json!({})).await;
    world.until_ready("edited").await;
    holding.lose();
    let (secrets, calls) = (secret_writes(&operator), world.calls_of(Action::ModifyInstanceVncPasswd));
    world.generated("new", json!({})).await;
    edit(&world, "edited", json!({"stringData": {"password": "Edit42"}})).await;
    operator.settled(&world).await;
    assert_eq!(secret_writes(&operator), secrets);
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd), calls);
    assert_eq!(world.calls_of(Action::RebootInstance), []);
    assert_eq!(world.secrets().get_opt("new").await.unwrap(), None);

    held();
    world.until_ready("new").await;
    world.until_console(&edited, "Edit42").await;
    let new = instance_of(&world, "new");
    assert_eq!(world.console(&new).as_ref(), Some(&world.values("new").await["password"]));
    assert_eq!((world.calls(&new).len(), world.calls(&edited).len()), (1, 2));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_loses_the_lease_after_the_draw_makes_no_call() {
    let world = World::new().await;
    let (holding, lease) = Lease::pair();
    let held = || holding.hold(Instant::now() + Duration::from_secs(600));
    held();
    let mut settings = settings(&world);
    settings.controller.lease = lease;
    let operator = world.operator_before(settings).await;
    // What it writes down first, before it is drawn, takes place; then the lease is gone.
    let stopped = Instance::default().status(Status::Stopped);
    let instance = generated_at(&world, "a", stopped, json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    holding.lose();
    let (before, calls) = (version(&world, "a").await, world.calls(&instance).len());
    world.cloud().set_status(&instance, Status::Running);
    let_the_backoff_pass(&world, "a").await;
    operator.settled(&world).await;
    assert_eq!((version(&world, "a").await, world.calls(&instance).len()), (before, calls));

    // Another process leads now: it answers for the value first, then sends it.
    let successor = world.operator_before(self::settings(&world)).await;
    world.until_ready("a").await;
    let values = world.values("a").await;
    assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]));
    assert_eq!(secret_writes(&successor).len(), 2, "taken over, and promoted");
    assert_eq!(secret_writes(&operator).len(), 1, "the draw");
    operator.stop().await;
    successor.stop().await;
}
