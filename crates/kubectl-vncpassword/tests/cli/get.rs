//! `get`: no password leaves it unless that was asked for, and not in the list of processes either.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use insta::assert_snapshot;
use serde_json::json;

use super::{
    plugin::{Plugin, Ran, user},
    states,
};
use vncpassword_test_support::World;

const CURRENT: &str = "Cu77eN";
const NEXT: &str = "Ne33xT";
const PREVIOUS: &str = "Pr11vS";

/// An object with its Secret, and another password on its way.
async fn object(world: &World, name: &str, conditions: serde_json::Value) {
    world.secret_data(name, json!({})).await;
    let values =
        json!({"stringData": {"password": CURRENT, "password.next": NEXT, "password.previous": PREVIOUS}});
    let patch = kube::api::Patch::Merge(values);
    world.secrets().patch(name, &kube::api::PatchParams::default(), &patch).await.unwrap();
    let last = states::ago(3 * states::DAY + 30);
    states::put(
        world,
        name,
        json!({"rotation": {}}),
        json!({"conditions": conditions, "lastRotationTime": last}),
    )
    .await;
}

fn shows_nothing(ran: &Ran) {
    for password in [CURRENT, NEXT, PREVIOUS] {
        assert!(!ran.out.contains(password) && !ran.err.contains(password), "{ran:?}");
        // Nor in the form in which it stands in the Secret.
        let encoded = serde_json::to_string(&k8s_openapi::ByteString(password.as_bytes().to_vec())).unwrap();
        let encoded = encoded.trim_matches('"');
        assert!(!ran.out.contains(encoded) && !ran.err.contains(encoded), "{ran:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_masked_unless_it_is_to_be_shown() {
    let world = World::new().await;
    object(&world, "db-1", json!([states::in_effect(90)])).await;
    let plugin = Plugin::of(&world);
    let masked = plugin.run("get db-1").await;
    shows_nothing(&masked);
    assert_snapshot!("get_masked", masked.snapshot(&world));
    let terminal = plugin.on_terminal("get db-1 --next", "").await;
    shows_nothing(&terminal);
    assert_snapshot!("get_terminal", terminal.snapshot(&world));

    for (flag, password) in [("", CURRENT), ("--next", NEXT), ("--previous", PREVIOUS)] {
        let shown = plugin.run(&format!("get db-1 --show {flag}")).await;
        shown.assert_code(0);
        assert_eq!(shown.out, password, "and nothing else, as a pipe takes it");
        assert!(!shown.err.contains(password), "{shown:?}");
    }
    let terminal = plugin.on_terminal("get db-1 --show", "").await;
    assert!(terminal.out.ends_with(&format!("\n{CURRENT}\n")), "{terminal:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn it_says_what_is_missing() {
    let world = World::new().await;
    let plugin = Plugin::of(&world);
    states::put(&world, "new", json!({"rotation": {}}), json!({})).await;
    states::put(&world, "own", json!({}), json!({})).await;
    world.secret("own", CURRENT).await;
    for (line, told) in [
        ("get new", "Secret new of VncPassword new does not exist in namespace"),
        ("get own --next --show", "no password is on its way to own: Secret own has no key password.next"),
        ("get own --previous", "no password before is known of own"),
        ("get nothing", "there is no VncPassword nothing in namespace"),
    ] {
        let ran = plugin.run(line).await;
        ran.assert_code(1);
        assert!(ran.err.contains(told) && ran.out.is_empty(), "{line}: {ran:?}");
        shows_nothing(&ran);
    }
    plugin.run("get own --next --previous").await.assert_code(2);
    plugin.run("get fleet/nodes").await.assert_code(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_the_secret_it_is_named() {
    let world = World::new().await;
    object(&world, "db-1", json!([states::in_effect(90)])).await;
    let reader = user(&world, "reader", &[("get", "vncpasswords")]).await;
    let ran = Plugin::of(&world).run(&format!("get db-1 --show --as {reader}")).await;
    shows_nothing(&ran);
    assert_snapshot!("get_forbidden", ran.snapshot(&world).replace(&reader, "reader"));
}

/// A tool that notes its arguments, its input, and all processes that it sees.
fn clipboard(directory: &Path, code: i32) {
    let tool = directory.join("xclip");
    let script = format!(
        "#!/bin/sh\ncd '{}' || exit 1\nprintf '%s\\n' \"$@\" >arguments\ncat >input\n\
         for process in /proc/[0-9]*; do tr '\\0' ' ' <$process/cmdline; tr '\\0' ' ' <$process/environ; done >processes 2>/dev/null\n\
         exit {code}\n",
        directory.display()
    );
    fs::write(&tool, script).unwrap();
    fs::set_permissions(&tool, fs::Permissions::from_mode(0o755)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_clipboards_tool_gets_it_by_its_input_and_no_process_shows_it() {
    let world = World::new().await;
    object(&world, "db-1", json!([states::in_effect(90)])).await;
    let directory = tempfile::tempdir().unwrap();
    clipboard(directory.path(), 0);
    let path = format!("{}:/usr/bin:/bin", directory.path().display());
    let plugin = Plugin::of(&world).with("DISPLAY", ":0").with("PATH", &path);
    let ran = plugin.run("get db-1").await;
    ran.assert_code(0);
    shows_nothing(&ran);
    assert_eq!(ran.out, "******  copied to the clipboard by xclip\n");
    let noted = |name: &str| fs::read_to_string(directory.path().join(name)).unwrap_or_default();
    assert_eq!(noted("input"), CURRENT);
    assert_eq!(noted("arguments"), "-selection\nclipboard\n");
    let processes = fs::read(directory.path().join("processes")).unwrap();
    let processes = String::from_utf8_lossy(&processes);
    assert!(processes.contains("kubectl-vncpassword"), "the plugin itself is among them");
    assert!(!processes.contains(CURRENT));

    clipboard(directory.path(), 3);
    let ran = plugin.run("get db-1").await;
    shows_nothing(&ran);
    assert_eq!(ran.out, "******  not shown: xclip could not copy it (exit status: 3); --show writes it\n");
}
