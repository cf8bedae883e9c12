//! All rotations that were asked for together, and what is to be written of them. Pure: it is fed with what is heard.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use super::{
    Asked,
    choose::{Target, fleet_key, label},
    step::{self, Request, Standing, Step},
};
use crate::{ages, error::some_of, progress, summary::ObjectSummary};
use vncpassword_core::api::ClusterVncPassword;

/// Cells of the bar.
const BAR: usize = 24;
/// How many names a line holds.
const NAMED: usize = 5;
/// With so many, each wait is told of one object only.
const MANY: usize = 20;

/// All of them.
pub struct Session {
    began: Timestamp,
    home: Option<String>,
    /// By key.
    entries: BTreeMap<String, Entry>,
    reported_waits: BTreeSet<String>,
    reported_members: BTreeSet<String>,
    moved: bool,
}

struct Entry {
    request: Request,
    /// What lines call it.
    label: String,
    target: Target,
    step: Step,
    /// Whether it was heard of since it was asked: what it was before tells nothing.
    observed: bool,
}

/// What is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// The end of one: an answer.
    Finished(String),
    /// Something on the way: a remark.
    Progress(String),
}

impl Session {
    /// All that were asked just now; `home` is the namespace that is not named.
    pub fn new(asked: Vec<Asked>, home: Option<&str>, now: Timestamp) -> Self {
        let entry = |Asked { target, at }: Asked| {
            let before = match &target {
                Target::Object(object) => Standing::of_object(object),
                Target::Fleet(fleet) => Standing::of_fleet(fleet),
            };
            let request = Request { at, asked: now, before };
            let label = target.label(home);
            (target.key(), Entry { request, label, target, step: Step::UnderWay, observed: false })
        };
        Self {
            began: now,
            home: home.map(str::to_owned),
            entries: asked.into_iter().map(entry).collect(),
            reported_waits: BTreeSet::new(),
            reported_members: BTreeSet::new(),
            moved: false,
        }
    }

    /// The object is like this now.
    pub fn object(&mut self, object: Box<ObjectSummary>, now: Timestamp) -> Option<Line> {
        self.observed(Target::Object(object), now)
    }

    /// The fleet is like this now.
    pub fn fleet(&mut self, fleet: Box<ClusterVncPassword>, now: Timestamp) -> Option<Line> {
        self.observed(Target::Fleet(fleet), now)
    }

    /// A `VncPassword` of a fleet is like this now.
    pub fn child(&mut self, object: &ObjectSummary) -> Option<Line> {
        let fleet = self.entries.get(&fleet_key(object.fleet()?))?;
        let rotated = object.status.last_handled_rotate_at.is_some_and(|handled| handled >= fleet.request.at);
        let key = label(object, None);
        // One that was asked by itself has a line of its own.
        if !rotated || self.entries.contains_key(&key) || !self.reported_members.insert(key) {
            return None;
        }
        let label = label(object, self.home.as_deref());
        let id = object.status.request_id.as_deref().unwrap_or("none");
        Some(Line::Finished(format!("{label}: rotated, RequestId {id}")))
    }

    /// It is gone.
    pub fn gone(&mut self, key: &str) -> Option<Line> {
        self.advance(key, Step::Failed("was deleted".to_owned()))
    }

    fn observed(&mut self, target: Target, now: Timestamp) -> Option<Line> {
        let key = target.key();
        let entry = self.entries.get_mut(&key)?;
        let version = |target: &Target| match target {
            Target::Object(object) => object.resource_version(),
            Target::Fleet(fleet) => fleet.resource_version(),
        };
        let uid = |target: &Target| match target {
            Target::Object(object) => object.uid(),
            Target::Fleet(fleet) => fleet.uid(),
        };
        self.moved |= entry.observed && version(&entry.target) != version(&target);
        let step = if uid(&entry.target) == uid(&target) {
            entry.target = target;
            entry.observed = true;
            step_of(entry, now)
        } else {
            Step::Failed("was deleted and created anew".to_owned())
        };
        self.advance(&key, step)
    }

