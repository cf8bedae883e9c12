//! Several objects at one instance: who acts, and what a process remembers of calls at the instance. It does what the
//! operator does around `decide`: its registry of objects and its table of instances.

use vncpassword_core::rotation::{
    facts::{Owner, Unsettled},
    ownership::{Basis, Contender},
    settled_at,
};

use super::{
    check::Check,
    claims,
    rules::Rule,
    values::{at, fingerprint, second},
    world::{Called, Claim, Heard, Memory, Noted, Object, Pass, Replica, View, World},
};

/// The uid of no object: of one that a former process acted for.
pub const NOBODY: u8 = 0;

/// Whether a pass may act at the instance.
#[derive(PartialEq, Eq)]
pub enum Permission {
    Granted,
    /// The owner has changed, or others made calls, while the pass waited: decide again.
    Changed,
    /// Another object acts at the instance.
    Busy,
}

impl View {
    /// What is known of that object now.
    pub fn of(check: &Check, replica: &Replica, o: usize, object: &Object, now: i32) -> Self {
        let memory = &replica.memories[o];
        let mut calls = replica.calls.clone();
        let counts = |until: &i32| *until > now || !check.without(Rule::PastCounts);
        if let Some(until) = claims::others_before(check, replica, o).filter(counts) {
            calls.push(Noted { by: NOBODY, value: None, until });
        }
        Self {
            applied: memory.applied,
            examined: memory.examined,
            untouched: memory.untouched,
            kept_out: keeper(check, replica, o).is_some(),
            superseded: superseded(replica, o, object),
            prove_claim: memory.is_of(object) && claims::must_prove(memory, now),
            calls,
        }
    }

    pub fn owner(&self) -> Owner {
        if self.kept_out { Owner::Other(Some("other".into())) } else { Owner::This }
    }

    /// Calls that may still arrive, or may have arrived, as the object with that uid sees them.
    pub fn unsettled(&self, uid: u8) -> Vec<Unsettled> {
        let calls = self.calls.iter().map(|call| Unsettled {
            value: call.value.map(fingerprint),
            until: at(call.until),
            by_other: call.by != uid,
        });
        calls.collect()
    }
}

fn contender(memory: &Memory) -> Option<Contender> {
    let object = memory.object.as_ref()?;
    Some(Contender {
        basis: claims::basis(&memory.claim),
        idle: object.suspended,
        deleting: false,
        created: at(object.created),
        uid: format!("{:03}", object.uid).into(),
    })
}

/// The object that keeps that one from the instance.
pub fn keeper(check: &Check, replica: &Replica, o: usize) -> Option<usize> {
    let own = contender(&replica.memories[o])?;
    let keeps_out = |other: &usize| {
        let contender = contender(&replica.memories[*other]);
        contender.is_some_and(|contender| contender.keeps_out(&own, check.setting.relation))
    };
    (0..replica.memories.len()).filter(|other| *other != o).find(keeps_out)
}

/// Whether another object's call was accepted since the last one of that object; or, as their statuses tell, before this
/// process began.
fn superseded(replica: &Replica, o: usize, object: &Object) -> bool {
    let own = &replica.memories[o];
    if !own.is_of(object) {
        return false;
    }
    let applied = object.status.applied.as_ref().map(|applied| &applied.time);
    let by_status = own.claim.order == 0 && applied.is_some();
    let replaces = |other: &Memory| {
        let hinted = by_status && claims::basis(&other.claim) == Basis::Hint;
        let last = other.object.as_ref().and_then(|object| object.status.last_rotation_time.as_ref());
        other.claim.order > own.claim.order || hinted && last > applied
    };
    let mut others = replica.memories.iter().enumerate().filter(|(other, _)| *other != o);
    replica.departed > own.claim.order || others.any(|(_, other)| replaces(other))
}

/// Whether no pass has the turn at the instance.
pub fn is_free(replica: &Replica) -> bool {
    let takes_turn = |pass: &Pass| pass.turn;
    !replica.memories.iter().any(|memory| memory.pass.as_deref().is_some_and(takes_turn))
}

/// Takes the turn at the instance for a pass, and takes in what has changed since the pass began.
pub fn may_act(check: &Check, replica: &Replica, o: usize, pass: &mut Pass, now: i32) -> Permission {
    if check.setting.alone() {
        return Permission::Granted;
    }
    if !pass.turn && !is_free(replica) {
        return Permission::Busy;
    }
    let now = View::of(check, replica, o, &pass.object, now);
    let waited = !std::mem::replace(&mut pass.turn, true);
    let mut changed = now.kept_out != pass.view.kept_out || now.superseded != pass.view.superseded;
    (pass.view.kept_out, pass.view.superseded) = (now.kept_out, now.superseded);
    if waited {
        changed |= now.calls != pass.view.calls;
        pass.view.calls = now.calls;
    }
    if changed { Permission::Changed } else { Permission::Granted }
}

