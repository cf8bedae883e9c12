//! The Nodes: labels from a watch of metadata, and each Node's `spec.providerID`, read once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use futures::StreamExt;
use kube::{Client, Resource, api::GetParams, core::Request};
use serde::Deserialize;
use tokio::sync::Notify;

use crate::store::{list_watch::Pages, object::NodeMetadata};
use vncpassword_core::{
    api::NodeSelector,
    fleet::{self, DiscoveryResult},
};

/// More Nodes than this are read by a list.
const MANY: usize = 20;
/// Nodes that are read at the same time.
const READERS: usize = 4;
/// A Node without a providerID is not read again sooner than that.
const AGAIN: Duration = Duration::from_secs(5);
/// So long it may take until all Nodes are known, without a word about it.
const LATE: Duration = Duration::from_secs(15);
/// How long to wait after a failure.
const RETRY: Duration = Duration::from_secs(5);

/// The Nodes that the watch knows. There is a watch from the first time that somebody wants them.
#[derive(Default)]
pub(crate) struct Nodes {
    state: Mutex<State>,
    wanted: Notify,
    unread: Notify,
    since: OnceLock<Instant>,
}

#[derive(Default)]
struct State {
    nodes: HashMap<Arc<str>, Node>,
    /// All were listed and read once.
    complete: bool,
    /// All were listed.
    listed: bool,
}

struct Node {
    uid: Box<str>,
    version: Box<str>,
    labels: Box<str>,
    provider_id: ProviderId,
    /// It has changed since it was read, and had no providerID then.
    stale: bool,
    read_at: Option<Instant>,
}

impl Node {
    fn is_unread(&self) -> bool {
        let lately = self.read_at.is_some_and(|at| at.elapsed() < AGAIN);
        matches!(self.provider_id, ProviderId::Unread) || (self.stale && !lately)
    }
}

enum ProviderId {
    Unread,
    /// `None`: it has none yet. One that it has never changes.
    Read(Option<Box<str>>),
}

impl Nodes {
    /// Waits until somebody wants Nodes.
    pub async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// The instances behind the Nodes that fit; `None`: they are not all known yet.
    pub fn answer(&self, selector: &NodeSelector) -> Option<DiscoveryResult> {
        self.wanted.notify_one();
        let state = self.state();
        if !state.complete {
            return None;
        }
        let fitting = state.nodes.iter().filter_map(|(name, node)| {
            let ProviderId::Read(provider_id) = &node.provider_id else { return None };
            let fits = fleet::matches_selector(selector, |key| label(&node.labels, key));
            fits.then_some((&**name, provider_id.as_deref()))
        });
        Some(DiscoveryResult::from_nodes(fitting))
    }

    /// Whether Nodes have been wanted for long, and are not all known yet.
    pub fn are_late(&self) -> bool {
        let late = self.since.get_or_init(Instant::now).elapsed() > LATE;
        late && !self.state().complete
    }

    /// Takes in a Node from the watch; whether that changes which instances there are.
    pub fn apply(&self, node: &NodeMetadata) -> bool {
        let labels = node.labels.clone();
        let metadata = node.meta();
        let name: Arc<str> = metadata.name.clone().unwrap_or_default().into();
        let uid: Box<str> = metadata.uid.clone().unwrap_or_default().into();
        let version: Box<str> = metadata.resource_version.clone().unwrap_or_default().into();
        let mut state = self.state();
        let listed = state.listed;
        if let Some(known) = state.nodes.get_mut(&name).filter(|known| known.uid == uid) {
            // The cloud's controller manager may have come by since.
            if known.version != version && matches!(known.provider_id, ProviderId::Read(None)) {
                known.stale = true;
                self.unread.notify_one();
            }
            known.version = version;
            return std::mem::replace(&mut known.labels, labels.clone()) != labels;
        }
        state.nodes.insert(
            name,
            Node { uid, version, labels, provider_id: ProviderId::Unread, stale: false, read_at: None },
        );
        if listed {
            self.unread.notify_one();
        }
        false
    }

    /// A Node is gone.
    pub fn delete(&self, name: &str) {
        self.state().nodes.remove(name);
    }

    /// The watch has listed all Nodes; those that it did not name are gone.
    pub fn listed(&self, gone: impl IntoIterator<Item = Arc<str>>) {
        let mut state = self.state();
        for name in gone {
            state.nodes.remove(&name);
        }
        state.listed = true;
        self.unread.notify_one();
    }

    /// The names of all Nodes.
    pub fn names(&self) -> Vec<Arc<str>> {
        self.state().nodes.keys().cloned().collect()
    }

    /// Reads what is unread, for ever. `changed` is called when that changes which instances there are.
    pub async fn run(&self, client: &Client, changed: impl Fn()) {
        loop {
            let stale = self.state().nodes.values().any(|node| node.stale);
            tokio::select! {
                () = self.unread.notified() => {}
                () = tokio::time::sleep(AGAIN), if stale => {}
            }
            let news = loop {
                match self.read(client).await {
                    Ok(news) => break news,
                    Err(error) => {
                        tracing::warn!(%error, "cannot read spec.providerID of Nodes; it is tried again");
                        tokio::time::sleep(RETRY).await;
                    }
                }
            };
            if news {
                changed();
            }
        }
    }

