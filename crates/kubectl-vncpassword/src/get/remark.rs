//! What is said beside a password: how old it is, and whether another may be in effect already.

use jiff::Timestamp;
use kube::ResourceExt;

use crate::{ages, seen::Seen};

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
pub struct Known {
    /// Whether a password is on its way.
    pub next: bool,
    /// The time.
    pub now: Timestamp,
}

/// All that is said, a line each.
pub fn remarks(seen: &Seen, which: Which, known: &Known) -> Vec<String> {
    let (name, instance) = (seen.name_any(), &seen.spec.instance_id);
    match which {
        Which::Current => {
            let mut lines =
                vec![format!("{name}: the password of instance {instance}, {}", age(seen, known.now))];
            lines.extend(doubt(seen, known));
            lines
        }
        Which::Next => vec![format!(
            "{name}: the password on its way to instance {instance}, {}",
            may_be_in_effect(seen)
        )],
        Which::Previous => vec![format!("{name}: the password that instance {instance} had before")],
    }
}

fn age(seen: &Seen, now: Timestamp) -> String {
    let ready = seen.condition("Ready");
    let since = seen.status.last_rotation_time.map(|at| format!(" for {}", ages::since(at, now)));
    match ready.map(|ready| ready.status.as_str()) {
        Some("True") => format!("in effect{}", since.unwrap_or_default()),
        Some("Unknown") => "perhaps in effect: the outcome of a call is not known".to_owned(),
        Some(_) => {
            let reason = ready.map_or("", |ready| ready.reason.as_str());
            format!("NOT in effect ({reason}); see kubectl vncpassword explain {}", target(seen))
        }
        None => "of which the operator has said nothing yet".to_owned(),
    }
}

/// Whether another one may be in effect already.
fn doubt(seen: &Seen, known: &Known) -> Option<String> {
    known.next.then(|| {
        format!(
            "another one is on its way, {}: where this one does not open the console, try kubectl vncpassword get {} --next",
            may_be_in_effect(seen),
            target(seen)
        )
    })
}

/// What a command that is to follow names: it may be run in another namespace.
fn target(seen: &Seen) -> String {
    format!("{} -n {}", seen.name_any(), seen.namespace().unwrap_or_default())
}

fn may_be_in_effect(seen: &Seen) -> &'static str {
    let unknown = seen.condition("Ready").is_some_and(|ready| ready.status == "Unknown");
    if seen.is("RebootRequired").is_some() {
        "in effect once the instance has been restarted"
    } else if unknown || seen.is("Reconciling").is_some_and(|under_way| under_way.reason == "OutcomeUnknown")
    {
        "and it may be in effect already: the outcome of its call is not known"
    } else {
        "and it may be in effect at any moment"
    }
}

/// The Secret does not hold it.
pub fn missing(seen: &Seen, which: Which) -> String {
    let (name, secret) = (seen.name_any(), &seen.spec.secret_ref.name);
    let key = which.key(&seen.spec.secret_ref.key);
    match which {
        Which::Current => format!(
            "Secret {secret} has no password in key {key}; see kubectl vncpassword explain {}, and try --next: the first \
             password may be on its way",
            target(seen)
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
pub fn no_secret(seen: &Seen) -> String {
    let (name, secret) = (seen.name_any(), &seen.spec.secret_ref.name);
    let namespace = seen.namespace().unwrap_or_default();
    let then = if seen.spec.rotation {
        format!("the operator makes it; see kubectl vncpassword explain {}", target(seen))
    } else {
        "create it".to_owned()
    };
    format!("Secret {secret} of VncPassword {name} does not exist in namespace {namespace}: {then}")
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::seen::tests::{condition, ready, seen};

    fn said(status: &Value, which: Which, next: bool) -> Vec<String> {
        let now = "2026-01-03T00:00:00Z".parse().unwrap();
        remarks(&seen("a", &json!({"rotation": {}}), status), which, &Known { next, now })
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
        for (conditions, told) in [
            (json!([ready("True", "Applied")]), "at any moment"),
            (json!([ready("Unknown", "OutcomeUnknown")]), "in effect already"),
            (
                json!([ready("True", "Applied"), condition("RebootRequired", "RebootRequired")]),
                "been restarted",
            ),
        ] {
            let status = json!({"conditions": conditions});
            let current = said(&status, Which::Current, true);
            assert!(current[1].contains(told) && current[1].ends_with("get a -n prod --next"), "{current:?}");
            assert!(said(&status, Which::Next, true)[0].contains(told));
        }
    }

    #[test]
    fn commands_that_are_advised_name_the_namespace() {
        let seen = seen("a", &json!({"rotation": {}}), &json!({}));
        for text in [missing(&seen, Which::Current), no_secret(&seen)] {
            assert!(text.contains("see kubectl vncpassword explain a -n prod"), "{text}");
        }
    }
}
