//! What people do: to the Secrets, and to the objects.

use std::sync::Arc;

use vncpassword_core::api::VncPasswordStatus;

use super::{
    setting::{Act, Kind, Setting},
    values::{FIRST_MALFORMED, FIRST_OF_A_PERSON, Kept, Value},
    world::{Object, Secret, World},
};

/// A person changes the object of that place, or its Secret; `None`: there is nothing to change.
pub fn acts(setting: &Setting, world: &mut World, o: usize, act: Act) -> Option<()> {
    match act {
        Act::DeleteObject | Act::Create | Act::Suspend | Act::Resume => {
            changes_object(setting, world, o, act)
        }
        _ => changes_secret(world, o, act),
    }
}

fn changes_secret(world: &mut World, o: usize, act: Act) -> Option<()> {
    let mut secret = (**world.places[o].secret.as_ref()?).clone();
    let new = FIRST_OF_A_PERSON + world.seen.acts;
    secret.version += 1;
    match act {
        Act::Edit => secret.current = Value::Is(new),
        Act::EditMalformed => secret.current = Value::Is(FIRST_MALFORMED + world.seen.acts),
        Act::Spoil => secret.current = Value::Invalid,
        Act::Remove => secret.current = Value::Absent,
        Act::EditNext => secret.next = Value::Is(new),
        Act::RemoveNext if secret.next == Value::Absent => return None,
        Act::RemoveNext => secret.next = Value::Absent,
        Act::Delete | Act::Label => {}
        Act::DeleteObject | Act::Create | Act::Suspend | Act::Resume => return None,
    }
    if act != Act::Label {
        world.seen.acts += 1;
        world.seen.excused = true;
    }
    secret.acts = world.seen.acts;
    world.places[o].secret = (act != Act::Delete).then(|| Arc::new(secret));
    Some(())
}

fn changes_object(setting: &Setting, world: &mut World, o: usize, act: Act) -> Option<()> {
    if act == Act::Create {
        if world.places[o].object.is_some() {
            return None;
        }
        create(setting.objects[o], world, o, world.now);
        return Some(());
    }
    let mut object = (**world.places[o].object.as_ref()?).clone();
    if act == Act::DeleteObject {
        world.places[o].object = None;
        return Some(());
    }
    let suspended = act == Act::Suspend;
    if object.suspended == suspended {
        return None;
    }
    object.suspended = suspended;
    object.version += 1;
    object.generation += 1;
    world.places[o].object = Some(Arc::new(object));
    Some(())
}

/// Creates an object. A generated one draws its first password, unless its Secret holds one already.
pub fn create(kind: Kind, world: &mut World, o: usize, created: i32) {
    world.uids += 1;
    world.seen.asked += u8::from(kind == Kind::Generated);
    let object = Object {
        uid: world.uids,
        created,
        version: 1,
        generation: 1,
        suspended: false,
        rotate_at: None,
        status: Kept::new(VncPasswordStatus::default()),
    };
    world.places[o].object = Some(Arc::new(object));
}

/// A person creates a Secret with a password.
pub fn writes(world: &mut World, o: usize) {
    world.uids += 1;
    let secret = Secret {
        uid: world.uids,
        version: 1,
        current: Value::Is(FIRST_OF_A_PERSON - 1),
        next: Value::Absent,
        previous: Value::Absent,
        record: None,
        acts: world.seen.acts,
    };
    world.places[o].secret = Some(Arc::new(secret));
}

/// A person mends `<key>` of the first Secret.
pub fn edits(world: &mut World) -> Option<()> {
    changes_secret(world, 0, Act::Edit)
}

/// A person asks for a rotation by the first object.
pub fn asks(world: &mut World) {
    let Some(object) = &world.places[0].object else { return };
    let mut object = (**object).clone();
    object.version += 1;
    object.rotate_at = Some(world.now);
    world.places[0].object = Some(Arc::new(object));
    world.seen.asked += 1;
}
