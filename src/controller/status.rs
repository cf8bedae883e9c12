//! Writing the status: by server-side apply, under the version that was decided on.

use kube::{
    Client,
    api::{Patch, PatchParams},
    core::Request,
};
use serde::Serialize;

use super::{
    error::Error,
    object::{Incoming, Key, Object},
};
use crate::api::{FIELD_MANAGER, GROUP, VERSION, VncPasswordStatus};

/// How a write ended.
pub(super) enum Written {
    /// The object as it is now.
    Done(Object),
    /// Somebody else has changed the object since.
    Conflict,
    /// The object is gone.
    Gone,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Apply<'a> {
    api_version: String,
    kind: &'static str,
    metadata: Precondition<'a>,
    status: &'a VncPasswordStatus,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Precondition<'a> {
    name: &'a str,
    uid: &'a str,
    resource_version: &'a str,
}

/// Writes the status of this version of the object.
pub(super) async fn write(
    client: &Client,
    object: &Object,
    status: &VncPasswordStatus,
) -> Result<Written, Error> {
    let apply = Apply {
        api_version: format!("{GROUP}/{VERSION}"),
        kind: "VncPassword",
        metadata: Precondition {
            name: &object.key.name,
            uid: &object.uid,
            resource_version: &object.resource_version,
        },
        status,
    };
    let failed = |source| Error::WriteStatus { object: object.key.clone(), source: Box::new(source) };
    let request = Request::new(path(&object.key))
        .patch_subresource(
            "status",
            &object.key.name,
            &PatchParams::apply(FIELD_MANAGER).force(),
            &Patch::Apply(apply),
        )
        .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    match client.request::<Incoming>(request).await {
        Ok(incoming) => Ok(Written::Done(incoming.into())),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Written::Conflict),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        Err(source) => Err(failed(source)),
    }
}

/// Reads the object afresh; `None`: it is gone.
pub(super) async fn read(client: &Client, key: &Key) -> Result<Option<Object>, Error> {
    let failed = |source| Error::ReadObject { object: key.clone(), source: Box::new(source) };
    let request = Request::new(path(key))
        .get(&key.name, &kube::api::GetParams::default())
        .map_err(|error| failed(kube::Error::BuildRequest(error)))?;
    match client.request::<Incoming>(request).await {
        Ok(incoming) => Ok(Some(incoming.into())),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

fn path(key: &Key) -> String {
    format!("/apis/{GROUP}/{VERSION}/namespaces/{}/vncpasswords", key.namespace)
}
