//! Turns and windows as tables, two nights of a changing clock, and what holds for all of them.

use proptest::prelude::*;

use super::*;

const BERLIN: &str = "Europe/Berlin";
const EXPRESSIONS: &[&str] = &[
    "* * * * *",
    "*/7 * * * *",
    "30 * * * *",
    "30 2 * * *",
    "0,30 1-3 * * *",
    "0 */2 * * *",
    "0 3 * * 1",
    "0 0 1,15 * 5",
    "0 0 29 2 +1",
    "59 23 L * *",
];
const ZONES: &[&str] =
    &["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Pacific/Apia"];

fn at(time: &str) -> Timestamp {
    time.parse().unwrap()
}

fn every(interval: &str) -> api::Rotation {
    api::Rotation { interval: Some(interval.to_owned()), ..api::Rotation::default() }
}

fn cron(schedule: &str, zone: Option<&str>) -> api::Rotation {
    let time_zone = zone.map(str::to_owned);
    api::Rotation { interval: None, schedule: Some(schedule.to_owned()), time_zone }
}

fn window(schedule: &str, duration: &str, zone: Option<&str>) -> api::Window {
    let time_zone = zone.map(str::to_owned);
    api::Window { schedule: schedule.to_owned(), duration: duration.to_owned(), time_zone }
}

fn plan(rotation: &api::Rotation, window: Option<&api::Window>) -> Plan {
    Plan::new(Some(rotation), window).unwrap()
}

/// The turns after `from`, as clock times of the zone, until `until`.
fn turns(schedule: &str, zone: &str, from: &str, until: &str) -> Vec<String> {
    let plan = plan(&cron(schedule, Some(zone)), None);
    let zone = time_zone(zone).unwrap();
    let mut turns = vec![at(from)];
    while *turns.last().unwrap() < at(until) {
        let last = *turns.last().unwrap();
        turns.push(plan.next(last, 0.0, last).unwrap());
    }
    let shown = turns[1..turns.len() - 1].iter().map(|turn| turn.to_zoned(zone.clone()));
    shown.map(|turn| turn.strftime("%d %H:%M%:::z").to_string()).collect()
}

#[test]
fn an_interval_counts_from_the_last_rotation_and_spreads_by_a_tenth() {
    let plan = plan(&every("10h"), None);
    let last = at("2026-05-01T00:00:00Z");
    for (spread, turn) in [
        (0.0, "2026-05-01T10:00:00Z"),
        (0.5, "2026-05-01T10:30:00Z"),
        (1.0, "2026-05-01T11:00:00Z"),
        (0.333_333, "2026-05-01T10:19:59Z"),
        (-1.0, "2026-05-01T10:00:00Z"),
        (f64::INFINITY, "2026-05-01T11:00:00Z"),
        (f64::NAN, "2026-05-01T10:00:00Z"),
    ] {
        assert_eq!(plan.next(last, spread, last), Some(at(turn)), "{spread}");
    }
}

#[test]
fn a_schedule_names_the_next_time_after_the_last_rotation() {
    let last = at("2026-05-01T03:00:00Z"); // a Friday
    for (schedule, zone, turn) in [
        ("0 3 * * *", None, "2026-05-02T03:00:00Z"),
        ("1 3 * * *", None, "2026-05-01T03:01:00Z"),
        ("0 3 * * 1", None, "2026-05-04T03:00:00Z"),
        ("0 3 * * MON-TUE", None, "2026-05-04T03:00:00Z"),
        (" 0\t3  * * 7 ", None, "2026-05-03T03:00:00Z"),
        ("@daily", None, "2026-05-02T00:00:00Z"),
        ("@Monthly", Some("UTC"), "2026-06-01T00:00:00Z"),
        ("0 3 * * *", Some("Asia/Shanghai"), "2026-05-01T19:00:00Z"),
        ("0 3 * * *", Some("asia/shanghai"), "2026-05-01T19:00:00Z"),
        ("0 0 29 2 *", None, "2028-02-29T00:00:00Z"),
        ("0 0 29 2 +1", None, "2044-02-29T00:00:00Z"),
        // Of two days either counts, as everywhere with cron.
        ("0 0 13 * 5", None, "2026-05-08T00:00:00Z"),
    ] {
        let plan = plan(&cron(schedule, zone), None);
        assert_eq!(plan.next(last, 0.9, last), Some(at(turn)), "{schedule} {zone:?}");
    }
}

