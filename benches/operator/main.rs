//! `make bench`: what the operator costs and how fast it is, on a private control plane, if wanted side by side with an
//! equal operator on Go's controller-runtime. `docs/benchmarks.md` says what each figure means.
//!
//! | file | what lives there |
//! |---|---|
//! | `run` | one run over one operator: the phases, and what is measured in each |
//! | `bare` | a client that makes only the requests: the ceiling of the machine |
//! | `figures` | what a run found, and the table |
//! | `cluster` | the API server: writing, counting what is ready, its own count of requests |
//! | `cloud` | the emulator as a process |
//! | `control_plane` | etcd and kube-apiserver as processes |
//! | `process` | programs under measurement: start, CPU time, memory, end |
//! | `peer` | building the Go operator |

#![allow(clippy::print_stdout, reason = "a program that reports to a person")]
#![allow(clippy::cast_precision_loss, reason = "every count here is far below 2^53")]

mod bare;
mod cloud;
mod cluster;
mod control_plane;
mod figures;
mod peer;
mod process;
mod run;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use figures::{Figures, thousands};
use run::{Plan, Subject};

/// Any failure ends the benchmark.
type Failure = Box<dyn std::error::Error + Send + Sync>;
type Result<T> = std::result::Result<T, Failure>;

/// Benchmark of the operator. Everything runs on this machine and is stopped at the end.
#[derive(Parser)]
#[command(name = "operator")]
struct Args {
    /// How many objects; several sizes one after the other
    #[arg(
        long,
        env = "BENCH_OBJECTS",
        value_name = "N,..",
        value_delimiter = ',',
        default_value = "0,1000,10000"
    )]
    objects: Vec<usize>,

    /// Measure the operator on Go's controller-runtime as well, alternately
    #[arg(long)]
    peer: bool,

    /// Measure the bare client first: the ceiling of this machine
    #[arg(long)]
    bare: bool,

    /// Runs of each operator at each size; the table shows the medians
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,

    /// Secrets changed one after the other, for the latencies; at most one of each object
    #[arg(long, value_name = "N", default_value_t = 200)]
    changes: usize,

    /// Objects created at once while the operator runs, in addition
    #[arg(long, value_name = "N", default_value_t = 1000)]
    created: usize,

    /// Measure this binary instead of the one just built
    #[arg(long, value_name = "FILE", default_value = env!("CARGO_BIN_EXE_vncpassword-operator"))]
    operator: PathBuf,

    /// Passed by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() -> ExitCode {
    // reqwest takes its crypto from here.
    rustls::crypto::ring::default_provider().install_default().ok();
    if std::env::args().nth(1).is_some_and(|argument| argument == cloud::EMULATOR) {
        return emulator().await;
    }
    let ended = tokio::select! {
        ended = benchmark(Args::parse()) => ended,
        signal = interrupted() => Err(signal),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("bench: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs as the emulator.
async fn emulator() -> ExitCode {
    use vncpassword_emulator::cli;
    match cli::run(cli::Args::parse_from(std::env::args().skip(1))).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Returns on SIGINT or SIGTERM; everything that runs is stopped as it is dropped.
async fn interrupted() -> Failure {
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = interrupt.recv() => "interrupted".into(),
        _ = terminate.recv() => "terminated".into(),
    }
}

async fn benchmark(args: Args) -> Result<()> {
    let Args { objects: sizes, peer, bare, rounds, changes, created, operator, bench: _ } = args;
    let began = Instant::now();
    let mut subjects = vec![Subject { name: "operator", binary: operator, arguments: &["run"] }];
    if peer {
        subjects.push(Subject { name: "peer", binary: peer::build().await?, arguments: &[] });
    }
    for objects in sizes {
        let plan = Plan { objects, changes: changes.min(objects), created };
        let mut found: Vec<Vec<Figures>> = subjects.iter().map(|_| Vec::new()).collect();
        let mut ceiling = None;
        if bare && objects > 0 {
            println!("\n== {} objects, bare client", thousands(objects));
            ceiling = Some(bare::run(objects).await?);
        }
        for round in 0..rounds {
            // A B, B A, ...: what changes on the machine in the course of time hits both.
            let order: Vec<usize> = if round % 2 == 0 {
                (0..subjects.len()).collect()
            } else {
                (0..subjects.len()).rev().collect()
            };
            for index in order {
                let subject = &subjects[index];
                println!(
                    "\n== {} objects, {}, round {} of {rounds}",
                    thousands(objects),
                    subject.name,
                    round + 1
                );
                found[index].push(run::run(subject, plan).await?);
            }
        }
        let names: Vec<&str> = subjects.iter().map(|subject| subject.name).collect();
        println!("\n{}", figures::table(plan.objects, &names, &found, ceiling));
    }
    println!("Took {} s. Machine: {}.", began.elapsed().as_secs(), process::machine());
    Ok(())
}

/// Says every few seconds how far something has come.
struct Progress {
    what: &'static str,
    last: Instant,
}

impl Progress {
    const EVERY: Duration = Duration::from_secs(5);

    fn new(what: &'static str) -> Self {
        Self { what, last: Instant::now() }
    }

    fn tell(&mut self, done: usize, of: usize) {
        if self.last.elapsed() >= Self::EVERY {
            self.last = Instant::now();
            println!("   {}: {} of {}", self.what, thousands(done), thousands(of));
        }
    }
}
