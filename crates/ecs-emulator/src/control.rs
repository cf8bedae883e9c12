//! The control routes under `/_emulator/`, the JSON API of [`Cloud`] for other programs. See
//! `docs/emulator.md`. `identity` has the routes for keys, roles and credentials.

mod identity;

use std::time::Duration;

use http::{Method, StatusCode};
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::action::Action;
use super::cloud::Cloud;
use super::fault::{self, Fault};
use super::instance::Instance;
use super::wire::Rendered;

/// The path prefix of the control routes.
pub(super) const PREFIX: &str = "/_emulator/";

/// The status and the message of a failed control request.
type Refusal = (StatusCode, String);

/// Handles a request to `PREFIX` + `route`.
pub(super) fn respond(
    cloud: &Cloud,
    method: &Method,
    route: &str,
    query: Option<&str>,
    body: &[u8],
) -> Rendered {
    let parts: Vec<&str> = route.trim_end_matches('/').split('/').collect();
    let result = match parts.as_slice() {
        ["health"] => Ok(json!({"status": "ok"})),
        ["instances", rest @ ..] => instances(cloud, method, rest, body),
        ["faults", rest @ ..] => faults(cloud, method, rest, body),
        ["limits", rest @ ..] => limits(cloud, method, rest, body),
        ["access-keys", rest @ ..] => identity::access_keys(cloud, method, rest, body),
        ["roles", rest @ ..] => identity::roles(cloud, method, &rest.join("/"), body),
        ["metadata"] => identity::metadata(cloud, method, body),
        ["issued", rest @ ..] => identity::issued(cloud, method, rest, body),
        ["clock"] => clock(cloud, method, body),
        ["settings"] => settings(cloud, method, body),
        ["journal"] if *method == Method::GET => journal(cloud, query),
        _ => Err(no_route()),
    };
    match result {
        Ok(value) => Rendered::control(StatusCode::OK, &value),
        Err((status, error)) => Rendered::control(status, &json!({"error": error})),
    }
}

fn instances(cloud: &Cloud, method: &Method, rest: &[&str], body: &[u8]) -> Result<Value, Refusal> {
    match (method.as_str(), rest) {
        ("GET", []) => to_value(&cloud.instances()),
        ("PUT", []) => {
            for instance in parse::<Vec<Instance>>(body)? {
                cloud.put_instance(instance);
            }
            Ok(json!({}))
        }
        ("GET", [id]) => {
            cloud.instance(id).map_or_else(|| Err(no_such("instance", id)), |view| to_value(&view))
        }
        ("PUT", [id]) => {
            let mut instance = if body.is_empty() { Instance::default() } else { parse(body)? };
            (*id).clone_into(&mut instance.id);
            cloud.put_instance(instance);
            Ok(json!({}))
        }
        ("DELETE", [id]) => found(cloud.remove_instance(id), "instance", id),
        ("PUT", [id, "status"]) => found(cloud.set_status(id, parse(body)?), "instance", id),
        ("POST", [id, "restart"]) => found(cloud.restart(id), "instance", id),
        _ => Err(no_route()),
    }
}

fn faults(cloud: &Cloud, method: &Method, rest: &[&str], body: &[u8]) -> Result<Value, Refusal> {
    #[derive(Serialize)]
    struct Listed {
        id: fault::FaultId,
        #[serde(flatten)]
        fault: Fault,
    }
    match (method.as_str(), rest) {
        ("GET", []) => {
            let listed = cloud.faults().into_iter().map(|(id, fault)| Listed { id, fault });
            to_value(&listed.collect::<Vec<_>>())
        }
        ("POST", []) => Ok(json!({"id": cloud.inject(parse(body)?)})),
        ("DELETE", []) => {
            cloud.clear_faults();
            Ok(json!({}))
        }
        ("DELETE", [id]) => found(id.parse().is_ok_and(|id| cloud.remove_fault(id)), "fault", id),
        _ => Err(no_route()),
    }
}

fn limits(cloud: &Cloud, method: &Method, rest: &[&str], body: &[u8]) -> Result<Value, Refusal> {
    match (method.as_str(), rest) {
        ("GET", []) => to_value(&cloud.limits()),
        ("PUT" | "DELETE", [name]) => {
            let action = Action::named(name).ok_or_else(|| no_such("action", name))?;
            cloud.set_limit(action, if *method == Method::PUT { Some(parse(body)?) } else { None });
            Ok(json!({}))
        }
        _ => Err(no_route()),
    }
}

fn clock(cloud: &Cloud, method: &Method, body: &[u8]) -> Result<Value, Refusal> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
    struct Change {
        now: Option<Timestamp>,
        advance_ms: Option<u64>,
        scale: Option<u32>,
    }
    if *method == Method::PUT {
        let Change { now, advance_ms, scale } = parse(body)?;
        let clock = cloud.clock();
        if let Some(scale) = scale {
            clock.set_scale(scale);
        }
        if let Some(now) = now {
            clock.set(now);
        }
        if let Some(millis) = advance_ms {
            clock.advance(Duration::from_millis(millis));
        }
    } else if *method != Method::GET {
        return Err(no_route());
    }
    Ok(json!({"now": cloud.now(), "scale": cloud.clock().scale()}))
}

fn settings(cloud: &Cloud, method: &Method, body: &[u8]) -> Result<Value, Refusal> {
    #[derive(Default, Deserialize)]
    #[serde(default, deny_unknown_fields, rename_all = "camelCase")]
    struct Change {
        reboot_time_ms: Option<u64>,
        send_retry_after: Option<bool>,
    }
    if *method == Method::PUT {
        let Change { reboot_time_ms, send_retry_after } = parse(body)?;
        if let Some(millis) = reboot_time_ms {
            cloud.set_reboot_time(Duration::from_millis(millis));
        }
        if let Some(send) = send_retry_after {
            cloud.set_send_retry_after(send);
        }
    } else if *method != Method::GET {
        return Err(no_route());
    }
    let millis = u64::try_from(cloud.reboot_time().as_millis()).unwrap_or(u64::MAX);
    Ok(json!({"rebootTimeMs": millis, "sendRetryAfter": cloud.send_retry_after()}))
}

fn journal(cloud: &Cloud, query: Option<&str>) -> Result<Value, Refusal> {
    let after = match query {
        None => 0,
        Some(query) => query
            .strip_prefix("after=")
            .and_then(|number| number.parse().ok())
            .ok_or_else(|| (StatusCode::BAD_REQUEST, "the query must be after=NUMBER".to_owned()))?,
    };
    to_value(&cloud.journal_since(after))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))
}

fn to_value<T: Serialize>(value: &T) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn found(found: bool, kind: &str, id: &str) -> Result<Value, Refusal> {
    if found { Ok(json!({})) } else { Err(no_such(kind, id)) }
}

fn no_such(kind: &str, id: &str) -> Refusal {
    (StatusCode::NOT_FOUND, format!("there is no {kind} {id}"))
}

fn no_route() -> Refusal {
    (StatusCode::NOT_FOUND, "there is no such control route for this method".to_owned())
}
