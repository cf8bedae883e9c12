//! The conditions of a fleet.

use jiff::Timestamp;

use super::{
    input::Fleet,
    plan::{Plan, RolloutPhase},
};
use crate::{
    api::{
        ClusterVncPasswordStatus, Condition, ConditionStatus, ConditionType, ROTATE_AT, Reason, SkippedNode,
        UnconfirmedDiscovery,
    },
    rotation::{
        rotate_at::RotateAt,
        verdict::{Progress, condition},
    },
};

/// What the status reports of the discovery.
#[derive(Clone, Debug, Default)]
pub struct DiscoveryReport<'a> {
    /// Nodes that name no instance.
    pub skipped: &'a [SkippedNode],
    /// `status.doubt`.
    pub doubt: Option<UnconfirmedDiscovery>,
    /// Why the discovery failed: a sentence that does not change while the cause stays the same.
    pub failed: Option<String>,
}

/// An error that affects all member objects, such as a missing namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberError {
    /// `NamespaceNotFound`, `MemberRefused` or similar.
    pub reason: Reason,
    /// A sentence that does not change while the cause stays the same.
    pub message: String,
}

pub(super) fn conditions(
    fleet: &Fleet,
    plan: &Plan,
    discovery: &DiscoveryReport,
    error: Option<&MemberError>,
    now: Timestamp,
) -> Vec<Condition> {
    let at = (fleet.generation, now);
    let (progress, reason, message) = progress(fleet, plan, error);
    let (ready, ready_reason, ready_message) = ready(plan, discovery, (reason, &message));
    let mut conditions = vec![condition(ConditionType::Ready, ready, ready_reason, ready_message, at)];
    let mut add = |type_, reason, message| {
        conditions.push(condition(type_, ConditionStatus::True, reason, message, at));
    };
    match progress {
        Progress::Rest => {}
        Progress::Reconciling => add(ConditionType::Reconciling, reason, message),
        Progress::Stalled => add(ConditionType::Stalled, reason, message),
    }
    if let Some((reason, message)) = degraded(fleet, discovery) {
        add(ConditionType::DiscoveryDegraded, reason, message);
    }
    if fleet.suspended {
        let text = "spec.suspend is set: nothing is started until it is removed; what is under way goes on";
        add(ConditionType::Suspended, Reason::Suspended, text.to_owned());
    }
    keep_transition_times(&mut conditions, fleet.status);
    conditions
}

/// Keeps `lastTransitionTime` of the conditions whose status does not change.
pub(super) fn keep_transition_times(conditions: &mut [Condition], previous: &ClusterVncPasswordStatus) {
    for condition in conditions {
        if let Some(old) = previous.condition(condition.type_)
            && old.status == condition.status
        {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
}

/// Whether the fleet is stalled, reconciling or neither, with reason and message.
fn progress(fleet: &Fleet, plan: &Plan, error: Option<&MemberError>) -> (Progress, Reason, String) {
    let counts = &plan.counts;
    let because = |progress, reason, text: &str| (progress, reason, text.to_owned());
    if let Some(MemberError { reason, message }) = error {
        return because(Progress::Stalled, *reason, message);
    }
    if let Err(invalid) = &fleet.schedule {
        return because(Progress::Stalled, Reason::InvalidSchedule, &invalid.to_string());
    }
    if fleet.rotate_at == RotateAt::Invalid {
        let text = format!("the annotation {ROTATE_AT} is no time: write it as in 2026-01-31T03:00:00Z");
        return because(Progress::Stalled, Reason::InvalidRotateAt, &text);
    }
    match plan.phase {
        RolloutPhase::Halted => {
            let text = format!(
                "too many instances failed, so no more are started: see status.failures; it goes on when they have \
                 recovered, when the spec changes, or when the annotation {ROTATE_AT} asks anew"
            );
            because(Progress::Stalled, Reason::RolloutHalted, &text)
        }
        RolloutPhase::RollingOut => {
            because(Progress::Reconciling, Reason::RollingOut, "passwords are drawn or rotated, in waves")
        }
        RolloutPhase::WaitingForWindow => because(
            Progress::Reconciling,
            Reason::WaitingForWindow,
            "the rollout goes on at the next opening of spec.window",
        ),
        RolloutPhase::Idle | RolloutPhase::Suspended if counts.conflicts > 0 => because(
            Progress::Stalled,
            Reason::Conflict,
            "objects that are not this fleet's have names that its VncPasswords should have: see status.failures; delete \
             them, or create the fleet anew under another name",
        ),
        RolloutPhase::Idle | RolloutPhase::Suspended if counts.failed > 0 => because(
            Progress::Stalled,
            Reason::MembersFailed,
            "some VncPasswords need a person: see status.failures",
        ),
        RolloutPhase::Idle | RolloutPhase::Suspended if counts.waiting > 0 => because(
            Progress::Reconciling,
            Reason::WaitingForInstances,
            "some instances take no password now or have no VNC, or their VncPasswords are suspended; they rotate when \
             that changes",
        ),
        RolloutPhase::Idle | RolloutPhase::Suspended => (Progress::Rest, Reason::Applied, String::new()),
    }
}

fn ready(
    plan: &Plan,
    discovery: &DiscoveryReport,
    (reason, message): (Reason, &str),
) -> (ConditionStatus, Reason, String) {
    let counts = &plan.counts;
    if counts.discovered == 0 {
        let nothing = "no instance is selected: there is nothing to do";
        let unknown = |why: &String| (ConditionStatus::Unknown, Reason::DiscoveryFailed, why.clone());
        let none = || (ConditionStatus::True, Reason::NothingSelected, nothing.to_owned());
        return discovery.failed.as_ref().map_or_else(none, unknown);
    }
    if counts.ready >= counts.total {
        let text = "the password of every instance is in effect";
        return (ConditionStatus::True, Reason::Applied, text.to_owned());
    }
    if reason == Reason::Applied {
        let text = "some passwords wait for a restart of their instance";
        return (ConditionStatus::False, Reason::RebootRequired, text.to_owned());
    }
    (ConditionStatus::False, reason, message.to_owned())
}

fn degraded(fleet: &Fleet, discovery: &DiscoveryReport) -> Option<(Reason, String)> {
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
