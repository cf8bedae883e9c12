//! One run over one operator, on a control plane of its own: the phases, and what is measured in each.

use std::{
    collections::{BTreeMap, HashMap},
    net::TcpListener,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::time::sleep;

use super::{
    Result,
    cloud::{Call, Cloud},
    cluster::{self, Cluster, ReadyWatch},
    control_plane::ControlPlane,
    figures::{Figures, mebibytes, thousands},
    process::{self, Program},
};

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Plan {
    pub objects: usize,
    pub changes: usize,
    pub created: usize,
}

impl Plan {
    /// Bound of a phase: a tenth of the speed that is expected at least, and a little.
    fn limit(objects: usize) -> Duration {
        Duration::from_secs(60 + objects as u64 / 20)
    }
}

/// An operator that can be measured. It takes the flags of `vncpassword-operator run`.
pub struct Subject {
    pub name: &'static str,
    pub binary: PathBuf,
    pub arguments: &'static [&'static str],
}

/// After a burst: until Events are sent, and memory that is given back is given back.
const SETTLED: Duration = Duration::from_secs(5);
/// After a restart: in this time nothing may be asked for any more.
const AFTER_RESTART: Duration = Duration::from_secs(2);
/// How long it is looked at while it has nothing to do.
const AT_REST: Duration = Duration::from_secs(10);
/// From the answer to one change to the next change.
const SPACING: Duration = Duration::from_millis(40);
/// Time between two looks at a program under measurement.
const LOOK: Duration = Duration::from_millis(5);
/// A program is at rest when it uses less than this in `RESTING`: 2 % of a core.
const REST: Duration = Duration::from_millis(3);
const RESTING: Duration = Duration::from_millis(150);

/// How often the metrics are asked for.
const SCRAPES: u32 = 20;

/// Per cent of the machine that other processes may take before a run counts as disturbed.
const DISTURBED: f64 = 10.0;

/// Measures one operator.
pub async fn run(subject: &Subject, plan: Plan) -> Result<Figures> {
    let Plan { objects, changes, created } = plan;
    let stage = Stage::set(objects, created).await?;
    let mut figures = Figures::default();

    let operator = stage.cold_start(subject, objects, &mut figures).await?;
    operator.stop().await?;
    // The end of the old one's watches is counted before the new one is looked at.
    sleep(Duration::from_millis(500)).await;

    let mut operator = stage.restart(subject, &mut figures).await?;
    stage.rest(&operator, &mut figures).await?;
    stage.scrapes(&operator, &mut figures).await?;
    stage.latencies(objects, changes, &mut figures).await?;
    stage.created_at_once(objects..objects + created, &mut figures).await?;
    operator.alive()?;
    operator.stop().await?;
    stage.strike().await?;
    Ok(figures)
}

/// CPU time so far.
pub struct Used {
    /// Of control plane, emulator and benchmark.
    known: Duration,
    /// Of everything.
    machine: Duration,
}

/// What an operator finds: control plane, cloud, Secrets, objects.
pub struct Stage {
    plane: ControlPlane,
    pub cluster: Cluster,
    pub cloud: Cloud,
    kubeconfig: String,
    address: String,
}

impl Stage {
    /// Starts and fills everything.
    pub async fn set(objects: usize, created: usize) -> Result<Self> {
        println!("   starting etcd, kube-apiserver and the emulator");
        let plane = ControlPlane::start().await?;
        let cloud =
            Cloud::start((0..objects + created).map(cluster::instance), &plane.file("emulator.log")).await?;
        let cluster = Cluster::connect(&plane.kubeconfig).await?;
        let crds = Path::new(env!("CARGO_MANIFEST_DIR")).join("crds");
        cluster.install(&crds.join("vncpassword.dev_vncpasswords.yaml")).await?;
        let began = Instant::now();
        cluster.create_secrets(0..objects + created).await?;
        cluster.create_objects(0..objects).await?;
        println!(
            "   created {} Secrets and {} objects in {:.1} s",
            thousands(objects + created),
            thousands(objects),
            began.elapsed().as_secs_f64()
        );
        let kubeconfig = plane.kubeconfig.to_str().ok_or("the temporary directory is not UTF-8")?.to_owned();
        // Nothing else here takes a port until the operator is up.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        Ok(Self { plane, cluster, cloud, kubeconfig, address })
    }

