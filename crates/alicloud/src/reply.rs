//! Parses a reply: accepted, refused, or not a reply of the API.

use std::borrow::Cow;

use http::StatusCode;
use quick_xml::{Reader, events::Event};
use serde::Deserialize;

use super::{
    api::{RequestId, has_cloud_form},
    codes::known_code,
    error::{UNRECOGNIZED_CODE, Unreadable},
    redact::contains_secret,
};

/// The maximum length of a `Code` that is shown, in characters. Known codes are less than half as long.
const MAX_CODE: usize = 128;

/// A parsed reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Status 2xx, a `RequestId`, and no `Code`. The id is [`WITHHELD`](super::api::WITHHELD) if it contains
    /// data that was sent.
    Accepted(RequestId),
    /// The reply has a `Code`, whatever the status.
    Refused(Refusal),
}

/// An error reply.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The reply's `Code`, or [`UNRECOGNIZED_CODE`].
    pub(super) code: String,
    /// The reply's `RequestId`, if it can be shown.
    pub(super) request_id: Option<RequestId>,
    /// For the debug log only, redacted. Empty for XML, whose entities could hide a secret from the
    /// redaction.
    pub(super) message: String,
}

/// The fields common to all replies. `wire` parses those of the action.
#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Envelope<'a> {
    #[serde(borrow)]
    request_id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    code: Option<Cow<'a, str>>,
    #[serde(borrow)]
    message: Option<Cow<'a, str>>,
}

/// Parses a whole body. `action`: the called API action. `secrets`: what was sent and must not be shown.
///
/// `Code` and `RequestId` reach logs, traces, status and events. Only this function checks them, before any
/// other code sees them.
pub(super) fn read(
    action: &str,
    status: StatusCode,
    body: &[u8],
    secrets: &[&str],
) -> Result<Reply, Unreadable> {
    let body = body.trim_ascii();
    if status.is_redirection() {
        return Err(Unreadable::Redirect);
    }
    let envelope = match body.first() {
        None => return Err(Unreadable::Empty),
        Some(b'<') if is_html(body) => return Err(Unreadable::Html),
        Some(b'<') => xml(action, body).ok_or(Unreadable::Xml)?,
        Some(_) => json(body)?,
    };
    let Envelope { request_id, code, message } = envelope;
    let request_id = request_id.unwrap_or_default();
    let parsed = RequestId::parse(&request_id);
    let shown = parsed.clone().filter(|_| !contains_secret(&request_id, secrets));
    match code {
        Some(code) => {
            let code = shown_code(&code, secrets).to_owned();
            let message = message.unwrap_or_default().into_owned();
            Ok(Reply::Refused(Refusal { code, request_id: shown, message }))
        }
        None if !status.is_success() => Err(Unreadable::MissingField("Code")),
        None if request_id.is_empty() => Err(Unreadable::MissingField("RequestId")),
        None => match parsed {
            Some(_) => Ok(Reply::Accepted(shown.unwrap_or_else(RequestId::withheld))),
            None => Err(Unreadable::WrongShape),
        },
    }
}

/// The code as it is shown. A known code is always shown: it reveals nothing, because the API sends it for
/// any password.
fn shown_code<'a>(code: &'a str, secrets: &[&str]) -> &'a str {
    if known_code(code).is_some() || has_cloud_form(code, MAX_CODE) && !contains_secret(code, secrets) {
        code
    } else {
        UNRECOGNIZED_CODE
    }
}

/// Parses a JSON object. Keeps only the kind of a parser error, because its text quotes the document.
pub(super) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    // serde also accepts an array for a struct; the API never sends one.
    if !body.trim_ascii_start().starts_with(b"{") {
        return Err(Unreadable::NotJson);
    }
    serde_json::from_slice(body).map_err(|error| match error.classify() {
        serde_json::error::Category::Eof => Unreadable::Truncated,
        serde_json::error::Category::Data => Unreadable::WrongShape,
        serde_json::error::Category::Syntax | serde_json::error::Category::Io => Unreadable::NotJson,
    })
}

fn is_html(body: &[u8]) -> bool {
    [b"<!doctype html".as_slice(), b"<html"]
        .iter()
        .any(|start| body.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start)))
}

/// Parses `<Error>` with `Code` and `RequestId`, or `<{action}Response>` with `RequestId`.
///
/// Reads only fields directly below the root, and only complete documents. A field that occurs twice, or that
/// contains anything but plain text, is malformed: its parts are not joined.
fn xml(action: &str, body: &[u8]) -> Option<Envelope<'static>> {
    let mut reader = Reader::from_reader(body);
    let mut path: Vec<String> = Vec::new();
    let mut envelope = Envelope::default();
    loop {
        match reader.read_event().ok()? {
            Event::Start(tag) => {
                let name = tag.name().as_ref().to_owned();
                let is_reply = name == "Error" || name.strip_suffix("Response") == Some(action);
                if path.is_empty() && !is_reply {
                    return None;
                }
                envelope.mark_malformed(&path);
                path.push(name);
                envelope.start_field(&path);
            }
            Event::Empty(tag) => {
                envelope.mark_malformed(&path);
                path.push(tag.name().as_ref().to_owned());
                envelope.start_field(&path);
                path.pop();
            }
            Event::Text(text) => {
                if let Some(field) = envelope.field(&path) {
                    field.get_or_insert_default().to_mut().push_str(&text.xml10_content());
                }
            }
            Event::End(_) => {
                let name = path.pop()?;
                if path.is_empty() {
                    // An `<Error>` without a code is not a reply of the API, and never a success.
                    return (name != "Error" || envelope.code.is_some()).then_some(envelope);
                }
            }
            Event::Eof => return None,
            _ => envelope.mark_malformed(&path),
        }
    }
}

impl<'a> Envelope<'a> {
    /// The field at this path of the document.
    fn field(&mut self, path: &[String]) -> Option<&mut Option<Cow<'a, str>>> {
        match path {
            [_, field] if field == "RequestId" => Some(&mut self.request_id),
            [root, field] if root == "Error" && field == "Code" => Some(&mut self.code),
            _ => None,
        }
    }

    /// Starts the field at this path. A field that occurs twice is malformed.
    fn start_field(&mut self, path: &[String]) {
        if self.field(path).is_some_and(|field| field.replace(Cow::default()).is_some()) {
            self.mark_malformed(path);
        }
    }

    /// Marks the field at this path, if there is one, as malformed: the added character is invalid in codes
    /// and ids.
    fn mark_malformed(&mut self, path: &[String]) {
        if let Some(field) = self.field(path) {
            field.get_or_insert_default().to_mut().push('<');
        }
    }
}

#[cfg(test)]
mod tests;
