//! Trimmed types: the fields of objects that decisions need. No object can break a watch.

use std::{
    borrow::Cow,
    collections::{BTreeMap, hash_map::DefaultHasher},
    fmt,
    hash::{Hash, Hasher},
    sync::Arc,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Node, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{
    Resource,
    core::object::{HasSpec, HasStatus},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, IgnoredAny},
};
use serde_json::value::RawValue;

use vncpassword_core::{
    api::{
        ClusterVncPassword, ClusterVncPasswordSpec, ClusterVncPasswordStatus, Condition, GROUP, ROTATE_AT,
        VncPassword, VncPasswordSpec, VncPasswordStatus,
    },
    rotation::{facts::SecretVersion, rotate_at::RotateAt},
};

/// The name of the operator's own identity in logs and limits.
pub const OPERATOR: &str = "operator";

/// Whether a `resourceVersion` is not older than the other, or cannot be compared.
fn is_at_least(version: &str, other: &str) -> bool {
    match (version.parse::<u128>(), other.parse::<u128>()) {
        (Ok(version), Ok(other)) => version >= other,
        _ => true,
    }
}

/// Namespace and name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The namespace.
    pub namespace: Arc<str>,
    /// The name in it.
    pub name: Arc<str>,
}

impl Key {
    pub(crate) fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A `VncPassword` in one version.
#[derive(Clone, Debug)]
pub(crate) struct Object {
    pub key: Key,
    pub uid: Arc<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub created: Timestamp,
    /// It has a `deletionTimestamp`.
    pub deleting: bool,
    pub rotate_at: RotateAt,
    /// Why the spec cannot be read, for instance because it was stored under an older schema.
    pub spec: Result<Arc<VncPasswordSpec>, Box<str>>,
    pub status: Arc<VncPasswordStatus>,
    /// The status contains something that cannot be read. The next reconcile replaces it.
    pub status_is_malformed: bool,
    /// The fleet in its owner references.
    pub membership: Option<Box<Membership>>,
}

/// What a `VncPassword` states about its fleet. The fleet checks it.
#[derive(Clone, Debug)]
pub(crate) struct Membership {
    /// The fleet's uid.
    pub uid: Arc<str>,
    /// The fleet's name.
    pub fleet: Arc<str>,
    /// Hashes of its labels and annotations, sorted.
    pub marks: Box<[u64]>,
}

/// Whether a mark is that of a label or of an annotation.
#[derive(Clone, Copy, Hash)]
pub(crate) enum MarkOf {
    Label,
    Annotation,
}

/// A hash of a label or an annotation. It saves memory: ten thousand member objects have the same ones.
pub(crate) fn mark(of: MarkOf, key: &str, value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (of, key, value).hash(&mut hasher);
    hasher.finish()
}

impl Object {
    /// The name under which limits and instance polls of the object's identity are kept.
    pub fn identity_name(&self) -> std::borrow::Cow<'static, str> {
        self.credentials().map_or(OPERATOR.into(), |secret| secret.to_string().into())
    }

    /// Whether this version is newer than the other, or cannot be compared.
    pub fn is_at_least(&self, other: &Self) -> bool {
        is_at_least(&self.resource_version, &other.resource_version)
    }

    /// The Secret with the credentials that it calls with; `None`: the operator's own.
    pub fn credentials(&self) -> Option<Key> {
        let name = self.spec.as_ref().ok()?.credentials_ref.as_ref()?.name.as_str();
        Some(Key { namespace: Arc::clone(&self.key.namespace), name: name.into() })
    }

    /// The Secret that it names.
    pub fn secret(&self) -> Option<Key> {
        let spec = self.spec.as_ref().ok()?;
        Some(Key { namespace: Arc::clone(&self.key.namespace), name: spec.secret_ref.name.as_str().into() })
    }
}

