//! `VncPassword`: the VNC password of one ECS instance. Everything checkable is checked by the API server.

use kube::{CustomResource, KubeSchema};
use serde::{Deserialize, Serialize};

use super::VncPasswordStatus;

/// Keeps the VNC password of one Alibaba Cloud ECS instance equal to the value in a Secret.
#[derive(CustomResource, Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[kube(
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
        validation = Rule::new("self.matches('^[a-z]{2,4}(-[a-z0-9]+){1,4}$')")
            .message("must be a region ID such as cn-hangzhou, without a host name around it")
    )]
    pub region_id: Option<String>,

    /// The Secret that holds the password, in the namespace of this object. Immutable.
    #[x_kube(
        validation = Rule::new("self == oldSelf")
            .message("is immutable: delete this VncPassword and create one for the other Secret")
    )]
    pub secret_ref: SecretRef,

    /// Sends the same password again this often, which undoes a change made in the console: the API cannot be
    /// asked what the password is. A Go duration such as `24h`, at least `10m`. Default: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(
        validation = Rule::new(
            "self.matches('^([0-9]{1,5}([.][0-9]{1,6})?h|[0-9]{1,7}([.][0-9]{1,6})?(m|s|ms))+$')"
        ).message("must be a duration such as 30m or 24h (units h, m, s, ms)"),
        validation = Rule::new(
            "!self.matches('^([0-9]{1,5}([.][0-9]{1,6})?h|[0-9]{1,7}([.][0-9]{1,6})?(m|s|ms))+$') || \
             duration(self) >= duration('10m')"
        ).message("must be at least 10m")
    )]
    pub enforce_interval: Option<String>,

    /// Stops all action on the instance; the status stays as it is. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// A key of a Secret in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
pub struct SecretRef {
    /// Name of the Secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(
        validation = Rule::new(
            "self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')"
        ).message("must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'")
    )]
    pub name: String,

    /// Key of the Secret's data, at most 244 of `[-._a-zA-Z0-9]`, not ending in `.next`, `.previous` or
    /// `.rotation`. Default: `password`. Its value is exactly six of `[A-Za-z0-9]`, with no line break.
    #[serde(default = "default_key")]
    #[schemars(length(min = 1, max = 244))]
    #[x_kube(
        validation = Rule::new("self.matches('^[-._a-zA-Z0-9]+$') && !self.matches('^[.][.]?$')")
            .message("must be a key of a Secret: letters, digits, '-', '_' and '.'"),
        validation = Rule::new("!self.matches('[.](next|previous|rotation)$')")
            .message("must not end in .next, .previous or .rotation: these names are kept for the operator")
    )]
    pub key: String,
}

fn default_key() -> String {
    "password".to_owned()
}
