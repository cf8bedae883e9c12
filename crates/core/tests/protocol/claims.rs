//! What a process that begins makes of the statuses that it finds: claims that are to be proven, and doubt about calls of
//! the process before it.

use vncpassword_core::{
    api::{ConditionType, Reason},
    rotation::{
        self,
        facts::{Observed, Unsettled},
        ownership::{Basis, Relation},
    },
};

use super::{
    check::Check,
    contest,
    rules::Rule,
    values::{at, second, valued},
    world::{Claim, Heard, Memory, Noted, Object, Proof, Replica, World},
};

/// Seconds until a claim is proven again after a call without an answer.
const UNANSWERED: i32 = 5;

/// The claim of an object that a process finds when it begins.
pub fn found(check: &Check, object: &Object, now: i32) -> Claim {
    let status = &object.status;
    let acted = acted(object).then(|| now + check.setting.settle());
    let unsettled = status.unsettled_until().map(second);
    let unsettled = unsettled.filter(|_| acted.is_some() || !check.without(Rule::StoodBackMayHaveActed));
    let before = acted.max(unsettled);
    Claim { hint: status.request_id.is_some(), before, ..Claim::default() }
}

/// Whether a former process may have made a call for an object with that status just before it ended.
fn acted(object: &Object) -> bool {
    let status = &object.status;
    let called = status.request_id.is_some() || status.retry.is_some() || !status.conditions.is_empty();
    let stood_back = status.reason(ConditionType::Stalled) == Some(Reason::Conflict)
        || status.condition(ConditionType::Suspended).is_some();
    called && !stood_back
}

/// Whether the status of each object that has made a call tells the next process that it may have. A process that ends
/// between the first call after a take-over and the write of its outcome leaves no trace of that call; what may become of
/// that is not explored.
pub fn is_recorded(world: &World, r: usize) -> bool {
    let unrecorded = |o: usize| {
        let memory = &world.replicas[r].memories[o];
        let called =
            memory.unrecorded.is_some() || memory.pass.as_ref().is_some_and(|pass| pass.attempt.is_some());
        let stored = world.places[o].object.as_ref();
        called && stored.is_some_and(|object| !acted(object))
    };
    !(0..world.places.len()).any(unrecorded)
}

pub fn basis(claim: &Claim) -> Basis {
    match (claim.order, claim.hint) {
        (1.., _) => Basis::Accepted,
        (0, true) => Basis::Hint,
        (0, false) => Basis::None,
    }
}

/// Whether the object sends its value to prove its claim.
pub fn must_prove(memory: &Memory, now: i32) -> bool {
    let claim = &memory.claim;
    basis(claim) == Basis::Hint && claim.contested && claim.prove_at.is_none_or(|prove_at| prove_at <= now)
}

/// An object that is kept out by one of another identity asks for a proof, where that rests on a hint.
pub fn contend(check: &Check, replica: &mut Replica, o: usize, now: i32) {
    let suspended = replica.memories[o].object.as_ref().is_none_or(|object| object.suspended);
    if suspended || check.setting.relation != Relation::OtherIdentity {
        return;
    }
    let Some(keeper) = contest::keeper(check, replica, o) else { return };
    let memory = &mut replica.memories[keeper];
    if basis(&memory.claim) == Basis::Hint {
        memory.claim.contested = true;
        memory.woken |= must_prove(memory, now);
    }
}

/// What a reply that does not accept says of the claim.
pub fn proof_of(heard: Heard) -> Proof {
    match heard {
        Heard::Refused("IncorrectVncPassword.Malformed") => Proof::Failed,
        Heard::Accepted | Heard::Refused(_) | Heard::Nothing => Proof::Unanswered,
    }
}

/// Takes in how an attempt to prove a claim ended; whether the others are to know.
pub fn proof_ended(claim: &mut Claim, proof: Proof, now: i32) -> bool {
    match proof {
        _ if basis(claim) != Basis::Hint => {}
        Proof::Pending => {}
        Proof::Unanswered => claim.prove_at = Some(now + UNANSWERED),
        Proof::Failed => {
            *claim = Claim { before: claim.before, ..Claim::default() };
            return true;
        }
    }
    false
}

/// Until when a call of a former process for another object may arrive.
pub fn others_before(check: &Check, replica: &Replica, o: usize) -> Option<i32> {
    let before = |other: usize| {
        let memory = &replica.memories[other];
        memory.claim.before.filter(|_| memory.object.is_some())
    };
    if before(o).is_some() && check.without(Rule::BothMayHaveActed) {
        return None;
    }
    (0..replica.memories.len()).filter(|other| *other != o).filter_map(before).max()
}

/// What a former process may have sent for the object, noted before the first decision.
pub fn doubt(replica: &mut Replica, o: usize, observed: &Observed, uid: u8, now: i32) {
    let inherited = std::mem::take(&mut replica.memories[o].inherited);
    let start = replica.term_start.unwrap_or(now);
    let doubt = rotation::doubt(observed, inherited, false, at(start), at(now));
    if let Some(Unsettled { value, until, by_other }) = doubt {
        let by = if by_other { contest::NOBODY } else { uid };
        let value = value.as_ref().map(valued);
        contest::add(&mut replica.calls, Noted { by, value, until: second(until) });
    }
}
