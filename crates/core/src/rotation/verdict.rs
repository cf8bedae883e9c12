//! How a step or a pass ends: the decision, the status that says it, and its conditions.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    contents::{SecretRead, SecretWrite, State},
    facts::{Announcement, Fingerprint, Observed, Purpose, SecretVersion},
    message::{message, reboot_required},
    outcome::Reply,
    rotate_at::RotateAt,
};
use crate::api::{Condition, ConditionStatus, ConditionType, Reason, VncPasswordStatus};

/// The next step of one pass. After a step that brings facts, `decide` is asked again.
#[derive(Debug)]
pub enum Decision {
    /// Find out whether there is an identity to call with, from the Secret of `spec.credentialsRef`.
    ReadCredentials,
    /// Read the Secret: the contents are needed.
    ReadSecret,
    /// Draw a password and an id.
    Draw,
    /// Write the Secret, in that version of it only.
    WriteSecret(Box<SecretWrite>),
    /// Send the password that was read.
    Send(Purpose),
    /// Write the status, in that version of the object only, and go on.
    Announce(Announcement, Box<Verdict>),
    /// Restart the instance.
    Reboot,
    /// Record the verdict and rest.
    Rest(Box<Verdict>),
}

/// How a pass ends.
#[derive(Debug)]
pub struct Verdict {
    /// The status to write, where it differs from the one that stands.
    pub status: VncPasswordStatus,
    /// When to look again, where nothing changes until then.
    pub wake: Option<Timestamp>,
    /// When the instance is to be looked at; `None`: it is not waited for.
    pub look: Option<Timestamp>,
    /// Events to tell.
    pub notes: Vec<Note>,
    /// The value now known to stand behind `status.applied`.
    pub applied_value: Option<(SecretVersion, Fingerprint)>,
    /// What was read has not been acted on yet: the instance is looked at first.
    pub deferred: bool,
}

impl Verdict {
    pub(super) fn of(status: VncPasswordStatus, effects: Effects) -> Self {
        let Effects { wake, look, notes, applied_value, deferred } = effects;
        Self { status, wake, look, notes, applied_value, deferred }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// Warning or Normal.
    pub warning: bool,
    /// CamelCase, for machines.
    pub reason: &'static str,
    /// For people.
    pub text: String,
}

pub(super) fn rest(verdict: Verdict) -> Decision {
    Decision::Rest(Box::new(verdict))
}

/// Whether anything goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Nothing to do.
    Rest,
    /// Under way or retried by itself.
    Reconciling,
    /// Needs a person.
    Stalled,
}

/// What the conditions are to say.
pub(super) struct Outlook {
    pub ready: ConditionStatus,
    pub reason: Reason,
    pub progress: Progress,
    /// Where `Ready` keeps a reason of its own while something else goes on: a value in effect is sent again.
    pub ready_reason: Option<Reason>,
    pub message: String,
}

impl Outlook {
    pub fn new(ready: ConditionStatus, progress: Progress, reason: Reason, message: String) -> Self {
        Self { ready, reason, progress, ready_reason: None, message }
    }
}

/// To the second, as the API server stores it: what is compared later must be equal to what was written.
pub(crate) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Until when a call made now may still arrive. A whole second: it is compared with what the status keeps of it.
#[must_use]
pub fn settled_at(now: Timestamp, settle: Duration) -> Timestamp {
    let end = after(now, settle);
    Timestamp::from_second(end.as_second().saturating_add(1)).unwrap_or(Timestamp::MAX)
}

