//! A Secret that the operator writes: the write-ahead protocol of one rotation. The Secret is the truth; the status is
//! rebuilt from it.

mod call;
mod told;
mod writes;

use std::sync::Arc;

use jiff::Timestamp;

use self::{
    told::{Due, in_sync, settling, take_over, to_repeat, told_by, unsettled},
    writes::Start,
};
use super::{
    backoff,
    contents::{Contents, Record, SecretRead, SecretWrite, Slot, State},
    facts::{Announcement, Fingerprint, Observed, Purpose},
    hold::{
        announced, cannot_see, conflicted, held, held_again, look_first, poll_before_reading, stalled,
        throttled, unchanged,
    },
    message::message,
    password::Password,
    reply::SOON,
    restart::{self, Followed},
    verdict::{Decision, Effects, Outlook, Progress, Verdict, after, conclude, rest, settled_at},
};
use crate::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};
pub(super) use call::after_call;

/// The next step.
pub(super) fn step(observed: &Observed, now: Timestamp) -> Decision {
    match &observed.read {
        None => unread(observed, now)
            // Whoever has to wait for a late call polls after that: polls are few, and this one would be forgotten.
            .or_else(|| poll_before_reading(observed, now).filter(|_| unsettled(observed, now).is_none()))
            .map_or(Decision::ReadSecret, rest),
        Some(SecretRead::Missing) => missing(observed, now),
        Some(SecretRead::Forbidden) => {
            rest(stalled(observed, Reason::SecretForbidden, Some(backoff::STALLED), now))
        }
        Some(SecretRead::Found(contents)) => found(observed, contents, now),
    }
}

/// What can be told without reading the Secret; `None`: it has to be read.
fn unread(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let status = &observed.status;
    let version = observed.current_version()?;
    // Whose Secret it is has to be looked up once for each spec.
    if status.observed_generation != Some(observed.generation) || conflicted(observed) || observed.prove_claim
    {
        return None;
    }
    let locked_out = status.reason(ConditionType::Stalled) == Some(Reason::SecretNotWritable);
    let applied = status.applied.as_ref().is_some_and(|applied| version.is(applied));
    if applied && status.accepted.is_none() && !locked_out {
        let due = Due::of(observed, status, now);
        let rests = !due.rotation(now) && !due.again(now);
        return rests.then(|| in_sync(observed, (**status).clone(), Effects::default(), now));
    }
    if observed.history.examined.as_ref() != Some(version) {
        return None;
    }
    if status.accepted.is_some() && !locked_out {
        return match restart::follow(observed, (**status).clone(), Effects::default(), now) {
            Followed::Waits(verdict) => Some(*verdict),
            Followed::Step(_) | Followed::Blurred(_) | Followed::Restarted(..) => None,
        };
    }
    match status.reason(ConditionType::Stalled) {
        Some(Reason::SecretNotWritable) => {
            let wake = Some(after(now, backoff::STALLED));
            unchanged(observed, Effects { wake, ..Effects::default() }, now)
        }
        // The next rotation overwrites it.
        Some(Reason::InvalidPassword) => {
            let due = Due::of(observed, status, now);
            let wake = due.next(now);
            let verdict = unchanged(observed, Effects { wake, ..Effects::default() }, now);
            verdict.filter(|_| !due.rotation(now))
        }
        _ => held(observed, version, now),
    }
}

/// There is no Secret: it is made, with the first password in it.
fn missing(observed: &Observed, now: Timestamp) -> Decision {
    if observed.announced == Some(Announcement::FirstPassword) {
        return begin(observed, None, Start::Draw, now);
    }
    let status = &observed.status;
    if let Some(until) = unsettled(observed, now) {
        return rest(settling(observed, (**status).clone(), until, now));
    }
    // A Secret that is gone may have held a value that is still under way.
    let waited = status.unsettled_until().is_some();
    let last_seen = observed.history.examined.as_ref();
    let last_applied = status.applied.as_ref();
    let nothing_since = last_applied.is_some_and(|applied| last_seen.is_some_and(|seen| seen.is(applied)));
    let history = &observed.history;
    let clear = waited || nothing_since || history.untouched || history.creation_refused;
    if !clear && !never_drawn(status) {
        let until = settled_at(now, observed.settle);
        return rest(settling(observed, (**status).clone(), until, now));
    }
    if let Some(verdict) = polls_first(observed, now) {
        return rest(verdict);
    }
    if let Some(opens) = observed.limiter_opens.filter(|_| observed.paced) {
        return rest(throttled(observed, opens, now));
    }
    if let Some(verdict) = look_first(observed, now) {
        return rest(verdict);
    }
    if announced(status) && !waited {
        return begin(observed, None, Start::Draw, now);
    }
    // Whoever comes after this process is to know that a password may have been drawn and sent.
    let text = message(Reason::Generating, observed, None);
    let outlook = Outlook::new(ConditionStatus::False, Progress::Reconciling, Reason::Generating, text);
    let mut status = (**status).clone();
    status.retry = None;
    let verdict = conclude(observed, status, &outlook, now, Effects::default());
    Decision::Announce(Announcement::FirstPassword, Box::new(verdict))
}

