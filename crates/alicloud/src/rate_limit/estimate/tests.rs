//! Tests of the rate estimate.

use super::{
    super::{MINUTE, SECOND},
    *,
};

fn steady(rate: u32, limit: u32) -> State {
    State::Steady(Steady { rate, limit })
}

fn doubling(from: u32, target: Option<(u32, u32)>) -> State {
    State::Doubling { from, target: target.map(|(rate, limit)| Steady { rate, limit }) }
}

fn in_state(state: State, resumed: Option<Micros>) -> Estimate {
    Estimate { state, resumed, ..Estimate::new(None, MINUTE) }
}

fn passes(estimate: &mut Estimate, minute: Minute, calls: u32) {
    (0..calls).for_each(|_| estimate.passed(minute, true));
}

/// A throttled reply in that second.
fn throttle(estimate: &mut Estimate, second: i64) {
    let minute = second / 60;
    estimate.throttled((minute, minute), false, second * SECOND);
}

/// A minute in which this many calls pass, then one is throttled if `throttled`.
fn minute(estimate: &mut Estimate, minute: Minute, passed: u32, throttled: bool) {
    passes(estimate, minute, passed);
    if throttled {
        throttle(estimate, minute * 60 + 59);
    }
    estimate.ended(minute, (minute + 1) * MINUTE);
}

#[test]
fn each_state_reacts_to_a_throttled_reply() {
    let table = [
        ("open, nothing passed", State::Open, 0, 1, doubling(60, None)),
        ("open", State::Open, 100, 1, doubling(60, None)),
        ("open, much passed", State::Open, 600, 1, doubling(300, None)),
        ("doubling meets the limit", doubling(60, None), 400, 240, steady(380, 400)),
        ("at half of the rate", doubling(60, None), 30, 60, steady(28, 30)),
        ("below half of the rate", doubling(60, None), 29, 60, doubling(30, None)),
        ("doubling had gone on", doubling(60, None), 119, 240, doubling(120, None)),
        ("on the way back", doubling(285, Some((570, 600))), 142, 285, doubling(142, Some((570, 600)))),
        ("a lower limit on the way back", doubling(285, Some((570, 600))), 143, 285, steady(135, 143)),
        ("steady", steady(570, 600), 590, 570, steady(560, 590)),
        ("steady, a lower limit", steady(570, 600), 285, 570, steady(270, 285)),
        ("steady, others", steady(570, 600), 284, 570, doubling(285, Some((570, 600)))),
        ("steady, others, nothing passed", steady(1, 1), 0, 1, doubling(1, Some((1, 1)))),
        ("5 % of one call", steady(1, 1), 1, 1, steady(1, 1)),
        ("5 % of ten calls", steady(9, 10), 10, 9, steady(9, 10)),
    ];
    for (name, state, passed, rate, expected) in table {
        assert_eq!(state.throttled(passed, rate), expected, "{name}");
    }
}

#[test]
fn the_rate_doubles_every_half_minute_after_calls_pass_again_until_no_limit_is_left() {
    let mut estimate = Estimate::new(None, MINUTE);
    assert_eq!(estimate.calls(0), None);
    throttle(&mut estimate, 20);
    assert_eq!(estimate.calls(300 * SECOND), Some(60), "no call has passed");
    estimate.resumed(400 * SECOND);
    let table = [(0, 60), (29, 60), (30, 120), (59, 120), (60, 240), (119, 480), (120, 960)];
    for (second, rate) in table.into_iter().chain([(390, 491_520), (420, 983_040), (509, 1_000_000)]) {
        assert_eq!(estimate.calls((400 + second) * SECOND), Some(rate), "after {second} s");
    }
    assert_eq!(estimate.calls(910 * SECOND), None, "a minute at the highest rate");
    estimate.advance(910 * SECOND);
    assert_eq!(estimate.state, State::Open);
}

