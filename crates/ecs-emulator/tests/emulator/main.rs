//! The emulator from outside: over HTTP, with a small client of the tests' own, and with the official SDK.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod client;
mod control;
mod faults;
mod metadata;
mod sdk;
mod sts;
