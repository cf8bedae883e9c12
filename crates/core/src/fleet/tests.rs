//! Tests of plans, as tables: waves, transitions, pruning, estimates.

mod discovery;
mod status;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::*;
use crate::{
    api::{
        self, Activation, ClusterVncPasswordSpec, ClusterVncPasswordStatus, Condition, ConditionStatus,
        ConditionType, PaceFrom, Prune, Reason, Rollout, Trigger, VncPasswordStatus,
    },
    rotation::{rotate_at::RotateAt, schedule},
};

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn now() -> Timestamp {
    at(NOW)
}

pub(super) fn fleet_of(status: &ClusterVncPasswordStatus, limits: Limits) -> Fleet<'_> {
    Fleet {
        generation: 1,
        created: at(0),
        status,
        rotate_at: RotateAt::Never,
        schedule: schedule::Plan::new(None, None),
        window_valid: true,
        limits,
        prune: Prune::Delete,
        suspended: false,
        degraded: false,
        spacing: None,
    }
}

fn member_state() -> MemberState {
    MemberState {
        created: at(100),
        ready: true,
        activity: Activity::Idle,
        restart: Restart::None,
        rotate_at: None,
        last_handled_rotate_at: None,
        last_rotation: Some(at(200)),
        drifted: false,
        deleting: false,
    }
}

fn owned(change: impl FnOnce(&mut MemberState)) -> Member {
    let mut state = member_state();
    change(&mut state);
    Member { selected: true, object: MemberObject::Owned(state) }
}

fn failed(state: &mut MemberState) {
    state.activity = Activity::Failed { reason: Reason::Denied, since: at(NOW - 60) };
}

fn working(state: &mut MemberState) {
    state.activity = Activity::Working { since: Some(at(NOW - 60)), reason: Reason::Unreachable };
}

fn with_object(object: MemberObject) -> Member {
    Member { selected: true, object }
}

/// A rollout that began an hour ago.
fn open(trigger: Trigger) -> Rollout {
    let start = Time(at(NOW - 3600));
    Rollout {
        id: start.clone(),
        trigger,
        started_at: start.clone(),
        updated: 0,
        total: 0,
        failed: 0,
        progress: String::new(),
        eta: None,
        pace_from: PaceFrom { time: start, updated: 0 },
        completed_at: None,
        halted_at: None,
        tolerated: 0,
    }
}

fn completed() -> Rollout {
    Rollout { completed_at: Some(Time(at(NOW - 1800))), ..open(Trigger::OnDemand) }
}

fn status_with(rollout: impl Into<Option<Rollout>>) -> ClusterVncPasswordStatus {
    ClusterVncPasswordStatus {
        rollout: rollout.into(),
        observed_generation: Some(1),
        ..ClusterVncPasswordStatus::default()
    }
}

const LIMITS: Limits =
    Limits { max_concurrent: 3, max_unavailable: 1, pause_after_failures: 2, reboot: false };

fn id() -> Timestamp {
    at(NOW - 3600)
}

fn create(member: usize) -> Action {
    Action::Create { member, rotate_at: None }
}

fn rotate(member: usize) -> Action {
    Action::Rotate { member, rotate_at: id() }
}

/// The actions for these members in a rollout on demand.
fn actions(limits: Limits, members: &[Member]) -> Vec<Action> {
    let status = status_with(open(Trigger::OnDemand));
    plan(&fleet_of(&status, limits), members, now()).actions
}

type Change = fn(&mut MemberState);

#[test]
fn a_plan_fills_the_wave() {
    let idle = || owned(|_| {});
    assert_eq!(actions(LIMITS, &[idle(), idle(), idle(), idle()]), [rotate(0), rotate(1), rotate(2)]);
    let requested = || owned(|state| state.rotate_at = Some(id()));
    assert_eq!(actions(LIMITS, &[requested(), idle(), requested(), idle(), idle()]), [rotate(1)]);
    assert_eq!(actions(LIMITS, &[owned(working), idle(), requested(), requested()]), []);
    let done =
        || owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(id()), Some(now())));
    assert_eq!(actions(LIMITS, &[done(), idle(), done()]), [rotate(1)]);
    let new = Action::Create { member: 0, rotate_at: Some(id()) };
    assert_eq!(actions(LIMITS, &[with_object(MemberObject::Missing), idle()]), [new, rotate(1)]);
    assert_eq!(
        actions(
            LIMITS,
            &[with_object(MemberObject::Conflict), with_object(MemberObject::OwnedElsewhere), idle()]
        ),
        [rotate(2)]
    );
    let reboot = Limits { reboot: true, ..LIMITS };
    assert_eq!(actions(reboot, &[idle(), idle()]), [rotate(0)], "one is restarted at a time");
}