/// The time after a delay; the far end of time where there is no such time.
pub(crate) fn after(at: Timestamp, delay: Duration) -> Timestamp {
    at.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// The parts of a verdict that most decisions leave empty.
#[derive(Default)]
pub(super) struct Effects {
    pub wake: Option<Timestamp>,
    pub look: Option<Timestamp>,
    pub notes: Vec<Note>,
    pub applied_value: Option<(SecretVersion, Fingerprint)>,
    pub deferred: bool,
}

/// Writes the outlook into the status: conditions with their times kept where their status did not change.
pub(super) fn conclude(
    observed: &Observed,
    mut status: VncPasswordStatus,
    outlook: &Outlook,
    now: Timestamp,
    mut effects: Effects,
) -> Verdict {
    let complaint = complaint(observed).filter(|_| outlook.progress == Progress::Rest);
    let complained = complaint.map(|(reason, message)| Outlook {
        ready_reason: Some(outlook.ready_reason.unwrap_or(outlook.reason)),
        ..Outlook::new(outlook.ready, Progress::Stalled, reason, message)
    });
    let outlook = complained.as_ref().unwrap_or(outlook);
    let doubted = doubted(observed, outlook, &mut status, now);
    let outlook = doubted.as_ref().unwrap_or(outlook);
    if status.request_id != observed.status.request_id {
        let secret = observed.spec.credentials_ref.as_ref();
        status.accepted_as = secret.map(|secret| secret.name.as_str().into());
    }
    if !observed.spec.suspend {
        status.next_rotation_time = next_turn(observed, &status, now).map(seconds);
    }
    let at = (observed.generation, now);
    let ready_reason = outlook.ready_reason.unwrap_or(outlook.reason);
    let ready_message = match outlook.ready_reason {
        Some(Reason::RebootRequired) => reboot_required(observed, &status, now),
        Some(reason) => message(reason, observed, None),
        None => outlook.message.clone(),
    };
    let mut conditions =
        vec![condition(ConditionType::Ready, outlook.ready, ready_reason, ready_message, at)];
    let mut flag = |type_, reason, message: String| {
        conditions.push(condition(type_, ConditionStatus::True, reason, message, at));
    };
    match outlook.progress {
        Progress::Rest => {}
        Progress::Reconciling => flag(ConditionType::Reconciling, outlook.reason, outlook.message.clone()),
        Progress::Stalled => flag(ConditionType::Stalled, outlook.reason, outlook.message.clone()),
    }
    if status.accepted.is_some() {
        let text = reboot_required(observed, &status, now);
        flag(ConditionType::RebootRequired, Reason::RebootRequired, text);
    }
    if observed.spec.suspend {
        let text = message(Reason::Suspended, observed, None);
        flag(ConditionType::Suspended, Reason::Suspended, text);
    }
    stamp(&mut status, conditions, observed.generation);
    if let Some(note) = transition(&observed.status, outlook) {
        effects.notes.push(note);
    }
    Verdict::of(status, effects)
}

/// Whether the value was in doubt because of another object's call, and no call was accepted since: the memory of the other
/// call may be gone by then.
pub(super) fn stays_in_doubt(observed: &Observed) -> bool {
    let accepted =
        observed.attempt.as_ref().is_some_and(|attempt| matches!(attempt.reply, Reply::Accepted { .. }));
    let ready = observed.status.condition(ConditionType::Ready);
    let doubted =
        |ready: &Condition| ready.status == ConditionStatus::Unknown && ready.reason == Reason::Settling;
    !accepted && ready.is_some_and(doubted)
}

/// While a call of another object may still arrive, a value that is not in effect is in doubt as well. The status says so,
/// so that a process after this one knows.
fn doubted(
    observed: &Observed,
    outlook: &Outlook,
    status: &mut VncPasswordStatus,
    now: Timestamp,
) -> Option<Outlook> {
    let under_way = outlook.progress == Progress::Reconciling || observed.attempt.is_some();
    let until = observed.others_unsettled(now, observed.attempt.as_ref().map(|attempt| attempt.value));
    let until =
        until.filter(|_| under_way && outlook.ready != ConditionStatus::True && !observed.spec.suspend)?;
    let retry = status.retry.get_or_insert_default();
    retry.unsettled_until = retry.unsettled_until.take().max(Some(Time(until)));
    let reason = Some(Reason::Settling);
    let outlook =
        Outlook::new(ConditionStatus::Unknown, outlook.progress, outlook.reason, outlook.message.clone());
    Some(Outlook { ready_reason: reason, ..outlook })
}

/// What a person has to mend although the object does what it can.
fn complaint(observed: &Observed) -> Option<(Reason, String)> {
    if observed.spec.suspend {
        return None;
    }
    if let Err(invalid) = &observed.plan {
        return Some((Reason::InvalidSchedule, invalid.to_string()));
    }
    let reason = Reason::InvalidRotateAt;
    (observed.rotate_at == RotateAt::Invalid).then(|| (reason, message(reason, observed, None)))
}

/// When the next turn is, where passwords are drawn by themselves.
pub(super) fn next_turn(
    observed: &Observed,
    status: &VncPasswordStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    let last = status.last_rotation_time.as_ref()?.0;
    observed.plan.as_ref().ok()?.next(last, observed.spread, now)
}

/// The status of an object whose spec cannot be read: what else stands in it stays.
#[must_use]
pub fn invalid_object(status: &VncPasswordStatus, generation: i64, now: Timestamp) -> VncPasswordStatus {
    let mut status = status.clone();
    let text = "the object does not fit the schema of this operator: apply the operator's CRDs, then mend the object";
    let conditions =
        [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Stalled, ConditionStatus::True)]
            .map(|(type_, truth)| {
                condition(type_, truth, Reason::InvalidObject, text.to_owned(), (generation, now))
            });
    stamp(&mut status, conditions.into(), generation);
    status
}

