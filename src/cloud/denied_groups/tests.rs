//! The groups against an API that is told whom to deny.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);
const CODE: &str = "Forbidden.RAM";

/// An API whose calls take half a second, in simulated time.
struct Simulation {
    groups: DeniedGroups,
    start: Instant,
    millisecond: u64,
    /// How much the wall clock was set, in seconds.
    set: i64,
    /// Calls under way: when they end.
    calls: Vec<(u64, Key)>,
    /// All calls so far: when they began, for whom, and how they ended.
    log: Vec<(u64, Key, TryResult)>,
}

const CALL: u64 = 500;

fn key(number: usize) -> Key {
    Key::new("default", &format!("o{number}"))
}

fn group(region: &str) -> GroupKey {
    GroupKey {
        identity: "operator".into(),
        region: region.into(),
        action: Action::ModifyInstanceVncPasswd,
        code: CODE.into(),
    }
}

impl Simulation {
    /// Objects that were denied just now.
    fn with(objects: usize) -> Self {
        let groups = DeniedGroups::new(MINUTE);
        let (start, calls, log) = (Instant::now(), Vec::new(), Vec::new());
        let simulation = Self { groups, start, millisecond: 0, set: 0, calls, log };
        (0..objects).for_each(|number| simulation.insert(&key(number), "cn-hangzhou"));
        simulation
    }

    fn now(&self) -> Moment {
        let passed = Duration::from_millis(self.millisecond);
        let wall = Timestamp::from_second(1_800_000_000 + self.set).unwrap() + passed;
        Moment { wall, instant: self.start + passed }
    }

    fn insert(&self, key: &Key, region: &str) {
        self.groups.insert(key, &group(region), None, self.now());
    }

    fn begin(&mut self, started: Vec<Key>) {
        for key in started {
            assert!(self.groups.try_started_at(&key).is_some(), "{key}");
            self.calls.push((self.millisecond + CALL, key));
        }
    }

    fn request(&mut self, key: &Key) {
        let started = self.groups.request(key, self.now());
        self.begin(started);
    }

    /// Lets so much time pass. `result`: what a call for that object shows.
    fn advance(&mut self, seconds: u64, mut result: impl FnMut(&Key) -> TryResult) {
        for _ in 0..seconds * 10 {
            self.millisecond += 100;
            let millisecond = self.millisecond;
            let (over, calls) = self.calls.drain(..).partition(|(ends, _)| *ends <= millisecond);
            self.calls = calls;
            let over: Vec<(u64, Key)> = over;
            for (ends, key) in over {
                let result = result(&key);
                self.log.push((ends - CALL, key.clone(), result));
                let started = self.groups.ended(&key, result, self.now());
                self.begin(started);
            }
            if millisecond.is_multiple_of(1000) {
                let started = self.groups.due(self.now());
                self.begin(started);
            }
        }
    }

    fn count(&self, result: TryResult) -> usize {
        self.log.iter().filter(|call| call.2 == result).count()
    }

    fn calls_of(&self, key: &Key) -> usize {
        self.log.iter().filter(|call| call.1 == *key).count()
    }

    /// When the first call for the object began, in seconds.
    fn first(&self, key: &Key) -> Option<u64> {
        self.log.iter().find(|call| call.1 == *key).map(|call| call.0 / 1000)
    }

    /// The most calls with that result that began within a minute.
    fn most_a_minute(&self, result: TryResult) -> usize {
        let times: Vec<u64> = self.log.iter().filter(|call| call.2 == result).map(|call| call.0).collect();
        let within = |from: u64| times.iter().filter(|at| (from..from + 60_000).contains(at)).count();
        times.iter().map(|from| within(*from)).max().unwrap_or(0)
    }

    fn is_empty(&self) -> bool {
        let groups = self.groups.groups();
        groups.identities.is_empty() && groups.members.is_empty()
    }
}

#[test]
fn denied_objects_share_few_calls_and_all_succeed_soon_after_the_rights_are_back() {
    // Objects, the most calls a minute that are denied, and the seconds until all succeed when the rights are back.
    for (objects, most, seconds) in [(1, 1, 61), (2, 1, 62), (10, 1, 65), (60, 6, 90), (200, 8, 90)] {
        let mut simulation = Simulation::with(objects);
        simulation.advance(3600, |_| TryResult::Denied);
        assert_eq!(simulation.most_a_minute(TryResult::Denied), most, "{objects}");
        assert!((0..objects).all(|number| simulation.calls_of(&key(number)) > 0), "each of them in its turn");
        simulation.advance(seconds, |_| TryResult::Allowed);
        assert_eq!(simulation.count(TryResult::Allowed), objects);
        assert!(simulation.is_empty());
    }
}

