//! The operator is killed again and again while fleets rotate: the waves are kept to, and each instance rotates once.
//!
//! What is under way is told from outside: by the calls in the emulator's journal, and by the moment at which a password is
//! promoted in its Secret. A call that was answered slowly, or never since the process was gone, is under way until then.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde_json::json;
use tokio::time::{Instant, sleep};
use vncpassword_core::api::{ClusterVncPasswordStatus, ConditionStatus, ConditionType, Trigger};
use vncpassword_emulator::{Action, Cloud, Entry, Fault, Instance};

use super::{
    faults::stirred_until_settled,
    history::{Recorder, Version},
    program::Programs,
};
use vncpassword_test_support::{
    World,
    control_plane::shared_kubeconfig,
    fleet::{Fleet, calm, instance},
};

/// A call arrives at once or not at all here, so little is left to settle.
const SETTLE: Duration = Duration::from_secs(1);
const KILLS: u32 = 40;
/// Instances that take a password at once, and how many may do so at once.
const QUICK: usize = 120;
const WAVE: usize = 4;
/// Instances that need a restart, and how many may be down at once.
const SLOW: usize = 4;
const DOWN: usize = 2;
const REBOOT: Duration = Duration::from_secs(2);
const CONVERGENCE: Duration = Duration::from_secs(90);

/// Something that was under way from one moment to another.
type Span = (Timestamp, Timestamp);

