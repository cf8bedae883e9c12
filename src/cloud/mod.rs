//! The cloud as reconciles use it.
//!
//! | file | content |
//! |---|---|
//! | `reply` | what an error of the client means |
//! | `instance_poller` | polls the instances that objects wait for, up to 100 in one call |

mod instance_poller;
pub mod reply;

pub use instance_poller::InstancePoller;
