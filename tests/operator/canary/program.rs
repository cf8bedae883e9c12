//! The operator as a program: started as a user starts it, everything that it says kept in files.

use std::{
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command as Blocking, Stdio},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    process::{Child, Command},
    time::Instant,
};
use vncpassword_test_support::{World, barrier, collector::Collector, world::PATIENCE};

/// Id of the access key, its secret and its token. They hold characters that are encoded in queries.
pub const ACCESS_KEY_ID: &str = "STS.NXmqKwZyVtRgHjUk";
pub const ACCESS_KEY_SECRET: &str = "8Wq+xJ/Vzk=Yt~ZrQmKp.LsHgN";
pub const SECURITY_TOKEN: &str = "CAIS+Qx/ZkVw==~JtYmRpLsHgNvKzXqWr.Tj/9u";

/// A running operator.
pub struct Program {
    child: Child,
    directory: tempfile::TempDir,
    address: SocketAddr,
    collector: Collector,
}

impl Program {
    /// Starts one that logs all there is.
    pub async fn start(world: &World, kubeconfig: &Path, log_format: &str) -> Self {
        let key = [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", ACCESS_KEY_ID),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ACCESS_KEY_SECRET),
            ("ALIBABA_CLOUD_SECURITY_TOKEN", SECURITY_TOKEN),
        ];
        Self::start_as(world, kubeconfig, log_format, &key).await
    }

    /// The same with its credentials from wherever these variables say.
    pub async fn start_as(
        world: &World,
        kubeconfig: &Path,
        log_format: &str,
        credentials: &[(&str, &str)],
    ) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| std::fs::File::create(directory.path().join(name)).unwrap();
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let collector = Collector::start().await;
        let child = Command::new(env!("CARGO_BIN_EXE_vncpassword-operator"))
            .args(["run", "--region", "cn-hangzhou", "--settle", "3s", "--log-format", log_format])
            .args([
                "--watch-namespaces",
                &world.namespace,
                "--ambient-credentials-namespaces",
                &world.namespace,
            ])
            .args(["--ecs-endpoint", &world.emulator.url(), "--sts-endpoint", &world.emulator.url()])
            .args(["--metadata-endpoint", &world.emulator.url()])
            .args(["--otlp-endpoint", collector.url()])
            .args(["--http-addr", &address.to_string()])
            .env_clear()
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "trace")
            .env("RUST_BACKTRACE", "full")
            .envs(credentials.iter().copied())
            .stdin(Stdio::null())
            .stdout(file("stdout"))
            .stderr(file("stderr"))
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let program = Self { child, directory, address, collector };
        let deadline = Instant::now() + PATIENCE;
        while !program.get("/readyz").await.starts_with("HTTP/1.1 200") {
            assert!(Instant::now() < deadline, "not ready in time: {}", program.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        program
    }

    /// An answer of its HTTP server, head and body; empty where there is none.
    pub async fn get(&self, path: &str) -> String {
        let mut answer = String::new();
        let request = format!("GET {path} HTTP/1.1\r\nHost: operator\r\nConnection: close\r\n\r\n");
        if let Ok(mut stream) = TcpStream::connect(self.address).await {
            stream.write_all(request.as_bytes()).await.ok();
            stream.read_to_string(&mut answer).await.ok();
        }
        answer
    }

    /// Waits until it has handled what was changed before, as [`Operator::settled`] does.
    ///
    /// [`Operator::settled`]: vncpassword_test_support::Operator::settled
    pub async fn settled(&self, world: &World) {
        barrier::pass(world, self.address).await;
    }

    /// Where its spans go.
    pub fn collector(&self) -> Collector {
        self.collector.clone()
    }

    /// All that it has said.
    pub fn log(&self) -> String {
        ["stdout", "stderr"].map(|name| self.read(name)).concat()
    }

    fn read(&self, name: &str) -> String {
        let bytes = std::fs::read(self.directory.path().join(name)).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Ends it in good order; returns all that it has said.
    pub async fn stop(mut self) -> String {
        let kill = format!("kill -TERM {}", self.child.id().unwrap());
        assert!(Blocking::new("sh").args(["-c", &kill]).status().unwrap().success());
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        let status = ended.expect("the operator did not end in time").unwrap();
        assert!(status.success(), "{status}: {}", self.read("stderr"));
        assert_eq!(self.read("stdout"), "", "logs go to standard error");
        self.log()
    }
}
