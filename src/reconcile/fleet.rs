//! One reconcile of one fleet: select the instances, read the state of their VncPasswords, plan, record, act.
//!
//! | file | content |
//! |---|---|
//! | `discovery` | the instances with the tags of a fleet, from the cloud |
//! | `member_objects` | the desired VncPasswords of a fleet, and how they are written |
//! | `act` | the writes of one reconcile |
//!
//! A reconcile derives everything anew from the watches and the status of the fleet. So the next one, in this
//! process or another, continues a reconcile that was interrupted.

mod act;
pub(crate) mod discovery;
mod member_objects;

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
        retry::{self, RETRY, Requeue},
        status::{self, Written},
    },
    runtime::{Kind, RequeueReason},
    store::{
        discovered::{interval, needed},
        fleets::MemberErrorState,
        object::{FleetObject, Object},
    },
};
use member_objects::MemberObjects;
use vncpassword_alicloud::Region;
use vncpassword_core::{
    api::{ClusterVncPasswordSpec, ClusterVncPasswordStatus, ConditionType, Rollout},
    fleet::{
        DiscoveryReport, DiscoveryResult, Fleet, Member, MemberObject, MemberState, Membership, Observation,
        Plan, Selection, invalid_fleet, plan, retain_members, select, status as status_of,
    },
    rotation::Note,
};

/// How long a reconcile waits for further events.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// A reconcile uses at most one part in this many of the time.
const MAX_TIME_SHARE: u32 = 5;
/// Maximum pause between two reconciles of a busy fleet.
const MAX_PAUSE: Duration = Duration::from_secs(2);
/// Minimum time between two writes of a status of which only the counts differ.
const COUNTS_INTERVAL: Duration = Duration::from_secs(1);
/// After this time a pending discovery is reported in the status.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a pending discovery is checked. As a rule its end enqueues the fleet.
const DISCOVERY_POLL: Duration = Duration::from_secs(5);
/// Maximum number of writes in one reconcile. The next one reads the spec again, which may have been
/// corrected.
const MAX_ACTIONS: usize = 64;
/// Maximum number of rollout transitions in one reconcile.
const MAX_TRANSITIONS: u32 = 4;

/// Reconciles one fleet. Returns after what time to requeue it; `None`: only on an event.
pub(crate) async fn reconcile_name(context: Arc<Context>, name: Arc<str>) -> Option<Duration> {
    let fleet = context.fleets.newest(&name)?;
    let pause =
        context.fleets.remember(&fleet, |memory| memory.last).flatten().map_or(DEBOUNCE, |(ended, took)| {
            (took * MAX_TIME_SHARE).min(MAX_PAUSE).saturating_sub(ended.elapsed()).max(DEBOUNCE)
        });
    tokio::time::sleep(pause).await;
    let fleet = context.fleets.newest(&name)?;
    let begun = Instant::now();
    let result = reconcile(&context, Arc::clone(&fleet))
        .instrument(tracing::info_span!("fleet", fleet = %fleet.name))
        .await;
    let result = result.map(|wait| {
        let reason = if wait == Some(DEBOUNCE) { RequeueReason::Busy } else { RequeueReason::Scheduled };
        wait.map(|after| Requeue { after, reason })
    });
    let failures = context.fleets.remember(&fleet, |memory| {
        memory.last = Some((Instant::now(), begun.elapsed()));
        retry::count_failures(&mut memory.failures, result.is_err())
    });
    let (metrics, took) = (&context.metrics, begun.elapsed());
    retry::finish(metrics, Kind::ClusterVncPassword, took, result, failures, |error, source| {
        tracing::warn!(fleet = %fleet.name, %error, source, "pass failed; it is tried again");
    })
}

/// The instances that a selector names without the cloud; `None`: the cloud is needed, or Nodes are not all
/// listed.
fn answer_without_tags(context: &Context, spec: &ClusterVncPasswordSpec) -> Option<DiscoveryResult> {
    let answer = match (&spec.node_selector, &spec.instance_ids) {
        (Some(selector), _) => context.nodes.answer(selector)?,
        (None, Some(ids)) => DiscoveryResult::from_list(ids),
        (None, None) => return None,
    };
    Some(answer.exclude(&spec.exclude))
}