/// How many calls began at the same time, one after the other.
fn waves(log: &[(u64, Key, TryResult)]) -> Vec<usize> {
    log.chunk_by(|attempt, other| attempt.0 == other.0).map(<[_]>::len).collect()
}

#[test]
fn waves_double_and_a_refusal_stops_them() {
    let mut simulation = Simulation::with(40);
    let mut calls = 0;
    // The rights are taken away again after 17 calls: in the middle of a wave that is larger than what may be under way.
    simulation.advance(70, |_| {
        calls += 1;
        if calls <= 17 { TryResult::Allowed } else { TryResult::Denied }
    });
    let begun = waves(&simulation.log);
    assert_eq!(begun[..4], [1, 2, 4, 8], "{begun:?}");
    // Eight begin at first, two more after two successes, and nothing after the refusal.
    assert_eq!(begun[4..6], [8, 2], "{begun:?}");
    assert!(begun[6..].iter().all(|size| *size == 1), "{begun:?}");
}

#[test]
fn a_request_that_succeeds_begins_a_wave() {
    let mut simulation = Simulation::with(8);
    simulation.advance(5, |_| TryResult::Denied);
    simulation.request(&key(3));
    simulation.advance(5, |_| TryResult::Allowed);
    assert_eq!(waves(&simulation.log), [1, 2, 4, 1]);
    assert!(simulation.is_empty());
}

#[test]
fn objects_that_stay_denied_hold_up_the_others_for_no_longer_than_a_round() {
    let mut simulation = Simulation::with(60);
    simulation.advance(600, |_| TryResult::Denied);
    let stays = |key: &Key| key.name.len() == 2;
    simulation.advance(u64::from(ROUND_MINUTES) * 60 + 60, |key| {
        if stays(key) { TryResult::Denied } else { TryResult::Allowed }
    });
    assert_eq!(simulation.count(TryResult::Allowed), 50);
    assert!(simulation.most_a_minute(TryResult::Denied) <= MAX_TRIES);
}

#[test]
fn a_request_is_tried_at_once_while_there_are_tries() {
    let mut simulation = Simulation::with(60);
    simulation.advance(30, |_| TryResult::Denied);
    let before = simulation.calls_of(&key(59));
    simulation.request(&key(59));
    simulation.advance(1, |_| TryResult::Denied);
    assert_eq!(simulation.calls_of(&key(59)), before + 1);
    // All of them, again and again.
    for _ in 0..300 {
        (0..60).for_each(|number| simulation.request(&key(number)));
        simulation.advance(1, |_| TryResult::Denied);
    }
    assert_eq!(simulation.most_a_minute(TryResult::Denied), MAX_TRIES);
    simulation.request(&key(0));
    simulation.advance(90, |_| TryResult::Allowed);
    assert_eq!(simulation.count(TryResult::Allowed), 60);
}

/// In the same group, in another, and by request.
#[test]
fn a_namespace_that_requests_without_end_keeps_nobody_else_from_trying() {
    let mut simulation = Simulation::with(200);
    let (requested, same, other) =
        (Key::new("other", "requested"), Key::new("other", "same"), Key::new("other", "region"));
    simulation.insert(&requested, "cn-hangzhou");
    simulation.insert(&same, "cn-hangzhou");
    simulation.insert(&other, "cn-beijing");
    for second in 0..300 {
        (0..200).for_each(|number| simulation.request(&key(number)));
        if second == 100 {
            simulation.request(&requested);
        }
        simulation.advance(1, |_| TryResult::Denied);
    }
    for key in [&requested, &same, &other] {
        assert!(simulation.first(key).is_some_and(|at| at <= 161), "{key}: {:?}", simulation.first(key));
    }
    assert_eq!(simulation.most_a_minute(TryResult::Denied), MAX_TRIES);
}

#[test]
fn what_is_denied_to_one_delays_no_turn_of_the_others() {
    // Each fifty seconds one object requests a try, or another comes that was denied outside of the group.
    for requests in [true, false] {
        let mut simulation = Simulation::with(3);
        for number in 0..72 {
            let noisy = if requests { key(0) } else { key(100 + number) };
            if requests {
                simulation.request(&noisy);
            } else {
                simulation.insert(&noisy, "cn-hangzhou");
                simulation.groups.ended(&noisy, TryResult::Denied, simulation.now());
                simulation.groups.remove(&key(99 + number));
            }
            simulation.advance(50, |_| TryResult::Denied);
        }
        assert!(simulation.calls_of(&key(1)) >= 10, "{requests}: {}", simulation.calls_of(&key(1)));
    }
}

