//! Who there is: access keys, roles, the metadata service, and the credentials given out.

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

    /// Adds an access key, or replaces the one of that id.
    pub fn put_access_key(&self, key: AccessKey) {
        self.with(|state, _| {
            state.access.keys.retain(|other| other.id != key.id);
            state.access.keys.push(key);
        });
    }

    /// Takes an access key out of force. False: there was none of that id.
    pub fn revoke_access_key(&self, id: &str) -> bool {
        self.with(|state, _| {
            let before = state.access.keys.len();
            state.access.keys.retain(|key| key.id != id);
            state.access.keys.len() < before
        })
    }

    /// The access keys in force, secrets and all.
    #[must_use]
    pub fn access_keys(&self) -> Vec<AccessKey> {
        self.with(|state, _| state.access.keys.clone())
    }

    /// Adds a role, or replaces the one of that ARN. Credentials given out before keep the rights they had.
    pub fn put_role(&self, role: Role) {
        self.with(|state, _| state.roles.insert(role.arn.clone(), role));
    }

    /// Removes a role; its credentials stay good. False: there was none of that ARN.
    pub fn remove_role(&self, arn: &str) -> bool {
        self.with(|state, _| state.roles.remove(arn).is_some())
    }

    /// All roles, by ARN.
    #[must_use]
    pub fn roles(&self) -> Vec<Role> {
        self.with(|state, _| state.roles.values().cloned().collect())
    }

    /// Lets the emulator be the metadata service of an instance; `None`: it is none, as at the start.
    pub fn set_metadata(&self, metadata: Option<Metadata>) {
        self.with(|state, _| state.metadata.settings = metadata);
    }

    /// See [`Cloud::set_metadata`].
    #[must_use]
    pub fn metadata(&self) -> Option<Metadata> {
        self.with(|state, _| state.metadata.settings.clone())
    }

    /// The tokens of the metadata service that are good, or were a moment ago.
    #[must_use]
    pub fn metadata_tokens(&self) -> Vec<String> {
        self.with(|state, _| state.metadata.token_values().map(ToOwned::to_owned).collect())
    }

    /// Gives all credentials from now on this life, whatever is asked for; zero: they are expired on arrival. `None`:
    /// the life that was asked for.
    pub fn set_sts_lifetime(&self, lifetime: Option<Duration>) {
        self.with(|state, _| state.issuer.lifetime = lifetime);
    }

    /// See [`Cloud::set_sts_lifetime`].
    #[must_use]
    pub fn sts_lifetime(&self) -> Option<Duration> {
        self.with(|state, _| state.issuer.lifetime)
    }

    /// All credentials ever given out, oldest first, good or not.
    #[must_use]
    pub fn issued(&self) -> Vec<Issued> {
        self.with(|state, _| state.issuer.issued.clone())
    }

    /// Has all credentials given out expire now. How many were still good.
    pub fn expire_issued(&self) -> usize {
        self.with(State::expire_issued)
    }
}
