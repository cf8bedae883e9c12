//! What to do next: `decide` is total, sync and pure. Here: what holds for every object; `users` and `generated` know
//! the rest.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    contents::{Change, State},
    facts::{Access, Attempt, Observed, Owner, Unsettled},
    generated,
    hold::{conflicted, contested, is_unsupported, not_written, stalled, without_identity},
    message::message,
    outcome::{self, Class},
    reply, users,
    verdict::{
        Decision, Effects, Outlook, Progress, Verdict, after, conclude, enforce_due, rest, seconds,
        settled_at,
    },
};
use crate::api::{Applied, ConditionStatus, ConditionType, Reason, Retry, VncPasswordStatus};

/// Decides the next step from what was observed.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    let normalised = normalised(observed, now);
    let observed = normalised.as_ref().unwrap_or(observed);
    let decision = step(observed, now);
    if observed.deleting {
        return finish_only(observed, decision);
    }
    if observed.attempt.is_some() {
        return decision;
    }
    let decision = contested(observed, decision, now);
    if leads_to_a_call(&decision) && observed.access == Access::Unread {
        Decision::ReadCredentials
    } else {
        decision
    }
}

/// The same for an object that is being deleted: what a call that was made asks for is finished, nothing else begins.
fn finish_only(observed: &Observed, decision: Decision) -> Decision {
    match decision {
        Decision::ReadSecret if observed.attempt.is_some() => decision,
        Decision::WriteSecret(write)
            if observed.attempt.is_some() && !matches!(write.next, Change::Set(_)) =>
        {
            Decision::WriteSecret(write)
        }
        Decision::Rest(verdict) => rest(Verdict { wake: None, look: None, deferred: false, ..*verdict }),
        Decision::ReadCredentials
        | Decision::ReadSecret
        | Decision::Draw
        | Decision::WriteSecret(_)
        | Decision::Send(_)
        | Decision::Announce(..)
        | Decision::Reboot => rest(Verdict::of((*observed.status).clone(), Effects::default())),
    }
}

/// Whether the step is of no use without an identity.
fn leads_to_a_call(decision: &Decision) -> bool {
    match decision {
        Decision::Draw | Decision::Send(_) | Decision::Announce(..) | Decision::Reboot => true,
        Decision::Rest(verdict) => verdict.look.is_some(),
        Decision::ReadCredentials | Decision::ReadSecret | Decision::WriteSecret(_) => false,
    }
}

pub(super) fn step(observed: &Observed, now: Timestamp) -> Decision {
    if let Some(refused) = &observed.refused {
        return rest(not_written(observed, refused, now));
    }
    if let Some(attempt) = &observed.attempt {
        let observed = &with_call(observed, attempt);
        return match attempt.rotation {
            Some(_) => generated::after_call(observed, attempt, now),
            None => reply::decide(observed, attempt, now),
        };
    }
    // Who owns the instance is the concern of those only who could act.
    if observed.access == Access::Unread && observed.owner != Owner::This && !observed.spec.suspend {
        return Decision::ReadCredentials;
    }
    if let Some(verdict) = out_of_action(observed, now) {
        return rest(verdict);
    }
    if observed.generated() { generated::step(observed, now) } else { users::step(observed, now) }
}

/// What was known of the instance when the call was made counts for its reply, even if it was forgotten since.
fn with_call(observed: &Observed, attempt: &Attempt) -> Observed {
    let mut observed = observed.clone();
    observed.look = attempt.look.clone().or(observed.look);
    if attempt.io_optimized.is_some() {
        let instance = Arc::make_mut(&mut observed.status).instance.get_or_insert_default();
        instance.io_optimized = instance.io_optimized.or(attempt.io_optimized);
    }
    observed
}

/// The status as decisions take it: what another has replaced counts as never applied, times that cannot be are cut, and
/// what the Secret's record and the calls of other objects tell is taken in.
/// `None`: there is nothing to change.
fn normalised(observed: &Observed, now: Timestamp) -> Option<Observed> {
    let mut status = (*observed.status).clone();
    let attempt = observed.attempt.as_ref();
    let replaced_before_call =
        attempt.is_some_and(|attempt| attempt.superseded && !reply::is_recorded(observed, attempt));
    if observed.superseded || replaced_before_call {
        status.applied = None;
        status.accepted = None;
    }
    cut_to_bounds(observed, &mut status, now);
    take_in_record(observed, &mut status, now);
    take_in_calls_of_others(observed, &mut status, now);
    // A poll of a time to come was made before the clock was set back: nobody knows how old it is.
    let from_the_future = observed.look.as_ref().is_some_and(|look| look.at > now);
    (status != *observed.status || from_the_future).then(|| Observed {
        status: Arc::new(status),
        look: observed.look.clone().filter(|_| !from_the_future),
        ..observed.clone()
    })
}

