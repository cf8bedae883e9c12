//! The API server: writing in parallel, counting what is ready, and its own count of requests.

use std::{
    collections::BTreeMap,
    ops::Range,
    path::Path,
    time::{Duration, Instant},
};

use futures::{AsyncBufReadExt, StreamExt, TryStreamExt, stream};
use http::{Method, Request};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinHandle, time::timeout};

use super::{Progress, Result};

/// Requests of the bench that run at the same time, as many as the operators' workers.
pub const WORKERS: usize = 32;
/// Where everything is created.
pub const NAMESPACE: &str = "default";
/// The objects' path.
pub const OBJECTS: &str = "/apis/vncpassword.dev/v1alpha1/namespaces/default/vncpasswords";
/// The Secrets' path.
pub const SECRETS: &str = "/api/v1/namespaces/default/secrets";

/// Resources of which requests are counted; what else there is, the API server asks of itself.
const COUNTED: [&str; 3] = ["vncpasswords", "secrets", "events"];

/// Name of an object, of its Secret, and the end of its instance's id.
pub fn name(index: usize) -> String {
    format!("bench{index:06}")
}

/// The instance of an object.
pub fn instance(index: usize) -> String {
    format!("i-{}", name(index))
}

/// A valid password that differs from its neighbours'. Another letter makes others.
pub fn password(letter: char, index: usize) -> String {
    format!("{letter}x{:04}", index % 10_000)
}

/// A client of the API server.
#[derive(Clone)]
pub struct Cluster(Client);

