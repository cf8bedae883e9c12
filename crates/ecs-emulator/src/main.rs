//! The ECS double as a program, see `docs/emulator.md`.

use std::error::Error;
use std::process::ExitCode;

use clap::Parser;
use vncpassword_emulator::cli;

#[tokio::main]
async fn main() -> ExitCode {
    match cli::run(cli::Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
            #[allow(clippy::print_stderr, reason = "the program's own error output")]
            {
                eprintln!("ecs-emulator: {error}{cause}");
            }
            ExitCode::FAILURE
        }
    }
}
