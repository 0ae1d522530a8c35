//! The cut-off before a planned time: edit and revoke only with more than so many minutes to go (SQL-10, X-14).
//!
//! Exactly the limit is refused unless `inclusive` says otherwise (T-4).

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::refusal::{ErrorCode, Refusal};

/// The cut-off: the `*.change.*` keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LeadRule {
    /// Minutes that must remain to the planned time.
    pub min_lead_minutes: u32,
    /// Whether exactly that many minutes are still enough.
    pub inclusive: bool,
}

/// What the caller wants to do with a planned job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Change its script, flags or time.
    Edit,
    /// Take it back.
    Cancel,
}

impl LeadRule {
    /// The least time to the planned instant, in milliseconds, at which a change is still allowed.
    #[must_use]
    pub fn min_remaining_ms(&self) -> i64 {
        i64::from(self.min_lead_minutes) * 60_000 + i64::from(!self.inclusive)
    }

    /// Whether the planned job may still be changed.
    #[must_use]
    pub fn open(&self, now: DateTime<Utc>, planned: DateTime<Utc>) -> bool {
        planned.timestamp_millis() - now.timestamp_millis() >= self.min_remaining_ms()
    }

    /// Whether nothing can stop the job any more: the flag `locked` of a pending job.
    #[must_use]
    pub fn locked(&self, now: DateTime<Utc>, planned: DateTime<Utc>) -> bool {
        !self.open(now, planned)
    }

    /// Refuses a change that comes too late, and says until when it was possible.
    pub fn check(
        &self,
        change: Change,
        calendar: &Calendar,
        now: DateTime<Utc>,
        planned: DateTime<Utc>,
        rule: &'static str,
    ) -> Result<(), Refusal> {
        if self.open(now, planned) {
            return Ok(());
        }
        let (code, verb) = match change {
            Change::Edit => (ErrorCode::TooLateToEdit, "edited"),
            Change::Cancel => (ErrorCode::TooLateToCancel, "cancelled"),
        };
        let minutes = self.min_lead_minutes;
        let bound = if self.inclusive { "at least" } else { "more than" };
        let last = calendar.stamp(planned - Duration::milliseconds(self.min_remaining_ms()));
        let detail = format!(
            "planned for {}, it could be {verb} until {}",
            calendar.stamp(planned).to_rfc3339(),
            last.to_rfc3339()
        );
        Err(Refusal::new(code, rule, detail).with_limit(format!("{bound} {minutes} minutes before the planned time")))
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use chrono_tz::Tz;

    const SQL: LeadRule = LeadRule { min_lead_minutes: 10, inclusive: false };

    fn check(rule: LeadRule, change: Change, now: &str) -> Result<(), ErrorCode> {
        let calendar = Calendar::new(Tz::Asia__Shanghai);
        let at = |time: &str| format!("2025-07-03T{time}Z").parse::<DateTime<Utc>>().unwrap();
        rule.check(change, &calendar, at(now), at("12:00:00"), "SQL-10").map_err(|refusal| refusal.code)
    }

    #[test]
    fn sql_10_ac_075_a_change_needs_strictly_more_than_ten_minutes() {
        for (change, too_late) in
            [(Change::Edit, ErrorCode::TooLateToEdit), (Change::Cancel, ErrorCode::TooLateToCancel)]
        {
            assert_eq!(check(SQL, change, "11:49:59"), Ok(()));
            assert_eq!(check(SQL, change, "11:49:59.999"), Ok(()));
            assert_eq!(check(SQL, change, "11:50:00"), Err(too_late));
            assert_eq!(check(SQL, change, "11:55:00"), Err(too_late));
            assert_eq!(check(SQL, change, "12:00:01"), Err(too_late));
        }
    }

    #[test]
    fn x_14_the_switch_makes_exactly_ten_minutes_enough() {
        let inclusive = LeadRule { inclusive: true, ..SQL };
        assert_eq!(check(inclusive, Change::Cancel, "11:50:00"), Ok(()));
        assert_eq!(check(inclusive, Change::Cancel, "11:50:00.001"), Err(ErrorCode::TooLateToCancel));
    }

    #[test]
    fn x_30_ac_202_a_job_planned_within_the_cut_off_is_locked_from_the_start() {
        let now: DateTime<Utc> = "2025-07-03T12:00:00Z".parse().unwrap();
        assert!(SQL.locked(now, now + Duration::minutes(5)));
        assert!(SQL.locked(now, now + Duration::minutes(10)));
        assert!(!SQL.locked(now, now + Duration::minutes(10) + Duration::milliseconds(1)));
    }
}
