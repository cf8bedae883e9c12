//! Others who write what the operator writes or reads: how many calls and writes one object causes then, and that the
//! newest value is in effect afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, Reason, STATUS_CONTESTED};
use vncpassword_emulator::AccessKey;
use vncpassword_operator::settings::Ambient;

use super::identity::{credentials_secret, object_with_credentials};
use vncpassword_test_support::{World, world::until};

/// Changes of one storm, and the pause between two.
const CHANGES: usize = 40;
const PAUSE: Duration = Duration::from_millis(100);

/// Cloud calls that one object may cause in that time: eight passwords and four polls at once, then one of each every half
/// minute; the last may be made twice, since refused credentials are asked for anew.
fn allowed(begun: Instant) -> usize {
    12 + 2 * usize::try_from(begun.elapsed().as_secs() / 30).unwrap() + 2
}

/// Waits until the operator has handled what was written before.
async fn barrier(world: &World, name: &str) {
    world.secret(name, "Abc123").await;
    world.object(name).await;
    world.until_ready(name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_controller_that_rewrites_a_secret_is_named_and_causes_a_few_calls() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let rewritten = json!({"password": k8s_openapi::ByteString(b"Rewr1t".to_vec())});
    let secret =
        json!({"metadata": {"name": "s", "labels": {"vncpassword.dev/writable": "true"}}, "data": rewritten});
    let secret = serde_json::from_value(secret).unwrap();
    let secrets = world.secrets();
    secrets.create(&PostParams::default(), &secret).await.unwrap();
    let rewriter = tokio::spawn({
        let (secrets, rewritten) = (world.secrets(), rewritten.clone());
        async move {
            loop {
                tokio::time::sleep(Duration::from_millis(20)).await;
                let Ok(mut found) = secrets.get("s").await else { continue };
                if found.data.as_ref().is_some_and(|data| data.len() > 1) {
                    found.data = Some(serde_json::from_value(rewritten.clone()).unwrap());
                    // Where the operator was faster, the next turn does it.
                    secrets.replace("s", &PostParams::default(), &found).await.ok();
                }
            }
        }
    });
    let instance = world.generated("s", json!({"interval": "720h"})).await;
    let status = world.until_stalled("s", Reason::CompetingWriters).await;
    assert_eq!(status.ready(), ConditionStatus::False);
    barrier(&world, "after").await;
    let calls = world.calls(&instance).len();
    assert!((1..=6).contains(&calls), "{calls} calls");
    assert_eq!(world.status("s").await, status, "said once");
    rewriter.abort();
    operator.stop().await;
}

/// Writes as fast as a storm, then the last value; waits until that opens the console, and counts the calls.
async fn storm(world: &World, name: &str, instance: &str, change: impl AsyncFn(usize)) {
    let calls = || {
        let of_instance =
            |entry: &vncpassword_emulator::Entry| entry.instance_ids.iter().any(|id| id == instance);
        world.cloud().journal().iter().filter(|entry| of_instance(entry)).count()
    };
    let (begun, before) = (Instant::now(), calls());
    for number in 0..CHANGES {
        change(number).await;
        tokio::time::sleep(PAUSE).await;
    }
    world.secret(name, "Last99").await;
    world.until_console(instance, "Last99").await;
    let (calls, allowed) = (calls() - before, allowed(begun));
    assert!(calls <= allowed, "{name}: {calls} calls, {allowed} allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_changes_without_end_causes_a_few_calls_and_the_newest_value_comes_into_effect() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.cloud().put_access_key(AccessKey::new("LTAItenant", "tenant-secret"));
    let names = ["value", "status", "region", "annotation", "anew"];
    let mut instances = Vec::new();
    for name in names {
        world.secret(name, "First1").await;
        instances.push(world.object(name).await);
    }
    for name in names {
        world.until_ready(name).await;
    }
    let keys = async |key: &str| {
        credentials_secret(&world, "keys", &[("access-key-id", "LTAItenant"), ("access-key-secret", key)])
            .await;
    };
    keys("wrong").await;
    let tenant = object_with_credentials(&world, "keyed", "keys").await;
    let objects = world.objects();
    let (objects, parameters) = (&objects, PatchParams::default());
    let merge = async |name: &str, change: Value| {
        objects.patch(name, &parameters, &Patch::Merge(change)).await.unwrap();
    };
    tokio::join!(
        storm(&world, "value", &instances[0], async |number| {
            world.secret("value", format!("Val{number:03}")).await;
        }),
        storm(&world, "status", &instances[1], async |_| {
            let lost = Patch::Merge(json!({"status": {"applied": null, "retry": null}}));
            objects.patch_status("status", &parameters, &lost).await.unwrap();
        }),
        storm(&world, "region", &instances[2], async |number| {
            let region = if number % 2 == 0 { "cn-beijing" } else { "cn-hangzhou" };
            merge("region", json!({"spec": {"regionId": region}})).await;
        }),
        storm(&world, "annotation", &instances[3], async |number| {
            let at = jiff::Timestamp::now();
            merge("annotation", json!({"metadata": {"annotations": {"vncpassword.dev/rotate-at": at}}}))
                .await;
            let lost = Patch::Merge(
                json!({"status": {"lastHandledRotateAt": null, "requestId": number.to_string()}}),
            );
            objects.patch_status("annotation", &parameters, &lost).await.unwrap();
        }),
        storm(&world, "anew", &instances[4], async |_| {
            objects.delete("anew", &DeleteParams::default()).await.ok();
            let spec = json!({"instanceId": instances[4], "secretRef": {"name": "anew"}});
            world.object_with("anew", spec).await;
        }),
        storm(&world, "keyed", &tenant, async |number| {
            keys(
                if number + 1 == CHANGES { "tenant-secret".to_owned() } else { format!("wrong{number}") }
                    .as_str(),
            )
            .await;
        }),
    );
    operator.stop().await;
}

/// Counts the versions that object `a` has after its creation: writes of its status, without those that met a conflict.
async fn count_writes(world: &World) -> Arc<AtomicUsize> {
    let (counted, objects) = (Arc::new(AtomicUsize::new(0)), world.objects());
    let from =
        objects.list_metadata(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let only = WatchParams::default().fields("metadata.name=a");
    tokio::spawn({
        let counted = Arc::clone(&counted);
        async move {
            let mut events = std::pin::pin!(objects.watch(&only, &from).await.unwrap());
            while let Some(Ok(event)) = events.next().await {
                if matches!(event, WatchEvent::Modified(_)) {
                    counted.fetch_add(1, Relaxed);
                }
            }
        }
    });
    counted
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_do_not_write_a_status_in_turn() {
    for generated in [false, true] {
        let world = World::new().await;
        let first = world.operator_before(world.settings()).await;
        let mut settings = world.settings();
        settings.controller.ambient = Ambient::In(vec!["elsewhere".to_owned()]);
        let second = world.operator_before(settings).await;
        let writes = count_writes(&world).await;
        let instance = if generated {
            world.generated("a", json!({})).await
        } else {
            world.secret("a", "Abc123").await;
            world.object("a").await
        };
        let told = async || world.events("a").await.iter().any(|(reason, _)| reason == STATUS_CONTESTED);
        until("an Event that names the conflict", told).await;
        until("a call", async || !world.calls(&instance).is_empty()).await;
        barrier_of_both(&world).await;
        let writes = writes.load(Relaxed);
        assert!((2..=4).contains(&writes), "{writes} writes; generated: {generated}");
        assert_eq!(world.calls(&instance).len(), 1);
        first.stop().await;
        second.stop().await;
    }
}

/// Waits until both operators have handled what was written before: each says of a new object what it alone says.
async fn barrier_of_both(world: &World) {
    world.secret("z", "Abc123").await;
    world.object("z").await;
    let said = async |reason: &str| world.events("z").await.iter().any(|(told, _)| told == reason);
    until("the second operator", async || said("AmbientCredentialsDenied").await).await;
    until("the first operator", async || said("Applied").await).await;
}
