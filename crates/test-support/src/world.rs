//! A namespace and an emulator for one test, and short words for what tests do there.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{sync::OnceCell, time::Instant};
use vncpassword_core::api::{
    ClusterVncPassword, ConditionStatus, ConditionType, Reason, VncPassword, VncPasswordStatus, definitions,
};
use vncpassword_emulator::{Action, Cloud, Emulator, Entry, Instance, Options};
use vncpassword_operator::settings::Settings;

use crate::{
    Operator,
    control_plane::{ControlPlane, config, shared_kubeconfig},
    operator::{self, Setup},
};

/// Longest that a test waits for something that ought to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A namespace of its own and a cloud of its own.
pub struct World {
    pub client: Client,
    pub namespace: String,
    pub emulator: Emulator,
    config: kube::Config,
    /// How many barriers were passed ([`Operator::settled`]).
    pub(crate) barriers: AtomicU32,
}

impl World {
    pub async fn new() -> Self {
        Self::with(Options::default()).await
    }

    /// With an emulator that starts like this.
    pub async fn with(options: Options) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        static CRDS: OnceCell<()> = OnceCell::const_new();
        let config = config(&shared_kubeconfig()).await;
        let client = Client::try_from(config.clone()).unwrap();
        CRDS.get_or_init(|| install_crds(client.clone())).await;
        let namespace = format!("test-{}", NUMBER.fetch_add(1, Relaxed));
        Self::in_namespace(namespace, config, client, options).await
    }

    /// On a control plane of its own, for what would disturb other tests.
    pub async fn on(plane: &ControlPlane) -> Self {
        let config = config(&plane.kubeconfig()).await;
        let client = Client::try_from(config.clone()).unwrap();
        install_crds(client.clone()).await;
        Self::in_namespace("test".to_owned(), config, client, Options::default()).await
    }

    async fn in_namespace(namespace: String, config: kube::Config, client: Client, options: Options) -> Self {
        let object: Namespace = serde_json::from_value(json!({"metadata": {"name": namespace}})).unwrap();
        Api::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
        let emulator = Emulator::start(options).await.unwrap();
        Self { client, namespace, emulator, config, barriers: AtomicU32::new(0) }
    }

    pub fn cloud(&self) -> &Cloud {
        self.emulator.cloud()
    }

    /// Settings for an operator here.
    pub fn settings(&self) -> Settings {
        operator::settings(&self.namespace, &self.emulator.url())
    }

    /// Starts an operator with the usual settings.
    pub fn operator(&self) -> Operator {
        self.operator_with(self.settings())
    }

    pub fn operator_with(&self, setup: impl Into<Setup>) -> Operator {
        Operator::start(self.config.clone(), setup)
    }

    /// Starts an operator and waits until it has listed everything: what is created now is younger than it.
    pub async fn operator_before(&self, setup: impl Into<Setup>) -> Operator {
        let operator = self.operator_with(setup);
        let ready = format!("http://{}/readyz", operator.address());
        let deadline = Instant::now() + PATIENCE;
        while !reqwest::get(&ready).await.is_ok_and(|reply| reply.status().is_success()) {
            assert!(Instant::now() < deadline, "the operator is not ready in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        operator
    }

    pub fn config(&self) -> kube::Config {
        self.config.clone()
    }

    pub fn secrets(&self) -> Api<Secret> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn objects(&self) -> Api<VncPassword> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Writes a Secret whose key `password` holds this value.
    pub async fn secret(&self, name: &str, value: impl AsRef<[u8]>) {
        let data = json!({"password": k8s_openapi::ByteString(value.as_ref().to_vec())});
        self.secret_data(name, data).await;
    }

    /// Writes a Secret with exactly these data (base64).
    pub async fn secret_data(&self, name: &str, data: Value) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data});
        let parameters = PatchParams::apply("test").force();
        self.secrets().patch(name, &parameters, &Patch::Apply(secret)).await.unwrap();
    }

    /// Creates an object with a Secret of the same name to come, and an instance of its own (Running, I/O optimized).
    pub async fn object(&self, name: &str) -> String {
        let instance = format!("i-{}{}", self.namespace.replace('-', ""), name.replace('-', ""));
        self.cloud().put_instance(Instance::new(&instance));
        self.object_with(name, json!({"instanceId": instance, "secretRef": {"name": name}})).await;
        instance
    }

    /// Creates an object with this spec.
    pub async fn object_with(&self, name: &str, spec: Value) {
        let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
            "metadata": {"name": name}, "spec": spec});
        let object: VncPassword = serde_json::from_value(object).unwrap();
        self.objects().create(&PostParams::default(), &object).await.unwrap();
    }

    /// Creates an object that generates into a Secret of its own name, with this `spec.rotation`, and an instance of its own.
    pub async fn generated(&self, name: &str, rotation: Value) -> String {
        let instance = format!("i-{}{}", self.namespace.replace('-', ""), name.replace('-', ""));
        self.cloud().put_instance(Instance::new(&instance));
        let spec = json!({"instanceId": instance, "secretRef": {"name": name}, "rotation": rotation});
        self.object_with(name, spec).await;
        instance
    }

    /// What a Secret holds.
    pub async fn values(&self, name: &str) -> BTreeMap<String, String> {
        let data = self.secrets().get(name).await.unwrap().data.unwrap_or_default();
        data.into_iter().map(|(key, value)| (key, String::from_utf8_lossy(&value.0).into_owned())).collect()
    }

    /// Whether the API server refuses to create objects here. None is created.
    pub async fn refuses_objects(&self) -> bool {
        let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
            "metadata": {"name": "dry-run"}, "spec": {"instanceId": "i-dryrun", "secretRef": {"name": "dry-run"}}});
        let object: VncPassword = serde_json::from_value(object).unwrap();
        let parameters = PostParams { dry_run: true, ..PostParams::default() };
        match self.objects().create(&parameters, &object).await {
            Ok(_) => false,
            // By a quota, or by a webhook that cannot be asked.
            Err(kube::Error::Api(status)) if [403, 500].contains(&status.code) => true,
            Err(error) => panic!("{error}"),
        }
    }

    /// Merges this into an object.
    pub async fn change(&self, name: &str, change: Value) {
        self.objects().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    pub async fn delete(&self, name: &str) {
        self.objects().delete(name, &DeleteParams::default()).await.unwrap();
    }

    pub async fn status(&self, name: &str) -> VncPasswordStatus {
        self.objects().get(name).await.unwrap().status.unwrap_or_default()
    }

    /// Waits until the status is as wanted.
    pub async fn until(
        &self,
        name: &str,
        wanted: &str,
        mut holds: impl FnMut(&VncPasswordStatus) -> bool,
    ) -> VncPasswordStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let status = self.status(name).await;
            if holds(&status) {
                return status;
            }
            assert!(Instant::now() < deadline, "{name} is not {wanted} in time: {status:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until the object is Ready with nothing under way.
    pub async fn until_ready(&self, name: &str) -> VncPasswordStatus {
        self.until(name, "Ready", |status| {
            status.ready() == ConditionStatus::True && status.condition(ConditionType::Reconciling).is_none()
        })
        .await
    }

    /// Waits until the object is Ready again without being touched: longer than the longest backoff of a minute.
    pub async fn until_healed(&self, name: &str) {
        let deadline = Instant::now() + 3 * PATIENCE;
        while self.status(name).await.ready() != ConditionStatus::True {
            assert!(Instant::now() < deadline, "{name} is not Ready in time: {:#?}", self.status(name).await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self.until_ready(name).await;
    }

    /// Waits until the object is stalled for that reason.
    pub async fn until_stalled(&self, name: &str, reason: Reason) -> VncPasswordStatus {
        self.until(name, reason.as_str(), |status| status.reason(ConditionType::Stalled) == Some(reason))
            .await
    }

    /// Waits until the object is reconciling for that reason.
    pub async fn until_reconciling(&self, name: &str, reason: Reason) -> VncPasswordStatus {
        self.until(name, reason.as_str(), |status| status.reason(ConditionType::Reconciling) == Some(reason))
            .await
    }

    /// Calls of ModifyInstanceVncPasswd for an instance.
    pub fn calls(&self, instance: &str) -> Vec<Entry> {
        let mut calls = self.cloud().journal();
        calls.retain(|entry| {
            entry.action == Action::ModifyInstanceVncPasswd.as_str()
                && entry.instance_ids.iter().any(|id| id == instance)
        });
        calls
    }

    /// Calls of that action, for whatever instance.
    pub fn calls_of(&self, action: Action) -> Vec<Entry> {
        let mut calls = self.cloud().journal();
        calls.retain(|entry| entry.action == action.as_str());
        calls
    }

    /// The password that opens the console.
    pub fn console(&self, instance: &str) -> Option<String> {
        self.cloud().instance(instance).and_then(|view| view.console_password)
    }

    /// Waits until the console opens with this password.
    pub async fn until_console(&self, instance: &str, password: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.console(instance).as_deref() != Some(password) {
            assert!(Instant::now() < deadline, "instance {instance} does not get its password in time");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Events about an object: reason and note.
    pub async fn events(&self, name: &str) -> Vec<(String, String)> {
        let events: Api<k8s_openapi::api::events::v1::Event> =
            Api::namespaced(self.client.clone(), &self.namespace);
        let events = events.list(&ListParams::default()).await.unwrap();
        let about = events.items.into_iter().filter(|event| {
            event.regarding.as_ref().and_then(|regarding| regarding.name.as_deref()) == Some(name)
        });
        about.map(|event| (event.reason.unwrap_or_default(), event.note.unwrap_or_default())).collect()
    }
}

/// Waits until the clock shows a later second: objects carry their age in whole seconds, and what is created next is younger.
pub async fn next_second() {
    let now = Timestamp::now().as_second();
    until_past(Timestamp::from_second(now + 1).unwrap()).await;
}

/// Waits until the clock shows a later time. A barrier after that covers everything that was due by then.
pub async fn until_past(time: Timestamp) {
    while Timestamp::now() <= time {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until it holds.
pub async fn until(wanted: &str, holds: impl AsyncFnMut() -> bool) {
    until_within(PATIENCE, wanted, holds).await;
}

/// Waits, for so long at most, until it holds.
pub async fn until_within(patience: Duration, wanted: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + patience;
    while !holds().await {
        assert!(Instant::now() < deadline, "waited in vain: {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn install_crds(client: Client) {
    let crds: Api<
        k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
    > = Api::all(client.clone());
    for crd in definitions() {
        let name = crd.metadata.name.clone().unwrap();
        crds.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
        let established = kube::runtime::conditions::is_crd_established();
        let awaited = kube::runtime::wait::await_condition(crds.clone(), &name, established);
        tokio::time::timeout(PATIENCE, awaited).await.expect("the CRD is not established in time").unwrap();
    }
    let objects: Api<VncPassword> = Api::all(client.clone());
    let fleets: Api<ClusterVncPassword> = Api::all(client);
    let first = ListParams::default().limit(1);
    let deadline = Instant::now() + PATIENCE;
    while objects.list(&first).await.is_err() || fleets.list(&first).await.is_err() {
        assert!(Instant::now() < deadline, "the kinds are not served in time");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
