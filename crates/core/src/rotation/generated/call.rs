//! What the reply to a call of `.next` does.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    told::{Due, in_sync, settling, told_by, unsettled},
    write, writes,
};
use crate::{
    api::{Accepted, Applied, Retry},
    rotation::{
        contents::{Contents, Record, SecretRead, Slot, State},
        decide,
        facts::{Attempt, Fingerprint, Observed},
        hold::contested,
        outcome::{self, Class, Reply},
        reply::{SOON, again_at_once, failed, learn, notes, wait_for_restart},
        restart,
        verdict::{Decision, Effects, Verdict, after, rest, seconds, settled_at},
    },
};

/// Passwords that one rotation draws at most, where the API calls them malformed.
const MOST_DRAWS: u32 = 3;

/// The step after a call of `.next`. What the Secret says now counts: others may have written to it since.
pub(in crate::rotation) fn after_call(observed: &Observed, attempt: &Attempt, now: Timestamp) -> Decision {
    let class = outcome::classify(&attempt.reply);
    let contents = match &observed.read {
        None => return Decision::ReadSecret,
        Some(SecretRead::Missing | SecretRead::Forbidden) => return moot(observed, attempt, class, now),
        Some(SecretRead::Found(contents)) => contents,
    };
    let instance_id = &observed.spec.instance_id;
    let sent = contents.under_way(instance_id).filter(|(_, print, record)| {
        *print == attempt.value
            && Some(&record.id) == attempt.rotation.as_ref()
            && *record.writer == *observed.writer
    });
    let Some((next, _, record)) = sent else {
        let promoted = contents.record_of(instance_id).is_some_and(|record| {
            record.state == State::Done
                && Some(&record.id) == attempt.rotation.as_ref()
                && class == Class::Accepted
                && contents.holds_the_value_in_effect(instance_id)
        });
        return if promoted {
            rest(done(observed, contents, attempt, now))
        } else {
            moot(observed, attempt, class, now)
        };
    };
    match class {
        Class::Accepted
            if observed.io_optimized() == Some(true) || known_in_effect(observed, record, attempt.value) =>
        {
            write(writes::promoted(contents, next, record))
        }
        Class::Accepted => rest(accepted(observed, attempt, record, now)),
        class if again_at_once(observed, attempt, class) => Decision::Send(attempt.purpose),
        Class::OutcomeUnknown => {
            let until = settled_at(attempt.at, observed.settle);
            if record.unsettled_until >= Some(until) {
                return rest(failed(observed, attempt, class, now));
            }
            write(writes::unsettled(contents, record, until))
        }
        Class::InvalidInput => malformed(observed, contents, record, attempt, now),
        class => rest(failed(observed, attempt, class, now)),
    }
}

/// The API called `.next` malformed: what was copied is taken back, what was drawn is drawn again.
fn malformed(
    observed: &Observed,
    contents: &Contents,
    record: &Record,
    attempt: &Attempt,
    now: Timestamp,
) -> Decision {
    if record.draws == 0 {
        return write(writes::taken_back(contents, record));
    }
    if record.draws >= MOST_DRAWS {
        return rest(failed(observed, attempt, Class::InvalidInput, now));
    }
    if let Some(until) = unsettled(observed, now) {
        return rest(settling(observed, (*observed.status).clone(), until, now));
    }
    match &observed.drawn {
        None => Decision::Draw,
        Some(drawn) => write(writes::drawn_again(observed, contents, record, drawn)),
    }
}

/// The Secret has changed since the call: what it brought counts no more, but that it was made does.
fn moot(observed: &Observed, attempt: &Attempt, class: Class, now: Timestamp) -> Decision {
    let mut status = (*observed.status).clone();
    if let Reply::Accepted { request_id } = &attempt.reply {
        status.request_id = Some(request_id.clone());
    }
    if matches!(class, Class::Accepted | Class::OutcomeUnknown) {
        // Whatever the Secret shows as applied, this call may have replaced it.
        let holds = |contents: &Contents| matches!(&contents.current, Slot::Valid(_, value) if *value == attempt.value);
        if !observed.contents().is_some_and(holds) {
            (status.applied, status.accepted) = (None, None);
        }
    }
    if class == Class::OutcomeUnknown {
        let until = status.unsettled_until().max(Some(settled_at(attempt.at, observed.settle)));
        status.retry.get_or_insert_default().unsettled_until = until.map(Time);
    }
    let observed = Observed { status: Arc::new(status), attempt: None, ..observed.clone() };
    contested(&observed, decide::step(&observed, now), now)
}

