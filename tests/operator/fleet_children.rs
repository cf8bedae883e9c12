//! The children of a fleet: what is theirs, what people may do to them, and what stands in their way.

use std::time::Duration;

use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, ResourceQuota};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, timeout};
use vncpassword_core::api::{
    Activation, ClusterVncPasswordStatus, ConditionType, INSTANCE_ID, ROTATE_AT, Reason, VncPassword,
};
use vncpassword_emulator::AccessKey;
use vncpassword_test_support::{
    World,
    fleet::{Fleet, instance, instances, node, nodes, provider_id},
    operator::Access,
    rotation::{now, until_rotated},
    world::until,
};

/// A fleet of so many instances at rest.
async fn settled(world: &World, count: usize, spec: Value) -> (Fleet<'_>, Vec<String>) {
    let instances = instances(world, count);
    let fleet = Fleet::of(world, &instances, spec).await;
    fleet.until_done(count).await;
    (fleet, instances)
}

/// The failures that are shown: the instance, and why.
fn failures(status: &ClusterVncPasswordStatus) -> Vec<(&str, Reason)> {
    status.failures.iter().map(|failure| (failure.instance_id.as_str(), failure.reason)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_edited_by_hand_is_brought_back() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let template = json!({"metadata": {"labels": {"team": "db"}, "annotations": {"example.com/a": "b"}}});
    let (fleet, instances) = settled(&world, 2, json!({"template": template})).await;
    let name = fleet.child(&instances[0]);
    let before = fleet.child_of(&instances[0]).await.unwrap();
    let edits = [
        ("a changed field", json!({"spec": {"activation": "Reboot"}})),
        ("an added field", json!({"spec": {"enforceInterval": "1h"}})),
        ("an added window", json!({"spec": {"window": {"schedule": "0 2 * * *", "duration": "1h"}}})),
        ("a schedule of its own", json!({"spec": {"rotation": {"interval": "1h"}}})),
        ("no rotation", json!({"spec": {"rotation": null}})),
        ("another region", json!({"spec": {"regionId": "cn-beijing"}})),
        ("a removed label", json!({"metadata": {"labels": {INSTANCE_ID: null}}})),
        ("a changed label", json!({"metadata": {"labels": {"team": "web"}}})),
        ("a removed annotation", json!({"metadata": {"annotations": {"example.com/a": null}}})),
    ];
    for (what, edit) in edits {
        world.change(&name, edit).await;
        let same = |child: &VncPassword| {
            child.spec == before.spec
                && child.labels() == before.labels()
                && child.annotations() == before.annotations()
        };
        let back = fleet.until_child_is(&instances[0], what, same).await;
        assert_eq!(back.uid(), before.uid(), "{what}");
    }
    fleet.until_done(2).await;
    assert_eq!(world.calls(&instances[0]).len(), 1, "none of it changes the password");

    // What the fleet has no word on is people's own.
    let own = json!({"metadata": {"labels": {"own": "a"}, "annotations": {"example.com/own": "b"}}});
    world.change(&name, own).await;
    fleet.settled(&operator).await;
    let child = fleet.child_of(&instances[0]).await.unwrap();
    assert_eq!((&child.labels()["own"][..], &child.annotations()["example.com/own"][..]), ("a", "b"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_template_says_reaches_every_child_and_leaves_it_again() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = settled(&world, 3, json!({})).await;
    let window = json!({"schedule": "0 2 * * *", "duration": "4h", "timeZone": "Asia/Shanghai"});
    let template = json!({"metadata": {"labels": {"team": "db"}}, "activation": "Reboot"});
    fleet.change(json!({"spec": {"template": template, "window": window}})).await;
    for instance in &instances {
        let child = fleet
            .until_child_is(instance, "as the template says", |child| {
                child.labels().get("team").is_some_and(|team| team == "db")
                    && child.spec.activation == Activation::Reboot
                    && child.spec.window.is_some()
            })
            .await;
        assert_eq!(child.spec.window.map(|window| json!(window)), Some(window.clone()));
    }
    fleet.change(json!({"spec": {"template": null, "window": null}})).await;
    for instance in &instances {
        fleet
            .until_child_is(instance, "as before", |child| {
                !child.labels().contains_key("team")
                    && child.spec.activation == Activation::Manual
                    && child.spec.window.is_none()
            })
            .await;
        assert_eq!(world.calls(instance).len(), 1);
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_named_and_keyed_as_the_template_says() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let template = json!({"secretName": "vnc.{instanceId}", "secretKey": "console"});
    let (fleet, instances) = settled(&world, 2, json!({"template": template})).await;
    for instance in &instances {
        let values = world.values(&format!("vnc.{instance}")).await;
        assert_eq!(values.get("console"), world.console(instance).as_ref());
        assert_eq!(fleet.child_of(instance).await.unwrap().spec.secret_ref.key, "console");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_child_can_be_rotated_by_itself() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = settled(&world, 2, json!({})).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    let before = fleet.status().await.rollout.map(|rollout| rollout.id);
    let (name, at) = (fleet.child(&instances[0]), now());
    world.change(&name, json!({"metadata": {"annotations": {ROTATE_AT: at.to_string()}}})).await;
    until_rotated(&world, &name, 2).await;
    fleet.settled(&operator).await;
    let child = fleet.child_of(&instances[0]).await.unwrap();
    assert_eq!(child.annotations()[ROTATE_AT], at.to_string(), "it stays");
    let calls: Vec<usize> = instances.iter().map(|instance| world.calls(instance).len()).collect();
    assert_eq!(calls, [2, 1]);
    let status = fleet.until_done(2).await;
    assert_eq!(status.rollout.map(|rollout| rollout.id), before, "that is no rollout");
    fleet.until_known(&instances).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_child_is_left_to_the_person_who_suspended_it() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = settled(&world, 3, json!({})).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    world.change(&fleet.child(&instances[1]), json!({"spec": {"suspend": true}})).await;
    fleet.until("aware of it", |status| status.waiting == 1).await;
    let before = fleet.status().await;
    fleet.rotate_now().await;
    let status = fleet
        .until("through with the others", |status| {
            status.rollout.as_ref().is_some_and(|rollout| {
                Some(&rollout.id) != before.rollout.as_ref().map(|rollout| &rollout.id)
                    && rollout.completed_at.is_some()
            })
        })
        .await;
    assert_eq!((status.waiting, status.rollout.unwrap().updated), (1, 2));
    assert!(fleet.child_of(&instances[1]).await.unwrap().spec.suspend);
    let calls = || instances.iter().map(|instance| world.calls(instance).len()).collect::<Vec<_>>();
    assert_eq!(calls(), [2, 1, 2]);

    world.change(&fleet.child(&instances[1]), json!({"spec": {"suspend": null}})).await;
    let updated = |status: &ClusterVncPasswordStatus| {
        status.rollout.as_ref().is_some_and(|rollout| rollout.updated == 3)
    };
    fleet.until("complete", updated).await;
    assert_eq!(calls(), [2, 2, 2]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_has_the_name_of_a_child_is_left_alone() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 2);
    let theirs = vncpassword_core::fleet::member_object_name(&world.namespace, &instances[0]);
    let elsewhere = instance(&world, "elsewhere");
    let spec = json!({"instanceId": elsewhere, "secretRef": {"name": "theirs"}, "rotation": {}});
    world.object_with(&theirs, spec).await;
    world.until_ready(&theirs).await;
    let before = json!(world.objects().get(&theirs).await.unwrap());
    let fleet = Fleet::of(&world, &instances, json!({})).await;
    let status = fleet.until_stalled(Reason::Conflict).await;
    assert_eq!((status.failed, failures(&status)), (1, vec![(instances[0].as_str(), Reason::Conflict)]));
    fleet.until_known(&instances[1..]).await;
    fleet.settled(&operator).await;
    assert_eq!(json!(world.objects().get(&theirs).await.unwrap()), before);
    assert!(world.calls(&instances[0]).is_empty());
    // Nor is it pruned.
    fleet.change(json!({"spec": {"instanceIds": [instances[1]]}})).await;
    fleet.until_done(1).await;
    assert_eq!(json!(world.objects().get(&theirs).await.unwrap()), before);

    fleet.change(json!({"spec": {"instanceIds": instances}})).await;
    fleet.until_stalled(Reason::Conflict).await;
    world.delete(&theirs).await;
    fleet.until_done(2).await;
    fleet.until_known(&instances).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn another_fleets_child_is_no_child() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (first, instances) = settled(&world, 1, json!({})).await;
    let name = json!({"name": format!("{}-second", world.namespace)});
    let second = Fleet::create(&world, name, json!({"instanceIds": instances})).await;
    let status = second.until("aware of it", |status| status.owned_elsewhere == 1).await;
    assert_eq!((status.discovered, status.failed), (1, 0));
    second.settled(&operator).await;
    assert_eq!(second.children().await.len(), 0);
    assert_eq!(first.children().await.len(), 1);
    assert_eq!(world.calls(&instances[0]).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_with_a_vncpassword_of_its_own_is_left_to_it_until_that_goes() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.settle = Duration::from_secs(2);
    let operator = world.operator_before(settings).await;
    let instances = instances(&world, 2);
    let spec = json!({"instanceId": instances[0], "secretRef": {"name": "own"}, "rotation": {}});
    world.object_with("own", spec).await;
    world.until_ready("own").await;
    let fleet = Fleet::of(&world, &instances, json!({})).await;
    let status = fleet.until("through", |status| status.ready == 1 && status.owned_elsewhere == 1).await;
    assert_eq!((status.discovered, status.failed), (2, 0));
    fleet.settled(&operator).await;
    assert!(fleet.child_of(&instances[0]).await.is_none());
    assert_eq!(world.calls(&instances[0]).len(), 1);
    assert!(vncpassword_test_support::fleet::calm(&fleet.status().await), "nothing is amiss");

    world.delete("own").await;
    fleet.until_known(&instances).await;
    let status = fleet.until_done(2).await;
    assert_eq!(status.owned_elsewhere, 0);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_child_that_is_deleted_is_made_again_and_goes_on_with_its_secret() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = settled(&world, 2, json!({})).await;
    let before = fleet.child_of(&instances[0]).await.unwrap();
    let passwords = fleet.until_known(&instances).await;
    world.delete(&before.name_any()).await;
    fleet.until_child_is(&instances[0], "another", |child| child.uid() != before.uid()).await;
    fleet.until_done(2).await;
    fleet.settled(&operator).await;
    assert_eq!(fleet.until_known(&instances).await, passwords);
    let calls: Vec<usize> = instances.iter().map(|instance| world.calls(instance).len()).collect();
    assert_eq!(calls, [2, 1], "the record alone does not prove that the value is in effect");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_missing_is_told_and_waited_for() {
    let world = World::new().await;
    let missing = format!("{}-missing", world.namespace);
    let mut settings = world.settings();
    settings.controller.namespaces.push(missing.clone());
    let operator = world.operator_before(settings).await;
    let instances = instances(&world, 2);
    let fleet = Fleet::of(&world, &instances, json!({"targetNamespace": missing})).await;
    let status = fleet.until_stalled(Reason::NamespaceNotFound).await;
    assert_eq!(status.discovered, 2);
    fleet.until_told("NamespaceNotFound", 1).await;
    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": missing}})).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    fleet.until_done_within(Duration::from_secs(120), 2).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_the_api_server_refuses_are_told() {
    let world = World::new().await;
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let count = "count/vncpasswords.vncpassword.dev";
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": {count: "1"}}});
    let quota: ResourceQuota = serde_json::from_value(quota).unwrap();
    quotas.create(&PostParams::default(), &quota).await.unwrap();
    // It is used up until the API server applies it, and free from then on.
    for (used, refused) in [("1", true), ("0", false)] {
        let counted = json!({"status": {"hard": {count: "1"}, "used": {count: used}}});
        quotas.patch_status("few", &PatchParams::default(), &Patch::Merge(counted)).await.unwrap();
        until(&format!("the quota is applied, {used} used"), async || {
            world.refuses_objects().await == refused
        })
        .await;
    }
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 3);
    let fleet = Fleet::of(&world, &instances, json!({})).await;
    let status = fleet.until_stalled(Reason::MemberRefused).await;
    assert!(!status.condition(ConditionType::Stalled).unwrap().message.is_empty());
    fleet.until_told("MemberRefused", 1).await;
    assert_eq!(fleet.children().await.len(), 1, "what is not refused is made");
    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    fleet.until_done_within(Duration::from_secs(120), 3).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_use_the_operators_identity_gets_no_call() {
    let world = World::new().await;
    let operator = world.operator_before(super::identity::settings_without_ambient(&world)).await;
    let instances = instances(&world, 5);
    let spec = json!({"rollout": {"maxConcurrent": 2, "pauseAfterFailures": 2}});
    let fleet = Fleet::of(&world, &instances, spec).await;
    let status = fleet.until_stalled(Reason::RolloutHalted).await;
    assert!(
        status.failures.iter().all(|failure| failure.reason == Reason::AmbientCredentialsDenied),
        "{status:#?}"
    );
    assert!(world.cloud().journal().is_empty(), "nobody is called");
    world.cloud().put_access_key(AccessKey::new("tenant", "secret"));
    let keys = [("access-key-id", "tenant"), ("access-key-secret", "secret")];
    super::identity::credentials_secret(&world, "keys", &keys).await;
    fleet.change(json!({"spec": {"template": {"credentialsRef": {"name": "keys"}}}})).await;
    fleet.until_done(5).await;
    let by = world.cloud().journal();
    assert!(by.iter().all(|call| call.access_key_id.as_deref() == Some("tenant")));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_is_deleted_and_made_again_goes_on_with_the_passwords() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = settled(&world, 3, json!({})).await;
    let passwords = fleet.until_known(&instances).await;
    fleet.delete().await;
    fleet.settled(&operator).await;
    // Nobody collects garbage here: in a cluster the children go with their owner.
    for child in fleet.children().await {
        world.delete(&child.name_any()).await;
    }
    fleet.settled(&operator).await;
    assert_eq!(fleet.children().await.len(), 0, "nobody makes them again");
    let fleet = Fleet::of(&world, &instances, json!({})).await;
    fleet.until_done(3).await;
    assert_eq!(fleet.until_known(&instances).await, passwords);
    let calls: Vec<usize> = instances.iter().map(|instance| world.calls(instance).len()).collect();
    assert_eq!(calls, [2; 3], "the same value once more: the record alone proves nothing");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_barrier_for_fleets_opens_when_a_fleet_has_made_its_children_and_these_are_served() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut write = operator.requests().hold_request(Access::Write, "/vncpasswords");
    let instances = nodes(&world, 2).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    write.arrived().await;
    let barrier = timeout(Duration::from_secs(1), fleet.settled(&operator)).await;
    assert!(barrier.is_err(), "a child is still being written");
    write.release();
    fleet.settled(&operator).await;
    assert_eq!(fleet.children().await.len(), 2);
    for instance in &instances {
        assert_eq!(world.calls(instance).len(), 1, "{instance}");
    }
    node(&world, "late", Some(&provider_id(0, &instance(&world, "late")))).await;
    fleet.settled(&operator).await;
    assert_eq!(fleet.status().await.ready, 3);

    let begun = Instant::now();
    fleet.settled(&operator).await;
    #[allow(clippy::print_stderr, reason = "figures for people")]
    {
        eprintln!("the barrier takes {:?}", begun.elapsed());
    }
    operator.stop().await;
}
