//! The client of the API server, for operator and plugin. kube's own stack sets no deadline, notices no silent connection and
//! sleeps as long as a server's `Retry-After` says.

mod deadline;
mod request;
mod retry_after;
mod transport;

use kube::{
    Client, Config,
    client::{Body, ClientBuilder, ConfigExt},
};
use tower::{
    BoxError, Layer, ServiceExt,
    util::{BoxService, option_layer},
};

use self::{
    deadline::{Bounded, Deadline},
    retry_after::{CopyRetryAfter, Retry},
    transport::{Streamed, Transport},
};
pub use self::{
    deadline::{Deadlines, NoAnswer},
    retry_after::{asked_to_wait, retry_after, set_retry_after},
};

/// The body of a reply: bounded in time, or an error that was read already.
pub type ReplyBody = http_body_util::Either<Bounded<Streamed>, http_body_util::Full<bytes::Bytes>>;

/// What makes requests.
pub type Requests = BoxService<http::Request<Body>, http::Response<ReplyBody>, BoxError>;

/// Whether a request is made again by the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// Never. A write that is repeated out of sight can land minutes after the Lease was checked, and a status write whose
    /// reply was lost is made twice. The work queue repeats a reconcile instead, on what is so by then.
    Never,
    /// A GET without an answer, and any request that the server answers with 429 or 503 and `Retry-After`. For the plugin.
    WhenSafe,
}

/// A client of that configuration.
///
/// # Errors
/// The configuration cannot be used.
pub fn client(config: Config, deadlines: Deadlines, retries: Retries) -> Result<Client, kube::Error> {
    Ok(builder(config, deadlines, retries)?.build())
}

/// The same, for further layers.
///
/// # Errors
/// See [`client()`].
pub fn builder(
    config: Config,
    deadlines: Deadlines,
    retries: Retries,
) -> Result<ClientBuilder<Requests>, kube::Error> {
    if config.proxy_url.is_some() {
        // The address may hold a password.
        return Err(kube::Error::Service(
            "a proxy is not supported; remove proxy-url from the kubeconfig".into(),
        ));
    }
    let bounded = CopyRetryAfter(Deadline::new(Transport::new(&config)?, deadlines));
    let headers = config.extra_headers_layer()?.layer(bounded);
    // An exec plugin of the kubeconfig may ask a person for credentials, so this step has no deadline.
    let authorized = option_layer(config.auth_layer()?).layer(headers).map_err(BoxError::from);
    let service = config.base_uri_layer().layer(authorized);
    let service = match retries {
        Retries::Never => service.boxed(),
        Retries::WhenSafe => Retry(service).boxed(),
    };
    Ok(ClientBuilder::new(service, config.default_namespace))
}

#[cfg(test)]
mod tests;
