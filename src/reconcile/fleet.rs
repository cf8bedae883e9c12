//! One pass over one fleet: which instances it has, how their VncPasswords stand, what is done next.
//!
//! Where instances come from stands in `discovery`, what their VncPasswords look like in `children`, what is written in
//! `act`.
//!
//! All of it is derived anew each time, from what the watches know and from the fleet's status: a pass that is cut short
//! is gone on with by the next, in this process or in another.

mod act;
mod children;
pub(crate) mod discovery;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tracing::Instrument;

use crate::{
    context::Context,
    reconcile::{
        Error,
        status::{self, Written},
    },
    runtime::{Kind, PassResult, Requeue},
    store::{
        discovered::{interval, needed},
        object::{FleetObject, Object},
    },
};
use children::Children;
use vncpassword_alicloud::Region;
use vncpassword_core::{
    api::{ClusterVncPasswordSpec, ClusterVncPasswordStatus, ConditionType, Rollout},
    fleet::{
        Answer, Child, Discovery, Facts, Fleet, Member, Observation, Plan, Selection, Wanted, blind,
        invalid_fleet, plan, select, status as status_of,
    },
};

/// How long a pass waits for more to happen.
const GATHER: Duration = Duration::from_millis(20);
/// A pass takes no more than one part in so many of the time.
const SHARE: u32 = 5;
/// Longest pause between two passes where something happens.
const PAUSE: Duration = Duration::from_secs(2);
/// How often the status follows where nothing but numbers change.
const COUNT: Duration = Duration::from_secs(1);
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// So long an answer may take, without a word about it.
const PATIENCE: Duration = Duration::from_secs(15);
/// When to look again for an answer that is on its way; as a rule it wakes the fleet.
const ASKED: Duration = Duration::from_secs(5);
/// Writes to children in one pass: then it looks again, since a spec may be put right meanwhile.
const MOST_ACTIONS: usize = 64;
/// Turns that a rollout may take in one pass.
const MOST_TURNS: u32 = 4;

/// Runs one pass. Returns when the fleet wants to be passed over again, if at all.
pub(crate) async fn pass(context: Arc<Context>, name: Arc<str>) -> Option<Duration> {
    let fleet = context.fleets.newest(&name)?;
    let pause =
        context.fleets.remember(&fleet, |memory| memory.last).flatten().map_or(GATHER, |(ended, took)| {
            (took * SHARE).min(PAUSE).saturating_sub(ended.elapsed()).max(GATHER)
        });
    tokio::time::sleep(pause).await;
    let fleet = context.fleets.newest(&name)?;
    let begun = Instant::now();
    let result = reconcile(&context, Arc::clone(&fleet))
        .instrument(tracing::info_span!("fleet", fleet = %fleet.name))
        .await;
    let (wait, label, why) = match result {
        Ok(wait) => {
            context.fleets.remember(&fleet, |memory| memory.failures = 0);
            let why = if wait == Some(GATHER) { Requeue::Busy } else { Requeue::Scheduled };
            (wait, PassResult::Ok, why)
        }
        Err(error) => {
            let failures = context.fleets.remember(&fleet, |memory| {
                memory.failures = memory.failures.saturating_add(1);
                memory.failures
            });
            let source = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(fleet = %fleet.name, %error, source, "pass failed; it is tried again");
            let asked = error.retry_after().unwrap_or_default();
            (failures.map(|failures| backoff(failures).max(asked)), PassResult::Error, Requeue::Error)
        }
    };
    context.fleets.remember(&fleet, |memory| memory.last = Some((Instant::now(), begun.elapsed())));
    context.metrics.passed(Kind::ClusterVncPassword, label, begun.elapsed(), wait.map(|_| why));
    wait
}

fn backoff(failures: u32) -> Duration {
    RETRY.0.saturating_mul(1 << failures.saturating_sub(1).min(10)).min(RETRY.1)
}

/// Which instances a selector names, where the cloud need not be asked for that; `None`: it must, or Nodes are not all known.
fn answer_without_tags(context: &Context, spec: &ClusterVncPasswordSpec) -> Option<Answer> {
    let answer = match (&spec.node_selector, &spec.instance_ids) {
        (Some(selector), _) => context.nodes.answer(selector)?,
        (None, Some(ids)) => Answer::of_list(ids),
        (None, None) => return None,
    };
    Some(answer.less(&spec.exclude))
}

