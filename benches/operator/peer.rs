//! Building the Go operator, into the cache: `go build` knows by itself what is up to date.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::process::Command;

use super::Result;

/// Builds `benches/peer`.
pub async fn build() -> Result<PathBuf> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let cache =
        std::env::var_os("VNCPASSWORD_CACHE").map_or_else(|| repository.join(".cache"), PathBuf::from);
    let binary = std::path::absolute(cache)?.join("bench/peer");
    println!("Building the peer (Go; two minutes the first time) ...");
    let began = Instant::now();
    let mut command = Command::new("go");
    command
        .args(["build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags=-s -w", "-o"])
        .arg(&binary)
        .arg(".");
    command.current_dir(repository.join("benches/peer"));
    command.env("GOTOOLCHAIN", "local").env("GOWORK", "off").env("CGO_ENABLED", "0");
    let mut child = command.kill_on_drop(true).spawn().map_err(|error| format!("cannot run go: {error}"))?;
    let mut beat = tokio::time::interval(Duration::from_secs(15));
    beat.tick().await;
    let status = loop {
        tokio::select! {
            status = child.wait() => break status?,
            _ = beat.tick() => println!("   still at it after {} s", began.elapsed().as_secs()),
        }
    };
    if !status.success() {
        return Err("the peer cannot be built, see above".into());
    }
    Ok(binary)
}
