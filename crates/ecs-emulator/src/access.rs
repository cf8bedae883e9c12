//! Authentication: access keys, security tokens and used nonces.

use std::collections::{BTreeSet, HashSet, VecDeque};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::action::Action;
use super::signature::{Proof, TOLERANCE};
use super::wire::{ApiError, Request};

/// An access key that the emulator accepts. The default is a well-known key without a security token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct AccessKey {
    /// Its id.
    pub id: String,
    /// Its secret, the key of the signatures.
    pub secret: String,
    /// The security token that a call must have, for a temporary key.
    pub security_token: Option<String>,
    /// When the token expires; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// Actions that the key has no permission for.
    pub denied: BTreeSet<Action>,
    /// Its account. The key sees the instances of this account.
    pub account: String,
    /// The instances that the key has permissions for; `None`: all of its account.
    pub instances: Option<BTreeSet<String>>,
    /// The owner of the key: the ARN without `acs:ram::ACCOUNT:`: `user/NAME`, `assumed-role/ROLE/SESSION`,
    /// or `root`.
    pub principal: String,
}

impl AccessKey {
    /// Id of the default key.
    pub const DEFAULT_ID: &str = "emulator-access-key";
    /// Secret of the default key.
    pub const DEFAULT_SECRET: &str = "emulator-access-key-secret";
    /// The default account of keys and instances.
    pub const DEFAULT_ACCOUNT: &str = "1000000000000001";
    /// The default principal: a RAM user.
    pub const DEFAULT_PRINCIPAL: &str = "user/emulator";

    /// A key with all permissions and without a token.
    #[must_use]
    pub fn new(id: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            secret: secret.into(),
            security_token: None,
            expires_at: None,
            denied: BTreeSet::new(),
            account: Self::DEFAULT_ACCOUNT.to_owned(),
            instances: None,
            principal: Self::DEFAULT_PRINCIPAL.to_owned(),
        }
    }

    /// Makes it temporary: valid only with this token, until `expires_at`.
    #[must_use]
    pub fn temporary(mut self, security_token: impl Into<String>, expires_at: Option<Timestamp>) -> Self {
        self.security_token = Some(security_token.into());
        self.expires_at = expires_at;
        self
    }

    /// Removes the permission for an action.
    #[must_use]
    pub fn denied(mut self, action: Action) -> Self {
        self.denied.insert(action);
        self
    }

    /// Sets the account.
    #[must_use]
    pub fn account(mut self, account: impl Into<String>) -> Self {
        self.account = account.into();
        self
    }

    /// Restricts its permissions to these instances.
    #[must_use]
    pub fn only<I: Into<String>>(mut self, instances: impl IntoIterator<Item = I>) -> Self {
        self.instances = Some(instances.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the principal, such as `user/NAME`.
    #[must_use]
    pub fn principal(mut self, principal: impl Into<String>) -> Self {
        self.principal = principal.into();
        self
    }
}

impl Default for AccessKey {
    fn default() -> Self {
        Self::new(Self::DEFAULT_ID, Self::DEFAULT_SECRET)
    }
}

/// The valid keys and the used nonces.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub keys: Vec<AccessKey>,
    nonces: Nonces,
}

impl Access {
    pub fn new(keys: Vec<AccessKey>) -> Self {
        Self { keys, nonces: Nonces::default() }
    }

    /// Authenticates a request. Its nonce counts as used afterwards, also if the call fails.
    pub fn admit(
        &mut self,
        request: &Request,
        action: Action,
        now: Timestamp,
    ) -> Result<&AccessKey, ApiError> {
        let proof = Proof::read(request, action.service())?;
        let id = proof.access_key_id();
        let key = self.keys.iter().find(|key| key.id == id).ok_or_else(|| {
            let message = format!("Specified access key {id} is not found.");
            ApiError::new(404, "InvalidAccessKeyId.NotFound", message)
        })?;
        self.check_token(key, proof.security_token(request), now)?;
        let signed_at = proof.verify(request, &key.secret, now)?;
        if !self.nonces.take(proof.nonce(request), signed_at, now) {
            let message = "Specified signature nonce was used already.";
            return Err(ApiError::new(400, "SignatureNonceUsed", message));
        }
        Ok(key)
    }

