//! Which objects are asked, and what is worth saying before.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::RotateArgs;
use crate::{
    Connection, Doing, Error, ages,
    error::some_of,
    output::Column,
    read::{self, Named, Scope},
    seen::Seen,
};
use vncpassword_core::{
    api::{Activation, ClusterVncPassword, ROTATE_AT},
    rotation::rotate_at::RotateAt,
};

/// How many names a remark holds.
const NAMED: usize = 5;

/// One that is asked.
#[derive(Clone, Debug)]
pub enum Target {
    /// One instance.
    Object(Box<Seen>),
    /// A fleet.
    Fleet(Box<ClusterVncPassword>),
}

/// All that are asked.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// Those.
    pub targets: Vec<Target>,
    /// What is worth knowing.
    pub remarks: Vec<String>,
    /// The namespace that needs not be named.
    pub home: Option<String>,
}

/// Reads them.
///
/// # Errors
/// One that was named is not there, or a right is missing: then none is rotated.
pub async fn choose(arguments: &RotateArgs, connection: &Connection) -> Result<Chosen, Error> {
    if !arguments.names.is_empty() {
        let targets = named(arguments.names.iter().cloned().collect(), connection).await?;
        return Ok(Chosen::new(targets, Some(connection.namespace.clone())));
    }
    let home = (!arguments.all_namespaces).then(|| connection.namespace.clone());
    let scope = Scope { namespace: home.clone(), selector: arguments.selector.clone() };
    let objects = read::all(connection, &scope).await?;
    if !arguments.all {
        let targets: Vec<Target> = objects.into_iter().map(|seen| Target::Object(Box::new(seen))).collect();
        return Ok(Chosen::new(targets, home));
    }
    // All children of a fleet are all of the fleet: it can be asked itself, and keeps to its waves.
    let (children, alone): (Vec<_>, Vec<_>) = objects.into_iter().partition(|seen| seen.fleet().is_some());
    let fleets: BTreeSet<Named> =
        children.iter().filter_map(|seen| seen.fleet()).map(|fleet| Named::Fleet(fleet.to_owned())).collect();
    let mut targets: Vec<Target> = alone.into_iter().map(|seen| Target::Object(Box::new(seen))).collect();
    targets.extend(named(fleets, connection).await?);
    let mut chosen = Chosen::new(targets, home);
    if !children.is_empty() {
        chosen.remarks.push(format!(
            "{} of these belong to fleets, which are asked in their place and rotate in their own waves",
            children.len()
        ));
    }
    Ok(chosen)
}

async fn named(names: BTreeSet<Named>, connection: &Connection) -> Result<Vec<Target>, Error> {
    let objects = names.iter().filter_map(|named| match named {
        Named::Object(name) => Some(name.clone()),
        Named::Fleet(_) => None,
    });
    let mut targets = Vec::new();
    for seen in read::by_name(connection, objects.collect()).await {
        targets.push(Target::Object(Box::new(seen?)));
    }
    for named in &names {
        if let Named::Fleet(name) = named {
            targets.push(Target::Fleet(Box::new(read::fleet(connection, name).await?)));
        }
    }
    Ok(targets)
}

impl Chosen {
    fn new(targets: Vec<Target>, home: Option<String>) -> Self {
        Self { remarks: remarks(&targets, home.as_deref()), targets, home }
    }

    /// How many instances get a new password.
    pub fn passwords(&self) -> usize {
        let of = |target: &Target| match target {
            Target::Object(_) => 1,
            Target::Fleet(fleet) => {
                let status = fleet.status.as_ref();
                status.and_then(|status| usize::try_from(status.discovered).ok()).unwrap_or(0).max(1)
            }
        };
        self.targets.iter().map(of).sum()
    }
}

/// Titles of the table of `--dry-run`.
pub fn head() -> Vec<Column> {
    vec![
        Column::new("NAME"),
        Column::expendable("INSTANCE", 1),
        Column::expendable("LAST ROTATION", 2),
        Column::new("NOTE"),
    ]
}

