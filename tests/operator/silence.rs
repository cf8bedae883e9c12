//! Connections to the API server that fall silent without being closed, and an API server that is slow (DESIGN.md, R53 and
//! R55).

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use k8s_openapi::api::{coordination::v1::Lease, core::v1::Namespace};
use kube::{Api, api::WatchParams};
use tokio::{task::JoinSet, time::Instant};
use vncpassword_core::api::LEASE;
use vncpassword_kube_client as kube_client;
use vncpassword_kube_client::{Deadlines, Retries};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    Operator, World,
    relay::Relay,
    world::{PATIENCE, until},
};

/// One worker: a single request that hangs would hold up everything.
fn settings(world: &World) -> Settings {
    let mut settings = Settings { leader_elect: true, ..world.settings() };
    settings.controller.concurrency = 1;
    // What is there before it leads may be what a process before it has begun: it would settle first.
    settings.controller.settle = Duration::from_secs(6);
    settings
}

/// Who leads, since when.
async fn leader(world: &World) -> Option<(String, i32)> {
    let leases: Api<Lease> = Api::namespaced(world.client.clone(), &world.namespace);
    let spec = leases.get_opt(LEASE).await.unwrap()?.spec?;
    Some((spec.holder_identity?, spec.lease_transitions.unwrap_or_default()))
}

/// It takes about 22 s: PING after ten, ten for the answer, and a new connection. A busy machine takes longer.
async fn until_console(world: &World, instance: &str, password: &str) {
    let deadline = Instant::now() + PATIENCE * 3;
    while world.console(instance).as_deref() != Some(password) {
        assert!(Instant::now() < deadline, "instance {instance} does not get its password in time");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_when_its_connections_fall_silent_and_keeps_the_lead() {
    let world = World::new().await;
    let relay = Relay::to(&world.config()).await;
    let operator = Operator::start(relay.config(world.config()), settings(&world));
    world.secret("a", "Abc123").await;
    let changed = world.object("a").await;
    world.until_console(&changed, "Abc123").await;
    let (mut before, mut kept) = (leader(&world).await, 0);
    assert!(before.is_some());
    for (round, value) in ["Bcd234", "Cde345", "Def456", "Efg567"].into_iter().enumerate() {
        // Before something is to be done, and while it is done; once what is asked for is done, and only the reply is lost.
        let freeze = || if round == 3 { relay.swallow_replies() } else { relay.freeze() };
        if round % 2 == 0 {
            freeze();
            world.secret("a", value).await;
        } else {
            world.secret("a", value).await;
            freeze();
        }
        let name = format!("new-{round}");
        world.secret(&name, value).await;
        let new = world.object(&name).await;
        until_console(&world, &changed, value).await;
        until_console(&world, &new, value).await;
        kept += usize::from(leader(&world).await == before);
        before = leader(&world).await;
    }
    // A machine that stands still for seconds loses the Lease with any connection.
    assert!(kept > 0, "the lead was lost each time");
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_api_server_is_waited_for() {
    let world = World::new().await;
    let relay = Relay::to(&world.config()).await;
    relay.delay(Duration::from_millis(500));
    world.secret("a", "Abc123").await;
    let instance = world.object("a").await;
    let operator = Operator::start(relay.config(world.config()), settings(&world));
    world.until_console(&instance, "Abc123").await;
    operator.stop().await;
}

/// kube-apiserver takes a hundred requests at a time on one connection, watches among them.
#[tokio::test(flavor = "multi_thread")]
async fn many_watches_leave_room_for_requests() {
    let world = World::new().await;
    let client = kube_client::client(world.config(), Deadlines::default(), Retries::Never).unwrap();
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let parameters = WatchParams::default();
    let watches = join_all((0..250).map(|_| namespaces.watch(&parameters, "0"))).await;
    let mut read = JoinSet::new();
    for watch in watches {
        let mut events = watch.expect("a watch did not begin").boxed();
        // What is not read takes the room of others on the same connection.
        read.spawn(async move { while events.next().await.is_some() {} });
    }
    until("a request is answered", async || namespaces.get(&world.namespace).await.is_ok()).await;
}
