//! The operator on a real kube-apiserver, against the emulator in place of the cloud.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod canary;
mod conflict;
mod crd;
mod delivery;
mod generated;
mod handover;
mod knobs;
mod process;
mod replies;
mod restart;
mod scale;
mod secrets;
mod settle;
mod support;
mod waiting;