#[test]
fn members_that_use_a_slot_of_the_wave() {
    let old = at(NOW - 7200);
    let since = |since| Activity::Working { since: Some(since), reason: Reason::Unreachable };
    let table: [(&str, bool, Change); 13] = [
        ("idle", false, |_| {}),
        ("not reconciled yet", true, |state| (state.ready, state.last_rotation) = (false, None)),
        ("requested", true, |state| state.rotate_at = Some(id())),
        ("requested for the future", false, |state| state.rotate_at = Some(at(NOW + 60))),
        ("requested before it was created", false, |state| state.rotate_at = Some(at(99))),
        ("waits for the restart by the operator", true, |state| state.restart = Restart::Operator),
        ("waits for a restart by a person", false, |state| state.restart = Restart::Person),
        ("waits for its instance", true, |state| {
            state.activity = Activity::WaitingForInstance { since: at(NOW - 299) }
        }),
        ("waits for its instance for too long", false, |state| {
            state.activity = Activity::WaitingForInstance { since: at(NOW - 300) }
        }),
        ("needs a person", false, failed),
        ("has no VNC", false, |state| state.activity = Activity::Unsupported),
        ("is suspended", false, |state| state.activity = Activity::Suspended),
        ("is being deleted", true, |state| state.deleting = true),
    ];
    for (name, uses_slot, change) in table {
        let counts = Counts::of(&[owned(change)], None, now());
        assert_eq!(counts.slots_used, u32::from(uses_slot), "{name}");
    }
    for (activity, slots_used, failed) in [
        (since(at(NOW - 3599)), 1, 0),
        (since(old), 0, 1),
        (Activity::Working { since: None, reason: Reason::Throttled }, 1, 0),
    ] {
        let counts = Counts::of(&[owned(|state| state.activity = activity)], None, now());
        assert_eq!((counts.slots_used, counts.failed), (slots_used, failed), "{activity:?}");
    }
}

#[test]
fn rotate_at_is_set_once_and_is_not_older_than_the_member_object() {
    let rotate_at = |change: fn(&mut MemberState)| match actions(LIMITS, &[owned(change)])[..] {
        [] => None,
        [Action::Rotate { rotate_at, .. }] => Some(rotate_at.as_second() - NOW),
        ref other => panic!("{other:?}"),
    };
    let table: [(&str, Change, Option<i64>); 9] = [
        ("not requested", |_| {}, Some(-3600)),
        ("requested", |state| state.rotate_at = Some(id()), None),
        ("a user requested a rotation since", |state| state.rotate_at = Some(at(NOW - 60)), None),
        (
            "a user requests a rotation for the future",
            |state| state.rotate_at = Some(at(NOW + 60)),
            Some(-3600),
        ),
        (
            "recreated since, with the password of its Secret",
            |state| (state.created, state.last_rotation) = (at(NOW - 60), Some(at(50))),
            Some(-60),
        ),
        ("new", |state| (state.created, state.last_rotation) = (at(NOW - 60), Some(at(NOW - 30))), None),
        (
            "rotated on demand since",
            |state| (state.last_handled_rotate_at, state.last_rotation) = (Some(at(NOW - 9)), Some(now())),
            None,
        ),
        (
            "an earlier rotation completed since",
            |state| state.last_rotation = Some(at(NOW - 30)),
            Some(-3600),
        ),
        (
            "waits for a restart by a person, for an earlier rotation",
            |state| state.restart = Restart::Person,
            Some(-3600),
        ),
    ];
    for (name, change, expected) in table {
        assert_eq!(rotate_at(change), expected, "{name}");
    }
}

