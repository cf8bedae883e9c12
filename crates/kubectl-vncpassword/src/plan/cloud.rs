//! Asks the cloud, with the caller's own credentials, which instances a fleet would have.

use std::{collections::BTreeMap, ffi::OsString};

use super::forecast::{CloudSeen, Snapshot, to_describe};
use crate::{Error, fetched::Fetched, text::printable};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{
    Clock, Instance, Region,
    client::MAX_DESCRIBED,
    connect::{Cloud, CloudArgs, CloudSettings, connect},
    credentials::SessionName,
};
use vncpassword_core::{api::Tag, fleet::has_tags};

/// Names the plugin to the servers of the cloud.
const USER_AGENT: &str = concat!("kubectl-vncpassword/", env!("CARGO_PKG_VERSION"));

/// Pages of an answer: a hundred thousand instances.
const MOST_PAGES: usize = 1000;

/// Asks, where the fleet has tags at all. Nothing is written there: `DescribeInstances` is the only call.
///
/// # Errors
/// [`Error::Usage`]: a flag that says how the cloud is reached cannot be used.
pub async fn ask(
    snapshot: &Snapshot,
    arguments: CloudArgs,
    lookup: &(dyn Fn(&str) -> Option<OsString> + Send + Sync),
) -> Result<Option<Fetched<CloudSeen>>, Error> {
    if snapshot.spec.tags.is_none() && snapshot.spec.require_tags.is_empty() {
        return Ok(None);
    }
    let mut settings = CloudSettings::try_from(arguments).map_err(|error| Error::Usage(error.to_string()))?;
    settings.ecs.user_agent = USER_AGENT;
    let own = settings.region.clone();
    let session = SessionName::of(None, "kubectl-vncpassword");
    let cloud = match connect(settings, Clock::default(), lookup, session, "caller") {
        Ok(cloud) => cloud,
        Err(error) => return Ok(Some(Fetched::Failed(error.to_string()))),
    };
    let discovered = match &snapshot.spec.tags {
        Some(tags) => tagged(&cloud, snapshot, tags).await,
        None => described(&cloud, snapshot, own.as_ref()).await,
    };
    Ok(Some(discovered.map_or_else(Fetched::Failed, Fetched::Yes)))
}

/// Those with the tags, in all regions that are named.
async fn tagged(cloud: &Cloud, snapshot: &Snapshot, tags: &[Tag]) -> Result<CloudSeen, String> {
    let (mut found, mut carrying) = (Vec::new(), BTreeMap::new());
    let tags: Vec<_> = tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_deref())).collect();
    for name in snapshot.spec.region_ids.iter().flatten() {
        let region = region(name)?;
        let mut token = None::<String>;
        for page in 0.. {
            if page == MOST_PAGES {
                return Err(format!("DescribeInstances in region {name} comes to no end; narrow the tags"));
            }
            let (instances, next) = cloud
                .ecs
                .find_instances(&cloud.operator, &region, &tags, token.as_deref())
                .await
                .map_err(|error| failed(name, &error))?;
            for instance in instances {
                carrying.insert(instance.instance_id.clone(), fits(snapshot, &instance));
                found.push((name.clone(), instance.instance_id));
            }
            token = next;
            if token.is_none() {
                break;
            }
        }
    }
    Ok(CloudSeen { tagged: Some(found), carries: carrying })
}

/// Whether those that the cluster or a list names carry the tags that are required.
async fn described(cloud: &Cloud, snapshot: &Snapshot, own: Option<&Region>) -> Result<CloudSeen, String> {
    let mut carrying = BTreeMap::new();
    for (name, ids) in to_describe(snapshot, own.map(Region::as_str)) {
        if name.is_empty() {
            let id = ids.first().map(String::as_str).unwrap_or_default();
            return Err(format!(
                "the region of instance {id} is not known: give --region, or write it as in cn-hangzhou.{id}"
            ));
        }
        let region = region(&name)?;
        let ids: Vec<String> = ids.into_iter().collect();
        for ids in ids.chunks(MAX_DESCRIBED) {
            let instances = cloud.ecs.describe_instances(&cloud.operator, &region, ids).await;
            for instance in instances.map_err(|error| failed(&name, &error))? {
                let fits = fits(snapshot, &instance);
                carrying.insert(instance.instance_id, fits);
            }
        }
    }
    Ok(CloudSeen { tagged: None, carries: carrying })
}

fn fits(snapshot: &Snapshot, instance: &Instance) -> bool {
    has_tags(&snapshot.spec.require_tags, |key| instance.tags.get(key).map(String::as_str))
}

fn region(name: &str) -> Result<Region, String> {
    Region::parse(name).map_err(|_| format!("{name} is no region ID such as cn-hangzhou"))
}

fn failed(region: &str, error: &ecs::Error) -> String {
    let why = match error {
        ecs::Error::Api { code, .. } => format!("code {code}"),
        other => other.to_string(),
    };
    printable(&format!("the cloud does not tell you which instances there are in {region} ({why})"))
}
