//! Replaces a database file's content by a backup's, or removes the file.
//!
//! Invariant: the live file changes in one SQLite transaction, made of a copy that was proven first; until the new
//! content is proven, the old one lies beside it and is put back if the proof fails.

use std::path::{Path, PathBuf};

use rusqlite::Connection;
use tokio_util::sync::CancellationToken;

use super::super::content::{Content, expect_sha256, sync};
use super::super::{OnProgress, Progress, RestoreFacts, RestorePlan};
use super::copy::{check, dangling_rows, open_copy, pages, remove_with_journals, snapshot};
use super::session::{raise_fence, seen_fence};
use super::{Place, content, refused};
use crate::TargetError;

const CANDIDATE: &str = ".leasehold-new";
const OLD: &str = ".leasehold-old";

/// Restores `plan.source` into the file.
pub(super) fn restore(
    place: &Place,
    plan: &RestorePlan,
    progress: &OnProgress,
    cancel: &CancellationToken,
) -> Result<RestoreFacts, TargetError> {
    let _lock = place.lock(true)?;
    let existed = place.path.exists();
    if existed {
        raise_fence(place, &place.open()?, plan.fence)?;
    }
    let (candidate, old) = (place.beside(CANDIDATE), place.beside(OLD));
    remove_with_journals(&candidate);
    let steps = Steps { place, plan, progress, cancel, candidate: &candidate, old: &old };
    let done =
        steps.prepare(existed).and_then(|bytes| steps.swap(existed).map(|facts| RestoreFacts { bytes, ..facts }));
    remove_with_journals(&candidate);
    if done.is_ok() {
        remove_with_journals(&old);
    }
    done
}

struct Steps<'s> {
    place: &'s Place,
    plan: &'s RestorePlan,
    progress: &'s OnProgress,
    cancel: &'s CancellationToken,
    candidate: &'s Path,
    old: &'s Path,
}

