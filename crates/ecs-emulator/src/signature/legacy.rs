//! The check of the older signature, HMAC-SHA1 over the parameters: discontinued for ECS, still sent to STS
//! by official clients.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use percent_encoding::utf8_percent_encode;
use ring::hmac::{HMAC_SHA1_FOR_LEGACY_USE_ONLY, Key, verify as fits};

use super::{RESERVED, check_date, incomplete, missing};
use crate::wire::{ApiError, Request};

/// What the parameters claim.
#[derive(Debug, PartialEq, Eq)]
pub struct Claim<'a> {
    pub access_key_id: &'a str,
    signature: &'a str,
}

impl<'a> Claim<'a> {
    /// Reads `AccessKeyId` and `Signature`, if the request is signed that way.
    pub fn read(request: &'a Request) -> Option<Self> {
        let claim = Self {
            access_key_id: request.parameter("AccessKeyId"),
            signature: request.parameter("Signature"),
        };
        let used = ![claim.access_key_id, claim.signature].contains(&"");
        (used && request.header("authorization").is_empty()).then_some(claim)
    }
}

/// Checks everything about a signature but whether its nonce is new. Returns its date.
pub fn verify(
    request: &Request,
    claim: &Claim<'_>,
    secret: &str,
    now: Timestamp,
) -> Result<Timestamp, ApiError> {
    for name in ["Timestamp", "SignatureNonce"] {
        if request.parameter(name).is_empty() {
            return Err(missing(name));
        }
    }
    if request.parameter("SignatureMethod") != "HMAC-SHA1" || request.parameter("SignatureVersion") != "1.0" {
        return Err(incomplete("SignatureMethod or SignatureVersion is not supported"));
    }
    let signed_at = check_date(request.parameter("Timestamp"), now)?;
    let text = string_to_sign(request);
    let key = Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, format!("{secret}&").as_bytes());
    let signature = STANDARD.decode(claim.signature).unwrap_or_default();
    if fits(&key, text.as_bytes(), &signature).is_err() {
        let message =
            format!("Specified signature does not match our calculation. server string to sign is:{text}");
        return Err(ApiError::new(400, "SignatureDoesNotMatch", message));
    }
    Ok(signed_at)
}

/// `METHOD&%2F&` and the parameters, sorted, encoded, joined and encoded once more.
fn string_to_sign(request: &Request) -> String {
    let encode = |text| utf8_percent_encode(text, RESERVED);
    let pairs: Vec<_> = request
        .parameters
        .iter()
        .filter(|(name, _)| *name != "Signature")
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    format!("{}&%2F&{}", request.method, encode(&pairs.join("&")))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// The example of the API's reference for this signature: key `testid` / `testsecret`.
    const QUERY: &str = "Timestamp=2016-02-23T12%3A46%3A24Z&Format=XML&AccessKeyId=testid\
        &Action=DescribeRegions&SignatureMethod=HMAC-SHA1\
        &SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf&Version=2014-05-26&SignatureVersion=1.0";
    const SIGNATURE: &str = "OLeaidS1JvxuMvnyHOwuJ%2BuX5qY%3D";
    const NOW: &str = "2016-02-23T12:50:00Z";

    fn check(query: &str, secret: &str, now: &str) -> String {
        let request = http::Request::get(format!("/?{query}")).body(()).unwrap();
        let request = Request::new(request.into_parts().0, Bytes::new());
        let Some(claim) = Claim::read(&request) else { return "no claim".to_owned() };
        let outcome = verify(&request, &claim, secret, now.parse().unwrap());
        outcome.err().map(|error| error.code.into_owned()).unwrap_or_default()
    }

    #[test]
    fn the_published_example_is_taken_and_whatever_differs_from_it_is_not() {
        let signed = |query: &str| format!("{query}&Signature={SIGNATURE}");
        let without = |pair: &str| signed(QUERY).replace(pair, "");
        let table = [
            ("the example", check(&signed(QUERY), "testsecret", NOW), ""),
            ("another secret", check(&signed(QUERY), "other", NOW), "SignatureDoesNotMatch"),
            (
                "another query",
                check(&signed(&format!("{QUERY}&A=b")), "testsecret", NOW),
                "SignatureDoesNotMatch",
            ),
            ("no base64", check(&format!("{QUERY}&Signature=!"), "testsecret", NOW), "SignatureDoesNotMatch"),
            ("late", check(&signed(QUERY), "testsecret", "2016-02-23T13:01:25Z"), "InvalidTimeStamp.Expired"),
            ("no signature", check(QUERY, "testsecret", NOW), "no claim"),
            (
                "no method",
                check(&without("&SignatureMethod=HMAC-SHA1"), "testsecret", NOW),
                "IncompleteSignature",
            ),
            (
                "no nonce",
                check(&without("&SignatureNonce=3ee8c1b8-83d3-44af-a94f-4e0ad82fd6cf"), "testsecret", NOW),
                "MissingSignatureNonce",
            ),
        ];
        for (case, code, expected) in table {
            assert_eq!(code, expected, "{case}");
        }
    }
}
