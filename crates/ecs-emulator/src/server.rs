//! The HTTP server: one service for the API and the control routes, and connections that can be reset.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::cloud::Cloud;
use super::control;
use super::dispatch::Answer;
use super::tls::Tls;
use super::wire::{Rendered, Request};

/// Largest body taken: a list of some 100,000 instances.
const BODY_LIMIT: usize = 64 << 20;

/// Accepts connections until it is dropped, and all of them with it.
pub(super) async fn serve(listener: TcpListener, tls: Option<Tls>, cloud: Cloud) {
    let mut connections = JoinSet::new();
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                connections.spawn(serve_connection(stream, tls.clone(), cloud.clone()));
            }
            // Out of file descriptors, say: others may close theirs.
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, tls: Option<Tls>, cloud: Cloud) {
    // Only costs time if it fails.
    let _ = stream.set_nodelay(true);
    let reset = Arc::new(AtomicBool::new(false));
    let connection = Connection { stream, reset: Arc::clone(&reset) };
    let Some(tls) = tls else { return converse(connection, reset, cloud).await };
    // A client that does not trust the certificate has left.
    if let Ok(stream) = tls.acceptor().accept(connection).await {
        converse(stream, reset, cloud).await;
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin, reset: Arc<AtomicBool>, cloud: Cloud) {
    let service = service_fn(move |request| {
        let (cloud, reset) = (cloud.clone(), Arc::clone(&reset));
        async move { respond(&cloud, request).await.inspect_err(|Aborted| reset.store(true, Ordering::Relaxed)) }
    });
    // An error is what a fault asked for, or the client's doing.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// The service gives up on the connection, so hyper drops it without a reply.
#[derive(Debug, thiserror::Error)]
#[error("the connection is to be reset")]
struct Aborted;

async fn respond(cloud: &Cloud, request: http::Request<Incoming>) -> Result<Response<Full<Bytes>>, Aborted> {
    let (parts, body) = request.into_parts();
    let body = Limited::new(body, BODY_LIMIT).collect().await.map_err(|_| Aborted)?.to_bytes();
    let reply = match parts.uri.path().strip_prefix(control::PREFIX) {
        Some(route) => control::respond(cloud, &parts.method, route, parts.uri.query(), &body),
        None => call(cloud, &Request::new(parts, body)).await?,
    };
    Ok(reply.into_response(cloud.now()))
}

async fn call(cloud: &Cloud, request: &Request) -> Result<Rendered, Aborted> {
    let (answer, delay) = cloud.handle(request);
    if !delay.is_zero() {
        sleep(delay).await;
    }
    match answer {
        Answer::Reply(reply) => return Ok(reply),
        Answer::Reset => {}
        Answer::Hang(Some(time)) => sleep(time).await,
        // hyper drops this future once the client has left.
        Answer::Hang(None) => std::future::pending().await,
    }
    Err(Aborted)
}

/// A TCP connection that ends with a reset instead of an orderly close once `reset` is set.
struct Connection {
    stream: TcpStream,
    reset: Arc<AtomicBool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.reset.load(Ordering::Relaxed) {
            // If it fails, the client sees an orderly close in the middle of its call: an error all the same.
            let _ = self.stream.set_zero_linger();
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