impl Steps<'_> {
    /// Copies the backup beside the live file, proves it, gives it our fence and the live file's page size.
    fn prepare(&self, existed: bool) -> Result<u64, TargetError> {
        self.say("checking the backup");
        let (bytes, _) = expect_sha256(&self.plan.source, self.plan.sha256.as_deref())?;
        let free = crate::space::free_bytes(&self.place.path);
        let needed = if existed { bytes.saturating_mul(2) } else { bytes };
        if free.is_some_and(|free| free < needed) {
            return Err(TargetError::NoSpace { what: self.place.shown(), needed: Some(needed), free });
        }
        std::fs::copy(&self.plan.source, self.candidate)
            .map_err(|error| TargetError::io("copy to", self.candidate, error))?;
        let source = open_copy(self.candidate)?;
        check(&source, self.candidate)?;
        drop(source);
        self.stop_if_cancelled()?;
        let copy = Connection::open(self.candidate).map_err(|error| self.refused(error))?;
        copy.execute_batch("PRAGMA journal_mode = DELETE;").map_err(|error| self.refused(error))?;
        if existed {
            let size: i64 = self.page_size(&self.place.open()?)?;
            if size != self.page_size(&copy)? {
                copy.execute_batch(&format!("PRAGMA page_size = {size}; VACUUM;"))
                    .map_err(|error| self.refused(error))?;
            }
        }
        set_fence(self.place, &copy, self.plan.fence)?;
        drop(copy);
        sync(self.candidate)?;
        Ok(bytes)
    }

    /// Puts the candidate's pages into the live file, and proves what is there.
    fn swap(&self, existed: bool) -> Result<RestoreFacts, TargetError> {
        if !existed {
            std::fs::rename(self.candidate, &self.place.path)
                .map_err(|error| TargetError::io("rename to", &self.place.path, error))?;
            sync(&self.place.path)?;
            return self.proven(None);
        }
        remove_with_journals(self.old);
        self.say("keeping the old content");
        snapshot(self.place, self.old, &super::super::quiet(), self.cancel)?;
        self.stop_if_cancelled()?;
        let expected = checksum_at(self.candidate)?;
        self.say("writing the new content");
        // One write transaction of SQLite: a crash in it leaves the old content.
        overwrite(self.place, self.candidate, self.progress, self.cancel)?;
        self.proven(Some(&expected)).inspect_err(|error| {
            tracing::error!(target = %self.place.shown(), %error, "the restored content is not sound; putting the old back");
            if let Err(error) = overwrite(self.place, self.old, &super::super::quiet(), &CancellationToken::new()) {
                tracing::error!(target = %self.place.shown(), old = %self.old.display(), %error, "the old content could not be put back");
            }
        })
    }

    fn proven(&self, expected: Option<&str>) -> Result<RestoreFacts, TargetError> {
        self.say("checking the new content");
        let mut live = self.place.open()?;
        check(&live, &self.place.path)?;
        if let Some(expected) = expected {
            let found =
                content::checksum(&mut live).map(Content::finish).map_err(|error| self.place.ours("read it", error))?;
            if found != expected {
                return Err(TargetError::Corrupt {
                    what: self.place.shown(),
                    why: "the restored content is not the backup's".to_owned(),
                });
            }
        }
        let tables = content::row_counts(&live).map_err(|error| self.place.ours("count its rows", error))?;
        let dangling = dangling_rows(&live);
        let note = format!("{dangling} rows refer to rows that do not exist, as in the backup");
        Ok(RestoreFacts { bytes: 0, tables, notes: (dangling > 0).then_some(note).into_iter().collect() })
    }

    fn page_size(&self, connection: &Connection) -> Result<i64, TargetError> {
        connection.pragma_query_value(None, "page_size", |row| row.get(0)).map_err(|error| self.refused(error))
    }

    fn say(&self, text: &str) {
        (self.progress)(Progress { done: 0, total: None, text: text.to_owned() });
    }

    fn stop_if_cancelled(&self) -> Result<(), TargetError> {
        match self.cancel.is_cancelled() {
            true => Err(TargetError::Cancelled { doing: "restore".to_owned() }),
            false => Ok(()),
        }
    }

    fn refused(&self, error: rusqlite::Error) -> TargetError {
        refused(self.candidate, "prepare the restore", error)
    }
}

fn checksum_at(path: &Path) -> Result<String, TargetError> {
    let mut connection = open_copy(path)?;
    content::checksum(&mut connection).map(Content::finish).map_err(|error| refused(path, "read it", error))
}

fn overwrite(place: &Place, from: &Path, progress: &OnProgress, cancel: &CancellationToken) -> Result<(), TargetError> {
    let source = open_copy(from)?;
    let mut live = place.open()?;
    pages(&source, &mut live, &place.path, progress, cancel)
}

/// The backup brings an older fence along: ours must hold from the first moment.
fn set_fence(place: &Place, copy: &Connection, fence: u64) -> Result<(), TargetError> {
    let seen = seen_fence(copy).map_err(|error| place.ours("read the fence", error))?;
    if seen.is_none_or(|seen| seen <= fence) {
        return raise_fence(place, copy, fence);
    }
    let fence = i64::try_from(fence).unwrap_or(i64::MAX);
    copy.execute("UPDATE main.leasehold_fence SET fence = ?1", [fence])
        .map_err(|error| place.ours("set the fence", error))?;
    Ok(())
}

/// Removes the file for good.
pub(super) fn destroy(place: &Place, fence: u64) -> Result<bool, TargetError> {
    let _lock = place.lock(true)?;
    if !place.path.exists() {
        return Ok(false);
    }
    raise_fence(place, &place.open()?, fence)?;
    let beside: [PathBuf; 5] =
        [place.path.clone(), place.beside("-wal"), place.beside("-shm"), place.beside("-journal"), place.beside(OLD)];
    for path in beside.iter().filter(|path| path.exists()) {
        std::fs::remove_file(path).map_err(|error| TargetError::io("remove", path, error))?;
    }
    remove_with_journals(&place.beside(CANDIDATE));
    Ok(true)
}
