//! Reading: one job, its log, counts, workers. No list is read whole (E6); pages of jobs are in `listing`.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{JobId, JobRecord, JobView, Place, Progress, Step, UnixMs};

/// How many jobs are in a place.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct PlaceCount {
    /// Queue.
    pub queue: String,
    /// Kind.
    pub kind: String,
    /// Place.
    pub place: Place,
    /// Jobs.
    pub jobs: u64,
}

/// The oldest waiting job of a queue.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct OldestWaiting {
    /// Queue.
    pub queue: String,
    /// Since when it could run, ms.
    pub since: UnixMs,
}

/// A worker that said that it lives.
#[derive(Debug, Clone, serde::Serialize)]
pub struct WorkerSeen {
    /// Its name.
    pub name: String,
    /// Until when it counts as alive, ms.
    pub alive_until: UnixMs,
    /// What it said of itself (JSON).
    pub document: String,
}

/// Tenants and jobs looked at for the oldest waiting job of a queue and priority.
const OLDEST_TENANTS: usize = 100;
const OLDEST_JOBS: usize = 5;

impl Store {
    /// One job with its steps and progress.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn job(&self, id: &JobId) -> Result<Option<JobView>, StoreError> {
        let shard = id.shard();
        if shard >= self.shards {
            return Ok(None);
        }
        let mut pipe = redis::pipe();
        pipe.cmd("GET").arg(self.key(shard, &format!("j:{id}")));
        pipe.cmd("HGETALL").arg(self.key(shard, &format!("steps:{id}")));
        pipe.cmd("HGETALL").arg(self.key(shard, &format!("extras:{id}")));
        type Held = (Option<Bytes>, BTreeMap<String, Bytes>, BTreeMap<String, String>);
        let (bytes, steps, extras): Held = self.pipe("job", &pipe).await?;
        let Some(bytes) = bytes else { return Ok(None) };
        let record = JobRecord::parse(id.clone(), &bytes)?;
        let mut steps: Vec<Step> = steps.into_iter().filter_map(|(name, held)| Step::parse(name, &held)).collect();
        steps.sort_by_key(|s| (s.begun_at, s.ordinal, s.done_at));
        let progress = Progress {
            percent: extras.get("percent").and_then(|p| p.parse().ok()).unwrap_or(0),
            text: extras.get("text").cloned().unwrap_or_default(),
            told_at: extras.get("told").and_then(|at| at.parse().ok()).unwrap_or(0),
        };
        Ok(Some(JobView { record, steps, progress }))
    }

    /// A job's log lines (`ms text`), oldest first, from the `skip`-th on.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn log(&self, id: &JobId, skip: usize, limit: usize) -> Result<Vec<String>, StoreError> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.key(id.shard(), &format!("log:{id}"))).arg(skip).arg(skip + limit.max(1) - 1);
        self.query("log", cmd).await
    }

    /// How many jobs are where: by queue, kind and place.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn counts(&self) -> Result<Vec<PlaceCount>, StoreError> {
        let mut sums: BTreeMap<(String, String, Place), i64> = BTreeMap::new();
        for shard in 0..self.shards {
            for (what, n) in self.counts_in(shard).await? {
                *sums.entry(what).or_default() += n;
            }
        }
        let count = |((queue, kind, place), n): ((String, String, Place), i64)| PlaceCount {
            queue,
            kind,
            place,
            jobs: n.max(0).unsigned_abs(),
        };
        Ok(sums.into_iter().map(count).collect())
    }

    pub(crate) async fn counters(&self, shard: u16) -> Result<BTreeMap<String, i64>, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(shard, "counters"));
        self.query("counts", cmd).await
    }

    /// Undelivered webhook deliveries and outbox entries.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn webhook_backlog(&self) -> Result<u64, StoreError> {
        let mut sum = 0;
        for shard in 0..self.shards {
            let mut pipe = redis::pipe();
            pipe.cmd("HGET")
                .arg(self.key(shard, "counters"))
                .arg("webhook_backlog")
                .cmd("XLEN")
                .arg(self.key(shard, "outbox"));
            let (deliveries, entries): (Option<i64>, u64) = self.pipe("webhook_backlog", &pipe).await?;
            sum += deliveries.unwrap_or(0).max(0).unsigned_abs() + entries;
        }
        Ok(sum)
    }

    /// Since when the oldest ready job of each queue could run, of the tenants whose turn comes next.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn oldest_waiting(&self) -> Result<Vec<OldestWaiting>, StoreError> {
        let mut oldest: BTreeMap<String, UnixMs> = BTreeMap::new();
        for shard in 0..self.shards {
            let counts = self.counts_in(shard).await?.into_iter().filter(|(_, n)| *n > 0);
            let ready = counts.filter(|((_, _, place), _)| *place == Place::Ready).map(|((queue, _, _), _)| queue);
            for queue in ready.collect::<BTreeSet<String>>() {
                for priority in 0..4 {
                    if let Some(since) = self.oldest_in(shard, &format!("{priority}:{queue}")).await? {
                        let held = oldest.entry(queue.clone()).or_insert(since);
                        *held = since.min(*held);
                    }
                }
            }
        }
        Ok(oldest.into_iter().map(|(queue, since)| OldestWaiting { queue, since }).collect())
    }

    async fn oldest_in(&self, shard: u16, lists: &str) -> Result<Option<UnixMs>, StoreError> {
        let tenants = self.ring(shard, &format!("ring:{lists}"), 0, OLDEST_TENANTS).await?;
        if tenants.is_empty() {
            return Ok(None);
        }
        let mut pipe = redis::pipe();
        for tenant in tenants {
            pipe.cmd("LRANGE").arg(self.key(shard, &format!("ready:{lists}|{tenant}"))).arg(0).arg(OLDEST_JOBS - 1);
        }
        let ids: Vec<Vec<String>> = self.pipe("oldest_waiting", &pipe).await?;
        let heads = self.heads(shard, &ids.concat()).await?.into_iter().filter_map(|(hot, _)| hot);
        Ok(heads.filter(|hot| hot.place == Place::Ready).map(|hot| hot.run_at).min())
    }

    /// Who holds a resource of a tenant's shard; one of them, when several share it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn resource_holder(&self, tenant: &str, resource: &str) -> Result<Option<JobId>, StoreError> {
        let mut cmd = redis::cmd("HRANDFIELD");
        cmd.arg(self.key(self.shard_of(tenant), &format!("lock:{resource}")));
        let id: Option<String> = self.query("resource_holder", cmd).await?;
        Ok(id.and_then(|id| id.parse().ok()))
    }

    /// The workers that said that they live.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn workers(&self) -> Result<Vec<WorkerSeen>, StoreError> {
        let mut pipe = redis::pipe();
        pipe.cmd("ZRANGE").arg(self.key(0, "workers")).arg(0).arg(999).arg("WITHSCORES");
        pipe.cmd("HGETALL").arg(self.key(0, "worker_docs"));
        let (seen, mut docs): (Vec<(String, f64)>, BTreeMap<String, String>) = self.pipe("workers", &pipe).await?;
        let now = self.now().await?;
        let worker = |(name, until): (String, f64)| {
            let document = docs.remove(&name).unwrap_or_default();
            WorkerSeen { name, alive_until: until as UnixMs, document }
        };
        Ok(seen.into_iter().map(worker).filter(|w| w.alive_until > now).collect())
    }
}
