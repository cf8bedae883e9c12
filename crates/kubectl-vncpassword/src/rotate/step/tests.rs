//! Tests of the steps of a rotation.

use serde_json::{Value, json};

use super::*;
use crate::summary::tests::{condition, object_summary, ready};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const ASKED: &str = "2026-01-03T00:00:00Z";

/// So many seconds after it was asked.
fn step(spec: &Value, status: &Value, later: i64) -> Step {
    step_after(&Standing::default(), spec, status, later)
}

fn step_after(before: &Standing, spec: &Value, status: &Value, later: i64) -> Step {
    let request = Request { at: at(ASKED), asked: at(ASKED), before: before.clone() };
    of_object(&object_summary("a", spec, status), &request, at(ASKED) + SignedDuration::from_secs(later))
}

#[test]
fn what_is_handled_is_done_and_names_its_request() {
    let status = json!({"lastHandledRotateAt": ASKED, "requestId": "4F6A"});
    let generated = json!({"rotation": {}});
    assert_eq!(step(&generated, &status, 1), Step::Done("rotated, RequestId 4F6A".to_owned()));
    assert_eq!(step(&json!({}), &status, 1), Step::Done("sent again, RequestId 4F6A".to_owned()));
    let earlier = json!({"lastHandledRotateAt": "2026-01-02T23:59:59Z"});
    assert_eq!(step(&generated, &earlier, 1), Step::UnderWay);
}

#[test]
fn what_it_waits_for_is_said() {
    let generated = json!({"rotation": {}});
    for (spec, status, expected) in [
        (json!({"suspend": true}), json!({}), "spec.suspend"),
        (
            generated.clone(),
            json!({"conditions": [condition("RebootRequired", "RebootRequired")]}),
            "yours to do",
        ),
        (
            json!({"rotation": {}, "activation": "Reboot", "window": {}}),
            json!({"conditions": [condition("RebootRequired", "RebootRequired"), condition("Reconciling", "RebootRequired")]}),
            "waits for its window",
        ),
        (
            generated.clone(),
            json!({"conditions": [condition("Reconciling", "IncorrectInstanceStatus")], "instance": {"status": "Stopped"}}),
            "another state of the instance (it is Stopped)",
        ),
        (
            generated.clone(),
            json!({"conditions": [condition("Reconciling", "Throttled")]}),
            "the limit on calls",
        ),
        (generated.clone(), json!({"conditions": [condition("Reconciling", "Settling")]}), "a lost call"),
        (generated, json!({"lastRotationTime": "2026-01-02T23:59:30Z"}), "less than a minute ago"),
    ] {
        match step(&spec, &status, 1) {
            Step::Waits(text) => assert!(text.contains(expected), "{text}"),
            other => panic!("{expected}: {other:?}"),
        }
    }
}

#[test]
fn an_old_need_for_a_person_is_given_a_moment_and_a_new_one_is_not() {
    let stalled = |since: &str| {
        let mut stalled = condition("Stalled", "Denied");
        stalled["lastTransitionTime"] = json!(since);
        json!({"conditions": [ready("False", "Denied"), stalled]})
    };
    let failed = Step::Failed("Denied: because of Denied".to_owned());
    let old = stalled("2026-01-02T00:00:00Z");
    let before = Standing::of_object(&object_summary("a", &json!({}), &old));
    let after = |status: &Value, later| step_after(&before, &json!({}), status, later);
    assert_eq!(after(&old, 1), Step::UnderWay);
    assert_eq!(after(&old, 15), failed);
    // Another beginning is new, whatever the clocks say.
    for since in ["2026-01-01T00:00:00Z", "2026-01-03T00:00:01Z"] {
        assert_eq!(after(&stalled(since), 1), failed, "{since}");
    }
    let mut again = old.clone();
    again["retry"] = json!({"lastFailureTime": "2026-01-02T00:00:01Z"});
    assert_eq!(after(&again, 1), failed);
}

#[test]
fn what_stands_in_the_way_counts_from_when_it_is_due() {
    let status = json!({"conditions": [condition("Stalled", "InvalidSchedule")], "lastRotationTime": "2026-01-02T23:59:30Z"});
    let failed = Step::Failed("InvalidSchedule: because of InvalidSchedule".to_owned());
    let before = Standing::of_object(&object_summary("a", &json!({}), &status));
    for (later, expected) in [
        (1, Step::Waits(YOUNG.to_owned())),
        (29, Step::Waits(YOUNG.to_owned())),
        (30, Step::UnderWay),
        (44, Step::UnderWay),
        (45, failed),
    ] {
        assert_eq!(step_after(&before, &json!({"rotation": {}}), &status, later), expected, "{later}");
    }
    let anew = step(&json!({"rotation": {}}), &status, 1);
    assert_eq!(anew, Step::Waits(YOUNG.to_owned()), "new as it is");
}

