//! Simulates a route limiter against a model of the cloud's counter, over many minutes of simulated time: many
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

mod tests;
