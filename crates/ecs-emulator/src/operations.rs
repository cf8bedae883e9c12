//! The operations: check the parameters, change the state, return the fields of the reply.

use std::ops::Bound::{Excluded, Unbounded};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::action::{Action, Parameters, Service};
use super::call::{Call, Caller};
use super::instance::{Instance, Machine, Status};
use super::local;
use super::signature::hex;
use super::state::State;
use super::sts;
use super::wire::ApiError;

/// Maximum number of instances in a call and on a page.
const PAGE_LIMIT: usize = 100;
/// Default page size.
const PAGE_DEFAULT: usize = 10;

/// Performs a call. An error changes nothing.
pub(super) fn perform(state: &mut State, call: &Call, now: Timestamp) -> Result<Value, ApiError> {
    // Without permission, DescribeInstances returns an empty list, and STS has its own codes.
    let own_denial = call.action == Action::DescribeInstances || call.action.service() != Service::Ecs;
    if call.denied && !own_denial {
        return Err(forbidden());
    }
    match call.action {
        Action::DescribeInstances => describe_instances(state, call),
        Action::DescribeRegions => Ok(describe_regions(state)),
        Action::ModifyInstanceVncPasswd => modify_instance_vnc_passwd(state, call, now),
        Action::RebootInstance => reboot_instance(state, call, now),
        Action::GetCallerIdentity => Ok(sts::get_caller_identity(&call.caller)),
        Action::AssumeRole => sts::assume_role(state, call, now),
        Action::AssumeRoleWithOidc => sts::assume_role_with_oidc(state, &call.parameters, now),
        Action::MetadataToken => local::issue_token(state, &call.parameters, now),
        Action::MetadataRole => local::role_name(state, &call.parameters, now),
        Action::MetadataCredentials => local::instance_credentials(state, &call.parameters, now),
        Action::CredentialsUri => local::uri_credentials(state, &call.parameters, now),
    }
}

fn modify_instance_vnc_passwd(state: &mut State, call: &Call, now: Timestamp) -> Result<Value, ApiError> {
    let parameters = &call.parameters;
    let region = region(state, parameters)?;
    let id = required(parameters, "InstanceId")?;
    let password = required(parameters, "VncPassword")?;
    if password.len() != 6 || !password.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        let message = "The specified parameter \"VncPassword\" is not valid.";
        return Err(ApiError::new(400, "IncorrectVncPassword.Malformed", message));
    }
    let machine = machine(state, &call.caller, id, Some(region))?;
    require_running(&machine.instance)?;
    machine.take_password(password.to_owned(), now);
    Ok(json!({}))
}

fn reboot_instance(state: &mut State, call: &Call, now: Timestamp) -> Result<Value, ApiError> {
    let parameters = &call.parameters;
    let id = required(parameters, "InstanceId")?;
    let region = parameters.get("RegionId").map(String::as_str);
    let instance = &machine(state, &call.caller, id, region)?.instance;
    if !instance.locks.is_empty() {
        let message = "The specified operation is denied as your instance is locked for security reasons.";
        return Err(ApiError::new(403, "InstanceLockedForSecurity", message));
    }
    require_running(instance)?;
    state.begin_reboot(id, now);
    Ok(json!({}))
}

fn describe_regions(state: &State) -> Value {
    let region = |id: &String| {
        let endpoint = format!("ecs.{id}.aliyuncs.com");
        json!({"RegionId": id, "LocalName": id, "RegionEndpoint": endpoint})
    };
    json!({"Regions": {"Region": state.regions.iter().map(region).collect::<Vec<_>>()}})
}

