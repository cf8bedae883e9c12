//! The pacing of one route: when the next call may begin.
//!
//! Calls are spread evenly over the minute. After a throttled reply the route is closed; then one trial call decides
//! whether it opens. Beyond the known limit, single probe calls find out whether more passes.

use std::collections::BTreeMap;

use super::{
    Micros, SECOND,
    estimate::{Estimate, Minute},
};

/// A call without a reply after this time is lost. A call takes at most 4 s.
const LOST_AFTER: Micros = 5 * SECOND;
/// How much unused time can be made up for, if no requester came in time.
const MAX_CREDIT: Micros = SECOND;
/// In a minute that probes, the calls within the known limit are spread over this many sixtieths. The rest of the minute
/// is for probes. The index is how many minutes in a row have found more by probing. A probe that meets the limit uses
/// up the minute for people at the console too, so probes come last.
const KNOWN_PART: [Micros; 3] = [54, 45, 36];
/// The maximum of probes in a minute is half of the known limit, but at least this many.
const MIN_PROBES: u32 = 10;
/// The unnoticed difference between the local clock and the cloud's, in sixtieths of a minute.
const CLOCK_NOISE: Micros = 2;
/// The assumed latency until the first reply.
const INITIAL_LATENCY: Micros = SECOND / 5;

/// The permit for one call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Permit {
    id: u64,
    sent: Micros,
}

/// Whether the route admits calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admission {
    Open,
    /// Closed after a throttled reply. The first call afterwards is the trial.
    Closed {
        until: Micros,
    },
    /// The trial is in flight.
    Trial {
        id: u64,
        until: Micros,
    },
}

/// The pacing of one route.
#[derive(Debug)]
pub(super) struct Pacing {
    estimate: Estimate,
    /// The length of a minute.
    length: Micros,
    admission: Admission,
    /// The current minute, and the calls begun in it.
    minute: Minute,
    begun: u32,
    /// When the next call is due by the rate alone.
    next: Micros,
    /// The calls in flight, and when they were sent.
    in_flight: BTreeMap<u64, Micros>,
    /// The number of permits.
    permits: u64,
    /// The moving average of the latency.
    latency: Micros,
    /// When the last call was begun or throttled.
    used: Micros,
    /// When the last call was throttled.
    throttled: Option<Micros>,
    /// The minute in which a throttled reply was put down to a difference of the clocks.
    clock_blamed: Option<Minute>,
}

impl Pacing {
    pub fn new(ceiling: Option<u32>, length: Micros) -> Self {
        Self {
            estimate: Estimate::new(ceiling, length),
            length,
            admission: Admission::Open,
            minute: Minute::MIN,
            begun: 0,
            next: Micros::MIN,
            in_flight: BTreeMap::new(),
            permits: 0,
            latency: INITIAL_LATENCY,
            used: Micros::MIN,
            throttled: None,
            clock_blamed: None,
        }
    }

    /// When the call of that rank (0: the next call) may begin. A time up to `now` means now.
    pub fn slot(&mut self, rank: usize, now: Micros) -> Micros {
        self.advance(now);
        let first = match self.admission {
            Admission::Closed { until } => until.max(now),
            Admission::Trial { until, .. } if until > now => (now + self.latency).min(until),
            Admission::Trial { .. } => now,
            Admission::Open if self.estimate.calls(now).is_none() => return now,
            Admission::Open => self.next_slot(now),
        };
        // Calls of this minute keep to the spacing of this minute.
        let before = self.begun.saturating_add(u32::try_from(rank).unwrap_or(u32::MAX));
        let this_minute = self.estimate.budget(now).is_some_and(|budget| before < budget);
        let interval = if this_minute { self.spacing(now) } else { self.interval(self.length, now) };
        first.saturating_add(Micros::try_from(rank).unwrap_or(Micros::MAX).saturating_mul(interval))
    }

    /// Begins a call.
    pub fn begin(&mut self, now: Micros) -> Permit {
        self.advance(now);
        self.permits += 1;
        let permit = Permit { id: self.permits, sent: now };
        if self.admission != Admission::Open {
            self.admission = Admission::Trial { id: permit.id, until: now + LOST_AFTER };
        }
        let interval = self.spacing(now);
        // Trials may begin before they are due; that does not delay the following calls.
        self.next = self.next.clamp(now - MAX_CREDIT.max(interval), now) + interval;
        self.begun += 1;
        self.in_flight.insert(permit.id, now);
        self.used = now;
        permit
    }

