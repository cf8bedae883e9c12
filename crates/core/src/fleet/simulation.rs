//! Fleets that live through random histories: children that are slow, fail, wait or come back late, views that lag behind,
//! processes that die between any two writes. And fleets of a steady pace, for the end that is foretold.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;

use super::{tests::fleet_of, *};
use crate::{
    api::{self, ClusterVncPasswordStatus, Reason, Rollout, Trigger},
    rotation::{rotate_at::RotateAt, schedule, verdict::after},
};

/// A view lags no longer.
const LAG: Duration = Duration::from_secs(60);
const PATIENCE: Duration = Duration::from_secs(5 * 60);
const OVERDUE: Duration = Duration::from_secs(60 * 60);

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Idle,
    Working(Timestamp),
    Waiting(Timestamp),
    Failed(Timestamp),
    Restarting,
}

/// A child as it is. A rotation goes by what asked for it: a stamp, or the child's creation.
#[derive(Clone, Debug)]
struct Actual {
    created: Timestamp,
    doing: Doing,
    key: Option<Timestamp>,
    stamped: Option<Timestamp>,
    handled: Option<Timestamp>,
    rotated: Option<Timestamp>,
    ready: bool,
    /// It lost its place in the wave: it failed, or took too long.
    lost_its_place: bool,
}

impl Actual {
    /// What it is asked for and has not begun.
    fn asked(&self, now: Timestamp) -> Option<Timestamp> {
        let stamp = self.stamped.filter(|at| Some(*at) > self.handled && *at >= self.created && *at <= now);
        if self.rotated.is_none() { Some(stamp.unwrap_or(self.created)) } else { stamp }
    }

    /// Whether it has lost its place in the wave.
    fn is_late(&self, now: Timestamp) -> bool {
        match self.doing {
            Doing::Working(since) => after(since, OVERDUE) <= now,
            Doing::Waiting(since) => after(since, PATIENCE) <= now,
            Doing::Failed(_) => true,
            Doing::Idle | Doing::Restarting => false,
        }
    }

    fn holds_a_place(&self, now: Timestamp) -> bool {
        let busy = match self.doing {
            Doing::Idle => self.asked(now).is_some(),
            Doing::Working(_) | Doing::Restarting => true,
            Doing::Waiting(since) => after(since, PATIENCE) > now,
            Doing::Failed(_) => false,
        };
        busy && !self.lost_its_place
    }

    fn seen(&self) -> Child {
        let reason = Reason::Unreachable;
        let state = match self.doing {
            Doing::Idle => State::Idle,
            Doing::Working(since) => State::Working { since: Some(since), reason },
            Doing::Waiting(since) => State::Waiting { since },
            Doing::Failed(since) => State::Failed { reason: Reason::Denied, since },
            Doing::Restarting => State::Working { since: None, reason: Reason::RebootRequired },
        };
        let restart = if self.doing == Doing::Restarting { Restart::Operator } else { Restart::None };
        Child::Ours(Facts {
            created: self.created,
            ready: self.ready,
            state,
            restart,
            stamped: self.stamped,
            handled: self.handled,
            rotated: self.rotated,
            drifted: false,
            deleting: false,
        })
    }
}

#[derive(Clone, Debug, Default)]
struct Instance {
    wanted: bool,
    child: Option<Actual>,
    /// What the Secret, which outlives the child, tells of its password: when it was drawn, and for which stamp at the latest.
    secret: Option<(Timestamp, Option<Timestamp>)>,
    /// What asked for each rotation that came to its end.
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
    /// Every hour, in its first twenty minutes.
    hourly: Option<schedule::Plan>,
    rollouts: Vec<Rollout>,
    // Of the process: lost with it.
    views: Vec<(Child, Timestamp)>,
    issued: Issued,
}

