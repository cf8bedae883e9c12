//! What is learned of the cloud's limit: from how many calls passed in the minute that was throttled, and in minutes
//! that were not.

/// A minute of the cloud's clock, counted from 1970.
pub(super) type Minute = i64;

/// Of what has passed, so much is used: the rest stays free for people at the console.
const USED_PERCENT: u32 = 95;
/// So few calls say little of the limit: others have used the minute. It is probed at once.
const FEW: u32 = 5;
/// For so many minutes a new limit is kept before it is probed; as often as a probe finds nothing, twice as long.
const PATIENCE: i64 = 1;
/// Longest time without a probe, in minutes.
const LONGEST_PATIENCE: i64 = 8;

/// How many calls a minute are known to pass.
#[derive(Debug)]
pub(super) struct Learning {
    /// What the user allows; `None`: anything.
    ceiling: Option<u32>,
    /// Calls a minute that pass; `None`: no less than the ceiling, as far as is known.
    safe: Option<u32>,
    /// Replies that were not throttled, in the two minutes counted last.
    passed: [(Minute, u32); 2],
    /// The minute that was throttled last.
    throttled: Option<Minute>,
    /// The first minute that may probe.
    probe_from: Minute,
    patience: i64,
    /// Minutes in a row in which probing found more.
    found_more: usize,
}

impl Learning {
    pub fn new(ceiling: Option<u32>) -> Self {
        Self {
            ceiling,
            safe: None,
            passed: [(Minute::MIN, 0); 2],
            throttled: None,
            probe_from: Minute::MIN,
            patience: PATIENCE,
            found_more: 0,
        }
    }

    /// Calls a minute that may be begun without looking further; `None`: any number.
    pub fn calls(&self) -> Option<u32> {
        match (self.safe, self.ceiling) {
            (Some(safe), Some(ceiling)) => Some(safe.min(ceiling)),
            (safe, ceiling) => safe.or(ceiling),
        }
    }

    /// Whether more than that may be tried in this minute, one call after the other.
    pub fn probes(&self, minute: Minute) -> bool {
        self.safe.is_some() && minute >= self.probe_from
    }

    /// How many minutes in a row have found more by probing.
    pub fn found_more(&self) -> usize {
        self.found_more
    }

    /// A call of that minute was answered, and not throttled. Replies to calls that were under way when the minute was
    /// throttled count as well.
    pub fn passed(&mut self, minute: Minute) {
        if let Some((_, count)) = self.passed.iter_mut().find(|(counted, _)| *counted == minute) {
            *count += 1;
        } else if let Some(oldest) = self.passed.iter_mut().min_by_key(|(counted, _)| *counted)
            && oldest.0 < minute
        {
            *oldest = (minute, 1);
        }
        if self.throttled == Some(minute) {
            self.learn(minute);
        }
    }

    /// A call that the cloud counted in one of two minutes, the same mostly, was throttled.
    pub fn throttled(&mut self, minutes: (Minute, Minute)) {
        // Where it is not sure which, the one that had more calls is the one that was full.
        let first = self.count(minutes.0) > self.count(minutes.1);
        let minute = if first { minutes.0 } else { minutes.1 };
        if self.throttled.is_some_and(|known| minute <= known) {
            return;
        }
        let passed = self.count(minute);
        // The limit is what it was: there is no hurry to find that out again.
        let in_vain = self.safe.is_some_and(|former| (former..=former + former / 10 + 1).contains(&passed));
        (self.throttled, self.found_more) = (Some(minute), 0);
        self.learn(minute);
        let safe = self.safe.unwrap_or_default();
        self.patience = if in_vain { (self.patience * 2).min(LONGEST_PATIENCE) } else { PATIENCE };
        self.probe_from = minute + 1 + if safe < FEW { 0 } else { self.patience };
    }

    /// A minute is over: if it was not throttled, what passed in it passes.
    pub fn ended(&mut self, minute: Minute) {
        if self.throttled.is_some_and(|throttled| throttled >= minute) || !self.probes(minute) {
            return;
        }
        if self.safe.is_some_and(|safe| safe < self.count(minute)) {
            self.safe = Some(self.count(minute));
            self.found_more += 1;
        }
        if self.ceiling.is_some_and(|ceiling| self.safe >= Some(ceiling)) {
            self.safe = None;
        }
    }

