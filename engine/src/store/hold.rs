//! Reads what stands before one job: its hold, resources and who has them, limits, workers. Each read is bounded.

use std::collections::BTreeMap;

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{
    JobId, JobRecord, Place, Resource, UnixMs,
    explain::{LimitSeen, ResourceSeen, Seen, WorkerSaid},
    gate::{Gates, Limit, LimitScope},
};

/// Jobs named with one resource at the most.
const NAMED: usize = 20;

impl Store {
    /// All that was read of why a job is where it is; [`explain`](crate::model::explain::explain) makes reasons of it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn seen(&self, id: &JobId) -> Result<Option<Seen>, StoreError> {
        let Some(job) = self.job(id).await? else { return Ok(None) };
        let (now, record) = (self.now().await?, &job.record);
        let mut seen = Seen {
            now,
            gates: Gates::default(),
            resources: Vec::new(),
            limits: Vec::new(),
            workers: Vec::new(),
            pending: Vec::new(),
            job: job.clone(),
        };
        if record.place.is_final() || matches!(record.place, Place::Running | Place::Unknown) {
            return Ok(Some(seen));
        }
        seen.gates = Gates::read(&self.gates_in(id.shard()).await?);
        seen.limits = self.limits_seen(record, &seen.gates).await?;
        for resource in &record.resources {
            seen.resources.extend(self.resource_seen(record, resource).await?);
        }
        let said = |document: &str| serde_json::from_str::<WorkerSaid>(document).unwrap_or_default();
        seen.workers = self.workers().await?.iter().map(|worker| said(&worker.document)).collect();
        if record.place == Place::Waiting && record.has_family {
            seen.pending = self.pending_children(id).await?;
        }
        Ok(Some(seen))
    }

    /// What a blocked or waiting job waits for (`r dc:1`, `signal paid`, …); `None` when it waits for nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn hold(&self, id: &JobId) -> Result<Option<String>, StoreError> {
        let mut cmd = redis::cmd("HGET");
        cmd.arg(self.key(id.shard(), "holds")).arg(id.as_str());
        self.query("hold", cmd).await
    }

    /// `None` when the job holds it itself.
    async fn resource_seen(&self, record: &JobRecord, wanted: &Resource) -> Result<Option<ResourceSeen>, StoreError> {
        let shard = record.id.shard();
        let (lock, line) =
            (self.key(shard, &format!("lock:{}", wanted.name)), self.key(shard, &format!("waiters:r {}", wanted.name)));
        let mut pipe = redis::pipe();
        pipe.cmd("HEXISTS").arg(&lock).arg(record.id.as_str());
        pipe.cmd("HLEN").arg(&lock);
        pipe.cmd("HRANDFIELD").arg(&lock).arg(NAMED).arg("WITHVALUES");
        pipe.cmd("ZRANK").arg(&line).arg(record.id.as_str());
        pipe.cmd("ZRANGE").arg(&line).arg(0).arg(NAMED - 1);
        type Held = (bool, u64, Vec<(String, String)>, Option<u64>, Vec<String>);
        let (mine, many_holders, holders, rank, line): Held = self.pipe("resource", &pipe).await?;
        let many_before = rank.unwrap_or(0);
        let before = line.iter().take(usize::try_from(many_before).unwrap_or(NAMED));
        Ok((!mine).then(|| ResourceSeen {
            name: wanted.name.clone(),
            shared: wanted.shared,
            held_shared: holders.iter().all(|(_, how)| how == "s"),
            holders: holders.iter().filter_map(|(id, _)| id.parse().ok()).collect(),
            many_holders,
            before: before.filter_map(|id| id.parse().ok()).collect(),
            many_before,
        }))
    }

    async fn limits_seen(&self, record: &JobRecord, gates: &Gates) -> Result<Vec<LimitSeen>, StoreError> {
        let counts = |limit: &&Limit| match &limit.scope {
            LimitScope::Queue(name) => *name == record.queue,
            LimitScope::Kind(name) => *name == record.kind,
            LimitScope::Key(name) => *name == record.kind && !record.key.is_empty(),
        };
        let mut all = Vec::new();
        for limit in gates.limits().filter(counts) {
            let (running, starts) = self.limit_seen(record, limit).await?;
            all.push(LimitSeen { limit: limit.clone(), running, starts });
        }
        Ok(all)
    }

    async fn limit_seen(&self, record: &JobRecord, limit: &Limit) -> Result<(u64, Vec<UnixMs>), StoreError> {
        let shard = record.id.shard();
        let by_key = format!("{} {}", record.kind, record.key);
        let hold = match &limit.scope {
            LimitScope::Key(_) => format!("l x {by_key}"),
            other => other.field(),
        };
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(self.key(shard, "counters"));
        pipe.cmd("HGET").arg(self.key(shard, "running")).arg(&by_key);
        pipe.cmd("LRANGE").arg(self.key(shard, &format!("rate:{hold}"))).arg(0).arg(-1);
        type Held = (BTreeMap<String, i64>, Option<u64>, Vec<UnixMs>);
        let (counters, of_key, starts): Held = self.pipe("limit", &pipe).await?;
        let counted = counters.iter().filter(|(field, _)| {
            let mut parts = field.split('|');
            let (queue, kind, place) = (parts.next(), parts.next(), parts.next());
            let mine = match &limit.scope {
                LimitScope::Queue(name) => queue == Some(name),
                LimitScope::Kind(name) | LimitScope::Key(name) => kind == Some(name),
            };
            mine && place == Some(Place::Running.as_str())
        });
        let running = match &limit.scope {
            LimitScope::Key(_) => of_key.unwrap_or(0),
            _ => counted.map(|(_, jobs)| jobs.max(&0).unsigned_abs()).sum(),
        };
        Ok((running, starts))
    }

    /// The children that a suspended job waits for, as far as they have not ended.
    async fn pending_children(&self, id: &JobId) -> Result<Vec<JobId>, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(id.shard(), &format!("children:{id}")));
        let children: BTreeMap<String, Bytes> = self.query("children", cmd).await?;
        let pending = children.iter().filter(|(_, word)| &word[..] == b"waited");
        Ok(pending.filter_map(|(child, _)| child.parse().ok()).collect())
    }
}
