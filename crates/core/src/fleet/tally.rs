//! The members of a fleet, counted.

use jiff::Timestamp;

use super::member::{Child, Facts, Member, Restart, Standing};
use crate::api::{Reason, Rollout};

/// So many failures are shown.
const SHOWN: usize = 10;

/// How the members of a fleet stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Selected instances.
    pub discovered: u32,
    /// Of these: Ready.
    pub ready: u32,
    /// Of these: with a password on its way.
    pub rotating: u32,
    /// Of these: nobody waits for them.
    pub waiting: u32,
    /// Of these: they need a person.
    pub failed: u32,
    /// Of these: another object has the child's name.
    pub foreign: u32,
    /// Of these: a password waits for a restart.
    pub reboot_required: u32,
    /// Of these: left to another `VncPassword`.
    pub owned_elsewhere: u32,
    /// Of these: without a child.
    pub missing: u32,
    /// What the rollout is about: all but those that are left to others.
    pub total: u32,
    /// Of these: rotated for the rollout.
    pub updated: u32,
    /// Of these: failed, and not rotated for the rollout.
    pub failing: u32,
    /// Of these: to be asked for the rollout yet.
    pub unasked: u32,
    /// Places that are taken in the wave; vanished instances take theirs as well.
    pub busy: u32,
    /// When any of these changes by waiting alone.
    pub wake: Option<Timestamp>,
    /// The newest failures, newest first: reason, and which member.
    pub failures: Vec<(Reason, usize)>,
}

impl Tally {
    /// Counts the members, under a rollout where there is one.
    #[must_use]
    pub fn of(members: &[Member], rollout: Option<&Rollout>, now: Timestamp) -> Self {
        let mut tally = Self::default();
        let mut failures = Vec::new();
        for (index, member) in members.iter().enumerate() {
            if member.wanted {
                tally.discovered += 1;
                tally.total += 1;
            }
            match &member.child {
                Child::Ours(facts) => {
                    let standing = facts.standing(rollout, now);
                    tally.take_up(standing);
                    if let Standing::Failed { reason, since } = standing
                        && member.wanted
                    {
                        failures.push((Some(since), reason, index));
                    }
                    if member.wanted {
                        tally.count(facts, standing, rollout, now);
                    }
                }
                _ if !member.wanted => {}
                Child::Missing => tally.missing += 1,
                Child::Elsewhere => tally.leave(),
                Child::Foreign => {
                    tally.foreign += 1;
                    tally.failed += 1;
                    failures.push((None, Reason::Conflict, index));
                }
            }
        }
        // Newest first, then in the order of members: what stands still is told in the same order.
        failures.sort_by(|one, other| other.0.cmp(&one.0).then(one.2.cmp(&other.2)));
        failures.truncate(SHOWN);
        tally.failures = failures.into_iter().map(|(_, reason, index)| (reason, index)).collect();
        tally
    }

    fn take_up(&mut self, standing: Standing) {
        if let Standing::Busy { until } = standing {
            self.busy += 1;
            self.wake = self.wake.into_iter().chain(until).min();
        }
    }

    fn count(&mut self, facts: &Facts, standing: Standing, rollout: Option<&Rollout>, now: Timestamp) {
        self.ready += u32::from(facts.ready);
        self.reboot_required += u32::from(facts.restart != Restart::None);
        let covered = rollout.is_some_and(|rollout| facts.covered(rollout));
        match standing {
            Standing::AtRest => {}
            Standing::Busy { .. } => self.rotating += 1,
            Standing::Aside => self.waiting += 1,
            Standing::Failed { .. } => {
                self.failed += 1;
                self.failing += u32::from(!covered);
            }
            Standing::Elsewhere => return self.leave(),
        }
        self.updated += u32::from(covered);
        let startable = !matches!(standing, Standing::Busy { .. });
        self.unasked +=
            u32::from(startable && rollout.is_some_and(|rollout| facts.stamp(rollout, now).is_some()));
    }

    fn leave(&mut self) {
        self.owned_elsewhere += 1;
        self.total -= 1;
    }
}
