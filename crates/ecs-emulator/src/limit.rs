//! Rate limits: calls per account, action and region in each minute of the emulator's clock.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use super::action::{Action, Service};
use super::wire::ApiError;

/// The limits and their usage.
#[derive(Debug)]
pub(super) struct Limits {
    /// The length of the counting period in milliseconds: a minute, except in tests.
    pub minute: i64,
    per_minute: BTreeMap<Action, u32>,
    /// The minute last counted, and the calls in it.
    counts: HashMap<(Action, String, String), (i64, u32)>,
    /// Whether a throttled reply has `x-acs-retry-after`.
    pub send_retry_after: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self { minute: 60_000, per_minute: BTreeMap::new(), counts: HashMap::new(), send_retry_after: false }
    }
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
    pub fn take(
        &mut self,
        account: &str,
        action: Action,
        region: &str,
        now: Timestamp,
    ) -> Result<(), ApiError> {
        let Some(limit) = self.per_minute.get(&action) else {
            return Ok(());
        };
        let millis = now.as_millisecond();
        let minute = millis.div_euclid(self.minute);
        let key = (action, account.to_owned(), region.to_owned());
        let (counted, calls) = self.counts.entry(key).or_default();
        if *counted != minute {
            (*counted, *calls) = (minute, 0);
        }
        if *calls < *limit {
            *calls += 1;
            return Ok(());
        }
        let left = self.minute - millis.rem_euclid(self.minute);
        let retry_after = self.send_retry_after.then(|| Duration::from_millis(left.unsigned_abs()));
        Err(throttled(action.service(), retry_after))
    }
}

/// The error of a throttled call.
pub(super) fn throttled(service: Service, retry_after: Option<Duration>) -> ApiError {
    let error = match service {
        Service::Sts => ApiError::new(400, "Throttling.User", "Request was denied due to user flow control."),
        Service::Ecs | Service::Local => {
            ApiError::new(400, "Throttling", "Request was denied due to request throttling.")
        }
    };
    ApiError { retry_after, ..error }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_counts_by_account_action_region_and_minute_of_the_clock() {
        use Action::{DescribeInstances, ModifyInstanceVncPasswd};
        let mut limits = Limits { send_retry_after: true, ..Limits::default() };
        limits.set(ModifyInstanceVncPasswd, Some(2));
        let table = [
            ("00:10:58.000", "1", ModifyInstanceVncPasswd, "a", None),
            ("00:10:59.000", "1", ModifyInstanceVncPasswd, "a", None),
            ("00:10:59.500", "1", ModifyInstanceVncPasswd, "a", Some(500)),
            ("00:10:59.500", "1", ModifyInstanceVncPasswd, "b", None),
            ("00:10:59.500", "2", ModifyInstanceVncPasswd, "a", None),
            ("00:10:59.500", "1", DescribeInstances, "a", None),
            ("00:11:00.000", "1", ModifyInstanceVncPasswd, "a", None),
            ("00:11:00.000", "1", ModifyInstanceVncPasswd, "a", None),
            ("00:11:00.000", "1", ModifyInstanceVncPasswd, "a", Some(60_000)),
        ];
        for (time, account, action, region, wait) in table {
            let verdict =
                limits.take(account, action, region, format!("2026-01-01T{time}Z").parse().unwrap());
            let retry_after = verdict.err().map(|error| error.retry_after.unwrap().as_millis());
            assert_eq!(retry_after, wait, "{time} {account} {action:?} {region}");
        }
    }
}
