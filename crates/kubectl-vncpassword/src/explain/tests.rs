//! What is said of each state, as tables.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    advice::{OPERATOR_NAMESPACE, tests::every_reason},
    fleet::explain_fleet,
    object::explain_object,
    view::{EventSummary, FleetView, ObjectView, SecretState},
};
use crate::{
    fetched::Fetched,
    text::{Paragraph, Topic, render},
};
use vncpassword_core::api::{ClusterVncPassword, Reason, VncPassword};

const NOW: &str = "2026-01-02T03:04:05Z";

fn now() -> Timestamp {
    NOW.parse().unwrap()
}

fn condition(type_: &str, status: &str, reason: &str, message: &str) -> Value {
    json!({"type": type_, "status": status, "reason": reason, "message": message,
        "lastTransitionTime": "2026-01-02T03:00:05Z", "observedGeneration": 1})
}

fn merged(base: Value, over: &Value) -> Value {
    match (base, over) {
        (Value::Object(mut base), Value::Object(over)) => {
            for (key, value) in over {
                let merged = merged(base.remove(key).unwrap_or_default(), value);
                base.insert(key.clone(), merged);
            }
            Value::Object(base)
        }
        (_, over) => over.clone(),
    }
}

fn object(over: &Value) -> VncPassword {
    let base = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
        "metadata": {"name": "db", "namespace": "team-a", "uid": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"instanceId": "i-bp1", "secretRef": {"name": "db", "key": "password"}}});
    serde_json::from_value(merged(base, over)).unwrap()
}

fn view(over: &Value) -> ObjectView {
    let keys = ["password".to_owned()].into();
    let secret = SecretState { keys, type_: "Opaque".to_owned(), ..SecretState::default() };
    ObjectView {
        object: object(over),
        secret: Fetched::Yes(Some(secret)),
        credentials: None,
        others: Fetched::Yes(vec![]),
        events: Fetched::Yes(vec![]),
        now: now(),
        operator: OPERATOR_NAMESPACE.to_owned(),
    }
}

fn of_reason(reason: Reason) -> Value {
    let beside = json!({"status": {"observedGeneration": 1, "conditions": [
        condition("Ready", "False", reason.as_str(), "why"), condition("Stalled", "True", reason.as_str(), "why")]}});
    beside
}

fn text(paragraphs: &[Paragraph], topic: Topic) -> String {
    let about = paragraphs.iter().filter(|paragraph| paragraph.about == topic);
    about.map(|paragraph| paragraph.text.as_str()).collect::<Vec<_>>().join("\n")
}

fn commands(paragraphs: &[Paragraph]) -> String {
    let commands: Vec<String> = paragraphs.iter().flat_map(|paragraph| paragraph.commands.clone()).collect();
    commands.join("\n")
}

#[test]
fn every_reason_is_explained_in_full_once() {
    for reason in every_reason() {
        let paragraphs = explain_object(&view(&of_reason(reason)));
        let state = text(&paragraphs, Topic::State);
        assert!(state.contains(&format!("reason {}", reason.as_str())), "{reason:?}: {state}");
        assert!(state.contains("Why."), "{reason:?}: the condition's own message: {state}");
        assert!(!text(&paragraphs, Topic::Condition).contains("Why."), "{reason:?}: it is said once");
        assert_eq!(
            paragraphs.iter().filter(|paragraph| paragraph.about == Topic::Remedy).count(),
            1,
            "{reason:?}"
        );
    }
}

#[test]
fn what_was_never_looked_at_is_for_the_doctor() {
    let paragraphs = explain_object(&view(&json!({})));
    assert!(text(&paragraphs, Topic::State).contains("no operator has looked at it"));
    assert_eq!(commands(&paragraphs), "kubectl vncpassword doctor");
}

#[test]
fn a_spec_that_nobody_has_seen_yet_is_told() {
    let over = merged(of_reason(Reason::Applied), &json!({"metadata": {"generation": 2}}));
    assert!(text(&explain_object(&view(&over)), Topic::State).contains("The spec has changed since"));
}