#[test]
fn a_rollout_with_an_id_ahead_of_the_clock_waits_for_its_members() {
    let ahead = Rollout { id: Time(at(NOW + 1)), ..open(Trigger::OnDemand) };
    let before = status_with(ahead.clone());
    let fleet = fleet_of(&before, Limits { max_concurrent: 2, ..LIMITS });
    let requested = || owned(|state| state.rotate_at = Some(ahead.id.0));
    let planned = plan(&fleet, &[requested(), requested(), owned(|_| {})], now());
    assert_eq!((planned.counts.slots_used, planned.actions), (2, vec![]), "they use their slots");
    let planned = plan(&fleet, &[requested(), requested()], now());
    assert_eq!((planned.has_transition, planned.rollout.unwrap().completed_at), (false, None));
}

#[test]
fn members_that_failed_before_come_last_and_do_not_halt_the_rollout() {
    let status = status_with(Rollout { tolerated: 2, ..open(Trigger::OnDemand) });
    let members = [owned(failed), owned(failed), owned(|_| {})];
    let planned = plan(&fleet_of(&status, LIMITS), &members, now());
    assert_eq!(planned.actions, [rotate(2), rotate(0), rotate(1)]);
    assert_eq!(planned.phase, RolloutPhase::RollingOut);
}

#[test]
fn failures_shrink_the_wave_and_halt_the_rollout() {
    let limits = Limits { pause_after_failures: 4, ..LIMITS };
    let idle = || owned(|_| {});
    let bad = || {
        owned(|state| {
            failed(state);
            state.rotate_at = Some(id());
            state.last_handled_rotate_at = Some(id());
        })
    };
    assert_eq!(actions(limits, &[bad(), idle(), idle(), idle()]), [rotate(1), rotate(2)]);
    assert_eq!(actions(limits, &[bad(), bad(), bad(), idle(), idle()]), [rotate(3)], "one slot is left");
    let status = status_with(open(Trigger::OnDemand));
    let members = [bad(), bad(), bad(), bad(), idle()];
    let halted = plan(&fleet_of(&status, limits), &members, now());
    assert!(halted.has_transition && halted.actions.is_empty());
    assert_eq!(halted.phase, RolloutPhase::Halted);
    assert_eq!(halted.event.unwrap().reason, "RolloutHalted");
    // If nothing is left to start, the rollout completes.
    let ended = plan(&fleet_of(&status, limits), &members[..4], now());
    assert!(ended.rollout.unwrap().completed_at.is_some());
    assert_eq!(ended.event.unwrap().reason, "RolloutCompleted");
    // If the operator restarts instances, one failure may be one restart.
    let reboot = Limits { reboot: true, ..limits };
    let halted = plan(&fleet_of(&status, reboot), &[bad(), idle()], now());
    assert_eq!(halted.phase, RolloutPhase::Halted);
}

#[test]
fn a_halted_rollout_resumes() {
    let status = status_with(Rollout { halted_at: Some(Time(at(NOW - 60))), ..open(Trigger::Schedule) });
    let bad = || {
        owned(|state| {
            failed(state);
            state.rotate_at = Some(id());
        })
    };
    let members = [bad(), bad(), owned(|_| {}), with_object(MemberObject::Missing)];
    let fleet = || fleet_of(&status, LIMITS);
    let still = plan(&fleet(), &members, now());
    assert!(still.actions.is_empty() && !still.has_transition && still.next_rotation.is_none());
    let resumed = |plan: Plan, tolerated| {
        let rollout = plan.rollout.unwrap();
        assert!(plan.has_transition && rollout.halted_at.is_none());
        assert_eq!((rollout.tolerated, rollout.pace_from.time.0), (tolerated, now()));
        rollout
    };
    let changed = plan(&Fleet { generation: 2, ..fleet() }, &members, now());
    assert_eq!(resumed(changed, 2).id.0, id());
    let recovered = [owned(working), owned(working), owned(|_| {}), with_object(MemberObject::Missing)];
    resumed(plan(&fleet(), &recovered, now()), 0);
    let one_left = [bad(), owned(working), owned(|_| {})];
    assert!(!plan(&fleet(), &one_left, now()).has_transition, "one of them still fails");
    let requested = plan(&Fleet { rotate_at: RotateAt::At(now()), ..fleet() }, &members, now());
    assert_eq!(resumed(requested, 2).id.0, now());
    let suspended = plan(&Fleet { generation: 2, suspended: true, ..fleet() }, &members, now());
    assert!(!suspended.has_transition && suspended.phase == RolloutPhase::Suspended);
}

