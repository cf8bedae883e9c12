//! Kubernetes Events, sent in the background. An event that does not fit the queue is dropped and counted.

use std::{sync::Arc, time::Duration};

use futures::StreamExt;
use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio::sync::mpsc;

use crate::{
    runtime::Metrics,
    store::object::{FleetObject, Key, Object},
};
use vncpassword_core::{
    api::{ClusterVncPassword, FIELD_MANAGER, VncPassword},
    rotation::Note,
};

/// Events that may wait to be sent.
const QUEUE: usize = 4096;
/// Maximum number of events sent in parallel: low, because status writes have priority.
const SENDERS: usize = 2;
/// How long shutdown waits for queued events.
pub(crate) const FLUSH: Duration = Duration::from_secs(2);
/// Longest part of the object's name that fits an event's, in bytes: 253 less a dot and a time in hex.
const MAX_NAME_BYTES: usize = 220;
/// Longest note that the API server takes, in bytes.
const MAX_NOTE_BYTES: usize = 1024;

/// The queue of events.
pub(crate) struct Events {
    queue: mpsc::Sender<QueuedEvent>,
    metrics: Arc<Metrics>,
}

/// An event that waits to be sent.
struct QueuedEvent {
    at: Timestamp,
    /// Of a fleet: without a namespace.
    namespace: Option<Arc<str>>,
    name: Arc<str>,
    uid: Arc<str>,
    note: Note,
}

impl QueuedEvent {
    /// Where the event goes: those of objects without a namespace go where Kubernetes' own do.
    fn namespace(&self) -> &str {
        self.namespace.as_deref().unwrap_or("default")
    }

    fn kind(&self) -> std::borrow::Cow<'static, str> {
        if self.namespace.is_some() { VncPassword::kind(&()) } else { ClusterVncPassword::kind(&()) }
    }
}

impl Events {
    /// The handle, and the task that sends: it ends when the handle is dropped and the queue is empty.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut queued) = mpsc::channel::<QueuedEvent>(QUEUE);
        let reporter = format!("{FIELD_MANAGER}-{}", std::process::id());
        let sender = async move {
            let queued = futures::stream::poll_fn(|context| queued.poll_recv(context));
            let (client, reporter) = (&client, &reporter);
            let send = |told: QueuedEvent| async move {
                let events: Api<Event> = Api::namespaced(client.clone(), told.namespace());
                let created = events.create(&PostParams::default(), &event(&told, reporter)).await;
                if let Err(error) = created {
                    tracing::debug!(object = %told.name, %error, "cannot create an event");
                }
            };
            queued.for_each_concurrent(SENDERS, send).await;
        };
        (Self { queue, metrics }, sender)
    }

    /// Publishes an event about an object.
    pub fn publish(&self, object: &Object, note: Note) {
        let Key { namespace, name } = object.key.clone();
        self.hand_in(Some(namespace), name, &object.uid, note);
    }

    /// Publishes an event about a fleet.
    pub fn publish_fleet(&self, fleet: &FleetObject, note: Note) {
        self.hand_in(None, Arc::clone(&fleet.name), &fleet.uid, note);
    }

    fn hand_in(&self, namespace: Option<Arc<str>>, name: Arc<str>, uid: &Arc<str>, note: Note) {
        let told = QueuedEvent { at: Timestamp::now(), namespace, name, uid: Arc::clone(uid), note };
        if self.queue.try_send(told).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}

/// As client-go names them: the object, and when. What is left of a long name must not end in a dash or a
/// dot.
fn event_name(object: &str, at: Timestamp) -> String {
    let object = &object[..object.floor_char_boundary(MAX_NAME_BYTES)];
    let object = object.trim_end_matches(|end: char| !end.is_ascii_alphanumeric());
    format!("{object}.{:x}", at.as_nanosecond())
}

fn event(told: &QueuedEvent, reporter: &str) -> Event {
    let QueuedEvent { at, namespace, name, uid, note } = told;
    let text = &note.text[..note.text.floor_char_boundary(MAX_NOTE_BYTES)];
    Event {
        metadata: ObjectMeta {
            name: Some(event_name(name, *at)),
            namespace: Some(told.namespace().to_owned()),
            ..ObjectMeta::default()
        },
        action: Some("Reconcile".to_owned()),
        event_time: Some(MicroTime(*at)),
        note: Some(text.to_owned()),
        reason: Some(note.reason.to_owned()),
        regarding: Some(ObjectReference {
            api_version: Some(VncPassword::api_version(&()).into_owned()),
            kind: Some(told.kind().into_owned()),
            name: Some(name.to_string()),
            namespace: namespace.as_ref().map(ToString::to_string),
            uid: Some(uid.to_string()),
            ..ObjectReference::default()
        }),
        reporting_controller: Some(format!("{}/{FIELD_MANAGER}", vncpassword_core::api::GROUP)),
        reporting_instance: Some(reporter.to_owned()),
        type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
        ..Event::default()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the API server takes it as an object's name: RFC 1123.
    fn is_valid(name: &str) -> bool {
        let label = |label: &str| {
            let ends = label.starts_with(|c: char| c.is_ascii_alphanumeric())
                && label.ends_with(|c: char| c.is_ascii_alphanumeric());
            ends && label.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
        };
        name.len() <= 253 && name.split('.').all(label)
    }

    #[test]
    fn a_long_name_is_cut_where_it_leaves_a_valid_one() {
        let at = Timestamp::from_second(1).unwrap();
        let head = |length: usize| "a".repeat(length);
        let table = [
            ("vm".to_owned(), "vm".to_owned()),
            (head(220), head(220)),
            (head(221), head(220)),
            (format!("{}-b", head(219)), head(219)),
            (format!("{}.b", head(219)), head(219)),
            (format!("{}---b", head(217)), head(217)),
        ];
        for (object, expected) in table {
            let name = event_name(&object, at);
            assert_eq!(name, format!("{expected}.3b9aca00"));
            assert!(is_valid(&name), "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_of_an_event_is_valid(
            object in "[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]{0,60}[a-z0-9])?){0,6}",
            nanosecond in 0..i64::MAX,
        ) {
            prop_assume!(object.len() <= 253);
            let name = event_name(&object, Timestamp::from_nanosecond(nanosecond.into()).unwrap());
            prop_assert!(is_valid(&name), "{}", name);
        }
    }
}
