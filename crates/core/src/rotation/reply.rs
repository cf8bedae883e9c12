//! What the reply to a call does to the object.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    facts::{Attempt, Found, Observed, Owner, Purpose, RUNNING, SeenInstance, Unsettled},
    hold::is_unsupported,
    message::{message, provider_failed},
    outcome::{self, Class, Reply},
    restart,
    rotate_at::RotateAt,
    verdict::{
        Decision, Effects, Note, Outlook, Progress, Verdict, after, conclude, enforce_due, in_effect, ready,
        rest, seconds, settled_at, stays_in_doubt,
    },
};
use crate::api::{Accepted, Applied, ConditionStatus, Instance, Reason, Retry, VncPasswordStatus};

/// The step after a call.
pub(super) fn decide(observed: &Observed, attempt: &Attempt, now: Timestamp) -> Decision {
    match outcome::classify(&attempt.reply) {
        Class::Accepted => rest(accepted(observed, attempt, now)),
        class if again_at_once(observed, attempt, class) => Decision::Send(attempt.purpose),
        class => rest(failed(observed, attempt, class, now)),
    }
}

/// A cached key may just have been renewed, a nonce or a date may just have been wrong.
pub(super) fn again_at_once(observed: &Observed, attempt: &Attempt, class: Class) -> bool {
    observed.owner == Owner::This
        && matches!(class, Class::Credentials | Class::Signing)
        && attempt.tries == 1
        && attempt.reply != Reply::NoCredentials
}

fn accepted(observed: &Observed, attempt: &Attempt, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    let recorded = is_recorded(observed, attempt);
    learn(observed, &mut status);
    if let Reply::Accepted { request_id } = &attempt.reply {
        status.request_id = Some(request_id.clone());
    }
    if let (RotateAt::At(at), Some(due)) = (observed.rotate_at, observed.on_demand(&status))
        && due <= now
    {
        status.last_handled_rotate_at = Some(Time(at));
    }
    status.applied = Some(Applied {
        secret_uid: attempt.version.uid.to_string(),
        secret_resource_version: attempt.version.resource_version.to_string(),
        time: seconds(attempt.at),
        rotation: None,
    });
    let Late { until: settles, another } = late(observed, attempt, now);
    status.retry = Retry::unsettled(settles);
    let mut effects = Effects {
        applied_value: Some((attempt.version.clone(), attempt.value)),
        notes: if recorded { Vec::new() } else { notes(observed, attempt, &status) },
        ..Effects::default()
    };
    let at_once = status.instance.as_ref().and_then(|instance| instance.io_optimized) != Some(false);
    match (attempt.purpose, at_once) {
        (Purpose::Deliver, true) => {
            status.accepted = None;
            status.last_rotation_time = Some(seconds(attempt.at));
            status.rotations = Some(status.rotations.unwrap_or(0).saturating_add(i64::from(!recorded)));
        }
        // What settles counts as well: a restart meanwhile may have brought the late call's value into effect.
        (Purpose::Deliver | Purpose::Settle, false) => await_restart(observed, attempt, &mut status),
        // The value goes on waiting for a restart. What was seen of the instance before this call is no sign of one.
        (Purpose::Enforce | Purpose::Rotate, false) if status.accepted.is_some() => {
            let before = observed.status.instance.clone().unwrap_or_default();
            let instance = status.instance.get_or_insert_default();
            (instance.status, instance.start_time) = (before.status, before.start_time);
        }
        // Known to be in effect: nothing new can come.
        (Purpose::Settle, true) | (Purpose::Enforce | Purpose::Rotate, _) => {}
    }
    let again = [settles, enforce_due(observed, &status, now), observed.on_demand(&status)];
    effects.wake = again.into_iter().flatten().min();
    if status.accepted.is_some() {
        return restart::waiting(observed, status, effects, after(now, SOON), now);
    }
    in_effect(observed, status, another, effects, now)
}