#[test]
fn a_rollout_begins_when_it_is_due() {
    let every_hour = || {
        let rotation = api::Rotation { interval: Some("1h".to_owned()), ..api::Rotation::default() };
        schedule::Plan::new(Some(&rotation), None)
    };
    let requested = |second| Some(RotateAt::At(at(second)));
    let member = [owned(|_| {})];
    let none = status_with(None);
    let done = status_with(completed());
    let lately = status_with(Rollout { started_at: Time(at(NOW - 30)), ..completed() });
    let handled =
        ClusterVncPasswordStatus { last_handled_rotate_at: Some(Time(at(NOW - 10))), ..done.clone() };
    let future = status_with(Rollout { id: Time(at(NOW + 60)), ..completed() });
    let table = [
        ("the first", &none, None, false, Some(Trigger::Initial), 0),
        ("nothing is due", &done, None, false, None, 0),
        ("scheduled", &done, None, true, Some(Trigger::Schedule), 0),
        ("scheduled for later", &lately, None, true, None, 0),
        ("requested", &done, requested(NOW - 5), false, Some(Trigger::OnDemand), 0),
        ("requested for later", &done, requested(NOW + 5), false, None, 0),
        ("requested within a minute", &lately, requested(NOW - 5), false, None, 0),
        ("handled before", &handled, requested(NOW - 10), false, None, 0),
        ("requested before the first rollout", &none, requested(NOW - 5), false, Some(Trigger::OnDemand), 0),
        ("after the clock was set back", &future, requested(NOW - 5), false, Some(Trigger::OnDemand), 61),
    ];
    for (name, status, rotate_at, scheduled, expected, later) in table {
        let mut fleet = fleet_of(status, LIMITS);
        fleet.rotate_at = rotate_at.unwrap_or_default();
        if scheduled {
            fleet.schedule = every_hour();
        }
        let planned = plan(&fleet, &member, now());
        assert_eq!(planned.has_transition, expected.is_some(), "{name}");
        assert!(planned.actions.is_empty(), "{name}");
        if let Some(trigger) = expected {
            let rollout = planned.rollout.unwrap();
            assert_eq!((rollout.trigger, rollout.id.0), (trigger, at(NOW + later)), "{name}");
            let wanted = (trigger == Trigger::OnDemand).then(|| at(NOW - 5));
            assert_eq!(planned.last_handled_rotate_at, wanted, "{name}");
        }
    }
    assert!(
        !plan(&fleet_of(&none, LIMITS), &[], now()).has_transition,
        "a fleet without members begins no rollout"
    );
}

#[test]
fn only_a_scheduled_rollout_waits_for_the_window() {
    let window = api::Window { schedule: "0 2 * * *".to_owned(), duration: "1h".to_owned(), time_zone: None };
    let member = [owned(|_| {}), with_object(MemberObject::Missing)];
    for (trigger, waits) in [(Trigger::Schedule, true), (Trigger::OnDemand, false)] {
        let status = status_with(open(trigger));
        let mut fleet = fleet_of(&status, LIMITS);
        fleet.schedule = schedule::Plan::new(None, Some(&window));
        let closed = plan(&fleet, &member, now());
        let new = Action::Create { member: 1, rotate_at: Some(id()) };
        let expected = if waits { vec![new] } else { vec![rotate(0), new] };
        assert_eq!(closed.actions, expected, "{trigger:?}: a first password does not wait");
        let waiting = plan(&fleet, &member[..1], now());
        assert_eq!(waiting.phase == RolloutPhase::WaitingForWindow, waits, "{trigger:?}");
        let opening = fleet.schedule.as_ref().unwrap().opening(now()).unwrap();
        assert_eq!(waiting.requeue_at, Some(opening), "{trigger:?}");
        assert_eq!(plan(&fleet, &member[..1], opening).actions, [rotate(0)], "{trigger:?}");
    }
}

