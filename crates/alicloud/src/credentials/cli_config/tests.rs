//! Profiles of the command line.

use std::fs;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{
    credentials::test_support::{
        ID, ROLE, SECRETS, assert_bad_replies_are_errors, assert_no_secrets, bad_replies, context,
        environment, key_reply, said, session, sts_reply,
    },
    test_server::{Act, Server, http},
};

/// A configuration of these profiles, of which the first is current.
fn config(profiles: &[Value]) -> String {
    json!({"current": profiles[0]["name"], "profiles": profiles, "meta_path": ""}).to_string()
}

/// A provider that reads this text; the file goes with the directory.
fn provider(url: &str, text: &[u8], variables: &[(&str, &str)]) -> (tempfile::TempDir, CliConfig) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("config.json");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let lookup = environment(&[variables, &[(CONFIG_FILE, path)]].concat());
    let provider = CliConfig::read(Variables::new(&lookup), &context(url));
    (directory, provider)
}

/// What is said of a configuration, and the requests that were made.
async fn outcome(acts: Vec<Act>, profiles: &[Value]) -> (Result<Option<String>, String>, Vec<String>) {
    let server = Server::start(acts).await;
    let (_directory, provider) = provider(&server.url(), config(profiles).as_bytes(), &[]);
    let said = said(&provider).await;
    let said = said.map_err(|error| error.strip_prefix("credentials from cliConfig: ").unwrap().to_owned());
    (said, server.requests())
}

fn with(mut profile: Value, more: Value) -> Value {
    let Value::Object(more) = more else { unreachable!() };
    profile.as_object_mut().unwrap().extend(more);
    profile
}

fn ak() -> Value {
    json!({"name": "p", "mode": "AK", "access_key_id": "LTAIcli", "access_key_secret": SECRETS[0], "sts_token": "",
        "region_id": "cn-hangzhou", "retry_timeout": 0, "language": "en"})
}

fn role() -> Value {
    with(
        ak(),
        json!({"mode": "RamRoleArn", "ram_role_arn": ROLE, "ram_session_name": "", "expired_seconds": 900,
        "external_id": "ext", "policy": ""}),
    )
}

fn sts() -> Act {
    Act::Send(http(200, "", &sts_reply(3600)))
}

fn ok(body: &str) -> Act {
    Act::Send(http(200, "", body))
}

/// Profiles, what the server plays, what is said, and what each request holds.
type Row = (Vec<Value>, Vec<Act>, Result<Option<String>, String>, Vec<String>);

#[tokio::test]
async fn each_mode_returns_its_credentials() {
    let key = || ok(&key_reply(3600));
    let instance = json!({"name": "p", "mode": "EcsRamRole", "ram_role_name": "worker"});
    let any_instance = json!({"name": "p", "mode": "EcsRamRole"});
    let through = |mode: &str| with(instance.clone(), json!({"mode": mode, "ram_role_arn": ROLE}));
    let chained = |source: &str| json!({"name": "top", "mode": "ChainableRamRoleArn", "source_profile": source, "ram_role_arn": ROLE});
    let found = |id: &str| Ok(Some(id.to_owned()));
    let keys = "/latest/meta-data/ram/security-credentials/";
    let table: Vec<Row> = vec![
        (vec![ak()], vec![], found("LTAIcli"), vec![]),
        (
            vec![with(ak(), json!({"mode": "StsToken", "sts_token": "token"}))],
            vec![],
            found("LTAIcli"),
            vec![],
        ),
        (vec![role()], vec![sts()], found(ID), vec!["Credential=LTAIcli,".into()]),
        (
            vec![instance.clone()],
            vec![ok("t"), key()],
            found(ID),
            vec!["PUT ".into(), format!("GET {keys}worker ")],
        ),
        (
            vec![any_instance],
            vec![ok("t"), ok("other"), key()],
            found(ID),
            vec!["PUT ".into(), format!("GET {keys} "), format!("GET {keys}other ")],
        ),
        (
            vec![through("RamRoleArnWithRoleName")],
            vec![ok("t"), key(), sts()],
            found(ID),
            vec!["PUT ".into(), "GET ".into(), format!("Credential={ID},")],
        ),
        (
            vec![through("RamRoleArnWithEcs")],
            vec![ok("t"), key(), sts()],
            found(ID),
            vec!["PUT ".into(), "GET ".into(), format!("Credential={ID},")],
        ),
        (vec![chained("p"), ak()], vec![sts()], found(ID), vec!["Credential=LTAIcli,".into()]),
        (
            vec![chained("p"), role()],
            vec![sts(), sts()],
            found(ID),
            vec!["Credential=LTAIcli,".into(), format!("Credential={ID},")],
        ),
    ];
    for (number, (profiles, acts, expected, requests)) in table.into_iter().enumerate() {
        let (said, made) = outcome(acts, &profiles).await;
        assert_eq!(said, expected, "row {number}");
        assert_eq!(made.len(), requests.len(), "row {number}: {made:?}");
        assert!(made.iter().zip(&requests).all(|(made, part)| made.contains(part)), "row {number}: {made:?}");
    }
}

