//! The rate limiter of the process: finds the rate that the API allows, and shares it fairly.
//!
//! The API counts calls per account, region and action and per minute, over all callers of the account. So a program
//! that uses up the limit also blocks people at the console. The limiter never blocks a caller: it returns the time
//! to come back.
//!
//! A *route* is what the API counts together: one account, region and action. [`RateLimitKey`] names it. A route is
//! closed after a throttled reply, and open otherwise.
//!
//! | module | content |
//! |---|---|
//! | `estimate` | how many calls a minute the API allows |
//! | `pacing` | when the next call may begin |
//! | `fair_queue` | which requester makes it |
//! | `route_limiter` | pacing and queue of one route |
//! | `rates` | the ceilings that the user sets |
//! | `simulation` | tests against a model of the API's counter |
//!
//! Time is a parameter, in microseconds of the cloud's clock. Only this file has a clock and a lock.

mod estimate;
mod fair_queue;
mod pacing;
mod rates;
mod route_limiter;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::Clock;
pub use fair_queue::Requester;
pub use pacing::Permit;
pub use rates::{InvalidRate, Rates};
use route_limiter::RouteLimiter;

/// The actions whose calls are limited.
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
    /// All actions.
    pub const ALL: [Self; 3] = [Self::ModifyInstanceVncPasswd, Self::DescribeInstances, Self::RebootInstance];

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

/// Names a route: what the API counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RateLimitKey<'a> {
    /// The action.
    pub action: Action,
    /// An account, or an identity whose account is not known.
    pub scope: &'a str,
    /// The region.
    pub region: &'a str,
}

/// A snapshot of one route, for metrics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteStatus {
    /// The action.
    pub action: Action,
    /// An account, or an identity whose account is not known.
    pub scope: Box<str>,
    /// The region.
    pub region: Box<str>,
    /// Whether it is closed after a throttled reply.
    pub closed: bool,
    /// The rate in calls a minute; `None`: no limit.
    pub calls: Option<u32>,
    /// The length of the queue.
    pub waiting: usize,
}

/// Microseconds of the cloud's clock since 1970.
type Micros = i64;

const SECOND: Micros = 1_000_000;
/// The period over which the cloud counts.
#[cfg(test)]
const MINUTE: Micros = 60 * SECOND;

/// How a call ended, as far as it matters for the rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The reply was not throttled.
    Passed,
    /// The outcome is unknown and the reply does not ask to wait, or the call was not made. The rate stays.
    Lost,
    /// The reply was throttled. Holds how long it asks to wait, if it does.
    Throttled(Option<Duration>),
    /// The outcome is unknown, and the reply asks to wait this long.
    LostAndThrottled(Duration),
}

/// If the cloud's clock goes back by more than this, all stored times move with it.
const MAX_CLOCK_STEP_BACK: Micros = 5 * SECOND;

type OwnedKey = (Action, Box<str>, Box<str>);

#[derive(Debug)]
struct Routes {
    limiters: HashMap<OwnedKey, RouteLimiter>,
    /// The latest time that the cloud's clock has shown.
    latest: Micros,
}

/// The rate limiter. Forgets routes that have not been used for a while.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    clock: Clock,
    /// The length of the cloud's minute.
    minute: Micros,
    routes: Mutex<Routes>,
}

impl Limiter {
    /// A limiter with these ceilings. `minute`: the period over which the cloud counts, 60 s except in tests.
    #[must_use]
    pub fn new(rates: Rates, clock: Clock, minute: Duration) -> Self {
        let routes = Routes { limiters: HashMap::new(), latest: Micros::MIN };
        let minute = Micros::try_from(minute.as_micros()).unwrap_or(Micros::MAX).max(60);
        Self { rates, clock, minute, routes: Mutex::new(routes) }
    }

    /// When the requester may call; `None`: now. Changes nothing.
    #[must_use]
    pub fn next_slot(
        &self,
        key: RateLimitKey<'_>,
        requester: &Requester,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let cloud = self.cloud(now);
        let mut routes = self.routes_at(cloud);
        let limiter = routes.limiters.get_mut(&owned(key))?;
        limiter.next_slot(requester, cloud).map(|slot| local(slot, cloud, now))
    }

    /// Asks for a permit for one call. Report the end of the call by [`Limiter::complete`].
    ///
    /// # Errors
    /// The rate does not allow the call now. The requester is queued; the time is when to come back.
    pub fn admit(
        &self,
        key: RateLimitKey<'_>,
        requester: &Requester,
        now: Timestamp,
    ) -> Result<Permit, Timestamp> {
        let cloud = self.cloud(now);
        let admitted = self.with(key, cloud, |limiter| limiter.admit(requester, cloud));
        admitted.map_err(|slot| local(slot, cloud, now))
    }

    /// Queues a requester that cannot call now. Returns when to come back.
    pub fn enqueue(&self, key: RateLimitKey<'_>, requester: &Requester, now: Timestamp) -> Timestamp {
        let cloud = self.cloud(now);
        local(self.with(key, cloud, |limiter| limiter.enqueue(requester, cloud)), cloud, now)
    }

