//! What a client sees of calls in every style, and of injected faults.

use std::error::Error as _;
use std::io;
use std::time::{Duration, Instant};

use vncpassword_emulator::{Action, Apply, DEFAULT_REGION, Emulator, Fault, Garbage, HUGE, Instance, Reply};

use crate::client::{Style, call, emulator, modify, signed};

fn console(emulator: &Emulator) -> Option<String> {
    emulator.cloud().instance("i-1").unwrap().console_password
}

/// The error of the operating system under an error of reqwest.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return Some(error.kind());
        }
        cause = error.source();
    }
    None
}

#[tokio::test]
async fn every_style_of_call_is_taken() {
    let emulator = emulator().await;
    let parameters = [("RegionId", DEFAULT_REGION), ("InstanceId", "i-1")];
    for (method, form) in [("GET", false), ("POST", false), ("POST", true)] {
        let password = format!("Abc{}{}1", method.len(), u8::from(form));
        let parameters = [parameters.as_slice(), &[("VncPassword", &password)]].concat();
        let style = Style { method, form, ..Style::default() };
        let reply = call(&emulator, "ModifyInstanceVncPasswd", &parameters, &style).await.unwrap();
        assert_eq!(reply.status, 200, "{method}, form: {form}: {}", reply.body);
        assert_eq!(console(&emulator), Some(password));
    }
    let plain = Style { accept: None, ..Style::default() };
    let reply = call(&emulator, "DescribeRegions", &[], &plain).await.unwrap();
    assert!(reply.body.contains("<DescribeRegionsResponse>"), "{}", reply.body);
}

#[tokio::test]
async fn the_date_header_shows_the_emulators_clock() {
    let emulator = emulator().await;
    emulator.cloud().clock().set_scale(0);
    emulator.cloud().set_clock("2031-02-03T04:05:06Z".parse().unwrap());
    let reply = modify(&emulator, "i-1", "Abc123").await.unwrap();
    assert_eq!(reply.status, 200);
    assert_eq!(reply.headers["date"], "Mon, 03 Feb 2031 04:05:06 GMT");
}

#[tokio::test]
async fn a_reset_is_a_tcp_reset_before_or_after_the_call_took_effect() {
    let emulator = emulator().await;
    for (fault, expected) in
        [(Fault::reset_before(), None), (Fault::reset_after(), Some("Abc123".to_owned()))]
    {
        let id = emulator.cloud().inject(fault.on(Action::ModifyInstanceVncPasswd).times(1));
        let error = modify(&emulator, "i-1", "Abc123").await.unwrap_err();
        assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset), "{error:?}");
        assert_eq!(console(&emulator), expected);
        let entry = emulator.cloud().journal().pop().unwrap();
        assert_eq!((entry.fault, entry.http_status, entry.applied()), (Some(id), None, expected.is_some()));
    }
    assert_eq!(modify(&emulator, "i-1", "Def456").await.unwrap().status, 200);
}

#[tokio::test]
async fn a_late_call_overwrites_a_newer_password() {
    let emulator = emulator().await;
    emulator.cloud().clock().set_scale(0);
    emulator.cloud().inject(Fault::late(Duration::from_mins(1), Reply::Reset).times(1));
    assert!(modify(&emulator, "i-1", "first1").await.is_err());
    assert_eq!(modify(&emulator, "i-1", "second").await.unwrap().status, 200);
    assert_eq!(console(&emulator).as_deref(), Some("second"));
    emulator.cloud().advance(Duration::from_mins(1));
    assert_eq!(console(&emulator).as_deref(), Some("first1"));
    assert!(emulator.cloud().journal()[0].applied());
}

#[tokio::test]
async fn a_hanging_call_ends_with_the_client_or_with_a_reset() {
    let emulator = emulator().await;
    emulator.cloud().inject(Fault::hang().times(1));
    assert!(modify(&emulator, "i-1", "Abc123").await.unwrap_err().is_timeout());
    emulator.cloud().inject(Fault { reply: Reply::Hang { for_ms: Some(20) }, ..Fault::default() });
    let error = modify(&emulator, "i-1", "Abc123").await.unwrap_err();
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset), "{error:?}");
    assert_eq!(console(&emulator), None);
}

