//! Reads what `plan` is told of the cluster, and asks the API server what it would say of the object.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Node};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, Patch, PatchParams, PostParams, ValidationDirective},
    core::{ApiResource, NotUsed, Object, Request},
};
use serde::Deserialize;
use serde_json::Value;

use super::{
    forecast::{NodeSeen, ObjectState, OtherFleet, Snapshot},
    input::Input,
    render::Verdict,
};
use crate::{
    Connection, Doing, Error,
    fetched::Fetched,
    read::{self, Scope},
    summary::ObjectSummary,
    text::printable,
};
use vncpassword_core::api::{ClusterVncPassword, ClusterVncPasswordSpec};

/// Who writes, as far as the API server is concerned; nothing is written.
const MANAGER: &str = "kubectl-vncpassword";

/// What there is in the cluster, and what the API server says of the object. The cloud is not asked yet.
pub async fn snapshot(
    connection: &Connection,
    input: &Input,
    rate: Option<f64>,
    now: Timestamp,
) -> Result<(Snapshot, Verdict), Error> {
    let spec = input.fleet.spec.clone();
    let name = input.fleet.name_any();
    let everywhere = Scope { namespace: None, selector: None };
    let (fleets, objects, namespace, verdict) = futures::join!(
        read::fleets(connection),
        read::all(connection, &everywhere),
        namespace(&connection.client, &spec.target_namespace),
        verdict(&connection.client, &name, &input.written),
    );
    // Without the kinds, or an API server, there is nothing to hold the object against.
    if let Err(error @ (Error::KindsMissing(_) | Error::Unreachable { .. } | Error::Unauthorized(_))) = fleets
    {
        return Err(error);
    }
    let fleets = Fetched::of(fleets, "list clustervncpasswords");
    let exists = match &fleets {
        Fetched::Yes(all) => Fetched::Yes(uid(all, &name)),
        Fetched::Denied(_) | Fetched::Failed(_) => exists(connection, &name).await,
    };
    let others: Fetched<Vec<OtherFleet>> = fleets.map(|all| {
        let others = all.into_iter().filter(|fleet| fleet.name_any() != name);
        others.map(|fleet| OtherFleet { name: fleet.name_any(), spec: fleet.spec }).collect()
    });
    let by_nodes = |spec: &ClusterVncPasswordSpec| spec.node_selector.is_some();
    let wanted = by_nodes(&spec) || others.value().into_iter().flatten().any(|other| by_nodes(&other.spec));
    let nodes = if wanted { Some(nodes(&connection.client).await) } else { None };
    let objects = Fetched::of(objects, "list vncpasswords in all namespaces");
    let objects = objects.map(|objects| objects.into_iter().map(object).collect());
    let snapshot =
        Snapshot { name, spec, exists, nodes, cloud: None, objects, fleets: others, namespace, rate, now };
    Ok((snapshot, verdict))
}

fn uid(fleets: &[ClusterVncPassword], name: &str) -> Option<String> {
    fleets.iter().find(|fleet| fleet.name_any() == name).and_then(ResourceExt::uid)
}

async fn exists(connection: &Connection, name: &str) -> Fetched<Option<String>> {
    match read::fleet(connection, name).await {
        Err(Error::NotFound(_)) => Fetched::Yes(None),
        fleet => Fetched::of(fleet, "get clustervncpasswords").map(|fleet| fleet.uid()),
    }
}

fn object(object: ObjectSummary) -> ObjectState {
    let owner = object.owner_references().iter().find(|owner| owner.controller == Some(true));
    ObjectState {
        owner: owner.map(|owner| owner.uid.clone()),
        fleet: object.fleet().map(str::to_owned),
        namespace: object.namespace().unwrap_or_default(),
        name: object.name_any(),
        instance: object.spec.instance_id,
    }
}