    /// Stops everything.
    pub async fn strike(self) -> Result<()> {
        let Self { plane, cluster, cloud, .. } = self;
        drop(cluster);
        cloud.stop().await?;
        plane.stop().await
    }

    /// What was used so far, to begin a phase with.
    pub fn used(&self) -> Result<Used> {
        let known = self.plane.cpu()? + self.cloud.cpu()? + process::cpu(std::process::id())?;
        Ok(Used { known, machine: process::cpu_of_machine()? })
    }

    /// Per cent of the machine that went to processes other than these since then; says so where it is much.
    pub fn others(&self, began: &Used, operator: Duration, took: Duration) -> Result<f64> {
        let now = self.used()?;
        let known = now.known.saturating_sub(began.known) + operator;
        let others = now.machine.saturating_sub(began.machine).saturating_sub(known);
        let share = 100.0 * others.as_secs_f64() / (took.as_secs_f64() * process::cores() as f64);
        if share > DISTURBED {
            println!("   !  the machine is not quiet: {share:.0} % of it went to other processes");
        }
        Ok(share)
    }

    fn start(&self, subject: &Subject, log: &str) -> Result<Program> {
        let flags =
            ["--region", "cn-hangzhou", "--ecs-endpoint", &self.cloud.url, "--http-addr", &self.address];
        let arguments = [subject.arguments, &flags].concat();
        let mut environment = Cloud::credentials().to_vec();
        environment.push(("KUBECONFIG", &self.kubeconfig));
        Program::start(subject.name, &subject.binary, &arguments, &environment, &self.plane.file(log))
    }

    /// Objects and Secrets are there, nothing was ever applied: from exec until the last object is ready.
    async fn cold_start(&self, subject: &Subject, objects: usize, figures: &mut Figures) -> Result<Program> {
        let mut ready = self.cluster.watch_ready().await?;
        let before = self.cluster.requests().await?;
        let (began, servers) = (self.used()?, self.plane.cpu()?);
        let mut operator = self.start(subject, "cold-start.log")?;
        let last = if objects == 0 {
            operator.began + self.at_rest(&mut operator).await?
        } else {
            all_ready(&mut operator, &mut ready, objects).await?
        };
        let servers = self.plane.cpu()?.saturating_sub(servers);
        let took = last.duration_since(operator.began);
        figures.others = self.others(&began, operator.cpu()?, took)?;
        sleep(SETTLED).await;
        let requests = self.cluster.requests().await?.since(&before, &[]);
        let (cpu, memory) = (operator.cpu()?, operator.memory()?);
        let calls = self.cloud.calls(0).await?;
        figures.rate = objects as f64 / took.as_secs_f64();
        // Of none there is nothing for each.
        let count = objects.max(1) as f64;
        figures.cpu = cpu.as_secs_f64();
        figures.cpu_of_servers = servers.as_secs_f64();
        figures.peak = mebibytes(memory.peak);
        figures.settled = mebibytes(memory.resident);
        figures.cold_requests = requests.total() as f64 / count;
        figures.cold_events = requests.of("POST events") as f64 / count;
        figures.cold_calls = calls.len() as f64 / count;
        println!(
            "   cold start: {:.2} s, {:.0} objects/s, {:.2} s of CPU (servers {:.2}), {:.1} MiB at most, {:.1} after {} s",
            took.as_secs_f64(),
            figures.rate,
            figures.cpu,
            figures.cpu_of_servers,
            figures.peak,
            figures.settled,
            SETTLED.as_secs()
        );
        println!("      requests: {requests}; calls of the cloud: {}", by_action(&calls));
        expect("calls accepted", accepted(&calls), objects);
        Ok(operator)
    }

