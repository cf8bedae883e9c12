//! `decide` told as a table of situations. Times are seconds after an arbitrary start.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    Decision, Password, Verdict,
    contents::{Contents, Slot},
    decide, doubt,
    facts::{
        Access, Attempt, Fingerprint, FingerprintKey, Found, Look, Observed, Owner, Purpose, SecretRead,
        SecretVersion, SeenInstance, Unsettled,
    },
    outcome::{Class, Reply, classify},
    rotate_at::RotateAt,
    schedule::Plan,
    settled_at,
};
use crate::api::{
    Activation, Applied, ConditionStatus, ConditionType, Instance, Reason, Retry, SecretRef, VncPasswordSpec,
    VncPasswordStatus,
};

const START: i64 = 1_800_000_000;
pub(super) const SETTLE: Duration = Duration::from_secs(960);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(START + second).unwrap()
}

fn version(number: u32) -> SecretVersion {
    SecretVersion { uid: "uid".into(), resource_version: number.to_string().into() }
}

fn print(password: &str) -> Fingerprint {
    FingerprintKey::new(&[7; 64]).fingerprint(&Password::parse(password.as_bytes()).unwrap())
}

fn read(number: u32, password: &str) -> SecretRead {
    holding(number, valid(password))
}

pub(super) fn valid(password: &str) -> Slot {
    Slot::Valid(Password::parse(password.as_bytes()).unwrap(), print(password))
}

/// A Secret that is the user's, with that under its key.
fn holding(number: u32, current: Slot) -> SecretRead {
    let contents = Contents {
        version: version(number),
        current,
        next: Slot::Absent,
        record: None,
        closed: false,
        opened: false,
    };
    SecretRead::Found(Box::new(contents))
}

/// A new object, whose Secret has version 1, at an instance known to be I/O optimized.
pub(super) fn new() -> Observed {
    let instance = Instance { io_optimized: Some(true), ..Instance::default() };
    Observed {
        generation: 1,
        created: at(-1000),
        plan: Plan::new(None, None),
        rotate_at: RotateAt::Never,
        spread: 0.0,
        spec: Arc::new(VncPasswordSpec {
            instance_id: "i-1".into(),
            region_id: None,
            secret_ref: SecretRef { name: "s".into(), key: "password".into() },
            rotation: None,
            window: None,
            activation: Activation::Manual,
            credentials_ref: None,
            enforce_interval: None,
            suspend: false,
        }),
        status: Arc::new(VncPasswordStatus { instance: Some(instance), ..VncPasswordStatus::default() }),
        region: Some("cn-hangzhou".into()),
        enforce_interval: None,
        owner: Owner::This,
        superseded: false,
        deleting: false,
        prove_claim: false,
        access: Access::Granted,
        credentials_changed: false,
        secret: Some(version(1)),
        read: None,
        history: super::facts::History::default(),
        look: None,
        limiter_opens: None,
        paced: false,
        secret_paused_until: None,
        in_line: false,
        in_fleet: false,
        reboot_opens: None,
        drawn: None,
        announced: None,
        rebooted: None,
        refused: None,
        attempt: None,
        writer: "writer".into(),
        allow_reboot: false,
        settle: SETTLE,
        jitter: 0.0,
    }
}

/// An object that applied version 1 of its Secret, value Abc123, at second 0.
fn applied() -> Observed {
    let mut observed = new();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 0);
    next(&mut observed, &verdict);
    observed
}

fn accepted(request_id: &str) -> Reply {
    Reply::Accepted { request_id: request_id.into() }
}

fn refused(code: &str) -> Reply {
    Reply::Refused {
        code: code.into(),
        http_status: 400,
        asks_to_wait: false,
        request_id: Some("R-refused".into()),
    }
}

/// Decides, where a rest is expected.
fn resting(observed: &Observed, second: i64) -> Verdict {
    match decide(observed, at(second)) {
        Decision::Rest(verdict) => *verdict,
        other => panic!("at {second}: {other:?}"),
    }
}

/// Decides, where a call is expected.
fn sending(observed: &mut Observed, second: i64, number: u32, password: &str) -> Purpose {
    if observed.read.is_none() {
        assert!(matches!(decide(observed, at(second)), Decision::ReadSecret));
        observed.read = Some(read(number, password));
    }
    match decide(observed, at(second)) {
        Decision::Send(purpose) => purpose,
        other => panic!("at {second}: {other:?}"),
    }
}

/// The verdict on the reply to a call with what was read. It is the second try where one is granted.
fn call(observed: &mut Observed, purpose: Purpose, reply: Reply, second: i64) -> Verdict {
    let version = observed.contents().expect("nothing was read").version.clone();
    let (_, value) = observed.to_send(purpose).expect("nothing to send");
    observed.attempt = Some(Attempt {
        purpose,
        version,
        value,
        rotation: None,
        repeats: false,
        superseded: observed.superseded,
        io_optimized: observed.io_optimized(),
        look: observed.look.clone(),
        all_classes: true,
        tries: 2,
        at: at(second),
        reply,
    });
    note_late(observed);
    resting(observed, second)
}

/// Notes a call of unknown outcome at the instance, before anything is decided on its reply.
fn note_late(observed: &mut Observed) {
    let Some(attempt) = &observed.attempt else { return };
    if classify(&attempt.reply) == Class::OutcomeUnknown {
        let until = settled_at(attempt.at, observed.settle);
        let unsettled = Unsettled { value: Some(attempt.value), until, by_other: false };
        observed.history.unsettled.push(unsettled);
    }
}

/// What the next pass sees after the verdict was written.
fn next(observed: &mut Observed, verdict: &Verdict) {
    observed.status = Arc::new(verdict.status.clone());
    if let Some(applied) = &verdict.applied_value {
        observed.history.applied = Some(applied.clone());
    }
    if !verdict.deferred {
        observed.history.examined = observed.read.as_ref().and_then(SecretRead::version).cloned();
    }
    observed.read = None;
    observed.attempt = None;
}

fn change(observed: &mut Observed, spec: impl FnOnce(&mut VncPasswordSpec)) {
    let mut changed = (*observed.spec).clone();
    spec(&mut changed);
    observed.spec = Arc::new(changed);
    observed.generation += 1;
}

/// A status that is `Stalled` with that reason.
fn stalled_with(reason: Reason) -> VncPasswordStatus {
    let condition = serde_json::json!({"type": "Stalled", "status": "True", "reason": reason.as_str(), "message": "",
        "lastTransitionTime": at(0)});
    serde_json::from_value(serde_json::json!({"conditions": [condition]})).unwrap()
}

fn edit(observed: &mut Observed, status: impl FnOnce(&mut VncPasswordStatus)) {
    let mut edited = (*observed.status).clone();
    status(&mut edited);
    observed.status = Arc::new(edited);
}

