//! The client against a server of raw bytes.

use std::{
    io::Write,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use futures::{FutureExt, future::BoxFuture};
use proptest::{collection::vec, prelude::*};
use tokio::net::TcpListener;

use super::*;
use crate::{
    credentials::{Cache, Credentials, FailureKind, Provider, ProviderError, Secret},
    error::Unreadable,
    rpc::{MAX_RETRY_AFTER, interpret},
    test_server::{Act, Server, http},
    transport::Received,
};

/// A short time limit for tests of timeouts.
const BRIEF: Duration = Duration::from_millis(200);

/// What must not be seen anywhere: the password, and the access key's id, secret and token.
const CANARIES: [&str; 4] = ["Canry7", "LTAIcanaryid", "canarysecret", "canarytoken+/="];

const ACCEPTED: &str = r#"{"RequestId":"473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E"}"#;

fn canary_credentials() -> Credentials {
    let [_, id, secret, token] = CANARIES;
    Credentials::new(id.into(), Secret::from(secret), Some(Secret::from(token))).unwrap()
}

/// Gives the canaries and counts how often it was asked.
#[derive(Default)]
struct Canaries(AtomicUsize);

impl Provider for Canaries {
    fn name(&self) -> &'static str {
        "canaries"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Ok(Some(canary_credentials()))).boxed()
    }
}

/// Returns a fixed result; `None`: the request never completes.
struct Fixed(Option<Result<Option<Credentials>, ProviderError>>);

impl Provider for Fixed {
    fn name(&self) -> &'static str {
        "fixed"
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        match self.0.clone() {
            Some(answer) => std::future::ready(answer).boxed(),
            None => std::future::pending().boxed(),
        }
    }
}

fn config(endpoint: &str) -> Config {
    Config { endpoint: Some(Endpoint::parse(endpoint).unwrap()), ..Config::default() }
}

/// A client that always calls under the same identity.
struct Caller {
    client: Client,
    identity: Identity,
}

impl Caller {
    fn new(config: Config, provider: Arc<dyn Provider>) -> Self {
        Self::at(config, provider, Clock::default())
    }

    fn at(config: Config, provider: Arc<dyn Provider>, clock: Clock) -> Self {
        let client = Client::new(config, clock).unwrap();
        let cache = Cache::new(provider, client.clock().clone());
        Self { client, identity: Identity::new("tested", Arc::new(cache)) }
    }

    async fn modify(&self, password: &str, signed_at: Timestamp) -> Result<RequestId, Error> {
        self.client.modify_instance_vnc_passwd(&self.identity, &region(), "i-1", password, signed_at).await
    }

    async fn reboot(&self, signed_at: Timestamp) -> Result<RequestId, Error> {
        self.client.reboot_instance(&self.identity, &region(), "i-1", signed_at).await
    }

    async fn describe(&self, ids: &[String]) -> Result<Vec<Instance>, Error> {
        self.client.describe_instances(&self.identity, &region(), ids).await
    }
}

fn client(endpoint: &str) -> Caller {
    Caller::new(config(endpoint), Arc::new(Canaries::default()))
}

/// A client that waits no longer than this for a whole call.
fn hasty_client(endpoint: &str, timeout: Duration, provider: impl Provider + 'static) -> Caller {
    Caller::new(Config { timeout, ..config(endpoint) }, Arc::new(provider))
}

fn region() -> Region {
    Region::parse("cn-beijing").unwrap()
}

async fn modify(client: &Caller) -> Result<RequestId, Error> {
    client.modify(CANARIES[0], Timestamp::now()).await
}

/// All that an error can say, down to its last cause. None of it may be a canary.
fn walk(error: &Error) -> String {
    let first: &dyn std::error::Error = error;
    let chain = std::iter::successors(Some(first), |error| error.source());
    let said: Vec<_> = chain.map(|error| format!("{error} {error:?} {error:#?}")).collect();
    let said = said.join("\n");
    for canary in CANARIES {
        assert!(!said.contains(canary), "{canary} in {said}");
    }
    assert!(!said.contains("VncPassword"), "a query in {said}");
    said
}

/// Calls a server that acts once, walks the error, and proves that there was no second attempt.
async fn failure(act: Act) -> Error {
    let server = Server::start([act]).await;
    let error = modify(&client(&server.url())).await.unwrap_err();
    walk(&error);
    assert_eq!(server.requests().len(), 1, "{error}");
    error
}

