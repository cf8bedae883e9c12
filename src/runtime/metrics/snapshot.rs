//! What a scrape is told: the state of things at that moment. Nothing of it is kept in between, so what is
//! gone is gone from the metrics as well.

use std::sync::Arc;

use vncpassword_alicloud::{credentials::Age, rate_limit::RouteStatus};
use vncpassword_core::api::{
    ClusterVncPasswordSpec, ClusterVncPasswordStatus, VncPasswordSpec, VncPasswordStatus,
};

/// Whoever knows the state of things. Asked at each scrape; must not wait for anything.
pub trait Source: Send + Sync {
    /// Takes it down.
    fn snapshot(&self) -> Snapshot;
}

/// The state of things.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether this process may act. Only then it speaks for objects and identities: of several replicas one
    /// does.
    pub leads: bool,
    /// The namespaces of `--watch-namespaces` that the operator cannot read.
    pub unreadable: Vec<Arc<str>>,
    /// The limiter's gates.
    pub gates: Vec<RouteStatus>,
    /// Who calls the cloud.
    pub identities: Vec<IdentityView>,
    /// The VncPasswords.
    pub objects: Vec<ObjectView>,
    /// The fleets.
    pub fleets: Vec<FleetView>,
}

/// One identity.
#[derive(Clone, Debug)]
pub struct IdentityView {
    /// `operator`, or namespace and name of the Secret with its credentials.
    pub name: Box<str>,
    /// Its credentials, where there are any.
    pub age: Option<Age>,
    /// How often there were none to be had, in a row until now.
    pub failures: u32,
    /// The cloud refuses them.
    pub refused: bool,
}

/// One VncPassword.
#[derive(Clone, Debug)]
pub struct ObjectView {
    /// Its namespace.
    pub namespace: Arc<str>,
    /// Its name.
    pub name: Arc<str>,
    /// What it asks for, where that can be read.
    pub spec: Option<Arc<VncPasswordSpec>>,
    /// What is known of it.
    pub status: Arc<VncPasswordStatus>,
    /// The fleet that it belongs to.
    pub fleet: Option<Arc<str>>,
}

/// One fleet.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// Its name.
    pub name: Arc<str>,
    /// What it asks for, where that can be read.
    pub spec: Option<Arc<ClusterVncPasswordSpec>>,
    /// What is known of it.
    pub status: Arc<ClusterVncPasswordStatus>,
}
