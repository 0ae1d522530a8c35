//! One connection that runs a script's statements and keeps their markers.
//!
//! Invariant: a script never reaches our tables, another file or the journal's settings: the authorizer is on while its
//! words are compiled and run, and off for ours.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::config::DbConfig;
use rusqlite::fallible_iterator::FallibleIterator;
use rusqlite::hooks::{AuthAction, AuthContext, Authorization};
use rusqlite::{Batch, Connection, InterruptHandle, OptionalExtension};

use super::super::run::{Broke, Limits, Marker, Session};
use super::super::{StatementError, StatementOutcome};
use super::{Place, blocking};
use crate::TargetError;
use crate::script::Statement;

const TABLES: &str = "
    CREATE TABLE IF NOT EXISTS main.leasehold_statements (
        job TEXT NOT NULL, idx INTEGER NOT NULL, fence INTEGER NOT NULL, state TEXT NOT NULL, digest TEXT NOT NULL,
        outcome TEXT NOT NULL, at TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
        PRIMARY KEY (job, idx)) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS main.leasehold_fence (
        one INTEGER PRIMARY KEY CHECK (one = 1), fence INTEGER NOT NULL) WITHOUT ROWID;
    INSERT OR IGNORE INTO main.leasehold_fence VALUES (1, 0);";

/// A connection to a database file.
pub(super) struct SqliteSession {
    inner: Arc<Inner>,
    interrupt: InterruptHandle,
}

struct Inner {
    place: Place,
    connection: Mutex<Connection>,
    foreign: Arc<AtomicBool>,
    _lock: std::fs::File,
}

impl Drop for SqliteSession {
    /// A run that nobody waits for must not go on.
    fn drop(&mut self) {
        self.interrupt.interrupt();
    }
}

impl SqliteSession {
    pub(super) fn open(place: &Place) -> Result<Self, TargetError> {
        let lock = place.lock(false)?;
        let mut connection = place.open()?;
        let foreign = Arc::new(AtomicBool::new(false));
        let watched = Arc::clone(&foreign);
        let set_up = |connection: &mut Connection| -> rusqlite::Result<()> {
            connection.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
            connection.authorizer(Some(move |context: AuthContext<'_>| {
                if watched.load(Ordering::Relaxed) && is_forbidden(&context.action) {
                    Authorization::Deny
                } else {
                    Authorization::Allow
                }
            }))
        };
        set_up(&mut connection).map_err(|error| place.ours("open it", error))?;
        let interrupt = connection.get_interrupt_handle();
        let place = Place { path: place.path.clone() };
        let inner = Inner { place, connection: Mutex::new(connection), foreign, _lock: lock };
        Ok(Self { inner: Arc::new(inner), interrupt })
    }

    async fn with<T: Send + 'static>(
        &self,
        doing: &'static str,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, TargetError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || work(&inner.connection()).map_err(|error| inner.place.ours(doing, error))).await
    }

    /// Forgets the markers of a job.
    pub(super) async fn clear(&self, job: &str) -> Result<u64, TargetError> {
        let job = job.to_owned();
        self.with("forget markers", move |connection| {
            connection.execute_batch(TABLES)?;
            let count = connection.execute("DELETE FROM main.leasehold_statements WHERE job = ?1", [job])?;
            Ok(count as u64)
        })
        .await
    }
}

impl Inner {
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, text: &str, max_rows: Option<u64>) -> Result<u64, StatementError> {
        let connection = self.connection();
        // VACUUM copies all tables, ours too, by statements of its own; its only other form, INTO, is refused by class.
        let vacuum = text.get(..6).is_some_and(|word| word.eq_ignore_ascii_case("vacuum"));
        self.foreign.store(!vacuum, Ordering::Relaxed);
        let result = run_one(&connection, text, max_rows);
        self.foreign.store(false, Ordering::Relaxed);
        result
    }
}

