//! Injected faults: which calls they match, whether the call takes effect, and what the client receives.

use std::time::Duration;

use rand::{RngExt, rngs::StdRng};
use serde::{Deserialize, Serialize};

use super::action::{self, Action, Parameters};

/// The number of an injected fault.
pub type FaultId = u64;

/// A fault for calls with a valid signature. The first fault that matches a call is used.
///
/// ```
/// use vncpassword_emulator::{Action, Fault};
/// // The next two passwords are set, but the client gets no reply.
/// let fault = Fault::reset_after().on(Action::ModifyInstanceVncPasswd).times(2);
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// Only calls of this action.
    pub action: Option<Action>,
    /// Only calls that name this instance.
    pub instance_id: Option<String>,
    /// How many more calls it matches; `None`: no limit.
    pub remaining: Option<u32>,
    /// The probability that it applies to a matching call, 0 to 1; `None`: all. Drawn from the emulator's
    /// seed.
    pub probability: Option<f64>,
    /// Whether and when the call takes effect; `None`: as [`Fault::effect`] says.
    pub apply: Option<Apply>,
    /// What the client receives.
    pub reply: Reply,
    /// The `RequestId` of the reply, whatever it is; `None`: as the real service writes it.
    pub request_id: Option<String>,
    /// Delay of the reply, in real time. The call takes effect before.
    #[serde(rename = "delayMs", with = "millis")]
    pub delay: Duration,
}

/// Whether and when a call with a fault takes effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Apply {
    /// Immediately.
    Now,
    /// Never: it was lost or refused.
    Never,
    /// It arrives after this time of the emulator's clock, also after later calls. The state at that time
    /// applies.
    Late {
        /// The delay.
        #[serde(rename = "afterMs", with = "millis")]
        after: Duration,
    },
}

/// What the client of a call with a fault receives.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Reply {
    /// The real reply. If the call was not performed: the reply of an accepted call.
    #[default]
    Genuine,
    /// The real reply as XML.
    Xml,
    /// An error of the API.
    Error {
        /// HTTP status.
        status: u16,
        /// Its `Code`.
        code: String,
    },
    /// `Throttling`, of STS `Throttling.User`, HTTP 400.
    #[serde(rename_all = "camelCase")]
    Throttled {
        /// Sent as `x-acs-retry-after`, in milliseconds.
        #[serde(default)]
        retry_after_ms: Option<u64>,
    },
    /// A TCP reset.
    Reset,
    /// Nothing until the client disconnects or this many milliseconds of real time have passed, then a TCP
    /// reset.
    #[serde(rename_all = "camelCase")]
    Hang {
        /// `None`: until the client disconnects.
        #[serde(default)]
        for_ms: Option<u64>,
    },
    /// A body that is not a reply of the API.
    Body {
        /// HTTP status.
        status: u16,
        /// What it holds.
        kind: Garbage,
    },
    /// HTTP 302.
    Redirect {
        /// Where to.
        location: String,
    },
}

/// A body that is not a reply of the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Garbage {
    /// The error page of a proxy.
    Html,
    /// No byte.
    Empty,
    /// Truncated JSON.
    Truncated,
    /// Text that is not JSON.
    NotJson,
    /// JSON of slightly more than [`HUGE`] bytes.
    Huge,
    /// JSON without a `RequestId`.
    NoRequestId,
}

/// Size of [`Garbage::Huge`] in bytes.
pub const HUGE: usize = 8 << 20;

impl Fault {
    /// The call is refused with that HTTP status and `Code`.
    #[must_use]
    pub fn error(status: u16, code: impl Into<String>) -> Self {
        Self::new(Apply::Never, Reply::Error { status, code: code.into() })
    }

    /// The call is throttled, with `x-acs-retry-after` where a time is given.
    #[must_use]
    pub fn throttled(retry_after: Option<Duration>) -> Self {
        let retry_after_ms = retry_after.map(whole_millis);
        Self::new(Apply::Never, Reply::Throttled { retry_after_ms })
    }

