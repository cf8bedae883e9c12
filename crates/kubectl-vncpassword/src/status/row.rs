//! One `VncPassword` as a line: whether it is in effect, since when, what comes next, and why not.

use std::collections::BTreeMap;

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    ages,
    output::{Column, Layout, Mark, Table},
    summary::ObjectSummary,
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
    pub fn cells(self, object: &ObjectSummary, now: Timestamp) -> Vec<String> {
        let mut cells =
            vec![object.name_any(), in_effect(object).to_owned(), since(object, now), next(object, now)];
        if self.namespace {
            cells.insert(0, object.namespace().unwrap_or_default());
        }
        if self.wide {
            let dash = |text: &Option<String>| text.clone().unwrap_or_else(|| "-".to_owned());
            cells.push(object.spec.instance_id.clone());
            cells.push(dash(&object.status.instance.region_id));
            cells.push(dash(&object.status.request_id));
        }
        cells.push(why(object));
        cells
    }
}

/// Whether the Secret's value is in effect.
pub fn in_effect(object: &ObjectSummary) -> &'static str {
    match object.condition("Ready").map(|ready| ready.status.as_str()) {
        Some("True") => "yes",
        Some("Unknown") => "unknown",
        _ => "no",
    }
}

/// The colour of its line.
pub fn mark(object: &ObjectSummary) -> Mark {
    let is = |type_| object.is(type_).is_some();
    if is("Stalled") {
        Mark::Bad
    } else if is("RebootRequired") || in_effect(object) != "yes" {
        Mark::Odd
    } else {
        Mark::Well
    }
}

/// How long that has been so.
fn since(object: &ObjectSummary, now: Timestamp) -> String {
    let ready = object.condition("Ready");
    let at = match ready {
        Some(ready) if ready.status == "True" => {
            Some(object.status.last_rotation_time.unwrap_or(ready.last_transition_time))
        }
        Some(ready) => Some(ready.last_transition_time),
        None => object.metadata.creation_timestamp.as_ref().map(|created| created.0),
    };
    at.map_or_else(|| "-".to_owned(), |at| ages::since(at, now))
}

/// What comes next, in a few words.
pub fn next(object: &ObjectSummary, now: Timestamp) -> String {
    if object.spec.suspend || object.is("Suspended").is_some() {
        return "suspended".to_owned();
    }
    if object.is("RebootRequired").is_some() {
        return match object.spec.activation {
            Activation::Reboot if object.is("Reconciling").is_some() && object.spec.window => {
                "restart in window"
            }
            Activation::Reboot if object.is("Reconciling").is_some() => "restart by operator",
            _ => "your restart",
        }
        .to_owned();
    }
    if object.is("Stalled").is_some() {
        return "needs a person".to_owned();
    }
    if object.condition("Ready").is_none() {
        return "first look".to_owned();
    }
    if let Some(reconciling) = object.is("Reconciling") {
        let retry = &object.status.retry;
        let at =
            if reconciling.reason == "Settling" { retry.unsettled_until } else { retry.next_attempt_time };
        return match at.and_then(|at| ages::until(at, now)) {
            Some(left) => format!("again in {left}"),
            None => "under way".to_owned(),
        };
    }
    if let Some(due) = object.asked() {
        return match ages::until(due, now) {
            Some(left) => format!("asked, in {left}"),
            None => "asked".to_owned(),
        };
    }
    match object.status.next_rotation_time {
        Some(at) => ages::until(at, now).map_or_else(|| "due".to_owned(), |left| format!("in {left}")),
        None if object.spec.rotation => "on demand".to_owned(),
        None => "your change".to_owned(),
    }
}

/// What is in the way, or under way; empty where nothing is.
pub fn why(object: &ObjectSummary) -> String {
    let of = |type_| object.is(type_);
    let cause = of("Stalled").or(of("RebootRequired")).or(of("Reconciling"));
    let cause = cause.or_else(|| object.condition("Ready").filter(|ready| ready.status != "True"));
    match cause {
        Some(condition) if condition.message.is_empty() => condition.reason.clone(),
        Some(condition) => format!("{}: {}", condition.reason, condition.message),
        None if object.condition("Ready").is_none() => "the operator has not looked at it yet".to_owned(),
        None if object.rotate_at() == RotateAt::Invalid => "InvalidRotateAt".to_owned(),
        None => String::new(),
    }
}

/// All of them in a line.
pub fn summary(objects: &[ObjectSummary]) -> String {
    let count =
        |holds: &dyn Fn(&ObjectSummary) -> bool| objects.iter().filter(|object| holds(object)).count();
    let parts = [
        (count(&|object| in_effect(object) == "yes"), "in effect"),
        (count(&|object| in_effect(object) == "unknown"), "not known"),
        (count(&|object| in_effect(object) == "no"), "not in effect"),
        (count(&|object| object.is("Stalled").is_some()), "in need of a person"),
        (count(&|object| object.is("RebootRequired").is_some()), "waiting for a restart"),
        (count(&|object| object.is("Suspended").is_some()), "suspended"),
    ];
    let parts = parts.iter().enumerate().filter(|(at, (count, _))| *at == 0 || *count > 0);
    let parts: Vec<String> = parts.map(|(_, (count, what))| format!("{count} {what}")).collect();
    let advice = match objects.iter().find(|object| object.is("Stalled").is_some()) {
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
    pub fn is(&mut self, object: &ObjectSummary, now: Timestamp) {
        let cells = self.columns.cells(object, now);
        // Ages go on by themselves; what matters is what does not.
        let matters = vec![in_effect(object).to_owned(), why(object), essence(object)];
        if self.before.insert(key(object), matters.clone()).as_ref() != Some(&matters) {
            self.new.push(cells);
        }
    }

    /// It is gone.
    pub fn gone(&mut self, object: &ObjectSummary, now: Timestamp) {
        if self.before.remove(&key(object)).is_some() {
            let mut cells = self.columns.cells(object, now);
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

fn key(object: &ObjectSummary) -> String {
    format!("{}/{}", object.namespace().unwrap_or_default(), object.name_any())
}

/// What a change of is worth a line, beside the words.
fn essence(object: &ObjectSummary) -> String {
    let status = &object.status;
    format!(
        "{:?} {:?} {:?} {}",
        status.request_id,
        status.last_rotation_time,
        object.rotate_at(),
        object.spec.suspend
    )
}

#[cfg(test)]
mod tests;
