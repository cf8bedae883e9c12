//! Faults stop: what is under way is finished, time passes, and everything is to come right.

use vncpassword::{
    api::{ConditionStatus, ConditionType, Reason},
    rotation::contents::State,
};

use super::{
    check::{Check, Happens, due, pass_time, sees_object, sees_secret},
    cloud,
    pass::Reply,
    person,
    setting::Budget,
    values::Value,
    world::World,
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
    if world.object.status.reason(ConditionType::Stalled) == Some(Reason::InvalidPassword) {
        // A person reads that as well.
        if person::edits(world).is_none() || !settles(check, world) {
            return false;
        }
    }
    right(world)
}

/// Lets everything rest; a person reads RebootRequired and restarts the instance, once for each password.
fn settles(check: &Check, world: &mut World) -> bool {
    if !rests(check, world, PATIENCE) {
        return false;
    }
    for _ in 0..MOST_RESTARTS {
        if world.object.status.accepted.is_none() {
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

/// Whether everything is as it should be in the end.
fn right(world: &World) -> bool {
    let status = &world.object.status;
    let Some(secret) = &world.secret else { return false };
    let handled = status.last_handled_rotate_at.as_ref().map(|time| super::values::second(time.0));
    world.cloud.console.is_some_and(|console| secret.current == Value::Is(console))
        && secret.next == Value::Absent
        && secret.record.as_ref().is_some_and(|record| record.state == State::Done)
        && status.ready() == ConditionStatus::True
        && status.condition(ConditionType::Reconciling).is_none()
        && status.condition(ConditionType::Stalled).is_none()
        && status.accepted.is_none()
        && status.retry.is_none()
        && handled >= world.object.rotate_at
        && !world.seen.unasked_restart
        && world.seen.begun <= world.seen.asked + world.seen.acts
        && world.known()
}

/// Does all that is due for so many seconds; `false`: it finds no end.
fn rests(check: &Check, world: &mut World, seconds: i32) -> bool {
    let end = world.now + seconds;
    for _ in 0..MOST_STEPS {
        if act(check, world) {
            continue;
        }
        let leader = &world.replicas[world.leader];
        let late = world.cloud.late.iter().map(|late| late.signed + check.setting.valid()).min();
        let next = [leader.wake, leader.look_due, late].into_iter().flatten().min();
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
    for r in 0..world.replicas.len() {
        let replica = &world.replicas[r];
        let happens = match &replica.pass {
            Some(pass) if pass.calling.is_some() => Happens::Call(r, None),
            Some(_) => Happens::Step(r, Reply::Comes),
            None if sees_secret(world, r) => Happens::SeesSecret(r),
            None if sees_object(world, r) => Happens::SeesObject(r),
            None if world.leader != r => continue,
            None if due(world, r) => Happens::Pass(r),
            None if replica.look_due.is_some_and(|due| due <= world.now) => Happens::Look(r),
            None => continue,
        };
        return check.happens(world, happens).is_some();
    }
    false
}
