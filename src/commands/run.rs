//! `run`: assembles the operator and runs it until shutdown.

use std::{convert::Infallible, ffi::OsString, net::SocketAddr, sync::Arc, time::Duration};

use tokio::net::TcpListener;

use super::{
    USER_AGENT,
    cluster::cluster,
    term::{self, TermEnvironment},
};
use crate::{
    cloud,
    runtime::{
        Metrics, Probes, Shutdown, Stop, http,
        leader::Elector,
        random::{NoRandomNumbers, random_id},
    },
    settings::{Ambient, ControllerSettings, Settings},
    store::object::OPERATOR,
};
use vncpassword_alicloud::{
    Clock,
    connect::{ConnectError, connect},
    credentials::SessionName,
};

/// Why the operator could not start, or had to end.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address of the probes cannot be used.
    #[error("cannot listen on --http-addr {address}: {source}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The probes cannot be served any more.
    #[error("cannot serve the probes: {0}")]
    Serve(#[source] std::io::Error),
    /// The cloud cannot be called.
    #[error(transparent)]
    Cloud(#[from] ConnectError),
    /// The system gives no random numbers.
    #[error(transparent)]
    NoRandomNumbers(#[from] NoRandomNumbers),
}

/// What the operator needs besides its settings.
pub struct Environment<L> {
    /// The API server.
    pub client: kube::Client,
    /// Where probes and metrics are served ([`listen`]).
    pub listener: TcpListener,
    /// The time.
    pub clock: Clock,
    /// How long the minute is in which the cloud counts calls: 60 s.
    pub minute: Duration,
    /// Reads a variable, for credentials.
    pub lookup: L,
}

/// Listens on `--http-addr`.
///
/// # Errors
/// [`StartError::Listen`].
pub fn listen(address: SocketAddr) -> Result<TcpListener, StartError> {
    http::listen(address).map_err(|source| StartError::Listen { address, source })
}

/// Runs the operator until shutdown is requested.
///
/// # Errors
/// See [`StartError`].
pub async fn run<L: Fn(&str) -> Option<OsString>>(
    settings: Settings,
    environment: Environment<L>,
    mut shutdown: Shutdown,
) -> Result<(), StartError> {
    let Environment { client, listener, clock, minute, lookup } = environment;
    let Settings {
        controller,
        cloud: mut reached,
        namespace,
        http_addr: address,
        leader_elect,
        lease_name,
        per_object_metrics,
        otlp: _,
    } = settings;
    let (metrics, answers) = (Arc::new(Metrics::new(per_object_metrics)), Probes::default());
    reached.ecs.user_agent = USER_AGENT;
    reached.ecs.observer = metrics.call_observer(cloud::reply::class);
    let probes = tokio::spawn(http::serve(listener, Arc::clone(&metrics), answers.clone(), shutdown.clone()));
    tracing::info!(%address, "started");
    if controller.ambient == Ambient::Everywhere {
        tracing::warn!(
            "every namespace may use the operator's own identity: whoever may write a VncPassword can set the \
             console password of any instance that it has a right to (--ambient-credentials-namespaces)"
        );
    }
    let cluster = cluster(&client, &mut shutdown).await;
    let pod = lookup("POD_NAME").or_else(|| lookup("HOSTNAME")).and_then(|name| name.into_string().ok());
    let session_name = SessionName::of(cluster.as_deref(), &namespace);
    let cloud = connect(reached, clock, lookup, session_name, OPERATOR)?;
    let environment = TermEnvironment { client: client.clone(), cloud, cluster, minute };
    if leader_elect {
        let pod = pod.unwrap_or_else(|| "vncpassword-operator".to_owned());
        while !shutdown.is_requested() {
            let identity = format!("{pod}_{}", random_id()?);
            let (mut elector, lease) = Elector::new(&client, &namespace, &lease_name, &identity);
            let (stop, term) = Shutdown::new();
            let controller = ControllerSettings { lease, ..controller.clone() };
            let (metrics, answers) = (Arc::clone(&metrics), answers.clone());
            let work = term::run(environment.clone(), controller, metrics, answers, term);
            // The state of a term is dropped: the next one starts like a new process.
            tokio::select! {
                ended = work => ended?,
                never = elector.lead(&stop) => match never {},
                never = stop_with(&stop, shutdown.clone()) => match never {},
            }
            elector.release().await;
        }
    } else {
        term::run(environment, controller, metrics, answers, shutdown).await?;
    }
    tracing::info!("ended");
    match probes.await {
        Ok(served) => served.map_err(StartError::Serve),
        Err(_) => Ok(()),
    }
}

/// Requests the end of a term at shutdown. Never returns, because the term ends first.
async fn stop_with(term: &Stop, mut shutdown: Shutdown) -> Infallible {
    shutdown.requested().await;
    term.request();
    std::future::pending().await
}
