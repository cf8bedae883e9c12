//! From an outlook to the status that says it: conditions, messages, events. Stable texts, no times, no counters.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::{
    decide::{Note, Verdict},
    facts::{Fingerprint, Observed, SecretRead, SecretVersion, Unsettled},
};
use crate::api::{Condition, ConditionStatus, ConditionType, Reason, VncPasswordStatus};

/// Whether anything goes on by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to do.
    Rest,
    /// Under way or retried by itself.
    Reconciling,
    /// Needs a person.
    Stalled,
}

/// What the conditions are to say.
pub(super) struct Outlook {
    pub ready: ConditionStatus,
    pub reason: Reason,
    pub progress: Progress,
    /// Where `Ready` keeps a reason of its own while something else goes on: a value in effect is sent again.
    pub ready_reason: Option<Reason>,
    pub message: String,
}

impl Outlook {
    pub fn new(ready: ConditionStatus, progress: Progress, reason: Reason, message: String) -> Self {
        Self { ready, reason, progress, ready_reason: None, message }
    }
}

/// To the second, as the API server stores it: what is compared later must be equal to what was written.
pub(super) fn seconds(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// Until when a call made now may still arrive. A whole second: it is compared with what the status keeps of it.
#[must_use]
pub fn settled_at(now: Timestamp, settle: std::time::Duration) -> Timestamp {
    let end = after(now, settle);
    Timestamp::from_second(end.as_second().saturating_add(1)).unwrap_or(Timestamp::MAX)
}

/// The time after a delay; the far end of time where there is no such time.
pub(super) fn after(at: Timestamp, delay: std::time::Duration) -> Timestamp {
    at.checked_add(delay).unwrap_or(Timestamp::MAX)
}

/// The message of a reason: what happened, to what, and what to do.
pub(super) fn message(reason: Reason, observed: &Observed, code: Option<&str>) -> String {
    let spec = &observed.spec;
    let instance = &spec.instance_id;
    let (secret, key) = (&spec.secret_ref.name, &spec.secret_ref.key);
    let region = observed.region.as_deref().unwrap_or("unknown");
    let code = code.unwrap_or("none");
    match reason {
        Reason::Applied => {
            format!(
                "instance {instance} accepted the value of key {key} of Secret {secret}, and it is in effect"
            )
        }
        Reason::Settling => format!(
            "the value of key {key} of Secret {secret} is in effect at instance {instance}; it is sent once more \
             when no late call of another value can arrive any more"
        ),
        Reason::LookupFailed => format!(
            "instance {instance} is looked up before its first password, but DescribeInstances does not answer in \
             region {region}; it is tried again"
        ),
        Reason::IncorrectInstanceStatus | Reason::InstanceNotReady => format!(
            "instance {instance} is in a state in which it takes no password; it is sent as soon as that changes"
        ),
        Reason::Throttled => format!(
            "the cloud account's limit on calls in region {region} is used up; instance {instance} waits its turn"
        ),
        Reason::OutcomeUnknown => format!(
            "no readable reply came for instance {instance}: the password may or may not be in effect; the same \
             one is sent again"
        ),
        Reason::Unreachable => format!(
            "the ECS API in region {region} cannot be reached, nothing was sent for instance {instance}; check \
             network policy, proxy, DNS, --endpoint-network and the region; it is tried again"
        ),
        Reason::SignatureRejected => format!(
            "the ECS API refused the signature of a call for instance {instance} (code {code}); it is signed \
             afresh; check the operator's clock if this stays"
        ),
        Reason::RebootRequired => format!(
            "instance {instance} accepted the value of key {key} of Secret {secret}, and it takes effect when the \
             instance is restarted; restart it"
        ),
        Reason::SecretNotFound => format!("Secret {secret} does not exist in this namespace; create it"),
        Reason::SecretKeyNotFound => {
            format!("Secret {secret} has no key {key}; add it, or name the right one in a new VncPassword")
        }
        Reason::SecretForbidden => {
            format!("the operator may not read Secret {secret}; grant it get on secrets in this namespace")
        }
        Reason::InvalidPassword => format!("{}; {RULE}", refused_value(observed, code)),
        Reason::InvalidRegion => {
            "no valid region is known: set spec.regionId to a region ID such as cn-hangzhou, \
                                  or start the operator with --region"
                .to_owned()
        }
        Reason::Conflict => "another VncPassword owns this instance; delete one of the two".to_owned(),
        Reason::InstanceNotFound => format!(
            "the ECS API does not know instance {instance} in region {region} (code {code}); check spec.instanceId \
             and spec.regionId"
        ),
        Reason::Denied => format!(
            "the ECS API denied the call for instance {instance} (code {code}); grant ecs:ModifyInstanceVncPasswd \
             on it to the operator's identity, or unlock the instance"
        ),
        Reason::InvalidCredentials => format!(
            "the ECS API or the credential provider did not accept the operator's credentials (code {code}); renew \
             the access key or the token"
        ),
        Reason::CredentialsNotFound => "no credentials are configured: set ALIBABA_CLOUD_ACCESS_KEY_ID and \
                                        ALIBABA_CLOUD_ACCESS_KEY_SECRET for the operator"
            .to_owned(),
        Reason::Refused => format!(
            "the ECS API refused the call for instance {instance} (code {code}); look the code up in the API's \
             error center"
        ),
        Reason::Suspended => "spec.suspend is set: nothing is done until it is removed".to_owned(),
        // Written elsewhere, or by others.
        Reason::InvalidObject | Reason::Unrecognized => String::new(),
    }
}

const RULE: &str = "a VNC password is exactly 6 of A-Z, a-z and 0-9, without the line break that echo adds (use \
                    printf or kubectl create secret --from-literal)";

fn refused_value(observed: &Observed, code: &str) -> String {
    let (secret, key) = (&observed.spec.secret_ref.name, &observed.spec.secret_ref.key);
    match &observed.read {
        Some(SecretRead::Invalid(_)) => {
            format!("the value of key {key} of Secret {secret} is no VNC password")
        }
        _ => format!("the ECS API refused the value of key {key} of Secret {secret} (code {code})"),
    }
}

/// The parts of a verdict that most decisions leave empty.
#[derive(Default)]
pub(super) struct Effects {
    pub wake: Option<Timestamp>,
    pub look: Option<Timestamp>,
    pub notes: Vec<Note>,
    pub applied_value: Option<(SecretVersion, Fingerprint)>,
    pub unsettled: Option<Unsettled>,
}

/// Writes the outlook into the status: conditions with their times kept where their status did not change.
pub(super) fn conclude(
    observed: &Observed,
    mut status: VncPasswordStatus,
    outlook: &Outlook,
    now: Timestamp,
    mut effects: Effects,
) -> Verdict {
    let at = (observed.generation, now);
    let ready_reason = outlook.ready_reason.unwrap_or(outlook.reason);
    let ready_message = match outlook.ready_reason {
        Some(reason) => message(reason, observed, None),
        None => outlook.message.clone(),
    };
    let mut conditions =
        vec![condition(ConditionType::Ready, outlook.ready, ready_reason, ready_message, at)];
    let mut flag = |type_, reason, message: String| {
        conditions.push(condition(type_, ConditionStatus::True, reason, message, at));
    };
    match outlook.progress {
        Progress::Rest => {}
        Progress::Reconciling => flag(ConditionType::Reconciling, outlook.reason, outlook.message.clone()),
        Progress::Stalled => flag(ConditionType::Stalled, outlook.reason, outlook.message.clone()),
    }
    for (holds, type_, reason) in [
        (status.accepted.is_some(), ConditionType::RebootRequired, Reason::RebootRequired),
        (observed.spec.suspend, ConditionType::Suspended, Reason::Suspended),
    ] {
        if holds {
            flag(type_, reason, message(reason, observed, None));
        }
    }
    stamp(&mut status, conditions, observed.generation);
    if let Some(note) = transition(&observed.status, outlook) {
        effects.notes.push(note);
    }
    Verdict::of(status, effects)
}

/// The status of an object whose spec cannot be read: what else stands in it stays.
#[must_use]
pub fn invalid_object(status: &VncPasswordStatus, generation: i64, now: Timestamp) -> VncPasswordStatus {
    let mut status = status.clone();
    let text = "the object does not fit the schema of this operator: apply the operator's CRDs, then mend the object";
    let conditions =
        [(ConditionType::Ready, ConditionStatus::False), (ConditionType::Stalled, ConditionStatus::True)]
            .map(|(type_, truth)| {
                condition(type_, truth, Reason::InvalidObject, text.to_owned(), (generation, now))
            });
    stamp(&mut status, conditions.into(), generation);
    status
}

fn condition(
    type_: ConditionType,
    status: ConditionStatus,
    reason: Reason,
    message: String,
    (generation, now): (i64, Timestamp),
) -> Condition {
    let (last_transition_time, observed_generation) = (seconds(now), Some(generation));
    Condition { type_, status, reason, message, last_transition_time, observed_generation }
}

/// Puts the conditions into the status; those whose truth did not change keep their time.
fn stamp(status: &mut VncPasswordStatus, mut conditions: Vec<Condition>, generation: i64) {
    for condition in &mut conditions {
        if let Some(old) = status.condition(condition.type_)
            && old.status == condition.status
        {
            condition.last_transition_time = old.last_transition_time.clone();
        }
    }
    status.conditions = conditions;
    status.observed_generation = Some(generation);
}

/// One event when something new stands in the way; progress itself is told by the notes of the call.
fn transition(old: &VncPasswordStatus, outlook: &Outlook) -> Option<Note> {
    let (type_, warning) = match outlook.progress {
        Progress::Rest => return None,
        Progress::Stalled => (ConditionType::Stalled, true),
        Progress::Reconciling => (ConditionType::Reconciling, outlook.reason == Reason::OutcomeUnknown),
    };
    (old.reason(type_) != Some(outlook.reason) && outlook.reason != Reason::Settling).then(|| Note {
        warning,
        reason: outlook.reason.as_str(),
        text: outlook.message.clone(),
    })
}
