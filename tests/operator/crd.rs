//! The kind as the API server sees it: what it accepts, what it refuses and with which words, what it shows.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Stdio,
    sync::OnceLock,
};

use kube::{
    Api, CustomResourceExt,
    api::{ApiResource, DynamicObject, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, process::Command, sync::OnceCell, time::Instant};
use vncpassword_core::api::{Reason, VncPassword, definitions};
use vncpassword_emulator::{AccessKey, Instance, Role};
use vncpassword_test_support::{World, control_plane::shared_kubeconfig, world::PATIENCE};

const FILES: [(&str, &str); 2] = [
    ("vncpasswords", "crds/vncpassword.dev_vncpasswords.yaml"),
    ("clustervncpasswords", "crds/vncpassword.dev_clustervncpasswords.yaml"),
];

// ------------------------------------------------------------------------------------------------- files and kubectl

#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_what_the_program_prints() {
    let print = async |arguments: &[&str]| {
        let program = Command::new(env!("CARGO_BIN_EXE_vncpassword-operator")).args(arguments).output();
        let output = program.await.unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let mut files = Vec::new();
    for (name, path) in FILES {
        let file = std::fs::read_to_string(repository().join(path)).unwrap();
        let printed = print(&["crds", name]).await;
        assert!(file == printed, "{path} is not what `vncpassword-operator crds` prints: run `make crds`");
        files.push(file);
    }
    assert!(print(&["crds"]).await == files.join("---\n"), "all of them, one after the other");
    assert_eq!(std::fs::read_dir(repository().join("crds")).unwrap().count(), files.len(), "files in crds/");
}

#[tokio::test(flavor = "multi_thread")]
async fn applying_the_files_again_changes_nothing() {
    let world = World::new().await;
    let apply = ["apply", "--server-side", "--force-conflicts", "--warnings-as-errors", "--filename", "crds"];
    for (name, crd) in FILES.map(|(name, _)| name).into_iter().zip(definitions()) {
        let read = ["get", "crd", crd.metadata.name.as_deref().unwrap(), "--output", "json"];
        kubectl(&world, &apply).await;
        let once: Value = serde_json::from_str(&kubectl(&world, &read).await).unwrap();
        kubectl(&world, &apply).await;
        let twice: Value = serde_json::from_str(&kubectl(&world, &read).await).unwrap();
        assert_eq!(once["metadata"]["resourceVersion"], twice["metadata"]["resourceVersion"], "{name}");
        let conditions = once["status"]["conditions"].as_array().unwrap();
        let status = |type_| conditions.iter().find(|it| it["type"] == type_).map(|it| it["status"].clone());
        assert_eq!(status("Established"), Some(json!("True")), "{name}");
        assert_eq!(status("NonStructuralSchema"), None, "{name}");
    }
}

/// As new kinds: the API server checks a kind that it has already less closely.
#[tokio::test(flavor = "multi_thread")]
async fn the_files_are_applied_without_a_warning() {
    let world = World::new().await;
    for (name, path) in FILES {
        let file = std::fs::read_to_string(repository().join(path)).unwrap();
        let new = file.replace("vncpassword.dev", "new.example.com");
        let create = ["create", "--dry-run=server", "--warnings-as-errors", "--filename", "-"];
        let said = kubectl_with(&world, &create, &new).await;
        assert!(said.contains(&format!("{name}.new.example.com created")), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_is_accepted_and_becomes_ready() {
    let world = World::new().await;
    world.cloud().put_access_key(AccessKey::new("LTAI5tExampleExample", "example"));
    let role = Role::new("acs:ram::2000000000000002:role/console");
    world.cloud().put_role(role.trusting(AccessKey::DEFAULT_ACCOUNT));
    let operator = world.operator_before(world.settings()).await;
    kubectl(
        &world,
        &["apply", "--server-side", "--warnings-as-errors", "--validate=strict", "--filename", "examples"],
    )
    .await;
    let objects = world.objects().list(&kube::api::ListParams::default()).await.unwrap().items;
    assert!(objects.len() >= 4, "{} objects", objects.len());
    // The objects themselves tell which instances there are.
    for object in &objects {
        let instance = Instance::new(&object.spec.instance_id);
        let region = object.spec.region_id.clone().unwrap_or(instance.region_id.clone());
        let elsewhere = object.metadata.name.as_deref() == Some("other-console");
        let account = if elsewhere { "2000000000000002" } else { AccessKey::DEFAULT_ACCOUNT };
        world.cloud().put_instance(instance.region(region).account(account));
    }
    for object in &objects {
        let name = object.metadata.name.as_deref().unwrap();
        // The next look of one that has met the empty cloud is 10 minutes away; a change is looked at at once.
        world.change(name, json!({"spec": {"suspend": true}})).await;
        world.change(name, json!({"spec": {"suspend": false}})).await;
        world.until_ready(name).await;
    }
    operator.stop().await;
}

// ------------------------------------------------------------------------------------------- what is refused, and how

const INSTANCE: &str = "must be the ID of an ECS instance, such as i-bp67acfmxazb4p";
const REGION: &str = "must be a region ID such as cn-hangzhou, without a host name around it";
const SECRET: &str =
    "must be the name of a Secret in this namespace: lower-case letters, digits, '-' and '.'";
const KEY: &str = "must be a key of a Secret: letters, digits, '-', '_' and '.'";
const KEPT: &str = "must not end in .next, .previous or .rotation: these names are kept for the operator";
const DURATION: &str = "must be a duration such as 30m or 24h (units h, m, s, ms)";
const TEN_MINUTES: &str = "must be at least 10m";
const A_MINUTE: &str = "must be at least 1m";
const CRON: &str = "must be a cron expression of five fields (minute, hour, day of month, month, day of week), such as 0 3 * * 1";
const ZONE: &str = "must be a name of the IANA time zone database, such as Asia/Shanghai";
const ONE_OF_TWO: &str = "has an interval and a schedule: keep one of them";
const ZONE_OF_NOTHING: &str = "has a timeZone and no schedule: name a schedule, or leave timeZone out";
const OTHER_INSTANCE: &str = "is immutable: delete this VncPassword and create one for the other instance";
const OTHER_SECRET: &str = "is immutable: delete this VncPassword and create one for the other Secret";

/// What may not be created: where, which value (`null`: left out), and a part of what the API server says.
#[allow(clippy::too_many_lines, reason = "one table")]
fn refused() -> Vec<(&'static str, Value, String)> {
    let long = |first: &str, length: usize| json!(first.to_owned() + &"a".repeat(length - first.len()));
    let table = [
        ("/spec", json!(null), "spec: Required value"),
        ("/spec/instanceId", json!(null), "spec.instanceId: Required value"),
        ("/spec/instanceId", json!(5), "must be of type string"),
        ("/spec/instanceId", json!("i-"), "should be at least 3 chars long"),
        ("/spec/instanceId", long("i-", 65), "may not be more than 64 bytes"),
        ("/spec/instanceId", json!("i-ABC"), INSTANCE),
        ("/spec/instanceId", json!("x-abc"), INSTANCE),
        ("/spec/instanceId", json!(" i-abc"), INSTANCE),
        ("/spec/instanceId", json!("i-abc\n"), INSTANCE),
        ("/spec/instanceId", json!("i-a_b"), INSTANCE),
        ("/spec/instanceId", json!("i-a&VncPassword=b"), INSTANCE),
        ("/spec/regionId", json!(""), "should be at least 1 chars long"),
        ("/spec/regionId", long("cn-", 65), "may not be more than 64 bytes"),
        ("/spec/regionId", json!("x.example.com/?"), REGION),
        ("/spec/regionId", json!("cn-hangzhou@example.com"), REGION),
        ("/spec/regionId", json!("cn-hangzhou:80"), REGION),
        ("/spec/regionId", json!("CN-HANGZHOU"), REGION),
        ("/spec/regionId", json!("cn-Hangzhou"), REGION),
        ("/spec/regionId", json!("cn"), REGION),
        ("/spec/regionId", json!("c-hangzhou"), REGION),
        ("/spec/regionId", json!("china-hangzhou"), REGION),
        ("/spec/regionId", json!("cn-a-b-c-d-e"), REGION),
        ("/spec/regionId", json!("cn--hangzhou"), REGION),
        ("/spec/regionId", json!("cn-hangzhou-"), REGION),
        ("/spec/regionId", json!("cn-hangzhou\n"), REGION),
        ("/spec/secretRef", json!(null), "spec.secretRef: Required value"),
        ("/spec/secretRef/name", json!(null), "spec.secretRef.name: Required value"),
        ("/spec/secretRef/name", json!(""), "should be at least 1 chars long"),
        ("/spec/secretRef/name", long("a", 254), "may not be more than 253 bytes"),
        ("/spec/secretRef/name", json!("other/secret"), SECRET),
        ("/spec/secretRef/name", json!("../../pods/a"), SECRET),
        ("/spec/secretRef/name", json!("Upper"), SECRET),
        ("/spec/secretRef/name", json!("-a"), SECRET),
        ("/spec/secretRef/name", json!("a-"), SECRET),
        ("/spec/secretRef/name", json!("a..b"), SECRET),
        ("/spec/secretRef/name", json!("a?b"), SECRET),
        ("/spec/secretRef/namespace", json!("other"), "unknown field \"spec.secretRef.namespace\""),
        ("/spec/secretRef/key", json!(""), "should be at least 1 chars long"),
        ("/spec/secretRef/key", long("a", 245), "may not be more than 244 bytes"),
        ("/spec/secretRef/key", json!("a/b"), KEY),
        ("/spec/secretRef/key", json!("a b"), KEY),
        ("/spec/secretRef/key", json!("\u{e4}"), KEY),
        ("/spec/secretRef/key", json!("."), KEY),
        ("/spec/secretRef/key", json!(".."), KEY),
        ("/spec/secretRef/key", json!("password.next"), KEPT),
        ("/spec/secretRef/key", json!("password.previous"), KEPT),
        ("/spec/secretRef/key", json!("password.rotation"), KEPT),
        ("/spec/secretRef/key", json!(".next"), KEPT),
        ("/spec/enforceInterval", json!(""), "should be at least 2 chars long"),
        ("/spec/enforceInterval", json!("1".repeat(32) + "h"), "may not be more than 32 bytes"),
        ("/spec/enforceInterval", json!(600), "must be of type string"),
        ("/spec/enforceInterval", json!("junk"), DURATION),
        ("/spec/enforceInterval", json!("10"), DURATION),
        ("/spec/enforceInterval", json!("10d"), DURATION),
        ("/spec/enforceInterval", json!("-10m"), DURATION),
        ("/spec/enforceInterval", json!("1h 30m"), DURATION),
        ("/spec/enforceInterval", json!("1000000h"), DURATION),
        ("/spec/enforceInterval", json!("999999h999999h999999h"), DURATION),
        ("/spec/enforceInterval", json!("9m"), TEN_MINUTES),
        ("/spec/enforceInterval", json!("0h"), TEN_MINUTES),
        ("/spec/enforceInterval", json!("9m59s999ms"), TEN_MINUTES),
        ("/spec/rotation", json!({"every": "1h"}), "unknown field \"spec.rotation.every\""),
        ("/spec/rotation", json!({"interval": "1h", "schedule": "0 3 * * *"}), ONE_OF_TWO),
        ("/spec/rotation", json!({"timeZone": "UTC"}), ZONE_OF_NOTHING),
        ("/spec/rotation", json!({"interval": "1h", "timeZone": "UTC"}), ZONE_OF_NOTHING),
        ("/spec/rotation", interval(""), "should be at least 2 chars long"),
        ("/spec/rotation", interval(&("1".repeat(32) + "h")), "may not be more than 32 bytes"),
        ("/spec/rotation", interval("monthly"), DURATION),
        ("/spec/rotation", interval("30d"), DURATION),
        ("/spec/rotation", interval("59s"), A_MINUTE),
        ("/spec/rotation", schedule(""), "should be at least 1 chars long"),
        ("/spec/rotation", schedule(&"*".repeat(257)), "may not be more than 256 bytes"),
        ("/spec/rotation", schedule("0 3 * *"), CRON),
        ("/spec/rotation", schedule("0 0 3 * * *"), CRON),
        ("/spec/rotation", schedule("TZ=UTC 3 * * *"), CRON),
        ("/spec/rotation", schedule("0 3 * * *\n"), CRON),
        ("/spec/rotation", schedule("@reboot"), CRON),
        ("/spec/rotation", schedule("@every 1h"), CRON),
        ("/spec/rotation", zone(""), "should be at least 1 chars long"),
        ("/spec/rotation", zone(&"a".repeat(65)), "may not be more than 64 bytes"),
        ("/spec/rotation", zone("+08:00"), ZONE),
        ("/spec/rotation", zone("../etc/localtime"), ZONE),
        ("/spec/rotation", zone("Asia/"), ZONE),
        ("/spec/rotation", zone("New York"), ZONE),
        ("/spec/window", json!({"schedule": "0 2 * * *"}), "spec.window.duration: Required value"),
        ("/spec/window", json!({"duration": "1h"}), "spec.window.schedule: Required value"),
        ("/spec/window", json!({"schedule": "", "duration": "1h"}), "should be at least 1 chars long"),
        ("/spec/window", json!({"schedule": "daily", "duration": "1h"}), CRON),
        ("/spec/window", json!({"schedule": "@daily", "duration": "1d"}), DURATION),
        ("/spec/window", json!({"schedule": "@daily", "duration": "0.5m"}), A_MINUTE),
        ("/spec/window", json!({"schedule": "@daily", "duration": "1h", "timeZone": "UTC+8:00"}), ZONE),
        ("/spec/activation", json!("Restart"), "supported values: \"Manual\", \"Reboot\""),
        ("/spec/activation", json!(""), "supported values: \"Manual\", \"Reboot\""),
        ("/spec/suspend", json!("yes"), "must be of type boolean"),
        ("/spec/instanceID", json!("i-abc"), "unknown field \"spec.instanceID\""),
    ];
    let owned = |(place, value, message): (_, _, &str)| (place, value, message.to_owned());
    table.into_iter().chain(refused_credentials()).map(owned).collect()
}

fn refused_credentials() -> [(&'static str, Value, &'static str); 6] {
    const PLACE: &str = "/spec/credentialsRef";
    let unknown = "unknown field \"spec.credentialsRef.namespace\"";
    [
        (PLACE, json!({}), "spec.credentialsRef.name: Required value"),
        (PLACE, json!({"name": ""}), "should be at least 1 chars long"),
        (PLACE, json!({"name": "a".repeat(254)}), "may not be more than 253 bytes"),
        (PLACE, json!({"name": "other/secret"}), SECRET),
        (PLACE, json!({"name": "Upper"}), SECRET),
        (PLACE, json!({"name": "a", "namespace": "other"}), unknown),
    ]
}

/// What may be created, each with the rest as in [`good`].
fn accepted() -> Vec<(&'static str, Value)> {
    let long = |first: &str, length: usize| json!(first.to_owned() + &"a".repeat(length - first.len()));
    vec![
        ("/spec/instanceId", json!("i-1")),
        ("/spec/instanceId", long("i-", 64)),
        ("/spec/regionId", json!("cn-hangzhou")),
        ("/spec/regionId", json!("ap-southeast-1")),
        ("/spec/regionId", json!("cn-shanghai-finance-1")),
        ("/spec/regionId", json!("me-central-1")),
        ("/spec/credentialsRef", json!({"name": "a.b-c.d"})),
        ("/spec/secretRef/name", json!("a.b-c.d")),
        ("/spec/secretRef/name", long("", 253)),
        ("/spec/secretRef/key", long("", 244)),
        ("/spec/secretRef/key", json!("...")),
        ("/spec/secretRef/key", json!(".dockerconfigjson")),
        ("/spec/secretRef/key", json!("VNC_password-1.next.txt")),
        ("/spec/secretRef/key", json!("next")),
        ("/spec/enforceInterval", json!("10m")),
        ("/spec/enforceInterval", json!("600s")),
        ("/spec/enforceInterval", json!("600000ms")),
        ("/spec/enforceInterval", json!("1.5h")),
        ("/spec/enforceInterval", json!("1h30m")),
        ("/spec/enforceInterval", json!("8760h")),
        ("/spec/rotation", json!({})),
        ("/spec/rotation", json!({"interval": null, "schedule": "0 3 * * *", "timeZone": null})),
        ("/spec/rotation", interval("1m")),
        ("/spec/rotation", interval("720h")),
        ("/spec/rotation", interval("99999h59m59s")),
        ("/spec/rotation", schedule("0 3 * * 1")),
        ("/spec/rotation", schedule("*/15 0-6,22 L jan-JUN MON#2")),
        ("/spec/rotation", schedule("0  3 ? * +5")),
        ("/spec/rotation", schedule("@daily")),
        ("/spec/rotation", schedule(&format!("0 3 * * {}1", "1,".repeat(123)))),
        ("/spec/rotation", zone("UTC")),
        ("/spec/rotation", zone("Asia/Shanghai")),
        ("/spec/rotation", zone("America/Argentina/ComodRivadavia")),
        ("/spec/rotation", zone("Etc/GMT-14")),
        ("/spec/rotation", zone("America/Port-au-Prince")),
        ("/spec/window", json!({"schedule": "0 2 * * 6", "duration": "4h"})),
        ("/spec/window", json!({"schedule": "@weekly", "duration": "60s", "timeZone": "Europe/Berlin"})),
        ("/spec/activation", json!("Manual")),
        ("/spec/activation", json!("Reboot")),
        ("/spec/suspend", json!(true)),
    ]
}

fn interval(interval: &str) -> Value {
    json!({"interval": interval})
}

fn schedule(schedule: &str) -> Value {
    json!({"schedule": schedule})
}

fn zone(zone: &str) -> Value {
    json!({"schedule": "0 3 * * *", "timeZone": zone})
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused_with_words_that_help() {
    let world = World::new().await;
    let mut wrong = Vec::new();
    for (place, value, message) in refused() {
        match create(&world, with(place, value.clone())).await {
            Ok(_) => wrong.push(format!("{place} {value}: accepted, instead of: {message}")),
            Err(said) if said.contains(&message) => {}
            Err(said) => wrong.push(format!("{place} {value}: {said:?}, instead of: {message}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_work_is_accepted() {
    let world = World::new().await;
    for (place, value) in accepted() {
        let created = create(&world, with(place, value.clone())).await;
        let created = created.unwrap_or_else(|said| panic!("{place} {value}: {said}"));
        assert_eq!(created.pointer(place), Some(&value));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_is_password_unless_named() {
    let world = World::new().await;
    let created = create(&world, good()).await.unwrap();
    assert_eq!(created["spec"]["secretRef"], json!({"name": "s", "key": "password"}));
    assert_eq!(created["spec"].as_object().unwrap().len(), 2, "nothing else is filled in: {created}");
}

#[tokio::test(flavor = "multi_thread")]
async fn instance_and_secret_are_immutable_and_the_rest_is_not() {
    let world = World::new().await;
    world.object_with("a", json!({"instanceId": "i-a", "secretRef": {"name": "s", "key": "k"}})).await;
    let change = async |change: &Value| {
        let patch = Patch::Merge(json!({"spec": change}));
        world.objects().patch("a", &PatchParams::default(), &patch).await.map_err(|error| error.to_string())
    };
    for (other, message) in [
        (json!({"instanceId": "i-b"}), OTHER_INSTANCE),
        (json!({"secretRef": {"name": "t"}}), OTHER_SECRET),
        (json!({"secretRef": {"key": "l"}}), OTHER_SECRET),
        // Left out, it is `password` by default.
        (json!({"secretRef": {"key": null}}), OTHER_SECRET),
    ] {
        let said = change(&other).await.expect_err(&other.to_string());
        assert!(said.contains(message), "{other}: {said:?}, instead of: {message}");
    }
    for allowed in [
        json!({"regionId": "cn-beijing"}),
        json!({"regionId": "cn-hangzhou"}),
        json!({"regionId": null}),
        json!({"enforceInterval": "10m"}),
        json!({"enforceInterval": "1h"}),
        json!({"enforceInterval": null}),
        json!({"rotation": {"interval": "1h"}}),
        json!({"rotation": {"interval": null, "schedule": "0 3 * * *"}}),
        json!({"rotation": null}),
        json!({"window": {"schedule": "0 2 * * *", "duration": "2h"}}),
        json!({"window": null}),
        json!({"activation": "Reboot"}),
        json!({"suspend": true}),
        json!({"suspend": false}),
        json!({"instanceId": "i-a", "secretRef": {"name": "s", "key": "k"}}),
    ] {
        change(&allowed).await.unwrap_or_else(|said| panic!("{allowed}: {said}"));
    }
}

#[test]
fn every_rule_of_the_schema_is_tried() {
    let crd = serde_json::to_value(VncPassword::crd()).unwrap();
    let mut rules = BTreeSet::new();
    messages(&crd, &mut rules);
    let mut tried: BTreeSet<String> = refused().into_iter().map(|(_, _, message)| message).collect();
    tried.extend([OTHER_INSTANCE.to_owned(), OTHER_SECRET.to_owned()]);
    let untried: Vec<_> = rules.difference(&tried).collect();
    assert!(untried.is_empty(), "no object breaks these rules here: {untried:#?}");
}

// ------------------------------------------------------------------------------------------------ what people are shown

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_get_shows_what_matters() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let status = world.until_ready("a").await;
    let narrow = kubectl(&world, &["get", "vncpw"]).await;
    let columns = columns(&narrow);
    let heads: Vec<&str> = columns.iter().map(|(head, _)| head.as_str()).collect();
    assert_eq!(heads, ["NAME", "INSTANCE", "READY", "REASON", "REBOOT", "LAST ROTATION", "NEXT", "AGE"]);
    let cells: Vec<&str> = columns.iter().map(|(_, cell)| cell.as_str()).collect();
    assert_eq!(cells[..5], ["a", instance.as_str(), "True", "Applied", ""]);
    assert!(cells[5].ends_with('s') && cells[6].is_empty() && cells[7].ends_with('s'), "{narrow}");
    let wide = self::columns(&kubectl(&world, &["get", "vncpw", "--output", "wide"]).await);
    assert_eq!(wide.len(), 10);
    assert_eq!(wide[8], ("REGION".to_owned(), "cn-hangzhou".to_owned()));
    assert_eq!(wide[9], ("REQUEST ID".to_owned(), status.request_id.unwrap()));
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_get_shows_that_a_restart_is_needed() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    world.cloud().put_instance(Instance::new("i-old").not_optimized());
    world.secret("a", "Abc123").await;
    world.object_with("a", json!({"instanceId": "i-old", "secretRef": {"name": "a"}})).await;
    world
        .until("a", "waiting for a restart", |status| {
            status.reason(vncpassword_core::api::ConditionType::RebootRequired)
                == Some(Reason::RebootRequired)
        })
        .await;
    let shown = columns(&kubectl(&world, &["get", "vncpw"]).await);
    let cells: Vec<&str> = shown.iter().map(|(_, cell)| cell.as_str()).collect();
    assert_eq!(cells[2..6], ["False", "RebootRequired", "True", ""]);
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_name_of_the_kind_finds_its_objects() {
    let world = World::new().await;
    world.object_with("a", json!({"instanceId": "i-a", "secretRef": {"name": "a"}})).await;
    let names = VncPassword::crd().spec.names;
    let own = [names.plural, names.singular.unwrap()].into_iter().chain(names.short_names.unwrap());
    let own: Vec<String> = own.collect();
    let categories = names.categories.unwrap();
    assert_eq!((own.len(), categories.len()), (3, 1));
    for name in own.iter().chain(&categories) {
        let found = kubectl(&world, &["get", name, "--output", "name"]).await;
        // Of the category, kubectl shows the kinds without a namespace as well.
        let found = found.lines().filter(|line| !line.starts_with("clustervncpassword."));
        assert_eq!(found.collect::<Vec<_>>(), ["vncpassword.vncpassword.dev/a"], "kubectl get {name}");
    }
    // kubectl takes a category first: `kubectl delete NAME x` would then delete an x of every kind in it.
    assert!(!own.contains(&categories[0]), "the category {:?} is a name of the kind", categories[0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_explain_tells_every_field() {
    let world = World::new().await;
    let crd = serde_json::to_value(VncPassword::crd()).unwrap();
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
    for path in [
        "spec",
        "spec.secretRef",
        "spec.rotation",
        "spec.window",
        "status",
        "status.applied",
        "status.instance",
        "status.retry",
    ] {
        let said = words(&kubectl(&world, &["explain", &format!("vncpassword.{path}")]).await);
        let fields = path.split('.').fold(&json!({"properties": schema}), |at, name| &at["properties"][name])
            ["properties"]
            .as_object()
            .unwrap()
            .clone();
        for (name, field) in fields {
            let documented = words(field["description"].as_str().unwrap_or_default());
            assert!(!documented.is_empty(), "{path}.{name} is not documented");
            assert!(said.contains(&format!("{name} <")), "{path}.{name} is not shown: {said}");
            assert!(said.contains(&documented), "{path}.{name}: {documented:?} is not shown: {said}");
        }
    }
}

// -------------------------------------------------------------------------------------------------------------- status

#[tokio::test(flavor = "multi_thread")]
async fn two_writers_of_conditions_do_not_overwrite_each_other() {
    let world = World::new().await;
    world.object_with("a", json!({"instanceId": "i-a", "secretRef": {"name": "a"}})).await;
    let write = async |manager: &str, type_: &str, status: &str| {
        let condition = json!({"type": type_, "status": status, "reason": "Applied", "message": manager,
            "lastTransitionTime": "2026-01-02T03:04:05Z"});
        let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword",
            "metadata": {"name": "a"}, "status": {"conditions": [condition]}});
        let parameters = PatchParams::apply(manager);
        let object = world.objects().patch_status("a", &parameters, &Patch::Apply(object)).await.unwrap();
        let conditions = serde_json::to_value(object.status.unwrap().conditions).unwrap();
        let conditions = conditions.as_array().unwrap().clone();
        let told = conditions.iter().map(|it| format!("{}={}", it["type"], it["status"]).replace('"', ""));
        told.collect::<BTreeSet<_>>()
    };
    let both = |first: &str, second: &str| BTreeSet::from([first.to_owned(), second.to_owned()]);
    write("one", "Ready", "False").await;
    assert_eq!(write("two", "Stalled", "True").await, both("Ready=False", "Stalled=True"));
    assert_eq!(write("one", "Ready", "True").await, both("Ready=True", "Stalled=True"));
    // What a manager no longer applies goes, and only that.
    assert_eq!(write("two", "Suspended", "True").await, both("Ready=True", "Suspended=True"));
}

#[tokio::test(flavor = "multi_thread")]
async fn spec_and_status_are_written_apart() {
    let world = World::new().await;
    let resource = ApiResource::erase::<VncPassword>(&());
    let objects: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    let mut object = good();
    object["status"] = json!({"requestId": "R-created"});
    let object: DynamicObject = serde_json::from_value(object).unwrap();
    let created = objects.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(created.data.get("status"), None);

    let both = |spec: &str, status: &str| {
        Patch::Merge(json!({"spec": {"regionId": spec}, "status": {"requestId": status}}))
    };
    let parameters = PatchParams::default();
    let told = |object: &DynamicObject| {
        let data = &object.data;
        let generation = object.metadata.generation.unwrap();
        (data["spec"]["regionId"].clone(), data["status"]["requestId"].clone(), generation)
    };
    let written = objects.patch_status("a", &parameters, &both("cn-qingdao", "R-1")).await.unwrap();
    assert_eq!(told(&written), (json!(null), json!("R-1"), 1));
    let written = objects.patch("a", &parameters, &both("cn-beijing", "R-2")).await.unwrap();
    assert_eq!(told(&written), (json!("cn-beijing"), json!("R-1"), 2));
}

// ------------------------------------------------------------------------------------------------------------- helpers

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Runs kubectl in the world's namespace, from the root of the repository, and returns what it prints.
pub async fn kubectl(world: &World, arguments: &[&str]) -> String {
    kubectl_with(world, arguments, "").await
}

/// The same with something on its standard input.
pub async fn kubectl_with(world: &World, arguments: &[&str], input: &str) -> String {
    static SERVED: OnceCell<()> = OnceCell::const_new();
    // The API server tells clients of a new kind a moment after it has begun to serve it.
    let served = SERVED.get_or_init(async || {
        let told = async || {
            let explain = async |kind| run_kubectl(world, &["explain", kind], "").await.is_ok();
            explain("vncpassword").await && explain("clustervncpassword").await
        };
        let deadline = Instant::now() + PATIENCE;
        while !told().await {
            assert!(Instant::now() < deadline, "kubectl does not hear of VncPasswords in time");
        }
    });
    served.await;
    let output = run_kubectl(world, arguments, input).await;
    output.unwrap_or_else(|errors| panic!("kubectl {arguments:?}: {errors}"))
}

async fn run_kubectl(world: &World, arguments: &[&str], input: &str) -> Result<String, String> {
    static BIN: OnceLock<PathBuf> = OnceLock::new();
    let bin = BIN.get_or_init(|| {
        let script = repository().join("hack/control-plane.sh");
        let output = std::process::Command::new(script).arg("bin-dir").output().unwrap();
        PathBuf::from(String::from_utf8(output.stdout).unwrap().trim_end())
    });
    let kubeconfig = shared_kubeconfig();
    let mut kubectl = Command::new(bin.join("kubectl"))
        .current_dir(repository())
        .arg("--kubeconfig")
        .arg(&kubeconfig)
        .arg("--cache-dir")
        .arg(kubeconfig.with_file_name("kubectl-cache"))
        .args(["--namespace", &world.namespace])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("kubectl cannot be started");
    // One that does not read its input may be gone already.
    kubectl.stdin.take().unwrap().write_all(input.as_bytes()).await.ok();
    let output = kubectl.wait_with_output().await.unwrap();
    if output.status.success() {
        Ok(String::from_utf8(output.stdout).unwrap())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// An object that is accepted.
fn good() -> Value {
    json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword", "metadata": {"name": "a"},
        "spec": {"instanceId": "i-bp67acfmxazb4p", "secretRef": {"name": "s"}}})
}

/// The same with something else at one place; `null`: nothing at all.
fn with(place: &str, value: Value) -> Value {
    let mut object = good();
    let (parent, name) = place.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap().as_object_mut().unwrap();
    parent.remove(name);
    if !value.is_null() {
        parent.insert(name.to_owned(), value);
    }
    object
}

/// Asks the API server whether it would create this: the object as it would be, or what it says against it.
async fn create(world: &World, object: Value) -> Result<Value, String> {
    let path = format!("/apis/vncpassword.dev/v1alpha1/namespaces/{}/vncpasswords", world.namespace);
    let request = http::Request::post(format!("{path}?dryRun=All&fieldValidation=Strict"))
        .header("content-type", "application/json")
        .body(serde_json::to_vec(&object).unwrap());
    let created = world.client.request(request.unwrap()).await;
    created.map_err(|error| error.to_string())
}

/// All messages of validation rules.
pub fn messages(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if name == "x-kubernetes-validations" {
                    let rules = field.as_array().unwrap();
                    found.extend(rules.iter().map(|rule| rule["message"].as_str().unwrap().to_owned()));
                }
                messages(field, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| messages(item, found)),
        _ => {}
    }
}

/// Head and cell of each column of a table with one row. Columns are apart by two blanks and more.
pub fn columns(output: &str) -> Vec<(String, String)> {
    let (head, row) = output.trim_end().split_once('\n').expect("a head and a row");
    assert!(!row.contains('\n'), "one row: {output}");
    let mut starts = vec![0];
    let bytes = head.as_bytes();
    starts.extend((2..bytes.len()).filter(|at| bytes[at - 2..*at] == *b"  " && bytes[*at] != b' '));
    let ends = starts.iter().skip(1).copied().chain([usize::MAX]);
    let cell = |line: &str, start: usize, end: usize| {
        line.get(start.min(line.len())..end.min(line.len())).unwrap_or_default().trim().to_owned()
    };
    starts.iter().zip(ends).map(|(start, end)| (cell(head, *start, end), cell(row, *start, end))).collect()
}

/// The text with every run of blanks as one blank.
pub fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
