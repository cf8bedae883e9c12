//! The knobs of the spec and of the operator: suspend, enforceInterval, regionId, --settle.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::json;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};
use vncpassword_emulator::{Action, Fault, Instance, Status};
use vncpassword_test_support::{
    World,
    observe::{
        attempts, events, instance_of, is_after, object_at, pending, rewrite_status, said, seconds_between,
        sent, told_once,
    },
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;

fn ago(time: SignedDuration) -> Time {
    Time(Timestamp::from_second((Timestamp::now() - time).as_second()).unwrap())
}

/// Lets the value have been accepted so long ago; returns when that was.
async fn applied_ago(world: &World, name: &str, time: SignedDuration) -> Time {
    let then = ago(time);
    rewrite_status(world, name, |status| status.applied.as_mut().unwrap().time = then.clone()).await;
    then
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_object_keeps_its_status_and_sends_the_newest_value_when_it_goes_on() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let before = world.until_ready("a").await;
    world.change("a", json!({"spec": {"suspend": true}})).await;
    let suspended = world
        .until("a", "suspended", |status| status.reason(ConditionType::Suspended) == Some(Reason::Suspended))
        .await;
    assert_eq!(said(&suspended), (ConditionStatus::True, None, None));
    assert_eq!(suspended.reason(ConditionType::Ready), Some(Reason::Applied));
    assert_eq!(suspended.observed_generation, Some(2));
    assert_eq!((&suspended.applied, &suspended.request_id), (&before.applied, &before.request_id));
    world.secret("a", "Bbbbb2").await;
    world.secret("a", "Ccccc3").await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1, "no call while it is suspended");
    assert_eq!(world.status("a").await, suspended, "nothing is written either");

    world.change("a", json!({"spec": {"suspend": false}})).await;
    let status = world.until("a", "rotated twice", |status| status.rotations == Some(2)).await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    assert!(status.condition(ConditionType::Suspended).is_none());
    assert_eq!(sent(&world.calls(&instance)), ["Abc123", "Ccccc3"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_born_suspended_makes_no_call_of_any_kind() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance));
    world.secret("a", "Abc123").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "suspend": true});
    world.object_with("a", spec).await;
    let suspended =
        |status: &VncPasswordStatus| status.reason(ConditionType::Suspended) == Some(Reason::Suspended);
    let status = world.until("a", "suspended", suspended).await;
    assert_eq!(said(&status), (ConditionStatus::Unknown, None, None));
    operator.settled(&world).await;
    assert!(world.cloud().journal().is_empty());
    world.change("a", json!({"spec": {"suspend": false}})).await;
    world.until_ready("a").await;
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_value_is_sent_again_when_the_enforce_interval_is_over() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let first = world.until_ready("a").await;
    // Nothing asks for it yet, however old the value is.
    applied_ago(&world, "a", SignedDuration::from_hours(100)).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    world.change("a", json!({"spec": {"enforceInterval": "10m"}})).await;
    let recent = |status: &VncPasswordStatus| {
        status.applied.as_ref().is_some_and(|applied| applied.time > ago(SignedDuration::from_mins(1)))
    };
    let status = world.until("a", "enforced", recent).await;
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123"; 2]);
    assert_eq!(status.request_id.as_ref(), Some(&calls[1].request_id));
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    let rotation = (Some(1), first.last_rotation_time);
    assert_eq!((status.rotations, status.last_rotation_time), rotation, "this is no rotation");

    // Three seconds are left: it comes then, and not before.
    let applied = applied_ago(&world, "a", SignedDuration::from_secs(10 * 60 - 3)).await;
    world.until("a", "enforced again", recent).await;
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123"; 3]);
    assert!(calls[2].at >= applied.0 + SignedDuration::from_mins(10), "{:?} is before its time", calls[2].at);
    operator.told(&world).await;
    assert_eq!(world.calls(&instance).len(), 3, "and only once");
    assert_eq!(events(&world, "a", Reason::Applied.as_str()).await.len(), 1, "a value that stays is no news");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_stays_true_while_enforcing_fails() {
    let table = [
        ("lost", Fault::reset_after().times(1), Reason::OutcomeUnknown, ConditionType::Reconciling, 5),
        ("denied", Fault::error(403, "Forbidden.RAM").times(1), Reason::Denied, ConditionType::Stalled, 600),
    ];
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut attempts_due = Vec::new();
    for (name, fault, reason, flag, seconds) in table {
        world.secret(name, "Abc123").await;
        let instance = world.object(name).await;
        let before = world.until_ready(name).await;
        world.cloud().inject(fault.on(MODIFY).instance(&instance));
        applied_ago(&world, name, SignedDuration::from_hours(1)).await;
        world.change(name, json!({"spec": {"enforceInterval": "30m"}})).await;
        let status = world.until(name, "failing", |status| status.reason(flag) == Some(reason)).await;
        assert_eq!(status.ready(), ConditionStatus::True, "{name}: what was in effect still is");
        assert_eq!(status.reason(ConditionType::Ready), Some(Reason::Applied), "{name}");
        assert_eq!((attempts(&status), &status.request_id), (Some(1), &before.request_id), "{name}");
        assert!(status.applied.is_some(), "{name}");
        assert!(is_after(&status, seconds), "{name}");
        operator.settled(&world).await;
        let next = status.retry.unwrap().next_attempt_time.unwrap().0;
        let early = world.calls(&instance).iter().filter(|call| call.at < next).count();
        assert_eq!(early, 2, "{name}: a call before its time");
        attempts_due.push(next);
    }
    let status = world.until_ready("lost").await;
    assert_eq!((status.rotations, pending(&status)), (Some(1), None));
    let calls = world.calls(&instance_of(&world, "lost"));
    assert_eq!(sent(&calls), ["Abc123"; 3]);
    assert!(calls[2].at >= attempts_due[0], "a call before its time");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enforcing_waits_for_a_stopped_instance_until_a_look_shows_it_ready() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    world.cloud().set_status(&instance, Status::Stopped);
    applied_ago(&world, "a", SignedDuration::from_hours(1)).await;
    world.change("a", json!({"spec": {"enforceInterval": "30m"}})).await;
    let stopped = |status: &VncPasswordStatus| {
        let seen = status.instance.as_ref().and_then(|instance| instance.status.as_deref());
        status.reason(ConditionType::Reconciling) == Some(Reason::IncorrectInstanceStatus)
            && seen == Some("Stopped")
    };
    let status = world.until("a", "seen stopped", stopped).await;
    assert_eq!(said(&status), (ConditionStatus::True, Some(Reason::IncorrectInstanceStatus), None));
    assert_eq!(status.reason(ConditionType::Ready), Some(Reason::Applied));
    world.cloud().set_status(&instance, Status::Running);
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, &status.retry), (Some(1), &None));
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123"; 3]);
    let look = world.calls_of(Action::DescribeInstances).pop().unwrap();
    let took = seconds_between(&look, &calls[2]);
    assert!((0.0..3.0).contains(&took), "it was sent {took} s after the look that showed it ready");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enforcing_never_asks_for_a_restart() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", Instance::default().not_optimized()).await;
    let followed = |status: &VncPasswordStatus| {
        status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some())
    };
    world.until("a", "followed", followed).await;
    // Not while it waits for a restart either: the value is on its way already.
    applied_ago(&world, "a", SignedDuration::from_hours(1)).await;
    world.change("a", json!({"spec": {"enforceInterval": "30m"}})).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    world.cloud().restart(&instance);
    let enforced = |status: &VncPasswordStatus| {
        status.rotations == Some(1)
            && status.applied.as_ref().is_some_and(|applied| applied.time > ago(SignedDuration::from_mins(1)))
    };
    let status = world.until("a", "enforced", enforced).await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    assert!(status.condition(ConditionType::RebootRequired).is_none() && status.accepted.is_none());
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"; 2]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_go_to_the_region_of_the_spec_or_else_of_the_operator() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("default", "Abc123").await;
    let at_home = world.object("default").await;
    let abroad = object_at(&world, "abroad", Instance::default().region("eu-central-1")).await;
    for (name, instance, region) in
        [("default", &at_home, "cn-hangzhou"), ("abroad", &abroad, "eu-central-1")]
    {
        let status = world.until_ready(name).await;
        assert_eq!(status.instance.unwrap().region_id.as_deref(), Some(region));
        assert_eq!(world.calls(instance)[0].region_id.as_deref(), Some(region));
    }
    let mut looks = world.calls_of(Action::DescribeInstances);
    looks.retain(|look| look.instance_ids.contains(&abroad));
    assert!(looks.iter().all(|look| look.region_id.as_deref() == Some("eu-central-1")), "{looks:#?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mended_region_is_acted_on_at_once() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance).region("cn-beijing").not_optimized());
    world.secret("a", "Abc123").await;
    let spec = json!({"instanceId": instance, "regionId": "cn-shanghai", "secretRef": {"name": "a"}});
    world.object_with("a", spec).await;
    let status = world.until_stalled("a", Reason::InstanceNotFound).await;
    assert_eq!(status.retry.unwrap().code.as_deref(), Some("InvalidInstanceId.NotFound"));
    let message = &status.conditions[0].message;
    assert!(message.contains("cn-shanghai") && message.contains("spec.regionId"), "{message}");
    world.change("a", json!({"spec": {"regionId": "cn-beijing"}})).await;
    let status = world.until("a", "accepted", |status| status.request_id.is_some()).await;
    let regions: Vec<_> = world.calls(&instance).into_iter().filter_map(|call| call.region_id).collect();
    assert_eq!(regions, ["cn-shanghai", "cn-beijing"]);
    let seen = status.instance.unwrap();
    assert_eq!((seen.region_id.as_deref(), seen.io_optimized), (Some("cn-beijing"), Some(false)));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_region_nobody_is_called_until_there_is_one() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.region = None;
    let operator = world.operator_before(settings).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let status = world.until_stalled("a", Reason::InvalidRegion).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidRegion)));
    let note = told_once(&world, "a", "Warning", Reason::InvalidRegion).await;
    assert!(note.contains("spec.regionId") && note.contains("--region"), "it says what to do: {note}");
    assert!(world.cloud().journal().is_empty());
    world.change("a", json!({"spec": {"regionId": "cn-hangzhou"}})).await;
    world.until_ready("a").await;
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn settle_says_when_the_newest_value_is_sent_once_more() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.settle = Duration::from_secs(8);
    let operator = world.operator_before(settings).await;
    let instance = instance_of(&world, "a");
    world.cloud().inject(Fault::reset_before().on(MODIFY).times(1));
    world.secret("a", "Abc123").await;
    world.object("a").await;
    let status = world.until_reconciling("a", Reason::OutcomeUnknown).await;
    let retry = status.retry.unwrap();
    let until = retry.unsettled_until.unwrap().0;
    let settle = until.as_second() - retry.last_failure_time.unwrap().0.as_second();
    assert!((8..=9).contains(&settle), "{settle} s");
    world.secret("a", "Xyz789").await;
    let status = world.until_reconciling("a", Reason::Settling).await;
    assert_eq!(status.ready(), ConditionStatus::True);
    let left = status.retry.unwrap();
    assert_eq!(left.unsettled_until.map(|time| time.0), Some(until), "it counts from the lost call");
    assert_eq!((left.attempts, left.next_attempt_time), (None, None));
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, &status.retry), (Some(1), &None));
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123", "Xyz789", "Xyz789"]);
    assert!(calls[2].at >= until, "{} is before {until}", calls[2].at);
    let waited = seconds_between(&calls[0], &calls[2]);
    assert!(waited < 13.0, "{waited} s after the lost call");
    operator.stop().await;
}
