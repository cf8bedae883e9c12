//! Sends one HTTP request and reads one reply of bounded size. Only this file uses the HTTP client.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use zeroize::Zeroizing;

use super::error::{BuildError, Cause, Error, Unreadable};

/// Idle connections are closed after this time, before a server or a NAT gateway drops them.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// The default `User-Agent`: this library and its version.
pub(super) const USER_AGENT: &str = concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION"));

/// The HTTP client and its connection pool. Clones share it.
#[derive(Clone)]
pub(super) struct Transport(reqwest::Client);

/// A request.
pub(super) struct Outgoing<'a> {
    pub(super) method: Method,
    pub(super) url: &'a str,
    pub(super) headers: HeaderMap,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// The maximum length of the body of the reply, in bytes.
    pub(super) limit: usize,
}

/// A reply.
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, or why it was not read.
    pub(super) body: Result<Zeroizing<Vec<u8>>, Unreadable>,
}

impl Transport {
    /// Builds the HTTP client.
    ///
    /// HTTP/1.1 only, no redirects, no retries and no proxy, not even one set in the environment: the query
    /// may contain a password, so only the configured endpoint may receive it.
    pub(super) fn new(connect_timeout: Duration, user_agent: &str) -> Result<Self, BuildError> {
        // reqwest uses the process-wide default crypto provider. If one is installed already, it is also
        // ring: no other is linked.
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

    /// Sends a request and reads at most `limit` bytes of the body. `action` names the request in errors.
    ///
    /// Only connecting has a time limit here: drop the future to cancel. The memory of the request body is
    /// overwritten afterwards.
    pub(super) async fn send(&self, action: &'static str, request: Outgoing<'_>) -> Result<Received, Error> {
        let Outgoing { method, url, headers, body, limit } = request;
        let body_expected = method == Method::POST || method == Method::PUT;
        let mut request = self.0.request(method, url).headers(headers);
        if body.is_empty() {
            // Some gateways refuse a POST without a length (411).
            if body_expected {
                request = request.header(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
            }
        } else {
            request = request.body(Bytes::from_owner(body));
        }
        let mut response = request.send().await.map_err(|error| convert_error(action, error))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = read_bounded(&mut response, limit).await.map_err(|error| convert_error(action, error))?;
        Ok(Received { status, headers, body: body.ok_or(Unreadable::TooLarge) })
    }
}

/// The whole body, or `None` if it is longer than `limit` bytes.
async fn read_bounded(
    response: &mut reqwest::Response,
    limit: usize,
) -> Result<Option<Zeroizing<Vec<u8>>>, reqwest::Error> {
    // Capacity for the announced length: a buffer that grows leaves copies of secrets in memory.
    let announced = response.content_length().and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = Zeroizing::new(Vec::with_capacity(announced.min(limit)));
    while let Some(chunk) = response.chunk().await? {
        if chunk.len() > limit - body.len() {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

/// Converts an error of the HTTP client. Removes the URL.
fn convert_error(action: &'static str, error: reqwest::Error) -> Error {
    let unsent = error.is_connect() || error.is_builder();
    let cause = Cause::from(error.without_url());
    if unsent { Error::NotSent { action, cause } } else { Error::Interrupted { action, cause } }
}
