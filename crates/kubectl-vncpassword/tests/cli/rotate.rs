//! `rotate`: an operator and the emulator behind it.

use insta::assert_snapshot;
use jiff::{SignedDuration, Timestamp};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::{ClusterVncPassword, ConditionType, ROTATE_AT, VncPassword, VncPasswordStatus};
use vncpassword_emulator::{Instance, Status};

use super::{
    plugin::{Plugin, user},
    states,
};
use vncpassword_test_support::{
    Operator, World,
    fleet::{Fleet, instances},
};

/// An object whose password is five minutes old, so that it may be rotated at once.
pub async fn old(world: &World, name: &str) -> String {
    let instance = world.generated(name, json!({})).await;
    world.until_ready(name).await;
    age(world, name).await;
    instance
}

/// In the Secret's record and in the status: the later of the two counts.
async fn age(world: &World, name: &str) {
    let by = SignedDuration::from_mins(5);
    if let Some(record) = world.values(name).await.get("password.rotation") {
        let mut record: Value = serde_json::from_str(record).unwrap();
        let drawn_at: Timestamp = record["drawnAt"].as_str().unwrap().parse().unwrap();
        record["drawnAt"] = json!((drawn_at - by).to_string());
        let edit = Patch::Merge(json!({"stringData": {"password.rotation": record.to_string()}}));
        world.secrets().patch(name, &PatchParams::default(), &edit).await.unwrap();
    }
    let status = world.status(name).await;
    let (last, applied) = (status.last_rotation_time.unwrap().0, status.applied.unwrap().time.0);
    let times =
        json!({"lastRotationTime": (last - by).to_string(), "applied": {"time": (applied - by).to_string()}});
    let status = Patch::Merge(json!({"status": times}));
    world.objects().patch_status(name, &PatchParams::default(), &status).await.unwrap();
}

async fn asked(world: &World, name: &str) -> Option<String> {
    let object: VncPassword = world.objects().get(name).await.unwrap();
    object.metadata.annotations.unwrap_or_default().get(ROTATE_AT).cloned()
}