#[test]
fn on_demand_has_no_turn() {
    let now = at("2026-05-01T00:00:00Z");
    let always = Plan::new(None, None).unwrap();
    let windowed = plan(&api::Rotation::default(), Some(&window("0 2 * * *", "1h", None)));
    assert_eq!((always.next(now, 0.0, now), windowed.next(now, 0.0, now)), (None, None));
    assert_eq!((always.opening(now), always.is_open(now)), (Some(now), true));
    assert_eq!((windowed.opening(now), windowed.is_open(now)), (Some(at("2026-05-01T02:00:00Z")), false));
}

#[test]
fn a_rotation_in_the_future_counts_as_now() {
    let now = at("2026-05-01T00:00:00Z");
    let plan = plan(&every("1h"), None);
    assert_eq!(plan.next(Timestamp::MAX, 0.0, now), Some(at("2026-05-01T01:00:00Z")));
}

#[test]
fn after_missed_turns_there_is_one() {
    let last = at("2026-05-01T00:00:00Z");
    let now = at("2026-05-09T12:34:56Z");
    for (rotation, turn) in
        [(every("24h"), "2026-05-02T00:00:00Z"), (cron("0 3 * * *", None), "2026-05-01T03:00:00Z")]
    {
        let plan = plan(&rotation, None);
        assert_eq!(plan.next(last, 0.0, now), Some(at(turn)));
        assert!(plan.next(now, 0.0, now).unwrap() > now);
    }
}

#[test]
fn a_window_moves_turns_to_its_opening() {
    let window = window("0 2 * * 6", "4h", None); // Saturdays
    let plan = plan(&every("24h"), Some(&window));
    for (last, now, turn) in [
        // In it, from its first moment to its last.
        ("2026-05-01T02:00:00Z", "2026-05-01T12:00:00Z", "2026-05-02T02:00:00Z"),
        ("2026-05-01T05:59:59Z", "2026-05-01T12:00:00Z", "2026-05-02T05:59:59Z"),
        // Just outside.
        ("2026-05-01T06:00:00Z", "2026-05-01T12:00:00Z", "2026-05-09T02:00:00Z"),
        ("2026-05-01T01:59:59Z", "2026-05-01T12:00:00Z", "2026-05-02T02:00:00Z"),
        // Due, while it is open, closed, and open again.
        ("2026-04-30T20:00:00Z", "2026-05-02T02:00:00Z", "2026-05-01T20:00:00Z"),
        ("2026-04-30T20:00:00Z", "2026-05-02T06:00:00Z", "2026-05-09T02:00:00Z"),
        ("2026-04-30T20:00:00Z", "2026-05-09T05:00:00Z", "2026-05-01T20:00:00Z"),
    ] {
        assert_eq!(plan.next(at(last), 0.0, at(now)), Some(at(turn)), "{last} {now}");
    }
}

#[test]
fn a_window_is_open_for_its_duration() {
    let plan = |window: &api::Window| Plan::new(None, Some(window)).unwrap();
    let shanghai = plan(&window("0 2 * * *", "90m", Some("Asia/Shanghai")));
    for (time, open) in [
        ("2026-05-01T17:59:59.999999999Z", false),
        ("2026-05-01T18:00:00Z", true),
        ("2026-05-01T19:29:59.999999999Z", true),
        ("2026-05-01T19:30:00Z", false),
    ] {
        assert_eq!(shanghai.is_open(at(time)), open, "{time}");
    }
    // Openings that overlap are one; a duration beyond the calendar is for ever.
    for duration in ["61m", "999999999h"] {
        let overlapping = plan(&window("0 * * * *", duration, None));
        assert!((0..200).all(|minute| overlapping.is_open(Timestamp::from_second(minute * 60).unwrap())));
    }
}

