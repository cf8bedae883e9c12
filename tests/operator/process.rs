//! The program itself: its probes, its end, its words about wrong settings, and what it lives through.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    path::Path,
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use k8s_openapi::{ByteString, apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions};
use kube::{
    Api, Client, CustomResourceExt,
    api::{ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    io::AsyncReadExt,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason, VncPassword, VncPasswordStatus};
use vncpassword_emulator::{AccessKey, Action, Emulator, Fault, Instance, Options};
use vncpassword_test_support::{
    World,
    control_plane::{ControlPlane, config, shared_kubeconfig},
    world::PATIENCE,
};

/// How long the program may take to end: longer than the ECS client's total time-out, shorter than a Pod's grace.
pub const END: Duration = Duration::from_secs(10);

// -------------------------------------------------------------------------------------------------- probes and metrics

#[tokio::test(flavor = "multi_thread")]
async fn it_is_ready_once_everything_is_listed_and_shows_its_metrics() {
    let world = World::new().await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let program = Program::operator(&world).await;
    assert_eq!(program.probe("/healthz").await.unwrap().0, StatusCode::OK);
    world.until_console(&instance, "Abc123").await;
    let ready = format!("vncpassword_ready{{namespace=\"{}\",name=\"a\"}} 1\n", world.namespace);
    program
        .until("the object is shown", async || {
            program.probe("/metrics").await.is_ok_and(|(_, _, metrics)| metrics.contains(&ready))
        })
        .await;
    let (status, content_type, metrics) = program.probe("/metrics").await.unwrap();
    assert_eq!(status, StatusCode::OK);
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(!metrics.contains("# EOF"), "{metrics}");
    let open = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.1";
    let (_, content_type, metrics) = program.ask("/metrics", open).await.unwrap();
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert!(metrics.ends_with("# EOF\n"), "{metrics}");
    let documented = documented_metrics();
    let unknown: Vec<_> =
        families(&metrics).into_iter().filter(|found| !documented.contains(found)).collect();
    assert_eq!(unknown, [] as [String; 0], "docs/metrics.md has them not");
    let instance_id = format!("instance_id=\"{instance}\"");
    for wanted in [
        r#"cloud_calls_total{action="ModifyInstanceVncPasswd",class="accepted",code="ok"} 1"#,
        r#"cloud_call_duration_seconds_count{action="ModifyInstanceVncPasswd"} 1"#,
        r#"credentials_obtained_timestamp_seconds{identity="operator",provider="environment"}"#,
        r#"credentials_refused{identity="operator"} 0"#,
        r#"reconciles_total{kind="VncPassword",result="ok"}"#,
        r#"limiter_closed{action="ModifyInstanceVncPasswd",region="cn-hangzhou","#,
        r#"queue_running{queue="objects"} 0"#,
        "vncpassword_operator_leader 1",
        r#"vncpassword_objects{ready="True",reason="Applied"} 1"#,
        &instance_id,
    ] {
        assert!(metrics.contains(wanted), "no {wanted} in {metrics}");
    }
    world.objects().delete("a", &DeleteParams::default()).await.unwrap();
    program
        .until("the object is gone", async || {
            program.probe("/metrics").await.is_ok_and(|(_, _, metrics)| !metrics.contains(&instance))
        })
        .await;
    assert_eq!(program.probe("/").await.unwrap().0, StatusCode::NOT_FOUND);
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_alive_but_not_ready_while_the_api_server_cannot_be_reached() {
    // Held, and never answered on: connections come about and nothing comes back.
    let dead = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    for server in [format!("http://{}", dead.local_addr().unwrap()), format!("http://{}", free_address())] {
        let cluster = json!([{"name": "dead", "cluster": {"server": server}}]);
        let context = json!([{"name": "dead", "context": {"cluster": "dead", "user": "nobody"}}]);
        let users = json!([{"name": "nobody", "user": {}}]);
        let text = json!({"apiVersion": "v1", "kind": "Config", "current-context": "dead", "clusters": cluster,
            "contexts": context, "users": users});
        std::fs::write(&kubeconfig, text.to_string()).unwrap();
        let address = free_address();
        let program = Program::start(&["run"], &[("HTTP_ADDR", &address)], Some(&kubeconfig));
        program.until_alive().await;
        // Longer than the watches need for their first tries.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(3) {
            assert_eq!(program.probe("/healthz").await.unwrap().0, StatusCode::OK);
            assert_eq!(program.probe("/readyz").await.unwrap().0, StatusCode::SERVICE_UNAVAILABLE);
            sleep(Duration::from_millis(100)).await;
        }
        program.end().await;
    }
}

// ------------------------------------------------------------------------------------------------------------- its end

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_it_after_what_is_in_flight_is_recorded() {
    let world = World::new().await;
    let program = Program::operator(&world).await;
    // One call will be answered late, one never.
    let modify = |fault: Fault, instance: &str| {
        world.cloud().inject(fault.on(Action::ModifyInstanceVncPasswd).instance(instance).times(1));
    };
    let (slow, lost) = (world.object("slow").await, world.object("lost").await);
    for name in ["slow", "lost"] {
        world.until_stalled(name, Reason::SecretNotFound).await;
    }
    modify(Fault::latency(Duration::from_secs(2)), &slow);
    modify(Fault::hang(), &lost);
    for (name, instance) in [("slow", &slow), ("lost", &lost)] {
        world.secret(name, "Abc123").await;
        let called = world.cloud().next_call(0, |call| {
            call.action == "ModifyInstanceVncPasswd" && call.instance_ids == [instance.as_str()]
        });
        timeout(PATIENCE, called).await.expect("no call in time");
    }
    assert_eq!(world.status("slow").await.request_id, None, "the call is still in flight");
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{}: {}", ended.status, ended.said);
    assert!(ended.said.contains("SIGTERM"), "{}", ended.said);

    let slow_status = world.status("slow").await;
    assert_eq!(slow_status.ready(), ConditionStatus::True);
    assert_eq!(slow_status.request_id.as_deref(), Some(world.calls(&slow)[0].request_id.as_str()));
    let lost_status = world.status("lost").await;
    assert_eq!(lost_status.ready(), ConditionStatus::Unknown);
    assert_eq!(lost_status.reason(ConditionType::Reconciling), Some(Reason::OutcomeUnknown));
    assert!(lost_status.retry.unwrap().unsettled_until.is_some());

    // The next process goes on where this one ended.
    let program = Program::operator(&world).await;
    world.until_console(&lost, "Abc123").await;
    world.until("lost", "Ready", |status| status.ready() == ConditionStatus::True).await;
    assert_eq!((world.calls(&slow).len(), world.calls(&lost).len()), (1, 2));
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_ends_it_too() {
    let world = World::new().await;
    let program = Program::operator(&world).await;
    program.signal("INT");
    let ended = program.ended().await;
    assert!(ended.status.success(), "{}: {}", ended.status, ended.said);
}

// -------------------------------------------------------------------------------------------------------- its settings

/// Arguments, environment, exit code, what must be said.
type Row<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], i32, &'a [&'a str]);

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_used_is_named_on_standard_error() {
    let world = World::new().await;
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let table: &[Row] = &[
        (&["run", "--region", "x.example.com/?"], &[], 1, &["--region", "x.example.com/?"]),
        (&["run"], &[("ALIBABA_CLOUD_REGION_ID", "CN-HANGZHOU")], 1, &["--region", "CN-HANGZHOU"]),
        (&["run", "--ecs-endpoint", "ftp://example.com"], &[], 1, &["--ecs-endpoint"]),
        (&["run"], &[("ECS_ENDPOINT", "nonsense")], 1, &["--ecs-endpoint"]),
        (&["run", "--settle", "soon"], &[], 1, &["--settle", "soon", "16m"]),
        (&["run", "--settle=-5m"], &[], 1, &["--settle", "-5m"]),
        (&["run"], &[("SETTLE", "10ms")], 1, &["--settle", "10ms"]),
        (&["run", "--max-concurrent-reconciles", "0"], &[], 1, &["--max-concurrent-reconciles"]),
        (&["run", "--max-concurrent-reconciles", "many"], &[], 2, &["--max-concurrent-reconciles", "many"]),
        (&["run", "--endpoint-network", "moon"], &[], 2, &["--endpoint-network", "moon", "public", "vpc"]),
        (&["run", "--http-addr", "8080"], &[], 2, &["--http-addr", "8080"]),
        (&["run", "--http-addr", &taken], &[], 1, &["--http-addr", &taken, "in use"]),
        (&["run", "--log-format", "xml"], &[], 2, &["--log-format", "xml", "text", "json"]),
        (&["run", "--no-such-flag"], &[], 2, &["--no-such-flag"]),
        (&["rum"], &[], 2, &["rum", "run"]),
        (&[], &[], 2, &["Usage", "run", "crds"]),
    ];
    for (arguments, environment, code, named) in table {
        let ended = Program::start(arguments, environment, Some(&shared_kubeconfig())).ended().await;
        assert_eq!(ended.status.code(), Some(*code), "{arguments:?} {environment:?}: {}", ended.said);
        for name in *named {
            assert!(ended.said.contains(name), "{arguments:?} {environment:?}, no {name:?}: {}", ended.said);
        }
        assert!(!ended.said.contains("panicked"), "{}", ended.said);
    }
    drop(world);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_cluster_it_says_where_it_looked() {
    for kubeconfig in [None, Some(Path::new("/does/not/exist"))] {
        let ended = Program::start(&["run"], &[], kubeconfig).ended().await;
        assert_eq!(ended.status.code(), Some(1), "{}", ended.said);
        let line = ended.said.lines().last().unwrap_or_default();
        assert!(line.starts_with("vncpassword-operator: "), "{line}");
        for word in ["kubeconfig", "in-cluster"] {
            assert!(line.contains(word), "no {word:?}: {line}");
        }
    }
}

// ------------------------------------------------------------------------------------------------ what it lives through

#[tokio::test(flavor = "multi_thread")]
async fn malformed_objects_stop_nobody_and_heal_when_mended() {
    // As an older and laxer CRD would have it: everything is let in.
    let mut crd = serde_json::to_value(VncPassword::crd()).unwrap();
    let version = crd["spec"]["versions"][0].as_object_mut().unwrap();
    version.remove("selectableFields");
    version["schema"] =
        json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
    let cluster = Cluster::start(crd).await;
    let spec = |name: &str| json!({"instanceId": format!("i-{name}"), "secretRef": {"name": "s"}});
    let garbage = [
        ("number", json!({"instanceId": 5, "secretRef": {"name": "s"}})),
        ("missing", json!(null)),
        ("list", json!(["i-list"])),
        ("half", json!({"instanceId": "i-half"})),
        ("word", json!({"instanceId": "i-word", "secretRef": {"name": "s"}, "suspend": "yes"})),
    ];
    let good = ["one", "two", "odd", "older", "later"];
    for name in good.iter().copied().chain(garbage.iter().map(|(name, _)| *name)) {
        cluster.emulator.cloud().put_instance(Instance::new(format!("i-{name}")));
    }
    cluster.secret("s", "Abc123").await;
    cluster.create("one", &spec("one")).await;
    for (name, spec) in &garbage[..3] {
        cluster.create(name, spec).await;
    }
    cluster.create("two", &spec("two")).await;
    cluster.create("odd", &spec("odd")).await;
    cluster.set_status("odd", &json!({"conditions": "many", "rotations": [1], "applied": {"time": 5}})).await;
    cluster.create("older", &spec("older")).await;
    cluster.set_status("older", &json!("none")).await;

    let program = cluster.program().await;
    for name in &good[..4] {
        cluster.until_ready(name).await;
    }
    // The same while the watch is on.
    for (name, spec) in &garbage[3..] {
        cluster.create(name, spec).await;
    }
    cluster.create("later", &spec("later")).await;
    cluster.until_ready("later").await;
    for (name, _) in &garbage {
        cluster.until(name, "InvalidObject", says_invalid).await;
    }
    // A good one that becomes malformed is left alone.
    cluster.patch("one", json!({"spec": {"instanceId": {"id": "i-one"}}})).await;
    cluster.until("one", "InvalidObject", says_invalid).await;
    let sent: BTreeSet<String> = cluster.sent().into_iter().map(|(instance, _)| instance).collect();
    assert_eq!(sent, good.iter().map(|name| format!("i-{name}")).collect());

    for (name, _) in &garbage {
        // Read, changed and written whole: there is no merging into a list.
        let mut object = cluster.objects().get(name).await.unwrap();
        object.data["spec"] = spec(name);
        cluster.objects().replace(name, &PostParams::default(), &object).await.unwrap();
    }
    cluster.patch("one", json!({"spec": {"instanceId": "i-one"}})).await;
    for name in good.iter().copied().chain(garbage.iter().map(|(name, _)| *name)) {
        cluster.until_ready(name).await;
        let console = cluster.emulator.cloud().instance(&format!("i-{name}")).unwrap().console_password;
        assert_eq!(console.as_deref(), Some("Abc123"), "{name}");
    }
    program.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_lives_through_an_outage_of_the_api_server() {
    let mut cluster = Cluster::start(serde_json::to_value(VncPassword::crd()).unwrap()).await;
    let program = cluster.program().await;
    cluster.emulator.cloud().put_instance(Instance::new("i-a"));
    cluster.emulator.cloud().put_instance(Instance::new("i-b"));
    cluster.secret("a", "Abc123").await;
    cluster.create("a", &json!({"instanceId": "i-a", "secretRef": {"name": "a"}})).await;
    cluster.until_ready("a").await;

    // The API server goes while a call is in flight: its outcome cannot be recorded.
    let slow = Fault::latency(Duration::from_secs(2)).on(Action::ModifyInstanceVncPasswd).times(1);
    cluster.emulator.cloud().inject(slow);
    cluster.secret("a", "Xyz789").await;
    let called = cluster.emulator.cloud().next_call(0, |call| call.vnc_password.as_deref() == Some("Xyz789"));
    let call = timeout(PATIENCE, called).await.expect("no call in time");
    cluster.say("kill apiserver");
    program.until_said("cannot write the status").await;
    for _ in 0..10 {
        assert_eq!(program.probe("/healthz").await.unwrap().0, StatusCode::OK);
        assert_eq!(program.probe("/readyz").await.unwrap().0, StatusCode::OK, "what it knows is still good");
        sleep(Duration::from_millis(100)).await;
    }
    cluster.say("start apiserver");
    let status = cluster.until("a", "recorded", |status| status.rotations == Some(2)).await;
    assert_eq!(status.request_id, Some(call.request_id), "recorded, not sent again");
    let value = |instance: &str, value: &str| (instance.to_owned(), value.to_owned());
    assert_eq!(cluster.sent(), [value("i-a", "Abc123"), value("i-a", "Xyz789")]);

    // Both watches go on, now and after an orderly restart.
    let mut expected = cluster.sent();
    for (round, new) in [(3, "b"), (4, "c")] {
        let instance = format!("i-{new}");
        cluster.emulator.cloud().put_instance(Instance::new(&instance));
        cluster.create(new, &json!({"instanceId": instance, "secretRef": {"name": new}})).await;
        let says_missing = |status: &VncPasswordStatus| {
            status.reason(ConditionType::Stalled) == Some(Reason::SecretNotFound)
        };
        cluster.until(new, "seen", says_missing).await;
        cluster.secret(new, "Ghi789").await;
        cluster.until_ready(new).await;
        let next = format!("Next0{round}");
        cluster.secret("a", &next).await;
        cluster.until("a", "rotated", |status| status.rotations == Some(round)).await;
        expected.extend([value(&instance, "Ghi789"), value("i-a", &next)]);
        assert_eq!(cluster.sent(), expected);
        if new == "b" {
            cluster.say("stop apiserver");
            cluster.say("start apiserver");
        }
    }
    program.end().await;
}

fn says_invalid(status: &VncPasswordStatus) -> bool {
    let conditions = [ConditionType::Ready, ConditionType::Stalled].map(|type_| status.reason(type_));
    status.ready() == ConditionStatus::False && conditions == [Some(Reason::InvalidObject); 2]
}

/// Names of the metrics that a text holds.
fn families(text: &str) -> BTreeSet<String> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let name = |(name, type_): (&str, &str)| match type_ {
        "counter" => format!("{name}_total {type_}"),
        "info" => format!("{name}_info {type_}"),
        _ => format!("{name} {type_}"),
    };
    types.map(name).collect()
}

/// Names of the metrics in docs/metrics.md.
fn documented_metrics() -> BTreeSet<String> {
    let reference = include_str!("../../docs/metrics.md");
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `vncpassword_"));
    let cells = rows.map(|row| row.split('|').map(|cell| cell.trim_matches([' ', '`'])).collect::<Vec<_>>());
    cells.map(|cells| format!("vncpassword_{} {}", cells[0], cells[1])).collect()
}

// ---------------------------------------------------------------------------------------------------------- the program

/// The program as a process, in an environment that holds nothing but what is given.
pub struct Program {
    child: Child,
    address: String,
    said: Arc<Mutex<String>>,
    reader: tokio::task::JoinHandle<()>,
}

/// How it ended.
pub struct Ended {
    pub status: ExitStatus,
    pub said: String,
}

impl Program {
    fn start(arguments: &[&str], environment: &[(&str, &str)], kubeconfig: Option<&Path>) -> Self {
        // For the client that probes it; whoever is first in this process does it for all.
        rustls::crypto::ring::default_provider().install_default().ok();
        let mut command = Command::new(env!("CARGO_BIN_EXE_vncpassword-operator"));
        command.args(arguments).env_clear().envs(environment.iter().copied());
        if let Some(kubeconfig) = kubeconfig {
            command.env("KUBECONFIG", kubeconfig);
        }
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("the program cannot be started");
        let mut stderr = child.stderr.take().unwrap();
        let said = Arc::<Mutex<String>>::default();
        let reader = tokio::spawn({
            let said = Arc::clone(&said);
            async move {
                let mut buffer = [0; 4096];
                while let Ok(read @ 1..) = stderr.read(&mut buffer).await {
                    said.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..read]));
                }
            }
        });
        let address = environment.iter().find(|(name, _)| *name == "HTTP_ADDR");
        let address = address.map_or_else(String::new, |(_, address)| (*address).to_owned());
        Self { child, address, said, reader }
    }

    /// `run` for these namespaces with this cloud, waited for until it is ready.
    async fn run(kubeconfig: &Path, namespace: &str, emulator: &Emulator) -> Self {
        Self::run_with(kubeconfig, namespace, emulator, &[]).await
    }

    /// The same with more variables.
    pub async fn run_with(
        kubeconfig: &Path,
        namespace: &str,
        emulator: &Emulator,
        variables: &[(&str, &str)],
    ) -> Self {
        let environment = [
            ("HTTP_ADDR", free_address()),
            ("WATCH_NAMESPACES", namespace.to_owned()),
            ("AMBIENT_CREDENTIALS_NAMESPACES", namespace.to_owned()),
            ("ECS_ENDPOINT", emulator.url()),
            ("ALIBABA_CLOUD_REGION_ID", "cn-hangzhou".to_owned()),
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", AccessKey::DEFAULT_ID.to_owned()),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", AccessKey::DEFAULT_SECRET.to_owned()),
        ];
        let environment = environment.iter().map(|(name, value)| (*name, value.as_str()));
        let environment: Vec<(&str, &str)> = environment.chain(variables.iter().copied()).collect();
        let program = Self::start(&["run"], &environment, Some(kubeconfig));
        program.until("it is ready", async || program.status("/readyz").await == Some(StatusCode::OK)).await;
        program
    }

    async fn operator(world: &World) -> Self {
        Self::run(&shared_kubeconfig(), &world.namespace, &world.emulator).await
    }

    /// Status, content type and body of a GET, or why there was none.
    async fn probe(&self, path: &str) -> Result<(StatusCode, String, String), String> {
        self.ask(path, "*/*").await
    }

    /// The same, with a word on the form of the answer.
    async fn ask(&self, path: &str, accept: &str) -> Result<(StatusCode, String, String), String> {
        let request = reqwest::Client::new().get(format!("http://{}{path}", self.address));
        let reply = request.header("accept", accept).send().await;
        let reply = reply.map_err(|error| format!("{path}: {error}: {}", self.said()))?;
        let content_type = reply.headers().get("content-type").and_then(|value| value.to_str().ok());
        let content_type = content_type.unwrap_or_default().to_owned();
        Ok((reply.status(), content_type, reply.text().await.map_err(|error| error.to_string())?))
    }

    async fn status(&self, path: &str) -> Option<StatusCode> {
        self.probe(path).await.ok().map(|(status, ..)| status)
    }

    async fn until_alive(&self) {
        self.until("it is alive", async || self.status("/healthz").await == Some(StatusCode::OK)).await;
    }

    async fn until_said(&self, words: &str) {
        self.until(&format!("it says {words:?}"), async || self.said().contains(words)).await;
    }

    async fn until(&self, wanted: &str, mut holds: impl AsyncFnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds().await {
            assert!(Instant::now() < deadline, "waited in vain until {wanted}: {}", self.said());
            sleep(Duration::from_millis(20)).await;
        }
    }

    /// What it has said on standard error so far.
    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().expect("it has ended already").to_string();
        let sent = std::process::Command::new("kill").args(["-s", name, &id]).status().unwrap();
        assert!(sent.success());
    }

    pub fn terminate(&self) {
        self.signal("TERM");
    }

    pub async fn ended(mut self) -> Ended {
        let ended = timeout(END, self.child.wait()).await;
        let status = ended.unwrap_or_else(|_| panic!("it does not end: {}", self.said())).unwrap();
        self.reader.await.unwrap();
        let said = self.said.lock().unwrap().clone();
        Ended { status, said }
    }

    /// Ends it as Kubernetes would.
    /// The most memory that it had at any time, in bytes.
    pub fn peak_memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id().unwrap())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        peak.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
    }

    pub async fn end(self) {
        self.terminate();
        let ended = self.ended().await;
        assert!(ended.status.success(), "{}: {}", ended.status, ended.said);
    }
}

