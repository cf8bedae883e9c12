//! Discovers the instances of a fleet in the cloud: those with its tags, or which of its instances carry the
//! required tags.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    cloud,
    context::Context,
    runtime::Shutdown,
    store::{
        discovered::{DiscoveredInstances, DiscoveryQuery, SOON, interval, needed},
        object::FleetObject,
    },
};
use vncpassword_alicloud as ecs;
use vncpassword_alicloud::{Action, Identity, Instance, RateLimitKey, Region, Requester};
use vncpassword_core::{
    api::{ClusterVncPasswordSpec, Tag},
    fleet::{self, DiscoveryResult},
    rotation::{facts::Access, outcome::Class},
};

/// Maximum wait after a failure.
const RETRY: Duration = Duration::from_mins(1);
/// Maximum number of pages: a hundred thousand instances.
const MAX_PAGES: usize = 1000;
/// How often the time of a rate-limit slot is compared with the wall clock, which may be stepped.
const CLOCK_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// IDs per call.
const BATCH: usize = 100;

/// Discovers the instances of one fleet. Returns when to repeat it.
pub(crate) async fn discover(context: Arc<Context>, name: Arc<str>, mut stop: Shutdown) -> Option<Duration> {
    let fleet = context.fleets.newest(&name)?;
    let spec = fleet.spec.as_ref().ok()?;
    if !needed(spec) || fleet.deleting || !context.watches(&spec.target_namespace) {
        return None;
    }
    // Instances to query, if the cloud does not name them.
    let listed = match super::answer_without_tags(&context, spec) {
        Some(answer) => answer,
        None if spec.tags.is_some() => DiscoveryResult::default(),
        None => return Some(SOON),
    };
    let now = context.now();
    if let Err(opens) = context.fleets.spend_query(&name, now) {
        return Some(crate::reconcile::vnc_password::until(opens, now));
    }
    let interval = interval(spec);
    let asked = DiscoveryQuery::of(spec);
    let asking = Asking { context: &context, fleet: &fleet };
    let began = Instant::now();
    context.fleets.remember(&fleet, |memory| memory.discovery_started = Some(began));
    let reply = tokio::select! {
        reply = asking.ask(spec, &asked, &listed) => reply,
        // The call may wait for the rate limiter for a long time.
        () = stop.requested() => return None,
    };
    let (found, wait) = match reply {
        Ok(found) => (Some(found), interval),
        Err(Failure::Cloud(failed)) => {
            tracing::warn!(fleet = %name, failed, "cannot find out which instances a fleet has");
            let (at, carries) = (context.now(), HashMap::new());
            let found =
                DiscoveredInstances { asked, at, empty: true, tagged: None, carries, failed: Some(failed) };
            (Some(found), interval.min(RETRY))
        }
        // The fleet has changed.
        Err(Failure::Outdated) => (None, SOON),
    };
    context.fleets.remember(&fleet, |memory| {
        memory.discovery_started = None;
        if let Some(found) = found {
            memory.discovered = Some(Arc::new(found));
        }
    });
    context.enqueue_fleet(&name);
    Some(wait)
}

enum Failure {
    /// A sentence for the status.
    Cloud(String),
    /// The fleet has changed meanwhile.
    Outdated,
}

struct Asking<'a> {
    context: &'a Context,
    fleet: &'a FleetObject,
}

