//! What an idempotency key remembers, looked up without asking for anything.

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::JobId;

impl Store {
    /// The first job of a tenant's idempotency key, with the digest of what was asked for; `None` for a key that nobody used,
    /// or whose time is over.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn remembered(&self, tenant: &str, key: &str) -> Result<Option<(JobId, Bytes)>, StoreError> {
        let mut cmd = redis::cmd("GET");
        cmd.arg(self.key(self.shard_of(tenant), &format!("idempotency:{tenant}:{key}")));
        let held: Option<Bytes> = self.query("remembered", cmd).await?;
        Ok(held.as_ref().and_then(read))
    }
}

/// Id and digest, each behind a byte with its length; see `admit.lua`.
fn read(held: &Bytes) -> Option<(JobId, Bytes)> {
    let id_end = 1 + usize::from(*held.first()?);
    let id = std::str::from_utf8(held.get(1..id_end)?).ok()?.parse().ok()?;
    let digest_end = id_end + 1 + usize::from(*held.get(id_end)?);
    Some((id, held.slice_ref(held.get(id_end + 1..digest_end)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_remembered() {
        for bytes in [&b""[..], b"\x05ab", b"\x01!\x00", b"\xff"] {
            assert!(read(&Bytes::from_static(bytes)).is_none(), "{bytes:?}");
        }
    }
}