#[tokio::test]
async fn a_role_is_assumed_with_the_settings_of_the_profile() {
    let (_, requests) = outcome(vec![sts()], &[role()]).await;
    for part in ["DurationSeconds=900&", "&ExternalId=ext&", "&RoleSessionName=cluster.default "] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
    let named = with(role(), json!({"ram_session_name": "me", "policy": "{}", "expired_seconds": 0}));
    let (_, requests) = outcome(vec![sts()], &[named]).await;
    for part in ["DurationSeconds=3600&", "&Policy=%7B%7D&", "&RoleSessionName=me "] {
        assert!(requests[0].contains(part), "{part} in {}", requests[0]);
    }
}

#[tokio::test]
async fn a_token_and_a_url_lead_to_credentials_too() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    fs::write(&file, SECRETS[2]).unwrap();
    let oidc = json!({"name": "p", "mode": "OIDC", "oidc_provider_arn": "acs:ram::1:oidc-provider/x",
        "oidc_token_file": file, "ram_role_arn": ROLE, "role_session_name": "python"});
    let (found, requests) = outcome(vec![sts()], &[oidc]).await;
    assert_eq!(found, Ok(Some(ID.to_owned())));
    assert!(requests[0].starts_with("POST /?Action=AssumeRoleWithOIDC&"));

    let server = Server::start([ok(&key_reply(3600))]).await;
    let uri = json!({"name": "p", "mode": "CredentialsURI", "credentials_uri": server.url()});
    assert_eq!(outcome(vec![], &[uri]).await.0, Ok(Some(ID.to_owned())));
}

#[tokio::test]
async fn an_invalid_profile_is_an_error_without_a_call() {
    let mode = |mode: &str| json!({"name": "p", "mode": mode});
    let chained = |name: &str, source: &str| json!({"name": name, "mode": "ChainableRamRoleArn", "source_profile": source, "ram_role_arn": ROLE});
    let unsupported = |mode: &str| format!("the profile cannot be used: {mode} is not supported");
    let missing = |name: &str| format!("the profile cannot be used: {name} is missing");
    let circle = "the profile cannot be used: source_profile leads in a circle, or through too many profiles";
    let table = [
        (vec![mode("CloudSSO")], unsupported("mode CloudSSO")),
        (vec![mode("External")], unsupported("mode External")),
        (vec![mode("OAuth")], unsupported("mode OAuth")),
        (vec![mode("RsaKeyPair")], unsupported("mode RsaKeyPair")),
        (vec![mode("Zq7xK2mWp9Lr4t")], unsupported("its mode")),
        (vec![mode("")], missing("mode")),
        (vec![mode("AK")], missing("access_key_id")),
        (vec![with(ak(), json!({"access_key_secret": ""}))], missing("access_key_secret")),
        (vec![with(ak(), json!({"mode": "StsToken"}))], missing("sts_token")),
        (vec![with(role(), json!({"ram_role_arn": ""}))], missing("ram_role_arn")),
        (vec![mode("OIDC")], missing("oidc_provider_arn")),
        (vec![mode("CredentialsURI")], missing("credentials_uri")),
        (vec![mode("ChainableRamRoleArn")], missing("source_profile")),
        (vec![chained("a", "a")], circle.into()),
        (vec![chained("a", "b"), chained("b", "c"), chained("c", "a")], circle.into()),
        (
            vec![chained("a", "none")],
            "the configuration has no profile of the name that ALIBABA_CLOUD_PROFILE, `current` or source_profile says"
                .into(),
        ),
        (
            vec![with(ak(), json!({"access_key_secret": format!("{} ", SECRETS[0])}))],
            "the profile cannot be used: the access key secret has a character that is not visible ASCII, such as a space \
             or a trailing newline"
                .into(),
        ),
        (
            vec![with(role(), json!({"expired_seconds": 60}))],
            "the profile cannot be used: the session is shorter than 900 seconds or longer than 43200".into(),
        ),
        (
            vec![with(role(), json!({"sts_region": "x.example.com/?"}))],
            "the profile cannot be used: the region of STS is no region id: write it as in cn-hangzhou, in lower case, at \
             most 64 characters"
                .into(),
        ),
        (
            vec![with(mode("EcsRamRole"), json!({"ram_role_name": "../api"}))],
            "the profile cannot be used: the role is no name of a RAM role: it is 1 to 64 letters, digits, dots, hyphens \
             and underscores"
                .into(),
        ),
    ];
    for (profiles, expected) in table {
        let (said, requests) = outcome(vec![sts()], &profiles).await;
        assert_eq!((said, requests.len()), (Err(expected), 0), "{profiles:?}");
    }
}