async fn reconcile(context: &Context, fleet: Arc<FleetObject>) -> Result<Option<Duration>, Error> {
    let spec = match &fleet.spec {
        Ok(spec) => Arc::clone(spec),
        Err(problem) => {
            let verdict = invalid_fleet(&fleet.status, fleet.generation, context.now());
            if verdict != *fleet.status || fleet.status_unread {
                tracing::warn!(problem, "the fleet does not fit the schema of this operator");
                status::write_fleet(&context.client, &fleet, &verdict).await?;
            }
            return Ok(None);
        }
    };
    if fleet.deleting || !context.watches(&spec.target_namespace) {
        return Ok(None);
    }
    let mut pass = Pass { context, fleet, spec };
    for _ in 0..MOST_TURNS {
        if let Next::Rest(wait) = pass.turn().await? {
            return Ok(wait);
        }
    }
    Ok(Some(GATHER))
}

/// One pass under way.
struct Pass<'a> {
    context: &'a Context,
    fleet: Arc<FleetObject>,
    spec: Arc<ClusterVncPasswordSpec>,
}

/// What follows on a decision.
enum Next {
    /// The rollout took a turn: decide again.
    Again,
    /// The pass ends, and comes again after that time, if at all.
    Rest(Option<Duration>),
}

impl Next {
    fn after(wait: Duration) -> Self {
        Self::Rest(Some(wait))
    }
}

/// Which instances there are, as far as it is known now.
struct Known {
    answer: Option<Answer>,
    /// When that was so.
    at: Timestamp,
    failed: Option<String>,
}

impl Known {
    fn of(answer: Answer, at: Timestamp) -> Self {
        Self { answer: Some(answer), at, failed: None }
    }

    fn nothing(failed: impl Into<String>, at: Timestamp) -> Self {
        Self { answer: None, at, failed: Some(failed.into()) }
    }
}

/// An instance of the fleet.
struct Instance {
    id: Box<str>,
    /// How it is a member; those that are to go keep their region as well.
    wanted: Wanted,
    child: Option<Arc<Object>>,
}

impl Instance {
    /// The region that its child is to have.
    fn region(&self) -> Option<&str> {
        match &self.wanted {
            Wanted::Found(region) => region.as_deref(),
            Wanted::Kept => self.child.as_ref()?.spec.as_ref().ok()?.region_id.as_deref(),
        }
    }

    fn uid(&self) -> Option<&str> {
        self.child.as_ref().map(|child| &*child.uid)
    }
}

