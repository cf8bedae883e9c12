//! The kinds of group `vncpassword.dev`: their fields, conditions and reasons, and nothing else.

mod cluster_status;
mod cluster_vnc_password;
mod conditions;
mod status;
mod vnc_password;
mod whoami;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool, ValidationRule,
};
use kube_core::CustomResourceExt;

pub use cluster_status::{
    ClusterVncPasswordStatus, Failure, PaceFrom, Rollout, SkipReason, SkippedNode, Trigger,
    UnconfirmedDiscovery,
};
pub use cluster_vnc_password::{
    AnnotationValue, ClusterVncPassword, ClusterVncPasswordSpec, LabelValue, NodeExpression, NodeOperator,
    NodeSelector, Prune, RolloutLimits, Tag, Template, TemplateMetadata,
};
pub use conditions::{Condition, ConditionStatus, ConditionType, Reason};
pub use status::{Accepted, Applied, Instance, RebootRequest, Retry, VncPasswordStatus};
pub use vnc_password::{
    Activation, CredentialsRef, Rotation, SecretRef, VncPassword, VncPasswordSpec, Window,
};

pub use whoami::{CloudRight, Whoami};

/// The definitions of all kinds.
#[must_use]
pub fn definitions() -> [CustomResourceDefinition; 2] {
    let (mut object, mut fleet) = (VncPassword::crd(), ClusterVncPassword::crd());
    schemas(&mut object).chain(schemas(&mut fleet)).for_each(use_known_formats);
    for schema in schemas(&mut fleet) {
        schema.x_kubernetes_validations.get_or_insert_default().push(name_of_fleet());
    }
    [object, fleet]
}

fn schemas(definition: &mut CustomResourceDefinition) -> impl Iterator<Item = &mut JSONSchemaProps> {
    let versions = definition.spec.versions.iter_mut();
    versions.filter_map(|version| version.schema.as_mut()?.open_api_v3_schema.as_mut())
}

/// Not in the derive macro: for a rule about the metadata it needs the facade `kube`.
fn name_of_fleet() -> ValidationRule {
    let message =
        "metadata.name must have at most 63 characters: it becomes a label, and a part of other names";
    ValidationRule {
        rule: "self.metadata.name.size() <= 63".to_owned(),
        message: Some(message.to_owned()),
        ..ValidationRule::default()
    }
}

/// The API server warns of formats that it does not know, such as those of unsigned numbers. That a number is not negative is
/// what `minimum` says.
fn use_known_formats(schema: &mut JSONSchemaProps) {
    let known = match schema.format.as_deref() {
        Some("uint8" | "uint16") => Some("int32"),
        Some("uint32" | "uint64") => Some("int64"),
        _ => None,
    };
    if let Some(known) = known {
        schema.format = Some(known.to_owned());
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(use_known_formats);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => use_known_formats(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(use_known_formats),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        use_known_formats(values);
    }
}

/// Reads a Go duration such as `1h30m`, not negative. What is too long to be one is none: kube's own reading of it
/// panics on numbers that fit no duration.
#[must_use]
pub fn duration(text: &str) -> Option<std::time::Duration> {
    let digits = text.split(|c: char| !c.is_ascii_digit()).map(str::len).max()?;
    // A sign stands in front of it all: kube's own reading panics on one further on.
    let signed = text.strip_prefix('+').unwrap_or(text).contains(['+', '-']);
    if text.is_empty() || text.len() > 32 || digits > 9 || signed {
        return None;
    }
    let duration: kube_core::Duration = text.parse().ok()?;
    (!duration.is_negative()).then(|| duration.into())
}

/// API group of every kind here.
pub const GROUP: &str = "vncpassword.dev";
/// The default name of the Lease of the operator's leader, in the operator's namespace. The previous version has no other.
pub const LEASE: &str = "vncpassword-operator";
/// The version served and stored.
pub const VERSION: &str = "v1alpha1";
/// Annotation that asks for one rotation at a time (RFC 3339).
pub const ROTATE_AT: &str = "vncpassword.dev/rotate-at";
/// Label by which the owner of a Secret lets the operator write to it.
pub const WRITABLE: &str = "vncpassword.dev/writable";
/// Label of what belongs to a `ClusterVncPassword`: its name.
pub const FLEET: &str = "vncpassword.dev/fleet";
/// Label of what belongs to an instance: its ID.
pub const INSTANCE_ID: &str = "vncpassword.dev/instance-id";
/// Field manager of everything that the operator writes.
pub const FIELD_MANAGER: &str = "vncpassword-operator";

/// Reason of the Event of an object whose status somebody else keeps changing: perhaps a second operator.
pub const STATUS_CONTESTED: &str = "StatusContested";

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::duration;

    #[test]
    fn go_durations_are_read() {
        let seconds = |text: &str| duration(text).map(|duration| duration.as_secs());
        for (text, expected) in [
            ("10m", Some(600)),
            ("1h30m", Some(5400)),
            ("1.5h", Some(5400)),
            ("0", Some(0)),
            ("", None),
            ("-5m", None),
            ("+5m", Some(300)),
            ("1m-2h", None),
            ("-1m-2h", None),
            ("1h+2m", None),
            ("5", None),
            ("5d", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(seconds(text), expected, "{text}");
        }
        assert_eq!(duration("1500ms"), Some(Duration::from_millis(1500)));
    }

    proptest! {
        #[test]
        fn nothing_that_is_written_there_panics(text in "[0-9.hmsu+-]{0,40}") {
            prop_assert!(duration(&text).is_none_or(|read| read < Duration::MAX));
        }
    }
}
