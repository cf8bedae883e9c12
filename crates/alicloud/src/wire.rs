//! The JSON of accepted replies, and its conversion to the types of `api`.
//!
//! An instance that cannot be parsed is left out of the result, so that it does not hide the other 99.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, value::RawValue};

use super::api::{Instance, InstanceStatus, RegionInfo};

/// Reply of `DescribeInstances`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeInstances<'a> {
    #[serde(borrow)]
    instances: Instances<'a>,
    /// Absent or empty on the last page.
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) next_token: String,
}

#[derive(Deserialize)]
struct Instances<'a> {
    #[serde(borrow, rename = "Instance")]
    list: Vec<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct WireInstance {
    instance_id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    region_id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    status: String,
    /// A boolean here, a string in other actions of the same API.
    #[serde(default)]
    io_optimized: Value,
    /// `yyyy-MM-ddTHH:mmZ`; empty if the instance has never run.
    #[serde(default, deserialize_with = "null_is_default")]
    start_time: String,
    #[serde(default, deserialize_with = "null_is_default")]
    operation_locks: OperationLocks,
    #[serde(default, deserialize_with = "null_is_default")]
    tags: Tags,
}

#[derive(Default, Deserialize)]
struct OperationLocks {
    #[serde(default, rename = "LockReason", deserialize_with = "null_is_default")]
    list: Vec<OperationLock>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct OperationLock {
    lock_reason: String,
}

#[derive(Default, Deserialize)]
struct Tags {
    #[serde(default, rename = "Tag", deserialize_with = "null_is_default")]
    list: Vec<Tag>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    tag_key: String,
    #[serde(default, deserialize_with = "null_is_default")]
    tag_value: String,
}

/// Reply of `DescribeRegions`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct DescribeRegions {
    regions: Regions,
}

#[derive(Deserialize)]
struct Regions {
    #[serde(rename = "Region")]
    list: Vec<Region>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Region {
    region_id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    region_endpoint: String,
}

impl From<DescribeInstances<'_>> for Vec<Instance> {
    fn from(reply: DescribeInstances<'_>) -> Self {
        let readable =
            reply.instances.list.into_iter().filter_map(|raw| serde_json::from_str(raw.get()).ok());
        readable.filter(|wire: &WireInstance| !wire.instance_id.is_empty()).map(Instance::from).collect()
    }
}

impl From<DescribeRegions> for Vec<RegionInfo> {
    fn from(reply: DescribeRegions) -> Self {
        let info = |wire: Region| RegionInfo { region_id: wire.region_id, endpoint: wire.region_endpoint };
        reply.regions.list.into_iter().map(info).collect()
    }
}

impl From<WireInstance> for Instance {
    fn from(wire: WireInstance) -> Self {
        Self {
            instance_id: wire.instance_id,
            region_id: wire.region_id,
            status: InstanceStatus::from(wire.status.as_str()),
            io_optimized: io_optimized(&wire.io_optimized),
            start_time: wire.start_time.parse::<Timestamp>().ok(),
            locks: wire.operation_locks.list.into_iter().map(|lock| lock.lock_reason).collect(),
            tags: wire.tags.list.into_iter().map(|tag| (tag.tag_key, tag.tag_value)).collect(),
        }
    }
}

fn io_optimized(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(optimized) => Some(*optimized),
        Value::String(text) if text == "optimized" => Some(true),
        Value::String(text) if text == "none" => Some(false),
        _ => None,
    }
}

fn null_is_default<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Default + Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn instances(json: &str) -> Vec<Instance> {
        serde_json::from_str::<DescribeInstances<'_>>(json).unwrap().into()
    }

    #[test]
    fn an_instance_is_read_as_documented() {
        let reply = r#"{"RequestId": "id", "NextToken": "", "TotalCount": 1, "Instances": {"Instance": [{
            "InstanceId": "i-1", "RegionId": "cn-beijing", "Status": "Running", "IoOptimized": true,
            "StartTime": "2024-05-01T12:34Z", "Cpu": 2,
            "OperationLocks": {"LockReason": [{"LockReason": "financial", "LockMsg": ""}]},
            "Tags": {"Tag": [{"TagKey": "team", "TagValue": "a"}, {"TagKey": "bare"}]}
        }]}}"#;
        let expected = Instance {
            instance_id: "i-1".into(),
            region_id: "cn-beijing".into(),
            status: InstanceStatus::Running,
            io_optimized: Some(true),
            start_time: Some("2024-05-01T12:34:00Z".parse().unwrap()),
            locks: vec!["financial".into()],
            tags: BTreeMap::from([("team".into(), "a".into()), ("bare".into(), String::new())]),
        };
        assert_eq!(instances(reply), [expected]);
    }

    #[test]
    fn missing_fields_are_unknown() {
        let bare = r#"{"Instances": {"Instance": [
            {"InstanceId": "i-1"},
            {"InstanceId": "i-1", "RegionId": null, "Status": null, "IoOptimized": null, "StartTime": "",
             "OperationLocks": null, "Tags": {"Tag": null}}
        ]}}"#;
        for instance in instances(bare) {
            let expected = Instance {
                instance_id: "i-1".into(),
                region_id: String::new(),
                status: InstanceStatus::Other(String::new()),
                io_optimized: None,
                start_time: None,
                locks: vec![],
                tags: BTreeMap::new(),
            };
            assert_eq!(instance, expected);
        }
    }

    #[test]
    fn an_odd_instance_does_not_hide_the_others() {
        let reply = r#"{"Instances": {"Instance": [{"InstanceId": 7}, {}, null, {"InstanceId": ""},
            {"InstanceId": "i-1", "IoOptimized": "none"}, {"InstanceId": "i-2", "IoOptimized": "optimized"}]}}"#;
        let parsed = instances(reply);
        let parsed: Vec<_> = parsed.iter().map(|i| (i.instance_id.as_str(), i.io_optimized)).collect();
        assert_eq!(parsed, [("i-1", Some(false)), ("i-2", Some(true))]);
    }

    #[test]
    fn regions_are_read_as_documented() {
        let reply = r#"{"Regions": {"Region": [{"RegionId": "cn-hangzhou", "LocalName": "x",
            "RegionEndpoint": "ecs-cn-hangzhou.aliyuncs.com"}, {"RegionId": "cn-beijing"}]}}"#;
        let regions: Vec<RegionInfo> = serde_json::from_str::<DescribeRegions>(reply).unwrap().into();
        let regions: Vec<_> = regions.iter().map(|r| (r.region_id.as_str(), r.endpoint.as_str())).collect();
        assert_eq!(regions, [("cn-hangzhou", "ecs-cn-hangzhou.aliyuncs.com"), ("cn-beijing", "")]);
    }
}
