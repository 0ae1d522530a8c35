//! When a schedule fires: a cron expression in a time zone. Pure: no clock, no store.
//!
//! Invariant: [`Timetable::next_after`] rises strictly and depends on nothing but the expression, the zone and the tz
//! database, so that every process that asks gets the same slots.
//!
//! An expression has five fields (minute, hour, day of month, month, weekday) or six (second first). `L`, `W`, `#`,
//! names (`MON`, `JAN`) and `@daily` are known; day of month and weekday are alternatives when both are restricted
//! (Vixie cron), and both must fit when the weekday begins with `+`.
//!
//! When the clocks change:
//! * An expression without `*` in second, minute and hour **names its times**. A time that the clocks jump over fires at
//!   the first instant after the jump; several such times fire once. A time that is shown twice fires once, the first time.
//! * An expression with `*` there **repeats**: it fires whenever the wall clock shows a time that fits. What is jumped
//!   over is not there; what is shown twice fires twice, so that `*/15 * * * *` goes on each quarter of an hour.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, SubsecRound, TimeDelta, TimeZone};
use chrono_tz::Tz;
use croner::{
    Cron, Weekday,
    parser::{CronParser, Seconds, Year},
};

use super::{UnixMs, schedule_fields, schedule_zones};

/// Longest expression, in bytes.
const MAX_EXPRESSION: usize = 256;
/// Days after which the calendar repeats: 400 years.
const CALENDAR_DAYS: usize = 146_097;
/// 2100: the tables of the tz database end there, and know no summer time beyond.
const KNOWN_UNTIL_MS: UnixMs = 4_102_444_800_000;

/// Why an expression or a zone was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadTimetable {
    /// The expression cannot be read.
    #[error("`{expr}` is not a cron expression: {why}")]
    Expression {
        /// As it was given, cut.
        expr: String,
        /// What is wrong, by its field.
        why: String,
    },
    /// The expression can be read, and no day will ever fit it.
    #[error("`{expr}` never fires: no day of any year fits its fields for day of month, month and weekday")]
    NeverFires {
        /// As it was given.
        expr: String,
    },
    /// The zone is not in the tz database.
    #[error("there is no time zone `{zone}`{}", nearest.map(|n| format!("; did you mean `{n}`?")).unwrap_or_default())]
    UnknownZone {
        /// As it was given, cut.
        zone: String,
        /// The known one that looks most like it.
        nearest: Option<&'static str>,
    },
}

impl BadTimetable {
    /// Which of the two is at fault: `cron` or `zone`.
    #[must_use]
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Expression { .. } | Self::NeverFires { .. } => "cron",
            Self::UnknownZone { .. } => "zone",
        }
    }
}

/// A look ahead begins where no summer time is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the tz database knows no summer time after 2099, so that no slot is shown from then on")]
pub struct TooFarAhead;

/// A cron expression in a time zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timetable {
    cron: Cron,
    zone: Tz,
    repeats: bool,
}

impl Timetable {
    /// Reads an expression and the name of a zone (IANA, such as `Asia/Shanghai`).
    ///
    /// # Errors
    /// [`BadTimetable`]: the expression cannot be read, or would never fire, or the zone does not exist.
    pub fn parse(expr: &str, zone: &str) -> Result<Self, BadTimetable> {
        let zone = zone.trim().parse::<Tz>().map_err(|_| unknown_zone(zone))?;
        let cron = read(expr)?;
        if !fires(&cron) {
            return Err(BadTimetable::NeverFires { expr: cut(expr) });
        }
        let repeats =
            [&cron.pattern.seconds, &cron.pattern.minutes, &cron.pattern.hours].iter().any(|field| field.from_wildcard);
        Ok(Self { cron, zone, repeats })
    }

