//! One etcd and kube-apiserver for all tests of this binary.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::OnceLock,
};

use kube::config::{KubeConfigOptions, Kubeconfig};

/// A running control plane. It ends when its standard input is closed, so also when this process dies.
pub struct ControlPlane {
    directory: tempfile::TempDir,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
    _child: Child,
}

impl ControlPlane {
    /// Starts one.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts one with more arguments of the script.
    pub fn start_with(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../hack/control-plane.sh");
        let mut child = Command::new(script)
            .arg("run")
            .args(arguments)
            .arg(directory.path().join("state"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("hack/control-plane.sh cannot be started");
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        assert!(line.starts_with("ready "), "the control plane did not come up; it said: {line:?}");
        Self { directory, input: child.stdin.take().unwrap(), output, _child: child }
    }

    /// Says a command such as `stop apiserver`, and waits until it is done.
    pub fn say(&mut self, command: &str) {
        writeln!(self.input, "{command}").unwrap();
        let mut line = String::new();
        self.output.read_line(&mut line).unwrap();
        assert!(line.contains("ed "), "{command}: {line:?}");
    }

    /// Every request, one a line, where `--audit` was asked for.
    pub fn audit_log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("state/audit.log")).unwrap()
    }

    /// Where the kubeconfig of its administrator is.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("state/kubeconfig")
    }
}

/// The one that all tests share.
pub fn shared_kubeconfig() -> PathBuf {
    static SHARED: OnceLock<std::sync::Mutex<ControlPlane>> = OnceLock::new();
    let shared = SHARED.get_or_init(|| std::sync::Mutex::new(ControlPlane::start()));
    shared.lock().unwrap().kubeconfig()
}

/// How to reach a control plane.
pub async fn config(kubeconfig: &Path) -> kube::Config {
    let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
    kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap()
}
