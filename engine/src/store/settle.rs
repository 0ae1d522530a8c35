//! Settling attempts: each job's ending under its fence, many in one call.

use super::{connect::Store, error::StoreError};
use crate::model::JobId;

/// How an attempt ended, in the store's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// Try again after `wait_ms`.
    Retry,
    /// Not yet: again at the instant `wait_ms`; the attempt does not count.
    Snooze,
    /// Suspended until the instant `wait_ms`; the attempt does not count.
    Sleep,
    /// Suspended until it is told to go on, at most until the instant `wait_ms` (0: for ever); the attempt does not count.
    Wait,
    /// Set aside: its code is not the one that wrote its journal; `error` is the hold. The attempt does not count.
    Park,
    /// All that it did is undone: cancelled when a cancel was asked for, else dead.
    Undone,
    /// Failed for good.
    Dead,
    /// Cancelled.
    Cancelled,
    /// Handed back unfinished; the attempt does not count.
    Release,
    /// Nobody knows whether its open step happened.
    Unknown,
}

impl Outcome {
    /// The word of the script.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Retry => "retry",
            Self::Snooze => "snooze",
            Self::Sleep => "sleep",
            Self::Wait => "wait",
            Self::Park => "park",
            Self::Undone => "undone",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Release => "release",
            Self::Unknown => "unknown",
        }
    }
}

/// The ending of one attempt.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The job.
    pub id: JobId,
    /// The fence of the claim.
    pub fence: u64,
    /// The ending.
    pub outcome: Outcome,
    /// Delay of a retry, ms; instant of a snooze, a sleep or a wait, ms since 1970.
    pub wait_ms: u64,
    /// Result document, may be empty.
    pub result: Vec<u8>,
    /// Error document, may be empty; at most 64 KiB.
    pub error: Vec<u8>,
    /// Short document told with the event; at most 4 KiB.
    pub note: Vec<u8>,
}

/// What the store said to a settlement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// It is so (also when it already was).
    Ok,
    /// Another holds the job now: nothing was written (E3).
    Stale,
    /// The job is forgotten.
    Gone,
}

impl Store {
    pub(crate) fn settle_cmd(&self, shard: u16, endings: &[Settlement]) -> redis::Cmd {
        let mut cmd = self.begin(&self.scripts.settle, shard);
        cmd.arg(endings.len());
        for e in endings {
            cmd.arg(e.id.as_str()).arg(e.fence).arg(packed(e));
        }
        cmd
    }

    /// Ends attempts of one shard; answers in their order.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached: send the same again.
    pub async fn settle(&self, shard: u16, endings: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let words: Vec<String> = self.query("settle", self.settle_cmd(shard, endings)).await?;
        read_settled(&words, endings.len())
    }
}

/// Packs an ending; empty for a plain done, of which there are most.
fn packed(e: &Settlement) -> Vec<u8> {
    let (error, note) = (&e.error[..e.error.len().min(65_535)], &e.note[..e.note.len().min(4096)]);
    if e.outcome == Outcome::Done && e.result.is_empty() && error.is_empty() && note.is_empty() {
        return Vec::new();
    }
    let verdict = e.outcome.as_str();
    let mut out = Vec::with_capacity(32 + e.result.len() + error.len() + note.len());
    out.push(verdict.len() as u8);
    out.extend(verdict.as_bytes());
    out.extend(&e.wait_ms.to_le_bytes()[..6]);
    out.extend((e.result.len() as u32).to_le_bytes());
    out.extend(&e.result);
    out.extend((error.len() as u16).to_le_bytes());
    out.extend(error);
    out.extend((note.len() as u16).to_le_bytes());
    out.extend(note);
    out
}

/// Reads the answers to `many` settlements; nothing at all says that all are well.
pub(crate) fn read_settled(words: &[String], many: usize) -> Result<Vec<Settled>, StoreError> {
    if words.is_empty() {
        return Ok(vec![Settled::Ok; many]);
    }
    let read = |word: &String| match word.as_str() {
        "ok" => Ok(Settled::Ok),
        "stale" => Ok(Settled::Stale),
        "gone" => Ok(Settled::Gone),
        _ => Err(StoreError::UnknownAnswer { verb: "settle", answer: word.clone() }),
    };
    words.iter().map(read).collect()
}
