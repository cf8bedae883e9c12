//! The kinds come with the chart or by kubectl, in either order.

use serde_json::json;

use super::{
    cloud::Cloud,
    cluster::{Cluster, helm, kubectl, repository, try_helm, try_kubectl},
    release::{Release, assert_nothing_is_lost, chart, create, until_settled},
};

const KINDS: [&str; 2] = ["vncpasswords.vncpassword.dev", "clustervncpasswords.vncpassword.dev"];

fn crds() -> String {
    repository("crds").display().to_string()
}

/// The rotation of one object, in a namespace of its own.
fn assert_works(cluster: &Cluster, cloud: &Cloud, namespace: &str) {
    cluster.namespace(namespace, "");
    create(cloud, namespace, &[namespace.to_owned()]);
    until_settled(namespace, namespace, 1);
    assert_nothing_is_lost(cloud, namespace, namespace);
}

fn uids() -> Vec<String> {
    KINDS.iter().map(|kind| kubectl(&format!("get crd {kind} --output jsonpath={{.metadata.uid}}"))).collect()
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn the_chart_takes_over_the_kinds_that_kubectl_applied() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    kubectl(&format!("apply --filename {}", crds()));
    let before = uids();

    let complaint = try_helm(&release.installation()).expect_err("the kinds are somebody else's");
    assert!(complaint.contains("invalid ownership metadata"), "{complaint}");
    // What README says, and what mends an installation that has failed.
    let words = release.installation().replacen("install", "upgrade --install", 1);
    helm(&format!("{words} --take-ownership --force-conflicts"));
    assert_works(&cluster, &cloud, "team-a");
    assert_eq!(uids(), before, "the same kinds, and with them every object");
    release.upgrade(&chart(), "--set podAnnotations.again=yes");

    release.uninstall();
    assert_eq!(uids(), before, "the kinds outlive the release");
    assert!(!kubectl("get vncpasswords --namespace team-a --output name").is_empty());
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn kubectl_takes_over_the_kinds_that_the_chart_installed() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    release.install(&chart());
    let before = uids();
    let apply = format!("apply --server-side --filename {}", crds());
    // Where the two say the same, nobody needs to be overruled.
    try_kubectl(&apply).or_else(|_| try_kubectl(&format!("{apply} --force-conflicts"))).unwrap();
    release.upgrade(&chart(), "--set podAnnotations.again=yes --force-conflicts");
    assert_works(&cluster, &cloud, "team-a");

    release.upgrade(&chart(), "--set crds.install=false");
    assert_eq!(uids(), before, "the kinds stay when the chart leaves them to others");
    assert_works(&cluster, &cloud, "team-b");
    // The switch is what it says: a cluster without the kinds gets none.
    release.uninstall();
    kubectl(&format!("delete crd {}", KINDS.join(" ")));
    release.install_without_waiting("--set crds.install=false");
    assert_eq!(kubectl("get crd --output name --ignore-not-found").matches("vncpassword.dev").count(), 0);
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn an_uninstall_takes_the_kinds_along_only_where_that_was_asked_for() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({"crds": {"keep": false}}));
    release.install(&chart());
    assert_works(&cluster, &cloud, "team-a");
    release.uninstall();
    for kind in KINDS {
        kubectl(&format!("wait --for=delete crd/{kind} --timeout=30s"));
    }
    let secret = kubectl("get secret team-a --namespace team-a --output name");
    assert_eq!(secret.trim(), "secret/team-a", "the passwords stay");
}
