//! Fleets, the Nodes and instances behind them, and the children that they make.
//!
//! Fleets and Nodes are in no namespace: their names begin with that of the test, and Nodes carry it as a label.

use std::{collections::BTreeMap, time::Duration};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{
    api::{core::v1::Node, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use vncpassword_core::api::{
    ClusterVncPassword, ClusterVncPasswordStatus, ConditionStatus, ConditionType, FIELD_MANAGER, FLEET,
    ROTATE_AT, Reason, VncPassword,
};
use vncpassword_emulator as emulator;

use crate::{
    Operator, World,
    barrier::{self, SENTINEL},
    world::PATIENCE,
};

/// Where Events about fleets are.
const EVENTS: &str = "default";

/// A fleet that lives in the namespace of a test.
pub struct Fleet<'a> {
    pub name: String,
    world: &'a World,
}

impl<'a> Fleet<'a> {
    /// Creates one of the Nodes of this test, with this in its spec besides.
    pub async fn of_nodes(world: &'a World, spec: Value) -> Self {
        let nodes = json!({"nodeSelector": {"matchLabels": {"test": world.namespace}}});
        Self::new(world, merged(nodes, &spec)).await
    }

    /// Creates one of these instances, with this in its spec besides.
    pub async fn of(world: &'a World, instances: &[String], spec: Value) -> Self {
        Self::new(world, merged(json!({"instanceIds": instances}), &spec)).await
    }

    /// Creates one with the name of the test.
    pub async fn new(world: &'a World, spec: Value) -> Self {
        Self::create(world, json!({"name": world.namespace}), spec).await
    }

    /// Creates one with this metadata.
    pub async fn create(world: &'a World, metadata: Value, spec: Value) -> Self {
        let spec = merged(json!({"targetNamespace": world.namespace}), &spec);
        let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
            "metadata": metadata, "spec": spec});
        let object: ClusterVncPassword = serde_json::from_value(object).unwrap();
        let fleet = Self { name: object.name_any(), world };
        fleet.api().create(&PostParams::default(), &object).await.unwrap();
        fleet
    }

    pub fn api(&self) -> Api<ClusterVncPassword> {
        Api::all(self.world.client.clone())
    }

    pub async fn get(&self) -> ClusterVncPassword {
        self.api().get(&self.name).await.unwrap()
    }

    /// Merges this into the object.
    pub async fn change(&self, change: Value) {
        self.api().patch(&self.name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    pub async fn delete(&self) {
        self.api().delete(&self.name, &DeleteParams::default()).await.unwrap();
    }

    /// Name of the child of that instance.
    pub fn child(&self, instance: &str) -> String {
        vncpassword_core::fleet::member_object_name(&self.name, instance)
    }

    /// The child of that instance, if there is one.
    pub async fn child_of(&self, instance: &str) -> Option<VncPassword> {
        self.world.objects().get_opt(&self.child(instance)).await.unwrap()
    }

    /// All that carry the fleet's label.
    pub async fn children(&self) -> Vec<VncPassword> {
        let labelled = ListParams::default().labels(&format!("{FLEET}={}", self.name));
        self.world.objects().list(&labelled).await.unwrap().items
    }

    pub async fn status(&self) -> ClusterVncPasswordStatus {
        self.get().await.status.unwrap_or_default()
    }

    /// Waits until the status is as wanted.
    pub async fn until(
        &self,
        wanted: &str,
        mut holds: impl FnMut(&ClusterVncPasswordStatus) -> bool,
    ) -> ClusterVncPasswordStatus {
        self.wait(PATIENCE, wanted, |_, status| holds(status)).await
    }

    /// Waits, for so long at most, until the status is as wanted.
    pub async fn wait(
        &self,
        patience: Duration,
        wanted: &str,
        mut holds: impl FnMut(&ClusterVncPassword, &ClusterVncPasswordStatus) -> bool,
    ) -> ClusterVncPasswordStatus {
        let deadline = Instant::now() + patience;
        loop {
            let fleet = self.get().await;
            let status = fleet.status.clone().unwrap_or_default();
            if holds(&fleet, &status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{} is not {wanted} in time: {status:#?}", self.name);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the operator has handled every change of fleets, objects and Secrets that was made before, of Nodes too if
    /// this fleet selects them, and all that followed from these changes. What waits for a time still waits.
    ///
    /// Each round is a barrier for fleets, then one for objects. What the operator writes in a round may cause more, so there
    /// are rounds until one passes without a write.
    pub async fn settled(&self, operator: &Operator) {
        let fleet = self.api().get_opt(&self.name).await.unwrap();
        let nodes = fleet.is_some_and(|fleet| fleet.spec.node_selector.is_some());
        let deadline = Instant::now() + PATIENCE;
        loop {
            let before = operator.requests().writes();
            barrier::pass_fleets(self.world, nodes).await;
            operator.settled(self.world).await;
            if operator.requests().writes() == before {
                return;
            }
            assert!(Instant::now() < deadline, "{}: the operator writes and writes", self.name);
        }
    }

    /// Waits until so many instances have their password, and nothing is under way.
    pub async fn until_done(&self, instances: usize) -> ClusterVncPasswordStatus {
        self.until_done_within(PATIENCE, instances).await
    }

    /// The same, for so long at most.
    pub async fn until_done_within(&self, patience: Duration, instances: usize) -> ClusterVncPasswordStatus {
        let instances = u32::try_from(instances).unwrap();
        self.wait(patience, "done", |fleet, status| {
            status.observed_generation == fleet.metadata.generation
                && (status.discovered, status.ready) == (instances, instances)
                && calm(status)
        })
        .await
    }

    /// Waits until a rollout that is not the one in this status has ended.
    pub async fn until_rotated(&self, before: &ClusterVncPasswordStatus) -> ClusterVncPasswordStatus {
        let former = before.rollout.as_ref().map(|rollout| rollout.id.clone());
        self.until("rotated", |status| {
            status.rollout.as_ref().is_some_and(|rollout| Some(&rollout.id) != former.as_ref())
                && calm(status)
        })
        .await
    }

    /// Waits until it is stalled for that reason.
    pub async fn until_stalled(&self, reason: Reason) -> ClusterVncPasswordStatus {
        self.until(reason.as_str(), |status| status.reason(ConditionType::Stalled) == Some(reason)).await
    }

    /// Asks for a rotation of all now; returns the time that was asked for.
    pub async fn rotate_now(&self) -> Timestamp {
        let at = Timestamp::from_second(Timestamp::now().as_second()).unwrap();
        self.rotate_at(at).await;
        at
    }

    /// Asks for a rotation of all at that time.
    pub async fn rotate_at(&self, at: Timestamp) {
        self.change(json!({"metadata": {"annotations": {ROTATE_AT: at.to_string()}}})).await;
    }

    /// Lets the last rollout, and each child's last rotation, be so long ago.
    pub async fn age(&self, by: SignedDuration) {
        let children = self.children().await;
        join_all(children.iter().map(|child| age_child(self.world, child, by))).await;
        loop {
            let fleet = self.get().await;
            let mut status = fleet.status.unwrap();
            let rollout = status.rollout.as_mut().expect("no rollout yet");
            rollout.started_at = Time(rollout.started_at.0 - by);
            let version = fleet.metadata.resource_version;
            if written(&self.api(), &self.name, version, json!(status)).await {
                return;
            }
        }
    }

    /// Makes the next attempt of each child that has failed due now.
    pub async fn hurry(&self) {
        let api = self.world.objects();
        for child in self.children().await {
            loop {
                let child = api.get(&child.name_any()).await.unwrap();
                let mut status = child.status.clone().unwrap_or_default();
                let Some(retry) = status.retry.as_mut().filter(|retry| retry.next_attempt_time.is_some())
                else {
                    break;
                };
                retry.next_attempt_time =
                    Some(Time(Timestamp::from_second(Timestamp::now().as_second()).unwrap()));
                let version = child.metadata.resource_version.clone();
                if written(&api, &child.name_any(), version, json!(status)).await {
                    break;
                }
            }
        }
    }

    /// Waits until each of these instances has a child, and a Secret with the password that opens its console; returns the
    /// passwords.
    pub async fn until_known(&self, instances: &[String]) -> Vec<String> {
        let mut passwords = Vec::new();
        for instance in instances {
            let deadline = Instant::now() + PATIENCE;
            loop {
                let child = self.child_of(instance).await;
                let name = child.map_or_else(String::new, |child| child.spec.secret_ref.name);
                let secret = match name.as_str() {
                    "" => None,
                    name => self.world.secrets().get_opt(name).await.unwrap(),
                };
                let data = secret.and_then(|secret| secret.data).unwrap_or_default();
                let console = self.world.console(instance);
                if let (Some(value), Some(console)) = (data.get("password"), console)
                    && value.0 == console.as_bytes()
                {
                    passwords.push(console);
                    break;
                }
                assert!(Instant::now() < deadline, "the password of {instance} is not known in time");
                sleep(Duration::from_millis(50)).await;
            }
        }
        passwords
    }

    /// Waits until the instance has a child, or has none.
    pub async fn until_child(&self, instance: &str, there: bool) {
        let deadline = Instant::now() + PATIENCE;
        while self.child_of(instance).await.is_some() != there {
            assert!(Instant::now() < deadline, "{instance}: a child is there: {}, in time", !there);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the child is as wanted.
    pub async fn until_child_is(
        &self,
        instance: &str,
        wanted: &str,
        holds: impl Fn(&VncPassword) -> bool,
    ) -> VncPassword {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let child = self.child_of(instance).await;
            if let Some(child) = child.as_ref().filter(|child| holds(child)) {
                return child.clone();
            }
            assert!(Instant::now() < deadline, "{instance} is not {wanted} in time: {child:#?}");
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Events about it so far: reason and note.
    pub async fn events(&self) -> Vec<(String, String)> {
        let events: Api<Event> = Api::namespaced(self.world.client.clone(), EVENTS);
        let mut found = events.list(&ListParams::default()).await.unwrap().items;
        found.retain(|event| {
            event.regarding.as_ref().is_some_and(|regarding| {
                regarding.kind.as_deref() == Some("ClusterVncPassword")
                    && regarding.name.as_ref() == Some(&self.name)
            })
        });
        found.sort_by_key(|event| event.event_time.as_ref().map(|time| time.0));
        found
            .into_iter()
            .map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default()))
            .collect()
    }

    /// Waits until so many Events of that reason were told; returns their notes.
    pub async fn until_told(&self, reason: &str, times: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let events = self.events().await;
            let told: Vec<String> =
                events.iter().filter(|(other, _)| other == reason).map(|(_, note)| note.clone()).collect();
            if told.len() >= times {
                assert_eq!(told.len(), times, "{told:?}");
                return told;
            }
            assert!(Instant::now() < deadline, "{reason} is not told {times} times in time: {events:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// Versions of the fleet, its children and all Secrets of the namespace but those of barriers: they tell whether anybody
    /// wrote.
    pub async fn versions(&self) -> BTreeMap<String, Option<String>> {
        let mut versions = BTreeMap::from([("fleet".to_owned(), self.get().await.resource_version())]);
        for child in self.children().await {
            versions.insert(format!("child {}", child.name_any()), child.resource_version());
        }
        let secrets = self.world.secrets().list_metadata(&ListParams::default()).await.unwrap();
        let secrets = secrets.items.into_iter().filter(|secret| !secret.name_any().starts_with(SENTINEL));
        for secret in secrets {
            versions.insert(format!("secret {}", secret.name_any()), secret.metadata.resource_version);
        }
        versions
    }
}

/// Whether nothing is under way and nothing needs a person.
pub fn calm(status: &ClusterVncPasswordStatus) -> bool {
    let unrest = [ConditionType::Reconciling, ConditionType::Stalled, ConditionType::DiscoveryDegraded];
    status.condition(ConditionType::Ready).is_some_and(|condition| condition.status == ConditionStatus::True)
        && unrest.into_iter().all(|type_| status.condition(type_).is_none())
        && status.rollout.as_ref().is_none_or(|rollout| rollout.completed_at.is_some())
}

/// An instance of this test (Running, I/O optimized); returns its ID.
pub fn instance(world: &World, name: &str) -> String {
    let id = format!("i-{}{name}", world.namespace.replace('-', ""));
    world.cloud().put_instance(emulator::Instance::new(&id));
    id
}

/// So many of them.
pub fn instances(world: &World, count: usize) -> Vec<String> {
    (0..count).map(|number| instance(world, &format!("n{number:04}"))).collect()
}

/// Instances with a Node each; every other Node names its cloud.
pub async fn nodes(world: &World, count: usize) -> Vec<String> {
    let instances = instances(world, count);
    for (number, instance) in instances.iter().enumerate() {
        node(world, &number.to_string(), Some(&provider_id(number, instance))).await;
    }
    instances
}

/// One of the two forms.
pub fn provider_id(number: usize, instance: &str) -> String {
    let scheme = if number.is_multiple_of(2) { "" } else { "alicloud://" };
    format!("{scheme}cn-hangzhou.{instance}")
}

/// Creates a Node that carries the label of the test.
pub async fn node(world: &World, name: &str, provider_id: Option<&str>) {
    let node = json!({"metadata": {"name": node_name(world, name), "labels": {"test": world.namespace}},
        "spec": {"providerID": provider_id}});
    create_node(world, node).await;
}

pub(crate) async fn create_node(world: &World, node: Value) {
    let node: Node = serde_json::from_value(node).unwrap();
    all_nodes(world).create(&PostParams::default(), &node).await.unwrap();
}

pub fn node_name(world: &World, name: &str) -> String {
    format!("{}-{name}", world.namespace)
}

/// Merges this into a Node.
pub async fn change_node(world: &World, name: &str, change: Value) {
    let patch = Patch::Merge(change);
    all_nodes(world).patch(&node_name(world, name), &PatchParams::default(), &patch).await.unwrap();
}

pub async fn delete_node(world: &World, name: &str) {
    all_nodes(world).delete(&node_name(world, name), &DeleteParams::default()).await.unwrap();
}

fn all_nodes(world: &World) -> Api<Node> {
    Api::all(world.client.clone())
}

/// `fields` over `object`, one level deep.
fn merged(mut object: Value, fields: &Value) -> Value {
    object.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    object
}

/// Lets the last rotation of a child be so long ago: in the Secret's record first, which the status is told from.
async fn age_child(world: &World, child: &VncPassword, by: SignedDuration) {
    let secret = world.values(&child.spec.secret_ref.name).await;
    if let Some(record) = secret.get("password.rotation") {
        let mut record: Value = serde_json::from_str(record).unwrap();
        let drawn_at: Timestamp = record["drawnAt"].as_str().unwrap().parse().unwrap();
        record["drawnAt"] = json!((drawn_at - by).to_string());
        let edit = Patch::Merge(json!({"stringData": {"password.rotation": record.to_string()}}));
        let name = &child.spec.secret_ref.name;
        world.secrets().patch(name, &PatchParams::default(), &edit).await.unwrap();
    }
    let name = child.name_any();
    loop {
        let child = world.objects().get(&name).await.unwrap();
        let version = child.metadata.resource_version;
        let mut status = child.status.unwrap_or_default();
        let times =
            [status.last_rotation_time.as_mut(), status.applied.as_mut().map(|applied| &mut applied.time)];
        for time in times.into_iter().flatten() {
            *time = Time(time.0 - by);
        }
        if written(&world.objects(), &name, version, json!(status)).await {
            return;
        }
    }
}

/// Writes a status in the operator's name, unless somebody was faster.
async fn written<K>(api: &Api<K>, name: &str, version: Option<String>, status: Value) -> bool
where
    K: kube::Resource<DynamicType = ()> + Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    let object = json!({"apiVersion": K::api_version(&()), "kind": K::kind(&()), "status": status,
        "metadata": {"name": name, "resourceVersion": version}});
    let parameters = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let body = serde_json::to_vec(&object).unwrap();
    let request = kube::core::Request::new(api.resource_url());
    let request = request.replace_subresource("status", name, &parameters, body).unwrap();
    match api.clone().into_client().request::<K>(request).await {
        Err(kube::Error::Api(conflict)) if conflict.code == 409 => false,
        written => written.map(|_| true).unwrap(),
    }
}
