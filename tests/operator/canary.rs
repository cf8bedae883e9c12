//! The canary: with everything logged, no password, no key and no token leaves the operator, whatever the cloud and
//! the API server answer.

mod generated;
mod identity;
mod liar;
mod program;
mod traces;

use std::{
    error::Error,
    fmt::Write as _,
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::api::{
    authentication::v1::{TokenRequest, TokenRequestSpec},
    core::v1::ServiceAccount,
    rbac::v1::{Role, RoleBinding},
};
use kube::{Api, api::PostParams};
use serde_json::{Value, json};
use tokio::time::Instant;
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{
    Endpoint, Region,
    credentials::{Cache, Environment},
};
use vncpassword_core::{
    api::{ConditionStatus, ConditionType, Reason, VncPasswordStatus},
    rotation::{
        Password,
        outcome::{Class, classify_code},
    },
};
use vncpassword_emulator::{AccessKey, Action, Emulator, Fault, Garbage, Instance, Options, Reply, Status};

use self::{
    liar::{LIES, Liar},
    program::{ACCESS_KEY_ID, ACCESS_KEY_SECRET, Program, SECURITY_TOKEN},
    traces::Traces,
};
use vncpassword_test_support::{
    World,
    control_plane::shared_kubeconfig,
    world::{PATIENCE, until},
};

const MODIFY: Action = Action::ModifyInstanceVncPasswd;
const DESCRIBE: Action = Action::DescribeInstances;

/// The access key as the cloud knows it.
fn key() -> AccessKey {
    AccessKey::new(ACCESS_KEY_ID, ACCESS_KEY_SECRET).temporary(SECURITY_TOKEN, None)
}

/// A password that no other text holds by chance, another one for each word.
fn password(word: &str) -> String {
    const LETTERS: [&[u8]; 3] = [b"GHJKLMNPQRSTUVWXYZ", b"ghjkmnpqrstuvwxyz", b"0123456789"];
    let mut hash = word.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let mut draw = |letters: &[u8]| {
        let letter = letters[usize::try_from(hash % letters.len() as u64).unwrap()];
        hash /= letters.len() as u64;
        char::from(letter)
    };
    [0, 1, 2, 1, 0, 1].map(|class| draw(LETTERS[class])).iter().collect()
}

/// A key of one object's own: what goes wrong with it is not felt by others.
fn own_key(name: &str) -> AccessKey {
    AccessKey::new(format!("LTAIcanary{name}"), ACCESS_KEY_SECRET).temporary(own_token(name), None)
}

fn own_token(name: &str) -> String {
    format!("{SECURITY_TOKEN}{name}")
}

/// Writes the Secret with that key, and says how an object names it.
async fn own_identity(world: &World, name: &str) -> Value {
    let AccessKey { id, secret, security_token, .. } = own_key(name);
    world.cloud().put_access_key(own_key(name));
    let encoded = |value: String| json!(k8s_openapi::ByteString(value.into_bytes()));
    let data = json!({"access-key-id": encoded(id), "access-key-secret": encoded(secret),
        "security-token": encoded(security_token.unwrap())});
    let keys = format!("{name}-keys");
    world.secret_data(&keys, data).await;
    json!({"name": keys})
}

/// One object with a Secret and an instance of its own, and what goes wrong there.
struct Case {
    name: String,
    instance: Instance,
    fault: Option<Fault>,
    own_identity: bool,
    /// The reply holds the password: only a call that sends it can get such a reply.
    quotes: bool,
}

impl Case {
    fn new(name: &str, fault: impl Into<Option<Fault>>) -> Self {
        let name = name.to_lowercase();
        let instance = Instance::new(format!("i-{}", name.replace(['-', '.'], "")));
        Self { name, instance, fault: fault.into(), own_identity: false, quotes: false }
    }

    /// Calls with a key of its own.
    fn own_identity(mut self) -> Self {
        self.own_identity = true;
        self
    }

    /// Where others must not feel what goes wrong here: a region of its own.
    fn region(mut self, region: &str) -> Self {
        self.instance = self.instance.region(region);
        self
    }
}

/// Every fault that the emulator knows.
fn faults(elsewhere: &str) -> Vec<Case> {
    const CODES: [(u16, &str); 20] = [
        (403, "IncorrectInstanceStatus"),
        (403, "InstanceNotReady"),
        (503, "ServiceUnavailable"),
        (500, "InternalError"),
        (500, "SomethingNew.Broken"),
        (400, "SomethingNew"),
        (400, "IncorrectVncPassword.Malformed"),
        (404, "NoSuchResource"),
        (404, "InvalidInstanceId.NotFound"),
        (404, "InvalidRegionId.NotFound"),
        (403, "Forbidden.RAM"),
        (403, "NoPermission"),
        (403, "UnauthorizedOperation"),
        (403, "InstanceLockedForSecurity"),
        (404, "InvalidAccessKeyId.NotFound"),
        (400, "InvalidSecurityToken.Expired"),
        (400, "SignatureDoesNotMatch"),
        (400, "SignatureNonceUsed"),
        (400, "InvalidTimeStamp.Expired"),
        (400, "IllegalTimestamp"),
    ];
    const GARBAGE: [(&str, Garbage); 6] = [
        ("html", Garbage::Html),
        ("empty", Garbage::Empty),
        ("truncated", Garbage::Truncated),
        ("not-json", Garbage::NotJson),
        ("huge", Garbage::Huge),
        ("no-request-id", Garbage::NoRequestId),
    ];
    let refused = |(status, code): &(u16, &str)| {
        let case = Case::new(code, Fault::error(*status, *code).on(MODIFY));
        if classify_code(code, *status) == Class::Credentials { case.own_identity() } else { case }
    };
    let mut cases: Vec<Case> = CODES.iter().map(refused).collect();
    for (name, kind) in GARBAGE {
        cases.push(Case::new(name, Fault::body(kind).on(MODIFY)));
        let unseen = Case::new(&format!("{name}-look"), Fault::body(kind).on(DESCRIBE));
        cases.push(unseen.region(&format!("eu-{name}")));
    }
    cases.extend([
        Case::new("reset-before", Fault::reset_before().on(MODIFY)),
        Case::new("reset-after", Fault::reset_after().on(MODIFY)),
        Case::new("hang", Fault::hang().on(MODIFY)),
        Case::new("hang-up", Fault { reply: Reply::Hang { for_ms: Some(300) }, ..Fault::hang() }.on(MODIFY)),
        Case::new("latency", Fault::latency(Duration::from_millis(300)).on(MODIFY)),
        Case::new("late", Fault::late(Duration::from_secs(2), Reply::Reset).on(MODIFY)),
        Case::new("redirect", Fault::redirect(elsewhere).on(MODIFY)),
        Case::new("xml", Fault::xml().on(MODIFY)),
        Case::new("throttled", Fault::throttled(None).on(MODIFY)).region("cn-beijing"),
        Case::new("throttled-a-while", Fault::throttled(Some(Duration::from_millis(500))).on(MODIFY))
            .region("cn-shanghai"),
        Case::new("look-refused", Fault::error(403, "Forbidden.RAM").on(DESCRIBE)).region("us-west-1"),
        Case::new("look-throttled", Fault::throttled(None).on(DESCRIBE)).region("cn-shenzhen"),
    ]);
    // The cloud gives back what was sent in a field that the operator shows.
    let quoting = |name: &str, fault: fn(String) -> Fault| Case {
        quotes: true,
        ..Case::new(name, fault(password(name)).on(MODIFY))
    };
    cases.extend([
        quoting("quoted-code", |sent| Fault::error(400, format!("Wrong.{sent}"))),
        quoting("garbled-code", |sent| Fault::error(400, format!("<{sent}>"))),
        quoting("quoted-id-refused", |sent| {
            Fault::error(400, "SomethingNew").request_id(format!("A-{sent}"))
        }),
        quoting("quoted-id", |sent| Fault::default().request_id(sent)),
        quoting("garbled-id", |sent| Fault::default().request_id(format!("<{sent}>"))),
    ]);
    let mut stopped = Case::new("xml-refused", Fault { apply: None, ..Fault::xml() }.on(MODIFY));
    stopped.instance.status = Status::Stopped;
    let mut waiting = Case::new("not-optimized", None);
    waiting.instance = waiting.instance.not_optimized();
    cases.extend([stopped, waiting]);
    cases
}

/// Values that are no passwords: name, key of the Secret, value.
fn malformed() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let valid = |word: &str| password(word).into_bytes();
    vec![
        ("too-long", "password", [valid("too-long"), b"X".to_vec()].concat()),
        ("too-short", "password", valid("too-short")[..5].to_vec()),
        ("line-break", "password", [valid("line-break"), b"\n".to_vec()].concat()),
        ("punctuation", "password", b"Vq7Zk!".to_vec()),
        ("non-ascii", "password", "\u{c4}qZk7v".as_bytes().to_vec()),
        ("no-text", "password", vec![0xff, 0xfe, 0x51, 0x80, 0x91, 0xa2]),
        ("other-key", "passwort", valid("other-key")),
        ("long", "password", "kZ7vQ".repeat(2000).into_bytes()),
    ]
}

