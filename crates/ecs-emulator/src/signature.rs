//! Verifies `ACS3-HMAC-SHA256` signatures. Written from the specification and without code of
//! `crates/alicloud`, so that an error on either side is found. `legacy` verifies the older signature in the
//! query.

mod legacy;

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use jiff::{SignedDuration, Timestamp};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

use super::action::Service;
use super::wire::{ApiError, Request};

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// How far a signature's date may be from the clock, either way.
pub(super) const TOLERANCE: SignedDuration = SignedDuration::from_mins(15);

/// Everything but the unreserved characters of RFC 3986.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The signature of a request.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Proof<'a> {
    /// By the `Authorization` header.
    Header(Claim<'a>),
    /// By the older signature in the query, which STS still accepts because official clients send it.
    Query(legacy::Claim<'a>),
}

impl<'a> Proof<'a> {
    pub fn read(request: &'a Request, service: Service) -> Result<Self, ApiError> {
        let legacy = if service == Service::Sts { legacy::Claim::read(request) } else { None };
        legacy.map_or_else(|| Claim::read(request).map(Self::Header), |claim| Ok(Self::Query(claim)))
    }

    pub fn access_key_id(&self) -> &'a str {
        match self {
            Self::Header(claim) => claim.access_key_id,
            Self::Query(claim) => claim.access_key_id,
        }
    }

    /// The security token that came with it, or nothing.
    pub fn security_token(&self, request: &'a Request) -> &'a str {
        match self {
            Self::Header(_) => request.header("x-acs-security-token"),
            Self::Query(_) => request.parameter("SecurityToken"),
        }
    }

    pub fn nonce(&self, request: &'a Request) -> &'a str {
        match self {
            Self::Header(_) => request.header("x-acs-signature-nonce"),
            Self::Query(_) => request.parameter("SignatureNonce"),
        }
    }

    /// Verifies a signature, except for the uniqueness of its nonce. Returns its date.
    pub fn verify(&self, request: &Request, secret: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
        match self {
            Self::Header(claim) => verify(request, claim, secret, now),
            Self::Query(claim) => legacy::verify(request, claim, secret, now),
        }
    }
}

/// The fields of the `Authorization` header.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Claim<'a> {
    pub access_key_id: &'a str,
    signed_headers: &'a str,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    /// Reads `ACS3-HMAC-SHA256 Credential=..,SignedHeaders=..,Signature=..`.
    pub fn read(request: &'a Request) -> Result<Self, ApiError> {
        let header = request.header("authorization");
        if header.is_empty() {
            return Err(missing("AccessKeyId"));
        }
        let mut claim = Self { access_key_id: "", signed_headers: "", signature: "" };
        let fields = header.strip_prefix(ALGORITHM).unwrap_or_default();
        for field in fields.split(',') {
            match field.trim().split_once('=') {
                Some(("Credential", value)) => claim.access_key_id = value,
                Some(("SignedHeaders", value)) => claim.signed_headers = value,
                Some(("Signature", value)) => claim.signature = value,
                _ => {}
            }
        }
        if [claim.access_key_id, claim.signed_headers, claim.signature].contains(&"") {
            return Err(incomplete("the Authorization header cannot be read"));
        }
        Ok(claim)
    }
}

/// The date of a request's signature, if it is valid.
pub(super) fn signed_at(request: &Request) -> Option<Timestamp> {
    match request.header("x-acs-date") {
        "" => read_date(request.parameter("Timestamp")),
        date => read_date(date),
    }
}

fn read_date(date: &str) -> Option<Timestamp> {
    // `Timestamp` reads more than the one form that the API takes.
    let form_fits = date.len() == "yyyy-MM-ddTHH:mm:ssZ".len() && date.ends_with('Z') && date.contains('T');
    form_fits.then(|| date.parse().ok()).flatten()
}

fn verify(request: &Request, claim: &Claim<'_>, secret: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    for (header, name) in [("x-acs-date", "Timestamp"), ("x-acs-signature-nonce", "SignatureNonce")] {
        if request.header(header).is_empty() {
            return Err(missing(name));
        }
    }
    let signed_at = check_date(request.header("x-acs-date"), now)?;
    if let Some(unsigned) = unsigned_header(request, claim) {
        return Err(incomplete(&format!("the header {unsigned} is not signed")));
    }
    let canonical = canonical_request(request, claim.signed_headers);
    let string_to_sign = format!("{ALGORITHM}\n{}", sha256(canonical.as_bytes()));
    let body_fits = request.header("x-acs-content-sha256") == sha256(&request.body);
    if !body_fits || hmac(secret, &string_to_sign) != claim.signature {
        let message = format!(
            "Specified signature does not match our calculation. server string to sign is:{string_to_sign}, \
             server canonicalRequest is:{canonical}"
        );
        return Err(ApiError::new(400, "SignatureDoesNotMatch", message));
    }
    Ok(signed_at)
}

