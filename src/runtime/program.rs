//! `run`: puts the parts together and waits for the end.

use std::{ffi::OsString, sync::Arc};

use tokio::net::TcpListener;

use super::{
    Metrics, Readiness, Settings, Shutdown,
    cloud::{CloudError, cloud},
    cluster::cluster,
    http,
};
use crate::{
    controller::{self, Ambient},
    ecs::credentials::SessionName,
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
    Cloud(#[from] CloudError),
    /// The controller could not go on.
    #[error(transparent)]
    Controller(#[from] controller::Error),
}

/// Runs the operator until shutdown is asked for. `lookup` reads the environment, for credentials.
///
/// # Errors
/// See [`StartError`].
pub async fn run(
    settings: Settings,
    client: kube::Client,
    lookup: impl Fn(&str) -> Option<OsString>,
    mut shutdown: Shutdown,
) -> Result<(), StartError> {
    let Settings { controller, cloud: reached, namespace, http_addr: address } = settings;
    let listener =
        TcpListener::bind(address).await.map_err(|source| StartError::Listen { address, source })?;
    let (metrics, readiness) = (Arc::<Metrics>::default(), Readiness::default());
    let probes =
        tokio::spawn(http::serve(listener, Arc::clone(&metrics), readiness.clone(), shutdown.clone()));
    tracing::info!(%address, "started");
    if controller.ambient == Ambient::Everywhere {
        tracing::warn!(
            "every namespace may use the operator's own identity: whoever may write a VncPassword can set the \
             console password of any instance that it has a right to (--ambient-credentials-namespaces)"
        );
    }
    let cluster = cluster(&client, &mut shutdown).await;
    let cloud = cloud(reached, lookup, SessionName::of(cluster.as_deref(), &namespace))?;
    controller::run(client, cloud, cluster, controller, metrics, readiness, shutdown).await?;
    tracing::info!("ended");
    match probes.await {
        Ok(served) => served.map_err(StartError::Serve),
        Err(_) => Ok(()),
    }
}
