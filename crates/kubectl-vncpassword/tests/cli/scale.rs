//! A thousand objects: lists come in pages, and a rotation of all keeps up with the operator and survives a lost watch.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use jiff::{SignedDuration, Timestamp};
use kube::api::ListParams;
use serde_json::json;
use tokio::time::{Instant, sleep};
use vncpassword_core::api::ConditionStatus;
use vncpassword_emulator::Action;

use super::{plugin::Plugin, states};
use vncpassword_test_support::{
    World,
    control_plane::ControlPlane,
    world::{PATIENCE, until_past},
};

const OBJECTS: usize = 1000;

/// Objects whose Secrets are the user's, with an instance each.
async fn objects(world: &World) {
    stream::iter(0..OBJECTS)
        .for_each_concurrent(16, |number| async move {
            let name = format!("o{number:03}");
            world.secret(&name, format!("Pw{number:04}")).await;
            world.object(&name).await;
        })
        .await;
}

async fn ready(world: &World) -> usize {
    let objects = world.objects().list(&ListParams::default()).await.unwrap();
    let ready = objects.iter().filter(|object| {
        object.status.as_ref().is_some_and(|status| status.ready() == ConditionStatus::True)
    });
    ready.count()
}

/// When the last of them had its rotation.
async fn last_rotation(world: &World) -> Timestamp {
    let objects = world.objects().list(&ListParams::default()).await.unwrap();
    let rotations = objects.iter().map(|object| object.status.as_ref()?.last_rotation_time.as_ref());
    rotations.map(|last| last.unwrap().0).max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_are_listed_in_pages_and_rotated_though_the_watch_is_lost() {
    let mut plane = tokio::task::block_in_place(|| ControlPlane::start_with(&["--audit"]));
    let world = World::on(&plane).await;
    let plugin = Plugin::at(&plane.kubeconfig(), &world.namespace);
    let operator = world.operator_before(world.settings()).await;
    objects(&world).await;
    let deadline = Instant::now() + PATIENCE * 4;
    while ready(&world).await < OBJECTS {
        assert!(Instant::now() < deadline, "not all are Ready in time");
        sleep(Duration::from_secs(1)).await;
    }

    let begun = Instant::now();
    let listed = plugin.run("status").await;
    eprintln!("status of {OBJECTS}: {:?}", begun.elapsed());
    listed.assert_code(0);
    assert_eq!(listed.out.lines().count(), OBJECTS + 1);
    let log = plane.audit_log();
    let pages = log.lines().filter(|line| line.contains("kubectl-vncpassword") || line.contains("limit=500"));
    let pages: Vec<&str> =
        pages.filter(|line| line.contains("/vncpasswords?") && line.contains("limit=500")).collect();
    assert!(pages.iter().any(|line| line.contains("continue=")), "{pages:#?}");

    // The last of them is more than a minute old by then.
    until_past(last_rotation(&world).await + SignedDuration::from_secs(61)).await;
    let calls = world.calls_of(Action::ModifyInstanceVncPasswd).len();
    let begun = Instant::now();
    let mut rotation = plugin.start("rotate --all --wait --yes --timeout 5m");
    let mut lines = Vec::new();
    while lines.len() < OBJECTS / 5 {
        lines.push(rotation.line().await.expect("it ends too soon"));
    }
    tokio::task::block_in_place(|| plane.say("kill apiserver"));
    let lost = rotation.remark("the watch was lost and is taken up again").await;
    tokio::task::block_in_place(|| plane.say("start apiserver"));
    let ran = rotation.end().await;
    eprintln!("rotation of {OBJECTS}: {:?}; {lost}", begun.elapsed());
    ran.assert_code(0);
    lines.extend(ran.out.lines().map(str::to_owned));
    assert!(ran.err.contains(&format!("{OBJECTS} of {OBJECTS} rotated in ")), "{}", ran.err);
    let told: BTreeMap<&str, &str> =
        lines.iter().map(|line| line.split_once(": sent again, RequestId ").expect("another line")).collect();
    assert_eq!((lines.len(), told.len()), (OBJECTS, OBJECTS), "each once");
    for object in world.objects().list(&ListParams::default()).await.unwrap() {
        let label = object.metadata.name.unwrap();
        assert_eq!(told[label.as_str()], object.status.unwrap().request_id.unwrap(), "{label}");
    }
    assert!(world.calls_of(Action::ModifyInstanceVncPasswd).len() >= calls + OBJECTS);
    let shown = plugin.run("get o123 --show").await;
    shown.assert_code(0);
    assert_eq!(shown.out, "Pw0123");
    operator.stop().await;
}

const MANY: usize = 10_000;

/// How long a list of so many may take: of a release build 2 s, and of a debug build what it needs.
const BUDGET: Duration =
    if cfg!(debug_assertions) { Duration::from_secs(20) } else { Duration::from_secs(2) };

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_are_listed_in_time() {
    let plane = tokio::task::block_in_place(ControlPlane::start);
    let world = World::on(&plane).await;
    let plugin = Plugin::at(&plane.kubeconfig(), &world.namespace);
    stream::iter(0..MANY)
        .for_each_concurrent(32, |number| {
            let world = &world;
            async move {
                let status = json!({"observedGeneration": 1, "conditions": [states::in_effect(states::DAY)],
                    "requestId": "7C2F3A10-0000-4000-8000-000000000001", "lastRotationTime": states::ago(states::DAY),
                    "rotations": 3, "instance": {"regionId": "cn-hangzhou", "status": "Running", "ioOptimized": true},
                    "applied": {"secretUid": "7c2f3a10-0000-4000-8000-000000000001", "secretResourceVersion": "123456",
                        "time": states::ago(states::DAY)}});
                states::put(world, &format!("o{number:05}"), json!({"rotation": {"interval": "720h"}}), status).await;
            }
        })
        .await;
    let mut fastest = Duration::MAX;
    for _ in 0..3 {
        let begun = Instant::now();
        let ran = plugin.run("status").await;
        fastest = fastest.min(begun.elapsed());
        ran.assert_code(0);
        assert_eq!(ran.out.lines().count(), MANY + 1);
    }
    eprintln!("status of {MANY}: {fastest:?}");
    assert!(fastest <= BUDGET, "{fastest:?}");
}
