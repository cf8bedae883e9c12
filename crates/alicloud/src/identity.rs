//! An identity: its credentials, its account, and a circuit breaker that stops calls with refused
//! credentials.
//!
//! All calls of an identity go through its circuit breaker. After the first refusal the credentials are
//! requested again. After a second refusal the breaker opens, and one probe call every 45 s checks whether
//! the cloud accepts the credentials again. So a revoked key costs about one call a minute, however many
//! objects use it.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, timeout_at};

use super::{
    credentials::{Cache, Credentials, FailureKind, ProviderError, STALE_AFTER},
    error::Error,
    sts::{CallerIdentity, Sts},
};

/// How long the breaker stays open. Shorter than the wait of objects with refused credentials, so that the
/// first of them sends the probe.
const OPEN_FOR: Duration = Duration::from_secs(45);
/// The time limit for credentials for `GetCallerIdentity`.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(4);
/// After this time without a result of a probe, another call probes.
const PROBE_TIMEOUT: Duration = Duration::from_secs(5);

/// An identity: its credentials, and what the cloud said about them.
pub struct Identity {
    name: Box<str>,
    principal: Arc<str>,
    cache: Arc<Cache>,
    breaker: Mutex<CircuitBreaker>,
    account: OnceLock<Box<str>>,
    /// Held during the lookup of the account.
    lookup: tokio::sync::Mutex<()>,
    /// The result of the last failed lookup, and when to look up again.
    failed_lookup: Mutex<Option<(AccountStatus, Instant)>>,
}

/// What is known about the account of an identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// The account is known.
    Known,
    /// The cloud or the provider of credentials refused the identity, or it has no credentials.
    Refused,
    /// There was no recent lookup, or it had no usable result.
    Unknown,
    /// No lookup is made: there were too many, because the credentials keep changing.
    NotAsked,
}

/// The circuit breaker of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
enum CircuitBreaker {
    /// Calls pass: the cloud accepted the credentials, or they were not used yet.
    Closed,
    /// Calls pass: the cloud refused credentials, and their replacement was not used yet.
    Suspect,
    /// Calls fail: the cloud refused the replacement too.
    Open { refusal: Refusal, until: Instant },
    /// One probe call is in flight. All others fail.
    HalfOpen { refusal: Refusal, until: Instant },
}

/// The reply that refused the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    code: String,
    http_status: u16,
}

/// The credentials for one call. Report the result with [`CallCredentials::record`].
pub(super) struct CallCredentials<'a> {
    identity: &'a Identity,
    credentials: Arc<Credentials>,
}

