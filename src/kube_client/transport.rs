//! Connections to the API server: HTTP/2 where it can be had, with PING, so that a connection that was dropped without notice
//! is noticed. This is what client-go does; kube's own stack is HTTP/1.1.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use http::{Request, Response};
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
use tower::{BoxError, Service};

use super::request::Kind;

/// How long a connection may be silent before a PING is sent, and how long its answer may take.
pub(super) const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How long it may take to open a connection.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an HTTP/1.1 connection that nobody uses is kept: it may have been dropped without notice.
const IDLE: Duration = Duration::from_secs(20);

type Http = Client<HttpsConnector<HttpConnector>, Body>;

/// Makes requests on connections of its own.
#[derive(Clone)]
pub(super) struct Transport {
    /// HTTP/2 where the server speaks it, else HTTP/1.1.
    any: Http,
    /// HTTP/1.1: another protocol can be had on no other.
    upgradable: Http,
}

impl Transport {
    pub fn new(config: &Config) -> Result<Self, kube::Error> {
        let mut builder = Client::builder(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .http2_keep_alive_interval(PING.0)
            .http2_keep_alive_timeout(PING.1)
            .http2_keep_alive_while_idle(true);
        Ok(Self {
            any: builder.build(connector(config, true)?),
            upgradable: builder.build(connector(config, false)?),
        })
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
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = BoxFuture<'static, Result<Response<Incoming>, BoxError>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let kind = Kind::of(request.method(), request.uri(), request.headers());
        let http = if kind == Kind::Upgrade { &self.upgradable } else { &self.any };
        http.request(request).map(|reply| reply.map_err(BoxError::from)).boxed()
    }
}
