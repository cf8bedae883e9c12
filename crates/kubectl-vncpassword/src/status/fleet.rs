//! A `ClusterVncPassword` as a page, or as a line: how far it is, what is in the way, and the newest failures.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{
    ages,
    output::{Column, Table},
    progress,
};
use vncpassword_core::api::{
    ClusterVncPassword, ClusterVncPasswordStatus, Condition, ConditionStatus, ConditionType, Rollout, Trigger,
};

/// Cells of the bar on the page.
const BAR: usize = 24;

/// The titles of a table of fleets.
pub fn head() -> Vec<Column> {
    vec![
        Column::new("NAME"),
        Column::new("IN EFFECT"),
        Column::new("ROLLOUT"),
        Column::expendable("NEXT", 1),
        Column::new("WHY"),
    ]
}

/// The cells of one fleet.
pub fn cells(fleet: &ClusterVncPassword, now: Timestamp) -> Vec<String> {
    let nothing = ClusterVncPasswordStatus::default();
    let status = fleet.status.as_ref().unwrap_or(&nothing);
    vec![
        fleet.name_any(),
        format!("{}/{}", status.ready, status.discovered),
        status.rollout.as_ref().map_or_else(|| "-".to_owned(), |rollout| stage(rollout, now)),
        next(fleet, status, now),
        why(fleet),
    ]
}

/// How far a rollout is, in a few words.
fn stage(rollout: &Rollout, now: Timestamp) -> String {
    let Rollout { updated, total, .. } = rollout;
    match (&rollout.completed_at, &rollout.halted_at) {
        (Some(at), _) => format!("{updated}/{total} {} ago", ages::since(at.0, now)),
        (None, Some(_)) => format!("{updated}/{total} halted"),
        (None, None) => format!("{updated}/{total}"),
    }
}

fn next(fleet: &ClusterVncPassword, status: &ClusterVncPasswordStatus, now: Timestamp) -> String {
    if fleet.spec.suspend {
        return "suspended".to_owned();
    }
    match &status.next_rotation_time {
        Some(at) => ages::until(at.0, now).map_or_else(|| "due".to_owned(), |left| format!("in {left}")),
        None => "on demand".to_owned(),
    }
}

/// The condition that says what is in the way, or under way.
fn telling(fleet: &ClusterVncPassword) -> Option<&Condition> {
    let status = fleet.status.as_ref()?;
    let types = [ConditionType::Stalled, ConditionType::DiscoveryDegraded, ConditionType::Reconciling];
    let cause = types.into_iter().find_map(|type_| status.condition(type_));
    cause.or_else(|| {
        status.condition(ConditionType::Ready).filter(|ready| ready.status != ConditionStatus::True)
    })
}

fn why(fleet: &ClusterVncPassword) -> String {
    match telling(fleet) {
        Some(condition) => format!("{}: {}", condition.reason.as_str(), condition.message),
        None if fleet.status.is_none() => "the operator has not looked at it yet".to_owned(),
        None => String::new(),
    }
}

/// One line for `--watch`.
pub fn line(fleet: &ClusterVncPassword, now: Timestamp) -> String {
    let [name, in_effect, rollout, _, why] = <[String; 5]>::try_from(cells(fleet, now)).unwrap_or_default();
    let eta = fleet
        .status
        .as_ref()
        .and_then(|status| status.rollout.as_ref())
        .and_then(|rollout| left(rollout, now));
    let eta = eta.map_or_else(String::new, |left| format!(", about {left} left"));
    let why = if why.is_empty() { why } else { format!("; {why}") };
    format!("{name}: {in_effect} in effect, rollout {rollout}{eta}{why}")
}

/// How long a rollout takes still, where that is known.
fn left(rollout: &Rollout, now: Timestamp) -> Option<String> {
    if rollout.completed_at.is_some() || rollout.halted_at.is_some() {
        return None;
    }
    ages::until(rollout.eta.as_ref()?.0, now)
}

/// All that is known of a fleet.
pub fn page(fleet: &ClusterVncPassword, now: Timestamp, width: Option<usize>) -> String {
    let nothing = ClusterVncPasswordStatus::default();
    let status = fleet.status.as_ref().unwrap_or(&nothing);
    let mut lines = vec![format!(
        "Fleet {}, VncPasswords in namespace {}",
        fleet.name_any(),
        fleet.spec.target_namespace
    )];
    let mut line = |label: &str, value: &str| {
        if !value.is_empty() {
            lines.push(format!("  {label:<10} {value}"));
        }
    };
    if let Some(rollout) = &status.rollout {
        line("rollout", &begun(rollout, now));
        line("", &bar(rollout, now));
    }
    line("instances", &counts(status));
    line("next", &next(fleet, status, now));
    line("why", &why(fleet));
    let nodes: Vec<String> = status
        .skipped_nodes
        .iter()
        .map(|skipped| format!("{} ({:?})", skipped.node, skipped.reason))
        .collect();
    line("skipped", &nodes.join(", "));
    let mut text = lines.join("\n") + "\n";
    if !status.failures.is_empty() {
        text += &failures(status, width);
    }
    text
}