impl World {
    fn new(size: usize, limits: Limits) -> Self {
        let instance = Instance { wanted: true, ..Instance::default() };
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
            views: Vec::new(),
            issued: Issued::default(),
        };
        world.start_process();
        world
    }

    fn start_process(&mut self) {
        self.issued = Issued::default();
        self.views = (0..self.instances.len()).map(|index| (self.look(index), self.now)).collect();
    }

    fn look(&self, index: usize) -> Child {
        self.instances[index].child.as_ref().map_or(Child::Missing, Actual::seen)
    }

    fn see(&mut self, index: usize) {
        self.views[index] = (self.look(index), self.now);
    }

    fn pass_time(&mut self, seconds: u64) {
        self.now = after(self.now, Duration::from_secs(seconds));
        for index in 0..self.instances.len() {
            if after(self.views[index].1, LAG) < self.now {
                self.see(index);
            }
            if let Some(child) = &mut self.instances[index].child {
                child.lost_its_place |= child.is_late(self.now);
            }
        }
    }

    fn plan(&mut self) -> (Plan, ClusterVncPasswordStatus) {
        let names: Vec<String> = (0..self.instances.len()).map(|index| format!("i-{index}")).collect();
        let mut members: Vec<Member> = self
            .instances
            .iter()
            .zip(&self.views)
            .map(|(instance, (child, _))| Member { wanted: instance.wanted, child: child.clone() })
            .collect();
        self.issued.overlay(names.iter().map(String::as_str), &mut members, self.now);
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
        assert_eq!(planned.actions, again.actions, "the same facts, the same plan");
        let describe = |_: usize| (String::new(), String::new(), String::new());
        let (status, _) = status(&fleet, &planned, &Discovery::default(), None, describe, self.now);
        (planned, status)
    }

    /// One pass; after `survives` writes the process dies.
    fn pass(&mut self, mut survives: usize) {
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
            if plan.turns {
                assert!(plan.actions.is_empty(), "nothing may rest on what is not written");
                continue;
            }
            for action in plan.actions {
                if survives == 0 {
                    return self.start_process();
                }
                survives -= 1;
                self.act(action);
                let busy = self.places_taken();
                assert!(busy <= self.limits.wave(), "{busy} at once after {action:?}");
            }
            return;
        }
    }

    fn places_taken(&self) -> u32 {
        let children = self.instances.iter().filter_map(|instance| instance.child.as_ref());
        children.filter(|child| child.holds_a_place(self.now)).count().try_into().unwrap()
    }

    fn check(&self, plan: &Plan) {
        let starts = |action: &Action| matches!(action, Action::Create { .. } | Action::Stamp { .. });
        let prunes = |action: &Action| matches!(action, Action::Delete { .. } | Action::Orphan { .. });
        if plan.phase == Phase::Halted || self.suspended {
            assert!(plan.actions.is_empty(), "{:?} does nothing more: {:?}", plan.phase, plan.actions);
        }
        if self.degraded {
            assert!(!plan.actions.iter().any(prunes), "pruned in doubt");
        }
        for action in plan.actions.iter().filter(|action| starts(action)) {
            let (Action::Create { member, .. } | Action::Stamp { member, .. }) = action else { continue };
            assert!(self.instances[*member].wanted);
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

    /// Whoever could be had was rotated.
    fn check_completed(&self, rollout: &Rollout) {
        for (index, instance) in self.instances.iter().enumerate().filter(|(_, instance)| instance.wanted) {
            // Just pruned, and wanted again: it is made when the view shows that it is gone.
            let Some(child) = &instance.child else { continue };
            if child.doing != Doing::Idle || child.lost_its_place {
                continue;
            }
            match rollout.trigger {
                Trigger::Initial => assert!(child.rotated.is_some(), "{index}"),
                Trigger::Schedule | Trigger::OnDemand => {
                    let done = instance.done.iter().filter(|key| **key >= rollout.id.0).count();
                    // A child that was made anew meanwhile keeps a password that came into effect since, whatever asked for it.
                    let kept = child.created >= rollout.id.0 && child.rotated >= Some(rollout.id.0);
                    assert!(done == 1 || (done == 0 && kept), "{index} in {rollout:?}: {instance:?}");
                }
            }
        }
    }

    /// Nobody was rotated twice for one rollout.
    fn check_rotations(&self) {
        for (number, rollout) in self.rollouts.iter().enumerate() {
            let next = self.rollouts.get(number + 1).map_or(Timestamp::MAX, |next| next.id.0);
            for instance in &self.instances {
                let of_it = instance.done.iter().filter(|key| **key >= rollout.id.0 && **key < next);
                assert!(of_it.count() <= 1, "twice in {rollout:?}: {instance:?}");
            }
        }
    }

    fn act(&mut self, action: Action) {
        let now = self.now;
        match action {
            Action::Create { member, stamp } => {
                let instance = &mut self.instances[member];
                if instance.child.is_some() {
                    return;
                }
                instance.child = Some(Actual {
                    created: now,
                    doing: Doing::Idle,
                    key: None,
                    stamped: stamp,
                    handled: instance.secret.and_then(|(_, handled)| handled),
                    rotated: instance.secret.map(|(rotated, _)| rotated),
                    ready: instance.secret.is_some(),
                    lost_its_place: false,
                });
                self.issued.created(&format!("i-{member}"), stamp, now);
            }
            Action::Stamp { member, stamp } => {
                let Some(child) = &mut self.instances[member].child else { return };
                child.stamped = Some(stamp);
                self.issued.stamped(&format!("i-{member}"), stamp, now);
            }
            Action::Update { .. } => {}
            Action::Delete { member } | Action::Orphan { member } => {
                self.instances[member].child = None;
            }
        }
    }

    /// A child takes a step of its own.
    fn step(&mut self, index: usize, choice: u32) {
        let now = self.now;
        let reboot = self.limits.reboot;
        let instance = &mut self.instances[index];
        let Some(child) = &mut instance.child else { return };
        if child.doing == Doing::Idle {
            let Some(key) = child.asked(now) else { return };
            child.key = Some(key);
        }
        let under_way = child.doing != Doing::Idle;
        // A view that lags shows for a moment more what it leaves now.
        child.lost_its_place |= child.is_late(after(now, LAG));
        // The condition Reconciling keeps its time while it is true.
        let since = match child.doing {
            Doing::Working(since) | Doing::Waiting(since) => since,
            Doing::Idle | Doing::Failed(_) | Doing::Restarting => now,
        };
        child.doing = match (child.doing, choice % 8) {
            (Doing::Restarting, _) | (_, 0..=2) => Doing::Idle,
            (Doing::Working(_) | Doing::Waiting(_), 3) | (Doing::Failed(_), 3 | 6) => return,
            (_, 4) if reboot => Doing::Restarting,
            (_, 3..=5) => Doing::Working(since),
            (_, 6) => Doing::Failed(now),
            _ => Doing::Waiting(since),
        };
        child.lost_its_place |= matches!(child.doing, Doing::Failed(_));
        // The status tells what is handled as soon as it is drawn.
        child.handled =
            child.handled.max(child.stamped.filter(|at| *at >= child.created && *at <= now && !under_way));
        if child.doing == Doing::Idle {
            instance.done.extend(child.key.take());
            child.rotated = Some(now);
            child.ready = true;
            // Asked again meanwhile, it goes on at once.
            child.lost_its_place &= child.asked(now).is_some();
            instance.secret = Some((now, child.handled));
        }
    }

    /// Everything goes well from here: all that is wanted is reached, and then nothing is written any more.
    fn calm_down(&mut self) {
        self.suspended = false;
        self.degraded = false;
        self.hourly = None;
        for _ in 0..self.instances.len() * 4 + 20 {
            self.pass_time(61);
            for index in 0..self.instances.len() {
                self.step(index, 0);
                self.see(index);
            }
            self.pass(usize::MAX);
        }
        let wanted = self.instances.iter().filter(|instance| instance.wanted).count();
        assert_eq!(self.status.discovered as usize, wanted);
        assert_eq!(self.status.ready as usize, wanted);
        assert!(
            self.instances.iter().all(|instance| instance.wanted || instance.child.is_none()),
            "left behind"
        );
        if let Some(rollout) = &self.status.rollout {
            assert!(rollout.completed_at.is_some(), "{rollout:?}");
        }
        for hours in [1, 100, 10_000] {
            self.pass_time(hours * 3600);
            let (plan, status) = self.plan();
            assert!(plan.actions.is_empty(), "{:?}", plan.actions);
            assert_eq!(status, self.status, "a quiet fleet writes nothing");
        }
    }

    fn happen(&mut self, (what, which, choice): (u32, usize, u32)) {
        let index = which % self.instances.len();
        match what {
            0..=29 => self.step(index, choice),
            30..=44 => self.see(index),
            45..=69 => self.pass(usize::MAX),
            70..=76 => self.pass(choice as usize % 6),
            77..=88 => self.pass_time(u64::from(choice % 90)),
            89 => self.pass_time(u64::from(choice % 7200)),
            90..=91 => self.rotate_at = Some(self.now),
            92 => self.generation += 1,
            93 => self.degraded = choice % 2 == 0,
            94 => self.suspended = choice % 4 == 0,
            95..=96 => self.instances[index].wanted = choice % 4 != 0,
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
            prune: api::Prune::Delete,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn whatever_happens_the_limits_hold_and_each_is_rotated_once(
        size in 1..12_usize,
        limits in limits(),
        hourly in any::<bool>(),
        history in proptest::collection::vec((0..100_u32, 0..100_usize, 0..10_000_u32), 0..400),
    ) {
        let mut world = World::new(size, limits);
        world.hourly = hourly.then(every_hour);
        for event in history {
            world.happen(event);
        }
        world.calm_down();
        world.check_rotations();
    }
}

// ---------------------------------------------------------------------------------------------------------- the end foretold

/// How long the password of the nth instance is on its way, in seconds.
type Latency = Box<dyn Fn(usize) -> f64>;

/// A rollout over instances that have passwords, with a wave that is always full. `gap`: seconds between two replies of a limited
/// account. Returns when it was to end as told each second, and when it ended.
fn foretold(size: usize, wave: u32, latency: &Latency, gap: f64) -> (Vec<(f64, Option<f64>)>, f64) {
    let limits = Limits {
        max_concurrent: wave,
        max_unavailable: 1,
        pause_after_failures: 3,
        reboot: false,
        prune: api::Prune::Delete,
    };
    let mut world = World::new(size, limits);
    let before = at(1_000);
    for instance in &mut world.instances {
        instance.child = Some(Actual {
            created: before,
            doing: Doing::Idle,
            key: None,
            stamped: None,
            handled: None,
            rotated: Some(before),
            ready: true,
            lost_its_place: false,
        });
    }
    world.start_process();
    world.pass(usize::MAX);
    world.rotate_at = Some(after(world.now, Duration::from_secs(120)));
    world.pass_time(120);
    let begun = world.now;
    let mut ends: Vec<Option<f64>> = vec![None; size];
    let (mut told, mut served) = (Vec::new(), 0.0_f64);
    for second in 0.. {
        world.pass(usize::MAX);
        let rollout = world.status.rollout.clone().unwrap();
        let passed = f64::from(second);
        if rollout.completed_at.is_some() && rollout.trigger == Trigger::OnDemand {
            return (told, passed);
        }
        if rollout.updated as usize * 10 >= size {
            told.push((passed, rollout.eta.map(|eta| eta.0.duration_since(begun).as_secs_f64())));
        }
        for (index, end) in ends.iter_mut().enumerate() {
            let asked = world.instances[index].child.as_ref().unwrap().asked(world.now).is_some();
            if asked && end.is_none() {
                served = (served + gap).max(passed);
                *end = Some(served + latency(index));
            }
        }
        world.pass_time(1);
        for (index, end) in ends.iter().enumerate() {
            if end.is_some_and(|end| end <= passed + 1.0) {
                world.step(index, 0);
                world.see(index);
            }
        }
    }
    unreachable!("it goes on for ever");
}

#[test]
fn the_end_is_foretold_within_15_percent_from_a_tenth_of_the_way_on() {
    let spread = |index: usize| f64::from(u32::try_from(index * 7919 % 1000).unwrap()) / 1000.0;
    let table: Vec<(&str, usize, u32, Latency, f64)> = vec![
        ("waves that end together", 300, 10, Box::new(|_| 20.0), 0.0),
        ("latencies of all kinds", 300, 10, Box::new(move |index| 5.0 + 30.0 * spread(index)), 0.0),
        ("one at a time", 60, 1, Box::new(|_| 10.0), 0.0),
        ("a limited account", 500, 10, Box::new(|_| 1.0), 1.0),
        ("a limited account, a wave of all", 400, 400, Box::new(|_| 1.0), 1.0),
        (
            "a limited account, all kinds of latencies",
            500,
            50,
            Box::new(move |index| 10.0 * spread(index)),
            1.0,
        ),
    ];
    for (name, size, wave, latency, gap) in table {
        let (told, end) = foretold(size, wave, &latency, gap);
        assert!(!told.is_empty(), "{name}");
        for (second, eta) in told.into_iter().filter(|(second, _)| *second < end) {
            let eta = eta.unwrap_or_else(|| panic!("{name}: nothing is told after {second} of {end} s"));
            assert!(
                (eta - end).abs() <= 0.15 * end,
                "{name}: {eta} told after {second} s, and it took {end} s"
            );
        }
    }
}