pub(crate) fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
    (generation, now): (i64, Timestamp),
) -> Condition {
    let (last_transition_time, observed_generation) = (seconds(now), Some(generation));
    Condition { type_, status, reason, message, last_transition_time, observed_generation }
}

/// Puts the conditions into the status; those whose truth did not change keep their time.
fn stamp(status: &mut VncPasswordStatus, mut conditions: Vec<Condition>, generation: i64) {
    for condition in &mut conditions {
        if let Some(old) = status.condition(condition.type_)
            && old.status == condition.status
        {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    status.conditions = conditions;
    status.observed_generation = Some(generation);
}

/// One event when something new stands in the way; progress itself is told by the notes of the call.
fn transition(old: &VncPasswordStatus, outlook: &Outlook) -> Option<Note> {
    let (type_, warning) = match outlook.progress {
        Progress::Rest => return None,
        Progress::Stalled => (ConditionType::Stalled, true),
        Progress::Reconciling => {
            let warning = matches!(
                outlook.reason,
                Reason::OutcomeUnknown | Reason::WebhookFailed | Reason::SecretWriteFailed
            );
            (ConditionType::Reconciling, warning)
        }
    };
    (old.reason(type_) != Some(outlook.reason) && outlook.reason != Reason::Settling).then(|| Note {
        warning,
        reason: outlook.reason.as_str(),
        text: outlook.message.clone(),
    })
}

/// The verdict of a user's object whose value is in effect. `settling`: a late call may bring another one, so this value is
/// sent once more. `Ready` stays True unless that may be the call of another object (R29 and R43).
pub(super) fn in_effect(
    observed: &Observed,
    status: VncPasswordStatus,
    settling: bool,
    effects: Effects,
    now: Timestamp,
) -> Verdict {
    let failing = status.retry.as_ref().is_some_and(|retry| retry.attempts.is_some());
    let own = observed.attempt.as_ref().map(|attempt| attempt.value);
    let own = own.or(observed.history.applied.as_ref().map(|(_, value)| *value));
    let applied = status.applied.as_ref().map(|applied| applied.time.0);
    let others = applied.is_some_and(|at| observed.others_unsettled(at, own).is_some());
    let in_doubt = settling && (others || stays_in_doubt(observed));
    let mut outlook = if settling {
        let text = message(Reason::Settling, observed, None);
        let ready = if in_doubt { ConditionStatus::Unknown } else { ConditionStatus::True };
        Outlook::new(ready, Progress::Reconciling, Reason::Settling, text)
    } else {
        let text = message(Reason::Applied, observed, None);
        Outlook::new(ConditionStatus::True, Progress::Rest, Reason::Applied, text)
    };
    outlook.ready_reason = (settling && !in_doubt).then_some(Reason::Applied);
    // What a failed resend said stays until the next attempt.
    if failing && let Some(standing) = standing(observed) {
        let ready_reason = Some(if in_doubt { Reason::Settling } else { Reason::Applied });
        outlook = Outlook { ready_reason, ready: outlook.ready, ..standing };
    }
    conclude(observed, status, &outlook, now, effects)
}

/// The outlook that stands in the status: what the last attempt said.
pub(super) fn standing(observed: &Observed) -> Option<Outlook> {
    let ready = observed.status.condition(ConditionType::Ready)?;
    let (progress, flag) =
        [(Progress::Stalled, ConditionType::Stalled), (Progress::Reconciling, ConditionType::Reconciling)]
            .into_iter()
            .find_map(|(progress, type_)| observed.status.condition(type_).map(|flag| (progress, flag)))?;
    let outlook = Outlook::new(ready.status, progress, flag.reason, flag.message.clone());
    Some(Outlook { ready_reason: (ready.reason != flag.reason).then_some(ready.reason), ..outlook })
}

/// When the value is to be sent again for `spec.enforceInterval`. A time in the future counts as now.
pub(super) fn enforce_due(
    observed: &Observed,
    status: &VncPasswordStatus,
    now: Timestamp,
) -> Option<Timestamp> {
    let applied = status.applied.as_ref().filter(|_| status.accepted.is_none())?;
    Some(after(applied.time.0.min(now), observed.enforce_interval?))
}

/// How long that condition has been true.
pub(super) fn waited(observed: &Observed, type_: ConditionType, now: Timestamp) -> Duration {
    let since = observed.status.condition(type_).map_or(now, |flag| flag.last_transition_time.0);
    Duration::try_from(now.duration_since(since)).unwrap_or_default()
}

/// What is said of a value that was not delivered.
pub(super) fn undelivered(observed: &Observed, progress: Progress, reason: Reason, text: String) -> Outlook {
    let (ready, ready_reason) = ready(observed, &observed.status);
    Outlook { ready_reason, ..Outlook::new(ready, progress, reason, text) }
}

/// `Ready`, and its reason where that is another than what stands in the way. Of a user's Secret: unknown as long as a
/// call with an unknown outcome may have delivered the value. Of a generated one: true while `<key>` holds the value
/// in effect, whatever is on its way. `status` is the one that is to be written.
pub(super) fn ready(observed: &Observed, status: &VncPasswordStatus) -> (ConditionStatus, Option<Reason>) {
    let old = observed.status.condition(ConditionType::Ready);
    let unknown = old.is_some_and(|ready| ready.status == ConditionStatus::Unknown);
    if !observed.generated() {
        let unknown = unknown && status.applied.is_none() && status.retry.is_some();
        return (if unknown { ConditionStatus::Unknown } else { ConditionStatus::False }, None);
    }
    let Some(contents) = observed.contents() else {
        let forgotten = status.applied.is_none();
        return match (&observed.read, old) {
            (None | Some(SecretRead::Forbidden), Some(old))
                if forgotten && old.status == ConditionStatus::True =>
            {
                if observed.superseded {
                    (ConditionStatus::False, None)
                } else {
                    (ConditionStatus::Unknown, Some(Reason::Settling))
                }
            }
            (None | Some(SecretRead::Forbidden), Some(old)) => {
                (old.status, Some(old.reason).filter(|_| !old.is_false()))
            }
            _ => (ConditionStatus::False, None),
        };
    };
    let instance_id = &observed.spec.instance_id;
    let record = contents.record_of(instance_id);
    let accepted = status.accepted.as_ref();
    let unknown = record.is_some_and(|record| {
        record.state == State::Drawn
            && record.unsettled_until.is_some()
            && !record.repeats()
            && accepted.is_none_or(|accepted| accepted.rotation != record.id)
    });
    let applied = status.applied.as_ref();
    // A record alone proves nothing (R15): whoever may write the Secret can write that.
    let in_effect = match record {
        Some(record) => {
            let named = applied.is_some_and(|applied| {
                record.state == State::Drawn || applied.rotation.as_ref() == Some(&record.id)
            });
            named && contents.holds_the_value_in_effect(instance_id)
        }
        None => applied.is_some_and(|applied| contents.version.is(applied)) && accepted.is_none(),
    };
    if unknown {
        (ConditionStatus::Unknown, Some(Reason::OutcomeUnknown))
    } else if in_effect {
        (ConditionStatus::True, Some(Reason::Applied))
    } else {
        (ConditionStatus::False, None)
    }
}
