//! Small documents that the service keeps in the store: tenants, keys, endpoints. Versioned; last writer does not win silently.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{connect::Store, error::StoreError};

/// A document and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Rises with each write; 1 is the first.
    pub version: u32,
    /// What was written.
    pub bytes: Bytes,
}

/// What came of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// Written; the new version.
    Ok(u32),
    /// The held version is another.
    Conflict(u32),
}

fn open(held: &Bytes) -> Option<Document> {
    let version = u32::from_le_bytes(held.get(..4)?.try_into().ok()?);
    Some(Document { version, bytes: held.slice(4..) })
}

impl Store {
    /// Reads a document.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn document(&self, registry: &str, id: &str) -> Result<Option<Document>, StoreError> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(self.key(0, &format!("registry:{registry}"))).arg(id);
        let held: Option<Bytes> = self.query("document", cmd).await?;
        Ok(held.as_ref().and_then(open))
    }

    /// Reads all documents of a registry, by id. Registries are small (tenants, keys, endpoints).
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn documents(&self, registry: &str) -> Result<BTreeMap<String, Document>, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(0, &format!("registry:{registry}")));
        let held: BTreeMap<String, Bytes> = self.query("documents", cmd).await?;
        Ok(held.into_iter().filter_map(|(id, bytes)| Some((id, open(&bytes)?))).collect())
    }

    /// Writes a document. `expected`: `None` whatever is there, `Some(0)` it must be new, else the version to replace.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn put_document(
        &self,
        registry: &str,
        id: &str,
        bytes: &[u8],
        expected: Option<u32>,
    ) -> Result<Put, StoreError> {
        let mut cmd = self.begin(&self.scripts.registry_put, 0);
        cmd.arg(registry).arg(id).arg(bytes).arg(expected.map_or_else(|| "*".to_owned(), |v| v.to_string()));
        let (word, version): (String, u32) = self.query("registry_put", cmd).await?;
        match word.as_str() {
            "ok" => Ok(Put::Ok(version)),
            "conflict" => Ok(Put::Conflict(version)),
            _ => Err(StoreError::UnknownAnswer { verb: "registry_put", answer: word }),
        }
    }

    /// Forgets a document; whether it was there.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn delete_document(&self, registry: &str, id: &str) -> Result<bool, StoreError> {
        let mut cmd = redis::cmd("HDEL");
        cmd.arg(self.key(0, &format!("registry:{registry}"))).arg(id);
        let gone: i64 = self.query("delete_document", cmd).await?;
        Ok(gone > 0)
    }
}
