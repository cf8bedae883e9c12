//! Rate limits: so many calls of an action and region in each minute of the emulator's clock.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::action::Action;
use super::wire::ApiError;

const MINUTE: i64 = 60_000;

/// The limits and what was used of them.
#[derive(Debug, Default)]
pub(super) struct Limits {
    per_minute: BTreeMap<Action, u32>,
    /// The minute last counted, and the calls in it.
    counts: HashMap<(Action, String), (i64, u32)>,
    /// Whether a throttled reply says how long to wait.
    pub send_retry_after: bool,
}

impl Limits {
    pub fn set(&mut self, action: Action, per_minute: Option<u32>) {
        match per_minute {
            Some(limit) => self.per_minute.insert(action, limit),
            None => self.per_minute.remove(&action),
        };
    }

    pub fn list(&self) -> &BTreeMap<Action, u32> {
        &self.per_minute
    }

    /// Counts a call, or refuses it as throttled.
    pub fn take(&mut self, action: Action, region: &str, now: Timestamp) -> Result<(), ApiError> {
        let Some(limit) = self.per_minute.get(&action) else {
            return Ok(());
        };
        let millis = now.as_millisecond();
        let minute = millis.div_euclid(MINUTE);
        let (counted, calls) = self.counts.entry((action, region.to_owned())).or_default();
        if *counted != minute {
            (*counted, *calls) = (minute, 0);
        }
        if *calls < *limit {
            *calls += 1;
            return Ok(());
        }
        let left = MINUTE - millis.rem_euclid(MINUTE);
        let retry_after = self.send_retry_after.then(|| Duration::from_millis(left.unsigned_abs()));
        Err(throttled(retry_after))
    }
}

/// The refusal of a call that came too soon.
pub(super) fn throttled(retry_after: Option<Duration>) -> ApiError {
    let error = ApiError::new(400, "Throttling", "Request was denied due to request throttling.");
    ApiError { retry_after, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_by_action_region_and_minute_of_the_clock() {
        use Action::{DescribeInstances, ModifyInstanceVncPasswd};
        let mut limits = Limits { send_retry_after: true, ..Limits::default() };
        limits.set(ModifyInstanceVncPasswd, Some(2));
        let table = [
            ("00:10:58.000", ModifyInstanceVncPasswd, "a", None),
            ("00:10:59.000", ModifyInstanceVncPasswd, "a", None),
            ("00:10:59.500", ModifyInstanceVncPasswd, "a", Some(500)),
            ("00:10:59.500", ModifyInstanceVncPasswd, "b", None),
            ("00:10:59.500", DescribeInstances, "a", None),
            ("00:11:00.000", ModifyInstanceVncPasswd, "a", None),
            ("00:11:00.000", ModifyInstanceVncPasswd, "a", None),
            ("00:11:00.000", ModifyInstanceVncPasswd, "a", Some(60_000)),
        ];
        for (time, action, region, wait) in table {
            let verdict = limits.take(action, region, format!("2026-01-01T{time}Z").parse().unwrap());
            let retry_after = verdict.err().map(|error| error.retry_after.unwrap().as_millis());
            assert_eq!(retry_after, wait, "{time} {action:?} {region}");
        }
    }
}
