//! `explain`: why an object is in the state it is in, in sentences. What is read is in `gather`, what is said of it is
//! pure: `object`, `fleet`, and for each reason `advice`.

mod advice;
mod common;
mod fleet;
mod gather;
mod object;
#[cfg(test)]
mod tests;
mod view;

use clap::Args;

use super::{
    ConnectArgs, Console, Error,
    error::DONE,
    read::Named,
    text::{Form, written},
};
pub use advice::OPERATOR_NAMESPACE;
pub(super) use fleet::skip_reason;

/// Flags of `explain`.
#[allow(clippy::doc_markdown, reason = "the help of the command line shows backticks as they are")]
#[derive(Args, Clone, Debug)]
#[command(after_help = "\
Examples:
  kubectl vncpassword explain db-1             why this VncPassword is as it is, and what to do
  kubectl vncpassword explain fleet/nodes      the same of a ClusterVncPassword
  kubectl vncpassword explain db-1 -o json     the same for a program")]
pub struct ExplainArgs {
    /// Name of a VncPassword, or fleet/NAME for a ClusterVncPassword
    #[arg(value_name = "NAME")]
    pub name: Named,

    /// Form of the answer
    #[arg(long, short, value_name = "FORM", default_value = "text")]
    pub output: Form,

    /// Namespace of the operator, for the commands that are shown
    #[arg(long, value_name = "NAMESPACE", default_value = OPERATOR_NAMESPACE)]
    pub operator_namespace: String,
}

/// Runs the command; returns the exit code.
///
/// # Errors
/// See [`Error`].
pub async fn explain(
    arguments: ExplainArgs,
    connect: &ConnectArgs,
    console: &mut Console,
) -> Result<u8, Error> {
    let ExplainArgs { name, output, operator_namespace } = arguments;
    let connection = connect.connect().await?;
    let now = (console.now)();
    let paragraphs = match &name {
        Named::Object(name) => {
            object::explain_object(&gather::object(&connection, name, operator_namespace, now).await?)
        }
        Named::Fleet(name) => {
            fleet::explain_fleet(&gather::fleet(&connection, name, operator_namespace, now).await?)
        }
    };
    console.say(&written(&paragraphs, output, console.width)?)?;
    Ok(DONE)
}
