//! Caches the credentials of a provider: renews them in time, shares one request between all callers, and
//! backs off after failures.

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

/// When to renew, as a range of shares of the remaining lifetime: about two thirds.
const RENEWAL: [f64; 2] = [0.62, 0.72];
/// How long credentials without expiry are kept, in seconds. Then the provider is asked again, because their
/// file may have changed.
const REREAD_SECONDS: [f64; 2] = [540.0, 660.0];
/// The time limit for a provider.
const PROVIDER_TIMEOUT: Duration = Duration::from_secs(20);
/// The backoff after a failure: doubles with each failure up to the maximum, less a jitter.
const INITIAL_BACKOFF: Duration = Duration::from_secs(5);
const MAX_BACKOFF: Duration = Duration::from_secs(60);

/// A failure this old says nothing about the present. Callers that need credentials ask every minute.
pub(crate) const STALE_AFTER: Duration = Duration::from_secs(300);

/// The result for a caller.
type Outcome = Result<Option<Arc<Credentials>>, ProviderError>;

/// Caches the credentials of one provider.
///
/// - At most one request to the provider is in request. It continues when its callers give up.
/// - Credentials are renewed after about two thirds of their lifetime, while callers use the old ones. If that fails,
///   the old ones are used until they expire, by the cloud's clock.
/// - A failure, or "not configured", is cached for 5 s, doubling up to a minute.
pub struct Cache(Arc<Inner>);

struct Inner {
    provider: Arc<dyn Provider>,
    clock: Clock,
    state: Mutex<CacheState>,
}

#[derive(Default)]
struct CacheState {
    entry: Option<Entry>,
    failure: Option<Failure>,
    /// The request in request.
    request: Option<watch::Receiver<Option<Outcome>>>,
    /// The number of invalidations. The result of a request that was in request during one is not cached.
    invalidations: u64,
}

/// Cached credentials, and when to renew them.
struct Entry {
    credentials: Arc<Credentials>,
    renew_at: Timestamp,
    /// When they were first returned, by the cloud's clock.
    since: Timestamp,
}

