//! The emulator as a process, and what its journal says.

use std::{path::Path, time::Duration};

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use vncpassword_emulator::AccessKey;

use super::{Result, process::Program};

/// The one action that an operator in its everyday life calls.
pub const MODIFY: &str = "ModifyInstanceVncPasswd";

/// The first argument with which this program is the emulator: cargo builds no other package's programs for a benchmark.
pub const EMULATOR: &str = "ecs-emulator";

/// A running emulator. Dropped, it is killed.
pub struct Cloud {
    program: Program,
    http: reqwest::Client,
    pub url: String,
}

/// A call that reached it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    pub seq: u64,
    /// When it came in, by this machine's clock.
    pub at: Timestamp,
    pub action: String,
    pub code: Option<String>,
    pub vnc_password: Option<String>,
}

impl Call {
    /// Whether a password was accepted.
    pub fn accepted(&self) -> bool {
        self.action == MODIFY && self.code.is_none()
    }
}

impl Cloud {
    /// Starts one that knows these instances.
    pub async fn start(instances: impl Iterator<Item = String>, log: &Path) -> Result<Self> {
        let this = std::env::current_exe()?;
        let arguments = [EMULATOR, "--listen", "127.0.0.1:0"];
        let mut program = Program::start("ecs-emulator", &this, &arguments, &[], log)?;
        let output = program.child.stdout.take().ok_or("no output of the emulator")?;
        let url = BufReader::new(output).lines().next_line().await?.ok_or("the emulator did not start")?;
        let cloud = Self { program, http: reqwest::Client::builder().no_proxy().build()?, url };
        let instances: Vec<Value> = instances.map(|id| json!({ "id": id })).collect();
        let request = cloud.http.put(format!("{}/_emulator/instances", cloud.url));
        request.body(serde_json::to_vec(&instances)?).send().await?.error_for_status()?;
        Ok(cloud)
    }

    /// The environment of a program that calls it.
    pub fn credentials() -> [(&'static str, &'static str); 2] {
        [
            ("ALIBABA_CLOUD_ACCESS_KEY_ID", AccessKey::DEFAULT_ID),
            ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", AccessKey::DEFAULT_SECRET),
        ]
    }

    /// The calls after number `seq`, oldest first.
    pub async fn calls(&self, seq: u64) -> Result<Vec<Call>> {
        let request = self.http.get(format!("{}/_emulator/journal?after={seq}", self.url));
        Ok(serde_json::from_slice(&request.send().await?.error_for_status()?.bytes().await?)?)
    }

    /// CPU time so far.
    pub fn cpu(&self) -> Result<Duration> {
        self.program.cpu()
    }

    /// Stops it.
    pub async fn stop(self) -> Result<()> {
        self.program.stop().await
    }
}
