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
    summary::ObjectSummary,
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
    Object(Box<ObjectSummary>),
    /// A fleet.
    Fleet(Box<ClusterVncPassword>),
}

/// All that are asked.
#[derive(Clone, Debug, Default)]
pub struct Chosen {
    /// Those.
    pub targets: Vec<Target>,
    /// What is worth knowing.
    pub warnings: Vec<String>,
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
        let targets: Vec<Target> =
            objects.into_iter().map(|object| Target::Object(Box::new(object))).collect();
        return Ok(Chosen::new(targets, home));
    }
    // All children of a fleet are all of the fleet: it can be asked itself, and keeps to its waves.
    let (children, alone): (Vec<_>, Vec<_>) =
        objects.into_iter().partition(|object| object.fleet().is_some());
    let fleets: BTreeSet<Named> = children
        .iter()
        .filter_map(|object| object.fleet())
        .map(|fleet| Named::Fleet(fleet.to_owned()))
        .collect();
    let mut targets: Vec<Target> = alone.into_iter().map(|object| Target::Object(Box::new(object))).collect();
    targets.extend(named(fleets, connection).await?);
    let mut chosen = Chosen::new(targets, home);
    if !children.is_empty() {
        chosen.warnings.push(format!(
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
    for object in read::by_name(connection, objects.collect()).await {
        targets.push(Target::Object(Box::new(object?)));
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
        Self { warnings: warnings(&targets, home.as_deref()), targets, home }
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
            Self::Object(object) => label(object, home),
            Self::Fleet(fleet) => format!("fleet/{}", fleet.name_any()),
        }
    }

    /// What tells it from all others.
    pub fn key(&self) -> String {
        match self {
            Self::Object(object) => label(object, None),
            Self::Fleet(fleet) => fleet_key(&fleet.name_any()),
        }
    }

    /// What is done to it, for messages.
    pub fn doing(&self, verb: &'static str) -> Doing {
        match self {
            Self::Object(object) => Doing::ours(verb, "vncpasswords")
                .within(&object.namespace().unwrap_or_default())
                .to(&object.name_any()),
            Self::Fleet(fleet) => Doing::ours(verb, "clustervncpasswords").to(&fleet.name_any()),
        }
    }

    /// The value to write: now by the API server, but later than what was handled and not older than the object, so that it
    /// counts though the clocks differ.
    pub fn stamp(&self, now: Timestamp) -> Timestamp {
        let (handled, created) = match self {
            Self::Object(object) => (object.status.last_handled_rotate_at, object.created()),
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
            Self::Object(object) => object.spec.suspend,
            Self::Fleet(fleet) => fleet.spec.suspend,
        }
    }

    /// A time that was asked for before, and is still to come at the time.
    fn planned(&self, now: Timestamp) -> Option<Timestamp> {
        let asked = match self {
            Self::Object(object) => object.rotate_at(),
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
            Self::Object(object) => (object.spec.instance_id.clone(), ago(object.status.last_rotation_time)),
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
        if let Self::Object(object) = self {
            if let Some(fleet) = object.fleet() {
                notes.push(format!("of fleet {fleet}, outside of its waves"));
            }
            if !object.spec.rotation {
                notes.push("your Secret: the same password is sent again".to_owned());
            }
        }
        notes.join("; ")
    }
}

/// Its name, behind its namespace where that is another than `home`.
pub fn label(object: &ObjectSummary, home: Option<&str>) -> String {
    let namespace = object.namespace().unwrap_or_default();
    if home == Some(namespace.as_str()) {
        object.name_any()
    } else {
        format!("{namespace}/{}", object.name_any())
    }
}

/// Like no key of an object: a namespace may be called fleet.
pub fn fleet_key(name: &str) -> String {
    format!("//{name}")
}

/// What is worth saying before it is done.
fn warnings(targets: &[Target], home: Option<&str>) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut of_fleets: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for target in targets {
        if let Target::Object(object) = target
            && let Some(fleet) = object.fleet()
        {
            of_fleets.entry(fleet).or_default().push(label(object, home));
        }
    }
    for (fleet, children) in of_fleets {
        warnings.push(format!(
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
        warnings.push(format!("suspended, so they wait until they are not: {}", some_of(&suspended, NAMED)));
    }
    let restarted = labels(&|target| match target {
        Target::Object(object) => object.spec.activation == Activation::Reboot && !object.spec.window,
        Target::Fleet(_) => false,
    });
    if !restarted.is_empty() {
        warnings.push(format!(
            "with activation Reboot and no window, so the operator may restart these instances at once: {}",
            some_of(&restarted, NAMED)
        ));
    }
    warnings
}

#[cfg(test)]
mod tests;
