//! Passwords that are due by themselves: by an interval or a cron expression, inside a window.

use std::time::Duration;

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use kube::api::ListParams;
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};
use vncpassword_emulator::{Action, Instance};
use vncpassword_test_support::{
    World,
    barrier::{self, SENTINEL},
    observe::{rewrite_status, said, sent, told_once},
    rotation::{age, generated_at, now, record, rotate_now, until_rotated, version},
    world::{PATIENCE, next_second},
};

/// Asserts that the next turn is the interval after the last rotation, and up to a tenth later.
fn next_is_after(status: &VncPasswordStatus, interval: SignedDuration) {
    let last = status.last_rotation_time.as_ref().unwrap().0;
    let next = status.next_rotation_time.as_ref().unwrap().0;
    let latest = interval + interval / 10;
    let found = next.duration_since(last);
    assert!((interval..=latest).contains(&found), "{found} after the last");
}

/// A window of one hour that opened this many hours ago.
fn window_opened(hours: i64) -> Value {
    let opening = (Timestamp::now() - SignedDuration::from_hours(hours)).to_zoned(TimeZone::UTC);
    let schedule = format!("{} {} * * *", opening.minute(), opening.hour());
    json!({"schedule": schedule, "duration": "1h30m", "timeZone": "Etc/UTC"})
}

#[tokio::test(flavor = "multi_thread")]
async fn turns_that_were_missed_are_made_up_by_one_rotation() {
    let world = World::new().await;
    let interval = SignedDuration::from_hours(1);
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({"interval": "1h"})).await;
    next_is_after(&world.until_ready("a").await, interval);
    operator.stop().await;
    age(&world, "a", interval * 12).await;

    let begun = now();
    let operator = world.operator_before(world.settings()).await;
    let status = until_rotated(&world, "a", 2).await;
    assert!(status.last_rotation_time.as_ref().is_some_and(|last| last.0 >= begun));
    next_is_after(&status, interval);
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 2);
    assert_eq!(world.status("a").await, status);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_and_a_request_due_together_are_one_rotation() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({"interval": "1h"})).await;
    world.until_ready("a").await;
    operator.stop().await;
    age(&world, "a", SignedDuration::from_hours(2)).await;
    let asked = rotate_now(&world, "a").await;
    let operator = world.operator_before(world.settings()).await;
    let status = until_rotated(&world, "a", 2).await;
    assert_eq!(status.last_handled_rotate_at.map(|at| at.0), Some(asked));
    age(&world, "a", SignedDuration::from_mins(2)).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_comes_by_itself() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({"interval": "1m"})).await;
    let status = world.until_ready("a").await;
    let turn = status.next_rotation_time.unwrap().0.duration_since(status.last_rotation_time.unwrap().0);
    // As if it were due in two seconds.
    age(&world, "a", turn - SignedDuration::from_secs(2)).await;
    let due = world.status("a").await.next_rotation_time.unwrap().0;
    until_rotated(&world, "a", 2).await;
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 2);
    let late = calls[1].at.duration_since(due).as_secs_f64();
    assert!(late < 4.0, "{late} s after its time");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_expression_is_read_on_the_clock_of_its_zone() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({"schedule": "0 3 * * *", "timeZone": "Asia/Shanghai"})).await;
    let status = world.until_ready("a").await;
    let (last, next) = (status.last_rotation_time.unwrap().0, status.next_rotation_time.unwrap().0);
    let clock = next.to_zoned(TimeZone::UTC);
    assert_eq!((clock.hour(), clock.minute(), clock.second()), (19, 0, 0), "no jitter: {next}");
    let wait = next.duration_since(last);
    assert!(wait.is_positive() && wait <= SignedDuration::from_hours(24), "{last} {next}");
    operator.stop().await;

    age(&world, "a", SignedDuration::from_hours(72)).await;
    let operator = world.operator_before(world.settings()).await;
    until_rotated(&world, "a", 2).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn outside_the_window_only_what_is_asked_for_is_rotated() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    // It opened twenty hours ago, so it opens again in four.
    let closed = json!({"rotation": {"interval": "1m"}, "window": window_opened(20)});
    let instance = generated_at(&world, "a", Instance::default(), closed).await;
    let status = until_rotated(&world, "a", 1).await;
    let opens = status.next_rotation_time.unwrap().0.duration_since(now()).as_secs();
    assert!((3 * 3600 + 3500..=4 * 3600).contains(&opens), "it opens in {opens} s");
    age(&world, "a", SignedDuration::from_hours(2)).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1, "overdue, but outside the window");

    rotate_now(&world, "a").await;
    until_rotated(&world, "a", 2).await;
    age(&world, "a", SignedDuration::from_hours(2)).await;
    world.change("a", json!({"spec": {"window": window_opened(1)}})).await;
    until_rotated(&world, "a", 3).await;
    assert_eq!(world.calls(&instance).len(), 3);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_schedule_is_told_and_the_first_password_drawn_all_the_same() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let table = [
        ("never", json!({"rotation": {"schedule": "0 0 30 2 *"}}), "0 0 30 2 *"),
        ("minute", json!({"rotation": {"schedule": "61 * * * *"}}), "61 * * * *"),
        ("zone", json!({"rotation": {"schedule": "0 3 * * *", "timeZone": "Mars/Olympus"}}), "Mars/Olympus"),
        (
            "window",
            json!({"rotation": {"interval": "1h"}, "window": {"schedule": "0 0 31 4 *", "duration": "1h"}}),
            "spec.window.schedule",
        ),
    ];
    for (name, spec, named) in table {
        let instance = generated_at(&world, name, Instance::default(), spec).await;
        let status = world
            .until(name, "told", |status| {
                status.reason(ConditionType::Stalled) == Some(Reason::InvalidSchedule)
                    && status.ready() == ConditionStatus::True
            })
            .await;
        assert_eq!(said(&status), (ConditionStatus::True, None, Some(Reason::InvalidSchedule)), "{name}");
        assert_eq!((status.rotations, status.next_rotation_time), (Some(1), None), "{name}");
        let message = told_once(&world, name, "Warning", Reason::InvalidSchedule).await;
        assert!(message.contains(named), "{name}: {message}");
        assert_eq!(world.console(&instance).as_ref(), Some(&world.values(name).await["password"]), "{name}");
        assert_eq!(world.calls(&instance).len(), 1, "{name}");
    }
    world.change("zone", json!({"spec": {"rotation": {"timeZone": "Asia/Shanghai"}}})).await;
    let mended = |status: &VncPasswordStatus| status.next_rotation_time.is_some();
    let status = world.until("zone", "mended", mended).await;
    assert_eq!(said(&status), (ConditionStatus::True, None, None));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_rotation_in_the_future_counts_as_now() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = world.generated("a", json!({"interval": "1h"})).await;
    world.until_ready("a").await;
    operator.stop().await;
    age(&world, "a", SignedDuration::from_hours(-1000)).await;
    let operator = world.operator_before(world.settings()).await;
    let sane = |status: &VncPasswordStatus| {
        let latest = Timestamp::now() + SignedDuration::from_mins(67);
        status.next_rotation_time.as_ref().is_some_and(|next| next.0 <= latest)
    };
    world.until("a", "sane", sane).await;
    operator.settled(&world).await;
    assert_eq!(sent(&world.calls(&instance)), [&world.values("a").await["password"]]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enforcing_keeps_the_rotation_that_it_repeats() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let spec = json!({"rotation": {"interval": "720h"}, "enforceInterval": "30m"});
    let instance = generated_at(&world, "a", Instance::default(), spec).await;
    let before = world.until_ready("a").await;
    let (values, former) = (world.values("a").await, record(&world, "a").await);
    // Times are whole seconds: it is enforced in a later one.
    next_second().await;
    rewrite_status(&world, "a", |status| {
        let applied = status.applied.as_mut().unwrap();
        applied.time.0 -= SignedDuration::from_hours(1);
    })
    .await;
    let again = |status: &VncPasswordStatus| status.request_id != before.request_id;
    world.until("a", "enforced", again).await;
    let status = world.until_ready("a").await;
    assert_eq!(sent(&world.calls(&instance)), [&values["password"]; 2]);
    assert_eq!(
        (status.rotations, &status.last_rotation_time, &status.next_rotation_time),
        (before.rotations, &before.last_rotation_time, &before.next_rotation_time)
    );
    assert!(status.applied.unwrap().time > before.applied.unwrap().time);
    let (after, told) = (world.values("a").await, record(&world, "a").await);
    assert_eq!((&after["password"], after.get("password.previous")), (&values["password"], None));
    assert_eq!(after.get("password.next"), None);
    for field in ["id", "drawnAt", "rotateAt", "digest", "state"] {
        assert_eq!(told[field], former[field], "{field}");
    }
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 2);
    operator.stop().await;
}

