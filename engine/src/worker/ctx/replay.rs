//! Replay: each call of the context finds its entry in the journal. Guards that changed code never runs wrongly.

use std::collections::HashSet;

use bytes::Bytes;

use super::{Ctx, Shield, lock, unreachable_store};
use crate::{
    model::{CodeChanged, Effect, JobError, Journal, Recovery, Sort, Verdict},
    worker::leases::Why,
};

/// Calls in one run; each costs memory for as long as the job is kept.
const MOST_CALLS: u16 = 10_000;
/// Longest name of a step, bytes.
const NAME_BYTES: usize = 200;

/// The calls of this run.
#[derive(Debug, Default)]
pub(super) struct Visited {
    names: HashSet<String>,
    next: u16,
    /// A call did not fit the journal: whatever the code makes of the error, the job is parked.
    changed: Option<CodeChanged>,
}

/// A call, as it stands in the journal.
pub(super) struct Call<'a> {
    pub(super) name: &'a str,
    pub(super) sort: Sort,
    pub(super) ordinal: u16,
    /// It ended before, with this result.
    pub(super) done: Option<Bytes>,
    /// It was begun before.
    pub(super) begun: bool,
    /// It was begun before, may not be repeated, and nobody knows whether it happened.
    pub(super) in_doubt: bool,
}

/// How the code left the journal.
pub(crate) enum Ended {
    /// As the code that wrote it would.
    Well,
    /// It is not the same code.
    Changed(CodeChanged),
}

impl Ctx {
    /// The call's place in the order is that of its first poll, so it is taken before anything is waited for.
    pub(super) async fn call<'a>(&self, name: &'a str, sort: Sort) -> Result<Call<'a>, JobError> {
        let ordinal = self.take_place(name)?;
        if let Some(error) = self.is_suspended() {
            return Err(error);
        }
        let journal = self.journal().await?;
        match journal.meet(name, ordinal, sort) {
            Ok(held) => {
                let done = held.filter(|held| held.done).map(|held| Bytes::copy_from_slice(&held.result));
                let in_doubt = held.is_some_and(|held| !held.done && held.effect == Effect::Once);
                let call = Call { name, sort, ordinal, done, begun: held.is_some(), in_doubt };
                self.may_go_on(&call)?;
                Ok(call)
            }
            Err(changed) => {
                let error = parked(&changed);
                lock(&self.inner.visited).changed.get_or_insert(changed);
                Err(error)
            }
        }
    }

    fn take_place(&self, name: &str) -> Result<u16, JobError> {
        let refuse = |code: &str, text: String| Err(JobError::permanent(code, text));
        if self.shield == Shield::Undo {
            return refuse("undo_with_steps", format!("`{name}`: an undo is a step itself and has no steps"));
        }
        if name.is_empty() || name.len() > NAME_BYTES || name.contains(|c: char| c.is_control()) {
            return refuse(
                "step_name_bad",
                format!("a step's name has 1 to {NAME_BYTES} bytes and no control characters: {name:?}"),
            );
        }
        if let Some(steps) = self.inner.shared.declared.get(self.kind())
            && !steps.iter().any(|declared| covers(declared, name))
        {
            return refuse(
                "step_not_declared",
                format!("kind `{}` does not declare step `{name}`; it declares {}", self.kind(), steps.join(", ")),
            );
        }
        let mut visited = lock(&self.inner.visited);
        if !visited.names.insert(name.to_owned()) {
            return refuse(
                "step_name_twice",
                format!("two steps of this job are named `{name}`; a step's name is its identity"),
            );
        }
        if visited.next >= MOST_CALLS {
            return refuse("too_many_steps", format!("a job has at most {MOST_CALLS} steps"));
        }
        visited.next += 1;
        Ok(visited.next - 1)
    }

    /// What was begun before is answered or gone on with; nothing new begins in a run that only leads to the undos. There, too,
    /// it is asked whether a step happened that may not be repeated: that begins nothing.
    fn may_go_on(&self, call: &Call<'_>) -> Result<(), JobError> {
        if call.done.is_some() {
            return Ok(());
        }
        let section = call.sort == Sort::Critical && call.begun;
        if self.is_unwinding() && !section && !call.in_doubt {
            return Err(super::cancelled(call.name));
        }
        let lease = &self.inner.lease;
        if lease.why() == Why::Abort && self.shield != Shield::Critical {
            return Err(JobError::transient("worker_stops", "the worker stops before this step").with(Recovery::Lost));
        }
        if lease.is_valid() { Ok(()) } else { Err(super::lost()) }
    }

    /// The journal of earlier attempts: read once, at the first call, in one round trip.
    pub(super) async fn journal(&self) -> Result<&Journal, JobError> {
        let read = async {
            match self.inner.record.has_journal {
                true => self.inner.shared.store.journal(self.id()).await,
                false => Ok(Journal::default()),
            }
        };
        self.inner.journal.get_or_try_init(|| read).await.map_err(|e| unreachable_store(&e))
    }

    /// Whether a step of this job ended in an earlier attempt.
    ///
    /// # Errors
    /// Transient when the store cannot be reached.
    pub async fn has_ended(&self, step: &str) -> Result<bool, JobError> {
        Ok(self.journal().await?.entry(step).is_some_and(|held| held.done))
    }

    /// This run does not go on with the job; it only finds the undos of what was done.
    pub(crate) fn is_unwinding(&self) -> bool {
        let record = &self.inner.record;
        record.undoing || (record.cancel_requested && record.has_undo)
    }

    /// Whether the code that ended with `verdict` is the code that wrote the journal.
    pub(crate) async fn ended(&self, verdict: &Result<Verdict, JobError>) -> Result<Ended, JobError> {
        if let Some(changed) = lock(&self.inner.visited).changed.clone() {
            return Ok(Ended::Changed(changed));
        }
        // An end that leaves out what was done before is the end of other code.
        if !matches!(verdict, Ok(Verdict::Done(_))) || !self.inner.record.has_journal {
            return Ok(Ended::Well);
        }
        let journal = self.journal().await?;
        Ok(journal.all_met(&lock(&self.inner.visited).names).map_or_else(Ended::Changed, |()| Ended::Well))
    }
}

fn parked(changed: &CodeChanged) -> JobError {
    JobError::permanent("code_changed", changed.to_string()).with(Recovery::Park)
}

/// A declared name that ends in `*` stands for all names with that beginning.
fn covers(declared: &str, name: &str) -> bool {
    match declared.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => declared == name,
    }
}
