//! `status`: normal, empty and broken states, with rights and without, in a pipe and on a terminal of 80 columns.

use insta::assert_snapshot;
use serde_json::{Value, json};

use super::{
    plugin::{Plugin, user},
    states,
};
use vncpassword_test_support::{World, control_plane::ControlPlane};

#[tokio::test(flavor = "multi_thread")]
async fn each_state_reads_as_what_it_is_in_a_pipe_and_on_a_terminal() {
    let world = World::new().await;
    states::all(&world).await;
    let plugin = Plugin::of(&world);
    assert_snapshot!("status_pipe", plugin.run("status").await.snapshot(&world));
    let coloured = plugin.on_terminal("status", "").await;
    assert!(coloured.out.contains("\u{1b}[31mdb-2 "), "{coloured:?}");
    assert!(!plugin.run("status").await.out.contains('\u{1b}'));
    let terminal = plugin.clone().with("NO_COLOR", "1").on_terminal("status", "").await;
    assert!(terminal.out.lines().take(7).all(|line| line.chars().count() <= 80), "{}", terminal.out);
    assert_snapshot!("status_terminal", terminal.snapshot(&world));
    assert_snapshot!("status_wide", plugin.run("status -o wide").await.snapshot(&world));
}

#[tokio::test(flavor = "multi_thread")]
async fn where_there_is_nothing_that_is_said() {
    let world = World::new().await;
    let plugin = Plugin::of(&world);
    assert_snapshot!("status_empty", plugin.run("status").await.snapshot(&world));
    let selected = plugin.run("status -l team=db").await;
    selected.assert_code(0);
    assert!(selected.err.contains("No VncPassword with labels team=db"), "{selected:?}");
    let list: Value = serde_json::from_str(&plugin.run("status -o json").await.out).unwrap();
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_it_is_named() {
    let world = World::new().await;
    let plugin = Plugin::of(&world);
    assert_snapshot!("status_forbidden", plugin.run("status --as nobody").await.snapshot(&world));
    let everywhere = plugin.run("status -A --as nobody").await;
    everywhere.assert_code(1);
    assert!(everywhere.err.contains("you may not list vncpasswords: "), "{everywhere:?}");
    let fleets = plugin.run("status --fleets --as nobody").await;
    fleets.assert_code(1);
    assert!(
        fleets.err.contains("the right to list clustervncpasswords.vncpassword.dev is missing"),
        "{fleets:?}"
    );
    let watched = plugin.run("status --watch --as nobody").await;
    watched.assert_code(1);
    assert!(watched.err.contains("you may not list vncpasswords"), "{watched:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_right_to_read_is_enough() {
    let world = World::new().await;
    states::put(&world, "a", json!({}), json!({"conditions": [states::in_effect(90)]})).await;
    let reader = user(&world, "reader", &[("list", "vncpasswords"), ("get", "vncpasswords")]).await;
    let plugin = Plugin::of(&world);
    for line in ["status", "status a", "status a -o yaml"] {
        let ran = plugin.run(&format!("{line} --as {reader}")).await;
        ran.assert_code(0);
        assert_eq!(ran.err, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_not_there_is_told_and_the_others_are_shown() {
    let world = World::new().await;
    states::put(&world, "a", json!({}), json!({"conditions": [states::in_effect(90)]})).await;
    let ran = Plugin::of(&world).run("status a nothing fleet/nothing").await;
    assert_snapshot!(
        "status_missing",
        ran.snapshot(&world).replace("90s", "Ns").replace("91s", "Ns").replace("92s", "Ns")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_come_as_json_yaml_and_names() {
    let world = World::new().await;
    for name in ["a", "b"] {
        states::put(&world, name, json!({}), json!({"conditions": [states::in_effect(90)]})).await;
    }
    let plugin = Plugin::of(&world);
    let one: Value = serde_json::from_str(&plugin.run("status a -o json").await.out).unwrap();
    assert_eq!((&one["kind"], &one["metadata"]["name"]), (&json!("VncPassword"), &json!("a")));
    assert_eq!(one["metadata"].get("managedFields"), None);
    let both: Value = serde_json::from_str(&plugin.run("status -o json").await.out).unwrap();
    assert_eq!(both["items"].as_array().unwrap().len(), 2);
    assert_eq!(both["items"][0]["kind"], "VncPassword", "each says what it is");
    let names = plugin.run("status -o name").await.out;
    assert_eq!(names, "vncpassword.vncpassword.dev/a\nvncpassword.vncpassword.dev/b\n");
    // What it writes it takes.
    plugin.run(&format!("status {}", names.replace('\n', " "))).await.assert_code(0);
    assert!(plugin.run("status a -o yaml").await.out.contains("kind: VncPassword\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_is_a_page_with_its_progress_and_failures() {
    let world = World::new().await;
    let name = states::fleet(&world).await;
    let plugin = Plugin::of(&world);
    let of = |text: String| text.replace(&name, "nodes");
    assert_snapshot!(
        "status_fleet_pipe",
        of(plugin.run(&format!("status fleet/{name}")).await.snapshot(&world))
    );
    let terminal = plugin.on_terminal(&format!("status fleet/{name}"), "").await;
    assert_snapshot!("status_fleet_terminal", of(terminal.snapshot(&world)));
    let fleets = plugin.run("status --fleets").await;
    fleets.assert_code(0);
    let line = fleets.out.lines().find(|line| line.starts_with(&name)).unwrap();
    assert!(line.contains("1988/2000") && line.contains("500/2000"), "{line}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_writes_each_change_as_it_comes() {
    let world = World::new().await;
    states::put(&world, "a", json!({}), json!({"conditions": [states::in_effect(90)]})).await;
    let mut watch = Plugin::of(&world).start("status --watch");
    assert!(watch.line().await.unwrap().starts_with("NAME"));
    assert!(watch.line().await.unwrap().starts_with("a      yes"));
    let stalled = [
        states::condition("Ready", "False", "Denied", "denied", 0),
        states::condition("Stalled", "True", "Denied", "denied", 0),
    ];
    let patch = kube::api::Patch::Merge(json!({"status": {"conditions": stalled}}));
    world.objects().patch_status("a", &kube::api::PatchParams::default(), &patch).await.unwrap();
    assert!(watch.line().await.unwrap().ends_with("Denied: denied"));
    world.delete("a").await;
    assert!(watch.line().await.unwrap().ends_with("deleted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_of_what_is_not_there_ends_and_one_of_nothing_says_so() {
    let world = World::new().await;
    let plugin = Plugin::of(&world);
    let ran = plugin.run("status nothing --watch").await;
    ran.assert_code(1);
    assert!(ran.err.contains("there is no VncPassword nothing in namespace"), "{ran:?}");
    let mut watch = plugin.start("status --watch");
    watch.remark("No VncPassword in namespace").await;
    states::put(&world, "a", json!({}), json!({"conditions": [states::in_effect(90)]})).await;
    assert!(watch.line().await.unwrap().starts_with("NAME"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_without_the_kinds_and_one_that_does_not_answer_are_told() {
    let plane = tokio::task::block_in_place(ControlPlane::start);
    let plugin = Plugin::at(&plane.kubeconfig(), "default");
    for line in ["status", "status a", "status fleet/nodes", "rotate a", "rotate --all", "get a"] {
        let ran = plugin.run(line).await;
        ran.assert_code(1);
        assert!(
            ran.err.contains("the kinds are not installed; install the operator's chart"),
            "{line}: {ran:?}"
        );
    }
    let ran = plugin.run("status --server https://127.0.0.1:1 --request-timeout 5s").await;
    ran.assert_code(1);
    assert!(ran.err.contains("the API server does not answer"), "{ran:?}");
    let ran = plugin.run("status --context other").await;
    ran.assert_code(1);
    assert!(ran.err.contains("--context"), "{ran:?}");
    let ran = plugin.run("status --kubeconfig /nothing/there").await;
    ran.assert_code(1);
    assert!(ran.err.contains("no cluster can be told from the kubeconfig"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_ends_with_2() {
    let world = World::new().await;
    let plugin = Plugin::of(&world);
    for line in [
        "",
        "stauts",
        "status -o xml",
        "status a -A",
        "status --watch -o json",
        "rotate",
        "status --as-group ops",
    ] {
        plugin.run(line).await.assert_code(2);
    }
    let help = plugin.run("status --help").await;
    help.assert_code(0);
    assert!(help.out.contains("Examples:") && help.out.contains("--kubeconfig"), "{}", help.out);
}
