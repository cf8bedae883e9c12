//! What people watch the operator with: each alert and each query of the dashboard names metrics that exist, every alert
//! has a test (tests/alerts, which promtool runs) and a place in the runbook, the dashboard is one that Grafana takes, and
//! Argo CD is told the health of objects as the paper on operations says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test may end it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde::Deserialize;
use serde_json::{Value, json};
use vncpassword_core::api::{Reason, VncPasswordStatus};

/// Where a runbook stands: in this paper, under the alert's name.
const RUNBOOKS: &str = "/docs/operations.md#";

#[derive(Deserialize)]
struct Rules {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Alert>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Alert {
    #[serde(rename = "alert")]
    name: String,
    expr: String,
    #[serde(rename = "for")]
    pending: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
}

// ------------------------------------------------------------------------------------------------------------- alerts

#[test]
fn every_alert_tells_how_bad_it_is_what_happened_and_what_to_do() {
    let mut names = BTreeSet::new();
    for Alert { name: alert, pending, labels, annotations, .. } in alerts() {
        assert!(names.insert(alert.clone()), "{alert} stands there twice");
        assert!(!pending.is_empty(), "{alert}");
        let severity = labels["severity"].as_str();
        assert!(["critical", "warning", "info"].contains(&severity), "{alert}: severity {severity}");
        let given: BTreeSet<&str> = annotations.keys().map(String::as_str).collect();
        assert_eq!(given, BTreeSet::from(["description", "runbook_url", "summary"]), "{alert}");
        let runbook = format!("{RUNBOOKS}{}", alert.to_lowercase());
        let url = &annotations["runbook_url"];
        assert!(url.starts_with("https://") && url.ends_with(&runbook), "{alert}: {url} is not …{runbook}");
        for text in [&annotations["summary"], &annotations["description"]] {
            assert!(text.ends_with('.') && !text.contains('\n'), "{alert}: {text}");
        }
    }
}

#[test]
fn alerts_ask_for_metrics_and_labels_that_exist() {
    let known = metrics();
    for Alert { name: alert, expr, .. } in alerts() {
        holds(&alert, &expr, &known);
    }
}

#[test]
fn every_alert_has_a_test_in_which_it_fires() {
    let texts: String = files("tests/alerts").iter().map(|file| fs::read_to_string(file).unwrap()).collect();
    for Alert { name: alert, .. } in alerts() {
        assert!(texts.contains(&format!("alertname=\"{alert}\"")), "no test in tests/alerts expects {alert}");
    }
}

#[test]
fn promtool_takes_the_alerts_and_their_tests_pass() {
    promtool(&["check", "rules", "charts/vncpassword-operator/files/alerts.yaml"]);
    let files = files("tests/alerts");
    let mut arguments = vec!["test", "rules"];
    arguments.extend(files.iter().map(|file| file.to_str().unwrap()));
    promtool(&arguments);
}

// ---------------------------------------------------------------------------------------------------------- dashboard

#[test]
fn the_dashboard_has_what_grafana_asks_of_one() {
    let board = dashboard();
    assert!(board["schemaVersion"].as_i64().unwrap() >= 36, "{}", board["schemaVersion"]);
    let uid = board["uid"].as_str().unwrap();
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    assert!(!uid.is_empty() && uid.len() <= 40 && uid.chars().all(fits), "{uid}");
    assert!(!board["title"].as_str().unwrap().is_empty());
    assert!(board.get("id").is_none(), "the id is Grafana's");
    for key in ["time", "templating", "annotations"] {
        assert!(board[key].is_object(), "{key}");
    }
    let variables: BTreeMap<&str, &Value> =
        list(&board["templating"]["list"]).map(|variable| (text(variable, "name"), variable)).collect();
    let source = variables["datasource"];
    assert_eq!((text(source, "type"), text(source, "query")), ("datasource", "prometheus"));
    let mut ids = BTreeSet::new();
    for panel in list(&board["panels"]) {
        let id = panel["id"].as_i64().unwrap();
        assert!(id > 0 && ids.insert(id), "panel {id} is not the only one");
        let (type_, title) = (text(panel, "type"), text(panel, "title"));
        assert!(["row", "stat", "table", "timeseries"].contains(&type_), "{title}: {type_}");
        if type_ == "row" {
            continue;
        }
        let own = json!({"type": "prometheus", "uid": "${datasource}"});
        assert_eq!(panel["datasource"], own, "{title}");
        assert!(!text(panel, "description").is_empty(), "{title} has no description");
        let mut letters = BTreeSet::new();
        for target in list(&panel["targets"]) {
            assert_eq!(target["datasource"], own, "{title}");
            assert!(letters.insert(text(target, "refId")), "{title}: a refId twice");
        }
        assert!(!letters.is_empty(), "{title} asks nothing");
    }
}

#[test]
fn panels_do_not_lie_on_each_other() {
    let mut taken: BTreeMap<(i64, i64), String> = BTreeMap::new();
    for panel in list(&dashboard()["panels"]) {
        let title = text(panel, "title");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_i64().unwrap());
        assert!(x >= 0 && y >= 0 && w > 0 && h > 0 && x + w <= 24, "{title} does not fit");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            if let Some(other) = taken.insert(cell, title.to_owned()) {
                panic!("{title:?} lies on {other:?}");
            }
        }
    }
}

