//! How a script is to be run, and what became of each of its statements.
//!
//! Invariant: a report is green only when each statement ran and none failed or is unknown.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What to do when a statement fails (`SQL-13`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnError {
    /// Go on with the next statement.
    #[default]
    Continue,
    /// Run none of the following ones.
    Stop,
    /// All statements or none.
    Transaction,
}

/// How a script is to be run.
#[derive(Clone)]
pub struct ExecuteOptions {
    /// The job: the key of the markers.
    pub job: String,
    /// The caller's fence.
    pub fence: u64,
    /// What to do when a statement fails.
    pub on_error: OnError,
    /// The longest time that one statement may take.
    pub statement_timeout: Option<Duration>,
    /// The most rows that one statement may return; more make it fail, and undo it.
    pub max_rows: Option<u64>,
    /// No other attempt follows: a statement in which the connection ends is recorded as failed, and the rest goes on.
    pub last_attempt: bool,
    /// Where a test breaks the run.
    #[cfg(feature = "testing")]
    pub faults: Option<crate::testing::Faults>,
}

impl ExecuteOptions {
    /// Options with the defaults: go on after failures, no limits.
    pub fn new(job: impl Into<String>, fence: u64) -> Self {
        Self {
            job: job.into(),
            fence,
            on_error: OnError::default(),
            statement_timeout: None,
            max_rows: None,
            last_attempt: false,
            #[cfg(feature = "testing")]
            faults: None,
        }
    }

    /// The same with another policy for failures.
    #[must_use]
    pub fn on_error(mut self, on_error: OnError) -> Self {
        self.on_error = on_error;
        self
    }

    /// The same with a limit for each statement.
    #[must_use]
    pub fn statement_timeout(mut self, limit: Duration) -> Self {
        self.statement_timeout = Some(limit);
        self
    }

    /// The same, told whether another attempt follows.
    #[must_use]
    pub fn last_attempt(mut self, last: bool) -> Self {
        self.last_attempt = last;
        self
    }

    /// The same with a limit for the rows of each result.
    #[must_use]
    pub fn max_rows(mut self, limit: u64) -> Self {
        self.max_rows = Some(limit);
        self
    }
}

/// What the database said against a statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementError {
    /// The SQLSTATE (PostgreSQL), the result code's name (SQLite), or one of our words in lower case.
    pub code: String,
    /// The database's words.
    pub text: String,
    /// The line of the script, when the database pointed at one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u32>,
}

impl StatementError {
    /// An error of ours.
    pub(crate) fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into(), line: None }
    }
}

/// What became of one statement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatementOutcome {
    /// Its place in the script, from 1.
    pub index: u32,
    /// The line of the script on which it starts, from 1.
    pub line: u32,
    /// Whether it was done.
    pub ok: bool,
    /// Rows returned or changed, where that has a meaning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Why it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<StatementError>,
    /// How long it took.
    pub ms: u64,
    /// Nobody knows whether it was done: it began, and its end was never recorded.
    #[serde(default)]
    pub unknown: bool,
    /// Its first 80 characters.
    pub head: String,
}

/// Why a run ended before the last statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopped {
    /// The caller's token was cancelled.
    Cancelled,
    /// A statement failed, and the policy says stop.
    Failed,
}

/// What became of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptReport {
    /// Outcomes in the order of the script; statements that were not reached have none.
    pub statements: Vec<StatementOutcome>,
    /// Statements in the script.
    pub total: u32,
    /// How many outcomes were found recorded by an earlier run, and not run again.
    pub found: u32,
    /// Why the rest was not run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<Stopped>,
}

impl ScriptReport {
    /// Whether every statement ran well.
    pub fn is_green(&self) -> bool {
        self.statements.len() == self.total as usize && self.statements.iter().all(|statement| statement.ok)
    }

    /// `green` or `red`, the words of `SQL-12`.
    pub fn colour(&self) -> &'static str {
        if self.is_green() { "green" } else { "red" }
    }

    /// Whether the fate of a statement is unknown.
    pub fn has_unknown(&self) -> bool {
        self.statements.iter().any(|statement| statement.unknown)
    }
}
