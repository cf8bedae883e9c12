//! Tests of calls without a server.

use super::super::access::AccessKey;
use super::super::instance::{Instance, Status};
use super::*;

const MODIFY: Action = Action::ModifyInstanceVncPasswd;

fn at(seconds: i64) -> Timestamp {
    // A full minute, 2026-01-01T00:00:00Z.
    Timestamp::from_second(1_767_225_600 + seconds).unwrap()
}

fn state(instances: impl IntoIterator<Item = Instance>) -> State {
    let mut state = State::new(vec![], 100, 1);
    instances.into_iter().for_each(|instance| state.put_instance(instance));
    state
}

fn call(action: Action, parameters: &[(&str, &str)]) -> Call {
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let caller = Caller::new(&AccessKey::default());
    Call { action, parameters: parameters.iter().map(own).collect(), denied: false, caller }
}

fn modify(id: &str, password: &str) -> Call {
    call(MODIFY, &[("RegionId", "cn-hangzhou"), ("InstanceId", id), ("VncPassword", password)])
}

fn reboot(id: &str) -> Call {
    call(Action::RebootInstance, &[("InstanceId", id)])
}

/// Carries a call out as `handle` does; the code of its refusal, or nothing.
fn run(state: &mut State, call: Call, effect: Apply, now: Timestamp) -> String {
    state.settle(now);
    let request = Request::new(http::Request::new(()).into_parts().0, bytes::Bytes::new());
    let mut entry = state.entry(&request, now);
    let outcome = state.run(call, effect, &mut entry);
    state.journal.push(entry);
    outcome.err().map(|error| error.code.into_owned()).unwrap_or_default()
}

fn console(state: &mut State, now: Timestamp) -> Option<String> {
    state.settle(now);
    state.machines["i-1"].console_password.clone()
}

#[test]
fn each_refusal_has_its_code() {
    let region = ("RegionId", "cn-hangzhou");
    let id = ("InstanceId", "i-1");
    let password = ("VncPassword", "Abc123");
    let denied = Call { denied: true, ..modify("i-1", "Abc123") };
    let table = [
        (modify("i-1", "Abc123"), ""),
        (modify("i-1", "aaaaaa"), ""),
        (call(MODIFY, &[id, password]), "MissingParameter"),
        (call(MODIFY, &[region, password]), "MissingParameter"),
        (call(MODIFY, &[region, id]), "MissingParameter"),
        (call(MODIFY, &[("RegionId", "mars-1"), id, password]), "InvalidRegionId.NotFound"),
        (call(MODIFY, &[("RegionId", "us-west-1"), id, password]), "InvalidInstanceId.NotFound"),
        (modify("i-none", "Abc123"), "InvalidInstanceId.NotFound"),
        (modify("i-1", "Abc12"), "IncorrectVncPassword.Malformed"),
        (modify("i-1", "Abc12!"), "IncorrectVncPassword.Malformed"),
        (modify("i-1", "Abc123\n"), "IncorrectVncPassword.Malformed"),
        (modify("i-stopped", "Abc123"), "IncorrectInstanceStatus"),
        (denied.clone(), "Forbidden.RAM"),
        (reboot("i-none"), "InvalidInstanceId.NotFound"),
        (reboot("i-stopped"), "IncorrectInstanceStatus"),
        (reboot("i-locked"), "InstanceLockedForSecurity"),
        (Call { denied: true, ..reboot("i-1") }, "Forbidden.RAM"),
        (call(Action::DescribeInstances, &[]), "MissingParameter"),
        (call(Action::DescribeInstances, &[region, ("InstanceIds", "i-1")]), "InvalidInstanceIds.Malformed"),
        (call(Action::DescribeInstances, &[region, ("MaxResults", "x")]), "InvalidParameter"),
        (call(Action::DescribeInstances, &[region, ("NextToken", "x")]), "InvalidParameter.NextToken"),
        (call(Action::DescribeInstances, &[region, ("DryRun", "true")]), "DryRunOperation"),
        (
            Call { denied: true, ..call(Action::DescribeInstances, &[region, ("DryRun", "true")]) },
            "Forbidden.RAM",
        ),
        (Call { denied: true, ..call(Action::DescribeInstances, &[region]) }, ""),
        (call(Action::DescribeRegions, &[]), ""),
    ];
    let mut state = state([
        Instance::new("i-1"),
        Instance::new("i-stopped").status(Status::Stopped),
        Instance::new("i-locked").locked("security"),
    ]);
    for (call, expected) in table {
        let text = format!("{call:?}");
        assert_eq!(run(&mut state, call, Apply::Now, at(0)), expected, "{text}");
    }
}

