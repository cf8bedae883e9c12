//! Why a `ClusterVncPassword` is in its state, in sentences.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    advice::{Subject, advice},
    common::{conditions, events, remedy, window},
    view::FleetView,
};
use crate::text::{Paragraph, Topic, count, moment, printable, quoted, sentence};
use vncpassword_core::{
    api::{
        Activation, ClusterVncPassword, ClusterVncPasswordStatus, ROTATE_AT, Rollout, SkipReason, Trigger,
    },
    fleet::{Limits, secret_name},
    rotation::{rotate_at::RotateAt, schedule},
};

/// Why it is in its state, and what to do.
pub fn explain_fleet(view: &FleetView) -> Vec<Paragraph> {
    let fleet = &view.fleet;
    let fallback = ClusterVncPasswordStatus::default();
    let status = fleet.status.as_ref().unwrap_or(&fallback);
    let mut sentences = vec![what(fleet, status)];
    sentences.extend(conditions(
        &status.conditions,
        status.observed_generation,
        fleet.metadata.generation,
        view.now,
    ));
    sentences.extend(status.rollout.as_ref().map(|rollout| progress(fleet, rollout, view.now)));
    sentences.extend(numbers(status));
    sentences.extend(failures(fleet, status));
    sentences.extend(skipped(status));
    sentences.extend(schedule(view, status));
    sentences.extend(events(&view.events, view.now));
    sentences.extend(remedies(view, status));
    sentences
}

fn what(fleet: &ClusterVncPassword, status: &ClusterVncPasswordStatus) -> Paragraph {
    let spec = &fleet.spec;
    let selects = match (&spec.node_selector, &spec.tags) {
        (Some(_), _) => "the instances behind the Nodes that fit spec.nodeSelector",
        (None, Some(_)) => "the instances with the tags of spec.tags",
        (None, None) => "the instances of spec.instanceIds",
    };
    let found = if status.conditions.is_empty() {
        String::new()
    } else {
        format!(", {} at present", status.discovered)
    };
    let text = format!(
        "ClusterVncPassword {} keeps a VncPassword in namespace {} for {selects}{found}.",
        fleet.name_any(),
        spec.target_namespace
    );
    Paragraph::new(Topic::Object, text)
}

fn progress(fleet: &ClusterVncPassword, rollout: &Rollout, now: Timestamp) -> Paragraph {
    let Rollout { trigger, started_at, updated, total, failed, eta, completed_at, halted_at, .. } = rollout;
    let why = match trigger {
        Trigger::Initial => "the first passwords",
        Trigger::Schedule => "a turn of spec.rotation",
        Trigger::OnDemand => "asked for by hand",
    };
    let failed = if *failed > 0 { format!(", {failed} failed") } else { String::new() };
    let how = match (completed_at, halted_at, eta) {
        (Some(at), _, _) => format!("ended at {}", moment(at.0, now)),
        (None, Some(at), _) => format!("halted at {}", moment(at.0, now)),
        (None, None, Some(eta)) => format!("ends at about {} at the pace so far", moment(eta.0, now)),
        (None, None, None) => "its end cannot be told yet".to_owned(),
    };
    let wave = Limits::of(&fleet.spec).wave();
    let text = format!(
        "The newest rollout ({why}) began at {}: {updated} of {total} are rotated{failed}; {how}. At most {wave} are on their way \
         at once.",
        moment(started_at.0, now)
    );
    Paragraph::new(Topic::State, text)
}

/// What is not simply done.
fn numbers(status: &ClusterVncPasswordStatus) -> Option<Paragraph> {
    let all = [
        (status.rotating, "with a password on its way"),
        (status.waiting, "stopped or suspended, which the rollout does not wait for"),
        (status.failed, "that need a person"),
        (status.reboot_required, "with a password that waits for a restart"),
        (status.owned_elsewhere, "left to another VncPassword"),
    ];
    let some = all.iter().filter(|(number, _)| *number > 0);
    let some: Vec<String> = some.map(|(number, what)| format!("{number} {what}")).collect();
    (!some.is_empty()).then(|| {
        let text =
            format!("Of {} there are {}.", count(status.discovered as usize, "instance"), some.join(", "));
        Paragraph::new(Topic::Members, text)
    })
}

