//! The queue of one route: fair between groups, first come first served within a group.
//!
//! This is start-time fair queueing with one call as the unit: the n-th requester of a group is in round n, counted
//! from the round that is served when it comes. A requester that does not come at its slot is skipped.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Micros;

/// A requester that is this late is skipped until it comes.
const OVERDUE_AFTER: Micros = 2_000_000;
/// A requester that is this late is removed.
const ABANDONED_AFTER: Micros = 60_000_000;

/// Identifies who asks for calls, for example an object in a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester {
    /// Calls are shared fairly between groups.
    pub group: Arc<str>,
    /// The name within the group.
    pub name: Arc<str>,
}

impl Requester {
    /// A requester of that group and name.
    #[must_use]
    pub fn new(group: &Arc<str>, name: &Arc<str>) -> Self {
        Self { group: Arc::clone(group), name: Arc::clone(name) }
    }
}

/// A position in the queue: the round, then the order of arrival.
type Position = (u64, u64);

#[derive(Debug)]
struct Waiter {
    requester: Requester,
    /// When it may call, as it was last reported to it.
    slot: Micros,
}

impl Waiter {
    fn is_overdue(&self, now: Micros) -> bool {
        now.saturating_sub(self.slot) > OVERDUE_AFTER
    }
}

/// The queued requesters of one group.
#[derive(Debug, Default)]
struct Group {
    waiting: usize,
    /// The round of the last requester.
    round: u64,
}

/// The queue.
#[derive(Debug, Default)]
pub(super) struct FairQueue {
    waiters: BTreeMap<Position, Waiter>,
    positions: HashMap<Requester, Position>,
    groups: HashMap<Arc<str>, Group>,
    /// The highest round that was dequeued.
    round: u64,
    /// The number of arrivals.
    arrivals: u64,
}

