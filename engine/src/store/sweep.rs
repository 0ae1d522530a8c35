//! The verbs of upkeep: promote, rescue, prune. Each does a bounded amount and says how much (E6).

use super::{connect::Store, error::StoreError};
use crate::model::{JobId, Place};

impl Store {
    /// Moves due jobs of a shard to ready or blocked; how many.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn promote(&self, shard: u16, limit: usize) -> Result<usize, StoreError> {
        let mut cmd = self.begin(&self.scripts.promote, shard);
        cmd.arg(limit);
        self.query("promote", cmd).await
    }

    /// Takes back jobs of a shard whose lease ran out; which.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn rescue(&self, shard: u16, limit: usize) -> Result<Vec<JobId>, StoreError> {
        const FAILURE: &str =
            r#"{"code":"worker_lost","message":"its worker was lost, and no attempt is left","retryable":true}"#;
        const NOTE: &str = r#"{"code":"worker_lost"}"#;
        let mut cmd = self.begin(&self.scripts.rescue, shard);
        cmd.arg(limit).arg(FAILURE).arg(NOTE);
        let ids: Vec<String> = self.query("rescue", cmd).await?;
        Ok(ids.iter().filter_map(|id| id.parse().ok()).collect())
    }

    /// Forgets jobs of a shard that ended in `place` longer ago than `max_age_ms`, or beyond `max_count`; how many entries.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn prune(
        &self,
        shard: u16,
        place: Place,
        max_age_ms: u64,
        max_count: u64,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let mut cmd = self.begin(&self.scripts.prune, shard);
        cmd.arg(place.as_str()).arg(max_age_ms).arg(max_count).arg(limit.min(500));
        self.query("prune", cmd).await
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
