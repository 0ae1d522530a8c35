//! Where a lease stands on a day, and which operations are open then (section 5 of the requirements).
//!
//! Day 0 is the lease end date and still a running day; day *n* is *n* calendar days later (T-3). Production and test
//! environments have different phases: a test environment follows its own end date (2.2).

use chrono::{DateTime, Days, NaiveDate, Utc};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::refusal::{ErrorCode, Refusal};
use super::tenant::{Environment, EnvironmentKind, Tenant};

/// The lease part of the configuration: the `expiry.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExpiryRules {
    /// First day on which production refuses business (EXP-03).
    pub block_business_from_day: u32,
    /// First day on which only listed operations are open (EXP-07).
    pub restrict_ops_from_day: u32,
    /// Full days after the end date that must be over before everything is closed (EXP-12, X-03).
    pub destroy_after_days: u32,
    /// What is open in the restricted days.
    pub restricted: RestrictedRules,
    /// Test environments.
    pub test: TestRules,
}

/// The `expiry.restricted.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestrictedRules {
    /// How far operations are restricted.
    pub mode: RestrictedMode,
    /// The operations that stay open in mode `self_service_only` (EXP-07, EXP-09).
    pub allowed_ops: Vec<String>,
}

/// How far operations are restricted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestrictedMode {
    /// The listed operations are open.
    SelfServiceOnly,
    /// Everything is open until the closure.
    Unrestricted,
    /// Nothing is open; reading is.
    ReadOnly,
}

/// The `expiry.test.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TestRules {
    /// Days after its end date on which a test account set is kept for download (EXP-28).
    pub buffer_days: u32,
    /// The kinds of environment that have a buffer.
    pub kinds_with_buffer: Vec<EnvironmentKind>,
    /// The operations that are open in the buffer (EXP-30).
    pub buffer_allowed_ops: Vec<String>,
}

/// Where the lease of an environment stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Up to and with day 0.
    Active,
    /// Production, days 1–7: no business, all operations.
    Grace,
    /// Production, days 8–30: the listed operations only.
    Restricted,
    /// Test, days 1–15: download only.
    Buffer,
    /// Over: day 31 of production, day 16 of a test environment.
    Closed,
}

/// The day number of an instant: 0 on the end date, negative before it (T-3).
#[must_use]
pub fn day_number(calendar: &Calendar, lease_end: NaiveDate, now: DateTime<Utc>) -> i64 {
    calendar.day_of(now).signed_duration_since(lease_end).num_days()
}

/// The instant at which day `n` after the end date begins.
#[must_use]
pub fn day_begins(calendar: &Calendar, lease_end: NaiveDate, n: u32) -> DateTime<Utc> {
    calendar.start_of(lease_end + Days::new(u64::from(n)))
}

impl ExpiryRules {
    /// The phase of an environment's lease at an instant.
    #[must_use]
    pub fn phase(&self, calendar: &Calendar, tenant: &Tenant, environment: &Environment, now: DateTime<Utc>) -> Phase {
        let day = day_number(calendar, tenant.lease_end_of(environment), now);
        match environment.kind {
            EnvironmentKind::Production => self.production_phase(day),
            kind => self.test_phase(kind, day),
        }
    }

    /// The phase of a production lease by its day number (2.1).
    #[must_use]
    pub fn production_phase(&self, day: i64) -> Phase {
        match day {
            day if day > i64::from(self.destroy_after_days) => Phase::Closed,
            day if day >= i64::from(self.restrict_ops_from_day) => Phase::Restricted,
            day if day >= i64::from(self.block_business_from_day) => Phase::Grace,
            _ => Phase::Active,
        }
    }

    /// The phase of a test environment by its own day number (2.2).
    #[must_use]
    pub fn test_phase(&self, kind: EnvironmentKind, day: i64) -> Phase {
        let buffer = match self.test.kinds_with_buffer.contains(&kind) {
            true => i64::from(self.test.buffer_days),
            false => 0,
        };
        match day {
            day if day <= 0 => Phase::Active,
            day if day <= buffer => Phase::Buffer,
            _ => Phase::Closed,
        }
    }

    /// Refuses the operation when the phase of the environment's lease does not allow it (7.6).
    pub fn check(
        &self,
        calendar: &Calendar,
        tenant: &Tenant,
        environment: &Environment,
        op: &str,
        now: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let phase = self.phase(calendar, tenant, environment, now);
        if self.open(phase, op) {
            return Ok(());
        }
        let end = tenant.lease_end_of(environment);
        let day = day_number(calendar, end, now);
        let production = environment.kind == EnvironmentKind::Production;
        let detail = format!(
            "`{op}` is not open on day {day} after the lease of environment `{}` ended ({end})",
            environment.id
        );
        if phase == Phase::Closed {
            let (rule, last) = match production {
                true => ("EXP-11", self.destroy_after_days),
                false => ("EXP-29", self.test.buffer_days),
            };
            return Err(Refusal::new(ErrorCode::LeaseClosedRepurchase, rule, detail)
                .with_limit(format!("day {last}"))
                .with_remedy("the environment can only be purchased anew; contact the sales manager"));
        }
        let (rule, ops) = match production {
            true => ("EXP-07", &self.restricted.allowed_ops),
            false => ("EXP-30", &self.test.buffer_allowed_ops),
        };
        Err(Refusal::new(ErrorCode::LeaseRestricted, rule, detail)
            .with_limit(format!("open: {}", ops.join(", ")))
            .with_remedy("renew the lease"))
    }

    /// Whether an operation is open in a phase.
    #[must_use]
    pub fn open(&self, phase: Phase, op: &str) -> bool {
        let listed = |ops: &[String]| ops.iter().any(|listed| listed == op);
        match (phase, self.restricted.mode) {
            (Phase::Active | Phase::Grace, _) | (Phase::Restricted, RestrictedMode::Unrestricted) => true,
            (Phase::Restricted, RestrictedMode::SelfServiceOnly) => listed(&self.restricted.allowed_ops),
            (Phase::Buffer, _) => listed(&self.test.buffer_allowed_ops),
            (Phase::Restricted, RestrictedMode::ReadOnly) | (Phase::Closed, _) => false,
        }
    }
}

#[cfg(test)]
#[path = "lease_tests.rs"]
mod tests;
