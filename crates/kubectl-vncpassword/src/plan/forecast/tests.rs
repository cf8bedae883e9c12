//! Tests of the forecast.

use serde_json::{Value, json};

use super::*;

fn spec(over: &Value) -> ClusterVncPasswordSpec {
    let mut spec = json!({"targetNamespace": "vnc"});
    spec.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
    serde_json::from_value(spec).unwrap()
}

fn snapshot(over: &Value) -> Snapshot {
    Snapshot {
        name: "nodes".to_owned(),
        spec: spec(over),
        exists: Fetched::Yes(None),
        nodes: None,
        cloud: None,
        objects: Fetched::Yes(vec![]),
        fleets: Fetched::Yes(vec![]),
        namespace: Fetched::Yes(true),
        rate: None,
        now: "2026-01-02T03:04:05Z".parse().unwrap(),
    }
}

fn node(name: &str, pool: &str, provider_id: Option<&str>) -> NodeSeen {
    NodeSeen {
        name: name.to_owned(),
        labels: [("pool".to_owned(), pool.to_owned())].into(),
        provider_id: provider_id.map(str::to_owned),
    }
}

fn object(namespace: &str, name: &str, instance: &str, owner: Option<&str>) -> ObjectState {
    ObjectState {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        instance: instance.to_owned(),
        owner: owner.map(str::to_owned),
        fleet: None,
    }
}

fn fates(forecast: &Forecast) -> Vec<(&str, &Fate)> {
    let instances = forecast.instances.as_ref().unwrap();
    instances.iter().map(|planned| (planned.instance.as_str(), &planned.fate)).collect()
}

#[test]
fn nodes_that_fit_are_taken_and_those_that_stand_for_none_are_named() {
    let mut snapshot =
        snapshot(&json!({"nodeSelector": {"matchLabels": {"pool": "db"}}, "exclude": ["i-b"]}));
    snapshot.nodes = Some(Fetched::Yes(vec![
        node("n1", "db", Some("cn-hangzhou.i-a")),
        node("n2", "db", Some("alicloud://cn-hangzhou.i-b")),
        node("n3", "web", Some("cn-hangzhou.i-c")),
        node("n4", "db", None),
        node("n5", "db", Some("cn-hangzhou.i-d")),
        node("n6", "db", Some("cn-hangzhou.i-d")),
    ]));
    let forecast = forecast(&snapshot);
    assert_eq!(fates(&forecast), [("i-a", &Fate::New)]);
    assert_eq!(forecast.excluded, ["i-b"]);
    let skipped: Vec<&str> = forecast.skipped_nodes.iter().map(|node| node.node.as_str()).collect();
    assert_eq!(skipped, ["n4", "n5", "n6"]);
    let planned = &forecast.instances.unwrap()[0];
    assert_eq!((planned.name.as_str(), planned.secret.as_str()), ("nodes-i-a", "nodes-i-a"));
    assert_eq!(planned.region.as_deref(), Some("cn-hangzhou"));
}

#[test]
fn without_a_right_to_nodes_the_instances_are_not_known() {
    let mut snapshot = snapshot(&json!({"nodeSelector": {}}));
    snapshot.nodes = Some(Fetched::Denied("list nodes".to_owned()));
    let forecast = forecast(&snapshot);
    assert_eq!((forecast.instances, forecast.rollout), (None, None));
    assert_eq!(forecast.unknown, ["which Nodes there are: you may not list nodes"]);
}

#[test]
fn tags_are_the_clouds_to_tell() {
    let mut snapshot = snapshot(&json!({"tags": [{"key": "a"}], "regionIds": ["cn-hangzhou"]}));
    snapshot.cloud = Some(Fetched::Failed("you have no credentials".to_owned()));
    let blind = forecast(&snapshot);
    assert_eq!(blind.instances, None);
    assert_eq!(blind.unknown, ["which instances carry the tags: you have no credentials"]);
    let tagged =
        vec![("cn-hangzhou".to_owned(), "i-a".to_owned()), ("cn-hangzhou".to_owned(), "web".to_owned())];
    snapshot.cloud = Some(Fetched::Yes(CloudSeen { tagged: Some(tagged), carries: BTreeMap::new() }));
    assert_eq!(fates(&forecast(&snapshot)), [("i-a", &Fate::New)]);
}

