//! The operator's cloud client against the emulator, and each source of credentials as `vncpassword-operator whoami` reports it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests may fail as tests do")]

mod operator_client;
mod providers;
