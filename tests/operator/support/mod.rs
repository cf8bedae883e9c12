//! What the tests share: one control plane for all, and for each test a namespace, an emulator and an operator of
//! its own.

pub mod collector;
pub mod control_plane;
pub mod fleet;
pub mod operator;
pub mod relay;
pub mod rotation;
pub mod world;

pub use operator::Operator;
pub use world::World;
