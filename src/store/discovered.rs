//! The discovered instances of a fleet, and when to discover them again.

use std::{collections::HashMap, time::Duration};

use jiff::Timestamp;

use vncpassword_core::{
    api::{self, ClusterVncPasswordSpec, Tag},
    fleet::DiscoveryResult,
};

/// Default discovery interval.
const INTERVAL: Duration = Duration::from_mins(10);
/// How late a discovery may be.
const STALE: Duration = Duration::from_mins(2);
/// How long to wait if the instances to query are not known yet.
pub(crate) const SOON: Duration = Duration::from_secs(1);

/// The discovery interval.
pub(crate) fn interval(spec: &ClusterVncPasswordSpec) -> Duration {
    spec.rediscover_interval.as_deref().and_then(api::duration).unwrap_or(INTERVAL).max(SOON)
}

/// Whether the fleet needs discovery.
pub(crate) fn needed(spec: &ClusterVncPasswordSpec) -> bool {
    spec.tags.is_some() || !spec.require_tags.is_empty()
}

/// A query and its result.
#[derive(Debug)]
pub(crate) struct DiscoveredInstances {
    pub asked: DiscoveryQuery,
    /// When the answer came.
    pub at: Timestamp,
    /// There is no result.
    pub empty: bool,
    /// The instances with the tags of the selector, where there are any there.
    pub tagged: Option<DiscoveryResult>,
    /// Whether the instances that were asked about carry the tags that are required; `None`: the cloud does
    /// not show them.
    pub carries: HashMap<Box<str>, Option<bool>>,
    /// Why there is no result, or only a part.
    pub failed: Option<String>,
}

/// The query: the part of the spec that it depends on.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct DiscoveryQuery {
    tags: Option<Vec<Tag>>,
    regions: Option<Vec<String>>,
    required: Vec<Tag>,
    credentials: Option<String>,
}

impl DiscoveryQuery {
    pub fn of(spec: &ClusterVncPasswordSpec) -> Self {
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

impl DiscoveredInstances {
    /// Whether this is the query of that spec.
    pub fn answers(&self, spec: &ClusterVncPasswordSpec) -> bool {
        self.asked == DiscoveryQuery::of(spec)
    }

    /// Whether there is no answer at all.
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Whether it is too old.
    pub fn is_stale(&self, spec: &ClusterVncPasswordSpec, now: Timestamp) -> bool {
        let age = Duration::try_from(now.duration_since(self.at)).unwrap_or_default();
        age > interval(spec) * 2 + STALE
    }

    /// The instances with the tags of the selector.
    pub fn tagged(&self) -> Option<&DiscoveryResult> {
        self.tagged.as_ref()
    }

    /// Whether an instance carries the tags that are required; `None`: the cloud does not show it.
    pub fn carries(&self, id: &str) -> Option<bool> {
        self.carries.get(id).copied().flatten()
    }

    /// Whether the query included the instance.
    pub fn was_asked(&self, id: &str) -> bool {
        self.carries.contains_key(id)
    }
}
