//! Writes of Secrets that the API server refuses: each cause has its own reason, nothing secret is shown, and the object
//! goes on by itself when the cause is gone.

use std::{fmt::Debug, path::PathBuf, sync::Arc};

use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::{body::Bytes, service::service_fn};
use hyper_util::rt::TokioIo;
use k8s_openapi::{
    ByteString,
    api::{
        admissionregistration::v1::{
            ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding, ValidatingWebhookConfiguration,
        },
        core::v1::{Namespace, ResourceQuota, Secret},
    },
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus};
use vncpassword_test_support::{World, control_plane::shared_kubeconfig, rotation::open, world::until};

fn message(status: &VncPasswordStatus, type_: ConditionType) -> &str {
    &status.condition(type_).unwrap().message
}

/// Creates an object of the cluster; its name is that of the test's namespace.
async fn create<K>(world: &World, object: Value) -> Api<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Serialize,
{
    let api = Api::<K>::all(world.client.clone());
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
    api
}

async fn delete<K>(api: &Api<K>, world: &World)
where
    K: kube::Resource + Clone + Debug + DeserializeOwned,
{
    api.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
}

/// Writes of Secrets in the namespace of the test.
fn secrets_of(world: &World) -> (Value, Value) {
    let rules = json!([{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["secrets"],
        "operations": ["CREATE", "UPDATE"]}]);
    (rules, json!({"matchLabels": {"kubernetes.io/metadata.name": world.namespace}}))
}

/// Denies writes of Secrets that do not fulfil this; waits until it is in force.
async fn policy(
    world: &World,
    validation: Value,
) -> (Api<ValidatingAdmissionPolicy>, Api<ValidatingAdmissionPolicyBinding>) {
    let (rules, selector) = secrets_of(world);
    let metadata = json!({"name": world.namespace});
    let probe = json!({"expression": "object.metadata.name != 'probe'", "message": "probed"});
    let policies = create(
        world,
        json!({"metadata": metadata, "spec": {"failurePolicy": "Fail",
            "matchConstraints": {"resourceRules": rules, "namespaceSelector": selector},
            "validations": [probe, validation]}}),
    )
    .await;
    let bindings = create(
        world,
        json!({"metadata": metadata, "spec": {"policyName": world.namespace, "validationActions": ["Deny"]}}),
    )
    .await;
    until_in_force(world).await;
    (policies, bindings)
}

