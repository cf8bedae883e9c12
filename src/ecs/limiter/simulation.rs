//! The gate against a model of the cloud's counter, over many minutes: a crowd that waits, a bounded number of calls
//! under way, latency, and others who use the same limit. Time is simulated.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, VecDeque},
};

use super::{
    gate::Gate,
    pace::{MINUTE, Micros, Ticket},
    turns::Asker,
};

const MILLI: Micros = 1_000;
const SECOND: Micros = 1_000_000;

/// What is simulated.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    /// Calls a minute of the account.
    pub limit: u32,
    pub ceiling: Option<u32>,
    /// Shortest and longest time of a call, in milliseconds.
    pub latency: (i64, i64),
    /// Calls under way at once.
    pub workers: usize,
    /// Objects that wait in one namespace; each waits again once its call has passed.
    pub crowd: usize,
    /// Of them, in percent, those that never come when they are told to.
    pub absent: usize,
    pub minutes: i64,
    /// Calls of others in a minute.
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
    /// An object looks whether it may call.
    Ask(usize),
    /// A call reaches the cloud.
    Arrive(usize, u64),
    /// Its reply is back.
    Reply(usize, u64, bool),
    /// Somebody else calls.
    Other,
    /// Whoever can go now is called up.
    Tick,
}

pub(super) struct Simulation {
    setting: Setting,
    gate: Gate,
    askers: Vec<Asker>,
    events: BinaryHeap<Reverse<(Micros, u64, Event)>>,
    count: u64,
    random: u64,
    /// Objects that would look but for a worker that is free.
    ready: VecDeque<usize>,
    under_way: usize,
    tickets: BTreeMap<u64, (Ticket, Micros)>,
    /// When each object looks next.
    due: Vec<Micros>,
    pub tally: BTreeMap<i64, Tally>,
    pub asked: u64,
    /// When each object was served first.
    pub served: Vec<Option<Micros>>,
}

impl Simulation {
    pub fn new(setting: Setting) -> Self {
        let crowd = match setting.crowd {
            0 => (setting.limit as usize * 2).clamp(100, 4000),
            crowd => crowd,
        };
        let asker = |number| Asker { namespace: "fleet".into(), name: format!("{number}").into() };
        let mut simulation = Self {
            gate: Gate::new(setting.ceiling),
            askers: (0..crowd).map(asker).collect(),
            events: BinaryHeap::new(),
            count: 0,
            random: setting.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1,
            ready: VecDeque::new(),
            under_way: 0,
            tickets: BTreeMap::new(),
            due: vec![Micros::MAX; crowd],
            tally: BTreeMap::new(),
            asked: 0,
            served: vec![None; crowd],
            setting,
        };
        for number in 0..crowd {
            simulation.wake(number, 7 * SECOND);
        }
        simulation.at(0, Event::Other);
        simulation.at(SECOND / 2, Event::Tick);
        simulation
    }

