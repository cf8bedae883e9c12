//! Temporary credentials: how they are made, for how long they are good, and a list of all that were ever given out.

use std::time::Duration;

use jiff::Timestamp;
use rand::{RngExt, rngs::StdRng};
use serde::Serialize;
use serde_json::{Value, json};

use super::access::AccessKey;
use super::clock::later;
use super::role::Role;
use super::state::State;

/// Credentials that the emulator gave out, in clear.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Issued {
    /// `STS.` and 25 characters.
    pub access_key_id: String,
    /// Its secret.
    pub access_key_secret: String,
    /// Its token, with characters that URLs and forms have to escape.
    pub security_token: String,
    /// The role they are of.
    pub role_arn: String,
    /// The name of the session.
    pub role_session_name: String,
    /// When they were given out, by the emulator's clock.
    pub issued_at: Timestamp,
    /// Until when they are good unless they are ended before, to the second.
    pub expires_at: Timestamp,
}

impl Issued {
    /// The fields that STS, the metadata service and a credentials URI all write.
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

/// What was given out, and how it is.
#[derive(Debug, Default)]
pub(super) struct Issuer {
    pub given_out: Vec<Issued>,
    /// How long new credentials are good, whatever was asked for; zero: expired on arrival.
    pub lifetime: Option<Duration>,
}

/// Gives out credentials of a role and puts their key into force.
pub(super) fn issue(
    state: &mut State,
    role: &Role,
    session: &str,
    lifetime: Duration,
    now: Timestamp,
) -> Issued {
    let end = later(now, state.issuer.lifetime.unwrap_or(lifetime));
    let rng = &mut state.rng;
    let issued = Issued {
        access_key_id: format!("STS.{}", draw(rng, ALPHANUMERIC, 25)),
        access_key_secret: draw(rng, ALPHANUMERIC, 44),
        security_token: format!("CAIS{}==", draw(rng, BASE64, 290)),
        role_arn: role.arn.clone(),
        role_session_name: session.to_owned(),
        issued_at: now,
        // Replies show whole seconds: what they show is what holds.
        expires_at: Timestamp::from_second(end.as_second()).unwrap_or(end),
    };
    state.issuer.given_out.push(issued.clone());
    let key = AccessKey {
        denied: role.denied.clone(),
        instances: role.instances.clone(),
        ..AccessKey::new(&issued.access_key_id, &issued.access_key_secret)
    };
    state.access.keys.push(
        key.temporary(&issued.security_token, Some(issued.expires_at))
            .account(role.account())
            .principal(format!("assumed-role/{}/{session}", role.name())),
    );
    issued
}

/// Has every key that was given out expire now. How many were still good.
pub(super) fn expire_all(state: &mut State, now: Timestamp) -> usize {
    let mut ended = 0;
    for issued in &state.issuer.given_out {
        let mut keys = state.access.keys.iter_mut();
        if let Some(key) = keys.find(|key| key.id == issued.access_key_id)
            && key.expires_at.is_none_or(|end| end > now)
        {
            key.expires_at = Some(now);
            ended += 1;
        }
    }
    ended
}

pub(super) const ALPHANUMERIC: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
const BASE64: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Random characters of an alphabet.
pub(super) fn draw(rng: &mut StdRng, alphabet: &[u8], length: usize) -> String {
    (0..length).map(|_| char::from(alphabet[rng.random_range(0..alphabet.len())])).collect()
}
