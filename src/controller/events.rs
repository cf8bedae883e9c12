//! Events, sent beside the passes: nobody waits for them, and what does not fit the queue is dropped and counted.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, Resource, api::PostParams};
use tokio::sync::mpsc;

use super::object::Object;
use crate::{
    api::{FIELD_MANAGER, VncPassword},
    rotation::Note,
    runtime::Metrics,
};

/// Events that may wait to be sent.
const QUEUE: usize = 1024;
/// How long a stop waits for events that are queued.
pub(super) const FLUSH: Duration = Duration::from_secs(2);
/// Longest part of the object's name that fits an event's, in characters: 253 less a dot and a time in hex.
const LONGEST_NAME: usize = 220;
/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Where events are handed in.
pub(super) struct Events {
    queue: mpsc::Sender<Event>,
    metrics: Arc<Metrics>,
    instance: String,
}

impl Events {
    /// The handle, and the task that sends: it ends when the handle is dropped and the queue is empty.
    pub fn new(client: Client, metrics: Arc<Metrics>) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let (queue, mut queued) = mpsc::channel::<Event>(QUEUE);
        let instance = format!("{FIELD_MANAGER}-{}", std::process::id());
        let sender = async move {
            while let Some(event) = queued.recv().await {
                let namespace = event.metadata.namespace.clone().unwrap_or_default();
                let events: Api<Event> = Api::namespaced(client.clone(), &namespace);
                if let Err(error) = events.create(&PostParams::default(), &event).await {
                    tracing::debug!(%namespace, %error, "cannot create an event");
                }
            }
        };
        (Self { queue, metrics, instance }, sender)
    }

    /// Hands in an event about an object.
    pub fn tell(&self, object: &Object, note: &Note) {
        let now = Timestamp::now();
        let mut text = note.text.clone();
        text.truncate(text.floor_char_boundary(LONGEST_NOTE));
        let event = Event {
            metadata: ObjectMeta {
                // As client-go names them: the object, and when.
                name: Some(format!("{:.LONGEST_NAME$}.{:x}", object.key.name, now.as_nanosecond())),
                namespace: Some(object.key.namespace.to_string()),
                ..ObjectMeta::default()
            },
            action: Some("Reconcile".to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(text),
            reason: Some(note.reason.to_owned()),
            regarding: Some(ObjectReference {
                api_version: Some(VncPassword::api_version(&()).into_owned()),
                kind: Some(VncPassword::kind(&()).into_owned()),
                name: Some(object.key.name.to_string()),
                namespace: Some(object.key.namespace.to_string()),
                uid: Some(object.uid.to_string()),
                resource_version: Some(object.resource_version.to_string()),
                field_path: None,
            }),
            reporting_controller: Some(format!("{}/{FIELD_MANAGER}", crate::api::GROUP)),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        if self.queue.try_send(event).is_err() {
            self.metrics.events_dropped.inc();
        }
    }
}
