//! Conditions with closed sets of types and reasons, in the shape of `metav1.Condition`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::IgnoredAny};

/// One aspect of the object's state. The meaning follows kstatus: a tool that knows kstatus reads it right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Condition {
    /// Which aspect this is about.
    #[serde(rename = "type")]
    pub type_: ConditionType,
    /// `True`, `False` or `Unknown`.
    pub status: ConditionStatus,
    /// A CamelCase word for programs; the closed list stands in docs/reference.md.
    pub reason: Reason,
    /// A sentence for people. Stable: it holds no counter, no time, no request ID.
    #[schemars(length(max = 32768))]
    pub message: String,
    /// When `status` last changed.
    pub last_transition_time: Time,
    /// The `metadata.generation` that this was decided on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
}

impl Condition {
    /// Whether it says `False`.
    #[must_use]
    pub fn is_false(&self) -> bool {
        self.status == ConditionStatus::False
    }
}

/// Reads a list of conditions. Those that cannot be read, such as one of an unknown type, are skipped one by one.
pub(super) fn readable<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Condition>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Entry {
        Known(Condition),
        Unknown(IgnoredAny),
    }
    let entries = Option::<Vec<Entry>>::deserialize(deserializer)?.unwrap_or_default();
    let known = entries.into_iter().filter_map(|entry| match entry {
        Entry::Known(condition) => Some(condition),
        Entry::Unknown(IgnoredAny) => None,
    });
    Ok(known.collect())
}

/// The aspects. All but `Ready` exist only while they are true.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionType {
    /// True: the Secret's key holds the password that is in effect, as far as the API can tell. Unknown: the
    /// outcome of a call is not known. False: it is not in effect.
    Ready,
    /// Something is under way or is retried by itself.
    Reconciling,
    /// It needs a person. The operator still tries again, usually every 10 minutes, and after changes.
    Stalled,
    /// Accepted by the API, in effect after a restart of the instance.
    RebootRequired,
    /// `spec.suspend` is set: nothing is done, the status is kept.
    Suspended,
    /// Of a fleet: which instances there are is not known for certain, so nothing is pruned.
    DiscoveryDegraded,
}

/// Truth of a condition.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl ConditionStatus {
    /// The word as it stands in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

/// Why a condition is what it is. Closed, so that alerts and scripts can rely on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The API accepted the Secret's value and it is in effect.
    Applied,
    /// A call of unknown outcome may still arrive: what changes the password waits until it cannot any more.
    Settling,
    /// The first password of the object is drawn.
    Generating,
    /// The instance must be looked up before its first password, but that fails.
    LookupFailed,
    /// The API refused because of the instance's state; retried when that changes.
    IncorrectInstanceStatus,
    /// The API refused because the instance is not ready yet; retried when that changes.
    InstanceNotReady,
    /// The API refuses for an hour although the instance is Running, so it seems to have no VNC.
    InstanceUnsupported,
    /// The API limits the rate of calls; retried when it opens again.
    Throttled,
    /// The object, its Secrets or its status change so often that the object has used up its own calls.
    ChangedTooOften,
    /// A call was sent and its outcome is not known; the same password is sent again.
    OutcomeUnknown,
    /// No connection to the API could be made; nothing was sent.
    Unreachable,
    /// The API did not accept the signature (clock, nonce); signed afresh.
    SignatureRejected,
    /// The password waits for a restart of the instance.
    RebootRequired,
    /// The Secret does not exist.
    SecretNotFound,
    /// The Secret has no such key.
    SecretKeyNotFound,
    /// The operator may not read the Secret, or not write it: it lacks a right in the cluster.
    SecretForbidden,
    /// A quota does not let the operator write the Secret.
    QuotaExceeded,
    /// An admission policy does not let the operator write the Secret.
    PolicyDenied,
    /// An admission webhook does not let the operator write the Secret.
    WebhookDenied,
    /// An admission webhook that is asked about the Secret cannot be called, or does not answer in time.
    WebhookFailed,
    /// With the passwords in it the Secret would be larger than the API server takes.
    SecretTooLarge,
    /// The namespace is being deleted, so no Secret can be created in it.
    NamespaceTerminating,
    /// The API server did not manage to write the Secret.
    SecretWriteFailed,
    /// The API server refuses to write the Secret for a reason that the operator does not know.
    SecretWriteRefused,
    /// The operator may not write the Secret: it neither made it for this instance nor was it let in by a label.
    SecretNotWritable,
    /// Another writer keeps changing what the operator writes into the Secret.
    CompetingWriters,
    /// The value is no VNC password.
    InvalidPassword,
    /// `spec.rotation` or `spec.window` holds no schedule, time zone or duration that can be.
    InvalidSchedule,
    /// The annotation `vncpassword.dev/rotate-at` is no time.
    InvalidRotateAt,
    /// Whether the instance takes a password at once cannot be found out, so none is drawn.
    InstanceUnknown,
    /// No region is known, or it is no region.
    InvalidRegion,
    /// The object does not fit the schema of this operator.
    InvalidObject,
    /// Another object owns this instance.
    Conflict,
    /// The API does not know the instance or the region.
    InstanceNotFound,
    /// The identity lacks the right, or the instance is locked.
    Denied,
    /// The API does not accept the access key or token.
    InvalidCredentials,
    /// No credentials are configured, or the Secret of `spec.credentialsRef` does not exist.
    CredentialsNotFound,
    /// The namespace may not use the operator's own identity.
    AmbientCredentialsDenied,
    /// The API refused for a reason that the operator does not know.
    Refused,
    /// `spec.suspend` is set.
    Suspended,
    /// Of a fleet: it selects no instance.
    NothingSelected,
    /// Of a fleet: passwords are drawn or rotated, in waves.
    RollingOut,
    /// Of a fleet: a scheduled rollout goes on when the window opens.
    WaitingForWindow,
    /// Of a fleet: some instances are stopped, or wait for a restart; the rest is done.
    WaitingForInstances,
    /// Of a fleet: too many instances failed, so no more are started.
    RolloutHalted,
    /// Of a fleet: some VncPasswords need a person.
    MembersFailed,
    /// Of a fleet: suddenly far fewer instances are found; nothing is pruned until that is confirmed.
    DiscoveryDegraded,
    /// Of a fleet: which instances there are cannot be found out.
    DiscoveryFailed,
    /// Of a fleet: `spec.targetNamespace` does not exist.
    NamespaceNotFound,
    /// Of a fleet: the API server refuses the VncPasswords.
    MemberRefused,
    /// Written by a version of the operator that knows more reasons.
    #[serde(other)]
    Unrecognized,
}

