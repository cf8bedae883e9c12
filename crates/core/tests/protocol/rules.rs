//! The rules of the protocol, and what is different where one is taken out. Nothing of this is in the program: it is
//! told other things than are so, or what it decides is done otherwise.

use std::sync::Arc;

use vncpassword_core::{
    api::VncPasswordStatus,
    rotation::{
        contents::{Change, Contents, Digest, Record, SecretRead, SecretWrite, Slot, State},
        facts::Observed,
        outcome::{Class, classify},
        rotate_at::RotateAt,
    },
};

use super::{
    check::Check,
    cloud,
    pass::Reply as Write,
    values::number,
    world::{Heard, Late, Pass, Taken, World},
};

/// A rule of DESIGN.md, "The protocol of one rotation".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Whether a rotation is due is decided on a fresh GET.
    FreshRead,
    /// The later of record and status counts.
    RecordKnowsRotateAt,
    /// A password is written before it is sent.
    WriteAhead,
    /// Values and record change in one write.
    RecordWithValues,
    /// Writes of the Secret name the version that they replace.
    SecretPrecondition,
    /// A missing Secret is created: one that is there is a conflict.
    CreateConflicts,
    /// Only `.next` is ever sent: a copy goes there first.
    OnlyNextIsSent,
    /// Promotion is one write.
    PromotionInOneWrite,
    /// What waits for a restart is kept.
    WaitsForRestart,
    /// What may have been taken is kept.
    NextIsKept,
    /// While a lost call may arrive, no other value is brought on its way.
    Unsettled,
    /// The same where the Secret is missing, by the status.
    MissingWaits,
    /// While a valid `.next` stands nothing is drawn.
    NextStands,
    /// While a valid `.next` stands it beats an edit of `<key>`.
    NextBeatsEdit,
    /// Status is written under the version that was decided on.
    StatusPrecondition,
    /// Who did not write `.next` rewrites the record first.
    Claim,
    /// That sets `unsettledUntil`.
    ClaimUnsettles,
    /// `.next` that is gone was perhaps sent: drawn afresh after `--settle`.
    GoneUnsettles,
    /// A copy that is malformed is removed.
    MalformedIsRemoved,
    /// The signature's date is taken before the Secret is read.
    DatedBeforeRead,
    /// The lease is checked between read and call.
    Lease,
    /// After a conflict it is decided again.
    Conflict,
    /// In sync is where the digest fits.
    Digest,
    /// The start time counts as baseline only where it is the same after acceptance.
    Baseline,
    /// A request for a restart is remembered.
    RequestsCount,
    /// A restart is requested after that was written.
    RebootAfterWrite,
    /// What may still arrive is remembered longer than the object that it was sent for.
    CallsOutliveObjects,
    /// Calls of other objects that may still arrive count.
    OthersCallsCount,
    /// A value that another object's accepted call has replaced is no longer in effect.
    LastAcceptedCounts,
    /// That a call may still arrive is remembered before anything is written.
    NotedBeforeWrite,
    /// A deletion that the watch reports takes precedence over the reply to an earlier write.
    DeletionBeatsReply,
    /// A call that is accepted after its object is gone has replaced the values of others.
    GoneStillReplaces,
    /// What a former process may have sent for another object counts, also where it may have acted for this one too.
    BothMayHaveActed,
    /// The same of an object whose status says that it stood back since, but that a call of it may still arrive.
    StoodBackMayHaveActed,
    /// What a former process may have sent for another object counts also after it can no longer arrive.
    PastCounts,
}

impl Check {
    /// Whether that rule is taken out.
    pub fn without(&self, rule: Rule) -> bool {
        self.setting.without == Some(rule)
    }

