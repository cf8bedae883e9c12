//! Objects whose instance is in a state that takes no password: looked at together, and served when it is ready.

use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::time::{Instant, timeout};
use vncpassword_core::api::{ConditionStatus, Reason};
use vncpassword_emulator::{AccessKey, Action, Entry, Fault, Instance, Status};
use vncpassword_test_support::{
    World,
    observe::{
        attempts, delay, events, instance_of, is_after, let_the_backoff_pass, object_at, said,
        seconds_between, sent, told_once,
    },
    world::{PATIENCE, until},
};

const LOOK: Action = Action::DescribeInstances;

fn stopped() -> Instance {
    Instance::default().status(Status::Stopped)
}

/// The first look after that call.
async fn look_after(world: &World, call: &Entry) -> Entry {
    let look = world.cloud().next_call(call.seq, |call| call.action == LOOK.as_str());
    timeout(PATIENCE, look).await.expect("nobody looks at the instance in time")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_instance_is_looked_at_until_it_runs_and_then_gets_its_password() {
    let world = World::new().await;
    let operator = world.operator();
    let address = operator.address();
    let probe = async |path: &str| {
        let reply = reqwest::get(format!("http://{address}/{path}")).await.ok()?.error_for_status().ok()?;
        reply.text().await.ok()
    };
    let deadline = Instant::now() + PATIENCE;
    while probe("readyz").await.is_none() {
        assert!(Instant::now() < deadline, "the operator is not ready in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    let instance = object_at(&world, "a", stopped()).await;
    let status = world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::IncorrectInstanceStatus), None));
    assert_eq!(delay(&status), Some(300), "so long the refused status is taken at its word");
    assert_eq!(status.instance.unwrap().status.as_deref(), Some("Stopped"));
    let refused = world.calls(&instance).remove(0);
    let retry = status.retry.unwrap();
    assert_eq!(retry.code.as_deref(), Some("IncorrectInstanceStatus"));
    assert_eq!(retry.request_id.as_ref(), Some(&refused.request_id));
    assert_eq!(retry.unsettled_until, None);
    operator.settled(&world).await;
    let passes = operator.passes().await;

    let vain = look_after(&world, &refused).await;
    let cadence = seconds_between(&refused, &vain);
    assert!((14.0..17.0).contains(&cadence), "looked at after {cadence} s");
    until("the look is handled", async || operator.passes().await > passes).await;
    operator.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1, "no call while a look shows the refused status");

    world.cloud().set_status(&instance, Status::Running);
    let look = look_after(&world, &vain).await;
    let cadence = seconds_between(&vain, &look);
    assert!((14.0..17.0).contains(&cadence), "looked at after {cadence} s");
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, &status.retry), (Some(1), &None));
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123"; 2]);
    let took = seconds_between(&look, &calls[1]);
    assert!(took < 3.0, "it was sent {took} s after the look that showed it ready");

    // Expected, so no error: neither in the metrics nor in the events.
    let metrics = probe("metrics").await.unwrap();
    let waiting =
        r#"calls_total{action="ModifyInstanceVncPasswd",class="waiting",code="IncorrectInstanceStatus"} 1"#;
    assert!(metrics.contains(waiting), "{metrics}");
    assert!(metrics.contains(r#"reconciles_total{kind="VncPassword",result="ok"}"#), "{metrics}");
    assert!(!metrics.contains(r#"result="error""#), "{metrics}");
    told_once(&world, "a", "Normal", Reason::IncorrectInstanceStatus).await;
    events(&world, "a", Reason::Applied.as_str()).await;
    assert_eq!(world.events("a").await.len(), 2, "{:?}", world.events("a").await);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_status_is_doubted_after_five_minutes() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", stopped()).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    for number in 2..=3 {
        let_the_backoff_pass(&world, "a").await;
        let status = world.until("a", "refused again", |status| attempts(status) == Some(number)).await;
        assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::IncorrectInstanceStatus), None));
        assert_eq!(delay(&status), Some(300));
        operator.settled(&world).await;
        assert_eq!(world.calls(&instance).len(), usize::try_from(number).unwrap(), "one call at the cap");
    }
    told_once(&world, "a", "Normal", Reason::IncorrectInstanceStatus).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_that_wait_are_looked_at_a_hundred_a_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("shared", "Abc123").await;
    let names: Vec<String> = (0..150).map(|number| format!("w-{number}")).collect();
    let instances: Vec<String> = names.iter().map(|name| instance_of(&world, name)).collect();
    let created = names.iter().zip(&instances).map(async |(name, id)| {
        world.cloud().put_instance(Instance { id: id.clone(), ..stopped() });
        world.object_with(name, json!({"instanceId": id, "secretRef": {"name": "shared"}})).await;
    });
    join_all(created).await;
    for name in &names {
        world.until_reconciling(name, Reason::IncorrectInstanceStatus).await;
    }
    let refused = world.cloud().journal().pop().unwrap();
    for instance in &instances {
        world.cloud().set_status(instance, Status::Running);
    }
    for name in &names {
        let status = world.until_ready(name).await;
        assert_eq!((status.rotations, &status.retry), (Some(1), &None), "{name}");
    }
    let mut looks = world.calls_of(LOOK);
    assert!(looks.iter().all(|look| look.instance_ids.len() <= 100));
    looks.retain(|look| look.seq > refused.seq);
    let sizes: Vec<_> = looks.iter().map(|look| look.instance_ids.len()).collect();
    assert_eq!(sizes, [100, 50], "each instance is looked at once, all of them in two calls");
    for instance in &instances {
        assert_eq!(
            world.calls(instance).len(),
            2,
            "{instance}: one call that was refused, and one that was not"
        );
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_look_tries_again_with_growing_delays_and_says_what_was_not_seen() {
    let world = World::new().await;
    world.cloud().put_access_key(AccessKey::default().denied(LOOK));
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", stopped()).await;
    for (number, seconds) in [(1, 5), (2, 10)] {
        let status = world.until("a", "refused", |status| attempts(status) == Some(number)).await;
        assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::IncorrectInstanceStatus), None));
        assert!(is_after(&status, seconds), "{status:#?}");
    }
    world.cloud().set_status(&instance, Status::Running);
    let status = world.until_ready("a").await;
    assert_eq!(status.instance.unwrap().io_optimized, None);
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123"; 3]);
    let waits = [seconds_between(&calls[0], &calls[1]), seconds_between(&calls[1], &calls[2])];
    assert!((3.0..7.0).contains(&waits[0]) && (7.0..13.0).contains(&waits[1]), "{waits:?}");
    let warned = events(&world, "a", "InstanceUnknown").await;
    assert_eq!(warned.len(), 1);
    assert_eq!(warned[0].0, "Warning");
    assert!(warned[0].1.contains("ecs:DescribeInstances"), "it names the right that is missing: {warned:?}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrives_is_the_newest_value() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", stopped()).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    for (number, value) in [(2, "Bbbbb2"), (3, "Ccccc3")] {
        world.secret("a", value).await;
        let status = world.until("a", "refused again", |status| attempts(status) == Some(number)).await;
        assert_eq!(
            status.reason(vncpassword_core::api::ConditionType::Reconciling),
            Some(Reason::IncorrectInstanceStatus)
        );
    }
    world.cloud().set_status(&instance, Status::Running);
    let status = world.until_ready("a").await;
    assert_eq!(status.rotations, Some(1));
    assert_eq!(sent(&world.calls(&instance)), ["Abc123", "Bbbbb2", "Ccccc3", "Ccccc3"]);
    assert_eq!(world.console(&instance).as_deref(), Some("Ccccc3"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_that_is_not_ready_yet_is_waited_for_in_the_same_way() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let refusal = || Fault::error(403, "InstanceNotReady").on(Action::ModifyInstanceVncPasswd).times(1);
    world.cloud().inject(refusal().instance(instance_of(&world, "starting")));
    world.cloud().inject(refusal().instance(instance_of(&world, "running")));
    let starting = object_at(&world, "starting", Instance::default().status(Status::Starting)).await;
    let running = object_at(&world, "running", Instance::default()).await;
    let status = world.until_reconciling("starting", Reason::InstanceNotReady).await;
    assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::InstanceNotReady), None));
    assert_eq!(delay(&status), Some(300));
    world.cloud().set_status(&starting, Status::Running);
    world.until_ready("starting").await;
    assert_eq!(sent(&world.calls(&starting)), ["Abc123"; 2]);
    // The state of the other one cannot be the cause, so it is tried again soon.
    world.until_ready("running").await;
    let calls = world.calls(&running);
    assert_eq!(sent(&calls), ["Abc123"; 2]);
    let waited = seconds_between(&calls[0], &calls[1]);
    assert!((3.0..8.0).contains(&waited), "tried again after {waited} s");
    for name in ["starting", "running"] {
        told_once(&world, name, "Normal", Reason::InstanceNotReady).await;
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_operator_goes_on_waiting_without_a_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", stopped()).await;
    world.until_reconciling("a", Reason::IncorrectInstanceStatus).await;
    operator.stop().await;
    let operator = world.operator_before(world.settings()).await;
    let refused = world.calls(&instance).remove(0);
    look_after(&world, &refused).await;
    operator.polls_handled(&world, "other").await;
    assert_eq!(world.calls(&instance).len(), 1);
    world.cloud().set_status(&instance, Status::Running);
    world.until_console(&instance, "Abc123").await;
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 2);
    let mut looks = world.calls_of(LOOK);
    looks.retain(|look| look.instance_ids.contains(&instance) && look.seq < calls[1].seq);
    let took = seconds_between(looks.last().unwrap(), &calls[1]);
    assert!(took < 3.0, "it was sent {took} s after the look that showed it ready");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_at_an_instance_that_nobody_waits_for() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    for name in ["deleted", "suspended", "ready"] {
        object_at(&world, name, stopped()).await;
    }
    for name in ["deleted", "suspended", "ready"] {
        world.until_reconciling(name, Reason::IncorrectInstanceStatus).await;
    }
    world.cloud().set_status(&instance_of(&world, "ready"), Status::Running);
    world.delete("deleted").await;
    world.change("suspended", json!({"spec": {"suspend": true}})).await;
    let refused = world.cloud().journal().pop().unwrap();
    world.until_ready("ready").await;
    let look = look_after(&world, &refused).await;
    assert_eq!(look.instance_ids, [instance_of(&world, "ready")]);
    // One that waits from now on is looked at after all others would be.
    let later = object_at(&world, "later", stopped()).await;
    world.until_reconciling("later", Reason::IncorrectInstanceStatus).await;
    look_after(&world, &world.calls(&later)[0]).await;
    let mut looks = world.calls_of(LOOK);
    looks.retain(|again| again.seq > look.seq);
    assert!(
        looks.iter().all(|again| again.instance_ids == [later.as_str()]),
        "somebody looked again: {looks:#?}"
    );
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_that_is_throttled_is_taken_when_the_limiter_opens() {
    let world = World::new().await;
    world.cloud().inject(Fault::throttled(Some(Duration::from_secs(3))).on(LOOK).times(1));
    let operator = world.operator_before(world.settings()).await;
    let instance = object_at(&world, "a", Instance::default()).await;
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, &status.retry), (Some(1), &None));
    assert_eq!(status.instance.unwrap().io_optimized, Some(true));
    let looks = world.calls_of(LOOK);
    assert_eq!((looks.len(), world.calls(&instance).len()), (2, 1));
    let waited = seconds_between(&looks[0], &looks[1]);
    assert!((3.0..5.0).contains(&waited), "looked again after {waited} s");
    operator.stop().await;
}
