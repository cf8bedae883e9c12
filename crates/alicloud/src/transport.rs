//! One request out, one reply of bounded size in. The only place that touches the HTTP client.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use zeroize::Zeroizing;

use super::error::{BuildError, Cause, Error, Unreadable};

/// Idle connections are closed after this long, before a server or a NAT gateway forgets them.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The default `User-Agent`: this library and its version.
pub(super) const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// The HTTP client and its connection pool. Clones share it.
#[derive(Clone)]
pub(super) struct Transport(reqwest::Client);

/// A request as it goes out.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// Longest body of the reply in bytes.
    pub(super) limit: usize,
}

/// A reply as it came in.
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, or why there is none.
    pub(super) body: Result<Zeroizing<Vec<u8>>, Unreadable>,
}

impl Transport {
    /// Builds the HTTP client.
    ///
    /// It speaks HTTP/1.1 only, follows no redirect and uses no proxy, not even one that the environment names: the
    /// query holds a password, so nobody but the configured endpoint gets it. It repeats nothing by itself.
    pub(super) fn new(connect_timeout: Duration, user_agent: &str) -> Result<Self, BuildError> {
        // reqwest takes its crypto from the process-wide default. If there is one already, it is ring as well: the
        // tree holds no other.
        let _ = rustls::crypto::ring::default_provider().install_default();
        reqwest::Client::builder()
            .http1_only()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .no_proxy()
            .referer(false)
            .tcp_nodelay(true)
            .connect_timeout(connect_timeout)
            .pool_idle_timeout(POOL_IDLE)
            .user_agent(user_agent)
            .build()
            .map(Self)
            .map_err(BuildError)
    }

    /// Sends a request and reads the reply, up to `limit` bytes of its body. `action` names the request in errors.
    ///
    /// Has no time-out of its own but that of the connection: dropping the future ends it. The body that is sent is
    /// wiped afterwards.
    pub(super) async fn send(&self, action: &'static str, request: Outgoing<'_>) -> Result<Received, Error> {
        let Outgoing { method, url, headers, body, limit } = request;
        let body_expected = method == Method::POST || method == Method::PUT;
        let mut request = self.0.request(method, url).headers(headers);
        if body.is_empty() {
            // A POST that does not say how long it is, is refused by some gateways (411).
            if body_expected {
                request = request.header(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        } else {
            request = request.body(Bytes::from_owner(body));
        }
        let mut response = request.send().await.map_err(|error| broken(action, error))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = bounded(&mut response, limit).await.map_err(|error| broken(action, error))?;
        Ok(Received { status, headers, body: body.ok_or(Unreadable::TooLarge) })
    }
}

/// The whole body, or `None` as soon as it turns out to be longer than `limit` bytes.
async fn bounded(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    // Room for all of it where its length is told: a buffer that grows leaves copies of what may be a secret.
    let told = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Zeroizing::new(Vec::with_capacity(told.min(limit)));
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > limit - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Sorts an error of the HTTP client by what is known of the request's fate, and takes the URL out of it.
fn broken(action: &'static str, error: reqwest::Error) -> Error {
    let unsent = error.is_connect() || error.is_builder();
    let cause = Cause::from(error.without_url());
    if unsent { Error::NotSent { action, cause } } else { Error::Interrupted { action, cause } }
}