#[test]
fn required_tags_keep_out_what_lacks_them_and_name_what_is_not_shown() {
    let mut snapshot =
        snapshot(&json!({"instanceIds": ["i-a", "i-b", "i-c"], "requireTags": [{"key": "ours"}]}));
    let carries = [("i-a".to_owned(), true), ("i-b".to_owned(), false)].into();
    snapshot.cloud = Some(Fetched::Yes(CloudSeen { tagged: None, carries }));
    let result = forecast(&snapshot);
    assert_eq!(fates(&result), [("i-a", &Fate::New)]);
    assert_eq!((&result.untagged, &result.unseen), (&vec!["i-b".to_owned()], &vec!["i-c".to_owned()]));
    snapshot.cloud = Some(Fetched::Failed("no credentials".to_owned()));
    let blind = forecast(&snapshot);
    assert_eq!(blind.instances.as_ref().unwrap().len(), 3);
    assert!(blind.at_most && !result.at_most);
    assert_eq!(blind.unknown, ["which of them carry spec.requireTags: no credentials"]);
}

#[test]
fn instances_that_others_have_are_left_to_them() {
    let mut snapshot = snapshot(&json!({"instanceIds": ["i-a", "i-b", "i-c", "i-d", "i-e"]}));
    snapshot.exists = Fetched::Yes(Some("7".to_owned()));
    snapshot.objects = Fetched::Yes(vec![
        object("team-a", "db", "i-a", None),
        object("vnc", "nodes-i-b", "i-b", Some("7")),
        object("vnc", "nodes-i-c", "i-c", Some("6")),
        object("other", "nodes-i-d", "i-x", None),
    ]);
    snapshot.fleets = Fetched::Yes(vec![OtherFleet {
        name: "all".to_owned(),
        spec: spec(&json!({"instanceIds": ["i-a", "i-e"]})),
    }]);
    let forecast = forecast(&snapshot);
    assert_eq!(
        fates(&forecast),
        [
            ("i-a", &Fate::Elsewhere("team-a/db".to_owned())),
            ("i-b", &Fate::Kept),
            ("i-c", &Fate::NameTaken("vnc/nodes-i-c".to_owned())),
            ("i-d", &Fate::New),
            ("i-e", &Fate::Contended("all".to_owned())),
        ]
    );
    let rollout = forecast.rollout.unwrap();
    assert_eq!((rollout.first, rollout.all), (2, 3));
}

#[test]
fn what_is_not_selected_any_more_is_pruned_and_too_much_of_it_is_doubted() {
    let mut snapshot = snapshot(&json!({"instanceIds": ["i-a"]}));
    snapshot.exists = Fetched::Yes(Some("7".to_owned()));
    let child = |id: &str| object("vnc", &format!("nodes-{id}"), id, Some("7"));
    snapshot.objects = Fetched::Yes(vec![child("i-a"), child("i-b"), object("vnc", "own", "i-c", None)]);
    let few = forecast(&snapshot);
    assert_eq!((few.pruned, few.doubted), (vec!["i-b".to_owned()], false));
    snapshot.objects = Fetched::Yes((0..12).map(|n| child(&format!("i-{n}"))).collect());
    let many = forecast(&snapshot);
    assert_eq!((many.pruned.len(), many.doubted), (12, true));
}

