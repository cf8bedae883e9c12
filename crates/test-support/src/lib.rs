//! What the tests share: one control plane for all, and for each test a namespace, an emulator and an operator of
//! its own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]
#![allow(clippy::missing_panics_doc, clippy::must_use_candidate, reason = "for tests alone")]
#![allow(missing_docs, reason = "for tests alone")]

pub mod barrier;
pub mod collector;
pub mod control_plane;
pub mod fleet;
pub mod observe;
pub mod operator;
pub mod relay;
pub mod rotation;
pub mod world;

pub use operator::{Operator, Setup};
pub use world::World;
