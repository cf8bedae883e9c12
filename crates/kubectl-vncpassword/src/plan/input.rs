//! Reads the object of `plan -f`: one `ClusterVncPassword`, as YAML or JSON. What is wrong is named by its field.

use serde_json::{Map, Value};

use vncpassword_core::{
    api::{ClusterVncPassword, GROUP, VERSION, definitions},
    fleet::{InvalidInstanceId, parse_instance},
    rotation::schedule,
};

/// Fields of the object that are no part of the kind's schema.
const OUTER: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Why the file cannot be planned. The text names the field.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInput {
    /// It is neither YAML nor JSON.
    #[error("it is neither YAML nor JSON: {0}")]
    Syntax(String),
    /// There is nothing in it.
    #[error("it is empty: write one ClusterVncPassword")]
    Empty,
    /// There are several objects in it.
    #[error("it holds {0} objects: write one ClusterVncPassword")]
    Several(usize),
    /// It is something else.
    #[error("{field} is {found}: write {wanted}")]
    Kind {
        /// Which field.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What should.
        wanted: String,
    },
    /// A field does not fit.
    #[error("{field}: {problem}")]
    Field {
        /// Its path.
        field: String,
        /// What is wrong with it.
        problem: String,
    },
}

/// What was read.
#[derive(Clone, Debug)]
pub struct Input {
    /// The object.
    pub fleet: ClusterVncPassword,
    /// The same as it was written: what this program does not know is for the API server to judge.
    pub written: Value,
}

/// Reads it.
///
/// # Errors
/// See [`InvalidInput`].
pub fn read(text: &str) -> Result<Input, InvalidInput> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).map_err(|error| {
        InvalidInput::Syntax(error.to_string().lines().next().unwrap_or_default().to_owned())
    })?;
    let mut documents: Vec<Value> = documents.into_iter().filter(|document| !document.is_null()).collect();
    let written = match documents.len() {
        0 => return Err(InvalidInput::Empty),
        1 => documents.remove(0),
        many => return Err(InvalidInput::Several(many)),
    };
    let Value::Object(object) = &written else {
        return Err(InvalidInput::Kind {
            field: "the file",
            found: "no object".to_owned(),
            wanted: "one ClusterVncPassword".to_owned(),
        });
    };
    is("apiVersion", object.get("apiVersion"), &format!("{GROUP}/{VERSION}"))?;
    is("kind", object.get("kind"), "ClusterVncPassword")?;
    unknown_fields(object)?;
    let fleet: ClusterVncPassword = serde_path_to_error::deserialize(&written).map_err(|error| {
        let problem = error.inner().to_string();
        field(&error.path().to_string(), &problem)
    })?;
    check(&fleet)?;
    Ok(Input { fleet, written })
}

fn is(field: &'static str, found: Option<&Value>, wanted: &str) -> Result<(), InvalidInput> {
    let found = match found {
        Some(Value::String(text)) if text == wanted => return Ok(()),
        Some(Value::String(text)) => text.clone(),
        Some(_) => "no text".to_owned(),
        None => "missing".to_owned(),
    };
    Err(InvalidInput::Kind { field, found, wanted: wanted.to_owned() })
}

fn field(path: &str, problem: &str) -> InvalidInput {
    // A path that ends above the missing field says the more of it.
    InvalidInput::Field { field: path.to_owned(), problem: problem.to_owned() }
}

/// A field that the kind does not have is most often one that is spelled wrongly: it would be dropped without a word.
fn unknown_fields(object: &Map<String, Value>) -> Result<(), InvalidInput> {
    for name in object.keys() {
        if !OUTER.contains(&name.as_str()) {
            return Err(unknown(name, OUTER.iter().copied()));
        }
    }
    let [_, definition] = definitions();
    let schema = definition.spec.versions.first().and_then(|version| version.schema.as_ref());
    let schema = serde_json::to_value(schema).unwrap_or_default();
    let schema = &schema["openAPIV3Schema"]["properties"]["spec"];
    object.get("spec").map_or(Ok(()), |spec| walk("spec", spec, schema))
}

fn walk(path: &str, value: &Value, schema: &Value) -> Result<(), InvalidInput> {
    match value {
        Value::Object(fields) => {
            // A map of labels has values of any name.
            let Some(known) = schema["properties"].as_object() else { return Ok(()) };
            for (name, inner) in fields {
                let path = format!("{path}.{name}");
                match known.get(name) {
                    Some(schema) => walk(&path, inner, schema)?,
                    None => return Err(unknown(&path, known.keys().map(String::as_str))),
                }
            }
            Ok(())
        }
        Value::Array(items) => items
            .iter()
            .enumerate()
            .try_for_each(|(at, item)| walk(&format!("{path}[{at}]"), item, &schema["items"])),
        _ => Ok(()),
    }
}

fn unknown<'a>(path: &str, known: impl Iterator<Item = &'a str>) -> InvalidInput {
    let name = path.rsplit('.').next().unwrap_or_default().to_lowercase();
    let mut known: Vec<&str> = known.collect();
    let close = known.iter().find(|known| known.to_lowercase() == name).copied();
    known.sort_unstable();
    let problem = match close {
        Some(close) => format!("there is no such field; is it {close}?"),
        None => format!("there is no such field; there are {}", known.join(", ")),
    };
    field(path, &problem)
}

