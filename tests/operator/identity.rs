//! Who calls: the operator's own identity where that is allowed, the keys in a Secret, a role assumed with either; and
//! what happens when they are refused.

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Namespace};
use kube::Api;
use serde_json::{Value, json};
use tokio::time::Instant;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};
use vncpassword_emulator::{AccessKey, Action, Fault, Instance, OidcTrust, Role};
use vncpassword_operator::settings::{Ambient, Settings};
use vncpassword_test_support::{
    Operator, Setup, World,
    observe::{instance_of, let_the_backoff_pass, said, sent, told_once},
    operator::Variables,
    rotation::generated_at,
    world::{until, until_past},
};

/// The operator's own identity is for nobody here.
pub fn settings_without_ambient(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.ambient = Ambient::In(vec!["elsewhere".to_owned()]);
    settings
}

/// Writes a Secret with these credentials.
pub async fn credentials_secret(world: &World, name: &str, values: &[(&str, &str)]) {
    let data: serde_json::Map<_, _> = values
        .iter()
        .map(|(key, value)| ((*key).to_owned(), json!(ByteString(value.as_bytes().into()))))
        .collect();
    world.secret_data(name, Value::Object(data)).await;
}

/// An object of that name, with a Secret, an instance of its own and these credentials.
pub async fn object_with_credentials(world: &World, name: &str, credentials: &str) -> String {
    let instance = instance_of(world, name);
    world.cloud().put_instance(Instance::new(&instance));
    claim(world, name, &instance, credentials).await;
    instance
}

/// The same for an instance that is there.
pub async fn claim(world: &World, name: &str, instance: &str, credentials: &str) {
    world.secret(name, "Abc123").await;
    let spec =
        json!({"instanceId": instance, "secretRef": {"name": name}, "credentialsRef": {"name": credentials}});
    world.object_with(name, spec).await;
}

/// Waits until the value is in effect, though a former process might have sent another.
async fn in_effect(world: &World, name: &str) {
    world.until(name, "in effect", |status| status.ready() == ConditionStatus::True).await;
}

/// The uid of namespace kube-system.
async fn cluster(world: &World) -> String {
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    namespaces.get("kube-system").await.unwrap().metadata.uid.unwrap()
}

