//! The daily maintenance window, and the planned time that must lie outside of it and within reach (SQL-06).
//!
//! Everything is compared to the millisecond. A forbidden range includes the ends that the text names (T-4).

use chrono::{DateTime, Days, Duration, NaiveTime, Timelike, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::calendar::Calendar;
use super::refusal::{ErrorCode, Refusal};

/// A stretch of each day on the wall clock, such as `00:00-03:30`. It may cross midnight (`23:00-02:00`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DailyWindow {
    from: NaiveTime,
    to: NaiveTime,
}

impl std::str::FromStr for DailyWindow {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is not a daily window such as 00:00-03:30");
        let time = |part: &str| NaiveTime::parse_from_str(part.trim(), "%H:%M").map_err(|_| wrong());
        let (from, to) = text.split_once('-').ok_or_else(wrong)?;
        let window = Self { from: time(from)?, to: time(to)? };
        match window.from == window.to {
            true => Err(format!("`{text}` would never end")),
            false => Ok(window),
        }
    }
}

impl std::fmt::Display for DailyWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}-{}", self.from.format("%H:%M"), self.to.format("%H:%M"))
    }
}

/// When operations may not run: the `*.maintenance.*` keys. An empty window means none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Maintenance {
    /// The window, on the wall clock of the business zone.
    #[serde(with = "none_is_empty")]
    pub window: Option<DailyWindow>,
    /// Whether the end of the window still belongs to it.
    pub end_inclusive: bool,
}

mod none_is_empty {
    use super::{DailyWindow, Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(window: &Option<DailyWindow>, serializer: S) -> Result<S::Ok, S::Error> {
        match window {
            Some(window) => serializer.collect_str(window),
            None => serializer.serialize_str(""),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<DailyWindow>, D::Error> {
        match String::deserialize(deserializer)?.trim() {
            "" => Ok(None),
            text => text.parse().map(Some).map_err(serde::de::Error::custom),
        }
    }
}

impl Maintenance {
    /// No maintenance at all.
    pub const NONE: Self = Self { window: None, end_inclusive: true };

    /// If the instant is inside the window: the first instant that is not.
    #[must_use]
    pub fn blocked_until(&self, calendar: &Calendar, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let window = self.window?;
        let local = calendar.local(at);
        let time = to_the_ms(local.time());
        let crosses = window.to < window.from;
        let before_end = time < window.to || (self.end_inclusive && time == window.to);
        let inside = match crosses {
            true => time >= window.from || before_end,
            false => time >= window.from && before_end,
        };
        if !inside {
            return None;
        }
        let ends_tomorrow = crosses && time >= window.from && !before_end;
        let day = local.date() + Days::new(u64::from(ends_tomorrow));
        let end = calendar.instant(day.and_time(window.to));
        Some(if self.end_inclusive { end + Duration::milliseconds(1) } else { end })
    }

    /// Refuses an instant inside the window, and says when it ends (SQL-06).
    pub fn check(&self, calendar: &Calendar, at: DateTime<Utc>, rule: &'static str) -> Result<(), Refusal> {
        let (Some(window), Some(until)) = (self.window, self.blocked_until(calendar, at)) else { return Ok(()) };
        let stamp = calendar.stamp(at).to_rfc3339();
        let detail = format!("{stamp} is inside the daily maintenance {window} ({})", calendar.name());
        Err(Refusal::new(ErrorCode::MaintenanceWindow, rule, detail)
            .with_limit(window.to_string())
            .with_field("run_at")
            .with_allowed_at(calendar.stamp(until)))
    }
}

/// Refuses a planned time in the past or further ahead than `max_ahead`; now and the very end are accepted (SQL-06).
pub fn check_reach(
    calendar: &Calendar,
    now: DateTime<Utc>,
    planned: DateTime<Utc>,
    max_ahead: Duration,
    rule: &'static str,
) -> Result<(), Refusal> {
    let ahead = planned.timestamp_millis() - now.timestamp_millis();
    let hours = max_ahead.num_hours();
    let refuse = |detail: String| {
        Refusal::new(ErrorCode::TimeNotAllowed, rule, detail)
            .with_limit(format!("from now to {hours} hours ahead"))
            .with_field("run_at")
    };
    let stamp = calendar.stamp(planned).to_rfc3339();
    if ahead < 0 {
        return Err(refuse(format!("{stamp} is in the past")).with_allowed_at(calendar.stamp(now)));
    }
    if ahead > max_ahead.num_milliseconds() {
        let from = calendar.stamp(planned - max_ahead);
        return Err(refuse(format!("{stamp} is more than {hours} hours ahead")).with_allowed_at(from));
    }
    Ok(())
}

fn to_the_ms(time: NaiveTime) -> NaiveTime {
    time.with_nanosecond(time.nanosecond() / 1_000_000 * 1_000_000).unwrap_or(time)
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
