//! What goes wrong while passwords are drawn: lost replies, refusals, Secrets that vanish or are spoilt.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use serde_json::json;
use vncpassword_core::api::{ConditionStatus, Reason, VncPasswordStatus};
use vncpassword_emulator::{Action, Fault, Instance, Reply, Status};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    World,
    observe::{instance_of, let_the_backoff_pass, said, sent},
    rotation::{
        age, edit, generated_at, open, record, rotate_now, strong, until_rotated, until_values, version,
    },
    world::PATIENCE,
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;

fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = Duration::from_secs(4);
    settings
}

async fn delete_secret(world: &World, name: &str) {
    world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_vanishes_with_a_value_on_its_way_is_made_again_after_settle() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let stopped = Instance::default().status(Status::Stopped);
    let instance = generated_at(&world, "a", stopped, json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    let lost = world.values("a").await["password.next"].clone();
    let begun = Timestamp::now();
    delete_secret(&world, "a").await;
    world.cloud().set_status(&instance, Status::Running);
    until_rotated(&world, "a", 1).await;
    let waited = begun.duration_until(Timestamp::now()).as_secs_f64();
    assert!((4.0..9.0).contains(&waited), "made again after {waited} s");
    let values = world.values("a").await;
    assert_eq!(sent(&world.calls(&instance)), [&lost, &values["password"]]);
    assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_vanished_while_nobody_looked_is_made_again_after_settle() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    operator.settled(&world).await;
    operator.stop().await;
    delete_secret(&world, "a").await;
    let begun = Timestamp::now();
    let operator = world.operator_before(settings(&world)).await;
    let status = world.until_reconciling("a", Reason::Settling).await;
    assert_eq!(status.ready(), ConditionStatus::False);
    until_rotated(&world, "a", 2).await;
    let waited = begun.duration_until(Timestamp::now()).as_secs_f64();
    assert!((4.0..9.0).contains(&waited), "made again after {waited} s");
    assert_eq!(world.console(&instance).as_ref(), Some(&world.values("a").await["password"]));
    assert_eq!(world.calls(&instance).len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_waits_until_a_lost_call_cannot_arrive_any_more() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    age(&world, "a", SignedDuration::from_mins(5)).await;
    let late = Fault::late(Duration::from_secs(3), Reply::Reset).on(MODIFY).instance(&instance).times(1);
    world.cloud().inject(late);
    rotate_now(&world, "a").await;
    world.until_reconciling("a", Reason::OutcomeUnknown).await;
    let_the_backoff_pass(&world, "a").await;
    let values =
        until_values(&world, "a", "promoted", |values| values.contains_key("password.previous")).await;
    edit(&world, "a", json!({"stringData": {"password": "Edit42"}})).await;
    world.until_console(&instance, "Edit42").await;
    world.until_ready("a").await;
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls[1..]), [&values["password"], &values["password"], "Edit42"]);
    let waited = calls[3].at.duration_since(calls[1].at).as_secs_f64();
    assert!(waited >= 4.0, "another value was sent {waited} s after the lost call");
    assert!(calls[1].applied_at.is_some_and(|arrived| arrived < calls[3].at), "{calls:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drawn_password_called_malformed_is_drawn_again_at_most_twice() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let refusal = || Fault::error(400, "IncorrectVncPassword.Malformed").on(MODIFY);
    world.cloud().inject(refusal().instance(instance_of(&world, "twice")).times(2));
    world.cloud().inject(refusal().instance(instance_of(&world, "always")));
    for (name, ready) in [("twice", true), ("always", false)] {
        let instance = world.generated(name, json!({})).await;
        if ready {
            until_rotated(&world, name, 1).await;
        } else {
            let status = world.until_stalled(name, Reason::InvalidPassword).await;
            assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidPassword)));
        }
        operator.settled(&world).await;
        let calls = world.calls(&instance);
        let mut passwords = sent(&calls);
        assert_eq!(passwords.len(), 3, "{name}");
        passwords.sort_unstable();
        passwords.dedup();
        assert_eq!(passwords.len(), 3, "{name}: each was another");
        assert!(passwords.iter().all(|password| strong(password)), "{name}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copied_value_called_malformed_is_taken_back() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let refusal = Fault::error(400, "IncorrectVncPassword.Malformed").on(MODIFY);
    world.cloud().inject(refusal.instance(instance_of(&world, "a")).times(1));
    world.secret("a", "Abc123").await;
    open(&world, "a").await;
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::InvalidPassword).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidPassword)));
    let values = world.values("a").await;
    assert_eq!((values["password"].as_str(), values.get("password.next")), ("Abc123", None));
    world.change("a", json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1, "it is not sent again");
    edit(&world, "a", json!({"stringData": {"password": "Xyz789"}})).await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(sent(&world.calls(&instance)), ["Abc123", "Xyz789"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_cannot_be_read_counts_as_none() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let password = world.values("a").await["password"].clone();
    edit(&world, "a", json!({"stringData": {"password.rotation": "{\"state\": 7"}})).await;
    world.until_stalled("a", Reason::SecretNotWritable).await;
    let before = version(&world, "a").await;
    operator.settled(&world).await;
    assert_eq!((version(&world, "a").await, world.calls(&instance).len()), (before, 1));
    open(&world, "a").await;
    until_values(&world, "a", "adopted", |values| {
        values["password.rotation"].contains(r#""state":"done""#) && !values.contains_key("password.next")
    })
    .await;
    world.until("a", "Ready", |status| said(status) == (ConditionStatus::True, None, None)).await;
    assert_eq!(world.values("a").await["password"], password);
    assert_eq!(sent(&world.calls(&instance)), [&password; 2]);
    assert_eq!(record(&world, "a").await["instanceId"], json!(instance));
    operator.stop().await;
}

/// Waits until a password is accepted and the start time from which a restart is told is known.
async fn until_followed(world: &World, name: &str, call: usize, instance: &str) {
    let followed = |status: &VncPasswordStatus| {
        status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some())
            && world
                .calls(instance)
                .get(call - 1)
                .is_some_and(|call| status.request_id.as_ref() == Some(&call.request_id))
    };
    world.until(name, "followed", followed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_vanishes_before_the_restart_is_made_again() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = generated_at(&world, "a", Instance::default().not_optimized(), json!({})).await;
    until_followed(&world, "a", 1, &instance).await;
    let lost = world.values("a").await["password.next"].clone();
    delete_secret(&world, "a").await;
    until_followed(&world, "a", 2, &instance).await;
    let next = world.values("a").await["password.next"].clone();
    assert_eq!(sent(&world.calls(&instance)), [&lost, &next]);
    operator.stop().await;
    world.cloud().restart(&instance);
    let operator = world.operator_before(settings(&world)).await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(world.values("a").await["password"], next);
    assert_eq!(world.console(&instance), Some(next));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_restart_beats_an_edit() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = generated_at(&world, "a", Instance::default().not_optimized(), json!({})).await;
    until_followed(&world, "a", 1, &instance).await;
    let next = world.values("a").await["password.next"].clone();
    edit(&world, "a", json!({"stringData": {"password": "Edit42"}})).await;
    operator.settled(&world).await;
    assert_eq!(world.status("a").await.ready(), ConditionStatus::False);
    operator.stop().await;
    world.cloud().restart(&instance);
    let operator = world.operator_before(settings(&world)).await;
    until_rotated(&world, "a", 1).await;
    let values = world.values("a").await;
    assert_eq!((&values["password"], values["password.previous"].as_str()), (&next, "Edit42"));
    assert_eq!(sent(&world.calls(&instance)), [&next]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_replaced_during_a_call_keeps_the_password() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = instance_of(&world, "a");
    world.cloud().inject(Fault::latency(Duration::from_secs(2)).on(MODIFY).instance(&instance).times(1));
    world.generated("a", json!({})).await;
    let call = world.cloud().next_call(0, |call| call.vnc_password.is_some());
    let call = tokio::time::timeout(PATIENCE, call).await.unwrap();
    world.delete("a").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "rotation": {}});
    world.object_with("a", spec).await;
    until_rotated(&world, "a", 1).await;
    operator.settled(&world).await;
    let values = world.values("a").await;
    assert_eq!(call.vnc_password.as_ref(), Some(&values["password"]));
    assert!(sent(&world.calls(&instance)).iter().all(|password| *password == values["password"]));
    assert_eq!(values.get("password.next"), None);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_an_instance_does_not_trust_its_old_record() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let drawn = world.values("a").await["password"].clone();
    world.delete("a").await;
    // Somebody else has the instance for a while.
    world.secret("other", "Other1").await;
    world.object_with("other", json!({"instanceId": instance, "secretRef": {"name": "other"}})).await;
    world.until_console(&instance, "Other1").await;
    world.until_ready("other").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "rotation": {}});
    world.object_with("a", spec).await;
    world.until_stalled("a", Reason::Conflict).await;
    world.delete("other").await;
    world.until_console(&instance, &drawn).await;
    world.until_ready("a").await;
    assert_eq!(world.values("a").await["password"], drawn);
    assert_eq!(sent(&world.calls(&instance)), [drawn.as_str(), "Other1", drawn.as_str()]);
    operator.stop().await;
}