/// An address that nobody listens on, for now.
fn free_address() -> String {
    let listener = std::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    listener.local_addr().unwrap().to_string()
}

// ------------------------------------------------------------------------------------------------- a cluster of its own

/// A control plane of its own, for what would disturb the other tests, and a cloud.
pub struct Cluster {
    plane: ControlPlane,
    pub client: Client,
    emulator: Emulator,
}

impl Cluster {
    const NAMESPACE: &str = "default";

    pub async fn start(crd: Value) -> Self {
        let plane = tokio::task::block_in_place(ControlPlane::start);
        let client = Client::try_from(config(&plane.kubeconfig()).await).unwrap();
        let emulator = Emulator::start(Options::default()).await.unwrap();
        let crds: Api<apiextensions::CustomResourceDefinition> = Api::all(client.clone());
        let name = VncPassword::crd_name();
        crds.patch(name, &PatchParams::apply("test"), &Patch::Apply(crd)).await.unwrap();
        let cluster = Self { plane, client, emulator };
        let deadline = Instant::now() + PATIENCE;
        while cluster.objects().list(&kube::api::ListParams::default()).await.is_err() {
            assert!(Instant::now() < deadline, "VncPasswords are not served in time");
            sleep(Duration::from_millis(50)).await;
        }
        cluster
    }

