//! Rights that are missing and come back: objects that lack the same right share their tries (N7 to N9).

use std::{collections::BTreeSet, time::Duration};

use futures::{StreamExt, stream};
use jiff::Timestamp;
use serde_json::json;
use vncpassword_core::api::{ConditionStatus, ROTATE_AT, Reason};
use vncpassword_emulator::{AccessKey, Action, Fault};
use vncpassword_test_support::{
    Operator, Setup, World,
    fleet::Fleet,
    observe::{instance_of, seconds_between},
    world::{PATIENCE, until, until_within},
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;
const OBJECTS: usize = 60;
/// A minute of the operator that tries often.
const MINUTE: Duration = Duration::from_secs(6);
/// A minute in which the operator tries nothing by itself.
const NEVER: Duration = Duration::from_hours(100);

fn setup(world: &World, minute: Duration) -> Setup {
    Setup { minute, ..world.settings().into() }
}

fn allow(world: &World, action: Action, allowed: bool) {
    let key = AccessKey::default();
    world.cloud().put_access_key(if allowed { key } else { key.denied(action) });
}

async fn until_all(world: &World, wanted: &str, status: ConditionStatus, reason: Option<Reason>) {
    until(wanted, async || {
        let objects = world.objects().list(&kube::api::ListParams::default()).await.unwrap().items;
        let stands = |object: &vncpassword_core::api::VncPassword| {
            let now = object.status.clone().unwrap_or_default();
            let stalled = now.reason(vncpassword_core::api::ConditionType::Stalled);
            now.ready() == status && (reason.is_none() || stalled == reason)
        };
        objects.len() == OBJECTS && objects.iter().all(stands)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_denied_objects_share_six_tries_a_minute_and_all_pass_when_the_rights_are_back() {
    let world = World::new().await;
    allow(&world, MODIFY, false);
    stream::iter(0..OBJECTS)
        .for_each_concurrent(16, |number| {
            let world = &world;
            async move {
                let name = format!("o{number}");
                world.secret(&name, "Abc123").await;
                world.object(&name).await;
            }
        })
        .await;
    let operator = world.operator_before(setup(&world, MINUTE)).await;
    until_all(&world, "denied", ConditionStatus::False, Some(Reason::Denied)).await;
    let first = world.calls_of(MODIFY).len();
    assert!(first >= OBJECTS, "one call each: {first}");
    // Until each has had its turn: that takes ten minutes.
    let tries = || world.calls_of(MODIFY).split_off(first);
    until_within(PATIENCE * 5, "a try of each", async || tries().len() >= OBJECTS).await;
    let tries = tries();
    // How they are spread is shown by the simulation of the groups: here calls can arrive late.
    let took = seconds_between(&tries[0], &tries[OBJECTS - 1]);
    assert!(took > MINUTE.as_secs_f64() * 9.0, "six a minute: {OBJECTS} within {took} s");
    let instances: BTreeSet<_> = tries[..OBJECTS].iter().map(|call| &call.instance_ids).collect();
    assert_eq!(instances.len(), OBJECTS, "the least recently tried one first");

    allow(&world, MODIFY, true);
    let before = world.calls_of(MODIFY).len();
    until_all(&world, "in effect", ConditionStatus::True, None).await;
    let calls = world.calls_of(MODIFY).split_off(before);
    let accepted = calls.iter().filter(|call| call.applied()).count();
    assert_eq!(accepted, OBJECTS, "one accepted call each");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn generated_passwords_come_soon_after_the_right_to_see_instances() {
    let world = World::new().await;
    allow(&world, Action::DescribeInstances, false);
    let operator = world.operator_before(setup(&world, MINUTE)).await;
    for number in 0..5 {
        world.generated(&format!("g{number}"), json!({})).await;
    }
    for number in 0..5 {
        world.until_stalled(&format!("g{number}"), Reason::InstanceUnknown).await;
    }
    let first = world.calls_of(Action::DescribeInstances).len();
    let polls = || world.calls_of(Action::DescribeInstances).split_off(first);
    until("three polls", async || polls().len() >= 3).await;
    let took = seconds_between(&polls()[0], &polls()[2]);
    // Two minutes apart, less what the first came late.
    assert!(took > MINUTE.as_secs_f64() * 1.5, "one a minute: three within {took} s");
    allow(&world, Action::DescribeInstances, true);
    for number in 0..5 {
        world.until_ready(&format!("g{number}")).await;
    }
    operator.stop().await;
}

/// Waits until there is one more call for the instance than so many.
async fn until_called(operator: &Operator, world: &World, instance: &str, calls: usize, why: &str) {
    until(why, async || world.calls(instance).len() > calls).await;
    operator.settled(world).await;
    assert_eq!(world.calls(instance).len(), calls + 1, "{why}: one call");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_denied_object_is_tried_at_once_when_somebody_asks() {
    let world = World::new().await;
    allow(&world, MODIFY, false);
    let operator = world.operator_before(setup(&world, NEVER)).await;
    let mut instances = Vec::new();
    for name in ["a", "b"] {
        world.secret(name, "Abc123").await;
        instances.push(world.object(name).await);
    }
    for name in ["a", "b"] {
        world.until_stalled(name, Reason::Denied).await;
    }
    let instance = &instances[0];
    world.change("a", json!({"metadata": {"annotations": {ROTATE_AT: Timestamp::now().to_string()}}})).await;
    until_called(&operator, &world, instance, 1, "rotate-at").await;
    world.change("a", json!({"spec": {"enforceInterval": "1h"}})).await;
    until_called(&operator, &world, instance, 2, "a changed spec").await;
    world.secret("a", "Xyz789").await;
    until_called(&operator, &world, instance, 3, "a changed Secret").await;
    // A label is no reason.
    world.change("a", json!({"metadata": {"labels": {"a": "b"}}})).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(instance).len(), 4);
    assert_eq!(world.calls(&instances[1]).len(), 1, "nobody asked for this one");

    // What passes releases the other one.
    allow(&world, MODIFY, true);
    let later = Timestamp::now().to_string();
    world.change("a", json!({"metadata": {"annotations": {ROTATE_AT: later}}})).await;
    world.until_ready("a").await;
    world.until_ready("b").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_stamp_of_a_fleet_makes_its_denied_members_try() {
    let world = World::new().await;
    let operator = world.operator_before(setup(&world, NEVER)).await;
    let instances = vncpassword_test_support::fleet::instances(&world, 3);
    let fleet = Fleet::of(&world, &instances, json!({"rollout": {"pauseAfterFailures": 100}})).await;
    fleet.until_done(3).await;
    allow(&world, MODIFY, false);
    fleet.age(jiff::SignedDuration::from_mins(5)).await;
    let stamped = fleet.rotate_now().await;
    for child in fleet.children().await {
        let name = child.metadata.name.unwrap();
        world.until_stalled(&name, Reason::Denied).await;
        assert_eq!(world.status(&name).await.rotations, Some(1), "{name}");
    }
    allow(&world, MODIFY, true);
    // One a minute: without this the next one would wait. It is told to the second, and differs from the first.
    fleet.age(jiff::SignedDuration::from_mins(5)).await;
    fleet.rotate_at(stamped + Duration::from_secs(1)).await;
    until("all have rotated", async || {
        let children = fleet.children().await;
        children.iter().all(|child| child.status.as_ref().is_some_and(|status| status.rotations >= Some(2)))
    })
    .await;
    fleet.until_known(&instances).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_locked_shares_its_tries_with_nobody() {
    let world = World::new().await;
    let operator = world.operator_before(setup(&world, Duration::from_secs(1))).await;
    world.secret("locked", "Abc123").await;
    let instance = "i-locked";
    let locked = Fault::error(403, "InstanceLockedForSecurity").on(MODIFY).instance(instance);
    world.cloud().inject(locked);
    world.cloud().put_instance(vncpassword_emulator::Instance::new(instance));
    world.object_with("locked", json!({"instanceId": instance, "secretRef": {"name": "locked"}})).await;
    world.until_stalled("locked", Reason::Denied).await;
    // Another one that is denied is tried each minute.
    world.secret("denied", "Abc123").await;
    let denied = instance_of(&world, "denied");
    world.cloud().inject(Fault::error(403, "Forbidden.RAM").on(MODIFY).instance(&denied));
    world.object("denied").await;
    until("some tries", async || world.calls(&denied).len() >= 5).await;
    assert_eq!(world.calls(instance).len(), 1, "again in ten minutes");
    let asked = Timestamp::now().to_string();
    world.change("locked", json!({"metadata": {"annotations": {ROTATE_AT: asked}}})).await;
    until_called(&operator, &world, instance, 1, "rotate-at").await;
    operator.stop().await;
}
