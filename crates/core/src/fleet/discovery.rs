//! Which instances a fleet has: an answer (of Nodes, tags or a list), held against what is known. What is known are the
//! children that stand: nothing of it lives in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::Timestamp;

use super::{ProviderId, listed};
use crate::{
    api::{Doubt, SkipReason, SkippedNode},
    rotation::verdict::{after, seconds},
};

/// A fleet of fewer children may lose most of them without a doubt.
const MANY: usize = 10;
/// So many answers in a row are believed, where they also span this time.
const ANSWERS: u32 = 3;
const SPAN: Duration = Duration::from_secs(600);

/// Which instances there are, as just found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Instances by ID, with their region where it is known.
    pub found: BTreeMap<Box<str>, Option<Box<str>>>,
    /// Instances of which nothing is certain: nothing is made for them, and what is there stays.
    pub held: BTreeSet<Box<str>>,
    /// Nodes that stand for no instance, by name.
    pub skipped: Vec<SkippedNode>,
}

impl Answer {
    /// The instances of Nodes, each with its name and `spec.providerID`. Two Nodes that name one instance are both skipped.
    pub fn of_nodes<'a>(nodes: impl IntoIterator<Item = (&'a str, Option<&'a str>)>) -> Self {
        let mut answer = Self::default();
        let mut named: BTreeMap<&str, (&str, Vec<&str>)> = BTreeMap::new();
        for (node, provider_id) in nodes {
            let reason = match ProviderId::parse(provider_id) {
                ProviderId::Instance { region, id } => {
                    named.entry(id).or_insert((region, Vec::new())).1.push(node);
                    continue;
                }
                ProviderId::Absent => SkipReason::NoProviderId,
                ProviderId::Foreign => SkipReason::ForeignProviderId,
                ProviderId::Malformed => SkipReason::MalformedProviderId,
            };
            answer.skipped.push(SkippedNode { node: node.to_owned(), reason });
        }
        for (id, (region, nodes)) in named {
            if nodes.len() == 1 {
                answer.found.insert(id.into(), Some(region.into()));
            } else {
                answer.held.insert(id.into());
                answer.skipped.extend(nodes.into_iter().map(|node| SkippedNode {
                    node: node.to_owned(),
                    reason: SkipReason::DuplicateProviderId,
                }));
            }
        }
        answer.skipped.sort_by(|one, other| one.node.cmp(&other.node));
        answer
    }

    /// The instances that a spec lists. What is none, the API server has refused.
    #[must_use]
    pub fn of_list(entries: &[String]) -> Self {
        let instances = entries.iter().filter_map(|entry| listed(entry).ok());
        let found = instances.map(|(region, id)| (id.into(), region.map(Into::into))).collect();
        Self { found, ..Self::default() }
    }

    /// The instances that the cloud found by tags, each with region and ID. What is no ID is left out.
    pub fn of_tagged<'a>(instances: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let instances = instances.into_iter().filter(|(_, id)| super::provider_id::is_instance(id));
        let found = instances.map(|(region, id)| (id.into(), Some(region.into()))).collect();
        Self { found, ..Self::default() }
    }

    /// Without those of `spec.exclude`.
    #[must_use]
    pub fn less(mut self, exclude: &[String]) -> Self {
        for id in exclude {
            self.found.remove(id.as_str());
            self.held.remove(id.as_str());
        }
        self
    }

    /// Only those that carry `spec.requireTags`; `None`: the cloud does not show the instance, which is not to say that
    /// it is gone.
    #[must_use]
    pub fn only(mut self, fits: impl Fn(&str) -> Option<bool>) -> Self {
        let Self { found, held, .. } = &mut self;
        found.retain(|id, _| {
            let fit = fits(id);
            if fit.is_none() {
                held.insert(id.clone());
            }
            fit == Some(true)
        });
        held.retain(|id| fits(id) != Some(false));
        self
    }
}

/// How an instance is a member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// It was found, in this region where that is known.
    Found(Option<Box<str>>),
    /// It was not found, and its child stays as it is: it keeps the region that it has.
    Kept,
}

/// The members of a fleet, and the children that belong to none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selection {
    /// Instances by ID.
    pub members: BTreeMap<Box<str>, Wanted>,
    /// Instances whose child is to be pruned.
    pub vanished: BTreeSet<Box<str>>,
    /// To be written to the status: an answer that is not believed yet, or was believed only after a while.
    pub doubt: Option<Doubt>,
    /// Whether the answer is not believed.
    pub degraded: bool,
}

/// Holds an answer against the instances that have a child. An answer that would have more than half of at least ten children
/// pruned, or all of any number, is not believed until it has come three times in a row, each `interval` after the other, and
/// over ten minutes at least. `before`: the doubt in the status. `at`: when the answer came; it counts once.
#[must_use]
pub fn select(
    answer: &Answer,
    at: Timestamp,
    known: &BTreeSet<&str>,
    before: Option<&Doubt>,
    interval: Duration,
    now: Timestamp,
) -> Selection {
    let found = answer.found.iter().map(|(id, region)| (id.clone(), Wanted::Found(region.clone())));
    let mut members: BTreeMap<Box<str>, Wanted> = found.collect();
    let (kept, gone): (Vec<&str>, Vec<&str>) =
        known.iter().filter(|id| !members.contains_key(**id)).partition(|id| answer.held.contains(**id));
    members.extend(kept.into_iter().map(|id| (id.into(), Wanted::Kept)));
    let suspicious =
        !gone.is_empty() && (members.is_empty() || (known.len() >= MANY && gone.len() * 2 > known.len()));
    let doubt = suspicious.then(|| counted(before, at, interval, now));
    let degraded = doubt.as_ref().is_some_and(|doubt| !believed(doubt, now));
    let mut vanished = BTreeSet::new();
    if degraded {
        members.extend(gone.into_iter().map(|id| (id.into(), Wanted::Kept)));
    } else {
        vanished.extend(gone.into_iter().map(Into::into));
    }
    Selection { members, vanished, doubt, degraded }
}

/// The members while no answer is to be had: those that have a child. `before`: the doubt in the status, which stays.
#[must_use]
pub fn blind(known: &BTreeSet<&str>, before: Option<&Doubt>) -> Selection {
    let members = known.iter().map(|id| ((*id).into(), Wanted::Kept)).collect();
    Selection { members, vanished: BTreeSet::new(), doubt: before.cloned(), degraded: true }
}

/// The doubt with this answer counted, where the last one that was is long enough ago.
fn counted(before: Option<&Doubt>, at: Timestamp, interval: Duration, now: Timestamp) -> Doubt {
    let Some(before) = before else {
        return Doubt { since: seconds(now), answers: 1, counted_at: seconds(now) };
    };
    let mut doubt = before.clone();
    // The clock may have jumped back.
    doubt.since = doubt.since.min(seconds(now));
    doubt.counted_at = doubt.counted_at.min(seconds(now));
    let fresh = at > doubt.counted_at.0;
    if fresh && doubt.answers < ANSWERS && after(doubt.counted_at.0, interval) <= now {
        doubt.answers += 1;
        doubt.counted_at = seconds(now);
    }
    doubt
}

fn believed(doubt: &Doubt, now: Timestamp) -> bool {
    doubt.answers >= ANSWERS && after(doubt.since.0, SPAN) <= now
}