    async fn program(&self) -> Program {
        self.program_for(Self::NAMESPACE).await
    }

    /// One that watches these namespaces; none: all.
    pub async fn program_for(&self, namespaces: &str) -> Program {
        Program::run(&self.plane.kubeconfig(), namespaces, &self.emulator).await
    }

    fn say(&mut self, command: &str) {
        tokio::task::block_in_place(|| self.plane.say(command));
    }

    /// The objects as they are, whatever they hold.
    fn objects(&self) -> Api<DynamicObject> {
        Api::namespaced_with(self.client.clone(), Self::NAMESPACE, &ApiResource::erase::<VncPassword>(&()))
    }

    /// Creates an object with this spec; `null`: without one.
    async fn create(&self, name: &str, spec: &Value) {
        let mut object = DynamicObject::new(name, &ApiResource::erase::<VncPassword>(&()));
        if !spec.is_null() {
            object.data = json!({"spec": spec});
        }
        self.objects().create(&PostParams::default(), &object).await.unwrap();
    }

    async fn set_status(&self, name: &str, status: &Value) {
        let mut object = self.objects().get(name).await.unwrap();
        object.data["status"] = status.clone();
        let written = self.objects().replace_status(name, &PostParams::default(), &object).await.unwrap();
        assert_eq!(written.data["status"], *status, "the API server lets it in");
    }

