//! How a credential provider fails.

use std::fmt;

/// A provider is configured and cannot give credentials.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("credentials from {provider}: {problem}")]
pub struct ProviderError {
    /// The name of the provider that failed.
    pub provider: &'static str,
    /// What is wrong, in our own stable words: it reaches conditions and events, so it holds no secret, no server's
    /// text, no counter and no time.
    pub problem: String,
    /// What the failure says about the identity.
    pub kind: FailureKind,
}

/// What the failure of a provider says about the identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The identity was refused, or its configuration cannot be used. A retry without a change gives the same
    /// result.
    Refused,
    /// The cloud answered that the account has used up its calls. A retry may succeed.
    Throttled,
    /// There was no usable answer: no connection, a timeout, a server error or an unreadable reply. A retry may
    /// succeed.
    Unanswered,
}

impl ProviderError {
    /// A failure of the provider of that name. `problem`: see [`ProviderError::problem`].
    pub fn new(provider: &'static str, kind: FailureKind, problem: &(impl fmt::Display + ?Sized)) -> Self {
        Self { provider, problem: problem.to_string(), kind }
    }
}
