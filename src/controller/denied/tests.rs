//! The groups against an API that is told whom to deny, in simulated time.

use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_mins(1);
const CODE: &str = "Forbidden.RAM";

/// Simulated time: the same by both clocks, in milliseconds.
#[derive(Clone, Copy)]
struct Clock {
    start: Instant,
    millisecond: u64,
}

impl Clock {
    fn now(self) -> Instant {
        self.start + Duration::from_millis(self.millisecond)
    }

    fn wall(self) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + Duration::from_millis(self.millisecond)
    }
}

/// An API whose calls take half a second, and objects that it denies at first.
struct Api {
    groups: DeniedGroups,
    clock: Clock,
    /// Calls under way: when they end.
    calls: Vec<(u64, Key)>,
    /// All calls so far: when they began, for whom, and how they ended.
    log: Vec<(u64, Key, TryEnd)>,
}

const CALL: u64 = 500;

fn key(number: usize) -> Key {
    Key::new("default", &format!("o{number}"))
}

fn cause(region: &str) -> Cause {
    Cause {
        identity: "operator".into(),
        region: region.into(),
        action: Action::ModifyInstanceVncPasswd,
        code: CODE.into(),
    }
}

impl Api {
    /// Objects that were denied just now.
    fn with(objects: usize) -> Self {
        let clock = Clock { start: Instant::now(), millisecond: 0 };
        let api = Self { groups: DeniedGroups::new(MINUTE), clock, calls: Vec::new(), log: Vec::new() };
        for number in 0..objects {
            api.groups.enter(&key(number), &cause("cn-hangzhou"), clock.wall(), clock.wall(), clock.now());
        }
        api
    }

    fn begin(&mut self, started: Vec<Key>) {
        for key in started {
            assert!(self.groups.tried_since(&key).is_some(), "{key}");
            self.calls.push((self.clock.millisecond + CALL, key));
        }
    }

    fn ask(&mut self, key: &Key) {
        let started = self.groups.ask(key, self.clock.wall(), self.clock.now());
        self.begin(started);
    }

    /// Lets so much time pass. `end`: how a call for that object ends.
    fn pass(&mut self, seconds: u64, mut end: impl FnMut(&Key) -> TryEnd) {
        for _ in 0..seconds * 10 {
            self.clock.millisecond += 100;
            let clock = self.clock;
            let (over, calls) = self.calls.drain(..).partition(|(ends, _)| *ends <= clock.millisecond);
            self.calls = calls;
            let over: Vec<(u64, Key)> = over;
            for (ends, key) in over {
                let end = end(&key);
                self.log.push((ends - CALL, key.clone(), end));
                let started = self.groups.ended(&key, "operator", end, clock.wall(), clock.now());
                self.begin(started);
            }
            if clock.millisecond.is_multiple_of(1000) {
                let started = self.groups.due(clock.wall(), clock.now());
                self.begin(started);
            }
        }
    }

    fn count(&self, end: TryEnd) -> usize {
        self.log.iter().filter(|(_, _, other)| *other == end).count()
    }

    /// The most calls of that end that began within a minute.
    fn most_a_minute(&self, end: TryEnd) -> usize {
        let times: Vec<u64> = self.log.iter().filter(|call| call.2 == end).map(|call| call.0).collect();
        let within = |from: u64| times.iter().filter(|at| (from..from + 60_000).contains(at)).count();
        times.iter().map(|from| within(*from)).max().unwrap_or(0)
    }
}

#[test]
fn denied_objects_share_few_calls_and_pass_soon_after_the_rights_are_back() {
    // Objects, the most calls a minute that are denied, and the seconds until all pass when the rights are back.
    for (objects, most, seconds) in [(1, 1, 61), (2, 1, 62), (10, 1, 65), (60, 6, 90), (200, 10, 90)] {
        let mut api = Api::with(objects);
        api.pass(3600, |_| TryEnd::Denied);
        assert_eq!(api.most_a_minute(TryEnd::Denied), most, "{objects}");
        let tried: std::collections::HashSet<Key> = api.log.iter().map(|call| call.1.clone()).collect();
        assert_eq!(tried.len(), objects, "each of them in its turn");
        api.pass(seconds, |_| TryEnd::Passed);
        assert_eq!(api.count(TryEnd::Passed), objects);
        assert!(api.groups.tables().identities.is_empty() && api.groups.tables().members.is_empty());
    }
}

