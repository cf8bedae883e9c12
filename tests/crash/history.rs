//! Every version that a Secret had, and between which two moments it was written.
//!
//! A watch shows each version, but late. What tells the moment is a heartbeat: an object written again and again. Its
//! revision and that of a Secret come from one counter, so a version with a higher revision was written after that
//! heartbeat began, and one with a lower revision before it was answered. No clock but one is compared, and a slow watch
//! changes nothing.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api, ResourceExt,
    api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams},
};
use serde_json::json;
use tokio::{task::JoinHandle, time::Instant, time::sleep};
use vncpassword_core::rotation::contents::Record;
use vncpassword_emulator::Cloud;
use vncpassword_test_support::{World, world::PATIENCE};

/// Between two heartbeats.
const BEAT: Duration = Duration::from_millis(25);

/// One version of a Secret.
#[derive(Clone, Debug)]
pub struct Version {
    pub revision: u64,
    pub current: Option<String>,
    pub next: Option<String>,
    pub record: Option<Record>,
    /// The Secret was deleted; nothing is left of it.
    pub deleted: bool,
    /// Written after this, by the emulator's clock,
    pub after: Timestamp,
    /// and before this.
    pub before: Timestamp,
}

impl Version {
    /// Whether a reader of the Secret finds this password.
    pub fn offers(&self, password: &str) -> bool {
        [&self.current, &self.next].into_iter().any(|value| value.as_deref() == Some(password))
    }

    fn deletion(secret: &Secret, now: Timestamp) -> Self {
        Self { current: None, next: None, record: None, deleted: true, ..Self::of(secret, now) }
    }

    fn of(secret: &Secret, now: Timestamp) -> Self {
        let data = secret.data.clone().unwrap_or_default();
        let value = |key: &str| data.get(key).map(|value| String::from_utf8(value.0.clone()).unwrap());
        Self {
            revision: revision(secret.resource_version()),
            current: value("password"),
            next: value("password.next"),
            record: value("password.rotation").and_then(|record| serde_json::from_str(&record).ok()),
            deleted: false,
            after: Timestamp::MIN,
            before: now,
        }
    }
}

pub fn revision(version: Option<String>) -> u64 {
    version.expect("what the API server returns has a version").parse().unwrap()
}

struct Beat {
    begun: Timestamp,
    answered: Timestamp,
    revision: u64,
}

/// What was seen so far: versions by name of the Secret.
#[derive(Default)]
struct Seen {
    versions: BTreeMap<String, Vec<Version>>,
    beats: Vec<Beat>,
}

/// A look at what was seen so far.
#[derive(Clone)]
pub struct View(Arc<Mutex<Seen>>);

impl View {
    /// Whether a password was promoted in that Secret since then.
    pub fn was_promoted_since(&self, secret: &str, since: Timestamp) -> bool {
        let seen = self.0.lock().unwrap();
        let versions = seen.versions.get(secret).map(Vec::as_slice).unwrap_or_default();
        matches!(versions, [.., before, last] if before.next.is_some() && last.next.is_none() && last.before > since)
    }
}

/// Writes everything down, from its start on.
pub struct Recorder {
    secrets: Api<Secret>,
    seen: Arc<Mutex<Seen>>,
    tasks: [JoinHandle<()>; 2],
}

impl Recorder {
    pub async fn start(world: &World) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let secrets = world.secrets();
        let list = secrets.list_metadata(&ListParams::default()).await.unwrap();
        assert_eq!(list.items.len(), 0, "the history begins before the first Secret");
        let from = list.metadata.resource_version.unwrap();
        let watch = tokio::spawn(watch(secrets.clone(), from, world.cloud().clone(), Arc::clone(&seen)));
        let maps = Api::namespaced(world.client.clone(), &world.namespace);
        let beat = tokio::spawn(beat(maps, world.cloud().clone(), Arc::clone(&seen)));
        Self { secrets, seen, tasks: [watch, beat] }
    }

    pub fn view(&self) -> View {
        View(Arc::clone(&self.seen))
    }

    /// Ends it when everything up to now was seen.
    pub async fn finish(self) -> BTreeMap<String, Vec<Version>> {
        let last = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "last"}});
        self.secrets.patch("last", &PatchParams::apply("test"), &Patch::Apply(last)).await.unwrap();
        let deadline = Instant::now() + PATIENCE;
        while !self.seen.lock().unwrap().versions.contains_key("last") {
            assert!(Instant::now() < deadline, "the watch does not catch up");
            sleep(BEAT).await;
        }
        for task in &self.tasks {
            assert!(!task.is_finished(), "the recorder has broken down");
            task.abort();
        }
        let Seen { mut versions, beats } = std::mem::take(&mut *self.seen.lock().unwrap());
        for version in versions.values_mut().flatten() {
            let later = beats.partition_point(|beat| beat.revision < version.revision);
            version.after = later.checked_sub(1).map_or(Timestamp::MIN, |before| beats[before].begun);
            version.before =
                beats.get(later).map_or(version.before, |beat| beat.answered.min(version.before));
        }
        versions
    }
}

async fn watch(secrets: Api<Secret>, from: String, cloud: Cloud, seen: Arc<Mutex<Seen>>) {
    let mut from = from;
    loop {
        let parameters = WatchParams::default().timeout(290);
        let mut events = secrets.watch(&parameters, &from).await.unwrap().boxed();
        while let Some(event) = events.next().await {
            match event.unwrap() {
                WatchEvent::Added(secret) | WatchEvent::Modified(secret) => {
                    from = secret.resource_version().unwrap();
                    let name = secret.name_any();
                    let version = Version::of(&secret, cloud.now());
                    seen.lock().unwrap().versions.entry(name).or_default().push(version);
                }
                WatchEvent::Bookmark(bookmark) => from = bookmark.metadata.resource_version,
                WatchEvent::Deleted(secret) => {
                    from = secret.resource_version().unwrap();
                    let name = secret.name_any();
                    let version = Version::deletion(&secret, cloud.now());
                    seen.lock().unwrap().versions.entry(name).or_default().push(version);
                }
                WatchEvent::Error(error) => panic!("the history has a gap: {error}"),
            }
        }
    }
}

async fn beat(maps: Api<ConfigMap>, cloud: Cloud, seen: Arc<Mutex<Seen>>) {
    for number in 0_u64.. {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "heart"},
            "data": {"beat": number.to_string()}});
        let begun = cloud.now();
        let map = maps.patch("heart", &PatchParams::apply("test"), &Patch::Apply(map)).await.unwrap();
        let beat = Beat { begun, answered: cloud.now(), revision: revision(map.resource_version()) };
        seen.lock().unwrap().beats.push(beat);
        sleep(BEAT).await;
    }
}
