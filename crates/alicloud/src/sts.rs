//! The STS client: one method per API action, one attempt per call.

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

/// The maximum length of an ARN that is shown, in characters.
const MAX_ARN: usize = 256;
/// The maximum length of an account number or of an identity type, in characters.
const MAX_WORD: usize = 32;

/// A client of STS. Cheap to clone.
///
/// Each method makes one attempt and never retries. Source of actions and parameters: the STS API reference,
/// version 2015-04-01.
#[derive(Clone)]
pub struct Sts {
    rpc: Rpc,
    endpoint: StsEndpoint,
    timeout: Duration,
}

/// The parameters to assume a role.
#[derive(Clone, Debug)]
pub struct AssumeRole {
    /// The role.
    pub role_arn: RoleArn,
    /// The session name in the cloud's audit log.
    pub session_name: SessionName,
    /// The external id that the trust policy of the role may require.
    pub external_id: Option<String>,
    /// A session policy that restricts the permissions of the role.
    pub policy: Option<String>,
    /// The lifetime of the credentials: 15 minutes up to the maximum of the role (default: one hour).
    pub duration: Duration,
}

/// The parameters to assume a role with the token of an identity provider.
#[derive(Clone, Debug)]
pub struct AssumeRoleWithOidc {
    /// The role and its session. The external id is not sent: the API does not accept one.
    pub role: AssumeRole,
    /// The ARN of the identity provider in RAM.
    pub provider_arn: String,
    /// The token of the identity provider. It is as secret as an access key while it is valid.
    pub token: Secret,
}

/// The identity of a set of credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerIdentity {
    /// The number of the account.
    pub account: String,
    /// The ARN of the user or the assumed role: at most 256 of `[A-Za-z0-9:/._@-]`. [`WITHHELD`] if it is
    /// malformed or contains a part of the credentials.
    pub arn: String,
    /// The type, such as `RAMUser` or `AssumedRoleUser`: at most 32 letters and digits. [`WITHHELD`] as
    /// above.
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
    /// The default lifetime of a role session: what every role allows.
    pub const DEFAULT_DURATION: Duration = Duration::from_secs(60 * 60);

    /// A client with this time limit for a call.
    #[must_use]
    pub fn new(rpc: Rpc, endpoint: StsEndpoint, timeout: Duration) -> Self {
        Self { rpc, endpoint, timeout }
    }

    /// Returns this client with another endpoint.
    #[must_use]
    pub fn with_endpoint(&self, endpoint: StsEndpoint) -> Self {
        Self { endpoint, ..self.clone() }
    }

    /// The endpoint.
    #[must_use]
    pub fn endpoint(&self) -> &StsEndpoint {
        &self.endpoint
    }

    /// Assumes a role (`AssumeRole`).
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
        self.temporary_credentials(&accepted)
    }

    /// Assumes a role with a token (`AssumeRoleWithOIDC`). The call is not signed. The token is sent in the
    /// body, never in the URL.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn assume_role_with_oidc(&self, request: &AssumeRoleWithOidc) -> Result<Credentials, Error> {
        let AssumeRoleWithOidc { role, provider_arn, token } = request;
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
        // A reply may quote the token or one of its three parts.
        let secrets: Vec<&str> = std::iter::once(token.expose())
            .chain(token.expose().split('.').filter(|part| part.len() > 8))
            .collect();
        let endpoint = self.endpoint.resolve();
        let action = "AssumeRoleWithOIDC";
        let call = Unsigned { action, version: VERSION, endpoint: &endpoint, form: &form, secrets: &secrets };
        let accepted = self.rpc.call_unsigned(&call, Instant::now() + self.timeout).await?;
        self.temporary_credentials(&accepted)
    }

    /// Returns the identity of the credentials (`GetCallerIdentity`). Needs no permission.
    ///
    /// # Errors
    /// Any of [`Error`].
    pub async fn get_caller_identity(&self, caller: &Credentials) -> Result<CallerIdentity, Error> {
        let accepted = self.call("GetCallerIdentity", caller, &[]).await?;
        let CallerIdentityReply { account_id, arn, identity_type } = accepted.read()?;
        if !has_form(&account_id, "", MAX_WORD) || !account_id.bytes().all(|b| b.is_ascii_digit()) {
            return Err(accepted.unreadable(Unreadable::WrongShape));
        }
        let checked = |text: String, others, longest| {
            let fits = has_form(&text, others, longest) && !contains_secret(&text, &caller.secrets());
            if fits { text } else { WITHHELD.to_owned() }
        };
        Ok(CallerIdentity {
            account: account_id,
            arn: checked(arn, ":/._@-", MAX_ARN),
            identity_type: checked(identity_type, "", MAX_WORD),
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

    fn temporary_credentials(&self, accepted: &Accepted) -> Result<Credentials, Error> {
        let TemporaryCredentialsReply { credentials } = accepted.read()?;
        credentials
            .into_credentials(self.rpc.clock.now())
            .map_err(|unusable| accepted.unreadable(Unreadable::Credentials(unusable)))
    }
}

#[cfg(test)]
mod tests;
