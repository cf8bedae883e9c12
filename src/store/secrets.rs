//! Secrets: the version of every one, from a metadata watch; the contents of one, read and written when
//! needed and not kept.

use std::{
    collections::{BTreeMap, HashMap, hash_map::Entry},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use kube::{
    Client,
    api::{Patch, PatchParams, PostParams},
    core::{Request, request},
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use crate::{runtime::tables::shrink, store::object::Key};
use vncpassword_core::{
    api::{FIELD_MANAGER, FLEET, INSTANCE_ID, SecretRef, WRITABLE},
    rotation::{
        Password,
        contents::{Change, Contents, Record, SecretRead, SecretWrite, Slot},
        facts::{FingerprintKey, SecretVersion},
        refusal::{self, Answer, Refusal},
    },
};
use vncpassword_kube_client as kube_client;

/// A request about a Secret that failed. None of these texts holds contents of a Secret.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The Secret could not be read.
    #[error("cannot read Secret {secret}")]
    Read {
        /// The Secret.
        secret: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Secret could not be written.
    #[error("cannot write Secret {secret}")]
    Write {
        /// The Secret.
        secret: Key,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The API server's answer is no Secret. What it is instead is not said: it may hold the password.
    #[error("the answer of the API server about Secret {secret} is no Secret")]
    Unreadable {
        /// The Secret.
        secret: Key,
    },
}

impl SecretError {
    /// How long the API server asked to wait before the next request, 30 s at most.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Read { source, .. } | Self::Write { source, .. } => kube_client::retry_after(source),
            Self::Unreadable { .. } => None,
        }
    }
}

/// The versions of all Secrets that are watched.
#[derive(Default)]
pub(crate) struct Secrets(Mutex<Known>);

#[derive(Default)]
struct Known {
    versions: HashMap<Key, SecretVersion>,
    /// Secrets that are being written, and what the watch reported of each meanwhile.
    writing: HashMap<Key, Meanwhile>,
}

/// What the watch reported of a Secret while it was written.
#[derive(Default)]
struct Meanwhile {
    /// Writes under way.
    writes: u32,
    /// The uids of Secrets of that name that were deleted.
    deleted: Vec<Arc<str>>,
    /// All Secrets were listed afresh: one that is not in the list may have been made and deleted since.
    listed: bool,
}

/// A write under way. A deletion that the watch reports takes precedence over its reply, whichever comes
/// first.
pub(crate) struct Writing<'a> {
    secrets: &'a Secrets,
    key: Key,
}

impl Writing<'_> {
    /// Takes in the version that the write returned; `false`: the Secret may have been deleted since.
    pub fn wrote(&self, version: SecretVersion) -> bool {
        let mut known = self.secrets.known();
        let standing = known.versions.get(&self.key).is_some_and(|standing| standing.uid == version.uid);
        if let Some(meanwhile) = known.writing.get(&self.key) {
            let relisted = meanwhile.listed && !standing;
            if relisted || meanwhile.deleted.contains(&version.uid) {
                return false;
            }
        }
        known.apply(self.key.clone(), version);
        true
    }
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        let mut known = self.secrets.known();
        if let Some(meanwhile) = known.writing.get_mut(&self.key) {
            meanwhile.writes -= 1;
            if meanwhile.writes == 0 {
                known.writing.remove(&self.key);
            }
        }
    }
}

impl Secrets {
    /// The version that the watch knows.
    pub fn version(&self, key: &Key) -> Option<SecretVersion> {
        self.known().versions.get(key).cloned()
    }

