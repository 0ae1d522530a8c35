//! Reading: one job, pages of jobs, counts, workers. No list is read but by a cursor (E6).

use std::collections::{BTreeMap, HashSet};

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{Effect, JobId, JobRecord, JobView, Place, Progress, Step, UnixMs};

/// Which jobs to list.
#[derive(Debug, Clone, Default)]
pub struct JobFilter {
    /// Of this tenant.
    pub tenant: Option<String>,
    /// Of this kind.
    pub kind: Option<String>,
    /// In this place.
    pub place: Option<Place>,
    /// In this queue.
    pub queue: Option<String>,
}

impl JobFilter {
    fn admits(&self, r: &JobRecord) -> bool {
        self.tenant.as_ref().is_none_or(|t| *t == r.tenant)
            && self.kind.as_ref().is_none_or(|k| *k == r.kind)
            && self.place.is_none_or(|p| p == r.place)
            && self.queue.as_ref().is_none_or(|q| *q == r.queue)
    }
}

/// Where a listing goes on; opaque text.
pub type Cursor = String;

/// A page of jobs.
#[derive(Debug)]
pub struct Page {
    /// The jobs.
    pub jobs: Vec<JobRecord>,
    /// Where to go on; `None` at the end. A page may be short, even empty, and yet have more behind it.
    pub next: Option<Cursor>,
}

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

