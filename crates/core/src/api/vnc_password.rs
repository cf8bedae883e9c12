//! `VncPassword`: the VNC password of one ECS instance. Everything checkable is checked by the API server.

use kube_core::Rule;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::VncPasswordStatus;

/// Keeps the VNC password of one Alibaba Cloud ECS instance equal to the value in a Secret.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "vncpassword.dev",
    version = "v1alpha1",
    kind = "VncPassword",
    plural = "vncpasswords",
    shortname = "vncpw",
    category = "vnc",
    namespaced,
    status = "VncPasswordStatus",
    doc = "Keeps the VNC password of one Alibaba Cloud ECS instance equal to the value in a Secret.",
    selectable = ".spec.instanceId",
    printcolumn(name = "Instance", type_ = "string", json_path = ".spec.instanceId"),
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].status"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Ready\")].reason"
    ),
    printcolumn(
        name = "Reboot",
        type_ = "string",
        description = "True: the password waits for a restart of the instance.",
        json_path = ".status.conditions[?(@.type==\"RebootRequired\")].status"
    ),
    printcolumn(name = "Last Rotation", type_ = "date", json_path = ".status.lastRotationTime"),
    // A string: a date that is still to come would be shown as invalid.
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRotationTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Region", type_ = "string", json_path = ".status.instance.regionId", priority = "1"),
    printcolumn(name = "Request ID", type_ = "string", json_path = ".status.requestId", priority = "1")
)]
#[serde(rename_all = "camelCase")]
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has its own")]
pub struct VncPasswordSpec {
    /// ID of the ECS instance, `i-` and then lower-case letters and digits, at most 64 characters. Immutable.
    #[schemars(length(min = 3, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^i-[a-z0-9]+$')")
            .message("must be the ID of an ECS instance, such as i-bp67acfmxazb4p"),
        validation = Rule::new("self == oldSelf")
            .message("is immutable: delete this VncPassword and create one for the other instance")
    )]
    pub instance_id: String,

    /// Region of the instance, such as `cn-hangzhou`, at most 64 characters. Default: the operator's `--region`.
    /// It may be changed, to mend a wrong one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(
        validation = Rule::new("self.matches('^([a-z]{2}|rus)(-[a-z0-9]+){1,4}$')")
            .message("must be a region ID such as cn-hangzhou, without a host name around it")
    )]
    pub region_id: Option<String>,

    /// The Secret that holds the password, in the namespace of this object. Immutable.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("is immutable: delete this VncPassword and create one for the other Secret")
    )]
    pub secret_ref: SecretRef,

    /// Absent: the Secret is yours, and the operator applies what it says. Present: the operator draws the passwords and
    /// writes them into the Secret, which it creates where it is missing and never deletes. `{}`: once, then on demand
    /// through the annotation `vncpassword.dev/rotate-at`; with `interval` or `schedule` also by itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Box<Rotation>>,

    /// Scheduled rotations and all restarts of the instance start only inside it. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Box<Window>>,

    /// What to do when an instance takes a password only at its next restart (it is not I/O optimized). `Manual`: say
    /// so. `Reboot`: restart it, where the operator runs with `--allow-reboot`. Default: `Manual`.
    #[serde(default, skip_serializing_if = "Activation::is_manual")]
    pub activation: Activation,

    /// A Secret in the namespace of this object that holds the identity to call the cloud with. Default: the operator's own,
    /// where the operator lets this namespace use it (`--ambient-credentials-namespaces`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,

    /// Sends the same password again this often, which undoes a change made in the console: the API cannot be
    /// asked what the password is. A Go duration such as `24h`, at least `10m`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = is_duration(), validation = at_least("10m"))]
    pub enforce_interval: Option<String>,

    /// Stops all action on the instance; the status stays as it is. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// When passwords are drawn. At most one of `interval` and `schedule`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(has(self.interval) && has(self.schedule))")
        .message("has an interval and a schedule: keep one of them"),
    validation = Rule::new("has(self.schedule) || !has(self.timeZone)")
        .message("has a timeZone and no schedule: name a schedule, or leave timeZone out")
)]
pub struct Rotation {
    /// A new password this long after the last one came into effect, and up to a tenth later so that objects spread. A Go
    /// duration such as `720h`, at least `1m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = is_duration(), validation = at_least("1m"))]
    pub interval: Option<String>,

