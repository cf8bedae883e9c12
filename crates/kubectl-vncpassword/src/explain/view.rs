//! What `explain` is told: all of it read before, so that what is said of it is a pure function.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::fetched::Fetched;
use vncpassword_core::api::{ClusterVncPassword, VncPassword};

/// One `VncPassword` and what there is around it.
#[derive(Clone, Debug)]
pub struct ObjectView {
    /// The object.
    pub object: VncPassword,
    /// Its Secret; `None`: it does not exist.
    pub secret: Fetched<Option<SecretState>>,
    /// The Secret of `spec.credentialsRef`, where there is one.
    pub credentials: Option<Fetched<Option<SecretState>>>,
    /// The other objects that name its instance; in a conflict where there is none, those that name its key of the Secret.
    pub others: Fetched<Vec<VncPassword>>,
    /// What happened lately.
    pub events: Fetched<Vec<EventSummary>>,
    /// When this was.
    pub now: Timestamp,
    /// The namespace of the operator, for commands.
    pub operator: String,
}

/// One `ClusterVncPassword` and what there is around it.
#[derive(Clone, Debug)]
pub struct FleetView {
    /// The object.
    pub fleet: ClusterVncPassword,
    /// What happened lately.
    pub events: Fetched<Vec<EventSummary>>,
    /// When this was.
    pub now: Timestamp,
    /// The namespace of the operator, for commands.
    pub operator: String,
}

/// A Secret without its values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SecretState {
    /// The keys of its data.
    pub keys: BTreeSet<String>,
    /// Its type.
    pub type_: String,
    /// Nobody can change it.
    pub immutable: bool,
    /// The operator made it.
    pub operators: bool,
    /// Its owner has let the operator in.
    pub writable: bool,
}

/// An Event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSummary {
    /// When it last happened.
    pub at: Option<Timestamp>,
    /// It is a Warning.
    pub warning: bool,
    /// Why.
    pub reason: String,
    /// What happened.
    pub note: String,
    /// How often.
    pub times: i32,
}
