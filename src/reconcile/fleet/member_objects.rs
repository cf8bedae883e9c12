//! The VncPasswords of a fleet as they should be, and how they are written.

use std::{collections::BTreeMap, sync::Arc};

use jiff::Timestamp;
use kube::{
    Client,
    api::{DeleteParams, GetParams, Patch, PatchParams, PostParams},
    core::Request,
};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use crate::{
    reconcile::Error,
    store::object::{FleetObject, Key, MarkOf, Object, mark},
};
use vncpassword_core::{
    api::{
        ClusterVncPassword, ClusterVncPasswordSpec, FIELD_MANAGER, FLEET, GROUP, INSTANCE_ID, ROTATE_AT,
        Reason, Rotation, SecretRef, VERSION, VncPasswordSpec,
    },
    fleet::{MemberError, Membership, member_object_name, secret_name},
    rotation::rotate_at::RotateAt,
};

/// Annotation with a hash of the other annotations and the labels: it shows what the template no longer
/// contains.
const TEMPLATE: &str = "vncpassword.dev/template";
const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
/// Default key in the Secrets.
const KEY: &str = "password";
/// Longest value of a label, in characters.
const MAX_LABEL_LENGTH: usize = 63;

/// The desired member objects of a fleet.
pub(super) struct MemberObjects<'a> {
    fleet: &'a FleetObject,
    spec: &'a ClusterVncPasswordSpec,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    marks: Vec<u64>,
}

/// The result of a write.
pub(super) enum Written {
    /// It was written, or another write was faster: the watch reports it.
    Done,
    /// The API server refuses it.
    Refused(MemberError),
}

