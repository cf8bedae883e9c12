//! Tests of a route limiter against a model of the cloud's counter, over many minutes of simulated time: many
//! requesters, a limited number of calls in flight, latency, and other callers that share the limit.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use super::{MINUTE, Micros, SECOND, fair_queue::Requester, pacing::Permit, route_limiter::RouteLimiter};

const MILLI: Micros = 1_000;
/// The cloud has no limit.
const NONE: u32 = u32::MAX;

/// The parameters of a simulation.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Calls a minute of the account.
    pub limit: u32,
    pub ceiling: Option<u32>,
    /// Minimum and maximum latency in milliseconds.
    pub latency: (i64, i64),
    /// The maximum of calls in flight.
    pub workers: usize,
    /// The number of requesters in the main group; 0: depends on the limit.
    pub crowd: usize,
    /// When they begin to wait.
    pub start: Micros,
    /// Whether each waits again after its call has passed.
    pub again: bool,
    /// Whether the first call is throttled because of other callers.
    pub stray: bool,
    /// The percentage of requesters that never come at their slot.
    pub absent: usize,
    pub minutes: i64,
    /// The calls of other callers in a minute.
    pub others: fn(i64, u32) -> u32,
    pub seed: u64,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            limit: 60,
            ceiling: None,
            latency: (50, 300),
            workers: 32,
            crowd: 0,
            start: 7 * SECOND,
            again: true,
            stray: false,
            absent: 0,
            minutes: 40,
            others: |_, _| 0,
            seed: 1,
        }
    }
}

/// What happened in one minute of the cloud's clock.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tally {
    pub passed: u32,
    pub throttled: u32,
    pub others: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// A requester asks for a permit.
    Ask(usize),
    /// A call reaches the cloud.
    Arrive(usize, u64),
    /// Its reply arrives.
    Reply(usize, u64, bool),
    /// Another caller calls.
    Other,
    /// The limiter is asked whom to notify.
    Tick,
}

pub(super) struct Simulation {
    setting: Setting,
    limiter: RouteLimiter,
    requesters: Vec<Requester>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    count: u64,
    random: u64,
    /// Requesters that wait for a free worker.
    ready: VecDeque<usize>,
    in_flight_now: usize,
    permits: BTreeMap<u64, (Permit, Micros)>,
    /// When each requester asks next.
    due: Vec<Micros>,
    pub tally: BTreeMap<i64, Tally>,
    pub asked: u64,
    /// When the first call of each requester passed.
    pub served: Vec<Option<Micros>>,
}

impl Simulation {
    pub fn new(setting: Setting) -> Self {
        let crowd = match setting.crowd {
            0 => (setting.limit as usize * 2).clamp(100, 4000),
            crowd => crowd,
        };
        let requester = |number| Requester { group: "fleet".into(), name: format!("{number}").into() };
        let mut simulation = Self {
            limiter: RouteLimiter::new(setting.ceiling, MINUTE),
            requesters: (0..crowd).map(requester).collect(),
            events: BinaryHeap::new(),
            count: 0,
            random: setting.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            ready: VecDeque::new(),
            in_flight_now: 0,
            permits: BTreeMap::new(),
            due: vec![Micros::MAX; crowd],
            tally: BTreeMap::new(),
            asked: 0,
            served: vec![None; crowd],
            setting,
        };
        for number in 0..crowd {
            simulation.wake(number, simulation.setting.start);
        }
        simulation.at(0, Event::Other);
        simulation.at(SECOND / 2, Event::Tick);
        simulation
    }

    /// Adds a requester of another group that comes at this time. Returns its number.
    pub fn visitor(&mut self, at: Micros) -> usize {
        let number = self.requesters.len();
        self.requesters.push(Requester { group: "visitor".into(), name: format!("{number}").into() });
        self.due.push(Micros::MAX);
        self.served.push(None);
        self.wake(number, at);
        number
    }