/// A custom resource as it comes over the wire. Reading it never fails because of its spec or status: one
/// malformed object must not break the list or the watch that contains it.
#[derive(Clone, Debug)]
pub(crate) struct Incoming<K: HasSpec + HasStatus> {
    metadata: ObjectMeta,
    spec: Result<Arc<K::Spec>, Box<str>>,
    status: Arc<K::Status>,
    status_is_malformed: bool,
    membership: Option<Box<Membership>>,
}

/// A `VncPassword` as it comes over the wire.
pub(crate) type IncomingObject = Incoming<VncPassword>;

/// A `ClusterVncPassword` as it comes over the wire.
pub(crate) type IncomingFleet = Incoming<ClusterVncPassword>;

/// A status with conditions.
trait Conditions {
    fn conditions(&mut self) -> &mut Vec<Condition>;
}

impl Conditions for VncPasswordStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

impl Conditions for ClusterVncPasswordStatus {
    fn conditions(&mut self) -> &mut Vec<Condition> {
        &mut self.conditions
    }
}

#[derive(Deserialize)]
struct Wire<M> {
    #[serde(default = "Option::default")]
    metadata: Option<M>,
    spec: Option<Box<RawValue>>,
    status: Option<Box<RawValue>>,
}

/// The needed metadata. `managedFields`, often the larger part of an object, is skipped.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    generation: Option<i64>,
    creation_timestamp: Option<Timestamp>,
    deletion_timestamp: Option<Timestamp>,
    #[serde(default)]
    labels: Option<Box<RawValue>>,
    #[serde(default)]
    annotations: Option<Box<RawValue>>,
    #[serde(default)]
    owner_references: Option<Vec<OwnerReference>>,
}

/// An owner reference.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct OwnerReference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
    #[serde(default)]
    controller: Option<bool>,
}

impl OwnerReference {
    fn is_fleet(&self) -> bool {
        let group = self.api_version.split_once('/').map(|(group, _)| group);
        self.controller == Some(true) && self.kind == ClusterVncPassword::kind(&()) && group == Some(GROUP)
    }
}

impl Metadata {
    fn membership(&self) -> Option<Box<Membership>> {
        let owner = self.owner_references.as_ref()?.iter().find(|owner| owner.is_fleet())?;
        let mut marks = Vec::new();
        for (of, raw) in [(MarkOf::Label, &self.labels), (MarkOf::Annotation, &self.annotations)] {
            let pairs: BTreeMap<Cow<'_, str>, Cow<'_, str>> =
                raw.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
            let lasting = pairs.iter().filter(|(key, _)| *key != ROTATE_AT);
            marks.extend(lasting.map(|(key, value)| mark(of, key, value)));
        }
        marks.sort_unstable();
        let (uid, fleet) = (owner.uid.as_str().into(), owner.name.as_str().into());
        Some(Box::new(Membership { uid, fleet, marks: marks.into() }))
    }

    fn rotate_at(&self) -> Option<String> {
        let annotations: Option<Annotations> = serde_json::from_str(self.annotations.as_deref()?.get()).ok();
        annotations?.rotate_at
    }
}

/// The only annotation that is read.
#[derive(Deserialize)]
struct Annotations {
    #[serde(rename = "vncpassword.dev/rotate-at")]
    rotate_at: Option<String>,
}

impl From<Metadata> for ObjectMeta {
    fn from(metadata: Metadata) -> Self {
        let annotations = metadata.rotate_at().map(|value| [(ROTATE_AT.to_owned(), value)].into());
        let Metadata { name, namespace, uid, resource_version, generation, .. } = metadata;
        let creation_timestamp = metadata.creation_timestamp.map(Into::into);
        let deletion_timestamp = metadata.deletion_timestamp.map(Into::into);
        Self {
            name,
            namespace,
            uid,
            resource_version,
            generation,
            creation_timestamp,
            deletion_timestamp,
            annotations,
            ..Self::default()
        }
    }
}

