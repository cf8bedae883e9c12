//! Keeps what the provider answered: asks anew in good time, once for all callers, and bears its failures.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use super::{Credentials, FailureKind, Provider, ProviderError};
use crate::Clock;

/// When they are asked for anew, as shares of the life that they have left when they come: about two thirds.
const RENEWAL: [f64; 2] = [0.62, 0.72];
/// How long credentials without an end are kept before the provider is asked anew, in seconds: the file that they are from
/// may have been edited.
const REREAD: [f64; 2] = [540.0, 660.0];
/// Longest time that a provider may take.
const FLIGHT: Duration = Duration::from_secs(20);
/// How long a failure is remembered: that, then twice as long each time up to the longest, less a jitter.
const INITIAL_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A failure that nobody has asked about for so long says nothing of now: whoever needs credentials asks every minute.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(300);

/// What a caller is given.
type Outcome = Result<Option<Arc<Credentials>>, ProviderError>;

/// The last credentials of a provider.
///
/// - One request to the provider is under way at most. It does not end when those who wait for it give up.
/// - Credentials are asked for anew when about two thirds of their life are over, while callers go on with the old ones. If
///   that fails they are served until they expire, by the cloud's clock.
/// - Failures, and "not configured", are remembered for 5 s doubling to a minute: many callers cause one request.
pub struct Cache(Arc<Inner>);

struct Inner {
    provider: Arc<dyn Provider>,
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    held: Option<Held>,
    failure: Option<Failure>,
    /// The request under way.
    flight: Option<watch::Receiver<Option<Outcome>>>,
    /// How often all was forgotten: an answer that was on its way meanwhile may be what was to be forgotten.
    forgotten: u64,
}

/// Credentials, and when to ask anew.
struct Held {
    credentials: Arc<Credentials>,
    renew_at: Timestamp,
    /// When these came first, by the cloud's clock.
    since: Timestamp,
}

/// How old the credentials at hand are. Times are by the cloud's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The provider that gave them.
    pub provider: &'static str,
    /// When they came.
    pub since: Timestamp,
    /// When they expire; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// The failures in a row.
struct Failure {
    outcome: Outcome,
    count: u32,
    until: Instant,
}

/// What a caller does next.
enum Next {
    Take(Outcome),
    Wait(watch::Receiver<Option<Outcome>>),
}

