//! Spans of time as kubectl writes them.

use jiff::Timestamp;

const MINUTE: i64 = 60;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;
const YEAR: i64 = 365 * DAY;

/// So many seconds, coarser the longer they are.
#[must_use]
pub fn span(seconds: i64) -> String {
    let two = |big: i64, unit: char, small: i64, rest: char| match seconds % big / small {
        0 => format!("{}{unit}", seconds / big),
        more => format!("{}{unit}{more}{rest}", seconds / big),
    };
    match seconds {
        ..=119 => format!("{}s", seconds.max(0)),
        120..600 => two(MINUTE, 'm', 1, 's'),
        600..10_800 => format!("{}m", seconds / MINUTE),
        10_800..28_800 => two(HOUR, 'h', MINUTE, 'm'),
        28_800..172_800 => format!("{}h", seconds / HOUR),
        172_800..691_200 => two(DAY, 'd', HOUR, 'h'),
        _ if seconds < 2 * YEAR => format!("{}d", seconds / DAY),
        _ if seconds < 8 * YEAR => two(YEAR, 'y', DAY, 'd'),
        _ => format!("{}y", seconds / YEAR),
    }
}

/// How long that was ago.
#[must_use]
pub fn since(at: Timestamp, now: Timestamp) -> String {
    span(now.duration_since(at).as_secs())
}

/// How long until then; `None`: it is past.
#[must_use]
pub fn until(at: Timestamp, now: Timestamp) -> Option<String> {
    (at > now).then(|| span(at.duration_since(now).as_secs().max(1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_those_of_kubectl() {
        for (seconds, text) in [
            (-5, "0s"),
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (3600, "60m"),
            (3 * HOUR + 600, "3h10m"),
            (47 * HOUR, "47h"),
            (2 * DAY + 3 * HOUR, "2d3h"),
            (30 * DAY, "30d"),
            (2 * YEAR + DAY, "2y1d"),
            (10 * YEAR, "10y"),
        ] {
            assert_eq!(span(seconds), text, "{seconds}");
        }
    }

    #[test]
    fn what_is_past_is_no_time_to_come() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(until(at(10), at(10)), None);
        assert_eq!(until(at(70), at(10)).as_deref(), Some("60s"));
        assert_eq!(since(at(10), at(70)), "60s");
    }
}