impl<'de, K> Deserialize<'de> for Incoming<K>
where
    K: HasSpec + HasStatus,
    K::Spec: DeserializeOwned,
    K::Status: DeserializeOwned + Default + Conditions,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Wire { metadata, spec, status } = Wire::<Metadata>::deserialize(deserializer)?;
        let spec = spec.as_deref().map_or("null", RawValue::get);
        let (status, status_is_malformed) = read_status(status.as_deref());
        Ok(Self {
            membership: metadata.as_ref().and_then(Metadata::membership),
            metadata: metadata.map_or_else(ObjectMeta::default, Into::into),
            spec: serde_json::from_str(spec).map(Arc::new).map_err(|error| error.to_string().into()),
            status: Arc::new(status),
            status_is_malformed,
        })
    }
}

/// Reads a status. Returns whether it contains something that cannot be read. If nothing of it can be read,
/// it is rebuilt: the operator can find out its contents again.
fn read_status<S: DeserializeOwned + Default + Conditions>(status: Option<&RawValue>) -> (S, bool) {
    #[derive(Deserialize)]
    struct Written {
        #[serde(default)]
        conditions: Option<Vec<IgnoredAny>>,
    }
    let Some(status) = status.map(RawValue::get) else { return (S::default(), false) };
    let (Ok(mut read), Ok(written)) =
        (serde_json::from_str::<S>(status), serde_json::from_str::<Written>(status))
    else {
        return (S::default(), true);
    };
    let conditions = read.conditions();
    conditions.shrink_to_fit();
    let unread = written.conditions.map_or(0, |written| written.len()) != conditions.len();
    (read, unread)
}

impl From<IncomingObject> for Object {
    fn from(incoming: IncomingObject) -> Self {
        let Incoming { metadata, spec, status, status_is_malformed, membership } = incoming;
        let rotate_at = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ROTATE_AT));
        Self {
            rotate_at: RotateAt::parse(rotate_at.map(String::as_str)),
            key: Key::new(&metadata.namespace.unwrap_or_default(), &metadata.name.unwrap_or_default()),
            uid: metadata.uid.unwrap_or_default().into(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            spec,
            status,
            status_is_malformed,
            membership,
        }
    }
}

/// Implements [`Resource`] for a trimmed type like `$kind`. `$metadata_only`: lists and watches ask for
/// metadata only.
macro_rules! trimmed_resource {
    ([$($generics:tt)*] $trimmed:ty, $kind:ty, $field:tt, $metadata_only:literal) => {
        impl<$($generics)*> Resource for $trimmed {
            type DynamicType = ();
            type Scope = <$kind as Resource>::Scope;

            fn kind((): &()) -> Cow<'_, str> {
                <$kind>::kind(&())
            }

            fn group((): &()) -> Cow<'_, str> {
                <$kind>::group(&())
            }

            fn version((): &()) -> Cow<'_, str> {
                <$kind>::version(&())
            }

            fn plural((): &()) -> Cow<'_, str> {
                <$kind>::plural(&())
            }

            fn metadata_api() -> bool {
                $metadata_only
            }

            fn meta(&self) -> &ObjectMeta {
                &self.$field
            }

            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.$field
            }
        }
    };
}

trimmed_resource!([K: Resource<DynamicType = ()> + HasSpec + HasStatus] Incoming<K>, K, metadata, false);
// The API server sends the metadata only: the contents of Secrets never reach this process through the watch.
trimmed_resource!([] SecretMetadata, Secret, 0, true);
trimmed_resource!([] NodeMetadata, Node, metadata, true);

/// A Secret with only its name and version. Annotations are skipped, because `kubectl apply` stores the whole
/// Secret in one.
#[derive(Clone, Debug)]
pub(crate) struct SecretMetadata(ObjectMeta);

impl<'de> Deserialize<'de> for SecretMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            metadata: Option<Metadata>,
        }
        let Wire { metadata } = Wire::deserialize(deserializer)?;
        let metadata = metadata.map(|metadata| Metadata { annotations: None, ..metadata });
        Ok(Self(metadata.map_or_else(ObjectMeta::default, Into::into)))
    }
}