    /// Adds an object of another namespace that comes at that time. Returns its number.
    pub fn visitor(&mut self, at: Micros) -> usize {
        let number = self.askers.len();
        self.askers.push(Asker { namespace: "visitor".into(), name: format!("{number}").into() });
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
                let passed = tally.passed + tally.others < self.setting.limit;
                if passed {
                    tally.passed += 1;
                } else {
                    tally.throttled += 1;
                }
                let back = self.tickets[&call].1;
                self.at(back, Event::Reply(number, call, passed));
            }
            Event::Reply(number, call, passed) => {
                let (ticket, _) = self.tickets.remove(&call).unwrap();
                self.under_way -= 1;
                if passed {
                    self.gate.pace.passed(ticket, now);
                    self.served[number].get_or_insert(now);
                    if *self.askers[number].namespace == *"fleet" {
                        self.wake(number, now + SECOND);
                    }
                } else {
                    let told = self.gate.throttled(&self.askers[number], ticket, None, now);
                    self.wake(number, told + 5 * MILLI);
                }
                self.serve(now);
            }
            Event::Other => self.other(now),
            Event::Tick => {
                for asker in self.gate.called_up(now) {
                    let number = asker.name.parse().unwrap();
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
        while self.under_way < self.setting.workers
            && let Some(number) = self.ready.pop_front()
        {
            self.asked += 1;
            if number % 100 < self.setting.absent && self.served[number].is_none() {
                // It stands in the line, and never comes.
                self.served[number] = Some(now);
                self.gate.line_up(&self.askers[number], now);
                continue;
            }
            match self.gate.admit(&self.askers[number], now) {
                Ok(ticket) => {
                    let (shortest, longest) = self.setting.latency;
                    let latency = (shortest + self.below(longest - shortest + 1)) * MILLI;
                    let there = self.below(latency);
                    self.count += 1;
                    self.under_way += 1;
                    self.tickets.insert(self.count, (ticket, now + latency));
                    self.at(now + there, Event::Arrive(number, self.count));
                }
                Err(told) => {
                    assert!(told > now, "told of a time that has passed");
                    self.wake(number, told + 5 * MILLI);
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

    /// Minutes after the first one that was throttled.
    pub fn later(&self) -> impl Iterator<Item = (&i64, &Tally)> {
        let first = self.tally.iter().find(|(_, tally)| tally.throttled > 0).map_or(0, |(minute, _)| *minute);
        let last = self.setting.minutes - 1;
        self.tally.iter().filter(move |(minute, _)| **minute > first && **minute < last)
    }

    /// How much of what others left, and so many calls at once can use, was used after the first minute, in percent.
    pub fn used(&self) -> f64 {
        let (shortest, longest) = self.setting.latency;
        let most = i64::try_from(self.setting.workers).unwrap() * 120_000 / (shortest + longest);
        let most = u32::try_from(most).unwrap();
        let free: u32 = self.later().map(|(_, tally)| (self.setting.limit - tally.others).min(most)).sum();
        let used: u32 = self.later().map(|(_, tally)| tally.passed).sum();
        f64::from(used) * 100.0 / f64::from(free)
    }

    /// The most throttled replies of a minute after the first.
    pub fn worst(&self) -> u32 {
        self.later().map(|(_, tally)| tally.throttled).max().unwrap_or_default()
    }

    /// Throttled replies a minute after the first, on average.
    pub fn mean(&self) -> f64 {
        let throttled: u32 = self.later().map(|(_, tally)| tally.throttled).sum();
        f64::from(throttled) / f64::from(u32::try_from(self.later().count()).unwrap())
    }
}

/// Nobody else.
fn nobody(_: i64, _: u32) -> u32 {
    0
}

/// Every twenty minutes somebody begins or ends to take two calls of five.
fn in_steps(minute: i64, limit: u32) -> u32 {
    if minute / 20 % 2 == 1 { limit * 2 / 5 } else { 0 }
}

/// Twenty minutes up to two calls of five, twenty minutes down.
fn drifting(minute: i64, limit: u32) -> u32 {
    let part = u32::try_from(minute.rem_euclid(40)).unwrap();
    limit * part.min(40 - part) * 2 / 100
}

const LATENCIES: [(i64, i64); 4] = [(50, 50), (50, 300), (100, 2000), (2000, 2000)];

fn runs(limits: &[u32], others: fn(i64, u32) -> u32, minutes: i64) -> impl Iterator<Item = Simulation> {
    let settings = limits.iter().flat_map(|limit| LATENCIES.map(|latency| (*limit, latency)));
    let settings: Vec<_> = settings.flat_map(|setting| (1..=2).map(move |seed| (setting, seed))).collect();
    settings.into_iter().map(move |((limit, latency), seed)| {
        let setting = Setting { limit, latency, minutes, others, seed, ..Setting::default() };
        Simulation::new(setting).run()
    })
}

#[test]
fn alone_no_minute_has_two_throttled_replies_and_most_of_the_limit_is_used() {
    for simulation in runs(&[10, 60, 600, 6000], nobody, 40) {
        let setting = &simulation.setting;
        assert!(simulation.worst() <= 1, "{} throttled in a minute: {setting:?}", simulation.worst());
        assert!(simulation.used() >= 85.0, "{} % used: {setting:?}", simulation.used());
        let passed: u32 = simulation.tally.values().map(|tally| tally.passed).sum();
        assert!(simulation.asked < u64::from(passed) * 4, "{} looks for {passed} calls", simulation.asked);
    }
}

#[test]
fn beside_others_who_take_a_changing_share_it_follows() {
    for others in [in_steps as fn(i64, u32) -> u32, drifting] {
        for simulation in runs(&[10, 60, 600], others, 80) {
            let (setting, worst, mean) = (&simulation.setting, simulation.worst(), simulation.mean());
            assert!(mean <= 1.5, "{mean} throttled a minute: {setting:?}");
            // Calls under way when somebody else takes the rest are lost, and those that make up for a second's turns.
            let latency = f64::from(i32::try_from(setting.latency.1).unwrap());
            let under_way = (f64::from(setting.limit) * 5.0 / 3.0 * (latency + 1000.0) / 60_000.0).min(32.0);
            assert!(f64::from(worst) <= under_way + 2.0, "{worst} throttled in a minute: {setting:?}");
            // Of six calls a whole one stays free.
            let least = if setting.limit == 10 { 80.0 } else { 85.0 };
            assert!(simulation.used() >= least, "{} % used: {setting:?}", simulation.used());
        }
    }
}

#[test]
fn a_single_object_of_another_namespace_gets_one_of_the_next_turns() {
    for limit in [10, 60, 600] {
        let mut simulation =
            Simulation::new(Setting { limit, crowd: 2000, minutes: 20, ..Setting::default() });
        let came: Vec<_> = (0..10).map(|number| 5 * MINUTE + number * 67 * SECOND).collect();
        let visitors: Vec<_> = came.iter().map(|at| simulation.visitor(*at)).collect();
        let simulation = simulation.run();
        let turn = 60.0 / f64::from(limit);
        for (visitor, came) in visitors.into_iter().zip(came) {
            let served = simulation.served[visitor].expect("it is served");
            let waited = f64::from(i32::try_from((served - came) / MILLI).unwrap()) / 1000.0;
            // Few turns, and what is left of the minute where probing has used it up.
            assert!(waited < 8.0 + 3.0 * turn, "{waited} s at {limit} a minute");
        }
    }
}

#[test]
fn turns_of_those_who_never_come_pass_to_others() {
    let setting = Setting { absent: 30, crowd: 600, minutes: 20, ..Setting::default() };
    let simulation = Simulation::new(setting).run();
    assert!(simulation.used() >= 80.0, "{} % used", simulation.used());
    assert!(simulation.worst() <= 1);
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
