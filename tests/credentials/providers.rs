//! Each source of credentials against the emulator, as `vncpassword-operator whoami` tells of it: which one answers, and
//! that one which is broken never leads on to the next.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tempfile::TempDir;
use vncpassword_emulator::{AccessKey, Action, Emulator, Fault, Garbage, Metadata, OidcTrust, Options, Role};

const ACCOUNT: &str = AccessKey::DEFAULT_ACCOUNT;
const OIDC_PROVIDER: &str = "acs:ram::1000000000000001:oidc-provider/ack-rrsa-test";
const TOKEN: &str = "projected-token";

/// The sources in the order of the official SDKs, and who one is through each.
const ORDER: [(&str, &str); 6] = [
    ("environment", "user/environment"),
    ("oidc", "assumed-role/oidc/vnc"),
    ("cliConfig", "user/cli"),
    ("credentialsFile", "user/file"),
    ("ecsRamRole", "assumed-role/node/"),
    ("credentialsUri", "assumed-role/uri/"),
];

/// A cloud in which all sources work, and the variables and files that set each of them up.
struct Scene {
    emulator: Emulator,
    home: TempDir,
}

fn role(name: &str) -> String {
    format!("acs:ram::{ACCOUNT}:role/{name}")
}

impl Scene {
    async fn set() -> Self {
        let emulator = Emulator::start(Options::default()).await.unwrap();
        let cloud = emulator.cloud();
        for name in ["environment", "cli", "file"] {
            let key = AccessKey::new(format!("LTAI{name}"), format!("{name}-secret"));
            cloud.put_access_key(key.principal(format!("user/{name}")));
        }
        let trust = OidcTrust::new(OIDC_PROVIDER).token(TOKEN).expired("old-token");
        cloud.put_role(Role::new(role("oidc")).oidc(trust));
        for name in ["node", "uri", "above"] {
            cloud.put_role(Role::new(role(name)));
        }
        cloud.set_metadata(Some(Metadata::of_role(role("node"))));
        let scene = Self { emulator, home: TempDir::new().unwrap() };
        scene.write("token", TOKEN);
        scene
    }

