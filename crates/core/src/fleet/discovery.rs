//! Determines the members of a fleet from the discovered instances and the existing member objects.
//!
//! The existing member objects are the only memory: nothing is kept in the process.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{ProviderId, parse_instance, provider_id::is_instance_id};
use crate::{
    api::{SkipReason, SkippedNode, UnconfirmedDiscovery},
    rotation::verdict::{after, seconds},
};

/// With fewer member objects than this, losing most of them needs no confirmation.
const MIN_OBJECTS_FOR_RATIO: usize = 10;
/// A result that would prune too much is confirmed when it came this often in a row, over at least
/// [`MIN_CONFIRMATION_TIME`].
const REQUIRED_RESULTS: u32 = 3;
const MIN_CONFIRMATION_TIME: Duration = Duration::from_secs(600);

/// The instances that a discovery found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DiscoveryResult {
    /// Region by instance ID; `None` if the region is not known.
    pub found: BTreeMap<Box<str>, Option<Box<str>>>,
    /// Instances of which nothing is certain. No member object is created for them, and an existing one is
    /// not pruned.
    pub uncertain: BTreeSet<Box<str>>,
    /// Nodes that name no instance.
    pub skipped: Vec<SkippedNode>,
}

impl DiscoveryResult {
    /// The instances of Nodes, given as name and `spec.providerID`. If two Nodes name the same instance, both
    /// are skipped.
    pub fn from_nodes<'a>(nodes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut result = Self::default();
        let mut by_instance: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
        for (node, provider_id) in nodes {
            let reason = match ProviderId::parse(provider_id) {
                ProviderId::Instance { region, id } => {
                    by_instance.entry(id).or_insert((region, Vec::new())).1.push(node);
                    continue;
                }
                ProviderId::Absent => SkipReason::NoProviderId,
                ProviderId::Foreign => SkipReason::ForeignProviderId,
                ProviderId::Malformed => SkipReason::MalformedProviderId,
            };
            result.skipped.push(SkippedNode { node: node.to_owned(), reason });
        }
        for (id, (region, nodes)) in by_instance {
            if nodes.len() == 1 {
                result.found.insert(id.into(), Some(region.into()));
            } else {
                result.uncertain.insert(id.into());
                result.skipped.extend(nodes.into_iter().map(|node| SkippedNode {
                    node: node.to_owned(),
                    reason: SkipReason::DuplicateProviderId,
                }));
            }
        }
        result.skipped.sort_by(|one, other| one.node.cmp(&other.node));
        result
    }

    /// The instances of `spec.instanceIds`. Invalid entries are left out: the API server refuses them.
    #[must_use]
    pub fn from_list(entries: &[String]) -> Self {
        let instances = entries.iter().filter_map(|entry| parse_instance(entry).ok());
        let found = instances.map(|(region, id)| (id.into(), region.map(Into::into))).collect();
        Self { found, ..Self::default() }
    }

    /// The instances that the cloud found by tags, given as region and ID. Invalid IDs are left out.
    pub fn from_tags<'a>(instances: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let instances = instances.into_iter().filter(|(_, id)| is_instance_id(id));
        let found = instances.map(|(region, id)| (id.into(), Some(region.into()))).collect();
        Self { found, ..Self::default() }
    }

    /// Removes the instances of `spec.exclude`.
    #[must_use]
    pub fn exclude(mut self, exclude: &[String]) -> Self {
        for id in exclude {
            self.found.remove(id.as_str());
            self.uncertain.remove(id.as_str());
        }
        self
    }

    /// Removes the instances that do not match `spec.requireTags`. `matches` returns `None` if the cloud does
    /// not show the instance: it may still exist.
    #[must_use]
    pub fn require_tags(mut self, matches: impl Fn(&str) -> Option<bool>) -> Self {
        let Self { found, uncertain, .. } = &mut self;
        found.retain(|id, _| {
            let verdict = matches(id);
            if verdict.is_none() {
                uncertain.insert(id.clone());
            }
            verdict == Some(true)
        });
        uncertain.retain(|id| matches(id) != Some(false));
        self
    }
}

