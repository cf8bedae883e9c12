//! A thousand objects: one call each, and nothing at all while they are in sync.

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use kube::api::{ListParams, ObjectList};
use tokio::time::Instant;
use vncpassword::{
    api::{ConditionStatus, VncPassword},
    emulator::Action,
};

use super::support::{
    World,
    world::{PATIENCE, quiet},
};

const OBJECTS: usize = 1000;

async fn list(world: &World) -> ObjectList<VncPassword> {
    world.objects().list(&ListParams::default()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_objects_get_one_call_each_and_a_restart_costs_nothing() {
    let world = World::new().await;
    let operator = world.operator_before(world.settings()).await;
    let begun = Instant::now();
    let instances: Vec<String> = stream::iter(0..OBJECTS)
        .map(|number| {
            let world = &world;
            async move {
                let name = format!("o{number}");
                world.secret(&name, format!("Pw{number:04}")).await;
                Ok::<_, kube::Error>(world.object(&name).await)
            }
        })
        .buffered(16)
        .try_collect()
        .await
        .unwrap();
    loop {
        let objects = list(&world).await;
        let ready = objects.iter().filter(|object| {
            object.status.as_ref().is_some_and(|status| status.ready() == ConditionStatus::True)
        });
        if ready.count() == OBJECTS {
            break;
        }
        assert!(begun.elapsed() < PATIENCE * 4, "not all are Ready in time");
        quiet(1).await;
    }
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), OBJECTS);
    for (number, instance) in instances.iter().enumerate() {
        assert_eq!(world.console(instance), Some(format!("Pw{number:04}")));
    }
    // A GET of the Secret and a PUT of the status each; a Secret that came in between may be looked for in vain.
    let patches = operator.requests().count(&Method::PUT, "/status");
    assert!(patches <= OBJECTS + OBJECTS / 10, "{patches} status writes");
    operator.stop().await;

    let versions = |objects: &ObjectList<VncPassword>| -> Vec<_> {
        objects.iter().map(|object| object.metadata.resource_version.clone()).collect()
    };
    let before = versions(&list(&world).await);
    let operator = world.operator();
    quiet(5).await;
    assert_eq!(operator.requests().all(), [], "in sync: no request at all");
    assert_eq!(world.calls_of(Action::ModifyInstanceVncPasswd).len(), OBJECTS);
    assert_eq!(versions(&list(&world).await), before);
    operator.stop().await;
}
