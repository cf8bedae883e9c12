//! When a rollout ends at the pace so far.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{plan::Fleet, tally::Tally};
use crate::{
    api::{Rollout, Trigger},
    rotation::{
        schedule,
        verdict::{after, seconds},
    },
};

/// So much later, at least, is an end that has passed told anew: the last instance may take long, and each time is a write.
const LATER: Duration = Duration::from_secs(5);

/// The end as far as can be told. It is told anew a wave at a time, so that neither one more instance nor a moment more makes
/// a write, and so that instances that finish together count together.
pub(super) fn eta(
    fleet: &Fleet,
    before: Option<&Rollout>,
    rollout: &Rollout,
    tally: &Tally,
    now: Timestamp,
) -> Option<Time> {
    if rollout.completed_at.is_some() || rollout.halted_at.is_some() || fleet.suspended {
        return None;
    }
    let before = before.filter(|before| before.id == rollout.id && before.pace_from == rollout.pace_from);
    let told = before.and_then(|before| before.eta.clone()).filter(|eta| eta.0 > now);
    let steps = |rollout: &Rollout| done(rollout) / step(fleet, rollout);
    let same = before.is_some_and(|before| steps(before) == steps(rollout) && before.total == rollout.total);
    if same && told.is_some() {
        return told;
    }
    reckon(fleet, rollout, tally, same, now).map(seconds)
}

/// How many make a step: a wave, or a tenth of all, whichever is smaller.
fn step(fleet: &Fleet, rollout: &Rollout) -> u32 {
    fleet.limits.wave().min(rollout.total / 10).max(1)
}

/// How many were rotated since the pace is counted.
fn done(rollout: &Rollout) -> u32 {
    rollout.updated.saturating_sub(rollout.pace_from.updated)
}

fn reckon(fleet: &Fleet, rollout: &Rollout, tally: &Tally, again: bool, now: Timestamp) -> Option<Timestamp> {
    let done = done(rollout);
    if done < step(fleet, rollout) {
        return None;
    }
    let left = tally.missing + tally.unasked + tally.rotating;
    if left == 0 {
        return None;
    }
    let since = rollout.pace_from.time.0;
    let window = match rollout.trigger {
        Trigger::Schedule => Some(fleet.schedule.as_ref().ok()?),
        Trigger::Initial | Trigger::OnDemand => None,
    };
    let worked = match window {
        Some(plan) => schedule::Plan::open_time(plan, since, now)?,
        None => Duration::try_from(now.duration_since(since)).ok()?,
    };
    let needed =
        Duration::try_from_secs_f64(worked.as_secs_f64() * f64::from(left) / f64::from(done)).ok()?;
    // What went before the limit was met was faster than what is to come.
    let needed = needed.max(fleet.spacing.unwrap_or_default().saturating_mul(left));
    let needed = if again { needed.max(worked / 20).max(LATER) } else { needed };
    match window {
        Some(plan) => plan.after_open_time(now, needed),
        None => Some(after(now, needed)),
    }
}
