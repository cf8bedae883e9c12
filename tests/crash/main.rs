//! The real program as a process on a real API server, while processes are killed and servers go away.
//!
//! Apart from the other tests of the operator because these take minutes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stderr, reason = "a test fails by panicking")]

mod faults;
mod fleet;
mod history;
mod invariant;
mod killed;
mod outage;
mod program;
mod waves;
