//! The operator on a real kube-apiserver, against the emulator in place of the cloud.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod adoption;
mod canary;
mod conflict;
mod crd;
mod delivery;
mod fleet_children;
mod fleet_crd;
mod fleet_nodes;
mod fleet_pace;
mod fleet_rollout;
mod fleet_scale;
mod fleet_selection;
mod fleet_template;
mod generated;
mod handover;
mod identity;
mod knobs;
mod leader;
mod limits;
mod mishaps;
mod on_demand;
mod process;
mod reboot;
mod replies;
mod restart;
mod scale;
mod schedule;
mod secrets;
mod settle;
mod support;
mod telemetry;
mod tenant;
mod unrest;
mod waiting;
mod whose_secret;
