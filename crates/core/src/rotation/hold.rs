//! Why nothing is sent now although there is something to send: backoff, the instance's state, the limiter, a look
//! that is missing.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    backoff,
    contents::Change,
    denied::{GroupRetry, MissingRight, missing_right},
    facts::{Announcement, Found, Look, Observed, Purpose, RUNNING, SecretVersion},
    message::{self, message, provider_failed},
    outcome::{self, Class, Reply},
    refusal::RefusedWrite,
    users,
    verdict::{
        Decision, Effects, Outlook, Progress, Verdict, after, conclude, ready, rest, seconds, settled_at,
        standing, undelivered, waited,
    },
};
use crate::api::{ConditionStatus, ConditionType, Reason, Retry, VncPasswordStatus};

/// How long a look counts as taken just before a call.
pub(super) const FRESH: Duration = Duration::from_secs(60);

/// Why nothing is sent now although the value is not in effect; `None`: go on.
pub(super) fn held(observed: &Observed, version: &SecretVersion, now: Timestamp) -> Option<Verdict> {
    match (observed.history.group_retry, observed.limiter_opens) {
        (Some(GroupRetry::Waits), _) => {
            let wake = Some(group_wake(observed, now));
            return unchanged(observed, Effects { wake, ..Effects::default() }, now);
        }
        // It waits for the limiter as a member of its group, so that it is tried within that.
        (Some(GroupRetry::Tries { .. }), _) if cannot_see(observed) => return None,
        (Some(GroupRetry::Tries { .. }), Some(opens)) if missing_right(&observed.status).is_some() => {
            return unchanged(observed, Effects { wake: Some(opens), ..Effects::default() }, now);
        }
        _ => {}
    }
    let stalled = observed.status.condition(ConditionType::Stalled).is_some();
    let changed = observed.status.observed_generation != Some(observed.generation)
        || observed.history.examined.as_ref().is_some_and(|examined| examined != version)
        // Whoever takes over need not sit out the backoff of what it tried before it stood back.
        || conflicted(observed)
        || observed.credentials_changed
        || observed.prove_claim
        || observed.history.group_retry.is_some()
        || stalled && observed.history.rotate_at_is_new;
    if !changed {
        let examined = observed.history.examined.is_some();
        match standing_reason(&observed.status) {
            Some(Reason::InvalidPassword | Reason::SecretKeyNotFound) if examined => {
                return unchanged(observed, Effects::default(), now);
            }
            // A look that failed since says nothing of the instance's state.
            Some(_) if waits_for_instance(&observed.status) => {
                if let Some(verdict) = wait_for_instance(observed, now) {
                    return Some(verdict);
                }
            }
            _ => {
                if let Some(next) = next_attempt(observed, now) {
                    return unchanged(observed, Effects { wake: Some(next), ..Effects::default() }, now);
                }
            }
        }
    }
    let opens = observed.limiter_opens?;
    // It polls while it waits for the limiter. A reconcile that ended for a poll later would lose the turn.
    Some(poll_before_reading(observed, now).unwrap_or_else(|| throttled(observed, opens, now)))
}

/// When an object looks again whose group tries others.
fn group_wake(observed: &Observed, now: Timestamp) -> Timestamp {
    let due = observed.on_demand(&observed.status).filter(|due| *due > now);
    let latest = after(now, backoff::STALLED);
    due.map_or(latest, |due| due.min(latest))
}

/// Whether the last call was refused because of the instance's state.
pub(super) fn waits_for_instance(status: &VncPasswordStatus) -> bool {
    let Some(reason) = standing_reason(status) else { return false };
    let code = status.retry.as_ref().and_then(|retry| retry.code.as_deref());
    let refused = || code.is_some_and(|code| outcome::classify_code(code, 0) == Class::Waiting);
    matches!(reason, Reason::IncorrectInstanceStatus | Reason::InstanceNotReady | Reason::InstanceUnsupported)
        || reason == Reason::LookupFailed && refused()
}

/// Whether the instance counts as one without VNC (N3).
pub(super) fn is_unsupported(status: &VncPasswordStatus) -> bool {
    status.reason(ConditionType::Stalled) == Some(Reason::InstanceUnsupported)
}

/// Whether another object owned the instance or the Secret's key when the status was written.
pub(super) fn conflicted(observed: &Observed) -> bool {
    observed.status.reason(ConditionType::Stalled) == Some(Reason::Conflict)
}

/// Why it does not go on, as the status says.
fn standing_reason(status: &VncPasswordStatus) -> Option<Reason> {
    [ConditionType::Stalled, ConditionType::Reconciling, ConditionType::Ready]
        .into_iter()
        .find_map(|type_| status.reason(type_))
}

