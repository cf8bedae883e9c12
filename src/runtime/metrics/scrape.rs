//! The metrics that are made at each scrape from a snapshot.

mod fleets;

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Mutex, PoisonError, Weak},
};

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet},
    metrics::MetricType,
    registry::Unit,
};

use super::snapshot::{IdentityView, ObjectView, Snapshot, Source};
use vncpassword_alicloud::rate_limit::RouteStatus;
use vncpassword_core::api::{ConditionStatus, ConditionType, Reason};

/// A metric of an object or a fleet: name, meaning, and its value where it has one.
type Column<V, T> = (&'static str, &'static str, fn(&V) -> Option<T>);

/// The times of an object.
const OBJECT_TIMES: [Column<ObjectView, Timestamp>; 3] = [
    (
        "vncpassword_reboot_required_timestamp",
        "Since when a password waits for a restart of the instance; absent: none does",
        reboot_required,
    ),
    ("vncpassword_last_rotation_timestamp", "When a new password last came into effect", |object| {
        time(object.status.last_rotation_time.as_ref())
    }),
    ("vncpassword_next_rotation_timestamp", "When the next scheduled rotation starts", |object| {
        time(object.status.next_rotation_time.as_ref())
    }),
];

/// Asks the source at each scrape.
pub(super) struct Scrape {
    /// Whether objects and accounts have metrics of their own.
    per_object: bool,
    /// Weak: a term of leadership that has ended is not kept alive for its metrics.
    source: Mutex<Option<Weak<dyn Source>>>,
}

impl Scrape {
    pub fn new(per_object: bool) -> Self {
        Self { per_object, source: Mutex::default() }
    }

    /// This is who is asked from now on.
    pub fn attach(&self, source: Weak<dyn Source>) {
        *self.source.lock().unwrap_or_else(PoisonError::into_inner) = Some(source);
    }

    fn snapshot(&self) -> Snapshot {
        let source = self.source.lock().unwrap_or_else(PoisonError::into_inner).clone();
        source.and_then(|source| source.upgrade()).map(|source| source.snapshot()).unwrap_or_default()
    }
}

impl fmt::Debug for Scrape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scrape").field("per_object", &self.per_object).finish_non_exhaustive()
    }
}

impl Collector for Scrape {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Snapshot { leads, unreadable, gates, identities, objects, fleets } = self.snapshot();
        let mut families = Families { encoder, per_object: self.per_object };
        families.one(
            "vncpassword_operator_leader",
            "Whether this replica may act: 1 on one replica, 0 on those that stand by",
            None,
            Some(i64::from(leads)),
        )?;
        families.gauge(
            "vncpassword_operator_namespace_unreadable",
            "1 while this replica cannot read a namespace of --watch-namespaces: it is gone, a right is missing, or the first list of its Secrets has failed for 30 s",
            None,
            unreadable.iter().map(|namespace| ([("watched_namespace", &**namespace)], 1_i64)),
        )?;
        families.gates(&gates)?;
        // Replicas that stand by see the same objects, and what they know of credentials is old: one speaks
        // for all.
        if leads {
            families.identities(&identities)?;
            families.objects(&objects, Timestamp::now())?;
            families.fleets(&fleets)?;
        }
        Ok(())
    }
}

/// Writes families of metrics, each with its description once; those without a sample are left out.
struct Families<'a> {
    encoder: DescriptorEncoder<'a>,
    per_object: bool,
}