    pub fn run(mut self) -> Self {
        let end = self.setting.minutes * MINUTE;
        while let Some(Reverse((now, _, event))) = self.events.pop() {
            if now >= end {
                break;
            }
            self.step(now, event);
        }
        self
    }

    fn step(&mut self, now: Micros, event: Event) {
        match event {
            Event::Ask(number) if self.due[number] == now => {
                self.due[number] = Micros::MAX;
                self.ready.push_back(number);
                self.serve(now);
            }
            Event::Ask(_) => {}
            Event::Arrive(number, call) => {
                let minute = now.div_euclid(MINUTE);
                let tally = self.tally.entry(minute).or_default();
                let passed = tally.passed + tally.others < self.setting.limit && !self.setting.stray;
                self.setting.stray = false;
                if passed {
                    tally.passed += 1;
                } else {
                    tally.throttled += 1;
                }
                let back = self.permits[&call].1;
                self.at(back, Event::Reply(number, call, passed));
            }
            Event::Reply(number, call, passed) => {
                let (permit, _) = self.permits.remove(&call).unwrap();
                self.in_flight_now -= 1;
                if passed {
                    self.limiter.pacing.passed(permit, now);
                    self.served[number].get_or_insert(now);
                    if self.setting.again && *self.requesters[number].group == *"fleet" {
                        self.wake(number, now + SECOND);
                    }
                } else {
                    let slot = self.limiter.throttled(&self.requesters[number], permit, None, now);
                    self.wake(number, slot + 5 * MILLI);
                }
                self.serve(now);
            }
            Event::Other => self.other(now),
            Event::Tick => {
                for requester in self.limiter.notify(now) {
                    let number = requester.name.parse().unwrap();
                    self.wake(number, now);
                }
                self.at(now + SECOND, Event::Tick);
            }
        }
    }

    fn other(&mut self, now: Micros) {
        let minute = now.div_euclid(MINUTE);
        let wanted = (self.setting.others)(minute, self.setting.limit);
        let next = if wanted == 0 { (minute + 1) * MINUTE } else { now + MINUTE / i64::from(wanted) };
        let tally = self.tally.entry(minute).or_default();
        if wanted > 0 && tally.passed + tally.others < self.setting.limit {
            tally.others += 1;
        }
        self.at(next, Event::Other);
    }

    fn serve(&mut self, now: Micros) {
        while self.in_flight_now < self.setting.workers
            && let Some(number) = self.ready.pop_front()
        {
            self.asked += 1;
            if number % 100 < self.setting.absent && self.served[number].is_none() {
                // It is queued, and never comes.
                self.served[number] = Some(now);
                self.limiter.enqueue(&self.requesters[number], now);
                continue;
            }
            match self.limiter.admit(&self.requesters[number], now) {
                Ok(permit) => {
                    let (shortest, longest) = self.setting.latency;
                    let latency = (shortest + self.below(longest - shortest + 1)) * MILLI;
                    let there = self.below(latency);
                    self.count += 1;
                    self.in_flight_now += 1;
                    self.permits.insert(self.count, (permit, now + latency));
                    self.at(now + there, Event::Arrive(number, self.count));
                }
                Err(slot) => {
                    assert!(slot > now, "a slot in the past");
                    self.wake(number, slot + 5 * MILLI);
                }
            }
        }
    }

    fn wake(&mut self, number: usize, at: Micros) {
        self.due[number] = at;
        self.at(at, Event::Ask(number));
    }

    fn at(&mut self, at: Micros, event: Event) {
        self.count += 1;
        self.events.push(Reverse((at, self.count, event)));
    }

    /// A number below `bound`, from a generator of its own (xorshift64*).
    fn below(&mut self, bound: i64) -> i64 {
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let number = self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33;
        i64::try_from(number).unwrap() % bound.max(1)
    }

    /// The minutes after the first throttled one.
    pub fn later(&self) -> impl Iterator<Item = (&i64, &Tally)> {
        let first = self.tally.iter().find(|(_, tally)| tally.throttled > 0).map_or(0, |(minute, _)| *minute);
        let last = self.setting.minutes - 1;
        self.tally.iter().filter(move |(minute, _)| **minute > first && **minute < last)
    }