#[test]
fn a_key_reaches_what_its_account_owns_and_what_it_was_given_of_that() {
    let mut state = state([
        Instance::new("i-1"),
        Instance::new("i-2"),
        Instance::new("i-other").account("2000000000000002"),
    ]);
    let every = AccessKey::default();
    let one = AccessKey::default().only(["i-1", "i-other"]);
    let other = AccessKey::default().account("2000000000000002");
    let (missing, denied) = ("InvalidInstanceId.NotFound", "Forbidden.RAM");
    let table = [
        ("every", &every, ["", "", missing], ["i-1", "i-2"].as_slice()),
        ("one", &one, ["", denied, missing], &["i-1"]),
        ("other", &other, [missing, missing, ""], &["i-other"]),
    ];
    for (name, key, codes, listed) in table {
        let by_key = |call: Call| Call { caller: Caller::new(key), ..call };
        for (id, code) in ["i-1", "i-2", "i-other"].into_iter().zip(codes) {
            let call = by_key(modify(id, "Abc123"));
            assert_eq!(run(&mut state, call, Apply::Now, at(0)), code, "{name}, the password of {id}");
            let ids = format!("[\"{id}\"]");
            let dry = [("RegionId", "cn-hangzhou"), ("InstanceIds", &ids), ("DryRun", "true")];
            let dry = by_key(call_of(&dry));
            let expected = if code == denied { denied } else { "DryRunOperation" };
            assert_eq!(run(&mut state, dry, Apply::Now, at(0)), expected, "{name}, a dry run for {id}");
        }
        let call = by_key(call_of(&[("RegionId", "cn-hangzhou")]));
        let reply = operations::perform(&mut state, &call, at(0)).unwrap();
        let list = reply["Instances"]["Instance"].as_array().unwrap().iter();
        assert_eq!(list.map(|instance| &instance["InstanceId"]).collect::<Vec<_>>(), listed, "{name}");
    }
    assert_eq!(
        run(&mut state, Call { caller: Caller::new(&one), ..reboot("i-2") }, Apply::Now, at(0)),
        denied
    );
}

fn call_of(parameters: &[(&str, &str)]) -> Call {
    call(Action::DescribeInstances, parameters)
}

#[test]
fn a_restart_takes_its_time_and_brings_the_waiting_password_into_effect() {
    let mut state = state([Instance::new("i-1").not_optimized()]);
    state.reboot_time = Duration::from_mins(1);
    run(&mut state, modify("i-1", "Abc123"), Apply::Now, at(0));
    assert_eq!(console(&mut state, at(1000)), None);
    assert_eq!(run(&mut state, reboot("i-1"), Apply::Now, at(1000)), "");
    for (seconds, status, password) in [
        (1000, Status::Stopping, None),
        (1029, Status::Stopping, None),
        (1030, Status::Starting, None),
        (1060, Status::Running, Some("Abc123")),
    ] {
        assert_eq!(console(&mut state, at(seconds)).as_deref(), password, "second {seconds}");
        assert_eq!(state.machines["i-1"].instance.status, status, "second {seconds}");
    }
    assert_eq!(state.machines["i-1"].instance.start_time, at(1060));
    assert_eq!(state.machines["i-1"].pending_password, None);
}

#[test]
fn stopping_an_instance_by_hand_ends_the_restart_under_way() {
    let mut state = state([Instance::new("i-1")]);
    run(&mut state, reboot("i-1"), Apply::Now, at(0));
    state.set_status("i-1", Status::Stopped, at(1));
    state.settle(at(1000));
    assert_eq!(state.machines["i-1"].instance.status, Status::Stopped);
    state.set_status("i-1", Status::Running, at(1001));
    assert_eq!(state.machines["i-1"].instance.start_time, at(1001));
}

#[test]
fn late_calls_arrive_in_the_order_in_which_they_fall_due_whatever_came_between() {
    let late = |seconds| Apply::Late { after: Duration::from_secs(seconds) };
    let mut state = state([Instance::new("i-1")]);
    run(&mut state, modify("i-1", "first1"), late(30), at(0));
    run(&mut state, modify("i-1", "second"), late(10), at(0));
    run(&mut state, modify("i-1", "third3"), Apply::Now, at(5));
    for (seconds, expected) in [(9, "third3"), (10, "second"), (29, "second"), (30, "first1")] {
        assert_eq!(console(&mut state, at(seconds)).as_deref(), Some(expected), "second {seconds}");
    }
    let applied: Vec<_> = state.journal.since(0).into_iter().map(|entry| entry.applied_at).collect();
    assert_eq!(applied, [Some(at(30)), Some(at(10)), Some(at(5))]);
}

