//! The ECS double from outside: over HTTP, with a small client of the tests' own, with the official SDK, and with
//! the operator's client.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod client;
mod control;
mod faults;
mod metadata;
mod operator_client;
mod providers;
mod sdk;
mod sts;
