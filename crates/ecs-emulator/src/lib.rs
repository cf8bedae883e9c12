//! The ECS emulator: a server that behaves like Alibaba Cloud's ECS API and STS, as far as this project calls
//! them, and like an instance's metadata service.
//!
//! Tests start an [`Emulator`] in their own process and control it through [`Cloud`]. Other programs run the
//! binary `ecs-emulator` and control it over HTTP. It checks signatures with its own code, has its own
//! [`Clock`], and injects faults ([`Fault`]). It stores passwords in plain text and protects nothing: never
//! use it with real ones.
//!
//! A call passes these files: `server` reads it from the connection, `wire` parses it, `dispatch`
//! authenticates it (`access`, `signature`) and applies faults and limits (`fault`, `limit`), `operations`
//! performs it on the `state`, `journal` records it, and `wire` formats the reply. `sts` and `local` issue
//! credentials (`issue`) to callers that a `role` trusts.

mod access;
mod action;
mod call;
pub mod cli;
mod clock;
mod cloud;
mod control;
mod dispatch;
mod fault;
mod instance;
mod issue;
mod journal;
mod limit;
mod local;
mod metadata;
mod operations;
mod role;
mod server;
mod signature;
mod state;
mod sts;
mod tls;
mod token;
mod wire;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use access::AccessKey;
pub use action::Action;
pub use clock::Clock;
pub use cloud::Cloud;
pub use fault::{Apply, Fault, FaultId, Garbage, HUGE, Reply};
pub use instance::{ConsoleChange, DEFAULT_REGION, Instance, InstanceView, Status};
pub use issue::Issued;
pub use journal::Entry;
pub use metadata::Metadata;
pub use role::{OidcTrust, Role};
pub use tls::{Tls, TlsError};

use state::State;

/// How an emulator starts.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it listens; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Speak HTTPS; plain HTTP without.
    pub tls: Option<Tls>,
    /// The access keys it takes.
    pub access_keys: Vec<AccessKey>,
    /// Its clock.
    pub clock: Clock,
    /// How many calls the journal keeps, at least one; older ones are forgotten.
    pub journal_limit: usize,
    /// Seed of request ids, of credentials, and of the faults' probabilities.
    pub seed: u64,
    /// How long the minute is in which it counts calls; a minute, so that tests of limits can be short.
    pub minute: Duration,
}

impl Default for Options {
    /// A free port of the loopback address, the default [`AccessKey`], the system's clock, 100,000 calls,
    /// minutes of 60 s.
    fn default() -> Self {
        Self {
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            tls: None,
            access_keys: vec![AccessKey::default()],
            clock: Clock::system(),
            journal_limit: 100_000,
            seed: 0,
            minute: Duration::from_secs(60),
        }
    }
}

/// A running server. It stops, and drops its connections, when it is dropped.
#[derive(Debug)]
pub struct Emulator {
    address: SocketAddr,
    scheme: &'static str,
    cloud: Cloud,
    server: JoinHandle<()>,
}

impl Emulator {
    /// Binds the address and serves from a task of the current tokio runtime.
    ///
    /// # Errors
    /// The address cannot be bound.
    pub async fn start(options: Options) -> io::Result<Self> {
        let Options { listen, tls, access_keys, clock, journal_limit, seed, minute } = options;
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let mut state = State::new(access_keys, journal_limit, seed);
        state.limits.minute = i64::try_from(minute.as_millis()).unwrap_or(i64::MAX).max(1);
        let cloud = Cloud::new(clock, state);
        let scheme = if tls.is_some() { "https" } else { "http" };
        let server = tokio::spawn(server::serve(listener, tls, cloud.clone()));
        Ok(Self { address, scheme, cloud, server })
    }

    /// Its base URL, `http://ADDRESS:PORT`, or `https:`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// The handle to its state; it outlives the server.
    #[must_use]
    pub fn cloud(&self) -> &Cloud {
        &self.cloud
    }

    /// Stops the server and waits until its port is free.
    pub async fn shutdown(mut self) {
        self.server.abort();
        // What comes back is the cancellation that was asked for.
        let _ = (&mut self.server).await;
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        self.server.abort();
    }
}
