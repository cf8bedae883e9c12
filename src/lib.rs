//! A Kubernetes operator for the VNC passwords of Alibaba Cloud ECS instances.
//!
//! The kinds and the decisions are in `vncpassword-core`, the cloud's API in `vncpassword-alicloud`. Here
//! they meet the cluster. Each module uses only those above it in this table:
//!
//! | module | content |
//! |---|---|
//! | [`runtime`] | work queue, leader, metrics, probes, logs and traces, shutdown |
//! | [`settings`] | the arguments of `run`, validated |
//! | `store` | what is known of the cluster: objects, fleets, Secrets, Nodes |
//! | [`cloud`] | identities, instance poller, instance locks; what an error of the client means |
//! | `events`, `context` | what reconciles share |
//! | `snapshot` | what a scrape of the metrics reads |
//! | `reconcile` | one reconcile of one object, and of one fleet: observe, decide, act, record |
//! | `watches` | the watches, and which objects an event triggers |
//! | [`commands`] | `run`, `whoami`, `ram-policy` |

pub mod cloud;
pub mod commands;
mod context;
mod events;
mod reconcile;
pub mod runtime;
pub mod settings;
mod snapshot;
mod store;
mod watches;
