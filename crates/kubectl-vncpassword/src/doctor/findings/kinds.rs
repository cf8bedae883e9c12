//! Findings about the kinds in the cluster.

use super::super::snapshot::{KindSnapshot, KindState, SchemaDifference};
use super::{Check, Finding, Level, finding};
use crate::{error::some_of, fetched::Fetched};
use vncpassword_core::api::VERSION;

pub(super) fn apply_kinds() -> Vec<String> {
    vec!["kubectl apply --server-side --force-conflicts -f crds/".to_owned()]
}

pub(super) fn kind(snapshot: &KindSnapshot) -> Finding {
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
