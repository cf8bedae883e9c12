//! Both replicas run, and the one that leads is taken away in the middle of 200 rotations.

use std::{
    collections::BTreeMap,
    fs,
    process::Command,
    time::{Duration, Instant},
};

use jiff::{Timestamp, ToSpan};
use serde_json::json;

use super::{
    cloud::{Call, Cloud},
    cluster::{Cluster, PATIENCE, kubectl, pipe, until},
    release::{Release, assert_nothing_is_lost, chart, create, instance, until_settled},
};

const NAMESPACE: &str = "team-a";
const PREFIX: &str = "vm";
const OBJECTS: usize = 200;
/// The length of the Lease and one retry period.
const TAKEOVER: Duration = Duration::from_secs(15 + 2);
/// What looking takes: a kubectl, on a machine that is busy with everything at once.
const LOOK: Duration = Duration::from_millis(1500);

/// 200 rotations that have begun, and the leader in the middle of them.
struct Rush {
    cloud: Cloud,
    release: Release,
    pod: String,
    holder: String,
    before: BTreeMap<String, String>,
    /// The number of the last call before them.
    seq: u64,
}

/// Lets 200 objects have a password, asks for another of each at the same moment, and returns when some are done, some are
/// under way and some are not begun.
fn rush(cluster: &Cluster) -> Rush {
    let cloud = Cloud::start();
    // Nothing here is late, so little needs to be waited for.
    let release = Release::prepare(cluster, &cloud, "vnc-system", &json!({"settle": "20s"}));
    release.install(&chart());
    cluster.namespace(NAMESPACE, "");
    let names: Vec<String> = (0..OBJECTS).map(|number| format!("{PREFIX}-{number:03}")).collect();
    create(&cloud, NAMESPACE, &names);
    until_settled(NAMESPACE, PREFIX, 1);
    assert_nothing_is_lost(&cloud, NAMESPACE, PREFIX);
    let before = consoles(&cloud);
    let seq = cloud.calls(0).last().unwrap().seq;

    let (pod, holder) = release.leader().expect("one leads");
    // A reply takes its time after the call has taken effect: those that are under way are of unknown outcome.
    cloud.delay(500);
    // At most one a minute.
    let at = Timestamp::now() + 61.seconds();
    kubectl(&format!(
        "--namespace {NAMESPACE} annotate vncpasswords --all --overwrite vncpassword.dev/rotate-at={at:.0}"
    ));
    until("a quarter of the calls", Duration::from_secs(90), || cloud.calls(seq).len() >= OBJECTS / 4);
    Rush { cloud, release, pod, holder, before, seq }
}

impl Rush {
    /// Waits until another leads, for no longer than it may take. `meanwhile` is done at each look.
    fn assert_taken_over(&self, gone: Instant, mut meanwhile: impl FnMut()) {
        let calls = self.cloud.calls(self.seq).len();
        assert!(calls < OBJECTS, "{calls} calls: not in the middle");
        until("another leads", PATIENCE, || {
            meanwhile();
            self.release.holder().is_some_and(|holder| holder != self.holder)
        });
        let took = gone.elapsed();
        assert!(took < TAKEOVER + LOOK, "taken over after {took:?}");
        let (pod, _) = self.release.leader().unwrap();
        assert_ne!(pod, self.pod, "the other takes over");
    }

    /// All rotations come to their end, each with one password that the Secret holds.
    fn assert_each_rotated_once(&self) {
        until_settled(NAMESPACE, PREFIX, 2);
        assert_nothing_is_lost(&self.cloud, NAMESPACE, PREFIX);
        let after = consoles(&self.cloud);
        let mut sent = BTreeMap::<String, Vec<Call>>::new();
        for call in self.cloud.calls(self.seq) {
            sent.entry(call.instance().to_owned()).or_default().push(call);
        }
        assert_eq!((sent.len(), after.len()), (OBJECTS, OBJECTS), "each is rotated");
        for (instance, calls) in &sent {
            let one = calls.iter().all(|call| call.password() == after[instance]);
            assert!(one, "{instance} got two passwords for one rotation");
            assert_ne!(self.before[instance], after[instance], "{instance} has a new one");
        }
        let twice = sent.values().filter(|calls| calls.len() > 1).count();
        assert!(twice > 0, "no call was under way when the leader went");
    }
}

fn consoles(cloud: &Cloud) -> BTreeMap<String, String> {
    let prefix = instance(PREFIX);
    let consoles = cloud.consoles().into_iter().filter(|(id, _)| id.starts_with(&prefix));
    consoles.map(|(id, password)| (id, password.unwrap_or_default())).collect()
}

/// Kills the operator in this Pod, as the kernel does when memory runs out.
fn kill(pod: &str) {
    let variable = format!("POD_NAME={pod}");
    for process in fs::read_dir("/proc").unwrap().flatten() {
        // A process may have ended meanwhile.
        let Ok(environment) = fs::read(process.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()) {
            Command::new("kill").arg("-KILL").arg(process.file_name()).status().unwrap();
        }
    }
}

/// Drops what this Pod and the API server send each other, on connections that stand as well. The cloud stays in reach.
fn cut_off(address: &str) {
    pipe(
        "nft",
        "-f -",
        &format!(
            "table ip cut {{\n\
             chain to {{ type filter hook input priority 0; ip saddr {address} tcp dport 6443 drop; }}\n\
             chain from {{ type filter hook output priority 0; ip daddr {address} tcp sport 6443 drop; }}\n}}\n"
        ),
    );
}

fn heal() {
    pipe("nft", "delete table ip cut", "");
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_that_is_killed_amid_200_rotations_is_replaced_and_nothing_is_lost() {
    let cluster = Cluster::take();
    let rush = rush(&cluster);
    let gone = Instant::now();
    // The kubelet starts it again; dead it stays, as with its node.
    rush.assert_taken_over(gone, || kill(&rush.pod));
    rush.cloud.hurry();
    rush.assert_each_rotated_once();
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn a_leader_that_is_cut_off_amid_200_rotations_is_replaced_and_nothing_is_lost() {
    let cluster = Cluster::take();
    let rush = rush(&cluster);
    let pods: BTreeMap<String, String> = rush.release.pods().into_iter().collect();
    cut_off(&pods[&rush.pod]);
    let gone = Instant::now();
    rush.assert_taken_over(gone, || {});
    rush.cloud.hurry();
    rush.assert_each_rotated_once();

    heal();
    let holder = rush.release.holder();
    let logs = || rush.release.kubectl(&format!("logs {} --tail 20", rush.pod));
    until("the former leader stands by", PATIENCE, || logs().contains("standing by"));
    assert_eq!(rush.release.holder(), holder, "who leads goes on");
    let calls = rush.cloud.calls(rush.seq).len();
    let names = ["later".to_owned()];
    create(&rush.cloud, NAMESPACE, &names);
    until_settled(NAMESPACE, "later", 1);
    assert_eq!(rush.cloud.calls(rush.seq).len(), calls + 1, "one of the two acts");
}
