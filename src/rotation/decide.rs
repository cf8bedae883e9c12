//! What to do next: `decide` is total, sync and pure. Here: what holds for every object; `users` and `generated` know
//! the rest.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    contents::{Record, State},
    facts::{Access, Observed, Owner, Unsettled},
    generated,
    hold::{conflicted, stalled, without_identity},
    message::message,
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
    let decision = match normalised(observed, now) {
        Some(normalised) => step(&normalised, now),
        None => step(observed, now),
    };
    let calls = observed.attempt.is_none() && leads_to_a_call(&decision);
    if calls && observed.access == Access::Unread { Decision::ReadCredentials } else { decision }
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
    if let Some(attempt) = &observed.attempt {
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

/// The status as decisions take it: what another has replaced counts as never applied, times that cannot be are cut, and
/// what the Secret's record knows is taken in.
/// `None`: there is nothing to change.
fn normalised(observed: &Observed, now: Timestamp) -> Option<Observed> {
    let mut status = (*observed.status).clone();
    if observed.displaced {
        status.applied = None;
        status.accepted = None;
    }
    cut_to_bounds(observed, &mut status, now);
    take_in_record(observed, &mut status, now);
    (status != *observed.status).then(|| Observed { status: Arc::new(status), ..observed.clone() })
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
    if let Some(Retry { next_attempt_time, unsettled_until, .. }) = &mut status.retry {
        let (longest, settled) = (after(now, backoff::CAP), settled_at(now, observed.settle));
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
    let drawn = contents.record_of(instance_id).filter(|record| record.state == State::Drawn);
    let waits = |record: &Record| {
        let named = status.accepted.as_ref().is_some_and(|accepted| accepted.rotation == record.id);
        named && contents.under_way(instance_id).is_some()
    };
    // What was accepted is not what is on its way now, or it is gone.
    if drawn.is_some_and(|record| !waits(record)) {
        status.accepted = None;
    }
}

/// What others may have sent that this process cannot know of: a former process where the object is `inherited`
/// from it, or a former owner of the instance. Told once, before the first decision.
#[must_use]
pub fn doubt(observed: &Observed, inherited: bool, now: Timestamp) -> Option<Unsettled> {
    // A resend that was due when the former process ended may be under way: nothing is written down before one.
    let resends = [enforce_due(observed, &observed.status, now), observed.on_demand(&observed.status)];
    let resending = resends.into_iter().flatten().any(|due| due <= now);
    let known = users::known_to_be_in_sync(observed) && !resending;
    // The record tells of generated ones, unless the object has become one meanwhile.
    let recorded = observed.spec.rotation.is_some()
        && observed.status.observed_generation.is_none_or(|generation| generation == observed.generation);
    let took_over = conflicted(observed) && observed.owner == Owner::This && !observed.spec.suspend;
    let unknown = took_over || (inherited && !known && !recorded);
    let unknown = unknown.then(|| settled_at(now, observed.settle));
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