fn describe_instances(state: &State, call: &Call) -> Result<Value, ApiError> {
    let parameters = &call.parameters;
    let region = region(state, parameters)?;
    let named = named_instances(parameters)?;
    if parameters.get("DryRun").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        let passed = "Request validation has been passed with DryRun flag set.";
        let denied = call.denied || named.iter().flatten().any(|id| !call.caller.may(id));
        return Err(if denied { forbidden() } else { ApiError::new(400, "DryRunOperation", passed) });
    }
    let page = Page::read(parameters)?;
    if call.denied {
        return Ok(page.reply(0, &[], false));
    }
    let tags = tag_filters(parameters);
    let wanted = |instance: &&Instance| {
        instance.region_id == region
            && instance.account == call.caller.account
            && call.caller.may(&instance.id)
            && tags.iter().all(|filter| filter.fits(instance))
    };
    if let Some(mut ids) = named {
        ids.sort();
        ids.dedup();
        let machines = ids.iter().filter_map(|id| state.machines.get(id));
        return Ok(page.take(machines.map(|machine| &machine.instance).filter(wanted)));
    }
    let start = page.after.as_deref().map_or(Unbounded, Excluded);
    let machines = state.machines.range::<str, _>((start, Unbounded));
    Ok(page.take(machines.map(|(_, machine)| &machine.instance).filter(wanted)))
}

/// Which part of a list is asked for: by `MaxResults` and `NextToken`, or by number as of old.
struct Page {
    size: usize,
    number: usize,
    by_token: bool,
    /// The last instance of the page before.
    after: Option<String>,
}

impl Page {
    fn read(parameters: &Parameters) -> Result<Self, ApiError> {
        let after = parameters.get("NextToken").filter(|token| !token.is_empty()).map(|token| {
            decode_token(token).ok_or_else(|| {
                ApiError::new(400, "InvalidParameter.NextToken", "The specified NextToken is not valid.")
            })
        });
        let by_token = parameters.contains_key("MaxResults") || after.is_some();
        let size = number(parameters, if by_token { "MaxResults" } else { "PageSize" })?;
        Ok(Self {
            size: size.unwrap_or(PAGE_DEFAULT).clamp(if by_token { PAGE_DEFAULT } else { 1 }, PAGE_LIMIT),
            number: number(parameters, "PageNumber")?.unwrap_or(1).max(1),
            by_token,
            after: after.transpose()?,
        })
    }

    /// The reply that holds this page of the instances.
    fn take<'a>(&self, instances: impl Iterator<Item = &'a Instance>) -> Value {
        if self.by_token {
            let from = |instance: &&Instance| self.after.as_ref().is_none_or(|after| instance.id > *after);
            let mut page: Vec<_> = instances.filter(from).take(self.size + 1).collect();
            let more = page.len() > self.size;
            page.truncate(self.size);
            return self.reply(page.len(), &page, more);
        }
        let all: Vec<_> = instances.collect();
        let start = (self.number - 1).saturating_mul(self.size).min(all.len());
        let end = (start + self.size).min(all.len());
        self.reply(all.len(), &all[start..end], false)
    }

    fn reply(&self, total: usize, page: &[&Instance], more: bool) -> Value {
        let token = page.last().filter(|_| more).map_or_else(String::new, |last| encode_token(&last.id));
        json!({
            "TotalCount": total,
            "PageNumber": self.number,
            "PageSize": self.size,
            "NextToken": token,
            "Instances": {"Instance": page.iter().map(|instance| describe(instance)).collect::<Vec<_>>()},
        })
    }
}

fn describe(instance: &Instance) -> Value {
    let locks: Vec<_> = instance.locks.iter().map(|reason| json!({"LockReason": reason})).collect();
    let mut fields = json!({
        "InstanceId": instance.id,
        "RegionId": instance.region_id,
        "Status": instance.status.as_str(),
        "IoOptimized": instance.io_optimized,
        "StartTime": instance.start_time.strftime("%Y-%m-%dT%H:%MZ").to_string(),
        "OperationLocks": {"LockReason": locks},
    });
    if !instance.tags.is_empty() {
        let tag = |(key, value): (&String, &String)| json!({"TagKey": key, "TagValue": value});
        fields["Tags"] = json!({"Tag": instance.tags.iter().map(tag).collect::<Vec<_>>()});
    }
    fields
}

