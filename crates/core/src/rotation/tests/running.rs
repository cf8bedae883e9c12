//! Instances that refuse although they are Running: backoff (N1), then `InstanceUnsupported` (N3).

use super::*;
use crate::rotation::facts::{History, RunningRefusals};

const HOUR: i64 = 3600;

/// So many confirmed refusals, the last at `last`, `span` seconds after the first.
fn refusals(count: u32, span: i64, last: i64) -> RunningRefusals {
    RunningRefusals { count, first: at(last - span), last: at(last) }
}

/// Sends the value in that second and is refused.
fn refuse(observed: &mut Observed, second: i64) -> Verdict {
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(observed, Purpose::Deliver, refused("IncorrectInstanceStatus"), second);
    next(observed, &verdict);
    verdict
}

/// A Running instance that has refused for long enough: the status says so.
fn unsupported() -> Observed {
    let mut observed = waiting("Running");
    observed.history.running_refusals = Some(refusals(10, HOUR, 0));
    observed.look = Some(look(1, "Running", true, 0));
    let verdict = resting(&observed, 1);
    assert_eq!(reasons(&verdict.status), (False, None, Some(Reason::InstanceUnsupported)));
    next(&mut observed, &verdict);
    observed.look = None;
    observed.history.examined = Some(version(1));
    observed
}

#[test]
fn a_running_instance_that_refuses_is_tried_with_backoff() {
    let mut observed = waiting("Running");
    let mut failed = 0;
    for delay in [5, 10, 20, 40, 80, 160, 300, 300] {
        let verdict = resting(&observed, failed);
        assert_eq!((verdict.wake, verdict.look), (Some(at(failed + delay)), Some(at(failed + 1))));
        observed.look = Some(look(failed + 1, "Running", true, 0));
        let verdict = resting(&observed, failed + 1);
        assert_eq!(verdict.status, *observed.status, "the poll brings nothing new");
        assert_eq!(verdict.wake, Some(at(failed + delay)));
        assert!(verdict.look.unwrap() > at(failed + 1), "another state is noticed");
        let mut changed = observed.clone();
        changed.look = Some(look(failed + 2, "Stopping", true, 0));
        assert!(matches!(decide(&changed, at(failed + 2)), Decision::ReadSecret));
        failed += delay;
        assert_eq!(sending(&mut observed, failed, 1, "Abc123"), Purpose::Deliver);
        observed.look = Some(look(failed - 1, "Running", true, 0));
        refuse(&mut observed, failed);
    }
}

#[test]
fn somebody_who_asks_has_an_unsupported_instance_tried_at_once() {
    let mut observed = unsupported();
    resting(&observed, 2);
    observed.history.rotate_at_is_new = true;
    assert!(matches!(decide(&observed, at(2)), Decision::ReadSecret));
}

#[test]
fn so_has_one_whose_value_is_to_be_sent_once_more() {
    type Change = fn(&mut Observed);
    let table: [(&str, Change, bool); 4] = [
        ("nothing", |_| {}, false),
        ("rotate-at", |it| it.history.rotate_at_is_new = true, true),
        ("a new spec", |it| it.generation += 1, true),
        ("other credentials", |it| it.credentials_changed = true, true),
    ];
    for (name, change, tries) in table {
        let mut observed = unsupported();
        edit(&mut observed, |status| {
            let (secret_uid, secret_resource_version) = ("uid".into(), "1".into());
            let time = Time(at(-2 * HOUR));
            status.applied = Some(Applied { secret_uid, secret_resource_version, time, rotation: None });
        });
        observed.enforce_interval = Some(Duration::from_secs(600));
        change(&mut observed);
        let decision = decide(&observed, at(2));
        assert_eq!(matches!(decision, Decision::ReadSecret), tries, "{name}: {decision:?}");
    }
}

#[test]
fn the_backoff_of_a_running_instance_has_jitter_and_begins_when_it_runs() {
    let table = [
        ("Running before", Some("Running"), 9, 300),
        ("Stopped before", Some("Stopped"), 1, 5),
        ("never polled before", None, 9, 300),
    ];
    for (name, before, attempts, delay) in table {
        for (jitter, share) in [(0.0, 5), (1.0, 4)] {
            let mut observed = waiting("Running");
            edit(&mut observed, |status| {
                status.instance.as_mut().unwrap().status = before.map(str::to_owned);
                status.retry.as_mut().unwrap().attempts = Some(8);
            });
            observed.look = Some(look(999, "Running", true, 0));
            observed.jitter = jitter;
            let verdict = refuse(&mut observed, 1000);
            assert_eq!(verdict.status.retry.as_ref().unwrap().attempts, Some(attempts), "{name}");
            assert_eq!(verdict.wake, Some(at(1000 + delay * share / 5)), "{name}");
        }
    }
}

