//! `doctor`: a cluster with nothing in it, one where all is well, and one with everything wrong; with rights and without.
//! Each on a control plane of its own: it looks at all of it.

use futures::future::join_all;
use insta::assert_snapshot;
use k8s_openapi::{
    api::{
        apps::v1::Deployment,
        coordination::v1::Lease,
        core::v1::{Pod, Secret},
        rbac::v1::{ClusterRole, ClusterRoleBinding},
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use super::{
    plugin::{Plugin, Ran, user},
    states::ago,
};
use vncpassword_test_support::{World, control_plane::ControlPlane, world::until};

const LABELS: &str = "app.kubernetes.io/name";

fn labels() -> Value {
    json!({LABELS: "vncpassword-operator", "app.kubernetes.io/component": "operator",
        "app.kubernetes.io/version": env!("CARGO_PKG_VERSION")})
}

/// The operator's Deployment and Pod as they look where it runs; none does.
async fn operator(world: &World, ready: i32) {
    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), &world.namespace);
    let container =
        json!({"name": "operator", "image": "none", "env": [{"name": "LEADER_ELECT", "value": "true"}]});
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "vncpassword-operator", "labels": labels()},
        "spec": {"replicas": 2, "selector": {"matchLabels": {LABELS: "vncpassword-operator"}},
            "template": {"metadata": {"labels": labels()}, "spec": {"containers": [container]}}}});
    let parameters = PatchParams::apply("test").force();
    deployments.patch("vncpassword-operator", &parameters, &Patch::Apply(deployment)).await.unwrap();
    let status = json!({"status": {"replicas": 2, "readyReplicas": ready}});
    deployments
        .patch_status("vncpassword-operator", &PatchParams::default(), &Patch::Merge(status))
        .await
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), &world.namespace);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "operator-0", "labels": labels()},
        "spec": {"containers": [{"name": "operator", "image": "none"}], "nodeName": "nowhere"}});
    pods.patch("operator-0", &parameters, &Patch::Apply(pod)).await.unwrap();
    let state =
        if ready > 0 { json!({"running": {}}) } else { json!({"waiting": {"reason": "CrashLoopBackOff"}}) };
    let is_ready = if ready > 0 { "True" } else { "False" };
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": is_ready}],
        "containerStatuses": [{"name": "operator", "image": "none", "imageID": "", "ready": ready > 0, "restartCount": 4,
            "state": state}]}});
    pods.patch_status("operator-0", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
}

async fn lease(world: &World, seconds_ago: i64) {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let renewed = ago(seconds_ago).replace('Z', ".000000Z");
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "vncpassword-operator"},
        "spec": {"holderIdentity": "operator-0_1", "leaseDurationSeconds": 15, "renewTime": renewed}});
    leases
        .patch("vncpassword-operator", &PatchParams::apply("test").force(), &Patch::Apply(lease))
        .await
        .unwrap();
}

/// Secrets that the operator has made, the first of them for an object that is there.
async fn secrets(world: &World, count: usize) {
    let create = |n: usize| {
        let secret = json!({"metadata": {"name": format!("vnc-{n:03}"), "labels": {
            "app.kubernetes.io/managed-by": "vncpassword-operator", "vncpassword.dev/instance-id": format!("i-{n:03}")}},
            "data": {"password": "QWJjMTIz"}});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        async move { world.secrets().create(&PostParams::default(), &secret).await.unwrap() }
    };
    join_all((0..count).map(create)).await;
    world
        .object_with(
            "first",
            json!({"instanceId": "i-000", "secretRef": {"name": "vnc-000"}, "rotation": {}}),
        )
        .await;
}

fn findings(ran: &Ran) -> Vec<Value> {
    let report: Value = serde_json::from_str(&ran.out).unwrap();
    report["findings"].as_array().unwrap().clone()
}

