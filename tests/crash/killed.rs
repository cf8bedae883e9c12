//! The crash test: the operator's process is killed again and again at random moments, and no password is lost.
//!
//! Time is scaled down. In reality a call may arrive until its signature is 15 minutes old, and `--settle` is 16 minutes;
//! here a call arrives at the latest [`LATEST`] (2 s) after it was made, and `--settle` is [`SETTLE`] (5 s). That leaves
//! 3 s in place of the minute for what lies between signature, call and the record of its loss. The wait is counted from
//! when the loss was noticed: from the reset, from the client's time-out (4 s, in real time: a call that hangs has arrived
//! long before), or, where the process was killed during the call, from when its successor answers for `.next`. Not
//! scaled: the minute between two `rotate-at`, which twenty of the objects live long enough for, and the backoff between
//! attempts, which a change of the spec cuts short now and then. Each restart has a minute of its own.
//!
//! People also delete objects, alone or together with their Secrets, and let another object take over an instance and give
//! it back. The last process is not killed, and they delete objects and Secrets during calls that it makes: a password
//! that is lost then has no excuse (R52).
//!
//! `CRASH_SEED` repeats the random choices of a run, though not its moments.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use jiff::Timestamp;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use tokio::time::{Instant, sleep};
use vncpassword_core::rotation::contents::State;
use vncpassword_emulator::{Action, Cloud, Entry};

use super::{
    faults::{self, LATEST},
    fleet::{Fleet, rival_of},
    history::{Recorder, Version},
    invariant::{Excuses, Life},
    program::Programs,
};
use vncpassword_test_support::{World, control_plane::shared_kubeconfig};

pub const SETTLE: Duration = Duration::from_secs(5);
const KILLS: u32 = 300;
/// Of these, the last befall objects that people leave alone: else each `rotate-at` would be a minute off at the end.
const UNDISTURBED: u32 = 60;
/// Deletions of an object and its Secret after the last kill.
const DELETIONS: u32 = 40;
/// Between two disturbances.
const DISTURBANCE: Duration = Duration::from_millis(100);
/// How long the last process may take until everything agrees: a minute for a `rotate-at`, and a few looks at instances.
const CONVERGENCE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread")]
async fn no_password_is_lost_however_often_the_operator_is_killed() {
    assert!(LATEST + Duration::from_secs(3) <= SETTLE);
    let seed = std::env::var("CRASH_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    eprintln!("CRASH_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let world = World::new().await;
    let cloud = world.cloud().clone();
    let recorder = Recorder::start(&world).await;
    let programs = Programs::new(&world, &shared_kubeconfig(), SETTLE);
    let begun = Instant::now();

    let mut fleet = Fleet::new(world, recorder.view()).await;
    let stop = Arc::<AtomicBool>::default();
    let people = tokio::spawn({
        let (stop, mut rng) = (Arc::clone(&stop), StdRng::seed_from_u64(rng.random()));
        async move {
            while !stop.load(Relaxed) {
                fleet.disturb(&mut rng).await;
                sleep(DISTURBANCE).await;
            }
            fleet.give_back().await;
            fleet
        }
    });
    let mut kills = Vec::new();
    for kill in 0..KILLS {
        stop.store(KILLS - kill <= UNDISTURBED, Relaxed);
        faults::change(&cloud, &mut rng);
        let mut program = programs.start();
        // Most are killed at work, some before they have listed everything, and some live long enough to see a call time
        // out.
        let (listing, life) = match rng.random_range(0..100) {
            0..10 => (Duration::ZERO, rng.random_range(0..300)),
            10..14 => (Duration::from_secs(10), rng.random_range(4_500..6_500)),
            _ => (Duration::from_secs(10), rng.random_range(0..700)),
        };
        program.is_ready_within(listing).await;
        sleep(Duration::from_millis(life)).await;
        program.kill().await;
        kills.push(cloud.now());
    }
    let mut fleet = people.await.unwrap();
    let killing = begun.elapsed();

    // One process is left alone. At first calls are still lost, and objects and Secrets are deleted meanwhile: this process
    // knows of each of its calls, and once it has settled, of none that a former one made.
    fleet.kills.clone_from(&kills);
    cloud.clear_faults();
    let program = programs.ready().await;
    sleep(SETTLE).await;
    faults::lose_late(&cloud);
    let during_calls = fleet.recreate_during_calls(&mut rng, DELETIONS).await;
    cloud.clear_faults();
    let begun = Instant::now();
    let amiss = converge(&mut fleet).await;
    let converged = begun.elapsed();
    // Nothing stirs any more, not even once everything late has arrived.
    let calls = cloud.journal().len();
    let stirred = faults::stirred_until_settled(&fleet.world, calls as u64).await;
    let later = fleet.look(false).await;
    program.end().await;

    let versions = recorder.finish().await;
    let excuses = Excuses::default();
    let lives = lives(&cloud, &fleet, &versions, &kills, &excuses);
    let complaints: Vec<String> = lives.iter().flat_map(Life::complaints).collect();
    let taken_by_rivals: usize = lives.iter().map(Life::taken_by_rivals).sum();
    eprintln!(
        "objects deleted {} times, {} of these with the Secret, {} of these for a rival to take over; a rival's password \
         opened the console {taken_by_rivals} times; excused: {excuses:?}; lost with object and Secret, and rotated by \
         people: {:?}",
        fleet.recreated,
        fleet.deletions.values().map(Vec::len).sum::<usize>(),
        fleet.displaced,
        fleet.healed
    );
    for complaint in complaints.iter().take(3) {
        let instance = complaint.split(':').next().unwrap_or_default();
        eprintln!("{complaint}\n{}\n", programs.said(&format!("\"{instance}\"")));
    }
    assert!(complaints.is_empty(), "{} complaints:\n{}", complaints.len(), complaints.join("\n"));
    assert!(amiss.is_empty(), "{} amiss:\n{}", amiss.len(), amiss.join("\n"));
    assert_eq!((stirred, later), (Vec::new(), Vec::new()));
    Figures::of(&cloud, &versions).check(&fleet, killing, converged);
    let with_secret: usize = fleet.deletions.values().map(Vec::len).sum();
    assert!(fleet.recreated > 50 && with_secret > 20 && fleet.displaced > 5 && taken_by_rivals > 5);
    assert!(during_calls > DELETIONS / 4, "{during_calls}");
    assert!(excuses.lost_with_object.get() < with_secret / 2, "{excuses:?}");
}

/// Waits until everything agrees; what does not in time.
async fn converge(fleet: &mut Fleet) -> Vec<String> {
    let deadline = Instant::now() + CONVERGENCE;
    for look in 0_u32.. {
        let amiss = fleet.look(look.is_multiple_of(20)).await;
        if amiss.is_empty() || Instant::now() > deadline {
            return amiss;
        }
        sleep(Duration::from_millis(500)).await;
    }
    unreachable!("that many looks take centuries")
}

fn lives<'a>(
    cloud: &Cloud,
    fleet: &'a Fleet,
    versions: &'a BTreeMap<String, Vec<Version>>,
    kills: &'a [Timestamp],
    excuses: &'a Excuses,
) -> Vec<Life<'a>> {
    let mut calls: BTreeMap<String, Vec<Entry>> = BTreeMap::new();
    for call in cloud.journal().into_iter().filter(modifies) {
        calls.entry(call.instance_ids[0].clone()).or_default().push(call);
    }
    let of = |name: &str| versions.get(name).map(Vec::as_slice).unwrap_or_default();
    let lives = fleet.instances.iter().map(|instance| Life {
        instance,
        rivals: [true, false].map(|generated| of(&rival_of(instance, generated))),
        deletions: fleet.deletions.get(instance).map(Vec::as_slice).unwrap_or_default(),
        kills,
        settle: SETTLE,
        excuses,
        console: cloud.console_changes(instance),
        versions: of(instance),
        people: &fleet.people,
        calls: calls.remove(instance).unwrap_or_default(),
    });
    lives.collect()
}

