//! What `vncpassword-operator whoami -o json` prints: the plugin reads it in the operator's Pod.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who the operator is to the cloud. A field that an older operator does not write is empty.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Whoami {
    /// The provider that gave the credentials.
    pub provider: String,
    /// The account.
    pub account: String,
    /// The user or the assumed role.
    pub arn: String,
    /// What it is, such as `RAMUser`.
    pub identity_type: String,
    /// When the credentials expire, by the cloud's clock; absent: never.
    pub expires_at: Option<Timestamp>,
    /// How long that is from now, in seconds.
    pub expires_in_seconds: Option<i64>,
    /// Where the rights were tried.
    pub region: Option<String>,
    /// What was found out of the rights.
    pub rights: Vec<CloudRight>,
}

/// A right of the identity in the cloud.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CloudRight {
    /// The action.
    pub action: String,
    /// Whether the identity has it; absent: not known.
    pub granted: Option<bool>,
    /// Why it is not granted, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub because: Option<String>,
}

impl Whoami {
    /// Whether all rights that could be tried are there.
    #[must_use]
    pub fn suffices(&self) -> bool {
        self.rights.iter().all(|right| right.granted != Some(false))
    }
}
