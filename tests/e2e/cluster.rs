//! The cluster that the tests run in, and the tools of the people who operate it.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::{Mutex, MutexGuard, Once, PoisonError},
    time::{Duration, Instant},
};

use super::policy;

/// How long anything may take that has no limit of its own to show.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A file of the repository.
pub fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An image with busybox (hack/cluster.sh).
pub const TOOLS_IMAGE: &str = "localhost/tools:1";

/// The version that was built, of images and chart.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The cluster, with nothing of an earlier test in it. One test has it at a time.
pub struct Cluster {
    _turn: MutexGuard<'static, ()>,
}

impl Cluster {
    /// Waits for its turn, and removes what an earlier test left.
    pub fn take() -> Self {
        static TURN: Mutex<()> = Mutex::new(());
        static POLICIES: Once = Once::new();
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let nodes = kubectl("get nodes -o name");
        assert_eq!(nodes.trim(), "node/e2e-node", "not the cluster of hack/cluster.sh: run make e2e");
        POLICIES.call_once(policy::enforce);
        sweep();
        Self { _turn: turn }
    }

    /// Makes a namespace, which the next test removes.
    #[allow(clippy::unused_self, reason = "whoever makes one has the cluster")]
    pub fn namespace(&self, name: &str, labels: &str) {
        kubectl(&format!("create namespace {name}"));
        kubectl(&format!("label namespace {name} made-by=e2e {labels}"));
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What stands is worth more than order when a test has failed, and the next one sweeps.
        if std::thread::panicking() {
            report();
        }
    }
}

/// Removes the releases, the namespaces and the definitions of earlier tests.
fn sweep() {
    let releases = helm("list --all-namespaces --output json");
    let releases: serde_json::Value = serde_json::from_str(&releases).unwrap();
    for release in releases.as_array().unwrap() {
        let text = |field: &str| release[field].as_str().unwrap().to_owned();
        helm(&format!("uninstall {} --namespace {} --no-hooks", text("name"), text("namespace")));
    }
    kubectl("delete namespace --selector made-by=e2e --timeout 90s");
    kubectl("delete crd vncpasswords.vncpassword.dev clustervncpasswords.vncpassword.dev --ignore-not-found");
}

/// What there is to see when a test has failed.
fn report() {
    for words in [
        "get pods --all-namespaces -o wide",
        "get events --all-namespaces --sort-by=.lastTimestamp --field-selector metadata.namespace!=cloud",
        "logs --all-namespaces --selector app.kubernetes.io/component=operator --prefix --tail 40",
    ] {
        let output = run("kubectl", words, None);
        let text = String::from_utf8_lossy(&output.stdout);
        let lines: Vec<&str> = text.lines().collect();
        let last = lines.iter().skip(lines.len().saturating_sub(40));
        #[allow(clippy::print_stderr, reason = "the output of a test")]
        {
            eprintln!("$ kubectl {words}");
            last.for_each(|line| eprintln!("  {line}"));
        }
    }
}

fn run(program: &str, words: &str, input: Option<&str>) -> Output {
    let mut child = Command::new(program)
        .args(words.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be started: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    // A program that fails early does not read it all; its error tells more.
    let _ = stdin.write_all(input.unwrap_or_default().as_bytes());
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// What the program prints, or its complaint.
fn try_run(program: &str, words: &str, input: Option<&str>) -> Result<String, String> {
    let Output { status, stdout, stderr } = run(program, words, input);
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    if status.success() { Ok(text(&stdout)) } else { Err(text(&stderr)) }
}

fn must_run(program: &str, words: &str, input: Option<&str>) -> String {
    try_run(program, words, input).unwrap_or_else(|complaint| panic!("{program} {words}: {complaint}"))
}

/// What kubectl prints. The words are separated by blanks and hold none.
pub fn kubectl(words: &str) -> String {
    must_run("kubectl", words, None)
}

/// What kubectl prints, or its complaint.
pub fn try_kubectl(words: &str) -> Result<String, String> {
    try_run("kubectl", words, None)
}

/// `kubectl apply` of these objects, in YAML or JSON.
pub fn apply(namespace: &str, objects: &str) {
    must_run("kubectl", &format!("apply --namespace {namespace} --filename -"), Some(objects));
}

/// What helm prints.
pub fn helm(words: &str) -> String {
    try_helm(words).unwrap_or_else(|complaint| panic!("helm {words}: {complaint}"))
}

/// What helm prints, or its complaint.
pub fn try_helm(words: &str) -> Result<String, String> {
    try_run(repository("hack/helm.sh").to_str().unwrap(), words, None)
}

/// Any other program, with standard input.
pub fn pipe(program: &str, words: &str, input: &str) -> String {
    must_run(program, words, Some(input))
}

/// The same, or its complaint.
pub fn try_pipe(program: &str, words: &str, input: &str) -> Result<String, String> {
    try_run(program, words, Some(input))
}

/// Waits until something holds. Returns how long that took.
pub fn until(what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
    begun.elapsed()
}
