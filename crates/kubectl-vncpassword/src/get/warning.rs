//! What is said beside a password: how old it is, and whether another may be in effect already.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{ages, summary::ObjectSummary};

/// Which password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// The one in effect.
    Current,
    /// The one on its way.
    Next,
    /// The one before.
    Previous,
}

impl Which {
    /// The key that holds it.
    pub fn key(self, key: &str) -> String {
        match self {
            Self::Current => key.to_owned(),
            Self::Next => format!("{key}.next"),
            Self::Previous => format!("{key}.previous"),
        }
    }
}

/// What is known besides.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Whether a password is on its way.
    pub next: bool,
    /// The time.
    pub now: Timestamp,
}

/// All that is said, a line each.
pub fn warnings(object: &ObjectSummary, which: Which, context: &Context) -> Vec<String> {
    let (name, instance) = (object.name_any(), &object.spec.instance_id);
    match which {
        Which::Current => {
            let mut lines =
                vec![format!("{name}: the password of instance {instance}, {}", age(object, context.now))];
            lines.extend(doubt(object, context));
            lines
        }
        Which::Next => vec![format!(
            "{name}: the password on its way to instance {instance}, {}",
            may_be_in_effect(object)
        )],
        Which::Previous => vec![format!("{name}: the password that instance {instance} had before")],
    }
}

fn age(object: &ObjectSummary, now: Timestamp) -> String {
    let ready = object.condition("Ready");
    let since = object.status.last_rotation_time.map(|at| format!(" for {}", ages::since(at, now)));
    match ready.map(|ready| ready.status.as_str()) {
        Some("True") => format!("in effect{}", since.unwrap_or_default()),
        Some("Unknown") => "perhaps in effect: the outcome of a call is not known".to_owned(),
        Some(_) => {
            let reason = ready.map_or("", |ready| ready.reason.as_str());
            format!("NOT in effect ({reason}); see kubectl vncpassword explain {}", target(object))
        }
        None => "of which the operator has said nothing yet".to_owned(),
    }
}

/// Whether another one may be in effect already.
fn doubt(object: &ObjectSummary, context: &Context) -> Option<String> {
    context.next.then(|| {
        format!(
            "another one is on its way, {}: where this one does not open the console, try kubectl vncpassword get {} --next",
            may_be_in_effect(object),
            target(object)
        )
    })
}

/// What a command that is to follow names: it may be run in another namespace.
fn target(object: &ObjectSummary) -> String {
    format!("{} -n {}", object.name_any(), object.namespace().unwrap_or_default())
}

fn may_be_in_effect(object: &ObjectSummary) -> &'static str {
    let unknown = object.condition("Ready").is_some_and(|ready| ready.status == "Unknown");
    if object.is("RebootRequired").is_some() {
        "in effect once the instance has been restarted"
    } else if unknown
        || object.is("Reconciling").is_some_and(|under_way| under_way.reason == "OutcomeUnknown")
    {
        "and it may be in effect already: the outcome of its call is not known"
    } else {
        "and it may be in effect at any moment"
    }
}

/// The Secret does not hold it.
pub fn missing(object: &ObjectSummary, which: Which) -> String {
    let (name, secret) = (object.name_any(), &object.spec.secret_ref.name);
    let key = which.key(&object.spec.secret_ref.key);
    match which {
        Which::Current => format!(
            "Secret {secret} has no password in key {key}; see kubectl vncpassword explain {}, and try --next: the first \
             password may be on its way",
            target(object)
        ),
        Which::Next => format!(
            "no password is on its way to {name}: Secret {secret} has no key {key}; leave --next away"
        ),
        Which::Previous => {
            format!(
                "no password before is known of {name}: Secret {secret} has no key {key}; leave --previous away"
            )
        }
    }
}

/// The Secret is not there.
pub fn no_secret(object: &ObjectSummary) -> String {
    let (name, secret) = (object.name_any(), &object.spec.secret_ref.name);
    let namespace = object.namespace().unwrap_or_default();
    let then = if object.spec.rotation {
        format!("the operator makes it; see kubectl vncpassword explain {}", target(object))
    } else {
        "create it".to_owned()
    };
    format!("Secret {secret} of VncPassword {name} does not exist in namespace {namespace}: {then}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::summary::tests::{condition, object_summary, ready};

    fn said(status: &Value, which: Which, next: bool) -> Vec<String> {
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        warnings(&object_summary("a", &json!({"rotation": {}}), status), which, &Context { next, now })
    }

    #[test]
    fn it_says_how_old_it_is() {
        let status =
            json!({"conditions": [ready("True", "Applied")], "lastRotationTime": "2026-01-01T00:00:00Z"});
        assert_eq!(
            said(&status, Which::Current, false),
            ["a: the password of instance i-a, in effect for 2d"]
        );
        let status = json!({"conditions": [ready("False", "Denied")]});
        assert_eq!(
            said(&status, Which::Current, false),
            [
                "a: the password of instance i-a, NOT in effect (Denied); see kubectl vncpassword explain a -n prod"
            ]
        );
    }

    #[test]
    fn it_says_whether_the_next_one_may_be_in_effect() {
        for (conditions, expected) in [
            (json!([ready("True", "Applied")]), "at any moment"),
            (json!([ready("Unknown", "OutcomeUnknown")]), "in effect already"),
            (
                json!([ready("True", "Applied"), condition("RebootRequired", "RebootRequired")]),
                "been restarted",
            ),
        ] {
            let status = json!({"conditions": conditions});
            let current = said(&status, Which::Current, true);
            assert!(
                current[1].contains(expected) && current[1].ends_with("get a -n prod --next"),
                "{current:?}"
            );
            assert!(said(&status, Which::Next, true)[0].contains(expected));
        }
    }

    #[test]
    fn commands_that_are_advised_name_the_namespace() {
        let object = object_summary("a", &json!({"rotation": {}}), &json!({}));
        for text in [missing(&object, Which::Current), no_secret(&object)] {
            assert!(text.contains("see kubectl vncpassword explain a -n prod"), "{text}");
        }
    }
}
