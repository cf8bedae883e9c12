//! The annotation `vncpassword.dev/rotate-at`: one rotation on demand, exactly once.

use std::time::Duration;

use jiff::Timestamp;

/// Between two rotations on demand.
const APART: Duration = Duration::from_mins(1);

/// What the annotation says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum RotateAt {
    /// It is not there.
    #[default]
    Never,
    /// It is no time.
    Invalid,
    /// This time, to the second.
    At(Timestamp),
}

impl RotateAt {
    /// Reads the annotation's value (RFC 3339). Fractions of a second are cut off, as in every time of the status: what is
    /// handled must be found equal to what was asked for.
    #[must_use]
    pub fn parse(value: Option<&str>) -> Self {
        match value.map(|value| value.trim().parse::<Timestamp>()) {
            None => Self::Never,
            Some(Err(_)) => Self::Invalid,
            Some(Ok(at)) => Timestamp::from_second(at.as_second()).map_or(Self::Invalid, Self::At),
        }
    }

    /// When the rotation that it asks for is due; `None`: there is nothing to do. `handled` is the newest value that was,
    /// `last` when the password was last changed. What is older than the object came with a backup.
    #[must_use]
    pub fn due(
        self,
        created: Timestamp,
        handled: Option<Timestamp>,
        last: Option<Timestamp>,
    ) -> Option<Timestamp> {
        let Self::At(at) = self else { return None };
        if at < created || handled.is_some_and(|handled| at <= handled) {
            return None;
        }
        let earliest = last.map(|last| last.checked_add(APART).unwrap_or(Timestamp::MAX));
        Some(earliest.map_or(at, |earliest| at.max(earliest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn times_are_read_and_garbage_is_told() {
        let table = [
            (None, RotateAt::Never),
            (Some("1970-01-01T00:00:10Z"), RotateAt::At(at(10))),
            (Some("1970-01-01T00:00:10.9Z"), RotateAt::At(at(10))),
            (Some("1970-01-01T08:00:10+08:00"), RotateAt::At(at(10))),
            (Some(" 1970-01-01T00:00:10Z\n"), RotateAt::At(at(10))),
            (Some("now"), RotateAt::Invalid),
            (Some(""), RotateAt::Invalid),
            (Some("1970-01-01T00:00:10"), RotateAt::Invalid),
        ];
        for (value, expected) in table {
            assert_eq!(RotateAt::parse(value), expected, "{value:?}");
        }
    }

    #[test]
    fn each_value_is_due_once() {
        let table = [
            ("new", 1000, None, None, Some(1000)),
            ("handled", 1000, Some(1000), None, None),
            ("older than what was handled", 1000, Some(1001), None, None),
            ("newer than what was handled", 1000, Some(999), None, Some(1000)),
            ("older than the object", 99, None, None, None),
            ("in the second of its creation", 100, None, None, Some(100)),
            ("within a minute of the last rotation", 1000, None, Some(990), Some(1050)),
            ("long after the last rotation", 1000, None, Some(500), Some(1000)),
        ];
        for (name, value, handled, last, due) in table {
            let found = RotateAt::At(at(value)).due(at(100), handled.map(at), last.map(at));
            assert_eq!(found, due.map(at), "{name}");
        }
        assert_eq!(RotateAt::Invalid.due(at(0), None, None), None);
        assert_eq!(RotateAt::Never.due(at(0), None, None), None);
    }
}
