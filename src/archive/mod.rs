//! The archive: finished jobs that upkeep forgets, as zstd-compressed JSON Lines in a place of files, one object for those
//! of one day, tenant, kind and place that were put away together.
//!
//! Invariants: `put` is done only when every object was read back as it was written; nothing here changes or removes an
//! object. A job may lie in two objects (a crash between putting and forgetting); readers show it once.

mod line;
mod name;
mod object;
mod page;

use std::{path::PathBuf, sync::Arc};

use async_trait::async_trait;
use futures::{StreamExt as _, TryStreamExt as _};
use leasehold_engine::{
    JobView,
    upkeep::{Archive, ArchiveError},
};
use leasehold_targets::{TargetError, files, files::Files};

pub use page::{ArchivePage, ArchiveQuery};

/// Objects that are written at the same time: a disk flushes several as fast as one.
const WRITES: usize = 8;

/// Why the archive could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ShelfError {
    /// The place of files refused.
    #[error("the archive cannot be used: {0}")]
    Target(#[from] TargetError),
    /// An object does not hold what it should.
    #[error("the object {object} of the archive is damaged: {why}")]
    Damaged {
        /// Its name.
        object: String,
        /// The first finding.
        why: String,
    },
    /// A cursor that no page gave.
    #[error("`{0}` is no cursor of the archive")]
    BadCursor(String),
}

impl ShelfError {
    /// Stable code for logs, metrics and problem+json.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Target(error) => error.code(),
            Self::Damaged { .. } => "archive_damaged",
            Self::BadCursor(_) => "invalid_argument",
        }
    }
}

/// Finished jobs in a place of files.
#[derive(Clone)]
pub struct Shelf {
    files: Arc<dyn Files>,
    scratch: PathBuf,
}

impl std::fmt::Debug for Shelf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Shelf").field(&self.files.shown()).finish()
    }
}

impl Shelf {
    /// Opens the archive at `file:DIR`; `scratch` is a folder of this machine for what is being read.
    ///
    /// # Errors
    /// [`ShelfError::Target`] for an address that this build cannot use.
    pub fn open(url: &str, scratch: impl Into<PathBuf>) -> Result<Self, ShelfError> {
        Ok(Self { files: files::open(url)?, scratch: scratch.into() })
    }

    /// Where it is, without secrets.
    #[must_use]
    pub fn shown(&self) -> String {
        self.files.shown()
    }
}

#[async_trait]
impl Archive for Shelf {
    async fn put(&self, jobs: &[JobView]) -> Result<(), ArchiveError> {
        let objects = object::pack(jobs).map_err(told)?;
        let writes = objects.into_iter().map(|object| self.write(object));
        futures::stream::iter(writes).buffer_unordered(WRITES).try_collect::<()>().await.map_err(told)
    }
}

fn told(error: ShelfError) -> ArchiveError {
    ArchiveError { code: error.code(), text: error.to_string() }
}

#[cfg(test)]
mod tests;