/// After the clock jumped back, stored times ask for more than they can: they are cut to their bounds, once and for
/// all, since a bound that moves along with each pass never comes.
fn cut_to_bounds(observed: &Observed, status: &mut VncPasswordStatus, now: Timestamp) {
    let past = |time: &mut Time| *time = seconds(now).min(time.clone());
    if let Some(Applied { time, .. }) = &mut status.applied {
        past(time);
    }
    if let Some(time) = &mut status.last_rotation_time {
        past(time);
    }
    if let Some(accepted) = &mut status.accepted {
        past(&mut accepted.time);
    }
    if let Some(request) = &mut status.reboot_requested_at {
        past(&mut request.time);
    }
    let unsupported = is_unsupported(status);
    for condition in &mut status.conditions {
        past(&mut condition.last_transition_time);
    }
    if let Some(Retry { last_failure_time, next_attempt_time, unsettled_until, .. }) = &mut status.retry {
        if let Some(failed) = last_failure_time
            && failed.0 > now
        {
            // The next attempt is due as long after the failure as it was meant to be.
            let back = now.duration_since(failed.0);
            let next = next_attempt_time.take().map(|next| next.0.saturating_add(back).unwrap_or(now));
            *next_attempt_time = next.map(seconds);
            past(failed);
        }
        // No stored time may ask for more.
        let longest = if unsupported { backoff::UNSUPPORTED } else { backoff::STALLED };
        let (longest, settled) = (after(now, longest), settled_at(now, observed.settle));
        *next_attempt_time = next_attempt_time.take().map(|next| next.min(seconds(longest)));
        *unsettled_until = unsettled_until.take().map(|until| until.min(Time(settled)));
    }
}

/// The record is the truth about calls that may still arrive, and about which password waits for a restart.
fn take_in_record(observed: &Observed, status: &mut VncPasswordStatus, now: Timestamp) {
    let Some(contents) = observed.contents() else { return };
    let instance_id = &observed.spec.instance_id;
    if let Some(until) = contents.record_of(instance_id).and_then(|record| record.unsettled_until) {
        let known = status.unsettled_until();
        // A time that cannot be is not taken from the record twice, or it would move along with the clock.
        let until = if until <= settled_at(now, observed.settle) {
            Some(until).filter(|until| *until > now).max(known)
        } else {
            known.or(Some(settled_at(now, observed.settle)))
        };
        if until != known {
            status.retry.get_or_insert_default().unsettled_until = until.map(Time);
        }
    }
    let (Some(record), Some(accepted)) = (contents.record_of(instance_id), &status.accepted) else { return };
    let named = accepted.rotation == record.id;
    match record.state {
        State::Drawn if named && contents.under_way(instance_id).is_some() => return,
        State::Done if named || !observed.generated() => return,
        // What was accepted is not what is on its way now, or it is gone.
        State::Drawn if !record.repeats() => {}
        // The Secret of before was put back. A restart that nobody has seen yet may have brought what was accepted since into
        // effect. A value of the time when the Secret was the user's is applied as a rotation anyway.
        State::Drawn | State::Done => {
            status.applied = status.applied.take().filter(|applied| applied.rotation.is_none());
        }
    }
    status.accepted = None;
}

/// The value that this object applied is in doubt while another object's call may replace it, or may have replaced it
/// (R43). A generated one then counts as never applied; a user's is sent once more when the call can no longer arrive.
fn take_in_calls_of_others(observed: &Observed, status: &mut VncPasswordStatus, now: Timestamp) {
    // An accepted call has replaced what others sent before it. One that was not accepted changes nothing: the value was in
    // doubt before it, and still is.
    let settles = |attempt: &Attempt| {
        attempt.rotation.is_none() || outcome::classify(&attempt.reply) == Class::Accepted
    };
    if observed.attempt.as_ref().is_some_and(settles) {
        return;
    }
    let own = |applied: &Applied| {
        let known = observed.history.applied.as_ref().filter(|(version, _)| version.is(applied));
        known.map(|(_, value)| *value)
    };
    let generated = observed.generated();
    let applied = status.applied.as_ref();
    let applied = applied.and_then(|applied| observed.others_unsettled(applied.time.0, own(applied)));
    let accepted = status.accepted.as_ref().filter(|_| generated);
    let accepted = accepted.and_then(|accepted| observed.others_unsettled(accepted.time.0, None));
    let Some(until) = applied.max(accepted) else { return };
    if generated {
        // Each for itself: what was accepted since is not in doubt because the value before it is.
        status.applied = status.applied.take().filter(|_| applied.is_none());
        status.accepted = status.accepted.take().filter(|_| accepted.is_none());
    }
    if status.unsettled_until() < Some(until) && (until > now || !generated) {
        status.retry.get_or_insert_default().unsettled_until = Some(Time(until));
    }
}

