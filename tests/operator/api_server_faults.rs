//! Requests to the API server that are lost, and replies of it that are lost or late (DESIGN.md, R11, R12, R42, R44 and R46).

use std::time::Duration;

use jiff::SignedDuration;
use kube::api::DeleteParams;
use serde_json::json;
use tokio::time::Instant;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{AccessKey, Action, Fault, Instance, Reply};
use vncpassword_operator::settings::Settings;

use super::{
    claims::{forge_status, until_ready_and_right},
    identity::{credentials_secret, settings_without_ambient},
};
use vncpassword_test_support::{
    World,
    observe::{attempts, instance_of, sent},
    operator::Access,
    rotation::{generated_at, until_rotated},
    world::{PATIENCE, until},
};

const SETTLE: Duration = Duration::from_secs(6);
const MODIFY: Action = Action::ModifyInstanceVncPasswd;
/// So far the cloud's clock jumps: more than is taken for noise, and less than makes a signature too old.
const JUMP: Duration = Duration::from_mins(10);

fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = SETTLE;
    settings
}

/// The end of the path of an object's status.
fn status_of(name: &str) -> String {
    format!("/vncpasswords/{name}/status")
}

/// The end of the path of a Secret.
fn secret_at(name: &str) -> String {
    format!("/secrets/{name}")
}

/// The operator has handled all events about Secrets and objects up to now: a new object has its password.
async fn barrier(world: &World, name: &str) {
    world.secret(name, "Barr1r").await;
    let instance = world.object(name).await;
    world.until_console(&instance, "Barr1r").await;
}

async fn delete_secret(world: &World, name: &str) {
    world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
}

/// The cloud's clock jumps, and a call for another object teaches the operator that.
async fn the_clock_jumps(world: &World) {
    world.cloud().advance(JUMP);
    barrier(world, "other").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_write_whose_reply_is_lost_counts_one_call_once() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    // Accepted, and refused.
    for name in ["a", "b"] {
        operator.requests().lose_replies(Access::Write, &status_of(name), 1);
        world.secret(name, "Abc123").await;
    }
    let refused = instance_of(&world, "b");
    world.cloud().inject(Fault::error(403, "Forbidden.RAM").on(MODIFY).instance(&refused));
    let accepted = world.object("a").await;
    world.object("b").await;
    world.until_ready("a").await;
    world.until_stalled("b", Reason::Denied).await;
    // Meanwhile the queue has repeated both reconciles, on what stands.
    barrier(&world, "c").await;
    assert_eq!(world.status("a").await.rotations, Some(1));
    assert_eq!(world.calls(&accepted).len(), 1);
    // A refused call is made again after its backoff, so a slow machine sees more than one.
    until("as many are counted as were made", async || {
        let counted = attempts(&world.status("b").await).and_then(|count| usize::try_from(count).ok());
        counted == Some(world.calls(&refused).len())
    })
    .await;
    operator.stop().await;
}

/// The reply to the status write is lost, and the Secret changes meanwhile: the reconcile that the change wakes only records
/// the call.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_changes_while_a_call_is_recorded_is_applied() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let mut recording = operator.requests().hold_reply(Access::Write, &status_of("a"));
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    recording.arrived().await;
    world.secret("a", "Bcd234").await;
    barrier(&world, "b").await;
    recording.lose();
    world.until_console(&instance, "Bcd234").await;
    operator.stop().await;
}

