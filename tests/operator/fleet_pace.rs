//! A thousand rotations under the API's rate limit: how much of it is used, how often it is hit, and what the fleet says of
//! its end. A minute of the limit is six seconds here, for the cloud and for the operator.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::{Instant, sleep};
use vncpassword_emulator::{Action, Entry, Options};
use vncpassword_test_support::{
    Setup, World,
    fleet::{Fleet, instances},
};

const MINUTE: Duration = Duration::from_secs(6);
const LIMIT: usize = 60;
const INSTANCES: usize = 1000;

/// Calls by minute of the limit: how many passed, how many were throttled.
fn by_minute(calls: &[Entry]) -> BTreeMap<i64, (usize, usize)> {
    let mut minutes = BTreeMap::new();
    let length = i64::try_from(MINUTE.as_millis()).unwrap();
    for call in calls {
        let (passed, throttled) =
            minutes.entry(call.at.as_millisecond().div_euclid(length)).or_insert((0, 0));
        *(if call.code.is_none() { passed } else { throttled }) += 1;
    }
    minutes
}

/// What the status said at some time.
#[derive(Debug)]
struct Said {
    at: Timestamp,
    updated: u32,
    eta: Option<Timestamp>,
}

/// Follows the rollout to its end; returns what it said on the way, when it began and when it ended.
async fn followed(fleet: &Fleet<'_>) -> (Vec<Said>, Timestamp, Timestamp) {
    let (mut said, deadline) = (Vec::new(), Instant::now() + Duration::from_secs(240));
    loop {
        if let Some(rollout) = fleet.status().await.rollout {
            if let Some(end) = rollout.completed_at {
                return (said, rollout.started_at.0, end.0);
            }
            let eta = rollout.eta.map(|eta| eta.0);
            said.push(Said { at: Timestamp::now(), updated: rollout.updated, eta });
        }
        assert!(Instant::now() < deadline, "not through in time: {:?}", said.last());
        sleep(Duration::from_millis(250)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fleet_uses_the_limit_without_hitting_it_and_says_when_it_ends() {
    let world = World::with(Options { minute: MINUTE, ..Options::default() }).await;
    world.cloud().set_limit(Action::ModifyInstanceVncPasswd, Some(LIMIT.try_into().unwrap()));
    let setup = Setup { minute: MINUTE, ..world.settings().into() };
    let operator = world.operator_before(setup).await;
    let instances = instances(&world, INSTANCES);
    let fleet = Fleet::of(&world, &instances, json!({"rollout": {"maxConcurrent": 100}})).await;
    let (said, begun, ended) = followed(&fleet).await;

    let calls = world.calls_of(Action::ModifyInstanceVncPasswd);
    let minutes = by_minute(&calls);
    let took = ended.duration_since(begun);
    #[allow(clippy::print_stderr, reason = "figures for people")]
    {
        let told = |said: &&Said| said.eta.is_some();
        eprintln!("{took}: {:?}", minutes.values().collect::<Vec<_>>());
        for pair in said.iter().filter(told).collect::<Vec<_>>().windows(2) {
            if pair[0].eta != pair[1].eta {
                let after = |at: Timestamp| at.duration_since(begun).as_secs();
                eprintln!(
                    "{} after {} s: ends after {:?} s",
                    pair[1].updated,
                    after(pair[1].at),
                    pair[1].eta.map(after)
                );
            }
        }
    }
    assert_eq!(calls.iter().filter(|call| call.code.is_none()).count(), INSTANCES, "each of them once");
    // In the first throttled minute nothing limits the calls, and the last minute is not full. How few replies are throttled where
    // the machine is not busy is shown by the simulation of the limiter.
    let full = minutes.values().take(minutes.len() - 1);
    let full: Vec<_> = full.skip_while(|(_, throttled)| *throttled == 0).skip(1).collect();
    let throttled: usize = full.iter().map(|(_, throttled)| throttled).sum();
    assert!(throttled * 25 <= INSTANCES, "{throttled} throttled replies: {minutes:?}");
    let passed: usize = full.iter().map(|(passed, _)| passed).sum();
    // How much it uses where the machine is not busy is shown by the simulation of the limiter.
    assert!(passed * 100 >= LIMIT * 50 * full.len(), "{minutes:?}");
    let most = took.as_secs_f64() * 0.3;
    for Said { at, updated, eta } in said.iter().filter(|said| said.updated >= 100 && said.updated < 1000) {
        let eta = eta.unwrap_or_else(|| panic!("after {updated}: no end is told"));
        let off = eta.duration_since(ended).as_secs_f64();
        assert!(off.abs() <= most, "after {updated}, at {at}: the end is {off} s off, of {took}");
    }
    assert!(said.iter().filter(|said| said.updated >= 100).count() > 100, "it was followed");
    operator.stop().await;
}
