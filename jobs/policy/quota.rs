//! How often: a number of units for each calendar period of the business zone (QUOTA-01 … QUOTA-04).
//!
//! This file only names the period's counter and its reset; the store takes the unit in the script that accepts the
//! job, so that a refused command takes none.

use chrono::{DateTime, Datelike, Utc};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::refusal::{ErrorCode, QuotaUse, Refusal};

/// The calendar period after which the units are there again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Period {
    /// 00:00:00 to 23:59:59.999 in the zone.
    Day,
    /// A calendar month in the zone.
    Month,
    /// A calendar year in the zone.
    Year,
}

/// Whose units they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All users and data centers of a tenant share them.
    Tenant,
    /// Each data center has its own.
    DataCenter,
    /// Each user of the tenant has their own.
    User,
}

/// What gives a unit back (QUOTA-03).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RefundOn {
    /// The job failed for good through no fault of the customer.
    PlatformFailure,
    /// The customer cancelled it in time.
    Cancel,
}

/// The quota of an operation: the `quota.<op>.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QuotaRule {
    /// Units in a period.
    pub limit: u32,
    /// The period.
    pub per: Period,
    /// Whose units.
    pub scope: Scope,
    /// What gives a unit back.
    pub refund_on: Vec<RefundOn>,
}

/// Whom a command counts for.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The tenant.
    pub tenant: &'a str,
    /// The data center that is acted on.
    pub data_center: &'a str,
    /// The user who asks.
    pub user: &'a str,
}

/// A unit to take when the command is accepted: the store counts under `name` until `resets_at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The counter: operation, whose, which period. A new period is a new name.
    pub name: String,
    /// Units that may be taken under this name.
    pub limit: u32,
    /// The first instant of the next period.
    pub resets_at: DateTime<Utc>,
    /// Whether a failure of the platform gives the unit back.
    pub refund: bool,
}

impl QuotaRule {
    /// The counter that a command submitted at `now` belongs to (QUOTA-02).
    #[must_use]
    pub fn allowance(&self, calendar: &Calendar, now: DateTime<Utc>, op: &str, subject: Subject<'_>) -> Allowance {
        let whose = match self.scope {
            Scope::Tenant => subject.tenant.to_owned(),
            Scope::DataCenter => format!("{}/data_center/{}", subject.tenant, subject.data_center),
            Scope::User => format!("{}/user/{}", subject.tenant, subject.user),
        };
        let day = calendar.day_of(now);
        let (period, resets_at) = match self.per {
            Period::Day => (day.to_string(), calendar.next_day(now)),
            Period::Month => (day.format("%Y-%m").to_string(), calendar.next_month(now)),
            Period::Year => (day.year().to_string(), calendar.next_year(now)),
        };
        let refund = self.refunds(RefundOn::PlatformFailure);
        Allowance { name: format!("{op}/{whose}/{period}"), limit: self.limit, resets_at, refund }
    }

    /// Whether this ending gives the unit back (QUOTA-03).
    #[must_use]
    pub fn refunds(&self, on: RefundOn) -> bool {
        self.refund_on.contains(&on)
    }
}

impl Allowance {
    /// The reset in milliseconds since 1970.
    #[must_use]
    pub fn resets_at_ms(&self) -> i64 {
        self.resets_at.timestamp_millis()
    }

    /// The quota as it is returned to the caller (QUOTA-04).
    #[must_use]
    pub fn state(&self, calendar: &Calendar, used: u32) -> QuotaUse {
        QuotaUse { used, limit: self.limit, resets_at: calendar.stamp(self.resets_at) }
    }

