//! What a run leaves for those who watch: one log line a rotation, and spans at the collector.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tokio::{net::TcpListener, time::Instant};
use vncpassword_emulator::Action;

use super::process::{END, Program};
use vncpassword_test_support::{World, collector::Collector, control_plane::shared_kubeconfig};

async fn program(world: &World, variables: &[(&str, &str)]) -> Program {
    Program::run_with(&shared_kubeconfig(), &world.namespace, &world.emulator, variables).await
}

/// The name of each object, and the RequestId of each of its passwords.
async fn rotate(world: &World) -> BTreeMap<String, &'static str> {
    world.secret("given", "Abc123").await;
    let given = world.object("given").await;
    let generated = world.generated("generated", json!({})).await;
    world.until_ready("generated").await;
    world.until_ready("given").await;
    world.secret("given", "Xyz789").await;
    world.until_console(&given, "Xyz789").await;
    world.until("given", "accepted twice", |status| status.rotations == Some(2)).await;
    let calls = world.cloud().journal().into_iter();
    let calls = calls.filter(|call| call.action == Action::ModifyInstanceVncPasswd.as_str());
    let named = calls.map(|call| {
        let name = if call.instance_ids == [generated.clone()] { "generated" } else { "given" };
        (call.request_id, name)
    });
    let ids: BTreeMap<String, &str> = named.collect();
    assert_eq!(ids.len(), 3, "{ids:?}");
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn each_rotation_has_one_line_with_its_request_id_and_each_call_a_span() {
    let world = World::new().await;
    let collector = Collector::start().await;
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
    let program = program(&world, &[("LOG_FORMAT", "json"), endpoint]).await;
    let ids = rotate(&world).await;
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{}", ended.said);

    let lines = ended.said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let lines: Vec<Value> = lines.filter(|line| ids.keys().any(|id| line.to_string().contains(id))).collect();
    for (id, name) in &ids {
        let of: Vec<_> = lines.iter().filter(|line| line["fields"]["request_id"] == **id).collect();
        assert_eq!(of.len(), 1, "the lines of {id}: {of:#?}");
        let line = of[0];
        assert_eq!(
            (&line["level"], &line["fields"]["message"]),
            (&json!("INFO"), &json!("password accepted"))
        );
        assert_eq!(
            (&line["span"]["namespace"], &line["span"]["object"]),
            (&json!(world.namespace), &json!(name))
        );
        assert_eq!(line["spans"].as_array().unwrap().len(), 1, "the call's span is for traces alone: {line}");
    }
    assert_eq!(lines.len(), ids.len(), "{lines:#?}");

    // Sent at the end, not at the next turn of the exporter's clock.
    let spans = collector.spans();
    let calls: Vec<_> = spans.iter().filter(|span| span.name == "ModifyInstanceVncPasswd").collect();
    assert_eq!(calls.len(), ids.len(), "{spans:#?}");
    for call in calls {
        let pass = spans.iter().find(|span| span.id == call.parent).expect("a call outside of a pass");
        assert_eq!((pass.name.as_str(), &pass.trace), ("pass", &call.trace));
        assert_eq!(pass.attributes["namespace"], world.namespace);
        assert_eq!(pass.attributes["object"], ids[&call.attributes["request_id"]]);
        assert_eq!((call.attributes["code"].as_str(), call.service.as_str()), ("ok", "vncpassword-operator"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_holds_up_neither_the_work_nor_the_end() {
    let world = World::new().await;
    // Takes connections, and never answers.
    let silent = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let program = program(&world, &[("OTEL_EXPORTER_OTLP_ENDPOINT", &url)]).await;
    rotate(&world).await;
    let asked = Instant::now();
    program.terminate();
    let ended = program.ended().await;
    assert!(ended.status.success(), "{}", ended.said);
    assert!(asked.elapsed() < END, "it took {:?}", asked.elapsed());
    assert!(ended.said.contains("the last traces were not sent"), "{}", ended.said);
}
