//! What a fleet would do: from the object and what there is in the cluster and in the cloud to instances, waves and time.
//! Pure. Which instances there are is reckoned by the operator's own functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use crate::fetched::Fetched;
use vncpassword_core::{
    api::{ClusterVncPasswordSpec, NodeSelector, SkippedNode},
    fleet::{DiscoveryResult, Limits, matches_selector, member_object_name, secret_name, select},
    rotation::schedule,
};

/// All that was read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Name of the fleet.
    pub name: String,
    /// What it is to be.
    pub spec: ClusterVncPasswordSpec,
    /// A fleet of this name that exists: its uid.
    pub exists: Fetched<Option<String>>,
    /// The Nodes of the cluster; asked for where a fleet selects by them.
    pub nodes: Option<Fetched<Vec<NodeSeen>>>,
    /// What the cloud says; asked where the fleet has tags.
    pub cloud: Option<Fetched<CloudSeen>>,
    /// The `VncPassword`s that there are.
    pub objects: Fetched<Vec<ObjectState>>,
    /// The other fleets.
    pub fleets: Fetched<Vec<OtherFleet>>,
    /// Whether the target namespace exists.
    pub namespace: Fetched<bool>,
    /// Calls a minute that the cloud lets through.
    pub rate: Option<f64>,
    /// When this was.
    pub now: Timestamp,
}

/// A Node.
#[derive(Clone, Debug)]
pub struct NodeSeen {
    /// Its name.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its `spec.providerID`.
    pub provider_id: Option<String>,
}

/// What the cloud says of a fleet's instances.
#[derive(Clone, Debug, Default)]
pub struct CloudSeen {
    /// Those with the tags of `spec.tags`, by region and ID.
    pub tagged: Option<Vec<(String, String)>>,
    /// Whether an instance carries `spec.requireTags`; one that is missing here the cloud did not show.
    pub carries: BTreeMap<String, bool>,
}

/// A `VncPassword`.
#[derive(Clone, Debug)]
pub struct ObjectState {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its instance.
    pub instance: String,
    /// The uid of the fleet that controls it.
    pub owner: Option<String>,
    /// The name of that fleet.
    pub fleet: Option<String>,
}

/// Another fleet, and what it selects by.
#[derive(Clone, Debug)]
pub struct OtherFleet {
    /// Its name.
    pub name: String,
    /// What it is to be.
    pub spec: ClusterVncPasswordSpec,
}

/// What the fleet would do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Forecast {
    /// Name of the fleet.
    pub fleet: String,
    /// Where its objects would be.
    pub target_namespace: String,
    /// A fleet of this name exists: this is what would become of it.
    pub exists: bool,
    /// The instances, by ID; `None`: they are not known.
    pub instances: Option<Vec<Planned>>,
    /// Which of them carry `spec.requireTags` is not known, so there may be fewer.
    pub at_most: bool,
    /// Nodes that stand for no instance.
    pub skipped_nodes: Vec<SkippedNode>,
    /// Instances of the fleet that exists whose object would be pruned, or orphaned, as `spec.prune` says.
    pub pruned: Vec<String>,
    /// Whether so many would be pruned at once that the operator would wait for the answer to be confirmed.
    pub doubted: bool,
    /// Instances that `spec.exclude` keeps out.
    pub excluded: Vec<String>,
    /// Instances without the tags of `spec.requireTags`.
    pub untagged: Vec<String>,
    /// Instances that the cloud does not show, so whether they carry the tags is not known.
    pub unseen: Vec<String>,
    /// What could not be found out, and why.
    pub unknown: Vec<String>,
    /// What would keep it from working.
    pub obstacles: Vec<String>,
    /// How it would be done; `None`: which instances there are is not known.
    pub rollout: Option<Rollout>,
}

/// One instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Planned {
    /// Its ID.
    pub instance: String,
    /// Its region; `None`: that of the operator.
    pub region: Option<String>,
    /// The name of its `VncPassword`.
    pub name: String,
    /// The name of its Secret.
    pub secret: String,
    /// What becomes of it.
    pub fate: Fate,
}

/// What becomes of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "is", content = "by")]
pub enum Fate {
    /// It gets a `VncPassword`.
    New,
    /// It has one of this fleet.
    Kept,
    /// It is left to that other object, by namespace and name.
    Elsewhere(String),
    /// An object of the name of its `VncPassword` is not the fleet's.
    NameTaken(String),
    /// That other fleet selects it as well, and has no object for it yet.
    Contended(String),
}

