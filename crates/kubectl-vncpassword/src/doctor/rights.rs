//! Which rights in the cluster each command of the plugin needs.

use super::snapshot::Right;
use vncpassword_core::api::GROUP;

const fn ours(verb: &'static str) -> Right {
    Right { verb, group: GROUP, resource: "vncpasswords", subresource: None, namespaced: true }
}

const fn fleets(verb: &'static str) -> Right {
    Right { verb, group: GROUP, resource: "clustervncpasswords", subresource: None, namespaced: false }
}

const fn core(verb: &'static str, resource: &'static str) -> Right {
    Right { verb, group: "", resource, subresource: None, namespaced: true }
}

/// The commands and their rights: what a command cannot do without comes first.
pub const COMMANDS: &[(&str, &[Right])] = &[
    ("status", &[ours("get"), ours("list"), ours("watch")]),
    ("status fleet/NAME", &[fleets("get"), fleets("list"), fleets("watch")]),
    ("rotate", &[ours("get"), ours("list"), ours("patch"), ours("watch")]),
    ("rotate fleet/NAME", &[fleets("get"), fleets("list"), fleets("patch"), fleets("watch")]),
    ("get", &[ours("get"), core("get", "secrets")]),
    (
        "explain",
        &[
            ours("get"),
            Right {
                verb: "list",
                group: "events.k8s.io",
                resource: "events",
                subresource: None,
                namespaced: true,
            },
            core("get", "secrets"),
        ],
    ),
    (
        "plan",
        &[
            fleets("list"),
            fleets("create"),
            Right { verb: "list", group: "", resource: "nodes", subresource: None, namespaced: false },
            Right {
                verb: "list",
                group: GROUP,
                resource: "vncpasswords",
                subresource: None,
                namespaced: false,
            },
        ],
    ),
];

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.verb, self.name())
    }
}

impl Right {
    /// The resource as `kubectl create role --resource` takes it.
    pub fn name(&self) -> String {
        let group = if self.group.is_empty() { String::new() } else { format!(".{}", self.group) };
        let subresource = self.subresource.map(|name| format!("/{name}")).unwrap_or_default();
        format!("{}{group}{subresource}", self.resource)
    }
}
