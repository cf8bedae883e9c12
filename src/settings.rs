//! The arguments of `run`, and the settings that come of them: read once, validated, nothing else reads the
//! environment.

use std::{net::SocketAddr, time::Duration};

use clap::{ArgAction, Args};

use crate::runtime::{InvalidOtlpEndpoint, Lease, LogFormat, OtlpEndpoint};
use vncpassword_alicloud::{
    Rates, Region,
    connect::{CloudArgs, CloudSettings, InvalidCloudArgument},
    rate_limit::InvalidRate,
};
use vncpassword_core::api::LEASE;

/// Flags of `run`. Each can be set in the environment instead.
#[derive(Args, Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "switches of a command line are just that")]
pub struct RunArgs {
    /// How the cloud is reached.
    #[command(flatten)]
    pub cloud: CloudArgs,

    /// Namespaces whose objects may use the operator's own identity, separated by commas, or * for all;
    /// default: the operator's namespace
    #[arg(long, env = "AMBIENT_CREDENTIALS_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub ambient_credentials_namespaces: Vec<String>,

    /// Namespace of the operator
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "default")]
    pub operator_namespace: String,

    /// Most calls a minute of an action, in each account and region: ModifyInstanceVncPasswd,
    /// DescribeInstances or RebootInstance; repeated, or separated by commas. Without one the rate is limited
    /// once the API throttles
    #[arg(long, env = "ECS_RATE", value_name = "ACTION=N/min", value_delimiter = ',')]
    pub ecs_rate: Vec<String>,

    /// Lets objects with activation Reboot restart their instances
    #[arg(long, env = "ALLOW_REBOOT")]
    pub allow_reboot: bool,

    /// How long a call whose outcome is unknown may still arrive: the validity of a signature and a little
    #[arg(long, env = "SETTLE", value_name = "DURATION", default_value = "16m")]
    pub settle: String,

    /// Namespaces to watch, separated by commas; all where none is named
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Whether to serve ClusterVncPasswords, which needs rights in the whole cluster
    #[arg(long, env = "FLEETS", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub fleets: bool,

    /// Act only while holding a Lease in the operator's namespace (--lease-name): needed with several
    /// replicas
    #[arg(long, env = "LEADER_ELECT")]
    pub leader_elect: bool,

    /// Name of the Lease, the same for all replicas. In this version the operator holds the Lease
    /// vncpassword-operator as well, so that a rolling upgrade has one leader
    #[arg(long, env = "LEASE_NAME", value_name = "NAME", default_value = LEASE)]
    pub lease_name: String,

    /// Address of /healthz, /readyz and /metrics; the default listens on IPv6 and IPv4, or on IPv4 only if
    /// the kernel has no IPv6
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS", default_value = "[::]:8080")]
    pub http_addr: SocketAddr,

    /// Whether each object and each account has metrics of its own; without them only sums are shown
    #[arg(
        long,
        env = "PER_OBJECT_METRICS",
        value_name = "BOOL",
        default_value_t = true,
        action = ArgAction::Set
    )]
    pub per_object_metrics: bool,

    /// Base URL of a collector that takes traces by OTLP over HTTP (port 4318 as a rule); none: no traces
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", value_name = "URL")]
    pub otlp_endpoint: Option<String>,

    /// Objects that are worked on at the same time
    #[arg(long, env = "MAX_CONCURRENT_RECONCILES", value_name = "N", default_value_t = 32)]
    pub max_concurrent_reconciles: u16,

    /// How log lines look; the level is set by RUST_LOG
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// What the controller is to do.
#[derive(Clone, Debug)]
pub struct ControllerSettings {
    /// Region of objects that name none.
    pub region: Option<Region>,
    /// How long a call with an unknown outcome may still arrive.
    pub settle: Duration,
    /// Whether instances may be restarted at all.
    pub allow_reboot: bool,
    /// Who may use the operator's own identity.
    pub ambient: Ambient,
    /// Ceilings of the rates of calls.
    pub rates: Rates,
    /// Whether this process may act.
    pub lease: Lease,
    /// Namespaces to watch; none: all.
    pub namespaces: Vec<String>,
    /// Whether fleets are served, which need rights in the whole cluster.
    pub fleets: bool,
    /// Passes that run at the same time.
    pub concurrency: usize,
}

/// The namespaces that may use the operator's own identity.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ambient {
    /// All of them.
    Everywhere,
    /// These.
    In(Vec<String>),
}

impl Ambient {
    /// Whether the namespace is one of them.
    #[must_use]
    pub fn includes(&self, namespace: &str) -> bool {
        match self {
            Self::Everywhere => true,
            Self::In(namespaces) => namespaces.iter().any(|allowed| allowed == namespace),
        }
    }
}

