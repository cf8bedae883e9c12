//! The user's Secret: what can be wrong with it, what is said then, and that it heals by itself.

use http::Method;
use k8s_openapi::{ByteString, api::events::v1::Event};
use kube::{
    Api,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::Action;

use super::crd::{kubectl, kubectl_with};
use vncpassword_test_support::{Operator, World, world::until};

/// What is said of every value that is no password, after the words that name it.
const RULE: &str = "is no VNC password; a VNC password is exactly 6 of A-Z, a-z and 0-9, without the line break that \
                    echo adds (use printf or kubectl create secret --from-literal)";

/// Values that are no passwords.
const BAD: &[&[u8]] = &[
    b"",
    b"Abc123\n",
    b"Abc12\n",
    b"Abc123\r\n",
    b"Abc1234",
    b"Abc12",
    b"Abc12!",
    b"Abc 12",
    b" Abc123",
    "\u{c4}bc12".as_bytes(),
    "\u{c4}bc123".as_bytes(),
    &[0xff; 6],
    &[0; 6],
];

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_a_secret_is_told_without_a_call_and_healed_at_once() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let mut table = vec![
        (None, Reason::SecretNotFound, "Secret NAME does not exist in this namespace; create it".to_owned()),
        (
            Some(json!({})),
            Reason::SecretKeyNotFound,
            "Secret NAME has no key password; add it, or name the right one in a new VncPassword".to_owned(),
        ),
    ];
    for key in ["Password", "password.next", "passwor"] {
        table.push((Some(json!({key: encoded(b"Abc123")})), Reason::SecretKeyNotFound, table[1].2.clone()));
    }
    for value in BAD {
        let message = format!("the value of key password of Secret NAME {RULE}");
        table.push((Some(json!({"password": encoded(value)})), Reason::InvalidPassword, message));
    }
    let mut instances = Vec::new();
    for (number, (data, _, _)) in table.iter().enumerate() {
        let name = format!("s{number}");
        if let Some(data) = data {
            world.secret_data(&name, data.clone()).await;
        }
        instances.push(world.object(&name).await);
    }
    for (number, (data, reason, message)) in table.iter().enumerate() {
        let name = format!("s{number}");
        let message = message.replace("NAME", &name);
        let status = world.until_stalled(&name, *reason).await;
        assert_eq!(status.ready(), ConditionStatus::False, "{data:?}");
        assert_eq!(status.conditions.len(), 2, "{data:?}: Ready and Stalled, and nothing is under way");
        for condition in &status.conditions {
            assert_eq!(
                (condition.reason, condition.message.as_str()),
                (*reason, message.as_str()),
                "{data:?}"
            );
        }
        assert_eq!((status.applied, status.retry), (None, None), "{data:?}");
    }
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd), []);
    for (number, instance) in instances.iter().enumerate() {
        let name = format!("s{number}");
        world.secret(&name, "Xyz789").await;
        let status = world.until_ready(&name).await;
        assert_eq!(status.conditions.len(), 1, "{status:#?}");
        let calls = world.calls(instance);
        assert_eq!((calls.len(), calls[0].vnc_password.as_deref()), (1, Some("Xyz789")));
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_value_leaves_no_trace_of_what_it_was() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", BAD[0]).await;
    let instance = world.object("a").await;
    let status = world.until_stalled("a", Reason::InvalidPassword).await;
    for value in &BAD[1..] {
        let reads = reads(&operator, &world);
        world.secret("a", value).await;
        // A read that had begun may have got this value already; then another version is needed to see one more.
        let mut touched = 0;
        let read = async || {
            let label = Patch::Merge(json!({"metadata": {"labels": {"touched": touched.to_string()}}}));
            touched += 1;
            world.secrets().patch("a", &PatchParams::default(), &label).await.unwrap();
            self::reads(&operator, &world) > reads
        };
        until(&format!("{value:?} is read"), read).await;
        assert_eq!(world.status("a").await, status, "{value:?}");
    }
    world.secret("a", "Abc123").await;
    world.until_ready("a").await;
    let writes = operator.requests().count(&Method::PUT, "/vncpasswords/a/status");
    assert_eq!(writes, 2, "the first refusal and the healing");
    let applied = |event: &Event| event.reason.as_deref() == Some("Applied");
    until("an Event", async || events(&world, "a").await.iter().any(applied)).await;
    let mut told = events(&world, "a").await;
    told.sort_by(|one, other| one.metadata.name.cmp(&other.metadata.name));
    let told: Vec<_> = told.iter().map(|event| event.reason.as_deref()).collect();
    assert_eq!(told, [Some("InvalidPassword"), Some("Applied")], "told once, whatever the value");
    assert_eq!(world.calls(&instance).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_leaves_the_console_alone_and_its_undoing_costs_no_call() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    world.secret("a", "Abc123\n").await;
    let status = world.until_stalled("a", Reason::InvalidPassword).await;
    assert_eq!(status.ready(), ConditionStatus::False);
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    world.secret("a", "Abc123").await;
    let status = world.until_ready("a").await;
    assert_eq!((world.calls(&instance).len(), status.rotations), (1, Some(1)));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_comes_back_is_recognised_by_its_value() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let before = world.until_ready("a").await.applied.unwrap();
    for (value, calls) in [("Abc123", 1), ("Xyz789", 2)] {
        world.secrets().delete("a", &DeleteParams::default()).await.unwrap();
        let status = world.until_stalled("a", Reason::SecretNotFound).await;
        assert_eq!(status.ready(), ConditionStatus::False);
        world.secret("a", value).await;
        let applied = world.until_ready("a").await.applied.unwrap();
        assert_ne!(applied.secret_uid, before.secret_uid);
        assert_eq!(Some(applied.secret_uid), world.secrets().get("a").await.unwrap().metadata.uid);
        assert_eq!(world.calls(&instance).len(), calls, "{value}");
        assert_eq!(world.console(&instance).as_deref(), Some(value));
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_named_key_counts() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let data = |password: &str, console: &str| json!({"password": encoded(password.as_bytes()), "console.pw": encoded(console.as_bytes())});
    world.secret_data("a", data("Wrong1", "Abc123")).await;
    let instance = other_instance(&world, "b", &json!({"name": "a", "key": "console.pw"})).await;
    world.until_ready("b").await;
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    world.secret_data("a", data("Wrong2", "Abc123")).await;
    let version = world.secrets().get("a").await.unwrap().metadata.resource_version.unwrap();
    world
        .until("b", "in sync with the other key's change", |status| {
            status.applied.as_ref().is_some_and(|applied| applied.secret_resource_version == version)
        })
        .await;
    assert_eq!(world.calls(&instance).len(), 1);
    world.secret_data("a", data("Wrong2", "Xyz789")).await;
    world.until_console(&instance, "Xyz789").await;
    let sent = world.calls(&instance).into_iter().filter_map(|call| call.vnc_password);
    assert_eq!(sent.collect::<Vec<_>>(), ["Abc123", "Xyz789"]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_secret_serves_two_objects_with_a_key_each() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let data = |one: &str, two: &str| json!({"one": encoded(one.as_bytes()), "two": encoded(two.as_bytes())});
    world.secret_data("shared", data("Abc123", "Def456")).await;
    let one = other_instance(&world, "one", &json!({"name": "shared", "key": "one"})).await;
    let two = other_instance(&world, "two", &json!({"name": "shared", "key": "two"})).await;
    let sent = |instance: &str| -> Vec<String> {
        world.calls(instance).into_iter().filter_map(|call| call.vnc_password).collect()
    };
    for name in ["one", "two"] {
        world.until_ready(name).await;
    }
    assert_eq!((sent(&one), sent(&two)), (vec!["Abc123".into()], vec!["Def456".into()]));
    world.secret_data("shared", data("Abc123", "Xyz789")).await;
    let version = world.secrets().get("shared").await.unwrap().metadata.resource_version.unwrap();
    for name in ["one", "two"] {
        world
            .until(name, "in sync with the changed Secret", |status| {
                status.applied.as_ref().is_some_and(|applied| applied.secret_resource_version == version)
            })
            .await;
    }
    assert_eq!((sent(&one), sent(&two)), (vec!["Abc123".into()], vec!["Def456".into(), "Xyz789".into()]));
    // One key gone: the other object does not mind.
    world.secret_data("shared", json!({"one": encoded(b"Abc123")})).await;
    world.until_stalled("two", Reason::SecretKeyNotFound).await;
    world.until_ready("one").await;
    assert_eq!(sent(&one).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_weak_password_is_sent_with_a_warning() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("strong", "Abc123").await;
    world.object("strong").await;
    world.until_ready("strong").await;
    for (name, value) in
        [("no-upper", "abc123"), ("no-lower", "ABC123"), ("no-digit", "Abcdef"), ("one-kind", "aaaaaa")]
    {
        world.secret(name, value).await;
        let instance = world.object(name).await;
        world.until_ready(name).await;
        assert_eq!(world.console(&instance).as_deref(), Some(value));
        let weak = |event: &Event| event.reason.as_deref() == Some("WeakPassword");
        until(&format!("a warning of {value}"), async || events(&world, name).await.iter().any(weak)).await;
        let events = events(&world, name).await;
        let warnings: Vec<_> = events.iter().filter(|event| weak(event)).collect();
        assert_eq!((warnings.len(), warnings[0].type_.as_deref()), (1, Some("Warning")));
        let note = warnings[0].note.as_deref().unwrap();
        assert!(note.contains("lacks upper case, lower case or a digit"), "{note}");
    }
    // Events are sent in turn: one about this object would be there by now.
    let strong = events(&world, "strong").await;
    let strong: Vec<_> = strong.iter().map(|event| event.reason.as_deref()).collect();
    assert_eq!(strong, [Some("Applied")]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_of_that_name_elsewhere_is_not_used() {
    let (world, elsewhere) = (World::new().await, World::new().await);
    let mut settings = world.settings();
    settings.controller.namespaces.push(elsewhere.namespace.clone());
    let operator = world.operator_before(settings).await;
    elsewhere.secret("a", "Wrong1").await;
    let instance = world.object("a").await;
    world.until_stalled("a", Reason::SecretNotFound).await;
    elsewhere.secret("a", "Wrong2").await;
    world.secret("a", "Abc123").await;
    world.until_ready("a").await;
    elsewhere.secrets().delete("a", &DeleteParams::default()).await.unwrap();
    // An object over there whose turn comes after all of this.
    let other = elsewhere.object("b").await;
    world.cloud().put_instance(vncpassword_emulator::Instance::new(&other));
    elsewhere.secret("b", "Def456").await;
    elsewhere.until_ready("b").await;
    let sent = world.calls(&instance).into_iter().filter_map(|call| call.vnc_password);
    assert_eq!(sent.collect::<Vec<_>>(), ["Abc123"]);
    assert_eq!(world.status("a").await.ready(), ConditionStatus::True);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_type_of_the_secret_does_not_matter() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}, "immutable": true,
        "type": "kubernetes.io/basic-auth", "stringData": {"username": "console", "password": "Abc123"}});
    kubectl_with(&world, &["create", "--filename", "-"], &secret.to_string()).await;
    let instance = world.object("a").await;
    world.until_ready("a").await;
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_made_with_kubectl_work() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let applied = |value: &str| {
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "applied"},
            "stringData": {"password": value}})
        .to_string()
    };
    kubectl_with(&world, &["apply", "--filename", "-"], &applied("Abc123")).await;
    let instance = world.object("applied").await;
    world.until_console(&instance, "Abc123").await;
    kubectl_with(&world, &["apply", "--filename", "-"], &applied("Xyz789")).await;
    world.until_console(&instance, "Xyz789").await;
    let secret = world.secrets().get("applied").await.unwrap();
    let annotations = secret.metadata.annotations.unwrap_or_default();
    assert!(annotations.values().any(|value| value.contains("Xyz789")), "the usual annotation is there");

    // As README.md says, and as the message of a refused value says.
    let create = ["create", "secret", "generic", "piped", "--from-file=password=/dev/stdin"];
    kubectl_with(&world, &create, "Def456").await;
    let instance = world.object("piped").await;
    world.until_console(&instance, "Def456").await;
    kubectl(&world, &["create", "secret", "generic", "literal", "--from-literal=password=Ghi789"]).await;
    let instance = world.object("literal").await;
    world.until_console(&instance, "Ghi789").await;
    // The mistake that the message speaks of.
    let create = ["create", "secret", "generic", "echoed", "--from-file=password=/dev/stdin"];
    kubectl_with(&world, &create, "Jkl012\n").await;
    world.object("echoed").await;
    world.until_stalled("echoed", Reason::InvalidPassword).await;
    operator.stop().await;
}

