//! How the schema of a kind in the cluster differs from this program's.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use serde_json::Value;

use super::snapshot::SchemaDifference;

/// Compares two schemas field by field.
pub fn difference(ours: &JSONSchemaProps, theirs: &JSONSchemaProps) -> SchemaDifference {
    let (ours, theirs) = (fields(ours), fields(theirs));
    let names = |fields: &BTreeMap<String, Field>| fields.keys().cloned().collect::<BTreeSet<String>>();
    let (known, there) = (names(&ours), names(&theirs));
    let both = ours.iter().filter_map(|(name, field)| Some((name, field, theirs.get(name)?)));
    let (mut other, mut words) = (BTreeSet::new(), false);
    for (name, ours, theirs) in both {
        if ours.rules != theirs.rules {
            other.insert(name.clone());
        }
        words |= ours.description != theirs.description;
    }
    SchemaDifference {
        more: outermost(there.difference(&known)),
        less: outermost(known.difference(&there)),
        other,
        words,
    }
}

/// What holds for a field itself, not for those in it.
struct Field {
    description: Option<String>,
    rules: Value,
}

/// The fields by their paths, such as `spec.rotation.interval`; those of items of a list stand under `[]`.
fn fields(schema: &JSONSchemaProps) -> BTreeMap<String, Field> {
    let value = serde_json::to_value(schema).unwrap_or_default();
    let mut found = BTreeMap::new();
    collect("", &value, &mut found);
    found
}

fn collect(path: &str, schema: &Value, found: &mut BTreeMap<String, Field>) {
    let Some(schema) = schema.as_object() else { return };
    let mut rules = schema.clone();
    let description = rules.remove("description").and_then(|text| text.as_str().map(str::to_owned));
    for (keyword, under) in [("items", "[]"), ("additionalProperties", ".*")] {
        if let Some(inner) = rules.remove(keyword) {
            collect(&format!("{path}{under}"), &inner, found);
        }
    }
    if let Some(Value::Object(properties)) = rules.remove("properties") {
        for (name, inner) in properties {
            let path = if path.is_empty() { name } else { format!("{path}.{name}") };
            collect(&path, &inner, found);
        }
    }
    // What is given without one is the same as what the API server fills in.
    rules.retain(|_, value| {
        !matches!(value, Value::Null | Value::Bool(false)) && value != &Value::Array(vec![])
    });
    let name = if path.is_empty() { "the object" } else { path };
    found.insert(name.to_owned(), Field { description, rules: Value::Object(rules) });
}

/// Without those that are inside of another.
fn outermost<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<String> {
    let mut kept: BTreeSet<String> = BTreeSet::new();
    // Sorted, so that what is outside comes first.
    for name in names {
        let inside = kept
            .iter()
            .any(|outer| name.strip_prefix(outer.as_str()).is_some_and(|rest| rest.starts_with(['.', '['])));
        if !inside {
            kept.insert(name.clone());
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema(spec: &Value) -> JSONSchemaProps {
        serde_json::from_value(json!({"type": "object", "properties": {"spec": spec}})).unwrap()
    }

    fn of(properties: &Value) -> JSONSchemaProps {
        schema(&json!({"type": "object", "properties": properties}))
    }

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn fields_that_came_and_went_are_told_from_rules_that_changed() {
        let text = json!({"type": "string"});
        let deep = json!({"type": "object", "properties": {"interval": text, "schedule": text}});
        let ours = of(&json!({"name": text, "rotation": deep}));
        let table = [
            ("the same", of(&json!({"name": text, "rotation": deep})), SchemaDifference::default()),
            (
                "older",
                of(&json!({"name": text})),
                SchemaDifference { less: set(&["spec.rotation"]), ..SchemaDifference::default() },
            ),
            (
                "newer",
                of(
                    &json!({"name": text, "rotation": deep, "window": {"type": "object", "properties": {"a": text}}}),
                ),
                SchemaDifference { more: set(&["spec.window"]), ..SchemaDifference::default() },
            ),
            (
                "another rule",
                of(&json!({"name": {"type": "string", "maxLength": 3}, "rotation": deep})),
                SchemaDifference { other: set(&["spec.name"]), ..SchemaDifference::default() },
            ),
            (
                "another description",
                of(&json!({"name": {"type": "string", "description": "a name"}, "rotation": deep})),
                SchemaDifference { words: true, ..SchemaDifference::default() },
            ),
        ];
        for (name, theirs, expected) in table {
            assert_eq!(difference(&ours, &theirs), expected, "{name}");
        }
    }

    #[test]
    fn items_of_lists_and_values_of_maps_are_compared_as_well() {
        let list = |max: i64| {
            of(
                &json!({"tags": {"type": "array", "items": {"type": "object", "properties": {"key": {"maxLength": max}}}},
                "labels": {"type": "object", "additionalProperties": {"maxLength": max}}}),
            )
        };
        let found = difference(&list(1), &list(2));
        assert_eq!(found.other, set(&["spec.labels.*", "spec.tags[].key"]));
    }

    #[test]
    fn every_kind_is_like_itself() {
        for definition in vncpassword_core::api::definitions() {
            let schema = definition.spec.versions[0].schema.clone().unwrap().open_api_v3_schema.unwrap();
            assert_eq!(difference(&schema, &schema), SchemaDifference::default());
        }
    }
}