#[tokio::test]
async fn a_call_is_a_signed_post_with_all_parameters_in_the_query() {
    let server =
        Server::start([Act::Send(http(200, "", ACCEPTED)), Act::Send(http(200, "", ACCEPTED))]).await;
    let client = client(&server.url());
    let request_id = modify(&client).await.unwrap();
    assert_eq!(request_id.as_str(), "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E");
    modify(&client).await.unwrap();

    let requests = server.requests();
    let lines: Vec<_> = requests[0].lines().collect();
    assert_eq!(lines[0], "POST /?InstanceId=i-1&RegionId=cn-beijing&VncPassword=Canry7 HTTP/1.1");
    for line in [
        &format!("host: 127.0.0.1:{}", server.port),
        "accept: application/json",
        "content-length: 0",
        "x-acs-action: ModifyInstanceVncPasswd",
        "x-acs-version: 2014-05-26",
        "x-acs-content-sha256: e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        "x-acs-accesskey-id: LTAIcanaryid",
        "x-acs-security-token: canarytoken+/=",
    ] {
        assert!(lines.contains(&line), "{line} in {lines:?}");
    }
    let nonce = |request: &String| header_of(request, "x-acs-signature-nonce").to_owned();
    assert_eq!(nonce(&requests[0]).len(), 32);
    assert_ne!(nonce(&requests[0]), nonce(&requests[1]));
    assert_eq!(server.connections(), 1, "the connection is used again");
}

fn header_of<'a>(request: &'a str, name: &str) -> &'a str {
    request.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap()
}