impl Asking<'_> {
    async fn ask(
        &self,
        spec: &ClusterVncPasswordSpec,
        asked: &DiscoveryQuery,
        listed: &DiscoveryResult,
    ) -> Result<DiscoveredInstances, Failure> {
        let identity = self.identity(spec).await?;
        let carries = listed.found.keys().map(|id| (id.clone(), None)).collect();
        let (asked, at) = (asked.clone(), self.context.now());
        let mut found = DiscoveredInstances { asked, at, empty: false, tagged: None, carries, failed: None };
        let mut carries = std::mem::take(&mut found.carries);
        let mut note = |instance: &Instance| {
            let fits = fleet::has_tags(&spec.require_tags, |key| instance.tags.get(key).map(String::as_str));
            carries.insert(instance.instance_id.as_str().into(), Some(fits));
        };
        if let (Some(tags), Some(regions)) = (&spec.tags, &spec.region_ids) {
            let mut tagged: Vec<(String, String)> = Vec::new();
            for region in regions {
                let region = Region::parse(region).map_err(|_| invalid_region(region))?;
                for instance in self.tagged(&identity, &region, tags).await? {
                    note(&instance);
                    tagged.push((region.as_str().to_owned(), instance.instance_id));
                }
            }
            let tagged =
                DiscoveryResult::from_tags(tagged.iter().map(|(region, id)| (region.as_str(), id.as_str())));
            found.tagged = Some(tagged);
        } else {
            let own = self.context.config.region.as_ref().map(Region::as_str);
            let mut regions: BTreeMap<&str, Vec<String>> = BTreeMap::new();
            for (id, region) in &listed.found {
                match region.as_deref().or(own) {
                    Some(region) => regions.entry(region).or_default().push(id.to_string()),
                    None => {
                        found.failed = Some(format!(
                            "the region of instance {id} is not known: write it as in cn-hangzhou.{id}, or start the operator \
                             with --region"
                        ));
                    }
                }
            }
            // The instances of a region without a reply are unknown. The replies of other regions still
            // count.
            let mut answered = regions.is_empty();
            for (region, ids) in regions {
                match self.described(&identity, region, &ids).await {
                    Ok(instances) => {
                        answered = true;
                        instances.iter().for_each(&mut note);
                    }
                    Err(Failure::Cloud(failed)) => found.failed = Some(failed),
                    Err(Failure::Outdated) => return Err(Failure::Outdated),
                }
            }
            if let (false, Some(failed)) = (answered, &found.failed) {
                return Err(Failure::Cloud(failed.clone()));
            }
        }
        found.carries = carries;
        Ok(found)
    }

    /// These instances, as many as the cloud shows.
    async fn described(
        &self,
        identity: &Identity,
        region: &str,
        ids: &[String],
    ) -> Result<Vec<Instance>, Failure> {
        let region = Region::parse(region).map_err(|_| invalid_region(region))?;
        let mut instances = Vec::new();
        for ids in ids.chunks(BATCH) {
            let call = || self.context.ecs.describe_instances(identity, &region, ids);
            instances.extend(self.admitted(identity, &region, call).await?);
        }
        Ok(instances)
    }

    /// The instances with these tags, page by page.
    async fn tagged(
        &self,
        identity: &Identity,
        region: &Region,
        tags: &[Tag],
    ) -> Result<Vec<Instance>, Failure> {
        let tags: Vec<_> = tags.iter().map(|tag| (tag.key.as_str(), tag.value.as_deref())).collect();
        let (mut instances, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let call = || self.context.ecs.find_instances(identity, region, &tags, token.as_deref());
            let (page, next) = self.admitted(identity, region, call).await?;
            instances.extend(page);
            match next {
                Some(next) => token = Some(next),
                None => return Ok(instances),
            }
        }
        // An incomplete result counts as none: missing instances would be pruned.
        Err(Failure::Cloud(format!("DescribeInstances in region {region} comes to no end; narrow the tags")))
    }

    /// Makes a call when the rate limiter admits it, and repeats it if it was throttled.
    async fn admitted<T, F>(
        &self,
        identity: &Identity,
        region: &Region,
        call: impl Fn() -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, ecs::Error>>,
    {
        let limiter = &self.context.limiter;
        // Of no namespace: it comes by itself.
        let requester = Requester::new(&"".into(), &format!("fleet:{}", self.fleet.name).into());
        let mut again = true;
        loop {
            let current = self.context.fleets.newest(&self.fleet.name);
            if current.is_none_or(|current| {
                (&current.uid, current.generation) != (&self.fleet.uid, self.fleet.generation)
            }) {
                return Err(Failure::Outdated);
            }
            let route = RateLimitKey {
                action: Action::DescribeInstances,
                scope: identity.scope(),
                region: region.as_str(),
            };
            let place = self.context.discovering.acquire().await;
            let ticket = match limiter.admit(route, &requester, self.context.now()) {
                Ok(ticket) => ticket,
                Err(opens) => {
                    drop(place);
                    let pause = crate::reconcile::vnc_password::until(opens, self.context.now());
                    tokio::time::sleep(pause.min(CLOCK_CHECK_INTERVAL)).await;
                    continue;
                }
            };
            let reply = call().await;
            drop(place);
            limiter.complete(
                route,
                &requester,
                ticket,
                cloud::reply::report(reply.as_ref().err()),
                self.context.now(),
            );
            let error = match reply {
                Ok(reply) => return Ok(reply),
                Err(error) => error,
            };
            match cloud::reply::class(&error) {
                Class::Throttled if !error.was_not_made() => {}
                // A cached key may just have been renewed, a nonce or a date may have been wrong.
                Class::Credentials | Class::Signing if again && !error.was_not_made() => again = false,
                _ => return Err(failed(region, &error)),
            }
        }
    }

    async fn identity(&self, spec: &ClusterVncPasswordSpec) -> Result<Arc<Identity>, Failure> {
        let child = super::member_objects::stand_in(self.fleet, spec);
        let (access, identity) =
            self.context.access_of(&child).await.map_err(|error| Failure::Cloud(error.to_string()))?;
        let namespace = &spec.target_namespace;
        identity.ok_or_else(|| {
            Failure::Cloud(match access {
                Access::AmbientDenied => format!(
                    "namespace {namespace} may not use the operator's own identity: name credentials in \
                     spec.template.credentialsRef, or add it to --ambient-credentials-namespaces"
                ),
                Access::Unusable(problem) => {
                    format!("the Secret of spec.template.credentialsRef in namespace {namespace} cannot be used: {problem}")
                }
                Access::Forbidden => format!(
                    "the operator may not read the Secret of spec.template.credentialsRef in namespace {namespace}; grant \
                     it get on secrets there"
                ),
                _ => format!("the Secret of spec.template.credentialsRef does not exist in namespace {namespace}; create it"),
            })
        })
    }
}

fn invalid_region(region: &str) -> Failure {
    Failure::Cloud(format!("{region} is no region ID such as cn-hangzhou"))
}

/// A sentence without request-specific details.
fn failed(region: &Region, error: &ecs::Error) -> Failure {
    let why = match error {
        ecs::Error::Api { code, .. } => format!("code {code}"),
        other => other.to_string(),
    };
    Failure::Cloud(format!(
        "DescribeInstances in region {region} does not tell which instances there are ({why}); it is tried again"
    ))
}
