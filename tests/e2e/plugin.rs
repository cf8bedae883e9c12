//! The plugin of kubectl, installed by Krew from what `make plugin` packs, on a cluster in which the operator runs.

use std::{env, path::Path, process::Command};

use serde_json::json;

use super::{
    cloud::Cloud,
    cluster::{Cluster, repository},
    release::{Release, chart, create, instance, until_settled},
};

/// Where Krew keeps what it installs.
struct Krew(tempfile::TempDir);

impl Krew {
    /// With the plugin installed.
    fn with_the_plugin() -> Self {
        let root = tempfile::tempdir().unwrap();
        let target = env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let packed = repository(&target).join("plugin");
        let mut files = packed.read_dir().unwrap().flatten().map(|entry| entry.path());
        let archive = files.find(|path| path.to_string_lossy().ends_with(".tar.gz")).unwrap();
        let output = Command::new(repository("hack/krew.sh"))
            .arg("install")
            .args([
                Path::new("--manifest"),
                &packed.join("vncpassword.yaml"),
                Path::new("--archive"),
                &archive,
            ])
            .env("KREW_ROOT", root.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        Self(root)
    }

    /// `kubectl vncpassword` with these words, separated by blanks: its exit code, its answer and its remarks.
    fn vncpassword(&self, words: &str) -> (Option<i32>, String, String) {
        let path = env::var("PATH").unwrap();
        let output = Command::new("kubectl")
            .arg("vncpassword")
            .args(words.split_whitespace())
            .env("PATH", format!("{}:{path}", self.0.path().join("bin").display()))
            .output()
            .unwrap();
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }

    /// The answer of what must go well.
    fn told(&self, words: &str) -> String {
        let (code, told, remarks) = self.vncpassword(words);
        assert_eq!(code, Some(0), "{words}: {told}{remarks}");
        told
    }
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn kubectl_finds_the_plugin_that_krew_installed_and_it_sees_rotates_and_asks_the_operator() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let krew = Krew::with_the_plugin();
    let (code, told, _) = krew.vncpassword("doctor");
    assert!(code == Some(1) && told.contains("FAIL"), "nothing is installed: {told}");

    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    release.install(&chart());
    cluster.namespace("team-a", "");
    create(&cloud, "team-a", &["db-1".to_owned(), "db-2".to_owned()]);
    until_settled("team-a", "db", 1);

    let told = krew.told("doctor --operator-namespace vnc-system");
    // By exec in the operator's Pod.
    assert!(told.contains("the operator is acs:ram::") && told.contains("leads"), "{told}");
    assert!(krew.told("status --namespace team-a").contains("db-1"));

    let before = cloud.console(&instance("db-1")).unwrap();
    let told = krew.told("rotate --all --wait --timeout 3m --namespace team-a");
    assert_eq!(told.matches("rotated, RequestId ").count(), 2, "{told}");
    let shown = krew.told("get db-1 --show --namespace team-a");
    assert_eq!(Some(&shown), cloud.console(&instance("db-1")).as_ref());
    assert_ne!(shown, before);
    let (_, told, remarks) = krew.vncpassword("get db-1 --namespace team-a");
    assert!(told.contains("******") && !format!("{told}{remarks}").contains(&shown), "{told}{remarks}");
    assert!(krew.told("explain db-1 --namespace team-a").contains(&instance("db-1")));
}