impl<'a> MemberObjects<'a> {
    pub fn new(fleet: &'a FleetObject, spec: &'a ClusterVncPasswordSpec) -> Self {
        let metadata = spec.template.as_ref().and_then(|template| template.metadata.as_ref());
        let mut labels: BTreeMap<String, String> = [(MANAGED_BY, FIELD_MANAGER), (FLEET, &*fleet.name)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into();
        let mut annotations = BTreeMap::new();
        if let Some(metadata) = metadata {
            // The API server lets neither name a key of ours.
            labels.extend(metadata.labels.iter().map(|(key, value)| (key.clone(), value.0.clone())));
            annotations
                .extend(metadata.annotations.iter().map(|(key, value)| (key.clone(), value.0.clone())));
        }
        let digest = Sha256::digest(json!([labels, annotations]).to_string());
        let digest = digest.iter().take(8).fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
        annotations.insert(TEMPLATE.to_owned(), format!("{digest:016x}"));
        let of_labels = labels.iter().map(|(key, value)| mark(MarkOf::Label, key, value));
        let marks =
            of_labels.chain(annotations.iter().map(|(key, value)| mark(MarkOf::Annotation, key, value)));
        let marks = marks.collect();
        Self { fleet, spec, labels, annotations, marks }
    }

    /// The key of the member object of an instance.
    pub fn key(&self, id: &str) -> Key {
        Key::new(&self.spec.target_namespace, &member_object_name(&self.fleet.name, id))
    }

    /// Whether an object is this fleet's member object of that instance.
    pub fn owns(&self, object: &Object, id: &str) -> bool {
        let member = object.membership.as_ref().is_some_and(|member| member.uid == self.fleet.uid);
        member
            && *object.key.namespace == *self.spec.target_namespace
            && *object.key.name == member_object_name(&self.fleet.name, id)
            && object
                .spec
                .as_ref()
                .is_ok_and(|spec| spec.instance_id == id && spec.secret_ref == self.secret(id))
    }

    /// Whether a member object is as desired, apart from `rotate-at` and `suspend`.
    pub fn fits(&self, object: &Object, id: &str, wanted: &Membership) -> bool {
        let (Ok(spec), Some(member)) = (&object.spec, &object.membership) else { return false };
        let template = self.spec.template.as_deref();
        let marked = |mark: &u64| member.marks.binary_search(mark).is_ok();
        let region = match wanted {
            Membership::Found(region) => region.as_deref() == spec.region_id.as_deref(),
            Membership::Retained => true,
        };
        region
            && spec.rotation.as_deref() == Some(&Rotation::default())
            && spec.window == self.spec.window
            && spec.activation == template.map(|template| template.activation).unwrap_or_default()
            && spec.credentials_ref.as_ref()
                == template.and_then(|template| template.credentials_ref.as_ref())
            && spec.enforce_interval.is_none()
            && self.marks.iter().all(marked)
            && (id.len() > MAX_LABEL_LENGTH || marked(&mark(MarkOf::Label, INSTANCE_ID, id)))
    }

    /// The Secret of a member object. It never changes.
    fn secret(&self, id: &str) -> SecretRef {
        let template = self.spec.template.as_deref();
        let pattern = template.and_then(|template| template.secret_name.as_deref());
        let key = template.and_then(|template| template.secret_key.clone());
        SecretRef {
            name: secret_name(pattern, &self.fleet.name, id),
            key: key.unwrap_or_else(|| KEY.to_owned()),
        }
    }

    /// The spec of a member object.
    pub fn spec(&self, id: &str, region: Option<&str>) -> VncPasswordSpec {
        let template = self.spec.template.as_deref();
        VncPasswordSpec {
            instance_id: id.to_owned(),
            region_id: region.map(ToOwned::to_owned),
            secret_ref: self.secret(id),
            rotation: Some(Box::default()),
            window: self.spec.window.clone(),
            activation: template.map(|template| template.activation).unwrap_or_default(),
            credentials_ref: template.and_then(|template| template.credentials_ref.clone()),
            enforce_interval: None,
            suspend: false,
        }
    }

    /// The complete member object. `uid`: of the existing one.
    fn body(&self, id: &str, region: Option<&str>, stamp: Option<Timestamp>, uid: Option<&str>) -> Value {
        let (mut labels, mut annotations) = (self.labels.clone(), self.annotations.clone());
        if id.len() <= MAX_LABEL_LENGTH {
            labels.insert(INSTANCE_ID.to_owned(), id.to_owned());
        }
        if let Some(stamp) = stamp {
            annotations.insert(ROTATE_AT.to_owned(), stamp.to_string());
        }
        let mut metadata = json!({
            "name": member_object_name(&self.fleet.name, id),
            "namespace": self.spec.target_namespace,
            "labels": labels,
            "annotations": annotations,
            "ownerReferences": [{
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": <ClusterVncPassword as kube::Resource>::kind(&()),
                "name": &*self.fleet.name,
                "uid": &*self.fleet.uid,
                "controller": true,
            }],
        });
        if let Some(uid) = uid {
            metadata["uid"] = uid.into();
        }
        json!({
            "apiVersion": format!("{GROUP}/{VERSION}"),
            "kind": "VncPassword",
            "metadata": metadata,
            "spec": self.spec(id, region),
        })
    }

    /// Creates a member object. An existing object of that name is not changed.
    pub async fn create(
        &self,
        client: &Client,
        id: &str,
        region: Option<&str>,
        stamp: Option<Timestamp>,
    ) -> Result<Written, Error> {
        let parameters = PostParams { field_manager: Some(FIELD_MANAGER.into()), ..PostParams::default() };
        let body = self.body(id, region, stamp, None).to_string().into_bytes();
        let request = self.requests().create(&parameters, body);
        self.sent(id, client.request::<Value>(built(request)?).await).map(|(written, _)| written)
    }

    /// Writes an existing member object by server-side apply. The uid keeps it from overwriting another one.
    pub async fn apply(
        &self,
        client: &Client,
        id: &str,
        region: Option<&str>,
        stamp: Option<Timestamp>,
        uid: &str,
    ) -> Result<(Written, Option<Value>), Error> {
        let key = self.key(id);
        let body = self.body(id, region, stamp, Some(uid));
        let parameters = PatchParams::apply(FIELD_MANAGER).force();
        let request = self.requests().patch(&key.name, &parameters, &Patch::Apply(body));
        self.sent(id, client.request::<Value>(built(request)?).await)
    }

    /// Repairs a member object and stamps it. Fields from its creation become ours to remove. Fields that
    /// others added to the spec are removed first, so that no rotation follows a spec that is not the
    /// fleet's. Returns the version after that.
    pub async fn repair(
        &self,
        client: &Client,
        id: &str,
        region: Option<&str>,
        stamp: Option<Timestamp>,
        uid: &str,
    ) -> Result<(Written, Option<String>), Error> {
        let key = self.key(id);
        let read =
            client.request::<Value>(built(self.requests().get(&key.name, &GetParams::default()))?).await;
        let (written, object) = self.sent(id, read)?;
        let Some(mut object) = object.filter(|object| object["metadata"]["uid"] == uid) else {
            return Ok((written, None));
        };
        if let Some(patch) = adopted(&object) {
            let patch = serde_json::from_value(patch)
                .map_err(|error| self.failed(id, kube::Error::SerdeError(error)))?;
            let patch = Patch::Json::<()>(patch);
            let request = self.requests().patch(&key.name, &PatchParams::default(), &patch);
            let (written, adopted) = self.sent(id, client.request(built(request)?).await)?;
            let Some(adopted) = adopted else { return Ok((written, None)) };
            object = adopted;
        }
        let mut wanted = serde_json::to_value(self.spec(id, region)).unwrap_or_default();
        if object["spec"]["suspend"].as_bool() == Some(true) {
            wanted["suspend"] = true.into();
        }
        if let Some(extra) = extra(&object["spec"], &wanted) {
            let version = &object["metadata"]["resourceVersion"];
            let patch =
                Patch::Merge(json!({"metadata": {"uid": uid, "resourceVersion": version}, "spec": extra}));
            let parameters =
                PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
            let request = self.requests().patch(&key.name, &parameters, &patch);
            let (written, patched) = self.sent(id, client.request::<Value>(built(request)?).await)?;
            if patched.is_none() {
                return Ok((written, None));
            }
        }
        let (written, object) = self.apply(client, id, region, stamp, uid).await?;
        let version =
            object.and_then(|object| Some(object["metadata"]["resourceVersion"].as_str()?.to_owned()));
        Ok((written, version))
    }

    /// Deletes a member object.
    pub async fn delete(&self, client: &Client, id: &str, uid: &str) -> Result<Written, Error> {
        let preconditions = kube::api::Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let parameters = DeleteParams { preconditions: Some(preconditions), ..DeleteParams::background() };
        let request = self.requests().delete(&self.key(id).name, &parameters);
        self.sent(id, client.request(built(request)?).await).map(|(written, _)| written)
    }

    /// Removes the owner reference from a member object.
    pub async fn orphan(&self, client: &Client, id: &str, uid: &str) -> Result<Written, Error> {
        let patch = json!({"metadata": {
            "uid": uid,
            "ownerReferences": null,
            "labels": {FLEET: null},
            "annotations": {TEMPLATE: null},
        }});
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let request = self.requests().patch(&self.key(id).name, &parameters, &Patch::Merge(patch));
        self.sent(id, client.request(built(request)?).await).map(|(written, _)| written)
    }

    fn requests(&self) -> Request {
        Request::new(format!(
            "/apis/{GROUP}/{VERSION}/namespaces/{}/vncpasswords",
            self.spec.target_namespace
        ))
    }

    /// Interprets the reply to a write.
    fn sent(&self, id: &str, reply: Result<Value, kube::Error>) -> Result<(Written, Option<Value>), Error> {
        let namespace = &self.spec.target_namespace;
        let status = match reply {
            Ok(object) => return Ok((Written::Done, Some(object))),
            Err(kube::Error::Api(status)) => status,
            Err(error) => return Err(self.failed(id, error)),
        };
        let missing =
            status.code == 404 && status.details.as_ref().is_some_and(|details| details.kind == "namespaces");
        let trouble = match status.code {
            404 if missing => MemberError {
                reason: Reason::NamespaceNotFound,
                message: format!(
                    "namespace {namespace} of spec.targetNamespace does not exist: create it, and the VncPasswords follow"
                ),
            },
            // Gone, or another by now: the watch tells.
            404 | 409 => return Ok((Written::Done, None)),
            // It may have been written.
            504 => return Err(self.failed(id, kube::Error::Api(status))),
            _ => MemberError {
                reason: Reason::MemberRefused,
                message: format!(
                    "the API server refuses the VncPasswords of this fleet in namespace {namespace} ({}): check quota, admission \
                     policies, the operator's rights and the version of its CRDs; its log has the message",
                    if status.reason.is_empty() { "no reason given" } else { &status.reason }
                ),
            },
        };
        tracing::warn!(fleet = %self.fleet.name, object = %self.key(id), code = status.code, message = status.message,
            "the API server refuses a VncPassword");
        Ok((Written::Refused(trouble), None))
    }

    fn failed(&self, id: &str, source: kube::Error) -> Error {
        Error::WriteMemberObject { object: self.key(id), source: Box::new(source) }
    }
}

fn built<T>(request: Result<T, kube::core::request::Error>) -> Result<T, Error> {
    request.map_err(|error| Error::Request { source: Box::new(kube::Error::BuildRequest(error)) })
}

/// The JSON patch that turns the fields of the creation into fields of our server-side apply, so that fields
/// which are not applied any more are removed. `None`: not needed.
fn adopted(object: &Value) -> Option<Value> {
    let fields = object["metadata"]["managedFields"].as_array()?;
    let ours = |entry: &Value, operation: &str| {
        entry["manager"] == FIELD_MANAGER
            && entry["operation"] == operation
            && entry.get("subresource").is_none()
    };
    let created = fields.iter().position(|entry| ours(entry, "Update"))?;
    let mut fields = fields.clone();
    // Where both stand, the union of what they name is ours; what is applied next tells what stays.
    if let Some(applied) = fields.iter().position(|entry| ours(entry, "Apply")) {
        let other = fields[created]["fieldsV1"].clone();
        merge(&mut fields[applied]["fieldsV1"], other);
        fields.remove(created);
    } else {
        fields[created]["operation"] = "Apply".into();
    }
    Some(json!([
        {"op": "replace", "path": "/metadata/managedFields", "value": fields},
        {"op": "replace", "path": "/metadata/resourceVersion", "value": object["metadata"]["resourceVersion"]},
    ]))
}

fn merge(into: &mut Value, other: Value) {
    match (into, other) {
        (Value::Object(into), Value::Object(other)) => {
            for (key, value) in other {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, other) => *into = other,
    }
}

/// A merge patch that removes what is there and not wanted.
fn extra(there: &Value, wanted: &Value) -> Option<Value> {
    let (there, wanted) = (there.as_object()?, wanted.as_object()?);
    let mut patch = Map::new();
    for (key, value) in there {
        match wanted.get(key) {
            None => {
                patch.insert(key.clone(), Value::Null);
            }
            Some(wanted) => patch.extend(extra(value, wanted).map(|extra| (key.clone(), extra))),
        }
    }
    (!patch.is_empty()).then_some(Value::Object(patch))
}

/// A member object that does not exist, to check what one would be allowed.
pub(super) fn stand_in(fleet: &FleetObject, spec: &ClusterVncPasswordSpec) -> Object {
    let member_objects = MemberObjects::new(fleet, spec);
    Object {
        key: member_objects.key("i-"),
        uid: "".into(),
        resource_version: "".into(),
        generation: 0,
        // Younger than all there are, whatever the clocks say.
        created: Timestamp::MAX,
        deleting: false,
        rotate_at: RotateAt::Never,
        spec: Ok(Arc::new(member_objects.spec("i-", None))),
        status: Arc::default(),
        status_is_malformed: false,
        membership: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_and_not_wanted_is_removed() {
        let table = [
            (json!({"a": 1}), json!({"a": 1}), None),
            (json!({"a": 1, "b": 2}), json!({"a": 2}), Some(json!({"b": null}))),
            (json!({"a": {"b": 1, "c": 2}}), json!({"a": {"b": 1}}), Some(json!({"a": {"c": null}}))),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), None),
        ];
        for (there, wanted, expected) in table {
            assert_eq!(extra(&there, &wanted), expected, "{there} {wanted}");
        }
    }

    #[test]
    fn fields_that_a_child_was_created_with_become_those_of_the_apply() {
        let entry = |manager: &str, operation: &str, field: &str| json!({"manager": manager, "operation": operation, "fieldsV1": {"f:metadata": {field: {}}}});
        let object = |fields: Value| json!({"metadata": {"resourceVersion": "7", "managedFields": fields}});
        let (created, applied) =
            (entry(FIELD_MANAGER, "Update", "f:a"), entry(FIELD_MANAGER, "Apply", "f:b"));
        let other = entry("kubectl", "Update", "f:c");
        assert_eq!(adopted(&object(json!([applied, other]))), None);
        let patch = adopted(&object(json!([created, other]))).unwrap();
        assert_eq!(patch[0]["value"], json!([entry(FIELD_MANAGER, "Apply", "f:a"), other]));
        assert_eq!(patch[1]["value"], "7");
        let patch = adopted(&object(json!([created, applied, other]))).unwrap();
        let both = json!({"manager": FIELD_MANAGER, "operation": "Apply",
            "fieldsV1": {"f:metadata": {"f:a": {}, "f:b": {}}}});
        assert_eq!(patch[0]["value"], json!([both, other]));
    }
}
