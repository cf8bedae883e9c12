//! Rollouts: each instance once, in waves, on demand and by turns; when they halt, and what lets them go on.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vncpassword_core::api::{ClusterVncPasswordStatus, ConditionType, ROTATE_AT, Reason, Rollout, Trigger};
use vncpassword_emulator::{AccessKey, Action, Fault, Status};
use vncpassword_test_support::{
    Operator, Setup, World,
    fleet::{Fleet, calm, instances},
    rotation::now,
    world::PATIENCE,
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;

/// How often each instance was called.
fn calls(world: &World, instances: &[String]) -> Vec<usize> {
    instances.iter().map(|instance| world.calls(instance).len()).collect()
}

fn rollout(status: &ClusterVncPasswordStatus) -> &Rollout {
    status.rollout.as_ref().unwrap()
}

/// A fleet of so many instances that have their first passwords, which is five minutes ago.
async fn aged(world: &World, count: usize, spec: Value) -> (Fleet<'_>, Vec<String>) {
    let instances = instances(world, count);
    let fleet = Fleet::of(world, &instances, spec).await;
    fleet.until_done(count).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    (fleet, instances)
}

/// A window of an hour and a half that opened so many hours ago.
fn window_opened(hours: i64) -> Value {
    let opening = (Timestamp::now() - SignedDuration::from_hours(hours)).to_zoned(TimeZone::UTC);
    let schedule = format!("{} {} * * *", opening.minute(), opening.hour());
    json!({"schedule": schedule, "duration": "1h30m", "timeZone": "Etc/UTC"})
}

/// The most calls of that action that came within so long of one another.
fn most_at_once(world: &World, action: Action, span: Duration) -> usize {
    let calls = world.calls_of(action);
    let within = |at: Timestamp| {
        calls
            .iter()
            .filter(|call| call.at <= at && call.at > at - SignedDuration::try_from(span).unwrap())
            .count()
    };
    calls.iter().map(|call| within(call.at)).max().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotate_at_on_the_fleet_rotates_each_instance_once() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = aged(&world, 12, json!({"rollout": {"maxConcurrent": 5}})).await;
    let before = fleet.status().await;
    assert_eq!((rollout(&before).trigger, rollout(&before).progress.as_str()), (Trigger::Initial, "12/12"));
    let first = fleet.until_known(&instances).await;
    let asked = fleet.rotate_now().await;
    let status = fleet.until_rotated(&before).await;
    let Rollout { trigger, updated, total, failed, progress, eta, .. } = rollout(&status).clone();
    assert_eq!((trigger, updated, total, failed), (Trigger::OnDemand, 12, 12, 0));
    assert_eq!((progress.as_str(), eta), ("12/12", None));
    assert_eq!(status.last_handled_rotate_at.as_ref().map(|at| at.0), Some(asked));
    assert!(status.last_rotation_time.is_some_and(|time| time.0 >= asked));
    let second = fleet.until_known(&instances).await;
    assert!(first.iter().zip(&second).all(|(first, second)| first != second));
    assert_eq!(calls(&world, &instances), [2; 12]);
    let told: Vec<String> = fleet.events().await.into_iter().map(|(reason, _)| reason).collect();
    assert_eq!(told, ["RolloutStarted", "RolloutCompleted", "RolloutStarted", "RolloutCompleted"]);

    // Handled once: not by this process again, nor by another.
    let versions = fleet.versions().await;
    fleet.settled(&operator).await;
    operator.stop().await;
    let operator = world.operator_before(world.settings()).await;
    fleet.settled(&operator).await;
    assert_eq!(fleet.versions().await, versions);
    assert_eq!(calls(&world, &instances), [2; 12]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotate_at_of_the_past_rotates_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 2);
    // As a backup brings it back.
    let old = now() - SignedDuration::from_hours(1);
    let metadata = json!({"name": world.namespace, "annotations": {ROTATE_AT: old.to_string()}});
    let fleet = Fleet::create(&world, metadata, json!({"instanceIds": instances})).await;
    fleet.until_done(2).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    fleet.settled(&operator).await;
    assert_eq!(calls(&world, &instances), [1, 1]);
    let before = fleet.status().await;
    let asked = fleet.rotate_now().await;
    let before = fleet.until_rotated(&before).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    for earlier in [asked, asked - SignedDuration::from_secs(1)] {
        fleet.rotate_at(earlier).await;
        fleet.settled(&operator).await;
    }
    assert_eq!(calls(&world, &instances), [2, 2]);
    assert_eq!(rollout(&fleet.status().await).id, rollout(&before).id);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotate_at_to_come_waits_for_its_time() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = aged(&world, 2, json!({})).await;
    let before = fleet.status().await;
    let at = now() + SignedDuration::from_secs(4);
    fleet.rotate_at(at).await;
    fleet.until_rotated(&before).await;
    let second: Vec<Timestamp> = instances.iter().map(|instance| world.calls(instance)[1].at).collect();
    assert!(second.iter().all(|called| *called >= at), "{at}: {second:?}");
    let late = second.iter().max().unwrap().duration_since(at).as_secs_f64();
    assert!(late < 5.0, "{late} s after its time");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_time_is_told_and_stops_nothing_else() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 2);
    let metadata = json!({"name": world.namespace, "annotations": {ROTATE_AT: "tomorrow"}});
    let fleet = Fleet::create(&world, metadata, json!({"instanceIds": instances})).await;
    fleet.until_stalled(Reason::InvalidRotateAt).await;
    fleet.until_known(&instances).await;
    fleet.change(json!({"metadata": {"annotations": {ROTATE_AT: null}}})).await;
    fleet.until_done(2).await;
    assert_eq!(calls(&world, &instances), [1, 1]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_suspended_fleet_starts_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 3);
    let fleet = Fleet::of(&world, &instances, json!({"suspend": true})).await;
    let suspended = |status: &ClusterVncPasswordStatus| status.condition(ConditionType::Suspended).is_some();
    fleet.until("suspended", suspended).await;
    fleet.settled(&operator).await;
    assert_eq!(fleet.children().await.len(), 0);
    fleet.change(json!({"spec": {"suspend": null}})).await;
    fleet.until_done(3).await;
    fleet.age(SignedDuration::from_mins(5)).await;

    fleet.change(json!({"spec": {"suspend": true}})).await;
    fleet.until("suspended again", suspended).await;
    let before = fleet.status().await;
    fleet.rotate_now().await;
    // Nor is a child changed, made or pruned.
    let template = json!({"metadata": {"labels": {"team": "db"}}});
    fleet.change(json!({"spec": {"template": template, "exclude": [instances[0]]}})).await;
    fleet.settled(&operator).await;
    let children = fleet.children().await;
    assert!(
        children.len() == 3
            && children.iter().all(|child| child.metadata.labels.as_ref().unwrap().len() == 3)
    );
    assert_eq!(calls(&world, &instances), [1; 3]);
    fleet.change(json!({"spec": {"suspend": null}})).await;
    fleet.until_rotated(&before).await;
    assert_eq!(calls(&world, &instances), [1, 2, 2], "what was asked for is made up for");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_of_an_interval_rotate_all_and_missed_ones_are_one() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = aged(&world, 3, json!({"rotation": {"interval": "1h"}})).await;
    let before = fleet.until("told", |status| status.next_rotation_time.is_some()).await;
    let next = before.next_rotation_time.as_ref().unwrap().0.duration_since(rollout(&before).started_at.0);
    assert!(next >= SignedDuration::from_mins(60) && next <= SignedDuration::from_mins(66), "{next}");
    operator.stop().await;
    fleet.age(SignedDuration::from_hours(12)).await;
    let operator = world.operator_before(world.settings()).await;
    let status = fleet.until_rotated(&before).await;
    assert_eq!(rollout(&status).trigger, Trigger::Schedule);
    fleet.settled(&operator).await;
    assert_eq!(calls(&world, &instances), [2; 3]);
    let next = fleet.status().await.next_rotation_time.unwrap().0;
    assert!(next.duration_since(Timestamp::now()) > SignedDuration::from_mins(59), "{next}");

    // One that comes by itself while the operator runs.
    fleet.age(SignedDuration::from_mins(60) - SignedDuration::from_secs(3)).await;
    fleet.until_rotated(&status).await;
    assert_eq!(calls(&world, &instances), [3; 3]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_wait_for_the_window_and_what_is_asked_for_does_not() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    // It opened twenty hours ago, so it opens again in four; a cron expression of every hour.
    let spec = json!({"rotation": {"schedule": "0 * * * *"}, "window": window_opened(20)});
    let (fleet, instances) = aged(&world, 3, spec).await;
    let before = fleet.status().await;
    fleet.age(SignedDuration::from_hours(3)).await;
    fleet.settled(&operator).await;
    let status = fleet.status().await;
    assert_eq!(calls(&world, &instances), [1; 3], "overdue, but outside the window");
    let opens = status.next_rotation_time.unwrap().0.duration_since(now()).as_secs();
    assert!((3 * 3600 + 3500..=4 * 3600).contains(&opens), "it opens in {opens} s");

    fleet.rotate_now().await;
    let before = fleet.until_rotated(&before).await;
    assert_eq!(calls(&world, &instances), [2; 3]);
    fleet.age(SignedDuration::from_hours(3)).await;
    fleet.change(json!({"spec": {"window": window_opened(1)}})).await;
    let status = fleet.until_rotated(&before).await;
    assert_eq!((rollout(&status).trigger, calls(&world, &instances)), (Trigger::Schedule, vec![3; 3]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_than_the_wave_is_under_way_at_once() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let latency = Duration::from_millis(500);
    world.cloud().inject(Fault::latency(latency).on(MODIFY));
    let (fleet, instances) = aged(&world, 20, json!({"rollout": {"maxConcurrent": 4}})).await;
    assert_eq!(most_at_once(&world, MODIFY, latency), 4, "a wave is full, and no larger");
    let before = fleet.status().await;
    fleet.rotate_now().await;
    // Half-way, the status tells how far it is.
    let status = fleet
        .until("half-way", |status| {
            rollout(status).id != rollout(&before).id && (5..=16).contains(&rollout(status).updated)
        })
        .await;
    let Rollout { updated, total, progress, .. } = rollout(&status);
    assert_eq!((*total, progress), (20, &format!("{updated}/20")));
    assert!(status.rotating <= 4, "{status:#?}");
    assert_eq!(status.reason(ConditionType::Reconciling), Some(Reason::RollingOut));
    assert_eq!(status.ready, 20, "what was in effect is, until the new one is");
    // The process ends, and the next one keeps to the wave.
    operator.stop().await;
    let operator = world.operator_before(world.settings()).await;
    fleet.until_rotated(&before).await;
    assert_eq!(most_at_once(&world, MODIFY, latency), 4);
    assert_eq!(calls(&world, &instances), [2; 20]);
    fleet.until_known(&instances).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_more_instances_are_down_at_once_than_may_be() {
    let world = World::new().await;
    world.cloud().set_reboot_time(Duration::from_secs(2));
    let mut settings = world.settings();
    settings.controller.allow_reboot = true;
    let operator = world.operator_before(settings).await;
    let instances = instances(&world, 5);
    for instance in &instances {
        let known = world.cloud().instance(instance).unwrap().instance;
        world.cloud().put_instance(known.not_optimized());
    }
    let spec =
        json!({"template": {"activation": "Reboot"}, "rollout": {"maxConcurrent": 10, "maxUnavailable": 2}});
    let fleet = Fleet::of(&world, &instances, spec).await;
    let (mut most, deadline) = (0, Instant::now() + PATIENCE * 2);
    loop {
        let views = world.cloud().instances();
        let down = views
            .iter()
            .filter(|view| view.instance.status != Status::Running || view.pending_password.is_some());
        most = most.max(down.count());
        let status = fleet.status().await;
        if status.ready == 5 && calm(&status) {
            break;
        }
        assert!(Instant::now() < deadline, "not through in time: {status:#?}");
        sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(most, 2, "as many as may be, and no more");
    assert_eq!(most_at_once(&world, Action::RebootInstance, Duration::from_secs(2)), 2);
    assert_eq!(world.calls_of(Action::RebootInstance).len(), 5);
    assert_eq!(calls(&world, &instances), [1; 5]);
    fleet.until_known(&instances).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_activation_reboot_passwords_wait_for_people() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.allow_reboot = true;
    let operator = world.operator_before(settings).await;
    let instances = instances(&world, 4);
    let known = world.cloud().instance(&instances[0]).unwrap().instance;
    world.cloud().put_instance(known.not_optimized());
    let fleet = Fleet::of(&world, &instances, json!({})).await;
    let status = fleet
        .until("at rest but for one", |status| {
            (status.ready, status.reboot_required) == (3, 1)
                && status.condition(ConditionType::Reconciling).is_none()
        })
        .await;
    let ready = status.condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.reason, status.failed), (Reason::RebootRequired, 0));
    assert!(rollout(&status).completed_at.is_some(), "nobody waits for it: {status:#?}");
    assert_eq!(world.calls_of(Action::RebootInstance), []);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_instances_are_waited_for_and_rotate_when_they_run() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, instances) = aged(&world, 4, json!({})).await;
    world.cloud().set_status(&instances[2], Status::Stopped);
    let before = fleet.status().await;
    fleet.rotate_now().await;
    fleet
        .until("through with the others", |status| {
            rollout(status).id != rollout(&before).id && rollout(status).updated == 3
        })
        .await;
    fleet.settled(&operator).await;
    assert_eq!(fleet.status().await.failed, 0, "that is no failure");
    world.cloud().set_status(&instances[2], Status::Running);
    let status = fleet.until_rotated(&before).await;
    assert_eq!(rollout(&status).updated, 4);
    fleet.until_known(&instances).await;
    operator.stop().await;
}

/// Of what is denied, the operator tries one each minute. Such a minute here takes six seconds.
fn short_minutes(world: &World) -> Setup {
    Setup { minute: Duration::from_secs(6), ..world.settings().into() }
}

/// Takes the right to set passwords away, or gives it back.
fn allow(world: &World, allowed: bool) {
    let key = AccessKey::default();
    world.cloud().put_access_key(if allowed { key } else { key.denied(MODIFY) });
}

/// Waits until the rollout is halted for the n-th time; returns how many children there are.
async fn halted(operator: &Operator, fleet: &Fleet<'_>, time: usize) -> usize {
    fleet.until_told("RolloutHalted", time).await;
    let status = fleet.until_stalled(Reason::RolloutHalted).await;
    let rollout = rollout(&status);
    assert!(rollout.halted_at.is_some() && rollout.completed_at.is_none() && rollout.eta.is_none());
    assert!(!status.failures.is_empty() && status.failures.iter().all(|it| it.reason == Reason::Denied));
    let children = fleet.children().await.len();
    fleet.settled(operator).await;
    assert_eq!(fleet.children().await.len(), children, "nothing is started, nothing deleted");
    children
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollout_halts_and_goes_on_by_changed_spec_by_rotate_at_and_by_rights() {
    let world = World::new().await;
    allow(&world, false);
    let operator = world.operator_before(short_minutes(&world)).await;
    let instances = instances(&world, 20);
    let spec = json!({"rollout": {"maxConcurrent": 3, "pauseAfterFailures": 3}});
    let fleet = Fleet::of(&world, &instances, spec).await;
    let first = halted(&operator, &fleet, 1).await;
    assert_eq!(first, 3, "a wave");
    let failed = fleet.status().await.failed;
    assert_eq!(failed, 3);

    // An instance that has vanished is not pruned meanwhile.
    fleet.change(json!({"spec": {"exclude": [instances[19]]}})).await;
    let second = halted(&operator, &fleet, 2).await;
    assert!(second > first && second <= 7, "it went on for a wave: {second}");
    fleet.until_told("RolloutResumed", 1).await;

    fleet.age(SignedDuration::from_mins(5)).await;
    fleet.rotate_now().await;
    let third = halted(&operator, &fleet, 3).await;
    assert!(third > second && third <= 11, "again: {third}");

    // One of those that are denied is tried each minute, and then the others.
    allow(&world, true);
    fleet.until_told("RolloutResumed", 2).await;
    fleet.until_done_within(PATIENCE * 2, 19).await;
    fleet.until_known(&instances[..19]).await;
    // Who had a password on its way when a rotation was asked for finishes it first, and rotates a minute later.
    let accepted = |instance: &String| world.calls(instance).iter().filter(|call| call.applied()).count();
    let accepted: Vec<usize> = instances.iter().map(accepted).collect();
    assert_eq!(accepted, [vec![2; second], vec![1; 19 - second], vec![0]].concat());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fewer_failures_than_that_halt_nothing_and_are_named() {
    let world = World::new().await;
    let operator = world.operator_before(short_minutes(&world)).await;
    let (fleet, instances) = aged(&world, 12, json!({"rollout": {"maxConcurrent": 3}})).await;
    let denied = [&instances[1], &instances[5]];
    let others = instances.iter().filter(|instance| !denied.contains(instance));
    world.cloud().put_access_key(AccessKey::default().only(others.clone()));
    let before = fleet.status().await;
    fleet.rotate_now().await;
    let status = fleet
        .until("through", |status| {
            rollout(status).id != rollout(&before).id && rollout(status).completed_at.is_some()
        })
        .await;
    assert_eq!((rollout(&status).updated, status.failed), (10, 2));
    assert_eq!(status.reason(ConditionType::Stalled), Some(Reason::MembersFailed));
    let mut named: Vec<&String> = status.failures.iter().map(|failure| &failure.instance_id).collect();
    named.sort_unstable();
    assert_eq!(named, denied);
    assert_eq!(status.ready, 12, "the former passwords are in effect");

    world.cloud().put_access_key(AccessKey::default());
    let status = fleet.until_done(12).await;
    assert_eq!((rollout(&status).updated, status.failures.len()), (12, 0));
    fleet.until_known(&instances).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_instance_gets_a_password_while_the_fleet_is_at_rest_and_rotates_with_the_next_rollout() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let (fleet, mut instances) = aged(&world, 2, json!({})).await;
    let before = fleet.status().await;
    instances.push(vncpassword_test_support::fleet::instance(&world, "added"));
    fleet.change(json!({"spec": {"instanceIds": instances}})).await;
    let status = fleet.until_done(3).await;
    assert_eq!(rollout(&status).id, rollout(&before).id, "that is no rollout");
    assert_eq!(calls(&world, &instances), [1; 3]);
    fleet.age(SignedDuration::from_mins(5)).await;
    fleet.rotate_now().await;
    fleet.until_rotated(&before).await;
    assert_eq!(calls(&world, &instances), [2; 3]);
    operator.stop().await;
}
