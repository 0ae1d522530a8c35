//! All rules of the business as one value, and the two questions that are put to it: may this be accepted, and may it
//! start now?
//!
//! Checked twice (design 5): [`Rules::admit_sql_update`] and its siblings when a command is accepted, in the order of
//! the requirement, and [`Rules::start_check`] when the job starts. The field names are the configuration's keys.

use std::collections::BTreeMap;

use chrono::{DateTime, Duration, Utc};
use serde::{Deserialize, Serialize};

use super::calendar::Calendar;
use super::lead::{Change, LeadRule};
use super::lease::ExpiryRules;
use super::messages::NotifyRules;
use super::quota::{Allowance, QuotaRule, Subject};
use super::refusal::{ErrorCode, Refusal};
use super::roles::{Actor, RoleRules, formal_tenant};
use super::shown;
pub use super::sql::{OnError, SqlRules};
use super::tenant::{Environment, Tenant};
pub use super::verify::{VerifyMode, VerifyRules, ticket_binding};
use super::window;

/// The name of the kind.
pub const SQL_UPDATE: &str = "sql_update";
/// The name of the kind.
pub const DATA_CENTER_BACKUP: &str = "data_center_backup";
/// The name of the kind.
pub const DATA_CENTER_RESTORE: &str = "data_center_restore";
/// The name of the kind.
pub const VERIFICATION_CODE: &str = "verification_code";
/// The kinds that these rules know; a quota may be set for each.
pub const KINDS: [&str; 4] = [SQL_UPDATE, DATA_CENTER_BACKUP, DATA_CENTER_RESTORE, VERIFICATION_CODE];

/// Every knob of the business.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// `time.*`
    pub time: TimeRules,
    /// `role.*`
    pub role: RoleRules,
    /// `expiry.*`
    pub expiry: ExpiryRules,
    /// `sql.*`
    pub sql: SqlRules,
    /// `backup.*`
    pub backup: BackupRules,
    /// `restore.*`
    pub restore: RestoreRules,
    /// `verify.*`
    pub verify: VerifyRules,
    /// `quota.<op>.*`; an operation that is not listed has no quota.
    pub quota: BTreeMap<String, QuotaRule>,
    /// `notify.*`
    pub notify: NotifyRules,
}

/// The `time.*` keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TimeRules {
    /// The zone of days, months and windows (T-1).
    pub business_zone: Calendar,
}

/// The `backup.*` keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupRules {
    /// Length of the name, in characters (7.2).
    pub max_name_chars: u32,
    /// Length of the description, in characters (7.2).
    pub max_description_chars: u32,
}

/// The `restore.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RestoreRules {
    /// Whether the target is copied before it is overwritten (RESTORE-08).
    pub safety_backup: bool,
    /// The sources that need a restore letter in force (RESTORE-06, X-57).
    pub letter_required_for: Vec<SourceKind>,
}

/// Where the data of a restore comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// Another data center of the tenant (RESTORE-02).
    DataCenter,
    /// A backup of the tenant (RESTORE-03).
    Backup,
    /// An uploaded data center (RESTORE-04).
    #[serde(rename = "uploaded", alias = "upload")]
    Upload,
}

/// A command that asks to be accepted.
#[derive(Debug, Clone, Copy)]
pub struct Submission<'a> {
    /// The store's clock (T-6).
    pub now: DateTime<Utc>,
    /// The tenant that it is for.
    pub tenant: &'a Tenant,
    /// The person in whose name.
    pub actor: &'a Actor,
    /// The data center that it acts on (the target of a restore).
    pub data_center: &'a str,
    /// When it is to run; now when left out.
    pub planned_at: Option<DateTime<Utc>>,
    /// The second confirmation (VERIFY-03).
    pub confirmed: bool,
    /// Whether a challenge and a code came with it; the store checks them in the script that accepts the job.
    pub has_code: bool,
}