/// The settings of `run`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the controller.
    pub controller: ControllerSettings,
    /// How the cloud is reached.
    pub cloud: CloudSettings,
    /// Namespace of the operator.
    pub namespace: String,
    /// Where probes and metrics are served.
    pub http_addr: SocketAddr,
    /// Whether other replicas may run: then one acts at a time.
    pub leader_elect: bool,
    /// The Lease by which they agree.
    pub lease_name: String,
    /// Whether each object has metrics of its own.
    pub per_object_metrics: bool,
    /// Where traces go, if anywhere.
    pub otlp: Option<OtlpEndpoint>,
}

/// A flag that cannot be used. The text names it and says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// How the cloud is reached.
    #[error(transparent)]
    Cloud(#[from] InvalidCloudArgument),
    /// `--ecs-rate`.
    #[error("--ecs-rate {0:?}: {1}")]
    Rate(String, #[source] InvalidRate),
    /// `--ambient-credentials-namespaces`.
    #[error("--ambient-credentials-namespaces: write * alone, or names of namespaces without it")]
    Ambient,
    /// `--lease-name`.
    #[error(
        "--lease-name {0:?}: write a DNS name: at most 253 characters of a-z, 0-9, - and .; each part begins and ends with a letter or digit"
    )]
    LeaseName(String),
    /// `--settle`.
    #[error("--settle {0:?}: write a duration from 1s to 24h, such as 16m")]
    Settle(String),
    /// `--otlp-endpoint`. The URL is not shown: it may hold what opens the collector.
    #[error("--otlp-endpoint: {0}")]
    Otlp(#[source] InvalidOtlpEndpoint),
    /// `--max-concurrent-reconciles`.
    #[error("--max-concurrent-reconciles: write a number from 1 on")]
    Concurrency,
}

/// Bounds of `--settle`.
const SETTLE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

/// Who may use the operator's own identity: by default its own namespace, since anyone who may use it can set
/// the console password of any instance that the identity has a right to.
fn ambient(namespaces: Vec<String>, own: &str) -> Result<Ambient, SettingsError> {
    let mut namespaces = namespaces;
    namespaces.retain(|namespace| !namespace.is_empty());
    match namespaces.as_slice() {
        [] => Ok(Ambient::In(vec![own.to_owned()])),
        [all] if all == "*" => Ok(Ambient::Everywhere),
        some if some.iter().any(|namespace| namespace.contains('*')) => Err(SettingsError::Ambient),
        _ => Ok(Ambient::In(namespaces)),
    }
}

/// A name that Leases can have; the default where none is given.
fn lease_name(name: String) -> Result<String, SettingsError> {
    if name.is_empty() {
        return Ok(LEASE.to_owned());
    }
    let plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = [bytes.first(), bytes.last()];
        ends.into_iter().all(|end| end.is_some_and(plain))
            && bytes.iter().all(|byte| plain(byte) || *byte == b'-')
    };
    let fits = name.len() <= 253 && name.split('.').all(label);
    if fits { Ok(name) } else { Err(SettingsError::LeaseName(name)) }
}

/// Ceilings of the rates of calls.
fn rates(written: Vec<String>) -> Result<Rates, SettingsError> {
    let mut rates = Rates::default();
    for rate in written.into_iter().filter(|rate| !rate.is_empty()) {
        rates.add(&rate).map_err(|error| SettingsError::Rate(rate, error))?;
    }
    Ok(rates)
}

impl TryFrom<RunArgs> for Settings {
    type Error = SettingsError;