    /// The reply was not throttled.
    pub fn passed(&mut self, permit: Permit, now: Micros) {
        self.advance(now);
        self.in_flight.remove(&permit.id);
        // The clock may have been set back since.
        let sent = permit.sent.min(now);
        let took = (now - sent).clamp(0, LOST_AFTER);
        self.latency += (took - self.latency) / 8;
        // The cloud counted the call between request and reply.
        let late = self.throttled.is_some_and(|throttled| sent <= throttled);
        self.estimate.passed(self.minute_of(sent + took / 2), late);
        if matches!(self.admission, Admission::Trial { id, .. } if id == permit.id) {
            self.admission = Admission::Open;
            self.estimate.resumed(now);
            self.next = self.next.max(now);
        }
    }

    /// The outcome is unknown: says nothing about the rate.
    pub fn lost(&mut self, permit: Permit, now: Micros) {
        self.in_flight.remove(&permit.id);
        if matches!(self.admission, Admission::Trial { id, .. } if id == permit.id) {
            // The next trial keeps to the rate.
            self.admission = Admission::Closed { until: self.next.max(now) };
        }
    }

    /// The reply was throttled: the route closes for as long as the reply asks, or until the next minute. Returns when
    /// it opens.
    pub fn throttled(&mut self, permit: Permit, retry_after: Option<Micros>, now: Micros) -> Micros {
        self.advance(now);
        self.in_flight.remove(&permit.id);
        (self.used, self.throttled) = (now, Some(now));
        let is_trial = matches!(self.admission, Admission::Trial { id, .. } if id == permit.id);
        // The clock may have been set back since.
        let began = permit.sent.min(now);
        let (sent, noise) = (self.minute_of(began), self.sixtieths(CLOCK_NOISE));
        let is_early = began - sent * self.length < noise && self.clock_blamed != Some(sent);
        let until = match retry_after {
            // A throttled trial keeps it closed until the next minute, even if the reply asks for less.
            Some(wait) if is_trial => now.saturating_add(wait).max((sent + 1) * self.length),
            Some(wait) => now.saturating_add(wait),
            // At the start of a minute: on the cloud's clock the minute may not have begun.
            None if is_trial && is_early => {
                self.clock_blamed = Some(sent);
                self.admission = Admission::Closed { until: now + noise };
                return now + noise;
            }
            // It opens at the latest in the minute after the one that counted the call.
            None => (sent + 1) * self.length,
        };
        self.estimate.throttled((sent, self.minute), is_trial, now);
        let until = match self.admission {
            Admission::Closed { until: closed_until } => until.max(closed_until),
            Admission::Open | Admission::Trial { .. } => until,
        };
        self.admission = Admission::Closed { until };
        until
    }

    /// The clock was set back: moves all times by `by`, which is negative. The remaining waits stay the same.
    pub fn set_back(&mut self, by: Micros) {
        let minutes = by.div_euclid(self.length);
        self.estimate.set_back(by);
        self.minute = self.minute.saturating_add(minutes);
        self.clock_blamed = self.clock_blamed.map(|minute| minute.saturating_add(minutes));
        self.throttled = self.throttled.map(|at| at.saturating_add(by));
        self.next = self.next.saturating_add(by);
        self.used = self.used.saturating_add(by);
        self.in_flight.values_mut().for_each(|sent| *sent = sent.saturating_add(by));
        if let Admission::Closed { until } | Admission::Trial { until, .. } = &mut self.admission {
            *until = until.saturating_add(by);
        }
    }

    /// The current rate in calls a minute; `None`: no limit.
    pub fn calls(&self, now: Micros) -> Option<u32> {
        self.estimate.calls(now)
    }

    /// Whether the route is closed now.
    pub fn is_closed(&self, now: Micros) -> bool {
        matches!(self.admission, Admission::Closed { until } if until > now)
    }

    /// The time since the last call or throttled reply.
    pub fn idle(&self, now: Micros) -> Micros {
        now.saturating_sub(self.used)
    }

    /// Whether a call was ever throttled.
    pub fn was_throttled(&self) -> bool {
        self.throttled.is_some()
    }

    /// When the next call may begin while the route is open and has a rate.
    fn next_slot(&mut self, now: Micros) -> Micros {
        let used_up = self.estimate.budget(now).filter(|budget| self.begun >= *budget);
        let Some(calls) = used_up else {
            let interval = self.interval(self.length, now);
            // The rate may have risen since the last call began.
            let next = self.next.min(self.used.saturating_add(interval));
            return next.max(now - MAX_CREDIT.max(interval));
        };
        let next_minute = (self.minute + 1) * self.length;
        let probes = self.estimate.below_ceiling(calls).min((calls / 2).max(MIN_PROBES));
        if !self.estimate.probes(self.minute) || self.begun - calls >= probes {
            return next_minute;
        }
        self.in_flight.retain(|_, sent| now - *sent < LOST_AFTER);
        if !self.in_flight.is_empty() {
            return now + self.latency;
        }
        let spacing = (self.length - self.known_part()) / Micros::from(probes);
        now.max(self.used + spacing)
    }

