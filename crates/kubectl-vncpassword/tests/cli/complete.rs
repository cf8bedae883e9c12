//! Completion, as kubectl asks for it.

use std::process::Command;

use serde_json::json;

use super::{
    plugin::{PROGRAM, Plugin},
    states,
};
use vncpassword_test_support::{World, control_plane::shared_kubeconfig};

#[tokio::test(flavor = "multi_thread")]
async fn names_of_objects_are_offered() {
    let world = World::new().await;
    for name in ["db-1", "db-2", "web-1"] {
        states::put(&world, name, json!({}), json!({})).await;
    }
    let fleet = states::fleet(&world).await;
    let plugin = Plugin::of(&world);
    let offered = async |words: &str| {
        // The time of a person at the keyboard is no time for a busy machine.
        let line = format!("__complete -n {} --request-timeout 2m {words}", world.namespace);
        let ran = plugin.run_exactly(&line.split(' ').collect::<Vec<_>>()).await;
        ran.assert_code(0);
        assert_eq!(ran.err, "");
        ran.out
    };
    assert_eq!(offered("get ").await, "db-1\ndb-2\nweb-1\n:4\n");
    assert_eq!(offered("get db").await, "db-1\ndb-2\n:4\n");
    assert_eq!(
        offered("status db-1 db").await,
        "db-2\n:4\n",
        "what stands there already is not offered again"
    );
    assert_eq!(offered("status -l web-1 w").await, "web-1\n:4\n", "a flag's value is no object");
    // Fleets of other tests may begin alike.
    let fleets = offered(&format!("rotate fleet/{fleet}")).await;
    let alike = |line: &str| line.starts_with(&format!("fleet/{fleet}")) || line == ":4";
    assert!(
        fleets.lines().any(|line| line == format!("fleet/{fleet}")) && fleets.lines().all(alike),
        "{fleets}"
    );
    assert_eq!(offered("get --sh").await, "--show\n:4\n");
    assert_eq!(offered("status -o y").await, "yaml\n:4\n");
    assert_eq!(offered("status --output=y").await, "--output=yaml\n:4\n");
    assert_eq!(offered("--context contr").await, "control-plane\n:4\n");
    assert!(offered("get -n kube-s").await.contains("kube-system\n"));
    assert_eq!(offered("get --as nobody ").await, ":4\n", "where nothing may be read nothing is said");
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_finds_the_plugin_and_its_completion() {
    let world = World::new().await;
    states::put(&world, "db-1", json!({}), json!({})).await;
    let root = env!("CARGO_MANIFEST_DIR");
    let tools = Command::new(format!("{root}/../../hack/control-plane.sh")).arg("bin-dir").output().unwrap();
    let tools = String::from_utf8(tools.stdout).unwrap();
    let programs = std::path::Path::new(PROGRAM).parent().unwrap().display().to_string();
    let path = format!("{programs}:{root}/package:{}:/usr/bin:/bin", tools.trim());
    let kubectl = |arguments: &[&str]| {
        let mut command = Command::new(format!("{}/kubectl", tools.trim()));
        let home = tempfile::tempdir().unwrap();
        command
            .env_clear()
            .env("PATH", &path)
            .env("HOME", home.path())
            .env("KUBECONFIG", shared_kubeconfig());
        let output = command.args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let namespace = world.namespace.as_str();
    let table = kubectl(&["vncpassword", "status", "-n", namespace]);
    assert!(table.contains("db-1"), "{table}");
    let offered = kubectl(&["__complete", "vncpassword", "get", "-n", namespace, "--request-timeout=2m", ""]);
    assert!(offered.starts_with("db-1\n"), "{offered}");
}
