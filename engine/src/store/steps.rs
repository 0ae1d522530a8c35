//! The journal: steps begun and ended under a fence, progress and log lines (E3, E4, E8).

use bytes::Bytes;

use super::{connect::Store, error::StoreError};
use crate::model::{Effect, JobId, Sort, WITH_UNDO};

/// What the store says to a step that wants to begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begun {
    /// Go.
    Run,
    /// It ended before, with this result.
    Done(Bytes),
    /// A `Once` step that a lost worker began and nobody ended.
    Open,
    /// The fence is another's.
    Stale,
    /// A cancel was confirmed: begin nothing.
    Cancelled,
}

/// What the store says to a step's result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// Written.
    Ok,
    /// It was written before, with this result.
    Already(Bytes),
    /// Not written: the results of the job's steps would have more bytes than they may.
    Full,
    /// The fence is another's.
    Stale,
}

/// How a step begins.
#[derive(Debug, Clone, Copy)]
pub struct Opening {
    /// Its effect class.
    pub effect: Effect,
    /// Which verb begins it.
    pub sort: Sort,
    /// Which call of the kind's code it is, from 0.
    pub ordinal: u16,
    /// An open `Once` step is begun anew: `verify` said that it did not happen.
    pub again: bool,
    /// From here on a cancel comes too late.
    pub seal: bool,
    /// It has an undo: the job cannot simply be cancelled any more.
    pub undo: bool,
    /// It is part of a critical section or of an undo, whose end a cancel waits for.
    pub inside: bool,
}

impl Opening {
    /// A plain step of this class, the first of its job.
    #[must_use]
    pub const fn of(effect: Effect) -> Self {
        Self { effect, sort: Sort::Step, ordinal: 0, again: false, seal: false, undo: false, inside: false }
    }

    pub(super) const fn code(&self) -> u8 {
        self.effect.code() | self.sort.code() << 2 | if self.undo { WITH_UNDO } else { 0 }
    }
}

impl Store {
    /// Opens a step of a running job under its fence.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn step_begin(&self, id: &JobId, fence: u64, step: &str, how: Opening) -> Result<Begun, StoreError> {
        let mut cmd = self.begin(&self.scripts.step_begin, id.shard());
        cmd.arg(id.as_str())
            .arg(fence)
            .arg(step)
            .arg(how.ordinal)
            .arg(how.code())
            .arg(u8::from(how.again))
            .arg(u8::from(how.seal))
            .arg(u8::from(how.inside));
        let reply: Vec<Bytes> = self.query("step_begin", cmd).await?;
        let (word, rest) = split(reply);
        match word.as_str() {
            "run" => Ok(Begun::Run),
            "done" => Ok(Begun::Done(rest)),
            "open" => Ok(Begun::Open),
            "stale" => Ok(Begun::Stale),
            "cancelled" => Ok(Begun::Cancelled),
            _ => Err(StoreError::UnknownAnswer { verb: "step_begin", answer: word }),
        }
    }

    /// Writes a step's result, once, whatever the job's other results come to.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn step_end(&self, id: &JobId, fence: u64, step: &str, result: &[u8]) -> Result<Ended, StoreError> {
        self.step_end_within(id, fence, step, result, usize::MAX >> 12).await
    }

    /// Writes a step's result, once, if all results of the job then have at most so many bytes; those below 256 do not count.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn step_end_within(
        &self,
        id: &JobId,
        fence: u64,
        step: &str,
        result: &[u8],
        most: usize,
    ) -> Result<Ended, StoreError> {
        let mut cmd = self.begin(&self.scripts.step_end, id.shard());
        cmd.arg(id.as_str()).arg(fence).arg(step).arg(result).arg(most);
        let reply: Vec<Bytes> = self.query("step_end", cmd).await?;
        let (word, rest) = split(reply);
        match word.as_str() {
            "ok" => Ok(Ended::Ok),
            "already" => Ok(Ended::Already(rest)),
            "full" => Ok(Ended::Full),
            "stale" => Ok(Ended::Stale),
            _ => Err(StoreError::UnknownAnswer { verb: "step_end", answer: word }),
        }
    }

    /// Keeps progress and log lines; `false` when the fence is another's.
    pub(crate) async fn progress(&self, id: &JobId, fence: u64, said: &Said) -> Result<bool, StoreError> {
        // Sent again after a lost reply, no line must stand in the log twice (E10).
        self.progress_as(&format!("{:016x}", rand::random::<u64>()), (id, fence), said).await
    }

    pub(crate) async fn progress_as(
        &self,
        request: &str,
        (id, fence): (&JobId, u64),
        said: &Said,
    ) -> Result<bool, StoreError> {
        let mut cmd = self.begin(&self.scripts.progress, id.shard());
        cmd.arg(id.as_str()).arg(fence);
        match &said.progress {
            Some((percent, text)) => cmd.arg(*percent).arg(text),
            None => cmd.arg("").arg(""),
        };
        cmd.arg(PROGRESS_GAP_MS).arg(LOG_LINES).arg(request).arg(&said.lines);
        let word: String = self.query("progress", cmd).await?;
        Ok(word == "ok")
    }
}

/// What a running job said since the last time.
#[derive(Debug, Default)]
pub(crate) struct Said {
    pub(crate) progress: Option<(u8, String)>,
    pub(crate) lines: Vec<String>,
}

/// Listeners hear progress at most this often, ms.
const PROGRESS_GAP_MS: u64 = 1000;
/// Log lines kept a job.
const LOG_LINES: usize = 1000;

pub(super) fn split(reply: Vec<Bytes>) -> (String, Bytes) {
    let mut reply = reply.into_iter();
    let word = reply.next().map(|b| String::from_utf8_lossy(&b).into_owned()).unwrap_or_default();
    (word, reply.next().unwrap_or_default())
}
