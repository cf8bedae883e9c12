//! The wire format: parses calls, and formats replies as JSON and XML.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, DATE, HeaderValue, LOCATION};
use http::{HeaderMap, Method, Response, StatusCode};
use http_body_util::Full;
use jiff::Timestamp;
use percent_encoding::percent_decode;
use quick_xml::escape::escape;
use serde_json::{Value, json};

use super::action::{self, Parameters};
use super::fault::{Garbage, HUGE};

/// A call as received.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub method: Method,
    pub path: String,
    /// The query's pairs, decoded, in the order they came in.
    pub query: Vec<(String, String)>,
    pub headers: HeaderMap,
    pub body: Bytes,
    /// Query and form body together.
    pub parameters: Parameters,
}

impl Request {
    pub fn new(parts: http::request::Parts, body: Bytes) -> Self {
        let query = decode_pairs(parts.uri.query().unwrap_or_default().as_bytes());
        let mut parameters: Parameters = query.iter().cloned().collect();
        if text(&parts.headers, "content-type").starts_with("application/x-www-form-urlencoded") {
            parameters.extend(decode_pairs(&body));
        }
        let path = parts.uri.path().to_owned();
        Self { method: parts.method, path, query, headers: parts.headers, body, parameters }
    }

    /// A header's value, or nothing.
    pub fn header(&self, name: &str) -> &str {
        text(&self.headers, name)
    }

    /// A parameter's value, or nothing.
    pub fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map_or("", String::as_str)
    }

    /// The action's name: in a header, as ACS3 has it, or a parameter.
    pub fn action(&self) -> &str {
        self.header_or_parameter("x-acs-action", "Action")
    }

    /// The API's version, likewise.
    pub fn version(&self) -> &str {
        self.header_or_parameter("x-acs-version", "Version")
    }

    /// The instances it names.
    pub fn instance_ids(&self) -> Vec<String> {
        action::instance_ids(&self.parameters)
    }

    /// The format of its reply: as `Format` says, else `Accept`, else the XML of the old RPC style.
    pub fn format(&self) -> Format {
        match self.parameters.get("Format") {
            Some(format) if format.eq_ignore_ascii_case("json") => Format::Json,
            None if text(&self.headers, ACCEPT.as_str()).contains("json") => Format::Json,
            _ => Format::Xml,
        }
    }

    fn header_or_parameter(&self, header: &str, parameter: &str) -> &str {
        match self.header(header) {
            "" => self.parameter(parameter),
            value => value,
        }
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().trim()
}

/// Splits and decodes `a=b&c=d`; clients write a space as `+` or as `%20`.
fn decode_pairs(encoded: &[u8]) -> Vec<(String, String)> {
    let decode = |part: &[u8]| {
        let spaced: Vec<u8> = part.iter().map(|byte| if *byte == b'+' { b' ' } else { *byte }).collect();
        percent_decode(&spaced).decode_utf8_lossy().into_owned()
    };
    encoded
        .split(|byte| *byte == b'&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let mut halves = pair.splitn(2, |byte| *byte == b'=');
            (decode(halves.next().unwrap_or_default()), decode(halves.next().unwrap_or_default()))
        })
        .collect()
}

/// Format of a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Xml,
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json;charset=utf-8",
            Self::Xml => "text/xml;charset=utf-8",
        }
    }
}

/// An error of the API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ApiError {
    pub status: u16,
    pub code: Cow<'static, str>,
    pub message: String,
    /// Sent as `x-acs-retry-after`.
    pub retry_after: Option<Duration>,
}

impl ApiError {
    pub fn new(status: u16, code: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, code: code.into(), message: message.into(), retry_after: None }
    }
}

