//! A role on top of another source.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use jiff::Timestamp;

use super::*;
use crate::{
    clock::Clock,
    credentials::{
        RoleArn,
        test_support::{
            ID, ROLE, assert_bad_replies_are_errors, bad_replies, broken, context, given, said, session,
            sts_refusal, sts_reply,
        },
    },
    test_server::{Act, Server, http},
};

/// Gives these keys, a next one each time and then the last for ever.
struct Source(&'static [&'static str], AtomicUsize);

impl Provider for Source {
    fn name(&self) -> &'static str {
        "source"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        let turn = self.1.fetch_add(1, Ordering::SeqCst);
        let answer = match self.0.get(turn).or(self.0.last()) {
            Some(&"broken") => Err(broken("source")),
            Some(id) => Ok(Some(given(id))),
            None => Ok(None),
        };
        async { answer }.boxed()
    }
}

fn assumed(url: &str, keys: &'static [&'static str]) -> (AssumedRole, Arc<Source>) {
    let source = Arc::new(Source(keys, AtomicUsize::new(0)));
    let cache = Cache::new(Arc::clone(&source) as Arc<dyn Provider>, Clock::new(Timestamp::now));
    let role = AssumeRole {
        role_arn: RoleArn::parse(ROLE).unwrap(),
        session_name: session(),
        external_id: None,
        policy: None,
        duration: Duration::from_secs(900),
    };
    (AssumedRole::new(context(url).sts, Arc::new(cache), role), source)
}

/// What is said, with which keys STS was called, and how often the source was asked.
type Outcome = (Result<Option<String>, String>, Vec<String>, usize);

async fn outcome(acts: Vec<Act>, keys: &'static [&'static str]) -> Outcome {
    let server = Server::start(acts).await;
    let (role, source) = assumed(&server.url(), keys);
    let answer = role.credentials().await.map(|found| found.map(|found| found.access_key_id().to_owned()));
    let answer = answer.map_err(|error| crate::credentials::test_support::assert_no_secrets(&error));
    let requests = server.requests();
    let used = requests.iter().map(|head| {
        let (_, rest) = head.split_once("Credential=").unwrap();
        rest.split_once(',').unwrap().0.to_owned()
    });
    (answer, used.collect(), source.1.load(Ordering::SeqCst))
}

type Keys = &'static [&'static str];

#[tokio::test]
async fn refused_credentials_are_requested_again_once() {
    let good = || Act::Send(http(200, "", &sts_reply(3600)));
    let refused = |code: &str| Act::Send(sts_refusal(code));
    let found = || Ok(Some(ID.to_owned()));
    let error = |code: &str| {
        Err(format!("credentials from assumeRole: AssumeRole was answered with {code} (HTTP 400)"))
    };
    let (key, token, denied) =
        ("InvalidAccessKeyId.NotFound", "InvalidSecurityToken.Expired", "NoPermission");
    let table: [(Vec<Act>, Keys, _, Keys, usize); 8] = [
        (vec![good()], &["one"], found(), &["one"], 1),
        (vec![refused(key), good()], &["one", "two"], found(), &["one", "two"], 2),
        (
            vec![refused(token), refused(key), good()],
            &["one", "two", "three"],
            error(key),
            &["one", "two"],
            2,
        ),
        (vec![refused(key), good()], &["one"], error(key), &["one"], 2),
        (vec![refused(denied), good()], &["one", "two"], error(denied), &["one"], 1),
        (vec![refused(key)], &["one", "broken"], Err("credentials from source: broken".into()), &["one"], 2),
        (vec![], &["broken"], Err("credentials from source: broken".into()), &[], 1),
        (
            vec![],
            &[],
            Err("credentials from assumeRole: there are no credentials to assume the role with".into()),
            &[],
            1,
        ),
    ];
    for (number, (acts, keys, expected, used, asked)) in table.into_iter().enumerate() {
        let used: Vec<_> = used.iter().map(ToString::to_string).collect();
        assert_eq!(outcome(acts, keys).await, (expected, used, asked), "row {number}");
    }
}

#[tokio::test]
async fn every_bad_reply_is_an_error() {
    assert_bad_replies_are_errors(bad_replies(&sts_reply(3600), &sts_reply(3)), &[], |url| {
        assumed(url, &["one"]).0
    })
    .await;
}

#[tokio::test]
async fn the_credentials_name_the_role_provider() {
    let server = Server::start([Act::Send(http(200, "", &sts_reply(3600)))]).await;
    assert_eq!(said(&assumed(&server.url(), &["one"]).0).await, Ok(Some(ID.to_owned())));
}