#[test]
fn attempts_code_request_id_and_the_next_attempt_are_told() {
    let retry = json!({"attempts": 3, "lastFailureTime": "2026-01-02T03:03:05Z", "code": "Forbidden.RAM",
        "requestId": "473469C7", "nextAttemptTime": "2026-01-02T03:14:05Z"});
    let next = [
        (
            Reason::Refused,
            "The next attempt is at 2026-01-02T03:14:05Z (in 10m), sooner where the Secret, the object or the instance changes.",
        ),
        (
            Reason::Denied,
            "The operator tries those that lack the same right one after the other, each about every ten minutes; this one sooner where the Secret or the object changes.",
        ),
    ];
    for (reason, next) in next {
        let over = merged(of_reason(reason), &json!({"status": {"retry": retry}}));
        let paragraphs = text(&explain_object(&view(&over)), Topic::Retry);
        let expected = format!(
            "3 attempts failed in a row, the last at 2026-01-02T03:03:05Z (60s ago). The cloud answered Forbidden.RAM \
             (RequestId 473469C7). {next}"
        );
        assert_eq!(paragraphs, expected, "{reason:?}");
    }
}

#[test]
fn a_call_that_may_still_arrive_is_told_while_it_may() {
    let until = |at: &str| {
        let retry = json!({"status": {"retry": {"unsettledUntil": at}}});
        text(&explain_object(&view(&merged(of_reason(Reason::Settling), &retry))), Topic::Retry)
    };
    assert!(until("2026-01-02T03:14:05Z").contains("may still arrive until 2026-01-02T03:14:05Z (in 10m)"));
    assert_eq!(until("2026-01-02T03:00:00Z"), "");
}

#[test]
fn whoever_waits_for_the_limit_is_told_of_a_turn_and_not_of_an_attempt() {
    let over = json!({"status": {"retry": {"nextAttemptTime": "2026-01-02T03:05:05Z"}, "conditions": [
        condition("Ready", "True", "Applied", "fine"), condition("Reconciling", "True", "Throttled", "used up")]}});
    let paragraphs = explain_object(&view(&over));
    assert!(
        text(&paragraphs, Topic::Retry)
            .starts_with("Its turn at the cloud's limit was expected at 2026-01-02T03:05:05Z")
    );
    assert!(text(&paragraphs, Topic::Condition).contains("Used up."));
    assert!(
        text(&paragraphs, Topic::Remedy).starts_with("Calls are let through in turn"),
        "Applied needs no remedy beside it"
    );
}

#[test]
fn the_window_says_whether_it_is_open_or_when_it_opens() {
    let schedule = |window: Value| {
        let over = merged(of_reason(Reason::Applied), &json!({"spec": {"rotation": {}, "window": window}}));
        text(&explain_object(&view(&over)), Topic::Schedule)
    };
    let window = |hour: &str| json!({"schedule": format!("0 {hour} * * *"), "duration": "2h", "timeZone": "Asia/Shanghai"});
    assert!(schedule(window("2")).contains("opens next at 2026-01-02T18:00:00Z (in 14h)"));
    assert!(schedule(window("11")).contains("open now"), "it is 11:04 in Shanghai");
    assert!(schedule(json!({"schedule": "0 0 31 2 *", "duration": "2h"})).contains("never happens"));
}

#[test]
fn what_was_asked_for_says_what_it_waits_for() {
    let asked = |over: &Value| {
        let annotated =
            json!({"metadata": {"annotations": {"vncpassword.dev/rotate-at": "2026-01-02T03:04:00Z"}}});
        let over = merged(merged(of_reason(Reason::Applied), &annotated), over);
        text(&explain_object(&view(&over)), Topic::Schedule)
    };
    let table = [
        (json!({}), "it is under way"),
        (json!({"spec": {"suspend": true}}), "it waits until spec.suspend is taken away"),
        (
            json!({"status": {"lastRotationTime": "2026-01-02T03:03:30Z"}}),
            "it is due at 2026-01-02T03:04:30Z (in 25s)",
        ),
        (
            json!({"status": {"retry": {"unsettledUntil": "2026-01-02T03:14:05Z"}}}),
            "cannot arrive any more, at 2026-01-02T03:14:05Z",
        ),
        (
            json!({"status": {"accepted": {"rotation": "a", "time": NOW}}}),
            "it waits for the restart that brings the password before it into effect",
        ),
    ];
    for (over, expected) in table {
        assert!(asked(&over).contains(expected), "{over}: {}", asked(&over));
    }
    assert_eq!(
        asked(&json!({"status": {"lastHandledRotateAt": "2026-01-02T03:04:00Z"}})),
        "",
        "it was handled"
    );
    let wrong = json!({"metadata": {"annotations": {"vncpassword.dev/rotate-at": "soon"}}});
    assert!(asked(&wrong).contains("is no time"));
}

