//! Reads what `doctor` is told. What the caller may not see is said, and is no error.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Debug,
};

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::{
    NamespaceResourceScope,
    api::{
        apps::v1::Deployment,
        authorization::v1::{
            ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
            SubjectAccessReviewSpec,
        },
        coordination::v1::Lease,
        core::v1::{Container, Namespace, Pod, Secret},
        events::v1::Event,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{ListParams, PartialObjectMeta, PostParams},
};
use serde::de::DeserializeOwned;

use super::{
    rights::COMMANDS,
    schema::difference,
    snapshot::{
        CommandRights, DeploymentState, Identity, KindSnapshot, KindState, LeaseState, Leftover,
        OperatorSnapshot, PodState, Right, Snapshot, WatchedNamespace,
    },
    whoami,
};
use crate::{
    Connection, Doing, Error,
    explain::OPERATOR_NAMESPACE,
    fetched::Fetched,
    read::{self, Scope},
    server_time,
    summary::ObjectSummary,
    text::printable,
};
use vncpassword_core::api::LEASE;
use vncpassword_core::api::{FIELD_MANAGER, GROUP, INSTANCE_ID, STATUS_CONTESTED, VERSION, definitions};

/// Labels of what the chart makes.
const NAME_LABEL: &str = "app.kubernetes.io/name=vncpassword-operator";
/// Labels of the operator's Pods: the chart's test has Pods as well.
const POD_LABELS: &str = "app.kubernetes.io/name=vncpassword-operator,app.kubernetes.io/component=operator";
/// Objects a page.
const PAGE: u32 = 500;

/// Reads it all. `clock`: that of the caller.
///
/// # Errors
/// The API server cannot be asked at all.
pub async fn snapshot(
    connection: &Connection,
    operator: Option<&str>,
    clock: fn() -> Timestamp,
) -> Result<Snapshot, Error> {
    let client = &connection.client;
    // First, and alone: it is timed, and tells whether there is anybody to ask.
    let ahead = server_time::ahead(client, clock).await.map(|ahead| ahead.as_secs());
    if let Err(error @ (Error::Unreachable { .. } | Error::Unauthorized(_))) = ahead {
        return Err(error);
    }
    let ahead = Fetched::of(ahead, "get /version");
    let operator = async {
        let found = find_operator(client, operator).await;
        (found, clock())
    };
    let (kinds, (operator, at), rights, leftovers) =
        futures::join!(kinds(client), operator, rights(connection), leftovers(connection),);
    // The time of the Leases: what is asked of the Pod may take longer than one lasts.
    let off = ahead.value().copied().unwrap_or_default();
    let now = at.checked_sub(jiff::SignedDuration::from_secs(off)).unwrap_or(at);
    let (identity, namespaces) = futures::join!(identity(client, &operator), watched(client, &operator));
    Ok(Snapshot { kinds, operator, namespaces, identity, rights, ahead, leftovers, now })
}

async fn kinds(client: &Client) -> Vec<KindSnapshot> {
    let served = client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await;
    let served: Fetched<BTreeSet<String>> = match served {
        Err(kube::Error::Api(status)) if status.code == 404 => Fetched::Yes(BTreeSet::new()),
        served => {
            Fetched::of(served.map_err(|error| Error::of(Doing::core("get", "/apis"), error)), "get /apis")
                .map(|list| list.resources.into_iter().map(|resource| resource.name).collect())
        }
    };
    let read = definitions().map(|ours| {
        let served = served.clone();
        async move {
            let plural = ours.spec.names.plural.clone();
            let definition = kind(client, &ours).await;
            KindSnapshot { served: served.map(|served| served.contains(&plural)), definition, plural }
        }
    });
    join_all(read).await
}

async fn kind(client: &Client, ours: &CustomResourceDefinition) -> Fetched<Option<KindState>> {
    let name = ours.name_any();
    let found = Api::<CustomResourceDefinition>::all(client.clone()).get(&name).await;
    let doing = Doing::of("get", "customresourcedefinitions", "apiextensions.k8s.io").to(&name);
    let found = match found.map_err(|error| Error::of(doing, error)) {
        Err(Error::NotFound(_)) => Ok(None),
        found => found.map(Some),
    };
    Fetched::of(found, "get customresourcedefinitions")
        .map(|found| found.map(|theirs| compared(ours, &theirs)))
}

fn compared(ours: &CustomResourceDefinition, theirs: &CustomResourceDefinition) -> KindState {
    let schema = |definition: &CustomResourceDefinition| {
        let version = definition.spec.versions.iter().find(|version| version.name == VERSION)?;
        version.schema.clone()?.open_api_v3_schema
    };
    let conditions = theirs.status.iter().filter_map(|status| status.conditions.as_ref()).flatten();
    KindState {
        served: theirs
            .spec
            .versions
            .iter()
            .filter(|version| version.served)
            .map(|version| version.name.clone())
            .collect(),
        established: conditions
            .into_iter()
            .any(|condition| condition.type_ == "Established" && condition.status == "True"),
        schema: schema(ours).zip(schema(theirs)).map(|(ours, theirs)| difference(&ours, &theirs)),
    }
}

/// The operator: in all namespaces, or where it is by the chart's papers if those are all that may be seen.
async fn find_operator(client: &Client, namespace: Option<&str>) -> OperatorSnapshot {
    if namespace.is_none() {
        let found = operator_in(client, None).await;
        if !matches!(found.deployments, Fetched::Denied(_)) {
            return found;
        }
    }
    let home = namespace.unwrap_or(OPERATOR_NAMESPACE);
    operator_in(client, Some(home)).await
}

async fn operator_in(client: &Client, namespace: Option<&str>) -> OperatorSnapshot {
    let named = ListParams::default().labels(NAME_LABEL);
    let pods = ListParams::default().labels(POD_LABELS);
    let of_conflicts = ListParams::default().fields(&format!("reason={STATUS_CONTESTED}"));
    let (deployments, pods, events) = futures::join!(
        listed::<Deployment>(client, namespace, named, "deployments", "apps"),
        listed::<Pod>(client, namespace, pods, "pods", ""),
        listed::<Event>(client, None, of_conflicts, "events", "events.k8s.io"),
    );
    let deployments: Fetched<Vec<DeploymentState>> =
        deployments.map(|found| found.iter().map(deployment).collect());
    // An operator outside of the cluster, or one that may not be seen, has the default name as a rule.
    let mut wanted: BTreeSet<&str> =
        deployments.value().into_iter().flatten().map(DeploymentState::lease).collect();
    wanted.insert(LEASE);
    let found = join_all(wanted.into_iter().map(|name| {
        let only = ListParams::default().fields(&format!("metadata.name={name}"));
        listed::<Lease>(client, namespace, only, "leases", "coordination.k8s.io")
    }));
    let mut all = Fetched::Yes(Vec::new());
    for found in found.await {
        all = match (all, found) {
            (Fetched::Yes(mut all), Fetched::Yes(found)) => {
                all.extend(found.into_iter().map(lease_seen));
                Fetched::Yes(all)
            }
            (Fetched::Yes(_), Fetched::Denied(right)) => Fetched::Denied(right),
            (Fetched::Yes(_), Fetched::Failed(why)) => Fetched::Failed(why),
            (problem, _) => problem,
        };
    }
    OperatorSnapshot {
        deployments,
        pods: pods.map(|found| found.iter().map(pod).collect()),
        leases: all,
        namespace: namespace.map(str::to_owned),
        contested: events.map(|events| events.into_iter().filter_map(about).collect()),
    }
}

async fn listed<K>(
    client: &Client,
    namespace: Option<&str>,
    wanted: ListParams,
    resource: &'static str,
    group: &'static str,
) -> Fetched<Vec<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
{
    let api: Api<K> = match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    };
    let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    let doing = || Doing { namespace: namespace.map(str::to_owned), ..Doing::of("list", resource, group) };
    Fetched::of(read::pages(&api, wanted, doing).await, &format!("list {resource}{place}"))
}

