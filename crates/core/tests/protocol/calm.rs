//! Faults stop: what is under way is finished, time passes, and everything is to come right.

use std::sync::Arc;

use vncpassword_core::api::{ConditionType, Reason};

use super::{
    check::{Check, Happens, due, pass_time, sees_object, sees_secret},
    cloud,
    pass::Reply,
    person,
    setting::Budget,
    truth,
    world::{Object, World},
};

/// Steps that are taken in one calm at most.
const MOST_STEPS: u32 = 600;
/// Restarts by a person: for what waits, and for what is asked for meanwhile.
const MOST_RESTARTS: u32 = 2;
/// How long is waited for things to come right by themselves.
const PATIENCE: i32 = 2400;

/// Lets everything calm down; whether it came right.
pub fn down(check: &Check, world: &mut World) -> bool {
    world.left = Budget::default();
    if !world.cloud.running {
        cloud::boot(world);
    }
    if !settles(check, world) {
        return false;
    }
    let refused =
        |object: &Arc<Object>| object.status.reason(ConditionType::Stalled) == Some(Reason::InvalidPassword);
    if world.places[0].object.as_ref().is_some_and(refused) {
        // A person reads that as well.
        if person::edits(world).is_none() || !settles(check, world) {
            return false;
        }
    }
    truth::in_the_end(check, world)
}

/// Lets everything rest; a person reads RebootRequired and restarts the instance, once for each password.
fn settles(check: &Check, world: &mut World) -> bool {
    if !rests(check, world, PATIENCE) {
        return false;
    }
    for _ in 0..MOST_RESTARTS {
        let mut objects = world.places.iter().filter_map(|place| place.object.as_ref());
        if objects.all(|object| object.status.accepted.is_none()) {
            break;
        }
        world.cloud.running = false;
        pass_time(check, world, world.now + 60);
        cloud::boot(world);
        if !rests(check, world, PATIENCE) {
            return false;
        }
    }
    true
}

/// Does all that is due for so many seconds; `false`: it finds no end.
fn rests(check: &Check, world: &mut World, seconds: i32) -> bool {
    let end = world.now + seconds;
    for _ in 0..MOST_STEPS {
        if act(check, world) {
            continue;
        }
        let memories = world.replicas[world.leader].memories.iter();
        let times =
            memories.flat_map(|memory| [memory.wake.filter(|_| memory.object.is_some()), memory.look_due]);
        let late = world.cloud.late.iter().map(|late| late.signed + check.setting.valid()).min();
        let next = times.chain([late]).flatten().min();
        let Some(next) = next.filter(|next| *next <= end) else {
            pass_time(check, world, end);
            return true;
        };
        pass_time(check, world, next.max(world.now));
        if late == Some(next) {
            let index = world.cloud.late.iter().position(|late| late.signed + check.setting.valid() == next);
            if let Some(index) = index {
                let _ = check.happens(world, Happens::Arrives(index));
            }
        }
    }
    false
}

/// Does one thing that is due now; `false`: nothing is.
fn act(check: &Check, world: &mut World) -> bool {
    if !world.cloud.running {
        pass_time(check, world, world.now + 60);
        cloud::boot(world);
        return true;
    }
    let all = || (0..world.replicas.len()).flat_map(|r| (0..world.places.len()).map(move |o| (r, o)));
    let under_way = |at: &(usize, usize)| world.replicas[at.0].memories[at.1].pass.is_some();
    let turn =
        |at: &(usize, usize)| world.replicas[at.0].memories[at.1].pass.as_ref().is_some_and(|pass| pass.turn);
    // What is under way goes on first, and before that who has the turn at the instance.
    let next = all().filter(turn).chain(all().filter(under_way)).chain(all()).find_map(|at| next(world, at));
    next.is_some_and(|next| check.happens(world, next).is_some())
}

/// What a process is to do now about an object.
fn next(world: &World, (r, o): (usize, usize)) -> Option<Happens> {
    let memory = &world.replicas[r].memories[o];
    match &memory.pass {
        Some(pass) if pass.calling.is_some() => Some(Happens::Call(r, o, None)),
        Some(pass) if pass.replying.is_some() => Some(Happens::Returns(r, o)),
        Some(_) => Some(Happens::Step(r, o, Reply::Comes)),
        None if sees_secret(world, r, o) => Some(Happens::SeesSecret(r, o)),
        None if sees_object(world, r, o) => Some(Happens::SeesObject(r, o)),
        None if world.leader != r => None,
        None if due(world, r, o) => Some(Happens::Pass(r, o)),
        None => memory.look_due.filter(|due| *due <= world.now).map(|_| Happens::Look(r, o)),
    }
}
