//! A Secret that is the user's: the operator applies what it says. Each rule of the protocol for it stands here.

use jiff::Timestamp;

use super::{
    backoff,
    contents::Slot,
    facts::{Fingerprint, Observed, Purpose, SecretRead, SecretVersion},
    hold::{
        FRESH, held, held_again, held_until, is_mended, is_unsupported, look_first, poll_before_reading,
        stalled, wait_for_instance, waits_for_instance,
    },
    restart::{self, Followed},
    verdict::{Decision, Effects, Verdict, after, enforce_due, in_effect, rest},
};
use crate::api::{ConditionType, Reason, Retry, VncPasswordStatus};

/// The next step.
pub(super) fn step(observed: &Observed, now: Timestamp) -> Decision {
    let Some(version) = observed.current_version() else {
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

/// Whether the object is in sync without anything having been read.
pub(super) fn known_to_be_in_sync(observed: &Observed) -> bool {
    observed.current_version().is_some_and(|version| matches!(in_sync(observed, version), Sync::Yes))
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
    // What was generated says nothing of a user's value: another password may have been on its way since.
    let known = observed.history.applied.as_ref().filter(|_| applied.rotation.is_none());
    let Some((seen, value)) = known.filter(|(seen, _)| seen.is(applied)) else { return Sync::No };
    if observed.read.is_none() && version.is_older_than(seen) {
        return Sync::Yes;
    }
    match observed.contents().map(|contents| &contents.current) {
        Some(Slot::Valid(_, read)) if read == value => Sync::SameValue(*value),
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
    // Both send the value in effect once more; while a late call is waited for, only a person's word does.
    let enforce = enforce_due(observed, &status, now).filter(|_| !settling);
    let again = [enforce, observed.on_demand(&status)].into_iter().flatten().min();
    // A resend that failed is repeated with backoff.
    let failed = status.retry.as_ref().is_some_and(|retry| retry.attempts.is_some());
    let due = match (unsettled, again) {
        _ if observed.prove_claim => Some(Purpose::Enforce),
        (Some(until), _) if settling && (failed || until <= now) => Some(Purpose::Settle),
        (_, Some(at)) if at <= now => Some(Purpose::Enforce),
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
        [unsettled, again].into_iter().flatten().min()
    };
    let effects = Effects { wake, ..effects };
    if status.accepted.is_none() {
        return rest(in_effect(observed, status, settling, effects, now));
    }
    match restart::follow(observed, status, effects, now) {
        Followed::Waits(verdict) => rest(*verdict),
        Followed::Step(decision) => decision,
        Followed::Restarted(status, mut effects) => {
            effects.wake = effects.wake.or(enforce_due(observed, &status, now));
            rest(in_effect(observed, *status, settling, effects, now))
        }
        Followed::Blurred(verdict) => match observed.contents().map(|contents| &contents.current) {
            None if observed.read.is_none() => Decision::ReadSecret,
            Some(Slot::Valid(..)) => {
                held_again(observed, *verdict, now).map_or(Decision::Send(Purpose::Deliver), rest)
            }
            _ => rest(*verdict),
        },
    }
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
    // A restart that is followed has looks of its own.
    let waits = observed.status.accepted.is_none() && !observed.prove_claim;
    // A change is tried at once also where the instance seems to have no VNC.
    let tries_anyway = is_unsupported(&observed.status) && is_mended(observed);
    let next = if waits && waits_for_instance(&observed.status) && !tries_anyway {
        if let Some(verdict) = wait_for_instance(observed, now) {
            return Ok(rest(verdict));
        }
        None
    } else {
        held_until(observed, now)
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
        Some(_) if observed.to_send(purpose).is_some() => Ok(Decision::Send(purpose)),
        Some(_) => Err(after(now, backoff::STALLED)),
    }
}

/// Not in sync: the value has to be read and sent, unless something says that it would be in vain now.
fn out_of_sync(observed: &Observed, version: &SecretVersion, now: Timestamp) -> Decision {
    if let Some(verdict) = held(observed, version, now) {
        return rest(verdict);
    }
    let contents = match &observed.read {
        None => return poll_before_reading(observed, now).map_or(Decision::ReadSecret, rest),
        Some(SecretRead::Missing) => {
            return rest(stalled(observed, Reason::SecretNotFound, Some(backoff::STALLED), now));
        }
        Some(SecretRead::Forbidden) => {
            return rest(stalled(observed, Reason::SecretForbidden, Some(backoff::STALLED), now));
        }
        Some(SecretRead::Found(contents)) => contents,
    };
    match contents.current {
        Slot::Absent => rest(stalled(observed, Reason::SecretKeyNotFound, None, now)),
        Slot::Invalid => rest(stalled(observed, Reason::InvalidPassword, None, now)),
        // Only for a value that can be sent is anybody asked anything.
        Slot::Valid(..) => match look_first(observed, now) {
            Some(verdict) => rest(verdict),
            None => Decision::Send(Purpose::Deliver),
        },
    }
}
