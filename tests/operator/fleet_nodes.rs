//! Fleets of Nodes: each Node's instance gets a child and a password; Nodes come, go, and say nothing or nonsense.

use kube::ResourceExt;
use serde_json::{Value, json};
use vncpassword_core::api::{ClusterVncPasswordStatus, FLEET, INSTANCE_ID, Rotation, SkipReason};
use vncpassword_emulator::Instance;
use vncpassword_test_support::{
    World,
    fleet::{Fleet, change_node, delete_node, instance, node, node_name, nodes, provider_id},
    rotation::{strong, version},
};

/// The Nodes that are shown as skipped, and why.
fn skipped(status: &ClusterVncPasswordStatus) -> Vec<(&str, SkipReason)> {
    status.skipped_nodes.iter().map(|skipped| (skipped.node.as_str(), skipped.reason)).collect()
}

fn label(world: &World, value: Value) -> Value {
    json!({"metadata": {"labels": {"test": if value.is_null() { value } else { json!(world.namespace) }}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_of_the_selector_gets_a_child_and_a_secret_with_its_password() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut instances = nodes(&world, 4).await;
    let stranger = instance(&world, "stranger");
    node(&world, "stranger", Some(&provider_id(0, &stranger))).await;
    change_node(&world, "stranger", label(&world, Value::Null)).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    let status = fleet.until_done(4).await;
    let counters = [status.rotating, status.failed, status.owned_elsewhere, status.skipped, status.waiting];
    assert_eq!(counters, [0; 5], "{status:#?}");

    // A Node that comes later, when the fleet is at rest.
    let late = instance(&world, "late");
    node(&world, "late", Some(&provider_id(1, &late))).await;
    instances.push(late);
    fleet.until_done(5).await;
    let passwords = fleet.until_known(&instances).await;
    let owner = fleet.get().await.uid();
    for (instance, password) in instances.iter().zip(&passwords) {
        assert!(strong(password), "{password}");
        let name = fleet.child(instance);
        let child = fleet.child_of(instance).await.unwrap();
        let owners = child.owner_references();
        assert!(owners.len() == 1 && owners[0].controller == Some(true), "{owners:?}");
        assert_eq!(Some(&owners[0].uid), owner.as_ref());
        let secret = world.secrets().get(&name).await.unwrap();
        for labels in [child.labels(), secret.labels()] {
            assert_eq!(labels.get(FLEET), Some(&fleet.name));
            assert_eq!(labels.get(INSTANCE_ID), Some(instance));
        }
        assert_eq!(child.labels()["app.kubernetes.io/managed-by"], "vncpassword-operator");
        assert_eq!(secret.owner_references(), [], "the Secret outlives all of it");
        assert_eq!((&child.spec.instance_id, &child.spec.secret_ref.name), (instance, &name));
        assert_eq!(child.spec.region_id.as_deref(), Some("cn-hangzhou"));
        assert_eq!(
            child.spec.rotation,
            Some(Box::new(Rotation::default())),
            "on demand: the fleet sets the pace"
        );
        assert_eq!(world.calls(instance).len(), 1);
    }
    assert_eq!(fleet.children().await.len(), 5);
    assert!(fleet.child_of(&stranger).await.is_none() && world.calls(&stranger).is_empty());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_starts_later_finds_fleet_nodes_and_children() {
    let world = World::new().await;
    let instances = nodes(&world, 3).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    let operator = world.operator_before(world.settings()).await;
    fleet.until_done(3).await;
    operator.stop().await;
    let late = instance(&world, "late");
    node(&world, "late", Some(&provider_id(1, &late))).await;
    let before = fleet.until_known(&instances).await;
    let operator = world.operator_before(world.settings()).await;
    fleet.until_done(4).await;
    assert_eq!(fleet.until_known(&instances).await, before);
    let calls: Vec<usize> = instances.iter().map(|instance| world.calls(instance).len()).collect();
    assert_eq!(calls, [1; 3]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_another_region_is_called_there() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let id = format!("i-{}far", world.namespace.replace('-', ""));
    world.cloud().put_instance(Instance::new(&id).region("ap-southeast-1"));
    node(&world, "far", Some(&format!("alicloud://ap-southeast-1.{id}"))).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    fleet.until_done(1).await;
    let child = fleet.child_of(&id).await.unwrap();
    assert_eq!(child.spec.region_id.as_deref(), Some("ap-southeast-1"));
    assert_eq!(world.calls(&id)[0].region_id.as_deref(), Some("ap-southeast-1"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_goes_takes_its_child_along_and_leaves_the_secret() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 3).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    fleet.until_done(3).await;
    let gone = &instances[1];
    let secret = fleet.child(gone);
    let (before, values) = (version(&world, &secret).await, world.values(&secret).await);

    delete_node(&world, "1").await;
    fleet.until_child(gone, false).await;
    fleet.until_done(2).await;
    assert_eq!(version(&world, &secret).await, before, "nobody touches it");
    let labels = world.secrets().get(&secret).await.unwrap().labels().clone();
    assert_eq!((&labels[FLEET], &labels[INSTANCE_ID]), (&fleet.name, gone), "it can be found and swept");
    for kept in [&instances[0], &instances[2]] {
        assert!(fleet.child_of(kept).await.is_some());
    }

    // It comes back, and goes on with what the Secret holds.
    node(&world, "1", Some(&provider_id(0, gone))).await;
    fleet.until_done(3).await;
    assert_eq!(world.values(&secret).await["password"], values["password"]);
    assert_eq!(world.calls(gone).len(), 2, "the same value once more: the record alone proves nothing");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn with_prune_orphan_the_child_stays_and_belongs_to_nobody() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 3).await;
    let fleet = Fleet::of_nodes(&world, json!({"prune": "Orphan"})).await;
    fleet.until_done(3).await;
    let gone = &instances[1];
    let before = fleet.child_of(gone).await.unwrap();
    delete_node(&world, "1").await;
    let orphan = fleet.until_child_is(gone, "an orphan", |child| child.owner_references().is_empty()).await;
    assert_eq!((orphan.uid(), &orphan.spec), (before.uid(), &before.spec), "the same object as before");
    fleet.until_done(2).await;
    fleet.settled(&operator).await;
    assert!(fleet.child_of(gone).await.is_some());
    // It still works for whoever asks it.
    world.until_ready(&orphan.name_any()).await;
    assert_eq!(world.calls(gone).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_can_be_labelled_out_of_the_fleet_and_into_it_again() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 2).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    fleet.until_done(2).await;
    change_node(&world, "0", label(&world, Value::Null)).await;
    fleet.until_child(&instances[0], false).await;
    fleet.until_done(1).await;
    change_node(&world, "0", label(&world, json!(true))).await;
    fleet.until_done(2).await;
    let calls: Vec<usize> = instances.iter().map(|instance| world.calls(instance).len()).collect();
    assert_eq!(calls, [2, 1], "the same value once more: the record alone proves nothing");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn expressions_select_as_labels_do() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 4).await;
    for (node, pool) in [("0", "db"), ("1", "web"), ("2", "batch")] {
        change_node(&world, node, json!({"metadata": {"labels": {"pool": pool}}})).await;
    }
    let expressions = json!([
        {"key": "test", "operator": "In", "values": [world.namespace, "another"]},
        {"key": "pool", "operator": "NotIn", "values": ["web"]},
        {"key": "pool", "operator": "Exists"},
    ]);
    let fleet = Fleet::of_nodes(&world, json!({"nodeSelector": {"matchExpressions": expressions}})).await;
    fleet.until_done(2).await;
    fleet.until_known(&[instances[0].clone(), instances[2].clone()]).await;
    assert_eq!(fleet.children().await.len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_stand_for_no_instance_are_counted_and_named() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 1).await;
    let slow = instance(&world, "slow");
    node(&world, "new", None).await;
    node(&world, "foreign", Some("aws:///eu-west-1a/i-0abc")).await;
    node(&world, "odd", Some("alicloud://cn-hangzhou/i-odd")).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    let status = fleet.until_done(1).await;
    assert_eq!(status.skipped, 3);
    let names = ["odd", "foreign", "new"].map(|name| node_name(&world, name));
    let reasons = [SkipReason::MalformedProviderId, SkipReason::ForeignProviderId, SkipReason::NoProviderId];
    let wanted: Vec<_> = names.iter().map(String::as_str).zip(reasons).collect();
    assert_eq!(skipped(&status), wanted);

    // The cloud controller manager has come round.
    change_node(&world, "new", json!({"spec": {"providerID": provider_id(1, &slow)}})).await;
    let status = fleet.until_done(2).await;
    assert_eq!((status.skipped, skipped(&status)), (2, wanted[..2].to_vec()));
    fleet.until_known(&[instances[0].clone(), slow]).await;
    for node in ["foreign", "odd"] {
        delete_node(&world, node).await;
    }
    fleet
        .until("free of skipped Nodes", |status| status.skipped == 0 && status.skipped_nodes.is_empty())
        .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_of_one_instance_are_both_skipped_and_named() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 1).await;
    let disputed = instance(&world, "disputed");
    node(&world, "a", Some(&provider_id(0, &disputed))).await;
    node(&world, "b", Some(&provider_id(1, &disputed))).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    let status = fleet.until_done(1).await;
    let names = ["a", "b"].map(|name| node_name(&world, name));
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), SkipReason::DuplicateProviderId)).collect();
    assert_eq!((status.skipped, skipped(&status)), (2, wanted.clone()));
    fleet.settled(&operator).await;
    assert!(fleet.child_of(&disputed).await.is_none() && world.calls(&disputed).is_empty());

    // One goes: the other is believed. A second one comes again: what is there stays.
    delete_node(&world, "b").await;
    fleet.until_done(2).await;
    node(&world, "b", Some(&provider_id(1, &disputed))).await;
    let status = fleet.until("doubted", |status| status.skipped == 2).await;
    assert_eq!(skipped(&status), wanted);
    fleet.settled(&operator).await;
    assert!(fleet.child_of(&disputed).await.is_some());
    assert_eq!(world.calls(&disputed).len(), 1);
    fleet.until_known(&[instances[0].clone(), disputed]).await;
    operator.stop().await;
}
