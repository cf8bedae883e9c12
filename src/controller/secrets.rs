//! Secrets: the version of every one, from a metadata watch; the contents of one, read when needed and not kept.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Mutex, PoisonError},
};

use http_body_util::BodyExt;
use k8s_openapi::ByteString;
use kube::{
    Client,
    core::{Request, request},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::{error::Error, object::Key};
use crate::{
    api::SecretRef,
    rotation::{
        Password,
        facts::{FingerprintKey, SecretRead, SecretVersion},
    },
};

/// The versions of all Secrets that are watched.
#[derive(Default)]
pub(super) struct Secrets(Mutex<HashMap<Key, SecretVersion>>);

impl Secrets {
    /// The version that the watch knows.
    pub fn version(&self, key: &Key) -> Option<SecretVersion> {
        self.versions().get(key).cloned()
    }

    /// Takes in a version; whether it is new.
    pub fn apply(&self, key: Key, version: SecretVersion) -> bool {
        match self.versions().entry(key) {
            Entry::Occupied(mut entry) => entry.insert(version.clone()) != version,
            Entry::Vacant(entry) => {
                entry.insert(version);
                true
            }
        }
    }

    /// A Secret was deleted; whether it was known in that incarnation.
    pub fn delete(&self, key: &Key, uid: &str) -> bool {
        let mut versions = self.versions();
        let known = versions.get(key).is_some_and(|version| *version.uid == *uid);
        if known {
            versions.remove(key);
        }
        known
    }

    /// Keys and uids in that namespace (all for `None`): what a relist must find again or delete.
    pub fn keys(&self, namespace: Option<&str>) -> Vec<(Key, std::sync::Arc<str>)> {
        let versions = self.versions();
        let all = versions.iter();
        all.filter(|(key, _)| namespace.is_none_or(|namespace| *key.namespace == *namespace))
            .map(|(key, version)| (key.clone(), version.uid.clone()))
            .collect()
    }

    fn versions(&self) -> std::sync::MutexGuard<'_, HashMap<Key, SecretVersion>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads one key of one Secret.
///
/// It does not go through `kube::Api`: that keeps the whole Secret in plain memory, and on an answer that is no
/// Secret writes all of it to the log.
pub(super) async fn read(
    client: &Client,
    fingerprints: &FingerprintKey,
    namespace: &str,
    secret: &SecretRef,
) -> Result<SecretRead, Error> {
    let key = Key::new(namespace, &secret.name);
    let failed = |source| Error::ReadSecret { secret: key.clone(), source: Box::new(source) };
    let path = format!("/api/v1/namespaces/{namespace}/secrets");
    let request = Request::new(path).get(&secret.name, &request_params());
    let request = request.map_err(|error: request::Error| failed(kube::Error::BuildRequest(error)))?;
    let response = client.send(request.map(Into::into)).await.map_err(failed)?;
    match response.status() {
        http::StatusCode::OK => {}
        http::StatusCode::NOT_FOUND => return Ok(SecretRead::Missing),
        http::StatusCode::FORBIDDEN => return Ok(SecretRead::Forbidden),
        status => return Err(failed(unexpected(status))),
    }
    let body = response.into_body().collect().await.map_err(failed)?.to_bytes();
    let body = Zeroizing::new(Vec::from(body));
    parse(&body, &secret.key, fingerprints).ok_or(Error::UnreadableSecret { secret: key })
}

fn request_params() -> kube::api::GetParams {
    kube::api::GetParams::default()
}

/// A status of the API server without its message.
fn unexpected(status: http::StatusCode) -> kube::Error {
    let status = kube::core::Status::failure(status.canonical_reason().unwrap_or("no reason"), "Unexpected")
        .with_code(status.as_u16());
    kube::Error::Api(status.boxed())
}

#[derive(Deserialize)]
struct Wire<'a> {
    metadata: Metadata,
    #[serde(borrow, default)]
    data: Option<HashMap<String, &'a RawValue>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: Box<str>,
    resource_version: Box<str>,
}

/// Only the wanted key is decoded. `None`: this is no Secret.
fn parse(body: &[u8], key: &str, fingerprints: &FingerprintKey) -> Option<SecretRead> {
    let Wire { metadata, data } = serde_json::from_slice(body).ok()?;
    let version =
        SecretVersion { uid: metadata.uid.into(), resource_version: metadata.resource_version.into() };
    let data = data.unwrap_or_default();
    let Some(value) = data.get(key) else { return Some(SecretRead::NoKey(version)) };
    let value: ByteString = serde_json::from_str(value.get()).ok()?;
    let value = Zeroizing::new(value.0);
    Some(match Password::parse(&value) {
        Ok(password) => {
            let fingerprint = fingerprints.fingerprint(&password);
            SecretRead::Valid(version, password, fingerprint)
        }
        Err(_) => SecretRead::Invalid(version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(body: &str) -> Option<SecretRead> {
        parse(body.as_bytes(), "password", &FingerprintKey::new(&[7; 64]))
    }

    #[test]
    fn a_secret_is_read_as_it_stands() {
        let metadata = r#""metadata":{"uid":"u","resourceVersion":"7"}"#;
        let version = SecretVersion { uid: "u".into(), resource_version: "7".into() };
        let valid = |read: Option<SecretRead>| matches!(read, Some(SecretRead::Valid(_, password, _)) if password.expose() == "Abc123");
        assert!(valid(parsed(&format!(r#"{{{metadata},"data":{{"password":"QWJjMTIz"}}}}"#))));
        let invalid = Some(SecretRead::Invalid(version.clone()));
        assert_eq!(parsed(&format!(r#"{{{metadata},"data":{{"password":"QWJjMTIzCg=="}}}}"#)), invalid);
        assert_eq!(parsed(&format!(r#"{{{metadata},"data":{{"password":""}}}}"#)), invalid);
        let no_key = Some(SecretRead::NoKey(version));
        assert_eq!(parsed(&format!(r#"{{{metadata},"data":{{"other":"QWJjMTIz"}}}}"#)), no_key);
        assert_eq!(parsed(&format!(r#"{{{metadata},"data":null}}"#)), no_key);
        assert_eq!(parsed(&format!("{{{metadata}}}")), no_key);
        assert_eq!(parsed(r#"{"data":{"password":"QWJjMTIz"}}"#), None);
        assert_eq!(parsed("<html>"), None);
    }
}