    /// The zone's name.
    #[must_use]
    pub fn zone(&self) -> &'static str {
        self.zone.name()
    }

    /// The first slot after an instant, both in ms; `None` beyond the year 5000.
    #[must_use]
    pub fn next_after(&self, at: UnixMs) -> Option<UnixMs> {
        let at = self.zone.timestamp_millis_opt(at).single()?.trunc_subsecs(0);
        let next = match self.repeats {
            true => self.cron.find_next_occurrence(&at, false).ok(),
            false => self.next_named(&at),
        };
        next.map(|slot| slot.timestamp_millis())
    }

    /// The slots after an instant, in order.
    pub fn slots_after(&self, at: UnixMs) -> impl Iterator<Item = UnixMs> + '_ {
        std::iter::successors(self.next_after(at), |slot| self.next_after(*slot))
    }

    /// The next slots after an instant as the zone shows them, for people to look at: those until the end of 2099.
    ///
    /// # Errors
    /// [`TooFarAhead`]: the instant is later than that.
    pub fn preview(&self, after: UnixMs, count: usize) -> Result<Vec<String>, TooFarAhead> {
        if after >= KNOWN_UNTIL_MS {
            return Err(TooFarAhead);
        }
        let known = self.slots_after(after).take_while(|slot| *slot < KNOWN_UNTIL_MS);
        Ok(known.take(count).map(|slot| self.show(slot)).collect())
    }

    /// An instant as the zone shows it, with its offset: RFC 3339.
    #[must_use]
    pub fn show(&self, at: UnixMs) -> String {
        let shown = self.zone.timestamp_millis_opt(at).single();
        shown.map_or_else(String::new, |at| at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, false))
    }

    /// Instants of named times never go back when wall clock times go on, so the first that is after `at` is the next.
    fn next_named(&self, at: &DateTime<Tz>) -> Option<DateTime<Tz>> {
        let mut wall = at.naive_local();
        loop {
            wall = self.cron.find_next_occurrence(&wall, false).ok()?;
            let instant = self.instant_of(wall)?;
            if instant > *at {
                return Some(instant);
            }
        }
    }

    /// The instant of a wall clock time: the first of two, or the first after the jump.
    fn instant_of(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        match self.zone.from_local_datetime(&wall).earliest() {
            Some(instant) => Some(instant),
            None => self.end_of_jump(wall),
        }
    }

    /// The first instant whose wall clock time is not before one that is jumped over, by halving.
    fn end_of_jump(&self, wall: NaiveDateTime) -> Option<DateTime<Tz>> {
        // No offset is further than 15 h from UTC, and no jump is longer than a day.
        let (mut before, mut after) = (wall - TimeDelta::hours(40), wall + TimeDelta::hours(40));
        let shows = |utc: NaiveDateTime| self.zone.from_utc_datetime(&utc);
        while after - before > TimeDelta::seconds(1) {
            let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
            match shows(middle).naive_local() < wall {
                true => before = middle,
                false => after = middle,
            }
        }
        let found = shows(after);
        (found.naive_local() >= wall).then_some(found)
    }
}

fn parser() -> CronParser {
    CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build()
}

fn read(expr: &str) -> Result<Cron, BadTimetable> {
    let wrong = |why: String| BadTimetable::Expression { expr: cut(expr), why };
    if expr.len() > MAX_EXPRESSION {
        return Err(wrong(format!("it is longer than {MAX_EXPRESSION} bytes")));
    }
    let text = schedule_fields::plain(expr).map_err(wrong)?;
    parser().parse(&text).map_err(|error| wrong(error.to_string()))
}

/// Whether some time of some day fits. Where there is none, the search for the next one would go through each minute
/// up to the year 5000.
fn fires(cron: &Cron) -> bool {
    let times = [&cron.pattern.seconds, &cron.pattern.minutes, &cron.pattern.hours];
    times.iter().all(|field| !field.values().is_empty()) && fits_a_day(cron)
}

/// Whether some day of the calendar fits.
fn fits_a_day(cron: &Cron) -> bool {
    let days = NaiveDate::from_ymd_opt(2000, 1, 1).into_iter().flat_map(|first| first.iter_days().take(CALENDAR_DAYS));
    let fits = |day: NaiveDate| {
        let weekday = Weekday::from_days_from_sunday(day.weekday().num_days_from_sunday());
        let month = cron.pattern.month_match(day.month()).unwrap_or(false);
        month && cron.pattern.day_match(day.year(), day.month(), day.day(), weekday).unwrap_or(false)
    };
    days.into_iter().any(fits)
}

fn unknown_zone(zone: &str) -> BadTimetable {
    BadTimetable::UnknownZone { zone: cut(zone), nearest: schedule_zones::nearest(zone) }
}

fn cut(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
#[path = "schedule_times_tests.rs"]
mod tests;