/// A call that may still arrive although no reply says so. Reported before the first decision of a reconcile.
///
/// `inherited`: a process before this one acted for the object; `term_start`: when this process began to lead, the calls of
/// the one before were made by then. `others_called`: the API has accepted calls of other objects at the instance, so an
/// object that takes over sends its value once more after `--settle` (R40).
#[must_use]
pub fn doubt(
    observed: &Observed,
    inherited: bool,
    others_called: bool,
    term_start: Timestamp,
    now: Timestamp,
) -> Option<Unsettled> {
    let conflicted = conflicted(observed);
    if conflicted && observed.owner != Owner::This {
        // The process before this one made no call for it either.
        return None;
    }
    // A resend that was due when the former process ended may be under way: nothing is written down before one.
    let resends = [enforce_due(observed, &observed.status, now), observed.on_demand(&observed.status)];
    let resending = resends.into_iter().flatten().any(|due| due <= now);
    let known = users::known_to_be_in_sync(observed) && !resending;
    // The record tells of generated ones, unless the object has become one meanwhile.
    let recorded = observed.spec.rotation.is_some()
        && observed.status.observed_generation.is_none_or(|generation| generation == observed.generation);
    let took_over = conflicted && !observed.spec.suspend;
    if took_over && !inherited {
        let until = settled_at(now, observed.settle);
        return others_called.then_some(Unsettled { value: None, until, by_other: false });
    }
    let unknown = (took_over || !known && !recorded).then(|| settled_at(term_start, observed.settle));
    // A process before this one may have known of another object's call.
    let ready = observed.status.condition(ConditionType::Ready);
    let in_doubt = ready.is_some_and(|ready| {
        ready.reason == Reason::Conflict
            || ready.status == ConditionStatus::Unknown && ready.reason == Reason::Settling
    });
    // Doubt lasts until the value was accepted once more, also when the call can no longer arrive.
    let latest = settled_at(now, observed.settle);
    let until = unknown.max(observed.status.unsettled_until().map(|until| until.min(latest)));
    let until = until.filter(|until| inherited && (*until > now || in_doubt))?;
    Some(Unsettled { value: None, until, by_other: took_over || in_doubt })
}

/// The object does not act. `Ready` stays as it was, unless another object has replaced the value.
fn idle(observed: &Observed, now: Timestamp) -> Verdict {
    let status = &observed.status;
    let (ready, reason, text) = match status.condition(ConditionType::Ready) {
        None => (ConditionStatus::Unknown, Reason::Suspended, message(Reason::Suspended, observed, None)),
        Some(ready) if observed.superseded && !ready.is_false() => {
            let text = format!(
                "the API has since accepted the password of another VncPassword for instance {}",
                observed.spec.instance_id
            );
            (ConditionStatus::False, Reason::Conflict, text)
        }
        Some(ready) if ready.status == ConditionStatus::True && in_doubt(observed) => {
            let text = message(Reason::Settling, observed, None);
            (ConditionStatus::Unknown, Reason::Settling, text)
        }
        Some(ready) => (ready.status, ready.reason, ready.message.clone()),
    };
    let outlook = Outlook::new(ready, Progress::Rest, reason, text);
    conclude(observed, (**status).clone(), &outlook, now, Effects::default())
}

/// Whether another object's call may have replaced the value in effect, or may still do so.
fn in_doubt(observed: &Observed) -> bool {
    let status = &observed.status;
    match &status.applied {
        // A value that counts as never applied, because of another object's call.
        None => observed.generated(),
        Some(applied) => observed.others_unsettled(applied.time.0, None).is_some(),
    }
}

/// The states in which nothing is done, whatever the Secret says.
fn out_of_action(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let status = &observed.status;
    if observed.deleting && !observed.superseded {
        return Some(Verdict::of((**status).clone(), Effects::default()));
    }
    if observed.spec.suspend || observed.deleting {
        return Some(idle(observed, now));
    }
    if observed.region.is_none() {
        return Some(stalled(observed, Reason::InvalidRegion, None, now));
    }
    let problem = match &observed.access {
        Access::Granted | Access::Unread => None,
        Access::AmbientDenied => Some(Reason::AmbientCredentialsDenied),
        Access::Missing => Some(Reason::CredentialsNotFound),
        Access::Forbidden => Some(Reason::SecretForbidden),
        Access::Unusable(_) => Some(Reason::InvalidCredentials),
    };
    if let Some(reason) = problem {
        return Some(without_identity(observed, reason, now));
    }
    let text = match &observed.owner {
        Owner::This => return None,
        Owner::Other(Some(name)) => {
            format!("VncPassword {name} owns this instance; delete one of the two")
        }
        Owner::Other(None) => {
            "a VncPassword in another namespace owns this instance; delete one of the two".to_owned()
        }
        Owner::OtherOfSecret(name) => {
            let secret = &observed.spec.secret_ref;
            format!(
                "VncPassword {name} generates into key {} of Secret {} as well; delete one of the two, or create it \
                 anew with another key",
                secret.key, secret.name
            )
        }
    };
    let outlook = Outlook::new(ConditionStatus::False, Progress::Stalled, Reason::Conflict, text);
    let effects = Effects { wake: Some(after(now, backoff::STALLED)), ..Effects::default() };
    let mut status = (**status).clone();
    // The owner may change what this object applied: nothing may be taken for in sync after a take-over.
    status.applied = None;
    status.accepted = None;
    Some(conclude(observed, status, &outlook, now, effects))
}