/// A complete reply.
#[derive(Debug)]
pub(super) struct Rendered {
    status: u16,
    content_type: &'static str,
    header: Option<(&'static str, String)>,
    body: Bytes,
}

impl Rendered {
    /// The reply to an accepted call: `fields`, an object, and the `RequestId`.
    pub fn accepted(format: Format, action: &str, request_id: &str, mut fields: Value) -> Self {
        if let Some(fields) = fields.as_object_mut() {
            fields.insert("RequestId".to_owned(), request_id.into());
        }
        let body = match format {
            Format::Json => fields.to_string(),
            Format::Xml => xml_document(&format!("{action}Response"), &fields),
        };
        Self::plain(200, format.content_type(), body)
    }

    /// The reply to a refused call.
    pub fn refused(format: Format, host: &str, product: &str, request_id: &str, error: &ApiError) -> Self {
        let recommend = format!(
            "https://api.alibabacloud.com/troubleshoot?q={}&product={product}&requestId={request_id}",
            error.code
        );
        // In the order the real service writes them.
        let fields = [
            ("RequestId", request_id),
            ("Message", &error.message),
            ("Recommend", &recommend),
            ("HostId", host),
            ("Code", &error.code),
        ];
        let body = match format {
            Format::Json => {
                let fields = fields.map(|(name, value)| format!("\"{name}\":{}", Value::from(value)));
                format!("{{{}}}", fields.join(","))
            }
            Format::Xml => {
                let fields = fields.map(|(name, value)| format!("<{name}>{}</{name}>", escape(value)));
                format!("{XML_DECLARATION}<Error>{}</Error>", fields.concat())
            }
        };
        let retry_after = error.retry_after.map(|after| ("x-acs-retry-after", after.as_millis().to_string()));
        Self { header: retry_after, ..Self::plain(error.status, format.content_type(), body) }
    }

    /// A body that is not a reply of the API.
    pub fn garbage(status: u16, kind: Garbage) -> Self {
        let html = "<html><head><title>502 Bad Gateway</title></head><body>nginx</body></html>";
        let json = Format::Json.content_type();
        match kind {
            Garbage::Html => Self::plain(status, "text/html", html),
            Garbage::Empty => Self::plain(status, json, ""),
            Garbage::Truncated => {
                Self::plain(status, json, "{\"RequestId\":\"473469C7-AA6F-4DC5-B3DB-A3DC0DE3")
            }
            Garbage::NotJson => Self::plain(status, "text/plain", "OK"),
            Garbage::Huge => Self::plain(status, json, format!("{{\"RequestId\":\"{}\"}}", "x".repeat(HUGE))),
            Garbage::NoRequestId => Self::plain(status, json, "{}"),
        }
    }

    pub fn redirect(location: String) -> Self {
        Self { header: Some((LOCATION.as_str(), location)), ..Self::plain(302, "text/html", "") }
    }

    /// The reply of a local route: plain text, or JSON.
    pub fn local(value: &Value) -> Self {
        match value {
            Value::String(text) => Self::plain(200, "text/plain", text.clone()),
            fields => Self::plain(200, "application/json", fields.to_string()),
        }
    }

    /// The refusal of the metadata service: a page, as it sends them. With HTTP 200 its `Code` tells, in
    /// JSON.
    pub fn page(error: &ApiError) -> Self {
        if error.status == 200 {
            return Self::code(error);
        }
        let title = format!("{} - {}", error.status, escape(error.code.as_ref()));
        let page = format!("<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>");
        Self::plain(error.status, "text/html", page)
    }

    /// The refusal of a credentials URI: a `Code` other than `Success`.
    pub fn code(error: &ApiError) -> Self {
        let fields = json!({"Code": error.code, "Message": error.message});
        Self::plain(error.status, "application/json", fields.to_string())
    }

    /// A reply of the control routes.
    pub fn control(status: StatusCode, value: &Value) -> Self {
        Self::plain(status.as_u16(), "application/json", value.to_string())
    }

    fn plain(status: u16, content_type: &'static str, body: impl Into<Bytes>) -> Self {
        Self { status, content_type, header: None, body: body.into() }
    }

    pub fn status(&self) -> u16 {
        self.status
    }