/// The age of the cached credentials. Times are by the cloud's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Age {
    /// The provider that returned them.
    pub provider: &'static str,
    /// When they were first returned.
    pub since: Timestamp,
    /// The expiry; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// Consecutive failures.
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
    /// A cache of this provider. `clock`: decides when credentials expire.
    #[must_use]
    pub fn new(provider: Arc<dyn Provider>, clock: Clock) -> Self {
        Self(Arc::new(Inner { provider, clock, state: Mutex::default() }))
    }

    /// The name of the provider.
    #[must_use]
    pub fn provider(&self) -> &'static str {
        self.0.provider.name()
    }

    /// The cached credentials if they are usable, else those of the provider; `None` if it is not configured.
    ///
    /// Waits only if there are no usable ones. Call it within a tokio runtime.
    ///
    /// # Errors
    /// See [`Provider::credentials`]. Also if the provider takes more than 20 s. A cached failure is returned
    /// again during its backoff.
    pub async fn get(&self) -> Result<Option<Arc<Credentials>>, ProviderError> {
        let next = self.0.next();
        let mut request = match next {
            Next::Take(outcome) => return outcome,
            Next::Wait(request) => request,
        };
        let outcome = request.wait_for(Option::is_some).await;
        let outcome = outcome.ok().and_then(|outcome| outcome.clone());
        // The sender is dropped when the runtime shuts down.
        outcome.unwrap_or_else(|| Err(self.0.unanswered("gave no answer")))
    }

    /// The age of the cached credentials, if they are usable. Makes no request, so unused credentials expire.
    #[must_use]
    pub fn age(&self) -> Option<Age> {
        let now = self.0.clock.now();
        let state = self.0.state();
        let entry = state.entry.as_ref().filter(|entry| entry.credentials.is_usable(now));
        let Entry { credentials, since, .. } = entry?;
        let (provider, expires_at) = (credentials.provider(), credentials.expires_at());
        Some(Age { provider, since: *since, expires_at })
    }

    /// The number of consecutive failures of the provider; 0 if the last one is stale.
    #[must_use]
    pub fn failures(&self) -> u32 {
        let state = self.0.state();
        let recent = state.failure.as_ref().filter(|failure| failure.until.elapsed() < STALE_AFTER);
        recent.map_or(0, |failure| failure.count)
    }

    /// Drops the cached credentials if they are these. Returns whether they were.
    #[allow(clippy::must_use_candidate, reason = "most callers forget, and do not care who was first")]
    pub fn forget(&self, used: &Arc<Credentials>) -> bool {
        let mut state = self.0.state();
        let entry = state.holds(used);
        if entry {
            state.invalidate();
        }
        entry
    }

    /// Drops the cached credentials and failures.
    pub fn forget_all(&self) {
        self.0.state().invalidate();
    }

    /// Whether these are the cached credentials.
    #[must_use]
    pub fn holds(&self, used: &Arc<Credentials>) -> bool {
        self.0.state().holds(used)
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, CacheState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unanswered(&self, problem: &str) -> ProviderError {
        ProviderError::new(self.provider.name(), FailureKind::Unanswered, problem)
    }

    /// Returns the cached result, or starts a request if one is needed.
    fn next(self: &Arc<Self>) -> Next {
        let now = self.clock.now();
        let mut state = self.state();
        let backoff_over = state.failure.as_ref().is_none_or(|failure| failure.until <= Instant::now());
        if let Some(entry) = state.entry.as_ref().filter(|entry| entry.credentials.is_usable(now)) {
            let (credentials, due) = (Arc::clone(&entry.credentials), entry.renew_at <= now);
            if due && backoff_over && state.request.is_none() {
                self.start_request(&mut state);
            }
            return Next::Take(Ok(Some(credentials)));
        }
        match (&state.request, &state.failure) {
            (Some(request), _) => Next::Wait(request.clone()),
            (None, Some(failure)) if !backoff_over => Next::Take(failure.outcome.clone()),
            (None, _) => Next::Wait(self.start_request(&mut state)),
        }
    }

    /// Starts a request to the provider in its own task.
    fn start_request(self: &Arc<Self>, state: &mut CacheState) -> watch::Receiver<Option<Outcome>> {
        let (sender, receiver) = watch::channel(None);
        state.request = Some(receiver.clone());
        let (inner, invalidations) = (Arc::clone(self), state.invalidations);
        tokio::spawn(async move {
            let outcome = inner.ask().await;
            let outcome = inner.finish_request(outcome, invalidations);
            sender.send_replace(Some(outcome));
        });
        receiver
    }

    async fn ask(&self) -> Result<Option<Credentials>, ProviderError> {
        let asking = timeout(PROVIDER_TIMEOUT, AssertUnwindSafe(self.provider.credentials()).catch_unwind());
        let answer = asking.await.map_err(|_| self.unanswered("no answer in time"))?;
        match answer.map_err(|_| self.unanswered("gave no answer"))? {
            Ok(Some(credentials)) if !credentials.is_usable(self.clock.now()) => {
                Err(self.unanswered("gave credentials that have expired already"))
            }
            answer => answer,
        }
    }

    /// Caches a result, and returns the result for the callers. `invalidations`: their number when the
    /// request was started.
    fn finish_request(
        &self,
        answer: Result<Option<Credentials>, ProviderError>,
        invalidations: u64,
    ) -> Outcome {
        let now = self.clock.now();
        let mut state = self.state();
        if state.invalidations != invalidations {
            // Invalidated during the request: serve the waiting callers, and do not cache.
            return answer.map(|credentials| credentials.map(Arc::new));
        }
        state.request = None;
        let credentials = match answer {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return state.failed(Ok(None), now),
            Err(error) => return state.failed(Err(error), now),
        };
        state.failure = None;
        let same = state.entry.take().filter(|entry| entry.credentials.is_same(&credentials));
        let (credentials, since) =
            same.map_or_else(|| (Arc::new(credentials), now), |entry| (entry.credentials, entry.since));
        let renew_at = renewal(&credentials, now, rand::random());
        state.entry = Some(Entry { credentials: Arc::clone(&credentials), renew_at, since });
        Ok(Some(credentials))
    }
}

impl CacheState {
    fn holds(&self, used: &Arc<Credentials>) -> bool {
        self.entry.as_ref().is_some_and(|entry| Arc::ptr_eq(&entry.credentials, used))
    }

    fn invalidate(&mut self) {
        let invalidations = self.invalidations + 1;
        *self = Self { invalidations, ..Self::default() };
    }

    /// Records a failure. Usable credentials stay cached.
    fn failed(&mut self, outcome: Outcome, now: Timestamp) -> Outcome {
        let count = self.failure.as_ref().map_or(0, |failure| failure.count).saturating_add(1);
        let until = Instant::now() + backoff(count, rand::random());
        if let Some(entry) = self.entry.as_ref().filter(|entry| entry.credentials.is_usable(now)) {
            let provider = entry.credentials.provider();
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
        None => between(REREAD_SECONDS, jitter),
    };
    let life = SignedDuration::try_from_secs_f64(seconds).unwrap_or(SignedDuration::ZERO);
    now.saturating_add(life).unwrap_or(now)
}

/// The backoff after the `count`th consecutive failure; the first is 1.
fn backoff(count: u32, jitter: f64) -> Duration {
    let doubled = INITIAL_BACKOFF.saturating_mul(1 << count.saturating_sub(1).min(8));
    doubled.min(MAX_BACKOFF).mul_f64(between([0.8, 1.0], jitter))
}

fn between([from, to]: [f64; 2], jitter: f64) -> f64 {
    from + (to - from) * jitter
}

#[cfg(test)]
mod tests;
