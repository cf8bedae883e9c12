//! Generated passwords at instances that are not I/O optimized: in effect after a restart, which the operator asks for
//! where it may.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, RebootRequest, VncPasswordStatus};
use vncpassword_emulator::{Action, Entry, Fault, Instance};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    World,
    observe::{events, instance_of, rewrite_status, said, sent, told_once},
    rotation::{age, edit, generated_at, now, record, rotate_now, until_rotated},
    world::until_past,
};

const SETTLE: Duration = Duration::from_secs(4);

fn settings(world: &World, allow_reboot: bool) -> Settings {
    let mut settings = world.settings();
    settings.controller.allow_reboot = allow_reboot;
    settings.controller.settle = SETTLE;
    settings
}

/// Calls of RebootInstance for that instance.
fn reboots(world: &World, instance: &str) -> Vec<Entry> {
    let mut calls = world.calls_of(Action::RebootInstance);
    calls.retain(|call| call.instance_ids.iter().any(|id| id == instance));
    calls
}

/// Waits until the password is accepted and the start time from which a restart is told is known.
async fn until_followed(world: &World, name: &str) -> VncPasswordStatus {
    let followed = |status: &VncPasswordStatus| {
        status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some())
    };
    let status = world.until(name, "followed", followed).await;
    assert_eq!(status.reason(ConditionType::RebootRequired), Some(Reason::RebootRequired));
    status
}