fn look(second: i64, status: &str, io_optimized: bool, start: i64) -> Look {
    let start_time = Some(at(start * 60));
    let seen =
        SeenInstance { status: status.into(), io_optimized: Some(io_optimized), start_time, locked: false };
    Look { at: at(second), found: Found::Seen(seen) }
}

fn reasons(status: &VncPasswordStatus) -> (ConditionStatus, Option<Reason>, Option<Reason>) {
    (status.ready(), status.reason(ConditionType::Reconciling), status.reason(ConditionType::Stalled))
}

use ConditionStatus::{False, True, Unknown};

mod denied;
mod generated;
mod running;

#[test]
fn a_new_value_is_read_sent_and_recorded() {
    let mut observed = new();
    assert_eq!(sending(&mut observed, 0, 1, "Abc123"), Purpose::Deliver);
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 0);
    assert_eq!(reasons(&verdict.status), (True, None, None));
    assert_eq!(verdict.status.request_id.as_deref(), Some("R-1"));
    assert_eq!(verdict.status.rotations, Some(1));
    assert_eq!((verdict.wake, verdict.look), (None, None));
    assert_eq!(verdict.notes.len(), 1);
}

/// Another object's value was accepted since this one's was, and it takes a restart: that this value was in effect before
/// says nothing.
#[test]
fn a_value_that_another_object_had_replaced_is_restarted_for() {
    for (superseded, unchanged) in [(false, true), (true, false)] {
        let mut observed = applied();
        edit(&mut observed, |status| status.instance.get_or_insert_default().io_optimized = Some(false));
        observed.read = Some(read(1, "Abc123"));
        observed.superseded = superseded;
        call(&mut observed, Purpose::Deliver, accepted("R-2"), 10);
        // The accepted call has superseded the other object's.
        observed.superseded = false;
        let status = resting(&observed, 10).status;
        assert_eq!(status.accepted.map(|accepted| accepted.unchanged), Some(unchanged), "{superseded}");
    }
}

/// The status was written, but the reply to that write was lost: the same call is recorded once more.
#[test]
fn a_call_that_the_status_has_already_is_not_counted_again() {
    let table = [
        ("accepted", accepted("R-1")),
        ("refused", refused("Forbidden.RAM")),
        ("no readable reply", Reply::Unknown),
    ];
    for (name, reply) in table {
        for io_optimized in [true, false] {
            let mut observed = new();
            edit(&mut observed, |status| {
                status.instance.get_or_insert_default().io_optimized = Some(io_optimized);
            });
            observed.read = Some(read(1, "Abc123"));
            let verdict = call(&mut observed, Purpose::Deliver, reply.clone(), 0);
            observed.status = Arc::new(verdict.status.clone());
            let again = resting(&observed, 1);
            assert_eq!(again.status, verdict.status, "{name}, {io_optimized}");
            assert_eq!(again.notes, [], "{name}, {io_optimized}");
        }
    }
}

#[test]
fn an_object_in_sync_rests_and_its_status_stays() {
    let observed = applied();
    let verdict = resting(&observed, 100_000);
    assert_eq!(verdict.status, *observed.status);
    assert_eq!((verdict.wake, verdict.look, verdict.notes.len()), (None, None, 0));
}

#[test]
fn the_status_is_all_that_a_new_process_needs_to_be_in_sync() {
    let mut observed = applied();
    observed.history = super::facts::History::default();
    assert_eq!(resting(&observed, 10).status, *observed.status);
}

#[test]
fn a_watch_that_is_behind_changes_nothing() {
    let mut observed = applied();
    observed.secret = Some(version(0));
    assert_eq!(resting(&observed, 10).status, *observed.status);
}

#[test]
fn the_same_value_in_another_version_is_recognised() {
    let mut observed = applied();
    observed.secret = Some(version(2));
    assert!(matches!(decide(&observed, at(10)), Decision::ReadSecret));
    observed.read = Some(read(2, "Abc123"));
    let verdict = resting(&observed, 10);
    let applied = verdict.status.applied.unwrap();
    assert_eq!((applied.secret_resource_version.as_str(), applied.time.0), ("2", at(0)));
}

#[test]
fn a_value_that_is_taken_back_leaves_no_trace_of_its_failure() {
    for code in ["IncorrectInstanceStatus", "IncorrectVncPassword.Malformed", "Throttling"] {
        let mut observed = applied();
        observed.secret = Some(version(2));
        observed.read = Some(read(2, "Xyz789"));
        let verdict = call(&mut observed, Purpose::Deliver, refused(code), 10);
        assert_eq!(verdict.status.ready(), False, "{code}");
        next(&mut observed, &verdict);
        observed.secret = Some(version(3));
        observed.look = None;
        assert!(matches!(decide(&observed, at(11)), Decision::ReadSecret), "{code}");
        observed.read = Some(read(3, "Abc123"));
        let verdict = resting(&observed, 11);
        assert_eq!(reasons(&verdict.status), (True, None, None), "{code}");
        assert_eq!(verdict.status.retry, None, "{code}");
    }
}

#[test]
fn a_resend_of_what_cannot_be_read_does_not_spin() {
    let mut observed = applied();
    edit(&mut observed, |status| {
        status.retry.get_or_insert_default().unsettled_until = Some(Time(at(5)));
    });
    observed.read = Some(SecretRead::Forbidden);
    assert_eq!(resting(&observed, 10).wake, Some(at(610)));
}

#[test]
fn a_resend_that_was_due_when_the_former_process_ended_may_be_under_way() {
    let mut observed = applied();
    observed.history = super::facts::History::default();
    observed.enforce_interval = Some(Duration::from_secs(600));
    assert_eq!(doubt(&observed, true, false, at(599), at(599)), None);
    assert!(doubt(&observed, true, false, at(600), at(600)).is_some());
    assert_eq!(doubt(&observed, false, false, at(600), at(600)), None, "this process knows");
}

#[test]
fn a_process_that_never_saw_the_value_sends_it() {
    let mut observed = applied();
    observed.history = super::facts::History::default();
    observed.secret = Some(version(2));
    assert_eq!(sending(&mut observed, 10, 2, "Abc123"), Purpose::Deliver);
}

#[test]
fn what_the_secret_lacks_is_told_without_a_call() {
    let table = [
        (SecretRead::Missing, Reason::SecretNotFound),
        (SecretRead::Forbidden, Reason::SecretForbidden),
        (holding(1, Slot::Absent), Reason::SecretKeyNotFound),
        (holding(1, Slot::Invalid), Reason::InvalidPassword),
    ];
    for (read, reason) in table {
        let mut observed = new();
        observed.read = Some(read);
        let verdict = resting(&observed, 0);
        assert_eq!(reasons(&verdict.status), (False, None, Some(reason)), "{reason:?}");
        next(&mut observed, &verdict);
        if reason == Reason::SecretNotFound {
            observed.secret = None;
        }
        if reason != Reason::SecretForbidden {
            let again = resting(&observed, 1);
            assert_eq!(again.status, verdict.status, "{reason:?} is written once and not read again");
            assert!(again.notes.is_empty(), "{reason:?} is told once");
        }
    }
}