    async fn patch(&self, name: &str, change: Value) {
        self.objects().patch(name, &PatchParams::default(), &Patch::Merge(change)).await.unwrap();
    }

    async fn secret(&self, name: &str, value: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "data": {"password": ByteString(value.into())}});
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(self.client.clone(), Self::NAMESPACE);
        secrets.patch(name, &PatchParams::apply("test"), &Patch::Apply(secret)).await.unwrap();
    }

    async fn until(
        &self,
        name: &str,
        wanted: &str,
        holds: impl Fn(&VncPasswordStatus) -> bool,
    ) -> VncPasswordStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let object = self.objects().get(name).await.unwrap();
            let status = serde_json::from_value(object.data["status"].clone()).ok();
            if let Some(status) = status.filter(&holds) {
                return status;
            }
            assert!(Instant::now() < deadline, "{name} is not {wanted} in time: {:#}", object.data);
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// Until the value is in effect, sent once more or not.
    async fn until_ready(&self, name: &str) {
        self.until(name, "Ready", |status| status.ready() == ConditionStatus::True).await;
    }

    /// Instance and value of all passwords that were sent, in turn.
    fn sent(&self) -> Vec<(String, String)> {
        let calls = self.emulator.cloud().journal().into_iter();
        calls.filter_map(|call| Some((call.instance_ids.first()?.clone(), call.vnc_password?))).collect()
    }
}
