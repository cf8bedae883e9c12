//! Calls whose outcome is unknown: the newest value is what stays, however late an old one arrives.
//!
//! `--settle` is 4 s here, and the emulator's late calls arrive well within it, as the real ones do within the
//! validity of a signature.

use std::time::Duration;

use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{Action, Fault, FaultId, Reply};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{World, world::until};

const SETTLE: Duration = Duration::from_secs(4);

fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = SETTLE;
    settings
}

fn modify(fault: Fault) -> Fault {
    fault.on(Action::ModifyInstanceVncPasswd)
}

/// Waits until each call that this fault has made late has taken effect.
pub(super) async fn until_arrived(world: &World, instance: &str, late: FaultId) {
    until("late calls have arrived", async || {
        world.calls(instance).iter().all(|call| call.fault != Some(late) || call.applied())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_lost_reply_the_same_password_is_sent_again() {
    for fault in [Fault::reset_before(), Fault::reset_after(), Fault::error(500, "InternalError")] {
        let world = World::new().await;
        world.cloud().inject(modify(fault).times(1));
        let operator = world.operator_before(settings(&world)).await;
        world.secret("a", "Abc123").await;
        let instance = world.object("a").await;
        let status = world.until_reconciling("a", Reason::OutcomeUnknown).await;
        assert_eq!(status.ready(), ConditionStatus::Unknown);
        assert!(status.applied.is_none());
        assert!(status.retry.unwrap().unsettled_until.is_some());
        world
            .until("a", "Ready and settled", |status| {
                status.ready() == ConditionStatus::True && status.retry.is_none()
            })
            .await;
        let calls = world.calls(&instance);
        assert_eq!(calls.len(), 2, "{calls:#?}");
        assert!(calls.iter().all(|call| call.vnc_password.as_deref() == Some("Abc123")));
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_b_a_with_lost_replies_ends_with_a() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    world.secret("a", "Aaaaa1").await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    // From here on nobody hears of the outcome, until the faults are used up; B arrives late, after everything.
    world.cloud().inject(modify(Fault::late(Duration::from_secs(2), Reply::Reset)).times(1));
    world.secret("a", "Bbbbb2").await;
    world.until("a", "unknown", |status| status.ready() == ConditionStatus::Unknown).await;
    world.secret("a", "Aaaaa1").await;
    let status = world
        .until("a", "Ready while it settles", |status| {
            status.reason(ConditionType::Reconciling) == Some(Reason::Settling)
        })
        .await;
    assert_eq!(status.ready(), ConditionStatus::True);
    world.until_console(&instance, "Bbbbb2").await;
    world.until_ready("a").await;
    assert_eq!(world.console(&instance).as_deref(), Some("Aaaaa1"), "the late call does not stay");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_quick_changes_end_with_the_last() {
    let world = World::new().await;
    let operator = world.operator_before(settings(&world)).await;
    let instance = world.object("a").await;
    let inject = |fault| world.cloud().inject(modify(fault).times(5).probability(0.3));
    inject(Fault::reset_before());
    inject(Fault::reset_after());
    let late = inject(Fault::late(Duration::from_millis(1500), Reply::Reset));
    for number in 0..12 {
        world.secret("a", format!("Value{}", number % 3)).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    world.cloud().clear_faults();
    world.secret("a", "Final1").await;
    world.until_ready("a").await;
    until_arrived(&world, &instance, late).await;
    assert_eq!(world.console(&instance).as_deref(), Some("Final1"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_former_process_left_open_is_sent_twice() {
    let world = World::new().await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let operator = world.operator_with(settings(&world));
    world.until_reconciling("a", Reason::Settling).await;
    assert_eq!(world.status("a").await.ready(), ConditionStatus::True);
    world.until_ready("a").await;
    assert_eq!(world.calls(&instance).len(), 2);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_hears_of_a_lost_call_from_the_status() {
    let world = World::new().await;
    let late = modify(Fault::late(Duration::from_secs(3), Reply::Reset)).times(1);
    let late = world.cloud().inject(late);
    let operator = world.operator_before(settings(&world)).await;
    world.secret("a", "Bbbbb2").await;
    let instance = world.object("a").await;
    world.until_reconciling("a", Reason::OutcomeUnknown).await;
    operator.stop().await;
    world.secret("a", "Aaaaa1").await;
    let operator = world.operator_before(settings(&world)).await;
    world.until_ready("a").await;
    until_arrived(&world, &instance, late).await;
    assert_eq!(world.console(&instance).as_deref(), Some("Aaaaa1"));
    operator.stop().await;
}
