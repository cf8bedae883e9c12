//! OIDC: the variables, the token file, and what STS answers.

use std::fs;

use super::*;
use crate::{
    credentials::test_support::{
        ID, ROLE, SECRETS, assert_bad_replies_are_errors, bad_replies, context, environment, said, session,
        sts_refusal, sts_reply,
    },
    test_server::{Act, Server, http},
};

const PROVIDER: &str = "acs:ram::1234567890123456:oidc-provider/ack";

fn provider(url: &str, variables: &[(&str, &str)]) -> Oidc {
    let lookup = environment(variables);
    Oidc::read(Variables::new(&lookup), context(url).sts, &session())
}

/// A token file, deleted with the directory.
fn token_file(content: &[u8]) -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    fs::write(&path, content).unwrap();
    let path = path.to_str().unwrap().to_owned();
    (directory, path)
}

fn configured(url: &str, file: &str) -> Oidc {
    provider(url, &[(ROLE_ARN, ROLE), (OIDC_PROVIDER_ARN, PROVIDER), (OIDC_TOKEN_FILE, file)])
}

#[tokio::test]
async fn the_token_is_sent_in_the_body_and_read_each_time() {
    let answer = Act::Send(http(200, "", &sts_reply(3600)));
    let server = Server::start([answer.clone(), answer]).await;
    let (_directory, file) = token_file(format!("{}\r\n", SECRETS[2]).as_bytes());
    let oidc = configured(&server.url(), &file);
    assert_eq!(said(&oidc).await, Ok(Some(ID.to_owned())));
    fs::write(&file, "a.newer.token").unwrap();
    assert_eq!(said(&oidc).await, Ok(Some(ID.to_owned())));

    let (requests, bodies) = (server.requests(), server.bodies());
    let line = requests[0].lines().next().unwrap();
    assert!(line.starts_with("POST /?Action=AssumeRoleWithOIDC&Format=JSON&SignatureNonce="), "{line}");
    assert!(line.contains("&Timestamp=") && line.contains("&Version=2015-04-01 "), "{line}");
    assert!(requests[0].contains("content-type: application/x-www-form-urlencoded\r\n"));
    assert!(!requests.concat().contains("authorization") && !requests.concat().contains("Qw6uJ1sEo0Gf"));
    assert_eq!(
        bodies[0],
        format!(
            "DurationSeconds=3600&OIDCProviderArn=acs%3Aram%3A%3A1234567890123456%3Aoidc-provider%2Fack&OIDCToken={}\
             &RoleArn=acs%3Aram%3A%3A1234567890123456%3Arole%2Ftester&RoleSessionName=cluster.default",
            SECRETS[2]
        )
    );
    assert!(bodies[1].contains("OIDCToken=a.newer.token&"), "{}", bodies[1]);
}

/// Variables that are set.
type Set<'a> = &'a [(&'a str, &'a str)];

#[tokio::test]
async fn all_variables_or_none() {
    let (role, idp, file) = ((ROLE_ARN, ROLE), (OIDC_PROVIDER_ARN, PROVIDER), (OIDC_TOKEN_FILE, "/none"));
    let missing = |name: &str| Err(format!("{name} is missing, though another variable of the role is set"));
    let table: [(Set<'_>, Result<Option<String>, String>); 9] = [
        (&[], Ok(None)),
        (&[(ROLE_SESSION_NAME, "x.y")], Ok(None)),
        (&[role], missing(OIDC_PROVIDER_ARN)),
        (&[idp], missing(ROLE_ARN)),
        (&[file], missing(ROLE_ARN)),
        (&[role, file], missing(OIDC_PROVIDER_ARN)),
        (&[role, idp], missing(OIDC_TOKEN_FILE)),
        (
            &[(ROLE_ARN, "tester"), idp, file],
            Err("ALIBABA_CLOUD_ROLE_ARN is no ARN of a RAM role: write it as in acs:ram::1234567890123456:role/name".into()),
        ),
        (
            &[role, idp, file, (ROLE_SESSION_NAME, "a b")],
            Err("ALIBABA_CLOUD_ROLE_SESSION_NAME is no session name: it is 2 to 64 letters, digits, dots, hyphens, \
                 underscores and @"
                .into()),
        ),
    ];
    for (variables, expected) in table {
        let said = said(&provider("http://127.0.0.1:1", variables)).await;
        assert_eq!(
            said,
            expected.map_err(|problem| format!("credentials from oidc: {problem}")),
            "{variables:?}"
        );
    }
}

#[tokio::test]
async fn a_file_without_a_token_is_an_error_without_a_call() {
    let table: [(&[u8], &str); 5] = [
        (b"", "the token file is empty"),
        (b"\n", "the token file is empty"),
        (
            b"Zq7xK2mWp9Lr4t\nZq7xK2mWp9Lr4t",
            "the token file holds no token: it has a character that is not visible ASCII",
        ),
        (b"\xffZq7xK2mWp9Lr4t", "the token file is not valid UTF-8"),
        (&vec![b'x'; 300 << 10], "the token file is longer than 256 KiB"),
    ];
    let server = Server::start([]).await;
    for (content, expected) in table {
        let (_directory, file) = token_file(content);
        let error = said(&configured(&server.url(), &file)).await.unwrap_err();
        assert_eq!(error, format!("credentials from oidc: ALIBABA_CLOUD_OIDC_TOKEN_FILE: {expected}"));
    }
    let error = said(&configured(&server.url(), "/nowhere/Zq7xK2mWp9Lr4t")).await.unwrap_err();
    assert!(error.ends_with("ALIBABA_CLOUD_OIDC_TOKEN_FILE: the token file does not exist"), "{error}");
    assert_eq!(server.requests().len(), 0);
}

#[tokio::test]
async fn every_bad_reply_is_an_error() {
    let (_directory, file) = token_file(SECRETS[2].as_bytes());
    assert_bad_replies_are_errors(bad_replies(&sts_reply(3600), &sts_reply(3)), &[], |url| {
        configured(url, &file)
    })
    .await;
    let refusal = Act::Send(sts_refusal("AuthenticationFail.OIDCToken.Expired"));
    let quoting = Act::Send(sts_refusal("No.Qw6uJ1sEo0Gf"));
    assert_bad_replies_are_errors(vec![("refused", refusal), ("quoting", quoting)], &[], |url| {
        configured(url, &file)
    })
    .await;
}

#[tokio::test]
async fn a_refusal_shows_its_code() {
    let (_directory, file) = token_file(SECRETS[2].as_bytes());
    let server = Server::start([Act::Send(sts_refusal("AuthenticationFail.OIDCToken.Expired"))]).await;
    assert_eq!(
        said(&configured(&server.url(), &file)).await.unwrap_err(),
        "credentials from oidc: AssumeRoleWithOIDC was answered with AuthenticationFail.OIDCToken.Expired (HTTP 400)"
    );
}

#[tokio::test]
async fn a_thousand_callers_make_one_call() {
    let (_directory, file) = token_file(SECRETS[2].as_bytes());
    let server = Server::start(vec![Act::Send(http(200, "", &sts_reply(3600))); 9]).await;
    let oidc = configured(&server.url(), &file);
    let cache = crate::credentials::Cache::new(
        std::sync::Arc::new(oidc),
        crate::clock::Clock::new(jiff::Timestamp::now),
    );
    let answers = futures::future::join_all((0..1000).map(|_| cache.get())).await;
    assert!(answers.iter().all(|answer| answer.as_ref().unwrap().as_ref().unwrap().access_key_id() == ID));
    assert_eq!(server.requests().len(), 1);
}