impl FairQueue {
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty()
    }

    pub fn len(&self) -> usize {
        self.waiters.len()
    }

    /// How many requesters are before this one, or would be if it came now. Overdue requesters do not count.
    pub fn rank(&self, requester: &Requester, now: Micros) -> usize {
        let on_time = |waiter: &Waiter| !waiter.is_overdue(now);
        let before = |position| self.waiters.range(..position).filter(|(_, waiter)| on_time(waiter)).count();
        if let Some(position) = self.positions.get(requester) {
            return before(*position);
        }
        let position = self.end_position(requester);
        match self.waiters.last_key_value() {
            // A shortcut for long queues: only the head is usually overdue.
            Some((last, _)) if *last < position => {
                self.waiters.len() - self.waiters.values().take_while(|waiter| !on_time(waiter)).count()
            }
            _ => before(position),
        }
    }

    /// The slot of the requester, if it is queued.
    pub fn slot(&self, requester: &Requester) -> Option<Micros> {
        Some(self.waiters.get(self.positions.get(requester)?)?.slot)
    }

    /// Gives the requester a slot, and queues it unless it is queued. A slot in the future is only replaced by an
    /// earlier one. Returns the slot.
    pub fn enqueue(&mut self, requester: &Requester, slot: Micros, now: Micros) -> Micros {
        let position = self.positions.get(requester);
        if let Some(waiter) = position.and_then(|position| self.waiters.get_mut(position)) {
            waiter.slot = if waiter.slot > now { waiter.slot.min(slot) } else { slot };
            return waiter.slot;
        }
        let position = self.end_position(requester);
        self.insert(requester, position, slot);
        slot
    }

    /// Queues a requester whose call was throttled: before all that come later.
    pub fn enqueue_first(&mut self, requester: &Requester, slot: Micros) {
        self.remove(requester);
        let position = (self.round, self.arrivals);
        self.insert(requester, position, slot);
    }

    /// Removes a requester that calls now.
    pub fn dequeue(&mut self, requester: &Requester) {
        if let Some((round, _)) = self.remove(requester) {
            self.round = self.round.max(round);
        }
    }

    /// Removes a requester. Returns its position.
    pub fn remove(&mut self, requester: &Requester) -> Option<Position> {
        let position = self.positions.remove(requester)?;
        self.waiters.remove(&position);
        if let Some(group) = self.groups.get_mut(&requester.group) {
            group.waiting -= 1;
            if group.waiting == 0 {
                self.groups.remove(&requester.group);
            }
        }
        Some(position)
    }

    /// Returns the requesters at the head that can call now although their slot is later, and sets their slot to now.
    /// `slot_of`: the slot of a rank. Removes abandoned requesters.
    pub fn notify(&mut self, now: Micros, mut slot_of: impl FnMut(usize) -> Micros) -> Vec<Requester> {
        let abandoned: Vec<Requester> = self
            .waiters
            .values()
            .filter(|waiter| now.saturating_sub(waiter.slot) > ABANDONED_AFTER)
            .map(|waiter| waiter.requester.clone())
            .collect();
        for requester in &abandoned {
            self.remove(requester);
        }
        let mut ready = Vec::new();
        let on_time = self.waiters.values_mut().filter(|waiter| !waiter.is_overdue(now));
        for (rank, waiter) in on_time.enumerate() {
            if slot_of(rank) > now {
                break;
            }
            if waiter.slot > now {
                waiter.slot = now;
                ready.push(waiter.requester.clone());
            }
        }
        ready
    }

    /// The clock was set back: moves all slots by `by`, which is negative.
    pub fn set_back(&mut self, by: Micros) {
        self.waiters.values_mut().for_each(|waiter| waiter.slot = waiter.slot.saturating_add(by));
    }

    /// The position of a requester that comes now.
    fn end_position(&self, requester: &Requester) -> Position {
        let last = self.groups.get(&requester.group).map_or(0, |group| group.round);
        (last.max(self.round) + 1, self.arrivals)
    }

    fn insert(&mut self, requester: &Requester, position: Position, slot: Micros) {
        self.arrivals += 1;
        let group = self.groups.entry(Arc::clone(&requester.group)).or_default();
        group.waiting += 1;
        group.round = group.round.max(position.0);
        self.waiters.insert(position, Waiter { requester: requester.clone(), slot });
        self.positions.insert(requester.clone(), position);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requester(group: &str, number: u32) -> Requester {
        Requester { group: group.into(), name: number.to_string().into() }
    }

    /// Dequeues all, one after the other.
    fn order(queue: &mut FairQueue) -> Vec<Requester> {
        let mut order = Vec::new();
        while let Some(first) = queue.waiters.first_key_value().map(|(_, waiter)| waiter.requester.clone()) {
            assert_eq!(queue.rank(&first, 0), 0);
            queue.dequeue(&first);
            order.push(first);
        }
        order
    }

    #[test]
    fn a_group_is_first_come_first_served_and_groups_alternate() {
        let mut queue = FairQueue::default();
        for number in 0..5 {
            queue.enqueue(&requester("fleet", number), 100, 0);
        }
        queue.dequeue(&requester("fleet", 0));
        queue.enqueue(&requester("other", 0), 100, 0);
        queue.enqueue(&requester("other", 1), 100, 0);
        let order: Vec<_> = order(&mut queue)
            .into_iter()
            .map(|requester| format!("{} {}", requester.group, requester.name))
            .collect();
        assert_eq!(order, ["fleet 1", "other 0", "fleet 2", "other 1", "fleet 3", "fleet 4"]);
        assert!(queue.groups.is_empty() && queue.positions.is_empty());
    }

    #[test]
    fn a_requester_keeps_its_slot_unless_it_can_go_earlier() {
        let mut queue = FairQueue::default();
        let one = requester("fleet", 0);
        for (now, at, expected) in [(0, 100, 100), (10, 150, 100), (20, 90, 90), (90, 200, 200)] {
            assert_eq!(queue.enqueue(&one, at, now), expected, "at {now}");
        }
    }

    #[test]
    fn a_throttled_requester_goes_first() {
        let mut queue = FairQueue::default();
        for number in 0..5 {
            queue.enqueue(&requester("fleet", number), 100, 0);
        }
        queue.dequeue(&requester("fleet", 0));
        queue.enqueue_first(&requester("fleet", 0), 100);
        assert_eq!(queue.rank(&requester("fleet", 0), 0), 0);
        assert_eq!(queue.rank(&requester("fleet", 1), 0), 1);
    }

    #[test]
    fn an_overdue_requester_is_skipped_and_later_removed() {
        let mut queue = FairQueue::default();
        for number in 0..3 {
            queue.enqueue(&requester("fleet", number), 10, 0);
        }
        let last = requester("fleet", 2);
        assert_eq!(queue.rank(&last, 10 + OVERDUE_AFTER), 2);
        queue.enqueue(&last, 20 + OVERDUE_AFTER, 10 + OVERDUE_AFTER);
        assert_eq!(queue.rank(&last, 11 + OVERDUE_AFTER), 0);
        assert_eq!(queue.rank(&requester("fleet", 0), 11 + OVERDUE_AFTER), 0, "it keeps its position");
        assert!(queue.notify(11 + ABANDONED_AFTER, |_| 0).is_empty());
        assert_eq!((queue.len(), queue.rank(&last, 11 + ABANDONED_AFTER)), (1, 0));
    }

    #[test]
    fn the_head_is_notified_when_it_can_go_earlier() {
        let mut queue = FairQueue::default();
        for number in 0..5 {
            queue.enqueue(&requester("fleet", number), 100 + i64::from(number), 0);
        }
        let slot = |rank| 40 + 10 * Micros::try_from(rank).unwrap();
        assert_eq!(queue.notify(55, slot), [requester("fleet", 0), requester("fleet", 1)]);
        assert_eq!(queue.notify(55, slot), [], "once");
        assert_eq!(queue.slot(&requester("fleet", 1)), Some(55));
    }

    proptest! {
        #[test]
        fn no_requester_waits_for_more_than_its_fair_share(
            steps in proptest::collection::vec((0_u32..4, 0_u32..30, proptest::bool::weighted(0.03)), 1..200),
        ) {
            let mut queue = FairQueue::default();
            let (mut now, mut left) = (0, false);
            for (group, number, leaves) in steps {
                now += 1;
                let requester = requester(&group.to_string(), number);
                if leaves {
                    left |= queue.remove(&requester).is_some();
                    continue;
                }
                let rank = queue.rank(&requester, now);
                let queued = queue.slot(&requester).is_some();
                queue.enqueue(&requester, now + 1000, now);
                prop_assert_eq!(queue.rank(&requester, now), rank, "the same rank as before it joined");
                let before = queue.positions.keys().filter(|other| other.group == requester.group).count() - 1;
                // At most one requester of each of the three other groups before each of its own group.
                // The rounds of requesters that were removed stay empty.
                prop_assert!(left || queued || rank <= before + 3 * (before + 1));
            }
            let (mut waiting, mut in_groups) = (queue.positions.len(), 0);
            prop_assert_eq!(queue.waiters.len(), waiting);
            in_groups += queue.groups.values().map(|group| group.waiting).sum::<usize>();
            prop_assert_eq!(in_groups, waiting);
            while let Some((_, waiter)) = queue.waiters.first_key_value() {
                let requester = waiter.requester.clone();
                queue.dequeue(&requester);
                waiting -= 1;
            }
            prop_assert_eq!(waiting, 0);
            prop_assert!(queue.groups.is_empty());
        }
    }
}
