//! `run`: puts the parts together and waits for the end.

use std::sync::Arc;

use tokio::net::TcpListener;

use super::{Metrics, Readiness, Settings, Shutdown, http};
use crate::{controller, ecs};

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
    /// The cloud client cannot be made.
    #[error("cannot make the ECS client: {0}")]
    Ecs(#[from] ecs::BuildError),
    /// The controller could not go on.
    #[error(transparent)]
    Controller(#[from] controller::Error),
}

/// Runs the operator until shutdown is asked for.
///
/// # Errors
/// See [`StartError`].
pub async fn run(
    settings: Settings,
    client: kube::Client,
    credentials: Arc<dyn ecs::credentials::Provider>,
    shutdown: Shutdown,
) -> Result<(), StartError> {
    let Settings { controller, ecs, http_addr: address } = settings;
    let ecs = ecs::Client::new(ecs, credentials)?;
    let listener =
        TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
    let (metrics, readiness) = (Arc::<Metrics>::default(), Readiness::default());
    let probes =
        tokio::spawn(http::serve(listener, Arc::clone(&metrics), readiness.clone(), shutdown.clone()));
    tracing::info!(%address, "started");
    controller::run(client, ecs, controller, metrics, readiness, shutdown).await?;
    tracing::info!("ended");
    match probes.await {
        Ok(served) => served.map_err(StartError::Serve),
        Err(_) => Ok(()),
    }
}
