//! The SQLite driver: a database is one file.
//!
//! Invariant: who changes the content holds `<file>.leasehold-lock`, shared for scripts and exclusive for a restore,
//! so that a paused restore can never overwrite what a newer holder did.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rusqlite::{Connection, ErrorCode, OpenFlags};
use tokio_util::sync::CancellationToken;

use super::content::{Content, file_sha256};
use super::run::{self, Session};
use super::{
    BackupFacts, BackupPlan, Database, Estimate, ExecuteOptions, OnProgress, OnStatement, Probe, RestoreFacts,
    RestorePlan, ScriptReport, StatementOutcome,
};
use crate::TargetError;
use crate::script::{Dialect, Script};

mod content;
mod copy;
mod restore;
mod session;

use session::SqliteSession;

/// How long anybody waits for a lock of another one.
const PATIENCE: Duration = Duration::from_secs(5);

/// A database file.
pub(super) struct Sqlite {
    path: PathBuf,
}

impl Sqlite {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Does blocking work on a thread for it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Place) -> Result<T, TargetError> + Send + 'static,
    ) -> Result<T, TargetError> {
        let place = Place { path: self.path.clone() };
        blocking(move || work(&place)).await
    }

    async fn session(&self) -> Result<SqliteSession, TargetError> {
        self.blocking(SqliteSession::open).await
    }
}

/// Does blocking work on a thread for it; a panic there goes on here.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, TargetError> + Send + 'static,
) -> Result<T, TargetError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(_) => Err(TargetError::Cancelled { doing: "work on a database file".to_owned() }),
        },
    }
}

/// The file, for blocking work.
struct Place {
    path: PathBuf,
}

impl Place {
    fn shown(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    /// A path beside the file.
    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    fn open(&self) -> Result<Connection, TargetError> {
        if !self.path.exists() {
            return Err(TargetError::NotFound { what: self.shown() });
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&self.path, flags).map_err(|error| self.ours("open it", error))?;
        connection.busy_timeout(PATIENCE).map_err(|error| self.ours("open it", error))?;
        Ok(connection)
    }

    fn lock(&self, exclusive: bool) -> Result<std::fs::File, TargetError> {
        let path = self.beside(".leasehold-lock");
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|error| TargetError::io("open", &path, error))?;
        let until = Instant::now() + PATIENCE;
        loop {
            let locked = if exclusive { file.try_lock() } else { file.try_lock_shared() };
            match locked {
                Ok(()) => return Ok(file),
                Err(std::fs::TryLockError::Error(error)) => return Err(TargetError::io("lock", path, error)),
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() > until => {
                    let why = if exclusive { "a script or a restore runs on it" } else { "a restore runs on it" };
                    return Err(TargetError::Busy { target: self.shown(), why: why.to_owned() });
                }
                Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }

    /// An error of a step of ours.
    fn ours(&self, doing: &str, error: rusqlite::Error) -> TargetError {
        refused(&self.path, doing, error)
    }
}

/// An error of a step of ours on a file.
fn refused(path: &Path, doing: &str, error: rusqlite::Error) -> TargetError {
    let target = format!("sqlite:{}", path.display());
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            TargetError::Busy { target, why: format!("another connection holds it while trying to {doing}") }
        }
        Some(ErrorCode::DiskFull) => TargetError::no_space(path, None),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            TargetError::Corrupt { what: target, why: error.to_string() }
        }
        Some(ErrorCode::OperationInterrupted) => TargetError::Cancelled { doing: doing.to_owned() },
        _ => {
            let error = session::said("", error);
            TargetError::Sql { target, doing: doing.to_owned(), sqlstate: error.code, text: error.text }
        }
    }
}