#[tokio::test]
async fn a_slow_reply_comes_after_its_delay() {
    let emulator = emulator().await;
    emulator.cloud().inject(Fault::latency(Duration::from_millis(100)));
    let start = Instant::now();
    assert_eq!(modify(&emulator, "i-1", "Abc123").await.unwrap().status, 200);
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn refusals_carry_their_status_code_and_headers() {
    let emulator = emulator().await;
    let cloud = emulator.cloud();
    cloud.inject(Fault::error(503, "ServiceUnavailable").times(1));
    let reply = modify(&emulator, "i-1", "Abc123").await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (503, "ServiceUnavailable"));
    cloud.inject(Fault::throttled(Some(Duration::from_millis(1500))).times(1));
    let reply = modify(&emulator, "i-1", "Abc123").await.unwrap();
    assert_eq!((reply.status, reply.code().as_str()), (400, "Throttling"));
    assert_eq!(reply.headers["x-acs-retry-after"], "1500");
    cloud.inject(Fault::redirect("http://127.0.0.1:9/").times(1));
    let reply = modify(&emulator, "i-1", "Abc123").await.unwrap();
    assert_eq!((reply.status, reply.headers["location"].to_str().unwrap()), (302, "http://127.0.0.1:9/"));
    assert_eq!(console(&emulator), None);
    cloud.inject(Fault { apply: Some(Apply::Now), ..Fault::error(500, "InternalError") }.times(1));
    assert_eq!(modify(&emulator, "i-1", "Abc123").await.unwrap().status, 500);
    assert_eq!(console(&emulator).as_deref(), Some("Abc123"));
}

#[tokio::test]
async fn bodies_can_be_garbled() {
    let emulator = emulator().await;
    for (kind, fits) in [
        (Garbage::Html, (|body| body.starts_with("<html>")) as fn(&str) -> bool),
        (Garbage::Empty, str::is_empty),
        (Garbage::Truncated, |body| body.starts_with("{\"RequestId\":\"") && !body.ends_with('}')),
        (Garbage::NotJson, |body| body == "OK"),
        (Garbage::Huge, |body| body.len() > HUGE),
        (Garbage::NoRequestId, |body| body == "{}"),
    ] {
        emulator.cloud().inject(Fault::body(kind).times(1));
        let reply = modify(&emulator, "i-1", "Abc123").await.unwrap();
        assert!(reply.status == 200 && fits(&reply.body), "{kind:?}");
    }
    emulator.cloud().inject(Fault::xml().times(1));
    let reply = modify(&emulator, "i-1", "Abc123").await.unwrap();
    assert!(reply.body.contains("<ModifyInstanceVncPasswdResponse><RequestId>"), "{}", reply.body);
}

#[tokio::test]
async fn a_nonce_counts_as_used_even_if_the_call_was_throttled() {
    let emulator = emulator().await;
    emulator.cloud().set_limit(Action::DescribeRegions, Some(0));
    let http = crate::client::http(Duration::from_secs(1));
    let request = signed(&http, &emulator, "DescribeRegions", &[], &Style::default());
    for expected in ["Throttling", "SignatureNonceUsed"] {
        let text = request.try_clone().unwrap().send().await.unwrap().text().await.unwrap();
        assert!(text.contains(&format!("\"Code\":\"{expected}\"")), "{text}");
    }
}

#[tokio::test]
async fn waiting_for_a_call_ends_when_it_comes() {
    let emulator = emulator().await;
    emulator.cloud().put_instance(Instance::new("i-2"));
    let wanted = emulator.cloud().next_call(0, |entry| entry.instance_ids == ["i-2"]);
    let calls = async {
        modify(&emulator, "i-1", "Abc123").await.unwrap();
        modify(&emulator, "i-2", "Def456").await.unwrap();
    };
    let (entry, ()) = tokio::join!(wanted, calls);
    assert_eq!((entry.seq, entry.vnc_password.as_deref()), (2, Some("Def456")));
}

#[tokio::test]
async fn a_stopped_emulator_frees_its_port_and_ends_its_connections() {
    let emulator = emulator().await;
    emulator.cloud().inject(Fault::hang());
    let http = crate::client::http(Duration::from_secs(10));
    let pending = signed(&http, &emulator, "DescribeRegions", &[], &Style::default()).send();
    let address = emulator.url().trim_start_matches("http://").to_owned();
    let cloud = emulator.cloud().clone();
    let stop = async {
        cloud.next_call(0, |_| true).await;
        emulator.shutdown().await;
    };
    let (reply, ()) = tokio::join!(pending, stop);
    assert!(reply.is_err_and(|error| !error.is_timeout()));
    tokio::net::TcpListener::bind(address).await.unwrap();
}