impl Pass<'_> {
    /// Decides once, tells it, and acts.
    async fn turn(&mut self) -> Result<Next, Error> {
        let Some(known) = self.known() else { return Ok(Next::after(ASKED)) };
        let (context, spec, now) = (self.context, Arc::clone(&self.spec), self.context.now());
        let (fleet, memory) = (Arc::clone(&self.fleet), &context.fleets);
        let (left_until, begins) =
            memory.remember(&fleet, |memory| memory.saw_status(&fleet, now)).unwrap_or_default();
        if begins {
            context.events.tell_fleet(&fleet, context.contested_status(&fleet.name));
        }
        let children = Children::new(&fleet, &spec);
        let selection = self.select(&known, &children, now);
        let (instances, mut members) = self.members(&selection, &children);
        let trouble = memory.remember(&fleet, |memory| {
            let ids = instances.iter().map(|instance| &*instance.id);
            memory.issued.overlay(ids, &mut members, now);
            memory.trouble.clone()
        });
        let trouble = trouble.flatten();
        let identity = (fleet.generation, fleet.created);
        let seen = Fleet::new(&spec, &fleet.status, identity, fleet.rotate_at, selection.degraded);
        let seen = Fleet { spacing: self.spacing(&instances), ..seen };
        let plan = plan(&seen, &members, now);
        let skipped = known.answer.as_ref().map(|answer| answer.skipped.as_slice()).unwrap_or_default();
        let discovery = Discovery { skipped, doubt: selection.doubt.clone(), failed: known.failed.clone() };
        let told = trouble.as_ref().map(|troubled| &troubled.trouble);
        let describe = |member: usize| describe(&children, &instances[member]);
        let (verdict, notes) = status_of(&seen, &plan, &discovery, told, describe, now);
        let recount = self.due(&verdict, &plan);
        // A rollout is recorded also while another writer changes the status.
        let rests = !plan.turns && verdict.rollout == fleet.status.rollout;
        let left_until = left_until.filter(|_| rests);
        let differs = verdict != *fleet.status || fleet.status_unread;
        if differs && recount.is_none() && left_until.is_none() {
            if !context.config.lease.holds() {
                return Ok(Next::after(RETRY.0));
            }
            let written = status::write_fleet(&context.client, &fleet, &verdict).await;
            let done = match &written {
                Ok(Written::Done(written)) => Some(written),
                _ => None,
            };
            if !matches!(written, Ok(Written::Conflict)) {
                memory.remember(&fleet, |memory| memory.wrote_status(done, context.now()));
            }
            match written? {
                Written::Done(written) => {
                    for note in notes {
                        context.events.tell_fleet(&fleet, note);
                    }
                    self.fleet = Arc::new(written);
                    memory.written(&self.fleet);
                }
                // The watch brings the change.
                Written::Conflict | Written::Gone => return Ok(Next::after(RETRY.0)),
            }
        }
        if plan.turns {
            return Ok(Next::Again);
        }
        let held = trouble.as_ref().map(|troubled| troubled.until.saturating_duration_since(Instant::now()));
        if let Some(held) = held.filter(|held| !held.is_zero()) {
            return Ok(Next::after(held));
        }
        let mut actions = self.chosen(&plan, &instances);
        let more = actions.len() > MOST_ACTIONS;
        actions.truncate(MOST_ACTIONS);
        if let Some(trouble) = self.act(&actions, &instances, &children).await? {
            self.troubled(trouble);
            // The next pass tells it.
            return Ok(Next::after(GATHER));
        }
        if trouble.is_some() {
            memory.remember(&fleet, |memory| memory.trouble = None);
        }
        if trouble.is_some() || more {
            return Ok(Next::after(GATHER));
        }
        let unseen = memory.remember(&fleet, |memory| memory.issued.forgotten_at()).flatten();
        let until = |at| super::vnc_password::until(at, context.now());
        let unseen = unseen.map(until);
        let wake = plan.wake.into_iter().chain(left_until).map(until).min();
        // What others have at instances changes without a word to this fleet.
        let again = Some(interval(&spec));
        Ok(Next::Rest(wake.into_iter().chain(recount).chain(unseen).chain(again).min()))
    }

    /// What is known of which instances there are; `None`: it is asked for.
    fn known(&self) -> Option<Known> {
        let (context, spec, now) = (self.context, &self.spec, self.context.now());
        let own = answer_without_tags(context, spec);
        if own.is_none() && spec.node_selector.is_some() {
            let text =
                "the Nodes of this cluster cannot be listed: grant the operator get, list and watch on nodes";
            return context.nodes.are_late().then(|| Known::nothing(text, now));
        }
        if !needed(spec) {
            return own.map(|answer| Known::of(answer, now));
        }
        let (found, asking) = context
            .fleets
            .remember(&self.fleet, |memory| (memory.found.clone(), memory.asking_since))
            .unwrap_or_default();
        if asking.is_none() && found.as_ref().is_none_or(|found| !found.answers(spec)) {
            context.wake_discovery(&self.fleet.name);
        }
        let found = found.filter(|found| found.answers(spec) && !found.is_stale(spec, now));
        let Some(found) = found else {
            let late = asking.is_some_and(|since| since.elapsed() > PATIENCE);
            let text = "the cloud was asked which instances there are, and has not answered yet; calls may be throttled";
            return late.then(|| Known::nothing(text, now));
        };
        let answer = match found.tagged() {
            _ if found.is_empty() => {
                return Some(Known::nothing(found.failed.clone().unwrap_or_default(), now));
            }
            Some(tagged) => tagged.clone().less(&spec.exclude),
            None => own?,
        };
        let known = |answer| Known { answer: Some(answer), at: found.at, failed: found.failed.clone() };
        if spec.require_tags.is_empty() {
            return Some(known(answer));
        }
        if asking.is_none() && answer.found.keys().any(|id| !found.was_asked(id)) {
            context.wake_discovery(&self.fleet.name);
        }
        Some(known(answer.only(|id| found.carries(id))))
    }

    fn select(&self, known: &Known, children: &Children, now: Timestamp) -> Selection {
        let objects = self.context.registry.members(&self.fleet.uid);
        let ids = objects.iter().filter_map(|object| {
            let id = object.spec.as_ref().ok()?.instance_id.as_str();
            children.owns(object, id).then_some(id)
        });
        let ids: BTreeSet<&str> = ids.collect();
        let before = self.fleet.status.doubt.as_ref();
        match &known.answer {
            Some(answer) => select(answer, known.at, &ids, before, interval(&self.spec), now),
            None => blind(&ids, before),
        }
    }

    /// The instances that there are and those whose children are to go, with what is known of each.
    fn members(&self, selection: &Selection, children: &Children) -> (Vec<Instance>, Vec<Member>) {
        let mut all: BTreeMap<&str, Option<&Wanted>> =
            selection.members.iter().map(|(id, wanted)| (&**id, Some(wanted))).collect();
        all.extend(selection.vanished.iter().map(|id| (&**id, None)));
        let stand_in = children::stand_in(&self.fleet, &self.spec);
        let members = all.into_iter().map(|(id, wanted)| {
            let (selected, wanted) = (wanted.is_some(), wanted.unwrap_or(&Wanted::Kept));
            let object = self.context.registry.newest(&children.key(id));
            let child = match &object {
                None if self.context.is_elsewhere(id, &stand_in) => Child::Elsewhere,
                None => Child::Missing,
                Some(object) if children.owns(object, id) => {
                    Child::Ours(Facts::read(&observe(object, !children.fits(object, id, wanted))))
                }
                Some(_) => Child::Foreign,
            };
            let member = Member { wanted: selected, child };
            (Instance { id: id.into(), wanted: wanted.clone(), child: object }, member)
        });
        members.unzip()
    }

    /// The shortest time between two calls for the fleet's instances, where it is limited.
    fn spacing(&self, instances: &[Instance]) -> Option<Duration> {
        let own = self.context.config.region.as_ref().map(Region::as_str);
        let regions: BTreeSet<&str> =
            instances.iter().filter_map(|instance| instance.region().or(own)).collect();
        self.context.spacing(&children::stand_in(&self.fleet, &self.spec), regions)
    }

    /// Where nothing but numbers changed: how long the status can wait for more of them.
    fn due(&self, status: &ClusterVncPasswordStatus, plan: &Plan) -> Option<Duration> {
        if plan.turns || *status == *self.fleet.status || !counts_alone(status, &self.fleet.status) {
            return None;
        }
        let written = self.context.fleets.remember(&self.fleet, |memory| memory.written_at).flatten()?;
        Some(COUNT.saturating_sub(written.elapsed())).filter(|wait| !wait.is_zero())
    }
}