#[test]
fn a_namespace_with_many_denied_objects_takes_turns_with_the_others() {
    let mut simulation = Simulation::with(1000);
    let other = Key::new("other", "one");
    simulation.insert(&other, "cn-hangzhou");
    simulation.advance(120, |_| TryResult::Denied);
    assert!(simulation.calls_of(&other) >= 2);
}

#[test]
fn a_clock_that_is_set_back_changes_no_order() {
    let mut simulation = Simulation::with(20);
    simulation.advance(600, |_| TryResult::Denied);
    simulation.set = -10_800;
    simulation.groups.set_back(SignedDuration::from_secs(-10_800));
    let before = simulation.log.len();
    simulation.advance(1200, |_| TryResult::Denied);
    let calls: Vec<usize> = (0..20)
        .map(|number| simulation.log[before..].iter().filter(|call| call.1 == key(number)).count())
        .collect();
    assert!(calls.iter().all(|calls| (1..=3).contains(calls)), "{calls:?}");
}

#[test]
fn a_try_without_a_result_is_given_up_and_others_follow() {
    let mut simulation = Simulation::with(3);
    while simulation.calls.is_empty() {
        simulation.advance(1, |_| TryResult::Denied);
    }
    // Nobody hears of this one again.
    let (_, lost) = simulation.calls.pop().unwrap();
    simulation.advance(TRY_TIMEOUT.as_secs() - 2, |_| TryResult::Allowed);
    assert_eq!(simulation.log, [], "one at a time");
    assert!(simulation.groups.try_started_at(&lost).is_some());
    simulation.advance(65, |_| TryResult::Allowed);
    assert_eq!(simulation.count(TryResult::Allowed), 3);
    assert_ne!(simulation.log[0].1, lost, "the others come first");
}

/// Objects that are allowed again, in a line of the rate limiter that is as long as that: each is called at its turn there.
#[test]
fn a_long_line_of_the_rate_limiter_costs_no_object_its_try() {
    for (line, objects) in [(50, 5), (300, 2), (300, 20), (1200, 5)] {
        let mut simulation = Simulation::with(objects);
        let mut turns: Vec<(u64, Key)> = Vec::new();
        for second in 0..40 * line {
            let (called, later) = turns.drain(..).partition(|(at, _)| *at <= second);
            turns = later;
            let called: Vec<(u64, Key)> = called;
            for (_, key) in called {
                assert!(simulation.groups.resume(&key, simulation.now()), "{line} s, {objects}: {key}");
                simulation.log.push((simulation.millisecond, key.clone(), TryResult::Allowed));
                let started = simulation.groups.ended(&key, TryResult::Allowed, simulation.now());
                simulation.begin(started);
            }
            let started: Vec<Key> = simulation.calls.drain(..).map(|(_, key)| key).collect();
            for key in started {
                simulation.groups.wait_for_rate_limit(&key, Duration::from_secs(line), simulation.now());
                turns.push((second + line, key));
            }
            simulation.advance(1, |key| panic!("{key} is called out of its turn"));
        }
        assert_eq!(simulation.count(TryResult::Allowed), objects, "{line} s");
        assert!(simulation.is_empty());
    }
}

#[test]
fn tries_in_the_line_of_one_region_leave_those_of_another() {
    let mut simulation = Simulation::with(20);
    let other = Key::new("other", "region");
    simulation.insert(&other, "cn-beijing");
    // Requests and turns of the first region end in the line.
    let waits = |simulation: &mut Simulation| {
        let calls = std::mem::take(&mut simulation.calls);
        let (waiting, calls) = calls.into_iter().partition(|(_, key)| *key.namespace == *"default");
        simulation.calls = calls;
        let waiting: Vec<(u64, Key)> = waiting;
        for (_, key) in waiting {
            simulation.groups.wait_for_rate_limit(&key, Duration::from_hours(1), simulation.now());
        }
    };
    for _ in 0..120 {
        (0..20).for_each(|number| simulation.request(&key(number)));
        waits(&mut simulation);
        simulation.advance(1, |_| TryResult::Denied);
    }
    assert!(simulation.calls_of(&other) >= 1);
    // At their turn no more are called than there are tries.
    let resumed = (0..20).filter(|number| simulation.groups.resume(&key(*number), simulation.now())).count();
    assert!((1..=MAX_TRIES).contains(&resumed), "{resumed}");
}

