//! Why a `VncPassword` is in its state, in sentences.

use jiff::Timestamp;
use kube::ResourceExt;

use super::{
    advice::{Actor, Subject, advice},
    common::{conditions, events, remedy, window},
    view::{ObjectView, SecretState},
};
use crate::{
    error::some_of,
    fetched::Fetched,
    text::{Paragraph, Topic, count, moment, quoted, sentence},
};
use vncpassword_core::{
    api::{Activation, ConditionType, ROTATE_AT, Reason, Retry, SecretRef, VncPassword, VncPasswordStatus},
    rotation::{denied, rotate_at::RotateAt, schedule},
};

/// Why it is in its state, and what to do.
pub fn explain_object(view: &ObjectView) -> Vec<Paragraph> {
    let object = &view.object;
    let fallback = VncPasswordStatus::default();
    let status = object.status.as_ref().unwrap_or(&fallback);
    let mut sentences = vec![what(object, status)];
    sentences.extend(conditions(
        &status.conditions,
        status.observed_generation,
        object.metadata.generation,
        view.now,
    ));
    sentences.extend(status.retry.as_ref().and_then(|retry| attempts(retry, status, view.now)));
    sentences.extend(secret(view, status));
    sentences.extend(credentials(view));
    sentences.extend(owner(view, status));
    sentences.extend(schedule(view, status));
    sentences.extend(events(&view.events, view.now));
    sentences.extend(remedies(view, status));
    sentences
}

fn namespace(object: &VncPassword) -> &str {
    object.metadata.namespace.as_deref().unwrap_or_default()
}

fn region<'a>(object: &'a VncPassword, status: &'a VncPasswordStatus) -> Option<&'a str> {
    let last_region = status.instance.as_ref().and_then(|instance| instance.region_id.as_deref());
    object.spec.region_id.as_deref().or(last_region)
}

fn what(object: &VncPassword, status: &VncPasswordStatus) -> Paragraph {
    let spec = &object.spec;
    let place = region(object, status).map(|region| format!(" in {region}")).unwrap_or_default();
    let (secret, key) = (&spec.secret_ref.name, &spec.secret_ref.key);
    let whose = if spec.rotation.is_some() {
        format!("The operator draws it and writes it to key {key} of Secret {secret}.")
    } else {
        format!("It is yours: the operator applies what key {key} of Secret {secret} says.")
    };
    let name = format!("{}/{}", namespace(object), object.name_any());
    let text =
        format!("VncPassword {name} keeps the password of instance {}{place}. {whose}", spec.instance_id);
    Paragraph::new(Topic::Object, text)
}

/// What failed, and when it is tried again.
fn attempts(retry: &Retry, status: &VncPasswordStatus, now: Timestamp) -> Option<Paragraph> {
    let mut sentences = Vec::new();
    if let Some(attempts) = retry.attempts.filter(|attempts| *attempts > 0) {
        let attempts = usize::try_from(attempts).unwrap_or_default();
        let last = match (&retry.last_failure_time, attempts) {
            (Some(at), 1) => format!(", at {}", moment(at.0, now)),
            (Some(at), _) => format!(", the last at {}", moment(at.0, now)),
            (None, _) => String::new(),
        };
        let row = if attempts == 1 { "" } else { " in a row" };
        sentences.push(format!("{} failed{row}{last}.", count(attempts, "attempt")));
    }
    match (&retry.code, &retry.request_id) {
        (Some(code), Some(request)) => {
            sentences.push(format!("The cloud answered {code} (RequestId {request})."));
        }
        (Some(code), None) => sentences.push(format!("The cloud answered {code}.")),
        (None, Some(request)) => sentences.push(format!("The RequestId of the call is {request}.")),
        (None, None) => {}
    }
    if let Some(at) = &retry.next_attempt_time {
        sentences.push(next_attempt(at.0, status, now));
    }
    if let Some(until) = retry.unsettled_until.as_ref().filter(|until| until.0 > now) {
        sentences.push(format!(
            "A call of unknown outcome may still arrive until {}; no other password is set before.",
            moment(until.0, now)
        ));
    }
    (!sentences.is_empty()).then(|| Paragraph::new(Topic::Retry, sentences.join(" ")))
}

fn next_attempt(at: Timestamp, status: &VncPasswordStatus, now: Timestamp) -> String {
    let throttled = status.conditions.iter().any(|condition| condition.reason == Reason::Throttled);
    let shares = denied::missing_right(status).is_some();
    if shares {
        "The operator tries those that lack the same right one after the other, each about every ten minutes; this one \
         sooner where the Secret or the object changes."
            .to_owned()
    } else if throttled {
        // What was reckoned as the wait began; the limiter may let it through sooner or later.
        format!("Its turn at the cloud's limit was expected at {}.", moment(at, now))
    } else if at > now {
        format!(
            "The next attempt is at {}, sooner where the Secret, the object or the instance changes.",
            moment(at, now)
        )
    } else {
        format!("The next attempt was due at {}.", moment(at, now))
    }
}