    fn check_token(&self, key: &AccessKey, token: &str, now: Timestamp) -> Result<(), ApiError> {
        let belongs_elsewhere = || {
            self.keys.iter().any(|other| other.id != key.id && other.security_token.as_deref() == Some(token))
        };
        let refused = |code, message: &str| Err(ApiError::new(400, code, message));
        match &key.security_token {
            None if token.is_empty() => Ok(()),
            Some(own) if own == token && key.expires_at.is_some_and(|end| end <= now) => {
                refused("InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
            }
            Some(own) if own == token => Ok(()),
            Some(_) if token.is_empty() => {
                refused("MissingSecurityToken", "SecurityToken is mandatory for this action.")
            }
            None => refused("InvalidSecurityToken.MismatchWithAccessKey", MISMATCH),
            Some(_) if belongs_elsewhere() => refused("InvalidSecurityToken.MismatchWithAccessKey", MISMATCH),
            Some(_) => refused("InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed."),
        }
    }
}

const MISMATCH: &str = "Specified SecurityToken mismatch with the AccessKey.";

/// The nonces of all signatures that are still valid.
#[derive(Debug, Default)]
struct Nonces {
    used: HashSet<Arc<str>>,
    /// The same, with the end of validity of their signatures, roughly in that order.
    ends: VecDeque<(Timestamp, Arc<str>)>,
}

impl Nonces {
    /// Marks a nonce as used. False: it was used before.
    fn take(&mut self, nonce: &str, signed_at: Timestamp, now: Timestamp) -> bool {
        while let Some((_, old)) = self.ends.pop_front_if(|(end, _)| *end < now) {
            self.used.remove(&old);
        }
        let nonce: Arc<str> = nonce.into();
        let end = signed_at.max(now).checked_add(TOLERANCE).unwrap_or(Timestamp::MAX);
        let fresh = self.used.insert(Arc::clone(&nonce));
        if fresh {
            self.ends.push_back((end, nonce));
        }
        fresh
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn a_nonce_is_good_once_for_as_long_as_its_signature() {
        let mut nonces = Nonces::default();
        let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let at = |minutes| start + SignedDuration::from_mins(minutes);
        // Signed ahead of the clock: valid until minute 25.
        assert!(nonces.take("ahead", at(10), at(0)));
        assert!(nonces.take("b", at(0), at(0)));
        assert!(!nonces.take("b", at(0), at(15)));
        assert!(!nonces.take("ahead", at(10), at(25)));
        assert!(nonces.take("c", at(26), at(26)));
        assert_eq!(nonces.used.len(), 1);
    }

    #[test]
    fn tokens_are_judged_by_whose_they_are_and_by_the_clock() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let access = Access::new(vec![
            AccessKey::new("plain", "s"),
            AccessKey::new("sts", "s").temporary("own", Some(now + SignedDuration::from_secs(1))),
            AccessKey::new("old", "s").temporary("old", Some(now)),
        ]);
        let table = [
            ("plain", "", None),
            ("plain", "own", Some("InvalidSecurityToken.MismatchWithAccessKey")),
            ("sts", "own", None),
            ("sts", "", Some("MissingSecurityToken")),
            ("sts", "old", Some("InvalidSecurityToken.MismatchWithAccessKey")),
            ("sts", "own ", Some("InvalidSecurityToken.Malformed")),
            ("old", "old", Some("InvalidSecurityToken.Expired")),
        ];
        for (id, token, expected) in table {
            let key = access.keys.iter().find(|key| key.id == id).unwrap();
            let code = access.check_token(key, token, now).err().map(|error| error.code);
            assert_eq!(code.as_deref(), expected, "{id} with {token:?}");
        }
    }
}