/// The instance refused because of its state: nothing is sent while a fresh look shows the refused status, but
/// once at the longest backoff; where it cannot be looked at, plain backoff.
pub(super) fn wait_for_instance(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let retry = observed.status.retry.as_ref()?;
    let failed = retry.last_failure_time.as_ref()?.0.min(now);
    let cap = next_attempt(observed, now)?;
    let age = waited(observed, ConditionType::Reconciling, now);
    let unsupported = is_unsupported(&observed.status);
    let poll_delay = if unsupported { backoff::LONGEST } else { backoff::look_delay(age) };
    let refused = observed.status.instance.as_ref().and_then(|instance| instance.status.as_deref());
    let fresh = observed.look.as_ref().filter(|look| look.at.as_second() > failed.as_second());
    let mut status = (*observed.status).clone();
    let look = match fresh.map(|look| (look.at, &look.found)) {
        None if refused.is_none_or(|refused| refused == RUNNING) => after(failed, Duration::from_secs(1)),
        None => after(failed, poll_delay),
        Some((at, Found::Seen(seen))) if seen.status == RUNNING && refuses_running(observed, refused) => {
            return refused_while_running(observed, (failed, at), cap, now);
        }
        // Another state than Running: the next call shows whether it has VNC now.
        Some((_, Found::Seen(_))) if unsupported => return None,
        Some((at, _)) if unsupported => after(at, poll_delay),
        Some((at, Found::Seen(seen))) => {
            let ready = refused.map_or(seen.status == RUNNING, |refused| refused != seen.status);
            if ready {
                return None;
            }
            status.instance.get_or_insert_default().status = Some(seen.status.clone());
            after(at, poll_delay)
        }
        Some((at, Found::Unseen | Found::Refused | Found::Failed | Found::NoCredentials(_))) => {
            let next = backed_off(observed, retry, failed, cap);
            if next <= now {
                return None;
            }
            if let Some(retry) = &mut status.retry {
                retry.next_attempt_time = Some(seconds(next));
            }
            let effects =
                Effects { wake: Some(next), look: Some(after(at, poll_delay)), ..Effects::default() };
            return as_it_stands(observed, status, effects, now);
        }
    };
    as_it_stands(observed, status, Effects { wake: Some(cap), look: Some(look), ..Effects::default() }, now)
}

/// Whether the instance refuses although it is Running, as the newest poll shows. Without a poll just before the refusal
/// the instance may have been started since, so the first time the call is repeated immediately.
fn refuses_running(observed: &Observed, refused: Option<&str>) -> bool {
    let counted = observed.history.running_refusals.map_or(0, |refusals| refusals.count);
    match refused {
        Some(refused) => refused == RUNNING,
        None => counted > 1 || is_unsupported(&observed.status),
    }
}

/// The instance refuses although it is Running (N1): backoff. If it does so for long (N3), it has no VNC: `Stalled`, and
/// one call an hour. `None`: go on.
fn refused_while_running(
    observed: &Observed,
    (failed, polled): (Timestamp, Timestamp),
    cap: Timestamp,
    now: Timestamp,
) -> Option<Verdict> {
    let age = waited(observed, ConditionType::Reconciling, now);
    let mut status = (*observed.status).clone();
    status.instance.get_or_insert_default().status = Some(RUNNING.to_owned());
    let retry = status.retry.get_or_insert_default();
    let no_vnc = observed.history.running_refusals.is_some_and(|refusals| refusals.show_no_vnc());
    let unsupported = is_unsupported(&observed.status);
    let next = match (unsupported, no_vnc) {
        (true, _) => cap,
        (false, true) => after(failed, backoff::unsupported(observed.jitter)),
        (false, false) => backed_off(observed, retry, failed, cap),
    };
    if next <= now {
        return None;
    }
    retry.next_attempt_time = Some(seconds(next));
    let poll_delay = if unsupported || no_vnc { backoff::LONGEST } else { backoff::look_delay(age) };
    let effects = Effects { wake: Some(next), look: Some(after(polled, poll_delay)), ..Effects::default() };
    if unsupported || !no_vnc {
        return as_it_stands(observed, status, effects, now);
    }
    let reason = Reason::InstanceUnsupported;
    let text = message(reason, observed, retry.code.as_deref());
    let outlook = standing(observed)?;
    let outlook = Outlook { progress: Progress::Stalled, reason, message: text, ..outlook };
    Some(conclude(observed, status, &outlook, now, effects))
}

