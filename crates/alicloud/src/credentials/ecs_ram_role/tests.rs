//! The metadata service as a server of raw bytes plays it.

use super::*;
use crate::{
    credentials::test_support::{
        ID, assert_bad_replies_are_errors, bad_replies, context, environment, key_reply, said,
    },
    test_server::{Act, Server, http},
};

fn provider(url: &str, variables: &[(&str, &str)]) -> EcsRamRole {
    let lookup = environment(variables);
    let context = context(url);
    EcsRamRole::read(Variables::new(&lookup), context.rpc, context.metadata)
}

fn ok(body: &str) -> Act {
    Act::Send(http(200, "", body))
}

fn status(status: u16) -> Act {
    Act::Send(http(status, "", "no"))
}

#[tokio::test]
async fn token_role_and_credentials_are_requested_in_order() {
    let server = Server::start([ok("to.ken=="), ok("worker-role"), ok(&key_reply(3600))]).await;
    assert_eq!(said(&provider(&server.url(), &[])).await, Ok(Some(ID.to_owned())));
    let requests = server.requests();
    assert!(requests[0].starts_with("PUT /latest/api/token HTTP/1.1\r\n"), "{}", requests[0]);
    assert!(requests[0].contains("x-aliyun-ecs-metadata-token-ttl-seconds: 60\r\n"), "{}", requests[0]);
    assert!(requests[1].starts_with("GET /latest/meta-data/ram/security-credentials/ HTTP/1.1\r\n"));
    assert!(
        requests[2].starts_with("GET /latest/meta-data/ram/security-credentials/worker-role HTTP/1.1\r\n")
    );
    for request in &requests[1..] {
        assert!(request.contains("x-aliyun-ecs-metadata-token: to.ken==\r\n"), "{request}");
    }
}

/// The requests to a server that plays these acts, and the result of the provider.
async fn outcome(acts: Vec<Act>, variables: &[(&str, &str)]) -> (usize, Result<Option<String>, String>) {
    let server = Server::start(acts).await;
    let said = said(&provider(&server.url(), variables)).await;
    let said = said.map_err(|error| error.strip_prefix("credentials from ecsRamRole: ").unwrap().to_owned());
    (server.requests().len(), said)
}

#[tokio::test]
async fn without_a_role_it_is_not_configured_and_all_else_is_an_error() {
    let (named, v2): (&[_], &[_]) = (&[(METADATA_ROLE, "role")], &[(IMDS_V1_DISABLED, "True")]);
    let (found, keys) = (Ok(Some(ID.to_owned())), || ok(&key_reply(3600)));
    let error = |text: &str| Err(format!("the metadata service{text}"));
    let list = ", asked for the name of the role,";
    let table = [
        // IMDSv1 if there is no token and it is allowed.
        (vec![status(404), ok("role\n"), keys()], &[][..], (3, found.clone())),
        (vec![ok("no token at all"), ok("role"), keys()], &[], (3, found.clone())),
        (vec![status(404)], v2, (1, error(" answers with HTTP status 404"))),
        (vec![ok("")], v2, (1, error(" answers the question for a token with none"))),
        (vec![ok("t"), ok("role"), keys()], v2, (3, found.clone())),
        // A named role is not looked for.
        (vec![ok("t"), keys()], named, (2, found)),
        (
            vec![ok("t"), status(404)],
            named,
            (2, error(", asked for credentials, answers with HTTP status 404")),
        ),
        // No role.
        (vec![ok("t"), status(404)], &[], (2, Ok(None))),
        (vec![status(404), status(404)], &[], (2, Ok(None))),
        (vec![ok("t"), status(403)], &[], (2, error(&format!("{list} answers with HTTP status 403")))),
        (vec![ok("t"), status(500)], &[], (2, error(&format!("{list} answers with HTTP status 500")))),
        (
            vec![ok("t"), ok("role"), status(404)],
            &[],
            (3, error(", asked for credentials, answers with HTTP status 404")),
        ),
        (vec![], &[(METADATA_DISABLED, "true")], (0, Ok(None))),
        (vec![], &[(METADATA_DISABLED, "true"), (METADATA_ROLE, "role")], (0, Ok(None))),
    ];
    for (number, (acts, variables, expected)) in table.into_iter().enumerate() {
        assert_eq!(outcome(acts, variables).await, expected, "row {number}");
    }
}

#[tokio::test]
async fn no_role_name_changes_the_path() {
    for name in ["", "../../api/token", "a b", "<html>", "a/b", "..", "a?b", "one\ntwo"] {
        let (requests, said) = outcome(vec![ok("t"), ok(name)], &[]).await;
        assert_eq!(requests, 2, "{name}");
        assert!(
            said.unwrap_err()
                .starts_with("what the metadata service gives as the name of the role is no name"),
            "{name}"
        );
    }
    let (requests, said) = outcome(vec![], &[(METADATA_ROLE, "../api")]).await;
    assert_eq!(requests, 0);
    assert!(said.unwrap_err().starts_with("ALIBABA_CLOUD_ECS_METADATA is no name of a RAM role"));
}

#[tokio::test]
async fn without_a_metadata_service_only_a_named_role_is_an_error() {
    let nobody = "http://127.0.0.1:1";
    assert_eq!(said(&provider(nobody, &[])).await, Ok(None));
    assert_eq!(said(&provider(nobody, &[(IMDS_V1_DISABLED, "true")])).await, Ok(None));
    assert_eq!(
        said(&provider(nobody, &[(METADATA_ROLE, "role")])).await.unwrap_err(),
        "credentials from ecsRamRole: the metadata service cannot be reached"
    );
}

#[tokio::test]
async fn a_missing_token_reply_takes_a_second() {
    let start = std::time::Instant::now();
    let hang = || Act::Hang(String::new());
    let (v2, named) = (&[(IMDS_V1_DISABLED, "true")], &[(METADATA_ROLE, "role")]);
    let (found, nobody, v2, named) = tokio::join!(
        outcome(vec![hang(), ok("role"), ok(&key_reply(3600))], &[]),
        outcome(vec![hang(), hang()], &[]),
        outcome(vec![hang()], v2),
        outcome(vec![hang(), hang()], named),
    );
    assert_eq!(found, (3, Ok(Some(ID.to_owned()))), "version 1");
    assert_eq!(nobody, (2, Ok(None)));
    assert_eq!(v2, (1, Ok(None)));
    let late = "the metadata service, asked for credentials, does not answer in time".to_owned();
    assert_eq!(named, (2, Err(late)));
    assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
}

#[tokio::test]
async fn every_bad_reply_is_an_error() {
    let bad = || bad_replies(&key_reply(3600), &key_reply(3));
    assert_bad_replies_are_errors(bad(), &[ok("t"), ok("role")], |url| provider(url, &[])).await;
    assert_bad_replies_are_errors(bad(), &[ok("t")], |url| provider(url, &[(METADATA_ROLE, "role")])).await;
    assert_bad_replies_are_errors(
        bad().into_iter().filter(|(name, _)| *name != "a word").collect(),
        &[ok("t")],
        |url| provider(url, &[]),
    )
    .await;
}
