//! Local routes: the metadata service of an instance, and a credentials URI. They are not an API and need no
//! signature.
//!
//! Not documented by Alibaba Cloud, so guessed: the error pages, and the 404 for a role that is attached but
//! does not exist.

use std::time::Duration;

use http::Method;
use jiff::Timestamp;
use serde_json::Value;

use super::action::{Action, Parameters};
use super::clock::later;
use super::issue::{self, Issued, wire_time};
use super::metadata::MetadataService;
use super::role::Role;
use super::state::State;
use super::sts::no_such_role;
use super::wire::{ApiError, Request};

/// The session name of an instance's credentials. The real ones end with the instance ID.
const INSTANCE_SESSION: &str = "vm-ram-i-emulator";
/// Maximum TTL of a token of the metadata service, in seconds.
const MAX_TOKEN_TTL: u64 = 21600;
/// The lifetime of an instance's credentials.
const INSTANCE_LIFETIME: Duration = Duration::from_secs(6 * 3600);
/// The lifetime of the credentials of a credentials URI.
const URI_LIFETIME: Duration = Duration::from_secs(3600);

const TOKEN: &str = "x-aliyun-ecs-metadata-token";
const TTL: &str = "x-aliyun-ecs-metadata-token-ttl-seconds";
const ROLES: &str = "/latest/meta-data/ram/security-credentials";

/// Whether a path belongs to a local route.
pub(super) fn is_local(path: &str) -> bool {
    ["/latest/", "/credentials/"].iter().any(|prefix| path.starts_with(prefix))
}

/// Finds the local route of a request.
pub(super) fn route(request: &Request) -> Result<(Action, Parameters), ApiError> {
    let (action, role) = action(&request.path).ok_or_else(not_found)?;
    let method = if action == Action::MetadataToken { Method::PUT } else { Method::GET };
    if request.method != method {
        return Err(ApiError::new(405, "Method Not Allowed", "This route takes another method."));
    }
    let header = |name: &str| request.headers.get(name).map(|_| request.header(name).to_owned());
    let values = [("Role", Some(role.to_owned())), ("Token", header(TOKEN)), ("Ttl", header(TTL))];
    let parameters = values.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
    Ok((action, parameters.collect()))
}

/// The action of a path, and the role that it names.
fn action(path: &str) -> Option<(Action, &str)> {
    if path == "/latest/api/token" {
        return Some((Action::MetadataToken, ""));
    }
    if let Some(role) = path.strip_prefix("/credentials/") {
        return (!role.is_empty()).then_some((Action::CredentialsUri, role));
    }
    match path.strip_prefix(ROLES)? {
        "" | "/" => Some((Action::MetadataRole, "")),
        rest => rest.strip_prefix('/').map(|role| (Action::MetadataCredentials, role)),
    }
}

/// Whether a request has a token of the metadata service.
pub(super) fn has_token(request: &Request) -> bool {
    request.headers.contains_key(TOKEN)
}