fn levels(findings: &[Value], check: &str) -> Vec<String> {
    let of = findings.iter().filter(|finding| finding["check"] == check);
    of.map(|finding| finding["level"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_with_nothing_in_it_lacks_everything_and_each_lack_has_its_remedy() {
    let plane = ControlPlane::start();
    let plugin = Plugin::at(&plane.kubeconfig(), "default");
    let ran = plugin.run("doctor").await;
    ran.assert_code(1);
    assert_snapshot!("doctor_nothing", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn all_is_well_until_something_is_not() {
    let plane = ControlPlane::start();
    let world = World::on(&plane).await;
    let plugin = Plugin::at(&plane.kubeconfig(), &world.namespace);
    operator(&world, 2).await;
    lease(&world, 0).await;
    let ran = plugin.run("doctor").await;
    ran.assert_code(0);
    let json = plugin.run("doctor -o json").await;
    json.assert_code(0);
    let found = findings(&json);
    for (check, expected) in [
        ("kinds", vec!["ok", "ok"]),
        ("operator", vec!["ok"]),
        ("leader", vec!["ok"]),
        ("identity", vec!["unknown"]),
        ("clock", vec!["ok"]),
        ("leftovers", vec!["ok"]),
    ] {
        assert_eq!(levels(&found, check), expected, "{check}: {found:#?}");
    }
    assert!(levels(&found, "rights").iter().all(|level| level == "ok"), "{found:#?}");

    // With everything wrong at once.
    operator(&world, 0).await;
    lease(&world, 3630).await;
    secrets(&world, 1000).await;
    older_and_newer(&world).await;
    let ran = plugin.run("doctor").await;
    ran.assert_code(1);
    assert_snapshot!("doctor_broken", ran.out);

    // Whoever may do nothing is told so, and of nothing else that it is wrong.
    let nobody = plugin.run("doctor --as nobody").await;
    assert_snapshot!("doctor_nobody", nobody.out);
    let viewer =
        user(&world, "viewer", &[("get", "vncpasswords"), ("list", "vncpasswords"), ("list", "secrets")])
            .await;
    let viewer = plugin.run(&format!("doctor -o json --as {viewer}")).await;
    let found = findings(&viewer);
    assert_eq!(levels(&found, "leftovers"), ["warn"], "{found:#?}");
    assert!(levels(&found, "rights").contains(&"warn".to_owned()), "{found:#?}");
    assert_eq!(levels(&found, "operator"), ["unknown"], "{found:#?}");

    // Whoever sees the Pods and may not run anything in them is told which right that takes.
    operator(&world, 2).await;
    let allowed = json!([
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["list"]}]);
    role(&world, "watcher", &allowed).await;
    let watcher = findings(&plugin.run("doctor -o json --as watcher").await);
    let identity = watcher.iter().find(|finding| finding["check"] == "identity").unwrap();
    assert!(
        identity["text"].as_str().unwrap().contains("you may not get and create pods/exec"),
        "{identity}"
    );
    // Whoever may is told why it did not work: the Pod is on a Node that does not exist.
    let found = findings(&plugin.run("doctor -o json").await);
    let identity = found.iter().find(|finding| finding["check"] == "identity").unwrap();
    assert_eq!(identity["level"], "unknown", "{identity}");
    assert!(identity["text"].as_str().unwrap().contains("its Pod cannot be asked"), "{identity}");

    // Neither kind is served any more.
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    for name in ["vncpasswords.vncpassword.dev", "clustervncpasswords.vncpassword.dev"] {
        definitions.delete(name, &DeleteParams::default()).await.unwrap();
    }
    until("the kinds are gone", async || {
        definitions.list_metadata(&ListParams::default()).await.unwrap().items.is_empty()
    })
    .await;
    let gone = findings(&plugin.run("doctor -o json").await);
    assert_eq!(levels(&gone, "kinds"), ["fail", "fail"], "{gone:#?}");
    assert_eq!(
        levels(&gone, "leftovers"),
        ["unknown"],
        "without the kinds, not every Secret is left over: {gone:#?}"
    );
}

/// Gives a user of that name these rights everywhere.
async fn role(world: &World, name: &str, allowed: &Value) {
    let group = "rbac.authorization.k8s.io";
    let granted = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRole", "metadata": {"name": name}, "rules": allowed});
    let binding = json!({"apiVersion": format!("{group}/v1"), "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": group, "kind": "User", "name": name}]});
    let parameters = PatchParams::apply("test").force();
    let roles: Api<ClusterRole> = Api::all(world.client.clone());
    roles.patch(name, &parameters, &Patch::Apply(granted)).await.unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.patch(name, &parameters, &Patch::Apply(binding)).await.unwrap();
}

/// Takes a field out of one kind, and puts one into the other.
async fn older_and_newer(world: &World) {
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    for (name, operation) in [
        ("vncpasswords.vncpassword.dev", json!([{"op": "remove", "path": format!("{spec}/window")}])),
        (
            "clustervncpasswords.vncpassword.dev",
            json!([{"op": "add", "path": format!("{spec}/more"), "value": {"type": "string"}}]),
        ),
    ] {
        let patch: Patch<CustomResourceDefinition> = Patch::Json(serde_json::from_value(operation).unwrap());
        definitions.patch(name, &PatchParams::default(), &patch).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_does_not_answer_is_no_finding() {
    let free = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let world = World::new().await;
    let ran = Plugin::of(&world).run(&format!("doctor --server https://{free}")).await;
    ran.assert_code(1);
    assert!(ran.out.is_empty() && ran.err.contains("the API server does not answer"), "{ran:?}");
}
