//! Traces: spans of passes and of calls of the cloud, sent by OTLP (http/protobuf) where an endpoint is
//! given.
//!
//! Without one nothing of this exists, and spans that only traces are made of cost nothing. What a span holds
//! is what a log line may hold.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{
    Resource,
    trace::{SdkTracer, SdkTracerProvider},
};
use tokio::runtime::Handle;

/// The service name in traces.
const SERVICE: &str = "vncpassword-operator";
/// Longest time that one batch may take.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Longest time that the end of the program waits for what is still to be sent.
const FLUSH: Duration = Duration::from_secs(3);
/// Longest reply that is read, in bytes.
const LONGEST_REPLY: usize = 64 << 10;

/// Where traces go: the URL that spans are posted to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpEndpoint(String);

/// Not an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "write the base URL of a collector that takes OTLP over HTTP, such as http://collector:4318, without user, query and \
     fragment"
)]
pub struct InvalidOtlpEndpoint;

impl OtlpEndpoint {
    /// Reads the base URL of a collector; spans go to `v1/traces` below it.
    ///
    /// # Errors
    /// It is none.
    pub fn parse(base: &str) -> Result<Self, InvalidOtlpEndpoint> {
        let url = reqwest::Url::parse(base).map_err(|_| InvalidOtlpEndpoint)?;
        let alone = url.username().is_empty() && url.password().is_none() && url.query().is_none();
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() || !alone || url.fragment().is_some()
        {
            return Err(InvalidOtlpEndpoint);
        }
        Ok(Self(format!("{}/v1/traces", url.as_str().trim_end_matches('/'))))
    }
}

/// Traces cannot be sent at all.
#[derive(Debug, thiserror::Error)]
pub enum TracesError {
    /// The HTTP client cannot be made.
    #[error("cannot make the client that sends traces: {0}")]
    Client(#[from] reqwest::Error),
    /// The exporter cannot be made.
    #[error("cannot make the exporter of traces: {0}")]
    Exporter(#[from] opentelemetry_otlp::ExporterBuildError),
}

/// Sends spans until it is ended.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Starts it; must be called within a tokio runtime.
    pub fn start(endpoint: &OtlpEndpoint) -> Result<Self, TracesError> {
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Sender::new()?)
            .with_endpoint(&endpoint.0)
            .with_timeout(TIMEOUT)
            .build()?;
        let version = opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(SERVICE).with_attribute(version).build();
        Ok(Self(SdkTracerProvider::builder().with_resource(resource).with_batch_exporter(exporter).build()))
    }

    /// Where spans are handed in.
    pub fn tracer(&self) -> SdkTracer {
        self.0.tracer(SERVICE)
    }

    /// Sends what is left, or gives up after a while.
    pub async fn end(self) {
        let flushed = tokio::task::spawn_blocking(move || self.0.shutdown_with_timeout(FLUSH));
        if let Ok(Err(error)) = flushed.await {
            tracing::warn!(%error, "the last traces were not sent");
        }
    }
}

/// Sends the batches with the HTTP client and the TLS of everything else here.
#[derive(Debug)]
struct Sender {
    client: reqwest::Client,
    runtime: Handle,
    /// It was said that traces cannot be sent, and none was sent since.
    failing: Arc<AtomicBool>,
}

impl Sender {
    fn new() -> Result<Self, reqwest::Error> {
        // As for the cloud's API: reqwest takes its crypto from the process-wide default.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .referer(false)
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { client, runtime: Handle::current(), failing: Arc::default() })
    }

    /// Says once that it fails, and once that it does so no more.
    fn told(&self, result: &Result<Response<Bytes>, HttpError>) {
        let problem = match result {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(response.status().to_string()),
            Err(error) => Some(error.to_string()),
        };
        let failed = self.failing.swap(problem.is_some(), Ordering::Relaxed);
        match problem {
            Some(problem) if !failed => {
                tracing::warn!(problem, "cannot send traces; those that do not fit the queue are dropped");
            }
            None if failed => tracing::info!("traces are sent again"),
            _ => {}
        }
    }
}

#[async_trait::async_trait]
impl HttpClient for Sender {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (client, request) = (self.client.clone(), reqwest::Request::try_from(request)?);
        // Who asks has a thread of its own, without the runtime that connections need.
        let sent = self.runtime.spawn(async move { send(&client, request).await }).await;
        let result = sent.unwrap_or_else(|error| Err(error.into()));
        self.told(&result);
        result
    }
}

async fn send(client: &reqwest::Client, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
    let mut response = client.execute(request).await.map_err(reqwest::Error::without_url)?;
    let mut reply = Response::new(Bytes::new());
    *reply.status_mut() = response.status();
    *reply.headers_mut() = std::mem::take(response.headers_mut());
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if chunk.len() > LONGEST_REPLY - body.len() {
            return Err("the reply is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    *reply.body_mut() = body.into();
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_go_below_the_base() {
        let table = [
            ("http://collector:4318", Ok("http://collector:4318/v1/traces")),
            ("https://traces.example.com/otlp/", Ok("https://traces.example.com/otlp/v1/traces")),
            ("http://[::1]:4318/", Ok("http://[::1]:4318/v1/traces")),
            ("collector:4318", Err(InvalidOtlpEndpoint)),
            ("grpc://collector:4317", Err(InvalidOtlpEndpoint)),
            ("http://", Err(InvalidOtlpEndpoint)),
            ("https://me:secret@collector", Err(InvalidOtlpEndpoint)),
            ("https://collector/?token=x", Err(InvalidOtlpEndpoint)),
            ("https://collector/#x", Err(InvalidOtlpEndpoint)),
            ("", Err(InvalidOtlpEndpoint)),
        ];
        for (base, expected) in table {
            let expected = expected.map(|url| OtlpEndpoint(url.to_owned()));
            assert_eq!(OtlpEndpoint::parse(base), expected, "{base}");
        }
    }
}
