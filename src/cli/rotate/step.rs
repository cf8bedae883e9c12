//! How far one rotation is that was asked for, told from the object alone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::{
    api::{Activation, ClusterVncPassword, ConditionType, Reason},
    cli::seen::Seen,
};

/// Between two rotations on demand of one object.
const APART: SignedDuration = SignedDuration::from_mins(1);
/// An object that needed a person before it was asked is looked at anew, and may recover: so long it is given.
pub const GRACE: Duration = Duration::from_secs(15);

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The new password is in effect.
    Done(String),
    /// It needs a person.
    Failed(String),
    /// It waits for something that may take long. The text holds nothing that counts, so that it is told once.
    Waits(String),
    /// It is under way, or is about to be.
    UnderWay,
}

impl Step {
    /// Whether nothing more is to be expected by itself.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Failed(_))
    }
}

/// Of a `VncPassword` that was asked at `asked` (by our clock), `at` being the annotation's value.
#[must_use]
pub fn of_object(seen: &Seen, at: Timestamp, asked: Timestamp, now: Timestamp) -> Step {
    let status = &seen.status;
    if status.last_handled_rotate_at.is_some_and(|handled| handled >= at) {
        return Step::Done(done(seen));
    }
    if seen.spec.suspend || seen.is("Suspended").is_some() {
        return Step::Waits("is suspended, and waits until spec.suspend is removed".to_owned());
    }
    if let Some(stalled) = seen.is("Stalled") {
        let anew = stalled.last_transition_time >= asked
            || status.retry.last_failure_time.is_some_and(|failed| failed >= asked);
        if anew || now.duration_since(asked) >= SignedDuration::try_from(GRACE).unwrap_or_default() {
            return Step::Failed(format!("{}: {}", stalled.reason, stalled.message));
        }
        return Step::UnderWay;
    }
    if seen.is("RebootRequired").is_some() {
        return Step::Waits(restart(seen).to_owned());
    }
    if let Some(reconciling) = seen.is("Reconciling")
        && let Some(waits) = reason(seen, &reconciling.reason)
    {
        return Step::Waits(waits);
    }
    let earliest = seen.last_call().and_then(|last| last.checked_add(APART).ok());
    if earliest.is_some_and(|earliest| earliest > now) {
        return Step::Waits(
            "was rotated less than a minute ago, and waits until the minute is over".to_owned(),
        );
    }
    if at.duration_since(now) > SignedDuration::from_secs(5) {
        return Step::Waits(format!("waits until {}: the clocks differ", at.strftime("%FT%TZ")));
    }
    Step::UnderWay
}

fn done(seen: &Seen) -> String {
    let id = seen.status.request_id.as_deref().unwrap_or("none");
    let what = if seen.spec.rotation { "rotated" } else { "sent again" };
    let restart = match seen.is("RebootRequired") {
        Some(_) => format!("; it {}", restart(seen)),
        None => String::new(),
    };
    format!("{what}, RequestId {id}{restart}")
}

fn restart(seen: &Seen) -> &'static str {
    let by_the_operator = seen.spec.activation == Activation::Reboot && seen.is("Reconciling").is_some();
    match (by_the_operator, seen.spec.window) {
        (true, true) => "waits for its window, in which the operator restarts the instance",
        (true, false) => "waits for a restart of the instance by the operator",
        (false, _) => "waits for a restart of the instance, which is yours to do",
    }
}

/// What an object waits for while it is reconciling, where that is not just its turn in a moment.
fn reason(seen: &Seen, reason: &str) -> Option<String> {
    Some(match reason {
        "IncorrectInstanceStatus" | "InstanceNotReady" => {
            let status = seen.status.instance.status.as_deref();
            let now = status.map_or_else(String::new, |status| format!(" (it is {status})"));
            format!("waits for another state of the instance{now}")
        }
        "Throttled" => "waits for the limit on calls of the cloud account".to_owned(),
        "Settling" => "waits until a lost call cannot arrive any more".to_owned(),
        "OutcomeUnknown" => "got no readable reply, and is sent again".to_owned(),
        "Unreachable" | "LookupFailed" => "waits for the cloud's API to answer".to_owned(),
        "SignatureRejected" => "had its signature refused, and is signed afresh".to_owned(),
        _ => return None,
    })
}

