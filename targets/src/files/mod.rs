//! Files: put, get, list, delete, by names in a flat or foldered space.
//!
//! Invariant: a name is either absent or complete. Nobody sees a file that is still being written.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::TargetError;

mod directory;

/// What is known of a stored file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFacts {
    /// Its name, with `/` between folders.
    pub name: String,
    /// Its size.
    pub bytes: u64,
    /// When it was last written, milliseconds since 1970 UTC.
    pub modified_ms: i64,
}

/// What was stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, in hex.
    pub sha256: String,
}

/// One place that keeps files.
#[async_trait]
pub trait Files: Send + Sync {
    /// The address without its secrets.
    fn shown(&self) -> String;

    /// Stores a local file under `name`, replacing an older one in one move. The local file stays.
    async fn put(&self, name: &str, source: &Path) -> Result<Stored, TargetError>;

    /// Stores bytes under `name`.
    async fn put_bytes(&self, name: &str, content: &[u8]) -> Result<Stored, TargetError>;

    /// Copies a stored file to a local path that does not exist yet.
    async fn get(&self, name: &str, dest: &Path) -> Result<Stored, TargetError>;

    /// A path on this machine at which the file may be read, when the place is local.
    async fn local_path(&self, name: &str) -> Result<Option<PathBuf>, TargetError>;

    /// Stored files whose names start with `prefix`, by name. Only the folder that the prefix names is read.
    async fn list(&self, prefix: &str) -> Result<Vec<FileFacts>, TargetError>;

    /// Names of the folders directly in `folder` (which ends with `/`, or is empty for the outermost), by name.
    async fn folders(&self, folder: &str) -> Result<Vec<String>, TargetError>;

    /// What is known of `name`; `None` when it is absent.
    async fn stat(&self, name: &str) -> Result<Option<FileFacts>, TargetError>;

    /// Removes `name`; says whether it was there.
    async fn delete(&self, name: &str) -> Result<bool, TargetError>;

    /// Removes what broken writes left behind: what nobody writes to, nor has since `older_than`; says how many.
    async fn sweep(&self, older_than: std::time::Duration) -> Result<u64, TargetError>;
}

/// Opens `file:DIR`. `s3://` is refused: it is not built yet.
pub fn open(url: &str) -> Result<Arc<dyn Files>, TargetError> {
    Ok(Arc::new(directory::Directory::new(crate::folder::of_address(url, "files")?)))
}
