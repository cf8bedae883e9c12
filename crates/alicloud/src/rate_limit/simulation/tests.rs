//! Simulated runs, and the bounds that they must keep.

use super::*;

/// No other callers.
fn nobody(_: i64, _: u32) -> u32 {
    0
}

/// Another caller starts or stops every twenty minutes to use two fifths of the limit.
fn in_steps(minute: i64, limit: u32) -> u32 {
    if minute / 20 % 2 == 1 { limit * 2 / 5 } else { 0 }
}

/// Other callers rise to two fifths of the limit in twenty minutes, and fall in twenty.
fn drifting(minute: i64, limit: u32) -> u32 {
    let part = u32::try_from(minute.rem_euclid(40)).unwrap();
    limit * part.min(40 - part) * 2 / 100
}

/// Every ten minutes another caller uses up a minute in a few seconds.
fn in_bursts(minute: i64, limit: u32) -> u32 {
    if minute % 10 == 5 { limit * 10 } else { 0 }
}

/// For ten minutes another caller uses nine tenths of the limit.
fn leaving(minute: i64, limit: u32) -> u32 {
    if minute < 10 { limit * 9 / 10 } else { 0 }
}

/// Simulations of this many minutes with several latencies.
fn runs(limits: &[u32], others: fn(i64, u32) -> u32, minutes: i64) -> impl Iterator<Item = Simulation> {
    let latencies = [(300, 300), (50, 300), (100, 2000), (2000, 2000)];
    let setting = Setting { minutes, others, ..Setting::default() };
    let settings = limits.iter().flat_map(|limit| {
        // At that limit the other latencies only make the test long.
        let latencies = if *limit < 6000 { latencies.as_slice() } else { &latencies[..1] };
        latencies.iter().map(|latency| Setting { limit: *limit, latency: *latency, ..setting.clone() })
    });
    settings.map(|setting| Simulation::new(setting).run()).collect::<Vec<_>>().into_iter()
}

/// The same without other callers, except for the first throttled reply.
fn stray_runs(limits: &[u32], minutes: i64) -> impl Iterator<Item = Simulation> {
    let setting = Setting { latency: (300, 300), stray: true, minutes, ..Setting::default() };
    limits.iter().map(move |limit| Simulation::new(Setting { limit: *limit, ..setting.clone() }).run())
}

#[test]
fn one_throttled_reply_that_others_caused_costs_a_thousand_objects_less_than_five_minutes() {
    for limit in [400, 600, 6000, NONE] {
        for start in [0, 7, 20, 59].map(|second| second * SECOND) {
            let setting = Setting {
                limit,
                start,
                latency: (300, 300),
                crowd: 1000,
                again: false,
                stray: true,
                minutes: 20,
                ..Setting::default()
            };
            let simulation = Simulation::new(setting).run();
            assert!(simulation.took() < 300.0, "{} s at {limit} from {start} µs", simulation.took());
        }
    }
}

#[test]
fn without_other_callers_the_limit_is_met_once_and_mostly_used() {
    let limits = [10, 60, 600, 6000];
    for simulation in runs(&limits, nobody, 40).chain(stray_runs(&limits, 40)) {
        let (setting, several, used) = (&simulation.setting, simulation.several(), simulation.used());
        show(&simulation);
        // At ten calls a minute it starts above the limit, and a call of two seconds is longer than a turn.
        let minutes = if setting.latency.1 > 300 { 2 } else { 1 };
        assert!(several.len() <= minutes, "{several:?} throttled in a minute: {setting:?}");
        let in_flight = simulation.in_flight(4.0);
        assert!(
            several.iter().all(|worst| f64::from(*worst) <= in_flight),
            "{several:?} throttled: {setting:?}"
        );
        assert!(used >= 85.0, "{used} % used: {setting:?}");
        // A minute that probes comes after one that does not, at least.
        assert_eq!(simulation.not_free(), [0; 0], "{setting:?}");
        // Serial probes take twenty minutes to find the last 5 % of 6,000.
        let full = if setting.limit < 6000 { 25 } else { 35 };
        assert!(simulation.full() <= full, "{} minutes without 5 % free: {setting:?}", simulation.full());
        let passed: u32 = simulation.tally.values().map(|tally| tally.passed).sum();
        assert!(simulation.asked < u64::from(passed) * 4, "{} looks for {passed} calls", simulation.asked);
    }
}

