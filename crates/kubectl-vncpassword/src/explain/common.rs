//! What is said of both kinds in the same words: conditions, window, events, remedies.

use jiff::Timestamp;

use super::{
    advice::{Actor, Advice},
    view::EventSummary,
};
use crate::{
    fetched::Fetched,
    text::{Paragraph, Topic, moment, printable, relative, sentence},
};
use vncpassword_core::{
    api::{Condition, ConditionStatus, ConditionType, Reason},
    rotation::schedule,
};

/// So many events are told, the newest.
const EVENTS: usize = 8;

/// How it stands, and what else holds.
pub fn conditions(
    conditions: &[Condition],
    observed: Option<i64>,
    generation: Option<i64>,
    now: Timestamp,
) -> Vec<Paragraph> {
    let mut paragraphs = Vec::new();
    if conditions.is_empty() {
        let text = "It has no status yet: no operator has looked at it. That takes a second where one runs.";
        paragraphs.push(Paragraph::new(Topic::State, text));
        return paragraphs;
    }
    if observed < generation {
        let text = "The spec has changed since: what follows was decided on the one before. An operator that runs takes a second to \
                    see it.";
        paragraphs.push(Paragraph::new(Topic::State, text));
    }
    let mut said: Vec<&str> = Vec::new();
    for condition in sorted(conditions) {
        let topic = if condition.type_ == ConditionType::Ready { Topic::State } else { Topic::Condition };
        // Ready and the condition beside it mostly say the same.
        let message = if said.contains(&condition.message.as_str()) { "" } else { &condition.message };
        said.push(&condition.message);
        paragraphs.push(Paragraph::new(topic, state(condition, message, now)));
    }
    paragraphs
}

/// `Ready` first.
fn sorted(conditions: &[Condition]) -> Vec<&Condition> {
    let mut sorted: Vec<&Condition> = conditions.iter().collect();
    sorted.sort_by_key(|condition| condition.type_ != ConditionType::Ready);
    sorted
}

fn state(condition: &Condition, message: &str, now: Timestamp) -> String {
    let Condition { type_, status, reason, last_transition_time, .. } = condition;
    let since = moment(last_transition_time.0, now);
    let head = match type_ {
        ConditionType::Ready => {
            format!("Ready is {}, reason {}, since {since}", status.as_str(), reason.as_str())
        }
        ConditionType::Reconciling => {
            format!(
                "Something is under way or tried again by itself (Reconciling, {}) since {since}",
                reason.as_str()
            )
        }
        ConditionType::Stalled => format!("A person is needed (Stalled, {}) since {since}", reason.as_str()),
        ConditionType::RebootRequired => {
            format!("A password waits for a restart (RebootRequired) since {since}")
        }
        ConditionType::Suspended => format!("It is suspended since {since}"),
        ConditionType::DiscoveryDegraded => format!(
            "Which instances there are is not known for certain (DiscoveryDegraded, {}) since {since}; nothing is pruned",
            reason.as_str()
        ),
    };
    let message = printable(message);
    if message.is_empty() { format!("{head}.") } else { format!("{head}. {}", sentence(&message)) }
}

/// Whether the window is open, and when it opens next.
pub fn window(plan: &schedule::Plan, what: &str, now: Timestamp) -> String {
    if plan.is_open(now) {
        return format!("{what} start only in spec.window, which is open now.");
    }
    match plan.opening(now) {
        Some(opens) => {
            format!("{what} start only in spec.window, which opens next at {}.", moment(opens, now))
        }
        None => format!("{what} start only in spec.window, which never opens again."),
    }
}

/// What happened lately, the newest first.
pub fn events(events: &Fetched<Vec<EventSummary>>, now: Timestamp) -> Option<Paragraph> {
    let events = match events {
        Fetched::Yes(events) if events.is_empty() => return None,
        Fetched::Yes(events) => events,
        Fetched::Denied(_) | Fetched::Failed(_) => {
            let text = format!("Its events are not known: {}.", events.problem().unwrap_or_default());
            return Some(Paragraph::new(Topic::Events, text));
        }
    };
    let mut newest: Vec<&EventSummary> = events.iter().collect();
    newest.sort_by_key(|event| std::cmp::Reverse(event.at));
    let lines = newest.iter().take(EVENTS).map(|event| {
        let at = event.at.map(|at| format!("{}: ", relative(at, now))).unwrap_or_default();
        let warning = if event.warning { "Warning " } else { "" };
        let times = if event.times > 1 { format!(" ({} times)", event.times) } else { String::new() };
        format!("- {at}{warning}{}{times}: {}", event.reason, printable(&event.note).replace('\n', " "))
    });
    let text = std::iter::once("Lately:".to_owned()).chain(lines).collect::<Vec<_>>().join("\n");
    Some(Paragraph::new(Topic::Events, text))
}

/// What to do, once for each reason that stands; what a person must do first.
pub fn remedy(conditions: &[Condition], advise: impl Fn(Reason) -> Advice) -> Vec<Paragraph> {
    if conditions.is_empty() {
        let text = "See whether an operator runs, and whether it watches this namespace:";
        return vec![Paragraph::new(Topic::Remedy, text).with(vec!["kubectl vncpassword doctor".to_owned()])];
    }
    let mut reasons: Vec<Reason> = Vec::new();
    for condition in sorted(conditions) {
        // What is in effect needs no remedy where something else does.
        let fine = condition.type_ == ConditionType::Ready
            && condition.status == ConditionStatus::True
            && conditions.len() > 1;
        if !fine && !reasons.contains(&condition.reason) {
            reasons.push(condition.reason);
        }
    }
    let mut advised: Vec<(Reason, Advice)> =
        reasons.into_iter().map(|reason| (reason, advise(reason))).collect();
    advised.sort_by_key(|(_, advice)| match advice.actor {
        Actor::Person => 0,
        Actor::Operator => 1,
        Actor::Nobody => 2,
    });
    let several = advised.len() > 1;
    let paragraphs = advised.into_iter().map(|(reason, advice)| {
        let text = if several { format!("{}: {}", reason.as_str(), advice.text) } else { advice.text };
        Paragraph::new(Topic::Remedy, text).with(advice.commands)
    });
    paragraphs.collect()
}