/// Keys are renewed while the first promotion cannot be written: what the call was made with is not forgotten with the old
/// ones.
#[tokio::test(flavor = "multi_thread")]
async fn a_promotion_that_fails_while_the_keys_are_renewed_needs_no_restart() {
    let world = World::new().await;
    let mut settings = settings(&world);
    settings.controller.allow_reboot = true;
    let operator = world.operator_before(settings).await;
    for id in ["LTAIold", "LTAInew"] {
        world.cloud().put_access_key(AccessKey::new(id, "secret"));
    }
    let keys = |id| [("access-key-id", id), ("access-key-secret", "secret")];
    credentials_secret(&world, "keys", &keys("LTAIold")).await;
    let mut promotion = operator.requests().hold_request(Access::Write, &secret_at("a"));
    let spec = json!({"activation": "Reboot", "credentialsRef": {"name": "keys"}});
    let instance = generated_at(&world, "a", Instance::default(), spec).await;
    promotion.arrived().await;
    credentials_secret(&world, "keys", &keys("LTAInew")).await;
    // The first object that reads the new keys voids what was seen with the old ones.
    world.secret("b", "Abc123").await;
    let other = instance_of(&world, "b");
    world.cloud().put_instance(Instance::new(&other));
    let spec = json!({"instanceId": other, "secretRef": {"name": "b"}, "credentialsRef": {"name": "keys"}});
    world.object_with("b", spec).await;
    world.until_console(&other, "Abc123").await;
    assert_eq!(world.calls(&other)[0].access_key_id.as_deref(), Some("LTAInew"));
    promotion.lose();
    let status = world
        .until("a", "Ready", |status| {
            assert_eq!(status.reason(ConditionType::RebootRequired), None, "{status:#?}");
            status.ready() == ConditionStatus::True
        })
        .await;
    assert_eq!((status.rotations, status.accepted), (Some(1), None));
    assert_eq!(world.calls(&instance).len(), 1);
    assert!(world.calls_of(Action::RebootInstance).is_empty());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_read_before_the_clock_jumped_is_read_again_before_its_value_is_sent() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    world.secret("a", "Before").await;
    let mut read = operator.requests().hold_reply(Access::Read, &secret_at("a"));
    let instance = world.object("a").await;
    read.arrived().await;
    the_clock_jumps(&world).await;
    world.secret("a", "After1").await;
    read.release();
    world.until_console(&instance, "After1").await;
    world.until_ready("a").await;
    assert_eq!(sent(&world.calls(&instance)), ["After1"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_decided_on_before_the_clock_jumped_is_not_requested() {
    let world = World::new().await;
    let mut settings = settings(&world);
    settings.controller.allow_reboot = true;
    let operator = world.operator_before(settings).await;
    let path = status_of("a");
    let mut announced = operator.requests().hold_reply(Access::Write, &path);
    let spec = json!({"activation": "Reboot"});
    let instance = generated_at(&world, "a", Instance::default().not_optimized(), spec).await;
    loop {
        announced.arrived().await;
        if world.status("a").await.reboot_requested_at.is_some() {
            break;
        }
        let next = operator.requests().hold_reply(Access::Write, &path);
        announced.release();
        announced = next;
    }
    the_clock_jumps(&world).await;
    // A person is faster.
    world.cloud().restart(&instance);
    announced.release();
    until_rotated(&world, "a", 1).await;
    assert_eq!(world.calls_of(Action::RebootInstance), []);
    assert_eq!(world.console(&instance), world.values("a").await.get("password").cloned());
    operator.stop().await;
}

/// The Secret is deleted after the promotion, and the reply to the promotion comes when the watch has reported that.
#[tokio::test(flavor = "multi_thread")]
async fn a_secret_deleted_before_the_reply_to_its_write_came_is_made_again() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let mut promotion = operator.requests().hold_reply(Access::Write, &secret_at("a"));
    let instance = world.generated("a", json!({})).await;
    promotion.arrived().await;
    let lost = world.values("a").await["password"].clone();
    delete_secret(&world, "a").await;
    barrier(&world, "other").await;
    promotion.release();
    until("the Secret is made again", async || {
        let missing = world.secrets().get_opt("a").await.unwrap().is_none();
        let status = world.status("a").await;
        assert!(!missing || status.ready() != ConditionStatus::True, "Ready without a Secret: {status:#?}");
        !missing
    })
    .await;
    until_ready_and_right(&world, "a", &instance).await;
    assert_ne!(world.values("a").await["password"], lost);
    operator.stop().await;
}

/// Asserts that the first call and the first one of another value lie so far apart that the first cannot arrive after it.
fn settled_between(world: &World, instance: &str) {
    let calls = world.calls(instance);
    let values = sent(&calls);
    let other = values.iter().position(|value| *value != values[0]).expect("the Secret was deleted");
    let waited = calls[other].at.duration_since(calls[0].at);
    assert!(waited >= SignedDuration::try_from(SETTLE).unwrap(), "another value was sent after {waited}");
    assert!(calls[0].applied(), "the first one was to arrive late: {calls:?}");
}

/// A call whose reply is lost, and that arrives seconds later.
fn late_call() -> Fault {
    Fault::late(Duration::from_secs(3), Reply::Reset).on(MODIFY).times(1)
}

async fn create_again(world: &World, name: &str, instance: &str) {
    world.delete(name).await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": name}, "rotation": {}});
    world.object_with(name, spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_call_is_known_where_nothing_could_be_written_of_it() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    world.cloud().inject(late_call());
    // The Secret is created under another path; everything after the call is lost.
    operator.requests().lose_requests(Access::Write, &secret_at("a"), usize::MAX);
    let instance = world.generated("a", json!({})).await;
    until("the write is lost", async || {
        operator
            .requests()
            .all()
            .iter()
            .any(|(method, path)| *method != http::Method::GET && path.ends_with(&secret_at("a")))
    })
    .await;
    operator.requests().lose_requests(Access::Write, &status_of("a"), usize::MAX);
    delete_secret(&world, "a").await;
    create_again(&world, "a", &instance).await;
    operator.requests().clear_faults();
    until_ready_and_right(&world, "a", &instance).await;
    settled_between(&world, &instance);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_call_of_a_users_value_is_known_where_its_status_could_not_be_written() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    world.cloud().inject(late_call());
    operator.requests().lose_requests(Access::Write, &status_of("a"), usize::MAX);
    world.secret("a", "Users1").await;
    let instance = world.object("a").await;
    until("the write is lost", async || {
        operator.requests().all().iter().any(|(_, path)| path.ends_with(&status_of("a")))
    })
    .await;
    delete_secret(&world, "a").await;
    create_again(&world, "a", &instance).await;
    operator.requests().clear_faults();
    until_ready_and_right(&world, "a", &instance).await;
    settled_between(&world, &instance);
    operator.stop().await;
}

/// A process is killed during a call. The next one learns of it only from the object, which is then deleted.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_of_a_former_process_is_not_forgotten_with_its_object() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    world
        .cloud()
        .inject(Fault::late(Duration::from_secs(4), Reply::Hang { for_ms: None }).on(MODIFY).times(1));
    let instance = world.generated("a", json!({})).await;
    until("the call is under way", async || world.calls(&instance).len() == 1).await;
    operator.kill().await;
    delete_secret(&world, "a").await;
    let operator = world.operator_before(settings(&world)).await;
    world.until_reconciling("a", Reason::Settling).await;
    create_again(&world, "a", &instance).await;
    until_ready_and_right(&world, "a", &instance).await;
    settled_between(&world, &instance);
    operator.stop().await;
}

/// The claim of an object rests on a status that somebody forged, and its Secret cannot be read: it keeps nobody out for
/// long.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_whose_secret_cannot_be_read_gives_up_the_instance() {
    let (victim, tenant) = (World::new().await, World::new().await);
    let instance = instance_of(&victim, "v");
    victim.cloud().put_instance(Instance::new(&instance));
    victim.cloud().put_access_key(AccessKey::new("LTAIweak", "weak").only(["i-another"]));
    credentials_secret(&tenant, "weak", &[("access-key-id", "LTAIweak"), ("access-key-secret", "weak")])
        .await;
    tenant.secret("unread", "Abc123").await;
    let spec =
        json!({"instanceId": instance, "secretRef": {"name": "unread"}, "credentialsRef": {"name": "weak"}});
    tenant.object_with("unread", spec).await;
    forge_status(&tenant, "unread", "weak").await;
    victim.secret("v", "Victim").await;
    victim.object_with("v", json!({"instanceId": instance, "secretRef": {"name": "v"}})).await;
    let mut settings = settings_without_ambient(&victim);
    settings.controller.ambient = vncpassword_operator::settings::Ambient::In(vec![victim.namespace.clone()]);
    settings.controller.namespaces.push(tenant.namespace.clone());
    let operator = victim.operator_with(settings);
    operator.requests().lose_requests(Access::Read, &secret_at("unread"), usize::MAX);
    let deadline = Instant::now() + 2 * PATIENCE;
    while victim.console(&instance).as_deref() != Some("Victim") {
        assert!(Instant::now() < deadline, "the owner is kept out: {:#?}", tenant.status("unread").await);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(sent(&victim.calls(&instance)), ["Victim"]);
    operator.stop().await;
}
