//! The credentials URI.

use proptest::prelude::*;

use super::*;
use crate::{
    credentials::test_support::{
        ID, SECRETS, context, discreet, environment, key_reply, nonsense, said, survives,
    },
    test_server::{Act, Server, http},
};

fn provider(url: &str) -> CredentialsUri {
    let lookup = environment(&[(CREDENTIALS_URI, url)]);
    CredentialsUri::read(Variables::new(&lookup), context("http://127.0.0.1:1").rpc)
}

#[tokio::test]
async fn the_url_is_asked_as_it_is() {
    let server = Server::start([Act::Send(http(200, "", &key_reply(3600)))]).await;
    assert_eq!(said(&provider(&format!("{}/a?b=c", server.url()))).await, Ok(Some(ID.to_owned())));
    assert!(server.requests()[0].starts_with("GET /a?b=c HTTP/1.1\r\n"), "{:?}", server.requests());
}

#[tokio::test]
async fn what_is_not_set_is_not_configured_and_what_is_no_url_is_an_error() {
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
async fn no_bad_answer_is_taken() {
    survives(nonsense(&key_reply(3600), &key_reply(3)), &[], provider).await;
    let refusal = |code: &str| Act::Send(http(200, "", &key_reply(3600).replace("\"Success\"", code)));
    survives(vec![("failed", refusal("\"Failed\"")), ("no code", refusal("null"))], &[], provider).await;
}

#[tokio::test]
async fn nobody_at_the_url_is_an_error_without_the_url() {
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
                discreet(&CredentialsUriError::from(error));
            }
        }
    }
}
