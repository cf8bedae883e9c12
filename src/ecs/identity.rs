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
    credentials::{Cache, Credentials, ProviderError, STALE},
    error::Error,
    sts::{CallerIdentity, Sts},
};
use crate::rotation::outcome::{Class, classify_code};

/// How long refused credentials rest: less than objects wait that were told so, and the first of them finds out.
const REST: Duration = Duration::from_secs(45);
/// How long to wait for credentials for a call that is no object's.
const CALL: Duration = Duration::from_secs(4);
/// How long a call may take that finds out, before another does.
const PROBE: Duration = Duration::from_secs(5);

/// x
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// x
    Known,
    /// x
    Refused,
    /// x
    Unknown,
}

/// An identity: the source of its credentials, and what the cloud said of them.
pub struct Identity {
    name: Box<str>,
    cache: Arc<Cache>,
    gate: Mutex<Gate>,
    account: OnceLock<Box<str>>,
    /// When it may be asked again which account that is; held by who asks.
    asking: tokio::sync::Mutex<Option<Instant>>,
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
        let (gate, account, asking) =
            (Mutex::new(Gate::Open), OnceLock::new(), tokio::sync::Mutex::default());
        Self { name: name.into(), cache, gate, account, asking }
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

    /// Finds out the account, where that is not known: one call for all who ask. After a failure it is not asked again
    /// for a while.
    pub async fn learn_account(&self, sts: &Sts) -> Standing {
        let mut again = self.asking.lock().await;
        if self.account.get().is_some() {
            return Standing::Known;
        }
        if again.is_some_and(|again| again > Instant::now()) {
            return Standing::Unknown;
        }
        match self.caller(sts).await {
            Ok(caller) => {
                self.account.set(caller.account.into()).ok();
                Standing::Known
            }
            Err(error) => {
                tracing::warn!(identity = self.name(), %error, "cannot tell which account this is");
                *again = Some(Instant::now() + REST);
                Standing::Refused
            }
        }
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
        let late = |_| ProviderError { provider: self.cache.provider(), problem: "no answer in time".into() };
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
            Err(Error::Api { code, http_status, .. }) => Some((code, *http_status)),
            // Nothing was said of the credentials.
            Err(_) => return,
        };
        let refusal = refusal.filter(|(code, status)| classify_code(code, *status) == Class::Credentials);
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
            Self::Closed { until, .. } | Self::Probing { until, .. } => now < *until + STALE,
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
    use super::*;

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
