//! Claiming ready jobs under leases, and renewing the leases.

use bytes::Bytes;
use redis::Value;

use super::{connect::Store, error::StoreError};
use crate::model::{CLAIMED, JobId, JobRecord, UnixMs};

/// What a worker asks for.
#[derive(Debug, Clone)]
pub struct Claim {
    /// The worker's name, unlike any other's.
    pub worker: String,
    /// Rises with each claim of this worker; the same number again is the same claim sent again.
    pub request: u64,
    /// How many jobs at most.
    pub want: usize,
    /// How long the lease lasts, ms.
    pub lease_ms: u64,
    /// Queues in the order of preference.
    pub queues: Vec<String>,
    /// The kinds it knows; jobs of others are set aside for workers that know them. Empty: all.
    pub kinds: Vec<String>,
    /// A claim that the store comes to after this time of its clock takes nothing, since nobody waits for the answer any
    /// more; it tells to look again at once. 0: no such time.
    pub by: UnixMs,
}

/// What a worker got.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The store's time, ms.
    pub now: UnixMs,
    /// When the next scheduled job is due, if there is one.
    pub next_due: Option<UnixMs>,
    /// The jobs, now running under this claim.
    pub jobs: Vec<JobRecord>,
    /// Jobs whose record cannot be read by this version; their lease runs out by itself.
    pub unreadable: usize,
}

/// What became of a lease that was to be renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Renewed {
    /// Held for another lease.
    Held,
    /// Held, and a cancel was asked for.
    CancelRequested,
    /// Another holds it, or nobody.
    Lost,
}

/// Due jobs promoted with one claim at most (E6).
pub(crate) const PROMOTE_LIMIT: usize = 500;

impl Store {
    pub(crate) fn claim_cmd(&self, shard: u16, claim: &Claim, no_later: UnixMs) -> redis::Cmd {
        let mut cmd = self.begin(&self.scripts.claim, shard);
        let kinds = if claim.kinds.is_empty() { String::new() } else { format!(" {} ", claim.kinds.join(" ")) };
        cmd.arg(claim.want)
            .arg(claim.lease_ms)
            .arg(PROMOTE_LIMIT)
            .arg(&claim.worker)
            .arg(claim.request)
            .arg(kinds)
            .arg(no_later)
            .arg(claim.by)
            .arg(&claim.queues);
        cmd
    }

    /// Takes ready jobs of a shard under a lease.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn claim(&self, shard: u16, claim: &Claim) -> Result<Claimed, StoreError> {
        self.claim_by(shard, claim, 0).await
    }

    /// Takes ready jobs of a shard under a lease, unless the store's clock shows a time after `no_later` (ms; 0: not known).
    /// Then [`Claimed::now`] says so, and it is to be looked at first.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn claim_by(&self, shard: u16, claim: &Claim, no_later: UnixMs) -> Result<Claimed, StoreError> {
        let reply: Vec<Value> = self.query("claim", self.claim_cmd(shard, claim, no_later)).await?;
        Ok(read_claim(reply))
    }

    /// Lengthens the leases of (job, fence) pairs of a shard; answers in their order.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn renew(&self, shard: u16, held: &[(JobId, u64)], lease_ms: u64) -> Result<Vec<Renewed>, StoreError> {
        let mut cmd = self.begin(&self.scripts.renew, shard);
        cmd.arg(lease_ms);
        for (id, fence) in held {
            cmd.arg(id.as_str()).arg(*fence);
        }
        let words: Vec<String> = self.query("renew", cmd).await?;
        words
            .into_iter()
            .map(|word| match word.as_str() {
                "ok" => Ok(Renewed::Held),
                "cancel" => Ok(Renewed::CancelRequested),
                "lost" => Ok(Renewed::Lost),
                _ => Err(StoreError::UnknownAnswer { verb: "renew", answer: word }),
            })
            .collect()
    }
}

/// Reads the flat reply: time, next due, then id, record as it was, what the claim changed in it, for each job.
pub(crate) fn read_claim(reply: Vec<Value>) -> Claimed {
    let mut reply = reply.into_iter();
    let mut claimed = Claimed { now: reply.next().and_then(|v| number(&v)).unwrap_or(0), ..Claimed::default() };
    claimed.next_due = reply.next().and_then(|v| number(&v));
    while let (Some(id), Some(record), Some(hot)) = (reply.next(), reply.next(), reply.next()) {
        match read_job(&id, record, &hot) {
            Some(job) => claimed.jobs.push(job),
            None => claimed.unreadable += 1,
        }
    }
    claimed
}

fn number(value: &Value) -> Option<i64> {
    let text: String = redis::from_redis_value_ref(value).ok()?;
    text.parse::<f64>().ok().map(|n| n as i64)
}

fn read_job(id: &Value, record: Value, hot: &Value) -> Option<JobRecord> {
    let id: String = redis::from_redis_value_ref(id).ok()?;
    let (Value::BulkString(mut bytes), Value::BulkString(hot)) = (record, hot) else { return None };
    let part = bytes.get_mut(CLAIMED)?;
    if hot.len() != part.len() {
        return None;
    }
    part.copy_from_slice(hot);
    JobRecord::parse(id.parse().ok()?, &Bytes::from(bytes)).ok()
}