    /// The percentage used of what other callers left free and the workers can use, after the first throttled
    /// minute.
    pub fn used(&self) -> f64 {
        let (shortest, longest) = self.setting.latency;
        let most = i64::try_from(self.setting.workers).unwrap() * 120_000 / (shortest + longest);
        let most = u32::try_from(most).unwrap();
        let free: u32 = self.later().map(|(_, tally)| (self.setting.limit - tally.others).min(most)).sum();
        let used: u32 = self.later().map(|(_, tally)| tally.passed).sum();
        f64::from(used) * 100.0 / f64::from(free)
    }

    /// Throttled replies of each minute after the first with more than one.
    pub fn several(&self) -> Vec<u32> {
        self.later().map(|(_, tally)| tally.throttled).filter(|throttled| *throttled > 1).collect()
    }

    /// The maximum of calls in flight at a rate of `times` the limit, including the credit of a second.
    pub fn in_flight(&self, times: f64) -> f64 {
        let latency = f64::from(i32::try_from(self.setting.latency.1).unwrap());
        let workers = f64::from(u32::try_from(self.setting.workers).unwrap());
        (f64::from(self.setting.limit) * times * (latency + 1000.0) / 60_000.0).min(workers) + 2.0
    }

    /// How many minutes after the first left less than 5 % of the limit free.
    pub fn full(&self) -> usize {
        self.later().filter(|(_, tally)| self.is_full(tally)).count()
    }

    /// Minutes after a throttled one that left less than 5 % of the limit free. The first minutes, in which doubling
    /// meets the limit, do not count.
    pub fn not_free(&self) -> Vec<i64> {
        let throttled = |minute: i64| self.tally.get(&minute).is_some_and(|tally| tally.throttled > 0);
        let minutes = self.later().filter(|(minute, _)| **minute >= 5 && throttled(**minute - 1));
        minutes.filter(|(_, tally)| self.is_full(tally)).map(|(minute, _)| *minute).collect()
    }

    fn is_full(&self, tally: &Tally) -> bool {
        tally.passed + tally.others > self.setting.limit - self.setting.limit / 20
    }

    /// Throttled replies a minute after the first, on average.
    pub fn mean(&self) -> f64 {
        let throttled: u32 = self.later().map(|(_, tally)| tally.throttled).sum();
        f64::from(throttled) / f64::from(u32::try_from(self.later().count()).unwrap())
    }

    /// How long it took until all were served.
    pub fn took(&self) -> f64 {
        let last = self.served.iter().map(|served| served.expect("all are served")).max().unwrap();
        f64::from(u32::try_from((last - self.setting.start) / MILLI).unwrap()) / 1000.0
    }
}

/// No other callers.
fn nobody(_: i64, _: u32) -> u32 {
    0
}

/// Another caller starts or stops every twenty minutes to use two fifths of the limit.
fn in_steps(minute: i64, limit: u32) -> u32 {
    if minute / 20 % 2 == 1 { limit * 2 / 5 } else { 0 }
}

/// Other callers rise to two fifths of the limit in twenty minutes, and fall in twenty.
fn drifting(minute: i64, limit: u32) -> u32 {
    let part = u32::try_from(minute.rem_euclid(40)).unwrap();
    limit * part.min(40 - part) * 2 / 100
}

/// Every ten minutes another caller uses up a minute in a few seconds.
fn in_bursts(minute: i64, limit: u32) -> u32 {
    if minute % 10 == 5 { limit * 10 } else { 0 }
}

/// For ten minutes another caller uses nine tenths of the limit.
fn leaving(minute: i64, limit: u32) -> u32 {
    if minute < 10 { limit * 9 / 10 } else { 0 }
}