impl SecretMetadata {
    /// The key and the version.
    pub fn into_version(self) -> (Key, SecretVersion) {
        let metadata = self.0;
        let key = Key::new(&metadata.namespace.unwrap_or_default(), &metadata.name.unwrap_or_default());
        let version = SecretVersion {
            uid: metadata.uid.unwrap_or_default().into(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
        };
        (key, version)
    }
}

/// A `ClusterVncPassword` in one version.
#[derive(Clone, Debug)]
pub(crate) struct FleetObject {
    pub name: Arc<str>,
    pub uid: Arc<str>,
    pub resource_version: Box<str>,
    pub generation: i64,
    pub created: Timestamp,
    pub deleting: bool,
    pub rotate_at: RotateAt,
    /// Why the spec cannot be read, where it cannot.
    pub spec: Result<Arc<ClusterVncPasswordSpec>, Box<str>>,
    pub status: Arc<ClusterVncPasswordStatus>,
    /// The status holds something that cannot be read: the next reconcile replaces it.
    pub status_is_malformed: bool,
}

impl FleetObject {
    /// Whether this version is newer than the other, or cannot be compared.
    pub fn is_at_least(&self, other: &Self) -> bool {
        is_at_least(&self.resource_version, &other.resource_version)
    }
}

impl From<IncomingFleet> for FleetObject {
    fn from(incoming: IncomingFleet) -> Self {
        let Incoming { metadata, spec, status, status_is_malformed, membership: _ } = incoming;
        let rotate_at = metadata.annotations.as_ref().and_then(|annotations| annotations.get(ROTATE_AT));
        Self {
            rotate_at: RotateAt::parse(rotate_at.map(String::as_str)),
            name: metadata.name.unwrap_or_default().into(),
            uid: metadata.uid.unwrap_or_default().into(),
            resource_version: metadata.resource_version.unwrap_or_default().into(),
            generation: metadata.generation.unwrap_or_default(),
            created: metadata.creation_timestamp.map_or(Timestamp::UNIX_EPOCH, |time| time.0),
            deleting: metadata.deletion_timestamp.is_some(),
            spec,
            status,
            status_is_malformed,
        }
    }
}

/// A Node, of which only name, uid and labels are kept.
#[derive(Clone, Debug)]
pub(crate) struct NodeMetadata {
    metadata: ObjectMeta,
    /// One label a line, `key=value`: neither holds a line's end.
    pub labels: Box<str>,
}

impl<'de> Deserialize<'de> for NodeMetadata {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Wire {
            metadata: Option<Metadata>,
        }
        let Wire { metadata } = Wire::deserialize(deserializer)?;
        let labels = metadata.as_ref().and_then(|metadata| metadata.labels.as_deref());
        let labels: BTreeMap<Cow<'_, str>, Cow<'_, str>> =
            labels.and_then(|labels| serde_json::from_str(labels.get()).ok()).unwrap_or_default();
        let lines: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let metadata = metadata.map(|metadata| Metadata { annotations: None, ..metadata });
        Ok(Self {
            labels: lines.join("\n").into(),
            metadata: metadata.map_or_else(ObjectMeta::default, Into::into),
        })
    }
}

#[cfg(test)]
mod tests {
    use kube::core::{ObjectList, WatchEvent};

    use super::*;

