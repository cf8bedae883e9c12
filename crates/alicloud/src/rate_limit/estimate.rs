//! The rate estimate: how many calls a minute the cloud lets through.
//!
//! A throttled reply says that the account's minute is used up, but not by whom. So the number of passed
//! calls counts as the limit only if this program used a good part of the minute itself.
//!
//! | state | rate |
//! |---|---|
//! | open | no limit, or the user's ceiling |
//! | doubling | from a low rate, twice as much every half minute: up to a known rate, or until it meets the limit |
//! | steady | 95 % of a limit that was met; the minutes that probe try more |

use super::Micros;

/// A minute of the cloud's clock, counted from 1970.
pub(super) type Minute = i64;

/// The lowest rate after the first throttled reply, in calls a minute.
const FIRST_RATE: u32 = 60;
/// Doubling ends here. More than any limit of the cloud, and the highest ceiling.
const MAX_RATE: u32 = 1_000_000;
/// The used share of a limit. The rest stays free for people at the console.
const USED_PERCENT: u64 = 95;
/// If more than this share of the last limit passes, the limit has changed.
const HIGHER_LIMIT_PERCENT: u64 = 110;
/// How many minutes a new limit is used before the first probe. Doubles each time that probing finds nothing.
const INITIAL_PROBE_WAIT: i64 = 1;
/// The maximum of minutes without a probe.
const MAX_PROBE_WAIT: i64 = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// No limit is known.
    Open,
    /// The rate is `from` when calls pass again, and doubles every half minute. Doubling ends at the target
    /// or, without a target, when no limit was met.
    Doubling {
        from: u32,
        target: Option<Steady>,
    },
    Steady(Steady),
}

/// A limit that was met.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Steady {
    /// Calls a minute that pass.
    rate: u32,
    /// How many calls passed in the minute that met the limit.
    limit: u32,
}

impl State {
    /// The state after a throttled reply in a minute in which `passed` calls passed. `rate`: the rate a
    /// minute ago, which could use up the minute. While doubling, the current rate is up to four times as
    /// high, so the comparison would wrongly blame other callers.
    fn throttled(self, passed: u32, rate: u32) -> Self {
        let target = match self {
            Self::Open => return Self::Doubling { from: FIRST_RATE.max(passed / 2), target: None },
            Self::Doubling { target, .. } => target,
            Self::Steady(steady) => Some(steady),
        };
        if passed < rate.div_ceil(2) {
            // Other callers used the minute. The current rate may not have been used at all.
            Self::Doubling { from: (rate / 2).max(1), target }
        } else {
            Self::Steady(Steady { rate: percent(passed, USED_PERCENT).max(1), limit: passed })
        }
    }
}

/// The first throttled reply of a minute, and what was known before it.
#[derive(Clone, Copy, Debug)]
struct Throttled {
    minute: Minute,
    state: State,
    /// The rate a minute before, in calls a minute.
    rate: u32,
    probe_wait: i64,
}

/// The rate estimate of one route.
#[derive(Debug)]
pub(super) struct Estimate {
    /// The length of a minute.
    length: Micros,
    /// The ceiling that the user sets, in calls a minute; `None`: no ceiling.
    ceiling: Option<u32>,
    state: State,
    /// When calls passed again after the last throttled reply; `None`: not yet. Doubling starts here.
    resumed: Option<Micros>,
    /// The numbers of passed calls, for the last two minutes with such calls.
    passed: [(Minute, u32); 2],
    /// The last minute with a throttled reply.
    throttled: Option<Throttled>,
    /// The first minute that may probe.
    probe_from: Minute,
    probe_wait: i64,
    /// The number of minutes in a row in which probing found more.
    found_more: usize,
}

impl Estimate {
    pub fn new(ceiling: Option<u32>, length: Micros) -> Self {
        Self {
            length,
            ceiling,
            state: State::Open,
            resumed: None,
            passed: [(Minute::MIN, 0); 2],
            throttled: None,
            probe_from: Minute::MIN,
            probe_wait: INITIAL_PROBE_WAIT,
            found_more: 0,
        }
    }

    /// The current rate in calls a minute; `None`: no limit.
    pub fn calls(&self, now: Micros) -> Option<u32> {
        match self.state_at(now) {
            State::Open => self.ceiling,
            State::Doubling { from, target } => Some(self.doubled(from, target, now)),
            State::Steady(steady) => Some(self.at_most_ceiling(steady.rate)),
        }
    }

    /// The maximum of calls in this minute without probes; `None`: no limit. While doubling, only the rate
    /// limits calls.
    pub fn budget(&self, now: Micros) -> Option<u32> {
        match self.state_at(now) {
            State::Open | State::Doubling { .. } => self.ceiling,
            State::Steady(steady) => Some(self.at_most_ceiling(steady.rate)),
        }
    }

    /// Whether this minute may probe: try more than the budget, one call at a time.
    pub fn probes(&self, minute: Minute) -> bool {
        matches!(self.state, State::Steady(_)) && minute >= self.probe_from
    }

    /// How many more calls a minute the ceiling allows.
    pub fn below_ceiling(&self, calls: u32) -> u32 {
        self.ceiling.map_or(u32::MAX, |ceiling| ceiling.saturating_sub(calls))
    }

    /// The number of minutes in a row in which probing found more.
    pub fn found_more(&self) -> usize {
        self.found_more
    }