/// Simulations of this many minutes with several latencies.
fn runs(limits: &[u32], others: fn(i64, u32) -> u32, minutes: i64) -> impl Iterator<Item = Simulation> {
    let latencies = [(300, 300), (50, 300), (100, 2000), (2000, 2000)];
    let setting = Setting { minutes, others, ..Setting::default() };
    let settings = limits.iter().flat_map(|limit| {
        // At that limit the other latencies only make the test long.
        let latencies = if *limit < 6000 { latencies.as_slice() } else { &latencies[..1] };
        latencies.iter().map(|latency| Setting { limit: *limit, latency: *latency, ..setting.clone() })
    });
    settings.map(|setting| Simulation::new(setting).run()).collect::<Vec<_>>().into_iter()
}

/// The same without other callers, except for the first throttled reply.
fn stray_runs(limits: &[u32], minutes: i64) -> impl Iterator<Item = Simulation> {
    let setting = Setting { latency: (300, 300), stray: true, minutes, ..Setting::default() };
    limits.iter().map(move |limit| Simulation::new(Setting { limit: *limit, ..setting.clone() }).run())
}

#[test]
fn one_throttled_reply_that_others_caused_costs_a_thousand_objects_less_than_five_minutes() {
    for limit in [400, 600, 6000, NONE] {
        for start in [0, 7, 20, 59].map(|second| second * SECOND) {
            let setting = Setting {
                limit,
                start,
                latency: (300, 300),
                crowd: 1000,
                again: false,
                stray: true,
                minutes: 20,
                ..Setting::default()
            };
            let simulation = Simulation::new(setting).run();
            assert!(simulation.took() < 300.0, "{} s at {limit} from {start} µs", simulation.took());
        }
    }
}

#[test]
fn without_other_callers_the_limit_is_met_once_and_mostly_used() {
    let limits = [10, 60, 600, 6000];
    for simulation in runs(&limits, nobody, 40).chain(stray_runs(&limits, 40)) {
        let (setting, several, used) = (&simulation.setting, simulation.several(), simulation.used());
        show(&simulation);
        // At ten calls a minute it starts above the limit, and a call of two seconds is longer than a turn.
        let minutes = if setting.latency.1 > 300 { 2 } else { 1 };
        assert!(several.len() <= minutes, "{several:?} throttled in a minute: {setting:?}");
        let in_flight = simulation.in_flight(4.0);
        assert!(
            several.iter().all(|worst| f64::from(*worst) <= in_flight),
            "{several:?} throttled: {setting:?}"
        );
        assert!(used >= 85.0, "{used} % used: {setting:?}");
        // A minute that probes comes after one that does not, at least.
        assert_eq!(simulation.not_free(), [0; 0], "{setting:?}");
        // Serial probes take twenty minutes to find the last 5 % of 6,000.
        let full = if setting.limit < 6000 { 25 } else { 35 };
        assert!(simulation.full() <= full, "{} minutes without 5 % free: {setting:?}", simulation.full());
        let passed: u32 = simulation.tally.values().map(|tally| tally.passed).sum();
        assert!(simulation.asked < u64::from(passed) * 4, "{} looks for {passed} calls", simulation.asked);
    }
}

#[test]
fn the_rate_follows_other_callers_that_come_and_go() {
    for (others, most_minutes) in [(in_steps as fn(i64, u32) -> u32, 8), (drifting, 20), (in_bursts, 12)] {
        for simulation in runs(&[10, 60, 600, 6000], others, 60) {
            let (setting, several, used) = (&simulation.setting, simulation.several(), simulation.used());
            show(&simulation);
            // What others leave is found by serial probes, which takes some minutes at thousands of calls a minute.
            let least = if setting.limit < 6000 { 85.0 } else { 75.0 };
            assert!(used >= least, "{used} % used: {setting:?}");
            // Calls in flight are throttled when another caller takes the rest, or when doubling meets the
            // limit.
            assert!(several.len() <= most_minutes, "{several:?} throttled in a minute: {setting:?}");
            let in_flight = simulation.in_flight(4.0);
            assert!(
                several.iter().all(|worst| f64::from(*worst) <= in_flight),
                "{several:?} throttled: {setting:?}"
            );
        }
    }
}

