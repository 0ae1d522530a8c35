//! Runs a tenant's SQL script on one data center, after a backup, at the planned time (SQL-01 … SQL-19).
//!
//! Invariant: no statement of a job runs twice (SQL-15); nothing runs when the backup failed (SQL-14).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::{Effect, JobError, Recovery, Retry, Verdict};
use leasehold_targets::database::{
    Database, ExecuteOptions, OnError, OnStatement, ScriptReport, StatementOutcome, Stopped,
};
use leasehold_targets::script::Script;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::catalogue::{Ask, Ctx, Kind, failure};
use crate::policy::rules::{Admission, OnError as OnErrorRule, SQL_UPDATE};
use crate::policy::{Notice, Refusal, Rules, Tenant};
use crate::services::{Backup, Origin, Wanted, telling};

/// The arguments of an SQL update.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlUpdate {
    /// The data center to update.
    pub data_center: String,
    /// The script, in the dialect of the data center's database.
    pub script: String,
    /// Whether a backup is made first; yes unless the rules say otherwise (SQL-05).
    #[serde(default)]
    pub backup: Option<bool>,
}

#[async_trait]
impl Kind for SqlUpdate {
    const NAME: &'static str = SQL_UPDATE;
    const SUMMARY: &'static str = "Runs a SQL script on a data center at a planned time, after a backup.";
    const QUEUE: &'static str = "sql";
    const DESTRUCTIVE: bool = true;
    const RETRY: Retry = Retry::exponential(Duration::from_secs(5)).attempts(3);
    const RULE: &'static str = "SQL-01";
    const STEPS: &'static [&'static str] = &["backup", "publish_backup", EXECUTE, "notify"];
    const QUOTA_RULE: &'static str = "SQL-03";
    const EDITABLE: bool = true;

    fn complete(&mut self, rules: &Rules) {
        self.backup.get_or_insert(rules.sql.backup_default);
    }

    fn data_center(&self) -> &str {
        &self.data_center
    }

    async fn admit(&self, ask: &Ask<'_>) -> Result<Admission, Refusal> {
        let admission = match ask.planned {
            None => ask.rules().admit_sql_update(&ask.command, &self.script)?,
            Some(planned) => ask.rules().admit_sql_edit(&ask.command, &self.script, planned)?,
        };
        let database = ask.services.database_for(ask.command.tenant, &self.data_center, "args.data_center")?;
        let script = Script::parse(database.dialect(), &self.script).map_err(|error| {
            Refusal::invalid(
                "SQL-19",
                "args.script",
                format!("line {}, column {}: {}", error.line, error.column, error.what),
            )
            .with_remedy(error.remedy)
        })?;
        match script.is_empty() {
            true => Err(Refusal::invalid("SQL-19", "args.script", "the script has no statement")),
            false => Ok(admission),
        }
    }

    async fn run(&self, ctx: &Ctx) -> Result<Verdict, JobError> {
        let tenant = ctx.tenant_document().await?;
        // A closing run executes nothing more: it reads what is recorded, whatever the hour.
        let executed = ctx.has_ended(EXECUTE).await? || ctx.is_closing();
        if !executed && let Some(wait) = ctx.start_check(&tenant, &self.data_center).await? {
            return Ok(wait);
        }
        let database = ctx.database(&tenant, &self.data_center)?;
        let backup = match self.backup.unwrap_or(ctx.rules().sql.backup_default) {
            true => Some(self.back_up(ctx, &*database).await?),
            false => None,
        };
        // A long backup may have led into the maintenance window.
        if !executed && let Some(wait) = ctx.start_check(&tenant, &self.data_center).await? {
            return Ok(wait);
        }
        let executed = ctx.step(EXECUTE, Effect::Fenced, || self.execute(ctx, &*database)).await?;
        ctx.note(json!({"detail": executed.counts.detail()}));
        ctx.step("notify", Effect::Idempotent, || self.tell(ctx, &tenant, &executed.counts, backup.as_ref())).await?;
        ctx.progress(100, "done");
        Ok(Verdict::Done(executed.result(backup.as_ref())))
    }
}

/// The step after which nothing of the script is left to be done.
const EXECUTE: &str = "execute";
/// Bytes of statements in a result; more are left out, the good ones first.
const RESULT_BYTES: usize = 700_000;

impl SqlUpdate {
    /// SQL-05, BACKUP-06. When it fails, nothing is executed (SQL-14).
    async fn back_up(&self, ctx: &Ctx, database: &dyn Database) -> Result<Backup, JobError> {
        let name = format!("before SQL update {}", ctx.id());
        let wanted = Wanted {
            data_center: &self.data_center,
            name: &name,
            description: "",
            origin: Origin::PreSql,
            suffix: "",
            steps: ["backup", "publish_backup"],
            stretch: (1, 30),
        };
        ctx.services().backups().make(ctx, database, wanted).await
    }

