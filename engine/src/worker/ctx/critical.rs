//! Critical sections: begun whole or not at all. A cancel and an abort wait for their end; a lost lease does not.

use super::{Ctx, Shield, replay::Call, step::Opened};
use crate::{
    model::{Effect, JobError, Sort},
    store::Opening,
};

impl Ctx {
    /// Runs a section that neither a cancel nor the worker's shutdown interrupts: they wait for its end. Steps inside it may
    /// begin though a cancel was asked for; the section itself may not. Its token is told of a lost lease alone. The section
    /// is run again by each attempt, its steps are not: use the context that it is given.
    ///
    /// # Errors
    /// The section's own; `cancelled` when a cancel was confirmed before it was entered (E8).
    pub async fn critical<T, F, Fut>(&self, name: &str, f: F) -> Result<T, JobError>
    where
        F: FnOnce(Self) -> Fut,
        Fut: Future<Output = Result<T, JobError>>,
    {
        let call = self.call(name, Sort::Critical).await?;
        // Entered before it is asked for: a cancel that comes in between waits, too.
        let entered = Entered::new(self);
        self.enter(&call).await?;
        let value = f(self.shielded(Shield::Critical)).await?;
        if call.done.is_none() && !self.is_unwinding() {
            self.close(name, ()).await?;
        }
        drop(entered);
        Ok(value)
    }

    async fn enter(&self, call: &Call<'_>) -> Result<(), JobError> {
        if call.done.is_some() || self.is_unwinding() {
            return Ok(());
        }
        match self.open(call, Opening::of(Effect::Idempotent)).await? {
            Opened::Run | Opened::Done(_) | Opened::InDoubt => Ok(()),
        }
    }
}

/// While it lives, cancel and abort wait.
struct Entered(Ctx);

impl Entered {
    fn new(ctx: &Ctx) -> Self {
        ctx.inner.lease.enter_critical();
        Self(ctx.clone())
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.0.inner.lease.leave_critical();
    }
}
