//! The backups of tenants: a file in the place of backups, and a document that makes it visible.
//!
//! Invariant: a backup has a document only when its file is complete, was read back and has a checksum (BACKUP-05).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use leasehold_engine::store::StoreError;
use leasehold_engine::{Effect, JobError, Recovery, Store, UnixMs};
use leasehold_targets::database::{BackupPlan, Database};
use leasehold_targets::files::Files;
use serde::{Deserialize, Serialize};

use super::scratch::{self, STALE, Scratch};
use crate::catalogue::{Ctx, failure};

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

    /// Makes a backup in two steps, `copy` and `publish` after `wanted.steps`: the second makes it visible.
    ///
    /// # Errors
    /// The copy's or the store's. Then nothing is visible.
    pub(crate) async fn make(&self, ctx: &Ctx, db: &dyn Database, wanted: Wanted<'_>) -> Result<Backup, JobError> {
        let id = format!("bk_{}{}", ctx.id(), wanted.suffix);
        let place = format!("{}/{}/{id}", ctx.tenant(), wanted.data_center);
        let [copy_step, publish_step] = wanted.steps;
        let copied = ctx.step(copy_step, Effect::Idempotent, || self.copy(ctx, db, &place, wanted.stretch)).await?;
        let publish = || self.publish(ctx, &place, &copied, id.clone(), &wanted);
        let published = ctx.step(publish_step, Effect::Idempotent, publish).await;
        if let Err(error) = &published
            && error.recovery == Recovery::Cancelled
        {
            self.discard(&copied.file).await;
        }
        published
    }

    /// The same within a step of the caller's own.
    ///
    /// # Errors
    /// As [`Backups::make`].
    pub(crate) async fn make_at_once(
        &self,
        ctx: &Ctx,
        db: &dyn Database,
        wanted: Wanted<'_>,
    ) -> Result<Backup, JobError> {
        let id = format!("bk_{}{}", ctx.id(), wanted.suffix);
        let place = format!("{}/{}/{id}", ctx.tenant(), wanted.data_center);
        let copied = self.copy(ctx, db, &place, wanted.stretch).await?;
        self.publish(ctx, &place, &copied, id, &wanted).await
    }

    /// Copies a database into the place of backups under `place` and the fence, and reads the copy back.
    pub(crate) async fn copy(
        &self,
        ctx: &Ctx,
        db: &dyn Database,
        place: &str,
        (from, to): (u8, u8),
    ) -> Result<Copied, JobError> {
        let part = self.scratch(ctx).await?;
        let plan = BackupPlan { dest: part.path().to_owned(), job: ctx.id().to_string() };
        let token = ctx.cancelled().clone();
        let facts = db.backup(&plan, ctx.stretch(from, to), token).await.map_err(failure)?;
        // The fence is part of the name: a worker that came back late cannot replace a newer one's file.
        let file = format!("{place}-{}.backup", ctx.fence());
        let stored = self.files.put(&file, part.path()).await.map_err(failure)?;
        drop(part);
        let read_back = async {
            if stored.sha256 != facts.sha256 {
                let text = format!("{file} was stored with SHA-256 {}, the copy has {}", stored.sha256, facts.sha256);
                return Err(JobError::transient("target_corrupt", text));
            }
            let held = self.fetch(ctx, &file).await?;
            db.verify(held.path(), Some(&facts.sha256)).await.map_err(failure)
        };
        match read_back.await {
            Ok(_) => {
                ctx.log(format!("copied {} bytes, read back, sha256 {}", facts.bytes, facts.sha256));
                Ok(Copied { file, engine: facts.engine, bytes: facts.bytes, sha256: facts.sha256 })
            }
            Err(error) => {
                self.discard(&file).await;
                Err(error)
            }
        }
    }

    async fn publish(
        &self,
        ctx: &Ctx,
        place: &str,
        copied: &Copied,
        id: String,
        wanted: &Wanted<'_>,
    ) -> Result<Backup, JobError> {
        let backup = Backup {
            id,
            tenant: ctx.tenant().to_owned(),
            data_center: wanted.data_center.to_owned(),
            name: wanted.name.to_owned(),
            description: wanted.description.to_owned(),
            origin: wanted.origin,
            engine: copied.engine.clone(),
            bytes: copied.bytes,
            sha256: copied.sha256.clone(),
            file: copied.file.clone(),
            job: ctx.id().to_string(),
            created_at: ctx.now().await?,
        };
        let document = serde_json::to_vec(&backup)
            .map_err(|error| JobError::permanent("internal", format!("a backup's document: {error}")))?;
        let put = self.store.put_document(&registry(ctx.tenant()), &backup.id, &document, Some(0)).await;
        put.map_err(|error| JobError::transient(error.code(), error.to_string()))?;
        self.sweep(place, &copied.file).await;
        Ok(backup)
    }

    /// Removes what earlier attempts left under the same place.
    async fn sweep(&self, place: &str, keep: &str) {
        let Ok(found) = self.files.list(&format!("{place}-")).await else { return };
        for file in found.iter().filter(|file| file.name != keep) {
            self.discard(&file.name).await;
        }
    }

    /// Removes a file that no document names.
    pub(crate) async fn discard(&self, file: &str) {
        if let Err(error) = self.files.delete(file).await {
            tracing::warn!(file, code = error.code(), %error, "a file without a document could not be removed");
        }
    }

    /// A stored file as a path on this machine.
    pub(crate) async fn fetch(&self, ctx: &Ctx, file: &str) -> Result<Held, JobError> {
        match self.files.local_path(file).await.map_err(failure)? {
            Some(path) => Ok(Held { path, scratch: None }),
            None => {
                let scratch = self.scratch(ctx).await?;
                self.files.get(file, scratch.path()).await.map_err(failure)?;
                Ok(Held { path: scratch.path().to_owned(), scratch: Some(scratch) })
            }
        }
    }

    async fn scratch(&self, ctx: &Ctx) -> Result<Scratch, JobError> {
        let failed = |error: std::io::Error| {
            JobError::transient("target_io", format!("the folder {}: {error}", self.scratch.display()))
        };
        Scratch::new(&self.scratch, ctx).await.map_err(failed)
    }

    /// Removes copies that a lost attempt left half-written, on this machine and in the place of backups; how many.
    ///
    /// # Errors
    /// A folder cannot be read, or the store does not say which jobs run.
    pub async fn sweep_leftovers(&self) -> Result<u64, JobError> {
        let removed = scratch::sweep(&self.scratch, &self.store).await?;
        Ok(removed + self.files.sweep(STALE).await.map_err(failure)?)
    }
}

/// A backup that is to be made.
pub(crate) struct Wanted<'a> {
    pub(crate) data_center: &'a str,
    pub(crate) name: &'a str,
    pub(crate) description: &'a str,
    pub(crate) origin: Origin,
    /// Makes the id differ from that of another backup of the same job.
    pub(crate) suffix: &'a str,
    /// The names of the two steps.
    pub(crate) steps: [&'static str; 2],
    /// The stretch of the job's progress that the copy takes.
    pub(crate) stretch: (u8, u8),
}

/// A complete copy that nobody sees yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Copied {
    pub(crate) file: String,
    pub(crate) engine: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: String,
}

/// A file on this machine; a fetched copy is removed when this is dropped.
pub(crate) struct Held {
    path: PathBuf,
    #[expect(dead_code, reason = "held for its drop")]
    scratch: Option<Scratch>,
}

impl Held {
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// The registry of one tenant's backups.
fn registry(tenant: &str) -> String {
    format!("backups/{tenant}")
}
