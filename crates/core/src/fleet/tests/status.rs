//! What a fleet says of itself, as tables.

use super::*;
use crate::api::{Doubt, SkipReason, SkippedNode};

fn told(fleet: &Fleet, members: &[Member], discovery: &Discovery) -> ClusterVncPasswordStatus {
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
    let idle = || ours(|_| {});
    let rotated = || ours(|facts| (facts.handled, facts.rotated) = (Some(id()), Some(now())));
    let bad = || {
        ours(|facts| {
            failed(facts);
            facts.ready = false;
        })
    };
    let table: Vec<Row> = vec![
        ("all is well", &done, vec![idle()], "True Applied", vec![]),
        ("none", &done, vec![], "True NothingSelected", vec![]),
        ("others have it", &done, vec![other(Child::Elsewhere)], "True Applied", vec![]),
        ("in waves", &rolling, vec![idle()], "True Applied", vec![(Reconciling, Reason::RollingOut)]),
        (
            "new",
            &done,
            vec![other(Child::Missing)],
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
        ("foreign", &done, vec![other(Child::Foreign)], "False Conflict", vec![(Stalled, Reason::Conflict)]),
        (
            "halted",
            &halted,
            vec![bad(), idle()],
            "False RolloutHalted",
            vec![(Stalled, Reason::RolloutHalted)],
        ),
        (
            "stopped",
            &done,
            vec![ours(|facts| {
                facts.ready = false;
                facts.state = State::Waiting { since: at(0) }
            })],
            "False WaitingForInstances",
            vec![(Reconciling, Reason::WaitingForInstances)],
        ),
        (
            "waits for a restart",
            &done,
            vec![ours(|facts| (facts.ready, facts.restart) = (false, Restart::Person))],
            "False RebootRequired",
            vec![],
        ),
    ];
    for (name, before, members, ready, beside) in table {
        let status = told(&fleet_of(before, LIMITS), &members, &Discovery::default());
        let condition = status.condition(Ready).unwrap();
        assert_eq!(format!("{:?} {}", condition.status, condition.reason.as_str()), ready, "{name}");
        let others: Vec<_> = status.conditions[1..].iter().map(|it| (it.type_, it.reason)).collect();
        assert_eq!(others, beside, "{name}");
    }
    let mut fleet = fleet_of(&done, LIMITS);
    fleet.rotate_at = RotateAt::Invalid;
    let reason = |fleet: &Fleet, type_| told(fleet, &[idle()], &Discovery::default()).reason(type_);
    assert_eq!(reason(&fleet, Stalled), Some(Reason::InvalidRotateAt));
    fleet.degraded = true;
    assert_eq!(reason(&fleet, DiscoveryDegraded), Some(Reason::DiscoveryDegraded));
    fleet.suspended = true;
    assert_eq!(reason(&fleet, Suspended), Some(Reason::Suspended));
    let unknown = Discovery { failed: Some("denied".to_owned()), ..Discovery::default() };
    let blind = told(&fleet_of(&done, LIMITS), &[], &unknown);
    assert_eq!(blind.condition(Ready).unwrap().status, ConditionStatus::Unknown);
    assert_eq!(blind.reason(DiscoveryDegraded), Some(Reason::DiscoveryFailed));
}

#[test]
fn events_are_told_once() {
    let done = status_with(completed());
    let members = [ours(failed)];
    let tell = |before: &ClusterVncPasswordStatus| {
        let fleet = fleet_of(before, LIMITS);
        let planned = plan(&fleet, &members, now());
        status(&fleet, &planned, &Discovery::default(), None, |_| Default::default(), now())
    };
    let (after, notes) = tell(&done);
    assert_eq!(notes.iter().map(|note| note.reason).collect::<Vec<_>>(), ["MembersFailed"]);
    let (again, notes) = tell(&after);
    assert_eq!((again, notes.len()), (after, 0));
}

#[test]
fn a_status_of_ten_thousand_is_small_at_its_worst() {
    let members: Vec<Member> = (0..10_000).map(|_| ours(failed)).collect();
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
    let doubt = Doubt { since: Time(now()), answers: 3, counted_at: Time(now()) };
    let discovery = Discovery { skipped: &nodes, doubt: Some(doubt), failed: None };
    let planned = plan(&fleet, &members, now());
    let describe =
        |_: usize| (child_name(&"f".repeat(63), &"i".repeat(64)), "i".repeat(64), "m".repeat(32_768));
    let (status, _) = status(&fleet, &planned, &discovery, None, describe, now());
    assert_eq!((status.failures.len(), status.skipped_nodes.len()), (10, 5));
    let size = serde_json::to_vec(&status).unwrap().len();
    assert!(size < 8 * 1024, "{size} bytes");
}

#[test]
fn an_instance_that_takes_for_ever_makes_few_writes() {
    let done = ours(|facts| (facts.handled, facts.rotated) = (Some(id()), Some(id())));
    let last = ours(|facts| facts.state = State::Working { since: None, reason: Reason::Throttled });
    let mut members = vec![done; 99];
    members.push(last);
    let mut before = status_with(open(Trigger::OnDemand));
    let mut writes = 0;
    for second in 0..36_000 {
        let fleet = fleet_of(&before, LIMITS);
        let planned = plan(&fleet, &members, at(NOW + second));
        let describe = |_: usize| <(String, String, String)>::default();
        let (after, _) = status(&fleet, &planned, &Discovery::default(), None, describe, at(NOW + second));
        writes += u32::from(after != before);
        before = after;
    }
    assert!(writes < 60, "{writes} writes in ten hours");
}

#[test]
fn ten_thousand_at_rest_make_no_write_in_a_day() {
    let members: Vec<Member> = (0..10_000)
        .map(|_| ours(|facts| (facts.handled, facts.rotated) = (Some(id()), Some(id()))))
        .collect();
    let describe = |_: usize| <(String, String, String)>::default();
    let told = |before: &ClusterVncPasswordStatus, second| {
        let fleet = fleet_of(before, LIMITS);
        let planned = plan(&fleet, &members, at(NOW + second));
        assert_eq!((planned.actions.as_slice(), planned.wake), (&[][..], None));
        status(&fleet, &planned, &Discovery::default(), None, describe, at(NOW + second)).0
    };
    let before = told(&status_with(completed()), 0);
    assert_eq!((before.discovered, before.ready, before.rotating), (10_000, 10_000, 0));
    for minute in 1..24 * 60 {
        assert_eq!(told(&before, minute * 60), before);
    }
}
