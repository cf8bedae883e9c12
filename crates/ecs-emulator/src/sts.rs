//! The operations of STS, version 2015-04-01.
//!
//! Codes and messages are from the API reference. Not documented, so guessed: that all parameters are checked
//! before the role is looked up, and that a wrong `ExternalId` gets the error for missing trust.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::action::Parameters;
use super::call::{Call, Caller};
use super::issue::Issued;
use super::role::{Role, split_arn};
use super::state::State;
use super::wire::ApiError;

/// Minimum of `DurationSeconds`.
const MIN_SECONDS: u64 = 900;
/// Default of `DurationSeconds`.
const DEFAULT_SECONDS: u64 = 3600;

/// Returns the identity of the caller. This needs no permission.
pub(super) fn get_caller_identity(caller: &Caller) -> Value {
    let Caller { account, principal, .. } = caller;
    let arn = format!("acs:ram::{account}:{principal}");
    let mut parts = principal.splitn(3, '/');
    match (parts.next(), parts.next(), parts.next()) {
        (Some("assumed-role"), Some(role), Some(session)) => {
            let role_id = number(&format!("acs:ram::{account}:role/{role}"));
            json!({
                "IdentityType": "AssumedRoleUser",
                "AccountId": account,
                "PrincipalId": format!("{role_id}:{session}"),
                "RoleId": role_id,
                "Arn": arn,
            })
        }
        (Some("root"), ..) => json!({
            "IdentityType": "Account",
            "AccountId": account,
            "PrincipalId": account,
            "UserId": account,
            "Arn": arn,
        }),
        _ => json!({
            "IdentityType": "RAMUser",
            "AccountId": account,
            "PrincipalId": number(&arn),
            "UserId": number(&arn),
            "Arn": arn,
        }),
    }
}

/// Issues credentials of a role that trusts the caller.
pub(super) fn assume_role(state: &mut State, call: &Call, now: Timestamp) -> Result<Value, ApiError> {
    let request = AssumeRequest::read(&call.parameters)?;
    let external_id = external_id(&call.parameters)?;
    if call.caller.principal == "root" {
        return Err(no_permission("Roles may not be assumed by root accounts."));
    }
    if call.denied {
        let message = "You are not authorized to do this action. You should be authorized by RAM.";
        return Err(no_permission(message));
    }
    let role = request.role(state)?;
    let external_id_fits = role.external_id.is_none() || role.external_id.as_deref() == external_id;
    if !role.trusts(&call.caller.account) || !external_id_fits {
        let message = "No permission perform sts:AssumeRole on this Role. Maybe you are not authorized to \
                       perform sts:AssumeRole or the specified role does not trust you";
        return Err(no_permission(message));
    }
    let lifetime = request.lifetime(&role)?;
    let issued = state.issue(&role, request.session, lifetime, now);
    Ok(reply(&role, &issued))
}

/// Issues credentials of a role for a token of an identity provider that it trusts.
pub(super) fn assume_role_with_oidc(
    state: &mut State,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let request = AssumeRequest::read(parameters)?;
    let provider = parameters.get("OIDCProviderArn").map(String::as_str).unwrap_or_default();
    let token = parameters.get("OIDCToken").map(String::as_str).unwrap_or_default();
    let refused = |message: &str| ApiError::new(401, "AuthenticationFail.NoPermission", message);
    if provider.is_empty() {
        return Err(refused("Parameter OIDCProviderArn is not valid"));
    }
    let role = request.role(state)?;
    let known = |other: &Role| other.oidc.as_ref().is_some_and(|trust| trust.provider_arn == provider);
    if !state.roles.values().any(known) {
        return Err(refused("No such OIDC Provider registered."));
    }
    let trust = role.oidc.as_ref().filter(|trust| trust.provider_arn == provider);
    let claims = trust.ok_or_else(|| refused("There is no permission"))?.judge(token, now)?;
    let lifetime = request.lifetime(&role)?;
    let issued = state.issue(&role, request.session, lifetime, now);
    let mut reply = reply(&role, &issued);
    if let Some(claims) = claims {
        reply["OIDCTokenInfo"] = json!({
            "Issuer": claims.iss.unwrap_or_default(),
            "Subject": claims.sub.unwrap_or_default(),
            "VerificationInfo": "Success",
        });
    }
    Ok(reply)
}

