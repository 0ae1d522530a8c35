//! Runs a tenant's SQL script on one data center, after a backup, at the planned time (SQL-01 … SQL-19).
//!
//! Invariant: no statement of a job runs twice (SQL-15); nothing runs when the backup failed (SQL-14).

use std::time::Duration;

use async_trait::async_trait;
use leasehold_engine::Retry;
use leasehold_targets::script::Script;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catalogue::{Ask, Kind};
use crate::policy::rules::{Admission, SQL_UPDATE};
use crate::policy::{Refusal, Rules};

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
    const RETRY: Retry = Retry::exponential(Duration::from_secs(5)).attempts(3);
    const RULE: &'static str = "SQL-01";
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
}