#[test]
fn the_owner_of_a_conflict_is_named_as_far_as_it_may_be_seen() {
    let mut conflict = view(&of_reason(Reason::Conflict));
    let owner = |view: &ObjectView| text(&explain_object(view), Topic::Owner);
    assert!(owner(&conflict).starts_with("No other object that you may see"));
    conflict.others = Fetched::Denied("list vncpasswords".to_owned());
    assert_eq!(owner(&conflict), "Which other object it is cannot be told: you may not list vncpasswords.");
    let other = json!({"metadata": {"name": "web", "namespace": "team-b", "uid": "2"}, "status": {"requestId": "473469C7"}});
    conflict.others = Fetched::Yes(vec![object(&other)]);
    assert_eq!(
        owner(&conflict),
        "Instance i-bp1 is also named by team-b/web (the cloud has accepted a call for it, created 2026-01-01T00:00:00Z \
         (27h ago))."
    );
    assert!(commands(&explain_object(&conflict)).contains("kubectl vncpassword explain web -n team-b"));
    let sharer = json!({"metadata": {"name": "web", "namespace": "team-a", "uid": "2"}, "spec": {"instanceId": "i-bp2"}});
    conflict.others = Fetched::Yes(vec![object(&sharer)]);
    assert!(
        owner(&conflict)
            .starts_with("Key password of Secret db is also named by team-a/web (never looked at")
    );
    let alone = view(&of_reason(Reason::Applied));
    assert_eq!(owner(&alone), "");
}

#[test]
fn the_secret_is_told_by_its_keys_alone() {
    let secret = |keys: &[&str], over: Value| {
        let mut view = view(&merged(of_reason(Reason::Applied), &over));
        let keys = keys.iter().map(ToString::to_string).collect();
        view.secret =
            Fetched::Yes(Some(SecretState { keys, type_: "Opaque".to_owned(), ..SecretState::default() }));
        text(&explain_object(&view), Topic::Secret)
    };
    assert_eq!(secret(&["password"], json!({})), "Secret db has the key password.");
    assert_eq!(secret(&["pasword"], json!({})), "Secret db has no key password; it has pasword.");
    assert_eq!(secret(&[], json!({})), "Secret db is empty.");
    let generated = json!({"spec": {"rotation": {}}});
    assert!(
        secret(&["password", "password.next"], generated.clone()).contains("or with password.next where")
    );
    assert!(secret(&["password"], generated).contains("no label lets the operator write"));
    let accepted = json!({"status": {"accepted": {"rotation": "a", "time": NOW}}});
    assert!(secret(&["password", "password.next"], accepted).contains("in effect after a restart"));
}

#[test]
fn a_secret_that_is_missing_or_closed_is_told() {
    let mut view = view(&of_reason(Reason::SecretNotFound));
    let secret = |view: &ObjectView| text(&explain_object(view), Topic::Secret);
    view.secret = Fetched::Yes(None);
    assert_eq!(secret(&view), "Secret db does not exist.");
    view.secret = Fetched::Denied("get secrets in namespace team-a".to_owned());
    assert_eq!(
        secret(&view),
        "What Secret db holds is not known: you may not get secrets in namespace team-a."
    );
}

#[test]
fn the_credentials_are_told_by_what_they_are_made_of() {
    let paragraphs = |keys: &[&str]| {
        let mut view = view(&json!({"spec": {"credentialsRef": {"name": "key"}}}));
        let keys = keys.iter().map(ToString::to_string).collect();
        view.credentials = Some(Fetched::Yes(Some(SecretState { keys, ..SecretState::default() })));
        text(&explain_object(&view), Topic::Secret)
    };
    assert!(
        paragraphs(&["access-key-id", "access-key-secret"]).contains("with the access key in Secret key")
    );
    assert!(
        paragraphs(&["access-key-id", "access-key-secret", "role-arn"])
            .contains("as the role in Secret key, by the access key")
    );
    assert!(paragraphs(&["role-arn"]).contains("by the operator's own identity"));
    assert!(paragraphs(&["access-key-id"]).contains("lacks access-key-secret"));
}

