//! Holds: a blocked or waiting job says what for, is among the waiters, and something will let it go on.

use std::collections::{BTreeMap, BTreeSet};

use super::again::Look;
use crate::{
    model::{BlockedBy, JobRecord, Place},
    store::{Store, StoreError},
};

impl Store {
    pub(super) async fn audit_holds(
        &self,
        shard: u16,
        records: &BTreeMap<String, JobRecord>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let holds: BTreeMap<String, String> = self.read(shard, "HGETALL", "holds", &[]).await?;
        let openings: BTreeSet<String> = self.read(shard, "ZRANGE", "openings", &["0", "-1"]).await?;
        let gates: BTreeSet<String> = self.read(shard, "HKEYS", "gates", &[]).await?;
        for r in records.values().filter(|r| matches!(r.place, Place::Blocked | Place::Waiting)) {
            let Some(hold) = holds.get(r.id.as_str()) else {
                look.say(r.id.as_str(), format!("it is {} for nothing", r.place));
                continue;
            };
            if r.place == Place::Waiting {
                continue;
            }
            let line: Option<f64> = self.read(shard, "ZSCORE", &format!("waiters:{hold}"), &[r.id.as_str()]).await?;
            let opens = openings.contains(hold)
                || match r.blocked_by {
                    BlockedBy::ResourceHeld => {
                        let resource = hold.strip_prefix("r ").unwrap_or_default();
                        self.read(shard, "EXISTS", &format!("lock:{resource}"), &[]).await?
                    }
                    BlockedBy::KindPaused | BlockedBy::KindUnknown | BlockedBy::ClockJumped => gates.contains(hold),
                    BlockedBy::Frozen | BlockedBy::NoFit | BlockedBy::CodeChanged => true,
                    BlockedBy::LimitReached | BlockedBy::RateReached | BlockedBy::Nothing => false,
                };
            if line.is_none() || !opens {
                look.say(r.id.as_str(), format!("it is blocked by `{hold}`, and nothing will let it go on"));
            }
        }
        for (id, hold) in &holds {
            let may = |r: &JobRecord| matches!(r.place, Place::Blocked | Place::Waiting) || r.has_journal;
            if !records.get(id).is_some_and(may) {
                look.say(id, format!("it has the hold `{hold}`, but neither is blocked nor waits"));
            }
        }
        self.audit_openings(shard, look).await?;
        self.audit_waiters(shard, &holds, look).await
    }

    /// An opening that does not come by itself stands for those who wait.
    async fn audit_openings(&self, shard: u16, look: &mut Look) -> Result<(), StoreError> {
        let never: Vec<String> = self.read(shard, "ZRANGEBYSCORE", "openings", &["9e15", "inf"]).await?;
        for hold in never {
            let is_waited_for: bool = self.read(shard, "EXISTS", &format!("waiters:{hold}"), &[]).await?;
            if !is_waited_for {
                look.say(&hold, "it is among the openings for good, and nobody waits for it".to_owned());
            }
        }
        Ok(())
    }

    async fn audit_waiters(
        &self,
        shard: u16,
        holds: &BTreeMap<String, String>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        for hold in self.rests(shard, "waiters:").await? {
            let line: BTreeSet<String> = self.read(shard, "ZRANGE", &format!("waiters:{hold}"), &["0", "-1"]).await?;
            for id in line.iter().filter(|id| holds.get(*id) != Some(&hold)) {
                look.say(id, format!("it stands in the line of `{hold}`, but is not held by it"));
            }
        }
        Ok(())
    }
}