/// `Tag.N.Key` with or without `Tag.N.Value`.
struct TagFilter<'a> {
    key: &'a str,
    value: Option<&'a str>,
}

impl TagFilter<'_> {
    fn fits(&self, instance: &Instance) -> bool {
        instance.tags.get(self.key).is_some_and(|found| self.value.is_none_or(|wanted| found == wanted))
    }
}

fn tag_filters(parameters: &Parameters) -> Vec<TagFilter<'_>> {
    let get = |name: String| parameters.get(&name).map(String::as_str);
    (1..=20)
        .filter_map(|n| {
            Some(TagFilter { key: get(format!("Tag.{n}.Key"))?, value: get(format!("Tag.{n}.Value")) })
        })
        .collect()
}

/// The array in `InstanceIds`, if it is there.
fn named_instances(parameters: &Parameters) -> Result<Option<Vec<String>>, ApiError> {
    let Some(text) = parameters.get("InstanceIds") else {
        return Ok(None);
    };
    let refused = |message: &str| Err(ApiError::new(400, "InvalidInstanceIds.Malformed", message));
    match serde_json::from_str::<Vec<String>>(text) {
        Ok(ids) if ids.len() <= PAGE_LIMIT => Ok(Some(ids)),
        Ok(_) => refused("The amount of specified instance Ids exceeds the limit."),
        Err(_) => refused("The specified parameter InstanceIds is not valid."),
    }
}

fn region<'a>(state: &State, parameters: &'a Parameters) -> Result<&'a str, ApiError> {
    let region = required(parameters, "RegionId")?;
    if state.regions.contains(region) {
        return Ok(region);
    }
    Err(ApiError::new(404, "InvalidRegionId.NotFound", "The specified RegionId does not exist."))
}

fn machine<'a>(
    state: &'a mut State,
    caller: &Caller,
    id: &str,
    region: Option<&str>,
) -> Result<&'a mut Machine, ApiError> {
    // Rights are judged by the id alone, before anyone looks whether there is such an instance.
    if !caller.may(id) {
        return Err(forbidden());
    }
    let here = |machine: &&mut Machine| {
        machine.instance.account == caller.account
            && region.is_none_or(|region| machine.instance.region_id == region)
    };
    let message = "The specified InstanceId does not exist.";
    let missing = || ApiError::new(404, "InvalidInstanceId.NotFound", message);
    state.machines.get_mut(id).filter(here).ok_or_else(missing)
}

fn require_running(instance: &Instance) -> Result<(), ApiError> {
    if instance.status == Status::Running {
        return Ok(());
    }
    let message = "The current status of the resource does not support this operation.";
    Err(ApiError::new(403, "IncorrectInstanceStatus", message))
}

fn required<'a>(parameters: &'a Parameters, name: &str) -> Result<&'a str, ApiError> {
    parameters.get(name).map(String::as_str).filter(|value| !value.is_empty()).ok_or_else(|| {
        let message = format!("The input parameter \"{name}\" that is mandatory is not supplied.");
        ApiError::new(400, "MissingParameter", message)
    })
}

fn number(parameters: &Parameters, name: &'static str) -> Result<Option<usize>, ApiError> {
    let invalid = |_| ApiError::new(400, "InvalidParameter", format!("The specified {name} is not valid."));
    parameters.get(name).map(|value| value.parse().map_err(invalid)).transpose()
}

fn forbidden() -> ApiError {
    ApiError::new(403, "Forbidden.RAM", "User not authorized to operate on the specified resource.")
}

/// Opaque to clients: the last id, its bytes in hexadecimal.
fn encode_token(id: &str) -> String {
    hex(id.as_bytes())
}

fn decode_token(token: &str) -> Option<String> {
    let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    String::from_utf8(token.as_bytes().chunks(2).map(byte).collect::<Option<_>>()?).ok()
}