impl Identity {
    /// An identity. `name` is its name in logs: `operator`, or namespace and name of a Secret.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, cache: Arc<Cache>) -> Self {
        let (breaker, account) = (Mutex::new(CircuitBreaker::Closed), OnceLock::new());
        let (lookup, failed_lookup) = (tokio::sync::Mutex::default(), Mutex::default());
        let name: Box<str> = name.into();
        let principal = Arc::from(&*name);
        Self { name, principal, cache, breaker, account, lookup, failed_lookup }
    }

    /// Sets the access key id or role of the identity.
    #[must_use]
    pub fn with_principal(self, principal: &str) -> Self {
        Self { principal: principal.into(), ..self }
    }

    /// The access key id or role of the identity; its name if none was set.
    #[must_use]
    pub fn principal(&self) -> &Arc<str> {
        &self.principal
    }

    /// The name in logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account, if it is known.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.account.get().map(|account| &**account)
    }

    /// The scope of the rate limit: the account or, if it is not known, the name of the identity.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.account().unwrap_or(&self.name)
    }

    /// What is known about the account. Makes no call. The result of a failed lookup counts for 45 s; after
    /// that it is [`AccountStatus::Unknown`] until the next lookup.
    #[must_use]
    pub fn account_status(&self) -> AccountStatus {
        self.last_lookup(Instant::now()).unwrap_or(AccountStatus::Unknown)
    }

    /// Looks up the account, unless it is known. Concurrent callers share one call. For 45 s after a failure
    /// it returns the same result without a call. `may_call` is evaluated only before a call.
    #[allow(clippy::must_use_candidate, reason = "many callers read the account afterwards")]
    pub async fn resolve_account(&self, sts: &Sts, may_call: impl FnOnce() -> bool) -> AccountStatus {
        let _lookup = self.lookup.lock().await;
        if let Some(account_status) = self.last_lookup(Instant::now()) {
            return account_status;
        }
        if !may_call() {
            return AccountStatus::NotAsked;
        }
        match self.caller(sts).await {
            Ok(caller) => {
                self.account.set(caller.account.into()).ok();
                AccountStatus::Known
            }
            Err(error) => {
                tracing::warn!(identity = self.name(), %error, "cannot tell which account this is");
                let account_status =
                    if error.refuses_identity() { AccountStatus::Refused } else { AccountStatus::Unknown };
                *self.failed_lookup() = Some((account_status, Instant::now() + OPEN_FOR));
                account_status
            }
        }
    }

    /// The result of the last lookup; `None`: a lookup is due.
    fn last_lookup(&self, now: Instant) -> Option<AccountStatus> {
        if self.account.get().is_some() {
            return Some(AccountStatus::Known);
        }
        self.failed_lookup().filter(|(_, until)| *until > now).map(|(account_status, _)| account_status)
    }

    fn failed_lookup(&self) -> MutexGuard<'_, Option<(AccountStatus, Instant)>> {
        self.failed_lookup.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks STS for the identity (`GetCallerIdentity`).
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn caller(&self, sts: &Sts) -> Result<CallerIdentity, Error> {
        let call_credentials =
            self.credentials_for_call("GetCallerIdentity", Instant::now() + CREDENTIALS_TIMEOUT).await?;
        let result = sts.get_caller_identity(call_credentials.get()).await;
        call_credentials.record(&result);
        result
    }

    /// Whether the cloud has recently refused the credentials and their replacement.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.breaker().is_refused(Instant::now())
    }

    /// The cache of its credentials.
    #[must_use]
    pub fn credentials(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Credentials for a call. `deadline`: how long to wait for them.
    pub(super) async fn credentials_for_call(
        &self,
        action: &'static str,
        deadline: Instant,
    ) -> Result<CallCredentials<'_>, Error> {
        let pass = self.breaker().begin(Instant::now());
        match pass {
            Ok(Pass::Normal) => {}
            // The cached credentials are the refused ones.
            Ok(Pass::Probe) => self.cache.forget_all(),
            Err(Refusal { code, http_status }) => {
                return Err(Error::CircuitOpen { action, code, http_status });
            }
        }
        let late =
            |_| ProviderError::new(self.cache.provider(), FailureKind::Unanswered, "no answer in time");
        let credentials = timeout_at(deadline, self.cache.get()).await.map_err(late)??;
        Ok(CallCredentials { identity: self, credentials: credentials.ok_or(Error::NoCredentials)? })
    }

    fn breaker(&self) -> MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CallCredentials<'_> {
    pub(super) fn get(&self) -> &Credentials {
        &self.credentials
    }

    /// Records the result of the call in the circuit breaker. Ignores the result if the credentials have been
    /// replaced since.
    pub(super) fn record<T>(self, result: &Result<T, Error>) {
        let Self { identity, credentials } = self;
        let refusal = match result {
            Ok(_) => None,
            Err(error @ Error::Api { code, http_status, .. }) => {
                error.refuses_credentials().then_some((code, *http_status))
            }
            // The result says nothing about the credentials.
            Err(_) => return,
        };
        match refusal {
            Some((code, http_status)) if identity.cache.forget(&credentials) => {
                let refusal = Refusal { code: code.clone(), http_status };
                identity.breaker().refused(refusal, Instant::now());
            }
            None if identity.cache.holds(&credentials) => *identity.breaker() = CircuitBreaker::Closed,
            _ => {}
        }
    }
}

/// How the breaker lets a call pass.
#[derive(Debug, PartialEq, Eq)]
enum Pass {
    /// With the cached credentials.
    Normal,
    /// With new credentials, to probe whether the cloud accepts them.
    Probe,
}

impl CircuitBreaker {
    fn begin(&mut self, now: Instant) -> Result<Pass, Refusal> {
        match self {
            Self::Closed | Self::Suspect => Ok(Pass::Normal),
            Self::Open { refusal, until } | Self::HalfOpen { refusal, until } if *until > now => {
                Err(refusal.clone())
            }
            Self::Open { refusal, .. } | Self::HalfOpen { refusal, .. } => {
                *self = Self::HalfOpen { refusal: refusal.clone(), until: now + PROBE_TIMEOUT };
                Ok(Pass::Probe)
            }
        }
    }

    fn is_refused(&self, now: Instant) -> bool {
        match self {
            Self::Closed | Self::Suspect => false,
            Self::Open { until, .. } | Self::HalfOpen { until, .. } => now < *until + STALE_AFTER,
        }
    }

