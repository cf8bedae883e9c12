//! When the next call of one account, region and action may begin: evenly over the minute, closed after a throttled
//! reply, one call at a time where nobody knows whether it passes.

use std::collections::BTreeMap;

use super::{
    Micros, SECOND,
    estimate::{Estimate, Minute},
};

/// A reply that has not come by then does not come: the longest time of a call is 4 s.
const LOST: Micros = 5 * SECOND;
/// Turns of so long can be made up for, where nobody came in time.
const CREDIT: Micros = SECOND;
/// In a minute that probes, the calls known to pass are done after so many sixtieths, and the rest is for probing: the first
/// time, when it may find what is known, and when once and more often it has found more. If it finds the end, the gate is
/// closed for what is left of the minute, for people at the console as well.
const SURE: [Micros; 3] = [54, 45, 36];
/// At most so many probes fit a minute, or half of what is known to pass.
const FEWEST_PROBES: u32 = 10;
/// Our clock and the cloud's may differ by so many sixtieths of a minute unnoticed.
const NOISE: Micros = 2;
/// What a call is thought to take until one has come back.
const FIRST_LATENCY: Micros = SECOND / 5;

/// One call that was begun.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ticket {
    id: u64,
    sent: Micros,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    /// Throttled; the first call afterwards finds out whether it is over.
    Closed {
        until: Micros,
    },
    /// That call is under way.
    Trying {
        id: u64,
        until: Micros,
    },
}

/// The pace of calls.
#[derive(Debug)]
pub(super) struct Pace {
    estimate: Estimate,
    /// How long a minute is.
    length: Micros,
    door: Door,
    /// The minute that is counted, and the calls begun in it.
    minute: Minute,
    begun: u32,
    /// When the next call is due by the pace alone.
    next: Micros,
    /// Calls under way, and when they were sent.
    out: BTreeMap<u64, Micros>,
    count: u64,
    /// What a call takes, on average of late.
    latency: Micros,
    /// When a call was begun or throttled last.
    used: Micros,
    throttled: Option<Micros>,
    /// The minute in which a refusal was put down to the clock.
    doubted: Option<Minute>,
}

impl Pace {
    pub fn new(ceiling: Option<u32>, length: Micros) -> Self {
        Self {
            estimate: Estimate::new(ceiling, length),
            length,
            door: Door::Open,
            minute: Minute::MIN,
            begun: 0,
            next: Micros::MIN,
            out: BTreeMap::new(),
            count: 0,
            latency: FIRST_LATENCY,
            used: Micros::MIN,
            throttled: None,
            doubted: None,
        }
    }

    /// When the call of that rank (0: the next one) may begin; not later than `now`: at once.
    pub fn slot(&mut self, rank: usize, now: Micros) -> Micros {
        self.roll(now);
        let first = match self.door {
            Door::Closed { until } => until.max(now),
            Door::Trying { until, .. } if until > now => (now + self.latency).min(until),
            Door::Trying { .. } => now,
            Door::Open if self.estimate.calls(now).is_none() => return now,
            Door::Open => self.first(now),
        };
        // Whoever has a turn in this minute comes at its pace.
        let begun = self.begun.saturating_add(u32::try_from(rank).unwrap_or(u32::MAX));
        let soon = self.estimate.budget(now).is_some_and(|budget| begun < budget);
        let interval = if soon { self.spacing(now) } else { self.interval(self.length, now) };
        first.saturating_add(Micros::try_from(rank).unwrap_or(Micros::MAX).saturating_mul(interval))
    }

    /// Begins a call.
    pub fn begin(&mut self, now: Micros) -> Ticket {
        self.roll(now);
        self.count += 1;
        let ticket = Ticket { id: self.count, sent: now };
        if self.door != Door::Open {
            self.door = Door::Trying { id: ticket.id, until: now + LOST };
        }
        let interval = self.spacing(now);
        // Calls that find out whether the door is open go before their time: that is not added up.
        self.next = self.next.clamp(now - CREDIT.max(interval), now) + interval;
        self.begun += 1;
        self.out.insert(ticket.id, now);
        self.used = now;
        ticket
    }

    /// A reply came that was not throttled.
    pub fn passed(&mut self, ticket: Ticket, now: Micros) {
        self.roll(now);
        self.out.remove(&ticket.id);
        // The clock may have been set back meanwhile.
        let sent = ticket.sent.min(now);
        let took = (now - sent).clamp(0, LOST);
        self.latency += (took - self.latency) / 8;
        // The cloud counted it somewhere in between.
        let late = self.throttled.is_some_and(|throttled| sent <= throttled);
        self.estimate.passed(self.minute_of(sent + took / 2), late);
        if matches!(self.door, Door::Trying { id, .. } if id == ticket.id) {
            self.door = Door::Open;
            self.estimate.resumed(now);
            self.next = self.next.max(now);
        }
    }

