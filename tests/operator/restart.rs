//! Instances that are not I/O optimized: a password is accepted, and in effect when a restart was seen.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::timeout;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};
use vncpassword_emulator::{Action, Fault, Instance, Status};
use vncpassword_test_support::{
    World,
    observe::{events, object_at, said, sent, told_once},
    world::PATIENCE,
};

/// An instance that was last started in that month of 2025.
fn started(month: i8) -> Instance {
    let start = jiff::civil::date(2025, month, 1).to_zoned(jiff::tz::TimeZone::UTC).unwrap();
    Instance { start_time: start.timestamp(), ..Instance::default().not_optimized() }
}

fn start_time(month: i8) -> Time {
    Time(started(month).start_time)
}

/// Waits until the password is accepted and the start time from which a restart is told is known.
async fn until_followed(world: &World, name: &str) -> VncPasswordStatus {
    let followed = |status: &VncPasswordStatus| {
        status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some())
    };
    let status = world.until(name, "followed", followed).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, None), "nothing happens by itself: {status:#?}");
    assert_eq!(status.reason(ConditionType::Ready), Some(Reason::RebootRequired));
    assert_eq!(status.reason(ConditionType::RebootRequired), Some(Reason::RebootRequired));
    assert_eq!(
        (status.last_rotation_time.is_some(), status.rotations),
        (false, None),
        "nothing is in effect"
    );
    status
}