    /// Time goes on.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Line> {
        let open = self.entries.iter().filter(|(_, entry)| entry.observed && !entry.step.is_over());
        let steps: Vec<(String, Step)> =
            open.map(|(key, entry)| (key.clone(), step_of(entry, now))).collect();
        steps.into_iter().filter_map(|(key, step)| self.advance(&key, step)).collect()
    }

    fn advance(&mut self, key: &str, step: Step) -> Option<Line> {
        let many = self.entries.len() > MANY;
        let entry = self.entries.get_mut(key)?;
        // What is done stays done, whatever becomes of the object afterwards.
        if entry.step == step || matches!(entry.step, Step::Done(_)) {
            return None;
        }
        entry.step = step.clone();
        let label = &entry.label;
        match step {
            Step::Done(text) => Some(Line::Finished(format!("{label}: {text}"))),
            Step::Failed(text) => Some(Line::Finished(format!("{label}: failed: {text}"))),
            Step::Waits(text) if !many => Some(Line::Progress(format!("{label}: {text}"))),
            Step::Waits(text) => {
                let line = format!("{label}: {text} (told of one, others may as well)");
                self.reported_waits.insert(text).then_some(Line::Progress(line))
            }
            Step::UnderWay => None,
        }
    }

    /// Whether nothing more is to be expected.
    pub fn over(&self) -> bool {
        self.entries.values().all(|entry| entry.step.is_over())
    }

    /// Whether anything has happened since all were asked.
    pub fn moved(&self) -> bool {
        self.moved || self.entries.values().any(|entry| entry.step != Step::UnderWay)
    }

    /// How many of the fleets' passwords have no line yet although they are through.
    pub fn unreported_members(&self) -> usize {
        let updated: usize = self.fleets().map(|(updated, _)| updated).sum();
        updated.saturating_sub(self.reported_members.len())
    }

    pub(super) fn failed(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.step, Step::Failed(_))).count()
    }

    fn done(&self) -> usize {
        self.entries.values().filter(|entry| matches!(entry.step, Step::Done(_))).count()
    }

    /// Updated and all of the fleets' rollouts that were asked for.
    fn fleets(&self) -> impl Iterator<Item = (usize, usize)> {
        self.entries.values().filter_map(|entry| {
            let Target::Fleet(fleet) = &entry.target else { return None };
            let status = fleet.status.as_ref()?;
            let handled =
                status.last_handled_rotate_at.as_ref().is_some_and(|handled| handled.0 >= entry.request.at);
            let rollout = status.rollout.as_ref().filter(|_| handled);
            let size = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
            Some(match rollout {
                Some(rollout) => (size(rollout.updated), size(rollout.total)),
                None => (0, size(status.discovered)),
            })
        })
    }

    /// Passwords that are new, of how many.
    fn passwords(&self) -> (usize, usize) {
        let objects = self.entries.values().filter(|entry| matches!(entry.target, Target::Object(_)));
        let done = objects.clone().filter(|entry| matches!(entry.step, Step::Done(_))).count();
        self.fleets()
            .fold((done, objects.count()), |(done, all), (updated, total)| (done + updated, all + total))
    }

    /// The bar, with what is known beside it.
    pub fn line(&self, now: Timestamp) -> String {
        let (done, all) = self.passwords();
        let wide = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let mut parts = vec![format!("{} {done}/{all}", progress::bar(wide(done), wide(all), BAR))];
        if self.failed() > 0 {
            parts.push(format!("{} failed", self.failed()));
        }
        if let Some(left) = self.left(done, all, now) {
            parts.push(format!("about {left} left"));
        }
        if let Some((text, labels)) = self.waits().into_iter().max_by_key(|(_, labels)| labels.len()) {
            let who = if let [one] = labels.as_slice() { one.clone() } else { labels.len().to_string() };
            parts.push(format!("{who}: {text}"));
        }
        parts.join(", ")
    }

    /// At the pace so far.
    fn left(&self, done: usize, all: usize, now: Timestamp) -> Option<String> {
        let elapsed = now.duration_since(self.began).as_secs();
        let (done, all) = (i64::try_from(done).ok()?, i64::try_from(all).ok()?);
        // The first few tell nothing of the pace.
        if done < 5 || done >= all || elapsed < 2 {
            return None;
        }
        let left = elapsed.checked_mul(all - done)? / done;
        ages::until(now.checked_add(SignedDuration::from_secs(left)).ok()?, now)
    }

    fn waits(&self) -> BTreeMap<&str, Vec<String>> {
        let mut waits: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for entry in self.entries.values() {
            if let Step::Waits(text) = &entry.step {
                waits.entry(text).or_default().push(entry.label.clone());
            }
        }
        waits
    }

    /// What is not through, by what it waits for.
    pub fn unfinished(&self) -> String {
        let mut parts: Vec<String> = self
            .waits()
            .into_iter()
            .map(|(text, labels)| format!("{}: {text}", some_of(&labels, NAMED)))
            .collect();
        let under_way = self.entries.values().filter(|entry| entry.step == Step::UnderWay);
        let under_way: Vec<&String> = under_way.map(|entry| &entry.label).collect();
        if !under_way.is_empty() {
            parts.push(format!("{}: under way", some_of(&under_way, NAMED)));
        }
        parts.join("; ")
    }

    /// How it came out.
    pub fn summary(&self, now: Timestamp) -> String {
        let (done, all) = self.passwords();
        let took = ages::since(self.began, now);
        let failed = match self.failed() {
            0 => String::new(),
            failed => format!(", {failed} failed; see kubectl vncpassword explain"),
        };
        let open = match self.entries.len() - self.done() - self.failed() {
            0 => String::new(),
            open => format!(", {open} not through"),
        };
        format!("{done} of {all} rotated in {took}{open}{failed}")
    }
}

fn step_of(entry: &Entry, now: Timestamp) -> Step {
    match &entry.target {
        Target::Object(object) => step::of_object(object, &entry.request, now),
        Target::Fleet(fleet) => step::of_fleet(fleet, &entry.request, now),
    }
}

#[cfg(test)]
mod tests;