#[test]
fn the_dashboard_asks_for_metrics_and_labels_that_exist() {
    let known = metrics();
    for (title, query) in queries() {
        holds(&title, &query, &known);
    }
    let board = dashboard();
    let variables = list(&board["templating"]["list"]).filter(|variable| text(variable, "type") == "query");
    for variable in variables {
        let asked = text(&variable["query"], "query");
        assert!(known.keys().any(|name| asked.contains(name.as_str())), "{asked}");
    }
}

#[test]
fn promtool_can_read_every_query_of_the_dashboard() {
    let rules: Vec<Value> = queries()
        .iter()
        .enumerate()
        .map(|(n, (_, query))| json!({"record": format!("query:{n}"), "expr": query, "labels": {"n": n.to_string()}}))
        .collect();
    assert!(rules.len() > 20, "{} queries", rules.len());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.yaml");
    // JSON is YAML.
    fs::write(&file, json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

// --------------------------------------------------------------------------------------------------------- operations

#[test]
fn the_runbook_has_a_place_for_each_alert_and_no_other() {
    let paper = operations();
    let (_, runbook) = paper.split_once("\n## Runbook\n").unwrap();
    let headings: Vec<&str> = runbook.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let known: Vec<String> = alerts().into_iter().map(|alert| alert.name).collect();
    assert_eq!(headings, known, "in the order of alerts.yaml; a link of an alert is its name in lower case");
    assert!(!runbook.lines().any(|line| line.starts_with("## ")), "the runbook stands last");
    for place in runbook.split("\n### ").skip(1) {
        assert!(place.lines().filter(|line| !line.is_empty()).count() > 2, "nothing to do about {place}");
    }
}

#[test]
fn the_paper_on_operations_asks_for_metrics_and_labels_that_exist() {
    let (paper, known) = (operations(), metrics());
    for name in paper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        let metric = name.starts_with("vncpassword_");
        assert!(!metric || known.contains_key(name), "docs/operations.md names {name}");
    }
    let mut rules = Vec::new();
    for query in blocks(&paper, "promql").iter().flat_map(|block| block.lines()) {
        holds("docs/operations.md", query, &known);
        rules.push(json!({"record": format!("query:{}", rules.len()), "expr": query}));
    }
    assert!(rules.len() > 5, "{} queries", rules.len());
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("queries.yaml");
    fs::write(&file, json!({"groups": [{"name": "operations", "rules": rules}]}).to_string()).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn the_paper_on_operations_names_tests_values_and_links_that_exist() {
    let paper = operations();
    let sources: String = [
        "crates/core/src/rotation/tests",
        "tests/operator",
        "crates/core/tests/protocol",
        "tests/crash",
        "tests/e2e",
        "tests",
    ]
    .iter()
    .flat_map(|directory| files(directory))
    .filter(|file| file.extension().is_some_and(|extension| extension == "rs"))
    .map(|file| fs::read_to_string(file).unwrap())
    .collect();
    let values: Value = serde_saphyr::from_str(&read("charts/vncpassword-operator/values.yaml")).unwrap();
    let mut tests = 0;
    let prose: String = outside_of_blocks(&paper);
    for code in prose.split('`').skip(1).step_by(2) {
        let word = |c: char| c.is_ascii_lowercase() || c == '_';
        if code.matches('_').count() > 3 && code.chars().all(word) && !code.starts_with("vncpassword_") {
            assert!(sources.contains(&format!("fn {code}(")), "no test {code}");
            tests += 1;
        }
        let (path, _) = code.split_once('=').unwrap_or((code, ""));
        let parts: Vec<&str> = path.split('.').collect();
        let dotted =
            parts.iter().all(|part| part.chars().all(|c| c.is_ascii_alphabetic()) && !part.is_empty());
        let room = values.get(parts[0]).filter(|room| room.is_object());
        if let (true, true, Some(room)) = (dotted, parts.len() > 1, room) {
            // Of `ecsRate` the keys are the user's.
            let open = room.as_object().is_some_and(serde_json::Map::is_empty);
            let pointer = format!("/{}", parts.join("/"));
            assert!(open || values.pointer(&pointer).is_some(), "no value {path} in the chart");
        }
    }
    assert!(tests > 10, "{tests} tests");
    let anchors: BTreeSet<String> = paper
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| anchor(&line.replace('#', "")))
        .collect();
    for link in paper.split("](#").skip(1).filter_map(|rest| rest.split(')').next()) {
        assert!(anchors.contains(link), "docs/operations.md has no #{link}");
    }
}

#[test]
fn argo_cd_is_told_the_health_of_each_state() {
    let paper = operations();
    let config = blocks(&paper, "yaml").into_iter().find(|block| block.contains("argocd-cm")).unwrap();
    let config: Value = serde_saphyr::from_str(&config).unwrap();
    let customizations: Value =
        serde_saphyr::from_str(text(&config["data"], "resource.customizations")).unwrap();
    let script = text(&customizations["vncpassword.dev/*"], "health.lua");

    let calls = STATES.iter().map(|(_, generation, conditions, ..)| {
        let object = lua(&object(*generation, conditions));
        format!("local told = health({object})\nprint(told.status .. \"|\" .. told.message)")
    });
    let calls = calls.collect::<Vec<_>>().join("\n");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("health.lua");
    fs::write(&file, format!("local function health(object)\nobj = object\n{script}\nend\n{calls}\n"))
        .unwrap();
    let output = Command::new(root().join("hack/glua.sh")).arg(&file).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let told = String::from_utf8(output.stdout).unwrap();
    let told: Vec<&str> = told.lines().collect();
    assert_eq!(told.len(), STATES.len());
    for ((state, _, _, health, reason), told) in STATES.iter().zip(told) {
        let message = if reason.is_empty() {
            "the operator has not seen this version yet".to_owned()
        } else {
            format!("{reason}: {MESSAGE}")
        };
        assert_eq!(told, format!("{health}|{message}"), "{state}");
    }
}

/// Type, status and reason.
type Told = (&'static str, &'static str, &'static str);

const APPLIED: Told = ("Ready", "True", "Applied");
/// Of each condition; its quotes must not end a string of Lua.
const MESSAGE: &str = "\"so\" it is";

/// What it is, the generation that the operator has seen, its conditions, the health that Argo CD is to show, and the reason
/// that it is to name.
type State = (&'static str, Option<i64>, &'static [Told], &'static str, &'static str);

/// States of objects of generation 2.
#[rustfmt::skip]
const STATES: &[State] = &[
    ("never seen", None, &[], "Progressing", ""),
    ("a spec that was not seen yet", Some(1), &[APPLIED], "Progressing", ""),
    ("in effect", Some(2), &[APPLIED], "Healthy", "Applied"),
    ("the next waits for its instance", Some(2), &[APPLIED, ("Reconciling", "True", "IncorrectInstanceStatus")],
        "Healthy", "Applied"),
    ("the next waits for a restart", Some(2), &[APPLIED, ("RebootRequired", "True", "RebootRequired")],
        "Healthy", "Applied"),
    ("the first is drawn", Some(2), &[("Ready", "False", "Generating"), ("Reconciling", "True", "Generating")],
        "Progressing", "Generating"),
    ("an outcome is not known", Some(2),
        &[("Ready", "Unknown", "OutcomeUnknown"), ("Reconciling", "True", "OutcomeUnknown")],
        "Progressing", "OutcomeUnknown"),
    ("the operator restarts the instance", Some(2),
        &[("Ready", "False", "RebootRequired"), ("Reconciling", "True", "RebootRequired"),
            ("RebootRequired", "True", "RebootRequired")],
        "Progressing", "RebootRequired"),
    ("a person is to restart it", Some(2),
        &[("Ready", "False", "RebootRequired"), ("RebootRequired", "True", "RebootRequired")],
        "Suspended", "RebootRequired"),
    ("a fleet waits for restarts", Some(2), &[("Ready", "False", "RebootRequired")], "Suspended", "RebootRequired"),
    ("refused", Some(2), &[("Ready", "False", "Denied"), ("Stalled", "True", "Denied")], "Degraded", "Denied"),
    ("in effect, but never again", Some(2), &[APPLIED, ("Stalled", "True", "InvalidSchedule")],
        "Degraded", "InvalidSchedule"),
    ("suspended", Some(2), &[APPLIED, ("Suspended", "True", "Suspended")], "Suspended", "Suspended"),
    ("a fleet's rollout", Some(2), &[("Ready", "False", "RollingOut"), ("Reconciling", "True", "RollingOut")],
        "Progressing", "RollingOut"),
    ("a fleet that does not know its instances", Some(2),
        &[("Ready", "Unknown", "DiscoveryFailed"), ("DiscoveryDegraded", "True", "DiscoveryFailed")],
        "Degraded", "DiscoveryFailed"),
    ("a fleet that halted, and is suspended", Some(2),
        &[("Ready", "False", "RolloutHalted"), ("Stalled", "True", "RolloutHalted"), ("Suspended", "True", "Suspended")],
        "Degraded", "RolloutHalted"),
];

fn object(seen: Option<i64>, conditions: &[Told]) -> Value {
    let mut object = json!({"metadata": {"generation": 2}});
    let Some(generation) = seen else { return object };
    let conditions: Vec<Value> = conditions
        .iter()
        .map(|(type_, status, reason)| {
            json!({"type": type_, "status": status, "reason": reason, "message": MESSAGE,
                "lastTransitionTime": "2026-01-02T03:04:05Z", "observedGeneration": generation})
        })
        .collect();
    let status = json!({"observedGeneration": generation, "conditions": conditions});
    // What no operator would write proves nothing.
    let one: VncPasswordStatus = serde_json::from_value(status.clone()).unwrap();
    assert!(one.conditions.iter().all(|told| told.reason != Reason::Unrecognized), "{status}");
    object["status"] = status;
    object
}

// -------------------------------------------------------------------------------------------------------------- tools

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn files(directory: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(root().join(directory)).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries.collect();
    files.sort();
    assert!(!files.is_empty(), "{directory} is empty");
    files
}

fn alerts() -> Vec<Alert> {
    let rules: Rules =
        serde_saphyr::from_str(&read("charts/vncpassword-operator/files/alerts.yaml")).unwrap();
    let alerts: Vec<Alert> = rules.groups.into_iter().flat_map(|group| group.rules).collect();
    assert!(!alerts.is_empty());
    alerts
}

fn operations() -> String {
    read("docs/operations.md")
}

/// The fenced blocks of a paper in that language.
fn blocks(paper: &str, language: &str) -> Vec<String> {
    let opened = format!("```{language}\n");
    let blocks = paper.split(&opened).skip(1).filter_map(|rest| rest.split_once("```"));
    blocks.map(|(block, _)| block.to_owned()).collect()
}

/// The lines of a paper that stand in no fenced block.
fn outside_of_blocks(paper: &str) -> String {
    let mut inside = false;
    let lines = paper.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// What a link to a heading says, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase();
    kept.chars()
        .filter(|c| c.is_alphanumeric() || *c == '-' || *c == ' ')
        .collect::<String>()
        .replace(' ', "-")
}

/// A value as Lua writes it.
fn lua(value: &Value) -> String {
    match value {
        Value::Null => "nil".to_owned(),
        Value::Array(values) => format!("{{{}}}", values.iter().map(lua).collect::<Vec<_>>().join(", ")),
        Value::Object(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("[{key:?}] = {}", lua(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Bool(_) | Value::Number(_) | Value::String(_) => value.to_string(),
    }
}

fn dashboard() -> Value {
    serde_json::from_str(&read("charts/vncpassword-operator/files/dashboard.json")).unwrap()
}

/// All queries of the dashboard, with the title of their panel and what Grafana puts in for its variables.
fn queries() -> Vec<(String, String)> {
    let board = dashboard();
    let mut queries = Vec::new();
    for panel in list(&board["panels"]).filter(|panel| panel.get("targets").is_some()) {
        for target in list(&panel["targets"]) {
            let query = text(target, "expr").replace("$__rate_interval", "5m").replace("$job", ".*");
            assert!(!query.contains('$'), "a variable that this test does not know: {query}");
            queries.push((text(panel, "title").to_owned(), query));
        }
    }
    queries
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap().iter()
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn promtool(arguments: &[&str]) {
    let output = Command::new(root().join("hack/promtool.sh")).args(arguments).output().unwrap();
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
}

/// Metrics and their labels as docs/metrics.md lists them, which a test of the library holds to the program.
fn metrics() -> BTreeMap<String, BTreeSet<String>> {
    let paper = read("docs/metrics.md");
    let rows = paper.lines().filter(|line| line.starts_with("| `vncpassword_"));
    let mut metrics = BTreeMap::new();
    for row in rows {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let labels =
            cells[3].split(',').map(|label| label.trim().trim_matches('`')).filter(|label| !label.is_empty());
        let labels: BTreeSet<String> = labels.map(str::to_owned).collect();
        let name = cells[0].trim_matches('`');
        if cells[1] == "histogram" {
            for suffix in ["_sum", "_count"] {
                metrics.insert(format!("{name}{suffix}"), labels.clone());
            }
            let with_bound = labels.into_iter().chain(["le".to_owned()]).collect();
            metrics.insert(format!("{name}_bucket"), with_bound);
        } else {
            metrics.insert(name.to_owned(), labels);
        }
    }
    assert!(metrics.len() > 30, "{metrics:?}");
    metrics
}

/// Holds a query to the metrics that exist, and the labels in it to those that some metric of it has.
fn holds(place: &str, query: &str, known: &BTreeMap<String, BTreeSet<String>>) {
    // What Prometheus itself puts on every sample of a target.
    let mut labels: BTreeSet<&str> = BTreeSet::from(["instance", "job"]);
    let mut asked = 0;
    for name in words(query).into_iter().filter(|word| word.starts_with("vncpassword")) {
        let of = known.get(name).unwrap_or_else(|| panic!("{place}: no metric {name} in {query}"));
        labels.extend(of.iter().map(String::as_str));
        asked += 1;
    }
    assert!(asked > 0, "{place} asks for no metric of the operator: {query}");
    // `rollout` is a label that a query adds.
    for label in named_labels(query).into_iter().filter(|label| *label != "rollout") {
        assert!(labels.contains(label), "{place}: no label {label} in {query}");
    }
}

/// The words of a query, without what stands in quotes.
fn words(query: &str) -> Vec<&str> {
    let outside = query.split('"').step_by(2);
    let part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    outside.flat_map(|text| text.split(move |c| !part(c))).filter(|word| !word.is_empty()).collect()
}

/// Labels that a query matches, or that it groups by.
fn named_labels(query: &str) -> Vec<&str> {
    let mut labels = Vec::new();
    let matched = query.split('{').skip(1).filter_map(|rest| rest.split('}').next());
    for matchers in matched {
        labels.extend(
            matchers.split(',').filter_map(|matcher| matcher.split(['=', '!']).next()).map(str::trim),
        );
    }
    for keyword in ["by (", "on ("] {
        let groups = query.match_indices(keyword).map(|(at, _)| &query[at + keyword.len()..]);
        for group in groups.filter_map(|rest| rest.split(')').next()) {
            labels.extend(group.split(',').map(str::trim).filter(|label| !label.is_empty()));
        }
    }
    labels
}

#[test]
fn the_search_finds_what_a_query_names() {
    let query = r#"sum by (job, a) (x{b="vncpassword_not{",c!="d"}) unless on (e) absent(y)"#;
    assert!(!words(query).contains(&"vncpassword_not"));
    assert!(words(query).contains(&"y"));
    assert_eq!(
        named_labels(r#"sum by (job, a) (x{b="1",c!="d"}) unless on (e) y"#),
        ["b", "c", "job", "a", "e"]
    );
}
