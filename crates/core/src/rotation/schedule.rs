//! When passwords are due by themselves and when work may start: cron expressions, intervals and windows as times.
//!
//! Each time of the clock on the wall counts once. One that the clock skips in spring is the moment after it; one that
//! comes twice in autumn is its first. An expression for every hour goes by the hours that pass instead, 23 or 25 on
//! these days. A window lasts as long as it says, whatever the clock does meanwhile.

use std::time::Duration;

use croner::{
    Cron,
    errors::CronError,
    parser::{CronParser, Seconds, Year},
};
use jiff::{
    Timestamp,
    civil::{DateTime, date},
    tz::{AmbiguousOffset, TimeZone, TimeZoneDatabase},
};

use crate::api;

/// No interval and no window is shorter.
const SHORTEST: Duration = Duration::from_secs(60);
/// So many openings are looked at to tell how long a window was open.
const PIECES: usize = 500;
/// croner looks no further than the year 5000, so from here its search is short. In these forty years every day of the
/// calendar falls on every weekday: what has no time in them has none at all.
const LAST_YEARS: DateTime = date(4960, 1, 1).at(0, 0, 0, 0);

/// When an object's passwords are due by themselves, and when work may start.
#[derive(Clone, Debug)]
pub struct Plan {
    turns: Turns,
    window: Option<Window>,
}

#[derive(Clone, Debug)]
enum Turns {
    OnDemand,
    Every(Duration),
    At(Box<Recurrence>),
}

#[derive(Clone, Debug)]
struct Window {
    opens: Recurrence,
    duration: Duration,
}

