//! `ClusterVncPassword`: the VNC passwords of a fleet of ECS instances. Everything checkable is checked by the API server.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use kube_core::Rule;
use kube_derive::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Activation, ClusterVncPasswordStatus, CredentialsRef, Rotation, Window,
    vnc_password::{at_least, is_duration, is_secret_key, kept_for_the_operator},
};

/// Keeps a `VncPassword` for each instance that it selects, and rotates them in waves.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[kube(
    crates(kube_core = "::kube_core"),
    group = "vncpassword.dev",
    version = "v1alpha1",
    kind = "ClusterVncPassword",
    plural = "clustervncpasswords",
    shortname = "cvncpw",
    category = "vnc",
    status = "ClusterVncPasswordStatus",
    doc = "Keeps a VncPassword for each of many Alibaba Cloud ECS instances, and rotates them in waves.",
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
    printcolumn(name = "Discovered", type_ = "integer", json_path = ".status.discovered"),
    printcolumn(
        name = "Updated",
        type_ = "string",
        description = "How many instances the newest rollout has rotated, of how many.",
        json_path = ".status.rollout.progress"
    ),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.failed"),
    // A string: a date that is still to come would be shown as invalid.
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextRotationTime"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
    printcolumn(name = "Rotating", type_ = "integer", json_path = ".status.rotating", priority = "1"),
    printcolumn(name = "Waiting", type_ = "integer", json_path = ".status.waiting", priority = "1")
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new(
        "[has(self.nodeSelector), has(self.tags), has(self.instanceIds)].filter(given, given).size() == 1"
    )
    .message("needs exactly one of nodeSelector ({} for every Node), tags with regionIds, and instanceIds"),
    validation = Rule::new("has(self.tags) == has(self.regionIds)")
        .message("tags need regionIds, the regions to search, and regionIds stand beside tags only"),
    validation = unchangeable("secretName", "''"),
    validation = unchangeable("secretKey", "'password'")
)]
#[allow(clippy::duplicated_attributes, reason = "each printcolumn has its own")]
pub struct ClusterVncPasswordSpec {
    /// The instances behind these Nodes of this cluster, through `spec.providerID` (`<region>.<instance>`, or
    /// `alicloud://` before it). `{}`: every Node. Exactly one of `nodeSelector`, `tags` and `instanceIds`; it may
    /// become another of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_selector: Option<NodeSelector>,

    /// The instances that carry all these tags, in `regionIds`. At most 20.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub tags: Option<Vec<Tag>>,

    /// The regions in which `tags` are searched, such as `cn-hangzhou`. At most 30.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 30), inner(length(min = 1, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(format!("self.all(region, region.matches('{REGION}$'))"))
            .message("must be region IDs such as cn-hangzhou, without a host name around them")
    )]
    pub region_ids: Option<Vec<String>>,

    /// These instances: `i-bp67acfmxazb4p` in the operator's `--region`, or with its region as in
    /// `cn-hangzhou.i-bp67acfmxazb4p`. At most 1,000; use tags for more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1000), inner(length(min = 3, max = 129)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new(format!(
            "self.all(id, id.matches('{REGIONAL_INSTANCE}') && id.split('.').all(part, part.size() <= 64))"
        ))
        .message("must be IDs of ECS instances, such as i-bp67acfmxazb4p or cn-hangzhou.i-bp67acfmxazb4p")
    )]
    pub instance_ids: Option<Vec<String>>,

    /// Instances to leave out, whatever selects them: IDs such as `i-bp67acfmxazb4p`. At most 1,000.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 1000), inner(length(min = 3, max = 64)))]
    #[x_kube(
        merge_strategy = ListMerge::Set,
        validation = Rule::new("self.all(id, id.matches('^i-[a-z0-9]+$'))")
            .message("must be IDs of ECS instances, such as i-bp67acfmxazb4p, without a region")
    )]
    pub exclude: Vec<String>,

    /// Only instances that carry all these tags in the cloud, whatever selects them: a Node says itself which
    /// instance it is, and is no more to be trusted than who may write Nodes. At most 20.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["key".into()]))]
    pub require_tags: Vec<Tag>,

    /// The namespace of the VncPasswords and their Secrets. It must exist, and be allowed the identity that is used. Immutable.
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(
        validation = Rule::new("self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')")
            .message("must be the name of a namespace: lower-case letters, digits and '-'"),
        validation = Rule::new("self == oldSelf")
            .message("is immutable: delete this ClusterVncPassword and create one for the other namespace")
    )]
    pub target_namespace: String,

    /// What the VncPasswords look like. Default: only what is said above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub template: Option<Box<Template>>,

    /// When all passwords are rotated, in one rollout. Absent or `{}`: on demand through the annotation
    /// `vncpassword.dev/rotate-at`. An interval counts from the beginning of the last rollout, without the delay that spreads single objects.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotation: Option<Box<Rotation>>,

    /// Scheduled rotations and all restarts of instances start only inside it; a rollout that is not through when it
    /// closes goes on at the next opening. Default: at any time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Box<Window>>,

    /// How often the cloud is asked which instances there are, and which carry the tags. Nodes are watched besides. A Go duration,
    /// at least `1m`. Default: `10m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 2, max = 32))]
    #[x_kube(validation = is_duration(), validation = at_least("1m"))]
    pub rediscover_interval: Option<String>,

    /// The pace of a rollout, and when it stops.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<RolloutLimits>,

    /// What becomes of the VncPassword of an instance that is no longer selected. `Delete`: it is deleted. `Orphan`: it stays and
    /// belongs to nobody. The Secret with the password stays in both. Default: `Delete`.
    #[serde(default, skip_serializing_if = "Prune::is_delete")]
    pub prune: Prune,

    /// Starts nothing and changes no VncPassword; what is under way goes on. Default: false.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub suspend: bool,
}

