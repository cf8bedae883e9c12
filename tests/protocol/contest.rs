//! Several objects at one instance: who acts, and what a process remembers of calls at the instance. It does what the
//! operator does around `decide`: its registry of objects and its table of instances.

use vncpassword::rotation::{
    facts::{Owner, Unsettled},
    ownership::{Basis, Contender},
    settled_at,
};

use super::{
    check::Check,
    rules::Rule,
    values::{at, fingerprint, second},
    world::{Called, Heard, Memory, Noted, Object, Pass, Replica, View, World},
};

/// Whether a pass may act at the instance.
#[derive(PartialEq, Eq)]
pub enum Permission {
    Granted,
    /// The owner has changed, or others made calls, while the pass waited: decide again.
    Changed,
    /// Another object acts at the instance.
    Busy,
    /// The object was deleted, so nothing begins.
    Gone,
}

impl View {
    /// What is known of that object now.
    pub fn of(check: &Check, replica: &Replica, o: usize, object: &Object) -> Self {
        let memory = &replica.memories[o];
        Self {
            applied: memory.applied,
            examined: memory.examined,
            untouched: memory.untouched,
            kept_out: kept_out(check, replica, o),
            superseded: superseded(replica, o, object),
            calls: replica.calls.clone(),
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
        basis: if memory.order > 0 { Basis::Accepted } else { Basis::None },
        idle: object.suspended,
        deleting: false,
        created: at(object.created),
        uid: format!("{:03}", object.uid).into(),
    })
}

/// Whether another object keeps that one from the instance.
pub fn kept_out(check: &Check, replica: &Replica, o: usize) -> bool {
    let Some(own) = contender(&replica.memories[o]) else { return false };
    let others = replica.memories.iter().enumerate().filter(|(other, _)| *other != o);
    let mut others = others.filter_map(|(_, memory)| contender(memory));
    others.any(|other| other.keeps_out(&own, check.setting.relation))
}

/// Whether another object's call was accepted since the last one of that object.
fn superseded(replica: &Replica, o: usize, object: &Object) -> bool {
    let own = &replica.memories[o];
    let others = replica.memories.iter().map(|memory| memory.order);
    own.is_of(object) && others.chain([replica.departed]).any(|order| order > own.order)
}

/// Whether no pass has the turn at the instance.
pub fn is_free(replica: &Replica) -> bool {
    let takes_turn = |pass: &Pass| pass.turn;
    !replica.memories.iter().any(|memory| memory.pass.as_deref().is_some_and(takes_turn))
}

/// Takes the turn at the instance for a pass, and takes in what has changed since the pass began.
pub fn may_act(check: &Check, replica: &Replica, o: usize, pass: &mut Pass) -> Permission {
    if check.setting.alone() {
        return Permission::Granted;
    }
    let gone = !replica.memories[o].is_of(&pass.object);
    if gone && pass.attempt.is_none() && !check.without(Rule::GoneStartsNothing) {
        return Permission::Gone;
    }
    if !pass.turn && !is_free(replica) {
        return Permission::Busy;
    }
    let now = View::of(check, replica, o, &pass.object);
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
    let replica = &mut world.replicas[r];
    if called.heard == Heard::Accepted {
        accepted(check, replica, o, &pass.object);
        pass.view.superseded = false;
    }
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
    pass.view.calls.clone_from(&replica.calls);
}

fn add(calls: &mut Vec<Noted>, noted: Noted) {
    match calls.iter_mut().find(|call| call.by == noted.by && call.value == noted.value) {
        Some(call) => call.until = call.until.max(noted.until),
        None => calls.push(noted),
    }
    calls.sort_unstable();
}

/// The API accepted a call of that object.
fn accepted(check: &Check, replica: &mut Replica, o: usize, object: &Object) {
    let orders = replica.memories.iter().map(|memory| memory.order);
    let order = orders.chain([replica.departed]).max().unwrap_or(0) + 1;
    if replica.memories[o].is_of(object) {
        replica.memories[o].order = order;
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
    let mut orders: Vec<u8> = replica.memories.iter().map(|memory| memory.order).collect();
    orders.extend([0, replica.departed]);
    orders.sort_unstable();
    orders.dedup();
    let rank = |order: u8| orders.iter().position(|other| *other == order).map_or(0, |rank| rank as u8);
    replica.departed = rank(replica.departed);
    for memory in &mut replica.memories {
        memory.order = rank(memory.order);
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
    let (order, until) = (memory.order, object.status.unsettled_until().map(second));
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