async fn reconcile(context: &Context, fleet: Arc<FleetObject>) -> Result<Option<Duration>, Error> {
    let spec = match &fleet.spec {
        Ok(spec) => Arc::clone(spec),
        Err(problem) => {
            let verdict = invalid_fleet(&fleet.status, fleet.generation, context.now());
            if verdict != *fleet.status || fleet.status_is_malformed {
                tracing::warn!(problem, "the fleet does not fit the schema of this operator");
                status::write_fleet(&context.client, &fleet, &verdict).await?;
            }
            return Ok(None);
        }
    };
    if fleet.deleting || !context.watches(&spec.target_namespace) {
        return Ok(None);
    }
    let mut reconcile = Reconcile { context, fleet, spec };
    for _ in 0..MAX_TRANSITIONS {
        if let Next::Requeue(wait) = reconcile.step().await? {
            return Ok(wait);
        }
    }
    Ok(Some(DEBOUNCE))
}

/// A running reconcile.
struct Reconcile<'a> {
    context: &'a Context,
    fleet: Arc<FleetObject>,
    spec: Arc<ClusterVncPasswordSpec>,
}

/// What follows after a decision.
enum Next {
    /// The rollout made a transition: decide again.
    Again,
    /// The reconcile ends. When to requeue; `None`: only on an event.
    Requeue(Option<Duration>),
}

impl Next {
    fn after(wait: Duration) -> Self {
        Self::Requeue(Some(wait))
    }
}

/// The discovered instances, as far as known.
struct Discovered {
    answer: Option<DiscoveryResult>,
    /// When this was true.
    at: Timestamp,
    failed: Option<String>,
}

impl Discovered {
    fn of(answer: DiscoveryResult, at: Timestamp) -> Self {
        Self { answer: Some(answer), at, failed: None }
    }

    fn unknown(failed: impl Into<String>, at: Timestamp) -> Self {
        Self { answer: None, at, failed: Some(failed.into()) }
    }
}

/// An instance of the fleet.
struct FleetInstance {
    id: Box<str>,
    /// How the fleet selects it. Instances to remove keep their region.
    wanted: Membership,
    object: Option<Arc<Object>>,
}

impl FleetInstance {
    /// The region of its member object.
    fn region(&self) -> Option<&str> {
        match &self.wanted {
            Membership::Found(region) => region.as_deref(),
            Membership::Retained => self.object.as_ref()?.spec.as_ref().ok()?.region_id.as_deref(),
        }
    }

    fn uid(&self) -> Option<&str> {
        self.object.as_ref().map(|child| &*child.uid)
    }
}

