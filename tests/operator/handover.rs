//! What a stop, a conflict and a list that is late must not do.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering::Relaxed},
};

use axum::{
    body::{Body, to_bytes},
    extract::{Request, State},
    http::{Response, header},
};
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use kube::{Api, api::PostParams};
use serde_json::json;
use tokio::sync::watch;
use vncpassword_core::api::Reason;
use vncpassword_emulator::Instance;
use vncpassword_test_support::{Operator, World, world::until};

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_is_heard_although_secrets_cannot_be_listed() {
    let world = World::new().await;
    let role: Role = serde_json::from_value(json!({"metadata": {"name": "blind"}, "rules": [
        {"apiGroups": ["vncpassword.dev"], "resources": ["vncpasswords"], "verbs": ["get", "list", "watch"]},
    ]}))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": {"name": "blind"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "blind"},
        "subjects": [{"kind": "User", "name": "blind", "apiGroup": "rbac.authorization.k8s.io"}]}))
    .unwrap();
    Api::namespaced(world.client.clone(), &world.namespace)
        .create(&PostParams::default(), &role)
        .await
        .unwrap();
    Api::namespaced(world.client.clone(), &world.namespace)
        .create(&PostParams::default(), &binding)
        .await
        .unwrap();
    world.object("a").await;
    let mut config = world.config();
    config.auth_info.impersonate = Some("blind".to_owned());
    let operator = Operator::start(config, world.settings());
    let unread =
        format!("vncpassword_operator_namespace_unreadable{{watched_namespace=\"{}\"}}", world.namespace);
    until("a list that is refused", async || operator.metric(&unread).await == Some(1.0)).await;
    operator.stop().await;
}

/// The list of one namespace's objects, which is held.
struct Late {
    client: kube::Client,
    namespace: String,
    asked: AtomicBool,
    released: watch::Receiver<bool>,
}

/// Passes everything on, but that list late.
async fn late(State(late): State<Arc<Late>>, request: Request) -> Response<Body> {
    let (mut parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap();
    parts.headers.remove(header::HOST);
    let list = format!("/namespaces/{}/vncpasswords", late.namespace);
    if parts.uri.path().ends_with(&list) && !parts.uri.query().unwrap_or_default().contains("watch=") {
        late.asked.store(true, Relaxed);
        late.released.clone().wait_for(|released| *released).await.unwrap();
    }
    late.client.send(http::Request::from_parts(parts, body.into())).await.unwrap().map(Body::new)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_is_late_makes_nobody_the_owner_of_anothers_instance() {
    let world = World::new().await;
    // The owner lives in a namespace of its own.
    let there = World::new().await;
    let elsewhere = there.namespace.clone();
    world.cloud().put_instance(Instance::new("i-shared"));
    let spec = json!({"instanceId": "i-shared", "secretRef": {"name": "a"}});
    let mut settings = world.settings();
    settings.controller.namespaces.push(elsewhere.clone());
    settings.controller.settle = std::time::Duration::from_secs(2);
    there.secret("a", "Owner1").await;
    there.object_with("a", spec.clone()).await;
    let operator = world.operator_with(settings.clone());
    world.until_console("i-shared", "Owner1").await;
    there.until_ready("a").await;
    world.secret("a", "Loser1").await;
    world.object_with("a", spec).await;
    world.until_stalled("a", Reason::Conflict).await;
    operator.stop().await;

    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = world.config();
    config.cluster_url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (release, released) = watch::channel(false);
    let list =
        Late { client: world.client.clone(), namespace: elsewhere, asked: AtomicBool::new(false), released };
    let list = Arc::new(list);
    let router = axum::Router::new().fallback(late).with_state(Arc::clone(&list));
    let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    let operator = Operator::start(config, settings);
    until("the list is asked for", async || list.asked.load(Relaxed)).await;
    // Another operator, which starts later and waits for no list, gets work done meanwhile.
    let control = World::new().await;
    let other = control.operator();
    control.secret("a", "Abc123").await;
    let instance = control.object("a").await;
    control.until_console(&instance, "Abc123").await;
    other.stop().await;
    assert_eq!(world.console("i-shared").as_deref(), Some("Owner1"), "nobody decides yet");
    release.send(true).unwrap();
    for world in [&world, &there] {
        operator.settled(world).await;
    }
    assert_eq!(world.console("i-shared").as_deref(), Some("Owner1"));
    operator.stop().await;
    server.abort();
}
