//! What `doctor` is told: all of it read before, so that what it finds is a pure function.

use std::collections::BTreeSet;

use jiff::Timestamp;

use crate::fetched::Fetched;
use vncpassword_core::api::{LEASE, Whoami};

/// All that was read.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The kinds, one for each of `api::definitions()`.
    pub kinds: Vec<KindSnapshot>,
    /// The operator in the cluster.
    pub operator: OperatorSnapshot,
    /// The namespaces of its `--watch-namespaces`.
    pub namespaces: Vec<WatchedNamespace>,
    /// Who it is to the cloud.
    pub identity: Identity,
    /// What the caller may do.
    pub rights: Vec<CommandRights>,
    /// How far the caller's clock is ahead of the API server's, in seconds.
    pub ahead: Fetched<i64>,
    /// Secrets of instances that no object names any more.
    pub leftovers: Fetched<Vec<Leftover>>,
    /// The time by the API server's clock, where that is known.
    pub now: Timestamp,
}

/// One kind.
#[derive(Clone, Debug)]
pub struct KindSnapshot {
    /// Its plural name.
    pub plural: String,
    /// The definition in the cluster; `None`: there is none.
    pub definition: Fetched<Option<KindState>>,
    /// Whether the API server serves it in this version: asked without a right to definitions.
    pub served: Fetched<bool>,
}

/// A definition in the cluster, held against this program's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KindState {
    /// Versions that are served.
    pub served: Vec<String>,
    /// The API server has taken it.
    pub established: bool,
    /// How its schema of our version stands to ours; `None`: it has no such version.
    pub schema: Option<SchemaDifference>,
}

/// How the schema in the cluster differs from this program's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SchemaDifference {
    /// Fields that it has and this program does not know.
    pub more: BTreeSet<String>,
    /// Fields that this program knows and it has not.
    pub less: BTreeSet<String>,
    /// Fields, or rules, of which something else differs than a description.
    pub other: BTreeSet<String>,
    /// A description differs.
    pub words: bool,
}

/// The operator in the cluster.
#[derive(Clone, Debug)]
pub struct OperatorSnapshot {
    /// Its Deployments: one, as a rule.
    pub deployments: Fetched<Vec<DeploymentState>>,
    /// Its Pods.
    pub pods: Fetched<Vec<PodState>>,
    /// The Leases by which replicas agree.
    pub leases: Fetched<Vec<LeaseState>>,
    /// Where it was looked for; `None`: in all namespaces.
    pub namespace: Option<String>,
    /// Objects whose status somebody else kept changing within the last hour, as Events say: namespace and name.
    pub contested: Fetched<BTreeSet<(String, String)>>,
}

/// A Deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentState {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Replicas that it should have.
    pub wanted: i32,
    /// Replicas that are ready.
    pub ready: i32,
    /// The chart's version of the program.
    pub version: Option<String>,
    /// Whether its replicas agree on a leader.
    pub elects: bool,
    /// The Lease by which they do; `None`: that of the default name.
    pub lease: Option<String>,
    /// Its service account.
    pub account: String,
    /// The namespaces that it watches; none: all.
    pub watched: Vec<String>,
}

impl DeploymentState {
    /// The name of its Lease.
    #[must_use]
    pub fn lease(&self) -> &str {
        self.lease.as_deref().unwrap_or(LEASE)
    }
}

/// A namespace that an operator watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchedNamespace {
    /// The operator, as `namespace/name` of its Deployment.
    pub operator: String,
    /// The namespace.
    pub name: String,
    /// Whether there is such a namespace.
    pub exists: Fetched<bool>,
    /// What the operator may not do there, such as `list secrets`.
    pub lacks: Fetched<Vec<String>>,
}

/// A Pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodState {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// It is ready.
    pub ready: bool,
    /// Why its container does not run, such as `CrashLoopBackOff`.
    pub waiting: Option<String>,
    /// How often its container was started anew.
    pub restarts: i32,
}

/// A Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseState {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who holds it.
    pub holder: Option<String>,
    /// When it was last renewed.
    pub renewed: Option<Timestamp>,
    /// How long it lasts, in seconds.
    pub seconds: Option<i32>,
}

/// Who the operator is to the cloud.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// It was asked, and said so.
    Reported(Box<Whoami>),
    /// No Pod that could be asked.
    NoPod,
    /// The caller has no right to ask: which one is missing.
    Denied(String),
    /// The command ran and has failed: what it said.
    Failed(String),
    /// The command could not be run, or said something unreadable.
    Unknown(String),
}

/// What one command of the plugin needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommandRights {
    /// The command.
    pub command: &'static str,
    /// Where it was asked for; `None`: in all namespaces, or of what has none.
    pub namespace: Option<String>,
    /// Its rights, and whether the caller has them.
    pub rights: Vec<(Right, Fetched<bool>)>,
}

/// One right in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Right {
    /// What is to be done.
    pub verb: &'static str,
    /// The group; empty: core.
    pub group: &'static str,
    /// The resource, in plural.
    pub resource: &'static str,
    /// The subresource.
    pub subresource: Option<&'static str>,
    /// What has no namespace is asked for in none.
    pub namespaced: bool,
}

/// A Secret that the operator made, of an instance that no object in its namespace names.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Leftover {
    /// Where it is.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The instance.
    pub instance: String,
}
