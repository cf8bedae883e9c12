//! A changed template reaches the children together with a rotation, and writes that the API server refuses are made up for.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use kube::{
    Api,
    api::{DeleteParams, PostParams},
};
use serde_json::json;
use vncpassword_core::api::{Activation, ROTATE_AT, Reason};
use vncpassword_test_support::{
    World,
    fleet::{Fleet, instances},
    world::until,
};

#[tokio::test(flavor = "multi_thread")]
async fn what_leaves_the_template_is_gone_before_a_child_rotates() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let instances = instances(&world, 6);
    let template = json!({"activation": "Reboot", "metadata": {"labels": {"team": "db"}}});
    let pace = json!({"maxConcurrent": 6, "maxUnavailable": 6});
    let fleet = Fleet::of(&world, &instances, json!({"template": template, "rollout": pace})).await;
    fleet.until_done(6).await;
    fleet.age(SignedDuration::from_mins(5)).await;
    let before = fleet.status().await;
    fleet
        .change(json!({
            "metadata": {"annotations": {ROTATE_AT: Timestamp::now().to_string()}},
            "spec": {"template": {"activation": null, "metadata": null}},
        }))
        .await;
    fleet.until_rotated(&before).await;
    for child in fleet.children().await {
        let labels = child.metadata.labels.unwrap_or_default();
        assert!(!labels.contains_key("team"), "{labels:?}");
        assert_eq!(child.spec.activation, Activation::Manual);
    }
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn children_that_could_not_be_made_for_a_while_are_made_afterwards() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let hooks: Api<ValidatingWebhookConfiguration> = Api::all(world.client.clone());
    // Nobody answers there.
    let hook = json!({"metadata": {"name": world.namespace}, "webhooks": [{
        "name": "gone.example.com", "failurePolicy": "Fail", "sideEffects": "None",
        "admissionReviewVersions": ["v1"], "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/gone"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": world.namespace}},
        "rules": [{"apiGroups": ["vncpassword.dev"], "apiVersions": ["*"], "operations": ["CREATE"],
            "resources": ["vncpasswords"]}]}]});
    hooks.create(&PostParams::default(), &serde_json::from_value(hook).unwrap()).await.unwrap();
    until("the webhook is asked", async || world.refuses_objects().await).await;
    let fleet = Fleet::of(&world, &instances(&world, 4), json!({})).await;
    fleet.until_stalled(Reason::MemberRefused).await;
    assert!(fleet.children().await.is_empty());
    hooks.delete(&world.namespace, &DeleteParams::default()).await.unwrap();
    fleet.until_done(4).await;
    operator.stop().await;
}