    /// Notes that a Secret is about to be written.
    pub fn write(&self, key: Key) -> Writing<'_> {
        self.known().writing.entry(key.clone()).or_default().writes += 1;
        Writing { secrets: self, key }
    }

    /// Notes that a list of Secrets is complete.
    pub fn listed(&self) {
        self.known().writing.values_mut().for_each(|meanwhile| meanwhile.listed = true);
    }

    /// Takes in a version that a list shows; whether it is new.
    pub fn list(&self, key: Key, version: SecretVersion) -> bool {
        self.known().versions.insert(key, version.clone()) != Some(version)
    }

    /// Takes in a version from a watch or a write; whether it is new. The echo of a write may come after the
    /// next write: what is older is not taken in.
    pub fn apply(&self, key: Key, version: SecretVersion) -> bool {
        self.known().apply(key, version)
    }

    /// A Secret was deleted; whether it was known in that incarnation.
    pub fn delete(&self, key: &Key, uid: &str) -> bool {
        let mut known = self.known();
        if let Some(meanwhile) = known.writing.get_mut(key) {
            meanwhile.deleted.push(uid.into());
        }
        let is_known = known.versions.get(key).is_some_and(|version| *version.uid == *uid);
        if is_known {
            known.versions.remove(key);
            shrink(&mut known.versions);
        }
        is_known
    }

    /// Keys and uids in that namespace (all for `None`): what a relist must find again or delete.
    pub fn keys(&self, namespace: Option<&str>) -> Vec<(Key, Arc<str>)> {
        let known = self.known();
        let all = known.versions.iter();
        all.filter(|(key, _)| namespace.is_none_or(|namespace| *key.namespace == *namespace))
            .map(|(key, version)| (key.clone(), version.uid.clone()))
            .collect()
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn apply(&mut self, key: Key, version: SecretVersion) -> bool {
        match self.versions.entry(key) {
            Entry::Occupied(entry) if version.is_older_than(entry.get()) => false,
            Entry::Occupied(mut entry) => entry.insert(version.clone()) != version,
            Entry::Vacant(entry) => {
                entry.insert(version);
                true
            }
        }
    }
}

/// Reads one key of one Secret.
pub(crate) async fn read(
    client: &Client,
    fingerprints: &FingerprintKey,
    namespace: &str,
    secret: &SecretRef,
) -> Result<SecretRead, SecretError> {
    let name = Key::new(namespace, &secret.name);
    let body = match fetch(client, &name).await? {
        Body::Missing => return Ok(SecretRead::Missing),
        Body::Forbidden => return Ok(SecretRead::Forbidden),
        Body::Found(body) => body,
    };
    let contents = parse(&body, &secret.key, fingerprints);
    let contents = contents.ok_or(SecretError::Unreadable { secret: name })?;
    Ok(SecretRead::Found(Box::new(contents)))
}

/// A Secret as the API server sends it.
pub(crate) enum Body {
    /// There is none.
    Missing,
    /// The operator may not read it.
    Forbidden,
    /// JSON, overwritten in memory after use.
    Found(Zeroizing<Vec<u8>>),
}

/// Asks for one Secret.
///
/// It does not go through `kube::Api`: that keeps the whole Secret in plain memory, and on an answer that is
/// no Secret writes all of it to the log.
pub(crate) async fn fetch(client: &Client, secret: &Key) -> Result<Body, SecretError> {
    let failed = |source| SecretError::Read { secret: secret.clone(), source: Box::new(source) };
    let path = format!("/api/v1/namespaces/{}/secrets", secret.namespace);
    let request = Request::new(path).get(&secret.name, &request_params());
    let request = request.map_err(|error: request::Error| failed(kube::Error::BuildRequest(error)))?;
    let response = client.send(request.map(Into::into)).await.map_err(failed)?;
    match response.status() {
        http::StatusCode::OK => {}
        http::StatusCode::NOT_FOUND => return Ok(Body::Missing),
        http::StatusCode::FORBIDDEN => return Ok(Body::Forbidden),
        _ => return Err(failed(unexpected(&response))),
    }
    let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
    Ok(Body::Found(Zeroizing::new(Vec::from(body))))
}

/// How a write of a Secret ended.
pub(crate) enum Written {
    /// The Secret as it is now.
    Done(Box<Contents>),
    /// It is not in the version that was to be replaced, or it is there already.
    Conflict,
    /// The API server did not write it.
    Refused {
        refusal: Refusal,
        /// What of its message may be shown.
        said: Option<String>,
        /// How long it asked to wait before the next request.
        wait: Option<Duration>,
    },
}

