//! The watches of objects, Secrets, fleets and Nodes. Each event updates the store and enqueues the affected
//! objects.

use std::{collections::HashSet, sync::Arc, time::Duration};

use futures::{Stream, StreamExt};
use kube::{
    Api, Client, ResourceExt,
    runtime::{
        WatchStreamExt,
        utils::Backoff,
        watcher::{self, Event},
    },
};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    cloud::instance_locks::UnsettledCall,
    context::Context,
    runtime::Readiness,
    store::{
        list_watch::list_watch,
        namespaces::{News, Resource},
        object::{FleetObject, IncomingFleet, IncomingObject, Key, NodeMetadata, Object, SecretMetadata},
        registry::{Change, Concerned},
    },
};
use vncpassword_core::rotation;
use vncpassword_kube_client as kube_client;

/// Starts the watches. They end when the result is dropped.
pub(crate) fn spawn(context: &Arc<Context>, readiness: &Readiness) -> JoinSet<()> {
    readiness.expect(1);
    let mut watches = JoinSet::new();
    for namespace in context.namespaces.scopes() {
        let (this, ready) = (Arc::clone(context), readiness.clone());
        let scope = namespace.clone();
        watches.spawn(async move { objects(&this, scope, &ready).await });
        let (this, ready) = (Arc::clone(context), readiness.clone());
        watches.spawn(async move { secrets(&this, namespace, &ready).await });
    }
    watches
}

/// Starts the watches for fleets. Without fleets, neither their CRD nor a right to see Nodes is needed: only
/// fleets wait for these watches.
pub(crate) fn spawn_fleets(context: &Arc<Context>, readiness: &Readiness, watches: &mut JoinSet<()>) {
    readiness.expect(1);
    let (this, ready) = (Arc::clone(context), readiness.clone());
    watches.spawn(async move { fleets(&this, &ready).await });
    let this = Arc::clone(context);
    watches.spawn(async move {
        this.nodes.wanted().await;
        nodes(&this).await;
    });
    let this = Arc::clone(context);
    watches.spawn(async move { this.nodes.run(&this.client, || this.enqueue_node_fleets()).await });
}

async fn fleets(context: &Context, readiness: &Readiness) {
    let mut events = std::pin::pin!(events::<IncomingFleet>(Api::all(context.client.clone())));
    let mut unseen: HashSet<Arc<str>> = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Init => unseen = context.fleets.names().into_iter().collect(),
            Event::InitApply(fleet) | Event::Apply(fleet) => {
                let fleet = FleetObject::from(fleet);
                let name = Arc::clone(&fleet.name);
                unseen.remove(&name);
                let (news, changed) = context.fleets.apply(fleet);
                if changed {
                    context.enqueue_discovery(&name);
                }
                if news {
                    context.enqueue_fleet(&name);
                }
            }
            Event::Delete(fleet) => forget_fleet(context, &FleetObject::from(fleet).name),
            Event::InitDone => {
                for name in unseen.drain() {
                    forget_fleet(context, &name);
                }
                readiness.arrived();
            }
        }
    }
}

/// A fleet was deleted. Enqueuing it removes it from the queues.
fn forget_fleet(context: &Context, name: &Arc<str>) {
    context.fleets.delete(name);
    context.enqueue_fleet(name);
    context.enqueue_discovery(name);
}

async fn nodes(context: &Context) {
    let mut events = std::pin::pin!(events::<NodeMetadata>(Api::all(context.client.clone())));
    let mut unseen: HashSet<Arc<str>> = HashSet::new();
    while let Some(event) = events.next().await {
        match event {
            Event::Init => unseen = context.nodes.names().into_iter().collect(),
            Event::InitApply(node) => {
                unseen.remove(node.name_any().as_str());
                context.nodes.apply(&node);
            }
            Event::Apply(node) => {
                if context.nodes.apply(&node) {
                    context.enqueue_node_fleets();
                }
            }
            Event::Delete(node) => {
                context.nodes.delete(&node.name_any());
                context.enqueue_node_fleets();
            }
            Event::InitDone => context.nodes.listed(unseen.drain()),
        }
    }
}

/// Maximum delay before a watch restarts: less than the default of kube, 30 s. After an outage a watch
/// usually needs two attempts, because its version has expired, and a password would wait for a minute.
const MAX_RESTART_DELAY: Duration = Duration::from_secs(8);

#[derive(Default)]
struct Restart(watcher::DefaultBackoff);

impl Iterator for Restart {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.0.next().map(|wait| wait.min(MAX_RESTART_DELAY))
    }
}

impl Backoff for Restart {
    fn reset(&mut self) {
        self.0.reset();
    }
}

/// The API of a namespace, or of all.
fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// The events of one watch, with errors logged and retried.
fn events<K>(api: Api<K>) -> impl Stream<Item = Event<K>> + Send + use<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    results(api).filter_map(|event| std::future::ready(event.inspect_err(failed::<K>).ok()))
}

