//! The metrics of fleets, from the counters in their status.

use std::fmt;

use jiff::Timestamp;
use prometheus_client::registry::Unit;

use super::{Column, Families, seconds, time};
use crate::runtime::metrics::FleetView;
use vncpassword_core::api::{ConditionStatus, ConditionType};

const NUMBERS: [Column<FleetView, i64>; 9] = [
    ("vncpassword_fleet_instances", "Instances that a fleet selects", |fleet| {
        Some(fleet.status.discovered.into())
    }),
    ("vncpassword_fleet_skipped_nodes", "Nodes that stand for no instance, or for another Node's", |fleet| {
        Some(fleet.status.skipped.into())
    }),
    ("vncpassword_fleet_ready", "Whether a fleet is Ready; 0 where that is not known, too", |fleet| {
        let ready = fleet.status.condition(ConditionType::Ready);
        Some(ready.is_some_and(|ready| ready.status == ConditionStatus::True).into())
    }),
    ("vncpassword_fleet_suspended", "Whether a fleet is suspended", |fleet| {
        Some(fleet.spec.as_ref().is_some_and(|spec| spec.suspend).into())
    }),
    ("vncpassword_fleet_rollout_active", "Whether a rollout is under way, be it halted", |fleet| {
        let rollout = fleet.status.rollout.as_ref();
        Some(rollout.is_some_and(|rollout| rollout.completed_at.is_none()).into())
    }),
    ("vncpassword_fleet_rollout_halted", "Whether the rollout has halted because of failures", |fleet| {
        let rollout = fleet.status.rollout.as_ref();
        Some(rollout.is_some_and(|rollout| rollout.halted_at.is_some()).into())
    }),
    ("vncpassword_fleet_rollout_instances", "Instances that the newest rollout is for", |fleet| {
        Some(fleet.status.rollout.as_ref()?.total.into())
    }),
    (
        "vncpassword_fleet_rollout_updated_instances",
        "Instances with a password that was drawn for the newest rollout or later",
        |fleet| Some(fleet.status.rollout.as_ref()?.updated.into()),
    ),
    (
        "vncpassword_fleet_rollout_failed_instances",
        "Instances that failed in the newest rollout, and need a person",
        |fleet| Some(fleet.status.rollout.as_ref()?.failed.into()),
    ),
];

const TIMES: [Column<FleetView, Timestamp>; 4] = [
    ("vncpassword_fleet_rollout_started_timestamp", "When the newest rollout began", |fleet| {
        time(fleet.status.rollout.as_ref().map(|rollout| &rollout.started_at))
    }),
    (
        "vncpassword_fleet_rollout_eta_timestamp",
        "When the rollout ends at the pace so far; absent where that cannot be told",
        |fleet| time(fleet.status.rollout.as_ref()?.eta.as_ref()),
    ),
    ("vncpassword_fleet_last_rotation_timestamp", "When a rollout last came to its end", |fleet| {
        time(fleet.status.last_rotation_time.as_ref())
    }),
    ("vncpassword_fleet_next_rotation_timestamp", "When the next scheduled rollout starts", |fleet| {
        time(fleet.status.next_rotation_time.as_ref())
    }),
];

impl Families<'_> {
    pub(super) fn fleets(&mut self, fleets: &[FleetView]) -> fmt::Result {
        for (name, help, of) in NUMBERS {
            let samples = fleets.iter().filter_map(|fleet| Some(([("fleet", &*fleet.name)], of(fleet)?)));
            self.gauge(name, help, None, samples)?;
        }
        self.gauge(
            "vncpassword_fleet_instances_by_state",
            "Instances that a fleet selects, by what they are; one can be several",
            None,
            fleets.iter().flat_map(|fleet| {
                states(fleet).map(|(state, count)| ([("fleet", &*fleet.name), ("state", state)], count))
            }),
        )?;
        for (name, help, of) in TIMES {
            let samples =
                fleets.iter().filter_map(|fleet| Some(([("fleet", &*fleet.name)], seconds(of(fleet)?))));
            self.gauge(name, help, Some(&Unit::Seconds), samples)?;
        }
        Ok(())
    }
}

fn states(fleet: &FleetView) -> [(&'static str, i64); 6] {
    let status = &fleet.status;
    [
        ("ready", status.ready),
        ("rotating", status.rotating),
        ("waiting", status.waiting),
        ("failed", status.failed),
        ("reboot_required", status.reboot_required),
        ("owned_elsewhere", status.owned_elsewhere),
    ]
    .map(|(state, count)| (state, count.into()))
}
