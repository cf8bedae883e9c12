//! The plugin as a process: in a pipe, or on a terminal of 80 columns.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    rbac::v1::{ClusterRole, ClusterRoleBinding},
};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdout, Command},
    time::timeout,
};
use vncpassword_test_support::{World, control_plane::shared_kubeconfig, world::until};

/// Longest that a command may take that waits for nothing.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the plugin is called in a test.
#[derive(Clone)]
pub struct Plugin {
    kubeconfig: PathBuf,
    namespace: String,
    environment: BTreeMap<String, String>,
}

/// What came of a command.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub out: String,
    pub err: String,
}

pub const PROGRAM: &str = env!("CARGO_BIN_EXE_kubectl-vncpassword");

/// `PLUGIN` names another build of it, such as a release build whose speed is measured.
fn program() -> String {
    std::env::var("PLUGIN").unwrap_or_else(|_| PROGRAM.to_owned())
}

impl Plugin {
    /// In the namespace of a test on the control plane that all share.
    pub fn of(world: &World) -> Self {
        Self::at(&shared_kubeconfig(), &world.namespace)
    }

    /// On a control plane of its own.
    pub fn at(kubeconfig: &Path, namespace: &str) -> Self {
        let environment = BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]);
        Self { kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned(), environment }
    }

    /// With this in its environment.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.environment.insert(name.to_owned(), value.to_owned());
        self
    }

    fn prepared(&self, mut command: Command) -> Command {
        command.env_clear().envs(&self.environment).env("KUBECONFIG", &self.kubeconfig).kill_on_drop(true);
        command
    }

    fn arguments(&self, line: &str) -> Vec<String> {
        let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        // kubectl's flags may stand anywhere.
        words.extend(["-n".to_owned(), self.namespace.clone()]);
        words
    }

    /// Runs it with its output in pipes, and nobody to ask.
    pub async fn run(&self, line: &str) -> Ran {
        self.run_exactly(&self.arguments(line).iter().map(String::as_str).collect::<Vec<_>>()).await
    }

    /// Runs it with these arguments alone.
    pub async fn run_exactly(&self, arguments: &[&str]) -> Ran {
        let mut command = self.prepared(Command::new(program()));
        let running = command.args(arguments).stdin(Stdio::null()).output();
        let output = timeout(PATIENCE, running).await.expect("the plugin does not end").unwrap();
        Ran {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// Runs it on a terminal of 80 columns, where somebody types this; answers and remarks come together.
    pub async fn on_terminal(&self, line: &str, typed: &str) -> Ran {
        let words: Vec<String> = [program()].into_iter().chain(self.arguments(line)).collect();
        let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let shell = format!("stty cols 80 rows 24; exec {}", words.join(" "));
        let mut command = self.prepared(Command::new("script"));
        command.env("TERM", "xterm").args(["--quiet", "--return", "--command", &shell, "/dev/null"]);
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("script of bsdutils is needed");
        let mut input = child.stdin.take().unwrap();
        input.write_all(typed.as_bytes()).await.unwrap();
        input.flush().await.unwrap();
        let output =
            timeout(PATIENCE, child.wait_with_output()).await.expect("the plugin does not end").unwrap();
        drop(input);
        let out = String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n");
        Ran { code: output.status.code().unwrap(), out, err: String::new() }
    }

    /// Starts it and leaves it running.
    pub fn start(&self, line: &str) -> Running {
        let mut command = self.prepared(Command::new(program()));
        command.args(self.arguments(line)).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap()).lines();
        let err = BufReader::new(child.stderr.take().unwrap()).lines();
        Running { child, out, err }
    }
}

/// One that runs.
pub struct Running {
    child: Child,
    out: Lines<BufReader<ChildStdout>>,
    err: Lines<BufReader<ChildStderr>>,
}

impl Running {
    /// The next line of its answer; `None`: it has ended.
    pub async fn line(&mut self) -> Option<String> {
        timeout(PATIENCE, self.out.next_line()).await.expect("it says nothing").unwrap()
    }

    /// The first remark with these words.
    pub async fn remark(&mut self, words: &str) -> String {
        loop {
            let line = timeout(PATIENCE, self.err.next_line()).await.expect("it says nothing").unwrap();
            let line = line.unwrap_or_else(|| panic!("it ended without {words:?}"));
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Waits for its end: the lines of the answer that are left, and the remarks.
    pub async fn end(mut self) -> Ran {
        let (mut out, mut err) = (String::new(), String::new());
        let both = async {
            let reads = async {
                while let Some(line) = self.out.next_line().await.unwrap() {
                    out += &(line + "\n");
                }
            };
            let remarks = async {
                while let Some(line) = self.err.next_line().await.unwrap() {
                    err += &(line + "\n");
                }
            };
            tokio::join!(reads, remarks);
            self.child.wait().await.unwrap()
        };
        let status = timeout(PATIENCE * 5, both).await.expect("the plugin does not end");
        Ran { code: status.code().unwrap(), out, err }
    }
}

impl Ran {
    /// The whole of it for a snapshot, without what differs from run to run.
    pub fn snapshot(&self, world: &World) -> String {
        let Self { code, out, err } = self;
        let text = format!("{out}-- remarks\n{err}-- exit code {code}\n");
        text.replace(&format!("namespace {}", world.namespace), "namespace prod")
            .replace(&format!("-n {}", world.namespace), "-n prod")
            .replace(&format!("namespace \"{}\"", world.namespace), "namespace \"prod\"")
    }

    pub fn assert_code(&self, code: i32) {
        assert_eq!(self.code, code, "{self:#?}");
    }
}

/// A user who may do this and nothing else: verb and resource.
pub async fn user(world: &World, name: &str, rights: &[(&str, &str)]) -> String {
    let name = format!("{name}-{}", world.namespace);
    let rules: Vec<_> = rights
        .iter()
        .map(|(verb, resource)| {
            let group = if *resource == "secrets" { "" } else { "vncpassword.dev" };
            json!({"apiGroups": [group], "resources": [resource], "verbs": [verb]})
        })
        .collect();
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name}, "rules": rules});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}]});
    let parameters = PatchParams::apply("test").force();
    let cluster_roles: Api<ClusterRole> = Api::all(world.client.clone());
    cluster_roles.patch(&name, &parameters, &Patch::Apply(role)).await.unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(world.client.clone());
    bindings.patch(&name, &parameters, &Patch::Apply(binding)).await.unwrap();
    for (verb, resource) in rights {
        until_allowed(world, &name, verb, resource).await;
    }
    name
}

/// The API server hears of rights by a watch of its own.
async fn until_allowed(world: &World, user: &str, verb: &str, resource: &str) {
    let group = if resource == "secrets" { "" } else { "vncpassword.dev" };
    let attributes =
        json!({"group": group, "resource": resource, "verb": verb, "namespace": world.namespace});
    let review = json!({"metadata": {}, "spec": {"user": user, "resourceAttributes": attributes}});
    let reviews: Api<SubjectAccessReview> = Api::all(world.client.clone());
    until("the right is there", async || {
        let review = serde_json::from_value(review.clone()).unwrap();
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.is_some_and(|status| status.allowed)
    })
    .await;
}
