//! The annotation `vncpassword.dev/rotate-at`: one rotation each, and nothing that was not asked for.

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use vncpassword_core::api::{ConditionStatus, ConditionType, ROTATE_AT, Reason};
use vncpassword_emulator::{Fault, Instance};
use vncpassword_test_support::{
    Operator, World,
    observe::{instance_of, object_at, rewrite_status, said, sent, told_once},
    rotation::{age, age_status, now, record, rotate_at, rotate_now, until_rotated, version},
    world::until_past,
};

const LONG: SignedDuration = SignedDuration::from_mins(5);

/// An object whose first password is five minutes old, and its instance.
async fn rotated_long_ago(world: &World, name: &str) -> (Operator, String) {
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated(name, json!({})).await;
    world.until_ready(name).await;
    age(world, name, LONG).await;
    (operator, instance)
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_is_one_rotation_however_often_the_object_is_touched() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    let asked = rotate_now(&world, "a").await;
    let status = until_rotated(&world, "a", 2).await;
    assert_eq!(status.last_handled_rotate_at.as_ref().map(|at| at.0), Some(asked));
    assert_eq!(record(&world, "a").await["rotateAt"], json!(asked.to_string()));
    age(&world, "a", LONG).await;

    let before = version(&world, "a").await;
    for number in 0..3 {
        let labels = json!({"metadata": {"labels": {"touched": number.to_string()}}});
        world.change("a", labels).await;
    }
    // The same time in other words, and an older one.
    until_past(asked + SignedDuration::from_secs(1)).await;
    for same in [format!("{asked}"), asked.to_string().replace('Z', ".75+00:00")] {
        rotate_at(&world, "a", same).await;
        operator.settled(&world).await;
    }
    rotate_at(&world, "a", asked - SignedDuration::from_secs(1)).await;
    operator.settled(&world).await;
    // Nor does it come back with another process.
    rotate_at(&world, "a", asked).await;
    operator.stop().await;
    let operator = world.operator_before(world.settings()).await;
    operator.settled(&world).await;
    assert_eq!((version(&world, "a").await, world.calls(&instance).len()), (before, 2));
    let status = world.status("a").await;
    assert_eq!((status.rotations, said(&status)), (Some(2), (ConditionStatus::True, None, None)));
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_older_than_the_object_came_with_a_backup() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance));
    let restored = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
        "metadata": {"name": "a", "annotations": {ROTATE_AT: "2026-01-02T03:04:05Z"}},
        "spec": {"instanceId": instance, "secretRef": {"name": "a"}, "rotation": {}}});
    let restored = serde_json::from_value(restored).unwrap();
    world.objects().create(&kube::api::PostParams::default(), &restored).await.unwrap();
    world.until_ready("a").await;
    age(&world, "a", LONG).await;
    rotate_at(&world, "a", now() - SignedDuration::from_hours(1)).await;
    operator.settled(&world).await;
    let status = world.status("a").await;
    assert_eq!((status.rotations, said(&status)), (Some(1), (ConditionStatus::True, None, None)));
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_for_later_waits_for_its_time() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    let at = now() + SignedDuration::from_secs(5);
    rotate_at(&world, "a", at).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1, "not before its time");
    let status = world.status("a").await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    assert_eq!(status.last_handled_rotate_at, None);
    let status = until_rotated(&world, "a", 2).await;
    let late = world.calls(&instance)[1].at.duration_since(at).as_secs_f64();
    assert!((0.0..3.0).contains(&late), "{late} s after its time");
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(at));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_no_time_is_told_and_nothing_is_rotated() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    let before = version(&world, "a").await;
    for garbage in ["tomorrow", "2026-01-02", ""] {
        rotate_at(&world, "a", garbage).await;
        let status = world.until_stalled("a", Reason::InvalidRotateAt).await;
        assert_eq!(said(&status), (ConditionStatus::True, None, Some(Reason::InvalidRotateAt)));
        assert_eq!(status.reason(ConditionType::Ready), Some(Reason::Applied));
        let message = &status.condition(ConditionType::Stalled).unwrap().message;
        assert!(message.contains("RFC 3339"), "{message}");
        operator.settled(&world).await;
    }
    told_once(&world, "a", "Warning", Reason::InvalidRotateAt).await;
    assert_eq!((version(&world, "a").await, world.calls(&instance).len()), (before, 1));

    rotate_now(&world, "a").await;
    let status = until_rotated(&world, "a", 2).await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_waits_while_the_object_is_suspended() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    world.change("a", json!({"spec": {"suspend": true}})).await;
    world.until("a", "suspended", |status| status.condition(ConditionType::Suspended).is_some()).await;
    let asked = rotate_now(&world, "a").await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    assert_eq!(world.status("a").await.last_handled_rotate_at, None, "it is not forgotten");
    world.change("a", json!({"spec": {"suspend": false}})).await;
    let status = until_rotated(&world, "a", 2).await;
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_requests_within_a_minute_the_second_waits() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    let first = rotate_now(&world, "a").await;
    until_rotated(&world, "a", 2).await;
    let second = first + SignedDuration::from_secs(1);
    rotate_at(&world, "a", second).await;
    until_past(second + SignedDuration::from_secs(1)).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 2, "the first one was handled a moment ago");
    assert_eq!(world.status("a").await.last_handled_rotate_at.map(|at| at.0), Some(first));
    // As if the minute were over in two seconds.
    age(&world, "a", SignedDuration::from_secs(57)).await;
    let status = until_rotated(&world, "a", 3).await;
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(second));
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 3);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_not_lost_where_its_call_fails() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    let former = world.values("a").await["password"].clone();
    world.cloud().inject(Fault::reset_after().instance(&instance).times(1));
    let asked = rotate_now(&world, "a").await;
    let status = world.until_reconciling("a", Reason::OutcomeUnknown).await;
    assert_eq!(status.ready(), ConditionStatus::Unknown);
    let status = until_rotated(&world, "a", 2).await;
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    let (calls, values) = (world.calls(&instance), world.values("a").await);
    assert_eq!(sent(&calls[1..]), [&values["password"]; 2], "the same one again, not another");
    assert_eq!(values["password.previous"], former);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_the_first_password_covers_is_handled() {
    let world = World::new().await;
    let instance = world.generated("a", json!({})).await;
    let asked = rotate_now(&world, "a").await;
    let operator = world.operator_before(world.settings()).await;
    let status = until_rotated(&world, "a", 1).await;
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    age(&world, "a", LONG).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_record_tells_what_was_handled_where_the_status_was_lost() {
    let world = World::new().await;
    let (operator, instance) = rotated_long_ago(&world, "a").await;
    let before = world.status("a").await;
    let asked = rotate_now(&world, "a").await;
    until_rotated(&world, "a", 2).await;
    operator.stop().await;
    age(&world, "a", SignedDuration::from_mins(3)).await;
    let last = world.status("a").await.last_rotation_time;
    rewrite_status(&world, "a", |status| *status = before.clone()).await;
    let operator = world.operator_before(world.settings()).await;
    let status = until_rotated(&world, "a", 2).await;
    operator.settled(&world).await;
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 3, "it is not rotated for that again, but sent once more");
    assert_eq!(sent(&calls)[1], sent(&calls)[2]);
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    assert_eq!(status.request_id.as_ref(), Some(&calls[2].request_id));
    assert!(before.last_rotation_time < status.last_rotation_time && status.last_rotation_time <= last);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn for_a_users_secret_it_is_one_more_push() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", Instance::default()).await;
    world.until_ready("a").await;
    let before = version(&world, "a").await;
    age_status(&world, "a", LONG).await;
    let asked = rotate_now(&world, "a").await;
    let status = world
        .until("a", "pushed", |status| status.last_handled_rotate_at.as_ref().map(|at| at.0) == Some(asked))
        .await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    age_status(&world, "a", LONG).await;
    world.change("a", json!({"metadata": {"labels": {"touched": "yes"}}})).await;
    operator.settled(&world).await;
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"; 2]);
    assert_eq!(version(&world, "a").await, before, "the Secret is the user's");
    operator.stop().await;

    let operator = world.operator_before(world.settings()).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 2);
    assert!(status.last_handled_rotate_at.is_some_and(|at| at.0 <= Timestamp::now()));
    operator.stop().await;
}