#[test]
fn the_limit_is_found_again_minutes_after_others_stop() {
    for limit in [10, 60, 600, 6000] {
        let setting =
            Setting { limit, latency: (300, 300), minutes: 30, others: leaving, ..Setting::default() };
        let simulation = Simulation::new(setting).run();
        show(&simulation);
        for (minute, tally) in simulation.later().filter(|(minute, _)| **minute >= 20) {
            assert!(tally.passed >= limit * 85 / 100, "{tally:?} of {limit} in minute {minute}");
        }
    }
}

/// Six minutes of few calls: doubling goes on without being used. Then others take most of the limit.
#[test]
fn an_unused_rate_comes_down_in_minutes() {
    let others = |minute, limit| if minute < 6 { 0 } else { limit * 94 / 100 };
    let (latency, minutes) = ((300, 300), 40);
    let setting =
        Setting { limit: 6000, latency, workers: 3, stray: true, minutes, others, ..Setting::default() };
    let simulation = Simulation::new(setting).run();
    show(&simulation);
    let throttled: u32 =
        simulation.later().filter(|(minute, _)| **minute >= 18).map(|(_, tally)| tally.throttled).sum();
    assert!(throttled <= 21, "{throttled} throttled replies in 21 minutes");
}

/// The figures of a run, for people: `cargo test --lib rate_limit::simulation -- --nocapture`.
#[allow(clippy::print_stderr, reason = "figures for people")]
fn show(simulation: &Simulation) {
    let Setting { limit, latency, stray, .. } = simulation.setting;
    let begin: Vec<_> =
        simulation.tally.values().take(8).map(|tally| (tally.passed, tally.throttled)).collect();
    eprintln!(
        "limit {limit}, {latency:?} ms{}: {:.1} % used, {:.2} throttled a minute, several in a minute {:?}, \
         {} minutes without 5 % free; (passed, throttled) {begin:?}",
        if stray { ", first throttled for others" } else { "" },
        simulation.used(),
        simulation.mean(),
        simulation.several(),
        simulation.full(),
    );
}

#[test]
fn a_single_requester_of_another_group_is_served_soon() {
    for limit in [10, 60, 600] {
        let mut simulation =
            Simulation::new(Setting { limit, crowd: 2000, minutes: 20, ..Setting::default() });
        let came: Vec<_> = (0..10).map(|number| 5 * MINUTE + number * 67 * SECOND).collect();
        let visitors: Vec<_> = came.iter().map(|at| simulation.visitor(*at)).collect();
        let simulation = simulation.run();
        let interval = 60.0 / f64::from(limit);
        for (visitor, came) in visitors.into_iter().zip(came) {
            let served = simulation.served[visitor].expect("it is served");
            let waited = f64::from(i32::try_from((served - came) / MILLI).unwrap()) / 1000.0;
            // A few intervals, and the rest of the minute if probing has used it up.
            assert!(waited < 8.0 + 3.0 * interval, "{waited} s at {limit} a minute");
        }
    }
}

#[test]
fn slots_of_absent_requesters_pass_to_others() {
    let setting = Setting { absent: 30, crowd: 600, minutes: 20, ..Setting::default() };
    let simulation = Simulation::new(setting).run();
    assert!(simulation.used() >= 80.0, "{} % used", simulation.used());
    assert!(simulation.several().len() <= 1);
}

#[test]
fn a_ceiling_is_not_exceeded() {
    for ceiling in [10, 60, 600] {
        let setting = Setting { limit: 100_000, ceiling: Some(ceiling), minutes: 10, ..Setting::default() };
        let simulation = Simulation::new(setting).run();
        for (minute, tally) in simulation.tally.iter().filter(|(minute, _)| (1..9).contains(*minute)) {
            let passed = f64::from(tally.passed) / f64::from(ceiling);
            assert!((0.89..=1.11).contains(&passed), "minute {minute}: {tally:?} of {ceiling}");
            assert_eq!(tally.throttled, 0);
        }
    }
}
