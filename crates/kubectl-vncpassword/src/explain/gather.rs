//! Reads what `explain` is told. What the caller may not see is left out and said: only the object itself must be there.

use std::{collections::BTreeSet, fmt};

use jiff::Timestamp;
use k8s_openapi::{api::events::v1::Event, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{
    Api, Client, Resource, ResourceExt,
    api::{GetParams, ListParams},
    core::Request,
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny, MapAccess, Visitor},
};
use serde_json::Value;

use super::view::{EventSummary, FleetView, ObjectView, SecretState};
use crate::{Connection, Doing, Error, fetched::Fetched, read};
use vncpassword_core::api::{
    ClusterVncPassword, ConditionType, FIELD_MANAGER, Reason, VncPassword, WRITABLE,
};

/// Where events of what has no namespace are.
const CLUSTER_EVENTS: &str = "default";

/// Reads a `VncPassword` and what there is around it.
pub async fn object(
    connection: &Connection,
    name: &str,
    operator: String,
    now: Timestamp,
) -> Result<ObjectView, Error> {
    let Connection { client, namespace } = connection;
    let doing = Doing::ours("get", "vncpasswords").within(namespace).to(name);
    let object: VncPassword = whole(client, Some(namespace), name, doing).await?;
    let credentials = async {
        let reference = object.spec.credentials_ref.as_ref()?;
        Some(secret(client, namespace, &reference.name).await)
    };
    let (secret, credentials, others, events) = futures::join!(
        secret(client, namespace, &object.spec.secret_ref.name),
        credentials,
        others(client, &object),
        events(client, namespace, &object),
    );
    Ok(ObjectView { object, secret, credentials, others, events, now, operator })
}

/// Reads a `ClusterVncPassword` and what there is around it.
pub async fn fleet(
    connection: &Connection,
    name: &str,
    operator: String,
    now: Timestamp,
) -> Result<FleetView, Error> {
    let doing = Doing::ours("get", "clustervncpasswords").to(name);
    let fleet: ClusterVncPassword = whole(&connection.client, None, name, doing).await?;
    let events = events(&connection.client, CLUSTER_EVENTS, &fleet).await;
    Ok(FleetView { fleet, events, now, operator })
}

/// The object, as far as it can be read.
async fn whole<K>(client: &Client, namespace: Option<&str>, name: &str, doing: Doing) -> Result<K, Error>
where
    K: Resource<DynamicType = ()> + DeserializeOwned,
{
    let request = Request::new(K::url_path(&(), namespace));
    let read = match request.get(name, &GetParams::default()) {
        Ok(request) => client.request::<Value>(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    let object = doing.object();
    serde_json::from_value(read.map_err(|error| Error::of(doing, error))?).map_err(|error| {
        Error::Failed(format!(
            "{object} does not fit the kinds that this plugin knows ({error}); see which of them is older: kubectl vncpassword \
             doctor"
        ))
    })
}

/// The keys of a map, whose values are not kept.
#[derive(Clone, Debug, Default)]
struct Names(BTreeSet<String>);

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visit;
        impl<'de> Visitor<'de> for Visit {
            type Value = Names;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Names, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.insert(name);
                }
                Ok(Names(names))
            }
        }
        deserializer.deserialize_map(Visit)
    }
}

/// A Secret as it is read: its values are passed over and kept nowhere.
#[derive(Clone, Debug, Deserialize)]
struct Keys {
    metadata: ObjectMeta,
    #[serde(default, rename = "type")]
    type_: String,
    #[serde(default)]
    immutable: bool,
    #[serde(default)]
    data: Names,
}

async fn secret(client: &Client, namespace: &str, name: &str) -> Fetched<Option<SecretState>> {
    let request = Request::new(format!("/api/v1/namespaces/{namespace}/secrets"));
    let read = match request.get(name, &GetParams::default()) {
        Ok(request) => client.request::<Keys>(request).await,
        Err(error) => Err(kube::Error::BuildRequest(error)),
    };
    let found = match read {
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        read => {
            let doing = Doing::core("get", "secrets").within(namespace).to(name);
            read.map(Some).map_err(|error| Error::of(doing, error))
        }
    };
    Fetched::of(found, &format!("get secrets in namespace {namespace}")).map(|found| found.map(secret_state))
}

fn secret_state(secret: Keys) -> SecretState {
    let Keys { metadata, type_, immutable, data } = secret;
    let labels = metadata.labels.unwrap_or_default();
    let says = |label: &str, value: &str| labels.get(label).is_some_and(|found| found == value);
    SecretState {
        keys: data.0,
        type_,
        immutable,
        operators: says("app.kubernetes.io/managed-by", FIELD_MANAGER),
        writable: says(WRITABLE, "true"),
    }
}

