//! Several replicas: one acts, another takes over.

use std::time::{Duration, Instant};

use http::Method;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use kube::Api;
use serde_json::json;
use vncpassword_core::api::LEASE;
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{Operator, World, world::until};

fn settings(world: &World) -> Settings {
    Settings { leader_elect: true, ..world.settings() }
}

async fn lease(world: &World) -> LeaseSpec {
    let leases: Api<Lease> = Api::namespaced(world.objects().into_client(), &world.namespace);
    leases.get_opt(LEASE).await.unwrap().and_then(|lease| lease.spec).unwrap_or_default()
}

async fn holder(world: &World) -> Option<String> {
    lease(world).await.holder_identity.filter(|holder| !holder.is_empty())
}

/// Two that are ready, the first of which leads.
async fn pair(world: &World) -> (Operator, Operator) {
    pair_with(world, settings).await
}

async fn pair_with(world: &World, settings: impl Fn(&World) -> Settings) -> (Operator, Operator) {
    let first = world.operator_before(settings(world)).await;
    until("a leader", async || holder(world).await.is_some()).await;
    let second = world.operator_before(settings(world)).await;
    (first, second)
}

fn statuses(operator: &Operator) -> usize {
    operator.requests().count(&Method::PUT, "/status")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_hands_over_at_once() {
    let world = World::new().await;
    let (first, second) = pair(&world).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    assert_eq!((statuses(&first) > 0, statuses(&second)), (true, 0), "one acts");
    let before = holder(&world).await;
    let begun = Instant::now();
    first.stop().await;
    until("another leader", async || holder(&world).await.is_some_and(|now| Some(now) != before)).await;
    assert!(begun.elapsed() < Duration::from_secs(8), "after {:?}", begun.elapsed());
    assert_eq!(lease(&world).await.lease_transitions, Some(1));
    second.settled(&world).await;
    assert_eq!(world.calls(&instance).len(), 1, "what is in sync stays so");
    let other = world.generated("b", json!({})).await;
    world.until_ready("b").await;
    assert_eq!(world.calls(&other).len(), 1);
    second.stop().await;
    assert_eq!(holder(&world).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_killed_is_replaced_when_its_lease_has_run_out() {
    assert_replaced_when_killed(settings).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_leases_of_a_leader_that_was_killed_run_out_at_the_same_time() {
    assert_replaced_when_killed(|world| Settings { lease_name: "mine".to_owned(), ..settings(world) }).await;
}

async fn assert_replaced_when_killed(settings: impl Fn(&World) -> Settings) {
    let world = World::new().await;
    let (first, second) = pair_with(&world, settings).await;
    let before = holder(&world).await;
    let begun = Instant::now();
    first.kill().await;
    let instance = world.generated("a", json!({})).await;
    until("another leader", async || holder(&world).await != before).await;
    let waited = begun.elapsed().as_secs_f64();
    // The lease, and one retry; the last renewal was up to a retry before the end. Two leases one after the other take 28 s.
    assert!((12.5..26.0).contains(&waited), "after {waited} s");
    world.until_ready("a").await;
    assert_eq!(world.calls(&instance).len(), 1);
    second.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_has_stopped_before_another_begins_and_stands_by_when_it_is_back() {
    let world = World::new().await;
    let (first, second) = pair(&world).await;
    let before = holder(&world).await;
    first.cut_off(true);
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    let after = holder(&world).await;
    assert_ne!(after, before);
    first.cut_off(false);
    let looks = || first.requests().count(&Method::GET, &format!("/leases/{LEASE}"));
    let back = looks();
    let other = world.generated("b", json!({})).await;
    world.until_ready("b").await;
    until("looks of the first", async || looks() >= back + 3).await;
    second.settled(&world).await;
    assert_eq!(holder(&world).await, after);
    assert_eq!((world.calls(&instance).len(), world.calls(&other).len()), (1, 1));
    assert!(statuses(&second) > 0);
    assert_eq!(world.console(&instance).as_ref(), Some(&world.values("a").await["password"]));
    second.stop().await;
    until("the first leads again", async || holder(&world).await.is_some_and(|now| Some(now) != after)).await;
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_of_another_name_is_held_beside_the_one_that_former_versions_take() {
    let world = World::new().await;
    let named = || Settings { lease_name: "mine".to_owned(), ..settings(&world) };
    let leases: Api<Lease> = Api::namespaced(world.objects().into_client(), &world.namespace);
    let holder_of_mine = async || leases.get_opt("mine").await.unwrap()?.spec?.holder_identity;
    // A replica of the version before, which knows the default name only.
    let former = world.operator_before(settings(&world)).await;
    until("the former leads", async || holder(&world).await.is_some()).await;
    let begun = holder(&world).await;
    let next = world.operator_before(named()).await;
    until("the next holds its own", async || holder_of_mine().await.is_some()).await;
    let instance = world.generated("a", json!({})).await;
    world.until_ready("a").await;
    assert_eq!((holder(&world).await, statuses(&next)), (begun, 0), "one acts");
    former.stop().await;
    until("the next leads", async || holder(&world).await == holder_of_mine().await).await;
    let other = world.generated("b", json!({})).await;
    world.until_ready("b").await;
    assert!(statuses(&next) > 0);
    assert_eq!((world.calls(&instance).len(), world.calls(&other).len()), (1, 1));
    let third = world.operator_before(named()).await;
    next.stop().await;
    until("another of that name leads", async || {
        let holder = holder(&world).await;
        holder.is_some() && holder == holder_of_mine().await
    })
    .await;
    third.stop().await;
    assert_eq!((holder(&world).await, holder_of_mine().await), (None, None), "both are given back");
}
