//! Whether the Secrets hold the password that opens the console, and whether `Ready` is right.

use vncpassword_core::{
    api::{ConditionStatus, ConditionType, Reason},
    rotation::contents::State,
};

use super::{
    check::{self, Check},
    contest,
    setting::Kind,
    values::{self, Value},
    world::{Object, Place, World},
};

/// Whether the Secret of the object whose call opened the console holds that password. What a person wrote, a person
/// knows; and what is left of an object that is gone is replaced by whoever acts now, who is not `Ready` before that.
pub fn known(check: &Check, world: &World) -> bool {
    let Some(console) = world.cloud.console else { return true };
    let generated = |o: &usize| check.setting.objects[*o] == Kind::Generated;
    let sender = (0..world.places.len()).find(|o| world.places[*o].uid() == Some(world.cloud.by));
    world.seen.excused || sender.filter(generated).is_none_or(|o| world.places[o].holds(console))
}

/// Whether no object that the leading process has nothing more to do for is `Ready` although another object's call has
/// replaced its value.
pub fn ready_is_true(check: &Check, world: &World) -> bool {
    if check.setting.alone() {
        return true;
    }
    (0..world.places.len()).all(|o| {
        let Place { object: Some(object), secret } = &world.places[o] else { return true };
        let current = secret.as_ref().map(|secret| secret.current);
        let replaced = world.cloud.by != object.uid && current != world.cloud.console.map(Value::Is);
        !(replaced && is_ready(object) && check::rests(world, world.leader, o, false))
    })
}

fn is_ready(object: &Object) -> bool {
    object.status.ready() == ConditionStatus::True
}

/// Whether everything is as it should be in the end.
pub fn in_the_end(check: &Check, world: &World) -> bool {
    !world.seen.unasked_restart
        && world.seen.begun <= world.seen.asked + world.seen.acts
        && known(check, world)
        && ready_is_true(check, world)
        && (0..world.places.len()).all(|o| comes_right(check, world, o))
}

/// Whether the object of that place is as it should be in the end.
fn comes_right(check: &Check, world: &World, o: usize) -> bool {
    let Place { object: Some(object), secret } = &world.places[o] else { return true };
    let stalled = object.status.reason(ConditionType::Stalled);
    if object.suspended {
        return true;
    }
    if contest::keeper(check, &world.replicas[world.leader], o).is_some() {
        return stalled == Some(Reason::Conflict) && object.status.ready() == ConditionStatus::False;
    }
    let generated = check.setting.objects[o] == Kind::Generated;
    match secret {
        None if !generated => stalled == Some(Reason::SecretNotFound),
        None => false,
        Some(secret) => {
            let done = secret.record.as_ref().is_some_and(|record| record.state == State::Done);
            world.cloud.console.is_some_and(|console| secret.current == Value::Is(console))
                && secret.next == Value::Absent
                && done == generated
                && is_in_sync(object)
        }
    }
}

fn is_in_sync(object: &Object) -> bool {
    let status = &object.status;
    let handled = status.last_handled_rotate_at.as_ref().map(|time| values::second(time.0));
    is_ready(object)
        && status.condition(ConditionType::Reconciling).is_none()
        && status.condition(ConditionType::Stalled).is_none()
        && status.accepted.is_none()
        && status.retry.is_none()
        && handled >= object.rotate_at
}
