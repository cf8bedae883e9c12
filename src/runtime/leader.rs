//! One leader among the replicas, by a Lease of the API server.
//!
//! Every write carries the resourceVersion that was read, and every request has a timeout. This process
//! measures how long it holds the Lease with its own monotonic clock, from before the renewal request. It
//! measures how long another Lease is unchanged in the same way, and ignores the times in it. The renew
//! deadline plus the longest cloud call is shorter than the lease duration: a process that cannot renew has
//! stopped, and its last call has ended, before another one starts.

use std::{
    convert::Infallible,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};

use super::{
    Stop,
    lease::{Holding, Lease as Right},
};
use vncpassword_core::api::LEASE;

/// How long a holder is left alone by the others, from its last renewal.
const DURATION: Duration = Duration::from_secs(15);
/// How long this process acts without a renewal.
const DEADLINE: Duration = Duration::from_secs(10);
/// The time between two looks or renewals.
const RETRY: Duration = Duration::from_secs(2);
/// The longest that one request may take.
const REQUEST: Duration = Duration::from_secs(3);

/// Acquires the right and renews it. Requests the end of the term when the right is lost. Never returns,
/// because the term ends first.
pub struct Elector {
    own: Candidate,
    /// The Lease that replicas of the previous version take, regardless of the name of the own one. Without
    /// it a rolling upgrade would have two leaders.
    former: Option<Candidate>,
}

/// Gets one Lease, keeps it, gives it back.
struct Candidate {
    leases: Api<Lease>,
    /// The name of the Lease.
    name: String,
    /// No other process and no other term has it.
    identity: String,
    holding: Holding,
    /// The lease as this process wrote or read it last.
    current: Option<Lease>,
    sighting: Option<Sighting>,
}

/// The content of the Lease, and since when this process has seen it unchanged.
struct Sighting {
    spec: LeaseSpec,
    since: Instant,
}

/// The next action on the Lease.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    /// It does not exist: create it.
    Create,
    /// It is free, or this process holds it: write it.
    Write,
    /// Another process holds it.
    Wait,
}

/// How long its holder has the Lease after a renewal.
fn promised(last: Option<&LeaseSpec>) -> Duration {
    let seconds = last.and_then(|last| last.lease_duration_seconds);
    let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).filter(|seconds| *seconds > 0);
    seconds.map_or(DURATION, Duration::from_secs)
}

/// `unchanged`: how long `last` has been unchanged. A Lease that was deleted belongs to its holder until it
/// expires.
fn step(found: bool, last: Option<&LeaseSpec>, identity: &str, unchanged: Duration) -> Step {
    let holder = last.and_then(|last| last.holder_identity.as_deref()).unwrap_or_default();
    match (found, holder.is_empty() || holder == identity || unchanged >= promised(last)) {
        (_, false) => Step::Wait,
        (true, true) => Step::Write,
        (false, true) => Step::Create,
    }
}

/// How long to wait before the next poll of a Lease that another process holds: at most until it may be
/// taken.
fn timeout(last: Option<&LeaseSpec>, unchanged: Duration) -> Duration {
    Some(promised(last).saturating_sub(unchanged))
        .filter(|left| !left.is_zero())
        .map_or(RETRY, |left| left.min(RETRY))
}

/// The Lease as its holder writes it.
fn held(former: Option<&LeaseSpec>, identity: &str, now: Timestamp) -> LeaseSpec {
    let mine = former.filter(|former| former.holder_identity.as_deref() == Some(identity));
    let transitions = former.and_then(|former| former.lease_transitions).unwrap_or_default();
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
        acquire_time: mine.and_then(|mine| mine.acquire_time.clone()).or(Some(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions.saturating_add(i32::from(mine.is_none() && former.is_some()))),
        ..LeaseSpec::default()
    }
}

/// The Lease as its holder releases it: the next process need not wait.
fn released(former: &LeaseSpec, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: None,
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..former.clone()
    }
}

impl Elector {
    /// For one term of one process, and the right that it gets. `identity` must be new for each.
    #[must_use]
    pub fn new(client: &Client, namespace: &str, name: &str, identity: &str) -> (Self, Right) {
        let (own, right) = Candidate::new(client, namespace, name, identity);
        if name == LEASE {
            return (Self { own, former: None }, right);
        }
        let (former, right_of_former) = Candidate::new(client, namespace, LEASE, identity);
        (Self { own, former: Some(former) }, right.and(right_of_former))
    }