/// Whether the status has this very call already: it was written, and the reply to that write was lost.
pub(super) fn is_recorded(observed: &Observed, attempt: &Attempt) -> bool {
    let status = &observed.status;
    let at = Some(seconds(attempt.at));
    match &attempt.reply {
        Reply::Accepted { request_id } => {
            status.request_id.as_ref() == Some(request_id)
                && status.applied.as_ref().is_some_and(|applied| attempt.version.is(applied))
                && status.applied.as_ref().map(|applied| applied.time.clone()) == at
        }
        reply => {
            let (code, request_id) = code_of(reply);
            let retry = status.retry.as_ref();
            retry.is_some_and(|retry| {
                retry.last_failure_time == at && retry.code == code && retry.request_id == request_id
            })
        }
    }
}

/// Code and RequestId of a refusal.
fn code_of(reply: &Reply) -> (Option<String>, Option<String>) {
    match reply {
        Reply::Refused { code, request_id, .. } => (Some(code.clone()), request_id.clone()),
        _ => (None, None),
    }
}

/// When to look at an instance after a call, at the earliest: times are kept to the second.
pub(super) const SOON: std::time::Duration = std::time::Duration::from_secs(1);

/// The value takes effect at the next restart.
fn await_restart(observed: &Observed, attempt: &Attempt, status: &mut VncPasswordStatus) {
    let value = Some(attempt.value);
    let applied = observed.history.applied.as_ref().map(|(_, value)| *value);
    // That it was never applied before is known of the object, that it differs is known to who has seen both.
    let new =
        observed.status.request_id.is_none() || applied.is_some() && applied != value || attempt.superseded;
    let rotation = attempt.version.resource_version.to_string();
    // Sent once more, a value that waits already goes on waiting as it did.
    let unchanged = match &observed.status.accepted {
        Some(accepted) if accepted.rotation == rotation => accepted.unchanged,
        _ => !new,
    };
    let accepted = Accepted { rotation, time: seconds(attempt.at), unchanged, start_time: None };
    wait_for_restart(observed, accepted, status);
}

/// Notes what waits for a restart. The instance's status is forgotten: a stop that was seen before the call is no
/// restart after it.
pub(super) fn wait_for_restart(observed: &Observed, accepted: Accepted, status: &mut VncPasswordStatus) {
    status.accepted = Some(Box::new(accepted));
    let instance = status.instance.get_or_insert_default();
    instance.start_time = seen(observed).and_then(|seen| seen.start_time).map(Time);
    instance.status = None;
}

/// What may still arrive late after this value was accepted.
struct Late {
    /// Until when anything may.
    until: Option<Timestamp>,
    /// It may be another value. This value itself may arrive as often as it likes.
    another: bool,
}

fn late(observed: &Observed, attempt: &Attempt, now: Timestamp) -> Late {
    let pending = observed.history.unsettled.iter().filter(|unsettled| unsettled.until > now);
    let (own, others): (Vec<_>, Vec<_>) =
        pending.partition(|unsettled| unsettled.value == Some(attempt.value));
    let latest = |of: Vec<&Unsettled>| of.into_iter().map(|unsettled| unsettled.until).max();
    let (own, others) = (latest(own), latest(others));
    // What the status says and this process cannot explain by this very value is another value's.
    let stored = observed.status.unsettled_until().filter(|until| *until > now);
    Late { until: own.max(others).max(stored), another: others.is_some() || stored > own }
}

/// What the look before the call taught.
pub(super) fn learn(observed: &Observed, status: &mut VncPasswordStatus) {
    let instance = status.instance.get_or_insert_with(Instance::default);
    instance.region_id.clone_from(&observed.region);
    if let Some(seen) = seen(observed) {
        instance.status = Some(seen.status.clone());
        instance.io_optimized = seen.io_optimized.or(instance.io_optimized);
        instance.start_time = seen.start_time.map(Time).or(instance.start_time.take());
    }
}

