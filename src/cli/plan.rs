//! `plan`: what a `ClusterVncPassword` would do that is not applied yet.

use clap::Args;

use super::{ConnectArgs, Console, Error};

/// Flags of `plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
#[allow(clippy::unused_async, reason = "to come")]
pub async fn plan(_: PlanArgs, _: &ConnectArgs, _: &mut Console) -> Result<u8, Error> {
    Err(Error::Failed("not there yet".to_owned()))
}
