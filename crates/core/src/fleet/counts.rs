//! Counts of the members of a fleet, by phase.

use jiff::Timestamp;

use super::member::{Member, MemberObject, MemberPhase, MemberState, Restart};
use crate::api::{Reason, Rollout};

/// Maximum number of failures in the status.
const MAX_FAILURES: usize = 10;

/// Counts of the members of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Selected instances. Unless stated otherwise, the other counts are subsets of these.
    pub discovered: u32,
    /// The member object is Ready.
    pub ready: u32,
    /// A rotation is under way.
    pub rotating: u32,
    /// The rollout does not wait for them: stopped for too long, suspended, or without VNC.
    pub waiting: u32,
    /// A person must act.
    pub failed: u32,
    /// Another object has the name of the member object.
    pub conflicts: u32,
    /// A password takes effect only after a restart.
    pub reboot_required: u32,
    /// Another `VncPassword` manages the instance.
    pub owned_elsewhere: u32,
    /// The member object does not exist yet.
    pub missing: u32,
    /// The members of the rollout: `discovered` without `owned_elsewhere`.
    pub total: u32,
    /// Rotated by the rollout.
    pub updated: u32,
    /// Failed, and not rotated by the rollout.
    pub failed_in_rollout: u32,
    /// The rollout must still set their `rotate-at`.
    pub to_rotate: u32,
    /// Slots of the wave in use. Instances that are no longer selected use slots too.
    pub slots_used: u32,
    /// When one of these counts changes by the passage of time alone.
    pub requeue_at: Option<Timestamp>,
    /// The newest failures, newest first: reason, and index of the member.
    pub failures: Vec<(Reason, usize)>,
}

impl Counts {
    /// Counts the members with respect to a rollout, if there is one.
    #[must_use]
    pub fn of(members: &[Member], rollout: Option<&Rollout>, now: Timestamp) -> Self {
        let mut counts = Self::default();
        let mut failures = Vec::new();
        for (index, member) in members.iter().enumerate() {
            if member.selected {
                counts.discovered += 1;
                counts.total += 1;
            }
            match &member.object {
                MemberObject::Owned(state) => {
                    let phase = state.phase(rollout, now);
                    counts.count_slot(phase);
                    if let MemberPhase::Failed { reason, since } = phase
                        && member.selected
                    {
                        failures.push((Some(since), reason, index));
                    }
                    if member.selected {
                        counts.count_owned(state, phase, rollout, now);
                    }
                }
                _ if !member.selected => {}
                MemberObject::Missing => counts.missing += 1,
                MemberObject::OwnedElsewhere => counts.count_owned_elsewhere(),
                MemberObject::Conflict => {
                    counts.conflicts += 1;
                    counts.failed += 1;
                    failures.push((None, Reason::Conflict, index));
                }
            }
        }
        // Newest first, then in the order of the members, so that an unchanged fleet has an unchanged status.
        failures.sort_by(|one, other| other.0.cmp(&one.0).then(one.2.cmp(&other.2)));
        failures.truncate(MAX_FAILURES);
        counts.failures = failures.into_iter().map(|(_, reason, index)| (reason, index)).collect();
        counts
    }

    fn count_slot(&mut self, phase: MemberPhase) {
        if let MemberPhase::Rotating { until } = phase {
            self.slots_used += 1;
            self.requeue_at = self.requeue_at.into_iter().chain(until).min();
        }
    }

    fn count_owned(
        &mut self,
        state: &MemberState,
        phase: MemberPhase,
        rollout: Option<&Rollout>,
        now: Timestamp,
    ) {
        self.ready += u32::from(state.ready);
        self.reboot_required += u32::from(state.restart != Restart::None);
        let updated = rollout.is_some_and(|rollout| state.is_updated(rollout));
        match phase {
            MemberPhase::Idle => {}
            MemberPhase::Rotating { .. } => self.rotating += 1,
            MemberPhase::Waiting => self.waiting += 1,
            MemberPhase::Failed { .. } => {
                self.failed += 1;
                self.failed_in_rollout += u32::from(!updated);
            }
            MemberPhase::OwnedElsewhere => return self.count_owned_elsewhere(),
        }
        self.updated += u32::from(updated);
        let can_start = !matches!(phase, MemberPhase::Rotating { .. });
        let must_rotate = rollout.is_some_and(|rollout| state.rotate_at_for(rollout, now).is_some());
        self.to_rotate += u32::from(can_start && must_rotate);
    }

    fn count_owned_elsewhere(&mut self) {
        self.owned_elsewhere += 1;
        self.total -= 1;
    }
}