#[test]
fn nothing_is_done_out_of_action() {
    let mut suspended = applied();
    suspended.secret = Some(version(2));
    change(&mut suspended, |spec| spec.suspend = true);
    let verdict = resting(&suspended, 10);
    assert_eq!(reasons(&verdict.status), (True, None, None), "Ready stays as it was");
    assert!(verdict.status.condition(ConditionType::Suspended).is_some());

    let mut lost = new();
    lost.region = None;
    assert_eq!(reasons(&resting(&lost, 0).status), (False, None, Some(Reason::InvalidRegion)));

    let mut foreign = new();
    foreign.owner = Owner::Other(Some("elder".into()));
    let verdict = resting(&foreign, 0);
    assert_eq!(reasons(&verdict.status), (False, None, Some(Reason::Conflict)));
    assert!(verdict.notes[0].text.contains("elder"));
}

#[test]
fn a_value_that_another_object_has_replaced_is_not_ready_and_is_sent_again() {
    let mut observed = applied();
    change(&mut observed, |spec| spec.suspend = true);
    observed.superseded = true;
    let verdict = resting(&observed, 10);
    assert_eq!(
        (verdict.status.ready(), &verdict.status.applied),
        (False, &None),
        "even while it is suspended"
    );
    next(&mut observed, &verdict);
    assert_eq!(resting(&observed, 11).status, *observed.status);
    change(&mut observed, |spec| spec.suspend = false);
    observed.superseded = false;
    assert_eq!(sending(&mut observed, 20, 1, "Abc123"), Purpose::Deliver);
}

#[test]
fn only_who_can_act_is_told_whose_the_instance_is() {
    for owner in [Owner::Other(None), Owner::Other(Some("elder".into())), Owner::OtherOfSecret("b".into())] {
        let mut observed = new();
        (observed.owner, observed.access) = (owner, Access::Unread);
        assert!(matches!(decide(&observed, at(0)), Decision::ReadCredentials), "{:?}", observed.owner);
        let table = [
            (Access::Granted, Reason::Conflict),
            (Access::Missing, Reason::CredentialsNotFound),
            (Access::Unusable("it has no key".into()), Reason::InvalidCredentials),
        ];
        for (access, reason) in table {
            observed.access = access;
            let status = resting(&observed, 0).status;
            assert_eq!(reasons(&status), (False, None, Some(reason)), "{:?}", observed.owner);
        }
        observed.access = Access::Unread;
        change(&mut observed, |spec| spec.suspend = true);
        let suspended = resting(&observed, 0).status;
        assert!(suspended.condition(ConditionType::Suspended).is_some(), "it has no need to know");
    }
}

/// What stood when the identity was lost, in `Reconciling` or `Stalled`.
fn standing(reason: Reason) -> Observed {
    let mut observed = new();
    match reason {
        Reason::OutcomeUnknown => {
            observed.read = Some(read(1, "Abc123"));
            let verdict = call(&mut observed, Purpose::Deliver, Reply::Unknown, 0);
            next(&mut observed, &verdict);
        }
        Reason::Conflict => {
            observed.owner = Owner::Other(None);
            let verdict = resting(&observed, 0);
            next(&mut observed, &verdict);
        }
        Reason::Generating => {
            change(&mut observed, |spec| spec.rotation = Some(Box::default()));
            (observed.secret, observed.read) = (None, Some(SecretRead::Missing));
            let Decision::Announce(_, verdict) = decide(&observed, at(0)) else {
                panic!("nothing is announced")
            };
            next(&mut observed, &verdict);
        }
        other => panic!("{other:?}"),
    }
    let (_, reconciling, stalled) = reasons(&observed.status);
    assert_eq!(reconciling.or(stalled), Some(reason));
    observed
}

#[test]
fn what_is_not_known_of_late_calls_outlives_the_loss_of_the_identity() {
    let table = [
        (Reason::OutcomeUnknown, Unknown, at(961)),
        (Reason::Conflict, False, at(10 + 961)),
        (Reason::Generating, False, at(10 + 961)),
    ];
    for (reason, ready, until) in table {
        for access in [Access::Missing, Access::AmbientDenied, Access::Forbidden] {
            let mut observed = standing(reason);
            observed.access = access;
            let verdict = resting(&observed, 10);
            assert_eq!(verdict.status.ready(), ready, "{reason:?}");
            assert_eq!(verdict.status.unsettled_until(), Some(until), "{reason:?}");
            next(&mut observed, &verdict);
            assert_eq!(resting(&observed, 20).status, *observed.status, "{reason:?}: it does not move along");
        }
    }
}

#[test]
fn each_reply_has_its_reaction() {
    let stalled = |reason| (False, None, Some(reason));
    let retried = |reason| (False, Some(reason), None);
    let table = [
        (refused("IncorrectInstanceStatus"), retried(Reason::IncorrectInstanceStatus), Some(300)),
        (refused("InstanceNotReady"), retried(Reason::InstanceNotReady), Some(300)),
        (refused("Throttling.User"), retried(Reason::Throttled), Some(5)),
        (Reply::Unknown, (Unknown, Some(Reason::OutcomeUnknown), None), Some(5)),
        (refused("InternalError"), (Unknown, Some(Reason::OutcomeUnknown), None), Some(5)),
        (Reply::NotSent, retried(Reason::Unreachable), Some(5)),
        (refused("IncorrectVncPassword.Malformed"), stalled(Reason::InvalidPassword), None),
        (refused("InvalidInstanceId.NotFound"), stalled(Reason::InstanceNotFound), Some(600)),
        (refused("Forbidden.RAM"), stalled(Reason::Denied), Some(600)),
        (refused("InvalidAccessKeyId.NotFound"), stalled(Reason::InvalidCredentials), Some(60)),
        (Reply::NoCredentials, stalled(Reason::CredentialsNotFound), Some(60)),
        (refused("SignatureNonceUsed"), retried(Reason::SignatureRejected), Some(5)),
        (refused("SomethingElse"), stalled(Reason::Refused), Some(600)),
    ];
    for (reply, conditions, wait) in table {
        let mut observed = new();
        observed.read = Some(read(1, "Abc123"));
        let verdict = call(&mut observed, Purpose::Deliver, reply.clone(), 0);
        assert_eq!(reasons(&verdict.status), conditions, "{reply:?}");
        assert_eq!(verdict.wake, wait.map(at), "{reply:?}");
        assert_eq!(verdict.notes.len(), 1, "{reply:?}");
        next(&mut observed, &verdict);
        let held = resting(&observed, 1);
        assert_eq!(held.status, verdict.status, "{reply:?}: held back, and not written again");
        if let Some(wait) = wait {
            observed.look = None;
            assert_eq!(sending(&mut observed, wait, 1, "Abc123"), Purpose::Deliver, "{reply:?}");
        }
    }
}

