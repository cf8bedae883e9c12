//! What to do next: `decide` is total, sync and pure. Each rule of the protocol for a user's Secret stands here.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    facts::{
        Fingerprint, Found, Look, Observed, Owner, Purpose, RUNNING, SecretRead, SecretVersion, Unsettled,
    },
    message::message,
    outcome::Class,
    reply, restart,
    verdict::{
        Decision, Effects, Outlook, Progress, Verdict, after, conclude, enforce_due, in_effect, rest,
        seconds, settled_at, standing, undelivered, waited,
    },
};
use crate::api::{Applied, ConditionStatus, ConditionType, Reason, Retry, VncPasswordStatus};

/// Decides the next step from what was observed.
#[must_use]
pub fn decide(observed: &Observed, now: Timestamp) -> Decision {
    match within_bounds(observed, now) {
        Some(bounded) => step(&bounded, now),
        None => step(observed, now),
    }
}

/// After the clock jumped back, stored times ask for more than they can: they are cut to their bounds, once and for
/// all, since a bound that moves along with each pass never comes. `None`: there is nothing to cut.
fn within_bounds(observed: &Observed, now: Timestamp) -> Option<Observed> {
    let mut status = (*observed.status).clone();
    if let Some(Applied { time, .. }) = &mut status.applied {
        *time = seconds(now).min(time.clone());
    }
    if let Some(Retry { next_attempt_time, unsettled_until, .. }) = &mut status.retry {
        let (longest, settled) = (after(now, backoff::CAP), settled_at(now, observed.settle));
        *next_attempt_time = next_attempt_time.take().map(|next| next.min(seconds(longest)));
        *unsettled_until = unsettled_until.take().map(|until| until.min(Time(settled)));
    }
    (status != *observed.status).then(|| Observed { status: Arc::new(status), ..observed.clone() })
}

fn step(observed: &Observed, now: Timestamp) -> Decision {
    if let Some(attempt) = &observed.attempt {
        return reply::decide(observed, attempt, now);
    }
    if let Some(verdict) = out_of_action(observed, now) {
        return rest(verdict);
    }
    let Some(version) = current_version(observed) else {
        return secret_missing(observed, now);
    };
    match in_sync(observed, version) {
        Sync::Yes => synced(observed, (*observed.status).clone(), Effects::default(), now),
        Sync::SameValue(value) => {
            let mut status = (*observed.status).clone();
            if let Some(applied) = &mut status.applied {
                applied.secret_uid = version.uid.to_string();
                applied.secret_resource_version = version.resource_version.to_string();
            }
            let effects = Effects { applied_value: Some((version.clone(), value)), ..Effects::default() };
            synced(observed, status, effects, now)
        }
        Sync::No => out_of_sync(observed, version, now),
    }
}

/// What others may have sent that this process cannot know of: a former process where the object is `inherited`
/// from it, or a former owner of the instance. Told once, before the first decision.
#[must_use]
pub fn doubt(observed: &Observed, inherited: bool, now: Timestamp) -> Option<Unsettled> {
    let known =
        current_version(observed).is_some_and(|version| matches!(in_sync(observed, version), Sync::Yes));
    let conflicted = conflicted(observed);
    let took_over = conflicted && observed.owner == Owner::This && !observed.spec.suspend;
    let unknown = (took_over || (inherited && !known)).then(|| settled_at(now, observed.settle));
    let until = unknown.max(observed.status.unsettled_until().filter(|_| inherited))?;
    Some(Unsettled { value: None, until })
}

/// The states in which nothing is done, whatever the Secret says.
fn out_of_action(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let status = &observed.status;
    if observed.spec.suspend {
        let (ready, reason, text) = status.condition(ConditionType::Ready).map_or_else(
            || (ConditionStatus::Unknown, Reason::Suspended, message(Reason::Suspended, observed, None)),
            |ready| (ready.status, ready.reason, ready.message.clone()),
        );
        let outlook = Outlook::new(ready, Progress::Rest, reason, text);
        return Some(conclude(observed, (**status).clone(), &outlook, now, Effects::default()));
    }
    if observed.region.is_none() {
        return Some(stalled(observed, Reason::InvalidRegion, None, now));
    }
    if let Owner::Other(name) = &observed.owner {
        let text = match name {
            Some(name) => format!("VncPassword {name} owns this instance; delete one of the two"),
            None => "a VncPassword in another namespace owns this instance; delete one of the two".to_owned(),
        };
        let outlook = Outlook::new(ConditionStatus::False, Progress::Stalled, Reason::Conflict, text);
        let effects = Effects { wake: Some(after(now, backoff::STALLED)), ..Effects::default() };
        let mut status = (**status).clone();
        // The owner may change what this object applied: nothing may be taken for in sync after a take-over.
        status.applied = None;
        status.accepted = None;
        return Some(conclude(observed, status, &outlook, now, effects));
    }
    None
}

