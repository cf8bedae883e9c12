//! Namespaces of `--watch-namespaces` that the operator cannot read.

use k8s_openapi::api::{
    core::v1::Namespace,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use vncpassword::{api::ConditionStatus, controller::Config, runtime::Settings};

use super::support::{Operator, World, world::until};

/// Lets the operator of a test act in a namespace.
async fn grant(world: &World, namespace: &str) {
    let granted: Value = json!([
        {"apiGroups": ["vncpassword.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch", "create", "patch"]},
    ]);
    let definition = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role",
        "metadata": {"name": "it", "namespace": namespace}, "rules": granted});
    let user = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user(world)});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "it", "namespace": namespace}, "subjects": [user],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "it"}});
    let roles = Api::<Role>::namespaced(world.client.clone(), namespace);
    roles.create(&PostParams::default(), &serde_json::from_value(definition).unwrap()).await.unwrap();
    let bindings = Api::<RoleBinding>::namespaced(world.client.clone(), namespace);
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

fn user(world: &World) -> String {
    format!("operator-of-{}", world.namespace)
}

/// The metric of namespaces that cannot be read, as its lines.
async fn unreadable(address: std::net::SocketAddr) -> Vec<String> {
    let reply = reqwest::get(format!("http://{address}/metrics")).await.unwrap().text().await.unwrap();
    let lines = reply.lines().filter(|line| line.starts_with("vncpassword_operator_namespace_unreadable{"));
    lines.map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_may_not_be_read_holds_up_no_other_and_is_served_when_it_can_be_read() {
    let world = World::new().await;
    let other = World::new().await;
    let gone = format!("{}-gone", world.namespace);
    grant(&world, &world.namespace).await;
    let address = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let mut config = world.config();
    config.auth_info.impersonate = Some(user(&world));
    let namespaces = vec![world.namespace.clone(), other.namespace.clone(), gone.clone()];
    let settings = world.settings();
    let controller = Config { namespaces, fleets: false, ..settings.controller };
    let operator = Operator::start(config, Settings { controller, http_addr: address, ..settings });

    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    world.until_console(&instance, &world.values("a").await["password"]).await;
    let line = |namespace: &str| {
        format!("vncpassword_operator_namespace_unreadable{{watched_namespace=\"{namespace}\"}} 1")
    };
    let mut expected = vec![line(&other.namespace), line(&gone)];
    expected.sort();
    assert_eq!(unreadable(address).await, expected);

    // An object that was there before the rights, and its Secret. Its instance is in the cloud of the operator.
    let instance = format!("i-{}late", world.namespace.replace('-', ""));
    world.cloud().put_instance(vncpassword::emulator::Instance::new(&instance));
    other.secret("late", "Abc123").await;
    other.object_with("late", json!({"instanceId": instance, "secretRef": {"name": "late"}})).await;
    grant(&world, &other.namespace).await;
    // Not more: an operator before this one may have made a call for it, so its value is sent once more.
    other.until("late", "Ready", |status| status.ready() == ConditionStatus::True).await;
    world.until_console(&instance, "Abc123").await;
    until("it is no longer reported", async || unreadable(address).await == [line(&gone)]).await;

    let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": gone}})).unwrap();
    Api::all(world.client.clone()).create(&PostParams::default(), &namespace).await.unwrap();
    grant(&world, &gone).await;
    until("nothing is reported", async || unreadable(address).await.is_empty()).await;
    assert_eq!(world.status("a").await.ready(), ConditionStatus::True);
    operator.stop().await;
}
