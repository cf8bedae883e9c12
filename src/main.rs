//! `vncpassword-operator`: arguments and dispatch.

use std::{process::ExitCode, time::Duration};

use clap::{Parser, Subcommand};
use vncpassword_alicloud::Clock;
use vncpassword_core::api::definitions;
use vncpassword_kube_client as kube_client;
use vncpassword_kube_client::{Deadlines, Retries};
use vncpassword_operator::{
    commands::{Environment, Output, RamPolicyArgs, WhoamiArgs, listen, ram_policy, run, text, whoami},
    runtime::{Shutdown, init_telemetry},
    settings::{RunArgs, Settings},
};

/// The system's allocator keeps what bursts leave behind: a third of the memory at 10,000 objects.
/// docs/benchmarks.md.
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
    /// Say who the operator is to the cloud, and what it may do; ends with 1 where a right is missing
    Whoami(Box<WhoamiArgs>),
    /// Print the `CustomResourceDefinitions` as YAML
    Crds {
        /// Only this one, such as vncpasswords
        name: Option<String>,
    },
    /// Print a RAM policy as JSON: the rights that the operator needs, or whom a role trusts
    RamPolicy(Box<RamPolicyArgs>),
}

// One thread: the API server is the limit long before it, and a second costs CPU and memory for handing work
// over.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(arguments) => operate(*arguments).await.map(|()| ExitCode::SUCCESS),
        Command::Whoami(arguments) => print_whoami(*arguments).await,
        Command::Crds { name } => print_crds(name.as_deref()).map(|()| ExitCode::SUCCESS),
        Command::RamPolicy(arguments) => print_ram_policy(&arguments).map(|()| ExitCode::SUCCESS),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            #[allow(clippy::print_stderr, reason = "the one place where the program says why it ends")]
            {
                eprintln!("vncpassword-operator: {}", with_causes(&*error));
            }
            ExitCode::FAILURE
        }
    }
}

type Failure = Box<dyn std::error::Error>;

/// An error and its causes, without those that its text tells already.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.map(ToString::to_string).fold(error.to_string(), |told, cause| {
        if told.contains(&cause) { told } else { format!("{told}: {cause}") }
    })
}

async fn operate(arguments: RunArgs) -> Result<(), Failure> {
    let log_format = arguments.log_format;
    let settings = Settings::try_from(arguments)?;
    let filter = std::env::var("RUST_LOG").ok();
    let telemetry = init_telemetry(log_format, filter.as_deref(), settings.otlp.as_ref())?;
    let ended = run_until_signalled(settings).await;
    telemetry.end().await;
    ended
}

async fn run_until_signalled(settings: Settings) -> Result<(), Failure> {
    let config = kube::Config::infer().await?;
    let client = kube_client::client(config, Deadlines::default(), Retries::Never)?;
    let (stop, shutdown) = Shutdown::new();
    let signals = tokio::spawn(stop.on_signal());
    let environment = Environment {
        client,
        listener: listen(settings.http_addr)?,
        clock: Clock::default(),
        minute: Duration::from_mins(1),
        lookup: |name: &str| std::env::var_os(name),
    };
    run(settings, environment, shutdown).await?;
    signals.abort();
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the output of this command")]
async fn print_whoami(arguments: WhoamiArgs) -> Result<ExitCode, Failure> {
    // Outside of a cluster there is an answer as well.
    let config = kube::Config::infer().await.ok();
    let client =
        config.and_then(|config| kube_client::client(config, Deadlines::default(), Retries::WhenSafe).ok());
    let output = arguments.output;
    let answer = whoami(arguments, client, |name| std::env::var_os(name)).await?;
    match output {
        Output::Text => print!("{}", text(&answer)?),
        Output::Json => println!("{}", serde_json::to_string_pretty(&answer)?),
    }
    Ok(if answer.suffices() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

#[allow(clippy::print_stdout, reason = "the output of this command")]
fn print_crds(name: Option<&str>) -> Result<(), Failure> {
    let wanted = |plural: &str| name.is_none_or(|name| name == plural);
    let crds = definitions().into_iter().filter(|crd| wanted(&crd.spec.names.plural));
    let texts = crds.map(|crd| serde_saphyr::to_string(&crd)).collect::<Result<Vec<_>, _>>()?;
    if texts.is_empty() {
        return Err(
            "there is no such CustomResourceDefinition: name vncpasswords or clustervncpasswords".into()
        );
    }
    print!("{}", texts.join("---\n"));
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the output of this command")]
fn print_ram_policy(arguments: &RamPolicyArgs) -> Result<(), Failure> {
    println!("{:#}", ram_policy(arguments)?);
    Ok(())
}
