//! Who waits for a call, in which order: fair by group, first come first served within one.
//!
//! Each group's n-th waiter stands behind the (n-1)-th of the others, counted from the moment it came: start-time fair
//! queueing with one call as the unit. Whoever does not come when it was told to is passed over.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::Micros;

/// Whoever is so late is passed over, until it comes.
const GRACE: Micros = 2_000_000;
/// Whoever is so late does not come any more.
const GONE: Micros = 60_000_000;

/// What asks for calls: an object of a group, for instance.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Requester {
    /// Calls are shared out fairly between groups.
    pub group: Arc<str>,
    /// One of the group.
    pub name: Arc<str>,
}

/// A place in the line: the round, and the order of coming.
type Place = (u64, u64);

#[derive(Debug)]
struct Waiter {
    requester: Requester,
    /// When it was told to come.
    told: Micros,
}

/// Those of one group that wait.
#[derive(Debug, Default)]
struct Share {
    waiting: usize,
    /// The round of the last one.
    round: u64,
}

/// The line.
#[derive(Debug, Default)]
pub(super) struct Turns {
    line: BTreeMap<Place, Waiter>,
    places: HashMap<Requester, Place>,
    shares: HashMap<Arc<str>, Share>,
    /// The round of the last turn that was taken.
    round: u64,
    count: u64,
}

impl Turns {
    pub fn is_empty(&self) -> bool {
        self.line.is_empty()
    }

    pub fn len(&self) -> usize {
        self.line.len()
    }

    /// How many stand before this one, or would if it came now. Who is late does not count.
    pub fn rank(&self, requester: &Requester, now: Micros) -> usize {
        let on_time = |waiter: &Waiter| !late(waiter, now);
        let before = |place| self.line.range(..place).filter(|(_, waiter)| on_time(waiter)).count();
        if let Some(place) = self.places.get(requester) {
            return before(*place);
        }
        let place = self.newcomer(requester);
        match self.line.last_key_value() {
            // The end of a long line: only its head is late, as a rule.
            Some((last, _)) if *last < place => {
                self.line.len() - self.line.values().take_while(|waiter| late(waiter, now)).count()
            }
            _ => before(place),
        }
    }

    /// When this one was told to come.
    pub fn told(&self, requester: &Requester) -> Option<Micros> {
        Some(self.line.get(self.places.get(requester)?)?.told)
    }

    /// Tells one to come at that time; it joins the line where it does not stand there yet. Who was told of a time that
    /// is still to come keeps it, if it is not later. Returns when to come.
    pub fn tell(&mut self, requester: &Requester, at: Micros, now: Micros) -> Micros {
        if let Some(waiter) = self.places.get(requester).and_then(|place| self.line.get_mut(place)) {
            waiter.told = if waiter.told > now { waiter.told.min(at) } else { at };
            return waiter.told;
        }
        let place = self.newcomer(requester);
        self.join(requester, place, at);
        at
    }

    /// One that had its turn in vain: it stands before all that come after it.
    pub fn put_back(&mut self, requester: &Requester, at: Micros) {
        self.leave(requester);
        let place = (self.round, self.count);
        self.join(requester, place, at);
    }

    /// This one takes its turn.
    pub fn take(&mut self, requester: &Requester) {
        if let Some((round, _)) = self.leave(requester) {
            self.round = self.round.max(round);
        }
    }

    /// This one does not wait any more. Returns its place.
    pub fn leave(&mut self, requester: &Requester) -> Option<Place> {
        let place = self.places.remove(requester)?;
        self.line.remove(&place);
        if let Some(share) = self.shares.get_mut(&requester.group) {
            share.waiting -= 1;
            if share.waiting == 0 {
                self.shares.remove(&requester.group);
            }
        }
        Some(place)
    }

    /// Those at the head whose turn has come by `slot` (by rank) although they were told of a later time: they are to come
    /// now. Forgets who does not come any more.
    pub fn called_up(&mut self, now: Micros, mut slot: impl FnMut(usize) -> Micros) -> Vec<Requester> {
        let gone: Vec<Requester> = self
            .line
            .values()
            .filter(|waiter| now.saturating_sub(waiter.told) > GONE)
            .map(|waiter| waiter.requester.clone())
            .collect();
        for requester in &gone {
            self.leave(requester);
        }
        let mut called = Vec::new();
        let on_time = self.line.values_mut().filter(|waiter| !late(waiter, now));
        for (rank, waiter) in on_time.enumerate() {
            if slot(rank) > now {
                break;
            }
            if waiter.told > now {
                waiter.told = now;
                called.push(waiter.requester.clone());
            }
        }
        called
    }

    /// The clock was set back by so much, a negative time.
    pub fn set_back(&mut self, by: Micros) {
        self.line.values_mut().for_each(|waiter| waiter.told = waiter.told.saturating_add(by));
    }

    fn newcomer(&self, requester: &Requester) -> Place {
        let last = self.shares.get(&requester.group).map_or(0, |share| share.round);
        (last.max(self.round) + 1, self.count)
    }

    fn join(&mut self, requester: &Requester, place: Place, told: Micros) {
        self.count += 1;
        let share = self.shares.entry(Arc::clone(&requester.group)).or_default();
        share.waiting += 1;
        share.round = share.round.max(place.0);
        self.line.insert(place, Waiter { requester: requester.clone(), told });
        self.places.insert(requester.clone(), place);
    }
}

