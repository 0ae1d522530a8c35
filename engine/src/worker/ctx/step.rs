//! Steps: done once, then answered from the journal (E4).

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};

use super::{Ctx, Shield, decode, lost, replay::Call, unreachable_store};
use crate::{
    model::{Effect, JobError, Recovery, Sort},
    store::{Begun, Ended, Opening},
};

/// What `verify` found out about an effect that a lost worker may have caused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verified<T> {
    /// It happened, with this result.
    Happened(T),
    /// It did not happen: it may be done now.
    NotHappened,
    /// Nobody can tell: the job becomes unknown.
    CannotTell,
}

pub(super) enum Opened {
    Run,
    Done(Bytes),
    InDoubt,
}

impl Ctx {
    /// Runs a step, or gives what it gave before: a step that ended is never done again (E4).
    ///
    /// # Errors
    /// The step's own; `cancelled` when a cancel was confirmed before it began (E8); lost when the lease is another's.
    pub async fn step<T, F, Fut>(&self, name: &str, effect: Effect, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        self.run_step(name, Opening::of(effect), f).await
    }

    /// The same for a point of no return: once it began, a cancel comes too late.
    ///
    /// # Errors
    /// As [`Ctx::step`].
    pub async fn sealed_step<T, F, Fut>(&self, name: &str, effect: Effect, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        self.run_step(name, Opening { seal: true, ..Opening::of(effect) }, f).await
    }

    /// Runs a step that must not be repeated. After a lost worker `verify` says whether it happened; when it cannot tell,
    /// the job becomes unknown and waits for proof.
    ///
    /// # Errors
    /// As [`Ctx::step`]; [`Recovery::Doubt`] when nobody can tell.
    pub async fn once<T, V, VFut, F, Fut>(&self, name: &str, verify: V, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        V: FnOnce() -> VFut,
        VFut: Future<Output = Result<Verified<T>, JobError>>,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        let call = self.call(name, Sort::Step).await?;
        let opening = Opening::of(Effect::Once);
        match self.open(&call, opening).await? {
            Opened::Done(value) => decode(name, &value),
            Opened::Run => self.close(name, f().await?).await,
            Opened::InDoubt => match verify().await? {
                Verified::Happened(value) => self.close(name, value).await,
                Verified::NotHappened => {
                    self.open(&call, Opening { again: true, ..opening }).await?;
                    self.close(name, f().await?).await
                }
                Verified::CannotTell => {
                    let text = format!("a worker was lost in step `{name}`, and nobody can tell whether it happened");
                    Err(JobError::permanent("outcome_unknown", text).with(Recovery::Doubt))
                }
            },
        }
    }

    async fn run_step<T, F, Fut>(&self, name: &str, opening: Opening, f: F) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        let call = self.call(name, Sort::Step).await?;
        match self.open(&call, repeatable(name, opening)?).await? {
            Opened::Done(value) => decode(name, &value),
            Opened::Run | Opened::InDoubt => self.close(name, f().await?).await,
        }
    }

    pub(super) async fn open(&self, call: &Call<'_>, opening: Opening) -> Result<Opened, JobError> {
        if let Some(value) = &call.done {
            return Ok(Opened::Done(value.clone()));
        }
        let inside = self.shield == Shield::Critical;
        let opening = Opening { sort: call.sort, ordinal: call.ordinal, inside: inside || opening.inside, ..opening };
        let begun = self.inner.shared.store.step_begin(self.id(), self.fence(), call.name, opening).await;
        match begun.map_err(|e| unreachable_store(&e))? {
            Begun::Run => Ok(Opened::Run),
            Begun::Done(value) => Ok(Opened::Done(value)),
            Begun::Open => Ok(Opened::InDoubt),
            Begun::Stale => Err(lost()),
            Begun::Cancelled => Err(super::cancelled(call.name)),
        }
    }

    pub(super) async fn close<T: Serialize + DeserializeOwned>(&self, name: &str, value: T) -> Result<T, JobError> {
        let bytes = serde_json::to_vec(&value)
            .map_err(|e| JobError::permanent("internal", format!("step `{name}` gave no JSON: {e}")))?;
        let (limit, all) = (self.inner.shared.options.max_result_bytes, self.inner.shared.options.max_journal_bytes);
        if bytes.len() > limit {
            let text =
                format!("step `{name}` gave {} bytes; at most {limit} are kept (worker.max_result_bytes)", bytes.len());
            return Err(JobError::permanent("result_too_large", text));
        }
        let ended = self.inner.shared.store.step_end_within(self.id(), self.fence(), name, &bytes, all).await;
        match ended.map_err(|e| unreachable_store(&e))? {
            Ended::Ok => Ok(value),
            Ended::Already(first) => decode(name, &first),
            Ended::Full => Err(journal_full(name, all)),
            Ended::Stale => Err(lost()),
        }
    }
}

fn journal_full(name: &str, limit: usize) -> JobError {
    let text = format!(
        "with step `{name}` the results of this job's steps have more than {limit} bytes, and no more are kept (limits.max_journal_bytes)"
    );
    JobError::permanent("journal_too_large", text)
}

/// Only `once` takes the `verify` that a `Once` step needs.
pub(super) fn repeatable(name: &str, opening: Opening) -> Result<Opening, JobError> {
    if opening.effect == Effect::Once {
        let text = format!("step `{name}` may not be repeated: it must be run by `once`, with a `verify`");
        return Err(JobError::permanent("once_without_verify", text));
    }
    Ok(opening)
}
