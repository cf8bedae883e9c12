//! Findings about the operator, its leader and the namespaces that it watches.

use super::super::snapshot::{
    DeploymentState, LeaseState, OperatorSnapshot, PodState, Snapshot, WatchedNamespace,
};
use super::{Check, Finding, Level, finding};
use crate::{
    ages::span,
    error::some_of,
    fetched::Fetched,
    text::{count, quoted, relative},
};
use std::collections::BTreeMap;

/// What a Lease lasts where it does not say, in seconds.
const LEASE: i32 = 15;

pub(super) fn operator(snapshot: &OperatorSnapshot) -> Vec<Finding> {
    let report = |level, text: String, remedy| finding(Check::Operator, level, text, remedy);
    let place = match &snapshot.namespace {
        Some(namespace) => format!("in namespace {namespace}"),
        None => "in the cluster".to_owned(),
    };
    let deployments = match &snapshot.deployments {
        Fetched::Yes(deployments) => deployments,
        Fetched::Denied(_) | Fetched::Failed(_) => {
            let problem = snapshot.deployments.problem().unwrap_or_default();
            return vec![report(
                Level::Unknown,
                format!("whether the operator runs is not known: {problem}"),
                vec![],
            )];
        }
    };
    if deployments.is_empty() {
        return vec![report(
            // Where it was looked for in one namespace only, it may be in another.
            if snapshot.namespace.is_some() { Level::Unknown } else { Level::Fail },
            format!("no Deployment labelled app.kubernetes.io/name=vncpassword-operator is {place}"),
            vec![
                "helm upgrade --install vncpassword-operator charts/vncpassword-operator --namespace vncpassword-system \
                 --create-namespace"
                    .to_owned(),
            ],
        )];
    }
    let mut found: Vec<Finding> =
        deployments.iter().map(|deployment| replicas(deployment, snapshot.pods.value())).collect();
    found.extend(several(deployments));
    found
}

/// A second operator may run where its Deployment cannot be seen, or without one: what it does to statuses shows. Nothing
/// is said where Events may not be read.
pub(super) fn contested(snapshot: &OperatorSnapshot) -> Option<Finding> {
    let contested = snapshot.contested.value().filter(|contested| !contested.is_empty())?;
    let names: Vec<String> =
        contested.iter().map(|(namespace, name)| format!("{namespace}/{name}")).collect();
    let text = format!(
        "Events report that something else changed the status of {}: {}; probably a second operator watches the same namespace",
        count(names.len(), "VncPassword"),
        some_of(&names, 3)
    );
    let (namespace, name) = contested.first()?;
    let remedy = vec![
        "kubectl get pods -A -l app.kubernetes.io/name=vncpassword-operator".to_owned(),
        format!("kubectl -n {} get vncpw {} --show-managed-fields -o yaml", quoted(namespace), quoted(name)),
    ];
    Some(finding(Check::Operator, Level::Fail, text, remedy))
}

/// Shows all operators with the names of their releases.
const DEPLOYMENTS: &str =
    "kubectl get deployments -A -l app.kubernetes.io/name=vncpassword-operator -L app.kubernetes.io/instance";

/// Two operators that watch the same namespaces rotate the same instances, and write the same statuses in turn.
fn several(deployments: &[DeploymentState]) -> Option<Finding> {
    if deployments.len() < 2 {
        return None;
    }
    let name = |deployment: &DeploymentState| format!("{}/{}", deployment.namespace, deployment.name);
    let running: Vec<&DeploymentState> = deployments.iter().filter(|found| found.wanted > 0).collect();
    let pairs = || {
        let pairs = running.iter().enumerate();
        pairs.flat_map(|(place, one)| running.iter().skip(place + 1).map(move |other| (*one, *other)))
    };
    let clashes: Vec<String> = pairs()
        .filter_map(|(one, other)| {
            Some(format!("{} and {} both watch {}", name(one), name(other), shared(one, other)?))
        })
        .collect();
    let names: Vec<String> = deployments.iter().map(name).collect();
    let names = format!("there are {}: {}", count(deployments.len(), "operator"), some_of(&names, 5));
    if let Some((one, other)) = pairs().find(|(one, other)| clashes.is_empty() && hold_one_lease(one, other))
    {
        let text = format!(
            "{} and {} share the Lease vncpassword-operator, so only one of them acts; install each in a namespace of its own",
            name(one),
            name(other)
        );
        return Some(finding(Check::Operator, Level::Fail, text, vec![DEPLOYMENTS.to_owned()]));
    }
    if clashes.is_empty() {
        let text = format!("{names}; no two of them act in the same namespace");
        return Some(finding(Check::Operator, Level::Ok, text, vec![]));
    }
    let text = format!(
        "{names}; {}: there they rotate the same instances and write the same statuses in turn. Give each its own \
         watchNamespaces, or remove one",
        some_of(&clashes, 3)
    );
    let remedy = vec![DEPLOYMENTS.to_owned()];
    Some(finding(Check::Operator, Level::Fail, text, remedy))
}