impl Cluster {
    /// Connects as the kubeconfig says.
    pub async fn connect(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self(Client::try_from(config)?))
    }

    /// One request, with a JSON body unless that is null.
    pub async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: &Value,
    ) -> Result<T> {
        let body = if body.is_null() { Vec::new() } else { serde_json::to_vec(body)? };
        let request = Request::builder().method(method).uri(path).header("content-type", kind).body(body)?;
        Ok(self.0.request(request).await?)
    }

    /// Creates an object.
    pub async fn create(&self, path: &str, object: &Value) -> Result<()> {
        self.send::<Created>(Method::POST, path, "application/json", object).await.map(drop)
    }

    /// Installs the kind and waits until it is served.
    pub async fn install(&self, crd: &Path) -> Result<()> {
        let crd: Value = serde_saphyr::from_str(&std::fs::read_to_string(crd)?)?;
        self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", &crd).await?;
        let served = async {
            while self.send::<Created>(Method::GET, OBJECTS, "application/json", &Value::Null).await.is_err()
            {
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(Duration::from_secs(30), served)
            .await
            .map_err(|_| "the API server does not serve the kind")?;
        Ok(())
    }

    /// Creates the Secrets of these objects.
    pub async fn create_secrets(&self, range: Range<usize>) -> Result<()> {
        self.create_all("Secrets created", SECRETS, range, |index| {
            json!({
                "metadata": {"name": name(index), "labels": {"app.kubernetes.io/part-of": "bench"}},
                "stringData": {"password": password('A', index)},
            })
        })
        .await
    }

    /// Creates these objects.
    pub async fn create_objects(&self, range: Range<usize>) -> Result<()> {
        self.create_all("objects created", OBJECTS, range, |index| {
            json!({
                "apiVersion": "vncpassword.dev/v1alpha1",
                "kind": "VncPassword",
                "metadata": {"name": name(index), "labels": {"app.kubernetes.io/part-of": "bench"}},
                "spec": {"instanceId": instance(index), "secretRef": {"name": name(index)}},
            })
        })
        .await
    }

    async fn create_all(
        &self,
        what: &'static str,
        path: &str,
        range: Range<usize>,
        object: impl Fn(usize) -> Value,
    ) -> Result<()> {
        let (mut progress, mut done, of) = (Progress::new(what), 0, range.len());
        let bodies = range.map(object).collect::<Vec<_>>();
        let mut created = stream::iter(&bodies).map(|body| self.create(path, body)).buffer_unordered(WORKERS);
        while created.try_next().await?.is_some() {
            done += 1;
            progress.tell(done, of);
        }
        Ok(())
    }

    /// Gives a Secret another password. Returns when the API server has answered.
    pub async fn change_secret(&self, index: usize, password: &str) -> Result<()> {
        let path = format!("{SECRETS}/{}", name(index));
        let change = json!({"stringData": {"password": password}});
        self.send::<Created>(Method::PATCH, &path, "application/merge-patch+json", &change).await.map(drop)
    }

    /// The requests that the API server has answered so far; a watch counts as soon as it has begun.
    pub async fn requests(&self) -> Result<Requests> {
        let request = Request::get("/metrics").body(Vec::new())?;
        Ok(Requests::parse(&self.0.request_text(request).await?))
    }

    /// Watches the objects from now on and counts those that are ready.
    pub async fn watch_ready(&self) -> Result<ReadyWatch> {
        #[derive(Deserialize)]
        struct List {
            metadata: ListMeta,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct ListMeta {
            resource_version: String,
        }
        let list = format!("{OBJECTS}?limit=1");
        let list: List = self.send(Method::GET, &list, "application/json", &Value::Null).await?;
        let version = list.metadata.resource_version;
        let path = format!("{OBJECTS}?watch=1&timeoutSeconds=3600&resourceVersion={version}");
        let lines = self.0.request_stream(Request::get(path).body(Vec::new())?).await?.lines();
        let (sender, count) = watch::channel(Count::default());
        let task = tokio::spawn(async move {
            let mut lines = std::pin::pin!(lines);
            let mut ready = std::collections::HashSet::new();
            while let Ok(Some(line)) = lines.try_next().await {
                let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
                if event.object.is_ready() && ready.insert(event.object.metadata.name) {
                    sender.send_replace(Count { ready: ready.len(), last: Some(Instant::now()) });
                }
            }
        });
        Ok(ReadyWatch { count, task })
    }
}

/// Reads nothing: what was created is known.
#[derive(Deserialize)]
struct Created {}

/// Counts the objects that have become ready. Dropped, it ends the watch.
pub struct ReadyWatch {
    count: watch::Receiver<Count>,
    task: JoinHandle<()>,
}

#[derive(Clone, Copy, Default)]
struct Count {
    ready: usize,
    last: Option<Instant>,
}

impl Drop for ReadyWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl ReadyWatch {
    /// Waits until so many are ready; returns when the last of them became it.
    pub async fn reached(&mut self, objects: usize, limit: Duration) -> Result<Instant> {
        let mut progress = Progress::new("ready");
        let so_far = self.count.clone();
        let reached = async {
            loop {
                let count = *self.count.borrow_and_update();
                match count.last {
                    Some(last) if count.ready >= objects => return Ok(last),
                    _ => progress.tell(count.ready, objects),
                }
                if self.count.changed().await.is_err() {
                    return Err("the watch of the bench has ended".into());
                }
            }
        };
        let late = |_| {
            format!(
                "only {} of {objects} objects are ready after {} s",
                so_far.borrow().ready,
                limit.as_secs()
            )
        };
        timeout(limit, reached).await.map_err(late)?
    }
}

#[derive(Deserialize)]
struct Event {
    object: Watched,
}

#[derive(Deserialize)]
struct Watched {
    metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Deserialize)]
struct Metadata {
    name: String,
}

#[derive(Default, Deserialize)]
struct Status {
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Watched {
    fn is_ready(&self) -> bool {
        self.status.conditions.iter().any(|condition| condition.kind == "Ready" && condition.status == "True")
    }
}

/// How many requests of each kind, such as `PATCH vncpasswords/status`.
#[derive(Clone, Debug, Default)]
pub struct Requests(BTreeMap<String, u64>);

impl Requests {
    fn parse(metrics: &str) -> Self {
        let mut requests = BTreeMap::new();
        for line in metrics.lines() {
            let total = line.strip_prefix("apiserver_request_total{");
            let running = line.strip_prefix("apiserver_longrunning_requests{");
            let Some((labels, value)) = total.or(running).and_then(|rest| rest.rsplit_once("} ")) else {
                continue;
            };
            let label = |name: &str| -> &str {
                let mut pairs = labels.split("\",");
                let value = pairs.find_map(|pair| pair.strip_prefix(name)?.strip_prefix("=\""));
                value.unwrap_or_default().trim_end_matches('"')
            };
            let (resource, verb) = (label("resource"), label("verb"));
            // A watch that has ended is in the one count, one that runs in the other.
            if !COUNTED.contains(&resource) || (running.is_some() && verb != "WATCH") {
                continue;
            }
            let verb = if verb == "APPLY" { "PATCH" } else { verb };
            let slash = if label("subresource").is_empty() { "" } else { "/" };
            let kind = format!("{verb} {resource}{slash}{}", label("subresource"));
            *requests.entry(kind).or_default() += value.parse::<f64>().map_or(0, whole);
        }
        Self(requests)
    }

    /// What has been added since, without what the bench did itself.
    pub fn since(&self, before: &Self, own: &[(&str, u64)]) -> Self {
        let added = self.0.iter().filter_map(|(kind, count)| {
            let own = own.iter().find(|(name, _)| name == kind).map_or(0, |(_, count)| *count);
            let before = before.0.get(kind).copied().unwrap_or(0);
            let added = count.saturating_sub(before).saturating_sub(own);
            (added > 0).then(|| (kind.clone(), added))
        });
        Self(added.collect())
    }

    /// All together.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Those of one kind.
    pub fn of(&self, kind: &str) -> u64 {
        self.0.get(kind).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Requests {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let kinds: Vec<String> = self.0.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        f.write_str(if kinds.is_empty() { "none".to_owned() } else { kinds.join(", ") }.as_str())
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count below 2^53")]
fn whole(value: f64) -> u64 {
    value as u64
}