fn deployment(found: &Deployment) -> DeploymentState {
    let spec = found.spec.as_ref();
    let containers = spec.and_then(|spec| spec.template.spec.as_ref()).map(|pod| pod.containers.as_slice());
    DeploymentState {
        namespace: found.namespace().unwrap_or_default(),
        name: found.name_any(),
        wanted: spec.and_then(|spec| spec.replicas).unwrap_or(1),
        ready: found.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default(),
        version: found.labels().get("app.kubernetes.io/version").cloned(),
        elects: containers.unwrap_or_default().iter().any(elects),
        lease: containers.unwrap_or_default().iter().find_map(|all| given(all, "--lease-name", "LEASE_NAME")),
        account: spec
            .and_then(|spec| spec.template.spec.as_ref()?.service_account_name.clone())
            .unwrap_or_else(|| "default".to_owned()),
        watched: containers.unwrap_or_default().iter().find_map(watches).unwrap_or_default(),
    }
}

/// The namespaces that a container is told to watch.
fn watches(container: &Container) -> Option<Vec<String>> {
    let names = given(container, "--watch-namespaces", "WATCH_NAMESPACES")?;
    Some(names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect())
}

/// What the operators watch, and whether they can.
async fn watched(client: &Client, operator: &OperatorSnapshot) -> Vec<WatchedNamespace> {
    let deployments = operator.deployments.value().map(Vec::as_slice).unwrap_or_default();
    let asked = deployments.iter().flat_map(|deployment| {
        deployment.watched.iter().map(move |name| async move {
            let (exists, lacks) = futures::join!(exists(client, name), lacks(client, deployment, name));
            let operator = format!("{}/{}", deployment.namespace, deployment.name);
            WatchedNamespace { operator, name: name.clone(), exists, lacks }
        })
    });
    join_all(asked).await
}