/// Parses the date of a signature, and checks its distance from the clock.
fn check_date(date: &str, now: Timestamp) -> Result<Timestamp, ApiError> {
    let message = "The input parameter \"Timestamp\" is not in a supported format.";
    let signed_at = read_date(date).ok_or_else(|| ApiError::new(400, "IllegalTimestamp", message))?;
    if now.duration_since(signed_at).abs() > TOLERANCE {
        let message = "Specified time stamp or date value is expired.";
        return Err(ApiError::new(400, "InvalidTimeStamp.Expired", message));
    }
    Ok(signed_at)
}

/// A header that must be signed and is not: host, the body's hash, and the rest of `x-acs-*` as well as the
/// content type where they are sent.
fn unsigned_header(request: &Request, claim: &Claim<'_>) -> Option<String> {
    let signed: Vec<&str> = claim.signed_headers.split(';').collect();
    let sent = request.headers.keys().map(http::HeaderName::as_str);
    ["host", "x-acs-content-sha256"]
        .into_iter()
        .chain(sent.filter(|name| name.starts_with("x-acs-") || *name == "content-type"))
        .find(|name| !signed.contains(name))
        .map(str::to_owned)
}

/// The canonical request: from the decoded values, since clients differ in how they encode them.
fn canonical_request(request: &Request, signed_headers: &str) -> String {
    let mut query: Vec<_> = request.query.iter().collect();
    query.sort();
    let encode = |text| utf8_percent_encode(text, RESERVED);
    let query: Vec<_> =
        query.into_iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let mut headers = String::new();
    for name in signed_headers.split(';') {
        let mut values: Vec<_> = request
            .headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .map(str::trim)
            .collect();
        values.sort_unstable();
        // Writing to a String does not fail.
        let _ = writeln!(headers, "{name}:{}", values.join(","));
    }
    [
        request.method.as_str(),
        &request.path,
        &query.join("&"),
        &headers,
        signed_headers,
        request.header("x-acs-content-sha256"),
    ]
    .join("\n")
}

fn sha256(data: &[u8]) -> String {
    hex(&Sha256::digest(data))
}

fn hmac(secret: &str, text: &str) -> String {
    // HMAC takes a key of any length, so this is never an error; an empty signature would match nobody's.
    Hmac::<Sha256>::new_from_slice(secret.as_bytes())
        .map(|mac| hex(&mac.chain_update(text).finalize().into_bytes()))
        .unwrap_or_default()
}

/// Lower-case hexadecimal digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, byte| {
        let _ = write!(out, "{byte:02x}");
        out
    })
}

fn missing(name: &str) -> ApiError {
    ApiError::new(400, format!("Missing{name}"), format!("{name} is mandatory for this action."))
}