#[test]
fn a_refusal_without_a_poll_before_it_is_repeated_once_when_a_poll_shows_running() {
    for (counted, next_wake) in [(1, None), (2, Some(20))] {
        let mut observed = waiting("Running");
        observed.look = None;
        edit(&mut observed, |status| status.retry.as_mut().unwrap().attempts = Some(2));
        let verdict = refuse(&mut observed, 100);
        assert_eq!(verdict.wake, Some(at(400)));
        observed.history.running_refusals = Some(refusals(counted, 50, 100));
        observed.look = Some(look(101, "Running", true, 0));
        match next_wake {
            None => assert!(matches!(decide(&observed, at(101)), Decision::ReadSecret)),
            Some(delay) => {
                let verdict = resting(&observed, 101);
                assert_eq!(verdict.wake, Some(at(100 + delay)));
                next(&mut observed, &verdict);
                observed.jitter = 0.9;
                let again = resting(&observed, 102);
                assert_eq!(again.status, *observed.status, "it does not move along");
            }
        }
    }
}

#[test]
fn ten_refusals_over_an_hour_while_it_runs_stall_the_object() {
    let running = || Some(look(1, "Running", true, 0));
    let unseen = Some(Look { at: at(1), found: Found::Unseen });
    let table = [
        ("long enough", Some(refusals(10, HOUR, 0)), running(), true),
        ("more than enough", Some(refusals(30, 2 * HOUR, 0)), running(), true),
        ("nine", Some(refusals(9, HOUR, 0)), running(), false),
        ("less than an hour", Some(refusals(10, HOUR - 1, 0)), running(), false),
        ("nothing counted", None, running(), false),
        ("not polled since", Some(refusals(10, HOUR, -300)), Some(look(0, "Running", true, 0)), false),
        ("not shown", Some(refusals(10, HOUR, -300)), unseen, false),
    ];
    for (name, counted, poll, stalls) in table {
        let mut observed = waiting("Running");
        (observed.history.running_refusals, observed.look) = (counted, poll);
        let verdict = resting(&observed, 1);
        if !stalls {
            let expected = (False, Some(Reason::IncorrectInstanceStatus), None);
            assert_eq!(reasons(&verdict.status), expected, "{name}");
            continue;
        }
        assert_eq!(reasons(&verdict.status), (False, None, Some(Reason::InstanceUnsupported)), "{name}");
        let stalled = verdict.status.condition(ConditionType::Stalled).unwrap();
        for part in ["i-1", "Running", "at least an hour", "IncorrectInstanceStatus", "no VNC", "delete"] {
            assert!(stalled.message.contains(part), "{name}: {part} in {}", stalled.message);
        }
        let told = verdict.notes.iter().map(|note| (note.warning, note.reason));
        assert_eq!(told.collect::<Vec<_>>(), [(true, "InstanceUnsupported")], "{name}");
        assert_eq!(verdict.wake, Some(at(HOUR)), "{name}");
        let retry = verdict.status.retry.as_ref().unwrap();
        assert_eq!(retry.next_attempt_time.as_ref().map(|next| next.0), Some(at(HOUR)), "{name}");
        assert_eq!(verdict.look, Some(at(301)), "{name}: another state is noticed within five minutes");
    }
}

/// A process that has just started has counted nothing: the status is all it knows.
#[test]
fn an_unsupported_instance_stays_so_until_a_poll_shows_another_state() {
    let mut observed = unsupported();
    observed.history = History { examined: observed.history.examined.clone(), ..History::default() };
    let failed = Some(Look { at: at(600), found: Found::Failed });
    let unseen = Some(Look { at: at(600), found: Found::Unseen });
    for poll in [None, Some(look(600, "Running", true, 0)), failed, unseen] {
        observed.look = poll.clone();
        for second in [600, HOUR - 1] {
            let verdict = resting(&observed, second);
            assert_eq!(verdict.status, *observed.status, "{poll:?}");
            assert_eq!((verdict.wake, verdict.notes.len()), (Some(at(HOUR)), 0), "{poll:?}");
            assert!(verdict.look.is_some(), "{poll:?}");
        }
        assert!(matches!(decide(&observed, at(HOUR)), Decision::ReadSecret), "{poll:?}");
    }
    observed.look = Some(look(600, "Stopped", true, 0));
    assert!(matches!(decide(&observed, at(600)), Decision::ReadSecret));
}