fn late(waiter: &Waiter, now: Micros) -> bool {
    now.saturating_sub(waiter.told) > GRACE
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requester(group: &str, number: u32) -> Requester {
        Requester { group: group.into(), name: number.to_string().into() }
    }

    /// Lets all call, one after the other.
    fn order(turns: &mut Turns) -> Vec<Requester> {
        let mut order = Vec::new();
        while let Some(first) = turns.line.first_key_value().map(|(_, waiter)| waiter.requester.clone()) {
            assert_eq!(turns.rank(&first, 0), 0);
            turns.take(&first);
            order.push(first);
        }
        order
    }

    #[test]
    fn within_a_namespace_first_come_is_first_served_and_another_takes_every_other_turn() {
        let mut turns = Turns::default();
        for number in 0..5 {
            turns.tell(&requester("fleet", number), 100, 0);
        }
        turns.take(&requester("fleet", 0));
        turns.tell(&requester("other", 0), 100, 0);
        turns.tell(&requester("other", 1), 100, 0);
        let order: Vec<_> = order(&mut turns)
            .into_iter()
            .map(|requester| format!("{} {}", requester.group, requester.name))
            .collect();
        assert_eq!(order, ["fleet 1", "other 0", "fleet 2", "other 1", "fleet 3", "fleet 4"]);
        assert!(turns.shares.is_empty() && turns.places.is_empty());
    }

    #[test]
    fn who_was_told_a_time_keeps_it_unless_it_can_go_earlier() {
        let mut turns = Turns::default();
        let one = requester("fleet", 0);
        for (now, at, told) in [(0, 100, 100), (10, 150, 100), (20, 90, 90), (90, 200, 200)] {
            assert_eq!(turns.tell(&one, at, now), told, "at {now}");
        }
    }

    #[test]
    fn who_had_its_turn_in_vain_goes_first() {
        let mut turns = Turns::default();
        for number in 0..5 {
            turns.tell(&requester("fleet", number), 100, 0);
        }
        turns.take(&requester("fleet", 0));
        turns.put_back(&requester("fleet", 0), 100);
        assert_eq!(turns.rank(&requester("fleet", 0), 0), 0);
        assert_eq!(turns.rank(&requester("fleet", 1), 0), 1);
    }

    #[test]
    fn who_does_not_come_is_passed_over_and_then_forgotten() {
        let mut turns = Turns::default();
        for number in 0..3 {
            turns.tell(&requester("fleet", number), 10, 0);
        }
        let last = requester("fleet", 2);
        assert_eq!(turns.rank(&last, 10 + GRACE), 2);
        turns.tell(&last, 20 + GRACE, 10 + GRACE);
        assert_eq!(turns.rank(&last, 11 + GRACE), 0);
        assert_eq!(turns.rank(&requester("fleet", 0), 11 + GRACE), 0, "it still has its place");
        assert!(turns.called_up(11 + GONE, |_| 0).is_empty());
        assert_eq!((turns.len(), turns.rank(&last, 11 + GONE)), (1, 0));
    }

    #[test]
    fn the_head_is_called_up_when_it_can_go_earlier() {
        let mut turns = Turns::default();
        for number in 0..5 {
            turns.tell(&requester("fleet", number), 100 + i64::from(number), 0);
        }
        let slot = |rank| 40 + 10 * Micros::try_from(rank).unwrap();
        assert_eq!(turns.called_up(55, slot), [requester("fleet", 0), requester("fleet", 1)]);
        assert_eq!(turns.called_up(55, slot), [], "once");
        assert_eq!(turns.told(&requester("fleet", 1)), Some(55));
    }

    proptest! {
        #[test]
        fn nobody_waits_longer_than_its_share_of_turns(
            steps in proptest::collection::vec((0_u32..4, 0_u32..30, proptest::bool::weighted(0.03)), 1..200),
        ) {
            let mut turns = Turns::default();
            let (mut now, mut left) = (0, false);
            for (group, number, leaves) in steps {
                now += 1;
                let requester = requester(&group.to_string(), number);
                if leaves {
                    left |= turns.leave(&requester).is_some();
                    continue;
                }
                let rank = turns.rank(&requester, now);
                let known = turns.told(&requester).is_some();
                turns.tell(&requester, now + 1000, now);
                prop_assert_eq!(turns.rank(&requester, now), rank, "as it was told before it joined");
                let before = turns.places.keys().filter(|other| other.group == requester.group).count() - 1;
                // Before each of its own group at most one of each of the three others.
                // Rounds of those who have left stay empty.
                prop_assert!(left || known || rank <= before + 3 * (before + 1));
            }
            let (mut places, mut shares) = (turns.places.len(), 0);
            prop_assert_eq!(turns.line.len(), places);
            shares += turns.shares.values().map(|share| share.waiting).sum::<usize>();
            prop_assert_eq!(shares, places);
            while let Some((_, waiter)) = turns.line.first_key_value() {
                let requester = waiter.requester.clone();
                turns.take(&requester);
                places -= 1;
            }
            prop_assert_eq!(places, 0);
            prop_assert!(turns.shares.is_empty());
        }
    }
}
