//! The input of a plan: a fleet and its rollout limits, without its members.

use std::time::Duration;

use jiff::Timestamp;

use crate::{
    api::{Activation, ClusterVncPasswordSpec, ClusterVncPasswordStatus, Prune, Rollout},
    rotation::{
        rotate_at::RotateAt,
        schedule::{self, InvalidSchedule},
    },
};

/// A fleet, without its members.
#[derive(Clone, Debug)]
pub struct Fleet<'a> {
    /// `metadata.generation`.
    pub generation: i64,
    /// `metadata.creationTimestamp`.
    pub created: Timestamp,
    /// The last status written.
    pub status: &'a ClusterVncPasswordStatus,
    /// The annotation `vncpassword.dev/rotate-at`.
    pub rotate_at: RotateAt,
    /// `spec.rotation` and `spec.window`, parsed.
    pub schedule: Result<schedule::Plan, InvalidSchedule>,
    /// Whether `spec.window` is valid, so that member objects can have it.
    pub window_valid: bool,
    /// The rollout limits.
    pub limits: Limits,
    /// `spec.prune`.
    pub prune: Prune,
    /// `spec.suspend`.
    pub suspended: bool,
    /// Whether the discovered instances are unconfirmed or unknown. If so, nothing is pruned.
    pub degraded: bool,
    /// The shortest time between two calls, if the API limits their rate.
    pub spacing: Option<Duration>,
}

/// The rollout limits: how many members rotate at the same time, and how many failures halt a rollout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Maximum number of member objects that rotate at the same time.
    pub max_concurrent: u32,
    /// Maximum size of a wave if the operator restarts instances.
    pub max_unavailable: u32,
    /// Number of failures that halts a rollout.
    pub pause_after_failures: u32,
    /// Whether the operator restarts instances.
    pub reboot: bool,
}

impl Limits {
    /// Reads the limits of a spec.
    #[must_use]
    pub fn of(spec: &ClusterVncPasswordSpec) -> Self {
        let rollout = spec.rollout.unwrap_or_default();
        // The API server refuses 0. With 0, a rollout would never continue.
        let at_least_one = |limit: u16| u32::from(limit).max(1);
        Self {
            max_concurrent: at_least_one(rollout.max_concurrent),
            max_unavailable: at_least_one(rollout.max_unavailable),
            pause_after_failures: at_least_one(rollout.pause_after_failures),
            reboot: spec.template.as_ref().is_some_and(|template| template.activation == Activation::Reboot),
        }
    }

    /// The maximum size of a wave. It is not known in advance which instances will need a restart.
    #[must_use]
    pub fn wave(&self) -> u32 {
        if self.reboot { self.max_concurrent.min(self.max_unavailable) } else { self.max_concurrent }
    }

    /// The number of failures that halts a rollout. If the operator restarts instances, each failed one keeps
    /// its slot: it may recover and be restarted at any time.
    pub(super) fn failures_to_halt(&self) -> u32 {
        if self.reboot { self.pause_after_failures.min(self.wave()) } else { self.pause_after_failures }
    }
}

impl<'a> Fleet<'a> {
    /// Reads a spec.
    #[must_use]
    pub fn new(
        spec: &ClusterVncPasswordSpec,
        status: &'a ClusterVncPasswordStatus,
        (generation, created): (i64, Timestamp),
        rotate_at: RotateAt,
        degraded: bool,
    ) -> Self {
        let window = spec.window.as_deref();
        Self {
            generation,
            created,
            status,
            rotate_at,
            schedule: schedule::Plan::new(spec.rotation.as_deref(), window),
            window_valid: schedule::Plan::new(None, window).is_ok(),
            limits: Limits::of(spec),
            prune: spec.prune,
            suspended: spec.suspend,
            degraded,
            spacing: None,
        }
    }

    pub(super) fn rollout(&self) -> Option<&Rollout> {
        self.status.rollout.as_ref()
    }

    /// When the rollout that the annotation requests is due.
    pub(super) fn on_demand(&self) -> Option<Timestamp> {
        let handled = self.status.last_handled_rotate_at.as_ref().map(|at| at.0);
        self.rotate_at.due(self.created, handled, self.rollout().map(|rollout| rollout.started_at.0))
    }

    /// When the next scheduled rollout is due, counted from the start of the last rollout.
    pub(super) fn next_scheduled_rollout(&self, now: Timestamp) -> Option<Timestamp> {
        self.schedule.as_ref().ok()?.next(self.rollout()?.started_at.0, 0.0, now)
    }

    /// Whether scheduled rotations may start now.
    pub(super) fn is_window_open(&self, now: Timestamp) -> bool {
        self.schedule.as_ref().is_ok_and(|plan| plan.is_open(now))
    }
}