#[test]
fn what_the_hourly_call_brings() {
    let unsupported_still = (False, None, Some(Reason::InstanceUnsupported));
    let table = [
        ("refused again", None, refused("IncorrectInstanceStatus"), unsupported_still, HOUR),
        ("refused, Running", Some("Running"), refused("InstanceNotReady"), unsupported_still, HOUR),
        (
            "refused in another state",
            Some("Stopped"),
            refused("IncorrectInstanceStatus"),
            (False, Some(Reason::IncorrectInstanceStatus), None),
            300,
        ),
        ("another code", None, refused("Forbidden.RAM"), (False, None, Some(Reason::Denied)), 600),
        ("accepted", None, accepted("R-2"), (True, None, None), 0),
    ];
    for (name, shown, reply, expected, delay) in table {
        let mut observed = unsupported();
        observed.look = shown.map(|status| look(HOUR - 1, status, true, 0));
        observed.read = Some(read(1, "Abc123"));
        let verdict = call(&mut observed, Purpose::Deliver, reply, HOUR);
        assert_eq!(reasons(&verdict.status), expected, "{name}");
        assert_eq!(verdict.wake, (delay > 0).then(|| at(HOUR + delay)), "{name}");
        if expected == unsupported_still {
            assert_eq!((verdict.notes.len(), verdict.look), (0, Some(at(HOUR + 1))), "{name}");
        }
    }
}

/// The status lost the reason when the hourly call was throttled, but the process has counted.
#[test]
fn a_throttled_call_in_between_costs_no_other_hour() {
    let mut observed = unsupported();
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Deliver, refused("Throttling"), HOUR);
    assert_eq!(reasons(&verdict.status), (False, Some(Reason::Throttled), None));
    next(&mut observed, &verdict);
    let verdict = refuse(&mut observed, HOUR + 60);
    assert_eq!(reasons(&verdict.status), (False, None, Some(Reason::InstanceUnsupported)));
    assert_eq!(verdict.wake, Some(at(2 * HOUR + 60)));
}

#[test]
fn a_person_who_changes_something_need_not_wait_for_the_hour() {
    let mut edited = unsupported();
    edited.secret = Some(version(2));
    assert_eq!(sending(&mut edited, 10, 2, "Xyz789"), Purpose::Deliver);
    let mut changed = unsupported();
    change(&mut changed, |spec| spec.region_id = Some("cn-beijing".into()));
    assert_eq!(sending(&mut changed, 10, 1, "Abc123"), Purpose::Deliver);
    let mut renewed = unsupported();
    renewed.credentials_changed = true;
    assert_eq!(sending(&mut renewed, 10, 1, "Abc123"), Purpose::Deliver);
}

/// A value that was accepted before the instance lost its VNC, by a change of its type for instance.
#[test]
fn a_value_in_effect_that_is_enforced_stays_ready() {
    let mut observed = applied();
    observed.enforce_interval = Some(Duration::from_secs(600));
    observed.look = Some(look(599, "Running", true, 0));
    observed.read = Some(read(1, "Abc123"));
    let verdict = call(&mut observed, Purpose::Enforce, refused("IncorrectInstanceStatus"), 600);
    next(&mut observed, &verdict);
    observed.look = Some(look(601, "Running", true, 0));
    observed.history.running_refusals = Some(refusals(10, HOUR, 600));
    let verdict = resting(&observed, 601);
    assert_eq!(reasons(&verdict.status), (True, None, Some(Reason::InstanceUnsupported)));
    next(&mut observed, &verdict);
    observed.history.running_refusals = None;
    let verdict = resting(&observed, 900);
    assert_eq!((&verdict.status, verdict.wake), (&*observed.status, Some(at(600 + HOUR))));
    assert_eq!(sending(&mut observed, 600 + HOUR, 1, "Abc123"), Purpose::Enforce);
}

#[test]
fn a_clock_that_was_set_back_keeps_the_hour() {
    let mut observed = unsupported();
    edit(&mut observed, |status| {
        let retry = status.retry.as_mut().unwrap();
        (retry.last_failure_time, retry.next_attempt_time) =
            (Some(Time(at(9000))), Some(Time(at(9000 + HOUR))));
    });
    assert_eq!(resting(&observed, 100).wake, Some(at(100 + HOUR)));
    edit(&mut observed, |status| status.retry.as_mut().unwrap().last_failure_time = Some(Time(at(0))));
    assert_eq!(resting(&observed, 100).wake, Some(at(100 + HOUR)), "but no more");
}
