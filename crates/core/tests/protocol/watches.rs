//! What the watches of a process report.

use std::sync::Arc;

use super::{check::Check, contest, world::World};

/// The watch reports the Secret of that place as it is now.
pub fn secret(world: &mut World, r: usize, o: usize) {
    let place = &world.places[o];
    let memory = &mut world.replicas[r].memories[o];
    if let Some(replying) = memory.pass.as_mut().and_then(|pass| pass.replying.as_mut()) {
        replying.deleted |= place.secret.as_ref().is_none_or(|secret| secret.uid != replying.secret.uid);
    }
    memory.secret = place.version();
    memory.watched = memory.secret;
    memory.stale = memory.stale.is_some().then(|| place.secret.clone()).flatten();
    memory.woken = memory.object.is_some();
}

/// The watch reports the object of that place as it is now.
pub fn object(check: &Check, world: &mut World, r: usize, o: usize) {
    let new = world.places[o].object.clone();
    let replica = &mut world.replicas[r];
    if !new.as_ref().is_some_and(|new| replica.memories[o].is_of(new)) {
        contest::forget(check, replica, o, world.now);
    }
    let memory = &mut replica.memories[o];
    let suspended = memory.object.as_ref().map(|object| object.suspended);
    let moved = suspended != new.as_ref().map(|new| new.suspended);
    memory.woken = new.is_some();
    memory.object = new.map(|new| Arc::clone(&new));
    if moved {
        contest::wake_others(replica, o);
    }
}
