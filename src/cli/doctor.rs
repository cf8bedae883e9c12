//! `doctor`: whether everything that it takes is there.

use clap::Args;

use super::{ConnectArgs, Console, Error};

/// Flags of `doctor`.
#[derive(Args, Clone, Debug)]
pub struct DoctorArgs {}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
#[allow(clippy::unused_async, reason = "to come")]
pub async fn doctor(_: DoctorArgs, _: &ConnectArgs, _: &mut Console) -> Result<u8, Error> {
    Err(Error::Failed("not there yet".to_owned()))
}