/// Why there is no [`Plan`]: the field, what stands there, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSchedule {
    /// Two answers to one question.
    #[error("spec.rotation has an interval and a schedule: keep one of them")]
    Both,
    /// No Go duration, or too short a one.
    #[error("{field} {text:?} must be a duration of at least 1m, such as 720h or 4h30m")]
    Duration {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// No cron expression.
    #[error(
        "{field} {text:?} must be a cron expression of five fields (minute, hour, day of month, month, day of week), \
         such as \"0 3 * * 1\": {reason}"
    )]
    Expression {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A cron expression for a day that is in no calendar.
    #[error("{field} {text:?} never happens: name a day that exists, such as in \"0 3 1 * *\"")]
    Never {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// No time zone.
    #[error("{field} {text:?} must be a name of the IANA time zone database, such as Asia/Shanghai")]
    Zone {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        text: String,
    },
}

impl Plan {
    /// Reads the fields as they stand in the object.
    ///
    /// # Errors
    /// Which field cannot be followed, and what to write instead.
    pub fn new(
        rotation: Option<&api::Rotation>,
        window: Option<&api::Window>,
    ) -> Result<Self, InvalidSchedule> {
        Ok(Self {
            turns: rotation.map_or(Ok(Turns::OnDemand), Turns::new)?,
            window: window.map(Window::new).transpose()?,
        })
    }

    /// When the turn after a rotation at `last` may start. It is due now if that is not later than `now`, and until
    /// then the answer stays the same. However many turns were missed, there is one.
    ///
    /// `spread`, from 0 up to 1 and always the same for one object, delays an interval by up to a tenth. A `last` in the
    /// future counts as `now`. `None`: on demand only, or never again before the calendar's end in the year 5000.
    #[must_use]
    pub fn next(&self, last: Timestamp, spread: f64, now: Timestamp) -> Option<Timestamp> {
        let turn = self.turns.after(last.min(now), spread)?;
        if turn <= now && self.is_open(now) { Some(turn) } else { self.opening(turn.max(now)) }
    }

    /// Whether scheduled rotations and restarts may start now. Without a window they always may.
    #[must_use]
    pub fn is_open(&self, now: Timestamp) -> bool {
        self.window.as_ref().is_none_or(|window| window.is_open(now))
    }

    /// `now` while open, otherwise the next opening. `None`: it never opens again.
    #[must_use]
    pub fn opening(&self, now: Timestamp) -> Option<Timestamp> {
        match &self.window {
            Some(window) if !window.is_open(now) => window.opens.after(now),
            _ => Some(now),
        }
    }

    /// How long it was open in between. `None`: in too many pieces to count.
    #[must_use]
    pub fn open_time(&self, from: Timestamp, to: Timestamp) -> Option<Duration> {
        let Some(window) = &self.window else { return Some(length(from, to)) };
        let mut open = Duration::ZERO;
        for (opens, closes) in window.pieces(from)? {
            if opens >= to {
                return Some(open);
            }
            open += length(opens, closes.min(to));
        }
        None
    }

    /// When it will have been open for so long. `None`: too far away to tell.
    #[must_use]
    pub fn after_open_time(&self, from: Timestamp, mut open: Duration) -> Option<Timestamp> {
        let Some(window) = &self.window else { return from.checked_add(open).ok() };
        for (opens, closes) in window.pieces(from)? {
            let piece = length(opens, closes);
            if piece >= open {
                return opens.checked_add(open).ok();
            }
            open -= piece;
        }
        None
    }
}

fn length(from: Timestamp, to: Timestamp) -> Duration {
    Duration::try_from(to.duration_since(from)).unwrap_or_default()
}

impl Turns {
    fn new(rotation: &api::Rotation) -> Result<Self, InvalidSchedule> {
        let zone = ("spec.rotation.timeZone", rotation.time_zone.as_deref());
        match (&rotation.interval, &rotation.schedule) {
            (None, None) => Ok(Self::OnDemand),
            (Some(_), Some(_)) => Err(InvalidSchedule::Both),
            (Some(interval), None) => duration("spec.rotation.interval", interval).map(Self::Every),
            (None, Some(schedule)) => {
                let recurrence = Recurrence::new(("spec.rotation.schedule", schedule), zone)?;
                Ok(Self::At(Box::new(recurrence)))
            }
        }
    }

    fn after(&self, last: Timestamp, spread: f64) -> Option<Timestamp> {
        match self {
            Self::OnDemand => None,
            Self::Every(interval) => {
                // `max` also makes a number of what is none. Whole seconds, as the status shows them.
                let delay = interval.mul_f64(spread.clamp(0.0, 1.0).max(0.0) / 10.0).as_secs();
                last.checked_add(interval.checked_add(Duration::from_secs(delay))?).ok()
            }
            Self::At(recurrence) => recurrence.after(last),
        }
    }
}

impl Window {
    fn new(window: &api::Window) -> Result<Self, InvalidSchedule> {
        let zone = ("spec.window.timeZone", window.time_zone.as_deref());
        Ok(Self {
            opens: Recurrence::new(("spec.window.schedule", &window.schedule), zone)?,
            duration: duration("spec.window.duration", &window.duration)?,
        })
    }

    /// Whether it opened less than its duration ago.
    fn is_open(&self, now: Timestamp) -> bool {
        let closed = now.checked_sub(self.duration).unwrap_or(Timestamp::MIN);
        self.opens.after(closed).is_some_and(|opening| opening <= now)
    }

    /// From when to when it is open after a time, one after the other and none on another. Only so many.
    fn pieces(&self, from: Timestamp) -> Option<impl Iterator<Item = (Timestamp, Timestamp)>> {
        let before = from.checked_sub(self.duration).ok()?;
        let openings = std::iter::successors(self.opens.after(before), |last| self.opens.after(*last));
        let pieces = openings.take(PIECES).scan(from, |free_from, opening| {
            let closes = opening.checked_add(self.duration).unwrap_or(Timestamp::MAX);
            let piece = (opening.max(*free_from), closes);
            *free_from = closes;
            Some(piece)
        });
        Some(pieces.filter(|(opens, closes)| opens < closes))
    }
}

/// A cron expression on the clock of a time zone.
#[derive(Clone, Debug)]
struct Recurrence {
    cron: Cron,
    zone: TimeZone,
    every_hour: bool,
}

impl Recurrence {
    fn new(
        (field, text): (&'static str, &str),
        (zone_field, zone): (&'static str, Option<&str>),
    ) -> Result<Self, InvalidSchedule> {
        let wrong = |reason: String| InvalidSchedule::Expression { field, text: text.to_owned(), reason };
        let cron = expression(text).map_err(wrong)?;
        if cron.find_next_occurrence(&LAST_YEARS, true).is_err() {
            return Err(InvalidSchedule::Never { field, text: text.to_owned() });
        }
        let every_hour = cron.pattern.hours.values().len() == 24;
        let zone = zone.map_or(Some(TimeZone::UTC), time_zone).ok_or_else(|| InvalidSchedule::Zone {
            field: zone_field,
            text: zone.unwrap_or_default().to_owned(),
        })?;
        Ok(Self { cron, zone, every_hour })
    }

    /// The first time later than `at`.
    fn after(&self, at: Timestamp) -> Option<Timestamp> {
        if self.every_hour {
            let next = self.cron.find_next_occurrence(&at.to_zoned(self.zone.clone()), false);
            return Some(next.ok()?.timestamp());
        }
        let mut clock = self.zone.to_datetime(at);
        // More than once only while the clock repeats itself.
        loop {
            clock = self.cron.find_next_occurrence(&clock, false).ok()?;
            let time = self.instant(clock)?;
            if time > at {
                return Some(time);
            }
        }
    }

    fn instant(&self, clock: DateTime) -> Option<Timestamp> {
        let ambiguous = self.zone.to_ambiguous_timestamp(clock);
        match ambiguous.offset() {
            AmbiguousOffset::Unambiguous { .. } | AmbiguousOffset::Fold { .. } => ambiguous.earlier().ok(),
            AmbiguousOffset::Gap { .. } => {
                let before = ambiguous.earlier().ok()?;
                self.zone.following(before).next().map(|change| change.timestamp())
            }
        }
    }
}

/// Reads a cron expression, or says what is wrong with it.
fn expression(text: &str) -> Result<Cron, String> {
    let fields = text.split_whitespace().count();
    if fields != 5 && !text.trim().starts_with('@') {
        return Err(format!("it has {fields}"));
    }
    // The parser takes an empty item of a list for no value, and an empty list for never.
    if text.split_whitespace().any(|field| field.split(',').any(str::is_empty)) {
        return Err("a list has an empty item".to_owned());
    }
    let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
    parser.parse(text).map_err(|error| match error {
        CronError::InvalidPattern(reason)
        | CronError::IllegalCharacters(reason)
        | CronError::ComponentError(reason) => reason,
        other => other.to_string(),
    })
}

/// From the database that is compiled in, whatever the machine has.
fn time_zone(name: &str) -> Option<TimeZone> {
    TimeZoneDatabase::bundled().get(name).ok().filter(|zone| !zone.is_unknown())
}

fn duration(field: &'static str, text: &str) -> Result<Duration, InvalidSchedule> {
    let read = api::duration(text).filter(|duration| *duration >= SHORTEST);
    read.ok_or_else(|| InvalidSchedule::Duration { field, text: text.to_owned() })
}

#[cfg(test)]
mod tests;
