//! The first API key: made by the first `up`, written to the data folder for the people of this machine only.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use leasehold_engine::Store;
use leasehold_engine::store::Document;
use leasehold_jobs::policy::KeyRole;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ADMIN_KEY_FILE, error::BootError};
use crate::api::keys::create_key;

/// Makes sure that the data folder has a key that this store knows.
pub(super) async fn ensure(store: &Store, folder: &Path) -> Result<(), BootError> {
    let path = folder.join(ADMIN_KEY_FILE);
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if !held.trim().is_empty() && is_known(store, held.trim()).await? {
        return Ok(());
    }
    if !held.is_empty() {
        tracing::warn!(file = %path.display(), "the store does not know the admin key of the data folder; making a new one");
    }
    let fresh = create_key(store, "admin of this data folder", vec![KeyRole::Admin], None).await;
    let fresh = fresh.map_err(|problem| BootError::Other(format!("the admin key could not be made: {problem:?}")))?;
    write(folder, &path, &fresh.token).map_err(|source| BootError::DataFolder { folder: folder.to_owned(), source })?;
    tracing::info!(file = %path.display(), "the admin key was made");
    Ok(())
}

/// Makes sure that this store has any key at all, so that the first API of several processes can be spoken to.
pub(super) async fn ensure_any(store: &Store, folder: &Path) -> Result<(), BootError> {
    if !keys(store).await?.is_empty() {
        return Ok(());
    }
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|source| BootError::DataFolder { folder: folder.to_owned(), source })?;
    ensure(store, folder).await
}

async fn keys(store: &Store) -> Result<BTreeMap<String, Document>, BootError> {
    let keys = store.documents("keys").await;
    keys.map_err(|source| BootError::Store { url: "its keys".to_owned(), source })
}

async fn is_known(store: &Store, token: &str) -> Result<bool, BootError> {
    let keys = keys(store).await?;
    let hash = hex::encode(Sha256::digest(token));
    let is_it = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).is_ok_and(|key| key["hash"] == hash.as_str());
    Ok(keys.values().any(|key| is_it(&key.bytes)))
}

/// Written beside and moved into place, so that nobody reads half a key; mode 0600 from its first byte.
fn write(folder: &Path, path: &Path, token: &str) -> std::io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    writeln!(file, "{token}")?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}
