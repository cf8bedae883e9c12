//! Issues temporary credentials.

use std::time::Duration;

use jiff::Timestamp;
use rand::{RngExt, rngs::StdRng};
use serde::Serialize;
use serde_json::{Value, json};

use super::access::{Access, AccessKey};
use super::clock::later;
use super::role::Role;

/// Temporary credentials that the emulator issued, in plain text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// `STS.` and 25 characters.
    pub access_key_id: String,
    /// The secret.
    pub access_key_secret: String,
    /// The security token. It contains characters that URLs and forms must escape.
    pub security_token: String,
    /// The ARN of the role.
    pub role_arn: String,
    /// The name of the session.
    pub role_session_name: String,
    /// When they were issued, by the emulator's clock.
    pub issued_at: Timestamp,
    /// When they expire, unless they are revoked before. A whole second.
    pub expires_at: Timestamp,
}

impl Issued {
    /// The fields that the replies of STS, the metadata service and a credentials URI share.
    pub(super) fn fields(&self) -> Value {
        json!({
            "AccessKeyId": self.access_key_id,
            "AccessKeySecret": self.access_key_secret,
            "SecurityToken": self.security_token,
            "Expiration": wire_time(self.expires_at),
        })
    }
}

/// `yyyy-MM-ddTHH:mm:ssZ`.
pub(super) fn wire_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Issues temporary credentials, and remembers them.
#[derive(Debug, Default)]
pub(super) struct Issuer {
    /// Oldest first.
    pub issued: Vec<Issued>,
    /// The lifetime of new credentials, instead of the requested one. Zero: they expire immediately.
    pub lifetime: Option<Duration>,
}

impl Issuer {
    /// Issues credentials of a role, and adds their key to `access`.
    pub fn issue(
        &mut self,
        access: &mut Access,
        rng: &mut StdRng,
        role: &Role,
        session: &str,
        (lifetime, now): (Duration, Timestamp),
    ) -> Issued {
        let end = later(now, self.lifetime.unwrap_or(lifetime));
        let issued = Issued {
            access_key_id: format!("STS.{}", draw(rng, ALPHANUMERIC, 25)),
            access_key_secret: draw(rng, ALPHANUMERIC, 44),
            security_token: format!("CAIS{}==", draw(rng, BASE64, 290)),
            role_arn: role.arn.clone(),
            role_session_name: session.to_owned(),
            issued_at: now,
            // Replies show whole seconds, so the credentials expire at a whole second.
            expires_at: Timestamp::from_second(end.as_second()).unwrap_or(end),
        };
        self.issued.push(issued.clone());
        let key = AccessKey {
            denied: role.denied.clone(),
            instances: role.instances.clone(),
            ..AccessKey::new(&issued.access_key_id, &issued.access_key_secret)
        };
        access.keys.push(
            key.temporary(&issued.security_token, Some(issued.expires_at))
                .account(role.account())
                .principal(format!("assumed-role/{}/{session}", role.name())),
        );
        issued
    }

    /// Expires all issued keys now. Returns how many were valid.
    pub fn expire_all(&self, access: &mut Access, now: Timestamp) -> usize {
        let mut expired = 0;
        for issued in &self.issued {
            let mut keys = access.keys.iter_mut();
            if let Some(key) = keys.find(|key| key.id == issued.access_key_id)
                && key.expires_at.is_none_or(|end| end > now)
            {
                key.expires_at = Some(now);
                expired += 1;
            }
        }
        expired
    }
}

pub(super) const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Random characters of an alphabet.
pub(super) fn draw(rng: &mut StdRng, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}
