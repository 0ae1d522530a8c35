//! The outbox and the deliveries made of it. The engine keeps them; who sends them is the service's matter.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use redis::Value;

use super::{connect::Store, error::StoreError};
use crate::model::{EventWord, JobId, Place, UnixMs};

/// A change of a job that somebody wants to hear of, written in the script that made it (E2).
#[derive(Debug, Clone)]
pub struct OutboxEntry {
    /// Its name in the outbox.
    pub entry: String,
    /// The shard.
    pub shard: u16,
    /// The job.
    pub job: JobId,
    /// Its kind.
    pub kind: String,
    /// Its tenant.
    pub tenant: String,
    /// What happened.
    pub event: EventWord,
    /// Where the job was then.
    pub place: Place,
    /// Whether it had begun a step by then.
    pub begun: bool,
    /// The job's seq then.
    pub seq: u32,
    /// When, ms.
    pub at: UnixMs,
    /// The attempt.
    pub attempt: u16,
    /// The job's meta document.
    pub meta: Bytes,
    /// The event's note.
    pub note: Bytes,
}

/// A delivery to be made.
#[derive(Debug, Clone)]
pub struct NewDelivery {
    /// To whom.
    pub endpoint: String,
    /// Its id, constant over attempts and replays.
    pub id: String,
    /// What is sent, byte for byte.
    pub body: Bytes,
}

/// An outbox entry and the deliveries that are made of it.
#[derive(Debug, Clone)]
pub struct Routed {
    /// The entry's name in the outbox.
    pub entry: String,
    /// One for each endpoint that hears it.
    pub deliveries: Vec<NewDelivery>,
}

/// A delivery taken for one attempt.
#[derive(Debug, Clone)]
pub struct DeliveryAttempt {
    /// To whom.
    pub endpoint: String,
    /// Its id.
    pub id: String,
    /// What is sent.
    pub body: Bytes,
    /// 1 is the first.
    pub attempt: u16,
    /// When it was made, ms.
    pub first_at: UnixMs,
}

/// How an attempt to deliver ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryOutcome {
    /// The receiver took it.
    Delivered,
    /// Again at this time, ms.
    Retry {
        /// When.
        at: UnixMs,
    },
    /// Given up.
    Exhausted,
}

/// A delivery as the log shows it.
#[derive(Debug, Clone)]
pub struct DeliveryView {
    /// Its id.
    pub id: String,
    /// pending, delivered or exhausted.
    pub state: String,
    /// Attempts begun.
    pub attempt: u16,
    /// When it was made, ms.
    pub first_at: UnixMs,
    /// What is sent.
    pub body: Bytes,
    /// One document an attempt, oldest first.
    pub log: Vec<Bytes>,
}

/// Deliveries kept an endpoint in a shard, those to come among them: a receiver that is away for days must not fill the
/// memory of all (E7).
const HISTORY: usize = 5_000;
/// Entries routed in one round trip, so that no pipeline holds more than some MB of bodies.
const ROUTED_AT_ONCE: usize = 64;
/// How long an ended delivery is remembered.
const KEEP: Duration = Duration::from_secs(30 * 86_400);

