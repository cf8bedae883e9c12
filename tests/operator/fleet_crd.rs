//! `ClusterVncPassword` as the API server sees it: what it accepts, what it refuses and with which words, what it shows.

use std::collections::BTreeSet;

use kube::{
    Api, CustomResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::{ClusterVncPassword, ClusterVncPasswordSpec, ClusterVncPasswordStatus};

use super::crd::{columns, kubectl, messages, words};
use vncpassword_test_support::World;

const ONE_SELECTOR: &str =
    "needs exactly one of nodeSelector ({} for every Node), tags with regionIds, and instanceIds";
const TAGS_AND_REGIONS: &str =
    "tags need regionIds, the regions to search, and regionIds stand beside tags only";
const REGIONS: &str = "must be region IDs such as cn-hangzhou, without a host name around them";
const INSTANCES: &str =
    "must be IDs of ECS instances, such as i-bp67acfmxazb4p or cn-hangzhou.i-bp67acfmxazb4p";
const EXCLUDED: &str = "must be IDs of ECS instances, such as i-bp67acfmxazb4p, without a region";
const NAMESPACE: &str = "must be the name of a namespace: lower-case letters, digits and '-'";
const OTHER_NAMESPACE: &str =
    "is immutable: delete this ClusterVncPassword and create one for the other namespace";
const SELECTOR_LABELS: &str = "must be labels, such as node-pool: db";
const SELECTOR_KEY: &str = "must be the key of a label, such as node-pool";
const SELECTOR_VALUES: &str = "must be values of labels, such as db";
const OPERATOR: &str = "In and NotIn need values; Exists and DoesNotExist take none";
const LABELS: &str = "must be labels, such as team: db";
const ANNOTATIONS: &str = "must have keys such as example.com/owner";
const OURS: &str =
    "must not hold keys of vncpassword.dev, or app.kubernetes.io/managed-by: they are the operator's";
const SECRET_NEEDS_ID: &str = "must contain {instanceId}: each instance has a Secret of its own";
const SECRET_PATTERN: &str =
    "must be the name of a Secret around {instanceId} and {fleet}: lower-case letters, digits, '-' and '.'";
const OTHER_SECRET: &str =
    "template.secretName is immutable: put it back, or delete this ClusterVncPassword and create it anew";
const OTHER_KEY: &str =
    "template.secretKey is immutable: put it back, or delete this ClusterVncPassword and create it anew";
const KEY: &str = "must be a key of a Secret: letters, digits, '-', '_' and '.'";
const KEPT: &str = "must not end in .next, .previous or .rotation: these names are kept for the operator";
const SECRET: &str =
    "must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'";
const LONG_NAME: &str =
    "metadata.name must have at most 63 characters: it becomes a label, and a part of other names";
const DURATION: &str = "must be a duration such as 30m or 24h (units h, m, s, ms)";
const A_MINUTE: &str = "must be at least 1m";
const CRON: &str = "must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as 0 3 * * 1";
const ZONE: &str = "must be a name of the IANA time zone database, such as Asia/Shanghai";
const ONE_OF_TWO: &str = "has an interval and a schedule: keep one of them";
const ZONE_OF_NOTHING: &str = "has a timeZone and no schedule: name a schedule, or leave timeZone out";

/// A spec with something else in it; `null`: nothing at all.
fn with(fields: &Value) -> Value {
    let mut spec = json!({"nodeSelector": {}, "targetNamespace": "vnc"});
    let known = spec.as_object_mut().unwrap();
    for (name, value) in fields.as_object().unwrap() {
        known.remove(name);
        if !value.is_null() {
            known.insert(name.clone(), value.clone());
        }
    }
    spec
}

fn tags(tags: &Value, regions: &Value) -> Value {
    json!({"nodeSelector": null, "tags": tags, "regionIds": regions})
}

fn instances(ids: &Value) -> Value {
    json!({"nodeSelector": null, "instanceIds": ids})
}

fn expression(expression: &Value) -> Value {
    json!({"nodeSelector": {"matchExpressions": [expression]}})
}

fn labels(labels: &Value) -> Value {
    json!({"template": {"metadata": {"labels": labels}}})
}

fn annotations(annotations: &Value) -> Value {
    json!({"template": {"metadata": {"annotations": annotations}}})
}

fn secret_name(pattern: &str) -> Value {
    json!({"template": {"secretName": pattern}})
}

fn many(count: usize, item: impl Fn(usize) -> Value) -> Value {
    (0..count).map(item).collect()
}

/// So many entries of a map.
fn map(count: usize) -> Value {
    Value::Object((0..count).map(|number| (format!("key-{number}"), json!("a"))).collect())
}

/// What may not be created, and a part of what the API server says.
#[allow(clippy::too_many_lines, reason = "one table")]
fn refused() -> Vec<(Value, &'static str)> {
    let some_tags = json!([{"key": "env", "value": "prod"}]);
    let region = json!(["cn-hangzhou"]);
    let mut table = vec![
        (json!({"nodeSelector": null}), ONE_SELECTOR),
        (json!({"instanceIds": ["i-a"]}), ONE_SELECTOR),
        (json!({"tags": some_tags, "regionIds": region}), ONE_SELECTOR),
        (
            json!({"nodeSelector": null, "tags": some_tags, "regionIds": region, "instanceIds": ["i-a"]}),
            ONE_SELECTOR,
        ),
        (tags(&some_tags, &json!(null)), TAGS_AND_REGIONS),
        (json!({"regionIds": region}), TAGS_AND_REGIONS),
        (tags(&json!([]), &region), "should have at least 1 items"),
        (tags(&some_tags, &json!([])), "should have at least 1 items"),
        (tags(&json!([{"value": "prod"}]), &region), "spec.tags[0].key: Required value"),
        (tags(&json!([{"key": ""}]), &region), "should be at least 1 chars long"),
        (tags(&json!([{"key": "a"}, {"key": "a", "value": "b"}]), &region), "Duplicate value"),
        (tags(&many(21, |n| json!({"key": format!("k{n}")})), &region), "must have at most 20 items"),
        (tags(&some_tags, &json!(["x.example.com/?"])), REGIONS),
        (tags(&some_tags, &json!(["cn-hangzhou", "CN-HANGZHOU"])), REGIONS),
        (tags(&some_tags, &json!(["cn-hangzhou", "cn-hangzhou"])), "Duplicate value"),
        (tags(&some_tags, &many(31, |n| json!(format!("cn-a{n}")))), "must have at most 30 items"),
        (instances(&json!([])), "should have at least 1 items"),
        (instances(&json!(["i-"])), "should be at least 3 chars long"),
        (instances(&json!(["bp67acfmxazb4p"])), INSTANCES),
        (instances(&json!(["i-a", "i-B"])), INSTANCES),
        (instances(&json!(["i-a\n"])), INSTANCES),
        (instances(&json!(["cn.i-a"])), INSTANCES),
        (instances(&json!(["cn-hangzhou.example.com.i-a"])), INSTANCES),
        (instances(&json!(["alicloud://cn-hangzhou.i-a"])), INSTANCES),
        (instances(&json!([format!("i-{}", "a".repeat(63))])), INSTANCES),
        (instances(&json!([format!("cn-{}.i-a", "a".repeat(62))])), INSTANCES),
        (instances(&json!([format!("i-{}", "a".repeat(128))])), "may not be more than 129 bytes"),
        (instances(&json!(["i-a", "i-a"])), "Duplicate value"),
        (instances(&many(1001, |n| json!(format!("i-{n}")))), "must have at most 1000 items"),
        (instances(&json!([5])), "must be of type string"),
        (json!({"exclude": ["cn-hangzhou.i-a"]}), EXCLUDED),
        (json!({"exclude": ["i-a_b"]}), EXCLUDED),
        (json!({"exclude": many(1001, |n| json!(format!("i-{n}")))}), "must have at most 1000 items"),
        (json!({"requireTags": [{"key": "a"}, {"key": "a"}]}), "Duplicate value"),
        (json!({"requireTags": [{"key": "a", "value": "b".repeat(129)}]}), "may not be more than 128 bytes"),
        (json!({"targetNamespace": null}), "spec.targetNamespace: Required value"),
        (json!({"targetNamespace": ""}), "should be at least 1 chars long"),
        (json!({"targetNamespace": "a".repeat(64)}), "may not be more than 63 bytes"),
        (json!({"targetNamespace": "a.b"}), NAMESPACE),
        (json!({"targetNamespace": "A"}), NAMESPACE),
        (json!({"targetNamespace": "-a"}), NAMESPACE),
        (json!({"targetNamespace": "a/b"}), NAMESPACE),
        (json!({"nodeSelector": {"matchLabels": {"a b": "c"}}}), SELECTOR_LABELS),
        (json!({"nodeSelector": {"matchLabels": {"a": "b c"}}}), SELECTOR_LABELS),
        (json!({"nodeSelector": {"matchLabels": map(33)}}), "must have at most 32 items"),
        (json!({"nodeSelector": {"nodePool": "db"}}), "unknown field \"spec.nodeSelector.nodePool\""),
        (expression(&json!({"key": "a b", "operator": "Exists"})), SELECTOR_KEY),
        (expression(&json!({"key": "a", "operator": "In", "values": ["b c"]})), SELECTOR_VALUES),
        (expression(&json!({"key": "a", "operator": "In"})), OPERATOR),
        (expression(&json!({"key": "a", "operator": "NotIn", "values": []})), OPERATOR),
        (expression(&json!({"key": "a", "operator": "Exists", "values": ["b"]})), OPERATOR),
        (expression(&json!({"key": "a", "operator": "Is"})), "supported values: \"In\", \"NotIn\""),
        (labels(&json!({"a b": "c"})), LABELS),
        (labels(&json!({"a": "b c"})), LABELS),
        (labels(&json!({"a/b/c": "d"})), LABELS),
        (labels(&json!({"a": "b".repeat(64)})), "may not be more than 63 bytes"),
        (labels(&map(17)), "must have at most 16 items"),
        (labels(&json!({"vncpassword.dev/fleet": "other"})), OURS),
        (labels(&json!({"x.vncpassword.dev/fleet": "other"})), OURS),
        (labels(&json!({"app.kubernetes.io/managed-by": "me"})), OURS),
        (annotations(&json!({"a b": "c"})), ANNOTATIONS),
        (annotations(&json!({"a": "b".repeat(1025)})), "may not be more than 1024 bytes"),
        (annotations(&map(17)), "must have at most 16 items"),
        (annotations(&json!({"vncpassword.dev/rotate-at": "2026-01-02T03:04:05Z"})), OURS),
        (secret_name("vnc-passwords"), SECRET_NEEDS_ID),
        (secret_name("vnc-{instance_id}"), SECRET_NEEDS_ID),
        (secret_name("{instanceId}-{name}"), SECRET_PATTERN),
        (secret_name("Vnc-{instanceId}"), SECRET_PATTERN),
        (secret_name("vnc-{instanceId}-"), SECRET_PATTERN),
        (secret_name("../{instanceId}"), SECRET_PATTERN),
        (secret_name("other/{instanceId}"), SECRET_PATTERN),
        (
            json!({"template": {"secretName": format!("{}{{instanceId}}", "a".repeat(109))}}),
            "may not be more than 120 bytes",
        ),
        (json!({"template": {"secretKey": "a b"}}), KEY),
        (json!({"template": {"secretKey": "password.next"}}), KEPT),
        (json!({"template": {"activation": "Restart"}}), "supported values: \"Manual\", \"Reboot\""),
        (json!({"template": {"credentialsRef": {"name": "other/secret"}}}), SECRET),
        (json!({"template": {"suspend": true}}), "unknown field \"spec.template.suspend\""),
        (json!({"rediscoverInterval": "59s"}), A_MINUTE),
        (json!({"rediscoverInterval": "often"}), DURATION),
        (json!({"rotation": {"interval": "1h", "schedule": "@daily"}}), ONE_OF_TWO),
        (json!({"rotation": {"interval": "1h", "timeZone": "UTC"}}), ZONE_OF_NOTHING),
        (json!({"rotation": {"interval": "1s"}}), A_MINUTE),
        (json!({"window": {"schedule": "daily", "duration": "1h"}}), CRON),
        (json!({"window": {"schedule": "@daily", "duration": "1h", "timeZone": "+8"}}), ZONE),
        (json!({"prune": "Keep"}), "supported values: \"Delete\", \"Orphan\""),
        (json!({"suspend": "yes"}), "must be of type boolean"),
    ];
    for limit in ["maxConcurrent", "maxUnavailable", "pauseAfterFailures"] {
        table.push((json!({"rollout": {limit: 0}}), "should be greater than or equal to 1"));
        table.push((json!({"rollout": {limit: 1001}}), "should be less than or equal to 1000"));
        table.push((json!({"rollout": {limit: "25%"}}), "must be of type integer"));
    }
    table
}

/// What may be created.
fn accepted() -> Vec<Value> {
    let long = |length: usize| "a".repeat(length);
    let prefixed = format!("{}/{}", "a".repeat(253), "b".repeat(63));
    vec![
        json!({}),
        json!({"nodeSelector": {"matchLabels": {"node-pool": "db", "example.com/empty": ""}}}),
        json!({"nodeSelector": {"matchLabels": map(32)}}),
        expression(
            &json!({"key": &prefixed, "operator": "In", "values": many(100, |n| json!(format!("{}{n:03}", long(60))))}),
        ),
        expression(&json!({"key": "node-role.kubernetes.io/control-plane", "operator": "DoesNotExist"})),
        json!({"nodeSelector": {"matchExpressions": many(32, |n| json!({"key": format!("k{n}"), "operator": "Exists"}))}}),
        tags(
            &json!([{"key": "env", "value": "prod"}, {"key": "ack.aliyun.com", "value": ""}, {"key": "any"}]),
            &json!(["cn-hangzhou"]),
        ),
        tags(
            &many(20, |n| json!({"key": format!("{n:0128}"), "value": long(128)})),
            &many(30, |n| json!(format!("cn-a{n}"))),
        ),
        instances(&json!(["i-a", "cn-hangzhou.i-b", "ap-southeast-1.i-b"])),
        instances(&json!([format!("cn-{}.i-{}", long(61), long(62))])),
        instances(&many(1000, |n| json!(format!("cn-{}.i-{}{n:03}", long(61), long(59))))),
        json!({"exclude": many(1000, |n| json!(format!("i-{}{n:03}", long(59))))}),
        json!({"requireTags": [{"key": "acs:autoscaling:scalingGroupId"}, {"key": "b", "value": "c"}]}),
        json!({"targetNamespace": long(63)}),
        labels(&json!({"team": "db", "example.com/tier": ""})),
        labels(&json!({&prefixed: long(63)})),
        labels(&map(16)),
        annotations(&json!({"example.com/owner": "a person <a@example.com>", "notvncpassword.dev/a": "b"})),
        annotations(&map(16)),
        secret_name("vnc-{instanceId}"),
        secret_name("{fleet}.{instanceId}.vnc"),
        secret_name("{instanceId}"),
        json!({"template": {"secretKey": "vnc", "activation": "Reboot", "credentialsRef": {"name": "ram"}}}),
        json!({"template": {"secretName": format!("{}{{instanceId}}", long(108))}}),
        json!({"rotation": {"schedule": "0 3 1 * *", "timeZone": "Asia/Shanghai"}, "window": {"schedule": "0 2 * * *", "duration": "4h"}}),
        json!({"rotation": {}, "rediscoverInterval": "1m"}),
        json!({"rollout": {"maxConcurrent": 1000, "maxUnavailable": 1000, "pauseAfterFailures": 1000}}),
        json!({"prune": "Orphan", "suspend": true}),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_cannot_work_is_refused_with_words_that_help() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for (fields, message) in refused() {
        match create(&world, "a", with(&fields)).await {
            Ok(_) => wrong.push(format!("{fields}: accepted, instead of: {message}")),
            Err(said) if said.contains(message) => {}
            Err(said) => wrong.push(format!("{fields}: {said:?}, instead of: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let said = create(&world, &"a".repeat(64), with(&json!({}))).await.expect_err("a name of 64 characters");
    assert!(said.contains(LONG_NAME), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_can_work_is_accepted_and_understood() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for fields in accepted() {
        match create(&world, &"a".repeat(63), with(&fields)).await {
            Err(said) => wrong.push(format!("{fields}: {said}")),
            Ok(created) => {
                let read: ClusterVncPasswordSpec = serde_json::from_value(created["spec"].clone()).unwrap();
                let written = serde_json::to_value(&read).unwrap();
                assert_eq!(serde_json::from_value::<ClusterVncPasswordSpec>(written).unwrap(), read);
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pace_of_a_fleet_is_filled_in_where_it_is_begun() {
    let world = World::new().await;
    let created = create(&world, "a", with(&json!({}))).await.unwrap();
    assert_eq!(created["spec"].as_object().unwrap().len(), 2, "nothing is filled in: {created}");
    let created = create(&world, "a", with(&json!({"rollout": {"maxConcurrent": 5}}))).await.unwrap();
    let filled = json!({"maxConcurrent": 5, "maxUnavailable": 1, "pauseAfterFailures": 3});
    assert_eq!(created["spec"]["rollout"], filled);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespace_and_secrets_of_a_fleet_are_immutable_and_its_selector_is_not() {
    let world = World::new().await;
    let fleets: Api<ClusterVncPassword> = Api::all(world.client.clone());
    let template = json!({"secretName": "vnc-{instanceId}", "secretKey": "vnc"});
    for (name, spec) in [
        (format!("{}-plain", world.namespace), with(&json!({}))),
        (format!("{}-named", world.namespace), with(&json!({"template": template}))),
    ] {
        let object = json!({"metadata": {"name": name}, "spec": spec});
        fleets.create(&PostParams::default(), &typed(&object)).await.unwrap();
    }
    let change = async |name: &str, change: &Value| {
        let name = format!("{}-{name}", world.namespace);
        let patch = Patch::Merge(json!({"spec": change}));
        fleets.patch(&name, &PatchParams::default(), &patch).await.map_err(|error| error.to_string())
    };
    for (name, other, message) in [
        ("plain", json!({"targetNamespace": "other"}), OTHER_NAMESPACE),
        ("plain", json!({"template": {"secretName": "vnc-{instanceId}"}}), OTHER_SECRET),
        ("plain", json!({"template": {"secretKey": "vnc"}}), OTHER_KEY),
        ("named", json!({"template": {"secretName": "{instanceId}"}}), OTHER_SECRET),
        ("named", json!({"template": {"secretName": null}}), OTHER_SECRET),
        ("named", json!({"template": {"secretKey": null}}), OTHER_KEY),
        ("named", json!({"template": null}), OTHER_KEY),
    ] {
        let said = change(name, &other).await.expect_err(&other.to_string());
        assert!(said.contains(message), "{name} {other}: {said:?}, instead of: {message}");
    }
    for (name, allowed) in [
        ("plain", json!({"template": {"secretKey": "password"}})),
        ("plain", json!({"template": null})),
        ("plain", json!({"nodeSelector": null, "instanceIds": ["i-a"]})),
        ("plain", json!({"instanceIds": null, "tags": [{"key": "a"}], "regionIds": ["cn-beijing"]})),
        ("named", json!({"template": {"activation": "Reboot", "metadata": {"labels": {"a": "b"}}}})),
        ("named", json!({"template": {"activation": null}, "prune": "Orphan", "suspend": true})),
    ] {
        change(name, &allowed).await.unwrap_or_else(|said| panic!("{name} {allowed}: {said}"));
    }
    for name in ["plain", "named"] {
        let name = format!("{}-{name}", world.namespace);
        fleets.delete(&name, &DeleteParams::default()).await.unwrap();
    }
}

#[test]
fn every_rule_of_the_fleets_schema_is_tried() {
    let crd = serde_json::to_value(ClusterVncPassword::crd()).unwrap();
    let mut rules = BTreeSet::new();
    messages(&crd, &mut rules);
    let mut tried: BTreeSet<String> = refused().into_iter().map(|(_, message)| message.to_owned()).collect();
    tried.extend([LONG_NAME, OTHER_NAMESPACE, OTHER_SECRET, OTHER_KEY].map(str::to_owned));
    let untried: Vec<_> = rules.difference(&tried).collect();
    assert!(untried.is_empty(), "no object breaks these rules here: {untried:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_shows_what_matters_of_a_fleet() {
    let world = World::new().await;
    let fleets: Api<ClusterVncPassword> = Api::all(world.client.clone());
    let name = format!("{}-shown", world.namespace);
    let object = json!({"metadata": {"name": name}, "spec": with(&json!({}))});
    fleets.create(&PostParams::default(), &typed(&object)).await.unwrap();
    let at = "2026-01-02T03:04:05Z";
    let status = json!({
        "discovered": 12, "failed": 1, "rotating": 4, "waiting": 2, "nextRotationTime": at,
        "conditions": [{"type": "Ready", "status": "False", "reason": "RollingOut", "message": "", "lastTransitionTime": at}],
        "rollout": {"id": at, "trigger": "Schedule", "startedAt": at, "updated": 5, "total": 12, "progress": "5/12",
            "paceFrom": {"time": at}},
    });
    serde_json::from_value::<ClusterVncPasswordStatus>(status.clone()).unwrap();
    let patch = Patch::Merge(json!({"status": status}));
    fleets.patch_status(&name, &PatchParams::default(), &patch).await.unwrap();
    let shown = columns(&kubectl(&world, &["get", "cvncpw", &name, "--output", "wide"]).await);
    let heads: Vec<&str> = shown.iter().map(|(head, _)| head.as_str()).collect();
    assert_eq!(
        heads,
        ["NAME", "READY", "REASON", "DISCOVERED", "UPDATED", "FAILED", "NEXT", "AGE", "ROTATING", "WAITING"]
    );
    let cells: Vec<&str> = shown.iter().map(|(_, cell)| cell.as_str()).collect();
    assert_eq!(cells[1..7], ["False", "RollingOut", "12", "5/12", "1", at]);
    assert_eq!(cells[8..], ["4", "2"]);
    let narrow = columns(&kubectl(&world, &["get", "cvncpw", &name]).await);
    assert_eq!(narrow.len(), 8);
    fleets.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explains_every_field_of_a_fleet() {
    let world = World::new().await;
    let crd = serde_json::to_value(ClusterVncPassword::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for path in [
        "spec",
        "spec.nodeSelector",
        "spec.template",
        "spec.template.metadata",
        "spec.rollout",
        "status",
        "status.rollout",
        "status.rollout.paceFrom",
        "status.doubt",
    ] {
        let said = words(&kubectl(&world, &["explain", &format!("clustervncpassword.{path}")]).await);
        let at =
            path.split('.').fold(&json!({"properties": schema}), |at, name| &at["properties"][name]).clone();
        for (name, field) in at["properties"].as_object().unwrap() {
            let documented = words(field["description"].as_str().unwrap_or_default());
            assert!(!documented.is_empty(), "{path}.{name} is not documented");
            assert!(said.contains(&format!("{name} <")), "{path}.{name} is not shown: {said}");
            assert!(said.contains(&documented), "{path}.{name}: {documented:?} is not shown: {said}");
        }
    }
}

fn typed(object: &Value) -> ClusterVncPassword {
    let mut object = object.clone();
    object["apiVersion"] = json!("vncpassword.dev/v1alpha1");
    object["kind"] = json!("ClusterVncPassword");
    serde_json::from_value(object).unwrap()
}

/// Asks the API server whether it would create this: the object as it would be, or what it says against it.
async fn create(world: &World, name: &str, spec: Value) -> Result<Value, String> {
    let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
        "metadata": {"name": name}, "spec": spec});
    let path = "/apis/vncpassword.dev/v1alpha1/clustervncpasswords?dryRun=All&fieldValidation=Strict";
    let request = http::Request::post(path)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&object).unwrap());
    let created = world.client.request(request.unwrap()).await;
    created.map_err(|error| error.to_string())
}