/// The yes to a [`Submission`], with what the store has to hold on to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admission {
    /// When it is to run.
    pub run_at: DateTime<Utc>,
    /// What only one job may touch at a time: the data center.
    pub resource: String,
    /// What it reads meanwhile, together with others that only read it: the source of a restore (AC-200).
    pub reads: Option<String>,
    /// The unit to take with the acceptance (QUOTA-03).
    pub allowance: Option<Allowance>,
    /// What the code must be bound to, when one is to be spent (VERIFY-02).
    pub ticket_binding: Option<String>,
    /// The job can neither be edited nor revoked from the start.
    pub locked: bool,
    /// The least time to `run_at`, in ms, at which an edit or a cancel is still allowed (SQL-10).
    pub min_remaining_ms: Option<i64>,
}

/// Whether a job may start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It may.
    Go,
    /// Not before `at`; `flag` is shown with the status (SQL-16: `deferred_by_maintenance`).
    WaitUntil {
        /// The first instant at which it may.
        at: DateTime<Utc>,
        /// The stable word for the reason.
        flag: &'static str,
    },
    /// It may not, and will not.
    Refuse(Refusal),
}

/// The flag of a job that waits for the end of the maintenance window (SQL-16).
pub const DEFERRED_BY_MAINTENANCE: &str = "deferred_by_maintenance";

impl Rules {
    /// The calendar of the business zone.
    #[must_use]
    pub fn calendar(&self) -> &Calendar {
        &self.time.business_zone
    }

    /// Whether an SQL update is accepted: role, lease, script, confirmation, code, planned time; then one unit of the
    /// quota (SQL-01 … SQL-06, SQL-19).
    pub fn admit_sql_update(&self, ask: &Submission<'_>, script: &str) -> Result<Admission, Refusal> {
        let mut admission = self.sql_guards(ask, script)?;
        admission.allowance = self.allowance(ask, SQL_UPDATE);
        Ok(admission)
    }

    /// Whether a pending SQL update may be edited: in time, then the same guards again with a fresh code and without a
    /// unit of the quota (SQL-10, SQL-17). `ask.planned_at` is the new time; the old one when it stays.
    pub fn admit_sql_edit(
        &self,
        ask: &Submission<'_>,
        script: &str,
        planned: DateTime<Utc>,
    ) -> Result<Admission, Refusal> {
        self.sql.change.check(Change::Edit, self.calendar(), ask.now, planned, "SQL-10")?;
        let ask = Submission { planned_at: Some(ask.planned_at.unwrap_or(planned)), ..*ask };
        self.sql_guards(&ask, script)
    }

    /// Whether a backup is accepted (BACKUP-01, BACKUP-04).
    pub fn admit_backup(&self, ask: &Submission<'_>, name: &str, description: &str) -> Result<Admission, Refusal> {
        ask.actor.check()?;
        self.role.operate(ask.actor, ask.tenant.formal)?;
        self.environment(ask, DATA_CENTER_BACKUP, "args.data_center")?;
        length("args.name", name, 1, self.backup.max_name_chars, "BACKUP-01")?;
        shown::check_name("BACKUP-01", "args.name", name)?;
        length("args.description", description, 0, self.backup.max_description_chars, "BACKUP-01")?;
        Ok(Admission { allowance: self.allowance(ask, DATA_CENTER_BACKUP), ..accepted(ask) })
    }

    /// Whether a restore into `ask.data_center` is accepted (RESTORE-01 … RESTORE-07). The caller has looked up that
    /// a backup or an upload exists and is the tenant's; `letter` says whether a restore letter is in force.
    pub fn admit_restore(
        &self,
        ask: &Submission<'_>,
        source: SourceKind,
        source_id: &str,
        letter: bool,
    ) -> Result<Admission, Refusal> {
        ask.actor.check()?;
        self.role.restore(ask.actor, ask.tenant.formal)?;
        self.environment(ask, DATA_CENTER_RESTORE, "args.data_center")?;
        if self.restore.letter_required_for.contains(&source) && !letter {
            return Err(Refusal::new(ErrorCode::LetterRequired, "RESTORE-06", "no restore letter is in force")
                .with_field("args.source")
                .with_remedy("upload a stamped restore letter and wait for its approval"));
        }
        let reads = match source {
            SourceKind::DataCenter => {
                self.restore_source(ask, source_id)?;
                Some(data_center_resource(&ask.tenant.id, source_id))
            }
            SourceKind::Backup | SourceKind::Upload => None,
        };
        Ok(Admission { reads, allowance: self.allowance(ask, DATA_CENTER_RESTORE), ..accepted(ask) })
    }