fn results<K>(api: Api<K>) -> impl Stream<Item = Result<Event<K>, watcher::Error>> + Send + use<K>
where
    K: kube::Resource<DynamicType = ()>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    list_watch(api, watcher::Config::default()).backoff(Restart::default())
}

fn failed<K: kube::Resource<DynamicType = ()>>(error: &watcher::Error) {
    tracing::warn!(resource = %K::plural(&()), %error, "watch failed; it is started again");
}

/// How long the first list of a namespace's Secrets may fail before the operator goes on without it. It
/// always waits for the list of VncPasswords, because the owner of an instance may be in it.
const FIRST_LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// How long to wait before a namespace that the API server refused to show is listed again.
const REFUSED: Duration = Duration::from_secs(5);
/// The same, where it may be listed and not watched.
const LISTED_ONLY: Duration = Duration::from_mins(1);

/// Takes in the events of one watch, in a namespace or in all, for ever. One that the API server refuses
/// begins anew with a list: without it nothing shows that it is no longer refused.
async fn watch<K>(
    context: &Context,
    scope: Option<Arc<str>>,
    resource: Resource,
    readiness: &Readiness,
    mut take: impl FnMut(Event<K>),
) where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug
        + Send
        + 'static,
{
    let begun = Instant::now();
    let (mut listed_at, mut refused_since): (Option<Instant>, Option<Instant>) = (None, None);
    loop {
        let mut results = std::pin::pin!(results(api::<K>(&context.client, scope.as_deref())));
        while let Some(result) = results.next().await {
            match (result, &scope) {
                (Ok(event), _) => {
                    let is_list = matches!(event, Event::InitDone);
                    take(event);
                    if is_list {
                        (listed_at, refused_since) = (Some(Instant::now()), None);
                        let news = context.namespaces.listed(scope.as_ref(), resource);
                        follow_namespace::<K>(context, scope.as_ref(), news, readiness);
                    }
                }
                (Err(error), Some(namespace)) if is_refused(&error) => {
                    let news = context.namespaces.mark_unreadable(namespace, resource);
                    follow_namespace::<K>(context, scope.as_ref(), news, readiness);
                    break;
                }
                (Err(error), _) => {
                    failed::<K>(&error);
                    if let Some(namespace) = &scope
                        && resource == Resource::Secrets
                        && listed_at.is_none()
                        && begun.elapsed() >= FIRST_LIST_TIMEOUT
                    {
                        let news = context.namespaces.mark_unreadable(namespace, resource);
                        follow_namespace::<K>(context, scope.as_ref(), news, readiness);
                    }
                    // The stream begins again when it is asked for the next event.
                    tokio::time::sleep(asked_to_wait(&error)).await;
                }
            }
        }
        let since = *refused_since.get_or_insert_with(Instant::now);
        if listed_at.is_some() && since.elapsed() > context.config.settle {
            // Objects that cannot be seen own no instance, and are not retried.
            take(Event::Init);
            take(Event::InitDone);
        }
        // A right to list without a right to watch would cost a list each time.
        let only_listed = listed_at.is_some_and(|at| at.elapsed() < REFUSED);
        tokio::time::sleep(if only_listed { LISTED_ONLY } else { REFUSED }).await;
    }
}

/// The operator may not read the namespace. Where its rights are those of the namespace, they are gone
/// together with it.
fn is_refused(error: &watcher::Error) -> bool {
    let (watcher::Error::InitialListFailed(kube::Error::Api(status))
    | watcher::Error::WatchStartFailed(kube::Error::Api(status))
    | watcher::Error::WatchError(status)) = error
    else {
        return false;
    };
    status.code == 403
}

/// How long the API server asked to wait before the next request.
fn asked_to_wait(error: &watcher::Error) -> Duration {
    let (watcher::Error::InitialListFailed(error)
    | watcher::Error::WatchStartFailed(error)
    | watcher::Error::WatchFailed(error)) = error
    else {
        return Duration::ZERO;
    };
    kube_client::retry_after(error).unwrap_or_default()
}

fn follow_namespace<K: kube::Resource<DynamicType = ()>>(
    context: &Context,
    scope: Option<&Arc<str>>,
    news: News,
    readiness: &Readiness,
) {
    let namespace = scope.map(|scope| &**scope);
    let resource = K::plural(&());
    if news.unreadable {
        tracing::warn!(
            namespace, %resource,
            "the operator cannot list or watch this namespace: a right is missing, the namespace is gone, or the list of its Secrets fails; it is retried, and the other namespaces are served"
        );
    }
    if news.restored {
        tracing::info!(namespace, %resource, "the operator can read this namespace again");
    }
    let was_ready = readiness.is_ready();
    if !was_ready && context.namespaces.are_ready() {
        readiness.arrived();
    } else if was_ready && news.served {
        // Its objects have not been reconciled yet.
        context.registry.keys(namespace).into_iter().for_each(|(key, _)| context.enqueue(key));
        for name in context.fleets.names() {
            context.enqueue_fleet(&name);
            context.enqueue_discovery(&name);
        }
    }
}