fn run_one(connection: &Connection, text: &str, max_rows: Option<u64>) -> Result<u64, StatementError> {
    let mut batch = Batch::new(connection, text);
    let first = batch.next().map_err(|error| said(text, error))?;
    let Some(mut statement) = first else { return Ok(0) };
    if !matches!(batch.next(), Ok(None)) {
        return Err(StatementError::new("several_statements", "the database reads more than one statement here"));
    }
    if statement.parameter_count() > 0 {
        return Err(StatementError::new("parameters", "a script has no values for parameters"));
    }
    let returns = statement.column_count() > 0;
    let mut rows = statement.raw_query();
    let mut count = 0;
    while rows.next().map_err(|error| said(text, error))?.is_some() {
        count += 1;
        if max_rows.is_some_and(|most| count > most) {
            return Err(StatementError::new("too_many_rows", "it returns more rows than a statement may"));
        }
    }
    drop(rows);
    Ok(if returns { count } else { connection.changes() })
}

/// What a script may not do, whatever words it uses.
fn is_forbidden(action: &AuthAction<'_>) -> bool {
    let ours = |name: &str| name.get(..10).is_some_and(|start| start.eq_ignore_ascii_case("leasehold_"));
    match *action {
        AuthAction::Attach { .. } | AuthAction::Detach { .. } => true,
        AuthAction::Function { function_name } => {
            ["load_extension", "fts3_tokenizer"].iter().any(|name| function_name.eq_ignore_ascii_case(name))
        }
        AuthAction::Pragma { pragma_name, pragma_value } => is_forbidden_pragma(pragma_name, pragma_value.is_some()),
        AuthAction::Read { table_name, .. }
        | AuthAction::Insert { table_name }
        | AuthAction::Update { table_name, .. }
        | AuthAction::Delete { table_name }
        | AuthAction::CreateTable { table_name }
        | AuthAction::CreateTempTable { table_name }
        | AuthAction::DropTable { table_name }
        | AuthAction::DropTempTable { table_name }
        | AuthAction::AlterTable { table_name, .. }
        | AuthAction::CreateIndex { table_name, .. }
        | AuthAction::CreateTempIndex { table_name, .. }
        | AuthAction::DropIndex { table_name, .. }
        | AuthAction::CreateTrigger { table_name, .. }
        | AuthAction::CreateTempTrigger { table_name, .. }
        | AuthAction::CreateVtable { table_name, .. } => ours(table_name),
        AuthAction::CreateView { view_name } | AuthAction::CreateTempView { view_name } => ours(view_name),
        _ => false,
    }
}

fn is_forbidden_pragma(name: &str, sets: bool) -> bool {
    const NEVER: [&str; 4] = ["writable_schema", "temp_store_directory", "data_store_directory", "schema_version"];
    const NOT_SET: [&str; 5] = ["journal_mode", "locking_mode", "synchronous", "query_only", "trusted_schema"];
    let is = |other: &&str| name.eq_ignore_ascii_case(other);
    NEVER.iter().any(|other| is(other) && (sets || *other != "schema_version")) || (sets && NOT_SET.iter().any(is))
}

#[async_trait]
impl Session for SqliteSession {
    async fn claim(&mut self, fence: u64) -> Result<(), TargetError> {
        let inner = Arc::clone(&self.inner);
        blocking(move || raise_fence(&inner.place, &inner.connection(), fence)).await
    }

