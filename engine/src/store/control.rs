//! What people do to jobs: cancel, edit, revive, resolve.

use bytes::Bytes;
use redis::Value;

use super::{connect::Store, enqueue::ticket_refusal, error::StoreError};
use crate::model::{JobId, Place, TicketRefusal, TicketUse, UnixMs};

/// How much time must be left to a job's planned time.
#[derive(Debug, Clone, Copy)]
pub struct Cutoff {
    /// At least this many ms.
    pub lead_ms: u64,
    /// Whether exactly `lead_ms` is still in time.
    pub inclusive: bool,
}

/// What came of a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It is cancelled.
    Now,
    /// It runs and was asked to stop; it begins no further step (E8).
    Requested,
    /// Past its cut-off, or past its point of no return.
    TooLate(Place),
    /// It had ended before.
    Final(Place),
    /// It is unknown: resolve it first.
    Unknown,
    /// No such job.
    Gone,
}

/// A change to a job that has not started.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Refused unless the job's seq is this one (If-Match).
    pub expected_seq: Option<u32>,
    /// Refused past this cut-off.
    pub cutoff: Option<Cutoff>,
    /// The new planned time, ms; `None` keeps it.
    pub run_at: Option<UnixMs>,
    /// The new meta document.
    pub meta: Bytes,
    /// The new arguments.
    pub args: Bytes,
    /// Told with the event.
    pub note: String,
    /// A code that the edit spends.
    pub ticket: Option<TicketUse>,
}

/// What came of an edit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edited {
    /// Changed; the job's new seq.
    Ok(u32),
    /// Past its cut-off.
    TooLate,
    /// It is in this place.
    NotScheduled(Place),
    /// Somebody changed it before; its seq.
    Changed(u32),
    /// The ticket was refused.
    TicketRefused {
        /// Why.
        why: TicketRefusal,
        /// Tries left.
        tries_left: u32,
    },
    /// No such job.
    Gone,
}

/// What came of a revive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revived {
    /// It is back at work, in this place.
    Ok(Place),
    /// It has not ended in a way that can be revived.
    NotFinal(Place),
    /// No such job.
    Gone,
}

/// What a person, or proof, says of a step that nobody saw end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resolution<'a> {
    /// Which step; `None` where only one is open.
    pub step: Option<&'a str>,
    /// Whether it happened.
    pub happened: bool,
    /// Its result, when it did.
    pub result: &'a [u8],
}

impl<'a> Resolution<'a> {
    /// The only open step happened, or it did not.
    #[must_use]
    pub const fn of_the_only(happened: bool, result: &'a [u8]) -> Self {
        Self { step: None, happened, result }
    }
}

/// What came of a resolve.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resolved {
    /// Decided, of the step of this name; when no other is open the job goes on.
    Ok(String),
    /// Several steps are open, and none was named: these.
    Several(Vec<String>),
    /// The named step is not open; these are.
    NotOpen(Vec<String>),
    /// It is not unknown.
    NotUnknown(Place),
    /// No such job.
    Gone,
}

/// Parents whose children a cancel takes along; the rest is upkeep's.
const CASCADE_AT_ONCE: usize = 100;

/// Names one call, so that its repetition after a lost reply gets the same answer.
fn request() -> String {
    format!("{:016x}", rand::random::<u64>())
}

fn words(reply: &[Value]) -> (String, String) {
    let text = |i: usize| reply.get(i).and_then(|v| redis::from_redis_value_ref::<String>(v).ok()).unwrap_or_default();
    (text(0), text(1))
}

fn place(verb: &'static str, word: &str) -> Result<Place, StoreError> {
    word.parse().map_err(|_| StoreError::UnknownAnswer { verb, answer: word.to_owned() })
}

fn add_cutoff(cmd: &mut redis::Cmd, cutoff: Option<Cutoff>) {
    match cutoff {
        Some(c) => cmd.arg(c.lead_ms).arg(u8::from(c.inclusive)),
        None => cmd.arg("").arg("0"),
    };
}