    fn write(&self, name: &str, text: &str) -> String {
        let path = self.home.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn path(&self, name: &str) -> String {
        self.home.path().join(name).to_str().unwrap().to_owned()
    }

    /// What sets these sources up, as they should be.
    fn working(&self, sources: &[&str]) -> BTreeMap<&'static str, String> {
        let mut variables = BTreeMap::new();
        if !sources.contains(&"ecsRamRole") {
            variables.insert("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true".to_owned());
        }
        for source in sources {
            match *source {
                "environment" => variables.extend([
                    ("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAIenvironment".to_owned()),
                    ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "environment-secret".to_owned()),
                ]),
                "oidc" => variables.extend([
                    ("ALIBABA_CLOUD_ROLE_ARN", role("oidc")),
                    ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", OIDC_PROVIDER.to_owned()),
                    ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", self.path("token")),
                ]),
                "cliConfig" => {
                    let profile =
                        json!({"mode": "AK", "access_key_id": "LTAIcli", "access_key_secret": "cli-secret"});
                    variables.insert("ALIBABA_CLOUD_CONFIG_FILE", self.profile("config.json", profile));
                }
                "credentialsFile" => {
                    let text = "[default]\nenable = true\ntype = access_key\naccess_key_id = LTAIfile\n\
                                access_key_secret = file-secret\n";
                    variables.insert("ALIBABA_CLOUD_CREDENTIALS_FILE", self.write("credentials", text));
                }
                "ecsRamRole" => {}
                "credentialsUri" => {
                    let uri = format!("{}/credentials/uri", self.emulator.url());
                    variables.insert("ALIBABA_CLOUD_CREDENTIALS_URI", uri);
                }
                other => panic!("{other}"),
            }
        }
        variables
    }

    /// A config file of the CLI with this profile as its current one.
    fn profile(&self, file: &str, mut profile: Value) -> String {
        profile["name"] = json!("default");
        self.write(file, &json!({"current": "default", "profiles": [profile]}).to_string())
    }

    fn whoami(&self, variables: &BTreeMap<&str, String>) -> Output {
        let url = self.emulator.url();
        Command::new(env!("CARGO_BIN_EXE_vncpassword-operator"))
            .args(["whoami", "--output", "json", "--region", "cn-hangzhou", "--operator-namespace", "vnc"])
            .args(["--ecs-endpoint", &url, "--sts-endpoint", &url, "--metadata-endpoint", &url])
            .env_clear()
            .env("HOME", self.home.path())
            .env("KUBECONFIG", "/nowhere")
            .envs(variables)
            .output()
            .unwrap()
    }

    /// The provider that answers, and who one is through it.
    #[track_caller]
    fn answer(&self, variables: &BTreeMap<&str, String>) -> (String, String) {
        let output = self.whoami(variables);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let arn = answer["arn"].as_str().unwrap();
        let principal = arn.split_once("::").unwrap().1.split_once(':').unwrap().1;
        (answer["provider"].as_str().unwrap().to_owned(), principal.to_owned())
    }

    /// What is said where nobody answers.
    #[track_caller]
    fn problem(&self, variables: &BTreeMap<&str, String>) -> String {
        let output = self.whoami(variables);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
        said
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sources_are_asked_in_the_order_of_the_official_sdks() {
    let scene = Scene::set().await;
    let mut sources: Vec<_> = ORDER.iter().map(|(source, _)| *source).collect();
    for (source, principal) in ORDER {
        let (provider, who) = scene.answer(&scene.working(&sources));
        assert_eq!(provider, source);
        assert!(who.starts_with(principal), "{source}: {who}");
        sources.remove(0);
    }
    let said = scene.problem(&scene.working(&[]));
    assert!(said.contains("no credentials are configured"), "{said}");
}

/// A source, what is wrong with it, and the variables that make it so.
type Broken<'a> = (&'a str, &'a str, Vec<(&'a str, String)>);

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_is_broken_is_told_and_never_leads_on_to_the_next() {
    let scene = Scene::set().await;
    let text = |file: &str, text: &str| scene.write(file, text);
    let table: Vec<Broken<'_>> = vec![
        ("environment", "half a key", vec![("ALIBABA_CLOUD_ACCESS_KEY_SECRET", String::new())]),
        ("oidc", "no token", vec![("ALIBABA_CLOUD_OIDC_TOKEN_FILE", scene.path("missing"))]),
        ("oidc", "an empty token", vec![("ALIBABA_CLOUD_OIDC_TOKEN_FILE", text("empty", ""))]),
        ("oidc", "an expired token", vec![("ALIBABA_CLOUD_OIDC_TOKEN_FILE", text("old", "old-token"))]),
        ("oidc", "another's token", vec![("ALIBABA_CLOUD_OIDC_TOKEN_FILE", text("other", "another-token"))]),
        ("oidc", "no such role", vec![("ALIBABA_CLOUD_ROLE_ARN", role("missing"))]),
        ("oidc", "no provider", vec![("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", String::new())]),
        ("oidc", "no token file named", vec![("ALIBABA_CLOUD_OIDC_TOKEN_FILE", String::new())]),
        ("cliConfig", "no file", vec![("ALIBABA_CLOUD_CONFIG_FILE", scene.path("missing"))]),
        ("cliConfig", "no JSON", vec![("ALIBABA_CLOUD_CONFIG_FILE", text("config-bad", "{"))]),
        ("cliConfig", "no such profile", vec![("ALIBABA_CLOUD_PROFILE", "another".to_owned())]),
        (
            "cliConfig",
            "a mode that is not supported",
            vec![("ALIBABA_CLOUD_CONFIG_FILE", scene.profile("sso", json!({"mode": "CloudSSO"})))],
        ),
        ("credentialsFile", "no file", vec![("ALIBABA_CLOUD_CREDENTIALS_FILE", scene.path("missing"))]),
        (
            "credentialsFile",
            "half a key",
            vec![(
                "ALIBABA_CLOUD_CREDENTIALS_FILE",
                text("half", "[default]\ntype = access_key\naccess_key_id = LTAIfile\n"),
            )],
        ),
        ("ecsRamRole", "no such role", vec![("ALIBABA_CLOUD_ECS_METADATA", "missing".to_owned())]),
    ];
    for (source, problem, broken) in table {
        let place = ORDER.iter().position(|(other, _)| *other == source).unwrap();
        let sources: Vec<_> = ORDER[place..].iter().map(|(source, _)| *source).collect();
        let mut variables = scene.working(&sources);
        variables.extend(broken);
        let before = scene.emulator.cloud().journal().len();
        let said = scene.problem(&variables);
        assert!(said.contains(&format!("credentials from {source}: ")), "{source}, {problem}: {said}");
        for secret in ["-secret", TOKEN, "old-token", "another-token", "LTAI"] {
            assert!(!said.contains(secret), "{source}, {problem}: {said}");
        }
        // Nobody else was asked.
        let asked = &scene.emulator.cloud().journal()[before..];
        let own: &[&str] = match source {
            "oidc" => &["AssumeRoleWithOIDC"],
            "ecsRamRole" => &["MetadataToken", "MetadataRole", "MetadataCredentials"],
            _ => &[],
        };
        for call in asked {
            assert!(own.contains(&call.action.as_str()), "{source}, {problem}: {call:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_profile_of_the_cli_can_name_any_source() {
    let scene = Scene::set().await;
    let url = scene.emulator.url();
    let keys = json!({"access_key_id": "LTAIcli", "access_key_secret": "cli-secret"});
    let with = |mut profile: Value, mode: &str, more: Value| {
        profile["mode"] = json!(mode);
        profile.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        profile
    };
    let none = json!({});
    let above = json!({"ram_role_arn": role("above"), "ram_session_name": "me"});
    let table = [
        ("AK", with(keys.clone(), "AK", json!({})), "user/cli"),
        ("RamRoleArn", with(keys, "RamRoleArn", above.clone()), "assumed-role/above/me"),
        (
            "EcsRamRole",
            with(none.clone(), "EcsRamRole", json!({"ram_role_name": "node"})),
            "assumed-role/node/",
        ),
        (
            "OIDC",
            with(
                none.clone(),
                "OIDC",
                json!({"oidc_provider_arn": OIDC_PROVIDER, "oidc_token_file": scene.path("token"),
                    "ram_role_arn": role("oidc"), "ram_session_name": "me"}),
            ),
            "assumed-role/oidc/me",
        ),
        (
            "CredentialsURI",
            with(none, "CredentialsURI", json!({"credentials_uri": format!("{url}/credentials/uri")})),
            "assumed-role/uri/",
        ),
    ];
    for (mode, profile, principal) in table {
        let mut variables = scene.working(&["cliConfig"]);
        variables.insert("ALIBABA_CLOUD_CONFIG_FILE", scene.profile(mode, profile));
        let (provider, who) = scene.answer(&variables);
        assert_eq!(provider, "cliConfig", "{mode}");
        assert!(who.starts_with(principal), "{mode}: {who}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metadata_service_is_asked_by_token_first() {
    let scene = Scene::set().await;
    let cloud = scene.emulator.cloud();
    let variables = scene.working(&["ecsRamRole"]);
    scene.answer(&variables);
    let asked = || {
        let mut journal = cloud.journal();
        journal.retain(|entry| entry.action == Action::MetadataCredentials.as_str());
        journal.last().map(|entry| entry.metadata_token)
    };
    assert_eq!(asked(), Some(true));
    // Where the token never comes, since a pod is a hop too far away, the old way is taken only if it is allowed.
    cloud.set_metadata(Some(Metadata::of_role(role("node")).token_hangs()));
    scene.answer(&variables);
    assert_eq!(asked(), Some(false));
    let mut hardened = variables.clone();
    hardened.insert("ALIBABA_CLOUD_IMDSV1_DISABLED", "true".to_owned());
    hardened.insert("ALIBABA_CLOUD_ECS_METADATA", "node".to_owned());
    let said = scene.problem(&hardened);
    assert!(said.contains("credentials from ecsRamRole: "), "{said}");
    // What is no metadata service at all is no source.
    cloud.set_metadata(None);
    let said = scene.problem(&variables);
    assert!(said.contains("no credentials are configured"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoami_tells_what_is_missing_and_shows_no_secret() {
    let scene = Scene::set().await;
    let text = |variables: &BTreeMap<&str, String>| {
        let url = scene.emulator.url();
        Command::new(env!("CARGO_BIN_EXE_vncpassword-operator"))
            .args(["whoami", "--region", "cn-hangzhou", "--ecs-endpoint", &url, "--sts-endpoint", &url])
            .env_clear()
            .env("HOME", Path::new("/nowhere"))
            .envs(variables)
            .output()
            .unwrap()
    };
    let variables = scene.working(&["oidc"]);
    let output = text(&variables);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success());
    for part in [
        "provider     oidc",
        ACCOUNT,
        "assumed-role/oidc/default ",
        "from now",
        "DescribeInstances        yes",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    for issued in scene.emulator.cloud().issued() {
        for secret in [issued.access_key_id, issued.access_key_secret, issued.security_token] {
            assert!(!said.contains(&secret), "{said}");
        }
    }
    scene.emulator.cloud().put_role(
        Role::new(role("oidc"))
            .oidc(OidcTrust::new(OIDC_PROVIDER).token(TOKEN))
            .denied(Action::DescribeInstances),
    );
    let output = text(&variables);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("ecs:DescribeInstances        no: ") && said.contains("Forbidden.RAM"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_that_could_not_be_tried_is_not_known_rather_than_missing() {
    let scene = Scene::set().await;
    let variables = scene.working(&["environment"]);
    for fault in [
        Fault::throttled(None),
        Fault::error(503, "ServiceUnavailable"),
        Fault::error(500, "Strange"),
        Fault::error(400, "Strange"),
        Fault::body(Garbage::Html),
        Fault::reset_before(),
    ] {
        scene.emulator.cloud().inject(fault.clone().on(Action::DescribeInstances).times(1));
        let output = scene.whoami(&variables);
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        let rights = answer["rights"].as_array().unwrap();
        let right = rights.iter().find(|right| right["action"] == "ecs:DescribeInstances").unwrap();
        assert_eq!(right["granted"], Value::Null, "{fault:?}: {right}");
        assert!(!right["because"].as_str().unwrap().is_empty(), "{fault:?}");
        assert!(output.status.success(), "{fault:?}: what is not known is no failure");
    }
}