    /// The clock was set back by so many minutes, a negative number.
    pub fn set_back(&mut self, by: Minute) {
        for (minute, _) in &mut self.passed {
            *minute = minute.saturating_add(by);
        }
        self.throttled = self.throttled.map(|minute| minute.saturating_add(by));
        self.probe_from = self.probe_from.saturating_add(by);
    }

    fn learn(&mut self, minute: Minute) {
        self.safe = Some(
            (self.count(minute) / 100 * USED_PERCENT + self.count(minute) % 100 * USED_PERCENT / 100).max(1),
        );
    }

    fn count(&self, minute: Minute) -> u32 {
        self.passed.iter().find(|(counted, _)| *counted == minute).map_or(0, |(_, count)| *count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A minute in which so many passed, and whether one was throttled.
    fn minute(learning: &mut Learning, minute: Minute, passed: u32, throttled: bool) {
        (0..passed).for_each(|_| learning.passed(minute));
        if throttled {
            learning.throttled((minute, minute));
        }
        learning.ended(minute);
    }

    #[test]
    fn of_what_passed_five_in_a_hundred_stay_free() {
        for (passed, calls) in [(0, 1), (1, 1), (10, 9), (60, 57), (600, 570), (6000, 5700)] {
            let mut learning = Learning::new(None);
            assert_eq!(learning.calls(), None);
            minute(&mut learning, 7, passed, true);
            assert_eq!(learning.calls(), Some(calls), "{passed}");
        }
    }

    #[test]
    fn replies_that_come_after_the_first_throttled_one_count() {
        let mut learning = Learning::new(None);
        minute(&mut learning, 7, 10, true);
        (0..90).for_each(|_| learning.passed(7));
        assert_eq!(learning.calls(), Some(95));
        (0..90).for_each(|_| learning.passed(8));
        assert_eq!(learning.calls(), Some(95), "those of another minute do not");
    }

    #[test]
    fn it_probes_after_a_while_and_as_often_as_that_is_in_vain_waits_twice_as_long() {
        let mut learning = Learning::new(None);
        minute(&mut learning, 7, 100, true);
        let mut throttled = 7;
        for patience in [1, 2, 4, 8, 8] {
            let probes = throttled + 1 + patience;
            assert!(!learning.probes(probes - 1) && learning.probes(probes), "{patience}");
            minute(&mut learning, probes, 100, true);
            assert_eq!(learning.calls(), Some(95));
            throttled = probes;
        }
        minute(&mut learning, throttled + 1, 60, true);
        assert!(learning.probes(throttled + 3), "the limit is another: it is probed soon");
    }

    #[test]
    fn what_passed_while_it_probed_passes() {
        let mut learning = Learning::new(None);
        minute(&mut learning, 7, 100, true);
        minute(&mut learning, 8, 97, false);
        assert_eq!(learning.calls(), Some(95), "it did not probe yet");
        minute(&mut learning, 9, 99, false);
        assert_eq!(learning.calls(), Some(99));
        minute(&mut learning, 10, 20, false);
        assert_eq!(learning.calls(), Some(99), "a minute without demand tells nothing");
    }

    #[test]
    fn a_call_that_may_have_counted_in_two_minutes_counts_in_the_fuller_one() {
        let mut learning = Learning::new(None);
        (0..100).for_each(|_| learning.passed(7));
        learning.passed(8);
        learning.throttled((7, 8));
        assert_eq!(learning.calls(), Some(95));
    }

    #[test]
    fn a_ceiling_is_kept_as_it_is_and_reached_again() {
        let mut learning = Learning::new(Some(60));
        assert_eq!((learning.calls(), learning.probes(7)), (Some(60), false));
        minute(&mut learning, 7, 20, true);
        assert_eq!(learning.calls(), Some(19));
        minute(&mut learning, 9, 45, false);
        assert_eq!(learning.calls(), Some(45));
        minute(&mut learning, 10, 66, false);
        assert_eq!((learning.calls(), learning.probes(11)), (Some(60), false));
    }
}
