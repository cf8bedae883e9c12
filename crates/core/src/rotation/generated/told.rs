//! The status as the Secret tells it, and what it says is due.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::writes::Start;
use crate::{
    api::{Applied, ConditionStatus, ConditionType, Reason, Retry, VncPasswordStatus},
    rotation::{
        contents::{Contents, Record},
        facts::Observed,
        message::message,
        reply::learn,
        verdict::{Effects, Outlook, Progress, Verdict, conclude, enforce_due, next_turn, ready, seconds},
    },
};

/// The status as the Secret tells it, where the record says that `<key>` is in effect. `status.applied` stays empty where
/// the record alone says so.
pub(super) fn told_by(observed: &Observed, contents: &Contents, now: Timestamp) -> VncPasswordStatus {
    let mut status = (*observed.status).clone();
    let Some(record) = contents.record_of(&observed.spec.instance_id) else { return status };
    let proven = proven(observed, record);
    let waited = status.accepted.take();
    let restarted = waited.is_some();
    let accepted = observed.attempt.as_ref();
    // A value that was in effect before is no new one.
    let just_now = restarted || accepted.is_some_and(|attempt| !attempt.repeats);
    let known = knows(&status, record, now);
    let users = status.applied.as_ref().is_some_and(|applied| applied.rotation.is_none());
    // The user's values in between do not make it another rotation.
    if !known && (restarted || accepted.is_some() || !users) {
        status.rotations = Some(status.rotations.unwrap_or(0).saturating_add(1));
    }
    take_over(record, &mut status, now);
    if !known && just_now {
        // Otherwise a former process brought it into effect, soon after it was drawn.
        status.last_rotation_time = Some(seconds(now));
    }
    let applied = status.applied.take().filter(|_| known).map(|applied| applied.time);
    // What a restart brought is newer than all calls before the API accepted it.
    let accepted_at = waited.filter(|waited| waited.rotation == record.id).map(|waited| waited.time);
    status.applied = proven.then(|| Applied {
        secret_uid: contents.version.uid.to_string(),
        secret_resource_version: contents.version.resource_version.to_string(),
        time: accepted_at.or(applied).unwrap_or_else(|| seconds(record.drawn_at.min(now))),
        rotation: Some(record.id.clone()),
    });
    learn(observed, &mut status);
    status.retry = Retry::unsettled(status.unsettled_until().filter(|until| *until > now));
    status
}

/// Whether more than the record says that its value is in effect (R15): the status names it as applied, or as accepted and
/// waiting for the restart that was seen before the record was closed, or the API has accepted it just now.
pub(super) fn proven(observed: &Observed, record: &Record) -> bool {
    let status = &observed.status;
    observed.attempt.is_some()
        || status.applied.as_ref().is_some_and(|applied| applied.rotation.as_ref() == Some(&record.id))
        || status.accepted.as_ref().is_some_and(|accepted| accepted.rotation == record.id)
}

/// Whether the status knows of the record's rotation. Where it names none, times tell, but none that is still to come: the
/// clock has jumped.
fn knows(status: &VncPasswordStatus, record: &Record, now: Timestamp) -> bool {
    if let Some(applied) = &status.applied {
        return applied.rotation.as_ref() == Some(&record.id);
    }
    let last = status.last_rotation_time.as_ref().map(|last| last.0);
    record.drawn_at <= now && last >= Some(record.drawn_at)
}

/// How the value of `<key>`, which the record says is in effect, is to be sent once more; `None`: it need not be.
pub(super) fn to_repeat(
    observed: &Observed,
    contents: &Contents,
    due: &Due,
    now: Timestamp,
) -> Option<Start> {
    let status = &observed.status;
    let record = contents.record_of(&observed.spec.instance_id)?;
    let standing = status.reason(ConditionType::Stalled).or(status.reason(ConditionType::Reconciling));
    let others = || observed.history.unsettled.iter().filter(|unsettled| unsettled.by_other);
    let (known_late, supposed_late) =
        (others().any(|late| late.value.is_some()), others().any(|late| late.value.is_none()));
    match &status.applied {
        // A value of the time when the Secret was the user's came into effect since.
        Some(applied) if applied.rotation.is_none() && !contents.version.is(applied) => Some(Start::Apply),
        // A value of another object came into effect since, or may have: this process knows of the call.
        None if observed.superseded || known_late => Some(Start::Reapply),
        // Only statuses say so, and anybody may have written those: no instance is restarted for that.
        None if supposed_late => Some(Start::Repeat),
        None if matches!(standing, Some(Reason::Conflict | Reason::Settling)) => Some(Start::Reapply),
        _ if !proven(observed, record) => Some(Start::Repeat),
        _ => (observed.prove_claim || due.again(now)).then_some(Start::Repeat),
    }
}