#[test]
fn a_change_of_secret_or_spec_is_acted_on_at_once() {
    for code in
        ["IncorrectInstanceStatus", "IncorrectVncPassword.Malformed", "Forbidden.RAM", "InternalError"]
    {
        let mut observed = new();
        observed.read = Some(read(1, "Abc123"));
        let verdict = call(&mut observed, Purpose::Deliver, refused(code), 0);
        next(&mut observed, &verdict);
        let mut edited = observed.clone();
        edited.secret = Some(version(2));
        assert_eq!(sending(&mut edited, 1, 2, "Xyz789"), Purpose::Deliver, "{code}");
        change(&mut observed, |spec| spec.region_id = Some("cn-beijing".into()));
        assert_eq!(sending(&mut observed, 1, 1, "Abc123"), Purpose::Deliver, "{code}");
    }
}

#[test]
fn credentials_and_signatures_get_one_more_try_at_once() {
    for code in ["InvalidSecurityToken.Expired", "SignatureDoesNotMatch", "InvalidTimeStamp.Expired"] {
        let mut observed = new();
        observed.read = Some(read(1, "Abc123"));
        call(&mut observed, Purpose::Deliver, refused(code), 0);
        observed.attempt.as_mut().unwrap().tries = 1;
        assert!(matches!(decide(&observed, at(0)), Decision::Send(Purpose::Deliver)), "{code}");
    }
}

#[test]
fn throttled_objects_wait_their_turn_without_failing() {
    let mut observed = new();
    observed.limiter_opens = Some(at(40));
    let verdict = resting(&observed, 0);
    assert_eq!(reasons(&verdict.status), (False, Some(Reason::Throttled), None));
    assert_eq!(verdict.wake, Some(at(40)));
    assert_eq!(verdict.status.retry.as_ref().unwrap().attempts, None);
    next(&mut observed, &verdict);
    observed.limiter_opens = Some(at(100));
    assert_eq!(resting(&observed, 41).status, verdict.status, "waiting longer is not written again");
    observed.limiter_opens = None;
    assert_eq!(sending(&mut observed, 100, 1, "Abc123"), Purpose::Deliver);
}

#[test]
fn an_object_that_has_used_up_its_own_calls_says_so_and_keeps_what_is_in_effect() {
    let mut observed = new();
    (observed.limiter_opens, observed.paced) = (Some(at(30)), true);
    let verdict = resting(&observed, 0);
    assert_eq!(reasons(&verdict.status), (False, Some(Reason::ChangedTooOften), None));
    assert_eq!(verdict.wake, Some(at(30)));
    // Neither changed credentials nor a claim to prove come before that.
    (observed.credentials_changed, observed.prove_claim) = (true, true);
    assert_eq!(resting(&observed, 0).wake, Some(at(30)));
    (observed.credentials_changed, observed.prove_claim) = (false, false);
    next(&mut observed, &verdict);
    (observed.limiter_opens, observed.paced) = (None, false);
    assert_eq!(sending(&mut observed, 30, 1, "Abc123"), Purpose::Deliver);
    let mut observed = applied();
    observed.rotate_at = RotateAt::At(at(100));
    (observed.limiter_opens, observed.paced) = (Some(at(130)), true);
    let verdict = resting(&observed, 100);
    assert_eq!(
        (reasons(&verdict.status), verdict.wake),
        ((ConditionStatus::True, None, None), Some(at(130)))
    );
}

#[test]
fn the_limiters_line_tells_when_to_go_on_and_after_a_restart_the_status_does() {
    let mut observed = new();
    observed.limiter_opens = Some(at(40));
    let verdict = resting(&observed, 0);
    next(&mut observed, &verdict);
    observed.limiter_opens = None;
    assert_eq!(resting(&observed, 20).wake, Some(at(40)), "another process knows no line");
    observed.in_line = true;
    assert_eq!(sending(&mut observed, 20, 1, "Abc123"), Purpose::Deliver, "its turn has come earlier");
}

#[test]
fn an_unknown_outcome_clears_what_was_applied() {
    let mut observed = applied();
    observed.secret = Some(version(2));
    observed.read = Some(read(2, "Xyz789"));
    let verdict = call(&mut observed, Purpose::Deliver, Reply::Unknown, 10);
    assert_eq!(verdict.status.applied, None);
    let retry = verdict.status.retry.as_ref().unwrap();
    assert_eq!(retry.unsettled_until.as_ref().unwrap().0, at(10 + 961));
}

#[test]
fn a_late_call_of_the_same_value_needs_no_resend() {
    let mut observed = new();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, Reply::Unknown, 0);
    next(&mut observed, &verdict);
    assert_eq!(sending(&mut observed, 5, 1, "Abc123"), Purpose::Deliver);
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-2"), 5);
    assert_eq!(reasons(&verdict.status), (True, None, None));
    assert_eq!(verdict.wake, Some(at(961)), "it is remembered that one may arrive");
    next(&mut observed, &verdict);
    assert_eq!(resting(&observed, 960).status, *observed.status);
    let verdict = resting(&observed, 961);
    assert_eq!((reasons(&verdict.status), verdict.status.retry), ((True, None, None), None));
}

