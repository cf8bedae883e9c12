//! Namespaces of `--watch-namespaces` that the operator cannot read.

use k8s_openapi::api::{
    core::v1::Namespace,
    rbac::v1::{Role, RoleBinding},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, Reason};
use vncpassword_operator::settings::{ControllerSettings, Settings};
use vncpassword_test_support::{Operator, Setup, World, operator::Requests, relay::Relay, world::until};

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
    let mut config = world.config();
    config.auth_info.impersonate = Some(user(&world));
    let namespaces = vec![world.namespace.clone(), other.namespace.clone(), gone.clone()];
    let settings = world.settings();
    let controller = ControllerSettings { namespaces, fleets: false, ..settings.controller };
    let operator = Operator::start(config, Settings { controller, ..settings });
    let address = operator.address();

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
    world.cloud().put_instance(vncpassword_emulator::Instance::new(&instance));
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

/// One Secret that cannot be decrypted fails every list of its namespace, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_cannot_be_listed_holds_up_no_other() {
    let (world, other) = (World::new().await, World::new().await);
    let settings = world.settings();
    let namespaces = vec![world.namespace.clone(), other.namespace.clone()];
    let controller = ControllerSettings { namespaces, fleets: false, ..settings.controller };
    let faults = Requests::default();
    faults.lose_all(&format!("/namespaces/{}/secrets", other.namespace));
    let settings = Settings { controller, ..settings };
    let operator = Operator::start(world.config(), Setup { requests: faults, ..settings.into() });
    let address = operator.address();

    world.generated("a", json!({})).await;
    // It is waited for at first: most failures pass.
    world.until_healed("a").await;
    let line =
        format!("vncpassword_operator_namespace_unreadable{{watched_namespace=\"{}\"}} 1", other.namespace);
    assert_eq!(unreadable(address).await, [line]);

    let instance = format!("i-{}late", world.namespace.replace('-', ""));
    world.cloud().put_instance(vncpassword_emulator::Instance::new(&instance));
    other
        .object_with("late", json!({"instanceId": instance, "secretRef": {"name": "late"}, "rotation": {}}))
        .await;
    operator.requests().clear_faults();
    other.until("late", "Ready", |status| status.ready() == ConditionStatus::True).await;
    until("it is no longer reported", async || unreadable(address).await.is_empty()).await;
    operator.stop().await;
}

/// Rights are lost, the watches begin anew, and the object is deleted unseen.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_cannot_be_seen_any_more_holds_no_instance() {
    let (world, other) = (World::new().await, World::new().await);
    for namespace in [&world.namespace, &other.namespace] {
        grant(&world, namespace).await;
    }
    let relay = Relay::to(&world.config()).await;
    let mut config = relay.config(world.config());
    config.auth_info.impersonate = Some(user(&world));
    let settings = world.settings();
    let namespaces = vec![world.namespace.clone(), other.namespace.clone()];
    let settle = std::time::Duration::from_secs(6);
    let controller = ControllerSettings { namespaces, fleets: false, settle, ..settings.controller };
    let operator = Operator::start(config, Settings { controller, ..settings });

    let instance = format!("i-{}shared", world.namespace.replace('-', ""));
    world.cloud().put_instance(vncpassword_emulator::Instance::new(&instance));
    let spec = json!({"instanceId": instance, "secretRef": {"name": "a"}});
    other.secret("a", "Abc123").await;
    other.object_with("a", spec.clone()).await;
    other.until_ready("a").await;

    let bindings = Api::<RoleBinding>::namespaced(world.client.clone(), &other.namespace);
    bindings.delete("it", &DeleteParams::default()).await.unwrap();
    relay.freeze();
    world.secret("a", "Bcd234").await;
    world.object_with("a", spec).await;
    world.until_stalled("a", Reason::Conflict).await;
    other.delete("a").await;
    world.until_console(&instance, "Bcd234").await;
    operator.stop().await;
}