fn incomplete(why: &str) -> ApiError {
    let message = format!("The request signature does not conform to Aliyun standards: {why}.");
    ApiError::new(400, "IncompleteSignature", message)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const EMPTY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
    const SIGNED: &str =
        "host;x-acs-action;x-acs-content-sha256;x-acs-date;x-acs-signature-nonce;x-acs-version";
    const SIGNATURE: &str = "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0";

    /// The published vector.
    fn vector() -> http::request::Builder {
        http::Request::builder()
            .method("POST")
            .uri("/?RegionId=cn-shanghai&ImageId=win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd")
            .header("host", "ecs.cn-shanghai.aliyuncs.com")
            .header("x-acs-action", "RunInstances")
            .header("x-acs-content-sha256", EMPTY)
            .header("x-acs-date", "2023-10-26T10:22:32Z")
            .header("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d")
            .header("x-acs-version", "2014-05-26")
    }

    fn authorization(signed_headers: &str, signature: &str) -> String {
        format!("{ALGORITHM} Credential=YourAccessKeyId,SignedHeaders={signed_headers},Signature={signature}")
    }

    fn check(request: http::request::Builder, body: &'static [u8], secret: &str, now: &str) -> String {
        let request = Request::new(request.body(()).unwrap().into_parts().0, Bytes::from_static(body));
        let verdict =
            Claim::read(&request).and_then(|claim| verify(&request, &claim, secret, now.parse().unwrap()));
        verdict.map_or_else(|error| error.code.into_owned(), |at| at.to_string())
    }

    #[test]
    fn the_published_vector_is_accepted() {
        let request = vector().header("authorization", authorization(SIGNED, SIGNATURE));
        let verdict = check(request, b"", "YourAccessKeySecret", "2023-10-26T10:30:00Z");
        assert_eq!(verdict, "2023-10-26T10:22:32Z");
    }

    #[test]
    fn whatever_differs_from_the_vector_is_refused_with_the_code_of_the_fault() {
        const SECRET: &str = "YourAccessKeySecret";
        const NOW: &str = "2023-10-26T10:30:00Z";
        let good = || vector().header("authorization", authorization(SIGNED, SIGNATURE));
        let without = |gap: &str| {
            let mut request = good();
            request.headers_mut().unwrap().remove(gap);
            request
        };
        let signed = |headers: &str| vector().header("authorization", authorization(headers, SIGNATURE));
        let table = [
            ("another secret", check(good(), b"", "Other", NOW), "SignatureDoesNotMatch"),
            ("another query", check(good().uri("/?RegionId=x"), b"", SECRET, NOW), "SignatureDoesNotMatch"),
            ("another method", check(good().method("GET"), b"", SECRET, NOW), "SignatureDoesNotMatch"),
            ("another body", check(good(), b"x", SECRET, NOW), "SignatureDoesNotMatch"),
            ("a late one", check(good(), b"", SECRET, "2023-10-26T10:37:33Z"), "InvalidTimeStamp.Expired"),
            ("an early one", check(good(), b"", SECRET, "2023-10-26T10:07:31Z"), "InvalidTimeStamp.Expired"),
            ("no authorization", check(vector(), b"", SECRET, NOW), "MissingAccessKeyId"),
            ("no date", check(without("x-acs-date"), b"", SECRET, NOW), "MissingTimestamp"),
            ("no nonce", check(without("x-acs-signature-nonce"), b"", SECRET, NOW), "MissingSignatureNonce"),
            ("a header unsigned", check(signed("x-acs-action"), b"", SECRET, NOW), "IncompleteSignature"),
            (
                "a token unsigned",
                check(good().header("x-acs-security-token", "t"), b"", SECRET, NOW),
                "IncompleteSignature",
            ),
            (
                "another scheme",
                check(vector().header("authorization", "Basic eA=="), b"", SECRET, NOW),
                "IncompleteSignature",
            ),
        ];
        for (case, code, expected) in table {
            assert_eq!(code, expected, "{case}");
        }
    }

    #[test]
    fn a_date_in_another_form_is_illegal() {
        for date in
            ["2023-10-26T10:22:32+00:00", "2023-10-26 10:22:32Z", "Thu, 26 Oct 2023 10:22:32 GMT", "0"]
        {
            let mut request = vector().header("authorization", authorization(SIGNED, SIGNATURE));
            request.headers_mut().unwrap().insert("x-acs-date", date.parse().unwrap());
            assert_eq!(check(request, b"", "", "2023-10-26T10:30:00Z"), "IllegalTimestamp", "{date}");
        }
    }

    #[test]
    fn the_message_of_a_wrong_signature_echoes_the_query_as_the_real_one_does() {
        let builder =
            vector().uri("/?VncPassword=Abc123").header("authorization", authorization(SIGNED, SIGNATURE));
        let request = Request::new(builder.body(()).unwrap().into_parts().0, Bytes::new());
        let claim = Claim::read(&request).unwrap();
        let error = verify(&request, &claim, "s", "2023-10-26T10:30:00Z".parse().unwrap()).unwrap_err();
        assert!(error.message.contains("VncPassword=Abc123"), "{}", error.message);
    }
}