#[test]
fn waves_double_and_a_refusal_stops_them() {
    let mut api = Api::with(16);
    let mut calls = 0;
    // The rights are taken away again after seven calls.
    api.pass(200, |_| {
        calls += 1;
        if calls <= 7 { TryEnd::Passed } else { TryEnd::Denied }
    });
    let begun: Vec<u64> = api.log.iter().map(|call| call.0).collect();
    let mut waves: Vec<usize> = Vec::new();
    for (place, at) in begun.iter().enumerate() {
        match place.checked_sub(1).map(|before| begun[before] == *at) {
            Some(true) => *waves.last_mut().unwrap() += 1,
            _ => waves.push(1),
        }
    }
    assert_eq!(waves[..6], [1, 2, 4, 8, 1, 1], "{begun:?}");
}

#[test]
fn objects_that_stay_denied_hold_up_the_others_for_no_longer_than_a_round() {
    let mut api = Api::with(60);
    api.pass(600, |_| TryEnd::Denied);
    let stays = |key: &Key| key.name.len() == 2;
    api.pass(u64::from(ROUND) * 60 + 60, |key| if stays(key) { TryEnd::Denied } else { TryEnd::Passed });
    assert_eq!(api.count(TryEnd::Passed), 50);
    assert!(api.most_a_minute(TryEnd::Denied) <= TRIES);
}

#[test]
fn what_somebody_asks_for_is_tried_at_once_while_there_are_tries() {
    let mut api = Api::with(60);
    api.pass(30, |_| TryEnd::Denied);
    let before = api.log.len();
    api.ask(&key(59));
    api.pass(1, |_| TryEnd::Denied);
    assert_eq!(api.log[before..].iter().filter(|call| call.1 == key(59)).count(), 1);
    // All of them, again and again.
    for _ in 0..300 {
        (0..60).for_each(|number| api.ask(&key(number)));
        api.pass(1, |_| TryEnd::Denied);
    }
    assert_eq!(api.most_a_minute(TryEnd::Denied), TRIES);
    api.ask(&key(0));
    api.pass(90, |_| TryEnd::Passed);
    assert_eq!(api.count(TryEnd::Passed), 60);
}

#[test]
fn a_namespace_that_asks_without_end_keeps_nobody_else_from_trying() {
    let mut api = Api::with(200);
    let (other, waits) = (Key::new("other", "asked"), Key::new("other", "waits"));
    let clock = api.clock;
    api.groups.enter(&other, &cause("cn-hangzhou"), clock.wall(), clock.wall(), clock.now());
    api.groups.enter(&waits, &cause("cn-beijing"), clock.wall(), clock.wall(), clock.now());
    for second in 0..300 {
        (0..200).for_each(|number| api.ask(&key(number)));
        if second == 100 {
            api.ask(&other);
        }
        api.pass(1, |_| TryEnd::Denied);
    }
    let first = |key: &Key| api.log.iter().find(|call| call.1 == *key).map(|call| call.0 / 1000);
    assert!(first(&other).is_some_and(|at| at <= 161), "{:?}", first(&other));
    assert!(first(&waits).is_some_and(|at| at <= 121), "{:?}", first(&waits));
    assert_eq!(api.most_a_minute(TryEnd::Denied), TRIES);
}

#[test]
fn a_try_that_comes_to_no_end_is_given_up() {
    let mut api = Api::with(3);
    api.pass(61, |_| TryEnd::Denied);
    // Nobody hears of this one again.
    api.calls.clear();
    let lost = api.groups.due(api.clock.wall(), api.clock.now());
    assert!(lost.len() <= 1);
    api.calls.clear();
    api.pass(300, |_| TryEnd::Passed);
    assert_eq!(api.count(TryEnd::Passed), 3);
}

