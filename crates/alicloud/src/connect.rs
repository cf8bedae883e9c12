//! Connects a program to the cloud: its flags, its settings, and the clients built from them.

use std::{ffi::OsString, sync::Arc};

use clap::Args;

use super::{
    BuildError, Client, Clock, Config, Endpoint, Identity, InvalidEndpoint, InvalidRegion, Network, Region,
    Sts,
    credentials::{Cache, Chain, ProviderContext, SessionName, Variables},
    sts::endpoint::{InvalidStsVariable, StsEndpoint},
};

/// Flags of every command that calls the cloud. Each can be set in the environment instead.
#[derive(Args, Clone, Debug)]
pub struct CloudArgs {
    /// Region of objects that name none, such as cn-hangzhou
    #[arg(long, env = "ALIBABA_CLOUD_REGION_ID", value_name = "REGION")]
    pub region: Option<String>,

    /// URL of the ECS API, http or https; it replaces the public endpoints of every region
    #[arg(long, env = "ECS_ENDPOINT", value_name = "URL")]
    pub ecs_endpoint: Option<String>,

    /// URL of the STS API, http or https; it replaces the public endpoints of every region
    #[arg(long, env = "STS_ENDPOINT", value_name = "URL")]
    pub sts_endpoint: Option<String>,

    /// URL of the ECS metadata service
    #[arg(long, env = "ECS_METADATA_ENDPOINT", value_name = "URL", default_value = "http://100.100.100.200")]
    pub metadata_endpoint: String,

    /// Which endpoints of the cloud to use
    #[arg(long, env = "ECS_ENDPOINT_NETWORK", value_name = "NETWORK", default_value = "public")]
    pub endpoint_network: EndpointNetwork,
}

/// Networks of the cloud's endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum EndpointNetwork {
    /// Reached over the internet.
    Public,
    /// Reached from inside a VPC of the region.
    Vpc,
}

/// How to reach the cloud.
#[derive(Clone, Debug)]
pub struct CloudSettings {
    /// Region of objects that name none.
    pub region: Option<Region>,
    /// Settings of the ECS client.
    pub ecs: Config,
    /// Replaces the STS endpoints of every region.
    pub sts: Option<Endpoint>,
    /// The metadata service of the ECS instance that the program runs on.
    pub metadata: Endpoint,
}

/// An invalid argument. The text names it and says what to write instead.
#[derive(Debug, thiserror::Error)]
pub enum InvalidCloudArgument {
    /// `--region`.
    #[error("--region {0:?}: {1}")]
    Region(String, #[source] InvalidRegion),
    /// `--ecs-endpoint`, `--sts-endpoint` or `--metadata-endpoint`.
    #[error("--{0}: {1}")]
    Endpoint(&'static str, #[source] InvalidEndpoint),
}

impl TryFrom<CloudArgs> for CloudSettings {
    type Error = InvalidCloudArgument;

    fn try_from(arguments: CloudArgs) -> Result<Self, InvalidCloudArgument> {
        let CloudArgs { region, ecs_endpoint, sts_endpoint, metadata_endpoint, endpoint_network } = arguments;
        let region = region.filter(|region| !region.is_empty());
        let region = region
            .map(|region| Region::parse(&region).map_err(|error| InvalidCloudArgument::Region(region, error)))
            .transpose()?;
        let endpoint = |flag, url: &str| {
            Endpoint::parse(url).map_err(|error| InvalidCloudArgument::Endpoint(flag, error))
        };
        let optional_endpoint = |flag, url: Option<String>| {
            url.filter(|url| !url.is_empty()).map(|url| endpoint(flag, &url)).transpose()
        };
        Ok(Self {
            region,
            ecs: Config {
                network: match endpoint_network {
                    EndpointNetwork::Public => Network::Public,
                    EndpointNetwork::Vpc => Network::Vpc,
                },
                endpoint: optional_endpoint("ecs-endpoint", ecs_endpoint)?,
                ..Config::default()
            },
            sts: optional_endpoint("sts-endpoint", sts_endpoint)?,
            metadata: endpoint("metadata-endpoint", &metadata_endpoint)?,
        })
    }
}

/// The clients, and the identity of the program.
#[derive(Clone)]
pub struct Cloud {
    /// The client of the ECS API.
    pub ecs: Client,
    /// The client of the STS API, which issues temporary credentials.
    pub sts: Sts,
    /// The program's own identity.
    pub operator: Arc<Identity>,
}

/// Why the clients cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The HTTP client cannot be built.
    #[error("cannot make the client of the cloud's API: {0}")]
    Client(#[from] BuildError),
    /// A variable for the STS endpoint is invalid.
    #[error(transparent)]
    Sts(#[from] InvalidStsVariable),
}

/// Builds the clients. Makes no call. `lookup` reads an environment variable. `identity_name` is the name of
/// the program's own identity in logs.
///
/// # Errors
/// See [`ConnectError`].
pub fn connect(
    settings: CloudSettings,
    clock: Clock,
    lookup: impl Fn(&str) -> Option<OsString>,
    session_name: SessionName,
    identity_name: &str,
) -> Result<Cloud, ConnectError> {
    let CloudSettings { region, ecs: config, sts, metadata } = settings;
    let (network, timeout) = (config.network, config.timeout);
    let ecs = Client::new(config, clock)?;
    let endpoint = StsEndpoint::read(sts, region, network, Variables::new(&lookup))?;
    let sts = Sts::new(ecs.rpc().clone(), endpoint, timeout);
    let context = ProviderContext { rpc: ecs.rpc().clone(), sts: sts.clone(), metadata, session_name };
    let cache = Cache::new(Arc::new(Chain::from_environment(lookup, &context)), ecs.clock().clone());
    let operator = Arc::new(Identity::new(identity_name, Arc::new(cache)));
    Ok(Cloud { ecs, sts, operator })
}