    /// The time between two calls in this minute.
    fn spacing(&self, now: Micros) -> Micros {
        self.interval(self.known_part(), now)
    }

    /// The part of this minute over which the calls within the known limit are spread.
    fn known_part(&self) -> Micros {
        if self.estimate.probes(self.minute) {
            self.sixtieths(KNOWN_PART[self.estimate.found_more().min(KNOWN_PART.len() - 1)])
        } else {
            self.length
        }
    }

    /// The time between two calls if the calls within the known limit are spread over `span`.
    fn interval(&self, span: Micros, now: Micros) -> Micros {
        self.estimate.calls(now).map_or(0, |calls| span / Micros::from(calls.max(1)))
    }

    /// Moves on to the current minute and ends those before.
    fn advance(&mut self, now: Micros) {
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

    /// A call that passes after this latency.
    fn pass(pacing: &mut Pacing, now: Micros, latency: Micros) {
        let permit = pacing.begin(now);
        pacing.passed(permit, now + latency);
    }

    /// A pacing that was throttled in the first minute and met the limit in the second. The first call of the third
    /// minute passed.
    fn learned(limit: u32) -> Pacing {
        let mut pacing = Pacing::new(None, MINUTE);
        for minute in 0..2 {
            let now = minute * MINUTE + 10 * SECOND;
            (0..limit).for_each(|_| pass(&mut pacing, now, 0));
            let permit = pacing.begin(now);
            assert_eq!(pacing.throttled(permit, None, now), (minute + 1) * MINUTE);
        }
        pass(&mut pacing, 2 * MINUTE, 0);
        pacing
    }

    /// The begin times of calls in a minute with a request every 10 ms, each with this latency.
    fn begun(pacing: &mut Pacing, minute: Minute, latency: Micros) -> Vec<Micros> {
        let (mut begun, mut out): (Vec<Micros>, Vec<(Micros, Permit)>) = (Vec::new(), Vec::new());
        for now in (minute * MINUTE..(minute + 1) * MINUTE).step_by(10_000) {
            out.retain(|(back, permit)| {
                if *back <= now {
                    pacing.passed(*permit, now);
                }
                *back > now
            });
            if pacing.slot(0, now) <= now {
                begun.push(now);
                out.push((now + latency, pacing.begin(now)));
            }
        }
        for (back, permit) in out {
            pacing.passed(permit, back);
        }
        begun
    }

    #[test]
    fn calls_are_spread_evenly_over_the_minute() {
        let mut pacing = learned(60);
        let begun = begun(&mut pacing, 2, SECOND);
        assert_eq!(begun.len() + 1, 57);
        for pair in begun[1..].windows(2) {
            let gap = pair[1] - pair[0];
            assert!((MINUTE / 57 - 10_000..=MINUTE / 57 + 10_000).contains(&gap), "{gap} µs");
        }
    }

    #[test]
    fn probes_wait_for_the_reply_to_the_call_before() {
        let mut pacing = learned(60);
        assert_eq!(begun(&mut pacing, 2, SECOND).len() + 1, 57);
        let calls = begun(&mut pacing, 3, SECOND);
        let (sure, probes) = calls.split_at(57);
        assert!(sure[56] - 3 * MINUTE <= 54 * SECOND, "the sure ones are done in time");
        assert!((3..=8).contains(&probes.len()), "{} probes", probes.len());
        let mut former = sure[56];
        for probe in probes {
            assert!(probe - former >= SECOND, "a probe went beside another call");
            former = *probe;
        }
        let next = begun(&mut pacing, 4, SECOND);
        assert!(next.len() > calls.len(), "{} after {}", next.len(), calls.len());
    }

    #[test]
    fn while_the_rate_doubles_calls_come_at_the_present_rate() {
        let mut pacing = Pacing::new(None, MINUTE);
        let permit = pacing.begin(0);
        pacing.throttled(permit, None, SECOND);
        pass(&mut pacing, MINUTE, 0);
        for (minute, calls) in [(1, 89..=90), (2, 358..=361), (3, 1430..=1445)] {
            let begun = begun(&mut pacing, minute, SECOND / 10).len();
            assert!(calls.contains(&begun), "{begun} in minute {minute}");
        }
    }

    #[test]
    fn a_higher_rate_applies_to_the_next_call() {
        let mut pacing = learned(60);
        let permit = pacing.begin(2 * MINUTE + 20 * SECOND);
        pacing.throttled(permit, None, 2 * MINUTE + 20 * SECOND);
        pacing.estimate = Estimate::new(Some(1), MINUTE);
        pass(&mut pacing, 3 * MINUTE, 0);
        assert_eq!(pacing.slot(0, 3 * MINUTE + SECOND), 4 * MINUTE);
        pacing.estimate = Estimate::new(Some(6), MINUTE);
        assert_eq!(pacing.slot(0, 3 * MINUTE + SECOND), 3 * MINUTE + 10 * SECOND);
    }

    #[test]
    fn a_throttled_reply_of_the_previous_minute_does_not_close_this_one() {
        let mut pacing = Pacing::new(None, MINUTE);
        let permit = pacing.begin(59 * SECOND);
        assert_eq!(pacing.throttled(permit, None, 61 * SECOND), MINUTE);
        assert!(!pacing.is_closed(61 * SECOND) && pacing.slot(0, 61 * SECOND) <= 61 * SECOND);
        pacing.begin(61 * SECOND);
        assert!(pacing.slot(0, 61 * SECOND) > 61 * SECOND, "one first");
    }

    #[test]
    fn a_reply_to_an_earlier_call_does_not_open_the_route() {
        let mut pacing = Pacing::new(None, MINUTE);
        let (before, refused) = (pacing.begin(0), pacing.begin(0));
        pacing.throttled(refused, None, SECOND);
        pacing.passed(before, 2 * SECOND);
        assert_eq!(pacing.slot(0, 3 * SECOND), MINUTE);
    }

    #[test]
    fn the_longest_wait_that_a_reply_asks_for_counts() {
        let mut pacing = Pacing::new(None, MINUTE);
        let permits = [pacing.begin(0), pacing.begin(0), pacing.begin(0)];
        let waits = [Some(90 * SECOND), None, Some(SECOND)];
        let opens =
            permits.into_iter().zip(waits).map(|(permit, wait)| pacing.throttled(permit, wait, SECOND));
        assert_eq!(opens.collect::<Vec<_>>(), [91 * SECOND; 3]);
    }

    #[test]
    fn a_throttled_trial_waits_for_the_next_minute() {
        let mut pacing = Pacing::new(None, MINUTE);
        let permit = pacing.begin(10 * SECOND);
        assert_eq!(pacing.throttled(permit, Some(SECOND), 10 * SECOND), 11 * SECOND);
        let trial = pacing.begin(11 * SECOND);
        assert_eq!(pacing.throttled(trial, Some(SECOND), 11 * SECOND), MINUTE);
        let trial = pacing.begin(MINUTE);
        assert_eq!(pacing.throttled(trial, Some(90 * SECOND), MINUTE), 150 * SECOND);
    }

    #[test]
    fn probes_stay_below_the_ceiling() {
        // Other callers use the rest of two minutes, then stop.
        let mut pacing = Pacing::new(Some(60), MINUTE);
        for minute in 0..2 {
            let now = minute * MINUTE + 10 * SECOND;
            (0..50).for_each(|_| pass(&mut pacing, now, 0));
            let permit = pacing.begin(now);
            pacing.throttled(permit, None, now);
        }
        for minute in 2..12 {
            let calls = begun(&mut pacing, minute, SECOND / 5);
            assert!(calls.len() <= 61, "{} calls in minute {minute}", calls.len());
        }
    }

    #[test]
    fn trials_without_a_reply_keep_to_the_rate() {
        let mut pacing = Pacing::new(Some(10), MINUTE);
        let permit = pacing.begin(10 * SECOND);
        pacing.throttled(permit, None, 10 * SECOND);
        let (mut now, mut trials) = (MINUTE, 0);
        while now < 2 * MINUTE {
            now = pacing.slot(0, now).max(now);
            let permit = pacing.begin(now);
            now += SECOND / 20;
            pacing.lost(permit, now);
            trials += 1;
        }
        // Ten, the first, and one that is made up for.
        assert!(trials <= 12, "{trials} trials in a minute");
    }

    proptest! {
        #[test]
        fn the_route_opens_again_after_any_sequence_of_replies(
            steps in proptest::collection::vec((0_u8..4, 0..90_000_000_i64), 1..300),
            ceiling in proptest::option::of(1_u32..100),
        ) {
            let (mut pacing, mut now, mut out) = (Pacing::new(ceiling, MINUTE), 0, Vec::new());
            for (what, pause) in steps {
                now += if what == 0 { pause } else { pause / 1000 };
                let slot = pacing.slot(0, now);
                prop_assert!(slot <= now + 2 * MINUTE, "no wait is longer than that for one call a minute");
                prop_assert!(pacing.slot(7, now) >= slot);
                if slot <= now {
                    out.push(pacing.begin(now));
                } else if let Some(permit) = out.pop() {
                    match what {
                        1 => { pacing.throttled(permit, None, now); }
                        2 => pacing.lost(permit, now),
                        _ => pacing.passed(permit, now),
                    }
                }
                prop_assert!(pacing.calls(now).is_none_or(|calls| calls >= 1));
                prop_assert!(ceiling.is_none_or(|ceiling| pacing.calls(now) <= Some(ceiling)));
            }
        }
    }
}
