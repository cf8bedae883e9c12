//! `get`.

use clap::Args;

use super::{ConnectArgs, Console, Error};

/// Flags of `get`.
#[derive(Args, Clone, Debug)]
pub struct GetArgs {}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
#[allow(clippy::unused_async, reason = "to come")]
pub async fn get(_: GetArgs, _: &ConnectArgs, _: &mut Console) -> Result<u8, Error> {
    Err(Error::Failed("not there yet".to_owned()))
}
