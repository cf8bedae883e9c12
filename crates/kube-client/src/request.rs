//! What a request to the API server asks for, as far as its deadline depends on it.

use http::{HeaderMap, Method, Uri, header::UPGRADE};

/// What a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// One object, or something small.
    Single,
    /// A Lease: the right to lead hangs on its reply.
    Lease,
    /// A list, or a page of one.
    List,
    /// A watch: its reply ends when the server wants.
    Watch,
    /// A connection for another protocol: a command in a Pod.
    Upgrade,
}

impl Kind {
    /// From the method, the address and the headers of a request.
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        if headers.contains_key(UPGRADE) {
            Self::Upgrade
        } else if *method == Method::GET && parameters(uri).any(|it| matches!(it, "watch=true" | "watch=1")) {
            Self::Watch
        } else if matches!(*method, Method::GET | Method::DELETE) && is_collection(uri.path()) {
            Self::List
        } else if uri.path().contains("/apis/coordination.k8s.io/") {
            Self::Lease
        } else {
            Self::Single
        }
    }
}

/// Whether the path names a resource, not one object of it.
fn is_collection(path: &str) -> bool {
    // A path of the configuration, such as a proxy's, may come first.
    let mut parts = path.split('/').skip_while(|part| !matches!(*part, "api" | "apis"));
    let in_group = parts.next() == Some("apis");
    // The group, and the version.
    let mut rest = parts.skip(if in_group { 2 } else { 1 }).filter(|part| !part.is_empty());
    matches!(
        (rest.next(), rest.next(), rest.next(), rest.next()),
        (Some(_), None, ..) | (Some("namespaces"), Some(_), Some(_), None)
    )
}

/// The same address with this `timeoutSeconds`: how long the server keeps the watch open.
pub(super) fn with_timeout_seconds(uri: &Uri, seconds: u64) -> Option<Uri> {
    let others = parameters(uri).filter(|it| !it.starts_with("timeoutSeconds="));
    let query: Vec<String> =
        others.map(ToOwned::to_owned).chain([format!("timeoutSeconds={seconds}")]).collect();
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(format!("{}?{}", uri.path(), query.join("&")).parse().ok()?);
    Uri::from_parts(parts).ok()
}

fn parameters(uri: &Uri) -> impl Iterator<Item = &str> {
    uri.query().unwrap_or_default().split('&').filter(|parameter| !parameter.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kind_of_a_request_is_told_from_its_address() {
        use Kind::{Lease, List, Single, Watch};
        let table = [
            ("GET", "/api/v1/secrets?limit=500", List),
            ("GET", "/api/v1/namespaces", List),
            ("GET", "/api/v1/namespaces/a", Single),
            ("GET", "/api/v1/namespaces/a/secrets?&limit=500&continue=x", List),
            ("GET", "/api/v1/namespaces/a/secrets/b", Single),
            ("GET", "/apis/vncpassword.dev/v1alpha1/vncpasswords?", List),
            ("GET", "/apis/vncpassword.dev/v1alpha1/namespaces/a/vncpasswords", List),
            ("GET", "/apis/vncpassword.dev/v1alpha1/namespaces/a/vncpasswords/b/status", Single),
            ("GET", "/clusters/c/apis/apps/v1/deployments", List),
            ("GET", "/api/v1/secrets?&watch=true&timeoutSeconds=290", Watch),
            ("GET", "/api/v1/secrets?watch=1", Watch),
            ("GET", "/version", Single),
            ("PUT", "/apis/coordination.k8s.io/v1/namespaces/a/leases/b", Lease),
            ("GET", "/clusters/c/apis/coordination.k8s.io/v1/namespaces/a/leases/b", Lease),
            ("POST", "/api/v1/namespaces/a/secrets", Single),
            ("PATCH", "/api/v1/namespaces/a/secrets/b", Single),
        ];
        for (method, uri, expected) in table {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let kind = Kind::of(&method, &uri.parse().unwrap(), &HeaderMap::new());
            assert_eq!(kind, expected, "{method} {uri}");
        }
        let upgrade = HeaderMap::from_iter([(UPGRADE, "websocket".parse().unwrap())]);
        let exec = "/api/v1/namespaces/a/pods/b/exec?command=c".parse().unwrap();
        assert_eq!(Kind::of(&Method::GET, &exec, &upgrade), Kind::Upgrade);
    }

    #[test]
    fn a_watch_is_made_short_by_its_parameter() {
        let table = [
            ("/api/v1/pods?watch=true", "/api/v1/pods?watch=true&timeoutSeconds=20"),
            (
                "https://h:1/x/api/v1/pods?&watch=true&timeoutSeconds=290&resourceVersion=7",
                "https://h:1/x/api/v1/pods?watch=true&resourceVersion=7&timeoutSeconds=20",
            ),
        ];
        for (uri, expected) in table {
            let short = with_timeout_seconds(&uri.parse().unwrap(), 20).unwrap();
            assert_eq!(short.to_string(), expected);
        }
    }
}