/// The next attempt where the instance's state tells nothing. A time that has been set already stays.
fn backed_off(observed: &Observed, retry: &Retry, failed: Timestamp, set: Timestamp) -> Timestamp {
    let attempts = retry.attempts.unwrap_or(1).try_into().unwrap_or(1);
    let next = |jitter| backoff::delay(Class::Waiting, attempts, jitter).map(|delay| after(failed, delay));
    if next(0.0).is_none_or(|latest| set <= latest) { set } else { next(observed.jitter).unwrap_or(set) }
}

/// The instance is looked at before its first password, to learn whether that is in effect at once; and where it
/// is not, before each, since the start time is what tells a restart. A generated password waits until that is
/// known, a user's is sent as if it were optimized.
pub(super) fn look_first(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let known = observed.status.instance.as_ref().and_then(|instance| instance.io_optimized);
    let since = match observed.history.group_retry {
        Some(GroupRetry::Tries { since }) => Some(since),
        Some(GroupRetry::Waits) if known.is_none() && cannot_see(observed) => {
            let verdict = stalled(observed, Reason::InstanceUnknown, None, now);
            return Some(Verdict { wake: Some(group_wake(observed, now)), ..verdict });
        }
        Some(GroupRetry::Waits) | None => None,
    };
    let fresh = |look: &Look| after(look.at, FRESH) > now && since.is_none_or(|since| look.at >= since);
    let generated = observed.generated();
    let look = match (known, &observed.look) {
        (Some(true), _) => return None,
        // Whether it is optimized never changes; why it could not be seen may.
        (None, look) => look.as_ref().filter(|look| matches!(look.found, Found::Seen(_)) || fresh(look)),
        (Some(false), look) => look.as_ref().filter(|look| fresh(look)),
    };
    match look.map(|look| &look.found) {
        None => Some(Verdict::of(
            (*observed.status).clone(),
            Effects { look: Some(now), deferred: true, ..Effects::default() },
        )),
        Some(Found::Seen(_) | Found::Unseen | Found::Refused | Found::NoCredentials(_))
            if !generated || observed.io_optimized().is_some() =>
        {
            None
        }
        Some(Found::Seen(_) | Found::Unseen | Found::Refused) => {
            let verdict = stalled(observed, Reason::InstanceUnknown, Some(backoff::STALLED), now);
            // Without groups the poll is kept: it has woken the object, which must not ask for another at once.
            Some(Verdict { look: Some(after(now, backoff::STALLED)), ..verdict })
        }
        Some(Found::NoCredentials(reply)) => Some(uncredited(observed, reply, now)),
        // The groups tell when it is tried again.
        Some(Found::Failed) if since.is_some() => {
            let wake = Some(after(now, backoff::STALLED));
            unchanged(observed, Effects { wake, ..Effects::default() }, now)
        }
        Some(Found::Failed) => {
            let text = message(Reason::LookupFailed, observed, None);
            let outlook = undelivered(observed, Progress::Reconciling, Reason::LookupFailed, text);
            let again = after(now, backoff::look_delay(waited(observed, ConditionType::Reconciling, now)));
            let effects = Effects { look: Some(again), deferred: true, ..Effects::default() };
            Some(conclude(observed, (*observed.status).clone(), &outlook, now, effects))
        }
    }
}

/// Whether the object waits because `DescribeInstances` does not show its instance.
pub(super) fn cannot_see(observed: &Observed) -> bool {
    missing_right(&observed.status) == Some(MissingRight::SeeInstance)
}

/// An object without any accepted call needs a poll of its instance first ([`look_first`]). It is asked for before the
/// Secret is read: so the reconcile can end meanwhile, and thousands of new objects share their polls. `None`: go on.
pub(super) fn poll_before_reading(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let status = &observed.status;
    let new = status.request_id.is_none() && status.applied.is_none();
    let look = observed.look.as_ref().filter(|look| match observed.history.group_retry {
        Some(GroupRetry::Tries { since }) => look.at >= since,
        Some(GroupRetry::Waits) | None => true,
    });
    let no_poll_needed = observed.io_optimized().is_some()
        || look.is_some()
        || observed.history.group_retry == Some(GroupRetry::Waits);
    // Reading such a Secret again shows whether it is usable.
    let unusable = matches!(
        standing_reason(status),
        Some(
            Reason::InvalidPassword
                | Reason::SecretKeyNotFound
                | Reason::SecretForbidden
                | Reason::SecretNotWritable
        )
    );
    // It has polled before it stood in the limiter's line.
    let lined_up = observed.in_line
        || matches!(standing_reason(status), Some(Reason::Throttled | Reason::ChangedTooOften));
    let needed = new && !no_poll_needed && !unusable && !lined_up && !observed.prove_claim;
    let effects = Effects { look: Some(now), deferred: true, ..Effects::default() };
    needed.then(|| Verdict::of((**status).clone(), effects))
}

