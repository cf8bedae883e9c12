//! The cloud as every command reaches it: clients, and the program's own identity.

use std::{ffi::OsString, sync::Arc};

use super::CloudSettings;
use crate::{
    controller::{Cloud, OPERATOR},
    ecs::{
        self, BuildError, Clock, Identity, Sts,
        credentials::{Cache, Chain, SessionName, Tools, Variables},
        sts::endpoint::{InvalidStsVariable, StsEndpoint},
    },
};

/// Why the cloud cannot be called.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The HTTP client cannot be made.
    #[error("cannot make the client of the cloud's API: {0}")]
    Client(#[from] BuildError),
    /// A variable says where STS is, and cannot be used.
    #[error(transparent)]
    Sts(#[from] InvalidStsVariable),
}

/// Builds the clients, which take the time from `clock`; nobody is called yet. `lookup` is all that is read of the environment.
///
/// # Errors
/// See [`CloudError`].
pub fn cloud(
    settings: CloudSettings,
    clock: Clock,
    lookup: impl Fn(&str) -> Option<OsString>,
    session_name: SessionName,
) -> Result<Cloud, CloudError> {
    let CloudSettings { region, ecs: config, sts, metadata } = settings;
    let (network, timeout) = (config.network, config.timeout);
    let ecs = ecs::Client::new(config, clock)?;
    let endpoint = StsEndpoint::read(sts, region, network, Variables::new(&lookup))?;
    let sts = Sts::new(ecs.rpc().clone(), endpoint, timeout);
    let tools = Tools { rpc: ecs.rpc().clone(), sts: sts.clone(), metadata, session_name };
    let cache = Cache::new(Arc::new(Chain::from_environment(lookup, &tools)), ecs.clock().clone());
    let operator = Arc::new(Identity::new(OPERATOR, Arc::new(cache)));
    Ok(Cloud { ecs, sts, operator })
}
