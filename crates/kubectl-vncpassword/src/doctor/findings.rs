//! From what was read to what is found: each finding with its remedy. Pure.

use std::collections::BTreeMap;

use serde::Serialize;

use super::snapshot::{
    CommandRights, DeploymentState, Identity, KindSnapshot, KindState, LeaseState, Leftover,
    OperatorSnapshot, PodState, Right, SchemaDifference, Snapshot, WatchedNamespace,
};
use crate::{
    ages::span,
    error::some_of,
    fetched::Fetched,
    text::{count, printable, quoted, relative},
};
use vncpassword_core::api::{VERSION, Whoami};

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How it is.
    pub level: Level,
    /// A sentence.
    pub text: String,
    /// What to do about it, as commands.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remedy: Vec<String>,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    /// The kinds.
    Kinds,
    /// The operator.
    Operator,
    /// Who leads.
    Leader,
    /// The namespaces that the operator watches.
    Watched,
    /// Who the operator is to the cloud, and what it may do there.
    Identity,
    /// What the caller may do.
    Rights,
    /// The caller's clock.
    Clock,
    /// Secrets that nobody needs.
    Leftovers,
}

impl Check {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Kinds => "kinds",
            Self::Operator => "operator",
            Self::Leader => "leader",
            Self::Watched => "watched",
            Self::Identity => "identity",
            Self::Rights => "rights",
            Self::Clock => "clock",
            Self::Leftovers => "leftovers",
        }
    }
}

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth a look; nothing is broken by it.
    Warn,
    /// Something is wrong.
    Fail,
    /// It cannot be told.
    Unknown,
}

impl Level {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
            Self::Unknown => "unknown",
        }
    }
}

/// So far may clocks be apart, in seconds: the header shows whole ones, and a request takes its time.
const CLOSE: u64 = 3;
/// What is asked for by `rotate-at` at such a distance starts at the wrong time, or counts as long past.
const FAR: u64 = 60;
/// What a Lease lasts where it does not say, in seconds.
const LEASE: i32 = 15;
/// Credentials that last no longer than this are about to run out, in seconds.
const SHORTLY: i64 = 300;
/// So many names stand in one command.
const NAMES: usize = 10;

/// All findings, in the order in which one rests on the other.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = snapshot.kinds.iter().map(kind).collect();
    found.extend(operator(&snapshot.operator));
    found.extend(contested(&snapshot.operator));
    found.push(leader(snapshot));
    found.extend(namespaces(&snapshot.namespaces));
    found.extend(identity(&snapshot.identity, &snapshot.operator));
    found.extend(snapshot.rights.iter().map(rights));
    found.push(clock(&snapshot.ahead));
    found.extend(leftovers(&snapshot.leftovers));
    found
}

/// Whether something is wrong.
pub fn is_wrong(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.level == Level::Fail)
}

fn finding(check: Check, level: Level, text: impl Into<String>, remedy: Vec<String>) -> Finding {
    Finding { check, level, text: text.into(), remedy }
}

fn apply_kinds() -> Vec<String> {
    vec!["kubectl apply --server-side --force-conflicts -f crds/".to_owned()]
}