/// What of the Secret matters to whoever wants the password, or why it is in the way.
fn secret(view: &ObjectView, status: &VncPasswordStatus) -> Option<Paragraph> {
    let reference = &view.object.spec.secret_ref;
    let (name, key) = (&reference.name, &reference.key);
    let about = |text: String| Some(Paragraph::new(Topic::Secret, text));
    let secret = match &view.secret {
        Fetched::Yes(Some(secret)) => secret,
        Fetched::Yes(None) => return about(format!("Secret {name} does not exist.")),
        Fetched::Denied(_) | Fetched::Failed(_) => {
            let problem = view.secret.problem().unwrap_or_default();
            return about(format!("What Secret {name} holds is not known: {problem}."));
        }
    };
    let mut sentences = vec![keys(secret, name, key)];
    if secret.keys.contains(&format!("{key}.next")) {
        sentences.push(match status.accepted {
            Some(_) => format!(
                "The value of {key}.next was accepted and is in effect after a restart of the instance; until then the console \
                 opens with {key}."
            ),
            None => format!(
                "A password is on its way: the console opens with {key}, or with {key}.next where that is in effect already."
            ),
        });
    }
    if view.object.spec.rotation.is_some() {
        if secret.immutable {
            sentences.push("It is immutable, so the operator cannot write to it.".to_owned());
        } else if secret.type_ != "Opaque" {
            sentences.push(format!(
                "It is of type {}, and the operator writes to Opaque ones only.",
                secret.type_
            ));
        } else if !secret.operators && !secret.writable {
            sentences
                .push("The operator did not make it, and no label lets the operator write to it.".to_owned());
        }
    }
    about(sentences.join(" "))
}

fn keys(secret: &SecretState, name: &str, key: &str) -> String {
    if secret.keys.contains(key) {
        return format!("Secret {name} has the key {key}.");
    }
    let there: Vec<&str> = secret.keys.iter().map(String::as_str).collect();
    if there.is_empty() {
        format!("Secret {name} is empty.")
    } else {
        format!("Secret {name} has no key {key}; it has {}.", some_of(&there, 8))
    }
}

fn credentials(view: &ObjectView) -> Option<Paragraph> {
    let name = &view.object.spec.credentials_ref.as_ref()?.name;
    let text = match view.credentials.as_ref()? {
        Fetched::Yes(Some(secret)) => {
            let has = |key| secret.keys.contains(key);
            let (id, key, role) = (has("access-key-id"), has("access-key-secret"), has("role-arn"));
            match (id && key, role) {
                (true, true) => {
                    format!("It calls the cloud as the role in Secret {name}, by the access key there.")
                }
                (true, false) => format!("It calls the cloud with the access key in Secret {name}."),
                (false, true) if !id && !key => {
                    format!(
                        "It calls the cloud as the role in Secret {name}, by the operator's own identity."
                    )
                }
                _ => format!(
                    "Secret {name} of spec.credentialsRef lacks {}.",
                    if id { "access-key-secret" } else { "access-key-id" }
                ),
            }
        }
        Fetched::Yes(None) => format!("Secret {name} of spec.credentialsRef does not exist."),
        Fetched::Denied(_) | Fetched::Failed(_) => return None,
    };
    Some(Paragraph::new(Topic::Secret, text))
}

/// Who else names the instance.
fn owner(view: &ObjectView, status: &VncPasswordStatus) -> Option<Paragraph> {
    let conflict = status.reason(ConditionType::Stalled) == Some(Reason::Conflict);
    let others = match &view.others {
        Fetched::Yes(others) => others,
        Fetched::Denied(_) | Fetched::Failed(_) if conflict => {
            let problem = view.others.problem().unwrap_or_default();
            let text = format!("Which other object it is cannot be told: {problem}.");
            return Some(Paragraph::new(Topic::Owner, text));
        }
        Fetched::Denied(_) | Fetched::Failed(_) => return None,
    };
    let instance = &view.object.spec.instance_id;
    match others.as_slice() {
        [] if conflict => {
            let text = "No other object that you may see names the instance, or the same key of the Secret. It may be in a \
                        namespace that you may not see, or gone since.";
            Some(Paragraph::new(Topic::Owner, text))
        }
        [] => None,
        others => {
            let named: Vec<String> = others.iter().map(|other| rival(other, view.now)).collect();
            let SecretRef { name, key } = &view.object.spec.secret_ref;
            let what = if others.iter().any(|other| other.spec.instance_id == *instance) {
                format!("Instance {instance}")
            } else {
                format!("Key {key} of Secret {name}")
            };
            let text = format!("{what} is also named by {}.", some_of(&named, 5));
            let look = |other: &VncPassword| {
                format!(
                    "kubectl vncpassword explain {} -n {}",
                    quoted(&other.name_any()),
                    quoted(namespace(other))
                )
            };
            Some(Paragraph::new(Topic::Owner, text).with(others.iter().take(5).map(look).collect()))
        }
    }
}