fn seen(observed: &Observed) -> Option<&SeenInstance> {
    match &observed.look.as_ref()?.found {
        Found::Seen(seen) => Some(seen),
        Found::Unseen | Found::Refused | Found::Failed | Found::NoCredentials(_) => None,
    }
}

/// The events of an accepted call that brought a new value.
pub(super) fn notes(observed: &Observed, attempt: &Attempt, status: &VncPasswordStatus) -> Vec<Note> {
    let (instance, Reply::Accepted { request_id }) = (&observed.spec.instance_id, &attempt.reply) else {
        return Vec::new();
    };
    if !matches!(attempt.purpose, Purpose::Deliver | Purpose::Rotate) {
        return Vec::new();
    }
    let optimized = status.instance.as_ref().and_then(|instance| instance.io_optimized);
    let (reason, effect) = match optimized {
        Some(false) => (Reason::RebootRequired, "it takes effect when the instance is restarted"),
        Some(true) | None => (Reason::Applied, "it is in effect"),
    };
    let text = format!("instance {instance} accepted the password, {effect}; RequestId {request_id}");
    let mut notes = vec![Note { warning: false, reason: reason.as_str(), text }];
    if !attempt.all_classes {
        notes.push(Note {
            warning: true,
            reason: "WeakPassword",
            text: "the value lacks upper case, lower case or a digit; the API's documentation asks for all three"
                .to_owned(),
        });
    }
    if optimized.is_none() {
        notes.push(Note {
            warning: true,
            reason: "InstanceUnknown",
            text: format!(
                "DescribeInstances does not show instance {instance}, so it was treated as I/O optimized; grant \
                 ecs:DescribeInstances to the operator's identity"
            ),
        });
    }
    notes
}

/// The verdict on a call that was not accepted.
pub(super) fn failed(observed: &Observed, attempt: &Attempt, class: Class, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    let new = attempt.purpose == Purpose::Deliver;
    let mut effects = Effects::default();
    let refused = (class == Class::Waiting).then(|| refused_status(observed, attempt)).flatten();
    let unsupported = class == Class::Waiting && stays_unsupported(observed, refused);
    record_retry(observed, attempt, class, (refused, unsupported), &mut status);
    status.instance.get_or_insert_default().region_id.clone_from(&observed.region);
    let (mut ready, mut ready_reason) = ready(observed, &observed.status);
    if !new
        && attempt.rotation.is_none()
        && let Some(applied) = &mut status.applied
    {
        // It was in sync, perhaps in another version: what fails is only sending it once more.
        applied.secret_uid = attempt.version.uid.to_string();
        applied.secret_resource_version = attempt.version.resource_version.to_string();
        effects.applied_value = Some((attempt.version.clone(), attempt.value));
        (ready, ready_reason) = match &status.accepted {
            None if observed.others_unsettled(applied.time.0, Some(attempt.value)).is_some()
                || stays_in_doubt(observed) =>
            {
                (ConditionStatus::Unknown, Some(Reason::Settling))
            }
            None => (ConditionStatus::True, Some(Reason::Applied)),
            Some(_) => (ConditionStatus::False, Some(Reason::RebootRequired)),
        };
    }
    if class == Class::OutcomeUnknown {
        let until = settled_at(attempt.at, observed.settle);
        let latest = status.unsettled_until().max(Some(until));
        status.retry.get_or_insert_default().unsettled_until = latest.map(Time);
        if new {
            ready = ConditionStatus::Unknown;
            status.applied = None;
            status.accepted = None;
        }
    }
    if class == Class::Waiting {
        status.instance.get_or_insert_default().status = refused.map(str::to_owned);
        effects.look = Some(match refused {
            // Its state cannot be the cause, if it is so still.
            Some(RUNNING) | None => after(attempt.at, SOON),
            Some(_) => after(attempt.at, backoff::look_delay(std::time::Duration::ZERO)),
        });
    }
    effects.wake =
        status.retry.as_ref().and_then(|retry| retry.next_attempt_time.as_ref()).map(|next| next.0);
    let reason = if unsupported { Reason::InstanceUnsupported } else { outcome::reason(&attempt.reply) };
    let progress = if unsupported { Progress::Stalled } else { progress(class) };
    let code = status.retry.as_ref().and_then(|retry| retry.code.as_deref());
    let text = match &attempt.reply {
        Reply::CredentialsFailed(problem) => provider_failed(observed, problem),
        _ => message(reason, observed, code),
    };
    let mut outlook = Outlook::new(ready, progress, reason, text);
    outlook.ready_reason = ready_reason;
    conclude(observed, status, &outlook, now, effects)
}