/// Whether the object has only ever stood in a state that comes before the first draw.
fn never_drawn(status: &VncPasswordStatus) -> bool {
    let before = [
        Reason::InstanceUnknown,
        Reason::LookupFailed,
        Reason::AmbientCredentialsDenied,
        Reason::CredentialsNotFound,
        Reason::InvalidCredentials,
        Reason::SecretForbidden,
        Reason::SecretNotFound,
        Reason::SecretNotWritable,
        Reason::InvalidRegion,
        Reason::InvalidObject,
        Reason::Conflict,
        Reason::Suspended,
    ];
    let standing = [ConditionType::Stalled, ConditionType::Reconciling, ConditionType::Ready];
    let standing = standing.into_iter().find_map(|type_| status.reason(type_));
    let new = status.request_id.is_none() && status.retry.is_none() && !announced(status);
    new && standing.map_or(status.conditions.is_empty(), |reason| before.contains(&reason))
}

fn found(observed: &Observed, contents: &Contents, now: Timestamp) -> Decision {
    let instance_id = &observed.spec.instance_id;
    let record = contents.record_of(instance_id);
    // A fleet rotates what it made itself: it takes over nobody's password.
    if contents.closed || (record.is_none() && (observed.in_fleet || !contents.opened)) {
        return rest(stalled(observed, Reason::SecretNotWritable, Some(backoff::STALLED), now));
    }
    if let Some((next, print, record)) = contents.under_way(instance_id) {
        return under_way(observed, contents, (next, print, record), now);
    }
    match (&contents.next, record) {
        // Nobody answers for it, but it may be what opens the console.
        (Slot::Valid(next, _), None) => match &observed.drawn {
            None => Decision::Draw,
            Some(drawn) => write(writes::found(observed, contents, next, drawn, now)),
        },
        (Slot::Absent, Some(record)) if record.state == State::Drawn && record.next.is_none() => {
            redraw(observed, contents, record, now)
        }
        (Slot::Absent, Some(Record { state: State::Done, .. }) | None) | (Slot::Invalid, None) => {
            at_rest(observed, contents, now)
        }
        (Slot::Absent | Slot::Invalid | Slot::Valid(..), Some(record)) => {
            write(writes::spoilt(observed, contents, record, now))
        }
    }
}

/// A rotation whose value was lost draws another; where passwords are no longer generated, it is closed, and the
/// Secret is the user's.
fn redraw(observed: &Observed, contents: &Contents, record: &Record, now: Timestamp) -> Decision {
    if observed.spec.rotation.is_some() {
        return begin(observed, Some(contents), Start::Draw, now);
    }
    write(writes::closed(contents, record))
}

/// A valid `.next` stands: it is sent, and nothing else is.
fn under_way(
    observed: &Observed,
    contents: &Contents,
    (next, print, record): (&Password, Fingerprint, &Record),
    now: Timestamp,
) -> Decision {
    if observed.status.accepted.is_some() && !observed.prove_claim {
        return match restart::follow(observed, (*observed.status).clone(), Effects::default(), now) {
            Followed::Waits(verdict) => rest(*verdict),
            Followed::Step(decision) => decision,
            Followed::Restarted(..) => write(writes::promoted(contents, next, record)),
            Followed::Blurred(verdict) => held_again(observed, *verdict, now)
                .map_or_else(|| send_again(observed, contents, record, now), rest),
        };
    }
    if let Some(verdict) = held(observed, &contents.version, now).or_else(|| look_first(observed, now)) {
        return rest(verdict);
    }
    // After a restart nobody could tell which of the two values it brought into effect.
    let late = observed.others_unsettled(now, Some(print)).filter(|_| observed.io_optimized() == Some(false));
    if let Some(until) = late.filter(|_| !observed.prove_claim) {
        return rest(settling(observed, (*observed.status).clone(), until, now));
    }
    if observed.status.accepted.is_some() {
        return send_again(observed, contents, record, now);
    }
    send(observed, contents, record, now)
}

/// Sends `.next`. Who did not write it answers for it first, so that its former writer can no longer promote it.
fn send(observed: &Observed, contents: &Contents, record: &Record, now: Timestamp) -> Decision {
    if *record.writer == *observed.writer {
        return Decision::Send(Purpose::Rotate);
    }
    write(writes::claimed(observed, contents, record, now))
}

/// Sends `.next` although it was accepted. While the status names it, whoever sees the restart promotes it without
/// answering for it first: so the record says beforehand that a call may still arrive. Fifteen sixteenths of `--settle`
/// are the validity of a signature, so a claim that still lasts as long covers this call too.
fn send_again(observed: &Observed, contents: &Contents, record: &Record, now: Timestamp) -> Decision {
    let covered = Some(after(now, observed.settle / 16 * 15));
    if *record.writer == *observed.writer && record.unsettled_until >= covered {
        return Decision::Send(Purpose::Rotate);
    }
    write(writes::claimed(observed, contents, record, now))
}

