//! The chart on a real cluster: a kubelet, images, RBAC, PodSecurity and network policies, and an emulator in a Pod.
//!
//! `make e2e` runs them inside the cluster of hack/cluster.sh, one after another: each has the whole cluster, with its
//! CustomResourceDefinitions, to itself. `cargo test` leaves them out and says so.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]
#![allow(clippy::doc_markdown, reason = "names of Kubernetes")]

mod cloud;
mod cluster;
mod policy;
mod release;

mod crds;
mod failover;
mod image;
mod install;
mod network;
mod plugin;
mod upgrade;