#[test]
fn members_are_created_and_pruned_without_a_rollout() {
    let status = status_with(completed());
    let gone = || Member { selected: false, ..owned(|_| {}) };
    let members =
        [with_object(MemberObject::Missing), gone(), owned(|_| {}), owned(|state| state.drifted = true)];
    let update = Action::Update { member: 3, rotate_at: None };
    let fleet = || fleet_of(&status, LIMITS);
    let planned = |fleet: Fleet| plan(&fleet, &members, now()).actions;
    assert_eq!(planned(fleet()), [create(0), update, Action::Delete { member: 1 }]);
    assert_eq!(planned(Fleet { prune: Prune::Orphan, ..fleet() })[2], Action::Orphan { member: 1 });
    assert_eq!(planned(Fleet { degraded: true, ..fleet() }), [create(0), update]);
    assert_eq!(planned(Fleet { suspended: true, ..fleet() }), []);
    let invalid_window = Fleet { window_valid: false, ..fleet() };
    assert_eq!(
        planned(invalid_window),
        [Action::Delete { member: 1 }],
        "no member object gets an invalid window"
    );
}

#[test]
fn drift_is_corrected_without_a_rotation() {
    let status = status_with(completed());
    let drifted = |state: &mut MemberState| {
        (state.drifted, state.rotate_at, state.last_handled_rotate_at) = (true, Some(at(500)), Some(at(500)));
    };
    let update = |member| Action::Update { member, rotate_at: Some(at(500)) };
    let waits = || {
        owned(|state| {
            drifted(state);
            state.restart = Restart::Person;
        })
    };
    let members = [owned(drifted), waits(), waits()];
    let planned = |limits| plan(&fleet_of(&status, limits), &members, now()).actions;
    assert_eq!(planned(LIMITS), [update(0), update(1), update(2)]);
    let reboot = Limits { reboot: true, ..LIMITS };
    assert_eq!(
        planned(reboot),
        [update(0), update(1)],
        "it uses a slot if it lets the operator restart the instance"
    );
}

#[test]
fn a_rollout_completes_without_members_that_cannot_rotate() {
    let status = status_with(open(Trigger::OnDemand));
    let done = owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(id()), Some(now())));
    let requested = |change: fn(&mut MemberState)| {
        owned(move |state| {
            state.rotate_at = Some(id());
            change(state);
        })
    };
    let stopped = requested(|state| state.activity = Activity::WaitingForInstance { since: at(NOW - 301) });
    let manual =
        requested(|state| (state.restart, state.last_handled_rotate_at) = (Restart::Person, Some(id())));
    let paused = requested(|state| state.activity = Activity::Suspended);
    let no_vnc = requested(|state| state.activity = Activity::Unsupported);
    let members = [
        done,
        stopped,
        manual,
        paused,
        no_vnc,
        requested(failed),
        with_object(MemberObject::Conflict),
        with_object(MemberObject::OwnedElsewhere),
    ];
    let planned = plan(&fleet_of(&status, LIMITS), &members, now());
    let rollout = planned.rollout.clone().unwrap();
    assert!(planned.has_transition && rollout.completed_at.is_some());
    assert_eq!((rollout.updated, rollout.total, rollout.failed), (1, 7, 1));
    assert_eq!(rollout.progress, "1/7");
    let counts = planned.counts;
    assert_eq!((counts.waiting, counts.failed, counts.reboot_required, counts.owned_elsewhere), (3, 2, 1, 1));
    assert_eq!(planned.last_rotation, Some(now()));
}

#[test]
fn a_plan_requeues_for_changes_by_time_alone() {
    let status = status_with(open(Trigger::OnDemand));
    let waiting = owned(|state| state.activity = Activity::WaitingForInstance { since: at(NOW - 100) });
    assert_eq!(
        plan(&fleet_of(&status, LIMITS), &[waiting, owned(working)], now()).requeue_at,
        Some(at(NOW + 200))
    );
    assert_eq!(plan(&fleet_of(&status, LIMITS), &[owned(working)], now()).requeue_at, Some(at(NOW + 3540)));
    let done = status_with(completed());
    let mut fleet = fleet_of(&done, LIMITS);
    fleet.rotate_at = RotateAt::At(at(NOW + 77));
    assert_eq!(plan(&fleet, &[owned(|_| {})], now()).requeue_at, Some(at(NOW + 77)));
    let rotation = api::Rotation { interval: Some("2h".to_owned()), ..api::Rotation::default() };
    fleet.rotate_at = RotateAt::Never;
    fleet.schedule = schedule::Plan::new(Some(&rotation), None);
    let planned = plan(&fleet, &[owned(|_| {})], now());
    assert_eq!((planned.requeue_at, planned.next_rotation), (Some(at(NOW + 3600)), Some(at(NOW + 3600))));
}