#[test]
fn the_rate_follows_other_callers_that_come_and_go() {
    for (others, most_minutes) in [(in_steps as fn(i64, u32) -> u32, 8), (drifting, 20), (in_bursts, 12)] {
        for simulation in runs(&[10, 60, 600, 6000], others, 60) {
            let (setting, several, used) = (&simulation.setting, simulation.several(), simulation.used());
            show(&simulation);
            // What others leave is found by serial probes, which takes some minutes at thousands of calls a minute.
            let least = if setting.limit < 6000 { 85.0 } else { 75.0 };
            assert!(used >= least, "{used} % used: {setting:?}");
            // Calls in flight are throttled when another caller takes the rest, or when doubling meets the
            // limit.
            assert!(several.len() <= most_minutes, "{several:?} throttled in a minute: {setting:?}");
            let in_flight = simulation.in_flight(4.0);
            assert!(
                several.iter().all(|worst| f64::from(*worst) <= in_flight),
                "{several:?} throttled: {setting:?}"
            );
        }
    }
}

#[test]
fn the_limit_is_found_again_minutes_after_others_stop() {
    for limit in [10, 60, 600, 6000] {
        let setting =
            Setting { limit, latency: (300, 300), minutes: 30, others: leaving, ..Setting::default() };
        let simulation = Simulation::new(setting).run();
        show(&simulation);
        for (minute, tally) in simulation.later().filter(|(minute, _)| **minute >= 20) {
            assert!(tally.passed >= limit * 85 / 100, "{tally:?} of {limit} in minute {minute}");
        }
    }
}

/// Six minutes of few calls: doubling goes on without being used. Then others take most of the limit.
#[test]
fn an_unused_rate_comes_down_in_minutes() {
    let others = |minute, limit| if minute < 6 { 0 } else { limit * 94 / 100 };
    let (latency, minutes) = ((300, 300), 40);
    let setting =
        Setting { limit: 6000, latency, workers: 3, stray: true, minutes, others, ..Setting::default() };
    let simulation = Simulation::new(setting).run();
    show(&simulation);
    let throttled: u32 =
        simulation.later().filter(|(minute, _)| **minute >= 18).map(|(_, tally)| tally.throttled).sum();
    assert!(throttled <= 21, "{throttled} throttled replies in 21 minutes");
}

/// The figures of a run, for people: `cargo test --lib rate_limit::simulation -- --nocapture`.
#[allow(clippy::print_stderr, reason = "figures for people")]
fn show(simulation: &Simulation) {
    let Setting { limit, latency, stray, .. } = simulation.setting;
    let begin: Vec<_> =
        simulation.tally.values().take(8).map(|tally| (tally.passed, tally.throttled)).collect();
    eprintln!(
        "limit {limit}, {latency:?} ms{}: {:.1} % used, {:.2} throttled a minute, several in a minute {:?}, \
         {} minutes without 5 % free; (passed, throttled) {begin:?}",
        if stray { ", first throttled for others" } else { "" },
        simulation.used(),
        simulation.mean(),
        simulation.several(),
        simulation.full(),
    );
}

#[test]
fn a_single_requester_of_another_group_is_served_soon() {
    for limit in [10, 60, 600] {
        let mut simulation =
            Simulation::new(Setting { limit, crowd: 2000, minutes: 20, ..Setting::default() });
        let came: Vec<_> = (0..10).map(|number| 5 * MINUTE + number * 67 * SECOND).collect();
        let visitors: Vec<_> = came.iter().map(|at| simulation.visitor(*at)).collect();
        let simulation = simulation.run();
        let interval = 60.0 / f64::from(limit);
        for (visitor, came) in visitors.into_iter().zip(came) {
            let served = simulation.served[visitor].expect("it is served");
            let waited = f64::from(i32::try_from((served - came) / MILLI).unwrap()) / 1000.0;
            // A few intervals, and the rest of the minute if probing has used it up.
            assert!(waited < 8.0 + 3.0 * interval, "{waited} s at {limit} a minute");
        }
    }
}

#[test]
fn slots_of_absent_requesters_pass_to_others() {
    let setting = Setting { absent: 30, crowd: 600, minutes: 20, ..Setting::default() };
    let simulation = Simulation::new(setting).run();
    assert!(simulation.used() >= 80.0, "{} % used", simulation.used());
    assert!(simulation.several().len() <= 1);
}

#[test]
fn a_ceiling_is_not_exceeded() {
    for ceiling in [10, 60, 600] {
        let setting = Setting { limit: 100_000, ceiling: Some(ceiling), minutes: 10, ..Setting::default() };
        let simulation = Simulation::new(setting).run();
        for (minute, tally) in simulation.tally.iter().filter(|(minute, _)| (1..9).contains(*minute)) {
            let passed = f64::from(tally.passed) / f64::from(ceiling);
            assert!((0.89..=1.11).contains(&passed), "minute {minute}: {tally:?} of {ceiling}");
            assert_eq!(tally.throttled, 0);
        }
    }
}
