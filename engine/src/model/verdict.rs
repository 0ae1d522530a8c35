//! How an attempt ended: a verdict that is returned, never an exception class.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::UnixMs;

/// What an attempt came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Verdict {
    /// Done, with the result that callers read.
    Done(serde_json::Value),
    /// Not now: again at this time. Costs no attempt.
    Snooze {
        /// When to start again, in ms of the store's clock.
        until: UnixMs,
        /// Why, for people.
        reason: String,
    },
    /// Cancelled by the job itself, or seen to be cancelled.
    Cancel(String),
}

impl Verdict {
    /// Done with `result`, made JSON.
    ///
    /// # Errors
    /// When `result` cannot be JSON (a map with keys that are no text).
    pub fn done(result: impl Serialize) -> Result<Self, JobError> {
        serde_json::to_value(result)
            .map(Self::Done)
            .map_err(|e| JobError::permanent("internal", format!("the result is not JSON: {e}")))
    }
}

/// Why an attempt failed. `transient` is tried again, `permanent` is not.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {text}")]
pub struct JobError {
    /// Stable, snake_case; the same in logs, metrics, problem+json.
    pub code: String,
    /// What was tried and what came of it, without secrets.
    pub text: String,
    /// How the engine goes on.
    pub recovery: Recovery,
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Try again by the job's retry rule.
    Retry,
    /// Try again after exactly this long.
    RetryAfter(Duration),
    /// Dead at once.
    Give,
    /// Nobody can tell whether a `Once` step happened: unknown.
    Doubt,
    /// The job was cancelled, the step was not begun.
    Cancelled,
    /// The lease is another's: say nothing more. Never settled.
    Lost,
    /// The store is away: that says nothing of the job, which is handed back, uncounted. Made by the context alone.
    Away,
    /// No failure: the job is suspended until a time, a signal or a child, and starts again at the top. Made by the
    /// context's verbs alone; pass it on with `?`.
    Suspend,
    /// The job was begun by other code: it is set aside until a person revives or cancels it. Made by the context alone.
    Park,
}

impl JobError {
    /// A failure that may pass.
    pub fn transient(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into(), recovery: Recovery::Retry }
    }

    /// A failure that will not pass by itself.
    pub fn permanent(code: impl Into<String>, text: impl Into<String>) -> Self {
        Self { code: code.into(), text: text.into(), recovery: Recovery::Give }
    }

    /// The same with another recovery.
    #[must_use]
    pub fn with(mut self, recovery: Recovery) -> Self {
        self.recovery = recovery;
        self
    }
}

impl From<anyhow::Error> for JobError {
    /// `?` on any error is transient: it is worse to give a job up than to try it again.
    fn from(error: anyhow::Error) -> Self {
        Self::transient("failed", format!("{error:#}"))
    }
}

/// A failed job's error as it is kept and shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDocument {
    /// Stable code.
    pub code: String,
    /// What happened.
    pub message: String,
    /// Whether another attempt was or will be made.
    pub retryable: bool,
    /// The failure that led to this one: what a job was undone for, when an undo failed too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Self>>,
}

impl ErrorDocument {
    /// The code of a job that could not be undone.
    pub const UNDO_FAILED: &str = "undo_failed";

    /// The document of an error.
    #[must_use]
    pub fn new(error: &JobError) -> Self {
        Self {
            code: error.code.clone(),
            message: error.text.chars().take(8000).collect(),
            retryable: error.recovery != Recovery::Give,
            cause: None,
        }
    }

    /// Reads what is kept of a job's error; `None` when it has none.
    #[must_use]
    pub fn read(kept: &[u8]) -> Option<Self> {
        serde_json::from_slice(kept).ok()
    }

    /// As it is kept.
    #[must_use]
    pub fn pack(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }
}
