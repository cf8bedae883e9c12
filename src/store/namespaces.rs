//! The watched namespaces: which of them can be read (R57).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

/// What is watched in each namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Resource {
    /// `VncPassword`.
    Objects,
    /// Secrets.
    Secrets,
}

/// A watch of one namespace, or of all (`None`).
type Watch = (Option<Arc<str>>, Resource);

/// State of a watch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Progress {
    /// It has listed everything at least once.
    listed: bool,
    /// The API server refuses it now, or has failed to list it for too long.
    unreadable: bool,
}

/// The watched namespaces. One that cannot be read does not block the others.
pub(crate) struct Namespaces(Mutex<BTreeMap<Watch, Progress>>);

/// What an event of a watch has changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// The namespace can be served from now on.
    pub served: bool,
    /// It cannot be read from now on.
    pub unreadable: bool,
    /// It can be read again.
    pub restored: bool,
}

impl Namespaces {
    /// These, or all if there are none.
    pub fn new(namespaces: &[String]) -> Self {
        let scopes: Vec<Option<Arc<str>>> = match namespaces {
            [] => vec![None],
            some => some.iter().map(|name| Some(name.as_str().into())).collect(),
        };
        let watches = scopes.into_iter().flat_map(|scope| {
            [Resource::Objects, Resource::Secrets]
                .map(|resource| ((scope.clone(), resource), Progress::default()))
        });
        Self(Mutex::new(watches.collect()))
    }

    /// The namespaces, each once; `None`: all.
    pub fn scopes(&self) -> Vec<Option<Arc<str>>> {
        let watches = self.watches();
        let objects = watches.keys().filter(|(_, resource)| *resource == Resource::Objects);
        objects.map(|(scope, _)| scope.clone()).collect()
    }

    /// The watch has listed everything.
    pub fn listed(&self, scope: Option<&Arc<str>>, resource: Resource) -> News {
        let mut watches = self.watches();
        let was_served = is_served(&watches, scope);
        let Some(progress) = watches.get_mut(&(scope.cloned(), resource)) else { return News::default() };
        let restored = std::mem::take(&mut progress.unreadable);
        progress.listed = true;
        News { served: !was_served && is_served(&watches, scope), restored, unreadable: false }
    }

    /// Records that a watch of the namespace fails; it is news the first time. A watch of all namespaces is
    /// never marked: the operator waits for it.
    pub fn mark_unreadable(&self, scope: &Arc<str>, resource: Resource) -> News {
        let mut watches = self.watches();
        let progress = watches.get_mut(&(Some(Arc::clone(scope)), resource));
        let unreadable = progress.is_some_and(|progress| !std::mem::replace(&mut progress.unreadable, true));
        News { unreadable, ..News::default() }
    }

    /// Whether everything readable is listed, and at least one namespace is readable. No reconcile starts
    /// before.
    pub fn are_ready(&self) -> bool {
        let watches = self.watches();
        let settled = watches.values().all(|progress| progress.listed || progress.unreadable);
        settled && watches.keys().any(|(scope, _)| is_served(&watches, scope.as_ref()))
    }

    /// Whether the objects of a namespace can be reconciled: they and its Secrets are listed.
    pub fn serve(&self, namespace: &str) -> bool {
        let watches = self.watches();
        is_served(&watches, None) || is_served(&watches, Some(&namespace.into()))
    }

    /// The namespaces that cannot be read, in whole or in part.
    pub fn unreadable(&self) -> Vec<Arc<str>> {
        let watches = self.watches();
        let unreadable = watches.iter().filter(|(_, progress)| progress.unreadable);
        let mut names: Vec<Arc<str>> = unreadable.filter_map(|((scope, _), _)| scope.clone()).collect();
        names.dedup();
        names
    }

    fn watches(&self) -> std::sync::MutexGuard<'_, BTreeMap<Watch, Progress>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_served(watches: &BTreeMap<Watch, Progress>, scope: Option<&Arc<str>>) -> bool {
    let listed = |resource| watches.get(&(scope.cloned(), resource)).is_some_and(|progress| progress.listed);
    listed(Resource::Objects) && listed(Resource::Secrets)
}

#[cfg(test)]
mod tests {
    use super::{Resource::*, *};

    fn of(names: &[&str]) -> (Namespaces, Vec<Arc<str>>) {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let arcs = names.iter().map(|name| name.as_str().into()).collect();
        (Namespaces::new(&names), arcs)
    }

    #[test]
    fn all_namespaces_are_one_scope_that_must_be_listed() {
        let (all, _) = of(&[]);
        assert_eq!(all.scopes(), [None]);
        assert!(!all.listed(None, Objects).served && !all.are_ready());
        assert!(!all.serve("x"));
        assert!(all.listed(None, Secrets).served && all.are_ready());
        assert!(all.serve("x") && all.unreadable().is_empty());
        assert_eq!(all.listed(None, Secrets), News::default(), "it is news once");
    }

    #[test]
    fn one_that_is_refused_holds_up_no_other_and_is_served_as_soon_as_it_can_be_read() {
        let (both, names) = of(&["a", "b"]);
        let [a, b] = &names[..] else { unreachable!() };
        assert!(both.mark_unreadable(b, Objects).unreadable);
        assert!(!both.mark_unreadable(b, Objects).unreadable, "it is news once");
        both.listed(Some(a), Objects);
        assert!(both.listed(Some(a), Secrets).served);
        assert!(!both.are_ready(), "the Secrets of b may still come");
        both.mark_unreadable(b, Secrets);
        assert!(both.are_ready());
        assert_eq!((both.serve(a), both.serve(b), both.unreadable()), (true, false, vec![Arc::clone(b)]));
        assert_eq!(both.listed(Some(b), Secrets), News { restored: true, ..News::default() });
        assert_eq!(both.unreadable(), [Arc::clone(b)], "its objects are still refused");
        assert_eq!(both.listed(Some(b), Objects), News { served: true, restored: true, unreadable: false });
        assert!(both.serve(b) && both.unreadable().is_empty());
        // It is refused again: what is known of it is served on.
        assert!(both.mark_unreadable(b, Secrets).unreadable);
        assert!(both.serve(b) && both.are_ready());
        assert_eq!(both.listed(Some(b), Secrets), News { restored: true, ..News::default() });
    }

    #[test]
    fn where_none_can_be_read_the_operator_is_not_ready() {
        let (both, names) = of(&["a", "b"]);
        for name in &names {
            both.mark_unreadable(name, Objects);
            both.mark_unreadable(name, Secrets);
        }
        assert!(!both.are_ready());
        assert_eq!(both.unreadable(), names);
    }
}
