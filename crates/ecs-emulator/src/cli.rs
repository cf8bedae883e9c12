//! The binary's arguments, and what it does with them.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};

use super::{AccessKey, Emulator, Instance, Options, Tls, TlsError};

/// A double of Alibaba Cloud's ECS API, for tests and demonstrations.
///
/// Prints its URL once it listens, and runs until SIGTERM or SIGINT. Its control routes, under /_emulator/,
/// ask for no credentials: keep it on the loopback address.
#[derive(Debug, Parser)]
#[command(name = "ecs-emulator", version)]
pub struct Args {
    /// Address to listen on; port 0 takes a free one.
    #[arg(long, env = "EMULATOR_LISTEN", default_value = "127.0.0.1:8990")]
    listen: SocketAddr,
    /// Id of the access key that is taken.
    #[arg(long, env = "EMULATOR_ACCESS_KEY_ID", default_value = AccessKey::DEFAULT_ID)]
    access_key_id: String,
    /// Secret of that key.
    #[arg(long, env = "EMULATOR_ACCESS_KEY_SECRET", default_value = AccessKey::DEFAULT_SECRET)]
    access_key_secret: String,
    /// File with the certificate to speak HTTPS with, as PEM.
    #[arg(long, env = "EMULATOR_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    tls_certificate: Option<PathBuf>,
    /// File with its key, as PEM.
    #[arg(long, env = "EMULATOR_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    tls_key: Option<PathBuf>,
    /// File with the instances to begin with: a JSON array, as PUT /_emulator/instances takes it.
    #[arg(long, env = "EMULATOR_INSTANCES", value_name = "FILE")]
    instances: Option<PathBuf>,
}

/// Why the binary ends with an error.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file of `--instances` cannot be read.
    #[error("cannot read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file of `--instances` is not what it should be.
    #[error("{} is not a JSON array of instances", path.display())]
    Instances {
        /// The file.
        path: PathBuf,
        /// Where it is wrong.
        source: serde_json::Error,
    },
    /// The files of `--tls-certificate` and `--tls-key` cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// SIGTERM and SIGINT cannot be waited for.
    #[error("cannot wait for signals")]
    Signals(#[source] io::Error),
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// See [`Error`].
pub async fn run(args: Args) -> Result<(), Error> {
    let Args { listen, access_key_id, access_key_secret, tls_certificate, tls_key, instances } = args;
    let instances = instances.map_or_else(|| Ok(Vec::new()), read_instances)?;
    let tls = match (tls_certificate, tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::read(&certificate, &key)?),
        _ => None,
    };
    let mut terminate = signal(SignalKind::terminate()).map_err(Error::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Error::Signals)?;
    let access_keys = vec![AccessKey::new(access_key_id, access_key_secret)];
    let options = Options { listen, tls, access_keys, ..Options::default() };
    let emulator =
        Emulator::start(options).await.map_err(|source| Error::Listen { address: listen, source })?;
    for instance in instances {
        emulator.cloud().put_instance(instance);
    }
    announce(&emulator.url());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    emulator.shutdown().await;
    Ok(())
}

#[allow(clippy::print_stdout, reason = "the URL is what the program prints")]
fn announce(url: &str) {
    println!("{url}");
}

fn read_instances(path: PathBuf) -> Result<Vec<Instance>, Error> {
    match std::fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map_err(|source| Error::Instances { path, source }),
        Err(source) => Err(Error::Read { path, source }),
    }
}
