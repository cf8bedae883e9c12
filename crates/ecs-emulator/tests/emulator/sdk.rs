//! The binary, driven by the official SDKs for Python: `sdk.py` and `sts.py`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Long enough for pip to fetch the SDK over a slow line.
const PATIENCE: Duration = Duration::from_mins(10);

#[tokio::test]
async fn the_official_sdk_finds_in_the_emulator_what_it_knows_from_the_real_service() {
    let python = python_with_sdk().await;
    for script in ["sdk.py", "sts.py"] {
        let (mut emulator, url) = start_emulator().await;
        let mut command = Command::new(&python);
        // The packages read all of these.
        for name in std::env::vars().map(|(name, _)| name) {
            if name.to_ascii_lowercase().ends_with("_proxy") || name.starts_with("ALIBABA_CLOUD_") {
                command.env_remove(name);
            }
        }
        // No bytecode beside the scripts.
        run(command.arg("-B").arg(here().join(script)).arg(url)).await;
        let id = emulator.id().unwrap().to_string();
        run(Command::new("kill").args(["-TERM", &id])).await;
        let status = timeout(Duration::from_secs(10), emulator.wait()).await.unwrap().unwrap();
        assert!(status.success(), "after SIGTERM the emulator ended with {status}");
    }
}

fn here() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/emulator")
}

/// The binary on a free port, and the URL it prints.
async fn start_emulator() -> (Child, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ecs-emulator"))
        .args(["--listen", "127.0.0.1:0"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let url = timeout(Duration::from_secs(10), lines.next_line()).await.unwrap().unwrap();
    (child, url.expect("the emulator prints its URL"))
}

/// The Python of a virtual environment that holds the requirements; kept in `VNCPASSWORD_CACHE`, by default
/// `.cache`.
async fn python_with_sdk() -> PathBuf {
    let requirements = here().join("requirements.txt");
    let version = run(Command::new("python3").arg("--version")).await;
    let pinned = Sha256::new_with_prefix(version).chain_update(std::fs::read(&requirements).unwrap());
    let hash: String =
        pinned.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
    let cache = std::env::var_os("VNCPASSWORD_CACHE")
        .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.cache"), PathBuf::from);
    let home = cache.join(format!("venv-{hash}"));
    let python = home.join("bin/python");
    let complete = home.join("complete");
    if !complete.exists() {
        run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&home)).await;
        run(Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(&requirements))
        .await;
        std::fs::write(complete, "").unwrap();
    }
    python
}

/// Runs a command to its end, shows what it printed, and fails unless it succeeds.
async fn run(command: &mut Command) -> String {
    let shown = format!("{:?}", command.as_std());
    let output = timeout(PATIENCE, command.kill_on_drop(true).output())
        .await
        .unwrap_or_else(|_| panic!("{shown} takes longer than {PATIENCE:?}"))
        .unwrap_or_else(|error| {
            panic!("this test needs python3 with venv, and a shell's tools; {shown}: {error}")
        });
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr);
    #[allow(clippy::print_stdout, reason = "shown where the test fails, or on --nocapture")]
    {
        println!("{stdout}{stderr}");
    }
    assert!(output.status.success(), "{shown} ended with {}:\n{stdout}{stderr}", output.status);
    stdout
}