/// Entries looked at for one page at most, so that a filter that fits nothing costs a bounded amount.
const LOOK: usize = 1000;

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
        let mut steps: Vec<Step> = steps.into_iter().filter_map(|(name, held)| read_step(name, &held)).collect();
        steps.sort_by_key(|s| (s.begun_at, !s.done, s.done_at));
        let progress = Progress {
            percent: extras.get("percent").and_then(|p| p.parse().ok()).unwrap_or(0),
            text: extras.get("text").cloned().unwrap_or_default(),
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

    /// A page of jobs: of a tenant newest first; of a place in its own order; else the live ones first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn jobs(&self, filter: &JobFilter, cursor: Option<&str>, limit: usize) -> Result<Page, StoreError> {
        let sources = self.sources(filter).await?;
        let (mut at, mut from) = read_cursor(cursor);
        let (mut jobs, mut looked) = (Vec::new(), 0);
        // A job that changes its place while the places are read one after the other is met twice.
        let mut met = HashSet::new();
        while let Some(source) = sources.get(at) {
            let ids = self.slice(source, &from, (limit - jobs.len()).clamp(50, 200)).await?;
            if ids.is_empty() {
                (at, from) = (at + 1, String::new());
                continue;
            }
            let records = self.records(source.shard, &ids).await?;
            for (n, (id, record)) in ids.iter().zip(records).enumerate() {
                looked += 1;
                let in_source = |r: &JobRecord| source.place.is_none_or(|p| p == r.place);
                jobs.extend(record.filter(|r| filter.admits(r) && in_source(r) && met.insert(r.id.clone())));
                if jobs.len() >= limit || looked >= LOOK {
                    return Ok(Page { jobs, next: Some(format!("{at}.{}", source.after(&from, n + 1, id))) });
                }
            }
            from = source.after(&from, ids.len(), ids.last().map_or("", String::as_str));
        }
        Ok(Page { jobs, next: None })
    }

    async fn sources(&self, filter: &JobFilter) -> Result<Vec<Source>, StoreError> {
        if let Some(tenant) = &filter.tenant {
            let shard = self.shard_of(tenant);
            return Ok(vec![Source {
                shard,
                key: self.key(shard, &format!("tenant:{tenant}")),
                order: Order::Lexical,
                place: None,
            }]);
        }
        let queues: std::collections::BTreeSet<String> = self.counts().await?.into_iter().map(|c| c.queue).collect();
        let mut all = Vec::new();
        let wanted = |p: Place| filter.place.is_none_or(|w| w == p);
        for shard in 0..self.shards {
            for (place, key) in [
                (Place::Running, "leases"),
                (Place::Blocked, "blocked"),
                (Place::Waiting, "waiting"),
                (Place::Unknown, "unknown"),
                (Place::Scheduled, "scheduled"),
            ] {
                if wanted(place) {
                    all.push(Source { shard, key: self.key(shard, key), order: Order::Rank, place: Some(place) });
                }
            }
            for queue in queues.iter().filter(|_| wanted(Place::Ready)) {
                for priority in 0..4 {
                    all.push(Source {
                        shard,
                        key: self.key(shard, &format!("ready:{priority}:{queue}")),
                        order: Order::List,
                        place: Some(Place::Ready),
                    });
                }
            }
            for place in [Place::Dead, Place::Cancelled, Place::Succeeded].into_iter().filter(|p| wanted(*p)) {
                all.push(Source {
                    shard,
                    key: self.key(shard, &format!("finished:{place}")),
                    order: Order::ListFromEnd,
                    place: Some(place),
                });
            }
        }
        Ok(all)
    }

    async fn slice(&self, source: &Source, from: &str, many: usize) -> Result<Vec<String>, StoreError> {
        let position: i64 = from.parse().unwrap_or(0);
        let last = position + many as i64 - 1;
        let mut cmd = redis::Cmd::new();
        match source.order {
            Order::Lexical => {
                let upper = if from.is_empty() { "+".to_owned() } else { format!("({from}") };
                cmd.arg("ZRANGE")
                    .arg(&source.key)
                    .arg(upper)
                    .arg("-")
                    .arg("BYLEX")
                    .arg("REV")
                    .arg("LIMIT")
                    .arg(0)
                    .arg(many);
            }
            Order::Rank => {
                cmd.arg("ZRANGE").arg(&source.key).arg(position).arg(last);
            }
            Order::List => {
                cmd.arg("LRANGE").arg(&source.key).arg(position).arg(last);
            }
            Order::ListFromEnd => {
                cmd.arg("LRANGE").arg(&source.key).arg(-last - 1).arg(-position - 1);
            }
        }
        let mut ids: Vec<String> = self.query("jobs", cmd).await?;
        if source.order == Order::ListFromEnd {
            ids.reverse();
        }
        Ok(ids)
    }

    pub(crate) async fn records(&self, shard: u16, ids: &[String]) -> Result<Vec<Option<JobRecord>>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut cmd = redis::cmd("MGET");
        for id in ids {
            cmd.arg(self.key(shard, &format!("j:{id}")));
        }
        let held: Vec<Option<Bytes>> = self.query("records", cmd).await?;
        Ok(ids.iter().zip(held).map(|(id, bytes)| JobRecord::parse(id.parse().ok()?, &bytes?).ok()).collect())
    }

    /// How many jobs are where: by queue, kind and place.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn counts(&self) -> Result<Vec<PlaceCount>, StoreError> {
        let mut sums: BTreeMap<(String, String, Place), i64> = BTreeMap::new();
        for shard in 0..self.shards {
            for (field, n) in self.counters(shard).await? {
                let mut parts = field.split('|');
                if let (Some(queue), Some(kind), Some(Ok(place))) =
                    (parts.next(), parts.next(), parts.next().map(str::parse))
                {
                    *sums.entry((queue.to_owned(), kind.to_owned(), place)).or_default() += n;
                }
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

    /// Since when the oldest ready job of each queue could run.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn oldest_waiting(&self) -> Result<Vec<OldestWaiting>, StoreError> {
        let queues: std::collections::BTreeSet<String> = self
            .counts()
            .await?
            .into_iter()
            .filter(|c| c.place == Place::Ready && c.jobs > 0)
            .map(|c| c.queue)
            .collect();
        let mut all = Vec::new();
        for queue in queues {
            let mut since: Option<UnixMs> = None;
            for shard in 0..self.shards {
                for priority in 0..4 {
                    let source = Source {
                        shard,
                        key: self.key(shard, &format!("ready:{priority}:{queue}")),
                        order: Order::List,
                        place: Some(Place::Ready),
                    };
                    let ids = self.slice(&source, "", 20).await?;
                    let oldest = self
                        .records(shard, &ids)
                        .await?
                        .into_iter()
                        .flatten()
                        .filter(|r| r.place == Place::Ready)
                        .map(|r| r.run_at)
                        .min();
                    since = [since, oldest].into_iter().flatten().min();
                }
            }
            all.extend(since.map(|since| OldestWaiting { queue, since }));
        }
        Ok(all)
    }

    /// Who holds a resource of a tenant's shard.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn resource_holder(&self, tenant: &str, resource: &str) -> Result<Option<JobId>, StoreError> {
        let mut cmd = redis::cmd("GET");
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Lexical,
    Rank,
    List,
    ListFromEnd,
}

struct Source {
    shard: u16,
    key: String,
    order: Order,
    place: Option<Place>,
}

impl Source {
    fn after(&self, from: &str, many: usize, last: &str) -> String {
        match self.order {
            Order::Lexical => last.to_owned(),
            _ => (from.parse::<usize>().unwrap_or(0) + many).to_string(),
        }
    }
}

fn read_cursor(cursor: Option<&str>) -> (usize, String) {
    let (at, from) = cursor.and_then(|c| c.split_once('.')).unwrap_or(("0", ""));
    (at.parse().unwrap_or(0), from.to_owned())
}

fn read_step(name: String, held: &Bytes) -> Option<Step> {
    let number = |from: usize, n: usize| {
        Some(held.get(from..from + n)?.iter().rev().fold(0_u64, |v, b| (v << 8) | u64::from(*b)))
    };
    Some(Step {
        name,
        done: number(0, 1)? == 1,
        effect: Effect::from_code(number(1, 1)? as u8)?,
        fence: number(2, 6)?,
        begun_at: number(8, 6)? as UnixMs,
        done_at: number(14, 6)? as UnixMs,
        result: held.get(20..)?.to_vec(),
    })
}
