//! The snapshot of the controller for a scrape of the metrics.

use std::sync::Arc;

use crate::{
    context::Context,
    runtime::{FleetView, IdentityView, ObjectView, Snapshot, Source},
    store::object::{FleetObject, Object},
};
use vncpassword_alicloud::Identity;

impl Source for Context {
    fn snapshot(&self) -> Snapshot {
        Snapshot {
            leads: self.config.lease.holds(),
            unreadable: self.namespaces.unreadable(),
            gates: self.limiter.statuses(self.now()),
            identities: self.identities.all().iter().map(|identity| view_identity(identity)).collect(),
            objects: self.registry.all().iter().map(|object| view_object(object)).collect(),
            fleets: self.fleets.all().iter().map(|fleet| view_fleet(fleet)).collect(),
        }
    }
}

fn view_identity(identity: &Identity) -> IdentityView {
    let credentials = identity.credentials();
    IdentityView {
        name: identity.name().into(),
        age: credentials.age(),
        failures: credentials.failures(),
        refused: identity.is_refused(),
    }
}

fn view_object(object: &Object) -> ObjectView {
    ObjectView {
        namespace: Arc::clone(&object.key.namespace),
        name: Arc::clone(&object.key.name),
        spec: object.spec.as_ref().ok().cloned(),
        status: Arc::clone(&object.status),
        fleet: object.membership.as_ref().map(|membership| Arc::clone(&membership.fleet)),
    }
}

fn view_fleet(fleet: &FleetObject) -> FleetView {
    FleetView {
        name: Arc::clone(&fleet.name),
        spec: fleet.spec.as_ref().ok().cloned(),
        status: Arc::clone(&fleet.status),
    }
}
