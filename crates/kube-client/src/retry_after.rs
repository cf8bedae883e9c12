//! `Retry-After`: how long a server asks to wait before the next request. The plugin waits here, the operator in its queues.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper_util::client::legacy;
use kube::{
    client::Body,
    core::{Status, response::StatusDetails},
};
use tower::{BoxError, Service, ServiceExt};

use super::request::Kind;

/// The longest that a server's `Retry-After` is honored.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(30);
/// How often the plugin makes a request again, at most.
const MAX_RETRIES: u32 = 5;
/// How long the plugin waits where the server does not say, doubling.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// How much of an error reply is read, in bytes.
const MAX_ERROR_BYTES: usize = 1024 * 1024;

/// How long the API server asked to wait in its reply, 30 s at most.
#[must_use]
pub fn retry_after(error: &kube::Error) -> Option<Duration> {
    let kube::Error::Api(status) = error else { return None };
    let seconds = u64::from(status.details.as_ref()?.retry_after_seconds);
    (seconds > 0).then(|| Duration::from_secs(seconds).min(MAX_RETRY_AFTER))
}

/// The same of the headers of a reply.
#[must_use]
pub fn asked_to_wait(headers: &HeaderMap) -> Option<Duration> {
    let seconds = seconds(headers).filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.into()).min(MAX_RETRY_AFTER))
}

fn seconds(headers: &HeaderMap) -> Option<u32> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()
}

/// Puts the header of an error into its `Status`, which is all that kube shows of a reply.
#[derive(Clone)]
pub(super) struct CopyRetryAfter<S>(pub S);

impl<S, B> Service<Request<Body>> for CopyRetryAfter<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes, Error = BoxError> + Send + 'static,
{
    type Response = Response<Either<B, Full<Bytes>>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let reply = self.0.call(request);
        async move {
            let reply = reply.await?;
            let Some(seconds) = seconds(reply.headers()).filter(|_| reply.status().as_u16() >= 400) else {
                return Ok(reply.map(Either::Left));
            };
            let (mut parts, body) = reply.into_parts();
            let text = Limited::new(body, MAX_ERROR_BYTES).collect().await?.to_bytes();
            let body = serde_json::to_vec(&status(&text, parts.status, seconds))?;
            parts.headers.remove(header::CONTENT_LENGTH);
            parts.headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/json"));
            Ok(Response::from_parts(parts, Either::Right(Full::new(body.into()))))
        }
        .boxed()
    }
}

/// The `Status` of an error reply. A server under load, or a proxy, answers in plain text, which is not shown: nobody knows
/// what is in it.
fn status(text: &[u8], code: StatusCode, seconds: u32) -> Status {
    let said = serde_json::from_slice::<Status>(text).ok().filter(|status| status.code != 0);
    let mut status = said.unwrap_or_else(|| {
        let reason = code.canonical_reason().unwrap_or_default();
        Status::failure(reason, reason).with_code(code.as_u16())
    });
    set_seconds(&mut status, seconds);
    status
}

/// Puts the headers' `Retry-After` into a status, where [`retry_after()`] finds it.
pub fn set_retry_after(status: &mut Status, headers: &HeaderMap) {
    if let Some(seconds) = seconds(headers) {
        set_seconds(status, seconds);
    }
}

fn set_seconds(status: &mut Status, seconds: u32) {
    let none = || StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    };
    status.details.get_or_insert_with(none).retry_after_seconds = seconds;
}

/// Repeats a GET that got no answer, and a request that the server asks to repeat. For the plugin.
#[derive(Clone)]
pub(super) struct Retry<S>(pub S);

impl<S, B> Service<Request<Body>> for Retry<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let service = self.0.clone();
        async move {
            let mut request = request;
            let mut tries = 0;
            loop {
                let next = (tries < MAX_RETRIES).then(|| copy(&request)).flatten();
                let method = request.method().clone();
                let reply = service.clone().oneshot(request).await;
                let (Some(wait), Some(next)) = (wait(&method, &reply, tries), next) else { return reply };
                tokio::time::sleep(wait).await;
                (request, tries) = (next, tries + 1);
            }
        }
        .boxed()
    }
}

fn copy(request: &Request<Body>) -> Option<Request<Body>> {
    if Kind::of(request.method(), request.uri(), request.headers()) == Kind::Upgrade {
        return None;
    }
    let mut copy = Request::new(request.body().try_clone()?);
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    *copy.extensions_mut() = request.extensions().clone();
    Some(copy)
}

/// How long to wait before the same request is made again; `None`: its reply is final.
fn wait<B>(method: &Method, reply: &Result<Response<B>, BoxError>, tries: u32) -> Option<Duration> {
    let otherwise = RETRY_DELAY.saturating_mul(1 << tries.min(10));
    match reply {
        // For every method, as client-go does: with these codes the server asks for the same request once more.
        Ok(reply) => match reply.status() {
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
                let seconds = seconds(reply.headers())?;
                Some(Duration::from_secs(seconds.into()).clamp(otherwise, MAX_RETRY_AFTER))
            }
            _ => None,
        },
        // That is usually a mistake in the kubeconfig, which the user wants to see immediately.
        Err(error) if is_connect(error) => None,
        Err(_) => (*method == Method::GET).then_some(otherwise),
    }
}

fn is_connect(error: &BoxError) -> bool {
    error.downcast_ref::<legacy::Error>().is_some_and(legacy::Error::is_connect)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plugin_waits_as_long_as_the_server_asks_for_and_half_a_minute_at_most() {
        let table = [
            // Method, code and `Retry-After` of the reply, and the seconds that the plugin waits.
            (Method::GET, 503, Some("3600"), Some(30.0)),
            (Method::PUT, 503, Some("3600"), Some(30.0)),
            (Method::GET, 429, Some("7"), Some(7.0)),
            (Method::GET, 429, Some("0"), Some(0.5)),
            (Method::GET, 503, Some("soon"), None),
            (Method::GET, 503, None, None),
            (Method::GET, 500, Some("1"), None),
            (Method::GET, 409, Some("1"), None),
            (Method::GET, 200, Some("1"), None),
        ];
        for (method, code, asked, expected) in table {
            let mut reply = Response::new(());
            *reply.status_mut() = StatusCode::from_u16(code).unwrap();
            if let Some(asked) = asked {
                reply.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static(asked));
            }
            let waited = wait(&method, &Ok(reply), 0);
            assert_eq!(waited, expected.map(Duration::from_secs_f64), "{method} {code} {asked:?}");
        }
        for (method, expected) in [(Method::GET, Some(Duration::from_secs(4))), (Method::PUT, None)] {
            let lost: Result<Response<()>, BoxError> = Err("no answer".into());
            assert_eq!(wait(&method, &lost, 3), expected, "{method}: a write may have been done");
        }
    }
}