/// A sent and lost, A accepted, the operator restarted, B written: A may still arrive.
#[test]
fn a_new_process_cannot_know_that_the_late_call_is_harmless() {
    let mut observed = new();
    observed.read = Some(read(1, "Aaaaa1"));
    let verdict = call(&mut observed, Purpose::Deliver, Reply::Unknown, 0);
    next(&mut observed, &verdict);
    observed.read = Some(read(1, "Aaaaa1"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-2"), 5);
    next(&mut observed, &verdict);
    observed.history = super::facts::History::default();
    assert_eq!(reasons(&resting(&observed, 6).status), (True, Some(Reason::Settling), None));
    observed.secret = Some(version(2));
    assert_eq!(sending(&mut observed, 7, 2, "Bbbbb2"), Purpose::Deliver);
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-3"), 7);
    next(&mut observed, &verdict);
    assert_eq!(sending(&mut observed, 961, 2, "Bbbbb2"), Purpose::Settle);
}

/// A sent and lost, B sent and lost, A accepted: B may still arrive, so A is sent once more.
#[test]
fn another_value_with_an_unknown_outcome_makes_the_newest_go_twice() {
    let mut observed = new();
    for (number, value) in [(1, "Aaaaa1"), (2, "Bbbbb2")] {
        observed.secret = Some(version(number));
        assert_eq!(sending(&mut observed, i64::from(number), number, value), Purpose::Deliver);
        let verdict = call(&mut observed, Purpose::Deliver, Reply::Unknown, i64::from(number));
        next(&mut observed, &verdict);
    }
    observed.secret = Some(version(3));
    assert_eq!(sending(&mut observed, 3, 3, "Aaaaa1"), Purpose::Deliver);
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-3"), 3);
    assert_eq!(reasons(&verdict.status), (True, Some(Reason::Settling), None), "Ready meanwhile");
    assert_eq!(verdict.wake, Some(at(2 + 961)));
    next(&mut observed, &verdict);
    assert_eq!(resting(&observed, 962).status, *observed.status);
    assert_eq!(sending(&mut observed, 963, 3, "Aaaaa1"), Purpose::Settle);
    let verdict = call(&mut observed, Purpose::Settle, accepted("R-4"), 963);
    assert_eq!(reasons(&verdict.status), (True, None, None));
    assert_eq!((verdict.status.retry.as_ref(), verdict.status.rotations), (None, Some(1)));
}

#[test]
fn what_a_former_process_may_have_sent_makes_the_newest_go_twice() {
    let mut observed = new();
    observed.history.unsettled.push(Unsettled { value: None, until: at(960), by_other: false });
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 0);
    assert_eq!(reasons(&verdict.status), (True, Some(Reason::Settling), None));
    assert_eq!(verdict.wake, Some(at(960)));
}

#[test]
fn an_unsettled_time_that_a_former_process_wrote_is_kept() {
    let mut observed = applied();
    observed.history = super::facts::History::default();
    edit(&mut observed, |status| {
        status.retry.get_or_insert_default().unsettled_until = Some(Time(at(500)));
    });
    assert_eq!(resting(&observed, 10).wake, Some(at(500)));
    observed.secret = Some(version(2));
    assert_eq!(sending(&mut observed, 20, 2, "Xyz789"), Purpose::Deliver);
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-2"), 20);
    assert_eq!(verdict.wake, Some(at(500)), "whose call that was is not known");
}

#[test]
fn a_lost_resend_leaves_the_object_ready_and_is_repeated() {
    let mut observed = applied();
    edit(&mut observed, |status| {
        status.retry.get_or_insert_default().unsettled_until = Some(Time(at(500)));
    });
    observed.history.unsettled.extend(doubt(&observed, true, false, at(0), at(10)));
    assert_eq!(sending(&mut observed, 500, 1, "Abc123"), Purpose::Settle);
    let verdict = call(&mut observed, Purpose::Settle, Reply::Unknown, 500);
    assert_eq!(reasons(&verdict.status), (True, Some(Reason::OutcomeUnknown), None));
    assert_eq!(verdict.wake, Some(at(505)));
    next(&mut observed, &verdict);
    let verdict = resting(&observed, 501);
    assert_eq!((verdict.status == *observed.status, verdict.wake), (true, Some(at(505))));
    assert_eq!(sending(&mut observed, 505, 1, "Abc123"), Purpose::Settle);
}

#[test]
fn a_resend_that_failed_goes_at_once_where_its_cause_may_be_mended() {
    for purpose in [Purpose::Enforce, Purpose::Settle] {
        let mut observed = applied();
        if purpose == Purpose::Enforce {
            observed.enforce_interval = Some(Duration::from_secs(600));
        } else {
            edit(&mut observed, |status| status.retry = Retry::unsettled(Some(at(600))));
            observed.history.unsettled.push(Unsettled { value: None, until: at(600), by_other: false });
        }
        assert_eq!(sending(&mut observed, 600, 1, "Abc123"), purpose);
        let verdict = call(&mut observed, purpose, refused("Forbidden.RAM"), 600);
        next(&mut observed, &verdict);
        assert_eq!(resting(&observed, 601).wake, Some(at(1200)), "{purpose:?}: otherwise it waits");
        let mut renewed = observed.clone();
        renewed.credentials_changed = true;
        assert_eq!(sending(&mut renewed, 601, 1, "Abc123"), purpose);
        change(&mut observed, |spec| spec.region_id = Some("cn-beijing".into()));
        assert_eq!(sending(&mut observed, 601, 1, "Abc123"), purpose);
    }
}

#[test]
fn the_value_is_enforced_at_its_interval() {
    let mut observed = applied();
    observed.enforce_interval = Some(Duration::from_secs(600));
    assert_eq!(resting(&observed, 100).wake, Some(at(600)));
    assert_eq!(sending(&mut observed, 600, 1, "Abc123"), Purpose::Enforce);
    let verdict = call(&mut observed, Purpose::Enforce, accepted("R-2"), 600);
    assert_eq!(verdict.wake, Some(at(1200)));
    assert_eq!(verdict.status.rotations, Some(1), "no rotation");
    assert_eq!(verdict.status.request_id.as_deref(), Some("R-2"));
    assert!(verdict.notes.is_empty());
}

#[test]
fn stored_times_never_ask_for_more_than_they_can() {
    let mut jumped = new();
    jumped.read = Some(read(1, "Abc123"));
    let verdict = call(&mut jumped, Purpose::Deliver, refused("Forbidden.RAM"), 1_000_000);
    next(&mut jumped, &verdict);
    assert_eq!(resting(&jumped, 0).wake, Some(at(600)), "the clock jumped back");

    let mut enforced = applied();
    enforced.enforce_interval = Some(Duration::from_secs(600));
    edit(&mut enforced, |status| {
        if let Some(Applied { time, .. }) = &mut status.applied {
            *time = Time(at(1_000_000));
        }
    });
    assert_eq!(resting(&enforced, 0).wake, Some(at(600)));

    let mut settling = applied();
    edit(&mut settling, |status| {
        status.retry.get_or_insert_default().unsettled_until = Some(Time(at(1_000_000)));
    });
    assert_eq!(resting(&settling, 0).wake, Some(at(961)));
}

#[test]
fn only_an_object_that_is_new_and_may_be_applied_polls_before_it_reads() {
    type Change = fn(&mut Observed);
    let table: [(&str, Change, bool); 8] = [
        ("new", |_| {}, true),
        (
            "it had to wait for its Secret",
            |it| edit(it, |status| *status = stalled_with(Reason::SecretNotFound)),
            true,
        ),
        ("known", |it| *it = new(), false),
        ("polled", |it| it.look = Some(Look { at: at(0), found: Found::Unseen }), false),
        ("an accepted call", |it| edit(it, |status| status.request_id = Some("R".into())), false),
        (
            "no password so far",
            |it| edit(it, |status| *status = stalled_with(Reason::InvalidPassword)),
            false,
        ),
        (
            "nobody may read it",
            |it| edit(it, |status| *status = stalled_with(Reason::SecretForbidden)),
            false,
        ),
        ("a claim to prove", |it| it.prove_claim = true, false),
    ];
    for (name, change, polls) in table {
        let mut observed = new();
        edit(&mut observed, |status| status.instance = None);
        change(&mut observed);
        let decision = decide(&observed, at(0));
        let polled = matches!(&decision, Decision::Rest(verdict) if verdict.look == Some(at(0)));
        assert_eq!(polled, polls, "{name}: {decision:?}");
        assert!(polls || matches!(decision, Decision::ReadSecret), "{name}: {decision:?}");
    }
}

#[test]
fn an_unknown_instance_is_looked_at_before_its_first_password() {
    let mut observed = new();
    edit(&mut observed, |status| status.instance = None);
    // Before the Secret is read, so that thousands of new objects can wait without its contents, and after it as well.
    for secret in [None, Some(read(1, "Abc123"))] {
        observed.read = secret;
        let verdict = resting(&observed, 0);
        assert_eq!((verdict.look, verdict.status == *observed.status), (Some(at(0)), true));
    }
    let table = [
        (Found::Unseen, true),
        (Found::Refused, true),
        (Found::Failed, false),
        (look(1, "Running", true, 0).found, true),
    ];
    for (found, sent) in table {
        let mut observed = observed.clone();
        observed.look = Some(Look { at: at(1), found: found.clone() });
        match decide(&observed, at(2)) {
            Decision::Send(Purpose::Deliver) => assert!(sent, "{found:?}"),
            Decision::Rest(verdict) => {
                assert!(!sent, "{found:?}");
                assert_eq!(reasons(&verdict.status), (False, Some(Reason::LookupFailed), None));
                assert!(verdict.look.is_some());
            }
            other => panic!("{found:?}: {other:?}"),
        }
    }
}

#[test]
fn for_a_value_that_cannot_be_sent_nobody_is_asked_anything() {
    let mut observed = new();
    edit(&mut observed, |status| status.instance = None);
    observed.read = Some(holding(1, Slot::Invalid));
    let verdict = resting(&observed, 0);
    assert_eq!((verdict.look, reasons(&verdict.status).2), (None, Some(Reason::InvalidPassword)));
}

#[test]
fn an_instance_that_cannot_be_seen_counts_as_optimized_with_a_warning() {
    let mut observed = new();
    edit(&mut observed, |status| status.instance = None);
    observed.look = Some(Look { at: at(0), found: Found::Unseen });
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 1);
    assert_eq!(reasons(&verdict.status), (True, None, None));
    assert!(verdict.notes.iter().any(|note| note.warning && note.reason == "InstanceUnknown"));
}