/// Of a Node its instance, and nothing else.
#[derive(Clone, Debug, Default, Deserialize)]
struct Provided {
    #[serde(default, rename = "providerID")]
    provider_id: Option<String>,
}

async fn nodes(client: &Client) -> Fetched<Vec<NodeSeen>> {
    let nodes: Api<Object<Provided, NotUsed>> =
        Api::all_with(client.clone(), &ApiResource::erase::<Node>(&()));
    let doing = || Doing::core("list", "nodes");
    let found = read::pages(&nodes, ListParams::default(), doing).await;
    Fetched::of(found, "list nodes").map(|nodes| {
        let object = nodes.into_iter().map(|node| NodeSeen {
            name: node.name_any(),
            labels: node.metadata.labels.unwrap_or_default(),
            provider_id: node.spec.provider_id,
        });
        object.collect()
    })
}

async fn namespace(client: &Client, name: &str) -> Fetched<bool> {
    let doing = Doing::core("get", "namespaces").to(name);
    let found = Api::<Namespace>::all(client.clone()).get_metadata(name).await;
    match found.map_err(|error| Error::of(doing, error)) {
        Err(Error::NotFound(_)) => Fetched::Yes(false),
        found => Fetched::of(found, "get namespaces").map(|_| true),
    }
}

/// What the API server says of the object, without keeping it.
async fn verdict(client: &Client, name: &str, written: &Value) -> Verdict {
    match create(client, written).await {
        // It is there: what is asked then is whether it may become this.
        Err(kube::Error::Api(status)) if status.code == 409 => said(change(client, name, written).await),
        created => said(created),
    }
}

async fn create(client: &Client, written: &Value) -> Result<Value, kube::Error> {
    let parameters = PostParams { dry_run: true, field_manager: Some(MANAGER.to_owned()) };
    let data = serde_json::to_vec(written).map_err(kube::Error::SerdeError)?;
    let mut request = Request::new(ClusterVncPassword::url_path(&(), None))
        .create(&parameters, data)
        .map_err(kube::Error::BuildRequest)?;
    // kube's own parameters of a creation do not have it.
    let strict = format!("{}&fieldValidation=Strict", request.uri());
    if let Ok(uri) = strict.parse() {
        *request.uri_mut() = uri;
    }
    client.request(request).await
}

async fn change(client: &Client, name: &str, written: &Value) -> Result<Value, kube::Error> {
    let parameters = PatchParams {
        dry_run: true,
        force: true,
        field_manager: Some(MANAGER.to_owned()),
        field_validation: Some(ValidationDirective::Strict),
    };
    let request = Request::new(ClusterVncPassword::url_path(&(), None))
        .patch(name, &parameters, &Patch::Apply(written))
        .map_err(kube::Error::BuildRequest)?;
    client.request(request).await
}

fn said(answer: Result<Value, kube::Error>) -> Verdict {
    match answer {
        Ok(_) => Verdict::Takes,
        // Who lacks the right is told so in these words; an admission policy says something else.
        Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(" cannot ") => {
            let verb = if status.message.contains("cannot patch") { "patch" } else { "create" };
            Verdict::NotAsked(format!("you may not {verb} clustervncpasswords"))
        }
        Err(kube::Error::Api(status)) if (400..500).contains(&status.code) => {
            Verdict::Refuses(causes(&status.message, status.details.as_ref()))
        }
        Err(error) => Verdict::NotAsked(printable(&error.to_string())),
    }
}

/// The message, and each cause on its own line where there are several.
fn causes(message: &str, details: Option<&kube::core::response::StatusDetails>) -> String {
    let mut causes: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for cause in details.iter().flat_map(|details| &details.causes) {
        causes.entry(&cause.field).or_default().push(&cause.message);
    }
    if causes.is_empty() {
        return printable(message);
    }
    let lines = causes.iter().map(|(field, messages)| format!("{field}: {}", messages.join("; ")));
    printable(&lines.collect::<Vec<_>>().join("\n"))
}
