//! etcd and kube-apiserver as processes, through `hack/control-plane.sh`.

use std::{path::PathBuf, process::Stdio, time::Duration};

use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
};

use super::{Result, process};

/// The longest that a stop may take.
const STOP: Duration = Duration::from_secs(30);

/// A control plane that runs. Dropped, it stops itself: its standard input is closed.
pub struct ControlPlane {
    script: Child,
    /// Its state, and room for logs.
    directory: TempDir,
    pub kubeconfig: PathBuf,
}

impl ControlPlane {
    /// Starts one, fresh and empty; builds it first if it was never built.
    pub async fn start() -> Result<Self> {
        let directory = tempfile::Builder::new().prefix("vncpassword-bench-").tempdir()?;
        let mut script = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/hack/control-plane.sh"))
            .arg("run")
            .arg(directory.path().join("control-plane"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let output = script.stdout.take().ok_or("no output of control-plane.sh")?;
        let line = BufReader::new(output).lines().next_line().await?.unwrap_or_default();
        let kubeconfig = line.strip_prefix("ready ").ok_or("the control plane did not start")?.into();
        Ok(Self { script, directory, kubeconfig })
    }

    /// A file beside its state; it goes with it.
    pub fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// CPU time of API server and etcd so far.
    pub fn cpu(&self) -> Result<Duration> {
        let mut sum = Duration::ZERO;
        for server in ["apiserver", "etcd"] {
            let pid = std::fs::read_to_string(self.file("control-plane").join(format!("{server}.pid")))?;
            sum += process::cpu(pid.trim().parse()?)?;
        }
        Ok(sum)
    }

    /// Stops it and waits for that.
    pub async fn stop(mut self) -> Result<()> {
        drop(self.script.stdin.take());
        tokio::time::timeout(STOP, self.script.wait())
            .await
            .map_err(|_| "the control plane does not stop")??;
        Ok(())
    }
}
