//! The settings and the memory of the metadata service. `local` has its routes.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::issue::Issued;

/// The metadata service of the instance on which the emulator's clients run. By default, it has no role, and
/// does not require a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Metadata {
    /// The ARN of the instance's role, if it has one.
    pub role_arn: Option<String>,
    /// Whether requests without a token are answered (`HttpTokens=optional`).
    pub v1: bool,
    /// Whether a request for a token hangs, as with a client more than one hop away.
    pub token_hangs: bool,
}

impl Default for Metadata {
    fn default() -> Self {
        Self { role_arn: None, v1: true, token_hangs: false }
    }
}

impl Metadata {
    /// The metadata service of an instance with a role.
    #[must_use]
    pub fn of_role(arn: impl Into<String>) -> Self {
        Self { role_arn: Some(arn.into()), ..Self::default() }
    }

    /// Requires a token.
    #[must_use]
    pub fn hardened(mut self) -> Self {
        self.v1 = false;
        self
    }

    /// Lets requests for a token hang.
    #[must_use]
    pub fn token_hangs(mut self) -> Self {
        self.token_hangs = true;
        self
    }
}

/// The metadata service.
#[derive(Debug, Default)]
pub(super) struct MetadataService {
    /// `None`: there is no metadata service.
    pub settings: Option<Metadata>,
    /// The tokens, and when each expires.
    pub tokens: BTreeMap<String, Timestamp>,
    /// The credentials that it served last.
    pub served: Option<Issued>,
}

impl MetadataService {
    /// The tokens, without those that had expired when the newest one was issued.
    pub fn token_values(&self) -> impl Iterator<Item = &str> {
        self.tokens.keys().map(String::as_str)
    }
}
