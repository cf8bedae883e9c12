//! ACS3-HMAC-SHA256, the signature of an RPC style call. Input: date, nonce, key and parameters. Output:
//! query and headers.
//!
//! Source of the format: the API's page "V3 request structure and signature" and the official SDKs.

use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderMap, HeaderName, HeaderValue, header};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::access_key::Credentials;

const ALGORITHM: &str = "ACS3-HMAC-SHA256";

/// Hex SHA-256 of the empty body: RPC style calls send everything in the query.
const EMPTY_BODY: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

/// All characters except those that RFC 3986 calls unreserved.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request to sign: `POST /` of one action.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The API action, for example `DescribeRegions`.
    pub action: &'a str,
    /// The API's version, for example `2014-05-26`.
    pub version: &'a str,
    /// The `Host` header: the host, and the port if it is not the scheme's own.
    pub host: &'a str,
    /// Names and values, not encoded, in any order.
    pub parameters: &'a [(&'a str, &'a str)],
}

/// 128 bits that are unique to the request. The server refuses a repeated nonce.
#[derive(Clone, Copy, Debug)]
pub struct Nonce([u8; 16]);

impl From<[u8; 16]> for Nonce {
    fn from(bits: [u8; 16]) -> Self {
        Self(bits)
    }
}

/// A signed request, ready to be sent.
pub struct Signed {
    /// The query, encoded as signed. May contain the VNC password.
    pub query: Zeroizing<String>,
    /// The signed headers and `Authorization`. Headers with credentials are marked sensitive.
    pub headers: HeaderMap,
}

/// Signs a request. `date` must be within about 15 minutes of the server's time.
///
/// # Errors
/// `InvalidHeaderValue` if action, version or host is not valid in a header. Credentials always are.
pub fn sign(
    request: &Request<'_>,
    credentials: &Credentials,
    date: Timestamp,
    nonce: Nonce,
) -> Result<Signed, header::InvalidHeaderValue> {
    let query = canonical_query(request.parameters);
    let date = self::date(date);
    let nonce = hex(&nonce.0);
    let mut signed = signed_headers(request, credentials, &date, &nonce);
    // The order is part of the signature.
    signed.sort_unstable_by_key(|(name, _)| *name);
    let names = signed.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");

    let mut headers = HeaderMap::with_capacity(signed.len() + 1);
    let mut canonical = Sha256::new();
    for part in ["POST\n/\n", &query, "\n"] {
        canonical.update(part);
    }
    for (name, value) in signed {
        for part in [name, ":", value, "\n"] {
            canonical.update(part);
        }
        headers.insert(HeaderName::from_static(name), header_value(name, value)?);
    }
    for part in ["\n", &names, "\n", EMPTY_BODY] {
        canonical.update(part);
    }
    let text = format!("{ALGORITHM}\n{}", hex(&canonical.finalize()));
    let signature = hmac(credentials.access_key_secret().expose(), &text);

    let id = credentials.access_key_id();
    let authorization = format!("{ALGORITHM} Credential={id},SignedHeaders={names},Signature={signature}");
    headers.insert(header::AUTHORIZATION, header_value("authorization", &authorization)?);
    Ok(Signed { query, headers })
}

/// A time in the format of the APIs: `yyyy-MM-ddTHH:mm:ssZ`.
pub(super) fn date(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Host and every `x-acs-*` header, as the official SDK for Node signs them.
fn signed_headers<'a>(
    request: &Request<'a>,
    credentials: &'a Credentials,
    date: &'a str,
    nonce: &'a str,
) -> Vec<(&'static str, &'a str)> {
    let mut headers = Vec::with_capacity(8);
    headers.extend([
        ("host", request.host),
        ("x-acs-action", request.action),
        ("x-acs-content-sha256", EMPTY_BODY),
        ("x-acs-date", date),
        ("x-acs-signature-nonce", nonce),
        ("x-acs-version", request.version),
    ]);
    if let Some(token) = credentials.security_token() {
        headers.push(("x-acs-accesskey-id", credentials.access_key_id()));
        headers.push(("x-acs-security-token", token.expose()));
    }
    headers
}

/// The parameters sorted by name and encoded by RFC 3986; an empty value keeps its `=`.
pub(super) fn canonical_query(parameters: &[(&str, &str)]) -> Zeroizing<String> {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    // Capacity for every character encoded: a string that grows leaves copies of the password in memory.
    let capacity = sorted.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
    let mut query = Zeroizing::new(String::with_capacity(capacity));
    for (name, value) in sorted {
        if !query.is_empty() {
            query.push('&');
        }
        query.extend(utf8_percent_encode(name, RESERVED));
        query.push('=');
        query.extend(utf8_percent_encode(value, RESERVED));
    }
    query
}

fn header_value(name: &str, value: &str) -> Result<HeaderValue, header::InvalidHeaderValue> {
    let mut header = HeaderValue::from_str(value)?;
    header.set_sensitive(matches!(name, "authorization" | "x-acs-accesskey-id" | "x-acs-security-token"));
    Ok(header)
}

fn hmac(key: &str, text: &str) -> String {
    // HMAC accepts keys of any length (RFC 2104), so this cannot fail.
    let mac = Hmac::<Sha256>::new_from_slice(key.as_bytes());
    mac.map(|mac| hex(&mac.chain_update(text).finalize().into_bytes())).unwrap_or_default()
}

pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 0xf]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

#[cfg(test)]
mod tests;
