//! What the providers make their calls with.

use super::SessionName;
use crate::{endpoint::Endpoint, rpc::Rpc, sts::Sts};

/// What the providers make their calls with.
#[derive(Clone)]
pub struct ProviderContext {
    /// Calls the metadata service and the credentials URI.
    pub rpc: Rpc,
    /// Assumes roles.
    pub sts: Sts,
    /// The metadata service: [`Endpoint::metadata`], except in tests.
    pub metadata: Endpoint,
    /// The default name of a role session.
    pub session_name: SessionName,
}
