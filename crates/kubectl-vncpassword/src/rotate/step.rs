//! How far one rotation is that was asked for, told from the object alone.

use jiff::{SignedDuration, Timestamp};

use crate::summary::ObjectSummary;
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
    pub fn of_object(object: &ObjectSummary) -> Self {
        let stalled = object.is("Stalled");
        Self {
            stalled: stalled.map(|stalled| (stalled.reason.clone(), stalled.last_transition_time)),
            failed: object.status.retry.last_failure_time,
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
pub fn of_object(object: &ObjectSummary, request: &Request, now: Timestamp) -> Step {
    if object.status.last_handled_rotate_at.is_some_and(|handled| handled >= request.at) {
        return Step::Done(done(object));
    }
    if object.spec.suspend || object.is("Suspended").is_some() {
        return Step::Waits("is suspended, and waits until spec.suspend is removed".to_owned());
    }
    let due = request.due(object.last_call());
    if let Some(stalled) = object.is("Stalled") {
        if request.fails(&Standing::of_object(object), due, now) {
            return Step::Failed(format!("{}: {}", stalled.reason, stalled.message));
        }
        if due <= now {
            return Step::UnderWay;
        }
    }
    if object.is("RebootRequired").is_some() {
        return Step::Waits(restart(object).to_owned());
    }
    if let Some(reconciling) = object.is("Reconciling")
        && let Some(waits) = reason(object, &reconciling.reason)
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

fn done(object: &ObjectSummary) -> String {
    let id = object.status.request_id.as_deref().unwrap_or("none");
    let what = if object.spec.rotation { "rotated" } else { "sent again" };
    let restart = match object.is("RebootRequired") {
        Some(_) => format!("; it {}", restart(object)),
        None => String::new(),
    };
    format!("{what}, RequestId {id}{restart}")
}

fn restart(object: &ObjectSummary) -> &'static str {
    let by_the_operator = object.spec.activation == Activation::Reboot && object.is("Reconciling").is_some();
    match (by_the_operator, object.spec.window) {
        (true, true) => "waits for its window, in which the operator restarts the instance",
        (true, false) => "waits for a restart of the instance by the operator",
        (false, _) => "waits for a restart of the instance, which is yours to do",
    }
}

/// What an object waits for while it is reconciling, where that is not just its turn in a moment.
fn reason(object: &ObjectSummary, reason: &str) -> Option<String> {
    Some(match reason {
        "IncorrectInstanceStatus" | "InstanceNotReady" => {
            let status = object.status.instance.status.as_deref();
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
        return exit_code(rollout.updated, rollout.total, rollout.failed);
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
fn exit_code(updated: u32, total: u32, failed: u32) -> Step {
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
mod tests;
