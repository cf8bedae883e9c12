//! Plans as tables.

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
        window_fits: true,
        limits,
        suspended: false,
        degraded: false,
        spacing: None,
    }
}

fn facts() -> Facts {
    Facts {
        created: at(100),
        ready: true,
        state: State::Idle,
        restart: Restart::None,
        stamped: None,
        handled: None,
        rotated: Some(at(200)),
        drifted: false,
        deleting: false,
    }
}

fn ours(change: impl FnOnce(&mut Facts)) -> Member {
    let mut facts = facts();
    change(&mut facts);
    Member { wanted: true, child: Child::Ours(facts) }
}

fn failed(facts: &mut Facts) {
    facts.state = State::Failed { reason: Reason::Denied, since: at(NOW - 60) };
}

fn working(facts: &mut Facts) {
    facts.state = State::Working { since: Some(at(NOW - 60)), reason: Reason::Unreachable };
}

fn other(child: Child) -> Member {
    Member { wanted: true, child }
}

/// A rollout that has begun a while ago.
fn open(trigger: Trigger) -> Rollout {
    let begun = Time(at(NOW - 3600));
    Rollout {
        id: begun.clone(),
        trigger,
        started_at: begun.clone(),
        updated: 0,
        total: 0,
        failed: 0,
        progress: String::new(),
        eta: None,
        pace_from: PaceFrom { time: begun, updated: 0 },
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

const LIMITS: Limits = Limits {
    max_concurrent: 3,
    max_unavailable: 1,
    pause_after_failures: 2,
    reboot: false,
    prune: Prune::Delete,
};

fn id() -> Timestamp {
    at(NOW - 3600)
}

fn create(member: usize) -> Action {
    Action::Create { member, stamp: None }
}

fn stamp(member: usize) -> Action {
    Action::Stamp { member, stamp: id() }
}

/// What is done for these members in a rollout on demand.
fn actions(limits: Limits, members: &[Member]) -> Vec<Action> {
    let status = status_with(open(Trigger::OnDemand));
    plan(&fleet_of(&status, limits), members, now()).actions
}

type Change = fn(&mut Facts);

#[test]
fn the_wave_is_filled_and_not_more() {
    let idle = || ours(|_| {});
    assert_eq!(actions(LIMITS, &[idle(), idle(), idle(), idle()]), [stamp(0), stamp(1), stamp(2)]);
    let asked = || ours(|facts| facts.stamped = Some(id()));
    assert_eq!(actions(LIMITS, &[asked(), idle(), asked(), idle(), idle()]), [stamp(1)]);
    assert_eq!(actions(LIMITS, &[ours(working), idle(), asked(), asked()]), []);
    let done = || ours(|facts| (facts.handled, facts.rotated) = (Some(id()), Some(now())));
    assert_eq!(actions(LIMITS, &[done(), idle(), done()]), [stamp(1)]);
    let new = Action::Create { member: 0, stamp: Some(id()) };
    assert_eq!(actions(LIMITS, &[other(Child::Missing), idle()]), [new, stamp(1)]);
    assert_eq!(actions(LIMITS, &[other(Child::Foreign), other(Child::Elsewhere), idle()]), [stamp(2)]);
    let reboot = Limits { reboot: true, ..LIMITS };
    assert_eq!(actions(reboot, &[idle(), idle()]), [stamp(0)], "one is restarted at a time");
}

#[test]
fn who_holds_a_place_and_who_does_not() {
    let old = at(NOW - 7200);
    let since = |since| State::Working { since: Some(since), reason: Reason::Unreachable };
    let table: [(&str, bool, Change); 13] = [
        ("at rest", false, |_| {}),
        ("not looked at yet", true, |facts| (facts.ready, facts.rotated) = (false, None)),
        ("asked", true, |facts| facts.stamped = Some(id())),
        ("asked for another day", false, |facts| facts.stamped = Some(at(NOW + 60))),
        ("asked before it was created", false, |facts| facts.stamped = Some(at(99))),
        ("waits for the restart by the operator", true, |facts| facts.restart = Restart::Operator),
        ("waits for a restart by a person", false, |facts| facts.restart = Restart::Person),
        ("waits for its instance", true, |facts| facts.state = State::Waiting { since: at(NOW - 299) }),
        ("waits for its instance for long", false, |facts| {
            facts.state = State::Waiting { since: at(NOW - 300) }
        }),
        ("needs a person", false, failed),
        ("has no VNC", false, |facts| facts.state = State::Unsupported),
        ("is suspended", false, |facts| facts.state = State::Suspended),
        ("is being deleted", true, |facts| facts.deleting = true),
    ];
    for (name, busy, change) in table {
        let tally = Tally::of(&[ours(change)], None, now());
        assert_eq!(tally.busy, u32::from(busy), "{name}");
    }
    for (state, busy, failed) in [
        (since(at(NOW - 3599)), 1, 0),
        (since(old), 0, 1),
        (State::Working { since: None, reason: Reason::Throttled }, 1, 0),
    ] {
        let tally = Tally::of(&[ours(|facts| facts.state = state)], None, now());
        assert_eq!((tally.busy, tally.failed), (busy, failed), "{state:?}");
    }
}

#[test]
fn a_child_is_stamped_once_and_with_a_time_that_counts() {
    let stamps = |change: fn(&mut Facts)| match actions(LIMITS, &[ours(change)])[..] {
        [] => None,
        [Action::Stamp { stamp, .. }] => Some(stamp.as_second() - NOW),
        ref other => panic!("{other:?}"),
    };
    let table: [(&str, Change, Option<i64>); 9] = [
        ("plain", |_| {}, Some(-3600)),
        ("stamped", |facts| facts.stamped = Some(id()), None),
        ("a person asked since", |facts| facts.stamped = Some(at(NOW - 60)), None),
        ("a person asks for another day", |facts| facts.stamped = Some(at(NOW + 60)), Some(-3600)),
        (
            "made anew since, with the password of its Secret",
            |facts| (facts.created, facts.rotated) = (at(NOW - 60), Some(at(50))),
            Some(-60),
        ),
        ("new", |facts| (facts.created, facts.rotated) = (at(NOW - 60), Some(at(NOW - 30))), None),
        (
            "rotated on demand since",
            |facts| (facts.handled, facts.rotated) = (Some(at(NOW - 9)), Some(now())),
            None,
        ),
        ("an older rotation came to its end since", |facts| facts.rotated = Some(at(NOW - 30)), Some(-3600)),
        (
            "waits for a restart by a person, for an older one",
            |facts| facts.restart = Restart::Person,
            Some(-3600),
        ),
    ];
    for (name, change, expected) in table {
        assert_eq!(stamps(change), expected, "{name}");
    }
}

#[test]
fn a_rollout_whose_id_is_ahead_of_the_clock_is_not_over_before_it_has_begun() {
    let ahead = Rollout { id: Time(at(NOW + 1)), ..open(Trigger::OnDemand) };
    let before = status_with(ahead.clone());
    let fleet = fleet_of(&before, Limits { max_concurrent: 2, ..LIMITS });
    let stamped = || ours(|facts| facts.stamped = Some(ahead.id.0));
    let planned = plan(&fleet, &[stamped(), stamped(), ours(|_| {})], now());
    assert_eq!((planned.tally.busy, planned.actions), (2, vec![]), "they hold their places");
    let planned = plan(&fleet, &[stamped(), stamped()], now());
    assert_eq!((planned.turns, planned.rollout.unwrap().completed_at), (false, None));
}

#[test]
fn what_failed_before_comes_last_and_does_not_halt() {
    let status = status_with(Rollout { tolerated: 2, ..open(Trigger::OnDemand) });
    let members = [ours(failed), ours(failed), ours(|_| {})];
    let planned = plan(&fleet_of(&status, LIMITS), &members, now());
    assert_eq!(planned.actions, [stamp(2), stamp(0), stamp(1)]);
    assert_eq!(planned.phase, Phase::Rolling);
}

#[test]
fn failures_shrink_the_wave_and_halt_it() {
    let limits = Limits { pause_after_failures: 4, ..LIMITS };
    let idle = || ours(|_| {});
    let bad = || {
        ours(|facts| {
            failed(facts);
            facts.stamped = Some(id());
            facts.handled = Some(id());
        })
    };
    assert_eq!(actions(limits, &[bad(), idle(), idle(), idle()]), [stamp(1), stamp(2)]);
    assert_eq!(actions(limits, &[bad(), bad(), bad(), idle(), idle()]), [stamp(3)], "one goes on");
    let status = status_with(open(Trigger::OnDemand));
    let members = [bad(), bad(), bad(), bad(), idle()];
    let halted = plan(&fleet_of(&status, limits), &members, now());
    assert!(halted.turns && halted.actions.is_empty());
    assert_eq!(halted.phase, Phase::Halted);
    assert_eq!(halted.note.unwrap().reason, "RolloutHalted");
    // With nothing left to start there is nothing to halt.
    let ended = plan(&fleet_of(&status, limits), &members[..4], now());
    assert!(ended.rollout.unwrap().completed_at.is_some());
    assert_eq!(ended.note.unwrap().reason, "RolloutCompleted");
    // Where the operator restarts, one failure may be one restart.
    let reboot = Limits { reboot: true, ..limits };
    let halted = plan(&fleet_of(&status, reboot), &[bad(), idle()], now());
    assert_eq!(halted.phase, Phase::Halted);
}

#[test]
fn a_halted_rollout_goes_on_when_it_may() {
    let status = status_with(Rollout { halted_at: Some(Time(at(NOW - 60))), ..open(Trigger::Schedule) });
    let bad = || {
        ours(|facts| {
            failed(facts);
            facts.stamped = Some(id());
        })
    };
    let members = [bad(), bad(), ours(|_| {}), other(Child::Missing)];
    let fleet = || fleet_of(&status, LIMITS);
    let still = plan(&fleet(), &members, now());
    assert!(still.actions.is_empty() && !still.turns && still.next.is_none());
    let resumed = |plan: Plan, tolerated| {
        let rollout = plan.rollout.unwrap();
        assert!(plan.turns && rollout.halted_at.is_none());
        assert_eq!((rollout.tolerated, rollout.pace_from.time.0), (tolerated, now()));
        rollout
    };
    let changed = plan(&Fleet { generation: 2, ..fleet() }, &members, now());
    assert_eq!(resumed(changed, 2).id.0, id());
    let recovered = [ours(working), ours(working), ours(|_| {}), other(Child::Missing)];
    resumed(plan(&fleet(), &recovered, now()), 0);
    let one_left = [bad(), ours(working), ours(|_| {})];
    assert!(!plan(&fleet(), &one_left, now()).turns, "not while one of them still fails");
    let asked = plan(&Fleet { rotate_at: RotateAt::At(now()), ..fleet() }, &members, now());
    assert_eq!(resumed(asked, 2).id.0, now());
    let suspended = plan(&Fleet { generation: 2, suspended: true, ..fleet() }, &members, now());
    assert!(!suspended.turns && suspended.phase == Phase::Suspended);
}

#[test]
fn when_a_rollout_begins() {
    let every_hour = || {
        let rotation = api::Rotation { interval: Some("1h".to_owned()), ..api::Rotation::default() };
        schedule::Plan::new(Some(&rotation), None)
    };
    let asked = |second| Some(RotateAt::At(at(second)));
    let member = [ours(|_| {})];
    let none = status_with(None);
    let done = status_with(completed());
    let lately = status_with(Rollout { started_at: Time(at(NOW - 30)), ..completed() });
    let handled =
        ClusterVncPasswordStatus { last_handled_rotate_at: Some(Time(at(NOW - 10))), ..done.clone() };
    let future = status_with(Rollout { id: Time(at(NOW + 60)), ..completed() });
    let table = [
        ("the first", &none, None, false, Some(Trigger::Initial), 0),
        ("nothing is due", &done, None, false, None, 0),
        ("a turn is due", &done, None, true, Some(Trigger::Schedule), 0),
        ("none is due yet", &lately, None, true, None, 0),
        ("asked", &done, asked(NOW - 5), false, Some(Trigger::OnDemand), 0),
        ("asked for later", &done, asked(NOW + 5), false, None, 0),
        ("asked within a minute", &lately, asked(NOW - 5), false, None, 0),
        ("asked before", &handled, asked(NOW - 10), false, None, 0),
        ("asked at the very first", &none, asked(NOW - 5), false, Some(Trigger::OnDemand), 0),
        ("after the clock jumped back", &future, asked(NOW - 5), false, Some(Trigger::OnDemand), 61),
    ];
    for (name, status, rotate_at, scheduled, expected, later) in table {
        let mut fleet = fleet_of(status, LIMITS);
        fleet.rotate_at = rotate_at.unwrap_or_default();
        if scheduled {
            fleet.schedule = every_hour();
        }
        let planned = plan(&fleet, &member, now());
        assert_eq!(planned.turns, expected.is_some(), "{name}");
        assert!(planned.actions.is_empty(), "{name}");
        if let Some(trigger) = expected {
            let rollout = planned.rollout.unwrap();
            assert_eq!((rollout.trigger, rollout.id.0), (trigger, at(NOW + later)), "{name}");
            let wanted = (trigger == Trigger::OnDemand).then(|| at(NOW - 5));
            assert_eq!(planned.handled, wanted, "{name}");
        }
    }
    assert!(!plan(&fleet_of(&none, LIMITS), &[], now()).turns, "a fleet of none has nothing to begin");
}

#[test]
fn a_scheduled_rollout_keeps_to_the_window_and_others_do_not() {
    let window = api::Window { schedule: "0 2 * * *".to_owned(), duration: "1h".to_owned(), time_zone: None };
    let member = [ours(|_| {}), other(Child::Missing)];
    for (trigger, waits) in [(Trigger::Schedule, true), (Trigger::OnDemand, false)] {
        let status = status_with(open(trigger));
        let mut fleet = fleet_of(&status, LIMITS);
        fleet.schedule = schedule::Plan::new(None, Some(&window));
        let closed = plan(&fleet, &member, now());
        let new = Action::Create { member: 1, stamp: Some(id()) };
        let expected = if waits { vec![new] } else { vec![stamp(0), new] };
        assert_eq!(closed.actions, expected, "{trigger:?}: a first password does not wait");
        let waiting = plan(&fleet, &member[..1], now());
        assert_eq!(waiting.phase == Phase::WindowClosed, waits, "{trigger:?}");
        let opening = fleet.schedule.as_ref().unwrap().opening(now()).unwrap();
        assert_eq!(waiting.wake, Some(opening), "{trigger:?}");
        assert_eq!(plan(&fleet, &member[..1], opening).actions, [stamp(0)], "{trigger:?}");
    }
}

#[test]
fn outside_of_a_rollout_new_instances_are_served_and_gone_ones_pruned() {
    let status = status_with(completed());
    let gone = || Member { wanted: false, ..ours(|_| {}) };
    let members = [other(Child::Missing), gone(), ours(|_| {}), ours(|facts| facts.drifted = true)];
    let update = Action::Update { member: 3, stamp: None };
    let fleet = || fleet_of(&status, LIMITS);
    let planned = |fleet: Fleet| plan(&fleet, &members, now()).actions;
    assert_eq!(planned(fleet()), [create(0), update, Action::Delete { member: 1 }]);
    let orphan = Limits { prune: Prune::Orphan, ..LIMITS };
    assert_eq!(planned(Fleet { limits: orphan, ..fleet() })[2], Action::Orphan { member: 1 });
    assert_eq!(planned(Fleet { degraded: true, ..fleet() }), [create(0), update]);
    assert_eq!(planned(Fleet { suspended: true, ..fleet() }), []);
    let unfit = Fleet { window_fits: false, ..fleet() };
    assert_eq!(planned(unfit), [Action::Delete { member: 1 }], "no child gets a window that is none");
}

#[test]
fn a_child_is_brought_back_with_the_stamp_that_it_has() {
    let status = status_with(completed());
    let drifted = |facts: &mut Facts| {
        (facts.drifted, facts.stamped, facts.handled) = (true, Some(at(500)), Some(at(500)));
    };
    let update = |member| Action::Update { member, stamp: Some(at(500)) };
    let waits = || {
        ours(|facts| {
            drifted(facts);
            facts.restart = Restart::Person;
        })
    };
    let members = [ours(drifted), waits(), waits()];
    let planned = |limits| plan(&fleet_of(&status, limits), &members, now()).actions;
    assert_eq!(planned(LIMITS), [update(0), update(1), update(2)]);
    let reboot = Limits { reboot: true, ..LIMITS };
    assert_eq!(planned(reboot), [update(0), update(1)], "what lets the operator restart takes a place");
}

#[test]
fn a_rollout_ends_without_those_that_cannot_be_had() {
    let status = status_with(open(Trigger::OnDemand));
    let done = ours(|facts| (facts.handled, facts.rotated) = (Some(id()), Some(now())));
    let asked = |change: fn(&mut Facts)| {
        ours(move |facts| {
            facts.stamped = Some(id());
            change(facts);
        })
    };
    let stopped = asked(|facts| facts.state = State::Waiting { since: at(NOW - 301) });
    let manual = asked(|facts| (facts.restart, facts.handled) = (Restart::Person, Some(id())));
    let paused = asked(|facts| facts.state = State::Suspended);
    let no_vnc = asked(|facts| facts.state = State::Unsupported);
    let members = [
        done,
        stopped,
        manual,
        paused,
        no_vnc,
        asked(failed),
        other(Child::Foreign),
        other(Child::Elsewhere),
    ];
    let planned = plan(&fleet_of(&status, LIMITS), &members, now());
    let rollout = planned.rollout.clone().unwrap();
    assert!(planned.turns && rollout.completed_at.is_some());
    assert_eq!((rollout.updated, rollout.total, rollout.failed), (1, 7, 1));
    assert_eq!(rollout.progress, "1/7");
    let tally = planned.tally;
    assert_eq!((tally.waiting, tally.failed, tally.reboot_required, tally.owned_elsewhere), (3, 2, 1, 1));
    assert_eq!(planned.ended, Some(now()));
}

#[test]
fn what_changes_by_waiting_alone_wakes() {
    let status = status_with(open(Trigger::OnDemand));
    let waiting = ours(|facts| facts.state = State::Waiting { since: at(NOW - 100) });
    assert_eq!(plan(&fleet_of(&status, LIMITS), &[waiting, ours(working)], now()).wake, Some(at(NOW + 200)));
    assert_eq!(plan(&fleet_of(&status, LIMITS), &[ours(working)], now()).wake, Some(at(NOW + 3540)));
    let done = status_with(completed());
    let mut fleet = fleet_of(&done, LIMITS);
    fleet.rotate_at = RotateAt::At(at(NOW + 77));
    assert_eq!(plan(&fleet, &[ours(|_| {})], now()).wake, Some(at(NOW + 77)));
    let rotation = api::Rotation { interval: Some("2h".to_owned()), ..api::Rotation::default() };
    fleet.rotate_at = RotateAt::Never;
    fleet.schedule = schedule::Plan::new(Some(&rotation), None);
    let planned = plan(&fleet, &[ours(|_| {})], now());
    assert_eq!((planned.wake, planned.next), (Some(at(NOW + 3600)), Some(at(NOW + 3600))));
}

#[test]
fn the_end_of_a_scheduled_rollout_reckons_with_the_window() {
    let window = api::Window { schedule: "0 2 * * *".to_owned(), duration: "2h".to_owned(), time_zone: None };
    let time = |text: &str| text.parse::<Timestamp>().unwrap();
    let (begun, now) = (time("2026-01-01T02:00:00Z"), time("2026-01-02T02:30:00Z"));
    let begins = Time(begun);
    let pace_from = PaceFrom { time: begins.clone(), updated: 0 };
    let rollout =
        Rollout { id: begins.clone(), started_at: begins, pace_from, total: 100, ..open(Trigger::Schedule) };
    let status = status_with(rollout);
    let mut fleet = fleet_of(&status, LIMITS);
    fleet.schedule = schedule::Plan::new(None, Some(&window));
    let done = ours(|facts| (facts.handled, facts.rotated) = (Some(begun), Some(begun)));
    let members: Vec<Member> = (0..100).map(|it| if it < 50 { done.clone() } else { ours(|_| {}) }).collect();
    // Half in two and a half open hours: one and a half of the rest fit in this night.
    let planned = plan(&fleet, &members, now);
    assert_eq!(planned.rollout.unwrap().eta, Some(Time(time("2026-01-03T03:00:00Z"))));
}

#[test]
fn a_child_is_read_as_its_status_says() {
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
        (vec![], State::Idle, Restart::None),
        (vec![is(stalled, Reason::Denied)], State::Failed { reason: Reason::Denied, since }, Restart::None),
        (vec![is(stalled, Reason::Conflict)], State::Elsewhere, Restart::None),
        (vec![is(stalled, Reason::InstanceUnsupported)], State::Unsupported, Restart::None),
        (vec![is(stalled, Reason::InvalidRotateAt)], State::Idle, Restart::None),
        (vec![is(reconciling, Reason::InstanceNotReady)], State::Waiting { since }, Restart::None),
        (
            vec![is(reconciling, Reason::Throttled)],
            State::Working { since: None, reason: Reason::Throttled },
            Restart::None,
        ),
        (
            vec![is(reconciling, Reason::OutcomeUnknown)],
            State::Working { since: Some(since), reason: Reason::OutcomeUnknown },
            Restart::None,
        ),
        (vec![is(ConditionType::RebootRequired, Reason::RebootRequired)], State::Idle, Restart::Person),
        (
            vec![
                is(reconciling, Reason::RebootRequired),
                is(ConditionType::RebootRequired, Reason::RebootRequired),
            ],
            State::Working { since: Some(since), reason: Reason::RebootRequired },
            Restart::Operator,
        ),
    ];
    for (conditions, state, restart) in table {
        let status =
            VncPasswordStatus { conditions, observed_generation: Some(2), ..VncPasswordStatus::default() };
        let mut seen = Observation {
            created: at(100),
            generation: 2,
            rotate_at: RotateAt::Never,
            suspended: false,
            status: &status,
            drifted: false,
            deleting: false,
        };
        let read = Facts::read(&seen);
        assert_eq!((read.state, read.restart), (state, restart), "{:?}", status.conditions);
        seen.generation = 3;
        let unseen = if restart == Restart::None { Restart::None } else { Restart::Operator };
        assert_eq!(Facts::read(&seen).restart, unseen, "it has not seen its spec: {:?}", status.conditions);
        seen.rotate_at = RotateAt::Invalid;
        assert!(Facts::read(&seen).drifted, "a stamp that is none is taken away");
        seen.suspended = true;
        assert_eq!(Facts::read(&seen).state, State::Suspended);
    }
}

#[test]
fn what_was_written_counts_until_it_is_seen() {
    let mut issued = Issued::default();
    issued.stamped("i-a", id(), now());
    issued.created("i-b", None, now());
    let busy = |issued: &mut Issued, members: &mut Vec<Member>, second| {
        issued.overlay(["i-a", "i-b"], members, at(second));
        Tally::of(members, None, at(second)).busy
    };
    let unseen = || vec![ours(|_| {}), other(Child::Missing)];
    assert_eq!(busy(&mut issued, &mut unseen(), NOW + 1), 2);
    let done = ours(|facts| (facts.stamped, facts.handled) = (Some(id()), Some(id())));
    assert_eq!(busy(&mut issued, &mut vec![done, ours(|_| {})], NOW + 2), 0);
    assert_eq!(busy(&mut issued, &mut unseen(), NOW + 3), 0, "once seen it is forgotten");
    issued.created("i-b", None, now());
    assert_eq!(busy(&mut issued, &mut unseen(), NOW + 120), 0, "what never shows was undone");
}

#[test]
fn limits_come_from_the_spec() {
    let mut spec = ClusterVncPasswordSpec::default();
    let limits = Limits::of(&spec);
    let expected = (10, 1, 3, false, Prune::Delete);
    let told = |limits: Limits| {
        (
            limits.max_concurrent,
            limits.max_unavailable,
            limits.pause_after_failures,
            limits.reboot,
            limits.prune,
        )
    };
    assert_eq!(told(limits), expected);
    assert_eq!(limits.wave(), 10);
    spec.template =
        Some(Box::new(api::Template { activation: Activation::Reboot, ..api::Template::default() }));
    assert_eq!(Limits::of(&spec).wave(), 1);
}

#[test]
fn the_end_is_not_sooner_than_the_limit_of_calls_lets() {
    let done = ours(|facts| (facts.handled, facts.rotated) = (Some(id()), Some(id())));
    let members = [vec![done; 10], vec![ours(|_| {}); 90]].concat();
    // Ten in the last second: in a hurry the rest would be nine seconds.
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
fn times_of_a_rollout_that_are_to_come_are_cut_once() {
    let rotation = api::Rotation { interval: Some("1h".to_owned()), ..api::Rotation::default() };
    let plan_at = |rollout: Rollout, second: i64| {
        let status = status_with(rollout);
        let schedule = schedule::Plan::new(Some(&rotation), None);
        let fleet = Fleet { schedule, ..fleet_of(&status, LIMITS) };
        let plan = plan(&fleet, &[ours(|facts| facts.rotated = Some(now()))], at(second));
        (plan.rollout.unwrap(), plan.next)
    };
    // The clock was set back by three hours.
    let back = NOW - 3 * 60 * 60;
    let (cut, next) = plan_at(completed(), back);
    let times = [Some(&cut.started_at), Some(&cut.pace_from.time), cut.completed_at.as_ref()];
    assert_eq!(times, [Some(&Time(at(back))); 3]);
    assert_eq!(next, Some(at(back + 3600)));
    assert_eq!(plan_at(cut.clone(), back + 1800), (cut, next), "it does not move along with the clock");
}
