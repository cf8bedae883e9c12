//! Shared by the tests of the providers: good and bad replies, and the search for secrets in errors.

use std::{collections::BTreeMap, ffi::OsString, time::Duration};

use jiff::{SignedDuration, Timestamp};

use super::{Credentials, FailureKind, Provider, ProviderContext, ProviderError, Secret, SessionName};
use crate::{
    clock::Clock,
    endpoint::Endpoint,
    rpc::Rpc,
    sts::{Sts, endpoint::StsEndpoint},
    test_server::{Act, Server, http},
};

/// Secrets: no part of them may be shown.
pub(crate) const SECRETS: [&str; 3] =
    ["Zq7xK2mWp9Lr4t", "Tk8vB3nYc5Hd+/=", "eyJhbGciX.Qw6uJ1sEo0Gf.Vx4iN8zRa2Mb"];
/// The access key id of all returned credentials. Its beginning and end may not be shown.
pub(crate) const ID: &str = "STS.Uy5oF1kDg7Sj";

pub(crate) const ROLE: &str = "acs:ram::1234567890123456:role/tester";

pub(crate) fn session() -> SessionName {
    SessionName::parse("cluster.default").unwrap()
}

/// A context that calls this server for everything.
pub(crate) fn context(url: &str) -> ProviderContext {
    let rpc = Rpc::new(Duration::from_secs(1), Clock::new(Timestamp::now)).unwrap();
    let endpoint = Endpoint::parse(url).unwrap();
    let sts = Sts::new(rpc.clone(), StsEndpoint::explicit(endpoint.clone()), Duration::from_secs(1));
    ProviderContext { rpc, sts, metadata: endpoint, session_name: session() }
}

/// An environment with these variables.
pub(crate) fn environment<'a>(
    variables: &[(&'a str, &'a str)],
) -> impl Fn(&str) -> Option<OsString> + use<'a> {
    let variables: BTreeMap<&str, &str> = variables.iter().copied().collect();
    move |name| variables.get(name).map(OsString::from)
}