/// What the record knows of turns and the status does not: the later of both counts.
pub(super) fn take_over(record: &Record, status: &mut VncPasswordStatus, now: Timestamp) {
    if !knows(status, record, now) {
        let drawn_at = Some(seconds(record.drawn_at.min(now)));
        status.last_rotation_time = status.last_rotation_time.take().max(drawn_at);
    }
    let handled = record.rotate_at.map(Time);
    status.last_handled_rotate_at = status.last_handled_rotate_at.take().max(handled);
}

/// When what is due.
pub(super) struct Due {
    turn: Option<Timestamp>,
    pub on_demand: Option<Timestamp>,
    again: Option<Timestamp>,
}

impl Due {
    pub fn of(observed: &Observed, status: &VncPasswordStatus, now: Timestamp) -> Self {
        let rotating = observed.spec.rotation.is_some();
        Self {
            turn: next_turn(observed, status, now).filter(|_| rotating),
            on_demand: observed.on_demand(status).filter(|_| rotating),
            again: enforce_due(observed, status, now),
        }
    }

    /// Whether a rotation is due.
    pub fn rotation(&self, now: Timestamp) -> bool {
        [self.turn, self.on_demand].into_iter().flatten().any(|at| at <= now)
    }

    /// Whether the value in effect is to be sent once more.
    pub fn again(&self, now: Timestamp) -> bool {
        self.again.is_some_and(|at| at <= now)
    }

    /// When the next of what is to come is. What is due already, and yet was not begun, does not come by waiting.
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        [self.turn, self.on_demand, self.again].into_iter().flatten().filter(|at| *at > now).min()
    }
}

/// Until when no other value may be brought on its way.
pub(super) fn unsettled(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let others = observed.history.unsettled.iter().map(|unsettled| unsettled.until);
    others.chain(observed.status.unsettled_until()).filter(|until| *until > now).max()
}

/// The verdict where nothing may begin before then.
pub(super) fn settling(
    observed: &Observed,
    mut status: VncPasswordStatus,
    until: Timestamp,
    now: Timestamp,
) -> Verdict {
    status.retry = Retry::unsettled(Some(until));
    let text = message(Reason::Settling, observed, None);
    // Not what the status said before: the reply that was just taken in may have put the value in doubt.
    let (ready, ready_reason) = ready(observed, &status);
    let outlook = Outlook::new(ready, Progress::Reconciling, Reason::Settling, text);
    let mut outlook = Outlook { ready_reason, ..outlook };
    // What the record calls in effect may be in effect still.
    if outlook.ready == ConditionStatus::False && may_be_in_effect(observed) {
        (outlook.ready, outlook.ready_reason) = (ConditionStatus::Unknown, None);
    }
    conclude(observed, status, &outlook, now, Effects { wake: Some(until), ..Effects::default() })
}

fn may_be_in_effect(observed: &Observed) -> bool {
    let holds = |contents: &Contents| contents.holds_the_value_in_effect(&observed.spec.instance_id);
    !observed.superseded && observed.contents().is_some_and(holds)
}

/// The verdict where the value in effect stands in `<key>` and nothing is due.
pub(super) fn in_sync(
    observed: &Observed,
    mut status: VncPasswordStatus,
    effects: Effects,
    now: Timestamp,
) -> Verdict {
    let unsettled = status.unsettled_until().filter(|until| *until > now);
    status.retry = Retry::unsettled(unsettled);
    let wake = Due::of(observed, &status, now).next(now).into_iter().chain(unsettled).min();
    let text = message(Reason::Applied, observed, None);
    let outlook = Outlook::new(ConditionStatus::True, Progress::Rest, Reason::Applied, text);
    conclude(observed, status, &outlook, now, Effects { wake, ..effects })
}