    /// Gets the right and keeps it; asks for the end of the term when it is lost. Never returns: it is the
    /// term that ends.
    pub async fn lead(&mut self, term: &Stop) -> Infallible {
        if let Some(former) = &mut self.former {
            // All of this version ask for the own Lease first, so no two of them wait for each other. The
            // other is polled meanwhile, so that both Leases of a dead holder expire at the same time, not
            // one after the other.
            tokio::select! {
                () = self.own.acquire() => {}
                never = former.observe() => match never {},
            }
            let hold_both = async {
                former.acquire().await;
                tracing::info!("leading");
                former.keep().await;
            };
            tokio::select! {
                () = self.own.keep() => former.holding.lose(),
                () = hold_both => self.own.holding.lose(),
            }
        } else {
            self.own.acquire().await;
            tracing::info!("leading");
            self.own.keep().await;
        }
        term.request();
        std::future::pending().await
    }

    /// Releases the right, so that another process need not wait. Call it when nothing acts any more.
    pub async fn release(self) {
        if let Some(former) = self.former {
            former.release().await;
        }
        self.own.release().await;
    }
}

impl Candidate {
    fn new(client: &Client, namespace: &str, name: &str, identity: &str) -> (Self, Right) {
        let (holding, right) = Right::pair();
        let leases = Api::namespaced(client.clone(), namespace);
        let (name, identity) = (name.to_owned(), identity.to_owned());
        (Self { leases, name, identity, holding, current: None, sighting: None }, right)
    }

