//! What a tenant tries who may write VncPasswords in one namespace and nothing else: each attempt is a test, made with
//! the tenant's own rights.

use std::collections::BTreeMap;

use http::Method;
use jiff::SignedDuration;
use k8s_openapi::{ByteString, api::core::v1::Namespace};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPassword, VncPasswordStatus};
use vncpassword_emulator::{AccessKey, Action, Instance, Role};
use vncpassword_operator::settings::Settings;

use super::identity::{claim, credentials_secret, settings_without_ambient};
use vncpassword_test_support::{
    Operator, World,
    observe::{instance_of, sent},
    rotation::{age, rotate_now, until_rotated},
    world::next_second,
};

/// A namespace of the victim, whose identity is the operator's own, and one of a tenant, all served by one operator.
struct Scene {
    victim: World,
    tenant: World,
    /// Acts with the tenant's rights.
    objects: Api<VncPassword>,
    client: Client,
    operator: Operator,
}

const USER: &str = "mallory";

impl Scene {
    async fn set() -> Self {
        let (victim, tenant) = (World::new().await, World::new().await);
        let mut settings = settings_without_ambient(&victim);
        settings.controller.ambient =
            vncpassword_operator::settings::Ambient::In(vec![victim.namespace.clone()]);
        settings.controller.namespaces.push(tenant.namespace.clone());
        Self::with(victim, tenant, settings).await
    }

    async fn with(victim: World, tenant: World, settings: Settings) -> Self {
        let user = format!("{USER}-{}", tenant.namespace);
        grant(&tenant, &user).await;
        let mut config = tenant.config();
        config.auth_info.impersonate = Some(user);
        let client = Client::try_from(config).unwrap();
        let objects = Api::namespaced(client.clone(), &tenant.namespace);
        let operator = victim.operator_before(settings).await;
        Self { victim, tenant, objects, client, operator }
    }

    /// The tenant merges this into an object's spec.
    async fn change(&self, name: &str, spec: Value) {
        let change = Patch::Merge(json!({"spec": spec}));
        self.objects.patch(name, &PatchParams::default(), &change).await.unwrap();
    }

    /// The tenant creates an object.
    async fn create(&self, name: &str, spec: Value) -> Result<VncPassword, String> {
        let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
            "metadata": {"name": name}, "spec": spec});
        let request = http::Request::post(format!(
            "/apis/vncpassword.dev/v1alpha1/namespaces/{}/vncpasswords",
            self.tenant.namespace
        ))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&object).unwrap())
        .unwrap();
        self.client.request(request).await.map_err(|error| error.to_string())
    }
}

/// Whoever may write VncPasswords, and nothing more.
async fn grant(world: &World, user: &str) {
    let group = "rbac.authorization.k8s.io";
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "vncpasswords"},
        "rules": [{"apiGroups": ["vncpassword.dev"], "resources": ["vncpasswords"],
            "verbs": ["get", "list", "watch", "create", "update", "patch", "delete"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "vncpasswords"}, "subjects": [{"apiGroup": group, "kind": "User", "name": user}],
        "roleRef": {"apiGroup": group, "kind": "Role", "name": "vncpasswords"}});
    let (client, namespace) = (|| world.client.clone(), &world.namespace);
    let roles: Api<k8s_openapi::api::rbac::v1::Role> = Api::namespaced(client(), namespace);
    roles.create(&PostParams::default(), &serde_json::from_value(role).unwrap()).await.unwrap();
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::namespaced(client(), namespace);
    bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
}

const KEYS: [(&str, &str); 2] = [("access-key-id", "LTAItenant"), ("access-key-secret", "tenant-secret")];

