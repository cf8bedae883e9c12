//! The kinds, and every decision about them. Pure: no async, no I/O, no clock.
//!
//! | module | content |
//! |---|---|
//! | [`api`] | the kinds: fields, conditions, reasons |
//! | [`rotation`] | one object: what a reply means, what to do next |
//! | [`fleet`] | many objects: which instances a fleet has, and when each is rotated |

pub mod api;
pub mod fleet;
pub mod rotation;
