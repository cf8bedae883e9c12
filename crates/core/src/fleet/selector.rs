//! Matches Nodes by labels and instances by tags.

use crate::api::{NodeOperator, NodeSelector, Tag};

/// Whether labels match a selector, as in the API server. `label` returns the value of a label, if it exists.
#[must_use]
pub fn matches_selector<'a>(selector: &NodeSelector, label: impl Fn(&str) -> Option<&'a str>) -> bool {
    selector.match_labels.iter().all(|(key, value)| label(key) == Some(&value.0))
        && selector.match_expressions.iter().all(|expression| {
            let (value, values) = (label(&expression.key), &expression.values);
            let is_in = value.is_some_and(|value| values.iter().any(|allowed| allowed.0 == value));
            match expression.operator {
                NodeOperator::In => is_in,
                NodeOperator::NotIn => !is_in,
                NodeOperator::Exists => value.is_some(),
                NodeOperator::DoesNotExist => value.is_none(),
            }
        })
}

/// Whether an instance has all these tags. `value` returns the value of a tag, if it exists.
#[must_use]
pub fn has_tags<'a>(tags: &[Tag], value: impl Fn(&str) -> Option<&'a str>) -> bool {
    tags.iter().all(|tag| {
        value(&tag.key).is_some_and(|value| tag.value.as_ref().is_none_or(|wanted| wanted == value))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn selectors_match_as_in_the_api_server() {
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
            assert_eq!(matches_selector(&read, labels), expected, "{selector}");
        }
    }

    #[test]
    fn a_tag_without_a_value_matches_every_value() {
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
            assert_eq!(has_tags(&read, value), expected, "{tags}");
        }
    }
}
