//! One `VncPassword` as a line: whether it is in effect, since when, what comes next, and why not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    ages,
    output::{Column, Layout, Mark, Table},
    seen::Seen,
};
use vncpassword_core::{api::Activation, rotation::rotate_at::RotateAt};

/// Which columns there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Columns {
    /// The namespace, in front.
    pub namespace: bool,
    /// Those of `-o wide`.
    pub wide: bool,
}

impl Columns {
    /// Their titles.
    pub fn head(self) -> Vec<Column> {
        let mut columns = vec![
            Column::new("NAME"),
            Column::new("IN EFFECT"),
            Column::expendable("SINCE", 1),
            Column::expendable("NEXT", 2),
        ];
        if self.namespace {
            columns.insert(0, Column::new("NAMESPACE"));
        }
        if self.wide {
            columns.push(Column::expendable("INSTANCE", 3));
            columns.push(Column::expendable("REGION", 4));
            columns.push(Column::expendable("REQUEST ID", 5));
        }
        columns.push(Column::new("WHY"));
        columns
    }

    /// The cells of one object.
    pub fn cells(self, seen: &Seen, now: Timestamp) -> Vec<String> {
        let mut cells = vec![seen.name_any(), in_effect(seen).to_owned(), since(seen, now), next(seen, now)];
        if self.namespace {
            cells.insert(0, seen.namespace().unwrap_or_default());
        }
        if self.wide {
            let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            cells.push(seen.spec.instance_id.clone());
            cells.push(dash(&seen.status.instance.region_id));
            cells.push(dash(&seen.status.request_id));
        }
        cells.push(why(seen));
        cells
    }
}

/// Whether the Secret's value is in effect.
pub fn in_effect(seen: &Seen) -> &'static str {
    match seen.condition("Ready").map(|ready| ready.status.as_str()) {
        Some("True") => "yes",
        Some("Unknown") => "unknown",
        _ => "no",
    }
}

/// The colour of its line.
pub fn mark(seen: &Seen) -> Mark {
    let is = |type_| seen.is(type_).is_some();
    if is("Stalled") {
        Mark::Bad
    } else if is("RebootRequired") || in_effect(seen) != "yes" {
        Mark::Odd
    } else {
        Mark::Well
    }
}

/// How long that has been so.
fn since(seen: &Seen, now: Timestamp) -> String {
    let ready = seen.condition("Ready");
    let at = match ready {
        Some(ready) if ready.status == "True" => {
            Some(seen.status.last_rotation_time.unwrap_or(ready.last_transition_time))
        }
        Some(ready) => Some(ready.last_transition_time),
        None => seen.metadata.creation_timestamp.as_ref().map(|created| created.0),
    };
    at.map_or_else(|| "-".to_owned(), |at| ages::since(at, now))
}

/// What comes next, in a few words.
pub fn next(seen: &Seen, now: Timestamp) -> String {
    if seen.spec.suspend || seen.is("Suspended").is_some() {
        return "suspended".to_owned();
    }
    if seen.is("RebootRequired").is_some() {
        return match seen.spec.activation {
            Activation::Reboot if seen.is("Reconciling").is_some() && seen.spec.window => "restart in window",
            Activation::Reboot if seen.is("Reconciling").is_some() => "restart by operator",
            _ => "your restart",
        }
        .to_owned();
    }
    if seen.is("Stalled").is_some() {
        return "needs a person".to_owned();
    }
    if seen.condition("Ready").is_none() {
        return "first look".to_owned();
    }
    if let Some(reconciling) = seen.is("Reconciling") {
        let retry = &seen.status.retry;
        let at =
            if reconciling.reason == "Settling" { retry.unsettled_until } else { retry.next_attempt_time };
        return match at.and_then(|at| ages::until(at, now)) {
            Some(left) => format!("again in {left}"),
            None => "under way".to_owned(),
        };
    }
    if let Some(due) = seen.asked() {
        return match ages::until(due, now) {
            Some(left) => format!("asked, in {left}"),
            None => "asked".to_owned(),
        };
    }
    match seen.status.next_rotation_time {
        Some(at) => ages::until(at, now).map_or_else(|| "due".to_owned(), |left| format!("in {left}")),
        None if seen.spec.rotation => "on demand".to_owned(),
        None => "your change".to_owned(),
    }
}

/// What is in the way, or under way; empty where nothing is.
pub fn why(seen: &Seen) -> String {
    let of = |type_| seen.is(type_);
    let told = of("Stalled").or(of("RebootRequired")).or(of("Reconciling"));
    let told = told.or_else(|| seen.condition("Ready").filter(|ready| ready.status != "True"));
    match told {
        Some(condition) if condition.message.is_empty() => condition.reason.clone(),
        Some(condition) => format!("{}: {}", condition.reason, condition.message),
        None if seen.condition("Ready").is_none() => "the operator has not looked at it yet".to_owned(),
        None if seen.rotate_at() == RotateAt::Invalid => "InvalidRotateAt".to_owned(),
        None => String::new(),
    }
}

