//! Databases: run a script, back up, verify, restore, prove, destroy; the same promises for each engine.
//!
//! Invariant: a statement of a job never runs twice, and a restore never leaves less than it found. The proof
//! (markers and the newest fence) lies in the target database itself, so that it commits with the effect.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use crate::TargetError;
use crate::script::{Dialect, Script};

mod address;
mod content;
mod outcome;
mod postgres;
mod run;
mod sqlite;

pub use address::DatabaseUrl;
pub use outcome::{ExecuteOptions, OnError, ScriptReport, StatementError, StatementOutcome, Stopped};

/// Called with each step of a long operation. It must not block.
pub type OnProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// Called once for each statement, after its outcome is durable. It must not block.
pub type OnStatement = Arc<dyn Fn(&StatementOutcome) + Send + Sync>;

/// How far a long operation has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Units done: pages, bytes or tables, by the phase.
    pub done: u64,
    /// Units in all, when known.
    pub total: Option<u64>,
    /// The phase in the field's words, such as `copying pages`.
    pub text: String,
}

impl Progress {
    /// Percent done, 0 to 100, when the total is known.
    pub fn percent(&self) -> Option<u8> {
        let total = self.total?;
        let percent = self.done.min(total).saturating_mul(100).checked_div(total).unwrap_or(100);
        u8::try_from(percent).ok()
    }
}

/// What answers at an address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The engine's name.
    pub engine: String,
    /// The server's (or library's) version.
    pub version: String,
}

/// What a backup will take.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// Bytes of the database on its disk.
    pub database_bytes: u64,
    /// An upper bound for the bytes of a backup.
    pub backup_bytes: u64,
    /// User tables in it.
    pub tables: u64,
}

/// A backup that is to be taken.
#[derive(Debug, Clone)]
pub struct BackupPlan {
    /// A local path that does not exist yet; the caller moves it to its final name afterwards.
    pub dest: PathBuf,
    /// The job, shown on the far end (`leasehold/<job>`).
    pub job: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackupFacts {
    /// The engine that made it.
    pub engine: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// Rows by table.
    pub tables: BTreeMap<String, u64>,
}

impl BackupFacts {
    /// Rows in all tables.
    pub fn rows(&self) -> u64 {
        self.tables.values().sum()
    }
}

/// A restore that is to be done.
#[derive(Debug, Clone)]
pub struct RestorePlan {
    /// The local backup file.
    pub source: PathBuf,
    /// The file's SHA-256 in hex, when it was kept: anything else is refused.
    pub sha256: Option<String>,
    /// The job, shown on the far end.
    pub job: String,
    /// The caller's fence.
    pub fence: u64,
}

/// What a restore left behind.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFacts {
    /// Bytes of the backup that was read.
    pub bytes: u64,
    /// Rows by table, in the restored database.
    pub tables: BTreeMap<String, u64>,
    /// What is otherwise than in the backup or than it was, and why, in words for an operator.
    #[serde(default)]
    pub notes: Vec<String>,
}

/// One database at one address.
#[async_trait]
pub trait Database: Send + Sync {
    /// `sqlite` or `postgres`.
    fn engine(&self) -> &'static str;

    /// The dialect of its scripts.
    fn dialect(&self) -> Dialect;

    /// The address without its secrets.
    fn shown(&self) -> String;

    /// Asks the far end who it is.
    async fn probe(&self) -> Result<Probe, TargetError>;

    /// Makes an empty database here if there is none; says whether it made one.
    async fn create(&self) -> Result<bool, TargetError>;

    /// Whether there is a database at the address.
    async fn exists(&self) -> Result<bool, TargetError>;

    /// Bytes on the far end's disk.
    async fn size(&self) -> Result<u64, TargetError>;

    /// What a backup will take.
    async fn estimate(&self) -> Result<Estimate, TargetError>;

    /// Writes a consistent copy to `plan.dest`. A failed or cancelled backup leaves no file there.
    async fn backup(
        &self,
        plan: &BackupPlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<BackupFacts, TargetError>;

    /// Reads a backup from its first byte to its last, and refuses a damaged one with [`TargetError::Corrupt`].
    async fn verify(&self, backup: &Path, sha256: Option<&str>) -> Result<BackupFacts, TargetError>;

    /// Replaces the database by a backup. Whatever goes wrong, the old content is kept or put back.
    async fn restore(
        &self,
        plan: &RestorePlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<RestoreFacts, TargetError>;

    /// Runs a script, each statement at most once per job (`SQL-13`, `SQL-15`).
    ///
    /// Call it again with the same job and a newer fence after a crash: what is recorded is returned and not run
    /// again. An error means that the run was cut short, not that a statement failed: that is in the report.
    async fn execute(
        &self,
        script: &Script,
        options: &ExecuteOptions,
        observer: OnStatement,
        cancel: CancellationToken,
    ) -> Result<ScriptReport, TargetError>;

    /// What is recorded of a job's statements, in order. A `begun` one is shown as unknown.
    async fn recorded(&self, job: &str) -> Result<Vec<StatementOutcome>, TargetError>;

    /// Forgets a job's markers; says how many. Only for jobs that can never run again.
    async fn clear_markers(&self, job: &str) -> Result<u64, TargetError>;

    /// A checksum of schema and rows, without our own tables. Equal content has an equal checksum.
    async fn checksum(&self) -> Result<String, TargetError>;

    /// The same checksum of what a backup would restore to.
    async fn checksum_of(&self, backup: &Path) -> Result<String, TargetError>;

    /// Removes the database for good; says whether there was one.
    async fn destroy(&self, fence: u64) -> Result<bool, TargetError>;
}

/// Opens a driver for an address. It does not connect yet.
pub fn open(url: &DatabaseUrl) -> Result<Arc<dyn Database>, TargetError> {
    address::open(url)
}

/// A progress callback that does nothing.
pub fn quiet() -> OnProgress {
    Arc::new(|_| ())
}

/// A statement observer that does nothing.
pub fn unobserved() -> OnStatement {
    Arc::new(|_| ())
}
