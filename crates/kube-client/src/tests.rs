//! The client against servers that answer late, never, or with errors.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use axum::{
    Router,
    http::{HeaderName, StatusCode, header},
};
use futures::StreamExt;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use k8s_openapi::api::core::v1::Namespace;
use kube::{
    Api, Config,
    api::{ListParams, WatchParams},
};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;

/// The protocols of a server, as TLS names them. The client takes HTTP/2 where it can have it.
const PROTOCOLS: [&str; 2] = ["h2", "http/1.1"];

/// Serves these replies by TLS, one after the other, the last again and again; how many requests there were.
async fn serve(
    protocol: &str,
    replies: Vec<(StatusCode, &'static str, &'static str)>,
) -> (Config, Arc<AtomicUsize>) {
    let count = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&count);
    let handler = move || {
        let number = counted.fetch_add(1, SeqCst).min(replies.len() - 1);
        let (status, retry_after, body) = replies[number];
        let headers: Vec<(HeaderName, &str)> = Some((header::RETRY_AFTER, retry_after))
            .filter(|(_, text)| !text.is_empty())
            .into_iter()
            .collect();
        std::future::ready((status, axum::response::AppendHeaders(headers), body))
    };
    let config = serve_by_tls(protocol, Router::new().fallback(handler)).await;
    (config, count)
}

/// Serves by TLS with a certificate of its own, which the configuration trusts.
async fn serve_by_tls(protocol: &str, router: Router) -> Config {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) =
        (own.cert.der().clone(), PrivateKeyDer::try_from(own.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.unwrap())
        .unwrap();
    tls.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(tls));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((connection, _)) = listener.accept().await {
            let connection = TokioIo::new(acceptor.accept(connection).await.unwrap());
            let service = TowerToHyperService::new(router.clone());
            tokio::spawn(async move {
                let server = hyper_util::server::conn::auto::Builder::new(TokioExecutor::new());
                // The client may go away in the middle of a reply.
                let _ = server.serve_connection(connection, service).await;
            });
        }
    });
    let mut config = Config::new(url.parse().unwrap());
    config.root_cert = Some(vec![certificate.to_vec()]);
    config
}

const NAMESPACE: &str = r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}"#;

#[tokio::test]
async fn the_operator_makes_each_request_once_and_is_told_how_long_to_wait() {
    let status =
        r#"{"kind":"Status","apiVersion":"v1","status":"Failure","message":"m","reason":"r","code":503}"#;
    let table = [
        (StatusCode::SERVICE_UNAVAILABLE, "3600", "busy", 503, Some(30)),
        (StatusCode::TOO_MANY_REQUESTS, "1", "Too many requests, please try again later.", 429, Some(1)),
        (StatusCode::SERVICE_UNAVAILABLE, "7", status, 503, Some(7)),
        (StatusCode::SERVICE_UNAVAILABLE, "soon", status, 503, None),
        (StatusCode::INTERNAL_SERVER_ERROR, "", status, 503, None),
        (StatusCode::CONFLICT, "2", "changed", 409, Some(2)),
        (StatusCode::UNPROCESSABLE_ENTITY, "", r#"{"status":"Failure","code":422}"#, 422, None),
        (StatusCode::FORBIDDEN, "0", "no", 403, None),
    ];
    let rows = table.into_iter().flat_map(|row| PROTOCOLS.map(|protocol| (protocol, row)));
    for (protocol, (code, retry, body, expected, wait)) in rows {
        let (config, count) = serve(protocol, vec![(code, retry, body)]).await;
        let client = client(config, Deadlines::default(), Retries::Never).unwrap();
        let error = Api::<Namespace>::all(client).get("a").await.unwrap_err();
        let kube::Error::Api(status) = &error else { panic!("{error:?}") };
        assert_eq!(status.code, expected, "{protocol} {code} {retry}");
        assert_eq!(retry_after(&error), wait.map(Duration::from_secs), "{protocol} {code} {retry}");
        assert_eq!(count.load(SeqCst), 1, "{protocol} {code} {retry}");
    }
}

#[tokio::test]
async fn the_plugin_makes_a_request_again_where_the_server_asks_for_it() {
    let busy = (StatusCode::TOO_MANY_REQUESTS, "1", "busy");
    let table = [
        ("asked to wait", vec![busy, (StatusCode::OK, "", NAMESPACE)], true, 2),
        ("a refusal is final", vec![(StatusCode::FORBIDDEN, "", "no")], false, 1),
        ("an error without Retry-After too", vec![(StatusCode::SERVICE_UNAVAILABLE, "", "no")], false, 1),
    ];
    let rows = table.into_iter().flat_map(|row| PROTOCOLS.map(|protocol| (protocol, row.clone())));
    for (protocol, (name, replies, served, expected)) in rows {
        let (config, count) = serve(protocol, replies).await;
        let client = client(config, Deadlines::default(), Retries::WhenSafe).unwrap();
        let found = Api::<Namespace>::all(client).get("a").await;
        assert_eq!(found.is_ok(), served, "{protocol}: {name}: {found:?}");
        assert_eq!(count.load(SeqCst), expected, "{protocol}: {name}");
    }
}

const SHORT: Deadlines = Deadlines {
    single: Duration::from_millis(300),
    list: Duration::from_millis(300),
    short_watch: Duration::ZERO,
};

/// A server that accepts connections and says this on each, and nothing after it.
async fn says(head: &'static str) -> Config {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut request = [0; 4096];
                while connection.read(&mut request).await.is_ok_and(|read| read > 0) {
                    connection.write_all(head.as_bytes()).await.unwrap();
                }
            });
        }
    });
    Config::new(url.parse().unwrap())
}

#[tokio::test]
async fn a_reply_that_does_not_come_or_does_not_end_is_given_up() {
    for head in ["", "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"] {
        let client = client(says(head).await, SHORT, Retries::Never).unwrap();
        let api = Api::<Namespace>::all(client);
        for error in [api.get("a").await.unwrap_err(), api.list(&ListParams::default()).await.unwrap_err()] {
            let mut causes =
                std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            assert!(
                causes.any(|cause| cause.to_string().contains("did not answer within")),
                "{head:?}: {error:?}"
            );
        }
    }
}

/// Each connection falls silent during its TLS handshake. The deadline of the request ends it, and the next request opens
/// another.
#[tokio::test]
async fn a_connection_that_is_not_opened_in_time_is_opened_anew() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = Config::new(format!("https://{}", listener.local_addr().unwrap()).parse().unwrap());
    config.accept_invalid_certs = true;
    config.connect_timeout = Some(Duration::from_millis(200));
    let opened = Arc::<AtomicUsize>::default();
    let counted = Arc::clone(&opened);
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            counted.fetch_add(1, SeqCst);
            open.push(connection);
        }
    });
    let client = client(config, SHORT, Retries::Never).unwrap();
    let api = Api::<Namespace>::all(client);
    for tries in 1..=3 {
        api.get("a").await.unwrap_err();
        assert_eq!(opened.load(SeqCst), tries);
    }
}

#[tokio::test]
async fn a_watch_on_http_1_is_given_up_when_it_does_not_end() {
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let client = client(says(head).await, SHORT, Retries::Never).unwrap();
    let api = Api::<Namespace>::all(client);
    api.list(&ListParams::default()).await.unwrap_err();
    let events = api.watch(&WatchParams::default(), "1").await.unwrap();
    let last = std::pin::pin!(events).next().await.unwrap();
    assert!(last.is_err(), "{last:?}");
}
