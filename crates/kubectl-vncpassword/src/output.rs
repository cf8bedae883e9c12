//! Forms of an answer: a table for people, whole objects or their names for programs.

mod table;

use kube::{ResourceExt, api::DynamicObject};
use serde_json::{Value, json};

pub use table::{Align, Column, Layout, Mark, Table};

use super::Error;

/// What `-o` takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// What fits, for people.
    #[default]
    Table,
    /// A table with more columns.
    Wide,
    /// The objects as JSON.
    Json,
    /// The objects as YAML.
    Yaml,
    /// The objects' names, as kubectl takes them.
    Name,
}

impl Output {
    /// Whether it is a table.
    #[must_use]
    pub fn is_table(self) -> bool {
        matches!(self, Self::Table | Self::Wide)
    }
}

/// Whole objects in one of the forms for programs; `single`: asked for by one name, so no list around it.
///
/// # Errors
/// [`Error::Failed`]: an object cannot be written in that form.
pub fn objects(form: Output, mut objects: Vec<DynamicObject>, single: bool) -> Result<String, Error> {
    for object in &mut objects {
        // kubectl leaves them out as well: they are long, and nobody reads them.
        object.metadata.managed_fields = None;
    }
    if form == Output::Name {
        return Ok(objects.iter().map(|object| name(object) + "\n").collect());
    }
    let value = match objects.pop() {
        Some(object) if single && objects.is_empty() => json!(object),
        last => {
            objects.extend(last);
            json!({"apiVersion": "v1", "kind": "List", "items": objects})
        }
    };
    value_in(form, &value)
}

/// Any value in one of the forms for programs.
///
/// # Errors
/// [`Error::Failed`]: it cannot be written in that form.
pub fn value_in(form: Output, value: &Value) -> Result<String, Error> {
    let failed =
        |error: &dyn std::fmt::Display| Error::Failed(format!("the answer cannot be written: {error}"));
    match form {
        Output::Yaml => serde_saphyr::to_string(value).map_err(|error| failed(&error)),
        _ => serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| failed(&error)),
    }
}

fn name(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("", |types| types.kind.as_str()).to_lowercase();
    format!("{kind}.{}/{}", vncpassword_core::api::GROUP, object.name_any())
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt;

    use super::*;
    use vncpassword_core::api::VncPassword;

    fn object(name: &str) -> DynamicObject {
        let mut object = DynamicObject::new(name, &VncPassword::api_resource());
        object.metadata.managed_fields = Some(Vec::new());
        object
    }

    #[test]
    fn one_by_name_stands_alone_and_others_in_a_list() {
        let one = objects(Output::Json, vec![object("a")], true).unwrap();
        assert!(one.contains("\"kind\": \"VncPassword\"") && !one.contains("List"), "{one}");
        assert!(!one.contains("managedFields"), "{one}");
        let list = objects(Output::Json, vec![object("a"), object("b")], false).unwrap();
        let list: Value = serde_json::from_str(&list).unwrap();
        assert_eq!(list["kind"], "List");
        assert_eq!(list["items"][0]["metadata"]["name"], "a");
        assert_eq!(list["items"][1]["metadata"]["name"], "b");
        assert!(objects(Output::Yaml, vec![], false).unwrap().contains("items: []"));
    }

    #[test]
    fn names_are_those_that_kubectl_takes() {
        let names = objects(Output::Name, vec![object("a"), object("b")], false).unwrap();
        assert_eq!(names, "vncpassword.vncpassword.dev/a\nvncpassword.vncpassword.dev/b\n");
    }
}