/// Which Nodes. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct NodeSelector {
    /// Labels with their values. At most 32.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(
        validation = Rule::new(format!("self.all(key, {} && self[key].matches('{LABEL_VALUE}'))", is_label_key("key")))
            .message("must be labels, such as node-pool: db")
    )]
    pub match_labels: BTreeMap<String, LabelValue>,

    /// Expressions over labels. At most 32.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub match_expressions: Vec<NodeExpression>,
}

/// One expression over a label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[x_kube(
    validation = Rule::new("(self.operator in ['In', 'NotIn']) == (has(self.values) && self.values.size() > 0)")
        .message("In and NotIn need values; Exists and DoesNotExist take none")
)]
pub struct NodeExpression {
    /// The label's key.
    #[schemars(length(min = 1, max = 317))]
    #[x_kube(validation = Rule::new(is_label_key("self")).message("must be the key of a label, such as node-pool"))]
    pub key: String,
    /// How it is compared.
    pub operator: NodeOperator,
    /// What with. At most 100.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100))]
    #[x_kube(
        validation = Rule::new(format!("self.all(value, value.matches('{LABEL_VALUE}'))"))
            .message("must be values of labels, such as db")
    )]
    pub values: Vec<LabelValue>,
}

/// How a label is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum NodeOperator {
    /// It has one of the values.
    In,
    /// It has none of the values, or is not there.
    NotIn,
    /// It is there.
    Exists,
    /// It is not there.
    DoesNotExist,
}

/// A tag in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct Tag {
    /// Its key, at most 128 characters.
    #[schemars(length(min = 1, max = 128))]
    pub key: String,
    /// Its value, at most 128 characters. Absent: any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 128))]
    pub value: Option<String>,
}

/// What each `VncPassword` of a fleet looks like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
#[serde(rename_all = "camelCase")]
pub struct Template {
    /// Labels and annotations of the VncPasswords.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<TemplateMetadata>,

    /// Name of the Secrets, with `{instanceId}` where the instance's ID belongs and `{fleet}` where the name of this object does, such as
    /// `vnc-{instanceId}`. Immutable. Default: `{fleet}-{instanceId}`, which is also the VncPassword's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 12, max = 120))]
    #[x_kube(
        validation = Rule::new("self.contains('{instanceId}')")
            .message("must contain {instanceId}: each instance has a Secret of its own"),
        validation = Rule::new(
            "self.replace('{instanceId}', 'i').replace('{fleet}', 'f')\
             .matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?([.][a-z0-9]([-a-z0-9]*[a-z0-9])?)*$')"
        )
        .message("must be the name of a Secret around {instanceId} and {fleet}: lower-case letters, digits, '-' and '.'")
    )]
    pub secret_name: Option<String>,

    /// Key of the Secrets' data, as `secretRef.key` of a VncPassword. Immutable. Default: `password`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 244))]
    #[x_kube(validation = is_secret_key(), validation = kept_for_the_operator())]
    pub secret_key: Option<String>,

    /// What to do when an instance takes a password only at its next restart (it is not I/O optimized). `Manual`: say so.
    /// `Reboot`: restart it, where the operator runs with `--allow-reboot`. Default: `Manual`.
    #[serde(default, skip_serializing_if = "Activation::is_manual")]
    pub activation: Activation,

    /// A Secret in `targetNamespace` that holds the identity to call the cloud with, also to find instances. Default: the
    /// operator's own, where the operator lets that namespace use it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_ref: Option<CredentialsRef>,
}