/// An object whose instance refused in that status at second 0; a look at -1 had shown it.
fn waiting(status: &str) -> Observed {
    let mut observed = new();
    observed.look = Some(look(-1, status, true, 0));
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused("IncorrectInstanceStatus"), 0);
    next(&mut observed, &verdict);
    observed
}

#[test]
fn nothing_is_sent_while_looks_show_the_refused_status() {
    let mut observed = waiting("Stopped");
    assert_eq!(resting(&observed, 1).look, Some(at(15)));
    for second in [15, 60, 200, 299] {
        observed.look = Some(look(second, "Stopped", true, 0));
        let verdict = resting(&observed, second);
        assert_eq!(verdict.status, *observed.status, "{second}");
        assert!(verdict.look.unwrap() > at(second), "{second}");
        assert_eq!(verdict.wake, Some(at(300)), "but once at the cap");
    }
    observed.look = Some(look(299, "Stopped", true, 0));
    assert_eq!(sending(&mut observed, 300, 1, "Abc123"), Purpose::Deliver);
}

#[test]
fn it_is_sent_at_once_when_the_status_has_changed() {
    for (refused, now, sent) in
        [("Stopped", "Running", true), ("Stopped", "Starting", true), ("Stopped", "Stopped", false)]
    {
        let mut observed = waiting(refused);
        observed.look = Some(look(15, now, true, 0));
        let decision = decide(&observed, at(15));
        assert_eq!(matches!(decision, Decision::ReadSecret), sent, "{refused} {now}");
    }
}

#[test]
fn where_the_refused_status_was_not_seen_the_next_look_tells() {
    let mut observed = new();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused("IncorrectInstanceStatus"), 0);
    next(&mut observed, &verdict);
    assert_eq!(verdict.look, Some(at(1)));
    let mut stopped = observed.clone();
    stopped.look = Some(look(1, "Stopped", true, 0));
    let verdict = resting(&stopped, 1);
    assert_eq!(verdict.status.instance.unwrap().status.as_deref(), Some("Stopped"));
    observed.look = Some(look(1, "Running", true, 0));
    assert!(matches!(decide(&observed, at(1)), Decision::ReadSecret), "it is ready already");
}

#[test]
fn where_it_cannot_be_looked_at_plain_backoff_goes() {
    let mut observed = waiting("Stopped");
    observed.look = Some(Look { at: at(2), found: Found::Unseen });
    assert_eq!(resting(&observed, 2).wake, Some(at(5)));
    assert!(matches!(decide(&observed, at(5)), Decision::ReadSecret));
}

/// An object whose value was accepted at second 120 by an instance that was started at minute 1 and is not optimized.
fn rebooting() -> Observed {
    let mut observed = new();
    edit(&mut observed, |status| status.instance = None);
    observed.look = Some(look(119, "Running", false, 1));
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 120);
    assert_eq!(reasons(&verdict.status), (False, None, None));
    assert!(verdict.status.condition(ConditionType::RebootRequired).is_some());
    assert_eq!(verdict.look, Some(at(121)));
    next(&mut observed, &verdict);
    observed
}

#[test]
fn a_restart_brings_the_accepted_value_into_effect() {
    let mut observed = rebooting();
    assert_eq!(resting(&observed, 120).status, *observed.status, "the look before the call tells nothing");
    observed.look = Some(look(121, "Running", false, 1));
    let verdict = resting(&observed, 121);
    assert_eq!(verdict.status.accepted.as_ref().unwrap().start_time.as_ref().unwrap().0, at(60));
    next(&mut observed, &verdict);
    observed.look = Some(look(140, "Running", false, 1));
    assert_eq!(resting(&observed, 140).status, *observed.status);
    observed.look = Some(look(600, "Running", false, 9));
    let verdict = resting(&observed, 600);
    assert_eq!(reasons(&verdict.status), (True, None, None));
    assert_eq!((verdict.status.rotations, verdict.status.accepted), (Some(1), None));
}