impl Store {
    /// Cancels a job wherever it is, and its children with it. A running one is asked to stop, and begins no step after this
    /// has answered (E8). Of a large tree, what is not reached at once follows with upkeep.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn cancel(&self, id: &JobId, note: &str, cutoff: Option<Cutoff>) -> Result<Cancelled, StoreError> {
        let mut cmd = self.begin(&self.scripts.cancel, id.shard());
        cmd.arg(id.as_str()).arg(note);
        add_cutoff(&mut cmd, cutoff);
        let mut pipe = redis::pipe();
        pipe.add_command(cmd).add_command(self.cascade_cmd(id.shard()));
        let (reply, mut left): (Vec<Value>, usize) = self.pipe("cancel", &pipe).await?;
        for _ in 0..CASCADE_AT_ONCE {
            if left == 0 {
                break;
            }
            left = self.cascade(id.shard()).await?;
        }
        let (word, at) = words(&reply);
        Ok(match word.as_str() {
            "cancelled" => Cancelled::Now,
            "cancelling" => Cancelled::Requested,
            "too_late" => Cancelled::TooLate(place("cancel", &at)?),
            "final" => Cancelled::Final(place("cancel", &at)?),
            "unknown" => Cancelled::Unknown,
            "gone" => Cancelled::Gone,
            _ => return Err(StoreError::UnknownAnswer { verb: "cancel", answer: word }),
        })
    }

    /// Changes a job that has not started.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn edit(&self, id: &JobId, edit: &Edit) -> Result<Edited, StoreError> {
        let mut cmd = self.begin(&self.scripts.edit, id.shard());
        cmd.arg(id.as_str()).arg(edit.expected_seq.map_or_else(String::new, |s| s.to_string()));
        add_cutoff(&mut cmd, edit.cutoff);
        cmd.arg(edit.run_at.map_or_else(String::new, |t| t.to_string()));
        cmd.arg(&edit.meta[..]).arg(&edit.args[..]).arg(&edit.note);
        match &edit.ticket {
            Some(t) => cmd.arg(&t.id).arg(&t.digest).arg(&t.binding),
            None => cmd.arg("").arg("").arg(""),
        };
        let reply: Vec<Value> = self.query("edit", cmd).await?;
        let (word, more) = words(&reply);
        let unknown = || StoreError::UnknownAnswer { verb: "edit", answer: word.clone() };
        Ok(match word.as_str() {
            "edited" => Edited::Ok(more.parse().map_err(|_| unknown())?),
            "too_late" => Edited::TooLate,
            "not_scheduled" => Edited::NotScheduled(place("edit", &more)?),
            "changed" => Edited::Changed(more.parse().map_err(|_| unknown())?),
            "ticket" => Edited::TicketRefused {
                why: ticket_refusal(&more).ok_or_else(unknown)?,
                tries_left: reply.get(2).and_then(|v| redis::from_redis_value_ref(v).ok()).unwrap_or(0),
            },
            "gone" => Edited::Gone,
            _ => return Err(unknown()),
        })
    }

    /// Sends a dead or cancelled job back to work, with fresh attempts. Ended steps stay ended.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn revive(&self, id: &JobId, note: &str) -> Result<Revived, StoreError> {
        let mut cmd = self.begin(&self.scripts.revive, id.shard());
        cmd.arg(id.as_str()).arg(note).arg(request());
        let reply: Vec<Value> = self.query("revive", cmd).await?;
        let (word, at) = words(&reply);
        Ok(match word.as_str() {
            "revived" => Revived::Ok(place("revive", &at)?),
            "not_final" => Revived::NotFinal(place("revive", &at)?),
            "gone" => Revived::Gone,
            _ => return Err(StoreError::UnknownAnswer { verb: "revive", answer: word }),
        })
    }

    /// Says what became of an open `Once` step of an unknown job. The job goes on when no other is open; one that was to be
    /// cancelled is.
    ///
    /// # Errors
    /// [`StoreError`] when the store cannot be reached.
    pub async fn resolve(&self, id: &JobId, said: Resolution<'_>, note: &str) -> Result<Resolved, StoreError> {
        let mut cmd = self.begin(&self.scripts.resolve, id.shard());
        cmd.arg(id.as_str()).arg(said.step.unwrap_or_default()).arg(u8::from(said.happened)).arg(said.result);
        cmd.arg(note).arg(request());
        let reply: Vec<Value> = self.query("resolve", cmd).await?;
        let (word, more) = words(&reply);
        Ok(match word.as_str() {
            "resolved" => Resolved::Ok(more),
            "several" => Resolved::Several(more.lines().map(str::to_owned).collect()),
            "not_open" => Resolved::NotOpen(more.lines().map(str::to_owned).collect()),
            "not_unknown" => Resolved::NotUnknown(place("resolve", &more)?),
            "gone" => Resolved::Gone,
            _ => return Err(StoreError::UnknownAnswer { verb: "resolve", answer: word }),
        })
    }
}
