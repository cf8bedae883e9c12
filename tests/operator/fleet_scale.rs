//! Two thousand Nodes: one call an instance, and not a single request while the fleet is at rest. On a control plane of its
//! own, since the operators of other tests look at every Node. That ten thousand make no write, and that the status stays
//! small, is tried without an API server in `crates/core/src/fleet/tests`.

use std::collections::BTreeSet;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use kube::api::ListParams;
use serde_json::json;
use tokio::time::Instant;
use vncpassword_emulator::Action;
use vncpassword_test_support::{
    World,
    control_plane::ControlPlane,
    fleet::{Fleet, instances, node, provider_id},
    observe::events_since,
    world::PATIENCE,
};

const NODES: usize = 2000;

#[tokio::test(flavor = "multi_thread")]
async fn two_thousand_nodes_get_one_call_each_and_at_rest_nothing_is_asked_or_written() {
    let plane = tokio::task::block_in_place(ControlPlane::start);
    let world = World::on(&plane).await;
    let instances = instances(&world, NODES);
    stream::iter(instances.iter().enumerate())
        .for_each_concurrent(16, |(number, instance)| {
            let world = &world;
            async move { node(world, &number.to_string(), Some(&provider_id(number, instance))).await }
        })
        .await;
    let operator = world.operator_before(world.settings()).await;
    let begun = Instant::now();
    let fleet = Fleet::of_nodes(&world, json!({"rollout": {"maxConcurrent": 500}})).await;
    let status = fleet.until_done_within(PATIENCE * 10, NODES).await;
    let took = begun.elapsed();
    let requests = operator.requests().all();
    #[allow(clippy::print_stderr, reason = "figures for people")]
    {
        eprintln!("{NODES} Nodes: {took:?}, {} requests", requests.len());
    }
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), NODES);
    assert_eq!(fleet.children().await.len(), NODES);
    let called: BTreeSet<String> = world
        .calls_of(Action::ModifyInstanceVncPasswd)
        .into_iter()
        .flat_map(|call| call.instance_ids)
        .collect();
    assert_eq!(called.len(), NODES, "each of them once");
    let secrets = world.secrets().list(&ListParams::default()).await.unwrap().items;
    assert_eq!(secrets.len(), NODES);
    for secret in secrets {
        let id = secret.metadata.labels.unwrap()[vncpassword_core::api::INSTANCE_ID].clone();
        let password = String::from_utf8(secret.data.unwrap()["password"].0.clone()).unwrap();
        assert_eq!(world.console(&id), Some(password), "{id}");
    }
    // The fleet's own status is written a few times a second at the most.
    let path = format!("/clustervncpasswords/{}/status", fleet.name);
    let writes = requests.iter().filter(|(_, of)| of.ends_with(&path)).count();
    let most = 30 + 3 * usize::try_from(took.as_secs()).unwrap();
    assert!(writes <= most, "{writes} status writes in {took:?}");
    let size = serde_json::to_vec(&status).unwrap().len();
    assert!(size < 2048, "{size} bytes of status");

    let (before, asked) = (fleet.versions().await, operator.requests().own().len());
    fleet.settled(&operator).await;
    // Events may still stand in the queue.
    assert_eq!(operator.requests().own().split_off(asked), []);
    operator.stop().await;
    let begun = Timestamp::now();
    let operator = world.operator_before(world.settings()).await;
    fleet.settled(&operator).await;
    assert_eq!(operator.requests().own(), [], "a restart costs lists, and nothing else");
    let later = operator.metric("vncpassword_operator_queue_scheduled{queue=\"objects\"}").await;
    assert_eq!(later, Some(1.0), "nor later: only the barrier's own object waits for a time");
    assert_eq!(fleet.versions().await, before);
    assert_eq!(events_since(&world, begun).await, []);
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), NODES);
    operator.stop().await;
}
