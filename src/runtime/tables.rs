//! Gives back memory of tables that were much larger once.

use std::{collections::HashMap, hash::Hash};

/// Room that is not worth giving back, in entries.
pub(crate) const SMALL: usize = 1024;

/// Shrinks a table that has become much smaller than its capacity: a table alone never does.
pub(crate) fn shrink<K: Eq + Hash, V>(table: &mut HashMap<K, V>) {
    if table.capacity() > SMALL && table.len() < table.capacity() / 8 {
        table.shrink_to(table.len() * 2);
    }
}
