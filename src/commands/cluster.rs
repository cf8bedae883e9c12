//! The ID of the cluster: the uid of namespace `kube-system`, for auditors and trust policies.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client};

use crate::runtime::Shutdown;

/// A namespace that exists as long as the cluster.
const NAMESPACE: &str = "kube-system";

/// Pause between two attempts.
const RETRY: Duration = Duration::from_secs(1);

/// Retries until the API server answers or shutdown is requested. `None`: the operator has no right to read
/// it, which is logged.
pub(super) async fn cluster(client: &Client, shutdown: &mut Shutdown) -> Option<Arc<str>> {
    tokio::select! {
        cluster = ask(client) => cluster,
        () = shutdown.requested() => None,
    }
}

async fn ask(client: &Client) -> Option<Arc<str>> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    loop {
        match namespaces.get_metadata(NAMESPACE).await {
            Ok(namespace) => return namespace.metadata.uid.map(Into::into),
            Err(kube::Error::Api(status)) if matches!(status.code, 403 | 404) => {
                tracing::warn!(
                    code = status.code,
                    "cannot read namespace {NAMESPACE}: no role can be assumed for a Secret with a role-arn, and the \
                     session names of roles do not tell the cluster; grant get on it"
                );
                return None;
            }
            Err(error) => tracing::warn!(%error, "cannot read namespace {NAMESPACE}; it is tried again"),
        }
        tokio::time::sleep(RETRY).await;
    }
}
