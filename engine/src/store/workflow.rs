//! Suspended jobs: what they wait for, signals, children, undo (E3, E4, E8).
//!
//! Invariant: what a job waits for is looked for and written down in one script, so that nothing that comes meanwhile is missed.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use redis::Value;

use super::{
    connect::Store,
    enqueue::{check_names, wish},
    error::StoreError,
    steps::{Opening, split},
};
use crate::model::{HOT_BYTES, JobId, Journal, NewJob, Place, Step, UnixMs, pack};

/// Signals kept for a job, used ones included.
pub const MOST_SIGNALS: usize = 200;
/// Largest payload of a signal, bytes.
pub const SIGNAL_BYTES: usize = 64 << 10;
/// Bytes of all signals kept for a job.
const ALL_SIGNALS_BYTES: usize = 1 << 20;
/// Children of a job.
pub const MOST_CHILDREN: usize = 1000;

/// What came of a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signalled {
    /// The job waited for it and goes on.
    Woken,
    /// It is kept until the job asks for it.
    Kept,
    /// The same key was counted before.
    Duplicate,
    /// The job has ended.
    Final(Place),
    /// The job has [`MOST_SIGNALS`], or too many bytes of them.
    Full,
    /// No such job.
    Gone,
}

/// What a running job is about to wait for.
#[derive(Debug, Clone)]
pub(crate) enum Wanted<'a> {
    Time,
    Signal(&'a str),
    /// Signals of this name are looked at by the caller, who has seen so many signals of the job.
    Answers {
        name: &'a str,
        seen: usize,
    },
    Children {
        ids: &'a [JobId],
        all: bool,
        fail: bool,
    },
}

/// Until when it waits at most.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Until {
    Never,
    At(UnixMs),
    After(Duration),
}

/// A signal as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Letter {
    pub(crate) used: bool,
    pub(crate) at: UnixMs,
    pub(crate) name: String,
    pub(crate) payload: Bytes,
}

/// What the store says to a job that wants to wait.
#[derive(Debug, Clone)]
pub(crate) enum Suspended {
    Waits { until: UnixMs },
    Done(Bytes),
    Look { now: UnixMs, until: UnixMs, letters: Vec<Letter> },
    Stale,
    Cancelled,
    NotChild(String),
}

/// What the store says to a spawn.
#[derive(Debug, Clone)]
pub(crate) enum Spawned {
    Child(JobId),
    Stale,
    Cancelled,
    TooMany,
    Refused(String),
}

impl Store {
    /// Everything earlier attempts wrote down, in one round trip.
    pub(crate) async fn journal(&self, id: &JobId) -> Result<Journal, StoreError> {
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(id.shard(), &format!("steps:{id}")));
        let held: BTreeMap<String, Bytes> = self.query("journal", cmd).await?;
        Ok(Journal::new(held.into_iter().filter_map(|(name, held)| Step::parse(name, &held)).collect()))
    }

    pub(crate) async fn suspend(
        &self,
        (id, fence): (&JobId, u64),
        step: &str,
        how: Opening,
        (wanted, until): (Wanted<'_>, Until),
        document: &str,
    ) -> Result<Suspended, StoreError> {
        let mut cmd = self.begin(&self.scripts.suspend, id.shard());
        cmd.arg(id.as_str()).arg(fence).arg(step).arg(how.ordinal).arg(how.code());
        let (what, about, seen) = match &wanted {
            Wanted::Time => ("time", "", 0),
            Wanted::Signal(name) => ("signal", *name, 0),
            Wanted::Answers { name, seen } => ("answers", *name, *seen),
            Wanted::Children { all, fail, .. } => {
                (if *all { "all" } else { "any" }, if *fail { "fail" } else { "collect" }, 0)
            }
        };
        cmd.arg(what).arg(about);
        match until {
            Until::Never => cmd.arg(0).arg(""),
            // 0 would be never.
            Until::At(at) => cmd.arg(at.max(1)).arg(""),
            Until::After(time) => cmd.arg(0).arg(u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(MOST_MS)),
        };
        cmd.arg(document).arg(seen);
        if let Wanted::Children { ids, .. } = wanted {
            for child in ids {
                cmd.arg(child.as_str());
            }
        }
        read_suspended(self.query("suspend", cmd).await?)
    }

    /// Sends a signal to a job. It is kept until the job asks for it, and counted once by its key (empty: each counts).
    ///
    /// `payload` is JSON, at most [`SIGNAL_BYTES`]; `note` is told with the event.
    ///
    /// # Errors
    /// [`StoreError::TooLong`] and [`StoreError::BadName`] when nothing was sent; else the store cannot be reached.
    pub async fn signal(
        &self,
        id: &JobId,
        name: &str,
        key: &str,
        payload: &[u8],
        note: &str,
    ) -> Result<Signalled, StoreError> {
        check_signal(name, key, payload)?;
        if id.shard() >= self.shards {
            return Ok(Signalled::Gone);
        }
        let mut cmd = self.begin(&self.scripts.signal, id.shard());
        // Sent again after a lost reply, it must not count twice (E10).
        let key = if key.is_empty() { format!("~{:032x}", rand::random::<u128>()) } else { key.to_owned() };
        cmd.arg(id.as_str()).arg(name).arg(key).arg(if payload.is_empty() { b"null" } else { payload });
        cmd.arg(note).arg(MOST_SIGNALS).arg(ALL_SIGNALS_BYTES);
        let (word, place): (String, String) = self.query("signal", cmd).await?;
        Ok(match word.as_str() {
            "woken" => Signalled::Woken,
            "kept" => Signalled::Kept,
            "duplicate" => Signalled::Duplicate,
            "final" => Signalled::Final(place.parse().unwrap_or(Place::Succeeded)),
            "full" => Signalled::Full,
            "gone" => Signalled::Gone,
            _ => return Err(StoreError::UnknownAnswer { verb: "signal", answer: word }),
        })
    }

    pub(crate) async fn spawn(
        &self,
        (id, fence): (&JobId, u64),
        step: &str,
        how: Opening,
        child: &NewJob,
    ) -> Result<Spawned, StoreError> {
        check_names(child)?;
        let record = pack(child);
        let (hot, rest) = record.split_at(HOT_BYTES);
        let mut cmd = self.begin(&self.scripts.spawn, id.shard());
        cmd.arg(id.as_str()).arg(fence).arg(step).arg(how.ordinal).arg(how.code()).arg(MOST_CHILDREN);
        cmd.arg(child.id.as_str()).arg(hot).arg(rest).arg(child.run_at.unwrap_or(0)).arg(wish(child));
        let (word, about) = split(self.query("spawn", cmd).await?);
        let about = String::from_utf8_lossy(&about).into_owned();
        Ok(match word.as_str() {
            "spawned" => match about.parse() {
                Ok(child) => Spawned::Child(child),
                Err(_) => return Err(StoreError::UnknownAnswer { verb: "spawn", answer: about }),
            },
            "stale" => Spawned::Stale,
            "cancelled" => Spawned::Cancelled,
            "too_many" => Spawned::TooMany,
            "refused" => Spawned::Refused(about),
            _ => return Err(StoreError::UnknownAnswer { verb: "spawn", answer: word }),
        })
    }

    /// From here on the job undoes what it did. `false` when the fence is another's.
    pub(crate) async fn undo_begin(&self, id: &JobId, fence: u64, failure: &[u8]) -> Result<bool, StoreError> {
        let mut cmd = self.begin(&self.scripts.undo_begin, id.shard());
        cmd.arg(id.as_str()).arg(fence).arg(failure);
        let word: String = self.query("undo_begin", cmd).await?;
        Ok(word == "ok")
    }

    /// The children of a job: where each ended, `None` while it has not.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn children(&self, id: &JobId) -> Result<BTreeMap<JobId, Option<Place>>, StoreError> {
        if id.shard() >= self.shards {
            return Ok(BTreeMap::new());
        }
        let mut cmd = redis::cmd("HGETALL");
        cmd.arg(self.key(id.shard(), &format!("children:{id}")));
        let held: BTreeMap<String, String> = self.query("children", cmd).await?;
        Ok(held.into_iter().filter_map(|(child, word)| Some((child.parse().ok()?, word.parse().ok()))).collect())
    }
}