fn kind(snapshot: &KindSnapshot) -> Finding {
    let plural = &snapshot.plural;
    let report = |level, text: String, remedy| finding(Check::Kinds, level, text, remedy);
    let definition = match &snapshot.definition {
        Fetched::Yes(definition) => definition,
        Fetched::Denied(_) | Fetched::Failed(_) => {
            let problem = snapshot.definition.problem().unwrap_or_default();
            return match snapshot.served {
                Fetched::Yes(true) => report(
                    Level::Unknown,
                    format!(
                        "{plural} {VERSION} is served; whether its schema is of this version is not known: {problem}"
                    ),
                    vec![],
                ),
                Fetched::Yes(false) => {
                    report(Level::Fail, format!("{plural} {VERSION} is not served"), apply_kinds())
                }
                Fetched::Denied(_) | Fetched::Failed(_) => report(
                    Level::Unknown,
                    format!("whether {plural} is there is not known: {problem}"),
                    vec![],
                ),
            };
        }
    };
    let Some(KindState { served, established, schema }) = definition else {
        return report(Level::Fail, format!("CustomResourceDefinition {plural} is not there"), apply_kinds());
    };
    match schema {
        Some(difference) if served.iter().any(|version| version == VERSION) => {
            if *established {
                compared(plural, difference)
            } else {
                let text = format!("{plural} {VERSION} is there, and the API server has not accepted it");
                let look =
                    format!("kubectl get crd {plural}.vncpassword.dev -o jsonpath='{{.status.conditions}}'");
                report(Level::Fail, text, vec![look])
            }
        }
        _ => {
            let served = if served.is_empty() { "none".to_owned() } else { served.join(", ") };
            let text = format!("{plural} is not served in version {VERSION}, but in {served}");
            report(Level::Fail, text, apply_kinds())
        }
    }
}

fn compared(plural: &str, difference: &SchemaDifference) -> Finding {
    let SchemaDifference { more, less, other, words } = difference;
    let list = |names: &std::collections::BTreeSet<String>| some_of(&names.iter().collect::<Vec<_>>(), 3);
    let report = |level, text: String, remedy| finding(Check::Kinds, level, text, remedy);
    match (more.is_empty(), less.is_empty(), other.is_empty(), words) {
        (true, true, true, false) => {
            report(Level::Ok, format!("{plural} {VERSION} is of this version"), vec![])
        }
        (true, true, true, true) => report(
            Level::Ok,
            format!("{plural} {VERSION} has the fields and rules of this version, in other words"),
            vec![],
        ),
        (true, false, _, _) => report(
            Level::Warn,
            format!(
                "{plural} {VERSION} is older than this program: it does not know {}, and drops it",
                list(less)
            ),
            apply_kinds(),
        ),
        (false, true, _, _) => report(
            Level::Warn,
            format!("{plural} {VERSION} is newer than this program, which does not know {}", list(more)),
            vec!["kubectl vncpassword --version    # and install the newer one".to_owned()],
        ),
        (false, false, _, _) => report(
            Level::Warn,
            format!(
                "{plural} {VERSION} is of another version: it lacks {}, and has {}",
                list(less),
                list(more)
            ),
            apply_kinds(),
        ),
        (true, true, false, _) => report(
            Level::Warn,
            format!("{plural} {VERSION} has other rules than this program for {}", list(other)),
            apply_kinds(),
        ),
    }
}