/// `PUT /latest/api/token`.
pub(super) fn issue_token(
    state: &mut State,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Value, ApiError> {
    if state.metadata.settings.is_none() {
        return Err(not_found());
    }
    let seconds = parameters.get("Ttl").and_then(|ttl| ttl.parse().ok());
    let Some(seconds) = seconds.filter(|seconds| (1..=MAX_TOKEN_TTL).contains(seconds)) else {
        return Err(ApiError::new(400, "Bad Request", "The time to live is missing or out of bounds."));
    };
    let token = issue::draw(&mut state.rng, issue::ALPHANUMERIC, 56);
    state.metadata.tokens.retain(|_, end| *end > now);
    state.metadata.tokens.insert(token.clone(), later(now, Duration::from_secs(seconds)));
    Ok(Value::String(token))
}

/// The name of the instance's role.
pub(super) fn role_name(state: &State, parameters: &Parameters, now: Timestamp) -> Result<Value, ApiError> {
    role(state, parameters, now).map(|role| Value::String(role.name().to_owned()))
}

/// The instance's credentials. They stay the same until an eighth of their lifetime is left, or they are
/// revoked.
pub(super) fn instance_credentials(
    state: &mut State,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let role = role(state, parameters, now)?.clone();
    if parameters.get("Role").is_none_or(|name| name != role.name()) {
        return Err(not_found());
    }
    let issued = match state.metadata.served.take() {
        Some(issued) if issued.role_arn == role.arn && is_fresh(state, &issued, now) => issued,
        _ => state.issue(&role, INSTANCE_SESSION, INSTANCE_LIFETIME, now),
    };
    let mut fields = issued.fields();
    fields["LastUpdated"] = wire_time(issued.issued_at).into();
    fields["Code"] = "Success".into();
    state.metadata.served = Some(issued);
    Ok(fields)
}

/// The reply of a credentials URI: new credentials each time.
pub(super) fn uri_credentials(
    state: &mut State,
    parameters: &Parameters,
    now: Timestamp,
) -> Result<Value, ApiError> {
    let name = parameters.get("Role").map(String::as_str).unwrap_or_default();
    let role = role_named(state, name).cloned().ok_or_else(|| no_such_role(name))?;
    let mut fields = state.issue(&role, "credentials-uri", URI_LIFETIME, now).fields();
    fields["Code"] = "Success".into();
    Ok(fields)
}

/// The ARN of the role of a local route.
pub(super) fn role_arn(state: &State, action: Action, parameters: &Parameters) -> Option<String> {
    match action {
        Action::CredentialsUri => role_named(state, parameters.get("Role")?).map(|role| role.arn.clone()),
        Action::MetadataRole | Action::MetadataCredentials => {
            state.metadata.settings.as_ref()?.role_arn.clone()
        }
        _ => None,
    }
}

/// The first role of that name, by ARN.
fn role_named<'a>(state: &'a State, name: &str) -> Option<&'a Role> {
    state.roles.values().find(|role| role.name() == name)
}

/// The instance's role, if the request is authorized.
fn role<'a>(state: &'a State, parameters: &Parameters, now: Timestamp) -> Result<&'a Role, ApiError> {
    let MetadataService { settings, tokens, .. } = &state.metadata;
    let settings = settings.as_ref().ok_or_else(not_found)?;
    let admitted = match parameters.get("Token") {
        Some(token) => tokens.get(token).is_some_and(|end| *end > now),
        None => settings.v1,
    };
    if !admitted {
        return Err(ApiError::new(403, "Forbidden", "The token is missing, wrong or expired."));
    }
    settings.role_arn.as_ref().and_then(|arn| state.roles.get(arn)).ok_or_else(not_found)
}

fn is_fresh(state: &State, issued: &Issued, now: Timestamp) -> bool {
    let life = issued.expires_at.duration_since(issued.issued_at);
    let left = issued.expires_at.duration_since(now);
    let key = state.access.keys.iter().find(|key| key.id == issued.access_key_id);
    left > life / 8 && key.is_some_and(|key| key.expires_at == Some(issued.expires_at))
}

fn not_found() -> ApiError {
    ApiError::new(404, "Not Found", "There is nothing here.")
}

#[cfg(test)]
mod tests {
    use super::super::metadata::Metadata;
    use super::*;

    const ROLE: &str = "acs:ram::1000000000000001:role/demo";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    fn state(settings: Option<Metadata>) -> State {
        let mut state = State::new(vec![], 100, 1);
        state.roles.insert(ROLE.to_owned(), Role::new(ROLE));
        state.metadata.settings = settings;
        state
    }