#[test]
fn a_shorter_minute_doubles_sooner() {
    let mut estimate = Estimate { state: doubling(60, None), ..Estimate::new(None, 6 * SECOND) };
    estimate.resumed(0);
    assert_eq!([2, 3, 6].map(|second| estimate.calls(second * SECOND)), [Some(60), Some(120), Some(240)]);
}

#[test]
fn doubling_ends_at_the_known_rate() {
    let mut estimate = in_state(steady(570, 600), None);
    passes(&mut estimate, 7, 100);
    throttle(&mut estimate, 7 * 60 + 15);
    estimate.resumed(8 * MINUTE);
    let rates = [0, 30, 60, 89, 90, 600].map(|second| estimate.calls(8 * MINUTE + second * SECOND));
    assert_eq!(rates, [Some(285), Some(570), Some(570), Some(570), Some(570), Some(570)]);
    estimate.advance(9 * MINUTE + 29 * SECOND);
    assert_eq!(estimate.state, doubling(285, Some((570, 600))), "not a whole minute at that rate");
    estimate.advance(9 * MINUTE + 30 * SECOND);
    assert_eq!(estimate.state, steady(570, 600));
}

#[test]
fn a_limit_met_by_doubling_is_not_taken_for_others() {
    // At 400 calls a minute the rate is 960 and was 240 a minute ago.
    let mut estimate = in_state(doubling(60, None), Some(0));
    passes(&mut estimate, 2, 400);
    throttle(&mut estimate, 2 * 60 + 25);
    assert_eq!(estimate.calls(3 * MINUTE), Some(380));
}

#[test]
fn only_the_first_throttled_reply_of_a_minute_changes_the_rate_and_late_replies_count() {
    let mut estimate = in_state(steady(570, 600), None);
    passes(&mut estimate, 7, 284);
    throttle(&mut estimate, 7 * 60 + 30);
    assert_eq!(estimate.state, doubling(285, Some((570, 600))));
    throttle(&mut estimate, 7 * 60 + 31);
    assert_eq!(estimate.state, doubling(285, Some((570, 600))));
    estimate.passed(7, false);
    assert_eq!(estimate.state, doubling(285, Some((570, 600))), "sent after the throttled reply");
    passes(&mut estimate, 7, 1);
    assert_eq!(estimate.state, steady(271, 286), "late replies of that minute");
    passes(&mut estimate, 8, 1);
    assert_eq!(estimate.state, steady(271, 286), "another minute");
    passes(&mut estimate, 9, 1);
    passes(&mut estimate, 7, 1);
    assert_eq!(estimate.state, steady(271, 286), "a minute that is not counted any more");
}

#[test]
fn a_call_from_a_throttled_minute_does_not_count_in_the_next_one() {
    let mut estimate = Estimate::new(None, MINUTE);
    throttle(&mut estimate, 59);
    passes(&mut estimate, 1, 1);
    estimate.throttled((0, 1), false, 61 * SECOND);
    assert_eq!(estimate.state, doubling(60, None));
}

#[test]
fn a_late_reply_does_not_stop_doubling() {
    let mut estimate = Estimate::new(None, MINUTE);
    throttle(&mut estimate, 59);
    estimate.resumed(MINUTE);
    passes(&mut estimate, 0, 200);
    assert_eq!(estimate.calls(90 * SECOND), Some(200));
}

#[test]
fn a_trial_does_not_change_the_rate_if_others_used_the_minute() {
    let mut estimate = in_state(steady(570, 600), None);
    throttle(&mut estimate, 7 * 60);
    assert_eq!(estimate.calls(8 * MINUTE), Some(285));
    for minute in 8..12 {
        estimate.throttled((minute, minute), true, minute * MINUTE);
        assert_eq!(estimate.calls(minute * MINUTE), Some(285));
    }
    passes(&mut estimate, 12, 1);
    estimate.throttled((12, 12), true, 12 * MINUTE);
    assert_eq!(estimate.calls(12 * MINUTE), Some(142), "something passed");
}

