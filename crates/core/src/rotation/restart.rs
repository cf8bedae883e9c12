//! Following an instance that is not I/O optimized until its restart is seen. Missing one is safe, inventing one
//! is not.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    backoff,
    facts::{Announcement, Found, Look, Observed, RUNNING, SeenInstance},
    hold::FRESH,
    message::reboot_required,
    outcome::{self, Class, Reply},
    verdict::{
        Decision, Effects, Note, Outlook, Progress, Verdict, after, conclude, ready, seconds, settled_at,
        waited,
    },
};
use crate::api::{Accepted, Activation, ConditionType, Reason, RebootRequest, VncPasswordStatus};

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

/// Where following a restart has come to.
pub(super) enum Followed {
    /// Nothing to do before the next look.
    Waits(Box<Verdict>),
    /// The restart itself is to be done.
    Step(Decision),
    /// What was accepted may have come into effect around the call, or not: the value is to be sent again. Otherwise
    /// this.
    Blurred(Box<Verdict>),
    /// It was restarted; the status says so.
    Restarted(Box<VncPasswordStatus>, Effects),
}

/// One step of following: `status` holds `accepted`.
pub(super) fn follow(
    observed: &Observed,
    mut status: VncPasswordStatus,
    mut effects: Effects,
    now: Timestamp,
) -> Followed {
    if observed.announced == Some(Announcement::Reboot) {
        let Some(reply) = &observed.rebooted else { return Followed::Step(Decision::Reboot) };
        effects.notes.push(told(observed, reply));
        let look = after(now, backoff::look_delay(Duration::ZERO));
        return Followed::Waits(Box::new(waiting(observed, status, effects, look, now)));
    }
    let Some(accepted) = status.accepted.clone() else {
        return Followed::Waits(Box::new(waiting(observed, status, effects, now, now)));
    };
    // Times in the status are cut to the second: only a look from the next second on was surely taken after the call.
    // And only one from after the request for the restart shows its end: another process may have seen its beginning.
    let request = status.reboot_requested_at.as_ref();
    let asked = request.filter(|request| request.rotation == accepted.rotation).map(|request| request.time.0);
    let since = asked.max(Some(accepted.time.0)).map_or(now, |since| since.min(now));
    let earliest = after(since, Duration::from_secs(1));
    let Some(look) = observed.look.as_ref().filter(|look| look.at >= earliest) else {
        return Followed::Waits(Box::new(waiting(observed, status, effects, earliest, now)));
    };
    let next = after(look.at, backoff::look_delay(waited(observed, ConditionType::RebootRequired, now)));
    let Found::Seen(seen) = &look.found else {
        return Followed::Waits(Box::new(waiting(observed, status, effects, next, now)));
    };
    let sign = sign(&status, seen);
    status.instance.get_or_insert_default().status = Some(seen.status.clone());
    match sign {
        Sign::Down => Followed::Waits(Box::new(waiting(observed, status, effects, next, now))),
        Sign::Baseline => {
            let accepted = Accepted { start_time: seen.start_time.map(Time), ..*accepted };
            status.accepted = Some(Box::new(accepted));
            still_to_come(observed, status, effects, look, next, now)
        }
        Sign::Nothing => still_to_come(observed, status, effects, look, next, now),
        Sign::Blurred => Followed::Blurred(Box::new(waiting(observed, status, effects, next, now))),
        Sign::Restarted => {
            let instance = status.instance.get_or_insert_default();
            instance.start_time = seen.start_time.map(Time);
            if !observed.generated() {
                effects.notes.push(self::seen(observed));
                status.accepted = None;
                status.last_rotation_time = Some(seconds(now));
                status.rotations = Some(status.rotations.unwrap_or(0).saturating_add(1));
            }
            Followed::Restarted(Box::new(status), effects)
        }
    }
}

/// The event of a restart that was seen.
pub(super) fn seen(observed: &Observed) -> Note {
    let instance = &observed.spec.instance_id;
    let text = format!("instance {instance} was restarted: its new password is in effect");
    Note { warning: false, reason: Reason::Applied.as_str(), text }
}

/// The instance runs as it did when the password was accepted: asks for its restart, where that is the operator's and
/// the time has come.
fn still_to_come(
    observed: &Observed,
    mut status: VncPasswordStatus,
    mut effects: Effects,
    look: &Look,
    mut next: Timestamp,
    now: Timestamp,
) -> Followed {
    match reboot(observed, &status, look, now) {
        Reboot::Never => {}
        Reboot::Look => next = now,
        Reboot::At(at) => {
            next = next.min(at.max(after(look.at, FRESH)));
            effects.wake = effects.wake.into_iter().chain([at]).min();
        }
        Reboot::Now(request) => {
            status.reboot_requested_at = Some(Box::new(request));
            let verdict = waiting(observed, status, effects, next, now);
            return Followed::Step(Decision::Announce(Announcement::Reboot, Box::new(verdict)));
        }
    }
    Followed::Waits(Box::new(waiting(observed, status, effects, next, now)))
}

/// What is to be done about the restart.
#[derive(Debug, PartialEq, Eq)]
enum Reboot {
    /// Nothing, or not by the operator.
    Never,
    /// Nothing before then.
    At(Timestamp),
    /// A fresh look, to know that it is still so.
    Look,
    /// It is requested, as this says.
    Now(RebootRequest),
}