/// The other objects that name the instance: in all namespaces, or else in this one. In a conflict where there is none, those
/// that name the same key of the Secret.
async fn others(client: &Client, object: &VncPassword) -> Fetched<Vec<VncPassword>> {
    let same = ListParams::default().fields(&format!("spec.instanceId={}", object.spec.instance_id));
    let doing = || Doing::ours("list", "vncpasswords");
    let everywhere = read::pages(&Api::all(client.clone()), same.clone(), doing).await;
    let found = match (everywhere, object.namespace()) {
        (Err(Error::Forbidden { .. }), Some(namespace)) => {
            read::pages(&Api::namespaced(client.clone(), &namespace), same, doing).await
        }
        (found, _) => found,
    };
    let conflict = object.status.as_ref().and_then(|status| status.reason(ConditionType::Stalled))
        == Some(Reason::Conflict);
    let others = |found: Vec<VncPassword>| {
        found.into_iter().filter(|other| other.uid() != object.uid()).collect::<Vec<VncPassword>>()
    };
    let found = match (found.map(others), object.namespace()) {
        (Ok(found), Some(namespace)) if found.is_empty() && conflict => {
            let all =
                read::pages(&Api::namespaced(client.clone(), &namespace), ListParams::default(), doing).await;
            let mine = &object.spec.secret_ref;
            all.map(|all| others(all).into_iter().filter(|other| other.spec.secret_ref == *mine).collect())
        }
        (found, _) => found,
    };
    Fetched::of(found, "list vncpasswords")
}

async fn events<K>(client: &Client, namespace: &str, object: &K) -> Fetched<Vec<EventSummary>>
where
    K: Resource<DynamicType = ()>,
{
    let uid = object.uid().unwrap_or_default();
    let selector = format!("regarding.kind={},regarding.name={}", K::kind(&()), object.name_any());
    let about = ListParams::default().fields(&selector);
    let doing = || Doing::of("list", "events", "events.k8s.io").within(namespace);
    let found = read::pages(&Api::<Event>::namespaced(client.clone(), namespace), about, doing).await;
    let right = format!("list events.events.k8s.io in namespace {namespace}");
    Fetched::of(found, &right).map(|found| {
        // One of that name that was deleted had another uid.
        let own = found.into_iter().filter(|event| {
            event.regarding.as_ref().and_then(|regarding| regarding.uid.as_ref()).is_none_or(|of| *of == uid)
        });
        own.map(event_summary).collect()
    })
}

fn event_summary(event: Event) -> EventSummary {
    let series = event.series.as_ref();
    let last = series.map(|series| series.last_observed_time.0).or(event.event_time.map(|at| at.0));
    EventSummary {
        at: last.or(event.deprecated_last_timestamp.map(|at| at.0)),
        warning: event.type_.as_deref() == Some("Warning"),
        reason: event.reason.unwrap_or_default(),
        note: event.note.unwrap_or_default(),
        times: series.map(|series| series.count).or(event.deprecated_count).unwrap_or(1),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_condition_that_is_not_known_is_left_out_and_the_rest_is_read() {
        let condition = |type_: &str| {
            json!({"type": type_, "status": "True", "reason": "Applied", "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05Z"})
        };
        let object = json!({"metadata": {"name": "a"}, "spec": {"instanceId": "i-a", "secretRef": {"name": "a"}},
            "status": {"conditions": [condition("Ready"), condition("OfANewerOperator")]}});
        let read: VncPassword = serde_json::from_value(object).unwrap();
        assert_eq!(read.status.unwrap().conditions.len(), 1);
        let broken = json!({"metadata": {"name": "a"}, "spec": {}});
        assert!(serde_json::from_value::<VncPassword>(broken).is_err());
    }

    #[test]
    fn of_a_secret_only_the_keys_are_kept() {
        let secret = json!({"metadata": {"name": "a", "labels": {"vncpassword.dev/writable": "true"}}, "type": "Opaque",
            "data": {"password": "QWJjMTIz", "password.next": "WHl6Nzg5"}});
        let read: Keys = serde_json::from_value(secret).unwrap();
        assert!(!format!("{read:?}").contains("QWJjMTIz"), "{read:?}");
        let secret = secret_state(read);
        assert!(secret.writable && !secret.operators);
        assert_eq!(secret.keys, ["password".to_owned(), "password.next".to_owned()].into());
        let empty: Keys = serde_json::from_value(json!({"metadata": {"name": "a"}})).unwrap();
        assert!(empty.data.0.is_empty());
    }
}
