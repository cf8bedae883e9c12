//! A plan as text: a table of instances, and what there is to say of them. Pure.

use std::fmt::Write;

use serde::Serialize;

use super::forecast::{Fate, Forecast, Planned, Rollout};
use crate::{
    ages::span,
    error::some_of,
    explain::skip_reason,
    output::{Column, Table},
    text::{count, printable, sentence, wrap},
};

/// So many instances are shown, unless all are asked for.
const SHOWN: usize = 20;
/// So many names stand in a sentence.
const NAMED: usize = 5;

/// All that is told.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the fleet would do.
    #[serde(flatten)]
    pub forecast: Forecast,
    /// What the API server says of the object.
    pub verdict: Verdict,
    /// Calls a minute, where they were given.
    pub rate: Option<f64>,
}

/// What the API server says of the object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "apiServer", content = "said")]
pub enum Verdict {
    /// It would take it.
    Takes,
    /// It refuses it: why.
    Refuses(String),
    /// It was not asked, or did not say: why.
    NotAsked(String),
}

impl Verdict {
    /// Whether it is refused.
    pub fn refuses(&self) -> bool {
        matches!(self, Self::Refuses(_))
    }
}

/// The objects that would be the fleet's, as kubectl takes them.
pub fn names(forecast: &Forecast) -> String {
    let ours = |planned: &&Planned| matches!(planned.fate, Fate::New | Fate::Kept | Fate::Contended(_));
    let instances = forecast.instances.iter().flatten().filter(ours);
    let names: Vec<String> =
        instances.map(|planned| format!("vncpassword.vncpassword.dev/{}\n", planned.name)).collect();
    names.concat()
}

/// The report for people. `terminal`: its width, which a table keeps to; sentences keep to that or to `usual`.
pub fn text(report: &Report, all: bool, terminal: Option<usize>, usual: usize) -> String {
    let Report { forecast, verdict, rate } = report;
    let width = terminal.unwrap_or(usual);
    let lines = |sentence: &String| sentence.lines().map(|line| wrap(line, width, "  ")).collect::<String>();
    let mut text = lines(&head(forecast));
    let table = forecast.instances.as_ref().filter(|instances| !instances.is_empty()).map(|instances| {
        let table = table(instances, all).text(terminal);
        let more = instances.len().saturating_sub(if all { usize::MAX } else { SHOWN });
        let more = if more > 0 { format!("and {more} more; -o wide shows all\n") } else { String::new() };
        format!("\n{table}{more}\n")
    });
    if let Some(table) = table {
        text.push_str(&table);
    } else {
        text.push('\n');
    }
    let mut sentences = left_out(forecast);
    sentences.extend(forecast.rollout.as_ref().map(|rollout| pace(rollout, *rate)).unwrap_or_default());
    sentences.extend(forecast.obstacles.iter().map(|obstacle| sentence(obstacle)));
    sentences.extend(forecast.unknown.iter().map(|unknown| format!("Not known: {}.", printable(unknown))));
    sentences.push(said(verdict));
    text.extend(sentences.iter().map(lines));
    text
}

fn head(forecast: &Forecast) -> String {
    let Forecast { fleet, target_namespace, exists, instances, .. } = forecast;
    let Some(instances) = instances else {
        return format!("ClusterVncPassword {fleet}: which instances it would take is not known.");
    };
    let number = |is: fn(&Fate) -> bool| instances.iter().filter(|planned| is(&planned.fate)).count();
    let all = [
        (number(|fate| matches!(fate, Fate::New | Fate::Contended(_))), "new"),
        (number(|fate| matches!(fate, Fate::Kept)), "kept"),
        (number(|fate| matches!(fate, Fate::Elsewhere(_))), "left to others"),
        (number(|fate| matches!(fate, Fate::NameTaken(_))), "whose name is taken"),
    ];
    let some: Vec<String> = all
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, what)| format!("{number} {what}"))
        .collect();
    let some = if some.is_empty() { String::new() } else { format!(": {}", some.join(", ")) };
    let at_most = if forecast.at_most { "at most " } else { "" };
    let new = if *exists { "which exists, would become one that" } else { "which does not exist yet," };
    format!(
        "ClusterVncPassword {fleet}, {new} selects {at_most}{}{some}. Its VncPasswords and Secrets are in namespace {target_namespace}.",
        count(instances.len(), "instance")
    )
}

fn table(instances: &[Planned], all: bool) -> Table {
    let mut table = Table::new(vec![
        Column::new("INSTANCE"),
        Column::expendable("REGION", 2),
        Column::expendable("VNCPASSWORD", 1),
        Column::new("WHAT BECOMES OF IT"),
    ]);
    let shown = if all { instances.len() } else { SHOWN };
    for planned in instances.iter().take(shown) {
        let Planned { instance, region, name, fate, .. } = planned;
        let region = region.clone().unwrap_or_else(|| "the operator's".to_owned());
        table.row(vec![instance.clone(), region, name.clone(), becomes(fate)]);
    }
    table
}

