//! Estimates when a rollout ends.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{counts::Counts, input::Fleet};
use crate::{
    api::{Rollout, Trigger},
    rotation::{
        schedule,
        verdict::{after, seconds},
    },
};

/// Minimum by which an estimate that has passed is extended. The last instance may take long, and each new
/// estimate is a status write.
const MIN_EXTENSION: Duration = Duration::from_secs(5);

/// Estimates the end of `rollout`. `previous`: the rollout in the status.
///
/// The estimate changes once per step (see [`step`]), so that a single instance or the passage of time causes
/// no write.
pub(super) fn eta(
    fleet: &Fleet,
    previous: Option<&Rollout>,
    rollout: &Rollout,
    counts: &Counts,
    now: Timestamp,
) -> Option<Time> {
    if rollout.completed_at.is_some() || rollout.halted_at.is_some() || fleet.suspended {
        return None;
    }
    let previous = previous.filter(|last| last.id == rollout.id && last.pace_from == rollout.pace_from);
    let previous_eta = previous.and_then(|last| last.eta.clone()).filter(|eta| eta.0 > now);
    let steps = |rollout: &Rollout| done(rollout) / step(fleet, rollout);
    let same_step = previous.is_some_and(|last| steps(last) == steps(rollout) && last.total == rollout.total);
    if same_step && previous_eta.is_some() {
        return previous_eta;
    }
    estimate(fleet, rollout, counts, same_step, now).map(seconds)
}

/// The number of rotations after which the estimate is renewed: a wave or a tenth of all, whichever is
/// smaller.
fn step(fleet: &Fleet, rollout: &Rollout) -> u32 {
    fleet.limits.wave().min(rollout.total / 10).max(1)
}

/// The number of instances rotated since `paceFrom`.
fn done(rollout: &Rollout) -> u32 {
    rollout.updated.saturating_sub(rollout.pace_from.updated)
}

/// Extrapolates the pace since `paceFrom`. `extends`: replaces an estimate of the same step that has passed.
fn estimate(
    fleet: &Fleet,
    rollout: &Rollout,
    counts: &Counts,
    extends: bool,
    now: Timestamp,
) -> Option<Timestamp> {
    let done = done(rollout);
    if done < step(fleet, rollout) {
        return None;
    }
    let left = counts.missing + counts.to_rotate + counts.rotating;
    if left == 0 {
        return None;
    }
    let since = rollout.pace_from.time.0;
    let window = match rollout.trigger {
        Trigger::Schedule => Some(fleet.schedule.as_ref().ok()?),
        Trigger::Initial | Trigger::OnDemand => None,
    };
    let elapsed = match window {
        Some(plan) => schedule::Plan::open_time(plan, since, now)?,
        None => Duration::try_from(now.duration_since(since)).ok()?,
    };
    let needed =
        Duration::try_from_secs_f64(elapsed.as_secs_f64() * f64::from(left) / f64::from(done)).ok()?;
    // The first calls are faster than the rate limit allows in the long run.
    let needed = needed.max(fleet.spacing.unwrap_or_default().saturating_mul(left));
    let needed = if extends { needed.max(elapsed / 20).max(MIN_EXTENSION) } else { needed };
    match window {
        Some(plan) => plan.after_open_time(now, needed),
        None => Some(after(now, needed)),
    }
}
