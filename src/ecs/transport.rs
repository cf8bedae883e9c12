//! One request out, one reply of bounded size in. The only place that touches the HTTP client.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::error::{BuildError, Cause, Error, Unreadable};

/// Idle connections are closed after this long, before a server or a NAT gateway forgets them.
const POOL_IDLE: Duration = Duration::from_secs(30);

const USER_AGENT: &str = concat!("vncpassword-operator/", env!("CARGO_PKG_VERSION"));

/// The HTTP client and its connection pool.
pub(super) struct Transport(reqwest::Client);

/// A reply as it came in.
pub(super) struct Received {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// The body, or why there is none.
    pub(super) body: Result<Vec<u8>, Unreadable>,
}

impl Transport {
    /// Builds the HTTP client.
    ///
    /// It speaks HTTP/1.1 only, follows no redirect and uses no proxy, not even one that the environment names: the
    /// query holds a password, so nobody but the configured endpoint gets it. It repeats nothing by itself.
    pub(super) fn new(connect_timeout: Duration) -> Result<Self, BuildError> {
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
            .user_agent(USER_AGENT)
            .build()
            .map(Self)
            .map_err(BuildError)
    }

    /// Sends `POST url` with an empty body and reads the reply, up to `limit` bytes of its body.
    ///
    /// Has no time-out of its own but that of the connection: dropping the future ends it.
    pub(super) async fn post(
        &self,
        action: &'static str,
        url: &str,
        mut headers: HeaderMap,
        limit: usize,
    ) -> Result<Received, Error> {
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        // A POST that does not say how long it is, is refused by some gateways (411).
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from_static("0"));
        let request = self.0.post(url).headers(headers);
        let mut response = request.send().await.map_err(|error| broken(action, error))?;
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let body = bounded(&mut response, limit).await.map_err(|error| broken(action, error))?;
        Ok(Received { status, headers, body: body.ok_or(Unreadable::TooLarge) })
    }
}

/// The whole body, or `None` as soon as it turns out to be longer than `limit` bytes.
async fn bounded(response: &mut reqwest::Response, limit: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
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
