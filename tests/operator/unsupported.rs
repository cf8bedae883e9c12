//! An instance without VNC: it is Running and refuses every password.

use std::sync::atomic::{AtomicI64, Ordering::SeqCst};

use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tokio::time::timeout;
use vncpassword_alicloud::Clock;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{Action, Entry, Fault, Instance};
use vncpassword_test_support::{
    Setup, World,
    observe::{attempts, instance_of, is_after, let_the_backoff_pass, object_at, said, told_once},
    world::PATIENCE,
};

/// By how much the operator's clock is ahead. Only the test below changes it.
static AHEAD: AtomicI64 = AtomicI64::new(0);
/// Nine of these steps are an hour.
const STEP: i64 = 400;

fn clock() -> Timestamp {
    Timestamp::now() + SignedDuration::from_secs(AHEAD.load(SeqCst))
}

fn setup(world: &World) -> Setup {
    Setup { clock: Clock::new(clock), ..world.settings().into() }
}

/// Waits for an instance poll after that call.
async fn polled_after(world: &World, call: &Entry) {
    let poll = world.cloud().next_call(call.seq, |call| call.action == Action::DescribeInstances.as_str());
    timeout(PATIENCE, poll).await.expect("the instance is not polled in time");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_refuses_for_an_hour_while_it_runs_counts_as_one_without_vnc() {
    let world = World::new().await;
    let operator = world.operator_before(setup(&world)).await;
    let refusal = Fault::error(403, "IncorrectInstanceStatus").on(Action::ModifyInstanceVncPasswd);
    let refusal = world.cloud().inject(refusal.instance(instance_of(&world, "a")));
    let instance = object_at(&world, "a", Instance::default()).await;

    // Each refusal is followed by a poll, then by a step of the clock that is longer than any backoff. A label wakes the object.
    let mut refused = 0;
    let status = loop {
        world.until("a", "refused", |status| attempts(status) > Some(refused)).await;
        let call = world.calls(&instance).pop().unwrap();
        polled_after(&world, &call).await;
        operator.settled(&world).await;
        let status = world.status("a").await;
        refused = attempts(&status).unwrap();
        if status.condition(ConditionType::Stalled).is_some() {
            break status;
        }
        assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::IncorrectInstanceStatus), None));
        assert!(refused < 20, "{status:#?}");
        AHEAD.fetch_add(STEP, SeqCst);
        world.change("a", json!({"metadata": {"labels": {"refused": refused.to_string()}}})).await;
    };
    assert!(refused >= 10, "after {refused} refusals");
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InstanceUnsupported)));
    assert!(is_after(&status, 3600), "{status:#?}");
    let message = told_once(&world, "a", "Warning", Reason::InstanceUnsupported).await;
    assert!(message.contains(&instance) && message.contains("no VNC"), "{message}");
    let made = world.calls(&instance).len();
    assert_eq!(made, usize::try_from(refused).unwrap());

    // The next process has only the status.
    operator.stop().await;
    let last = world.cloud().journal().pop().unwrap();
    let operator = world.operator_before(setup(&world)).await;
    polled_after(&world, &last).await;
    operator.polls_handled(&world, "other").await;
    assert_eq!(world.calls(&instance).len(), made, "no call before the hour is over");
    AHEAD.fetch_add(STEP, SeqCst);
    let_the_backoff_pass(&world, "a").await;
    let status = world.until("a", "tried again", |status| attempts(status) == Some(refused + 1)).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InstanceUnsupported)));
    assert!(is_after(&status, 3600), "{status:#?}");
    told_once(&world, "a", "Warning", Reason::InstanceUnsupported).await;

    world.cloud().remove_fault(refusal);
    let_the_backoff_pass(&world, "a").await;
    let status = world.until("a", "accepted", |status| status.ready() == ConditionStatus::True).await;
    assert_eq!((status.reason(ConditionType::Stalled), status.rotations), (None, Some(1)));
    assert_eq!(world.calls(&instance).len(), made + 2);
    operator.stop().await;
}
