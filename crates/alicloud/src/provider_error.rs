//! How a credential provider fails.

use std::fmt;

/// A provider is configured and cannot return credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credentials from {provider}: {problem}")]
pub struct ProviderError {
    /// The name of the provider that failed.
    pub provider: &'static str,
    /// The reason, in stable words of this program. It reaches conditions and events, so it contains no
    /// secret, no text of a server, no counter and no time.
    pub problem: String,
    /// What the failure says about the identity.
    pub kind: FailureKind,
}

/// What the failure of a provider says about the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The identity was refused, or its configuration is invalid. A retry without a change has the same
    /// result.
    Refused,
    /// The call was throttled. A retry may succeed.
    Throttled,
    /// No usable reply: no connection, a timeout, a server error or an unreadable reply. A retry may succeed.
    Unanswered,
}

impl ProviderError {
    /// A failure of the provider with this name. `problem`: see [`ProviderError::problem`].
    pub fn new(provider: &'static str, kind: FailureKind, problem: &(impl fmt::Display + ?Sized)) -> Self {
        Self { provider, problem: problem.to_string(), kind }
    }
}
