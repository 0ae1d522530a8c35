//! Undos: what a step did is taken back, in reverse, when the job fails for good or is cancelled. Guards that an undo is
//! known before its step begins, and is journaled like a step.

use std::{panic::AssertUnwindSafe, pin::Pin, time::Duration};

use bytes::Bytes;
use futures::FutureExt;
use serde::{Serialize, de::DeserializeOwned};

use super::{
    Ctx, Shield, decode, lock, lost,
    replay::Call,
    step::{Opened, repeatable},
    unreachable_store,
};
use crate::{
    model::{Effect, JobError, NO_ORDINAL, Recovery, Sort, undo_name},
    store::Opening,
    worker::leases::Why,
};

type Undoing = Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>>;
type TakeBack = Box<dyn FnOnce(Ctx, Option<Bytes>) -> Undoing + Send>;

/// How to take a step back.
pub(crate) struct Undo {
    pub(crate) step: String,
    /// What the step gave; none when it was begun and never ended.
    value: Option<Bytes>,
    take_back: TakeBack,
}

/// A worker that stops gives an undo this long.
const STOP_GRACE: Duration = Duration::from_secs(2);

impl Ctx {
    /// Runs a step that can be taken back. When the job fails for good or is cancelled, the undos of its steps run in reverse,
    /// each a journaled step `undo <name>`. An undo gets what its step gave, or `None` when the step was begun and nobody
    /// knows how far it came; it may run again after a lost worker, so doing it twice must be doing it once.
    ///
    /// # Errors
    /// As [`Ctx::step`].
    pub async fn step_with_undo<T, F, Fut, U, UFut>(
        &self,
        name: &str,
        effect: Effect,
        f: F,
        undo: U,
    ) -> Result<T, JobError>
    where
        T: Serialize + DeserializeOwned,
        F: FnOnce() -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
        U: FnOnce(Self, Option<T>) -> UFut + Send + 'static,
        UFut: Future<Output = Result<(), JobError>> + Send + 'static,
    {
        let opening = repeatable(name, Opening { undo: true, ..Opening::of(effect) })?;
        let step = name.to_owned();
        let take_back: TakeBack =
            Box::new(move |ctx, value| match value.map(|held| decode(&step, &held)).transpose() {
                Ok(value) => Box::pin(undo(ctx, value)),
                Err(error) => Box::pin(std::future::ready(Err(error))),
            });
        let call = match self.call(name, Sort::Step).await {
            Ok(call) => call,
            Err(error) => {
                // In a run that only leads to the undos, a step that was begun and did not end ends the way there.
                if self.is_unwinding() && self.journal().await?.entry(name).is_some() {
                    self.register(name, None, take_back);
                }
                return Err(error);
            }
        };
        self.register(name, call.done.clone(), take_back);
        let value = match self.open(&call, opening).await {
            Ok(Opened::Done(held)) => return self.with_value(name, held),
            Ok(Opened::Run | Opened::InDoubt) => self.close(name, f().await?).await?,
            Err(error) => {
                if !call.begun {
                    lock(&self.inner.undos).retain(|undo| undo.step != name);
                }
                return Err(error);
            }
        };
        let held = serde_json::to_vec(&value).unwrap_or_default();
        self.with_value(name, held.into())
    }

    fn register(&self, step: &str, value: Option<Bytes>, take_back: TakeBack) {
        lock(&self.inner.undos).push(Undo { step: step.to_owned(), value, take_back });
    }

    fn with_value<T: DeserializeOwned>(&self, name: &str, held: Bytes) -> Result<T, JobError> {
        let value = decode(name, &held);
        for undo in lock(&self.inner.undos).iter_mut().filter(|undo| undo.step == name) {
            undo.value = Some(held.clone());
        }
        value
    }

    /// The undos of this run, the last step's first.
    pub(crate) fn taken_undos(&self) -> Vec<Undo> {
        let mut undos = std::mem::take(&mut *lock(&self.inner.undos));
        undos.reverse();
        undos
    }

    pub(crate) fn has_undos(&self) -> bool {
        !lock(&self.inner.undos).is_empty()
    }

    /// The steps whose undos this run came by.
    pub(crate) fn known_undos(&self) -> Vec<String> {
        lock(&self.inner.undos).iter().map(|undo| undo.step.clone()).collect()
    }

    /// Steps with an undo that are not among these: this run does not know how to take them back.
    pub(crate) async fn missing_undos(&self, known: &[String]) -> Result<Vec<String>, JobError> {
        let is_known = |step: &str| known.iter().any(|other| other == step);
        Ok(self.journal().await?.undoable().filter(|step| !is_known(step)).map(str::to_owned).collect())
    }

    /// Takes one step back, unless that was done before.
    pub(crate) async fn undo(&self, undo: Undo) -> Result<(), JobError> {
        if self.journal().await?.is_undone(&undo.step) {
            return Ok(());
        }
        let name = undo_name(&undo.step);
        let call =
            Call { name: &name, sort: Sort::Undo, ordinal: NO_ORDINAL, done: None, begun: false, in_doubt: false };
        let opening = Opening { inside: true, ..Opening::of(Effect::Fenced) };
        if matches!(self.open(&call, opening).await?, Opened::Done(_)) {
            return Ok(());
        }
        let ctx = self.shielded(Shield::Undo);
        let stopped = ctx.cancelled().clone();
        let work = AssertUnwindSafe((undo.take_back)(ctx, undo.value)).catch_unwind();
        let patience = async {
            stopped.cancelled().await;
            tokio::time::sleep(STOP_GRACE).await;
        };
        tokio::select! {
            biased;
            done = work => done.unwrap_or_else(|_| Err(JobError::transient("panicked", format!("`{name}` panicked"))))?,
            () = patience => return Err(match self.inner.lease.why() {
                Why::Abort | Why::Cancel | Why::Nothing => JobError::transient("worker_stops", "the worker stops in this undo").with(Recovery::Lost),
                Why::Lost => lost(),
            }),
        }
        self.close(&name, ()).await
    }

    /// From here on no step begins but undos.
    pub(crate) async fn undo_begin(&self, failure: &[u8]) -> Result<(), JobError> {
        let begun = self.inner.shared.store.undo_begin(self.id(), self.fence(), failure).await;
        if begun.map_err(|e| unreachable_store(&e))? { Ok(()) } else { Err(lost()) }
    }
}
