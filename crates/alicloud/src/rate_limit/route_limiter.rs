//! The limiter of one route: its pacing and its queue.

use super::{
    Micros,
    fair_queue::{FairQueue, Requester},
    pacing::{Pacing, Permit},
};

/// How long an idle route that was throttled before is kept, for its rate estimate.
const THROTTLED_ROUTE_KEPT: Micros = 3_600_000_000;
/// How long any other idle route is kept, for its count of calls.
const ROUTE_KEPT: Micros = 120_000_000;

/// Pacing and queue of one route.
#[derive(Debug)]
pub(super) struct RouteLimiter {
    pub pacing: Pacing,
    queue: FairQueue,
}

impl RouteLimiter {
    pub fn new(ceiling: Option<u32>, minute: Micros) -> Self {
        Self { pacing: Pacing::new(ceiling, minute), queue: FairQueue::default() }
    }

    /// When the requester may call; `None`: now. Changes nothing.
    pub fn next_slot(&mut self, requester: &Requester, now: Micros) -> Option<Micros> {
        let slot = self.pacing.slot(self.queue.rank(requester, now), now);
        let assigned = self.queue.slot(requester).filter(|assigned| *assigned > now);
        (slot > now).then(|| assigned.map_or(slot, |assigned| assigned.min(slot)))
    }

    /// Begins a call, or queues the requester and returns when to come back.
    pub fn admit(&mut self, requester: &Requester, now: Micros) -> Result<Permit, Micros> {
        let slot = self.pacing.slot(self.queue.rank(requester, now), now);
        if slot > now {
            return Err(self.queue.enqueue(requester, slot, now));
        }
        self.queue.dequeue(requester);
        Ok(self.pacing.begin(now))
    }

    /// Queues the requester. Returns when to come back.
    pub fn enqueue(&mut self, requester: &Requester, now: Micros) -> Micros {
        let slot = self.pacing.slot(self.queue.rank(requester, now), now);
        self.queue.enqueue(requester, slot.max(now), now)
    }

    pub fn is_queued(&self, requester: &Requester) -> bool {
        self.queue.slot(requester).is_some()
    }

    /// Removes the requester from the queue.
    pub fn withdraw(&mut self, requester: &Requester) {
        self.queue.remove(requester);
    }

    /// A call was throttled: its requester goes first when the route opens. Returns when to come back.
    pub fn throttled(
        &mut self,
        requester: &Requester,
        permit: Permit,
        retry_after: Option<Micros>,
        now: Micros,
    ) -> Micros {
        self.pacing.throttled(permit, retry_after, now);
        self.queue.enqueue_first(requester, now);
        let slot = self.pacing.slot(self.queue.rank(requester, now), now).max(now);
        self.queue.enqueue_first(requester, slot);
        slot
    }

    /// The requesters that can call now and were given a later time.
    pub fn notify(&mut self, now: Micros) -> Vec<Requester> {
        let Self { pacing, queue } = self;
        queue.notify(now, |rank| pacing.slot(rank, now))
    }

    /// The clock was set back: moves all times by `by`, which is negative.
    pub fn set_back(&mut self, by: Micros) {
        self.pacing.set_back(by);
        self.queue.set_back(by);
    }

    /// The length of the queue.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Whether the route can be forgotten.
    pub fn is_idle(&self, now: Micros) -> bool {
        let kept = if self.pacing.was_throttled() { THROTTLED_ROUTE_KEPT } else { ROUTE_KEPT };
        self.queue.is_empty() && self.pacing.idle(now) > kept
    }
}
