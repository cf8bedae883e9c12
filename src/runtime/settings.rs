//! The arguments of `run`, and the settings that come of them: read once, validated, nothing else reads the
//! environment.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use clap::Args;

use super::{Alone, LogFormat};
use crate::{
    controller,
    ecs::{self, Endpoint, InvalidEndpoint, InvalidRegion, Network, Region},
};

/// Flags of `run`. Each can be set in the environment instead.
#[derive(Args, Clone, Debug)]
pub struct RunArgs {
    /// Region of objects that name none, such as cn-hangzhou
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", value_name = "REGION")]
    pub region: Option<String>,

    /// URL of the ECS API, http or https; it replaces the public endpoints of every region
    #[arg(long, env = "ECS_ENDPOINT", value_name = "URL")]
    pub ecs_endpoint: Option<String>,

    /// Which endpoints of the cloud to use
    #[arg(long, env = "ECS_ENDPOINT_NETWORK", value_name = "NETWORK", default_value = "public")]
    pub endpoint_network: EndpointNetwork,

    /// Lets objects with activation Reboot restart their instances
    #[arg(long, env = "ALLOW_REBOOT")]
    pub allow_reboot: bool,

    /// How long a call whose outcome is unknown may still arrive: the validity of a signature and a little
    #[arg(long, env = "SETTLE", value_name = "DURATION", default_value = "16m")]
    pub settle: String,

    /// Namespaces to watch, separated by commas; all where none is named
    #[arg(long, env = "WATCH_NAMESPACES", value_name = "NAMESPACE", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Address of /healthz, /readyz and /metrics
    #[arg(long, env = "HTTP_ADDR", value_name = "ADDRESS", default_value = "0.0.0.0:8080")]
    pub http_addr: SocketAddr,

    /// Objects that are worked on at the same time
    #[arg(long, env = "MAX_CONCURRENT_RECONCILES", value_name = "N", default_value_t = 32)]
    pub max_concurrent_reconciles: u16,

    /// How log lines look; the level is set by RUST_LOG
    #[arg(long, env = "LOG_FORMAT", value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,
}

/// Networks of the cloud's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EndpointNetwork {
    /// Reached over the internet.
    Public,
    /// Reached from inside a VPC of the region.
    Vpc,
}

/// The settings of `run`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Of the controller.
    pub controller: controller::Config,
    /// Of the cloud client.
    pub ecs: ecs::Config,
    /// Where probes and metrics are served.
    pub http_addr: SocketAddr,
}

/// A flag that cannot be used. The text names it and says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// `--region`.
    #[error("--region {0:?}: {1}")]
    Region(String, #[source] InvalidRegion),
    /// `--ecs-endpoint`.
    #[error("--ecs-endpoint: {0}")]
    Endpoint(#[from] InvalidEndpoint),
    /// `--settle`.
    #[error("--settle {0:?}: write a duration from 1s to 24h, such as 16m")]
    Settle(String),
    /// `--max-concurrent-reconciles`.
    #[error("--max-concurrent-reconciles: write a number from 1 on")]
    Concurrency,
}

/// Bounds of `--settle`.
const SETTLE: std::ops::RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(24 * 60 * 60);

impl TryFrom<RunArgs> for Settings {
    type Error = SettingsError;

    fn try_from(arguments: RunArgs) -> Result<Self, SettingsError> {
        let RunArgs {
            region,
            ecs_endpoint,
            endpoint_network,
            allow_reboot,
            settle,
            watch_namespaces,
            http_addr,
            max_concurrent_reconciles,
            log_format: _,
        } = arguments;
        let region = region.filter(|region| !region.is_empty());
        let region = region
            .map(|region| Region::parse(&region).map_err(|error| SettingsError::Region(region, error)))
            .transpose()?;
        let endpoint = ecs_endpoint.filter(|url| !url.is_empty());
        let settle = crate::api::duration(&settle)
            .filter(|settle| SETTLE.contains(settle))
            .ok_or(SettingsError::Settle(settle))?;
        if max_concurrent_reconciles == 0 {
            return Err(SettingsError::Concurrency);
        }
        Ok(Self {
            controller: controller::Config {
                region,
                settle,
                allow_reboot,
                lease: Arc::new(Alone),
                namespaces: watch_namespaces.into_iter().filter(|namespace| !namespace.is_empty()).collect(),
                concurrency: max_concurrent_reconciles.into(),
            },
            ecs: ecs::Config {
                network: match endpoint_network {
                    EndpointNetwork::Public => Network::Public,
                    EndpointNetwork::Vpc => Network::Vpc,
                },
                endpoint: endpoint.as_deref().map(Endpoint::parse).transpose()?,
                ..ecs::Config::default()
            },
            http_addr,
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
        assert!(!settings.controller.allow_reboot);
        assert_eq!(settings.http_addr.to_string(), "0.0.0.0:8080");
        assert!(settings.controller.namespaces.is_empty());
        assert!(settings.ecs.endpoint.is_none());
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let table: &[(&[&str], &str)] = &[
            (&["--region", "x.example.com/?"], "--region"),
            (&["--region", "CN-HANGZHOU"], "--region"),
            (&["--ecs-endpoint", "ftp://example.com"], "--ecs-endpoint"),
            (&["--settle", "soon"], "--settle"),
            (&["--settle", ""], "--settle"),
            (&["--settle=-5m"], "--settle"),
            (&["--settle", "10ms"], "--settle"),
            (&["--settle", "99999999999999999999h"], "--settle"),
            (&["--max-concurrent-reconciles", "0"], "--max-concurrent-reconciles"),
            (&["--endpoint-network", "moon"], "--endpoint-network"),
            (&["--http-addr", "8080"], "--http-addr"),
            (&["--log-format", "xml"], "--log-format"),
        ];
        for (arguments, named) in table {
            let error = settings(arguments).unwrap_err();
            assert!(error.contains(named), "{arguments:?}: {error}");
        }
    }

    #[test]
    fn several_namespaces_can_be_watched() {
        let settings = settings(&["--watch-namespaces", "a,b"]).unwrap();
        assert_eq!(settings.controller.namespaces, ["a", "b"]);
    }
}