#[test]
fn doubling_resumes_if_clearly_more_passes_than_in_the_last_throttled_minute() {
    for (passed, throttled, expected) in [
        (110, false, steady(110, 100)),
        (111, false, doubling(111, None)),
        (111, true, steady(105, 111)),
        (90, false, steady(95, 100)),
    ] {
        let mut estimate = in_state(steady(95, 100), None);
        minute(&mut estimate, 7, passed, throttled);
        assert_eq!(estimate.state, expected, "{passed}");
    }
    let mut estimate = in_state(steady(95, 100), None);
    minute(&mut estimate, 7, 111, false);
    assert_eq!([0, 30].map(|second| estimate.calls(8 * MINUTE + second * SECOND)), [Some(111), Some(222)]);
}

#[test]
fn the_wait_before_a_probe_doubles_each_time_that_probing_finds_nothing() {
    let mut estimate = in_state(doubling(60, None), None);
    minute(&mut estimate, 7, 100_000, true);
    let mut throttled = 7;
    for probe_wait in [1, 2, 4, 8, 8] {
        let probes = throttled + 1 + probe_wait;
        assert!(!estimate.probes(probes - 1) && estimate.probes(probes), "{probe_wait}");
        minute(&mut estimate, probes, 100_000, true);
        assert_eq!(estimate.calls(probes * MINUTE), Some(95_000));
        throttled = probes;
    }
    minute(&mut estimate, throttled + 1, 60_000, true);
    assert!(estimate.probes(throttled + 3), "the limit is another: it is probed soon");
}

#[test]
fn calls_that_passed_in_a_probing_minute_raise_the_rate() {
    let mut estimate = in_state(doubling(60, None), None);
    minute(&mut estimate, 7, 100, true);
    minute(&mut estimate, 8, 97, false);
    assert_eq!(estimate.state, steady(95, 100), "it did not probe yet");
    minute(&mut estimate, 9, 99, false);
    assert_eq!((estimate.state, estimate.found_more()), (steady(99, 100), 1));
    minute(&mut estimate, 10, 20, false);
    assert_eq!(estimate.state, steady(99, 100), "a minute without demand tells nothing");
}

#[test]
fn a_call_that_may_have_counted_in_two_minutes_counts_in_the_fuller_one() {
    for (calls, expected) in [((100, 1), steady(95, 100)), ((1, 100), steady(95, 100))] {
        let mut estimate = in_state(doubling(60, None), None);
        passes(&mut estimate, 7, calls.0);
        passes(&mut estimate, 8, calls.1);
        estimate.throttled((7, 8), false, 8 * MINUTE);
        assert_eq!(estimate.state, expected, "{calls:?}");
    }
}

#[test]
fn a_ceiling_is_kept_as_it_is_and_reached_again() {
    let mut estimate = Estimate::new(Some(90), MINUTE);
    assert_eq!((estimate.calls(0), estimate.probes(7)), (Some(90), false));
    minute(&mut estimate, 7, 50, true);
    estimate.resumed(8 * MINUTE);
    let calls = |estimate: &Estimate, second| estimate.calls(8 * MINUTE + second * SECOND);
    assert_eq!([0, 30, 89].map(|second| calls(&estimate, second)), [Some(60), Some(90), Some(90)]);
    estimate.advance(9 * MINUTE + 30 * SECOND);
    assert_eq!(estimate.state, State::Open);
    let mut estimate = Estimate { ceiling: Some(90), ..in_state(steady(84, 85), None) };
    minute(&mut estimate, 9, 90, false);
    assert_eq!((estimate.state, estimate.calls(0)), (State::Open, Some(90)));
}

#[test]
fn a_ceiling_above_the_limit_does_not_meet_it_repeatedly() {
    // Ceiling 60, limit 40: doubling begins at the ceiling, and ends only after a whole minute.
    let mut estimate = Estimate::new(Some(60), MINUTE);
    minute(&mut estimate, 7, 40, true);
    estimate.resumed(8 * MINUTE);
    minute(&mut estimate, 8, 40, true);
    assert_eq!(estimate.state, steady(38, 40));
}