    /// The connection is reset and the call has no effect.
    #[must_use]
    pub fn reset_before() -> Self {
        Self::new(Apply::Never, Reply::Reset)
    }

    /// The call takes effect, then the connection is reset.
    #[must_use]
    pub fn reset_after() -> Self {
        Self::new(Apply::Now, Reply::Reset)
    }

    /// The client gets `reply` now; the call takes effect `after` that on the emulator's clock.
    #[must_use]
    pub fn late(after: Duration, reply: Reply) -> Self {
        Self::new(Apply::Late { after }, reply)
    }

    /// The call has no effect and is not answered until the client leaves.
    #[must_use]
    pub fn hang() -> Self {
        Self::new(Apply::Never, Reply::Hang { for_ms: None })
    }

    /// The call takes effect; its reply takes that long.
    #[must_use]
    pub fn latency(delay: Duration) -> Self {
        Self { delay, ..Self::new(Apply::Now, Reply::Genuine) }
    }

    /// The call takes effect; the reply is HTTP 200 with a useless body.
    #[must_use]
    pub fn body(kind: Garbage) -> Self {
        Self::new(Apply::Now, Reply::Body { status: 200, kind })
    }

    /// The call has no effect; the client is sent elsewhere.
    #[must_use]
    pub fn redirect(location: impl Into<String>) -> Self {
        Self::new(Apply::Never, Reply::Redirect { location: location.into() })
    }

    /// The call takes effect; the reply is XML.
    #[must_use]
    pub fn xml() -> Self {
        Self::new(Apply::Now, Reply::Xml)
    }

    fn new(apply: Apply, reply: Reply) -> Self {
        Self { apply: Some(apply), reply, ..Self::default() }
    }

    /// The same with this `RequestId` in the reply, and in the journal.
    #[must_use]
    pub fn request_id(mut self, id: impl Into<String>) -> Self {
        self.request_id = Some(id.into());
        self
    }

    /// Only calls of `action`.
    #[must_use]
    pub fn on(mut self, action: Action) -> Self {
        self.action = Some(action);
        self
    }

    /// Only calls that name this instance.
    #[must_use]
    pub fn instance(mut self, id: impl Into<String>) -> Self {
        self.instance_id = Some(id.into());
        self
    }

    /// Only the next `count` fitting calls.
    #[must_use]
    pub fn times(mut self, count: u32) -> Self {
        self.remaining = Some(count);
        self
    }

    /// Only this share of the fitting calls, 0 to 1.
    #[must_use]
    pub fn probability(mut self, share: f64) -> Self {
        self.probability = Some(share);
        self
    }

    /// `apply`, or its default: with a real or garbled reply, the call takes effect; with an error, reset,
    /// hang or redirect, it does not.
    #[must_use]
    pub fn effect(&self) -> Apply {
        self.apply.unwrap_or(match self.reply {
            Reply::Genuine | Reply::Xml | Reply::Body { .. } => Apply::Now,
            Reply::Error { .. }
            | Reply::Throttled { .. }
            | Reply::Reset
            | Reply::Hang { .. }
            | Reply::Redirect { .. } => Apply::Never,
        })
    }

    fn fits(&self, action: Action, ids: &[String]) -> bool {
        self.remaining != Some(0)
            && self.action.is_none_or(|only| only == action)
            && self.instance_id.as_ref().is_none_or(|only| ids.contains(only))
    }
}

/// All faults, oldest first.
#[derive(Debug, Default)]
pub(super) struct Faults {
    rules: Vec<(FaultId, Fault)>,
    last: FaultId,
}

impl Faults {
    pub fn inject(&mut self, fault: Fault) -> FaultId {
        self.last += 1;
        self.rules.push((self.last, fault));
        self.last
    }

