//! What becomes of finished jobs: which ones' time is over, read whole for the archive, forgotten. Guards that exactly what
//! was read is forgotten, and nothing that changed meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{Hot, JobId, JobView, Place, UnixMs, longest_stretch};

/// How long and how many finished jobs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// At most this long, ms.
    pub max_age_ms: u64,
    /// At most so many of a kind, in each shard.
    pub max_count: u64,
}

/// An entry at the head of a list of finished jobs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The job.
    pub id: JobId,
    /// Its state as it was read; `None` when the job is gone or elsewhere, and only the entry is to be dropped.
    pub seq: Option<u32>,
}

/// The oldest finished jobs of a kind whose time is over.
#[derive(Debug, Default)]
pub struct Expired {
    /// Oldest first; without a gap from the head of the list on.
    pub entries: Vec<Entry>,
    /// Entries beyond the count that is kept.
    pub over_count: u64,
    /// For how long the oldest has been over its age, ms; negative while it is not.
    pub over_age_ms: i64,
}

/// What forgetting did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Forgotten {
    /// Entries that left the list.
    pub entries: usize,
    /// Jobs that are gone.
    pub jobs: usize,
}

/// What became of putting jobs away, for those who watch.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct ArchiveState {
    /// Jobs put away since the store was made.
    pub jobs: u64,
    /// Times that it failed.
    pub failures: u64,
    /// Since when it has been failing, ms; `None` when the last time was well.
    pub failing_since: Option<UnixMs>,
    /// Why it failed the last time; empty when it never did.
    pub last_error: String,
}

/// Bytes of records that one look takes in at the most; a record may have several MiB.
const LOOK_BYTES: u64 = 8 << 20;
/// A record that is larger is not read for its history alone.
const HISTORY_BYTES: u64 = 256 << 10;
/// Jobs that are read at the same time.
const READ_TOGETHER: usize = 16;

/// Bytes of what callers and steps wrote.
fn size(view: &JobView) -> u64 {
    let record = &view.record;
    let own = record.meta.len() + record.args.len() + record.result.len() + record.error.len();
    let notes: usize = record.events.iter().map(|event| event.note.len()).sum();
    let steps: usize = view.steps.iter().map(|step| step.result.len()).sum();
    (own + notes + steps) as u64
}

