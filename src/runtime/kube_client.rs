//! The client of the API server that the operator uses.

/// The same configuration, without the retries that kube makes by itself.
///
/// A write that is repeated out of our sight can land minutes after the lease was checked, and a status write whose reply was
/// lost is made twice. The work queue repeats a reconcile instead, on what is so by then.
#[must_use]
pub fn without_retries(mut config: kube::Config) -> kube::Config {
    config.default_retry = false;
    config
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    };

    use axum::{Router, http::StatusCode};
    use k8s_openapi::api::core::v1::Namespace;
    use kube::{Api, Client, Config};

    use super::*;

    #[tokio::test]
    async fn each_request_is_made_once() {
        let count = Arc::<AtomicUsize>::default();
        let unavailable = {
            let count = Arc::clone(&count);
            move || {
                count.fetch_add(1, SeqCst);
                std::future::ready((StatusCode::SERVICE_UNAVAILABLE, [("retry-after", "0")], "{}"))
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(axum::serve(listener, Router::new().fallback(unavailable)).into_future());
        let client = Client::try_from(without_retries(Config::new(url.parse().unwrap()))).unwrap();
        Api::<Namespace>::all(client).get("kube-system").await.unwrap_err();
        assert_eq!(count.load(SeqCst), 1);
    }
}
