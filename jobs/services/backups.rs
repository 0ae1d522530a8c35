//! The backups of tenants: a file in the place of backups, and a document that makes it visible.
//!
//! Invariant: a backup has a document only when its file is complete, was read back and has a checksum (BACKUP-05).

use std::path::PathBuf;
use std::sync::Arc;

use leasehold_engine::store::StoreError;
use leasehold_engine::{Store, UnixMs};
use leasehold_targets::files::Files;
use serde::{Deserialize, Serialize};

/// Why a backup was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// A person asked for it (BACKUP-01).
    Manual,
    /// Before an SQL update (BACKUP-06).
    PreSql,
    /// Before a restore overwrote the data center (RESTORE-08).
    Safety,
}

/// A backup that is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    /// Its id.
    pub id: String,
    /// Whose it is.
    pub tenant: String,
    /// What it is a copy of.
    pub data_center: String,
    /// The name that a person gave it.
    pub name: String,
    /// What the person wrote about it.
    #[serde(default)]
    pub description: String,
    /// Why it was made.
    pub origin: Origin,
    /// The database engine that can read it.
    pub engine: String,
    /// Size of the file.
    pub bytes: u64,
    /// SHA-256 of the file, in hex.
    pub sha256: String,
    /// The file's name in the place of backups.
    pub file: String,
    /// The job that made it.
    pub job: String,
    /// When it became visible, ms.
    pub created_at: UnixMs,
}

/// The tenants' backups.
pub struct Backups {
    store: Store,
    files: Arc<dyn Files>,
    scratch: PathBuf,
}

impl Backups {
    pub(super) fn new(store: Store, files: Arc<dyn Files>, scratch: PathBuf) -> Self {
        Self { store, files, scratch }
    }

    /// A tenant's backup by its id.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn get(&self, tenant: &str, id: &str) -> Result<Option<Backup>, StoreError> {
        let held = self.store.document(&registry(tenant), id).await?;
        Ok(held.and_then(|document| serde_json::from_slice(&document.bytes).ok()))
    }

    /// A tenant's backups, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn list(&self, tenant: &str) -> Result<Vec<Backup>, StoreError> {
        let held = self.store.documents(&registry(tenant)).await?;
        let read = |document: leasehold_engine::store::Document| serde_json::from_slice(&document.bytes).ok();
        let mut all: Vec<Backup> = held.into_values().filter_map(read).collect();
        all.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
        Ok(all)
    }
}

/// The registry of one tenant's backups.
fn registry(tenant: &str) -> String {
    format!("backups/{tenant}")
}