#[tokio::test]
async fn an_api_error_has_code_request_id_and_wait_but_no_message() {
    let message = CANARIES.join(" ");
    let json =
        format!(r#"{{"RequestId":"A-1","Message":"{message}","HostId":"h","Code":"Throttling.User"}}"#);
    let xml = format!(
        "<?xml version='1.0'?><Error><RequestId>A-1</RequestId><Code>Throttling.User</Code>\
         <Message>{message}</Message></Error>"
    );
    let table = [
        (json.as_str(), "x-acs-retry-after: 1500\r\n", Some(Duration::from_millis(1500))),
        (&json, "x-acs-retry-after: 99999999999\r\n", Some(MAX_RETRY_AFTER)),
        (&json, "x-acs-retry-after: soon\r\n", None),
        (&json, "x-acs-retry-after: -1\r\n", None),
        (&json, "x-acs-retry-after: 0\r\n", None),
        (&json, "x-acs-retry-after: 1\r\n", Some(Duration::from_secs(1))),
        (&xml, "", None),
    ];
    for (body, headers, wait) in table {
        let error = failure(Act::Send(http(400, headers, body))).await;
        let Error::Api { action, code, request_id, http_status, retry_after } = error else {
            panic!("{error}")
        };
        assert_eq!((action, code.as_str(), http_status), ("ModifyInstanceVncPasswd", "Throttling.User", 400));
        assert_eq!(request_id, RequestId::parse("A-1"));
        assert_eq!(retry_after, wait, "{headers}");
    }
}

#[tokio::test]
async fn a_reply_that_is_not_of_the_api_is_unreadable() {
    let huge = format!(r#"{{"RequestId":"{}"}}"#, "a".repeat(SHORT_REPLY));
    let table = [
        (Act::Send(http(200, "", "")), 200, Unreadable::Empty),
        (Act::Send(http(204, "", "")), 204, Unreadable::Empty),
        (Act::Send(http(502, "", "<html>Canry7</html>")), 502, Unreadable::Html),
        (Act::Send(http(200, "", "<a>Canry7</a>")), 200, Unreadable::Xml),
        (Act::Send(http(200, "", r#"{"RequestId":"Canry7"#)), 200, Unreadable::Truncated),
        (Act::Send(http(200, "", "Canry7")), 200, Unreadable::NotJson),
        (Act::Send(http(200, "", r#"{"RequestId":{"Canry7":1}}"#)), 200, Unreadable::WrongShape),
        (Act::Send(http(200, "", r#"{"HostId":"Canry7"}"#)), 200, Unreadable::MissingField("RequestId")),
        (Act::Send(http(500, "", ACCEPTED)), 500, Unreadable::MissingField("Code")),
        (Act::Send(http(200, "", &huge)), 200, Unreadable::TooLarge),
        (Act::Flood, 200, Unreadable::TooLarge),
    ];
    for (act, status, expected) in table {
        let error = failure(act).await;
        let Error::UnreadableReply { http_status, kind, .. } = error else { panic!("{expected}: {error}") };
        assert_eq!((http_status, kind), (status, expected));
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::start([Act::Send(http(200, "", ACCEPTED))]).await;
    for status in [301, 302, 303, 307, 308] {
        let location = format!("location: http://127.0.0.1:{}/\r\n", elsewhere.port);
        let error = failure(Act::Send(http(status, &location, ACCEPTED))).await;
        assert!(matches!(error, Error::UnreadableReply { kind: Unreadable::Redirect, .. }), "{error}");
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn a_broken_connection_leaves_the_outcome_unknown() {
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{\"RequestId\":\"A-1\"}";
    for bytes in ["", "HTTP/1.1 200", half, "no HTTP\r\n\r\n"] {
        let error = failure(Act::Reset(bytes.into())).await;
        assert!(matches!(error, Error::Interrupted { .. }), "{bytes:?}: {error}");
    }
}

#[tokio::test]
async fn a_broken_reused_connection_is_not_retried() {
    let server = Server::start([Act::Send(http(200, "", ACCEPTED)), Act::Reset(String::new())]).await;
    let client = client(&server.url());
    modify(&client).await.unwrap();
    let error = modify(&client).await.unwrap_err();
    assert!(matches!(error, Error::Interrupted { .. }), "{error}");
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_missing_reply_is_a_timeout_of_unknown_outcome() {
    for bytes in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"] {
        let server = Server::start([Act::Hang(bytes.into())]).await;
        let client = hasty_client(&server.url(), BRIEF, Canaries::default());
        let error = modify(&client).await.unwrap_err();
        assert!(matches!(error, Error::Timeout { action: "ModifyInstanceVncPasswd" }), "{bytes:?}: {error}");
        walk(&error);
    }
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    // The system accepts the connection, but there is no TLS handshake.
    let silent = format!("https://127.0.0.1:{port}");
    let config = Config { connect_timeout: BRIEF, ..config(&silent) };
    let silenced = Caller::new(config, Arc::new(Canaries::default()));
    let error = modify(&silenced).await.unwrap_err();
    assert!(matches!(error, Error::NotSent { .. }), "{error}");
    walk(&error);

    drop(listener);
    for scheme in ["http", "https"] {
        let error = modify(&client(&format!("{scheme}://127.0.0.1:{port}"))).await.unwrap_err();
        assert!(matches!(error, Error::NotSent { .. }), "{error}");
        assert!(walk(&error).contains("refused"), "the cause is told");
    }
}

#[tokio::test]
async fn without_credentials_no_call_is_made() {
    let broken = ProviderError::new("fixed", FailureKind::Refused, "half a key");
    let table = [
        (Fixed(Some(Ok(None))), "no credentials are configured"),
        (Fixed(Some(Err(broken))), "credentials from fixed: half a key"),
        (Fixed(None), "credentials from fixed: no answer in time"),
    ];
    for (provider, expected) in table {
        let server = Server::start([]).await;
        let client = hasty_client(&server.url(), BRIEF, provider);
        assert_eq!(modify(&client).await.unwrap_err().to_string(), expected);
        assert_eq!(server.connections(), 0);
    }
}

#[tokio::test]
async fn dropped_credentials_are_requested_again() {
    let server = Server::start(vec![Act::Send(http(200, "", ACCEPTED)); 3]).await;
    let provider = Arc::new(Canaries::default());
    let provider_of_client: Arc<dyn Provider> = Arc::<Canaries>::clone(&provider);
    let client = Caller::new(config(&server.url()), provider_of_client);
    for (forget, asked) in [(false, 1), (false, 1), (true, 2)] {
        if forget {
            client.identity.credentials().forget_all();
        }
        modify(&client).await.unwrap();
        assert_eq!(provider.0.load(Ordering::SeqCst), asked);
    }
}

#[tokio::test]
async fn every_reply_measures_the_clock_skew() {
    fn local() -> Timestamp {
        "2024-05-01T12:00:00Z".parse().unwrap()
    }
    let refusal =
        http(400, "date: Wed, 01 May 2024 13:00:00 GMT\r\n", r#"{"Code":"InvalidTimeStamp.Expired"}"#);
    let accepted = || Act::Send(http(200, "", ACCEPTED));
    let server = Server::start([Act::Send(refusal), accepted(), accepted()]).await;
    let provider = Arc::new(Canaries::default());
    let client = Caller::at(config(&server.url()), provider, Clock::new(local));
    let clock = client.client.clock().clone();
    let before = clock.dated();
    let _ = client.modify("Abc123", before.at()).await;
    assert!(clock.has_moved_since(&before), "what was decided then may be an hour old");
    let _ = client.modify("Abc123", before.at()).await;
    let _ = client.modify("Abc123", clock.dated().at()).await;
    let requests = server.requests();
    let dates: Vec<_> = requests.iter().map(|request| header_of(request, "x-acs-date")).collect();
    // What is learned in between makes no old decision look young.
    assert_eq!(dates, ["2024-05-01T12:00:00Z", "2024-05-01T12:00:00Z", "2024-05-01T13:00:00Z"]);
}

#[tokio::test]
async fn at_most_a_hundred_instances_are_described() {
    let body = r#"{"RequestId":"A-1","Instances":{"Instance":[{"InstanceId":"i-1","Status":"Running"}]}}"#;
    let server = Server::start([Act::Send(http(200, "", body)), Act::Send(http(200, "", ACCEPTED))]).await;
    let client = client(&server.url());
    for count in [0, 101] {
        let ids = vec!["i-1".to_owned(); count];
        let error = client.describe(&ids).await.unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
    let ids = ["i-1".to_owned(), "i-\"2".to_owned()];
    let instances = client.describe(&ids).await.unwrap();
    assert_eq!(instances[0].status, crate::InstanceStatus::Running);
    let error = client.describe(&ids).await.unwrap_err();
    assert!(matches!(error, Error::UnreadableReply { kind: Unreadable::WrongShape, .. }), "{error}");

    let requests = server.requests();
    let query = "InstanceIds=%5B%22i-1%22%2C%22i-%5C%222%22%5D&MaxResults=100&RegionId=cn-beijing";
    assert!(requests[0].starts_with(&format!("POST /?{query} HTTP/1.1\r\n")), "{}", requests[0]);
    assert_eq!(requests.len(), 2, "calls that the API would not take are not made");
}

#[tokio::test]
async fn a_restart_is_one_call_signed_at_the_given_time_without_force() {
    fn local() -> Timestamp {
        "2024-05-01T12:00:00Z".parse().unwrap()
    }
    let refusal = http(403, "", r#"{"RequestId":"A-2","Code":"IncorrectInstanceStatus"}"#);
    let acts = [Act::Send(http(200, "", ACCEPTED)), Act::Send(refusal), Act::Reset(String::new())];
    let server = Server::start(acts).await;
    let client = Caller::new(config(&server.url()), Arc::new(Canaries::default()));

    let request_id = client.reboot(local()).await.unwrap();
    assert_eq!(request_id.as_str(), "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E");
    let error = client.reboot(local()).await.unwrap_err();
    walk(&error);
    assert_eq!(error.to_string(), "RebootInstance was answered with IncorrectInstanceStatus (HTTP 403)");
    let error = client.reboot(local()).await.unwrap_err();
    walk(&error);
    assert!(matches!(error, Error::Interrupted { action: "RebootInstance", .. }), "{error}");

    let requests = server.requests();
    assert_eq!(requests.len(), 3, "one attempt each");
    for request in requests {
        // All parameters there are: nothing is left to say `ForceStop` with.
        assert!(request.starts_with("POST /?InstanceId=i-1&RegionId=cn-beijing HTTP/1.1\r\n"), "{request}");
        assert_eq!(header_of(&request, "x-acs-action"), "RebootInstance");
        assert_eq!(header_of(&request, "x-acs-date"), "2024-05-01T12:00:00Z");
        assert_eq!(header_of(&request, "content-length"), "0");
    }
}

#[tokio::test]
async fn regions_are_described() {
    let body = r#"{"RequestId":"A-1","Regions":{"Region":[{"RegionId":"cn-beijing"}]}}"#;
    let server = Server::start([Act::Send(http(200, "", body))]).await;
    let caller = client(&server.url());
    let regions = caller.client.describe_regions(&caller.identity, &region()).await.unwrap();
    assert_eq!(regions[0].region_id, "cn-beijing");
    assert!(server.requests()[0].starts_with("POST /?RegionId=cn-beijing HTTP/1.1\r\n"));
}

/// Where a test's log goes.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn no_log_of_any_level_shows_a_secret() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_span_events(tracing_subscriber::fmt::format::FmtSpan::CLOSE)
        .with_writer(move || writer.clone())
        .finish();
    // With only one subscriber, a callsite that a thread of another test meets first would be disabled for
    // this test too.
    let _second = tracing::Dispatch::new(tracing::subscriber::NoSubscriber::default());
    let _guard = tracing::subscriber::set_default(subscriber);
    let harmless = r#"{"Code":"Forbidden.RAM","Message":"no right"}"#;
    let echo = format!(r#"{{"Code":"SignatureDoesNotMatch","Message":"{}"}}"#, CANARIES[0]);
    let quoting = |code: &str, id: &str| http(400, "", &format!(r#"{{"Code":"{code}","RequestId":"{id}"}}"#));
    let acts = [
        http(403, "", harmless),
        http(400, "", &echo),
        quoting("Wrong.Canry7", "A-1-Canry7"),
        quoting("<Canry7>", "Canry7 LTAIcanaryid"),
        quoting("LTAIcanaryid.canarysecret", "canarysecret"),
        http(200, "", r#"{"RequestId":"Canry7-A-1"}"#),
        http(200, "", ACCEPTED),
    ];
    let count = acts.len() + 1;
    let server = Server::start(acts.map(Act::Send).into_iter().chain([Act::Reset(String::new())])).await;
    let client = client(&server.url());
    for _ in 0..count {
        let _ = modify(&client).await;
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    for told in [
        "no right",
        "Forbidden.RAM",
        "SignatureDoesNotMatch",
        "bytes withheld",
        "code=\"UnrecognizedCode\"",
        "code=\"other\"",
        "request_id=\"withheld\"",
        "473469C7-AA6F-4DC5-B3DB-A3DC0DE3C83E",
    ] {
        assert!(log.contains(told), "{told} in {log}");
    }
    for hidden in CANARIES.into_iter().chain(["VncPassword="]) {
        assert!(!log.contains(hidden), "{hidden} in {log}");
    }
}

proptest! {
    /// Canaries anywhere in a reply.
    #[test]
    fn no_error_contains_the_reply(
        status in 100_u16..1000, before in vec(any::<u8>(), 0..30), after in vec(any::<u8>(), 0..30),
        code in "[A-Za-z.]{0,12}", name in "Message|HostId|Recommend|[a-z]{1,5}",
        canary in proptest::sample::select(&CANARIES[..]),
    ) {
        let canaries = CANARIES.join(" ");
        let bodies = [
            [before.as_slice(), canaries.as_bytes(), after.as_slice()].concat(),
            format!(r#"{{"Code":"{code}","{name}":"{canaries}"}}"#).into_bytes(),
            format!("<Error><Code>{code}</Code><{name}>{canaries}</{name}></Error>").into_bytes(),
            format!(r#"{{"Code":["{canaries}"]}}"#).into_bytes(),
            format!(r#"{{"Code":"{code}{canary}","RequestId":"{canary}{code}"}}"#).into_bytes(),
            format!(r#"{{"Code":"{canaries}{code}","RequestId":"{code}{canaries}"}}"#).into_bytes(),
            format!("<Error><Code>{code}{canary}</Code><RequestId>{canary}</RequestId></Error>").into_bytes(),
            format!(r#"{{"RequestId":"{code}{canary}"}}"#).into_bytes(),
        ];
        for body in bodies {
            let status = http::StatusCode::from_u16(status).unwrap();
            let received = Received { status, headers: http::HeaderMap::new(), body: Ok(body.into()) };
            match interpret("ModifyInstanceVncPasswd", &CANARIES, received) {
                Ok(accepted) => {
                    let id = accepted.request_id.to_string();
                    prop_assert!(!CANARIES.iter().any(|canary| id.contains(canary)), "{id}");
                }
                Err(error) => {
                    walk(&error);
                }
            }
        }
    }
}