/// All of them in a line.
pub fn summary(objects: &[Seen]) -> String {
    let count = |holds: &dyn Fn(&Seen) -> bool| objects.iter().filter(|seen| holds(seen)).count();
    let parts = [
        (count(&|seen| in_effect(seen) == "yes"), "in effect"),
        (count(&|seen| in_effect(seen) == "unknown"), "not known"),
        (count(&|seen| in_effect(seen) == "no"), "not in effect"),
        (count(&|seen| seen.is("Stalled").is_some()), "in need of a person"),
        (count(&|seen| seen.is("RebootRequired").is_some()), "waiting for a restart"),
        (count(&|seen| seen.is("Suspended").is_some()), "suspended"),
    ];
    let parts = parts.iter().enumerate().filter(|(at, (count, _))| *at == 0 || *count > 0);
    let parts: Vec<String> = parts.map(|(_, (count, what))| format!("{count} {what}")).collect();
    let advice = match objects.iter().find(|seen| seen.is("Stalled").is_some()) {
        Some(stalled) => {
            let namespace = stalled.namespace().unwrap_or_default();
            format!("; see kubectl vncpassword explain {} -n {namespace}", stalled.name_any())
        }
        None => String::new(),
    };
    format!("{} VncPasswords: {}{advice}", objects.len(), parts.join(", "))
}

/// What `--watch` has shown, so that only what differs is shown again.
pub struct Shown {
    columns: Columns,
    before: BTreeMap<String, Vec<String>>,
    new: Vec<Vec<String>>,
    /// The first list is shown as a whole.
    listing: bool,
    /// That of the first list: columns do not come and go.
    layout: Option<Layout>,
}

impl Shown {
    /// Nothing yet.
    pub fn new(columns: Columns) -> Self {
        Self { columns, before: BTreeMap::new(), new: Vec::new(), listing: true, layout: None }
    }

    /// The object is like this now.
    pub fn is(&mut self, seen: &Seen, now: Timestamp) {
        let cells = self.columns.cells(seen, now);
        // Ages go on by themselves; what matters is what does not.
        let matters = vec![in_effect(seen).to_owned(), why(seen), essence(seen)];
        if self.before.insert(key(seen), matters.clone()).as_ref() != Some(&matters) {
            self.new.push(cells);
        }
    }

    /// It is gone.
    pub fn gone(&mut self, seen: &Seen, now: Timestamp) {
        if self.before.remove(&key(seen)).is_some() {
            let mut cells = self.columns.cells(seen, now);
            if let Some(why) = cells.last_mut() {
                "deleted".clone_into(why);
            }
            self.new.push(cells);
        }
    }

    /// The list is complete; whether it is the first.
    pub fn complete(&mut self) -> bool {
        std::mem::replace(&mut self.listing, false)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.before.is_empty()
    }

    /// Whether there is one of this name.
    pub fn has(&self, namespace: &str, name: &str) -> bool {
        self.before.contains_key(&format!("{namespace}/{name}"))
    }

    /// What is to be written now.
    pub fn text(&mut self, width: Option<usize>) -> String {
        if self.listing || self.new.is_empty() {
            return String::new();
        }
        let mut table = Table::new(self.columns.head());
        for cells in std::mem::take(&mut self.new) {
            table.row(cells);
        }
        if let Some(layout) = &mut self.layout {
            return table.continued(layout, width);
        }
        let (text, layout) = table.begun(width);
        self.layout = Some(layout);
        text
    }
}

fn key(seen: &Seen) -> String {
    format!("{}/{}", seen.namespace().unwrap_or_default(), seen.name_any())
}

