//! Whether a Node's labels fit a selector, as the API server reads one, and whether an instance carries tags.

use crate::api::{NodeOperator, NodeSelector, Tag};

/// Whether labels fit. `label` tells the value of a key, where there is one.
#[must_use]
pub fn fits<'a>(selector: &NodeSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    selector.match_labels.iter().all(|(key, value)| label(key) == Some(&value.0))
        && selector.match_expressions.iter().all(|expression| {
            let (value, values) = (label(&expression.key), &expression.values);
            let listed = value.is_some_and(|value| values.iter().any(|listed| listed.0 == value));
            match expression.operator {
                NodeOperator::In => listed,
                NodeOperator::NotIn => !listed,
                NodeOperator::Exists => value.is_some(),
                NodeOperator::DoesNotExist => value.is_none(),
            }
        })
}

/// Whether all these tags are there. `value` tells that of a key, where there is one.
#[must_use]
pub fn carries<'a>(tags: &[Tag], value: impl Fn(&str) -> Option<&'a str>) -> bool {
    tags.iter().all(|tag| {
        value(&tag.key).is_some_and(|value| tag.value.as_ref().is_none_or(|wanted| wanted == value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn labels_fit_as_the_api_server_reads_a_selector() {
        let labels = |key: &str| match key {
            "pool" => Some("db"),
            "bare" => Some(""),
            _ => None,
        };
        let expression = |key: &str, operator: &str, values: &[&str]| {
            let expression = json!({"key": key, "operator": operator, "values": values});
            json!({"matchExpressions": [expression]})
        };
        let table: [(Value, bool); 14] = [
            (json!({}), true),
            (json!({"matchLabels": {"pool": "db"}}), true),
            (json!({"matchLabels": {"pool": "web"}}), false),
            (json!({"matchLabels": {"pool": "db", "zone": "a"}}), false),
            (json!({"matchLabels": {"bare": ""}}), true),
            (json!({"matchLabels": {"zone": ""}}), false),
            (expression("pool", "In", &["web", "db"]), true),
            (expression("zone", "In", &["a"]), false),
            (expression("pool", "NotIn", &["web"]), true),
            (expression("pool", "NotIn", &["db"]), false),
            (expression("zone", "NotIn", &["a"]), true),
            (expression("bare", "Exists", &[]), true),
            (expression("zone", "DoesNotExist", &[]), true),
            (expression("pool", "DoesNotExist", &[]), false),
        ];
        for (selector, expected) in table {
            let read: NodeSelector = serde_json::from_value(selector.clone()).unwrap();
            assert_eq!(fits(&read, labels), expected, "{selector}");
        }
    }

    #[test]
    fn a_tag_without_a_value_is_one_with_any() {
        let value = |key: &str| (key == "team").then_some("db");
        let table = [
            (json!([]), true),
            (json!([{"key": "team"}]), true),
            (json!([{"key": "team", "value": "db"}]), true),
            (json!([{"key": "team", "value": "web"}]), false),
            (json!([{"key": "team"}, {"key": "zone"}]), false),
        ];
        for (tags, expected) in table {
            let read: Vec<Tag> = serde_json::from_value(tags.clone()).unwrap();
            assert_eq!(carries(&read, value), expected, "{tags}");
        }
    }
}
