//! From the last released chart to this one, back, away and in again: objects, Secrets and passwords stay as they are.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::{
    cloud::Cloud,
    cluster::{Cluster, PATIENCE, apply, helm, kubectl, pipe, repository, until},
    release::{Release, assert_nothing_is_lost, chart, create, instance, listed, settled, until_settled},
};

const NAMESPACE: &str = "team-a";

/// The last released chart, as `helm package` made it.
fn released() -> PathBuf {
    let chart = repository("tests/e2e/charts/vncpassword-operator-0.1.0.tgz");
    // What was released is never changed: a new release brings a new file.
    let sum = pipe("sha256sum", &chart.display().to_string(), "");
    assert!(sum.starts_with("cc57ecc629cb1b5feff4a5b4ed27ff55d8a5f48982de4bcf2137c195734f463d"), "{sum}");
    let manifest = |chart: &Path| helm(&format!("template vnc {} --skip-tests", chart.display()));
    assert_ne!(manifest(&chart), manifest(&super::release::chart()), "an upgrade to the same proves nothing");
    chart
}

/// Lets the operator replace statuses, or takes that right away. The released chart lets it patch them alone, as the image of
/// that release did; here the image of the sources stands in for it.
fn stand_in(release: &Release, stands_in: bool) {
    let name = "stands-in-for-the-released-image";
    if !stands_in {
        kubectl(&format!("delete clusterrole,clusterrolebinding {name}"));
        return;
    }
    let resources = ["vncpasswords/status", "clustervncpasswords/status"];
    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": name},
        "rules": [{"apiGroups": ["vncpassword.dev"], "resources": resources, "verbs": ["update"]}],
    });
    let account =
        json!({"kind": "ServiceAccount", "name": "vnc-vncpassword-operator", "namespace": release.namespace});
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding", "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [account],
    });
    apply("default", &json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]}).to_string());
}

/// What must outlive everything: who each object is, what it says, and each Secret to the letter.
fn kept() -> Vec<Value> {
    let mut kept = Vec::new();
    for kind in ["vncpasswords", "secrets", "clustervncpasswords"] {
        for object in listed(NAMESPACE, kind) {
            let meant = json!([
                kind,
                object["metadata"]["name"],
                object["metadata"]["uid"],
                object["spec"],
                object["data"]
            ]);
            kept.push(meant);
        }
    }
    kept
}

/// Objects of each sort: generated, a user's, and a fleet.
fn objects(cloud: &Cloud) {
    let names: Vec<String> = (0..20).map(|number| format!("vm-{number:02}")).collect();
    create(cloud, NAMESPACE, &names);
    cloud.add([instance("mine"), "i-fleet1".to_owned(), "i-fleet2".to_owned()]);
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mine"}, "stringData": {"password": "aB3xY9"}});
    apply(NAMESPACE, &secret.to_string());
    let mine = json!({
        "apiVersion": "vncpassword.dev/v1alpha1", "kind": "VncPassword", "metadata": {"name": "mine"},
        "spec": {"instanceId": instance("mine"), "secretRef": {"name": "mine"}},
    });
    apply(NAMESPACE, &mine.to_string());
    let fleet = json!({
        "apiVersion": "vncpassword.dev/v1alpha1", "kind": "ClusterVncPassword", "metadata": {"name": "fleet"},
        "spec": {"targetNamespace": NAMESPACE, "instanceIds": ["i-fleet1", "i-fleet2"]},
    });
    apply(NAMESPACE, &fleet.to_string());
}

/// All is well, no call was made since, and the operator acts: it gives one more object a password.
fn assert_undisturbed(cloud: &Cloud, kept_before: &[Value], calls: usize, stage: &str) -> usize {
    let probe = format!("probe-{stage}");
    create(cloud, NAMESPACE, std::slice::from_ref(&probe));
    until_settled(NAMESPACE, &probe, 1);
    until_settled(NAMESPACE, "vm-", 1);
    until_settled(NAMESPACE, "fleet", 1);
    let now = kept();
    let lost: Vec<&Value> = kept_before.iter().filter(|object| !now.contains(object)).collect();
    assert!(lost.is_empty(), "{stage}: {lost:#?}");
    for (name, prefix) in [("vm", "vm"), (&*probe, &*probe)] {
        assert_nothing_is_lost(cloud, NAMESPACE, prefix);
        assert!(settled(NAMESPACE, name, 1), "{stage}: {name}");
    }
    assert_eq!(cloud.console(&instance("mine")).as_deref(), Some("aB3xY9"), "{stage}");
    let made = cloud.calls(0).len();
    assert_eq!(made, calls + 1, "{stage}: what was in sync was called for");
    made
}

#[test]
#[ignore = "needs a cluster: make e2e"]
fn upgrade_rollback_removal_and_a_new_installation_lose_nothing_and_call_for_nothing() {
    let cluster = Cluster::take();
    let cloud = Cloud::start();
    let release = Release::prepare(&cluster, &cloud, "vnc-system", &json!({}));
    stand_in(&release, true);
    release.install(&released());
    cluster.namespace(NAMESPACE, "");
    objects(&cloud);
    until_settled(NAMESPACE, "vm-", 1);
    until_settled(NAMESPACE, "mine", 1);
    until("the fleet's children", PATIENCE, || listed(NAMESPACE, "vncpasswords").len() == 23);
    until_settled(NAMESPACE, "fleet", 1);
    let (before, calls) = (kept(), cloud.calls(0).len());
    assert_eq!(calls, 23, "one call each");

    // An annotation, so that Pods are replaced even where the two charts make the same of them.
    release.upgrade(&chart(), "--set podAnnotations.chart=new");
    stand_in(&release, false);
    let calls = assert_undisturbed(&cloud, &before, calls, "upgraded");

    stand_in(&release, true);
    helm(&format!("rollback vnc --namespace {} --wait --timeout 60s", release.namespace));
    let calls = assert_undisturbed(&cloud, &before, calls, "back");
    stand_in(&release, false);

    release.uninstall();
    assert!(kubectl(&format!("get deployments --namespace {} --output name", release.namespace)).is_empty());
    let now = kept();
    assert!(before.iter().all(|object| now.contains(object)), "removed: something is gone");

    release.install(&chart());
    assert_undisturbed(&cloud, &before, calls, "again");
}
