//! A business zone in which it is day: no test runs across its midnight, when quotas begin anew.

use chrono::{DateTime, FixedOffset, Timelike as _, Utc};

/// Zones without summer time, with their offset in hours: when it is late in one, it is day in the other.
const ZONES: [(&str, i32); 2] = [("Asia/Shanghai", 8), ("America/Bogota", -5)];
/// Hours of the day that are far enough from midnight.
const DAY: std::ops::Range<u32> = 3..21;

/// Where it is day.
#[derive(Debug, Clone, Copy)]
pub struct Day {
    zone: &'static str,
    /// The time there.
    pub now: DateTime<FixedOffset>,
}

impl Day {
    pub fn now() -> Self {
        Self::at(Utc::now())
    }

    fn at(now: DateTime<Utc>) -> Self {
        let there = |hours: i32| now.with_timezone(&FixedOffset::east_opt(hours * 3600).unwrap());
        let all = ZONES.map(|(zone, hours)| Self { zone, now: there(hours) });
        all.into_iter().find(|day| DAY.contains(&day.now.hour())).unwrap()
    }

    /// The settings that choose the zone.
    pub fn settings(self) -> String {
        format!("[time]\nbusiness_zone = \"{}\"\n", self.zone)
    }
}

#[test]
fn at_every_minute_it_is_day_in_one_of_the_zones() {
    let start = DateTime::from_timestamp(1_795_320_000, 0).unwrap();
    for minute in 0..24 * 60 {
        Day::at(start + chrono::TimeDelta::minutes(minute));
    }
}