/// Everything that must not be found.
fn secrets(words: impl IntoIterator<Item = String>) -> Traces {
    let mut traces = Traces::default();
    traces.add("the access key's id", ACCESS_KEY_ID);
    traces.add("the access key's secret", ACCESS_KEY_SECRET);
    traces.add("the security token", SECURITY_TOKEN);
    for word in words {
        traces.add(format!("the password of {word}"), password(&word));
    }
    for (name, _, value) in malformed() {
        // The beginning of a long one tells as much as all of it.
        traces.add(format!("the value of {name}"), &value[..value.len().min(10)]);
    }
    traces
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_cloud_answers_no_secret_is_in_text_logs_events_status_or_metrics() {
    whatever_the_cloud_answers("text").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_the_cloud_answers_no_secret_is_in_json_logs_events_status_or_metrics() {
    whatever_the_cloud_answers("json").await;
}

async fn whatever_the_cloud_answers(log_format: &str) {
    let world = World::new().await;
    world.cloud().set_access_keys(vec![key()]);
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let cases = faults(&format!("http://{}/", elsewhere.local_addr().unwrap()));
    set_up(&world, &cases).await;
    let program = Program::start(&world, &shared_kubeconfig(), log_format).await;

    until_all_went_wrong(&world, &cases).await;
    for (name, _, _) in malformed() {
        let reason = if name == "other-key" { Reason::SecretKeyNotFound } else { Reason::InvalidPassword };
        world.until_stalled(name, reason).await;
    }
    // A second password of each object, while the first may still be on its way.
    world.cloud().clear_faults();
    apply(&world, cases.iter().map(|case| secret(&case.name, "password", second(&case.name).as_bytes())));
    world.until_console("i-late", &second("late")).await;
    world.until_console("i-resetbefore", &second("reset-before")).await;
    wrong_keys(&world).await;
    for case in &cases {
        let settling = Some(Reason::Settling);
        let is_over = |status: &VncPasswordStatus| status.reason(ConditionType::Reconciling) != settling;
        world.until(&case.name, "settled", is_over).await;
    }
    program.settled(&world).await;

    let words = cases.iter().flat_map(|case| [case.name.clone(), format!("{} two", case.name)]);
    let mut traces = secrets(words.chain(WRONG_KEYS.map(|(name, _)| name.to_owned())));
    for name in cases.iter().filter(|case| case.own_identity).map(|case| case.name.as_str()) {
        traces.add("the id of an object's own key", own_key(name).id);
    }
    for (name, _) in WRONG_KEYS {
        traces.add("the id of a wrong key", own_key(name).id);
    }
    controls(&world, &cases).await;
    let log = nothing_leaves(&world, program, &traces).await;
    for sign in ["TRACE", "kube_client::client", "DEBUG", "rustls::client", "vncpassword_alicloud::rpc"] {
        assert!(log.contains(sign), "the log has no {sign}");
    }
    assert!(log.contains("bytes withheld: they hold a secret"), "no message had to be withheld");
    assert!(log.contains(ecs::UNRECOGNIZED_CODE), "no code had to be replaced");
    assert!(elsewhere.accept().is_err(), "a redirect was followed");
    let json = log.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert!(json == if log_format == "json" { log.lines().count() } else { 0 }, "{json} lines of JSON");
}

/// Instances, Secrets and objects of all cases, each fault once.
async fn set_up(world: &World, cases: &[Case]) {
    let good = cases.iter().map(|case| secret(&case.name, "password", password(&case.name).as_bytes()));
    let wrong = WRONG_KEYS.iter().map(|(name, _)| secret(name, "password", password("before").as_bytes()));
    let bad = malformed();
    let bad = bad.iter().map(|(name, key, value)| secret(name, key, value));
    apply(world, good.chain(wrong).chain(bad));
    for case in cases {
        world.cloud().put_instance(case.instance.clone());
        if let Some(fault) = case.fault.clone() {
            world.cloud().inject(fault.instance(&case.instance.id).times(1));
        }
        let Instance { id, region_id, .. } = &case.instance;
        let mut spec = json!({"instanceId": id, "regionId": region_id, "secretRef": {"name": case.name}});
        if case.own_identity {
            spec["credentialsRef"] = own_identity(world, &case.name).await;
        }
        world.object_with(&case.name, spec).await;
    }
    for name in malformed().iter().map(|(name, ..)| *name).chain(WRONG_KEYS.map(|(name, _)| name)) {
        let id = Case::new(name, None).instance.id;
        world.cloud().put_instance(Instance::new(&id));
        let mut spec = json!({"instanceId": id, "secretRef": {"name": name}});
        if WRONG_KEYS.iter().any(|(wrong, _)| *wrong == name) {
            spec["credentialsRef"] = own_identity(world, name).await;
        }
        world.object_with(name, spec).await;
    }
}

fn second(name: &str) -> String {
    password(&format!("{name} two"))
}

async fn until_all_went_wrong(world: &World, cases: &[Case]) {
    let deadline = Instant::now() + PATIENCE;
    while !world.cloud().faults().is_empty() {
        assert!(Instant::now() < deadline, "faults were not met: {:?}", world.cloud().faults());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for case in cases {
        world.until(&case.name, "judged", |status| !status.conditions.is_empty()).await;
    }
}

/// What is wrong with the access key while a password is sent, and the code that comes of it.
const WRONG_KEYS: [(&str, &str); 5] = [
    ("wrong-secret", "SignatureDoesNotMatch"),
    ("wrong-token", "InvalidSecurityToken.Malformed"),
    ("expired-token", "InvalidSecurityToken.Expired"),
    ("unknown-key", "InvalidAccessKeyId.NotFound"),
    ("skewed-clock", "InvalidTimeStamp.Expired"),
];

async fn wrong_keys(world: &World) {
    for (name, code) in WRONG_KEYS {
        let id = Case::new(name, None).instance.id;
        for attempt in 1.. {
            world.until_console(&id, &password("before")).await;
            if refused(world, name, &id, code).await {
                break;
            }
            // The reply to another object's call has taught the operator the time first.
            assert!(attempt < 5, "{name}: no {code}");
            apply(world, [secret(name, "password", password("before").as_bytes())]);
        }
    }
}

/// Makes the access key wrong and has a password sent; whether that was refused with this code.
async fn refused(world: &World, name: &str, id: &str, code: &str) -> bool {
    let cloud = world.cloud();
    match name {
        "wrong-secret" => cloud.put_access_key(AccessKey { secret: "another".to_owned(), ..own_key(name) }),
        "wrong-token" => cloud.put_access_key(own_key(name).temporary("another", None)),
        "expired-token" => {
            let expired = Some(Timestamp::UNIX_EPOCH);
            cloud.put_access_key(own_key(name).temporary(own_token(name), expired));
        }
        "unknown-key" => assert!(cloud.revoke_access_key(&own_key(name).id)),
        _ => cloud.advance(Duration::from_hours(1)),
    }
    let before = cloud.journal().last().map_or(0, |call| call.seq);
    apply(world, [secret(name, "password", password(name).as_bytes())]);
    let sent = password(name);
    let call = cloud.next_call(before, |call| {
        call.instance_ids == [id] && call.vnc_password.as_deref() == Some(sent.as_str())
    });
    let call = tokio::time::timeout(PATIENCE, call).await;
    let call = call.unwrap_or_else(|_| panic!("{name}: no call in time"));
    call.code.as_deref() == Some(code)
}

/// That what was looked for was there to be found: passwords at the cloud, and in what the API server keeps.
async fn controls(world: &World, cases: &[Case]) {
    let journal = world.cloud().journal();
    for case in cases {
        for word in [case.name.clone(), format!("{} two", case.name)] {
            let secret = world.secrets().get(&case.name).await.unwrap();
            let annotation =
                &secret.metadata.annotations.unwrap()["kubectl.kubernetes.io/last-applied-configuration"];
            let mut now = Traces::default();
            now.add("it", second(&case.name));
            assert_eq!(now.found_in(annotation).len(), 1, "{annotation}");
            let sent = journal.iter().any(|call| call.vnc_password.as_deref() == Some(&password(&word)));
            // Nothing is sent where the API may not be called, and a second password only where it may be at once.
            assert!(sent || word.ends_with(" two") || case.name.ends_with("-look"), "{word} was not sent");
        }
    }
    let secret = world.secrets().get("too-long").await.unwrap();
    let annotations = format!("{:?}", secret.metadata.annotations);
    assert_eq!(secrets([]).found_in(&annotations).len(), 1, "{annotations}");
}

/// Ends the operator; neither its log nor anything it has written or shown holds a secret. Returns the log.
async fn nothing_leaves(world: &World, program: Program, traces: &Traces) -> String {
    let mut metrics = String::new();
    until("the metrics show a reconcile and an object", async || {
        metrics = program.get("/metrics").await;
        let shown = ["vncpassword_operator_reconciles_total{", "vncpassword_ready{"];
        shown.iter().all(|shown| metrics.contains(shown))
    })
    .await;
    traces.assert_none_in("metrics", &metrics);
    let collector = program.collector();
    let log = program.stop().await;
    assert!(collector.spans().iter().any(|span| span.name == "pass"), "no span has come");
    traces.assert_none_in("the spans", &collector.text());
    traces.assert_none_in("the log", &log);
    assert!(!log.contains("VncPassword=") && !log.contains("VncPassword%"), "the log holds a query");
    let shown = log.split("Fingerprint(").skip(1).filter(|rest| !rest.starts_with("******)"));
    assert_eq!(shown.count(), 0, "the log holds a fingerprint");
    assert!(!log.contains("panicked"), "the operator has panicked");

    let namespace = &world.namespace;
    for (place, path) in [
        ("events", format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events")),
        ("objects", format!("/apis/vncpassword.dev/v1alpha1/namespaces/{namespace}/vncpasswords")),
    ] {
        let request = http::Request::get(path).body(vec![]).unwrap();
        let text = world.client.request_text(request).await.unwrap();
        let refused = place == "events" && log.contains("cannot create an event");
        assert!(refused || text.contains("\"reason\":\""), "{place}: {text}");
        traces.assert_none_in(place, &text);
    }
    log
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_api_server_refuses_no_secret_is_shown_and_no_token_either() {
    let world = World::new().await;
    world.cloud().set_access_keys(vec![key()]);
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let token = restricted(&world, &kubeconfig).await;
    apply(&world, [secret("a", "password", password("a").as_bytes())]);
    world.object("a").await;
    let program = Program::start(&world, &kubeconfig, "text").await;
    world.until_stalled("a", Reason::SecretForbidden).await;
    let mut traces = secrets(["a".to_owned()]);
    traces.add("the token of the service account", &token);
    // Its last part, the signature, is what makes it one.
    traces.add("the token's signature", token.rsplit('.').next().unwrap());
    nothing_leaves(&world, program, &traces).await;
    assert_eq!(world.cloud().journal().iter().filter(|call| call.vnc_password.is_some()).count(), 0);
}

/// Writes a kubeconfig of an identity that may do all that the operator needs, but not read Secrets. Returns its
/// token.
async fn restricted(world: &World, kubeconfig: &Path) -> String {
    let metadata = json!({"name": "restricted"});
    let account: ServiceAccount = serde_json::from_value(json!({"metadata": metadata})).unwrap();
    let role: Role = serde_json::from_value(json!({"metadata": metadata, "rules": [
        {"apiGroups": ["vncpassword.dev"], "resources": ["vncpasswords"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["vncpassword.dev"], "resources": ["vncpasswords/status"], "verbs": ["update"]},
        {"apiGroups": [""], "resources": ["secrets"], "verbs": ["list", "watch"]},
    ]}))
    .unwrap();
    let binding: RoleBinding = serde_json::from_value(json!({"metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "restricted"},
        "subjects": [{"kind": "ServiceAccount", "name": "restricted", "namespace": world.namespace}]}))
    .unwrap();
    let (client, namespace) = (|| world.client.clone(), &world.namespace);
    let accounts: Api<ServiceAccount> = Api::namespaced(client(), namespace);
    accounts.create(&PostParams::default(), &account).await.unwrap();
    Api::namespaced(client(), namespace).create(&PostParams::default(), &role).await.unwrap();
    Api::namespaced(client(), namespace).create(&PostParams::default(), &binding).await.unwrap();
    let request = TokenRequest { spec: TokenRequestSpec::default(), ..TokenRequest::default() };
    let answer = accounts.create_token_request("restricted", &PostParams::default(), &request).await.unwrap();
    let token = answer.status.unwrap().token;
    let text = std::fs::read_to_string(shared_kubeconfig()).unwrap();
    let (cluster, _) = text.split_once("users:").unwrap();
    let user = json!([{"name": "admin", "user": {"token": token}}]);
    std::fs::write(kubeconfig, format!("{cluster}users: {user}\n")).unwrap();
    token
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_api_server_answers_with_no_secret_what_it_holds_is_not_shown() {
    let world = World::new().await;
    world.cloud().set_access_keys(vec![key()]);
    let liar = Liar::start(&world, password).await;
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    liar.kubeconfig(&kubeconfig);
    let names = || LIES.iter().map(|(name, _)| *name).chain(["watched"]);
    apply(&world, names().map(|name| secret(name, "password", password(name).as_bytes())));
    for name in names() {
        world.object(name).await;
    }
    let program = Program::start(&world, &kubeconfig, "text").await;
    world.until_ready("watched").await;
    let deadline = Instant::now() + PATIENCE;
    while !names().chain(["list", "watch"]).all(|lie| lie == "watched" || liar.told().contains(lie)) {
        assert!(Instant::now() < deadline, "only these lies were told: {:?}", liar.told());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let signs = ["pass failed", "is no Secret", "watch failed"];
    until("the log tells of them", async || {
        let log = program.log();
        signs.iter().all(|sign| log.contains(sign))
    })
    .await;
    program.settled(&world).await;
    nothing_leaves(&world, program, &secrets(names().map(str::to_owned))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_error_of_the_cloud_client_holds_a_secret_in_any_part_of_its_chain() {
    let emulator = Emulator::start(Options { access_keys: vec![key()], ..Options::default() }).await.unwrap();
    let cloud = emulator.cloud();
    let cases = faults("http://127.0.0.1:1/");
    let names = cases.iter().map(|case| case.name.clone());
    let mut traces = secrets(names.chain(["it".to_owned()]));
    traces.add("the name of the parameter", "VncPassword=");
    let mut shown = Vec::new();
    for case in cases {
        cloud.put_instance(case.instance.clone());
        if let Some(fault) = case.fault {
            let (action, times) = if case.quotes { (Some(MODIFY), 1) } else { (None, 2) };
            cloud.inject(Fault { action, ..fault }.instance(&case.instance.id).times(times));
        }
        let (id, region) = (&case.instance.id, Region::parse(&case.instance.region_id).unwrap());
        let (client, identity) = client(&emulator.url(), SECURITY_TOKEN);
        let parsed = Password::parse(password(&case.name).as_bytes()).unwrap();
        let looked = client.describe_instances(&identity, &region, std::slice::from_ref(id)).await;
        shown.extend(looked.err().map(|error| chain(&error)));
        let set = client
            .modify_instance_vnc_passwd(&identity, &region, id, parsed.expose(), Timestamp::now())
            .await;
        shown.push(set.map_or_else(|error| chain(&error), |id| id.to_string()));
        shown.push(format!("{parsed:?}"));
    }
    let region = Region::parse("cn-hangzhou").unwrap();
    let parsed = Password::parse(password("it").as_bytes()).unwrap();
    let wrong = AccessKey { secret: "another".to_owned(), ..key() };
    cloud.set_access_keys(vec![wrong]);
    // Nobody listens there; the name does not exist; what listens speaks no TLS; the token is another one.
    for (endpoint, token) in [
        (emulator.url(), SECURITY_TOKEN),
        ("http://127.0.0.1:1".to_owned(), SECURITY_TOKEN),
        ("http://nobody.invalid".to_owned(), SECURITY_TOKEN),
        (emulator.url().replace("http:", "https:"), SECURITY_TOKEN),
        (emulator.url(), "CAIS+another/token=="),
        (emulator.url(), "a token that no header can carry"),
    ] {
        let (client, identity) = client(&endpoint, token);
        let set = client
            .modify_instance_vnc_passwd(&identity, &region, "i-1", parsed.expose(), Timestamp::now())
            .await;
        shown.push(chain(&set.unwrap_err()));
    }
    let shown = shown.join("\n");
    for kind in ["Api {", "Timeout {", "NotSent {", "Interrupted {", "UnreadableReply {", "Credentials("] {
        assert!(shown.contains(kind), "no error of the kind {kind}: {shown}");
    }
    for stand_in in [ecs::UNRECOGNIZED_CODE, ecs::WITHHELD] {
        assert!(shown.contains(stand_in), "nothing had to be replaced by {stand_in}: {shown}");
    }
    traces.assert_none_in("errors", &shown);
}

fn client(endpoint: &str, token: &str) -> (ecs::Client, ecs::Identity) {
    let credentials = Environment::read(|name| match name {
        "ALIBABA_CLOUD_ACCESS_KEY_ID" => Some(ACCESS_KEY_ID.into()),
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET" => Some(ACCESS_KEY_SECRET.into()),
        "ALIBABA_CLOUD_SECURITY_TOKEN" => Some(token.into()),
        _ => None,
    });
    let endpoint = Some(Endpoint::parse(endpoint).unwrap());
    let config = ecs::Config { endpoint, timeout: Duration::from_millis(2500), ..ecs::Config::default() };
    let client = ecs::Client::new(config, ecs::Clock::default()).unwrap();
    let cache = Cache::new(Arc::new(credentials), client.clock().clone());
    (client, ecs::Identity::new("operator", Arc::new(cache)))
}

/// All that an error shows, and its sources.
fn chain(error: &ecs::Error) -> String {
    let mut text = String::new();
    let mut next: Option<&dyn Error> = Some(error);
    while let Some(error) = next {
        let _ = writeln!(text, "{error}; {error:?}; {error:#?}");
        next = error.source();
    }
    text
}

/// A Secret as a user writes it: in clear or in base64, taking turns by its name's length.
fn secret(name: &str, key: &str, value: &[u8]) -> Value {
    let mut secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}});
    match std::str::from_utf8(value) {
        Ok(text) if name.len().is_multiple_of(2) => secret["stringData"] = json!({key: text}),
        _ => secret["data"] = json!({key: k8s_openapi::ByteString(value.to_vec())}),
    }
    secret
}

/// Does what `kubectl apply` does, which keeps all of each Secret in an annotation.
fn apply(world: &World, secrets: impl IntoIterator<Item = Value>) {
    let items: Vec<Value> = secrets.into_iter().collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let home = tempfile::tempdir().unwrap();
    let mut child = Command::new(kubectl())
        .arg("--kubeconfig")
        .arg(shared_kubeconfig())
        .args(["--namespace", &world.namespace, "apply", "--filename", "-"])
        .env("HOME", home.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(list.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "kubectl apply failed");
}

fn kubectl() -> PathBuf {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("hack/control-plane.sh");
    let output = Command::new(script).arg("bin-dir").output().unwrap();
    assert!(output.status.success(), "hack/control-plane.sh bin-dir failed");
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).join("kubectl")
}
