//! Stands between the operator and the API server, and spoils what passes: answers that are no Secrets although
//! they hold one's value.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request, State},
    http::{Response, StatusCode, header},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};
use vncpassword_test_support::World;

/// Names of Secrets, and what becomes of an answer that holds the Secret of that name.
pub const LIES: [(&str, Lie); 11] = [
    ("plain", |value, _| ok(with_data(&json!({"password": value})))),
    ("list", |value, _| ok(with_data(&json!({"password": [value]})))),
    ("number", |value, _| ok(with_data(&json!({"password": {value: 7}})))),
    ("data", |value, _| ok(with_data(&json!(value)))),
    ("bare", |value, _| ok(json!({"data": {"password": value}}).to_string())),
    ("version", |value, _| ok(json!({"metadata": {"uid": value, "resourceVersion": 7}}).to_string())),
    ("html", |value, _| ok(format!("<html>{value}</html>"))),
    ("cut", |_, mut genuine| {
        genuine.truncate(genuine.len() - 40);
        ok(genuine)
    }),
    ("status", |value, _| {
        let status = json!({"kind": "Status", "status": "Failure", "message": value, "reason": value});
        answer(StatusCode::INTERNAL_SERVER_ERROR, status.to_string())
    }),
    ("text", |value, _| answer(StatusCode::BAD_GATEWAY, format!("no {value}"))),
    ("broken", |_, genuine| {
        let half = Bytes::from(genuine[..genuine.len() / 2].to_owned());
        let pieces = [Ok(half), Err(std::io::Error::other("gone"))];
        Response::new(Body::from_stream(futures::stream::iter(pieces)))
    }),
];

/// From a value and the genuine answer to the spoilt one.
type Lie = fn(&str, String) -> Response<Body>;

fn with_data(data: &Value) -> String {
    json!({"metadata": {"uid": "u", "resourceVersion": "7"}, "data": data}).to_string()
}

fn ok(body: String) -> Response<Body> {
    answer(StatusCode::OK, body)
}

fn answer(status: StatusCode, body: String) -> Response<Body> {
    let response = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    response.body(body.into()).unwrap()
}

/// A running liar.
pub struct Liar {
    address: SocketAddr,
    told: Arc<Told>,
    server: JoinHandle<()>,
}

struct Told {
    client: kube::Client,
    /// The value of every Secret.
    value: fn(&str) -> String,
    lies: Mutex<BTreeSet<String>>,
}

impl Liar {
    pub async fn start(world: &World, value: fn(&str) -> String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let told = Arc::new(Told { client: world.client.clone(), value, lies: Mutex::default() });
        let router = axum::Router::new().fallback(pass_on).with_state(Arc::clone(&told));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { address, told, server }
    }

    /// The lies that were told: names of Secrets, `list`, `watch`.
    pub fn told(&self) -> BTreeSet<String> {
        self.told.lies.lock().unwrap().clone()
    }

    /// Writes a kubeconfig that leads here.
    pub fn kubeconfig(&self, path: &Path) {
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "liar",
            "contexts": [{"name": "liar", "context": {"cluster": "liar", "user": "liar"}}],
            "clusters": [{"name": "liar", "cluster": {"server": format!("http://{}", self.address)}}],
            "users": [{"name": "liar", "user": {}}],
        });
        std::fs::write(path, config.to_string()).unwrap();
    }
}

impl Drop for Liar {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn pass_on(State(told): State<Arc<Told>>, request: Request) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    parts.headers.remove(header::HOST);
    let (path, query) = (parts.uri.path().to_owned(), parts.uri.query().unwrap_or_default().to_owned());
    let genuine = told.client.send(http::Request::from_parts(parts, body.into())).await.unwrap();
    let Some((_, name)) = path.split_once("/secrets") else { return genuine.map(Body::new) };
    let first = |lie: &str| told.lies.lock().unwrap().insert(lie.to_owned());
    let annotated = |name: Value| {
        let applied = json!({"data": (told.value)("watched"), "password": (told.value)("watched")});
        json!({"metadata": {"name": name, "uid": 7,
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": applied.to_string()}}})
    };
    match name.strip_prefix('/') {
        None if query.contains("watch=") && first("watch") => {
            let event = json!({"type": "MODIFIED", "object": annotated(json!("watched"))});
            ok(format!("{event}\n"))
        }
        None if !query.contains("watch=") && first("list") => {
            let items = json!([annotated(json!("watched")), annotated(json!(["watched"]))]);
            let list = json!({"kind": "PartialObjectMetadataList", "apiVersion": "meta.k8s.io/v1",
                "metadata": {"resourceVersion": "1"}, "items": items});
            ok(list.to_string())
        }
        Some(name) => match LIES.iter().find(|(lie, _)| *lie == name) {
            Some((_, lie)) => {
                first(name);
                let body = to_bytes(Body::new(genuine.into_body()), usize::MAX).await.unwrap();
                lie(&(told.value)(name), String::from_utf8(body.to_vec()).unwrap())
            }
            None => genuine.map(Body::new),
        },
        None => genuine.map(Body::new),
    }
}
