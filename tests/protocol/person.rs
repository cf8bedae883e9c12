//! What people do: to the Secret, and to the object.

use std::sync::Arc;

use super::{
    setting::Act,
    values::{FIRST_MALFORMED, FIRST_OF_A_PERSON, Value},
    world::{Object, World},
};

/// A person writes to the Secret; `None`: there is nothing to write to.
pub fn acts(world: &mut World, act: Act) -> Option<()> {
    let mut secret = (**world.secret.as_ref()?).clone();
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
    }
    if act != Act::Label {
        world.seen.acts += 1;
        world.seen.excused = true;
    }
    secret.acts = world.seen.acts;
    world.secret = (act != Act::Delete).then(|| Arc::new(secret));
    Some(())
}

/// A person mends `<key>`.
pub fn edits(world: &mut World) -> Option<()> {
    acts(world, Act::Edit)
}

/// A person asks for a rotation.
pub fn asks(world: &mut World) {
    let object = &world.object;
    let (version, status) = (object.version + 1, object.status.clone());
    world.object = Arc::new(Object { version, rotate_at: Some(world.now), status });
    world.seen.asked += 1;
}
