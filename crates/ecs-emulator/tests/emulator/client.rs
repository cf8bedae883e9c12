//! A small signing client. It shares nothing with the operator's, so that the emulator's tests stand alone.

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::HeaderMap;
use serde_json::Value;
use sha2::{Digest, Sha256};
use vncpassword_emulator::{AccessKey, DEFAULT_REGION, Emulator, Instance, Options};

const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// An emulator with one instance, `i-1`.
pub async fn emulator() -> Emulator {
    let emulator = Emulator::start(Options::default()).await.unwrap();
    emulator.cloud().put_instance(Instance::new("i-1"));
    emulator
}

/// What came back.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: HeaderMap,
    pub body: String,
}

impl Reply {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    pub fn code(&self) -> String {
        self.json()["Code"].as_str().unwrap_or_default().to_owned()
    }
}

/// How a call is made; the default is what the official SDKs do.
pub struct Style {
    pub method: &'static str,
    /// Whether the parameters travel in a form body instead of the query.
    pub form: bool,
    pub accept: Option<&'static str>,
    pub version: &'static str,
    pub key: AccessKey,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            method: "POST",
            form: false,
            accept: Some("application/json"),
            version: "2014-05-26",
            key: AccessKey::default(),
        }
    }
}

impl Style {
    /// A call of STS.
    pub fn sts() -> Self {
        Self { version: "2015-04-01", ..Self::default() }
    }

    /// A call with another key.
    pub fn by(key: AccessKey) -> Self {
        Self { key, ..Self::default() }
    }
}

/// A client that follows no redirect and gives up after `timeout`.
pub fn http(timeout: Duration) -> reqwest::Client {
    static PROVIDER: LazyLock<()> = LazyLock::new(|| {
        rustls::crypto::ring::default_provider().install_default().unwrap();
    });
    LazyLock::force(&PROVIDER);
    reqwest::Client::builder()
        .timeout(timeout)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .unwrap()
}

/// Sets the password of an instance in the default region.
pub async fn modify(emulator: &Emulator, id: &str, password: &str) -> reqwest::Result<Reply> {
    let parameters = [("RegionId", DEFAULT_REGION), ("InstanceId", id), ("VncPassword", password)];
    call(emulator, "ModifyInstanceVncPasswd", &parameters, &Style::default()).await
}

/// Calls an action.
pub async fn call(
    emulator: &Emulator,
    action: &str,
    parameters: &[(&str, &str)],
    style: &Style,
) -> reqwest::Result<Reply> {
    let request = signed(&http(Duration::from_secs(1)), emulator, action, parameters, style);
    read(request.send().await?).await
}

/// A reply, read to its end.
pub async fn read(reply: reqwest::Response) -> reqwest::Result<Reply> {
    Ok(Reply { status: reply.status().as_u16(), headers: reply.headers().clone(), body: reply.text().await? })
}

/// A signed request, not yet sent.
pub fn signed(
    http: &reqwest::Client,
    emulator: &Emulator,
    action: &str,
    parameters: &[(&str, &str)],
    style: &Style,
) -> reqwest::RequestBuilder {
    static NONCE: AtomicU64 = AtomicU64::new(0);
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let sorted: BTreeMap<_, _> = parameters.iter().copied().collect();
    let pairs: Vec<_> =
        sorted.into_iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
    let (query, body) =
        if style.form { (String::new(), pairs.join("&")) } else { (pairs.join("&"), String::new()) };
    let url = emulator.url();
    let mut headers = BTreeMap::from([
        ("host", url.trim_start_matches("http://").to_owned()),
        ("x-acs-action", action.to_owned()),
        ("x-acs-content-sha256", hex(&Sha256::digest(&body))),
        ("x-acs-date", emulator.cloud().now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("x-acs-signature-nonce", NONCE.fetch_add(1, Ordering::Relaxed).to_string()),
        ("x-acs-version", style.version.to_owned()),
    ]);
    if let Some(token) = &style.key.security_token {
        headers.insert("x-acs-security-token", token.clone());
    }
    if style.form {
        headers.insert("content-type", "application/x-www-form-urlencoded".to_owned());
    }
    let claim = authorization(&style.key, style.method, &query, &headers);
    let method = style.method.parse().unwrap();
    let mut request =
        http.request(method, format!("{url}/?{query}")).header("authorization", claim).body(body);
    for (name, value) in headers.into_iter().chain(style.accept.map(|value| ("accept", value.to_owned()))) {
        request = request.header(name, value);
    }
    request
}

fn authorization(key: &AccessKey, method: &str, query: &str, headers: &BTreeMap<&str, String>) -> String {
    let names = headers.keys().copied().collect::<Vec<_>>().join(";");
    let lines: Vec<_> = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
    let canonical =
        [method, "/", query, &lines.concat(), &names, &headers["x-acs-content-sha256"]].join("\n");
    let text = format!("ACS3-HMAC-SHA256\n{}", hex(&Sha256::digest(canonical)));
    let mac = Hmac::<Sha256>::new_from_slice(key.secret.as_bytes()).unwrap();
    let signature = hex(&mac.chain_update(text).finalize().into_bytes());
    let id = &key.id;
    format!("ACS3-HMAC-SHA256 Credential={id},SignedHeaders={names},Signature={signature}")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat()
}
