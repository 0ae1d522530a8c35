//! Copies that are being made, in a folder of this machine.
//!
//! Invariant: a copy's name says which attempt makes it. It is removed when that attempt does not run, and never before, however
//! long the attempt takes.

use std::path::{Path, PathBuf};
use std::time::Duration;

use leasehold_engine::{JobError, JobId, Place, Store};

use crate::catalogue::Ctx;

/// For so long nobody has written to what nobody can be asked about: a job that the store does not know, a file without a name.
pub(super) const STALE: Duration = Duration::from_secs(86_400);

/// A file that is being made; removed when this is dropped.
pub(super) struct Scratch {
    path: PathBuf,
}

impl Scratch {
    pub(super) async fn new(folder: &Path, ctx: &Ctx) -> std::io::Result<Self> {
        tokio::fs::create_dir_all(folder).await?;
        let nonce = getrandom::u32().unwrap_or_default();
        Ok(Self { path: folder.join(format!("{}-{}-{nonce:08x}.part", ctx.id(), ctx.fence())) })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // It is gone already when the operation that makes it failed and cleaned up.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The attempt that makes a file of this name (or one beside it, as databases have them); `None` when it is none of ours.
fn maker(name: &str) -> Option<(JobId, u64)> {
    let (made, _) = name.split_once(".part")?;
    let mut parts = made.rsplitn(3, '-');
    let (_nonce, fence, id) = (parts.next()?, parts.next()?, parts.next()?);
    Some((id.parse().ok()?, fence.parse().ok()?))
}

/// Removes what no running attempt makes; how many files.
pub(super) async fn sweep(folder: &Path, store: &Store) -> Result<u64, JobError> {
    let failed =
        |error: std::io::Error| JobError::transient("target_io", format!("the folder {}: {error}", folder.display()));
    let mut entries = match tokio::fs::read_dir(folder).await {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(0),
        entries => entries.map_err(failed)?,
    };
    let mut removed = 0;
    while let Some(entry) = entries.next_entry().await.map_err(failed)? {
        let name = entry.file_name();
        let Some((id, fence)) = name.to_str().and_then(maker) else { continue };
        let job = store.job(&id).await.map_err(|error| JobError::transient(error.code(), error.to_string()))?;
        let is_left = match job {
            Some(job) => job.record.place != Place::Running || job.record.fence != fence,
            // It may be of another store, by a mistake in a configuration.
            None => is_stale(&entry.path()).await,
        };
        if is_left && tokio::fs::remove_file(entry.path()).await.is_ok() {
            tracing::info!(job = %id, file = %entry.path().display(), "removed what a lost attempt left half-written");
            removed += 1;
        }
    }
    Ok(removed)
}

async fn is_stale(path: &Path) -> bool {
    let modified = tokio::fs::metadata(path).await.and_then(|facts| facts.modified());
    modified.ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age >= STALE)
}
