//! `plan`: Nodes, tags and lists, with rights and credentials and without; nothing is ever changed.

use std::{fmt::Write as _, process::Stdio};

use futures::future::join_all;
use insta::assert_snapshot;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api,
    api::{ListParams, PostParams},
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use vncpassword_core::api::ClusterVncPassword;
use vncpassword_emulator::{AccessKey, Instance};

use super::plugin::{PROGRAM, Plugin, Ran, user};
use vncpassword_test_support::{
    World,
    control_plane::shared_kubeconfig,
    fleet::{self, Fleet},
};

/// A file with a fleet of the test's name.
struct File {
    _directory: tempfile::TempDir,
    path: String,
}

fn file(world: &World, spec: &Value) -> File {
    let mut whole = json!({"targetNamespace": world.namespace});
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
        "metadata": {"name": world.namespace}, "spec": whole});
    write(&serde_saphyr::to_string(&object).unwrap())
}

fn write(text: &str) -> File {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("fleet.yaml");
    std::fs::write(&path, text).unwrap();
    File { path: path.to_str().unwrap().to_owned(), _directory: directory }
}

/// Without credentials for any cloud, and without a metadata service to ask.
fn plugin(world: &World) -> Plugin {
    Plugin::of(world).with("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "true").with("HOME", "/nonexistent")
}

/// With the emulator for a cloud.
fn with_cloud(world: &World) -> Plugin {
    let url = world.emulator.url();
    plugin(world)
        .with("ALIBABA_CLOUD_ACCESS_KEY_ID", AccessKey::DEFAULT_ID)
        .with("ALIBABA_CLOUD_ACCESS_KEY_SECRET", AccessKey::DEFAULT_SECRET)
        .with("ECS_ENDPOINT", &url)
        .with("STS_ENDPOINT", &url)
}

fn snapshot(ran: &Ran, world: &World, file: &File) -> String {
    ran.snapshot(world)
        .replace(&file.path, "fleet.yaml")
        .replace(&world.namespace.replace('-', ""), "prod")
        .replace(&world.namespace, "prod")
}

async fn assert_nothing_changed(world: &World, fleets: usize) {
    let all: Api<ClusterVncPassword> = Api::all(world.client.clone());
    let found = all.list(&ListParams::default()).await.unwrap();
    let ours = found.items.iter().filter(|fleet| fleet.spec.target_namespace == world.namespace);
    assert_eq!(ours.count(), fleets, "a plan changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_are_planned_and_nothing_is_changed() {
    let world = World::new().await;
    let instances = fleet::nodes(&world, 4).await;
    fleet::node(&world, "empty", None).await;
    let taken = json!({"instanceId": instances[1], "secretRef": {"name": "db"}});
    world.object_with("db", taken).await;
    let file = file(
        &world,
        &json!({"nodeSelector": {"matchLabels": {"test": world.namespace}},
        "exclude": [instances[3]], "rollout": {"maxConcurrent": 1}}),
    );
    let ran = plugin(&world).run(&format!("plan -f {} --rate 2/min -o wide", file.path)).await;
    let text = snapshot(&ran, &world, &file);
    // The end by the clock of this run.
    let text = super::timeless::timeless(&text);
    assert_snapshot!("plan_nodes", text);
    assert_nothing_changed(&world, 0).await;
    let names = plugin(&world).run(&format!("plan -f {} -o name", file.path)).await;
    let mut expected = String::new();
    for instance in [&instances[0], &instances[2]] {
        writeln!(expected, "vncpassword.vncpassword.dev/{}-{instance}", world.namespace).unwrap();
    }
    assert_eq!(names.out, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_nodes_are_planned_page_by_page() {
    let world = World::new().await;
    let nodes: Api<Node> = Api::all(world.client.clone());
    let create = |n: usize| {
        let node = json!({"metadata": {"name": format!("{}-{n}", world.namespace), "labels": {"test": world.namespace}},
            "spec": {"providerID": format!("cn-hangzhou.i-{}n{n}", world.namespace.replace('-', ""))}});
        let (nodes, node) = (nodes.clone(), serde_json::from_value::<Node>(node).unwrap());
        async move { nodes.create(&PostParams::default(), &node).await.unwrap() }
    };
    join_all((0..1000).map(create)).await;
    let file = file(&world, &json!({"nodeSelector": {"matchLabels": {"test": world.namespace}}}));
    let ran = plugin(&world).run(&format!("plan -f {} --rate 60/min -o json", file.path)).await;
    ran.assert_code(0);
    let plan: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(plan["instances"].as_array().unwrap().len(), 1000);
    assert_eq!((&plan["rollout"]["waves"], &plan["rollout"]["seconds"]), (&json!(100), &json!(1000)));
    let text = plugin(&world).run(&format!("plan -f {}", file.path)).await;
    assert!(text.out.contains("and 980 more; -o wide shows all"), "{}", text.out);
    assert!(text.out.contains("1000 instances, in 100 waves, at most 10 at once."), "{}", text.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_are_asked_of_the_cloud_where_there_are_credentials() {
    let world = World::new().await;
    let prefix = world.namespace.replace('-', "");
    for n in 0..250 {
        let instance =
            Instance::new(format!("i-{prefix}{n}")).tag("vnc", &*world.namespace).region("cn-hangzhou");
        let instance = if n < 200 { instance.tag("ours", "yes") } else { instance };
        world.cloud().put_instance(instance);
    }
    let spec = json!({"tags": [{"key": "vnc", "value": world.namespace}], "regionIds": ["cn-hangzhou"],
        "requireTags": [{"key": "ours"}]});
    let tags = file(&world, &spec);
    let ran = with_cloud(&world).run(&format!("plan -f {} -o json", tags.path)).await;
    ran.assert_code(0);
    let plan: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(plan["instances"].as_array().unwrap().len(), 200, "{}", ran.err);
    assert_eq!(plan["untagged"].as_array().unwrap().len(), 50);
    let blind = plugin(&world).run(&format!("plan -f {}", tags.path)).await;
    assert_snapshot!("plan_without_credentials", snapshot(&blind, &world, &tags));
    let refused = with_cloud(&world).with("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "wrong");
    let refused = refused.run(&format!("plan -f {}", tags.path)).await;
    assert!(refused.out.contains("(code SignatureDoesNotMatch)"), "{}", refused.out);

    let listed = json!({"instanceIds": [format!("i-{prefix}1"), format!("i-{prefix}249"), "i-gone"],
        "requireTags": [{"key": "ours"}]});
    let listed = file(&world, &listed);
    let nowhere = with_cloud(&world).run(&format!("plan -f {}", listed.path)).await;
    let words = nowhere.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains("the region of instance i-gone is not known: give --region"), "{words}");
    assert!(words.contains("selects at most 3 instances"), "{words}");
    let here = with_cloud(&world).run(&format!("plan -f {} --region cn-hangzhou", listed.path)).await;
    assert!(here.out.contains("1 instance left out for want of spec.requireTags"), "{}", here.out);
    assert!(here.out.contains("1 instance that the cloud does not show you"), "{}", here.out);
    assert!(here.out.contains("selects 1 instance: 1 new"), "{}", here.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_that_exists_is_planned_as_what_it_would_become() {
    let world = World::new().await;
    let instances = fleet::instances(&world, 3);
    let operator = world.operator();
    let fleet = Fleet::of(&world, &instances[..2], json!({})).await;
    for instance in &instances[..2] {
        fleet.until_child(instance, true).await;
    }
    operator.stop().await;
    let file = file(&world, &json!({"instanceIds": [instances[1], instances[2]]}));
    let ran = plugin(&world).run(&format!("plan -f {}", file.path)).await;
    assert_snapshot!("plan_of_a_fleet_that_exists", snapshot(&ran, &world, &file));
    let now: Vec<String> = fleet.get().await.spec.instance_ids.unwrap();
    assert_eq!(now, instances[..2], "a plan changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_rights_what_is_not_known_is_said() {
    let world = World::new().await;
    let file = file(&world, &json!({"nodeSelector": {}}));
    let ran = plugin(&world).run(&format!("plan -f {} --as nobody", file.path)).await;
    assert_snapshot!("plan_without_rights", snapshot(&ran, &world, &file));
    let reader =
        user(&world, "planner", &[("list", "clustervncpasswords"), ("create", "clustervncpasswords")]).await;
    let ran = plugin(&world).run(&format!("plan -f {} --as {reader}", file.path)).await;
    ran.assert_code(0);
    assert!(ran.out.contains("The API server would take it"), "{}", ran.out);
    assert!(ran.out.contains("which Nodes there are: you may not list nodes"), "{}", ran.out);
    assert_nothing_changed(&world, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_refuses_is_said_in_its_words() {
    let world = World::new().await;
    let file = file(
        &world,
        &json!({"instanceIds": ["i-a"], "exclude": ["cn-hangzhou.i-b"], "rediscoverInterval": "5s"}),
    );
    let ran = plugin(&world).run(&format!("plan -f {}", file.path)).await;
    assert_snapshot!("plan_refused", snapshot(&ran, &world, &file));
    assert_nothing_changed(&world, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_missing_is_in_the_way() {
    let world = World::new().await;
    let file = file(&world, &json!({"instanceIds": ["i-a"], "targetNamespace": "nowhere"}));
    let ran = plugin(&world).run(&format!("plan -f {}", file.path)).await;
    ran.assert_code(0);
    assert!(ran.out.contains("Namespace nowhere does not exist, so nothing would start"), "{}", ran.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_planned_names_the_field() {
    let world = World::new().await;
    for (text, said) in [
        ("", "it is empty"),
        ("{", "it is neither YAML nor JSON"),
        ("apiVersion: v1\nkind: Secret\n", "apiVersion is v1"),
        (
            "apiVersion: vncpassword.dev/v1alpha1\nkind: ClusterVncPassword\nmetadata: {name: a}\nspec: {targetNamespace: a, nodeselector: {}}\n",
            "spec.nodeselector: there is no such field; is it nodeSelector?",
        ),
    ] {
        let file = write(text);
        let ran = plugin(&world).run(&format!("plan -f {}", file.path)).await;
        ran.assert_code(1);
        assert!(ran.err.contains(&format!("{}: {said}", file.path)), "{ran:?}");
    }
    let missing = plugin(&world).run("plan -f /nonexistent.yaml").await;
    missing.assert_code(1);
    assert!(missing.err.contains("/nonexistent.yaml: "), "{missing:?}");
    plugin(&world).run("plan").await.assert_code(2);
    plugin(&world).run("plan -f a --rate none").await.assert_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_is_read_as_json_or_yaml() {
    let world = World::new().await;
    let object = json!({"apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword",
        "metadata": {"name": world.namespace}, "spec": {"targetNamespace": world.namespace, "instanceIds": ["i-piped"]}});
    let mut child = tokio::process::Command::new(PROGRAM)
        .args(["plan", "-f", "-", "-o", "yaml"])
        .env("KUBECONFIG", shared_kubeconfig())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(object.to_string().as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && text.contains("instance: i-piped"), "{text}");
}