#[test]
fn a_time_to_come_is_waited_for() {
    let request = Request { at: at(ASKED), asked: at("2026-01-02T23:50:00Z"), before: Standing::default() };
    let step = |now| of_object(&object_summary("a", &json!({}), &json!({})), &request, at(now));
    let waits = "waits until 2026-01-03T00:00:00Z: the clocks differ".to_owned();
    assert_eq!(step("2026-01-02T23:50:00Z"), Step::Waits(waits));
    assert_eq!(step("2026-01-02T23:59:58Z"), Step::UnderWay, "a moment is no wait");
}

fn fleet(status: &Value) -> Step {
    fleet_after(None, &json!({}), status, 2)
}

/// So many seconds after it was asked; `before`: its status then.
fn fleet_after(before: Option<&Value>, spec: &Value, status: &Value, later: i64) -> Step {
    let with = |status: &Value| -> ClusterVncPassword {
        let mut fleet = json!({
            "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "metadata": {"name": "nodes"},
            "spec": {"nodeSelector": {}, "targetNamespace": "vnc"}, "status": status,
        });
        for (key, value) in spec.as_object().unwrap() {
            fleet["spec"][key] = value.clone();
        }
        serde_json::from_value(fleet).unwrap()
    };
    let before = before.map(|status| Standing::of_fleet(&with(status))).unwrap_or_default();
    let request = Request { at: at(ASKED), asked: at(ASKED), before };
    of_fleet(&with(status), &request, at(ASKED) + SignedDuration::from_secs(later))
}

fn rollout(completed: bool, failed: u32) -> Value {
    let mut rollout = json!({"id": ASKED, "trigger": "OnDemand", "startedAt": ASKED, "updated": 8, "total": 10,
        "failed": failed, "paceFrom": {"time": ASKED, "updated": 0}});
    if completed {
        rollout["completedAt"] = json!(ASKED);
    }
    rollout
}

#[test]
fn a_fleet_is_done_when_the_rollout_that_was_asked_for_is_through() {
    let mut before = rollout(true, 0);
    before["startedAt"] = json!("2026-01-02T00:00:00Z");
    assert_eq!(fleet(&json!({"rollout": before})), Step::UnderWay, "that was the one before");
    let handled = |completed, failed| {
        fleet(&json!({"lastHandledRotateAt": ASKED, "rollout": rollout(completed, failed)}))
    };
    assert_eq!(handled(false, 0), Step::UnderWay);
    assert!(
        matches!(handled(true, 0), Step::Done(text) if text.starts_with("8 of 10 rotated; 2 are stopped"))
    );
    assert_eq!(handled(true, 2), Step::Failed("8 of 10 rotated, 2 failed".to_owned()));
}

#[test]
fn what_needs_a_person_beside_a_rollout_does_not_fail_it() {
    let status = |reason: &str, mut rollout: Value, halted: bool| {
        if halted {
            rollout["haltedAt"] = json!(ASKED);
        }
        json!({"lastHandledRotateAt": ASKED, "rollout": rollout, "conditions": [condition("Stalled", reason)]})
    };
    let good = json!({"rotation": {"schedule": "not a schedule"}});
    let bad = json!({"window": {"schedule": "not a schedule", "duration": "1h"}});
    for (name, reason, spec, halted, expected) in [
        ("a bad schedule", "InvalidSchedule", &good, false, None),
        ("a bad window", "InvalidSchedule", &bad, false, Some("InvalidSchedule")),
        ("asked again, by no time", "InvalidRotateAt", &good, false, None),
        ("halted beneath a bad schedule", "InvalidSchedule", &good, true, Some("InvalidSchedule")),
        ("nothing can be written", "NamespaceNotFound", &good, false, Some("NamespaceNotFound")),
    ] {
        let status = status(reason, rollout(false, 0), halted);
        let expected =
            expected.map_or(Step::UnderWay, |reason| Step::Failed(format!("{reason}: because of {reason}")));
        assert_eq!(fleet_after(None, spec, &status, 20), expected, "{name}");
    }
}

#[test]
fn a_fleet_that_waits_for_its_minute_has_not_failed() {
    let mut last = rollout(true, 2);
    last["startedAt"] = json!("2026-01-02T23:59:30Z");
    let status = json!({"rollout": last, "conditions": [condition("Stalled", "MembersFailed")]});
    let failed = Step::Failed("MembersFailed: because of MembersFailed".to_owned());
    for (later, expected) in
        [(20, Step::Waits(YOUNG.to_owned())), (30, Step::UnderWay), (44, Step::UnderWay), (45, failed)]
    {
        assert_eq!(fleet_after(Some(&status), &json!({}), &status, later), expected, "{later}");
    }
}

#[test]
fn a_fleet_that_halts_has_failed() {
    let mut halted = condition("Stalled", "RolloutHalted");
    halted["lastTransitionTime"] = json!("2026-01-03T00:00:01Z");
    let step =
        fleet(&json!({"lastHandledRotateAt": ASKED, "rollout": rollout(false, 3), "conditions": [halted]}));
    assert_eq!(step, Step::Failed("RolloutHalted: because of RolloutHalted".to_owned()));
}