/// Whether they have Leases of their own, but hold that of the previous version as well.
fn hold_one_lease(one: &DeploymentState, other: &DeploymentState) -> bool {
    one.elects && other.elects && one.namespace == other.namespace && one.lease() != other.lease()
}

/// What both watch, where they do not agree on a leader among them.
fn shared(one: &DeploymentState, other: &DeploymentState) -> Option<String> {
    if one.elects && other.elects && one.namespace == other.namespace && one.lease() == other.lease() {
        return None;
    }
    let names = |names: &[&String]| format!("namespace {}", some_of(names, 3));
    match (one.watched.as_slice(), other.watched.as_slice()) {
        ([], []) => Some("all namespaces".to_owned()),
        ([], some) | (some, []) => Some(names(&some.iter().collect::<Vec<_>>())),
        (some, others) => {
            let both: Vec<&String> = some.iter().filter(|name| others.contains(name)).collect();
            (!both.is_empty()).then(|| names(&both))
        }
    }
}

fn replicas(deployment: &DeploymentState, pods: Option<&Vec<PodState>>) -> Finding {
    let DeploymentState { namespace, name, wanted, ready, version, .. } = deployment;
    let report = |level, text: String, remedy| finding(Check::Operator, level, text, remedy);
    let kubectl = |rest: &str| format!("kubectl -n {} {rest}", quoted(namespace));
    let full = format!("Deployment {namespace}/{name}");
    if *wanted == 0 {
        let text = format!("{full} is scaled to 0: nothing is rotated");
        return report(
            Level::Fail,
            text,
            vec![kubectl(&format!("scale deployment/{} --replicas=2", quoted(name)))],
        );
    }
    let own = pods.into_iter().flatten().filter(|pod| pod.namespace == *namespace && !pod.ready);
    let why: Vec<String> = own
        .filter_map(|pod| {
            let waiting = pod.waiting.as_ref()?;
            let restarts = match pod.restarts {
                0 => String::new(),
                many => format!(", started anew {many} times"),
            };
            Some(format!("{} ({waiting}{restarts})", pod.name))
        })
        .collect();
    let why = if why.is_empty() { String::new() } else { format!(": {}", some_of(&why, 3)) };
    let look = || {
        vec![
            kubectl(&format!("logs deployment/{} --previous --tail=5", quoted(name))),
            kubectl("describe pods -l app.kubernetes.io/name=vncpassword-operator"),
        ]
    };
    let of = match version {
        Some(version) => format!(" of version {version}"),
        None => String::new(),
    };
    if *ready <= 0 {
        report(Level::Fail, format!("no replica of {full} is ready{why}"), look())
    } else if ready < wanted {
        report(Level::Warn, format!("{ready} of {wanted} replicas of {full} are ready{why}"), look())
    } else if version.as_deref().is_some_and(|version| version != env!("CARGO_PKG_VERSION")) {
        let text = format!(
            "{full} runs{of}, this plugin is of {}: what one of them does not know the other may say",
            env!("CARGO_PKG_VERSION")
        );
        report(Level::Warn, text, vec![kubectl(&format!("get deployment/{} -o wide", quoted(name)))])
    } else {
        let replicas = count(usize::try_from(*ready).unwrap_or_default(), "replica");
        report(Level::Ok, format!("{full}{of}: {replicas} ready"), vec![])
    }
}

