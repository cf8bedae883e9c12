//! What a fleet would do: from the object and what there is in the cluster and in the cloud to instances, waves and time.
//! Pure. Which instances there are is reckoned by the operator's own functions.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;
use serde::Serialize;

use crate::known::Known;
use vncpassword_core::{
    api::{ClusterVncPasswordSpec, NodeSelector, SkippedNode},
    fleet::{DiscoveryResult, Limits, matches_selector, member_object_name, secret_name, select},
    rotation::schedule,
};

/// All that was read.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Name of the fleet.
    pub name: String,
    /// What it is to be.
    pub spec: ClusterVncPasswordSpec,
    /// A fleet of this name that exists: its uid.
    pub exists: Known<Option<String>>,
    /// The Nodes of the cluster; asked for where a fleet selects by them.
    pub nodes: Option<Known<Vec<NodeSeen>>>,
    /// What the cloud says; asked where the fleet has tags.
    pub cloud: Option<Known<CloudSeen>>,
    /// The `VncPassword`s that there are.
    pub objects: Known<Vec<ObjectSeen>>,
    /// The other fleets.
    pub fleets: Known<Vec<OtherFleet>>,
    /// Whether the target namespace exists.
    pub namespace: Known<bool>,
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
pub struct ObjectSeen {
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
pub fn forecast(facts: &Facts) -> Forecast {
    let Facts { name, spec, .. } = facts;
    let mut unknown = Vec::new();
    let selected = selected(facts, &mut unknown);
    let (answer, sorted) = match selected {
        Some(answer) => {
            let (answer, sorted) = narrowed(facts, answer, &mut unknown);
            (Some(answer), sorted)
        }
        None => (None, Narrowed::default()),
    };
    for (what, problem) in [
        ("which instances are owned elsewhere", facts.objects.problem()),
        ("which other fleets there are", facts.fleets.problem()),
        ("whether a fleet of this name exists", facts.exists.problem()),
        ("whether the namespace exists", facts.namespace.problem()),
    ] {
        unknown.extend(problem.map(|problem| format!("{what}: {problem}")));
    }
    let instances = answer.as_ref().map(|answer| planned(facts, answer));
    let (pruned, doubted) = answer.as_ref().map(|answer| pruned(facts, answer)).unwrap_or_default();
    let rollout = instances.as_ref().map(|instances| rollout(facts, instances));
    Forecast {
        fleet: name.clone(),
        target_namespace: spec.target_namespace.clone(),
        exists: facts.exists.value().is_some_and(Option::is_some),
        skipped_nodes: answer.map(|answer| answer.skipped).unwrap_or_default(),
        instances,
        at_most: sorted.unsure,
        pruned,
        doubted,
        excluded: sorted.excluded,
        untagged: sorted.untagged,
        unseen: sorted.unseen,
        unknown,
        obstacles: obstacles(facts),
        rollout,
    }
}

/// The instances that the selector names; `None`: they are not known.
fn selected(facts: &Facts, unknown: &mut Vec<String>) -> Option<DiscoveryResult> {
    let spec = &facts.spec;
    if let Some(selector) = &spec.node_selector {
        let nodes = facts.nodes.as_ref()?;
        unknown.extend(nodes.problem().map(|problem| format!("which Nodes there are: {problem}")));
        return nodes.value().map(|nodes| of_nodes(nodes, selector));
    }
    if let Some(ids) = &spec.instance_ids {
        return Some(DiscoveryResult::from_list(ids));
    }
    let cloud = facts.cloud.as_ref()?;
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
    facts: &Facts,
    answer: DiscoveryResult,
    unknown: &mut Vec<String>,
) -> (DiscoveryResult, Narrowed) {
    let spec = &facts.spec;
    let mut sorted = Narrowed {
        excluded: spec.exclude.iter().filter(|id| answer.found.contains_key(id.as_str())).cloned().collect(),
        ..Narrowed::default()
    };
    let answer = answer.exclude(&spec.exclude);
    if spec.require_tags.is_empty() {
        return (answer, sorted);
    }
    let cloud = facts.cloud.as_ref();
    let Some(CloudSeen { carries, .. }) = cloud.and_then(Known::value) else {
        sorted.unsure = true;
        // Said once where the selector has asked the cloud as well.
        if spec.tags.is_none() {
            let problem = cloud.and_then(Known::problem).unwrap_or_default();
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

fn planned(facts: &Facts, answer: &DiscoveryResult) -> Vec<Planned> {
    let Facts { name, spec, .. } = facts;
    let pattern = spec.template.as_ref().and_then(|template| template.secret_name.as_deref());
    let objects: &[ObjectSeen] = facts.objects.value().map(Vec::as_slice).unwrap_or_default();
    let mut by_instance: BTreeMap<&str, Vec<&ObjectSeen>> = BTreeMap::new();
    let mut by_name: BTreeMap<&str, &ObjectSeen> = BTreeMap::new();
    for object in objects {
        by_instance.entry(&object.instance).or_default().push(object);
        if object.namespace == spec.target_namespace {
            by_name.insert(&object.name, object);
        }
    }
    let contended = contended(facts);
    let planned = answer.found.iter().map(|(id, region)| {
        let child = member_object_name(name, id);
        let others = by_instance.get(&**id).map(Vec::as_slice).unwrap_or_default();
        let fate = fate(facts, id, by_name.get(child.as_str()).copied(), others);
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
fn pruned(facts: &Facts, answer: &DiscoveryResult) -> (Vec<String>, bool) {
    let Some(uid) = facts.exists.value().and_then(Option::as_ref) else { return Default::default() };
    let ours =
        facts.objects.value().into_iter().flatten().filter(|object| object.owner.as_ref() == Some(uid));
    let known: BTreeSet<&str> = ours.map(|object| object.instance.as_str()).collect();
    let selection = select(answer, facts.now, &known, None, Duration::ZERO, facts.now);
    let gone =
        known.into_iter().filter(|id| !answer.found.contains_key(*id) && !answer.uncertain.contains(*id));
    (gone.map(str::to_owned).collect(), selection.degraded)
}

fn fate(facts: &Facts, id: &str, namesake: Option<&ObjectSeen>, others: &[&ObjectSeen]) -> Fate {
    let uid = facts.exists.value().and_then(Option::as_ref);
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
fn contended(facts: &Facts) -> BTreeMap<Box<str>, &str> {
    let mut contended = BTreeMap::new();
    for other in facts.fleets.value().into_iter().flatten() {
        let answer = match (&other.spec.node_selector, &other.spec.instance_ids) {
            (Some(selector), _) => match facts.nodes.as_ref().and_then(Known::value) {
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

fn obstacles(facts: &Facts) -> Vec<String> {
    let spec = &facts.spec;
    let mut obstacles = Vec::new();
    if facts.namespace == Known::Yes(false) {
        obstacles.push(format!(
            "namespace {0} does not exist, so nothing would start: kubectl create namespace {0}",
            spec.target_namespace
        ));
    }
    if has_unknown_members(facts) {
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
fn has_unknown_members(facts: &Facts) -> bool {
    facts.objects.value().is_none() && facts.exists.value().is_some_and(Option::is_some)
}

fn rollout(facts: &Facts, instances: &[Planned]) -> Rollout {
    let limits = Limits::of(&facts.spec);
    let wave = limits.wave();
    let first =
        instances.iter().filter(|planned| planned.fate.takes() && !has_unknown_members(facts)).count();
    let all = instances.iter().filter(|planned| planned.fate.takes() || planned.fate == Fate::Kept).count();
    let waves = |number: usize| number.div_ceil(wave as usize);
    let needed = |number: usize| facts.rate.and_then(|rate| time(number, rate));
    let ends = needed(first).and_then(|needed| facts.now.checked_add(needed).ok());
    Rollout {
        first,
        all,
        wave,
        waves: waves(first),
        waves_of_all: waves(all),
        seconds: needed(first).map(|needed| needed.as_secs()),
        seconds_of_all: needed(all).map(|needed| needed.as_secs()),
        ends,
        overruns: needed(all).and_then(|needed| overruns(facts, needed)),
        restarts: limits.reboot,
    }
}

/// One call an instance, evenly spread.
fn time(number: usize, rate: f64) -> Option<Duration> {
    let number = u32::try_from(number).ok()?;
    Duration::try_from_secs_f64((f64::from(number) * 60.0 / rate).ceil()).ok()
}

fn overruns(facts: &Facts, needed: Duration) -> Option<Overrun> {
    let spec = &facts.spec;
    spec.window.as_ref()?;
    // What is asked for by hand does not wait for the window.
    spec.rotation.as_deref().filter(|rotation| rotation.interval.is_some() || rotation.schedule.is_some())?;
    let plan = schedule::Plan::new(spec.rotation.as_deref(), spec.window.as_deref()).ok()?;
    let opens = plan.opening(facts.now)?;
    let ends = plan.after_open_time(opens, needed)?;
    // With the window open all the time it would end earlier.
    let unbroken = opens.checked_add(needed).ok()?;
    (ends > unbroken).then_some(Overrun { opens, ends })
}

/// The instances that a fleet would ask the cloud about, by region; those without one stand under the empty name.
#[must_use]
pub fn to_describe(facts: &Facts, own_region: Option<&str>) -> BTreeMap<String, BTreeSet<String>> {
    let mut regions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let Some(answer) = selected(facts, &mut Vec::new()) else { return regions };
    for (id, region) in answer.exclude(&facts.spec.exclude).found {
        let region = region.as_deref().or(own_region).unwrap_or_default().to_owned();
        regions.entry(region).or_default().insert(id.to_string());
    }
    regions
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn spec(over: &Value) -> ClusterVncPasswordSpec {
        let mut spec = json!({"targetNamespace": "vnc"});
        spec.as_object_mut().unwrap().extend(over.as_object().unwrap().clone());
        serde_json::from_value(spec).unwrap()
    }

    fn facts(over: &Value) -> Facts {
        Facts {
            name: "nodes".to_owned(),
            spec: spec(over),
            exists: Known::Yes(None),
            nodes: None,
            cloud: None,
            objects: Known::Yes(vec![]),
            fleets: Known::Yes(vec![]),
            namespace: Known::Yes(true),
            rate: None,
            now: "2026-01-02T03:04:05Z".parse().unwrap(),
        }
    }

    fn node(name: &str, pool: &str, provider_id: Option<&str>) -> NodeSeen {
        NodeSeen {
            name: name.to_owned(),
            labels: [("pool".to_owned(), pool.to_owned())].into(),
            provider_id: provider_id.map(str::to_owned),
        }
    }

    fn object(namespace: &str, name: &str, instance: &str, owner: Option<&str>) -> ObjectSeen {
        ObjectSeen {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            instance: instance.to_owned(),
            owner: owner.map(str::to_owned),
            fleet: None,
        }
    }

    fn fates(forecast: &Forecast) -> Vec<(&str, &Fate)> {
        let instances = forecast.instances.as_ref().unwrap();
        instances.iter().map(|planned| (planned.instance.as_str(), &planned.fate)).collect()
    }

    #[test]
    fn nodes_that_fit_are_taken_and_those_that_stand_for_none_are_named() {
        let mut facts = facts(&json!({"nodeSelector": {"matchLabels": {"pool": "db"}}, "exclude": ["i-b"]}));
        facts.nodes = Some(Known::Yes(vec![
            node("n1", "db", Some("cn-hangzhou.i-a")),
            node("n2", "db", Some("alicloud://cn-hangzhou.i-b")),
            node("n3", "web", Some("cn-hangzhou.i-c")),
            node("n4", "db", None),
            node("n5", "db", Some("cn-hangzhou.i-d")),
            node("n6", "db", Some("cn-hangzhou.i-d")),
        ]));
        let forecast = forecast(&facts);
        assert_eq!(fates(&forecast), [("i-a", &Fate::New)]);
        assert_eq!(forecast.excluded, ["i-b"]);
        let skipped: Vec<&str> = forecast.skipped_nodes.iter().map(|node| node.node.as_str()).collect();
        assert_eq!(skipped, ["n4", "n5", "n6"]);
        let planned = &forecast.instances.unwrap()[0];
        assert_eq!((planned.name.as_str(), planned.secret.as_str()), ("nodes-i-a", "nodes-i-a"));
        assert_eq!(planned.region.as_deref(), Some("cn-hangzhou"));
    }

    #[test]
    fn without_a_right_to_nodes_the_instances_are_not_known() {
        let mut facts = facts(&json!({"nodeSelector": {}}));
        facts.nodes = Some(Known::Denied("list nodes".to_owned()));
        let forecast = forecast(&facts);
        assert_eq!((forecast.instances, forecast.rollout), (None, None));
        assert_eq!(forecast.unknown, ["which Nodes there are: you may not list nodes"]);
    }

    #[test]
    fn tags_are_the_clouds_to_tell() {
        let mut facts = facts(&json!({"tags": [{"key": "a"}], "regionIds": ["cn-hangzhou"]}));
        facts.cloud = Some(Known::Failed("you have no credentials".to_owned()));
        let blind = forecast(&facts);
        assert_eq!(blind.instances, None);
        assert_eq!(blind.unknown, ["which instances carry the tags: you have no credentials"]);
        let tagged =
            vec![("cn-hangzhou".to_owned(), "i-a".to_owned()), ("cn-hangzhou".to_owned(), "web".to_owned())];
        facts.cloud = Some(Known::Yes(CloudSeen { tagged: Some(tagged), carries: BTreeMap::new() }));
        assert_eq!(fates(&forecast(&facts)), [("i-a", &Fate::New)]);
    }

    #[test]
    fn required_tags_keep_out_what_lacks_them_and_name_what_is_not_shown() {
        let mut facts =
            facts(&json!({"instanceIds": ["i-a", "i-b", "i-c"], "requireTags": [{"key": "ours"}]}));
        let carries = [("i-a".to_owned(), true), ("i-b".to_owned(), false)].into();
        facts.cloud = Some(Known::Yes(CloudSeen { tagged: None, carries }));
        let seen = forecast(&facts);
        assert_eq!(fates(&seen), [("i-a", &Fate::New)]);
        assert_eq!((&seen.untagged, &seen.unseen), (&vec!["i-b".to_owned()], &vec!["i-c".to_owned()]));
        facts.cloud = Some(Known::Failed("no credentials".to_owned()));
        let blind = forecast(&facts);
        assert_eq!(blind.instances.as_ref().unwrap().len(), 3);
        assert!(blind.at_most && !seen.at_most);
        assert_eq!(blind.unknown, ["which of them carry spec.requireTags: no credentials"]);
    }

    #[test]
    fn instances_that_others_have_are_left_to_them() {
        let mut facts = facts(&json!({"instanceIds": ["i-a", "i-b", "i-c", "i-d", "i-e"]}));
        facts.exists = Known::Yes(Some("7".to_owned()));
        facts.objects = Known::Yes(vec![
            object("team-a", "db", "i-a", None),
            object("vnc", "nodes-i-b", "i-b", Some("7")),
            object("vnc", "nodes-i-c", "i-c", Some("6")),
            object("other", "nodes-i-d", "i-x", None),
        ]);
        facts.fleets = Known::Yes(vec![OtherFleet {
            name: "all".to_owned(),
            spec: spec(&json!({"instanceIds": ["i-a", "i-e"]})),
        }]);
        let forecast = forecast(&facts);
        assert_eq!(
            fates(&forecast),
            [
                ("i-a", &Fate::Elsewhere("team-a/db".to_owned())),
                ("i-b", &Fate::Kept),
                ("i-c", &Fate::NameTaken("vnc/nodes-i-c".to_owned())),
                ("i-d", &Fate::New),
                ("i-e", &Fate::Contended("all".to_owned())),
            ]
        );
        let rollout = forecast.rollout.unwrap();
        assert_eq!((rollout.first, rollout.all), (2, 3));
    }

    #[test]
    fn what_is_not_selected_any_more_is_pruned_and_too_much_of_it_is_doubted() {
        let mut facts = facts(&json!({"instanceIds": ["i-a"]}));
        facts.exists = Known::Yes(Some("7".to_owned()));
        let child = |id: &str| object("vnc", &format!("nodes-{id}"), id, Some("7"));
        facts.objects = Known::Yes(vec![child("i-a"), child("i-b"), object("vnc", "own", "i-c", None)]);
        let few = forecast(&facts);
        assert_eq!((few.pruned, few.doubted), (vec!["i-b".to_owned()], false));
        facts.objects = Known::Yes((0..12).map(|n| child(&format!("i-{n}"))).collect());
        let many = forecast(&facts);
        assert_eq!((many.pruned.len(), many.doubted), (12, true));
    }

    #[test]
    fn waves_and_time_follow_the_pace_and_the_rate() {
        let ids: Vec<String> = (0..95).map(|n| format!("i-{n}")).collect();
        let mut facts = facts(&json!({"instanceIds": ids, "rollout": {"maxConcurrent": 20}}));
        let plain = forecast(&facts).rollout.unwrap();
        assert_eq!((plain.wave, plain.waves, plain.seconds, plain.ends), (20, 5, None, None));
        facts.rate = Some(60.0);
        let timed = forecast(&facts).rollout.unwrap();
        assert_eq!(timed.seconds, Some(95));
        assert_eq!(timed.ends, Some("2026-01-02T03:05:40Z".parse().unwrap()));
        facts.spec = spec(&json!({"instanceIds": ids, "template": {"activation": "Reboot"}}));
        let restarting = forecast(&facts).rollout.unwrap();
        assert_eq!((restarting.wave, restarting.waves, restarting.restarts), (1, 95, true));
        facts.spec = spec(&json!({"instanceIds": ids}));
        assert_eq!(forecast(&facts).rollout.unwrap().waves, 10, "ten at once where nothing is said");
    }

    #[test]
    fn no_first_passwords_are_told_of_a_fleet_whose_objects_may_not_be_seen() {
        let mut facts = facts(&json!({"instanceIds": ["i-a"]}));
        assert_eq!(forecast(&facts).rollout.unwrap().first, 1);
        facts.exists = Known::Yes(Some("uid-1".into()));
        facts.objects = Known::Denied("list vncpasswords in all namespaces".to_owned());
        let forecast = forecast(&facts);
        assert_eq!(forecast.rollout.unwrap().first, 0);
        assert!(
            forecast.obstacles.iter().any(|told| told.contains("may be its own")),
            "{:?}",
            forecast.obstacles
        );
    }

    #[test]
    fn a_rollout_that_is_longer_than_the_window_ends_at_a_later_opening() {
        let ids: Vec<String> = (0..100).map(|n| format!("i-{n}")).collect();
        let window = |duration: &str| json!({"schedule": "0 4 * * *", "duration": duration});
        let mut facts = facts(&json!({"instanceIds": ids, "rotation": {}, "window": window("1h")}));
        facts.rate = Some(1.0);
        assert_eq!(forecast(&facts).rollout.unwrap().overruns, None, "on demand no window is waited for");
        facts.spec =
            spec(&json!({"instanceIds": ids, "rotation": {"interval": "720h"}, "window": window("1h")}));
        let overruns = forecast(&facts).rollout.unwrap().overruns.unwrap();
        assert_eq!(overruns.opens, "2026-01-02T04:00:00Z".parse().unwrap());
        assert_eq!(overruns.ends, "2026-01-03T04:40:00Z".parse().unwrap());
        facts.rate = Some(2.0);
        assert_eq!(forecast(&facts).rollout.unwrap().overruns, None);
    }

    #[test]
    fn what_is_in_the_way_and_what_is_not_known_is_said() {
        let mut facts = facts(&json!({"instanceIds": ["i-a"], "suspend": true}));
        facts.namespace = Known::Yes(false);
        facts.objects = Known::Denied("list vncpasswords".to_owned());
        let forecast = forecast(&facts);
        assert_eq!(forecast.obstacles.len(), 2);
        assert!(forecast.obstacles[0].contains("kubectl create namespace vnc"));
        assert_eq!(forecast.unknown, ["which instances are owned elsewhere: you may not list vncpasswords"]);
    }

    #[test]
    fn the_cloud_is_asked_region_by_region_about_what_is_left() {
        let facts = facts(&json!({"instanceIds": ["i-a", "cn-beijing.i-b", "i-c"], "exclude": ["i-c"]}));
        let regions = to_describe(&facts, Some("cn-hangzhou"));
        assert_eq!(regions["cn-hangzhou"], ["i-a".to_owned()].into());
        assert_eq!(regions["cn-beijing"], ["i-b".to_owned()].into());
        assert_eq!(to_describe(&facts, None)[""], ["i-a".to_owned()].into());
    }
}