    /// Everything is in sync: from exec until it is ready and at rest, and what it asked for on the way.
    async fn restart(&self, subject: &Subject, figures: &mut Figures) -> Result<Program> {
        let calls = self.last_call().await?;
        let before = self.cluster.requests().await?;
        let mut operator = self.start(subject, "restart.log")?;
        let took = self.at_rest(&mut operator).await?;
        let until_rest = self.cluster.requests().await?;
        let requests = until_rest.since(&before, &[]);
        let cpu = operator.cpu()?;
        sleep(AFTER_RESTART).await;
        let after = self.cluster.requests().await?.since(&until_rest, &[]);
        let memory = operator.memory()?;
        figures.restart = took.as_secs_f64();
        figures.restart_cpu = cpu.as_secs_f64();
        figures.restart_peak = mebibytes(memory.peak);
        figures.restart_settled = mebibytes(memory.resident);
        figures.restart_requests = requests.total() as f64;
        figures.restart_writes =
            (requests.of("PUT vncpasswords/status") + requests.of("PATCH vncpasswords/status")) as f64;
        figures.restart_calls = self.cloud.calls(calls).await?.len() as f64;
        figures.restart_afterwards = after.total() as f64;
        println!(
            "   restart: {:.2} s, {:.2} s of CPU, {:.1} MiB at most, {:.1} after {} s; calls of the cloud: {}",
            figures.restart,
            figures.restart_cpu,
            figures.restart_peak,
            figures.restart_settled,
            AFTER_RESTART.as_secs(),
            figures.restart_calls
        );
        println!("      requests: {requests}; afterwards: {after}");
        Ok(operator)
    }

    /// What it uses while everything is in sync and nobody asks for anything.
    async fn rest(&self, operator: &Program, figures: &mut Figures) -> Result<()> {
        let (began, before) = (Instant::now(), operator.cpu_of_threads()?);
        sleep(AT_REST).await;
        let used = operator.cpu_of_threads()?.saturating_sub(before);
        figures.at_rest = 1e3 * used.as_secs_f64() / began.elapsed().as_secs_f64();
        println!("   at rest: {:.1} thousandths of a core", figures.at_rest);
        Ok(())
    }

    /// Its metrics are asked for, one time after the other, where it shows any.
    async fn scrapes(&self, operator: &Program, figures: &mut Figures) -> Result<()> {
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{}/metrics", self.address);
        let (mut took, mut size) = (Vec::new(), 0);
        let before = operator.cpu_of_threads()?;
        for _ in 0..SCRAPES {
            let began = Instant::now();
            let request = http.get(&url).header("accept", "application/openmetrics-text");
            let reply = match request.send().await {
                Ok(reply) if reply.status().is_success() => reply,
                _ => return Ok(()),
            };
            size = reply.bytes().await?.len();
            took.push(began.elapsed().as_secs_f64() * 1e3);
        }
        let cpu = operator.cpu_of_threads()?.saturating_sub(before) / SCRAPES;
        figures.scrape = percentile(&mut took, 50)?;
        figures.scrape_size = size as f64 / 1024.0;
        println!(
            "   {SCRAPES} scrapes: p50 {:.1} ms, {:.1} ms of CPU each, {:.0} KiB; memory {:.1} MiB",
            figures.scrape,
            cpu.as_secs_f64() * 1e3,
            figures.scrape_size,
            mebibytes(operator.memory()?.resident)
        );
        Ok(())
    }

    /// One Secret after the other is changed: the time from its write to the call, and the requests that it takes.
    async fn latencies(&self, objects: usize, changes: usize, figures: &mut Figures) -> Result<()> {
        if changes == 0 {
            return Ok(());
        }
        let calls = self.last_call().await?;
        let before = self.cluster.requests().await?;
        let mut written = HashMap::new();
        for change in 0..changes {
            let password = cluster::password('Z', change);
            let sent = Timestamp::now();
            self.cluster.change_secret(change * objects / changes, &password).await?;
            written.insert(password, (sent, Timestamp::now()));
            sleep(SPACING).await;
        }
        sleep(Duration::from_secs(1)).await;
        let own = [("PATCH secrets", changes as u64)];
        let requests = self.cluster.requests().await?.since(&before, &own);
        let mut answered_to_call = Vec::new();
        let mut sent_to_call = Vec::new();
        let calls = self.cloud.calls(calls).await?;
        for call in calls.iter().filter(|call| call.accepted()) {
            let Some((sent, answered)) =
                call.vnc_password.as_ref().and_then(|password| written.get(password))
            else {
                continue;
            };
            sent_to_call.push(call.at.duration_since(*sent).as_secs_f64() * 1e3);
            answered_to_call.push(call.at.duration_since(*answered).as_secs_f64() * 1e3);
        }
        expect("calls of changed Secrets", sent_to_call.len(), changes);
        figures.p50 = percentile(&mut answered_to_call, 50)?;
        figures.p99 = percentile(&mut answered_to_call, 99)?;
        figures.p50_from_start = percentile(&mut sent_to_call, 50)?;
        figures.p99_from_start = percentile(&mut sent_to_call, 99)?;
        figures.requests = requests.total() as f64 / changes as f64;
        figures.calls = calls.len() as f64 / changes as f64;
        println!(
            "   {changes} changes: p50 {:.2}, p99 {:.2} ms (from the start of the write {:.2}, {:.2}); requests: {requests}",
            figures.p50, figures.p99, figures.p50_from_start, figures.p99_from_start
        );
        Ok(())
    }

