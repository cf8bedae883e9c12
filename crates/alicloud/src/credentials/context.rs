//! The clients and defaults that the providers share.

use super::SessionName;
use crate::{endpoint::Endpoint, rpc::Rpc, sts::Sts};

/// The clients and defaults that the providers share.
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