impl Target {
    /// What it is called in lines; without its namespace where that is `home`.
    pub fn label(&self, home: Option<&str>) -> String {
        match self {
            Self::Object(seen) => label(seen, home),
            Self::Fleet(fleet) => format!("fleet/{}", fleet.name_any()),
        }
    }

    /// What tells it from all others.
    pub fn key(&self) -> String {
        match self {
            Self::Object(seen) => label(seen, None),
            Self::Fleet(fleet) => fleet_key(&fleet.name_any()),
        }
    }

    /// What is done to it, for messages.
    pub fn doing(&self, verb: &'static str) -> Doing {
        match self {
            Self::Object(seen) => Doing::ours(verb, "vncpasswords")
                .within(&seen.namespace().unwrap_or_default())
                .to(&seen.name_any()),
            Self::Fleet(fleet) => Doing::ours(verb, "clustervncpasswords").to(&fleet.name_any()),
        }
    }

    /// The value to write: now by the API server, but later than what was handled and not older than the object, so that it
    /// counts though the clocks differ.
    pub fn stamp(&self, now: Timestamp) -> Timestamp {
        let (handled, created) = match self {
            Self::Object(seen) => (seen.status.last_handled_rotate_at, seen.created()),
            Self::Fleet(fleet) => (
                fleet.status.as_ref().and_then(|status| Some(status.last_handled_rotate_at.as_ref()?.0)),
                fleet.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |created| created.0),
            ),
        };
        let whole = Timestamp::from_second(now.as_second()).unwrap_or(now);
        let after = handled.and_then(|handled| handled.checked_add(SignedDuration::from_secs(1)).ok());
        whole.max(created).max(after.unwrap_or(Timestamp::MIN))
    }

    fn suspended(&self) -> bool {
        match self {
            Self::Object(seen) => seen.spec.suspend,
            Self::Fleet(fleet) => fleet.spec.suspend,
        }
    }

    /// A time that was asked for before, and is still to come at the time.
    fn planned(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = match self {
            Self::Object(seen) => seen.rotate_at(),
            Self::Fleet(fleet) => RotateAt::parse(fleet.annotations().get(ROTATE_AT).map(String::as_str)),
        };
        match asked {
            RotateAt::At(at) if at > now => Some(at),
            _ => None,
        }
    }

    /// The cells of the table of `--dry-run`.
    pub fn cells(&self, home: Option<&str>, now: Timestamp) -> Vec<String> {
        let ago = |at: Option<Timestamp>| {
            at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", ages::since(at, now)))
        };
        let (instance, last) = match self {
            Self::Object(seen) => (seen.spec.instance_id.clone(), ago(seen.status.last_rotation_time)),
            Self::Fleet(fleet) => {
                let status = fleet.status.as_ref();
                let count = status.map_or(0, |status| status.discovered);
                let last = status.and_then(|status| Some(status.last_rotation_time.as_ref()?.0));
                (format!("{count} instances"), ago(last))
            }
        };
        vec![self.label(home), instance, last, self.note(now)]
    }

    fn note(&self, now: Timestamp) -> String {
        let mut notes = Vec::new();
        if self.suspended() {
            notes.push("suspended, so it waits".to_owned());
        }
        if let Some(at) = self.planned(now) {
            notes.push(format!("takes the place of the request for {}", at.strftime("%FT%TZ")));
        }
        if let Self::Object(seen) = self {
            if let Some(fleet) = seen.fleet() {
                notes.push(format!("of fleet {fleet}, outside of its waves"));
            }
            if !seen.spec.rotation {
                notes.push("your Secret: the same password is sent again".to_owned());
            }
        }
        notes.join("; ")
    }
}

/// Its name, behind its namespace where that is another than `home`.
pub fn label(seen: &Seen, home: Option<&str>) -> String {
    let namespace = seen.namespace().unwrap_or_default();
    if home == Some(namespace.as_str()) {
        seen.name_any()
    } else {
        format!("{namespace}/{}", seen.name_any())
    }
}

/// Like no key of an object: a namespace may be called fleet.
pub fn fleet_key(name: &str) -> String {
    format!("//{name}")
}