fn operator(snapshot: &OperatorSnapshot) -> Vec<Finding> {
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
fn contested(snapshot: &OperatorSnapshot) -> Option<Finding> {
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

fn leader(snapshot: &Snapshot) -> Finding {
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
fn namespaces(watched: &[WatchedNamespace]) -> Vec<Finding> {
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

fn identity(identity: &Identity, operator: &OperatorSnapshot) -> Vec<Finding> {
    let report = |level, text: String, remedy| finding(Check::Identity, level, text, remedy);
    let first = operator.deployments.value().and_then(|all| all.first());
    let whoami = match first {
        Some(DeploymentState { namespace, name, .. }) => format!(
            "kubectl -n {} exec deploy/{} -- vncpassword-operator whoami",
            quoted(namespace),
            quoted(name)
        ),
        None => {
            "kubectl -n vncpassword-system exec deploy/vncpassword-operator -- vncpassword-operator whoami"
                .to_owned()
        }
    };
    let unknown = "who the operator is to the cloud is not known";
    match identity {
        Identity::Reported(who) => granted(who),
        Identity::NoPod => vec![report(Level::Unknown, format!("{unknown}: no Pod of it runs"), vec![])],
        Identity::Denied(right) => vec![report(
            Level::Unknown,
            format!("{unknown}: you may not {right}; have somebody run this who may"),
            vec![whoami],
        )],
        Identity::Failed(said) => vec![report(
            Level::Fail,
            format!("the operator has no identity that the cloud takes: {}", printable(said)),
            vec![whoami],
        )],
        Identity::Unknown(why) => {
            vec![report(Level::Unknown, format!("{unknown}: {}", printable(why)), vec![whoami])]
        }
    }
}

fn granted(who: &Whoami) -> Vec<Finding> {
    let Whoami { provider, arn, expires_in_seconds, region, rights, .. } = who;
    let report = |level, text: String, remedy| finding(Check::Identity, level, text, remedy);
    let (arn, provider) = (printable(arn), printable(provider));
    let mut found = vec![match expires_in_seconds {
        Some(left) if *left <= 0 => report(
            Level::Fail,
            format!("the operator is {arn} (by {provider}), and its credentials have run out"),
            vec!["vncpassword-operator whoami".to_owned()],
        ),
        Some(left) if *left < SHORTLY => report(
            Level::Warn,
            format!(
                "the operator is {arn} (by {provider}); its credentials run out shortly, unless they are renewed"
            ),
            vec![],
        ),
        _ => report(Level::Ok, format!("the operator is {arn} (by {provider})"), vec![]),
    }];
    for right in rights {
        let action = printable(&right.action);
        let because =
            right.because.as_deref().map(|because| format!(": {}", printable(because))).unwrap_or_default();
        let place = region.as_deref().map(|region| format!(" in {}", printable(region))).unwrap_or_default();
        found.push(match right.granted {
            Some(true) => report(Level::Ok, format!("it has {action}{place}"), vec![]),
            Some(false) => report(
                Level::Fail,
                format!("it lacks {action}{place}{because}"),
                vec![
                    "vncpassword-operator ram-policy    # attach what this prints to the identity".to_owned(),
                ],
            ),
            None => report(Level::Unknown, format!("whether it has {action} is not known{because}"), vec![]),
        });
    }
    found
}

fn rights(asked: &CommandRights) -> Finding {
    let CommandRights { command, namespace, rights } = asked;
    let report = |level, text: String, remedy| finding(Check::Rights, level, text, remedy);
    let place = match namespace {
        Some(namespace) => format!(" in namespace {namespace}"),
        None => String::new(),
    };
    let missing: Vec<&Right> =
        rights.iter().filter(|(_, has)| *has == Fetched::Yes(false)).map(|(right, _)| right).collect();
    if !missing.is_empty() {
        let missing = by_verbs(&missing);
        let names: Vec<String> = missing
            .iter()
            .map(|(verbs, resources)| format!("{} on {}", verbs.join(", "), resources.join(", ")))
            .collect();
        let text = format!("for `{command}`{place} you lack {}", names.join("; "));
        return report(Level::Warn, text, grants(command, namespace.as_deref(), missing));
    }
    if let Some(problem) = rights.iter().find_map(|(_, has)| has.problem()) {
        return report(
            Level::Unknown,
            format!("whether your rights suffice for `{command}`{place} is not known: {problem}"),
            vec![],
        );
    }
    report(Level::Ok, format!("your rights suffice for `{command}`{place}"), vec![])
}

/// Resources by the verbs that are missing on them.
fn by_verbs(missing: &[&Right]) -> BTreeMap<Vec<&'static str>, Vec<String>> {
    let mut verbs: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
    for right in missing {
        verbs.entry(right.name()).or_default().push(right.verb);
    }
    let mut resources: BTreeMap<Vec<&'static str>, Vec<String>> = BTreeMap::new();
    for (resource, verbs) in verbs {
        resources.entry(verbs).or_default().push(resource);
    }
    resources
}

/// Roles with the rights, for somebody who may give them. kubectl gives all verbs of a role on all its resources, so
/// resources share one where they need the same.
fn grants(
    command: &str,
    namespace: Option<&str>,
    missing: BTreeMap<Vec<&'static str>, Vec<String>>,
) -> Vec<String> {
    let name = format!("vncpassword-{}", command.split(' ').next().unwrap_or(command));
    let (kind, place) = match namespace {
        Some(namespace) => ("role", format!(" -n {}", quoted(namespace))),
        None => ("clusterrole", String::new()),
    };
    let roles = missing.into_iter().enumerate().flat_map(|(number, (verbs, resources))| {
        let name = if number == 0 { name.clone() } else { format!("{name}-{}", number + 1) };
        let (verbs, resources) = (verbs.join(","), resources.join(","));
        [
            format!("kubectl create {kind} {name}{place} --verb={verbs} --resource={resources}"),
            format!("kubectl create {kind}binding {name}{place} --{kind}={name} --user=USER"),
        ]
    });
    roles.collect()
}

fn clock(ahead: &Fetched<i64>) -> Finding {
    let report = |level, text: String, remedy| finding(Check::Clock, level, text, remedy);
    let Some(ahead) = ahead.value() else {
        let problem = ahead.problem().unwrap_or_default();
        return report(Level::Unknown, format!("the API server's time is not known: {problem}"), vec![]);
    };
    let apart = ahead.unsigned_abs();
    if apart <= CLOSE {
        return report(Level::Ok, "this machine's clock is that of the API server".to_owned(), vec![]);
    }
    let side = if *ahead > 0 { "ahead of" } else { "behind" };
    let then = if *ahead > 0 {
        "`rotate` would start that much later"
    } else {
        "`rotate` may be taken for long past"
    };
    let text =
        format!("this machine's clock is {} {side} the API server's: {then}", span(ahead.saturating_abs()));
    let level = if apart < FAR { Level::Warn } else { Level::Fail };
    report(level, text, vec!["timedatectl set-ntp true".to_owned()])
}

fn leftovers(leftovers: &Fetched<Vec<Leftover>>) -> Vec<Finding> {
    let report = |level, text: String, remedy| finding(Check::Leftovers, level, text, remedy);
    let Some(all) = leftovers.value() else {
        let problem = leftovers.problem().unwrap_or_default();
        return vec![report(
            Level::Unknown,
            format!("whether Secrets are left over is not known: {problem}"),
            vec![],
        )];
    };
    if all.is_empty() {
        return vec![report(
            Level::Ok,
            "no Secret is left over from an instance that no VncPassword names".to_owned(),
            vec![],
        )];
    }
    let mut by_namespace: BTreeMap<&str, Vec<&Leftover>> = BTreeMap::new();
    for leftover in all {
        by_namespace.entry(&leftover.namespace).or_default().push(leftover);
    }
    let found = by_namespace.into_iter().map(|(namespace, mut secrets)| {
        secrets.sort();
        let names: Vec<&str> = secrets.iter().map(|secret| secret.name.as_str()).collect();
        let examples: Vec<String> =
            secrets.iter().map(|secret| format!("{} ({})", secret.name, secret.instance)).collect();
        let (left, them) = if secrets.len() == 1 { ("is", "it") } else { ("are", "them") };
        let text = format!(
            "{} in namespace {namespace} {left} of instances that no VncPassword there names: {}; where an instance still runs, \
             this may be the only copy of its password, so look before you delete {them}",
            count(secrets.len(), "Secret"),
            some_of(&examples, 3)
        );
        let place = quoted(namespace);
        let list = format!(
            "kubectl get secrets -n {place} -l app.kubernetes.io/managed-by=vncpassword-operator -L vncpassword.dev/instance-id"
        );
        // A command that sweeps away all at once would be run without a look.
        let some: Vec<String> = names.iter().take(NAMES).map(|name| quoted(name)).collect();
        report(Level::Warn, text, vec![list, format!("kubectl delete secret -n {place} {}", some.join(" "))])
    });
    found.collect()
}

#[cfg(test)]
mod tests;
