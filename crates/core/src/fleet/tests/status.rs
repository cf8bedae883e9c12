//! Tests of the status and the conditions of a fleet.

use super::*;
use crate::api::{SkipReason, SkippedNode, UnconfirmedDiscovery};

fn status_of(fleet: &Fleet, members: &[Member], discovery: &DiscoveryReport) -> ClusterVncPasswordStatus {
    let planned = plan(fleet, members, now());
    let describe = |index: usize| (format!("name-{index}"), format!("i-{index}"), "no right".to_owned());
    status(fleet, &planned, discovery, None, describe, now()).0
}

type Row<'a> = (&'a str, &'a ClusterVncPasswordStatus, Vec<Member>, &'a str, Vec<(ConditionType, Reason)>);

#[test]
fn the_conditions_of_a_fleet() {
    use ConditionType::{DiscoveryDegraded, Ready, Reconciling, Stalled, Suspended};
    let done = status_with(completed());
    let rolling = status_with(open(Trigger::OnDemand));
    let halted = status_with(Rollout { halted_at: Some(Time(now())), ..open(Trigger::OnDemand) });
    let idle = || owned(|_| {});
    let rotated =
        || owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(id()), Some(now())));
    let bad = || {
        owned(|state| {
            failed(state);
            state.ready = false;
        })
    };
    let table: Vec<Row> = vec![
        ("ready", &done, vec![idle()], "True Applied", vec![]),
        ("no members", &done, vec![], "True NothingSelected", vec![]),
        ("owned elsewhere", &done, vec![with_object(MemberObject::OwnedElsewhere)], "True Applied", vec![]),
        ("rolling out", &rolling, vec![idle()], "True Applied", vec![(Reconciling, Reason::RollingOut)]),
        (
            "new",
            &done,
            vec![with_object(MemberObject::Missing)],
            "False RollingOut",
            vec![(Reconciling, Reason::RollingOut)],
        ),
        (
            "failed",
            &done,
            vec![rotated(), bad()],
            "False MembersFailed",
            vec![(Stalled, Reason::MembersFailed)],
        ),
        (
            "conflict",
            &done,
            vec![with_object(MemberObject::Conflict)],
            "False Conflict",
            vec![(Stalled, Reason::Conflict)],
        ),
        (
            "halted",
            &halted,
            vec![bad(), idle()],
            "False RolloutHalted",
            vec![(Stalled, Reason::RolloutHalted)],
        ),
        (
            "instance stopped",
            &done,
            vec![owned(|state| {
                state.ready = false;
                state.activity = Activity::WaitingForInstance { since: at(0) }
            })],
            "False WaitingForInstances",
            vec![(Reconciling, Reason::WaitingForInstances)],
        ),
        (
            "waits for a restart",
            &done,
            vec![owned(|state| (state.ready, state.restart) = (false, Restart::Person))],
            "False RebootRequired",
            vec![],
        ),
    ];
    for (name, previous, members, ready, others) in table {
        let status = status_of(&fleet_of(previous, LIMITS), &members, &DiscoveryReport::default());
        let condition = status.condition(Ready).unwrap();
        assert_eq!(format!("{:?} {}", condition.status, condition.reason.as_str()), ready, "{name}");
        let found: Vec<_> = status.conditions[1..].iter().map(|it| (it.type_, it.reason)).collect();
        assert_eq!(found, others, "{name}");
    }
    let mut fleet = fleet_of(&done, LIMITS);
    fleet.rotate_at = RotateAt::Invalid;
    let reason =
        |fleet: &Fleet, type_| status_of(fleet, &[idle()], &DiscoveryReport::default()).reason(type_);
    assert_eq!(reason(&fleet, Stalled), Some(Reason::InvalidRotateAt));
    fleet.degraded = true;
    assert_eq!(reason(&fleet, DiscoveryDegraded), Some(Reason::DiscoveryDegraded));
    fleet.suspended = true;
    assert_eq!(reason(&fleet, Suspended), Some(Reason::Suspended));
    let unknown = DiscoveryReport { failed: Some("denied".to_owned()), ..DiscoveryReport::default() };
    let without_result = status_of(&fleet_of(&done, LIMITS), &[], &unknown);
    assert_eq!(without_result.condition(Ready).unwrap().status, ConditionStatus::Unknown);
    assert_eq!(without_result.reason(DiscoveryDegraded), Some(Reason::DiscoveryFailed));
}

