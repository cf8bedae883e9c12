//! Programs under measurement: start, CPU time, memory, end. All figures are the kernel's, from `/proc`.

use std::{
    fs,
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};

use tokio::process::{Child, Command};

use super::Result;

/// How long a program gets to end by itself.
const GRACE: Duration = Duration::from_secs(10);
/// Unit of the times in `/proc/PID/stat`, fixed by the kernel for user space.
const TICK: Duration = Duration::from_millis(10);

/// A program that runs. Dropped, it is killed.
pub struct Program {
    name: String,
    pub child: Child,
    pid: u32,
    /// When it was started.
    pub began: Instant,
}

/// What a program has used.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Most that was ever resident, in bytes.
    pub peak: u64,
    /// What is resident now, in bytes.
    pub resident: u64,
}

impl Program {
    /// Starts a program with nothing in its environment but `PATH` and what is given. What it writes to standard error
    /// goes to the log, so that the price of writing it is part of the measurement.
    pub fn start(
        name: &str,
        binary: &Path,
        arguments: &[&str],
        environment: &[(&str, &str)],
        log: &Path,
    ) -> Result<Self> {
        // The kernel ends it should this process be killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(binary).args(arguments);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(environment.iter().copied());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(log)?);
        let began = Instant::now();
        let child =
            command.kill_on_drop(true).spawn().map_err(|error| format!("cannot start {name}: {error}"))?;
        let pid = child.id().ok_or_else(|| format!("{name} ended at once"))?;
        Ok(Self { name: name.to_owned(), child, pid, began })
    }

    /// CPU time so far, to 10 ms.
    pub fn cpu(&self) -> Result<Duration> {
        cpu(self.pid)
    }

    /// CPU time so far of the threads that live, to the nanosecond.
    pub fn cpu_of_threads(&self) -> Result<Duration> {
        let mut sum = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.pid))? {
            // A thread may end in between.
            let Ok(text) = fs::read_to_string(task?.path().join("schedstat")) else { continue };
            sum += text.split(' ').next().and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(Duration::from_nanos(sum))
    }

    /// Memory now.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))?;
        let field = |name: &str| -> Result<u64> {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let number = line.and_then(|line| line.trim_start_matches(':').split_whitespace().next());
            let kilobytes: u64 = number.ok_or_else(|| format!("{} has ended", self.name))?.parse()?;
            Ok(kilobytes * 1024)
        };
        Ok(Memory { peak: field("VmHWM")?, resident: field("VmRSS")? })
    }

    /// An error if it has ended.
    pub fn alive(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(format!("{} has ended: {status}", self.name).into()),
        }
    }

    /// Asks it to end, waits for that, and makes sure.
    pub async fn stop(mut self) -> Result<()> {
        Command::new("kill").arg(self.pid.to_string()).status().await?;
        if tokio::time::timeout(GRACE, self.child.wait()).await.is_err() {
            self.child.kill().await?;
            return Err(format!("{} did not end by itself within {} s", self.name, GRACE.as_secs()).into());
        }
        Ok(())
    }
}

/// CPU time of a process so far, its own and the kernel's on its behalf.
pub fn cpu(pid: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is a name in parentheses that may hold blanks.
    let (_, fields) = stat.rsplit_once(") ").ok_or("unreadable /proc/PID/stat")?;
    let ticks =
        fields.split(' ').skip(11).take(2).map(str::parse::<u32>).sum::<std::result::Result<u32, _>>()?;
    Ok(TICK * ticks)
}

/// CPU time that all cores have spent on anything so far, hypervisor included.
pub fn cpu_of_machine() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/stat")?;
    let line = stat.lines().next().ok_or("unreadable /proc/stat")?;
    // user, nice, system, idle, iowait, irq, softirq, steal; the guests' times after that are in the first two.
    let ticks = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .map(str::parse::<u32>)
        .collect::<std::result::Result<Vec<_>, _>>()?;
    Ok(ticks
        .iter()
        .enumerate()
        .filter(|(index, _)| ![3, 4].contains(index))
        .map(|(_, ticks)| TICK * *ticks)
        .sum())
}

/// The machine in a few words.
pub fn machine() -> String {
    let cores = cores();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = memory.split_whitespace().nth(1).and_then(|text| text.parse::<u64>().ok()).unwrap_or(0);
    format!("{cores} cores, {} GiB", kilobytes.div_ceil(1 << 20))
}

/// Cores that may be used.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