/// Writes values and record of one Secret, in the version that the write replaces only.
pub(crate) async fn write(
    client: &Client,
    fingerprints: &FingerprintKey,
    namespace: &str,
    secret: &SecretRef,
    write: SecretWrite,
    fleet: Option<&str>,
) -> Result<Written, SecretError> {
    let key = Key::new(namespace, &secret.name);
    let failed = |source| SecretError::Write { secret: key.clone(), source: Box::new(source) };
    let invalid = |error: request::Error| failed(kube::Error::BuildRequest(error));
    let requests = Request::new(format!("/api/v1/namespaces/{namespace}/secrets"));
    let replaces = write.replaces.clone();
    let outgoing = Outgoing::of(secret, write, fleet);
    let request = if replaces.is_some() {
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        requests.patch(&secret.name, &parameters, &Patch::Merge(&outgoing)).map_err(invalid)?
    } else {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let body = serde_json::to_vec(&outgoing).map_err(|error| failed(kube::Error::SerdeError(error)))?;
        requests.create(&parameters, body).map_err(invalid)?
    };
    let response = client.send(request.map(Into::into)).await.map_err(failed)?;
    let (status, wait) = (response.status(), kube_client::asked_to_wait(response.headers()));
    let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
    let body = Zeroizing::new(Vec::from(body));
    if !status.is_success() {
        let answer: Answer = serde_json::from_slice(&body).unwrap_or_default();
        let Some(refusal) = Refusal::of(status.as_u16(), &answer, replaces.is_some()) else {
            return Ok(Written::Conflict);
        };
        let message = answer.message.filter(|_| refusal.may_be_quoted()).map(Zeroizing::new);
        let said = match message {
            Some(message) => quotable(client, &key, &outgoing, &message).await,
            None => None,
        };
        return Ok(Written::Refused { refusal, said, wait });
    }
    let contents = parse(&body, &secret.key, fingerprints);
    Ok(Written::Done(Box::new(contents.ok_or(SecretError::Unreadable { secret: key })?)))
}

/// The API server's message, where it shows nothing of what was to be written, nor of what is in the Secret:
/// a policy can quote both.
async fn quotable(client: &Client, secret: &Key, outgoing: &Outgoing, message: &str) -> Option<String> {
    let body = match fetch(client, secret).await {
        Ok(Body::Found(body)) => body,
        Ok(Body::Missing) => Zeroizing::default(),
        Ok(Body::Forbidden) | Err(_) => return None,
    };
    let is_own = |name: &str| outgoing.data.contains_key(name);
    let stored = if body.is_empty() { HashMap::new() } else { data(&body)?.1 };
    let mut values = Vec::new();
    for name in stored.keys() {
        let value = value(&stored, name)??;
        // Short values of other keys, such as `true`, are in every message.
        if name.starts_with(&outgoing.key) || is_own(name) || value.len() >= MIN_SECRET_BYTES {
            values.push(value);
        }
    }
    let written = outgoing.data.values().flatten().map(|value| value.0.as_slice());
    refusal::quotable(message, values.iter().map(|value| value.as_slice()).chain(written))
}

/// So many bytes a value of another key has at least that messages must not contain.
const MIN_SECRET_BYTES: usize = 6;

/// A Secret as it is written: what is not named stays as it is.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Outgoing {
    api_version: &'static str,
    kind: &'static str,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    type_: Option<&'static str>,
    metadata: OutgoingMetadata,
    data: BTreeMap<String, Option<ByteString>>,
    /// The key of the value in effect.
    #[serde(skip)]
    key: String,
}

// No derived Debug may ever show the data; kube asks for one.
impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("metadata", &self.metadata).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutgoingMetadata {
    name: String,
    /// Both are preconditions; absent where the Secret is made.
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    labels: BTreeMap<String, String>,
}

/// Longest value of a label, in characters.
const MAX_LABEL_LENGTH: usize = 63;

impl Outgoing {
    /// `fleet`: that of the object; what is left over when both are gone is found by it.
    fn of(secret: &SecretRef, write: SecretWrite, fleet: Option<&str>) -> Self {
        let SecretWrite { replaces, current, next, previous, record } = write;
        let mut labels = BTreeMap::new();
        if replaces.is_none() {
            labels.insert("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
            if record.instance_id.len() <= MAX_LABEL_LENGTH {
                labels.insert(INSTANCE_ID.to_owned(), record.instance_id.clone());
            }
            labels.extend(
                fleet
                    .filter(|fleet| fleet.len() <= MAX_LABEL_LENGTH)
                    .map(|fleet| (FLEET.to_owned(), fleet.to_owned())),
            );
        }
        let key = &secret.key;
        let mut data = BTreeMap::new();
        let changes =
            [(key.clone(), current), (format!("{key}.next"), next), (format!("{key}.previous"), previous)];
        for (key, change) in changes {
            match change {
                Change::Keep => {}
                Change::Set(password) => {
                    data.insert(key, Some(ByteString(password.expose().as_bytes().to_vec())));
                }
                Change::Remove => {
                    data.insert(key, None);
                }
            }
        }
        // A record is plain data: it can always be written.
        let record = serde_json::to_vec(&record).unwrap_or_default();
        data.insert(format!("{key}.rotation"), Some(ByteString(record)));
        let (uid, resource_version) =
            replaces.map(|version| (version.uid.to_string(), version.resource_version.to_string())).unzip();
        let metadata = OutgoingMetadata { name: secret.name.clone(), uid, resource_version, labels };
        let type_ = metadata.uid.is_none().then_some("Opaque");
        Self { api_version: "v1", kind: "Secret", type_, metadata, data, key: key.clone() }
    }
}

fn request_params() -> kube::api::GetParams {
    kube::api::GetParams::default()
}

/// A reply of the API server without its message.
fn unexpected<B>(reply: &http::Response<B>) -> kube::Error {
    let code = reply.status();
    let mut status =
        kube::core::Status::failure(code.canonical_reason().unwrap_or("no reason"), "Unexpected")
            .with_code(code.as_u16());
    kube_client::set_retry_after(&mut status, reply.headers());
    kube::Error::Api(status.boxed())
}

/// The values of a Secret, not decoded yet.
type Data<'a> = HashMap<String, &'a RawValue>;

#[derive(Deserialize)]
struct Wire<'a> {
    metadata: Metadata,
    #[serde(rename = "type", default)]
    type_: Option<Box<str>>,
    #[serde(default)]
    immutable: Option<bool>,
    #[serde(borrow, default)]
    data: Option<Data<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: Box<str>,
    resource_version: Box<str>,
    #[serde(default)]
    labels: Option<HashMap<String, String>>,
}

