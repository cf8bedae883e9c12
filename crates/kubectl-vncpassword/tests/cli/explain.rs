//! `explain`: every state of an object and of a fleet, with rights and without, and among hundreds of others.

use std::fmt::Write as _;

use futures::future::join_all;
use insta::assert_snapshot;
use k8s_openapi::api::events::v1::Event;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, Reason};

use super::{
    plugin::{Plugin, user},
    states::{self, DAY, HOUR, MINUTE, ago, condition},
    timeless::timeless,
};
use vncpassword_test_support::{World, fleet::Fleet};

/// The answer without line breaks of a width, times and what is named after the test.
async fn explained(world: &World, line: &str) -> String {
    let ran = Plugin::of(world).run(&format!("explain {line} -o json")).await;
    ran.assert_code(0);
    let told: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    let mut text = String::new();
    for paragraph in &told {
        let field = |field: &str| paragraph[field].as_str().unwrap();
        writeln!(text, "[{}] {}", field("about"), field("text")).unwrap();
        for command in paragraph["commands"].as_array().into_iter().flatten() {
            writeln!(text, "  {}", command.as_str().unwrap()).unwrap();
        }
    }
    timeless(&text).replace(&world.namespace.replace('-', ""), "prod").replace(&world.namespace, "prod")
}