/// Of a `ClusterVncPassword`.
#[must_use]
pub fn of_fleet(fleet: &ClusterVncPassword, at: Timestamp, asked: Timestamp, now: Timestamp) -> Step {
    let Some(status) = &fleet.status else { return Step::UnderWay };
    let handled = status.last_handled_rotate_at.as_ref().is_some_and(|handled| handled.0 >= at);
    let rollout = status.rollout.as_ref().filter(|_| handled);
    if let Some(rollout) = rollout.filter(|rollout| rollout.completed_at.is_some()) {
        return ended(rollout.updated, rollout.total, rollout.failed);
    }
    if fleet.spec.suspend {
        return Step::Waits("is suspended, and waits until spec.suspend is removed".to_owned());
    }
    if status.reason(ConditionType::Ready) == Some(Reason::NothingSelected) {
        return Step::Done("selects no instance, so there is nothing to rotate".to_owned());
    }
    if let Some(stalled) = status.condition(ConditionType::Stalled) {
        let anew = stalled.last_transition_time.0 >= asked;
        if anew || now.duration_since(asked) >= SignedDuration::try_from(GRACE).unwrap_or_default() {
            return Step::Failed(format!("{}: {}", stalled.reason.as_str(), stalled.message));
        }
    }
    match status.reason(ConditionType::Reconciling) {
        Some(Reason::WaitingForWindow) => Step::Waits("waits for its window".to_owned()),
        _ => Step::UnderWay,
    }
}

/// A rollout that is through. What it did not get to (stopped, waiting for a restart) rotates by itself later.
fn ended(updated: u32, total: u32, failed: u32) -> Step {
    let left = total.saturating_sub(updated);
    if failed > 0 {
        return Step::Failed(format!("{updated} of {total} rotated, {failed} failed"));
    }
    Step::Done(match left {
        0 => format!("{updated} of {total} rotated"),
        left => format!(
            "{updated} of {total} rotated; {left} are stopped, suspended or wait for a restart, and rotate by themselves when \
             that changes"
        ),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::cli::seen::tests::{condition, ready, seen};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const ASKED: &str = "2026-01-03T00:00:00Z";

    /// So many seconds after it was asked.
    fn step(spec: &Value, status: &Value, later: i64) -> Step {
        let now = at(ASKED) + SignedDuration::from_secs(later);
        of_object(&seen("a", spec, status), at(ASKED), at(ASKED), now)
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
        for (spec, status, told) in [
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
                Step::Waits(text) => assert!(text.contains(told), "{text}"),
                other => panic!("{told}: {other:?}"),
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
        assert_eq!(step(&json!({}), &stalled("2026-01-02T00:00:00Z"), 1), Step::UnderWay);
        assert_eq!(step(&json!({}), &stalled("2026-01-02T00:00:00Z"), 15), failed);
        assert_eq!(step(&json!({}), &stalled("2026-01-03T00:00:01Z"), 1), failed);
        let mut again = stalled("2026-01-02T00:00:00Z");
        again["retry"] = json!({"lastFailureTime": "2026-01-03T00:00:01Z"});
        assert_eq!(step(&json!({}), &again, 1), failed);
    }

    fn fleet(status: &Value) -> Step {
        let fleet = serde_json::from_value(json!({
            "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "metadata": {"name": "nodes"},
            "spec": {"nodeSelector": {}, "targetNamespace": "vnc"}, "status": status,
        }))
        .unwrap();
        of_fleet(&fleet, at(ASKED), at(ASKED), at(ASKED) + SignedDuration::from_secs(2))
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
        assert_eq!(fleet(&json!({"rollout": rollout(true, 0)})), Step::UnderWay, "that was the one before");
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
    fn a_fleet_that_halts_has_failed() {
        let mut halted = condition("Stalled", "RolloutHalted");
        halted["lastTransitionTime"] = json!("2026-01-03T00:00:01Z");
        let step = fleet(
            &json!({"lastHandledRotateAt": ASKED, "rollout": rollout(false, 3), "conditions": [halted]}),
        );
        assert_eq!(step, Step::Failed("RolloutHalted: because of RolloutHalted".to_owned()));
    }
}
