//! What the metrics show, and that docs/metrics.md lists each of them.
//!
//! After a change of metrics: `UPDATE=1 cargo test --lib metrics` writes the table anew.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use jiff::Timestamp;
use serde_json::json;

use super::*;
use vncpassword_alicloud::{Action, credentials::Age, rate_limit::RouteStatus};

/// What a test scrapes.
struct Fixed(Snapshot);

impl Source for Fixed {
    fn snapshot(&self) -> Snapshot {
        self.0.clone()
    }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn read<T: serde::de::DeserializeOwned>(value: serde_json::Value) -> Arc<T> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn object(name: &str, status: serde_json::Value, suspend: bool) -> ObjectView {
    let spec = json!({ "instanceId": format!("i-{name}"), "secretRef": {"name": name}, "suspend": suspend });
    ObjectView {
        namespace: "team".into(),
        name: name.into(),
        spec: Some(read(spec)),
        status: read(status),
        fleet: None,
    }
}

fn condition(type_: &str, status: &str, reason: &str) -> serde_json::Value {
    let since = "2026-01-01T00:00:00Z";
    json!({"type": type_, "status": status, "reason": reason, "message": "", "lastTransitionTime": since})
}

/// Something of everything.
fn snapshot() -> Snapshot {
    let action = Action::ModifyInstanceVncPasswd;
    let gate = |scope: &str, closed, calls, waiting| {
        let (scope, region) = (scope.into(), "cn-hangzhou".into());
        RouteStatus { action, scope, region, closed, calls, waiting }
    };
    let age = Age { provider: "oidc", since: at(1000), expires_at: Some(at(4600)) };
    let ready = condition("Ready", "True", "Applied");
    let stalled = [condition("Ready", "False", "Denied"), condition("Stalled", "True", "Denied")];
    let reboot = condition("RebootRequired", "True", "RebootRequired");
    let (last, next) = ("2026-01-02T00:00:00Z", "2026-01-03T00:00:00Z");
    let times = json!({"conditions": [ready, reboot], "lastRotationTime": last, "nextRotationTime": next});
    let rollout = json!({
        "id": last, "trigger": "Schedule", "startedAt": last, "updated": 3, "total": 9, "failed": 1, "eta": next,
        "paceFrom": {"time": last}, "haltedAt": next,
    });
    let fleet = json!({
        "conditions": [condition("Ready", "False", "RolloutHalted")], "discovered": 9, "ready": 5, "failed": 1,
        "skipped": 2, "rollout": rollout, "lastRotationTime": last, "nextRotationTime": next,
    });
    Snapshot {
        unreadable: vec!["watched".into()],
        leads: true,
        gates: vec![gate("1234", true, Some(90), 4), gate("team/keys", false, Some(60), 1)],
        identities: vec![
            IdentityView { name: "operator".into(), age: Some(age), failures: 0, refused: false },
            IdentityView { name: "team/keys".into(), age: None, failures: 3, refused: true },
        ],
        objects: vec![
            object("fine", times, false),
            object("denied", json!({"conditions": stalled, "nextRotationTime": next}), true),
            object("new", json!({}), false),
        ],
        fleets: vec![FleetView { name: "nodes".into(), spec: None, status: read(fleet) }],
    }
}

/// Metrics that have seen everything, and whoever must live as long as they are asked.
fn metrics(per_object: bool, snapshot: Snapshot) -> (Metrics, Arc<dyn Source>) {
    let metrics = Metrics::new(per_object);
    let source: Arc<dyn Source> = Arc::new(Fixed(snapshot));
    metrics.attach(Arc::downgrade(&source));
    metrics.record_reconcile(
        Kind::VncPassword,
        ReconcileResult::Ok,
        Duration::from_millis(2),
        Some(RequeueReason::Scheduled),
    );
    metrics.queue(Queue::Objects).set(1, 2, 3);
    let took = Duration::from_millis(80);
    metrics.call_observer(|_| Class::Refused).ended("ModifyInstanceVncPasswd", &Ok(()), took);
    (metrics, source)
}

#[test]
fn each_state_has_its_sample() {
    let (metrics, _source) = metrics(true, snapshot());
    let text = metrics.render().unwrap();
    for line in [
        r#"vncpassword_operator_reconciles_total{kind="VncPassword",result="ok"} 1"#,
        r#"vncpassword_operator_requeues_total{kind="VncPassword",class="scheduled"} 1"#,
        r#"vncpassword_operator_cloud_calls_total{action="ModifyInstanceVncPasswd",class="accepted",code="ok"} 1"#,
        r#"vncpassword_operator_cloud_call_duration_seconds_bucket{le="0.1",action="ModifyInstanceVncPasswd"} 1"#,
        r#"vncpassword_operator_queue_depth{queue="objects"} 1"#,
        r#"vncpassword_operator_limiter_closed{action="ModifyInstanceVncPasswd",region="cn-hangzhou",account="1234"} 1"#,
        "vncpassword_operator_leader 1",
        r#"vncpassword_operator_credentials_expiry_timestamp_seconds{identity="operator",provider="oidc"} 4600"#,
        r#"vncpassword_operator_credentials_failures{identity="team/keys"} 3"#,
        r#"vncpassword_operator_credentials_refused{identity="team/keys"} 1"#,
        r#"vncpassword_objects{ready="True",reason="Applied"} 1"#,
        r#"vncpassword_objects{ready="Unknown",reason=""} 1"#,
        r#"vncpassword_stalled_objects{reason="Denied"} 1"#,
        "vncpassword_reboot_required_objects 1",
        r#"vncpassword_info{namespace="team",name="fine",instance_id="i-fine",region="",fleet=""} 1"#,
        r#"vncpassword_ready{namespace="team",name="fine"} 1"#,
        r#"vncpassword_ready{namespace="team",name="new"} 0"#,
        r#"vncpassword_suspended{namespace="team",name="denied"} 1"#,
        r#"vncpassword_next_rotation_timestamp_seconds{namespace="team",name="fine"} 1767398400"#,
        r#"vncpassword_fleet_rollout_halted{fleet="nodes"} 1"#,
        r#"vncpassword_fleet_instances_by_state{fleet="nodes",state="failed"} 1"#,
    ] {
        assert!(text.lines().any(|found| found == line), "no {line} in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn without_metrics_of_objects_only_sums_are_left() {
    // Those of `--watch-namespaces` are the operator's own.
    let (metrics, _source) = metrics(false, Snapshot { unreadable: Vec::new(), ..snapshot() });
    let text = metrics.render().unwrap();
    for word in ["namespace=", "team", "\"1234\"", "vncpassword_ready", "vncpassword_info"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
    let labels = r#"{action="ModifyInstanceVncPasswd",region="cn-hangzhou",account=""}"#;
    for line in [
        format!("vncpassword_operator_limiter_closed{labels} 1"),
        format!("vncpassword_operator_limiter_rate_calls_per_second{labels} 1.0"),
        format!("vncpassword_operator_limiter_waiting{labels} 5"),
        r#"vncpassword_stalled_objects{reason="Denied"} 1"#.to_owned(),
    ] {
        assert!(text.contains(&line), "no {line} in\n{text}");
    }
}

#[test]
fn who_stands_by_does_not_speak_for_the_objects() {
    let (metrics, source) = metrics(true, Snapshot { leads: false, ..snapshot() });
    let text = metrics.render().unwrap();
    assert!(text.contains("vncpassword_operator_leader 0\n"), "{text}");
    assert!(text.contains("vncpassword_operator_limiter_closed{"), "{text}");
    for word in ["\nvncpassword_ready", "\nvncpassword_fleet", "\nvncpassword_operator_credentials"] {
        assert!(!text.contains(word), "{word} in\n{text}");
    }
    // The term is over: nothing is left of it, and nothing keeps it.
    drop(source);
    let text = metrics.render().unwrap();
    assert!(text.contains("vncpassword_operator_leader 0\n"), "{text}");
    assert!(!text.contains("limiter"), "{text}");
}

#[test]
fn only_what_should_have_begun_is_overdue() {
    let overdue = |next: i64, suspend| {
        let status = json!({"nextRotationTime": at(next).to_string()});
        let objects = vec![object("a", status, suspend), object("b", json!({}), false)];
        let (metrics, _source) = metrics(true, Snapshot { objects, ..snapshot() });
        let text = metrics.render().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("vncpassword_most_overdue_seconds "));
        line.unwrap().parse::<f64>().unwrap()
    };
    let now = Timestamp::now().as_second();
    let late = overdue(now - 100, false);
    assert!((100.0..110.0).contains(&late), "{late}");
    for (next, suspend) in [(now - 100, true), (now + 100, false)] {
        assert!(overdue(next, suspend).abs() < f64::EPSILON);
    }
}

#[test]
fn the_older_format_names_the_same_samples() {
    let (metrics, _source) = metrics(true, snapshot());
    let open = metrics.render().unwrap();
    let plain = Format::Plain.of(open.clone());
    let samples = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(samples(&open), samples(&plain));
    for line in plain.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, type_) = line.split_once(' ').unwrap();
        assert!(["counter", "gauge", "histogram"].contains(&type_), "{line}");
        assert!(plain.lines().any(|line| line.starts_with(name)), "no sample of {name}");
    }
}

#[test]
fn the_paper_lists_every_metric_and_no_other() {
    let (metrics, _source) = metrics(true, snapshot());
    let wanted = table(&metrics.render().unwrap());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    let paper = fs::read_to_string(&path).unwrap();
    let (begin, end) = ("<!-- metrics:begin -->\n", "<!-- metrics:end -->");
    let (before, rest) = paper.split_once(begin).unwrap();
    let (found, after) = rest.split_once(end).unwrap();
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, format!("{before}{begin}{wanted}{end}{after}")).unwrap();
        return;
    }
    let advice = "run UPDATE=1 cargo test --lib metrics";
    assert_eq!(found, wanted, "docs/metrics.md does not list the metrics of the program; {advice}");
}