/// Nothing is on its way: what `<key>` holds, and what is due, tells what to begin.
fn at_rest(observed: &Observed, contents: &Contents, now: Timestamp) -> Decision {
    let instance_id = &observed.spec.instance_id;
    let record = contents.record_of(instance_id);
    if contents.holds_the_value_in_effect(instance_id) {
        return in_effect(observed, contents, now);
    }
    let mut status = (*observed.status).clone();
    if let Some(record) = record {
        take_over(record, &mut status, now);
    }
    let due = Due::of(observed, &status, now);
    let invalid = || {
        let verdict = stalled(observed, Reason::InvalidPassword, Some(backoff::STALLED), now);
        let wake = due.next(now).into_iter().chain(verdict.wake).min();
        rest(Verdict { wake, ..verdict })
    };
    let overwrite = || {
        if due.rotation(now) { begin(observed, Some(contents), Start::Draw, now) } else { invalid() }
    };
    match (&contents.current, record) {
        (Slot::Absent, _) => begin(observed, Some(contents), Start::Draw, now),
        (Slot::Valid(..), Some(_)) if contents.holds_a_refused_value(instance_id) => overwrite(),
        // An adoption, or a person's edit: the value is applied, unless another was asked for.
        (Slot::Valid(..), _) => {
            let asked = due.on_demand.is_some_and(|at| at <= now);
            let applied = status.applied.as_ref().is_some_and(|applied| contents.version.is(applied));
            let start = match record {
                _ if asked => Start::Draw,
                None if applied && status.accepted.is_none() => Start::Repeat,
                _ => Start::Apply,
            };
            begin(observed, Some(contents), start, now)
        }
        (Slot::Invalid, Some(_)) => overwrite(),
        // What no record explains is not overwritten.
        (Slot::Invalid, None) => invalid(),
    }
}

/// `<key>` is in effect: the status is made to say so, and what is due begins.
fn in_effect(observed: &Observed, contents: &Contents, now: Timestamp) -> Decision {
    let status = told_by(observed, contents, now);
    let due = Due::of(observed, &status, now);
    let known = Observed { status: Arc::new(status), ..observed.clone() };
    // A claim is proven first if another value has to wait.
    let waits = observed.prove_claim && unsettled(observed, now).is_some();
    if due.rotation(now) && !waits {
        return begin(&known, Some(contents), Start::Draw, now);
    }
    let restarted = brought_by_restart(observed, contents);
    let notes = restarted.then(|| restart::seen(observed)).into_iter().collect();
    let effects = Effects { notes, ..Effects::default() };
    if restarted && !observed.prove_claim {
        // Recorded first: while the status names the value as accepted, the restart would be seen once more.
        let verdict = in_sync(observed, (*known.status).clone(), effects, now);
        let overdue = due.again(now).then(|| after(now, SOON));
        return rest(Verdict { wake: verdict.wake.into_iter().chain(overdue).min(), ..verdict });
    }
    let refused = contents.holds_a_refused_value(&observed.spec.instance_id);
    if let Some(start) = to_repeat(observed, contents, &due, now).filter(|_| !refused) {
        let observed = if start == Start::Repeat { &known } else { observed };
        return begin(observed, Some(contents), start, now);
    }
    rest(in_sync(observed, (*known.status).clone(), effects, now))
}

/// Whether a restart has brought the value into effect, after every call that others made before it was accepted.
fn brought_by_restart(observed: &Observed, contents: &Contents) -> bool {
    let accepted = observed.status.accepted.as_ref();
    let record = contents.record_of(&observed.spec.instance_id);
    accepted.zip(record).is_some_and(|(accepted, record)| accepted.rotation == record.id)
}

/// A rotation begins with its write, before anything is sent, where nothing forbids it.
fn begin(observed: &Observed, contents: Option<&Contents>, start: Start, now: Timestamp) -> Decision {
    let status = &observed.status;
    // To prove a claim, the value that is in effect anyway is sent: that need not wait for a late call.
    let proves = observed.prove_claim && matches!(start, Start::Repeat | Start::Reapply);
    if let Some(until) = unsettled(observed, now).filter(|_| !proves) {
        return rest(settling(observed, (**status).clone(), until, now));
    }
    if let Some(verdict) = polls_first(observed, now) {
        return rest(verdict);
    }
    // What was announced is drawn, and waits in the Secret for the limiter to open.
    if let Some(opens) = observed.limiter_opens.filter(|_| observed.announced.is_none()) {
        return rest(throttled(observed, opens, now));
    }
    if let Some(verdict) = look_first(observed, now) {
        return rest(verdict);
    }
    match &observed.drawn {
        None => Decision::Draw,
        Some(drawn) => write(writes::begun(observed, contents, start, drawn, now)),
    }
}

/// The poll of an object whose instance was not shown: that needs no turn in the limiter for passwords.
fn polls_first(observed: &Observed, now: Timestamp) -> Option<Verdict> {
    let grouped = observed.history.group_retry.is_some() && cannot_see(observed);
    grouped.then(|| look_first(observed, now)).flatten()
}

fn write(write: SecretWrite) -> Decision {
    Decision::WriteSecret(Box::new(write))
}