#[test]
fn a_look_from_before_the_request_does_not_show_the_end_of_the_restart() {
    let mut observed = rebooting();
    observed.look = Some(look(121, "Running", false, 1));
    let verdict = resting(&observed, 121);
    next(&mut observed, &verdict);
    let rotation = observed.status.accepted.as_ref().unwrap().rotation.clone();
    // Another process has asked for the restart and seen it begin; this one still has its look from before.
    edit(&mut observed, |status| {
        status.instance.as_mut().unwrap().status = Some("Stopping".to_owned());
        let time = Time(at(130));
        status.reboot_requested_at =
            Some(Box::new(crate::api::RebootRequest { time, rotation, requests: 1 }));
    });
    for (second, over) in [(122, false), (130, false), (131, true)] {
        observed.look = Some(look(second, "Running", false, 1));
        let verdict = resting(&observed, 140);
        assert_eq!(verdict.status.accepted.is_none(), over, "a look at {second}");
    }
}

#[test]
fn a_restart_around_the_call_makes_it_go_again() {
    let mut observed = rebooting();
    observed.look = Some(look(121, "Running", false, 2));
    assert_eq!(sending(&mut observed, 121, 1, "Abc123"), Purpose::Deliver);
}

#[test]
fn a_resend_of_a_known_value_never_asks_for_a_restart() {
    let mut observed = rebooting();
    observed.look = Some(look(121, "Running", false, 1));
    let verdict = resting(&observed, 121);
    next(&mut observed, &verdict);
    observed.look = Some(look(600, "Running", false, 9));
    let verdict = resting(&observed, 600);
    next(&mut observed, &verdict);
    observed.enforce_interval = Some(Duration::from_secs(600));
    assert_eq!(sending(&mut observed, 720, 1, "Abc123"), Purpose::Enforce);
    let verdict = call(&mut observed, Purpose::Enforce, accepted("R-2"), 720);
    assert_eq!(reasons(&verdict.status), (True, None, None));
    assert!(verdict.status.condition(ConditionType::RebootRequired).is_none());
}

/// The late call may have come before the restart, and then it is its value that came into effect.
#[test]
fn what_settles_where_a_restart_is_needed_is_delivered_anew() {
    let mut observed = rebooting();
    observed.history.unsettled.push(Unsettled { value: None, until: at(961), by_other: false });
    edit(&mut observed, |status| status.retry = Retry::unsettled(Some(at(961))));
    for look in [look(121, "Running", false, 1), look(600, "Running", false, 9)] {
        observed.look = Some(look.clone());
        let verdict = resting(&observed, look.at.as_second() - START);
        next(&mut observed, &verdict);
    }
    assert_eq!(reasons(&observed.status), (True, Some(Reason::Settling), None));
    assert_eq!(resting(&observed, 961).look, Some(at(961)), "the start time before the call is needed");
    observed.look = Some(look(961, "Running", false, 9));
    assert_eq!(sending(&mut observed, 961, 1, "Abc123"), Purpose::Settle);
    let verdict = call(&mut observed, Purpose::Settle, accepted("R-2"), 961);
    assert_eq!(reasons(&verdict.status), (False, None, None));
    assert!(verdict.status.condition(ConditionType::RebootRequired).is_some());
}

#[test]
fn conditions_keep_their_time_while_their_status_stays() {
    let mut observed = new();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused("IncorrectInstanceStatus"), 0);
    next(&mut observed, &verdict);
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused("Forbidden.RAM"), 300);
    let ready = verdict.status.condition(ConditionType::Ready).unwrap();
    assert_eq!((ready.reason, ready.last_transition_time.0), (Reason::Denied, at(0)));
    let stalled = verdict.status.condition(ConditionType::Stalled).unwrap();
    assert_eq!(stalled.last_transition_time.0, at(300));
}

#[test]
fn an_enforcement_that_falls_due_while_it_settles_waits_without_spinning() {
    let mut observed = applied();
    observed.enforce_interval = Some(Duration::from_secs(600));
    edit(&mut observed, |status| status.retry = Retry::unsettled(Some(at(900))));
    assert_eq!(resting(&observed, 700).wake, Some(at(900)));
}

#[test]
fn a_time_in_the_far_future_puts_nothing_off_for_longer_than_it_takes() {
    // The clock jumped back by a day after these were written.
    let day = 24 * 60 * 60;
    let mut observed = applied();
    edit(&mut observed, |status| status.retry = Retry::unsettled(Some(at(day))));
    let mut second = 0;
    for _ in 0..3 {
        match decide(&observed, at(second)) {
            Decision::Rest(verdict) => {
                second = verdict.wake.unwrap().as_second() - START;
                next(&mut observed, &verdict);
            }
            _ => break,
        }
    }
    assert!(second <= 2 * 960, "the value is sent again only after {second} s");

    let mut observed = new();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused("Forbidden"), day);
    next(&mut observed, &verdict);
    let verdict = resting(&observed, 0);
    next(&mut observed, &verdict);
    assert!(!matches!(decide(&observed, at(601)), Decision::Rest(_)), "it is never tried again");

    let mut observed = applied();
    observed.enforce_interval = Some(Duration::from_secs(600));
    edit(&mut observed, |status| {
        if let Some(Applied { time, .. }) = &mut status.applied {
            *time = Time(at(day));
        }
    });
    let verdict = resting(&observed, 0);
    next(&mut observed, &verdict);
    assert!(!matches!(decide(&observed, at(601)), Decision::Rest(_)), "it is never enforced again");
}

/// The clock is set back by three hours right after a call.
#[test]
fn a_clock_that_was_set_back_delays_no_retry() {
    let back = -3 * 60 * 60;
    let table = [
        ("no readable reply", Reply::Unknown, 5),
        ("not sent", Reply::NotSent, 5),
        ("denied", refused("Forbidden.RAM"), 600),
        ("credentials", refused("InvalidAccessKeyId.NotFound"), 60),
    ];
    for (name, reply, delay) in table {
        let mut observed = new();
        observed.read = Some(read(1, "Abc123"));
        let verdict = call(&mut observed, Purpose::Deliver, reply, 0);
        next(&mut observed, &verdict);
        let verdict = resting(&observed, back);
        assert_eq!(verdict.wake, Some(at(back + delay)), "{name}");
        next(&mut observed, &verdict);
        assert_eq!(resting(&observed, back + delay - 1).status, *observed.status, "{name}: cut once");
        assert!(!matches!(decide(&observed, at(back + delay)), Decision::Rest(_)), "{name}");
    }
}

