//! Two objects that name one instance: one owns it, and the other takes over when it is gone.

use std::time::Duration;

use serde_json::json;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{Action, Fault, Instance, Reply};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    World,
    observe::{instance_of, pending, said, seconds_between, sent, told_once},
    world::next_second,
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;
const SETTLE: Duration = Duration::from_secs(6);

/// The usual ones, with a `--settle` that tests can wait for.
fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = SETTLE;
    settings
}

/// Makes an object with this value at an instance that others name too.
async fn claim(world: &World, name: &str, value: &str, instance: &str) {
    world.secret(name, value).await;
    world.object_with(name, json!({"instanceId": instance, "secretRef": {"name": name}})).await;
}

fn shared(world: &World) -> String {
    let instance = instance_of(world, "shared");
    world.cloud().put_instance(Instance::new(&instance));
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn the_older_one_owns_the_instance_and_the_other_names_it() {
    let world = World::new().await;
    let instance = shared(&world);
    claim(&world, "older", "Older1", &instance).await;
    next_second().await;
    claim(&world, "younger", "Young2", &instance).await;
    let operator = world.operator();
    let status = world.until_stalled("younger", Reason::Conflict).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::Conflict)));
    let message = &status.condition(ConditionType::Stalled).unwrap().message;
    assert!(message.contains("VncPassword older owns"), "{message}");
    told_once(&world, "younger", "Warning", Reason::Conflict).await;
    world.until_console(&instance, "Older1").await;
    world.secret("younger", "Young3").await;
    operator.settled(&world).await;
    assert_eq!(sent(&world.calls(&instance)), ["Older1"], "the other one makes no call");
    assert_eq!(world.status("younger").await.request_id, None);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_in_another_namespace_is_not_named() {
    let (world, other) = (World::new().await, World::new().await);
    let instance = shared(&world);
    let mut settings = settings(&world);
    settings.controller.namespaces.push(other.namespace.clone());
    let operator = world.operator_before(settings).await;
    claim(&world, "owner", "Owner1", &instance).await;
    world.until_ready("owner").await;
    claim(&other, "rival", "Rival2", &instance).await;
    let status = other.until_stalled("rival", Reason::Conflict).await;
    let told = told_once(&other, "rival", "Warning", Reason::Conflict).await;
    for text in [&status.condition(ConditionType::Ready).unwrap().message, &told] {
        assert!(text.contains("in another namespace"), "{text}");
        assert!(!text.contains("owner ") && !text.contains(&world.namespace), "{text}");
    }
    world.delete("owner").await;
    other.until_ready("rival").await;
    assert_eq!(world.console(&instance).as_deref(), Some("Rival2"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_over_sends_at_once_and_once_more_after_settle() {
    let world = World::new().await;
    let instance = shared(&world);
    let operator = world.operator_before(settings(&world)).await;
    claim(&world, "owner", "Owner1", &instance).await;
    world.until_ready("owner").await;
    claim(&world, "heir", "Heir22", &instance).await;
    world.until_stalled("heir", Reason::Conflict).await;
    world.delete("owner").await;
    let status = world.until_reconciling("heir", Reason::Settling).await;
    assert_eq!(said(&status), (ConditionStatus::True, Some(Reason::Settling), None));
    assert_eq!(sent(&world.calls(&instance)), ["Owner1", "Heir22"]);
    let status = world.until_ready("heir").await;
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Owner1", "Heir22", "Heir22"]);
    let waited = seconds_between(&calls[1], &calls[2]);
    assert!((5.0..10.0).contains(&waited), "sent once more after {waited} s");
    assert_eq!((status.rotations, &status.retry), (Some(1), &None));
    assert_eq!(status.request_id.as_ref(), Some(&calls[2].request_id));
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 3);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_call_of_the_former_owner_does_not_stay() {
    let world = World::new().await;
    let instance = shared(&world);
    let operator = world.operator_before(settings(&world)).await;
    let late = Fault::late(Duration::from_secs(4), Reply::Reset);
    world.cloud().inject(late.on(MODIFY).instance(&instance).times(1));
    claim(&world, "owner", "Owner1", &instance).await;
    world.until_reconciling("owner", Reason::OutcomeUnknown).await;
    next_second().await;
    claim(&world, "heir", "Heir22", &instance).await;
    world.until_stalled("heir", Reason::Conflict).await;
    world.delete("owner").await;
    world.until_console(&instance, "Heir22").await;
    world.until_console(&instance, "Owner1").await;
    let status = world.until_ready("heir").await;
    assert_eq!(world.console(&instance).as_deref(), Some("Heir22"));
    assert_eq!(status.rotations, Some(1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_act_leaves_the_instance_to_the_younger_one_until_that_is_gone() {
    for (status, code, reason) in [
        (403, "Forbidden.RAM", Reason::Denied),
        (404, "InvalidInstanceId.NotFound", Reason::InstanceNotFound),
    ] {
        let world = World::new().await;
        let instance = shared(&world);
        let operator = world.operator_before(settings(&world)).await;
        world.cloud().inject(Fault::error(status, code).on(MODIFY).instance(&instance).times(1));
        claim(&world, "older", "Older1", &instance).await;
        world.until_stalled("older", reason).await;
        next_second().await;
        // The younger one needs a while before it is accepted: the older one must not come back in between.
        world.cloud().inject(Fault::latency(Duration::from_secs(2)).on(Action::DescribeInstances).times(1));
        claim(&world, "younger", "Young2", &instance).await;
        world.until_ready("younger").await;
        // Accepted beats older, now that the older one could act again.
        world.until_stalled("older", Reason::Conflict).await;
        world.secret("older", "Older3").await;
        world.secret("younger", "Young4").await;
        world.until_console(&instance, "Young4").await;
        operator.settled(&world).await;
        assert_eq!(sent(&world.calls(&instance)), ["Older1", "Young2", "Young4"], "{code}");
        // Its backoff of ten minutes ends with the other's claim.
        world.delete("younger").await;
        world.until_console(&instance, "Older3").await;
        let status = world.until_ready("older").await;
        assert_eq!((status.rotations, pending(&status)), (Some(1), None), "{code}");
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_suspended_leaves_the_instance_to_the_younger_one_unless_it_was_accepted() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let (fresh, accepted) = (instance_of(&world, "fresh"), instance_of(&world, "accepted"));
    for instance in [&fresh, &accepted] {
        world.cloud().put_instance(Instance::new(instance));
    }
    let suspend = |suspend: bool| json!({"spec": {"suspend": suspend}});
    world.secret("fresh", "Fresh1").await;
    let spec = json!({"instanceId": fresh, "secretRef": {"name": "fresh"}, "suspend": true});
    world.object_with("fresh", spec).await;
    claim(&world, "accepted", "Taken1", &accepted).await;
    world.until_ready("accepted").await;
    world.change("accepted", suspend(true)).await;
    world.until("accepted", "suspended", |status| status.condition(ConditionType::Suspended).is_some()).await;
    next_second().await;
    claim(&world, "takes-over", "Young2", &fresh).await;
    claim(&world, "does-not", "Young2", &accepted).await;
    world.until_console(&fresh, "Young2").await;
    world.until_stalled("does-not", Reason::Conflict).await;

    world.change("fresh", suspend(false)).await;
    world.change("accepted", suspend(false)).await;
    world.until_stalled("fresh", Reason::Conflict).await;
    world.until_ready("accepted").await;
    assert_eq!(sent(&world.calls(&fresh)), ["Young2"]);
    assert_eq!(sent(&world.calls(&accepted)), ["Taken1"]);
    operator.stop().await;
}
