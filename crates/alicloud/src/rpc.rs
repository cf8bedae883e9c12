//! One call of an RPC style API (ECS or STS), signed or not: sends the request and interprets the reply.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use jiff::Timestamp;
use rand::{TryRng, rngs::SysRng};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument, Span, debug, field::Empty};
use zeroize::Zeroizing;

use super::{
    access_key::Credentials,
    api::RequestId,
    clock::Clock,
    endpoint::Endpoint,
    error::{BuildError, Error, Unreadable},
    observer::{self, CallObserver},
    redact::redact,
    reply::{self, Refusal, Reply},
    signature::{self, Nonce, Signed},
    transport::{Outgoing, Received, Transport, USER_AGENT},
};

/// The maximum length of a reply without a list, in bytes.
pub(super) const SHORT_REPLY: usize = 64 << 10;

/// The tracing target of the spans of calls.
pub const CALL_SPANS: &str = "vncpassword::call";

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// The range of waits that a server can ask for. A shorter one would cause many calls, a garbled one would
/// stop calls for days.
const MIN_RETRY_AFTER: Duration = Duration::from_secs(1);
pub(super) const MAX_RETRY_AFTER: Duration = Duration::from_hours(1);

/// Connections, clock and observer for calls. Clones share them.
#[derive(Clone)]
pub struct Rpc {
    pub(super) transport: Transport,
    pub(super) clock: Clock,
    /// Observes each call.
    pub(super) observer: CallObserver,
}

/// A signed call of an action.
pub(super) struct Call<'a> {
    pub(super) action: &'static str,
    /// The version of the API.
    pub(super) version: &'static str,
    pub(super) endpoint: &'a Endpoint,
    pub(super) parameters: &'a [(&'a str, &'a str)],
    /// The time of the signature, by the cloud's clock; `None`: now.
    pub(super) signed_at: Option<Timestamp>,
    /// The maximum length of the reply in bytes.
    pub(super) limit: usize,
    /// A secret besides the credentials that logs and errors must not show.
    pub(super) secret: &'a str,
}

/// An unsigned call of an action: a secret in its form identifies the caller.
pub(super) struct Unsigned<'a> {
    pub(super) action: &'static str,
    /// The version of the API.
    pub(super) version: &'static str,
    pub(super) endpoint: &'a Endpoint,
    /// The form in the body. It is not in the URL, because gateways log URLs.
    pub(super) form: &'a [(&'a str, &'a str)],
    /// What logs and errors must not show.
    pub(super) secrets: &'a [&'a str],
}

/// An accepted call.
pub(super) struct Accepted {
    action: &'static str,
    pub(super) request_id: RequestId,
    http_status: u16,
    retry_after: Option<Duration>,
    body: Zeroizing<Vec<u8>>,
}

impl Accepted {
    /// The error for a body that is not a reply of the action.
    pub(super) fn unreadable(&self, kind: Unreadable) -> Error {
        let Self { action, http_status, retry_after, .. } = *self;
        Error::UnreadableReply { action, http_status, kind, retry_after }
    }

    /// Parses the body.
    pub(super) fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Error> {
        reply::json(&self.body).map_err(|kind| self.unreadable(kind))
    }
}

impl Rpc {
    /// Builds an HTTP client. Opens no connection. `connect_timeout`: for name resolution, TCP and TLS.
    ///
    /// # Errors
    /// [`BuildError`] if there are no root certificates.
    pub fn new(connect_timeout: Duration, clock: Clock) -> Result<Self, BuildError> {
        Ok(Self {
            transport: Transport::new(connect_timeout, USER_AGENT)?,
            clock,
            observer: CallObserver::default(),
        })
    }

    /// One attempt, complete before the deadline.
    pub(super) async fn call(
        &self,
        call: &Call<'_>,
        credentials: &Credentials,
        deadline: Instant,
    ) -> Result<Accepted, Error> {
        let action = call.action;
        let signed = self.sign(call, credentials)?;
        let url = call.endpoint.url(&signed.query);
        let mut headers = signed.headers;
        headers.insert(header::ACCEPT, JSON);
        let body = Zeroizing::default();
        let request = Outgoing { method: Method::POST, url: &url, headers, body, limit: call.limit };
        let [id, secret, token] = credentials.secrets();
        self.send_and_interpret(action, &[call.secret, id, secret, token], request, deadline).await
    }

    /// One attempt of an unsigned call, complete before the deadline.
    pub(super) async fn call_unsigned(
        &self,
        call: &Unsigned<'_>,
        deadline: Instant,
    ) -> Result<Accepted, Error> {
        let action = call.action;
        let nonce = signature::hex(&nonce(action)?);
        let query = signature::canonical_query(&[
            ("Action", action),
            ("Format", "JSON"),
            ("SignatureNonce", &nonce),
            ("Timestamp", &signature::date(self.clock.now())),
            ("Version", call.version),
        ]);
        let url = call.endpoint.url(&query);
        let form = signature::canonical_query(call.form);
        let mut body = Zeroizing::new(Vec::with_capacity(form.len()));
        body.extend_from_slice(form.as_bytes());
        let mut headers = HeaderMap::with_capacity(3);
        headers.insert(header::ACCEPT, JSON);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        let request = Outgoing { method: Method::POST, url: &url, headers, body, limit: SHORT_REPLY };
        self.send_and_interpret(action, call.secrets, request, deadline).await
    }