/// The version of a Secret, and its values. `None`: this is no Secret.
pub(crate) fn data(body: &[u8]) -> Option<(SecretVersion, Data<'_>)> {
    let Wire { metadata, data, .. } = serde_json::from_slice(body).ok()?;
    Some((metadata.version(), data.unwrap_or_default()))
}

/// The value of a key, where the Secret has it. `None`: it is none that a Secret can have.
#[allow(clippy::option_option, reason = "not there, and not to be read")]
pub(crate) fn value(data: &Data<'_>, name: &str) -> Option<Option<Zeroizing<Vec<u8>>>> {
    let Some(value) = data.get(name) else { return Some(None) };
    let value: ByteString = serde_json::from_str(value.get()).ok()?;
    Some(Some(Zeroizing::new(value.0)))
}

impl Metadata {
    fn version(&self) -> SecretVersion {
        let Self { uid, resource_version, .. } = self;
        SecretVersion { uid: (**uid).into(), resource_version: (**resource_version).into() }
    }
}

/// Only the wanted keys are decoded. `None`: this is no Secret.
fn parse(body: &[u8], key: &str, fingerprints: &FingerprintKey) -> Option<Contents> {
    let Wire { metadata, type_, immutable, data } = serde_json::from_slice(body).ok()?;
    let data = data.unwrap_or_default();
    let value = |name: &str| value(&data, name);
    let slot = |name: &str| {
        Some(match value(name)?.map(|value| Password::parse(&value)) {
            None => Slot::Absent,
            Some(Err(_)) => Slot::Invalid,
            Some(Ok(password)) => {
                let fingerprint = fingerprints.fingerprint(&password);
                Slot::Valid(password, fingerprint)
            }
        })
    };
    let record = value(&format!("{key}.rotation"))?;
    Some(Contents {
        version: metadata.version(),
        current: slot(key)?,
        next: slot(&format!("{key}.next"))?,
        record: record.and_then(|record| serde_json::from_slice::<Record>(&record).ok()),
        closed: immutable == Some(true) || type_.is_some_and(|type_| &*type_ != "Opaque"),
        opened: metadata
            .labels
            .is_some_and(|labels| labels.get(WRITABLE).is_some_and(|value| value == "true")),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Option<Contents> {
        parse(body.as_bytes(), "password", &FingerprintKey::new(&[7; 64]))
    }

    #[test]
    fn a_secret_is_read_as_it_stands() {
        let metadata = r#""metadata":{"uid":"u","resourceVersion":"7"}"#;
        let current = |body: String| parsed(&body).map(|contents| contents.current);
        let valid = current(format!(r#"{{{metadata},"data":{{"password":"QWJjMTIz"}}}}"#));
        assert!(matches!(valid, Some(Slot::Valid(password, _)) if password.expose() == "Abc123"));
        let table = [
            (format!(r#"{{{metadata},"data":{{"password":"QWJjMTIzCg=="}}}}"#), Some(Slot::Invalid)),
            (format!(r#"{{{metadata},"data":{{"password":""}}}}"#), Some(Slot::Invalid)),
            (format!(r#"{{{metadata},"data":{{"other":"QWJjMTIz"}}}}"#), Some(Slot::Absent)),
            (format!(r#"{{{metadata},"data":null}}"#), Some(Slot::Absent)),
            (format!("{{{metadata}}}"), Some(Slot::Absent)),
            (r#"{"data":{"password":"QWJjMTIz"}}"#.to_owned(), None),
            ("<html>".to_owned(), None),
        ];
        for (body, expected) in table {
            assert_eq!(current(body.clone()), expected, "{body}");
        }
        let version = parsed(&format!("{{{metadata}}}")).unwrap().version;
        assert_eq!((&*version.uid, &*version.resource_version), ("u", "7"));
    }

    #[test]
    fn who_may_write_is_read_from_type_and_label() {
        let table = [
            (r#""type":"Opaque","metadata":{"uid":"u","resourceVersion":"7"}"#, false, false),
            (r#""type":"kubernetes.io/tls","metadata":{"uid":"u","resourceVersion":"7"}"#, true, false),
            (r#""type":"Opaque","immutable":true,"metadata":{"uid":"u","resourceVersion":"7"}"#, true, false),
            (
                r#""type":"Opaque","metadata":{"uid":"u","resourceVersion":"7","labels":{"vncpassword.dev/writable":"true"}}"#,
                false,
                true,
            ),
            (
                r#""type":"Opaque","metadata":{"uid":"u","resourceVersion":"7","labels":{"vncpassword.dev/writable":"yes"}}"#,
                false,
                false,
            ),
        ];
        for (body, closed, opened) in table {
            let contents = parsed(&format!("{{{body}}}")).unwrap();
            assert_eq!((contents.closed, contents.opened), (closed, opened), "{body}");
        }
    }

    #[test]
    fn a_record_that_cannot_be_read_counts_as_none() {
        let record = |json: &str| {
            let value = serde_json::to_string(&ByteString(json.as_bytes().to_vec())).unwrap();
            let body = format!(
                r#"{{"metadata":{{"uid":"u","resourceVersion":"7"}},"data":{{"password.rotation":{value}}}}}"#
            );
            parsed(&body).unwrap().record
        };
        let good = r#"{"instanceId":"i-1","id":"x","drawnAt":"2026-01-02T03:04:05Z","state":"done"}"#;
        assert_eq!(record(good).unwrap().instance_id, "i-1");
        for bad in ["", "{", "null", r#"{"instanceId":"i-1"}"#, r#"{"state":"lost"}"#] {
            assert_eq!(record(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_deletion_beats_the_reply_of_an_earlier_write() {
        type Meanwhile = fn(&Secrets, &Key);
        let version = |uid: &str| SecretVersion { uid: uid.into(), resource_version: "5".into() };
        let key = Key::new("n", "s");
        let table: [(&str, Meanwhile, bool); 5] = [
            ("nothing happens meanwhile", |_, _| {}, true),
            (
                "made, seen and deleted",
                |secrets, key| {
                    secrets
                        .apply(key.clone(), SecretVersion { uid: "u".into(), resource_version: "5".into() });
                    assert!(secrets.delete(key, "u"));
                },
                false,
            ),
            ("another of that name is deleted", |secrets, key| assert!(!secrets.delete(key, "former")), true),
            ("a list does not show it", |secrets, _| secrets.listed(), false),
            (
                "a list shows it",
                |secrets, key| {
                    secrets
                        .list(key.clone(), SecretVersion { uid: "u".into(), resource_version: "5".into() });
                    secrets.listed();
                },
                true,
            ),
        ];
        for (name, meanwhile, stands) in table {
            let secrets = Secrets::default();
            let writing = secrets.write(key.clone());
            meanwhile(&secrets, &key);
            assert_eq!(writing.wrote(version("u")), stands, "{name}");
            assert_eq!(secrets.version(&key).is_some(), stands, "{name}");
            drop(writing);
            assert!(secrets.known().writing.is_empty(), "{name}");
        }
    }

    #[test]
    fn the_echo_of_an_older_write_is_not_taken_in() {
        let secrets = Secrets::default();
        let key = Key::new("n", "s");
        let version =
            |number: u32| SecretVersion { uid: "u".into(), resource_version: number.to_string().into() };
        assert!(secrets.apply(key.clone(), version(5)));
        assert!(!secrets.apply(key.clone(), version(4)));
        assert_eq!(secrets.version(&key), Some(version(5)));
        // After a restore of etcd versions start again from lower numbers: the list tells.
        assert!(secrets.list(key.clone(), version(2)));
        assert_eq!(secrets.version(&key), Some(version(2)));
    }
}
