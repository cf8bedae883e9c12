//! Reading objects: by name, or all in pages; the errors in words.

use std::fmt::Debug;

use futures::{StreamExt, stream};
use kube::{Api, Resource, api::ListParams, api::ObjectList, core::NamespaceResourceScope};
use serde::de::DeserializeOwned;

use super::{Connection, Doing, Error, summary::ObjectSummary};
use vncpassword_core::api::ClusterVncPassword;

/// Objects in one page: what kubectl asks for.
pub const PAGE: u32 = 500;
/// Requests at once.
pub const AT_ONCE: usize = 32;

/// What `NAME` or `fleet/NAME` on the command line is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Named {
    /// A `VncPassword`.
    Object(String),
    /// A `ClusterVncPassword`.
    Fleet(String),
}

impl std::str::FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, name) = text.split_once('/').unwrap_or(("", text));
        // kubectl's spelling of a resource with its group is taken as well, so that -o name can be given back.
        let kind = kind.split_once('.').map_or(kind, |(kind, _)| kind);
        if name.is_empty() || name.contains('/') {
            return Err(format!("{text:?} names nothing: write NAME, or fleet/NAME"));
        }
        match kind.to_lowercase().as_str() {
            "" | "vncpassword" | "vncpasswords" | "vncpw" => Ok(Self::Object(name.to_owned())),
            "fleet" | "fleets" | "clustervncpassword" | "clustervncpasswords" | "cvncpw" => {
                Ok(Self::Fleet(name.to_owned()))
            }
            _ => Err(format!("{text:?}: there is no kind {kind:?} here: write NAME, or fleet/NAME")),
        }
    }
}

/// Where VncPasswords are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// `None`: everywhere.
    pub namespace: Option<String>,
    /// A label selector.
    pub selector: Option<String>,
}

impl Scope {
    /// The API of that place.
    #[must_use]
    pub fn api<K>(&self, connection: &Connection) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        match &self.namespace {
            Some(namespace) => Api::namespaced(connection.client.clone(), namespace),
            None => Api::all(connection.client.clone()),
        }
    }

    /// What is done there, for messages.
    #[must_use]
    pub fn doing(&self, verb: &'static str) -> Doing {
        Doing { namespace: self.namespace.clone(), ..Doing::ours(verb, "vncpasswords") }
    }

    /// How a list begins.
    #[must_use]
    pub fn parameters(&self) -> ListParams {
        ListParams { label_selector: self.selector.clone(), ..ListParams::default() }
    }
}

/// All `VncPassword`s of that place.
///
/// # Errors
/// See [`Error::of`].
pub async fn all(connection: &Connection, scope: &Scope) -> Result<Vec<ObjectSummary>, Error> {
    let doing = || scope.doing("list");
    pages(&scope.api(connection), scope.parameters(), doing).await
}

/// All objects that fit, page by page.
///
/// # Errors
/// See [`Error::of`].
pub async fn pages<K: Clone + DeserializeOwned + Debug>(
    api: &Api<K>,
    parameters: ListParams,
    doing: impl Fn() -> Doing,
) -> Result<Vec<K>, Error> {
    let mut found = Vec::new();
    let mut page = parameters.clone().limit(PAGE);
    loop {
        match api.list(&page).await {
            Ok(ObjectList { metadata, items, .. }) => {
                found.extend(items);
                let more = metadata.continue_.filter(|token| !token.is_empty());
                let Some(more) = more else { return Ok(found) };
                page = page.continue_token(&more);
            }
            // The list was compacted away between two pages: all at once cannot be.
            Err(kube::Error::Api(status)) if status.code == 410 && page.limit.is_some() => {
                found.clear();
                page = parameters.clone();
            }
            Err(error) => return Err(Error::of(doing(), error)),
        }
    }
}

/// The `VncPassword`s of these names, in this order.
pub async fn by_name(connection: &Connection, names: Vec<String>) -> Vec<Result<ObjectSummary, Error>> {
    let api: Api<ObjectSummary> = Api::namespaced(connection.client.clone(), &connection.namespace);
    stream::iter(names.into_iter().map(|name| {
        let api = api.clone();
        async move {
            let doing = Doing::ours("get", "vncpasswords").within(&connection.namespace).to(&name);
            api.get(&name).await.map_err(|error| Error::of(doing, error))
        }
    }))
    .buffered(AT_ONCE)
    .collect()
    .await
}

/// One `ClusterVncPassword`.
///
/// # Errors
/// See [`Error::of`].
pub async fn fleet(connection: &Connection, name: &str) -> Result<ClusterVncPassword, Error> {
    let api: Api<ClusterVncPassword> = Api::all(connection.client.clone());
    api.get(name).await.map_err(|error| Error::of(Doing::ours("get", "clustervncpasswords").to(name), error))
}

/// All `ClusterVncPassword`s.
///
/// # Errors
/// See [`Error::of`].
pub async fn fleets(connection: &Connection) -> Result<Vec<ClusterVncPassword>, Error> {
    let api = Api::all(connection.client.clone());
    pages(&api, ListParams::default(), || Doing::ours("list", "clustervncpasswords")).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_say_what_they_name() {
        let object = |name: &str| Ok(Named::Object(name.to_owned()));
        let fleet = |name: &str| Ok(Named::Fleet(name.to_owned()));
        assert_eq!("db-1".parse(), object("db-1"));
        assert_eq!("vncpassword.vncpassword.dev/db-1".parse(), object("db-1"));
        assert_eq!("vncpw/db-1".parse(), object("db-1"));
        assert_eq!("fleet/nodes".parse(), fleet("nodes"));
        assert_eq!("clustervncpassword.vncpassword.dev/nodes".parse(), fleet("nodes"));
        for wrong in ["", "fleet/", "pod/x", "a/b/c"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong:?}");
        }
    }
}