    /// As HTTP, dated by the emulator's clock. What cannot be a status or a header is dropped: a fault may
    /// name any.
    pub fn into_response(self, now: Timestamp) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
        for (name, value) in [Some((DATE.as_str(), date)), self.header].into_iter().flatten() {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        response
    }
}

const XML_DECLARATION: &str = "<?xml version='1.0' encoding='UTF-8'?>";

fn xml_document(root: &str, value: &Value) -> String {
    let mut out = XML_DECLARATION.to_owned();
    write_xml(&mut out, root, value);
    out
}

/// An object becomes an element with children, an array one element an item.
fn write_xml(out: &mut String, name: &str, value: &Value) {
    if let Value::Array(items) = value {
        return items.iter().for_each(|item| write_xml(out, name, item));
    }
    out.push('<');
    out.push_str(name);
    out.push('>');
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| write_xml(out, name, value)),
        Value::String(text) => out.push_str(&escape(text.as_str())),
        other => out.push_str(&other.to_string()),
    }
    out.push_str("</");
    out.push_str(name);
    out.push('>');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(uri: &str, headers: &[(&str, &str)], body: &'static str) -> Request {
        let mut builder = http::Request::builder().method("POST").uri(uri);
        for (name, value) in headers {
            builder = builder.header(*name, *value);
        }
        Request::new(builder.body(()).unwrap().into_parts().0, Bytes::from_static(body.as_bytes()))
    }

    #[test]
    fn every_way_to_encode_a_value_is_decoded_to_the_same() {
        for uri in ["/?a=x+y*%7e&b=", "/?a=x%20y%2A~&b", "/?&a=x%20y*~&&b="] {
            let request = request(uri, &[], "");
            assert_eq!(request.query, [("a".into(), "x y*~".into()), ("b".into(), String::new())], "{uri}");
        }
    }

    #[test]
    fn a_form_body_holds_parameters_too() {
        let form = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        let request = request("/?Action=DescribeRegions", &form, "InstanceId=i-1&RegionId=cn-hangzhou");
        assert_eq!(request.instance_ids(), ["i-1"]);
        assert_eq!(request.action(), "DescribeRegions");
    }

    #[test]
    fn the_format_follows_the_parameter_then_the_accept_header_then_is_xml() {
        let json = [("accept", "application/json")];
        let table: [(&str, &[_], _); 4] = [
            ("/?Format=JSON", &[], Format::Json),
            ("/?Format=xml", &json, Format::Xml),
            ("/", &json, Format::Json),
            ("/", &[], Format::Xml),
        ];
        for (uri, headers, expected) in table {
            assert_eq!(request(uri, headers, "").format(), expected, "{uri} {headers:?}");
        }
    }

    #[test]
    fn replies_are_written_in_both_formats() {
        let error = ApiError::new(404, "A.B", "a < \"b\"");
        let text = |rendered: Rendered| String::from_utf8(rendered.body.to_vec()).unwrap();
        let json = text(Rendered::refused(Format::Json, "h", "Ecs", "R-1", &error));
        assert!(
            json.starts_with("{\"RequestId\":\"R-1\",\"Message\":\"a < \\\"b\\\"\",\"Recommend\":\""),
            "{json}"
        );
        assert!(json.ends_with(",\"HostId\":\"h\",\"Code\":\"A.B\"}"), "{json}");
        let xml = text(Rendered::refused(Format::Xml, "h", "Ecs", "R-1", &error));
        assert!(
            xml.contains("<Error><RequestId>R-1</RequestId><Message>a &lt; &quot;b&quot;</Message>"),
            "{xml}"
        );
        let list = json!({"Regions": {"Region": [{"RegionId": "a"}, {"RegionId": "b"}]}});
        let xml = text(Rendered::accepted(Format::Xml, "DescribeRegions", "R-2", list));
        let expected = "<DescribeRegionsResponse>\
                        <Regions><Region><RegionId>a</RegionId></Region>\
                        <Region><RegionId>b</RegionId></Region></Regions>\
                        <RequestId>R-2</RequestId></DescribeRegionsResponse>";
        assert_eq!(xml.strip_prefix(XML_DECLARATION), Some(expected));
    }
}