    /// Whether a code is sent to the actor for `operation` on the data center (VERIFY-01): only for an operation that
    /// the actor may do at all, so that a code is no way to find out about others.
    pub fn admit_verification_code(&self, ask: &Submission<'_>, operation: &str) -> Result<Admission, Refusal> {
        ask.actor.check()?;
        match operation {
            SQL_UPDATE => self.role.update_sql(ask.actor, ask.tenant.formal)?,
            _ => {
                let detail = format!("`{operation}` does not use verification codes");
                return Err(Refusal::invalid("VERIFY-01", "args.operation", detail).with_limit(SQL_UPDATE));
            }
        }
        self.environment(ask, VERIFICATION_CODE, "args.target")?;
        self.environment(ask, operation, "args.target")?;
        if ask.actor.mobile.as_deref().is_none_or(|mobile| mobile.trim().is_empty()) {
            return Err(Refusal::invalid(
                "VERIFY-01",
                "actor.mobile",
                "the code goes to the actor's mobile, and there is none",
            ));
        }
        let resource = format!("verification/{}", ticket_binding(ask, operation));
        Ok(Admission { resource, allowance: self.allowance(ask, VERIFICATION_CODE), ..accepted(ask) })
    }

    /// Whether a job that is not final may be cancelled by the customer. `planned` is its planned time; `begun` says
    /// whether the part that cannot be taken back has begun (the overwrite of a restore, RESTORE-09).
    pub fn check_cancel(
        &self,
        kind: &str,
        now: DateTime<Utc>,
        planned: DateTime<Utc>,
        begun: bool,
    ) -> Result<(), Refusal> {
        let rule = match kind {
            SQL_UPDATE => return self.sql.change.check(Change::Cancel, self.calendar(), now, planned, "SQL-10"),
            DATA_CENTER_RESTORE => "RESTORE-09",
            _ => "ENG-05",
        };
        match begun {
            true => Err(Refusal::new(ErrorCode::TooLateToCancel, rule, "the part that cannot be taken back has begun")),
            false => Ok(()),
        }
    }

    /// The cut-off of a kind before its planned time, when it has one (SQL-10).
    #[must_use]
    pub fn lead(&self, kind: &str) -> Option<&LeadRule> {
        (kind == SQL_UPDATE).then_some(&self.sql.change)
    }

    /// Whether a job of `kind` may start on the data center now: the tenant and its lease again, and the maintenance window
    /// for SQL (ROLE-01, SQL-14, SQL-16).
    #[must_use]
    pub fn start_check(&self, kind: &str, now: DateTime<Utc>, tenant: &Tenant, data_center: &str) -> Start {
        let lease = tenant
            .require_data_center(data_center, "args.data_center")
            .and_then(|(environment, _)| self.expiry.check(self.calendar(), tenant, environment, kind, now));
        let formal = formal_tenant(tenant.formal);
        if let Err(refusal) = formal.and(lease) {
            return Start::Refuse(refusal);
        }
        match self.sql.maintenance.blocked_until(self.calendar(), now) {
            Some(at) if kind == SQL_UPDATE => Start::WaitUntil { at, flag: DEFERRED_BY_MAINTENANCE },
            _ => Start::Go,
        }
    }