async fn exists(client: &Client, name: &str) -> Fetched<bool> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let found = namespaces.get_metadata_opt(name).await;
    let found = found.map_err(|error| Error::of(Doing::core("get", "namespaces"), error));
    Fetched::of(found, "get namespaces").map(|found| found.is_some())
}

/// What the operator needs for its watches, and may not do.
async fn lacks(client: &Client, deployment: &DeploymentState, namespace: &str) -> Fetched<Vec<String>> {
    let DeploymentState { namespace: home, account, .. } = deployment;
    let groups =
        ["system:serviceaccounts", &format!("system:serviceaccounts:{home}"), "system:authenticated"];
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let mut lacks = Vec::new();
    for (group, resource) in [("", "secrets"), (GROUP, "vncpasswords")] {
        for verb in ["list", "watch"] {
            let attributes = ResourceAttributes {
                verb: Some(verb.to_owned()),
                group: Some(group.to_owned()),
                resource: Some(resource.to_owned()),
                namespace: Some(namespace.to_owned()),
                ..ResourceAttributes::default()
            };
            let spec = SubjectAccessReviewSpec {
                user: Some(format!("system:serviceaccount:{home}:{account}")),
                groups: Some(groups.map(str::to_owned).to_vec()),
                resource_attributes: Some(attributes),
                ..SubjectAccessReviewSpec::default()
            };
            let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
            let doing = Doing::of("create", "subjectaccessreviews", "authorization.k8s.io");
            let answer = reviews.create(&PostParams::default(), &review).await;
            let answer = answer.map_err(|error| Error::of(doing, error));
            match Fetched::of(answer, "create subjectaccessreviews") {
                Fetched::Yes(review) if review.status.as_ref().is_some_and(|status| status.allowed) => {}
                Fetched::Yes(_) => lacks.push(format!("{verb} {resource}")),
                Fetched::Denied(right) => return Fetched::Denied(right),
                Fetched::Failed(why) => return Fetched::Failed(why),
            }
        }
    }
    Fetched::Yes(lacks)
}

/// The object that an Event is about.
fn about(event: Event) -> Option<(String, String)> {
    let object = event.regarding.filter(|object| object.kind.as_deref() == Some("VncPassword"))?;
    Some((object.namespace?, object.name?))
}

/// The value of a flag, as an argument or as a variable; arguments take precedence, as in the operator.
fn given(container: &Container, flag: &str, variable: &str) -> Option<String> {
    let arguments = container.args.as_deref().unwrap_or_default();
    let by_flag =
        arguments.iter().enumerate().find_map(|(place, argument)| match argument.strip_prefix(flag)? {
            "" => arguments.get(place + 1).cloned(),
            value => value.strip_prefix('=').map(str::to_owned),
        });
    let by_variable = || {
        let found = container.env.iter().flatten().find(|found| found.name == variable);
        found.and_then(|found| found.value.clone())
    };
    by_flag.or_else(by_variable).filter(|value| !value.is_empty())
}