/// The instance cannot be looked at for want of credentials: told as a call for it would be, and tried again as soon.
fn uncredited(observed: &Observed, reply: &Reply, now: Timestamp) -> Verdict {
    let reason = outcome::reason(reply);
    let text = match reply {
        Reply::CredentialsFailed(problem) => provider_failed(observed, problem),
        Reply::Refused { code, .. } => message(reason, observed, Some(code)),
        _ => message(reason, observed, None),
    };
    let outlook = undelivered(observed, Progress::Stalled, reason, text);
    let again = after(now, backoff::CREDENTIALS);
    let effects = Effects { look: Some(again), deferred: true, ..Effects::default() };
    conclude(observed, (*observed.status).clone(), &outlook, now, effects)
}

/// Another writer changes back what the operator writes into the Secret: nothing begins before the wait is over (R65).
/// What was accepted is still finished.
pub(super) fn contested(observed: &Observed, decision: Decision, now: Timestamp) -> Decision {
    let Some(until) = observed.secret_paused_until.filter(|until| *until > now) else { return decision };
    let begins = match &decision {
        Decision::Draw
        | Decision::Send(Purpose::Rotate)
        | Decision::Announce(Announcement::FirstPassword, _) => true,
        Decision::WriteSecret(write) => !matches!(write.current, Change::Set(_)),
        Decision::Rest(verdict) => verdict.deferred,
        Decision::ReadCredentials
        | Decision::ReadSecret
        | Decision::Send(_)
        | Decision::Announce(Announcement::Reboot, _)
        | Decision::Reboot => false,
    };
    if !begins {
        return decision;
    }
    let reason = Reason::CompetingWriters;
    let outlook = undelivered(observed, Progress::Stalled, reason, message(reason, observed, None));
    // What was read has not been acted on: after the wait it decides as it would have now.
    let effects = Effects { wake: Some(until), deferred: true, ..Effects::default() };
    rest(conclude(observed, (*observed.status).clone(), &outlook, now, effects))
}

/// It is not this object's turn: it waits without failing. What stands is not rewritten at each look.
pub(super) fn throttled(observed: &Observed, opens: Timestamp, now: Timestamp) -> Verdict {
    let reason = if observed.paced { Reason::ChangedTooOften } else { Reason::Throttled };
    let mut status = (*observed.status).clone();
    // The poll may be forgotten until then.
    if let Some(io_optimized) = observed.io_optimized() {
        status.instance.get_or_insert_default().io_optimized = Some(io_optimized);
    }
    let retry = status.retry.get_or_insert_default();
    if observed.status.reason(ConditionType::Reconciling) != Some(reason) {
        retry.next_attempt_time = Some(seconds(opens));
    }
    let text = message(reason, observed, None);
    let outlook = undelivered(observed, Progress::Reconciling, reason, text);
    conclude(observed, status, &outlook, now, Effects { wake: Some(opens), ..Effects::default() })
}

/// Stalled for a reason that no call of the API gave.
pub(super) fn stalled(
    observed: &Observed,
    reason: Reason,
    again: Option<Duration>,
    now: Timestamp,
) -> Verdict {
    let mut status = (*observed.status).clone();
    // Attempts belong to a value; what may still arrive late belongs to the instance.
    status.retry = Retry::unsettled(status.unsettled_until());
    let mut outlook =
        Outlook::new(ConditionStatus::False, Progress::Stalled, reason, message(reason, observed, None));
    if observed.generated() {
        (outlook.ready, outlook.ready_reason) = ready(observed, &observed.status);
    }
    let effects = Effects { wake: again.map(|again| after(now, again)), ..Effects::default() };
    conclude(observed, status, &outlook, now, effects)
}

