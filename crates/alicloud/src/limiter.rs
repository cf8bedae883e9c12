//! One limiter for everything in the process: adapts to what the API lets through, and shares it out fairly.
//!
//! The API counts per account, region and action, by the minute, and sums over everybody: greed would also block
//! the people at the console. The limiter never holds a caller, it tells when to come back.
//!
//! | file | what lives there |
//! |---|---|
//! | `estimate` | how many calls a minute pass |
//! | `pace` | when the next call may begin |
//! | `turns` | whose call that is |
//! | `gate` | the two together, for one account, region and action |
//! | `rates` | the ceilings that the user sets |
//! | `simulation` | all of it against a model of the cloud's counter |
//!
//! None of them knows a clock: time is a parameter, in microseconds of the cloud's clock. Only this file is shared.

mod estimate;
mod gate;
mod pace;
mod rates;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod turns;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};

use super::Clock;
use gate::Gate;
pub use pace::Ticket;
pub use rates::{InvalidRate, Rates};
pub use turns::Requester;

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
    /// All of them.
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

/// What the API counts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Route<'a> {
    /// The action.
    pub action: Action,
    /// An account, or an identity whose account is not known.
    pub scope: &'a str,
    /// The region.
    pub region: &'a str,
}

/// What one gate is like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// The action.
    pub action: Action,
    /// An account, or an identity whose account is not known.
    pub scope: Box<str>,
    /// The region.
    pub region: Box<str>,
    /// Whether it is closed after a throttled reply.
    pub closed: bool,
    /// Calls a minute; `None`: it is not limited.
    pub calls: Option<u32>,
    /// How many wait for a call.
    pub waiting: usize,
}

/// Microseconds of the cloud's clock, from 1970.
type Micros = i64;

const SECOND: Micros = 1_000_000;
/// The cloud counts for this long.
#[cfg(test)]
const MINUTE: Micros = 60 * SECOND;

/// What the end of a call means for the rate of calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// A reply came that was not throttled.
    Passed,
    /// The outcome is unknown and the reply does not ask to wait, or the call was not made: the rate stays.
    Lost,
    /// The reply was throttled; how long it asks to wait, if it says so.
    Throttled(Option<Duration>),
    /// The outcome is unknown, and the reply asks to wait this long.
    LostAndThrottled(Duration),
}

/// A clock that shows less than before, by more than this, was set back.
const SET_BACK: Micros = 5 * SECOND;

#[derive(Debug)]
struct Gates {
    table: HashMap<(Action, Box<str>, Box<str>), Gate>,
    /// The latest time that the cloud's clock has shown.
    latest: Micros,
}

/// The gates, by action, scope and region. Those that nobody has used for a while are not kept.
#[derive(Debug)]
pub struct Limiter {
    rates: Rates,
    clock: Clock,
    /// How long the cloud's minute is.
    minute: Micros,
    gates: Mutex<Gates>,
}

impl Limiter {
    /// A limiter with these ceilings. The cloud counts calls for so long (`minute`: 60 s), by that clock.
    #[must_use]
    pub fn new(rates: Rates, clock: Clock, minute: Duration) -> Self {
        let gates = Gates { table: HashMap::new(), latest: Micros::MIN };
        let minute = Micros::try_from(minute.as_micros()).unwrap_or(Micros::MAX).max(60);
        Self { rates, clock, minute, gates: Mutex::new(gates) }
    }

    /// When to come for a call, where it cannot be made now. Changes nothing.
    #[must_use]
    pub fn opens(&self, route: Route<'_>, requester: &Requester, now: Timestamp) -> Option<Timestamp> {
        let cloud = self.cloud(now);
        match self.gates_at(cloud).table.get_mut(&key(route)) {
            Some(gate) => gate.opens(requester, cloud).map(|opens| local(opens, cloud, now)),
            None => None,
        }
    }

    /// Asks for one call now. The caller reports how the call ended by [`Limiter::ended`].
    ///
    /// # Errors
    /// It is not this one's turn: it stands in the line, and the time is when to come back.
    pub fn admit(
        &self,
        route: Route<'_>,
        requester: &Requester,
        now: Timestamp,
    ) -> Result<Ticket, Timestamp> {
        let cloud = self.cloud(now);
        self.with(route, cloud, |gate| gate.admit(requester, cloud)).map_err(|opens| local(opens, cloud, now))
    }

    /// Keeps a place in the line for one that cannot call now. Returns when to come.
    pub fn line_up(&self, route: Route<'_>, requester: &Requester, now: Timestamp) -> Timestamp {
        let cloud = self.cloud(now);
        local(self.with(route, cloud, |gate| gate.line_up(requester, cloud)), cloud, now)
    }

    /// Whether this one stands in the line.
    #[must_use]
    pub fn holds_place(&self, route: Route<'_>, requester: &Requester) -> bool {
        self.gates().table.get(&key(route)).is_some_and(|gate| gate.holds_place(requester))
    }

