//! Alerts: what somebody should look at. A short stream in each shard; the newest thousand or so are kept (E7).

use std::collections::HashMap;

use super::{connect::Store, error::StoreError};
use crate::model::UnixMs;

/// About as many are kept in a shard.
const CAP: usize = 1000;

/// Something that somebody should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alert {
    /// Its shard and its place in the stream; unique.
    pub id: String,
    /// What it is: `schedule_missed`, `clock_jumped`, …
    pub word: String,
    /// When, ms.
    pub at: UnixMs,
    /// A JSON document.
    pub document: String,
}

impl Store {
    /// Tells of something. After a lost reply it may be told twice.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn alert(&self, word: &str, document: &str) -> Result<(), StoreError> {
        let at = self.now().await?;
        let mut cmd = redis::cmd("XADD");
        cmd.arg(self.key(0, "alerts")).arg("MAXLEN").arg("~").arg(CAP).arg("*");
        cmd.arg("word").arg(word).arg("at").arg(at).arg("document").arg(document);
        let _: String = self.query("alert", cmd).await?;
        Ok(())
    }

    /// The newest alerts at or after a time, newest first, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn alerts(&self, since: UnixMs, limit: usize) -> Result<Vec<Alert>, StoreError> {
        type Entry = (String, HashMap<String, String>);
        let mut all = Vec::new();
        for shard in 0..self.shards {
            let mut cmd = redis::cmd("XREVRANGE");
            cmd.arg(self.key(shard, "alerts")).arg("+").arg("-").arg("COUNT").arg(limit.clamp(1, 2 * CAP));
            let entries: Vec<Entry> = self.query("alerts", cmd).await?;
            all.extend(entries.into_iter().map(|(id, mut fields)| {
                let mut field = |name: &str| fields.remove(name).unwrap_or_default();
                let at = field("at").parse().unwrap_or(0);
                Alert { id: format!("{shard}-{id}"), word: field("word"), at, document: field("document") }
            }));
        }
        all.retain(|alert| alert.at >= since);
        all.sort_by_key(|alert| std::cmp::Reverse(alert.at));
        all.truncate(limit);
        Ok(all)
    }
}
