//! A call after authentication, and its caller.

use std::collections::BTreeSet;

use super::access::AccessKey;
use super::action::{Action, Parameters};

/// A call that passed authentication.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub action: Action,
    pub parameters: Parameters,
    /// Whether its access key lacks the permission for it.
    pub denied: bool,
    pub caller: Caller,
}

/// The identity that signed a call. Empty for an unsigned call.
#[derive(Clone, Debug, Default)]
pub(super) struct Caller {
    pub account: String,
    /// The ARN without `acs:ram::ACCOUNT:`.
    pub principal: String,
    /// The instances that it has permissions for; `None`: all of its account.
    instances: Option<BTreeSet<String>>,
}

impl Caller {
    pub fn new(key: &AccessKey) -> Self {
        Self {
            account: key.account.clone(),
            principal: key.principal.clone(),
            instances: key.instances.clone(),
        }
    }

    /// Whether it has permissions for an instance of its account.
    pub fn may(&self, instance_id: &str) -> bool {
        self.instances.as_ref().is_none_or(|own| own.contains(instance_id))
    }
}