impl Store {
    /// The kinds that have or had finished jobs in a shard, with their places.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub(crate) async fn finished_kinds(&self, shard: u16) -> Result<Vec<(Place, String)>, StoreError> {
        let fields = self.counts_in(shard).await?.into_keys();
        let found: BTreeSet<(Place, String)> =
            fields.filter(|(_, _, place)| place.is_final()).map(|(_, kind, place)| (place, kind)).collect();
        Ok(found.into_iter().collect())
    }

    /// The finished jobs of a kind whose time is over, at most `limit` and some MiB of them.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn expired(
        &self,
        shard: u16,
        place: Place,
        kind: &str,
        keep: Retention,
        limit: usize,
    ) -> Result<Expired, StoreError> {
        let list = self.key(shard, &format!("finished:{place}:{kind}"));
        let mut pipe = redis::pipe();
        pipe.cmd("LLEN").arg(&list).cmd("LRANGE").arg(&list).arg(0).arg(limit.max(1) - 1);
        let (length, ids): (u64, Vec<String>) = self.pipe("expired", &pipe).await?;
        let (heads, now) = (self.heads(shard, &ids).await?, self.now().await?);
        let mut void = self.void_entries(shard, place, kind, &ids).await?;
        let length = length.saturating_sub_signed(void.get("").copied().unwrap_or(0));
        let mut expired = Expired { over_count: length.saturating_sub(keep.max_count), ..Expired::default() };
        let (mut bytes, mut aged, mut n) = (0, None, 0);
        for (id, (hot, size)) in ids.iter().zip(heads) {
            let Ok(id) = id.parse::<JobId>() else { break };
            let is_void = void.get_mut(id.as_str()).is_some_and(|left| std::mem::replace(left, *left - 1) > 0);
            let hot = hot.filter(|hot| hot.place == place && !is_void);
            if let Some(hot) = hot {
                let over = (now - hot.finished_at).saturating_sub_unsigned(keep.max_age_ms);
                aged.get_or_insert(over);
                bytes += size;
                let full = bytes > LOOK_BYTES && !expired.entries.is_empty();
                if full || (over < 0 && n >= expired.over_count) {
                    break;
                }
            }
            expired.entries.push(Entry { id, seq: hot.map(|hot| hot.seq) });
            n += u64::from(!is_void);
        }
        expired.over_age_ms = aged.unwrap_or(-1);
        Ok(expired)
    }

    /// How many entries of these jobs, from the head of the list on, are of an ending that a revival took back; by the
    /// empty name, of all jobs.
    async fn void_entries(
        &self,
        shard: u16,
        place: Place,
        kind: &str,
        ids: &[String],
    ) -> Result<BTreeMap<String, i64>, StoreError> {
        let names: Vec<&str> = ids.iter().map(String::as_str).chain([""]).collect();
        let mut cmd = redis::cmd("HMGET");
        cmd.arg(self.key(shard, &format!("void:{place}:{kind}"))).arg(&names);
        let counts: Vec<Option<i64>> = self.query("expired", cmd).await?;
        Ok(names.into_iter().zip(counts).filter_map(|(id, many)| Some((id.to_owned(), many?))).collect())
    }

    /// How many of the first entries free so many bytes; one, where there is any.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub(crate) async fn enough(&self, shard: u16, entries: &[Entry], wanted: u64) -> Result<usize, StoreError> {
        let ids: Vec<String> = entries.iter().map(|entry| entry.id.to_string()).collect();
        let (mut freed, mut many) = (0, 0);
        for (_, size) in self.heads(shard, &ids).await? {
            many += 1;
            freed += size;
            if freed >= wanted {
                break;
            }
        }
        Ok(many)
    }

    /// The hot fields of jobs, and the sizes of their records.
    pub(super) async fn heads(&self, shard: u16, ids: &[String]) -> Result<Vec<(Option<Hot>, u64)>, StoreError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let mut pipe = redis::pipe();
        for id in ids {
            let key = self.key(shard, &format!("j:{id}"));
            pipe.cmd("GETRANGE").arg(&key).arg(0).arg(63).cmd("STRLEN").arg(&key);
        }
        let flat: Vec<redis::Value> = self.pipe("heads", &pipe).await?;
        let head = |pair: &[redis::Value]| {
            let bytes: Bytes = redis::from_redis_value(pair[0].clone()).unwrap_or_default();
            (Hot::read(&bytes), redis::from_redis_value(pair[1].clone()).unwrap_or(0))
        };
        Ok(flat.chunks_exact(2).map(head).collect())
    }

    /// The newest finished jobs of a kind in a shard: when they ended, and the longest time for which one had a worker, ms.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub(crate) async fn newest_stretches(
        &self,
        shard: u16,
        place: Place,
        kind: &str,
        many: usize,
    ) -> Result<Vec<(UnixMs, u64)>, StoreError> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.key(shard, &format!("finished:{place}:{kind}"))).arg(-(many as i64)).arg(-1);
        let ids: Vec<String> = self.query("newest_stretches", cmd).await?;
        let heads = self.heads(shard, &ids).await?;
        let (mut all, mut suspended) = (Vec::new(), Vec::new());
        for (id, (hot, size)) in ids.into_iter().zip(heads) {
            match hot.filter(|hot| hot.place == place) {
                Some(hot) if hot.may_have_been_suspended() && size <= HISTORY_BYTES => suspended.push(id),
                Some(hot) if hot.started_at > 0 && hot.finished_at >= hot.started_at => {
                    all.push((hot.finished_at, hot.finished_at.abs_diff(hot.started_at)));
                }
                _ => {}
            }
        }
        for some in suspended.chunks(READ_TOGETHER) {
            let records = self.records(shard, some).await?.into_iter().flatten();
            all.extend(records.filter_map(|record| Some((record.finished_at, longest_stretch(&record.events)?))));
        }
        Ok(all)
    }

    /// Jobs with all that lies beside their records, without those that are gone; and how many of the ids were looked at
    /// before it came to some MiB.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub(crate) async fn views(&self, ids: &[JobId]) -> Result<(Vec<JobView>, usize), StoreError> {
        let (mut views, mut bytes, mut looked) = (Vec::new(), 0, 0);
        for some in ids.chunks(READ_TOGETHER) {
            let reads = some.iter().map(|id| self.job(id));
            for view in futures::future::try_join_all(reads).await?.into_iter().flatten() {
                bytes += size(&view);
                views.push(view);
            }
            looked += some.len();
            if bytes > LOOK_BYTES {
                break;
            }
        }
        Ok((views, looked))
    }

    /// Forgets jobs at the head of the list of a kind: those whose state is still the one that was read.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn forget(
        &self,
        shard: u16,
        place: Place,
        kind: &str,
        entries: &[Entry],
    ) -> Result<Forgotten, StoreError> {
        if entries.is_empty() {
            return Ok(Forgotten::default());
        }
        let mut cmd = self.begin(&self.scripts.prune, shard);
        cmd.arg(place.as_str()).arg(kind);
        for entry in entries {
            cmd.arg(entry.id.as_str()).arg(entry.seq.map_or(-1, i64::from));
        }
        let (entries, jobs) = self.query("prune", cmd).await?;
        Ok(Forgotten { entries, jobs })
    }

    /// Takes a turn at something that one process at a time does in a shard, for so many ms; `false` when another has it.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn take_turn(&self, shard: u16, what: &str, who: &str, ms: u64) -> Result<bool, StoreError> {
        let mut cmd = self.begin(&self.scripts.turn, shard);
        cmd.arg(what).arg(who).arg(ms);
        let word: String = self.query("turn", cmd).await?;
        match word.as_str() {
            "yours" => Ok(true),
            "taken" => Ok(false),
            _ => Err(StoreError::UnknownAnswer { verb: "turn", answer: word }),
        }
    }

    /// Writes down that jobs were put away, or why they could not be; whether that is news (it was well before).
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub(crate) async fn note_archive(&self, put: Result<usize, &str>) -> Result<bool, StoreError> {
        let key = self.key(0, "archive");
        let mut pipe = redis::pipe();
        match put {
            Ok(jobs) => {
                pipe.cmd("HDEL").arg(&key).arg("failing_since").cmd("HINCRBY").arg(&key).arg("jobs").arg(jobs);
                let _: (i64, i64) = self.pipe("note_archive", &pipe).await?;
                Ok(false)
            }
            Err(text) => {
                let now = self.now().await?;
                pipe.cmd("HSETNX")
                    .arg(&key)
                    .arg("failing_since")
                    .arg(now)
                    .cmd("HINCRBY")
                    .arg(&key)
                    .arg("failures")
                    .arg(1);
                pipe.cmd("HSET").arg(&key).arg("last_error").arg(text);
                let (news, _, _): (bool, i64, i64) = self.pipe("note_archive", &pipe).await?;
                Ok(news)
            }
        }
    }

    /// How the archive fares.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn archive_state(&self) -> Result<ArchiveState, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(0, "archive"));
        let held: BTreeMap<String, String> = self.query("archive_state", cmd).await?;
        let number = |name: &str| held.get(name).and_then(|text| text.parse().ok());
        Ok(ArchiveState {
            jobs: number("jobs").unwrap_or(0),
            failures: number("failures").unwrap_or(0),
            failing_since: held.get("failing_since").and_then(|text| text.parse().ok()),
            last_error: held.get("last_error").cloned().unwrap_or_default(),
        })
    }
}