/// The newest failures, each with where to ask on.
fn failures(fleet: &ClusterVncPassword, status: &ClusterVncPasswordStatus) -> Option<Paragraph> {
    let first = status.failures.first()?;
    let lines = status.failures.iter().map(|failure| {
        format!("- {} ({}): {}", failure.name, failure.reason.as_str(), printable(&failure.message))
    });
    let text = std::iter::once("The newest failures:".to_owned()).chain(lines).collect::<Vec<_>>().join("\n");
    let ask = format!(
        "kubectl vncpassword explain {} -n {}",
        quoted(&first.name),
        quoted(&fleet.spec.target_namespace)
    );
    Some(Paragraph::new(Topic::Members, text).with(vec![ask]))
}

fn skipped(status: &ClusterVncPasswordStatus) -> Option<Paragraph> {
    let first = status.skipped_nodes.first()?;
    let lines = status
        .skipped_nodes
        .iter()
        .map(|skipped| format!("- {} {}", skipped.node, skip_reason(skipped.reason)));
    let head = format!(
        "{} no instance, among them:",
        match status.skipped {
            1 => "1 Node stands for".to_owned(),
            many => format!("{many} Nodes stand for"),
        }
    );
    let text = std::iter::once(head).chain(lines).collect::<Vec<_>>().join("\n");
    let look = format!("kubectl get node {} -o jsonpath='{{.spec.providerID}}'", quoted(&first.node));
    Some(Paragraph::new(Topic::Members, text).with(vec![look]))
}

/// Why a Node stands for no instance.
pub fn skip_reason(reason: SkipReason) -> &'static str {
    match reason {
        SkipReason::NoProviderId => "has no providerID yet: the cloud controller manager has not been there",
        SkipReason::ForeignProviderId => "has a providerID of another cloud",
        SkipReason::MalformedProviderId => "has a providerID that names no instance",
        SkipReason::DuplicateProviderId => "has a providerID that another Node has as well",
    }
}

fn schedule(view: &FleetView, status: &ClusterVncPasswordStatus) -> Option<Paragraph> {
    let (spec, now) = (&view.fleet.spec, view.now);
    let plan = match schedule::Plan::new(spec.rotation.as_deref(), spec.window.as_deref()) {
        Ok(plan) => plan,
        Err(problem) => return Some(Paragraph::new(Topic::Schedule, sentence(&problem.to_string()))),
    };
    let mut sentences = Vec::new();
    if let Some(next) = &status.next_rotation_time {
        sentences.push(format!("The next scheduled rollout begins at {}.", moment(next.0, now)));
    }
    sentences.extend(spec.window.as_ref().map(|_| window(&plan, "Scheduled rollouts and restarts", now)));
    sentences.extend(asked(view, status));
    (!sentences.is_empty()).then(|| Paragraph::new(Topic::Schedule, sentences.join(" ")))
}

fn asked(view: &FleetView, status: &ClusterVncPasswordStatus) -> Option<String> {
    let (fleet, now) = (&view.fleet, view.now);
    let at = match RotateAt::parse(fleet.annotations().get(ROTATE_AT).map(String::as_str)) {
        RotateAt::Never => return None,
        RotateAt::Invalid => {
            return Some(format!("The annotation {ROTATE_AT} is no time, so no rollout begins for it."));
        }
        at @ RotateAt::At(_) => at,
    };
    let created = fleet.creation_timestamp().map_or(Timestamp::MIN, |at| at.0);
    let handled = status.last_handled_rotate_at.as_ref().map(|at| at.0);
    let due = at.due(created, handled, status.rollout.as_ref().map(|rollout| rollout.started_at.0))?;
    let waits = if fleet.spec.suspend {
        "it waits until spec.suspend is taken away".to_owned()
    } else if due > now {
        format!("it is due at {}", moment(due, now))
    } else {
        "it is about to begin".to_owned()
    };
    Some(format!("{ROTATE_AT} asks for a rollout: {waits}."))
}

fn remedies(view: &FleetView, status: &ClusterVncPasswordStatus) -> Vec<Paragraph> {
    let spec = &view.fleet.spec;
    let template = spec.template.as_deref();
    let name = view.fleet.name_any();
    let secret =
        secret_name(template.and_then(|template| template.secret_name.as_deref()), &name, "INSTANCE");
    let subject = Subject {
        name: &name,
        secret: &secret,
        key: template.and_then(|template| template.secret_key.as_deref()).unwrap_or("password"),
        generated: true,
        reboots: template.is_some_and(|template| template.activation == Activation::Reboot),
        credentials: template
            .and_then(|template| template.credentials_ref.as_ref())
            .map(|secret| secret.name.as_str()),
        target: Some(&spec.target_namespace),
        operator: &view.operator,
        ..Subject::default()
    };
    remedy(&status.conditions, |reason| advice(reason, &subject))
}
