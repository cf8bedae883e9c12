//! The chart: what Helm makes of it is what an API server takes, what the documents say, and what the program reads.
//! `UPDATE=1` writes the table of its values anew.

#![allow(clippy::unwrap_used, clippy::panic, reason = "the helpers of a test may end it")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde_json::{Map, Value, json};

const CHART: &str = "charts/vncpassword-operator";
/// The last released chart.
const LAST_RELEASE: &str = "tests/e2e/charts/vncpassword-operator-0.1.0.tgz";
const NAME: &str = "vncpassword-operator";
const NAMESPACE: &str = "vncpassword-system";

/// What people set, each with a name. Lists are `--set-json`.
const MATRIX: [(&str, &[&str]); 10] = [
    ("defaults", &[]),
    ("one replica", &["replicaCount=1", "leaderElection.enabled=false", "podDisruptionBudget.enabled=false"]),
    ("namespaces", &[r#"watchNamespaces=["team-a","team-b"]"#, r#"ambientCredentialsNamespaces=["*"]"#]),
    (
        "rrsa",
        &[
            r#"credentials.rrsa.roleArn="acs:ram::1234567890123456:role/vnc""#,
            r#"credentials.rrsa.oidcProviderArn="acs:ram::1234567890123456:oidc-provider/ack""#,
            r#"region="cn-hangzhou""#,
        ],
    ),
    (
        "the webhook's rrsa",
        &[r#"credentials.rrsa.roleName="vnc""#, r#"serviceAccount.annotations={"a":"b"}"#],
    ),
    ("keys", &[r#"credentials.existingSecret="keys""#, "fleets.enabled=false", "allowReboot=true"]),
    ("a role of the nodes", &[r#"credentials.ramRole="vnc""#, r#"ecsRate={"ModifyInstanceVncPasswd":60}"#]),
    (
        "monitors",
        &[
            "metrics.serviceMonitor.enabled=true",
            r#"metrics.serviceMonitor.interval="30s""#,
            r#"metrics.serviceMonitor.labels={"release":"prometheus"}"#,
            "metrics.prometheusRule.enabled=true",
            "metrics.dashboard.enabled=true",
            r#"metrics.dashboard.annotations={"grafana_folder":"Cloud"}"#,
            r#"metrics.service.annotations={"a":"b"}"#,
            "metrics.perObject=false",
        ],
    ),
    (
        "network and admission",
        &[
            r#"networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]"#,
            r#"networkPolicy.extraEgress=[{"ports":[{"port":3128}]}]"#,
            r#"endpoints.ecs="https://ecs.example:8443""#,
            r#"endpoints.metadata="http://metadata.example""#,
            r#"tracing.otlpEndpoint="http://collector.example:4318""#,
            "admissionPolicy.enabled=true",
            r#"admissionPolicy.actions=["Warn","Audit"]"#,
            "rbac.aggregateUserRoles=true",
        ],
    ),
    (
        "everything extra",
        &[
            r#"fullnameOverride="vnc""#,
            r#"commonLabels={"team":"a"}"#,
            r#"image.digest="sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa""#,
            r#"imagePullSecrets=[{"name":"pull"}]"#,
            r#"extraArgs=["--settle=20m"]"#,
            r#"extraEnv=[{"name":"HTTPS_PROXY","value":"http://proxy:3128"}]"#,
            r#"extraVolumes=[{"name":"ca","configMap":{"name":"ca"}}]"#,
            r#"extraVolumeMounts=[{"name":"ca","mountPath":"/ca"}]"#,
            r#"priorityClassName="system-cluster-critical""#,
            r#"nodeSelector={"a":"b"}"#,
            r#"tolerations=[{"operator":"Exists"}]"#,
            r#"affinity={"nodeAffinity":{}}"#,
            r#"podLabels={"a":"b"}"#,
            r#"podAnnotations={"a":"b"}"#,
            r#"topologySpreadConstraints=[{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"DoNotSchedule","labelSelector":{}}]"#,
            "crds.keep=false",
        ],
    ),
];

// ------------------------------------------------------------------------------------------------------------- values

#[test]
fn helm_lint_has_no_objection() {
    let output = helm(&["lint", "--strict", CHART]);
    assert!(output.status.success(), "{}", text(&output));
}

#[test]
fn bad_values_are_refused_and_named() {
    for (values, told) in [
        (&["replicaCont=2"][..], "replicaCont"),
        (&[r#"replicaCount="2""#], "/replicaCount"),
        (&[r#"image.tagg="x""#], "tagg"),
        (&[r#"region="CN_Hangzhou""#], "/region"),
        (&[r#"endpoints.ecs="ecs.example""#], "/endpoints/ecs"),
        (&[r#"endpoints.network="lan""#], "/endpoints/network"),
        (&[r#"settle="16""#], "/settle"),
        (&[r#"ecsRate={"StopInstance":1}"#], "StopInstance"),
        (&["ecsRate={\"RebootInstance\":0}"], "/ecsRate/RebootInstance"),
        (&[r#"watchNamespaces="a,b""#], "/watchNamespaces"),
        (&[r#"watchNamespaces=["*"]"#], "/watchNamespaces"),
        (&[r#"log.format="xml""#], "/log/format"),
        (&["admissionPolicy.actions=[]"], "/admissionPolicy/actions"),
        (&[r#"credentials.rrsa.roleArn="vnc""#], "/credentials/rrsa/roleArn"),
        (&["leaderElection.enabled=false"], "replicaCount: without leaderElection.enabled"),
        (
            &[r#"credentials.rrsa.roleArn="acs:ram::1:role/vnc""#],
            "credentials.rrsa: roleArn and oidcProviderArn are needed together",
        ),
        (
            &[r#"credentials.existingSecret="keys""#, r#"credentials.ramRole="vnc""#],
            "credentials: set one of",
        ),
        (&["serviceAccount.create=false"], "serviceAccount.name is needed"),
        (
            &[
                "serviceAccount.create=false",
                r#"serviceAccount.name="mine""#,
                r#"credentials.rrsa.roleName="vnc""#,
            ],
            "credentials.rrsa.roleName: the ServiceAccount is yours",
        ),
        (&["crds.install=false", "crds.keep=false"], "crds.install: with crds.keep=false"),
        (&[r#"extraEnv=[{"name":"RUST_LOG","value":"debug"}]"#], "extraEnv: RUST_LOG is set by the chart"),
        (
            &[
                r#"credentials.existingSecret="keys""#,
                r#"extraEnv=[{"name":"ALIBABA_CLOUD_ECS_METADATA_DISABLED","value":"true"}]"#,
            ],
            "extraEnv: ALIBABA_CLOUD_ECS_METADATA_DISABLED is set",
        ),
    ] {
        let output = template(values);
        assert!(!output.status.success(), "{values:?} is taken");
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(told), "{values:?}: {error}");
    }
}

#[test]
fn every_value_has_a_line_in_the_table_and_a_place_in_the_schema() {
    let described = described_values();
    let values: Value = yaml(&read(&format!("{CHART}/values.yaml")));
    let schema: Value = serde_json::from_str(&read(&format!("{CHART}/values.schema.json"))).unwrap();
    let mut rows = String::from("| value | default | meaning |\n|---|---|---|\n");
    for (path, meaning) in &described {
        let pointer = format!("/{}", path.replace('.', "/"));
        let default = values.pointer(&pointer).unwrap_or_else(|| panic!("{path} is described, but no value"));
        writeln!(rows, "| `{path}` | `{default}` | {meaning} |").unwrap();
    }
    let known: BTreeSet<String> = described.iter().map(|(path, _)| path.clone()).collect();
    let mut leaves = BTreeSet::new();
    leaf_paths(&values, "", &known, &mut leaves);
    assert_eq!(leaves, known, "every value needs a line that begins with `# --`");
    let mut declared = BTreeSet::new();
    schema_paths(&schema, "", &known, &mut declared);
    let helms_own = BTreeSet::from(["enabled".to_owned(), "global".to_owned()]);
    assert_eq!(&declared - &helms_own, known, "the schema and the values differ");

    let file = format!("{CHART}/README.md");
    let document = read(&file);
    let (head, rest) = document.split_once("<!-- values -->\n").unwrap();
    let (_, tail) = rest.split_once("<!-- /values -->").unwrap();
    let wanted = format!("{head}<!-- values -->\n{rows}<!-- /values -->{tail}");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(repository().join(file), wanted).unwrap();
    } else {
        assert_eq!(document, wanted, "UPDATE=1 cargo test --test chart writes it anew");
    }
}

// ------------------------------------------------------------------------------------------------------------ objects

#[test]
fn an_api_server_takes_what_people_set() {
    let kubeconfig = vncpassword_test_support::control_plane::shared_kubeconfig();
    kubectl(&kubeconfig, &["apply", "-f", "-"], &foreign_kinds());
    for namespace in [NAMESPACE, "team-a", "team-b"] {
        kubectl(&kubeconfig, &["apply", "-f", "-"], &namespace_object(namespace));
    }
    for (name, values) in MATRIX {
        let output = template(values);
        assert!(output.status.success(), "{name}: {}", text(&output));
        let manifest = String::from_utf8(output.stdout).unwrap();
        let apply = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
        let output = run_kubectl(&kubeconfig, &apply, &manifest);
        assert!(output.status.success(), "{name}: {}", text(&output));
        // A deprecation, a field that is unknown.
        let warnings = String::from_utf8(output.stderr).unwrap();
        let warnings: Vec<&str> =
            warnings.lines().filter(|line| !line.contains("unrecognized format \"uint")).collect();
        assert!(warnings.is_empty(), "{name}: {warnings:?}");
    }
}

#[test]
fn the_kinds_are_those_of_crds_with_a_keep_policy_that_can_be_left_out() {
    for (values, kept) in [(&[][..], true), (&["crds.keep=false"], false)] {
        for mut kind in
            objects(values).into_iter().filter(|object| object["kind"] == "CustomResourceDefinition")
        {
            let plural = kind["spec"]["names"]["plural"].as_str().unwrap().to_owned();
            let metadata = kind["metadata"].as_object_mut().unwrap();
            metadata.remove("labels").unwrap();
            let annotations = metadata.remove("annotations");
            assert_eq!(annotations.is_some(), kept, "{plural}");
            assert!(!kept || annotations == Some(json!({"helm.sh/resource-policy": "keep"})), "{plural}");
            assert_eq!(kind, yaml::<Value>(&read(&format!("crds/vncpassword.dev_{plural}.yaml"))));
        }
    }
    let kinds = |values: &[&str]| kinds_of(&objects(values)).contains("CustomResourceDefinition");
    assert!(kinds(&[]) && !kinds(&["crds.install=false"]));
}

#[test]
fn what_is_switched_off_leaves_nothing() {
    for (value, kind) in [
        ("networkPolicy.enabled=false", "NetworkPolicy"),
        ("podDisruptionBudget.enabled=false", "PodDisruptionBudget"),
        ("replicaCount=1", "PodDisruptionBudget"),
        ("rbac.create=false", "ClusterRoleBinding"),
        ("rbac.create=false", "RoleBinding"),
    ] {
        assert!(kinds_of(&objects(&[])).contains(kind), "{kind}");
        assert!(!kinds_of(&objects(&[value])).contains(kind), "{value}");
    }
    let people = |values: &[&str]| {
        objects(values).into_iter().filter(|object| object["kind"] == "ClusterRole").count()
    };
    assert_eq!(
        (people(&["rbac.create=false"]), people(&["rbac.create=false", "rbac.userRoles=false"])),
        (2, 0)
    );
    for kind in ["ServiceMonitor", "PrometheusRule", "ConfigMap", "ValidatingAdmissionPolicy"] {
        assert!(!kinds_of(&objects(&[])).contains(kind), "{kind} without having been asked for");
    }
}

#[test]
fn each_release_has_a_lease_of_its_own_and_holds_the_former_one_for_a_version() {
    for (values, variable, names) in [
        (&[][..], None, json!([NAME])),
        (&[r#"fullnameOverride="vnc-a""#], Some("vnc-a"), json!(["vnc-a", NAME])),
    ] {
        let rendered = objects(values);
        let operator = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let variables = operator["spec"]["template"]["spec"]["containers"][0]["env"].as_array().unwrap();
        let lease = variables.iter().find(|given| given["name"] == "LEASE_NAME");
        assert_eq!(lease.map(|given| &given["value"]), variable.map(Value::from).as_ref());
        let role = rendered.iter().find(|object| {
            let name = object["metadata"]["name"].as_str().unwrap_or_default();
            object["kind"] == "Role" && name.ends_with("-leader-election")
        });
        assert_eq!(role.unwrap()["rules"][0]["resourceNames"], names);
    }
}

#[test]
fn where_namespaces_are_named_no_right_to_secrets_reaches_further() {
    let rendered = objects(&[r#"watchNamespaces=["team-a","team-b"]"#]);
    for role in rendered.iter().filter(|object| object["kind"] == "ClusterRole") {
        let rules = role["rules"].to_string();
        assert!(!rules.contains("secrets") && !rules.contains("nodes"), "{role}");
    }
    for namespace in ["team-a", "team-b"] {
        let role = rendered
            .iter()
            .find(|object| object["kind"] == "Role" && object["metadata"]["namespace"] == namespace)
            .unwrap_or_else(|| panic!("no Role in {namespace}"));
        assert!(role["rules"].to_string().contains("secrets"), "{role}");
    }
}

#[test]
fn the_rights_are_those_that_the_readme_tells() {
    let told: Rights = read("README.md")
        .lines()
        .skip_while(|line| !line.contains("| group | resource | verbs |"))
        .skip(2)
        .map_while(|line| line.trim().strip_prefix('|'))
        .map(|row| {
            let cells: Vec<&str> = row.split('|').map(|cell| cell.trim().trim_matches('`')).collect();
            let group = if cells[0] == "core" { "" } else { cells[0] };
            ((group.to_owned(), cells[1].to_owned()), cells[2].split(", ").map(str::to_owned).collect())
        })
        .collect();
    assert_eq!(rights(objects(&[])), told);
}

/// Helm changes the roles before it replaces the Pods, which must go on until then.
#[test]
fn the_pods_of_the_last_release_have_their_rights_during_an_upgrade() {
    for values in [&[][..], &[r#"watchNamespaces=["team-a"]"#]] {
        let (former, now) = (rights(objects_of(LAST_RELEASE, values)), rights(objects(values)));
        // What else it granted and this one does not, no release has used.
        let statuses = former.into_iter().filter(|((_, resource), _)| resource.ends_with("/status"));
        for (resource, verbs) in statuses {
            let granted = now.get(&resource).cloned().unwrap_or_default();
            assert!(verbs.is_subset(&granted), "{resource:?}: {verbs:?}, and now {granted:?}");
        }
        let status = ("vncpassword.dev".to_owned(), "vncpasswords/status".to_owned());
        assert!(now[&status].contains("update"), "{:?}", now[&status]);
    }
}

/// Verbs by group and resource.
type Rights = BTreeMap<(String, String), BTreeSet<String>>;

/// What the operator itself may do.
fn rights(objects: Vec<Value>) -> Rights {
    let mut rights = Rights::new();
    for role in objects {
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        let theirs = name.ends_with("-viewer") || name.ends_with("-editor");
        if theirs || !["Role", "ClusterRole"].contains(&role["kind"].as_str().unwrap()) {
            continue;
        }
        for rule in role["rules"].as_array().unwrap() {
            for resource in strings(&rule["resources"]) {
                let group = strings(&rule["apiGroups"]).remove(0);
                rights.entry((group, resource)).or_default().extend(strings(&rule["verbs"]));
            }
        }
    }
    rights
}

#[test]
fn the_program_reads_each_variable_that_it_is_given() {
    let help =
        Command::new(env!("CARGO_BIN_EXE_vncpassword-operator")).args(["run", "--help"]).output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    // What Kubernetes, the libraries and the providers of credentials read: not flags.
    let others = ["POD_NAME", "RUST_LOG", "HTTPS_PROXY"];
    for (name, values) in MATRIX {
        let rendered = objects(values);
        let operator = rendered.iter().find(|object| object["kind"] == "Deployment").unwrap();
        let container = &operator["spec"]["template"]["spec"]["containers"][0];
        let mut given = BTreeSet::new();
        for variable in container["env"].as_array().unwrap() {
            let variable = variable["name"].as_str().unwrap();
            assert!(given.insert(variable), "{name}: {variable} twice");
            let credential =
                variable.starts_with("ALIBABA_CLOUD_") && read("docs/identity.md").contains(variable);
            let known =
                help.contains(&format!("[env: {variable}=")) || credential || others.contains(&variable);
            assert!(known, "{name}: nobody reads {variable}");
        }
    }
}

#[test]
fn the_plain_manifest_is_the_chart_with_its_defaults() {
    let output = Command::new(repository().join("hack/manifest.sh")).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let rendered = String::from_utf8(output.stdout).unwrap();
    assert!(rendered == read("manifests/install.yaml"), "make manifest writes it anew");
    let kubeconfig = vncpassword_test_support::control_plane::ControlPlane::start();
    let applied = run_kubectl(&kubeconfig.kubeconfig(), &["apply", "-f", "-"], &rendered);
    assert!(applied.status.success(), "{}", text(&applied));
}

#[test]
fn the_admission_policy_asks_for_the_right_to_the_secret() {
    let control_plane = vncpassword_test_support::control_plane::ControlPlane::start();
    let kubeconfig = control_plane.kubeconfig();
    kubectl(&kubeconfig, &["apply", "-f", "-"], &namespace_object(NAMESPACE));
    let output = template(&["admissionPolicy.enabled=true"]);
    kubectl(&kubeconfig, &["apply", "--server-side", "-f", "-"], &String::from_utf8(output.stdout).unwrap());
    let rights = r#"
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tenant, namespace: default}
rules:
  - {apiGroups: [vncpassword.dev], resources: [vncpasswords], verbs: [get, create, patch]}
  - {apiGroups: [""], resources: [secrets], resourceNames: [mine], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tenant, namespace: default}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tenant}
subjects: [{kind: User, name: tenant, apiGroup: rbac.authorization.k8s.io}]
"#;
    kubectl(&kubeconfig, &["apply", "-f", "-"], rights);
    let create = |secret: &str, credentials: Option<&str>| {
        let mut spec = json!({"instanceId": "i-bp1a2b3c4d5e6f7g8h9i", "secretRef": {"name": secret}});
        if let Some(credentials) = credentials {
            spec["credentialsRef"] = json!({"name": credentials});
        }
        let metadata = json!({"name": "a", "namespace": "default"});
        let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword", "metadata": metadata, "spec": spec});
        run_kubectl(
            &kubeconfig,
            &["--as=tenant", "create", "--dry-run=server", "-f", "-"],
            &object.to_string(),
        )
    };
    // The API server looks for policies at its own pace.
    let patience = Instant::now() + Duration::from_secs(60);
    let refused = loop {
        let output = create("theirs", None);
        if !output.status.success() || Instant::now() > patience {
            break output;
        }
        thread::sleep(Duration::from_millis(200));
    };
    let message = "spec.secretRef.name: you have no right to get the Secret theirs in the namespace default";
    assert!(text(&refused).contains(message), "{}", text(&refused));
    let refused = create("mine", Some("theirs"));
    let message =
        "spec.credentialsRef.name: you have no right to get the Secret theirs in the namespace default";
    assert!(text(&refused).contains(message), "{}", text(&refused));
    for credentials in [None, Some("mine")] {
        let taken = create("mine", credentials);
        assert!(taken.status.success(), "{}", text(&taken));
    }
}

// ------------------------------------------------------------------------------------------------------------ helpers

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn yaml<T: for<'de> Deserialize<'de>>(text: &str) -> T {
    serde_saphyr::from_str(text).unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn helm(arguments: &[&str]) -> Output {
    Command::new(repository().join("hack/helm.sh"))
        .args(arguments)
        .current_dir(repository())
        .output()
        .unwrap()
}

fn template(values: &[&str]) -> Output {
    template_of(CHART, values)
}

fn template_of(chart: &str, values: &[&str]) -> Output {
    let mut arguments = vec!["template", NAME, chart, "--namespace", NAMESPACE, "--skip-tests"];
    arguments.extend(values.iter().flat_map(|value| ["--set-json", value]));
    helm(&arguments)
}

fn objects(values: &[&str]) -> Vec<Value> {
    objects_of(CHART, values)
}

fn objects_of(chart: &str, values: &[&str]) -> Vec<Value> {
    let output = template_of(chart, values);
    assert!(output.status.success(), "{values:?}: {}", text(&output));
    let manifest = String::from_utf8(output.stdout).unwrap();
    let documents: Vec<Value> = serde_saphyr::from_multiple(&manifest).unwrap();
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

fn kinds_of(objects: &[Value]) -> BTreeSet<&str> {
    objects.iter().map(|object| object["kind"].as_str().unwrap()).collect()
}

fn strings(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

/// The comments `# -- …` of values.yaml, by the path of what follows them.
fn described_values() -> Vec<(String, String)> {
    let mut described = Vec::new();
    let mut parents: Vec<(usize, String)> = Vec::new();
    let mut meaning = None;
    for line in read(&format!("{CHART}/values.yaml")).lines() {
        let indent = line.len() - line.trim_start().len();
        if let Some(comment) = line.trim_start().strip_prefix("# -- ") {
            meaning = Some(comment.to_owned());
        } else if let Some((key, _)) = line.trim_start().split_once(':') {
            while parents.last().is_some_and(|(outer, _)| *outer >= indent) {
                parents.pop();
            }
            parents.push((indent, key.to_owned()));
            if let Some(meaning) = meaning.take() {
                let path: Vec<&str> = parents.iter().map(|(_, key)| key.as_str()).collect();
                described.push((path.join("."), meaning));
            }
        }
    }
    described
}

/// Paths of values: those that are described, and what is under none of them.
fn leaf_paths(value: &Value, path: &str, known: &BTreeSet<String>, leaves: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !known.contains(path) && !fields.is_empty() => {
            for (key, field) in fields {
                leaf_paths(field, join(path, key).as_str(), known, leaves);
            }
        }
        _ => drop(leaves.insert(path.to_owned())),
    }
}

/// The same of a schema. Whatever it declares must refuse what it does not know, or be Kubernetes' own.
fn schema_paths(schema: &Value, path: &str, known: &BTreeSet<String>, leaves: &mut BTreeSet<String>) {
    match schema["properties"].as_object() {
        Some(properties) if !known.contains(path) => {
            assert_eq!(schema["additionalProperties"], false, "{path} takes typos");
            for (key, property) in properties {
                schema_paths(property, join(path, key).as_str(), known, leaves);
            }
        }
        _ => drop(leaves.insert(path.to_owned())),
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn run_kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) -> Output {
    let script = repository().join("hack/control-plane.sh");
    let directory = String::from_utf8(Command::new(script).arg("bin-dir").output().unwrap().stdout).unwrap();
    let mut child = Command::new(Path::new(directory.trim()).join("kubectl"))
        .arg("--kubeconfig")
        .arg(kubeconfig)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn kubectl(kubeconfig: &Path, arguments: &[&str], input: &str) {
    let output = run_kubectl(kubeconfig, arguments, input);
    assert!(output.status.success(), "{}", text(&output));
}

fn namespace_object(name: &str) -> String {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}).to_string()
}

/// The kinds of the Prometheus operator, without what they say.
fn foreign_kinds() -> String {
    let kind = |kind: &str| {
        let plural = format!("{}s", kind.to_lowercase());
        let schema =
            json!({"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}});
        let mut spec = Map::new();
        spec.insert("group".into(), json!("monitoring.coreos.com"));
        spec.insert("scope".into(), json!("Namespaced"));
        spec.insert("names".into(), json!({"kind": kind, "plural": plural}));
        spec.insert(
            "versions".into(),
            json!([{"name": "v1", "served": true, "storage": true, "schema": schema}]),
        );
        json!({
            "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": format!("{plural}.monitoring.coreos.com")}, "spec": spec,
        })
    };
    json!({"apiVersion": "v1", "kind": "List", "items": [kind("ServiceMonitor"), kind("PrometheusRule")]})
        .to_string()
}