    fn parameters(pairs: &[(&str, &str)]) -> Parameters {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn routes_have_a_path_and_a_method() {
        let table = [
            ("PUT", "/latest/api/token", "MetadataToken "),
            ("GET", "/latest/api/token", "405"),
            ("GET", "/latest/meta-data/ram/security-credentials", "MetadataRole "),
            ("GET", "/latest/meta-data/ram/security-credentials/", "MetadataRole "),
            ("GET", "/latest/meta-data/ram/security-credentials/demo", "MetadataCredentials demo"),
            ("POST", "/latest/meta-data/ram/security-credentials/demo", "405"),
            ("GET", "/latest/meta-data/ram/security-credentialsdemo", "404"),
            ("GET", "/latest/meta-data/instance-id", "404"),
            ("GET", "/credentials/demo", "CredentialsUri demo"),
            ("GET", "/credentials/", "404"),
        ];
        for (method, path, expected) in table {
            assert!(is_local(path), "{path}");
            let request = http::Request::builder().method(method).uri(path).body(()).unwrap();
            let request = Request::new(request.into_parts().0, bytes::Bytes::new());
            let found = match route(&request) {
                Ok((action, parameters)) => format!("{} {}", action.as_str(), parameters["Role"]),
                Err(error) => error.status.to_string(),
            };
            assert_eq!(found, expected, "{method} {path}");
        }
        assert!(!is_local("/") && !is_local("/latest"));
    }

    #[test]
    fn a_token_is_valid_for_its_ttl() {
        let mut state = state(Some(Metadata::of_role(ROLE).hardened()));
        for ttl in ["", "0", "21601", "x", "-1"] {
            let error = issue_token(&mut state, &parameters(&[("Ttl", ttl)]), at(0)).unwrap_err();
            assert_eq!(error.status, 400, "{ttl}");
        }
        let token = issue_token(&mut state, &parameters(&[("Ttl", "60")]), at(0)).unwrap();
        let token = token.as_str().unwrap();
        let table = [
            (at(59), vec![("Token", token)], 200),
            (at(60), vec![("Token", token)], 403),
            (at(0), vec![("Token", "other")], 403),
            (at(0), vec![], 403),
        ];
        for (now, pairs, expected) in table {
            let outcome = role_name(&state, &parameters(&pairs), now);
            assert_eq!(outcome.map_or_else(|error| error.status, |_| 200), expected, "{now} {pairs:?}");
        }
    }

    #[test]
    fn a_missing_service_or_role_is_not_found() {
        let gone = "acs:ram::1000000000000001:role/gone";
        for settings in [None, Some(Metadata::default()), Some(Metadata::of_role(gone))] {
            let mut state = state(settings.clone());
            assert_eq!(role_name(&state, &parameters(&[]), at(0)).unwrap_err().status, 404, "{settings:?}");
            let role = parameters(&[("Role", "gone")]);
            let error = instance_credentials(&mut state, &role, at(0)).unwrap_err();
            assert_eq!(error.status, 404, "{settings:?}");
        }
        let error = issue_token(&mut state(None), &parameters(&[("Ttl", "60")]), at(0)).unwrap_err();
        assert_eq!(error.status, 404);
    }

    #[test]
    fn credentials_are_served_again_until_they_expire_soon() {
        let mut state = state(Some(Metadata::of_role(ROLE)));
        let serve = |state: &mut State, seconds| {
            let fields = instance_credentials(state, &parameters(&[("Role", "demo")]), at(seconds)).unwrap();
            assert_eq!(fields["Code"], "Success");
            fields["AccessKeyId"].as_str().unwrap().to_owned()
        };
        let hour = 3600;
        let first = serve(&mut state, 0);
        assert_eq!(serve(&mut state, 5 * hour), first);
        let second = serve(&mut state, 5 * hour + hour / 4);
        assert_ne!(second, first);
        state.access.keys.retain(|key| key.id != second);
        let third = serve(&mut state, 6 * hour);
        assert_ne!(third, second, "a revoked key is not served");
        state.expire_issued(at(6 * hour));
        assert_ne!(serve(&mut state, 6 * hour), third, "an expired key is not served");
    }
}
