//! The gate of one account, region and action: whose turn it is, at which pace.

use super::{
    Micros,
    pace::{Pace, Ticket},
    turns::{Requester, Turns},
};

/// What was learned is kept for so long after the last call.
const LEARNED_KEPT: Micros = 3_600_000_000;
/// The count of calls that were never throttled is kept for so long.
const COUNT_KEPT: Micros = 120_000_000;

/// Pace and line of one account, region and action.
#[derive(Debug)]
pub(super) struct Gate {
    pub pace: Pace,
    turns: Turns,
}

impl Gate {
    pub fn new(ceiling: Option<u32>, minute: Micros) -> Self {
        Self { pace: Pace::new(ceiling, minute), turns: Turns::default() }
    }

    /// When to come for a call, where that cannot begin now. Changes nothing.
    pub fn opens(&mut self, requester: &Requester, now: Micros) -> Option<Micros> {
        let slot = self.pace.slot(self.turns.rank(requester, now), now);
        let told = self.turns.told(requester).filter(|told| *told > now);
        (slot > now).then(|| told.map_or(slot, |told| told.min(slot)))
    }

    /// Begins a call, or tells when to come for it and keeps the place in the line.
    pub fn admit(&mut self, requester: &Requester, now: Micros) -> Result<Ticket, Micros> {
        let slot = self.pace.slot(self.turns.rank(requester, now), now);
        if slot > now {
            return Err(self.turns.tell(requester, slot, now));
        }
        self.turns.take(requester);
        Ok(self.pace.begin(now))
    }

    /// Keeps a place in the line. Returns when to come.
    pub fn line_up(&mut self, requester: &Requester, now: Micros) -> Micros {
        let slot = self.pace.slot(self.turns.rank(requester, now), now);
        self.turns.tell(requester, slot.max(now), now)
    }

    /// Whether this one stands in the line.
    pub fn holds_place(&self, requester: &Requester) -> bool {
        self.turns.told(requester).is_some()
    }

    /// This one does not wait any more.
    pub fn withdraw(&mut self, requester: &Requester) {
        self.turns.leave(requester);
    }

    /// The call of this one was throttled: it goes first when the gate opens. Returns when to come.
    pub fn throttled(
        &mut self,
        requester: &Requester,
        ticket: Ticket,
        retry_after: Option<Micros>,
        now: Micros,
    ) -> Micros {
        self.pace.throttled(ticket, retry_after, now);
        self.turns.put_back(requester, now);
        let slot = self.pace.slot(self.turns.rank(requester, now), now).max(now);
        self.turns.put_back(requester, slot);
        slot
    }

    /// Who may call now and was told of a later time.
    pub fn called_up(&mut self, now: Micros) -> Vec<Requester> {
        let Self { pace, turns } = self;
        turns.called_up(now, |rank| pace.slot(rank, now))
    }

    /// The clock was set back by so much, a negative time.
    pub fn set_back(&mut self, by: Micros) {
        self.pace.set_back(by);
        self.turns.set_back(by);
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.turns.len()
    }

    /// Whether it can be forgotten.
    pub fn is_idle(&self, now: Micros) -> bool {
        let kept = if self.pace.has_learned() { LEARNED_KEPT } else { COUNT_KEPT };
        self.turns.is_empty() && self.pace.idle(now) > kept
    }
}