#[tokio::test]
async fn the_profile_is_the_variables_else_the_current_one() {
    let other = with(ak(), json!({"name": "other", "access_key_id": "LTAIother"}));
    let text = config(&[ak(), other]);
    let table = [
        (&[][..], Ok(Some("LTAIcli".to_owned()))),
        (&[(PROFILE, "other")], Ok(Some("LTAIother".to_owned()))),
        (&[(CLI_PROFILE_DISABLED, "true")], Ok(None)),
        (&[(CLI_PROFILE_DISABLED, "false")], Ok(Some("LTAIcli".to_owned()))),
    ];
    for (variables, expected) in table {
        let (_directory, provider) = provider("http://127.0.0.1:1", text.as_bytes(), variables);
        assert_eq!(said(&provider).await, expected, "{variables:?}");
    }
    let (_directory, provider) =
        provider("http://127.0.0.1:1", text.as_bytes(), &[(PROFILE, "Zq7xK2mWp9Lr4t")]);
    assert!(said(&provider).await.unwrap_err().contains("no profile of the name"));
}

#[tokio::test]
async fn the_file_is_read_each_time_and_a_named_file_must_exist() {
    let (directory, provider) = provider("http://127.0.0.1:1", config(&[ak()]).as_bytes(), &[]);
    assert_eq!(said(&provider).await, Ok(Some("LTAIcli".to_owned())));
    let path = directory.path().join("config.json");
    fs::write(&path, config(&[with(ak(), json!({"access_key_id": "LTAInew"}))])).unwrap();
    assert_eq!(said(&provider).await, Ok(Some("LTAInew".to_owned())));
    fs::remove_file(&path).unwrap();
    assert_eq!(
        said(&provider).await.unwrap_err(),
        "credentials from cliConfig: the file that ALIBABA_CLOUD_CONFIG_FILE names does not exist"
    );
    let lookup = environment(&[("HOME", directory.path().to_str().unwrap())]);
    let at_home = CliConfig::read(Variables::new(&lookup), &context("http://127.0.0.1:1"));
    assert_eq!(said(&at_home).await, Ok(None));
}

#[tokio::test]
async fn every_bad_file_is_an_error() {
    let good = config(&[ak()]);
    let mut latin = good.clone().into_bytes();
    let at = latin.windows(7).position(|window| window == b"LTAIcli").unwrap();
    latin[at] = 0xff;
    let bad: Vec<Vec<u8>> = vec![
        vec![],
        good[..good.len() - 2].into(),
        format!("[{good}]").into(),
        format!("<html>{}</html>", SECRETS[0]).into(),
        good.replace(&format!("\"{}\"", SECRETS[0]), "7").into(),
        good.replace("\"mode\":\"AK\"", "\"mode\":null").into(),
        good.replace("\"current\":\"p\"", "\"current\":\"\"").into(),
        r#"{"current":"p"}"#.into(),
        r#"{"current":"p","profiles":null}"#.into(),
        latin,
        [good.as_bytes(), &[b' '; 300 << 10]].concat(),
    ];
    for text in bad {
        let (_directory, provider) = provider("http://127.0.0.1:1", &text, &[]);
        let error = said(&provider).await.expect_err(&String::from_utf8_lossy(&text));
        assert!(error.starts_with("credentials from cliConfig: "), "{error}");
    }
}

#[tokio::test]
async fn every_bad_reply_is_an_error() {
    // The directory has to outlive its provider.
    let kept = std::sync::Mutex::new(Vec::new());
    let made = |url: &str, profile: Value| {
        let (directory, provider) = provider(url, config(&[profile]).as_bytes(), &[]);
        kept.lock().unwrap().push(directory);
        provider
    };
    assert_bad_replies_are_errors(bad_replies(&sts_reply(3600), &sts_reply(3)), &[], |url| made(url, role()))
        .await;
    assert_bad_replies_are_errors(bad_replies(&key_reply(3600), &key_reply(3)), &[], |url| {
        made(url, json!({"name": "p", "mode": "CredentialsURI", "credentials_uri": url}))
    })
    .await;
    let instance = json!({"name": "p", "mode": "EcsRamRole", "ram_role_name": "role"});
    assert_bad_replies_are_errors(bad_replies(&key_reply(3600), &key_reply(3)), &[ok("t")], |url| {
        made(url, instance.clone())
    })
    .await;
}

proptest! {
    #[test]
    fn no_text_leaks(at in 0_usize..400, cut in 0_usize..400, junk in "[\\PC\"{}\\[\\]:,]{0,9}") {
        let mut text = config(&[role(), ak()]);
        text.insert_str(at.min(text.len()), &junk);
        for text in [&text.as_bytes()[..cut.min(text.len())], text.as_bytes()] {
            let read = reply::json::<Config>(text).map_err(CliConfigError::Unreadable);
            if let Err(problem) = read.and_then(|config| config.profile_chain(None, &session())) {
                assert_no_secrets(&problem);
            }
        }
    }
}
