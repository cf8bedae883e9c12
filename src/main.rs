//! `vncpassword-operator`: arguments and dispatch.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kube::CustomResourceExt;
use vncpassword::{
    api::VncPassword,
    runtime::{RunArgs, Settings, Shutdown, init_telemetry, run},
};

/// The system's allocator keeps what bursts leave behind: a third of the memory at 10,000 objects. docs/benchmarks.md.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// Kubernetes operator for the VNC passwords of Alibaba Cloud ECS instances
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator
    Run(Box<RunArgs>),
    /// Print the `CustomResourceDefinitions` as YAML
    Crds,
}

// One thread: the API server is the limit long before it, and a second costs CPU and memory for handing work over.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => operate(*arguments).await,
        Command::Crds => print_crds(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the one place where the program says why it ends")]
            {
                eprintln!("vncpassword-operator: {error}");
            }
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

async fn operate(arguments: RunArgs) -> Result<(), Failure> {
    init_telemetry(arguments.log_format, std::env::var("RUST_LOG").ok().as_deref());
    let settings = Settings::try_from(arguments)?;
    let client = kube::Client::try_default().await?;
    let (stop, shutdown) = Shutdown::new();
    let signals = tokio::spawn(stop.on_signal());
    run(settings, client, |name| std::env::var_os(name), shutdown).await?;
    signals.abort();
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the output of this command")]
fn print_crds() -> Result<(), Failure> {
    print!("{}", serde_saphyr::to_string(&VncPassword::crd())?);
    Ok(())
}
