//! The status of a fleet, and the events of its changes.

use jiff::Timestamp;

use super::{
    conditions::{DiscoveryReport, MemberError, conditions, keep_transition_times},
    input::Fleet,
    plan::Plan,
};
use crate::{
    api::{
        ClusterVncPasswordStatus, Condition, ConditionStatus, ConditionType, Failure, Reason, SkippedNode,
    },
    rotation::{
        Note,
        verdict::{condition, seconds},
    },
};

/// Maximum number of skipped Nodes in the status.
const MAX_SKIPPED_NODES: usize = 5;
/// Maximum length of a failure's message, in characters.
const MAX_MESSAGE_CHARS: usize = 160;

/// Returns the new status, and the events to send after it is written.
///
/// `describe` returns, for a member, the name of its member object, its instance ID and the message of its
/// failure.
#[must_use]
pub fn status(
    fleet: &Fleet,
    plan: &Plan,
    discovery: &DiscoveryReport,
    error: Option<&MemberError>,
    describe: impl Fn(usize) -> (String, String, String),
    now: Timestamp,
) -> (ClusterVncPasswordStatus, Vec<Note>) {
    let counts = &plan.counts;
    let failures = counts.failures.iter().map(|(reason, member)| {
        let (name, instance_id, message) = describe(*member);
        let message = message.chars().take(MAX_MESSAGE_CHARS).collect();
        Failure { name, instance_id, reason: *reason, message }
    });
    let conditions = conditions(fleet, plan, discovery, error, now);
    let events = events(fleet, plan, &conditions);
    let status = ClusterVncPasswordStatus {
        observed_generation: Some(fleet.generation),
        conditions,
        discovered: counts.discovered,
        ready: counts.ready,
        rotating: counts.rotating,
        waiting: counts.waiting,
        failed: counts.failed,
        reboot_required: counts.reboot_required,
        owned_elsewhere: counts.owned_elsewhere,
        skipped: discovery.skipped.len().try_into().unwrap_or(u32::MAX),
        rollout: plan.rollout.clone(),
        last_rotation_time: plan.last_rotation.map(seconds),
        next_rotation_time: plan.next_rotation.map(seconds),
        last_handled_rotate_at: plan.last_handled_rotate_at.map(seconds),
        doubt: discovery.doubt.clone(),
        failures: failures.collect(),
        skipped_nodes: skipped_nodes(discovery.skipped),
    };
    (status, events)
}

/// The status of a fleet whose spec does not match the schema: its conditions change, the rest stays.
#[must_use]
pub fn invalid_fleet(
    status: &ClusterVncPasswordStatus,
    generation: i64,
    now: Timestamp,
) -> ClusterVncPasswordStatus {
    let text = "the object does not fit the schema of this operator: apply the operator's CRDs, then mend the object";
    let conditions =
        [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Stalled, ConditionStatus::True)];
    let mut conditions = conditions
        .map(|(type_, value)| {
            condition(type_, value, Reason::InvalidObject, text.to_owned(), (generation, now))
        })
        .to_vec();
    keep_transition_times(&mut conditions, status);
    ClusterVncPasswordStatus { observed_generation: Some(generation), conditions, ..status.clone() }
}

/// The worst first. A Node without a providerID usually gets one soon, so it comes last.
fn skipped_nodes(skipped: &[SkippedNode]) -> Vec<SkippedNode> {
    let mut skipped: Vec<&SkippedNode> = skipped.iter().collect();
    skipped.sort_by_key(|skipped| (std::cmp::Reverse(skipped.reason), &skipped.node));
    skipped.into_iter().take(MAX_SKIPPED_NODES).cloned().collect()
}

/// The event of the rollout's transition, and a warning for each condition that newly requires a person.
fn events(fleet: &Fleet, plan: &Plan, conditions: &[Condition]) -> Vec<Note> {
    let reported = [ConditionType::Stalled, ConditionType::DiscoveryDegraded];
    let new = conditions.iter().filter(|condition| {
        reported.contains(&condition.type_)
            // The transition has its own event.
            && condition.reason != Reason::RolloutHalted
            && fleet.status.reason(condition.type_) != Some(condition.reason)
    });
    let warnings = new.map(|condition| Note {
        warning: true,
        reason: condition.reason.as_str(),
        text: condition.message.clone(),
    });
    plan.event.clone().into_iter().chain(warnings).collect()
}