pub fn modifies(call: &Entry) -> bool {
    call.action == Action::ModifyInstanceVncPasswd.as_str()
}

/// What has happened: without it, nothing was tested.
#[derive(Debug)]
struct Figures {
    calls: usize,
    lost: usize,
    late: usize,
    rotations: usize,
    taken_over: usize,
    rotate_ats: usize,
    reboots: usize,
}

impl Figures {
    fn of(cloud: &Cloud, versions: &BTreeMap<String, Vec<Version>>) -> Self {
        let journal = cloud.journal();
        let (calls, others): (Vec<&Entry>, Vec<&Entry>) = journal.iter().partition(|call| modifies(call));
        let steps = || {
            versions
                .values()
                .flat_map(|versions| versions.windows(2))
                .filter_map(|pair| Some((pair[0].record.as_ref()?, pair[1].record.as_ref()?)))
        };
        let late = |call: &&&Entry| call.applied_at.is_some_and(|at| at > call.at);
        let turns: BTreeSet<_> = versions
            .iter()
            .flat_map(|(name, versions)| versions.iter().map(move |version| (name, version)))
            .filter_map(|(name, version)| Some((name, version.record.as_ref()?.rotate_at?)))
            .collect();
        Self {
            calls: calls.len(),
            lost: calls.iter().filter(|call| call.applied() && call.http_status != Some(200)).count(),
            late: calls.iter().filter(late).count(),
            rotations: steps()
                .filter(|(before, now)| before.state == State::Drawn && now.state == State::Done)
                .count(),
            taken_over: steps()
                .filter(|(before, now)| before.id == now.id && before.writer != now.writer)
                .count(),
            rotate_ats: turns.len(),
            reboots: others
                .iter()
                .filter(|call| call.action == Action::RebootInstance.as_str() && call.applied())
                .count(),
        }
    }

    fn check(&self, fleet: &Fleet, killing: Duration, converged: Duration) {
        eprintln!(
            "{KILLS} kills in {killing:?}, converged in {converged:?}: {self:?}, {} instances, {} writes by people",
            fleet.instances.len(),
            fleet.people.len()
        );
        assert!(self.calls > 500 && self.lost > 50 && self.late > 50, "{self:?}");
        assert!(self.rotations > 200 && self.taken_over > 100, "{self:?}");
        assert!(self.rotate_ats > 20 && self.reboots > 0, "{self:?}");
    }
}
