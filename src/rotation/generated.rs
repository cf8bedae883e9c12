//! A Secret that the operator writes: the write-ahead protocol of one rotation. The Secret is the truth; the status is
//! rebuilt from it.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    contents::{Change, Contents, Digest, Record, SecretRead, SecretWrite, Slot, State},
    decide::current_version,
    facts::{Announcement, Attempt, Fingerprint, Observed, Purpose},
    hold::{conflicted, held, look_first, optimized, stalled, throttled, unchanged},
    message::message,
    outcome::{self, Class, Reply},
    password::Password,
    reply::{SOON, again_at_once, failed, learn, notes, wait_for_restart},
    restart::{self, Followed},
    rotate_at::RotateAt,
    verdict::{
        Decision, Effects, Outlook, Progress, Verdict, after, conclude, enforce_due, next_turn, rest,
        seconds, settled_at, undelivered,
    },
};
use crate::api::{Accepted, Applied, ConditionStatus, ConditionType, Reason, Retry, VncPasswordStatus};

/// Passwords that one rotation draws at most, where the API calls them malformed.
const MOST_DRAWS: u32 = 3;

/// The next step.
pub(super) fn step(observed: &Observed, now: Timestamp) -> Decision {
    match &observed.read {
        None => unread(observed, now).map_or(Decision::ReadSecret, rest),
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
    let version = current_version(observed)?;
    // Whose Secret it is has to be looked up once for each spec.
    if status.observed_generation != Some(observed.generation) || conflicted(observed) {
        return None;
    }
    if status.applied.as_ref().is_some_and(|applied| version.is(applied)) && status.accepted.is_none() {
        let due = Due::of(observed, status, now);
        let verdict = in_sync(observed, (**status).clone(), Effects::default(), now);
        return (!due.rotation(now) && !due.again(now)).then_some(verdict);
    }
    if observed.history.examined.as_ref() != Some(version) {
        return None;
    }
    if status.accepted.is_some() {
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
            let wake = due.next();
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
    if !waited && !nothing_since && !never_drawn(status) {
        let until = settled_at(now, observed.settle);
        return rest(settling(observed, (**status).clone(), until, now));
    }
    if let Some(verdict) = look_first(observed, now) {
        return rest(verdict);
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
        Reason::SecretForbidden,
        Reason::SecretNotFound,
        Reason::InvalidRegion,
        Reason::Conflict,
    ];
    let standing = status.reason(ConditionType::Stalled).or(status.reason(ConditionType::Reconciling));
    let new = status.request_id.is_none() && status.retry.is_none();
    new && standing.map_or(status.conditions.is_empty(), |reason| before.contains(&reason))
}

fn found(observed: &Observed, contents: &Contents, now: Timestamp) -> Decision {
    let instance_id = &observed.spec.instance_id;
    let record = contents.record_of(instance_id);
    if contents.closed || (record.is_none() && !contents.opened) {
        return rest(stalled(observed, Reason::SecretNotWritable, Some(backoff::STALLED), now));
    }
    if let Some((next, print, record)) = contents.under_way(instance_id) {
        return under_way(observed, contents, (next, print, record), now);
    }
    match (&contents.next, record) {
        // Nobody answers for it, but it may be what opens the console.
        (Slot::Valid(next, _), None) => match &observed.drawn {
            None => Decision::Draw,
            Some(drawn) => {
                let next = Some(Digest::of(instance_id, next));
                let unsettled_until = Some(settled_at(now, observed.settle));
                let record = Record { next, unsettled_until, ..blank(observed, &drawn.id, now) };
                write(SecretWrite::of(contents, record))
            }
        },
        (Slot::Absent, Some(record)) if record.state == State::Drawn && record.next.is_none() => {
            redraw(observed, contents, record, now)
        }
        (Slot::Absent, Some(Record { state: State::Done, .. }) | None) | (Slot::Invalid, None) => {
            at_rest(observed, contents, now)
        }
        (Slot::Absent | Slot::Invalid | Slot::Valid(..), Some(record)) => {
            write(spoilt(observed, contents, record, now))
        }
    }
}

/// The value on its way is gone, or is not the one that was written: what became of it is not known. A call of it may
/// still arrive, so nothing is drawn before that is over.
fn spoilt(observed: &Observed, contents: &Contents, record: &Record, now: Timestamp) -> SecretWrite {
    let record = Record {
        next: None,
        writer: observed.writer.to_string(),
        unsettled_until: Some(settled_at(now, observed.settle)),
        ..record.clone()
    };
    SecretWrite { next: removed(&contents.next), ..SecretWrite::of(contents, record) }
}

/// A rotation whose value was lost draws another; where passwords are no longer generated, it is closed, and the
/// Secret is the user's.
fn redraw(observed: &Observed, contents: &Contents, record: &Record, now: Timestamp) -> Decision {
    if observed.spec.rotation.is_some() {
        return begin(observed, Some(contents), Start::Draw, now);
    }
    let record = Record { state: State::Done, digest: None, ..record.clone() };
    write(SecretWrite::of(contents, record))
}

/// A valid `.next` stands: it is sent, and nothing else is.
fn under_way(
    observed: &Observed,
    contents: &Contents,
    (next, _, record): (&Password, Fingerprint, &Record),
    now: Timestamp,
) -> Decision {
    if observed.status.accepted.is_some() {
        return match restart::follow(observed, (*observed.status).clone(), Effects::default(), now) {
            Followed::Waits(verdict) => rest(*verdict),
            Followed::Step(decision) => decision,
            Followed::Restarted(status, _) => {
                write(promotion(contents, next, record, status.request_id.clone()))
            }
            Followed::Blurred(verdict) => match observed.limiter_opens {
                None => send(observed, contents, record, now),
                Some(_) => rest(*verdict),
            },
        };
    }
    if let Some(verdict) = held(observed, &contents.version, now).or_else(|| look_first(observed, now)) {
        return rest(verdict);
    }
    send(observed, contents, record, now)
}

/// Sends `.next`. Who did not write it answers for it first, so that its former writer can no longer promote it.
fn send(observed: &Observed, contents: &Contents, record: &Record, now: Timestamp) -> Decision {
    if *record.writer == *observed.writer {
        return Decision::Send(Purpose::Rotate);
    }
    let record = Record {
        writer: observed.writer.to_string(),
        unsettled_until: Some(settled_at(now, observed.settle)),
        ..record.clone()
    };
    write(SecretWrite::of(contents, record))
}

/// `.next` is in effect: it becomes `<key>`.
fn promotion(
    contents: &Contents,
    next: &Password,
    record: &Record,
    request_id: Option<String>,
) -> SecretWrite {
    let previous = match contents.current.password() {
        Some(current) if current != next => Change::Set(current.clone()),
        _ => Change::Keep,
    };
    let record = Record {
        state: State::Done,
        digest: record.next.clone(),
        next: None,
        refused: None,
        request_id: request_id.or_else(|| record.request_id.clone()),
        ..record.clone()
    };
    let (current, next) = (Change::Set(next.clone()), Change::Remove);
    SecretWrite { current, next, previous, ..SecretWrite::of(contents, record) }
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
        let wake = due.next().into_iter().chain(verdict.wake).min();
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
            let start = if due.on_demand.is_some_and(|at| at <= now) { Start::Draw } else { Start::Copy };
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
    // Another object has owned the instance or the key meanwhile: what is in effect now is not known.
    let took_over = observed.status.applied.is_none()
        && matches!(
            observed
                .status
                .reason(ConditionType::Stalled)
                .or(observed.status.reason(ConditionType::Reconciling)),
            Some(Reason::Conflict | Reason::Settling)
        );
    let known = Observed { status: Arc::new(status), ..observed.clone() };
    if due.rotation(now) {
        return begin(&known, Some(contents), Start::Draw, now);
    }
    if took_over {
        return begin(observed, Some(contents), Start::Copy, now);
    }
    if due.again(now) && !contents.holds_a_refused_value(&observed.spec.instance_id) {
        return begin(&known, Some(contents), Start::Copy, now);
    }
    rest(in_sync(observed, (*known.status).clone(), Effects::default(), now))
}

/// What begins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Start {
    /// A new password.
    Draw,
    /// The value of `<key>` is sent: adopted, edited, or once more.
    Copy,
}

/// Writes `.next` and its record, before anything is sent.
fn begin(observed: &Observed, contents: Option<&Contents>, start: Start, now: Timestamp) -> Decision {
    let status = &observed.status;
    if let Some(until) = unsettled(observed, now) {
        return rest(settling(observed, (**status).clone(), until, now));
    }
    if let Some(verdict) = look_first(observed, now) {
        return rest(verdict);
    }
    if let Some(opens) = observed.limiter_opens {
        return rest(throttled(observed, opens, now));
    }
    let Some(drawn) = &observed.drawn else { return Decision::Draw };
    let instance_id = &observed.spec.instance_id;
    let former = contents.and_then(|contents| contents.record_of(instance_id));
    let copied = contents.and_then(|contents| contents.current.password()).filter(|_| start == Start::Copy);
    let next = copied.unwrap_or(&drawn.password);
    let covered = match (start, observed.rotate_at, observed.on_demand(status)) {
        (Start::Draw, RotateAt::At(at), Some(due)) if due <= now => Some(at),
        _ => None,
    };
    let handled = status.last_handled_rotate_at.as_ref().map(|time| time.0);
    let mut record = Record {
        rotate_at: covered.max(handled).max(former.and_then(|former| former.rotate_at)),
        digest: former.and_then(|former| former.digest.clone()),
        refused: former.and_then(|former| former.refused.clone()),
        request_id: former.and_then(|former| former.request_id.clone()),
        next: Some(Digest::of(instance_id, next)),
        draws: u32::from(start == Start::Draw),
        ..blank(observed, &drawn.id, now)
    };
    if let Some(former) = former
        && record.repeats()
    {
        // No rotation: the same value once more.
        record = Record { id: former.id.clone(), drawn_at: former.drawn_at, ..record };
    }
    let next = Change::Set(next.clone());
    write(match contents {
        Some(contents) => SecretWrite { next, ..SecretWrite::of(contents, record) },
        None => SecretWrite { replaces: None, current: Change::Keep, next, previous: Change::Keep, record },
    })
}

/// The record of a rotation that begins.
fn blank(observed: &Observed, id: &str, now: Timestamp) -> Record {
    Record {
        instance_id: observed.spec.instance_id.clone(),
        id: id.to_owned(),
        writer: observed.writer.to_string(),
        rotate_at: None,
        drawn_at: seconds(now).0,
        state: State::Drawn,
        digest: None,
        next: None,
        refused: None,
        draws: 0,
        unsettled_until: None,
        request_id: None,
    }
}

/// The step after a call of `.next`. What the Secret says now counts: others may have written to it since.
pub(super) fn after_call(observed: &Observed, attempt: &Attempt, now: Timestamp) -> Decision {
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
        Class::Accepted if record.repeats() || optimized(observed) == Some(true) => {
            let Reply::Accepted { request_id } = &attempt.reply else { unreachable!("accepted") };
            write(promotion(contents, next, record, Some(request_id.clone())))
        }
        Class::Accepted => rest(accepted(observed, attempt, record, now)),
        class if again_at_once(attempt, class) => Decision::Send(attempt.purpose),
        Class::OutcomeUnknown => {
            let until = settled_at(attempt.at, observed.settle);
            if record.unsettled_until >= Some(until) {
                return rest(failed(observed, attempt, class, now));
            }
            let record = Record { unsettled_until: Some(until), ..record.clone() };
            write(SecretWrite::of(contents, record))
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
        let record =
            Record { state: State::Done, next: None, refused: record.next.clone(), ..record.clone() };
        return write(SecretWrite { next: Change::Remove, ..SecretWrite::of(contents, record) });
    }
    if record.draws >= MOST_DRAWS {
        return rest(failed(observed, attempt, Class::InvalidInput, now));
    }
    if let Some(until) = unsettled(observed, now) {
        return rest(settling(observed, (*observed.status).clone(), until, now));
    }
    let Some(drawn) = &observed.drawn else { return Decision::Draw };
    let record = Record {
        id: drawn.id.clone(),
        next: Some(Digest::of(&observed.spec.instance_id, &drawn.password)),
        draws: record.draws + 1,
        ..record.clone()
    };
    let next = Change::Set(drawn.password.clone());
    write(SecretWrite { next, ..SecretWrite::of(contents, record) })
}

/// The Secret has changed since the call: what it brought counts no more, but that it was made does.
fn moot(observed: &Observed, attempt: &Attempt, class: Class, now: Timestamp) -> Decision {
    let mut status = (*observed.status).clone();
    if let Reply::Accepted { request_id } = &attempt.reply {
        status.request_id = Some(request_id.clone());
    }
    if class == Class::OutcomeUnknown {
        let until = status.unsettled_until().max(Some(settled_at(attempt.at, observed.settle)));
        status.retry.get_or_insert_default().unsettled_until = until.map(Time);
    }
    step(&Observed { status: Arc::new(status), attempt: None, ..observed.clone() }, now)
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
    let notes = if status.rotations == before { Vec::new() } else { notes(observed, attempt, &status) };
    in_sync(observed, status, Effects { notes, ..Effects::default() }, now)
}

/// Accepted, in effect after a restart: `.next` stays until that is seen.
fn accepted(observed: &Observed, attempt: &Attempt, record: &Record, now: Timestamp) -> Verdict {
    let mut status = (*observed.status).clone();
    learn(observed, &mut status);
    if let Reply::Accepted { request_id } = &attempt.reply {
        status.request_id = Some(request_id.clone());
    }
    let accepted = Accepted {
        rotation: record.id.clone(),
        time: seconds(attempt.at),
        unchanged: false,
        start_time: None,
    };
    wait_for_restart(observed, accepted, &mut status);
    status.retry = Retry::unsettled(status.unsettled_until().filter(|until| *until > now));
    let notes = notes(observed, attempt, &status);
    restart::waiting(observed, status, Effects { notes, ..Effects::default() }, after(now, SOON), now)
}

/// The status as the Secret tells it, where `<key>` is in effect.
fn told_by(observed: &Observed, contents: &Contents, now: Timestamp) -> VncPasswordStatus {
    let mut status = (*observed.status).clone();
    let Some(record) = contents.record_of(&observed.spec.instance_id) else { return status };
    let just_now = status.accepted.take().is_some() || observed.attempt.is_some();
    let known = knows(&status, record, now);
    if !known {
        status.rotations = Some(status.rotations.unwrap_or(0).saturating_add(1));
        status.request_id = record.request_id.clone().or(status.request_id);
    }
    take_over(record, &mut status, now);
    if !known && just_now {
        // Otherwise a former process brought it into effect, soon after it was drawn.
        status.last_rotation_time = Some(seconds(now));
    }
    let applied = status.applied.take().filter(|_| known);
    status.applied = Some(Applied {
        secret_uid: contents.version.uid.to_string(),
        secret_resource_version: contents.version.resource_version.to_string(),
        time: applied.map_or_else(|| seconds(record.drawn_at.min(now)), |applied| applied.time),
        rotation: Some(record.id.clone()),
    });
    learn(observed, &mut status);
    status.retry = Retry::unsettled(status.unsettled_until().filter(|until| *until > now));
    status
}

/// Whether the status knows of the record's rotation. A time to come in the record tells nothing: the clock has jumped.
fn knows(status: &VncPasswordStatus, record: &Record, now: Timestamp) -> bool {
    let applied = status.applied.as_ref().and_then(|applied| applied.rotation.as_ref());
    let last = status.last_rotation_time.as_ref().map(|last| last.0);
    applied == Some(&record.id) || (record.drawn_at <= now && last >= Some(record.drawn_at))
}

/// What the record knows of turns and the status does not: the later of both counts.
fn take_over(record: &Record, status: &mut VncPasswordStatus, now: Timestamp) {
    if !knows(status, record, now) {
        let drawn_at = Some(seconds(record.drawn_at.min(now)));
        status.last_rotation_time = status.last_rotation_time.take().max(drawn_at);
    }
    let handled = record.rotate_at.map(Time);
    status.last_handled_rotate_at = status.last_handled_rotate_at.take().max(handled);
}

/// When what is due.
struct Due {
    turn: Option<Timestamp>,
    on_demand: Option<Timestamp>,
    again: Option<Timestamp>,
}

impl Due {
    fn of(observed: &Observed, status: &VncPasswordStatus, now: Timestamp) -> Self {
        let rotating = observed.spec.rotation.is_some();
        Self {
            turn: next_turn(observed, status, now).filter(|_| rotating),
            on_demand: observed.on_demand(status).filter(|_| rotating),
            again: enforce_due(observed, status, now),
        }
    }

    /// Whether a rotation is due.
    fn rotation(&self, now: Timestamp) -> bool {
        [self.turn, self.on_demand].into_iter().flatten().any(|at| at <= now)
    }

    /// Whether the value in effect is to be sent once more.
    fn again(&self, now: Timestamp) -> bool {
        self.again.is_some_and(|at| at <= now)
    }

    /// When anything is.
    fn next(&self) -> Option<Timestamp> {
        [self.turn, self.on_demand, self.again].into_iter().flatten().min()
    }
}

/// Until when no other value may be brought on its way.
fn unsettled(observed: &Observed, now: Timestamp) -> Option<Timestamp> {
    let others = observed.history.unsettled.iter().map(|unsettled| unsettled.until);
    others.chain(observed.status.unsettled_until()).filter(|until| *until > now).max()
}

/// The verdict where nothing may begin before then.
fn settling(observed: &Observed, mut status: VncPasswordStatus, until: Timestamp, now: Timestamp) -> Verdict {
    status.retry = Retry::unsettled(Some(until));
    let text = message(Reason::Settling, observed, None);
    let outlook = undelivered(observed, Progress::Reconciling, Reason::Settling, text);
    conclude(observed, status, &outlook, now, Effects { wake: Some(until), ..Effects::default() })
}

/// The verdict where the value in effect stands in `<key>` and nothing is due.
fn in_sync(observed: &Observed, mut status: VncPasswordStatus, effects: Effects, now: Timestamp) -> Verdict {
    let unsettled = status.unsettled_until().filter(|until| *until > now);
    status.retry = Retry::unsettled(unsettled);
    let wake = Due::of(observed, &status, now).next().into_iter().chain(unsettled).min();
    let text = message(Reason::Applied, observed, None);
    let outlook = Outlook::new(ConditionStatus::True, Progress::Rest, Reason::Applied, text);
    conclude(observed, status, &outlook, now, Effects { wake, ..effects })
}

fn write(write: SecretWrite) -> Decision {
    Decision::WriteSecret(Box::new(write))
}

fn removed(slot: &Slot) -> Change {
    if *slot == Slot::Absent { Change::Keep } else { Change::Remove }
}
