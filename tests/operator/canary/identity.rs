//! The secrets of every source of credentials: keys, tokens, and what STS and the metadata service give out.

use std::path::PathBuf;

use k8s_openapi::ByteString;
use vncpassword_emulator::{Metadata, OidcTrust, Role as CloudRole};

use super::*;

const ACCOUNT: &str = AccessKey::DEFAULT_ACCOUNT;
const OIDC_PROVIDER: &str = "acs:ram::1000000000000001:oidc-provider/ack-rrsa-test";
/// Three parts, as a token of the API server has.
const OIDC_TOKEN: &str = "eyJoZWFkZXIiOjF9.eyJjYW5hcnlib2R5Ijoxfq.c2lnbmF0dXJlY2FuYXJ5";
const URI_TOKEN: &str = "UriQueryCanary42";
const KEY_SECRET: &str = "FileSecretCanary77";

/// One way to credentials.
struct Source {
    variables: Vec<(&'static str, String)>,
    /// What fails the first time.
    asks: Option<Action>,
    /// What must not be found, besides what the cloud gives out.
    secrets: Vec<(&'static str, &'static str)>,
}

fn role(name: &str) -> String {
    format!("acs:ram::{ACCOUNT}:role/{name}")
}

fn file(directory: &Path, name: &str, text: &str) -> String {
    let path: PathBuf = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

/// Sets up a cloud with a user, a role that trusts its account and a token, and an instance with the role.
fn set_up(world: &World) {
    let cloud = world.cloud();
    cloud.set_access_keys(vec![key(), AccessKey::new("LTAIfilecanary", KEY_SECRET)]);
    let trust = OidcTrust::new(OIDC_PROVIDER).token(OIDC_TOKEN);
    cloud.put_role(CloudRole::new(role("canary")).oidc(trust));
    cloud.set_metadata(Some(Metadata::of_role(role("canary"))));
}

/// Runs the operator with the source failing at first, and looks for its secrets.
async fn nothing_of_it_leaves(name: &str, world: World, source: Source) {
    let Source { variables, asks, secrets: known } = source;
    let fault = asks.map(|action| world.cloud().inject(Fault::body(Garbage::Html).on(action)));
    apply(&world, [secret("a", "password", password("first").as_bytes())]);
    let instance = world.object("a").await;
    let variables: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let program = Program::start_as(&world, &shared_kubeconfig(), "text", &variables).await;
    let mut words = vec!["first".to_owned()];
    if let Some(fault) = fault {
        world.until_stalled("a", Reason::InvalidCredentials).await;
        world.cloud().remove_fault(fault);
        // A failure is remembered for some seconds; until then no new password is sent.
        until("a later password is in effect", async || {
            let later = format!("later {}", words.len());
            apply(&world, [secret("a", "password", password(&later).as_bytes())]);
            program.settled(&world).await;
            let sent = password(&later);
            words.push(later);
            world.console(&instance) == Some(sent)
        })
        .await;
    } else {
        world.until_console(&instance, &password("first")).await;
    }
    world.until("a", "in effect", |status| status.ready() == ConditionStatus::True).await;

    let mut traces = secrets(words);
    for (name, value) in known {
        traces.add(name, value);
    }
    for issued in world.cloud().issued() {
        traces.add("an issued key's id", &issued.access_key_id);
        traces.add("an issued key's secret", &issued.access_key_secret);
        traces.add("an issued token", &issued.security_token);
    }
    for token in world.cloud().metadata_tokens() {
        traces.add("a token of the metadata service", &token);
    }
    let log = nothing_leaves(&world, program, &traces).await;
    assert!(log.contains("password accepted"), "{name}: {log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_rrsa_leaves() {
    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    set_up(&world);
    let source = Source {
        variables: vec![
            ("ALIBABA_CLOUD_ROLE_ARN", role("canary")),
            ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", OIDC_PROVIDER.to_owned()),
            ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", file(directory.path(), "token", OIDC_TOKEN)),
        ],
        asks: Some(Action::AssumeRoleWithOidc),
        secrets: vec![("the token", OIDC_TOKEN), ("the token's signature", "c2lnbmF0dXJlY2FuYXJ5")],
    };
    nothing_of_it_leaves("oidc", world, source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_file_leaves() {
    let (world, directory) = (World::new().await, tempfile::tempdir().unwrap());
    set_up(&world);
    let profile = json!({"current": "p", "profiles": [{"name": "p", "mode": "RamRoleArn", "access_key_id": "LTAIfilecanary",
        "access_key_secret": KEY_SECRET, "ram_role_arn": role("canary"), "ram_session_name": "canary"}]});
    let source = Source {
        variables: vec![(
            "ALIBABA_CLOUD_CONFIG_FILE",
            file(directory.path(), "config.json", &profile.to_string()),
        )],
        asks: Some(Action::AssumeRole),
        secrets: vec![("the key's secret", KEY_SECRET), ("the key's id", "LTAIfilecanary")],
    };
    nothing_of_it_leaves("cliConfig", world, source).await;

    let world = World::new().await;
    set_up(&world);
    let text = format!(
        "[default]\nenable = true\ntype = access_key\naccess_key_id = LTAIfilecanary\naccess_key_secret = {KEY_SECRET}\n"
    );
    let source = Source {
        variables: vec![("ALIBABA_CLOUD_CREDENTIALS_FILE", file(directory.path(), "credentials", &text))],
        asks: None,
        secrets: vec![("the key's secret", KEY_SECRET), ("the key's id", "LTAIfilecanary")],
    };
    nothing_of_it_leaves("credentialsFile", world, source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_the_metadata_service_leaves() {
    let world = World::new().await;
    set_up(&world);
    let source = Source { variables: vec![], asks: Some(Action::MetadataCredentials), secrets: vec![] };
    nothing_of_it_leaves("ecsRamRole", world, source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_a_credentials_uri_leaves() {
    let world = World::new().await;
    set_up(&world);
    let uri = format!("{}/credentials/canary?token={URI_TOKEN}", world.emulator.url());
    let source = Source {
        variables: vec![
            ("ALIBABA_CLOUD_CREDENTIALS_URI", uri),
            ("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true".to_owned()),
        ],
        asks: Some(Action::CredentialsUri),
        secrets: vec![("the URI's token", URI_TOKEN)],
    };
    nothing_of_it_leaves("credentialsUri", world, source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_of_an_objects_own_identity_leaves() {
    let world = World::new().await;
    set_up(&world);
    let data = |values: &[(&str, &str)]| {
        let values =
            values.iter().map(|(key, value)| (key.to_string(), json!(ByteString(value.as_bytes().into()))));
        Value::Object(values.collect())
    };
    let (arn, id) = (role("canary"), ("access-key-id", "LTAIfilecanary"));
    let sets: [(&str, &[(&str, &str)]); 5] = [
        ("keys", &[id, ("access-key-secret", KEY_SECRET)]),
        ("role", &[id, ("access-key-secret", KEY_SECRET), ("role-arn", &arn)]),
        ("wrong", &[id, ("access-key-secret", "WrongSecretCanary5")]),
        ("broken", &[id, ("access-key-secret", "BrokenSecretCanary6\n"), ("security-token", "TokenCanary8")]),
        ("half", &[("access-key-secret", "HalfSecretCanary9")]),
    ];
    for (name, values) in sets {
        world.secret_data(&format!("{name}-keys"), data(values)).await;
        apply(&world, [secret(name, "password", password(name).as_bytes())]);
        let instance = format!("i-{name}{}", world.namespace.replace('-', ""));
        world.cloud().put_instance(Instance::new(&instance));
        let spec = json!({"instanceId": instance, "secretRef": {"name": name},
            "credentialsRef": {"name": format!("{name}-keys")}});
        world.object_with(name, spec).await;
    }
    let program = Program::start(&world, &shared_kubeconfig(), "json").await;
    for name in ["keys", "role"] {
        world.until(name, "in effect", |status| status.ready() == ConditionStatus::True).await;
    }
    for name in ["wrong", "broken", "half"] {
        world.until_stalled(name, Reason::InvalidCredentials).await;
    }
    let mut traces = secrets(sets.iter().map(|(name, _)| (*name).to_owned()));
    for secret in [
        "LTAIfilecanary",
        KEY_SECRET,
        "WrongSecretCanary5",
        "BrokenSecretCanary6",
        "TokenCanary8",
        "HalfSecretCanary9",
    ] {
        traces.add("a value of a Secret", secret);
    }
    for issued in world.cloud().issued() {
        traces.add("an issued key's secret", &issued.access_key_secret);
        traces.add("an issued token", &issued.security_token);
    }
    nothing_leaves(&world, program, &traces).await;
}