#[test]
fn the_eta_of_a_scheduled_rollout_considers_the_window() {
    let window = api::Window { schedule: "0 2 * * *".to_owned(), duration: "2h".to_owned(), time_zone: None };
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let (start, now) = (time("2026-01-01T02:00:00Z"), time("2026-01-02T02:30:00Z"));
    let started_at = Time(start);
    let pace_from = PaceFrom { time: started_at.clone(), updated: 0 };
    let rollout =
        Rollout { id: started_at.clone(), started_at, pace_from, total: 100, ..open(Trigger::Schedule) };
    let status = status_with(rollout);
    let mut fleet = fleet_of(&status, LIMITS);
    fleet.schedule = schedule::Plan::new(None, Some(&window));
    let done =
        owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(start), Some(start)));
    let members: Vec<Member> =
        (0..100).map(|it| if it < 50 { done.clone() } else { owned(|_| {}) }).collect();
    // Half took two and a half open hours. Of the hours that the rest takes, one and a half are left tonight.
    let planned = plan(&fleet, &members, now);
    assert_eq!(planned.rollout.unwrap().eta, Some(Time(time("2026-01-03T03:00:00Z"))));
}

#[test]
fn the_state_of_a_member_object_follows_from_its_status() {
    let flag = |type_, status, reason| Condition {
        type_,
        status,
        reason,
        message: String::new(),
        last_transition_time: Time(at(500)),
        observed_generation: None,
    };
    let is = |type_, reason| flag(type_, ConditionStatus::True, reason);
    let (stalled, reconciling) = (ConditionType::Stalled, ConditionType::Reconciling);
    let since = at(500);
    let table = [
        (vec![], Activity::Idle, Restart::None),
        (
            vec![is(stalled, Reason::Denied)],
            Activity::Failed { reason: Reason::Denied, since },
            Restart::None,
        ),
        (vec![is(stalled, Reason::Conflict)], Activity::OwnedElsewhere, Restart::None),
        (vec![is(stalled, Reason::InstanceUnsupported)], Activity::Unsupported, Restart::None),
        (vec![is(stalled, Reason::InvalidRotateAt)], Activity::Idle, Restart::None),
        (
            vec![is(reconciling, Reason::InstanceNotReady)],
            Activity::WaitingForInstance { since },
            Restart::None,
        ),
        (
            vec![is(reconciling, Reason::Throttled)],
            Activity::Working { since: None, reason: Reason::Throttled },
            Restart::None,
        ),
        (
            vec![is(reconciling, Reason::OutcomeUnknown)],
            Activity::Working { since: Some(since), reason: Reason::OutcomeUnknown },
            Restart::None,
        ),
        (vec![is(ConditionType::RebootRequired, Reason::RebootRequired)], Activity::Idle, Restart::Person),
        (
            vec![
                is(reconciling, Reason::RebootRequired),
                is(ConditionType::RebootRequired, Reason::RebootRequired),
            ],
            Activity::Working { since: Some(since), reason: Reason::RebootRequired },
            Restart::Operator,
        ),
    ];
    for (conditions, activity, restart) in table {
        let status =
            VncPasswordStatus { conditions, observed_generation: Some(2), ..VncPasswordStatus::default() };
        let mut observation = Observation {
            created: at(100),
            generation: 2,
            rotate_at: RotateAt::Never,
            suspended: false,
            status: &status,
            drifted: false,
            deleting: false,
        };
        let read = MemberState::read(&observation);
        assert_eq!((read.activity, read.restart), (activity, restart), "{:?}", status.conditions);
        observation.generation = 3;
        let expected = if restart == Restart::None { Restart::None } else { Restart::Operator };
        assert_eq!(
            MemberState::read(&observation).restart,
            expected,
            "the spec is not observed: {:?}",
            status.conditions
        );
        observation.rotate_at = RotateAt::Invalid;
        assert!(MemberState::read(&observation).drifted, "an invalid rotate-at is removed");
        observation.suspended = true;
        assert_eq!(MemberState::read(&observation).activity, Activity::Suspended);
    }
}

