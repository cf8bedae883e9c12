//! The status has one owner: whatever others wrote there goes with the operator's next write and keeps nothing from
//! happening (DESIGN.md, R58 and R60).

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::{
    ClusterVncPassword, ConditionStatus, ConditionType, FIELD_MANAGER, Reason, VncPassword,
};
use vncpassword_emulator::{Action, Fault};
use vncpassword_operator::settings::{ControllerSettings, Settings};
use vncpassword_test_support::{
    World,
    control_plane::ControlPlane,
    fleet::{self, Fleet},
    rotation::until_rotated,
    world::until,
};

fn condition(type_: &str, reason: &str) -> Value {
    json!({"type": type_, "status": "True", "reason": reason, "message": "Left behind.",
        "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

/// The usual settings, with a `--settle` that a test can wait for.
fn soon_settled(world: &World) -> Settings {
    let settings = world.settings();
    let controller = ControllerSettings { settle: Duration::from_secs(6), ..settings.controller };
    Settings { controller, ..settings }
}

/// Writes a status by server-side apply, as the last release of the operator did.
async fn applied<K>(api: &Api<K>, name: &str, manager: &str, status: Value)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let apply = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "metadata": {"name": name},
        "status": status});
    let parameters = PatchParams::apply(manager).force();
    api.patch_status(name, &parameters, &Patch::Apply(apply)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_in_a_status_goes_with_the_next_write_and_keeps_no_password_from_rotating() {
    let world = World::new().await;
    let stalled = json!({"conditions": [condition("Stalled", "Conflict"), condition("RebootRequired", "RebootRequired")],
        "observedGeneration": 1, "retry": {"attempts": 7, "code": "Left.Behind"}});
    let table = [("by-another", "another"), ("by-the-last-release", FIELD_MANAGER), ("by-a-person", "")];
    for (name, manager) in table {
        world.generated(name, json!({})).await;
        if manager.is_empty() {
            let patch = Patch::Merge(json!({"status": stalled}));
            world.objects().patch_status(name, &PatchParams::default(), &patch).await.unwrap();
        } else {
            applied(&world.objects(), name, manager, stalled.clone()).await;
        }
    }
    // What a status says may be of a former process, whose call may still arrive.
    let operator = world.operator_with(soon_settled(&world));
    for (name, _) in table {
        until_rotated(&world, name, 1).await;
        let status = world.until_ready(name).await;
        let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_).collect();
        assert_eq!((types, status.retry), (vec![ConditionType::Ready], None), "{name}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outcome_that_was_unknown_is_not_unknown_for_ever_where_managed_fields_are_stripped() {
    let world = World::new().await;
    let operator = world.operator_before(soon_settled(&world)).await;
    let lost = Fault::reset_after();
    world.cloud().inject(lost.on(Action::ModifyInstanceVncPasswd).times(1));
    world.generated("drawn", json!({})).await;
    world.until_reconciling("drawn", Reason::OutcomeUnknown).await;
    let strip = json!([{"op": "replace", "path": "/metadata/managedFields", "value": [{}]}]);
    let strip = Patch::Json::<()>(serde_json::from_value(strip).unwrap());
    world.objects().patch("drawn", &PatchParams::default(), &strip).await.unwrap();
    let status = world.until("drawn", "settled", |status| {
        status.ready() == ConditionStatus::True && status.retry.is_none() && status.conditions.len() == 1
    });
    assert_eq!(status.await.rotations, Some(1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_left_in_the_status_of_a_fleet_goes_with_the_next_write() {
    let world = World::new().await;
    let instances = fleet::instances(&world, 2);
    let fleet = Fleet::of(&world, &instances, json!({})).await;
    let left = json!({"conditions": [condition("Stalled", "Conflict"), condition("Suspended", "Suspended")],
        "failures": [{"name": "a", "instanceId": "i-a", "reason": "Denied", "message": "Left behind."}]});
    applied(&fleet.api(), &fleet.name, "another", left).await;
    let operator = world.operator();
    let status = fleet.until_done(2).await;
    let types: Vec<_> = status.conditions.iter().map(|condition| condition.type_).collect();
    assert_eq!((types, status.failures), (vec![ConditionType::Ready], vec![]));
    operator.stop().await;
}

/// Lets the kinds hold a type of condition that this operator does not know, as those of a newer one may.
async fn know_one_more_type(world: &World) {
    let crds = Api::<CustomResourceDefinition>::all(world.client.clone());
    for name in ["vncpasswords.vncpassword.dev", "clustervncpasswords.vncpassword.dev"] {
        let types = "/spec/versions/0/schema/openAPIV3Schema/properties/status/properties/conditions/items\
            /properties/type/enum/-";
        let patch = json!([{"op": "add", "path": types, "value": "OfANewerOperator"}]);
        let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
        crds.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

/// Adds a condition of that type to the status, once the API server takes it.
async fn add_unknown<K>(api: &Api<K>, name: &str)
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let patch = json!([{"op": "add", "path": "/status/conditions/-", "value": condition("OfANewerOperator", "News")}]);
    let patch = Patch::Json::<()>(serde_json::from_value(patch).unwrap());
    until("a newer condition is taken", async || {
        api.patch_status(name, &PatchParams::default(), &patch).await.is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_condition_of_an_unknown_type_is_removed_and_makes_nothing_else_unreadable() {
    let plane = tokio::task::block_in_place(ControlPlane::start);
    let world = World::on(&plane).await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("drawn", json!({"interval": "720h"})).await;
    let fleet = Fleet::of(&world, &fleet::instances(&world, 1), json!({})).await;
    let before = world.until_ready("drawn").await;
    let fleet_before = fleet.until_done(1).await;
    know_one_more_type(&world).await;
    add_unknown(&world.objects(), "drawn").await;
    add_unknown(&fleet.api(), &fleet.name).await;
    let objects: Api<kube::core::DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &of::<VncPassword>());
    let fleets: Api<kube::core::DynamicObject> =
        Api::all_with(world.client.clone(), &of::<ClusterVncPassword>());
    for (api, name) in [(objects, "drawn"), (fleets, &*fleet.name)] {
        until("it is removed", async || {
            let object = api.get(name).await.unwrap();
            assert_eq!(object.name_any(), name);
            !object.data["status"]["conditions"].to_string().contains("OfANewerOperator")
        })
        .await;
    }
    assert_eq!(world.status("drawn").await, before, "the rest of it was read");
    assert_eq!(fleet.status().await, fleet_before, "the rest of it was read");
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

fn of<K: kube::Resource<DynamicType = ()>>() -> kube::core::ApiResource {
    kube::core::ApiResource::erase::<K>(&())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_waits_for_no_time() {
    let world = World::new().await;
    let operator = world.operator();
    world.generated("drawn", json!({"interval": "720h"})).await;
    let fleet = Fleet::of(&world, &fleet::instances(&world, 1), json!({})).await;
    world.until_ready("drawn").await;
    fleet.until_done(1).await;
    let scheduled = async |queue: &str| {
        let metrics = reqwest::get(format!("http://{}/metrics", operator.address()))
            .await
            .unwrap()
            .text()
            .await
            .unwrap();
        let line = format!("vncpassword_operator_queue_scheduled{{queue=\"{queue}\"}} ");
        let value = metrics.lines().find_map(|metric| metric.strip_prefix(&*line)).unwrap().to_owned();
        value.parse::<u32>().unwrap()
    };
    until("both wait for a time", async || scheduled("objects").await > 0 && scheduled("fleets").await == 1)
        .await;
    fleet.delete().await;
    for object in world.objects().list(&kube::api::ListParams::default()).await.unwrap() {
        world.delete(&object.name_any()).await;
    }
    until("nothing waits", async || scheduled("objects").await == 0 && scheduled("fleets").await == 0).await;
    operator.stop().await;
}

/// An object that is deleted while its call is refused for the instance's state is not looked for any more.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_for_an_object_that_was_deleted_during_its_call() {
    const MODIFY: Action = Action::ModifyInstanceVncPasswd;
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let refusal = |name: &str, delay| {
        let instance = format!("i-{}{name}", world.namespace.replace('-', ""));
        let fault = Fault::error(403, "IncorrectInstanceStatus").on(MODIFY).instance(&instance).times(1);
        world.cloud().inject(Fault { delay: Duration::from_secs(delay), ..fault });
    };
    refusal("gone", 2);
    refusal("sentinel", 3);
    world.secret("gone", "Abc123").await;
    let gone = world.object("gone").await;
    until("the call is under way", async || !world.calls(&gone).is_empty()).await;
    world.delete("gone").await;
    // Its reply comes after the other one's, and so does its look.
    world.secret("sentinel", "Abc123").await;
    let sentinel = world.object("sentinel").await;
    let looks = |instance: &String| {
        let journal = world.cloud().journal();
        let call = journal
            .iter()
            .rposition(|entry| entry.action == MODIFY.as_str() && entry.instance_ids.contains(instance));
        let after = journal.into_iter().skip(call.unwrap_or(usize::MAX));
        let looks = after.filter(|entry| entry.action == Action::DescribeInstances.as_str());
        looks.filter(|entry| entry.instance_ids.contains(instance)).count()
    };
    until("the other one is looked at", async || looks(&sentinel) > 0).await;
    assert_eq!(looks(&gone), 0);
    operator.stop().await;
}