/// The version that counts: the one just read, else the watch's.
fn current_version(observed: &Observed) -> Option<&SecretVersion> {
    match &observed.read {
        Some(SecretRead::Missing) => None,
        Some(read) => read.version().or(observed.secret.as_ref()),
        None => observed.secret.as_ref(),
    }
}

enum Sync {
    Yes,
    /// Another version, but the value that was applied.
    SameValue(Fingerprint),
    No,
}

fn in_sync(observed: &Observed, version: &SecretVersion) -> Sync {
    let Some(applied) = &observed.status.applied else { return Sync::No };
    if version.is(applied) {
        return Sync::Yes;
    }
    // Only a version that this process has itself read tells that the watch is behind; after a restore of etcd
    // versions go backwards, and then the Secret must be looked at.
    let Some((seen, value)) = observed.history.applied.as_ref().filter(|(seen, _)| seen.is(applied)) else {
        return Sync::No;
    };
    if observed.read.is_none() && version.is_older_than(seen) {
        return Sync::Yes;
    }
    match &observed.read {
        Some(SecretRead::Valid(_, _, read)) if read == value => Sync::SameValue(*value),
        _ => Sync::No,
    }
}

/// The watch knows of no Secret: one GET makes sure, since watch and object may arrive in any order.
fn secret_missing(observed: &Observed, now: Timestamp) -> Decision {
    let known = observed.status.reason(ConditionType::Stalled) == Some(Reason::SecretNotFound)
        && observed.status.observed_generation == Some(observed.generation);
    if observed.read.is_none() && !known {
        return Decision::ReadSecret;
    }
    rest(stalled(observed, Reason::SecretNotFound, Some(backoff::STALLED), now))
}

/// In sync: rest, follow a restart, or send the same value again where that is due.
fn synced(observed: &Observed, mut status: VncPasswordStatus, effects: Effects, now: Timestamp) -> Decision {
    let settling = settling(observed);
    let until = status.unsettled_until();
    let unsettled = until.filter(|until| settling || *until > now);
    let enforce = enforce_due(observed, &status, now);
    // A resend that failed is repeated with backoff.
    let failed = status.retry.as_ref().is_some_and(|retry| retry.attempts.is_some());
    let due = match (unsettled, enforce) {
        (Some(until), _) if settling && (failed || until <= now) => Some(Purpose::Settle),
        (_, Some(at)) if !settling && at <= now => Some(Purpose::Enforce),
        _ => None,
    };
    let wake = if let Some(purpose) = due {
        match resend(observed, purpose, now) {
            Ok(step) => return step,
            Err(again) => Some(again),
        }
    } else {
        // Attempts that failed were for a value that has been taken back since.
        status.retry = Retry::unsettled(unsettled.and(status.unsettled_until()));
        [unsettled, enforce.filter(|_| !settling)].into_iter().flatten().min()
    };
    let effects = Effects { wake, ..effects };
    if status.accepted.is_some() {
        return restart::follow(observed, status, effects, settling, now);
    }
    rest(in_effect(observed, status, settling, effects, now))
}

/// Whether a late call may bring another value than the one applied, so that this must be sent once more. A late
/// call of the same value does no harm, but only the process that sent it can tell.
fn settling(observed: &Observed) -> bool {
    let status = &observed.status;
    let Some((applied, until)) = status.applied.as_ref().zip(status.unsettled_until()) else { return false };
    let Some((_, value)) = observed.history.applied.as_ref().filter(|(version, _)| version.is(applied))
    else {
        return true;
    };
    let (own, others): (Vec<_>, Vec<_>) =
        observed.history.unsettled.iter().partition(|unsettled| unsettled.value == Some(*value));
    let explained = own.iter().any(|unsettled| unsettled.until >= until);
    !explained || others.iter().any(|unsettled| unsettled.until > applied.time.0)
}

