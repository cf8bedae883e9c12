//! Replaces the status by PUT with the `resourceVersion` of the decision (DESIGN.md, R58).

use kube::{Client, api::PostParams, core::Request};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    reconcile::Error,
    store::object::{FleetObject, IncomingFleet, IncomingObject, Key, Object},
};
use vncpassword_core::api::{ClusterVncPasswordStatus, FIELD_MANAGER, GROUP, VERSION, VncPasswordStatus};

/// The result of a write.
pub(crate) enum Written<T = Object> {
    /// The new version of the object.
    Done(T),
    /// The object has changed since.
    Conflict,
    /// The object is gone.
    Gone,
}

/// The object whose status is replaced. The API server takes the spec and the rest of the metadata from what
/// it has.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Replacement<'a, S> {
    api_version: String,
    kind: &'static str,
    metadata: Precondition<'a>,
    status: &'a S,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Precondition<'a> {
    name: &'a str,
    uid: &'a str,
    resource_version: &'a str,
}

/// Replaces the status of this version of the object.
pub(crate) async fn write(
    client: &Client,
    object: &Object,
    status: &VncPasswordStatus,
) -> Result<Written, Error> {
    let metadata =
        Precondition { name: &object.key.name, uid: &object.uid, resource_version: &object.resource_version };
    let written =
        replace::<IncomingObject, _>(client, path(&object.key), "VncPassword", metadata, status).await;
    written.map_err(|source| Error::WriteStatus { object: object.key.clone(), source: Box::new(source) })
}

/// Replaces the status of this version of the fleet.
pub(crate) async fn write_fleet(
    client: &Client,
    fleet: &FleetObject,
    status: &ClusterVncPasswordStatus,
) -> Result<Written<FleetObject>, Error> {
    let metadata =
        Precondition { name: &fleet.name, uid: &fleet.uid, resource_version: &fleet.resource_version };
    let path = format!("/apis/{GROUP}/{VERSION}/clustervncpasswords");
    let written = replace::<IncomingFleet, _>(client, path, "ClusterVncPassword", metadata, status).await;
    written.map_err(|source| Error::WriteFleet { fleet: fleet.name.clone(), source: Box::new(source) })
}

async fn replace<I, O>(
    client: &Client,
    path: String,
    kind: &'static str,
    metadata: Precondition<'_>,
    status: &(impl Serialize + Sync),
) -> Result<Written<O>, kube::Error>
where
    I: Into<O> + DeserializeOwned,
{
    let name = metadata.name;
    let body = Replacement { api_version: format!("{GROUP}/{VERSION}"), kind, metadata, status };
    let body = serde_json::to_vec(&body).map_err(kube::Error::SerdeError)?;
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let request = Request::new(path)
        .replace_subresource("status", name, &parameters, body)
        .map_err(kube::Error::BuildRequest)?;
    match client.request::<I>(request).await {
        Ok(incoming) => Ok(Written::Done(incoming.into())),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Written::Conflict),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        Err(source) => Err(source),
    }
}

/// Reads the object afresh; `None`: it is gone.
pub(crate) async fn read(client: &Client, key: &Key) -> Result<Option<Object>, Error> {
    let failed = |source| Error::ReadObject { object: key.clone(), source: Box::new(source) };
    let request = Request::new(path(key))
        .get(&key.name, &kube::api::GetParams::default())
        .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    match client.request::<IncomingObject>(request).await {
        Ok(incoming) => Ok(Some(incoming.into())),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

fn path(key: &Key) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{}/vncpasswords", key.namespace)
}
