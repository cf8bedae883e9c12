//! The status of a fleet: what was planned and counted, told to people and programs.

use jiff::Timestamp;

use super::plan::{Fleet, Phase, Plan};
use crate::{
    api::{
        ClusterVncPasswordStatus, Condition, ConditionStatus, ConditionType, Doubt, Failure, ROTATE_AT,
        Reason, SkippedNode,
    },
    rotation::{
        Note,
        rotate_at::RotateAt,
        verdict::{Progress, condition, seconds},
    },
};

/// So many skipped Nodes are shown.
const SHOWN: usize = 5;
/// So many characters of a failure's message.
const SHORT: usize = 160;

/// What is said of discovery.
#[derive(Clone, Debug, Default)]
pub struct Discovery<'a> {
    /// Nodes that stand for no instance.
    pub skipped: &'a [SkippedNode],
    /// An answer that is or was not believed.
    pub doubt: Option<Doubt>,
    /// Why there was no answer: a sentence that stays the same while the cause does.
    pub failed: Option<String>,
}

/// What keeps the fleet from having children at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// `NamespaceNotFound`, `MemberRefused` or the like.
    pub reason: Reason,
    /// A sentence that stays the same while the cause does.
    pub message: String,
}

/// The status to write, where it differs from the one that stands, and the events to tell once it stands.
///
/// `describe` tells of a member its child's name, its instance's ID, and the message of its failure.
#[must_use]
pub fn status(
    fleet: &Fleet,
    plan: &Plan,
    discovery: &Discovery,
    trouble: Option<&Trouble>,
    describe: impl Fn(usize) -> (String, String, String),
    now: Timestamp,
) -> (ClusterVncPasswordStatus, Vec<Note>) {
    let tally = &plan.tally;
    let failures = tally.failures.iter().map(|(reason, member)| {
        let (name, instance_id, message) = describe(*member);
        let message = message.chars().take(SHORT).collect();
        Failure { name, instance_id, reason: *reason, message }
    });
    let conditions = conditions(fleet, plan, discovery, trouble, now);
    let notes = notes(fleet, plan, &conditions);
    let status = ClusterVncPasswordStatus {
        observed_generation: Some(fleet.generation),
        conditions,
        discovered: tally.discovered,
        ready: tally.ready,
        rotating: tally.rotating,
        waiting: tally.waiting,
        failed: tally.failed,
        reboot_required: tally.reboot_required,
        owned_elsewhere: tally.owned_elsewhere,
        skipped: discovery.skipped.len().try_into().unwrap_or(u32::MAX),
        rollout: plan.rollout.clone(),
        last_rotation_time: plan.ended.map(seconds),
        next_rotation_time: plan.next.map(seconds),
        last_handled_rotate_at: plan.handled.map(seconds),
        doubt: discovery.doubt.clone(),
        failures: failures.collect(),
        skipped_nodes: examples(discovery.skipped),
    };
    (status, notes)
}

/// The spec cannot be read: what stands is kept, and says so.
#[must_use]
pub fn invalid_fleet(
    status: &ClusterVncPasswordStatus,
    generation: i64,
    now: Timestamp,
) -> ClusterVncPasswordStatus {
    let text = "the object does not fit the schema of this operator: apply the operator's CRDs, then mend the object";
    let conditions =
        [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Stalled, ConditionStatus::True)];
    let conditions = conditions.map(|(type_, truth)| {
        let mut told = condition(type_, truth, Reason::InvalidObject, text.to_owned(), (generation, now));
        if let Some(old) = status.condition(type_).filter(|old| old.status == truth) {
            told.last_transition_time = old.last_transition_time.clone();
        }
        told
    });
    let conditions = conditions.into();
    ClusterVncPasswordStatus { observed_generation: Some(generation), conditions, ..status.clone() }
}

/// The worst first: a Node that has no providerID yet will have one soon.
fn examples(skipped: &[SkippedNode]) -> Vec<SkippedNode> {
    let mut skipped: Vec<&SkippedNode> = skipped.iter().collect();
    skipped.sort_by_key(|skipped| (std::cmp::Reverse(skipped.reason), &skipped.node));
    skipped.into_iter().take(SHOWN).cloned().collect()
}

