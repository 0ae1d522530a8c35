//! `--at`: an instant as RFC 3339, as wall-clock time of the business zone, or as a distance from now.

use chrono::{DateTime, Duration, NaiveDateTime, SecondsFormat, Utc};
use leasehold_jobs::policy::calendar::Calendar;

/// What `--at` accepts.
pub(crate) const FORMS: &str = "RFC 3339 (2026-11-22T02:00:00+08:00), time of the business zone (2026-11-22T02:00), or a distance from now (+15m, +90s, +2h, +1d)";

/// The instant that `text` means. Wall-clock time is read in `calendar`'s zone.
pub(crate) fn read(text: &str, now: DateTime<Utc>, calendar: &Calendar) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    if let Some(distance) = text.strip_prefix('+') {
        return distance_of(distance).map(|distance| now + distance).ok_or_else(|| wrong(text));
    }
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        return Ok(instant.to_utc());
    }
    let local = text.replacen(' ', "T", 1);
    let formats = ["%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%.f"];
    let wall = formats.iter().find_map(|format| NaiveDateTime::parse_from_str(&local, format).ok());
    wall.map(|wall| calendar.instant(wall)).ok_or_else(|| wrong(text))
}

/// The same for a time that is over, which may be a distance before now (`-7d`) instead.
pub(crate) fn read_past(text: &str, now: DateTime<Utc>, calendar: &Calendar) -> Result<DateTime<Utc>, String> {
    match text.trim().strip_prefix('-') {
        Some(distance) => {
            let distance = distance_of(distance).ok_or_else(|| wrong(text))?;
            now.checked_sub_signed(distance).ok_or_else(|| wrong(text))
        }
        None => read(text, now, calendar),
    }
}

/// The text that the API reads.
pub(crate) fn write(instant: DateTime<Utc>) -> String {
    instant.to_rfc3339_opts(SecondsFormat::Millis, true)
}

fn distance_of(text: &str) -> Option<Duration> {
    let unit = text.chars().last()?;
    let number: i64 = text.strip_suffix(unit)?.parse().ok().filter(|n| (0..1_000_000_000).contains(n))?;
    match unit {
        's' => Some(Duration::seconds(number)),
        'm' => Some(Duration::minutes(number)),
        'h' => Some(Duration::hours(number)),
        'd' => Some(Duration::days(number.min(100_000))),
        _ => None,
    }
}

fn wrong(text: &str) -> String {
    format!("`{text}` is no time; expected {FORMS}")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn at(text: &str) -> Result<String, String> {
        let now = DateTime::parse_from_rfc3339("2026-11-21T10:00:00Z").unwrap().to_utc();
        let calendar: Calendar = serde_json::from_str("\"Asia/Shanghai\"").unwrap();
        read(text, now, &calendar).map(write)
    }

    #[test]
    fn the_three_forms_are_read() {
        assert_eq!(at("2026-11-22T02:00:00+08:00").unwrap(), "2026-11-21T18:00:00.000Z");
        assert_eq!(at("2026-11-22T02:00").unwrap(), "2026-11-21T18:00:00.000Z");
        assert_eq!(at("2026-11-22 02:00:30").unwrap(), "2026-11-21T18:00:30.000Z");
        assert_eq!(at("+15m").unwrap(), "2026-11-21T10:15:00.000Z");
        assert_eq!(at("+1d").unwrap(), "2026-11-22T10:00:00.000Z");
    }

    #[test]
    fn a_time_that_is_over_may_be_a_distance_before_now() {
        let now = DateTime::parse_from_rfc3339("2026-11-21T10:00:00Z").unwrap().to_utc();
        let calendar: Calendar = serde_json::from_str("\"Asia/Shanghai\"").unwrap();
        let past = |text| read_past(text, now, &calendar).map(write);
        assert_eq!(past("-7d").unwrap(), "2026-11-14T10:00:00.000Z");
        assert_eq!(past("2026-11-22T02:00").unwrap(), "2026-11-21T18:00:00.000Z");
        assert!(past("-").unwrap_err().contains("RFC 3339") && past("--7d").is_err());
    }

    #[test]
    fn what_is_no_time_is_refused_with_the_forms() {
        for text in ["", "+", "+m", "+-5m", "5m", "tomorrow", "+5y", "+€", "2026-13-01T00:00"] {
            assert!(at(text).unwrap_err().contains("RFC 3339"), "{text}");
        }
    }
}
