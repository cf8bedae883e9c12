//! Tests of the rows of the status table.

use serde_json::{Value, json};

use super::*;
use crate::summary::tests::{condition, object_summary, ready};

fn now() -> Timestamp {
    "2026-01-03T00:00:00Z".parse().unwrap()
}

fn cells(spec: &Value, status: &Value) -> [String; 4] {
    let object = object_summary("a", spec, status);
    [in_effect(&object).to_owned(), since(&object, now()), next(&object, now()), why(&object)]
}

#[test]
fn each_state_reads_as_what_it_is() {
    let rotation = json!({"rotation": {}});
    let applied = || ready("True", "Applied");
    for (name, spec, status, expected) in [
        (
            "never looked at",
            json!({}),
            json!({}),
            ["no", "2d", "first look", "the operator has not looked at it yet"],
        ),
        (
            "a user's, in effect",
            json!({}),
            json!({"conditions": [applied()], "lastRotationTime": "2026-01-02T12:00:00Z"}),
            ["yes", "12h", "your change", ""],
        ),
        (
            "generated, on demand",
            rotation.clone(),
            json!({"conditions": [applied()]}),
            ["yes", "24h", "on demand", ""],
        ),
        (
            "generated, by a schedule",
            rotation.clone(),
            json!({"conditions": [applied()], "nextRotationTime": "2026-01-08T00:00:00Z"}),
            ["yes", "24h", "in 5d", ""],
        ),
        (
            "due",
            rotation.clone(),
            json!({"conditions": [applied()], "nextRotationTime": "2026-01-02T00:00:00Z"}),
            ["yes", "24h", "due", ""],
        ),
        (
            "stalled",
            rotation.clone(),
            json!({"conditions": [ready("False", "Denied"), condition("Stalled", "Denied")]}),
            ["no", "24h", "needs a person", "Denied: because of Denied"],
        ),
        (
            "in effect, but stalled",
            rotation.clone(),
            json!({"conditions": [applied(), condition("Stalled", "InvalidSchedule")]}),
            ["yes", "24h", "needs a person", "InvalidSchedule: because of InvalidSchedule"],
        ),
        (
            "not known",
            rotation.clone(),
            json!({"conditions": [ready("Unknown", "OutcomeUnknown"), condition("Reconciling", "OutcomeUnknown")],
                "retry": {"nextAttemptTime": "2026-01-03T00:00:40Z"}}),
            ["unknown", "24h", "again in 40s", "OutcomeUnknown: because of OutcomeUnknown"],
        ),
        (
            "settling",
            rotation.clone(),
            json!({"conditions": [applied(), condition("Reconciling", "Settling")],
                "retry": {"unsettledUntil": "2026-01-03T00:12:00Z"}}),
            ["yes", "24h", "again in 12m", "Settling: because of Settling"],
        ),
        (
            "waits for a restart",
            rotation.clone(),
            json!({"conditions": [applied(), condition("RebootRequired", "RebootRequired")]}),
            ["yes", "24h", "your restart", "RebootRequired: because of RebootRequired"],
        ),
        (
            "is restarted in its window",
            json!({"rotation": {}, "activation": "Reboot", "window": {}}),
            json!({"conditions": [applied(), condition("RebootRequired", "RebootRequired"), condition("Reconciling", "x")]}),
            ["yes", "24h", "restart in window", "RebootRequired: because of RebootRequired"],
        ),
        (
            "suspended",
            json!({"rotation": {}, "suspend": true}),
            json!({"conditions": [applied(), condition("Suspended", "Suspended")]}),
            ["yes", "24h", "suspended", ""],
        ),
    ] {
        assert_eq!(cells(&spec, &status), expected, "{name}");
    }
}

#[test]
fn the_summary_advises_a_command_that_works_in_any_namespace() {
    let conditions = json!([ready("False", "Denied"), condition("Stalled", "Denied")]);
    let stalled = object_summary("a", &json!({}), &json!({"conditions": conditions}));
    let text = summary(&[stalled]);
    assert!(text.ends_with("1 in need of a person; see kubectl vncpassword explain a -n prod"), "{text}");
}

#[test]
fn a_rotation_that_was_asked_for_comes_next() {
    let mut asked =
        object_summary("a", &json!({"rotation": {}}), &json!({"conditions": [ready("True", "Applied")]}));
    let ask = |object: &mut ObjectSummary, at: &str| {
        object.annotations_mut().insert(vncpassword_core::api::ROTATE_AT.to_owned(), at.to_owned());
    };
    ask(&mut asked, "2026-01-02T23:59:00Z");
    assert_eq!(next(&asked, now()), "asked");
    ask(&mut asked, "2026-01-03T01:00:00Z");
    assert_eq!(next(&asked, now()), "asked, in 60m");
    asked.status.last_handled_rotate_at = Some("2026-01-03T01:00:00Z".parse().unwrap());
    assert_eq!(next(&asked, now()), "on demand");
    ask(&mut asked, "soon");
    assert_eq!(why(&asked), "InvalidRotateAt");
}

#[test]
fn a_watch_shows_each_change_once() {
    let mut shown = Shown::new(Columns::default());
    let well =
        object_summary("a", &json!({"rotation": {}}), &json!({"conditions": [ready("True", "Applied")]}));
    shown.is(&well, now());
    assert_eq!(shown.text(None), "", "not before the list is complete");
    shown.complete();
    assert_eq!(shown.text(None).lines().count(), 2);
    let later = "2026-01-09T00:00:00Z".parse().unwrap();
    shown.is(&well, later);
    assert_eq!(shown.text(None), "", "an age alone is no change");
    let ill = object_summary("a", &json!({}), &json!({"conditions": [ready("False", "Denied")]}));
    shown.is(&ill, later);
    assert_eq!(shown.text(None), "a      no          7d      your change   Denied: because of Denied\n");
    shown.gone(&ill, later);
    assert!(shown.text(None).ends_with("deleted\n"));
}
