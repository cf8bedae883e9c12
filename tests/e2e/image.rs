//! What is in the image: enough to speak with the cloud, where nothing is mounted and nothing is set.

use std::{fs, process::Command};

use serde_json::json;

use super::{
    cloud::Cloud,
    cluster::{Cluster, PATIENCE, VERSION, apply, kubectl, repository, until},
};

const NAMESPACE: &str = "image";
/// The fixed address of the emulator, whose certificate no public authority vouches for.
const EMULATOR: &str = "10.96.0.80";

/// What `whoami` says when it calls the public endpoints from the image, and with which code it ends.
fn whoami(name: &str, hosts: &[&str], variables: &[(&str, &str)]) -> (String, i64) {
    let environment = [("ALIBABA_CLOUD_ACCESS_KEY_ID", "id"), ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")];
    let environment: Vec<_> = environment
        .iter()
        .chain(variables)
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect();
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {
            "restartPolicy": "Never",
            "automountServiceAccountToken": false,
            "hostAliases": [{"ip": EMULATOR, "hostnames": hosts}],
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "whoami", "image": format!("vncpassword-operator:{VERSION}"), "imagePullPolicy": "Never",
                "args": ["whoami", "--region", "cn-beijing"], "env": environment,
                "securityContext": {
                    "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]},
                },
            }],
        },
    });
    apply(NAMESPACE, &pod.to_string());
    let ended = "{.status.containerStatuses[0].state.terminated.exitCode}";
    let code = || kubectl(&format!("--namespace {NAMESPACE} get pod {name} --output jsonpath={ended}"));
    until("whoami ends", PATIENCE, || !code().is_empty());
    (kubectl(&format!("--namespace {NAMESPACE} logs {name}")), code().parse().unwrap())
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_image_knows_the_public_authorities_and_says_what_is_wrong_with_a_connection() {
    let cluster = Cluster::take();
    let _cloud = Cloud::start();
    cluster.namespace(
        NAMESPACE,
        "pod-security.kubernetes.io/enforce=restricted pod-security.kubernetes.io/enforce-version=latest",
    );
    // A cluster without a way out knows no such name.
    let (told, code) = whoami("unknown", &[], &[]);
    assert!(told.contains("dns error") && code == 1, "{code}: {told}");
    // Somebody else answers to it: the trust store is there, and he is not in it.
    let host = ["sts.cn-beijing.aliyuncs.com", "ecs.cn-beijing.aliyuncs.com"];
    let (told, code) = whoami("stranger", &host, &[]);
    assert!(told.contains("invalid peer certificate") && code == 1, "{code}: {told}");
    // That this tells the two apart: without a trust store it says something else.
    let (told, code) = whoami("bare", &host, &[("SSL_CERT_FILE", "/nowhere")]);
    assert!(!told.contains("invalid peer certificate") && code == 1, "{code}: {told}");
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_same_program_is_packed_to_the_same_bytes() {
    let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
    let image = repository(&target).join("image/operator.tar");
    let before = fs::read(&image).unwrap();
    let built = Command::new(repository("hack/image.sh")).arg("operator").output().unwrap();
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    assert!(fs::read(&image).unwrap() == before, "made again it has other bytes");
}