fn elects(container: &Container) -> bool {
    let by_flag = container.args.iter().flatten().any(|argument| argument.starts_with("--leader-elect"));
    let mut variables = container.env.iter().flatten();
    by_flag
        || variables
            .any(|variable| variable.name == "LEADER_ELECT" && variable.value.as_deref() == Some("true"))
}

fn pod(found: &Pod) -> PodState {
    let status = found.status.as_ref();
    let conditions = status.and_then(|status| status.conditions.as_ref());
    let container = status.and_then(|status| status.container_statuses.as_ref()).and_then(|all| all.first());
    let waiting = container.and_then(|container| container.state.as_ref()?.waiting.as_ref()?.reason.clone());
    PodState {
        ready: conditions
            .into_iter()
            .flatten()
            .any(|condition| condition.type_ == "Ready" && condition.status == "True"),
        // One that no node takes has no container yet.
        waiting: waiting.or_else(|| status?.phase.clone().filter(|phase| phase != "Running")),
        restarts: container.map_or(0, |container| container.restart_count),
        namespace: found.namespace().unwrap_or_default(),
        name: found.name_any(),
    }
}

fn lease_seen(found: Lease) -> LeaseState {
    let (namespace, name) = (found.namespace().unwrap_or_default(), found.name_any());
    let spec = found.spec.unwrap_or_default();
    LeaseState {
        namespace,
        name,
        holder: spec.holder_identity,
        renewed: spec.renew_time.map(|at| at.0),
        seconds: spec.lease_duration_seconds,
    }
}

async fn identity(client: &Client, operator: &OperatorSnapshot) -> Identity {
    match &operator.pods {
        Fetched::Yes(pods) => match pods.iter().find(|pod| pod.ready) {
            Some(pod) => whoami::ask(client, pod).await,
            None => Identity::NoPod,
        },
        Fetched::Denied(right) => Identity::Denied(right.clone()),
        Fetched::Failed(why) => Identity::Unknown(why.clone()),
    }
}

/// What the caller may do, each right asked once.
async fn rights(connection: &Connection) -> Vec<CommandRights> {
    let all: BTreeMap<String, Right> = COMMANDS
        .iter()
        .flat_map(|(_, rights)| rights.iter())
        .map(|right| (format!("{right} {}", right.namespaced), *right))
        .collect();
    let asked = all.into_values().map(|right| async move { (right, may(connection, right).await) });
    let answers: HashMap<Right, Fetched<bool>> = join_all(asked).await.into_iter().collect();
    let answer = |right: &Right| answers.get(right).cloned().unwrap_or(Fetched::Yes(false));
    let commands = COMMANDS.iter().map(|(command, rights)| CommandRights {
        command,
        // The commands about fleets need no namespace.
        namespace: rights.iter().any(|right| right.namespaced).then(|| connection.namespace.clone()),
        rights: rights.iter().map(|right| (*right, answer(right))).collect(),
    });
    commands.collect()
}

async fn may(connection: &Connection, right: Right) -> Fetched<bool> {
    let Right { verb, group, resource, subresource, namespaced } = right;
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: subresource.map(str::to_owned),
        namespace: namespaced.then(|| connection.namespace.clone()),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let reviews: Api<SelfSubjectAccessReview> = Api::all(connection.client.clone());
    let doing = Doing::of("create", "selfsubjectaccessreviews", "authorization.k8s.io");
    let answer = reviews.create(&PostParams::default(), &review).await;
    Fetched::of(answer.map_err(|error| Error::of(doing, error)), "create selfsubjectaccessreviews")
        .map(|review| review.status.is_some_and(|status| status.allowed))
}

/// Secrets of instances that no object in their namespace names: in all namespaces, or else in the caller's.
async fn leftovers(connection: &Connection) -> Fetched<Vec<Leftover>> {
    match leftovers_in(connection, None).await {
        Fetched::Denied(_) => leftovers_in(connection, Some(&connection.namespace)).await,
        found => found,
    }
}