    /// Whether that changed anything.
    async fn read(&self, client: &Client) -> Result<bool, kube::Error> {
        let unread: Vec<Arc<str>> = {
            let state = self.state();
            let unread = state.nodes.iter().filter(|(_, node)| node.is_unread());
            unread.map(|(name, _)| Arc::clone(name)).collect()
        };
        let mut news = false;
        if unread.len() > MANY {
            news |= self.read_all(client).await?;
        } else {
            let mut reads = futures::stream::iter(unread.into_iter().map(|name| read_one(client, name)))
                .buffer_unordered(READERS);
            while let Some((name, read)) = reads.next().await {
                match read {
                    Ok(node) => news |= self.learn(node),
                    Err(kube::Error::Api(status)) if status.code == 404 => self.delete(&name),
                    Err(error) => return Err(error),
                }
            }
        }
        let mut state = self.state();
        let (complete, listed) = (state.complete, state.listed);
        state.complete = listed;
        Ok(news || complete != listed)
    }

    async fn read_all(&self, client: &Client) -> Result<bool, kube::Error> {
        let mut news = false;
        let mut pages = Pages::new("/api/v1/nodes", false);
        loop {
            let (page, last) = pages.read(client).await?;
            for node in page.into_items() {
                news |= self.learn(node);
            }
            if last {
                return Ok(news);
            }
        }
    }

    /// Whether that is news.
    fn learn(&self, wire: WireNode) -> bool {
        let mut state = self.state();
        let node = state.nodes.get_mut(wire.metadata.name.as_str());
        let Some(node) = node.filter(|node| *node.uid == *wire.metadata.uid) else { return false };
        (node.stale, node.read_at) = (false, Some(Instant::now()));
        let read = wire.spec.provider_id.map(Into::into);
        let same = matches!(&node.provider_id, ProviderId::Read(known) if *known == read);
        node.provider_id = ProviderId::Read(read);
        !same
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read_one(client: &Client, name: Arc<str>) -> (Arc<str>, Result<WireNode, kube::Error>) {
    let request = Request::new("/api/v1/nodes").get(&name, &GetParams::default());
    let read = match request.map_err(kube::Error::BuildRequest) {
        Ok(request) => client.request(request).await,
        Err(error) => Err(error),
    };
    (name, read)
}

/// The value of a label in lines of `key=value`.
fn label<'a>(labels: &'a str, key: &str) -> Option<&'a str> {
    labels
        .lines()
        .filter_map(|line| line.split_once('='))
        .find(|(found, _)| *found == key)
        .map(|(_, value)| value)
}

/// A Node, of which only what is needed is read.
#[derive(Clone, Debug, Deserialize)]
struct WireNode {
    metadata: WireMetadata,
    #[serde(default)]
    spec: WireSpec,
}

#[derive(Clone, Debug, Deserialize)]
struct WireMetadata {
    name: String,
    uid: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct WireSpec {
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, uid: &str, version: &str, labels: &str) -> NodeMetadata {
        let metadata = serde_json::json!({"name": name, "uid": uid, "resourceVersion": version, "labels":
            labels.split(' ').filter_map(|label| label.split_once('=')).collect::<HashMap<_, _>>()});
        serde_json::from_value(serde_json::json!({"metadata": metadata})).unwrap()
    }

    fn read(nodes: &Nodes, name: &str, uid: &str, provider_id: Option<&str>) {
        let wire =
            serde_json::json!({"metadata": {"name": name, "uid": uid}, "spec": {"providerID": provider_id}});
        nodes.learn(serde_json::from_value(wire).unwrap());
        nodes.state().complete = true;
    }

    fn found(nodes: &Nodes) -> Vec<String> {
        let answer = nodes.answer(&NodeSelector::default()).unwrap();
        answer.found.keys().map(ToString::to_string).collect()
    }

    #[test]
    fn a_node_counts_from_when_it_was_read() {
        let nodes = Nodes::default();
        assert!(!nodes.apply(&node("a", "1", "1", "")));
        assert_eq!(nodes.answer(&NodeSelector::default()), None, "not all is known");
        read(&nodes, "a", "1", Some("cn-hangzhou.i-a"));
        assert_eq!(found(&nodes), ["i-a"]);
        assert!(!nodes.apply(&node("a", "1", "2", "")), "a heartbeat changes nothing");
        assert!(nodes.apply(&node("a", "1", "3", "pool=db")));
        assert_eq!(found(&nodes), ["i-a"], "what it has is not read again");
        nodes.apply(&node("a", "2", "4", ""));
        assert!(found(&nodes).is_empty(), "another Node of that name is another instance");
        read(&nodes, "a", "1", Some("cn-hangzhou.i-a"));
        assert!(found(&nodes).is_empty(), "an answer about the former one comes too late");
    }

    #[test]
    fn a_node_without_an_instance_is_read_again_when_it_changes() {
        let nodes = Nodes::default();
        nodes.apply(&node("a", "1", "1", ""));
        read(&nodes, "a", "1", None);
        let stale = || nodes.state().nodes.values().filter(|node| node.stale).count();
        nodes.apply(&node("a", "1", "1", ""));
        assert_eq!(stale(), 0);
        nodes.apply(&node("a", "1", "2", ""));
        assert_eq!(stale(), 1);
    }

    #[test]
    fn labels_are_found_by_their_whole_key() {
        assert_eq!(label("a=1\nb.c/a=2\nempty=", "a"), Some("1"));
        assert_eq!(label("a=1\nb.c/a=2\nempty=", "b.c/a"), Some("2"));
        assert_eq!(label("a=1\nb.c/a=2\nempty=", "empty"), Some(""));
        assert_eq!(label("a=1", "1"), None);
    }
}
