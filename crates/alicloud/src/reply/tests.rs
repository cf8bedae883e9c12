//! Tests of the parser of replies.

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
        ("473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E", true, Ok(accepted("473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E"))),
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
