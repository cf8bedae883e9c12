//! Why the API server did not write a Secret, and how much of its answer may be shown (R62 to R64).

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;

use super::contents::{Change, Contents, SecretWrite};
use crate::api::Reason;

/// The parts of the API server's `Status` that matter.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Answer {
    /// A word for programs, such as `Forbidden`. An admission webhook can choose it.
    pub reason: Option<String>,
    /// A sentence for people. It can quote the Secret.
    pub message: Option<String>,
    /// More about it.
    pub details: Option<Details>,
}

/// The `details` of a `Status`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Details {
    /// What is wrong, one by one.
    pub causes: Option<Vec<Cause>>,
}

/// One of the `causes`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Cause {
    /// A word for programs, such as `FieldValueTooLong`.
    pub reason: Option<String>,
    /// The field that it is about.
    pub field: Option<String>,
}

/// Why a Secret was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operator lacks the right in the cluster.
    Forbidden,
    /// A `ResourceQuota`.
    Quota,
    /// A `ValidatingAdmissionPolicy` or a `MutatingAdmissionPolicy`.
    Policy,
    /// The admission webhook of this name, with this HTTP status.
    Webhook(String, u16),
    /// The Secret would be larger than the API server takes.
    TooLarge,
    /// The namespace is being deleted.
    Terminating,
    /// The admission webhook of this name timed out or could not be called.
    WebhookFailed(String),
    /// Nobody refused it, but the API server did not manage to write it (this HTTP status). It may have.
    Unavailable(u16),
    /// Refused for a reason that the operator does not know (this HTTP status).
    Other(u16),
}

/// What the message of a webhook's refusal begins with. The webhook chooses everything else, the HTTP status included.
const WEBHOOK: &str = "admission webhook ";
const WEBHOOK_FAILED: &str = "Internal error occurred: failed calling webhook ";
const POLICIES: [&str; 4] =
    ["ValidatingAdmissionPolicy '", "MutatingAdmissionPolicy '", "policy '", "policy \""];
const QUOTAS: [&str; 5] = [
    "exceeded quota:",
    "failed quota:",
    "insufficient quota",
    "status unknown for quota:",
    "quota usage is negative",
];

impl Refusal {
    /// What an answer with this HTTP status means. `None`: the version that the write replaces is no longer the newest, or
    /// the Secret is there already.
    #[must_use]
    pub fn of(status: u16, answer: &Answer, replaces: bool) -> Option<Self> {
        let message = answer.message.as_deref().unwrap_or_default();
        // First: a webhook can answer with any status, 409 and 404 included.
        if let Some((name, rest)) = webhook(message, WEBHOOK)
            && rest.starts_with(" denied the request")
        {
            return Some(Self::Webhook(name, status));
        }
        if status == 409 || status == 404 && replaces {
            return None;
        }
        if let Some((name, _)) = webhook(message, WEBHOOK_FAILED).filter(|_| status >= 500) {
            return Some(Self::WebhookFailed(name));
        }
        // secrets "a" is forbidden: ...
        let forbidden = message.split_once(" is forbidden: ").map(|(_, why)| why);
        let begins =
            |words: &[&str]| forbidden.is_some_and(|why| words.iter().any(|word| why.starts_with(word)));
        let causes =
            answer.details.as_ref().and_then(|details| details.causes.as_deref()).unwrap_or_default();
        let has_cause = |reason: &str, field: &str| {
            let is = |cause: &Cause| {
                cause.reason.as_deref() == Some(reason) && cause.field.as_deref() == Some(field)
            };
            causes.iter().any(is)
        };
        // A policy can answer with 401, 403, 413 and 422.
        Some(if begins(&POLICIES) {
            Self::Policy
        } else if status == 403 && has_cause("NamespaceTerminating", "metadata.namespace") {
            Self::Terminating
        } else if status == 403 && begins(&QUOTAS) {
            Self::Quota
        } else if status == 403 && begins(&["User \""]) {
            Self::Forbidden
        } else if status == 413 || status == 422 && has_cause("FieldValueTooLong", "data") {
            Self::TooLarge
        } else if status >= 500 || [401, 408, 429].contains(&status) {
            Self::Unavailable(status)
        } else {
            Self::Other(status)
        })
    }