/// Labels and annotations of the VncPasswords of a fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[x_kube(crates(kube_core = "::kube_core"))]
pub struct TemplateMetadata {
    /// At most 16. Keys of `vncpassword.dev` and `app.kubernetes.io/managed-by` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new(format!("self.all(key, {} && self[key].matches('{LABEL_VALUE}'))", is_label_key("key")))
            .message("must be labels, such as team: db"),
        validation = not_the_operators()
    )]
    pub labels: BTreeMap<String, LabelValue>,

    /// At most 16, each of at most 1,024 characters. Keys of `vncpassword.dev` are the operator's.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 16))]
    #[x_kube(
        validation = Rule::new(format!("self.all(key, {})", is_label_key("key")))
            .message("must have keys such as example.com/owner"),
        validation = not_the_operators()
    )]
    pub annotations: BTreeMap<String, AnnotationValue>,
}

/// Value of a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct LabelValue(#[schemars(length(max = 63))] pub String);

/// Value of an annotation.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub struct AnnotationValue(#[schemars(length(max = 1024))] pub String);

/// The pace of a rollout, and when it stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RolloutLimits {
    /// How many passwords may be on their way at once, new instances included. At least 1, at most 1,000. Default: 10.
    #[serde(default = "RolloutLimits::max_concurrent")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_concurrent: u16,
    /// With `activation: Reboot`: how many instances may wait for a restart, or undergo it, at once. A wave is then no
    /// larger than this. At least 1, at most 1,000. Default: 1.
    #[serde(default = "RolloutLimits::max_unavailable")]
    #[schemars(range(min = 1, max = 1000))]
    pub max_unavailable: u16,
    /// After this many failures a rollout halts: until they have recovered, the spec changes, or
    /// `vncpassword.dev/rotate-at` asks anew. At least 1, at most 1,000. Default: 3.
    #[serde(default = "RolloutLimits::pause_after_failures")]
    #[schemars(range(min = 1, max = 1000))]
    pub pause_after_failures: u16,
}

impl RolloutLimits {
    fn max_concurrent() -> u16 {
        10
    }

    fn max_unavailable() -> u16 {
        1
    }

    fn pause_after_failures() -> u16 {
        3
    }
}

impl Default for RolloutLimits {
    fn default() -> Self {
        Self {
            max_concurrent: Self::max_concurrent(),
            max_unavailable: Self::max_unavailable(),
            pause_after_failures: Self::pause_after_failures(),
        }
    }
}

/// What becomes of the `VncPassword` of an instance that is no longer selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Prune {
    /// It is deleted; the Secret stays.
    #[default]
    Delete,
    /// It stays, and belongs to nobody.
    Orphan,
}

impl Prune {
    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    fn is_delete(&self) -> bool {
        matches!(self, Self::Delete)
    }
}

impl From<&NodeSelector> for LabelSelector {
    fn from(selector: &NodeSelector) -> Self {
        let labels = selector.match_labels.iter().map(|(key, value)| (key.clone(), value.0.clone()));
        let expressions = selector.match_expressions.iter().map(|expression| LabelSelectorRequirement {
            key: expression.key.clone(),
            operator: expression.operator.as_str().to_owned(),
            values: Some(expression.values.iter().map(|value| value.0.clone()).collect()),
        });
        Self { match_labels: Some(labels.collect()), match_expressions: Some(expressions.collect()) }
    }
}

impl NodeOperator {
    /// The word as it stands in the spec.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::In => "In",
            Self::NotIn => "NotIn",
            Self::Exists => "Exists",
            Self::DoesNotExist => "DoesNotExist",
        }
    }
}

/// A region ID, as in `spec.regionId` of a `VncPassword`.
const REGION: &str = "^([a-z]{2}|rus)(-[a-z0-9]+){1,4}";
/// An instance's ID, with its region before it or without.
const REGIONAL_INSTANCE: &str = "^(([a-z]{2}|rus)(-[a-z0-9]+){1,4}[.])?i-[a-z0-9]+$";
/// The value of a label; its length is told apart.
const LABEL_VALUE: &str = "^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$";

/// CEL that holds for a key of a label or an annotation.
fn is_label_key(key: &str) -> String {
    format!(
        "{key}.size() <= 317 && \
         {key}.matches('^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[A-Za-z0-9]([-A-Za-z0-9_.]{{0,61}}[A-Za-z0-9])?$')"
    )
}

fn not_the_operators() -> Rule {
    Rule::new(
        "self.all(key, !key.matches('^([a-z0-9.-]*[.])?vncpassword[.]dev/') && key != 'app.kubernetes.io/managed-by')",
    )
    .message("must not hold keys of vncpassword.dev, or app.kubernetes.io/managed-by: they are the operator's")
}

/// A field of the template that may not change, also not by coming or going.
fn unchangeable(field: &str, default: &str) -> Rule {
    let value = |of: &str| {
        format!("(has({of}.template) && has({of}.template.{field}) ? {of}.template.{field} : {default})")
    };
    Rule::new(format!("{} == {}", value("self"), value("oldSelf"))).message(
        format!(
            "template.{field} is immutable: put it back, or delete this ClusterVncPassword and create it anew"
        )
        .as_str(),
    )
}