impl Reconcile<'_> {
    /// Decides once, records the status, and acts.
    async fn step(&mut self) -> Result<Next, Error> {
        let Some(discovered) = self.discovered() else { return Ok(Next::after(DISCOVERY_POLL)) };
        let (context, spec, now) = (self.context, Arc::clone(&self.spec), self.context.now());
        let (fleet, memory) = (Arc::clone(&self.fleet), &context.fleets);
        let (left_until, begins) =
            memory.remember(&fleet, |memory| memory.saw_status(&fleet, now)).unwrap_or_default();
        if begins {
            context.events.publish_fleet(&fleet, context.contested_status(&fleet.name));
        }
        let member_objects = MemberObjects::new(&fleet, &spec);
        let selection = self.select(&discovered, &member_objects, now);
        let (instances, mut members) = self.members(&selection, &member_objects);
        let trouble = memory.remember(&fleet, |memory| {
            let ids = instances.iter().map(|instance| &*instance.id);
            memory.expectations.apply(ids, &mut members, now);
            memory.member_error.clone()
        });
        let trouble = trouble.flatten();
        let identity = (fleet.generation, fleet.created);
        let seen = Fleet::new(&spec, &fleet.status, identity, fleet.rotate_at, selection.degraded);
        let seen = Fleet { spacing: self.spacing(&instances), ..seen };
        let plan = plan(&seen, &members, now);
        let skipped = discovered.answer.as_ref().map(|answer| answer.skipped.as_slice()).unwrap_or_default();
        let discovery =
            DiscoveryReport { skipped, doubt: selection.doubt.clone(), failed: discovered.failed.clone() };
        let told = trouble.as_ref().map(|state| &state.error);
        let describe = |member: usize| describe(&member_objects, &instances[member]);
        let (verdict, notes) = status_of(&seen, &plan, &discovery, told, describe, now);
        let recount = self.counts_due(&verdict, &plan);
        // A rollout is recorded even if another writer changes the status.
        let rests = !plan.has_transition && verdict.rollout == fleet.status.rollout;
        let left_until = left_until.filter(|_| rests);
        let differs = verdict != *fleet.status || fleet.status_is_malformed;
        if differs
            && recount.is_none()
            && left_until.is_none()
            && let Some(end) = self.write_status(&verdict, notes).await?
        {
            return Ok(end);
        }
        if plan.has_transition {
            return Ok(Next::Again);
        }
        if let Some(end) = self.write_members(&plan, &instances, &member_objects, trouble.as_ref()).await? {
            return Ok(end);
        }
        let until = |at| super::vnc_password::until(at, context.now());
        let forgotten = memory.remember(&fleet, |memory| memory.expectations.expires_at()).flatten();
        let times = plan.requeue_at.into_iter().chain(left_until).chain(forgotten).map(until);
        // Changes at instances that other objects own do not enqueue this fleet.
        let regular = Some(interval(&spec));
        Ok(Next::Requeue(times.chain(recount).chain(regular).min()))
    }

    /// Writes the status and publishes the events. `Some`: the reconcile ends here.
    async fn write_status(
        &mut self,
        status: &ClusterVncPasswordStatus,
        notes: Vec<Note>,
    ) -> Result<Option<Next>, Error> {
        let (context, fleet) = (self.context, Arc::clone(&self.fleet));
        if !context.config.lease.holds() {
            return Ok(Some(Next::after(RETRY.0)));
        }
        let written = status::write_fleet(&context.client, &fleet, status).await;
        let done = match &written {
            Ok(Written::Done(written)) => Some(written),
            _ => None,
        };
        if !matches!(written, Ok(Written::Conflict)) {
            context.fleets.remember(&fleet, |memory| memory.wrote_status(done, context.now()));
        }
        match written? {
            Written::Done(written) => {
                for note in notes {
                    context.events.publish_fleet(&fleet, note);
                }
                self.fleet = Arc::new(written);
                context.fleets.written(&self.fleet);
                Ok(None)
            }
            // The watch reports the change.
            Written::Conflict | Written::Gone => Ok(Some(Next::after(RETRY.0))),
        }
    }

    /// Writes the member objects as planned. `Some`: the reconcile ends here. `error`: why the API server
    /// refused the last writes.
    async fn write_members(
        &self,
        plan: &Plan,
        instances: &[FleetInstance],
        member_objects: &MemberObjects<'_>,
        error: Option<&MemberErrorState>,
    ) -> Result<Option<Next>, Error> {
        let backoff = error.map(|state| state.until.saturating_duration_since(Instant::now()));
        if let Some(left) = backoff.filter(|left| !left.is_zero()) {
            return Ok(Some(Next::after(left)));
        }
        let mut actions = self.select_actions(plan, instances);
        let more = actions.len() > MAX_ACTIONS;
        actions.truncate(MAX_ACTIONS);
        if let Some(error) = self.act(&actions, instances, member_objects).await? {
            self.record_member_error(error);
            // The next reconcile reports it in the status.
            return Ok(Some(Next::after(DEBOUNCE)));
        }
        if error.is_some() {
            self.context.fleets.remember(&self.fleet, |memory| memory.member_error = None);
        }
        Ok((error.is_some() || more).then(|| Next::after(DEBOUNCE)))
    }

    /// The discovered instances; `None`: the discovery is under way.
    fn discovered(&self) -> Option<Discovered> {
        let (context, spec, now) = (self.context, &self.spec, self.context.now());
        let own = answer_without_tags(context, spec);
        if own.is_none() && spec.node_selector.is_some() {
            let text =
                "the Nodes of this cluster cannot be listed: grant the operator get, list and watch on nodes";
            return context.nodes.are_late().then(|| Discovered::unknown(text, now));
        }
        if !needed(spec) {
            return own.map(|answer| Discovered::of(answer, now));
        }
        let (found, asking) = context
            .fleets
            .remember(&self.fleet, |memory| (memory.discovered.clone(), memory.discovery_started))
            .unwrap_or_default();
        if asking.is_none() && found.as_ref().is_none_or(|found| !found.answers(spec)) {
            context.enqueue_discovery(&self.fleet.name);
        }
        let found = found.filter(|found| found.answers(spec) && !found.is_stale(spec, now));
        let Some(found) = found else {
            let late = asking.is_some_and(|since| since.elapsed() > DISCOVERY_TIMEOUT);
            let text = "the cloud was asked which instances there are, and has not answered yet; calls may be throttled";
            return late.then(|| Discovered::unknown(text, now));
        };
        let answer = match found.tagged() {
            _ if found.is_empty() => {
                return Some(Discovered::unknown(found.failed.clone().unwrap_or_default(), now));
            }
            Some(tagged) => tagged.clone().exclude(&spec.exclude),
            None => own?,
        };
        let discovered =
            |answer| Discovered { answer: Some(answer), at: found.at, failed: found.failed.clone() };
        if spec.require_tags.is_empty() {
            return Some(discovered(answer));
        }
        if asking.is_none() && answer.found.keys().any(|id| !found.was_asked(id)) {
            context.enqueue_discovery(&self.fleet.name);
        }
        Some(discovered(answer.require_tags(|id| found.carries(id))))
    }

    fn select(&self, discovered: &Discovered, member_objects: &MemberObjects, now: Timestamp) -> Selection {
        let objects = self.context.registry.members(&self.fleet.uid);
        let ids = objects.iter().filter_map(|object| {
            let id = object.spec.as_ref().ok()?.instance_id.as_str();
            member_objects.owns(object, id).then_some(id)
        });
        let ids: BTreeSet<&str> = ids.collect();
        let before = self.fleet.status.doubt.as_ref();
        match &discovered.answer {
            Some(answer) => select(answer, discovered.at, &ids, before, interval(&self.spec), now),
            None => retain_members(&ids, before),
        }
    }

    /// The selected instances and those to remove, with the state of each.
    fn members(
        &self,
        selection: &Selection,
        member_objects: &MemberObjects,
    ) -> (Vec<FleetInstance>, Vec<Member>) {
        let mut all: BTreeMap<&str, Option<&Membership>> =
            selection.members.iter().map(|(id, wanted)| (&**id, Some(wanted))).collect();
        all.extend(selection.to_prune.iter().map(|id| (&**id, None)));
        let stand_in = member_objects::stand_in(&self.fleet, &self.spec);
        let members = all.into_iter().map(|(id, wanted)| {
            let (selected, wanted) = (wanted.is_some(), wanted.unwrap_or(&Membership::Retained));
            let object = self.context.registry.newest(&member_objects.key(id));
            let child = match &object {
                None if self.context.is_elsewhere(id, &stand_in) => MemberObject::OwnedElsewhere,
                None => MemberObject::Missing,
                Some(object) if member_objects.owns(object, id) => MemberObject::Owned(MemberState::read(
                    &observe(object, !member_objects.fits(object, id, wanted)),
                )),
                Some(_) => MemberObject::Conflict,
            };
            let member = Member { selected, object: child };
            (FleetInstance { id: id.into(), wanted: wanted.clone(), object }, member)
        });
        members.unzip()
    }

    /// The shortest time between two calls for the fleet's instances, where it is limited.
    fn spacing(&self, instances: &[FleetInstance]) -> Option<Duration> {
        let own = self.context.config.region.as_ref().map(Region::as_str);
        let regions: BTreeSet<&str> =
            instances.iter().filter_map(|instance| instance.region().or(own)).collect();
        self.context.spacing(&member_objects::stand_in(&self.fleet, &self.spec), regions)
    }

    /// How long to defer a status of which only the counts differ.
    fn counts_due(&self, status: &ClusterVncPasswordStatus, plan: &Plan) -> Option<Duration> {
        if plan.has_transition || *status == *self.fleet.status || !counts_alone(status, &self.fleet.status) {
            return None;
        }
        let written = self.context.fleets.remember(&self.fleet, |memory| memory.written_at).flatten()?;
        Some(COUNTS_INTERVAL.saturating_sub(written.elapsed())).filter(|wait| !wait.is_zero())
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

/// The name of the member object, its instance, and its problem.
fn describe(member_objects: &MemberObjects, instance: &FleetInstance) -> (String, String, String) {
    let name = member_objects.key(&instance.id).name.to_string();
    let foreign = "an object of this name is not this fleet's: delete it, and the fleet makes its own";
    let message = match &instance.object {
        Some(child) if member_objects.owns(child, &instance.id) => {
            let told = [ConditionType::Stalled, ConditionType::Reconciling];
            let told = told.into_iter().find_map(|type_| child.status.condition(type_));
            told.map(|condition| condition.message.clone()).unwrap_or_default()
        }
        _ => foreign.to_owned(),
    };
    (name, instance.id.to_string(), message)
}

/// Whether only counts and examples differ.
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
