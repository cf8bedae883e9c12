//! Claims rest on replies (DESIGN.md, R40 to R44): what forged records and statuses are worth, and what an object that takes
//! over an instance counts of the calls of others.

use std::time::Duration;

use jiff::SignedDuration;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::time::Instant;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};
use vncpassword_emulator::{AccessKey, Action, Entry, Fault, Instance, Reply, Status};
use vncpassword_operator::settings::Settings;

use super::{
    identity::{credentials_secret, settings_without_ambient},
    process::Program,
};
use vncpassword_test_support::{
    World,
    control_plane::shared_kubeconfig,
    observe::{instance_of, sent},
    rotation::{age, now, rotate_at, rotate_now, until_rotated},
    world::{PATIENCE, next_second, until, until_past},
};

const SETTLE: Duration = Duration::from_secs(6);
const MODIFY: Action = Action::ModifyInstanceVncPasswd;
/// From when a tenant writes a `rotate-at` until it falls due.
const SHORTLY: SignedDuration = SignedDuration::from_secs(1);

fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = SETTLE;
    settings
}

/// The Secret that a tenant forges: a value, and a record that says that it is in effect.
fn forged_secret(instance: &str) -> Value {
    let hash = Sha256::digest(format!("{instance}:Abc123"));
    let digest = hash.iter().fold(String::new(), |digest, byte| digest + &format!("{byte:02x}"));
    let record = json!({"instanceId": instance, "id": "0a1b", "drawnAt": "2026-01-02T03:04:05Z", "state": "done",
        "digest": digest, "requestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E"});
    let text = |value: &str| json!(k8s_openapi::ByteString(value.as_bytes().to_vec()));
    json!({"password": text("Abc123"), "password.rotation": text(&record.to_string())})
}

/// The status that a tenant forges, who may write statuses.
fn forged_status(keys: &str) -> Value {
    let condition = json!({"type": "Ready", "status": "True", "reason": "Applied", "message": "forged",
        "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": 1});
    json!({"requestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E", "acceptedAs": keys, "observedGeneration": 1,
        "lastRotationTime": "2026-01-02T03:04:05Z", "rotations": 1, "conditions": [condition],
        "applied": {"secretUid": "u", "secretResourceVersion": "1", "time": "2026-01-02T03:04:05Z", "rotation": "0a1b"},
        "instance": {"ioOptimized": true},
        "retry": {"nextAttemptTime": "2036-01-02T03:04:05Z", "unsettledUntil": "2036-01-02T03:04:05Z"}})
}

pub(super) async fn forge_status(tenant: &World, name: &str, keys: &str) {
    let status = Patch::Merge(json!({"status": forged_status(keys)}));
    tenant.objects().patch_status(name, &PatchParams::default(), &status).await.unwrap();
}

