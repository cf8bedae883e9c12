//! The emulator in a Pod, reached over https by a name, with a certificate that only its own authority vouches for.

use std::{fs, process::Command, sync::OnceLock};

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cluster::{VERSION, apply, kubectl, pipe};

/// What hack/cluster/dns.yaml knows.
const HOST: &str = "ecs.cloud.svc.cluster.local";
const ADDRESS: &str = "10.96.0.80";
pub const URL: &str = "https://ecs.cloud.svc.cluster.local";

pub const KEY_ID: &str = "e2e-key";
pub const KEY_SECRET: &str = "e2e-secret";

/// The emulator, emptied.
pub struct Cloud {
    authority: String,
    ca_file: String,
}

/// A call of ModifyInstanceVncPasswd.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub seq: u64,
    action: String,
    instance_ids: Vec<String>,
    vnc_password: Option<String>,
}

impl Call {
    pub fn instance(&self) -> &str {
        &self.instance_ids[0]
    }

    pub fn password(&self) -> &str {
        self.vnc_password.as_deref().unwrap()
    }
}

/// The certificates live as long as this process.
fn certificates() -> &'static TempDir {
    static MADE: OnceLock<TempDir> = OnceLock::new();
    MADE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let openssl = |words: &str| {
            let output = Command::new("openssl")
                .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2".split(' '))
                .args(words.split(' '))
                .current_dir(directory.path())
                .output()
                .unwrap();
            assert!(output.status.success(), "openssl {words}: {}", String::from_utf8_lossy(&output.stderr));
        };
        openssl("-keyout ca.key -out ca.crt -subj /CN=e2e -addext basicConstraints=critical,CA:TRUE");
        openssl(&format!(
            "-keyout tls.key -out tls.crt -subj /CN=ecs -CA ca.crt -CAkey ca.key -addext basicConstraints=CA:FALSE \
             -addext subjectAltName=DNS:{HOST} -addext extendedKeyUsage=serverAuth"
        ));
        directory
    })
}

impl Cloud {
    /// Starts it where it does not run yet, without instances and calls.
    pub fn start() -> Self {
        let files = certificates();
        let read = |name| fs::read_to_string(files.path().join(name)).unwrap();
        if kubectl("get namespace cloud --ignore-not-found").is_empty() {
            kubectl("create namespace cloud");
        }
        let image = format!("ecs-emulator:{VERSION}");
        let objects = include_str!("cloud.yaml").replace("IMAGE", &image);
        apply("cloud", &objects);
        let tls = json!({"tls.crt": read("tls.crt"), "tls.key": read("tls.key")});
        apply("cloud", &secret("tls", "kubernetes.io/tls", &tls));
        // Its journal and its faults are in its memory.
        kubectl("--namespace cloud delete pod --selector app=ecs --now --wait");
        kubectl("--namespace cloud rollout status deployment/ecs --timeout 60s");
        let ca_file = files.path().join("ca.crt").to_str().unwrap().to_owned();
        Self { authority: read("ca.crt"), ca_file }
    }

    /// The objects that a namespace needs in which the operator runs: the key, and the authority to trust.
    pub fn provide(&self, namespace: &str) {
        let keys = json!({"access-key-id": KEY_ID, "access-key-secret": KEY_SECRET});
        apply(namespace, &secret("keys", "Opaque", &keys));
        let authority = json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "authority"}, "data": {"ca.crt": self.authority}
        });
        apply(namespace, &authority.to_string());
    }

    fn ask<T: DeserializeOwned>(&self, method: &str, route: &str, body: &Value) -> T {
        let (ca, url) = (&self.ca_file, format!("{URL}/_emulator/{route}"));
        let words = format!(
            "--silent --show-error --fail-with-body --noproxy * --max-time 10 --cacert {ca} --resolve {HOST}:443:{ADDRESS} \
             --request {method} --data-binary @- {url}"
        );
        let reply = pipe("curl", &words, &body.to_string());
        serde_json::from_str(&reply).unwrap_or_else(|error| panic!("{method} {route}: {error}: {reply}"))
    }

    /// Adds running, I/O optimized instances.
    pub fn add(&self, ids: impl IntoIterator<Item = String>) {
        let instances: Vec<Value> = ids.into_iter().map(|id| json!({"id": id})).collect();
        let _: Value = self.ask("PUT", "instances", &json!(instances));
    }

    /// What opens the console of each instance.
    pub fn consoles(&self) -> Vec<(String, Option<String>)> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Instance {
            id: String,
            console_password: Option<String>,
        }
        let instances: Vec<Instance> = self.ask("GET", "instances", &Value::Null);
        instances.into_iter().map(|instance| (instance.id, instance.console_password)).collect()
    }

    /// What opens the console of one.
    pub fn console(&self, id: &str) -> Option<String> {
        self.consoles().into_iter().find(|(instance, _)| instance == id).and_then(|(_, password)| password)
    }

    /// The calls that set passwords, oldest first, after this number.
    pub fn calls(&self, after: u64) -> Vec<Call> {
        let mut calls: Vec<Call> = self.ask("GET", &format!("journal?after={after}"), &Value::Null);
        calls.retain(|call| call.action == "ModifyInstanceVncPasswd");
        calls
    }

    /// Lets each call that sets a password wait for its reply, after it has taken effect.
    pub fn delay(&self, milliseconds: u64) {
        let fault = json!({"action": "ModifyInstanceVncPasswd", "delayMs": milliseconds});
        let _: Value = self.ask("POST", "faults", &fault);
    }

    /// Takes the delay away.
    pub fn hurry(&self) {
        let _: Value = self.ask("DELETE", "faults", &Value::Null);
    }
}

fn secret(name: &str, kind: &str, data: &Value) -> String {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "type": kind, "stringData": data}).to_string()
}