    /// The operator runs, and so many objects are created as fast as the API server takes them.
    async fn created_at_once(&self, range: std::ops::Range<usize>, figures: &mut Figures) -> Result<()> {
        if range.is_empty() {
            return Ok(());
        }
        let (count, calls) = (range.len(), self.last_call().await?);
        let mut ready = self.cluster.watch_ready().await?;
        let began = Instant::now();
        self.cluster.create_objects(range).await?;
        let last = ready.reached(count, Plan::limit(count)).await?;
        let took = last.duration_since(began);
        let calls = self.cloud.calls(calls).await?;
        figures.created_rate = count as f64 / took.as_secs_f64();
        println!(
            "   {} objects created at once: all ready after {:.2} s",
            thousands(count),
            took.as_secs_f64()
        );
        expect("calls accepted", accepted(&calls), count);
        Ok(())
    }

    /// Waits until it says that it is ready and then rests; returns how long that took from exec.
    async fn at_rest(&self, operator: &mut Program) -> Result<Duration> {
        let deadline = operator.began + Duration::from_secs(60);
        let http = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("http://{}/readyz", self.address);
        while !http.get(&url).send().await.is_ok_and(|reply| reply.status().is_success()) {
            operator.alive()?;
            if Instant::now() > deadline {
                return Err(format!("{url} does not answer with 200").into());
            }
            sleep(LOOK).await;
        }
        // The first look after which it rested for the whole time.
        let mut since = (Instant::now(), operator.cpu_of_threads()?);
        loop {
            sleep(LOOK).await;
            let now = (Instant::now(), operator.cpu_of_threads()?);
            if now.1.saturating_sub(since.1) > REST {
                since = now;
            } else if now.0 - since.0 >= RESTING {
                return Ok(since.0 - operator.began);
            }
            if now.0 > deadline {
                return Err("it does not come to rest".into());
            }
        }
    }

    async fn last_call(&self) -> Result<u64> {
        Ok(self.cloud.calls(0).await?.last().map_or(0, |call| call.seq))
    }
}

async fn all_ready(operator: &mut Program, ready: &mut ReadyWatch, objects: usize) -> Result<Instant> {
    let ended = async {
        loop {
            sleep(Duration::from_millis(500)).await;
            if let Err(error) = operator.alive() {
                return error;
            }
        }
    };
    tokio::select! {
        last = ready.reached(objects, Plan::limit(objects)) => last,
        error = ended => Err(error),
    }
}

/// Says so where an operator does more than its job, or less.
fn expect(what: &str, found: usize, expected: usize) {
    if found != expected {
        println!("   !  {what}: {} instead of {}", thousands(found), thousands(expected));
    }
}

fn by_action(calls: &[Call]) -> String {
    let mut actions: BTreeMap<&str, usize> = BTreeMap::new();
    for call in calls {
        *actions.entry(&call.action).or_default() += 1;
    }
    let actions: Vec<String> = actions.iter().map(|(action, count)| format!("{action} {count}")).collect();
    actions.join(", ")
}

fn accepted(calls: &[Call]) -> usize {
    calls.iter().filter(|call| call.accepted()).count()
}

/// The value that so many per cent of all do not exceed.
fn percentile(values: &mut [f64], percent: usize) -> Result<f64> {
    values.sort_by(f64::total_cmp);
    let rank = (values.len() * percent).div_ceil(100);
    values.get(rank.max(1) - 1).copied().ok_or_else(|| "nothing was measured".into())
}