impl Fate {
    /// Whether the fleet makes a password for it.
    fn takes(&self) -> bool {
        matches!(self, Self::New | Self::Contended(_))
    }
}

/// How it would be done.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rollout {
    /// Instances that get their first password at once, whatever the window.
    pub first: usize,
    /// Instances that a scheduled or requested rollout would rotate.
    pub all: usize,
    /// The largest number of passwords on their way at once.
    pub wave: u32,
    /// Waves of the first passwords.
    pub waves: usize,
    /// Waves of a rollout of all.
    pub waves_of_all: usize,
    /// How long the first passwords take at the rate given, in seconds.
    pub seconds: Option<u64>,
    /// How long a rollout of all takes at the rate given, in seconds.
    pub seconds_of_all: Option<u64>,
    /// When the first passwords are through.
    pub ends: Option<Timestamp>,
    /// A rollout of all that begins as the window opens: when it is through, where that is past the window's end.
    pub overruns: Option<Overrun>,
    /// Whether instances are restarted, which takes time of its own.
    pub restarts: bool,
}

/// A rollout that does not fit one opening of the window.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Overrun {
    /// When the window opens next.
    pub opens: Timestamp,
    /// When all are rotated.
    pub ends: Timestamp,
}

/// Reckons it.
#[must_use]
pub fn forecast(snapshot: &Snapshot) -> Forecast {
    let Snapshot { name, spec, .. } = snapshot;
    let mut unknown = Vec::new();
    let selected = selected(snapshot, &mut unknown);
    let (answer, sorted) = match selected {
        Some(answer) => {
            let (answer, sorted) = narrowed(snapshot, answer, &mut unknown);
            (Some(answer), sorted)
        }
        None => (None, Narrowed::default()),
    };
    for (what, problem) in [
        ("which instances are owned elsewhere", snapshot.objects.problem()),
        ("which other fleets there are", snapshot.fleets.problem()),
        ("whether a fleet of this name exists", snapshot.exists.problem()),
        ("whether the namespace exists", snapshot.namespace.problem()),
    ] {
        unknown.extend(problem.map(|problem| format!("{what}: {problem}")));
    }
    let instances = answer.as_ref().map(|answer| planned(snapshot, answer));
    let (pruned, doubted) = answer.as_ref().map(|answer| pruned(snapshot, answer)).unwrap_or_default();
    let rollout = instances.as_ref().map(|instances| rollout(snapshot, instances));
    Forecast {
        fleet: name.clone(),
        target_namespace: spec.target_namespace.clone(),
        exists: snapshot.exists.value().is_some_and(Option::is_some),
        skipped_nodes: answer.map(|answer| answer.skipped).unwrap_or_default(),
        instances,
        at_most: sorted.unsure,
        pruned,
        doubted,
        excluded: sorted.excluded,
        untagged: sorted.untagged,
        unseen: sorted.unseen,
        unknown,
        obstacles: obstacles(snapshot),
        rollout,
    }
}

/// The instances that the selector names; `None`: they are not known.
fn selected(snapshot: &Snapshot, unknown: &mut Vec<String>) -> Option<DiscoveryResult> {
    let spec = &snapshot.spec;
    if let Some(selector) = &spec.node_selector {
        let nodes = snapshot.nodes.as_ref()?;
        unknown.extend(nodes.problem().map(|problem| format!("which Nodes there are: {problem}")));
        return nodes.value().map(|nodes| of_nodes(nodes, selector));
    }
    if let Some(ids) = &spec.instance_ids {
        return Some(DiscoveryResult::from_list(ids));
    }
    let cloud = snapshot.cloud.as_ref()?;
    unknown.extend(cloud.problem().map(|problem| format!("which instances carry the tags: {problem}")));
    let tagged = cloud.value()?.tagged.as_ref()?;
    Some(DiscoveryResult::from_tags(tagged.iter().map(|(region, id)| (region.as_str(), id.as_str()))))
}

fn of_nodes(nodes: &[NodeSeen], selector: &NodeSelector) -> DiscoveryResult {
    let fitting = nodes
        .iter()
        .filter(|node| matches_selector(selector, |key| node.labels.get(key).map(String::as_str)));
    DiscoveryResult::from_nodes(fitting.map(|node| (node.name.as_str(), node.provider_id.as_deref())))
}