/// Whether the operator restarts the instance, sooner or later, or may have just made the instance restart.
pub(super) fn will_reboot(observed: &Observed, status: &VncPasswordStatus, now: Timestamp) -> bool {
    let Some(accepted) = &status.accepted else { return false };
    observed.spec.activation == Activation::Reboot
        && observed.allow_reboot
        && observed.plan.is_ok()
        && !accepted.unchanged
        && !moved_nothing(observed, status, accepted, now)
}

/// A second request only where the first moved nothing.
const MOST_REQUESTS: i32 = 2;

/// Whether the instance still runs as before although the last of the requests was made so long ago that it can no longer
/// arrive. Until then the restart may come, so the instance counts as one that the operator restarts.
fn moved_nothing(
    observed: &Observed,
    status: &VncPasswordStatus,
    accepted: &Accepted,
    now: Timestamp,
) -> bool {
    let Some(last) = requests(status, accepted).filter(|last| last.requests >= MOST_REQUESTS) else {
        return false;
    };
    let settled = settled_at(last.time.0, observed.settle);
    let running = status.instance.as_ref().and_then(|it| it.status.as_deref()) == Some(RUNNING);
    // A process that has not looked yet believes what the one before it saw.
    let seen = |look: &Look| look.at >= settled && matches!(look.found, Found::Seen(_));
    running && settled <= now && observed.look.as_ref().is_none_or(seen)
}

fn requests<'a>(status: &'a VncPasswordStatus, accepted: &Accepted) -> Option<&'a RebootRequest> {
    status.reboot_requested_at.as_deref().filter(|request| request.rotation == accepted.rotation)
}

fn reboot(observed: &Observed, status: &VncPasswordStatus, look: &Look, now: Timestamp) -> Reboot {
    let (Some(accepted), Found::Seen(seen), Ok(plan)) = (&status.accepted, &look.found, &observed.plan)
    else {
        return Reboot::Never;
    };
    // Without a start time to compare with, a restart would not be seen.
    let Some(baseline) = accepted.start_time.as_ref().map(|start| start.0) else { return Reboot::Never };
    if !will_reboot(observed, status, now) || seen.status != RUNNING || seen.locked {
        return Reboot::Never;
    }
    let former = requests(status, accepted);
    // Times are kept to the second, cut off.
    let settled = former.map(|former| settled_at(former.time.0, observed.settle));
    if former.is_some_and(|former| former.requests >= MOST_REQUESTS) {
        return settled.filter(|settled| *settled > now).map_or(Reboot::Look, Reboot::At);
    }
    // Start times are told to the minute: a restart within the same minute would not be seen either.
    let earliest = Some(after(baseline, Duration::from_secs(60))).max(settled).max(observed.reboot_opens);
    let earliest = earliest.map_or(now, |earliest| earliest.max(now));
    let Some(at) = plan.opening(earliest) else { return Reboot::Never };
    if at > now {
        return Reboot::At(at);
    }
    // After a first request only a look from after its time has passed tells that nothing has moved.
    if after(look.at, FRESH) <= now || settled.is_some_and(|settled| look.at < settled) {
        return Reboot::Look;
    }
    let requests = former.map_or(0, |former| former.requests) + 1;
    Reboot::Now(RebootRequest { time: seconds(now), rotation: accepted.rotation.clone(), requests })
}

/// The event of a request for a restart.
fn told(observed: &Observed, reply: &Reply) -> Note {
    let instance = &observed.spec.instance_id;
    let (warning, text) = match (outcome::classify(reply), reply) {
        (_, Reply::Accepted { request_id }) => {
            (false, format!("instance {instance} restarts for its new password; RequestId {request_id}"))
        }
        (Class::OutcomeUnknown, _) => {
            (true, format!("no readable reply came to the request to restart instance {instance}"))
        }
        (Class::Denied, Reply::Refused { code, .. }) => (
            true,
            format!(
                "the ECS API refused to restart instance {instance} (code {code}); grant ecs:RebootInstance on it to the \
                 operator's identity, or restart it yourself"
            ),
        ),
        (_, Reply::Refused { code, .. }) => {
            (true, format!("the ECS API refused to restart instance {instance} now (code {code})"))
        }
        (_, Reply::Unknown | Reply::NotSent | Reply::NoCredentials | Reply::CredentialsFailed(_)) => {
            (true, format!("the request to restart instance {instance} could not be sent"))
        }
    };
    Note { warning, reason: "Reboot", text }
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

/// The verdict of a password that waits for a restart; `look`: when to look next.
pub(super) fn waiting(
    observed: &Observed,
    status: VncPasswordStatus,
    effects: Effects,
    look: Timestamp,
    now: Timestamp,
) -> Verdict {
    let text = reboot_required(observed, &status, now);
    let progress = if will_reboot(observed, &status, now) { Progress::Reconciling } else { Progress::Rest };
    let (ready, ready_reason) = ready(observed, &status);
    let outlook = Outlook { ready_reason, ..Outlook::new(ready, progress, Reason::RebootRequired, text) };
    conclude(observed, status, &outlook, now, Effects { look: Some(look), ..effects })
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
            accepted: Some(Box::new(Accepted {
                rotation: "7".into(),
                time: Time(at(0)),
                unchanged: false,
                start_time: baseline.map(at).map(Time),
            })),
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
            let seen = SeenInstance {
                status: now.into(),
                io_optimized: Some(false),
                start_time: start.map(at),
                locked: false,
            };
            assert_eq!(sign(&status(was, before, baseline), &seen), expected, "{name}");
        }
    }
}
