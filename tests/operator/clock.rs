//! The wall clock of the operator is stepped. The clock of the cloud is not.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::{Duration, timeout};
use vncpassword_alicloud::Clock;
use vncpassword_core::api::Reason;
use vncpassword_emulator::{Action, Instance, Status};
use vncpassword_test_support::{Setup, World, observe::object_at, world::PATIENCE};

const HOURS: i64 = 3 * 3600;

/// By how much the operator's clock is off. Only the test below changes it.
static OFF: AtomicI64 = AtomicI64::new(0);

fn clock() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(OFF.load(SeqCst))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stepped_clock_freezes_no_instance_poll_and_no_rotation() {
    let world = World::new().await;
    let setup = Setup { clock: Clock::new(clock), ..world.settings().into() };
    let operator = world.operator_before(setup).await;
    world.generated("rotated", json!({"interval": "2h"})).await;
    world.until_ready("rotated").await;
    let waits = object_at(&world, "waits", Instance::default().status(Status::Stopped)).await;
    world.until_reconciling("waits", Reason::IncorrectInstanceStatus).await;
    let polled = world.calls_of(Action::DescribeInstances).last().unwrap().seq;

    OFF.store(-HOURS, SeqCst);
    let poll = world.cloud().next_call(polled, |call| call.action == Action::DescribeInstances.as_str());
    timeout(PATIENCE, poll).await.expect("the instance is not polled in time");
    world.cloud().set_status(&waits, Status::Running);
    world.until_ready("waits").await;
    let back = clock();
    world
        .until("rotated", "cut to the present", |status| {
            let times = [&status.last_rotation_time, &status.next_rotation_time];
            let bounds = [back, back + Duration::from_secs(3 * 3600)];
            times.iter().zip(bounds).all(|(time, bound)| time.as_ref().is_some_and(|time| time.0 <= bound))
        })
        .await;

    // The turn comes within half a minute, or at the end of its interval where the clock is not followed.
    OFF.store(0, SeqCst);
    world.until("rotated", "rotated", |status| status.rotations == Some(2)).await;
    operator.stop().await;
}
