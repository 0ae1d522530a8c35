//! Waits without a worker: for a time, for a signal. The run ends with an error that suspends the job; when woken, it starts
//! at the top. Guards that a wait is written down before the job lets go of its worker.

use std::{collections::BTreeSet, time::Duration};

use serde::Deserialize;
use serde_json::Value;

use super::{Ctx, decode, lock, lost, replay::Call, unreachable_store};
use crate::{
    model::{Awaited, Effect, JobError, Recovery, Sort, UnixMs},
    store::{Opening, Suspended, Until, Wanted},
};

/// A signal that came.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Signal {
    /// When it was sent, ms.
    pub at: UnixMs,
    /// What was sent with it; null when nothing was.
    pub payload: Value,
}

/// What a run that was suspended waits for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Suspension {
    /// The first of its waits ends by itself then, ms; 0 never.
    pub(crate) until: UnixMs,
    /// Something besides time may wake it.
    pub(crate) may_be_woken: bool,
    /// What it waits for, for people.
    pub(crate) about: BTreeSet<String>,
}

impl Ctx {
    /// Sleeps this long from when it is first called; no worker is held. Counted in the store's time.
    ///
    /// # Errors
    /// [`Recovery::Suspend`] while it lasts: pass it on with `?`. `cancelled` after a cancel.
    pub async fn sleep(&self, name: &str, time: Duration) -> Result<(), JobError> {
        self.sleep_by(name, Until::After(time)).await
    }

    /// Sleeps until an instant, in ms of the store's clock; no worker is held. An instant that is past does not wait.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    pub async fn sleep_until(&self, name: &str, at: UnixMs) -> Result<(), JobError> {
        self.sleep_by(name, Until::At(at)).await
    }

    async fn sleep_by(&self, name: &str, until: Until) -> Result<(), JobError> {
        let call = self.call(name, Sort::Sleep).await?;
        if call.done.is_some() {
            return Ok(());
        }
        match self.suspend(&call, Wanted::Time, until, &Awaited::Time).await? {
            Suspended::Done(_) => Ok(()),
            other => Err(self.suspended(name, &other, false)),
        }
    }

    /// Waits for a signal of this name; `None` when `within` is over first. No worker is held. A signal that came before is
    /// taken at once; each is taken by one wait.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    pub async fn wait_signal(&self, name: &str, within: Option<Duration>) -> Result<Option<Signal>, JobError> {
        self.wait_signal_as(name, name, within).await
    }

    /// The same where a job waits more than once for signals of one name: `step` is the name of this wait.
    ///
    /// # Errors
    /// As [`Ctx::sleep`].
    pub async fn wait_signal_as(
        &self,
        step: &str,
        signal: &str,
        within: Option<Duration>,
    ) -> Result<Option<Signal>, JobError> {
        let call = self.call(step, Sort::Signal).await?;
        if let Some(held) = &call.done {
            return decode(step, held);
        }
        let until = within.map_or(Until::Never, Until::After);
        let awaited = Awaited::Signal { signal: signal.to_owned() };
        match self.suspend(&call, Wanted::Signal(signal), until, &awaited).await? {
            Suspended::Done(held) => decode(step, &held),
            other => Err(self.suspended(step, &other, true)),
        }
    }

    pub(super) async fn suspend(
        &self,
        call: &Call<'_>,
        wanted: Wanted<'_>,
        until: Until,
        awaited: &Awaited,
    ) -> Result<Suspended, JobError> {
        let document = match awaited {
            Awaited::Time => String::new(),
            other => serde_json::to_string(other).unwrap_or_default(),
        };
        let opening = Opening { sort: call.sort, ordinal: call.ordinal, ..Opening::of(Effect::ReadOnly) };
        let store = &self.inner.shared.store;
        let answer = store.suspend((self.id(), self.fence()), call.name, opening, (wanted, until), &document).await;
        match answer.map_err(|e| unreachable_store(&e))? {
            Suspended::Stale => Err(lost()),
            Suspended::Cancelled => Err(super::cancelled(call.name)),
            other => Ok(other),
        }
    }

    /// Notes the wait; from now on no call of this run begins anything.
    pub(super) fn suspended(&self, name: &str, answer: &Suspended, may_be_woken: bool) -> JobError {
        let Suspended::Waits { until } = answer else {
            return JobError::transient("storage_corrupt", format!("step `{name}` cannot wait: {answer:?}"));
        };
        let mut held = lock(&self.inner.suspension);
        let suspension = held.get_or_insert_default();
        suspension.may_be_woken |= may_be_woken;
        suspension.about.insert(name.to_owned());
        let first = [suspension.until, *until].into_iter().filter(|at| *at > 0).min();
        suspension.until = first.unwrap_or(0);
        waiting(name)
    }

    /// A run that swallowed the error of a wait begins nothing more.
    pub(super) fn is_suspended(&self) -> Option<JobError> {
        lock(&self.inner.suspension).as_ref().map(|held| waiting(held.about.first().map_or("", String::as_str)))
    }
}

fn waiting(name: &str) -> JobError {
    JobError::transient("suspended", format!("the job waits in step `{name}`")).with(Recovery::Suspend)
}
