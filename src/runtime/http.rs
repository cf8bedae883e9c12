//! `/healthz`, `/readyz` and `/metrics`.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

use axum::{
    Router,
    http::{HeaderMap, StatusCode, header},
    response::IntoResponse,
    routing::get,
};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

use super::{Format, Metrics, Probes, Shutdown};

/// Listens there. `[::]` is every address, of IPv4 too; without IPv6 in the kernel it is `0.0.0.0`.
pub(crate) fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let any = address.ip() == Ipv6Addr::UNSPECIFIED;
    match bound(address) {
        Err(error) if any && is_without_ipv6(&error) => bound((Ipv4Addr::UNSPECIFIED, address.port()).into()),
        done => done,
    }
}

fn bound(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.ip() == Ipv6Addr::UNSPECIFIED {
        // Whatever net.ipv6.bindv6only says.
        socket.set_only_v6(false)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    TcpListener::from_std(socket.into())
}

/// The kernel was built without IPv6 (`EAFNOSUPPORT`), or started without (`EADDRNOTAVAIL`).
fn is_without_ipv6(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable || error.raw_os_error() == Some(EAFNOSUPPORT)
}

/// "Address family not supported by protocol", as Linux numbers it.
const EAFNOSUPPORT: i32 = 97;

/// Serves until shutdown is asked for.
pub(crate) async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    probes: Probes,
    mut shutdown: Shutdown,
) -> std::io::Result<()> {
    let ended = async move { shutdown.requested().await };
    axum::serve(listener, router(metrics, probes)).with_graceful_shutdown(ended).await
}

fn router(metrics: Arc<Metrics>, probes: Probes) -> Router {
    let Probes { readiness, health } = probes;
    let healthz = move || async move {
        let stuck = health.stuck();
        if stuck.is_empty() {
            (StatusCode::OK, "ok\n".to_owned())
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, format!("no progress for five minutes: {}\n", stuck.join(", ")))
        }
    };
    let readyz = move || async move {
        if readiness.is_ready() {
            (StatusCode::OK, "ok\n")
        } else {
            (StatusCode::SERVICE_UNAVAILABLE, "the watches have not listed everything yet\n")
        }
    };
    let render = move |headers: HeaderMap| async move {
        let accept = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
        let format = Format::negotiate(accept);
        let head = [(header::CONTENT_TYPE, format.content_type()), (header::VARY, "accept")];
        match metrics.render() {
            Ok(text) => (head, format.of(text)).into_response(),
            Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
        }
    };
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).route("/metrics", get(render))
}

#[cfg(test)]
mod tests {
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn every_address_is_listened_on() {
        // Where the kernel has no IPv6, it is the fall-back that is asked.
        let port = listen("[::]:0".parse().unwrap()).unwrap();
        let port = port.local_addr().map(|address| (address.port(), port)).unwrap();
        tokio::net::TcpStream::connect(("127.0.0.1", port.0)).await.unwrap();
        let taken = listen(([0, 0, 0, 0], port.0).into()).unwrap_err();
        assert_eq!(taken.kind(), ErrorKind::AddrInUse);
        assert!(!is_without_ipv6(&taken));
        assert!(is_without_ipv6(&std::io::Error::from_raw_os_error(EAFNOSUPPORT)));
    }

    #[tokio::test]
    async fn an_ipv4_address_stays_one() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        assert!(listener.local_addr().unwrap().is_ipv4());
    }

    #[tokio::test(start_paused = true)]
    async fn healthz_names_what_has_made_no_progress_for_five_minutes() {
        let probes = Probes::default();
        let progress = probes.health.expect("workers");
        let router = router(Arc::new(Metrics::new(true)), probes);
        let get = async || {
            let request = axum::http::Request::get("/healthz").body(axum::body::Body::empty()).unwrap();
            let reply = router.clone().oneshot(request).await.unwrap();
            let status = reply.status();
            let body = axum::body::to_bytes(reply.into_body(), 1024).await.unwrap();
            (status, String::from_utf8(body.to_vec()).unwrap())
        };
        let ok = (StatusCode::OK, "ok\n".to_owned());
        assert_eq!(get().await, ok);
        tokio::time::sleep(std::time::Duration::from_mins(5)).await;
        let stuck = (StatusCode::SERVICE_UNAVAILABLE, "no progress for five minutes: workers\n".to_owned());
        assert_eq!(get().await, stuck);
        progress.made();
        assert_eq!(get().await, ok);
    }
}