/// Sends a value that is known to be accepted once more. Otherwise: when to come back for it.
fn resend(observed: &Observed, purpose: Purpose, now: Timestamp) -> Result<Decision, Timestamp> {
    let next = match observed.status.reason(ConditionType::Reconciling) {
        // A restart that is followed has looks of its own.
        Some(Reason::IncorrectInstanceStatus | Reason::InstanceNotReady)
            if observed.status.accepted.is_none() =>
        {
            if let Some(verdict) = wait_for_instance(observed, now) {
                return Ok(rest(verdict));
            }
            None
        }
        _ => next_attempt(observed, now),
    };
    if let Some(held) = next.max(observed.limiter_opens) {
        return Err(held);
    }
    let optimized = observed.status.instance.as_ref().and_then(|instance| instance.io_optimized);
    let looked = observed.look.as_ref().is_some_and(|look| after(look.at, FRESH) > now);
    match &observed.read {
        // There it counts as a delivery, so the start time before the call is needed.
        _ if purpose == Purpose::Settle && optimized == Some(false) && !looked => {
            let effects = Effects { look: Some(now), deferred: true, ..Effects::default() };
            Ok(rest(Verdict::of((*observed.status).clone(), effects)))
        }
        None => Ok(Decision::ReadSecret),
        Some(SecretRead::Valid(..)) => Ok(Decision::Send(purpose)),
        Some(_) => Err(after(now, backoff::STALLED)),
    }
}

/// Not in sync: the value has to be read and sent, unless something says that it would be in vain now.
fn out_of_sync(observed: &Observed, version: &SecretVersion, now: Timestamp) -> Decision {
    if let Some(verdict) = held(observed, version, now) {
        return rest(verdict);
    }
    match &observed.read {
        None => Decision::ReadSecret,
        // Only for a value that can be sent is anybody asked anything.
        Some(SecretRead::Valid(..)) => match look_first(observed, now) {
            Some(verdict) => rest(verdict),
            None => Decision::Send(Purpose::Deliver),
        },
        Some(SecretRead::Missing) => {
            rest(stalled(observed, Reason::SecretNotFound, Some(backoff::STALLED), now))
        }
        Some(SecretRead::Forbidden) => {
            rest(stalled(observed, Reason::SecretForbidden, Some(backoff::STALLED), now))
        }
        Some(SecretRead::NoKey(_)) => rest(stalled(observed, Reason::SecretKeyNotFound, None, now)),
        Some(SecretRead::Invalid(_)) => rest(stalled(observed, Reason::InvalidPassword, None, now)),
    }
}

/// Whether another object owned the instance when the status was written.
fn conflicted(observed: &Observed) -> bool {
    observed.status.reason(ConditionType::Stalled) == Some(Reason::Conflict)
}

