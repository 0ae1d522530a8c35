//! A job as people and callers look at it: record, steps, progress.

use serde::Serialize;

use super::{Effect, JobRecord, UnixMs};

/// A step of a job's journal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its name, unique in the job.
    pub name: String,
    /// Its effect class.
    pub effect: Effect,
    /// Whether its result is written.
    pub done: bool,
    /// When it was first begun, ms.
    pub begun_at: UnixMs,
    /// When it ended, ms; 0 not yet.
    pub done_at: UnixMs,
    /// The fence under which it was last begun.
    pub fence: u64,
    /// Its result, as bytes; empty when not done.
    #[serde(skip)]
    pub result: Vec<u8>,
}

/// How far a job says it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Progress {
    /// 0 to 100.
    pub percent: u8,
    /// What it is doing.
    pub text: String,
}

/// A job with what lies beside its record.
#[derive(Debug, Clone)]
pub struct JobView {
    /// The record.
    pub record: JobRecord,
    /// Steps, in the order in which they were begun.
    pub steps: Vec<Step>,
    /// Progress, if told.
    pub progress: Progress,
}