#[test]
fn waves_and_time_follow_the_pace_and_the_rate() {
    let ids: Vec<String> = (0..95).map(|n| format!("i-{n}")).collect();
    let mut snapshot = snapshot(&json!({"instanceIds": ids, "rollout": {"maxConcurrent": 20}}));
    let plain = forecast(&snapshot).rollout.unwrap();
    assert_eq!((plain.wave, plain.waves, plain.seconds, plain.ends), (20, 5, None, None));
    snapshot.rate = Some(60.0);
    let timed = forecast(&snapshot).rollout.unwrap();
    assert_eq!(timed.seconds, Some(95));
    assert_eq!(timed.ends, Some("2026-01-02T03:05:40Z".parse().unwrap()));
    snapshot.spec = spec(&json!({"instanceIds": ids, "template": {"activation": "Reboot"}}));
    let restarting = forecast(&snapshot).rollout.unwrap();
    assert_eq!((restarting.wave, restarting.waves, restarting.restarts), (1, 95, true));
    snapshot.spec = spec(&json!({"instanceIds": ids}));
    assert_eq!(forecast(&snapshot).rollout.unwrap().waves, 10, "ten at once where nothing is said");
}

#[test]
fn no_first_passwords_are_told_of_a_fleet_whose_objects_may_not_be_seen() {
    let mut snapshot = snapshot(&json!({"instanceIds": ["i-a"]}));
    assert_eq!(forecast(&snapshot).rollout.unwrap().first, 1);
    snapshot.exists = Fetched::Yes(Some("uid-1".into()));
    snapshot.objects = Fetched::Denied("list vncpasswords in all namespaces".to_owned());
    let forecast = forecast(&snapshot);
    assert_eq!(forecast.rollout.unwrap().first, 0);
    assert!(
        forecast.obstacles.iter().any(|obstacle| obstacle.contains("may be its own")),
        "{:?}",
        forecast.obstacles
    );
}

#[test]
fn a_rollout_that_is_longer_than_the_window_ends_at_a_later_opening() {
    let ids: Vec<String> = (0..100).map(|n| format!("i-{n}")).collect();
    let window = |duration: &str| json!({"schedule": "0 4 * * *", "duration": duration});
    let mut snapshot = snapshot(&json!({"instanceIds": ids, "rotation": {}, "window": window("1h")}));
    snapshot.rate = Some(1.0);
    assert_eq!(forecast(&snapshot).rollout.unwrap().overruns, None, "on demand no window is waited for");
    snapshot.spec =
        spec(&json!({"instanceIds": ids, "rotation": {"interval": "720h"}, "window": window("1h")}));
    let overruns = forecast(&snapshot).rollout.unwrap().overruns.unwrap();
    assert_eq!(overruns.opens, "2026-01-02T04:00:00Z".parse().unwrap());
    assert_eq!(overruns.ends, "2026-01-03T04:40:00Z".parse().unwrap());
    snapshot.rate = Some(2.0);
    assert_eq!(forecast(&snapshot).rollout.unwrap().overruns, None);
}

#[test]
fn what_is_in_the_way_and_what_is_not_known_is_said() {
    let mut snapshot = snapshot(&json!({"instanceIds": ["i-a"], "suspend": true}));
    snapshot.namespace = Fetched::Yes(false);
    snapshot.objects = Fetched::Denied("list vncpasswords".to_owned());
    let forecast = forecast(&snapshot);
    assert_eq!(forecast.obstacles.len(), 2);
    assert!(forecast.obstacles[0].contains("kubectl create namespace vnc"));
    assert_eq!(forecast.unknown, ["which instances are owned elsewhere: you may not list vncpasswords"]);
}

#[test]
fn the_cloud_is_asked_region_by_region_about_what_is_left() {
    let snapshot = snapshot(&json!({"instanceIds": ["i-a", "cn-beijing.i-b", "i-c"], "exclude": ["i-c"]}));
    let regions = to_describe(&snapshot, Some("cn-hangzhou"));
    assert_eq!(regions["cn-hangzhou"], ["i-a".to_owned()].into());
    assert_eq!(regions["cn-beijing"], ["i-b".to_owned()].into());
    assert_eq!(to_describe(&snapshot, None)[""], ["i-a".to_owned()].into());
}