    /// No reply came, or none of the cloud: it tells nothing.
    pub fn lost(&mut self, ticket: Ticket, now: Micros) {
        self.out.remove(&ticket.id);
        if matches!(self.door, Door::Trying { id, .. } if id == ticket.id) {
            // The next trial keeps to the rate as well.
            self.door = Door::Closed { until: self.next.max(now) };
        }
    }

    /// A reply was throttled: the door closes, for as long as it says or until the next minute. Returns when it opens.
    pub fn throttled(&mut self, ticket: Ticket, retry_after: Option<Micros>, now: Micros) -> Micros {
        self.roll(now);
        self.out.remove(&ticket.id);
        (self.used, self.throttled) = (now, Some(now));
        let tried = matches!(self.door, Door::Trying { id, .. } if id == ticket.id);
        // The clock may have been set back meanwhile.
        let began = ticket.sent.min(now);
        let (sent, noise) = (self.minute_of(began), self.sixtieths(NOISE));
        let early = began - sent * self.length < noise && self.doubted != Some(sent);
        let until = match retry_after {
            // A trial was throttled: it stays closed until the next minute, even if the reply asks for less.
            Some(wait) if tried => now.saturating_add(wait).max((sent + 1) * self.length),
            Some(wait) => now.saturating_add(wait),
            // The first call of a minute: for the cloud that has hardly begun.
            None if tried && early => {
                self.doubted = Some(sent);
                self.door = Door::Closed { until: now + noise };
                return now + noise;
            }
            // It is open in the minute after the one in which it was counted, at the latest.
            None => (sent + 1) * self.length,
        };
        self.estimate.throttled((sent, self.minute), tried, now);
        let until = match self.door {
            Door::Closed { until: standing } => until.max(standing),
            Door::Open | Door::Trying { .. } => until,
        };
        self.door = Door::Closed { until };
        until
    }

    /// The clock was set back by so much, a negative time: what was to come in a while still comes in a while.
    pub fn set_back(&mut self, by: Micros) {
        let minutes = by.div_euclid(self.length);
        self.estimate.set_back(by);
        self.minute = self.minute.saturating_add(minutes);
        self.doubted = self.doubted.map(|minute| minute.saturating_add(minutes));
        self.throttled = self.throttled.map(|at| at.saturating_add(by));
        self.next = self.next.saturating_add(by);
        self.used = self.used.saturating_add(by);
        self.out.values_mut().for_each(|sent| *sent = sent.saturating_add(by));
        if let Door::Closed { until } | Door::Trying { until, .. } = &mut self.door {
            *until = until.saturating_add(by);
        }
    }

    /// The rate now, in calls a minute; `None`: no limit.
    pub fn calls(&self, now: Micros) -> Option<u32> {
        self.estimate.calls(now)
    }

    /// Whether it lets nobody through now.
    pub fn is_closed(&self, now: Micros) -> bool {
        matches!(self.door, Door::Closed { until } if until > now)
    }

    /// How long nothing has been throttled and nobody has called.
    pub fn idle(&self, now: Micros) -> Micros {
        now.saturating_sub(self.used)
    }

    /// Whether it was ever throttled: then there is something to forget.
    pub fn has_learned(&self) -> bool {
        self.throttled.is_some()
    }

    /// When the next call may begin while the door is open and the rate is limited.
    fn first(&mut self, now: Micros) -> Micros {
        let full = self.estimate.budget(now).filter(|budget| self.begun >= *budget);
        let Some(calls) = full else {
            let interval = self.interval(self.length, now);
            // The rate may have risen since the last call began.
            let next = self.next.min(self.used.saturating_add(interval));
            return next.max(now - CREDIT.max(interval));
        };
        let next_minute = (self.minute + 1) * self.length;
        let probes = self.estimate.below_ceiling(calls).min((calls / 2).max(FEWEST_PROBES));
        if !self.estimate.probes(self.minute) || self.begun - calls >= probes {
            return next_minute;
        }
        self.out.retain(|_, sent| now - *sent < LOST);
        if !self.out.is_empty() {
            return now + self.latency;
        }
        let spacing = (self.length - self.sure()) / Micros::from(probes);
        now.max(self.used + spacing)
    }

    /// The time between two calls in this minute.
    fn spacing(&self, now: Micros) -> Micros {
        self.interval(self.sure(), now)
    }

    /// The part of this minute over which the calls known to pass are spread.
    fn sure(&self) -> Micros {
        if self.estimate.probes(self.minute) {
            self.sixtieths(SURE[self.estimate.found_more().min(SURE.len() - 1)])
        } else {
            self.length
        }
    }