    /// The reason of the condition.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Self::Forbidden => Reason::SecretForbidden,
            Self::Quota => Reason::QuotaExceeded,
            Self::Policy => Reason::PolicyDenied,
            Self::Webhook(..) => Reason::WebhookDenied,
            Self::TooLarge => Reason::SecretTooLarge,
            Self::Terminating => Reason::NamespaceTerminating,
            Self::WebhookFailed(_) => Reason::WebhookFailed,
            Self::Unavailable(_) => Reason::SecretWriteFailed,
            Self::Other(_) => Reason::SecretWriteRefused,
        }
    }

    /// Nobody refused the write, so it is retried without a person.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::WebhookFailed(_) | Self::Unavailable(_))
    }

    /// The Secret was certainly not written.
    #[must_use]
    pub fn is_certain(&self) -> bool {
        !matches!(self, Self::Unavailable(_))
    }

    /// Whether the condition may quote the message.
    #[must_use]
    pub fn may_be_quoted(&self) -> bool {
        matches!(self, Self::Forbidden | Self::Quota | Self::Policy)
    }

    /// The HTTP status of the answer, where it says more than the rest.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Webhook(_, status) | Self::Unavailable(status) | Self::Other(status) => Some(*status),
            _ => None,
        }
    }

    /// The webhook that is to blame.
    #[must_use]
    pub fn webhook(&self) -> Option<&str> {
        match self {
            Self::Webhook(name, _) | Self::WebhookFailed(name) => Some(name),
            _ => None,
        }
    }
}

/// The name in quotes after that beginning, and what follows it. A name is a DNS name.
fn webhook<'a>(message: &'a str, beginning: &str) -> Option<(String, &'a str)> {
    let (name, rest) = message.strip_prefix(beginning)?.strip_prefix('"')?.split_once('"')?;
    let is_name = name.len() <= 253
        && !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    is_name.then(|| (name.to_owned(), rest))
}

/// A write that did not take place.
#[derive(Clone, Debug, PartialEq)]
pub struct RefusedWrite {
    /// Why.
    pub refusal: Refusal,
    /// What the API server said, where it may be shown.
    pub said: Option<String>,
    /// The Secret was to be created.
    pub creates: bool,
    /// The write was to bring another value to `<key>`, one that is in effect.
    pub promotes: bool,
    /// How long to wait before the next attempt.
    pub retry_after: Duration,
}

/// Whether a write brings another value to `<key>`, one that is in effect.
#[must_use]
pub fn promotes(write: &SecretWrite, contents: Option<&Contents>) -> bool {
    let current = contents.and_then(|contents| contents.current.password());
    matches!(&write.current, Change::Set(value) if current != Some(value))
}

/// So much of the API server's message is shown, in characters.
pub const MAX_QUOTE_CHARS: usize = 256;
/// So many bytes of a long text in a message count as the text.
const WINDOW: usize = 12;

/// The message as it may be shown: in one line, not too long. `None`: it contains one of these values, its base64, or part
/// of a digest in it.
#[must_use]
pub fn quotable<'a>(message: &str, values: impl IntoIterator<Item = &'a [u8]>) -> Option<String> {
    if message.is_empty() || values.into_iter().any(|value| quotes(message.as_bytes(), value)) {
        return None;
    }
    let mut line: Vec<char> = message.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_QUOTE_CHARS {
        line.truncate(MAX_QUOTE_CHARS - 3);
        line.extend("...".chars());
    }
    Some(line.into_iter().collect())
}

fn quotes(message: &[u8], value: &[u8]) -> bool {
    let encoded = STANDARD.encode(value);
    let digests = value.split(|byte| !byte.is_ascii_hexdigit()).filter(|digits| digits.len() >= 32);
    holds(message, value, usize::MAX)
        || holds(message, encoded.as_bytes(), WINDOW)
        || digests.into_iter().any(|digest| holds(message, digest, WINDOW))
}