/// Whether the value was in effect before it was sent once more, so that it needs no restart: more than the record says
/// so, and no other object's call may have replaced it.
fn known_in_effect(observed: &Observed, record: &Record, value: Fingerprint) -> bool {
    let applied = observed.status.applied.as_ref();
    record.repeats()
        && applied.is_some_and(|applied| stands(observed, applied, value))
        && !observed.superseded
}

/// Whether no late call of another object may have replaced what was applied, unless it brought that value.
fn stands(observed: &Observed, applied: &Applied, value: Fingerprint) -> bool {
    observed.others_unsettled(applied.time.0, Some(value)).is_none()
}

/// Accepted and promoted: the status says so.
fn done(observed: &Observed, contents: &Contents, attempt: &Attempt, now: Timestamp) -> Verdict {
    let before = observed.status.rotations;
    let mut status = told_by(observed, contents, now);
    if let Some(applied) = &mut status.applied {
        applied.time = seconds(attempt.at);
    }
    if let Reply::Accepted { request_id } = &attempt.reply {
        status.request_id = Some(request_id.clone());
    }
    // Another object's call may still replace it: it is sent once more when that can no longer arrive (R43).
    let late = observed.others_unsettled(attempt.at, Some(attempt.value));
    let notes = if status.rotations == before { Vec::new() } else { notes(observed, attempt, &status) };
    if let Some(until) = late {
        status.applied = None;
        let verdict = settling(observed, status, until, now);
        return Verdict { notes: verdict.notes.into_iter().chain(notes).collect(), ..verdict };
    }
    let applied_value = Some((contents.version.clone(), attempt.value));
    let effects = Effects { notes, applied_value, ..Effects::default() };
    let verdict = in_sync(observed, status, effects, now);
    // What fell due while the pass was held up: this pass does not begin it, the next one does.
    let due = Due::of(observed, &verdict.status, now);
    let overdue = (due.rotation(now) || due.again(now)).then(|| after(now, SOON));
    Verdict { wake: verdict.wake.into_iter().chain(overdue).min(), ..verdict }
}

/// Accepted, in effect after a restart: `.next` stays until that is seen.
fn accepted(observed: &Observed, attempt: &Attempt, record: &Record, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    status.applied = status.applied.take().filter(|applied| stands(observed, applied, attempt.value));
    learn(observed, &mut status);
    if let Reply::Accepted { request_id } = &attempt.reply {
        status.request_id = Some(request_id.clone());
    }
    if keeps_waiting(observed, attempt, record) {
        // Taken as new, the wait would begin after a restart that this call's look shows, and nobody would see that one.
        let before = observed.status.instance.clone().unwrap_or_default();
        let instance = status.instance.get_or_insert_default();
        (instance.status, instance.start_time) = (before.status, before.start_time);
    } else {
        let accepted = Accepted {
            rotation: record.id.clone(),
            time: seconds(attempt.at),
            unchanged: record.repeats(),
            start_time: None,
        };
        wait_for_restart(observed, accepted, &mut status);
    }
    status.retry = Retry::unsettled(status.unsettled_until().filter(|until| *until > now));
    let notes = notes(observed, attempt, &status);
    restart::waiting(observed, status, Effects { notes, ..Effects::default() }, after(now, SOON), now)
}

/// Whether the value waits for a restart already, with a start time to tell it by, and no call of another object has replaced
/// it since.
fn keeps_waiting(observed: &Observed, attempt: &Attempt, record: &Record) -> bool {
    observed.status.accepted.as_ref().is_some_and(|accepted| {
        accepted.rotation == record.id
            && accepted.start_time.is_some()
            && observed.others_unsettled(accepted.time.0, Some(attempt.value)).is_none()
    })
}
