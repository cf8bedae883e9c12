//! Access keys, roles, the metadata service, and issued credentials.

use std::time::Duration;

use super::Cloud;
use crate::access::AccessKey;
use crate::issue::Issued;
use crate::metadata::Metadata;
use crate::role::Role;
use crate::state::State;

#[allow(clippy::must_use_candidate, reason = "who changes something need not care for what was there before")]
impl Cloud {
    /// Replaces the access keys.
    pub fn set_access_keys(&self, keys: Vec<AccessKey>) {
        self.with(|state, _| state.access.keys = keys);
    }

    /// Adds or replaces an access key.
    pub fn put_access_key(&self, key: AccessKey) {
        self.with(|state, _| {
            state.access.keys.retain(|other| other.id != key.id);
            state.access.keys.push(key);
        });
    }

    /// Revokes an access key. False: not found.
    pub fn revoke_access_key(&self, id: &str) -> bool {
        self.with(|state, _| {
            let before = state.access.keys.len();
            state.access.keys.retain(|key| key.id != id);
            state.access.keys.len() < before
        })
    }

    /// All access keys, with their secrets.
    #[must_use]
    pub fn access_keys(&self) -> Vec<AccessKey> {
        self.with(|state, _| state.access.keys.clone())
    }

    /// Adds or replaces a role. Credentials that were issued before keep their permissions.
    pub fn put_role(&self, role: Role) {
        self.with(|state, _| state.roles.insert(role.arn.clone(), role));
    }

    /// Removes a role. Its credentials stay valid. False: not found.
    pub fn remove_role(&self, arn: &str) -> bool {
        self.with(|state, _| state.roles.remove(arn).is_some())
    }

    /// All roles, by ARN.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        self.with(|state, _| state.roles.values().cloned().collect())
    }

    /// Sets the metadata service. `None`, the initial value: there is none.
    pub fn set_metadata(&self, metadata: Option<Metadata>) {
        self.with(|state, _| state.metadata.settings = metadata);
    }

    /// See [`Cloud::set_metadata`].
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        self.with(|state, _| state.metadata.settings.clone())
    }

    /// The valid tokens of the metadata service. Some may have expired recently.
    #[must_use]
    pub fn metadata_tokens(&self) -> Vec<String> {
        self.with(|state, _| state.metadata.token_values().map(ToOwned::to_owned).collect())
    }

    /// Sets the lifetime of all new credentials. Zero: they expire immediately. `None`: the requested
    /// lifetime.
    pub fn set_sts_lifetime(&self, lifetime: Option<Duration>) {
        self.with(|state, _| state.issuer.lifetime = lifetime);
    }

    /// See [`Cloud::set_sts_lifetime`].
    #[must_use]
    pub fn sts_lifetime(&self) -> Option<Duration> {
        self.with(|state, _| state.issuer.lifetime)
    }

    /// All credentials ever issued, oldest first, valid or not.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.with(|state, _| state.issuer.issued.clone())
    }

    /// Expires all issued credentials. Returns how many were valid.
    pub fn expire_issued(&self) -> usize {
        self.with(State::expire_issued)
    }
}
