//! Closes when the API throttles, opens again with the next minute, one probe first.
//!
//! The API counts per account, region and action, by the minute, and sums over everybody: greed would also block
//! the people at the console. A closed limiter never holds a caller, it tells when to come back.

use std::{collections::HashMap, sync::Mutex, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// The actions that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// `ModifyInstanceVncPasswd`.
    ModifyInstanceVncPasswd,
    /// `DescribeInstances`.
    DescribeInstances,
    /// `RebootInstance`.
    RebootInstance,
}

impl Action {
    /// The action's name in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ModifyInstanceVncPasswd => "ModifyInstanceVncPasswd",
            Self::DescribeInstances => "DescribeInstances",
            Self::RebootInstance => "RebootInstance",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gate {
    Closed {
        until: Timestamp,
    },
    /// One call is out to see whether it is open again; its reply is due by then.
    Probing {
        until: Timestamp,
    },
}

/// Gates by action, scope (an account, or an identity whose account is not known) and region. Open ones are not kept.
#[derive(Debug, Default)]
pub struct Limiter(Mutex<HashMap<(Action, String, String), Gate>>);

/// How long a probe may take before another is sent.
const PROBE: SignedDuration = SignedDuration::from_secs(5);
/// When to come back while a probe is out.
const PROBE_RETRY: SignedDuration = SignedDuration::from_secs(1);

impl Limiter {
    /// When to come back, where the gate is closed now. Changes nothing.
    #[must_use]
    pub fn opens(&self, action: Action, scope: &str, region: &str, now: Timestamp) -> Option<Timestamp> {
        let gates = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if gates.is_empty() {
            return None;
        }
        gates.get(&(action, scope.to_owned(), region.to_owned())).and_then(|gate| gate.opens(now))
    }

    /// Asks for one call now.
    ///
    /// # Errors
    /// The gate is closed; the time is when to come back.
    pub fn admit(&self, action: Action, scope: &str, region: &str, now: Timestamp) -> Result<(), Timestamp> {
        let mut gates = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if gates.is_empty() {
            return Ok(());
        }
        let Some(gate) = gates.get_mut(&(action, scope.to_owned(), region.to_owned())) else { return Ok(()) };
        if let Some(opens) = gate.opens(now) {
            return Err(opens);
        }
        *gate = Gate::Probing { until: now + PROBE };
        Ok(())
    }

    /// A reply came that was not throttled: a probe opens the gate. A call that was sent before the gate closed
    /// tells nothing.
    pub fn passed(&self, action: Action, scope: &str, region: &str) {
        let mut gates = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if gates.is_empty() {
            return;
        }
        let key = (action, scope.to_owned(), region.to_owned());
        if matches!(gates.get(&key), Some(Gate::Probing { .. })) {
            gates.remove(&key);
        }
    }

    /// A reply was throttled: the gate closes, as long as the reply says or until the next minute.
    /// Returns when it opens.
    pub fn throttled(
        &self,
        action: Action,
        scope: &str,
        region: &str,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Timestamp {
        let until = match retry_after {
            Some(wait) => now.checked_add(wait).unwrap_or(Timestamp::MAX),
            None => next_minute(now),
        };
        let mut gates = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let gate =
            gates.entry((action, scope.to_owned(), region.to_owned())).or_insert(Gate::Closed { until });
        *gate = match *gate {
            Gate::Closed { until: standing } => Gate::Closed { until: standing.max(until) },
            Gate::Probing { .. } => Gate::Closed { until },
        };
        until
    }
}

impl Gate {
    fn opens(self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Closed { until } => (until > now).then_some(until),
            Self::Probing { until } => (until > now).then(|| now + PROBE_RETRY),
        }
    }
}

/// The start of the next minute, in which an action throttled now is open again.
fn next_minute(now: Timestamp) -> Timestamp {
    let left = 60 - now.as_second().rem_euclid(60);
    Timestamp::from_second(now.as_second() + left).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ACTION: Action = Action::ModifyInstanceVncPasswd;

    const OWN: &str = "1000000000000001";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn it_is_open_until_the_first_throttled_reply() {
        let limiter = Limiter::default();
        assert_eq!(limiter.admit(ACTION, OWN, "cn-hangzhou", at(30)), Ok(()));
        limiter.throttled(ACTION, OWN, "cn-hangzhou", None, at(30));
        assert_eq!(limiter.admit(ACTION, OWN, "cn-hangzhou", at(31)), Err(at(60)));
        assert_eq!(limiter.admit(ACTION, OWN, "cn-beijing", at(31)), Ok(()), "another region");
        assert_eq!(limiter.admit(ACTION, "2", "cn-hangzhou", at(31)), Ok(()), "another account");
        for action in [Action::DescribeInstances, Action::RebootInstance] {
            assert_eq!(limiter.admit(action, OWN, "cn-hangzhou", at(31)), Ok(()), "another action");
        }
    }

    #[test]
    fn the_reply_can_say_how_long() {
        let limiter = Limiter::default();
        limiter.throttled(ACTION, OWN, "r", Some(Duration::from_millis(1500)), at(30));
        let opens = limiter.opens(ACTION, OWN, "r", at(30)).unwrap();
        assert_eq!(opens.as_millisecond(), 31_500);
    }

    #[test]
    fn it_opens_after_one_probe() {
        let limiter = Limiter::default();
        limiter.throttled(ACTION, OWN, "r", None, at(30));
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(60)), Ok(()), "the probe");
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(60)), Err(at(61)), "nobody else while it is out");
        limiter.passed(ACTION, OWN, "r");
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(60)), Ok(()));
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(60)), Ok(()));
    }

    #[test]
    fn a_throttled_probe_closes_it_again_and_a_lost_one_is_replaced() {
        let limiter = Limiter::default();
        limiter.throttled(ACTION, OWN, "r", None, at(30));
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(60)), Ok(()));
        limiter.throttled(ACTION, OWN, "r", None, at(61));
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(62)), Err(at(120)));
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(120)), Ok(()));
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(126)), Ok(()), "no reply came");
    }

    #[test]
    fn a_reply_to_an_older_call_does_not_open_it() {
        let limiter = Limiter::default();
        limiter.throttled(ACTION, OWN, "r", None, at(30));
        limiter.passed(ACTION, OWN, "r");
        assert_eq!(limiter.admit(ACTION, OWN, "r", at(31)), Err(at(60)));
    }
}
