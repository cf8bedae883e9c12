//! Two processes at once, and people, lost replies and late calls all together: what the Secret says at the end opens
//! the console.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DeleteParams;
use serde_json::json;
use vncpassword_core::api::ConditionStatus;
use vncpassword_emulator::{Action, Fault, Instance, Reply};
use vncpassword_operator::settings::Settings;
use vncpassword_test_support::{
    World,
    observe::{rewrite_status, said},
    rotation::{edit, generated_at, now, until_values},
};

use super::settle::until_arrived;

fn settings(world: &World) -> Settings {
    let mut settings = world.settings();
    settings.controller.settle = Duration::from_secs(3);
    settings.controller.allow_reboot = true;
    settings
}

/// Waits until all is in effect and nothing is under way.
async fn until_calm(world: &World, name: &str) {
    until_values(world, name, "calm", |values| {
        values.contains_key("password") && !values.contains_key("password.next")
    })
    .await;
    world
        .until(name, "calm", |status| {
            said(status) == (ConditionStatus::True, None, None) && status.retry.is_none()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_at_once_end_with_one_password() {
    let world = World::new().await;
    world.cloud().set_reboot_time(Duration::from_secs(1));
    let operators =
        [world.operator_before(settings(&world)).await, world.operator_before(settings(&world)).await];
    let names: Vec<String> = (0..10).map(|number| format!("o{number}")).collect();
    let create = |name: &String| {
        let (world, name) = (&world, name.clone());
        async move {
            let instance =
                if name == "o0" { Instance::default().not_optimized() } else { Instance::default() };
            generated_at(world, &name, instance, json!({"activation": "Reboot"})).await
        }
    };
    let instances = join_all(names.iter().map(create)).await;
    for (name, instance) in names.iter().zip(&instances) {
        until_calm(&world, name).await;
        let values = world.values(name).await;
        assert_eq!(world.console(instance).as_ref(), Some(&values["password"]), "{name}");
    }
    let reboots = world.calls_of(Action::RebootInstance);
    assert_eq!(reboots.len(), 1, "only who wrote it down asks: {reboots:?}");
    for operator in &operators {
        operator.settled(&world).await;
    }
    for (name, instance) in names.iter().zip(&instances) {
        assert_eq!(world.console(instance).as_ref(), Some(&world.values(name).await["password"]), "{name}");
    }
    for operator in operators {
        operator.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_people_and_the_network_do_the_secret_opens_the_console_at_the_end() {
    let world = World::new().await;
    let mut operator = world.operator_before(settings(&world)).await;
    let instance = world.generated("a", json!({})).await;
    let instances = [instance, world.generated("b", json!({})).await];
    for name in ["a", "b"] {
        world.until_ready(name).await;
    }
    let inject =
        |fault: Fault| world.cloud().inject(fault.on(Action::ModifyInstanceVncPasswd).probability(0.25));
    inject(Fault::reset_before());
    inject(Fault::reset_after());
    let late = inject(Fault::late(Duration::from_millis(2000), Reply::Reset));
    inject(Fault::error(500, "InternalError"));
    for step in 0..6 {
        for name in ["a", "b"] {
            match step % 3 {
                0 => {
                    let value = json!({"stringData": {"password": format!("Edit{step}{name}")}});
                    edit(&world, name, value).await;
                }
                1 => edit(&world, name, json!({"data": {"password.next": null}})).await,
                _ if name == "b" => {
                    world.secrets().delete(name, &DeleteParams::default()).await.unwrap();
                    until_values(&world, name, "made again", |values| {
                        values.contains_key("password.rotation")
                    })
                    .await;
                }
                _ => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        if step == 3 {
            operator.stop().await;
            operator = world.operator_before(settings(&world)).await;
        }
    }
    world.cloud().clear_faults();
    for name in ["a", "b"] {
        let now = Time(now());
        rewrite_status(&world, name, |status| {
            if let Some(retry) = status.retry.as_mut().filter(|retry| retry.next_attempt_time.is_some()) {
                retry.next_attempt_time = Some(now.clone());
            }
        })
        .await;
        until_calm(&world, name).await;
    }
    for (name, instance) in ["a", "b"].into_iter().zip(&instances) {
        until_arrived(&world, instance, late).await;
        until_calm(&world, name).await;
        assert_eq!(world.console(instance).as_ref(), Some(&world.values(name).await["password"]), "{name}");
    }
    operator.stop().await;
}