    /// A new password at these times: a cron expression of five fields, such as `0 3 * * 1`, at most 256 characters, or one
    /// of `@yearly`, `@monthly`, `@weekly`, `@daily` and `@hourly`. In the nights in which the clock changes, a time that
    /// it skips is the moment after, and one that comes twice counts once; an expression for every hour goes on hourly.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = is_cron())]
    pub schedule: Option<String>,

    /// Time zone of `schedule`: a name of the IANA database, such as `Asia/Shanghai`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = is_time_zone())]
    pub time_zone: Option<String>,
}

/// A time of day, week or month in which work is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Window {
    /// When it opens: a cron expression such as `0 2 * * 6`, as in `rotation.schedule`.
    #[schemars(length(min = 1, max = 256))]
    #[x_kube(validation = is_cron())]
    pub schedule: String,

    /// How long it stays open: a Go duration such as `4h`, at least `1m`.
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = is_duration(), validation = at_least("1m"))]
    pub duration: String,

    /// Time zone of `schedule`: a name of the IANA database, such as `Asia/Shanghai`. Default: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    #[x_kube(validation = is_time_zone())]
    pub time_zone: Option<String>,
}

/// Who restarts an instance that needs it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Activation {
    /// A person.
    #[default]
    Manual,
    /// The operator.
    Reboot,
}

impl Activation {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn is_manual(&self) -> bool {
        matches!(self, Self::Manual)
    }
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = is_secret_name())]
    pub name: String,

    /// Key of the Secret's data, at most 244 of `[-._a-zA-Z0-9]`, not ending in `.next`, `.previous` or
    /// `.rotation`. Default: `password`. Its value is exactly six of `[A-Za-z0-9]`, with no line break.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 244))]
    #[x_kube(validation = is_secret_key(), validation = kept_for_the_operator())]
    pub key: String,
}

/// A Secret in the same namespace with an access key: keys `access-key-id` and `access-key-secret`, and `security-token`
/// where it is a temporary one. With `role-arn` as well, that role is assumed with it; with `role-arn` alone, by the
/// operator's own identity, where this namespace may use that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct CredentialsRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = is_secret_name())]
    pub name: String,
}

fn default_key() -> String {
    "password".to_owned()
}

pub(super) fn is_secret_key() -> Rule {
    Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && !self.matches('^[.][.]?$')")
        .message("must be a key of a Secret: letters, digits, '-', '_' and '.'")
}

pub(super) fn kept_for_the_operator() -> Rule {
    Rule::new("!self.matches('[.](next|previous|rotation)$')")
        .message("must not end in .next, .previous or .rotation: these names are kept for the operator")
}

pub(super) fn is_secret_name() -> Rule {
    Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')")
        .message("must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'")
}

/// What CEL's `duration()` reads without an error, and [`super::duration`] too.
const DURATION: &str = "self.matches('^([0-9]{1,5}([.][0-9]{1,6})?h|[0-9]{1,7}([.][0-9]{1,6})?(m|s|ms))+$')";

pub(super) fn is_duration() -> Rule {
    Rule::new(DURATION).message("must be a duration such as 30m or 24h (units h, m, s, ms)")
}

pub(super) fn at_least(least: &str) -> Rule {
    let rule = format!("!{DURATION} || duration(self) >= duration('{least}')");
    Rule::new(rule).message(format!("must be at least {least}").as_str())
}

/// Its shape; whether each field makes sense, the operator says.
fn is_cron() -> Rule {
    let rule = "self.matches('^([0-9A-Za-z*,/?#+-]+( +[0-9A-Za-z*,/?#+-]+){4}|@(yearly|annually|monthly|weekly|daily|hourly))$')";
    Rule::new(rule).message(
        "must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as 0 3 * * 1",
    )
}

/// Its shape; which names there are, the operator knows.
fn is_time_zone() -> Rule {
    Rule::new("self.matches('^[A-Za-z][A-Za-z0-9+_-]*(/[A-Za-z0-9+_-]+)*$')")
        .message("must be a name of the IANA time zone database, such as Asia/Shanghai")
}
