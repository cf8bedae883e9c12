//! Tests of the order of the providers, and that the identity never changes silently.

use std::{fs, sync::Mutex};

use super::*;
use crate::{
    credentials::{
        FailureKind, cli_config, credentials_file, credentials_uri, ecs_ram_role, environment as env, oidc,
        test_support::{ROLE, broken, context, environment, given, key_reply, sts_refusal, sts_reply},
    },
    test_server::{Act, Server, http},
};

/// Plays the answers in turn, `Err` being broken; without one it is not configured.
struct Script(&'static str, Mutex<Vec<Result<Option<&'static str>, ()>>>);

impl Script {
    fn of(name: &'static str, mut answers: Vec<Result<Option<&'static str>, ()>>) -> Arc<dyn Provider> {
        answers.reverse();
        Arc::new(Self(name, Mutex::new(answers)))
    }
}

impl Provider for Script {
    fn name(&self) -> &'static str {
        self.0
    }

    fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
        let answer = self.1.lock().unwrap().pop().unwrap_or(Ok(None));
        let answer = answer.map(|id| id.map(given)).map_err(|()| broken(self.0));
        async { answer }.boxed()
    }
}

async fn ids(chain: &Chain, times: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for _ in 0..times {
        ids.push(match chain.credentials().await {
            Ok(Some(credentials)) => credentials.access_key_id().to_owned(),
            Ok(None) => "none".to_owned(),
            Err(error) => error.to_string(),
        });
    }
    ids
}

#[tokio::test]
async fn the_first_provider_with_credentials_is_kept() {
    let first = Script::of("first", vec![Ok(None), Err(()), Ok(None), Ok(Some("never"))]);
    let second = Script::of(
        "second",
        vec![Ok(None), Ok(Some("one")), Ok(Some("two")), Err(()), Ok(None), Ok(Some("three"))],
    );
    let chain = Chain::new(vec![first, second]);
    assert_eq!(chain.name(), "chain");
    let expected = [
        "none",
        "credentials from first: broken",
        "one",
        "two",
        "credentials from second: broken",
        "credentials from second: it gave credentials before and is not configured any more; restart to become another \
         identity",
        "three",
    ];
    assert_eq!(ids(&chain, 7).await, expected);
    assert_eq!(chain.name(), "second");
}

#[tokio::test]
async fn a_metadata_service_that_stops_answering_is_an_error_and_is_asked_again() {
    let ok = |body: &str| Act::Send(http(200, "", body));
    let answers = || vec![ok("t"), ok("role"), ok(&key_reply(3600))];
    let silence = vec![Act::Hang(String::new()); 2];
    let server = Server::start([answers(), silence, answers()].concat()).await;
    let chain = Chain::from_environment(environment(&[("HOME", "/nowhere")]), &context(&server.url()));
    let said = ids(&chain, 3).await;
    let silent = "credentials from ecsRamRole: the metadata service gave credentials before and now does not answer, or \
                  knows no role; it is asked again";
    assert_eq!(said[1], silent);
    assert_eq!(said[0], said[2]);
}

/// Variables that make a provider answer, or break it, in the order of the chain.
struct World {
    server: Server,
    directory: tempfile::TempDir,
}

const ORDER: [&str; 6] =
    ["environment", "oidc", "cliConfig", "credentialsFile", "ecsRamRole", "credentialsUri"];

