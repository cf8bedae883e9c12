//! The writes to member objects in one reconcile.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::{StreamExt, stream};

use super::{
    FleetInstance, Reconcile,
    member_objects::{MemberObjects, Written},
};
use crate::{
    reconcile::{Error, retry::backoff},
    store::{
        fleets::{MemberErrorState, Memory},
        object::Object,
    },
};
use vncpassword_core::fleet::{Action, MemberError, Plan};

/// Maximum number of writes in parallel.
const WRITERS: usize = 8;

impl Reconcile<'_> {
    /// Makes the planned writes, several in parallel. `Some`: the API server refused one.
    pub(super) async fn act(
        &self,
        actions: &[Action],
        instances: &[FleetInstance],
        member_objects: &MemberObjects<'_>,
    ) -> Result<Option<MemberError>, Error> {
        let stopped = AtomicBool::new(false);
        let writes =
            actions.iter().copied().map(|action| self.write(action, instances, member_objects, &stopped));
        let mut writes = stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(WRITERS);
        let mut first = Ok(None);
        while let Some(written) = writes.next().await {
            // Waits for running writes, and starts no more.
            stopped.fetch_or(!matches!(written, Ok(Written::Done)), Ordering::Relaxed);
            match (&first, written) {
                (Ok(None), Ok(Written::Refused(trouble))) => first = Ok(Some(trouble)),
                (Ok(_), Err(error)) => first = Err(error),
                _ => {}
            }
        }
        first
    }

    async fn write(
        &self,
        action: Action,
        instances: &[FleetInstance],
        member_objects: &MemberObjects<'_>,
        stopped: &AtomicBool,
    ) -> Result<Written, Error> {
        let (context, client) = (self.context, &self.context.client);
        let (Action::Create { member, .. }
        | Action::Rotate { member, .. }
        | Action::Update { member, .. }
        | Action::Delete { member }
        | Action::Orphan { member }) = action;
        let instance = &instances[member];
        let (id, region) = (&*instance.id, instance.region());
        if stopped.load(Ordering::Relaxed) || !context.config.lease.holds() {
            return Ok(Written::Done);
        }
        let uid = instance.uid().unwrap_or_default();
        let remember = |note: &dyn Fn(&mut Memory)| {
            context.fleets.remember(&self.fleet, |memory| note(memory));
        };
        let written = match action {
            // Recorded before the write: an interrupted write may have arrived.
            Action::Create { rotate_at, .. } => {
                remember(&|memory| memory.expectations.expect_create(id, rotate_at, context.now()));
                member_objects.create(client, id, region, rotate_at).await
            }
            Action::Rotate { rotate_at, .. } => {
                remember(&|memory| memory.expectations.expect_rotate_at(id, rotate_at, context.now()));
                let fits = |child: &Arc<Object>| member_objects.fits(child, id, &instance.wanted);
                let written = if instance.object.as_ref().is_some_and(fits) {
                    member_objects.apply(client, id, region, Some(rotate_at), uid).await?.0
                } else {
                    member_objects.repair(client, id, region, Some(rotate_at), uid).await?.0
                };
                Ok(written)
            }
            Action::Update { rotate_at, .. } => {
                let repaired = member_objects.repair(client, id, region, rotate_at, uid).await;
                repaired.map(|(written, version)| {
                    if let Some(version) = version {
                        let mark = (self.fleet.generation, version.into());
                        remember(&|memory| drop(memory.repaired.insert(id.into(), Clone::clone(&mark))));
                    }
                    written
                })
            }
            Action::Delete { .. } => member_objects.delete(client, id, uid).await,
            Action::Orphan { .. } => member_objects.orphan(client, id, uid).await,
        };
        if matches!(written, Ok(Written::Refused(_))) {
            remember(&|memory| memory.expectations.remove(id));
        }
        written
    }

    /// The actions of this reconcile, without repairs that had no effect before.
    pub(super) fn select_actions(&self, plan: &Plan, instances: &[FleetInstance]) -> Vec<Action> {
        let generation = self.fleet.generation;
        let repaired = self.context.fleets.remember(&self.fleet, |memory| {
            // `instances` are in the order of their ids.
            let is_member = |id: &str| instances.binary_search_by(|instance| (*instance.id).cmp(id)).is_ok();
            memory.repaired.retain(|id, (of, _)| *of == generation && is_member(id));
            memory.repaired.clone()
        });
        let repaired = repaired.unwrap_or_default();
        let is_ineffective = |action: &Action| match action {
            Action::Update { member, .. } => {
                let FleetInstance { id, object, .. } = &instances[*member];
                let version = object.as_ref().map(|object| &object.resource_version);
                repaired.get(id).is_some_and(|(_, repaired)| Some(repaired) == version)
            }
            _ => false,
        };
        plan.actions.iter().filter(|action| !is_ineffective(action)).copied().collect()
    }

    /// Records that the API server refuses, with a longer backoff each time. The status reports it.
    pub(super) fn record_member_error(&self, trouble: MemberError) {
        self.context.fleets.remember(&self.fleet, |memory| {
            let attempts = memory.member_error.as_ref().map_or(1, |before| before.attempts.saturating_add(1));
            memory.member_error = Some(MemberErrorState {
                error: trouble,
                until: Instant::now() + backoff(attempts),
                attempts,
            });
        });
    }
}