async fn objects(context: &Context, namespace: Option<Arc<str>>, readiness: &Readiness) {
    let mut listing = Listing::default();
    let scope = namespace.clone();
    let take = |event: Event<IncomingObject>| match event {
        Event::Init => listing.start(),
        Event::InitApply(object) | Event::Apply(object) => {
            let object = Object::from(object);
            listing.found(&object.key);
            follow_up(context, context.registry.apply(object, listing.is_first()));
        }
        Event::Delete(object) => {
            let object = Object::from(object);
            follow_up(context, context.registry.delete(&object.key, &object.uid));
        }
        Event::InitDone => {
            for (key, uid) in listing.missing(context.registry.keys(namespace.as_deref())) {
                follow_up(context, context.registry.delete(&key, &uid));
            }
            listing.end();
        }
    };
    watch(context, scope, Resource::Objects, readiness, take).await;
}

fn follow_up(context: &Context, change: Change) {
    let Change { gone, released, former, fleets } = change;
    if let Some(gone) = gone {
        let now = context.now();
        let latest = rotation::settled_at(now, context.config.settle);
        let until = gone.unsettled_until(context.term(), latest).filter(|until| *until > now);
        context.cancel_polls(&gone.object);
        if let Ok(spec) = &gone.object.spec {
            // There was no call for an object without an identity, whatever its status contains.
            if let Some(until) = until.filter(|_| !context.identities.has_none(&gone.object)) {
                let (by, caller) = (Arc::clone(&gone.object.uid), context.identities.caller_of(&gone.object));
                let call = UnsettledCall { by, caller, region: None, value: None, until };
                context.instance_locks.unsettle(&spec.instance_id, call, now);
            }
            if gone.unclaimed {
                context.instance_poller.forget_instance(&spec.instance_id);
            }
        }
    }
    if let Some(former) = former {
        context.cancel_polls(&former);
    }
    if let Some(secret) = released {
        context.identities.forget(&secret);
    }
    context.enqueue_all(context.registry.take_affected());
    match fleets {
        Concerned::None => {}
        Concerned::One(name, uid) => {
            if context.fleets.newest(&name).is_some_and(|fleet| fleet.uid == uid) {
                context.enqueue_fleet(&name);
            }
        }
        Concerned::Any => context.fleets.names().iter().for_each(|name| context.enqueue_fleet(name)),
    }
}

async fn secrets(context: &Context, namespace: Option<Arc<str>>, readiness: &Readiness) {
    let mut listing = Listing::default();
    let scope = namespace.clone();
    let take = |event: Event<SecretMetadata>| match event {
        Event::Init => listing.start(),
        Event::InitApply(secret) => {
            let (key, version) = secret.into_version();
            listing.found(&key);
            if context.secrets.list(key.clone(), version) && !listing.is_first() {
                enqueue_readers(context, &key);
            }
        }
        Event::Apply(secret) => {
            let (key, version) = secret.into_version();
            if context.secrets.apply(key.clone(), version) {
                enqueue_readers(context, &key);
            }
        }
        Event::Delete(secret) => {
            let (key, version) = secret.into_version();
            if context.secrets.delete(&key, &version.uid) {
                enqueue_readers(context, &key);
            }
        }
        Event::InitDone => {
            context.secrets.listed();
            for (key, uid) in listing.missing(context.secrets.keys(namespace.as_deref())) {
                if context.secrets.delete(&key, &uid) {
                    enqueue_readers(context, &key);
                }
            }
            listing.end();
        }
    };
    watch(context, scope, Resource::Secrets, readiness, take).await;
}

/// Enqueues the objects that a change of a Secret affects: by the password or by the credentials.
fn enqueue_readers(context: &Context, secret: &Key) {
    for key in context.registry.readers(secret) {
        context.enqueue(key);
    }
    context.enqueue_credential_users(secret);
}

/// Finds what a relist does not contain, and whether it was the first list.
#[derive(Default)]
struct Listing {
    shown: HashSet<Key>,
    /// A list after the first one is under way.
    relisting: bool,
    listed: bool,
}

impl Listing {
    fn start(&mut self) {
        self.shown.clear();
        self.relisting = self.listed;
    }

    fn found(&mut self, key: &Key) {
        if self.relisting {
            self.shown.insert(key.clone());
        }
    }

    /// The known keys that were not in the list. What was created after the list comes with its event.
    fn missing(&mut self, known: Vec<(Key, Arc<str>)>) -> Vec<(Key, Arc<str>)> {
        let shown = std::mem::take(&mut self.shown);
        if !std::mem::take(&mut self.relisting) {
            return Vec::new();
        }
        known.into_iter().filter(|(key, _)| !shown.contains(key)).collect()
    }

    /// The first list is not complete: no reconcile starts before, so nothing is enqueued.
    fn is_first(&self) -> bool {
        !self.listed
    }

    /// The list is complete.
    fn end(&mut self) {
        self.listed = true;
    }
}