/// One forgery: its name, what is merged into the tenant's spec, whether there is a Secret, and a forged status.
type Forgery = (&'static str, Value, bool, bool);

fn forgeries() -> Vec<Forgery> {
    let generates = |keys: &str| json!({"rotation": {}, "credentialsRef": {"name": keys}});
    let users = |keys: &str| json!({"credentialsRef": {"name": keys}});
    vec![
        ("a record", generates("garbage"), true, false),
        ("a record of a user's object", users("garbage"), true, false),
        ("a record, a key without the right", generates("weak"), true, false),
        ("a record, no credentials", generates("missing"), true, false),
        ("a record, the operator's own identity", json!({"rotation": {}}), true, false),
        ("a record and a status", generates("garbage"), true, true),
        ("a status of a user's object", users("garbage"), true, true),
        ("a status, and no Secret", users("garbage"), false, true),
        ("a status, generated, and no Secret", generates("garbage"), false, true),
        ("a status, no credentials", generates("missing"), true, true),
        ("a status, a key without the right", generates("weak"), true, true),
        ("a status, a user's object, a key without the right", users("weak"), true, true),
        ("a status, a key without the right, and no Secret", users("weak"), false, true),
        (
            "a status, a region that there is not",
            json!({"regionId": "cn-nowhere", "credentialsRef": {"name": "weak"}}),
            true,
            true,
        ),
        ("a status, a role that there is not", generates("role"), true, true),
        ("a status, the operator's own identity", json!({"rotation": {}}), true, true),
        ("a status, suspended", json!({"suspend": true, "credentialsRef": {"name": "weak"}}), true, true),
    ]
}

/// After what the owner has applied: the forgery has kept it out for one call at the most, and has got the tenant nothing.
async fn assert_worthless(
    victim: &World,
    tenant: &World,
    number: usize,
    instance: &str,
    (name, _, _, status): &Forgery,
    applied: &str,
) {
    let owner = victim.status(&format!("v{number}")).await;
    assert_ne!(owner.reason(ConditionType::Stalled), Some(Reason::Conflict), "{name}");
    let calls = victim.calls(instance);
    let owners = |call: &&Entry| call.access_key_id.as_deref() == Some(AccessKey::DEFAULT_ID);
    assert!(calls.iter().filter(|call| !owners(call)).all(|call| !call.applied()), "{name}: {calls:?}");
    let before: Vec<_> = calls.iter().take_while(|call| !owners(call)).collect();
    // One that proves the claim. A refused key is tried once more at once; and where the region is a wrong one, a call may
    // have been made before anybody contended, which proved nothing.
    let code = before.first().and_then(|call| call.code.as_deref());
    let again = matches!(code, Some("InvalidAccessKeyId.NotFound" | "InvalidRegionId.NotFound"));
    assert!(before.len() <= 1 + usize::from(again), "{name}: {before:?}");
    assert_eq!(victim.console(instance).as_deref(), Some(applied), "{name}");
    // Whoever may write the status may write there that the object is Ready.
    if !status {
        let status = tenant.status(&format!("t{number}")).await;
        assert_ne!(status.ready(), ConditionStatus::True, "{name}: {status:#?}");
    }
}

/// Everything that a tenant can write, against an owner of another identity: each forgery is older than the owner's object and
/// stands before the operator starts.
#[tokio::test(flavor = "multi_thread")]
async fn no_forgery_keeps_an_owner_from_its_instance() {
    let (victim, tenant) = (World::new().await, World::new().await);
    let cloud = victim.cloud();
    cloud.put_access_key(AccessKey::new("LTAIweak", "weak").only(["i-another"]));
    for (name, id) in [("garbage", "LTAIgarbage"), ("weak", "LTAIweak")] {
        credentials_secret(&tenant, name, &[("access-key-id", id), ("access-key-secret", name)]).await;
    }
    let role = [
        ("access-key-id", "LTAIweak"),
        ("access-key-secret", "weak"),
        ("role-arn", "acs:ram::1000000000000001:role/none"),
    ];
    credentials_secret(&tenant, "role", &role).await;
    let table = forgeries();
    let instances: Vec<String> =
        (0..table.len()).map(|number| instance_of(&victim, &format!("v{number}"))).collect();
    for (number, (_, extra, secret, status)) in table.iter().enumerate() {
        let (name, instance) = (format!("t{number}"), &instances[number]);
        cloud.put_instance(Instance::new(instance));
        if *secret {
            tenant.secret_data(&name, forged_secret(instance)).await;
        }
        let mut spec = json!({"instanceId": instance, "secretRef": {"name": name}});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        tenant.object_with(&name, spec).await;
        // It falls due before the operator starts: else it asks for a call of its own, at a time by chance.
        rotate_at(&tenant, &name, now() + SHORTLY).await;
        if *status {
            let keys = extra["credentialsRef"]["name"].as_str().unwrap_or_default();
            forge_status(&tenant, &name, keys).await;
        }
    }
    // Creation times are whole seconds.
    next_second().await;
    for (number, instance) in instances.iter().enumerate() {
        let name = format!("v{number}");
        victim.secret(&name, "Victim").await;
        victim.object_with(&name, json!({"instanceId": instance, "secretRef": {"name": name}})).await;
    }
    let mut settings = settings_without_ambient(&victim);
    settings.controller.ambient = vncpassword_operator::settings::Ambient::In(vec![victim.namespace.clone()]);
    settings.controller.namespaces.push(tenant.namespace.clone());
    settings.controller.settle = SETTLE;
    let operator = victim.operator_before(settings).await;
    for (number, instance) in instances.iter().enumerate() {
        victim.until_console(instance, "Victim").await;
        victim.until_ready(&format!("v{number}")).await;
    }
    for (number, forgery) in table.iter().enumerate() {
        assert_worthless(&victim, &tenant, number, &instances[number], forgery, "Victim").await;
    }
    // The same once more while the operator runs: what somebody writes into status and annotation changes nothing.
    for (number, (_, extra, _, status)) in table.iter().enumerate() {
        let name = format!("t{number}");
        if *status {
            let keys = extra["credentialsRef"]["name"].as_str().unwrap_or_default();
            forge_status(&tenant, &name, keys).await;
        }
        rotate_at(&tenant, &name, now() + SHORTLY).await;
    }
    until_past(now() + SHORTLY).await;
    operator.settled(&tenant).await;
    for (number, instance) in instances.iter().enumerate() {
        victim.secret(&format!("v{number}"), "Later1").await;
        victim.until_console(instance, "Later1").await;
    }
    for (number, forgery) in table.iter().enumerate() {
        assert_worthless(&victim, &tenant, number, &instances[number], forgery, "Later1").await;
    }
    operator.stop().await;
}

/// An owner under the operator's identity, a rival in another namespace with a key of the same account in Secret `keys`, and
/// settings for an operator of both.
async fn with_rival() -> (World, World, Settings) {
    let (owner, rival) = (World::new().await, World::new().await);
    let mut settings = settings(&owner);
    settings.controller.namespaces.push(rival.namespace.clone());
    owner.cloud().put_access_key(AccessKey::new("LTAIrival", "rival"));
    credentials_secret(&rival, "keys", &[("access-key-id", "LTAIrival"), ("access-key-secret", "rival")])
        .await;
    (owner, rival, settings)
}

/// The rival's object `b` names the instance, and is kept out.
async fn contend(rival: &World, instance: &str) {
    name_instance(rival, instance).await;
    rival.until_stalled("b", Reason::Conflict).await;
}

async fn name_instance(rival: &World, instance: &str) {
    rival.secret("b", "Rival2").await;
    let spec =
        json!({"instanceId": instance, "secretRef": {"name": "b"}, "credentialsRef": {"name": "keys"}});
    rival.object_with("b", spec).await;
}

/// A claim that rests on a status is proven by one call when another identity contends.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_proves_its_claim_once_after_a_restart() {
    let (owner, rival, settings) = with_rival().await;
    let operator = owner.operator_before(settings.clone()).await;
    let instance = owner.generated("a", json!({})).await;
    let before = owner.until_ready("a").await;
    let password = owner.values("a").await["password"].clone();
    operator.stop().await;
    let operator = owner.operator_before(settings).await;
    operator.settled(&owner).await;
    assert_eq!(owner.calls(&instance).len(), 1, "nobody contends");
    contend(&rival, &instance).await;
    until("it is proven", async || owner.calls(&instance).len() == 2).await;
    owner.until("a", "Ready again", |status| status.request_id != before.request_id).await;
    let status = owner.until_ready("a").await;
    assert_eq!(status.rotations, before.rotations);
    assert_eq!(sent(&owner.calls(&instance)), [&password, &password]);
    rival.secret("b", "Rival3").await;
    operator.settled(&rival).await;
    assert_eq!(owner.calls(&instance).len(), 2, "once");
    operator.stop().await;
}