/// What a plan needs to make sense. The rest is for the API server to check.
fn check(fleet: &ClusterVncPassword) -> Result<(), InvalidInput> {
    let spec = &fleet.spec;
    if fleet.metadata.name.as_deref().is_none_or(str::is_empty) {
        return Err(field("metadata.name", "is missing: write the name of the fleet"));
    }
    let given = [spec.node_selector.is_some(), spec.tags.is_some(), spec.instance_ids.is_some()];
    if given.iter().filter(|given| **given).count() != 1 {
        let problem =
            "needs exactly one of nodeSelector ({} for every Node), tags with regionIds, and instanceIds";
        return Err(field("spec", problem));
    }
    if spec.tags.is_some() != spec.region_ids.is_some() {
        return Err(field(
            "spec.regionIds",
            "tags need regionIds, the regions to search, and regionIds stand beside tags only",
        ));
    }
    for (at, id) in spec.instance_ids.iter().flatten().enumerate() {
        let wrong =
            |error: InvalidInstanceId| field(&format!("spec.instanceIds[{at}]"), &format!("{id:?} {error}"));
        parse_instance(id).map_err(wrong)?;
    }
    match schedule::Plan::new(spec.rotation.as_deref(), spec.window.as_deref()) {
        Ok(_) => Ok(()),
        // It names the field itself.
        Err(error) => {
            let text = error.to_string();
            let (path, problem) = text.split_once(' ').unwrap_or(("spec", &text));
            Err(field(path, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "apiVersion: vncpassword.dev/v1alpha1\nkind: ClusterVncPassword\n";

    fn of(spec: &str) -> Result<Input, String> {
        read(&format!("{HEAD}metadata: {{name: nodes}}\nspec: {spec}\n")).map_err(|error| error.to_string())
    }

    #[test]
    fn yaml_and_json_are_read() {
        let yaml = of("{targetNamespace: vnc, nodeSelector: {matchLabels: {pool: db}}}").unwrap();
        assert_eq!(yaml.fleet.spec.target_namespace, "vnc");
        let json = r#"{"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
            "metadata": {"name": "a"}, "spec": {"targetNamespace": "vnc", "instanceIds": ["i-a"]}}"#;
        assert_eq!(read(json).unwrap().fleet.spec.instance_ids, Some(vec!["i-a".to_owned()]));
    }

    #[test]
    fn the_examples_can_be_planned() {
        for text in [
            include_str!("../../../../examples/fleet-nodes.yaml"),
            include_str!("../../../../examples/fleet-tags.yaml"),
        ] {
            let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap();
            let fleet = documents.iter().find(|document| document["kind"] == "ClusterVncPassword").unwrap();
            read(&fleet.to_string()).unwrap();
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_field() {
        let table = [
            (
                "{targetNamespace: vnc, nodeselector: {}}",
                "spec.nodeselector: there is no such field; is it nodeSelector?",
            ),
            (
                "{targetNamespace: vnc, rollout: {max: 1}, nodeSelector: {}}",
                "spec.rollout.max: there is no such field",
            ),
            (
                "{targetNamespace: vnc, tags: [{name: a}], regionIds: [cn-hangzhou]}",
                "spec.tags[0].name: there is no such field",
            ),
            (
                "{targetNamespace: vnc, nodeSelector: {}, rollout: {maxConcurrent: many}}",
                "spec.rollout.maxConcurrent: invalid type",
            ),
            ("{targetNamespace: vnc, nodeSelector: {}, prune: Never}", "spec.prune: unknown variant `Never`"),
            ("{nodeSelector: {}}", "spec: missing field `targetNamespace`"),
            ("{targetNamespace: vnc}", "spec: needs exactly one of"),
            ("{targetNamespace: vnc, nodeSelector: {}, instanceIds: [i-a]}", "spec: needs exactly one of"),
            ("{targetNamespace: vnc, tags: [{key: a}]}", "spec.regionIds: tags need regionIds"),
            (
                "{targetNamespace: vnc, instanceIds: [i-a, web]}",
                "spec.instanceIds[1]: \"web\" is no instance",
            ),
            (
                "{targetNamespace: vnc, nodeSelector: {}, window: {schedule: 'a b c d e', duration: 4h}}",
                "spec.window.schedule: \"a b c d e\" must be a cron expression",
            ),
        ];
        for (spec, expected) in table {
            let error = of(spec).unwrap_err();
            assert!(error.starts_with(expected), "{spec}: {error}");
        }
    }

    #[test]
    fn what_is_no_fleet_is_told_apart() {
        let table = [
            ("", "it is empty"),
            ("---\n---\n", "it is empty"),
            ("- a\n", "the file is no object"),
            ("kind: Secret\napiVersion: v1\n", "apiVersion is v1: write vncpassword.dev/v1alpha1"),
            (
                "kind: VncPassword\napiVersion: vncpassword.dev/v1alpha1\n",
                "kind is VncPassword: write ClusterVncPassword",
            ),
            ("kind: ClusterVncPassword\n", "apiVersion is missing"),
            ("a: 1\n---\nb: 2\n", "it holds 2 objects"),
            ("a: [1\n", "it is neither YAML nor JSON"),
        ];
        for (text, expected) in table {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{text:?}: {error}");
        }
        let nameless = format!("{HEAD}metadata: {{}}\nspec: {{targetNamespace: vnc, nodeSelector: {{}}}}\n");
        assert!(read(&nameless).unwrap_err().to_string().starts_with("metadata.name: is missing"));
        let misplaced = format!("{HEAD}metadata: {{name: a}}\ntargetNamespace: vnc\n");
        assert!(
            read(&misplaced).unwrap_err().to_string().starts_with("targetNamespace: there is no such field")
        );
    }
}
