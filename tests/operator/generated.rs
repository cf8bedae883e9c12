//! Passwords that the operator draws, on a real API server: what stands in the Secret, and what becomes of it.

use std::time::Duration;

use http::Method;
use jiff::{SignedDuration, Timestamp};
use kube::api::DeleteParams;
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{AccessKey, Action, Fault, Instance, Status};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    Setup, World,
    barrier::SENTINEL,
    observe::{instance_of, let_the_backoff_pass, said, sent, told_once},
    rotation::{
        age, edit, generated_at, open, record, rotate_now, strong, until_rotated, until_values, version,
    },
    world::PATIENCE,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_made_and_its_password_opens_the_console() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    let status = world.until_ready("a").await;
    let values = world.values("a").await;
    assert_eq!(world.console(&instance), Some(values["password"].clone()));
    assert_eq!(status.rotations, Some(1));
    assert!(!values.contains_key("password.next"), "{values:?}");
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 1);
    assert_eq!(status.request_id.as_deref(), Some(calls[0].request_id.as_str()));
    assert!(status.condition(ConditionType::Reconciling).is_none());
    assert_eq!(status.ready(), ConditionStatus::True);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_keeps_the_former_value_and_the_record_tells_of_it() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let (first, former) = (world.values("a").await, record(&world, "a").await);
    assert!(!first.contains_key("password.previous"), "there was none before: {first:?}");
    age(&world, "a", SignedDuration::from_mins(5)).await;
    let asked = rotate_now(&world, "a").await;
    let status = until_rotated(&world, "a", 2).await;

    let values = world.values("a").await;
    let keys: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(keys, ["password", "password.previous", "password.rotation"]);
    assert_eq!(values["password.previous"], first["password"]);
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), [&first["password"], &values["password"]]);
    assert!(sent(&calls).iter().all(|password| strong(password)), "{values:?}");
    assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]));

    let record = record(&world, "a").await;
    assert_eq!(record["instanceId"], json!(instance));
    assert_eq!(record["state"], json!("done"));
    assert_ne!(record["id"], former["id"]);
    assert!(record["id"].as_str().is_some_and(|id| !id.is_empty()), "{record}");
    assert_eq!(record["rotateAt"], json!(asked.to_string()));
    assert!(record["digest"].as_str().is_some_and(|digest| digest.len() == 64), "{record}");
    assert_ne!(record["digest"], former["digest"]);
    assert_eq!((&record["next"], &record["unsettledUntil"]), (&Value::Null, &Value::Null));
    let drawn_at: Timestamp = record["drawnAt"].as_str().unwrap().parse().unwrap();
    assert!((asked..=Timestamp::now()).contains(&drawn_at), "{record}");
    for password in sent(&calls) {
        assert!(!record.to_string().contains(password), "the record holds a password");
        let object = serde_json::to_string(&world.objects().get("a").await.unwrap()).unwrap();
        assert!(!object.contains(password), "the object holds a password");
    }
    assert_eq!(status.request_id.as_ref(), Some(&calls[1].request_id));
    assert!(status.last_rotation_time.is_some_and(|last| last.0 >= asked));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_costs_one_call_two_writes_of_the_secret_and_one_of_the_status() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    age(&world, "a", SignedDuration::from_mins(5)).await;
    operator.settled(&world).await;
    let before = operator.requests().all().len();
    rotate_now(&world, "a").await;
    until_rotated(&world, "a", 2).await;
    operator.settled(&world).await;
    let requests = operator.requests().all();
    let mut requests: Vec<_> = requests[before..]
        .iter()
        .map(|(method, path)| format!("{method} {}", path.rsplit_once(&world.namespace).unwrap().1))
        .collect();
    requests.retain(|request| !request.ends_with("/events") && !request.contains(SENTINEL));
    let (read, write) = ("GET /secrets/a", "PATCH /secrets/a");
    assert_eq!(requests, [read, write, write, "PUT /vncpasswords/a/status"]);
    assert_eq!(world.calls(&instance).len(), 2);
    assert_eq!(world.calls_of(Action::DescribeInstances).len(), 1, "it was looked at once, for the first");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_on_its_way_stays_there_while_the_object_is_suspended() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = generated_at(&world, "a", Instance::default().status(Status::Stopped), json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    let next = world.values("a").await["password.next"].clone();
    world.change("a", json!({"spec": {"suspend": true}})).await;
    world.until("a", "suspended", |status| status.condition(ConditionType::Suspended).is_some()).await;
    world.cloud().set_status(&instance, Status::Running);
    let_the_backoff_pass(&world, "a").await;
    operator.settled(&world).await;
    assert_eq!((world.calls(&instance).len(), &world.values("a").await["password.next"]), (1, &next));
    world.change("a", json!({"spec": {"suspend": false}})).await;
    until_rotated(&world, "a", 1).await;
    assert_eq!(world.values("a").await["password"], next);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_secret_is_nobodys_and_an_object_made_anew_proves_it_by_one_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    let before = world.until_ready("a").await;
    let secret = world.secrets().get("a").await.unwrap();
    let password = world.values("a").await["password"].clone();
    assert_eq!(secret.type_.as_deref(), Some("Opaque"));
    let labels = secret.metadata.labels.clone().unwrap();
    assert_eq!(labels["app.kubernetes.io/managed-by"], vncpassword_core::api::FIELD_MANAGER);
    assert_eq!(labels["vncpassword.dev/instance-id"], instance);
    assert_eq!(secret.metadata.owner_references, None);
    assert_eq!(secret.metadata.finalizers, None);
    assert_eq!(world.objects().get("a").await.unwrap().metadata.finalizers, None);

    world.delete("a").await;
    operator.settled(&world).await;
    assert_eq!(world.secrets().get("a").await.unwrap(), secret, "it stays as it is");
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "rotation": {}});
    world.object_with("a", spec).await;
    let status = world.until_ready("a").await;
    operator.settled(&world).await;
    assert_eq!(world.values("a").await["password"], password, "no rotation");
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), [&password, &password], "the record alone does not prove it");
    assert_eq!((status.rotations, &status.request_id), (Some(1), &Some(calls[1].request_id.clone())));
    assert!(status.last_rotation_time <= before.last_rotation_time, "the record tells when it was drawn");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_keys_of_the_object_are_written() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret_data("a", json!({"password": "b3RoZXI=", "console.note": "aGVsbG8="})).await;
    let mark = json!({"metadata": {"labels": {"team": "a"}, "annotations": {"note": "b"}}});
    edit(&world, "a", mark).await;
    open(&world, "a").await;
    let spec = json!({"secretRef": {"name": "a", "key": "console"}});
    let instance = generated_at(&world, "a", Instance::default(), spec).await;
    world.until_ready("a").await;
    let values = world.values("a").await;
    let keys: Vec<_> = values.keys().map(String::as_str).collect();
    assert_eq!(keys, ["console", "console.note", "console.rotation", "password"]);
    assert_eq!((values["password"].as_str(), values["console.note"].as_str()), ("other", "hello"));
    assert_eq!(world.console(&instance).as_ref(), Some(&values["console"]));
    let metadata = world.secrets().get("a").await.unwrap().metadata;
    assert_eq!(metadata.labels.unwrap()["team"], "a");
    assert_eq!(metadata.annotations.unwrap()["note"], "b");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_deleted_in_sync_is_made_again_with_a_new_password() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let first = world.values("a").await;
    world.secrets().delete("a", &DeleteParams::default()).await.unwrap();
    let values = until_values(&world, "a", "made again", |values| values.contains_key("password")).await;
    until_rotated(&world, "a", 2).await;
    assert_ne!(values["password"], first["password"]);
    assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]));
    assert_eq!(world.calls(&instance).len(), 2);
    assert!(!values.contains_key("password.previous"), "nobody knows it any more: {values:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_drawn_for_an_instance_that_cannot_be_seen() {
    let world = World::new().await;
    world.cloud().put_access_key(AccessKey::default().denied(Action::DescribeInstances));
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::InstanceUnknown).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InstanceUnknown)));
    let message = told_once(&world, "a", "Warning", Reason::InstanceUnknown).await;
    assert!(message.contains("ecs:DescribeInstances"), "it names the right that is missing: {message}");
    operator.settled(&world).await;
    assert_eq!(world.secrets().get_opt("a").await.unwrap(), None);
    assert_eq!(world.calls(&instance), []);
    let looks = world.calls_of(Action::DescribeInstances).len();
    assert!(looks <= 2, "a look that shows nothing is not repeated at once: {looks}");
    operator.stop().await;

    // It looks again within its minute.
    world.cloud().put_access_key(AccessKey::default());
    let minute = Duration::from_secs(6);
    let operator = world.operator_with(Setup { minute, ..world.settings().into() });
    let status = world.until_ready("a").await;
    assert_eq!(status.instance.unwrap().io_optimized, Some(true));
    assert_eq!(world.console(&instance).as_ref(), Some(&world.values("a").await["password"]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_on_its_way_that_is_deleted_is_drawn_again_after_settle() {
    let world = World::new().await;
    let mut settings: Settings = world.settings();
    settings.controller.settle = Duration::from_secs(4);
    let operator = world.operator_before(settings).await;
    let instance = generated_at(&world, "a", Instance::default().status(Status::Stopped), json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    let lost = world.values("a").await["password.next"].clone();
    let begun = Timestamp::now();
    edit(&world, "a", json!({"data": {"password.next": null}})).await;
    let values =
        until_values(&world, "a", "drawn again", |values| values.contains_key("password.next")).await;
    let waited = begun.duration_until(Timestamp::now()).as_secs_f64();
    assert!((4.0..9.0).contains(&waited), "drawn again after {waited} s");
    assert_ne!(values["password.next"], lost);
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    world.cloud().set_status(&instance, Status::Running);
    let_the_backoff_pass(&world, "a").await;
    world.until_ready("a").await;
    assert_eq!(world.values("a").await["password"], values["password.next"]);
    assert_eq!(sent(&world.calls(&instance)), [&lost, &values["password.next"], &values["password.next"]]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_on_its_way_is_neither_replaced_by_a_request_nor_by_a_restart_of_the_operator() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = generated_at(&world, "a", Instance::default().status(Status::Stopped), json!({})).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    let next = world.values("a").await["password.next"].clone();
    rotate_now(&world, "a").await;
    operator.settled(&world).await;
    assert_eq!(world.values("a").await["password.next"], next);
    operator.stop().await;
    let written = version(&world, "a").await;
    let operator = world.operator_before(world.settings()).await;
    operator.settled(&world).await;
    assert_eq!(version(&world, "a").await, written, "it waits without writing");
    world.cloud().set_status(&instance, Status::Running);
    let_the_backoff_pass(&world, "a").await;
    until_values(&world, "a", "in effect", |values| values.get("password") == Some(&next)).await;
    assert_eq!(sent(&world.calls(&instance)), [&next; 2]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_the_secret_during_a_call_do_not_hurt() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let slow = || Fault::latency(Duration::from_secs(2)).times(1);
    let label = json!({"metadata": {"labels": {"team": "a"}}});
    let value = json!({"stringData": {"password": "Edit42"}});
    for (name, change) in [("labelled", label), ("edited", value)] {
        let instance = instance_of(&world, name);
        world.cloud().inject(slow().on(Action::ModifyInstanceVncPasswd).instance(&instance));
        world.generated(name, json!({})).await;
        let call = world
            .cloud()
            .next_call(0, |call| call.vnc_password.is_some() && call.instance_ids.first() == Some(&instance));
        let call = tokio::time::timeout(PATIENCE, call).await.unwrap();
        edit(&world, name, change).await;
        world.until_ready(name).await;
        let values = world.values(name).await;
        assert_eq!(call.vnc_password.as_ref(), Some(&values["password"]), "{name}");
        assert_eq!(world.console(&instance).as_ref(), Some(&values["password"]), "{name}");
        assert_eq!(world.calls(&instance).len(), 1, "{name}");
        assert!(!values.contains_key("password.next"), "{name}");
    }
    let labels = world.secrets().get("labelled").await.unwrap().metadata.labels.unwrap();
    assert_eq!(labels["team"], "a");
    let posts = operator.requests().count(&Method::POST, "/secrets");
    assert_eq!(posts, 2);
    operator.stop().await;
}