#[test]
fn the_night_in_which_an_hour_is_skipped_skips_no_turn() {
    // 2026-03-29: after 01:59 comes 03:00.
    let night = |schedule| turns(schedule, BERLIN, "2026-03-27T23:00:00Z", "2026-03-30T10:00:00Z");
    assert_eq!(night("30 2 * * *"), ["28 02:30+01", "29 03:00+02", "30 02:30+02"]);
    assert_eq!(night("30 2,14 29 * *"), ["29 03:00+02", "29 14:30+02"]);
    assert_eq!(night("0,30 2,3 29 * *"), ["29 03:00+02", "29 03:30+02"]);
    assert_eq!(night("30 * 29 3 *")[..3], ["29 00:30+01", "29 01:30+01", "29 03:30+02"]);
}

#[test]
fn the_night_in_which_an_hour_comes_twice_repeats_no_turn() {
    // 2026-10-25: after 02:59 comes 02:00.
    let night = |schedule| turns(schedule, BERLIN, "2026-10-23T22:00:00Z", "2026-10-26T10:00:00Z");
    assert_eq!(night("30 2 * * *"), ["24 02:30+02", "25 02:30+02", "26 02:30+01"]);
    assert_eq!(night("0,30 2,3 25 * *"), ["25 02:00+02", "25 02:30+02", "25 03:00+01", "25 03:30+01"]);
    // But every hour is every hour.
    assert_eq!(night("30 * 25 10 *")[1..4], ["25 01:30+02", "25 02:30+02", "25 02:30+01"]);
    // The rotation may have come in the repeated hour, by hand.
    let plan = plan(&cron("30 2 * * *", Some(BERLIN)), None);
    let repeated = at("2026-10-25T01:10:00Z");
    assert_eq!(plan.next(repeated, 0.0, repeated), Some(at("2026-10-26T01:30:00Z")));
}

#[test]
fn windows_open_by_the_clock_and_last_by_the_hour() {
    let nightly = Plan::new(None, Some(&window("30 2 * * *", "1h", Some(BERLIN)))).unwrap();
    for (opening, closing) in [
        ("2026-03-28T01:30:00Z", "2026-03-28T02:30:00Z"),
        ("2026-03-29T01:00:00Z", "2026-03-29T02:00:00Z"),
        ("2026-10-24T00:30:00Z", "2026-10-24T01:30:00Z"),
        ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
    ] {
        let second = Duration::from_secs(1);
        assert_eq!(nightly.opening(at(opening) - second), Some(at(opening)));
        assert!(nightly.is_open(at(closing) - second) && !nightly.is_open(at(closing)), "{closing}");
        assert!(nightly.opening(at(closing)) > Some(at(closing) + Duration::from_secs(22 * 3600)));
    }
    let hourly = Plan::new(None, Some(&window("0 * * * *", "1h", Some(BERLIN)))).unwrap();
    let from = at("2026-10-24T22:00:00Z");
    assert!((0..12 * 60).all(|minute| hourly.is_open(from + Duration::from_secs(minute * 60))));
}

#[test]
fn what_is_wrong_says_what_to_write() {
    let refused = |rotation: &api::Rotation, window: Option<&api::Window>| {
        Plan::new(Some(rotation), window).expect_err("refused").to_string()
    };
    let fine = every("1m");
    let both = api::Rotation { interval: Some("1h".to_owned()), ..cron("0 3 * * *", None) };
    for (said, expected) in [
        (refused(&both, None), "spec.rotation has an interval and a schedule: keep one of them"),
        (
            refused(&every("59s"), None),
            "spec.rotation.interval \"59s\" must be a duration of at least 1m, such as 720h or 4h30m",
        ),
        (
            refused(&fine, Some(&window("0 2 * * *", "1d", None))),
            "spec.window.duration \"1d\" must be a duration of at least 1m, such as 720h or 4h30m",
        ),
        (
            refused(&cron("0 3 * *", None), None),
            "spec.rotation.schedule \"0 3 * *\" must be a cron expression of five fields (minute, hour, day of month, \
             month, day of week), such as \"0 3 * * 1\": it has 4",
        ),
        (
            refused(&cron("0 0 30 2 *", None), None),
            "spec.rotation.schedule \"0 0 30 2 *\" never happens: name a day that exists, such as in \"0 3 1 * *\"",
        ),
        (
            refused(&fine, Some(&window("0 2 * * *", "1h", Some("Asia/Atlantis")))),
            "spec.window.timeZone \"Asia/Atlantis\" must be a name of the IANA time zone database, such as Asia/Shanghai",
        ),
    ] {
        assert_eq!(said, expected);
    }
}

