//! The cloud as reconciles use it.
//!
//! | file | content |
//! |---|---|
//! | `reply` | what an error of the client means |
//! | `instance_poller` | polls the instances that objects wait for, up to 100 in one call |

pub(crate) mod denied_groups;
pub(crate) mod identities;
mod instance_poller;
pub(crate) mod instances;
pub mod reply;

pub use instance_poller::InstancePoller;