// -------------------------------------------------------------------------------------------------------------- rights

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_written_is_told_and_nothing_is_sent() {
    let world = World::new().await;
    let rules = json!([
        {"apiGroups": ["vncpassword.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
    ]);
    let operator = operator_with_rights(&world, &rules).await;
    let missing = world.generated("a", json!({})).await;
    world.secret("b", "Abc123").await;
    let label = json!({"metadata": {"labels": {"vncpassword.dev/writable": "true"}}});
    world.secrets().patch("b", &PatchParams::default(), &Patch::Merge(label)).await.unwrap();
    let there = world.generated("b", json!({})).await;
    for name in ["a", "b"] {
        let status = world.until_stalled(name, Reason::SecretForbidden).await;
        let text = &status.condition(ConditionType::Stalled).unwrap().message;
        let told =
            format!("the operator may not write Secret {name}; grant it get, create and patch on secrets");
        assert!(text.starts_with(&told) && text.contains("User \"operator-of-"), "{text}");
    }
    assert!(world.calls(&missing).is_empty() && world.calls(&there).is_empty());
    let all = ["get", "list", "watch", "create", "patch"];
    let rules = json!([
        {"apiGroups": ["vncpassword.dev"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": all},
    ]);
    grant(&world, &rules).await;
    world.until_healed("a").await;
    world.until_healed("b").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_may_not_be_read_is_told() {
    let world = World::new().await;
    let rules = |secrets: &[&str]| {
        json!([
            {"apiGroups": ["vncpassword.dev"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": secrets},
        ])
    };
    let operator = operator_with_rights(&world, &rules(&["list", "watch"])).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let status = world.until_stalled("a", Reason::SecretForbidden).await;
    assert_eq!(
        status.condition(ConditionType::Stalled).unwrap().message,
        "the operator may not read Secret a; grant it get on secrets in this namespace"
    );
    assert_eq!(world.calls(&instance).len(), 0);
    grant(&world, &rules(&["get", "list", "watch"])).await;
    // Rights are not watched: the next look is 10 minutes away, or at the next change.
    let label = Patch::Merge(json!({"metadata": {"labels": {"touched": "true"}}}));
    world.secrets().patch("a", &PatchParams::default(), &label).await.unwrap();
    world.until_console(&instance, "Abc123").await;
    world.until("a", "Ready", |status| status.ready() == ConditionStatus::True).await;
    operator.stop().await;
}

/// An operator as a user who has only these rights in the world's namespace.
async fn operator_with_rights(world: &World, rules: &Value) -> Operator {
    grant(world, rules).await;
    let mut config = world.config();
    config.auth_info.impersonate = Some(format!("operator-of-{}", world.namespace));
    Operator::start(config, world.settings())
}

async fn grant(world: &World, rules: &Value) {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "it"},
        "rules": rules});
    let user = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "User",
        "name": format!("operator-of-{}", world.namespace)});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "it"}, "subjects": [user],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "it"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]}).to_string();
    kubectl_with(world, &["apply", "--server-side", "--filename", "-"], &list).await;
}

// ------------------------------------------------------------------------------------------------------------- helpers

fn encoded(value: &[u8]) -> Value {
    serde_json::to_value(ByteString(value.to_vec())).unwrap()
}

/// An object with an instance of its own whose Secret has another name.
async fn other_instance(world: &World, name: &str, secret: &Value) -> String {
    let instance = format!("i-{}{name}", world.namespace.replace('-', ""));
    world.cloud().put_instance(vncpassword_emulator::Instance::new(&instance));
    world.object_with(name, json!({"instanceId": instance, "secretRef": secret})).await;
    instance
}

/// How often the operator has read Secret `a`.
fn reads(operator: &Operator, world: &World) -> usize {
    operator.requests().count(&Method::GET, &format!("/namespaces/{}/secrets/a", world.namespace))
}

async fn events(world: &World, name: &str) -> Vec<Event> {
    let events: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let mut events = events.list(&ListParams::default()).await.unwrap().items;
    events.retain(|event| event.regarding.as_ref().and_then(|it| it.name.as_deref()) == Some(name));
    events
}