#[test]
fn expressions_of_other_crons_are_refused() {
    for text in [
        "",
        " ",
        "*",
        "0 0 3 * * *",
        "0 0 3 * * * 2030",
        "60 * * * *",
        "0 24 * * *",
        "0 0 0 * *",
        "0 0 * 13 *",
        "0 0 * * 8",
        "5-1 * * * *",
        "*/0 * * * *",
        "0/5 * * * *",
        ", * * * *",
        "1, * * * *",
        "0 ,, * * *",
        "a * * * *",
        "@",
        "@reboot",
        "@every 1h",
        "0 0 * * @daily",
        "TZ=UTC 0 3 * * *",
        "0 0 * * L",
        "0 0 31 4 +1",
        "0 0 31W 2 *",
    ] {
        assert!(Plan::new(Some(&cron(text, None)), None).is_err(), "{text:?}");
    }
    for zone in ["", "Local", "CET+1", "UTC+8", "+08:00", "Etc/Unknown", "../../etc/passwd", "Asia/"] {
        assert!(Plan::new(Some(&cron("0 3 * * *", Some(zone))), None).is_err(), "{zone:?}");
    }
}

fn some_time() -> impl Strategy<Value = Timestamp> {
    let seconds = Timestamp::MIN.as_second()..=Timestamp::MAX.as_second();
    // Around now, at the two changes of 2026 in Berlin, and anywhere.
    let near = |middle: &str| {
        let middle = at(middle).as_second();
        middle - 200_000..middle + 200_000
    };
    let second = prop_oneof![
        near("2026-03-29T01:00:00Z"),
        near("2026-10-25T01:00:00Z"),
        1_700_000_000_i64..2_100_000_000,
        seconds,
    ];
    second.prop_map(|second| Timestamp::from_second(second).unwrap())
}

fn some_plan() -> impl Strategy<Value = Plan> {
    let recurrence = || (prop::sample::select(EXPRESSIONS), prop::sample::select(ZONES));
    let minutes = prop_oneof![1_u32..200, 1_u32..100_000];
    let rotation = prop_oneof![
        minutes.clone().prop_map(|minutes| every(&format!("{minutes}m"))),
        recurrence().prop_map(|(schedule, zone)| cron(schedule, Some(zone))),
    ];
    let window = (recurrence(), minutes)
        .prop_map(|((schedule, zone), minutes)| window(schedule, &format!("{minutes}m"), Some(zone)));
    (rotation, prop::option::of(window)).prop_map(|(rotation, window)| plan(&rotation, window.as_ref()))
}

