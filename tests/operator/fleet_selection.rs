//! Fleets of instances that are listed or tagged, what is left out of them, and answers of the cloud that are not to be
//! believed.

use std::time::Duration;

use kube::ResourceExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use vncpassword_core::api::{ClusterVncPasswordStatus, ConditionType, Reason, VncPassword};
use vncpassword_emulator::{AccessKey, Action, Fault, Instance};

use super::identity::credentials_secret;
use vncpassword_test_support::{
    World,
    fleet::{Fleet, calm, instance, instances, nodes},
    world::{PATIENCE, until, until_within},
};

/// Gives an instance a tag, and the region where it is.
fn tag(world: &World, instance: &str, key: &str, value: &str, region: &str) {
    world.cloud().put_instance(Instance::new(instance).tag(key, value).region(region));
}

/// So many instances with the tag `vnc: NAMESPACE`; every third is in Beijing.
fn tagged(world: &World, count: usize) -> Vec<String> {
    let instances = instances(world, count);
    for (number, instance) in instances.iter().enumerate() {
        let region = if number.is_multiple_of(3) { "cn-beijing" } else { "cn-hangzhou" };
        tag(world, instance, "vnc", &world.namespace, region);
    }
    instances
}

/// Selects what [`tagged`] made.
fn by_tag(world: &World, more: &Value) -> Value {
    let mut spec = json!({"tags": [{"key": "vnc", "value": world.namespace}],
        "regionIds": ["cn-hangzhou", "cn-beijing"], "rediscoverInterval": "1m",
        "rollout": {"maxConcurrent": 50}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

fn uids(children: &[VncPassword]) -> Vec<Option<String>> {
    children.iter().map(ResourceExt::uid).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn listed_instances_are_kept_with_their_regions_and_the_list_may_change() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut listed = instances(&world, 3);
    tag(&world, &listed[2], "a", "b", "cn-beijing");
    let entries =
        json!([listed[0], format!("cn-hangzhou.{}", listed[1]), format!("cn-beijing.{}", listed[2])]);
    let fleet = Fleet::new(&world, json!({"instanceIds": entries})).await;
    fleet.until_done(3).await;
    let mut regions = Vec::new();
    for instance in &listed {
        regions.push(fleet.child_of(instance).await.unwrap().spec.region_id);
    }
    let regions: Vec<_> = regions.iter().map(Option::as_deref).collect();
    assert_eq!(regions, [None, Some("cn-hangzhou"), Some("cn-beijing")]);
    assert_eq!(world.calls(&listed[2])[0].region_id.as_deref(), Some("cn-beijing"));

    let added = instance(&world, "added");
    let entries = json!([listed[0], added, format!("cn-beijing.{}", listed[2])]);
    fleet.change(json!({"spec": {"instanceIds": entries}})).await;
    fleet.until_child(&listed[1], false).await;
    fleet.until_done(3).await;
    listed[1] = added;
    fleet.until_known(&listed).await;

    fleet.change(json!({"spec": {"exclude": [listed[0]]}})).await;
    fleet.until_child(&listed[0], false).await;
    fleet.until_done(2).await;
    fleet.change(json!({"spec": {"exclude": null}})).await;
    fleet.until_done(3).await;
    assert_eq!(world.calls(&listed[0]).len(), 2, "the value of its Secret once more");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tagged_instances_are_found_page_by_page_in_all_regions() {
    let world = World::new().await;
    let found = tagged(&world, 230);
    // Not these: another value, another region.
    let others = [instance(&world, "other"), instance(&world, "far")];
    tag(&world, &others[0], "vnc", "another", "cn-hangzhou");
    tag(&world, &others[1], "vnc", &world.namespace, "cn-shanghai");
    let operator = world.operator_before(world.settings()).await;
    let fleet = Fleet::new(&world, by_tag(&world, &json!({"exclude": [found[7]]}))).await;
    fleet.until_done(229).await;
    let mut selected = found.clone();
    selected.remove(7);
    fleet.until_known(&selected).await;
    assert_eq!(fleet.children().await.len(), 229);
    for left_out in others.iter().chain([&found[7]]) {
        assert!(world.calls(left_out).is_empty(), "{left_out}");
    }
    let child = fleet.child_of(&found[3]).await.unwrap();
    assert_eq!(child.spec.region_id.as_deref(), Some("cn-beijing"));
    operator.stop().await;
}

/// In one region DescribeInstances is throttled for ten minutes. More fleets wait for it than ask the cloud at a time.
#[tokio::test(flavor = "multi_thread")]
async fn fleets_that_wait_for_a_throttled_region_hold_up_no_other_fleet() {
    let world = World::new().await;
    let found = tagged(&world, 3);
    let operator = world.operator_before(world.settings()).await;
    let throttled = Fault::throttled(Some(Duration::from_mins(10)));
    world.cloud().inject(throttled.on(Action::DescribeInstances).times(1));
    for number in 0..6 {
        let name = json!({"name": format!("{}-{number}", world.namespace)});
        Fleet::create(&world, name, by_tag(&world, &json!({"regionIds": ["cn-beijing"]}))).await;
    }
    until("a throttled call", async || {
        world.calls_of(Action::DescribeInstances).iter().any(|call| call.code.is_some())
    })
    .await;
    let fleet = Fleet::new(&world, by_tag(&world, &json!({"regionIds": ["cn-hangzhou"]}))).await;
    fleet.until_done(2).await;
    fleet.until_known(&found[1..]).await;
    let begun = Instant::now();
    operator.stop().await;
    assert!(begun.elapsed() < Duration::from_secs(15), "a stop waits for no limiter: {:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_looked_for_again_and_again() {
    let world = World::new().await;
    let mut found = tagged(&world, 3);
    let operator = world.operator_before(world.settings()).await;
    let fleet = Fleet::new(&world, by_tag(&world, &json!({}))).await;
    fleet.until_done(3).await;
    // One comes, one loses its tag; `rediscoverInterval` is a minute.
    let added = instance(&world, "added");
    tag(&world, &added, "vnc", &world.namespace, "cn-hangzhou");
    tag(&world, &found[0], "other", "", "cn-beijing");
    until_within(PATIENCE * 3, "they are looked for again", async || {
        fleet.child_of(&added).await.is_some() && fleet.child_of(&found[0]).await.is_none()
    })
    .await;
    fleet.until_done(3).await;
    found[0] = added;
    fleet.until_known(&found).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_names_an_instance_without_the_required_tags_gets_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = nodes(&world, 4).await;
    tag(&world, &instances[0], "pool", "db", "cn-hangzhou");
    tag(&world, &instances[1], "pool", "web", "cn-hangzhou");
    // The third has no tag at all, the fourth is not there, or not to be seen.
    world.cloud().remove_instance(&instances[3]);
    let required = json!({"requireTags": [{"key": "pool", "value": "db"}], "rediscoverInterval": "1m"});
    let fleet = Fleet::of_nodes(&world, required).await;
    fleet.until_done(1).await;
    fleet.settled(&operator).await;
    assert_eq!(fleet.children().await.len(), 1);
    fleet.until_known(&instances[..1]).await;
    for instance in &instances[1..] {
        assert!(world.calls(instance).is_empty(), "{instance}");
    }

    // What the cloud does not show any more keeps what it has; what has lost its tag does not.
    tag(&world, &instances[2], "pool", "db", "cn-hangzhou");
    operator.stop().await;
    let operator = world.operator_before(world.settings()).await;
    fleet.until_done(2).await;
    operator.stop().await;
    world.cloud().remove_instance(&instances[0]);
    tag(&world, &instances[2], "pool", "web", "cn-hangzhou");
    let operator = world.operator_before(world.settings()).await;
    fleet.until_child(&instances[2], false).await;
    fleet.settled(&operator).await;
    assert!(fleet.child_of(&instances[0]).await.is_some(), "cannot see is never gone");
    operator.stop().await;
}

fn doubted(status: &ClusterVncPasswordStatus) -> bool {
    status.condition(ConditionType::DiscoveryDegraded).is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_cloud_shows_no_instance_any_more_nothing_is_pruned() {
    let world = World::new().await;
    let instances = tagged(&world, 12);
    let operator = world.operator_before(world.settings()).await;
    let fleet = Fleet::new(&world, by_tag(&world, &json!({}))).await;
    fleet.until_done(12).await;
    operator.stop().await;
    let (children, before) = (fleet.children().await, fleet.versions().await);

    // Without the right, the answer is an empty list.
    world.cloud().put_access_key(AccessKey::default().denied(Action::DescribeInstances));
    let operator = world.operator_before(world.settings()).await;
    let status = fleet.until("in doubt", doubted).await;
    assert_eq!((status.discovered, status.ready), (12, 12), "what is there counts");
    fleet.settled(&operator).await;
    let (mut now, mut before) = (fleet.versions().await, before);
    assert!(now.remove("fleet") != before.remove("fleet"), "the fleet's status tells");
    assert_eq!(now, before, "nobody touches a child or a Secret");
    assert_eq!(uids(&fleet.children().await), uids(&children));
    let told = fleet.events().await;
    let degraded = told.iter().filter(|(reason, _)| {
        [Reason::DiscoveryDegraded, Reason::DiscoveryFailed].map(Reason::as_str).contains(&reason.as_str())
    });
    assert_eq!(degraded.count(), 1, "{told:?}");
    operator.stop().await;

    // It goes on as before once the right is back.
    world.cloud().put_access_key(AccessKey::default());
    let operator = world.operator_before(world.settings()).await;
    let status = fleet.until("sure again", |status| calm(status) && status.doubt.is_none()).await;
    assert_eq!(status.ready, 12);
    assert_eq!(uids(&fleet.children().await), uids(&children));
    let calls: Vec<usize> = instances.iter().map(|instance| world.calls(instance).len()).collect();
    assert_eq!(calls, [1; 12]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_selector_that_suddenly_fits_nothing_is_doubted() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    nodes(&world, 3).await;
    let fleet = Fleet::of_nodes(&world, json!({})).await;
    fleet.until_done(3).await;
    let before = uids(&fleet.children().await);
    fleet.change(json!({"spec": {"nodeSelector": {"matchLabels": {"test": "mistyped"}}}})).await;
    let status = fleet.until("in doubt", doubted).await;
    assert!(status.doubt.is_some_and(|doubt| doubt.answers == 1));
    fleet.settled(&operator).await;
    assert_eq!(uids(&fleet.children().await), before);
    fleet.change(json!({"spec": {"nodeSelector": {"matchLabels": {"test": world.namespace}}}})).await;
    fleet.until("sure again", |status| calm(status) && status.doubt.is_none()).await;
    assert_eq!(uids(&fleet.children().await), before);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_whose_credentials_are_revoked_halts_and_goes_on_with_new_ones() {
    let world = World::new().await;
    let keys = |id: &str| AccessKey::new(id, "secret");
    let write = async |id: &str| {
        credentials_secret(&world, "keys", &[("access-key-id", id), ("access-key-secret", "secret")]).await;
    };
    world.cloud().put_access_key(keys("first"));
    write("first").await;
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 12);
    let slow = Fault::latency(Duration::from_millis(400));
    world.cloud().inject(slow.on(Action::ModifyInstanceVncPasswd));
    let spec = json!({"template": {"credentialsRef": {"name": "keys"}},
        "rollout": {"maxConcurrent": 2, "pauseAfterFailures": 2}});
    let fleet = Fleet::of(&world, &instances, spec).await;
    fleet.until("begun", |status| status.rollout.as_ref().is_some_and(|rollout| rollout.updated > 2)).await;
    world.cloud().revoke_access_key("first");
    let status = fleet.until_stalled(Reason::RolloutHalted).await;
    let rollout = status.rollout.unwrap();
    assert!(rollout.updated < 12 && rollout.failed >= 2, "{rollout:?}");
    let halted = fleet.children().await;
    fleet.settled(&operator).await;
    assert_eq!(uids(&fleet.children().await), uids(&halted), "nothing is started, nothing deleted");
    let before = fleet.versions().await;

    world.cloud().put_access_key(keys("second"));
    write("second").await;
    // An object that tries before the new keys are seen waits a minute once more.
    fleet.settled(&operator).await;
    fleet.hurry().await;
    fleet.until_done_within(Duration::from_secs(150), 12).await;
    fleet.until_known(&instances).await;
    let after = fleet.versions().await;
    assert!(before.keys().all(|name| after.contains_key(name)), "nothing was deleted");
    let accepted = |instance: &String| world.calls(instance).iter().filter(|call| call.applied()).count();
    assert_eq!(instances.iter().map(accepted).collect::<Vec<_>>(), [1; 12]);
    operator.stop().await;
}