#[test]
fn a_clock_that_was_set_back_freezes_no_wait_for_an_instance() {
    let back = -3 * 60 * 60;
    let mut observed = waiting("Stopped");
    // What was seen before the call is of a time to come now.
    let verdict = resting(&observed, back);
    assert_eq!((verdict.look, verdict.wake), (Some(at(back + 15)), Some(at(back + 300))));
    next(&mut observed, &verdict);
    observed.look = Some(look(back + 15, "Running", true, 0));
    assert!(matches!(decide(&observed, at(back + 15)), Decision::ReadSecret));
}

#[test]
fn a_look_from_before_the_clock_was_set_back_tells_nothing_of_a_restart() {
    let back = -3 * 60 * 60;
    let observed = rebooting();
    assert_eq!(observed.look.as_ref().map(|look| look.at), Some(at(119)), "from before the call");
    let verdict = resting(&observed, back);
    assert_eq!(verdict.look, Some(at(back + 1)));
    assert_eq!(
        verdict.status.accepted.map(|accepted| accepted.start_time),
        Some(None),
        "there is no baseline yet"
    );
}

#[test]
fn a_status_from_before_the_call_invents_no_restart() {
    let mut observed = new();
    edit(&mut observed, |status| {
        let instance = status.instance.get_or_insert_default();
        instance.io_optimized = Some(false);
        // From a look at a refused call; the right to look was lost since.
        instance.status = Some("Stopped".into());
    });
    observed.look = Some(Look { at: at(0), found: Found::Unseen });
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 1);
    next(&mut observed, &verdict);
    assert!(observed.status.accepted.is_some());
    observed.look = Some(look(10, "Running", false, 3));
    match decide(&observed, at(10)) {
        Decision::ReadSecret => {}
        other => panic!("nobody has restarted it: {other:?}"),
    }
}

#[test]
fn a_resend_of_a_waiting_value_takes_no_earlier_stop_for_a_restart() {
    let mut observed = new();
    edit(&mut observed, |status| status.instance.get_or_insert_default().io_optimized = Some(false));
    // It was stopped then, and runs again by the time of the calls.
    observed.look = Some(look(0, "Stopped", false, -10));
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, accepted("R-1"), 50);
    next(&mut observed, &verdict);
    observed.prove_claim = true;
    assert_eq!(sending(&mut observed, 50, 1, "Abc123"), Purpose::Enforce);
    let verdict = call(&mut observed, Purpose::Enforce, accepted("R-2"), 50);
    next(&mut observed, &verdict);
    observed.prove_claim = false;
    observed.look = Some(look(52, "Running", false, 0));
    match decide(&observed, at(52)) {
        Decision::ReadSecret => {}
        other => panic!("nobody has restarted it since the value was accepted: {other:?}"),
    }
}

#[test]
fn a_suspended_object_that_was_superseded_doubts_the_calls_of_others_after_a_restart() {
    let mut observed = applied();
    change(&mut observed, |spec| spec.suspend = true);
    observed.superseded = true;
    let verdict = resting(&observed, 10);
    assert_eq!(verdict.status.reason(ConditionType::Ready), Some(Reason::Conflict));
    next(&mut observed, &verdict);
    observed.superseded = false;
    let doubt = doubt(&observed, true, false, at(20), at(20)).unwrap();
    assert!(doubt.by_other, "{doubt:?}");
}

#[test]
fn a_count_that_somebody_wrote_cannot_overflow() {
    let mut observed = new();
    edit(&mut observed, |status| status.rotations = Some(i64::MAX));
    observed.read = Some(read(1, "Abc123"));
    call(&mut observed, Purpose::Deliver, accepted("R-1"), 0);
}

#[test]
fn a_resend_that_fails_after_a_spoilt_value_came_back_is_tried_again() {
    let mut observed = applied();
    edit(&mut observed, |status| status.retry = Retry::unsettled(Some(at(960))));
    observed.secret = Some(version(2));
    observed.read = Some(holding(2, Slot::Invalid));
    let verdict = resting(&observed, 10);
    next(&mut observed, &verdict);
    observed.secret = Some(version(3));
    assert_eq!(sending(&mut observed, 970, 3, "Abc123"), Purpose::Settle);
    let verdict = call(&mut observed, Purpose::Settle, Reply::NotSent, 970);
    next(&mut observed, &verdict);
    assert_eq!(observed.status.ready(), True);
    let wake = resting(&observed, 971).wake.unwrap();
    assert_eq!(sending(&mut observed, wake.as_second() - START + 1, 3, "Abc123"), Purpose::Settle);
}

#[test]
fn a_value_that_was_spoilt_while_it_settled_is_still_sent_again() {
    let mut observed = applied();
    edit(&mut observed, |status| status.retry = Retry::unsettled(Some(at(960))));
    observed.secret = Some(version(2));
    observed.read = Some(holding(2, Slot::Invalid));
    let verdict = resting(&observed, 970);
    next(&mut observed, &verdict);
    observed.secret = Some(version(3));
    assert_eq!(sending(&mut observed, 980, 3, "Abc123"), Purpose::Settle);
}

/// Whoever may write the status may write there any time.
#[test]
fn doubt_is_never_longer_than_a_call_can_take() {
    let mut observed = applied();
    edit(&mut observed, |status| {
        status.retry.get_or_insert_default().unsettled_until =
            Some(Time("9999-12-30T00:00:00Z".parse().unwrap()));
    });
    let doubt = doubt(&observed, true, false, at(2000), at(2000)).unwrap();
    assert_eq!(doubt.until, at(2961));
}

/// DESIGN.md, R43, of a user's Secret: the doubt ends when the value was accepted once more, and not before.
#[test]
fn doubt_lasts_until_the_value_was_accepted_once_more() {
    let mut observed = applied();
    observed.history.unsettled.push(Unsettled { value: None, until: at(961), by_other: true });
    let verdict = resting(&observed, 100);
    assert_eq!(reasons(&verdict.status), (Unknown, Some(Reason::Settling), None));
    next(&mut observed, &verdict);
    // The operator restarts after the call can no longer arrive.
    let mut successor = observed.clone();
    successor.history = super::facts::History::default();
    successor.history.unsettled.extend(doubt(&successor, true, false, at(2000), at(2000)));
    assert_eq!(sending(&mut successor, 2000, 1, "Abc123"), Purpose::Settle);
    let refused = call(&mut successor, Purpose::Settle, refused("Forbidden.RAM"), 2000);
    assert_eq!(refused.status.ready(), Unknown);
    // The memory of the call is gone as well.
    next(&mut successor, &refused);
    successor.history.unsettled.clear();
    assert_eq!(resting(&successor, 2001).status.ready(), Unknown);
    successor.credentials_changed = true;
    assert_eq!(sending(&mut successor, 9000, 1, "Abc123"), Purpose::Settle);
    let verdict = call(&mut successor, Purpose::Settle, accepted("R-9"), 9000);
    assert_eq!(reasons(&verdict.status), (True, None, None));
}