proptest! {
    #[test]
    fn a_turn_stays_where_it_is_until_it_is_due(
        plan in some_plan(), last in some_time(), spread in 0.0..1.0_f64, later in 0_u64..4_000_000, part in 0.0..1.0_f64,
    ) {
        let now = last.checked_add(Duration::from_secs(later)).unwrap_or(last);
        let Some(next) = plan.next(last, spread, now) else { return Ok(()) };
        let due = next <= now;
        prop_assert!(next > last, "{next} is not after {last}");
        prop_assert!(!due || plan.is_open(now));
        if !due {
            prop_assert!(plan.is_open(next), "it starts at {next}, outside the window");
            prop_assert!(plan.next(last, spread, next).is_some_and(|at_it| at_it <= next));
            let between = next.duration_since(now).mul_f64(part);
            let between = now.checked_add(between).unwrap();
            prop_assert_eq!(plan.next(last, spread, between.min(next - Duration::from_nanos(1))), Some(next));
        }
    }

    #[test]
    fn a_window_opens_next_at_the_first_time_at_which_it_is_open(plan in some_plan(), now in some_time(), part in 0.0..1.0_f64) {
        match plan.opening(now) {
            Some(opening) if opening == now => prop_assert!(plan.is_open(now)),
            Some(opening) => {
                prop_assert!(opening > now && plan.is_open(opening) && !plan.is_open(now));
                let between = now + opening.duration_since(now).mul_f64(part);
                prop_assert!(!plan.is_open(between.min(opening - Duration::from_nanos(1))));
            }
            None => prop_assert!(!plan.is_open(now)),
        }
    }

    #[test]
    fn no_two_turns_are_less_than_a_minute_apart(
        expression in prop::sample::select(EXPRESSIONS), zone in prop::sample::select(ZONES), from in 1_700_000_000_i64..2_100_000_000,
    ) {
        let plan = plan(&cron(expression, Some(zone)), None);
        let first = plan.next(Timestamp::from_second(from).unwrap(), 0.0, Timestamp::MAX).unwrap();
        let second = plan.next(first, 0.0, Timestamp::MAX).unwrap();
        prop_assert!(second.duration_since(first).unsigned_abs() >= SHORTEST);
    }

    #[test]
    fn nothing_that_is_written_there_panics(
        expression in prop_oneof![".{0,40}", "[0-9*/,L#W?+@A-Z -]{0,20}", "([0-9*/,L#W?+-]{1,5} ){4}[0-9*/,L#W?+-]{1,5}"],
        zone in prop_oneof![".{0,20}", prop::sample::select(ZONES).prop_map(str::to_owned)],
        length in prop_oneof![".{0,20}", "[0-9]{1,12}[hms]"],
        now in prop_oneof![some_time(), Just(Timestamp::MIN), Just(Timestamp::MAX)],
        last in prop_oneof![some_time(), Just(Timestamp::MIN), Just(Timestamp::MAX)],
        spread in prop::num::f64::ANY,
    ) {
        let windows = [None, Some(window(&expression, &length, Some(&zone)))];
        for rotation in [every(&length), cron(&expression, Some(&zone)), cron(&expression, None)] {
            for window in &windows {
                if let Ok(plan) = Plan::new(Some(&rotation), window.as_ref()) {
                    prop_assert!(plan.next(last, spread, now).is_none_or(|next| next > last.min(now)));
                    prop_assert!(plan.opening(now).is_none_or(|opening| opening >= now));
                }
            }
        }
    }
}

#[test]
fn open_time_is_counted_over_windows() {
    let plan = |window: Option<api::Window>| Plan::new(None, window.as_ref()).unwrap();
    let nights = || plan(Some(window("0 2 * * *", "4h", None)));
    let overlapping = || plan(Some(window("0 */2 * * *", "3h", None)));
    let hours = |count: u64| Duration::from_secs(count * 3600);
    let table = [
        ("no window", plan(None), "2026-01-01T00:00:00Z", "2026-01-02T12:00:00Z", 36),
        ("two nights", nights(), "2026-01-01T00:00:00Z", "2026-01-02T12:00:00Z", 8),
        ("from within to within", nights(), "2026-01-01T03:00:00Z", "2026-01-02T04:00:00Z", 5),
        ("closed all along", nights(), "2026-01-01T07:00:00Z", "2026-01-01T23:00:00Z", 0),
        ("never closed", overlapping(), "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z", 24),
    ];
    for (name, plan, from, to, open) in table {
        assert_eq!(plan.open_time(at(from), at(to)), Some(hours(open)), "{name}");
    }
    let table = [
        ("no window", plan(None), "2026-01-01T00:00:00Z", 36, "2026-01-02T12:00:00Z"),
        ("closed now", nights(), "2026-01-01T00:00:00Z", 1, "2026-01-01T03:00:00Z"),
        ("to the closing", nights(), "2026-01-01T03:00:00Z", 3, "2026-01-01T06:00:00Z"),
        ("the night after", nights(), "2026-01-01T03:00:00Z", 5, "2026-01-02T04:00:00Z"),
        ("never closed", overlapping(), "2026-01-01T00:00:00Z", 24, "2026-01-02T00:00:00Z"),
    ];
    for (name, plan, from, open, end) in table {
        assert_eq!(plan.after_open_time(at(from), hours(open)), Some(at(end)), "{name}");
    }
    let minutes = plan(Some(window("* * * * *", "1m", None)));
    assert_eq!(minutes.open_time(at("2026-01-01T00:00:00Z"), at("2026-02-01T00:00:00Z")), None);
}
