//! Each row of the reply table: whether the API is called again, what the status says of it, and when the next
//! attempt is.

use std::{net::TcpListener, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::Instant;
use vncpassword_alicloud::Endpoint;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{AccessKey, Action, Emulator, Entry, Fault, Garbage, Instance, Options};

use super::identity::{credentials_secret, object_with_credentials};
use vncpassword_test_support::{
    Operator, Setup, World,
    observe::{
        attempts, events, instance_of, is_after, let_the_backoff_pass, object_at, pending, rewrite_status,
        said, seconds_between, sent, told_once,
    },
    operator::access_key,
    rotation::rotate_now,
    world::{PATIENCE, until_past},
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;

/// Makes an object whose value is Abc123, at an instance whose calls meet this fault.
async fn spoilt(world: &World, name: &str, fault: Fault) -> String {
    world.cloud().inject(fault.on(MODIFY).instance(instance_of(world, name)));
    world.secret(name, "Abc123").await;
    world.object(name).await
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_unknown_outcome_the_same_password_is_sent_again_with_growing_delays() {
    let table = [
        ("unavailable", Fault::error(503, "ServiceUnavailable"), Some("ServiceUnavailable")),
        ("internal", Fault::error(500, "InternalError"), Some("InternalError")),
        ("unheard-of", Fault::error(502, "SomethingNew"), Some("SomethingNew")),
        ("reset-before", Fault::reset_before(), None),
        ("reset-after", Fault::reset_after(), None),
        ("web-page", Fault::body(Garbage::Html), None),
        ("empty", Fault::body(Garbage::Empty), None),
        ("truncated", Fault::body(Garbage::Truncated), None),
        ("no-json", Fault::body(Garbage::NotJson), None),
        ("huge", Fault::body(Garbage::Huge), None),
        ("no-request-id", Fault::body(Garbage::NoRequestId), None),
        ("hanging", Fault::hang(), None),
    ];
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut instances = Vec::new();
    for (name, fault, _) in &table {
        instances.push(spoilt(&world, name, fault.clone().times(2)).await);
    }
    for ((name, _, code), instance) in table.iter().zip(&instances) {
        let status = world.until(name, "failed once", |status| attempts(status) == Some(1)).await;
        assert_eq!(said(&status), (ConditionStatus::Unknown, Some(Reason::OutcomeUnknown), None), "{name}");
        assert!(status.applied.is_none() && status.request_id.is_none(), "{name}: {status:#?}");
        assert!(is_after(&status, 5), "{name}: {status:#?}");
        let retry = status.retry.unwrap();
        assert_eq!(retry.code.as_deref(), *code, "{name}");
        let request_id = code.map(|_| world.calls(instance)[0].request_id.clone());
        assert_eq!(retry.request_id, request_id, "{name}");
        let unsettled = retry.unsettled_until.unwrap().0.as_second();
        let settles = unsettled - retry.last_failure_time.unwrap().0.as_second();
        assert!((960..=961).contains(&settles), "{name}: --settle is 16 minutes, not {settles} s");
    }
    for (name, _, _) in &table {
        let status = world.until(name, "failed twice", |status| attempts(status) == Some(2)).await;
        assert_eq!(said(&status), (ConditionStatus::Unknown, Some(Reason::OutcomeUnknown), None), "{name}");
        assert!(is_after(&status, 10), "{name}: {status:#?}");
    }
    for ((name, _, _), instance) in table.iter().zip(&instances) {
        let status = world.until_ready(name).await;
        let calls = world.calls(instance);
        assert_eq!(sent(&calls), ["Abc123"; 3], "{name}");
        assert_eq!(status.request_id.as_deref(), Some(calls[2].request_id.as_str()), "{name}");
        assert_eq!((status.rotations, pending(&status)), (Some(1), None), "{name}");
        assert_eq!(world.console(instance).as_deref(), Some("Abc123"), "{name}");
        told_once(&world, name, "Warning", Reason::OutcomeUnknown).await;
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_outcome_takes_back_what_was_said_to_be_in_effect() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let before = world.until_ready("a").await;
    world.cloud().inject(Fault::reset_after().on(MODIFY).times(1));
    world.secret("a", "Xyz789").await;
    let status = world.until_reconciling("a", Reason::OutcomeUnknown).await;
    assert_eq!(status.ready(), ConditionStatus::Unknown);
    assert!(status.applied.is_none(), "{status:#?}");
    assert_eq!((&status.request_id, status.rotations), (&before.request_id, Some(1)));
    let status = world.until_ready("a").await;
    assert_eq!(status.rotations, Some(2));
    assert_eq!(sent(&world.calls(&instance)), ["Abc123", "Xyz789", "Xyz789"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_not_followed() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let elsewhere = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let location = format!("http://{}/", elsewhere.local_addr().unwrap());
    let instance = spoilt(&world, "a", Fault::redirect(location).times(1)).await;
    let status = world.until("a", "failed once", |status| attempts(status) == Some(1)).await;
    assert_eq!(said(&status), (ConditionStatus::Unknown, Some(Reason::OutcomeUnknown), None));
    world.until_ready("a").await;
    assert_eq!(sent(&world.calls(&instance)), ["Abc123"; 2]);
    operator.stop().await;
    let visit = tokio::time::timeout(Duration::from_millis(100), elsewhere.accept()).await;
    assert!(visit.is_err(), "somebody connected to where the redirect points");
}

#[tokio::test(flavor = "multi_thread")]
async fn http_429_means_throttled_whatever_the_code() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    spoilt(&world, "a", Fault::error(429, "SomethingNew").times(1)).await;
    let status = world.until_reconciling("a", Reason::Throttled).await;
    let retry = status.retry.unwrap();
    assert_eq!((retry.attempts, retry.code.as_deref()), (None, Some("SomethingNew")));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_throttled_object_makes_its_region_wait_and_one_probe_opens_it_again() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = spoilt(&world, "first", Fault::throttled(Some(Duration::from_secs(6))).times(1)).await;
    let status = world.until_reconciling("first", Reason::Throttled).await;
    let throttled = world.calls(&instance).remove(0);
    assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::Throttled), None));
    let retry = status.retry.unwrap();
    assert_eq!((retry.attempts, retry.last_failure_time), (None, None), "a throttled call is no failure");
    assert_eq!(retry.code.as_deref(), Some("Throttling"));
    assert_eq!(retry.request_id.as_deref(), Some(throttled.request_id.as_str()));
    let wait = retry.next_attempt_time.unwrap().0.as_second() - throttled.at.as_second();
    assert!((5..=7).contains(&wait), "as x-acs-retry-after said, not {wait} s");
    told_once(&world, "first", "Normal", Reason::Throttled).await;

    // The probe takes its time, so that whoever does not wait for it is caught.
    world.cloud().inject(Fault::latency(Duration::from_secs(2)).on(MODIFY).times(1));
    let names = ["b", "c", "d", "e"];
    let mut instances = vec![instance];
    for name in names {
        world.secret(name, "Abc123").await;
        instances.push(world.object(name).await);
    }
    for name in names {
        let status = world.until_reconciling(name, Reason::Throttled).await;
        assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::Throttled), None), "{name}");
        assert_eq!(attempts(&status), None, "{name}");
    }
    assert_eq!(world.calls_of(MODIFY).len(), 1, "nobody calls while the limiter is closed");

    for name in ["first"].iter().chain(&names) {
        let status = world.until_ready(name).await;
        assert_eq!(status.retry, None, "{name}");
    }
    let calls = world.calls_of(MODIFY);
    assert_eq!(calls.len(), 1 + instances.len(), "each object needs one call, and one was throttled");
    let probe = seconds_between(&throttled, &calls[1]);
    assert!((6.0..9.0).contains(&probe), "the probe came after {probe} s");
    let next = seconds_between(&calls[1], &calls[2]);
    assert!(next >= 2.0, "{next} s after the probe, its reply was not there yet");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_throttled_without_a_time_waits_for_the_next_minute_in_that_region_only() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let table = [
        ("cn-hangzhou", 400, "Throttling"),
        ("cn-beijing", 400, "Throttling.User"),
        ("cn-shanghai", 429, "Throttling.Api"),
        ("cn-shenzhen", 503, "Rejected.Throttling"),
    ];
    let mut instances = Vec::new();
    for (region, status, code) in table {
        let fault = Fault::error(status, code).on(MODIFY).instance(instance_of(&world, region));
        world.cloud().inject(fault);
        instances.push(object_at(&world, region, Instance::default().region(region)).await);
    }
    for ((region, _, code), instance) in table.iter().zip(&instances) {
        let status = world.until_reconciling(region, Reason::Throttled).await;
        assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::Throttled), None), "{code}");
        let retry = status.retry.unwrap();
        assert_eq!((retry.attempts, retry.code.as_deref()), (None, Some(*code)));
        let call = world.calls(instance)[0].at.as_second();
        let next = retry.next_attempt_time.unwrap().0.as_second();
        assert_eq!(next % 60, 0, "{code}");
        assert!((1..=60).contains(&(next - call)), "{code}: in {} s", next - call);
    }
    object_at(&world, "elsewhere", Instance::default().region("eu-central-1")).await;
    world.until_ready("elsewhere").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_throttled_holds_no_worker_and_one_that_hangs_only_its_own() {
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.concurrency = 2;
    let operator = world.operator_before(settings).await;
    let fault = Fault::throttled(Some(Duration::from_mins(10))).times(1);
    world.cloud().inject(fault.on(MODIFY).instance(instance_of(&world, "throttled")));
    object_at(&world, "throttled", Instance::default().region("cn-beijing")).await;
    world.until_reconciling("throttled", Reason::Throttled).await;

    let hanging = spoilt(&world, "hanging", Fault::hang()).await;
    let first = world
        .cloud()
        .next_call(0, |call| call.vnc_password.is_some() && call.instance_ids == [hanging.clone()]);
    let first = tokio::time::timeout(PATIENCE, first).await.unwrap();
    world.secret("other", "Abc123").await;
    let other = world.object("other").await;
    world.until_ready("other").await;
    let took = seconds_between(&first, &world.calls(&other)[0]);
    assert!(took < 4.0, "the other one's call came {took} s after the one that hangs");
    let status = world.until_reconciling("hanging", Reason::OutcomeUnknown).await;
    assert_eq!(attempts(&status), Some(1));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_the_api_calls_malformed_waits_for_another_value() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let code = "IncorrectVncPassword.Malformed";
    let by_secret = spoilt(&world, "by-secret", Fault::error(400, code).times(1)).await;
    let by_spec = spoilt(&world, "by-spec", Fault::error(400, code).times(1)).await;
    for (name, instance) in [("by-secret", &by_secret), ("by-spec", &by_spec)] {
        let status = world.until_stalled(name, Reason::InvalidPassword).await;
        assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidPassword)), "{name}");
        let retry = status.retry.unwrap();
        assert_eq!((retry.attempts, retry.code.as_deref()), (Some(1), Some(code)), "{name}");
        assert_eq!(retry.next_attempt_time, None, "{name}: no time helps here");
        assert_eq!(retry.request_id.as_ref(), Some(&world.calls(instance)[0].request_id), "{name}");
        told_once(&world, name, "Warning", Reason::InvalidPassword).await;
    }
    operator.settled(&world).await;
    assert_eq!((world.calls(&by_secret).len(), world.calls(&by_spec).len()), (1, 1));
    world.secret("by-secret", "Xyz789").await;
    world.change("by-spec", json!({"spec": {"enforceInterval": "24h"}})).await;
    for name in ["by-secret", "by-spec"] {
        let status = world.until_ready(name).await;
        assert_eq!(status.retry, None, "{name}");
    }
    assert_eq!(sent(&world.calls(&by_secret)), ["Abc123", "Xyz789"]);
    assert_eq!(sent(&world.calls(&by_spec)), ["Abc123", "Abc123"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_needs_a_person_does_not_grow_its_wait() {
    let table = [
        ("resource", 404, "NoSuchResource", Reason::InstanceNotFound),
        ("instance", 404, "InvalidInstanceId.NotFound", Reason::InstanceNotFound),
        ("region", 404, "InvalidRegionId.NotFound", Reason::InstanceNotFound),
        ("forbidden", 403, "Forbidden", Reason::Denied),
        ("ram", 403, "Forbidden.RAM", Reason::Denied),
        ("risk", 403, "Forbidden.RiskControl", Reason::Denied),
        ("permission", 403, "NoPermission", Reason::Denied),
        ("unauthorized", 403, "UnauthorizedOperation", Reason::Denied),
        ("locked", 403, "InstanceLockedForSecurity", Reason::Denied),
        ("parameter", 400, "MissingParameter", Reason::Refused),
        ("unknown", 400, "SomethingNew", Reason::Refused),
    ];
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut instances = Vec::new();
    for (name, status, code, _) in table {
        instances.push(spoilt(&world, name, Fault::error(status, code).times(2)).await);
    }
    for ((name, _, code, reason), instance) in table.iter().zip(&instances) {
        let status = world.until_stalled(name, *reason).await;
        assert_eq!(said(&status), (ConditionStatus::False, None, Some(*reason)), "{code}");
        assert!(is_after(&status, 600), "{code}: {status:#?}");
        let retry = status.retry.unwrap();
        assert_eq!((retry.attempts, retry.code.as_deref()), (Some(1), Some(*code)));
        assert_eq!(retry.unsettled_until, None, "{code}: a refused call does not arrive late");
        assert_eq!(retry.request_id.as_ref(), Some(&world.calls(instance)[0].request_id), "{code}");
        told_once(&world, name, "Warning", *reason).await;
    }
    operator.settled(&world).await;
    assert!(instances.iter().all(|instance| world.calls(instance).len() == 1), "no call before its time");
    // Who is denied something shares its tries with others (tests/operator/denied.rs), and is tried at once for a new spec.
    let shared = |code: &str, reason| reason == Reason::Denied && code != "InstanceLockedForSecurity";
    let try_again = async |name: &str, shared: bool, interval: &str| {
        if shared {
            world.change(name, json!({"spec": {"enforceInterval": interval}})).await;
        } else {
            let_the_backoff_pass(&world, name).await;
        }
    };
    for (name, _, code, reason) in table {
        try_again(name, shared(code, reason), "1h").await;
        let status = world.until(name, "refused again", |status| attempts(status) >= Some(2)).await;
        assert!(is_after(&status, 600), "{code}: it does not grow: {status:#?}");
        told_once(&world, name, "Warning", reason).await;
        try_again(name, shared(code, reason), "2h").await;
        let status = world.until_ready(name).await;
        assert_eq!(status.retry, None, "{code}");
    }
    assert!(instances.iter().all(|instance| sent(&world.calls(instance)) == ["Abc123"; 3]));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_credentials_are_tried_once_more_at_once_and_then_every_minute() {
    let table = [
        ("unknown", 404, "InvalidAccessKeyId.NotFound"),
        ("inactive", 400, "InvalidAccessKeyId.Inactive"),
        ("signature", 400, "SignatureDoesNotMatch"),
        ("expired", 400, "InvalidSecurityToken.Expired"),
        ("mismatch", 400, "InvalidSecurityToken.MismatchWithAccessKey"),
    ];
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut instances = Vec::new();
    for (name, status, code) in table {
        // Each with an identity of its own, since it is that which rests.
        let keys = format!("{name}-keys");
        let key =
            [("access-key-id", AccessKey::DEFAULT_ID), ("access-key-secret", AccessKey::DEFAULT_SECRET)];
        credentials_secret(&world, &keys, &key).await;
        let instance = instance_of(&world, name);
        world.cloud().inject(Fault::error(status, code).times(2).on(MODIFY).instance(&instance));
        instances.push(object_with_credentials(&world, name, &keys).await);
    }
    for ((name, _, code), instance) in table.iter().zip(&instances) {
        let status = world.until_stalled(name, Reason::InvalidCredentials).await;
        assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::InvalidCredentials)), "{code}");
        assert!(is_after(&status, 60), "{code}: {status:#?}");
        let calls = world.calls(instance);
        assert_eq!(sent(&calls), ["Abc123"; 2], "{code}");
        assert!(seconds_between(&calls[0], &calls[1]) < 2.0, "{code}: not at once");
        let retry = status.retry.unwrap();
        assert_eq!(
            (retry.attempts, retry.code.as_deref()),
            (Some(1), Some(*code)),
            "both count as one attempt"
        );
        assert_eq!(retry.request_id.as_ref(), Some(&calls[1].request_id), "{code}");
        told_once(&world, name, "Warning", Reason::InvalidCredentials).await;
    }
    // Who comes back early is told the same again, without a call.
    let_the_backoff_pass(&world, "unknown").await;
    world.until("unknown", "told again", |status| attempts(status) == Some(2)).await;
    // The credentials rest for 45 s; then the objects alone wait.
    let last = instances.iter().map(|instance| world.calls(instance)[1].at).max().unwrap();
    until_past(last + Duration::from_secs(46)).await;
    operator.settled(&world).await;
    // On a busy machine more than a minute has passed, and the next call may have been made.
    for ((_, _, code), instance) in table.iter().zip(&instances) {
        let calls = world.calls(instance);
        let next = calls.get(2).map(|next| seconds_between(&calls[1], next));
        assert!(
            next.is_none_or(|seconds| seconds > 58.0),
            "{code}: a call before its time, after {next:?} s"
        );
    }
    for ((name, _, code), instance) in table.iter().zip(&instances) {
        let_the_backoff_pass(&world, name).await;
        world.until_ready(name).await;
        assert_eq!(world.calls(instance).len(), 3, "{code}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_or_a_signature_that_is_refused_only_once_costs_a_call_and_nothing_else() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let table = [
        ("key", 404, "InvalidAccessKeyId.NotFound"),
        ("token", 400, "InvalidSecurityToken.Expired"),
        ("nonce", 400, "SignatureNonceUsed"),
        ("date", 400, "InvalidTimeStamp.Expired"),
    ];
    let mut instances = Vec::new();
    for (name, status, code) in table {
        instances.push(spoilt(&world, name, Fault::error(status, code).times(1)).await);
    }
    for ((name, _, code), instance) in table.iter().zip(&instances) {
        let status = world.until_ready(name).await;
        assert_eq!((status.rotations, &status.retry), (Some(1), &None), "{code}");
        let calls = world.calls(instance);
        assert_eq!(sent(&calls), ["Abc123"; 2], "{code}");
        assert!(seconds_between(&calls[0], &calls[1]) < 2.0, "{code}: not at once");
        events(&world, name, Reason::Applied.as_str()).await;
        assert_eq!(world.events(name).await.len(), 1, "{code}");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_look_whose_credentials_are_refused_once_still_tells_what_the_instance_is() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let expired = || Fault::error(400, "InvalidSecurityToken.Expired").times(1);
    world.cloud().inject(expired().on(Action::DescribeInstances));
    world.cloud().inject(expired().on(MODIFY));
    object_at(&world, "a", Instance::default().not_optimized()).await;
    let status = world.until("a", "accepted", |status| status.request_id.is_some()).await;
    assert_eq!(status.ready(), ConditionStatus::False, "it waits for a restart: {status:#?}");
    assert!(status.condition(ConditionType::RebootRequired).is_some());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_stays_refused_is_made_afresh_with_growing_delays() {
    let table =
        [("nonce", "SignatureNonceUsed"), ("date", "InvalidTimeStamp.Expired"), ("form", "IllegalTimestamp")];
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut instances = Vec::new();
    for (name, code) in table {
        instances.push(spoilt(&world, name, Fault::error(400, code).times(3)).await);
    }
    for ((name, code), instance) in table.iter().zip(&instances) {
        let status = world.until_reconciling(name, Reason::SignatureRejected).await;
        assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::SignatureRejected), None), "{code}");
        assert_eq!(attempts(&status), Some(1), "{code}");
        assert!(is_after(&status, 5), "{code}: {status:#?}");
        let calls = world.calls(instance);
        assert_eq!(sent(&calls), ["Abc123"; 2], "{code}: once more at once");
        told_once(&world, name, "Normal", Reason::SignatureRejected).await;
    }
    for ((name, code), instance) in table.iter().zip(&instances) {
        // The second attempt meets the last fault, and its own second try passes.
        world.until_ready(name).await;
        let calls = world.calls(instance);
        assert_eq!(sent(&calls), ["Abc123"; 4], "{code}");
        let waited = seconds_between(&calls[1], &calls[2]);
        assert!((3.0..8.0).contains(&waited), "{code}: tried again after {waited} s");
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_an_hour_off_costs_one_refused_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let hour = jiff::SignedDuration::from_hours(1);
    world.cloud().set_clock(Timestamp::now() + hour);
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let begun = Instant::now();
    world.until_ready("a").await;
    assert!(begun.elapsed() < Duration::from_secs(8), "Ready only after {:?}", begun.elapsed());
    let refused = |calls: &[Entry]| calls.iter().filter(|call| call.code.is_some()).count();
    assert_eq!(refused(&world.cloud().journal()), 1, "the reply to the first call tells the server's time");

    // Now the other way, and the call that finds out is the one with the password.
    world.cloud().set_clock(Timestamp::now() - hour);
    world.secret("a", "Xyz789").await;
    let status = world.until("a", "rotated twice", |status| status.rotations == Some(2)).await;
    assert_eq!(status.retry, None);
    let calls = world.calls(&instance);
    assert_eq!(sent(&calls), ["Abc123", "Xyz789", "Xyz789"]);
    assert_eq!(calls[1].code.as_deref(), Some("InvalidTimeStamp.Expired"));
    let off = calls[2].signed_at.unwrap().duration_since(calls[2].at).abs();
    assert!(off < jiff::SignedDuration::from_secs(5), "signed {off} off the server's clock");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_credentials_nobody_is_called() {
    let world = World::new().await;
    world.secret("a", "Abc123").await;
    world.object("a").await;
    let table = [("", "", Reason::CredentialsNotFound), ("half", "", Reason::InvalidCredentials)];
    for (id, secret, reason) in table {
        let operator = Operator::start(
            world.config(),
            Setup { variables: access_key(id, secret), ..world.settings().into() },
        );
        let status = world.until_stalled("a", reason).await;
        assert_eq!(said(&status), (ConditionStatus::False, None, Some(reason)));
        assert!(is_after(&status, 60), "{status:#?}");
        let retry = status.retry.unwrap();
        assert_eq!((retry.code, retry.request_id), (None, None), "{reason:?}");
        told_once(&world, "a", "Warning", reason).await;
        operator.stop().await;
        assert!(world.cloud().journal().is_empty(), "{reason:?}: {:#?}", world.cloud().journal());
        let_the_backoff_pass(&world, "a").await;
    }
    let operator = world.operator();
    world.until_console(&instance_of(&world, "a"), "Abc123").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_cannot_be_reached_is_tried_again_until_it_can() {
    let world = World::new().await;
    let instance = instance_of(&world, "a");
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let start = async || {
        let emulator = Emulator::start(Options { listen: address, ..Options::default() }).await.unwrap();
        emulator.cloud().put_instance(Instance::new(&instance));
        emulator
    };
    let mut settings = world.settings();
    settings.cloud.ecs.endpoint = Some(Endpoint::parse(&format!("http://{address}")).unwrap());
    let operator = world.operator_before(settings).await;
    world.secret("a", "Abc123").await;
    world.object("a").await;
    // What the instance is cannot be seen, so the first password is not sent.
    let status = world.until_reconciling("a", Reason::LookupFailed).await;
    assert_eq!(status.ready(), ConditionStatus::False);
    let emulator = start().await;
    world.until_ready("a").await;

    emulator.shutdown().await;
    world.secret("a", "Xyz789").await;
    let status = world.until_reconciling("a", Reason::Unreachable).await;
    assert_eq!(said(&status), (ConditionStatus::False, Some(Reason::Unreachable), None));
    assert!(is_after(&status, 5), "{status:#?}");
    let retry = status.retry.as_ref().unwrap();
    assert_eq!(
        (retry.attempts, &retry.code, &retry.unsettled_until),
        (Some(1), &None, &None),
        "nothing was sent"
    );
    assert!(status.applied.is_some(), "what was in effect still is: {status:#?}");
    told_once(&world, "a", "Normal", Reason::Unreachable).await;
    let emulator = start().await;
    let status = world.until_ready("a").await;
    assert_eq!((status.rotations, &status.retry), (Some(2), &None));
    let view = emulator.cloud().instance(&instance).unwrap();
    assert_eq!(view.console_password.as_deref(), Some("Xyz789"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_the_operator_keeps_the_backoff() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instance = spoilt(&world, "a", Fault::error(503, "ServiceUnavailable")).await;
    let status = world.until("a", "failed twice", |status| attempts(status) == Some(2)).await;
    operator.stop().await;
    let next = status.retry.unwrap().next_attempt_time.unwrap().0;
    let operator = world.operator();
    let status = world.until("a", "failed three times", |status| attempts(status) == Some(3)).await;
    assert!(is_after(&status, 20), "{status:#?}");
    let calls = world.calls(&instance);
    assert_eq!(calls.len(), 3);
    assert!(calls[2].at >= next, "called at {}, which is before {next}", calls[2].at);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_secret_or_spec_is_acted_on_at_once_however_long_the_backoff() {
    let world = World::new().await;
    // None of them is tried for the others.
    let setup = Setup { minute: Duration::from_hours(1), ..world.settings().into() };
    let operator = world.operator_before(setup).await;
    let table = ["denied-secret", "denied-spec", "unknown-secret", "unknown-spec"];
    let key = AccessKey::default();
    world.cloud().put_access_key(key.clone().denied(MODIFY));
    let mut instances = Vec::new();
    for name in table {
        world.secret(name, "Abc123").await;
        instances.push(world.object(name).await);
    }
    for name in table {
        world.until_stalled(name, Reason::Denied).await;
    }
    // An attempt that has failed often waits for minutes.
    for name in ["unknown-secret", "unknown-spec"] {
        rewrite_status(&world, name, |status| status.retry.as_mut().unwrap().attempts = Some(6)).await;
    }
    world.cloud().put_access_key(key);
    let lost = Fault::reset_before().on(MODIFY).times(1);
    for (name, instance) in table.iter().zip(&instances).skip(2) {
        world.cloud().inject(lost.clone().instance(instance));
        rotate_now(&world, name).await;
        let status = world.until_reconciling(name, Reason::OutcomeUnknown).await;
        assert!(is_after(&status, 300), "{name}: {status:#?}");
    }
    world.secret("denied-secret", "Xyz789").await;
    world.secret("unknown-secret", "Xyz789").await;
    for name in ["denied-spec", "unknown-spec"] {
        world.change(name, json!({"spec": {"regionId": "cn-hangzhou"}})).await;
    }
    for name in ["denied-secret", "denied-spec", "unknown-spec"] {
        let status = world.until_ready(name).await;
        assert_eq!(pending(&status), None, "{name}");
    }
    assert_eq!(sent(&world.calls(&instances[0])), ["Abc123", "Xyz789"]);
    assert_eq!(sent(&world.calls(&instances[1])), ["Abc123"; 2]);
    assert_eq!(sent(&world.calls(&instances[3])), ["Abc123"; 3]);
    // The value whose fate is unknown may still arrive after the newer one.
    let status = world.until_reconciling("unknown-secret", Reason::Settling).await;
    assert_eq!((status.ready(), attempts(&status)), (ConditionStatus::True, None));
    assert_eq!(sent(&world.calls(&instances[2])), ["Abc123", "Abc123", "Xyz789"]);
    operator.stop().await;
}
