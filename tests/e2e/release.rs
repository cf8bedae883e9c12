//! The chart, installed as its users install it, and the objects that it works on.

use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{
    cloud::{self, Cloud},
    cluster::{Cluster, PATIENCE, VERSION, apply, helm, kubectl, repository, until},
};

/// The chart as it is.
pub fn chart() -> PathBuf {
    repository("charts/vncpassword-operator")
}

/// A release of the chart in a namespace where PodSecurity `restricted` is enforced, with the identity that every
/// namespace may use and the emulator for a cloud.
pub struct Release {
    pub namespace: String,
    values: tempfile::NamedTempFile,
}

impl Release {
    /// Prepares the namespace. `more`: values beside those that every test needs.
    pub fn prepare(cluster: &Cluster, cloud: &Cloud, namespace: &str, more: &Value) -> Self {
        cluster.namespace(
            namespace,
            "pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/enforce-version=latest",
        );
        cloud.provide(namespace);
        let mut values = json!({
            // The image has the version of the sources, whichever version the chart has.
            "image": {"tag": VERSION, "pullPolicy": "Never"},
            "region": "cn-hangzhou",
            "endpoints": {"ecs": cloud::URL, "sts": cloud::URL},
            "credentials": {"existingSecret": "keys"},
            "ambientCredentialsNamespaces": ["*"],
            "extraEnv": [{"name": "SSL_CERT_FILE", "value": "/authority/ca.crt"}],
            "extraVolumes": [{"name": "authority", "configMap": {"name": "authority"}}],
            "extraVolumeMounts": [{"name": "authority", "mountPath": "/authority", "readOnly": true}],
        });
        for (name, value) in more.as_object().unwrap() {
            values[name] = value.clone();
        }
        let file = tempfile::Builder::new().suffix(".json").tempfile().unwrap();
        fs::write(file.path(), values.to_string()).unwrap();
        Self { namespace: namespace.to_owned(), values: file }
    }

    fn words(&self, verb: &str, chart: &std::path::Path) -> String {
        let (chart, values) = (chart.display(), self.values.path().display());
        format!("{verb} vnc {chart} --namespace {} --values {values} --wait --timeout 60s", self.namespace)
    }

    /// Installs this chart and waits until it is ready. Returns how long that took.
    pub fn install(&self, chart: &std::path::Path) -> Duration {
        let begun = Instant::now();
        helm(&self.words("install", chart));
        begun.elapsed()
    }

    /// Installs the chart as it is, with more settings, where it cannot become ready.
    pub fn install_without_waiting(&self, settings: &str) {
        helm(&format!("{} {settings}", self.words("install", &chart()).replace("--wait --timeout 60s", "")));
    }

    /// The words of an installation, for tests that add to them.
    pub fn installation(&self) -> String {
        self.words("install", &chart())
    }

    /// Changes to this chart, with more settings such as `--set a=b`.
    pub fn upgrade(&self, chart: &std::path::Path, settings: &str) {
        helm(&format!("{} {settings}", self.words("upgrade", chart)));
    }

    pub fn uninstall(&self) {
        helm(&format!("uninstall vnc --namespace {} --wait --timeout 60s", self.namespace));
    }

    /// What kubectl prints about this namespace.
    pub fn kubectl(&self, words: &str) -> String {
        kubectl(&format!("--namespace {} {words}", self.namespace))
    }

    /// The logs of all Pods that run.
    pub fn logs(&self) -> String {
        self.kubectl(&format!("logs --selector {OPERATOR} --prefix --tail -1"))
    }

    /// Names and addresses of the operator's Pods.
    pub fn pods(&self) -> Vec<(String, String)> {
        let columns = "--output jsonpath={range.items[*]}{.metadata.name}{','}{.status.podIP}{';'}{end}";
        let pods = self.kubectl(&format!("get pods --selector {OPERATOR} {columns}"));
        let pods = pods.split(';').filter_map(|pod| pod.split_once(','));
        pods.map(|(name, address)| (name.to_owned(), address.to_owned())).collect()
    }