/// Asserts that the first password is in effect and nothing is left of the wait.
fn in_effect(status: &VncPasswordStatus) {
    assert_eq!((status.rotations, status.accepted.as_ref()), (Some(1), None), "{status:#?}");
    assert!(status.last_rotation_time.is_some(), "{status:#?}");
    assert_eq!(status.reason(ConditionType::Ready), Some(Reason::Applied));
    assert!(status.condition(ConditionType::RebootRequired).is_none(), "{status:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accepted_password_is_in_effect_when_a_restart_was_seen() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", started(1)).await;
    let status = until_followed(&world, "a").await;
    let call = world.calls(&instance).remove(0);
    assert_eq!(status.request_id.as_ref(), Some(&call.request_id));
    let (accepted, applied) = (status.accepted.unwrap(), status.applied.unwrap());
    assert_eq!(accepted.start_time, Some(start_time(1)));
    assert_eq!(accepted.rotation, applied.secret_resource_version);
    assert_eq!(world.console(&instance), None);
    told_once(&world, "a", "Normal", Reason::RebootRequired).await;
    operator.settled(&world).await;
    assert_eq!(world.status("a").await.ready(), ConditionStatus::False);

    let begun = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
    world.cloud().restart(&instance);
    let status = world.until_ready("a").await;
    in_effect(&status);
    assert!(
        status.last_rotation_time.unwrap().0 >= begun,
        "when it came into effect, not when it was accepted"
    );
    assert_eq!(status.request_id.as_ref(), Some(&call.request_id));
    assert_eq!(world.calls(&instance).len(), 1, "following makes no call");
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    told_once(&world, "a", "Normal", Reason::Applied).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_around_the_call_tells_nothing_so_the_password_is_sent_again() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    // The reply takes its time; meanwhile somebody restarts the instance.
    world.cloud().inject(Fault::latency(Duration::from_secs(2)).on(Action::ModifyInstanceVncPasswd).times(1));
    let instance = object_at(&world, "a", started(1)).await;
    let call = world.cloud().next_call(0, |call| call.vnc_password.is_some());
    timeout(PATIENCE, call).await.unwrap();
    world.cloud().put_instance(Instance { id: instance.clone(), ..started(2) });
    let status = until_followed(&world, "a").await;
    assert_eq!(status.accepted.unwrap().start_time, Some(start_time(2)));
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123"; 2]);
    assert_eq!(status.request_id.as_ref(), Some(&calls[1].request_id));
    world.cloud().put_instance(Instance { id: instance.clone(), ..started(3) });
    in_effect(&world.until_ready("a").await);
    assert_eq!(world.calls(&instance).len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_in_between_is_a_restart_even_within_one_minute() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", started(1)).await;
    until_followed(&world, "a").await;
    world.cloud().put_instance(Instance { id: instance.clone(), ..started(1).status(Status::Stopped) });
    let seen = |status: &VncPasswordStatus| {
        status.instance.as_ref().and_then(|instance| instance.status.as_deref()) == Some("Stopped")
    };
    let status = world.until("a", "seen stopped", seen).await;
    assert_eq!(
        said(&status),
        (ConditionStatus::False, None, None),
        "it is not in effect before it runs again"
    );
    world.cloud().put_instance(Instance { id: instance.clone(), ..started(1) });
    in_effect(&world.until_ready("a").await);
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_value_replaces_the_one_that_waits_and_a_label_sends_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", started(1)).await;
    let first = until_followed(&world, "a").await.accepted.unwrap();
    let label = Patch::Merge(json!({"metadata": {"labels": {"team": "blue"}}}));
    let labelled = world.secrets().patch("a", &PatchParams::default(), &label).await.unwrap();
    let version = labelled.metadata.resource_version.unwrap();
    let status = world
        .until("a", "in sync with the labelled Secret", |status| {
            status.applied.as_ref().is_some_and(|applied| applied.secret_resource_version == version)
        })
        .await;
    assert_eq!(status.accepted.as_ref(), Some(&first), "the wait goes on");
    assert_eq!(world.calls(&instance).len(), 1);

    world.secret("a", "Xyz789").await;
    let status = world
        .until("a", "followed anew", |status| {
            status
                .accepted
                .as_ref()
                .is_some_and(|accepted| accepted.rotation != first.rotation && accepted.start_time.is_some())
        })
        .await;
    assert_eq!(said(&status), (ConditionStatus::False, None, None));
    assert_eq!(sent(&world.calls(&instance)), ["Abc123", "Xyz789"]);
    world.cloud().restart(&instance);
    in_effect(&world.until_ready("a").await);
    assert_eq!(world.calls(&instance).len(), 2);
    assert_eq!(world.console(&instance).as_deref(), Some("Xyz789"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_operator_follows_on_and_sends_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let during = object_at(&world, "during", started(1)).await;
    let after = object_at(&world, "after", started(1)).await;
    let mut before = Vec::new();
    for name in ["during", "after"] {
        before.push(until_followed(&world, name).await);
    }
    operator.stop().await;

    world.cloud().restart(&during);
    let operator = world.operator_before(world.settings()).await;
    in_effect(&world.until_ready("during").await);
    operator.settled(&world).await;
    assert_eq!(world.status("after").await, before[1], "nothing has changed");
    world.cloud().restart(&after);
    in_effect(&world.until_ready("after").await);
    assert_eq!((world.calls(&during).len(), world.calls(&after).len()), (1, 1));
    assert_eq!(events(&world, "after", Reason::Applied.as_str()).await.len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_password_waits_for_the_next_restart() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", started(1)).await;
    until_followed(&world, "a").await;
    world.cloud().restart(&instance);
    in_effect(&world.until_ready("a").await);
    world.cloud().put_instance(Instance { id: instance.clone(), ..started(2) });

    world.secret("a", "Xyz789").await;
    let status = world.until("a", "accepted", |status| status.accepted.is_some()).await;
    assert_eq!(status.ready(), ConditionStatus::False);
    assert_eq!(status.rotations, Some(1));
    let baseline = |status: &VncPasswordStatus| {
        status.accepted.as_ref().and_then(|accepted| accepted.start_time.clone()) == Some(start_time(2))
    };
    world.until("a", "followed from the newest start", baseline).await;
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    world.cloud().restart(&instance);
    let status = world.until_ready("a").await;
    assert_eq!(status.rotations, Some(2));
    assert_eq!(sent(&world.calls(&instance)), ["Abc123", "Xyz789"]);
    assert_eq!(world.console(&instance).as_deref(), Some("Xyz789"));
    operator.stop().await;
}