    /// Waits until this process holds the lease.
    async fn acquire(&mut self) {
        let mut told = None;
        loop {
            match self.attempt(REQUEST).await {
                Ok(true) => break,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "cannot read or write the lease; it is tried again"),
            }
            let holder = self.sighting.as_ref().and_then(|seen| seen.spec.holder_identity.clone());
            if holder != told && holder.is_some() {
                tracing::info!(lease = self.name, holder = holder.as_deref(), "standing by");
                told = holder;
            }
            tokio::time::sleep(self.pause()).await;
        }
        tracing::info!(lease = self.name, identity = self.identity, "holds the Lease");
    }

    /// Polls the Lease without taking it, to measure how long it is unchanged. Never returns.
    async fn observe(&mut self) -> Infallible {
        loop {
            // A poll that fails changes nothing.
            if let Ok(Ok(lease)) = tokio::time::timeout(REQUEST, self.leases.get_opt(&self.name)).await {
                self.see(lease.as_ref());
            }
            tokio::time::sleep(self.pause()).await;
        }
    }

    /// Records what the Lease holds, and when, if it has changed.
    fn see(&mut self, lease: Option<&Lease>) {
        let Some(spec) = lease.map(|lease| lease.spec.clone().unwrap_or_default()) else { return };
        if self.sighting.as_ref().is_none_or(|seen| seen.spec != spec) {
            self.sighting = Some(Sighting { spec, since: Instant::now() });
        }
    }

    /// How long to wait before the next poll.
    fn pause(&self) -> Duration {
        let seen = self.sighting.as_ref();
        seen.map_or(RETRY, |seen| timeout(Some(&seen.spec), seen.since.elapsed()))
    }

    /// Renews the lease until it is lost.
    async fn keep(&mut self) {
        let mut pause = RETRY;
        while let Some(left) = self.left().filter(|left| !left.is_zero()) {
            tokio::time::sleep(pause.min(left)).await;
            let Some(left) = self.left().filter(|left| !left.is_zero()) else { break };
            pause = RETRY;
            match self.attempt(REQUEST.min(left)).await {
                Ok(true) => {}
                // It belongs to another process, or is gone.
                Ok(false) => break,
                Err(error) => {
                    tracing::warn!(%error, "cannot renew the lease; it is tried again");
                    pause = RETRY / 4;
                }
            }
        }
        self.holding.lose();
        tracing::warn!(lease = self.name, "the lease is lost: standing by");
    }

    async fn release(mut self) {
        let held = self.left().is_some();
        self.holding.lose();
        if held && !matches!(tokio::time::timeout(REQUEST, self.leave()).await, Ok(Ok(()))) {
            tracing::info!("the lease could not be released: it runs out by itself");
        }
    }

    async fn leave(&mut self) -> kube::Result<()> {
        // An interrupted renewal may have arrived.
        let lease = match self.current.take() {
            Some(lease) => Some(lease),
            None => self.leases.get_opt(&self.name).await?,
        };
        let mine = |spec: &LeaseSpec| spec.holder_identity.as_ref() == Some(&self.identity);
        if let Some(mut lease) = lease
            && let Some(spec) = lease.spec.take().filter(mine)
        {
            lease.spec = Some(released(&spec, Timestamp::now()));
            self.leases.replace(&self.name, &PostParams::default(), &lease).await?;
            tracing::info!("the lease is released");
        }
        Ok(())
    }

    /// How long the lease is still held.
    fn left(&self) -> Option<Duration> {
        self.holding.until().map(|until| until.saturating_duration_since(Instant::now()))
    }

    /// Reads the Lease if it is not known, and takes or renews it if allowed. Returns whether this process
    /// holds it.
    async fn attempt(&mut self, timeout: Duration) -> Result<bool, Failure> {
        tokio::time::timeout(timeout, self.try_once()).await.unwrap_or_else(|_| {
            // The next read shows whether the write has arrived.
            self.current = None;
            Err(Failure::TimedOut)
        })
    }

    async fn try_once(&mut self) -> Result<bool, Failure> {
        let asked = Instant::now();
        // The own last version is written without a read: one request per renewal.
        let mut lease = match self.current.take() {
            Some(current) if self.left().is_some() => Some(current),
            _ => self.leases.get_opt(&self.name).await?,
        };
        self.see(lease.as_ref());
        let last = self.sighting.as_ref();
        let unchanged = last.map(|last| last.since.elapsed()).unwrap_or_default();
        // A lease that was deleted while this process held it may be another's by now.
        if lease.is_none() && self.left().is_some() {
            return Ok(false);
        }
        let last = last.map(|last| &last.spec);
        let spec = held(last, &self.identity, Timestamp::now());
        let parameters = PostParams::default();
        let written = match step(lease.is_some(), last, &self.identity, unchanged) {
            Step::Wait => return Ok(false),
            Step::Create => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.leases.create(&parameters, &Lease { metadata, spec: Some(spec) }).await
            }
            Step::Write => {
                let mut lease = lease.take().unwrap_or_default();
                lease.spec = Some(spec);
                self.leases.replace(&self.name, &parameters, &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.sighting = lease.spec.clone().map(|spec| Sighting { spec, since: asked });
                self.current = Some(lease);
                self.holding.hold(asked + DEADLINE);
                Ok(true)
            }
            // Another write was faster: the next read shows it.
            Err(kube::Error::Api(status)) if status.code == 409 && self.left().is_none() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Why the lease could not be read or written.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("the API server did not answer in time")]
    TimedOut,
    #[error(transparent)]
    Kube(#[from] Box<kube::Error>),
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        Self::Kube(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_its_holder_cannot_act_any_more() {
        let other = spec(Some("other"), Some(15));
        for (found, last, unchanged, expected) in [
            (false, None, 0, Step::Create),
            (true, Some(spec(None, Some(1))), 0, Step::Write),
            (true, Some(spec(Some(""), None)), 0, Step::Write),
            (true, Some(spec(Some("me"), Some(15))), 0, Step::Write),
            (true, Some(other.clone()), 14, Step::Wait),
            (true, Some(other.clone()), 15, Step::Write),
            (false, Some(other.clone()), 14, Step::Wait),
            (false, Some(other), 15, Step::Create),
            (true, Some(spec(Some("other"), Some(60))), 59, Step::Wait),
            (true, Some(spec(Some("other"), Some(60))), 60, Step::Write),
            (true, Some(spec(Some("other"), None)), 14, Step::Wait),
            (true, Some(spec(Some("other"), Some(-1))), 14, Step::Wait),
            (true, Some(spec(Some("other"), Some(0))), 15, Step::Write),
        ] {
            let step = step(found, last.as_ref(), "me", Duration::from_secs(unchanged));
            assert_eq!(step, expected, "{found} {last:?} after {unchanged} s");
        }
    }

    #[test]
    fn a_lease_is_looked_at_again_when_it_may_be_taken_and_every_retry_before() {
        let other = spec(Some("other"), Some(15));
        for (unchanged, expected) in [(0, 2000), (12_999, 2000), (13_500, 1500), (14_999, 1), (15_000, 2000)]
        {
            let pause = timeout(Some(&other), Duration::from_millis(unchanged));
            assert_eq!(pause, Duration::from_millis(expected), "after {unchanged} ms");
        }
    }

    #[test]
    fn a_renewal_keeps_when_it_was_acquired_and_a_change_is_counted() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = held(None, "a", at(10));
        assert_eq!((first.acquire_time.clone(), first.lease_transitions), (Some(MicroTime(at(10))), Some(0)));
        let renewed = held(Some(&first), "a", at(12));
        assert_eq!(renewed, LeaseSpec { renew_time: Some(MicroTime(at(12))), ..first });
        let taken = held(Some(&renewed), "b", at(40));
        assert_eq!((taken.acquire_time.clone(), taken.lease_transitions), (Some(MicroTime(at(40))), Some(1)));
        let left = released(&taken, at(50));
        assert_eq!((left.holder_identity.as_deref(), left.lease_duration_seconds), (None, Some(1)));
        assert_eq!(held(Some(&left), "a", at(51)).lease_transitions, Some(2));
    }

    #[test]
    fn whoever_cannot_renew_has_stopped_before_another_begins() {
        assert!(DEADLINE + vncpassword_alicloud::Config::default().timeout < DURATION);
        assert!(RETRY + REQUEST < DEADLINE);
    }
}