    /// The Pod that leads, and who it says it is.
    pub fn leader(&self) -> Option<(String, String)> {
        let holder = self.holder()?;
        let (pod, _) = self.pods().into_iter().find(|(pod, _)| holder.starts_with(pod.as_str()))?;
        Some((pod, holder))
    }

    /// Who holds the lease.
    pub fn holder(&self) -> Option<String> {
        let holder = self.kubectl(
            "get lease vncpassword-operator --ignore-not-found --output jsonpath={.spec.holderIdentity}",
        );
        Some(holder).filter(|holder| !holder.is_empty())
    }
}

/// Selects the operator's Pods.
pub const OPERATOR: &str = "app.kubernetes.io/component=operator";

/// The instance of an object.
pub fn instance(name: &str) -> String {
    format!("i-{}", name.replace('-', ""))
}

/// A VncPassword, to be kept in a Secret of the same name.
pub fn object(name: &str, rotation: &Value) -> Value {
    json!({
        "apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword", "metadata": {"name": name},
        "spec": {"instanceId": instance(name), "secretRef": {"name": name}, "rotation": rotation},
    })
}

/// Objects, and as many instances, in a namespace.
pub fn create(cloud: &Cloud, namespace: &str, names: &[String]) {
    cloud.add(names.iter().map(|name| instance(name)));
    let objects: Vec<Value> = names.iter().map(|name| object(name, &json!({}))).collect();
    apply(namespace, &json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string());
}

/// Whether all objects are ready, after this many rotations each and with nothing under way.
pub fn settled(namespace: &str, prefix: &str, rotations: u64) -> bool {
    let objects = listed(namespace, "vncpasswords");
    let mut meant = objects.iter().filter(|object| name(object).starts_with(prefix));
    meant.all(|object| {
        let conditions = object["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
        let ready = conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True");
        let busy = conditions.iter().any(|it| it["type"] == "Reconciling");
        ready && !busy && object["status"]["rotations"].as_u64() == Some(rotations)
    })
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

/// All objects of a kind there.
pub fn listed(namespace: &str, kind: &str) -> Vec<Value> {
    let list = kubectl(&format!("--namespace {namespace} get {kind} --output json"));
    let mut list: Value = serde_json::from_str(&list).unwrap();
    serde_json::from_value(list["items"].take()).unwrap()
}

/// The password in each Secret, by the instance that it opens.
pub fn passwords(namespace: &str, prefix: &str) -> BTreeMap<String, String> {
    let template = "go-template={{range.items}}{{.metadata.name}},{{with.data.password}}{{.|base64decode}}{{end}};{{end}}";
    let secrets = kubectl(&format!("--namespace {namespace} get secrets --output {template}"));
    let secrets = secrets.split(';').filter_map(|secret| secret.split_once(','));
    let meant = secrets.filter(|(name, _)| name.starts_with(prefix));
    meant.map(|(name, password)| (instance(name), password.to_owned())).collect()
}

/// Every Secret holds what opens the console, and no console is without one.
pub fn assert_nothing_is_lost(cloud: &Cloud, namespace: &str, prefix: &str) {
    let meant = instance(prefix);
    let consoles = cloud.consoles().into_iter().filter(|(id, _)| id.starts_with(&meant));
    let consoles: BTreeMap<String, String> =
        consoles.map(|(id, password)| (id, password.unwrap_or_default())).collect();
    let kept = passwords(namespace, prefix);
    let lost: Vec<&String> =
        consoles.iter().filter(|(id, it)| kept.get(*id) != Some(*it)).map(|(id, _)| id).collect();
    assert!(
        lost.is_empty() && kept.len() == consoles.len(),
        "these Secrets do not open the console: {lost:?}"
    );
}

/// Waits until all objects are settled.
pub fn until_settled(namespace: &str, prefix: &str, rotations: u64) -> Duration {
    let what = format!("{prefix}* in {namespace} settled after {rotations} rotations");
    until(&what, PATIENCE, || settled(namespace, prefix, rotations))
}