impl World {
    async fn new(acts: Vec<Act>) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).unwrap();
        write("token", "a.b.c");
        write(
            "config.json",
            r#"{"current":"p","profiles":[{"name":"p","mode":"AK","access_key_id":"cli","access_key_secret":"s"}]}"#,
        );
        write("credentials", "[default]\ntype = access_key\naccess_key_id = file\naccess_key_secret = s\n");
        write("broken.json", r#"{"current":"p","profiles":[{"name":"p","mode":"External"}]}"#);
        write("broken", "[default]\ntype = rsa_key_pair\n");
        Self { server: Server::start(acts).await, directory }
    }

    fn variables(&self, provider: &str, works: bool) -> Vec<(&'static str, String)> {
        let file = |good: &str, bad: &str| {
            self.directory.path().join(if works { good } else { bad }).to_str().unwrap().to_owned()
        };
        let text = |good: &str, bad: &str| if works { good } else { bad }.to_owned();
        match provider {
            "environment" => {
                vec![(env::ACCESS_KEY_ID, "environment".to_owned()), (env::ACCESS_KEY_SECRET, text("s", ""))]
            }
            "oidc" => vec![
                (oidc::ROLE_ARN, ROLE.to_owned()),
                (oidc::OIDC_PROVIDER_ARN, "acs:ram::1:oidc-provider/x".to_owned()),
                (oidc::OIDC_TOKEN_FILE, file("token", "no-token")),
            ],
            "cliConfig" => vec![(cli_config::CONFIG_FILE, file("config.json", "broken.json"))],
            "credentialsFile" => vec![(credentials_file::CREDENTIALS_FILE, file("credentials", "broken"))],
            "ecsRamRole" => vec![(ecs_ram_role::METADATA_ROLE, text("role", "no/role"))],
            "credentialsUri" => vec![(credentials_uri::CREDENTIALS_URI, text(&self.server.url(), "ftp://x"))],
            _ => unreachable!(),
        }
    }

    fn chain(&self, variables: &[(&'static str, String)]) -> Chain {
        let mut all: Vec<_> = variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        if !all.iter().any(|(name, _)| *name == ecs_ram_role::METADATA_ROLE) {
            all.push((ecs_ram_role::METADATA_DISABLED, "true"));
        }
        Chain::from_environment(environment(&all), &context(&self.server.url()))
    }
}

/// What a server plays so that the provider answers.
fn good(provider: &str) -> Vec<Act> {
    let ok = |body: &str| Act::Send(http(200, "", body));
    match provider {
        "oidc" => vec![ok(&sts_reply(3600))],
        "ecsRamRole" => vec![ok("t"), ok(&key_reply(3600))],
        "credentialsUri" => vec![ok(&key_reply(3600))],
        _ => vec![],
    }
}

#[tokio::test]
async fn the_first_configured_provider_in_the_official_order_is_used() {
    for (place, provider) in ORDER.into_iter().enumerate() {
        let world = World::new(good(provider)).await;
        let all_from_here: Vec<_> =
            ORDER[place..].iter().flat_map(|name| world.variables(name, true)).collect();
        let chain = world.chain(&all_from_here);
        let credentials = chain.credentials().await.unwrap().unwrap();
        assert_eq!((credentials.provider(), chain.name()), (provider, provider));
    }
}

#[tokio::test]
async fn an_error_of_a_provider_ends_the_search() {
    for pair in ORDER.windows(2) {
        let [former, latter] = pair else { unreachable!() };
        let world = World::new(good(latter)).await;
        let variables = [world.variables(former, false), world.variables(latter, true)].concat();
        let error = world.chain(&variables).credentials().await.unwrap_err();
        assert_eq!(error.provider, *former, "{error}");
        assert_eq!(world.server.requests().len(), 0, "{latter} was asked: {error}");

        let alone = world.chain(&world.variables(latter, true)).credentials().await;
        assert_eq!(alone.unwrap().unwrap().provider(), *latter, "{latter} answers by itself");
    }
}

#[tokio::test]
async fn an_empty_environment_is_not_configured() {
    let world = World::new(vec![]).await;
    assert!(world.chain(&[]).credentials().await.unwrap().is_none());
    // `HOME` has no files, and there is no metadata service.
    let chain = Chain::from_environment(environment(&[("HOME", "/nowhere")]), &context("http://127.0.0.1:1"));
    assert!(chain.credentials().await.unwrap().is_none());
}

#[tokio::test]
async fn files_at_home_are_found() {
    let home = tempfile::tempdir().unwrap();
    let variables = [("HOME", home.path().to_str().unwrap()), (ecs_ram_role::METADATA_DISABLED, "true")];
    let chain = || Chain::from_environment(environment(&variables), &context("http://127.0.0.1:1"));
    for (path, text) in [
        (
            ".alibabacloud/credentials.ini",
            "[default]\ntype=access_key\naccess_key_id=python\naccess_key_secret=s",
        ),
        (".alibabacloud/credentials", "[default]\ntype=access_key\naccess_key_id=go\naccess_key_secret=s"),
        (
            ".aliyun/config.json",
            r#"{"current":"p","profiles":[{"name":"p","mode":"AK","access_key_id":"cli","access_key_secret":"s"}]}"#,
        ),
    ] {
        let path = home.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        let id = chain().credentials().await.unwrap().unwrap().access_key_id().to_owned();
        assert!(text.contains(&id), "{id} from {text}");
    }
    let disabled = [variables.as_slice(), &[(cli_config::CLI_PROFILE_DISABLED, "TRUE")]].concat();
    let chain = Chain::from_environment(environment(&disabled), &context("http://127.0.0.1:1"));
    assert_eq!(ids(&chain, 1).await, ["go"]);
}

/// Variables, what the server plays, and what the failure says.
type FailureRow<'a> = (Vec<(&'a str, &'a str)>, Vec<Act>, FailureKind);

#[tokio::test]
async fn a_failure_kind_distinguishes_refusals_from_missing_replies() {
    use FailureKind::{Refused, Throttled, Unanswered};

    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let token = file("token", "a.b.c");
    let role = format!(
        r#"{{"current":"p","profiles":[{{"name":"p","mode":"RamRoleArn","access_key_id":"id",
        "access_key_secret":"secret","ram_role_arn":"{ROLE}"}}]}}"#
    );
    let (role, nobody) = (file("role.json", &role), file("nobody.json", "{}"));
    let oidc = || {
        let provider = (oidc::OIDC_PROVIDER_ARN, "provider");
        vec![(oidc::ROLE_ARN, ROLE), provider, (oidc::OIDC_TOKEN_FILE, token.as_str())]
    };
    let uri = |url| vec![(ecs_ram_role::METADATA_DISABLED, "true"), (credentials_uri::CREDENTIALS_URI, url)];
    let (config, metadata) = (cli_config::CONFIG_FILE, || vec![(ecs_ram_role::METADATA_ROLE, "role")]);
    let say = |status, body: &str| Act::Send(http(status, "", body));
    let refuse = |code: &str| vec![Act::Send(sts_refusal(code))];
    let server = "the server";
    let table: Vec<FailureRow<'_>> = vec![
        (vec![(env::ACCESS_KEY_ID, "id")], vec![], Refused),
        (vec![(oidc::ROLE_ARN, ROLE)], vec![], Refused),
        ([oidc(), vec![(oidc::OIDC_TOKEN_FILE, "/none")]].concat(), vec![], Refused),
        (oidc(), refuse("NoPermission"), Refused),
        (oidc(), refuse("AuthenticationFail.OIDCToken.Expired"), Refused),
        (oidc(), refuse("Throttling.User"), Throttled),
        (oidc(), vec![say(503, "busy")], Unanswered),
        (oidc(), vec![Act::Reset(String::new())], Unanswered),
        (oidc(), vec![say(200, &sts_reply(3))], Unanswered),
        (vec![(config, "/none")], vec![], Refused),
        (vec![(config, &nobody)], vec![], Refused),
        (vec![(config, &role)], refuse("InvalidAccessKeyId.NotFound"), Refused),
        (vec![(config, &role)], refuse("ServiceUnavailable"), Unanswered),
        (vec![(credentials_file::CREDENTIALS_FILE, "/none")], vec![], Refused),
        (vec![(ecs_ram_role::METADATA_ROLE, "a/b")], vec![], Refused),
        (metadata(), vec![say(200, "t"), say(404, "no")], Refused),
        (metadata(), vec![say(200, "t"), say(200, r#"{"Code":"Failed"}"#)], Refused),
        (metadata(), vec![say(200, "t"), say(503, "busy")], Unanswered),
        (metadata(), vec![say(200, "t"), say(200, "nonsense")], Unanswered),
        (uri("ftp://127.0.0.1"), vec![], Refused),
        (uri(server), vec![say(403, "no")], Refused),
        (uri(server), vec![say(429, "later")], Unanswered),
        (uri(server), vec![say(500, "busy")], Unanswered),
        (uri(server), vec![say(200, &key_reply(3))], Unanswered),
        (uri("http://127.0.0.1:1"), vec![], Unanswered),
    ];
    for (number, (variables, acts, expected)) in table.into_iter().enumerate() {
        let calls = acts.len();
        let playing = Server::start(acts).await;
        let url = playing.url();
        let variables: Vec<_> = variables
            .into_iter()
            .map(|(name, value)| (name, if value == server { &url } else { value }))
            .collect();
        let chain = Chain::from_environment(environment(&variables), &context(&url));
        let error = chain.credentials().await.unwrap_err();
        assert_eq!(error.kind, expected, "row {number}: {error}");
        assert_eq!(playing.requests().len(), calls, "row {number}: {error}");
    }
}

#[tokio::test]
async fn a_provider_that_is_gone_is_a_refusal_unless_it_may_be_an_outage() {
    let file = Chain::new(vec![Script::of("file", vec![Ok(Some("id"))])]);
    ids(&file, 1).await;
    assert_eq!(file.credentials().await.unwrap_err().kind, FailureKind::Refused);

    let say = |status, body: &str| Act::Send(http(status, "", body));
    let server = Server::start([
        say(200, "t"),
        say(200, "role"),
        say(200, &key_reply(3600)),
        say(200, "t"),
        say(404, ""),
    ])
    .await;
    let metadata = Chain::from_environment(environment(&[]), &context(&server.url()));
    ids(&metadata, 1).await;
    assert_eq!(metadata.credentials().await.unwrap_err().kind, FailureKind::Unanswered);
}
