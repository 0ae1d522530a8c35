//! Lists: every ready job is in its tenant's list, every such tenant in the ring, every finished job in the list of its kind.

use std::collections::{BTreeMap, BTreeSet};

use super::again::Look;
use crate::{
    model::{JobRecord, Place},
    store::{Store, StoreError},
};

impl Store {
    pub(super) async fn audit_lists(
        &self,
        shard: u16,
        records: &BTreeMap<String, JobRecord>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        let mut lists: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for r in records.values() {
            let key = match r.place {
                Place::Ready => format!("ready:{}:{}|{}", r.priority as u8, r.queue, r.tenant),
                p if p.is_final() => format!("finished:{p}:{}", r.kind),
                _ => continue,
            };
            lists.entry(key).or_default().insert(r.id.to_string());
        }
        for (key, meant) in lists {
            let listed: BTreeSet<String> = self.read(shard, "LRANGE", &key, &["0", "-1"]).await?;
            for id in meant.difference(&listed) {
                look.say(id, format!("it is missing in the list `{key}`"));
            }
        }
        let mut chunks: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for r in records.values() {
            chunks.entry(format!("{}:{}", r.chunk, r.tenant)).or_default().insert(r.id.to_string());
        }
        for chunk in self.rests(shard, "tenant_jobs:").await? {
            let listed: BTreeSet<String> =
                self.read(shard, "LRANGE", &format!("tenant_jobs:{chunk}"), &["0", "-1"]).await?;
            let meant = chunks.remove(&chunk).unwrap_or_default();
            for id in listed.symmetric_difference(&meant) {
                look.say(id, format!("its record and the tenant's list `{chunk}` do not agree"));
            }
        }
        for (chunk, ids) in chunks {
            look.say(&chunk, format!("the tenant's list is missing, with {} jobs", ids.len()));
        }
        self.audit_rings(shard, records, look).await
    }

    /// A tenant with ready jobs has its turn, unless it is paused.
    async fn audit_rings(
        &self,
        shard: u16,
        records: &BTreeMap<String, JobRecord>,
        look: &mut Look,
    ) -> Result<(), StoreError> {
        // With the first of the jobs that it is about.
        let mut turns: BTreeMap<(String, &str), &str> = BTreeMap::new();
        for r in records.values().filter(|r| r.place == Place::Ready) {
            let ring = format!("{}:{}", r.priority as u8, r.queue);
            turns.entry((ring, &r.tenant)).or_insert(r.id.as_str());
        }
        for ((ring, tenant), job) in turns {
            let turn: Option<f64> = self.read(shard, "ZSCORE", &format!("ring:{ring}"), &[tenant]).await?;
            let rests: bool = self.read(shard, "HEXISTS", &format!("idle:{tenant}"), &[&ring]).await?;
            if turn.is_none() && !rests {
                look.say_about(tenant, job, format!("it has ready jobs, but no turn in the ring `{ring}`"));
            }
        }
        Ok(())
    }
}