/// Whether the message contains so many bytes in a row of the text, or all of a shorter one.
fn holds(message: &[u8], text: &[u8], window: usize) -> bool {
    let size = window.min(text.len());
    size > 0 && text.windows(size).any(|part| message.windows(size).any(|there| there == part))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::rotation::{contents::Digest, password::Password};

    fn of(status: u16, message: &str, causes: &Value, replaces: bool) -> Option<Refusal> {
        let body = json!({"kind": "Status", "message": message, "reason": "Whatever", "code": status,
            "details": {"name": "a", "kind": "secrets", "causes": causes}});
        Refusal::of(status, &serde_json::from_value(body).unwrap(), replaces)
    }

    #[test]
    fn each_answer_of_the_api_server_has_its_cause() {
        use Refusal::{Forbidden, Other, Policy, Quota, Terminating, TooLarge, Unavailable};
        let denied = |status| Some(Refusal::Webhook("w.example.com".to_owned(), status));
        let failed = || Some(Refusal::WebhookFailed("w.example.com".to_owned()));
        let forbidden = |why: &str| format!("secrets \"a\" is forbidden: {why}");
        let policy = "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: ";
        let webhook = "admission webhook \"w.example.com\" denied the request: ";
        let calling =
            "Internal error occurred: failed calling webhook \"w.example.com\": failed to call webhook: Post";
        let too_long = json!([{"reason": "FieldValueTooLong", "message": "Too long", "field": "data"}]);
        let too_long_name = json!([{"reason": "FieldValueTooLong", "field": "metadata.annotations"}]);
        let ending = json!([{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]);
        let none = json!([]);
        let user = "User \"o\" cannot create resource \"secrets\" in API group \"\" in the namespace \"n\"";
        let table = [
            (403, forbidden(user), &none, Some(Forbidden)),
            (403, forbidden(&format!("{user}: exceeded quota: no")), &none, Some(Forbidden)),
            (403, forbidden("exceeded quota: q, requested: secrets=1"), &none, Some(Quota)),
            (403, forbidden("failed quota: q: must specify x"), &none, Some(Quota)),
            (403, forbidden("status unknown for quota: q, resources: secrets"), &none, Some(Quota)),
            (422, forbidden(&format!("{policy}no")), &none, Some(Policy)),
            (403, forbidden(&format!("{policy}exceeded quota: User \"o\" cannot")), &none, Some(Policy)),
            (401, forbidden(&format!("{policy}no")), &none, Some(Policy)),
            (413, forbidden(&format!("{policy}no")), &none, Some(Policy)),
            (403, forbidden("policy 'm' with binding 'b' denied request: no"), &none, Some(Policy)),
            (403, forbidden("unable to create new content in namespace n"), &ending, Some(Terminating)),
            (403, forbidden("not yet ready to handle request"), &none, Some(Other(403))),
            (403, String::new(), &none, Some(Other(403))),
            (400, format!("{webhook}no"), &none, denied(400)),
            (409, format!("{webhook}no"), &none, denied(409)),
            (404, format!("{webhook}no"), &none, denied(404)),
            (500, format!("{webhook}failed calling webhook \"x\""), &none, denied(500)),
            (403, format!("{webhook}secrets \"a\" is forbidden: User \"o\" cannot"), &none, denied(403)),
            (
                403,
                "admission webhook \"w.example.com\" denied the request without explanation".into(),
                &none,
                denied(403),
            ),
            (500, format!("{calling}: context deadline exceeded"), &none, failed()),
            (
                500,
                "Internal error occurred: failed calling webhook \"a b\": x".into(),
                &none,
                Some(Unavailable(500)),
            ),
            (500, "etcdserver: no leader".into(), &none, Some(Unavailable(500))),
            (503, String::new(), &none, Some(Unavailable(503))),
            (504, "Timeout: request did not complete".into(), &none, Some(Unavailable(504))),
            (429, "too many requests".into(), &none, Some(Unavailable(429))),
            (413, "Request entity too large: limit is 3145728".into(), &none, Some(TooLarge)),
            (422, "Secret \"a\" is invalid: data: Too long".into(), &too_long, Some(TooLarge)),
            (422, "Secret \"a\" is invalid".into(), &too_long_name, Some(Other(422))),
            (422, "Secret \"a\" is invalid: data: field is immutable".into(), &none, Some(Other(422))),
            (409, "Operation cannot be fulfilled on secrets \"a\"".into(), &none, None),
            (404, "secrets \"a\" not found".into(), &none, None),
        ];
        for (status, message, causes, expected) in table {
            assert_eq!(of(status, &message, causes, true), expected, "{status} {message}");
        }
        assert_eq!(of(404, "namespaces \"n\" not found", &none, false), Some(Other(404)));
        assert_eq!(
            Refusal::of(500, &Answer::default(), true),
            Some(Unavailable(500)),
            "a body that is no Status"
        );
    }

    #[test]
    fn the_reason_of_missing_rights_is_for_those_alone() {
        let name = || "w".to_owned();
        let table = [
            (Refusal::Forbidden, Reason::SecretForbidden, false, true),
            (Refusal::Quota, Reason::QuotaExceeded, false, true),
            (Refusal::Policy, Reason::PolicyDenied, false, true),
            (Refusal::Webhook(name(), 403), Reason::WebhookDenied, false, false),
            (Refusal::TooLarge, Reason::SecretTooLarge, false, false),
            (Refusal::Terminating, Reason::NamespaceTerminating, false, false),
            (Refusal::Other(403), Reason::SecretWriteRefused, false, false),
            (Refusal::WebhookFailed(name()), Reason::WebhookFailed, true, false),
            (Refusal::Unavailable(503), Reason::SecretWriteFailed, true, false),
        ];
        for (refusal, reason, transient, quoted) in table {
            let told = (refusal.reason(), refusal.is_transient(), refusal.may_be_quoted());
            assert_eq!(told, (reason, transient, quoted), "{refusal:?}");
        }
    }

    #[test]
    fn a_message_that_contains_a_value_is_not_shown() {
        let digest = serde_json::to_value(Digest::of("i-1", &Password::parse(b"Abc123").unwrap())).unwrap();
        let digest = digest.as_str().unwrap();
        let record = format!(r#"{{"instanceId":"i-1","id":"0a1b2c3d","state":"done","digest":"{digest}"}}"#);
        let encoded = STANDARD.encode(&record);
        let table = [
            ("no Secrets here".to_owned(), true),
            ("no rotation of i-1 on Fridays".to_owned(), true),
            ("not Abc123, please".to_owned(), false),
            ("data QWJjMTIz".to_owned(), false),
            (format!("digest {digest}"), false),
            (format!("digest {}", &digest[20..40]), false),
            (format!("record {record}"), false),
            (format!("record {encoded}"), false),
            (format!("record {}", &encoded[30..60]), false),
            (String::new(), false),
        ];
        for (message, shown) in table {
            let values: [&[u8]; 3] = [b"Abc123", record.as_bytes(), b""];
            let expected = shown.then(|| message.clone());
            assert_eq!(quotable(&message, values), expected, "{message}");
        }
    }

    #[test]
    fn a_message_is_shown_in_one_line_that_ends() {
        assert_eq!(quotable("a\nb\u{1b}[31m", []).unwrap(), "a b [31m");
        let whole = "ä".repeat(MAX_QUOTE_CHARS);
        assert_eq!(quotable(&whole, []), Some(whole.clone()));
        let cut = quotable(&format!("{whole}x"), []).unwrap();
        assert_eq!((cut.chars().count(), cut.ends_with("ä...")), (MAX_QUOTE_CHARS, true));
        // What is cut off counts as well.
        assert_eq!(quotable(&format!("{whole}Abc123"), [&b"Abc123"[..]]), None);
    }
}