fn in_seconds(seconds: i64) -> String {
    let time = Timestamp::now() + SignedDuration::from_secs(seconds);
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// An access key as JSON without braces, with this lifetime in seconds.
fn key(seconds: i64) -> String {
    let [secret, token, _] = SECRETS;
    let end = in_seconds(seconds);
    format!(
        r#""AccessKeyId":"{ID}","AccessKeySecret":"{secret}","SecurityToken":"{token}","Expiration":"{end}""#
    )
}

/// The reply of the metadata service and of a credentials URI.
pub(crate) fn key_reply(seconds: i64) -> String {
    format!(r#"{{"Code":"Success","LastUpdated":"2024-05-01T12:00:00Z",{}}}"#, key(seconds))
}

/// The reply of STS.
pub(crate) fn sts_reply(seconds: i64) -> String {
    format!(r#"{{"RequestId":"A-1","AssumedRoleUser":{{"Arn":"x"}},"Credentials":{{{}}}}}"#, key(seconds))
}

/// An error reply of STS that quotes all secrets in its message.
pub(crate) fn sts_refusal(code: &str) -> String {
    http(400, "", &format!(r#"{{"RequestId":"A-1","Code":"{code}","Message":"{}"}}"#, SECRETS.join(" ")))
}

/// All kinds of bad replies, except a missing one. `good`: a good reply as JSON.
pub(crate) fn bad_replies(good: &str, expired: &str) -> Vec<(&'static str, Act)> {
    let [secret, token, _] = SECRETS;
    let send = |status, headers: &str, body: &str| Act::Send(http(status, headers, body));
    let with = |from: &str, to: &str| {
        assert!(good.contains(from), "{good} has no {from}");
        send(200, "", &good.replace(from, to))
    };
    let mut latin = http(200, "", good).into_bytes();
    let at = latin.windows(secret.len()).position(|window| window == secret.as_bytes()).unwrap();
    latin[at] = 0xff;
    vec![
        ("truncated", send(200, "", &good[..good.len() - 20])),
        (
            "cut off by the connection",
            Act::Reset(http(200, "", good).replace("content-length: ", "content-length: 9")),
        ),
        ("empty", send(200, "", "")),
        ("no body", send(204, "", "")),
        ("html", send(200, "", &format!("<html>{secret}</html>"))),
        ("a list", send(200, "", &format!("[{good}]"))),
        ("a word", send(200, "", &format!("{secret}{token}"))),
        ("a redirect", send(302, "location: http://127.0.0.1:1/\r\n", good)),
        ("an error with a key", send(500, "", &format!("<html>{secret}</html>"))),
        ("endless", Act::Flood),
        ("invalid UTF-8", Act::Bytes(latin)),
        ("expired on arrival", send(200, "", expired)),
        ("a number for a secret", with(&format!("\"{secret}\""), "7")),
        ("null for a secret", with(&format!("\"{secret}\""), "null")),
        ("an empty secret", with(secret, "")),
        ("no secret", with("AccessKeySecret", "AccessKeySecrets")),
        ("a header in the token", with(token, "a\\r\\nb: c")),
        ("an empty token", with(token, "")),
        ("no end", with("\"Expiration\"", "\"Expirations\"")),
        ("an end that is no time", with("\"Expiration\":\"2", "\"Expiration\":\"x2")),
        ("an end that is a number", with("\"Expiration\":\"", "\"Expiration\":7,\"Other\":\"")),
        ("no HTTP", Act::Send(format!("{secret}\r\n\r\n"))),
    ]
}

/// Fails if an error contains any four consecutive characters of a secret. Returns the text of the error.
pub(crate) fn assert_no_secrets(error: &dyn std::error::Error) -> String {
    let chain = std::iter::successors(Some(error), |error| error.source());
    let said: Vec<_> = chain.map(|error| format!("{error} {error:?}")).collect();
    let said = said.join("\n");
    for secret in SECRETS.into_iter().chain([&ID[4..]]) {
        for part in secret.as_bytes().windows(4).map(|part| std::str::from_utf8(part).unwrap()) {
            assert!(!said.contains(part), "{part} of a secret in {said}");
        }
    }
    assert!(!said.contains("127.0.0.1"), "a URL in {said}");
    error.to_string()
}

/// The result of a provider, checked for secrets.
pub(crate) async fn said(provider: &dyn Provider) -> Result<Option<String>, String> {
    match provider.credentials().await {
        Ok(Some(credentials)) => {
            assert_eq!(credentials.provider(), provider.name());
            Ok(Some(credentials.access_key_id().to_owned()))
        }
        Ok(None) => Ok(None),
        Err(error) => {
            assert_eq!(error.provider, provider.name());
            Err(assert_no_secrets(&error))
        }
    }
}

/// Gives every bad reply to a provider. Each must be an error that names the provider. `acts`: the replies
/// before.
pub(crate) async fn assert_bad_replies_are_errors<P: Provider>(
    bad: Vec<(&'static str, Act)>,
    acts: &[Act],
    provider: impl Fn(&str) -> P,
) {
    for (name, act) in bad {
        let server = Server::start(acts.iter().cloned().chain([act])).await;
        let provider = provider(&server.url());
        let said = said(&provider).await;
        let error = said.expect_err(name);
        assert!(error.starts_with(&format!("credentials from {}: ", provider.name())), "{name}: {error}");
        assert_eq!(server.requests().len(), acts.len() + 1, "{name}: {error}");
    }
}

/// Credentials for tests.
pub(crate) fn given(id: &str) -> Credentials {
    Credentials::new(id.into(), Secret::from(SECRETS[0]), None).unwrap()
}

/// An error of a provider in a test.
pub(crate) fn broken(provider: &'static str) -> ProviderError {
    ProviderError::new(provider, FailureKind::Refused, "broken")
}
