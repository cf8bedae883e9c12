//! Tests of the rotation session.

use serde_json::{Value, json};

use super::*;
use crate::summary::tests::{condition, object_summary};

const AT: &str = "2026-01-03T00:00:00Z";

fn at(later: i64) -> Timestamp {
    AT.parse::<Timestamp>().unwrap() + SignedDuration::from_secs(later)
}

fn named(name: &str, status: &Value) -> Box<ObjectSummary> {
    Box::new(object_summary(name, &json!({"rotation": {}}), status))
}

fn session(names: &[String]) -> Session {
    let asked = |name: &String| Asked { target: Target::Object(named(name, &json!({}))), at: at(0) };
    Session::new(names.iter().map(asked).collect(), Some("prod"), at(0))
}

fn done() -> Value {
    json!({"lastHandledRotateAt": AT, "requestId": "4F6A"})
}

#[test]
fn each_end_is_told_once_and_stays() {
    let mut session = session(&["a".to_owned(), "b".to_owned()]);
    assert_eq!(session.object(named("a", &json!({})), at(0)), None);
    let line = session.object(named("a", &done()), at(1));
    assert_eq!(line, Some(Line::Finished("a: rotated, RequestId 4F6A".to_owned())));
    assert_eq!(session.object(named("a", &done()), at(2)), None);
    assert_eq!(session.gone("prod/a"), None, "it was rotated before");
    assert!(!session.over());
    assert_eq!(session.gone("prod/b"), Some(Line::Finished("b: failed: was deleted".to_owned())));
    assert!(session.over());
    assert_eq!(session.summary(at(3)), "1 of 2 rotated in 3s, 1 failed; see kubectl vncpassword explain");
}

#[test]
fn one_that_was_not_asked_is_no_concern() {
    assert_eq!(session(&["a".to_owned()]).object(named("z", &done()), at(1)), None);
}

#[test]
fn an_object_with_another_uid_is_another_one() {
    let mut session = session(&["a".to_owned()]);
    let mut other = named("a", &done());
    other.metadata.uid = Some("other".to_owned());
    let line = session.object(other, at(1));
    assert_eq!(line, Some(Line::Finished("a: failed: was deleted and created anew".to_owned())));
}

#[test]
fn an_old_need_for_a_person_fails_when_the_grace_is_over() {
    let stalled = json!({"conditions": [condition("Stalled", "Denied")]});
    let asked = Asked { target: Target::Object(named("a", &stalled)), at: at(0) };
    let mut session = Session::new(vec![asked], Some("prod"), at(0));
    assert_eq!(session.object(named("a", &stalled), at(1)), None);
    assert_eq!(session.tick(at(14)), []);
    assert_eq!(session.tick(at(15)), [Line::Finished("a: failed: Denied: because of Denied".to_owned())]);
    // It may recover while others are waited for.
    assert!(session.object(named("a", &done()), at(20)).is_some());
    assert_eq!(session.failed(), 0);
}

#[test]
fn with_many_a_wait_is_told_of_one() {
    let throttled = json!({"conditions": [condition("Reconciling", "Throttled")]});
    let names: Vec<String> = (0..30).map(|number| format!("o{number:02}")).collect();
    let mut session = session(&names);
    let lines: Vec<Line> =
        names.iter().filter_map(|name| session.object(named(name, &throttled), at(1))).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!(
        session.unfinished(),
        "o00, o01, o02, o03, o04 and 25 more: waits for the limit on calls of the cloud account"
    );
    for name in &names[..15] {
        session.object(named(name, &done()), at(10));
    }
    assert_eq!(
        session.line(at(10)),
        "[############------------] 15/30, about 10s left, 15: waits for the limit on calls of the cloud account"
    );
}

#[test]
fn nothing_has_moved_until_a_version_changes() {
    let mut session = session(&["a".to_owned()]);
    session.object(named("a", &json!({})), at(0));
    assert!(!session.moved());
    let mut changed = named("a", &json!({}));
    changed.metadata.resource_version = Some("8".to_owned());
    session.object(changed, at(1));
    assert!(session.moved());
}