impl Reason {
    /// The word as it stands in the status.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "Applied",
            Self::Settling => "Settling",
            Self::Generating => "Generating",
            Self::LookupFailed => "LookupFailed",
            Self::IncorrectInstanceStatus => "IncorrectInstanceStatus",
            Self::InstanceNotReady => "InstanceNotReady",
            Self::InstanceUnsupported => "InstanceUnsupported",
            Self::Throttled => "Throttled",
            Self::ChangedTooOften => "ChangedTooOften",
            Self::OutcomeUnknown => "OutcomeUnknown",
            Self::Unreachable => "Unreachable",
            Self::SignatureRejected => "SignatureRejected",
            Self::RebootRequired => "RebootRequired",
            Self::SecretNotFound => "SecretNotFound",
            Self::SecretKeyNotFound => "SecretKeyNotFound",
            Self::SecretForbidden => "SecretForbidden",
            Self::QuotaExceeded => "QuotaExceeded",
            Self::PolicyDenied => "PolicyDenied",
            Self::WebhookDenied => "WebhookDenied",
            Self::WebhookFailed => "WebhookFailed",
            Self::SecretTooLarge => "SecretTooLarge",
            Self::NamespaceTerminating => "NamespaceTerminating",
            Self::SecretWriteFailed => "SecretWriteFailed",
            Self::SecretWriteRefused => "SecretWriteRefused",
            Self::SecretNotWritable => "SecretNotWritable",
            Self::CompetingWriters => "CompetingWriters",
            Self::InvalidPassword => "InvalidPassword",
            Self::InvalidSchedule => "InvalidSchedule",
            Self::InvalidRotateAt => "InvalidRotateAt",
            Self::InstanceUnknown => "InstanceUnknown",
            Self::InvalidRegion => "InvalidRegion",
            Self::InvalidObject => "InvalidObject",
            Self::Conflict => "Conflict",
            Self::InstanceNotFound => "InstanceNotFound",
            Self::Denied => "Denied",
            Self::InvalidCredentials => "InvalidCredentials",
            Self::CredentialsNotFound => "CredentialsNotFound",
            Self::AmbientCredentialsDenied => "AmbientCredentialsDenied",
            Self::Refused => "Refused",
            Self::Suspended => "Suspended",
            Self::NothingSelected => "NothingSelected",
            Self::RollingOut => "RollingOut",
            Self::WaitingForWindow => "WaitingForWindow",
            Self::WaitingForInstances => "WaitingForInstances",
            Self::RolloutHalted => "RolloutHalted",
            Self::MembersFailed => "MembersFailed",
            Self::DiscoveryDegraded => "DiscoveryDegraded",
            Self::DiscoveryFailed => "DiscoveryFailed",
            Self::NamespaceNotFound => "NamespaceNotFound",
            Self::MemberRefused => "MemberRefused",
            Self::Unrecognized => "Unrecognized",
        }
    }
}

// A plain string in the schema: an older CRD must not refuse the reason of a newer operator.
impl JsonSchema for Reason {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Reason".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "string",
            "minLength": 1,
            "maxLength": 1024,
            "pattern": "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
        })
    }
}