    /// Runs what is not yet recorded in the target; the target's own markers keep a statement from running twice.
    async fn execute(&self, ctx: &Ctx, database: &dyn Database) -> Result<Executed, JobError> {
        let script = Script::parse(database.dialect(), &self.script)
            .map_err(|error| JobError::permanent("script_unreadable", error.to_string()))?;
        let rules = &ctx.rules().sql;
        let options = ExecuteOptions::new(ctx.id().to_string(), ctx.fence())
            .on_error(on_error(rules.on_error))
            .last_attempt(ctx.is_last_attempt())
            .statement_timeout(Duration::from_secs(rules.statement_timeout_seconds));
        let (told, total) = (ctx.clone(), script.len());
        let observer: OnStatement = Arc::new(move |outcome| {
            let share = 60 * outcome.index as usize / total.max(1);
            told.progress(u8::try_from(35 + share).unwrap_or(95), format!("statement {} of {total}", outcome.index));
            told.log(line(outcome));
        });
        let job = ctx.id().to_string();
        let token = ctx.cancelled().child_token();
        if ctx.is_closing() {
            token.cancel();
        }
        let report = match database.execute(&script, &options, observer, token).await {
            Ok(report) => report,
            Err(error) => {
                let done = database.recorded(&job).await.map(|recorded| recorded.len());
                let done = done.map_or_else(|_| "an unknown number".to_owned(), |done| done.to_string());
                let mut error = failure(error);
                error.text = format!("{}; {done} of {total} statements are recorded in the database", error.text);
                return Err(error);
            }
        };
        if report.found > 0 {
            ctx.log(format!(
                "{} statements were recorded by an earlier attempt and not repeated (SQL-15)",
                report.found
            ));
        }
        match report.stopped {
            Some(Stopped::Cancelled) if ctx.is_closing() => Executed::of_lost(&report),
            Some(Stopped::Cancelled) => {
                let done = report.statements.len();
                let text = format!("stopped after {done} of {total} statements");
                Err(JobError::permanent("cancelled", text).with(Recovery::Cancelled))
            }
            _ => Ok(Executed::of(&report)),
        }
    }

    /// NOTIFY-11: every enterprise admin and the submitter, once.
    async fn tell(
        &self,
        ctx: &Ctx,
        tenant: &Tenant,
        counts: &Counts,
        backup: Option<&Backup>,
    ) -> Result<u32, JobError> {
        let now = ctx.instant().await?;
        let values = [
            ("tenant", tenant.name.clone()),
            ("data_center", self.data_center.clone()),
            ("job", ctx.id().to_string()),
            ("finished_at", ctx.shown(now)),
            ("colour", counts.colour().to_owned()),
            ("statements", counts.total.to_string()),
            ("failed", (counts.failed + counts.unknown + counts.not_run).to_string()),
            ("backup", backup.map_or("-", |backup| backup.id.as_str()).to_owned()),
        ];
        let receivers = telling::admins_and_submitter(ctx, tenant);
        Ok(telling::tell(ctx, Notice::SqlUpdateCompleted, &receivers, &values).await)
    }
}

/// What became of the script, in a size that the journal and the result can hold.
#[derive(Debug, Serialize, Deserialize)]
struct Executed {
    counts: Counts,
    statements: Vec<Value>,
    left_out: usize,
    /// The workers were lost before the last statement, and those that are missing will not be run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    cut_off: bool,
}

/// How many statements came to what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Counts {
    total: usize,
    ok: usize,
    failed: usize,
    unknown: usize,
    not_run: usize,
}

impl Counts {
    fn of(report: &ScriptReport) -> Self {
        let total = report.total as usize;
        let count = |wanted: fn(&StatementOutcome) -> bool| report.statements.iter().filter(|one| wanted(one)).count();
        Self {
            total,
            ok: count(|one| one.ok),
            failed: count(|one| !one.ok && !one.unknown),
            unknown: count(|one| one.unknown),
            not_run: total.saturating_sub(report.statements.len()),
        }
    }

    /// SQL-12: green when all succeeded, else red.
    fn colour(&self) -> &'static str {
        if self.ok == self.total { "green" } else { "red" }
    }

    /// 2.7: green, red, or all_failed, which is shown red.
    fn detail(&self) -> &'static str {
        if self.ok == 0 && self.unknown == 0 { "all_failed" } else { self.colour() }
    }
}

impl Executed {
    fn of(report: &ScriptReport) -> Self {
        let (statements, left_out) = statements(report);
        Self { counts: Counts::of(report), statements, left_out, cut_off: false }
    }

    /// What is recorded of a script whose workers were lost (SQL-12, SQL-15): the customer is told of what happened.
    fn of_lost(report: &ScriptReport) -> Result<Self, JobError> {
        if report.statements.is_empty() {
            let text = "its workers were lost before the first statement was recorded: none of the script happened";
            return Err(JobError::permanent("worker_lost", text));
        }
        Ok(Self { cut_off: true, ..Self::of(report) })
    }