fn conditions(
    fleet: &Fleet,
    plan: &Plan,
    discovery: &Discovery,
    trouble: Option<&Trouble>,
    now: Timestamp,
) -> Vec<Condition> {
    let at = (fleet.generation, now);
    let (progress, reason, message) = progress(fleet, plan, trouble);
    let (ready, ready_reason, ready_message) = ready(plan, discovery, (reason, &message));
    let mut conditions = vec![condition(ConditionType::Ready, ready, ready_reason, ready_message, at)];
    let mut flag = |type_, reason, message| {
        conditions.push(condition(type_, ConditionStatus::True, reason, message, at));
    };
    match progress {
        Progress::Rest => {}
        Progress::Reconciling => flag(ConditionType::Reconciling, reason, message),
        Progress::Stalled => flag(ConditionType::Stalled, reason, message),
    }
    if let Some((reason, message)) = degraded(fleet, discovery) {
        flag(ConditionType::DiscoveryDegraded, reason, message);
    }
    if fleet.suspended {
        let text = "spec.suspend is set: nothing is started until it is removed; what is under way goes on";
        flag(ConditionType::Suspended, Reason::Suspended, text.to_owned());
    }
    for condition in &mut conditions {
        if let Some(old) = fleet.status.condition(condition.type_)
            && old.status == condition.status
        {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    conditions
}

/// Whether anything goes on by itself, and what to say of it.
fn progress(fleet: &Fleet, plan: &Plan, trouble: Option<&Trouble>) -> (Progress, Reason, String) {
    let tally = &plan.tally;
    let told = |progress, reason, text: &str| (progress, reason, text.to_owned());
    if let Some(Trouble { reason, message }) = trouble {
        return told(Progress::Stalled, *reason, message);
    }
    if let Err(invalid) = &fleet.schedule {
        return told(Progress::Stalled, Reason::InvalidSchedule, &invalid.to_string());
    }
    if fleet.rotate_at == RotateAt::Invalid {
        let text = format!("the annotation {ROTATE_AT} is no time: write it as in 2026-01-31T03:00:00Z");
        return told(Progress::Stalled, Reason::InvalidRotateAt, &text);
    }
    match plan.phase {
        Phase::Halted => {
            let text = format!(
                "too many instances failed, so no more are started: see status.failures; it goes on when they have \
                 recovered, when the spec changes, or when the annotation {ROTATE_AT} asks anew"
            );
            told(Progress::Stalled, Reason::RolloutHalted, &text)
        }
        Phase::Rolling => {
            told(Progress::Reconciling, Reason::RollingOut, "passwords are drawn or rotated, in waves")
        }
        Phase::WindowClosed => told(
            Progress::Reconciling,
            Reason::WaitingForWindow,
            "the rollout goes on at the next opening of spec.window",
        ),
        Phase::AtRest | Phase::Suspended if tally.foreign > 0 => told(
            Progress::Stalled,
            Reason::Conflict,
            "objects that are not this fleet's have names that its VncPasswords should have: see status.failures; delete \
             them, or create the fleet anew under another name",
        ),
        Phase::AtRest | Phase::Suspended if tally.failed > 0 => told(
            Progress::Stalled,
            Reason::MembersFailed,
            "some VncPasswords need a person: see status.failures",
        ),
        Phase::AtRest | Phase::Suspended if tally.waiting > 0 => told(
            Progress::Reconciling,
            Reason::WaitingForInstances,
            "some instances take no password now or have no VNC, or their VncPasswords are suspended; they rotate when \
             that changes",
        ),
        Phase::AtRest | Phase::Suspended => (Progress::Rest, Reason::Applied, String::new()),
    }
}

fn ready(
    plan: &Plan,
    discovery: &Discovery,
    (reason, message): (Reason, &str),
) -> (ConditionStatus, Reason, String) {
    let tally = &plan.tally;
    if tally.discovered == 0 {
        let nothing = "no instance is selected: there is nothing to do";
        let unknown = |why: &String| (ConditionStatus::Unknown, Reason::DiscoveryFailed, why.clone());
        let none = || (ConditionStatus::True, Reason::NothingSelected, nothing.to_owned());
        return discovery.failed.as_ref().map_or_else(none, unknown);
    }
    if tally.ready >= tally.total {
        let text = "the password of every instance is in effect";
        return (ConditionStatus::True, Reason::Applied, text.to_owned());
    }
    if reason == Reason::Applied {
        let text = "some passwords wait for a restart of their instance";
        return (ConditionStatus::False, Reason::RebootRequired, text.to_owned());
    }
    (ConditionStatus::False, reason, message.to_owned())
}

fn degraded(fleet: &Fleet, discovery: &Discovery) -> Option<(Reason, String)> {
    if let Some(why) = &discovery.failed {
        return Some((Reason::DiscoveryFailed, why.clone()));
    }
    fleet.degraded.then(|| {
        let text = "far fewer instances are found than there are VncPasswords; none is pruned until the answer has been \
                    the same for a while. Check the selector, and the rights of the identity: without them the cloud shows \
                    no instance";
        (Reason::DiscoveryDegraded, text.to_owned())
    })
}

/// The turn of the rollout, and what newly needs a person.
fn notes(fleet: &Fleet, plan: &Plan, conditions: &[Condition]) -> Vec<Note> {
    let watched = [ConditionType::Stalled, ConditionType::DiscoveryDegraded];
    let fresh = conditions.iter().filter(|condition| {
        watched.contains(&condition.type_)
            && condition.reason != Reason::RolloutHalted
            && fleet.status.reason(condition.type_) != Some(condition.reason)
    });
    let fresh = fresh.map(|condition| Note {
        warning: true,
        reason: condition.reason.as_str(),
        text: condition.message.clone(),
    });
    plan.note.clone().into_iter().chain(fresh).collect()
}
