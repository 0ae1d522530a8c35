//! The first API key: made by the first `up`, written to the data folder for the people of this machine only.

use std::io::Write as _;
use std::path::Path;

use leasehold_engine::Store;
use leasehold_jobs::policy::KeyRole;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::{ADMIN_KEY_FILE, error::BootError};
use crate::api::keys::create_key;

/// Makes sure that the data folder has a key that this store knows; whether one was made.
pub(super) async fn ensure(store: &Store, folder: &Path) -> Result<bool, BootError> {
    let path = folder.join(ADMIN_KEY_FILE);
    let held = std::fs::read_to_string(&path).unwrap_or_default();
    if !held.trim().is_empty() && is_known(store, held.trim()).await? {
        return Ok(false);
    }
    if !held.is_empty() {
        tracing::warn!(file = %path.display(), "the store does not know the admin key of the data folder; making a new one");
    }
    let fresh = create_key(store, "admin of this data folder", vec![KeyRole::Admin], None).await;
    let fresh = fresh.map_err(|problem| BootError::Other(format!("the admin key could not be made: {problem:?}")))?;
    write(folder, &path, &fresh.token).map_err(|source| BootError::DataFolder { folder: folder.to_owned(), source })?;
    Ok(true)
}

async fn is_known(store: &Store, token: &str) -> Result<bool, BootError> {
    let keys = store.documents("keys").await;
    let keys = keys.map_err(|source| BootError::Store { url: "its keys".to_owned(), source })?;
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