/// An object whose instance no other test has, and whose status is of its newest spec.
async fn put(world: &World, name: &str, mut spec: Value, mut status: Value) {
    spec["instanceId"] = json!(format!("i-{}{name}", world.namespace.replace('-', "")));
    status["observedGeneration"] = json!(1);
    states::put(world, name, spec, status).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_state_is_explained() {
    let world = World::new().await;
    let both = |status: &str, other: &str, reason: &str, message: &str| {
        json!([
            condition("Ready", status, reason, message, HOUR),
            condition(other, "True", reason, message, HOUR)
        ])
    };
    let in_effect = states::in_effect(DAY);
    let rotated = json!({"conditions": [in_effect], "lastRotationTime": ago(DAY), "requestId": "7C2F3A10",
        "nextRotationTime": ago(-DAY), "instance": {"regionId": "cn-hangzhou"}});
    let window = json!({"schedule": "0 0 1 1 *", "duration": "1m"});
    put(&world, "good", json!({"rotation": {"interval": "48h"}, "window": window}), rotated).await;
    world.secret("good", "Abc123").await;
    let retry = json!({"attempts": 4, "lastFailureTime": ago(MINUTE), "nextAttemptTime": ago(-MINUTE), "code": "Forbidden.RAM",
        "requestId": "7C2F3A11"});
    let denied = both("False", "Stalled", "Denied", "the ECS API denied the call (code Forbidden.RAM)");
    put(&world, "denied", json!({"rotation": {}}), json!({"conditions": denied, "retry": retry})).await;
    let throttled = both("True", "Reconciling", "Throttled", "the cloud account's limit on calls is used up");
    let retry = json!({"nextAttemptTime": ago(-MINUTE)});
    put(&world, "throttled", json!({}), json!({"conditions": throttled, "retry": retry})).await;
    let conditions =
        json!([in_effect, condition("RebootRequired", "True", "RebootRequired", "restart it", HOUR)]);
    put(&world, "restart", json!({"rotation": {}}), json!({"conditions": conditions})).await;
    let data = json!({"password": "QWJjMTIz", "password.next": "WHl6Nzg5", "password.rotation": "e30="});
    world.secret_data("restart", data).await;
    let unknown = both("Unknown", "Reconciling", "OutcomeUnknown", "no readable reply came");
    let retry = json!({"unsettledUntil": ago(-MINUTE)});
    put(&world, "unknown", json!({"rotation": {}}), json!({"conditions": unknown, "retry": retry})).await;
    let unheard = both("False", "Stalled", "OfANewerOperator", "what nobody here knows");
    put(&world, "newer", json!({}), json!({"conditions": unheard})).await;
    for name in ["good", "denied", "throttled", "restart", "unknown", "newer"] {
        assert_snapshot!(format!("explain_{name}"), explained(&world, name).await);
    }
    let never = json!({"instanceId": format!("i-{}never", world.namespace.replace('-', "")), "secretRef": {"name": "never"}});
    world.object_with("never", never).await;
    assert_snapshot!("explain_never_looked_at", explained(&world, "never").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_terminal_sentences_keep_to_it_and_commands_stay_whole() {
    let world = World::new().await;
    states::all(&world).await;
    let ran = Plugin::of(&world).on_terminal("explain db-2", "").await;
    ran.assert_code(0);
    for line in ran.out.lines().filter(|line| !line.starts_with("  ")) {
        assert!(line.chars().count() <= 80, "{line:?}");
    }
    let command = "  vncpassword-operator ram-policy --instance i-bp1db2";
    assert!(ran.out.lines().any(|line| line == command), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_explained() {
    let world = World::new().await;
    let fleet = states::fleet(&world).await;
    assert_snapshot!("explain_fleet", explained(&world, &format!("fleet/{fleet}")).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_caller_may_not_see_is_said_and_the_rest_is_told() {
    let world = World::new().await;
    put(
        &world,
        "a",
        json!({}),
        json!({"conditions": [
        condition("Ready", "False", "Conflict", "another VncPassword owns this instance", 5 * MINUTE),
        condition("Stalled", "True", "Conflict", "another VncPassword owns this instance", 5 * MINUTE)]}),
    )
    .await;
    let plugin = Plugin::of(&world);
    let reader = user(&world, "explainer", &[("get", "vncpasswords")]).await;
    assert_snapshot!("explain_without_rights", explained(&world, &format!("a --as {reader}")).await);
    let nobody = plugin.run("explain a --as nobody").await;
    nobody.assert_code(1);
    assert!(nobody.err.contains("you may not get VncPassword a"), "{nobody:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_understood_is_an_error() {
    let world = World::new().await;
    let plugin = Plugin::of(&world);
    for (line, code, said) in [
        ("explain gone", 1, "there is no VncPassword gone in namespace"),
        ("explain fleet/gone", 1, "there is no ClusterVncPassword gone"),
        ("explain pod/a", 2, "there is no kind"),
        ("explain", 2, "required"),
        ("explain a -o table", 2, "invalid value"),
    ] {
        let ran = plugin.run(line).await;
        ran.assert_code(code);
        assert!(ran.err.contains(said), "{line}: {ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_owner_is_found_among_a_thousand_and_events_are_those_of_the_object() {
    let world = World::new().await;
    let others = (0..1000).map(|n| {
        let (name, instance) = (format!("other-{n}"), format!("i-bp1other{n}"));
        let world = &world;
        async move {
            world.object_with(&name, json!({"instanceId": instance, "secretRef": {"name": name}})).await;
        }
    });
    join_all(others).await;
    let object = json!({"instanceId": "i-bp1other7", "secretRef": {"name": "mine"}});
    world.object_with("mine", object).await;
    let status = json!({"status": {"conditions": [
        condition("Ready", "False", "Conflict", "another VncPassword owns this instance", MINUTE)]}});
    let mine =
        world.objects().patch_status("mine", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let event = |n: usize, name: &str, uid: Option<String>, note: String| {
        let event = json!({"metadata": {"name": format!("{name}.{n}"), "namespace": world.namespace},
            "eventTime": format!("2026-01-02T03:{:02}:{:02}.000000Z", n / 60, n % 60), "reason": "Conflict", "type": "Warning",
            "action": "Reconcile", "reportingController": "test/test", "reportingInstance": "test", "note": note,
            "regarding": {"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword", "name": name,
                "namespace": world.namespace, "uid": uid}});
        serde_json::from_value::<Event>(event).unwrap()
    };
    let all = (0..150)
        .map(|n| event(n, "mine", mine.uid(), format!("mine {n}")))
        .chain(
            (150..160).map(|n| event(n, "mine", Some("of-the-one-before".to_owned()), format!("former {n}"))),
        )
        .chain((0..10).map(|n| event(n, "other-7", None, format!("theirs {n}"))));
    let all: Vec<Event> = all.collect();
    join_all(all.iter().map(|event| async { events.create(&PostParams::default(), event).await.unwrap() }))
        .await;

    let plugin = Plugin::of(&world);
    let ran = plugin.run("explain mine -o json").await;
    ran.assert_code(0);
    let told: Vec<Value> = serde_json::from_str(&ran.out).unwrap();
    let about = |topic: &str| {
        let texts = told.iter().filter(|told| told["about"] == topic);
        texts.map(|told| told["text"].as_str().unwrap()).collect::<Vec<_>>().join("\n")
    };
    let owner = about("owner");
    assert!(
        owner.contains(&format!("i-bp1other7 is also named by {}/other-7 (never looked at", world.namespace)),
        "{owner}"
    );
    assert!(!owner.contains("and"), "{owner}");
    let events = about("events");
    assert!(
        events.contains("mine 149") && events.contains("mine 142") && !events.contains("mine 141"),
        "{events}"
    );
    assert!(!events.contains("theirs") && !events.contains("former"), "{events}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_real_operator_says_is_explained() {
    let world = World::new().await;
    let operator = world.operator();
    let instance = world.object("console").await;
    world.until_stalled("console", Reason::SecretNotFound).await;
    let plugin = Plugin::of(&world);
    let ran = plugin.run("explain console").await;
    ran.assert_code(0);
    for expected in [
        format!("keeps the password of instance {instance}").as_str(),
        "Secret console does not exist",
        "reason SecretNotFound",
        "create secret generic console --from-file=password=/dev/stdin",
    ] {
        assert!(ran.out.contains(expected), "{expected:?}: {}", ran.out);
    }
    world.secret("console", "Abc123").await;
    // A slow machine may have lost a reply, and something may still be under way.
    world.until("console", "in effect", |status| status.ready() == ConditionStatus::True).await;
    let ran = plugin.run("explain console").await;
    assert!(ran.out.contains("Ready is True, reason Applied") && ran.out.contains("Lately:"), "{}", ran.out);
    assert!(!ran.out.contains("Abc123"));
    let fleet = Fleet::of(&world, &[instance], json!({})).await;
    fleet.until("it is looked at", |status| status.owned_elsewhere == 1).await;
    let ran = plugin.run(&format!("explain fleet/{}", fleet.name)).await;
    assert!(ran.out.contains("1 left to another VncPassword"), "{}", ran.out);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_waits_says_for_what() {
    let world = World::new().await;
    states::put(
        &world,
        "a",
        json!({"rotation": {}, "suspend": true}),
        json!({"conditions": [states::in_effect(MINUTE)]}),
    )
    .await;
    let annotate = json!({"metadata": {"annotations": {"vncpassword.dev/rotate-at": ago(-3600)}}});
    world.objects().patch("a", &PatchParams::default(), &Patch::Merge(annotate)).await.unwrap();
    let ran = Plugin::of(&world).run("explain a").await;
    assert!(
        ran.out.contains("asks for a rotation: it waits until spec.suspend is taken away"),
        "{}",
        ran.out
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_writes_the_same_key_of_the_secret_is_found_as_well() {
    let world = World::new().await;
    let conflict = json!({"conditions": [
        condition("Ready", "False", "Conflict", "another VncPassword writes to this key", MINUTE),
        condition("Stalled", "True", "Conflict", "another VncPassword writes to this key", MINUTE)]});
    put(&world, "first", json!({"rotation": {}, "secretRef": {"name": "shared"}}), json!({})).await;
    put(&world, "other", json!({"rotation": {}, "secretRef": {"name": "shared", "key": "other"}}), json!({}))
        .await;
    put(&world, "second", json!({"rotation": {}, "secretRef": {"name": "shared"}}), conflict).await;
    let text = explained(&world, "second").await;
    assert!(
        text.contains("Key password of Secret shared is also named by prod/first (never looked at, created"),
        "{text}"
    );
    assert!(!text.contains("prod/other"), "{text}");
}
