//! What calls do at the instance, and what becomes of them.

use super::{
    check::Check,
    contest,
    rules::Rule,
    setting::Fate,
    values::{FIRST_MALFORMED, Value, second},
    world::{Called, Calling, Heard, Late, Pass, Taken, Why, World},
};

/// The call that is on its way out meets its fate; `None`: there is none, or not such a one.
pub fn call(check: &Check, world: &mut World, r: usize, o: usize, fate: Option<Fate>) -> Option<()> {
    let mut pass = world.replicas[r].memories[o].pass.take()?;
    match pass.calling.take()? {
        Calling::Modify(why) => {
            modify(check, world, (r, o), &mut pass, why, fate)?;
            contest::replied(check, world, (r, o), &mut pass);
        }
        Calling::Reboot => reboot(check, world, (r, o), &mut pass, fate)?,
    }
    world.replicas[r].memories[o].pass = Some(pass);
    Some(())
}

fn modify(
    check: &Check,
    world: &mut World,
    (r, o): (usize, usize),
    pass: &mut Pass,
    why: Why,
    fate: Option<Fate>,
) -> Option<()> {
    let secret = pass.read.clone()??;
    let Value::Is(value) = (if why == Why::Rotate { secret.next } else { secret.current }) else {
        return None;
    };
    let signed = if check.without(Rule::DatedBeforeRead) { world.now } else { pass.signed };
    let by = pass.object.uid;
    let late = Late { value, signed, by };
    let heard = match fate {
        _ if world.now > signed + check.setting.valid() => {
            if fate.is_some() {
                return None;
            }
            Heard::Refused("InvalidTimeStamp.Expired")
        }
        Some(Fate::Nothing) => return None,
        Some(Fate::LostBefore) => Heard::Nothing,
        Some(Fate::Late) => {
            world.cloud.late.push(late);
            Heard::Nothing
        }
        Some(Fate::Refused) => Heard::Refused("IncorrectInstanceStatus"),
        None if !world.cloud.running => Heard::Refused("IncorrectInstanceStatus"),
        None if value >= FIRST_MALFORMED => Heard::Refused("IncorrectVncPassword.Malformed"),
        None => {
            take(check, world, Taken { value, by, replied: Some(secret.acts) });
            Heard::Accepted
        }
        Some(Fate::LostAfter | Fate::Twice) => {
            take(check, world, Taken { value, by, replied: None });
            if fate == Some(Fate::Twice) {
                world.cloud.late.push(late);
            }
            Heard::Nothing
        }
    };
    world.cloud.late.sort_unstable();
    let former = pass.attempt.as_ref().filter(|attempt| attempt.value == value);
    let record = secret.record.as_ref().filter(|_| why == Why::Rotate);
    let memory = &mut world.replicas[r].memories[o];
    if memory.is_of(&pass.object) {
        memory.untouched = false;
    }
    let known = pass.object.status.instance.as_ref().and_then(|instance| instance.io_optimized);
    pass.attempt = Some(Called {
        why,
        version: secret.version(),
        value,
        rotation: record.map(|record| record.id.as_str().into()),
        repeats: record.is_some_and(|record| record.repeats()),
        superseded: pass.view.superseded,
        optimized: known.or(memory.look.as_ref().map(|_| check.setting.optimized)),
        look: memory.look.clone(),
        tries: former.map_or(1, |attempt| attempt.tries + 1),
        at: world.now,
        heard,
    });
    Some(())
}

/// The instance takes a password.
pub fn take(check: &Check, world: &mut World, taken: Taken) {
    if !world.cloud.running || taken.value >= FIRST_MALFORMED {
        return;
    }
    if check.setting.optimized {
        in_effect(world, taken);
    } else {
        world.cloud.pending = Some(taken);
    }
}

fn in_effect(world: &mut World, taken: Taken) {
    (world.cloud.console, world.cloud.by) = (Some(taken.value), taken.by);
    if taken.replied == Some(world.seen.acts) {
        world.seen.excused = false;
    }
}

/// A late call arrives.
pub fn arrive(check: &Check, world: &mut World, index: usize) -> Option<()> {
    let late = world.cloud.late.get(index)?.clone();
    world.cloud.late.remove(index);
    if world.now > late.signed + check.setting.valid() {
        return None;
    }
    take(check, world, Taken { value: late.value, by: late.by, replied: None });
    Some(())
}

/// The instance is started again: what it took comes into effect.
pub fn boot(world: &mut World) {
    world.cloud.running = true;
    world.cloud.started = world.now;
    if let Some(taken) = world.cloud.pending.take() {
        in_effect(world, taken);
    }
}

fn reboot(
    check: &Check,
    world: &mut World,
    at: (usize, usize),
    pass: &mut Pass,
    fate: Option<Fate>,
) -> Option<()> {
    let signed = if check.without(Rule::DatedBeforeRead) { world.now } else { pass.signed };
    let heard = match fate {
        _ if world.now > signed + check.setting.valid() => {
            if fate.is_some() {
                return None;
            }
            Heard::Refused("InvalidTimeStamp.Expired")
        }
        None | Some(Fate::LostAfter | Fate::Nothing) if !world.cloud.running => {
            Heard::Refused("IncorrectInstanceStatus")
        }
        None | Some(Fate::Nothing) => Heard::Accepted,
        Some(Fate::LostBefore | Fate::LostAfter) => Heard::Nothing,
        Some(Fate::Refused) => Heard::Refused("IncorrectInstanceStatus"),
        Some(Fate::Late | Fate::Twice) => return None,
    };
    if heard == Heard::Accepted || heard == Heard::Nothing {
        witness(check, world, at, pass);
    }
    if matches!(fate, None | Some(Fate::LostAfter)) && !matches!(heard, Heard::Refused(_)) {
        world.cloud.running = false;
    }
    pass.rebooted = Some(heard);
    Some(())
}

/// Whether the restart that is requested is one that a rotation asks for: once, and once more where nothing has moved
/// when a call is settled.
fn witness(check: &Check, world: &mut World, (r, o): (usize, usize), pass: &Pass) {
    let Some(accepted) = &pass.object.status.accepted else {
        world.seen.unasked_restart = true;
        return;
    };
    let minute = |second: i32| second.div_euclid(60);
    let look = world.replicas[r].memories[o].look.as_ref();
    let mut requests = world.seen.requests.iter().filter(|request| *request.0 == *accepted.rotation);
    let asked = match (requests.next(), requests.next()) {
        // Nothing has happened since the look, and nothing waits for a restart.
        (None, _) => {
            world.cloud.pending.is_some()
                || look.is_none_or(|look| minute(look.started) != minute(world.cloud.started))
        }
        (Some((_, time, started)), None) => look.is_some_and(|look| {
            let moved = minute(look.started) != minute(*started);
            // What was accepted since the first one needs another.
            look.at >= time + check.setting.settle()
                && look.running
                && (!moved || world.cloud.pending.is_some())
        }),
        (Some(_), Some(_)) => false,
    };
    world.seen.unasked_restart |= !asked;
    let request = pass.object.status.reboot_requested_at.as_ref();
    let request = request.filter(|request| request.rotation == accepted.rotation);
    let time = request.map_or(world.now, |request| second(request.time.0));
    world.seen.requests.push((accepted.rotation.as_str().into(), time, world.cloud.started));
}