    /// The time between two calls, where those known to pass are to take so long.
    fn interval(&self, span: Micros, now: Micros) -> Micros {
        self.estimate.calls(now).map_or(0, |calls| span / Micros::from(calls.max(1)))
    }

    /// Closes the books of the minutes that are over.
    fn roll(&mut self, now: Micros) {
        self.estimate.advance(now);
        let current = self.minute_of(now);
        if current == self.minute {
            return;
        }
        self.estimate.ended(self.minute, now);
        (self.minute, self.begun) = (current, 0);
    }

    fn minute_of(&self, at: Micros) -> Minute {
        at.div_euclid(self.length)
    }

    fn sixtieths(&self, count: Micros) -> Micros {
        self.length / 60 * count
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::MINUTE, *};

    /// A call that passes after a while.
    fn pass(pace: &mut Pace, now: Micros, latency: Micros) {
        let ticket = pace.begin(now);
        pace.passed(ticket, now + latency);
    }

    /// A pace that was throttled in the first minute and met that limit in the second, and the first call of the third
    /// minute that passed.
    fn learned(limit: u32) -> Pace {
        let mut pace = Pace::new(None, MINUTE);
        for minute in 0..2 {
            let now = minute * MINUTE + 10 * SECOND;
            (0..limit).for_each(|_| pass(&mut pace, now, 0));
            let ticket = pace.begin(now);
            assert_eq!(pace.throttled(ticket, None, now), (minute + 1) * MINUTE);
        }
        pass(&mut pace, 2 * MINUTE, 0);
        pace
    }

    /// Calls that begin in a minute in which somebody asks every 10 ms, each answered after that time.
    fn begun(pace: &mut Pace, minute: Minute, latency: Micros) -> Vec<Micros> {
        let (mut begun, mut out): (Vec<Micros>, Vec<(Micros, Ticket)>) = (Vec::new(), Vec::new());
        for now in (minute * MINUTE..(minute + 1) * MINUTE).step_by(10_000) {
            out.retain(|(back, ticket)| {
                if *back <= now {
                    pace.passed(*ticket, now);
                }
                *back > now
            });
            if pace.slot(0, now) <= now {
                begun.push(now);
                out.push((now + latency, pace.begin(now)));
            }
        }
        for (back, ticket) in out {
            pace.passed(ticket, back);
        }
        begun
    }

    #[test]
    fn calls_are_spread_evenly_over_the_minute() {
        let mut pace = learned(60);
        let begun = begun(&mut pace, 2, SECOND);
        assert_eq!(begun.len() + 1, 57);
        for pair in begun[1..].windows(2) {
            let gap = pair[1] - pair[0];
            assert!((MINUTE / 57 - 10_000..=MINUTE / 57 + 10_000).contains(&gap), "{gap} µs");
        }
    }

    #[test]
    fn beyond_what_is_known_each_call_waits_for_the_one_before() {
        let mut pace = learned(60);
        assert_eq!(begun(&mut pace, 2, SECOND).len() + 1, 57);
        let calls = begun(&mut pace, 3, SECOND);
        let (sure, probes) = calls.split_at(57);
        assert!(sure[56] - 3 * MINUTE <= 54 * SECOND, "the sure ones are done in time");
        assert!((3..=8).contains(&probes.len()), "{} probes", probes.len());
        let mut former = sure[56];
        for probe in probes {
            assert!(probe - former >= SECOND, "a probe went beside another call");
            former = *probe;
        }
        let next = begun(&mut pace, 4, SECOND);
        assert!(next.len() > calls.len(), "{} after {}", next.len(), calls.len());
    }

    #[test]
    fn while_the_rate_doubles_calls_come_at_the_present_rate() {
        let mut pace = Pace::new(None, MINUTE);
        let ticket = pace.begin(0);
        pace.throttled(ticket, None, SECOND);
        pass(&mut pace, MINUTE, 0);
        for (minute, calls) in [(1, 89..=90), (2, 358..=361), (3, 1430..=1445)] {
            let begun = begun(&mut pace, minute, SECOND / 10).len();
            assert!(calls.contains(&begun), "{begun} in minute {minute}");
        }
    }

    #[test]
    fn a_rate_that_has_risen_counts_for_the_next_call() {
        let mut pace = learned(60);
        let ticket = pace.begin(2 * MINUTE + 20 * SECOND);
        pace.throttled(ticket, None, 2 * MINUTE + 20 * SECOND);
        pace.estimate = Estimate::new(Some(1), MINUTE);
        pass(&mut pace, 3 * MINUTE, 0);
        assert_eq!(pace.slot(0, 3 * MINUTE + SECOND), 4 * MINUTE);
        pace.estimate = Estimate::new(Some(6), MINUTE);
        assert_eq!(pace.slot(0, 3 * MINUTE + SECOND), 3 * MINUTE + 10 * SECOND);
    }