/// The API server did not take a write of the Secret. A call that this pass made is recorded as far as the status can.
pub(super) fn not_written(observed: &Observed, refused: &RefusedWrite, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    let mut unsettled = status.unsettled_until().filter(|until| *until > now);
    let attempt = observed.attempt.as_ref();
    if let Some(Reply::Accepted { request_id }) = attempt.map(|attempt| &attempt.reply) {
        status.request_id = Some(request_id.clone());
    }
    let unknown = attempt.filter(|attempt| outcome::classify(&attempt.reply) == Class::OutcomeUnknown);
    if let Some(attempt) = unknown {
        unsettled = unsettled.max(Some(settled_at(attempt.at, observed.settle)));
    }
    status.retry = Retry::unsettled(unsettled);
    if refused.promotes {
        // `<key>` no longer holds the value in effect, and a process after this one must not take it for that.
        status.applied = None;
    }
    let (mut truth, mut ready_reason) = ready(observed, &status);
    if unknown.is_some_and(|attempt| !attempt.repeats) {
        (truth, ready_reason) = (ConditionStatus::Unknown, Some(Reason::OutcomeUnknown));
    }
    if refused.creates {
        // Stays until the Secret is there: each attempt may be the one that creates it.
        ready_reason = Some(Reason::Generating);
    }
    let progress = if refused.refusal.is_transient() { Progress::Reconciling } else { Progress::Stalled };
    let text = message::not_written(observed, refused);
    let outlook = Outlook::new(truth, progress, refused.refusal.reason(), text);
    let effects = Effects { wake: Some(after(now, refused.retry_after)), ..Effects::default() };
    conclude(observed, status, &Outlook { ready_reason, ..outlook }, now, effects)
}

/// Whether the status says that the first password may have been drawn.
pub(super) fn announced(status: &VncPasswordStatus) -> bool {
    let says = |type_| status.reason(type_) == Some(Reason::Generating);
    says(ConditionType::Ready) || says(ConditionType::Reconciling)
}

/// There is nobody to call as. What was set stays set: `Ready` tells of that still.
pub(super) fn without_identity(observed: &Observed, reason: Reason, now: Timestamp) -> Verdict {
    let (ready, ready_reason) = match observed.status.condition(ConditionType::Ready) {
        Some(old) if !observed.generated() && users::known_to_be_in_sync(observed) => {
            (old.status, Some(old.reason).filter(|_| !old.is_false()))
        }
        _ => ready(observed, &observed.status),
    };
    let mut status = (*observed.status).clone();
    let unsettled = status.unsettled_until();
    // What these said is lost with the reason: that a password may have been drawn and sent, or another's call be late.
    let forgotten = announced(&status) || standing_reason(&status) == Some(Reason::Conflict);
    let until = forgotten.then(|| settled_at(now, observed.settle)).max(unsettled);
    status.retry = Retry::unsettled(until);
    let text = message(reason, observed, None);
    let outlook = Outlook { ready_reason, ..Outlook::new(ready, Progress::Stalled, reason, text) };
    let effects = Effects { wake: Some(after(now, backoff::STALLED)), ..Effects::default() };
    conclude(observed, status, &outlook, now, effects)
}

/// When the next attempt may be made, where that is still to come.
pub(super) fn next_attempt(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    // A process that knows no line keeps to the status, so that a restart is no stampede.
    if observed.in_line && observed.status.reason(ConditionType::Reconciling) == Some(Reason::Throttled) {
        return None;
    }
    let next = observed.status.retry.as_ref()?.next_attempt_time.as_ref()?.0;
    (next > now).then_some(next)
}

/// The same, unless what the last attempt failed for may have been mended since.
pub(super) fn held_until(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    match observed.history.group_retry {
        Some(GroupRetry::Waits) => return Some(group_wake(observed, now)),
        Some(GroupRetry::Tries { .. }) => return None,
        None => {}
    }
    next_attempt(observed, now).filter(|_| !is_mended(observed))
}

/// Whether what the last attempt failed for may have been mended since.
pub(super) fn is_mended(observed: &Observed) -> bool {
    observed.credentials_changed
        || observed.history.rotate_at_is_new
        || observed.status.observed_generation != Some(observed.generation)
        || observed.prove_claim
}

/// Why a value that waits for a restart is not sent again yet; `None`: go on. `waiting` is the verdict of the wait itself.
pub(super) fn held_again(observed: &Observed, waiting: Verdict, now: Timestamp) -> Option<Verdict> {
    if let Some(next) = held_until(observed, now) {
        let effects = Effects { wake: Some(next), look: Some(next), ..Effects::default() };
        return unchanged(observed, effects, now).or(Some(waiting));
    }
    observed
        .limiter_opens
        .map(|opens| Verdict { wake: Some(waiting.wake.map_or(opens, |wake| wake.min(opens))), ..waiting })
}

/// What the status says stays true.
pub(super) fn unchanged(observed: &Observed, effects: Effects, now: Timestamp) -> Option<Verdict> {
    as_it_stands(observed, (*observed.status).clone(), effects, now)
}

fn as_it_stands(
    observed: &Observed,
    status: VncPasswordStatus,
    effects: Effects,
    now: Timestamp,
) -> Option<Verdict> {
    standing(observed).map(|outlook| conclude(observed, status, &outlook, now, effects))
}