    const GOOD: &str = r#"{"apiVersion":"vncpassword.dev/v1alpha1","kind":"VncPassword",
        "metadata":{"name":"a","namespace":"n","uid":"u","resourceVersion":"7","generation":2,
            "creationTimestamp":"2026-01-02T03:04:05Z","managedFields":[{"anything":["at","all"]}]},
        "spec":{"instanceId":"i-1","secretRef":{"name":"s","key":"password"}},
        "status":{"requestId":"R"}}"#;
    const BAD: &str = r#"{"metadata":{"name":"b","namespace":"n","resourceVersion":"8"},
        "spec":{"instanceId":5},"status":{"requestId":["no"]}}"#;

    #[test]
    fn one_malformed_object_does_not_break_its_list() {
        let list =
            format!(r#"{{"apiVersion":"v1","kind":"List","metadata":{{}},"items":[{GOOD},{BAD},{{}}]}}"#);
        let list: ObjectList<IncomingObject> = serde_json::from_str(&list).unwrap();
        let objects: Vec<Object> = list.items.into_iter().map(Into::into).collect();
        assert_eq!(objects[0].spec.as_ref().unwrap().instance_id, "i-1");
        assert_eq!(objects[0].status.request_id.as_deref(), Some("R"));
        assert_eq!((objects[0].generation, &*objects[0].resource_version), (2, "7"));
        assert_eq!(&*objects[1].key.name, "b");
        assert!(objects[1].spec.is_err());
        assert_eq!(*objects[1].status, VncPasswordStatus::default());
        assert!(objects[2].spec.is_err());
        let unread: Vec<bool> = objects.iter().map(|object| object.status_is_malformed).collect();
        assert_eq!(unread, [false, true, false]);
    }

    #[test]
    fn a_condition_that_cannot_be_read_makes_nothing_else_unreadable() {
        let condition = |type_: &str, status: &str| {
            format!(
                r#"{{"type":"{type_}","status":"{status}","reason":"R","message":"","lastTransitionTime":"2026-01-02T03:04:05Z"}}"#
            )
        };
        let (ready, stalled) = (condition("Ready", "True"), condition("Stalled", "True"));
        let table = [
            ("all are known", format!("[{ready},{stalled}]"), 2, false),
            ("of an unknown type", format!("[{},{ready}]", condition("Verified", "True")), 1, true),
            ("of unknown status", format!("[{ready},{}]", condition("Stalled", "Maybe")), 1, true),
            ("no condition at all", format!("[5,null,{{}},{ready},{stalled}]"), 2, true),
            ("nothing known", format!("[{}]", condition("Verified", "True")), 0, true),
            ("none", "[]".to_owned(), 0, false),
            ("null", "null".to_owned(), 0, false),
        ];
        for (name, conditions, read, unread) in table {
            let body = format!(
                r#"{{"metadata":{{"name":"a"}},"status":{{"conditions":{conditions},"observedGeneration":3}}}}"#
            );
            let object = Object::from(serde_json::from_str::<IncomingObject>(&body).unwrap());
            assert_eq!(
                (object.status.conditions.len(), object.status_is_malformed),
                (read, unread),
                "{name}"
            );
            assert_eq!(object.status.observed_generation, Some(3), "{name}");
            let fleet = FleetObject::from(serde_json::from_str::<IncomingFleet>(&body).unwrap());
            assert_eq!(
                (fleet.status.conditions.len(), fleet.status_is_malformed),
                (read, unread),
                "{name}: fleet"
            );
            assert_eq!(fleet.status.observed_generation, Some(3), "{name}: fleet");
        }
    }

    #[test]
    fn one_malformed_object_does_not_break_its_watch() {
        for object in [GOOD, BAD] {
            let event = format!(r#"{{"type":"MODIFIED","object":{object}}}"#);
            let event: WatchEvent<IncomingObject> = serde_json::from_str(&event).unwrap();
            assert!(matches!(event, WatchEvent::Modified(_)));
        }
    }

    #[test]
    fn nothing_of_a_secret_is_kept_but_its_name_and_version() {
        let secret = r#"{"metadata":{"name":"s","namespace":"n","uid":"u","resourceVersion":"9",
            "annotations":{"kubectl.kubernetes.io/last-applied-configuration":"Abc123"},
            "labels":{"a":"Abc123"}}}"#;
        let secret: SecretMetadata = serde_json::from_str(secret).unwrap();
        assert!(!format!("{secret:?}").contains("Abc123"));
        let (key, version) = secret.into_version();
        assert_eq!((key.to_string().as_str(), &*version.uid, &*version.resource_version), ("n/s", "u", "9"));
    }
}