/// An instance and the tenant's own key, good for that instance only.
async fn tenants_own(scene: &Scene) -> String {
    let instance = instance_of(&scene.tenant, "own");
    let cloud = scene.victim.cloud();
    cloud.put_instance(Instance::new(&instance));
    cloud.put_access_key(AccessKey::new("LTAItenant", "tenant-secret").only([instance.as_str()]));
    credentials_secret(&scene.tenant, "keys", &KEYS).await;
    instance
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_another_namespace_is_neither_read_nor_used() {
    let scene = Scene::set().await;
    let instance = tenants_own(&scene).await;
    let victims = &scene.victim.namespace;
    scene.victim.secret("console", "Hidden").await;
    credentials_secret(
        &scene.victim,
        "victims-keys",
        &[("access-key-id", AccessKey::DEFAULT_ID), ("access-key-secret", AccessKey::DEFAULT_SECRET)],
    )
    .await;
    let own = json!({"name": "keys"});
    for (number, name) in [
        format!("{victims}/console"),
        format!("../{victims}/console"),
        "..".to_owned(),
        "console?x=y".to_owned(),
        "console%2f".to_owned(),
        format!("../../{victims}/secrets/console"),
    ]
    .into_iter()
    .enumerate()
    {
        let spec = json!({"instanceId": instance, "secretRef": {"name": name}, "credentialsRef": own});
        let refused = scene.create(&format!("path{number}"), spec).await.unwrap_err();
        assert!(refused.contains("must be the name of a Secret in this namespace"), "{refused}");
        let spec =
            json!({"instanceId": instance, "secretRef": {"name": "mine"}, "credentialsRef": {"name": name}});
        let refused = scene.create(&format!("keys{number}"), spec).await.unwrap_err();
        assert!(refused.contains("must be the name of a Secret in this namespace"), "{refused}");
    }
    // A field that there is not is dropped by the API server.
    let spec = json!({"instanceId": instance, "secretRef": {"name": "console", "namespace": victims},
        "credentialsRef": own});
    let created = scene.create("field", spec).await.unwrap();
    assert!(!serde_json::to_string(&created.spec).unwrap().contains(victims));
    scene.tenant.until_stalled("field", Reason::SecretNotFound).await;
    scene.tenant.secret("mine", "Abc123").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "mine"},
        "credentialsRef": {"name": "victims-keys", "namespace": victims}});
    scene.create("borrowed", spec).await.unwrap();
    scene.tenant.until_stalled("borrowed", Reason::CredentialsNotFound).await;
    let requests = scene.operator.requests().all();
    let read = requests.iter().filter(|(_, path)| path.contains(&format!("/{victims}/secrets/")));
    assert_eq!(read.count(), 0, "{requests:#?}");
    assert!(scene.victim.calls(&instance).is_empty());
    scene.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_identity_is_not_to_be_had() {
    let scene = Scene::set().await;
    let instance = instance_of(&scene.victim, "victims");
    scene.victim.cloud().put_instance(Instance::new(&instance));
    scene.tenant.secret("mine", "Abc123").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "mine"}});
    scene.create("bare", spec).await.unwrap();
    scene.tenant.until_stalled("bare", Reason::AmbientCredentialsDenied).await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "new"}, "rotation": {}});
    scene.create("generated", spec).await.unwrap();
    scene.tenant.until_stalled("generated", Reason::AmbientCredentialsDenied).await;
    // A role of the operator's own account, which trusts the whole account.
    let role = "acs:ram::1000000000000001:role/admin";
    scene.victim.cloud().put_role(Role::new(role));
    credentials_secret(&scene.tenant, "role", &[("role-arn", role)]).await;
    let spec =
        json!({"instanceId": instance, "secretRef": {"name": "mine"}, "credentialsRef": {"name": "role"}});
    scene.create("role", spec).await.unwrap();
    scene.tenant.until_stalled("role", Reason::AmbientCredentialsDenied).await;
    assert!(scene.victim.cloud().journal().is_empty());
    scene.operator.stop().await;
}