    /// The result that callers read.
    fn result(&self, backup: Option<&Backup>) -> Value {
        let mut result = json!({
            "colour": self.counts.colour(),
            "detail": self.counts.detail(),
            "counts": self.counts,
            "statements": self.statements,
        });
        if let Some(backup) = backup {
            result["backup_id"] = json!(backup.id);
        }
        if self.cut_off {
            result["cut_off"] = json!("its workers were lost: the statements that are not listed were not run");
        }
        if self.left_out > 0 {
            result["statements_left_out"] = json!(self.left_out);
        }
        result
    }
}

/// The statements in order. Where they are too many for a result, good ones are left out: how many.
fn statements(report: &ScriptReport) -> (Vec<Value>, usize) {
    let mut room = RESULT_BYTES;
    let mut fits = |one: &StatementOutcome| {
        let value = shown(one);
        let bytes = value.to_string().len() + 1;
        let fits = bytes <= room;
        room -= if fits { bytes } else { 0 };
        fits.then_some((one.index, value))
    };
    let (good, bad): (Vec<_>, Vec<_>) = report.statements.iter().partition(|one| one.ok);
    let mut kept: Vec<_> = bad.into_iter().filter_map(&mut fits).collect();
    kept.extend(good.into_iter().filter_map(&mut fits));
    kept.sort_by_key(|(index, _)| *index);
    let left_out = report.statements.len() - kept.len();
    (kept.into_iter().map(|(_, value)| value).collect(), left_out)
}

fn shown(one: &StatementOutcome) -> Value {
    let mut value = json!({"index": one.index, "line": one.line, "ok": one.ok, "ms": one.ms});
    if let Some(rows) = one.rows {
        value["rows"] = json!(rows);
    }
    if one.unknown {
        value["unknown"] = json!(true);
        value["error"] =
            json!("it was begun and its end was never recorded: it may or may not have happened, and was not repeated");
    }
    if let Some(error) = &one.error {
        value["error"] = json!(error.text.chars().take(2000).collect::<String>());
        value["error_code"] = json!(error.code);
        // Where the database pointed: often not the line on which the statement begins.
        if let Some(line) = error.line {
            value["error_line"] = json!(line);
        }
    }
    value
}

/// The log line of a statement; without its text, which is the customer's.
fn line(one: &StatementOutcome) -> String {
    let end = match (&one.error, one.unknown) {
        (_, true) => "unknown, not repeated".to_owned(),
        (Some(error), _) => format!("failed: {} ({})", error.text, error.code),
        (None, false) => one.rows.map_or_else(|| "ok".to_owned(), |rows| format!("ok, {rows} rows")),
    };
    format!("statement {} (line {}): {end}, {} ms", one.index, one.line, one.ms)
}

fn on_error(rule: OnErrorRule) -> OnError {
    match rule {
        OnErrorRule::Continue => OnError::Continue,
        OnErrorRule::Stop => OnError::Stop,
        OnErrorRule::Transaction => OnError::Transaction,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use leasehold_targets::database::StatementError;

    use super::*;

    fn outcome(index: u32, ok: bool) -> StatementOutcome {
        let error = (!ok).then(|| StatementError { code: "1".into(), text: "x".repeat(100), line: None });
        let head = "SELECT something quite long".repeat(3);
        StatementOutcome { index, line: index, ok, rows: Some(1), error, ms: 12, unknown: false, head }
    }

    #[test]
    fn sql_12_a_result_of_twenty_thousand_statements_fits_and_keeps_every_failure() {
        let statements: Vec<_> = (1..=20_000).map(|index| outcome(index, index % 100 != 0)).collect();
        let report = ScriptReport { statements, total: 20_000, found: 0, stopped: None };
        assert!(serde_json::to_vec(&report).unwrap().len() > 1 << 20, "as it is, it would not fit");
        let executed = Executed::of(&report);
        assert!(serde_json::to_vec(&executed).unwrap().len() < 1 << 20);
        let result = executed.result(None);
        let shown = result["statements"].as_array().unwrap();
        assert_eq!(shown.iter().filter(|one| one["ok"] == false).count(), 200);
        assert!(shown.is_sorted_by_key(|one| one["index"].as_u64()));
        assert_eq!(shown.len() + executed.left_out, 20_000);
        assert_eq!(result["counts"], json!({"total": 20_000, "ok": 19_800, "failed": 200, "unknown": 0, "not_run": 0}));
    }

    #[test]
    fn sql_12_an_error_says_its_own_line() {
        let mut failed = outcome(3, false);
        assert_eq!(shown(&failed).get("error_line"), None);
        failed.error.as_mut().unwrap().line = Some(5);
        assert_eq!((&shown(&failed)["line"], &shown(&failed)["error_line"]), (&json!(3), &json!(5)));
    }

    #[test]
    fn sql_12_unknown_is_red_and_never_all_failed() {
        let mut unknown = outcome(1, false);
        (unknown.unknown, unknown.error) = (true, None);
        let report = ScriptReport { statements: vec![unknown], total: 1, found: 0, stopped: None };
        assert_eq!(Counts::of(&report).detail(), "red");
    }
}