fn rival(other: &VncPassword, now: Timestamp) -> String {
    let name = format!("{}/{}", namespace(other), other.name_any());
    let status = other.status.as_ref();
    let reason = status.and_then(|status| status.reason(ConditionType::Ready));
    let claim = match (status.and_then(|status| status.request_id.as_ref()), reason) {
        (Some(_), _) => "the cloud has accepted a call for it".to_owned(),
        (None, Some(reason)) => reason.as_str().to_owned(),
        (None, None) => "never looked at".to_owned(),
    };
    let created =
        other.creation_timestamp().map(|at| format!(", created {}", moment(at.0, now))).unwrap_or_default();
    format!("{name} ({claim}{created})")
}

/// When it rotates next, and what a rotation that was asked for waits for.
fn schedule(view: &ObjectView, status: &VncPasswordStatus) -> Option<Paragraph> {
    let (spec, now) = (&view.object.spec, view.now);
    let plan = schedule::Plan::new(spec.rotation.as_deref(), spec.window.as_deref());
    let plan = match plan {
        Ok(plan) => plan,
        Err(problem) => return Some(Paragraph::new(Topic::Schedule, sentence(&problem.to_string()))),
    };
    let mut sentences = Vec::new();
    sentences.extend(last(status, now));
    if let Some(next) = &status.next_rotation_time {
        sentences.push(format!("The next scheduled rotation is at {}.", moment(next.0, now)));
    }
    sentences.extend(spec.window.as_ref().map(|_| window(&plan, "Scheduled rotations and restarts", now)));
    sentences.extend(asked(view, status));
    (!sentences.is_empty()).then(|| Paragraph::new(Topic::Schedule, sentences.join(" ")))
}

fn last(status: &VncPasswordStatus, now: Timestamp) -> Option<String> {
    let at = status.last_rotation_time.as_ref()?.0;
    let request =
        status.request_id.as_ref().map(|request| format!(" (RequestId {request})")).unwrap_or_default();
    Some(format!("The password came into effect at {}{request}.", moment(at, now)))
}

/// What the annotation asks for and what that waits for.
fn asked(view: &ObjectView, status: &VncPasswordStatus) -> Option<String> {
    let (object, now) = (&view.object, view.now);
    let at = match RotateAt::parse(object.annotations().get(ROTATE_AT).map(String::as_str)) {
        RotateAt::Never => return None,
        RotateAt::Invalid => return Some(format!("The annotation {ROTATE_AT} is no time.")),
        at @ RotateAt::At(_) => at,
    };
    let created = object.creation_timestamp().map_or(Timestamp::MIN, |at| at.0);
    let time = |at: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| at.as_ref().map(|at| at.0);
    let due = at.due(created, time(&status.last_handled_rotate_at), time(&status.last_rotation_time))?;
    let waits = if object.spec.suspend {
        "it waits until spec.suspend is taken away".to_owned()
    } else if due > now {
        format!("it is due at {}", moment(due, now))
    } else if let Some(until) = status.unsettled_until().filter(|until| *until > now) {
        format!("it waits until a call of unknown outcome cannot arrive any more, at {}", moment(until, now))
    } else if status.accepted.is_some() {
        "it waits for the restart that brings the password before it into effect".to_owned()
    } else {
        "it is under way".to_owned()
    };
    Some(format!("{ROTATE_AT} asks for a rotation: {waits}."))
}

/// What to do: once for each reason that stands.
fn remedies(view: &ObjectView, status: &VncPasswordStatus) -> Vec<Paragraph> {
    let object = &view.object;
    let spec = &object.spec;
    let retry = status.retry.as_ref();
    let name = object.name_any();
    let subject = Subject {
        namespace: Some(namespace(object)),
        name: &name,
        instance: &spec.instance_id,
        region: region(object, status),
        secret: &spec.secret_ref.name,
        key: &spec.secret_ref.key,
        generated: spec.rotation.is_some(),
        reboots: spec.activation == Activation::Reboot,
        credentials: spec.credentials_ref.as_ref().map(|secret| secret.name.as_str()),
        target: None,
        code: retry.and_then(|retry| retry.code.as_deref()),
        request: retry.and_then(|retry| retry.request_id.as_deref()),
        status: status.instance.as_ref().and_then(|instance| instance.status.as_deref()),
        operator: &view.operator,
    };
    remedy(&status.conditions, |reason| {
        let mut advice = advice(reason, &subject);
        let by_operator = status.reason(ConditionType::Reconciling) == Some(Reason::RebootRequired);
        if reason == Reason::RebootRequired && by_operator {
            advice.actor = Actor::Operator;
        }
        advice
    })
}