    /// This one does not want to call any more: its turn is the next one's.
    pub fn withdraw(&self, route: Route<'_>, requester: &Requester) {
        if let Some(gate) = self.gates().table.get_mut(&key(route)) {
            gate.withdraw(requester);
        }
    }

    /// This one is gone.
    pub fn forget(&self, requester: &Requester) {
        self.gates().table.values_mut().for_each(|gate| gate.withdraw(requester));
    }

    /// Records how a call ended. Returns when to retry, if the reply closed the gate: a caller that was throttled goes first
    /// then.
    pub fn ended(
        &self,
        route: Route<'_>,
        requester: &Requester,
        ticket: Ticket,
        report: Report,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let cloud = self.cloud(now);
        let micros = |wait: Duration| Micros::try_from(wait.as_micros()).unwrap_or(Micros::MAX);
        let closed = self.with(route, cloud, |gate| match report {
            Report::Passed => {
                gate.pace.passed(ticket, cloud);
                None
            }
            Report::Lost => {
                gate.pace.lost(ticket, cloud);
                None
            }
            Report::Throttled(wait) => Some(gate.throttled(requester, ticket, wait.map(micros), cloud)),
            Report::LostAndThrottled(wait) => Some(gate.pace.throttled(ticket, Some(micros(wait)), cloud)),
        });
        closed.map(|opens| local(opens, cloud, now))
    }

    /// Those that were told of a later time and can call now, since others left the line or more passes than before.
    /// To be asked every second or so; what is not needed any more is forgotten.
    #[must_use]
    pub fn called_up(&self, now: Timestamp) -> Vec<Requester> {
        let cloud = self.cloud(now);
        let mut gates = self.gates_at(cloud);
        let called = gates.table.values_mut().flat_map(|gate| gate.called_up(cloud)).collect();
        gates.table.retain(|_, gate| !gate.is_idle(cloud));
        called
    }

    /// The time between two calls at the rate in force now; `None`: no limit.
    #[must_use]
    pub fn spacing(&self, route: Route<'_>, now: Timestamp) -> Option<Duration> {
        let cloud = self.cloud(now);
        let calls = match self.gates_at(cloud).table.get(&key(route)) {
            Some(gate) => gate.pace.calls(cloud),
            None => self.rates.of(route.action),
        };
        let minute = Duration::from_micros(self.minute.unsigned_abs());
        calls.map(|calls| minute / calls.max(1))
    }

    /// What the gates are like, those that were used of late.
    #[must_use]
    pub fn states(&self, now: Timestamp) -> Vec<State> {
        let cloud = self.cloud(now);
        let state = |((action, scope, region), gate): (&(Action, Box<str>, Box<str>), &Gate)| State {
            action: *action,
            scope: scope.clone(),
            region: region.clone(),
            closed: gate.pace.is_closed(cloud),
            calls: gate.pace.calls(cloud),
            waiting: gate.waiting(),
        };
        self.gates_at(cloud).table.iter().map(state).collect()
    }

    fn with<T>(&self, route: Route<'_>, cloud: Micros, change: impl FnOnce(&mut Gate) -> T) -> T {
        let new = || Gate::new(self.rates.of(route.action), self.minute);
        change(self.gates_at(cloud).table.entry(key(route)).or_insert_with(new))
    }

    /// The gates at a time of the cloud's clock. What was known of that clock may have been wrong by hours, as the local clock
    /// may be: no gate waits for a time that was never to come.
    fn gates_at(&self, cloud: Micros) -> MutexGuard<'_, Gates> {
        let mut gates = self.gates();
        let back = cloud.saturating_sub(gates.latest);
        if gates.latest != Micros::MIN && back < -SET_BACK {
            gates.table.values_mut().for_each(|gate| gate.set_back(back));
            gates.latest = cloud;
        }
        gates.latest = gates.latest.max(cloud);
        gates
    }

    fn gates(&self) -> MutexGuard<'_, Gates> {
        self.gates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cloud(&self, now: Timestamp) -> Micros {
        self.clock.at(now).as_microsecond()
    }
}

impl Requester {
    /// Who asks.
    #[must_use]
    pub fn new(group: &Arc<str>, name: &Arc<str>) -> Self {
        Self { group: Arc::clone(group), name: Arc::clone(name) }
    }
}

fn key(Route { action, scope, region }: Route<'_>) -> (Action, Box<str>, Box<str>) {
    (action, scope.into(), region.into())
}

/// The local time at which the cloud's clock shows `at`; it shows `cloud` now.
fn local(at: Micros, cloud: Micros, now: Timestamp) -> Timestamp {
    now.checked_add(SignedDuration::from_micros(at.saturating_sub(cloud))).unwrap_or(Timestamp::MAX)
}