/// Where a tenant's namespace may use the operator's identity, a role of another tenant is still out of reach.
#[tokio::test(flavor = "multi_thread")]
async fn a_role_that_trusts_another_namespace_is_not_to_be_had() {
    let (victim, tenant) = (World::new().await, World::new().await);
    let mut settings = victim.settings();
    settings.controller.namespaces.push(tenant.namespace.clone());
    let namespaces: Api<Namespace> = Api::all(victim.client.clone());
    let cluster = namespaces.get("kube-system").await.unwrap().metadata.uid.unwrap();
    let role = "acs:ram::2000000000000002:role/victim";
    let trusting = Role::new(role).trusting(AccessKey::DEFAULT_ACCOUNT);
    victim.cloud().put_role(trusting.external_id(format!("{cluster}/{}", victim.namespace)));
    let scene = Scene::with(victim, tenant, settings).await;
    let instance = instance_of(&scene.victim, "victims");
    scene.victim.cloud().put_instance(Instance::new(&instance).account("2000000000000002"));
    credentials_secret(&scene.tenant, "role", &[("role-arn", role)]).await;
    scene.tenant.secret("mine", "Abc123").await;
    let spec =
        json!({"instanceId": instance, "secretRef": {"name": "mine"}, "credentialsRef": {"name": "role"}});
    scene.create("role", spec).await.unwrap();
    let status = scene.tenant.until_stalled("role", Reason::InvalidCredentials).await;
    let message = &status.condition(ConditionType::Stalled).unwrap().message;
    assert!(message.contains("AssumeRole") && message.contains("NoPermission"), "{message}");
    assert!(scene.victim.calls(&instance).is_empty());
    scene.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_was_not_opened_is_not_overwritten() {
    let scene = Scene::set().await;
    let instance = tenants_own(&scene).await;
    let data = |values: &[(&str, &str)]| -> Value {
        let values = values.iter().map(|(key, value)| (key.to_string(), ByteString(value.as_bytes().into())));
        json!(values.collect::<BTreeMap<_, _>>())
    };
    let record =
        json!({"instanceId": "i-another", "id": "x", "drawnAt": "2026-01-02T03:04:05Z", "state": "done"});
    let secrets = [
        ("database", data(&[("password", "Abc123")])),
        ("long", data(&[("password", "a long password"), ("token", "t")])),
        ("other-key", data(&[("token", "Abc123")])),
        ("anothers", data(&[("password", "Abc123"), ("password.rotation", &record.to_string())])),
    ];
    for (name, data) in &secrets {
        scene.tenant.secret_data(name, data.clone()).await;
    }
    for (number, (name, data)) in secrets.iter().enumerate() {
        let before = scene.tenant.secrets().get(name).await.unwrap();
        let object = format!("o{number}");
        let spec = json!({"instanceId": instance, "secretRef": {"name": name}, "rotation": {},
            "credentialsRef": {"name": "keys"}});
        scene.create(&object, spec).await.unwrap();
        scene.tenant.until_stalled(&object, Reason::SecretNotWritable).await;
        let asked = json!({"metadata": {"annotations":
            {"vncpassword.dev/rotate-at": jiff::Timestamp::now().to_string()}}});
        scene.objects.patch(&object, &PatchParams::default(), &Patch::Merge(asked)).await.unwrap();
        scene.operator.settled(&scene.tenant).await;
        let after = scene.tenant.secrets().get(name).await.unwrap();
        assert_eq!(before.metadata.resource_version, after.metadata.resource_version, "{name}: {data}");
        scene.tenant.delete(&object).await;
    }
    assert!(scene.victim.calls(&instance).is_empty());
    scene.operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_instance_cannot_be_squatted_on() {
    let scene = Scene::set().await;
    tenants_own(&scene).await;
    let instance = instance_of(&scene.victim, "victims");
    scene.victim.cloud().put_instance(Instance::new(&instance));
    scene.tenant.secret("mine", "Abc123").await;
    let keys = json!({"name": "keys"});
    // Each is older than the victim's object, and none has a right to the instance.
    let attempts = [
        ("no-identity", json!({"secretRef": {"name": "mine"}})),
        ("no-right", json!({"secretRef": {"name": "mine"}, "credentialsRef": keys})),
        ("no-secret", json!({"secretRef": {"name": "missing"}, "credentialsRef": keys})),
        ("no-credentials", json!({"secretRef": {"name": "mine"}, "credentialsRef": {"name": "missing"}})),
        (
            "no-region",
            json!({"secretRef": {"name": "mine"}, "credentialsRef": keys, "regionId": "cn-nowhere"}),
        ),
        ("generated", json!({"secretRef": {"name": "new"}, "credentialsRef": keys, "rotation": {}})),
        ("suspended", json!({"secretRef": {"name": "mine"}, "credentialsRef": keys, "suspend": true})),
    ];
    for (name, mut spec) in attempts.clone() {
        spec["instanceId"] = json!(instance);
        scene.create(name, spec).await.unwrap();
    }
    // Nor does a status help that the tenant makes up: it is not taken at creation, and needs a right of its own.
    let forged = json!({"status": {"requestId": "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E"}});
    let refused =
        scene.objects.patch_status("no-right", &PatchParams::default(), &Patch::Merge(forged)).await;
    assert!(refused.unwrap_err().to_string().contains("forbidden"));
    scene.operator.settled(&scene.tenant).await;
    next_second().await;
    claim_own(&scene, &instance).await;
    // A late call of the others may be waited for, but the value is in effect.
    scene.victim.until("console", "in effect", |status| status.ready() == ConditionStatus::True).await;
    assert_eq!(scene.victim.console(&instance).as_deref(), Some("Victim"));
    for (name, _) in attempts {
        let status = scene.tenant.status(name).await;
        assert_ne!(status.ready(), ConditionStatus::True, "{name}: {status:#?}");
        assert_eq!(status.request_id, None, "{name}");
    }
    let calls = scene.victim.calls(&instance);
    let accepted: Vec<_> = calls.iter().filter(|call| call.applied()).cloned().collect();
    assert_eq!(sent(&accepted), ["Victim"]);
    scene.operator.stop().await;
}

/// Once a right is lost, what was accepted under it is worth nothing: neither while the object cannot act, nor when it
/// comes back.
#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_was_lost_holds_no_instance() {
    for (way, gone, back) in [
        ("suspended", json!({"suspend": true}), json!({"suspend": false})),
        (
            "other keys",
            json!({"credentialsRef": {"name": "keys"}}),
            json!({"credentialsRef": {"name": "former"}}),
        ),
        (
            "no keys",
            json!({"credentialsRef": {"name": "missing"}}),
            json!({"credentialsRef": {"name": "former"}}),
        ),
    ] {
        let scene = Scene::set().await;
        tenants_own(&scene).await;
        let instance = instance_of(&scene.victim, "victims");
        let cloud = scene.victim.cloud();
        cloud.put_instance(Instance::new(&instance));
        let former = AccessKey::new("LTAIformer", "former-secret");
        let keys = [("access-key-id", "LTAIformer"), ("access-key-secret", "former-secret")];
        credentials_secret(&scene.tenant, "former", &keys).await;
        cloud.put_access_key(former.clone().only([instance.as_str()]));
        claim(&scene.tenant, "squatter", &instance, "former").await;
        scene.tenant.until_ready("squatter").await;
        // The victim's object is the younger one.
        next_second().await;

        cloud.put_access_key(former.only([""]));
        scene.change("squatter", gone).await;
        claim_own(&scene, &instance).await;
        scene.victim.until("console", "in effect", |status| status.ready() == ConditionStatus::True).await;
        assert_eq!(scene.victim.console(&instance).as_deref(), Some("Victim"), "{way}");

        scene.change("squatter", back).await;
        // A claim goes with the keys. With the same keys it is tried by one call, and then the victim has its instance again.
        let tried = |status: &VncPasswordStatus| {
            way != "suspended" || status.retry.as_ref().is_some_and(|retry| retry.code.is_some())
        };
        let stands_back = |status: &VncPasswordStatus| {
            status.reason(ConditionType::Stalled) == Some(Reason::Conflict) && tried(status)
        };
        scene.tenant.until("squatter", "standing back", stands_back).await;
        scene.victim.secret("console", "Later1").await;
        scene.victim.until_console(&instance, "Later1").await;
        scene.operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_of_another_account_puts_no_rotation_off() {
    let scene = Scene::set().await;
    let tenants = AccessKey::new("LTAItenant", "tenant-secret").account("2000000000000002");
    scene.victim.cloud().put_access_key(tenants);
    credentials_secret(&scene.tenant, "keys", &KEYS).await;
    scene.tenant.secret("mine", "Abc123").await;
    let instance = scene.victim.generated("console", json!({})).await;
    scene.victim.until_ready("console").await;
    let spec = |secret| json!({"instanceId": instance, "secretRef": {"name": secret}, "credentialsRef": {"name": "keys"}});
    scene.create("elder", spec("missing")).await.unwrap();
    scene.tenant.until_stalled("elder", Reason::SecretNotFound).await;
    next_second().await;
    scene.create("heir", spec("mine")).await.unwrap();
    scene.tenant.until_stalled("heir", Reason::Conflict).await;
    // Whoever takes over doubts what may still arrive.
    scene.tenant.delete("elder").await;
    scene.tenant.until_stalled("heir", Reason::InstanceNotFound).await;
    rotated_now(&scene.victim, 2).await;
    scene.tenant.delete("heir").await;
    rotated_now(&scene.victim, 3).await;
    scene.operator.stop().await;
}

/// The victim asks for a rotation, and gets it.
async fn rotated_now(victim: &World, rotations: i64) {
    // Times are whole seconds: the next request is a later one.
    next_second().await;
    age(victim, "console", SignedDuration::from_mins(5)).await;
    rotate_now(victim, "console").await;
    until_rotated(victim, "console", rotations).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_in_conflict_do_not_read_their_credentials_again_and_again() {
    const OBJECTS: usize = 20;
    let scene = Scene::set().await;
    tenants_own(&scene).await;
    let instance = scene.victim.generated("console", json!({})).await;
    scene.victim.until_ready("console").await;
    for number in 0..OBJECTS {
        let spec = json!({"instanceId": instance, "secretRef": {"name": "mine"}, "credentialsRef": {"name": "keys"}});
        scene.create(&format!("o{number}"), spec).await.unwrap();
    }
    for number in 0..OBJECTS {
        scene.tenant.until_stalled(&format!("o{number}"), Reason::Conflict).await;
    }
    let read = || scene.operator.requests().count(&Method::GET, "/secrets/keys");
    let before = read();
    assert!((1..=OBJECTS).contains(&before), "{before} times");
    // Each change of the owner wakes them all.
    for rotations in 2..4 {
        rotated_now(&scene.victim, rotations).await;
    }
    scene.operator.settled(&scene.tenant).await;
    assert_eq!(read(), before);
    assert_eq!(scene.victim.calls_of(Action::GetCallerIdentity).len(), 2, "once an identity");
    scene.operator.stop().await;
}

async fn claim_own(scene: &Scene, instance: &str) {
    scene.victim.secret("console", "Victim").await;
    let spec = json!({"instanceId": instance, "secretRef": {"name": "console"}});
    scene.victim.object_with("console", spec).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_is_not_pointed_at_another_host() {
    let scene = Scene::set().await;
    let instance = tenants_own(&scene).await;
    let trap = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = trap.local_addr().unwrap().to_string();
    scene.tenant.secret("mine", "Abc123").await;
    for (number, region) in [
        host.as_str(),
        "cn-hangzhou.evil.example",
        "cn-hangzhou/",
        "cn-hangzhou@evil",
        "cn-hangzhou:80",
        "cn-hangzhou#",
        "cn-hangzhou?",
        "cn-hangzhou\n",
        "CN-HANGZHOU",
        "localhost",
        "127.0.0.1",
        "a-b",
        "oss-cn-hangzhou",
        "img-cn-hangzhou",
        "oss-accelerate",
        "cn-hang%zhou",
        "cn_hangzhou",
    ]
    .into_iter()
    .enumerate()
    {
        let spec = json!({"instanceId": instance, "secretRef": {"name": "mine"}, "regionId": region,
            "credentialsRef": {"name": "keys"}});
        let refused = scene.create(&format!("region{number}"), spec).await.unwrap_err();
        assert!(refused.contains("must be a region ID such as cn-hangzhou"), "{region}: {refused}");
    }
    // Whatever else stands in the Secret with the credentials is not looked at.
    let url = format!("http://{host}");
    let mut values = vec![("access-key-id", "LTAItenant"), ("access-key-secret", "tenant-secret")];
    for name in [
        "endpoint",
        "ecs-endpoint",
        "sts-endpoint",
        "STS_ENDPOINT",
        "ECS_ENDPOINT",
        "metadata-endpoint",
        "ALIBABA_CLOUD_STS_ENDPOINT",
        "ALIBABA_CLOUD_CREDENTIALS_URI",
        "credentials-uri",
        "region",
        "host",
        "HTTP_PROXY",
    ] {
        values.push((name, &url));
    }
    credentials_secret(&scene.tenant, "trap-keys", &values).await;
    claim(&scene.tenant, "trap", &instance, "trap-keys").await;
    scene.victim.until_console(&instance, "Abc123").await;
    for (number, role) in [
        format!("acs:ram::1:role/x@{host}"),
        format!("acs:ram::{host}:role/x"),
        "acs:ram::1:role/x&Endpoint=evil".to_owned(),
        "acs:ram::1:role/x\r\nHost: evil".to_owned(),
    ]
    .iter()
    .enumerate()
    {
        let (name, keys) = (format!("role{number}"), format!("keys{number}"));
        let mut values = values.clone();
        values.push(("role-arn", role));
        credentials_secret(&scene.tenant, &keys, &values).await;
        let other = instance_of(&scene.tenant, &name);
        scene.victim.cloud().put_instance(Instance::new(&other));
        claim(&scene.tenant, &name, &other, &keys).await;
        scene.tenant.until_stalled(&name, Reason::InvalidCredentials).await;
    }
    assert!(scene.victim.calls_of(Action::AssumeRole).is_empty());
    // Connections are accepted in turn: this test's own comes first where there was none before.
    let own = TcpStream::connect(&host).await.unwrap();
    let (_, first) = trap.accept().await.unwrap();
    assert_eq!(first, own.local_addr().unwrap(), "somebody called the trap");
    scene.operator.stop().await;
}