/// What a selector names and the fleet does not take.
#[derive(Default)]
struct Narrowed {
    unsure: bool,
    excluded: Vec<String>,
    untagged: Vec<String>,
    unseen: Vec<String>,
}

fn narrowed(
    snapshot: &Snapshot,
    answer: DiscoveryResult,
    unknown: &mut Vec<String>,
) -> (DiscoveryResult, Narrowed) {
    let spec = &snapshot.spec;
    let mut sorted = Narrowed {
        excluded: spec.exclude.iter().filter(|id| answer.found.contains_key(id.as_str())).cloned().collect(),
        ..Narrowed::default()
    };
    let answer = answer.exclude(&spec.exclude);
    if spec.require_tags.is_empty() {
        return (answer, sorted);
    }
    let cloud = snapshot.cloud.as_ref();
    let Some(CloudSeen { carries, .. }) = cloud.and_then(Fetched::value) else {
        sorted.unsure = true;
        // Said once where the selector has asked the cloud as well.
        if spec.tags.is_none() {
            let problem = cloud.and_then(Fetched::problem).unwrap_or_default();
            unknown.push(format!("which of them carry spec.requireTags: {problem}"));
        }
        return (answer, sorted);
    };
    for id in answer.found.keys() {
        match carries.get(&**id) {
            Some(true) => {}
            Some(false) => sorted.untagged.push(id.to_string()),
            None => sorted.unseen.push(id.to_string()),
        }
    }
    (answer.require_tags(|id| carries.get(id).copied()), sorted)
}

fn planned(snapshot: &Snapshot, answer: &DiscoveryResult) -> Vec<Planned> {
    let Snapshot { name, spec, .. } = snapshot;
    let pattern = spec.template.as_ref().and_then(|template| template.secret_name.as_deref());
    let objects: &[ObjectState] = snapshot.objects.value().map(Vec::as_slice).unwrap_or_default();
    let mut by_instance: BTreeMap<&str, Vec<&ObjectState>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, &ObjectState> = BTreeMap::new();
    for object in objects {
        by_instance.entry(&object.instance).or_default().push(object);
        if object.namespace == spec.target_namespace {
            by_name.insert(&object.name, object);
        }
    }
    let contended = contended(snapshot);
    let planned = answer.found.iter().map(|(id, region)| {
        let child = member_object_name(name, id);
        let others = by_instance.get(&**id).map(Vec::as_slice).unwrap_or_default();
        let fate = fate(snapshot, id, by_name.get(child.as_str()).copied(), others);
        let fate = match (fate, contended.get(id)) {
            (Fate::New, Some(fleet)) => Fate::Contended((*fleet).to_owned()),
            (fate, _) => fate,
        };
        Planned {
            instance: id.to_string(),
            region: region.as_ref().map(ToString::to_string),
            secret: secret_name(pattern, name, id),
            name: child,
            fate,
        }
    });
    planned.collect()
}

/// What of the fleet that exists is not selected any more, and whether the operator would believe that at once.
fn pruned(snapshot: &Snapshot, answer: &DiscoveryResult) -> (Vec<String>, bool) {
    let Some(uid) = snapshot.exists.value().and_then(Option::as_ref) else { return Default::default() };
    let ours =
        snapshot.objects.value().into_iter().flatten().filter(|object| object.owner.as_ref() == Some(uid));
    let known: BTreeSet<&str> = ours.map(|object| object.instance.as_str()).collect();
    let selection = select(answer, snapshot.now, &known, None, Duration::ZERO, snapshot.now);
    let gone =
        known.into_iter().filter(|id| !answer.found.contains_key(*id) && !answer.uncertain.contains(*id));
    (gone.map(str::to_owned).collect(), selection.degraded)
}

fn fate(snapshot: &Snapshot, id: &str, namesake: Option<&ObjectState>, others: &[&ObjectState]) -> Fate {
    let uid = snapshot.exists.value().and_then(Option::as_ref);
    if let Some(there) = namesake {
        let ours = uid.is_some() && there.owner.as_ref() == uid && there.instance == id;
        if ours {
            return Fate::Kept;
        }
        return Fate::NameTaken(format!("{}/{}", there.namespace, there.name));
    }
    match others.first() {
        Some(other) => {
            let fleet = other.fleet.as_ref().map(|fleet| format!(" of fleet {fleet}")).unwrap_or_default();
            Fate::Elsewhere(format!("{}/{}{fleet}", other.namespace, other.name))
        }
        None => Fate::New,
    }
}

