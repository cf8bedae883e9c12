//! Simulates fleets with random histories: member objects that are slow, fail, wait or recover late, stale
//! caches, and processes that stop between any two writes. Also simulates fleets with a steady pace, to test
//! the ETA.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{tests::fleet_of, *};
use crate::{
    api::{self, ClusterVncPasswordStatus, Reason, Rollout, Trigger},
    rotation::{rotate_at::RotateAt, schedule, verdict::after},
};

/// Maximum lag of the cache.
const MAX_LAG: Duration = Duration::from_secs(60);
const INSTANCE_TIMEOUT: Duration = Duration::from_secs(5 * 60);
const ROTATION_TIMEOUT: Duration = Duration::from_secs(60 * 60);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Idle,
    Working(Timestamp),
    Waiting(Timestamp),
    Failed(Timestamp),
    Restarting,
}

/// A member object in the API server. Its rotations are identified by their cause: a `rotate-at` or the
/// creation.
#[derive(Clone, Debug)]
struct Object {
    created: Timestamp,
    progress: Progress,
    /// The cause of the rotation under way.
    cause: Option<Timestamp>,
    rotate_at: Option<Timestamp>,
    handled: Option<Timestamp>,
    rotated: Option<Timestamp>,
    ready: bool,
    /// It lost its slot in the wave: it failed or took too long.
    lost_slot: bool,
}

impl Object {
    /// The cause of the next rotation, if one is requested.
    fn requested(&self, now: Timestamp) -> Option<Timestamp> {
        let rotate_at =
            self.rotate_at.filter(|at| Some(*at) > self.handled && *at >= self.created && *at <= now);
        if self.rotated.is_none() { Some(rotate_at.unwrap_or(self.created)) } else { rotate_at }
    }

    /// Whether it loses its slot in the wave.
    fn is_late(&self, now: Timestamp) -> bool {
        match self.progress {
            Progress::Working(since) => after(since, ROTATION_TIMEOUT) <= now,
            Progress::Waiting(since) => after(since, INSTANCE_TIMEOUT) <= now,
            Progress::Failed(_) => true,
            Progress::Idle | Progress::Restarting => false,
        }
    }

    fn uses_slot(&self, now: Timestamp) -> bool {
        let rotating = match self.progress {
            Progress::Idle => self.requested(now).is_some(),
            Progress::Working(_) | Progress::Restarting => true,
            Progress::Waiting(since) => after(since, INSTANCE_TIMEOUT) > now,
            Progress::Failed(_) => false,
        };
        rotating && !self.lost_slot
    }

