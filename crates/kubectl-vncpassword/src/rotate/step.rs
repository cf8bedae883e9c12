//! How far one rotation is that was asked for, told from the object alone.

use jiff::{SignedDuration, Timestamp};

use crate::seen::Seen;
use vncpassword_core::{
    api::{Activation, ClusterVncPassword, Condition, ConditionType, Reason},
    rotation::schedule::Plan,
};

/// Between two rotations on demand of one object.
const APART: SignedDuration = SignedDuration::from_mins(1);
/// An object that needed a person before it was asked is looked at anew, and may recover: so long it is given.
const GRACE: SignedDuration = SignedDuration::from_secs(15);
/// It waits for what `APART` is.
const YOUNG: &str = "was rotated less than a minute ago, and waits until the minute is over";

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

/// What was asked for, by the API server's time.
#[derive(Clone, Debug)]
pub struct Request {
    /// The annotation's value.
    pub at: Timestamp,
    /// When it was asked.
    pub asked: Timestamp,
    /// What stood in the way then.
    pub before: Standing,
}

/// What stands in the way: told apart from what stood there before by itself, as clocks may differ.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Reason and beginning of the condition `Stalled`.
    stalled: Option<(String, Timestamp)>,
    /// The last attempt that failed.
    failed: Option<Timestamp>,
}

impl Standing {
    /// That of a `VncPassword`.
    #[must_use]
    pub fn of_object(seen: &Seen) -> Self {
        let stalled = seen.is("Stalled");
        Self {
            stalled: stalled.map(|stalled| (stalled.reason.clone(), stalled.last_transition_time)),
            failed: seen.status.retry.last_failure_time,
        }
    }

    /// That of a `ClusterVncPassword`.
    #[must_use]
    pub fn of_fleet(fleet: &ClusterVncPassword) -> Self {
        let stalled = fleet.status.as_ref().and_then(|status| status.condition(ConditionType::Stalled));
        let of = |stalled: &Condition| (stalled.reason.as_str().to_owned(), stalled.last_transition_time.0);
        Self { stalled: stalled.map(of), failed: None }
    }
}

impl Request {
    /// When it is due, `last` being the last rotation before it.
    fn due(&self, last: Option<Timestamp>) -> Timestamp {
        let earliest = last.and_then(|last| last.checked_add(APART).ok());
        earliest.map_or(self.at, |earliest| earliest.max(self.at))
    }

    /// Whether what stands in the way keeps it from being done: it is new, or has outlived the grace. Nothing does before it
    /// is due.
    fn fails(&self, standing: &Standing, due: Timestamp, now: Timestamp) -> bool {
        let anew = standing.stalled != self.before.stalled
            || standing.failed.is_some() && standing.failed != self.before.failed;
        due <= now && (anew || now.duration_since(due.max(self.asked)) >= GRACE)
    }
}

/// Of a `VncPassword`.
#[must_use]
pub fn of_object(seen: &Seen, request: &Request, now: Timestamp) -> Step {
    if seen.status.last_handled_rotate_at.is_some_and(|handled| handled >= request.at) {
        return Step::Done(done(seen));
    }
    if seen.spec.suspend || seen.is("Suspended").is_some() {
        return Step::Waits("is suspended, and waits until spec.suspend is removed".to_owned());
    }
    let due = request.due(seen.last_call());
    if let Some(stalled) = seen.is("Stalled") {
        if request.fails(&Standing::of_object(seen), due, now) {
            return Step::Failed(format!("{}: {}", stalled.reason, stalled.message));
        }
        if due <= now {
            return Step::UnderWay;
        }
    }
    if seen.is("RebootRequired").is_some() {
        return Step::Waits(restart(seen).to_owned());
    }
    if let Some(reconciling) = seen.is("Reconciling")
        && let Some(waits) = reason(seen, &reconciling.reason)
    {
        return Step::Waits(waits);
    }
    waits_until(due, request.at, now).unwrap_or(Step::UnderWay)
}

/// What is not due yet waits.
fn waits_until(due: Timestamp, at: Timestamp, now: Timestamp) -> Option<Step> {
    if due > now.max(at) {
        return Some(Step::Waits(YOUNG.to_owned()));
    }
    let far = at.duration_since(now) > SignedDuration::from_secs(5);
    far.then(|| Step::Waits(format!("waits until {}: the clocks differ", at.strftime("%FT%TZ"))))
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
        "ChangedTooOften" => "has used up its own calls, since it changes too often".to_owned(),
        "Settling" => "waits until a lost call cannot arrive any more".to_owned(),
        "OutcomeUnknown" => "got no readable reply, and is sent again".to_owned(),
        "Unreachable" | "LookupFailed" => "waits for the cloud's API to answer".to_owned(),
        "SignatureRejected" => "had its signature refused, and is signed afresh".to_owned(),
        _ => return None,
    })
}

/// Of a `ClusterVncPassword`.
#[must_use]
pub fn of_fleet(fleet: &ClusterVncPassword, request: &Request, now: Timestamp) -> Step {
    let Some(status) = &fleet.status else { return Step::UnderWay };
    let handled = status.last_handled_rotate_at.as_ref().is_some_and(|handled| handled.0 >= request.at);
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
    let last = status.rollout.as_ref().filter(|_| !handled).map(|before| before.started_at.0);
    let due = request.due(last);
    let rolls = rollout.is_some_and(|rollout| rollout.halted_at.is_none());
    if let Some(stalled) = status.condition(ConditionType::Stalled)
        && !(rolls && stands_beside(stalled.reason, fleet))
        && request.fails(&Standing::of_fleet(fleet), due, now)
    {
        return Step::Failed(format!("{}: {}", stalled.reason.as_str(), stalled.message));
    }
    if !handled && let Some(waits) = waits_until(due, request.at, now) {
        return waits;
    }
    match status.reason(ConditionType::Reconciling) {
        Some(Reason::WaitingForWindow) => Step::Waits("waits for its window".to_owned()),
        _ => Step::UnderWay,
    }
}

/// Whether a rollout goes on although this needs a person: it tells of rollouts to come.
fn stands_beside(reason: Reason, fleet: &ClusterVncPassword) -> bool {
    match reason {
        Reason::InvalidRotateAt => true,
        // Without a window that can be read no VncPassword can be written.
        Reason::InvalidSchedule => Plan::new(None, fleet.spec.window.as_deref()).is_ok(),
        _ => false,
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
    use crate::seen::tests::{condition, ready, seen};

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
        of_object(&seen("a", spec, status), &request, at(ASKED) + SignedDuration::from_secs(later))
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
        let old = stalled("2026-01-02T00:00:00Z");
        let before = Standing::of_object(&seen("a", &json!({}), &old));
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
        let before = Standing::of_object(&seen("a", &json!({}), &status));
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
        let request =
            Request { at: at(ASKED), asked: at("2026-01-02T23:50:00Z"), before: Standing::default() };
        let step = |now| of_object(&seen("a", &json!({}), &json!({})), &request, at(now));
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
            let expected = expected
                .map_or(Step::UnderWay, |reason| Step::Failed(format!("{reason}: because of {reason}")));
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
        let step = fleet(
            &json!({"lastHandledRotateAt": ASKED, "rollout": rollout(false, 3), "conditions": [halted]}),
        );
        assert_eq!(step, Step::Failed("RolloutHalted: because of RolloutHalted".to_owned()));
    }
}
