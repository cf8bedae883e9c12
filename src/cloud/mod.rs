//! The cloud as reconciles use it.
//!
//! | file | content |
//! |---|---|
//! | `reply` | converts errors of the client to reply classes, and to reports for the rate limiter |
//! | `identities` | the identity of each object: the operator's own, or the keys in a Secret |
//! | `instance_poller` | polls the instances that objects wait for, up to 100 in one call |
//! | `instance_locks` | one caller per instance at a time; calls that may still arrive |
//! | `denied_groups` | retries of objects that lack the same right |

pub(crate) mod denied_groups;
pub(crate) mod identities;
pub(crate) mod instance_locks;
mod instance_poller;
pub mod reply;

pub use instance_poller::InstancePoller;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use vncpassword_core::fleet::ProviderId;

    use vncpassword_alicloud::Region;

    proptest! {
        /// A Node of a region that the client refuses would never get its password.
        #[test]
        fn regions_of_nodes_are_those_that_the_client_takes(text in "[a-z]{1,5}(-[a-z0-9A-Z.]{0,3}){0,6}|.{0,20}") {
            let node = format!("{text}.i-1");
            let is_taken = ProviderId::parse(Some(&node)) == ProviderId::Instance { region: &text, id: "i-1" };
            prop_assert_eq!(is_taken, Region::parse(&text).is_ok());
        }
    }
}
