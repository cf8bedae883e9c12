//! Following an instance that is not I/O optimized until its restart is seen. Missing one is safe, inventing one
//! is not.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    facts::{Found, Observed, Purpose, RUNNING, SecretRead, SeenInstance},
    message::message,
    verdict::{
        Decision, Effects, Note, Outlook, Progress, Verdict, after, conclude, enforce_due, in_effect, rest,
        seconds, waited,
    },
};
use crate::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};

/// What a look says of an accepted password.
#[derive(Debug, PartialEq, Eq)]
enum Sign {
    /// The start time after acceptance is the one from before the call: it is the baseline.
    Baseline,
    /// It is not: the instance may have been restarted around the call, so nothing can be told.
    Blurred,
    /// Not running now: the next Running is a restart.
    Down,
    /// Restarted since.
    Restarted,
    /// Nothing new.
    Nothing,
}

/// One step of following: `status` holds `accepted`. `settling`: the value is still to be sent once more.
pub(super) fn follow(
    observed: &Observed,
    mut status: VncPasswordStatus,
    effects: Effects,
    settling: bool,
    now: Timestamp,
) -> Decision {
    let Some(applied) = status.applied.clone() else {
        return rest(waiting(observed, status, effects, now, now));
    };
    // Times in the status are cut to the second: only a look from the next second on was surely taken after the call.
    let earliest = after(applied.time.0.min(now), Duration::from_secs(1));
    let Some(look) = observed.look.as_ref().filter(|look| look.at >= earliest) else {
        return rest(waiting(observed, status, effects, earliest, now));
    };
    let next = after(look.at, backoff::look_delay(waited(observed, ConditionType::RebootRequired, now)));
    let Found::Seen(seen) = &look.found else {
        return rest(waiting(observed, status, effects, next, now));
    };
    let sign = sign(&status, seen);
    status.instance.get_or_insert_default().status = Some(seen.status.clone());
    match sign {
        Sign::Nothing | Sign::Down => rest(waiting(observed, status, effects, next, now)),
        Sign::Baseline => {
            if let Some(accepted) = &mut status.accepted {
                accepted.start_time = seen.start_time.map(Time);
            }
            rest(waiting(observed, status, effects, next, now))
        }
        Sign::Blurred => match &observed.read {
            None => Decision::ReadSecret,
            Some(SecretRead::Valid(..)) if observed.limiter_opens.is_none() => {
                Decision::Send(Purpose::Deliver)
            }
            Some(_) => rest(waiting(observed, status, effects, next, now)),
        },
        Sign::Restarted => {
            let instance = status.instance.get_or_insert_default();
            instance.start_time = seen.start_time.map(Time);
            rest(restarted(observed, status, effects, settling, now))
        }
    }
}

fn sign(status: &VncPasswordStatus, seen: &SeenInstance) -> Sign {
    let time = |time: Option<&Time>| time.map(|time| time.0);
    let instance = status.instance.as_ref();
    let was_running =
        instance.and_then(|instance| instance.status.as_deref()).is_none_or(|was| was == RUNNING);
    let before = time(instance.and_then(|instance| instance.start_time.as_ref()));
    let baseline = time(status.accepted.as_ref().and_then(|accepted| accepted.start_time.as_ref()));
    match (seen.status == RUNNING, baseline) {
        (false, _) => Sign::Down,
        (true, _) if !was_running => Sign::Restarted,
        (true, Some(baseline)) if seen.start_time.is_some_and(|start| start != baseline) => Sign::Restarted,
        (true, Some(_)) => Sign::Nothing,
        (true, None) if seen.start_time.is_none() && before.is_none() => Sign::Nothing,
        (true, None) if seen.start_time == before => Sign::Baseline,
        (true, None) => Sign::Blurred,
    }
}

fn waiting(
    observed: &Observed,
    status: VncPasswordStatus,
    effects: Effects,
    look: Timestamp,
    now: Timestamp,
) -> Verdict {
    let text = message(Reason::RebootRequired, observed, None);
    let outlook = Outlook::new(ConditionStatus::False, Progress::Rest, Reason::RebootRequired, text);
    conclude(observed, status, &outlook, now, Effects { look: Some(look), ..effects })
}

fn restarted(
    observed: &Observed,
    mut status: VncPasswordStatus,
    mut effects: Effects,
    settling: bool,
    now: Timestamp,
) -> Verdict {
    status.accepted = None;
    status.last_rotation_time = Some(seconds(now));
    status.rotations = Some(status.rotations.unwrap_or(0).saturating_add(1));
    effects.notes.push(Note {
        warning: false,
        reason: Reason::Applied.as_str(),
        text: format!("instance {} was restarted: its new password is in effect", observed.spec.instance_id),
    });
    effects.wake = effects.wake.or(enforce_due(observed, &status, now));
    in_effect(observed, status, settling, effects, now)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{Accepted, Instance};

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(minute * 60).unwrap()
    }

    fn status(was: &str, before: Option<i64>, baseline: Option<i64>) -> VncPasswordStatus {
        VncPasswordStatus {
            accepted: Some(Accepted { rotation: "7".into(), start_time: baseline.map(at).map(Time) }),
            instance: Some(Instance {
                status: Some(was.into()),
                start_time: before.map(at).map(Time),
                ..Instance::default()
            }),
            ..VncPasswordStatus::default()
        }
    }

    #[test]
    fn a_restart_is_told_from_start_time_or_a_stop_in_between() {
        let table = [
            ("first look, same start", "Running", Some(1), None, "Running", Some(1), Sign::Baseline),
            ("first look, other start", "Running", Some(1), None, "Running", Some(2), Sign::Blurred),
            ("first look, stopping", "Running", Some(1), None, "Stopping", Some(1), Sign::Down),
            ("same start", "Running", Some(1), Some(1), "Running", Some(1), Sign::Nothing),
            ("other start", "Running", Some(1), Some(1), "Running", Some(2), Sign::Restarted),
            ("start no longer told", "Running", Some(1), Some(1), "Running", None, Sign::Nothing),
            ("stopped", "Running", Some(1), Some(1), "Stopped", Some(1), Sign::Down),
            ("back within the same minute", "Stopped", Some(1), Some(1), "Running", Some(1), Sign::Restarted),
            (
                "back before there was a baseline",
                "Stopping",
                Some(1),
                None,
                "Running",
                Some(1),
                Sign::Restarted,
            ),
            ("starting", "Stopped", Some(1), Some(1), "Starting", Some(2), Sign::Down),
            ("no start time at all", "Running", None, None, "Running", None, Sign::Nothing),
        ];
        for (name, was, before, baseline, now, start, expected) in table {
            let seen =
                SeenInstance { status: now.into(), io_optimized: Some(false), start_time: start.map(at) };
            assert_eq!(sign(&status(was, before, baseline), &seen), expected, "{name}");
        }
    }
}