    fn cached(&self) -> MemberObject {
        let reason = Reason::Unreachable;
        let activity = match self.progress {
            Progress::Idle => Activity::Idle,
            Progress::Working(since) => Activity::Working { since: Some(since), reason },
            Progress::Waiting(since) => Activity::WaitingForInstance { since },
            Progress::Failed(since) => Activity::Failed { reason: Reason::Denied, since },
            Progress::Restarting => Activity::Working { since: None, reason: Reason::RebootRequired },
        };
        let restart = if self.progress == Progress::Restarting { Restart::Operator } else { Restart::None };
        MemberObject::Owned(MemberState {
            created: self.created,
            ready: self.ready,
            activity,
            restart,
            rotate_at: self.rotate_at,
            last_handled_rotate_at: self.handled,
            last_rotation: self.rotated,
            drifted: false,
            deleting: false,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Instance {
    selected: bool,
    object: Option<Object>,
    /// The Secret, which stays when the object is deleted: when its password came into effect, and `handled`
    /// at that time.
    secret: Option<(Timestamp, Option<Timestamp>)>,
    /// The causes of the completed rotations.
    done: Vec<Timestamp>,
}

struct World {
    now: Timestamp,
    limits: Limits,
    instances: Vec<Instance>,
    status: ClusterVncPasswordStatus,
    rotate_at: Option<Timestamp>,
    generation: i64,
    degraded: bool,
    suspended: bool,
    /// A schedule for every hour, with a window of its first twenty minutes.
    hourly: Option<schedule::Plan>,
    rollouts: Vec<Rollout>,
    // Memory of the process.
    cache: Vec<(MemberObject, Timestamp)>,
    expectations: Expectations,
}

impl World {
    fn new(size: usize, limits: Limits) -> Self {
        let instance = Instance { selected: true, ..Instance::default() };
        let mut world = Self {
            now: at(1_000_000),
            limits,
            instances: vec![instance; size],
            status: ClusterVncPasswordStatus::default(),
            rotate_at: None,
            generation: 1,
            degraded: false,
            suspended: false,
            hourly: None,
            rollouts: Vec::new(),
            cache: Vec::new(),
            expectations: Expectations::default(),
        };
        world.start_process();
        world
    }

    fn start_process(&mut self) {
        self.expectations = Expectations::default();
        self.cache = (0..self.instances.len()).map(|index| (self.read(index), self.now)).collect();
    }

    fn read(&self, index: usize) -> MemberObject {
        self.instances[index].object.as_ref().map_or(MemberObject::Missing, Object::cached)
    }

    fn refresh(&mut self, index: usize) {
        self.cache[index] = (self.read(index), self.now);
    }

    fn pass_time(&mut self, seconds: u64) {
        self.now = after(self.now, Duration::from_secs(seconds));
        for index in 0..self.instances.len() {
            if after(self.cache[index].1, MAX_LAG) < self.now {
                self.refresh(index);
            }
            if let Some(object) = &mut self.instances[index].object {
                object.lost_slot |= object.is_late(self.now);
            }
        }
    }

    fn plan(&mut self) -> (Plan, ClusterVncPasswordStatus) {
        let names: Vec<String> = (0..self.instances.len()).map(|index| format!("i-{index}")).collect();
        let mut members: Vec<Member> = self
            .instances
            .iter()
            .zip(&self.cache)
            .map(|(instance, (object, _))| Member { selected: instance.selected, object: object.clone() })
            .collect();
        self.expectations.apply(names.iter().map(String::as_str), &mut members, self.now);
        let mut fleet = fleet_of(&self.status, self.limits);
        fleet.generation = self.generation;
        fleet.degraded = self.degraded;
        fleet.suspended = self.suspended;
        if let Some(hourly) = &self.hourly {
            fleet.schedule = Ok(hourly.clone());
        }
        fleet.rotate_at = self.rotate_at.map_or(RotateAt::Never, RotateAt::At);
        let planned = plan(&fleet, &members, self.now);
        let again = plan(&fleet, &members, self.now);
        assert_eq!(planned.actions, again.actions, "a plan is deterministic");
        let describe = |_: usize| (String::new(), String::new(), String::new());
        let (status, _) = status(&fleet, &planned, &DiscoveryReport::default(), None, describe, self.now);
        (planned, status)
    }

    /// One reconcile. The process stops after `survives` writes.
    fn reconcile(&mut self, mut survives: usize) {
        loop {
            let (plan, status) = self.plan();
            self.check(&plan);
            if status != self.status {
                if survives == 0 {
                    return self.start_process();
                }
                survives -= 1;
                self.write(status);
            }
            if plan.has_transition {
                assert!(plan.actions.is_empty(), "actions need a written status");
                continue;
            }
            for action in plan.actions {
                if survives == 0 {
                    return self.start_process();
                }
                survives -= 1;
                self.act(action);
                let used = self.slots_used();
                assert!(used <= self.limits.wave(), "{used} slots used after {action:?}");
            }
            return;
        }
    }

    fn slots_used(&self) -> u32 {
        let objects = self.instances.iter().filter_map(|instance| instance.object.as_ref());
        objects.filter(|object| object.uses_slot(self.now)).count().try_into().unwrap()
    }

    fn check(&self, plan: &Plan) {
        let starts = |action: &Action| matches!(action, Action::Create { .. } | Action::Rotate { .. });
        let prunes = |action: &Action| matches!(action, Action::Delete { .. } | Action::Orphan { .. });
        if plan.phase == RolloutPhase::Halted || self.suspended {
            assert!(plan.actions.is_empty(), "{:?} starts nothing: {:?}", plan.phase, plan.actions);
        }
        if self.degraded {
            assert!(!plan.actions.iter().any(prunes), "pruned while degraded");
        }
        for action in plan.actions.iter().filter(|action| starts(action)) {
            let (Action::Create { member, .. } | Action::Rotate { member, .. }) = action else { continue };
            assert!(self.instances[*member].selected);
        }
    }

    fn write(&mut self, status: ClusterVncPasswordStatus) {
        if let Some(rollout) = &status.rollout {
            if self.rollouts.last().is_none_or(|last| last.id != rollout.id) {
                self.rollouts.push(rollout.clone());
            }
            let completed = |status: &ClusterVncPasswordStatus| {
                status.rollout.as_ref().is_some_and(|rollout| rollout.completed_at.is_some())
            };
            if completed(&status) && !completed(&self.status) {
                self.check_completed(rollout);
            }
        }
        self.status = status;
    }

    /// Every member that could rotate did.
    fn check_completed(&self, rollout: &Rollout) {
        for (index, instance) in self.instances.iter().enumerate().filter(|(_, instance)| instance.selected) {
            // Pruned and selected again: it is created when the cache shows that it is gone.
            let Some(object) = &instance.object else { continue };
            if object.progress != Progress::Idle || object.lost_slot {
                continue;
            }
            match rollout.trigger {
                Trigger::Initial => assert!(object.rotated.is_some(), "{index}"),
                Trigger::Schedule | Trigger::OnDemand => {
                    let done = instance.done.iter().filter(|cause| **cause >= rollout.id.0).count();
                    // An object that was recreated keeps a password that came into effect since, whatever its
                    // cause.
                    let kept = object.created >= rollout.id.0 && object.rotated >= Some(rollout.id.0);
                    assert!(done == 1 || (done == 0 && kept), "{index} in {rollout:?}: {instance:?}");
                }
            }
        }
    }

    /// No member rotated twice for one rollout.
    fn check_rotations(&self) {
        for (number, rollout) in self.rollouts.iter().enumerate() {
            let next = self.rollouts.get(number + 1).map_or(Timestamp::MAX, |next| next.id.0);
            for instance in &self.instances {
                let rotations =
                    instance.done.iter().filter(|cause| **cause >= rollout.id.0 && **cause < next);
                assert!(rotations.count() <= 1, "twice in {rollout:?}: {instance:?}");
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Create { member, rotate_at } => {
                let instance = &mut self.instances[member];
                if instance.object.is_some() {
                    return;
                }
                instance.object = Some(Object {
                    created: now,
                    progress: Progress::Idle,
                    cause: None,
                    rotate_at,
                    handled: instance.secret.and_then(|(_, handled)| handled),
                    rotated: instance.secret.map(|(rotated, _)| rotated),
                    ready: instance.secret.is_some(),
                    lost_slot: false,
                });
                self.expectations.expect_create(&format!("i-{member}"), rotate_at, now);
            }
            Action::Rotate { member, rotate_at } => {
                let Some(object) = &mut self.instances[member].object else { return };
                object.rotate_at = Some(rotate_at);
                self.expectations.expect_rotate_at(&format!("i-{member}"), rotate_at, now);
            }
            Action::Update { .. } => {}
            Action::Delete { member } | Action::Orphan { member } => {
                self.instances[member].object = None;
            }
        }
    }

    /// A member object makes one step.
    fn step(&mut self, index: usize, choice: u32) {
        let now = self.now;
        let reboot = self.limits.reboot;
        let instance = &mut self.instances[index];
        let Some(object) = &mut instance.object else { return };
        if object.progress == Progress::Idle {
            let Some(cause) = object.requested(now) else { return };
            object.cause = Some(cause);
        }
        let under_way = object.progress != Progress::Idle;
        // A stale cache may still show the progress that ends now.
        object.lost_slot |= object.is_late(after(now, MAX_LAG));
        // The condition Reconciling keeps its transition time while it is True.
        let since = match object.progress {
            Progress::Working(since) | Progress::Waiting(since) => since,
            Progress::Idle | Progress::Failed(_) | Progress::Restarting => now,
        };
        object.progress = match (object.progress, choice % 8) {
            (Progress::Restarting, _) | (_, 0..=2) => Progress::Idle,
            (Progress::Working(_) | Progress::Waiting(_), 3) | (Progress::Failed(_), 3 | 6) => return,
            (_, 4) if reboot => Progress::Restarting,
            (_, 3..=5) => Progress::Working(since),
            (_, 6) => Progress::Failed(now),
            _ => Progress::Waiting(since),
        };
        object.lost_slot |= matches!(object.progress, Progress::Failed(_));
        // `lastHandledRotateAt` is set as soon as the password is drawn.
        object.handled = object
            .handled
            .max(object.rotate_at.filter(|at| *at >= object.created && *at <= now && !under_way));
        if object.progress == Progress::Idle {
            instance.done.extend(object.cause.take());
            object.rotated = Some(now);
            object.ready = true;
            // If another rotation was requested meanwhile, it begins immediately.
            object.lost_slot &= object.requested(now).is_some();
            instance.secret = Some((now, object.handled));
        }
    }

    /// From here on, every step succeeds: all members become ready, and then nothing is written.
    fn settle(&mut self) {
        self.suspended = false;
        self.degraded = false;
        self.hourly = None;
        for _ in 0..self.instances.len() * 4 + 20 {
            self.pass_time(61);
            for index in 0..self.instances.len() {
                self.step(index, 0);
                self.refresh(index);
            }
            self.reconcile(usize::MAX);
        }
        let selected = self.instances.iter().filter(|instance| instance.selected).count();
        assert_eq!(self.status.discovered as usize, selected);
        assert_eq!(self.status.ready as usize, selected);
        assert!(
            self.instances.iter().all(|instance| instance.selected || instance.object.is_none()),
            "not pruned"
        );
        if let Some(rollout) = &self.status.rollout {
            assert!(rollout.completed_at.is_some(), "{rollout:?}");
        }
        for hours in [1, 100, 10_000] {
            self.pass_time(hours * 3600);
            let (plan, status) = self.plan();
            assert!(plan.actions.is_empty(), "{:?}", plan.actions);
            assert_eq!(status, self.status, "an idle fleet writes nothing");
        }
    }

    fn apply_event(&mut self, (kind, instance, choice): (u32, usize, u32)) {
        let index = instance % self.instances.len();
        match kind {
            0..=29 => self.step(index, choice),
            30..=44 => self.refresh(index),
            45..=69 => self.reconcile(usize::MAX),
            70..=76 => self.reconcile(choice as usize % 6),
            77..=88 => self.pass_time(u64::from(choice % 90)),
            89 => self.pass_time(u64::from(choice % 7200)),
            90..=91 => self.rotate_at = Some(self.now),
            92 => self.generation += 1,
            93 => self.degraded = choice % 2 == 0,
            94 => self.suspended = choice % 4 == 0,
            95..=96 => self.instances[index].selected = choice % 4 != 0,
            _ => self.start_process(),
        }
    }
}

fn every_hour() -> schedule::Plan {
    let rotation = api::Rotation { schedule: Some("@hourly".to_owned()), ..api::Rotation::default() };
    let window =
        api::Window { schedule: "0 * * * *".to_owned(), duration: "20m".to_owned(), time_zone: None };
    schedule::Plan::new(Some(&rotation), Some(&window)).unwrap()
}

fn limits() -> impl Strategy<Value = Limits> {
    (1..6_u32, 1..4_u32, 1..4_u32, any::<bool>()).prop_map(
        |(max_concurrent, max_unavailable, pause_after_failures, reboot)| Limits {
            max_concurrent,
            max_unavailable,
            pause_after_failures,
            reboot,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_wave_stays_within_its_limits_and_each_member_rotates_once_per_rollout(
        size in 1..12_usize,
        limits in limits(),
        hourly in any::<bool>(),
        history in proptest::collection::vec((0..100_u32, 0..100_usize, 0..10_000_u32), 0..400),
    ) {
        let mut world = World::new(size, limits);
        world.hourly = hourly.then(every_hour);
        for event in history {
            world.apply_event(event);
        }
        world.settle();
        world.check_rotations();
    }
}

// ------------------------------------------------------------------------------------------------------------------- ETA

/// How long the rotation of the nth instance takes, in seconds.
type Latency = Box<dyn Fn(usize) -> f64>;

/// Runs a rollout on demand with a wave that is always full. `gap`: seconds between two replies of a
/// rate-limited account. Returns the ETA of each second, and when the rollout completed.
fn run_rollout(size: usize, wave: u32, latency: &Latency, gap: f64) -> (Vec<(f64, Option<f64>)>, f64) {
    let limits = Limits { max_concurrent: wave, max_unavailable: 1, pause_after_failures: 3, reboot: false };
    let mut world = World::new(size, limits);
    let before = at(1_000);
    for instance in &mut world.instances {
        instance.object = Some(Object {
            created: before,
            progress: Progress::Idle,
            cause: None,
            rotate_at: None,
            handled: None,
            rotated: Some(before),
            ready: true,
            lost_slot: false,
        });
    }
    world.start_process();
    world.reconcile(usize::MAX);
    world.rotate_at = Some(after(world.now, Duration::from_secs(120)));
    world.pass_time(120);
    let start = world.now;
    let mut ends: Vec<Option<f64>> = vec![None; size];
    let (mut etas, mut served) = (Vec::new(), 0.0_f64);
    for second in 0.. {
        world.reconcile(usize::MAX);
        let rollout = world.status.rollout.clone().unwrap();
        let passed = f64::from(second);
        if rollout.completed_at.is_some() && rollout.trigger == Trigger::OnDemand {
            return (etas, passed);
        }
        if rollout.updated as usize * 10 >= size {
            etas.push((passed, rollout.eta.map(|eta| eta.0.duration_since(start).as_secs_f64())));
        }
        for (index, end) in ends.iter_mut().enumerate() {
            let requested = world.instances[index].object.as_ref().unwrap().requested(world.now).is_some();
            if requested && end.is_none() {
                served = (served + gap).max(passed);
                *end = Some(served + latency(index));
            }
        }
        world.pass_time(1);
        for (index, end) in ends.iter().enumerate() {
            if end.is_some_and(|end| end <= passed + 1.0) {
                world.step(index, 0);
                world.refresh(index);
            }
        }
    }
    unreachable!("the rollout never completes");
}

#[test]
fn the_eta_is_within_15_percent_after_a_tenth_of_the_rollout() {
    let spread = |index: usize| f64::from(u32::try_from(index * 7919 % 1000).unwrap()) / 1000.0;
    let table: Vec<(&str, usize, u32, Latency, f64)> = vec![
        ("waves that end together", 300, 10, Box::new(|_| 20.0), 0.0),
        ("different latencies", 300, 10, Box::new(move |index| 5.0 + 30.0 * spread(index)), 0.0),
        ("one at a time", 60, 1, Box::new(|_| 10.0), 0.0),
        ("rate-limited", 500, 10, Box::new(|_| 1.0), 1.0),
        ("rate-limited, a wave of all", 400, 400, Box::new(|_| 1.0), 1.0),
        ("rate-limited, different latencies", 500, 50, Box::new(move |index| 10.0 * spread(index)), 1.0),
    ];
    for (name, size, wave, latency, gap) in table {
        let (etas, end) = run_rollout(size, wave, &latency, gap);
        assert!(!etas.is_empty(), "{name}");
        for (second, eta) in etas.into_iter().filter(|(second, _)| *second < end) {
            let eta = eta.unwrap_or_else(|| panic!("{name}: no ETA after {second} of {end} s"));
            assert!(
                (eta - end).abs() <= 0.15 * end,
                "{name}: ETA {eta} after {second} s, but it took {end} s"
            );
        }
    }
}
