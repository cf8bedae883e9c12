//! Who calls, and whether the cloud takes that: credentials that are refused are asked for anew once, and then rest.
//!
//! All calls under one identity go through here. So a key that has been revoked costs a call a minute, however many
//! objects use it, and the first call that is taken again lets all others through.

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

/// How long refused credentials rest: less than objects wait that were told so, and the first of them finds out.
const REST: Duration = Duration::from_secs(45);
/// How long to wait for credentials for a call that is no object's.
const CALL: Duration = Duration::from_secs(4);
/// How long a call may take that finds out, before another does.
const PROBE: Duration = Duration::from_secs(5);

/// An identity: the source of its credentials, and what the cloud said of them.
pub struct Identity {
    name: Box<str>,
    principal: Arc<str>,
    cache: Arc<Cache>,
    gate: Mutex<Gate>,
    account: OnceLock<Box<str>>,
    /// Held while somebody asks which account that is.
    asking: tokio::sync::Mutex<()>,
    /// The result of the last failure to learn the account, and when to ask again.
    unlearned: Mutex<Option<(AccountStatus, Instant)>>,
}

/// What is known of an identity's account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountStatus {
    /// The account is known.
    Known,
    /// The cloud or the provider of credentials refused the identity, or it has no credentials.
    Refused,
    /// The account was not asked for lately, or there was no usable answer.
    Unknown,
    /// The account is not asked for: that was done too often, because the credentials keep changing.
    NotAsked,
}

/// What the cloud said last of the credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Gate {
    /// It took them, or was not asked yet.
    Open,
    /// It refused some; those asked for since were not tried yet.
    Doubted,
    /// It refused those as well.
    Closed { refusal: Refusal, until: Instant },
    /// One call is under way to find out.
    Probing { refusal: Refusal, until: Instant },
}

/// A refusal of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Refusal {
    code: String,
    http_status: u16,
}

/// Credentials for one call.
pub(super) struct Admitted<'a> {
    identity: &'a Identity,
    credentials: Arc<Credentials>,
}

impl Identity {
    /// An identity by the name under which logs speak of it: `operator`, or namespace and name of a Secret.
    #[must_use]
    pub fn new(name: impl Into<Box<str>>, cache: Arc<Cache>) -> Self {
        let (gate, account) = (Mutex::new(Gate::Open), OnceLock::new());
        let (asking, unlearned) = (tokio::sync::Mutex::default(), Mutex::default());
        let name: Box<str> = name.into();
        let principal = Arc::from(&*name);
        Self { name, principal, cache, gate, account, asking, unlearned }
    }

    /// The same, with the access key id or the role that it stands for.
    #[must_use]
    pub fn with_principal(self, principal: &str) -> Self {
        Self { principal: principal.into(), ..self }
    }

    /// The access key id or the role that it stands for; its name where none was given.
    #[must_use]
    pub fn principal(&self) -> &Arc<str> {
        &self.principal
    }

    /// Its name in logs.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The account that it belongs to, where that is known.
    #[must_use]
    pub fn account(&self) -> Option<&str> {
        self.account.get().map(|account| &**account)
    }

    /// Whose calls the cloud counts together with this one's: the account's, or where that is not known the identity's.
    #[must_use]
    pub fn scope(&self) -> &str {
        self.account().unwrap_or(&self.name)
    }

    /// What is known of its account. Calls nobody. A failure of [`Identity::resolve_account`] counts for 45 s;
    /// after that it is [`AccountStatus::Unknown`] until the account is asked for again.
    #[must_use]
    pub fn account_status(&self) -> AccountStatus {
        self.learned(Instant::now()).unwrap_or(AccountStatus::Unknown)
    }