    async fn load(&mut self, job: &str) -> Result<Vec<Marker>, TargetError> {
        let job = job.to_owned();
        let found: Vec<(String, String, String)> = self
            .with("read markers", move |connection| {
                connection.execute_batch(TABLES)?;
                let mut query = connection.prepare(
                    "SELECT state, digest, outcome FROM main.leasehold_statements WHERE job = ?1 ORDER BY idx",
                )?;
                query.query_map([job], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?.collect()
            })
            .await?;
        found.into_iter().map(|(state, digest, outcome)| marker(&self.inner.place, &state, digest, &outcome)).collect()
    }

    async fn begin(&mut self) -> Result<(), TargetError> {
        self.with("open a transaction", |connection| {
            connection.execute_batch("BEGIN IMMEDIATE; SAVEPOINT leasehold_statement")
        })
        .await
    }

    async fn begin_as(&mut self, words: Option<&str>) -> Result<(), Broke> {
        let words = words.unwrap_or("BEGIN IMMEDIATE").to_owned();
        let inner = Arc::clone(&self.inner);
        let begun = blocking(move || Ok(inner.run(&words, None))).await?;
        begun.map(|_| ()).map_err(Broke::Sql)
    }

    async fn run(&mut self, text: &str, limits: &Limits) -> Result<u64, Broke> {
        let (inner, text, max_rows) = (Arc::clone(&self.inner), text.to_owned(), limits.max_rows);
        let work = blocking(move || Ok(inner.run(&text, max_rows)));
        tokio::pin!(work);
        let limit = async {
            match limits.timeout {
                Some(limit) => tokio::time::sleep(limit).await,
                None => std::future::pending().await,
            }
        };
        let error = tokio::select! {
            biased;
            done = &mut work => return done?.map_err(Broke::Sql),
            () = limits.cancel.cancelled() => None,
            () = limit => Some(StatementError::new("statement_timeout", "it took longer than one statement may")),
        };
        // An interrupt before the first step is lost, so it is repeated until the statement is over.
        let done = loop {
            self.interrupt.interrupt();
            tokio::select! {
                done = &mut work => break done?,
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        };
        match (done, error) {
            (Ok(rows), _) => Ok(rows),
            (Err(_), Some(timeout)) => Err(Broke::Sql(timeout)),
            (Err(_), None) => Err(Broke::Cancelled),
        }
    }

    async fn undo(&mut self) -> Result<(), TargetError> {
        self.with("undo a statement", |connection| {
            // Some errors undo the whole transaction at once.
            match connection.is_autocommit() {
                true => connection.execute_batch("BEGIN IMMEDIATE; SAVEPOINT leasehold_statement"),
                false => connection.execute_batch("ROLLBACK TO leasehold_statement"),
            }
        })
        .await
    }

    async fn record(&mut self, job: &str, fence: u64, markers: &[Marker]) -> Result<(), Broke> {
        let (inner, job, markers) = (Arc::clone(&self.inner), job.to_owned(), markers.to_vec());
        blocking(move || {
            let connection = inner.connection();
            if connection.is_autocommit() {
                // Without its transaction the effect is gone; its marker must not be written.
                return Ok(Err(StatementError::new("rolled_back", "the database undid the transaction")));
            }
            check_fence(&inner.place, &connection, fence)?;
            let written = markers.iter().try_for_each(|marker| write(&connection, &job, fence, marker));
            match written {
                Ok(()) => Ok(Ok(())),
                Err(error) => Err(inner.place.ours("write a marker", error)),
            }
        })
        .await?
        .map_err(Broke::Sql)
    }

    async fn commit(&mut self) -> Result<(), Broke> {
        let inner = Arc::clone(&self.inner);
        let committed = blocking(move || {
            let committed = inner.connection().execute_batch("COMMIT");
            Ok(committed.map_err(|error| said("", error)))
        });
        committed.await?.map_err(Broke::Sql)
    }

    async fn rollback(&mut self) -> Result<(), TargetError> {
        self.with("roll back", |connection| match connection.is_autocommit() {
            true => Ok(()),
            false => connection.execute_batch("ROLLBACK"),
        })
        .await
    }

    /// The connection to a file does not end by itself.
    async fn reopen(&mut self, _: &str, _: u64) -> Result<(), TargetError> {
        Ok(())
    }

    fn may_retry(&self, error: &StatementError) -> bool {
        error.code == "SQLITE_BUSY"
    }

    fn needs_alone(&self, _: &Statement, error: &StatementError) -> bool {
        error.text.contains("from within a transaction") || error.text.contains("inside a transaction")
    }
}

fn write(connection: &Connection, job: &str, fence: u64, marker: &Marker) -> rusqlite::Result<()> {
    let outcome = serde_json::to_string(&marker.outcome)
        .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    let state = if marker.done { "done" } else { "begun" };
    let fence = i64::try_from(fence).unwrap_or(i64::MAX);
    let mut insert = connection.prepare_cached(
        "INSERT INTO main.leasehold_statements (job, idx, fence, state, digest, outcome) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT (job, idx) DO UPDATE SET fence = excluded.fence, state = excluded.state, outcome = excluded.outcome,
         at = excluded.at WHERE leasehold_statements.state = 'begun' AND excluded.state = 'done'",
    )?;
    match insert.execute((job, marker.outcome.index, fence, state, &marker.digest, outcome))? {
        1 => Ok(()),
        changed => Err(rusqlite::Error::StatementChangedRows(changed)),
    }
}

fn marker(place: &Place, state: &str, digest: String, outcome: &str) -> Result<Marker, TargetError> {
    let outcome: StatementOutcome = serde_json::from_str(outcome).map_err(|error| TargetError::Corrupt {
        what: format!("a marker in {}", place.shown()),
        why: error.to_string(),
    })?;
    Ok(Marker { done: state == "done", digest, outcome })
}

/// Makes our tables, and raises the fence in a transaction of its own.
pub(super) fn raise_fence(place: &Place, connection: &Connection, fence: u64) -> Result<(), TargetError> {
    let begun = connection.execute_batch("BEGIN IMMEDIATE").and_then(|()| connection.execute_batch(TABLES));
    begun.map_err(|error| place.ours("raise the fence", error))?;
    match check_fence(place, connection, fence) {
        Ok(()) => connection.execute_batch("COMMIT").map_err(|error| place.ours("raise the fence", error)),
        Err(error) => {
            connection.execute_batch("ROLLBACK").map_err(|error| place.ours("raise the fence", error))?;
            Err(error)
        }
    }
}

fn check_fence(place: &Place, connection: &Connection, fence: u64) -> Result<(), TargetError> {
    let given = i64::try_from(fence).unwrap_or(i64::MAX);
    let raised = connection
        .execute("UPDATE main.leasehold_fence SET fence = ?1 WHERE fence <= ?1", [given])
        .map_err(|error| place.ours("raise the fence", error))?;
    if raised == 1 {
        return Ok(());
    }
    let seen = seen_fence(connection).map_err(|error| place.ours("read the fence", error))?.unwrap_or(0);
    Err(TargetError::StaleFence { target: place.shown(), given: fence, seen })
}

/// The newest fence in a file; `None` when nobody with a fence has been there.
pub(super) fn seen_fence(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let ours: bool =
        connection.query_row("SELECT count(*) FROM main.sqlite_master WHERE name = 'leasehold_fence'", [], |row| {
            row.get(0)
        })?;
    match ours {
        true => connection.query_row("SELECT fence FROM main.leasehold_fence", [], |row| row.get(0)).optional(),
        false => Ok(None),
    }
}

/// The database's words against a statement.
pub(super) fn said(text: &str, error: rusqlite::Error) -> StatementError {
    let offset = match &error {
        rusqlite::Error::SqlInputError { offset, .. } => usize::try_from(*offset).ok(),
        _ => None,
    };
    let code = error.sqlite_error().map_or("SQLITE_ERROR", |error| name(error.extended_code & 0xff));
    let words = match &error {
        rusqlite::Error::SqliteFailure(_, Some(words)) | rusqlite::Error::SqlInputError { msg: words, .. } => {
            words.clone()
        }
        other => other.to_string(),
    };
    let line = offset.and_then(|offset| text.get(..offset)).map(|before| before.matches('\n').count() + 1);
    StatementError { code: code.to_owned(), text: words, line: line.and_then(|line| u32::try_from(line).ok()) }
}

fn name(code: i32) -> &'static str {
    match code {
        4 => "SQLITE_ABORT",
        5 => "SQLITE_BUSY",
        6 => "SQLITE_LOCKED",
        8 => "SQLITE_READONLY",
        9 => "SQLITE_INTERRUPT",
        10 => "SQLITE_IOERR",
        11 => "SQLITE_CORRUPT",
        13 => "SQLITE_FULL",
        18 => "SQLITE_TOOBIG",
        19 => "SQLITE_CONSTRAINT",
        20 => "SQLITE_MISMATCH",
        23 => "SQLITE_AUTH",
        25 => "SQLITE_RANGE",
        26 => "SQLITE_NOTADB",
        _ => "SQLITE_ERROR",
    }
}
