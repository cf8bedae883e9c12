//! `complete`.

use clap::Args;

use super::{ConnectArgs, Console, Error};

/// Flags of `complete`.
#[derive(Args, Clone, Debug)]
pub struct CompleteArgs {}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
#[allow(clippy::unused_async, reason = "to come")]
pub async fn complete(_: CompleteArgs, _: &ConnectArgs, _: &mut Console) -> Result<u8, Error> {
    Err(Error::Failed("not there yet".to_owned()))
}
