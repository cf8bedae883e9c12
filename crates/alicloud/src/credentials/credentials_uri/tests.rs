//! The credentials URI.

use proptest::prelude::*;

use super::*;
use crate::{
    credentials::test_support::{
        ID, SECRETS, assert_bad_replies_are_errors, assert_no_secrets, bad_replies, context, environment,
        key_reply, said,
    },
    test_server::{Act, Server, http},
};

fn provider(url: &str) -> CredentialsUri {
    let lookup = environment(&[(CREDENTIALS_URI, url)]);
    CredentialsUri::read(Variables::new(&lookup), context("http://127.0.0.1:1").rpc)
}

#[tokio::test]
async fn the_url_is_requested_unchanged() {
    let server = Server::start([Act::Send(http(200, "", &key_reply(3600)))]).await;
    assert_eq!(said(&provider(&format!("{}/a?b=c", server.url()))).await, Ok(Some(ID.to_owned())));
    assert!(server.requests()[0].starts_with("GET /a?b=c HTTP/1.1\r\n"), "{:?}", server.requests());
}

#[tokio::test]
async fn an_unset_variable_is_not_configured_and_an_invalid_url_is_an_error() {
    assert_eq!(said(&provider("")).await, Ok(None));
    for url in ["file:///etc/passwd", "localhost", "ftp://x", "/path", "Zq7xK2mWp9Lr4t"] {
        let error = said(&provider(url)).await.unwrap_err();
        assert_eq!(
            error,
            "credentials from credentialsUri: ALIBABA_CLOUD_CREDENTIALS_URI is no URL that begins with http:// or https://"
        );
    }
}

#[tokio::test]
async fn every_bad_reply_is_an_error() {
    assert_bad_replies_are_errors(bad_replies(&key_reply(3600), &key_reply(3)), &[], provider).await;
    let refusal = |code: &str| Act::Send(http(200, "", &key_reply(3600).replace("\"Success\"", code)));
    assert_bad_replies_are_errors(
        vec![("failed", refusal("\"Failed\"")), ("no code", refusal("null"))],
        &[],
        provider,
    )
    .await;
}

#[tokio::test]
async fn a_server_that_is_down_is_an_error_without_the_url() {
    let url = format!("http://{}:{}@127.0.0.1:1/{}?{}", ID, SECRETS[0], SECRETS[1], SECRETS[2]);
    let error = said(&provider(&url)).await.unwrap_err();
    assert_eq!(error, "credentials from credentialsUri: the server cannot be reached");
}

proptest! {
    #[test]
    fn no_body_leaks(cut in 0_usize..300, junk in ".{0,20}", at in 0_usize..300) {
        let mut body = key_reply(3600);
        let at = at.min(body.len());
        body.insert_str(at, &junk);
        for body in [&body.as_bytes()[..cut.min(body.len())], body.as_bytes()] {
            if let Err(error) = parse_credentials(body) {
                assert_no_secrets(&CredentialsUriError::from(error));
            }
        }
    }
}