    #[test]
    fn a_refusal_that_the_former_minute_gave_does_not_close_this_one() {
        let mut pace = Pace::new(None, MINUTE);
        let ticket = pace.begin(59 * SECOND);
        assert_eq!(pace.throttled(ticket, None, 61 * SECOND), MINUTE);
        assert!(!pace.is_closed(61 * SECOND) && pace.slot(0, 61 * SECOND) <= 61 * SECOND);
        pace.begin(61 * SECOND);
        assert!(pace.slot(0, 61 * SECOND) > 61 * SECOND, "one first");
    }

    #[test]
    fn a_reply_from_before_does_not_open_it() {
        let mut pace = Pace::new(None, MINUTE);
        let (before, refused) = (pace.begin(0), pace.begin(0));
        pace.throttled(refused, None, SECOND);
        pace.passed(before, 2 * SECOND);
        assert_eq!(pace.slot(0, 3 * SECOND), MINUTE);
    }

    #[test]
    fn the_longest_wait_that_a_reply_asks_for_counts() {
        let mut pace = Pace::new(None, MINUTE);
        let tickets = [pace.begin(0), pace.begin(0), pace.begin(0)];
        let waits = [Some(90 * SECOND), None, Some(SECOND)];
        let opens = tickets.into_iter().zip(waits).map(|(ticket, wait)| pace.throttled(ticket, wait, SECOND));
        assert_eq!(opens.collect::<Vec<_>>(), [91 * SECOND; 3]);
    }

    #[test]
    fn a_throttled_trial_waits_for_the_next_minute() {
        let mut pace = Pace::new(None, MINUTE);
        let ticket = pace.begin(10 * SECOND);
        assert_eq!(pace.throttled(ticket, Some(SECOND), 10 * SECOND), 11 * SECOND);
        let trial = pace.begin(11 * SECOND);
        assert_eq!(pace.throttled(trial, Some(SECOND), 11 * SECOND), MINUTE);
        let trial = pace.begin(MINUTE);
        assert_eq!(pace.throttled(trial, Some(90 * SECOND), MINUTE), 150 * SECOND);
    }

    #[test]
    fn probes_stay_below_the_ceiling() {
        // Others use the rest of two minutes, and then leave.
        let mut pace = Pace::new(Some(60), MINUTE);
        for minute in 0..2 {
            let now = minute * MINUTE + 10 * SECOND;
            (0..50).for_each(|_| pass(&mut pace, now, 0));
            let ticket = pace.begin(now);
            pace.throttled(ticket, None, now);
        }
        for minute in 2..12 {
            let calls = begun(&mut pace, minute, SECOND / 5);
            assert!(calls.len() <= 61, "{} calls in minute {minute}", calls.len());
        }
    }

    #[test]
    fn trials_without_a_reply_keep_to_the_rate() {
        let mut pace = Pace::new(Some(10), MINUTE);
        let ticket = pace.begin(10 * SECOND);
        pace.throttled(ticket, None, 10 * SECOND);
        let (mut now, mut trials) = (MINUTE, 0);
        while now < 2 * MINUTE {
            now = pace.slot(0, now).max(now);
            let ticket = pace.begin(now);
            now += SECOND / 20;
            pace.lost(ticket, now);
            trials += 1;
        }
        // Ten, the first, and a turn that is made up for.
        assert!(trials <= 12, "{trials} trials in a minute");
    }

    proptest! {
        #[test]
        fn whatever_comes_back_it_opens_again(
            steps in proptest::collection::vec((0_u8..4, 0..90_000_000_i64), 1..300),
            ceiling in proptest::option::of(1_u32..100),
        ) {
            let (mut pace, mut now, mut out) = (Pace::new(ceiling, MINUTE), 0, Vec::new());
            for (what, pause) in steps {
                now += if what == 0 { pause } else { pause / 1000 };
                let slot = pace.slot(0, now);
                prop_assert!(slot <= now + 2 * MINUTE, "no wait is longer than that for one call a minute");
                prop_assert!(pace.slot(7, now) >= slot);
                if slot <= now {
                    out.push(pace.begin(now));
                } else if let Some(ticket) = out.pop() {
                    match what {
                        1 => { pace.throttled(ticket, None, now); }
                        2 => pace.lost(ticket, now),
                        _ => pace.passed(ticket, now),
                    }
                }
                prop_assert!(pace.calls(now).is_none_or(|calls| calls >= 1));
                prop_assert!(ceiling.is_none_or(|ceiling| pace.calls(now) <= Some(ceiling)));
            }
        }
    }
}
