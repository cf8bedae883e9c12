//! Asks the cloud which instances a fleet has: those with its tags, or which of those it has carry the tags required.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;

use crate::{
    api::{self, ClusterVncPasswordSpec, Tag},
    controller::{Context, Error, object::FleetObject},
    ecs::{self, Action, Asker, Identity, Instance, Region, Route},
    rotation::{
        facts::Access,
        fleet::Answer,
        outcome::{Class, classify},
    },
};

/// How often the cloud is asked where the spec does not say.
const INTERVAL: Duration = Duration::from_mins(10);
/// How long to wait after a failure, at most.
const RETRY: Duration = Duration::from_mins(1);
/// How long to wait where the instances to ask about are not known yet.
const SOON: Duration = Duration::from_secs(1);
/// Ids a call.
const BATCH: usize = 100;

/// What was asked, and what came of it.
#[derive(Debug)]
pub(in crate::controller) struct Found {
    asked: Asked,
    /// The instances with the tags of the selector, where there are any there.
    tagged: Option<Answer>,
    /// Whether the instances that were asked about carry the tags that are required; `None`: the cloud does not show them.
    carries: HashMap<Box<str>, Option<bool>>,
    /// Why there is no answer.
    pub failed: Option<String>,
}

/// The part of a spec that is asked about.
#[derive(Clone, Debug, PartialEq)]
struct Asked {
    tags: Option<Vec<Tag>>,
    regions: Option<Vec<String>>,
    required: Vec<Tag>,
    credentials: Option<String>,
}

impl Asked {
    fn of(spec: &ClusterVncPasswordSpec) -> Self {
        let template = spec.template.as_ref();
        let credentials = template.and_then(|template| template.credentials_ref.as_ref());
        Self {
            tags: spec.tags.clone(),
            regions: spec.region_ids.clone(),
            required: spec.require_tags.clone(),
            credentials: credentials.map(|secret| secret.name.clone()),
        }
    }
}

/// How often the cloud is asked.
pub(in crate::controller) fn interval(spec: &ClusterVncPasswordSpec) -> Duration {
    spec.rediscover_interval.as_deref().and_then(api::duration).unwrap_or(INTERVAL).max(SOON)
}

/// Whether the cloud has to be asked at all.
pub(in crate::controller) fn needed(spec: &ClusterVncPasswordSpec) -> bool {
    spec.tags.is_some() || !spec.require_tags.is_empty()
}

impl Found {
    /// Whether it answers what that spec asks.
    pub fn answers(&self, spec: &ClusterVncPasswordSpec) -> bool {
        self.asked == Asked::of(spec)
    }

    /// The instances with the tags of the selector.
    pub fn tagged(&self) -> Option<&Answer> {
        self.tagged.as_ref()
    }

    /// Whether an instance carries the tags that are required; `None`: the cloud does not show it.
    pub fn carries(&self, id: &str) -> Option<bool> {
        self.carries.get(id).copied().flatten()
    }

    /// Whether that was asked.
    pub fn was_asked(&self, id: &str) -> bool {
        self.carries.contains_key(id)
    }
}

/// Asks the cloud for one fleet. Returns when to ask again.
pub(in crate::controller) async fn discover(context: Arc<Context>, name: Arc<str>) -> Option<Duration> {
    let fleet = context.fleets.newest(&name)?;
    let spec = fleet.spec.as_ref().ok()?;
    if !needed(spec) || fleet.deleting || !context.watches(&spec.target_namespace) {
        return None;
    }
    // Instances to ask about, where it is not the cloud that names them.
    let listed = match super::answer_without_tags(&context, spec) {
        Some(answer) => answer,
        None if spec.tags.is_some() => Answer::default(),
        None => return Some(SOON),
    };
    let interval = interval(spec);
    let asked = Asked::of(spec);
    let asking = Asking { context: &context, fleet: &fleet };
    let (found, wait) = match asking.ask(spec, &asked, &listed).await {
        Ok(found) => (found, interval),
        Err(Failure::Cloud(failed)) => {
            tracing::warn!(fleet = %name, failed, "cannot find out which instances a fleet has");
            let found = Found { asked, tagged: None, carries: HashMap::new(), failed: Some(failed) };
            (found, interval.min(RETRY))
        }
        Err(Failure::Kubernetes(error)) => {
            tracing::warn!(fleet = %name, %error, "cannot read the credentials of a fleet; it is tried again");
            return Some(interval.min(RETRY));
        }
    };
    context.fleets.remember(&fleet, |memory| memory.found = Some(Arc::new(found)));
    context.wake_fleet(&name);
    Some(wait)
}

