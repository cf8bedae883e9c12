//! The operator as a process that can be killed. What all its processes say is kept in one file.

use std::{
    fs::{File, OpenOptions},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};
use vncpassword_emulator::AccessKey;
use vncpassword_test_support::{World, world::PATIENCE};

/// How to start one.
pub struct Programs {
    kubeconfig: std::path::PathBuf,
    namespace: String,
    ecs_endpoint: String,
    settle: Duration,
    said: tempfile::NamedTempFile,
}

/// A running one.
pub struct Program {
    child: Child,
    address: SocketAddr,
}

impl Programs {
    pub fn new(world: &World, kubeconfig: &Path, settle: Duration) -> Self {
        Self {
            kubeconfig: kubeconfig.to_owned(),
            namespace: world.namespace.clone(),
            ecs_endpoint: world.emulator.url(),
            settle,
            said: tempfile::NamedTempFile::new().unwrap(),
        }
    }

    pub fn start(&self) -> Program {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let said: File = OpenOptions::new().append(true).open(self.said.path()).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_vncpassword-operator"))
            .args(["run", "--allow-reboot", "--region", "cn-hangzhou", "--log-format", "json"])
            .args(["--settle", &format!("{}s", self.settle.as_secs())])
            .args(["--ambient-credentials-namespaces", "*"])
            .args(["--watch-namespaces", &self.namespace, "--ecs-endpoint", &self.ecs_endpoint])
            .args(["--http-addr", &address.to_string()])
            .env_clear()
            .env("KUBECONFIG", &self.kubeconfig)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", AccessKey::DEFAULT_ID)
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", AccessKey::DEFAULT_SECRET)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .expect("the program cannot be started");
        Program { child, address }
    }

    /// Starts one and waits until it has listed everything.
    pub async fn ready(&self) -> Program {
        let mut program = self.start();
        assert!(program.is_ready_within(PATIENCE).await, "not ready in time: {}", self.said(""));
        program
    }

    /// The last that the processes said with these words in it.
    pub fn said(&self, words: &str) -> String {
        let said = std::fs::read_to_string(self.said.path()).unwrap();
        let lines: Vec<&str> = said.lines().filter(|line| line.contains(words)).collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Program {
    pub fn id(&self) -> u32 {
        self.child.id().expect("it has ended by itself")
    }

    /// Waits until it is ready; `false`: it takes longer.
    pub async fn is_ready_within(&mut self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.get("/readyz").await != Some(200) {
            assert_eq!(self.child.try_wait().unwrap(), None, "it has ended by itself");
            if Instant::now() >= deadline {
                return false;
            }
            sleep(Duration::from_millis(10)).await;
        }
        true
    }

    /// HTTP status of a GET; `None`: no answer.
    pub async fn get(&self, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect(self.address).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut reply = String::new();
        stream.read_to_string(&mut reply).await.ok()?;
        reply.split(' ').nth(1)?.parse().ok()
    }

    /// SIGKILL, and waits until it is gone.
    pub async fn kill(mut self) {
        assert_eq!(self.child.try_wait().unwrap(), None, "it has ended by itself");
        self.child.kill().await.unwrap();
    }

    /// Ends it as Kubernetes would.
    pub async fn end(mut self) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill").args(["-s", "TERM", &id]).status().unwrap();
        assert!(sent.success());
        let ended = timeout(Duration::from_secs(10), self.child.wait()).await;
        let status: ExitStatus = ended.expect("it does not end").unwrap();
        assert!(status.success(), "{status}");
    }
}