    fn try_from(arguments: RunArgs) -> Result<Self, SettingsError> {
        let RunArgs {
            cloud,
            ambient_credentials_namespaces,
            operator_namespace,
            ecs_rate,
            allow_reboot,
            settle,
            watch_namespaces,
            fleets,
            leader_elect,
            lease_name: name,
            http_addr,
            per_object_metrics,
            otlp_endpoint,
            max_concurrent_reconciles,
            log_format: _,
        } = arguments;
        let cloud = CloudSettings::try_from(cloud)?;
        let settle = vncpassword_core::api::duration(&settle)
            .filter(|settle| SETTLE.contains(settle))
            .ok_or(SettingsError::Settle(settle))?;
        let otlp = otlp_endpoint.filter(|url| !url.is_empty());
        let otlp = otlp.map(|url| OtlpEndpoint::parse(&url)).transpose().map_err(SettingsError::Otlp)?;
        if max_concurrent_reconciles == 0 {
            return Err(SettingsError::Concurrency);
        }
        Ok(Self {
            controller: ControllerSettings {
                region: cloud.region.clone(),
                ambient: ambient(ambient_credentials_namespaces, &operator_namespace)?,
                settle,
                allow_reboot,
                rates: rates(ecs_rate)?,
                lease: Lease::alone(),
                namespaces: watch_namespaces.into_iter().filter(|namespace| !namespace.is_empty()).collect(),
                fleets,
                concurrency: max_concurrent_reconciles.into(),
            },
            cloud,
            namespace: operator_namespace,
            http_addr,
            leader_elect,
            lease_name: lease_name(name)?,
            per_object_metrics,
            otlp,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        run: RunArgs,
    }

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let arguments = [&["run"], arguments].concat();
        let cli = Cli::try_parse_from(arguments).map_err(|error| error.to_string())?;
        Settings::try_from(cli.run).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_those_of_the_design() {
        let settings = settings(&[]).unwrap();
        assert_eq!(settings.controller.settle, Duration::from_secs(16 * 60));
        assert_eq!(settings.controller.concurrency, 32);
        assert!(!settings.controller.allow_reboot && !settings.leader_elect);
        assert_eq!(settings.lease_name, "vncpassword-operator");
        assert!(settings.per_object_metrics && settings.otlp.is_none());
        assert_eq!(settings.http_addr.to_string(), "[::]:8080");
        assert!(settings.controller.namespaces.is_empty() && settings.controller.fleets);
        assert!(settings.cloud.ecs.endpoint.is_none() && settings.cloud.sts.is_none());
        assert_eq!(settings.cloud.metadata.to_string(), "http://100.100.100.200");
        assert_eq!(settings.controller.ambient, Ambient::In(vec!["default".to_owned()]));
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let table: &[(&[&str], &str)] = &[
            (&["--region", "x.example.com/?"], "--region"),
            (&["--region", "CN-HANGZHOU"], "--region"),
            (&["--ecs-endpoint", "ftp://example.com"], "--ecs-endpoint"),
            (&["--sts-endpoint", "sts.example.com"], "--sts-endpoint"),
            (&["--metadata-endpoint", "http://a/b"], "--metadata-endpoint"),
            (&["--ambient-credentials-namespaces", "*,a"], "--ambient-credentials-namespaces"),
            (&["--ambient-credentials-namespaces", "team-*"], "--ambient-credentials-namespaces"),
            (&["--ecs-rate", "60/min"], "--ecs-rate"),
            (&["--ecs-rate", "RunInstances=60/min"], "--ecs-rate"),
            (&["--ecs-rate", "RebootInstance=0/min"], "--ecs-rate"),
            (&["--ecs-rate", "RebootInstance=1/min,RebootInstance=2/min"], "--ecs-rate"),
            (&["--lease-name", "Mine"], "--lease-name"),
            (&["--lease-name=-a"], "--lease-name"),
            (&["--lease-name", "a..b"], "--lease-name"),
            (&["--settle", "soon"], "--settle"),
            (&["--settle", ""], "--settle"),
            (&["--settle=-5m"], "--settle"),
            (&["--settle", "10ms"], "--settle"),
            (&["--settle", "99999999999999999999h"], "--settle"),
            (&["--max-concurrent-reconciles", "0"], "--max-concurrent-reconciles"),
            (&["--endpoint-network", "moon"], "--endpoint-network"),
            (&["--http-addr", "8080"], "--http-addr"),
            (&["--log-format", "xml"], "--log-format"),
            (&["--per-object-metrics", "off"], "--per-object-metrics"),
            (&["--otlp-endpoint", "collector:4317"], "--otlp-endpoint"),
        ];
        for (arguments, named) in table {
            let error = settings(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn the_operators_identity_is_for_its_own_namespace_unless_told_otherwise() {
        let own = |arguments| settings(arguments).unwrap().controller.ambient;
        let only = |names: &[&str]| Ambient::In(names.iter().map(ToString::to_string).collect());
        assert_eq!(own(&["--operator-namespace", "vnc"]), only(&["vnc"]));
        assert_eq!(own(&["--ambient-credentials-namespaces", ""]), only(&["default"]));
        assert_eq!(own(&["--ambient-credentials-namespaces", "a,b"]), only(&["a", "b"]));
        assert_eq!(own(&["--ambient-credentials-namespaces", "*"]), Ambient::Everywhere);
    }

    #[test]
    fn a_lease_can_have_any_name_that_a_release_has() {
        for (given, expected) in [("", "vncpassword-operator"), ("vnc-a", "vnc-a"), ("vnc.2-b", "vnc.2-b")] {
            assert_eq!(settings(&["--lease-name", given]).unwrap().lease_name, expected);
        }
    }

    #[test]
    fn ceilings_can_be_repeated_or_separated_by_commas() {
        let rates = |arguments| settings(arguments).unwrap().controller.rates;
        let mut expected = Rates::default();
        assert_eq!(rates(&["--ecs-rate", ""]), expected);
        expected.add("RebootInstance=5/min").unwrap();
        expected.add("DescribeInstances=60/min").unwrap();
        assert_eq!(
            rates(&["--ecs-rate", "RebootInstance=5/min", "--ecs-rate", "DescribeInstances=60/min"]),
            expected
        );
        assert_eq!(rates(&["--ecs-rate", "RebootInstance=5/min,DescribeInstances=60/min"]), expected);
    }

    #[test]
    fn several_namespaces_can_be_watched() {
        let settings = settings(&["--watch-namespaces", "a,b"]).unwrap();
        assert_eq!(settings.controller.namespaces, ["a", "b"]);
    }
}
