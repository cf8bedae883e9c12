//! The plugin of kubectl as a process on a real API server: what it writes in a pipe and on a terminal, with rights and without.
//!
//! Answers are held by snapshots; `INSTA_UPDATE=always` writes them anew.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod complete;
mod doctor;
mod explain;
mod get;
mod plan;
mod plugin;
mod rotate;
mod scale;
mod silence;
mod states;
mod status;
mod timeless;
