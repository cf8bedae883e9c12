//! A thousand objects: one call each, and nothing at all while they are in sync.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use jiff::Timestamp;
use kube::api::{ListParams, ObjectList};
use tokio::time::Instant;
use vncpassword_core::api::{ConditionStatus, VncPassword};
use vncpassword_emulator::{Action, Fault};
use vncpassword_test_support::{World, barrier::SENTINEL, observe::events_since, world::PATIENCE};

/// How many objects, unless `SCALE_OBJECTS` says otherwise.
const OBJECTS: usize = 1000;

fn count() -> usize {
    std::env::var("SCALE_OBJECTS").map_or(OBJECTS, |objects| objects.parse().unwrap())
}

async fn list(world: &World) -> ObjectList<VncPassword> {
    world.objects().list(&ListParams::default()).await.unwrap()
}

/// Creates the objects with their Secrets; returns their instances.
async fn create(world: &World) -> Vec<String> {
    stream::iter(0..count())
        .map(|number| async move {
            let name = format!("o{number}");
            world.secret(&name, format!("Pw{:04}", number % 10_000)).await;
            Ok::<_, kube::Error>(world.object(&name).await)
        })
        .buffered(16)
        .try_collect()
        .await
        .unwrap()
}

async fn until_all_are_ready(world: &World) {
    let begun = Instant::now();
    loop {
        let objects = list(world).await;
        let ready = objects.iter().filter(|object| {
            object.status.as_ref().is_some_and(|status| status.ready() == ConditionStatus::True)
        });
        if ready.count() == count() {
            return;
        }
        assert!(
            begun.elapsed() < PATIENCE * 4 * u32::try_from(count().div_ceil(OBJECTS)).unwrap(),
            "not all are Ready in time"
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// One poll of the instance each before the first call: 100 instances a DescribeInstances call.
#[tokio::test(flavor = "multi_thread")]
async fn new_objects_share_the_polls_before_their_first_calls() {
    let world = World::new().await;
    world.cloud().inject(Fault::latency(Duration::from_millis(300)).on(Action::DescribeInstances));
    create(&world).await;
    let operator = world.operator_before(world.settings()).await;
    until_all_are_ready(&world).await;
    let polls = world.calls_of(Action::DescribeInstances);
    #[allow(clippy::print_stderr, reason = "figures for people")]
    {
        eprintln!("{} objects: {} DescribeInstances calls", count(), polls.len());
    }
    // 100 instances a call; benchmarks are not tests, so the machine may be slow.
    assert!(polls.len() <= count() / 25, "{} calls", polls.len());
    let requests = operator.requests().all();
    let reads = requests.iter().filter(|(method, path)| method == Method::GET && path.contains("/secrets/"));
    let reads = reads.count();
    assert!((count()..=count() + count() / 10).contains(&reads), "{reads} reads");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_get_one_call_each_and_a_restart_costs_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = create(&world).await;
    until_all_are_ready(&world).await;
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), count());
    for (number, instance) in instances.iter().enumerate() {
        assert_eq!(world.console(instance), Some(format!("Pw{:04}", number % 10_000)));
    }
    // A GET of the Secret and a PUT of the status each; a Secret that came in between may be looked for in vain.
    let patches = operator.requests().count(&Method::PUT, "/status");
    assert!(patches <= count() + count() / 10, "{patches} status writes");
    operator.stop().await;

    let versions = |objects: &ObjectList<VncPassword>| -> Vec<_> {
        let objects = objects.iter().map(|object| &object.metadata);
        let objects = objects.filter(|metadata| metadata.name.as_deref() != Some(SENTINEL));
        objects.map(|metadata| metadata.resource_version.clone()).collect()
    };
    let before = versions(&list(&world).await);
    let begun = Timestamp::now();
    let operator = world.operator_before(world.settings()).await;
    operator.settled(&world).await;
    assert_eq!(operator.requests().own(), [], "in sync: no request at all");
    assert_eq!(events_since(&world, begun).await, []);
    let later = operator.metric("vncpassword_operator_queue_scheduled{queue=\"objects\"}").await;
    assert_eq!(later, Some(1.0), "nor later: only the barrier's own object waits for a time");
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), count());
    assert_eq!(versions(&list(&world).await), before);
    operator.stop().await;
}
