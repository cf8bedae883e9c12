//! The chart's rights are those that the operator uses: nothing is missing, nothing is unused but what an upgrade needs. The API server's audit log
//! is the witness.

use std::{collections::BTreeSet, path::Path, process::Command, time::Duration};

use jiff::SignedDuration;
use k8s_openapi::api::{
    authorization::v1::SubjectAccessReview,
    rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding},
};
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use vncpassword_core::api::VncPassword;
use vncpassword_operator::settings::{ControllerSettings, Settings};
use vncpassword_test_support::{
    World,
    control_plane::ControlPlane,
    fleet::{self, Fleet},
    operator::Operator,
    rotation::{age, rotate_now, until_rotated},
    world::until,
};

const CHART: &str = "charts/vncpassword-operator";
const NAME: &str = "vncpassword-operator";

/// Group, resource and verb.
type Right = (String, String, String);

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_uses_each_right_of_the_chart_and_needs_no_other() {
    assert_used(&[], |world| Settings {
        controller: ControllerSettings { namespaces: Vec::new(), ..world.settings().controller },
        ..world.settings()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn in_named_namespaces_the_operator_uses_each_right_of_the_roles_and_needs_no_other() {
    assert_used(&[r#"watchNamespaces=["test"]"#], |world| Settings {
        controller: ControllerSettings { fleets: false, ..world.settings().controller },
        ..world.settings()
    })
    .await;
}

async fn assert_used(values: &[&str], settings: impl Fn(&World) -> Settings) {
    let plane = ControlPlane::start_with(&["--audit"]);
    let world = World::on(&plane).await;
    let objects = rendered(values, &world.namespace);
    let granted = granted(&objects);
    create::<ClusterRole>(&Api::all(world.client.clone()), &objects, "ClusterRole").await;
    create::<ClusterRoleBinding>(&Api::all(world.client.clone()), &objects, "ClusterRoleBinding").await;
    let here = &world.namespace;
    create::<Role>(&Api::namespaced(world.client.clone(), here), &objects, "Role").await;
    create::<RoleBinding>(&Api::namespaced(world.client.clone(), here), &objects, "RoleBinding").await;

    let here = here.clone();
    let account = format!("system:serviceaccount:{}:{NAME}", world.namespace);
    until_in_force(&world, &account, &here).await;
    let mut config = world.config();
    config.auth_info.impersonate = Some(account.clone());
    let mut settings = Settings { leader_elect: true, ..settings(&world) };
    // What is made before it leads counts as another process's, and settles first.
    settings.controller.settle = Duration::from_secs(6);
    let fleets = settings.controller.fleets;
    let operator = Operator::start(config, settings);
    work(&world, fleets).await;
    operator.stop().await;

    let (used, refused) = used(&plane.audit_log(), &account);
    assert!(refused.is_empty(), "missing: {refused:?}");
    let unused = granted.difference(&used);
    let unused: Vec<&Right> =
        unused.filter(|right| !of_the_last_release(right) && !after_a_conflict(right)).collect();
    assert!(unused.is_empty(), "granted and never used: {unused:?}");
    assert_eq!(used.difference(&granted).collect::<Vec<_>>(), [] as [&Right; 0], "used without a rule");
}

/// What Pods of the last release use, which run on under the new roles during an upgrade (DESIGN.md, R59).
fn of_the_last_release((_, resource, verb): &Right) -> bool {
    verb == "patch" && resource.ends_with("/status")
}

/// What the operator uses where somebody else has changed an object meanwhile, which need not happen here.
fn after_a_conflict((_, resource, verb): &Right) -> bool {
    verb == "get" && resource == "vncpasswords"
}

/// The API server takes in new roles at its own pace; what it refuses until then is no right that is missing.
async fn until_in_force(world: &World, account: &str, namespace: &str) {
    let reviews = Api::<SubjectAccessReview>::all(world.client.clone());
    let allowed = async |group: &str, resource: &str, verb: &str| {
        let attributes = json!({"namespace": namespace, "group": group, "resource": resource, "verb": verb});
        let review = json!({"metadata": {}, "spec": {"user": account, "resourceAttributes": attributes}});
        let review = serde_json::from_value(review).unwrap();
        reviews.create(&PostParams::default(), &review).await.unwrap().status.unwrap().allowed
    };
    until("the roles are in force", async || {
        allowed("vncpassword.dev", "vncpasswords", "list").await
            && allowed("coordination.k8s.io", "leases", "create").await
    })
    .await;
}

/// What the operator does in its life.
async fn work(world: &World, fleets: bool) {
    world.secret("theirs", "Abc123").await;
    let instance = world.object("theirs").await;
    world.until_ready("theirs").await;
    world.until_console(&instance, "Abc123").await;
    world.generated("drawn", json!({})).await;
    until_rotated(world, "drawn", 1).await;
    // One a minute: without this the second rotation would come just at the end of the test's patience.
    age(world, "drawn", SignedDuration::from_mins(5)).await;
    rotate_now(world, "drawn").await;
    until_rotated(world, "drawn", 2).await;
    if !fleets {
        return;
    }
    fleet::nodes(world, 2).await;
    let fleet = Fleet::of_nodes(world, json!({"prune": "Delete"})).await;
    fleet.until_done(2).await;
    fleet.change(json!({"spec": {"template": {"metadata": {"labels": {"team": "db"}}}}})).await;
    let children = Api::<VncPassword>::namespaced(world.client.clone(), &world.namespace);
    until("the children have the label", async || {
        let labelled = kube::api::ListParams::default().labels("team=db");
        children.list(&labelled).await.unwrap().items.len() == 2
    })
    .await;
    let gone = fleet.children().await.remove(0).spec.instance_id.clone();
    let nodes = Api::<k8s_openapi::api::core::v1::Node>::all(world.client.clone());
    for node in nodes.list(&kube::api::ListParams::default()).await.unwrap() {
        let theirs = node.spec.as_ref().and_then(|spec| spec.provider_id.as_ref());
        if theirs.is_some_and(|id| id.ends_with(&gone)) {
            let name = node.metadata.name.unwrap();
            nodes.delete(&name, &DeleteParams::default()).await.unwrap();
        }
    }
    fleet.until_child(&gone, false).await;
}

/// What the chart makes, in this namespace.
fn rendered(values: &[&str], namespace: &str) -> Vec<Value> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(repository.join("hack/helm.sh"))
        .args(["template", NAME, CHART, "--namespace", namespace, "--skip-tests"])
        .args(["--set", "crds.install=false", "--set", "rbac.userRoles=false"])
        .args(values.iter().flat_map(|value| ["--set-json", value]))
        .current_dir(repository)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_saphyr::from_multiple(&String::from_utf8(output.stdout).unwrap()).unwrap()
}

fn of_kind<K: DeserializeOwned>(objects: &[Value], kind: &str) -> Vec<K> {
    let meant = objects.iter().filter(|object| object["kind"] == kind);
    meant.map(|object| serde_json::from_value(object.clone()).unwrap()).collect()
}

async fn create<K>(api: &Api<K>, objects: &[Value], kind: &str)
where
    K: Clone + std::fmt::Debug + DeserializeOwned + serde::Serialize,
{
    for object in of_kind::<K>(objects, kind) {
        api.create(&PostParams::default(), &object).await.unwrap();
    }
}

fn granted(objects: &[Value]) -> BTreeSet<Right> {
    let cluster = of_kind::<ClusterRole>(objects, "ClusterRole").into_iter().filter_map(|role| role.rules);
    let inner = of_kind::<Role>(objects, "Role").into_iter().filter_map(|role| role.rules);
    let mut rights = BTreeSet::new();
    for PolicyRule { api_groups, resources, verbs, .. } in cluster.chain(inner).flatten() {
        let [group] = &api_groups.unwrap()[..] else { panic!("one group a rule") };
        for resource in resources.unwrap() {
            rights.extend(verbs.iter().map(|verb| (group.clone(), resource.clone(), verb.clone())));
        }
    }
    rights
}

/// What was asked for under that name, and what of it was refused.
fn used(audit: &str, account: &str) -> (BTreeSet<Right>, BTreeSet<Right>) {
    let (mut used, mut refused) = (BTreeSet::new(), BTreeSet::new());
    for line in audit.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        if event["impersonatedUser"]["username"] != *account || event["objectRef"].is_null() {
            continue;
        }
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let object = &event["objectRef"];
        let resource = match object["subresource"].as_str() {
            Some(subresource) => format!("{}/{subresource}", text(&object["resource"])),
            None => text(&object["resource"]),
        };
        let right = (text(&object["apiGroup"]), resource, text(&event["verb"]));
        if event["responseStatus"]["code"] == 403 {
            refused.insert(right.clone());
        }
        used.insert(right);
    }
    (used, refused)
}