/// The metrics of an OpenMetrics text as a table, in the order of the text.
fn table(text: &str) -> String {
    let after = |mark: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(mark)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let (helps, units) = (after("# HELP "), after("# UNIT "));
    let mut rows = vec!["| metric | type | unit | labels | meaning |\n|---|---|---|---|---|\n".to_owned()];
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    for (name, type_) in types {
        let full = match type_ {
            "counter" => format!("{name}_total"),
            "info" => format!("{name}_info"),
            _ => name.to_owned(),
        };
        let mut labels = Vec::new();
        let mut known = BTreeSet::from(["le".to_owned()]);
        for sample in text.lines().filter_map(|line| line.strip_prefix(&*full)) {
            let sample = sample.strip_prefix("_bucket").unwrap_or(sample);
            let Some(pairs) = sample.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
                continue;
            };
            let names = pairs.0.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
            labels.extend(
                names.filter(|name| known.insert((*name).to_owned())).map(|name| format!("`{name}`")),
            );
        }
        let unit = units.get(name).map(|unit| unit.replace('_', " ")).unwrap_or_default();
        let help = helps[name].trim_end_matches('.').replace('|', "\\|");
        rows.push(format!("| `{full}` | {type_} | {unit} | {} | {help} |\n", labels.join(", ")));
    }
    rows.concat()
}
