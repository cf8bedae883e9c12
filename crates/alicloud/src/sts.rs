//! The API that issues temporary credentials, STS: one method per action, one attempt per call.

pub mod endpoint;

use std::time::Duration;

use serde::Deserialize;
use tokio::time::Instant;

use self::endpoint::StsEndpoint;
use super::{
    access_key::{Credentials, Secret, TemporaryCredentials},
    api::{WITHHELD, has_form},
    endpoint::Endpoint,
    error::{Error, Unreadable},
    redact::contains_secret,
    role::RoleArn,
    rpc::{Accepted, Call, Rpc, SHORT_REPLY, Unsigned},
    session_name::SessionName,
};

/// Version of the STS API.
const VERSION: &str = "2015-04-01";

/// Longest ARN that is shown, in characters.
const MAX_ARN: usize = 256;
/// Longest number of an account and type of an identity, in characters.
const MAX_WORD: usize = 32;

/// A client of STS. Cheap to clone.
///
/// Each method makes one attempt and repeats nothing. Source of actions and parameters: the STS API reference, version
/// 2015-04-01.
#[derive(Clone)]
pub struct Sts {
    rpc: Rpc,
    endpoint: StsEndpoint,
    timeout: Duration,
}

/// Which role to become, and how.
#[derive(Clone, Debug)]
pub struct AssumeRole {
    /// The role.
    pub role_arn: RoleArn,
    /// The name in the cloud's audit log.
    pub session_name: SessionName,
    /// What the role's trust policy may ask for.
    pub external_id: Option<String>,
    /// A policy that narrows the role's rights down.
    pub policy: Option<String>,
    /// How long the credentials shall be good: 15 minutes, and up to what the role allows, an hour unless changed.
    pub duration: Duration,
}

/// Which role to become by a token of an identity provider, and how.
#[derive(Clone, Debug)]
pub struct AssumeRoleWithOidc {
    /// The role, and all that is asked for when another identity becomes it. No external id is sent: the API takes none.
    pub role: AssumeRole,
    /// ARN of the identity provider at the cloud.
    pub provider_arn: String,
    /// The identity provider's token: says who we are, so it is as good as a key while it is good.
    pub token: Secret,
}

/// Who a set of credentials is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The account, a number.
    pub account: String,
    /// ARN of the user or the assumed role: at most 256 of `[A-Za-z0-9:/._@-]`. [`WITHHELD`] if it does not
    /// have that form or contains a part of the credentials.
    pub arn: String,
    /// What it is, such as `RAMUser` or `AssumedRoleUser`: at most 32 letters and digits, or [`WITHHELD`]
    /// likewise.
    pub identity_type: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct TemporaryCredentialsReply {
    credentials: TemporaryCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CallerIdentityReply {
    account_id: String,
    arn: String,
    identity_type: String,
}

impl Sts {
    /// The role's session that is asked for unless a profile says otherwise: what every role allows.
    pub const DURATION: Duration = Duration::from_secs(60 * 60);

    /// A client that waits no longer than `timeout` for a call.
    #[must_use]
    pub fn new(rpc: Rpc, endpoint: StsEndpoint, timeout: Duration) -> Self {
        Self { rpc, endpoint, timeout }
    }

    /// The same at another endpoint.
    #[must_use]
    pub fn at(&self, endpoint: StsEndpoint) -> Self {
        Self { endpoint, ..self.clone() }
    }

    /// What it calls.
    #[must_use]
    pub fn endpoint(&self) -> &StsEndpoint {
        &self.endpoint
    }

    /// Becomes a role (`AssumeRole`).
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn assume_role(&self, caller: &Credentials, role: &AssumeRole) -> Result<Credentials, Error> {
        let AssumeRole { role_arn, session_name, external_id, policy, duration } = role;
        let duration = duration.as_secs().to_string();
        let mut parameters = vec![
            ("RoleArn", role_arn.as_str()),
            ("RoleSessionName", session_name.as_str()),
            ("DurationSeconds", duration.as_str()),
        ];
        parameters.extend(external_id.as_deref().map(|id| ("ExternalId", id)));
        parameters.extend(policy.as_deref().map(|policy| ("Policy", policy)));
        let accepted = self.call("AssumeRole", caller, &parameters).await?;
        self.issued(&accepted)
    }

    /// Becomes a role by a token (`AssumeRoleWithOIDC`). The call is not signed; the token travels in the body, never in
    /// the URL.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn assume_role_with_oidc(&self, ask: &AssumeRoleWithOidc) -> Result<Credentials, Error> {
        let AssumeRoleWithOidc { role, provider_arn, token } = ask;
        let AssumeRole { role_arn, session_name, external_id: _, policy, duration } = role;
        let duration = duration.as_secs().to_string();
        let mut form = vec![
            ("RoleArn", role_arn.as_str()),
            ("OIDCProviderArn", provider_arn.as_str()),
            ("OIDCToken", token.expose()),
            ("RoleSessionName", session_name.as_str()),
            ("DurationSeconds", duration.as_str()),
        ];
        form.extend(policy.as_deref().map(|policy| ("Policy", policy)));
        // A reply may quote the token, or one of its three parts.
        let secrets: Vec<&str> = std::iter::once(token.expose())
            .chain(token.expose().split('.').filter(|part| part.len() > 8))
            .collect();
        let endpoint = self.endpoint.resolve();
        let action = "AssumeRoleWithOIDC";
        let call = Unsigned { action, version: VERSION, endpoint: &endpoint, form: &form, secrets: &secrets };
        let accepted = self.rpc.call_unsigned(&call, Instant::now() + self.timeout).await?;
        self.issued(&accepted)
    }

    /// Asks who we are (`GetCallerIdentity`), which needs no right.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn get_caller_identity(&self, caller: &Credentials) -> Result<CallerIdentity, Error> {
        let accepted = self.call("GetCallerIdentity", caller, &[]).await?;
        let CallerIdentityReply { account_id, arn, identity_type } = accepted.read()?;
        if !has_form(&account_id, "", MAX_WORD) || !account_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(accepted.unreadable(Unreadable::WrongShape));
        }
        let shown = |text: String, others, longest| {
            let fits = has_form(&text, others, longest) && !contains_secret(&text, &caller.secrets());
            if fits { text } else { WITHHELD.to_owned() }
        };
        Ok(CallerIdentity {
            account: account_id,
            arn: shown(arn, ":/._@-", MAX_ARN),
            identity_type: shown(identity_type, "", MAX_WORD),
        })
    }

    async fn call(
        &self,
        action: &'static str,
        caller: &Credentials,
        parameters: &[(&str, &str)],
    ) -> Result<Accepted, Error> {
        let endpoint: &Endpoint = &self.endpoint.resolve();
        let (version, limit) = (VERSION, SHORT_REPLY);
        let call = Call { action, version, endpoint, parameters, signed_at: None, limit, secret: "" };
        self.rpc.call(&call, caller, Instant::now() + self.timeout).await
    }

    fn issued(&self, accepted: &Accepted) -> Result<Credentials, Error> {
        let TemporaryCredentialsReply { credentials } = accepted.read()?;
        credentials
            .credentials(self.rpc.clock.now())
            .map_err(|unusable| accepted.unreadable(Unreadable::Credentials(unusable)))
    }
}

#[cfg(test)]
mod tests;