#[test]
fn events_are_sent_once() {
    let done = status_with(completed());
    let members = [owned(failed)];
    let update = |previous: &ClusterVncPasswordStatus| {
        let fleet = fleet_of(previous, LIMITS);
        let planned = plan(&fleet, &members, now());
        status(&fleet, &planned, &DiscoveryReport::default(), None, |_| Default::default(), now())
    };
    let (after, events) = update(&done);
    assert_eq!(events.iter().map(|event| event.reason).collect::<Vec<_>>(), ["MembersFailed"]);
    let (again, events) = update(&after);
    assert_eq!((again, events.len()), (after, 0));
}

#[test]
fn the_largest_status_of_ten_thousand_members_is_small() {
    let members: Vec<Member> = (0..10_000).map(|_| owned(failed)).collect();
    let halted = Rollout { halted_at: Some(Time(now())), tolerated: 9999, ..open(Trigger::Schedule) };
    let before = ClusterVncPasswordStatus {
        last_rotation_time: Some(Time(now())),
        last_handled_rotate_at: Some(Time(now())),
        next_rotation_time: Some(Time(now())),
        ..status_with(halted)
    };
    let mut fleet = fleet_of(&before, LIMITS);
    (fleet.suspended, fleet.degraded) = (true, true);
    let nodes: Vec<SkippedNode> = (0..10_000)
        .map(|_| SkippedNode { node: "n".repeat(253), reason: SkipReason::MalformedProviderId })
        .collect();
    let doubt = UnconfirmedDiscovery { since: Time(now()), answers: 3, counted_at: Time(now()) };
    let discovery = DiscoveryReport { skipped: &nodes, doubt: Some(doubt), failed: None };
    let planned = plan(&fleet, &members, now());
    let describe =
        |_: usize| (member_object_name(&"f".repeat(63), &"i".repeat(64)), "i".repeat(64), "m".repeat(32_768));
    let (status, _) = status(&fleet, &planned, &discovery, None, describe, now());
    assert_eq!((status.failures.len(), status.skipped_nodes.len()), (10, 5));
    let size = serde_json::to_vec(&status).unwrap().len();
    assert!(size < 8 * 1024, "{size} bytes");
}

#[test]
fn a_member_that_rotates_for_hours_causes_few_writes() {
    let done = owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(id()), Some(id())));
    let last = owned(|state| state.activity = Activity::Working { since: None, reason: Reason::Throttled });
    let mut members = vec![done; 99];
    members.push(last);
    let mut before = status_with(open(Trigger::OnDemand));
    let mut writes = 0;
    for second in 0..36_000 {
        let fleet = fleet_of(&before, LIMITS);
        let planned = plan(&fleet, &members, at(NOW + second));
        let describe = |_: usize| <(String, String, String)>::default();
        let (after, _) =
            status(&fleet, &planned, &DiscoveryReport::default(), None, describe, at(NOW + second));
        writes += u32::from(after != before);
        before = after;
    }
    assert!(writes < 60, "{writes} writes in ten hours");
}

#[test]
fn ten_thousand_idle_members_cause_no_write_in_a_day() {
    let members: Vec<Member> = (0..10_000)
        .map(|_| {
            owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(id()), Some(id())))
        })
        .collect();
    let describe = |_: usize| <(String, String, String)>::default();
    let status_at = |previous: &ClusterVncPasswordStatus, second| {
        let fleet = fleet_of(previous, LIMITS);
        let planned = plan(&fleet, &members, at(NOW + second));
        assert_eq!((planned.actions.as_slice(), planned.requeue_at), (&[][..], None));
        status(&fleet, &planned, &DiscoveryReport::default(), None, describe, at(NOW + second)).0
    };
    let before = status_at(&status_with(completed()), 0);
    assert_eq!((before.discovered, before.ready, before.rotating), (10_000, 10_000, 0));
    for minute in 1..24 * 60 {
        assert_eq!(status_at(&before, minute * 60), before);
    }
}