    /// Whether the requester is in the queue of this route.
    #[must_use]
    pub fn is_queued(&self, key: RateLimitKey<'_>, requester: &Requester) -> bool {
        self.routes().limiters.get(&owned(key)).is_some_and(|limiter| limiter.is_queued(requester))
    }

    /// Removes the requester from the queue of this route.
    pub fn withdraw(&self, key: RateLimitKey<'_>, requester: &Requester) {
        if let Some(limiter) = self.routes().limiters.get_mut(&owned(key)) {
            limiter.withdraw(requester);
        }
    }

    /// Removes the requester from all queues.
    pub fn forget(&self, requester: &Requester) {
        self.routes().limiters.values_mut().for_each(|limiter| limiter.withdraw(requester));
    }

    /// Records the end of a call. Returns when to retry if the reply closed the route. A throttled requester then
    /// goes first.
    pub fn complete(
        &self,
        key: RateLimitKey<'_>,
        requester: &Requester,
        permit: Permit,
        report: Report,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let cloud = self.cloud(now);
        let micros = |wait: Duration| Micros::try_from(wait.as_micros()).unwrap_or(Micros::MAX);
        let retry = self.with(key, cloud, |limiter| match report {
            Report::Passed => {
                limiter.pacing.passed(permit, cloud);
                None
            }
            Report::Lost => {
                limiter.pacing.lost(permit, cloud);
                None
            }
            Report::Throttled(wait) => Some(limiter.throttled(requester, permit, wait.map(micros), cloud)),
            Report::LostAndThrottled(wait) => {
                Some(limiter.pacing.throttled(permit, Some(micros(wait)), cloud))
            }
        });
        retry.map(|slot| local(slot, cloud, now))
    }

    /// Returns the queued requesters that can call now although they were given a later time: others left the queue,
    /// or the rate has risen. Call it about every second. Also forgets idle routes.
    #[must_use]
    pub fn notify(&self, now: Timestamp) -> Vec<Requester> {
        let cloud = self.cloud(now);
        let mut routes = self.routes_at(cloud);
        let ready = routes.limiters.values_mut().flat_map(|limiter| limiter.notify(cloud)).collect();
        routes.limiters.retain(|_, limiter| !limiter.is_idle(cloud));
        ready
    }

    /// The time between two calls at the current rate; `None`: no limit.
    #[must_use]
    pub fn spacing(&self, key: RateLimitKey<'_>, now: Timestamp) -> Option<Duration> {
        let cloud = self.cloud(now);
        let calls = match self.routes_at(cloud).limiters.get(&owned(key)) {
            Some(limiter) => limiter.pacing.calls(cloud),
            None => self.rates.of(key.action),
        };
        let minute = Duration::from_micros(self.minute.unsigned_abs());
        calls.map(|calls| minute / calls.max(1))
    }

    /// Snapshots of the recently used routes.
    #[must_use]
    pub fn statuses(&self, now: Timestamp) -> Vec<RouteStatus> {
        let cloud = self.cloud(now);
        let status = |((action, scope, region), limiter): (&OwnedKey, &RouteLimiter)| RouteStatus {
            action: *action,
            scope: scope.clone(),
            region: region.clone(),
            closed: limiter.pacing.is_closed(cloud),
            calls: limiter.pacing.calls(cloud),
            waiting: limiter.waiting(),
        };
        self.routes_at(cloud).limiters.iter().map(status).collect()
    }

    fn with<T>(
        &self,
        key: RateLimitKey<'_>,
        cloud: Micros,
        change: impl FnOnce(&mut RouteLimiter) -> T,
    ) -> T {
        let new = || RouteLimiter::new(self.rates.of(key.action), self.minute);
        change(self.routes_at(cloud).limiters.entry(owned(key)).or_insert_with(new))
    }

    /// The routes at a time of the cloud's clock. If that clock was set back, moves all stored times back with it, so
    /// that no route waits for hours.
    fn routes_at(&self, cloud: Micros) -> MutexGuard<'_, Routes> {
        let mut routes = self.routes();
        let back = cloud.saturating_sub(routes.latest);
        if routes.latest != Micros::MIN && back < -MAX_CLOCK_STEP_BACK {
            routes.limiters.values_mut().for_each(|limiter| limiter.set_back(back));
            routes.latest = cloud;
        }
        routes.latest = routes.latest.max(cloud);
        routes
    }

    fn routes(&self) -> MutexGuard<'_, Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time of the cloud's clock at a local time.
    fn cloud(&self, now: Timestamp) -> Micros {
        self.clock.at(now).as_microsecond()
    }
}

fn owned(RateLimitKey { action, scope, region }: RateLimitKey<'_>) -> OwnedKey {
    (action, scope.into(), region.into())
}

/// The local time at which the cloud's clock shows `at`, if it shows `cloud` at local time `now`.
fn local(at: Micros, cloud: Micros, now: Timestamp) -> Timestamp {
    now.checked_add(SignedDuration::from_micros(at.saturating_sub(cloud))).unwrap_or(Timestamp::MAX)
}