#[test]
fn who_leaves_and_who_moves_counts_once() {
    let mut api = Api::with(3);
    let clock = api.clock;
    api.groups.leave(&key(0), clock.now());
    api.groups.leave(&key(0), clock.now());
    api.groups.enter(&key(1), &cause("cn-beijing"), clock.wall(), clock.wall(), clock.now());
    assert_eq!(api.groups.tried_since(&key(1)), None);
    api.pass(70, |_| TryEnd::Denied);
    let tried: Vec<&Key> = api.log.iter().map(|call| &call.1).collect();
    assert_eq!(tried.len(), 2, "two groups of one: {tried:?}");
    for number in 0..3 {
        api.groups.leave(&key(number), api.clock.now());
    }
    api.pass(60, |_| TryEnd::Denied);
    assert!(api.groups.tables().identities.is_empty() && api.groups.tables().members.is_empty());
}

#[test]
fn a_restart_of_the_process_keeps_the_order_and_tries_one() {
    let clock = Clock { start: Instant::now() + Duration::from_hours(1), millisecond: 3_600_000 };
    let groups = DeniedGroups::new(MINUTE);
    for number in 0..60 {
        let tried = clock.wall() - Duration::from_secs(60 + number);
        let key = Key::new("default", &format!("o{number}"));
        groups.enter(&key, &cause("cn-hangzhou"), tried, clock.wall(), clock.now());
    }
    assert_eq!(groups.due(clock.wall(), clock.now()), [key(59)], "the least recently tried, and nobody else");
    let future = clock.wall() + Duration::from_hours(1);
    groups.enter(&key(60), &cause("cn-hangzhou"), future, clock.wall(), clock.now());
    assert_eq!(groups.due(clock.wall(), clock.now()), []);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever happens, no identity is denied more often than it may, and when the rights are back nobody is left over.
    #[test]
    fn nobody_is_lost_and_no_identity_calls_too_often(
        objects in 1..40_usize,
        steps in proptest::collection::vec((0..6_u8, 0..40_usize, 0..3_u8), 0..120),
    ) {
        let mut api = Api::with(objects);
        let mut left = std::collections::HashSet::new();
        for (what, number, end) in steps {
            let key = key(number % objects);
            let clock = api.clock;
            match what {
                0 => api.ask(&key),
                1 => {
                    api.groups.leave(&key, clock.now());
                    left.insert(key);
                }
                2 => {
                    let region = if end == 0 { "cn-beijing" } else { "cn-hangzhou" };
                    left.remove(&key);
                    api.groups.enter(&key, &cause(region), clock.wall(), clock.wall(), clock.now());
                }
                // A call that the groups did not ask for.
                3 => {
                    let started = api.groups.ended(&key, "operator", TryEnd::Other, clock.wall(), clock.now());
                    api.begin(started);
                }
                _ => {
                    let ends = [TryEnd::Denied, TryEnd::Passed, TryEnd::Other];
                    let mut passed = Vec::new();
                    api.pass(7, |key| {
                        let end = ends[usize::from(end)];
                        if end == TryEnd::Passed {
                            passed.push(key.clone());
                        }
                        end
                    });
                    left.extend(passed);
                }
            }
        }
        prop_assert!(api.most_a_minute(TryEnd::Denied) <= TRIES);
        let mut passed = std::collections::HashSet::new();
        api.pass(240, |key| {
            passed.insert(key.clone());
            TryEnd::Passed
        });
        for number in 0..objects {
            let key = key(number);
            prop_assert!(left.contains(&key) || passed.contains(&key), "{key} is left over");
        }
        prop_assert!(api.groups.tables().members.is_empty());
        prop_assert!(api.groups.tables().identities.is_empty());
    }
}
