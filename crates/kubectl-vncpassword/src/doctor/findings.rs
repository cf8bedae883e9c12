//! From what was read to what is found: each finding with its remedy. Pure.

mod access;
mod kinds;
mod operator;

use serde::Serialize;

use super::snapshot::{Leftover, Snapshot};
use crate::{
    ages::span,
    error::some_of,
    fetched::Fetched,
    text::{count, quoted},
};
use std::collections::BTreeMap;

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
/// So many names stand in one command.
const NAMES: usize = 10;

/// All findings, in the order in which one rests on the other.
pub fn findings(snapshot: &Snapshot) -> Vec<Finding> {
    let mut found: Vec<Finding> = snapshot.kinds.iter().map(kinds::kind).collect();
    found.extend(operator::operator(&snapshot.operator));
    found.extend(operator::contested(&snapshot.operator));
    found.push(operator::leader(snapshot));
    found.extend(operator::namespaces(&snapshot.namespaces));
    found.extend(access::identity(&snapshot.identity, &snapshot.operator));
    found.extend(snapshot.rights.iter().map(access::rights));
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