pub(super) fn leader(snapshot: &Snapshot) -> Finding {
    let report = |level, text: String, remedy| finding(Check::Leader, level, text, remedy);
    let none = DeploymentState::default();
    let deployments = snapshot.operator.deployments.value();
    let deployment = deployments.and_then(|all| all.first()).unwrap_or(&none);
    let leases = match &snapshot.operator.leases {
        Fetched::Yes(leases) => leases,
        Fetched::Denied(_) | Fetched::Failed(_) => {
            let problem = snapshot.operator.leases.problem().unwrap_or_default();
            return report(Level::Unknown, format!("who leads is not known: {problem}"), vec![]);
        }
    };
    // That of the operator which was found, where one was.
    let found = deployments.is_some_and(|all| !all.is_empty());
    if found && !deployment.elects && deployment.wanted > 0 {
        // A Lease of before, when it elected one, stays behind.
        return report(Level::Ok, "the operator runs alone, without --leader-elect".to_owned(), vec![]);
    }
    let lease = leases
        .iter()
        .find(|lease| !found || lease.namespace == deployment.namespace && lease.name == deployment.lease());
    let Some(lease) = lease else {
        return if deployment.wanted == 0 {
            report(
                Level::Unknown,
                "nobody leads: no operator runs, and none has held a Lease".to_owned(),
                vec![],
            )
        } else {
            let namespace = quoted(&deployment.namespace);
            report(
                Level::Fail,
                format!("no replica has taken the Lease {}", deployment.lease()),
                vec![format!(
                    "kubectl -n {namespace} logs deployment/{} | grep -i lease",
                    quoted(&deployment.name)
                )],
            )
        };
    };
    holder(lease, snapshot)
}

fn holder(lease: &LeaseState, snapshot: &Snapshot) -> Finding {
    let LeaseState { namespace, name, holder, renewed, seconds } = lease;
    let report = |level, text: String, remedy| finding(Check::Leader, level, text, remedy);
    let look = || {
        let namespace = quoted(namespace);
        vec![
            format!("kubectl -n {namespace} get lease {} -o yaml", quoted(name)),
            format!(
                "kubectl -n {namespace} logs -l app.kubernetes.io/name=vncpassword-operator --prefix | grep -i lease"
            ),
        ]
    };
    let Some(holder) = holder.as_deref().filter(|holder| !holder.is_empty()) else {
        return report(
            Level::Fail,
            format!("nobody holds the Lease in namespace {namespace}: no replica acts"),
            look(),
        );
    };
    let Some(renewed) = renewed else {
        return report(Level::Fail, format!("{holder} holds the Lease and has never renewed it"), look());
    };
    let age = snapshot.now.duration_since(*renewed).as_secs();
    let lasts = seconds.unwrap_or(LEASE);
    let when = relative(*renewed, snapshot.now);
    if age > i64::from(lasts) {
        let text = format!(
            "{holder} holds the Lease, but last renewed it {when}: it has run out after {}, and no replica acts",
            span(i64::from(lasts))
        );
        report(Level::Fail, text, look())
    } else {
        // No age: the same state is told in the same words.
        report(Level::Ok, format!("{holder} leads, and renews its Lease"), vec![])
    }
}

/// One finding for each namespace that is not served, and one for all others of an operator.
pub(super) fn namespaces(watched: &[WatchedNamespace]) -> Vec<Finding> {
    let report = |level, text: String, remedy| finding(Check::Watched, level, text, remedy);
    let mut found = Vec::new();
    let mut served: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for WatchedNamespace { operator, name, exists, lacks } in watched {
        let of = format!("namespace {name} of --watch-namespaces");
        let home = operator.split_once('/').map_or("", |(namespace, _)| namespace);
        let upgrade = format!(
            "helm upgrade vncpassword-operator charts/vncpassword-operator --namespace {} --reset-then-reuse-values",
            quoted(home)
        );
        match (exists, lacks) {
            (Fetched::Yes(false), _) => found.push(report(
                Level::Warn,
                format!("{of} is not there; Deployment {operator} serves the others"),
                vec![format!("kubectl create namespace {}", quoted(name)), upgrade],
            )),
            (_, Fetched::Yes(lacks)) if !lacks.is_empty() => found.push(report(
                Level::Fail,
                format!(
                    "Deployment {operator} may not {} in {of}: it sees no new objects and no changes there",
                    some_of(lacks, 4)
                ),
                vec![upgrade],
            )),
            (_, Fetched::Yes(_)) => served.entry(operator).or_default().push(name),
            (_, lacks) => found.push(report(
                Level::Unknown,
                format!(
                    "whether Deployment {operator} may read {of} is not known: {}",
                    lacks.problem().unwrap_or_default()
                ),
                vec![],
            )),
        }
    }
    let all = served.into_iter().map(|(operator, names)| {
        report(
            Level::Ok,
            format!("Deployment {operator} may read what it watches: {}", some_of(&names, 5)),
            vec![],
        )
    });
    found.extend(all);
    found
}
