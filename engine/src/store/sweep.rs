//! The verbs of upkeep: promote, rescue, heartbeat. Each does a bounded amount and says how much (E6).

use super::{connect::Store, error::StoreError};
use crate::model::{JobId, UnixMs};

/// A lease that ends later than this was given before the clock went back, ms; nobody renews it any more.
const LONGEST_LEASE_MS: u64 = 86_400_000;

impl Store {
    /// Moves due jobs of a shard to ready or blocked; how many.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn promote(&self, shard: u16, limit: usize) -> Result<usize, StoreError> {
        self.promote_by(shard, limit, 0).await
    }

    /// Moves due jobs of a shard to ready or blocked, unless the store's clock shows a time after `no_later` (ms; 0: not
    /// known); how many.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn promote_by(&self, shard: u16, limit: usize, no_later: UnixMs) -> Result<usize, StoreError> {
        let mut cmd = self.begin(&self.scripts.promote, shard);
        cmd.arg(limit).arg(no_later);
        self.query("promote", cmd).await
    }

    /// Takes back jobs of a shard whose lease ran out; which.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn rescue(&self, shard: u16, limit: usize) -> Result<Vec<JobId>, StoreError> {
        self.rescue_until(shard, limit, UnixMs::MAX >> 12).await
    }

    /// Takes back jobs of a shard whose lease ran out by `until` (ms), and by now; which. After a jump of the clock the two
    /// differ.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn rescue_until(&self, shard: u16, limit: usize, until: UnixMs) -> Result<Vec<JobId>, StoreError> {
        const FAILURE: &str =
            r#"{"code":"worker_lost","message":"its worker was lost, and no attempt is left","retryable":true}"#;
        const NOTE: &str = r#"{"code":"worker_lost"}"#;
        let mut cmd = self.begin(&self.scripts.rescue, shard);
        cmd.arg(limit).arg(FAILURE).arg(NOTE).arg(until).arg(LONGEST_LEASE_MS);
        let ids: Vec<String> = self.query("rescue", cmd).await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Jobs of a shard that died with their worker and that nobody was told of yet, oldest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn untold(&self, shard: u16, limit: usize) -> Result<Vec<JobId>, StoreError> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.key(shard, "untold")).arg(0).arg(limit.max(1) - 1);
        let ids: Vec<String> = self.query("untold", cmd).await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// How many were dropped from those, since there were too many; once.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn never_told(&self, shard: u16) -> Result<u64, StoreError> {
        let mut cmd = redis::cmd("GETDEL");
        cmd.arg(self.key(shard, "never_told"));
        Ok(self.query::<Option<u64>>("untold", cmd).await?.unwrap_or(0))
    }

    /// Somebody was told of a job's death.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached; it is told again then.
    pub async fn note_told(&self, id: &JobId) -> Result<(), StoreError> {
        let mut cmd = redis::cmd("LREM");
        // Once only: it may have been revived and have died again since, and nobody was told of that.
        cmd.arg(self.key(id.shard(), "untold")).arg(1).arg(id.as_str());
        let _: u64 = self.query("untold", cmd).await?;
        Ok(())
    }

    /// Says that a worker lives; `None` says goodbye. Shard 0 keeps the list.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn heartbeat(&self, worker: &str, document: Option<&str>, ttl_ms: u64) -> Result<(), StoreError> {
        let mut cmd = self.begin(&self.scripts.heartbeat, 0);
        cmd.arg(worker).arg(document.unwrap_or_default()).arg(ttl_ms);
        let _: String = self.query("heartbeat", cmd).await?;
        Ok(())
    }
}
