//! Tests of the pacing.

use proptest::prelude::*;

use super::{super::MINUTE, *};

/// A call that passes after this latency.
fn pass(pacing: &mut Pacing, now: Micros, latency: Micros) {
    let permit = pacing.begin(now);
    pacing.passed(permit, now + latency);
}

/// A pacing that was throttled in the first minute and met the limit in the second. The first call of the third
/// minute passed.
fn learned(limit: u32) -> Pacing {
    let mut pacing = Pacing::new(None, MINUTE);
    for minute in 0..2 {
        let now = minute * MINUTE + 10 * SECOND;
        (0..limit).for_each(|_| pass(&mut pacing, now, 0));
        let permit = pacing.begin(now);
        assert_eq!(pacing.throttled(permit, None, now), (minute + 1) * MINUTE);
    }
    pass(&mut pacing, 2 * MINUTE, 0);
    pacing
}

/// The begin times of calls in a minute with a request every 10 ms, each with this latency.
fn begun(pacing: &mut Pacing, minute: Minute, latency: Micros) -> Vec<Micros> {
    let (mut begun, mut out): (Vec<Micros>, Vec<(Micros, Permit)>) = (Vec::new(), Vec::new());
    for now in (minute * MINUTE..(minute + 1) * MINUTE).step_by(10_000) {
        out.retain(|(back, permit)| {
            if *back <= now {
                pacing.passed(*permit, now);
            }
            *back > now
        });
        if pacing.slot(0, now) <= now {
            begun.push(now);
            out.push((now + latency, pacing.begin(now)));
        }
    }
    for (back, permit) in out {
        pacing.passed(permit, back);
    }
    begun
}

#[test]
fn calls_are_spread_evenly_over_the_minute() {
    let mut pacing = learned(60);
    let begun = begun(&mut pacing, 2, SECOND);
    assert_eq!(begun.len() + 1, 57);
    for pair in begun[1..].windows(2) {
        let gap = pair[1] - pair[0];
        assert!((MINUTE / 57 - 10_000..=MINUTE / 57 + 10_000).contains(&gap), "{gap} µs");
    }
}

#[test]
fn probes_wait_for_the_reply_to_the_call_before() {
    let mut pacing = learned(60);
    assert_eq!(begun(&mut pacing, 2, SECOND).len() + 1, 57);
    let calls = begun(&mut pacing, 3, SECOND);
    let (sure, probes) = calls.split_at(57);
    assert!(sure[56] - 3 * MINUTE <= 54 * SECOND, "the sure ones are done in time");
    assert!((3..=8).contains(&probes.len()), "{} probes", probes.len());
    let mut former = sure[56];
    for probe in probes {
        assert!(probe - former >= SECOND, "a probe went beside another call");
        former = *probe;
    }
    let next = begun(&mut pacing, 4, SECOND);
    assert!(next.len() > calls.len(), "{} after {}", next.len(), calls.len());
}

#[test]
fn while_the_rate_doubles_calls_come_at_the_present_rate() {
    let mut pacing = Pacing::new(None, MINUTE);
    let permit = pacing.begin(0);
    pacing.throttled(permit, None, SECOND);
    pass(&mut pacing, MINUTE, 0);
    for (minute, calls) in [(1, 89..=90), (2, 358..=361), (3, 1430..=1445)] {
        let begun = begun(&mut pacing, minute, SECOND / 10).len();
        assert!(calls.contains(&begun), "{begun} in minute {minute}");
    }
}

#[test]
fn a_higher_rate_applies_to_the_next_call() {
    let mut pacing = learned(60);
    let permit = pacing.begin(2 * MINUTE + 20 * SECOND);
    pacing.throttled(permit, None, 2 * MINUTE + 20 * SECOND);
    pacing.estimate = Estimate::new(Some(1), MINUTE);
    pass(&mut pacing, 3 * MINUTE, 0);
    assert_eq!(pacing.slot(0, 3 * MINUTE + SECOND), 4 * MINUTE);
    pacing.estimate = Estimate::new(Some(6), MINUTE);
    assert_eq!(pacing.slot(0, 3 * MINUTE + SECOND), 3 * MINUTE + 10 * SECOND);
}