/// The common parameters of both calls that assume a role.
struct AssumeRequest<'a> {
    role_arn: &'a str,
    session: &'a str,
    /// `DurationSeconds`.
    seconds: Option<u64>,
}

impl<'a> AssumeRequest<'a> {
    fn read(parameters: &'a Parameters) -> Result<Self, ApiError> {
        let get = |name: &str| parameters.get(name).map(String::as_str).unwrap_or_default();
        let (role_arn, session, seconds) = (get("RoleArn"), get("RoleSessionName"), get("DurationSeconds"));
        if role_arn.is_empty() {
            return Err(ApiError::new(400, "MissingParameter.RoleArn", "Parameter RoleArn is required."));
        }
        if split_arn(role_arn).is_none() {
            return Err(malformed("RoleArn"));
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".@-_".contains(&byte);
        if !(2..=64).contains(&session.len()) || !session.bytes().all(allowed) {
            return Err(malformed("RoleSessionName"));
        }
        // What cannot be read is zero: out of bounds.
        let seconds = (!seconds.is_empty()).then(|| seconds.parse().unwrap_or_default());
        Ok(Self { role_arn, session, seconds })
    }

    fn role(&self, state: &State) -> Result<Role, ApiError> {
        state.roles.get(self.role_arn).cloned().ok_or_else(|| no_such_role(self.role_arn))
    }

    /// The life it asks for, within the bounds of the role.
    fn lifetime(&self, role: &Role) -> Result<Duration, ApiError> {
        let longest = role.max_session_seconds.max(MIN_SECONDS);
        let seconds = self.seconds.unwrap_or(DEFAULT_SECONDS.min(longest));
        if (MIN_SECONDS..=longest).contains(&seconds) {
            return Ok(Duration::from_secs(seconds));
        }
        let message = format!("The Min/Max value of DurationSeconds is {MIN_SECONDS}s/{longest}s.");
        Err(ApiError::new(400, "InvalidParameter.DurationSeconds", message))
    }
}

/// `ExternalId`, if it is there and of the right form.
fn external_id(parameters: &Parameters) -> Result<Option<&str>, ApiError> {
    let Some(external_id) = parameters.get("ExternalId").map(String::as_str) else {
        return Ok(None);
    };
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@:/-".contains(&byte);
    if (2..=1224).contains(&external_id.len()) && external_id.bytes().all(allowed) {
        return Ok(Some(external_id));
    }
    Err(malformed("ExternalId"))
}

fn reply(role: &Role, issued: &Issued) -> Value {
    let session = &issued.role_session_name;
    json!({
        "Credentials": issued.fields(),
        "AssumedRoleUser": {
            "Arn": format!("{}/{session}", role.arn),
            "AssumedRoleId": format!("{}:{session}", number(&role.arn)),
        },
    })
}

/// The id of a user or role: as the real ones 18 digits, the same for the same ARN.
fn number(arn: &str) -> String {
    let digits =
        Sha256::digest(arn).iter().take(17).map(|byte| char::from(b'0' + byte % 10)).collect::<String>();
    format!("3{digits}")
}

pub(super) fn no_such_role(arn: &str) -> ApiError {
    ApiError::new(404, "EntityNotExist.Role", format!("The role not exists: {arn}. "))
}

fn no_permission(message: &str) -> ApiError {
    ApiError::new(403, "NoPermission", message)
}

fn malformed(name: &str) -> ApiError {
    let message = format!("The parameter {name} is wrongly formed.");
    ApiError::new(400, format!("InvalidParameter.{name}"), message)
}

#[cfg(test)]
mod tests;
