//! What is known of the cluster.

pub(crate) mod discovered;
pub(crate) mod fleets;
pub(crate) mod list_watch;
pub(crate) mod namespaces;
pub(crate) mod nodes;
pub(crate) mod object;
pub(crate) mod registry;
pub(crate) mod secrets;