#[tokio::test(flavor = "multi_thread")]
async fn fleets_keep_to_their_waves_however_often_the_operator_is_killed() {
    let seed = std::env::var("CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("CRASH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let cloud = world.cloud().clone();
    cloud.set_reboot_time(REBOOT);
    let recorder = Recorder::start(&world).await;
    let programs = Programs::new(&world, &shared_kubeconfig(), SETTLE);

    // The first passwords are nobody's trouble.
    let quick: Vec<String> = (0..QUICK).map(|number| instance(&world, &format!("quick{number}"))).collect();
    let spec = json!({"instanceIds": quick, "rollout": {"maxConcurrent": WAVE, "pauseAfterFailures": 1000}});
    let fleet = Fleet::create(&world, named(&world, "quick"), spec).await;
    let program = programs.ready().await;
    let before = fleet.until_done(QUICK).await;
    program.end().await;
    fleet.age(SignedDuration::from_mins(5)).await;

    let slow: Vec<String> = (0..SLOW).map(|number| instance(&world, &format!("slow{number}"))).collect();
    for id in &slow {
        cloud.put_instance(Instance::new(id).not_optimized());
    }
    let spec = json!({"instanceIds": slow, "template": {"activation": "Reboot"},
        "rollout": {"maxConcurrent": 10, "maxUnavailable": DOWN, "pauseAfterFailures": 1000}});
    let reboots = Fleet::create(&world, named(&world, "slow"), spec).await;
    fleet.rotate_now().await;
    let begun = Instant::now();
    for _ in 0..KILLS {
        weather(&cloud, &mut rng);
        let mut program = programs.start();
        program.is_ready_within(Duration::from_secs(10)).await;
        sleep(Duration::from_millis(rng.random_range(0..900))).await;
        program.kill().await;
    }
    let (killing, done) = (begun.elapsed(), fleet.status().await.rollout.map(|rollout| rollout.updated));
    cloud.clear_faults();
    let program = programs.ready().await;
    let status =
        fleet.wait(CONVERGENCE, "rotated", |_, status| rotated(&before, status) && calm(status)).await;
    let by_hand = restart_by_hand(&reboots, &cloud).await;
    reboots.until_done_within(CONVERGENCE, SLOW).await;
    eprintln!(
        "{KILLS} kills in {killing:?}, {done:?} of {QUICK} by then, through after {:?}",
        begun.elapsed()
    );
    let rollout = status.rollout.unwrap();
    assert_eq!((rollout.trigger, rollout.failed), (Trigger::OnDemand, 0));
    assert_eq!(rollout.updated as usize, QUICK);
    let calls = cloud.journal().len();
    assert_eq!(stirred_until_settled(&world, calls as u64).await, [], "nothing stirs any more");
    program.end().await;

    let versions = recorder.finish().await;
    let secrets = |fleet: &Fleet, ids: &[String]| -> Vec<(String, Vec<Version>)> {
        ids.iter()
            .map(|id| (id.clone(), versions.get(&fleet.child(id)).cloned().unwrap_or_default()))
            .collect()
    };
    let (quick, slow) = (secrets(&fleet, &quick), secrets(&reboots, &slow));
    let journal = cloud.journal();
    let taken_over: usize = quick.iter().map(|(_, versions)| taken_over(versions)).sum();
    assert!(taken_over >= 10, "only {taken_over} were killed on their way: nothing was tried");
    let under_way = quick.iter().flat_map(|(id, versions)| spans(&journal, id, versions));
    assert_eq!(most(&under_way.collect::<Vec<_>>()), WAVE, "a wave is full, and no larger");
    // What waits for a person holds no place.
    let waiting = slow.iter().filter(|(id, _)| !by_hand.contains(id));
    let waiting: Vec<Span> = waiting.flat_map(|(id, versions)| spans(&journal, id, versions)).collect();
    assert!(most(&waiting) <= DOWN, "passwords that wait for a restart: {waiting:?}");
    assert!(most(&waiting) == DOWN || !by_hand.is_empty(), "a wave is full: {waiting:?}");
    let down = most(&down(&journal));
    assert!((1..=DOWN).contains(&down), "{down} instances were down at once");
    for ((id, versions), times) in quick.iter().map(|it| (it, 2)).chain(slow.iter().map(|it| (it, 1))) {
        let last = versions.last().unwrap();
        assert_eq!(last.current, cloud.instance(id).unwrap().console_password, "{id}");
        assert!(last.current.is_some() && last.next.is_none(), "{id}: {last:?}");
        let rotations: BTreeSet<&str> =
            versions.iter().filter_map(|version| Some(version.record.as_ref()?.id.as_str())).collect();
        assert_eq!(rotations.len(), times, "{id}: {versions:?}");
        let changes = cloud.console_changes(id).len();
        assert_eq!(changes, times, "{id}: the console changed {changes} times");
    }
}

fn named(world: &World, name: &str) -> serde_json::Value {
    json!({"name": format!("{}-{name}", world.namespace)})
}

/// Whether another rollout has ended.
fn rotated(before: &ClusterVncPasswordStatus, now: &ClusterVncPasswordStatus) -> bool {
    now.rollout.as_ref().map(|rollout| &rollout.id) != before.rollout.as_ref().map(|rollout| &rollout.id)
}

/// Restarts, as a person does, the instances whose two requests were both lost because the operator was killed between
/// announcing them and making them; which these are.
async fn restart_by_hand(fleet: &Fleet<'_>, cloud: &Cloud) -> BTreeSet<String> {
    let mut by_hand = BTreeSet::new();
    let deadline = Instant::now() + CONVERGENCE;
    loop {
        let children = fleet.children().await;
        let mut under_way = children.len() < SLOW;
        for child in &children {
            let status = child.status.clone().unwrap_or_default();
            let stands = |type_| status.condition(type_).is_some();
            let left = stands(ConditionType::RebootRequired) && !stands(ConditionType::Reconciling);
            if left && by_hand.insert(child.spec.instance_id.clone()) {
                assert!(cloud.restart(&child.spec.instance_id));
            }
            under_way |= status.ready() != ConditionStatus::True;
        }
        if !under_way {
            return by_hand;
        }
        assert!(Instant::now() < deadline, "restarts are not over in time");
        sleep(Duration::from_millis(50)).await;
    }
}

/// Calls take their time, another one in each life of the operator.
fn weather(cloud: &Cloud, rng: &mut StdRng) {
    cloud.clear_faults();
    for share in [0.3, 0.5, 1.0] {
        let delay = Duration::from_millis(rng.random_range(0..500));
        cloud.inject(Fault::latency(delay).on(Action::ModifyInstanceVncPasswd).probability(share));
    }
    let delay = Duration::from_millis(rng.random_range(0..300));
    cloud.inject(Fault::latency(delay).on(Action::DescribeInstances).probability(0.5));
}

/// From when to when each password of an instance was on its way: from the first call with it until it was promoted, at the
/// earliest.
fn spans(journal: &[Entry], id: &str, versions: &[Version]) -> Vec<Span> {
    let modify = Action::ModifyInstanceVncPasswd.as_str();
    let mut first: BTreeMap<&str, Timestamp> = BTreeMap::new();
    for call in journal.iter().filter(|call| call.action == modify && call.instance_ids == [id]) {
        first.entry(call.vnc_password.as_deref().unwrap()).or_insert(call.at);
    }
    let promoted = |password: &str| {
        let version = versions.iter().find(|version| version.current.as_deref() == Some(password));
        version.map_or(Timestamp::MAX, |version| version.after)
    };
    first.into_iter().map(|(password, from)| (from, promoted(password).max(from))).collect()
}

/// How often another process went on with what was on its way.
fn taken_over(versions: &[Version]) -> usize {
    let records =
        versions.windows(2).filter_map(|pair| Some((pair[0].record.as_ref()?, pair[1].record.as_ref()?)));
    records.filter(|(before, now)| before.id == now.id && before.writer != now.writer).count()
}

/// From when to when each restart kept an instance down.
fn down(journal: &[Entry]) -> Vec<Span> {
    let restarts =
        journal.iter().filter(|call| call.action == Action::RebootInstance.as_str() && call.applied());
    restarts.map(|call| (call.at, call.at + SignedDuration::try_from(REBOOT).unwrap())).collect()
}

/// How many of these there were at once, at the most.
fn most(spans: &[Span]) -> usize {
    let at = |moment: Timestamp| spans.iter().filter(|(from, to)| *from <= moment && moment < *to).count();
    spans.iter().map(|(from, _)| at(*from)).max().unwrap_or_default()
}
