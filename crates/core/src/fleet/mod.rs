//! A fleet: which instances it has, and what is done next to rotate them in waves.
//!
//! Read [`plan()`] first; [`Member`] is what it is told of one instance, [`select`] where members come from.

mod discovery;
mod issued;
mod member;
mod name;
mod outlook;
mod pace;
mod plan;
mod provider_id;
mod rollout;
mod selector;
mod tally;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use discovery::{Answer, Selection, Wanted, blind, select};
pub use issued::Issued;
pub use member::{Child, Facts, Member, Observation, Restart, State};
pub use name::{child_name, secret_name};
pub use outlook::{Discovery, Trouble, invalid_fleet, status};
pub use plan::{Action, Fleet, Limits, Phase, Plan, plan};
pub use provider_id::{InvalidInstance, ProviderId, listed};
pub use selector::{carries, fits};
pub use tally::Tally;