#[async_trait]
impl Database for Sqlite {
    fn engine(&self) -> &'static str {
        "sqlite"
    }

    fn dialect(&self) -> Dialect {
        Dialect::Sqlite
    }

    fn shown(&self) -> String {
        format!("sqlite:{}", self.path.display())
    }

    async fn probe(&self) -> Result<Probe, TargetError> {
        self.blocking(|place| {
            let connection = place.open()?;
            content::user_tables(&connection).map_err(|error| place.ours("read its schema", error))?;
            Ok(Probe { engine: "sqlite".to_owned(), version: rusqlite::version().to_owned() })
        })
        .await
    }

    async fn create(&self) -> Result<bool, TargetError> {
        self.blocking(|place| {
            if place.path.exists() {
                return Ok(false);
            }
            let connection = Connection::open(&place.path).map_err(|error| place.ours("create it", error))?;
            connection
                .execute_batch("PRAGMA journal_mode = WAL; PRAGMA user_version = 0;")
                .map_err(|error| place.ours("create it", error))?;
            Ok(true)
        })
        .await
    }

    async fn exists(&self) -> Result<bool, TargetError> {
        self.blocking(|place| Ok(place.path.exists())).await
    }

    async fn size(&self) -> Result<u64, TargetError> {
        self.blocking(|place| {
            let facts =
                std::fs::metadata(&place.path).map_err(|error| TargetError::io("look at", &place.path, error))?;
            let wal = std::fs::metadata(place.beside("-wal")).map_or(0, |facts| facts.len());
            Ok(facts.len() + wal)
        })
        .await
    }

    async fn estimate(&self) -> Result<Estimate, TargetError> {
        let database_bytes = self.size().await?;
        self.blocking(move |place| {
            let connection = place.open()?;
            let facts = || -> rusqlite::Result<(u64, u64)> {
                let pages: u64 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
                let page: u64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
                Ok((pages * page, content::user_tables(&connection)?.len() as u64))
            };
            let (backup_bytes, tables) = facts().map_err(|error| place.ours("estimate a backup", error))?;
            Ok(Estimate { database_bytes, backup_bytes, tables })
        })
        .await
    }

    async fn backup(
        &self,
        plan: &BackupPlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<BackupFacts, TargetError> {
        let dest = plan.dest.clone();
        self.blocking(move |place| copy::backup(place, &dest, &progress, &cancel)).await
    }

    async fn verify(&self, backup: &Path, sha256: Option<&str>) -> Result<BackupFacts, TargetError> {
        let (backup, sha256) = (backup.to_owned(), sha256.map(str::to_owned));
        self.blocking(move |_| copy::verify(&backup, sha256.as_deref())).await
    }

    async fn restore(
        &self,
        plan: &RestorePlan,
        progress: OnProgress,
        cancel: CancellationToken,
    ) -> Result<RestoreFacts, TargetError> {
        let plan = plan.clone();
        self.blocking(move |place| restore::restore(place, &plan, &progress, &cancel)).await
    }

    async fn execute(
        &self,
        script: &Script,
        options: &ExecuteOptions,
        observer: OnStatement,
        cancel: CancellationToken,
    ) -> Result<ScriptReport, TargetError> {
        let mut session = self.session().await?;
        run::execute(&mut session, script, options, &observer, cancel).await
    }

    async fn recorded(&self, job: &str) -> Result<Vec<StatementOutcome>, TargetError> {
        let mut session = self.session().await?;
        let markers = session.load(job).await?;
        Ok(markers
            .into_iter()
            .map(|marker| StatementOutcome { unknown: !marker.done || marker.outcome.unknown, ..marker.outcome })
            .collect())
    }

    async fn clear_markers(&self, job: &str) -> Result<u64, TargetError> {
        let session = self.session().await?;
        session.clear(job).await
    }

    async fn checksum(&self) -> Result<String, TargetError> {
        self.blocking(|place| {
            let mut connection = place.open()?;
            content::checksum(&mut connection).map(Content::finish).map_err(|error| place.ours("read it", error))
        })
        .await
    }

    async fn checksum_of(&self, backup: &Path) -> Result<String, TargetError> {
        let backup = backup.to_owned();
        self.blocking(move |_| {
            let mut connection = copy::open_copy(&backup)?;
            content::checksum(&mut connection).map(Content::finish).map_err(|error| refused(&backup, "read it", error))
        })
        .await
    }

    async fn destroy(&self, fence: u64) -> Result<bool, TargetError> {
        self.blocking(move |place| restore::destroy(place, fence)).await
    }
}

/// Size and checksum of a finished file, with the rows in it.
fn facts_of(path: &Path) -> Result<BackupFacts, TargetError> {
    let connection = copy::open_copy(path)?;
    let tables = content::row_counts(&connection).map_err(|error| refused(path, "count its rows", error))?;
    drop(connection);
    let (bytes, sha256) = file_sha256(path)?;
    Ok(BackupFacts { engine: "sqlite".to_owned(), bytes, sha256, tables })
}
