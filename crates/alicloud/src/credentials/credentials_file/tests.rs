//! Sections of the credentials file.

use std::fs;

use proptest::prelude::*;

use super::*;
use crate::{
    credentials::test_support::{
        ID, ROLE, SECRETS, assert_bad_replies_are_errors, assert_no_secrets, bad_replies, context,
        environment, key_reply, said, session, sts_reply,
    },
    test_server::{Act, Server, http},
};

fn provider(url: &str, text: &[u8], variables: &[(&str, &str)]) -> (tempfile::TempDir, CredentialsFile) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("credentials");
    fs::write(&path, text).unwrap();
    let path = path.to_str().unwrap();
    let lookup = environment(&[variables, &[(CREDENTIALS_FILE, path)]].concat());
    let provider = CredentialsFile::read(Variables::new(&lookup), &context(url));
    (directory, provider)
}

/// What is said of a section `[default]` of these lines, and how many requests were made.
async fn outcome(acts: Vec<Act>, lines: &str) -> (Result<Option<String>, String>, usize) {
    let server = Server::start(acts).await;
    let (_directory, provider) = provider(&server.url(), format!("[default]\n{lines}").as_bytes(), &[]);
    let said = said(&provider).await;
    let said =
        said.map_err(|error| error.strip_prefix("credentials from credentialsFile: ").unwrap().to_owned());
    (said, server.requests().len())
}

fn ok(body: &str) -> Act {
    Act::Send(http(200, "", body))
}

fn keys() -> String {
    format!("access_key_id = LTAIini # mine\naccess_key_secret = {}\n", SECRETS[0])
}

#[tokio::test]
async fn each_type_returns_its_credentials() {
    let (sts, key) = (|| ok(&sts_reply(3600)), || ok(&key_reply(3600)));
    let directory = tempfile::tempdir().unwrap();
    let token = directory.path().join("token");
    fs::write(&token, SECRETS[2]).unwrap();
    let keys = keys();
    let found = |id: &str| Ok(Some(id.to_owned()));
    let unusable = |what: &str| Err(format!("the section cannot be used: {what}"));
    let table = [
        (format!("type = access_key\n{keys}"), vec![], found("LTAIini"), 0),
        (format!("enable = true\ntype = access_key\n{keys}"), vec![], found("LTAIini"), 0),
        (format!("enable = False\ntype = access_key\n{keys}"), vec![], Ok(None), 0),
        (format!("type = sts\n{keys}security_token = token"), vec![], found("LTAIini"), 0),
        ("type = ecs_ram_role\nrole_name = worker".into(), vec![ok("t"), key()], found(ID), 2),
        ("type = ecs_ram_role".into(), vec![ok("t"), ok("worker"), key()], found(ID), 3),
        (format!("type = ram_role_arn\n{keys}role_arn = {ROLE}"), vec![sts()], found(ID), 1),
        (
            format!(
                "type = oidc_role_arn\nrole_arn = {ROLE}\noidc_provider_arn = acs:ram::1:oidc-provider/x\n\
                 oidc_token_file_path = {}",
                token.display()
            ),
            vec![sts()],
            found(ID),
            1,
        ),
        (keys.clone(), vec![], unusable("type is missing"), 0),
        ("type = rsa_key_pair".into(), vec![], unusable("type rsa_key_pair is not supported"), 0),
        ("type = bearer".into(), vec![], unusable("type bearer is not supported"), 0),
        (format!("type = {}", SECRETS[0]), vec![], unusable("its type is not supported"), 0),
        ("type = access_key".into(), vec![], unusable("access_key_id is missing"), 0),
        ("type = access_key\naccess_key_id = x".into(), vec![], unusable("access_key_secret is missing"), 0),
        (format!("type = sts\n{keys}"), vec![], unusable("security_token is missing"), 0),
        (format!("type = ram_role_arn\n{keys}"), vec![], unusable("role_arn is missing"), 0),
        (
            format!("type = ram_role_arn\n{keys}role_arn = {ROLE}\nrole_session_name = a b"),
            vec![],
            unusable(
                "the session is no session name: it is 2 to 64 letters, digits, dots, hyphens, underscores and @",
            ),
            0,
        ),
    ];
    for (lines, acts, expected, requests) in table {
        assert_eq!(outcome(acts, &lines).await, (expected, requests), "{lines}");
    }
}

