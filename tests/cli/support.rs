//! What is shared with the tests of the operator.

#[path = "../operator/support/control_plane.rs"]
pub mod control_plane;
#[path = "../operator/support/fleet.rs"]
pub mod fleet;
#[path = "../operator/support/operator.rs"]
pub mod operator;
#[path = "../operator/support/relay.rs"]
pub mod relay;
#[path = "../operator/support/world.rs"]
pub mod world;

pub use operator::Operator;
pub use world::World;