#[test]
fn a_group_that_recovers_comes_before_the_turns_of_others() {
    let mut simulation = Simulation::with(500);
    for number in 0..30 {
        simulation.insert(&Key::new("other", &format!("o{number}")), &format!("cn-{number}"));
    }
    let stays = |key: &Key| *key.namespace == *"other";
    simulation.advance(900, |_| TryResult::Denied);
    simulation.advance(360, |key| if stays(key) { TryResult::Denied } else { TryResult::Allowed });
    assert_eq!(simulation.count(TryResult::Allowed), 500);
    assert!((0..30).all(|number| simulation.calls_of(&Key::new("other", &format!("o{number}"))) > 0));
}

#[test]
fn who_leaves_and_who_moves_counts_once() {
    let mut simulation = Simulation::with(3);
    simulation.groups.remove(&key(0));
    simulation.groups.remove(&key(0));
    simulation.insert(&key(1), "cn-beijing");
    assert_eq!(simulation.groups.try_started_at(&key(1)), None);
    simulation.advance(70, |_| TryResult::Denied);
    assert_eq!(simulation.log.len(), 2, "two groups of one: {:?}", simulation.log);
    (0..3).for_each(|number| simulation.groups.remove(&key(number)));
    simulation.advance(60, |_| TryResult::Denied);
    assert!(simulation.is_empty());
}

#[test]
fn many_objects_that_are_gone_leave_no_room_behind() {
    let simulation = Simulation::with(100_000);
    (0..100_000).for_each(|number| simulation.groups.remove(&key(number)));
    simulation.groups.due(simulation.now());
    assert!(simulation.is_empty());
    assert!(simulation.groups.room() <= 2048, "{}", simulation.groups.room());
}

#[test]
fn a_restart_of_the_process_keeps_the_order_and_tries_one() {
    let mut simulation = Simulation::with(0);
    simulation.millisecond = 3_600_000;
    let now = simulation.now();
    let earlier = |number: usize, seconds: i64| {
        let tried = now.wall - SignedDuration::from_secs(seconds);
        simulation.groups.insert(&key(number), &group("cn-hangzhou"), Some(tried), now);
    };
    (0..60).for_each(|number| earlier(number, 60 + i64::try_from(number).unwrap()));
    assert_eq!(simulation.groups.due(now), [key(59)], "the least recently tried, and nobody else");
    // One that was tried in a time to come is no earlier than those that this process has tried.
    earlier(60, -3600);
    simulation.insert(&key(61), "cn-hangzhou");
    assert_eq!(simulation.groups.due(now), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever happens, no identity is denied more often than it may, and when the rights are back nobody is left over.
    #[test]
    fn nobody_is_lost_and_no_identity_calls_too_often(
        objects in 1..40_usize,
        steps in proptest::collection::vec((0..6_u8, 0..40_usize, 0..3_u8), 0..120),
    ) {
        let mut simulation = Simulation::with(objects);
        let mut left = std::collections::HashSet::new();
        for (what, number, result) in steps {
            let key = key(number % objects);
            let is_called = simulation.calls.iter().any(|(_, called)| *called == key);
            match what {
                0 => simulation.request(&key),
                1 if !is_called => {
                    simulation.groups.remove(&key);
                    left.insert(key);
                }
                2 if !is_called => {
                    let region = if result == 0 { "cn-beijing" } else { "cn-hangzhou" };
                    left.remove(&key);
                    simulation.insert(&key, region);
                }
                // A call that the groups did not begin.
                3 if !is_called => {
                    let now = simulation.now();
                    let started = simulation.groups.ended(&key, TryResult::Inconclusive, now);
                    simulation.begin(started);
                }
                1..=3 => {}
                _ => {
                    let results = [TryResult::Denied, TryResult::Allowed, TryResult::Inconclusive];
                    let mut allowed = Vec::new();
                    simulation.advance(7, |key| {
                        let result = results[usize::from(result)];
                        if result == TryResult::Allowed {
                            allowed.push(key.clone());
                        }
                        result
                    });
                    left.extend(allowed);
                }
            }
        }
        prop_assert!(simulation.most_a_minute(TryResult::Denied) <= MAX_TRIES);
        let mut allowed = std::collections::HashSet::new();
        simulation.advance(240, |key| {
            allowed.insert(key.clone());
            TryResult::Allowed
        });
        for number in 0..objects {
            let key = key(number);
            prop_assert!(left.contains(&key) || allowed.contains(&key), "{key} is left over");
        }
        prop_assert!(simulation.is_empty());
    }
}