#[test]
fn writes_count_until_the_watch_shows_them() {
    let mut expectations = Expectations::default();
    expectations.expect_rotate_at("i-a", id(), now());
    expectations.expect_create("i-b", None, now());
    let slots_used = |expectations: &mut Expectations, members: &mut Vec<Member>, second| {
        expectations.apply(["i-a", "i-b"], members, at(second));
        Counts::of(members, None, at(second)).slots_used
    };
    let unseen = || vec![owned(|_| {}), with_object(MemberObject::Missing)];
    assert_eq!(slots_used(&mut expectations, &mut unseen(), NOW + 1), 2);
    let done = owned(|state| (state.rotate_at, state.last_handled_rotate_at) = (Some(id()), Some(id())));
    assert_eq!(slots_used(&mut expectations, &mut vec![done, owned(|_| {})], NOW + 2), 0);
    assert_eq!(
        slots_used(&mut expectations, &mut unseen(), NOW + 3),
        0,
        "a fulfilled expectation is removed"
    );
    expectations.expect_create("i-b", None, now());
    assert_eq!(slots_used(&mut expectations, &mut unseen(), NOW + 120), 0, "an expectation expires");
}

#[test]
fn limits_come_from_the_spec() {
    let mut spec = ClusterVncPasswordSpec::default();
    let limits = Limits::of(&spec);
    let expected = (10, 1, 3, false);
    let fields = (limits.max_concurrent, limits.max_unavailable, limits.pause_after_failures, limits.reboot);
    assert_eq!(fields, expected);
    assert_eq!(limits.wave(), 10);
    spec.template =
        Some(Box::new(api::Template { activation: Activation::Reboot, ..api::Template::default() }));
    assert_eq!(Limits::of(&spec).wave(), 1);
}

#[test]
fn the_eta_considers_the_rate_limit() {
    let done = owned(|state| (state.last_handled_rotate_at, state.last_rotation) = (Some(id()), Some(id())));
    let members = [vec![done; 10], vec![owned(|_| {}); 90]].concat();
    // Ten in the last second: at this pace, the rest takes nine seconds.
    let mut rollout = open(Trigger::OnDemand);
    rollout.pace_from.time = Time(at(NOW - 1));
    let before = status_with(rollout);
    for (spacing, left) in
        [(None, 9), (Some(Duration::from_millis(10)), 9), (Some(Duration::from_secs(2)), 180)]
    {
        let fleet = Fleet { spacing, ..fleet_of(&before, LIMITS) };
        let eta = plan(&fleet, &members, now()).rollout.unwrap().eta;
        assert_eq!(eta, Some(Time(at(NOW + left))), "{spacing:?}");
    }
}

#[test]
fn future_times_of_a_rollout_are_limited_once_after_the_clock_was_set_back() {
    let rotation = api::Rotation { interval: Some("1h".to_owned()), ..api::Rotation::default() };
    let plan_at = |rollout: Rollout, second: i64| {
        let status = status_with(rollout);
        let schedule = schedule::Plan::new(Some(&rotation), None);
        let fleet = Fleet { schedule, ..fleet_of(&status, LIMITS) };
        let plan = plan(&fleet, &[owned(|state| state.last_rotation = Some(now()))], at(second));
        (plan.rollout.unwrap(), plan.next_rotation)
    };
    // The clock was set back by three hours.
    let back = NOW - 3 * 60 * 60;
    let (limited, next) = plan_at(completed(), back);
    let times = [Some(&limited.started_at), Some(&limited.pace_from.time), limited.completed_at.as_ref()];
    assert_eq!(times, [Some(&Time(at(back))); 3]);
    assert_eq!(next, Some(at(back + 3600)));
    assert_eq!(plan_at(limited.clone(), back + 1800), (limited, next), "it does not move with the clock");
}