    pub fn remove(&mut self, id: FaultId) -> bool {
        let before = self.rules.len();
        self.rules.retain(|(of, _)| *of != id);
        self.rules.len() < before
    }

    pub fn clear(&mut self) {
        self.rules.clear();
    }

    pub fn list(&self) -> &[(FaultId, Fault)] {
        &self.rules
    }

    /// Finds the fault for a call, and counts the match.
    pub fn pick(
        &mut self,
        action: Action,
        parameters: &Parameters,
        rng: &mut StdRng,
    ) -> Option<(FaultId, Fault)> {
        if self.rules.is_empty() {
            return None;
        }
        let ids = action::instance_ids(parameters);
        let (id, rule) = self.rules.iter_mut().find(|(_, rule)| {
            rule.fits(action, &ids) && rule.probability.is_none_or(|share| rng.random::<f64>() < share)
        })?;
        rule.remaining = rule.remaining.map(|left| left - 1);
        let picked = (*id, rule.clone());
        self.rules.retain(|(_, rule)| rule.remaining != Some(0));
        Some(picked)
    }
}

fn whole_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Durations as whole milliseconds.
pub(super) mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        super::whole_millis(*duration).serialize(serializer)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use serde_json::json;

    use super::*;

    const MODIFY: Action = Action::ModifyInstanceVncPasswd;

    fn parameters(id: &str) -> Parameters {
        Parameters::from([("InstanceId".to_owned(), id.to_owned())])
    }

    #[test]
    fn a_fault_matches_its_action_and_instance_and_a_limited_number_of_calls() {
        let mut faults = Faults::default();
        let mut rng = StdRng::seed_from_u64(1);
        faults.inject(Fault::reset_before().on(MODIFY).instance("i-1").times(1));
        assert!(faults.pick(MODIFY, &parameters("i-2"), &mut rng).is_none());
        assert!(faults.pick(Action::RebootInstance, &parameters("i-1"), &mut rng).is_none());
        assert!(faults.pick(MODIFY, &parameters("i-1"), &mut rng).is_some());
        assert!(faults.pick(MODIFY, &parameters("i-1"), &mut rng).is_none());
        assert!(faults.list().is_empty());
    }

    #[test]
    fn a_probability_is_kept_and_deterministic_for_a_seed() {
        let hits = |seed| {
            let mut faults = Faults::default();
            let mut rng = StdRng::seed_from_u64(seed);
            faults.inject(Fault::hang().probability(0.25));
            (0..1000).map(|_| faults.pick(MODIFY, &parameters("i-1"), &mut rng).is_some()).collect::<Vec<_>>()
        };
        assert_eq!(hits(7), hits(7));
        let share = hits(7).into_iter().filter(|hit| *hit).count();
        assert!((200..300).contains(&share), "{share} of 1000");
    }

    #[test]
    fn faults_are_written_in_json_as_the_documentation_shows() {
        let table = [
            (json!({"reply": "reset"}), Apply::Never),
            (json!({"reply": "reset", "apply": "now"}), Apply::Now),
            (
                json!({"reply": {"hang": {}}, "apply": {"late": {"afterMs": 5000}}}),
                Apply::Late { after: Duration::from_secs(5) },
            ),
            (
                json!({"action": "RebootInstance", "reply": {"error": {"status": 500, "code": "X"}}}),
                Apply::Never,
            ),
            (json!({"reply": {"throttled": {"retryAfterMs": 100}}, "remaining": 3}), Apply::Never),
            (json!({"reply": {"body": {"status": 200, "kind": "noRequestId"}}}), Apply::Now),
            (json!({"delayMs": 20, "requestId": "any text"}), Apply::Now),
        ];
        for (text, effect) in table {
            let fault: Fault = serde_json::from_value(text.clone()).unwrap();
            assert_eq!(fault.effect(), effect, "{text}");
            assert_eq!(
                serde_json::from_value::<Fault>(serde_json::to_value(&fault).unwrap()).unwrap(),
                fault
            );
        }
    }
}