/// The longest wait that can be said in a record, about 8,900 years.
const MOST_MS: u64 = 1 << 47;

fn check_signal(name: &str, key: &str, payload: &[u8]) -> Result<(), StoreError> {
    let rule = "1 to 100 letters, digits, `-`, `_`, `.`, `:` or spaces";
    let fits = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | '.' | ':' | ' ');
    if name.is_empty() || name.len() > 100 || !name.chars().all(fits) {
        return Err(StoreError::BadName { what: "the signal", rule });
    }
    if key.len() > 128 {
        return Err(StoreError::TooLong { what: "the idempotency key", max: 128 });
    }
    if payload.len() > SIGNAL_BYTES {
        return Err(StoreError::TooLong { what: "the payload", max: SIGNAL_BYTES });
    }
    let is_json = payload.is_empty() || serde_json::from_slice::<serde::de::IgnoredAny>(payload).is_ok();
    if is_json { Ok(()) } else { Err(StoreError::BadName { what: "the payload", rule: "it must be JSON" }) }
}

fn read_suspended(reply: Vec<Value>) -> Result<Suspended, StoreError> {
    let bytes = |at: usize| match reply.get(at) {
        Some(Value::BulkString(bytes)) => Bytes::copy_from_slice(bytes),
        _ => Bytes::new(),
    };
    let text = |at: usize| String::from_utf8_lossy(&bytes(at)).into_owned();
    let number = |at: usize| text(at).parse().unwrap_or(0);
    Ok(match text(0).as_str() {
        "waits" => Suspended::Waits { until: number(1) },
        "done" => Suspended::Done(bytes(1)),
        "look" => {
            let letters = (3..reply.len()).filter_map(|at| read_letter(&bytes(at))).collect();
            Suspended::Look { now: number(1), until: number(2), letters }
        }
        "stale" => Suspended::Stale,
        "cancelled" => Suspended::Cancelled,
        "not_child" => Suspended::NotChild(text(1)),
        _ => return Err(StoreError::UnknownAnswer { verb: "suspend", answer: text(0) }),
    })
}

/// flag, instant, name, key, payload; see `letters.lua`.
fn read_letter(held: &Bytes) -> Option<Letter> {
    let at = held.get(1..7)?.iter().rev().fold(0_i64, |v, b| (v << 8) | i64::from(*b));
    let name_end = 8 + usize::from(*held.get(7)?);
    let name = String::from_utf8_lossy(held.get(8..name_end)?).into_owned();
    let key_end = name_end + 1 + usize::from(*held.get(name_end)?);
    Some(Letter { used: *held.first()? != 0, at, name, payload: held.slice_ref(held.get(key_end..)?) })
}