impl Cache {
    /// A cache in front of a provider. `clock` tells how much of the credentials' life is left.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, clock: Clock) -> Self {
        Self(Arc::new(Inner { provider, clock, state: Mutex::default() }))
    }

    /// The name of the provider that is asked.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.0.provider.name()
    }

    /// Credentials that are still good, else the provider's; `None` if it is not configured.
    ///
    /// Waits only where there are none. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// See [`Provider::credentials`]; also if that takes more than 20 s. An error of a moment ago counts as well.
    pub async fn get(&self) -> Result<Option<Arc<Credentials>>, ProviderError> {
        let next = self.0.next();
        let mut landing = match next {
            Next::Take(outcome) => return outcome,
            Next::Wait(landing) => landing,
        };
        let outcome = landing.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        // Nobody answers if the runtime is on its way down.
        outcome.unwrap_or_else(|| Err(self.0.unanswered("gave no answer")))
    }

    /// How old the credentials at hand are, where there are any that are good. Asks nobody: what nobody needs is not
    /// renewed, and expires.
    #[must_use]
    pub fn age(&self) -> Option<Age> {
        let now = self.0.clock.now();
        let state = self.0.state();
        let held = state.held.as_ref().filter(|held| held.credentials.is_usable(now));
        let Held { credentials, since, .. } = held?;
        let (provider, expires_at) = (credentials.provider(), credentials.expires_at());
        Some(Age { provider, since: *since, expires_at })
    }

    /// How often the provider gave nothing, in a row until now. Of what nobody asks for any more nothing is known.
    #[must_use]
    pub fn failures(&self) -> u32 {
        let state = self.0.state();
        let recent = state.failure.as_ref().filter(|failure| failure.until.elapsed() < STALE_AFTER);
        recent.map_or(0, |failure| failure.count)
    }

    /// Makes the next call ask the provider again, if these are still what it would be given; whether they were.
    #[allow(clippy::must_use_candidate, reason = "most callers forget, and do not care who was first")]
    pub fn forget(&self, used: &Arc<Credentials>) -> bool {
        let mut state = self.0.state();
        let held = state.holds(used);
        if held {
            state.forget();
        }
        held
    }

    /// Makes the next call ask the provider again.
    pub fn forget_all(&self) {
        self.0.state().forget();
    }

    /// Whether these are what the next call is given.
    #[must_use]
    pub fn holds(&self, used: &Arc<Credentials>) -> bool {
        self.0.state().holds(used)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unanswered(&self, problem: &str) -> ProviderError {
        ProviderError::new(self.provider.name(), FailureKind::Unanswered, problem)
    }

    /// Looks at what there is, and asks for what there is not.
    fn next(self: &Arc<Self>) -> Next {
        let now = self.clock.now();
        let mut state = self.state();
        let rested = state.failure.as_ref().is_none_or(|failure| failure.until <= Instant::now());
        if let Some(held) = state.held.as_ref().filter(|held| held.credentials.is_usable(now)) {
            let (credentials, due) = (Arc::clone(&held.credentials), held.renew_at <= now);
            if due && rested && state.flight.is_none() {
                self.take_off(&mut state);
            }
            return Next::Take(Ok(Some(credentials)));
        }
        match (&state.flight, &state.failure) {
            (Some(flight), _) => Next::Wait(flight.clone()),
            (None, Some(failure)) if !rested => Next::Take(failure.outcome.clone()),
            (None, _) => Next::Wait(self.take_off(&mut state)),
        }
    }

    /// Asks the provider, in a task of its own.
    fn take_off(self: &Arc<Self>, state: &mut State) -> watch::Receiver<Option<Outcome>> {
        let (sender, receiver) = watch::channel(None);
        state.flight = Some(receiver.clone());
        let (inner, forgotten) = (Arc::clone(self), state.forgotten);
        tokio::spawn(async move {
            let outcome = inner.ask().await;
            let outcome = inner.land(outcome, forgotten);
            sender.send_replace(Some(outcome));
        });
        receiver
    }

    async fn ask(&self) -> Result<Option<Credentials>, ProviderError> {
        let asking = timeout(FLIGHT, AssertUnwindSafe(self.provider.credentials()).catch_unwind());
        let answer = asking.await.map_err(|_| self.unanswered("no answer in time"))?;
        match answer.map_err(|_| self.unanswered("gave no answer"))? {
            Ok(Some(credentials)) if !credentials.is_usable(self.clock.now()) => {
                Err(self.unanswered("gave credentials that have expired already"))
            }
            answer => answer,
        }
    }

    /// Keeps an answer; what callers are given. `forgotten`: how often all was forgotten before it was asked for.
    fn land(&self, answer: Result<Option<Credentials>, ProviderError>, forgotten: u64) -> Outcome {
        let now = self.clock.now();
        let mut state = self.state();
        if state.forgotten != forgotten {
            // Those who waited are served; it was forgotten before it came.
            return answer.map(|credentials| credentials.map(Arc::new));
        }
        state.flight = None;
        let credentials = match answer {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return state.failed(Ok(None), now),
            Err(error) => return state.failed(Err(error), now),
        };
        state.failure = None;
        let same = state.held.take().filter(|held| held.credentials.is_same(&credentials));
        let (credentials, since) =
            same.map_or_else(|| (Arc::new(credentials), now), |held| (held.credentials, held.since));
        let renew_at = renewal(&credentials, now, rand::random());
        state.held = Some(Held { credentials: Arc::clone(&credentials), renew_at, since });
        Ok(Some(credentials))
    }
}

impl State {
    fn holds(&self, used: &Arc<Credentials>) -> bool {
        self.held.as_ref().is_some_and(|held| Arc::ptr_eq(&held.credentials, used))
    }

    fn forget(&mut self) {
        let forgotten = self.forgotten + 1;
        *self = Self { forgotten, ..Self::default() };
    }

    /// Remembers a failure for a while. What is still good stays.
    fn failed(&mut self, outcome: Outcome, now: Timestamp) -> Outcome {
        let count = self.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
        let until = Instant::now() + rest(count, rand::random());
        if let Some(held) = self.held.as_ref().filter(|held| held.credentials.is_usable(now)) {
            let provider = held.credentials.provider();
            let problem = outcome.as_ref().err().map(ToString::to_string);
            let problem = problem.as_deref().unwrap_or("no credentials are configured any more");
            tracing::warn!(
                provider,
                problem,
                "credentials were not renewed; the old ones are used until they expire"
            );
        }
        self.failure = Some(Failure { outcome: outcome.clone(), count, until });
        outcome
    }
}

/// When to renew the credentials. `jitter`: 0 to 1, so that not all processes renew at the same time.
fn renewal(credentials: &Credentials, now: Timestamp, jitter: f64) -> Timestamp {
    let seconds = match credentials.expires_at() {
        Some(end) => end.duration_since(now).as_secs_f64() * between(RENEWAL, jitter),
        None => between(REREAD, jitter),
    };
    let life = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO);
    now.saturating_add(life).unwrap_or(now)
}

/// How long the `count`th failure in a row is remembered; the first is number 1.
fn rest(count: u32, jitter: f64) -> Duration {
    let doubled = INITIAL_BACKOFF.saturating_mul(1 << count.saturating_sub(1).min(8));
    doubled.min(MAX_BACKOFF).mul_f64(between([0.8, 1.0], jitter))
}

fn between([from, to]: [f64; 2], jitter: f64) -> f64 {
    from + (to - from) * jitter
}

#[cfg(test)]
mod tests;
