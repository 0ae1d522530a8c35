//! The audit: is every job in exactly one place, and do indexes, counters, rings, locks and holds agree with the records?
//! For tests and `doctor`.

use std::collections::{BTreeMap, BTreeSet};

mod again;
mod holds;
mod lists;
mod locks;

use again::Look;

use super::{connect::Store, error::StoreError};
use crate::model::{JobRecord, Place};

/// Something that does not agree.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct AuditFinding {
    /// The job or key.
    pub subject: String,
    /// What is wrong.
    pub text: String,
}

/// What the audit saw.
#[derive(Debug, Default, serde::Serialize)]
pub struct AuditReport {
    /// Records read.
    pub jobs: u64,
    /// What does not agree; empty is good.
    pub findings: Vec<AuditFinding>,
}

/// How far the audit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditProgress {
    /// What it looks at: `records`, `lists`, `locks`, `holds`.
    pub stage: &'static str,
    /// Records read.
    pub jobs: u64,
    /// Records in all, by the counters.
    pub of: u64,
}

/// Who is told how far the audit is.
type Told<'a> = &'a (dyn Fn(AuditProgress) + Sync);

/// How often findings are looked at again at most, until all that is found is proven.
const LOOKS_AGAIN: usize = 5;

impl Store {
    /// Compares all records with all indexes. Reads everything (by SCAN, outside scripts), so on a store at work a job may
    /// move between two reads: what is found is looked at again, and only what no change explains is told.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn audit(&self) -> Result<AuditReport, StoreError> {
        self.audit_told(&|_| ()).await
    }

    /// The same, telling how far it is.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn audit_told(&self, told: &(dyn Fn(AuditProgress) + Sync)) -> Result<AuditReport, StoreError> {
        let mut before = self.look(told).await?;
        let mut findings = Vec::new();
        for _ in 0..LOOKS_AGAIN {
            if before.agrees() {
                findings.clear();
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            let look = self.look(told).await?;
            let (proven, is_all) = look.proven_since(&before);
            (findings, before) = (proven, look);
            if is_all {
                break;
            }
        }
        Ok(AuditReport { jobs: before.jobs, findings })
    }

    async fn look(&self, told: Told<'_>) -> Result<Look, StoreError> {
        let mut look = Look::default();
        let of = self.counts().await?.iter().map(|count| count.jobs).sum();
        for shard in 0..self.shards {
            let before = look.jobs;
            let tell = |stage, jobs| told(AuditProgress { stage, jobs: before + jobs, of });
            self.audit_shard(shard, &mut look, &tell).await?;
        }
        Ok(look)
    }

    async fn audit_shard(
        &self,
        shard: u16,
        look: &mut Look,
        tell: &(dyn Fn(&'static str, u64) + Sync),
    ) -> Result<(), StoreError> {
        let records = self.all_records(shard, tell).await?;
        let many = records.len() as u64;
        look.note_records(shard, &records);
        look.note_counters(shard, self.counters(shard).await?);
        for (place, key) in [
            (Place::Scheduled, "scheduled"),
            (Place::Blocked, "blocked"),
            (Place::Running, "leases"),
            (Place::Waiting, "waiting"),
            (Place::Unknown, "unknown"),
        ] {
            let mut cmd = redis::cmd("ZRANGE");
            cmd.arg(self.key(shard, key)).arg(0).arg(-1);
            let listed: BTreeSet<String> = self.query("audit", cmd).await?;
            let meant: BTreeSet<String> =
                records.values().filter(|r| r.place == place).map(|r| r.id.to_string()).collect();
            for id in listed.symmetric_difference(&meant) {
                look.say(
                    id,
                    format!("its record says {:?}, the index `{key}` says otherwise", records.get(id).map(|r| r.place)),
                );
            }
        }
        tell("lists", many);
        self.audit_lists(shard, &records, look).await?;
        tell("locks", many);
        self.audit_locks(shard, &records, look).await?;
        tell("holds", many);
        self.audit_holds(shard, &records, look).await
    }

    async fn all_records(
        &self,
        shard: u16,
        tell: &(dyn Fn(&'static str, u64) + Sync),
    ) -> Result<BTreeMap<String, JobRecord>, StoreError> {
        let ids: Vec<String> = self
            .scan(&self.key(shard, "j:*"))
            .await?
            .iter()
            .filter_map(|k| Some(k.rsplit_once(":j:")?.1.to_owned()))
            .collect();
        let mut all = BTreeMap::new();
        for batch in ids.chunks(500) {
            for (id, record) in batch.iter().zip(self.records(shard, batch).await?) {
                all.extend(record.map(|r| (id.clone(), r)));
            }
            tell("records", all.len() as u64);
        }
        Ok(all)
    }

    /// The keys of a shard whose rest begins with `start`.
    async fn rests(&self, shard: u16, start: &str) -> Result<BTreeSet<String>, StoreError> {
        let whole = self.key(shard, start);
        let keys = self.scan(&format!("{whole}*")).await?;
        Ok(keys.into_iter().filter_map(|key| Some(key.strip_prefix(&whole)?.to_owned())).collect())
    }

    async fn read<T: redis::FromRedisValue>(
        &self,
        shard: u16,
        verb: &str,
        rest: &str,
        more: &[&str],
    ) -> Result<T, StoreError> {
        let mut cmd = redis::cmd(verb);
        cmd.arg(self.key(shard, rest)).arg(more);
        self.query("audit", cmd).await
    }

    async fn scan(&self, pattern: &str) -> Result<BTreeSet<String>, StoreError> {
        let (mut cursor, mut keys) = (0_u64, BTreeSet::new());
        let pattern = pattern.replace('[', "\\[");
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(1000);
            let (next, found): (u64, Vec<String>) = self.query("audit", cmd).await?;
            keys.extend(found);
            if next == 0 {
                return Ok(keys);
            }
            cursor = next;
        }
    }
}