#[test]
fn late_calls_arrive_in_due_order_even_if_nobody_looked_meanwhile() {
    let mut state = state([Instance::new("i-1")]);
    for (password, after) in [("first1", 30), ("second", 10)] {
        run(&mut state, modify("i-1", password), Apply::Late { after: Duration::from_secs(after) }, at(0));
    }
    assert_eq!(console(&mut state, at(1000)).as_deref(), Some("first1"));
}

#[test]
fn a_late_call_is_judged_by_the_state_it_finds() {
    let mut state = state([Instance::new("i-1")]);
    run(&mut state, modify("i-1", "Abc123"), Apply::Late { after: Duration::from_secs(10) }, at(0));
    state.set_status("i-1", Status::Stopped, at(5));
    assert_eq!(console(&mut state, at(20)), None);
    assert!(!state.journal.since(0)[0].applied());
}

#[test]
fn a_lost_call_has_no_effect_and_a_throttled_one_neither() {
    let mut state = state([Instance::new("i-1")]);
    run(&mut state, modify("i-1", "Abc123"), Apply::Never, at(0));
    assert_eq!(console(&mut state, at(0)), None);
    state.limits.set(MODIFY, Some(1));
    assert_eq!(run(&mut state, modify("i-1", "second"), Apply::Now, at(0)), "");
    assert_eq!(run(&mut state, modify("i-1", "third3"), Apply::Now, at(59)), "Throttling");
    assert_eq!(console(&mut state, at(59)).as_deref(), Some("second"));
    assert_eq!(run(&mut state, modify("i-1", "third3"), Apply::Now, at(60)), "");
}

#[test]
fn a_change_from_outside_keeps_the_passwords() {
    let mut state = state([Instance::new("i-1")]);
    run(&mut state, modify("i-1", "Abc123"), Apply::Now, at(0));
    state.put_instance(Instance::new("i-1").tag("a", "b"));
    assert_eq!(console(&mut state, at(0)).as_deref(), Some("Abc123"));
}

#[test]
fn the_journal_forgets_the_oldest_calls_first() {
    let mut state = state([Instance::new("i-1")]);
    for second in 0..150 {
        run(&mut state, modify("i-1", "Abc123"), Apply::Now, at(second));
    }
    let kept: Vec<_> = state.journal.since(0).into_iter().map(|entry| entry.seq).collect();
    assert_eq!(kept, (51..=150).collect::<Vec<_>>());
    assert_eq!(state.journal.since(149).len(), 1);
}

fn pages(state: &mut State, parameters: &[(&str, &str)]) -> Vec<Vec<String>> {
    let mut token = String::new();
    let mut pages = Vec::new();
    loop {
        let mut call = call(Action::DescribeInstances, parameters);
        call.parameters.insert("RegionId".to_owned(), "cn-hangzhou".to_owned());
        if !token.is_empty() {
            call.parameters.insert("NextToken".to_owned(), token);
        }
        let reply = operations::perform(state, &call, at(0)).unwrap();
        let list = reply["Instances"]["Instance"].as_array().unwrap().iter();
        pages.push(list.map(|instance| instance["InstanceId"].as_str().unwrap().to_owned()).collect());
        token = reply["NextToken"].as_str().unwrap().to_owned();
        if token.is_empty() {
            return pages;
        }
    }
}

#[test]
fn lists_come_in_pages_that_hold_every_instance_once() {
    let mut state =
        state((0..25).map(|n| {
            Instance::new(format!("i-{n:02}")).tag("half", if n < 12 { "first" } else { "second" })
        }));
    state.put_instance(Instance::new("i-99").region("us-west-1"));
    let sizes = |pages: Vec<Vec<String>>| pages.iter().map(Vec::len).collect::<Vec<_>>();
    assert_eq!(sizes(pages(&mut state, &[("MaxResults", "10")])), [10, 10, 5]);
    assert_eq!(sizes(pages(&mut state, &[("MaxResults", "100")])), [25]);
    assert_eq!(sizes(pages(&mut state, &[])), [10], "the old paging shows ten unless asked for more");
    assert_eq!(sizes(pages(&mut state, &[("PageSize", "20"), ("PageNumber", "2")])), [5]);
    assert_eq!(sizes(pages(&mut state, &[("MaxResults", "10"), ("Tag.1.Key", "half")])), [10, 10, 5]);
    let second = [("MaxResults", "10"), ("Tag.1.Key", "half"), ("Tag.1.Value", "second")];
    assert_eq!(sizes(pages(&mut state, &second)), [10, 3]);
    let named = pages(&mut state, &[("InstanceIds", "[\"i-03\",\"i-99\",\"i-none\",\"i-01\"]")]);
    assert_eq!(named, [["i-01", "i-03"]]);
}