    /// The cloud refused the current credentials.
    fn refused(&mut self, refusal: Refusal, now: Instant) {
        *self = match self {
            Self::Closed => Self::Suspect,
            Self::Suspect | Self::Open { .. } | Self::HalfOpen { .. } => {
                Self::Open { refusal, until: now + OPEN_FOR }
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt, future::BoxFuture};
    use jiff::Timestamp;

    use super::*;
    use crate::{
        clock::Clock,
        credentials::{
            Provider,
            test_support::{context, given, sts_refusal},
        },
        test_server::{Act, Server, http},
    };

    /// A provider with a fixed result.
    struct Fixed(Result<Option<Credentials>, ProviderError>);

    impl Provider for Fixed {
        fn name(&self) -> &'static str {
            "fixed"
        }

        fn credentials(&self) -> BoxFuture<'_, Result<Option<Credentials>, ProviderError>> {
            std::future::ready(self.0.clone()).boxed()
        }
    }

    fn identity(answer: Result<Option<Credentials>, ProviderError>) -> Identity {
        Identity::new("a/b", Arc::new(Cache::new(Arc::new(Fixed(answer)), Clock::new(Timestamp::now))))
    }

    #[tokio::test]
    async fn a_failed_account_lookup_counts_for_a_while() {
        let key = || Ok(Some(given("LTAI5tExample")));
        let failed = |failure| Err(ProviderError::new("fixed", failure, "broken"));
        let caller =
            r#"{"RequestId":"A-1","AccountId":"1234567890123456","Arn":"a","IdentityType":"RAMUser"}"#;
        let refusal = |code: &str| vec![Act::Send(sts_refusal(code))];
        let table = [
            (key(), vec![Act::Send(http(200, "", caller))], AccountStatus::Known),
            (key(), refusal("InvalidAccessKeyId.NotFound"), AccountStatus::Refused),
            (key(), refusal("NoPermission"), AccountStatus::Refused),
            (key(), refusal("Throttling.User"), AccountStatus::Unknown),
            (key(), refusal("SomethingNew"), AccountStatus::Unknown),
            (key(), refusal("Zq7xK2mWp9Lr4t"), AccountStatus::Unknown),
            (key(), vec![Act::Send(http(503, "", ""))], AccountStatus::Unknown),
            (key(), vec![Act::Reset(String::new())], AccountStatus::Unknown),
            (Ok(None), vec![], AccountStatus::Refused),
            (failed(FailureKind::Refused), vec![], AccountStatus::Refused),
            (failed(FailureKind::Unanswered), vec![], AccountStatus::Unknown),
        ];
        for (number, (answer, acts, expected)) in table.into_iter().enumerate() {
            let calls = acts.len();
            let server = Server::start(acts).await;
            let (identity, sts) = (identity(answer), context(&server.url()).sts);
            assert_eq!(identity.account_status(), AccountStatus::Unknown, "row {number}: no lookup yet");
            for _ in 0..3 {
                assert_eq!(identity.resolve_account(&sts, || true).await, expected, "row {number}");
                assert_eq!(identity.account_status(), expected, "row {number}");
            }
            assert_eq!(server.requests().len(), calls, "row {number}: one call");
            assert_eq!(identity.account().is_some(), expected == AccountStatus::Known, "row {number}");
            let later = Instant::now() + OPEN_FOR;
            assert_eq!(
                identity.last_lookup(later),
                Some(expected).filter(|known| *known == AccountStatus::Known)
            );
        }
    }

    fn refusal() -> Refusal {
        Refusal { code: "InvalidAccessKeyId.NotFound".to_owned(), http_status: 404 }
    }

    #[test]
    fn after_two_refusals_the_breaker_opens_and_then_one_call_probes() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut breaker = CircuitBreaker::Closed;
        breaker.refused(refusal(), at(0));
        assert_eq!(breaker.begin(at(0)), Ok(Pass::Normal), "once more immediately");
        assert!(!breaker.is_refused(at(0)));
        breaker.refused(refusal(), at(1));
        assert!(breaker.is_refused(at(1)) && breaker.is_refused(at(46)));
        assert!(!breaker.is_refused(at(346)), "no call for a long time");
        assert_eq!(breaker.begin(at(1)), Err(refusal()));
        assert_eq!(breaker.begin(at(45)), Err(refusal()));
        assert_eq!(breaker.begin(at(46)), Ok(Pass::Probe));
        assert_eq!(breaker.begin(at(47)), Err(refusal()), "one call probes");
        assert_eq!(breaker.begin(at(51)), Ok(Pass::Probe), "the probe was lost");
        breaker.refused(refusal(), at(52));
        assert_eq!(breaker.begin(at(96)), Err(refusal()));
        assert_eq!(breaker.begin(at(97)), Ok(Pass::Probe));
    }
}
