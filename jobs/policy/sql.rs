//! The knobs of SQL updates, and what a script may hold (SQL-19).

use serde::{Deserialize, Serialize};

use super::lead::LeadRule;
use super::refusal::{ErrorCode, Refusal};
use super::window::Maintenance;

/// The `sql.*` keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SqlRules {
    /// How far ahead a planned time may lie, in hours, inclusive (SQL-06).
    pub max_ahead_hours: u32,
    /// Whether a backup is made first when the caller does not say (SQL-05, X-29).
    pub backup_default: bool,
    /// What happens after a failing statement (SQL-13).
    pub on_error: OnError,
    /// Size of a script, in bytes (SQL-19).
    pub max_script_bytes: u64,
    /// How long one statement may run, in seconds.
    pub statement_timeout_seconds: u64,
    /// Words that may not begin a statement, such as `DROP DATABASE` (SQL-19).
    pub forbidden_statements: Vec<String>,
    /// The cut-off for edit and revoke (SQL-10).
    pub change: LeadRule,
    /// Daily maintenance (SQL-06).
    pub maintenance: Maintenance,
}

/// What happens after a failing statement (SQL-13).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// The next statement runs.
    Continue,
    /// No further statement runs.
    Stop,
    /// All statements are one transaction.
    Transaction,
}

impl SqlRules {
    /// Refuses an empty script, one that is too large, and one with a statement that is forbidden (SQL-19).
    pub fn check_script(&self, script: &str) -> Result<(), Refusal> {
        let field = "args.script";
        if script.trim().is_empty() {
            return Err(Refusal::invalid("SQL-19", field, "the script is empty"));
        }
        let bytes = script.len() as u64;
        if bytes > self.max_script_bytes {
            let limit = format!("{} bytes", self.max_script_bytes);
            let detail = format!("the script has {bytes} bytes, {limit} are allowed");
            return Err(Refusal::new(ErrorCode::FileTooLarge, "SQL-19", detail).with_field(field).with_limit(limit));
        }
        let words = normalised(script);
        match self.forbidden_statements.iter().find(|forbidden| words.contains(&normalised(forbidden))) {
            None => Ok(()),
            Some(forbidden) => {
                Err(Refusal::invalid("SQL-19", field, format!("the script has the forbidden `{forbidden}`"))
                    .with_limit(self.forbidden_statements.join(", ")))
            }
        }
    }
}

/// The words in upper case, each between two spaces, so that `drop\n table` is found and `dropped` is not.
fn normalised(text: &str) -> String {
    let spaced: String = text.chars().map(|c| if c.is_alphanumeric() || c == '_' { c } else { ' ' }).collect();
    let words: Vec<_> = spaced.split_whitespace().map(str::to_uppercase).collect();
    format!(" {} ", words.join(" "))
}
