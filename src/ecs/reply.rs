//! From the bytes of a reply to what it says: accepted, refused, or not the API's words at all. Pure.

use std::borrow::Cow;

use http::StatusCode;
use quick_xml::{Reader, events::Event};
use serde::Deserialize;

use super::{
    api::{RequestId, sanitised},
    error::Unreadable,
};

/// Longest `Code` in characters; the API's own stay below half of it.
const MAX_CODE: usize = 128;

/// What a reply says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Reply {
    /// Status 2xx, a `RequestId`, and no `Code`.
    Accepted(RequestId),
    /// There is a `Code`, whatever the status.
    Refused(Refusal),
}

/// What the server says about a request it does not take.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) code: String,
    pub(super) request_id: Option<RequestId>,
    /// For the debug log, masked, and for nothing else. Empty for a reply in XML, whose entities could hide a
    /// secret from the mask.
    pub(super) message: String,
}

/// The fields that all replies share; those of the action are read by `wire`.
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

/// Reads a whole body. `action` is the API action that was called.
pub(super) fn read(action: &str, status: StatusCode, body: &[u8]) -> Result<Reply, Unreadable> {
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
    let request_id = envelope.request_id.as_deref().and_then(RequestId::parse);
    let code = sanitised(&envelope.code.unwrap_or_default(), "._-", MAX_CODE);
    if !code.is_empty() {
        let message = envelope.message.unwrap_or_default().into_owned();
        Ok(Reply::Refused(Refusal { code, request_id, message }))
    } else if status.is_success() {
        request_id.map(Reply::Accepted).ok_or(Unreadable::MissingField("RequestId"))
    } else {
        Err(Unreadable::MissingField("Code"))
    }
}

/// Reads a JSON object. The parser's errors quote the document, so only their kind is kept.
pub(super) fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Unreadable> {
    // A struct could also be read from an array of its fields, which the API does not send.
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

/// Reads `<Error>` with `Code` and `RequestId` in it, or `<{action}Response>` with `RequestId`.
///
/// Only fields right below the root count, and only complete documents.
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
                path.push(name);
            }
            Event::Text(text) => {
                let field = match path.as_slice() {
                    [_, field] if field == "RequestId" => &mut envelope.request_id,
                    [root, field] if root == "Error" && field == "Code" => &mut envelope.code,
                    _ => continue,
                };
                field.get_or_insert_default().to_mut().push_str(&text.xml10_content());
            }
            Event::End(_) => {
                let name = path.pop()?;
                if path.is_empty() {
                    // An error is none of the API's without a code, and never a success.
                    return (name != "Error" || envelope.code.is_some()).then_some(envelope);
                }
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ACTION: &str = "ModifyInstanceVncPasswd";

    fn accepted(id: &str) -> Reply {
        Reply::Accepted(RequestId::parse(id).unwrap())
    }

    fn refused(code: &str, id: Option<&str>, message: &str) -> Reply {
        let request_id = id.and_then(RequestId::parse);
        Reply::Refused(Refusal { code: code.into(), request_id, message: message.into() })
    }

    #[test]
    fn json_is_read_by_code_first_and_status_second() {
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
            (400, r#"{"Code":"a b\n<c>_-"}"#, Ok(refused("abc_-", None, ""))),
            (200, "{}", Err(Unreadable::MissingField("RequestId"))),
            (200, r#"{"RequestId":""}"#, Err(Unreadable::MissingField("RequestId"))),
            (200, r#"{"RequestId":"\n"}"#, Err(Unreadable::MissingField("RequestId"))),
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
    fn xml_is_read_where_it_is_the_apis() {
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
            (400, "<Error><Code>Throttling</Code><Code/></Error>", Ok(refused("Throttling", None, ""))),
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
    fn an_overlong_code_is_cut_off() {
        let body = format!(r#"{{"Code":"{}"}}"#, "a".repeat(999));
        let Ok(Reply::Refused(refusal)) = read(ACTION, StatusCode::OK, body.as_bytes()) else { panic!() };
        assert_eq!(refusal.code.len(), MAX_CODE);
    }

    proptest! {
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
        fn nothing_cut_short_is_a_success(cut in 0_usize..36) {
            let body = br#"{"RequestId":"473469C7","A":{"B":1}}"#;
            prop_assert!(read(ACTION, StatusCode::OK, &body[..cut]).is_err());
            prop_assert!(read(ACTION, StatusCode::OK, body).is_ok());
        }
    }
}