/// Takes in what the reply to a call says, before anything is written.
pub fn replied(check: &Check, world: &mut World, (r, o): (usize, usize), pass: &mut Pass) {
    let Some(called) = pass.attempt.clone() else { return };
    if called.heard == Heard::Nothing && !check.without(Rule::NotedBeforeWrite) {
        note(check, world, (r, o), pass, &called);
    }
    let accepted_now = called.heard == Heard::Accepted;
    if accepted_now {
        accepted(check, &mut world.replicas[r], o, &pass.object);
        pass.view.superseded = false;
    }
    pass.proof = pass.proof.filter(|_| !accepted_now).map(|_| claims::proof_of(called.heard));
}

/// A call of unknown outcome may still arrive.
pub fn note(check: &Check, world: &mut World, (r, o): (usize, usize), pass: &mut Pass, called: &Called) {
    let until = second(settled_at(at(called.at), check.templates[o].settle));
    let replica = &mut world.replicas[r];
    if check.setting.alone() {
        // What has arrived by now matters to other objects only.
        replica.calls.retain(|call| call.until > world.now);
    }
    add(&mut replica.calls, Noted { by: pass.object.uid, value: Some(called.value), until });
    wake_others(replica, o);
    pass.view.calls = View::of(check, replica, o, &pass.object, world.now).calls;
}

pub fn add(calls: &mut Vec<Noted>, noted: Noted) {
    match calls.iter_mut().find(|call| call.by == noted.by && call.value == noted.value) {
        Some(call) => call.until = call.until.max(noted.until),
        None => calls.push(noted),
    }
    calls.sort_unstable();
}

/// The API accepted a call of that object.
fn accepted(check: &Check, replica: &mut Replica, o: usize, object: &Object) {
    let orders = replica.memories.iter().map(|memory| memory.claim.order);
    let order = orders.chain([replica.departed]).max().unwrap_or(0) + 1;
    if replica.memories[o].is_of(object) {
        let claim = &mut replica.memories[o].claim;
        *claim = Claim { order, before: claim.before, ..Claim::default() };
    } else if replica.memories.iter().any(|memory| memory.object.is_some())
        && !check.without(Rule::GoneStillReplaces)
    {
        replica.departed = order;
    } else {
        return;
    }
    renumber(replica);
    wake_others(replica, o);
    if replica.memories[o].object.is_some() && !replica.memories[o].is_of(object) {
        replica.memories[o].woken = true;
    }
}

/// Only the order of accepted calls counts, so that worlds that differ in nothing else are the same.
fn renumber(replica: &mut Replica) {
    let mut orders: Vec<u8> = replica.memories.iter().map(|memory| memory.claim.order).collect();
    orders.extend([0, replica.departed]);
    orders.sort_unstable();
    orders.dedup();
    let rank = |order: u8| {
        let rank = orders.iter().position(|other| *other == order);
        rank.and_then(|rank| u8::try_from(rank).ok()).unwrap_or_default()
    };
    replica.departed = rank(replica.departed);
    for memory in &mut replica.memories {
        memory.claim.order = rank(memory.claim.order);
    }
}

/// The others at the instance are told that something has changed.
pub fn wake_others(replica: &mut Replica, o: usize) {
    for (_, memory) in replica.memories.iter_mut().enumerate().filter(|(other, _)| *other != o) {
        memory.woken = memory.object.is_some();
    }
}

/// An object is gone: what was remembered of it goes with it. Calls at the instance and the order of accepted calls stay.
pub fn forget(check: &Check, replica: &mut Replica, o: usize, now: i32) {
    let memory = &mut replica.memories[o];
    let Some(object) = memory.object.take() else { return };
    let (order, until) = (memory.claim.order, object.status.unsettled_until().map(second));
    let until = until.max(memory.claim.before);
    *memory = Memory {
        secret: memory.secret,
        watched: memory.watched,
        stale: memory.stale.take(),
        pass: memory.pass.take(),
        ..Memory::empty()
    };
    memory.untouched = true;
    if check.without(Rule::CallsOutliveObjects) {
        replica.calls.retain(|call| call.by != object.uid);
    } else if let Some(until) = until.filter(|until| *until > now) {
        add(&mut replica.calls, Noted { by: object.uid, value: None, until });
    }
    let unclaimed = replica.memories.iter().all(|memory| memory.object.is_none());
    replica.departed = if unclaimed { 0 } else { replica.departed.max(order) };
    renumber(replica);
    wake_others(replica, o);
}
