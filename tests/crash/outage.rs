//! Servers go away and come back: the operator goes on by itself.

use std::{path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};
use vncpassword_core::api::{ConditionStatus, ConditionType};
use vncpassword_emulator::{Action, Fault};

use super::program::{Program, Programs};
use vncpassword_test_support::{
    World,
    control_plane::ControlPlane,
    world::{PATIENCE, next_second},
};

const OUTAGE: Duration = Duration::from_secs(60);
const SETTLE: Duration = Duration::from_secs(5);

/// A control plane that goes away, the operator, and what it works on.
struct Site {
    plane: ControlPlane,
    world: World,
    program: Program,
    said: Programs,
}

impl Site {
    async fn start() -> Self {
        let plane = tokio::task::block_in_place(ControlPlane::start);
        let world = World::on(&plane).await;
        let kubeconfig: PathBuf = plane.kubeconfig();
        let said = Programs::new(&world, &kubeconfig, SETTLE);
        let program = said.ready().await;
        Self { plane, world, program, said }
    }

    fn say(&mut self, command: &str) {
        tokio::task::block_in_place(|| self.plane.say(command));
    }

    async fn edit(&self, name: &str, value: &str) {
        let data = json!({"password": k8s_openapi::ByteString(value.into())});
        self.world.secret_data(name, data).await;
    }

    /// The next call for this instance gets that fault.
    fn spoil(&self, instance: &str, fault: Fault) {
        let fault = fault.on(Action::ModifyInstanceVncPasswd).instance(instance).times(1);
        self.world.cloud().inject(fault);
    }

    async fn until_called(&self, instance: &str, value: &str) {
        let called = self.world.cloud().next_call(0, |call| {
            call.instance_ids == [instance] && call.vnc_password.as_deref() == Some(value)
        });
        timeout(PATIENCE, called).await.expect("no call in time");
    }

    /// Lets time pass in which the operator lives, stays ready, and calls nobody: it could not write down what came of
    /// it.
    async fn outage(&self, time: Duration) {
        let calls = self.world.cloud().journal().len();
        let end = Instant::now() + time;
        while Instant::now() < end {
            for probe in ["/healthz", "/readyz"] {
                assert_eq!(self.program.get(probe).await, Some(200), "{probe}: {}", self.said.said("WARN"));
            }
            sleep(Duration::from_millis(500)).await;
        }
        assert_eq!(self.world.cloud().journal().len(), calls, "{:#?}", self.world.cloud().journal());
    }

    /// Waits until the object has had that many rotations and is at rest, and the Secret says what opens the console.
    async fn until_rotated(&self, name: &str, instance: &str, rotations: i64) -> String {
        self.world
            .until(name, &format!("rotated {rotations} times"), |status| {
                status.rotations == Some(rotations)
                    && status.ready() == ConditionStatus::True
                    && status.condition(ConditionType::Reconciling).is_none()
            })
            .await;
        let values = self.world.values(name).await;
        assert_eq!(values.get("password"), self.world.console(instance).as_ref(), "{name}");
        assert!(!values.contains_key("password.next"), "{name}");
        values["password"].clone()
    }

    /// What is new is seen, what changes is applied: both watches go on.
    async fn works_as_ever(&self, new: &str) {
        let instance = self.world.generated(new, json!({})).await;
        self.until_rotated(new, &instance, 1).await;
        self.edit(new, "Edit01").await;
        self.world.until_console(&instance, "Edit01").await;
        self.world.until_ready(new).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_goes_on_by_itself_after_a_minute_without_api_server_and_a_restart_of_etcd() {
    let mut site = Site::start().await;
    let world = &site.world;
    let process = site.program.id();
    world.secret("user", "Abc123").await;
    let user = world.object("user").await;
    // Each falls due a minute after its first password, in the middle of the outage.
    let turn = world.generated("turn", json!({"interval": "1m"})).await;
    let asked = world.generated("asked", json!({})).await;
    let mut others = Vec::new();
    for name in ["answered", "lost", "unsent"] {
        others.push((name, world.generated(name, json!({})).await));
    }
    world.until_ready("user").await;
    // Times are kept to the second, and rotations are told apart by them.
    next_second().await;
    let due = Timestamp::from_second(Timestamp::now().as_second() + 30).unwrap();
    world
        .change("asked", json!({"metadata": {"annotations": {"vncpassword.dev/rotate-at": due.to_string()}}}))
        .await;
    for (name, instance) in [("turn", &turn), ("asked", &asked)] {
        site.until_rotated(name, instance, 1).await;
    }
    for (name, instance) in &others {
        site.until_rotated(name, instance, 1).await;
    }

    // The API server goes while calls are in flight: one will be accepted, of two nobody hears, and only one of these
    // takes effect.
    let patience = Duration::from_secs(2);
    let faults = [
        Fault::latency(patience),
        Fault { delay: patience, ..Fault::reset_after() },
        Fault { delay: patience, ..Fault::reset_before() },
    ];
    for ((name, instance), fault) in others.iter().zip(faults) {
        site.spoil(instance, fault);
        site.edit(name, "Flight").await;
    }
    for (_, instance) in &others {
        site.until_called(instance, "Flight").await;
    }
    site.say("kill apiserver");
    site.outage(OUTAGE / 2).await;
    // Behind its back, etcd is restarted as well.
    site.say("kill etcd");
    site.say("start etcd");
    site.outage(OUTAGE / 2).await;
    let fell_due = Timestamp::now();
    assert!(due < fell_due);
    site.say("start apiserver");

    for (name, instance) in &others {
        assert_eq!(site.until_rotated(name, instance, 2).await, "Flight");
    }
    let (turned, rotated) =
        (site.until_rotated("turn", &turn, 2).await, site.until_rotated("asked", &asked, 2).await);
    let world = &site.world;
    let handled = world.status("asked").await.last_handled_rotate_at;
    assert_eq!(handled.map(|time| time.0), Some(due));
    // One rotation each, and what was known to be accepted is not sent again.
    for (instance, value) in [(&turn, &turned), (&asked, &rotated)] {
        let calls = world.calls(instance);
        assert_eq!(calls.len(), 2, "{calls:#?}");
        assert!(calls[1].at > fell_due && calls[1].vnc_password.as_ref() == Some(value));
    }
    let calls = others.iter().map(|(_, instance)| world.calls(instance).len());
    assert_eq!(calls.collect::<Vec<_>>(), [2, 3, 3]);
    assert_eq!(world.calls(&user).len(), 1);
    site.works_as_ever("new").await;

    // etcd goes under a running API server.
    site.say("kill etcd");
    site.outage(Duration::from_secs(10)).await;
    site.say("start etcd");
    site.works_as_ever("newer").await;
    site.world.secret("user", "Xyz789").await;
    site.world.until_console(&user, "Xyz789").await;

    assert_eq!(site.program.id(), process);
    site.program.end().await;
}