#[test]
fn a_throttled_reply_of_the_previous_minute_does_not_close_this_one() {
    let mut pacing = Pacing::new(None, MINUTE);
    let permit = pacing.begin(59 * SECOND);
    assert_eq!(pacing.throttled(permit, None, 61 * SECOND), MINUTE);
    assert!(!pacing.is_closed(61 * SECOND) && pacing.slot(0, 61 * SECOND) <= 61 * SECOND);
    pacing.begin(61 * SECOND);
    assert!(pacing.slot(0, 61 * SECOND) > 61 * SECOND, "one first");
}

#[test]
fn a_reply_to_an_earlier_call_does_not_open_the_route() {
    let mut pacing = Pacing::new(None, MINUTE);
    let (before, refused) = (pacing.begin(0), pacing.begin(0));
    pacing.throttled(refused, None, SECOND);
    pacing.passed(before, 2 * SECOND);
    assert_eq!(pacing.slot(0, 3 * SECOND), MINUTE);
}

#[test]
fn the_longest_wait_that_a_reply_asks_for_counts() {
    let mut pacing = Pacing::new(None, MINUTE);
    let permits = [pacing.begin(0), pacing.begin(0), pacing.begin(0)];
    let waits = [Some(90 * SECOND), None, Some(SECOND)];
    let opens = permits.into_iter().zip(waits).map(|(permit, wait)| pacing.throttled(permit, wait, SECOND));
    assert_eq!(opens.collect::<Vec<_>>(), [91 * SECOND; 3]);
}

#[test]
fn a_throttled_trial_waits_for_the_next_minute() {
    let mut pacing = Pacing::new(None, MINUTE);
    let permit = pacing.begin(10 * SECOND);
    assert_eq!(pacing.throttled(permit, Some(SECOND), 10 * SECOND), 11 * SECOND);
    let trial = pacing.begin(11 * SECOND);
    assert_eq!(pacing.throttled(trial, Some(SECOND), 11 * SECOND), MINUTE);
    let trial = pacing.begin(MINUTE);
    assert_eq!(pacing.throttled(trial, Some(90 * SECOND), MINUTE), 150 * SECOND);
}

#[test]
fn probes_stay_below_the_ceiling() {
    // Other callers use the rest of two minutes, then stop.
    let mut pacing = Pacing::new(Some(60), MINUTE);
    for minute in 0..2 {
        let now = minute * MINUTE + 10 * SECOND;
        (0..50).for_each(|_| pass(&mut pacing, now, 0));
        let permit = pacing.begin(now);
        pacing.throttled(permit, None, now);
    }
    for minute in 2..12 {
        let calls = begun(&mut pacing, minute, SECOND / 5);
        assert!(calls.len() <= 61, "{} calls in minute {minute}", calls.len());
    }
}

#[test]
fn trials_without_a_reply_keep_to_the_rate() {
    let mut pacing = Pacing::new(Some(10), MINUTE);
    let permit = pacing.begin(10 * SECOND);
    pacing.throttled(permit, None, 10 * SECOND);
    let (mut now, mut trials) = (MINUTE, 0);
    while now < 2 * MINUTE {
        now = pacing.slot(0, now).max(now);
        let permit = pacing.begin(now);
        now += SECOND / 20;
        pacing.lost(permit, now);
        trials += 1;
    }
    // Ten, the first, and one that is made up for.
    assert!(trials <= 12, "{trials} trials in a minute");
}

proptest! {
    #[test]
    fn the_route_opens_again_after_any_sequence_of_replies(
        steps in proptest::collection::vec((0_u8..4, 0..90_000_000_i64), 1..300),
        ceiling in proptest::option::of(1_u32..100),
    ) {
        let (mut pacing, mut now, mut out) = (Pacing::new(ceiling, MINUTE), 0, Vec::new());
        for (what, pause) in steps {
            now += if what == 0 { pause } else { pause / 1000 };
            let slot = pacing.slot(0, now);
            prop_assert!(slot <= now + 2 * MINUTE, "no wait is longer than that for one call a minute");
            prop_assert!(pacing.slot(7, now) >= slot);
            if slot <= now {
                out.push(pacing.begin(now));
            } else if let Some(permit) = out.pop() {
                match what {
                    1 => { pacing.throttled(permit, None, now); }
                    2 => pacing.lost(permit, now),
                    _ => pacing.passed(permit, now),
                }
            }
            prop_assert!(pacing.calls(now).is_none_or(|calls| calls >= 1));
            prop_assert!(ceiling.is_none_or(|ceiling| pacing.calls(now) <= Some(ceiling)));
        }
    }
}