impl Store {
    /// Makes every change of every job be told (or no longer). Jobs with `notify` are told anyway.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn set_listening(&self, on: bool) -> Result<(), StoreError> {
        for shard in 0..self.shards {
            let mut cmd = redis::cmd(if on { "SET" } else { "DEL" });
            cmd.arg(self.key(shard, "listening"));
            if on {
                cmd.arg(1);
            }
            let _: Value = self.query("set_listening", cmd).await?;
        }
        Ok(())
    }

    /// The oldest outbox entries of a shard.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn outbox_read(&self, shard: u16, limit: usize) -> Result<Vec<OutboxEntry>, StoreError> {
        let mut cmd = redis::cmd("XRANGE");
        cmd.arg(self.key(shard, "outbox")).arg("-").arg("+").arg("COUNT").arg(limit);
        let raw: Vec<(String, BTreeMap<String, Bytes>)> = self.query("outbox_read", cmd).await?;
        raw.into_iter()
            .map(|(entry, fields)| {
                let bad = || StoreError::UnknownAnswer { verb: "outbox_read", answer: entry.clone() };
                fields.get("e").and_then(|b| read_entry(&entry, shard, b)).ok_or_else(bad)
            })
            .collect()
    }

    /// Turns outbox entries into deliveries; how many: of the others, another sender was first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn outbox_route(&self, shard: u16, entries: &[Routed]) -> Result<u64, StoreError> {
        let mut routed = 0;
        for part in entries.chunks(ROUTED_AT_ONCE) {
            let mut pipe = redis::pipe();
            for Routed { entry, deliveries } in part {
                let mut cmd = self.begin(&self.scripts.outbox_route, shard);
                cmd.arg(entry).arg(HISTORY).arg(KEEP.as_millis() as u64);
                for d in deliveries {
                    cmd.arg(&d.endpoint).arg(&d.id).arg(&d.body[..]);
                }
                pipe.add_command(cmd);
            }
            let answers: Vec<u64> = self.pipe("outbox_route", &pipe).await?;
            routed += answers.iter().sum::<u64>();
        }
        Ok(routed)
    }

    /// Forgets what is kept of an endpoint that is no more, some at a time: whether more is left in the shard.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn deliveries_forget(&self, shard: u16, endpoint: &str, limit: usize) -> Result<bool, StoreError> {
        let mut cmd = self.begin(&self.scripts.delivery_forget, shard);
        cmd.arg(endpoint).arg(limit);
        let word: String = self.query("delivery_forget", cmd).await?;
        Ok(word == "more")
    }

    /// Deliveries that were dropped before they were sent, since too many waited for their receiver; counted once.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn deliveries_dropped(&self, shard: u16) -> Result<BTreeMap<String, u64>, StoreError> {
        let key = self.key(shard, "deliveries_dropped");
        let mut pipe = redis::pipe();
        pipe.atomic().cmd("HGETALL").arg(&key).cmd("DEL").arg(&key).ignore();
        let (dropped,): (BTreeMap<String, u64>,) = self.pipe("deliveries_dropped", &pipe).await?;
        Ok(dropped)
    }

    /// Endpoints of a shard with deliveries to come, soonest first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn deliveries_due(&self, shard: u16, limit: usize) -> Result<Vec<(String, UnixMs)>, StoreError> {
        let mut cmd = redis::cmd("ZRANGE");
        cmd.arg(self.key(shard, "endpoints_due")).arg(0).arg(limit.saturating_sub(1)).arg("WITHSCORES");
        let due: Vec<(String, f64)> = self.query("deliveries_due", cmd).await?;
        Ok(due.into_iter().map(|(e, at)| (e, at as UnixMs)).collect())
    }

    /// Takes due deliveries of an endpoint; they are due again after `lease` unless settled.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn delivery_claim(
        &self,
        shard: u16,
        endpoint: &str,
        limit: usize,
        lease: Duration,
    ) -> Result<Vec<DeliveryAttempt>, StoreError> {
        let mut cmd = self.begin(&self.scripts.delivery_claim, shard);
        cmd.arg(endpoint).arg(limit).arg(lease.as_millis() as u64);
        let raw: Vec<(String, Bytes, u16, String)> = self.query("delivery_claim", cmd).await?;
        Ok(raw
            .into_iter()
            .map(|(id, body, attempt, first_at)| DeliveryAttempt {
                endpoint: endpoint.to_owned(),
                id,
                body,
                attempt,
                first_at: first_at.parse().unwrap_or(0),
            })
            .collect())
    }

    /// Ends an attempt to deliver; `false` when the delivery is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn delivery_settle(
        &self,
        shard: u16,
        endpoint: &str,
        id: &str,
        outcome: DeliveryOutcome,
        log: &[u8],
    ) -> Result<bool, StoreError> {
        let (word, at) = match outcome {
            DeliveryOutcome::Delivered => ("delivered", 0),
            DeliveryOutcome::Retry { at } => ("retry", at),
            DeliveryOutcome::Exhausted => ("exhausted", 0),
        };
        let mut cmd = self.begin(&self.scripts.delivery_settle, shard);
        cmd.arg(endpoint).arg(id).arg(word).arg(at).arg(log).arg(KEEP.as_millis() as u64).arg(HISTORY);
        let word: String = self.query("delivery_settle", cmd).await?;
        Ok(word == "ok")
    }

    /// An endpoint's deliveries in a shard, newest first: those older than `after`, or all. Beside them the one to go on
    /// after, while older ones are kept; deliveries that come meanwhile move nothing.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn delivery_list(
        &self,
        shard: u16,
        endpoint: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<DeliveryView>, Option<String>), StoreError> {
        let mut cmd = redis::cmd("LRANGE");
        cmd.arg(self.key(shard, &format!("delivered:{endpoint}"))).arg(0).arg(-1);
        // All ids, of which there are HISTORY at most: the place of one of them changes as old ones go.
        let mut ids: Vec<String> = self.query("delivery_list", cmd).await?;
        if let Some(after) = after {
            // One that is gone took those before it along.
            ids.truncate(ids.iter().rposition(|id| id == after).unwrap_or(0));
        }
        let wanted = ids.split_off(ids.len().saturating_sub(limit));
        let mut views = Vec::with_capacity(wanted.len());
        for id in wanted.iter().rev() {
            views.extend(self.delivery(shard, endpoint, id).await?);
        }
        let next = wanted.into_iter().next().filter(|_| !ids.is_empty());
        Ok((views, next))
    }

    async fn delivery(&self, shard: u16, endpoint: &str, id: &str) -> Result<Option<DeliveryView>, StoreError> {
        let key = self.key(shard, &format!("delivery:{endpoint}:{id}"));
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(&key).cmd("LRANGE").arg(format!("{key}:log")).arg(0).arg(-1);
        let (mut held, log): (BTreeMap<String, Bytes>, Vec<Bytes>) = self.pipe("delivery", &pipe).await?;
        let Some(body) = held.remove("body") else { return Ok(None) };
        let text = |name: &str| held.get(name).map(|b| String::from_utf8_lossy(b).into_owned()).unwrap_or_default();
        Ok(Some(DeliveryView {
            id: id.to_owned(),
            state: text("state"),
            attempt: text("attempt").parse().unwrap_or(0),
            first_at: text("first_at").parse().unwrap_or(0),
            body,
            log,
        }))
    }

    /// Makes a delivery due again under its first id; `false` when it is forgotten.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn delivery_replay(&self, shard: u16, endpoint: &str, id: &str) -> Result<bool, StoreError> {
        let mut cmd = self.begin(&self.scripts.delivery_replay, shard);
        cmd.arg(endpoint).arg(id);
        let known: i64 = self.query("delivery_replay", cmd).await?;
        Ok(known == 1)
    }
}