impl Families<'_> {
    /// A gauge without labels.
    fn one(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        value: Option<impl EncodeGaugeValue>,
    ) -> fmt::Result {
        let Some(value) = value else { return Ok(()) };
        let help = format!("{help}.");
        self.encoder.encode_descriptor(name, &help, unit, MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A gauge with labels.
    fn gauge<L: EncodeLabelSet, V: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<&Unit>,
        samples: impl IntoIterator<Item = (L, V)>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let help = format!("{help}.");
        let mut metric = self.encoder.encode_descriptor(name, &help, unit, MetricType::Gauge)?;
        samples.try_for_each(|(labels, value)| metric.encode_family(&labels)?.encode_gauge(&value))
    }

    /// Labels without a value: 1 for each set.
    fn info<L: EncodeLabelSet>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = L>,
    ) -> fmt::Result {
        let mut samples = samples.into_iter().peekable();
        if samples.peek().is_none() {
            return Ok(());
        }
        let help = format!("{help}.");
        let mut metric = self.encoder.encode_descriptor(name, &help, None, MetricType::Info)?;
        samples.try_for_each(|labels| metric.encode_info(&labels))
    }

    fn gates(&mut self, gates: &[RouteStatus]) -> fmt::Result {
        let gates = if self.per_object { gates.to_vec() } else { without_accounts(gates) };
        let labels = |gate: &RouteStatus| {
            let (action, region, account) = (gate.action.as_str(), gate.region.clone(), gate.scope.clone());
            [("action", action.to_owned()), ("region", region.into()), ("account", account.into())]
        };
        self.gauge(
            "vncpassword_operator_limiter_closed",
            "Whether calls wait since the API throttled one: 1 until it opens again",
            None,
            gates.iter().map(|gate| (labels(gate), i64::from(gate.closed))),
        )?;
        let rated = gates.iter().filter_map(|gate| Some((labels(gate), f64::from(gate.calls?) / 60.0)));
        self.gauge(
            "vncpassword_operator_limiter_rate",
            "The present limit of the rate of calls; absent: no limit is known, and no ceiling is set",
            Some(&Unit::Other("calls_per_second".to_owned())),
            rated,
        )?;
        self.gauge(
            "vncpassword_operator_limiter_waiting",
            "Objects that wait for their turn to call",
            None,
            gates.iter().map(|gate| (labels(gate), gate.waiting)),
        )
    }

    fn identities(&mut self, identities: &[IdentityView]) -> fmt::Result {
        let shown = || identities.iter().filter(|identity| self.per_object || !identity.name.contains('/'));
        let shown: Vec<_> = shown().collect();
        let aged = || shown.iter().filter_map(|identity| Some((*identity, identity.age?)));
        self.gauge(
            "vncpassword_operator_credentials_obtained_timestamp",
            "When the credentials at hand came from their provider, by the cloud's clock",
            Some(&Unit::Seconds),
            aged().map(|(identity, age)| {
                ([("identity", &*identity.name), ("provider", age.provider)], seconds(age.since))
            }),
        )?;
        self.gauge(
            "vncpassword_operator_credentials_expiry_timestamp",
            "When the credentials at hand expire, by the cloud's clock; absent: never",
            Some(&Unit::Seconds),
            aged().filter_map(|(identity, age)| {
                let labels = [("identity", &*identity.name), ("provider", age.provider)];
                Some((labels, seconds(age.expires_at?)))
            }),
        )?;
        self.gauge(
            "vncpassword_operator_credentials_failures",
            "How often the provider gave no credentials, in a row until now; 0: it gave some, or was not asked",
            None,
            shown.iter().map(|identity| ([("identity", &*identity.name)], identity.failures)),
        )?;
        self.gauge(
            "vncpassword_operator_credentials_refused",
            "Whether the cloud refuses the credentials, and the ones asked for since: then they rest between tries",
            None,
            shown.iter().map(|identity| ([("identity", &*identity.name)], i64::from(identity.refused))),
        )
    }

    fn objects(&mut self, objects: &[ObjectView], now: Timestamp) -> fmt::Result {
        self.gauge(
            "vncpassword_objects",
            "VncPasswords by status and reason of their condition Ready",
            None,
            count(objects.iter().map(|object| {
                let reason = object.status.reason(ConditionType::Ready).map_or("", Reason::as_str);
                (object.status.ready().as_str(), reason)
            }))
            .into_iter()
            .map(|((ready, reason), count)| ([("ready", ready), ("reason", reason)], count)),
        )?;
        let stalled = count(
            objects
                .iter()
                .filter_map(|object| object.status.reason(ConditionType::Stalled))
                .map(Reason::as_str),
        );
        self.gauge(
            "vncpassword_stalled_objects",
            "VncPasswords that need a person, by reason",
            None,
            stalled.into_iter().map(|(reason, count)| ([("reason", reason)], count)),
        )?;
        self.one(
            "vncpassword_reboot_required_objects",
            "VncPasswords whose password waits for a restart of the instance",
            None,
            Some(objects.iter().filter(|object| reboot_required(object).is_some()).count()),
        )?;
        self.one(
            "vncpassword_most_overdue",
            "How long ago the rotation fell due that is the latest; 0: none is late",
            Some(&Unit::Seconds),
            Some(objects.iter().filter_map(|object| overdue(object, now)).fold(0.0, f64::max)),
        )?;
        if self.per_object { self.each_object(objects) } else { Ok(()) }
    }

    fn each_object(&mut self, objects: &[ObjectView]) -> fmt::Result {
        self.info(
            "vncpassword",
            "A VncPassword, its instance, its region where that is known, and its fleet where it has one",
            objects.iter().filter_map(|object| {
                let spec = object.spec.as_ref()?;
                let seen = object.status.instance.as_ref().and_then(|instance| instance.region_id.as_deref());
                Some([
                    ("namespace", &*object.namespace),
                    ("name", &*object.name),
                    ("instance_id", spec.instance_id.as_str()),
                    ("region", spec.region_id.as_deref().or(seen).unwrap_or_default()),
                    ("fleet", object.fleet.as_deref().unwrap_or_default()),
                ])
            }),
        )?;
        self.gauge(
            "vncpassword_ready",
            "Whether the Secret holds the password that is in effect; 0 where that is not known, too",
            None,
            objects
                .iter()
                .map(|object| (key(object), i64::from(object.status.ready() == ConditionStatus::True))),
        )?;
        self.gauge(
            "vncpassword_stalled",
            "1 while a VncPassword needs a person, with the reason",
            None,
            objects.iter().filter_map(|object| {
                let [namespace, name] = key(object);
                let reason = object.status.reason(ConditionType::Stalled)?.as_str();
                Some(([namespace, name, ("reason", reason)], 1_i64))
            }),
        )?;
        self.gauge(
            "vncpassword_suspended",
            "1 while a VncPassword is suspended",
            None,
            objects.iter().filter(|object| is_suspended(object)).map(|object| (key(object), 1_i64)),
        )?;
        for (name, help, of) in OBJECT_TIMES {
            let samples = objects.iter().filter_map(|object| Some((key(object), seconds(of(object)?))));
            self.gauge(name, help, Some(&Unit::Seconds), samples)?;
        }
        Ok(())
    }
}