    fn sql_guards(&self, ask: &Submission<'_>, script: &str) -> Result<Admission, Refusal> {
        ask.actor.check()?;
        self.role.update_sql(ask.actor, ask.tenant.formal)?;
        self.environment(ask, SQL_UPDATE, "args.data_center")?;
        self.sql.check_script(script)?;
        self.confirmed(ask)?;
        let ticket_binding = self.code(ask, SQL_UPDATE)?;
        let run_at = ask.planned_at.unwrap_or(ask.now);
        let ahead = Duration::hours(i64::from(self.sql.max_ahead_hours));
        window::check_reach(self.calendar(), ask.now, run_at, ahead, "SQL-06")?;
        self.sql.maintenance.check(self.calendar(), run_at, "SQL-06")?;
        Ok(Admission {
            ticket_binding,
            locked: self.sql.change.locked(ask.now, run_at),
            min_remaining_ms: Some(self.sql.change.min_remaining_ms()),
            ..accepted(ask)
        })
    }

    /// The environment of the data center, if its lease is in a phase in which the operation is open.
    fn environment<'a>(&self, ask: &Submission<'a>, op: &str, field: &str) -> Result<&'a Environment, Refusal> {
        let (environment, _) = ask.tenant.require_data_center(ask.data_center, field)?;
        self.expiry.check(self.calendar(), ask.tenant, environment, op, ask.now)?;
        Ok(environment)
    }

    fn restore_source(&self, ask: &Submission<'_>, source_id: &str) -> Result<(), Refusal> {
        let field = "args.source.id";
        if source_id == ask.data_center {
            return Err(Refusal::invalid("RESTORE-07", field, "source and target are the same data center"));
        }
        let (environment, _) = ask.tenant.require_data_center(source_id, field)?;
        // Reading the source is a backup of it.
        self.expiry.check(self.calendar(), ask.tenant, environment, DATA_CENTER_BACKUP, ask.now)
    }

    fn confirmed(&self, ask: &Submission<'_>) -> Result<(), Refusal> {
        if ask.confirmed {
            return Ok(());
        }
        let rule = match self.verify.mode {
            VerifyMode::Engine => "VERIFY-03",
            VerifyMode::Caller => "VERIFY-02",
        };
        Err(Refusal::new(ErrorCode::ConfirmationRequired, rule, "the second confirmation is missing")
            .with_field("confirmed")
            .with_remedy("send `\"confirmed\": true` once the user has confirmed"))
    }

    fn code(&self, ask: &Submission<'_>, op: &str) -> Result<Option<String>, Refusal> {
        match (self.verify.mode, ask.has_code) {
            (VerifyMode::Caller, _) => Ok(None),
            (VerifyMode::Engine, true) => Ok(Some(ticket_binding(ask, op))),
            (VerifyMode::Engine, false) => {
                Err(Refusal::new(ErrorCode::CodeInvalid, "SQL-04", "a verification code is required")
                    .with_field("verification")
                    .with_remedy("enqueue `verification_code` for this operation and target, and send the code"))
            }
        }
    }

    fn allowance(&self, ask: &Submission<'_>, op: &str) -> Option<Allowance> {
        let subject = Subject { tenant: &ask.tenant.id, data_center: ask.data_center, user: &ask.actor.user_id };
        Some(self.quota.get(op)?.allowance(self.calendar(), ask.now, op, subject))
    }
}

/// The name of the lock on a data center (ENG-09).
#[must_use]
pub fn data_center_resource(tenant: &str, data_center: &str) -> String {
    format!("data_center/{tenant}/{data_center}")
}

fn accepted(ask: &Submission<'_>) -> Admission {
    Admission {
        run_at: ask.planned_at.unwrap_or(ask.now).max(ask.now),
        resource: data_center_resource(&ask.tenant.id, ask.data_center),
        reads: None,
        allowance: None,
        ticket_binding: None,
        locked: false,
        min_remaining_ms: None,
    }
}

fn length(field: &str, text: &str, min: u32, max: u32, rule: &'static str) -> Result<(), Refusal> {
    let chars = text.chars().count();
    if (min as usize..=max as usize).contains(&chars) && (min == 0 || !text.trim().is_empty()) {
        return Ok(());
    }
    let limit = format!("{min} to {max} characters");
    Err(Refusal::invalid(rule, field, format!("it has {chars} characters, {limit} are allowed")).with_limit(limit))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
