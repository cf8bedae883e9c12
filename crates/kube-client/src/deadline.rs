//! A deadline for each request, so that nobody waits for a reply that never comes.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response, Version};
use http_body::{Body as HttpBody, Frame, SizeHint};
use kube::client::Body;
use tokio::time::{Instant, Sleep, timeout_at};
use tower::{BoxError, Service};

use super::request::{Kind, with_timeout_seconds};

/// How much later than asked for a server may end a watch.
const WATCH_SLACK: Duration = Duration::from_secs(5);

/// How long requests may take, from their beginning to the end of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// A request for one object; the beginning of a watch.
    pub single: Duration,
    /// A list, or a page of one, and the beginning of a command in a Pod.
    pub list: Duration,
    /// How long a watch is kept open on a connection of HTTP/1.1, in whole seconds: it has no PING, so the end of a watch is
    /// what tells that the connection is alive.
    pub short_watch: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            single: Duration::from_secs(10),
            list: Duration::from_secs(30),
            short_watch: Duration::from_secs(20),
        }
    }
}

impl Deadlines {
    fn of(self, kind: Kind) -> Duration {
        match kind {
            Kind::Single | Kind::Lease | Kind::Watch => self.single,
            Kind::List | Kind::Upgrade => self.list,
        }
    }
}

/// No reply, or not all of it, came in time: what was asked for may be done or not.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", .0.as_secs())]
pub struct NoAnswer(pub(super) Duration);

/// Gives up what takes too long.
#[derive(Clone)]
pub(super) struct Deadline<S> {
    inner: S,
    deadlines: Deadlines,
    /// The last reply came by HTTP/1.1.
    http1: Arc<AtomicBool>,
}

impl<S> Deadline<S> {
    pub fn new(inner: S, deadlines: Deadlines) -> Self {
        Self { inner, deadlines, http1: Arc::default() }
    }
}

impl<S, B> Service<Request<Body>> for Deadline<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
    B: HttpBody<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response<Bounded<B>>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Self::Response, BoxError>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        let kind = Kind::of(request.method(), request.uri(), request.headers());
        let limit = self.deadlines.of(kind);
        let short = kind == Kind::Watch && self.http1.load(Relaxed);
        if short && let Some(uri) = with_timeout_seconds(request.uri(), self.deadlines.short_watch.as_secs())
        {
            *request.uri_mut() = uri;
        }
        let until = Instant::now() + limit;
        let reply = self.inner.call(request);
        let http1 = Arc::clone(&self.http1);
        let watch = self.deadlines.short_watch + WATCH_SLACK;
        async move {
            let reply = timeout_at(until, reply).await.map_err(|_| NoAnswer(limit))??;
            let by_http1 = reply.version() <= Version::HTTP_11;
            if kind != Kind::Upgrade {
                http1.store(by_http1, Relaxed);
            }
            let end = match kind {
                Kind::Upgrade => None,
                Kind::Watch if reply.status().is_success() => {
                    // HTTP/2 has PING.
                    (short || by_http1).then(|| (Instant::now() + watch, watch))
                }
                _ => Some((until, limit)),
            };
            Ok(reply.map(|body| Bounded::new(body, end)))
        }
        .boxed()
    }
}

/// A body that has to end in time.
pub struct Bounded<B> {
    inner: B,
    end: Option<(Pin<Box<Sleep>>, Duration)>,
}

impl<B> Bounded<B> {
    fn new(inner: B, end: Option<(Instant, Duration)>) -> Self {
        Self { inner, end: end.map(|(at, limit)| (Box::pin(tokio::time::sleep_until(at)), limit)) }
    }
}

impl<B> HttpBody for Bounded<B>
where
    B: HttpBody<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(context) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let Some((end, limit)) = &mut self.end else { return Poll::Pending };
        let limit = *limit;
        ready!(end.as_mut().poll(context));
        Poll::Ready(Some(Err(NoAnswer(limit).into())))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