const ROLE: &str = "acs:ram::2000000000000002:role/console";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_calls_with_the_keys_in_its_secret() {
    let world = World::new().await;
    world.cloud().put_access_key(AccessKey::new("LTAItenant", "tenant-secret"));
    let operator = world.operator_with(settings_without_ambient(&world));
    credentials_secret(
        &world,
        "keys",
        &[("access-key-id", "LTAItenant"), ("access-key-secret", "tenant-secret")],
    )
    .await;
    let instance = object_with_credentials(&world, "a", "keys").await;
    in_effect(&world, "a").await;
    assert_eq!(world.console(&instance).as_deref(), Some("Abc123"));
    let callers: BTreeSet<_> =
        world.cloud().journal().into_iter().filter_map(|entry| entry.access_key_id).collect();
    assert_eq!(callers, ["LTAItenant".to_owned()].into());
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operators_identity_is_for_the_namespaces_that_were_named() {
    let world = World::new().await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let operator = world.operator_with(settings_without_ambient(&world));
    let status = world.until_stalled("a", Reason::AmbientCredentialsDenied).await;
    assert_eq!(said(&status), (ConditionStatus::False, None, Some(Reason::AmbientCredentialsDenied)));
    let message = told_once(&world, "a", "Warning", Reason::AmbientCredentialsDenied).await;
    assert!(message.contains("spec.credentialsRef") && message.contains("--ambient-credentials-namespaces"));
    world.generated("g", json!({})).await;
    world.until_stalled("g", Reason::AmbientCredentialsDenied).await;
    assert!(world.cloud().journal().is_empty());
    assert!(world.secrets().get_opt("g").await.unwrap().is_none(), "no Secret is made for nothing");
    operator.stop().await;

    let operator = world.operator();
    world.until_console(&instance, "Abc123").await;
    in_effect(&world, "g").await;
    operator.stop().await;

    // What is in effect stays said so, though nothing can be changed any more.
    let operator = world.operator_with(settings_without_ambient(&world));
    for name in ["a", "g"] {
        let status = world.until_stalled(name, Reason::AmbientCredentialsDenied).await;
        assert_eq!(status.ready(), ConditionStatus::True, "{name}");
    }
    world.secret("a", "Xyz789").await;
    let denied = Reason::AmbientCredentialsDenied;
    world
        .until("a", "not Ready", |status| said(status) == (ConditionStatus::False, None, Some(denied)))
        .await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_is_assumed_for_a_secret_that_names_one() {
    let world = World::new().await;
    let (cluster, namespace) = (cluster(&world).await, world.namespace.clone());
    let external_id = format!("{cluster}/{namespace}");
    world.cloud().put_role(Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT).external_id(&external_id));
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance).account("2000000000000002"));
    credentials_secret(&world, "role", &[("role-arn", ROLE)]).await;
    claim(&world, "a", &instance, "role").await;

    let operator = world.operator_with(settings_without_ambient(&world));
    let status = world.until_stalled("a", Reason::AmbientCredentialsDenied).await;
    assert!(status.condition(ConditionType::Stalled).unwrap().message.contains("Secret role"), "{status:?}");
    assert!(world.cloud().journal().is_empty(), "a bare role-arn takes the operator's own identity");
    operator.stop().await;

    let operator = world.operator();
    in_effect(&world, "a").await;
    let assumed = world.calls_of(Action::AssumeRole);
    assert_eq!(assumed.len(), 1, "{assumed:#?}");
    assert_eq!(assumed[0].external_id.as_deref(), Some(external_id.as_str()));
    assert_eq!(assumed[0].role_session_name, Some(format!("{cluster}.{namespace}")));
    assert_eq!(assumed[0].access_key_id.as_deref(), Some(AccessKey::DEFAULT_ID));
    let issued = &world.cloud().issued()[0].access_key_id;
    assert_eq!(world.calls(&instance)[0].access_key_id.as_ref(), Some(issued));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_can_be_assumed_with_keys_of_ones_own() {
    let world = World::new().await;
    world.cloud().put_access_key(AccessKey::new("LTAItenant", "tenant-secret").account("3000000000000003"));
    world.cloud().put_role(Role::new(ROLE).trusting("3000000000000003"));
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance).account("2000000000000002"));
    let keys = [("access-key-id", "LTAItenant"), ("access-key-secret", "tenant-secret"), ("role-arn", ROLE)];
    credentials_secret(&world, "keys", &keys).await;
    claim(&world, "a", &instance, "keys").await;
    let operator = world.operator_with(settings_without_ambient(&world));
    in_effect(&world, "a").await;
    assert_eq!(world.calls_of(Action::AssumeRole)[0].access_key_id.as_deref(), Some("LTAItenant"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_cannot_be_used_never_become_the_operators_identity() {
    let world = World::new().await;
    let operator = world.operator();
    let table: &[(&[(&str, &str)], &str)] = &[
        (&[], "no access-key-id"),
        (&[("other", "x")], "no access-key-id"),
        (&[("access-key-id", "id")], "no access-key-secret"),
        (&[("access-key-secret", "s")], "no access-key-id"),
        (&[("security-token", "t")], "no access-key-id"),
        (&[("security-token", "t"), ("role-arn", ROLE)], "no access-key-id"),
        (&[("access-key-id", ""), ("access-key-secret", "")], "access key id is empty"),
        (&[("access-key-id", "id\n"), ("access-key-secret", "s")], "trailing newline"),
        (&[("access-key-id", "id"), ("access-key-secret", "s"), ("security-token", "")], "token is empty"),
        (&[("role-arn", "")], "role-arn"),
        (&[("role-arn", "console")], "role-arn"),
        (
            &[("access-key-id", "id"), ("access-key-secret", "s"), ("role-arn", "acs:ram::1:user/x")],
            "role-arn",
        ),
    ];
    for (number, (values, said)) in table.iter().enumerate() {
        let (name, secret) = (format!("o{number}"), format!("keys{number}"));
        credentials_secret(&world, &secret, values).await;
        object_with_credentials(&world, &name, &secret).await;
        let status = world.until_stalled(&name, Reason::InvalidCredentials).await;
        let message = &status.condition(ConditionType::Stalled).unwrap().message;
        assert!(message.contains(said) && message.contains(&secret), "{values:?}: {message}");
    }
    object_with_credentials(&world, "lost", "nowhere").await;
    let status = world.until_stalled("lost", Reason::CredentialsNotFound).await;
    let message = &status.condition(ConditionType::Stalled).unwrap().message;
    assert!(message.contains("Secret nowhere of spec.credentialsRef"), "{message}");
    assert!(world.cloud().journal().is_empty(), "{:#?}", world.cloud().journal());

    // Each is mended by its Secret alone.
    let keys = [("access-key-id", AccessKey::DEFAULT_ID), ("access-key-secret", AccessKey::DEFAULT_SECRET)];
    for (name, secret) in [("o0", "keys0"), ("o6", "keys6"), ("lost", "nowhere")] {
        credentials_secret(&world, secret, &keys).await;
        in_effect(&world, name).await;
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_renewed_in_the_secret_are_used_at_once() {
    let world = World::new().await;
    let operator = world.operator_with(settings_without_ambient(&world));
    for (name, code, reason) in [
        ("unknown", "InvalidAccessKeyId.NotFound", Reason::InvalidCredentials),
        ("weak", "Forbidden.RAM", Reason::Denied),
    ] {
        let weak = AccessKey::new("LTAIweak", "weak-secret").denied(Action::ModifyInstanceVncPasswd);
        world.cloud().put_access_key(weak);
        let keys = format!("{name}-keys");
        let old = format!("LTAI{name}");
        credentials_secret(&world, &keys, &[("access-key-id", &old), ("access-key-secret", "weak-secret")])
            .await;
        object_with_credentials(&world, name, &keys).await;
        let drawn = format!("{name}-drawn");
        generated_at(&world, &drawn, Instance::new(""), json!({"credentialsRef": {"name": keys}})).await;
        let status = world.until_stalled(name, reason).await;
        assert_eq!(status.retry.unwrap().code.as_deref(), Some(code));
        world.until_stalled(&drawn, reason).await;
        let new = format!("LTAInew{name}");
        world.cloud().put_access_key(AccessKey::new(&new, "new-secret"));
        let begun = Instant::now();
        credentials_secret(&world, &keys, &[("access-key-id", &new), ("access-key-secret", "new-secret")])
            .await;
        for name in [name, &drawn] {
            in_effect(&world, name).await;
            assert!(begun.elapsed() < Duration::from_secs(20), "{name}: {:?}", begun.elapsed());
        }
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_label_of_the_secret_costs_nothing() {
    let world = World::new().await;
    let (cluster, namespace) = (cluster(&world).await, &world.namespace);
    world.cloud().put_role(
        Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT).external_id(format!("{cluster}/{namespace}")),
    );
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance).account("2000000000000002"));
    credentials_secret(&world, "role", &[("role-arn", ROLE)]).await;
    claim(&world, "a", &instance, "role").await;
    let operator = world.operator();
    in_effect(&world, "a").await;
    let label = kube::api::Patch::Merge(json!({"metadata": {"labels": {"team": "x"}}}));
    world.secrets().patch("role", &kube::api::PatchParams::default(), &label).await.unwrap();
    world.secret("a", "Xyz789").await;
    world.until_console(&instance, "Xyz789").await;
    assert_eq!(world.calls_of(Action::AssumeRole).len(), 1, "the same role goes on");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_costs_a_few_calls_and_every_object_recovers_by_itself() {
    const OBJECTS: usize = 150;
    let world = World::new().await;
    let mut settings = world.settings();
    settings.controller.concurrency = 8;
    let operator = world.operator_with(settings);
    let names: Vec<_> = (0..OBJECTS).map(|number| format!("o{number}")).collect();
    for name in &names {
        world.secret(name, "Abc123").await;
        world.object(name).await;
    }
    for name in &names {
        in_effect(&world, name).await;
    }
    world.cloud().set_access_keys(vec![]);
    let before = world.cloud().journal().len();
    for name in &names {
        world.secret(name, "Xyz789").await;
    }
    for name in &names {
        world.until_stalled(name, Reason::InvalidCredentials).await;
    }
    let refused = world.cloud().journal().len() - before;
    assert!(refused <= 3 * 8, "{refused} calls were refused");
    let renewed = Timestamp::now();
    world.cloud().set_access_keys(vec![AccessKey::default()]);
    let deadline = Instant::now() + Duration::from_secs(150);
    while !names.iter().all(|name| world.console(&instance_of(&world, name)).as_deref() == Some("Xyz789")) {
        assert!(Instant::now() < deadline, "not all recover in time");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let mut calls = world.calls_of(Action::ModifyInstanceVncPasswd);
    calls.retain(|call| call.at > renewed);
    let busiest = calls.windows(40).map(|some| some[39].at.duration_since(some[0].at)).min().unwrap();
    assert!(busiest > jiff::SignedDuration::from_millis(500), "40 calls within {busiest}");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_that_start_together_ask_for_credentials_once_an_identity() {
    const OBJECTS: usize = 500;
    const TOKEN: &str = "projected-token";
    let (world, tenant) = (World::new().await, World::new().await);
    let provider = "acs:ram::1000000000000001:oidc-provider/ack-rrsa-test";
    let own = "acs:ram::1000000000000001:role/operator";
    let oidc = OidcTrust::new(provider).token(TOKEN);
    world.cloud().put_role(Role::new(own).oidc(oidc));
    let external_id = format!("{}/{}", cluster(&world).await, tenant.namespace);
    world.cloud().put_role(Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT).external_id(external_id));
    credentials_secret(&tenant, "role", &[("role-arn", ROLE)]).await;
    for number in 0..OBJECTS {
        let name = format!("o{number}");
        let (own, theirs) = (format!("i-own{number}"), format!("i-theirs{number}"));
        world.cloud().put_instance(Instance::new(&own));
        world.cloud().put_instance(Instance::new(&theirs).account("2000000000000002"));
        world.secret(&name, "Abc123").await;
        world.object_with(&name, json!({"instanceId": own, "secretRef": {"name": name}})).await;
        claim(&tenant, &name, &theirs, "role").await;
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), TOKEN).unwrap();
    let variables = Variables::from([
        ("ALIBABA_CLOUD_ROLE_ARN", own),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", provider),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.path().to_str().unwrap()),
    ]);
    let mut settings = world.settings();
    settings.controller.namespaces.push(tenant.namespace.clone());
    settings.namespace = "vncpassword-system".to_owned();
    let operator = Operator::start(world.config(), Setup { variables, ..settings.into() });
    for number in 0..OBJECTS {
        world.until_console(&format!("i-own{number}"), "Abc123").await;
        world.until_console(&format!("i-theirs{number}"), "Abc123").await;
    }
    let asked = world.calls_of(Action::AssumeRoleWithOidc);
    assert_eq!(asked.len(), 1);
    let session = format!("{}.vncpassword-system", cluster(&world).await);
    assert_eq!(asked[0].role_session_name.as_ref(), Some(&session));
    assert_eq!(world.calls_of(Action::AssumeRole).len(), 1);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_is_named_and_objects_recover_when_it_works() {
    let world = World::new().await;
    let provider = "acs:ram::1000000000000001:oidc-provider/ack-rrsa-test";
    let own = "acs:ram::1000000000000001:role/operator";
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "stale-token").unwrap();
    world
        .cloud()
        .put_role(Role::new(own).oidc(OidcTrust::new(provider).token("good-token").expired("stale-token")));
    let variables = Variables::from([
        ("ALIBABA_CLOUD_ROLE_ARN", own),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", provider),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file.path().to_str().unwrap()),
    ]);
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let operator = Operator::start(world.config(), Setup { variables, ..world.settings().into() });
    let status = world.until_stalled("a", Reason::InvalidCredentials).await;
    let message = &status.condition(ConditionType::Stalled).unwrap().message;
    assert!(message.contains("oidc") && message.contains("Expired"), "{message}");
    assert!(world.calls(&instance).is_empty());
    // The kubelet renews the token.
    std::fs::write(file.path(), "good-token").unwrap();
    let_the_backoff_pass(&world, "a").await;
    world.secret("a", "Xyz789").await;
    world.until_console(&instance, "Xyz789").await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_sts_is_not_noticed_while_the_credentials_live() {
    let world = World::new().await;
    let (cluster, namespace) = (cluster(&world).await, &world.namespace);
    world.cloud().put_role(
        Role::new(ROLE).trusting(AccessKey::DEFAULT_ACCOUNT).external_id(format!("{cluster}/{namespace}")),
    );
    // Two thirds of that are over soon.
    world.cloud().set_sts_lifetime(Some(Duration::from_secs(25)));
    let instance = instance_of(&world, "a");
    world.cloud().put_instance(Instance::new(&instance).account("2000000000000002"));
    credentials_secret(&world, "role", &[("role-arn", ROLE)]).await;
    claim(&world, "a", &instance, "role").await;
    let operator = world.operator();
    in_effect(&world, "a").await;
    let fault = world.cloud().inject(Fault::error(503, "ServiceUnavailable").on(Action::AssumeRole));
    let issued = world.cloud().issued().remove(0);
    until_past(issued.issued_at + Duration::from_secs(18)).await;
    world.secret("a", "Xyz789").await;
    world.until_console(&instance, "Xyz789").await;
    until("new credentials are asked for", async || world.calls_of(Action::AssumeRole).len() > 1).await;
    until_past(issued.expires_at).await;
    world.secret("a", "Lmn456").await;
    world.until_stalled("a", Reason::InvalidCredentials).await;
    world.cloud().remove_fault(fault);
    world.until_console(&instance, "Lmn456").await;
    operator.stop().await;
}

/// Two namespaces whose Secret `keys` holds one of these each, the settings of one operator for both, and an instance.
async fn pair(one: AccessKey, other: AccessKey) -> (World, World, Settings, String) {
    let worlds = (World::new().await, World::new().await);
    let mut settings = settings_without_ambient(&worlds.0);
    settings.controller.namespaces.push(worlds.1.namespace.clone());
    let instance = instance_of(&worlds.0, "shared");
    let cloud = worlds.0.cloud();
    cloud.put_instance(Instance::new(&instance));
    for (world, key) in [(&worlds.0, one), (&worlds.1, other)] {
        let keys = [("access-key-id", key.id.as_str()), ("access-key-secret", key.secret.as_str())];
        credentials_secret(world, "keys", &keys).await;
        cloud.put_access_key(key);
    }
    (worlds.0, worlds.1, settings, instance)
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_identities_the_one_with_the_right_to_the_instance_gets_it() {
    let weak = AccessKey::new("LTAIweak", "weak").only(["i-another"]);
    let (world, other, settings, instance) =
        Box::pin(pair(weak, AccessKey::new("LTAIstrong", "strong"))).await;
    claim(&world, "squatter", &instance, "keys").await;
    // The owner is younger: times of creation are told to the second.
    let created = world.objects().get("squatter").await.unwrap().metadata.creation_timestamp.unwrap();
    until_past(created.0 + Duration::from_secs(1)).await;
    claim(&other, "owner", &instance, "keys").await;
    let operator = world.operator_with(settings);
    in_effect(&other, "owner").await;
    world.until_stalled("squatter", Reason::Conflict).await;
    assert_eq!(sent(&world.calls(&instance)).last(), Some(&"Abc123"));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_two_accounts_are_not_in_each_others_way() {
    let theirs = AccessKey::new("LTAItheirs", "theirs").account("2000000000000002");
    let (world, other, settings, instance) = Box::pin(pair(AccessKey::new("LTAIours", "ours"), theirs)).await;
    claim(&world, "ours", &instance, "keys").await;
    let operator = world.operator_with(settings);
    in_effect(&world, "ours").await;
    assert!(world.calls_of(Action::GetCallerIdentity).is_empty(), "nobody was in doubt");
    claim(&other, "theirs", &instance, "keys").await;
    other.until_stalled("theirs", Reason::InstanceNotFound).await;
    for _ in 0..3 {
        other.secret("theirs", "Xyz789").await;
        world.secret("ours", "Lmn456").await;
        operator.settled(&other).await;
        operator.settled(&world).await;
    }
    assert_eq!(world.console(&instance).as_deref(), Some("Lmn456"));
    assert_eq!(world.calls_of(Action::GetCallerIdentity).len(), 2, "once an identity");
    operator.stop().await;
}