/// Why nothing is sent now although the value is not in effect; `None`: go on.
fn held(observed: &Observed, version: &SecretVersion, now: Timestamp) -> Option<Verdict> {
    let changed = observed.status.observed_generation != Some(observed.generation)
        || observed.history.examined.as_ref().is_some_and(|examined| examined != version)
        // Whoever takes over need not sit out the backoff of what it tried before it stood back.
        || conflicted(observed);
    if !changed {
        let examined = observed.history.examined.is_some() && observed.read.is_none();
        let standing = observed.status.condition(ConditionType::Ready).map(|ready| ready.reason);
        match standing {
            Some(Reason::InvalidPassword | Reason::SecretKeyNotFound) if examined => {
                return unchanged(observed, Effects::default(), now);
            }
            Some(Reason::IncorrectInstanceStatus | Reason::InstanceNotReady) => {
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
    observed.limiter_opens.map(|opens| throttled(observed, opens, now))
}

/// The instance refused because of its state: nothing is sent while a fresh look shows the refused status, but
/// once at the longest backoff; where it cannot be looked at, plain backoff.
fn wait_for_instance(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let retry = observed.status.retry.as_ref()?;
    let failed = retry.last_failure_time.as_ref()?.0.min(now);
    let cap = next_attempt(observed, now)?;
    let age = waited(observed, ConditionType::Reconciling, now);
    let refused = observed.status.instance.as_ref().and_then(|instance| instance.status.as_deref());
    let fresh = observed.look.as_ref().filter(|look| look.at.as_second() > failed.as_second());
    let mut status = (*observed.status).clone();
    let look = match fresh.map(|look| (look.at, &look.found)) {
        None if refused.is_none() => after(failed, Duration::from_secs(1)),
        None => after(failed, backoff::look_delay(age)),
        Some((at, Found::Seen(seen))) => {
            let ready = refused.map_or(seen.status == RUNNING, |refused| refused != seen.status);
            if ready {
                return None;
            }
            status.instance.get_or_insert_default().status = Some(seen.status.clone());
            after(at, backoff::look_delay(age))
        }
        Some((at, Found::Unseen | Found::Refused | Found::Failed)) => {
            let attempts = retry.attempts.unwrap_or(1).try_into().unwrap_or(1);
            let next = backoff::delay(Class::Waiting, attempts, 0.0)
                .map_or(cap, |delay| after(failed, delay).min(cap));
            if next <= now {
                return None;
            }
            if let Some(retry) = &mut status.retry {
                retry.next_attempt_time = Some(seconds(next));
            }
            let effects = Effects {
                wake: Some(next),
                look: Some(after(at, backoff::look_delay(age))),
                ..Effects::default()
            };
            return as_it_stands(observed, status, effects, now);
        }
    };
    as_it_stands(observed, status, Effects { wake: Some(cap), look: Some(look), ..Effects::default() }, now)
}

/// How long a look counts as taken just before a call.
const FRESH: Duration = Duration::from_secs(60);

/// The instance is looked at before its first password, to learn whether that is in effect at once; and where it
/// is not, before each, since the start time is what tells a restart.
fn look_first(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let optimized = observed.status.instance.as_ref().and_then(|instance| instance.io_optimized);
    let fresh = |look: &Look| after(look.at, FRESH) > now;
    let look = match (optimized, &observed.look) {
        (Some(true), _) => return None,
        // Whether it is optimized never changes; why it could not be seen may.
        (None, look) => look.as_ref().filter(|look| matches!(look.found, Found::Seen(_)) || fresh(look)),
        (Some(false), look) => look.as_ref().filter(|look| fresh(look)),
    };
    match look.map(|look| &look.found) {
        Some(Found::Seen(_) | Found::Unseen | Found::Refused) => None,
        None => Some(Verdict::of(
            (*observed.status).clone(),
            Effects { look: Some(now), deferred: true, ..Effects::default() },
        )),
        Some(Found::Failed) => {
            let text = message(Reason::LookupFailed, observed, None);
            let ready = undelivered(observed);
            let outlook = Outlook::new(ready, Progress::Reconciling, Reason::LookupFailed, text);
            let again = after(now, backoff::look_delay(waited(observed, ConditionType::Reconciling, now)));
            let effects = Effects { look: Some(again), deferred: true, ..Effects::default() };
            Some(conclude(observed, (*observed.status).clone(), &outlook, now, effects))
        }
    }
}

/// The limiter is closed: the object waits its turn without failing. What stands is not rewritten at each look.
fn throttled(observed: &Observed, opens: Timestamp, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    let retry = status.retry.get_or_insert_default();
    if observed.status.reason(ConditionType::Reconciling) != Some(Reason::Throttled) {
        retry.next_attempt_time = Some(seconds(opens));
    }
    let text = message(Reason::Throttled, observed, None);
    let outlook = Outlook::new(undelivered(observed), Progress::Reconciling, Reason::Throttled, text);
    conclude(observed, status, &outlook, now, Effects { wake: Some(opens), ..Effects::default() })
}

/// Stalled for a reason that no call of the API gave.
fn stalled(observed: &Observed, reason: Reason, again: Option<Duration>, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    // Attempts belong to a value; what may still arrive late belongs to the instance.
    status.retry = Retry::unsettled(status.unsettled_until());
    let outlook =
        Outlook::new(ConditionStatus::False, Progress::Stalled, reason, message(reason, observed, None));
    let effects = Effects { wake: again.map(|again| after(now, again)), ..Effects::default() };
    conclude(observed, status, &outlook, now, effects)
}

/// When the next attempt may be made, where that is still to come.
fn next_attempt(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let next = observed.status.retry.as_ref()?.next_attempt_time.as_ref()?.0;
    (next > now).then_some(next)
}

fn unchanged(observed: &Observed, effects: Effects, now: Timestamp) -> Option<Verdict> {
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