/// What a change of is worth a line, beside the words.
fn essence(seen: &Seen) -> String {
    let status = &seen.status;
    format!(
        "{:?} {:?} {:?} {}",
        status.request_id,
        status.last_rotation_time,
        seen.rotate_at(),
        seen.spec.suspend
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::seen::tests::{condition, ready, seen};

    fn now() -> Timestamp {
        "2026-01-03T00:00:00Z".parse().unwrap()
    }

    fn cells(spec: &Value, status: &Value) -> [String; 4] {
        let seen = seen("a", spec, status);
        [in_effect(&seen).to_owned(), since(&seen, now()), next(&seen, now()), why(&seen)]
    }

    #[test]
    fn each_state_reads_as_what_it_is() {
        let rotation = json!({"rotation": {}});
        let applied = || ready("True", "Applied");
        for (name, spec, status, expected) in [
            (
                "never looked at",
                json!({}),
                json!({}),
                ["no", "2d", "first look", "the operator has not looked at it yet"],
            ),
            (
                "a user's, in effect",
                json!({}),
                json!({"conditions": [applied()], "lastRotationTime": "2026-01-02T12:00:00Z"}),
                ["yes", "12h", "your change", ""],
            ),
            (
                "generated, on demand",
                rotation.clone(),
                json!({"conditions": [applied()]}),
                ["yes", "24h", "on demand", ""],
            ),
            (
                "generated, by a schedule",
                rotation.clone(),
                json!({"conditions": [applied()], "nextRotationTime": "2026-01-08T00:00:00Z"}),
                ["yes", "24h", "in 5d", ""],
            ),
            (
                "due",
                rotation.clone(),
                json!({"conditions": [applied()], "nextRotationTime": "2026-01-02T00:00:00Z"}),
                ["yes", "24h", "due", ""],
            ),
            (
                "stalled",
                rotation.clone(),
                json!({"conditions": [ready("False", "Denied"), condition("Stalled", "Denied")]}),
                ["no", "24h", "needs a person", "Denied: because of Denied"],
            ),
            (
                "in effect, but stalled",
                rotation.clone(),
                json!({"conditions": [applied(), condition("Stalled", "InvalidSchedule")]}),
                ["yes", "24h", "needs a person", "InvalidSchedule: because of InvalidSchedule"],
            ),
            (
                "not known",
                rotation.clone(),
                json!({"conditions": [ready("Unknown", "OutcomeUnknown"), condition("Reconciling", "OutcomeUnknown")],
                    "retry": {"nextAttemptTime": "2026-01-03T00:00:40Z"}}),
                ["unknown", "24h", "again in 40s", "OutcomeUnknown: because of OutcomeUnknown"],
            ),
            (
                "settling",
                rotation.clone(),
                json!({"conditions": [applied(), condition("Reconciling", "Settling")],
                    "retry": {"unsettledUntil": "2026-01-03T00:12:00Z"}}),
                ["yes", "24h", "again in 12m", "Settling: because of Settling"],
            ),
            (
                "waits for a restart",
                rotation.clone(),
                json!({"conditions": [applied(), condition("RebootRequired", "RebootRequired")]}),
                ["yes", "24h", "your restart", "RebootRequired: because of RebootRequired"],
            ),
            (
                "is restarted in its window",
                json!({"rotation": {}, "activation": "Reboot", "window": {}}),
                json!({"conditions": [applied(), condition("RebootRequired", "RebootRequired"), condition("Reconciling", "x")]}),
                ["yes", "24h", "restart in window", "RebootRequired: because of RebootRequired"],
            ),
            (
                "suspended",
                json!({"rotation": {}, "suspend": true}),
                json!({"conditions": [applied(), condition("Suspended", "Suspended")]}),
                ["yes", "24h", "suspended", ""],
            ),
        ] {
            assert_eq!(cells(&spec, &status), expected, "{name}");
        }
    }

    #[test]
    fn the_summary_advises_a_command_that_works_in_any_namespace() {
        let conditions = json!([ready("False", "Denied"), condition("Stalled", "Denied")]);
        let stalled = seen("a", &json!({}), &json!({"conditions": conditions}));
        let text = summary(&[stalled]);
        assert!(text.ends_with("1 in need of a person; see kubectl vncpassword explain a -n prod"), "{text}");
    }

    #[test]
    fn a_rotation_that_was_asked_for_comes_next() {
        let mut asked =
            seen("a", &json!({"rotation": {}}), &json!({"conditions": [ready("True", "Applied")]}));
        let ask = |seen: &mut Seen, at: &str| {
            seen.annotations_mut().insert(vncpassword_core::api::ROTATE_AT.to_owned(), at.to_owned());
        };
        ask(&mut asked, "2026-01-02T23:59:00Z");
        assert_eq!(next(&asked, now()), "asked");
        ask(&mut asked, "2026-01-03T01:00:00Z");
        assert_eq!(next(&asked, now()), "asked, in 60m");
        asked.status.last_handled_rotate_at = Some("2026-01-03T01:00:00Z".parse().unwrap());
        assert_eq!(next(&asked, now()), "on demand");
        ask(&mut asked, "soon");
        assert_eq!(why(&asked), "InvalidRotateAt");
    }

    #[test]
    fn a_watch_shows_each_change_once() {
        let mut shown = Shown::new(Columns::default());
        let well = seen("a", &json!({"rotation": {}}), &json!({"conditions": [ready("True", "Applied")]}));
        shown.is(&well, now());
        assert_eq!(shown.text(None), "", "not before the list is complete");
        shown.complete();
        assert_eq!(shown.text(None).lines().count(), 2);
        let later = "2026-01-09T00:00:00Z".parse().unwrap();
        shown.is(&well, later);
        assert_eq!(shown.text(None), "", "an age alone is no change");
        let ill = seen("a", &json!({}), &json!({"conditions": [ready("False", "Denied")]}));
        shown.is(&ill, later);
        assert_eq!(shown.text(None), "a      no          7d      your change   Denied: because of Denied\n");
        shown.gone(&ill, later);
        assert!(shown.text(None).ends_with("deleted\n"));
    }
}
