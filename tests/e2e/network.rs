//! The chart's NetworkPolicy, enforced: what the operator needs goes through, and nothing else does.

use serde_json::json;

use super::{
    cloud::Cloud,
    cluster::{Cluster, PATIENCE, TOOLS_IMAGE, apply, helm, kubectl, try_kubectl, try_pipe, until},
    release::{OPERATOR, Release, assert_nothing_is_lost, chart, create, until_settled},
};

/// Runs a Pod with a shell in it, which also serves an empty directory over HTTP.
fn shell(namespace: &str, name: &str, labels: &serde_json::Value) {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "automountServiceAccountToken": false,
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "shell", "image": TOOLS_IMAGE, "imagePullPolicy": "Never",
                "command": ["httpd", "-f", "-p", "8080", "-h", "/tmp"],
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
            }],
        },
    });
    apply(namespace, &pod.to_string());
    kubectl(&format!("--namespace {namespace} wait pod/{name} --for=condition=Ready --timeout=30s"));
}

fn address(namespace: &str, pod: &str) -> String {
    kubectl(&format!("--namespace {namespace} get pod {pod} --output jsonpath={{.status.podIP}}"))
}

/// The metrics at this address, as that Pod gets them. The connection has two seconds to come about.
fn metrics(namespace: &str, pod: &str, address: &str) -> Result<String, String> {
    let words = format!("--namespace {namespace} exec --stdin {pod} -- nc -w2 {address} 8080");
    try_pipe("kubectl", &words, "GET /metrics HTTP/1.0\r\nAccept: application/openmetrics-text\r\n\r\n")
}

/// Whether that Pod can open a connection to there, within two seconds.
fn connects(namespace: &str, pod: &str, host: &str, port: u16) -> bool {
    try_kubectl(&format!("--namespace {namespace} exec {pod} -- nc -w2 {host} {port} -e /bin/true")).is_ok()
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn nobody_reaches_the_metrics_who_is_not_named_and_the_operator_works() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    release.install(&chart());
    for namespace in ["team-a", "stranger", "monitoring"] {
        cluster.namespace(namespace, "");
    }
    create(&cloud, "team-a", &["web".to_owned()]);
    until_settled("team-a", "web", 1);
    assert_nothing_is_lost(&cloud, "team-a", "web");

    shell("stranger", "shell", &json!({}));
    shell("monitoring", "shell", &json!({}));
    let replicas: Vec<String> = release.pods().into_iter().map(|(_, address)| address).collect();
    assert_eq!(replicas.len(), 2, "replicas");
    // That it could: whom no policy protects is reached.
    assert!(connects("stranger", "shell", &address("monitoring", "shell"), 8080));
    for address in &replicas {
        assert!(metrics("stranger", "shell", address).is_err(), "a stranger reads {address}");
        assert!(
            metrics("monitoring", "shell", address).is_err(),
            "Prometheus reads {address} without being named"
        );
    }

    let named = r#"[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#;
    release.upgrade(&chart(), &format!("--set-json networkPolicy.metricsFrom={named}"));
    for address in &replicas {
        until("the metrics are in reach", PATIENCE, || metrics("monitoring", "shell", address).is_ok());
        let text = metrics("monitoring", "shell", address).unwrap();
        assert!(
            text.contains("vncpassword_operator_build_info") && text.ends_with("# EOF\n"),
            "{address}: {text}"
        );
        assert!(metrics("stranger", "shell", address).is_err(), "a stranger reads {address}");
    }
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_operator_reaches_dns_the_api_server_and_the_cloud_and_nobody_else() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    release.install(&chart());
    cluster.namespace("stranger", "");
    shell("stranger", "shell", &json!({}));
    // The operator has no shell: one that looks like it to the policy.
    let template = release
        .kubectl(&format!("get pods --selector {OPERATOR} --output jsonpath={{.items[0].metadata.labels}}"));
    let mut labels: serde_json::Value = serde_json::from_str(&template).unwrap();
    labels.as_object_mut().unwrap().remove("pod-template-hash");
    labels["app.kubernetes.io/component"] = json!("lookalike");
    shell(&release.namespace, "lookalike", &labels);

    let reaches = |host: &str, port| connects(&release.namespace, "lookalike", host, port);
    for (host, port) in [("kubernetes.default.svc.cluster.local", 443), ("ecs.cloud.svc.cluster.local", 443)]
    {
        until(host, PATIENCE, || reaches(host, port));
    }
    let stranger = address("stranger", "shell");
    assert!(!reaches(&stranger, 8080), "the operator's Pods reach a stranger");
    let operator = release.pods().remove(0).1;
    assert!(!reaches(&operator, 8080), "a Pod of the operator's namespace reads the metrics");

    let told = helm(&format!("test vnc --namespace {} --logs --timeout 60s", release.namespace));
    for word in ["Succeeded", "provider     environment", "sts:GetCallerIdentity        yes"] {
        assert!(told.contains(word), "helm test says no {word:?}: {told}");
    }
    assert!(!told.contains(super::cloud::KEY_SECRET), "helm test tells the secret");
}