/// Why the rollout began, and whether it goes on.
fn begun(rollout: &Rollout, now: Timestamp) -> String {
    let trigger = match rollout.trigger {
        Trigger::Initial => "first passwords",
        Trigger::Schedule => "by schedule",
        Trigger::OnDemand => "on demand",
    };
    let began = ages::since(rollout.started_at.0, now);
    let stage = match (&rollout.completed_at, &rollout.halted_at) {
        (Some(at), _) => format!("ended {} ago", ages::since(at.0, now)),
        (None, Some(at)) => format!("halted {} ago", ages::since(at.0, now)),
        (None, None) => "under way".to_owned(),
    };
    format!("{trigger}, began {began} ago, {stage}")
}

fn bar(rollout: &Rollout, now: Timestamp) -> String {
    let Rollout { updated, total, failed, .. } = *rollout;
    let bar = progress::bar(updated.into(), total.into(), BAR);
    let mut parts = vec![format!("{bar} {updated}/{total}")];
    if failed > 0 {
        parts.push(format!("{failed} failed"));
    }
    if let Some(left) = left(rollout, now) {
        parts.push(format!("about {left} left"));
    }
    parts.join(", ")
}

fn counts(status: &ClusterVncPasswordStatus) -> String {
    let counts = [
        (status.ready, "in effect"),
        (status.rotating, "rotating"),
        (status.waiting, "waiting"),
        (status.failed, "failed"),
        (status.reboot_required, "waiting for a restart"),
        (status.owned_elsewhere, "owned elsewhere"),
        (status.skipped, "Nodes skipped"),
    ];
    let shown = counts.iter().enumerate().filter(|(at, (count, _))| *at == 0 || *count > 0);
    let shown: Vec<String> = shown.map(|(_, (count, what))| format!("{count} {what}")).collect();
    format!("{}: {}", status.discovered, shown.join(", "))
}

fn failures(status: &ClusterVncPasswordStatus, width: Option<usize>) -> String {
    let columns = vec![
        Column::new("FAILED"),
        Column::expendable("INSTANCE", 1),
        Column::new("REASON"),
        Column::new("MESSAGE"),
    ];
    let mut table = Table::new(columns);
    for failure in &status.failures {
        table.row(vec![
            failure.name.clone(),
            failure.instance_id.clone(),
            failure.reason.as_str().to_owned(),
            failure.message.clone(),
        ]);
    }
    format!("\n{}", table.text(width))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn now() -> Timestamp {
        "2026-01-03T00:00:00Z".parse().unwrap()
    }

    fn fleet(status: &Value) -> ClusterVncPassword {
        serde_json::from_value(json!({
            "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "metadata": {"name": "nodes"},
            "spec": {"nodeSelector": {}, "targetNamespace": "vnc-passwords"}, "status": status,
        }))
        .unwrap()
    }

    fn rolling() -> Value {
        json!({
            "conditions": [{"type": "Reconciling", "status": "True", "reason": "RollingOut", "message": "passwords are rotated",
                "lastTransitionTime": "2026-01-02T00:00:00Z"}],
            "discovered": 2000, "ready": 1990, "rotating": 10, "failed": 2,
            "rollout": {"id": "2026-01-02T23:57:00Z", "trigger": "OnDemand", "startedAt": "2026-01-02T23:57:00Z",
                "updated": 500, "total": 2000, "failed": 2, "eta": "2026-01-03T00:14:00Z",
                "paceFrom": {"time": "2026-01-02T23:57:00Z", "updated": 0}},
            "failures": [{"name": "nodes-i-bp1", "instanceId": "i-bp1", "reason": "Denied",
                "message": "the ECS API denied the call for instance i-bp1"}],
        })
    }

    #[test]
    fn a_page_tells_how_far_it_is_and_what_failed() {
        assert_eq!(
            page(&fleet(&rolling()), now(), Some(70)),
            "\
Fleet nodes, VncPasswords in namespace vnc-passwords
  rollout    on demand, began 3m ago, under way
             [######------------------] 500/2000, 2 failed, about 14m left
  instances  2000: 1990 in effect, 10 rotating, 2 failed
  next       on demand
  why        RollingOut: passwords are rotated

FAILED        INSTANCE   REASON   MESSAGE
nodes-i-bp1   i-bp1      Denied   the ECS API denied the call for ins…
"
        );
        let line = line(&fleet(&rolling()), now());
        let expected =
            "nodes: 1990/2000 in effect, rollout 500/2000, about 14m left; RollingOut: passwords are rotated";
        assert_eq!(line, expected);
    }

    #[test]
    fn a_fleet_that_nobody_looked_at_is_a_page_too() {
        let mut fleet = fleet(&json!({}));
        fleet.status = None;
        let page = page(&fleet, now(), None);
        assert!(page.contains("the operator has not looked at it yet"), "{page}");
    }
}