#[test]
fn the_newest_events_come_first_and_hold_no_escapes() {
    let mut view = view(&of_reason(Reason::Denied));
    let event = |at: &str, note: &str, times| EventSummary {
        at: Some(at.parse().unwrap()),
        warning: true,
        reason: "Denied".to_owned(),
        note: note.to_owned(),
        times,
    };
    view.events = Fetched::Yes(vec![
        event("2026-01-02T03:00:05Z", "old", 1),
        event("2026-01-02T03:03:05Z", "new\u{1b}[2J", 3),
    ]);
    assert_eq!(
        text(&explain_object(&view), Topic::Events),
        "Lately:\n- 60s ago: Warning Denied (3 times): new [2J\n- 4m ago: Warning Denied: old"
    );
    view.events = Fetched::Denied("list events".to_owned());
    assert_eq!(
        text(&explain_object(&view), Topic::Events),
        "Its events are not known: you may not list events."
    );
}

#[test]
fn what_a_person_must_do_comes_before_what_goes_on_by_itself() {
    let over = json!({"status": {"conditions": [condition("Ready", "False", "SecretNotFound", "a"),
        condition("Reconciling", "True", "Throttled", "b")]}});
    let paragraphs = explain_object(&view(&over));
    let remedies: Vec<&str> = paragraphs
        .iter()
        .filter(|paragraphs| paragraphs.about == Topic::Remedy)
        .map(|paragraphs| paragraphs.text.as_str())
        .collect();
    assert!(
        remedies[0].starts_with("SecretNotFound: ") && remedies[1].starts_with("Throttled: "),
        "{remedies:?}"
    );
}

fn fleet(over: &Value) -> FleetView {
    let base = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
        "metadata": {"name": "nodes", "uid": "1", "generation": 1, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"nodeSelector": {}, "targetNamespace": "vnc"}});
    let fleet: ClusterVncPassword = serde_json::from_value(merged(base, over)).unwrap();
    FleetView { fleet, events: Fetched::Yes(vec![]), now: now(), operator: OPERATOR_NAMESPACE.to_owned() }
}

#[test]
fn every_reason_of_a_fleet_is_explained() {
    for reason in every_reason() {
        let paragraphs = explain_fleet(&fleet(&of_reason(reason)));
        assert!(text(&paragraphs, Topic::State).contains(reason.as_str()), "{reason:?}");
        assert!(!text(&paragraphs, Topic::Remedy).is_empty(), "{reason:?}");
    }
}

#[test]
fn a_halted_rollout_tells_how_far_it_came_and_what_failed() {
    let over = json!({"status": {"observedGeneration": 1, "discovered": 40, "failed": 3,
        "conditions": [condition("Ready", "False", "RolloutHalted", "three failed"), condition("Stalled", "True", "RolloutHalted", "three failed")],
        "rollout": {"id": NOW, "trigger": "OnDemand", "startedAt": "2026-01-02T02:04:05Z", "updated": 12, "total": 40, "failed": 3,
            "paceFrom": {"time": NOW}, "haltedAt": "2026-01-02T03:00:05Z"},
        "failures": [{"name": "nodes-i-a", "instanceId": "i-a", "reason": "Denied", "message": "denied"}],
        "skipped": 1, "skippedNodes": [{"node": "n1", "reason": "DuplicateProviderId"}]}});
    let paragraphs = explain_fleet(&fleet(&over));
    let all = render(&paragraphs, 1000);
    for expected in [
        "12 of 40 are rotated, 3 failed; halted at 2026-01-02T03:00:05Z (4m ago). At most 10 are on their way at once.",
        "Of 40 instances there are 3 that need a person.",
        "- nodes-i-a (Denied): denied",
        "kubectl vncpassword explain nodes-i-a -n vnc",
        "1 Node stands for no instance, among them:\n- n1 has a providerID that another Node has as well",
        "kubectl vncpassword rotate fleet/nodes --wait",
    ] {
        assert!(all.contains(expected), "{expected:?} is not in:\n{all}");
    }
}