/// Restarts it, as of that month of 2025.
fn restarted(world: &World, instance: &str, month: i8) {
    world.cloud().restart(instance);
    let start = jiff::civil::date(2025, month, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    let start_time = start.timestamp();
    world.cloud().put_instance(Instance { start_time, ..world.cloud().instance(instance).unwrap().instance });
}

/// Waits until the last call of a restart or for a password can no longer arrive late.
async fn until_settled(world: &World, name: &str) {
    let status = world.status(name).await;
    let asked = status.reboot_requested_at.map(|request| request.time.0);
    let accepted = status.accepted.map(|accepted| accepted.time.0);
    let last = asked.into_iter().chain(accepted).max().unwrap();
    until_past(last + SETTLE + Duration::from_secs(1)).await;
}

fn not_optimized() -> Instance {
    Instance::default().not_optimized()
}

/// Makes an object like [`generated_at`] whose restart is the operator's.
async fn rebooting(world: &World, name: &str, instance: Instance, more: Value) -> String {
    let mut spec = json!({"activation": "Reboot"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    generated_at(world, name, instance, spec).await
}

/// What the condition says is to be done.
fn told(status: &VncPasswordStatus) -> &str {
    &status.condition(ConditionType::RebootRequired).unwrap().message
}

#[tokio::test(flavor = "multi_thread")]
async fn the_former_value_stays_in_place_until_a_restart_is_seen() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, true)).await;
    let instance = generated_at(&world, "a", not_optimized(), json!({})).await;
    let status = until_followed(&world, "a").await;
    assert_eq!(said(&status), (ConditionStatus::False, None, None), "nothing happens by itself: {status:#?}");
    assert_eq!(status.rotations, None);
    assert!(told(&status).contains("password.next of Secret a"), "{}", told(&status));
    assert_eq!(status.accepted.unwrap().rotation, record(&world, "a").await["id"].as_str().unwrap());
    let first = world.values("a").await;
    assert_eq!(first.get("password"), None);
    operator.stop().await;
    restarted(&world, &instance, 2);
    let operator = world.operator_before(settings(&world, true)).await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(world.values("a").await["password"], first["password.next"]);

    age(&world, "a", SignedDuration::from_mins(5)).await;
    let asked = rotate_now(&world, "a").await;
    let status = until_followed(&world, "a").await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None), "the former value is in effect");
    assert_eq!(status.reason(ConditionType::Ready), Some(Reason::Applied));
    let values = world.values("a").await;
    assert_eq!(values["password"], first["password.next"]);
    assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]));
    // Another request, and another process: what is on its way stays.
    operator.stop().await;
    let operator = world.operator_before(settings(&world, true)).await;
    operator.settled(&world).await;
    assert_eq!(world.values("a").await, values);
    operator.stop().await;

    restarted(&world, &instance, 3);
    let operator = world.operator_before(settings(&world, true)).await;
    let status = until_rotated(&world, "a", 2).await;
    assert!(status.condition(ConditionType::RebootRequired).is_none() && status.accepted.is_none());
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    let after = world.values("a").await;
    assert_eq!(after["password"], values["password.next"]);
    assert_eq!(after["password.previous"], values["password"]);
    assert_eq!(after.get("password.next"), None);
    assert_eq!(world.console(&instance).as_ref(), Some(&after["password"]));
    assert_eq!(sent(&world.calls(&instance)), [&first["password.next"], &after["password"]]);
    assert_eq!(reboots(&world, &instance), [], "activation is Manual");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn activation_reboot_restarts_the_instance_once() {
    let world = World::new().await;
    world.cloud().set_reboot_time(Duration::from_secs(2));
    let mut settings = settings(&world, true);
    settings.controller.settle = Duration::from_secs(16 * 60);
    let operator = world.operator_before(settings).await;
    let drawn = rebooting(&world, "drawn", not_optimized(), json!({})).await;
    let users = instance_of(&world, "users");
    world.cloud().put_instance(Instance { id: users.clone(), ..not_optimized() });
    world.secret("users", "Abc123").await;
    let spec = json!({"instanceId": users, "secretRef": {"name": "users"}, "activation": "Reboot"});
    world.object_with("users", spec).await;
    for name in ["drawn", "users"] {
        let asked = |status: &VncPasswordStatus| status.reboot_requested_at.is_some();
        let status = world.until(name, "asked for", asked).await;
        assert_eq!(status.reason(ConditionType::RebootRequired), Some(Reason::RebootRequired), "{name}");
        assert_eq!(said(&status).0, ConditionStatus::False, "{name}");
        assert!(status.condition(ConditionType::Reconciling).is_some(), "{name}: it goes on by itself");
        let request = status.reboot_requested_at.unwrap();
        let rotation = status.accepted.unwrap().rotation;
        assert_eq!((request.requests, request.rotation), (1, rotation), "{name}");
    }
    for (name, instance) in [("drawn", &drawn), ("users", &users)] {
        let status = until_rotated(&world, name, 1).await;
        assert_eq!(
            (status.accepted, said(&world.status(name).await)),
            (None, (ConditionStatus::True, None, None))
        );
        assert_eq!(world.console(instance).as_ref(), Some(&world.values(name).await["password"]), "{name}");
        let calls = reboots(&world, instance);
        assert_eq!(calls.len(), 1, "{name}");
        assert!(calls[0].applied() && !calls[0].force_stop, "{name}: {calls:?}");
        assert_eq!(world.calls(instance).len(), 1, "{name}");
        assert_eq!(events(&world, name, "Reboot").await.len(), 1, "{name}");
        let told = told_once(&world, name, "Normal", Reason::Applied).await;
        assert!(told.contains("was restarted"), "{name}: {told}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_flag_nothing_is_restarted_and_the_condition_says_why() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, false)).await;
    let instance = rebooting(&world, "a", not_optimized(), json!({})).await;
    let status = until_followed(&world, "a").await;
    assert_eq!(said(&status), (ConditionStatus::False, None, None));
    assert!(told(&status).contains("--allow-reboot"), "{}", told(&status));
    operator.settled(&world).await;
    assert_eq!((reboots(&world, &instance), status.reboot_requested_at), (Vec::new(), None));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_must_not_be_restarted_now_is_not() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, true)).await;
    let later = (jiff::Timestamp::now() + SignedDuration::from_hours(3)).to_zoned(jiff::tz::TimeZone::UTC);
    let closed = json!({"schedule": format!("{} {} * * *", later.minute(), later.hour()), "duration": "1h"});
    // Start times are told to the minute: this one's has not passed for another minute, whatever the second.
    let just_started = Instance { start_time: now() + SignedDuration::from_mins(1), ..not_optimized() };
    let instances = [
        rebooting(&world, "locked", not_optimized().locked("security"), json!({})).await,
        rebooting(&world, "closed", not_optimized(), json!({"window": closed})).await,
        rebooting(&world, "optimized", Instance::default(), json!({})).await,
        rebooting(&world, "just-started", just_started, json!({})).await,
    ];
    for name in ["locked", "closed", "just-started"] {
        until_followed(&world, name).await;
    }
    world.until_ready("optimized").await;
    // Asked for in a closed window, a rotation is drawn, but it does not restart anything.
    operator.settled(&world).await;
    for instance in &instances {
        assert_eq!(reboots(&world, instance), [], "{instance}");
        assert_eq!(world.calls(instance).len(), 1, "{instance}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_restart_is_told_and_asked_for_once_more_after_settle() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, true)).await;
    let instance = instance_of(&world, "a");
    let refusal = Fault::error(403, "Forbidden.RAM").on(Action::RebootInstance).instance(&instance);
    world.cloud().inject(refusal);
    rebooting(&world, "a", not_optimized(), json!({})).await;
    let warned = events(&world, "a", "Reboot").await;
    assert_eq!((warned.len(), warned[0].0.as_str()), (1, "Warning"));
    assert!(
        warned[0].1.contains("Forbidden.RAM") && warned[0].1.contains("ecs:RebootInstance"),
        "{warned:?}"
    );
    // The next look of its own would be in 15 s; a new process takes one at once.
    let mut operator = operator;
    for requests in [2, 2] {
        until_settled(&world, "a").await;
        operator.stop().await;
        operator = world.operator_before(settings(&world, true)).await;
        let asked = |status: &VncPasswordStatus| {
            status.reboot_requested_at.as_ref().is_some_and(|request| request.requests == requests)
        };
        world.until("a", "asked for twice", asked).await;
        operator.settled(&world).await;
    }
    let calls = reboots(&world, &instance);
    assert_eq!(calls.len(), 2, "no third");
    let apart = calls[1].at.duration_since(calls[0].at).as_secs_f64();
    assert!((4.0..12.0).contains(&apart), "{apart} s apart");
    let status = world.status("a").await;
    assert_eq!(said(&status), (ConditionStatus::False, None, None), "now it needs somebody else");
    assert!(told(&status).contains("restart it yourself"), "{}", told(&status));
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_announced_by_a_process_that_died_is_made_after_settle() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, false)).await;
    let instance = rebooting(&world, "a", not_optimized(), json!({})).await;
    until_followed(&world, "a").await;
    operator.stop().await;
    // It wrote down that it asks, and was gone before it did, or after: nobody can tell.
    let announced = now();
    rewrite_status(&world, "a", |status| {
        let rotation = status.accepted.as_ref().unwrap().rotation.clone();
        status.reboot_requested_at =
            Some(Box::new(RebootRequest { time: Time(announced), rotation, requests: 1 }));
    })
    .await;
    let operator = world.operator_before(settings(&world, true)).await;
    let twice = |status: &VncPasswordStatus| {
        status.reboot_requested_at.as_ref().is_some_and(|request| request.requests == 2)
    };
    world.until("a", "asked for", twice).await;
    operator.settled(&world).await;
    let calls = reboots(&world, &instance);
    assert_eq!(calls.len(), 1);
    assert!(calls[0].at >= announced + SETTLE, "{calls:?}");
    operator.stop().await;
    let operator = world.operator_before(settings(&world, true)).await;
    operator.settled(&world).await;
    assert_eq!(reboots(&world, &instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sending_the_value_in_effect_again_asks_for_no_restart() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, false)).await;
    let instance = rebooting(&world, "a", not_optimized(), json!({"enforceInterval": "30m"})).await;
    until_followed(&world, "a").await;
    operator.stop().await;
    restarted(&world, &instance, 2);
    let operator = world.operator_before(settings(&world, true)).await;
    let before = until_rotated(&world, "a", 1).await;
    rewrite_status(&world, "a", |status| {
        status.applied.as_mut().unwrap().time.0 -= SignedDuration::from_hours(1);
    })
    .await;
    world.until("a", "sent again", |status| status.request_id != before.request_id).await;
    let status = world.until_ready("a").await;
    operator.settled(&world).await;
    assert_eq!((status.rotations, &status.accepted), (Some(1), &None));
    assert!(status.condition(ConditionType::RebootRequired).is_none());
    let values = world.values("a").await;
    assert_eq!(sent(&world.calls(&instance)), [&values["password"]; 2]);
    assert_eq!((values.get("password.next"), reboots(&world, &instance)), (None, Vec::new()));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_users_value_that_may_be_in_effect_already_is_no_reason_for_a_restart() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world, false)).await;
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance { id: instance.clone(), ..not_optimized() });
    world.secret("a", "Abc123").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "activation": "Reboot"});
    world.object_with("a", spec).await;
    until_followed(&world, "a").await;
    operator.stop().await;
    restarted(&world, &instance, 2);
    let operator = world.operator_before(settings(&world, true)).await;
    until_rotated(&world, "a", 1).await;
    operator.stop().await;
    // A label is a new version, of which a new process cannot tell that it holds the same value.
    edit(&world, "a", json!({"metadata": {"labels": {"team": "a"}}})).await;
    let operator = world.operator_before(settings(&world, true)).await;
    let status = until_followed(&world, "a").await;
    assert!(told(&status).contains("may be in effect already"), "{}", told(&status));
    until_settled(&world, "a").await;
    operator.settled(&world).await;
    assert!(world.calls(&instance).len() <= 3, "sent again at most twice");
    assert_eq!(reboots(&world, &instance), []);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_whose_reply_is_lost_is_seen_all_the_same() {
    let world = World::new().await;
    world.cloud().set_reboot_time(Duration::from_secs(1));
    let operator = world.operator_before(settings(&world, true)).await;
    let instance = instance_of(&world, "a");
    world.cloud().inject(Fault::reset_after().on(Action::RebootInstance).instance(&instance));
    rebooting(&world, "a", not_optimized(), json!({})).await;
    let warned = events(&world, "a", "Reboot").await;
    assert_eq!((warned.len(), warned[0].0.as_str()), (1, "Warning"), "{warned:?}");
    until_settled(&world, "a").await;
    operator.stop().await;
    let operator = world.operator_before(settings(&world, true)).await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(world.console(&instance).as_ref(), Some(&world.values("a").await["password"]));
    assert_eq!((reboots(&world, &instance).len(), world.calls(&instance).len()), (1, 1));
    operator.stop().await;
}