    /// A call of that minute passed. `late`: it was sent before the last throttled reply came, so it counts
    /// among the calls that passed before that reply.
    pub fn passed(&mut self, minute: Minute, late: bool) {
        if let Some((_, count)) = self.passed.iter_mut().find(|(counted, _)| *counted == minute) {
            *count += 1;
        } else if let Some(oldest) = self.passed.iter_mut().min_by_key(|(counted, _)| *counted)
            && oldest.0 < minute
        {
            *oldest = (minute, 1);
        } else {
            return;
        }
        if let Some(throttled) = self.throttled.filter(|throttled| late && throttled.minute == minute) {
            self.apply(throttled);
        }
    }

    /// The first call after a throttled reply passed.
    pub fn resumed(&mut self, now: Micros) {
        self.resumed.get_or_insert(now);
    }

    /// A call was throttled. The cloud counted it in one of two minutes, which are usually the same. `trial`:
    /// it was the first call after a throttled reply.
    pub fn throttled(&mut self, minutes: (Minute, Minute), trial: bool, now: Micros) {
        self.advance(now);
        // If the two differ, the minute with more calls was used up.
        let later = self.count(minutes.1) > self.count(minutes.0);
        let minute = if later { minutes.1 } else { minutes.0 };
        let rate = self.rate_a_minute_ago(now);
        self.resumed = None;
        let known = self.throttled.is_some_and(|known| minutes.0 <= known.minute);
        // A trial in a minute that other callers used up does not measure the rate.
        if known || (trial && self.count(minute) == 0) {
            return;
        }
        let throttled = Throttled { minute, state: self.state, rate, probe_wait: self.probe_wait };
        (self.throttled, self.found_more) = (Some(throttled), 0);
        self.apply(throttled);
    }

    /// A minute is over. If no reply was throttled, the number of passed calls is known to pass.
    pub fn ended(&mut self, minute: Minute, now: Micros) {
        let throttled = self.throttled.is_some_and(|throttled| throttled.minute >= minute);
        let State::Steady(Steady { rate, limit }) = self.state else { return };
        if throttled || !self.probes(minute) {
            return;
        }
        let passed = self.count(minute);
        if passed > percent(limit, HIGHER_LIMIT_PERCENT) {
            self.state = State::Doubling { from: passed, target: None };
            (self.resumed, self.found_more) = (Some(now), 0);
        } else if passed > rate {
            self.state = State::Steady(Steady { rate: passed, limit });
            self.found_more += 1;
        }
        if self.ceiling.is_some_and(|ceiling| passed >= ceiling) {
            self.state = State::Open;
        }
    }

    /// Ends doubling if it is complete.
    pub fn advance(&mut self, now: Micros) {
        self.state = self.state_at(now);
    }

    /// The clock was set back: moves all times by `by`, which is negative.
    pub fn set_back(&mut self, by: Micros) {
        let minutes = by.div_euclid(self.length);
        for (minute, _) in &mut self.passed {
            *minute = minute.saturating_add(minutes);
        }
        if let Some(throttled) = &mut self.throttled {
            throttled.minute = throttled.minute.saturating_add(minutes);
        }
        self.resumed = self.resumed.map(|at| at.saturating_add(by));
        self.probe_from = self.probe_from.saturating_add(minutes);
    }

    fn apply(&mut self, throttled: Throttled) {
        let passed = self.count(throttled.minute);
        self.state = throttled.state.throttled(passed, throttled.rate);
        // Probing found the same limit again: the next probe can wait.
        let found_nothing = matches!(throttled.state, State::Steady(Steady { rate, .. })
            if (rate..=percent(rate, HIGHER_LIMIT_PERCENT) + 1).contains(&passed));
        self.probe_wait =
            if found_nothing { (throttled.probe_wait * 2).min(MAX_PROBE_WAIT) } else { INITIAL_PROBE_WAIT };
        self.probe_from = throttled.minute + 1 + self.probe_wait;
    }

    /// Doubling is complete after a whole minute at its highest rate without a throttled reply.
    fn state_at(&self, now: Micros) -> State {
        match self.state {
            State::Doubling { from, target }
                if self.resumed.is_some_and(|resumed| now.saturating_sub(resumed) >= self.length)
                    && self.doubled(from, target, now - self.length) >= self.highest(target) =>
            {
                target.map_or(State::Open, State::Steady)
            }
            state => state,
        }
    }

    fn rate_a_minute_ago(&self, now: Micros) -> u32 {
        match self.state {
            State::Doubling { from, target } => self.doubled(from, target, now.saturating_sub(self.length)),
            State::Open | State::Steady(_) => self.calls(now).unwrap_or(MAX_RATE),
        }
    }

    /// The rate at that time of doubling.
    fn doubled(&self, from: u32, target: Option<Steady>, at: Micros) -> u32 {
        let since = self.resumed.map_or(0, |resumed| at.saturating_sub(resumed).max(0));
        let times = u32::try_from(since / (self.length / 2)).unwrap_or(u32::MAX);
        from.saturating_mul(2_u32.saturating_pow(times)).min(self.highest(target))
    }

    /// The rate at which doubling ends.
    fn highest(&self, target: Option<Steady>) -> u32 {
        self.at_most_ceiling(target.map_or(MAX_RATE, |target| target.rate))
    }

    fn at_most_ceiling(&self, rate: u32) -> u32 {
        self.ceiling.map_or(rate, |ceiling| rate.min(ceiling))
    }

    fn count(&self, minute: Minute) -> u32 {
        self.passed.iter().find(|(counted, _)| *counted == minute).map_or(0, |(_, count)| *count)
    }
}

fn percent(calls: u32, percent: u64) -> u32 {
    u32::try_from(u64::from(calls) * percent / 100).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