/// The gates of all accounts together: closed where one is, at the pace of the slowest.
fn without_accounts(gates: &[RouteStatus]) -> Vec<RouteStatus> {
    let mut merged: BTreeMap<(&str, &str), RouteStatus> = BTreeMap::new();
    for gate in gates {
        let new =
            || RouteStatus { scope: Box::default(), closed: false, calls: None, waiting: 0, ..gate.clone() };
        let all = merged.entry((gate.action.as_str(), &gate.region)).or_insert_with(new);
        all.closed |= gate.closed;
        all.calls = all.calls.into_iter().chain(gate.calls).min();
        all.waiting += gate.waiting;
    }
    merged.into_values().collect()
}

fn count<K: Ord>(keys: impl Iterator<Item = K>) -> BTreeMap<K, i64> {
    let mut counts = BTreeMap::new();
    keys.for_each(|key| *counts.entry(key).or_default() += 1);
    counts
}

fn key(object: &ObjectView) -> [(&'static str, &str); 2] {
    [("namespace", &*object.namespace), ("name", &*object.name)]
}

fn is_suspended(object: &ObjectView) -> bool {
    object.spec.as_ref().is_some_and(|spec| spec.suspend)
}

fn reboot_required(object: &ObjectView) -> Option<Timestamp> {
    let condition = object.status.condition(ConditionType::RebootRequired)?;
    Some(condition.last_transition_time.0)
}

/// How long ago the next rotation should have begun, in seconds. One that is suspended is not late.
fn overdue(object: &ObjectView, now: Timestamp) -> Option<f64> {
    let due = object.status.next_rotation_time.as_ref().filter(|_| !is_suspended(object))?;
    Some(now.duration_since(due.0).as_secs_f64())
}

fn time(time: Option<&Time>) -> Option<Timestamp> {
    time.map(|time| time.0)
}

fn seconds(at: Timestamp) -> i64 {
    at.as_second()
}