fn becomes(fate: &Fate) -> String {
    match fate {
        Fate::New => "new".to_owned(),
        Fate::Kept => "kept".to_owned(),
        Fate::Elsewhere(other) => format!("left to {other}"),
        Fate::NameTaken(other) => format!("Conflict: {other} is not this fleet's"),
        Fate::Contended(fleet) => format!("new, unless fleet {fleet} is first"),
    }
}

/// What the selector names and the fleet does not take.
fn left_out(forecast: &Forecast) -> Vec<String> {
    let Forecast { skipped_nodes, excluded, untagged, unseen, pruned, doubted, .. } = forecast;
    let mut sentences = Vec::new();
    let mut say = |ids: &[String], what: &str| {
        if !ids.is_empty() {
            sentences.push(format!("{} {what}: {}.", count(ids.len(), "instance"), some_of(ids, NAMED)));
        }
    };
    say(excluded, "left out by spec.exclude");
    say(untagged, "left out for want of spec.requireTags");
    say(unseen, "that the cloud does not show you, so whether the tags are there is not known");
    say(pruned, "not selected any more, whose VncPassword goes as spec.prune says");
    if *doubted {
        sentences.push(
            "So many would go that the operator waits until the same answer has come three times, over ten minutes at least."
                .to_owned(),
        );
    }
    if !skipped_nodes.is_empty() {
        let mut text = format!(
            "{} no instance:",
            match skipped_nodes.len() {
                1 => "1 Node stands for".to_owned(),
                many => format!("{many} Nodes stand for"),
            }
        );
        for skipped in skipped_nodes.iter().take(NAMED) {
            let _ = write!(text, "\n- {} {}", skipped.node, skip_reason(skipped.reason));
        }
        if skipped_nodes.len() > NAMED {
            let _ = write!(text, "\n- and {} more", skipped_nodes.len() - NAMED);
        }
        sentences.push(text);
    }
    sentences
}

/// In how many waves, and how long.
fn pace(rollout: &Rollout, rate: Option<f64>) -> Vec<String> {
    let Rollout { first, all, wave, waves, waves_of_all, seconds, seconds_of_all, ends, overruns, restarts } =
        rollout;
    let mut sentences = Vec::new();
    let at_once = format!("at most {wave} at once");
    let takes = |seconds: &Option<u64>| {
        let seconds = seconds.map(|seconds| span(i64::try_from(seconds).unwrap_or(i64::MAX)));
        seconds.map(|length| format!(", about {length}")).unwrap_or_default()
    };
    if *first == 0 {
        sentences.push("No instance gets a first password.".to_owned());
    } else {
        sentences.push(format!(
            "First passwords: {}, in {}, {at_once}{}. They begin as soon as the fleet is applied, whatever spec.window says{}.",
            count(*first, "instance"),
            count(*waves, "wave"),
            takes(seconds),
            ends.map(|ends| format!(", and end at about {}", ends.strftime("%FT%TZ"))).unwrap_or_default()
        ));
    }
    if *all > 0 && all != first {
        sentences.push(format!(
            "A rollout of all: {}, in {}{}.",
            count(*all, "instance"),
            count(*waves_of_all, "wave"),
            takes(seconds_of_all)
        ));
    }
    if let Some(overrun) = overruns {
        sentences.push(format!(
            "A scheduled rollout does not fit one opening of spec.window: one that begins at {} ends at {}.",
            overrun.opens.strftime("%FT%TZ"),
            overrun.ends.strftime("%FT%TZ")
        ));
    }
    match rate {
        Some(rate) => sentences.push(format!(
            "That is at {rate}/min, one call for each instance, with no other use of the account's limit{}.",
            if *restarts { "; restarts take their time besides" } else { "" }
        )),
        None if *all > 0 => sentences.push(
            "How long that takes is up to the cloud's limit of calls for your account, which the operator finds out as it goes; \
             --rate N/min tells it for a limit that you know."
                .to_owned(),
        ),
        None => {}
    }
    sentences
}

fn said(verdict: &Verdict) -> String {
    match verdict {
        Verdict::Takes => "The API server would take it (dry run). Nothing was changed.".to_owned(),
        Verdict::Refuses(why) => {
            let lines: Vec<String> = why.lines().map(|line| format!("- {line}")).collect();
            format!("The API server refuses it:\n{}", lines.join("\n"))
        }
        Verdict::NotAsked(why) => {
            format!("Whether the API server would take it is not known: {why}. Nothing was changed.")
        }
    }
}

#[cfg(test)]
mod tests;
