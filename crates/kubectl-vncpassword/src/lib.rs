//! `kubectl-vncpassword`: the plugin of kubectl for people. Each command is a file; this one has the arguments and the
//! dispatch.

pub mod ages;
pub mod complete;
pub mod connect;
pub mod console;
pub mod doctor;
pub mod error;
pub mod explain;
mod fetched;
pub mod follow;
pub mod get;
pub mod output;
pub mod plan;
pub mod progress;
pub mod read;
pub mod rotate;
pub mod server_time;
pub mod status;
pub mod summary;
mod text;

use std::ffi::OsString;

use clap::{Parser, Subcommand};

pub use connect::{ConnectArgs, Connection};
pub use console::{Console, Lookup};
pub use error::{Doing, Error};

/// See, rotate and understand the VNC passwords that vncpassword-operator keeps
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-vncpassword",
    bin_name = "kubectl vncpassword",
    version,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 110,
    after_help = "\
Exit codes: 0 done, 1 something failed or is wrong, 2 the command was not understood, 3 the time was up.

Examples:
  kubectl vncpassword status -A                   what is in effect, since when, what next, why not
  kubectl vncpassword rotate db-1 --wait          a new password now, and wait for it
  kubectl vncpassword rotate fleet/nodes --wait   all instances of a fleet, in its waves
  kubectl vncpassword get db-1                    the password, to the clipboard
  kubectl vncpassword explain db-1                why it is as it is, and what to do"
)]
pub struct Cli {
    /// kubectl's own flags.
    #[command(flatten)]
    pub connect: ConnectArgs,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// What is in effect, since when, what comes next, and why not
    Status(status::StatusArgs),
    /// Ask for new passwords now, and wait for them
    Rotate(rotate::RotateArgs),
    /// The password of one instance: to the clipboard, or shown with --show
    Get(get::GetArgs),
    /// Why an object is in its state, and what to do
    Explain(explain::ExplainArgs),
    /// Whether everything is there that the passwords need
    Doctor(doctor::DoctorArgs),
    /// What a ClusterVncPassword would do that is not applied yet; changes nothing
    Plan(plan::PlanArgs),
}

/// Runs the command line; returns the exit code.
pub async fn run(arguments: impl IntoIterator<Item = OsString>, console: &mut Console) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    // Not for clap: the words are those of a command line that is still to be finished.
    if arguments.get(1).is_some_and(|command| command == complete::COMMAND) {
        return exit_code(complete::complete(&arguments[2..], console).await, console);
    }
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => return print_usage(&error, console),
    };
    exit_code(dispatch(cli, console).await, console)
}

/// The exit code; what went wrong is told.
fn exit_code(result: Result<u8, Error>, console: &mut Console) -> u8 {
    match result {
        Ok(code) => code,
        Err(error) => {
            if let Some(message) = error.message() {
                console.warn(&format!("error: {message}"));
            }
            error.code()
        }
    }
}

async fn dispatch(cli: Cli, console: &mut Console) -> Result<u8, Error> {
    let Cli { mut connect, command } = cli;
    connect.places = connect::places(&console.lookup);
    match command {
        Command::Status(arguments) => status::status(arguments, &connect, console).await,
        Command::Rotate(arguments) => rotate::rotate(arguments, &connect, console).await,
        Command::Get(arguments) => get::get(arguments, &connect, console).await,
        Command::Explain(arguments) => explain::explain(arguments, &connect, console).await,
        Command::Doctor(arguments) => doctor::doctor(arguments, &connect, console).await,
        Command::Plan(arguments) => plan::plan(arguments, &connect, console).await,
    }
}

/// What clap has to say instead of running a command: help, the version, or what is wrong.
fn print_usage(error: &clap::Error, console: &mut Console) -> u8 {
    use clap::error::ErrorKind::{DisplayHelp, DisplayVersion};
    let text = error.render();
    if matches!(error.kind(), DisplayHelp | DisplayVersion) {
        let text = if console.colored() { text.ansi().to_string() } else { text.to_string() };
        return console.say(&text).map_or_else(|error| error.code(), |()| error::DONE);
    }
    console.warn(text.to_string().trim_end());
    error::USAGE
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }
}
