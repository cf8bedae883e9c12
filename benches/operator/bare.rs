//! A client that makes an operator's requests and does nothing else: GET Secret, the call, PATCH status, POST Event, 32
//! objects at a time. What it manages is what API server and machine allow.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use jiff::{Timestamp, fmt::temporal::DateTimePrinter};
use serde::Deserialize;
use serde_json::{Value, json};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{
    Endpoint, Region,
    credentials::{Cache, Environment},
};
use vncpassword_core::rotation::Password;

use super::{
    Progress, Result,
    cloud::Cloud,
    cluster::{self, Cluster, NAMESPACE, OBJECTS, SECRETS, WORKERS},
    run::Stage,
};

/// Objects per second.
pub async fn run(objects: usize) -> Result<f64> {
    let stage = Stage::set(objects, 0).await?;
    let credentials = Environment::read(|name| {
        Cloud::credentials().iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
    });
    let config = ecs::Config { endpoint: Some(Endpoint::parse(&stage.cloud.url)?), ..ecs::Config::default() };
    let ecs = ecs::Client::new(config, ecs::Clock::default())?;
    let cache = Cache::new(Arc::new(credentials), ecs.clock().clone());
    let client = Bare {
        cluster: stage.cluster.clone(),
        ecs,
        identity: ecs::Identity::new("operator", Arc::new(cache)),
        region: Region::parse("cn-hangzhou")?,
    };
    let (mut progress, mut done) = (Progress::new("done"), 0);
    let (began, used) = (Instant::now(), stage.used()?);
    let mut work = stream::iter(0..objects).map(|index| client.one(index)).buffer_unordered(WORKERS);
    while work.try_next().await?.is_some() {
        done += 1;
        progress.tell(done, objects);
    }
    let took = began.elapsed();
    drop(work);
    let rate = objects as f64 / took.as_secs_f64();
    println!("   bare client: {:.2} s, {rate:.0} objects/s", took.as_secs_f64());
    stage.others(&used, Duration::ZERO, took)?;
    stage.strike().await?;
    Ok(rate)
}

struct Bare {
    cluster: Cluster,
    ecs: ecs::Client,
    identity: ecs::Identity,
    region: Region,
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    data: Data,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    uid: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct Data {
    password: k8s_openapi::ByteString,
}

#[derive(Deserialize)]
struct Nothing {}

impl Bare {
    async fn one(&self, index: usize) -> Result<()> {
        let name = cluster::name(index);
        let json = "application/json";
        let secret: Secret =
            self.cluster.send(Method::GET, &format!("{SECRETS}/{name}"), json, &Value::Null).await?;
        let password = Password::parse(&secret.data.password.0)?;
        let now = Timestamp::now();
        let instance = cluster::instance(index);
        let request_id = self
            .ecs
            .modify_instance_vnc_passwd(&self.identity, &self.region, &instance, password.expose(), now)
            .await?
            .to_string();
        let time = DateTimePrinter::new().precision(Some(0)).timestamp_to_string(&now);
        let status = json!({
            "apiVersion": "vncpassword.dev/v1alpha1",
            "kind": "VncPassword",
            "metadata": {"name": name},
            "status": {
                "observedGeneration": 1,
                "conditions": [{
                    "type": "Ready", "status": "True", "reason": "Applied", "observedGeneration": 1,
                    "lastTransitionTime": time, "message": "The Secret's value is the VNC password of the instance.",
                }],
                "requestId": request_id,
                "lastRotationTime": time,
                "rotations": 1,
                "applied": {
                    "secretUid": secret.metadata.uid, "secretResourceVersion": secret.metadata.resource_version, "time": time,
                },
                "instance": {"regionId": self.region.as_str()},
            },
        });
        let path = format!("{OBJECTS}/{name}/status?fieldManager=bench&force=true");
        self.cluster.send::<Nothing>(Method::PATCH, &path, "application/apply-patch+yaml", &status).await?;
        let event = json!({
            "metadata": {"name": format!("{name}.{index:x}"), "namespace": NAMESPACE},
            "eventTime": DateTimePrinter::new().precision(Some(6)).timestamp_to_string(&now),
            "action": "Apply", "reason": "Applied", "type": "Normal",
            "note": "The instance has taken the password of the Secret.",
            "reportingController": "vncpassword.dev/bench", "reportingInstance": "bench",
            "regarding": {
                "apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword", "namespace": NAMESPACE, "name": name,
            },
        });
        self.cluster.create(&format!("/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events"), &event).await
    }
}