const MANY: usize = 1000;

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_operator_rotates_nothing_that_is_not_due() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let names: Vec<String> = (0..MANY).map(|number| format!("o{number}")).collect();
    stream::iter(&names)
        .map(async |name| Ok::<_, kube::Error>(world.generated(name, json!({"interval": "1h"})).await))
        .buffered(16)
        .try_collect::<Vec<_>>()
        .await
        .unwrap();
    let begun = tokio::time::Instant::now();
    let list = async || world.objects().list(&ListParams::default()).await.unwrap();
    let versions = async || -> Vec<_> {
        let objects = list().await.into_iter().map(|object| object.metadata);
        let objects = objects.filter(|object| object.name.as_deref() != Some(SENTINEL));
        objects.map(|object| object.resource_version).collect()
    };
    loop {
        let objects = list().await;
        let ready = objects.iter().filter_map(|object| object.status.as_ref());
        if ready.filter(|status| status.ready() == ConditionStatus::True).count() == MANY {
            break;
        }
        assert!(begun.elapsed() < 3 * PATIENCE, "not all are Ready in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), MANY, "one call each");
    assert_eq!(operator.requests().count(&Method::POST, "/secrets"), MANY);
    operator.stop().await;

    let before = versions().await;
    let operator = world.operator_before(world.settings()).await;
    operator.told(&world).await;
    let mut requests = operator.requests().all();
    barrier::take_out(&mut requests, 1);
    assert_eq!(requests, [], "in sync: no request at all");
    assert_eq!(versions().await, before);
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), MANY);

    // One that is due is rotated all the same, and only that.
    age(&world, "o7", SignedDuration::from_hours(5)).await;
    until_rotated(&world, "o7", 2).await;
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), MANY + 1);
    assert!(version(&world, "o7").await.is_some());
    operator.stop().await;
}