#[tokio::test]
async fn the_section_is_the_variables_else_the_default() {
    let text = format!("[other]\ntype = access_key\n{}", keys());
    let (_directory, named) = provider("http://127.0.0.1:1", text.as_bytes(), &[(PROFILE, "other")]);
    assert_eq!(said(&named).await, Ok(Some("LTAIini".to_owned())));
    let (_directory, missing) =
        provider("http://127.0.0.1:1", text.as_bytes(), &[(PROFILE, "Zq7xK2mWp9Lr4t")]);
    assert_eq!(
        said(&missing).await.unwrap_err(),
        "credentials from credentialsFile: the file has no section of the name that ALIBABA_CLOUD_PROFILE says"
    );
    let (_directory, default) = provider("http://127.0.0.1:1", text.as_bytes(), &[]);
    assert_eq!(
        said(&default).await.unwrap_err(),
        "credentials from credentialsFile: the file has no section [default]"
    );
}

#[tokio::test]
async fn a_named_file_and_a_named_profile_must_exist() {
    let nowhere = |variables: &[(&str, &str)]| {
        let lookup = environment(&[variables, &[("HOME", "/nowhere")]].concat());
        CredentialsFile::read(Variables::new(&lookup), &context("http://127.0.0.1:1"))
    };
    assert_eq!(said(&nowhere(&[])).await, Ok(None));
    assert_eq!(
        said(&nowhere(&[(CREDENTIALS_FILE, "/nowhere/Zq7xK2mWp9Lr4t")])).await.unwrap_err(),
        "credentials from credentialsFile: the file that ALIBABA_CLOUD_CREDENTIALS_FILE names does not exist"
    );
    assert_eq!(
        said(&nowhere(&[(PROFILE, "p")])).await.unwrap_err(),
        "credentials from credentialsFile: ALIBABA_CLOUD_PROFILE names a profile, but there is neither a credentials file nor \
         a CLI config that holds it"
    );
}

#[tokio::test]
async fn every_bad_file_is_an_error() {
    let good = format!("[default]\ntype = access_key\n{}", keys());
    let bad: Vec<Vec<u8>> = vec![
        vec![],
        format!("[default\n{}", keys()).into(),
        format!("{}{good}", SECRETS[0]).into(),
        format!("{good}{}", SECRETS[0]).into(),
        format!("<html>{}</html>", SECRETS[0]).into(),
        format!("{{\"a\": \"{}\"}}", SECRETS[0]).into(),
        good.replace("LTAIini", "LTAI\u{e4}").into(),
        good.replace("LTAIini", "LTAI ini").into(),
        [good.as_bytes(), b"\xff"].concat(),
        [good.as_bytes(), &[b'\n'; 300 << 10]].concat(),
    ];
    for text in bad {
        let (_directory, provider) = provider("http://127.0.0.1:1", &text, &[]);
        let error = said(&provider).await.expect_err(&String::from_utf8_lossy(&text));
        assert!(error.starts_with("credentials from credentialsFile: "), "{error}");
    }
}

#[tokio::test]
async fn every_bad_reply_is_an_error() {
    // The directory has to outlive its provider.
    let kept = std::sync::Mutex::new(Vec::new());
    let made = |url: &str| {
        let text = format!("[default]\ntype = ram_role_arn\nrole_arn = {ROLE}\n{}", keys());
        let (directory, provider) = provider(url, text.as_bytes(), &[]);
        kept.lock().unwrap().push(directory);
        provider
    };
    assert_bad_replies_are_errors(bad_replies(&sts_reply(3600), &sts_reply(3)), &[], made).await;
}

proptest! {
    #[test]
    fn no_text_leaks(at in 0_usize..150, cut in 0_usize..150, junk in "[\\PC=\\[\\]#\n]{0,9}") {
        let mut text = format!("[default]\ntype = ram_role_arn\nrole_arn = {ROLE}\n{}", keys());
        text.insert_str(at.min(text.len()), &junk);
        text.retain(|c| c.is_ascii());
        for text in [&text[..cut.min(text.len())], &text] {
            let found = Ini::parse(text).map_err(CredentialsFileError::from).and_then(|ini| {
                let section = ini.section("default").ok_or(CredentialsFileError::NoDefault)?;
                Ok(profile_chain(section, &session())?)
            });
            if let Err(problem) = found {
                assert_no_secrets(&problem);
            }
        }
    }
}