fn progress(class: Class) -> Progress {
    match class {
        Class::Accepted => Progress::Rest,
        Class::Waiting | Class::Throttled | Class::OutcomeUnknown | Class::Unreachable | Class::Signing => {
            Progress::Reconciling
        }
        Class::InvalidInput | Class::NotFound | Class::Denied | Class::Credentials | Class::Refused => {
            Progress::Stalled
        }
    }
}

/// Counts the attempt and sets the time of the next. A throttled call is no failure of the object.
fn record_retry(
    observed: &Observed,
    attempt: &Attempt,
    class: Class,
    (refused, unsupported): (Option<&str>, bool),
    status: &mut VncPasswordStatus,
) {
    // Refused in another state until now: the delays begin anew.
    let before = observed.status.instance.as_ref().and_then(|instance| instance.status.as_deref());
    let began = refused == Some(RUNNING) && before.is_some_and(|before| before != RUNNING);
    let recorded = is_recorded(observed, attempt);
    let retry = status.retry.get_or_insert_default();
    if class != Class::Throttled && !recorded {
        let former = retry.attempts.filter(|_| !began);
        retry.attempts = Some(former.unwrap_or(0).saturating_add(1));
        retry.last_failure_time = Some(seconds(attempt.at));
    }
    let attempts = retry.attempts.unwrap_or(1).try_into().unwrap_or(1);
    let can_look = !matches!(
        observed.look.as_ref().map(|look| &look.found),
        Some(Found::Unseen | Found::Refused | Found::Failed | Found::NoCredentials(_))
    );
    let delay = match class {
        Class::Waiting if unsupported => Some(backoff::unsupported(observed.jitter)),
        Class::Waiting if can_look && refused != Some(RUNNING) => Some(backoff::LONGEST),
        class => backoff::delay(class, attempts, observed.jitter),
    };
    let next = match (class, observed.limiter_opens) {
        (Class::Throttled, Some(opens)) => Some(opens),
        _ => delay.map(|delay| after(attempt.at, delay)),
    };
    retry.next_attempt_time = next.map(seconds);
    (retry.code, retry.request_id) = code_of(&attempt.reply);
}

/// The status in which the instance refused: what the look just before showed. Without one, the next look tells.
fn refused_status<'a>(observed: &'a Observed, attempt: &Attempt) -> Option<&'a str> {
    let just_before = observed.look.as_ref().filter(|look| after(look.at, LOOK_HOLDS) >= attempt.at);
    just_before.and(seen(observed)).map(|seen| seen.status.as_str())
}

/// Whether an instance without VNC (N3) refuses as before: no poll shows another state.
fn stays_unsupported(observed: &Observed, refused: Option<&str>) -> bool {
    let no_vnc = observed.history.running_refusals.is_some_and(|refusals| refusals.show_no_vnc());
    (no_vnc || is_unsupported(&observed.status)) && refused.is_none_or(|refused| refused == RUNNING)
}

/// How long before a refusal a look may have been taken to tell the refused status.
const LOOK_HOLDS: std::time::Duration = std::time::Duration::from_secs(15);