/// Why an instance is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Membership {
    /// It was found, in this region if it is known.
    Found(Option<Box<str>>),
    /// It was not found, but its member object stays unchanged, with the region that it has.
    Retained,
}

/// The members of a fleet, and the member objects to prune.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Members by instance ID.
    pub members: BTreeMap<Box<str>, Membership>,
    /// Instances whose member object must be pruned.
    pub to_prune: BTreeSet<Box<str>>,
    /// `status.doubt`: a result that would prune too much, until it is confirmed and everything is pruned.
    pub doubt: Option<UnconfirmedDiscovery>,
    /// Whether the result is not confirmed. If so, nothing is pruned.
    pub degraded: bool,
}

/// Compares a discovery result with the instances that have a member object (`existing`).
///
/// A result needs confirmation if it would prune all member objects, or more than half of at least ten. It is
/// confirmed after three results in a row, each at least `interval` after the previous one, over at least ten
/// minutes. `previous`: `status.doubt`. `at`: when the result arrived. A result counts once.
#[must_use]
pub fn select(
    result: &DiscoveryResult,
    at: Timestamp,
    existing: &BTreeSet<&str>,
    previous: Option<&UnconfirmedDiscovery>,
    interval: Duration,
    now: Timestamp,
) -> Selection {
    let found = result.found.iter().map(|(id, region)| (id.clone(), Membership::Found(region.clone())));
    let mut members: BTreeMap<Box<str>, Membership> = found.collect();
    let not_found = existing.iter().filter(|id| !members.contains_key(**id));
    let (uncertain, gone): (Vec<&str>, Vec<&str>) = not_found.partition(|id| result.uncertain.contains(**id));
    members.extend(uncertain.into_iter().map(|id| (id.into(), Membership::Retained)));
    let most_gone = existing.len() >= MIN_OBJECTS_FOR_RATIO && gone.len() * 2 > existing.len();
    let suspicious = !gone.is_empty() && (members.is_empty() || most_gone);
    let doubt = suspicious.then(|| count_result(previous, at, interval, now));
    let degraded = doubt.as_ref().is_some_and(|doubt| !is_confirmed(doubt, now));
    let mut to_prune = BTreeSet::new();
    if degraded {
        members.extend(gone.into_iter().map(|id| (id.into(), Membership::Retained)));
    } else {
        to_prune.extend(gone.into_iter().map(Into::into));
    }
    Selection { members, to_prune, doubt, degraded }
}

/// The members while there is no discovery result: the instances that have a member object. `status.doubt`
/// (`previous`) stays unchanged.
#[must_use]
pub fn retain_members(existing: &BTreeSet<&str>, previous: Option<&UnconfirmedDiscovery>) -> Selection {
    let members = existing.iter().map(|id| ((*id).into(), Membership::Retained)).collect();
    Selection { members, to_prune: BTreeSet::new(), doubt: previous.cloned(), degraded: true }
}

/// Counts a result that needs confirmation, unless it was counted or comes less than `interval` after the
/// last one.
fn count_result(
    previous: Option<&UnconfirmedDiscovery>,
    at: Timestamp,
    interval: Duration,
    now: Timestamp,
) -> UnconfirmedDiscovery {
    let Some(previous) = previous else {
        return UnconfirmedDiscovery { since: seconds(now), answers: 1, counted_at: seconds(now) };
    };
    let mut doubt = previous.clone();
    // The clock may have been set back.
    doubt.since = doubt.since.min(seconds(now));
    doubt.counted_at = doubt.counted_at.min(seconds(now));
    let is_new = at > doubt.counted_at.0;
    if is_new && doubt.answers < REQUIRED_RESULTS && after(doubt.counted_at.0, interval) <= now {
        doubt.answers += 1;
        doubt.counted_at = seconds(now);
    }
    doubt
}

fn is_confirmed(doubt: &UnconfirmedDiscovery, now: Timestamp) -> bool {
    doubt.answers >= REQUIRED_RESULTS && after(doubt.since.0, MIN_CONFIRMATION_TIME) <= now
}
