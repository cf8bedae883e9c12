//! The control routes, as `docs/emulator.md` shows them.

use std::time::Duration;

use serde_json::{Value, json};
use vncpassword_emulator::Emulator;

use crate::client::{emulator, http, modify};

/// A control request: its status and what it answers.
async fn control(emulator: &Emulator, method: &str, route: &str, body: Value) -> (u16, Value) {
    let url = format!("{}/_emulator/{route}", emulator.url());
    let mut request = http(Duration::from_secs(1)).request(method.parse().unwrap(), url);
    if !body.is_null() {
        request = request.body(body.to_string());
    }
    let reply = request.send().await.unwrap();
    (reply.status().as_u16(), serde_json::from_str(&reply.text().await.unwrap()).unwrap())
}

#[tokio::test]
async fn each_route_does_what_it_says() {
    let emulator = emulator().await;
    let steps = [
        ("GET", "health", Value::Null, json!({"status": "ok"})),
        ("PUT", "instances/i-2", json!({"ioOptimized": false, "tags": {"a": "b"}}), json!({})),
        ("PUT", "instances/i-3", Value::Null, json!({})),
        ("DELETE", "instances/i-3", Value::Null, json!({})),
        ("PUT", "instances", json!([{"id": "i-4"}, {"id": "i-5", "status": "Stopped"}]), json!({})),
        ("PUT", "instances/i-4/status", json!("Stopped"), json!({})),
        ("POST", "instances/i-2/restart", Value::Null, json!({})),
        ("POST", "faults", json!({"reply": "reset", "remaining": 1}), json!({"id": 1})),
        ("DELETE", "faults/1", Value::Null, json!({})),
        ("DELETE", "faults", Value::Null, json!({})),
        ("GET", "faults", Value::Null, json!([])),
        ("PUT", "limits/RebootInstance", json!(5), json!({})),
        ("GET", "limits", Value::Null, json!({"RebootInstance": 5})),
        ("DELETE", "limits/RebootInstance", Value::Null, json!({})),
        (
            "PUT",
            "clock",
            json!({"now": "2030-01-01T00:00:00Z", "scale": 0}),
            json!({"now": "2030-01-01T00:00:00Z", "scale": 0}),
        ),
        ("PUT", "clock", json!({"advanceMs": 1500}), json!({"now": "2030-01-01T00:00:01.5Z", "scale": 0})),
        ("PUT", "settings", json!({"rebootTimeMs": 5}), json!({"rebootTimeMs": 5, "sendRetryAfter": false})),
        ("POST", "access-keys", json!({"id": "k", "secret": "s"}), json!({})),
        ("DELETE", "access-keys/k", Value::Null, json!({})),
        ("GET", "journal", Value::Null, json!([])),
    ];
    for (method, route, body, expected) in steps {
        assert_eq!(control(&emulator, method, route, body).await, (200, expected), "{method} {route}");
    }
    let (_, list) = control(&emulator, "GET", "instances", Value::Null).await;
    let ids: Vec<_> = list.as_array().unwrap().iter().map(|instance| instance["id"].clone()).collect();
    assert_eq!(ids, ["i-1", "i-2", "i-4", "i-5"]);
    assert_eq!(list[2]["status"], "Stopped");
}

#[tokio::test]
async fn mistakes_are_answered_with_what_is_wrong() {
    let emulator = emulator().await;
    let table = [
        ("GET", "nothing", Value::Null, 404),
        ("DELETE", "journal", Value::Null, 404),
        ("GET", "instances/i-none", Value::Null, 404),
        ("POST", "instances/i-none/restart", Value::Null, 404),
        ("PUT", "limits/Nothing", json!(1), 404),
        ("PUT", "instances/i-1", json!({"ioOptimised": true}), 400),
        ("POST", "faults", json!({"reply": "nonsense"}), 400),
        ("GET", "journal?before=1", Value::Null, 400),
        ("PUT", "roles/demo", Value::Null, 400),
        ("PUT", "roles", json!([{"name": "demo"}]), 400),
        ("DELETE", "roles/acs:ram::1:role/none", Value::Null, 404),
        ("PUT", "metadata", json!({"role": "demo"}), 400),
        ("PUT", "issued/lifetime", json!("1h"), 400),
        ("POST", "issued", Value::Null, 404),
    ];
    for (method, route, body, expected) in table {
        let (status, reply) = control(&emulator, method, route, body).await;
        assert_eq!(status, expected, "{method} {route}");
        assert!(reply["error"].is_string(), "{method} {route}: {reply}");
    }
}

#[tokio::test]
async fn the_journal_is_read_on_from_where_one_was() {
    let emulator = emulator().await;
    for password in ["Abc123", "Def456"] {
        modify(&emulator, "i-1", password).await.unwrap();
    }
    let (_, entries) = control(&emulator, "GET", "journal?after=1", Value::Null).await;
    assert_eq!(entries.as_array().unwrap().len(), 1);
    assert_eq!(entries[0]["vncPassword"], "Def456");
    let (_, instance) = control(&emulator, "GET", "instances/i-1", Value::Null).await;
    assert_eq!(instance["consolePassword"], "Def456");
}
