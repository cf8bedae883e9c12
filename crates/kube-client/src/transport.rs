//! Connections to the API server: HTTP/2 where it can be had, with PING, so that a connection that was dropped without notice
//! is noticed. This is what client-go does; kube's own stack is HTTP/1.1.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{
    Config,
    client::{Body, ConfigExt},
};
use rustls::pki_types::ServerName;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tower::{BoxError, Service};

use super::request::Kind;

/// How long a connection may be silent before a PING is sent, and how long its answer may take.
pub(super) const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// The same for the connection of the Lease: a lost connection is replaced before the Lease is lost.
const PING_OF_LEASE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(2));
/// How long it may take to open a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection that nobody uses is kept: it may have been dropped without notice.
const IDLE: Duration = Duration::from_secs(20);
/// Most requests under way on one connection, watches included. kube-apiserver allows 100; hyper queues the rest.
const MAX_STREAMS: usize = 90;

type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// Makes requests on connections of its own.
#[derive(Clone)]
pub(super) struct Transport {
    /// HTTP/2 where the server speaks it, else HTTP/1.1.
    any: Arc<Connections>,
    /// The same for the Lease alone.
    lease: Http,
    /// HTTP/1.1: another protocol can be had on no other.
    upgradable: Http,
}

impl Transport {
    pub fn new(config: &Config) -> Result<Self, kube::Error> {
        let any = connector(config, true)?;
        Ok(Self {
            lease: http(any.clone(), PING_OF_LEASE),
            any: Arc::new(Connections { connector: any, open: Mutex::default() }),
            upgradable: http(connector(config, false)?, PING),
        })
    }
}

fn http(connector: HttpsConnector<HttpConnector>, (interval, timeout): (Duration, Duration)) -> Http {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .http2_keep_alive_interval(interval)
        .http2_keep_alive_timeout(timeout)
        .http2_keep_alive_while_idle(true)
        .build(connector)
}

/// As many HTTP/2 connections as the requests under way need. hyper's pool has one for each server.
struct Connections {
    connector: HttpsConnector<HttpConnector>,
    open: Mutex<Vec<(Http, Arc<Semaphore>)>>,
}

impl Connections {
    /// The first that has room, and the room.
    fn get(&self) -> (Http, Option<OwnedSemaphorePermit>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let free = open.iter().find_map(|(http, streams)| {
            let stream = Arc::clone(streams).try_acquire_owned().ok()?;
            Some((http.clone(), Some(stream)))
        });
        free.unwrap_or_else(|| {
            let (http, streams) = (http(self.connector.clone(), PING), Arc::new(Semaphore::new(MAX_STREAMS)));
            open.push((http.clone(), Arc::clone(&streams)));
            (http, streams.try_acquire_owned().ok())
        })
    }
}

/// The body of a reply, which takes its room on the connection until it has ended.
pub struct Streamed {
    inner: Incoming,
    _stream: Option<OwnedSemaphorePermit>,
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.inner).poll_frame(context).map_err(Into::into)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

fn connector(config: &Config, http2: bool) -> Result<HttpsConnector<HttpConnector>, kube::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(config.connect_timeout.unwrap_or(CONNECT)));
    let tls = config.rustls_client_config()?;
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
    if let Some(name) = &config.tls_server_name {
        let name = ServerName::try_from(name.clone()).map_err(|error| kube::Error::Service(error.into()))?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    let builder = builder.enable_http1();
    Ok(if http2 { builder.enable_http2().wrap_connector(tcp) } else { builder.wrap_connector(tcp) })
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Streamed>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Streamed>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let (http, stream) = match Kind::of(request.method(), request.uri(), request.headers()) {
            Kind::Upgrade => (self.upgradable.clone(), None),
            Kind::Lease => (self.lease.clone(), None),
            Kind::Single | Kind::List | Kind::Watch => self.any.get(),
        };
        async move {
            let reply = http.request(request).await?;
            Ok(reply.map(|inner| Streamed { inner, _stream: stream }))
        }
        .boxed()
    }
}