    /// Asks the cloud for the account, unless it is known. Callers at the same time share one call. For 45 s
    /// after a failure it returns the same result and makes no call. `may_call` is asked before each call, and only then.
    #[allow(clippy::must_use_candidate, reason = "many callers read the account afterwards")]
    pub async fn resolve_account(&self, sts: &Sts, may_call: impl FnOnce() -> bool) -> AccountStatus {
        let _asking = self.asking.lock().await;
        if let Some(account_status) = self.learned(Instant::now()) {
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
                *self.unlearned() = Some((account_status, Instant::now() + REST));
                account_status
            }
        }
    }

    /// The result of the last call; `None`: time for another one.
    fn learned(&self, now: Instant) -> Option<AccountStatus> {
        if self.account.get().is_some() {
            return Some(AccountStatus::Known);
        }
        self.unlearned().filter(|(_, until)| *until > now).map(|(account_status, _)| account_status)
    }

    fn unlearned(&self) -> MutexGuard<'_, Option<(AccountStatus, Instant)>> {
        self.unlearned.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the cloud who this is (`GetCallerIdentity`).
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn caller(&self, sts: &Sts) -> Result<CallerIdentity, Error> {
        let admitted = self.admit("GetCallerIdentity", Instant::now() + CALL).await?;
        let result = sts.get_caller_identity(admitted.credentials()).await;
        admitted.learn(&result);
        result
    }

    /// Whether the cloud refused its credentials of late, and the ones that were asked for since.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.gate().is_refused(Instant::now())
    }

    /// The source of its credentials.
    #[must_use]
    pub fn credentials(&self) -> &Arc<Cache> {
        &self.cache
    }

    /// Credentials for a call that ends at the deadline.
    pub(super) async fn admit(&self, action: &'static str, deadline: Instant) -> Result<Admitted<'_>, Error> {
        let begun = self.gate().begin(Instant::now());
        match begun {
            Ok(Begun::AsEver) => {}
            // Whatever was at hand is what was refused.
            Ok(Begun::Probe) => self.cache.forget_all(),
            Err(Refusal { code, http_status }) => {
                return Err(Error::CredentialsRest { action, code, http_status });
            }
        }
        let late =
            |_| ProviderError::new(self.cache.provider(), FailureKind::Unanswered, "no answer in time");
        let credentials = timeout_at(deadline, self.cache.get()).await.map_err(late)??;
        Ok(Admitted { identity: self, credentials: credentials.ok_or(Error::NoCredentials)? })
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Admitted<'_> {
    pub(super) fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// Learns from the outcome of the call. Credentials that have been replaced meanwhile tell nothing.
    pub(super) fn learn<T>(self, result: &Result<T, Error>) {
        let Self { identity, credentials } = self;
        let refusal = match result {
            Ok(_) => None,
            Err(error @ Error::Api { code, http_status, .. }) => {
                error.refuses_credentials().then_some((code, *http_status))
            }
            // Nothing was said of the credentials.
            Err(_) => return,
        };
        match refusal {
            Some((code, http_status)) if identity.cache.forget(&credentials) => {
                let refusal = Refusal { code: code.clone(), http_status };
                identity.gate().refused(refusal, Instant::now());
            }
            None if identity.cache.holds(&credentials) => *identity.gate() = Gate::Open,
            _ => {}
        }
    }
}

/// How a call begins.
#[derive(Debug, PartialEq, Eq)]
enum Begun {
    /// With the credentials at hand.
    AsEver,
    /// With new ones: it finds out whether they are taken.
    Probe,
}

impl Gate {
    fn begin(&mut self, now: Instant) -> Result<Begun, Refusal> {
        match self {
            Self::Open | Self::Doubted => Ok(Begun::AsEver),
            Self::Closed { refusal, until } | Self::Probing { refusal, until } if *until > now => {
                Err(refusal.clone())
            }
            Self::Closed { refusal, .. } | Self::Probing { refusal, .. } => {
                *self = Self::Probing { refusal: refusal.clone(), until: now + PROBE };
                Ok(Begun::Probe)
            }
        }
    }

    fn is_refused(&self, now: Instant) -> bool {
        match self {
            Self::Open | Self::Doubted => false,
            Self::Closed { until, .. } | Self::Probing { until, .. } => now < *until + STALE_AFTER,
        }
    }

    /// The credentials at hand were refused.
    fn refused(&mut self, refusal: Refusal, now: Instant) {
        *self = match self {
            Self::Open => Self::Doubted,
            Self::Doubted | Self::Closed { .. } | Self::Probing { .. } => {
                Self::Closed { refusal, until: now + REST }
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

    /// Gives always the same.
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
    async fn an_account_that_cannot_be_learned_is_refused_or_unknown_for_a_while() {
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
            assert_eq!(identity.account_status(), AccountStatus::Unknown, "row {number}: nobody was asked");
            for _ in 0..3 {
                assert_eq!(identity.resolve_account(&sts, || true).await, expected, "row {number}");
                assert_eq!(identity.account_status(), expected, "row {number}");
            }
            assert_eq!(server.requests().len(), calls, "row {number}: asked once");
            assert_eq!(identity.account().is_some(), expected == AccountStatus::Known, "row {number}");
            let later = Instant::now() + REST;
            assert_eq!(
                identity.learned(later),
                Some(expected).filter(|known| *known == AccountStatus::Known)
            );
        }
    }

    fn refusal() -> Refusal {
        Refusal { code: "InvalidAccessKeyId.NotFound".to_owned(), http_status: 404 }
    }

    #[test]
    fn after_two_refusals_the_credentials_rest_and_then_one_call_finds_out() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut gate = Gate::Open;
        gate.refused(refusal(), at(0));
        assert_eq!(gate.begin(at(0)), Ok(Begun::AsEver), "once more at once");
        assert!(!gate.is_refused(at(0)));
        gate.refused(refusal(), at(1));
        assert!(gate.is_refused(at(1)) && gate.is_refused(at(46)));
        assert!(!gate.is_refused(at(346)), "nobody asks any more");
        assert_eq!(gate.begin(at(1)), Err(refusal()));
        assert_eq!(gate.begin(at(45)), Err(refusal()));
        assert_eq!(gate.begin(at(46)), Ok(Begun::Probe));
        assert_eq!(gate.begin(at(47)), Err(refusal()), "one call finds out");
        assert_eq!(gate.begin(at(51)), Ok(Begun::Probe), "which was lost");
        gate.refused(refusal(), at(52));
        assert_eq!(gate.begin(at(96)), Err(refusal()));
        assert_eq!(gate.begin(at(97)), Ok(Begun::Probe));
    }
}