pub async fn operated() -> (World, Operator, Plugin) {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let plugin = Plugin::of(&world);
    (world, operator, plugin)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_is_waited_for_and_its_request_is_named() {
    let (world, operator, plugin) = operated().await;
    let instance = old(&world, "db-1").await;
    let before = world.console(&instance).unwrap();
    let ran = plugin.run("rotate db-1 --wait").await;
    ran.assert_code(0);
    let status = world.status("db-1").await;
    let id = status.request_id.unwrap();
    assert_eq!(ran.out, format!("db-1: rotated, RequestId {id}\n"));
    assert!(ran.err.starts_with("1 of 1 rotated in "), "{ran:?}");
    assert_ne!(world.console(&instance).unwrap(), before);
    assert_eq!(world.calls(&instance).last().unwrap().request_id, id);
    assert_eq!(asked(&world, "db-1").await, status.last_handled_rotate_at.map(|at| at.0.to_string()));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_there_is_a_bar() {
    let (world, operator, plugin) = operated().await;
    old(&world, "db-1").await;
    // It cannot be done before the instance runs, so the bar is seen.
    let name = "db-2";
    let instance = old(&world, name).await;
    world.cloud().set_status(&instance, Status::Stopped);
    let ran = plugin.on_terminal("rotate db-1 db-2 --wait --timeout 4s", "").await;
    ran.assert_code(3);
    assert!(ran.out.contains("\r\u{1b}[K[############------------] 1/2"), "{:?}", ran.out);
    let lines: Vec<&str> =
        ran.out.split(['\r', '\n']).map(|line| line.trim_start_matches("\u{1b}[K")).collect();
    assert!(lines.iter().all(|line| line.chars().count() < 80 || !line.starts_with('[')), "{lines:#?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_waits_for_is_said() {
    let (world, operator, plugin) = operated().await;
    let stopped = old(&world, "stopped").await;
    world.cloud().set_status(&stopped, Status::Stopped);
    let restart = format!("i-{}restart", world.namespace.replace('-', ""));
    world.cloud().put_instance(Instance::new(&restart).not_optimized());
    let spec = json!({"instanceId": restart, "secretRef": {"name": "restart"}, "rotation": {}});
    world.object_with("restart", spec).await;
    let waits = |status: &VncPasswordStatus| status.condition(ConditionType::RebootRequired).is_some();
    world.until("restart", "waiting for a restart", waits).await;
    old(&world, "suspended").await;
    world.change("suspended", json!({"spec": {"suspend": true}})).await;
    // Rotated just now.
    world.generated("young", json!({})).await;
    world.until_ready("young").await;
    let ran = plugin.run("rotate stopped restart suspended young --wait --timeout 8s").await;
    ran.assert_code(3);
    assert_eq!(ran.out, "", "none is through");
    for told in [
        "stopped: waits for another state of the instance (it is Stopped)",
        "restart: waits for a restart of the instance, which is yours to do",
        "suspended: is suspended, and waits until spec.suspend is removed",
        "young: was rotated less than a minute ago, and waits until the minute is over",
        "error: the time was up after 8s: ",
    ] {
        assert!(ran.err.contains(told), "{told}: {ran:#?}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_a_person_ends_with_1_and_the_others_are_rotated() {
    let (world, operator, plugin) = operated().await;
    let gone = old(&world, "gone").await;
    old(&world, "well").await;
    assert!(world.cloud().remove_instance(&gone));
    let ran = plugin.run("rotate gone well --wait --timeout 60s").await;
    ran.assert_code(1);
    assert!(ran.out.contains("well: rotated, RequestId "), "{ran:#?}");
    assert!(ran.out.contains("gone: failed: Instance"), "{ran:#?}");
    assert!(ran.err.contains("1 of 2 rotated in ") && ran.err.contains("1 failed"), "{ran:#?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_operator_the_time_is_up_and_that_is_suspected() {
    let world = World::new().await;
    states::put(&world, "a", json!({"rotation": {}}), json!({"conditions": [states::in_effect(90)]})).await;
    let ran = Plugin::of(&world).run("rotate a --wait --timeout 22s").await;
    ran.assert_code(3);
    assert!(ran.err.contains("is the operator running? See kubectl vncpassword doctor"), "{ran:?}");
    assert!(ran.err.contains(": a: under way; what is under way goes on"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dry_run_says_what_would_be_and_changes_nothing() {
    let world = World::new().await;
    states::all(&world).await;
    let ran = Plugin::of(&world).run("rotate --all --dry-run").await;
    assert_snapshot!("rotate_dry_run", ran.snapshot(&world));
    for object in ["web-1", "db-1"] {
        assert_eq!(asked(&world, object).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_twenty_are_asked_about() {
    let world = World::new().await;
    for number in 0..21 {
        states::put(&world, &format!("o{number:02}"), json!({}), json!({})).await;
    }
    let plugin = Plugin::of(&world);
    let ran = plugin.run("rotate --all").await;
    assert_snapshot!("rotate_unconfirmed", ran.snapshot(&world));
    let refused = plugin.on_terminal("rotate --all", "n\n").await;
    refused.assert_code(1);
    assert!(refused.out.contains("Rotate 21 passwords? [y/N]"), "{refused:?}");
    assert_eq!(asked(&world, "o00").await, None);
    let confirmed = plugin.on_terminal("rotate --all", "y\n").await;
    confirmed.assert_code(0);
    let first = asked(&world, "o20").await;
    assert!(first.is_some());
    let ran = plugin.run("rotate --all --yes").await;
    ran.assert_code(0);
    assert_eq!(ran.out.lines().count(), 21);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_it_is_named_once() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        states::put(&world, name, json!({}), json!({})).await;
    }
    let plugin = Plugin::of(&world);
    let reader = user(&world, "reader", &[("list", "vncpasswords"), ("get", "vncpasswords")]).await;
    let ran = plugin.run(&format!("rotate --all --wait --as {reader}")).await;
    let text = ran.snapshot(&world).replace(&reader, "reader");
    assert_snapshot!("rotate_forbidden", text);
    plugin.run("rotate a --as nobody").await.assert_code(1);
    // May ask, but not watch.
    let rights = [("list", "vncpasswords"), ("get", "vncpasswords"), ("patch", "vncpasswords")];
    let writer = user(&world, "writer", &rights).await;
    plugin.run(&format!("rotate a --as {writer}")).await.assert_code(0);
    let ran = plugin.run(&format!("rotate a --wait --as {writer}")).await;
    ran.assert_code(1);
    assert!(ran.err.contains("you may not watch VncPassword a in namespace"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_keeps_all_from_being_rotated() {
    let world = World::new().await;
    states::put(&world, "a", json!({}), json!({})).await;
    let ran = Plugin::of(&world).run("rotate a nothing").await;
    ran.assert_code(1);
    assert!(ran.err.contains("there is no VncPassword nothing in namespace"), "{ran:?}");
    assert_eq!(asked(&world, "a").await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_rotates_in_its_waves_and_each_request_is_named() {
    let (world, operator, plugin) = operated().await;
    let instances = instances(&world, 25);
    let fleet = Fleet::of(&world, &instances, json!({"rollout": {"maxConcurrent": 10}})).await;
    fleet.until_done(25).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    let target = format!("fleet/{}", fleet.name);
    let unconfirmed = plugin.run(&format!("rotate {target}")).await;
    unconfirmed.assert_code(2);
    let ran = plugin.run(&format!("rotate {target} --wait --yes --timeout 90s")).await;
    ran.assert_code(0);
    assert!(ran.out.contains(&format!("{target}: 25 of 25 rotated\n")), "{ran:#?}");
    for instance in &instances {
        let child = fleet.child_of(instance).await.unwrap();
        let id = child.status.unwrap().request_id.unwrap();
        let line = format!("{}: rotated, RequestId {id}\n", fleet.child(instance));
        assert!(ran.out.contains(&line), "{line}: {ran:#?}");
    }

    // One by itself, with a word about its fleet; all of the namespace through the fleet.
    let child = fleet.child(&instances[0]);
    let one = plugin.run(&format!("rotate {child}")).await;
    one.assert_code(0);
    assert!(one.err.contains(&format!("of fleet {}, rotated by themselves", fleet.name)), "{one:?}");
    let all = plugin.run("rotate --all --dry-run").await;
    assert!(all.out.contains(&target) && !all.out.contains(&child), "{all:?}");
    assert!(all.err.contains("25 of these belong to fleets"), "{all:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_suspended_waits() {
    let (world, operator, plugin) = operated().await;
    let fleet = Fleet::of(&world, &instances(&world, 2), json!({})).await;
    fleet.until_done(2).await;
    fleet.change(json!({"spec": {"suspend": true}})).await;
    let ran = plugin.run(&format!("rotate fleet/{} --wait --timeout 3s", fleet.name)).await;
    ran.assert_code(3);
    assert!(ran.err.contains("is suspended, and waits until spec.suspend is removed"), "{ran:?}");
    let fleets: Api<ClusterVncPassword> = Api::all(world.client.clone());
    assert!(fleets.get(&fleet.name).await.unwrap().metadata.annotations.unwrap().contains_key(ROTATE_AT));
    operator.stop().await;
}
