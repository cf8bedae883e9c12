//! Tests of the choice of targets.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use serde_json::{Value, json};

use super::*;
use crate::summary::tests::object_summary;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn object(spec: &Value, status: &Value) -> Target {
    Target::Object(Box::new(object_summary("a", spec, status)))
}

#[test]
fn a_stamp_counts_though_the_clocks_differ() {
    let now = at("2026-01-05T00:00:00.9Z");
    let stamp = |status: Value| object(&json!({}), &status).stamp(now);
    assert_eq!(stamp(json!({})), at("2026-01-05T00:00:00Z"));
    assert_eq!(stamp(json!({"lastHandledRotateAt": "2026-01-05T00:00:00Z"})), at("2026-01-05T00:00:01Z"));
    assert_eq!(stamp(json!({"lastHandledRotateAt": "2026-01-05T00:02:00Z"})), at("2026-01-05T00:02:01Z"));
    let early = object(&json!({}), &json!({})).stamp(at("2025-01-01T00:00:00Z"));
    assert_eq!(early, at("2026-01-01T00:00:00Z"), "the object's creation");
}

#[test]
fn what_a_person_should_know_is_said_before() {
    let mut child =
        object_summary("a", &json!({"rotation": {}, "suspend": true, "activation": "Reboot"}), &json!({}));
    child.metadata.owner_references = Some(vec![OwnerReference {
        kind: "ClusterVncPassword".to_owned(),
        name: "nodes".to_owned(),
        controller: Some(true),
        ..OwnerReference::default()
    }]);
    child.annotations_mut().insert(ROTATE_AT.to_owned(), "2026-02-01T00:00:00Z".to_owned());
    let child = Target::Object(Box::new(child));
    let [fleet, suspended, restarts] =
        <[String; 3]>::try_from(warnings(std::slice::from_ref(&child), None)).unwrap();
    assert!(fleet.contains("prod/a; rotate fleet/nodes for all of it"), "{fleet}");
    assert!(suspended.contains("until they are not: prod/a"), "{suspended}");
    assert!(restarts.contains("may restart these instances at once: prod/a"), "{restarts}");
    assert_eq!(
        child.cells(None, at("2026-01-05T00:00:00Z")),
        [
            "prod/a",
            "i-a",
            "never",
            "suspended, so it waits; takes the place of the request for 2026-02-01T00:00:00Z; of fleet nodes, outside of its \
                 waves"
        ]
    );
}

#[test]
fn a_fleet_counts_as_all_its_instances() {
    let fleet = serde_json::from_value(json!({
        "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "metadata": {"name": "nodes"},
        "spec": {"nodeSelector": {}, "targetNamespace": "vnc"}, "status": {"discovered": 30},
    }))
    .unwrap();
    let targets = vec![Target::Fleet(Box::new(fleet)), object(&json!({}), &json!({}))];
    assert_eq!(Chosen::new(targets, None).passwords(), 31);
}
