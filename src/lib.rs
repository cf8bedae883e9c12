//! A Kubernetes operator for the VNC passwords of Alibaba Cloud ECS instances.
//!
//! Read in this order:
//!
//! | module | what it is |
//! |---|---|
//! | [`api`] | the kinds: fields, conditions, reasons |
//! | [`rotation`] | the pure core: `decide` says what to do next, and everything else is plumbing |
//! | [`ecs`] | the cloud client; knows no Kubernetes |
//! | [`runtime`] | settings, logs, metrics, traces, probes, shutdown |
//! | [`kube_client`] | the client of the API server: deadlines, HTTP/2 with PING; knows no room |
//! | [`cli`] | the plugin of kubectl: one file a command |

pub mod cli;
pub mod cloud;
pub mod commands;
mod context;
mod events;
pub mod kube_client;
mod reconcile;
pub mod runtime;
pub mod settings;
mod snapshot;
mod store;
mod watches;

pub use vncpassword_alicloud as ecs;
pub use vncpassword_core::{api, fleet, rotation};
