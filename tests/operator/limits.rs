//! The API's rate limit: how much of it is used, how often it is hit, and who waits for how long. In real time: a minute of
//! the limit is a minute of the test.

use std::{collections::BTreeMap, time::Duration};

use futures::{StreamExt, stream};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;
use tokio::time::Instant;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPassword};
use vncpassword_emulator::{Action, Entry, Fault, Instance, Options};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    Setup, World,
    world::{PATIENCE, until, until_within},
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;

/// Creates a crowd of objects with Secrets; the operator sees them as they come.
async fn crowd(world: &World, objects: usize) {
    let created = stream::iter(0..objects).map(|number| async move {
        let name = format!("o{number}");
        world.secret(&name, format!("Pw{number:04}")).await;
        world.object(&name).await;
    });
    created.buffer_unordered(16).collect::<Vec<()>>().await;
}

/// Calls by minute of the emulator's clock: how many passed, how many were throttled.
fn by_minute(calls: &[Entry]) -> BTreeMap<i64, (usize, usize)> {
    let mut minutes = BTreeMap::new();
    for call in calls {
        let (passed, throttled) = minutes.entry(call.at.as_second().div_euclid(60)).or_insert((0, 0));
        *(if call.code.is_none() { passed } else { throttled }) += 1;
    }
    minutes
}

/// Waits until the emulator's clock shows that second of a minute.
async fn until_second(world: &World, second: i64) {
    let now = world.cloud().now().as_second();
    let wanted = now + (second - now).rem_euclid(60);
    until_within(PATIENCE * 2, "that second", async || world.cloud().now().as_second() >= wanted).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_uses_most_of_the_limit_and_one_of_another_namespace_gets_through() {
    let world = World::new().await;
    let settings = world.settings();
    let alone = format!("{}-alone", world.namespace);
    let namespace = serde_json::from_value(json!({"metadata": {"name": alone}})).unwrap();
    kube::Api::all(world.client.clone())
        .create(&PostParams::default(), &namespace as &k8s_openapi::api::core::v1::Namespace)
        .await
        .unwrap();
    let namespaces = vec![world.namespace.clone(), alone.clone()];
    let controller = vncpassword_operator::settings::ControllerSettings { namespaces, ..settings.controller };
    let operator = world.operator_before(Settings { controller, ..settings }).await;
    world.cloud().set_limit(MODIFY, Some(60));
    until_second(&world, 30).await;
    crowd(&world, 300).await;
    world.until_reconciling("o299", Reason::Throttled).await;

    // The first minute was throttled; in the second the crowd waits, and somebody wants one password now.
    until_second(&world, 15).await;
    let instance = format!("i-{}", alone.replace('-', ""));
    world.cloud().put_instance(Instance::new(&instance));
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "one"},
        "stringData": {"password": "Alone1"}});
    let secrets: kube::Api<k8s_openapi::api::core::v1::Secret> =
        kube::Api::namespaced(world.client.clone(), &alone);
    secrets.patch("one", &PatchParams::apply("test").force(), &Patch::Apply(secret)).await.unwrap();
    let object: VncPassword = serde_json::from_value(json!({"apiVersion": "vncpassword.dev/v1alpha1",
        "kind": "VncPassword", "metadata": {"name": "one"},
        "spec": {"instanceId": instance, "secretRef": {"name": "one"}}}))
    .unwrap();
    let objects: kube::Api<VncPassword> = kube::Api::namespaced(world.client.clone(), &alone);
    objects.create(&PostParams::default(), &object).await.unwrap();
    let asked = Instant::now();
    let passed = || world.calls_of(MODIFY).iter().filter(|call| call.code.is_none()).count();
    let before = passed();
    while world.calls(&instance).iter().all(|call| call.code.is_some()) {
        assert!(asked.elapsed() < PATIENCE, "it does not get through in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // By turns of the namespaces, not by the clock: the machine may be busy.
    let others = passed() - before;
    assert!(others <= 20, "{others} of the crowd were called before it");
    let waiting = world.status("o299").await;
    assert_eq!(waiting.reason(ConditionType::Reconciling), Some(Reason::Throttled), "the crowd still waits");
    assert_eq!(waiting.retry.and_then(|retry| retry.attempts), None, "without failing");

    let first = *by_minute(&world.calls_of(MODIFY)).keys().next().unwrap();
    let ended = async || world.cloud().now().as_second().div_euclid(60) > first + 3;
    until_within(PATIENCE * 6, "the end of the fourth minute", ended).await;
    let minutes = by_minute(&world.calls_of(MODIFY));
    // In the first minute the limiter is open, and in one of the others doubling meets the limit.
    let full: Vec<_> = minutes.values().skip(1).take(3).collect();
    assert_eq!(full.len(), 3, "{minutes:?}");
    let several = full.iter().filter(|(_, throttled)| *throttled > 1).count();
    assert!(several <= 1, "several throttled replies in {several} minutes: {minutes:?}");
    // How much is used where the machine is not busy is shown by the simulation of the limiter.
    assert!(full.iter().all(|(passed, _)| *passed >= 40), "{minutes:?}");
    // A status is written when the wait begins and when it ends, not at each look.
    let patches = operator.requests().count(&http::Method::PUT, "/status");
    assert!(patches <= 2 * 301 + 40, "{patches} status writes");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_throttled_reply_that_others_caused_costs_a_crowd_few_minutes() {
    const MINUTE: Duration = Duration::from_secs(10);
    const OBJECTS: usize = 300;
    let world = World::with(Options { minute: MINUTE, ..Options::default() }).await;
    let setup = Setup { minute: MINUTE, ..world.settings().into() };
    let operator = world.operator_before(setup).await;
    world.cloud().set_limit(MODIFY, Some(400));
    world.cloud().inject(Fault::throttled(None).on(MODIFY).times(1));
    crowd(&world, OBJECTS).await;
    let passed = |call: &&Entry| call.code.is_none();
    until_within(PATIENCE * 4, "a turn of each", async || {
        world.calls_of(MODIFY).iter().filter(passed).count() >= OBJECTS
    })
    .await;
    let calls = world.calls_of(MODIFY);
    let throttled: Vec<_> = calls.iter().filter(|call| call.code.is_some()).collect();
    assert_eq!(throttled.len(), 1, "the limit of 400 is not met");
    // A rate of what had passed in that minute would take more than ten minutes.
    let took = calls.last().unwrap().at.duration_since(throttled[0].at).as_secs_f64() / MINUTE.as_secs_f64();
    assert!(took < 5.0, "{took} minutes");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceiling_paces_calls_from_the_first_on_and_nothing_is_throttled() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.rates.add("ModifyInstanceVncPasswd=120/min").unwrap();
    let operator = world.operator_before(settings).await;
    crowd(&world, 30).await;
    until("a turn of each", async || world.calls_of(MODIFY).len() >= 30).await;
    let calls = world.calls_of(MODIFY);
    let took = calls[29].at.duration_since(calls[0].at).as_secs_f64();
    assert!(took >= 12.0, "30 calls at two a second took {took} s");
    for number in 0..30 {
        let status = world.until_ready(&format!("o{number}")).await;
        assert_eq!(status.ready(), ConditionStatus::True);
    }
    assert_eq!(world.calls_of(MODIFY).len(), 30);
    operator.stop().await;
}
