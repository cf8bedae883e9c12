//! What a pass writes to the children of a fleet.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use futures::{StreamExt, stream};

use super::{
    Instance, Pass, backoff,
    children::{Children, Written},
};
use crate::{
    reconcile::Error,
    store::{
        fleets::{Memory, Troubled},
        object::Object,
    },
};
use vncpassword_core::fleet::{Action, Plan, Trouble};

/// Writes to children that are under way at a time.
const WRITERS: usize = 8;

impl Pass<'_> {
    /// Does what was planned, several at a time. `Some`: the API server refused.
    pub(super) async fn act(
        &self,
        actions: &[Action],
        instances: &[Instance],
        children: &Children<'_>,
    ) -> Result<Option<Trouble>, Error> {
        let stopped = AtomicBool::new(false);
        let writes = actions.iter().copied().map(|action| self.write(action, instances, children, &stopped));
        let mut writes = stream::iter(writes.collect::<Vec<_>>()).buffer_unordered(WRITERS);
        let mut first = Ok(None);
        while let Some(written) = writes.next().await {
            // What is under way is waited for, and nothing more begun.
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
        instances: &[Instance],
        children: &Children<'_>,
        stopped: &AtomicBool,
    ) -> Result<Written, Error> {
        let (context, client) = (self.context, &self.context.client);
        let (Action::Create { member, .. }
        | Action::Stamp { member, .. }
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
            // Noted before it is sent: what was cut short may have arrived.
            Action::Create { stamp, .. } => {
                remember(&|memory| memory.issued.created(id, stamp, context.now()));
                children.create(client, id, region, stamp).await
            }
            Action::Stamp { stamp, .. } => {
                remember(&|memory| memory.issued.stamped(id, stamp, context.now()));
                let fits = |child: &Arc<Object>| children.fits(child, id, &instance.wanted);
                if instance.child.as_ref().is_some_and(fits) {
                    children.apply(client, id, region, Some(stamp), uid).await.map(|(written, _)| written)
                } else {
                    children.mend(client, id, region, Some(stamp), uid).await.map(|(written, _)| written)
                }
            }
            Action::Update { stamp, .. } => {
                let mended = children.mend(client, id, region, stamp, uid).await;
                mended.map(|(written, version)| {
                    if let Some(version) = version {
                        let mark = (self.fleet.generation, version.into());
                        remember(&|memory| drop(memory.mended.insert(id.into(), Clone::clone(&mark))));
                    }
                    written
                })
            }
            Action::Delete { .. } => children.delete(client, id, uid).await,
            Action::Orphan { .. } => children.orphan(client, id, uid).await,
        };
        if matches!(written, Ok(Written::Refused(_))) {
            remember(&|memory| memory.issued.undone(id));
        }
        written
    }

    /// What is done in this pass: not more than leaves room to look again, and nothing that was in vain before.
    pub(super) fn chosen(&self, plan: &Plan, instances: &[Instance]) -> Vec<Action> {
        let generation = self.fleet.generation;
        let mended = self.context.fleets.remember(&self.fleet, |memory| {
            // `instances` are in the order of their ids.
            let is_member = |id: &str| instances.binary_search_by(|instance| (*instance.id).cmp(id)).is_ok();
            memory.mended.retain(|id, (of, _)| *of == generation && is_member(id));
            memory.mended.clone()
        });
        let mended = mended.unwrap_or_default();
        let in_vain = |action: &Action| match action {
            Action::Update { member, .. } => {
                let Instance { id, child, .. } = &instances[*member];
                let version = child.as_ref().map(|child| &child.resource_version);
                mended.get(id).is_some_and(|(_, mended)| Some(mended) == version)
            }
            _ => false,
        };
        plan.actions.iter().filter(|action| !in_vain(action)).copied().collect()
    }

    /// The API server refuses: that is told, and tried again later and later.
    pub(super) fn troubled(&self, trouble: Trouble) {
        self.context.fleets.remember(&self.fleet, |memory| {
            let times = memory.trouble.as_ref().map_or(1, |before| before.times.saturating_add(1));
            memory.trouble = Some(Troubled { trouble, until: Instant::now() + backoff(times), times });
        });
    }
}