fn observe(object: &Object, drifted: bool) -> Observation<'_> {
    Observation {
        created: object.created,
        generation: object.generation,
        rotate_at: object.rotate_at,
        suspended: object.spec.as_ref().is_ok_and(|spec| spec.suspend),
        status: &object.status,
        drifted,
        deleting: object.deleting,
    }
}

/// The name of a child, its instance, and what is wrong with it.
fn describe(children: &Children, instance: &Instance) -> (String, String, String) {
    let name = children.key(&instance.id).name.to_string();
    let foreign = "an object of this name is not this fleet's: delete it, and the fleet makes its own";
    let message = match &instance.child {
        Some(child) if children.owns(child, &instance.id) => {
            let told = [ConditionType::Stalled, ConditionType::Reconciling];
            let told = told.into_iter().find_map(|type_| child.status.condition(type_));
            told.map(|condition| condition.message.clone()).unwrap_or_default()
        }
        _ => foreign.to_owned(),
    };
    (name, instance.id.to_string(), message)
}

/// Whether two statuses differ in numbers and examples alone.
fn counts_alone(one: &ClusterVncPasswordStatus, other: &ClusterVncPasswordStatus) -> bool {
    let bare = |status: &ClusterVncPasswordStatus| {
        let rollout = status.rollout.clone().map(|rollout| Rollout {
            updated: 0,
            total: 0,
            failed: 0,
            progress: String::new(),
            eta: None,
            ..rollout
        });
        ClusterVncPasswordStatus {
            observed_generation: status.observed_generation,
            conditions: status.conditions.clone(),
            rollout,
            last_rotation_time: status.last_rotation_time.clone(),
            next_rotation_time: status.next_rotation_time.clone(),
            last_handled_rotate_at: status.last_handled_rotate_at.clone(),
            doubt: status.doubt.clone(),
            ..ClusterVncPasswordStatus::default()
        }
    };
    bare(one) == bare(other)
}
