//! What is written into the Secret, and when: values and record together.

use jiff::Timestamp;

use crate::rotation::{
    contents::{Change, Contents, Digest, Record, SecretWrite, Slot, State},
    facts::{Drawn, Observed},
    password::Password,
    rotate_at::RotateAt,
    verdict::{seconds, settled_at},
};

/// What begins.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Start {
    /// A new password.
    Draw,
    /// The value of `<key>`, which is not in effect as far as is known: an adoption, an edit.
    Apply,
    /// The value of `<key>`, which was in effect until another object's call: no rotation, but it may need a restart.
    Reapply,
    /// The value of `<key>`, which is in effect as far as the record says, once more: no rotation, and no restart for it.
    Repeat,
}

/// A rotation begins: `.next` and its record. `contents`: `None` where the Secret is made.
pub(super) fn begun(
    observed: &Observed,
    contents: Option<&Contents>,
    start: Start,
    drawn: &Drawn,
    now: Timestamp,
) -> SecretWrite {
    let status = &observed.status;
    let instance_id = &observed.spec.instance_id;
    let former = contents.and_then(|contents| contents.record_of(instance_id));
    let copied = contents.and_then(|contents| contents.current.password()).filter(|_| start != Start::Draw);
    let next = copied.unwrap_or(&drawn.password);
    let covered = match (start, observed.rotate_at, observed.on_demand(status)) {
        (Start::Draw, RotateAt::At(at), Some(due)) if due <= now => Some(at),
        _ => None,
    };
    let next_digest = Digest::of(instance_id, next);
    // Of what was last in effect. A value that is to be applied is not taken for it, whatever the record says.
    let digest = match start {
        Start::Repeat => Some(next_digest.clone()),
        Start::Draw => former.and_then(|former| former.digest.clone()),
        Start::Apply | Start::Reapply => {
            former.and_then(|former| former.digest.clone()).filter(|last| *last != next_digest)
        }
    };
    let handled = status.last_handled_rotate_at.as_ref().map(|time| time.0);
    let mut record = Record {
        rotate_at: covered.max(handled).max(former.and_then(|former| former.rotate_at)),
        digest,
        refused: former.and_then(|former| former.refused.clone()),
        next: Some(next_digest),
        draws: u32::from(start == Start::Draw),
        ..blank(observed, &drawn.id, now)
    };
    if let Some(former) = former
        && matches!(start, Start::Repeat | Start::Reapply)
    {
        // No rotation: the same value once more.
        record = Record { id: former.id.clone(), drawn_at: former.drawn_at, ..record };
    }
    let next = Change::Set(next.clone());
    match contents {
        Some(contents) => SecretWrite { next, ..SecretWrite::of(contents, record) },
        None => SecretWrite { replaces: None, current: Change::Keep, next, previous: Change::Keep, record },
    }
}

/// A `.next` that nobody answers for: this process does. It may be what opens the console.
pub(super) fn found(
    observed: &Observed,
    contents: &Contents,
    next: &Password,
    drawn: &Drawn,
    now: Timestamp,
) -> SecretWrite {
    let record = Record {
        next: Some(Digest::of(&observed.spec.instance_id, next)),
        unsettled_until: Some(settled_at(now, observed.settle)),
        ..blank(observed, &drawn.id, now)
    };
    SecretWrite::of(contents, record)
}

/// This process answers for `.next` from now on, so that its former writer can no longer promote it. What that one has sent
/// may still arrive.
pub(super) fn claimed(
    observed: &Observed,
    contents: &Contents,
    record: &Record,
    now: Timestamp,
) -> SecretWrite {
    let record = Record {
        writer: observed.writer.to_string(),
        unsettled_until: Some(settled_at(now, observed.settle)),
        ..record.clone()
    };
    SecretWrite::of(contents, record)
}

/// The value on its way is gone, or is not the one that was written: what became of it is not known. A call of it may
/// still arrive, so nothing is drawn before that is over.
pub(super) fn spoilt(
    observed: &Observed,
    contents: &Contents,
    record: &Record,
    now: Timestamp,
) -> SecretWrite {
    let next = if contents.next == Slot::Absent { Change::Keep } else { Change::Remove };
    let claimed = claimed(observed, contents, record, now);
    SecretWrite { next, record: Record { next: None, ..claimed.record }, ..claimed }
}

/// The rotation is given up; what `<key>` holds counts as never sent.
pub(super) fn closed(contents: &Contents, record: &Record) -> SecretWrite {
    SecretWrite::of(contents, Record { state: State::Done, digest: None, ..record.clone() })
}

/// A call of unknown outcome may arrive until then.
pub(super) fn unsettled(contents: &Contents, record: &Record, until: Timestamp) -> SecretWrite {
    SecretWrite::of(contents, Record { unsettled_until: Some(until), ..record.clone() })
}

/// The API called a copied value malformed: it is taken back, and not copied again.
pub(super) fn taken_back(contents: &Contents, record: &Record) -> SecretWrite {
    let record = Record { state: State::Done, next: None, refused: record.next.clone(), ..record.clone() };
    SecretWrite { next: Change::Remove, ..SecretWrite::of(contents, record) }
}

/// The API called a drawn value malformed: another one takes its place.
pub(super) fn drawn_again(
    observed: &Observed,
    contents: &Contents,
    record: &Record,
    drawn: &Drawn,
) -> SecretWrite {
    let record = Record {
        id: drawn.id.clone(),
        next: Some(Digest::of(&observed.spec.instance_id, &drawn.password)),
        draws: record.draws + 1,
        ..record.clone()
    };
    SecretWrite { next: Change::Set(drawn.password.clone()), ..SecretWrite::of(contents, record) }
}

/// `.next` is in effect: it becomes `<key>`.
pub(super) fn promoted(contents: &Contents, next: &Password, record: &Record) -> SecretWrite {
    let previous = match contents.current.password() {
        Some(current) if current != next => Change::Set(current.clone()),
        _ => Change::Keep,
    };
    let record = Record {
        state: State::Done,
        digest: record.next.clone(),
        next: None,
        refused: None,
        ..record.clone()
    };
    let (current, next) = (Change::Set(next.clone()), Change::Remove);
    SecretWrite { current, next, previous, ..SecretWrite::of(contents, record) }
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
    }
}