/// As long as the object is not Ready, anything may open the console; when it is, its value does.
pub(super) async fn until_ready_and_right(world: &World, name: &str, instance: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let status = world.status(name).await;
        if status.ready() == ConditionStatus::True {
            let value = world.values(name).await.get("password").cloned();
            assert_eq!(world.console(instance), value, "Ready, but another password opens the console");
            if status.condition(ConditionType::Reconciling).is_none() {
                return;
            }
        }
        assert!(Instant::now() < deadline, "{name} is not Ready in time: {status:#?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_call_of_the_former_owner_does_not_stay_where_a_next_stands() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = instance_of(&world, "b");
    world.cloud().put_instance(Instance::new(&instance).status(Status::Stopped));
    let spec = json!({"instanceId": instance, "secretRef": {"name": "b"}, "rotation": {}});
    world.object_with("b", spec).await;
    world.until_reconciling("b", Reason::IncorrectInstanceStatus).await;
    world.change("b", json!({"spec": {"suspend": true}})).await;
    world.until("b", "suspended", |status| status.condition(ConditionType::Suspended).is_some()).await;
    world.cloud().put_instance(Instance::new(&instance));
    let late = Fault::late(Duration::from_secs(4), Reply::Reset);
    world.cloud().inject(late.on(MODIFY).instance(&instance).times(1));
    world.secret("a", "Former").await;
    world.object_with("a", json!({"instanceId": instance, "secretRef": {"name": "a"}})).await;
    world.until_reconciling("a", Reason::OutcomeUnknown).await;
    world.delete("a").await;
    world.change("b", json!({"spec": {"suspend": false}})).await;
    until_ready_and_right(&world, "b", &instance).await;
    let arrived = |call: &Entry| call.vnc_password.as_deref() == Some("Former") && call.applied();
    until("the late call has arrived", async || world.calls(&instance).iter().any(arrived)).await;
    until_ready_and_right(&world, "b", &instance).await;
    assert_eq!(world.status("b").await.rotations, Some(1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_call_outlives_its_object_and_its_secret() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let late = Fault::late(Duration::from_secs(3), Reply::Hang { for_ms: Some(6000) });
    world.cloud().inject(late.on(MODIFY).times(1));
    let instance = world.generated("a", json!({})).await;
    until("the call is under way", async || !world.calls(&instance).is_empty()).await;
    world.delete("a").await;
    world.secrets().delete("a", &kube::api::DeleteParams::default()).await.unwrap();
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}, "rotation": {}});
    world.object_with("a", spec).await;
    until_ready_and_right(&world, "a", &instance).await;
    let calls = world.calls(&instance);
    assert_ne!(sent(&calls)[0], *sent(&calls).last().unwrap());
    let waited = calls.last().unwrap().at.duration_since(calls[0].at);
    assert!(waited >= SignedDuration::try_from(SETTLE).unwrap(), "another value was sent after {waited}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_being_deleted_gives_up_its_claim() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    age(&world, "a", SignedDuration::from_mins(5)).await;
    world.change("a", json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    world.secret("b", "Young2").await;
    world.object_with("b", json!({"instanceId": instance, "secretRef": {"name": "b"}})).await;
    world.until_stalled("b", Reason::Conflict).await;
    world.delete("a").await;
    world.until_console(&instance, "Young2").await;
    rotate_now(&world, "a").await;
    until_ready_and_right(&world, "b", &instance).await;
    assert_ne!(world.status("a").await.ready(), ConditionStatus::True, "the console has another password");
    assert_eq!(
        world.calls(&instance).iter().filter(|call| sent(std::slice::from_ref(call))[0] != "Young2").count(),
        1
    );
    world.change("a", json!({"metadata": {"finalizers": null}})).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_being_deleted_starts_nothing_more() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let (held, free) = (world.generated("a", json!({})).await, world.generated("b", json!({})).await);
    for name in ["a", "b"] {
        world.until_ready(name).await;
        age(&world, name, SignedDuration::from_mins(5)).await;
        world.change(name, json!({"metadata": {"finalizers": ["example.com/hold"]}})).await;
    }
    world.delete("a").await;
    let before = world.values("a").await;
    for name in ["a", "b"] {
        rotate_now(&world, name).await;
    }
    // What was asked for later is done.
    until_rotated(&world, "b", 2).await;
    assert_eq!((world.calls(&held).len(), world.calls(&free).len()), (1, 2));
    assert_eq!(world.values("a").await, before);
    for name in ["a", "b"] {
        world.change(name, json!({"metadata": {"finalizers": null}})).await;
    }
    operator.stop().await;
}

/// Anybody who may create objects can name one instance in thousands of them: that must not cost the operator its memory.
#[tokio::test(flavor = "multi_thread")]
async fn three_thousand_objects_that_name_one_instance_cost_little_memory() {
    const OBJECTS: usize = 3000;
    let world = World::new().await;
    let instance = instance_of(&world, "crowd");
    world.cloud().put_instance(Instance::new(&instance));
    world.secret("crowd", "Abc123").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "crowd"}});
    let (first, spec) = (&world, &spec);
    futures::StreamExt::for_each_concurrent(futures::stream::iter(0..OBJECTS), 16, async |number| {
        first.object_with(&format!("o{number}"), spec.clone()).await;
    })
    .await;
    let program = Program::run_with(&shared_kubeconfig(), &world.namespace, &world.emulator, &[]).await;
    // Three thousand statuses are written meanwhile.
    let deadline = tokio::time::Instant::now() + 5 * PATIENCE;
    while world.console(&instance).as_deref() != Some("Abc123") {
        assert!(tokio::time::Instant::now() < deadline, "the oldest does not set its password in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let conflict =
        |status: &VncPasswordStatus| status.reason(ConditionType::Stalled) == Some(Reason::Conflict);
    let standing_back = async || {
        let objects = world.objects().list(&kube::api::ListParams::default()).await.unwrap();
        let objects = objects.items.iter().filter_map(|object| object.status.as_ref());
        objects.filter(|status| conflict(status)).count()
    };
    while standing_back().await < OBJECTS - 1 {
        assert!(tokio::time::Instant::now() < deadline, "not all others stand back in time");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let peak = program.peak_memory();
    #[allow(clippy::print_stdout, reason = "the figure that the limit is about")]
    {
        println!("peak memory at {OBJECTS} objects: {} MiB", peak >> 20);
    }
    assert!(peak < 100 << 20, "{} MiB", peak >> 20);
    assert_eq!(world.calls(&instance).len(), 1);
    program.end().await;
}

/// What a younger object of a tenant can do to an owner whose claim is a hint: its identity has no right, so its status counts
/// for nothing, and the owner makes no call.
#[tokio::test(flavor = "multi_thread")]
async fn a_status_of_an_identity_that_the_cloud_refuses_disturbs_nobody() {
    let (owner, tenant) = (World::new().await, World::new().await);
    let mut settings = settings_without_ambient(&owner);
    settings.controller.ambient = vncpassword_operator::settings::Ambient::In(vec![owner.namespace.clone()]);
    settings.controller.namespaces.push(tenant.namespace.clone());
    let garbage = [("access-key-id", "LTAIgarbage"), ("access-key-secret", "garbage")];
    for name in ["garbage", "gone"] {
        credentials_secret(&tenant, name, &garbage).await;
    }
    let operator = owner.operator_before(settings.clone()).await;
    let instance = owner.generated("a", json!({})).await;
    owner.until_ready("a").await;
    // Creation times are whole seconds: these are younger.
    next_second().await;
    for (name, keys) in [("forged", "garbage"), ("lost", "gone")] {
        tenant.secret(name, "Abc123").await;
        let spec =
            json!({"instanceId": instance, "secretRef": {"name": name}, "credentialsRef": {"name": keys}});
        tenant.object_with(name, spec).await;
        tenant.until_stalled(name, Reason::Conflict).await;
    }
    tenant.secrets().delete("gone", &kube::api::DeleteParams::default()).await.unwrap();
    credentials_secret(&tenant, "gone", &[("other", "nothing")]).await;
    operator.stop().await;
    let mut status = forged_status("garbage");
    status["lastRotationTime"] = json!("2099-01-02T03:04:05Z");
    for name in ["forged", "lost"] {
        let patch = Patch::Merge(json!({"status": status}));
        tenant.objects().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
    }
    let operator = owner.operator_before(settings).await;
    owner.change("a", json!({"spec": {"enforceInterval": "10h"}})).await;
    owner.until("a", "reconciled", |status| status.observed_generation == Some(2)).await;
    let status = owner.status("a").await;
    assert_eq!(status.ready(), ConditionStatus::True, "{status:#?}");
    assert_eq!(owner.calls(&instance).len(), 1, "the first one");
    operator.stop().await;
}

/// It names the instance, and may not use the operator's identity, under which the owner waits.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_without_an_identity_ends_no_look_that_the_owner_waits_for() {
    let (owner, tenant) = (World::new().await, World::new().await);
    let mut settings = settings(&owner);
    settings.controller.namespaces.push(tenant.namespace.clone());
    settings.controller.ambient = vncpassword_operator::settings::Ambient::In(vec![owner.namespace.clone()]);
    let operator = owner.operator_before(settings).await;
    let instance = instance_of(&owner, "a");
    owner.cloud().put_instance(Instance::new(&instance).not_optimized());
    owner.secret("a", "Abc123").await;
    owner.object_with("a", json!({"instanceId": instance, "secretRef": {"name": "a"}})).await;
    let followed = |status: &VncPasswordStatus| {
        status.accepted.as_ref().is_some_and(|accepted| accepted.start_time.is_some())
    };
    owner.until("a", "followed", followed).await;
    tenant.secret("t", "Xyz789").await;
    tenant.object_with("t", json!({"instanceId": instance, "secretRef": {"name": "t"}})).await;
    tenant.until_stalled("t", Reason::AmbientCredentialsDenied).await;
    // One more reconcile of it, after the owner has asked for its next look.
    tenant.change("t", json!({"spec": {"secretRef": {"key": "password"}, "enforceInterval": "1h"}})).await;
    tenant.until("t", "reconciled", |status| status.observed_generation == Some(2)).await;
    // Nor do others that come and go: an object that is younger is reconciled after them.
    for number in 0..5 {
        let name = format!("t{number}");
        tenant.object_with(&name, json!({"instanceId": instance, "secretRef": {"name": "t"}})).await;
        tenant.until_stalled(&name, Reason::AmbientCredentialsDenied).await;
        tenant.delete(&name).await;
    }
    tenant.object_with("last", json!({"instanceId": instance, "secretRef": {"name": "t"}})).await;
    tenant.until_stalled("last", Reason::AmbientCredentialsDenied).await;
    owner.cloud().restart(&instance);
    owner.until_ready("a").await;
    operator.stop().await;
}

/// Of two objects of one identity the older is suspended. It keeps the younger from the instance, so that one proves nothing;
/// and an object of another identity must not wait for a proof that cannot come.
#[tokio::test(flavor = "multi_thread")]
async fn a_claim_that_cannot_be_proven_keeps_nobody_out() {
    let (owner, rival, settings) = with_rival().await;
    let instance = instance_of(&owner, "older");
    owner.cloud().put_instance(Instance::new(&instance));
    for (name, suspend) in [("older", true), ("younger", false)] {
        owner.secret(name, "Abc123").await;
        let spec = json!({"instanceId": instance, "secretRef": {"name": name}, "suspend": suspend});
        owner.object_with(name, spec).await;
        // Both say that the API accepted their password.
        let accepted =
            json!({"status": {"requestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E", "acceptedAs": null}});
        owner.objects().patch_status(name, &PatchParams::default(), &Patch::Merge(accepted)).await.unwrap();
    }
    let operator = owner.operator_before(settings).await;
    name_instance(&rival, &instance).await;
    until("the rival's password is set", async || owner.calls(&instance).iter().any(Entry::applied)).await;
    operator.stop().await;
}

/// One reply that is lost must not leave the claim unproven: the rival would wait for ten minutes.
#[tokio::test(flavor = "multi_thread")]
async fn a_proof_whose_reply_was_lost_is_tried_again_soon() {
    let (owner, rival, settings) = with_rival().await;
    let operator = owner.operator_before(settings.clone()).await;
    let instance = instance_of(&owner, "a");
    owner.cloud().put_instance(Instance::new(&instance));
    owner.secret("a", "Abc123").await;
    owner.object_with("a", json!({"instanceId": instance, "secretRef": {"name": "a"}})).await;
    owner.until_ready("a").await;
    operator.stop().await;
    let operator = owner.operator_before(settings).await;
    owner.cloud().inject(Fault::reset_before().on(MODIFY).instance(&instance).times(1));
    contend(&rival, &instance).await;
    until("it is proven", async || owner.calls(&instance).iter().filter(|call| call.applied()).count() == 2)
        .await;
    operator.stop().await;
}