/// Set in the place of an entry when a step was begun.
const BEGUN: u8 = 64;

fn read_entry(entry: &str, shard: u16, bytes: &Bytes) -> Option<OutboxEntry> {
    let mut at = 0;
    let mut take = |n: usize| {
        let slice = bytes.get(at..at + n)?;
        at += n;
        Some(slice)
    };
    let number = |slice: &[u8]| slice.iter().rev().fold(0_u64, |v, b| (v << 8) | u64::from(*b));
    let event = EventWord::from_code(*take(1)?.first()?)?;
    let when = number(take(6)?) as UnixMs;
    let seq = number(take(4)?) as u32;
    let seen = *take(1)?.first()?;
    let place = Place::from_code(seen & !BEGUN)?;
    let attempt = number(take(2)?) as u16;
    let mut blob = |width: usize| {
        let n = number(take(width)?) as usize;
        take(n).map(Bytes::copy_from_slice)
    };
    let text = |b: Bytes| String::from_utf8_lossy(&b).into_owned();
    let job = text(blob(1)?).parse().ok()?;
    let (kind, tenant) = (text(blob(1)?), text(blob(1)?));
    let (meta, note) = (blob(4)?, blob(2)?);
    Some(OutboxEntry {
        entry: entry.to_owned(),
        shard,
        job,
        kind,
        tenant,
        event,
        place,
        begun: seen & BEGUN != 0,
        seq,
        at: when,
        attempt,
        meta,
        note,
    })
}
