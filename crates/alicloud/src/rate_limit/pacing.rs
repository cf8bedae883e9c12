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
mod tests;
