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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{api::WITHHELD, codes::known_code};

    const ACTION: &str = "ModifyInstanceVncPasswd";

    /// What was sent: a password and the parts of an access key.
    const SENT: [&str; 4] =
        ["Canry7", "LTAI5tSentAccessKey", "SentAccessKeySecret", "CAISsent+token/of=many.letters"];

    fn read(action: &str, status: StatusCode, body: &[u8]) -> Result<Reply, Unreadable> {
        super::read(action, status, body, &SENT)
    }

    fn accepted(id: &str) -> Reply {
        Reply::Accepted(RequestId::parse(id).unwrap())
    }

    fn refused(code: &str, id: Option<&str>, message: &str) -> Reply {
        let request_id = id.and_then(RequestId::parse);
        Reply::Refused(Refusal { code: code.into(), request_id, message: message.into() })
    }

    #[test]
    fn json_is_classified_by_code_first_and_status_second() {
        let table = [
            (200, r#"{"RequestId":"A-1"}"#, Ok(accepted("A-1"))),
            (200, " \r\n{\"RequestId\":\"A-1\",\"More\":[{}]}\n", Ok(accepted("A-1"))),
            (200, r#"{"RequestId":"A-1","Code":null}"#, Ok(accepted("A-1"))),
            (200, r#"{"RequestId":"A-1","Code":"Throttling"}"#, Ok(refused("Throttling", Some("A-1"), ""))),
            (
                403,
                r#"{"RequestId":"A-1","HostId":"h","Code":"InstanceNotReady","Message":"no","Recommend":"r"}"#,
                Ok(refused("InstanceNotReady", Some("A-1"), "no")),
            ),
            (400, r#"{"Code":"Throttling.User"}"#, Ok(refused("Throttling.User", None, ""))),
            (400, r#"{"Code":"a b\n<c>_-"}"#, Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (200, r#"{"RequestId":"A-1","Code":""}"#, Ok(refused(UNRECOGNIZED_CODE, Some("A-1"), ""))),
            (400, r#"{"RequestId":"A 1","Code":"Throttling"}"#, Ok(refused("Throttling", None, ""))),
            (400, r#"{"RequestId":"","Code":"Throttling"}"#, Ok(refused("Throttling", None, ""))),
            (200, r#"{"RequestId":"a._-Z9"}"#, Ok(accepted("a._-Z9"))),
            (200, r#"{"RequestId":"A-1-canry7"}"#, Ok(Reply::Accepted(RequestId::withheld()))),
            (200, "{}", Err(Unreadable::MissingField("RequestId"))),
            (200, r#"{"RequestId":""}"#, Err(Unreadable::MissingField("RequestId"))),
            (200, r#"{"RequestId":"\n"}"#, Err(Unreadable::WrongShape)),
            (200, r#"{"RequestId":"A 1"}"#, Err(Unreadable::WrongShape)),
            (200, r#"{"RequestId":"<Canry7>"}"#, Err(Unreadable::WrongShape)),
            (500, r#"{"RequestId":"A-1"}"#, Err(Unreadable::MissingField("Code"))),
            (302, r#"{"RequestId":"A-1"}"#, Err(Unreadable::Redirect)),
            (200, r#"{"RequestId":7}"#, Err(Unreadable::WrongShape)),
            (200, r#"["A-1"]"#, Err(Unreadable::NotJson)),
            (200, "7", Err(Unreadable::NotJson)),
            (200, r#"{"RequestId":"A-"#, Err(Unreadable::Truncated)),
            (200, r#"{"RequestId":"A-1"}}"#, Err(Unreadable::NotJson)),
            (502, "Bad Gateway", Err(Unreadable::NotJson)),
            (200, "", Err(Unreadable::Empty)),
            (204, " \n", Err(Unreadable::Empty)),
        ];
        for (status, body, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(read(ACTION, status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn xml_of_the_api_is_parsed() {
        let table = [
            (
                200,
                "<?xml version='1.0' encoding='UTF-8'?>\n<ModifyInstanceVncPasswdResponse>\n\
                 <RequestId>A-1</RequestId></ModifyInstanceVncPasswdResponse>",
                Ok(accepted("A-1")),
            ),
            (
                400,
                "<?xml version='1.0'?><Error><RequestId>A-1</RequestId><HostId>h</HostId>\
                 <Code>Throttling.User</Code><Message>no</Message></Error>",
                Ok(refused("Throttling.User", Some("A-1"), "")),
            ),
            (400, "<Error><Code>Throt<!-- -->tling</Code></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (400, "<Error><Code>Throt<b/>tling</Code></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (400, "<Error><Code>Thr<b>x</b>ottling</Code></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (400, "<Error><Code>&#84;Throttling</Code></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (
                400,
                "<Error><Code>Throttling<![CDATA[x]]></Code></Error>",
                Ok(refused(UNRECOGNIZED_CODE, None, "")),
            ),
            (
                400,
                "<Error><Code>Throt</Code><Code>tling</Code></Error>",
                Ok(refused(UNRECOGNIZED_CODE, None, "")),
            ),
            (400, "<Error><Code>Throttling</Code><Code/></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (400, "<Error><Code></Code></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (400, "<Error><Code/></Error>", Ok(refused(UNRECOGNIZED_CODE, None, ""))),
            (
                400,
                "<Error><RequestId>A&amp;1</RequestId><Code>Throttling</Code></Error>",
                Ok(refused("Throttling", None, "")),
            ),
            (
                200,
                "<ModifyInstanceVncPasswdResponse><RequestId>A&#45;1</RequestId>\
                 </ModifyInstanceVncPasswdResponse>",
                Err(Unreadable::WrongShape),
            ),
            (200, "<ModifyInstanceVncPasswdResponse/>", Err(Unreadable::Xml)),
            (
                200,
                "<ModifyInstanceVncPasswdResponse><a><RequestId>A-1</RequestId></a>\
                 </ModifyInstanceVncPasswdResponse>",
                Err(Unreadable::MissingField("RequestId")),
            ),
            (200, "<Error><RequestId>A-1</RequestId></Error>", Err(Unreadable::Xml)),
            (400, "<Error><Code>Throttling</Code>", Err(Unreadable::Xml)),
            (400, "<Error><Code>Throttling</Error></Code>", Err(Unreadable::Xml)),
            (400, "<Other><Code>Throttling</Code></Other>", Err(Unreadable::Xml)),
            (
                200,
                "<RebootInstanceResponse><RequestId>A-1</RequestId></RebootInstanceResponse>",
                Err(Unreadable::Xml),
            ),
            (200, "<!DOCTYPE HTML><p>hello", Err(Unreadable::Html)),
            (502, "\n<html><body>502</body></html>", Err(Unreadable::Html)),
            (200, "<", Err(Unreadable::Xml)),
        ];
        for (status, body, expected) in table {
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(read(ACTION, status, body.as_bytes()), expected, "{status} {body}");
        }
    }

    #[test]
    fn a_code_is_shown_if_well_formed_and_without_secrets() {
        let longest = "a".repeat(MAX_CODE);
        let overlong = "a".repeat(MAX_CODE + 1);
        let table = [
            ("Throttling.User", true),
            ("Some-Thing_New.v2", true),
            (longest.as_str(), true),
            (&overlong, false),
            ("", false),
            (" Throttling", false),
            ("Throttling\\n", false),
            ("Thröttling", false),
            ("Can ry7", false),
            ("Can%72y7", false),
            ("Canry7", false),
            ("Wrong.Canry7", false),
            ("wrong_CANRY7.value", false),
            ("Canry", true),
            ("No-LTAI5tSentAccessKey", false),
            ("x.sentaccesskeysecret", false),
            // A part of what is too long for a code.
            ("x.of=many.letters", false),
            ("x.many.letters", false),
            ("many.letter", true),
        ];
        for (code, shown) in table {
            let body = format!(r#"{{"Code":"{code}"}}"#);
            let Ok(Reply::Refused(refusal)) = read(ACTION, StatusCode::BAD_REQUEST, body.as_bytes()) else {
                panic!("{code}")
            };
            assert_eq!(refusal.code, if shown { code } else { UNRECOGNIZED_CODE });
        }
    }

    #[test]
    fn a_known_code_keeps_its_meaning_whatever_was_sent() {
        for (code, sent) in [
            ("Forbidden.RAM", "Forbid"),
            ("Throttling", "rottli"),
            ("InvalidAccessKeyId.NotFound", "Access"),
            ("IncorrectInstanceStatus", "status"),
        ] {
            let body = format!(r#"{{"RequestId":"A-1-{sent}","Code":"{code}"}}"#);
            let reply = super::read(ACTION, StatusCode::BAD_REQUEST, body.as_bytes(), &[sent]);
            assert_eq!(reply, Ok(refused(code, None, "")), "{code} {sent}");
        }
        let reply = super::read(ACTION, StatusCode::BAD_REQUEST, br#"{"Code":"Forbidden.Rem"}"#, &["Forbid"]);
        assert_eq!(reply, Ok(refused(UNRECOGNIZED_CODE, None, "")), "no known code");
    }

    #[test]
    fn a_request_id_is_shown_if_well_formed_and_without_secrets() {
        let longest = "a".repeat(RequestId::MAX_LENGTH);
        let overlong = "a".repeat(RequestId::MAX_LENGTH + 1);
        let withheld = || Ok(Reply::Accepted(RequestId::withheld()));
        let table = [
            (
                "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E",
                true,
                Ok(accepted("473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E")),
            ),
            (longest.as_str(), true, Ok(accepted(&longest))),
            (&overlong, false, Err(Unreadable::WrongShape)),
            ("473469C7 AA6F", false, Err(Unreadable::WrongShape)),
            ("Can ry7", false, Err(Unreadable::WrongShape)),
            ("", false, Err(Unreadable::MissingField("RequestId"))),
            ("473469C7-Canry7", false, withheld()),
            ("473469C7-cANRY7-B3DB", false, withheld()),
            ("LTAI5tSentAccessKey", false, withheld()),
            ("many.letters", false, withheld()),
        ];
        for (id, shown, expected) in table {
            let success = format!(r#"{{"RequestId":"{id}"}}"#);
            assert_eq!(read(ACTION, StatusCode::OK, success.as_bytes()), expected, "{id}");
            let refusal = format!(r#"{{"RequestId":"{id}","Code":"Throttling"}}"#);
            let expected = refused("Throttling", Some(id).filter(|_| shown), "");
            assert_eq!(read(ACTION, StatusCode::BAD_REQUEST, refusal.as_bytes()), Ok(expected), "{id}");
        }
    }

    /// A secret, and a text that contains it in some case.
    fn quotation() -> impl Strategy<Value = (String, String)> {
        ("[A-Za-z0-9]{6}|[!-~]{6,40}", "[A-Za-z0-9._-]{0,20}|.{0,9}", "[A-Za-z0-9._-]{0,20}|.{0,9}", 0..3)
            .prop_map(|(sent, before, after, case)| {
                let quoted = match case {
                    0 => sent.clone(),
                    1 => sent.to_ascii_uppercase(),
                    _ => sent.to_ascii_lowercase(),
                };
                (sent, format!("{before}{quoted}{after}"))
            })
    }

    /// Everything of a reply that is shown.
    fn shown(reply: Result<Reply, Unreadable>) -> Vec<String> {
        match reply {
            Ok(Reply::Accepted(id)) => vec![id.to_string()],
            Ok(Reply::Refused(Refusal { code, request_id, message: _ })) => {
                request_id.map(|id| id.to_string()).into_iter().chain([code]).collect()
            }
            Err(unreadable) => vec![unreadable.to_string()],
        }
    }

    proptest! {
        /// For any secret, and any reply that contains it.
        #[test]
        fn nothing_shown_contains_what_was_sent(
            (sent, quoting) in quotation(), other in "[A-Za-z0-9._-]{0,20}", status in 200_u16..600,
        ) {
            let json = |fields: [(&str, &str); 2]| {
                let fields = fields.map(|(name, value)| (name.to_owned(), serde_json::Value::from(value)));
                serde_json::Value::Object(fields.into_iter().collect()).to_string()
            };
            let escaped = quick_xml::escape::escape(&quoting);
            let bodies = [
                json([("RequestId", &quoting), ("Message", &quoting)]),
                json([("RequestId", &quoting), ("Code", &other)]),
                json([("RequestId", &other), ("Code", &quoting)]),
                json([("RequestId", &quoting), ("Code", &quoting)]),
                format!("<Error><Code>{escaped}</Code><RequestId>{escaped}</RequestId></Error>"),
                format!("<{ACTION}Response><RequestId>{escaped}</RequestId></{ACTION}Response>"),
                quoting.clone(),
            ];
            let stand_ins = [UNRECOGNIZED_CODE, WITHHELD];
            let ours = |text: &str| stand_ins.contains(&text) || known_code(text).is_some();
            for body in bodies {
                let status = StatusCode::from_u16(status).unwrap();
                let shown = shown(super::read(ACTION, status, body.as_bytes(), &[&sent]));
                for text in shown.iter().filter(|text| !ours(text)) {
                    let holds = text.to_ascii_lowercase().contains(&sent.to_ascii_lowercase());
                    prop_assert!(!holds, "{sent} in {text} of {body}");
                }
            }
        }

        #[test]
        fn no_bytes_make_it_panic(status in 100_u16..1000, body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read(ACTION, StatusCode::from_u16(status).unwrap(), &body);
        }

        #[test]
        fn no_markup_makes_it_panic(body in "[<>/&;!?a-cE\"{}:,\\[\\]]{0,60}|<Error>[<>/&;!\\[a-zC]{0,60}</Error>") {
            let _ = read(ACTION, StatusCode::OK, body.as_bytes());
        }

        /// A success is what the cloud has said, so nothing but its two forms may be taken for one.
        #[test]
        fn a_truncated_reply_is_never_a_success(cut in 0_usize..36) {
            let body = br#"{"RequestId":"473469C7","A":{"B":1}}"#;
            prop_assert!(read(ACTION, StatusCode::OK, &body[..cut]).is_err());
            prop_assert!(read(ACTION, StatusCode::OK, body).is_ok());
        }
    }
}