async fn leftovers_in(connection: &Connection, namespace: Option<&str>) -> Fetched<Vec<Leftover>> {
    let scope = Scope { namespace: namespace.map(str::to_owned), selector: None };
    let secrets: Api<Secret> = scope.api(connection);
    let made =
        ListParams::default().labels(&format!("app.kubernetes.io/managed-by={FIELD_MANAGER},{INSTANCE_ID}"));
    let place = namespace.map(|namespace| format!(" in namespace {namespace}")).unwrap_or_default();
    // Secrets first: an object that is made meanwhile is then seen, and its Secret is not taken for left over.
    let secrets = match metadata(&secrets, made).await {
        Ok(secrets) => secrets,
        Err(kube::Error::Api(status)) if status.code == 403 => {
            return Fetched::Denied(format!("list secrets{place}"));
        }
        Err(error) => return Fetched::Failed(printable(&error.to_string())),
    };
    let objects = match read::all(connection, &scope).await {
        // Not every Secret is left over then: the kinds may come back, and their objects with them.
        Err(Error::KindsMissing(_)) => return Fetched::Failed("the kinds are not installed".to_owned()),
        objects => Fetched::of(objects, &format!("list vncpasswords{place}")),
    };
    objects.map(|objects| left_over(secrets, &objects))
}

/// Those that no object needs: none names the instance they were made for, and none names them, for a password or for an
/// identity. The label with the instance is from when the Secret was made, and says nothing of who uses it since.
fn left_over(secrets: Vec<PartialObjectMeta<Secret>>, objects: &[ObjectSummary]) -> Vec<Leftover> {
    let (mut instances, mut used) = (BTreeSet::new(), BTreeSet::new());
    for object in objects {
        let namespace = object.namespace().unwrap_or_default();
        let credentials = object.spec.credentials_ref.as_ref().map(|credentials| credentials.name.clone());
        used.extend(credentials.map(|name| (namespace.clone(), name)));
        used.insert((namespace.clone(), object.spec.secret_ref.name.clone()));
        instances.insert((namespace, object.spec.instance_id.clone()));
    }
    let found = secrets.into_iter().filter_map(|secret| {
        let namespace = secret.metadata.namespace?;
        let name = secret.metadata.name?;
        let instance = secret.metadata.labels?.remove(INSTANCE_ID)?;
        let needed = instances.contains(&(namespace.clone(), instance.clone()))
            || used.contains(&(namespace.clone(), name.clone()));
        (!needed).then_some(Leftover { namespace, name, instance })
    });
    found.collect()
}

/// The metadata of all objects that fit, page by page: of a Secret nothing else may come here.
async fn metadata<K>(api: &Api<K>, wanted: ListParams) -> Result<Vec<PartialObjectMeta<K>>, kube::Error>
where
    K: Clone + DeserializeOwned + Debug,
{
    let mut found = Vec::new();
    let mut page = wanted.limit(PAGE);
    loop {
        let answer = api.list_metadata(&page).await?;
        found.extend(answer.items);
        match answer.metadata.continue_.filter(|next| !next.is_empty()) {
            Some(next) => page = page.continue_token(&next),
            None => return Ok(found),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::summary::tests::object_summary;

    #[test]
    fn a_secret_that_an_object_names_is_never_left_over() {
        let made = |name: &str, instance: &str| -> PartialObjectMeta<Secret> {
            let labels = json!({INSTANCE_ID: instance});
            let metadata = json!({"name": name, "namespace": "prod", "labels": labels});
            serde_json::from_value(json!({"metadata": metadata})).unwrap()
        };
        let secrets = vec![
            made("of-its-instance", "i-a"),
            // The instance was replaced, or another key of the same Secret is an other's.
            made("taken-over", "i-gone"),
            made("keys", "i-gone"),
            made("nobodys", "i-gone"),
        ];
        let objects = [
            object_summary("a", &json!({}), &json!({})),
            object_summary("b", &json!({"secretRef": {"name": "taken-over", "key": "password"}}), &json!({})),
            object_summary("c", &json!({"credentialsRef": {"name": "keys"}}), &json!({})),
        ];
        let names: Vec<String> = left_over(secrets, &objects).into_iter().map(|found| found.name).collect();
        assert_eq!(names, ["nobodys"]);
    }
}