    /// The refusal for a counter that is used up, by the rule of the operation (such as `SQL-03`).
    #[must_use]
    pub fn spent(&self, calendar: &Calendar, used: u32, rule: &'static str) -> Refusal {
        let quota = self.state(calendar, used);
        let detail = format!("{used} of {} used; it starts anew at {}", self.limit, quota.resets_at.to_rfc3339());
        Refusal::new(ErrorCode::QuotaExceeded, rule, detail)
            .with_limit(format!("{} per period", self.limit))
            .with_quota(quota)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use chrono_tz::Tz;

    const SUBJECT: Subject<'_> = Subject { tenant: "t-001", data_center: "dc-1", user: "u1" };

    fn rule(per: Period, scope: Scope) -> QuotaRule {
        QuotaRule { limit: 10, per, scope, refund_on: vec![RefundOn::PlatformFailure] }
    }

    fn shanghai() -> Calendar {
        Calendar::new(Tz::Asia__Shanghai)
    }

    fn taken(per: Period, scope: Scope, at: &str, subject: Subject<'_>) -> Allowance {
        rule(per, scope).allowance(&shanghai(), at.parse().unwrap(), "sql_update", subject)
    }

    #[test]
    fn ac_076_ac_077_the_counter_changes_at_local_midnight_to_the_millisecond() {
        let last = taken(Period::Day, Scope::Tenant, "2025-07-03T15:59:59.999Z", SUBJECT);
        let first = taken(Period::Day, Scope::Tenant, "2025-07-03T16:00:00Z", SUBJECT);
        assert_eq!(last.name, "sql_update/t-001/2025-07-03");
        assert_eq!(first.name, "sql_update/t-001/2025-07-04");
        assert_eq!(last.resets_at, "2025-07-03T16:00:00Z".parse::<DateTime<Utc>>().unwrap());
        assert_eq!(last.resets_at_ms(), 1_751_558_400_000);
    }

    #[test]
    fn quota_02_a_month_is_the_local_calendar_month() {
        let last = taken(Period::Month, Scope::Tenant, "2025-01-31T15:59:59.999Z", SUBJECT);
        let first = taken(Period::Month, Scope::Tenant, "2025-01-31T16:00:00Z", SUBJECT);
        assert_eq!(last.name, "sql_update/t-001/2025-01");
        assert_eq!(first.name, "sql_update/t-001/2025-02");
        assert_eq!(last.resets_at, "2025-01-31T16:00:00Z".parse::<DateTime<Utc>>().unwrap());
    }

    #[test]
    fn quota_02_the_scope_decides_who_shares_the_counter() {
        let now = "2025-07-03T04:00:00Z";
        let other_user = Subject { user: "u2", ..SUBJECT };
        let other_center = Subject { data_center: "dc-2", ..SUBJECT };
        let other_tenant = Subject { tenant: "t-002", ..SUBJECT };
        let name = |scope, subject| taken(Period::Day, scope, now, subject).name;
        for (scope, users_share, centers_share) in
            [(Scope::Tenant, true, true), (Scope::DataCenter, true, false), (Scope::User, false, true)]
        {
            assert_eq!(name(scope, SUBJECT) == name(scope, other_user), users_share, "{scope:?}");
            assert_eq!(name(scope, SUBJECT) == name(scope, other_center), centers_share, "{scope:?}");
            assert_ne!(name(scope, SUBJECT), name(scope, other_tenant), "{scope:?}");
        }
        let center_named_like_a_user = Subject { data_center: "x", user: "x", ..SUBJECT };
        assert_ne!(name(Scope::DataCenter, center_named_like_a_user), name(Scope::User, center_named_like_a_user));
    }

    #[test]
    fn quota_03_a_customers_cancel_gives_nothing_back_by_default() {
        let rule = rule(Period::Day, Scope::Tenant);
        assert!(rule.refunds(RefundOn::PlatformFailure));
        assert!(!rule.refunds(RefundOn::Cancel));
    }

    #[test]
    fn quota_04_a_refusal_carries_what_is_used_and_when_it_starts_anew() {
        let allowance = taken(Period::Day, Scope::Tenant, "2025-07-03T15:59:59Z", SUBJECT);
        let refusal = allowance.spent(&shanghai(), 10, "SQL-03");
        assert_eq!((refusal.code, refusal.rule), (ErrorCode::QuotaExceeded, "SQL-03"));
        let quota = refusal.quota.clone().unwrap();
        assert_eq!((quota.used, quota.limit), (10, 10));
        assert_eq!(quota.resets_at.to_rfc3339(), "2025-07-04T00:00:00+08:00");
        assert_eq!(refusal.allowed_at, Some(quota.resets_at));
    }
}
