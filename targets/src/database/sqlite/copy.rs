//! Copies a database file page by page, and reads a copy through.
//!
//! Invariant: a copy is one snapshot, and one file without a journal beside it; a broken one is removed.

use std::path::Path;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags};
use tokio_util::sync::CancellationToken;

use super::super::content::{expect_sha256, sync};
use super::super::{BackupFacts, OnProgress, Progress};
use super::{PATIENCE, Place, content, facts_of, refused};
use crate::TargetError;

/// Pages copied between two looks at the cancel token.
const PAGES: i32 = 256;

/// Writes a snapshot of the live file to `dest`.
pub(super) fn backup(
    place: &Place,
    dest: &Path,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<BackupFacts, TargetError> {
    if dest.exists() {
        return Err(TargetError::BadName { name: dest.display().to_string(), why: "it exists already".to_owned() });
    }
    let done = snapshot(place, dest, progress, cancel).and_then(|()| facts_of(dest));
    if done.is_err() {
        remove_with_journals(dest);
    }
    done
}

/// Copies the live file to a new one, in one snapshot.
pub(super) fn snapshot(
    place: &Place,
    dest: &Path,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<(), TargetError> {
    let source = place.open()?;
    // An open read transaction pins the snapshot: writers do not restart the copy.
    source
        .execute_batch("BEGIN; SELECT count(*) FROM main.sqlite_master;")
        .map_err(|error| place.ours("read it", error))?;
    let mut copy = Connection::open(dest).map_err(|error| refused(dest, "create it", error))?;
    pages(&source, &mut copy, dest, progress, cancel)?;
    copy.execute_batch("PRAGMA journal_mode = DELETE;").map_err(|error| refused(dest, "finish the copy", error))?;
    drop(copy);
    sync(dest)
}

/// Copies all pages from one connection to the other.
pub(super) fn pages(
    source: &Connection,
    dest: &mut Connection,
    path: &Path,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<(), TargetError> {
    let backup = Backup::new(source, dest).map_err(|error| refused(path, "copy pages", error))?;
    let mut moved = Instant::now();
    loop {
        if cancel.is_cancelled() {
            return Err(TargetError::Cancelled { doing: "copy pages".to_owned() });
        }
        let step = backup.step(PAGES).map_err(|error| refused(path, "copy pages", error))?;
        let state = backup.progress();
        progress(Progress {
            done: u64::try_from(state.pagecount - state.remaining).unwrap_or(0),
            total: u64::try_from(state.pagecount).ok(),
            text: "copying pages".to_owned(),
        });
        match step {
            StepResult::Done => return Ok(()),
            // Nothing is written yet: who holds the file may be at it for hours, and then somebody else's turn is better.
            StepResult::Busy | StepResult::Locked if moved.elapsed() > PATIENCE => {
                let why = "another connection holds it while trying to copy pages".to_owned();
                return Err(TargetError::Busy { target: format!("sqlite:{}", path.display()), why });
            }
            StepResult::Busy | StepResult::Locked => std::thread::sleep(Duration::from_millis(20)),
            _ => moved = Instant::now(),
        }
    }
}

/// Opens a backup for reading only.
pub(super) fn open_copy(path: &Path) -> Result<Connection, TargetError> {
    if !path.exists() {
        return Err(TargetError::NotFound { what: path.display().to_string() });
    }
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    Connection::open_with_flags(path, flags).map_err(|error| refused(path, "open it", error))
}

/// Reads a backup from its first page to its last.
pub(super) fn verify(path: &Path, sha256: Option<&str>) -> Result<BackupFacts, TargetError> {
    let (bytes, sha256) = expect_sha256(path, sha256)?;
    let connection = open_copy(path)?;
    check(&connection, path)?;
    let tables = content::row_counts(&connection).map_err(|error| damaged(path, &error))?;
    Ok(BackupFacts { engine: "sqlite".to_owned(), bytes, sha256, tables })
}

/// The file's own integrity.
pub(super) fn check(connection: &Connection, path: &Path) -> Result<(), TargetError> {
    // SQLite takes an empty file for an empty database.
    let pages: i64 =
        connection.pragma_query_value(None, "page_count", |row| row.get(0)).map_err(|error| damaged(path, &error))?;
    if pages == 0 {
        return Err(TargetError::Corrupt { what: path.display().to_string(), why: "it is empty".to_owned() });
    }
    let found: String = connection
        .query_row("PRAGMA main.integrity_check(1)", [], |row| row.get(0))
        .map_err(|error| damaged(path, &error))?;
    if found != "ok" {
        return Err(TargetError::Corrupt { what: path.display().to_string(), why: found });
    }
    Ok(())
}

/// How many rows refer to rows that are not there. SQLite looks for none by itself, so that many a sound file has some,
/// and a copy that has them too is a good copy. A schema in which they cannot be looked for counts as none.
pub(super) fn dangling_rows(connection: &Connection) -> u64 {
    let count = "SELECT count(*) FROM pragma_foreign_key_check";
    connection.query_row(count, [], |row| row.get(0)).unwrap_or(0)
}

fn damaged(path: &Path, error: &rusqlite::Error) -> TargetError {
    TargetError::Corrupt { what: path.display().to_string(), why: error.to_string() }
}

/// Removes a file of ours and what SQLite may have put beside it.
pub(super) fn remove_with_journals(path: &Path) {
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut name = path.as_os_str().to_owned();
        name.push(suffix);
        // It is a temporary file: what cannot be removed now is swept by the next restore.
        let _ = std::fs::remove_file(name);
    }
}