/// Waits until Secret `probe` cannot be created.
async fn until_in_force(world: &World) {
    let probe: Secret = serde_json::from_value(json!({"metadata": {"name": "probe"}})).unwrap();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    until("writes are refused", async || world.secrets().create(&dry, &probe).await.is_err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_named_and_the_password_is_drawn_when_it_is_gone() {
    let world = World::new().await;
    let quotas: Api<ResourceQuota> = Api::namespaced(world.client.clone(), &world.namespace);
    let hard = json!({"secrets": "0"});
    let quota = json!({"metadata": {"name": "few"}, "spec": {"hard": hard}});
    quotas.create(&PostParams::default(), &serde_json::from_value(quota).unwrap()).await.unwrap();
    // The controller that does this runs in no test.
    let status = json!({"status": {"hard": hard, "used": {"secrets": "0"}}});
    quotas.patch_status("few", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    until_in_force(&world).await;
    let operator = world.operator();
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::QuotaExceeded).await;
    let text = message(&status, ConditionType::Stalled);
    assert!(text.contains("exceeded quota: few") && text.contains("limited: secrets=0"), "{text}");
    assert_eq!((status.ready(), world.calls(&instance).len()), (ConditionStatus::False, 0));
    quotas.delete("few", &DeleteParams::default()).await.unwrap();
    world.until_healed("a").await;
    world.until_console(&instance, &world.values("a").await["password"]).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_is_quoted_unless_it_quotes_the_password() {
    let world = World::new().await;
    let validation = json!({
        "expression": "!object.metadata.name.startsWith('a') && !object.metadata.name.startsWith('b')",
        "messageExpression": "object.metadata.name.startsWith('a') ? 'no passwords in a' : \
            'no: ' + string(object.data['password.next'])",
        "reason": "Forbidden"});
    let (policies, bindings) = policy(&world, validation).await;
    let operator = world.operator();
    for name in ["a", "b"] {
        world.generated(name, json!({})).await;
    }
    let status = world.until_stalled("a", Reason::PolicyDenied).await;
    let text = message(&status, ConditionType::Stalled);
    let name = format!("ValidatingAdmissionPolicy '{0}' with binding '{0}'", world.namespace);
    assert!(text.contains(&name) && text.ends_with("no passwords in a"), "{text}");
    let status = world.until_stalled("b", Reason::PolicyDenied).await;
    let text = message(&status, ConditionType::Stalled);
    assert!(text.ends_with("or exempt the operator"), "{text}");
    delete(&bindings, &world).await;
    delete(&policies, &world).await;
    world.until_healed("a").await;
    world.until_healed("b").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_in_effect_that_cannot_be_promoted_is_sent_once_and_found_in_next() {
    let world = World::new().await;
    let validation =
        json!({"expression": "!has(object.data) || !('password' in object.data)", "message": "no"});
    let (policies, bindings) = policy(&world, validation).await;
    let operator = world.operator();
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::PolicyDenied).await;
    let text = message(&status, ConditionType::Stalled);
    assert!(text.contains("the password in effect is in key password.next"), "{text}");
    assert_eq!((status.ready(), status.request_id.is_some()), (ConditionStatus::False, true));
    let requests = |method: &http::Method| operator.requests().count(method, "/secrets/a");
    let (read, refused) = (requests(&http::Method::GET), requests(&http::Method::PATCH));
    until("it is tried again", async || requests(&http::Method::PATCH) > refused + 1).await;
    let (read, refused) = (requests(&http::Method::GET) - read, requests(&http::Method::PATCH) - refused);
    // Its own refused write causes no event; the write of the status causes one.
    assert!(read <= 2 * refused + 2, "{read} reads for {refused} refused writes");
    let next = world.values("a").await["password.next"].clone();
    assert_eq!(world.console(&instance).as_ref(), Some(&next));
    delete(&bindings, &world).await;
    delete(&policies, &world).await;
    world.until_healed("a").await;
    assert_eq!(world.values("a").await["password"], next);
    assert_eq!(world.calls(&instance).len(), 1, "what was accepted is not sent again");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_too_large_is_told() {
    let world = World::new().await;
    let large = ByteString(vec![b'x'; 1024 * 1024 - 100]);
    world.secret_data("a", json!({"large": large})).await;
    open(&world, "a").await;
    let operator = world.operator();
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::SecretTooLarge).await;
    assert!(message(&status, ConditionType::Stalled).starts_with("Secret a is too large"), "{status:#?}");
    assert!(world.calls(&instance).is_empty());
    world.secret_data("a", json!({})).await;
    world.until_healed("a").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_being_deleted_takes_no_secret() {
    let world = World::new().await;
    let instance = world.generated("a", json!({})).await;
    // It has the finalizer of the namespace controller, which runs in no test.
    let namespaces = Api::<Namespace>::all(world.client.clone());
    namespaces.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    until_in_force(&world).await;
    let operator = world.operator();
    let status = world.until_stalled("a", Reason::NamespaceTerminating).await;
    assert_eq!(
        message(&status, ConditionType::Stalled),
        "this namespace is being deleted, so Secret a cannot be created"
    );
    assert!(world.calls(&instance).is_empty());
    operator.stop().await;
}

// ------------------------------------------------------------------------------------------------------------ webhooks

/// Registers a webhook at this address for Secrets in the namespace of the test.
async fn webhook(world: &World, port: u16, seconds: u32) -> Api<ValidatingWebhookConfiguration> {
    let (rules, selector) = secrets_of(world);
    let authority = ByteString(std::fs::read(pki().join("ca.crt")).unwrap());
    let hook = json!({"name": "guard.example.com", "admissionReviewVersions": ["v1"], "sideEffects": "None",
        "clientConfig": {"url": format!("https://127.0.0.1:{port}/"), "caBundle": authority},
        "failurePolicy": "Fail", "rules": rules, "namespaceSelector": selector, "timeoutSeconds": seconds});
    create(world, json!({"metadata": {"name": world.namespace}, "webhooks": [hook]})).await
}

/// The certificates of the control plane: that of its API server is good for every server on this machine.
fn pki() -> PathBuf {
    shared_kubeconfig().parent().unwrap().join("pki")
}

/// An HTTPS server that denies with this status, quoting all that it got; `None`: it never answers. Returns its port.
async fn guard(status: Option<u16>) -> u16 {
    let certificates = CertificateDer::pem_file_iter(pki().join("apiserver.crt")).unwrap();
    let certificates = certificates.collect::<Result<Vec<_>, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(pki().join("apiserver.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.unwrap().with_no_client_auth().with_single_cert(certificates, key).unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let service = service_fn(move |request| review(request, status));
                let served = hyper::server::conn::http1::Builder::new();
                served.serve_connection(TokioIo::new(stream), service).await.ok();
            });
        }
    });
    port
}

async fn review(
    request: Request<hyper::body::Incoming>,
    status: Option<u16>,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let body = request.into_body().collect().await?.to_bytes();
    let review: Value = serde_json::from_slice(&body).unwrap();
    let Some(status) = status else { return std::future::pending().await };
    let denied =
        json!({"code": status, "reason": "Conflict", "message": review["request"]["object"].to_string()});
    let answer = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "response": {"uid": review["request"]["uid"], "allowed": false, "status": denied}});
    let reply = Response::builder().header("content-type", "application/json");
    Ok(reply.body(Full::from(answer.to_string())).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_denies_is_named_and_not_quoted() {
    let world = World::new().await;
    // The status of a conflict: the operator must not take it for one.
    let webhooks = webhook(&world, guard(Some(409)).await, 10).await;
    until_in_force(&world).await;
    let operator = world.operator();
    let instance = world.generated("a", json!({})).await;
    let status = world.until_stalled("a", Reason::WebhookDenied).await;
    assert_eq!(
        message(&status, ConditionType::Stalled),
        "admission webhook guard.example.com does not let the operator write Secret a (status 409); change its rules, or \
         exempt the operator"
    );
    assert!(world.calls(&instance).is_empty());
    delete(&webhooks, &world).await;
    world.until_healed("a").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_that_times_out_is_named_and_the_write_is_tried_again() {
    let world = World::new().await;
    let webhooks = webhook(&world, guard(None).await, 1).await;
    until_in_force(&world).await;
    let operator = world.operator();
    let instance = world.generated("a", json!({})).await;
    let status = world.until_reconciling("a", Reason::WebhookFailed).await;
    let text = message(&status, ConditionType::Reconciling);
    assert!(
        text.starts_with("admission webhook guard.example.com, which is asked about Secret a,"),
        "{text}"
    );
    assert!(status.condition(ConditionType::Stalled).is_none() && world.calls(&instance).is_empty());
    delete(&webhooks, &world).await;
    world.until_healed("a").await;
    operator.stop().await;
}
