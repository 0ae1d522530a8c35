//! Days and months of the business zone, computed from UTC instants.
//!
//! T-1, T-2: a day is a calendar day in the zone. Instants come in and go out in UTC; local time never leaves this file
//! except to be shown or compared with a window.

use chrono::{
    DateTime, Datelike, Days, FixedOffset, Months, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeZone, Utc,
};
use chrono_tz::Tz;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A time zone with its calendar arithmetic. Its serde form is the zone's name: `Asia/Shanghai`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Calendar {
    zone: Tz,
}

impl Calendar {
    /// The calendar of a zone.
    #[must_use]
    pub const fn new(zone: Tz) -> Self {
        Self { zone }
    }

    /// The zone's name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.zone.name()
    }

    /// The calendar day on which the instant falls.
    #[must_use]
    pub fn day_of(&self, at: DateTime<Utc>) -> NaiveDate {
        at.with_timezone(&self.zone).date_naive()
    }

    /// The wall clock's date and time at the instant.
    #[must_use]
    pub fn local(&self, at: DateTime<Utc>) -> NaiveDateTime {
        at.with_timezone(&self.zone).naive_local()
    }

    /// The instant with the zone's offset, for people and for JSON.
    #[must_use]
    pub fn stamp(&self, at: DateTime<Utc>) -> DateTime<FixedOffset> {
        let local = at.with_timezone(&self.zone);
        local.with_timezone(&local.offset().fix())
    }

    /// The first instant of a calendar day.
    #[must_use]
    pub fn start_of(&self, day: NaiveDate) -> DateTime<Utc> {
        self.instant(day.and_time(NaiveTime::MIN))
    }

    /// The instant of a local time; the first of two where clocks go back, the end of the gap where they go forward.
    #[must_use]
    pub fn instant(&self, local: NaiveDateTime) -> DateTime<Utc> {
        let mut probe = local;
        for _ in 0..24 * 4 {
            if let Some(found) = self.zone.from_local_datetime(&probe).earliest() {
                return found.with_timezone(&Utc);
            }
            probe += chrono::TimeDelta::minutes(15);
        }
        local.and_utc() // no zone has a gap of a day
    }

    /// The first instant of the day after the one on which `at` falls.
    #[must_use]
    pub fn next_day(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.start_of(self.day_of(at) + Days::new(1))
    }

    /// The first instant of the month after the one in which `at` falls.
    #[must_use]
    pub fn next_month(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let day = self.day_of(at);
        let first = day - Days::new(u64::from(day.day0()));
        self.start_of(first + Months::new(1))
    }

    /// The first instant of the year after the one in which `at` falls.
    #[must_use]
    pub fn next_year(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        let day = self.day_of(at);
        let first = day - Days::new(u64::from(day.ordinal0()));
        self.start_of(first + Months::new(12))
    }
}

impl std::str::FromStr for Calendar {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        name.parse().map(Self::new).map_err(|_| format!("`{name}` is not a time zone of the IANA list"))
    }
}

impl Serialize for Calendar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Calendar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use proptest::prelude::*;

    fn utc(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    fn shanghai() -> Calendar {
        Calendar::new(Tz::Asia__Shanghai)
    }

    #[test]
    fn t_1_a_day_in_shanghai_begins_at_sixteen_utc() {
        assert_eq!(shanghai().day_of(utc("2025-07-03T15:59:59.999Z")).to_string(), "2025-07-03");
        assert_eq!(shanghai().day_of(utc("2025-07-03T16:00:00Z")).to_string(), "2025-07-04");
        assert_eq!(shanghai().next_day(utc("2025-07-03T15:59:59.999Z")), utc("2025-07-03T16:00:00Z"));
        assert_eq!(shanghai().next_day(utc("2025-07-03T16:00:00Z")), utc("2025-07-04T16:00:00Z"));
    }

    #[test]
    fn t_2_months_and_years_end_by_the_local_calendar() {
        assert_eq!(shanghai().next_month(utc("2025-01-31T15:59:59.999Z")), utc("2025-01-31T16:00:00Z"));
        assert_eq!(shanghai().next_month(utc("2025-01-31T16:00:00Z")), utc("2025-02-28T16:00:00Z"));
        assert_eq!(shanghai().next_year(utc("2024-12-31T15:59:59Z")), utc("2024-12-31T16:00:00Z"));
        assert_eq!(shanghai().next_year(utc("2024-12-31T16:00:00Z")), utc("2025-12-31T16:00:00Z"));
    }

    #[test]
    fn a_stamp_shows_the_offset_of_the_zone() {
        assert_eq!(shanghai().stamp(utc("2025-07-03T16:00:00Z")).to_rfc3339(), "2025-07-04T00:00:00+08:00");
    }

    #[test]
    fn a_day_that_begins_in_a_gap_begins_when_the_gap_ends() {
        // In Chile the clocks go forward at midnight: 2024-09-08 begins at 01:00 (-03:00).
        let santiago = Calendar::new(Tz::America__Santiago);
        assert_eq!(santiago.start_of("2024-09-08".parse().unwrap()), utc("2024-09-08T04:00:00Z"));
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_its_day_and_before_the_next(ms in 0_i64..4_102_444_800_000) {
            for zone in [Tz::Asia__Shanghai, Tz::Europe__Berlin, Tz::America__Santiago] {
                let calendar = Calendar::new(zone);
                let at = DateTime::from_timestamp_millis(ms).unwrap();
                prop_assert!(calendar.start_of(calendar.day_of(at)) <= at);
                prop_assert!(at < calendar.next_day(at));
                prop_assert!(calendar.next_day(at) <= calendar.next_month(at));
                prop_assert!(calendar.next_month(at) <= calendar.next_year(at));
            }
        }
    }
}