    /// Sends a request, interprets the reply, and reports the call. `secrets`: what must not be shown.
    async fn send_and_interpret(
        &self,
        action: &'static str,
        secrets: &[&str],
        request: Outgoing<'_>,
        deadline: Instant,
    ) -> Result<Accepted, Error> {
        let begun = Instant::now();
        let span = tracing::info_span!(
            target: CALL_SPANS, "call", otel.name = action, otel.kind = "client", otel.status_code = Empty, code = Empty,
            request_id = Empty
        );
        let received = self.send(action, request, deadline).instrument(span.clone()).await;
        let result = received.and_then(|received| span.in_scope(|| interpret(action, secrets, received)));
        self.observer.ended(action, &result, begun.elapsed());
        record(&span, &result);
        result
    }

    /// Sends one request. Measures the clock skew by the reply.
    pub(super) async fn send(
        &self,
        action: &'static str,
        request: Outgoing<'_>,
        deadline: Instant,
    ) -> Result<Received, Error> {
        let received = self.send_without_clock(action, request, deadline).await?;
        if let Some(date) = received.headers.get(header::DATE) {
            self.clock.measure(date.as_bytes());
        }
        Ok(received)
    }

    /// Sends one request to a server whose clock may differ from the cloud's.
    pub(super) async fn send_without_clock(
        &self,
        action: &'static str,
        request: Outgoing<'_>,
        deadline: Instant,
    ) -> Result<Received, Error> {
        let reply = self.transport.send(action, request);
        timeout_at(deadline, reply).await.map_err(|_| Error::Timeout { action })?
    }

    fn sign(&self, call: &Call<'_>, credentials: &Credentials) -> Result<Signed, Error> {
        let &Call { action, version, parameters, .. } = call;
        let request = signature::Request { action, version, host: call.endpoint.authority(), parameters };
        let nonce = Nonce::from(nonce(action)?);
        let signed_at = call.signed_at.unwrap_or_else(|| self.clock.now());
        signature::sign(&request, credentials, signed_at, nonce)
            .map_err(|_| Error::Invalid { action, problem: "the endpoint's host cannot stand in a header" })
    }
}

/// Records the result in the span of the call.
fn record(span: &Span, result: &Result<Accepted, Error>) {
    let request_id = match result {
        Ok(accepted) => Some(&accepted.request_id),
        Err(Error::Api { request_id, .. }) => request_id.as_ref(),
        Err(_) => None,
    };
    span.record("request_id", request_id.map(RequestId::as_str));
    span.record("code", observer::code(result));
    if result.is_err() {
        span.record("otel.status_code", "ERROR");
    }
}

fn nonce(action: &'static str) -> Result<[u8; 16], Error> {
    let mut nonce = [0; 16];
    SysRng
        .try_fill_bytes(&mut nonce)
        .map_err(|_| Error::Invalid { action, problem: "the system gives no random numbers" })?;
    Ok(nonce)
}

/// Interprets a reply. `secrets`: what was sent and must not be shown.
pub(super) fn interpret(
    action: &'static str,
    secrets: &[&str],
    received: Received,
) -> Result<Accepted, Error> {
    let Received { status, headers, body } = received;
    let (http_status, retry_after) = (status.as_u16(), retry_after(&headers));
    let unreadable = |kind| Error::UnreadableReply { action, http_status, kind, retry_after };
    let body = body.map_err(unreadable)?;
    match reply::read(action, status, &body, secrets).map_err(unreadable)? {
        Reply::Accepted(request_id) => Ok(Accepted { action, request_id, http_status, retry_after, body }),
        Reply::Refused(refusal) => {
            log(action, secrets, &refusal);
            let Refusal { code, request_id, message: _ } = refusal;
            Err(Error::Api { action, code, request_id, http_status, retry_after })
        }
    }
}

/// Writes the message of the server to the debug log, unless it contains a secret. No other output contains
/// it. Code and id are checked already.
fn log(action: &str, secrets: &[&str], refusal: &Refusal) {
    debug!(
        action,
        code = refusal.code,
        request_id = refusal.request_id.as_ref().map(RequestId::as_str),
        message = ?redact(&refusal.message, secrets),
        "refused"
    );
}

/// Parses `x-acs-retry-after`, a positive number of milliseconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = headers.get("x-acs-retry-after")?.to_str().ok()?.trim().parse().ok()?;
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds).clamp(MIN_RETRY_AFTER, MAX_RETRY_AFTER))
}
