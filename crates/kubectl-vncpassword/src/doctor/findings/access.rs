//! Findings about the operator's cloud identity and the rights of the caller.

use super::super::snapshot::{CommandRights, DeploymentState, Identity, OperatorSnapshot, Right};
use super::{Check, Finding, Level, finding};
use crate::{
    fetched::Fetched,
    text::{printable, quoted},
};
use std::collections::BTreeMap;
use vncpassword_core::api::Whoami;

/// Credentials that last no longer than this are about to run out, in seconds.
const SHORTLY: i64 = 300;

pub(super) fn identity(identity: &Identity, operator: &OperatorSnapshot) -> Vec<Finding> {
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

pub(super) fn rights(asked: &CommandRights) -> Finding {
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
