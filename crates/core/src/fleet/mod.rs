//! A fleet: selects its members and plans how to rotate them in waves.
//!
//! Start with [`plan()`], the decision. [`Member`] is its input for one instance; [`select`] determines the
//! members.

mod conditions;
mod counts;
mod discovery;
mod eta;
mod expectations;
mod input;
mod member;
mod name;
mod plan;
mod provider_id;
mod selector;
mod status;
mod transition;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

pub use conditions::{DiscoveryReport, MemberError};
pub use counts::Counts;
pub use discovery::{DiscoveryResult, Membership, Selection, retain_members, select};
pub use expectations::Expectations;
pub use input::{Fleet, Limits};
pub use member::{Activity, Member, MemberObject, MemberState, Observation, Restart};
pub use name::{member_object_name, secret_name};
pub use plan::{Action, Plan, RolloutPhase, plan};
pub use provider_id::{InvalidInstanceId, ProviderId, parse_instance};
pub use selector::{has_tags, matches_selector};
pub use status::{invalid_fleet, status};