    /// What `decide` is told in place of what is so.
    pub fn shown(&self, mut observed: Observed) -> Observed {
        let Some(rule) = self.setting.without else { return observed };
        let writer = observed.writer.to_string();
        match rule {
            Rule::RecordKnowsRotateAt => with_record(&mut observed, |record| record.rotate_at = None),
            Rule::Unsettled => {
                with_record(&mut observed, |record| record.unsettled_until = None);
                settled(&mut observed);
            }
            Rule::MissingWaits if observed.read == Some(SecretRead::Missing) => settled(&mut observed),
            Rule::OthersCallsCount => observed.history.unsettled.retain(|call| !call.by_other),
            Rule::LastAcceptedCounts => observed.superseded = false,
            Rule::Claim => with_record(&mut observed, |record| record.writer = writer),
            Rule::NextStands if observed.attempt.is_none() && asked_again(&observed) => {
                hide_next(&mut observed);
            }
            Rule::NextBeatsEdit if observed.attempt.is_none() && edited(&observed) => {
                hide_next(&mut observed);
            }
            Rule::WaitsForRestart => {
                let instance = |status: &mut VncPasswordStatus| {
                    status.instance.get_or_insert_default().io_optimized = Some(true);
                };
                with_status(&mut observed, instance);
            }
            Rule::Digest => with_contents(&mut observed, |contents| {
                if let (Slot::Valid(current, _), Some(record)) = (&contents.current, &mut contents.record) {
                    record.digest = Some(Digest::of("i-1", current));
                }
            }),
            Rule::Baseline => with_status(&mut observed, |status| {
                let before = status.instance.as_ref().and_then(|instance| instance.start_time.clone());
                if let Some(accepted) = &mut status.accepted {
                    accepted.start_time = accepted.start_time.take().or(before);
                }
            }),
            Rule::RequestsCount if observed.announced.is_none() => {
                with_status(&mut observed, |status| status.reboot_requested_at = None);
            }
            Rule::MalformedIsRemoved => {
                let malformed = observed.attempt.as_ref();
                if malformed.is_some_and(|attempt| classify(&attempt.reply) == Class::InvalidInput) {
                    with_record(&mut observed, |record| record.draws = 3);
                }
            }
            _ => {}
        }
        observed
    }

    /// What is done in place of a write, or before it; `None`: it is not written.
    pub fn before_write(
        &self,
        world: &mut World,
        pass: &mut Pass,
        write: &SecretWrite,
        reply: Write,
    ) -> Option<SecretWrite> {
        let mut write = write.clone();
        let begins = match &write.next {
            Change::Set(next) => Some(number(next)),
            Change::Keep | Change::Remove => None,
        };
        let lost = reply == Write::Lost;
        let by = pass.object.uid;
        match (self.setting.without, begins) {
            (Some(Rule::WriteAhead), Some(next)) if pass.drawn == Some(next) => {
                cloud::take(self, world, Taken { value: next, by, replied: None });
                return (!lost).then_some(write);
            }
            (Some(Rule::OnlyNextIsSent), Some(value)) if pass.drawn != Some(value) && lost => {
                world.cloud.late.push(Late { value, signed: pass.signed, by });
                return None;
            }
            (Some(Rule::PromotionInOneWrite), None) if write.next == Change::Remove && lost => {
                write.current = Change::Keep;
            }
            (Some(Rule::NextIsKept), None) => {
                let unknown = pass.attempt.as_ref().is_some_and(|attempt| attempt.heard == Heard::Nothing);
                if unknown && write.next == Change::Keep {
                    write.next = Change::Remove;
                    write.record = Record { state: State::Done, next: None, ..write.record };
                }
            }
            (Some(Rule::ClaimUnsettles), None) => {
                let read = pass.read.as_ref().and_then(Option::as_ref);
                let former = read.and_then(|secret| secret.record.as_ref());
                if let Some(former) = former.filter(|former| former.writer != write.record.writer) {
                    write.record.unsettled_until = former.unsettled_until;
                }
            }
            (Some(Rule::GoneUnsettles), None)
                if write.record.state == State::Drawn && write.record.next.is_none() =>
            {
                write.record.unsettled_until = None;
            }
            _ => {}
        }
        Some(write)
    }
}

fn with_status(observed: &mut Observed, change: impl FnOnce(&mut VncPasswordStatus)) {
    change(Arc::make_mut(&mut observed.status));
}

fn with_contents(observed: &mut Observed, change: impl FnOnce(&mut Contents)) {
    if let Some(SecretRead::Found(contents)) = &mut observed.read {
        change(contents);
    }
}

fn with_record(observed: &mut Observed, change: impl FnOnce(&mut Record)) {
    with_contents(observed, |contents| {
        if let Some(record) = &mut contents.record {
            change(record);
        }
    });
}

fn settled(observed: &mut Observed) {
    observed.history.unsettled.clear();
    with_status(observed, |status| {
        if let Some(retry) = &mut status.retry {
            retry.unsettled_until = None;
        }
    });
}

fn hide_next(observed: &mut Observed) {
    with_contents(observed, |contents| {
        contents.next = Slot::Absent;
        if let Some(record) = &mut contents.record {
            record.state = State::Done;
            record.next = None;
        }
    });
}

fn edited(observed: &Observed) -> bool {
    let Some(SecretRead::Found(contents)) = &observed.read else { return false };
    matches!(contents.current, Slot::Valid(..))
        && contents.current != contents.next
        && !contents.holds_the_value_in_effect("i-1")
}

/// Whether another rotation was asked for than the one under way.
fn asked_again(observed: &Observed) -> bool {
    let Some(SecretRead::Found(contents)) = &observed.read else { return false };
    let covered = contents.record.as_ref().and_then(|record| record.rotate_at);
    matches!(observed.rotate_at, RotateAt::At(at) if Some(at) > covered)
}