/// Instances that other fleets select, as far as that can be told without asking the cloud. Whoever makes an object first has
/// them.
fn contended(snapshot: &Snapshot) -> BTreeMap<Box<str>, &str> {
    let mut contended = BTreeMap::new();
    for other in snapshot.fleets.value().into_iter().flatten() {
        let answer = match (&other.spec.node_selector, &other.spec.instance_ids) {
            (Some(selector), _) => match snapshot.nodes.as_ref().and_then(Fetched::value) {
                Some(nodes) => of_nodes(nodes, selector),
                None => continue,
            },
            (None, Some(ids)) => DiscoveryResult::from_list(ids),
            (None, None) => continue,
        };
        for id in answer.exclude(&other.spec.exclude).found.into_keys() {
            contended.entry(id).or_insert(other.name.as_str());
        }
    }
    contended
}

fn obstacles(snapshot: &Snapshot) -> Vec<String> {
    let spec = &snapshot.spec;
    let mut obstacles = Vec::new();
    if snapshot.namespace == Fetched::Yes(false) {
        obstacles.push(format!(
            "namespace {0} does not exist, so nothing would start: kubectl create namespace {0}",
            spec.target_namespace
        ));
    }
    if has_unknown_members(snapshot) {
        obstacles.push(
            "which of these it has already may not be seen, so what is told as new may be its own".to_owned(),
        );
    }
    if spec.suspend {
        obstacles.push("spec.suspend is set, so nothing would start until it is taken away".to_owned());
    }
    obstacles
}

/// The fleet is there, and what it has already may not be seen: what looks new may be its own.
fn has_unknown_members(snapshot: &Snapshot) -> bool {
    snapshot.objects.value().is_none() && snapshot.exists.value().is_some_and(Option::is_some)
}

fn rollout(snapshot: &Snapshot, instances: &[Planned]) -> Rollout {
    let limits = Limits::of(&snapshot.spec);
    let wave = limits.wave();
    let first =
        instances.iter().filter(|planned| planned.fate.takes() && !has_unknown_members(snapshot)).count();
    let all = instances.iter().filter(|planned| planned.fate.takes() || planned.fate == Fate::Kept).count();
    let waves = |number: usize| number.div_ceil(wave as usize);
    let needed = |number: usize| snapshot.rate.and_then(|rate| time(number, rate));
    let ends = needed(first).and_then(|needed| snapshot.now.checked_add(needed).ok());
    Rollout {
        first,
        all,
        wave,
        waves: waves(first),
        waves_of_all: waves(all),
        seconds: needed(first).map(|needed| needed.as_secs()),
        seconds_of_all: needed(all).map(|needed| needed.as_secs()),
        ends,
        overruns: needed(all).and_then(|needed| overruns(snapshot, needed)),
        restarts: limits.reboot,
    }
}

/// One call an instance, evenly spread.
fn time(number: usize, rate: f64) -> Option<Duration> {
    let number = u32::try_from(number).ok()?;
    Duration::try_from_secs_f64((f64::from(number) * 60.0 / rate).ceil()).ok()
}

fn overruns(snapshot: &Snapshot, needed: Duration) -> Option<Overrun> {
    let spec = &snapshot.spec;
    spec.window.as_ref()?;
    // What is asked for by hand does not wait for the window.
    spec.rotation.as_deref().filter(|rotation| rotation.interval.is_some() || rotation.schedule.is_some())?;
    let plan = schedule::Plan::new(spec.rotation.as_deref(), spec.window.as_deref()).ok()?;
    let opens = plan.opening(snapshot.now)?;
    let ends = plan.after_open_time(opens, needed)?;
    // With the window open all the time it would end earlier.
    let unbroken = opens.checked_add(needed).ok()?;
    (ends > unbroken).then_some(Overrun { opens, ends })
}

/// The instances that a fleet would ask the cloud about, by region; those without one stand under the empty name.
#[must_use]
pub fn to_describe(snapshot: &Snapshot, own_region: Option<&str>) -> BTreeMap<String, BTreeSet<String>> {
    let mut regions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let Some(answer) = selected(snapshot, &mut Vec::new()) else { return regions };
    for (id, region) in answer.exclude(&snapshot.spec.exclude).found {
        let region = region.as_deref().or(own_region).unwrap_or_default().to_owned();
        regions.entry(region).or_default().insert(id.to_string());
    }
    regions
}

#[cfg(test)]
mod tests;
