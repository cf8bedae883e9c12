//! Control routes about access keys, roles, the metadata service, and the credentials given out.

use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Refusal, found, no_route, parse, to_value};
use crate::cloud::Cloud;
use crate::metadata::Metadata;
use crate::role::Role;

pub fn access_keys(cloud: &Cloud, method: &Method, rest: &[&str], body: &[u8]) -> Result<Value, Refusal> {
    match (method.as_str(), rest) {
        ("GET", []) => to_value(&cloud.access_keys()),
        ("PUT", []) => {
            cloud.set_access_keys(parse(body)?);
            Ok(json!({}))
        }
        ("POST", []) => {
            cloud.put_access_key(parse(body)?);
            Ok(json!({}))
        }
        ("DELETE", [id]) => found(cloud.revoke_access_key(id), "access key", id),
        _ => Err(no_route()),
    }
}

/// `arn` is the rest of the path, slash and all.
pub fn roles(cloud: &Cloud, method: &Method, arn: &str, body: &[u8]) -> Result<Value, Refusal> {
    match (method.as_str(), arn) {
        ("GET", "") => to_value(&cloud.roles()),
        ("PUT", "") => {
            for role in parse::<Vec<Role>>(body)? {
                put_role(cloud, role)?;
            }
            Ok(json!({}))
        }
        ("PUT", arn) => {
            let mut role = if body.is_empty() { Role::default() } else { parse(body)? };
            arn.clone_into(&mut role.arn);
            put_role(cloud, role)?;
            Ok(json!({}))
        }
        ("DELETE", arn) => found(cloud.remove_role(arn), "role", arn),
        _ => Err(no_route()),
    }
}

fn put_role(cloud: &Cloud, role: Role) -> Result<(), Refusal> {
    if role.name().is_empty() {
        let error = format!("{:?} is not of the form acs:ram::ACCOUNT:role/NAME", role.arn);
        return Err((StatusCode::BAD_REQUEST, error));
    }
    cloud.put_role(role);
    Ok(())
}

pub fn metadata(cloud: &Cloud, method: &Method, body: &[u8]) -> Result<Value, Refusal> {
    match method.as_str() {
        "PUT" => cloud.set_metadata(Some(parse::<Metadata>(body)?)),
        "DELETE" => cloud.set_metadata(None),
        "GET" => {}
        _ => return Err(no_route()),
    }
    to_value(&cloud.metadata())
}

pub fn issued(cloud: &Cloud, method: &Method, rest: &[&str], body: &[u8]) -> Result<Value, Refusal> {
    match (method.as_str(), rest) {
        ("GET", []) => to_value(&cloud.issued()),
        ("POST", ["expire"]) => Ok(json!({"expired": cloud.expire_issued()})),
        ("PUT", ["lifetime"]) => {
            cloud.set_sts_lifetime(Some(Duration::from_millis(parse(body)?)));
            Ok(json!({}))
        }
        ("DELETE", ["lifetime"]) => {
            cloud.set_sts_lifetime(None);
            Ok(json!({}))
        }
        _ => Err(no_route()),
    }
}
