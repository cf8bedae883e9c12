//! `explain`: why an object is in the state it is in, in sentences.

use clap::Args;

use super::{ConnectArgs, Console, Error};

/// Flags of `explain`.
#[derive(Args, Clone, Debug)]
pub struct ExplainArgs {}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
#[allow(clippy::unused_async, reason = "to come")]
pub async fn explain(_: ExplainArgs, _: &ConnectArgs, _: &mut Console) -> Result<u8, Error> {
    Err(Error::Failed("not there yet".to_owned()))
}