enum Failure {
    /// A sentence for the status.
    Cloud(String),
    Kubernetes(Error),
}

struct Asking<'a> {
    context: &'a Context,
    fleet: &'a FleetObject,
}

impl Asking<'_> {
    async fn ask(
        &self,
        spec: &ClusterVncPasswordSpec,
        asked: &Asked,
        listed: &Answer,
    ) -> Result<Found, Failure> {
        let identity = self.identity(spec).await?;
        let carries = listed.found.keys().map(|id| (id.clone(), None)).collect();
        let mut found = Found { asked: asked.clone(), tagged: None, carries, failed: None };
        let mut note = |instance: &Instance| {
            let fits = spec.require_tags.iter().all(|tag| has(instance, tag));
            found.carries.insert(instance.instance_id.as_str().into(), Some(fits));
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
            let tagged = Answer::of_tagged(tagged.iter().map(|(region, id)| (region.as_str(), id.as_str())));
            found.tagged = Some(tagged);
        } else {
            let mut regions: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for (id, region) in &listed.found {
                let own = || self.context.config.region.as_ref().map(|region| region.as_str().to_owned());
                let region = region.as_ref().map(ToString::to_string).or_else(own).ok_or_else(|| {
                    Failure::Cloud(format!(
                        "the region of instance {id} is not known: write it as in cn-hangzhou.{id}, or start the \
                         operator with --region"
                    ))
                })?;
                regions.entry(region).or_default().push(id.to_string());
            }
            for (region, ids) in regions {
                let region = Region::parse(&region).map_err(|_| invalid_region(&region))?;
                for ids in ids.chunks(BATCH) {
                    let call = || self.context.ecs.describe_instances(&identity, &region, ids);
                    self.admitted(&identity, &region, call).await?.iter().for_each(&mut note);
                }
            }
        }
        Ok(found)
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
        loop {
            let call = || self.context.ecs.find_instances(identity, region, &tags, token.as_deref());
            let (page, next) = self.admitted(identity, region, call).await?;
            instances.extend(page);
            match next {
                Some(next) if Some(&next) != token.as_ref() => token = Some(next),
                _ => return Ok(instances),
            }
        }
    }

    /// Makes a call when the limiter lets it, again where it was throttled.
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
        let asker = Asker::new(&"".into(), &format!("fleet/{}", self.fleet.name).into());
        loop {
            let route =
                Route { action: Action::DescribeInstances, scope: identity.scope(), region: region.as_str() };
            let ticket = match limiter.admit(route, &asker, Timestamp::now()) {
                Ok(ticket) => ticket,
                Err(opens) => {
                    tokio::time::sleep(crate::controller::vnc_password::until(opens)).await;
                    continue;
                }
            };
            let reply = call().await;
            let now = Timestamp::now();
            let error = match reply {
                Ok(reply) => {
                    limiter.passed(route, ticket, now);
                    self.context.metrics.called(Action::DescribeInstances, Class::Accepted);
                    return Ok(reply);
                }
                Err(error) => error,
            };
            let class = classify(&(&error).into());
            if !error.was_not_made() {
                self.context.metrics.called(Action::DescribeInstances, class);
            }
            match class {
                Class::Throttled => {
                    limiter.throttled(route, &asker, ticket, error.retry_after(), now);
                }
                Class::OutcomeUnknown | Class::Unreachable => {
                    limiter.lost(route, ticket, now);
                    return Err(failed(region, &error));
                }
                _ => {
                    limiter.passed(route, ticket, now);
                    return Err(failed(region, &error));
                }
            }
        }
    }

    async fn identity(&self, spec: &ClusterVncPasswordSpec) -> Result<Arc<Identity>, Failure> {
        let child = super::children::stand_in(self.fleet, spec);
        let (access, identity) = self.context.access_of(&child).await.map_err(Failure::Kubernetes)?;
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

fn has(instance: &Instance, tag: &Tag) -> bool {
    instance.tags.get(&tag.key).is_some_and(|value| tag.value.as_ref().is_none_or(|wanted| wanted == value))
}

fn invalid_region(region: &str) -> Failure {
    Failure::Cloud(format!("{region} is no region ID such as cn-hangzhou"))
}

/// A sentence without what changes from call to call.
fn failed(region: &Region, error: &ecs::Error) -> Failure {
    let why = match error {
        ecs::Error::Api { code, .. } => format!("code {code}"),
        other => other.to_string(),
    };
    Failure::Cloud(format!(
        "DescribeInstances in region {region} does not tell which instances there are ({why}); it is tried again"
    ))
}