/// What is worth saying before it is done.
fn remarks(targets: &[Target], home: Option<&str>) -> Vec<String> {
    let mut remarks = Vec::new();
    let mut of_fleets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for target in targets {
        if let Target::Object(seen) = target
            && let Some(fleet) = seen.fleet()
        {
            of_fleets.entry(fleet).or_default().push(label(seen, home));
        }
    }
    for (fleet, children) in of_fleets {
        remarks.push(format!(
            "of fleet {fleet}, rotated by themselves and outside of its waves: {}; rotate fleet/{fleet} for all of it, in \
             waves",
            some_of(&children, NAMED)
        ));
    }
    let labels = |holds: &dyn Fn(&Target) -> bool| -> Vec<String> {
        targets.iter().filter(|target| holds(target)).map(|target| target.label(home)).collect()
    };
    let suspended = labels(&Target::suspended);
    if !suspended.is_empty() {
        remarks.push(format!("suspended, so they wait until they are not: {}", some_of(&suspended, NAMED)));
    }
    let restarted = labels(&|target| match target {
        Target::Object(seen) => seen.spec.activation == Activation::Reboot && !seen.spec.window,
        Target::Fleet(_) => false,
    });
    if !restarted.is_empty() {
        remarks.push(format!(
            "with activation Reboot and no window, so the operator may restart these instances at once: {}",
            some_of(&restarted, NAMED)
        ));
    }
    remarks
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use serde_json::{Value, json};

    use super::*;
    use crate::seen::tests::seen;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn object(spec: &Value, status: &Value) -> Target {
        Target::Object(Box::new(seen("a", spec, status)))
    }

    #[test]
    fn a_stamp_counts_though_the_clocks_differ() {
        let now = at("2026-01-05T00:00:00.9Z");
        let stamp = |status: Value| object(&json!({}), &status).stamp(now);
        assert_eq!(stamp(json!({})), at("2026-01-05T00:00:00Z"));
        assert_eq!(stamp(json!({"lastHandledRotateAt": "2026-01-05T00:00:00Z"})), at("2026-01-05T00:00:01Z"));
        assert_eq!(stamp(json!({"lastHandledRotateAt": "2026-01-05T00:02:00Z"})), at("2026-01-05T00:02:01Z"));
        let early = object(&json!({}), &json!({})).stamp(at("2025-01-01T00:00:00Z"));
        assert_eq!(early, at("2026-01-01T00:00:00Z"), "the object's creation");
    }

    #[test]
    fn what_a_person_should_know_is_said_before() {
        let mut child =
            seen("a", &json!({"rotation": {}, "suspend": true, "activation": "Reboot"}), &json!({}));
        child.metadata.owner_references = Some(vec![OwnerReference {
            kind: "ClusterVncPassword".to_owned(),
            name: "nodes".to_owned(),
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        child.annotations_mut().insert(ROTATE_AT.to_owned(), "2026-02-01T00:00:00Z".to_owned());
        let child = Target::Object(Box::new(child));
        let [fleet, suspended, restarts] =
            <[String; 3]>::try_from(remarks(std::slice::from_ref(&child), None)).unwrap();
        assert!(fleet.contains("prod/a; rotate fleet/nodes for all of it"), "{fleet}");
        assert!(suspended.contains("until they are not: prod/a"), "{suspended}");
        assert!(restarts.contains("may restart these instances at once: prod/a"), "{restarts}");
        assert_eq!(
            child.cells(None, at("2026-01-05T00:00:00Z")),
            [
                "prod/a",
                "i-a",
                "never",
                "suspended, so it waits; takes the place of the request for 2026-02-01T00:00:00Z; of fleet nodes, outside of its \
                 waves"
            ]
        );
    }

    #[test]
    fn a_fleet_counts_as_all_its_instances() {
        let fleet = serde_json::from_value(json!({
            "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "metadata": {"name": "nodes"},
            "spec": {"nodeSelector": {}, "targetNamespace": "vnc"}, "status": {"discovered": 30},
        }))
        .unwrap();
        let targets = vec![Target::Fleet(Box::new(fleet)), object(&json!({}), &json!({}))];
        assert_eq!(Chosen::new(targets, None).passwords(), 31);
    }
}
